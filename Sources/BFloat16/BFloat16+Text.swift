// Decimal text, exact both ways.

extension BFloat16: LosslessStringConvertible, CustomStringConvertible, CustomDebugStringConvertible {
    /// The shortest decimal that reads back as the same value, of several the nearest: "0.1", "1.0", "3.39e+38", "-inf", "nan".
    ///
    /// At most four digits. Plain from 0.0001 to 9999, with an exponent elsewhere. Every NaN is "nan" (``debugDescription`` shows its bits).
    public var description: String {
        if isNaN { return "nan" }
        let sign = isNegative ? "-" : ""
        if isInfinite { return sign + "inf" }
        if isZero { return sign + "0.0" }
        let (digits, exponent) = shortestDecimal
        return sign + BFloat16.text(digits: digits, exponent: exponent)
    }

    /// The value and the bits: "1.0 (0x3F80)".
    public var debugDescription: String {
        let hexadecimal = String(bitPattern, radix: 16, uppercase: true)
        return "\(description) (0x\(String(repeating: "0", count: 4 - hexadecimal.count))\(hexadecimal))"
    }

    /// The value nearest to a decimal, rounded once, ties to even; nil for any other text.
    ///
    /// An optional sign, then digits with an optional point among or beside them and an optional exponent (`1`, `.5`, `6.02e23`), or `inf`,
    /// `infinity` or `nan` in any case. 2^128 - 2^119 and more become infinite. No spaces, no hexadecimal.
    public init?(_ text: some StringProtocol) {
        var rest = Array(text.utf8)[...]
        var negative = false
        if let first = rest.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") {
            negative = first == UInt8(ascii: "-")
            rest = rest.dropFirst()
        }
        switch String(decoding: rest, as: UTF8.self).lowercased() {
        case "inf", "infinity": self = BFloat16.signed(negative, BFloat16.infinityBits)
        case "nan": self = BFloat16.nan
        default:
            guard let decimal = Decimal(parsing: rest) else { return nil }
            self = BFloat16.signed(negative, decimal.nearestMagnitudeBits)
        }
    }

    public init?(_ description: String) { self.init(description[...]) }

    // MARK: Parts

    /// Digits d, with neither end a zero, and an exponent p so that |x| is printed as d[0].d[1]d[2]... * 10^p.
    private var shortestDecimal: (digits: [UInt8], exponent: Int) {
        // The decimal exponent: 10^p <= |x| < 10^(p+1).
        var power = -41
        while Decimal(digits: [1], scale: power + 1).compare(significandInteger, unitExponent) <= 0 { power += 1 }
        for count in 1...4 {
            // The greatest number of `count` digits not above |x|, then the one after it; the nearer first.
            let scale = power - count + 1
            var below = 0
            for step in [1000, 100, 10, 1] {
                while Decimal(number: below + step, scale: scale).compare(significandInteger, unitExponent) <= 0 {
                    below += step
                }
            }
            // Twice |x| against the sum of both.
            let middle = Decimal(number: 2 * below + 1, scale: scale).compare(2 * significandInteger, unitExponent)
            for number in middle > 0 ? [below, below + 1] : [below + 1, below] where number > 0 {
                let decimal = Decimal(number: number, scale: scale)
                if decimal.nearestMagnitudeBits == magnitudeBits {
                    var digits = decimal.digits
                    let exponent = digits.count - 1 + scale
                    while digits.count > 1 && digits.last == 0 { digits.removeLast() }
                    return (digits, exponent)
                }
            }
        }
        preconditionFailure("four digits tell all bf16 apart")
    }

    private static func text(digits: [UInt8], exponent: Int) -> String {
        func string(_ digits: some Sequence<UInt8>) -> String {
            String(decoding: digits.map { $0 + UInt8(ascii: "0") }, as: UTF8.self)
        }
        let zeros = [UInt8](repeating: 0, count: 4)
        switch exponent {
        case -4..<0: return "0." + string(zeros.prefix(-exponent - 1) + digits)
        case 0...3:
            let padded = digits + zeros.prefix(max(0, exponent + 2 - digits.count))
            return string(padded.prefix(exponent + 1)) + "." + string(padded.dropFirst(exponent + 1))
        default:
            let fraction = digits.count > 1 ? "." + string(digits.dropFirst()) : ""
            let magnitude = String(exponent.magnitude)
            return string(digits.prefix(1)) + fraction + (exponent < 0 ? "e-" : "e+")
                + (magnitude.count < 2 ? "0" : "") + magnitude
        }
    }
}

/// A decimal number: its digits, read as an integer, times 10^scale.
private struct Decimal {
    /// 0 ... 9, the highest first.
    var digits: [UInt8]
    var scale: Int

    /// The middle of two bf16 has at most 134 digits; of what comes after 140 it matters only whether it is zero.
    static let decidingDigits = 140

    init(digits: [UInt8], scale: Int) {
        self.digits = digits
        self.scale = scale
    }

    init(number: Int, scale: Int) {
        self.init(digits: String(number).utf8.map { $0 - UInt8(ascii: "0") }, scale: scale)
    }

