import BFloat16

// The second derivation of B5 (B6): sources as exact doubles (64-bit integers rounded to odd), integer targets judged on doubles.

enum SecondConversion {
    static func float16(_ bits: UInt16) -> ExactResult {
        let negative = bits & 0x8000 != 0
        let (field, fraction) = (Int(bits >> 10 & 31), Int(bits & 0x3FF))
        if field == 31 {
            if fraction == 0 { return .decided(negative ? 0xFF80 : 0x7F80, []) }
            return .decided(0x7FC0, fraction < 0x200 ? .invalid : [])
        }
        let magnitude = field == 0 ? Double(fraction) * power(-24) : Double(fraction + 1024) * power(field - 25)
        if magnitude == 0 { return .decided(negative ? 0x8000 : 0, []) }
        return .value(magnitude, negative: negative)
    }

    @inline(__always)
    static func float(_ bits: UInt32) -> ExactResult {
        let x = Float(bitPattern: bits)
        let sign = UInt16(truncatingIfNeeded: bits >> 16) & 0x8000
        if x.isNaN { return .decided(0x7FC0, bits & 0x40_0000 == 0 ? .invalid : []) }
        if x.isInfinite { return .decided(sign | 0x7F80, []) }
        if x == 0 { return .decided(sign, []) }
        return .value(Double(x.magnitude), negative: x < 0)
    }

    static func double(_ bits: UInt64) -> ExactResult {
        let x = Double(bitPattern: bits)
        let sign: UInt16 = bits >> 63 == 1 ? 0x8000 : 0
        if x.isNaN { return .decided(0x7FC0, bits >> 51 & 1 == 0 ? .invalid : []) }
        if x.isInfinite { return .decided(sign | 0x7F80, []) }
        if x == 0 { return .decided(sign, []) }
        // Everything below 2^-300 rounds alike; a normal double is easier.
        return .value(max(x.magnitude, power(-300)), negative: x < 0)
    }

    @inline(__always)
    static func integer(negative: Bool, magnitude: UInt64) -> ExactResult {
        if magnitude == 0 { return .decided(0, []) }
        // 32 bits each, so both are exact; their sum has an error that is a double too.
        let (high, low) = (Double(magnitude >> 32) * power(32), Double(magnitude & 0xFFFF_FFFF))
        let total = high + low
        return .value(roundedToOdd(total, error: low - (total - high)), negative: negative)
    }

    /// The integer's bits (two's complement, 64 of them) and the flags.
    static func toInteger(
        _ a: UInt16, width: Int, isSigned: Bool, _ mode: RoundingMode
    ) -> (UInt64, Flags) {
        if isNotANumber(a) { return (0, .invalid) }
        let x = Prover.double(a)
        let result = SecondSelection.integral(x, mode)
        let upperEnd = power(isSigned ? width - 1 : width)  // not in the type
        let lowerEnd = isSigned ? -power(width - 1) : 0  // in the type
        if result >= upperEnd {
            return (isSigned ? (1 << UInt64(width - 1)) - 1 : UInt64.max >> UInt64(64 - width), .invalid)
        }
        if result < lowerEnd { return (isSigned ? UInt64.max << UInt64(width - 1) : 0, .invalid) }
        let bits = result < 0 ? UInt64(bitPattern: Int64(result)) : UInt64(result)
        return (bits, result == x ? [] : .inexact)
    }

    static func toFloat16(_ a: UInt16, _ mode: RoundingMode, _ tininess: Tininess) -> (UInt64, Flags) {
        if isNotANumber(a) { return (0x7E00, isSignalling(a) ? .invalid : []) }
        let x = Prover.double(a)
        let sign: UInt64 = a & 0x8000 != 0 ? 0x8000 : 0
        if x.isInfinite { return (sign | 0x7C00, []) }
        if x == 0 { return (sign, []) }
        let (value, flags) = SecondFormat.float16.round(x.magnitude, negative: x < 0, mode, tininess)
        if value.isInfinite { return (sign | 0x7C00, flags) }
        if value == 0 { return (sign, flags) }
        // In units of 2^-24 below 2^-14; above, the exponent field counts binades.
        if value < power(-14) { return (sign | UInt64(value * power(24)), flags) }
        let binade = exponent(of: value)
        return (sign | UInt64(binade + 15) << 10 | UInt64((value * power(-binade) - 1) * 1024), flags)
    }

    static func toFloat(_ a: UInt16) -> (UInt64, Flags) {
        if isNotANumber(a) { return (0x7FC0_0000, isSignalling(a) ? .invalid : []) }
        return (UInt64(a) << 16, [])
    }

    /// Through the hardware's conversion from float.
    static func toDouble(_ a: UInt16) -> (UInt64, Flags) {
        if isNotANumber(a) { return (0x7FF8_0000_0000_0000, isSignalling(a) ? .invalid : []) }
        return (Prover.double(a).bitPattern, [])
    }
}
