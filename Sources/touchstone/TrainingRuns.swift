import Engine
import EngineOperations
import Foundation
import GoldenIO
import Goldens
import ModelSpec
import Reference

/// What every step reports.
struct StepSummary {
    let loss: Float
    let gradientNorm: Float
    let learningRate: Float
}

/// A training run on one backend: the same bits on each.
protocol TrainingRun: AnyObject {
    /// For reports.
    var name: String { get }
    /// Takes step `step` from 1.
    func step(_ step: Int, _ batch: TrainingBatch) throws -> StepSummary
    /// The mean loss of sequences with the weights as they are.
    func loss(_ batch: TrainingBatch) throws -> Float
    /// The chain so far; nil where none is kept.
    var fingerprint: String? { get }
    /// Lines on the last step: |Z| and clamps.
    var diagnostics: [String] { get }
    /// Lines on what ranks exchanged.
    var traffic: [String] { get }
}

/// Training with the reference.
final class ReferenceRun: TrainingRun {
    private let configuration: ModelConfiguration
    private let arithmetic: Arithmetic
    private var state: TrainingState
    private var recorder: StepRecorder
    private var last: TrainingStep.Outcome?

    init(_ configuration: ModelConfiguration, _ arithmetic: Arithmetic) {
        self.configuration = configuration
        self.arithmetic = arithmetic
        state = TrainingState(initial: configuration)
        recorder = StepRecorder(configuration: configuration)
    }

    var name: String { "reference, \(arithmetic.rawValue) arithmetic" }
    var fingerprint: String? { recorder.fingerprint.hexadecimal }

    func step(_ step: Int, _ batch: TrainingBatch) throws -> StepSummary {
        let outcome = try TrainingStep.run(
            configuration, state: &state, batch: batch, step: step, arithmetic: arithmetic
        ) { recorder.record($0, Tensor($1)) }
        last = outcome
        return StepSummary(
            loss: outcome.loss, gradientNorm: outcome.gradientNorm, learningRate: outcome.learningRate)
    }

    func loss(_ batch: TrainingBatch) throws -> Float {
        try Transformer(configuration, masters: state.weights, arithmetic: arithmetic).forward(batch).loss
    }

    var diagnostics: [String] {
        guard let last else { return [] }
        return last.logSumExp[0].enumerated().map { "layer \($0)      |Z| \($1)" }
            + (last.clampReports.first ?? []).enumerated().map { "layer \($0)      clamp of \($1)" }
    }

    var traffic: [String] { (last?.compression.first).map { ["all-reduce   \($0.traffic)"] } ?? [] }
}

/// Training with the engine.
final class EngineRun: TrainingRun {
    private let context: EngineContext
    private let trainer: Trainer
    private var recorder: StepRecorder?

    /// - Throws: if the memory that the configuration takes is not there.
    init(_ configuration: ModelConfiguration, _ context: EngineContext, fingerprints: Bool) throws {
        self.context = context
        let bytes = Trainer.bytes(configuration, threads: context.pool.count)
        let physical = ProcessInfo.processInfo.physicalMemory
        guard UInt64(bytes) < physical / 10 * 9 else {
            throw CommandError(
                "training takes \(compact(Double(bytes), "B")), and this machine has \(compact(Double(physical), "B")): a smaller batch or sequence_length takes less"
            )
        }
        trainer = Trainer(configuration, context)
        trainer.initialize()
        recorder = fingerprints ? StepRecorder(configuration: configuration) : nil
    }

    var name: String {
        "\(EngineOptions.name(context)), \(compact(Double(Trainer.bytes(trainer.configuration, threads: context.pool.count)), "B"))"
    }

    var fingerprint: String? { recorder?.fingerprint.hexadecimal }

    func step(_ step: Int, _ batch: TrainingBatch) throws -> StepSummary {
        let probe: EngineProbe? =
            recorder == nil
            ? nil : { [self] in recorder?.record($0, $1.elementType, $1.shape, canonical: $1.bytes) }
        let outcome = try trainer.step(step, batch: batch, probe: probe)
        return StepSummary(
            loss: outcome.loss, gradientNorm: outcome.gradientNorm, learningRate: outcome.learningRate)
    }

    func loss(_ batch: TrainingBatch) throws -> Float { try trainer.loss(batch) }

    var diagnostics: [String] { [] }
    var traffic: [String] { [] }
}
