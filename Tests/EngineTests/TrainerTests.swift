import Cases
import Engine
import EngineOperations
import ExactMath
import Foundation
import Kernels
import ModelSpec
import Reference
import Testing

@Suite("The trainer beside its steps")
struct TrainerTests {
    private func small() -> ModelConfiguration {
        var c = ModelConfiguration()
        (c.vocabulary, c.width, c.layers, c.heads, c.keyValueHeads) = (48, 24, 3, 4, 2)
        (c.headDimension, c.feedForwardWidth, c.sequenceLength, c.batch) = (6, 40, 19, 3)
        (c.windows, c.keyValueSource) = ([4, 0, 4], [0, 1, 1])
        (c.int8, c.compression, c.errorFeedback, c.ranks) = (true, .squinch, true, 2)
        return c
    }

    private func batch(_ c: ModelConfiguration, _ step: Int) -> TrainingBatch {
        let n = c.batch * c.sequenceLength
        let rows = (0..<n).map { Int32($0 % c.sequenceLength) }
        return TrainingBatch(
            tokens: (0..<n).map { Int32(($0 * 31 + step * 7) % c.vocabulary) },
            targets: .tokens((0..<n).map { Int32(($0 * 31 + step * 7 + 31) % c.vocabulary) }), positions: rows,
            visibilityStart: rows, visibilityLimit: rows.map { _ in Int32(c.sequenceLength) })
    }

    @Test("T1, G4: initial weights", arguments: InstructionSets.available.map(\.name))
    func initialWeights(isa: String) throws {
        let c = small()
        let kernels = try #require(InstructionSets.named(isa))
        let trainer = Trainer(c, EngineContext(kernels: kernels, threads: 3))
        trainer.initialize()
        let expected = Initialization.values(of: c)
        var index = 0
        trainer.readState { state in
            #expect(Array(state.weight).map(\.bitPattern) == expected[index].map(\.bitPattern))
            index += 1
        }
        #expect(index == expected.count)
    }

    @Test("the presets' initial weights, schedules and bias corrections are the reference's")
    func constants() {
        for schedule in Schedule.allCases {
            var c = ModelConfiguration()
            (c.schedule, c.learningRate, c.finalFraction) = (schedule, 0.003, 0.1)
            for step in [1, 2, 9, 10, 11, 57, 105, 106, 153, 199, 200, 1000] {
                #expect(Trainer.learningRate(step, c) == LearningRate.at(step: step, configuration: c))
            }
        }
        for beta in [0, 0.5, 0.9, 0.95, 0.99, 0.999, Float(1).nextDown] as [Float] {
            for step in [1, 2, 3, 100, 4096, 1 << 20, 1 << 30] {
                #expect(
                    ScalarMath.biasCorrection(beta, step: step)
                        == CorrectlyRounded.biasCorrection(beta, step: UInt64(step)))
            }
        }
    }

    @Test("a checkpoint goes on bit for bit")
    func checkpoint() throws {
        let c = small()
        let path = FileManager.default.temporaryDirectory.path + "/touchstone-checkpoint-\(UUID()).h5"
        defer { try? FileManager.default.removeItem(atPath: path) }
        func losses(_ trainer: Trainer, _ steps: ClosedRange<Int>) throws -> [Float] {
            try steps.map { try trainer.step($0, batch: batch(c, $0)).loss }
        }
        let whole = Trainer(c, EngineContext(threads: 2))
        whole.initialize()
        let expected = try losses(whole, 1...6)
        let first = Trainer(c, EngineContext(threads: 1))
        first.initialize()
        #expect(try losses(first, 1...3) == Array(expected[0..<3]))
        try Checkpoint(first, step: 3, fingerprint: nil, data: "d").write(path)
        let read = try Checkpoint(reading: path)
        #expect(read.step == 3 && read.configuration == c && read.data == "d")
        let second = Trainer(c, EngineContext(threads: 3))
        read.restore(second)
        #expect(try losses(second, 4...6) == Array(expected[3..<6]))
    }

    @Test("a token at a time with kept keys and values gives the logits of a whole pass")
    func generator() throws {
        var c = small()
        (c.batch, c.ranks, c.compression, c.errorFeedback) = (1, 1, .none, false)
        let trainer = Trainer(c, EngineContext(threads: 2))
        trainer.initialize()
        let whole = batch(c, 1)
        var logits: [UInt32] = []
        _ = try trainer.step(1, batch: whole) { name, tensor in
            if name == "logits" { logits = Array(tensor.bytes.bindMemory(to: UInt32.self)) }
        }
        // The step has changed the weights: the same ones once more.
        trainer.initialize()
        let generator = try Generator(trainer)
        for (position, token) in whole.tokens.enumerated() {
            let row = try #require(generator.logits(after: token))
            let range = position * c.vocabulary..<(position + 1) * c.vocabulary
            #expect(row.map(\.bitPattern) == Array(logits[range]), "position \(position)")
        }
        #expect(generator.logits(after: 0) == nil)
    }

    @Test("what a step cannot take is an error, and the state stays as it was")
    func refusals() throws {
        let c = small()
        let trainer = Trainer(c, EngineContext(threads: 2))
        trainer.initialize()
        func state() -> [UInt32] {
            var bits: [UInt32] = []
            trainer.readState { state in
                for values in [state.weight, state.first, state.second, state.residual] {
                    bits += values.map { $0.map(\.bitPattern) } ?? []
                }
            }
            return bits
        }
        let before = state()
        let good = batch(c, 1)
        func with(tokens: [Int32]? = nil, limit: [Int32]? = nil) -> TrainingBatch {
            TrainingBatch(
                tokens: tokens ?? good.tokens, targets: good.targets, positions: good.positions,
                visibilityStart: good.visibilityStart, visibilityLimit: limit ?? good.visibilityLimit)
        }
        var tokens = good.tokens
        tokens[5] = 48
        func refusal(_ batch: TrainingBatch) -> String {
            do { return "\(try trainer.step(1, batch: batch))" } catch { return "\(error)" }
        }
        #expect(refusal(with(tokens: tokens)) == "embedding: token 48 at index 5, expected 0 ..< 48")
        #expect(refusal(with(tokens: [1])) == "tokens has 1 elements, expected 57")
        var limit = good.visibilityLimit
        limit[0] = 20
        #expect(refusal(with(limit: limit)).contains("batch 0, token 0: visibility [0, 20)"))
        #expect(state() == before)

        // A gradient that Squinch refuses.
        trainer.withState { state in
            if state.parameter.name == "layers.2.mlp.up" { state.weight[0] = .infinity }
        }
        let broken = state()
        #expect(refusal(good).contains("limit"))
        #expect(state() == broken)
    }
}

