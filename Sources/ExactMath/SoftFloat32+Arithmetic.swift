extension SoftFloat32 {
    /// RNE32(`a` + `b`).
    ///
    /// Edge cases: infinity + (-infinity) is NaN; x + (-x) is +0; -0 + -0 is -0.
    public static func add(_ a: Float, _ b: Float) -> Float {
        if isNaN(a) || isNaN(b) { return canonicalNaN }
        if isInfinite(a) {
            return isInfinite(b) && a.bitPattern != b.bitPattern ? canonicalNaN : a
        }
        if isInfinite(b) { return b }
        return Unrounded.sum(Unrounded(finite: a).scaledUp(by: 37), Unrounded(finite: b).scaledUp(by: 37)).rounded
    }

    /// RNE32(`a` - `b`).
    ///
    /// Edge cases: infinity - infinity is NaN; x - x is +0; -0 - (+0) is -0.
    public static func subtract(_ a: Float, _ b: Float) -> Float {
        add(a, negate(b))
    }

    /// RNE32(`a` * `b`).
    ///
    /// Edge cases: 0 * infinity is NaN; the sign of a zero or infinity is the exclusive or of the signs.
    public static func multiply(_ a: Float, _ b: Float) -> Float {
        if isNaN(a) || isNaN(b) { return canonicalNaN }
        let sign = (a.bitPattern ^ b.bitPattern) & signMask
        if isInfinite(a) || isInfinite(b) {
            return isZero(a) || isZero(b) ? canonicalNaN : infinity(sign: sign)
        }
        return Unrounded.product(Unrounded(finite: a), Unrounded(finite: b)).rounded
    }

    /// RNE32(`a` / `b`).
    ///
    /// Edge cases: 0 / 0 and infinity / infinity are NaN; x / 0 is infinity and x / infinity zero, with the exclusive or
    /// of the signs.
    public static func divide(_ a: Float, _ b: Float) -> Float {
        if isNaN(a) || isNaN(b) { return canonicalNaN }
        let sign = (a.bitPattern ^ b.bitPattern) & signMask
        if isInfinite(a) { return isInfinite(b) ? canonicalNaN : infinity(sign: sign) }
        if isInfinite(b) { return zero(sign: sign) }
        if isZero(b) { return isZero(a) ? canonicalNaN : infinity(sign: sign) }
        if isZero(a) { return zero(sign: sign) }
        let dividend = Unrounded(finite: a)
        let divisor = Unrounded(finite: b)
        // 24 bits times 2^40 over 24 bits: a quotient of 40 or 41 bits.
        let (quotient, remainder) = (dividend.significand << 40).quotientAndRemainder(dividingBy: divisor.significand)
        return Unrounded(
            sign: sign, exponent: dividend.exponent - 40 - divisor.exponent,
            significand: quotient | (remainder == 0 ? 0 : 1)
        ).rounded
    }

    /// RNE32 of the square root of `x`.
    ///
    /// Edge cases: the root of -0 is -0, of +infinity +infinity; every other negative operand gives NaN.
    public static func squareRoot(_ x: Float) -> Float {
        if isNaN(x) { return canonicalNaN }
        if isZero(x) { return x }
        if x.bitPattern & signMask != 0 { return canonicalNaN }
        if isInfinite(x) { return x }
        let radicand = Unrounded(finite: x)
        // An even exponent, and a radicand of 58 to 60 bits, hence a root of 29 or 30.
        let shift = radicand.exponent & 1 == 0 ? 34 : 35
        let (root, isExact) = integerSquareRoot(radicand.significand << UInt64(shift))
        return Unrounded(
            sign: 0, exponent: (radicand.exponent - shift) / 2, significand: root | (isExact ? 0 : 1)
        ).rounded
    }

    /// floor(sqrt(`radicand`)), and whether that is the root itself. One bit a step, from the highest.
    static func integerSquareRoot(_ radicand: UInt64) -> (root: UInt64, isExact: Bool) {
        var root: UInt64 = 0
        for position in stride(from: 31, through: 0, by: -1) {
            let trial = root | 1 << UInt64(position)
            root = trial * trial <= radicand ? trial : root
        }
        return (root, root * root == radicand)
    }
}
