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
        configuration { c in (c.distillationK, c.ranks) = (5, 2) },
    ]

    private func batch(_ c: ModelConfiguration, _ step: Int) -> TrainingBatch {
        let n = c.batch * c.sequenceLength
        let rows = (0..<n).map { Int32($0 % c.sequenceLength) }
        return TrainingBatch(
            tokens: (0..<n).map { Int32(($0 * 31 + step * 7) % c.vocabulary) },
            targets: c.distillationK == 0
                ? .tokens((0..<n).map { Int32(($0 * 31 + step * 7 + 31) % c.vocabulary) })
                : .sparse(
                    // Every third slot is empty, and every seventh row altogether.
                    ids: (0..<n * c.distillationK).map {
                        $0 % 3 == 0 || $0 / c.distillationK % 7 == 0
                            ? UInt32.max : UInt32(($0 * 13 + step) % c.vocabulary)
                    }, weights: (0..<n * c.distillationK).map { Float($0 % 5) / 8 }), positions: rows,
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
            try verifier.end()
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

    @Test("a tensor too early, twice, of another type or shape, or missing is told by name")
    func plan() throws {
        let c = Self.configurations[0]
        let trainer = Trainer(c, EngineContext(threads: 1))
        trainer.initialize()
        var tensors: [(name: String, tensor: StepTensor)] = []
        _ = try trainer.step(1, batch: batch(c, 1)) { tensors.append(($0, stepTensor($1))) }
        func walk(_ shown: [(name: String, tensor: StepTensor)]) throws -> StepVerifier.Unexpected? {
            var verifier = StepVerifier(c, state: TrainingState(initial: c), samples: 1, seed: 5)
            try verifier.begin(1, batch(c, 1))
            do {
                for (name, tensor) in shown { try verifier.accept(name, tensor) }
                try verifier.end()
            } catch let error as StepVerifier.Unexpected { return error }
            return nil
        }
        #expect(try walk(tensors) == nil)
        for place in [0, 1, 7, tensors.count / 2, tensors.count - 1] {
            let (name, tensor) = tensors[place]
            #expect(try walk(Array(tensors[...place]) + [tensors[place]])?.operation == name)
            #expect(try walk(Array(tensors[..<place]))?.operation == name)
            var changed = tensors
            let count = tensor.shape.reduce(1, *)
            changed[place].tensor =
                tensor.type == .int8
                ? StepTensor([Float](repeating: 0, count: count), tensor.shape)
                : StepTensor([Int8](repeating: 0, count: count), tensor.shape)
            let type = try #require(try walk(changed))
            #expect(type.operation == name && type.message.contains("expected \(tensor.type.rawValue)"), "\(type)")
            changed[place].tensor = StepTensor([Float](repeating: 0, count: count), tensor.shape + [1])
            #expect(try walk(changed)?.operation == name)
            guard place > 0 else { continue }
            changed = tensors
            changed.swapAt(place, place - 1)
            #expect(try walk(changed) != nil, "\(name) before \(tensors[place - 1].name)")
        }
    }
}
