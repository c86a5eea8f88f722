/// A magnitude (significand +- error) * 2^exponent in 128-bit integers.
struct Approximation {
    let significand: UInt128
    let exponent: Int
    let error: UInt128

    /// The binary32 bits, if the whole interval rounds to them.
    func rounded() -> UInt32? {
        let low = BinaryFormat.binary32.rounded(significand - error, exponent: exponent)
        let high = BinaryFormat.binary32.rounded(significand + error, exponent: exponent)
        return low == high ? UInt32(low) : nil
    }
}

/// The elementary functions in 64-bit fixed point, with error bounds: enough for all but about one argument in 2^30.
///
/// Qn is an integer in units of 2^-n. The high half of a 64-bit product loses less than one unit. Polynomials are cut where the next term
/// is below 2^-64; each of their steps loses one unit of Q62 or less on a value that is multiplied by less than 1/2 afterwards, so
/// that a whole evaluation is within 4 units of Q62. The bounds below are generous beyond that: 2^-57 relative.
enum FastPath {
    // MARK: exp

    /// 2^(i/64) in Q63, i = 0..<64, from the slow path.
    private static let powers: [UInt64] = (0..<64).map { i in
        let ln2 = SlowPath.constants.ln2(3)
        return UInt64(SlowPath.exp((ln2 * UInt64(i)) >> 6, isNegative: false).v.truncated(places: 63))
    }

    /// log2(e) in Q96 = 1 / ln 2, by division of 2^127 by ln 2 in Q.. of the slow constant.
    private static let log2e: UInt128 = {
        // y <- y (2 - y ln 2), Newton's iteration from 1.4427, in three limbs.
        let ln2 = SlowPath.constants.ln2(3)
        let two = FixedPoint(2, fractionLimbs: 3)
        var y = FixedPoint(0x1_7154, exponent: -16, fractionLimbs: 3)
        for _ in 0..<5 { y = y * (two - y * ln2) }
        return y.truncated(places: 96)
    }()

    private static let ln2Q64: UInt64 = UInt64(SlowPath.constants.ln2(3).truncated(places: 64))

    /// exp(+-x), 0 < x = m 2^e < 128, m below 2^24: v in Q63, 1 <= v < 2, and k with exp = v 2^k; v is within 2^-58 of the truth.
    ///
    /// x log2(e) = k + i/64 + f with 0 <= f < 1/64; v = 2^(i/64) * exp(f ln 2).
    static func exp(isNegative: Bool, _ m: UInt64, _ e: Int) -> (v: UInt64, k: Int) {
        // m log2(e) in Q96 has at most 121 bits; times 2^e, e <= -17. Lost: less than 2^-72 + 2^-96.
        let product = UInt128(m) * log2e
        // Q64 of the product: shift by 32 - e.
        let shift = 32 - e
        var y = shift < 128 ? product >> UInt128(shift) : 0
        if isNegative { y = 0 &- y }
        // As a signed Q64 number: the high word is k, the low word the fraction.
        let k = Int(Int64(truncatingIfNeeded: y >> 64))
        let fraction = UInt64(truncatingIfNeeded: y)
        let i = Int(fraction >> 58)
        // f ln 2 < 2^-6.5 in Q64.
        let z = (fraction & (1 << 58 - 1)).multipliedFullWidth(by: ln2Q64).high
        // exp(z) - 1 = z (1 + z/2 (1 + z/3 (... (1 + z/8)))), each factor in Q62.
        let one: UInt64 = 1 << 62
        var sum = one
        for n in (2...8).reversed() as ReversedCollection<ClosedRange<Int>> {
            sum = one + z.multipliedFullWidth(by: sum).high / UInt64(n)
        }
        // z in Q64 times the sum in Q62, in Q62; times 2 for Q63.
        let excess = z.multipliedFullWidth(by: sum).high
        let power = powers[i]
        // v = power + power * excess: Q63 + Q63 * Q62 / 2^62.
        let (high, low) = power.multipliedFullWidth(by: excess)
        return (power + (high << 2 | low >> 62), k)
    }

