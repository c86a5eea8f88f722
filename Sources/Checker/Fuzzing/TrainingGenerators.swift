import Cases
import ExactMath
import Goldens
import JSON
import ModelSpec
import Reference

/// Whole steps of tiny models with random combinations of techniques.
let trainingGenerators: [CaseGenerator] = [
    CaseGenerator(
        "training.step",
        [.plain, .features, .ranks, .slots, .maskRandom, .maskWindow, .maskTree, .largeSteps, .tileEdge, .degenerate],
        repair: repairTraining
    ) { caseClass, random in
        let c = configuration(caseClass, &random)
        // After a large step the next gradient may overflow, which is refused.
        let steps = caseClass != .largeSteps && random.chance(4) ? 2 : 1
        var inputs: [(String, Tensor)] = []
        let shape = [steps, c.batch, c.sequenceLength]
        let rows = steps * c.batch * c.sequenceLength
        inputs.append(
            ("tokens", Tensor((0..<rows).map { _ in Int32(random.below(c.vocabulary)) }, shape: shape)))
        if c.distillationK == 0 {
            let hasNone = random.chance(8)
            inputs.append(
                (
                    "targets",
                    Tensor(
                        (0..<rows).map { _ in
                            hasNone || random.chance(5) ? Int32(-1) : Int32(random.below(c.vocabulary))
                        },
                        shape: shape)
                ))
        } else {
            let slots = rows * c.distillationK
            inputs.append(
                (
                    "target_ids",
                    Tensor(
                        (0..<slots).map { _ in random.chance(6) ? UInt32.max : UInt32(random.below(c.vocabulary)) },
                        shape: shape + [c.distillationK])
                ))
            inputs.append(
                (
                    "target_weights",
                    Tensor((0..<slots).map { _ in random.float(118...126).magnitude }, shape: shape + [c.distillationK])
                ))
        }
        inputs.append(
            (
                "position",
                Tensor(
                    (0..<rows).map { _ in
                        random.chance(40) ? Int32(random.below(1 << 29)) : Int32(random.below(2 * c.sequenceLength))
                    },
                    shape: shape)
            ))
        let mask = intervals(caseClass, sequences: steps * c.batch, length: c.sequenceLength, &random)
        inputs.append(("visibility_start", Tensor(mask.start, shape: shape)))
        inputs.append(("visibility_limit", Tensor(mask.limit, shape: shape)))

        let state = TrainingState(initial: c)
        let isInitial = random.bool()
        let scale = random.pick([0x1p-6, 0.5, 2] as [Float])
        for (index, parameter) in c.parameters.enumerated() {
            var weights = state.weights[index]
            var first = [Float](repeating: 0, count: parameter.count)
            var second = first
            if !isInitial {
                for element in weights.indices {
                    weights[element] = SoftFloat32.add(weights[element], random.float(120...126) * scale)
                }
                first = random.floats(parameter.count, 112...120)
                second = random.floats(parameter.count, 96...112).map(\.magnitude)
            }
            inputs.append(("weight.\(parameter.name)", Tensor(weights, shape: parameter.shape)))
            inputs.append(("m.\(parameter.name)", Tensor(first, shape: parameter.shape)))
            inputs.append(("v.\(parameter.name)", Tensor(second, shape: parameter.shape)))
            if c.compression == .squinch && c.errorFeedback {
                inputs.append(
                    (
                        "residual.\(parameter.name)",
                        Tensor(random.floats(c.ranks * parameter.count, 100...114), shape: [c.ranks, parameter.count])
                    ))
            }
        }
        let first = caseClass == .largeSteps ? random.pick([1, 2, 1000, 1_000_000, 1 << 29]) : 1 + random.below(30)
        return Draft(
            c.recipe(withBits: true) + ["first_step": .integer(Int64(first)), "probe": .bool(false)], inputs)
    }
]

