/// A binary32 argument taken apart: sign, and m * 2^e for finite numbers.
struct Argument {
    let isNegative: Bool
    let isNaN: Bool
    let isInfinite: Bool
    /// The significand as an integer below 2^24; 0 for zeros.
    let m: UInt64
    let e: Int

    init(_ x: Float) {
        let bits = x.bitPattern
        let biased = Int(bits >> 23 & 0xFF)
        let fraction = UInt64(bits & 0x7F_FFFF)
        isNegative = bits >> 31 == 1
        isNaN = biased == 255 && fraction != 0
        isInfinite = biased == 255 && fraction == 0
        m = biased == 0 ? fraction : fraction | 0x80_0000
        e = max(biased, 1) - 150
    }

    var isZero: Bool { m == 0 }

    /// floor(log2 |x|) of a finite number that is not zero.
    var top: Int { e + 63 - m.leadingZeroBitCount }

    /// Where |x| lies in half turns, for sin(pi x) and cos(pi x).
    enum HalfTurns {
        case integer(isOdd: Bool)
        /// n + 1/2; the sine is 1, or -1 for odd n.
        case half(sineIsNegative: Bool)
        /// sin(pi |x|) = +-sin(pi t) if `usesSine`, else +-cos(pi t), and cos(pi |x|) the other of the two; 0 < t = m 2^e <= 1/4.
        case octant(usesSine: Bool, sineIsNegative: Bool, cosineIsNegative: Bool, m: UInt64, e: Int)
    }

    /// Exact, for every finite x.
    var halfTurns: HalfTurns {
        if isZero || e >= 1 { return .integer(isOdd: false) }
        if top < -2 { return .octant(usesSine: true, sineIsNegative: false, cosineIsNegative: false, m: m, e: e) }
        // 1/4 <= |x| < 2^24, in units of 2^e, -25 <= e <= 0.
        let one: UInt64 = 1 << UInt64(-e)
        let turn = m & (2 * one - 1)
        // Beyond a half turn both change sign.
        let isBeyond = turn >= one
        let rest = turn & (one - 1)
        if rest == 0 { return .integer(isOdd: isBeyond) }
        if 2 * rest == one { return .half(sineIsNegative: isBeyond) }
        // In (1/2, 1) the sine is that of 1 - rest, the cosine the negative.
        let isMirrored = 2 * rest > one
        let folded = isMirrored ? one - rest : rest
        let usesSine = 4 * folded <= one
        // Above 1/4 the roles change: t = 1/2 - folded, in units of 2^(e - 1).
        return .octant(
            usesSine: usesSine, sineIsNegative: isBeyond, cosineIsNegative: isBeyond != isMirrored,
            m: usesSine ? folded : one - 2 * folded, e: usesSine ? e : e - 1)
    }
}
