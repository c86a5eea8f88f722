// Constants of a training step, rounded once from their exact real values (T4).

extension ScalarMath {
    /// RNE32(x * numerator / denominator), x finite and not negative, numerator < 2^31, 0 < denominator < 2^31.
    public static func scaled(_ x: Float, by numerator: UInt64, over denominator: UInt64) -> Float {
        let (m, e) = parts(x)
        return quotient(UInt128(m) * UInt128(numerator), sticky: false, UInt128(denominator), exponent: e)
    }

    /// RNE32(x * (1 - (1 - f) * a / b)), x finite and not negative, 0 <= f <= 1, 0 <= a <= b, 0 < b < 2^31.
    public static func linearDecay(_ x: Float, to f: Float, at a: UInt64, of b: UInt64) -> Float {
        // x (b - a + f a) / b over the unit 2^-72: what f has below it is a sticky bit, far from where the result rounds.
        let (m, e) = parts(x)
        let (fm, fe) = parts(f)
        let shift = fe + 72
        let product = UInt128(fm) * UInt128(a)
        var sum = UInt128(b - a) << 72
        var isSticky = false
        if shift >= 0 {
            sum += product << UInt128(shift)
        } else if -shift < 128 {
            sum += product >> UInt128(-shift)
            isSticky = product & ((UInt128(1) << UInt128(-shift)) - 1) != 0
        } else {
            isSticky = product != 0
        }
        // The sum is below 2^104 and x's significand below 2^24.
        return quotient(sum * UInt128(m), sticky: isSticky, UInt128(b), exponent: e - 72)
    }

    /// RNE32(x * (f + (1 - f) * (1 + cos(pi a / b)) / 2)), arguments as of ``linearDecay(_:to:at:of:)``.
    public static func cosineDecay(_ x: Float, to f: Float, at a: UInt64, of b: UInt64) -> Float {
        // Where the cosine is rational (Niven), ties are possible: exactly.
        for (numerator, share) in [(0, 0), (2, 1), (3, 2), (4, 3), (6, 4)] as [(UInt64, UInt64)]
        where 6 * a == numerator * b { return linearDecay(x, to: f, at: share, of: 4) }
        if f == 1 || x == 0 { return x }
        // (1 + cos(pi p)) / 2 = cos(pi p / 2)^2, above p = 1/2 as sin(pi (1 - p) / 2)^2.
        let isLate = 2 * a > b
        let angle = pi * Double(isLate ? b - a : a) / DoubleDouble(Double(2 * b))
        let root = isLate ? sineSeries(angle) : cosineSeries(angle)
        let f = DoubleDouble(Double(f))
        return ((f + (DoubleDouble(1) - f) * (root * root)) * Double(x)).single
    }

    /// RNE32(1 / (1 - beta^n)), 0 <= beta < 1, 1 <= n < 2^31.
    public static func biasCorrection(_ beta: Float, step n: Int) -> Float {
        var power = DoubleDouble(1)
        var base = DoubleDouble(Double(beta))
        var rest = n
        while rest > 0 {
            if rest & 1 == 1 { power = power * base }
            base = base * base
            rest >>= 1
        }
        return (DoubleDouble(1) / (DoubleDouble(1) - power)).single
    }

    /// x = m * 2^e, of a finite x that is not negative.
    private static func parts(_ x: Float) -> (m: UInt32, e: Int) {
        let biased = Int(x.bitPattern >> 23)
        let fraction = x.bitPattern & 0x7F_FFFF
        return (biased == 0 ? fraction : fraction | 0x80_0000, max(biased, 1) - 150)
    }

    /// RNE32((n + something below 1 if sticky) / d * 2^exponent).
    private static func quotient(_ n: UInt128, sticky: Bool, _ d: UInt128, exponent: Int) -> Float {
        if n == 0 && !sticky { return 0 }
        if n == 0 { return 0 }
        let up = n.leadingZeroBitCount
        let (q, r) = (n << UInt128(up)).quotientAndRemainder(dividingBy: d)
        return rounded(q, sticky: sticky || r != 0, exponent: exponent - up)
    }

    /// q * 2^exponent, and a little more if sticky, to nearest even with gradual underflow.
    private static func rounded(_ q: UInt128, sticky: Bool, exponent: Int) -> Float {
        let top = 127 - q.leadingZeroBitCount
        // The place of the last bit that binary32 keeps.
        let last = max(top + exponent - 23, -149) - exponent
        if last <= 0 { return Float(UInt64(q)) * powerOfTwoSingle(exponent) }
        if last > 127 { return 0 }
        var kept = q >> UInt128(last)
        let rest = q & ((UInt128(1) << UInt128(last)) - 1)
        let half = UInt128(1) << UInt128(last - 1)
        if rest > half || (rest == half && (sticky || kept & 1 == 1)) { kept += 1 }
        return Float(UInt64(kept)) * powerOfTwoSingle(last + exponent)
    }

    /// Times this, an integer below 2^25 is exact where its product is a binary32 number: in two steps where one would underflow.
    private static func powerOfTwoSingle(_ k: Int) -> Float {
        Float(bitPattern: k >= -126 ? UInt32(k + 127) << 23 : UInt32(1) << UInt32(k + 149))
    }
}