private func configuration(_ caseClass: CaseClass, _ random: inout FuzzRandom) -> ModelConfiguration {
    var c = ModelConfiguration()
    let isEdge = caseClass == .tileEdge
    c.vocabulary = random.pick(isEdge ? [15, 16, 17, 33] : [2, 3, 7, 13])
    c.width = random.pick(isEdge ? [15, 16, 17, 24] : [1, 2, 5, 8, 13])
    c.layers = random.pick([1, 1, 2])
    c.keyValueHeads = random.pick([1, 1, 2])
    c.heads = c.keyValueHeads * random.pick([1, 2, 3])
    c.headDimension = random.pick(isEdge ? [2, 16, 18] : [2, 4, 6])
    c.feedForwardWidth = random.pick(isEdge ? [16, 17, 32, 33] : [1, 3, 8, 11])
    c.sequenceLength = random.pick(isEdge ? [15, 16, 17, 31, 33] : [1, 2, 3, 5, 9, 12])
    c.batch = random.pick(isEdge ? [1, 2] : [1, 1, 2, 3])
    c.seed = random.wide()
    (c.totalSteps, c.warmupSteps) = (40, 4)
    switch caseClass {
    case .plain:
        (c.clamp, c.zregC, c.outputZRegC) = (.none, 0, 0)
        return c
    case .degenerate:
        (c.width, c.layers, c.keyValueHeads, c.heads, c.headDimension) = (1, 1, 1, 1, 2)
        (c.feedForwardWidth, c.sequenceLength, c.batch) = (1, 1, 1)
    default: break
    }
    c.dot = random.pick([.pairedFTZ, .pairedFTZ, .chainIEEE])
    if caseClass == .maskWindow || random.chance(3) {
        c.windows = (0..<c.layers).map { _ in random.pick([0, 1, 2, 7, 16, 100, c.sequenceLength]) }
    }
    if c.layers > 1 && random.bool() { c.keyValueSource = (0..<c.layers).map { random.bool() ? $0 : 0 } }
    c.rotaryBase = random.pick([10000, 1, 2, 100, 500_000])
    c.normEpsilon = random.pick([0x1p-20, 0x1p-10, 1e-6])
    c.zregC = random.pick([0x1p-14, 0, -0.0, 0x1p-3, -0.01])
    c.zregForm = random.pick(ZRegForm.allCases)
    c.outputZRegC = random.pick([0x1p-14, 0, 0.1])
    c.clamp = random.pick(ClampKind.allCases)
    c.clampKappa = random.pick([4, 0, 0.25, 1])
    c.clampLimit = random.pick([16, 0, 0.01, 1])
    c.clampGradient = random.pick(ClampGradient.allCases)
    c.int8 = c.clamp != .none && random.bool()
    if caseClass == .slots || random.chance(6) { c.distillationK = random.pick([1, 2, c.vocabulary]) }
    let isLarge = caseClass == .largeSteps
    c.learningRate = random.pick(isLarge ? [1, 1000, 0] : [0x1p-9, 0.003, 0.1])
    c.schedule = random.pick(Schedule.allCases)
    c.warmupSteps = random.pick([0, 1, 10, 29])
    c.totalSteps = random.pick([1, 20, 40, 1000])
    c.finalFraction = random.pick([0.125, 0, 0.3, 1])
    c.beta1 = random.pick([0.9, 0, 0.5])
    c.beta2 = random.pick(isLarge ? [0, 0.999, Float(1).nextDown] : [0.99, 0, 0.999])
    c.weightDecay = random.pick([0.0625, 0, 0.1])
    c.clipNorm = random.pick([1, 0, 0.01, 100])
    if caseClass == .ranks {
        c.batch = 2 + random.below(4)
        c.ranks = 1 + random.below(c.batch)
        c.compression = random.pick(Compression.allCases)
    } else if random.chance(4) {
        c.compression = random.pick(Compression.allCases)
    }
    c.squinchVariant = random.pick(SquinchVariant.allCases)
    c.errorFeedback = c.compression == .squinch && random.bool()
    return c
}

private func intervals(
    _ caseClass: CaseClass, sequences: Int, length: Int, _ random: inout FuzzRandom
) -> (start: [Int32], limit: [Int32]) {
    var (start, limit): ([Int32], [Int32]) = ([], [])
    let kind = caseClass == .maskRandom ? 3 : random.below(3)
    for _ in 0..<sequences {
        if caseClass == .maskTree {
            let nodes = MaskDraft.tree(nodes: length, &random)
            // Every node has at least one token: a tree of as many nodes fills the sequence.
            guard let tree = try? Visibility.tree(parents: nodes.parents, lengths: nodes.lengths) else {
                preconditionFailure("a tree in depth-first order")
            }
            start += tree.start.prefix(length)
            limit += tree.limit.prefix(length).map { min($0, Int32(length)) }
            continue
        }
        let document = 1 + random.below(length)
        for token in 0..<length {
            switch kind {
            case 0: (start, limit) = (start + [Int32(token)], limit + [Int32(length)])
            case 1:
                let end = min(length, (token / document + 1) * document)
                (start, limit) = (start + [Int32(token)], limit + [Int32(end)])
            case 2: (start, limit) = (start + [0], limit + [Int32(length)])
            default:
                let (a, b) = (random.below(length + 1), random.below(length + 1))
                (start, limit) = (start + [Int32(min(a, b))], limit + [Int32(max(a, b))])
            }
        }
    }
    return (start, limit)
}

