/// bf16 operations of clause B by binary64: the exact result rounded to odd in 53 bits, then rounded once more to the 8 bits of bf16 (B1 to B5).
///
/// Bits are UInt16; flags are those of B2 from bit 0: inexact, underflow, overflow, divideByZero, invalid.
public enum BF16Arithmetic {
    /// The modes of B1, with the random bits of `sr`.
    public enum Rounding: Sendable {
        case rne, rtz, rdn, rup, rna, rto
        case sr(UInt16)

        /// By the names of recipes.
        public init?(name: String, random: UInt16 = 0) {
            switch name {
            case "rne": self = .rne
            case "rtz": self = .rtz
            case "rdn": self = .rdn
            case "rup": self = .rup
            case "rna": self = .rna
            case "rto": self = .rto
            case "sr": self = .sr(random)
            default: return nil
            }
        }
    }

    public static let (inexact, underflow, overflow, divideByZero, invalid): (UInt8, UInt8, UInt8, UInt8, UInt8) = (
        1, 2, 4, 8, 16
    )
    public static let notANumber: UInt16 = 0x7FC0

    // MARK: - Kinds

    @inline(__always) static func isNaN(_ a: UInt16) -> Bool { a & 0x7FFF > 0x7F80 }
    @inline(__always) static func isSignalling(_ a: UInt16) -> Bool { isNaN(a) && a & 0x40 == 0 }
    @inline(__always) static func value(_ a: UInt16) -> Double { Double(Float(bitPattern: UInt32(a) << 16)) }

    /// NaN for any NaN operand, invalid if one signals.
    private static func propagated(_ operands: [UInt16], _ flags: inout UInt8) -> UInt16? {
        guard operands.contains(where: isNaN) else { return nil }
        if operands.contains(where: isSignalling) { flags |= invalid }
        return notANumber
    }

    // MARK: - Rounding

    /// v made odd: a neighbour with a set last bit where `error` (of the exact value less v) is not 0.
    private static func odd(_ v: Double, _ error: Double) -> Double {
        guard error != 0, v.bitPattern & 1 == 0 else { return v }
        if v == 0 { return error > 0 ? .leastNonzeroMagnitude : -.leastNonzeroMagnitude }
        return Double(bitPattern: (error > 0) == (v > 0) ? v.bitPattern + 1 : v.bitPattern - 1)
    }

    /// v, not NaN, rounded to bf16. v is exact, or rounded to odd.
    static func round(_ v: Double, _ mode: Rounding, tininessBefore: Bool, _ flags: inout UInt8) -> UInt16 {
        let sign: UInt16 = v.sign == .minus ? 0x8000 : 0
        let magnitude = v.magnitude
        if magnitude == 0 || magnitude == .infinity { return sign | (magnitude == 0 ? 0 : 0x7F80) }
        if case .sr(let random) = mode { return stochastic(magnitude, sign, random, &flags) }
        let exponent = max(-1074, Int(magnitude.exponent))
        var result = rounded(magnitude, sign != 0, mode, quantum: max(exponent - 7, -133))
        let unbounded = rounded(magnitude, sign != 0, mode, quantum: exponent - 7)
        if result != magnitude {
            flags |= inexact
            if (tininessBefore ? magnitude : unbounded) < 0x1p-126 { flags |= underflow }
        }
        if result >= 0x1p128 {
            flags |= overflow | inexact
            let isInfinite: Bool =
                switch mode {
                case .rne, .rna: true
                case .rup: sign == 0
                case .rdn: sign != 0
                default: false
                }
            if !isInfinite { return sign | 0x7F7F }
            result = .infinity
        }
        return sign | UInt16(Float(result).bitPattern >> 16)
    }

