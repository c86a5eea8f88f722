import Cases
import Engine
import Goldens
import ModelSpec

let trainingOperations: [(String, EngineCatalog.Compute)] = [("training.step", trainingSteps)]

private func trainingSteps(_ question: EngineQuestion) throws -> CaseResult {
    let training = TrainingCase(question.given)
    let trainer = Trainer(training.configuration, question.context)
    var index = 0
    trainer.withState { state in
        _ = state.weight.update(from: training.weights[index])
        _ = state.first.update(from: training.firstMoments[index])
        _ = state.second.update(from: training.secondMoments[index])
        if let residual = state.residual { _ = residual.update(from: training.residuals[index]) }
        index += 1
    }
    return try training.result { step, batch, recorder, keeps in
        var own = recorder
        let outcome = try trainer.step(step, batch: batch) { own.record($0, Tensor($1), keeps: keeps) }
        recorder = own
        return (outcome.loss, outcome.gradientNorm)
    }
}

extension EngineTensor {
    public var elementType: ElementType {
        switch kind {
        case .bf16: .bf16
        case .fp32: .fp32
        case .int8: .int8
        }
    }
}

extension Tensor {
    /// What the engine produced; its NaNs are canonical already (F2).
    public init(_ tensor: EngineTensor) {
        let type = tensor.elementType
        do { try self.init(type: type, shape: tensor.shape, bytes: Array(tensor.bytes)) } catch {
            preconditionFailure("an engine tensor of \(tensor.bytes.count) bytes and shape \(tensor.shape)")
        }
    }
}
