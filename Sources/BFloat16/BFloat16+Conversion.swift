// B5: conversions from and to binary16, binary32, binary64 and the integers, on bit patterns.

extension BFloat16 {
    // MARK: To bf16

    /// From binary16 bits, rounded once. Only the significand is narrower: 11 bits to 8; there is no overflow and no underflow.
    public static func convert(
        float16Bits bits: UInt16, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding,
        flags: inout Flags
    ) -> BFloat16 {
        convert(UInt64(bits), exponentBits: 5, fractionBits: 10, rounding, tininess, &flags)
    }

    /// From binary32 bits, rounded once.
    @inlinable
    public static func convert(
        floatBits bits: UInt32, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding,
        flags: inout Flags
    ) -> BFloat16 {
        convert(UInt64(bits), exponentBits: 8, fractionBits: 23, rounding, tininess, &flags)
    }

    /// From binary64 bits, rounded once (never through binary32).
    public static func convert(
        doubleBits bits: UInt64, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding,
        flags: inout Flags
    ) -> BFloat16 {
        convert(bits, exponentBits: 11, fractionBits: 52, rounding, tininess, &flags)
    }

    /// From an integer of any width, rounded once; 0 gives +0. Integers of at most 64 bits cannot overflow, none underflows.
    public static func convert<Integer: BinaryInteger>(
        _ value: Integer, rounding: RoundingMode = .nearestEven, flags: inout Flags
    ) -> BFloat16 {
        if value == 0 { return signed(false, 0) }
        let (significand, exponent, sticky) = leadingBits(of: value.magnitude)
        return rounded(
            negative: value < 0, significand: significand, exponent: exponent, sticky: sticky, rounding,
            .afterRounding, &flags)
    }

    /// n = (significand + d) 2^exponent, 0 < d < 1 if `sticky`, else d = 0; a significand of at least 32 bits where anything is lost.
    static func leadingBits(of n: some BinaryInteger) -> (significand: UInt64, exponent: Int, sticky: Bool) {
        if let small = UInt64(exactly: n) { return (small, 0, false) }
        // The highest 64-bit piece that is not zero and the one below it, as many bits of each as make 64.
        let mask = type(of: n).init(truncatingIfNeeded: UInt64.max)
        var pieces: [UInt64] = []
        var rest = n
        while rest != 0 {
            pieces.append(UInt64(truncatingIfNeeded: rest & mask))
            rest >>= 64
        }
        let top = pieces[pieces.count - 1]
        let next = pieces[pieces.count - 2]
        let shift = UInt64(top.leadingZeroBitCount)
        let significand = shift == 0 ? top : top << shift | next >> (64 - shift)
        let sticky = next << shift != 0 || pieces.dropLast(2).contains { $0 != 0 }
        return (significand, 64 * (pieces.count - 1) - Int(shift), sticky)
    }

    /// From an IEEE 754 binary interchange format of at most 64 bits.
    @inlinable
    static func convert(
        _ bits: UInt64, exponentBits: Int, fractionBits: Int, _ mode: RoundingMode, _ tininess: Tininess,
        _ flags: inout Flags
    ) -> BFloat16 {
        let negative = bits >> UInt64(exponentBits + fractionBits) & 1 == 1
        let greatest = (1 << exponentBits) - 1
        let biased = Int(bits >> UInt64(fractionBits)) & greatest
        let fraction = bits & ((1 << UInt64(fractionBits)) - 1)
        if biased == greatest {
            if fraction == 0 { return signed(negative, infinityBits) }
            return propagatedNaN(signalling: fraction >> UInt64(fractionBits - 1) == 0, &flags)
        }
        let significand = biased == 0 ? fraction : fraction | 1 << UInt64(fractionBits)
        if significand == 0 { return signed(negative, 0) }
        let bias = greatest >> 1
        return rounded(
            negative: negative, significand: significand, exponent: max(biased, 1) - bias - fractionBits,
            sticky: false, mode, tininess, &flags)
    }

    // MARK: From bf16

    /// The binary32 bits; exact. NaN gives 0x7FC00000, a signalling one raises invalid.
    @inlinable
    public static func toFloatBits(_ x: BFloat16, flags: inout Flags) -> UInt32 {
        UInt32(x.isNaN ? propagatedNaN(x, &flags).bitPattern : x.bitPattern) << 16
    }

