import Kernels
import ModelSpec

/// What every operation of the engine needs: kernels, threads, and scratch memory that lasts.
///
/// Operations take pointers, allocate nothing but what ``reserve(_:)`` has not foreseen, and give the reference's bits for every set of kernels and every
/// number of threads. One operation runs at a time.
public final class EngineContext: @unchecked Sendable {
    public let kernels: KernelSet
    public let pool: WorkerPool
    private var scratch: [UnsafeMutableRawPointer]
    /// Bytes of scratch that each thread has.
    public private(set) var scratchBytes = 0

    /// - Parameter threads: at least 1.
    public init(kernels: KernelSet = InstructionSets.available[0], threads: Int) {
        self.kernels = kernels
        pool = WorkerPool(threads: threads)
        scratch = (0..<pool.count).map { _ in UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64) }
    }

    deinit { for pointer in scratch { pointer.deallocate() } }

    /// Makes sure that every thread has `bytes` of scratch.
    public func reserve(_ bytes: Int) {
        guard bytes > scratchBytes else { return }
        for thread in scratch.indices {
            scratch[thread].deallocate()
            scratch[thread] = .allocate(byteCount: bytes, alignment: 64)
        }
        scratchBytes = bytes
    }

    /// The scratch of a thread, to be cut up.
    func arena(_ thread: Int) -> ScratchArena { ScratchArena(scratch[thread], scratchBytes) }

    /// Runs `body` on every thread with its part of 0 ..< n.
    @inline(__always)
    func parallel(_ n: Int, unit: Int = 1, _ body: (Range<Int>) -> Void) {
        pool.run { thread, count in
            let part = WorkerPool.part(thread, of: count, n, unit: unit)
            if !part.isEmpty { body(part) }
        }
    }
}

/// Cuts consecutive aligned pieces off a block of memory.
struct ScratchArena {
    private var next: UnsafeMutableRawPointer
    private var left: Int

    init(_ start: UnsafeMutableRawPointer, _ bytes: Int) {
        next = start
        left = bytes
    }

    mutating func bytes(_ count: Int) -> UnsafeMutableRawPointer {
        let rounded = (count + 63) / 64 * 64
        precondition(rounded <= left, "scratch of \(count) bytes where \(left) are left")
        defer {
            next += rounded
            left -= rounded
        }
        return next
    }

    mutating func floats(_ count: Int) -> UnsafeMutablePointer<Float> {
        bytes(4 * count).bindMemory(to: Float.self, capacity: count)
    }

    mutating func bf16(_ count: Int) -> UnsafeMutablePointer<UInt16> {
        bytes(2 * count).bindMemory(to: UInt16.self, capacity: count)
    }

    /// Bytes that pieces of these sizes take.
    static func total(_ sizes: Int...) -> Int { sizes.reduce(0) { $0 + ($1 + 63) / 64 * 64 } }
}

@inline(__always)
func roundedUp(_ n: Int, to unit: Int) -> Int { (n + unit - 1) / unit * unit }

extension DotRecipe {
    var isPairedFTZ: Bool { self == .pairedFTZ }
}