@Suite("The engine's elementary functions against the reference's")
struct EngineMathTests {
    /// A stride over all bit patterns, with the neighbourhoods of what is special.
    static let arguments: [Float] = {
        var bits: [UInt32] = stride(from: 0, through: UInt32.max - 40_000, by: 39_989).map { $0 }
        for centre in [0, 0x3F80_0000, 0x42B1_7218, 0xC2AE_AC50, 0xC2CF_F1B5, 0x7F80_0000, 0x0080_0000, 0x3F00_0000]
            as [UInt32]
        {
            for offset in 0..<64 as Range<UInt32> {
                bits += [centre &+ offset, centre &- offset, (centre &+ offset) ^ 0x8000_0000]
            }
        }
        return bits.map(Float.init(bitPattern:))
    }()

    private func same(_ a: Float, _ b: Float) -> Bool { a.bitPattern == b.bitPattern || (a.isNaN && b.isNaN) }

    @Test("E3: vectors", arguments: InstructionSets.available.map(\.name))
    func vectors(isa: String) throws {
        let kernels = try #require(InstructionSets.named(isa))
        let x = Self.arguments
        for (name, function, reference) in [
            ("exp", kernels.math.exp, CorrectlyRounded.exp), ("log", kernels.math.log, CorrectlyRounded.log),
            ("rsqrt", kernels.math.rsqrt, CorrectlyRounded.rsqrt),
        ] as [(String, MathKernels.Function, (Float) -> Float)] {
            var y = [Float](repeating: 0, count: x.count)
            function(x, &y, x.count)
            let wrong = x.indices.first { !same(y[$0], reference(x[$0])) }
            #expect(wrong == nil, "\(name)(\(wrong.map { x[$0] } ?? 0))")
        }
    }

    @Test("E1: one at a time")
    func scalars() {
        for (name, function, reference) in [
            ("exp", ScalarMath.exp, CorrectlyRounded.exp), ("expm1", ScalarMath.expm1, CorrectlyRounded.expm1),
            ("log", ScalarMath.log, CorrectlyRounded.log), ("log1p", ScalarMath.log1p, CorrectlyRounded.log1p),
            ("rsqrt", ScalarMath.rsqrt, CorrectlyRounded.rsqrt), ("sqrt", ScalarMath.sqrt, CorrectlyRounded.sqrt),
            ("reciprocal", ScalarMath.reciprocal, CorrectlyRounded.reciprocal),
            ("sinPi", ScalarMath.sinPi, CorrectlyRounded.sinPi), ("cosPi", ScalarMath.cosPi, CorrectlyRounded.cosPi),
        ] as [(String, (Float) -> Float, (Float) -> Float)] {
            let wrong = Self.arguments.first { !same(function($0), reference($0)) }
            #expect(wrong == nil, "\(name)(\(wrong ?? 0))")
        }
    }

    @Test("E4: rotations, at large positions too")
    func rotations() {
        for base in [1, 2, 10000, 500_000] as [Float] {
            for pair in 0..<16 {
                let frequency = ScalarMath.rotaryFrequency(base: base, pair: pair, dimension: 32)
                #expect(frequency == CorrectlyRounded.rotaryFrequency(base: base, pair: pair, dimension: 32))
                for position in [0, 1, 2, 3, 22, 355, 511, 4095, 103_993, 1 << 20, (1 << 29) - 1] {
                    let (got, expected) = (
                        ScalarMath.rotation(position: position, frequency: frequency),
                        CorrectlyRounded.rotation(position: position, frequency: frequency)
                    )
                    #expect(got.cosine == expected.cosine && got.sine == expected.sine, "\(position) \(frequency)")
                }
            }
        }
    }

    @Test("S2: scales and thresholds")
    func squinchTables() {
        #expect(SquinchCode.scales == SquinchTables.scales)
        #expect(SquinchCode.thresholds == SquinchTables.thresholds)
    }
}
