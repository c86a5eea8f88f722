import Kernels
import ModelSpec

extension SquinchVariant {
    var code: SquinchCode.Variant {
        switch self {
        case .floor16: .floor16
        case .round15: .round15
        case .stochastic15: .stochastic15
        }
    }
}

/// Squinch over arrays (S1 to S8): eight gradients in six bytes.
public struct SquinchBlocks: Sendable {
    let context: EngineContext
    public let variant: SquinchVariant

    public init(_ context: EngineContext, _ variant: SquinchVariant) {
        self.context = context
        self.variant = variant
    }

    /// What the scales did (S9).
    public struct Counts: Sendable, Hashable, BitwiseCopyable {
        public var blocks = 0
        public var zeroBlocks = 0
        public var clippedBelow = 0
        public var clippedAbove = 0

        public init() {}

        static func += (a: inout Counts, b: Counts) {
            a.blocks += b.blocks
            a.zeroBlocks += b.zeroBlocks
            a.clippedBelow += b.clippedBelow
            a.clippedAbove += b.clippedAbove
        }
    }

    public static func blocks(_ n: Int) -> Int { (n + 7) / 8 }

    /// Where `stochastic15` finds the random word of element i.
    public enum RandomSource {
        /// Draw `first` + i.
        case draws(RandomWords, first: UInt64)
        /// A list of n words.
        case words(UnsafePointer<UInt32>)
        /// For variants that draw none; every word is 0.
        case none

        @inline(__always)
        func word(_ i: Int) -> UInt32 {
            switch self {
            case .draws(let random, let first): random.word(first &+ UInt64(i))
            case .words(let words): words[i]
            case .none: 0
            }
        }
    }

    /// The first element that is refused (S6): a NaN, or an infinity unless it is saturated.
    public func firstRefused(_ x: UnsafePointer<Float>, _ n: Int, saturates: Bool) -> Int? {
        context.reserve(ScratchArena.total(4))
        context.pool.run { thread, count in
            let part = WorkerPool.part(thread, of: count, n, unit: 16)
            var arena = context.arena(thread)
            arena.floats(1)[0] =
                part.isEmpty || context.kernels.squinch.isFinite(x + part.lowerBound, part.count) ? 0 : 1
        }
        var isFinite = true
        for thread in 0..<context.pool.count {
            var arena = context.arena(thread)
            if arena.floats(1)[0] != 0 { isFinite = false }
        }
        if isFinite { return nil }
        for i in 0..<n {
            let magnitude = x[i].bitPattern & 0x7FFF_FFFF
            if magnitude > 0x7F80_0000 || (magnitude == 0x7F80_0000 && !saturates) { return i }
        }
        return nil
    }

    /// The blocks of n values, none of them refused.
    public func encode(
        _ x: UnsafePointer<Float>, _ n: Int, into bytes: UnsafeMutablePointer<UInt8>, random: RandomSource
    ) -> Counts {
        run(Self.blocks(n)) { part, arena, counts in
            let words = arena.bytes(Self.wordBytes).bindMemory(to: UInt32.self, capacity: Self.wordBytes / 4)
            var block = part.lowerBound
            while block + 2 <= min(part.upperBound, n / 8) {
                let pairs = min(Self.chunk, (min(part.upperBound, n / 8) - block) / 2)
                encodePairs(x + 8 * block, pairs, into: bytes + 6 * block, random, 8 * block, words, &counts)
                block += 2 * pairs
            }
            while block < part.upperBound {
                encodeBlock(x + 8 * block, min(8, n - 8 * block), into: bytes + 6 * block, counts: &counts) {
                    random.word(8 * block + $0)
                }
                block += 1
            }
        }
    }

    // MARK: - Pieces

    /// Pairs of blocks that are worked on at a time: with their random words they stay in the cache.
    private static let chunk = 64
    private static let chunkValues = 16 * chunk
    /// Room for a chunk's random words, which begin within a block of four and come 32 at a time.
    private static let wordBytes = 4 * (chunkValues + 64)

