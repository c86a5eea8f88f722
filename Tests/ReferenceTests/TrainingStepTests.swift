import ExactMath
import ModelSpec
import Reference
import Testing

@Suite("T: a step of training")
struct TrainingStepTests {
    /// Small, with every technique on.
    private static func configuration(_ change: (inout ModelConfiguration) -> Void = { _ in }) -> ModelConfiguration {
        var c = ModelConfiguration()
        (c.vocabulary, c.width, c.layers, c.heads, c.keyValueHeads, c.headDimension) = (23, 8, 2, 2, 1, 4)
        (c.feedForwardWidth, c.sequenceLength, c.batch) = (12, 7, 2)
        (c.warmupSteps, c.totalSteps) = (1, 50)
        change(&c)
        return c
    }

    /// Causal sequences of words from Philox.
    private static func batch(_ c: ModelConfiguration, seed: UInt64 = 1) -> TrainingBatch {
        let stream = RandomStream(seed: seed, stream: 99, step: 0)
        let count = c.batch * c.sequenceLength
        let tokens = (0..<count).map { Int32(stream.word(UInt64($0)) % UInt32(c.vocabulary)) }
        let place = (0..<count).map { Int32($0 % c.sequenceLength) }
        let targets = (0..<count).map { place[$0] + 1 < c.sequenceLength ? tokens[$0 + 1] : -1 }
        return TrainingBatch(
            tokens: tokens, targets: .tokens(targets), positions: place, visibilityStart: place,
            visibilityLimit: [Int32](repeating: Int32(c.sequenceLength), count: count))
    }

    /// The names and bits of everything that `steps` steps produce.
    private static func trace(
        _ c: ModelConfiguration, steps: Int = 1, arithmetic: Arithmetic = .soft
    ) throws -> (names: [String], bits: [[UInt32]], outcome: TrainingStep.Outcome, state: TrainingState) {
        var state = TrainingState(initial: c)
        var names: [String] = []
        var bits: [[UInt32]] = []
        var outcome: TrainingStep.Outcome?
        for step in 1...steps {
            outcome = try TrainingStep.run(
                c, state: &state, batch: batch(c, seed: UInt64(step)), step: step, arithmetic: arithmetic
            ) { name, tensor in
                names.append(name)
                switch tensor.values {
                case .bf16(let values): bits.append(values.map { UInt32($0.bitPattern) })
                case .fp32(let values): bits.append(values.map(\.bitPattern))
                case .int8(let values): bits.append(values.map { UInt32(UInt8(bitPattern: $0)) })
                }
                #expect(bits.last!.count == tensor.shape.reduce(1, *), "\(name)")
            }
        }
        return (names, bits, outcome!, state)
    }

    @Test("T2, T4: the tensors come in the order of the specification's tables")
    func order() throws {
        let c = Self.configuration {
            $0.keyValueSource = [0, 0]; $0.int8 = true
        }
        func forward(_ l: String, own: Bool) -> [String] {
            ["attention.norm.output", "attention.query.output"]
                .appending(own ? ["attention.key.output", "attention.value.output"] : [])
                .appending(["attention.query.rotated"]).appending(own ? ["attention.key.rotated"] : [])
                .appending([
                    "attention.max", "attention.sum", "attention.z", "attention.context", "attention.residual",
                    "mlp.norm.output", "mlp.up.output", "mlp.limit", "mlp.codes", "mlp.activation", "mlp.residual",
                ]).map { "\(l).\($0)" }
        }
        func backward(_ l: String, own: Bool) -> [String] {
            [
                "gradient.\(l).mlp.down", "\(l).mlp.up.gradient", "gradient.\(l).mlp.up",
                "\(l).mlp.norm.output.gradient", "gradient.\(l).mlp.norm", "\(l).mlp.stream.gradient",
                "gradient.\(l).attention.output", "\(l).attention.context.gradient",
                "\(l).attention.query.rotated.gradient", "\(l).attention.key.rotated.gradient",
                "\(l).attention.value.gradient", "\(l).attention.query.gradient",
            ]
            .appending(
                own
                    ? [
                        "\(l).attention.key.total_gradient", "\(l).attention.key.gradient",
                        "\(l).attention.value.total_gradient",
                    ] : []
            ).appending(["gradient.\(l).attention.query"])
            .appending(own ? ["gradient.\(l).attention.key", "gradient.\(l).attention.value"] : [])
            .appending([
                "\(l).attention.norm.output.gradient", "gradient.\(l).attention.norm",
                "\(l).attention.stream.gradient",
            ])
        }
        let expected =
            ["embedding.output"] + forward("layers.0", own: true) + forward("layers.1", own: false)
            + ["norm.output", "logits", "loss.max", "loss.sum", "loss.z", "loss"]
            + [
                "logits.gradient", "norm.output.gradient", "embedding.output_gradient", "gradient.norm",
                "stream.gradient",
            ] + backward("layers.1", own: false) + backward("layers.0", own: true)
            + ["gradient.embedding", "learning_rate", "gradient_norm"]
            + c.parameters.flatMap { ["m.\($0.name)", "v.\($0.name)", "weight.\($0.name)"] }
        #expect(try Self.trace(c).names == expected)
    }

