#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif
import Synchronization

/// Ctrl-C (SIGINT), SIGTERM and the end of the terminal (SIGHUP) end the program within two seconds, whatever it does.
///
/// Work that has something to finish asks ``isRequested`` between two steps. What has not ended `grace` seconds after the signal is ended by a
/// thread that does nothing else: temporary files and child processes go, the files in place are whole, and the exit status names the signal.
/// Only ``hold()`` defers that, for a checkpoint that is being written.
public enum Interruption {
    /// Seconds from the signal to the end of the process, where nothing holds it.
    private static let grace = 1.0
    /// A second signal ends the process at once, but not one that comes with the first: `timeout` signals a process and then its group.
    private static let repetition = 0.3

    private static let requested = Atomic<Bool>(false)
    /// The first signal that asked for the end; 0 before that.
    private static let signal = Atomic<Int32>(0)
    private static let holds = Atomic<Int>(0)
    private static let isTold = Atomic<Bool>(false)
    /// Where the handler writes the numbers of signals; -1 while nobody watches.
    private static let pipeEnd = Atomic<Int32>(-1)

    /// From now on SIGINT, SIGTERM and SIGHUP are noted instead of ending the process, SIGPIPE ends it without a word and without temporary
    /// files, and SIGXFSZ leaves it to the write that caused it to fail. A SIGHUP that is ignored stays so (`nohup`). Once for a process.
    ///
    /// - Throws: ``SystemError`` if the thread that watches cannot be started.
    public static func watch() throws(SystemError) {
        guard pipeEnd.load(ordering: .acquiring) < 0 else { return }
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw SystemError("cannot watch signals: pipe") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
        let source = ends[0]
        _ = try PlatformThread { serve(source) }
        // What the handler touches exists before it runs for the first time.
        _ = (requested.load(ordering: .relaxed), signal.load(ordering: .relaxed), holds.load(ordering: .relaxed))
        pipeEnd.store(ends[1], ordering: .releasing)
        for number in signals where number != SIGHUP || !isIgnored(SIGHUP) { install(number) }
    }

    /// The signals that ``watch()`` handles, and that a child process gets back as the system has them.
    static let signals = [SIGINT, SIGTERM, SIGPIPE, SIGXFSZ, SIGHUP]

    /// SIGUSR1 asks for the end too, which `mpirun` hands on to its processes and which schedulers send before the time is over. It may come
    /// often, and nothing is ended by force.
    public static func watchUserSignal() { install(SIGUSR1) }

    /// Whether a signal has asked the program to end.
    public static var isRequested: Bool { requested.load(ordering: .relaxed) }

    /// - Throws: ``Interrupted`` if a signal has asked the program to end.
    public static func check() throws { if isRequested { throw Interrupted() } }

    /// What the shell expects of a program that a signal has ended: 130 after SIGINT, 143 after SIGTERM.
    public static var exitStatus: Int32 {
        let number = signal.load(ordering: .relaxed)
        return 128 + (number == 0 ? SIGINT : number)
    }

    /// Until as many calls of ``release()`` a first signal does not end the process by force: it ends by itself, soon, with its state saved.
    public static func hold() { holds.add(1, ordering: .sequentiallyConsistent) }
    public static func release() { holds.subtract(1, ordering: .sequentiallyConsistent) }

    /// Says on standard error that the program was interrupted, unless that was said before.
    public static func tell() {
        guard !isTold.exchange(true, ordering: .relaxed) else { return }
        Terminal.writeError("touchstone: \(Interrupted())\n")
    }

    /// Ends the process now: temporary files and the groups of child processes go first.
    public static func endProcess(_ status: Int32) -> Never {
        discardAll()
        _exit(status)
    }

    /// What ``endProcess(_:)`` does before the end.
    public static func discardAll() {
        ProcessGroups.killRunning()
        Files.discardTemporaries()
    }

    /// Ends the process without a word, as SIGPIPE does.
    public static func endAfterBrokenPipe() -> Never { endProcess(128 + SIGPIPE) }

    // MARK: - Signals

    private static func install(_ number: Int32) {
        var action = sigaction()
        let handler: @convention(c) (Int32) -> Void = { Interruption.note($0) }
        #if canImport(Darwin)
            action.__sigaction_u.__sa_handler = handler
        #elseif canImport(Musl)
            action.__sa_handler.sa_handler = handler
        #else
            action.__sigaction_handler.sa_handler = handler
        #endif
        action.sa_flags = Int32(SA_RESTART)
        sigemptyset(&action.sa_mask)
        sigaction(number, &action, nil)
        // A parent may have had it blocked when it started this process.
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, number)
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }

    private static func isIgnored(_ number: Int32) -> Bool {
        var action = sigaction()
        guard sigaction(number, nil, &action) == 0 else { return false }
        #if canImport(Darwin)
            let handler = action.__sigaction_u.__sa_handler
        #elseif canImport(Musl)
            let handler = action.__sa_handler.sa_handler
        #else
            let handler = action.__sigaction_handler.sa_handler
        #endif
        return unsafeBitCast(handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
    }

    /// The handler: stores and writes a byte, nothing else.
    private static func note(_ number: Int32) {
        // The write that met the limit on the size of files says so itself.
        if number == SIGXFSZ { return }
        let code = errno
        defer { errno = code }
        if number != SIGPIPE {
            requested.store(true, ordering: .relaxed)
            if number != SIGUSR1 {
                _ = signal.compareExchange(expected: 0, desired: number, ordering: .relaxed)
            }
        }
        var byte = UInt8(truncatingIfNeeded: number)
        _ = write(pipeEnd.load(ordering: .relaxed), &byte, 1)
    }

    /// The thread that ends the process.
    private static func serve(_ source: Int32) {
        var first: Double?
        var deadline = 0.0
        while true {
            var one = pollfd(fd: source, events: Int16(POLLIN), revents: 0)
            let isReady = poll(&one, 1, first == nil ? -1 : 20) > 0
            let now = monotonicSeconds()
            if isReady {
                var byte: UInt8 = 0
                guard read(source, &byte, 1) == 1 else { continue }
                let number = Int32(byte)
                // The reader of standard output has gone: what it does not want to know is not said.
                if number == SIGPIPE { endAfterBrokenPipe() }
                if number == SIGUSR1 { continue }
                if let first, now - first > repetition { end() }
                if first == nil { (first, deadline) = (now, now + grace) }
            }
            guard first != nil else { continue }
            if holds.load(ordering: .sequentiallyConsistent) > 0 {
                deadline = max(deadline, now + grace / 2)
            } else if now >= deadline {
                end()
            }
        }
    }

    private static func end() -> Never {
        tell()
        endProcess(exitStatus)
    }
}

/// The work was ended by a signal; no file is half-written.
public struct Interrupted: Error, CustomStringConvertible {
    public init() {}
    public var description: String { "interrupted" }
}
