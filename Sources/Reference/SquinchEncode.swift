import BFloat16
import ExactMath
import ModelSpec

/// Squinch: eight gradients in 48 bits (S1-S7).
///
/// A block of eight values becomes one scale byte, eight sign bits and eight 4-bit magnitude codes. The scales are a
/// geometric series of ratio exp(1/6); the codes divide the square root of a magnitude evenly.
public enum Squinch {
    /// Bytes of a block: the scale, eight signs, eight nibbles (S5).
    public static let blockBytes = 6
    /// Elements of a block (S1).
    public static let blockElements = 8

    /// The number of blocks that n elements take: ceil(n / 8) (S5).
    public static func blockCount(_ n: Int) -> Int { n / 8 + (n % 8 == 0 ? 0 : 1) }

    // MARK: - Tensors

    /// The blocks of x (S1-S6): [n] fp32 in, [ceil(n/8) * 6] bytes out; n = 0 gives none.
    ///
    /// - Parameters:
    ///   - random: for `stochastic15` one word an element [n], of which the upper 24 bits are used; not read otherwise.
    ///   - nonfinite: under `saturate` an infinity is code 15 under the scale byte 255. The finite elements of its block
    ///     are then coded against that scale: in `floor16` they decode to +-1.5e6 or more, zeros too. A NaN is refused
    ///     under either policy.
    /// - Throws: ``SquinchError/nonfinite(index:bits:rank:)`` for the first element that is refused,
    ///   ``SquinchError/valueCount(name:_:expected:)`` for a wrong number of random words.
    public static func encode(
        _ x: [Float], variant: SquinchVariant, nonfinite: NonfinitePolicy = .refuse, random: [UInt32] = []
    ) throws(SquinchError) -> [UInt8] {
        var report = Report()
        return try encode(x, variant: variant, nonfinite: nonfinite, random: random, report: &report)
    }

    /// As `encode(_:variant:nonfinite:random:)`, for bf16 values, which are read exactly (S1).
    public static func encode(
        _ x: [BFloat16], variant: SquinchVariant, nonfinite: NonfinitePolicy = .refuse, random: [UInt32] = []
    ) throws(SquinchError) -> [UInt8] {
        var report = Report()
        return try encode(x, variant: variant, nonfinite: nonfinite, random: random, report: &report)
    }

    /// As `encode(_:variant:nonfinite:random:)`, for bf16 values, adding to a report (S9).
    public static func encode(
        _ x: [BFloat16], variant: SquinchVariant, nonfinite: NonfinitePolicy = .refuse, random: [UInt32] = [],
        report: inout Report
    ) throws(SquinchError) -> [UInt8] {
        // S1, F1: exact. A NaN keeps its bits, for the error that names it.
        var widened: [Float] = []
        for value in x { widened.append(Float(bitPattern: UInt32(value.bitPattern) << 16)) }
        return try encode(widened, variant: variant, nonfinite: nonfinite, random: random, report: &report)
    }

    /// As `encode(_:variant:nonfinite:random:)`, adding to a report (S9), which is left alone where an error is thrown.
    public static func encode(
        _ x: [Float], variant: SquinchVariant, nonfinite: NonfinitePolicy = .refuse, random: [UInt32] = [],
        report: inout Report
    ) throws(SquinchError) -> [UInt8] {
        if variant == .stochastic15 && random.count != x.count {
            throw .valueCount(name: "random", random.count, expected: x.count)
        }
        // S6
        for index in 0..<x.count {
            let isRefused = SoftFloat32.isNaN(x[index]) || (SoftFloat32.isInfinite(x[index]) && nonfinite == .refuse)
            if isRefused { throw .nonfinite(index: index, bits: x[index].bitPattern, rank: nil) }
        }
        var bytes: [UInt8] = []
        for block in 0..<blockCount(x.count) {
            // S5: the tail is padded with +0, whose code is 0 for every random word.
            var values = [Float](repeating: 0, count: 8)
            var words = [UInt32](repeating: 0, count: 8)
            for element in 0..<8 where 8 * block + element < x.count {
                values[element] = x[8 * block + element]
                if variant == .stochastic15 { words[element] = random[8 * block + element] }
            }
            bytes += encodeBlock(values, variant: variant, random: words, report: &report)
        }
        return bytes
    }

    // MARK: - One block

