/// What differences are allowed.
public enum Policy: Sendable, Hashable, CustomStringConvertible {
    /// Equal bits; NaNs are one class unless bits are asked for. +0 and -0 differ.
    case exact
    /// At most this many representable values apart. +0 and -0 are 1 apart, infinity is one step beyond the largest finite value, NaN equals
    /// NaN alone. Integers must be equal.
    case ulp(UInt64)
    /// Inside the bound of clause Q3, unbiased; by bits where the case has no bounds.
    case bound

    /// "exact", "ulp:4", "bound"; nil for any other text.
    public init?(_ text: String) {
        switch text {
        case "exact": self = .exact
        case "bound": self = .bound
        default:
            guard text.hasPrefix("ulp:"), let count = UInt64(text.dropFirst(4)) else { return nil }
            self = .ulp(count)
        }
    }

    public var description: String {
        switch self {
        case .exact: "exact"
        case .ulp(let count): "ulp:\(count)"
        case .bound: "bound"
        }
    }

    /// The policy of an operation when none is asked for: `bound` where an order of accumulation is free to an implementation, else `exact`.
    public static func standard(for op: String) -> Policy {
        for prefix in ["dot.", "sum."] where op.hasPrefix(prefix) { return .bound }
        return .exact
    }
}

/// What NaNs are to a comparison (F2).
public enum NaNRule: String, Sendable, CaseIterable {
    /// All NaNs are equal.
    case asClass = "class"
    /// Every bit counts.
    case bits
}

/// What became of one output.
public enum Verdict: String, Sendable, CaseIterable {
    /// Every bit as the specification demands.
    case exact
    /// Other bits, but inside the bound and unbiased: another order of summation may give them.
    case legalReordering = "legal reordering"
    /// Other bits, within the number of units that the policy allows.
    case withinTolerance = "within tolerance"
    /// Beyond what the policy allows.
    case outside
    /// The implementation gave no such output.
    case missing
    /// Of another type or shape, or computed from other inputs.
    case malformed
    /// It crashed, hung or said that it failed, instead of answering: it could not be judged.
    case failed

    /// Whether the implementation conforms in this output.
    public var conforms: Bool { self == .exact || self == .legalReordering || self == .withinTolerance }
}
