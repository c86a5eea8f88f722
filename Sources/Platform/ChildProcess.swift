#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// How a process ended.
public enum ProcessEnd: Hashable, Sendable {
    case exited(Int32)
    case signaled(Int32)

    /// "SIGSEGV" and the like; nil for a number without such a name.
    public static func name(ofSignal number: Int32) -> String? {
        let names: [Int32: String] = [
            SIGABRT: "SIGABRT", SIGALRM: "SIGALRM", SIGBUS: "SIGBUS", SIGFPE: "SIGFPE", SIGHUP: "SIGHUP",
            SIGILL: "SIGILL", SIGINT: "SIGINT", SIGKILL: "SIGKILL", SIGPIPE: "SIGPIPE", SIGQUIT: "SIGQUIT",
            SIGSEGV: "SIGSEGV", SIGSYS: "SIGSYS", SIGTERM: "SIGTERM", SIGTRAP: "SIGTRAP", SIGXCPU: "SIGXCPU",
            SIGXFSZ: "SIGXFSZ",
        ]
        return names[number]
    }
}

/// A call of the system that failed.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    public let call: String
    public let code: Int32

    init(_ call: String, _ code: Int32 = errno) {
        self.call = call
        self.code = code
    }

    public var description: String { "\(call): \(String(cString: strerror(code)))" }
}

/// A child process that answers questions over a socket of its own; what it prints is drained beside.
///
/// The child is the leader of a process group. It finds the socket at descriptor ``channelDescriptor``, an empty standard
/// input, and one pipe as standard output and error. No method here waits longer than it is told to, whatever the child does.
/// Not for use from two threads at once.
public final class ChildProcess {
    /// Where the child finds its end of the socket.
    public static let channelDescriptor: Int32 = 3

    public enum Exchange: Sendable {
        /// The answer's payload.
        case answer([UInt8])
        /// What came on the socket is no frame of this protocol, or answers another question, or is longer than allowed.
        case garbage
        /// The child ended first.
        case ended(ProcessEnd)
        /// The time was over.
        case timeout
    }

    public let identifier: pid_t
    private let channel: Int32
    private let printed: Int32
    private var end: ProcessEnd?
    private var isPipeOpen = true
    private var isClosed = false

    /// Starts a program.
    ///
    /// - Parameter settings: added to the environment.
    public init(executable: String, arguments: [String], settings: [String: String] = [:]) throws(SystemError) {
        var sockets: [Int32] = [-1, -1]
        #if canImport(Darwin)
            let kind = SOCK_STREAM
        #elseif canImport(Musl)
            let kind = SOCK_STREAM | SOCK_CLOEXEC
        #else
            let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        #endif
        guard socketpair(AF_UNIX, kind, 0, &sockets) == 0 else { throw SystemError("socketpair") }
        var pipes: [Int32] = [-1, -1]
        guard pipe(&pipes) == 0 else {
            let error = SystemError("pipe")
            for one in sockets { close(one) }
            throw error
        }
        for one in sockets + pipes { _ = fcntl(one, F_SETFD, FD_CLOEXEC) }
        defer {
            close(sockets[1])
            close(pipes[1])
        }
        _ = fcntl(sockets[0], F_SETFL, O_NONBLOCK)
        _ = fcntl(pipes[0], F_SETFL, O_NONBLOCK)
        #if canImport(Darwin)
            var one: Int32 = 1
            setsockopt(sockets[0], SOL_SOCKET, SO_NOSIGPIPE, &one, socklen_t(MemoryLayout<Int32>.size))
        #endif
        let status = Self.spawn(
            executable, arguments, settings, channel: sockets[1], output: pipes[1])
        guard case .success(let identifier) = status else {
            close(sockets[0])
            close(pipes[0])
            if case .failure(let error) = status { throw error }
            throw SystemError("posix_spawn", 0)
        }
        self.identifier = identifier
        ProcessGroups.add(identifier)
        channel = sockets[0]
        printed = pipes[0]
    }

    deinit { kill() }

