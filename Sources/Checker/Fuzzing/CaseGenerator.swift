import Cases
import Goldens
import JSON
import ModelSpec

/// A case before it has a name: what an operation is asked.
struct Draft: Sendable, Hashable {
    var recipe: [String: JSONValue]
    var inputs: TensorGroup

    init(_ recipe: [String: JSONValue] = [:], _ inputs: [(String, Tensor)]) {
        self.recipe = recipe
        self.inputs = TensorGroup(inputs.map { NamedTensor($0.0, $0.1) })
    }

    /// The recipe's text under a key; empty if it has none.
    func text(_ key: String) -> String {
        if case .string(let text)? = recipe[key] { return text }
        return ""
    }

    func integer(_ key: String) -> Int? {
        if case .integer(let value)? = recipe[key] { return Int(value) }
        return nil
    }

    mutating func drop(_ names: String...) {
        inputs = TensorGroup(inputs.tensors.filter { !names.contains($0.name) })
    }

    mutating func replace(_ name: String, _ tensor: Tensor) {
        inputs = TensorGroup(inputs.tensors.map { $0.name == name ? NamedTensor(name, tensor) : $0 })
    }
}

/// How an operation's random cases are made, and how a failing one may be made smaller.
struct CaseGenerator: Sendable {
    let signature: OperationSignature
    /// What its cases can aim at; each comes in turn.
    let classes: [CaseClass]
    /// Makes a smaller case whole: values that must lie below a size, recipe keys that repeat a size, inputs that the recipe has no use for.
    let repair: @Sendable (inout Draft) -> Void
    let make: @Sendable (CaseClass, inout FuzzRandom) -> Draft

    var op: String { signature.name }

    /// - Precondition: the table of signatures has `op`.
    init(
        _ op: String, _ classes: [CaseClass], repair: @escaping @Sendable (inout Draft) -> Void = { _ in },
        make: @escaping @Sendable (CaseClass, inout FuzzRandom) -> Draft
    ) {
        guard let signature = OperationSignature.named(op) else { preconditionFailure("no signature of '\(op)'") }
        self.signature = signature
        self.classes = classes
        self.repair = repair
        self.make = make
    }

    /// The size of every dimension of every input as the signature writes it; empty where the configuration decides it.
    func shapes(_ draft: Draft) -> [String: [String]] {
        var shapes: [String: [String]] = [:]
        for input in signature.inputs where input.presence.holds(in: draft.recipe) {
            shapes[input.name] = input.shape.map { dimension in
                if signature.takesConfiguration, case .letter(let letter) = dimension, letter != "S" { return "" }
                return dimension.description
            }
        }
        return shapes
    }

    /// The names that a key of the recipe may have.
    func choices(of key: String) -> [String] {
        guard case .choice(let names)? = signature.key(key)?.kind ?? ModelConfiguration.key(key)?.kind else {
            return []
        }
        return names
    }
}

/// A random case, its number and what it aims at.
public struct FuzzCase: Sendable, Hashable {
    public let number: Int
    public let caseClass: CaseClass
    /// Recipe and inputs; no outputs.
    public let goldenCase: GoldenCase
}

/// The random cases of every operation. A case depends on the seed and its number alone.
public enum FuzzCases {
    static let generators: [CaseGenerator] = {
        let all =
            bfloat16Generators + dotGenerators + mathGenerators + randomGenerators + squinchGenerators
            + allReduceGenerators + attentionGenerators + visibilityGenerators + clampGenerators + gumbelGenerators
            + layerGenerators + trainingGenerators
        let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.op, $0) })
        // The catalogue's order; an operation without a generator has no cases, and a test says so.
        return OperationSignature.all.compactMap { byName[$0.name] }
    }()

    private static let byName = Dictionary(uniqueKeysWithValues: generators.map { ($0.op, $0) })

    static func generator(of op: String) -> CaseGenerator? { byName[op] }

    /// The operations that there are cases of, in the catalogue's order.
    public static var operations: [String] { generators.map(\.op) }

    /// The classes of an operation's cases; none if there is no such operation.
    public static func classes(of op: String) -> [CaseClass] { byName[op]?.classes ?? [] }

    /// The operation of a case: they take turns.
    public static func operation(ofCase number: Int) -> String { generators[number % generators.count].op }

    /// Case `number`, from 0, of the seed's cases.
    public static func make(seed: UInt64, number: Int) -> FuzzCase {
        let generator = generators[number % generators.count]
        let caseClass = generator.classes[number / generators.count % generator.classes.count]
        var random = FuzzRandom(seed: seed, number: number)
        let draft = generator.make(caseClass, &random)
        return FuzzCase(
            number: number, caseClass: caseClass,
            goldenCase: GoldenCase(
                name: "case-\(number)", op: generator.op,
                why: "case \(number) of seed 0x\(hexadecimal(seed, digits: 16)), which aims at \(caseClass.rawValue)",
                specClauses: generator.signature.clauses, recipe: draft.recipe, inputs: draft.inputs))
    }
}

/// Lower-case hex digits, as in files.
func hexadecimal(_ value: UInt64, digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
}

/// The two entries of an fp32 parameter: the number and its bits.
func entries(_ name: String, _ value: Float) -> [String: JSONValue] {
    var result: [String: JSONValue] = [name + "_bits": .string(hexadecimal(UInt64(value.bitPattern), digits: 8))]
    // JSON has no infinities and NaNs; the bits say them.
    if value.isFinite { result[name] = .number(Double(value)) }
    return result
}

extension Dictionary where Key == String, Value == JSONValue {
    static func + (left: Self, right: Self) -> Self { left.merging(right) { $1 } }
}

/// One-dimensional tensors.
func vector(_ values: [Float]) -> Tensor { Tensor(values, shape: [values.count]) }
func vector(bf16 values: [UInt16]) -> Tensor { Tensor(bf16: values, shape: [values.count]) }
func vector<Element: FixedWidthInteger & TensorInteger>(_ values: [Element]) -> Tensor {
    Tensor(values, shape: [values.count])
}