    /// digits [. digits] [e [sign] digits], at least one digit before the e.
    init?(parsing text: ArraySlice<UInt8>) {
        digits = []
        scale = 0
        var rest = text
        var hasPoint = false
        var hasDigits = false
        var hasMore = false
        while let next = rest.first {
            if next == UInt8(ascii: ".") && !hasPoint {
                hasPoint = true
            } else if let digit = Decimal.digit(next) {
                hasDigits = true
                if hasPoint { scale -= 1 }
                if digits.count < Decimal.decidingDigits {
                    if !(digits.isEmpty && digit == 0) { digits.append(digit) }
                } else {
                    hasMore = hasMore || digit != 0
                    scale += 1
                }
            } else {
                break
            }
            rest = rest.dropFirst()
        }
        guard hasDigits else { return nil }
        if hasMore {
            digits.append(1)
            scale -= 1
        }
        guard let mark = rest.first else { return }
        guard mark | 0x20 == UInt8(ascii: "e") else { return nil }
        rest = rest.dropFirst()
        var isNegative = false
        if let first = rest.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") {
            isNegative = first == UInt8(ascii: "-")
            rest = rest.dropFirst()
        }
        guard !rest.isEmpty else { return nil }
        var exponent = 0
        for next in rest {
            guard let digit = Decimal.digit(next) else { return nil }
            // Beyond every text's length: the outcome no longer changes.
            exponent = min(10 * exponent + Int(digit), 1 << 56)
        }
        scale += isNegative ? -exponent : exponent
    }

    private static func digit(_ character: UInt8) -> UInt8? {
        let zero = UInt8(ascii: "0")
        return character >= zero && character < zero + 10 ? character - zero : nil
    }

    /// The magnitude bits of the nearest bf16, ties to even; infinity from 2^128 - 2^119 on.
    var nearestMagnitudeBits: UInt16 {
        guard let first = digits.firstIndex(where: { $0 != 0 }) else { return 0 }
        // 10^p <= value < 10^(p+1); 10^39 > 2^128 and 10^-41 < 2^-134.
        let power = digits.count - first - 1 + scale
        if power >= 39 { return BFloat16.infinityBits }
        if power < -41 { return 0 }
        // The greatest bits whose value is not above this one. Infinity's bits stand for 2^128 here.
        var low: UInt16 = 0
        var high: UInt16 = BFloat16.infinityBits + 1
        while high - low > 1 {
            let middle = (low + high) / 2
            let candidate = BFloat16(bitPattern: middle)
            if compare(candidate.significandInteger, candidate.unitExponent) >= 0 {
                low = middle
            } else {
                high = middle
            }
        }
        if low == BFloat16.infinityBits { return low }
        // Against the middle between it and the next: half a unit more.
        let below = BFloat16(bitPattern: low)
        let againstMiddle = compare(2 * below.significandInteger + 1, below.unitExponent - 1)
        return againstMiddle > 0 || (againstMiddle == 0 && low % 2 == 1) ? low + 1 : low
    }

    /// The sign of this number minus significand * 2^exponent, exactly: both are multiplied by what makes them integers.
    func compare(_ significand: UInt64, _ exponent: Int) -> Int {
        var mine = NaturalNumber(digits: digits)
        var other = NaturalNumber(significand)
        if scale >= 0 { mine.multiply(byPowerOf: 10, scale) } else { other.multiply(byPowerOf: 10, -scale) }
        if exponent >= 0 { other.multiply(byPowerOf: 2, exponent) } else { mine.multiply(byPowerOf: 2, -exponent) }
        return mine.compare(other)
    }
}

/// An integer >= 0 of any size: limbs of 32 bits, the lowest first, the highest not zero.
private struct NaturalNumber {
    var limbs: [UInt32] = []

    init(_ value: UInt64) {
        multiplyAndAdd(0, UInt32(value >> 32))
        if !limbs.isEmpty { limbs.insert(0, at: 0) }
        multiplyAndAdd(1, UInt32(truncatingIfNeeded: value))
    }

    init(digits: [UInt8]) {
        for digit in digits { multiplyAndAdd(10, UInt32(digit)) }
    }

    mutating func multiplyAndAdd(_ factor: UInt32, _ summand: UInt32) {
        var carry = UInt64(summand)
        for index in limbs.indices {
            carry += UInt64(limbs[index]) * UInt64(factor)
            limbs[index] = UInt32(truncatingIfNeeded: carry)
            carry >>= 32
        }
        if carry > 0 { limbs.append(UInt32(carry)) }
    }

    mutating func multiply(byPowerOf base: UInt32, _ exponent: Int) {
        for _ in 0..<exponent { multiplyAndAdd(base, 0) }
    }

    func compare(_ other: NaturalNumber) -> Int {
        if limbs.count != other.limbs.count { return limbs.count < other.limbs.count ? -1 : 1 }
        for index in limbs.indices.reversed() where limbs[index] != other.limbs[index] {
            return limbs[index] < other.limbs[index] ? -1 : 1
        }
        return 0
    }
}