    /// Sends a question and waits for its answer, draining what the child prints into `onOutput`.
    ///
    /// - Parameters:
    ///   - limit: The longest answer, in bytes.
    ///   - isInterrupted: Asked at least every 50 ms; true ends the wait as the time's end does.
    public func exchange(
        _ payload: [UInt8], number: UInt64, seconds: Double, limit: Int, onOutput: (UnsafeRawBufferPointer) -> Void,
        isInterrupted: () -> Bool
    ) -> Exchange {
        let deadline = monotonicSeconds() + seconds
        let head = Frame.head(number: number, count: payload.count)
        var sent = 0
        let total = head.count + payload.count
        var headBytes = [UInt8](repeating: 0, count: Frame.headSize)
        var headFound = 0
        var body: [UInt8] = []
        var bodyFound = 0
        var bodySize: Int?
        // Most answers come at once: the clock is looked at only where nothing has.
        while true {
            if sent < total {
                switch transmit(head, payload, &sent) {
                case .progress: continue
                case .blocked: break
                case .closed: sent = total
                }
            }
            // The head of the answer, then the body.
            if bodySize == nil {
                switch receive(into: &headBytes, found: &headFound) {
                case .progress:
                    if headFound < Frame.headSize { continue }
                    guard let size = Frame.size(headBytes, number: number), size <= limit else { return .garbage }
                    bodySize = size
                    body = [UInt8](unsafeUninitializedCapacity: size) { _, count in count = size }
                    if size == 0 { return .answer([]) }
                    continue
                case .blocked: break
                case .closed: return ended(within: 2, onOutput)
                }
            } else {
                switch receive(into: &body, found: &bodyFound) {
                case .progress:
                    if bodyFound < body.count { continue }
                    drain(onOutput)
                    return .answer(body)
                case .blocked: break
                case .closed: return ended(within: 2, onOutput)
                }
            }
            let left = deadline - monotonicSeconds()
            if left <= 0 || isInterrupted() { return .timeout }
            var watched = [
                pollfd(fd: channel, events: Int16(sent < total ? POLLIN | POLLOUT : POLLIN), revents: 0),
                pollfd(fd: isPipeOpen ? printed : -1, events: Int16(POLLIN), revents: 0),
            ]
            let ready = poll(&watched, nfds_t(watched.count), Int32(max(1, min(50, left * 1000))))
            if watched[1].revents != 0 { drain(onOutput) }
            // A grandchild may hold the socket open: then nothing comes and nothing closes.
            if ready == 0, let end = reap(waits: false) {
                drain(onOutput)
                return .ended(end)
            }
        }
    }

    /// Closes the socket, which asks the child to end, waits so long for it, then kills what is left of its group.
    public func finish(seconds: Double) {
        guard !isClosed else { return }
        shutdown(channel, Int32(SHUT_WR))
        _ = ended(within: seconds) { _ in }
        kill()
    }

    /// Kills the child and everything in its group, and waits for it.
    public func kill() {
        guard !isClosed else { return }
        isClosed = true
        ProcessGroups.kill(identifier)
        ProcessGroups.remove(identifier)
        if end == nil { _ = reap(waits: true) }
        close(channel)
        close(printed)
    }

    // MARK: Parts

    private enum Step { case progress, blocked, closed }

    private func transmit(_ head: [UInt8], _ payload: [UInt8], _ sent: inout Int) -> Step {
        let inHead = sent < head.count
        let offset = inHead ? sent : sent - head.count
        let count = (inHead ? head : payload).withUnsafeBytes { bytes in
            #if canImport(Darwin)
                send(channel, bytes.baseAddress! + offset, bytes.count - offset, 0)
            #else
                send(channel, bytes.baseAddress! + offset, bytes.count - offset, Int32(MSG_NOSIGNAL))
            #endif
        }
        if count >= 0 {
            sent += count
            return .progress
        }
        return errno == EINTR ? .progress : errno == EAGAIN ? .blocked : .closed
    }

    private func receive(into bytes: inout [UInt8], found: inout Int) -> Step {
        let start = found
        let count = bytes.withUnsafeMutableBytes { read(channel, $0.baseAddress! + start, $0.count - start) }
        if count > 0 {
            found += count
            return .progress
        }
        if count == 0 { return .closed }
        return errno == EINTR ? .progress : errno == EAGAIN ? .blocked : .closed
    }

