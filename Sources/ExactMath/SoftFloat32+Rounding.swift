extension SoftFloat32 {
    /// A real number before rounding: (-1)^sign * significand * 2^exponent.
    ///
    /// Where an operation had to drop bits below the significand that were not all zero, the last bit is 1 (a sticky bit).
    /// Rounding is then still correct, provided that the significand has at least 26 bits: 24 that are kept, one that
    /// decides, one sticky.
    struct Unrounded {
        /// 0 or 0x80000000, as in the encoding.
        var sign: UInt32
        /// The last bit of the significand weighs 2^exponent.
        var exponent: Int
        var significand: UInt64

        init(sign: UInt32, exponent: Int, significand: UInt64) {
            self.sign = sign
            self.exponent = exponent
            self.significand = significand
        }

        /// The exact value of a finite `x`, normalised: the significand is 0 or has its leading bit at position 23.
        @inline(__always)
        init(finite x: Float) {
            let magnitude = x.bitPattern & magnitudeMask
            sign = x.bitPattern & signMask
            if magnitude >= leastNormalBits {
                exponent = Int(magnitude >> 23) - 150
                significand = UInt64(magnitude & fractionMask | leastNormalBits)
            } else if magnitude == 0 {
                exponent = -1000  // so low that a sum is never aligned to a zero
                significand = 0
            } else {
                let shift = magnitude.leadingZeroBitCount - 8
                exponent = -149 - shift
                significand = UInt64(magnitude) << UInt64(shift)
            }
        }

        /// The exact product of two normalised values: 47 or 48 bits, or 0.
        static func product(_ x: Unrounded, _ y: Unrounded) -> Unrounded {
            Unrounded(
                sign: x.sign ^ y.sign, exponent: x.exponent + y.exponent, significand: x.significand * y.significand)
        }

        /// The same value with 2^`shift` in the place of 1; no bit may be lost.
        func scaledUp(by shift: Int) -> Unrounded {
            Unrounded(sign: sign, exponent: exponent - shift, significand: significand << UInt64(shift))
        }

        /// The sum of two exact values whose significands are 0 or have their leading bit at position 60 or 61 and
        /// zeros in the last 14 bits. The last bit of the sum is sticky.
        ///
        /// A zero sum is -0 only if both are -0.
        @inline(__always)
        static func sum(_ x: Unrounded, _ y: Unrounded) -> Unrounded {
            // The value with the smaller exponent is shifted right. By 14 places or less, nothing is lost. By more, it
            // is below 2^47 and the other one at least 2^60, so that at most one leading bit cancels.
            let exponent = max(x.exponent, y.exponent)
            let total = x.signedSignificand(aligningTo: exponent) + y.signedSignificand(aligningTo: exponent)
            let sign = total == 0 ? x.sign & y.sign : total < 0 ? signMask : 0
            return Unrounded(sign: sign, exponent: exponent, significand: total.magnitude)
        }

        /// The value in units of 2^`newExponent` as a signed integer, with a sticky last bit; `newExponent` >= `exponent`.
        @inline(__always)
        private func signedSignificand(aligningTo newExponent: Int) -> Int64 {
            let shifted = Int64(shiftRightKeepingSticky(significand, by: newExponent - exponent))
            return sign == 0 ? shifted : -shifted
        }

        /// RNE32 with gradual underflow (F3).
        @inline(__always)
        var rounded: Float {
            if significand == 0 { return zero(sign: sign) }
            if exponent + significand.bitWidthInUse <= -126 {
                // Below 2^-126 the result is a multiple of 2^-149; a carry to 2^-126 is the encoding of that number.
                let units = roundToNearestEven(significand, droppingBits: -149 - exponent)
                return Float(bitPattern: sign | UInt32(units))
            }
            let encoding = roundedEncodingWithUnboundedExponent
            if encoding >= Int(infinityBits) { return infinity(sign: sign) }
            return Float(bitPattern: sign | UInt32(encoding))
        }

        /// RNE to 24 bits with unbounded exponent, and then: below 2^-126 a zero of its sign, from 2^128 on infinity (D1).
        @inline(__always)
        var roundedFlushing: Float {
            if significand == 0 { return zero(sign: sign) }
            let encoding = roundedEncodingWithUnboundedExponent
            if encoding < Int(leastNormalBits) { return zero(sign: sign) }
            if encoding >= Int(infinityBits) { return infinity(sign: sign) }
            return Float(bitPattern: sign | UInt32(encoding))
        }

        /// The magnitude rounded to 24 bits, nearest even, in binary32's encoding without its limits: the exponent field
        /// may be zero, negative, or larger than 254. The significand must not be 0.
        @inline(__always)
        private var roundedEncodingWithUnboundedExponent: Int {
            let leading = exponent + significand.bitWidthInUse - 1  // 2^leading <= magnitude < 2^(leading+1)
            // With the leading bit at 63, 24 bits stand above position 40.
            let aligned = significand << UInt64(significand.leadingZeroBitCount)
            let kept = aligned >> 40
            let lost = aligned & 0xFF_FFFF_FFFF
            let half: UInt64 = 0x80_0000_0000
            let units = lost + (kept & 1) > half ? kept + 1 : kept  // a tie goes up from an odd number only
            // The leading bit of `units` adds 1 to the exponent field, a carry adds 1 more.
            return ((leading + 126) << 23) + Int(units)
        }
    }

    /// floor(`significand` / 2^`count`), its last bit set if the division is not exact; `count` is at least 0.
    @inline(__always)
    static func shiftRightKeepingSticky(_ significand: UInt64, by count: Int) -> UInt64 {
        let count = UInt64(min(count, 63))
        let shifted = significand >> count
        return shifted << count == significand ? shifted : shifted | 1
    }

    /// The integer nearest to `significand` / 2^`count`, ties to even.
    ///
    /// `count` may be negative (then the result is exact, and must fit 64 bits) and as large as it likes.
    static func roundToNearestEven(_ significand: UInt64, droppingBits count: Int) -> UInt64 {
        if count <= 0 { return significand << UInt64(-count) }
        if count > 64 { return 0 }
        let half: UInt64 = 1 << 63
        let kept = count == 64 ? 0 : significand >> UInt64(count)
        let lost = significand << UInt64(64 - count)  // the dropped bits, in units of 2^-64 of the last kept place
        return lost > half || (lost == half && kept & 1 == 1) ? kept + 1 : kept
    }
}

extension UInt64 {
    /// The number of bits up to the leading 1.
    fileprivate var bitWidthInUse: Int { UInt64.bitWidth - leadingZeroBitCount }
}
