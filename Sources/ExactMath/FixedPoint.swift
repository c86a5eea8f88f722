/// A non-negative fixed-point number of many limbs: the slow path of the elementary functions, and where their constants come from.
///
/// The value is sum limbs[i] * 2^(64 (i - fractionLimbs)); the highest limb is the integer part. Operations truncate, so that each
/// is low by less than one unit of the last limb unless it says that it is exact.
struct FixedPoint: Equatable {
    /// Little-endian; `fractionLimbs + 1` of them.
    private(set) var limbs: [UInt64]

    var fractionLimbs: Int { limbs.count - 1 }

    init(_ integer: UInt64, fractionLimbs: Int) {
        limbs = [UInt64](repeating: 0, count: fractionLimbs + 1)
        limbs[fractionLimbs] = integer
    }

    /// integer * 2^exponent, bits below the last limb cut. - Precondition: the value is below 2^64.
    init(_ integer: UInt64, exponent: Int, fractionLimbs: Int) {
        self.init(0, fractionLimbs: fractionLimbs)
        // The lowest bit of the integer stands at this bit of the limbs.
        let position = 64 * fractionLimbs + exponent
        if position >= 0 {
            let (limb, bit) = (position / 64, position % 64)
            if integer != 0 {
                precondition(limb < limbs.count, "the value has no place")
                limbs[limb] = integer << UInt64(bit)
                if bit > 0 && integer >> UInt64(64 - bit) != 0 { limbs[limb + 1] = integer >> UInt64(64 - bit) }
            }
        } else if position > -64 {
            limbs[0] = integer >> UInt64(-position)
        }
    }

    /// From limbs, the highest the integer part.
    init(limbs: [UInt64]) { self.limbs = limbs }

    var isZero: Bool { limbs.allSatisfy { $0 == 0 } }

    /// Exact. - Precondition: the sum is below 2^64.
    static func + (a: FixedPoint, b: FixedPoint) -> FixedPoint {
        var result = a
        var carry: UInt64 = 0
        for i in result.limbs.indices {
            let (partial, first) = a.limbs[i].addingReportingOverflow(b.limbs[i])
            let (sum, second) = partial.addingReportingOverflow(carry)
            result.limbs[i] = sum
            carry = (first ? 1 : 0) + (second ? 1 : 0)
        }
        precondition(carry == 0, "the sum has no place")
        return result
    }

    /// Exact. - Precondition: a >= b.
    static func - (a: FixedPoint, b: FixedPoint) -> FixedPoint {
        var result = a
        var borrow: UInt64 = 0
        for i in result.limbs.indices {
            let (partial, first) = a.limbs[i].subtractingReportingOverflow(b.limbs[i])
            let (difference, second) = partial.subtractingReportingOverflow(borrow)
            result.limbs[i] = difference
            borrow = (first ? 1 : 0) + (second ? 1 : 0)
        }
        precondition(borrow == 0, "the difference is negative")
        return result
    }

    /// The product, truncated: low by less than one unit.
    static func * (a: FixedPoint, b: FixedPoint) -> FixedPoint {
        let n = a.limbs.count
        var product = [UInt64](repeating: 0, count: 2 * n)
        for i in 0..<n where a.limbs[i] != 0 {
            var carry: UInt64 = 0
            for j in 0..<n {
                let (high, low) = a.limbs[i].multipliedFullWidth(by: b.limbs[j])
                let (first, overflow1) = product[i + j].addingReportingOverflow(low)
                let (second, overflow2) = first.addingReportingOverflow(carry)
                product[i + j] = second
                carry = high &+ (overflow1 ? 1 : 0) &+ (overflow2 ? 1 : 0)
            }
            product[i + n] = carry
        }
        var result = a
        for i in 0..<n { result.limbs[i] = product[i + n - 1] }
        precondition(product[2 * n - 1] == 0, "the product has no place")
        return result
    }

