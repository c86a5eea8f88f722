/// The functions of clause E one argument at a time, correctly rounded: a binary64 estimate with a rounding test, and double-double
/// arithmetic where the estimate lies too near to a point where binary32 rounds.
///
/// Estimates err by less than 2^-49 of the value, double-double by less than 2^-90. No result other than the exact ones, which double-double finds
/// exactly, lies within 2^-62 of a half-way point; every argument of every function has been compared with the reference, see the specification.
public enum ScalarMath {
    /// NaN as stored (F2).
    static let notANumber = Float(bitPattern: 0x7FC0_0000)

    /// `estimate` rounded to binary32, if all numbers within 2^-48 of it round so; results below 2^-125 are left to `exact`.
    @inline(__always)
    static func rounded(_ estimate: Double, otherwise exact: () -> DoubleDouble) -> Float {
        let rest = Int64(bitPattern: estimate.bitPattern & 0x1FFF_FFFF) - 0x1000_0000
        let isSafe = rest.magnitude > 32 && estimate.magnitude > 0x1p-125 && estimate.magnitude < 0x1p127
        return isSafe ? Float(estimate) : exact().single
    }

    // MARK: - Exponentials

    /// exp(x): 1 for +-0, +0 for -infinity.
    public static func exp(_ x: Float) -> Float {
        if x != x { return notANumber }
        if x > 88.8 { return .infinity }
        if x < -104 { return 0 }
        return rounded(expEstimate(Double(x))) { expExact(DoubleDouble(Double(x))) }
    }

    /// exp(x) - 1: +-0 for +-0, -1 for -infinity.
    public static func expm1(_ x: Float) -> Float {
        if x != x { return notANumber }
        if x == 0 { return x }
        if x > 88.8 { return .infinity }
        if x < -18 { return DoubleDouble(-1, 0x1p-60).single }
        return expm1Exact(DoubleDouble(Double(x))).single
    }

    /// ln 2 in parts: k times each of the first two is exact for |k| < 2^11.
    static let ln2: [Double] = [
        Double(bitPattern: 0x3FE6_2E42_FEFA_3800), Double(bitPattern: 0x3D2E_F357_93C7_6000),
        Double(bitPattern: 0x3A8C_C01F_97B5_7A08),
    ]

    static func expEstimate(_ x: Double) -> Double {
        let k = nearestInteger(x * 1.4426950408889634)
        let r = (x - k * ln2[0]) - k * ln2[1]
        var p = inverseFactorials[13]
        for n in stride(from: 12, through: 0, by: -1) { p = p * r + inverseFactorials[n] }
        return p * powerOfTwo(Int(k))
    }

    /// 1/n!, rounded.
    static let inverseFactorials: [Double] = {
        var list = [1.0]
        var factorial = 1.0
        for n in 1...13 {
            factorial *= Double(n)
            list.append(1 / factorial)
        }
        return list
    }()

    /// 2^k, normal.
    @inline(__always)
    static func powerOfTwo(_ k: Int) -> Double { Double(bitPattern: UInt64(k + 1023) << 52) }

    static func expExact(_ x: DoubleDouble) -> DoubleDouble {
        let (k, m) = reducedExpm1(x)
        return (m + DoubleDouble(1)).scaled(by: powerOfTwo(k))
    }

    static func expm1Exact(_ x: DoubleDouble) -> DoubleDouble {
        let (k, m) = reducedExpm1(x)
        if k == 0 { return m }
        return (m + DoubleDouble(1)).scaled(by: powerOfTwo(k)) - DoubleDouble(1)
    }

    /// x = k ln 2 + r, |r| <= 0.35: k and exp(r) - 1.
    private static func reducedExpm1(_ x: DoubleDouble) -> (k: Int, m: DoubleDouble) {
        // Below 2^-2 nothing is reduced: expm1 of a small number keeps its relative error.
        let isSmall = x.high.magnitude < 0.25
        let k = isSmall ? 0 : nearestInteger(x.high * 1.4426950408889634)
        var r = x
        if k != 0 {
            r = r - DoubleDouble.product(k, ln2[0])
            r = r - DoubleDouble.product(k, ln2[1])
            r = r - DoubleDouble.product(k, ln2[2])
        }
        // exp(r / 2^8) - 1 by its series, then (1 + q)^2 - 1 = 2 q + q^2 eight times.
        r = r.scaled(by: 0x1p-8)
        var sum = DoubleDouble(1) / DoubleDouble(39_916_800)
        var factorial = 39_916_800.0
        for n in stride(from: 10, through: 1, by: -1) {
            factorial /= Double(n + 1)
            sum = sum * r + DoubleDouble(1) / DoubleDouble(factorial)
        }
        var q = sum * r
        for _ in 0..<8 { q = q.scaled(by: 2) + q * q }
        return (Int(k), q)
    }