    @Test("T5: the ranks' tensors carry their rank, the combined gradients follow")
    func rankOrder() throws {
        let c = Self.configuration {
            $0.ranks = 2; $0.compression = .squinch; $0.errorFeedback = true
        }
        let names = try Self.trace(c).names
        let one = try Self.trace(Self.configuration()).names
        let pass = one.prefix { $0 != "learning_rate" }
        let expected =
            pass.map { "rank.0.\($0)" } + pass.map { "rank.1.\($0)" } + ["loss"]
            + c.parameters.flatMap { ["reduced.\($0.name)", "residual.\($0.name)"] }
        #expect(Array(names.prefix(expected.count)) == expected)
        #expect(names[expected.count] == "learning_rate")
    }

    static let variants: [ModelConfiguration] = [
        configuration(),
        configuration {
            $0.dot = .chainIEEE; $0.clamp = .none
        },
        configuration {
            $0.int8 = true; $0.clampKappa = 0.5; $0.clampGradient = .inward; $0.zregForm = .rowDot
        },
        configuration {
            $0.windows = [2, 0]; $0.keyValueSource = [0, 0]; $0.zregForm = .unfolded
        },
        configuration {
            $0.ranks = 2; $0.compression = .squinch; $0.squinchVariant = .stochastic15; $0.errorFeedback = true
        },
    ]

    @Test("F3: hardware arithmetic gives the bits of the soft one in every tensor", arguments: variants)
    func hardwareEqualsSoft(c: ModelConfiguration) throws {
        let soft = try Self.trace(c, steps: 2)
        let hardware = try Self.trace(c, steps: 2, arithmetic: .hardware)
        #expect(soft.names == hardware.names)
        for (index, name) in soft.names.enumerated() where soft.bits[index] != hardware.bits[index] {
            Issue.record("\(name) differs, the first of step \(index / (soft.names.count / 2) + 1)")
            return
        }
    }

    @Test("T4: a few steps on one batch lower the loss", arguments: variants)
    func learns(c: ModelConfiguration) throws {
        var c = c
        c.learningRate = 0x1p-5
        var state = TrainingState(initial: c)
        var losses: [Float] = []
        for step in 1...12 {
            losses.append(
                try TrainingStep.run(c, state: &state, batch: Self.batch(c), step: step, arithmetic: .hardware).loss)
        }
        #expect(losses.last! < losses.first! - 0.5, "\(losses)")
    }

