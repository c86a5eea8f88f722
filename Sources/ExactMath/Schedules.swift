// Constants of a training step that are rounded once from their exact real values (T4).

extension CorrectlyRounded {
    /// RNE32(x * numerator / denominator): a learning rate on its way up.
    ///
    /// - Precondition: x is finite and not negative, numerator < 2^31, 0 < denominator < 2^31.
    public static func scaled(_ x: Float, by numerator: UInt64, over denominator: UInt64) -> Float {
        // x (1 - (1 - 0) (denominator - numerator) / denominator), where the fraction does not exceed 1.
        precondition(
            x.isFinite && x.bitPattern >> 31 == 0 && numerator < 1 << 31 && (1..<1 << 31).contains(denominator))
        let a = Argument(x)
        return quotient(FixedPoint(numerator, fractionLimbs: exactLimbs) * a.m, denominator, exponent: a.e)
    }

    /// RNE32(x * (1 - (1 - f) * a / b)): linear decay from x at a = 0 to f x at a = b.
    ///
    /// - Precondition: x is finite and not negative, 0 <= f <= 1, 0 <= a <= b, 0 < b < 2^31.
    public static func linearDecay(_ x: Float, to f: Float, at a: UInt64, of b: UInt64) -> Float {
        precondition(x.isFinite && x.bitPattern >> 31 == 0 && f >= 0 && f <= 1 && a <= b && (1..<1 << 31).contains(b))
        let (argument, fraction) = (Argument(x), Argument(f))
        // x (b - a + f a) / b, exact up to the division: f has at most 149 fraction bits.
        let f = FixedPoint(fraction.m, exponent: fraction.e, fractionLimbs: exactLimbs)
        let weighted = FixedPoint(b - a, fractionLimbs: exactLimbs) + f * a
        return quotient(weighted * argument.m, b, exponent: argument.e)
    }

    /// RNE32(x * (f + (1 - f) * (1 + cos(pi a / b)) / 2)): cosine decay from x at a = 0 to f x at a = b (Loshchilov, Hutter 2017).
    ///
    /// - Precondition: as for ``linearDecay(_:to:at:of:)``.
    public static func cosineDecay(_ x: Float, to f: Float, at a: UInt64, of b: UInt64) -> Float {
        precondition(x.isFinite && x.bitPattern >> 31 == 0 && f >= 0 && f <= 1 && a <= b && (1..<1 << 31).contains(b))
        // Where the cosine is rational (Niven: 1, 1/2, 0, -1/2, -1), or does not matter, the value is that of a linear decay.
        for (numerator, share) in [(0, 0), (2, 1), (3, 2), (4, 3), (6, 4)] as [(UInt64, UInt64)]
        where 6 * a == numerator * b { return linearDecay(x, to: f, at: share, of: 4) }
        let (argument, fraction) = (Argument(x), Argument(f))
        if f.bitPattern == 0x3F80_0000 || argument.isZero { return x }
        let bits = SlowPath.rounded(to: .binary32, startingWith: exactLimbs) { limbs in
            // (1 + cos(pi p)) / 2 = cos(pi p / 2)^2; above p = 1/2 as sin(pi (1 - p) / 2)^2. The argument is at most pi / 4.
            let isLate = 2 * a > b
            let w = (SlowPath.constants.pi(limbs) * (isLate ? b - a : a)) / (2 * b)
            let root = isLate ? SlowPath.sine(w) : SlowPath.cosine(w)
            let f = FixedPoint(fraction.m, exponent: fraction.e, fractionLimbs: limbs)
            let weighted = f + (FixedPoint(1, fractionLimbs: limbs) - f) * (root * root)
            // Errors: the series' few hundred units, pi's times 2^31, doubled by the square, times x's 24 bits.
            return Enclosure(value: weighted * argument.m, exponent: argument.e, error: 1 << 62)
        }
        return Float(bitPattern: UInt32(bits))
    }

    /// RNE32(1 / (1 - beta^n)): Adam's correction of a moment's bias after n steps (Kingma, Ba 2015).
    ///
    /// - Precondition: 0 <= beta < 1, 1 <= n < 2^31.
    public static func biasCorrection(_ beta: Float, step n: UInt64) -> Float {
        precondition(beta >= 0 && beta < 1 && (1..<1 << 31).contains(n))
        let argument = Argument(beta)
        let bits = SlowPath.rounded(to: .binary32, startingWith: exactLimbs) { limbs in
            // beta^n by squaring: each product is low by less than a unit, and squaring doubles what a factor lacks: below 2^33 units.
            var power = FixedPoint(1, fractionLimbs: limbs)
            var base = FixedPoint(argument.m, exponent: argument.e, fractionLimbs: limbs)
            var rest = n
            while rest > 0 {
                if rest & 1 == 1 { power = power * base }
                base = base * base
                rest >>= 1
            }
            // 1 - beta^n is at least 2^-24. Scaled to [1/2, 1], divided into 1 bit by bit.
            var divisor = FixedPoint(1, fractionLimbs: limbs) - power
            var places = 0
            while divisor + divisor < FixedPoint(1, fractionLimbs: limbs) {
                divisor = divisor + divisor
                places += 1
            }
            var remainder = FixedPoint(1, fractionLimbs: limbs)
            var quotient = FixedPoint(0, fractionLimbs: limbs)
            for place in 0...64 * limbs {
                if !(remainder < divisor) {
                    remainder = remainder - divisor
                    quotient = quotient + FixedPoint(1, exponent: -place, fractionLimbs: limbs)
                }
                // The quotient 2 is reached where the divisor is 1/2: its first two bits are then 1 and 1 again.
                if !(remainder < divisor) {
                    remainder = remainder - divisor
                    quotient = quotient + FixedPoint(1, exponent: -place, fractionLimbs: limbs)
                }
                remainder = remainder + remainder
            }
            return Enclosure(value: quotient, exponent: places, error: 1 << 62)
        }
        return Float(bitPattern: UInt32(bits))
    }

    /// Enough fraction limbs for the 149 bits of a binary32 number to be exact beside a sticky bit.
    private static let exactLimbs = 6

    /// RNE32(value / divisor * 2^exponent), value exact.
    private static func quotient(_ value: FixedPoint, _ divisor: UInt64, exponent: Int) -> Float {
        var quotient = value / divisor
        // A remainder only matters as a sticky bit, far below the place where binary32 rounds.
        if quotient * divisor != value {
            quotient = quotient + FixedPoint(1, exponent: -64 * exactLimbs, fractionLimbs: exactLimbs)
        }
        return Float(bitPattern: UInt32(BinaryFormat.binary32.rounded(quotient, exponent: exponent)))
    }
}
