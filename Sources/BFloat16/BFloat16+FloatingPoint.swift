// The numeric protocols of the standard library: the operations of B3-B5 to nearest, ties to even, with the flags dropped.

extension BFloat16: FloatingPoint {
    public typealias Exponent = Int

    // MARK: Constants

    /// The canonical NaN, 0x7FC0 (F2).
    @inlinable public static var nan: BFloat16 { BFloat16(bitPattern: canonicalNaNBits) }
    @inlinable public static var signalingNaN: BFloat16 { BFloat16(bitPattern: 0x7FA0) }
    @inlinable public static var infinity: BFloat16 { BFloat16(bitPattern: infinityBits) }
    /// 2^128 - 2^120, about 3.39e38.
    @inlinable public static var greatestFiniteMagnitude: BFloat16 { BFloat16(bitPattern: greatestFiniteBits) }
    /// 2^-126.
    @inlinable public static var leastNormalMagnitude: BFloat16 { BFloat16(bitPattern: leastNormalBits) }
    /// 2^-133.
    @inlinable public static var leastNonzeroMagnitude: BFloat16 { BFloat16(bitPattern: 1) }
    /// 2^-7.
    @inlinable public static var ulpOfOne: BFloat16 { BFloat16(bitPattern: 0x3C00) }
    /// 3.140625: rounded toward zero, as the protocol asks.
    @inlinable public static var pi: BFloat16 { BFloat16(bitPattern: 0x4049) }
    @inlinable public static var radix: Int { 2 }

    // MARK: Parts

    @inlinable public var sign: FloatingPointSign { isNegative ? .minus : .plus }

    /// floor(log2 |x|); `Int.min` for zeros, `Int.max` for infinities and NaNs.
    @inlinable public var exponent: Int {
        if !isFinite { return .max }
        return isZero ? .min : leadingExponent
    }

    /// |x| scaled to 1 ..< 2; +0 for zeros, +infinity for infinities, NaN for NaNs.
    public var significand: BFloat16 {
        if isNaN { return .nan }
        if isInfinite || isZero { return magnitude }
        return BFloat16.exact(false, significandInteger, unitExponent - leadingExponent)
    }

    /// The distance to the next value away from zero; NaN for infinities and NaNs.
    public var ulp: BFloat16 {
        if !isFinite { return .nan }
        return BFloat16.exact(false, 1, unitExponent)
    }

    /// (-1)^sign * significand * 2^exponent, rounded once. A minus sign negates `significand`, whatever its sign.
    public init(sign: FloatingPointSign, exponent: Int, significand: BFloat16) {
        var none: Flags = []
        let scaled = BFloat16.scalbn(significand, exponent, flags: &none)
        self = sign == .minus ? -scaled : scaled
    }

    /// The magnitude of one number with the sign of the other; a NaN keeps its payload.
    @inlinable
    public init(signOf sign: BFloat16, magnitudeOf magnitude: BFloat16) {
        self.init(bitPattern: magnitude.magnitudeBits | sign.bitPattern & BFloat16.signMask)
    }

    @inlinable public var magnitude: BFloat16 { BFloat16(bitPattern: magnitudeBits) }

    /// The sign bit inverted, a NaN's too.
    @inlinable public mutating func negate() { self = BFloat16(bitPattern: bitPattern ^ BFloat16.signMask) }

    @inlinable
    public static prefix func - (x: BFloat16) -> BFloat16 { BFloat16(bitPattern: x.bitPattern ^ signMask) }

    // MARK: Arithmetic

    @inlinable
    public static func + (a: BFloat16, b: BFloat16) -> BFloat16 {
        var none: Flags = []
        return add(a, b, flags: &none)
    }

    @inlinable
    public static func - (a: BFloat16, b: BFloat16) -> BFloat16 {
        var none: Flags = []
        return subtract(a, b, flags: &none)
    }

    @inlinable
    public static func * (a: BFloat16, b: BFloat16) -> BFloat16 {
        var none: Flags = []
        return multiply(a, b, flags: &none)
    }

    @inlinable
    public static func / (a: BFloat16, b: BFloat16) -> BFloat16 {
        var none: Flags = []
        return divide(a, b, flags: &none)
    }

    @inlinable public static func += (a: inout BFloat16, b: BFloat16) { a = a + b }
    @inlinable public static func -= (a: inout BFloat16, b: BFloat16) { a = a - b }
    @inlinable public static func *= (a: inout BFloat16, b: BFloat16) { a = a * b }
    @inlinable public static func /= (a: inout BFloat16, b: BFloat16) { a = a / b }

