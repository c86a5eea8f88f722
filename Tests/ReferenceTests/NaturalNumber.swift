/// A natural number of any size: digits in base 2^32, the least first, the schoolbook way. For exact second derivations.
struct NaturalNumber: Comparable {
    private var digits: [UInt32]

    init(_ value: UInt64) { digits = NaturalNumber.trimmed([UInt32(truncatingIfNeeded: value), UInt32(value >> 32)]) }

    private init(digits: [UInt32]) { self.digits = NaturalNumber.trimmed(digits) }

    private static func trimmed(_ digits: [UInt32]) -> [UInt32] {
        Array(digits[..<((digits.lastIndex { $0 != 0 } ?? -1) + 1)])
    }

    static func + (a: NaturalNumber, b: NaturalNumber) -> NaturalNumber {
        var sum: [UInt32] = []
        var carry: UInt64 = 0
        for index in 0...max(a.digits.count, b.digits.count) {
            if index < a.digits.count { carry += UInt64(a.digits[index]) }
            if index < b.digits.count { carry += UInt64(b.digits[index]) }
            sum.append(UInt32(truncatingIfNeeded: carry))
            carry >>= 32
        }
        return NaturalNumber(digits: sum)
    }

    static func * (a: NaturalNumber, b: NaturalNumber) -> NaturalNumber {
        var product = [UInt32](repeating: 0, count: a.digits.count + b.digits.count)
        for i in 0..<a.digits.count {
            var carry: UInt64 = 0
            for j in 0..<b.digits.count {
                carry += UInt64(a.digits[i]) * UInt64(b.digits[j]) + UInt64(product[i + j])
                product[i + j] = UInt32(truncatingIfNeeded: carry)
                carry >>= 32
            }
            product[i + b.digits.count] = UInt32(carry)
        }
        return NaturalNumber(digits: product)
    }

    func power(_ exponent: Int) -> NaturalNumber {
        var result = NaturalNumber(1)
        for _ in 0..<exponent { result = result * self }
        return result
    }

    /// This number times 2^count.
    func shiftedLeft(by count: Int) -> NaturalNumber {
        self * NaturalNumber(digits: [UInt32](repeating: 0, count: count / 32) + [1 << UInt32(count % 32)])
    }

    static func < (a: NaturalNumber, b: NaturalNumber) -> Bool {
        if a.digits.count != b.digits.count { return a.digits.count < b.digits.count }
        for index in stride(from: a.digits.count - 1, through: 0, by: -1) where a.digits[index] != b.digits[index] {
            return a.digits[index] < b.digits[index]
        }
        return false
    }
}
