// `stdout` is a variable to the importer.
#if canImport(Glibc)
    @preconcurrency import Glibc
#elseif canImport(Musl)
    @preconcurrency import Musl
#else
    @preconcurrency import Darwin
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

    /// Whether a reader has gone: no fault of this program's, and nothing to tell.
    public var isBrokenPipe: Bool { code == EPIPE }
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

    /// Creates an empty file of a new name in the folder of what `path` names, so that ``moveIntoPlace(_:_:)`` replaces that
    /// in one step. The name begins with a dot and ends in `.partial`; those that killed processes have left there are removed.
    ///
    /// - Throws: ``FileError`` where a folder, device or pipe stands at `path`, or a file that may not be written.
    public static func createTemporary(beside path: String) throws(FileError) -> String {
        switch try destination(path) {
        case .stream, .descriptor: throw FileError("replace", path, code: EINVAL)
        case .file(let file): return try createTemporary(for: file)
        }
    }

    /// Puts a finished temporary file in the place of `path`: its bytes reach the disk, then its name, in one step. A symbolic
    /// link at `path` stays and what it names is replaced; a file that was there before leaves its mode to the new one.
    public static func moveIntoPlace(_ temporary: String, _ path: String) throws(FileError) {
        guard case .file(let file) = try destination(path) else { throw FileError("replace", path, code: EINVAL) }
        var before = stat()
        if stat(file, &before) == 0 {
            // The owner first: changing it clears bits of the mode. Only some may give files away; the mode is kept all the same.
            if before.st_uid != geteuid() || before.st_gid != getegid() {
                _ = chown(temporary, before.st_uid, before.st_gid)
            }
            guard chmod(temporary, before.st_mode & 0o7777) == 0 else {
                throw FileError("keep the mode of", path, code: errno)
            }
        }
        try synchronize(temporary, for: path)
        guard rename(temporary, file) == 0 else { throw FileError("replace", path, code: errno) }
        unfinished.withLock { _ = $0.remove(temporary) }
        // The new name is durable once its folder is. Some file systems cannot do it; the file itself is whole.
        try? synchronize(folder(of: file), for: path)
    }

    /// Makes a folder and those above it; one that exists is left as it is.
    public static func createFolder(_ path: String) throws(FileError) {
        var end = path.startIndex
        repeat {
            end = path[end...].dropFirst().firstIndex(of: "/") ?? path.endIndex
            let part = String(path[..<end])
            guard mkdir(part, 0o777) != 0 else { continue }
            let code = errno
            guard code == EEXIST || code == EISDIR, try status(of: part).kind == .folder else {
                throw FileError("make the folder", path, code: code == EEXIST ? ENOTDIR : code)
            }
        } while end != path.endIndex
    }

    /// Removes a file and frees its space even while something still holds it open. Absent: nothing happens.
    public static func discard(_ path: String) {
        truncate(path, 0)
        unlink(path)
        unfinished.withLock { _ = $0.remove(path) }
    }

    /// Removes every temporary file that is neither in place nor discarded, and every temporary folder: for a process that is about to end.
    static func discardTemporaries() {
        // Nobody waits for a lock here whose holder may have failed.
        for path in unfinished.withLockIfAvailable({ $0 }) ?? [] { removeTree(path) }
    }

    /// Makes a folder of a new name below the system's folder for temporary files (`TMPDIR`), for ``removeFolder(_:)`` to remove; the process's
    /// end by a signal removes it too.
    public static func createTemporaryFolder() throws(FileError) -> String {
        let folder = temporaryFolder
        sweep(folder)
        while true {
            let path = "\(folder)/\(nextName().folder)"
            unfinished.withLock { _ = $0.insert(path) }
            if mkdir(path, 0o700) == 0 { return path }
            let code = errno
            unfinished.withLock { _ = $0.remove(path) }
            guard code == EEXIST else { throw FileError("make a temporary folder in", folder, code: code) }
        }
    }

    /// The system's folder for temporary files, without a slash behind it.
    fileprivate static var temporaryFolder: String {
        let folder = getenv("TMPDIR").map { String(cString: $0) } ?? ""
        return folder.isEmpty ? "/tmp" : folder.count > 1 && folder.hasSuffix("/") ? String(folder.dropLast()) : folder
    }

    /// Removes a folder with everything in it. What cannot be removed stays.
    public static func removeFolder(_ path: String) {
        removeTree(path)
        unfinished.withLock { _ = $0.remove(path) }
    }

    /// Removes everything in a folder.
    public static func emptyFolder(_ path: String) {
        for name in names(in: path) { removeTree("\(path)/\(name)") }
    }

    private static func removeTree(_ path: String) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            unlink(path)
            return
        }
        for name in names(in: path) { removeTree("\(path)/\(name)") }
        rmdir(path)
    }

    /// The names in a folder but for `.` and `..`, in no order; none if it cannot be read.
    private static func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: $0.pointee)) {
                    String(cString: $0)
                }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// Writes `bytes` beside `path` and moves them into place: `path` holds its old bytes or all of the new. What is not a
    /// file, such as `/dev/stdout` or a pipe, is written to as it is and stays; symbolic links are followed.
    public static func replace(_ path: String, with bytes: [UInt8]) throws(FileError) {
        switch try destination(path) {
        case .descriptor(let descriptor): try store(bytes, in: descriptor, of: path)
        case .stream: try store(bytes, in: path, for: path, flags: O_APPEND)
        case .file(let file):
            let temporary = try createTemporary(for: file)
            do {
                try store(bytes, in: temporary, for: path, flags: O_TRUNC)
                try moveIntoPlace(temporary, path)
            } catch {
                discard(temporary)
                throw error
            }
        }
    }

    /// Whether a file can be written at `path` later: refused here, before long work, rather than after it.
    public static func requireWritable(_ path: String) throws(FileError) {
        guard case .file(let file) = try destination(path) else { return }
        discard(try createTemporary(for: file))
    }

    /// Where bytes for a path go.
    private enum Destination {
        /// Beside this path, then in its place; no link.
        case file(String)
        /// Straight into what stands there: a device, a pipe.
        case stream
        /// Behind what this process has written to an open file: `/dev/stdout`.
        case descriptor(Int32)
    }

    private static func destination(_ path: String) throws(FileError) -> Destination {
        guard !path.isEmpty else { throw FileError("write", path, code: ENOENT) }
        let names = ["/dev/stdout": 1, "/dev/stderr": 2] as [String: Int32]
        if let descriptor = names[path] { return .descriptor(descriptor) }
        for prefix in ["/dev/fd/", "/proc/self/fd/"] where path.hasPrefix(prefix) {
            guard let descriptor = Int32(path.dropFirst(prefix.count)) else { continue }
            return .descriptor(descriptor)
        }
        var file = path
        // Links are followed by hand, since the last of them may name what does not exist yet.
        for _ in 0..<40 {
            if file.hasPrefix("/proc/") { return .stream }
            var status = stat()
            guard lstat(file, &status) == 0 else {
                guard errno == ENOENT else { throw FileError("write", path, code: errno) }
                return .file(file)
            }
            switch status.st_mode & S_IFMT {
            case S_IFLNK: file = try linked(from: file)
            case S_IFDIR: throw FileError("write", path, code: EISDIR)
            case S_IFREG:
                guard access(file, W_OK) == 0 else { throw FileError("write", path, code: errno) }
                return .file(file)
            default: return .stream
            }
        }
        throw FileError("write", path, code: ELOOP)
    }

    /// What a symbolic link names, relative to the process as `link` is.
    private static func linked(from link: String) throws(FileError) -> String {
        var name = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = name.withUnsafeMutableBytes { readlink(link, $0.baseAddress!, $0.count) }
        guard count >= 0 else { throw FileError("read", link, code: errno) }
        let target = String(decoding: name[..<count], as: UTF8.self)
        return target.hasPrefix("/") ? target : "\(folder(of: link))/\(target)"
    }

    private static func createTemporary(for file: String) throws(FileError) -> String {
        let folder = folder(of: file)
        sweep(folder)
        while true {
            let name = "\(folder)/\(nextName().file)"
            unfinished.withLock { _ = $0.insert(name) }
            let descriptor = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o666)
            if descriptor >= 0 {
                close(descriptor)
                return name
            }
            let code = errno
            unfinished.withLock { _ = $0.remove(name) }
            guard code == EEXIST else { throw FileError("write", file, code: code) }
        }
    }

    private static func nextName() -> (file: String, folder: String) {
        let number = temporaries.wrappingAdd(1, ordering: .relaxed).newValue
        return (
            ".touchstone-\(ProcessIdentity.own)-\(number).partial", "touchstone-\(ProcessIdentity.own)-\(number).folder"
        )
    }

    /// Removes what processes that are gone have left in a folder, once for each folder. Files of processes on other machines stay, and those of
    /// which it is not certain that nobody writes them.
    private static func sweep(_ folder: String) {
        guard swept.withLock({ $0.insert(folder).inserted }) else { return }
        for name in names(in: folder) {
            let parts = name.split(separator: "-", omittingEmptySubsequences: false)
            guard let first = parts.first, let last = parts.last, parts.count > 2 else { continue }
            let isFile = first == ".touchstone" && last.hasSuffix(".partial")
            guard isFile || first == "touchstone" && last.hasSuffix(".folder") else { continue }
            guard let owner = ProcessIdentity(parts.dropFirst().dropLast()), owner.isGone else { continue }
            removeTree("\(folder)/\(name)")
        }
    }

    private static let temporaries = Atomic<Int>(0)
    private static let unfinished = Mutex<Set<String>>([])
    private static let swept = Mutex<Set<String>>([])

    private static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// - Parameter target: what messages name.
    private static func store(
        _ bytes: [UInt8], in path: String, for target: String, flags: Int32
    ) throws(FileError) {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC | flags)
        guard descriptor >= 0 else { throw FileError("write", target, code: errno) }
        defer { close(descriptor) }
        try store(bytes, in: descriptor, of: target)
    }

    fileprivate static func store(_ bytes: [UInt8], in descriptor: Int32, of path: String) throws(FileError) {
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

    private static func synchronize(_ path: String, for target: String) throws(FileError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("write", target, code: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw FileError("write", target, code: errno) }
    }
}

