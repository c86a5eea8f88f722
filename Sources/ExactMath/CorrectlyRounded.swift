/// Elementary functions of a binary32 argument, correctly rounded to nearest even with gradual underflow (E1).
///
/// No C library takes part. A 64-bit fixed-point evaluation decides all but a few arguments in a thousand million; those go to a slow path
/// of as many limbs as it takes. `touchstone prove math` compares each function with MPFR over all 2^32 arguments (E2). NaN arguments
/// and results are 0x7FC00000.
public enum CorrectlyRounded {
    private static let nan = Float(bitPattern: 0x7FC0_0000)
    private static let infinity = Float(bitPattern: 0x7F80_0000)

    private static func signed(_ bits: UInt32, negative: Bool) -> Float {
        Float(bitPattern: negative ? bits | 0x8000_0000 : bits)
    }

    private static func bits32(_ bits: UInt64) -> Float { Float(bitPattern: UInt32(bits)) }

    /// exp(x). exp(+-0) = 1, exp(-infinity) = +0; overflows from 88.72284 on, underflows to +0 below -103.97208.
    public static func exp(_ x: Float) -> Float {
        let a = Argument(x)
        if a.isNaN { return nan }
        if a.isInfinite { return a.isNegative ? 0 : infinity }
        // |x| < 2^-25: exp(x) is within half a unit of 1 (the unit below 1 is 2^-24).
        if a.top < -25 { return 1 }
        if a.top >= 7 { return a.isNegative ? 0 : infinity }
        let approximation: Approximation = FastPath.exp(isNegative: a.isNegative, a.m, a.e)
        if let bits = approximation.rounded() { return Float(bitPattern: bits) }
        return bits32(
            SlowPath.rounded(to: .binary32) { SlowPath.exp(isNegative: a.isNegative, a.m, a.e, $0) })
    }

    /// exp(x) - 1. expm1(+-0) = +-0, expm1(-infinity) = -1.
    public static func expm1(_ x: Float) -> Float {
        let a = Argument(x)
        if a.isNaN { return nan }
        if a.isZero { return x }
        if a.isInfinite { return a.isNegative ? -1 : infinity }
        // |x| < 2^-25: x (1 + x/2 + ...) is within half a unit of x.
        if a.top < -25 { return x }
        // exp(-32) is below a quarter of the unit below 1.
        if a.isNegative && a.top >= 5 { return -1 }
        if a.top >= 7 { return infinity }
        if let bits = FastPath.expm1(isNegative: a.isNegative, a.m, a.e).rounded() {
            return signed(bits, negative: a.isNegative)
        }
        return bits32(
            SlowPath.rounded(to: .binary32) { SlowPath.expm1(isNegative: a.isNegative, a.m, a.e, $0) })
    }

    /// The natural logarithm. log(+-0) = -infinity, log(1) = +0, NaN below zero.
    public static func log(_ x: Float) -> Float {
        let a = Argument(x)
        if a.isNaN { return nan }
        if a.isZero { return -infinity }
        if a.isNegative { return nan }
        if a.isInfinite { return infinity }
        if x.bitPattern == 0x3F80_0000 { return 0 }
        let (isNegative, approximation) = FastPath.log(a.m, a.e)
        if let bits = approximation.rounded() { return signed(bits, negative: isNegative) }
        return bits32(SlowPath.rounded(to: .binary32) { SlowPath.log(a.m, a.e, $0) })
    }

    /// log(1 + x). log1p(+-0) = +-0, log1p(-1) = -infinity, NaN below -1.
    public static func log1p(_ x: Float) -> Float {
        let a = Argument(x)
        if a.isNaN { return nan }
        if a.isZero { return x }
        if a.isNegative && x.bitPattern >= 0xBF80_0000 { return x.bitPattern == 0xBF80_0000 ? -infinity : nan }
        if a.isInfinite { return infinity }
        // |x| < 2^-25: x (1 - x/2 + ...) is within half a unit of x.
        if a.top < -25 { return x }
        let (isNegative, approximation) = FastPath.log1p(isNegative: a.isNegative, a.m, a.e)
        if let bits = approximation.rounded() { return signed(bits, negative: isNegative) }
        return bits32(
            SlowPath.rounded(to: .binary32) { SlowPath.log1p(isNegative: a.isNegative, a.m, a.e, $0) })
    }

    /// The square root. sqrt(+-0) = +-0, NaN below zero.
    public static func sqrt(_ x: Float) -> Float { SoftFloat32.squareRoot(x) }

    /// 1 / sqrt(x). rsqrt(+-0) = +-infinity, rsqrt(+infinity) = +0, NaN below zero.
    public static func rsqrt(_ x: Float) -> Float {
        let a = Argument(x)
        if a.isNaN { return nan }
        if a.isZero { return signed(0x7F80_0000, negative: a.isNegative) }
        if a.isNegative { return nan }
        if a.isInfinite { return 0 }
        return bits32(reciprocalRoot(a, .binary32))
    }

