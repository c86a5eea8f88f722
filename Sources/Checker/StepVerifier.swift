import BFloat16
import ExactMath
import Goldens
import ModelSpec
import Platform
import Reference

/// Sampled lockstep: the reference recomputes a few elements of every tensor of a training step, from the tensors that the step itself produced
/// before (T2, T4, T5).
///
/// Show it every tensor in execution order (T6). Each is compared in bits at `samples` places drawn anew for every tensor of every step. Where one
/// element takes the whole of a large tensor (a norm's gain, the gradient of a key, the norm of all gradients, a clamp's limit), the operation
/// is drawn less often, so that the expected work stays bounded; ``skipped`` counts those left out. It holds a copy of one step's tensors.
public struct StepVerifier {
    /// A place where the step and the reference differ.
    public struct Difference: Error, Hashable, Sendable, CustomStringConvertible {
        public let step: Int
        /// The tensor's name (T2).
        public let operation: String
        public let index: [Int]
        /// Bits in hexadecimal, then the number.
        public let expected: String
        public let got: String

        public var description: String {
            let place = index.map(String.init).joined(separator: ", ")
            return
                "step \(step): \(operation)[\(place)] differs: the reference makes \(expected) of the step's own inputs, the step has \(got)"
        }
    }

    /// A tensor that should not be there, is not what the plan says, or lacks what came before it.
    public struct Unexpected: Error, Hashable, Sendable, CustomStringConvertible {
        public let step: Int
        public let operation: String
        public let message: String
        public var description: String { "step \(step): \(operation): \(message)" }
    }

    /// The step's tensors and what each is made of.
    public let plan: StepPlan
    /// Elements of each tensor.
    public let samples: Int
    /// Elements that were compared so far, all of them equal.
    public private(set) var compared = 0
    /// Tensors of which something was compared, over all steps.
    public private(set) var tensors = 0
    /// Costly tensors that were not drawn.
    public private(set) var skipped = 0

    private let parameters: [ModelConfiguration.Parameter]
    private let indices: [String: Int]
    /// Tensors of this step that were shown, and where the plan goes on.
    private var shown = 0
    private var place = 0
    /// Masters, moments and residuals before the step, then what they became.
    private var state: TrainingState
    private var batch: TrainingBatch
    private var shares: [TrainingBatch] = []
    private var visibility: [[Visibility]] = []
    private var stored: [String: StepTensor.Values] = [:]
    private var step = 0
    private var random: SplitMix64

    /// Multiply-adds that a tensor's samples may take at every step.
    private static let affordable = 1_000_000

    /// - Parameters:
    ///   - samples: at least 1.
    ///   - seed: of the places.
    public init(_ configuration: ModelConfiguration, state: TrainingState, samples: Int, seed: UInt64) {
        precondition(samples >= 1)
        plan = StepPlan(configuration)
        self.samples = samples
        self.state = state
        parameters = configuration.parameters
        indices = Dictionary(uniqueKeysWithValues: parameters.enumerated().map { ($1.name, $0) })
        random = SplitMix64(state: seed)
        batch = TrainingBatch(tokens: [], targets: .tokens([]), positions: [], visibilityStart: [], visibilityLimit: [])
    }

    /// Begins step `step` over `batch`.
    public mutating func begin(_ step: Int, _ batch: TrainingBatch) throws {
        let c = plan.configuration
        self.step = step
        self.batch = batch
        (stored, next, shown, place) = ([:], [], 0, 0)
        shares = (0..<c.ranks).map { rank in
            batch.sequences(
                rank * c.batch / c.ranks..<(rank + 1) * c.batch / c.ranks, length: c.sequenceLength,
                k: c.distillationK)
        }
        visibility = try shares.map { share in
            try (0..<c.layers).map { layer in
                try Visibility(
                    orientation: .byKey, batch: share.tokens.count / c.sequenceLength, queries: c.sequenceLength,
                    keys: c.sequenceLength, start: share.visibilityStart, limit: share.visibilityLimit,
                    window: c.window(layer: layer))
            }
        }
    }

