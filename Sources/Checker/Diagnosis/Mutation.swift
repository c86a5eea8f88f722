import Cases
import ExactMath
import Goldens
import JSON
import Platform

/// A planted defect: an implementation of one operation that is wrong in a known way.
public struct Mutation: Sendable, Hashable, CustomStringConvertible {
    public enum Kind: String, Sendable, CaseIterable {
        /// One deviation of ``DeviationCatalog``.
        case deviation
        /// Two at once.
        case pair
        /// Damage to what was computed rightly; ``DeviationCatalog`` does not know it.
        case damage

        /// Whether a diagnosis can name it at all.
        public var hasName: Bool { self != .damage }
    }

    public let kind: Kind
    public let op: String
    /// Of `deviation` and `pair`.
    public let deviations: [Deviation]
    /// Of `damage`: what it is called.
    let damage: Damage?

    /// "dot.gemm: dot.order.ascending".
    public var description: String { "\(op): \(name)" }
    /// The names of the deviations, or of the damage.
    public var name: String {
        damage.map { "damage.\($0.rawValue)" } ?? deviations.map(\.name).joined(separator: " + ")
    }
    public var summary: String { damage?.summary ?? deviations.map(\.summary).joined(separator: ", and ") }

    /// What the defective implementation answers; nil where the defect means nothing for the case.
    public func outputs(of goldenCase: GoldenCase) throws -> TensorGroup? {
        if let damage { return damage.outputs(of: goldenCase) }
        return try DeviationCatalog.outputs(of: goldenCase, under: deviations)
    }

    /// Accidents, at places drawn from the case's name.
    enum Damage: String, Sendable, CaseIterable {
        case lastBit = "last-bit"
        case signBit = "sign-bit"
        case oneNaN = "one-nan"
        case neighboursExchanged = "neighbours-exchanged"
        case everySeventh = "every-seventh"

        var summary: String {
            switch self {
            case .lastBit: "flips the last bit of one element"
            case .signBit: "flips the highest bit of one element"
            case .oneNaN: "writes one NaN"
            case .neighboursExchanged: "exchanges two neighbouring elements"
            case .everySeventh: "flips the last bit of every seventh element"
            }
        }

        func outputs(of goldenCase: GoldenCase) -> TensorGroup? {
            // The last output that can hold the damage, so that not only the first is looked at.
            for named in goldenCase.outputs.tensors.reversed() {
                let tensor = named.tensor
                guard tensor.count > 0 else { continue }
                let place = Self.place(goldenCase.name, tensor.count)
                let highest = UInt64(1) << UInt64(8 * tensor.type.byteWidth - 1)
                let changed: Tensor
                switch self {
                case .lastBit: changed = tensor.mappingIndexed { $0 == place ? $1 ^ 1 : $1 }
                case .signBit: changed = tensor.mappingIndexed { $0 == place ? $1 ^ highest : $1 }
                case .oneNaN:
                    guard let fields = FloatFields(tensor.type) else { continue }
                    changed = tensor.mappingIndexed { $0 == place ? fields.infinity | fields.infinity >> 1 : $1 }
                case .neighboursExchanged:
                    guard
                        let first = (0..<tensor.count - 1).first(where: {
                            tensor.bits(at: $0) != tensor.bits(at: $0 + 1)
                        })
                    else { continue }
                    changed = tensor.picking { $0 == first ? first + 1 : $0 == first + 1 ? first : $0 }
                case .everySeventh: changed = tensor.mappingIndexed { $0 % 7 == place % 7 ? $1 ^ 1 : $1 }
                }
                if !Self.isSame(changed, tensor) { return goldenCase.outputs.replacing(named.name, with: changed) }
            }
            return nil
        }

        private static func isSame(_ a: Tensor, _ b: Tensor) -> Bool {
            (0..<a.count).allSatisfy { NaNRule.asClass.isEqual(a, b, $0) }
        }

        private static func place(_ name: String, _ count: Int) -> Int {
            var sum: UInt32 = 2_166_136_261
            for byte in name.utf8 { sum = (sum ^ UInt32(byte)) &* 16_777_619 }
            return Int(Philox4x32.block(key: (sum, 0), counter: (0, 0, 0, 0)).0) % count
        }
    }
}

/// What became of a planted defect.
public struct MutationOutcome: Sendable, Hashable {
    public enum Fate: String, Sendable, CaseIterable {
        /// Some output was judged outside, missing or malformed.
        case caught
        /// All differences are legal reorderings: no defect at all.
        case legal
        /// It differs and all was accepted for another reason, or nothing differs.
        case survived
    }

    public let mutation: Mutation
    public let fate: Fate
    /// Whether the diagnosis of every wrong output lists the planted deviations, or the one of two that shows in it, among those that reproduce every bit.
    public let isNamed: Bool
    /// What the diagnosis names: all that reproduce every bit, of all outputs or of one each.
    public let explanations: [String]
    /// Cases that differ, of those answered.
    public let wrongCases: Int
    public let cases: Int
}

/// Plants defects and looks whether they are caught and named: the checker checks itself.
public struct Mutator: Sendable {
    /// Golden cases by operation.
    private let cases: [String: [GoldenCase]]
    private let operations: [String]
    private let predictions = PredictionCache()

    public init(cases: [GoldenCase]) {
        var all: [String: [GoldenCase]] = [:]
        var order: [String] = []
        for one in cases {
            if all[one.op] == nil { order.append(one.op) }
            all[one.op, default: []].append(one)
        }
        self.cases = all
        operations = order
    }

