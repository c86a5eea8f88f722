import Foundation
import Platform

/// The texts of a corpus, one document or one JSON Lines file each (T7): read once to check them, then in parts on demand.
///
/// Up to ``mostHeld`` bytes in all stay in memory, so that small texts may change on disk while they are trained on. Of more, memory holds names, sizes
/// and times alone: every read sees to it that size and time are still those of the first reading.
final class TextStore: Sendable {
    struct File: Sendable {
        let path: String
        let size: Int
        /// Of `held`.
        fileprivate let start: Int
        fileprivate let stamp: FileStamp
        let isLines: Bool
    }

    let files: [File]
    let skipped: [SkippedFile]
    /// The bytes of all files, one after the other, if they are few.
    private let held: [UInt8]?
    /// A copy of what can be read only once.
    private let copy: FileReader?

    /// The most bytes of text that stay in memory.
    static let mostHeld = 16 << 20

    private static let block = 1 << 20

    /// Reads a file, or every file below a folder in the order of their paths' bytes. What is no text is left out, and listed.
    ///
    /// - Parameter progress: is told after every block how many bytes were read; what it throws ends the reading.
    /// - Throws: ``CorpusError`` if there is nothing at `path`, it cannot be read, changes meanwhile, or a folder holds no text.
    init(
        _ listing: TextFiles, mostHeld: Int = TextStore.mostHeld, progress: (Int) throws -> Void
    ) throws {
        var files: [File] = []
        var skipped = listing.skipped
        var held: [UInt8]? = []
        var start = 0
        var done = 0
        var copy: FileReader?
        for (path, _) in listing.files {
            let reader = try Self.open(path, isPipe: listing.isPipe, progress)
            if listing.isPipe { copy = reader }
            let stamp = try Self.of(path) { () throws(FileError) in try reader.stamp() }
            var check = TextCheck()
            var size = 0
            while check.problem == nil {
                let bytes = try Self.of(path) { () throws(FileError) in try reader.bytes(at: size, count: Self.block) }
                if bytes.isEmpty { break }
                size += bytes.count
                done += bytes.count
                check.add(bytes)
                if let count = held?.count {
                    if count + bytes.count > mostHeld { held = nil } else { held?.append(contentsOf: bytes) }
                }
                try progress(done)
            }
            if let problem = check.finish() ?? (size == 0 ? .empty : nil) {
                skipped.append(SkippedFile(path: path, reason: problem))
                if let count = held?.count { held?.removeLast(count - start) }
                continue
            }
            let after = try Self.of(path) { () throws(FileError) in try reader.stamp() }
            guard held != nil || (after == stamp && stamp.size == size) else {
                throw CorpusError(path: path, line: nil, "the file changed while it was read")
            }
            files.append(File(path: path, size: size, start: start, stamp: stamp, isLines: path.hasSuffix(".jsonl")))
            start += size
        }
        self.files = files
        self.skipped = skipped.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
        self.held = held
        self.copy = held == nil ? copy : nil
        guard files.isEmpty else { return }
        let path = listing.root
        if let only = skipped.first, !listing.isFolder {
            throw CorpusError(path: path, line: nil, only.reason.rawValue)
        }
        let left = listed(self.skipped.map(\.description), most: 3)
        throw CorpusError(
            path: path, line: nil, "no text in this folder\(left.isEmpty ? "" : "; skipped \(left)")")
    }

    private static func open(_ path: String, isPipe: Bool, _ progress: (Int) throws -> Void) throws -> FileReader {
        do {
            return isPipe ? try FileReader(copyOf: path, progress) : try FileReader(path)
        } catch let error as FileError { throw CorpusError(path: path, line: nil, error.reason) }
    }

    private static func of<Result>(
        _ path: String, _ body: () throws(FileError) -> Result
    ) throws(CorpusError) -> Result {
        do { return try body() } catch { throw CorpusError(path: path, line: nil, error.reason) }
    }

    /// The bytes `range` of a file.
    ///
    /// - Throws: ``CorpusError`` if the file is not the one that was read first.
    func bytes(_ file: Int, _ range: Range<Int>) throws(CorpusError) -> [UInt8] {
        let entry = files[file]
        if let held { return Array(held[entry.start + range.lowerBound..<entry.start + range.upperBound]) }
        let bytes = try Self.of(entry.path) { () throws(FileError) -> [UInt8]? in
            let reader = if let copy { copy } else { try FileReader(entry.path) }
            let bytes = try reader.bytes(at: range.lowerBound, count: range.count)
            // After the read, so that a change before it shows as well.
            return try reader.stamp() == entry.stamp && bytes.count == range.count ? bytes : nil
        }
        guard let bytes else { throw changed(file) }
        return bytes
    }

    /// The error about a file that is not what it was.
    func changed(_ file: Int) -> CorpusError {
        CorpusError(path: files[file].path, line: nil, "the file has changed since it was read first")
    }
}

/// Whether bytes that come in blocks are a text: UTF-8 without a NUL.
struct TextCheck {
    private(set) var problem: SkippedFile.Reason?
    /// The beginning of a character whose end is in the next block.
    private var rest: [UInt8] = []

    mutating func add(_ block: [UInt8]) {
        guard problem == nil else { return }
        let bytes = rest.isEmpty ? block : rest + block
        let cut = bytes.count - Self.unfinished(bytes)
        if bytes.contains(0) {
            problem = .nul
        } else if String(validating: bytes[..<cut], as: UTF8.self) == nil {
            problem = .notUTF8
        }
        rest = Array(bytes[cut...])
    }

    /// To be called at the end of the text.
    func finish() -> SkippedFile.Reason? { problem ?? (rest.isEmpty ? nil : .notUTF8) }

    /// How many bytes at the end begin a character that needs more of them.
    private static func unfinished(_ bytes: [UInt8]) -> Int {
        for back in 1...3 where back <= bytes.count {
            let byte = bytes[bytes.count - back]
            if byte & 0xC0 == 0x80 { continue }
            let length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1
            return length > back ? back : 0
        }
        return 0
    }
}
