/// Squinch's arithmetic on one value (S1 to S3): tables from double-double exponentials, codes by comparisons that are exact in binary64.
public enum SquinchCode {
    /// How a magnitude becomes a code.
    public enum Variant: Sendable { case floor16, round15, stochastic15 }

    /// M[q] = RNE32(exp((q - 128) / 6)), q = 0...255 (S2).
    public static let scales: [Float] = (0...255).map { sixths($0 - 128).single }

    /// T[q] at index q - 1: the least fp32 not below exp((q - 129) / 6), q = 1...255 (S2).
    public static let thresholds: [Float] = (1...255).map { q in
        let exact = sixths(q - 129)
        let nearest = exact.single
        let difference = exact - DoubleDouble(Double(nearest))
        return difference.high > 0 ? nearest.nextUp : nearest
    }

    private static func sixths(_ n: Int) -> DoubleDouble {
        n == 0 ? DoubleDouble(1) : ScalarMath.expExact(DoubleDouble(Double(n)) / DoubleDouble(6))
    }

    /// The decoded magnitude of every scale byte and code, at 16 q + code; nothing for q = 0 (S3, S4).
    public static let floor16Magnitudes: [Float] = magnitudes { code, scale in
        Float((2 * code + 1) * (2 * code + 1)) * 0x1p-10 * scale
    }

    /// As ``floor16Magnitudes``, of `round15` and `stochastic15`: q^2 M / 225. The binary64 quotient of integers below 2^33 is no nearer to a half-way
    /// point than 2^-42 of it, unless it is one.
    public static let round15Magnitudes: [Float] = magnitudes { code, scale in
        Float(Double(code * code) * Double(scale) / 225)
    }

    private static func magnitudes(_ magnitude: (Int, Float) -> Float) -> [Float] {
        (0..<256).flatMap { q in (0..<16).map { code in q == 0 ? 0 : magnitude(code, scales[q]) } }
    }

    public static func magnitudes(_ variant: Variant) -> [Float] {
        variant == .floor16 ? floor16Magnitudes : round15Magnitudes
    }

    /// The number of thresholds that m reaches: S2's q_max of a block whose largest magnitude is m.
    public static func scaleByte(_ m: Float) -> UInt8 {
        thresholds.withUnsafeBufferPointer { thresholds in
            var (low, high) = (0, 255)
            while low < high {
                let middle = (low + high) / 2
                if thresholds[middle] <= m { low = middle + 1 } else { high = middle }
            }
            return UInt8(low)
        }
    }

    /// The code of magnitude x, which may be infinite, under scale M (S3). All products are exact.
    @inline(__always)
    public static func code(_ x: Float, scale: Float, variant: Variant, random: UInt32) -> UInt8 {
        if x == .infinity { return 15 }
        let (x, m) = (Double(x), Double(scale))
        switch variant {
        case .floor16: return largest(15) { Double($0 * $0) * m <= 256 * x }
        case .round15: return largest(15) { Double((2 * $0 - 1) * (2 * $0 - 1)) * m <= 900 * x }
        case .stochastic15:
            if x >= m { return 15 }
            let a = largest(14) { Double($0 * $0) * m <= 225 * x }
            let left = Double(random >> 8) * Double(2 * Int(a) + 1) * m
            let right = 0x1p24 * (225 * x - Double(Int(a) * Int(a)) * m)
            return left < right ? a + 1 : a
        }
    }

    /// The largest k of 1 ... n that holds, or 0; what holds for k holds for all below.
    @inline(__always)
    private static func largest(_ n: Int, _ holds: (Int) -> Bool) -> UInt8 {
        var (low, high) = (0, n)
        while low < high {
            let middle = (low + high + 1) / 2
            if holds(middle) { low = middle } else { high = middle - 1 }
        }
        return UInt8(low)
    }
}

/// Squinch's tables by address, for kernels (S2).
public final class SquinchTables: @unchecked Sendable {
    /// M[q], and 256 / M[q] rounded: where a search for a code begins.
    public let scales: UnsafePointer<Float>
    public let inverses: UnsafePointer<Float>
    /// T[1] ... T[255] as bits, then what no magnitude reaches.
    public let thresholds: UnsafePointer<UInt32>
    /// The thresholds that the least number of each eighth of a binade reaches, by the upper 12 bits of a magnitude.
    public let reached: UnsafePointer<UInt8>
    /// Decoded magnitudes of round15, 16 q + code.
    public let round15: UnsafePointer<Float>

    public static let shared = SquinchTables()

    private init() {
        func table<Element>(_ list: [Element]) -> UnsafePointer<Element> {
            let memory = UnsafeMutablePointer<Element>.allocate(capacity: list.count)
            memory.initialize(from: list, count: list.count)
            return UnsafePointer(memory)
        }
        scales = table(SquinchCode.scales)
        inverses = table(SquinchCode.scales.map { 256 / $0 })
        thresholds = table(SquinchCode.thresholds.map(\.bitPattern) + [UInt32.max])
        reached = table(
            (0..<2048).map { eighth in SquinchCode.scaleByte(Float(bitPattern: UInt32(min(eighth, 0x7F8)) << 20)) })
        round15 = table(SquinchCode.round15Magnitudes)
    }

    /// The number of thresholds that a magnitude, not NaN, reaches.
    @inline(__always)
    public func scaleByte(_ bits: UInt32) -> Int {
        // An eighth of a binade is a ratio of 9/8 at most, two thresholds are exp(1/6) apart: it holds one at most.
        let first = Int(reached[Int(bits >> 20)])
        return first &+ (thresholds[first] <= bits ? 1 : 0)
    }
}

/// Squinch over whole pairs of blocks: sixteen values a step.
public final class SquinchKernels: Sendable {
    /// What the scales did to the blocks (S9): zero blocks, clipped below, clipped above.
    public typealias Counts = (zero: Int, below: Int, above: Int)
    public typealias Encode =
        @Sendable (
            _ x: UnsafePointer<Float>, _ bytes: UnsafeMutablePointer<UInt8>, _ n: Int, _ variant: SquinchCode.Variant,
            _ words: UnsafePointer<UInt32>
        ) -> Counts
    public typealias Words =
        @Sendable (_ random: RandomWords, _ first: UInt64, _ n: Int, _ words: UnsafeMutablePointer<UInt32>) -> Void
    /// 2 n blocks; no value is NaN. `stochastic15` reads a random word a value, the others none.
    public let encode: Encode
    /// 2 n blocks.
    public let decode:
        @Sendable (_ bytes: UnsafePointer<UInt8>, _ x: UnsafeMutablePointer<Float>, _ n: Int, _ isFloor: Bool) -> Void
    /// Whether all of n values are finite.
    public let isFinite: @Sendable (_ x: UnsafePointer<Float>, _ n: Int) -> Bool
    /// The random words of 8 n blocks of four from block `first` on (G1).
    public let words: Words

    public init(
        encode: @escaping Encode,
        decode: @escaping @Sendable (UnsafePointer<UInt8>, UnsafeMutablePointer<Float>, Int, Bool) -> Void,
        isFinite: @escaping @Sendable (UnsafePointer<Float>, Int) -> Bool, words: @escaping Words
    ) {
        self.encode = encode
        self.decode = decode
        self.isFinite = isFinite
        self.words = words
    }
}
