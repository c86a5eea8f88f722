/// binary16 as a format to store results in.
public enum Binary16 {
    /// x to nearest, ties to even, with gradual underflow; infinity from 65520 on. NaN gives 0x7E00.
    public static func rounded(_ x: Float) -> UInt16 {
        if x != x { return 0x7E00 }
        let sign: UInt16 = x.sign == .minus ? 0x8000 : 0
        let magnitude = x.magnitude
        if magnitude >= 65520 { return sign | 0x7C00 }
        // The last place of this power of two in binary32 is that of the result: the sum rounds as the result must, and what was
        // added to its bits is the result in units of that place.
        let exponent = max(-14, Int(magnitude.exponent))
        let shift = Float(sign: .plus, exponent: exponent + 13, significand: 1)
        let units = (shift + magnitude).bitPattern - shift.bitPattern
        // The leading bit of a normal result adds 1 to the exponent field; a carry does too.
        return sign | (UInt16(exponent + 14) << 10 + UInt16(units))
    }
}