    /// Reads what the pipe holds now, at most 16 MiB: a child that prints without end must not keep the caller here.
    private func drain(_ onOutput: (UnsafeRawBufferPointer) -> Void) {
        guard isPipeOpen else { return }
        withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 16) { buffer in
            for _ in 0..<256 {
                let count = read(printed, buffer.baseAddress, buffer.count)
                if count > 0 {
                    onOutput(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                } else {
                    if count == 0 { isPipeOpen = false }
                    return
                }
            }
        }
    }

    private func reap(waits: Bool) -> ProcessEnd? {
        if let end { return end }
        var status: Int32 = 0
        var found: pid_t
        repeat { found = waitpid(identifier, &status, waits ? 0 : WNOHANG) } while found < 0 && errno == EINTR
        guard found == identifier else { return nil }
        let signal = status & 0x7F
        end = signal == 0 ? .exited((status >> 8) & 0xFF) : .signaled(signal)
        return end
    }

    /// How the child ended, its socket being closed; one that lives on is killed.
    private func ended(within seconds: Double, _ onOutput: (UnsafeRawBufferPointer) -> Void) -> Exchange {
        let deadline = monotonicSeconds() + seconds
        while monotonicSeconds() < deadline {
            if let end = reap(waits: false) {
                drain(onOutput)
                return .ended(end)
            }
            drain(onOutput)
            usleep(1000)
        }
        return .garbage
    }

    private static func spawn(
        _ executable: String, _ arguments: [String], _ settings: [String: String], channel: Int32, output: Int32
    ) -> Result<pid_t, SystemError> {
        #if canImport(Darwin)
            var actions: posix_spawn_file_actions_t?
            var attributes: posix_spawnattr_t?
        #else
            var actions = posix_spawn_file_actions_t()
            var attributes = posix_spawnattr_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        // Upwards first, so that no descriptor is overwritten that is still to be copied.
        posix_spawn_file_actions_adddup2(&actions, channel, 9)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        posix_spawn_file_actions_adddup2(&actions, 9, channelDescriptor)
        posix_spawn_file_actions_addclose(&actions, 9)
        var ordinary = sigset_t()
        sigemptyset(&ordinary)
        posix_spawnattr_setsigmask(&attributes, &ordinary)
        for number in Interruption.signals { sigaddset(&ordinary, number) }
        posix_spawnattr_setsigdefault(&attributes, &ordinary)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))

        let names = Set(settings.keys)
        var texts: [String] = []
        var entry = environ
        while let text = entry.pointee {
            let line = String(cString: text)
            if !names.contains(String(line.prefix { $0 != "=" })) { texts.append(line) }
            entry += 1
        }
        texts += settings.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        var argv = ([executable] + arguments).map { strdup($0) } + [nil]
        var environment = texts.map { strdup($0) } + [nil]
        defer { for text in argv + environment { free(text) } }
        var identifier: pid_t = 0
        let code = posix_spawn(&identifier, executable, &actions, &attributes, &argv, &environment)
        return code == 0 ? .success(identifier) : .failure(SystemError("cannot start \(executable)", code))
    }
}

/// Messages on the socket: 24 bytes, then the payload.
enum Frame {
    static let headSize = 24
    private static let mark: UInt64 = 0x544F_5543_4853_5431

    static func head(number: UInt64, count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        for word in [mark, number, UInt64(count)] {
            for shift in stride(from: UInt64(0), to: 64, by: 8) {
                bytes.append(UInt8(truncatingIfNeeded: word >> shift))
            }
        }
        return bytes
    }

    /// The size of the payload; nil if this is no head, or another number's.
    static func size(_ head: [UInt8], number: UInt64?) -> Int? {
        guard word(head, 0) == mark, number == nil || word(head, 1) == number else { return nil }
        return Int(exactly: word(head, 2))
    }

    static func word(_ head: [UInt8], _ index: Int) -> UInt64 {
        (0..<8).reduce(0) { $0 | UInt64(head[8 * index + $1]) << UInt64(8 * $1) }
    }
}

/// The child's end of ``ChildProcess``'s socket.
public final class ParentChannel {
    private let descriptor: Int32

