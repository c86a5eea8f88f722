import Cases
import JSON
import ModelSpec
import Reference

func trainingFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [
        builder.file("steps", TrainingCaseKind.allCases.filter { !$0.isEdge }.map { $0.makeCase(builder) }),
        builder.file("edges", TrainingCaseKind.allCases.filter(\.isEdge).map { $0.makeCase(builder) }),
    ]
}

/// The features of a model that a case is there for.
private enum TrainingCaseKind: String, CaseIterable {
    case plain
    case noTechniques = "no-techniques"
    case treesAndPacking = "trees-and-packing"
    case windowAndSharing = "window-and-sharing"
    case int8DynamicClamp = "int8-dynamic-clamp"
    case staticCollapse = "static-collapse"
    case distillation
    case ranksSquinchFeedback = "ranks-squinch-feedback"
    case ranksStochastic = "ranks-stochastic15"
    case scaleThresholds = "scale-thresholds"
    case longSequence = "sequence-of-129"

    /// Small models about one point, which are the same in every tier.
    var isEdge: Bool {
        switch self {
        case .scaleThresholds, .longSequence: true
        default: false
        }
    }

    private var why: String {
        switch self {
        case .plain: "every technique at its default over three steps: warm-up, clipping, zero moments at step 1"
        case .noTechniques:
            "z-reg, clamp and clipping off, one dense layer: a plain transformer on two ranks that exchange bf16"
        case .treesAndPacking:
            "packed documents, a tree, an unused tail: positions restart, siblings never meet, tokens that see nothing"
        case .windowAndSharing:
            "windows by layer, keys and values shared across layers: gradients of several layers meet in one"
        case .int8DynamicClamp: "int8 codes under a tight limit, the inward gradient, the row-dot form"
        case .staticCollapse:
            "a static limit so large that every code is zero, the layer falls silent; one rank that compresses all the same"
        case .distillation: "soft targets with empty slots, weights that do not sum to 1"
        case .ranksSquinchFeedback: "two ranks, Squinch with error feedback over two steps: the residuals come back"
        case .ranksStochastic: "three ranks with different shares of the batch, stochastic codes"
        case .scaleThresholds:
            "gradients with their residuals one unit below thresholds of the scale byte: a logarithm in fp32 gives the next byte"
        case .longSequence:
            "a sequence of 129 tokens: attention in tiles of 64 and 128 that leave one token behind them"
        }
    }

    /// How many steps the case takes.
    private var steps: Int {
        switch self {
        case .plain: 3
        case .ranksSquinchFeedback: 2
        default: 1
        }
    }

    private func configuration(_ tier: Tier) -> ModelConfiguration {
        var c = ModelConfiguration()
        (c.vocabulary, c.width, c.layers, c.heads, c.keyValueHeads, c.headDimension) = (29, 12, 2, 2, 1, 6)
        (c.feedForwardWidth, c.sequenceLength, c.batch) = (20, 11, 2)
        (c.warmupSteps, c.totalSteps) = (2, 20)
        (c.learningRate, c.clipNorm) = (0x1p-7, 0.5)
        switch self {
        case .plain: break
        case .noTechniques:
            (c.layers, c.heads, c.keyValueHeads) = (1, 2, 2)
            (c.zregC, c.outputZRegC, c.clamp, c.clipNorm, c.weightDecay) = (0, 0, .none, 0, 0)
            (c.dot, c.schedule, c.warmupSteps) = (.chainIEEE, .constant, 0)
            (c.ranks, c.compression) = (2, .bf16)
        case .treesAndPacking:
            (c.sequenceLength, c.heads, c.keyValueHeads, c.layers) = (19, 4, 2, 1)
            (c.schedule, c.zregC) = (.linear, 0x1p-6)
        case .windowAndSharing:
            c.layers = 3
            (c.windows, c.keyValueSource, c.zregForm) = ([4, 3, 0], [0, 0, 0], .unfolded)
        case .int8DynamicClamp:
            c.layers = 1
            (c.int8, c.clampKappa, c.clampGradient, c.zregForm) = (true, 0.75, .inward, .rowDot)
        case .staticCollapse:
            (c.layers, c.clamp, c.clampLimit, c.int8) = (1, .static, 65536, true)
            (c.compression, c.squinchVariant) = (.squinch, .round15)
        case .distillation: (c.layers, c.distillationK, c.clampKappa) = (1, 3, 1)
        case .ranksSquinchFeedback:
            (c.layers, c.ranks, c.compression, c.errorFeedback) = (1, 2, .squinch, true)
        case .ranksStochastic:
            (c.layers, c.batch, c.ranks, c.compression, c.squinchVariant) = (1, 4, 3, .squinch, .stochastic15)
        case .scaleThresholds:
            (c.layers, c.ranks, c.compression, c.errorFeedback) = (1, 2, .squinch, true)
            (c.width, c.vocabulary) = (8, 11)
        case .longSequence:
            (c.layers, c.batch, c.sequenceLength, c.heads, c.headDimension) = (1, 1, 129, 1, 2)
            (c.width, c.feedForwardWidth, c.vocabulary) = (4, 3, 5)
        }
        if tier != .quick && !isEdge {
            c.width = tier.pick(12, 32, 64)
            c.feedForwardWidth = tier.pick(20, 96, 256)
            c.sequenceLength = tier.pick(11, 37, 64)
            c.vocabulary = tier.pick(29, 101, 256)
        }
        return c
    }

