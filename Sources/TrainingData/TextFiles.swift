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
        /// Files that are no text: not UTF-8, or with a NUL.
        var binary = 0
        var empty = 0
    }

    /// A file, or every file below a folder in the order of their paths' bytes. Hidden files and folders, and symbolic links to folders,
    /// are left out.
    ///
    /// - Throws: ``CorpusError`` if there is nothing at `path`, it cannot be read, or a folder holds no text.
    static func read(_ path: String) throws(CorpusError) -> Found {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw CorpusError(path: path, line: nil, "no such file or folder")
        }
        var found = Found()
        if isFolder.boolValue {
            for file in try files(below: path) { try add(file, to: &found) }
            if found.texts.isEmpty { throw CorpusError(path: path, line: nil, "no text in this folder") }
        } else {
            try add(path, to: &found)
            if found.binary > 0 {
                throw CorpusError(path: path, line: nil, "not a text: it is not UTF-8, or holds a NUL")
            }
            if found.empty > 0 { throw CorpusError(path: path, line: nil, "the file is empty") }
        }
        return found
    }

    private static func add(_ path: String, to found: inout Found) throws(CorpusError) {
        let bytes: [UInt8]
        do { bytes = try Files.bytes(of: path) } catch { throw CorpusError(path: path, line: nil, error.reason) }
        if bytes.isEmpty {
            found.empty += 1
        } else if bytes.contains(0) || String(validating: bytes, as: UTF8.self) == nil {
            found.binary += 1
        } else {
            found.texts.append(Text(path: path, bytes: bytes))
        }
    }

    private static func files(below root: String) throws(CorpusError) -> [String] {
        var result: [String] = []
        var folders = [root]
        while let folder = folders.popLast() {
            let names: [String]
            do { names = try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
                throw CorpusError(path: folder, line: nil, error.localizedDescription)
            }
            for name in names where !name.hasPrefix(".") {
                let path = "\(folder)/\(name)"
                let attributes = try? FileManager.default.attributesOfItem(atPath: path)
                switch attributes?[.type] as? FileAttributeType {
                case .typeDirectory?: folders.append(path)
                case .typeRegular?: result.append(path)
                default: break
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