    // MARK: - Logarithms

    /// log(x): -infinity for +-0, NaN below 0, +0 for 1.
    public static func log(_ x: Float) -> Float {
        if x != x || x < 0 { return notANumber }
        if x == 0 { return -.infinity }
        if x == .infinity { return x }
        if x == 1 { return 0 }
        let estimate = logEstimate(Double(x))
        return rounded(estimate) { logExact(DoubleDouble(Double(x)), estimate) }
    }

    /// log(1 + x): +-0 for +-0, -infinity for -1, NaN below.
    public static func log1p(_ x: Float) -> Float {
        if x != x || x < -1 { return notANumber }
        if x == 0 || x == .infinity { return x }
        if x == -1 { return -.infinity }
        if x.magnitude < 0x1p-8 { return log1pSeries(Double(x)).single }
        let argument = DoubleDouble.sum(1, Double(x))
        let estimate = logEstimate(argument.high) + argument.low / argument.high
        return rounded(estimate) { logExact(argument, estimate) }
    }

    /// log(x) of a normal binary64 number, to a relative error of some 2^-51.
    static func logEstimate(_ x: Double) -> Double {
        var bits = Int64(bitPattern: x.bitPattern)
        let e = (bits - 0x3FE6_A09E_667F_3BCD) >> 52
        bits -= e << 52
        let m = Double(bitPattern: UInt64(bitPattern: bits))
        let s = (m - 1) / (m + 1)
        let z = s * s
        var p = 2.0 / 25
        for n in stride(from: 23, through: 3, by: -2) { p = p * z + 2 / Double(n) }
        let series = s * (z * p)
        let k = Double(e)
        return k * ln2[0] + (2 * s + (series + k * ln2[1]))
    }

    /// log(x) from an estimate y: y + log(x exp(-y)).
    static func logExact(_ x: DoubleDouble, _ y: Double) -> DoubleDouble {
        // Arguments near 2^-149 and 2^128 are scaled first, so that no product leaves the range.
        let t = x * expExact(DoubleDouble(-y)) - DoubleDouble(1)
        return DoubleDouble(y) + (t - (t * t).scaled(by: 0.5))
    }

    /// x - x^2/2 + x^3/3 - ..., |x| < 2^-8.
    private static func log1pSeries(_ x: Double) -> DoubleDouble {
        let x = DoubleDouble(x)
        var sum = DoubleDouble(1) / DoubleDouble(-14)
        for n in stride(from: 13, through: 1, by: -1) {
            sum = sum * x + DoubleDouble(1) / DoubleDouble(n % 2 == 1 ? Double(n) : -Double(n))
        }
        return sum * x
    }

    // MARK: - Roots and quotients

    /// sqrt(x), as the processor has it.
    public static func sqrt(_ x: Float) -> Float { x != x || x < 0 ? notANumber : x.squareRoot() }

    /// 1 / x, as the processor has it.
    public static func reciprocal(_ x: Float) -> Float { x != x ? notANumber : 1 / x }

    /// RNE32(1 / n), 0 < n < 2^53.
    public static func reciprocal(of n: Int) -> Float { (DoubleDouble(1) / DoubleDouble(Double(n))).single }

    /// 1 / sqrt(x): +-infinity for +-0, NaN below 0.
    public static func rsqrt(_ x: Float) -> Float {
        if x != x || x < 0 { return notANumber }
        if x == 0 || x == .infinity { return 1 / x }
        let x = Double(x)
        let y = 1 / x.squareRoot()
        return rounded(y) {
            // y (1 + (1 - x y^2) / 2); where x y^2 is 1, y is exact.
            let rest = DoubleDouble(1) - DoubleDouble.product(y, y) * x
            return DoubleDouble(y) + (DoubleDouble(y) * rest).scaled(by: 0.5)
        }
    }

    // MARK: - Circular functions

    static let pi = DoubleDouble(Double(bitPattern: 0x4009_21FB_5444_2D18), Double(bitPattern: 0x3CA1_A626_3314_5C07))

    /// sin(pi x): +-0 for +-0 and for integers with their sign, NaN for infinities.
    public static func sinPi(_ x: Float) -> Float {
        guard x.isFinite else { return notANumber }
        let turns = halfTurns(x)
        if turns == nearestInteger(turns) { return Float(sign: x.sign, exponent: 0, significand: 0) }
        return circularPi(turns, isSine: true)
    }

    /// cos(pi x): +0 half way between integers, NaN for infinities.
    public static func cosPi(_ x: Float) -> Float {
        guard x.isFinite else { return notANumber }
        return circularPi(halfTurns(x), isSine: false)
    }