    /// 1 / x. reciprocal(+-0) = +-infinity, reciprocal(+-infinity) = +-0; overflows below 2^-128.
    public static func reciprocal(_ x: Float) -> Float { SoftFloat32.divide(1, x) }

    /// sin(pi x). Zero of x's sign for every integer x, NaN for infinities.
    public static func sinPi(_ x: Float) -> Float {
        let a = Argument(x)
        if a.isNaN || a.isInfinite { return nan }
        switch a.halfTurns {
        case .integer: return signed(0, negative: a.isNegative)
        case .half(let negative): return signed(0x3F80_0000, negative: negative != a.isNegative)
        case .octant(let usesSine, let sineNegative, _, let m, let e):
            let isNegative = sineNegative != a.isNegative
            let approximation = usesSine ? FastPath.sinPi(m, e) : FastPath.cosPi(m, e)
            if let bits = approximation.rounded() { return signed(bits, negative: isNegative) }
            let bits = SlowPath.rounded(to: .binary32) {
                usesSine ? SlowPath.sinPi(m, e, $0) : SlowPath.cosPi(m, e, $0)
            }
            return signed(UInt32(bits), negative: isNegative)
        }
    }

    /// cos(pi x). +0 for every half-integer x, NaN for infinities; 1 for every even integer, all of magnitude 2^24 and above.
    public static func cosPi(_ x: Float) -> Float {
        let a = Argument(x)
        if a.isNaN || a.isInfinite { return nan }
        // 1 - cos(pi x) < 5 x^2 < 2^-25.
        if a.top < -14 { return 1 }
        switch a.halfTurns {
        case .integer(let isOdd): return isOdd ? -1 : 1
        case .half: return 0
        case .octant(let usesSine, _, let isNegative, let m, let e):
            // The cosine's roles are the other way round.
            let approximation = usesSine ? FastPath.cosPi(m, e) : FastPath.sinPi(m, e)
            if let bits = approximation.rounded() { return signed(bits, negative: isNegative) }
            let bits = SlowPath.rounded(to: .binary32) {
                usesSine ? SlowPath.cosPi(m, e, $0) : SlowPath.sinPi(m, e, $0)
            }
            return signed(UInt32(bits), negative: isNegative)
        }
    }

    // MARK: Exact radicals

    /// The square root of a positive finite number by integers; nil for all others.
    static func root(_ x: Float, _ format: BinaryFormat) -> UInt64? {
        let a = Argument(x)
        if a.isNaN || a.isZero || a.isNegative || a.isInfinite { return nil }
        // An even exponent, and a radicand of 120 bits or so: the root has 59 or more, and what is left is the sticky bit.
        let width = 64 - a.m.leadingZeroBitCount
        var shift = 120 - width
        if (a.e - shift) % 2 != 0 { shift += 1 }
        let radicand = UInt128(a.m) << UInt128(shift)
        let root = integerSquareRoot(radicand)
        return format.rounded(
            root, exponent: (a.e - shift) / 2, sticky: root * root != radicand)
    }

    /// 1 / sqrt(m 2^e) by integers: floor(sqrt(floor(2^n / m))) = floor(sqrt(2^n / m)).
    static func reciprocalRoot(_ a: Argument, _ format: BinaryFormat) -> UInt64 {
        let width = 64 - a.m.leadingZeroBitCount
        // 2^n / m has 60 bits or so for binary32 and 120 for binary64: the root has half of that. n + e must be even.
        var n = (format.precision == 24 ? 59 : 119) + width
        if (n + a.e) % 2 != 0 { n += 1 }
        // Long division in two words of 64 bits.
        let m = UInt128(a.m)
        let high: UInt128 = n >= 64 ? 1 << UInt128(n - 64) : 0
        let low: UInt128 = n >= 64 ? (high % m) << 64 : 1 << UInt128(n)
        let quotient = (high / m) << 64 + low / m
        let remainder = low % m
        let root = integerSquareRoot(quotient)
        let isExact = remainder == 0 && root * root == quotient
        return format.rounded(root, exponent: -(n + a.e) / 2, sticky: !isExact)
    }

    /// floor(sqrt(n)).
    static func integerSquareRoot(_ n: UInt128) -> UInt128 {
        // Bit by bit from the top.
        var root: UInt128 = 0
        var rest = n
        var bit: UInt128 = 1 << UInt128((127 - n.leadingZeroBitCount) & ~1)
        while bit != 0 {
            if rest >= root + bit {
                rest -= root + bit
                root = (root >> 1) + bit
            } else {
                root >>= 1
            }
            bit >>= 2
        }
        return root
    }
}
