import BFloat16
import Cases
import ModelSpec
import Reference

// The operation training.step: clause T, whole steps of the model.

let trainingOperations: [Operation] = [
    Operation("training.step") { given in
        let training = TrainingCase(given)
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

    /// - Precondition: the case is one of training.step.
    package init(_ given: CheckedCase) {
        guard let c = given.configuration else { preconditionFailure("\(given.op) has no configuration") }
        configuration = c
        firstStep = given.integer("first_step")
        probe = given.flag("probe")
        let tokens: [Int32] = given.integers("tokens")
        let targets: [Int32] = given.integers("targets")
        let targetIDs: [UInt32] = given.integers("target_ids")
        let targetWeights = given.floats("target_weights")
        let positions: [Int32] = given.integers("position")
        let start: [Int32] = given.integers("visibility_start")
        let limit: [Int32] = given.integers("visibility_limit")
        let rows = c.batch * c.sequenceLength
        let slots = rows * c.distillationK
        batches = (0..<given.size("S")).map { step in
            let (row, slot) = (step * rows..<(step + 1) * rows, step * slots..<(step + 1) * slots)
            return TrainingBatch(
                tokens: Array(tokens[row]),
                targets: c.distillationK == 0
                    ? .tokens(Array(targets[row]))
                    : .sparse(ids: Array(targetIDs[slot]), weights: Array(targetWeights[slot])),
                positions: Array(positions[row]), visibilityStart: Array(start[row]),
                visibilityLimit: Array(limit[row]))
        }
        for parameter in c.parameters {
            weights.append(given.floats("weight.\(parameter.name)"))
            firstMoments.append(given.floats("m.\(parameter.name)"))
            secondMoments.append(given.floats("v.\(parameter.name)"))
            if given.has("residual.\(parameter.name)") {
                residuals.append(given.floats("residual.\(parameter.name)"))
            }
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
    private let plan: StepPlan
    /// The chain over everything recorded so far.
    public private(set) var fingerprint: Fingerprint
    /// What a golden case holds of every step, `loss` and `gradient_norm`; where kept.
    public private(set) var everyStep: [NamedTensor] = []
    /// The gradients, or what they were reduced to, and what the step made of them; where kept.
    public private(set) var outputs: [NamedTensor] = []
    /// Every other tensor in execution order; where kept.
    public private(set) var intermediates: [NamedTensor] = []

    /// - Parameter fingerprint: the chain that goes on.
    public init(configuration: ModelConfiguration, fingerprint: Fingerprint = Fingerprint()) {
        plan = StepPlan(configuration)
        self.fingerprint = fingerprint
    }

    /// Adds a tensor to the chain, and keeps it where the golden case of the step is being made.
    public mutating func record(_ name: String, _ tensor: Tensor, keeps: Bool = false) {
        fingerprint.append(name, tensor)
        guard keeps else { return }
        switch plan[name]?.record {
        case .everyStep: everyStep.append(NamedTensor(name, tensor))
        case .output: outputs.append(NamedTensor(name, tensor))
        case .intermediate, nil: intermediates.append(NamedTensor(name, tensor))
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