/// A file that grows at its end and can be watched meanwhile; closed when the last reference goes.
public final class FileAppender: Sendable {
    public let path: String
    private let descriptor: Int32
    /// Bytes that are in it; appended to by one thread at a time.
    private let size = Mutex(0)

    /// Begins anew with `bytes`: what stood at `path` goes.
    public init(_ path: String, keeping bytes: [UInt8] = []) throws(FileError) {
        try Files.replace(path, with: bytes)
        let descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError("write", path, code: errno) }
        (self.path, self.descriptor) = (path, descriptor)
        size.withLock { $0 = bytes.count }
    }

    deinit { close(descriptor) }

    /// Adds all of `bytes`, or none where the disk is full.
    public func append(_ bytes: [UInt8]) throws(FileError) {
        let result: Result<Void, FileError> = size.withLock { size in
            do throws(FileError) {
                try Files.store(bytes, in: descriptor, of: path)
                size += bytes.count
                return .success(())
            } catch {
                // No device: one cannot be cut off.
                _ = ftruncate(descriptor, off_t(size))
                return .failure(error)
            }
        }
        try result.get()
    }
}

/// What names a process among all that were and are, where this machine can tell: part of the names of temporary files.
struct ProcessIdentity: CustomStringConvertible {
    /// The machine, and on Linux the name space of process numbers.
    private let machine: String
    /// The machine's present run; empty where the machine has no name of its own, so that runs of two machines cannot be told apart.
    private let boot: String
    private let process: Int32
    /// When it began, since numbers are given again.
    private let start: String

