import Engine
import Kernels
import KernelsEmulated
import ModelSpec
import Reference
import Testing

/// Random models, batches and states: engine and reference agree in every tensor of two steps.
@Suite("Random configurations")
struct RandomConfigurationTests {
    /// Seeded draws.
    struct Draws {
        private let words: RandomWords
        private var next: UInt64 = 0

        init(seed: UInt64) { words = RandomWords(seed: seed, stream: 77, step: 0) }

        mutating func word() -> UInt32 {
            defer { next += 1 }
            return words.word(next)
        }

        mutating func below(_ n: Int) -> Int { Int((UInt64(word()) * UInt64(n)) >> 32) }
        mutating func pick<Element>(_ list: [Element]) -> Element { list[below(list.count)] }
        mutating func chance(_ n: Int) -> Bool { below(n) == 0 }
        mutating func normal() -> Float { RandomWords.normal(word(), word()).0 }
    }

    static let seeds = 0..<240

    @Test("two steps, tensor by tensor", arguments: seeds)
    func agree(seed: Int) throws {
        var draws = Draws(seed: UInt64(seed))
        let c = Self.configuration(&draws)
        try c.validate()
        let sets = InstructionSets.available + [Emulated.singles, Emulated.pairs]
        let context = EngineContext(kernels: sets[seed % sets.count], threads: [1, 2, 3, 7][seed / 2 % 4])
        let state = Self.state(c, &draws)
        let batches = (0..<2).map { _ in Self.batch(c, &draws) }
        let difference = try StepTraceTests.compare(
            c, state, batches, firstStep: 1 + draws.below(30), context: context)
        #expect(difference == nil, "seed \(seed), \(context.kernels.name), \(context.pool.count) threads: \(c)")
    }

    @Test("the configurations are many: every choice of every key occurs")
    func variety() throws {
        let all = Self.seeds.map { seed in
            var draws = Draws(seed: UInt64(seed))
            return Self.configuration(&draws)
        }
        #expect(Set(all.map(\.clamp)) == Set(ClampKind.allCases))
        #expect(Set(all.map(\.compression)) == Set(Compression.allCases))
        #expect(Set(all.map(\.zregForm)) == Set(ZRegForm.allCases))
        #expect(Set(all.map(\.dot)) == Set(DotRecipe.allCases))
        #expect(Set(all.map(\.squinchVariant)) == Set(SquinchVariant.allCases))
        #expect(Set(all.map(\.layers)) == [1, 2, 3] && Set(all.map(\.vocabulary)).count == 7)
        #expect(all.contains { $0.ranks > 1 } && all.contains { $0.int8 } && all.contains { $0.distillationK > 1 })
        #expect(all.contains { $0.keyValueSource.contains { $0 > 0 } } && all.contains { $0.errorFeedback })
        #expect(Set(all).count == all.count)
    }

