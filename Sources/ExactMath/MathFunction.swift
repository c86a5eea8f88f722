/// The one-argument functions of clause E1, by the names that golden files use after `math.`.
public enum MathFunction: String, CaseIterable, Sendable {
    case exp, expm1, log, log1p, sqrt, rsqrt, reciprocal, sinPi, cosPi

    /// RNE32 of the exact function.
    public func evaluate(_ x: Float) -> Float {
        switch self {
        case .exp: CorrectlyRounded.exp(x)
        case .expm1: CorrectlyRounded.expm1(x)
        case .log: CorrectlyRounded.log(x)
        case .log1p: CorrectlyRounded.log1p(x)
        case .sqrt: CorrectlyRounded.sqrt(x)
        case .rsqrt: CorrectlyRounded.rsqrt(x)
        case .reciprocal: CorrectlyRounded.reciprocal(x)
        case .sinPi: CorrectlyRounded.sinPi(x)
        case .cosPi: CorrectlyRounded.cosPi(x)
        }
    }

    /// RNE64 of the exact function of the binary32 argument (Q1); the special values of E1; NaN is 0x7FF8000000000000.
    public func truth(_ x: Float) -> Double {
        let a = Argument(x)
        let special = specialTruth(x, a)
        if let special { return special }
        let bits: UInt64
        switch self {
        case .exp: bits = SlowPath.rounded(to: .binary64) { SlowPath.exp(isNegative: a.isNegative, a.m, a.e, $0) }
        case .expm1: bits = SlowPath.rounded(to: .binary64) { SlowPath.expm1(isNegative: a.isNegative, a.m, a.e, $0) }
        case .log: bits = SlowPath.rounded(to: .binary64) { SlowPath.log(a.m, a.e, $0) }
        case .log1p: bits = SlowPath.rounded(to: .binary64) { SlowPath.log1p(isNegative: a.isNegative, a.m, a.e, $0) }
        case .sqrt: bits = CorrectlyRounded.root(x, .binary64) ?? 0
        case .rsqrt: bits = CorrectlyRounded.reciprocalRoot(a, .binary64)
        case .reciprocal:
            // 2^90 / m: 67 bits or more, and the remainder is the sticky bit.
            let power: UInt128 = 1 << 90
            let m = UInt128(a.m)
            bits =
                BinaryFormat.binary64.rounded(power / m, exponent: -90 - a.e, sticky: power % m != 0)
                | (a.isNegative ? 1 << 63 : 0)
        case .sinPi, .cosPi: return turnsTruth(a)
        }
        return Double(bitPattern: bits)
    }

    /// What needs no series: NaN, infinities, zeros, exact results, and results that no binary64 tells from 1, x or an infinity.
    private func specialTruth(_ x: Float, _ a: Argument) -> Double? {
        let float = evaluate(x)
        if float.isNaN { return Double(bitPattern: 0x7FF8_0000_0000_0000) }
        if a.isInfinite || a.isZero { return Double(float) }
        switch self {
        case .exp:
            // Within half a unit of 1; beyond binary64's range either way.
            if a.top < -54 { return 1 }
            if a.top >= 10 { return a.isNegative ? 0 : .infinity }
        case .expm1:
            if a.top < -54 { return Double(x) }
            if a.isNegative && a.top >= 6 { return -1 }
            if a.top >= 10 { return .infinity }
        case .log:
            if x.bitPattern == 0x3F80_0000 { return 0 }
            if float.isInfinite { return Double(float) }
        case .log1p:
            if float.isInfinite { return Double(float) }
            if a.top < -54 { return Double(x) }
        case .sqrt, .rsqrt, .reciprocal: break
        case .sinPi, .cosPi:
            if self == .cosPi && a.top < -30 { return 1 }
            if case .octant = a.halfTurns { return nil }
            return Double(float)
        }
        return nil
    }

    private func turnsTruth(_ a: Argument) -> Double {
        guard case .octant(let usesSine, let sineIsNegative, let cosineIsNegative, let m, let e) = a.halfTurns else {
            return 0
        }
        let isSine = (self == .sinPi) == usesSine
        let isNegative = self == .sinPi ? sineIsNegative != a.isNegative : cosineIsNegative
        let bits = SlowPath.rounded(to: .binary64) {
            isSine ? SlowPath.sinPi(m, e, $0) : SlowPath.cosPi(m, e, $0)
        }
        return Double(bitPattern: isNegative ? bits | 1 << 63 : bits)
    }
}
