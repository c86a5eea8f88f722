import Foundation
import Platform

/// Texts on disk, one document a file (T7).
enum TextFiles {
    /// A text and where it stands.
    struct Text {
        let path: String
        let bytes: [UInt8]
    }

    /// What was read and what was left out.
    struct Found {
        var texts: [Text] = []
        /// Files that are empty or no text, and what is not a file: hidden, a link, a device.
        var skipped: [SkippedFile] = []
    }

    /// A file, or every file below a folder in the order of their paths' bytes. What is no text or no file is left out and listed: empty files,
    /// hidden ones, symbolic links.
    ///
    /// - Throws: ``CorpusError`` if there is nothing at `path`, it cannot be read, or a folder holds no text.
    static func read(_ path: String) throws(CorpusError) -> Found {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw CorpusError(path: path, line: nil, "no such file or folder")
        }
        var found = Found()
        if isFolder.boolValue {
            for file in try files(below: path, &found.skipped) { try add(file, to: &found) }
            found.skipped.sort { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
            if found.texts.isEmpty {
                let left = listed(found.skipped.map(\.description), most: 3)
                throw CorpusError(
                    path: path, line: nil, "no text in this folder\(left.isEmpty ? "" : "; skipped \(left)")")
            }
        } else {
            try add(path, to: &found)
            if let one = found.skipped.first { throw CorpusError(path: path, line: nil, one.reason.rawValue) }
        }
        return found
    }

    private static func add(_ path: String, to found: inout Found) throws(CorpusError) {
        let bytes: [UInt8]
        do { bytes = try Files.bytes(of: path) } catch { throw CorpusError(path: path, line: nil, error.reason) }
        let reason: SkippedFile.Reason? =
            bytes.isEmpty
            ? .empty : bytes.contains(0) ? .nul : String(validating: bytes, as: UTF8.self) == nil ? .notUTF8 : nil
        if let reason {
            found.skipped.append(SkippedFile(path: path, reason: reason))
        } else {
            found.texts.append(Text(path: path, bytes: bytes))
        }
    }

    private static func files(below root: String, _ skipped: inout [SkippedFile]) throws(CorpusError) -> [String] {
        var result: [String] = []
        var folders = [root]
        while let folder = folders.popLast() {
            let names: [String]
            do { names = try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
                throw CorpusError(path: folder, line: nil, error.localizedDescription)
            }
            for name in names {
                let path = "\(folder)/\(name)"
                guard !name.hasPrefix(".") else {
                    skipped.append(SkippedFile(path: path, reason: .hidden))
                    continue
                }
                let attributes = try? FileManager.default.attributesOfItem(atPath: path)
                switch attributes?[.type] as? FileAttributeType {
                case .typeDirectory?: folders.append(path)
                case .typeRegular?: result.append(path)
                case .typeSymbolicLink?: skipped.append(SkippedFile(path: path, reason: .link))
                default: skipped.append(SkippedFile(path: path, reason: .special))
                }
            }
        }
        return result.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }
}

/// Data that cannot be trained on.
public struct CorpusError: Error, Hashable, Sendable, CustomStringConvertible {
    public let path: String
    /// From 1; of a JSON Lines file.
    public let line: Int?
    public let message: String

    init(path: String, line: Int?, _ message: String) {
        self.path = path
        self.line = line
        self.message = message
    }

    public var description: String { "\(path)\(line.map { ", line \($0)" } ?? ""): \(message)" }
}
