import BFloat16
import Checker
import Engine
import EngineOperations
import Foundation
import GoldenIO
import Goldens
import Kernels
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
    /// k of the soft targets; 0 for hard ones.
    var distillationK: Int { get }
    /// Takes step `step` from 1.
    func step(_ step: Int, _ batch: TrainingBatch) throws -> StepSummary
    /// The mean loss of sequences with the weights as they are, at most ``sequenceCapacity`` of them.
    func loss(_ batch: TrainingBatch) throws -> Float
    var sequenceCapacity: Int { get }
    /// Masters and optimizer state as they are.
    var currentState: TrainingState { get }
    /// From the next step on every tensor is shown to this, in execution order.
    var observer: ((_ name: String, _ tensor: Tensor) throws -> Void)? { get set }
    /// The chain so far; nil where none is kept.
    var fingerprint: String? { get }
    /// Lines on the last step: |Z| and clamps.
    var diagnostics: [String] { get }
}

/// What ranks exchange in a step, as a line; nil where nothing moves (S8, T5).
func traffic(_ c: ModelConfiguration) -> String? {
    guard c.ranks > 1 else { return nil }
    var (blocks, elements) = (0, 0)
    for parameter in c.parameters {
        blocks += (parameter.count + 7) / 8
        elements += parameter.count
    }
    let legs = 2 * (c.ranks - 1)
    let bytes =
        switch c.compression {
        case .none: 4 * elements
        case .bf16: 2 * elements
        case .squinch: 6 * blocks
        }
    return
        "all-reduce   \(legs * bytes) bytes a step over both legs; fp32 would take \(legs * 4 * elements), bf16 \(legs * 2 * elements)"
}

/// Training with the reference.
final class ReferenceRun: TrainingRun {
    private let configuration: ModelConfiguration
    private let arithmetic: Arithmetic
    private var state: TrainingState
    private var recorder: StepRecorder
    private var last: TrainingStep.Outcome?
    var observer: ((String, Tensor) throws -> Void)?
    var currentState: TrainingState { state }

    init(_ configuration: ModelConfiguration, _ arithmetic: Arithmetic) {
        self.configuration = configuration
        self.arithmetic = arithmetic
        state = TrainingState(initial: configuration)
        recorder = StepRecorder(configuration: configuration)
    }

    var sequenceCapacity: Int { max(1, configuration.batch / configuration.ranks) }
    var distillationK: Int { configuration.distillationK }
    var name: String { "reference, \(arithmetic.rawValue) arithmetic" }
    var fingerprint: String? { recorder.fingerprint.hexadecimal }

    func step(_ step: Int, _ batch: TrainingBatch) throws -> StepSummary {
        let outcome = try TrainingStep.run(
            configuration, state: &state, batch: batch, step: step, arithmetic: arithmetic
        ) {
            let tensor = Tensor($1)
            recorder.record($0, tensor)
            try observer?($0, tensor)
        }
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
}

/// Training with the engine.
final class EngineRun: TrainingRun {
    private let context: EngineContext
    let trainer: Trainer
    private var recorder: StepRecorder?
    private(set) var verifier: StepVerifier?
    private var layers: [LayerDiagnostics] = []
    var observer: ((String, Tensor) throws -> Void)?

    /// - Throws: if the memory that the configuration takes is not there.
    init(
        _ configuration: ModelConfiguration, _ context: EngineContext, fingerprints: Bool, diagnostics: Bool
    ) throws {
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
        trainer.gathersDiagnostics = diagnostics
        recorder = fingerprints ? StepRecorder(configuration: configuration) : nil
    }

    var sequenceCapacity: Int { trainer.sequenceCapacity }
    var distillationK: Int { trainer.configuration.distillationK }

    var name: String {
        let bytes = Trainer.bytes(trainer.configuration, threads: context.pool.count)
        return "\(EngineOptions.name(context)), \(compact(Double(bytes), "B"))"
    }

    var fingerprint: String? { recorder?.fingerprint.hexadecimal }

    /// From now on the reference recomputes `samples` elements of every tensor.
    func verify(samples: Int) {
        verifier = StepVerifier(
            trainer.configuration, state: currentState, samples: samples, seed: trainer.configuration.seed)
    }

    var currentState: TrainingState {
        var state = TrainingState(weights: [], firstMoments: [], secondMoments: [])
        trainer.readState { parameter in
            state.weights.append(Array(parameter.weight))
            state.firstMoments.append(Array(parameter.first))
            state.secondMoments.append(Array(parameter.second))
            if let residual = parameter.residual { state.residuals.append(Array(residual)) }
        }
        return state
    }

