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
    /// M[q], and 256 / M[q] to a few units: where a search for a code begins.
    public let scales: UnsafePointer<Float>
    public let inverses: UnsafePointer<Float>
    /// T[1] ... T[255], then infinities.
    public let thresholds: UnsafePointer<Float>
    /// How many thresholds lie below the least number of each binary32 exponent.
    public let firstOfExponent: UnsafePointer<UInt8>
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
        thresholds = table(SquinchCode.thresholds + [Float](repeating: .infinity, count: 8))
        firstOfExponent = table(
            (0..<256).map { exponent in
                SquinchCode.scaleByte(Float(bitPattern: UInt32(min(exponent, 254)) << 23))
            })
        round15 = table(SquinchCode.round15Magnitudes)
    }

    /// The number of thresholds that m, not NaN, reaches.
    @inline(__always)
    public func scaleByte(_ m: Float) -> Int {
        // 6 ln 2 is 4.2: a binade holds at most five thresholds. An infinity reaches every one, the made-up ones too.
        let first = Int(firstOfExponent[Int(m.bitPattern >> 23)])
        let t = thresholds + first
        var q = first
        for i in 0..<5 { q &+= t[i] <= m ? 1 : 0 }
        return q < 255 ? q : 255
    }
}

/// Squinch over whole pairs of blocks: sixteen values a step.
public final class SquinchKernels: Sendable {
    /// What the scales did to the blocks (S9): zero blocks, clipped below, clipped above.
    public typealias Counts = (zero: Int, below: Int, above: Int)
    /// 2 n blocks of `floor16` or `round15`; no value is NaN.
    public let encode:
        @Sendable (
            _ x: UnsafePointer<Float>, _ bytes: UnsafeMutablePointer<UInt8>, _ n: Int, _ isFloor: Bool
        ) -> Counts
    /// 2 n blocks.
    public let decode:
        @Sendable (_ bytes: UnsafePointer<UInt8>, _ x: UnsafeMutablePointer<Float>, _ n: Int, _ isFloor: Bool) -> Void
    /// Whether all of n values are finite.
    public let isFinite: @Sendable (_ x: UnsafePointer<Float>, _ n: Int) -> Bool

    public init(
        encode: @escaping @Sendable (UnsafePointer<Float>, UnsafeMutablePointer<UInt8>, Int, Bool) -> Counts,
        decode: @escaping @Sendable (UnsafePointer<UInt8>, UnsafeMutablePointer<Float>, Int, Bool) -> Void,
        isFinite: @escaping @Sendable (UnsafePointer<Float>, Int) -> Bool
    ) {
        self.encode = encode
        self.decode = decode
        self.isFinite = isFinite
    }
}
