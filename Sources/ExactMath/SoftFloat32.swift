/// Arithmetic on binary32 in integers alone: every result is the exact real result rounded once, to nearest even (F3).
///
/// `Float` is only the carrier of 32 bits. No floating-point instruction of the processor takes part, so neither the
/// instruction set, nor a compiler's contraction, nor the thread's flush modes can change a bit.
///
/// Rules that hold for every operation, unless its own comment says otherwise:
/// - Rounding is to nearest, ties to even, with gradual underflow; a magnitude that rounds to 2^128 or more is infinity.
/// - A NaN operand of any kind, and every invalid operation (infinity - infinity, 0 * infinity, 0 / 0,
///   infinity / infinity, the square root of a negative number), gives the canonical NaN 0x7FC00000 (F2).
/// - An exact zero sum of operands that differ in sign is +0; the sum of two zeros of one sign keeps it.
///   A product or quotient takes the exclusive or of the signs, also when it is zero or infinity.
///
/// Source: IEEE 754-2019, clauses 4.3.1, 5.4.1, 6.3, 7.2; contract clauses F2, F3 and D1.
public enum SoftFloat32 {
    /// The NaN that every operation returns (F2).
    public static let canonicalNaN = Float(bitPattern: 0x7FC0_0000)

    static let signMask: UInt32 = 0x8000_0000
    static let magnitudeMask: UInt32 = 0x7FFF_FFFF
    static let infinityBits: UInt32 = 0x7F80_0000
    static let leastNormalBits: UInt32 = 0x0080_0000
    static let fractionMask: UInt32 = 0x007F_FFFF

    /// Whether `x` is a NaN of any payload or sign.
    public static func isNaN(_ x: Float) -> Bool {
        x.bitPattern & magnitudeMask > infinityBits
    }

    /// Whether `x` is +infinity or -infinity.
    public static func isInfinite(_ x: Float) -> Bool {
        x.bitPattern & magnitudeMask == infinityBits
    }

    /// Whether `x` is +0 or -0.
    public static func isZero(_ x: Float) -> Bool {
        x.bitPattern & magnitudeMask == 0
    }

    /// Whether 0 < |`x`| < 2^-126.
    public static func isSubnormal(_ x: Float) -> Bool {
        let magnitude = x.bitPattern & magnitudeMask
        return magnitude != 0 && magnitude < leastNormalBits
    }

    /// Whether `x` is neither a NaN nor infinite.
    public static func isFinite(_ x: Float) -> Bool {
        x.bitPattern & magnitudeMask < infinityBits
    }

    /// A subnormal `x` as the zero of its sign; everything else as it is (D1). NaNs keep their bits.
    public static func flushingSubnormal(_ x: Float) -> Float {
        isSubnormal(x) ? Float(bitPattern: x.bitPattern & signMask) : x
    }

    /// -`x`: the sign bit inverted; a NaN becomes canonical.
    public static func negate(_ x: Float) -> Float {
        isNaN(x) ? canonicalNaN : Float(bitPattern: x.bitPattern ^ signMask)
    }

    /// |`x`|: the sign bit cleared; a NaN becomes canonical.
    public static func magnitude(_ x: Float) -> Float {
        isNaN(x) ? canonicalNaN : Float(bitPattern: x.bitPattern & magnitudeMask)
    }

    static func infinity(sign: UInt32) -> Float {
        Float(bitPattern: sign | infinityBits)
    }

    static func zero(sign: UInt32) -> Float {
        Float(bitPattern: sign)
    }
}