    /// Takes the next tensor and compares some of it.
    ///
    /// - Throws: ``Difference``, ``Unexpected``.
    public mutating func check(_ name: String, _ tensor: StepTensor) throws {
        let (entry, rule) = try take(name, tensor)
        let count = tensor.shape.reduce(1, *)
        let cost = max(1, rule.cost)
        // The expected cost of a tensor is at most what is affordable.
        let draws = min(samples, max(1, Self.affordable / cost))
        if count > 0, cost > Self.affordable, random.below(cost) >= Self.affordable {
            skipped += 1
        } else if count > 0 {
            tensors += 1
            for _ in 0..<draws {
                if let difference = try compare(entry, rule, tensor, random.below(count)) { throw difference }
            }
        }
        keep(entry, tensor)
    }

    /// Takes the next tensor and compares the elements at some places; those that differ.
    ///
    /// - Throws: ``Unexpected``.
    public mutating func differences(_ name: String, _ tensor: StepTensor, at elements: [Int]) throws -> [Difference] {
        let (entry, rule) = try take(name, tensor)
        let found = try elements.compactMap { try compare(entry, rule, tensor, $0) }
        keep(entry, tensor)
        return found
    }

    /// Takes the next tensor as it is.
    ///
    /// - Throws: ``Unexpected`` if it is not the plan's, or what it is made of is not there.
    public mutating func accept(_ name: String, _ tensor: StepTensor) throws { keep(try take(name, tensor).0, tensor) }

    /// Ends a step of which every tensor was shown.
    ///
    /// - Throws: ``Unexpected`` if one is missing.
    public func end() throws {
        guard shown < plan.entries.count else { return }
        let missing = plan.entries.first { stored[$0.name] == nil }
        throw Unexpected(
            step: step, operation: missing?.name ?? "",
            message: "is missing: \(shown) of the step's \(counted(plan.entries.count, "tensor")) were shown")
    }

    private mutating func compare(
        _ entry: StepPlan.Entry, _ rule: Rule, _ tensor: StepTensor, _ element: Int
    ) throws -> Difference? {
        let expected = try rule.element(element)
        let got = bits(tensor.values, element)
        compared += 1
        // All NaNs are one (F2).
        guard expected != got, !(expected.isNaN && got.isNaN) else { return nil }
        return Difference(
            step: step, operation: entry.name, index: Checker.place(of: element, in: tensor.shape),
            expected: Self.text(expected), got: Self.text(got))
    }

    /// The plan's entry of a tensor and the rule that makes it, once the tensor is stored.
    private mutating func take(_ name: String, _ tensor: StepTensor) throws -> (StepPlan.Entry, Rule) {
        func unexpected(_ message: String) -> Unexpected { Unexpected(step: step, operation: name, message: message) }
        guard let found = plan.place(of: name) else {
            throw unexpected("no operation of such a step has this name")
        }
        let entry = plan.entries[found]
        guard found >= place else {
            throw unexpected("comes after \(plan.entries[place - 1].name), which a step makes later, or comes twice")
        }
        guard tensor.type == entry.type, tensor.shape == entry.shape else {
            throw unexpected(
                "is \(tensor.type.rawValue) \(tensor.shape), expected \(entry.type.rawValue) \(entry.shape)")
        }
        (stored[name], shown, place) = (tensor.values, shown + 1, found + 1)
        return (entry, try Operation(verifier: self, entry: entry).rule())
    }

    /// The state after the step is the next one's.
    private mutating func keep(_ entry: StepPlan.Entry, _ tensor: StepTensor) {
        let path: WritableKeyPath<TrainingState, [[Float]]>? =
            switch entry.operation {
            case .firstMoment: \.firstMoments
            case .secondMoment: \.secondMoments
            case .weight: \.weights
            case .residual: \.residuals
            default: nil
            }
        if let path, let parameter = entry.parameter, let index = indices[parameter],
            case .fp32(let values) = tensor.values
        {
            next.append((path, index, values))
        }
        guard place == plan.entries.count else { return }
        for (path, index, values) in next { state[keyPath: path][index] = values }
        next = []
    }

    private var next: [(WritableKeyPath<TrainingState, [[Float]]>, Int, [Float])] = []

    /// What was compared, as a line.
    public var summary: String {
        "\(counted(compared, "element")) of \(counted(tensors, "tensor")) recomputed by the reference, all bit-exact"
            + (skipped > 0 ? "; \(counted(skipped, "costly tensor")) not drawn" : "")
    }

