/// The exact sum of any number of binary32 numbers and products of two of them, rounded once at the end.
///
/// A fixed-point accumulator (Kulisch): one integer of 640 bits in units of 2^-298, the last place of a product of two
/// subnormal numbers. A term is below 2^256, so 2^85 terms fit: an overflow is out of reach, and so is any order of addition
/// that would matter.
///
/// Terms that are not finite are remembered beside it, as IEEE 754 has them: a NaN term, a product 0 * infinity, or
/// infinities of both signs make the sum NaN; otherwise one infinity or more makes it that infinity.
///
/// The sign of zero is not tracked: an exact sum of zero, of no terms at all too, is +0.
///
/// Source: Kulisch, Computer Arithmetic and Validity, chapter 8; contract clauses Q1 and Q2.
public struct ExactSum: Sendable {
    /// The sum of the finite terms in units of 2^-298: two's complement, the least significant word first.
    private var words = [UInt64](repeating: 0, count: 10)
    private static let unitExponent = -298

    private var hasNaN = false
    private var hasPositiveInfinity = false
    private var hasNegativeInfinity = false

    /// The empty sum, +0.
    public init() {}

    // MARK: - Terms

    /// Adds `x` exactly.
    public mutating func add(_ x: Float) {
        if SoftFloat32.isNaN(x) {
            hasNaN = true
        } else if SoftFloat32.isInfinite(x) {
            addInfinity(sign: x.bitPattern & SoftFloat32.signMask)
        } else {
            addFinite(SoftFloat32.Unrounded(finite: x))
        }
    }

    /// Adds `x` * `y` exactly. 0 * infinity is NaN.
    public mutating func addProduct(_ x: Float, _ y: Float) {
        if SoftFloat32.isNaN(x) || SoftFloat32.isNaN(y) {
            hasNaN = true
        } else if SoftFloat32.isInfinite(x) || SoftFloat32.isInfinite(y) {
            if SoftFloat32.isZero(x) || SoftFloat32.isZero(y) {
                hasNaN = true
            } else {
                addInfinity(sign: (x.bitPattern ^ y.bitPattern) & SoftFloat32.signMask)
            }
        } else {
            addFinite(.product(SoftFloat32.Unrounded(finite: x), SoftFloat32.Unrounded(finite: y)))
        }
    }

    /// Adds |`x`| exactly.
    public mutating func addMagnitude(_ x: Float) {
        add(SoftFloat32.magnitude(x))
    }

    /// Adds |`x`| * |`y`| exactly. 0 * infinity is NaN.
    public mutating func addProductOfMagnitudes(_ x: Float, _ y: Float) {
        addProduct(SoftFloat32.magnitude(x), SoftFloat32.magnitude(y))
    }

    private mutating func addInfinity(sign: UInt32) {
        if sign == 0 { hasPositiveInfinity = true } else { hasNegativeInfinity = true }
    }

    private mutating func addFinite(_ term: SoftFloat32.Unrounded) {
        if term.significand == 0 { return }
        // A normalised subnormal has a longer significand and a smaller exponent, but no bit below the unit is set.
        let position = term.exponent - ExactSum.unitExponent
        let significand = position < 0 ? term.significand >> UInt64(-position) : term.significand
        let (word, offset) = max(position, 0).quotientAndRemainder(dividingBy: 64)
        let low = significand << UInt64(offset)
        let high = offset == 0 ? 0 : significand >> UInt64(64 - offset)
        if term.sign == 0 {
            addWords(low, high, at: word)
        } else {
            subtractWords(low, high, at: word)
        }
    }

    private mutating func addWords(_ low: UInt64, _ high: UInt64, at index: Int) {
        var carry: Bool
        (words[index], carry) = words[index].addingReportingOverflow(low)
        var addend = high
        var next = index + 1
        while (addend != 0 || carry) && next < words.count {
            // `high` is below 2^63, so that adding the carry to it cannot overflow.
            (words[next], carry) = words[next].addingReportingOverflow(addend + (carry ? 1 : 0))
            addend = 0
            next += 1
        }
    }

