extension SoftFloat32 {
    /// RNE32(`x` * `y` + `z`): one rounding, gradual underflow.
    ///
    /// Edge cases: 0 * infinity is NaN whatever `z` is; infinity of the product and of `z` with opposite signs is NaN;
    /// an exact cancellation is +0; a zero product plus a zero of the same sign keeps it; a nonzero result that rounds to
    /// zero keeps its sign.
    public static func fusedMultiplyAdd(_ x: Float, _ y: Float, _ z: Float) -> Float {
        if !(isFinite(x) && isFinite(y) && isFinite(z)) { return fusedMultiplyAddOfNonfinite(x, y, z) }
        return exactSum(ofProduct: x, y, and: z).rounded
    }

    /// F(`x`, `y`, `z`) of clause D1: the multiply-add that reads and writes subnormals as zero.
    ///
    /// Subnormal `x`, `y`, `z` are read as zeros of their sign. `x` * `y` + `z` is exact, then rounded to nearest even to 24 bits
    /// with unbounded exponent; a rounded magnitude below 2^-126 gives a zero of its sign, from 2^128 on infinity. A sum just
    /// below 2^-126 that rounds up to it with 24 bits is therefore 2^-126, not zero.
    ///
    /// Edge cases: as ``fusedMultiplyAdd(_:_:_:)`` on the operands as read, so infinity times a subnormal is NaN.
    /// The result is never subnormal.
    public static func fusedMultiplyAddFlushing(_ x: Float, _ y: Float, _ z: Float) -> Float {
        let x = flushingSubnormal(x)
        let y = flushingSubnormal(y)
        let z = flushingSubnormal(z)
        if !(isFinite(x) && isFinite(y) && isFinite(z)) { return fusedMultiplyAddOfNonfinite(x, y, z) }
        return exactSum(ofProduct: x, y, and: z).roundedFlushing
    }

    /// `x` * `y` + `z` where an operand is a NaN or infinite.
    private static func fusedMultiplyAddOfNonfinite(_ x: Float, _ y: Float, _ z: Float) -> Float {
        if isNaN(x) || isNaN(y) || isNaN(z) { return canonicalNaN }
        if isInfinite(x) || isInfinite(y) {
            if isZero(x) || isZero(y) { return canonicalNaN }
            let product = infinity(sign: (x.bitPattern ^ y.bitPattern) & signMask)
            return isInfinite(z) && z.bitPattern != product.bitPattern ? canonicalNaN : product
        }
        return z
    }

    /// `x` * `y` + `z` for finite operands, nothing lost but what the sticky last bit stands for.
    @inline(__always)
    private static func exactSum(ofProduct x: Float, _ y: Float, and z: Float) -> Unrounded {
        let product = Unrounded.product(Unrounded(finite: x), Unrounded(finite: y))
        // The leading bit of the product moves from 46 or 47 to 60 or 61, that of z from 23 to 60.
        return Unrounded.sum(product.scaledUp(by: 14), Unrounded(finite: z).scaledUp(by: 37))
    }
}
