import Cases

// Finite numbers that kernels write where -infinity is meant: masked logits, the maximum before the first logit.

enum Sentinel {
    /// The last part of a deviation's name, the number, and how a sentence calls it.
    static let all: [(name: String, value: Float, text: String)] = [
        ("minus-10000", -10000, "-1e4"), ("minus-50000", -50000, "-5e4"),
        ("minus-65504", -65504, "-65504, the least finite fp16"), ("minus-1e9", -1e9, "-1e9"),
        ("lowest", -.greatestFiniteMagnitude, "the least finite fp32"),
    ]

    /// The number of a choice "PREFIX-NAME"; nil for any other.
    static func value(_ choice: String?, _ prefix: String) -> Float? {
        guard let choice, choice.hasPrefix(prefix + "-") else { return nil }
        let name = choice.dropFirst(prefix.count + 1)
        return all.first { $0.name == name }?.value
    }

    /// One deviation a sentinel; `summary` has its text in place of "*".
    static func deviations(_ axis: String, _ prefix: String, _ summary: String, _ clauses: [String]) -> [Deviation] {
        all.map { name, _, text in
            let parts = summary.split(separator: "*", omittingEmptySubsequences: false)
            return Deviation("\(axis).\(prefix)-\(name)", parts.joined(separator: text), clauses)
        }
    }
}
