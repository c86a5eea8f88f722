import Cases
import Goldens

/// A named way to depart from the specification: what an implementation may do instead of what a clause says.
///
/// It acts in one of three ways: on the question (other parameters, other inputs), inside the computation (a choice that the family's arithmetic looks
/// up), or on the answer (elements written to the wrong place).
public struct Deviation: Sendable, Hashable, CustomStringConvertible {
    /// "dot.order.ascending": the family or suite, the axis, the alternative. Names are part of the reports' contract.
    public let name: String
    /// Completes "the implementation ...": "adds the terms in ascending order".
    public let summary: String
    /// The clauses that it departs from.
    public let clauses: [String]

    enum Effect: Sendable {
        /// Looked up by name in ``Choices`` by the family's computation.
        case computation
        /// The case that the implementation answered instead; nil where the deviation means nothing.
        case question(@Sendable (GoldenCase) -> GoldenCase?)
        /// What it made of the outputs of the question; nil where the deviation means nothing.
        case answer(@Sendable (GoldenCase, TensorGroup) -> TensorGroup?)
    }
    let effect: Effect

    init(_ name: String, _ summary: String, _ clauses: [String], _ effect: Effect = .computation) {
        self.name = name
        self.summary = summary
        self.clauses = clauses
        self.effect = effect
    }

    /// The name without its last part. Two deviations on one axis exclude each other.
    public var axis: String { name.split(separator: ".").dropLast().joined(separator: ".") }

    public var description: String { name }

    public static func == (a: Deviation, b: Deviation) -> Bool { a.name == b.name }
    public func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

/// The choices under which a family computes; none: as specified.
package struct Choices: Sendable {
    package let names: Set<String>

    package init(_ deviations: [Deviation] = []) { names = Set(deviations.map(\.name)) }

    init(names: Set<String>) { self.names = names }

    func has(_ name: String) -> Bool { names.contains(name) }

    /// The last part of the name that was chosen on an axis; nil: as specified.
    func on(_ axis: String) -> String? {
        for name in names where name.hasPrefix(axis + ".") && !name.dropFirst(axis.count + 1).contains(".") {
            return String(name.dropFirst(axis.count + 1))
        }
        return nil
    }
}

/// Operations that deviate in the same ways.
package struct VariantFamily: Sendable, CustomStringConvertible {
    package var description: String { name }

    package let name: String
    /// Names of operations.
    package let operations: [String]
    /// The likeliest first: the order in which explanations are listed.
    package let deviations: [Deviation]
    /// The outputs under some choices, from a computation of the family's own; nil where all deviations act on questions and answers.
    ///
    /// With no choice it gives the reference's bits.
    package let compute: (@Sendable (CheckedCase, Choices) throws -> CaseResult)?
    /// How many pairs are tried where each takes long; nil: all.
    package let pairLimit: Int?

    init(
        name: String, operations: [String], deviations: [Deviation], pairLimit: Int? = nil,
        compute: (@Sendable (CheckedCase, Choices) throws -> CaseResult)?
    ) {
        self.name = name
        self.operations = operations
        self.deviations = deviations
        self.pairLimit = pairLimit
        self.compute = compute
    }
}

/// Every deviation that is known.
public enum DeviationCatalog {
    package static let families: [VariantFamily] = [
        bfloat16Family, dotFamily, sumFamily, mathFamily, randomFamily,
        squinchFamily, allReduceFamily, clampFamily, gumbelFamily, visibilityFamily,
        attentionForwardFamily, attentionBackwardFamily, rowsFamily, rmsnormFamily, ropeFamily, reluSquaredFamily,
        swigluFamily, linearFamily,
        embeddingFamily, crossEntropyFamily, sparseCrossEntropyFamily, adamwFamily, trainingFamily,
    ]

    private static let familyByOperation: [String: VariantFamily] = {
        var all: [String: VariantFamily] = [:]
        for family in families {
            for operation in family.operations {
                precondition(all[operation] == nil, "\(operation) has two families")
                all[operation] = family
            }
        }
        return all
    }()

    /// The operations that have a family of their own.
    package static var operations: [String] { families.flatMap(\.operations) }

    static func family(of op: String) -> VariantFamily? { familyByOperation[op] }

    /// The deviations of an operation, the likeliest first: its family's, then those of any operation.
    public static func deviations(for op: String) -> [Deviation] {
        (familyByOperation[op]?.deviations ?? []) + anyOperation
    }

    /// Every deviation by name, each once.
    public static var all: [Deviation] {
        var seen: Set<String> = []
        return (families.flatMap(\.deviations) + anyOperation).filter { seen.insert($0.name).inserted }
    }

    /// What an implementation that deviates so, and only so, answers; nil where one of the deviations means nothing for this case or makes a question
    /// that is no question.
    ///
    /// - Throws: ``Goldens/OperationError`` if the case itself is not valid.
    public static func outputs(of goldenCase: GoldenCase, under deviations: [Deviation]) throws -> TensorGroup? {
        var question = goldenCase
        for case .question(let change) in deviations.map(\.effect) {
            guard let changed = change(question) else { return nil }
            question = changed
        }
        var isComputed = false
        for case .computation in deviations.map(\.effect) { isComputed = true }
        var outputs: TensorGroup
        do {
            if isComputed {
                guard let compute = familyByOperation[question.op]?.compute else { return nil }
                outputs = try compute(CheckedCase(question), Choices(deviations)).outputs
            } else {
                outputs = try OperationCatalog.evaluate(question).outputs
            }
        } catch {
            // The changed question need not be valid; the case itself must be.
            if question == goldenCase { throw error }
            return nil
        }
        for case .answer(let change) in deviations.map(\.effect) {
            guard let changed = change(question, outputs) else { return nil }
            outputs = changed
        }
        return outputs
    }
}
