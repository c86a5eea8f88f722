// B1, B2: the one place where an exact result becomes a bf16.

extension BFloat16 {
    /// Rounds v = (-1)^negative * (significand + d) * 2^exponent, where 0 < d < 1 if `sticky` and d = 0 if not.
    ///
    /// - Precondition: significand > 0; with `sticky` it has at least 24 bits, so that every number at which a mode decides (a bf16, the
    ///   middle of two, a binary32) is a whole number of units, and d only tells on which side of it v lies.
    @inlinable
    static func rounded(
        negative: Bool, significand: UInt64, exponent: Int, sticky: Bool, _ mode: RoundingMode, _ tininess: Tininess,
        _ flags: inout Flags
    ) -> BFloat16 {
        // 2^top <= |v| < 2^(top+1); the last place of the result weighs 2^unit.
        let top = exponent + 63 - significand.leadingZeroBitCount
        let unit = max(top - 7, leastUnitExponent)
        let (kept, isInexact, roundsUp) = split(
            significand, at: unit - exponent, sticky: sticky, negative: negative, mode)
        let units = kept + (roundsUp ? 1 : 0)
        // Bits and values grow together: the leading 1 of a normal significand adds 1 to the exponent field, and so does the carry into
        // the next binade, from the largest subnormal to the smallest normal, and from the largest finite number to infinity.
        let magnitudeBits = (unit - leastUnitExponent) << 7 + Int(units)
        if magnitudeBits >= Int(infinityBits) {
            flags.formUnion([.overflow, .inexact])
            return signed(negative, overflowBits(negative: negative, mode))
        }
        if isInexact {
            flags.insert(.inexact)
            if top < -126
                && isTiny(significand, exponent, top: top, sticky: sticky, negative: negative, mode, tininess)
            {
                flags.insert(.underflow)
            }
        }
        return signed(negative, UInt16(truncatingIfNeeded: magnitudeBits))
    }

    /// significand + d in units of 2^position: the whole units, whether anything is left, and whether the mode adds a unit (B1).
    @inlinable
    static func split(
        _ significand: UInt64, at position: Int, sticky: Bool, negative: Bool, _ mode: RoundingMode
    ) -> (kept: UInt64, isInexact: Bool, roundsUp: Bool) {
        if position <= 0 { return (significand << UInt64(truncatingIfNeeded: -position), false, false) }
        // What is left below the units, moved up to the top of 64 bits; what falls off there joins d.
        let kept: UInt64
        let left: UInt64
        var below = sticky
        if position <= 63 {
            kept = significand &>> UInt64(truncatingIfNeeded: position)
            left = significand &<< UInt64(truncatingIfNeeded: 64 - position)
        } else {
            let excess = UInt64(truncatingIfNeeded: min(position - 64, 63))
            kept = 0
            left = significand &>> excess
            below = below || left &<< excess != significand
        }
        let half: UInt64 = 1 << 63
        let isInexact = left != 0 || below
        let roundsUp =
            switch mode {
            case .nearestEven: left > half || (left == half && (below || kept & 1 == 1))
            case .nearestAway: left >= half
            case .towardZero: false
            case .down: negative && isInexact
            case .up: !negative && isInexact
            case .toOdd: isInexact && kept & 1 == 0
            // The upper 16 bits of what is left are binary32's bits below bf16's last place, truncated.
            case .stochastic(let random): UInt32(left >> 48) + UInt32(random) > 0xFFFF
            }
        return (kept, isInexact, roundsUp)
    }

    /// Whether an inexact v, |v| < 2^-126, is tiny (B2).
    @inlinable
    static func isTiny(
        _ significand: UInt64, _ exponent: Int, top: Int, sticky: Bool, negative: Bool, _ mode: RoundingMode,
        _ tininess: Tininess
    ) -> Bool {
        if mode.isStochastic || tininess == .beforeRounding || top < -127 { return true }
        // 2^-127 <= |v|: it is not tiny if 8 bits with an unbounded exponent carry it up to 2^-126.
        let (kept, _, roundsUp) = split(
            significand, at: top - 7 - exponent, sticky: sticky, negative: negative, mode)
        return !(kept == 0xFF && roundsUp)
    }

    /// The magnitude of an overflow: infinity, or the largest finite value where the mode goes toward zero or to odd.
    @inlinable
    static func overflowBits(negative: Bool, _ mode: RoundingMode) -> UInt16 {
        switch mode {
        case .nearestEven, .nearestAway, .stochastic: infinityBits
        case .towardZero, .toOdd: greatestFiniteBits
        case .down: negative ? infinityBits : greatestFiniteBits
        case .up: negative ? greatestFiniteBits : infinityBits
        }
    }
}