    /// A multiple of 2^quantum.
    private static func rounded(_ magnitude: Double, _ isNegative: Bool, _ mode: Rounding, quantum: Int) -> Double {
        let unit = power(quantum)
        let scaled = magnitude / unit
        if scaled >= 0x1p52 { return magnitude }
        // n and what is left are exact.
        let whole = Int64(scaled)
        let n = Double(whole)
        let rest = scaled - n
        let isOdd = whole & 1 == 1
        let goesUp: Bool =
            switch mode {
            case .rne: rest > 0.5 || (rest == 0.5 && isOdd)
            case .rna: rest >= 0.5
            case .rtz, .sr: false
            case .rup: rest > 0 && !isNegative
            case .rdn: rest > 0 && isNegative
            case .rto: rest > 0 && !isOdd
            }
        return (goesUp ? n + 1 : n) * unit
    }

    /// 2^k, -1074 <= k.
    private static func power(_ k: Int) -> Double { Double(sign: .plus, exponent: max(k, -1074), significand: 1) }

    private static func stochastic(_ magnitude: Double, _ sign: UInt16, _ random: UInt16, _ flags: inout UInt8)
        -> UInt16
    {
        if magnitude >= 0x1p128 {
            flags |= overflow | inexact
            return sign | 0x7F80
        }
        // RTZ32: to nearest, then back where that went up.
        var single = Float(magnitude)
        if Double(single) > magnitude { single = single.nextDown }
        let bits = (single.bitPattern + UInt32(random)) >> 16
        if Double(single) != magnitude || single.bitPattern & 0xFFFF != 0 {
            flags |= inexact
            if magnitude < 0x1p-126 { flags |= underflow }
            if bits == 0x7F80 { flags |= overflow }
        }
        return sign | UInt16(bits)
    }

    // MARK: - Arithmetic

    public static func add(
        _ a: UInt16, _ b: UInt16, _ mode: Rounding, tininessBefore: Bool = false, _ flags: inout UInt8
    ) -> UInt16 {
        if let nan = propagated([a, b], &flags) { return nan }
        let (x, y) = (value(a), value(b))
        if x.isInfinite && y.isInfinite && x != y {
            flags |= invalid
            return notANumber
        }
        return finish(sum: x, y, mode, tininessBefore, &flags)
    }

    public static func subtract(
        _ a: UInt16, _ b: UInt16, _ mode: Rounding, tininessBefore: Bool = false, _ flags: inout UInt8
    ) -> UInt16 {
        if let nan = propagated([a, b], &flags) { return nan }
        return add(a, b ^ 0x8000, mode, tininessBefore: tininessBefore, &flags)
    }

    /// x + y, both with few bits; an exact zero of opposites is -0 under `rdn` alone (B3).
    private static func finish(
        sum x: Double, _ y: Double, _ mode: Rounding, _ tininessBefore: Bool, _ flags: inout UInt8
    ) -> UInt16 {
        let s = DoubleDouble.sum(x, y)
        if !s.high.isFinite { return round(s.high, mode, tininessBefore: tininessBefore, &flags) }
        if s.high == 0 && s.low == 0 {
            if x.sign == y.sign && x == 0 { return x.sign == .minus ? 0x8000 : 0 }
            if case .rdn = mode { return 0x8000 }
            return 0
        }
        return round(odd(s.high, s.low), mode, tininessBefore: tininessBefore, &flags)
    }

    public static func multiply(
        _ a: UInt16, _ b: UInt16, _ mode: Rounding, tininessBefore: Bool = false, _ flags: inout UInt8
    ) -> UInt16 {
        if let nan = propagated([a, b], &flags) { return nan }
        let product = value(a) * value(b)
        if product.isNaN {
            flags |= invalid
            return notANumber
        }
        return round(product, mode, tininessBefore: tininessBefore, &flags)
    }

    public static func divide(
        _ a: UInt16, _ b: UInt16, _ mode: Rounding, tininessBefore: Bool = false, _ flags: inout UInt8
    ) -> UInt16 {
        if let nan = propagated([a, b], &flags) { return nan }
        let (x, y) = (value(a), value(b))
        let quotient = x / y
        if quotient.isNaN {
            flags |= invalid
            return notANumber
        }
        if y == 0 && x.isFinite { flags |= divideByZero }
        if !x.isFinite || !y.isFinite || y == 0 || x == 0 {
            return round(quotient, mode, tininessBefore: tininessBefore, &flags)
        }
        let p = DoubleDouble.product(quotient, y)
        let rest = (x - p.high) - p.low
        return round(odd(quotient, y > 0 ? rest : -rest), mode, tininessBefore: tininessBefore, &flags)
    }

