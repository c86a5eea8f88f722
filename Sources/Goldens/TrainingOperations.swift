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
        let c = try reader.configuration(besides: ["first_step", "probe"])
        let firstStep = try reader.integer("first_step", in: 1...1 << 30)
        let probe = try reader.bool("probe")
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
        var state = TrainingState(weights: [], firstMoments: [], secondMoments: [])
        for parameter in c.parameters {
            let shape = parameter.shape.map(String.init)
            state.weights.append(try reader.floats("weight.\(parameter.name)", shape: shape))
            state.firstMoments.append(try reader.floats("m.\(parameter.name)", shape: shape))
            state.secondMoments.append(try reader.floats("v.\(parameter.name)", shape: shape))
            if c.usesErrorFeedback {
                state.residuals.append(
                    try reader.floats("residual.\(parameter.name)", "\(c.ranks)", "\(parameter.count)"))
            }
        }
        try reader.finish()
        guard steps >= 1 else {
            throw OperationError(.input, "training.step: inputs/tokens has no step; expected S >= 1")
        }

        var recorder = StepRecorder(configuration: c)
        var losses: [Float] = []
        var norms: [Float] = []
        var fingerprints: [UInt8] = []
        let (rows, slots) = (c.batch * c.sequenceLength, c.batch * c.sequenceLength * c.distillationK)
        for step in 0..<steps {
            func part<Element>(_ all: [Element], _ count: Int = rows) -> [Element] {
                Array(all[step * count..<(step + 1) * count])
            }
            let batch = TrainingBatch(
                tokens: part(tokens),
                targets: c.distillationK == 0
                    ? .tokens(part(targets))
                    : .sparse(ids: part(targetIDs, slots), weights: part(targetWeights, slots)),
                positions: part(positions), visibilityStart: part(start), visibilityLimit: part(limit))
            let outcome = try TrainingStep.run(c, state: &state, batch: batch, step: firstStep + step) {
                recorder.record($0, $1, keeps: step == 0)
            }
            losses.append(outcome.loss)
            norms.append(outcome.gradientNorm)
            fingerprints += recorder.fingerprint.digest
        }

        var result = CaseResult()
        result.output("loss", losses, [steps])
        result.output("gradient_norm", norms, [steps])
        result.output("fingerprint", Tensor(fingerprints, shape: [steps, 32]))
        for named in recorder.outputs { result.output(named.name, named.tensor) }
        for named in recorder.intermediates where probe { result.intermediate(named.name, named.tensor) }
        return result
    }
]

/// The fingerprint of a step (T6), and of the first step what a golden case holds of it.
public struct StepRecorder: Sendable {
    private let configuration: ModelConfiguration
    /// The chain over everything recorded so far.
    public private(set) var fingerprint = Fingerprint()
    private(set) var outputs: [NamedTensor] = []
    private(set) var intermediates: [NamedTensor] = []

    public init(configuration: ModelConfiguration) { self.configuration = configuration }

    /// Adds a tensor to the chain, and keeps it where the golden case of the step is being made.
    public mutating func record(_ name: String, _ stepTensor: StepTensor, keeps: Bool = false) {
        let tensor = Tensor(stepTensor)
        fingerprint.append(name, tensor)
        guard keeps, name != "loss", name != "gradient_norm" else { return }
        let gradients = configuration.combinesGradients ? "reduced." : "gradient."
        let isOutput = [gradients, "residual.", "m.", "v.", "weight."].contains { name.hasPrefix($0) }
        if isOutput {
            outputs.append(NamedTensor(name, tensor))
        } else {
            intermediates.append(NamedTensor(name, tensor))
        }
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