    // MARK: - Bits

    /// An element's bits.
    enum Bits: Hashable {
        case bf16(UInt16)
        case fp32(UInt32)
        case int8(Int8)

        var isNaN: Bool {
            switch self {
            case .bf16(let bits): bits & 0x7FFF > 0x7F80
            case .fp32(let bits): bits & 0x7FFF_FFFF > 0x7F80_0000
            case .int8: false
            }
        }
    }

    private func bits(_ values: StepTensor.Values, _ index: Int) -> Bits {
        switch values {
        case .bf16(let x): .bf16(x[index].bitPattern)
        case .fp32(let x): .fp32(x[index].bitPattern)
        case .int8(let x): .int8(x[index])
        }
    }

    private static func text(_ bits: Bits) -> String {
        switch bits {
        case .bf16(let x): "0x\(hexadecimal(UInt32(x), 4)) (\(Float(bitPattern: UInt32(x) << 16)))"
        case .fp32(let x): "0x\(hexadecimal(x, 8)) (\(Float(bitPattern: x)))"
        case .int8(let x): "\(x)"
        }
    }

    private static func hexadecimal(_ x: UInt32, _ digits: Int) -> String {
        let text = String(x, radix: 16)
        return String(repeating: "0", count: digits - text.count) + text
    }

    // MARK: - Rules

    /// How an element comes of what the step produced before.
    struct Rule {
        /// Multiply-adds, roughly.
        let cost: Int
        let element: (Int) throws -> Bits
    }

    /// One tensor, and where its rule looks for its inputs.
    private struct Operation {
        let verifier: StepVerifier
        let entry: StepPlan.Entry

        var name: String { entry.name }
        var c: ModelConfiguration { verifier.plan.configuration }
        var share: TrainingBatch { verifier.shares[entry.rank ?? 0] }
        var sequences: Int { share.tokens.count / c.sequenceLength }
        var rows: Int { share.tokens.count }
        /// Columns of the tensor.
        var width: Int { entry.shape.last ?? 1 }

        // Inputs

        /// The names of the tensors that it is made of.
        var sources: [String] { entry.inputs.compactMap { if case .tensor(let name) = $0 { name } else { nil } } }
        /// The names of the parameters that it reads.
        var weights: [String] { entry.inputs.compactMap { if case .weight(let name) = $0 { name } else { nil } } }

        func missing(_ source: String) -> Unexpected {
            Unexpected(step: verifier.step, operation: name, message: "comes before \(source), which it is made of")
        }

        func bf16s(_ index: Int) throws -> [BFloat16] {
            guard case .bf16(let values)? = verifier.stored[sources[index]] else { throw missing(sources[index]) }
            return values
        }

        func floats(_ index: Int) throws -> [Float] {
            guard case .fp32(let values)? = verifier.stored[sources[index]] else { throw missing(sources[index]) }
            return values
        }

        /// bf16 of `count` masters of weight `index` from `first` on, `stride` apart (T2).
        func weight(_ index: Int, _ first: Int, _ count: Int, stride: Int = 1) -> [BFloat16] {
            let master = verifier.state.weights[verifier.indices[weights[index]]!]
            return (0..<count).map { bf16(master[first + $0 * stride]) }
        }

        func row(_ x: [BFloat16], _ row: Int, _ width: Int) -> [BFloat16] { Array(x[row * width..<(row + 1) * width]) }

        func dot(_ parts: [(a: [BFloat16], b: [BFloat16])]) -> Float {
            var sum = DotAccumulator(recipe: c.dot, arithmetic: .soft)
            for part in parts { sum.addRow(count: part.a.count) { (part.a[$0], part.b[$0]) } }
            return sum.finished()
        }

        // Rules