    /// x - 2 n, in -1 ... 1, exactly. From 2^25 on x is even.
    private static func halfTurns(_ x: Float) -> Double {
        x.magnitude >= 0x1p25 ? 0 : Double(x) - 2 * nearestInteger(Double(x) / 2)
    }

    /// The integer nearest to x, |x| < 2^51, ties to even.
    @inline(__always)
    static func nearestInteger(_ x: Double) -> Double { (x + 0x1.8p52) - 0x1.8p52 }

    /// sin or cos of pi t, -1 <= t <= 1.
    private static func circularPi(_ t: Double, isSine: Bool) -> Float {
        // The nearest multiple of 1/2, and what is left, exactly.
        let quarter = nearestInteger(2 * t)
        let rest = t - quarter / 2
        let quadrant = Int(quarter) & 3
        let usesSine = isSine == (quadrant % 2 == 0)
        let isNegative = isSine ? quadrant >= 2 : quadrant == 1 || quadrant == 2
        if rest == 0 { return usesSine ? 0 : isNegative ? -1 : 1 }
        let angle = rest * pi.high
        let estimate = usesSine ? sineEstimate(angle, rest) : cosineEstimate(angle)
        let value = rounded(estimate) {
            let exact = pi * rest
            return usesSine ? sineSeries(exact) : cosineSeries(exact)
        }
        return isNegative ? -value : value
    }

    private static func sineEstimate(_ angle: Double, _ rest: Double) -> Double {
        let z = angle * angle
        var p = 0.0
        for n in stride(from: 17, through: 3, by: -2) { p = (p + inverseOddFactorial[n]) * -z }
        return angle + (angle * p + rest * pi.low)
    }

    private static func cosineEstimate(_ angle: Double) -> Double {
        let z = angle * angle
        var p = 0.0
        for n in stride(from: 18, through: 2, by: -2) { p = (p + inverseOddFactorial[n]) * -z }
        return 1 + p
    }

    /// 1/n!, rounded, n up to 18.
    private static let inverseOddFactorial: [Double] = {
        var list = [1.0]
        var factorial = 1.0
        for n in 1...18 {
            factorial *= Double(n)
            list.append(1 / factorial)
        }
        return list
    }()

    /// sin(x), |x| <= 1.6.
    static func sineSeries(_ x: DoubleDouble) -> DoubleDouble {
        let z = x * x
        var term = x
        var sum = x
        for n in stride(from: 2, through: 34, by: 2) {
            term = -(term * z) / DoubleDouble(Double(n * (n + 1)))
            sum = sum + term
        }
        return sum
    }

    /// cos(x), |x| <= 1.6.
    static func cosineSeries(_ x: DoubleDouble) -> DoubleDouble {
        let z = x * x
        var term = DoubleDouble(1)
        var sum = term
        for n in stride(from: 1, through: 35, by: 2) {
            term = -(term * z) / DoubleDouble(Double(n * (n + 1)))
            sum = sum + term
        }
        return sum
    }

    /// cos and sin of position * frequency, the product exact, each rounded once (E4). 0 <= position < 2^29.
    public static func rotation(position: Int, frequency: Float) -> (cosine: Float, sine: Float) {
        let angle = Double(position) * Double(frequency)
        // A quotient of 29 bits times a part of 24 is exact.
        let quarters = nearestInteger(angle * 0.6366197723675814)
        var rest = DoubleDouble(angle)
        for part in halfPi { rest = rest - DoubleDouble(quarters * part) }
        let (s, c) = (sineSeries(rest), cosineSeries(rest))
        if angle == 0 { return (1, 0) }
        switch Int(quarters) & 3 {
        case 0: return (c.single, s.single)
        case 1: return ((-s).single, c.single)
        case 2: return ((-c).single, (-s).single)
        default: return (s.single, (-c).single)
        }
    }

    /// pi/2, 24 bits a part.
    private static let halfPi: [Double] = [
        0x1.921fb4p+0, 0x1.4442dp-24, 0x1.846988p-48, 0x1.8cc516p-72, 0x1.01b838p-96, 0x1.a25204p-120, 0x1.382228p-145,
        0x1.9f31dp-169,
    ]

    /// RNE32(base^(-2 i / d)), base >= 1 (E4).
    public static func rotaryFrequency(base: Float, pair i: Int, dimension d: Int) -> Float {
        if i == 0 || base == 1 { return 1 }
        let x = Double(base)
        let logarithm = logExact(DoubleDouble(x), logEstimate(x))
        return expExact(-(logarithm * Double(2 * i)) / DoubleDouble(Double(d))).single
    }
}