    /// Runs `body` on every thread with its part of the blocks, with scratch; the sum of what they count.
    @inline(__always)
    private func run(_ blocks: Int, _ body: (Range<Int>, inout ScratchArena, inout Counts) -> Void) -> Counts {
        context.reserve(
            ScratchArena.total(MemoryLayout<Counts>.size, Self.wordBytes, 4 * Self.chunkValues, 4 * Self.chunkValues))
        context.pool.run { thread, count in
            var arena = context.arena(thread)
            let place = Self.counts(&arena)
            var counts = Counts()
            body(WorkerPool.part(thread, of: count, blocks, unit: 2), &arena, &counts)
            place.initialize(to: counts)
        }
        var sum = Counts()
        for thread in 0..<context.pool.count {
            var arena = context.arena(thread)
            sum += Self.counts(&arena).pointee
        }
        return sum
    }

    private static func counts(_ arena: inout ScratchArena) -> UnsafeMutablePointer<Counts> {
        arena.bytes(MemoryLayout<Counts>.size).bindMemory(to: Counts.self, capacity: 1)
    }

    /// Whole pairs of blocks, a chunk of them at most; `first` is the first one's element.
    @inline(__always)
    private func encodePairs(
        _ x: UnsafePointer<Float>, _ pairs: Int, into bytes: UnsafeMutablePointer<UInt8>, _ random: RandomSource,
        _ first: Int, _ words: UnsafeMutablePointer<UInt32>, _ counts: inout Counts
    ) {
        let kernels = context.kernels.squinch
        var source = UnsafePointer(words)
        if variant == .stochastic15 {
            switch random {
            case .draws(let random, let base):
                let draw = base &+ UInt64(first)
                let skipped = Int(draw & 3)
                kernels.words(random, draw >> 2, (skipped + 16 * pairs + 31) / 32, words)
                source += skipped
            case .words(let list): source = list + first
            case .none: words.initialize(repeating: 0, count: 16 * pairs)
            }
        }
        let found = kernels.encode(x, bytes, pairs, variant.code, source)
        counts.blocks += 2 * pairs
        counts.zeroBlocks += found.zero
        counts.clippedBelow += found.below
        counts.clippedAbove += found.above
    }

    /// One block of up to eight values; the rest is +0 with word 0.
    @inline(__always)
    func encodeBlock(
        _ x: UnsafePointer<Float>, _ n: Int, into bytes: UnsafeMutablePointer<UInt8>, counts: inout Counts,
        word: (Int) -> UInt32
    ) {
        var m: Float = 0
        for i in 0..<n { m = max(m, x[i].magnitude) }
        let q = SquinchCode.scaleByte(m)
        counts.blocks += 1
        if m == 0 {
            counts.zeroBlocks += 1
        } else if q == 0 {
            counts.clippedBelow += 1
        } else if q == 255 && SquinchCode.scales[255] < m {
            counts.clippedAbove += 1
        }
        for byte in 0..<6 { bytes[byte] = 0 }
        if q == 0 { return }
        bytes[0] = q
        let scale = SquinchCode.scales[Int(q)]
        let variant = variant.code
        for i in 0..<n {
            if x[i].bitPattern >> 31 == 1 { bytes[1] |= 1 << UInt8(i) }
            let code = SquinchCode.code(
                x[i].magnitude, scale: scale, variant: variant, random: variant == .stochastic15 ? word(i) : 0)
            bytes[2 + i / 2] |= i % 2 == 0 ? code : code << 4
        }
    }

