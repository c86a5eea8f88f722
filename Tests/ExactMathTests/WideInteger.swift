/// A signed integer of any length, in units of 2^-298: the plainest way to hold a sum of products of binary32 numbers.
///
/// Written for clarity, as the second derivation of the sums and roundings under test: 32-bit digits, the schoolbook way.
struct WideInteger: Equatable, Comparable {
    /// Digits of the magnitude in base 2^32, the least first, no zero at the end.
    private var digits: [UInt32]
    private(set) var isNegative: Bool

    static let zero = WideInteger(digits: [], isNegative: false)

    private init(digits: [UInt32], isNegative: Bool) {
        var digits = digits
        while digits.last == 0 { digits.removeLast() }
        self.digits = digits
        self.isNegative = isNegative && !digits.isEmpty
    }

    /// A finite binary32 number (a multiple of 2^-149).
    init(_ x: Float) {
        self = WideInteger.shifted(UInt64(WideInteger.parts(x).significand), by: WideInteger.parts(x).exponent + 298)
        isNegative = x < 0
    }

    /// The product of two finite binary32 numbers (a multiple of 2^-298).
    init(product x: Float, _ y: Float) {
        let (p, q) = (WideInteger.parts(x), WideInteger.parts(y))
        self = WideInteger.shifted(UInt64(p.significand) * UInt64(q.significand), by: p.exponent + q.exponent + 298)
        isNegative = !isZero && (x < 0) != (y < 0)
    }

    var isZero: Bool { digits.isEmpty }

    var magnitude: WideInteger { WideInteger(digits: digits, isNegative: false) }

    /// The number of bits of the magnitude.
    var bitWidth: Int {
        guard let last = digits.last else { return 0 }
        return 32 * digits.count - last.leadingZeroBitCount
    }

    func times(_ n: UInt64) -> WideInteger {
        var result = WideInteger.zero
        for position in 0..<64 where n >> UInt64(position) & 1 == 1 {
            result = result + self.shiftedLeft(by: position)
        }
        return result
    }

    /// The magnitude as significand * 2^exponent (in these units) with exactly `bits` bits, to nearest, ties to even.
    func roundedToNearestEven(bits: Int) -> (significand: UInt64, exponent: Int) {
        let dropped = bitWidth - bits
        var significand: UInt64 = 0
        for position in stride(from: bitWidth - 1, through: max(dropped, 0), by: -1) {
            significand = significand << 1 | (bit(position) ? 1 : 0)
        }
        if dropped <= 0 { return (significand << UInt64(-dropped), dropped) }
        let half = bit(dropped - 1)
        var below = false
        for position in 0..<(dropped - 1) where bit(position) { below = true }
        if half && (below || significand & 1 == 1) { significand += 1 }
        return significand == 1 << UInt64(bits) ? (significand >> 1, dropped + 1) : (significand, dropped)
    }

    static func < (a: WideInteger, b: WideInteger) -> Bool { (a - b).isNegative }

    static func - (a: WideInteger, b: WideInteger) -> WideInteger {
        a + WideInteger(digits: b.digits, isNegative: !b.isNegative)
    }

    static func + (a: WideInteger, b: WideInteger) -> WideInteger {
        if a.isNegative == b.isNegative {
            var sum: [UInt32] = []
            var carry: UInt64 = 0
            for index in 0...max(a.digits.count, b.digits.count) {
                carry += UInt64(a.digit(index)) + UInt64(b.digit(index))
                sum.append(UInt32(truncatingIfNeeded: carry))
                carry >>= 32
            }
            return WideInteger(digits: sum, isNegative: a.isNegative)
        }
        let aIsLarger = WideInteger.hasLargerMagnitude(a, b)
        let (larger, smaller) = aIsLarger ? (a, b) : (b, a)
        var difference: [UInt32] = []
        var borrow: Int64 = 0
        for index in 0..<larger.digits.count {
            var digit = Int64(larger.digit(index)) - Int64(smaller.digit(index)) - borrow
            borrow = digit < 0 ? 1 : 0
            if digit < 0 { digit += 1 << 32 }
            difference.append(UInt32(digit))
        }
        return WideInteger(digits: difference, isNegative: larger.isNegative)
    }

    private static func hasLargerMagnitude(_ a: WideInteger, _ b: WideInteger) -> Bool {
        for index in stride(from: max(a.digits.count, b.digits.count) - 1, through: 0, by: -1) {
            if a.digit(index) != b.digit(index) { return a.digit(index) > b.digit(index) }
        }
        return false
    }

    private static func parts(_ x: Float) -> (significand: UInt32, exponent: Int) {
        precondition(x.isFinite)
        let fraction = x.bitPattern & 0x007F_FFFF
        let field = Int(x.bitPattern >> 23 & 0xFF)
        return field == 0 ? (fraction, -149) : (fraction + 0x0080_0000, field - 150)
    }

    private static func shifted(_ value: UInt64, by shift: Int) -> WideInteger {
        WideInteger(digits: [UInt32(truncatingIfNeeded: value), UInt32(value >> 32)], isNegative: false)
            .shiftedLeft(by: shift)
    }

    private func shiftedLeft(by shift: Int) -> WideInteger {
        let (whole, part) = (shift / 32, UInt64(shift % 32))
        var result = [UInt32](repeating: 0, count: whole)
        var carry: UInt64 = 0
        for digit in digits {
            carry |= UInt64(digit) << part
            result.append(UInt32(truncatingIfNeeded: carry))
            carry >>= 32
        }
        result.append(UInt32(carry))
        return WideInteger(digits: result, isNegative: isNegative)
    }

    private func digit(_ index: Int) -> UInt32 { index < digits.count ? digits[index] : 0 }

    private func bit(_ position: Int) -> Bool { digit(position / 32) >> UInt32(position % 32) & 1 == 1 }
}
