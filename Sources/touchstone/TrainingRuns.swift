import BFloat16
import Cases
import Checker
import Engine
import EngineOperations
import Foundation
import Goldens
import Kernels
import MPIRanks
import ModelSpec
import Platform
import Reference
import TrainingData

/// What every step reports.
struct StepSummary {
    let loss: Float
    let gradientNorm: Float
    let learningRate: Float
    /// What the ranks sent each other.
    let traffic: Traffic
    /// Where the engine's time went.
    let seconds: StepSeconds
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

extension ModelConfiguration {
    /// What ranks would send each other in a step, by S8's formula: W - 1 times the encoded gradients on each leg.
    var impliedTraffic: Traffic {
        var traffic = Traffic()
        for parameter in parameters {
            let bytes = compression.bytes(parameter.count)
            traffic.scattered += (ranks - 1) * bytes
            traffic.gathered += (ranks - 1) * bytes
            traffic.elements += 2 * (ranks - 1) * parameter.count
        }
        return traffic
    }
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
        var recorder = recorder
        let outcome = try TrainingStep.run(
            configuration, state: &state, batch: batch, step: step, arithmetic: arithmetic
        ) {
            try Interruption.check()
            let tensor = Tensor($1)
            recorder.record($0, tensor)
            try observer?($0, tensor)
        }
        // A step that was not taken leaves no trace in the chain.
        self.recorder = recorder
        last = outcome
        return StepSummary(
            loss: outcome.loss, gradientNorm: outcome.gradientNorm, learningRate: outcome.learningRate,
            traffic: configuration.impliedTraffic, seconds: StepSeconds())
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

/// Training with the engine, as the only process or as one rank of several.
final class EngineRun: TrainingRun {
    private let context: EngineContext
    let trainer: Trainer
    private let world: MPIWorld?
    private var recorder: StepRecorder?
    /// In place of the recorder where ranks are processes.
    private var rankFingerprint: RankFingerprint?
    private(set) var verifier: StepVerifier?
    private var layers: [LayerDiagnostics] = []
    var observer: ((String, Tensor) throws -> Void)?

    /// - Throws: if the memory that the configuration takes is not there.
    init(
        _ configuration: ModelConfiguration, _ context: EngineContext, fingerprints: Bool, diagnostics: Bool,
        world: MPIWorld? = nil
    ) throws {
        self.context = context
        self.world = world
        let processes = world?.localCount ?? 1
        try Self.requireMemory(
            processes * Self.bytes(configuration, context, world),
            for: "training" + (processes > 1 ? " for the \(counted(processes, "rank")) here" : ""))
        trainer = Trainer(configuration, context, communicator: world)
        trainer.initialize()
        trainer.gathersDiagnostics = diagnostics
        guard fingerprints else { return }
        if let world {
            rankFingerprint = RankFingerprint(world)
        } else {
            recorder = StepRecorder(configuration: configuration)
        }
    }

    /// - Throws: ``CommandError`` with the figures if a model that takes so many bytes does not fit.
    static func requireMemory(_ bytes: Int, for what: String) throws {
        do { try MemoryLimits.require(bytes, for: what) } catch {
            throw CommandError("\(error): a smaller batch or sequence_length takes less")
        }
    }

    private static func bytes(_ c: ModelConfiguration, _ context: EngineContext, _ world: MPIWorld?) -> Int {
        Trainer.bytes(c, threads: context.pool.count, rank: c.ranks > 1 ? world?.rank : nil)
    }

    var sequenceCapacity: Int { trainer.sequenceCapacity }
    var distillationK: Int { trainer.configuration.distillationK }

    var name: String {
        let bytes = Self.bytes(trainer.configuration, context, world)
        let ranks = world.map { ", \(counted($0.count, "process", "processes"))" } ?? ""
        return "\(EngineOptions.name(context)), \(compact(Double(bytes), "B"))\(world == nil ? "" : " a rank")\(ranks)"
    }

    /// Where ranks are processes, on rank 0 only.
    var fingerprint: String? { (recorder?.fingerprint ?? rankFingerprint?.chain)?.hexadecimal }

    /// The chain over the weights as they are.
    var weightsFingerprint: String {
        var chain = Fingerprint()
        trainer.readState { state in
            chain.append(
                "weight.\(state.parameter.name)", .fp32, state.parameter.shape,
                canonical: UnsafeRawBufferPointer(state.weight))
        }
        return chain.hexadecimal
    }

    /// What encoding, adding and decoding an element takes here.
    func codec(_ compression: Compression) -> NetworkModel.Codec { trainer.measureCodec(compression) }

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
        rankFingerprint?.begin()
        let chain = recorder
        let probe: EngineProbe? =
            recorder == nil && rankFingerprint == nil && verifier == nil && observer == nil
            ? nil
            : { [self] name, tensor in
                rankFingerprint?.record(name, tensor)
                recorder?.record(name, tensor.elementType, tensor.shape, canonical: tensor.bytes)
                try verifier?.check(name, StepTensor(tensor))
                try observer?(name, Tensor(StepTensor(tensor)))
            }
        let outcome: Trainer.Outcome
        do {
            outcome = try trainer.step(step, batch: batch, probe: probe) { [self] in try rankFingerprint?.relay() }
        } catch let difference as StepVerifier.Difference { throw difference } catch let broken as CommunicationError {
            throw broken
        } catch let interrupted as Interrupted {
            // The step was not taken: nothing of it stays in the chain.
            recorder = chain
            throw interrupted
        } catch {
            guard let place = try trainer.firstNonfinite(batch) else { throw error }
            throw CommandError("step \(step): \(error); the first NaN or infinity is in \(place)")
        }
        try verifier?.end()
        guard outcome.loss.isFinite else {
            let place = try trainer.firstNonfinite(batch) ?? "the loss"
            throw CommandError(
                "step \(step): the loss is \(outcome.loss); the first NaN or infinity is in \(place)")
        }
        layers = outcome.layers
        return StepSummary(
            loss: outcome.loss, gradientNorm: outcome.gradientNorm, learningRate: outcome.learningRate,
            traffic: outcome.traffic, seconds: outcome.seconds)
    }

