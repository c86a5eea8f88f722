/// Draws from distributions, made from random words (G2-G4). Every word is valid; no result is NaN or infinite.
public enum RandomDistributions {
    /// Uniform on (0, 1): u = (2 (w >> 9) + 1) * 2^-24, exactly (G2).
    ///
    /// 2^23 equally likely values from 2^-24 to 1 - 2^-24, symmetric about 1/2: u(w) + u(~w) = 1. Never 0, 1/2 or 1.
    public static func uniform(_ word: UInt32) -> Float {
        // G2: an odd integer below 2^24 is exact in fp32, and so is its scaling.
        SoftFloat32.multiply(SoftFloat32.convert(UInt64(2 * (word >> 9) + 1)), 0x1p-24)
    }

    /// A standard Gumbel variate: v = min(RNE32((2w + 1) * 2^-33), 1 - 2^-24), t = -log1p(-v), g = -log(t) (G3).
    ///
    /// Falls as the word grows, from 22.873857 at 0 to -2.8115408 from 0xFFFFFE80 on. The upper tail, where samples are
    /// decided, is resolved to 2^-33 in v. Where t rounds to 1, log(t) is +0 and g is -0.
    public static func gumbel(_ word: UInt32) -> Float {
        // G3: 33 bits rounded to 24; the scaling is exact.
        let rounded = SoftFloat32.multiply(SoftFloat32.convert(2 * UInt64(word) + 1), 0x1p-33)
        // G3: near the upper end the rounding would reach 1, where g would be -infinity.
        let v = SoftFloat32.minimum(rounded, 1 - 0x1p-24)
        // G3, E1: two roundings; negation is exact.
        let t = SoftFloat32.negate(CorrectlyRounded.log1p(SoftFloat32.negate(v)))
        return SoftFloat32.negate(CorrectlyRounded.log(t))
    }

    /// Two independent standard normal variates from the words of draws 2n and 2n + 1 (Box and Muller 1958; G4).
    ///
    /// With (u1, u2) the uniform numbers of the words: r = fl(sqrt(-2 * log(u1))), x0 = fl(r * cosPi(2 * u2)),
    /// x1 = fl(r * sinPi(2 * u2)). r is at most 5.7681074; neither result is ever a zero.
    public static func normal(_ first: UInt32, _ second: UInt32) -> (Float, Float) {
        let u1 = uniform(first)
        let u2 = uniform(second)
        // G4, E1: log and the square root round; the scaling by -2 is exact.
        let radius = SoftFloat32.squareRoot(SoftFloat32.multiply(-2, CorrectlyRounded.log(u1)))
        // G4: exact.
        let angle = SoftFloat32.multiply(2, u2)
        // G4, E1: cosPi and sinPi round, and so does each product.
        return (
            SoftFloat32.multiply(radius, CorrectlyRounded.cosPi(angle)),
            SoftFloat32.multiply(radius, CorrectlyRounded.sinPi(angle))
        )
    }
}