    /// The binary64 bits; exact. NaN gives 0x7FF8000000000000, a signalling one raises invalid.
    public static func toDoubleBits(_ x: BFloat16, flags: inout Flags) -> UInt64 {
        if x.isNaN {
            _ = propagatedNaN(x, &flags)
            return 0x7FF8_0000_0000_0000
        }
        let sign: UInt64 = x.isNegative ? 1 << 63 : 0
        if x.isInfinite { return sign | 0x7FF0_0000_0000_0000 }
        if x.isZero { return sign }
        // Subnormals of bf16 are normal here; the leading 1 adds 1 to the exponent field.
        let exponent = x.leadingExponent
        let fraction = x.significandInteger << UInt64(52 - (exponent - x.unitExponent))
        return sign | UInt64(exponent + 1022) << 52 + fraction
    }

    /// The binary16 bits, rounded in the mode. NaN gives 0x7E00, a signalling one raises invalid.
    ///
    /// 8 bits always fit 11, so only the range is lost: a magnitude of 2^16 or more overflows; below 2^-14 the result is a multiple of
    /// 2^-24, and an inexact one raises underflow, whichever way tininess is detected (8 bits cannot round up to 2^-14).
    /// - Throws: ``RefusedRounding`` for stochastic rounding.
    public static func toFloat16Bits(
        _ x: BFloat16, rounding: RoundingMode = .nearestEven, tininess: Tininess = .afterRounding, flags: inout Flags
    ) throws(RefusedRounding) -> UInt16 {
        if rounding.isStochastic { throw RefusedRounding(operation: "toFloat16Bits") }
        if x.isNaN {
            _ = propagatedNaN(x, &flags)
            return 0x7E00
        }
        let sign: UInt16 = x.isNegative ? 0x8000 : 0
        if x.isInfinite { return sign | 0x7C00 }
        if x.isZero { return sign }
        let exponent = x.leadingExponent
        if exponent > 15 {
            flags.formUnion([.overflow, .inexact])
            return sign | (overflowBits(negative: x.isNegative, rounding) == infinityBits ? 0x7C00 : 0x7BFF)
        }
        if exponent >= -14 {
            let fraction = x.significandInteger << UInt64(10 - (exponent - x.unitExponent))
            return sign | UInt16(exponent + 14) << 10 + UInt16(fraction)
        }
        let (kept, isInexact, roundsUp) = split(
            x.significandInteger, at: -24 - x.unitExponent, sticky: false, negative: x.isNegative, rounding)
        if isInexact { flags.formUnion([.inexact, .underflow]) }
        return sign | UInt16(kept + (roundsUp ? 1 : 0))
    }

    /// The integer, rounded in the mode; what the type does not hold saturates (B5).
    ///
    /// NaN gives 0. NaN, infinities and saturation raise invalid alone; otherwise a changed value raises inexact. -0 gives 0.
    /// The value is judged after rounding: -0.5 fits UInt8 under `rtz` (0, inexact) and saturates under `rdn` (0, invalid).
    /// - Throws: ``RefusedRounding`` for stochastic rounding.
    public static func toInteger<Integer: FixedWidthInteger>(
        _ x: BFloat16, as type: Integer.Type = Integer.self, rounding: RoundingMode = .nearestEven, flags: inout Flags
    ) throws(RefusedRounding) -> Integer {
        if rounding.isStochastic { throw RefusedRounding(operation: "toInteger") }
        if x.isNaN {
            flags.insert(.invalid)
            return 0
        }
        let saturated: Integer = x.isNegative ? .min : .max
        if x.isInfinite {
            flags.insert(.invalid)
            return saturated
        }
        // |x| rounded = units * 2^places, units <= 255.
        let places = max(x.unitExponent, 0)
        let (kept, isInexact, roundsUp) = split(
            x.significandInteger, at: places - x.unitExponent, sticky: false, negative: x.isNegative, rounding)
        let units = kept + (roundsUp ? 1 : 0)
        let width = units == 0 ? 0 : 64 - units.leadingZeroBitCount + places
        let greatest = saturated.magnitude
        guard width <= Integer.bitWidth, Integer.Magnitude(truncatingIfNeeded: units) << places <= greatest else {
            flags.insert(.invalid)
            return saturated
        }
        if isInexact { flags.insert(.inexact) }
        let magnitude = Integer(truncatingIfNeeded: Integer.Magnitude(truncatingIfNeeded: units) << places)
        return x.isNegative ? 0 &- magnitude : magnitude
    }
}

extension Float {
    /// The same value (F1); a NaN becomes 0x7FC00000.
    @inlinable
    public init(_ x: BFloat16) {
        var flags: Flags = []
        self.init(bitPattern: BFloat16.toFloatBits(x, flags: &flags))
    }
}

extension Double {
    /// The same value; a NaN becomes 0x7FF8000000000000.
    public init(_ x: BFloat16) {
        var flags: Flags = []
        self.init(bitPattern: BFloat16.toDoubleBits(x, flags: &flags))
    }
}