        func rule() throws -> Rule {
            switch entry.operation {
            case .embedding:
                return Rule(cost: 1) { e in
                    .bf16(weight(0, Int(share.tokens[e / width]) * width + e % width, 1)[0].bitPattern)
                }
            case .rmsNorm: return try norm()
            case .linear, .linearResidual: return try linear()
            case .linearTransposed:
                let x = try bf16s(0)
                return Rule(cost: c.width) { e in
                    .fp32(
                        dot([(row(x, e / width, c.width), weight(0, e % width * c.width, c.width))]).bitPattern)
                }
            case .rotary: return try rotary(backward: false)
            case .rotaryBackward: return try rotary(backward: true)
            case .attentionMax, .attentionSum, .attentionZ, .attention: return try attentionRule()
            case .attentionQueryGradient: return try queryGradient()
            case .attentionKeyGradient, .attentionValueGradient: return try keyGradient()
            case .clampLimit:
                return Rule(cost: 10 * c.width * c.feedForwardWidth) { _ in
                    if c.clamp == .static { return .fp32(c.clampLimit == 0 ? 0 : c.clampLimit.bitPattern) }
                    return .fp32(
                        try Clamp.dynamicLimit(
                            weights: weight(0, 0, c.width * c.feedForwardWidth), fanIn: c.width,
                            columns: c.feedForwardWidth, kappa: c.clampKappa, activation: .relu2
                        ).bitPattern)
                }
            case .clampCodes, .activation:
                let up = try bf16s(0)
                let limit = c.clamp == .none ? 0 : try floats(1)[0]
                return Rule(cost: 10) { e in
                    let squared = ReLUSquared.forward([up[e]])
                    if c.clamp == .none { return .bf16(bf16(squared[0]).bitPattern) }
                    let clamped = try Clamp.forward(squared, limit: limit, activation: .relu2, int8: c.int8)
                    return entry.operation == .clampCodes
                        ? .int8(clamped.codes[0]) : .bf16(bf16(clamped.dequantised[0]).bitPattern)
                }
            case .activationGradient:
                let (dy, up) = (try bf16s(0), try bf16s(1))
                let limit = c.clamp == .none ? 0 : try floats(2)[0]
                return Rule(cost: c.width) { e in
                    var d = dot([(row(dy, e / width, c.width), weight(0, e % width * c.width, c.width))])
                    if c.clamp != .none {
                        d =
                            Clamp.backward(
                                y: ReLUSquared.forward([up[e]]), dy: [d], limit: limit, activation: .relu2,
                                gradient: c.clampGradient)[0]
                    }
                    return .bf16(bf16(ReLUSquared.backward(u: [up[e]], dy: [d])[0]).bitPattern)
                }
            case .lossMax, .lossSum, .lossZ: return try lossRule()
            case .loss: return try meanLossRule()
            case .logitsGradient: return try logitsGradientRule()
            case .inputGradient: return try inputGradient()
            case .inputGradientTransposed:
                let dy = try bf16s(0)
                return Rule(cost: c.vocabulary) { e in
                    let w = weight(0, e % width, c.vocabulary, stride: width)
                    return .bf16(bf16(dot([(row(dy, e / width, c.vocabulary), w)])).bitPattern)
                }
            case .weightGradient: return try weightGradient()
            case .normGradient: return try normGradient()
            case .gainGradient:
                let (dy, x) = (try bf16s(0), try bf16s(1))
                // The gain has no part in its own gradient.
                let ones = [BFloat16](repeating: 1, count: c.width)
                return Rule(cost: 8 * rows * c.width) { e in
                    .fp32(
                        RMSNorm.backward(
                            outputGradient: dy, x: x, gain: ones, rows: rows, width: c.width, epsilon: c.normEpsilon
                        ).gain[e].bitPattern)
                }
            case .total:
                let users = try sources.indices.map { try bf16s($0) }
                return Rule(cost: users.count) { e in
                    var total = widened(users[0][e])
                    for user in users.dropFirst() { total = SoftFloat32.add(total, widened(user[e])) }  // T2
                    return .bf16(bf16(total).bitPattern)
                }
            case .embeddingGradient:
                let (output, dy) = (try floats(0), try bf16s(1))
                return Rule(cost: rows) { e in
                    let (v, k) = (e / width, e % width)
                    var sum: Float = 0
                    for (t, token) in share.tokens.enumerated() where Int(token) == v {
                        sum = SoftFloat32.add(sum, widened(dy[t * width + k]))  // R3
                    }
                    return .fp32(SoftFloat32.add(output[e], sum).bitPattern)  // T2
                }
            case .meanOfRanks:
                let losses = try sources.indices.map { try floats($0)[0] }
                return Rule(cost: c.ranks) { _ in .fp32(AllReduce.fp32(losses, ranks: c.ranks)[0].bitPattern) }
            case .reduced, .residual: return try combinationRule()
            case .learningRate:
                return Rule(cost: 1) { _ in
                    .fp32(LearningRate.at(step: verifier.step, configuration: c).bitPattern)
                }
            case .gradientNorm:
                let all = try sources.indices.map { try floats($0) }
                return Rule(cost: 10 * all.reduce(0) { $0 + $1.count }) { _ in
                    .fp32(AdamW.gradientNorm(all).bitPattern)
                }
            case .firstMoment, .secondMoment, .weight: return try updateRule()
            }
        }

