/// A real number known to lie within `error` units of the last limb of `value`, times 2^exponent, under a sign.
struct Enclosure {
    var isNegative = false
    let value: FixedPoint
    var exponent = 0
    /// Generous: the functions below lose at most a few hundred units in their series and constants, times the factors that they name.
    var error: UInt64 = 1 << 32

    /// The bits in a format, if all of the enclosure rounds to them.
    func rounded(to format: BinaryFormat, upward: Bool = false) -> UInt64? {
        let margin = FixedPoint(error, exponent: -64 * value.fractionLimbs, fractionLimbs: value.fractionLimbs)
        if value < margin { return nil }
        let low = format.rounded(value - margin, exponent: exponent, upward: upward)
        let high = format.rounded(value + margin, exponent: exponent, upward: upward)
        return low == high ? low : nil
    }
}

/// The elementary functions to any precision, on numbers m * 2^e given exactly.
///
/// `limbs` is the number of fraction limbs, at least 3: the error is at most 2^32 units of 2^(-64 limbs). Readable rather than fast: it
/// decides the few cases that the fast path leaves open, makes that path's tables, and gives binary64 truth.
enum SlowPath {
    /// Calls `enclose` with more and more limbs until the result rounds to one value. It ends because no result that reaches this place
    /// lies half way between two neighbours: those that could are exact and are handled before.
    static func rounded(
        to format: BinaryFormat, upward: Bool = false, startingWith limbs: Int = 3, _ enclose: (Int) -> Enclosure
    ) -> UInt64 {
        var limbs = limbs
        while true {
            let enclosure = enclose(limbs)
            if let bits = enclosure.rounded(to: format, upward: upward) {
                let signBit: UInt64 = format.precision == 24 ? 1 << 31 : 1 << 63
                return enclosure.isNegative ? bits | signBit : bits
            }
            limbs += 2
        }
    }

    // MARK: exp

    /// exp(x) or exp(-x) for 0 <= x < 2^20, as v * 2^k with v in [1, 2] up to the error.
    ///
    /// x = k ln 2 + r; exp(r) = exp(r / 256)^256, the inner one by its series. Errors: k units of ln 2's few hundred, then doubled eight
    /// times: below 2^31 for k below 2^12; an error of x itself adds as much.
    static func exp(_ x: FixedPoint, isNegative: Bool) -> (v: FixedPoint, k: Int) {
        let limbs = x.fractionLimbs
        let ln2 = constants.ln2(limbs)
        var k = x.truncated(places: 64) / ln2.truncated(places: 64)
        // The quotient of truncated numbers is at most one too large.
        if x < ln2 * UInt64(k) { k -= 1 }
        var r = x - ln2 * UInt64(k)
        if isNegative {
            // exp(-x) = 2^-(k + 1) exp((k + 1) ln 2 - x).
            k += 1
            r = ln2 - r
        }
        let reduced = r >> 8
        var sum = FixedPoint(1, fractionLimbs: limbs)
        var term = sum
        var n: UInt64 = 1
        while true {
            term = (term * reduced) / n
            if term.isZero { break }
            sum = sum + term
            n += 1
        }
        for _ in 0..<8 { sum = sum * sum }
        return (sum, isNegative ? -Int(k) : Int(k))
    }

    /// exp(+-m 2^e). - Precondition: below 2^20.
    static func exp(isNegative: Bool, _ m: UInt64, _ e: Int, _ limbs: Int) -> Enclosure {
        let (v, k) = exp(FixedPoint(m, exponent: e, fractionLimbs: limbs), isNegative: isNegative)
        return Enclosure(value: v, exponent: k)
    }

    /// exp(+-m 2^e) - 1, with small results relative to themselves.
    static func expm1(isNegative: Bool, _ m: UInt64, _ e: Int, _ limbs: Int) -> Enclosure {
        let x = FixedPoint(m, exponent: e, fractionLimbs: limbs)
        let one = FixedPoint(1, fractionLimbs: limbs)
        if x < one >> 5 {
            // x (1 + x/2! + x^2/3! + ...), the powers of x under its sign.
            var sum = one
            var term = one
            var n: UInt64 = 2
            while true {
                term = (term * x) / n
                if term.isZero { break }
                sum = isNegative && n % 2 == 0 ? sum - term : sum + term
                n += 1
            }
            return Enclosure(isNegative: isNegative, value: sum * m, exponent: e, error: m << 10)
        }
        let (v, k) = exp(x, isNegative: isNegative)
        // v 2^k - 1 = (v - 2^-k) 2^k, and 1 - v 2^k for a negative argument.
        if isNegative { return Enclosure(isNegative: true, value: one - (v >> -k)) }
        return Enclosure(value: v - (one >> k), exponent: k)
    }

