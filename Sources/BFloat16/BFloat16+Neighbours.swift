// B4: integral values, neighbours, scaling.

extension BFloat16 {
    /// x rounded to an integral value in the mode (B4, B3): to odd takes the odd neighbour of a non-integer.
    ///
    /// Raises inexact when the value changes (IEEE 754 roundToIntegralExact). A zero result has x's sign. Infinities and values of at
    /// least 2^7 are integral already.
    /// - Throws: ``RefusedRounding`` for stochastic rounding.
    public static func roundToIntegral(
        _ x: BFloat16, rounding: RoundingMode = .nearestEven, flags: inout Flags
    ) throws(RefusedRounding) -> BFloat16 {
        if rounding.isStochastic { throw RefusedRounding(operation: "roundToIntegral") }
        if x.isNaN { return propagatedNaN(x, &flags) }
        if x.isInfinite || x.isZero || x.unitExponent >= 0 { return x }
        let (kept, isInexact, roundsUp) = split(
            x.significandInteger, at: -x.unitExponent, sticky: false, negative: x.isNegative, rounding)
        if isInexact { flags.insert(.inexact) }
        return exact(x.isNegative, kept + (roundsUp ? 1 : 0), 0)  // at most 128
    }

    /// The least value above x (B4).
    ///
    /// nextUp(-0) = nextUp(+0) = 2^-133; nextUp(-2^-133) = -0; nextUp of the greatest finite value is infinity, and infinity stays. A
    /// signalling NaN raises invalid; no other flag is ever raised.
    @inlinable
    public static func nextUp(_ x: BFloat16, flags: inout Flags) -> BFloat16 {
        if x.isNaN { return propagatedNaN(x, &flags) }
        if x.isZero { return BFloat16(bitPattern: 1) }
        if x.bitPattern == infinityBits { return x }
        return BFloat16(bitPattern: x.isNegative ? x.bitPattern - 1 : x.bitPattern + 1)
    }

    /// The greatest value below x (B4): -nextUp(-x).
    @inlinable
    public static func nextDown(_ x: BFloat16, flags: inout Flags) -> BFloat16 {
        if x.isNaN { return propagatedNaN(x, &flags) }
        let up = nextUp(BFloat16(bitPattern: x.bitPattern ^ signMask), flags: &flags)
        return BFloat16(bitPattern: up.bitPattern ^ signMask)
    }

    /// x * 2^n for any n, rounded once (B4; IEEE 754 scaleB). Overflow and underflow as for a product.
    public static func scalbn(
        _ x: BFloat16, _ n: Int, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding,
        flags: inout Flags
    ) -> BFloat16 {
        if x.isNaN { return propagatedNaN(x, &flags) }
        if x.isInfinite || x.isZero { return x }
        // 2^600 overflows and 2^-600 underflows every bf16, in the same way as any power beyond.
        return rounded(
            negative: x.isNegative, significand: x.significandInteger,
            exponent: x.unitExponent + min(max(n, -600), 600), sticky: false, rounding, tininess, &flags)
    }

    /// floor(log2 |x|), exact, subnormals as if they were normalised (B4; IEEE 754 logB).
    ///
    /// logb(+-0) is -infinity and raises divideByZero; logb(+-infinity) is +infinity.
    public static func logb(_ x: BFloat16, flags: inout Flags) -> BFloat16 {
        if x.isNaN { return propagatedNaN(x, &flags) }
        if x.isInfinite { return signed(false, infinityBits) }
        if x.isZero {
            flags.insert(.divideByZero)
            return signed(true, infinityBits)
        }
        let exponent = x.leadingExponent
        return exact(exponent < 0, UInt64(exponent.magnitude), 0)
    }

    /// floor(log2 |x|) of a finite x other than zero.
    @inlinable var leadingExponent: Int { unitExponent + 63 - significandInteger.leadingZeroBitCount }
}
