/// What differences are allowed.
public enum Policy: Sendable, Hashable, CustomStringConvertible {
    /// Equal bits; NaNs are one class unless bits are asked for. +0 and -0 differ.
    case exact
    /// At most this many representable values apart. +0 and -0 are 1 apart, infinity is one step beyond the largest finite value, NaN equals
    /// NaN alone. Integers must be equal.
    case ulp(UInt64)
    /// Inside the bound of clauses Q3 to Q5, unbiased; by bits where the output has none.
    case bound
    /// Drawn from the right distribution by whatever generator (Q6); by bits where the output is no sample.
    case distribution

    /// "exact", "ulp:4", "bound", "distribution"; nil for any other text.
    public init?(_ text: String) {
        switch text {
        case "exact": self = .exact
        case "bound": self = .bound
        case "distribution": self = .distribution
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
        case .distribution: "distribution"
        }
    }

    /// The policy of an operation when none is asked for (Q7): `bound` where the goldens have bounds because an order of accumulation is free to an
    /// implementation, else `exact`.
    public static func standard(for op: String) -> Policy { Standard.of(op).policy }

    /// The standard policy of operations, and why.
    public struct Standard: Sendable, Hashable {
        /// "dot.gemm", or "math.*".
        public let pattern: NamePattern
        public let policy: Policy
        public let reason: String

        /// One for every operation; the first whose pattern matches holds.
        public static let all: [Standard] = [
            Standard(
                pattern: "dot.gemm", policy: .bound,
                reason: "the order of the additions is free to a kernel (Q3); flushed operands and results too (Q4)"),
            Standard(pattern: "sum.*", policy: .bound, reason: "the order of the additions is free to a kernel (Q3)"),
            Standard(
                pattern: "layer.linear", policy: .bound, reason: "three products, as dot.gemm; dw sums over all tokens"),
            Standard(
                pattern: "attention.forward", policy: .bound,
                reason: "o by its bound, P kept in bf16 or fp32 (Q3); z, max and sum by bounds from q and k (Q5)"),
            Standard(pattern: "attention.backward", policy: .bound, reason: "P and dS kept in bf16 or fp32 (Q3)"),
            Standard(
                pattern: "zreg.rows", policy: .bound, reason: "sums over the row, and the spread of its logits (Q3)"),
            Standard(
                pattern: "layer.crossEntropy", policy: .bound,
                reason: "loss and dlogits by their bounds (Q3); z and losses by bounds from the logits (Q5)"),
            Standard(
                pattern: "layer.sparseCrossEntropy", policy: .bound,
                reason: "loss and dlogits by their bounds (Q3); z and losses by bounds from the logits (Q5)"),
            Standard(
                pattern: "math.*", policy: .exact,
                reason: "correctly rounded (E1); for others math.*=bound, 4 units of 2^-24, or math.*=ulp:N"),
            Standard(
                pattern: "bf16.*", policy: .exact,
                reason: "correctly rounded (B); under stochastic rounding from the given bits, or bf16.*=distribution"),
            Standard(
                pattern: "random.*", policy: .exact,
                reason: "the draws of the given words (G); for other generators random.*=distribution"),
            Standard(
                pattern: "gumbel.*", policy: .exact,
                reason: "the sample of the given seed (K); for other generators gumbel.*=distribution"),
            Standard(
                pattern: "squinch.*", policy: .exact,
                reason: "a code (S); for own random bits of stochastic15 squinch.encode=distribution"),
            Standard(
                pattern: "layer.*", policy: .exact,
                reason: "the order of every sum is stated (R, T2) and the goldens have no bounds"),
            Standard(
                pattern: "*", policy: .exact,
                reason: "codes, masks, clamps, updates and whole steps: every bit is stated and nothing has bounds"),
        ]

        /// The standard of an operation.
        public static func of(_ op: String) -> Standard {
            all.first { $0.pattern.matches(op) } ?? all[all.count - 1]
        }
    }
}

/// A policy for the outputs that a pattern names: `bound`, `dot.gemm=bound`, `math.*=ulp:1`, `attention.forward/z=ulp:2`.
public struct PolicyRule: Sendable, Hashable, CustomStringConvertible {
    public let operations: NamePattern
    /// Of the operations.
    public let outputs: NamePattern
    public let policy: Policy

    public init(operations: NamePattern = "*", outputs: NamePattern = "*", policy: Policy) {
        self.operations = operations
        self.outputs = outputs
        self.policy = policy
    }

    /// `POLICY` or `OPERATION[/OUTPUT]=POLICY`; nil for any other text.
    public init?(_ text: String) {
        guard let equals = text.lastIndex(of: "=") else {
            guard let policy = Policy(text) else { return nil }
            self.init(policy: policy)
            return
        }
        guard let policy = Policy(String(text[text.index(after: equals)...])) else { return nil }
        guard !text[..<equals].contains("=") else { return nil }
        let parts = text[..<equals].split(separator: "/", omittingEmptySubsequences: false).map {
            NamePattern(String($0))
        }
        guard (1...2).contains(parts.count), let operations = parts[0], let outputs = parts.count == 2 ? parts[1] : "*"
        else { return nil }
        self.init(operations: operations, outputs: outputs, policy: policy)
    }

    public var description: String {
        let pattern = outputs == "*" ? operations.text : "\(operations)/\(outputs)"
        return pattern == "*" ? policy.description : "\(pattern)=\(policy)"
    }

    /// Whether the rule is about an operation at all.
    public func names(_ op: String) -> Bool { operations.matches(op) }

    /// Whether the rule is about an output of an operation.
    public func names(_ op: String, output: String) -> Bool { names(op) && outputs.matches(output) }
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
    /// Other draws, from the right distribution as far as the test can see.
    case inDistribution = "in distribution"
    /// Beyond what the policy allows.
    case outside
    /// The implementation gave no such output.
    case missing
    /// Of another type or shape, or computed from other inputs.
    case malformed
    /// It crashed, hung or said that it failed, instead of answering: it could not be judged.
    case failed

    /// Whether the implementation conforms in this output.
    public var conforms: Bool {
        switch self {
        case .exact, .legalReordering, .withinTolerance, .inDistribution: true
        case .outside, .missing, .malformed, .failed: false
        }
    }
}