    func loss(_ batch: TrainingBatch) throws -> Float { try trainer.loss(batch) }

    var diagnostics: [String] {
        func short(_ x: Double) -> String { "\((x * 1000).rounded() / 1000)" }
        return layers.enumerated().map { index, layer in
            "layer \(index)      |Z| mean \(short(layer.mean)), rms \(short(layer.rootMeanSquare)), max \(short(layer.largest)); bf16 at the largest logit is spaced \(layer.spacing)"
        }
            + layers.enumerated().filter { $0.element.clampedValues > 0 }.map { index, layer in
                "layer \(index)      clamp of \(counted(layer.clampedValues, "value")): \(layer.clamp.above) clipped above, 0 below, \(layer.clamp.zeroCodes) zero codes, \(layer.clamp.notANumber) NaN"
            }
    }

    // MARK: - Checkpoints

    /// Goes on from a checkpoint; the steps taken until then. Where ranks are processes, rank 0 reads it for all.
    ///
    /// - Parameter path: nil on the ranks that read nothing.
    /// - Throws: if it is of another configuration or other data.
    func resume(_ path: String?, data: String, group: RunGroup) throws -> Int {
        var step = 0
        let checkpoint: Checkpoint? = try group.together {
            guard let path else { return nil }
            let checkpoint = try Checkpoint(reading: path)
            guard checkpoint.configuration == trainer.configuration else {
                throw CommandError("\(path) is of another configuration: give the one that it was written with")
            }
            guard checkpoint.data == data else {
                throw CommandError("\(path) was trained on other data: a run that goes on needs the same text")
            }
            if recorder != nil || rankFingerprint != nil {
                guard let text = checkpoint.fingerprint, let chain = Fingerprint(hexadecimal: text) else {
                    throw CommandError("\(path) has no fingerprint to go on with: resume it with --no-fingerprint")
                }
                if let world {
                    rankFingerprint = RankFingerprint(world, chain: chain)
                } else {
                    recorder = StepRecorder(configuration: trainer.configuration, fingerprint: chain)
                }
            }
            step = checkpoint.step
            return checkpoint
        }
        try Checkpoint.restore(checkpoint, everywhere: trainer)
        return try group.ofMain(step)
    }

    /// Writes the state after step `step`, then removes all but the last two. Where ranks are processes all call it, and rank 0 writes.
    func save(_ folder: String, step: Int, data: String, group: RunGroup) throws {
        let residuals = try trainer.gatherResiduals()
        try group.onMain {
            try Checkpoint(trainer, step: step, fingerprint: fingerprint, data: data, residuals: residuals)
                .write(Checkpoint.path(folder, step: step))
            for old in try Checkpoint.steps(folder).filter({ $0 <= step }).dropLast(2) {
                try FileManager.default.removeItem(atPath: Checkpoint.path(folder, step: old))
            }
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

extension TrainingCorpus {
    /// Reads a text with a progress bar, and may be interrupted.
    init(reading path: String, sequenceLength: Int, quiet: Bool = false) throws {
        var bar: ProgressBar?
        try self.init(path: path, sequenceLength: sequenceLength) { done, total in
            try Interruption.check()
            guard total > 0 || done > 0 else { return }
            if bar == nil { bar = ProgressBar("read", total: UInt64(total), unit: "B", quiet: quiet) }
            bar?.update(UInt64(done))
        }
        bar?.finish()
    }

    /// What names the data: SHA-256 of every number in it.
    func digest(quiet: Bool = false) throws -> String {
        let bar = ProgressBar("hash", total: UInt64(report.capacity), unit: "tokens", quiet: quiet)
        var fingerprint = Fingerprint()
        var done = 0
        try fingerprint.append("data", .int32, [numberCount]) { hash in
            try forEachNumber { numbers in
                hash(UnsafeRawBufferPointer(numbers))
                done += numbers.count
                guard done & 0xFFFF < numbers.count else { return }
                try Interruption.check()
                bar.update(UInt64(done / 5))
            }
        }
        bar.finish()
        return fingerprint.hexadecimal
    }
}

extension TrainingRun {
    /// The mean loss over the first 64 held-out sequences by the text's own tokens, a batch at a time; nil if there are none.
    func heldOutLoss(_ corpus: TrainingCorpus) throws -> Float? {
        let sequences = try corpus.heldOut.prefix(64)
        guard !sequences.isEmpty else { return nil }
        var sum = 0.0
        for first in stride(from: 0, to: sequences.count, by: sequenceCapacity) {
            let part = Array(sequences[first..<min(first + sequenceCapacity, sequences.count)])
            let batch = TrainingBatch(part)
            sum +=
                Double(try loss(distillationK > 0 ? batch.hardTargetsAsSoft(k: distillationK) : batch))
                * Double(part.count)
        }
        return Float(sum / Double(sequences.count))
    }
}