    public static func squareRoot(_ a: UInt16, _ mode: Rounding, _ flags: inout UInt8) -> UInt16 {
        if let nan = propagated([a], &flags) { return nan }
        let x = value(a)
        if x < 0 {
            flags |= invalid
            return notANumber
        }
        if x == 0 || x.isInfinite { return a }
        let root = x.squareRoot()
        let p = DoubleDouble.product(root, root)
        return round(odd(root, (x - p.high) - p.low), mode, tininessBefore: false, &flags)
    }

    public static func fusedMultiplyAdd(
        _ a: UInt16, _ b: UInt16, _ c: UInt16, _ mode: Rounding, _ flags: inout UInt8
    ) -> UInt16 {
        let product = value(a) * value(b)
        let isInvalid = !isNaN(a) && !isNaN(b) && product.isNaN
        if isInvalid { flags |= invalid }
        if let nan = propagated([a, b, c], &flags) { return nan }
        let z = value(c)
        if isInvalid || (product.isInfinite && z.isInfinite && product != z) {
            flags |= invalid
            return notANumber
        }
        return finish(sum: product, z, mode, false, &flags)
    }

    /// x - n y, n the integer nearest to x / y, ties to even (B3).
    public static func remainder(_ a: UInt16, _ b: UInt16, _ flags: inout UInt8) -> UInt16 {
        if let nan = propagated([a, b], &flags) { return nan }
        let (x, y) = (value(a).magnitude, value(b).magnitude)
        if x.isInfinite || y == 0 {
            flags |= invalid
            return notANumber
        }
        if x == 0 || y.isInfinite { return a }
        // x mod 2y, which also tells whether the whole quotient is odd: 2y's multiples are taken off from the largest power down.
        var rest = x
        var step = y * 2
        while step <= rest { step *= 2 }
        while step > y {
            if rest >= step { rest -= step }
            step /= 2
        }
        // 0 <= rest < 2y: the quotient is 0 or 1 and something.
        let isOdd = rest >= y
        if isOdd { rest -= y }
        let goesUp = 2 * rest > y || (2 * rest == y && isOdd)
        var result = goesUp ? rest - y : rest
        if a & 0x8000 != 0 { result = -result }
        if result == 0 { return a & 0x8000 }
        return UInt16(Float(result).bitPattern >> 16)
    }

    // MARK: - Order

    /// A key that orders numbers, -0 below +0.
    private static func key(_ a: UInt16) -> Int { a & 0x8000 == 0 ? Int(a) : -Int(a & 0x7FFF) - 1 }

    public static func extreme(
        _ a: UInt16, _ b: UInt16, largest: Bool, prefersNumber: Bool, _ flags: inout UInt8
    ) -> UInt16 {
        if isSignalling(a) || isSignalling(b) { flags |= invalid }
        if isNaN(a) || isNaN(b) {
            if !prefersNumber || (isNaN(a) && isNaN(b)) { return notANumber }
            return isNaN(a) ? b : a
        }
        return (key(a) < key(b)) == largest ? b : a
    }

    /// Bit 0 less, 1 equal, 2 greater, 3 unordered (B4).
    public static func compare(_ a: UInt16, _ b: UInt16, signalling: Bool, _ flags: inout UInt8) -> UInt8 {
        if isNaN(a) || isNaN(b) {
            if signalling || isSignalling(a) || isSignalling(b) { flags |= invalid }
            return 8
        }
        let (x, y) = (value(a), value(b))
        return x < y ? 1 : x == y ? 2 : 4
    }

    public static func next(_ a: UInt16, up: Bool, _ flags: inout UInt8) -> UInt16 {
        if let nan = propagated([a], &flags) { return nan }
        if !up { return next(a ^ 0x8000, up: true, &flags) ^ 0x8000 }
        if a & 0x7FFF == 0 { return 1 }
        if a == 0x7F80 { return a }
        return a & 0x8000 == 0 ? a + 1 : a - 1
    }