    /// Every defect that changes some case: each deviation of each operation, `pairs` pairs an operation, each kind of damage.
    ///
    /// - Parameter isQuick: each deviation for one operation only, one pair a family, no damage twice.
    /// - Throws: `Interrupted`.
    public func mutations(isQuick: Bool = false, pairs: Int = 2) throws -> [Mutation] {
        var all: [Mutation] = []
        var seen: Set<String> = []
        for op in operations {
            let known = DeviationCatalog.deviations(for: op)
            var effective: [(Deviation, Int)] = []
            for deviation in known where !isQuick || !seen.contains(deviation.name) {
                let mutation = Mutation(kind: .deviation, op: op, deviations: [deviation], damage: nil)
                guard let first = try firstDifference(mutation) else { continue }
                effective.append((deviation, first))
                seen.insert(deviation.name)
                all.append(mutation)
            }
            all += try self.pairs(op, effective.map(\.0), isQuick ? 1 : pairs)
            for damage in Mutation.Damage.allCases where !isQuick || seen.insert("damage.\(damage)").inserted {
                let mutation = Mutation(kind: .damage, op: op, deviations: [], damage: damage)
                if try firstDifference(mutation) != nil { all.append(mutation) }
            }
        }
        return all
    }

    /// Pairs of different axes that act otherwise than either alone, drawn from the operation's name.
    private func pairs(_ op: String, _ deviations: [Deviation], _ wanted: Int) throws -> [Mutation] {
        var found: [Mutation] = []
        guard deviations.count > 1 else { return [] }
        for draw in 0..<UInt32(wanted * 20) where found.count < wanted {
            let block = Philox4x32.block(key: (UInt32(op.utf8.count), 77), counter: (draw, 0, 0, 0))
            let first = deviations[Int(block.0) % deviations.count]
            let second = deviations[Int(block.1) % deviations.count]
            guard first.axis != second.axis, !first.name.hasPrefix("output."), !second.name.hasPrefix("output.") else {
                continue
            }
            let set = deviations.filter { $0 == first || $0 == second }
            guard !found.contains(where: { $0.deviations == set }) else { continue }
            let isOfItsOwn = try (cases[op] ?? []).prefix(8).contains { one in
                try Interruption.check()
                guard let both = try DeviationCatalog.outputs(of: one, under: set),
                    let alone = try DeviationCatalog.outputs(of: one, under: [first]),
                    let other = try DeviationCatalog.outputs(of: one, under: [second])
                else { return false }
                return both != alone && both != other && both != one.outputs
            }
            if isOfItsOwn { found.append(Mutation(kind: .pair, op: op, deviations: set, damage: nil)) }
        }
        return found
    }

    private func firstDifference(_ mutation: Mutation) throws -> Int? {
        try (cases[mutation.op] ?? []).firstIndex { one in
            try Interruption.check()
            guard let outputs = try mutation.outputs(of: one) else { return false }
            return outputs != one.outputs
                && one.outputs.tensors.contains { named in
                    guard let got = outputs[named.name] else { return true }
                    guard got.type == named.tensor.type, got.shape == named.tensor.shape else { return true }
                    return (0..<got.count).contains { !NaNRule.asClass.isEqual(got, named.tensor, $0) }
                }
        }
    }

    /// Judges and diagnoses one defect over all cases of its operation, by the operation's standard policy.
    ///
    /// - Throws: `Interrupted`.
    public func outcome(of mutation: Mutation) throws -> MutationOutcome {
        let options = JudgingOptions()
        var observations: [Observation] = []
        var report = Report(subject: mutation.description)
        for one in cases[mutation.op] ?? [] {
            try Interruption.check()
            let outputs = try mutation.outputs(of: one) ?? one.outputs
            var answer = one
            answer.outputs = outputs
            report.append(Judge.judge(answer, against: one, suite: "", file: "", options: options))
            observations.append(Observation(goldenCase: one, outputs: outputs))
        }
        var diagnoser = Diagnoser(triesPairs: mutation.kind == .pair)
        diagnoser.predictions = predictions
        diagnoser.closestLimit = 0  // Only names are looked at.
        let diagnosis = try diagnoser.diagnose(observations)
        // Each wrong output may show one of two planted deviations alone.
        let planted = Set(mutation.deviations)
        let names = diagnosis?.outputs.map { output in output.exact.map { Set($0.deviations) } } ?? []
        let isNamed = !names.isEmpty && names.allSatisfy { $0.contains { $0.isSubset(of: planted) } }
        // Where no one cause explains all outputs, each has its own.
        var explanations = (diagnosis?.commonExplanations ?? []).map { $0.map(\.name).joined(separator: " + ") }
        if explanations.isEmpty {
            explanations = (diagnosis?.outputs ?? []).flatMap { output in
                output.exact.map { "outputs/\(output.name): \($0.name)" }
            }
        }
        let fate: MutationOutcome.Fate =
            if !report.conforms { .caught } else if report.count(.legalReordering) > 0 { .legal } else { .survived }
        return MutationOutcome(
            mutation: mutation, fate: fate, isNamed: isNamed,
            explanations: explanations,
            wrongCases: report.cases.count { one in one.outputs.contains { $0.verdict != .exact } },
            cases: report.cases.count)
    }
}