    private mutating func subtractWords(_ low: UInt64, _ high: UInt64, at index: Int) {
        var borrow: Bool
        (words[index], borrow) = words[index].subtractingReportingOverflow(low)
        var subtrahend = high
        var next = index + 1
        while (subtrahend != 0 || borrow) && next < words.count {
            (words[next], borrow) = words[next].subtractingReportingOverflow(subtrahend + (borrow ? 1 : 0))
            subtrahend = 0
            next += 1
        }
    }

    // MARK: - Result

    /// RNE64 of the exact sum (Q1). Canonical NaN 0x7FF8000000000000; a zero sum is +0.
    ///
    /// A nonzero sum of finite terms lies between 2^-298 and 2^341, where binary64 neither overflows nor underflows.
    public func roundedToDouble() -> Double {
        if isNaN { return Double(bitPattern: 0x7FF8_0000_0000_0000) }
        if hasPositiveInfinity { return Double(bitPattern: 0x7FF0_0000_0000_0000) }
        if hasNegativeInfinity { return Double(bitPattern: 0xFFF0_0000_0000_0000) }
        let value = leadingBits()
        if value.significand == 0 { return Double(bitPattern: 0) }
        // The leading bit stands at 63: 53 bits are kept, 11 decide, the last of them sticky.
        let leading = value.exponent + 63
        let units = SoftFloat32.roundToNearestEven(value.significand, droppingBits: 11)
        // The leading bit of `units` adds 1 to the exponent field, a carry adds 1 more.
        return Double(bitPattern: UInt64(value.sign) << 32 | (UInt64(leading + 1022) << 52) + units)
    }

    /// RNE32 of the exact sum, gradual underflow; from 2^128 on infinity. Canonical NaN; a zero sum is +0.
    public func roundedToFloat() -> Float {
        if isNaN { return SoftFloat32.canonicalNaN }
        if hasPositiveInfinity { return SoftFloat32.infinity(sign: 0) }
        if hasNegativeInfinity { return SoftFloat32.infinity(sign: SoftFloat32.signMask) }
        return leadingBits().rounded
    }

    private var isNaN: Bool {
        hasNaN || (hasPositiveInfinity && hasNegativeInfinity)
    }

    /// The sum of the finite terms cut to 64 bits with the leading bit at position 63, the last bit sticky.
    private func leadingBits() -> SoftFloat32.Unrounded {
        let isNegative = words[words.count - 1] >> 63 == 1
        let magnitude = isNegative ? ExactSum.negated(words) : words
        let sign: UInt32 = isNegative ? SoftFloat32.signMask : 0

        var top = magnitude.count - 1
        while top > 0 && magnitude[top] == 0 { top -= 1 }
        if magnitude[top] == 0 { return SoftFloat32.Unrounded(sign: 0, exponent: 0, significand: 0) }

        let shift = magnitude[top].leadingZeroBitCount
        let below = top > 0 ? magnitude[top - 1] : 0
        var significand = magnitude[top] << UInt64(shift)
        var isInexact = false
        if shift > 0 { significand |= below >> UInt64(64 - shift) }
        if below << UInt64(shift) != 0 { isInexact = true }
        for index in 0..<max(top - 1, 0) where magnitude[index] != 0 { isInexact = true }
        return SoftFloat32.Unrounded(
            sign: sign, exponent: 64 * top - shift + ExactSum.unitExponent,
            significand: isInexact ? significand | 1 : significand)
    }

    /// The two's complement of `words`: every bit inverted, plus one.
    private static func negated(_ words: [UInt64]) -> [UInt64] {
        var result = words
        var carry = true
        for index in 0..<result.count {
            (result[index], carry) = (~words[index]).addingReportingOverflow(carry ? 1 : 0)
        }
        return result
    }
}
