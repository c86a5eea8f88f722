import Foundation
import ModelSpec

/// Squinch a second time: other formulas, the processor's floating point, no code or table of the library.
///
/// The scale byte comes from a logarithm in binary64, whose error of 10^-14 is far below the distance of every fp32 from a
/// threshold; codes come from integer quotients and integer square roots where the library compares products.
enum SecondSquinch {
    /// M[q].
    static let scales: [Float] = (0...255).map { Float(exp(Double($0 - 128) / 6)) }

    /// q_max for the largest magnitude m.
    static func scaleByte(_ m: Float) -> Int {
        if m == 0 { return 0 }
        if m == .infinity { return 255 }
        return min(max(Int((6 * log(Double(m))).rounded(.down)) + 129, 0), 255)
    }

    /// floor(sqrt(n)).
    static func squareRoot(_ n: UInt128) -> Int {
        var root = Int(Double(min(n, 1 << 60)).squareRoot())
        while UInt128(root * root) > n { root -= 1 }
        while UInt128((root + 1) * (root + 1)) <= n && root < 1 << 20 { root += 1 }
        return root
    }

    /// |x| / M = numerator / denominator; an x below 2^-64 M as nearly 0, one above 2^64 M as 2^64.
    private static func ratio(_ x: Float, _ scale: Float) -> (numerator: UInt128, denominator: UInt128) {
        let magnitude = x.magnitude
        if magnitude == 0 { return (0, 1) }
        if Double(magnitude) < Double(scale) * 0x1p-64 { return (1, 1 << 64) }
        if Double(magnitude) > Double(scale) * 0x1p64 { return (1 << 64, 1) }
        // Integers: both times 2^(23 - the smaller exponent) where normal; Float.exponent sees through subnormals.
        let unit = min(magnitude.exponent, scale.exponent)
        func integer(_ y: Float) -> UInt128 {
            UInt128(Double(sign: .plus, exponent: 23, significand: Double(y.significand))) << (y.exponent - unit)
        }
        return (integer(magnitude), integer(scale))
    }

    /// How many of the 2^24 values of v give code a + 1, and a: ceil(2^24 (225 |x|/M - a^2) / (2a + 1)).
    static func stochastic(_ x: Float, _ scale: Float) -> (a: Int, count: UInt128) {
        let (numerator, denominator) = ratio(x, scale)
        let a = min(14, squareRoot(225 * numerator / denominator))
        let excess = 225 * numerator - UInt128(a * a) * denominator
        let divisor = UInt128(2 * a + 1) * denominator
        return (a, (excess << 24 + divisor - 1) / divisor)
    }

    static func code(_ x: Float, _ scale: Float, _ variant: SquinchVariant, _ random: UInt32) -> Int {
        if x.magnitude >= scale { return 15 }
        let (numerator, denominator) = ratio(x, scale)
        switch variant {
        case .floor16: return min(15, squareRoot(256 * numerator / denominator))
        case .round15:
            // floor(15 s + 1/2) = floor((floor(30 s) + 1) / 2).
            return min(15, (squareRoot(900 * numerator / denominator) + 1) / 2)
        case .stochastic15:
            let (a, count) = stochastic(x, scale)
            return UInt128(random >> 8) < count ? a + 1 : a
        }
    }

    static func encode(_ x: [Float], _ variant: SquinchVariant, _ random: [UInt32]) -> [UInt8] {
        var bytes: [UInt8] = []
        for first in stride(from: 0, to: x.count, by: 8) {
            let block = x[first..<min(first + 8, x.count)]
            let scaleByte = scaleByte(block.map(\.magnitude).max() ?? 0)
            guard scaleByte > 0 else {
                bytes += [0, 0, 0, 0, 0, 0]
                continue
            }
            // Signs and codes as one integer each.
            var signs: UInt64 = 0
            var codes: UInt64 = 0
            for (element, value) in block.enumerated() {
                if value.sign == .minus { signs += 1 << UInt64(element) }
                let word = random.isEmpty ? 0 : random[first + element]
                codes += UInt64(code(value, scales[scaleByte], variant, word)) << UInt64(4 * element)
            }
            let word = UInt64(scaleByte) | signs << 8 | codes << 16
            for byte in 0..<6 { bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(8 * byte))) }
        }
        return bytes
    }

    static func decode(_ scaleByte: Int, _ isNegative: Bool, _ code: Int, _ variant: SquinchVariant) -> Float {
        if scaleByte == 0 { return 0 }
        let scale = Double(scales[scaleByte])
        // 34 bits at most: exact in binary64. A quotient by 225 is never within 2^-10 units of half way between two fp32
        // numbers unless it is exact, so that rounding it twice does no harm.
        let magnitude =
            variant == .floor16
            ? Float(Double((2 * code + 1) * (2 * code + 1)) * scale / 1024) : Float(Double(code * code) * scale / 225)
        return isNegative ? -magnitude : magnitude
    }

    static func decode(_ bytes: [UInt8], _ variant: SquinchVariant, count: Int) -> [Float] {
        (0..<count).map { index in
            var word: UInt64 = 0
            for byte in 0..<6 { word |= UInt64(bytes[6 * (index / 8) + byte]) << UInt64(8 * byte) }
            let element = UInt64(index % 8)
            return decode(
                Int(word & 255), word >> (8 + element) & 1 == 1, Int(word >> (16 + 4 * element) & 15), variant)
        }
    }
}

/// A finite fp32 whose exponent field is in `exponents`, any significand and sign.
func drawFloat(_ generator: inout SplitMix64, exponents: ClosedRange<Int>) -> Float {
    let word = generator.next()
    let exponent = exponents.lowerBound + Int(word >> 32) % exponents.count
    return Float(bitPattern: UInt32(truncatingIfNeeded: word) & 0x807F_FFFF | UInt32(exponent) << 23)
}

/// Values as a gradient has them: blocks of a common magnitude with codes from 0 to 15, zeros of both signs among them.
func drawGradient(_ generator: inout SplitMix64, count: Int, exponents: ClosedRange<Int> = 90...140) -> [Float] {
    var values: [Float] = []
    var peak: Float = 1
    for index in 0..<count {
        if index % 8 == 0 { peak = drawFloat(&generator, exponents: exponents).magnitude }
        let root = Float(generator.below(1 << 20)) * 0x1p-20
        let value = generator.below(16) == 0 ? 0 : peak * (root * root)
        values.append(generator.below(2) == 0 ? value : -value)
    }
    return values
}
