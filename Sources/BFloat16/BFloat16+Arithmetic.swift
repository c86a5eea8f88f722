// B3: addition, subtraction, multiplication, division, square root, fused multiply-add. Each forms the exact result, or enough of it and
// a sticky bit, and rounds once.

extension BFloat16 {
    /// a + b, correctly rounded (B3).
    ///
    /// Edge cases: infinity + (-infinity) is NaN and invalid; the sum of opposite equals is +0, -0 under ``RoundingMode/down``;
    /// -0 + -0 is -0. A subnormal sum is exact, so addition never raises underflow.
    @inlinable
    public static func add(
        _ a: BFloat16, _ b: BFloat16, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding,
        flags: inout Flags
    ) -> BFloat16 {
        if a.isNaN || b.isNaN { return propagatedNaN(a, b, &flags) }
        if a.isInfinite {
            return b.isInfinite && a.isNegative != b.isNegative ? invalidOperation(&flags) : a
        }
        if b.isInfinite { return b }
        return sum(
            a.isNegative, a.significandInteger, a.unitExponent, b.isNegative, b.significandInteger, b.unitExponent,
            rounding, tininess, &flags)
    }

    /// a - b = a + (-b), correctly rounded (B3). Edge cases as in ``add(_:_:rounding:tininess:flags:)``.
    @inlinable
    public static func subtract(
        _ a: BFloat16, _ b: BFloat16, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding,
        flags: inout Flags
    ) -> BFloat16 {
        add(a, BFloat16(bitPattern: b.bitPattern ^ signMask), rounding: rounding, tininess: tininess, flags: &flags)
    }

    /// a * b, correctly rounded (B3). 0 * infinity is NaN and invalid; a zero product has the exclusive or of the signs.
    @inlinable
    public static func multiply(
        _ a: BFloat16, _ b: BFloat16, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding,
        flags: inout Flags
    ) -> BFloat16 {
        if a.isNaN || b.isNaN { return propagatedNaN(a, b, &flags) }
        let negative = a.isNegative != b.isNegative
        if a.isInfinite || b.isInfinite {
            return a.isZero || b.isZero ? invalidOperation(&flags) : signed(negative, infinityBits)
        }
        let product = a.significandInteger &* b.significandInteger
        if product == 0 { return signed(negative, 0) }
        return rounded(
            negative: negative, significand: product, exponent: a.unitExponent + b.unitExponent, sticky: false,
            rounding, tininess, &flags)
    }

    /// a / b, correctly rounded (B3).
    ///
    /// Edge cases: x / 0 is an infinity and raises divideByZero for finite x, nothing for infinite x; 0 / 0 and infinity / infinity are
    /// NaN and invalid. A zero or infinite quotient has the exclusive or of the signs.
    @inlinable
    public static func divide(
        _ a: BFloat16, _ b: BFloat16, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding,
        flags: inout Flags
    ) -> BFloat16 {
        if a.isNaN || b.isNaN { return propagatedNaN(a, b, &flags) }
        let negative = a.isNegative != b.isNegative
        if a.isInfinite { return b.isInfinite ? invalidOperation(&flags) : signed(negative, infinityBits) }
        if b.isInfinite { return signed(negative, 0) }
        if b.isZero {
            if a.isZero { return invalidOperation(&flags) }
            flags.insert(.divideByZero)
            return signed(negative, infinityBits)
        }
        if a.isZero { return signed(negative, 0) }
        // 32 more places: the quotient has at least 25 bits, and the remainder is the sticky bit.
        let dividend = a.significandInteger << 32
        let (quotient, remainder) = dividend.quotientAndRemainder(dividingBy: b.significandInteger)
        return rounded(
            negative: negative, significand: quotient, exponent: a.unitExponent - b.unitExponent - 32,
            sticky: remainder != 0, rounding, tininess, &flags)
    }

    /// The square root, correctly rounded (B3). sqrt(-0) is -0; below zero it is NaN and invalid. No square root overflows or is
    /// subnormal, so `tininess` cannot matter.
    @inlinable
    public static func squareRoot(
        _ a: BFloat16, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding, flags: inout Flags
    ) -> BFloat16 {
        if a.isNaN { return propagatedNaN(a, &flags) }
        if a.isZero { return a }
        if a.isNegative { return invalidOperation(&flags) }
        if a.isInfinite { return a }
        // 54 or 55 more places, so that the exponent is even: the root has at least 28 bits.
        let places = a.unitExponent.isMultiple(of: 2) ? 54 : 55
        let radicand = a.significandInteger << UInt64(places)
        let root = integerSquareRoot(radicand)
        return rounded(
            negative: false, significand: root, exponent: (a.unitExponent - places) / 2,
            sticky: root * root != radicand, rounding, tininess, &flags)
    }