    /// Exact. - Precondition: the product is below 2^64.
    static func * (a: FixedPoint, b: UInt64) -> FixedPoint {
        var result = a
        var carry: UInt64 = 0
        for i in a.limbs.indices {
            let (high, low) = a.limbs[i].multipliedFullWidth(by: b)
            let (sum, overflow) = low.addingReportingOverflow(carry)
            result.limbs[i] = sum
            carry = high &+ (overflow ? 1 : 0)
        }
        precondition(carry == 0, "the product has no place")
        return result
    }

    /// The quotient, truncated: low by less than one unit. - Precondition: b > 0.
    static func / (a: FixedPoint, b: UInt64) -> FixedPoint {
        var result = a
        var remainder: UInt64 = 0
        for i in a.limbs.indices.reversed() {
            let (quotient, rest) = b.dividingFullWidth((remainder, a.limbs[i]))
            result.limbs[i] = quotient
            remainder = rest
        }
        return result
    }

    /// a * 2^-count, truncated: low by less than one unit.
    static func >> (a: FixedPoint, count: Int) -> FixedPoint {
        var result = FixedPoint(0, fractionLimbs: a.fractionLimbs)
        let (limbShift, bitShift) = (count / 64, UInt64(count % 64))
        for i in a.limbs.indices where i + limbShift < a.limbs.count {
            let low = a.limbs[i + limbShift] >> bitShift
            let next = i + limbShift + 1 < a.limbs.count ? a.limbs[i + limbShift + 1] : 0
            result.limbs[i] = bitShift == 0 ? low : low | next << (64 - bitShift)
        }
        return result
    }

    static func < (a: FixedPoint, b: FixedPoint) -> Bool {
        for i in a.limbs.indices.reversed() where a.limbs[i] != b.limbs[i] { return a.limbs[i] < b.limbs[i] }
        return false
    }

    /// The integer part.
    var integer: UInt64 { limbs[fractionLimbs] }

    /// The number without its integer part.
    var fraction: FixedPoint {
        var result = self
        result.limbs[fractionLimbs] = 0
        return result
    }

    /// The 64 bits below the point.
    var leadingFraction: UInt64 { limbs[fractionLimbs - 1] }

    /// floor(value * 2^places) for places up to 127. - Precondition: the result is below 2^128.
    func truncated(places: Int) -> UInt128 {
        let shifted = self >> (128 - places)
        return UInt128(shifted.limbs[fractionLimbs]) << 128 | UInt128(shifted.limbs[fractionLimbs - 1]) << 64
            | UInt128(shifted.limbs[fractionLimbs - 2])
    }
}

/// Constants to any number of limbs, each from a series, low by at most a few hundred units of the last limb.
enum Constants {
    /// ln 2 = 2 atanh(1/3).
    static func ln2(fractionLimbs: Int) -> FixedPoint { inverseHyperbolicTangent(1, over: 3, fractionLimbs) * 2 }

    /// pi = 16 atan(1/5) - 4 atan(1/239) (Machin 1706).
    static func pi(fractionLimbs: Int) -> FixedPoint {
        inverseTangent(over: 5, fractionLimbs) * 16 - inverseTangent(over: 239, fractionLimbs) * 4
    }

    /// atanh(p / q) = sum (p/q)^(2j + 1) / (2j + 1), for p < q / 2 and q below 2^32.
    static func inverseHyperbolicTangent(_ p: UInt64, over q: UInt64, _ fractionLimbs: Int) -> FixedPoint {
        var power = FixedPoint(p, fractionLimbs: fractionLimbs) / q
        var sum = power
        var divisor: UInt64 = 3
        while true {
            power = (power * (p * p)) / (q * q)
            if power.isZero { return sum }
            sum = sum + power / divisor
            divisor += 2
        }
    }

    /// atan(1 / q) = sum (-1)^j q^-(2j + 1) / (2j + 1).
    private static func inverseTangent(over q: UInt64, _ fractionLimbs: Int) -> FixedPoint {
        var power = FixedPoint(1, fractionLimbs: fractionLimbs) / q
        var sum = power
        var divisor: UInt64 = 3
        var isNegative = true
        while true {
            power = power / (q * q)
            if power.isZero { return sum }
            sum = isNegative ? sum - power / divisor : sum + power / divisor
            isNegative.toggle()
            divisor += 2
        }
    }
}
