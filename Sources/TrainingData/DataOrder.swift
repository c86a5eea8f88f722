import ExactMath
import ModelSpec
import Reference
import Synchronization

/// The order in which steps take sequences: the endless concatenation of epochs, each a permutation of its own (T7).
///
/// The permutation that was asked for last is kept, so that a step does not shuffle anew.
public final class DataOrder: Sendable {
    /// The number of sequences, at least 1.
    public let count: Int
    private let last = Mutex<(seed: UInt64, epoch: Int, order: [Int])?>(nil)

    public init(count: Int) {
        precondition(count >= 1, "an order of no sequences")
        self.count = count
    }

    /// The indices of step n's sequences, n from 1: entries (n - 1) B ..< n B.
    public func sequences(step: Int, batch: Int, seed: UInt64) -> [Int] {
        let first = (step - 1) * batch
        return (first..<first + batch).map { entry in permutation(epoch: entry / count, seed: seed)[entry % count] }
    }

    private func permutation(epoch: Int, seed: UInt64) -> [Int] {
        last.withLock { last in
            if let last, last.seed == seed, last.epoch == epoch { return last.order }
            let order = Self.permutation(
                of: count,
                stream: RandomStream(
                    seed: seed, stream: RandomStreams.dataOrder, step: UInt32(truncatingIfNeeded: epoch)))
            last = (seed, epoch, order)
            return order
        }
    }

    /// Fisher and Yates: for i = n - 1 ... 1 entry i is exchanged with entry j = floor(w (i + 1) / 2^32), w the draw n - 1 - i (T7).
    public static func permutation(of n: Int, stream: RandomStream) -> [Int] {
        var order = Array(0..<n)
        for i in stride(from: n - 1, through: 1, by: -1) {
            let j = Int((UInt64(stream.word(UInt64(n - 1 - i))) * UInt64(i + 1)) >> 32)
            order.swapAt(i, j)
        }
        return order
    }
}