    /// n values.
    public func decode(_ bytes: UnsafePointer<UInt8>, _ n: Int, into x: UnsafeMutablePointer<Float>) {
        context.parallel(Self.blocks(n), unit: 2) { part in
            let pairs = max(0, min(part.upperBound, n / 8) - part.lowerBound) / 2
            context.kernels.squinch.decode(
                bytes + 6 * part.lowerBound, x + 8 * part.lowerBound, pairs, variant == .floor16)
            for block in part.lowerBound + 2 * pairs..<part.upperBound {
                decodeBlock(bytes + 6 * block, min(8, n - 8 * block), into: x + 8 * block)
            }
        }
    }

    @inline(__always)
    func decodeBlock(_ bytes: UnsafePointer<UInt8>, _ n: Int, into x: UnsafeMutablePointer<Float>) {
        (variant == .floor16 ? SquinchCode.floor16Magnitudes : SquinchCode.round15Magnitudes)
            .withUnsafeBufferPointer { table in
                let row = table.baseAddress! + 16 * Int(bytes[0])
                let signs = bytes[0] == 0 ? 0 : UInt32(bytes[1])
                for i in 0..<n {
                    let pair = bytes[2 + i / 2]
                    let magnitude = row[Int(i % 2 == 0 ? pair & 15 : pair >> 4)]
                    x[i] = Float(bitPattern: magnitude.bitPattern | (signs >> UInt32(i) & 1) << 31)
                }
            }
    }

    /// The mean of W encoded gradients (S8): decoded and added in rank order from +0, times RNE32(1/W), encoded, decoded.
    ///
    /// - Parameters:
    ///   - encoded: [W, blocks, 6].
    ///   - stride: bytes from one rank's blocks to the next one's; 6 a block if nil.
    ///   - reduced: [blocks, 6].
    ///   - mean: [n].
    public func reduce(
        _ encoded: UnsafePointer<UInt8>, stride: Int? = nil, ranks: Int, _ n: Int, reduced: UnsafeMutablePointer<UInt8>,
        mean: UnsafeMutablePointer<Float>, random: RandomSource
    ) -> Counts {
        let blocks = Self.blocks(n)
        let stride = stride ?? 6 * blocks
        let reciprocal = ScalarMath.reciprocal(of: ranks)
        let (kernels, rows, isFloor) = (context.kernels.squinch, context.kernels.rows, variant == .floor16)
        return run(blocks) { part, arena, counts in
            let words = arena.bytes(Self.wordBytes).bindMemory(to: UInt32.self, capacity: Self.wordBytes / 4)
            let (sum, x) = (arena.floats(Self.chunkValues), arena.floats(Self.chunkValues))
            var block = part.lowerBound
            while block + 2 <= min(part.upperBound, n / 8) {
                let pairs = min(Self.chunk, (min(part.upperBound, n / 8) - block) / 2)
                let count = 16 * pairs
                sum.update(repeating: 0, count: count)
                for rank in 0..<ranks {
                    kernels.decode(encoded + (rank * stride + 6 * block), x, pairs, isFloor)
                    rows.add(sum, x, sum, count)
                }
                rows.scale(sum, reciprocal, sum, count)
                encodePairs(sum, pairs, into: reduced + 6 * block, random, 8 * block, words, &counts)
                kernels.decode(reduced + 6 * block, mean + 8 * block, pairs, isFloor)
                block += 2 * pairs
            }
            while block < part.upperBound {
                for i in 0..<8 { sum[i] = 0 }
                for rank in 0..<ranks {
                    decodeBlock(encoded + (rank * stride + 6 * block), 8, into: x)
                    for i in 0..<8 { sum[i] = sum[i] + x[i] }
                }
                let present = min(8, n - 8 * block)
                for i in 0..<8 { sum[i] = i < present ? sum[i] * reciprocal : 0 }
                encodeBlock(sum, 8, into: reduced + 6 * block, counts: &counts) {
                    $0 < present ? random.word(8 * block + $0) : 0
                }
                decodeBlock(reduced + 6 * block, present, into: mean + 8 * block)
                block += 1
            }
        }
    }
}
