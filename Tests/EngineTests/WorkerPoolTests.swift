import Engine
import Synchronization
import Testing

@Suite("The pool of threads")
struct WorkerPoolTests {
    @Test("a pool that is gone before its threads have begun ends without a trap")
    func shortLived() {
        for _ in 0..<2000 { _ = WorkerPool(threads: 4) }
    }

    @Test("every thread takes part once, and parts cover all elements once", arguments: [1, 2, 3, 7])
    func parts(_ threads: Int) {
        let pool = WorkerPool(threads: threads)
        for n in [0, 1, 5, 16, 1000] {
            let sum = Atomic<Int>(0)
            let calls = Atomic<Int>(0)
            pool.run { thread, count in
                calls.add(1, ordering: .relaxed)
                for element in WorkerPool.part(thread, of: count, n, unit: 4) { sum.add(element, ordering: .relaxed) }
            }
            #expect(calls.load(ordering: .relaxed) == threads)
            #expect(sum.load(ordering: .relaxed) == n * (n - 1) / 2)
        }
    }
}
