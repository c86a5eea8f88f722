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
    public struct Counts: Sendable, Hashable {
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

    /// The first element that is refused (S6): a NaN, or an infinity unless it is saturated.
    public func firstRefused(_ x: UnsafePointer<Float>, _ n: Int, saturates: Bool) -> Int? {
        if context.kernels.squinch.isFinite(x, n) { return nil }
        for i in 0..<n {
            let magnitude = x[i].bitPattern & 0x7FFF_FFFF
            if magnitude > 0x7F80_0000 || (magnitude == 0x7F80_0000 && !saturates) { return i }
        }
        return nil
    }

    /// The blocks of n values, none of them refused; `word(i)` is the random word of element i.
    public func encode(
        _ x: UnsafePointer<Float>, _ n: Int, into bytes: UnsafeMutablePointer<UInt8>,
        word: @escaping @Sendable (Int) -> UInt32
    ) -> Counts {
        let total = CountsOfThreads(context.pool.count)
        context.pool.run { thread, count in
            var counts = Counts()
            var part = WorkerPool.part(thread, of: count, Self.blocks(n), unit: 2)
            if variant != .stochastic15 {
                // Whole pairs of blocks by the kernel.
                let whole = min(part.upperBound, n / 8)
                let pairs = max(0, whole - part.lowerBound) / 2
                let found = context.kernels.squinch.encode(
                    x + 8 * part.lowerBound, bytes + 6 * part.lowerBound, pairs, variant == .floor16)
                counts.blocks += 2 * pairs
                counts.zeroBlocks += found.zero
                counts.clippedBelow += found.below
                counts.clippedAbove += found.above
                part = part.lowerBound + 2 * pairs..<part.upperBound
            }
            for block in part {
                encodeBlock(
                    x + 8 * block, min(8, n - 8 * block), into: bytes + 6 * block, counts: &counts
                ) { word(8 * block + $0) }
            }
            total.counts[thread] = counts
        }
        return total.sum
    }

    private final class CountsOfThreads: @unchecked Sendable {
        let counts: UnsafeMutablePointer<Counts>
        let threads: Int

        init(_ threads: Int) {
            self.threads = threads
            counts = .allocate(capacity: threads)
            counts.initialize(repeating: Counts(), count: threads)
        }

        deinit { counts.deallocate() }

        var sum: Counts {
            var sum = Counts()
            for thread in 0..<threads { sum += counts[thread] }
            return sum
        }
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
    ///   - reduced: [blocks, 6].
    ///   - mean: [n].
    public func reduce(
        _ encoded: UnsafePointer<UInt8>, ranks: Int, _ n: Int, reduced: UnsafeMutablePointer<UInt8>,
        mean: UnsafeMutablePointer<Float>, word: @escaping @Sendable (Int) -> UInt32
    ) -> Counts {
        let blocks = Self.blocks(n)
        let reciprocal = ScalarMath.reciprocal(of: ranks)
        let total = CountsOfThreads(context.pool.count)
        context.pool.run { thread, count in
            var counts = Counts()
            withUnsafeTemporaryAllocation(of: Float.self, capacity: 16) { buffer in
                let (sum, x) = (buffer.baseAddress!, buffer.baseAddress! + 8)
                for block in WorkerPool.part(thread, of: count, blocks) {
                    for i in 0..<8 { sum[i] = 0 }
                    for rank in 0..<ranks {
                        decodeBlock(encoded + 6 * (rank * blocks + block), 8, into: x)
                        for i in 0..<8 { sum[i] = sum[i] + x[i] }
                    }
                    let present = min(8, n - 8 * block)
                    for i in 0..<8 { sum[i] = i < present ? sum[i] * reciprocal : 0 }
                    encodeBlock(sum, 8, into: reduced + 6 * block, counts: &counts) {
                        $0 < present ? word(8 * block + $0) : 0
                    }
                    decodeBlock(reduced + 6 * block, present, into: mean + 8 * block)
                }
            }
            total.counts[thread] = counts
        }
        return total.sum
    }
}
