import Cases
import Engine
import Goldens

/// What the engine answers to golden cases: the operations of ``Goldens/OperationCatalog`` by other means, outputs alone.
public struct EngineCatalog: Sendable {
    let context: EngineContext

    typealias Compute = @Sendable (CheckedCase, EngineContext) throws -> CaseResult

    static let operations: [String: Compute] = {
        var all: [String: Compute] = [:]
        for group in [
            bf16Operations, dotOperations, mathOperations, techniqueOperations, attentionOperations, layerOperations,
            trainingOperations,
        ] {
            for (name, compute) in group { all[name] = compute }
        }
        return all
    }()

    public init(_ context: EngineContext) { self.context = context }

    /// The operations that the engine has, by name.
    public static var names: [String] { operations.keys.sorted() }

    /// The case with the engine's outputs, and intermediates where it has them; without truth and bounds.
    ///
    /// - Throws: ``/Goldens/OperationError``.
    public func evaluate(_ goldenCase: GoldenCase) throws(OperationError) -> GoldenCase {
        do {
            guard let compute = Self.operations[goldenCase.op] else {
                // A name that nobody knows is the catalogue's error.
                _ = try OperationCatalog.operation(named: goldenCase.op)
                throw OperationError(.unknownOperation, "the engine has no '\(goldenCase.op)'")
            }
            let result = try compute(CheckedCase(goldenCase), context)
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

/// An array whose elements a body fills in by pointer.
func filled<Element>(_ count: Int, _ zero: Element, _ body: (UnsafeMutablePointer<Element>) throws -> Void) rethrows
    -> [Element]
{
    var array = [Element](repeating: zero, count: max(1, count))
    try array.withUnsafeMutableBufferPointer { try body($0.baseAddress!) }
    array.removeLast(array.count - count)
    return array
}

/// bf16 results, zero first.
func filledBF16(_ count: Int, _ body: (UnsafeMutablePointer<UInt16>) throws -> Void) rethrows -> [UInt16] {
    try filled(count, UInt16(0), body)
}

/// fp32 results, zero first.
func filledFloats(_ count: Int, _ body: (UnsafeMutablePointer<Float>) throws -> Void) rethrows -> [Float] {
    try filled(count, Float(0), body)
}