    // MARK: log

    /// log1p(+-d) / (+-d) for 0 <= d < 2^-6: 1 -+ d/2 + d^2/3 -+ ...
    private static func log1pRatio(_ d: FixedPoint, isNegative: Bool) -> FixedPoint {
        var sum = FixedPoint(1, fractionLimbs: d.fractionLimbs)
        var power = sum
        var n: UInt64 = 2
        while true {
            power = power * d
            if power.isZero { return sum }
            sum = !isNegative && n % 2 == 0 ? sum - power / n : sum + power / n
            n += 1
        }
    }

    /// log(2^k f) for f in [1, 2), f exact. The interval of f selects c = 128...256 with f c / 256 = 1 + d, |d| < 2^-7: log = k ln 2 +
    /// ln(256 / c) + log1p(d).
    ///
    /// - Precondition: 2^k f is not within 2^-8 of 1: there the terms would cancel.
    private static func log(_ f: FixedPoint, k: Int) -> Enclosure {
        let limbs = f.fractionLimbs
        let one = FixedPoint(1, fractionLimbs: limbs)
        let c = LogarithmTable.multiplier(interval: Int(f.leadingFraction >> 57))
        let product = (f * UInt64(c)) >> 8
        let isNegative = product < one
        let d = isNegative ? one - product : product - one
        let series = d * log1pRatio(d, isNegative: isNegative)
        let tail = LogarithmTable.logarithm(multiplier: c, limbs)
        let scaled = constants.ln2(limbs) * UInt64(k.magnitude)
        if k >= 0 {
            let sum = scaled + tail
            return Enclosure(value: isNegative ? sum - series : sum + series)
        }
        // Below 1: |k| ln 2 - ln(256/c) -+ series, which is positive.
        return Enclosure(isNegative: true, value: isNegative ? scaled + series - tail : scaled - tail - series)
    }

    /// log(m 2^e), m > 0, not 1.
    static func log(_ m: UInt64, _ e: Int, _ limbs: Int) -> Enclosure {
        let width = 64 - m.leadingZeroBitCount
        let k = e + width - 1
        // Near 1: x - 1 is exact, and the result is relative to it.
        if (k == 0 && m - (1 << UInt64(width - 1)) < 1 << UInt64(max(0, width - 8)))
            || (k == -1 && m >> UInt64(max(0, width - 8)) == 255)
        {
            let unit: UInt64 = k == 0 ? 1 << UInt64(width - 1) : 1 << UInt64(width)
            return log1p(isNegative: m < unit, m < unit ? unit - m : m - unit, e, limbs)
        }
        return log(FixedPoint(m, exponent: -(width - 1), fractionLimbs: limbs), k: k)
    }

    /// log1p(+-m 2^e), above -1, not 0, m below 2^32.
    static func log1p(isNegative: Bool, _ m: UInt64, _ e: Int, _ limbs: Int) -> Enclosure {
        let top = e + 63 - m.leadingZeroBitCount
        if top < -7 {
            let ratio = log1pRatio(FixedPoint(m, exponent: e, fractionLimbs: limbs), isNegative: isNegative)
            return Enclosure(isNegative: isNegative, value: ratio * m, exponent: e, error: m << 10)
        }
        if !isNegative {
            // 1 + x in [2^k, 2^(k+1)), exact in limbs once scaled.
            var k = max(top, 0)
            var f =
                FixedPoint(m, exponent: e - k, fractionLimbs: limbs) + FixedPoint(1, exponent: -k, fractionLimbs: limbs)
            if f.integer >= 2 {
                f = f >> 1
                k += 1
            }
            return log(f, k: k)
        }
        var f = FixedPoint(1, fractionLimbs: limbs) - FixedPoint(m, exponent: e, fractionLimbs: limbs)
        var k = 0
        while f.integer == 0 {
            f = f * 2
            k -= 1
        }
        return log(f, k: k)
    }

    // MARK: sin, cos

    /// sin(w) / w and cos(w) from u = w^2, for u < 1: 1 - u/3! + u^2/5! - ..., 1 - u/2! + u^2/4! - ...
    private static func alternating(_ u: FixedPoint, firstDivisor: UInt64) -> FixedPoint {
        var positive = FixedPoint(1, fractionLimbs: u.fractionLimbs)
        var negative = FixedPoint(0, fractionLimbs: u.fractionLimbs)
        var term = positive
        var n = firstDivisor
        var isNegative = true
        while true {
            term = (term * u) / (n * (n + 1))
            if term.isZero { return positive - negative }
            if isNegative { negative = negative + term } else { positive = positive + term }
            isNegative.toggle()
            n += 2
        }
    }