    /// a * b + c, rounded once (B3).
    ///
    /// Edge cases: 0 * infinity is NaN and invalid whatever c is, a quiet NaN included. An exact zero has the sign of both terms where they
    /// agree, and otherwise is +0, -0 under ``RoundingMode/down``.
    @inlinable
    public static func fusedMultiplyAdd(
        _ a: BFloat16, _ b: BFloat16, _ c: BFloat16, rounding: RoundingMode = .nearestEven,
        tininess: Tininess = .afterRounding, flags: inout Flags
    ) -> BFloat16 {
        if (a.isInfinite && b.isZero) || (a.isZero && b.isInfinite) { return invalidOperation(&flags) }
        if a.isNaN || b.isNaN || c.isNaN {
            return propagatedNaN(
                signalling: a.isSignalingNaN || b.isSignalingNaN || c.isSignalingNaN, &flags)
        }
        let negative = a.isNegative != b.isNegative
        if a.isInfinite || b.isInfinite {
            return c.isInfinite && c.isNegative != negative
                ? invalidOperation(&flags) : signed(negative, infinityBits)
        }
        if c.isInfinite { return c }
        return sum(
            negative, a.significandInteger &* b.significandInteger, a.unitExponent + b.unitExponent, c.isNegative,
            c.significandInteger, c.unitExponent, rounding, tininess, &flags)
    }

    // MARK: Parts

    /// The sum of two finite terms (-1)^n s 2^e, s of at most 16 bits, correctly rounded.
    @inlinable
    static func sum(
        _ n1: Bool, _ s1: UInt64, _ e1: Int, _ n2: Bool, _ s2: UInt64, _ e2: Int, _ mode: RoundingMode,
        _ tininess: Tininess, _ flags: inout Flags
    ) -> BFloat16 {
        if s1 == 0 && s2 == 0 { return signed(n1 == n2 ? n1 : mode == .down, 0) }
        // A zero is in the unit of the other term, so that it costs that one nothing.
        return alignedSum(
            n1, s1, s1 == 0 ? e2 : e1, n2, s2, s2 == 0 ? e1 : e2, mode, tininess, &flags)
    }

    /// ``sum(_:_:_:_:_:_:_:_:_:)`` of terms that are not both zero.
    @inlinable
    static func alignedSum(
        _ n1: Bool, _ s1: UInt64, _ e1: Int, _ n2: Bool, _ s2: UInt64, _ e2: Int, _ mode: RoundingMode,
        _ tininess: Tininess, _ flags: inout Flags
    ) -> BFloat16 {
        let firstIsHigher = e1 >= e2
        let (highNegative, highSignificand, highExponent) = firstIsHigher ? (n1, s1, e1) : (n2, s2, e2)
        let (lowNegative, lowSignificand, lowExponent) = firstIsHigher ? (n2, s2, e2) : (n1, s1, e1)
        // The term with the higher unit gets up to 46 more places, 62 bits in all. What lies lower still of the other, which is then
        // far below, is the sticky bit.
        let places = min(highExponent - lowExponent, 46)
        let exponent = highExponent - places
        let lost = UInt64(truncatingIfNeeded: min(exponent - lowExponent, 63))
        let high = highSignificand &<< UInt64(truncatingIfNeeded: places)
        let low = lowSignificand &>> lost
        let sticky = low &<< lost != lowSignificand
        if highNegative == lowNegative {
            return rounded(
                negative: highNegative, significand: high + low, exponent: exponent, sticky: sticky, mode, tininess,
                &flags)
        }
        if high < low {  // only where nothing is lost
            return rounded(
                negative: lowNegative, significand: low - high, exponent: exponent, sticky: false, mode, tininess,
                &flags)
        }
        // high - (low + d) = (high - low - 1) + (1 - d) with 0 < d < 1.
        let difference = high - low - (sticky ? 1 : 0)
        if difference == 0 { return signed(mode == .down, 0) }
        return rounded(
            negative: highNegative, significand: difference, exponent: exponent, sticky: sticky, mode, tininess, &flags)
    }

    /// floor(sqrt(n)), bit by bit.
    @inlinable
    static func integerSquareRoot(_ n: UInt64) -> UInt64 {
        var root: UInt64 = 0
        var rest = n
        var bit: UInt64 = 1 << 62
        while bit > n { bit >>= 2 }
        while bit != 0 {
            if rest >= root + bit {
                rest -= root + bit
                root = (root >> 1) + bit
            } else {
                root >>= 1
            }
            bit >>= 2
        }
        return root
    }

    @inlinable
    static func propagatedNaN(_ a: BFloat16, _ flags: inout Flags) -> BFloat16 {
        propagatedNaN(signalling: a.isSignalingNaN, &flags)
    }

    @inlinable
    static func propagatedNaN(_ a: BFloat16, _ b: BFloat16, _ flags: inout Flags) -> BFloat16 {
        propagatedNaN(signalling: a.isSignalingNaN || b.isSignalingNaN, &flags)
    }
}
