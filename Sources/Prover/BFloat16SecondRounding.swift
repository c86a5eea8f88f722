import BFloat16

// The second derivation of B1 and B2 (B6). It shares nothing with the BFloat16 module but the names of modes and flags: numbers are
// hardware doubles, and rounding compares values with their neighbours instead of looking at bits.

/// The exact result of an operation before rounding.
enum ExactResult {
    /// Zeros, infinities and NaNs that no rounding touches.
    case decided(UInt16, Flags)
    /// A finite magnitude other than zero, and the sign.
    ///
    /// A double is enough: where the exact magnitude is not one, this is the double beside it that lies on the same side of every number
    /// of at most 26 bits ("rounded to odd"). Every number at which a rounding to bf16, binary16 or binary32 decides has fewer.
    case value(Double, negative: Bool)
}

/// The exact `sum` + `error`, where `error` is below half a last place of `sum` (Knuth's two-sum, or a residual), as a double rounded
/// to odd.
@inline(__always)
func roundedToOdd(_ sum: Double, error: Double) -> Double {
    if error == 0 || sum.bitPattern & 1 == 1 { return sum }
    let outward = (error > 0) == (sum > 0)
    return Double(bitPattern: outward ? sum.bitPattern + 1 : sum.bitPattern - 1)
}

/// 2^`exponent` for -1022 ... 1023.
@inline(__always)
func power(_ exponent: Int) -> Double {
    Double(bitPattern: UInt64(truncatingIfNeeded: exponent + 1023) << 52)
}

/// floor(log2 x) of a normal double.
@inline(__always)
func exponent(of x: Double) -> Int {
    Int(truncatingIfNeeded: x.bitPattern >> 52 & 0x7FF) - 1023
}

/// A binary format with gradual underflow.
struct SecondFormat {
    let precision: Int
    let leastExponent: Int
    let greatestExponent: Int

    static let bfloat16 = SecondFormat(precision: 8, leastExponent: -126, greatestExponent: 127)
    static let float16 = SecondFormat(precision: 11, leastExponent: -14, greatestExponent: 15)

    var greatestFinite: Double {
        (2 - power(1 - precision)) * power(greatestExponent)
    }

    /// The rounded magnitude, infinite on overflow to infinity, and the flags. Not for stochastic rounding.
    @inline(__always)
    func round(
        _ magnitude: Double, negative: Bool, _ mode: RoundingMode, _ tininess: Tininess
    ) -> (magnitude: Double, flags: Flags) {
        let binade = Prover.exponent(of: magnitude)
        let unit = power(max(binade, leastExponent) - (precision - 1))
        let rounded = nearby(magnitude, unit, negative, mode)
        if rounded >= power(greatestExponent) * 2 {
            let toInfinity =
                switch mode {
                case .nearestEven, .nearestAway: true
                case .down: negative
                case .up: !negative
                default: false
                }
            return (toInfinity ? .infinity : greatestFinite, [.overflow, .inexact])
        }
        if rounded == magnitude { return (rounded, []) }
        let least = power(leastExponent)
        if magnitude >= least { return (rounded, .inexact) }
        // Tiny before rounding. After rounding with an unbounded exponent it may be no more, if it was at least 2^(leastExponent - 1).
        if tininess == .beforeRounding || binade < leastExponent - 1 { return (rounded, [.inexact, .underflow]) }
        let unbounded = nearby(magnitude, power(binade - (precision - 1)), negative, mode)
        return (rounded, unbounded < least ? [.inexact, .underflow] : .inexact)
    }

    /// The multiple of `unit` that the mode takes: the one below, or the one above.
    @inline(__always)
    private func nearby(_ magnitude: Double, _ unit: Double, _ negative: Bool, _ mode: RoundingMode) -> Double {
        let quotient = magnitude * (1 / unit)  // a power of two: exact, and below 2^precision
        let below = Double(Int64(quotient))
        let part = quotient - below
        if part == 0 { return magnitude }
        let takesAbove: Bool
        switch mode {
        case .nearestEven: takesAbove = part == 0.5 ? !isEven(below) : part > 0.5
        case .nearestAway: takesAbove = part >= 0.5
        case .towardZero: takesAbove = false
        case .down: takesAbove = negative
        case .up: takesAbove = !negative
        case .toOdd: takesAbove = isEven(below)
        case .stochastic: takesAbove = false
        }
        return (takesAbove ? below + 1 : below) * unit
    }

    @inline(__always)
    private func isEven(_ n: Double) -> Bool { Int64(n) % 2 == 0 }
}

/// The exact result as a bf16 (B1, B2).
@inline(__always)
func secondRounding(_ exact: ExactResult, _ mode: RoundingMode, _ tininess: Tininess) -> (bits: UInt16, flags: Flags) {
    switch exact {
    case .decided(let bits, let flags): return (bits, flags)
    case .value(let magnitude, let negative):
        let sign: UInt16 = negative ? 0x8000 : 0
        if case .stochastic(let random) = mode {
            let (bits, flags) = secondStochasticRounding(magnitude, random)
            return (sign | bits, flags)
        }
        let (rounded, flags) = SecondFormat.bfloat16.round(magnitude, negative: negative, mode, tininess)
        return (sign | UInt16(truncatingIfNeeded: Float(rounded).bitPattern >> 16), flags)
    }
}

/// B1's rule for stochastic rounding, word for word: (bits(RTZ32(|v|)) + r) >> 16.
@inline(__always)
private func secondStochasticRounding(_ magnitude: Double, _ random: UInt16) -> (bits: UInt16, flags: Flags) {
    guard let truncated = truncatedToFloat(magnitude) else { return (0x7F80, [.overflow, .inexact]) }
    let bits = UInt16((truncated.bitPattern + UInt32(random)) >> 16)
    if Double(truncated) == magnitude && truncated.bitPattern & 0xFFFF == 0 { return (bits, []) }
    if bits == 0x7F80 { return (bits, [.overflow, .inexact]) }
    return (bits, magnitude < power(-126) ? [.inexact, .underflow] : .inexact)
}

/// RTZ32 of a magnitude below 2^128; nil from there on.
@inline(__always)
func truncatedToFloat(_ magnitude: Double) -> Float? {
    if magnitude >= power(128) { return nil }
    let unit = power(max(exponent(of: magnitude), -126) - 23)
    return Float(Double(Int64(magnitude * (1 / unit))) * unit)
}

/// A random word for a case that cannot have all 65,536: one in four is `hash` itself, the others are on the two sides of the word from
/// which on the result rounds up, or 0xFFFF where there is none.
@inline(__always)
func randomWord(for exact: ExactResult, hash: UInt64) -> UInt16 {
    let word = UInt16(truncatingIfNeeded: hash >> 16)
    guard case .value(let magnitude, _) = exact, let truncated = truncatedToFloat(magnitude) else { return word }
    let below = truncated.bitPattern & 0xFFFF
    switch hash & 3 {
    case 0: return word
    case 1: return UInt16(truncatingIfNeeded: 0xFFFF - below)
    default: return UInt16(truncatingIfNeeded: min(0x10000 - below, 0xFFFF))
    }
}
