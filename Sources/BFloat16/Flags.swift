/// The IEEE 754 exceptions that an operation raised, in SoftFloat's order (B2).
public struct Flags: OptionSet, Sendable, Hashable, BitwiseCopyable {
    public let rawValue: UInt8

    @inlinable
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The result is not the exact value.
    public static let inexact = Flags(rawValue: 1)
    /// The result is tiny (``Tininess``) and inexact. An exact subnormal raises nothing.
    public static let underflow = Flags(rawValue: 2)
    /// The value rounded with an unbounded exponent is 2^128 or more in magnitude; inexact comes with it. Under stochastic rounding: the
    /// result is infinite and the exact value is not.
    public static let overflow = Flags(rawValue: 4)
    /// Finite operands gave an exact infinity: x / 0, logb(0).
    public static let divideByZero = Flags(rawValue: 8)
    /// No result can be defined, or a signalling NaN was an operand.
    public static let invalid = Flags(rawValue: 16)
}

extension Flags: CustomStringConvertible {
    /// The names joined by `+`, in order of their bits; `none` for no flag.
    public var description: String {
        let names = ["inexact", "underflow", "overflow", "divideByZero", "invalid"]
        let raised = names.indices.filter { rawValue >> UInt8($0) & 1 == 1 }.map { names[$0] }
        return raised.isEmpty ? "none" : raised.joined(separator: "+")
    }
}

/// When a result counts as tiny for the underflow flag (B2). The result itself is the same either way.
///
/// Stochastic rounding does not ask: there a result is tiny if the exact magnitude is below 2^-126.
public enum Tininess: String, Sendable, Hashable, CaseIterable, BitwiseCopyable {
    /// The value, rounded in the mode to 8 significant bits with an unbounded exponent, is below 2^-126 in magnitude.
    case afterRounding = "after"
    /// The exact value is below 2^-126 in magnitude.
    case beforeRounding = "before"
}
