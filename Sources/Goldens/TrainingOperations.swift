import BFloat16
import GoldenIO
import ModelSpec
import Reference

// The operation training.step: clause T, whole steps of the model.

let trainingOperations: [Operation] = [
    Operation(
        "training.step", .training, "whole training steps: forward, backward, all-reduce, AdamW",
        clauses: ["T1", "T2", "T3", "T4", "T5", "T6", "Z1", "Z2", "V1", "C1", "C2", "D4", "R2", "R3"]
    ) { reader in
        let training = try TrainingCase(&reader)
        let c = training.configuration
        var state = TrainingState(
            weights: training.weights, firstMoments: training.firstMoments, secondMoments: training.secondMoments,
            residuals: training.residuals)
        return try training.result { step, batch, recorder, keeps in
            let outcome = try TrainingStep.run(c, state: &state, batch: batch, step: step) {
                recorder.record($0, Tensor($1), keeps: keeps)
            }
            return (outcome.loss, outcome.gradientNorm)
        }
    }
]

/// A case of training.step: a configuration, what the first step begins with, and every step's sequences.
package struct TrainingCase {
    package let configuration: ModelConfiguration
    package let firstStep: Int
    /// Whether the first step's intermediates are wanted.
    package let probe: Bool
    package let batches: [TrainingBatch]
    package private(set) var weights: [[Float]] = []
    package private(set) var firstMoments: [[Float]] = []
    package private(set) var secondMoments: [[Float]] = []
    package private(set) var residuals: [[Float]] = []

    package init(_ reader: inout CaseReader) throws {
        let c = try reader.configuration(besides: ["first_step", "probe"])
        configuration = c
        firstStep = try reader.integer("first_step", in: 1...1 << 30)
        probe = try reader.bool("probe")
        let (b, t, k) = ("\(c.batch)", "\(c.sequenceLength)", "\(c.distillationK)")
        let tokens = try reader.integers("tokens", Int32.self, "S", b, t)
        let steps = reader.size("S")
        var targets: [Int32] = []
        var targetIDs: [UInt32] = []
        var targetWeights: [Float] = []
        if c.distillationK == 0 {
            targets = try reader.integers("targets", Int32.self, "S", b, t)
        } else {
            targetIDs = try reader.integers("target_ids", UInt32.self, "S", b, t, k)
            targetWeights = try reader.floats("target_weights", "S", b, t, k)
        }
        let positions = try reader.integers("position", Int32.self, "S", b, t)
        let start = try reader.integers("visibility_start", Int32.self, "S", b, t)
        let limit = try reader.integers("visibility_limit", Int32.self, "S", b, t)
        let rows = c.batch * c.sequenceLength
        let slots = rows * c.distillationK
        var list: [TrainingBatch] = []
        for step in 0..<steps {
            let (row, slot) = (step * rows..<(step + 1) * rows, step * slots..<(step + 1) * slots)
            list.append(
                TrainingBatch(
                    tokens: Array(tokens[row]),
                    targets: c.distillationK == 0
                        ? .tokens(Array(targets[row]))
                        : .sparse(ids: Array(targetIDs[slot]), weights: Array(targetWeights[slot])),
                    positions: Array(positions[row]), visibilityStart: Array(start[row]),
                    visibilityLimit: Array(limit[row])))
        }
        batches = list
        for parameter in c.parameters {
            let shape = parameter.shape.map(String.init)
            weights.append(try reader.floats("weight.\(parameter.name)", shape: shape))
            firstMoments.append(try reader.floats("m.\(parameter.name)", shape: shape))
            secondMoments.append(try reader.floats("v.\(parameter.name)", shape: shape))
            if c.compression == .squinch && c.errorFeedback {
                residuals.append(
                    try reader.floats("residual.\(parameter.name)", "\(c.ranks)", "\(parameter.count)"))
            }
        }
        try reader.finish()
        guard steps >= 1 else {
            throw OperationError(.input, "training.step: inputs/tokens has no step; expected S >= 1")
        }
    }

    /// Takes every step and gathers what a golden case holds of it.
    package func result(
        _ take: (
            _ step: Int, _ batch: TrainingBatch, _ recorder: inout StepRecorder, _ keeps: Bool
        ) throws -> (loss: Float, gradientNorm: Float)
    ) throws -> CaseResult {
        var recorder = StepRecorder(configuration: configuration)
        var losses: [Float] = []
        var norms: [Float] = []
        var fingerprints: [UInt8] = []
        for (index, batch) in batches.enumerated() {
            let outcome = try take(firstStep + index, batch, &recorder, index == 0)
            losses.append(outcome.loss)
            norms.append(outcome.gradientNorm)
            fingerprints += recorder.fingerprint.digest
        }
        let steps = batches.count
        var result = CaseResult()
        result.output("loss", losses, [steps])
        result.output("gradient_norm", norms, [steps])
        result.output("fingerprint", Tensor(fingerprints, shape: [steps, 32]))
        for named in recorder.outputs { result.output(named.name, named.tensor) }
        for named in recorder.intermediates where probe { result.intermediate(named.name, named.tensor) }
        return result
    }
}

/// The fingerprint of a step (T6), and of the first step what a golden case holds of it.
public struct StepRecorder: Sendable {
    private let configuration: ModelConfiguration
    /// The chain over everything recorded so far.
    public private(set) var fingerprint: Fingerprint
    /// The gradients, or what they were reduced to, and what the step made of them; where kept.
    public private(set) var outputs: [NamedTensor] = []
    /// Every other tensor in execution order, `loss` and `gradient_norm` left out; where kept.
    public private(set) var intermediates: [NamedTensor] = []

    /// - Parameter fingerprint: the chain that goes on.
    public init(configuration: ModelConfiguration, fingerprint: Fingerprint = Fingerprint()) {
        self.configuration = configuration
        self.fingerprint = fingerprint
    }

    /// Adds a tensor to the chain, and keeps it where the golden case of the step is being made.
    public mutating func record(_ name: String, _ tensor: Tensor, keeps: Bool = false) {
        fingerprint.append(name, tensor)
        guard keeps, name != "loss", name != "gradient_norm" else { return }
        let gradients =
            configuration.ranks > 1 || configuration.compression != .none ? "reduced." : "gradient."
        let isOutput = [gradients, "residual.", "m.", "v.", "weight."].contains { name.hasPrefix($0) }
        if isOutput {
            outputs.append(NamedTensor(name, tensor))
        } else {
            intermediates.append(NamedTensor(name, tensor))
        }
    }
}

extension StepRecorder {
    /// Adds a tensor that lies at an address, its NaNs canonical, to the chain alone.
    public mutating func record(
        _ name: String, _ type: ElementType, _ shape: [Int], canonical bytes: UnsafeRawBufferPointer
    ) {
        fingerprint.append(name, type, shape, canonical: bytes)
    }
}

extension Tensor {
    /// What a training step produced, NaNs canonical (F2).
    public init(_ tensor: StepTensor) {
        switch tensor.values {
        case .bf16(let values):
            self.init(
                bf16: values.map { $0.isNaN ? 0x7FC0 : $0.bitPattern }, shape: tensor.shape)
        case .fp32(let values):
            self.init(fp32: values.map { $0.isNaN ? 0x7FC0_0000 : $0.bitPattern }, shape: tensor.shape)
        case .int8(let values): self.init(values, shape: tensor.shape)
        }
    }
}
