/// A binary format as its rounding needs it.
struct BinaryFormat: Sendable {
    /// Bits of the significand, the implicit one included.
    let precision: Int
    /// Exponent of the unit in the last place of subnormals.
    let leastUnit: Int
    /// The bits of infinity.
    let infinity: UInt64

    static let binary32 = BinaryFormat(precision: 24, leastUnit: -149, infinity: 0x7F80_0000)
    static let binary64 = BinaryFormat(precision: 53, leastUnit: -1074, infinity: 0x7FF0_0000_0000_0000)

    /// The bits of (significand + d) * 2^exponent rounded once, where 0 < d < 1 if `sticky` and d = 0 if not: to nearest even, or
    /// upward; gradual underflow; infinity above the range.
    ///
    /// - Precondition: with `sticky` the significand has at least precision + 2 bits.
    func rounded(_ significand: UInt128, exponent: Int, sticky: Bool = false, upward: Bool = false) -> UInt64 {
        if significand == 0 { return 0 }
        let top = exponent + 127 - significand.leadingZeroBitCount
        let unit = max(top - (precision - 1), leastUnit)
        if top > 1100 { return infinity }
        let shift = unit - exponent
        var kept: UInt64
        if shift <= 0 {
            kept = UInt64(truncatingIfNeeded: significand << UInt128(-shift))
        } else {
            kept = shift < 128 ? UInt64(truncatingIfNeeded: significand >> UInt128(shift)) : 0
            let left = shift < 128 ? significand & ((1 << UInt128(shift)) - 1) : significand
            let half: UInt128 = shift <= 128 ? 1 << UInt128(shift - 1) : 0
            if upward {
                if left != 0 || sticky { kept += 1 }
            } else if shift <= 128 && (left > half || (left == half && (sticky || kept & 1 == 1))) {
                kept += 1
            }
        }
        // `kept` has its implicit bit, which adds one to the exponent field; a carry out of the significand does so again.
        let bits = UInt64(unit - leastUnit) << UInt64(precision - 1) + kept
        return min(bits, infinity)
    }

    /// The same of a number of many limbs, times 2^exponent.
    func rounded(_ value: FixedPoint, exponent: Int, upward: Bool = false) -> UInt64 {
        guard let highest = value.limbs.lastIndex(where: { $0 != 0 }) else { return 0 }
        // The three highest limbs hold at least 129 bits; 128 of them are taken, what is below is the sticky bit.
        func limb(_ index: Int) -> UInt64 { index >= 0 ? value.limbs[index] : 0 }
        let zeros = UInt64(limb(highest).leadingZeroBitCount)
        func window(_ high: UInt64, _ low: UInt64) -> UInt64 { zeros == 0 ? high : high << zeros | low >> (64 - zeros) }
        let high = window(limb(highest), limb(highest - 1))
        let low = window(limb(highest - 1), limb(highest - 2))
        var sticky = limb(highest - 2) << zeros != 0
        for index in 0..<max(0, highest - 2) where value.limbs[index] != 0 { sticky = true }
        let lowest = 64 * (highest - 1 - value.fractionLimbs) - Int(zeros)
        return rounded(
            UInt128(high) << 64 | UInt128(low), exponent: exponent + lowest, sticky: sticky, upward: upward)
    }
}