/// Cuts every tensor to what the recipe's configuration demands.
@Sendable private func repairTraining(_ draft: inout Draft) {
    let layers = draft.integer("layers") ?? 1
    for key in ["windows", "key_value_source"] {
        if case .array(let list)? = draft.recipe[key], list.count > layers {
            draft.recipe[key] = .array(Array(list.prefix(layers)))
        }
    }
    if let batch = draft.integer("batch"), let ranks = draft.integer("ranks"), ranks > batch {
        draft.recipe["ranks"] = .integer(Int64(batch))
    }
    if let k = draft.integer("distillation_k"), let v = draft.integer("vocabulary"), k > v {
        draft.recipe["distillation_k"] = .integer(Int64(v))
    }
    if draft.text("compression") != Compression.squinch.rawValue { draft.recipe["error_feedback"] = false }
    if draft.text("clamp") == ClampKind.none.rawValue { draft.recipe["int8"] = false }
    let keys = draft.recipe.filter { $0.key != "first_step" && $0.key != "probe" }
    guard let c = try? ModelConfiguration(recipe: keys), (try? c.validate()) != nil,
        let steps = draft.inputs["tokens"]?.shape.first
    else { return }
    let shape = [steps, c.batch, c.sequenceLength]
    var kept: [(String, Tensor)] = []
    func keep(_ name: String, _ shape: [Int], _ change: (Tensor) -> Tensor? = { $0 }) {
        guard let tensor = draft.inputs[name], let cut = tensor.cut(to: shape), let changed = change(cut) else {
            return
        }
        kept.append((name, changed))
    }
    func integers(_ tensor: Tensor, _ change: (Int32) -> Int32) -> Tensor? {
        (try? tensor.integers(Int32.self)).map { Tensor($0.map(change), shape: tensor.shape) }
    }
    keep("tokens", shape) { integers($0) { min($0, Int32(c.vocabulary) - 1) } }
    if c.distillationK == 0 {
        if draft.inputs["targets"] != nil {
            keep("targets", shape) { integers($0) { min($0, Int32(c.vocabulary) - 1) } }
        } else {
            kept.append(("targets", Tensor([Int32](repeating: 0, count: shape.reduce(1, *)), shape: shape)))
        }
    } else {
        keep("target_ids", shape + [c.distillationK]) { tensor in
            (try? tensor.integers(UInt32.self)).map { ids in
                Tensor(ids.map { $0 == .max ? $0 : min($0, UInt32(c.vocabulary) - 1) }, shape: tensor.shape)
            }
        }
        keep("target_weights", shape + [c.distillationK])
    }
    keep("position", shape)
    for name in ["visibility_start", "visibility_limit"] {
        keep(name, shape) { integers($0) { min($0, Int32(c.sequenceLength)) } }
    }
    for parameter in c.parameters {
        for kind in ["weight", "m", "v"] { keep("\(kind).\(parameter.name)", parameter.shape) }
        if c.compression == .squinch && c.errorFeedback {
            keep("residual.\(parameter.name)", [c.ranks, parameter.count])
        }
    }
    draft.inputs = TensorGroup(kept.map { NamedTensor($0.0, $0.1) })
}

extension Tensor {
    /// The first elements along every dimension; nil if one would have to grow, or the rank is another.
    func cut(to target: [Int]) -> Tensor? {
        guard target.count == shape.count, zip(target, shape).allSatisfy({ $0 <= $1 && $0 >= 0 }) else { return nil }
        var result = self
        for axis in shape.indices where result.shape[axis] != target[axis] {
            result = result.keeping(Array(0..<target[axis]), axis: axis)
        }
        return result
    }

    /// The elements at some indices of one axis, in that order.
    func keeping(_ indices: [Int], axis: Int) -> Tensor {
        let inner = shape[(axis + 1)...].reduce(1, *) * type.byteWidth
        let outer = shape[..<axis].reduce(1, *)
        var kept: [UInt8] = []
        kept.reserveCapacity(outer * indices.count * inner)
        for row in 0..<outer {
            for index in indices {
                let begin = (row * shape[axis] + index) * inner
                kept += bytes[begin..<begin + inner]
            }
        }
        var target = shape
        target[axis] = indices.count
        guard let tensor = try? Tensor(type: type, shape: target, bytes: kept) else {
            preconditionFailure("as many bytes as elements")
        }
        return tensor
    }

    /// The same but for one element's bits.
    func setting(_ index: Int, bits: UInt64) -> Tensor {
        var changed = bytes
        for byte in 0..<type.byteWidth {
            changed[index * type.byteWidth + byte] = UInt8(truncatingIfNeeded: bits >> UInt64(8 * byte))
        }
        guard let tensor = try? Tensor(type: type, shape: shape, bytes: changed) else {
            preconditionFailure("as many bytes as elements")
        }
        return tensor
    }
}