    /// exp of a number that is not tiny and neither overflows nor vanishes.
    static func exp(isNegative: Bool, _ m: UInt64, _ e: Int) -> Approximation {
        let (v, k): (UInt64, Int) = exp(isNegative: isNegative, m, e)
        return Approximation(significand: UInt128(v), exponent: k - 63, error: 64)
    }

    /// The magnitude of exp(+-x) - 1, |x| > 2^-25.
    static func expm1(isNegative: Bool, _ m: UInt64, _ e: Int) -> Approximation {
        let top = e + 63 - m.leadingZeroBitCount
        let one: UInt64 = 1 << 62
        if top < -5 {
            // x (1 + x/2! + ... + x^9/10!), x < 2^-5 in Q64 (its lowest bits cut: 2^-64 of the factor).
            let x = FastPath.fixed(m, e, places: 64)
            var sum = one
            for n in (2...10).reversed() as ReversedCollection<ClosedRange<Int>> {
                let part = x.multipliedFullWidth(by: sum).high / UInt64(n)
                sum = isNegative ? one - part : one + part
            }
            return Approximation(significand: UInt128(m) * UInt128(sum), exponent: e - 62, error: UInt128(m) * 16)
        }
        let (v, k): (UInt64, Int) = exp(isNegative: isNegative, m, e)
        if isNegative {
            // 1 - v 2^k, k < 0, in Q103.
            let power = -k < 100 ? (UInt128(v) << 40) >> UInt128(-k) : 0
            return Approximation(significand: (1 << 103) - power, exponent: -103, error: 1 << 46)
        }
        // v 2^k - 1 with v in Q(63 + s), then in units of 2^(k - 63 - s).
        let s = 60
        let unit: UInt128 = k <= 63 + s ? 1 << UInt128(63 + s - k) : 0
        return Approximation(
            significand: UInt128(v) << UInt128(s) - unit, exponent: k - 63 - s, error: 64 << UInt128(s) + 1)
    }

    // MARK: log

    /// ln 2 in Q100.
    private static let ln2Q100 = Int128(SlowPath.constants.ln2(3).truncated(places: 100))
    private static let multipliers: [UInt64] = (0..<128).map { UInt64(LogarithmTable.multiplier(interval: $0)) }
    /// ln(256 / c) in Q100 for each interval.
    private static let logarithms: [Int128] = (0..<128).map {
        Int128(LogarithmTable.logarithm(multiplier: LogarithmTable.multiplier(interval: $0), 3).truncated(places: 100))
    }
    /// 1 / (n + 1) in Q62.
    private static let reciprocals: [Int64] = (0..<12).map { Int64((1 << 62) / UInt64($0 + 1)) }

    /// log1p(d) / d in Q62 for d in Q63, |d| < 2^-6.9: 1 - d/2 + d^2/3 - ... to the term d^9.
    private static func log1pRatio(_ d: Int64) -> Int64 {
        var sum = reciprocals[9]
        for n in (0..<9).reversed() {
            // Q63 * Q62 / 2^64 is Q61.
            sum = reciprocals[n] - d.multipliedFullWidth(by: sum).high << 1
        }
        return sum
    }

    /// log(2^k f) with f in Q55, 1 <= f < 2, not 1 for k = 0; the sign and the magnitude.
    static func log(_ f: UInt64, k: Int) -> (isNegative: Bool, Approximation) {
        let i = Int(f >> 48) - 128
        // f c / 256 - 1 in Q63, exact.
        let d = Int64(bitPattern: f &* multipliers[i] &- 1 << 63)
        // Q63 * Q62.
        let series = Int128(d) * Int128(log1pRatio(d))
        let isNearOne = (k == 0 && i == 0) || (k == -1 && i == 127)
        if isNearOne {
            // The result is the series alone: relative to d.
            return (
                d < 0,
                Approximation(significand: series.magnitude, exponent: -125, error: UInt128(d.magnitude) * 16)
            )
        }
        let sum = Int128(k) * ln2Q100 + logarithms[i] + series >> 25
        return (sum < 0, Approximation(significand: sum.magnitude, exponent: -100, error: 1 << 36))
    }