        func linear() throws -> Rule {
            let x = try bf16s(0)
            let residual = entry.operation == .linearResidual ? try bf16s(1) : nil
            let inputs = x.count / max(1, rows)
            return Rule(cost: inputs) { e in
                let sum = dot([(row(x, e / width, inputs), weight(0, e % width, inputs, stride: width))])
                guard let residual else { return .bf16(bf16(sum).bitPattern) }
                return .bf16(Residual.add([residual[e]], [sum])[0].bitPattern)
            }
        }

        func inputGradient() throws -> Rule {
            let gradients = try sources.indices.map { try bf16s($0) }
            let widths = gradients.map { $0.count / max(1, rows) }
            return Rule(cost: widths.reduce(0, +)) { e in
                let sum = dot(
                    gradients.indices.map { p in
                        (row(gradients[p], e / width, widths[p]), weight(p, e % width * widths[p], widths[p]))
                    })
                return .bf16(bf16(sum).bitPattern)
            }
        }

        /// dW [inputs, outputs] of x [N, inputs] and dy [N, outputs].
        func weightGradient() throws -> Rule {
            let (x, dy) = (try bf16s(0), try bf16s(1))
            let inputs = entry.shape[0]
            return Rule(cost: rows) { e in
                let (a, b) = (e / width, e % width)
                var sum = DotAccumulator(recipe: c.dot, arithmetic: .soft)
                for sequence in 0..<sequences {
                    let first = sequence * c.sequenceLength
                    sum.addRow(count: c.sequenceLength) { t in
                        (x[(first + t) * inputs + a], dy[(first + t) * width + b])
                    }
                }
                return .fp32(sum.finished().bitPattern)
            }
        }

        func norm() throws -> Rule {
            let x = try bf16s(0)
            return Rule(cost: 3 * width) { e in
                let output = RMSNorm.forward(
                    row(x, e / width, width), gain: weight(0, 0, width), rows: 1, width: width,
                    epsilon: c.normEpsilon
                ).output
                return .bf16(output[e % width].bitPattern)
            }
        }

        func normGradient() throws -> Rule {
            let (dy, x) = (try bf16s(0), try bf16s(1))
            let stream = sources.count > 2 ? try bf16s(2) : nil
            return Rule(cost: 8 * width) { e in
                let n = e / width
                let dx = RMSNorm.backward(
                    outputGradient: row(dy, n, width), x: row(x, n, width), gain: weight(0, 0, width), rows: 1,
                    width: width, epsilon: c.normEpsilon
                ).input[e % width]
                guard let stream else { return .bf16(bf16(dx).bitPattern) }
                return .bf16(Residual.add([stream[e]], [dx])[0].bitPattern)
            }
        }

        func rotary(backward: Bool) throws -> Rule {
            let x = try bf16s(0)
            let d = c.headDimension
            let heads = width / d
            // A head at a time.
            return Rule(cost: 100 * d) { e in
                let head = row(x, e / d, d)
                let position = [share.positions[e / d / heads]]
                let result =
                    backward
                    ? Rotary.backward(head, positions: position, heads: 1, headDimension: d, base: c.rotaryBase)
                    : Rotary.forward(head, positions: position, heads: 1, headDimension: d, base: c.rotaryBase)
                return .bf16(result[e % d].bitPattern)
            }
        }

        // Attention

        var scale: Float { CorrectlyRounded.rsqrt(SoftFloat32.convert(UInt64(c.headDimension))) }
        var mask: Visibility { verifier.visibility[entry.rank ?? 0][entry.layer ?? 0] }

