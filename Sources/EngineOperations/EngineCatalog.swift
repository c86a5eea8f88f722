import Cases
import Engine
import Goldens

/// What the engine answers to golden cases: the operations of ``Goldens/OperationCatalog`` by other means, outputs alone.
public struct EngineCatalog: Sendable {
    let context: EngineContext

    typealias Compute = @Sendable (EngineQuestion) throws -> CaseResult

    static let operations: [String: Compute] = Dictionary(
        uniqueKeysWithValues: [
            bf16Operations, dotOperations, mathOperations, techniqueOperations, attentionOperations, layerOperations,
            trainingOperations,
        ].joined())

    public init(_ context: EngineContext) { self.context = context }

    /// The operations that the engine has, by name.
    public static var names: [String] { operations.keys.sorted() }

    /// The case with the engine's outputs, and intermediates where it has them; without truth and bounds.
    ///
    /// - Throws: ``/Goldens/OperationError``.
    public func evaluate(_ goldenCase: GoldenCase) throws(OperationError) -> GoldenCase {
        do {
            let given = try CheckedCase(goldenCase)
            guard let compute = Self.operations[given.op] else {
                throw OperationError(.unknownOperation, "the engine has no '\(given.op)'")
            }
            // The operations hold pointers, not the memory they point into.
            let memory = Memory()
            defer { memory.free() }
            let result = try compute(EngineQuestion(given: given, context: context, memory: memory))
            var evaluated = goldenCase
            evaluated.outputs = result.outputs
            evaluated.truth = []
            evaluated.bounds = []
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
