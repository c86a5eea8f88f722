// B4: classes, order, minimum and maximum.

extension BFloat16 {
    /// Any NaN, of either kind and sign.
    @inlinable public var isNaN: Bool { magnitudeBits > Self.infinityBits }
    /// A NaN whose highest fraction bit is 0.
    @inlinable public var isSignalingNaN: Bool { isNaN && bitPattern & Self.quietMask == 0 }
    @inlinable public var isInfinite: Bool { magnitudeBits == Self.infinityBits }
    @inlinable public var isFinite: Bool { magnitudeBits < Self.infinityBits }
    /// +0 or -0.
    @inlinable public var isZero: Bool { magnitudeBits == 0 }
    /// 0 < |x| < 2^-126.
    @inlinable public var isSubnormal: Bool { magnitudeBits != 0 && magnitudeBits < Self.leastNormalBits }
    /// 2^-126 <= |x| < 2^128.
    @inlinable public var isNormal: Bool { magnitudeBits >= Self.leastNormalBits && isFinite }

    /// The class (IEEE 754 class, B4). Raises nothing, not for a signalling NaN either.
    public static func classify(_ x: BFloat16) -> FloatingPointClassification {
        if x.isNaN { return x.isSignalingNaN ? .signalingNaN : .quietNaN }
        if x.isInfinite { return x.isNegative ? .negativeInfinity : .positiveInfinity }
        if x.isZero { return x.isNegative ? .negativeZero : .positiveZero }
        if x.isSubnormal { return x.isNegative ? .negativeSubnormal : .positiveSubnormal }
        return x.isNegative ? .negativeNormal : .positiveNormal
    }

    /// The bits as an integer that grows with the value; -0 and +0 are both 0. Not for NaN.
    @inlinable var numericalOrder: Int { isNegative ? -Int(magnitudeBits) : Int(magnitudeBits) }

    /// The bits as an integer in totalOrder: -0 is -1.
    @inlinable var totalOrderPosition: Int { isNegative ? -1 - Int(magnitudeBits) : Int(magnitudeBits) }

    /// How a stands to b (B4): bit 0 less, bit 1 equal, bit 2 greater, bit 3 unordered; exactly one is set.
    ///
    /// -0 equals +0. The quiet comparison raises invalid for a signalling NaN, the signalling one for every NaN.
    @inlinable
    public static func compare(_ a: BFloat16, _ b: BFloat16, signalling: Bool, flags: inout Flags) -> UInt8 {
        if a.isNaN || b.isNaN {
            if signalling || a.isSignalingNaN || b.isSignalingNaN { flags.insert(.invalid) }
            return 8
        }
        return a.numericalOrder < b.numericalOrder ? 1 : a.numericalOrder == b.numericalOrder ? 2 : 4
    }

    /// Whether a comes before or with b in IEEE 754's totalOrder (B4): -NaN < -infinity < ... < -0 < +0 < ... < +infinity < +NaN.
    ///
    /// Among positive NaNs signalling ones come first, then by payload; among negative ones the reverse. Raises nothing.
    @inlinable
    public static func totalOrder(_ a: BFloat16, _ b: BFloat16) -> Bool {
        a.totalOrderPosition <= b.totalOrderPosition
    }

    /// The lesser; NaN if either is NaN; -0 is below +0 (B4; IEEE 754-2019 minimum).
    @inlinable
    public static func minimum(_ a: BFloat16, _ b: BFloat16, flags: inout Flags) -> BFloat16 {
        if a.isNaN || b.isNaN { return propagatedNaN(a, b, &flags) }
        return totalOrder(a, b) ? a : b
    }

    /// The greater; NaN if either is NaN; +0 is above -0 (B4; IEEE 754-2019 maximum).
    @inlinable
    public static func maximum(_ a: BFloat16, _ b: BFloat16, flags: inout Flags) -> BFloat16 {
        if a.isNaN || b.isNaN { return propagatedNaN(a, b, &flags) }
        return totalOrder(a, b) ? b : a
    }

    /// The lesser number; a number wins over every NaN, and a signalling NaN raises invalid (B4; IEEE 754-2019 minimumNumber).
    @inlinable
    public static func minimumNumber(_ a: BFloat16, _ b: BFloat16, flags: inout Flags) -> BFloat16 {
        if a.isNaN || b.isNaN { return number(a, b, &flags) }
        return totalOrder(a, b) ? a : b
    }

    /// The greater number; a number wins over every NaN, and a signalling NaN raises invalid (B4; IEEE 754-2019 maximumNumber).
    @inlinable
    public static func maximumNumber(_ a: BFloat16, _ b: BFloat16, flags: inout Flags) -> BFloat16 {
        if a.isNaN || b.isNaN { return number(a, b, &flags) }
        return totalOrder(a, b) ? b : a
    }

    /// The operand that is a number, of two of which at most one is.
    @inlinable
    static func number(_ a: BFloat16, _ b: BFloat16, _ flags: inout Flags) -> BFloat16 {
        let notANumber = propagatedNaN(a, b, &flags)
        return !a.isNaN ? a : !b.isNaN ? b : notANumber
    }
}