    func makeCase(_ builder: CaseBuilder) -> GoldenCase {
        let c = configuration(builder.tier)
        var random = builder.random(rawValue)
        let steps = tierSteps(builder.tier)
        let sequences = steps * c.batch
        let shape = [steps, c.batch, c.sequenceLength]
        let count = sequences * c.sequenceLength

        var layouts: [SequenceLayout] = []
        for sequence in 0..<sequences {
            layouts.append(
                self == .treesAndPacking
                    ? SequenceLayout(packed: sequence, length: c.sequenceLength)
                    : SequenceLayout(documents: [c.sequenceLength], length: c.sequenceLength))
        }
        let tokens = (0..<count).map { _ in Int32(random.index(below: c.vocabulary)) }
        var inputs: TensorGroup = [NamedTensor("tokens", Tensor(tokens, shape: shape))]
        if c.distillationK == 0 {
            var targets: [Int32] = []
            for (sequence, layout) in layouts.enumerated() {
                targets += layout.next.map { $0 < 0 ? -1 : tokens[sequence * c.sequenceLength + $0] }
            }
            inputs.append("targets", Tensor(targets, shape: shape))
        } else {
            let k = c.distillationK
            var ids: [UInt32] = []
            var weights: [Float] = []
            for row in 0..<count {
                // Row 3 has no target at all, every fifth row an empty slot.
                for slot in 0..<k {
                    let isEmpty = row == 3 || (row % 5 == 0 && slot == k - 1)
                    ids.append(isEmpty ? .max : UInt32((random.index(below: c.vocabulary / k)) * k + slot))
                    weights.append(isEmpty ? 0 : random.float(exponents: 122...126).magnitude)
                }
            }
            inputs.append("target_ids", Tensor(ids, shape: shape + [k]))
            inputs.append("target_weights", Tensor(weights, shape: shape + [k]))
        }
        inputs.append("position", Tensor(layouts.flatMap(\.positions), shape: shape))
        inputs.append("visibility_start", Tensor(layouts.flatMap(\.start), shape: shape))
        inputs.append("visibility_limit", Tensor(layouts.flatMap(\.limit), shape: shape))

        let state = TrainingState(initial: c)
        for (index, parameter) in c.parameters.enumerated() {
            var weights = state.weights[index]
            // Gains that are not all 1: a gain that is left out would not show.
            if !parameter.decays { weights = weights.map { _ in Float(random.integer(in: 192...320)) * 0x1p-8 } }
            var moments = (state.firstMoments[index], state.secondMoments[index])
            if self != .plain {
                moments.0 = random.floats(parameter.count, exponents: 112...120)
                moments.1 = random.floats(parameter.count, exponents: 96...110).map(\.magnitude)
            }
            inputs.append("weight.\(parameter.name)", Tensor(weights, shape: parameter.shape))
            inputs.append("m.\(parameter.name)", Tensor(moments.0, shape: parameter.shape))
            inputs.append("v.\(parameter.name)", Tensor(moments.1, shape: parameter.shape))
            if c.usesErrorFeedback {
                inputs.append(
                    "residual.\(parameter.name)",
                    Tensor(
                        random.floats(c.ranks * parameter.count, exponents: 105...115),
                        shape: [c.ranks, parameter.count]))
            }
        }
        var recipe = c.recipe(withBits: true)
        recipe["first_step"] = .integer(self == .plain ? 1 : 7)
        recipe["probe"] = .bool([.plain, .windowAndSharing, .distillation, .ranksSquinchFeedback].contains(self))
        let goldenCase = builder.makeCase(rawValue, "training.step", why: why, recipe: recipe, inputs: inputs)
        return self == .scaleThresholds ? takenBelowThresholds(goldenCase, c) : goldenCase
    }

