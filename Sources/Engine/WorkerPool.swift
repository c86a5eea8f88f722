import Platform
import Synchronization

/// A fixed number of threads that run one piece of work at a time, each its own part of it (static partition); the caller is one of them.
///
/// ``run(_:)`` allocates the closure's context, 32 bytes, and nothing else. Waiting threads spin for some microseconds, then sleep.
public final class WorkerPool: @unchecked Sendable {
    /// Threads, the caller's included: as many as were asked for, or as the system gave.
    public let count: Int
    private let shared: Shared
    private var threads: [PlatformThread] = []

    /// - Parameter count: threads, the caller's included; at least 1.
    public init(threads count: Int) {
        let shared = Shared()
        // The threads hold what they share, not the pool: it may be gone before one of them has begun.
        for thread in 1..<max(1, count) {
            guard let started = try? PlatformThread({ shared.serve(thread) }) else { break }
            threads.append(started)
        }
        self.count = 1 + threads.count
        // They read it with the first piece of work, which is announced later.
        shared.count = self.count
        self.shared = shared
    }

    deinit {
        shared.isEnding.store(true, ordering: .sequentiallyConsistent)
        shared.generation.add(1, ordering: .sequentiallyConsistent)
        shared.gate.open()
        for thread in threads { thread.join() }
    }

    /// Runs `body` once on every thread, with the thread's number; returns when all have ended.
    ///
    /// - Precondition: not from within a body, and from one thread at a time.
    public func run(_ body: (_ thread: Int, _ count: Int) -> Void) {
        if count == 1 { return body(0, 1) }
        withoutActuallyEscaping(body) { escaping in
            // The pool's own threads end with the body before this returns.
            shared.work = escaping
            shared.pending.store(count - 1, ordering: .relaxed)
            shared.generation.add(1, ordering: .sequentiallyConsistent)
            shared.gate.open()
            escaping(0, count)
            var spins = 0
            while shared.pending.load(ordering: .acquiring) != 0 {
                spins += 1
                if spins > 4096 { PlatformThread.yield() }
            }
            shared.work = nil
        }
    }

    /// The elements of 0 ..< n that thread `thread` of `count` works on, in whole units: contiguous, together all.
    public static func part(_ thread: Int, of count: Int, _ n: Int, unit: Int = 1) -> Range<Int> {
        let units = (n + unit - 1) / unit
        return min(n, thread * units / count * unit)..<min(n, (thread + 1) * units / count * unit)
    }

    /// What the pool and its threads have in common.
    private final class Shared: @unchecked Sendable {
        var count = 1
        let gate = ThreadGate()
        /// What runs now. Written by the caller alone, before the generation is announced.
        var work: ((_ thread: Int, _ count: Int) -> Void)?
        let pending = Atomic<Int>(0)
        let generation = Atomic<Int>(0)
        let isEnding = Atomic<Bool>(false)

        func serve(_ thread: Int) {
            var seen = 0
            while true {
                var spins = 0
                while generation.load(ordering: .acquiring) == seen {
                    spins += 1
                    if spins > 20_000 {
                        gate.wait { generation.load(ordering: .sequentiallyConsistent) != seen }
                        spins = 0
                    }
                }
                seen += 1
                if isEnding.load(ordering: .acquiring) { return }
                work!(thread, count)
                pending.subtract(1, ordering: .releasing)
            }
        }
    }
}
