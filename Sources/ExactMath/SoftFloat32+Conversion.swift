extension SoftFloat32 {
    /// bf16(`x`): `x` rounded to nearest even to the 8 significant bits of bfloat16, gradual underflow (F4, B5).
    ///
    /// Returns the 16 bits. A NaN gives 0x7FC0; a magnitude that rounds to 2^128 gives infinity; zeros keep their sign.
    public static func roundToBFloat16(_ x: Float) -> UInt16 {
        if isNaN(x) { return 0x7FC0 }
        // bfloat16 is the upper half of binary32: add just under half a unit, or exactly half above an odd last bit.
        let isOdd = (x.bitPattern >> 16) & 1
        return UInt16((x.bitPattern + 0x7FFF + isOdd) >> 16)
    }

    /// fp16(`x`): `x` rounded to nearest even to the 11 significant bits of binary16, gradual underflow (F4).
    ///
    /// Returns the 16 bits. A NaN gives 0x7E00; a magnitude of 65520 or more gives infinity; zeros keep their sign.
    public static func roundToFloat16(_ x: Float) -> UInt16 {
        if isNaN(x) { return 0x7E00 }
        let sign = UInt16(x.bitPattern >> 16) & 0x8000
        let magnitude = x.bitPattern & 0x7FFF_FFFF
        // 65520, half way between the greatest finite number and the next power of two.
        if magnitude >= 0x477F_F000 { return sign | 0x7C00 }
        // The significand as an integer, in units of 2^-24 where the result is subnormal, of its own last place elsewhere.
        let exponent = Int(magnitude >> 23)
        let significand = exponent == 0 ? magnitude : magnitude & 0x007F_FFFF | 0x0080_0000
        let dropped = max(13, 126 - max(exponent, 1))
        if dropped > 25 { return sign }  // Below half of 2^-24.
        let kept = significand >> UInt32(dropped)
        let rest = significand & (1 << UInt32(dropped) - 1)
        let half = UInt32(1) << UInt32(dropped - 1)
        let rounded = kept + (rest > half || rest == half && kept & 1 == 1 ? 1 : 0)
        // A normal result carries its leading bit into the exponent field; a carry out of the significand goes there too.
        let field = exponent < 113 ? 0 : UInt32(exponent - 113) << 10
        return sign | UInt16(field + rounded)
    }

    /// The binary32 value of a bfloat16, given as its 16 bits: exact (F1). A NaN becomes canonical.
    public static func convert(bfloat16Bits: UInt16) -> Float {
        let x = Float(bitPattern: UInt32(bfloat16Bits) << 16)
        return isNaN(x) ? canonicalNaN : x
    }

    /// RNE32(`x`), gradual underflow. A NaN becomes canonical; infinities and zeros keep their sign.
    public static func convert(_ x: Double) -> Float {
        let bits = x.bitPattern
        let sign = UInt32(bits >> 63) << 31
        let biasedExponent = Int(bits >> 52) & 0x7FF
        let fraction = bits & 0x000F_FFFF_FFFF_FFFF
        if biasedExponent == 0x7FF { return fraction == 0 ? infinity(sign: sign) : canonicalNaN }
        if biasedExponent == 0 { return Unrounded(sign: sign, exponent: -1074, significand: fraction).rounded }
        return Unrounded(sign: sign, exponent: biasedExponent - 1075, significand: fraction | 1 << 52).rounded
    }

    /// RNE32(`n`). Zero gives +0.
    public static func convert(_ n: Int64) -> Float {
        Unrounded(sign: n < 0 ? signMask : 0, exponent: 0, significand: n.magnitude).rounded
    }

    /// RNE32(`n`). Zero gives +0.
    public static func convert(_ n: UInt64) -> Float {
        Unrounded(sign: 0, exponent: 0, significand: n).rounded
    }

    /// RNE32(1/`n`), rounded once from the exact quotient, also where `n` itself is not a binary32 number. 1/0 is +infinity.
    public static func reciprocal(of n: UInt64) -> Float {
        if n == 0 { return infinity(sign: 0) }
        // 2^126 over a number with its leading bit at 63: a quotient of 63 bits or, for a power of two, exactly 2^63.
        let shift = n.leadingZeroBitCount
        let (quotient, remainder) = (UInt128(1) << 126).quotientAndRemainder(dividingBy: UInt128(n << UInt64(shift)))
        return Unrounded(
            sign: 0, exponent: shift - 126, significand: UInt64(quotient) | (remainder == 0 ? 0 : 1)
        ).rounded
    }

    /// RNE32(sqrt(`n`)), rounded once from the exact root, also where `n` itself is not a binary32 number.
    public static func squareRoot(of n: UInt64) -> Float {
        if n == 0 { return zero(sign: 0) }
        // An even shift to 63 or 64 bits: a root of 32 bits.
        let shift = n.leadingZeroBitCount & ~1
        let (root, isExact) = integerSquareRoot(n << UInt64(shift))
        return Unrounded(sign: 0, exponent: -shift / 2, significand: root | (isExact ? 0 : 1)).rounded
    }
}
