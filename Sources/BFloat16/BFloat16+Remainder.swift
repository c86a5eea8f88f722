// B3: the IEEE remainder, and the truncating one of the standard library.

extension BFloat16 {
    /// The IEEE remainder x - n y, n the integer nearest to the exact x / y, ties to even (B3).
    ///
    /// It is exact, so there is no rounding mode and no flag but invalid. A zero result has x's sign. x infinite or y zero: NaN and
    /// invalid. y infinite: x, whatever its size. n may have more than 250 bits; it is never formed.
    @inlinable
    public static func remainder(_ x: BFloat16, _ y: BFloat16, flags: inout Flags) -> BFloat16 {
        if x.isNaN || y.isNaN { return propagatedNaN(x, y, &flags) }
        if x.isInfinite || y.isZero { return invalidOperation(&flags) }
        if y.isInfinite || x.isZero { return x }
        // |x| modulo 2|y|, so that the parity of n is not lost: |x| = m (2|y|) + rest.
        guard let (rest, divisor, unit) = reduced(x, modulo: y, multiple: 2) else { return x }
        // n - 2m is 0, 1 or 2: the nearest integer to rest / |y|, ties to even.
        let (negative, difference) =
            if 2 * rest <= divisor {
                (x.isNegative, rest)
            } else if 2 * rest >= 3 * divisor {
                (!x.isNegative, 2 * divisor - rest)
            } else if rest >= divisor {
                (x.isNegative, rest - divisor)
            } else {
                (!x.isNegative, divisor - rest)
            }
        return exact(difference == 0 ? x.isNegative : negative, difference, unit)
    }

    /// x - n y, n the exact x / y truncated to an integer (C's fmod). Exact; edge cases as in ``remainder(_:_:flags:)``.
    @inlinable
    public static func truncatingRemainder(_ x: BFloat16, _ y: BFloat16, flags: inout Flags) -> BFloat16 {
        if x.isNaN || y.isNaN { return propagatedNaN(x, y, &flags) }
        if x.isInfinite || y.isZero { return invalidOperation(&flags) }
        if y.isInfinite || x.isZero { return x }
        guard let (rest, _, unit) = reduced(x, modulo: y, multiple: 1) else { return x }
        return exact(x.isNegative, rest, unit)
    }

    /// |x| modulo `multiple` |y|, and |y|, both in units of 2^unit; nil where |x| is so far below |y| / 2 that both remainders are x.
    @inlinable
    static func reduced(
        _ x: BFloat16, modulo y: BFloat16, multiple: UInt64
    ) -> (rest: UInt64, divisor: UInt64, unit: Int)? {
        let distance = x.unitExponent - y.unitExponent
        if distance < 0 {
            // |y| has more places in units of x: from 10 on it is above 2^10 units, and |x| below 2^8.
            if distance <= -10 { return nil }
            let divisor = y.significandInteger << UInt64(-distance)
            return (x.significandInteger % (multiple * divisor), divisor, x.unitExponent)
        }
        let divisor = y.significandInteger
        let modulus = multiple * divisor
        // s 2^distance modulo a number below 2^9, 54 places at a time.
        var rest = x.significandInteger % modulus
        var places = distance
        while places > 0 {
            let step = min(places, 54)
            rest = (rest << UInt64(step)) % modulus
            places -= step
        }
        return (rest, divisor, y.unitExponent)
    }

    /// A value that bf16 holds exactly.
    @inlinable
    static func exact(_ negative: Bool, _ significand: UInt64, _ exponent: Int) -> BFloat16 {
        if significand == 0 { return signed(negative, 0) }
        var none: Flags = []
        return rounded(
            negative: negative, significand: significand, exponent: exponent, sticky: false, .nearestEven,
            .afterRounding, &none)
    }
}