    /// Eight values without NaN, eight random words: six bytes.
    private static func encodeBlock(
        _ x: [Float], variant: SquinchVariant, random: [UInt32], report: inout Report
    ) -> [UInt8] {
        // S1: m = max |x|.
        var m: Float = 0
        for element in 0..<8 { m = SoftFloat32.maximum(m, SoftFloat32.magnitude(x[element])) }
        // S2
        let scaleByte = SquinchTables.scaleByte(largestMagnitude: m)
        let scale = SquinchTables.scales[Int(scaleByte)]
        // S9
        report.blocks += 1
        if SoftFloat32.isZero(m) {
            report.zeroBlocks += 1
        } else if scaleByte == 0 {
            report.clippedBelow += 1
        } else if scaleByte == 255 && SoftFloat32.isLess(scale, m) {
            report.clippedAbove += 1
        }
        // S4
        if scaleByte == 0 { return [0, 0, 0, 0, 0, 0] }
        var signs: UInt8 = 0
        var codes: [UInt8] = []
        for element in 0..<8 {
            // S4: the sign bit, also that of a zero.
            if x[element].bitPattern >> 31 == 1 { signs |= 1 << UInt8(element) }
            codes.append(code(x[element], scale: scale, variant: variant, random: random[element]))
        }
        // S5: low nibble first.
        return [
            scaleByte, signs, codes[0] | codes[1] << 4, codes[2] | codes[3] << 4, codes[4] | codes[5] << 4,
            codes[6] | codes[7] << 4,
        ]
    }

    /// The code, 0...15, of |x| against the scale M (S3): exact comparisons, nothing is rounded.
    ///
    /// - Parameters:
    ///   - x: any value but NaN; infinity has code 15 (S6).
    ///   - scale: M, finite and above zero.
    ///   - random: a word for `stochastic15`; not read otherwise.
    public static func code(_ x: Float, scale: Float, variant: SquinchVariant, random: UInt32 = 0) -> UInt8 {
        precondition(!SoftFloat32.isNaN(x) && SoftFloat32.isFinite(scale) && SoftFloat32.isLess(0, scale))
        // S6: a saturated infinity.
        if SoftFloat32.isInfinite(x) { return 15 }
        let x = ExactMagnitude(x)
        let scale = ExactMagnitude(scale)
        switch variant {
        case .floor16:
            // S3: the largest k <= 15 with k^2 M <= 256 |x|.
            var code: UInt64 = 0
            for k: UInt64 in 1...15 where (k * k) * scale <= 256 * x { code = k }
            return UInt8(code)
        case .round15:
            // S3: the largest k <= 15 with (2k - 1)^2 M <= 900 |x|, or 0.
            var code: UInt64 = 0
            for k: UInt64 in 1...15 where ((2 * k - 1) * (2 * k - 1)) * scale <= 900 * x { code = k }
            return UInt8(code)
        case .stochastic15:
            // S3
            if scale <= x { return 15 }
            // S3: a = min(14, floor(15 sqrt(|x| / M))), the largest a <= 14 with a^2 M <= 225 |x|.
            var a: UInt64 = 0
            for k: UInt64 in 1...14 where (k * k) * scale <= 225 * x { a = k }
            // S3: a + 1 iff v (2a + 1) M < 2^24 (225 |x| - a^2 M), with the subtrahend on the left.
            let v = UInt64(random >> 8)
            let roundsUp = (v * (2 * a + 1) + (1 << 24) * (a * a)) * scale < ((1 << 24) * 225) * x
            return UInt8(roundsUp ? a + 1 : a)
        }
    }
}

/// The magnitude of a finite fp32, or an integer multiple of it, exactly: significand * 2^exponent.
private struct ExactMagnitude {
    let significand: UInt64
    let exponent: Int

    init(_ x: Float) {
        let biased = Int(x.bitPattern >> 23 & 0xFF)
        let fraction = UInt64(x.bitPattern & 0x7F_FFFF)
        significand = biased == 0 ? fraction : fraction | 0x80_0000
        exponent = max(biased, 1) - 150
    }

    private init(significand: UInt64, exponent: Int) {
        self.significand = significand
        self.exponent = exponent
    }

    /// The exact product. Factors are below 2^33 here and significands of fp32 below 2^24: below 2^57.
    static func * (factor: UInt64, x: ExactMagnitude) -> ExactMagnitude {
        ExactMagnitude(significand: factor * x.significand, exponent: x.exponent)
    }

    static func < (x: ExactMagnitude, y: ExactMagnitude) -> Bool {
        if x.significand == 0 || y.significand == 0 { return x.significand == 0 && y.significand != 0 }
        // Where the units are 2^64 apart or more, the larger unit alone exceeds the other number.
        if x.exponent - y.exponent >= 64 { return false }
        if y.exponent - x.exponent >= 64 { return true }
        // In the smaller of the two units both are below 2^121.
        let unit = min(x.exponent, y.exponent)
        return UInt128(x.significand) << (x.exponent - unit) < UInt128(y.significand) << (y.exponent - unit)
    }

    static func <= (x: ExactMagnitude, y: ExactMagnitude) -> Bool { !(y < x) }
}
