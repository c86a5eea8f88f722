extension SoftFloat32 {
    /// Whether `a` = `b` as numbers: -0 equals +0, a NaN equals nothing.
    public static func isEqual(_ a: Float, _ b: Float) -> Bool {
        if isNaN(a) || isNaN(b) { return false }
        return orderedInteger(a) == orderedInteger(b)
    }

    /// Whether `a` < `b` as numbers: -0 is not less than +0, a NaN is in no order.
    public static func isLess(_ a: Float, _ b: Float) -> Bool {
        if isNaN(a) || isNaN(b) { return false }
        return orderedInteger(a) < orderedInteger(b)
    }

    /// Whether `a` <= `b` as numbers: -0 equals +0, a NaN is in no order.
    public static func isLessOrEqual(_ a: Float, _ b: Float) -> Bool {
        if isNaN(a) || isNaN(b) { return false }
        return orderedInteger(a) <= orderedInteger(b)
    }

    /// The larger operand; NaN if either is one; -0 < +0 (IEEE 754-2019 `maximum`).
    public static func maximum(_ a: Float, _ b: Float) -> Float {
        if isNaN(a) || isNaN(b) { return canonicalNaN }
        if isZero(a) && isZero(b) { return zero(sign: a.bitPattern & b.bitPattern) }
        return isLess(a, b) ? b : a
    }

    /// The smaller operand; NaN if either is one; -0 < +0 (IEEE 754-2019 `minimum`).
    public static func minimum(_ a: Float, _ b: Float) -> Float {
        if isNaN(a) || isNaN(b) { return canonicalNaN }
        if isZero(a) && isZero(b) { return zero(sign: a.bitPattern | b.bitPattern) }
        return isLess(b, a) ? b : a
    }

    /// An integer in the same order as the number that is not a NaN; 0 for both zeros.
    private static func orderedInteger(_ x: Float) -> Int32 {
        let magnitude = Int32(x.bitPattern & magnitudeMask)
        return x.bitPattern & signMask == 0 ? magnitude : -magnitude
    }
}
