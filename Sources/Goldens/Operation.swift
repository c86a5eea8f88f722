import Cases
import ExactMath
import ModelSpec

/// One operation of the public contract: its signature, and how the reference computes it.
public struct Operation: Sendable {
    public let signature: OperationSignature
    package let compute: @Sendable (CheckedCase) throws -> CaseResult

    public var name: String { signature.name }
    public var suite: Suite { signature.suite }
    /// One line for people.
    public var summary: String { signature.summary }
    /// The clauses that decide its outputs.
    public var clauses: [String] { signature.clauses }

    /// - Precondition: the table of signatures has the name.
    package init(_ name: String, compute: @escaping @Sendable (CheckedCase) throws -> CaseResult) {
        guard let signature = OperationSignature.named(name) else {
            preconditionFailure("no signature of '\(name)'")
        }
        self.signature = signature
        self.compute = compute
    }
}

/// What the reference says of a case. NaNs are made canonical as they are stored (F2).
package struct CaseResult {
    package private(set) var outputs: TensorGroup = []
    package private(set) var truth: TensorGroup = []
    package private(set) var bounds: TensorGroup = []
    package private(set) var intermediates: TensorGroup = []

    package init() {}

    package mutating func output(_ name: String, _ tensor: Tensor) { outputs.append(name, tensor) }

    /// Of composite operations, in execution order.
    package mutating func intermediate(_ name: String, _ tensor: Tensor) { intermediates.append(name, tensor) }

    package mutating func output(_ name: String, _ values: [Float], _ shape: [Int]) {
        outputs.append(name, Tensor(values.map { $0.isNaN ? Float(bitPattern: 0x7FC0_0000) : $0 }, shape: shape))
    }

    /// fp32 values, or each rounded once, to nearest even, to bf16 or fp16.
    package mutating func output(_ name: String, _ values: [Float], _ shape: [Int], as type: ElementType) {
        switch type {
        case .bf16: output(name, bf16: values.map(SoftFloat32.roundToBFloat16), shape)
        case .fp16: outputs.append(name, Tensor(fp16: values.map(SoftFloat32.roundToFloat16), shape: shape))
        default: output(name, values, shape)
        }
    }

    package mutating func output(_ name: String, bf16 bits: [UInt16], _ shape: [Int]) {
        outputs.append(name, Tensor(bf16: bits.map { $0 & 0x7FFF > 0x7F80 ? 0x7FC0 : $0 }, shape: shape))
    }

    /// Q1 and Q2: the exact results rounded once to fp64, and the scale against which an error is judged.
    package mutating func truth(_ name: String, _ values: [Double], bounds scale: [Double], _ shape: [Int]) {
        func canonical(_ value: Double) -> Double {
            value.isNaN ? Double(bitPattern: 0x7FF8_0000_0000_0000) : value
        }
        truth.append(name, Tensor(values.map(canonical), shape: shape))
        bounds.append(name, Tensor(scale.map(canonical), shape: shape))
    }
}

/// Every operation that the reference knows, by its public name.
public enum OperationCatalog {
    private static let byName: [String: Operation] = Dictionary(
        uniqueKeysWithValues: [
            bfloat16Operations, dotOperations, mathOperations, randomOperations, squinchOperations,
            allReduceOperations, attentionOperations, visibilityOperations, clampOperations, gumbelOperations,
            layerOperations, trainingOperations,
        ].joined().map { ($0.name, $0) })

    /// In the order of the table of signatures.
    public static let all: [Operation] = OperationSignature.all.map { signature in
        guard let operation = byName[signature.name] else {
            preconditionFailure("the reference does not compute '\(signature.name)'")
        }
        return operation
    }

    /// - Throws: ``OperationError`` of kind `unknownOperation`, naming the nearest name that exists.
    public static func operation(named name: String) throws(OperationError) -> Operation {
        let signature = try OperationSignature.require(name)
        guard let operation = byName[name] else {
            preconditionFailure("the reference does not compute '\(signature.name)'")
        }
        return operation
    }

    /// The case with `outputs`, `truth`, `bounds` and `intermediates` as the reference computes them; what it held there is replaced.
    ///
    /// - Throws: ``OperationError`` naming the case, the key or dataset, and what was expected.
    public static func evaluate(_ goldenCase: GoldenCase) throws(OperationError) -> GoldenCase {
        do {
            let operation = try operation(named: goldenCase.op)
            let result = try operation.compute(CheckedCase(goldenCase))
            var evaluated = goldenCase
            evaluated.outputs = result.outputs
            evaluated.truth = result.truth
            evaluated.bounds = result.bounds
            evaluated.intermediates = result.intermediates
            return evaluated
        } catch var error as OperationError {
            error.caseName = goldenCase.name
            throw error
        } catch {
            throw OperationError(.value, "\(goldenCase.op): \(error)", caseName: goldenCase.name)
        }
    }
}