    @Test("V1: a token has no effect on logits before it, nor on another sequence's")
    func causality() throws {
        let c = Self.configuration()
        let model = try Transformer(c, masters: Initialization.values(of: c))
        let batch = Self.batch(c)
        var tokens = batch.tokens
        tokens[4] = (tokens[4] + 1) % 23
        let changed = TrainingBatch(
            tokens: tokens, targets: batch.targets, positions: batch.positions,
            visibilityStart: batch.visibilityStart, visibilityLimit: batch.visibilityLimit)
        let (before, after) = (try model.forward(batch).logits, try model.forward(changed).logits)
        for row in 0..<c.batch * c.sequenceLength {
            let range = row * c.vocabulary..<(row + 1) * c.vocabulary
            #expect((before[range] == after[range]) == !(4..<7).contains(row), "row \(row)")
        }
    }

    @Test("T5: ranks that see the same sequence give the gradient of one rank, but for -0")
    func equalRanks() throws {
        let one = Self.configuration { $0.batch = 1 }
        let two = Self.configuration { $0.ranks = 2 }
        let single = Self.batch(one)
        func twice(_ values: [Int32]) -> [Int32] { values + values }
        guard case .tokens(let targets) = single.targets else {
            Issue.record("the batch has no targets")
            return
        }
        let double = TrainingBatch(
            tokens: twice(single.tokens), targets: .tokens(twice(targets)), positions: twice(single.positions),
            visibilityStart: twice(single.visibilityStart), visibilityLimit: twice(single.visibilityLimit))
        var (first, second) = (TrainingState(initial: one), TrainingState(initial: two))
        let a = try TrainingStep.run(one, state: &first, batch: single, step: 1)
        let b = try TrainingStep.run(two, state: &second, batch: double, step: 1)
        #expect(a.loss == b.loss && a.gradientNorm == b.gradientNorm)
        #expect(first.weights == second.weights)
    }

    @Test("T4: a gradient norm that is not finite is an error, and the state stays as it was")
    func nonfinite() throws {
        let c = Self.configuration()
        var state = TrainingState(initial: c)
        state.weights[0][5] = .infinity
        let before = state
        #expect(throws: TrainingError.self) {
            try TrainingStep.run(c, state: &state, batch: Self.batch(c), step: 1)
        }
        #expect(state.weights.map { $0.map(\.bitPattern) } == before.weights.map { $0.map(\.bitPattern) })
        #expect(state.firstMoments == before.firstMoments)
    }

    @Test("T2: what no step can be taken with is an error that names it")
    func refusals() throws {
        let c = Self.configuration()
        let good = Self.batch(c)
        func message(_ batch: TrainingBatch, _ c: ModelConfiguration = c) -> String {
            var state = TrainingState(initial: c)
            do {
                _ = try TrainingStep.run(c, state: &state, batch: batch, step: 1)
                return "no error"
            } catch {
                return "\(error)"
            }
        }
        func with(
            tokens: [Int32]? = nil, targets: TrainingBatch.Targets? = nil, positions: [Int32]? = nil,
            limit: [Int32]? = nil
        ) -> TrainingBatch {
            TrainingBatch(
                tokens: tokens ?? good.tokens, targets: targets ?? good.targets,
                positions: positions ?? good.positions, visibilityStart: good.visibilityStart,
                visibilityLimit: limit ?? good.visibilityLimit)
        }
        var tokens = good.tokens
        tokens[3] = 23
        #expect(message(with(tokens: tokens)).contains("23"))
        #expect(message(with(tokens: [1])).contains("tokens has 1 elements, expected 14"))
        #expect(message(with(targets: .tokens([Int32](repeating: 99, count: 14)))).contains("99"))
        #expect(message(with(targets: .sparse(ids: [], weights: []))).contains("distillation_k"))
        var positions = good.positions
        positions[2] = -1
        #expect(message(with(positions: positions)).contains("position -1 at row 2"))
        var limit = good.visibilityLimit
        limit[9] = 8
        #expect(message(with(limit: limit)).contains("batch 1, token 2"))
        var state = TrainingState(initial: c)
        state.firstMoments[1] = []
        #expect(throws: TrainingError.self) { try TrainingStep.run(c, state: &state, batch: good, step: 1) }
        #expect(throws: TrainingError.self) { try Transformer(c, masters: []) }
    }
}

extension Array {
    fileprivate func appending(_ other: [Element]) -> [Element] { self + other }
}
