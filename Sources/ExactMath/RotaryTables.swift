extension CorrectlyRounded {
    /// How ``exp(sixths:rounding:)`` rounds.
    public enum Direction: Sendable { case toNearestOrEven, up }

    /// exp(n / 6) in binary32, |n| <= 500: what the tables of Squinch are made of (S2).
    public static func exp(sixths n: Int, rounding: Direction) -> Float {
        precondition(n.magnitude <= 500, "exp(\(n)/6) is beyond binary32")
        if n == 0 { return 1 }
        let bits = SlowPath.rounded(to: .binary32, upward: rounding == .up) { limbs in
            let x = FixedPoint(UInt64(n.magnitude), fractionLimbs: limbs) / 6
            let (v, k) = SlowPath.exp(x, isNegative: n < 0)
            return Enclosure(value: v, exponent: k)
        }
        return Float(bitPattern: UInt32(bits))
    }

    /// sin(x) of an exact binary64 argument, rounded once to binary32. sin(+-0) = +-0, NaN for infinities.
    public static func sin(_ x: Double) -> Float { circular(x, isSine: true) }

    /// cos(x) of an exact binary64 argument, rounded once to binary32. NaN for infinities.
    public static func cos(_ x: Double) -> Float { circular(x, isSine: false) }

    private static func circular(_ x: Double, isSine: Bool) -> Float {
        let bits = x.bitPattern
        let biased = Int(bits >> 52 & 0x7FF)
        let fraction = bits & 0x000F_FFFF_FFFF_FFFF
        let isNegative = bits >> 63 == 1
        if biased == 0x7FF { return Float(bitPattern: 0x7FC0_0000) }
        let m = biased == 0 ? fraction : fraction | 1 << 52
        let e = max(biased, 1) - 1075
        if m == 0 { return isSine ? Float(bitPattern: isNegative ? 0x8000_0000 : 0) : 1 }
        let top = e + 63 - m.leadingZeroBitCount
        // 1 - x^2/2 is within half a unit of 1 below 2^-13; sin(x) = x (1 - x^2/6 ...) of a tiny x needs only to know on which side of x.
        if !isSine && top < -13 { return 1 }
        let result: UInt64
        if top < -1 {
            result = SlowPath.rounded(to: .binary32, startingWith: top < -60 ? 3 + -top / 16 : 4) { limbs in
                isSine
                    ? SlowPath.sin(m, e, limbs)
                    : Enclosure(value: SlowPath.cosine(FixedPoint(m, exponent: e, fractionLimbs: limbs)))
            }
            return Float(bitPattern: UInt32(result) | (isSine && isNegative ? 0x8000_0000 : 0))
        }
        var flipsSign = false
        result = SlowPath.rounded(to: .binary32, startingWith: 4) { limbs in
            let (quadrant, rest) = SlowPath.quarterTurns(m, e, limbs)
            let usesSine = isSine == (quadrant % 2 == 0)
            // sin: + + - -; cos: + - - +.
            flipsSign = isSine ? quadrant >= 2 : quadrant == 1 || quadrant == 2
            // The rest is below pi/2; above 1 the complement is taken, which keeps the series short and their argument below 1.
            let one = FixedPoint(1, fractionLimbs: limbs)
            if rest < one { return Enclosure(value: usesSine ? SlowPath.sine(rest) : SlowPath.cosine(rest)) }
            let complement = (SlowPath.constants.pi(limbs) >> 1) - rest
            return Enclosure(value: usesSine ? SlowPath.cosine(complement) : SlowPath.sine(complement))
        }
        return Float(bitPattern: UInt32(result) | (flipsSign != (isSine && isNegative) ? 0x8000_0000 : 0))
    }

    /// theta_i = RNE32(base^(-2i/d)), the frequency of a rotary embedding's pair i of d/2 (E4; Su et al. 2021).
    ///
    /// - Precondition: base is finite and at least 1, 0 <= 2i < d.
    public static func rotaryFrequency(base: Float, pair i: Int, dimension d: Int) -> Float {
        precondition(base.isFinite && base >= 1 && i >= 0 && 2 * i < d, "no such frequency")
        if i == 0 || base.bitPattern == 0x3F80_0000 { return 1 }
        let a = Argument(base)
        let bits = SlowPath.rounded(to: .binary32) { limbs in
            // base > 1: its logarithm is positive. A power that is exact is a power of two, not half way between two numbers.
            let logarithm = SlowPath.log(a.m, a.e, limbs)
            let scaled = logarithm.exponent < 0 ? logarithm.value >> -logarithm.exponent : logarithm.value
            let (v, k) = SlowPath.exp((scaled * UInt64(2 * i)) / UInt64(d), isNegative: true)
            return Enclosure(value: v, exponent: k, error: 1 << 56)
        }
        return Float(bitPattern: UInt32(bits))
    }

    /// The cosine and sine of position * frequency for a rotary embedding, rounded once from the exact product (E4).
    ///
    /// - Precondition: 0 <= position < 2^29, so that the product fits binary64.
    public static func rotation(position: Int, frequency: Float) -> (cosine: Float, sine: Float) {
        precondition((0..<1 << 29).contains(position), "position \(position) is beyond 2^29")
        let angle = Double(position) * Double(frequency)
        return (cos(angle), sin(angle))
    }
}
