#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif
import Synchronization

/// Threads for long work: independent results in order, and work that takes its next piece from a shared counter.
///
/// Which thread computes what, and how many there are, changes no result. Where the system starts fewer threads than were asked for, the caller
/// does the rest.
public enum Workers {
    /// The processors that are switched on, at least 1.
    public static var processorCount: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

    private static let standard = Atomic<Int>(0)

    /// The threads of ``map(_:_:)`` from now on, the caller's included.
    public static func use(threads: Int) { standard.store(max(1, threads), ordering: .relaxed) }

    /// In place of the number of ``use(threads:)``, for what runs in the scope of a value.
    @TaskLocal public static var threadLimit: Int?

    /// Threads that ``map(_:_:)`` uses: as many as there are processors, unless told otherwise.
    public static var threadCount: Int {
        if let threadLimit { return max(1, threadLimit) }
        let count = standard.load(ordering: .relaxed)
        return count > 0 ? count : processorCount
    }

    /// [body(0), ..., body(count - 1)], computed on ``threadCount`` threads. `body` may call this too: whoever is idle helps.
    public static func map<Element: Sendable>(
        _ count: Int, _ body: @Sendable (_ index: Int) -> Element
    ) -> [Element] {
        [Element](unsafeUninitializedCapacity: count) { buffer, initialized in
            let slots = Slots(first: buffer.baseAddress)
            forEachPiece(of: count) { piece in
                for index in piece { slots.first.unsafelyUnwrapped.advanced(by: index).initialize(to: body(index)) }
            }
            initialized = count
        }
    }

    /// Uninitialised places for results: every index is written once, by one thread.
    private struct Slots<Element>: @unchecked Sendable { let first: UnsafeMutablePointer<Element>? }

    private static func forEachPiece(of count: Int, _ body: @Sendable (Range<Int>) -> Void) {
        guard count > 0 else { return }
        let threads = min(threadCount, count)
        // Small enough that nobody waits long for the last one and progress is seen, large enough that the counter costs nothing.
        let job = Job(count: count, piece: max(1, count / (threads * 128)), progress: WorkProgress.current)
        WorkProgress.$current.withValue(nil) {
            withoutActuallyEscaping(body) { escaping in
                job.body = escaping
                if threads > 1 { HelperThreads.shared.post(job, helpers: threads - 1) }
                job.work()
                if threads > 1 { HelperThreads.shared.withdraw(job) }
                job.body = nil
            }
        }
    }

    /// Runs `helper` on at most `count` other threads and `caller` on this one; returns when all have.
    ///
    /// The system may start fewer threads than `count`, so a helper must not wait for another.
    public static func run<Result, Failure: Error>(
        helpers count: Int, _ helper: @escaping @Sendable () -> Void, caller: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var threads: [PlatformThread] = []
        for _ in 0..<max(0, count) {
            guard let thread = try? PlatformThread(helper) else { break }
            threads.append(thread)
        }
        defer { for thread in threads { thread.join() } }
        return try caller()
    }
}

/// How far one piece of long work has come that is made of several calls of ``Workers/map(_:_:)``, one after the other.
///
///     WorkProgress.$current.withValue(WorkProgress { part, fraction in ... }) { evaluate(longCase) }
public final class WorkProgress: Sendable {
    /// Whose work this thread does.
    @TaskLocal public static var current: WorkProgress?

    private struct State {
        var part = 0
        var done = 0
        var total = 1
    }
    private let state = Mutex(State())
    private let onChange: @Sendable (_ part: Int, _ fraction: Double) -> Void

    /// - Parameter onChange: told, often and from any thread, which call is under way, from 1, and how much of it is done.
    public init(onChange: @escaping @Sendable (_ part: Int, _ fraction: Double) -> Void) { self.onChange = onChange }

    fileprivate func begin(_ total: Int) {
        state.withLock { state in
            state.part += 1
            (state.done, state.total) = (0, total)
        }
    }

    fileprivate func add(_ done: Int) {
        let (part, fraction) = state.withLock { state in
            state.done += done
            return (state.part, Double(state.done) / Double(state.total))
        }
        onChange(part, fraction)
    }
}

/// One call of ``Workers/map(_:_:)``: pieces of 0 ..< count, each taken by one thread.
private final class Job: @unchecked Sendable {
    let count: Int
    let piece: Int
    let progress: WorkProgress?
    /// Set by the caller before the job is posted, and nil again once everybody has left it.
    var body: (@Sendable (Range<Int>) -> Void)?
    private let next = Atomic<Int>(0)
    /// Seats for helpers that are free, and helpers at work. Under the lock of ``HelperThreads``.
    var seats = 0
    var helpers = 0

    init(count: Int, piece: Int, progress: WorkProgress?) {
        (self.count, self.piece, self.progress) = (count, piece, progress)
        progress?.begin(count)
    }

    var hasWork: Bool { next.load(ordering: .relaxed) < count }

    /// Takes pieces until there is none left.
    @inline(never)
    func work() {
        while true {
            let first = next.wrappingAdd(piece, ordering: .relaxed).oldValue
            guard first < count else { return }
            let end = min(first + piece, count)
            body?(first..<end)
            progress?.add(end - first)
        }
    }
}

/// The threads that help: started when they are first needed, asleep in between.
private final class HelperThreads: Sendable {
    static let shared = HelperThreads()

    private struct State {
        var jobs: [Job] = []
        var threads = 0
        /// The system has refused one: it is not asked again.
        var isFull = false
    }
    private let state = Mutex(State())
    private let gate = ThreadGate()

    func post(_ job: Job, helpers: Int) {
        let missing = state.withLock { state in
            job.seats = helpers
            state.jobs.append(job)
            let missing = state.isFull ? 0 : max(0, helpers - state.threads)
            state.threads += missing
            return missing
        }
        for index in 0..<missing {
            guard (try? PlatformThread { self.serve() }) == nil else { continue }
            state.withLock { state in
                state.threads -= missing - index
                state.isFull = true
            }
            break
        }
        gate.open()
    }

    /// Takes the job off the list and waits until every helper has left it.
    func withdraw(_ job: Job) {
        state.withLock { state in state.jobs.removeAll { $0 === job } }
        gate.wait { state.withLock { _ in job.helpers == 0 } }
    }

    private func serve() {
        while true {
            var found: Job?
            gate.wait {
                found = state.withLock { state in
                    // The oldest first: whole cases before rows of one.
                    guard let job = state.jobs.first(where: { $0.seats > 0 && $0.hasWork }) else { return nil }
                    job.seats -= 1
                    job.helpers += 1
                    return job
                }
                return found != nil
            }
            guard let job = found else { continue }
            job.work()
            let isLast = state.withLock { _ in
                job.helpers -= 1
                job.seats += 1
                return job.helpers == 0
            }
            if isLast { gate.open() }
        }
    }
}