    /// This process.
    static let own = ProcessIdentity(process: getpid())

    private init(process: Int32) {
        let host = Machine.hostName
        let number = Self.line("/etc/machine-id") ?? ""
        machine = Self.digest("\(host) \(number) \(Self.nameSpace)")
        boot = Self.digest(Self.bootIdentifier) + (host.isEmpty || number.isEmpty ? "x" : "")
        self.process = process
        start = Self.start(of: process) ?? "0"
    }

    /// Of the parts of ``description``.
    init?(_ parts: some Collection<Substring>) {
        let parts = Array(parts)
        guard parts.count == 4, let process = Int32(parts[2]), process > 0 else { return nil }
        (machine, boot, self.process, start) = (String(parts[0]), String(parts[1]), process, String(parts[3]))
    }

    var description: String { "\(machine)-\(boot)-\(process)-\(start)" }

    /// Whether the process has certainly ended.
    var isGone: Bool {
        let own = Self.own
        guard machine == own.machine else { return false }
        // An earlier run of this very machine; without a name of its own it may be another one's.
        guard boot == own.boot else { return !boot.hasSuffix("x") && !own.boot.hasSuffix("x") }
        #if canImport(Darwin)
            let isThere = Darwin.kill(process, 0) == 0 || errno != ESRCH
        #elseif canImport(Musl)
            let isThere = Musl.kill(process, 0) == 0 || errno != ESRCH
        #else
            let isThere = Glibc.kill(process, 0) == 0 || errno != ESRCH
        #endif
        guard isThere else { return true }
        // Another process of the same number began at another time.
        guard let now = Self.start(of: process), start != "0" else { return false }
        return now != start
    }

    /// The name space of process numbers: a number means another process in another container.
    private static var nameSpace: String {
        var name = [UInt8](repeating: 0, count: 64)
        let count = name.withUnsafeMutableBytes { readlink("/proc/self/ns/pid", $0.baseAddress!, $0.count) }
        return String(decoding: name[..<max(0, count)], as: UTF8.self)
    }

