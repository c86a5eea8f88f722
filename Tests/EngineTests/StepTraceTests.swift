import BFloat16
import Cases
import Engine
import EngineOperations
import GoldenIO
import Goldens
import ModelSpec
import Reference
import Testing

/// Reference and engine walked side by side through whole steps: every tensor by name, in order.
@Suite("Steps of engine and reference, tensor by tensor")
struct StepTraceTests {
    struct Named: Equatable {
        let name: String
        let tensor: Tensor
    }

    static func referenceTrace(
        _ c: ModelConfiguration, _ state: inout TrainingState, _ batch: TrainingBatch, _ step: Int
    ) throws -> [Named] {
        var trace: [Named] = []
        _ = try TrainingStep.run(c, state: &state, batch: batch, step: step, arithmetic: .hardware) {
            trace.append(Named(name: $0, tensor: Tensor($1)))
        }
        return trace
    }

    static func load(_ state: TrainingState, into trainer: Trainer) {
        var index = 0
        trainer.withState { parameter in
            _ = parameter.weight.update(from: state.weights[index])
            _ = parameter.first.update(from: state.firstMoments[index])
            _ = parameter.second.update(from: state.secondMoments[index])
            if let residual = parameter.residual { _ = residual.update(from: state.residuals[index]) }
            index += 1
        }
    }

    /// Where two traces part, in words; nil if they are equal.
    static func difference(_ reference: [Named], _ engine: [Named]) -> String? {
        for (expected, got) in zip(reference, engine) {
            if expected.name != got.name { return "expected \(expected.name), got \(got.name)" }
            if expected.tensor == got.tensor { continue }
            if expected.tensor.shape != got.tensor.shape {
                return "\(expected.name): shape \(got.tensor.shape), expected \(expected.tensor.shape)"
            }
            for index in 0..<expected.tensor.count
            where expected.tensor.bits(at: index) != got.tensor.bits(at: index) {
                let (a, b) = (expected.tensor.bits(at: index), got.tensor.bits(at: index))
                return
                    "\(expected.name) \(expected.tensor.shape) [\(index)]: \(String(b, radix: 16)), expected \(String(a, radix: 16))"
            }
        }
        return reference.count == engine.count ? nil : "\(engine.count) tensors, expected \(reference.count)"
    }

    /// Takes the steps on both sides; the first difference in words. A step that the reference refuses is refused by the engine in the same words, and
    /// is the last one.
    static func compare(
        _ c: ModelConfiguration, _ initial: TrainingState, _ batches: [TrainingBatch], firstStep: Int,
        context: EngineContext
    ) throws -> String? {
        var state = initial
        let trainer = Trainer(c, context)
        load(initial, into: trainer)
        for (index, batch) in batches.enumerated() {
            let step = firstStep + index
            var reference: [Named] = []
            var trace: [Named] = []
            var refusals: [String?] = [nil, nil]
            do { reference = try referenceTrace(c, &state, batch, step) } catch let error as TrainingError {
                refusals[0] = "\(error)"
            }
            do {
                _ = try trainer.step(step, batch: batch) { trace.append(Named(name: $0, tensor: Tensor($1))) }
            } catch let error as TrainingError {
                refusals[1] = "\(error)"
            }
            if refusals != [nil, nil] {
                return refusals[0] == refusals[1]
                    ? nil
                    : "step \(step): the engine says \(refusals[1] ?? "nothing"), expected \(refusals[0] ?? "nothing")"
            }
            if let difference = difference(reference, trace) { return "step \(step): \(difference)" }
        }
        return nil
    }

    static let steps: [GoldenCase] = {
        guard let file = try? GoldenFile(reading: "\(EngineGoldenTests.goldens)/training/steps.h5") else { return [] }
        return file.caseNames.compactMap { try? file.readCase($0) }
    }()

    @Test("every shipped step is among those that are walked here")
    func complete() throws {
        let file = try GoldenFile(reading: "\(EngineGoldenTests.goldens)/training/steps.h5")
        #expect(!file.caseNames.isEmpty && Self.steps.map(\.name) == file.caseNames)
        #expect(Self.steps.contains { !$0.intermediates.isEmpty })
    }

    @Test("the goldens' steps", arguments: steps.map(\.name))
    func goldens(name: String) throws {
        let golden = try #require(Self.steps.first { $0.name == name })
        let training = TrainingCase(try CheckedCase(golden))
        let state = TrainingState(
            weights: training.weights, firstMoments: training.firstMoments, secondMoments: training.secondMoments,
            residuals: training.residuals)
        let difference = try Self.compare(
            training.configuration, state, training.batches, firstStep: training.firstStep,
            context: EngineContext(threads: 2))
        #expect(difference == nil)
    }

    @Test("twenty steps in every combination of features that the goldens have", arguments: steps.map(\.name))
    func twentySteps(name: String) throws {
        let golden = try #require(Self.steps.first { $0.name == name })
        let training = TrainingCase(try CheckedCase(golden))
        let state = TrainingState(
            weights: training.weights, firstMoments: training.firstMoments, secondMoments: training.secondMoments,
            residuals: training.residuals)
        let batches = (0..<20).map { training.batches[$0 % training.batches.count] }
        let difference = try Self.compare(
            training.configuration, state, batches, firstStep: training.firstStep, context: EngineContext(threads: 3))
        #expect(difference == nil)
    }

    @Test("T6: twenty steps of the preset tiny have one fingerprint on both sides")
    func tiny() throws {
        let c = ModelConfiguration(preset: .tiny)
        let (n, t) = (c.batch * c.sequenceLength, c.sequenceLength)
        let rows = (0..<n).map { Int32($0 % t) }
        let batches = (0..<20).map { step in
            let tokens = (0...n).map { Int32(($0 * $0 / 7 + step * 31) % c.vocabulary) }
            return TrainingBatch(
                tokens: Array(tokens.dropLast()), targets: .tokens(Array(tokens.dropFirst())), positions: rows,
                visibilityStart: rows, visibilityLimit: rows.map { _ in Int32(t) })
        }
        var reference = StepRecorder(configuration: c)
        var state = TrainingState(initial: c)
        var engine = StepRecorder(configuration: c)
        let trainer = Trainer(c, EngineContext(threads: 2))
        trainer.initialize()
        for (index, batch) in batches.enumerated() {
            _ = try TrainingStep.run(c, state: &state, batch: batch, step: index + 1, arithmetic: .hardware) {
                reference.record($0, Tensor($1))
            }
            _ = try trainer.step(index + 1, batch: batch) { engine.record($0, Tensor($1)) }
            #expect(engine.fingerprint.hexadecimal == reference.fingerprint.hexadecimal, "step \(index + 1)")
        }
    }
}