    /// Moves the socket to a descriptor that nobody expects and closes every other one above standard error.
    public init(_ inherited: Int32) throws(SystemError) {
        descriptor = fcntl(inherited, F_DUPFD_CLOEXEC, 200)
        guard descriptor >= 0 else { throw SystemError("no socket at descriptor \(inherited)") }
        let last = min(Int32(clamping: sysconf(Int32(_SC_OPEN_MAX))), 4096)
        for one in 3..<max(4, last) where one != descriptor { close(one) }
        // A parent that is gone wants no answer: a library that computes for ever must not outlive it.
        let watched = descriptor
        _ = try PlatformThread {
            var one = pollfd(fd: watched, events: 0, revents: 0)
            while poll(&one, 1, -1) < 0 && errno == EINTR {}
            sleep(2)
            _exit(0)
        }
    }

    /// The next question: its number and its payload, at an address that is a multiple of 64; the receiver frees it. nil when
    /// the parent has closed the socket.
    public func receive() -> (number: UInt64, payload: UnsafeMutableRawBufferPointer)? {
        var head = [UInt8](repeating: 0, count: Frame.headSize)
        let isWhole = head.withUnsafeMutableBytes { fill($0) }
        guard isWhole, let size = Frame.size(head, number: nil) else { return nil }
        guard let payload = AlignedMemory.allocate(size) else {
            Terminal.writeError("touchstone: no memory for a question of \(size) bytes under the limit\n")
            _exit(3)
        }
        guard fill(payload) else {
            AlignedMemory.free(payload)
            return nil
        }
        return (Frame.word(head, 1), payload)
    }

    /// Sends an answer; ends the process if the parent is gone.
    public func send(_ payload: [UInt8], number: UInt64) {
        for bytes in [Frame.head(number: number, count: payload.count), payload] {
            bytes.withUnsafeBytes { bytes in
                var offset = 0
                while offset < bytes.count {
                    let count = write(descriptor, bytes.baseAddress! + offset, bytes.count - offset)
                    if count < 0 && errno == EINTR { continue }
                    if count <= 0 { _exit(0) }
                    offset += count
                }
            }
        }
    }

    /// Ends the process at once, without the functions that a library may have left to be called.
    public static func endProcess() -> Never { _exit(0) }

    private func fill(_ bytes: UnsafeMutableRawBufferPointer) -> Bool {
        var found = 0
        while found < bytes.count {
            let count = read(descriptor, bytes.baseAddress! + found, bytes.count - found)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return false }
            found += count
        }
        return true
    }
}

/// Memory at addresses that are multiples of 64.
public enum AlignedMemory {
    /// nil if the system gives none.
    public static func allocate(_ count: Int) -> UnsafeMutableRawBufferPointer? {
        var address: UnsafeMutableRawPointer?
        guard posix_memalign(&address, 64, max(64, count)) == 0, let address else { return nil }
        return UnsafeMutableRawBufferPointer(start: address, count: count)
    }

    public static func free(_ memory: UnsafeMutableRawBufferPointer) {
        #if canImport(Darwin)
            Darwin.free(memory.baseAddress)
        #elseif canImport(Musl)
            Musl.free(memory.baseAddress)
        #else
            Glibc.free(memory.baseAddress)
        #endif
    }
}

/// Limits that a process sets for itself.
public enum ResourceLimits {
    /// Limits the memory that this process can take, in bytes from now on: on Linux the private writable memory, elsewhere the address space.
    /// A limit that the system refuses is no error.
    public static func limitMemory(_ bytes: Int) {
        #if canImport(Darwin)
            set(RLIMIT_AS, bytes)
        #elseif canImport(Musl)
            set(RLIMIT_DATA, bytes)
        #else
            set(__rlimit_resource_t(RLIMIT_DATA.rawValue), bytes)
        #endif
    }

    /// No core file is left by a crash.
    public static func leaveNoCore() {
        #if canImport(Darwin) || canImport(Musl)
            set(RLIMIT_CORE, 0)
        #else
            set(__rlimit_resource_t(RLIMIT_CORE.rawValue), 0)
        #endif
    }

    #if canImport(Darwin) || canImport(Musl)
        private static func set(_ resource: Int32, _ value: Int) {
            var limit = rlimit(rlim_cur: rlim_t(value), rlim_max: rlim_t(value))
            _ = setrlimit(resource, &limit)
        }
    #else
        private static func set(_ resource: __rlimit_resource_t, _ value: Int) {
            var limit = rlimit(rlim_cur: rlim_t(value), rlim_max: rlim_t(value))
            _ = setrlimit(resource, &limit)
        }
    #endif
}
