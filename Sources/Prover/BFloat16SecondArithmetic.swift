import BFloat16

// The second derivation of B3 (B6): exact results from the hardware's double arithmetic, special cases from its float arithmetic.

@inline(__always)
private func float(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

@inline(__always)
func double(_ bits: UInt16) -> Double { Double(float(bits)) }

@inline(__always)
func isNotANumber(_ bits: UInt16) -> Bool { bits & 0x7FFF > 0x7F80 }

@inline(__always)
func isSignalling(_ bits: UInt16) -> Bool { isNotANumber(bits) && bits & 0x40 == 0 }

@inline(__always)
private func isNotFinite(_ bits: UInt16) -> Bool { bits & 0x7F80 == 0x7F80 }

enum SecondArithmetic {
    @inline(__always)
    static func add(_ a: UInt16, _ b: UInt16, _ mode: RoundingMode) -> ExactResult {
        if isNotFinite(a) || isNotFinite(b) { return nonfinite(a, b, float(a) + float(b)) }
        return sum(double(a), double(b), mode)
    }

    @inline(__always)
    static func subtract(_ a: UInt16, _ b: UInt16, _ mode: RoundingMode) -> ExactResult {
        if isNotFinite(a) || isNotFinite(b) { return nonfinite(a, b, float(a) - float(b)) }
        return sum(double(a), -double(b), mode)
    }

    @inline(__always)
    static func multiply(_ a: UInt16, _ b: UInt16) -> ExactResult {
        if isNotFinite(a) || isNotFinite(b) { return nonfinite(a, b, float(a) * float(b)) }
        return value(double(a) * double(b))  // 16 bits: exact
    }

    @inline(__always)
    static func divide(_ a: UInt16, _ b: UInt16) -> ExactResult {
        let quotient = float(a) / float(b)
        if isNotFinite(a) || isNotFinite(b) || quotient.isNaN { return nonfinite(a, b, quotient) }
        if b & 0x7FFF == 0 { return .decided(highHalf(quotient), .divideByZero) }
        let (x, y) = (double(a), double(b))
        // 40 bits of the quotient: their product with y is exact, and so is its difference from x (Sterbenz).
        let short = shortened(x / y, keeping: 40)
        if short == 0 { return value(short) }
        let residual = x - short * y
        return value(roundedToOdd(short, error: y < 0 ? -residual : residual))
    }

    @inline(__always)
    static func squareRoot(_ a: UInt16) -> ExactResult {
        let root = float(a).squareRoot()
        if isNotFinite(a) || root.isNaN { return nonfinite(a, a, root) }
        let x = double(a)
        // 26 bits of the root: their square is exact, and so is its difference from x (Sterbenz).
        let short = shortened(x.squareRoot(), keeping: 26)
        return value(roundedToOdd(short, error: x - short * short))
    }

    @inline(__always)
    static func fusedMultiplyAdd(_ a: UInt16, _ b: UInt16, _ c: UInt16, _ mode: RoundingMode) -> ExactResult {
        let product = double(a) * double(b)  // 16 bits: exact
        if isNotFinite(a) || isNotFinite(b) || isNotFinite(c) {
            let total = product + double(c)
            if !total.isNaN { return .decided(total > 0 ? 0x7F80 : 0xFF80, []) }
            let operandIsNaN = isNotANumber(a) || isNotANumber(b)
            let isInvalid =
                isSignalling(a) || isSignalling(b) || isSignalling(c)
                || (product.isNaN && !operandIsNaN)
                || (!operandIsNaN && !isNotANumber(c))
            return .decided(0x7FC0, isInvalid ? .invalid : [])
        }
        return sum(product, double(c), mode)
    }

    /// x + y of two doubles whose sum's error is a double; the sign of an exact zero by B3.
    @inline(__always)
    private static func sum(_ x: Double, _ y: Double, _ mode: RoundingMode) -> ExactResult {
        let total = x + y
        if total == 0 {
            let zeros = x == 0 && y == 0 && x.sign == y.sign
            let negative = zeros ? x.sign == .minus : mode == .down
            return .decided(negative ? 0x8000 : 0, [])
        }
        let part = total - x
        let error = (x - (total - part)) + (y - part)
        return value(roundedToOdd(total, error: error))
    }

    @inline(__always)
    private static func value(_ x: Double) -> ExactResult {
        if x == 0 { return .decided(x.sign == .minus ? 0x8000 : 0, []) }
        return .value(x.magnitude, negative: x < 0)
    }

    /// What the hardware says where an operand is infinite or NaN, or the result is NaN.
    @inline(__always)
    private static func nonfinite(_ a: UInt16, _ b: UInt16, _ result: Float) -> ExactResult {
        if !result.isNaN { return .decided(highHalf(result), []) }
        let isInvalid = isSignalling(a) || isSignalling(b) || !(isNotANumber(a) || isNotANumber(b))
        return .decided(0x7FC0, isInvalid ? .invalid : [])
    }

    @inline(__always)
    private static func highHalf(_ x: Float) -> UInt16 { UInt16(truncatingIfNeeded: x.bitPattern >> 16) }

    @inline(__always)
    private static func shortened(_ x: Double, keeping bits: Int) -> Double {
        Double(bitPattern: x.bitPattern & ~(UInt64(1) << UInt64(53 - bits) - 1))
    }

    // MARK: binary32, then bf16

    /// The hardware's binary32 operation rounded to bf16, nearest even: right for + - * / and square root, since 24 >= 2 * 8 + 2 makes the
    /// double rounding innocuous (B6).
    @inline(__always)
    static func nearestEven(_ single: Float) -> UInt16 {
        if single.isNaN { return 0x7FC0 }
        let bits = single.bitPattern
        return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
    }

    @inline(__always) static func addSingle(_ a: UInt16, _ b: UInt16) -> UInt16 { nearestEven(float(a) + float(b)) }
    @inline(__always) static func subtractSingle(_ a: UInt16, _ b: UInt16) -> UInt16 {
        nearestEven(float(a) - float(b))
    }
    @inline(__always) static func multiplySingle(_ a: UInt16, _ b: UInt16) -> UInt16 {
        nearestEven(float(a) * float(b))
    }
    @inline(__always) static func divideSingle(_ a: UInt16, _ b: UInt16) -> UInt16 { nearestEven(float(a) / float(b)) }
    @inline(__always) static func squareRootSingle(_ a: UInt16) -> UInt16 { nearestEven(float(a).squareRoot()) }

    // MARK: Remainder

    /// 2^d modulo 2m at [254 m + d], m of 8 bits and d below 254.
    private static let powersModuloTwice: [UInt16] = {
        var table = [UInt16](repeating: 0, count: 256 * 254)
        for m in 1..<256 {
            var power = 1 % (2 * m)
            for d in 0..<254 {
                table[254 * m + d] = UInt16(power)
                power = 2 * power % (2 * m)
            }
        }
        return table
    }()

    /// The table of ``remainder(_:_:powers:)``, to be held over a loop.
    static func withPowers<Result>(_ body: (UnsafeBufferPointer<UInt16>) -> Result) -> Result {
        powersModuloTwice.withUnsafeBufferPointer(body)
    }

    /// The IEEE remainder from a table of powers of two modulo 2|y|, signs and ties on values.
    @inline(__always)
    static func remainder(_ a: UInt16, _ b: UInt16, powers: UnsafeBufferPointer<UInt16>) -> (UInt16, Flags) {
        if isNotANumber(a) || isNotANumber(b) {
            return (0x7FC0, isSignalling(a) || isSignalling(b) ? .invalid : [])
        }
        if isNotFinite(a) || b & 0x7FFF == 0 { return (0x7FC0, .invalid) }
        if isNotFinite(b) { return (a, []) }
        let (x, y) = (double(a).magnitude, double(b).magnitude)
        let (unitX, unitY) = (max(Int(a >> 7 & 0xFF), 1), max(Int(b >> 7 & 0xFF), 1))
        var result: Double
        if unitX < unitY {
            result = 2 * x > y ? x - y : x  // y is normal, so x < y: n is 0 or 1, and a tie is n = 0
        } else {
            let unit = power(unitY - 134)
            let divisor = Int(y / unit)
            let rest = Int(x / power(unitX - 134)) * Int(powers[254 * divisor + unitX - unitY]) % (2 * divisor)
            var n = (2 * rest + divisor) / (2 * divisor)
            if n % 2 == 1 && 2 * rest == (2 * n - 1) * divisor { n -= 1 }
            result = Double(rest - n * divisor) * unit
        }
        if a & 0x8000 != 0 { result = -result }
        if result == 0 { return (a & 0x8000, []) }
        return (highHalf(Float(result)), [])
    }
}
