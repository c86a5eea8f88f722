#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif
import Synchronization

/// A failed operation on a file: what was tried, on which path, and the system's reason.
public struct FileError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What could not be done, to be read after "cannot": `create`.
    public let operation: String
    public let path: String
    /// `errno`.
    public let code: Int32
    /// The system's text for the code.
    public let reason: String

    public init(_ operation: String, _ path: String, code: Int32) {
        self.operation = operation
        self.path = path
        self.code = code
        self.reason = String(cString: strerror(code))
    }

    public var description: String { "cannot \(operation) \(path): \(reason)" }
}

/// What stands at a path, a symbolic link followed.
public enum FileKind: Sendable, Hashable {
    case regular
    case folder
    case other
}

/// Files by path: sizes, whole and streamed reads, and replacement that never leaves half a file behind.
public enum Files {
    /// The kind and size in bytes of the file at `path`.
    public static func status(of path: String) throws(FileError) -> (kind: FileKind, size: Int) {
        var status = stat()
        guard stat(path, &status) == 0 else { throw FileError("read", path, code: errno) }
        let kind: FileKind =
            switch status.st_mode & S_IFMT {
            case S_IFREG: .regular
            case S_IFDIR: .folder
            default: .other
            }
        return (kind, Int(status.st_size))
    }

    /// Gives the bytes of a file to `body` in order, in blocks of at most 1 MiB.
    public static func forEachBlock(
        of path: String, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(FileError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("read", path, code: errno) }
        defer { close(descriptor) }
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { block.deallocate() }
        while true {
            let count = read(descriptor, block.baseAddress, block.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw FileError("read", path, code: errno)
            }
            if count == 0 { return }
            body(UnsafeRawBufferPointer(rebasing: block[..<count]))
        }
    }

    /// The whole of a file.
    public static func bytes(of path: String) throws(FileError) -> [UInt8] {
        var bytes: [UInt8] = []
        try forEachBlock(of: path) { bytes.append(contentsOf: $0) }
        return bytes
    }

    /// Creates an empty file of a new name in the folder of `path`, so that renaming it to `path` replaces that in one
    /// step. The name begins with a dot and ends in `.partial`.
    public static func createTemporary(beside path: String) throws(FileError) -> String {
        let folder = folder(of: path)
        while true {
            let number = temporaries.wrappingAdd(1, ordering: .relaxed).newValue
            let name = "\(folder)/.touchstone-\(getpid())-\(number).partial"
            let descriptor = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o666)
            if descriptor >= 0 {
                close(descriptor)
                return name
            }
            guard errno == EEXIST else { throw FileError("create a file in", folder, code: errno) }
        }
    }

    /// Puts a finished temporary file in the place of `path`: its bytes reach the disk, then its name, in one step.
    public static func moveIntoPlace(_ temporary: String, _ path: String) throws(FileError) {
        try synchronize(temporary)
        guard rename(temporary, path) == 0 else { throw FileError("replace", path, code: errno) }
        // The new name is durable once its folder is. Some file systems cannot do it; the file itself is whole.
        try? synchronize(folder(of: path))
    }

    /// Removes a file and frees its space even while something still holds it open. Absent: nothing happens.
    public static func discard(_ path: String) {
        truncate(path, 0)
        unlink(path)
    }

    /// Writes `bytes` beside `path` and moves them into place: `path` holds its old bytes or all of the new.
    public static func replace(_ path: String, with bytes: [UInt8]) throws(FileError) {
        let temporary = try createTemporary(beside: path)
        do {
            try store(bytes, in: temporary)
            try moveIntoPlace(temporary, path)
        } catch {
            discard(temporary)
            throw error
        }
    }

    private static let temporaries = Atomic<Int>(0)

    private static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private static func store(_ bytes: [UInt8], in path: String) throws(FileError) {
        let descriptor = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("write", path, code: errno) }
        defer { close(descriptor) }
        var offset = 0
        while offset < bytes.count {
            let count = bytes[offset...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw FileError("write", path, code: errno)
            }
            offset += count
        }
    }

    private static func synchronize(_ path: String) throws(FileError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("open", path, code: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw FileError("write", path, code: errno) }
    }
}

/// A regular file, open for reading at any offset; closed when the last reference goes.
public final class FileReader: Sendable {
    public let path: String
    /// The file's size when it was opened.
    public let size: Int
    private let descriptor: Int32

    /// - Throws: ``FileError``; a folder is `EISDIR`, a device or pipe `EINVAL`.
    public init(_ path: String) throws(FileError) {
        let (kind, size) = try Files.status(of: path)
        guard kind == .regular else { throw FileError("read", path, code: kind == .folder ? EISDIR : EINVAL) }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("read", path, code: errno) }
        self.path = path
        self.size = size
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// The `count` bytes from `offset` on, fewer where the file ends.
    public func bytes(at offset: Int, count: Int) throws(FileError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var found = 0
        while found < count {
            let read = bytes.withUnsafeMutableBytes {
                pread(descriptor, $0.baseAddress.map { $0 + found }, count - found, off_t(offset + found))
            }
            if read < 0 {
                if errno == EINTR { continue }
                throw FileError("read", path, code: errno)
            }
            if read == 0 { break }
            found += read
        }
        bytes.removeLast(count - found)
        return bytes
    }
}