        /// Head `head` of sequence `b` of [N, heads D], as [T, D].
        func head(_ x: [BFloat16], _ b: Int, _ head: Int, _ heads: Int) -> [BFloat16] {
            let d = c.headDimension
            return (0..<c.sequenceLength).flatMap { i -> ArraySlice<BFloat16> in
                let at = ((b * c.sequenceLength + i) * heads + head) * d
                return x[at..<at + d]
            }
        }

        /// One row of queries [D] and a mask of what it sees.
        func oneRow(_ b: Int, _ i: Int) throws -> (shape: Attention.Shape, visibility: Visibility) {
            let t = c.sequenceLength
            let limits = (0..<t).map { mask.isVisible(batch: b, query: i, key: $0) ? Int32(1) : 0 }
            return (
                Attention.Shape(
                    batch: 1, heads: 1, keyValueHeads: 1, queries: 1, keys: t, headDimension: c.headDimension),
                try Visibility(
                    orientation: .byKey, batch: 1, queries: 1, keys: t, start: [Int32](repeating: 0, count: t),
                    limit: limits)
            )
        }

        func attentionRule() throws -> Rule {
            let (t, d) = (c.sequenceLength, c.headDimension)
            let (query, key, value) = (try bf16s(0), try bf16s(1), try bf16s(2))
            return Rule(cost: t * (2 * d + 50)) { e in
                // max, sum and Z are [B, H, T], the context [N, H D].
                let (b, h, i) =
                    entry.operation == .attention
                    ? (e / d / c.heads / t, e / d % c.heads, e / d / c.heads % t)
                    : (e / t / c.heads, e / t % c.heads, e % t)
                let group = h / (c.heads / c.keyValueHeads)
                let (shape, visibility) = try oneRow(b, i)
                let result = try Attention.forward(
                    query: row(query, (b * t + i) * c.heads + h, d), key: head(key, b, group, c.keyValueHeads),
                    value: head(value, b, group, c.keyValueHeads), shape: shape, visibility: visibility, scale: scale,
                    recipe: c.dot, arithmetic: .hardware)
                return switch entry.operation {
                case .attentionMax: .fp32(result.maximum[0].bitPattern)
                case .attentionSum: .fp32(result.sum[0].bitPattern)
                case .attentionZ: .fp32(result.z[0].bitPattern)
                default: .bf16(result.output[e % d].bitPattern)
                }
            }
        }

        /// The inputs of attention's backward pass.
        func attentionInputs() throws -> (
            query: [BFloat16], key: [BFloat16], value: [BFloat16], dO: [BFloat16], o: [BFloat16], maximum: [Float],
            sum: [Float], z: [Float]
        ) {
            (
                try bf16s(0), try bf16s(1), try bf16s(2), try bf16s(3), try bf16s(4), try floats(5), try floats(6),
                try floats(7)
            )
        }

        func queryGradient() throws -> Rule {
            let (t, d) = (c.sequenceLength, c.headDimension)
            let (query, key, value, dO, o, maximum, sum, z) = try attentionInputs()
            return Rule(cost: t * (3 * d + 100)) { e in
                let (b, h, i) = (e / d / c.heads / t, e / d % c.heads, e / d / c.heads % t)
                let group = h / (c.heads / c.keyValueHeads)
                let (shape, visibility) = try oneRow(b, i)
                let at = (b * t + i) * c.heads + h
                let r = (b * c.heads + h) * t + i
                let result = try Attention.backward(
                    query: row(query, at, d), key: head(key, b, group, c.keyValueHeads),
                    value: head(value, b, group, c.keyValueHeads), outputGradient: row(dO, at, d),
                    forward: Attention.Forward(
                        output: row(o, at, d), maximum: [maximum[r]], sum: [sum[r]], z: [z[r]], largestLogit: 0),
                    shape: shape, visibility: visibility, scale: scale, recipe: c.dot, zregC: c.zregC,
                    form: c.zregForm, arithmetic: .hardware)
                return .bf16(result.query[e % d].bitPattern)
            }
        }

