/// The fused multiply-adds of ``SoftFloat32`` by the processor's binary64 addition and multiplication, and its conversion to
/// binary32: the same bits, several times faster.
///
/// t = x * y + z is the exact value. The product of two binary32 numbers fits binary64, so s = x * y + z in binary64 is t rounded once
/// to 53 bits. Rounding is monotone and every midpoint between two neighbouring binary32 numbers is a binary64 number, so t and s lie
/// on the same side of each of them, unless s is one: then, and only then, rounding s to 24 bits may differ from rounding t. A
/// midpoint of normal binary32 numbers shows in the low 29 bits of s. Those, and all s near or below 2^-126, near or beyond 2^127,
/// or not finite, go to ``SoftFloat32``; an s of zero is exact and has the sign that binary64 gives it, by the same rule.
///
/// No libm, no fused instruction and no flush mode takes part. Tests compare with ``SoftFloat32`` over boundaries and samples.
public enum HardwareFloat32 {
    /// ``SoftFloat32/fusedMultiplyAdd(_:_:_:)``
    @inlinable @inline(__always)
    public static func fusedMultiplyAdd(_ x: Float, _ y: Float, _ z: Float) -> Float {
        let s = Double(x) * Double(y) + Double(z)
        return isSafe(s) ? Float(s) : SoftFloat32.fusedMultiplyAdd(x, y, z)
    }

    /// ``SoftFloat32/fusedMultiplyAddFlushing(_:_:_:)``
    @inlinable @inline(__always)
    public static func fusedMultiplyAddFlushing(_ x: Float, _ y: Float, _ z: Float) -> Float {
        fusedMultiplyAddOfFlushed(flushed(x), flushed(y), flushed(z))
    }

    /// ``fusedMultiplyAddFlushing(_:_:_:)`` of operands that are not subnormal.
    @inlinable @inline(__always)
    public static func fusedMultiplyAddOfFlushed(_ x: Float, _ y: Float, _ z: Float) -> Float {
        let s = Double(x) * Double(y) + Double(z)
        return isSafe(s) ? Float(s) : SoftFloat32.fusedMultiplyAddFlushing(x, y, z)
    }

    /// Whether `s` rounds to binary32 as the exact value that it is the rounding of.
    @inlinable @inline(__always)
    static func isSafe(_ s: Double) -> Bool {
        let bits = s.bitPattern
        // 2^-125 <= |s| < 2^127, and not on a midpoint; or zero.
        let exponent = bits >> 52 & 0x7FF
        return (exponent &- (1023 - 125) < 252 && bits & 0x1FFF_FFFF != 0x1000_0000) || s == 0
    }

    /// A subnormal `x` as the zero of its sign.
    @inlinable @inline(__always)
    static func flushed(_ x: Float) -> Float {
        x.bitPattern & 0x7F80_0000 == 0 ? Float(bitPattern: x.bitPattern & 0x8000_0000) : x
    }
}
