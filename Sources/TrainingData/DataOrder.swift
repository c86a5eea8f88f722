import ExactMath
import ModelSpec
import Reference
import Synchronization

/// The order in which steps take sequences: the endless concatenation of epochs, each a permutation of its own (T7).
///
/// The entries that were asked for last are kept, so that a step does not shuffle anew: a whole epoch of up to 2^24 sequences in 64 MiB, or of a longer one 2^20 entries,
/// each traced back through all exchanges. Memory does not grow above that.
public final class DataOrder: Sendable {
    /// The number of sequences, at least 1.
    public let count: Int
    /// The most sequences: a place in the order has 32 bits.
    public static let mostCount = Int(UInt32.max)
    /// Entries that are kept.
    private let window: Int
    private let last = Mutex<Entries?>(nil)

    /// Some of an epoch's entries.
    private struct Entries {
        let seed: UInt64
        let epoch: Int
        let range: Range<Int>
        let sequences: [UInt32]
    }

    public convenience init(count: Int) {
        self.init(count: count, window: count <= 1 << 24 ? count : 1 << 20)
    }

    /// - Parameter window: how many entries are kept.
    package init(count: Int, window: Int) {
        precondition((1...Self.mostCount).contains(count), "an order of \(count) sequences")
        self.count = count
        self.window = window
    }

    /// The indices of step n's sequences, n from 1: entries (n - 1) B ..< n B.
    public func sequences(step: Int, batch: Int, seed: UInt64) -> [Int] {
        let first = (step - 1) * batch
        return (first..<first + batch).map { entry in
            sequence(epoch: entry / count, entry: entry % count, seed: seed)
        }
    }

    private func sequence(epoch: Int, entry: Int, seed: UInt64) -> Int {
        last.withLock { last in
            if let last, last.seed == seed, last.epoch == epoch, last.range.contains(entry) {
                return Int(last.sequences[entry - last.range.lowerBound])
            }
            // Two would be in memory at the same time.
            last = nil
            let stream = RandomStream(
                seed: seed, stream: RandomStreams.dataOrder, step: UInt32(truncatingIfNeeded: epoch))
            let first = entry / window * window
            let range = first..<min(first + window, count)
            let sequences =
                range.count == count
                ? Self.permutation(of: count, stream: stream)
                : Self.entries(range, ofPermutationOf: count, stream: stream)
            last = Entries(seed: seed, epoch: epoch, range: range, sequences: sequences)
            return Int(sequences[entry - first])
        }
    }

    /// Fisher and Yates: for i = n - 1 ... 1 entry i is exchanged with entry j = floor(w (i + 1) / 2^32), w the draw n - 1 - i (T7).
    public static func permutation(of n: Int, stream: RandomStream) -> [UInt32] {
        var order = (0..<n).map { UInt32($0) }
        for i in stride(from: n - 1, through: 1, by: -1) { order.swapAt(i, partner(of: i, n, stream)) }
        return order
    }

    /// j of the exchange of entry i.
    private static func partner(of i: Int, _ n: Int, _ stream: RandomStream) -> Int {
        Int((UInt64(stream.word(UInt64(n - 1 - i))) * UInt64(i + 1)) >> 32)
    }

    /// The entries `range` of ``permutation(of:stream:)`` in memory for those alone, by undoing the exchanges from the last one, i = 1, to the first: the place where
    /// an entry stood before them all is its sequence.
    static func entries(_ range: Range<Int>, ofPermutationOf n: Int, stream: RandomStream) -> [UInt32] {
        // Exchanges with i below the range touch none of its entries; entry i is at place i until its own exchange is undone.
        var places = PlaceTable(capacity: range.count)
        if range.lowerBound == 0 { places.insert(0, at: 0) }
        for i in max(1, range.lowerBound)..<n {
            let j = partner(of: i, n, stream)
            let own = range.contains(i) ? UInt32(i - range.lowerBound) : nil
            if i == j {
                if let own { places.insert(own, at: UInt32(i)) }
                continue
            }
            let other = places.remove(at: UInt32(j))
            if let own { places.insert(own, at: UInt32(j)) }
            if let other { places.insert(other, at: UInt32(i)) }
        }
        return places.places(count: range.count)
    }
}

/// Which entry stands at a place: a hash table with linear probing.
private struct PlaceTable {
    private static let empty = UInt32.max
    private var places: [UInt32]
    private var entries: [UInt32]
    private let shift: UInt32
    private let mask: Int

    init(capacity: Int) {
        let bits = max(4, Int.bitWidth - (2 * capacity - 1).leadingZeroBitCount)
        (shift, mask) = (UInt32(32 - bits), 1 << bits - 1)
        places = [UInt32](repeating: Self.empty, count: 1 << bits)
        entries = [UInt32](repeating: 0, count: 1 << bits)
    }

    private func home(_ place: UInt32) -> Int { Int((place &* 0x9E37_79B1) >> shift) }

    /// - Precondition: nothing stands at `place`.
    mutating func insert(_ entry: UInt32, at place: UInt32) {
        var slot = home(place)
        while places[slot] != Self.empty { slot = (slot + 1) & mask }
        (places[slot], entries[slot]) = (place, entry)
    }

    /// The entry that stood at `place`.
    mutating func remove(at place: UInt32) -> UInt32? {
        var slot = home(place)
        while places[slot] != place {
            if places[slot] == Self.empty { return nil }
            slot = (slot + 1) & mask
        }
        let entry = entries[slot]
        // What stands behind it and could not be found over a gap moves up.
        var next = (slot + 1) & mask
        while places[next] != Self.empty {
            let distance = (next - home(places[next])) & mask
            if distance >= (next - slot) & mask {
                (places[slot], entries[slot]) = (places[next], entries[next])
                slot = next
            }
            next = (next + 1) & mask
        }
        places[slot] = Self.empty
        return entry
    }

    /// The place of each entry.
    func places(count: Int) -> [UInt32] {
        var result = [UInt32](repeating: 0, count: count)
        for slot in places.indices where places[slot] != Self.empty { result[Int(entries[slot])] = places[slot] }
        return result
    }
}