    /// self + a * b, rounded once.
    @inlinable
    public mutating func addProduct(_ a: BFloat16, _ b: BFloat16) {
        var none: Flags = []
        self = BFloat16.fusedMultiplyAdd(a, b, self, flags: &none)
    }

    @inlinable
    public mutating func formSquareRoot() {
        var none: Flags = []
        self = BFloat16.squareRoot(self, flags: &none)
    }

    @inlinable
    public mutating func formRemainder(dividingBy other: BFloat16) {
        var none: Flags = []
        self = BFloat16.remainder(self, other, flags: &none)
    }

    @inlinable
    public mutating func formTruncatingRemainder(dividingBy other: BFloat16) {
        var none: Flags = []
        self = BFloat16.truncatingRemainder(self, other, flags: &none)
    }

    public mutating func round(_ rule: FloatingPointRoundingRule) {
        let mode: RoundingMode =
            switch rule {
            case .toNearestOrEven: .nearestEven
            case .toNearestOrAwayFromZero: .nearestAway
            case .towardZero: .towardZero
            case .down: .down
            case .up: .up
            case .awayFromZero: isNegative ? .down : .up
            @unknown default: .nearestEven
            }
        var none: Flags = []
        // None of these modes is refused.
        if let rounded = try? BFloat16.roundToIntegral(self, rounding: mode, flags: &none) { self = rounded }
    }

    // MARK: Order

    @inlinable public var nextUp: BFloat16 {
        var none: Flags = []
        return BFloat16.nextUp(self, flags: &none)
    }

    @inlinable public var nextDown: BFloat16 {
        var none: Flags = []
        return BFloat16.nextDown(self, flags: &none)
    }

    /// -0 equals +0; a NaN equals nothing.
    @inlinable
    public func isEqual(to other: BFloat16) -> Bool {
        !isNaN && !other.isNaN && numericalOrder == other.numericalOrder
    }

    @inlinable
    public func isLess(than other: BFloat16) -> Bool {
        !isNaN && !other.isNaN && numericalOrder < other.numericalOrder
    }

    @inlinable
    public func isLessThanOrEqualTo(_ other: BFloat16) -> Bool {
        !isNaN && !other.isNaN && numericalOrder <= other.numericalOrder
    }

    @inlinable public var isCanonical: Bool { true }
    public var floatingPointClass: FloatingPointClassification { BFloat16.classify(self) }

    /// The protocol's minimum, IEEE 754-2008 minNum with -0 below +0: a number wins over a quiet NaN, not over a signalling one.
    ///
    /// ``minimum(_:_:flags:)`` and ``minimumNumber(_:_:flags:)`` are the operations of IEEE 754-2019 (B4).
    @inlinable
    public static func minimum(_ x: BFloat16, _ y: BFloat16) -> BFloat16 {
        if x.isSignalingNaN || y.isSignalingNaN { return .nan }
        var none: Flags = []
        return minimumNumber(x, y, flags: &none)
    }

    /// The protocol's maximum, IEEE 754-2008 maxNum with +0 above -0: a number wins over a quiet NaN, not over a signalling one.
    @inlinable
    public static func maximum(_ x: BFloat16, _ y: BFloat16) -> BFloat16 {
        if x.isSignalingNaN || y.isSignalingNaN { return .nan }
        var none: Flags = []
        return maximumNumber(x, y, flags: &none)
    }
}

extension BFloat16: BinaryFloatingPoint {
    public typealias RawExponent = UInt
    public typealias RawSignificand = UInt8

    @inlinable public static var exponentBitCount: Int { 8 }
    @inlinable public static var significandBitCount: Int { 7 }

    /// The exponent field, 0 ... 255.
    @inlinable public var exponentBitPattern: UInt { UInt(magnitudeBits >> 7) }
    /// The fraction field, 0 ... 127.
    @inlinable public var significandBitPattern: UInt8 { UInt8(bitPattern & BFloat16.fractionMask) }

    /// The value with these fields; bits beyond a field's width are ignored.
    @inlinable
    public init(sign: FloatingPointSign, exponentBitPattern: UInt, significandBitPattern: UInt8) {
        let exponentField = UInt16(truncatingIfNeeded: exponentBitPattern & 0xFF) << 7
        let fraction = UInt16(significandBitPattern) & BFloat16.fractionMask
        self.init(bitPattern: (sign == .minus ? BFloat16.signMask : 0) | exponentField | fraction)
    }

    /// The power of two with the exponent and sign of x; a zero is itself, infinities and NaNs are NaN.
    public var binade: BFloat16 {
        if !isFinite { return .nan }
        if isZero { return self }
        return BFloat16.exact(isNegative, 1, leadingExponent)
    }

