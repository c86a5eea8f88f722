import JSON

/// The groups of datasets in a case, in the order in which they stand in a file.
public enum CaseGroup: String, CaseIterable, Sendable {
    case inputs, outputs, truth, bounds, intermediates
}

/// A tensor and the name of its dataset.
public struct NamedTensor: Sendable, Hashable {
    public let name: String
    public let tensor: Tensor
    public init(_ name: String, _ tensor: Tensor) {
        self.name = name
        self.tensor = tensor
    }
}

/// The datasets of one group of a case (`inputs`, `outputs`, ...), in the order in which they were written.
public struct TensorGroup: Sendable, Hashable, ExpressibleByArrayLiteral {
    public private(set) var tensors: [NamedTensor]

    public init(_ tensors: [NamedTensor] = []) { self.tensors = tensors }
    public init(arrayLiteral elements: NamedTensor...) { self.init(elements) }

    public var isEmpty: Bool { tensors.isEmpty }
    public var names: [String] { tensors.map(\.name) }

    /// The tensor of that name; nil if there is none.
    public subscript(name: String) -> Tensor? { tensors.first { $0.name == name }?.tensor }

    /// Appends a tensor. - Precondition: the name is new in this group.
    public mutating func append(_ name: String, _ tensor: Tensor) {
        precondition(self[name] == nil, "\(name) stands twice")
        tensors.append(NamedTensor(name, tensor))
    }
}

/// One golden case: an operation, every parameter of it, its inputs, and what they must give.
///
/// In the file: the group `/cases/<name>` with the attributes `op`, `why`, `spec_clauses` and `recipe`, and one subgroup
/// for each non-empty group of datasets.
public struct GoldenCase: Sendable, Hashable {
    /// Says why the case exists: `tie-to-even-at-max-exponent`.
    public var name: String
    /// The operation's public name: `bf16.add`.
    public var op: String
    /// What the case is there to catch.
    public var why: String
    /// The clauses of the specification that decide its outputs.
    public var specClauses: [String]
    /// Every parameter; JSON in the file, keys sorted.
    public var recipe: [String: JSONValue]

    public var inputs: TensorGroup
    /// The exact bits.
    public var outputs: TensorGroup
    /// The exact real results rounded once to fp64 (Q1); empty where that is not defined.
    public var truth: TensorGroup
    /// The scale against which a rounding error is judged (Q2); fp64; empty where that is not defined.
    public var bounds: TensorGroup
    /// Of composite operations, in execution order.
    public var intermediates: TensorGroup

    public init(
        name: String, op: String, why: String = "", specClauses: [String] = [], recipe: [String: JSONValue] = [:],
        inputs: TensorGroup = [], outputs: TensorGroup = [], truth: TensorGroup = [], bounds: TensorGroup = [],
        intermediates: TensorGroup = []
    ) {
        self.name = name
        self.op = op
        self.why = why
        self.specClauses = specClauses
        self.recipe = recipe
        self.inputs = inputs
        self.outputs = outputs
        self.truth = truth
        self.bounds = bounds
        self.intermediates = intermediates
    }
}

extension GoldenCase {
    /// The datasets of one group.
    public subscript(group: CaseGroup) -> TensorGroup {
        get {
            switch group {
            case .inputs: inputs
            case .outputs: outputs
            case .truth: truth
            case .bounds: bounds
            case .intermediates: intermediates
            }
        }
        set {
            switch group {
            case .inputs: inputs = newValue
            case .outputs: outputs = newValue
            case .truth: truth = newValue
            case .bounds: bounds = newValue
            case .intermediates: intermediates = newValue
            }
        }
    }
}

/// The root attributes of a golden file.
public struct GoldenHeader: Sendable, Hashable {
    /// ``/ModelSpec/Specification/version`` of the writer.
    public var specVersion: String
    public var suite: String
    public var tier: String
    /// The program that wrote the file, with its version.
    public var generator: String
    /// Of the seeded cases: 16 hex digits in the file.
    public var seed: UInt64

    public init(specVersion: String, suite: String, tier: String, generator: String, seed: UInt64) {
        self.specVersion = specVersion
        self.suite = suite
        self.tier = tier
        self.generator = generator
        self.seed = seed
    }
}
