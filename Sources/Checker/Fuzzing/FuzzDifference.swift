import Cases
import Goldens

/// In what way an answer is wrong: failures that agree in it, in the operation and in what their cases aim at are one class.
public struct FuzzDifference: Sendable, Hashable {
    public enum Kind: String, Sendable, CaseIterable {
        /// It crashed, hung or said that it failed.
        case failed
        case missing
        /// Of another type or shape.
        case malformed
        /// NaN where a number is right.
        case nan = "NaN for a number"
        case number = "a number for NaN"
        case infinity = "infinity for a finite number"
        case finite = "a finite number for infinity"
        /// Zero where another number is right, as where nothing was written.
        case zero = "zero for another number"
        case sign = "the other sign"
        case value = "another value"
        /// No element by itself: the errors are biased, or of another distribution.
        case distribution = "all elements together"
    }

    /// The first output that does not conform; empty where it failed as a whole.
    public let output: String
    public let kind: Kind

    public init(output: String, kind: Kind) {
        self.output = output
        self.kind = kind
    }

    /// Of a report on an answer that does not conform.
    init(_ report: CaseReport, _ outputs: TensorGroup, _ right: GoldenCase) {
        guard let output = report.outputs.first(where: { !$0.verdict.conforms }) else {
            self.init(output: "", kind: .failed)
            return
        }
        var kind = Kind.value
        switch output.verdict {
        case .missing: kind = .missing
        case .malformed: kind = .malformed
        default:
            if output.failures == 0 {
                kind = .distribution
            } else if let index = output.worst?.index ?? output.first?.index, let got = outputs[output.name],
                let expected = right.outputs[output.name], let fields = FloatFields(expected.type)
            {
                kind = Self.kind(got.bits(at: index), expected.bits(at: index), fields)
            }
        }
        self.init(output: output.name, kind: kind)
    }

    private static func kind(_ got: UInt64, _ expected: UInt64, _ fields: FloatFields) -> Kind {
        if fields.isNaN(expected) { return .number }
        if fields.isNaN(got) { return .nan }
        if got ^ expected == fields.signBit { return .sign }
        let (size, right) = (got & (fields.signBit - 1), expected & (fields.signBit - 1))
        if size == fields.infinity { return .infinity }
        if right == fields.infinity { return .finite }
        return size == 0 ? .zero : .value
    }
}