    // MARK: - Integers

    /// The integer that v rounds to.
    private static func integer(_ v: Double, _ mode: Rounding) -> Double {
        let magnitude = rounded(v.magnitude, v < 0, mode, quantum: 0)
        return v < 0 ? -magnitude : magnitude
    }

    public static func roundToIntegral(_ a: UInt16, _ mode: Rounding, _ flags: inout UInt8) -> UInt16 {
        if let nan = propagated([a], &flags) { return nan }
        let x = value(a)
        if x.magnitude >= 256 || x == 0 { return a }
        let n = integer(x, mode)
        if n != x { flags |= inexact }
        return a & 0x8000 | UInt16(Float(n.magnitude).bitPattern >> 16)
    }

    /// To an integer of `bits` bits: two's complement, saturating; NaN gives 0 (B5).
    public static func toInteger(_ a: UInt16, bits: Int, signed: Bool, _ mode: Rounding, _ flags: inout UInt8) -> UInt64
    {
        if isNaN(a) {
            flags |= invalid
            return 0
        }
        let x = value(a)
        let n = x.isFinite ? integer(x, mode) : x
        let (low, high) =
            signed
            ? (-power(bits - 1), power(bits - 1)) : (0, power(bits))
        let mask: UInt64 = bits == 64 ? .max : (1 << UInt64(bits)) - 1
        if n < low || n >= high {
            flags |= invalid
            let largest = signed ? mask >> 1 : mask
            return n < 0 ? (signed ? (largest + 1) & mask : 0) : largest
        }
        if n != x { flags |= inexact }
        return (n < 0 ? UInt64(bitPattern: Int64(n)) : UInt64(n)) & mask
    }

    /// From an integer's magnitude and sign, rounded once.
    public static func fromInteger(
        _ magnitude: UInt64, isNegative: Bool, _ mode: Rounding, _ flags: inout UInt8
    ) -> UInt16 {
        // 53 bits rounded to odd.
        var v = Double(magnitude & ~0x7FF)
        let low = magnitude & 0x7FF
        if magnitude < 1 << 53 { v = Double(magnitude) } else if low != 0 { v = odd(v, 1) }
        return round(isNegative ? -v : v, mode, tininessBefore: false, &flags)
    }

    // MARK: - Formats

    /// From binary16, binary32 or binary64, given as a binary64 number.
    public static func fromDouble(
        _ v: Double, isSignalling: Bool, _ mode: Rounding, _ flags: inout UInt8
    ) -> UInt16 {
        if v.isNaN {
            if isSignalling { flags |= invalid }
            return notANumber
        }
        return round(v, mode, tininessBefore: false, &flags)
    }

    /// To binary16: 11 bits, exponents to -14.
    public static func toHalf(_ a: UInt16, _ mode: Rounding, _ flags: inout UInt8) -> UInt16 {
        if let nan = propagated([a], &flags) { return nan == notANumber ? 0x7E00 : nan }
        let x = value(a)
        let sign: UInt16 = a & 0x8000
        let magnitude = x.magnitude
        if magnitude == 0 { return sign }
        if magnitude == .infinity { return sign | 0x7C00 }
        let exponent = Int(magnitude.exponent)
        let result = rounded(magnitude, sign != 0, mode, quantum: max(exponent - 10, -24))
        if result != magnitude {
            flags |= inexact
            if rounded(magnitude, sign != 0, mode, quantum: exponent - 10) < 0x1p-14 { flags |= underflow }
        }
        if result >= 65536 {
            flags |= overflow | inexact
            let isInfinite: Bool =
                switch mode {
                case .rne, .rna: true
                case .rup: sign == 0
                case .rdn: sign != 0
                default: false
                }
            return sign | (isInfinite ? 0x7C00 : 0x7BFF)
        }
        if result < 0x1p-14 { return sign | UInt16(result * 0x1p24) }
        let e = Int(result.exponent)
        return sign | UInt16(e + 15) << 10 | UInt16((result / power(e) - 1) * 1024)
    }
}