        /// dk or dv: all heads of a group and all queries.
        func keyGradient() throws -> Rule {
            let (t, d) = (c.sequenceLength, c.headDimension)
            let group = c.heads / c.keyValueHeads
            let (query, key, value, dO, o, maximum, sum, z) = try attentionInputs()
            return Rule(cost: group * t * t * (5 * d + 100)) { e in
                let (b, g, j) = (e / d / c.keyValueHeads / t, e / d % c.keyValueHeads, e / d / c.keyValueHeads % t)
                let heads = g * group..<(g + 1) * group
                func ofHeads(_ x: [BFloat16]) -> [BFloat16] { heads.flatMap { head(x, b, $0, c.heads) } }
                let stored = (b * c.heads + heads.lowerBound) * t..<(b * c.heads + heads.upperBound) * t
                let result = try Attention.backward(
                    query: ofHeads(query), key: head(key, b, g, c.keyValueHeads),
                    value: head(value, b, g, c.keyValueHeads), outputGradient: ofHeads(dO),
                    forward: Attention.Forward(
                        output: ofHeads(o), maximum: Array(maximum[stored]), sum: Array(sum[stored]),
                        z: Array(z[stored]), largestLogit: 0),
                    shape: Attention.Shape(
                        batch: 1, heads: group, keyValueHeads: 1, queries: t, keys: t, headDimension: d),
                    visibility: try Visibility(
                        orientation: .byKey, batch: 1, queries: t, keys: t,
                        start: Array(mask.start[b * t..<(b + 1) * t]), limit: Array(mask.limit[b * t..<(b + 1) * t]),
                        window: mask.window),
                    scale: scale, recipe: c.dot, zregC: c.zregC, form: c.zregForm, arithmetic: .hardware)
                return .bf16(
                    (entry.operation == .attentionKeyGradient ? result.key : result.value)[j * d + e % d].bitPattern)
            }
        }

        // Loss

        /// The row's statistics and loss, from its logits.
        func lossRow(_ logits: [Float], _ r: Int) throws -> (maximum: Float, sum: Float, z: Float) {
            let own = Array(logits[r * c.vocabulary..<(r + 1) * c.vocabulary])
            let row = try CrossEntropy.forward(logits: own, targets: [-1], rows: 1, vocabulary: c.vocabulary)
            return (row.maximum[0], row.sum[0], row.z[0])
        }

        func lossRule() throws -> Rule {
            let logits = try floats(0)
            return Rule(cost: 20 * c.vocabulary) { e in
                let (maximum, sum, z) = try lossRow(logits, e)
                return .fp32(
                    (entry.operation == .lossMax ? maximum : entry.operation == .lossSum ? sum : z).bitPattern)
            }
        }

        func meanLossRule() throws -> Rule {
            let (logits, z) = (try floats(0), try floats(1))
            return Rule(cost: 10 * rows * max(1, c.distillationK)) { _ in
                let loss =
                    switch share.targets {
                    case .tokens(let targets):
                        CrossEntropy.meanLoss(z: z, logits: logits, targets: targets, vocabulary: c.vocabulary)
                    case .sparse(let ids, let weights):
                        SparseCrossEntropy.meanLoss(
                            z: z, logits: logits, ids: ids, weights: weights, vocabulary: c.vocabulary,
                            k: c.distillationK)
                    }
                return .fp32(loss.bitPattern)
            }
        }

        func logitsGradientRule() throws -> Rule {
            let (logits, maximum, sum, z) = (try floats(0), try floats(1), try floats(2), try floats(3))
            let (v, k) = (c.vocabulary, c.distillationK)
            return Rule(cost: 20 * (v + k)) { e in
                let r = e / v
                let own = Array(logits[r * v..<(r + 1) * v])
                let gradient =
                    switch share.targets {
                    case .tokens(let targets):
                        CrossEntropy.gradient(
                            logits: own,
                            forward: CrossEntropy.Forward(
                                maximum: [maximum[r]], sum: [sum[r]], z: [z[r]], losses: [0],
                                count: targets.count { $0 >= 0 }, loss: 0),
                            targets: [targets[r]], rows: 1, vocabulary: v, zregC: c.outputZRegC)
                    case .sparse(let ids, let weights):
                        SparseCrossEntropy.gradient(
                            logits: own,
                            forward: SparseCrossEntropy.Forward(
                                maximum: [maximum[r]], sum: [sum[r]], z: [z[r]], losses: [0],
                                count: SparseCrossEntropy.count(ids, k: k), loss: 0),
                            ids: Array(ids[r * k..<(r + 1) * k]), weights: Array(weights[r * k..<(r + 1) * k]),
                            rows: 1, vocabulary: v, k: k, zregC: c.outputZRegC)
                    }
                return .bf16(gradient[e % v].bitPattern)
            }
        }