    /// log(m 2^e), m a positive 24-bit integer, not 1.
    static func log(_ m: UInt64, _ e: Int) -> (isNegative: Bool, Approximation) {
        let width = 64 - m.leadingZeroBitCount
        return log(m << UInt64(56 - width), k: e + width - 1)
    }

    /// log1p(+-m 2^e), above -1, |x| > 2^-25.
    static func log1p(isNegative: Bool, _ m: UInt64, _ e: Int) -> (isNegative: Bool, Approximation) {
        let top = e + 63 - m.leadingZeroBitCount
        if top < -7 {
            let magnitude = Int64(fixed(m, e, places: 63))
            let ratio = log1pRatio(isNegative ? -magnitude : magnitude)
            return (
                isNegative,
                Approximation(significand: UInt128(m) * UInt128(ratio), exponent: e - 62, error: UInt128(m) * 16)
            )
        }
        // 1 + x in Q55 of its own binade; beyond 2^25 its lowest bits are cut, 2^-55 of a result above 17.
        var k = isNegative ? 0 : max(top, 0)
        let x = UInt128(m) << 80
        let scaled = UInt64(truncatingIfNeeded: shifted(x, by: e - k - 80 + 55))
        var f = isNegative ? 1 << 55 - scaled : scaled + (k <= 55 ? 1 << UInt64(55 - k) : 0)
        while f >> 56 != 0 {
            f >>= 1
            k += 1
        }
        while f >> 55 == 0 {
            f <<= 1
            k -= 1
        }
        return log(f, k: k)
    }

    // MARK: sin, cos

    /// pi in Q61.
    private static let piQ61 = UInt64(SlowPath.constants.pi(3).truncated(places: 61))

    /// sin(pi t) for t = m 2^e, 0 < t <= 1/4, m below 2^63: m (pi - pi (pi t)^2/3! + ...).
    static func sinPi(_ m: UInt64, _ e: Int) -> Approximation {
        let u = square(m, e)
        // 1 - u/6 (1 - u/20 (1 - u/42 (...))) in Q62, to the term u^10.
        var sum: UInt64 = 1 << 62
        for j in (1...10).reversed() as ReversedCollection<ClosedRange<Int>> {
            sum = 1 << 62 - u.multipliedFullWidth(by: sum).high / UInt64(2 * j * (2 * j + 1))
        }
        // Q61 * Q62 / 2^64 is Q59.
        let ratio = piQ61.multipliedFullWidth(by: sum).high
        return Approximation(significand: UInt128(m) * UInt128(ratio), exponent: e - 59, error: UInt128(m) * 16)
    }

    /// cos(pi t) for t = m 2^e, 2^-15 < t <= 1/4.
    static func cosPi(_ m: UInt64, _ e: Int) -> Approximation {
        let u = square(m, e)
        var sum: UInt64 = 1 << 62
        for j in (1...10).reversed() as ReversedCollection<ClosedRange<Int>> {
            sum = 1 << 62 - u.multipliedFullWidth(by: sum).high / UInt64(2 * j * (2 * j - 1))
        }
        return Approximation(significand: UInt128(sum), exponent: -62, error: 32)
    }

    /// (pi m 2^e)^2 in Q64, below 0.62.
    private static func square(_ m: UInt64, _ e: Int) -> UInt64 {
        // t in Q64, below 2^62; pi t in Q61; squared in Q58.
        let w = fixed(m, e, places: 64).multipliedFullWidth(by: piQ61).high
        let (high, low) = w.multipliedFullWidth(by: w)
        return high << 6 | low >> 58
    }

    /// m 2^e in Q(places), cut. - Precondition: it fits.
    static func fixed(_ m: UInt64, _ e: Int, places: Int) -> UInt64 {
        let shift = e + places
        if shift >= 0 { return m << UInt64(shift) }
        return shift > -64 ? m >> UInt64(-shift) : 0
    }

    private static func shifted(_ x: UInt128, by count: Int) -> UInt128 {
        if count >= 0 { return x << UInt128(count) }
        return count > -128 ? x >> UInt128(-count) : 0
    }
}