    /// The case with residuals that take the largest value of each block of eight, gradient and residual together, one unit below a threshold.
    private func takenBelowThresholds(_ goldenCase: GoldenCase, _ c: ModelConfiguration) -> GoldenCase {
        // Residuals enter the step behind the gradients: these are the same whatever they are.
        var probed = goldenCase
        probed.recipe["probe"] = true
        guard let gradients = try? OperationCatalog.evaluate(probed).intermediates else {
            preconditionFailure("the case is valid")
        }
        var changed = goldenCase
        for parameter in c.parameters {
            var residual: [Float] = []
            for rank in 0..<c.ranks {
                guard let g = try? gradients["rank.\(rank).gradient.\(parameter.name)"]?.floats() else {
                    preconditionFailure("the probe holds every gradient")
                }
                for start in stride(from: 0, to: g.count, by: 8) {
                    let block = g[start..<min(start + 8, g.count)]
                    var errors = [Float](repeating: 0, count: block.count)
                    let largest = block.reduce(0) { max($0, $1.magnitude) }
                    if let peak = SquinchTables.thresholds.first(where: { $0 > 2 * largest })?.nextDown {
                        let e = peak - g[start]
                        for candidate in [e, e.nextUp, e.nextDown] where g[start] + candidate == peak {
                            errors[0] = candidate
                        }
                    }
                    residual += errors
                }
            }
            changed.inputs = TensorGroup(
                changed.inputs.tensors.map {
                    $0.name == "residual.\(parameter.name)"
                        ? NamedTensor($0.name, Tensor(residual, shape: [c.ranks, parameter.count])) : $0
                })
        }
        return changed
    }

    private func tierSteps(_ tier: Tier) -> Int { tier == .quick || isEdge ? steps : 2 * steps }
}

/// What stands in one sequence: documents or trees, and an unused tail.
private struct SequenceLayout {
    var positions: [Int32] = []
    var start: [Int32] = []
    var limit: [Int32] = []
    /// The index of the token that each one is to predict; -1 for none.
    var next: [Int] = []

    /// Documents end to end, causal inside each.
    init(documents lengths: [Int], length: Int) {
        for documentLength in lengths { append(parents: [-1], lengths: [Int32(documentLength)]) }
        pad(to: length)
    }

    /// A sequence of trees and documents that leaves a tail; which of two, by the sequence's number.
    init(packed sequence: Int, length: Int) {
        if sequence % 2 == 0 {
            append(parents: [-1], lengths: [4])
            append(parents: [-1, 0, 1, 0], lengths: [2, 3, 1, 4])
            append(parents: [-1], lengths: [1])
        } else {
            append(parents: [-1, 0, 0, 0, 3], lengths: [1, 2, 2, 3, 2])
            append(parents: [-1], lengths: [Int32(length - positions.count)])
        }
        pad(to: length)
    }

    private mutating func append(parents: [Int32], lengths: [Int32]) {
        let first = Int32(positions.count)
        // The cases are fixed: a tree that is none is a mistake in this file.
        guard let tree = try? Visibility.tree(parents: parents, lengths: lengths) else { preconditionFailure() }
        positions += tree.positions
        start += tree.start.map { first + $0 }
        limit += tree.limit.map { first + $0 }
        var node = 0
        var left = lengths[0]
        for token in 0..<tree.positions.count {
            left -= 1
            if left > 0 {
                next.append(Int(first) + token + 1)
            } else {
                // The last token of a node predicts its first child's first token, which follows it directly.
                let hasChild = node + 1 < parents.count && parents[node + 1] == Int32(node)
                next.append(hasChild ? Int(first) + token + 1 : -1)
                node += 1
                if node < lengths.count { left = lengths[node] }
            }
        }
    }

    /// The unused tail is visible to nobody and sees nothing.
    private mutating func pad(to length: Int) {
        while positions.count < length {
            positions.append(0)
            start.append(0)
            limit.append(0)
            next.append(-1)
        }
    }
}