        // Parameters

        /// The index of the parameter that the tensor belongs to.
        var parameter: Int { verifier.indices[entry.parameter!]! }

        func combinationRule() throws -> Rule {
            let index = parameter
            let n = verifier.parameters[index].count
            let gradients = try sources.indices.map { try floats($0) }
            return Rule(cost: 100 * c.ranks) { e in
                let element = e % n
                switch c.compression {
                case .none:
                    return .fp32(AllReduce.fp32(gradients.map { $0[element] }, ranks: c.ranks)[0].bitPattern)
                case .bf16:
                    return .fp32(
                        widened(AllReduce.bf16(gradients.map { $0[element] }, ranks: c.ranks)[0]).bitPattern)
                case .squinch:
                    // S2: a block by itself.
                    let block = element / 8 * 8..<min(element / 8 * 8 + 8, n)
                    let residual = verifier.state.residuals
                    let result = try AllReduce.squinch(
                        gradients.flatMap { $0[block] }, ranks: c.ranks, variant: c.squinchVariant,
                        residual: c.usesErrorFeedback
                            ? (0..<c.ranks).flatMap {
                                residual[index][$0 * n + block.lowerBound..<$0 * n + block.upperBound]
                            }
                            : nil,
                        random: (0..<c.ranks).flatMap { words($0, index, block) },
                        randomReduced: words(c.ranks, index, block))
                    let lane = element - block.lowerBound
                    return .fp32(
                        (entry.operation == .residual
                            ? result.residual[e / n * block.count + lane] : result.reduced[lane]).bitPattern)
                }
            }
        }

        /// T5: draws rank P + o_k + e.
        func words(_ rank: Int, _ index: Int, _ elements: Range<Int>) -> [UInt32] {
            guard c.squinchVariant == .stochastic15 else { return [] }
            let counts = verifier.parameters.map(\.count)
            let base = rank * counts.reduce(0, +) + counts[..<index].reduce(0, +)
            let stream = RandomStream(
                seed: c.seed, stream: RandomStreams.rounding, step: UInt32(truncatingIfNeeded: verifier.step))
            return elements.map { stream.word(UInt64(base + $0)) }
        }

        func updateRule() throws -> Rule {
            let index = parameter
            let (gradient, norm) = (try floats(0), try floats(1)[0])
            // Read by the weight alone.
            let rate = entry.operation == .weight ? try floats(2)[0] : 0
            let state = verifier.state
            return Rule(cost: 2000) { e in
                var g = gradient[e]
                if let factor = AdamW.clipFactor(norm: norm, clipNorm: c.clipNorm) {
                    g = SoftFloat32.multiply(g, factor)  // T4
                }
                var (w, m, v) = (
                    [state.weights[index][e]], [state.firstMoments[index][e]], [state.secondMoments[index][e]]
                )
                AdamW.update(
                    weight: &w, firstMoment: &m, secondMoment: &v, gradient: [g], step: verifier.step,
                    learningRate: rate, decays: verifier.parameters[index].decays,
                    hyperparameters: AdamW.Hyperparameters(c))
                let new = entry.operation == .firstMoment ? m : entry.operation == .secondMoment ? v : w
                return .fp32(new[0].bitPattern)
            }
        }

        // Conversions

        func bf16(_ x: Float) -> BFloat16 { BFloat16(bitPattern: SoftFloat32.roundToBFloat16(x)) }
        func widened(_ x: BFloat16) -> Float { SoftFloat32.convert(bfloat16Bits: x.bitPattern) }
    }
}

/// Places to look at: no part of any result.
private struct SplitMix64 {
    var state: UInt64

    mutating func below(_ n: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        z ^= z >> 31
        return Int(z.multipliedFullWidth(by: UInt64(n)).high)
    }
}