    /// sin(w), w < 1, absolutely.
    static func sine(_ w: FixedPoint) -> FixedPoint { w * alternating(w * w, firstDivisor: 2) }

    /// cos(w), w < 1, absolutely.
    static func cosine(_ w: FixedPoint) -> FixedPoint { alternating(w * w, firstDivisor: 1) }

    /// sin(pi m 2^e) for 0 < m 2^e <= 1/4, relative to itself.
    static func sinPi(_ m: UInt64, _ e: Int, _ limbs: Int) -> Enclosure {
        let pi = constants.pi(limbs)
        let w = FixedPoint(m, exponent: e, fractionLimbs: limbs) * pi
        return Enclosure(value: (pi * alternating(w * w, firstDivisor: 2)) * m, exponent: e, error: m << 11)
    }

    /// cos(pi m 2^e) for 0 < m 2^e <= 1/4.
    static func cosPi(_ m: UInt64, _ e: Int, _ limbs: Int) -> Enclosure {
        let w = FixedPoint(m, exponent: e, fractionLimbs: limbs) * constants.pi(limbs)
        return Enclosure(value: cosine(w))
    }

    /// sin(m 2^e) for 0 < m 2^e < 1, relative to itself.
    static func sin(_ m: UInt64, _ e: Int, _ limbs: Int) -> Enclosure {
        let w = FixedPoint(m, exponent: e, fractionLimbs: limbs)
        return Enclosure(value: alternating(w * w, firstDivisor: 2) * m, exponent: e, error: m << 10)
    }

    /// m 2^e modulo a quarter turn: the number of quarter turns modulo 4, and the rest in radians, below pi / 2. For any finite binary64:
    /// 2/pi is taken to as many limbs as the exponent needs.
    static func quarterTurns(_ m: UInt64, _ e: Int, _ limbs: Int) -> (quadrant: Int, rest: FixedPoint) {
        let extra = max(0, e) / 64 + 2
        let wide = limbs + extra
        // 1/pi by Newton's iteration y <- y (2 - pi y), which doubles the correct bits; then turns = 2/pi * m * 2^e.
        let pi = constants.pi(wide)
        let two = FixedPoint(2, fractionLimbs: wide)
        var inverse = FixedPoint(0x517C_C1B7_2722_0A94, exponent: -64, fractionLimbs: wide)
        for _ in 0..<(64 - wide.leadingZeroBitCount + 1) { inverse = inverse * (two - pi * inverse) }
        var quarters = inverse * 2
        if e >= 0 {
            quarters = quarters.shiftedLeft(e)
        } else {
            quarters = quarters >> -e
        }
        quarters = quarters.timesModulo(m)
        let quadrant = Int(quarters.integer % 4)
        let rest = quarters.fraction.cut(to: limbs) * (constants.pi(limbs) >> 1)
        return (quadrant, rest)
    }

    // MARK: Constants, kept

    static let constants = ConstantCache()
}

extension FixedPoint {
    /// value * 2^count modulo 2^64.
    func shiftedLeft(_ count: Int) -> FixedPoint {
        let (limbShift, bitShift) = (count / 64, UInt64(count % 64))
        var shifted = [UInt64](repeating: 0, count: limbs.count)
        for i in limbs.indices where i >= limbShift {
            let low = limbs[i - limbShift] << bitShift
            let next = bitShift > 0 && i > limbShift ? limbs[i - limbShift - 1] >> (64 - bitShift) : 0
            shifted[i] = low | next
        }
        return FixedPoint(limbs: shifted)
    }

    /// value * factor modulo 2^64.
    func timesModulo(_ factor: UInt64) -> FixedPoint {
        var result = [UInt64](repeating: 0, count: limbs.count)
        var carry: UInt64 = 0
        for i in limbs.indices {
            let (high, low) = limbs[i].multipliedFullWidth(by: factor)
            let (sum, overflow) = low.addingReportingOverflow(carry)
            result[i] = sum
            carry = high &+ (overflow ? 1 : 0)
        }
        return FixedPoint(limbs: result)
    }

    /// The same number with fewer fraction limbs, truncated.
    func cut(to fractionLimbs: Int) -> FixedPoint {
        FixedPoint(limbs: Array(limbs[(self.fractionLimbs - fractionLimbs)...]))
    }
}
