#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif
import Synchronization

/// A place that one process at a time may write to. The lock is a file with an advisory lock of the system (`flock`), which ends with its process however
/// that ends: what is left of the file after kill -9 holds nobody up.
public final class FileLock: Sendable {
    /// Why there is no lock.
    public enum Failure: Error, Sendable, Hashable {
        /// Another process has it; what that says of itself, empty if it has not said it yet.
        case held(by: String)
        case file(FileError)
    }

    public let path: String
    private let descriptor: Int32
    private let isHeld = Atomic<Bool>(true)

    /// Takes the lock at once or not at all.
    ///
    /// - Parameters:
    ///   - path: A file of its own, made if it is not there and removed by ``release()``.
    ///   - holder: What others are told.
    public init(_ path: String, holder: String) throws(Failure) {
        while true {
            let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
            guard descriptor >= 0 else { throw .file(FileError("lock", path, code: errno)) }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                let code = errno
                defer { close(descriptor) }
                guard code == EWOULDBLOCK else { throw .file(FileError("lock", path, code: code)) }
                let bytes = (try? Files.bytes(of: path)) ?? []
                throw .held(by: String(decoding: bytes.prefix(4096), as: UTF8.self))
            }
            // Whoever had it may have removed the file between the two calls: then this is a lock on nothing.
            var (own, now) = (stat(), stat())
            guard fstat(descriptor, &own) == 0, stat(path, &now) == 0, own.st_ino == now.st_ino,
                own.st_dev == now.st_dev
            else {
                close(descriptor)
                continue
            }
            ftruncate(descriptor, 0)
            let text = Array(holder.utf8)
            _ = text.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) }
            self.path = path
            self.descriptor = descriptor
            return
        }
    }

    deinit { release() }

    /// Gives the lock back and removes its file.
    public func release() {
        guard isHeld.exchange(false, ordering: .relaxed) else { return }
        // Removed first: who opens it now finds no file and makes another.
        unlink(path)
        close(descriptor)
    }
}

extension Machine {
    /// The machine's name in the network; empty where it has none.
    public static var hostName: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// This process's number.
    public static var processIdentifier: Int32 { getpid() }
}