    func step(_ step: Int, _ batch: TrainingBatch) throws -> StepSummary {
        try verifier?.begin(step, batch)
        let probe: EngineProbe? =
            recorder == nil && verifier == nil && observer == nil
            ? nil
            : { [self] name, tensor in
                recorder?.record(name, tensor.elementType, tensor.shape, canonical: tensor.bytes)
                try verifier?.check(name, StepTensor(tensor))
                try observer?(name, Tensor(StepTensor(tensor)))
            }
        let outcome: Trainer.Outcome
        do { outcome = try trainer.step(step, batch: batch, probe: probe) } catch let difference
            as StepVerifier.Difference
        { throw difference } catch {
            guard let place = try trainer.firstNonfinite(batch) else { throw error }
            throw CommandError("step \(step): \(error); the first NaN or infinity is in \(place)")
        }
        guard outcome.loss.isFinite else {
            let place = try trainer.firstNonfinite(batch) ?? "the loss"
            throw CommandError(
                "step \(step): the loss is \(outcome.loss); the first NaN or infinity is in \(place)")
        }
        layers = outcome.layers
        return StepSummary(
            loss: outcome.loss, gradientNorm: outcome.gradientNorm, learningRate: outcome.learningRate)
    }

    func loss(_ batch: TrainingBatch) throws -> Float { try trainer.loss(batch) }

    var diagnostics: [String] {
        func short(_ x: Double) -> String { "\((x * 1000).rounded() / 1000)" }
        return layers.enumerated().map { index, layer in
            "layer \(index)      |Z| mean \(short(layer.mean)), rms \(short(layer.rootMeanSquare)), max \(short(layer.largest)); bf16 at the largest logit is spaced \(layer.spacing)"
        }
            + layers.enumerated().filter { $0.element.clampedValues > 0 }.map { index, layer in
                "layer \(index)      clamp of \(layer.clampedValues) values: \(layer.clamp.above) clipped above, 0 below, \(layer.clamp.zeroCodes) zero codes, \(layer.clamp.notANumber) NaN"
            }
    }

    // MARK: - Checkpoints

    /// Goes on from a checkpoint; the steps taken until then.
    ///
    /// - Throws: if it is of another configuration or other data.
    func resume(_ path: String, data: String) throws -> Int {
        let checkpoint = try Checkpoint(reading: path)
        guard checkpoint.configuration == trainer.configuration else {
            throw CommandError("\(path) is of another configuration: give the one that it was written with")
        }
        guard checkpoint.data == data else {
            throw CommandError("\(path) was trained on other data: a run that goes on needs the same text")
        }
        checkpoint.restore(trainer)
        if recorder != nil {
            guard let text = checkpoint.fingerprint, let chain = Fingerprint(hexadecimal: text) else {
                throw CommandError("\(path) has no fingerprint to go on with: resume it with --no-fingerprint")
            }
            recorder = StepRecorder(configuration: trainer.configuration, fingerprint: chain)
        }
        return checkpoint.step
    }

    /// Writes the state after step `step`, then removes all but the last two.
    func save(_ folder: String, step: Int, data: String) throws {
        try Checkpoint(trainer, step: step, fingerprint: fingerprint, data: data)
            .write(Checkpoint.path(folder, step: step))
        for old in try Checkpoint.steps(folder).filter({ $0 <= step }).dropLast(2) {
            try FileManager.default.removeItem(atPath: Checkpoint.path(folder, step: old))
        }
    }

    /// Text that the model writes after `prompt`.
    func text(prompt: String, bytes: Int, temperature: Float) throws -> String {
        let generator = try Generator(trainer)
        let random = RandomWords(seed: trainer.configuration.seed, stream: RandomStreams.text, step: 0)
        let tokens = generator.sample(
            prompt: prompt.utf8.map(Int32.init), tokens: bytes, temperature: temperature, random: random)
        return String(decoding: tokens.map { UInt8(clamping: $0) }, as: UTF8.self)
    }
}

extension StepTensor {
    /// A copy of a tensor of the engine.
    init(_ tensor: EngineTensor) {
        switch tensor.kind {
        case .bf16: self.init(Array(tensor.bytes.bindMemory(to: BFloat16.self)), tensor.shape)
        case .fp32: self.init(Array(tensor.bytes.bindMemory(to: Float.self)), tensor.shape)
        case .int8: self.init(Array(tensor.bytes.bindMemory(to: Int8.self)), tensor.shape)
        }
    }
}