    /// The fraction bits that the normalised significand needs; -1 for zeros, infinities and NaNs.
    public var significandWidth: Int {
        if !isFinite || isZero { return -1 }
        return leadingExponent - unitExponent - significandInteger.trailingZeroBitCount
    }

    // MARK: Conversions

    /// `value` rounded once. A NaN becomes ``nan``.
    @inlinable
    public init(_ value: Float) {
        var none: Flags = []
        self = BFloat16.convert(floatBits: value.bitPattern, flags: &none)
    }

    /// `value` rounded once, not through binary32. A NaN becomes ``nan``.
    @inlinable
    public init(_ value: Double) {
        var none: Flags = []
        self = BFloat16.convert(doubleBits: value.bitPattern, flags: &none)
    }

    /// The same value, a NaN with its payload.
    @inlinable public init(_ value: BFloat16) { self = value }

    /// `value` of any binary format, rounded once. A NaN becomes ``nan``.
    public init<Source: BinaryFloatingPoint>(_ value: Source) {
        self = BFloat16.convert(value).result
    }

    /// `value` if it is one of bf16; nil for all others, NaNs included.
    public init?<Source: BinaryFloatingPoint>(exactly value: Source) {
        let (result, isExact) = BFloat16.convert(value)
        guard isExact else { return nil }
        self = result
    }

    /// `value` rounded once; an integer beyond the range becomes infinite.
    public init<Source: BinaryInteger>(_ value: Source) {
        var none: Flags = []
        self = BFloat16.convert(value, flags: &none)
    }

    @inlinable
    public init(_ value: Int) {
        var none: Flags = []
        self = BFloat16.convert(value, flags: &none)
    }

    /// `value` if it is one of bf16.
    public init?<Source: BinaryInteger>(exactly value: Source) {
        var flags: Flags = []
        let result = BFloat16.convert(value, flags: &flags)
        guard flags.isEmpty else { return nil }
        self = result
    }

    private static func convert<Source: BinaryFloatingPoint>(_ value: Source) -> (result: BFloat16, isExact: Bool) {
        let negative = value.sign == .minus
        if value.isNaN { return (.nan, false) }
        if value.isInfinite { return (signed(negative, infinityBits), true) }
        if value.isZero { return (signed(negative, 0), true) }
        // |value| = (1 + fraction / 2^width) 2^exponent, the fraction cut to 62 bits and a sticky one. A subnormal's significand is normalised
        // by the property of that name.
        let normalised = value.significand
        let fraction = normalised.significandBitPattern
        let width = Source.significandBitCount
        let dropped = max(0, width - 62)
        let kept = UInt64(truncatingIfNeeded: fraction >> dropped)
        let isSticky =
            kept == 0 ? fraction != 0 : Source.RawSignificand(truncatingIfNeeded: kept) << dropped != fraction
        let places = min(width, 62)
        var flags: Flags = []
        let result = rounded(
            negative: negative, significand: 1 << UInt64(places) | kept,
            exponent: Int(clamping: value.exponent).clamped(to: -10_000...10_000) - places, sticky: isSticky,
            .nearestEven, .afterRounding, &flags)
        return (result, flags.isEmpty)
    }
}

extension Int {
    fileprivate func clamped(to range: ClosedRange<Int>) -> Int {
        Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
    }
}

extension BFloat16: Hashable {
    /// Equal numbers have equal hashes: -0 counts as +0.
    public func hash(into hasher: inout Hasher) { hasher.combine(isZero ? 0 : bitPattern) }
}

extension BFloat16: Strideable {
    /// `other` - `self`, rounded.
    @inlinable public func distance(to other: BFloat16) -> BFloat16 { other - self }
    /// `self` + `n`, rounded: steps below half a last place do nothing.
    @inlinable public func advanced(by n: BFloat16) -> BFloat16 { self + n }
}

extension BFloat16: ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral {
    /// The literal rounded once.
    @inlinable public init(integerLiteral value: Int64) {
        var none: Flags = []
        self = BFloat16.convert(value, flags: &none)
    }

    /// The literal's binary64 value rounded. The compiler has rounded the decimal to binary64 already, so a literal within 2^-54 of itself of the
    /// middle of two bf16 may go to the other neighbour; ``init(_:)-(StringProtocol)`` rounds once.
    @inlinable public init(floatLiteral value: Double) { self.init(value) }
}

extension BFloat16: Codable {
    /// The 16 bits as an unsigned integer, so that NaNs, infinities and -0 survive every coder.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(bitPattern)
    }

    public init(from decoder: any Decoder) throws {
        self.init(bitPattern: try decoder.singleValueContainer().decode(UInt16.self))
    }
}
