import GoldenIO

/// The suites of golden files, in the order in which they are generated and reported.
public enum Suite: String, Sendable, CaseIterable, Codable {
    case bf16, dot, math, random, squinch, allreduce
    case zreg, visibility, clamp, gumbel, layers, training
}

/// One operation of the public contract: its name, where it belongs, and how the reference computes it.
public struct Operation: Sendable {
    public let name: String
    public let suite: Suite
    /// One line for people.
    public let summary: String
    /// The clauses that decide its outputs.
    public let clauses: [String]
    package let compute: @Sendable (inout CaseReader) throws -> CaseResult

    package init(
        _ name: String, _ suite: Suite, _ summary: String, clauses: [String],
        compute: @escaping @Sendable (inout CaseReader) throws -> CaseResult
    ) {
        self.name = name
        self.suite = suite
        self.summary = summary
        self.clauses = clauses
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
    /// In the order of the suites.
    public static let all: [Operation] =
        bfloat16Operations + dotOperations + mathOperations + randomOperations + squinchOperations
        + allReduceOperations + attentionOperations + visibilityOperations + clampOperations + gumbelOperations
        + layerOperations + trainingOperations

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    /// - Throws: ``OperationError`` of kind `unknownOperation`, naming the nearest name that exists.
    public static func operation(named name: String) throws(OperationError) -> Operation {
        if let operation = byName[name] { return operation }
        guard !name.isEmpty else {
            throw OperationError(
                .unknownOperation, "the case has no attribute 'op': it names the operation, such as 'dot.gemm'")
        }
        let nearest = all.map(\.name).min { editDistance($0, name) < editDistance($1, name) }
        let hint = nearest.map { "; did you mean '\($0)'?" } ?? ""
        throw OperationError(.unknownOperation, "unknown operation '\(name)'\(hint)")
    }

    /// The case with `outputs`, `truth`, `bounds` and `intermediates` as the reference computes them; what it held there is replaced.
    ///
    /// - Throws: ``OperationError`` naming the case, the key or dataset, and what was expected.
    public static func evaluate(_ goldenCase: GoldenCase) throws(OperationError) -> GoldenCase {
        do {
            let operation = try operation(named: goldenCase.op)
            var reader = CaseReader(goldenCase)
            let result = try operation.compute(&reader)
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
