/// A real number as the unevaluated sum of two binary64 numbers, about 106 bits: what the exact results beside composite operations are
/// computed in (Q1).
///
/// high is the sum rounded to binary64, |low| at most half a unit of it. Addition and multiplication lose at most 2^-104 of the
/// result, division 2^-103, exp and log 2^-98 and less; tests compare them with arbitrary precision. The building blocks are error-free transformations of
/// binary64 addition and multiplication (Dekker 1971; Knuth; Hida, Li, Bailey 2001); no libm and no fused instruction takes part. NaN and
/// infinities end as NaN; where they matter, ask before.
public struct DoubleDouble: Sendable, Hashable {
    public let high: Double
    public let low: Double

    /// Exact.
    public init(_ value: Double) {
        high = value
        low = 0
    }

    /// Exact.
    public init(_ value: Float) { self.init(Double(value)) }

    /// - Precondition: `high` is the rounded sum of both.
    init(high: Double, low: Double) {
        self.high = high
        self.low = low
    }

    public static let zero = DoubleDouble(0.0)

    public var isZero: Bool { high == 0 }

    /// |x|, exact.
    public var magnitude: DoubleDouble { high < 0 ? -self : self }

    // MARK: - Arithmetic

    public static prefix func - (x: DoubleDouble) -> DoubleDouble { DoubleDouble(high: -x.high, low: -x.low) }

    public static func + (x: DoubleDouble, y: DoubleDouble) -> DoubleDouble {
        let (s, e) = twoSum(x.high, y.high)
        let (t, f) = twoSum(x.low, y.low)
        let (s1, e1) = quickTwoSum(s, e + t)
        return DoubleDouble(quickTwoSum(s1, e1 + f))
    }

    public static func - (x: DoubleDouble, y: DoubleDouble) -> DoubleDouble { x + -y }

    public static func * (x: DoubleDouble, y: DoubleDouble) -> DoubleDouble {
        let (p, e) = twoProduct(x.high, y.high)
        return DoubleDouble(quickTwoSum(p, e + (x.high * y.low + x.low * y.high)))
    }

    public static func / (x: DoubleDouble, y: DoubleDouble) -> DoubleDouble {
        // Long division, three digits of 53 bits.
        let first = x.high / y.high
        var rest = x - y * DoubleDouble(first)
        let second = rest.high / y.high
        rest = rest - y * DoubleDouble(second)
        let third = rest.high / y.high
        return DoubleDouble(quickTwoSum(first, second)) + DoubleDouble(third)
    }

    public static func += (x: inout DoubleDouble, y: DoubleDouble) { x = x + y }

    public static func < (x: DoubleDouble, y: DoubleDouble) -> Bool {
        x.high < y.high || (x.high == y.high && x.low < y.low)
    }

    /// The product with a power of two, exact while in range.
    func scaled(by power: Double) -> DoubleDouble { DoubleDouble(high: high * power, low: low * power) }

    // MARK: - Functions

    /// exp(x); 0 below about -745, infinity above 709.
    ///
    /// x = k ln 2 + 512 r, |r| < 2^-10: exp(r) - 1 by its series, squared nine times as (1 + t)^2 - 1 = 2t + t^2.
    public static func exp(_ x: DoubleDouble) -> DoubleDouble {
        if x.high.isNaN { return x }
        if x.high < -745 { return .zero }
        if x.high > 709 { return DoubleDouble(Double.infinity) }
        let k = (x.high * 1.4426950408889634).rounded(.toNearestOrEven)
        let r = (x - ln2 * DoubleDouble(k)).scaled(by: 0x1p-9)
        var term = r
        var t = r
        for n in 2...12 {
            term = term * r / DoubleDouble(Double(n))
            t += term
        }
        for _ in 0..<9 { t = t.scaled(by: 2) + t * t }
        let result = t + DoubleDouble(1.0)
        // 2^k in two steps, so that no factor leaves the range before the result does.
        let half = Int(k) / 2
        return result.scaled(by: power(half)).scaled(by: power(Int(k) - half))
    }

    /// log(x) for x > 0 and finite; -infinity for 0, else NaN.
    ///
    /// x = m 2^k; a first value from the correctly rounded binary32 logarithm of m, then Newton's y + m exp(-y) - 1 three times: 24 bits, 48, 96,
    /// all.
    public static func log(_ x: DoubleDouble) -> DoubleDouble {
        if !(x.high > 0 && x.high.isFinite) { return DoubleDouble(x.high == 0 ? -Double.infinity : Double.nan) }
        let k = Int(x.high.exponent)
        let m = x.scaled(by: power(-k / 2)).scaled(by: power(-k - -k / 2))
        var y = DoubleDouble(CorrectlyRounded.log(Float(m.high)))
        for _ in 0..<3 { y = y + (m * exp(-y) - DoubleDouble(1.0)) }
        return y + ln2 * DoubleDouble(Double(k))
    }

    /// ln 2 to 106 bits, from the series of ``Constants``.
    static let ln2: DoubleDouble = {
        let value = SlowPath.constants.ln2(4)
        let high = Double(bitPattern: BinaryFormat.binary64.rounded(value, exponent: 0))
        // The difference from the rounded value, with its sign.
        let back = FixedPoint(
            UInt64(high.significandBitPattern) | 1 << 52, exponent: Int(high.exponent) - 52, fractionLimbs: 4)
        let isAbove = value < back
        let rest = isAbove ? back - value : value - back
        let low = Double(bitPattern: BinaryFormat.binary64.rounded(rest, exponent: 0))
        return DoubleDouble(high: high, low: isAbove ? -low : low)
    }()

    private static func power(_ n: Int) -> Double {
        if n < -1022 { return Double(bitPattern: n < -1074 ? 0 : 1 << UInt64(n + 1074)) }
        return n > 1023 ? .infinity : Double(bitPattern: UInt64(n + 1023) << 52)
    }

    // MARK: - Error-free transformations

    private init(_ pair: (Double, Double)) { self.init(high: pair.0, low: pair.1) }

    /// x + y = s + e exactly.
    private static func twoSum(_ x: Double, _ y: Double) -> (s: Double, e: Double) {
        let s = x + y
        let back = s - x
        return (s, (x - (s - back)) + (y - back))
    }

    /// The same where |x| >= |y| or x is 0.
    private static func quickTwoSum(_ x: Double, _ y: Double) -> (s: Double, e: Double) {
        let s = x + y
        return (s, y - (s - x))
    }

    /// x * y = p + e exactly, for magnitudes below 2^996.
    private static func twoProduct(_ x: Double, _ y: Double) -> (p: Double, e: Double) {
        let p = x * y
        let (x1, x0) = split(x)
        let (y1, y0) = split(y)
        return (p, ((x1 * y1 - p) + x1 * y0 + x0 * y1) + x0 * y0)
    }

    /// Two halves of 26 bits.
    private static func split(_ x: Double) -> (Double, Double) {
        let t = 0x8000001p0 * x
        let high = t - (t - x)
        return (high, x - high)
    }
}
