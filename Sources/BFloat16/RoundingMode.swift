/// How a result that the format cannot hold is rounded (B1).
public enum RoundingMode: Sendable, Hashable, BitwiseCopyable {
    /// To nearest, ties to even: `rne`.
    case nearestEven
    /// Toward zero: `rtz`.
    case towardZero
    /// Toward minus infinity: `rdn`.
    case down
    /// Toward plus infinity: `rup`.
    case up
    /// To nearest, ties away from zero: `rna`.
    case nearestAway
    /// To odd: truncate, then set the last bit if inexact: `rto`. Overflow gives the largest finite value, which is odd.
    case toOdd
    /// Stochastic with 16 explicit bits: `sr`.
    ///
    /// The magnitude of the exact result is truncated to binary32, with gradual underflow; `random` is added to those 32 bits, and the
    /// upper 16 are the result. So v between two neighbours becomes the upper one with the probability of its distance from the lower
    /// one, to 2^-16 of a unit; an exact result stays. A magnitude of 2^128 or more, or a carry up to there, is infinity.
    case stochastic(random: UInt16)

    /// The mode of a recipe's name (`rne` `rtz` `rdn` `rup` `rna` `rto` `sr`); nil for any other text. `random` matters to `sr` alone.
    public init?(name: String, random: UInt16 = 0) {
        switch name {
        case "rne": self = .nearestEven
        case "rtz": self = .towardZero
        case "rdn": self = .down
        case "rup": self = .up
        case "rna": self = .nearestAway
        case "rto": self = .toOdd
        case "sr": self = .stochastic(random: random)
        default: return nil
        }
    }

    /// The name in recipes.
    public var name: String {
        switch self {
        case .nearestEven: "rne"
        case .towardZero: "rtz"
        case .down: "rdn"
        case .up: "rup"
        case .nearestAway: "rna"
        case .toOdd: "rto"
        case .stochastic: "sr"
        }
    }

    @inlinable var isStochastic: Bool {
        if case .stochastic = self { true } else { false }
    }
}

/// Stochastic rounding was asked of an operation whose result is not bf16, or that picks an integer (B2).
public struct RefusedRounding: Error, Hashable, Sendable, CustomStringConvertible {
    /// The operation that refused: `toInteger`, say.
    public let operation: String

    @inlinable
    public init(operation: String) { self.operation = operation }

    public var description: String {
        "\(operation): stochastic rounding (sr) is for arithmetic results in bf16; expected rne, rtz, rdn, rup, rna or rto"
    }
}
