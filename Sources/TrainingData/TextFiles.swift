import Foundation
import Platform

/// The files that a path names: itself, or every file below a folder (T7).
struct TextFiles {
    let root: String
    var isFolder = false
    /// Whether it can be read only once.
    var isPipe = false
    /// In the order of their paths' bytes.
    var files: [(path: String, size: Int)] = []

    /// What is neither a file nor a folder, and what is hidden, in no order.
    private(set) var skipped: [SkippedFile] = []

    var bytes: Int { files.reduce(0) { $0 + $1.size } }
    /// Of JSON Lines, which are read twice.
    var lineBytes: Int { files.reduce(0) { $0 + ($1.path.hasSuffix(".jsonl") ? $1.size : 0) } }

    /// A file, or the files below a folder. Hidden files and folders, symbolic links and devices below the folder are left out, and listed.
    ///
    /// - Parameter pause: is called now and then; what it throws ends the listing.
    /// - Throws: ``CorpusError`` if there is nothing at `path` or a folder cannot be listed; what `pause` throws.
    init(_ path: String, pause: () throws -> Void) throws {
        root = path
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw CorpusError(path: path, line: nil, "no such file or folder")
        }
        self.isFolder = isFolder.boolValue
        if self.isFolder {
            files = try Self.files(below: path, &skipped, pause)
        } else {
            do throws(FileError) {
                let (kind, size) = try Files.status(of: path)
                isPipe = kind != .regular
                files = [(path, size)]
            } catch { throw CorpusError(path: path, line: nil, error.reason) }
        }
    }

    private static func files(
        below root: String, _ skipped: inout [SkippedFile], _ pause: () throws -> Void
    ) throws -> [(path: String, size: Int)] {
        var result: [(path: String, size: Int)] = []
        var folders = [root]
        while let folder = folders.popLast() {
            let names: [String]
            do { names = try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
                throw CorpusError(path: folder, line: nil, error.localizedDescription)
            }
            for (number, name) in names.enumerated() {
                if number % 1024 == 0 { try pause() }
                let path = "\(folder)/\(name)"
                guard !name.hasPrefix(".") else {
                    skipped.append(SkippedFile(path: path, reason: .hidden))
                    continue
                }
                let attributes = try? FileManager.default.attributesOfItem(atPath: path)
                switch attributes?[.type] as? FileAttributeType {
                case .typeDirectory?: folders.append(path)
                case .typeRegular?: result.append((path, (attributes?[.size] as? NSNumber)?.intValue ?? 0))
                case .typeSymbolicLink?: skipped.append(SkippedFile(path: path, reason: .link))
                default: skipped.append(SkippedFile(path: path, reason: .special))
                }
            }
        }
        return result.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
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