    static func configuration(_ draws: inout Draws) -> ModelConfiguration {
        var c = ModelConfiguration()
        c.vocabulary = draws.pick([2, 3, 7, 16, 17, 31, 48])
        c.width = draws.pick([1, 2, 5, 7, 13, 16, 24, 33])
        c.layers = draws.pick([1, 1, 2, 3])
        c.keyValueHeads = draws.pick([1, 1, 2, 3])
        c.heads = c.keyValueHeads * draws.pick([1, 2, 3])
        c.headDimension = draws.pick([2, 4, 6, 10, 16, 18])
        c.feedForwardWidth = draws.pick([1, 3, 8, 17, 32, 37])
        c.sequenceLength = draws.pick([1, 2, 3, 5, 11, 16, 17, 31, 33, 50])
        c.batch = draws.pick([1, 1, 2, 3, 5])
        c.dot = draws.pick([.pairedFTZ, .pairedFTZ, .chainIEEE])
        if draws.chance(2) { c.windows = (0..<c.layers).map { _ in draws.pick([0, 1, 2, 7, 16, 100]) } }
        if draws.chance(2) {
            var sources: [Int] = []
            for layer in 0..<c.layers {
                let own = sources.enumerated().filter { $0.offset == $0.element }.map(\.element)
                sources.append(own.isEmpty || draws.chance(2) ? layer : draws.pick(own))
            }
            c.keyValueSource = sources
        }
        c.rotaryBase = draws.pick([1, 2, 100, 10000, 500_000])
        c.normEpsilon = draws.pick([0x1p-20, 0x1p-10, 1e-6])
        c.zregC = draws.pick([0, -0.0, 0x1p-14, 0x1p-3, -0.01])
        c.zregForm = draws.pick(ZRegForm.allCases)
        c.outputZRegC = draws.pick([0, 0x1p-14, 0.1])
        c.clamp = draws.pick(ClampKind.allCases)
        c.clampKappa = draws.pick([0, 0.25, 1, 4])
        c.clampLimit = draws.pick([0, 0.01, 1, 16])
        c.clampGradient = draws.pick(ClampGradient.allCases)
        c.int8 = c.clamp != .none && draws.chance(2)
        c.distillationK = draws.chance(3) ? draws.pick([1, 2, min(20, c.vocabulary)]) : 0
        c.learningRate = draws.pick([0x1p-9, 0.003, 0.1])
        c.schedule = draws.pick(Schedule.allCases)
        c.warmupSteps = draws.pick([0, 1, 10, 29])
        c.totalSteps = draws.pick([1, 20, 40, 1000])
        c.finalFraction = draws.pick([0, 0.125, 0.3, 1])
        c.beta1 = draws.pick([0, 0.5, 0.9])
        c.beta2 = draws.pick([0, 0.99, 0.999])
        c.weightDecay = draws.pick([0, 0.0625, 0.1])
        c.clipNorm = draws.pick([0, 0.01, 1, 100])
        c.ranks = draws.chance(2) ? 1 + draws.below(c.batch) : 1
        c.compression = draws.pick(Compression.allCases)
        c.squinchVariant = draws.pick(SquinchVariant.allCases)
        c.errorFeedback = c.compression == .squinch && draws.chance(2)
        c.seed = UInt64(draws.word()) << 32 | UInt64(draws.word())
        return c
    }

    static func state(_ c: ModelConfiguration, _ draws: inout Draws) -> TrainingState {
        var state = TrainingState(initial: c)
        if draws.chance(2) { return state }
        let scale = draws.pick([0x1p-6, 0.5, 3] as [Float])
        for index in state.weights.indices {
            for element in state.weights[index].indices {
                state.weights[index][element] += scale * draws.normal()
                state.firstMoments[index][element] = 0.01 * draws.normal()
                state.secondMoments[index][element] = 0.01 * draws.normal().magnitude
            }
        }
        for index in state.residuals.indices {
            for element in state.residuals[index].indices { state.residuals[index][element] = 0.001 * draws.normal() }
        }
        return state
    }

    static func batch(_ c: ModelConfiguration, _ draws: inout Draws) -> TrainingBatch {
        let (n, t) = (c.batch * c.sequenceLength, c.sequenceLength)
        var start: [Int32] = []
        var limit: [Int32] = []
        let kind = draws.below(4)
        for row in 0..<n {
            let j = row % t
            switch kind {
            case 0: (start, limit) = (start + [Int32(j)], limit + [Int32(t)])
            case 1:
                let length = 1 + row % 7
                let end = min(t, (j / length + 1) * length)
                (start, limit) = (start + [Int32(j)], limit + [Int32(end)])
            case 2: (start, limit) = (start + [0], limit + [Int32(t)])
            default:
                let (a, b) = (draws.below(t + 1), draws.below(t + 1))
                (start, limit) = (start + [Int32(min(a, b))], limit + [Int32(max(a, b))])
            }
        }
        let targets: TrainingBatch.Targets =
            c.distillationK == 0
            ? .tokens((0..<n).map { _ in draws.chance(5) ? -1 : Int32(draws.below(c.vocabulary)) })
            : .sparse(
                ids: (0..<n * c.distillationK).map { _ in
                    draws.chance(6) ? UInt32.max : UInt32(draws.below(c.vocabulary))
                }, weights: (0..<n * c.distillationK).map { _ in draws.normal().magnitude })
        return TrainingBatch(
            tokens: (0..<n).map { _ in Int32(draws.below(c.vocabulary)) }, targets: targets,
            positions: (0..<n).map { _ in
                draws.chance(50) ? Int32(draws.below(1 << 29)) : Int32(draws.below(2 * t))
            }, visibilityStart: start, visibilityLimit: limit)
    }
}
