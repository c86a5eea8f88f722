import BFloat16
import Checker
import Engine
import ModelSpec
import Reference
import Testing

@Suite("Lockstep: sampled elements recomputed by the reference")
struct LockstepTests {
    private static func configuration(_ change: (inout ModelConfiguration) -> Void = { _ in }) -> ModelConfiguration {
        var c = ModelConfiguration()
        (c.vocabulary, c.width, c.layers, c.heads, c.keyValueHeads) = (48, 24, 3, 4, 2)
        (c.headDimension, c.feedForwardWidth, c.sequenceLength, c.batch) = (6, 40, 19, 3)
        (c.windows, c.keyValueSource) = ([4, 0, 4], [0, 1, 1])
        change(&c)
        return c
    }

    static let configurations: [ModelConfiguration] = [
        configuration(),
        configuration { c in
            (c.int8, c.compression, c.errorFeedback, c.ranks) = (true, .squinch, true, 2)
            c.squinchVariant = .stochastic15
        },
        configuration { c in (c.clamp, c.zregForm, c.compression, c.ranks) = (.none, .rowDot, .bf16, 3) },
        configuration { c in (c.dot, c.zregForm, c.zregC) = (.chainIEEE, .unfolded, 0) },
    ]

    private func batch(_ c: ModelConfiguration, _ step: Int) -> TrainingBatch {
        let n = c.batch * c.sequenceLength
        let rows = (0..<n).map { Int32($0 % c.sequenceLength) }
        return TrainingBatch(
            tokens: (0..<n).map { Int32(($0 * 31 + step * 7) % c.vocabulary) },
            targets: .tokens((0..<n).map { Int32(($0 * 31 + step * 7 + 31) % c.vocabulary) }), positions: rows,
            visibilityStart: rows, visibilityLimit: rows.map { _ in Int32(c.sequenceLength) })
    }

    private func run(
        _ c: ModelConfiguration, steps: Int, samples: Int, change: @escaping (Int, String, StepTensor) -> StepTensor
    ) throws -> StepVerifier {
        let trainer = Trainer(c, EngineContext(threads: 2))
        trainer.initialize()
        var verifier = StepVerifier(c, state: TrainingState(initial: c), samples: samples, seed: 5)
        for step in 1...steps {
            let batch = batch(c, step)
            try verifier.begin(step, batch)
            _ = try trainer.step(step, batch: batch) { name, tensor in
                try verifier.check(name, change(step, name, stepTensor(tensor)))
            }
        }
        return verifier
    }

    private func stepTensor(_ tensor: EngineTensor) -> StepTensor {
        switch tensor.kind {
        case .bf16: StepTensor(Array(tensor.bytes.bindMemory(to: BFloat16.self)), tensor.shape)
        case .fp32: StepTensor(Array(tensor.bytes.bindMemory(to: Float.self)), tensor.shape)
        case .int8: StepTensor(Array(tensor.bytes.bindMemory(to: Int8.self)), tensor.shape)
        }
    }

    @Test("the engine's steps are found exact", arguments: configurations)
    func exact(c: ModelConfiguration) throws {
        let verifier = try run(c, steps: 3, samples: 20) { $2 }
        #expect(verifier.compared > 1000 && verifier.skipped == 0)
    }

    @Test("one wrong bit in any tensor is found in that tensor", arguments: configurations)
    func everyTensorIsChecked(c: ModelConfiguration) throws {
        var names: [String] = []
        _ = try run(c, steps: 1, samples: 1) { _, name, tensor in
            names.append(name)
            return tensor
        }
        for wrong in names {
            do {
                _ = try run(c, steps: 1, samples: 1) { _, name, tensor in
                    name == wrong ? flipped(tensor) : tensor
                }
                Issue.record("\(wrong) passed with the last bit of every element wrong")
            } catch let difference as StepVerifier.Difference {
                #expect(difference.operation == wrong, "\(difference)")
            }
        }
    }

    /// Every element's last bit the other one.
    private func flipped(_ tensor: StepTensor) -> StepTensor {
        switch tensor.values {
        case .bf16(let x): StepTensor(x.map { BFloat16(bitPattern: $0.bitPattern ^ 1) }, tensor.shape)
        case .fp32(let x): StepTensor(x.map { Float(bitPattern: $0.bitPattern ^ 1) }, tensor.shape)
        case .int8(let x): StepTensor(x.map { $0 ^ 1 }, tensor.shape)
        }
    }

    @Test("tensors out of order and unknown ones are refused")
    func unexpected() throws {
        let c = Self.configurations[0]
        var verifier = StepVerifier(c, state: TrainingState(initial: c), samples: 1, seed: 5)
        try verifier.begin(1, batch(c, 1))
        let tensor = StepTensor([Float](repeating: 0, count: 57 * 48), [57, 48])
        #expect(throws: StepVerifier.Unexpected.self) { try verifier.check("logits", tensor) }
        #expect(throws: StepVerifier.Unexpected.self) { try verifier.check("layers.0.what", tensor) }
        #expect(throws: StepVerifier.Unexpected.self) { try verifier.check("rank.7.logits", tensor) }
    }
}