    private static var bootIdentifier: String {
        #if canImport(Darwin)
            var name = [CChar](repeating: 0, count: 64)
            var size = name.count
            guard sysctlbyname("kern.bootsessionuuid", &name, &size, nil, 0) == 0 else { return "" }
            return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        #else
            return line("/proc/sys/kernel/random/boot_id") ?? ""
        #endif
    }

    /// Clock ticks between the machine's start and the process's; nil where the system does not say.
    private static func start(of process: Int32) -> String? {
        // The name of the program may hold anything: fields are counted behind its closing bracket, the 22nd of all is meant.
        guard let text = line("/proc/\(process)/stat"), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > 19 ? String(fields[19]) : nil
    }

    private static func line(_ path: String) -> String? {
        guard let bytes = try? Files.bytes(of: path), !bytes.isEmpty else { return nil }
        return String(decoding: bytes.prefix { $0 != 0x0A }, as: UTF8.self)
    }

    /// FNV-1a in 32 bits: short names, no secret.
    private static func digest(_ text: String) -> String {
        var hash: UInt32 = 2_166_136_261
        for byte in text.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}

/// Standard input, output and error as the process finds them.
public enum StandardStreams {
    /// Opens what was closed, so that no file of this program gets one of the three numbers and what is printed does not land in it. What is printed
    /// to a closed one is an error of ``finishOutput()``.
    public static func open() {
        for descriptor in Int32(0)...2 where fcntl(descriptor, F_GETFD) < 0 && errno == EBADF {
            // The lowest free number is this one.
            #if canImport(Darwin)
                _ = Darwin.open("/dev/null", O_RDONLY)
            #elseif canImport(Musl)
                _ = Musl.open("/dev/null", O_RDONLY)
            #else
                _ = Glibc.open("/dev/null", O_RDONLY)
            #endif
        }
    }

    /// Writes what was printed and is still held back.
    ///
    /// - Throws: ``FileError`` if that or anything printed before could not be written.
    public static func finishOutput() throws(FileError) {
        let didFail = ferror(stdout) != 0
        errno = 0
        let status = fflush(stdout)
        let code = errno
        if status != 0 && code == EPIPE { Interruption.endAfterBrokenPipe() }
        if status != 0 || didFail { throw FileError("write", "standard output", code: code == 0 ? EIO : code) }
    }
}

/// What tells a file from an earlier or later state of it.
public struct FileStamp: Sendable, Hashable {
    public let size: Int
    /// Of the last change, since 1970.
    public let seconds: Int
    public let nanoseconds: Int
}

/// A regular file, open for reading at any offset; closed when the last reference goes.
public final class FileReader: Sendable {
    public let path: String
    /// The file's size when it was opened.
    public let size: Int
    private let descriptor: Int32

    /// A copy of what can be read only once, such as a pipe, in a file without a name that goes with the last reference.
    ///
    /// - Parameter progress: is told after every block how many bytes were copied; what it throws ends the copying.
    /// - Throws: ``FileError``, and what `progress` throws.
    public init(copyOf path: String, _ progress: (Int) throws -> Void) throws {
        let source = open(path, O_RDONLY | O_CLOEXEC)
        guard source >= 0 else { throw FileError("read", path, code: errno) }
        defer { close(source) }
        let folder = Files.temporaryFolder
        var name = Array("\(folder)/touchstone-XXXXXX".utf8CString)
        let copy = mkstemp(&name)
        guard copy >= 0 else { throw FileError("create a file in", folder, code: errno) }
        unlink(name)
        self.path = path
        descriptor = copy
        var size = 0
        var block = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(source, &block, block.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw FileError("read", path, code: errno)
            }
            if count == 0 { break }
            var offset = 0
            while offset < count {
                let written = block[offset..<count].withUnsafeBytes { write(copy, $0.baseAddress, $0.count) }
                if written < 0 {
                    if errno == EINTR { continue }
                    throw FileError("copy to a file in \(folder)", path, code: errno)
                }
                offset += written
            }
            size += count
            try progress(size)
        }
        self.size = size
    }

    /// The file's size and the time of its last change, as they are now.
    public func stamp() throws(FileError) -> FileStamp {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileError("read", path, code: errno) }
        #if canImport(Darwin)
            let time = status.st_mtimespec
        #else
            let time = status.st_mtim
        #endif
        return FileStamp(size: Int(status.st_size), seconds: Int(time.tv_sec), nanoseconds: Int(time.tv_nsec))
    }

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
