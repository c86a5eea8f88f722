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

    /// A tensor that should not be there, or lacks what came before it.
    public struct Unexpected: Error, Hashable, Sendable, CustomStringConvertible {
        public let step: Int
        public let operation: String
        public let message: String
        public var description: String { "step \(step): \(operation): \(message)" }
    }

    public let configuration: ModelConfiguration
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
    private let decays: [String: Bool]
    /// Masters, moments and residuals before the step, then what they became.
    private var state: TrainingState
    private var batch: TrainingBatch
    private var shares: [TrainingBatch] = []
    private var visibility: [[Visibility]] = []
    private var stored: [String: StepTensor.Values] = [:]
    private var step = 0
    private var random: SplitMix64
    /// The stream's gradient that the next operation reads, for each rank.
    private var streamGradient = ""

    /// Multiply-adds that a tensor's samples may take at every step.
    private static let affordable = 1_000_000

    /// - Parameters:
    ///   - samples: at least 1.
    ///   - seed: of the places.
    public init(_ configuration: ModelConfiguration, state: TrainingState, samples: Int, seed: UInt64) {
        precondition(samples >= 1)
        self.configuration = configuration
        self.samples = samples
        self.state = state
        parameters = configuration.parameters
        var indices: [String: Int] = [:]
        var decays: [String: Bool] = [:]
        for (index, parameter) in configuration.parameters.enumerated() {
            indices[parameter.name] = index
            decays[parameter.name] = parameter.decays
        }
        self.indices = indices
        self.decays = decays
        random = SplitMix64(state: seed)
        batch = TrainingBatch(tokens: [], targets: .tokens([]), positions: [], visibilityStart: [], visibilityLimit: [])
    }

    /// Begins step `step` over `batch`.
    public mutating func begin(_ step: Int, _ batch: TrainingBatch) throws {
        let c = configuration
        self.step = step
        self.batch = batch
        stored = [:]
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
        let (operation, rule) = try take(name, tensor)
        let count = tensor.shape.reduce(1, *)
        guard count > 0 else { return }
        let cost = max(1, rule.cost)
        // The expected cost of a tensor is at most what is affordable.
        let draws = min(samples, max(1, Self.affordable / cost))
        if cost > Self.affordable && random.below(cost) >= Self.affordable {
            skipped += 1
        } else {
            tensors += 1
            for _ in 0..<draws {
                if let difference = try compare(operation, rule, tensor, random.below(count)) { throw difference }
            }
        }
        keep(operation.name, tensor)
    }

    /// Takes the next tensor and compares the elements at some places; those that differ.
    ///
    /// - Throws: ``Unexpected``.
    public mutating func differences(_ name: String, _ tensor: StepTensor, at elements: [Int]) throws -> [Difference] {
        let (operation, rule) = try take(name, tensor)
        var found: [Difference] = []
        for element in elements {
            if let difference = try compare(operation, rule, tensor, element) { found.append(difference) }
        }
        keep(operation.name, tensor)
        return found
    }

    /// Takes the next tensor as it is.
    ///
    /// - Throws: ``Unexpected`` if no operation of a step has its name, or what it is made of is not there.
    public mutating func accept(_ name: String, _ tensor: StepTensor) throws {
        let (operation, _) = try take(name, tensor)
        keep(operation.name, tensor)
    }

    private mutating func compare(_ operation: Operation, _ rule: Rule, _ tensor: StepTensor, _ element: Int) throws
        -> Difference?
    {
        let expected = try rule.element(element)
        let got = bits(tensor.values, element)
        compared += 1
        guard expected != got else { return nil }
        return Difference(
            step: step, operation: operation.whole, index: Self.place(element, tensor.shape),
            expected: Self.text(expected), got: Self.text(got))
    }

    /// The operation that makes a tensor, once that is stored.
    private mutating func take(_ name: String, _ tensor: StepTensor) throws -> (Operation, Rule) {
        stored[name] = tensor.values
        var (rank, own) = (0, name)
        if name.hasPrefix("rank."), let end = name.dropFirst(5).firstIndex(of: ".") {
            guard let number = Int(name[name.index(name.startIndex, offsetBy: 5)..<end]),
                shares.indices.contains(number)
            else {
                throw Unexpected(step: step, operation: name, message: "expected a rank below \(configuration.ranks)")
            }
            (rank, own) = (number, String(name[name.index(after: end)...]))
        }
        let operation = Operation(verifier: self, rank: rank, name: own, whole: name, shape: tensor.shape)
        guard let rule = try operation.rule() else {
            throw Unexpected(step: step, operation: name, message: "no operation of a step has this name")
        }
        if own.hasSuffix("stream.gradient") { streamGradient = own }
        return (operation, rule)
    }

    /// The state after the step is the next one's.
    private mutating func keep(_ name: String, _ tensor: StepTensor) {
        guard case .fp32(let values) = tensor.values else { return }
        for (prefix, path) in [
            ("m.", \TrainingState.firstMoments), ("v.", \TrainingState.secondMoments), ("weight.", \.weights),
        ] {
            // Residuals are read by their own step alone.
            guard name.hasPrefix(prefix), let index = indices[String(name.dropFirst(prefix.count))] else { continue }
            next.append((path, index, values))
        }
        if name.hasPrefix("residual."), let index = indices[String(name.dropFirst(9))] {
            next.append((\.residuals, index, values))
        }
        // The last tensor of a step.
        if name == "weight.\(parameters.last?.name ?? "")" {
            for (path, index, values) in next { state[keyPath: path][index] = values }
            next = []
        }
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

    private static func place(_ element: Int, _ shape: [Int]) -> [Int] {
        var rest = element
        var place: [Int] = []
        for size in shape.reversed() {
            place.insert(rest % size, at: 0)
            rest /= size
        }
        return place
    }

    // MARK: - Rules

    /// How an element comes of what the step produced before.
    struct Rule {
        /// Multiply-adds, roughly.
        let cost: Int
        let element: (Int) throws -> Bits
    }

    /// One tensor of one rank, and where its rule looks for its inputs.
    private struct Operation {
        let verifier: StepVerifier
        let rank: Int
        let name: String
        let whole: String
        let shape: [Int]

        var c: ModelConfiguration { verifier.configuration }
        var share: TrainingBatch { verifier.shares[rank] }
        var sequences: Int { share.tokens.count / c.sequenceLength }
        var rows: Int { share.tokens.count }
        var queryWidth: Int { c.heads * c.headDimension }
        var keyWidth: Int { c.keyValueHeads * c.headDimension }

        // Inputs

        func path(_ name: String) -> String { c.ranks == 1 ? name : "rank.\(rank).\(name)" }

        func missing(_ name: String) -> Unexpected {
            Unexpected(step: verifier.step, operation: whole, message: "comes before \(name), which it is made of")
        }

        func bf16s(_ name: String) throws -> [BFloat16] {
            guard case .bf16(let values)? = verifier.stored[path(name)] else { throw missing(name) }
            return values
        }

        func floats(_ name: String, ofAllRanks: Bool = false) throws -> [Float] {
            guard case .fp32(let values)? = verifier.stored[ofAllRanks ? name : path(name)] else { throw missing(name) }
            return values
        }

        func master(_ name: String) -> [Float] { verifier.state.weights[verifier.indices[name]!] }

        /// bf16 of `count` masters from `first` on, `stride` apart (T2).
        func weight(_ name: String, _ first: Int, _ count: Int, stride: Int = 1) -> [BFloat16] {
            let master = master(name)
            return (0..<count).map { bf16(master[first + $0 * stride]) }
        }

        func gain(_ name: String) -> [BFloat16] { weight(name, 0, c.width) }

        func row(_ x: [BFloat16], _ row: Int, _ width: Int) -> [BFloat16] { Array(x[row * width..<(row + 1) * width]) }

        func dot(_ parts: [(a: [BFloat16], b: [BFloat16])]) -> Float {
            var sum = DotAccumulator(recipe: c.dot, arithmetic: .soft)
            for part in parts { sum.addRow(count: part.a.count) { (part.a[$0], part.b[$0]) } }
            return sum.finished()
        }

        // The parts of a name

        /// `layers.N.` and what follows.
        var layer: (index: Int, rest: String)? {
            let pieces = name.split(separator: ".", maxSplits: 2)
            guard pieces.count == 3, pieces[0] == "layers", let index = Int(pieces[1]), index < c.layers else {
                return nil
            }
            return (index, String(pieces[2]))
        }

        // Rules

        func rule() throws -> Rule? {
            if let (index, rest) = layer { return try layerRule(index, rest) }
            for prefix in ["gradient.", "reduced.", "residual.", "m.", "v.", "weight."] where name.hasPrefix(prefix) {
                let parameter = String(name.dropFirst(prefix.count))
                guard verifier.indices[parameter] != nil else { return nil }
                switch prefix {
                case "gradient.": return try gradientRule(parameter)
                case "reduced.", "residual.": return try combinationRule(parameter, isResidual: prefix == "residual.")
                default: return try updateRule(parameter, prefix)
                }
            }
            switch name {
            case "embedding.output":
                return Rule(cost: 1) { e in
                    .bf16(weight("embedding", Int(share.tokens[e / c.width]) * c.width + e % c.width, 1)[0].bitPattern)
                }
            case "norm.output": return try norm(of: stream(after: c.layers - 1), "norm")
            case "logits":
                let x = try bf16s("norm.output")
                return Rule(cost: c.width) { e in
                    let (n, v) = (e / c.vocabulary, e % c.vocabulary)
                    return .fp32(
                        dot([(row(x, n, c.width), weight("embedding", v * c.width, c.width))]).bitPattern)
                }
            case "loss.max", "loss.sum", "loss.z": return try lossRule()
            case "loss": return try meanLossRule()
            case "logits.gradient": return try logitsGradientRule()
            case "norm.output.gradient":
                let dy = try bf16s("logits.gradient")
                return Rule(cost: c.vocabulary) { e in
                    let (n, k) = (e / c.width, e % c.width)
                    let w = weight("embedding", k, c.vocabulary, stride: c.width)
                    return .bf16(bf16(dot([(row(dy, n, c.vocabulary), w)])).bitPattern)
                }
            case "embedding.output_gradient":
                return try weightGradient("logits.gradient", "norm.output", c.vocabulary, c.width)
            case "stream.gradient":
                return try normGradient("norm.output.gradient", of: stream(after: c.layers - 1), "norm", adds: nil)
            case "learning_rate":
                return Rule(cost: 1) { _ in
                    .fp32(LearningRate.at(step: verifier.step, configuration: c).bitPattern)
                }
            case "gradient_norm":
                let all = try verifier.parameters.map { try combined($0.name) }
                return Rule(cost: 10 * all.reduce(0) { $0 + $1.count }) { _ in
                    .fp32(AdamW.gradientNorm(all).bitPattern)
                }
            default: return nil
            }
        }

        /// The stream after a layer.
        func stream(after layer: Int) -> String { layer < 0 ? "embedding.output" : "layers.\(layer).mlp.residual" }

        func layerRule(_ index: Int, _ rest: String) throws -> Rule? {
            let l = "layers.\(index)"
            let source = c.keyValueSource(layer: index)
            switch rest {
            case "attention.norm.output": return try norm(of: stream(after: index - 1), "\(l).attention.norm")
            case "attention.query.output":
                return try linear("\(l).attention.norm.output", "\(l).attention.query", queryWidth)
            case "attention.key.output": return try linear("\(l).attention.norm.output", "\(l).attention.key", keyWidth)
            case "attention.value.output":
                return try linear("\(l).attention.norm.output", "\(l).attention.value", keyWidth)
            case "attention.query.rotated": return try rotary("\(l).attention.query.output", c.heads, backward: false)
            case "attention.key.rotated":
                return try rotary("\(l).attention.key.output", c.keyValueHeads, backward: false)
            case "attention.max", "attention.sum", "attention.z", "attention.context":
                return try attentionRule(index, source, rest)
            case "attention.residual":
                return try linear(
                    "\(l).attention.context", "\(l).attention.output", c.width, inputs: queryWidth,
                    adds: stream(after: index - 1))
            case "mlp.norm.output": return try norm(of: "\(l).attention.residual", "\(l).mlp.norm")
            case "mlp.up.output": return try linear("\(l).mlp.norm.output", "\(l).mlp.up", c.feedForwardWidth)
            case "mlp.limit":
                return Rule(cost: 10 * c.width * c.feedForwardWidth) { _ in
                    if c.clamp == .static { return .fp32(c.clampLimit == 0 ? 0 : c.clampLimit.bitPattern) }
                    let weights = weight("\(l).mlp.up", 0, c.width * c.feedForwardWidth)
                    return .fp32(
                        try Clamp.dynamicLimit(
                            weights: weights, fanIn: c.width, columns: c.feedForwardWidth, kappa: c.clampKappa,
                            activation: .relu2
                        ).bitPattern)
                }
            case "mlp.codes", "mlp.activation":
                let up = try bf16s("\(l).mlp.up.output")
                let limit = c.clamp == .none ? 0 : try floats("\(l).mlp.limit")[0]
                return Rule(cost: 10) { e in
                    let squared = ReLUSquared.forward([up[e]])
                    if c.clamp == .none { return .bf16(bf16(squared[0]).bitPattern) }
                    let clamped = try Clamp.forward(squared, limit: limit, activation: .relu2, int8: c.int8)
                    return rest == "mlp.codes"
                        ? .int8(clamped.codes[0]) : .bf16(bf16(clamped.dequantised[0]).bitPattern)
                }
            case "mlp.residual":
                return try linear(
                    "\(l).mlp.activation", "\(l).mlp.down", c.width, inputs: c.feedForwardWidth,
                    adds: "\(l).attention.residual")

            // Backward
            case "mlp.up.gradient":
                let dy = try bf16s(verifier.streamGradient)
                let up = try bf16s("\(l).mlp.up.output")
                let limit = c.clamp == .none ? 0 : try floats("\(l).mlp.limit")[0]
                return Rule(cost: c.width) { e in
                    let (n, j) = (e / c.feedForwardWidth, e % c.feedForwardWidth)
                    var d = dot([(row(dy, n, c.width), weight("\(l).mlp.down", j * c.width, c.width))])
                    if c.clamp != .none {
                        d =
                            Clamp.backward(
                                y: ReLUSquared.forward([up[e]]), dy: [d], limit: limit, activation: .relu2,
                                gradient: c.clampGradient)[0]
                    }
                    return .bf16(bf16(ReLUSquared.backward(u: [up[e]], dy: [d])[0]).bitPattern)
                }
            case "mlp.norm.output.gradient":
                return try inputGradient([("\(l).mlp.up.gradient", "\(l).mlp.up", c.feedForwardWidth)], c.width)
            case "mlp.stream.gradient":
                return try normGradient(
                    "\(l).mlp.norm.output.gradient", of: "\(l).attention.residual", "\(l).mlp.norm",
                    adds: verifier.streamGradient)
            case "attention.context.gradient":
                return try inputGradient([(verifier.streamGradient, "\(l).attention.output", c.width)], queryWidth)
            case "attention.query.rotated.gradient": return try queryGradient(index, source)
            case "attention.key.rotated.gradient", "attention.value.gradient":
                return try keyGradient(index, source, isKey: rest.contains("key"))
            case "attention.query.gradient":
                return try rotary("\(l).attention.query.rotated.gradient", c.heads, backward: true)
            case "attention.key.total_gradient", "attention.value.total_gradient":
                let own = rest.contains("key") ? "attention.key.rotated.gradient" : "attention.value.gradient"
                let users = try (0..<c.layers).reversed().filter { c.keyValueSource(layer: $0) == index }
                    .map { try bf16s("layers.\($0).\(own)") }
                return Rule(cost: users.count) { e in
                    var total = widened(users[0][e])
                    for user in users.dropFirst() { total = SoftFloat32.add(total, widened(user[e])) }  // T2
                    return .bf16(bf16(total).bitPattern)
                }
            case "attention.key.gradient":
                return try rotary("\(l).attention.key.total_gradient", c.keyValueHeads, backward: true)
            case "attention.norm.output.gradient":
                var parts = [("\(l).attention.query.gradient", "\(l).attention.query", queryWidth)]
                if c.hasKeyValue(layer: index) {
                    parts.append(("\(l).attention.key.gradient", "\(l).attention.key", keyWidth))
                    parts.append(("\(l).attention.value.total_gradient", "\(l).attention.value", keyWidth))
                }
                return try inputGradient(parts, c.width)
            case "attention.stream.gradient":
                return try normGradient(
                    "\(l).attention.norm.output.gradient", of: stream(after: index - 1), "\(l).attention.norm",
                    adds: verifier.streamGradient)
            default: return nil
            }
        }

        func linear(
            _ input: String, _ parameter: String, _ outputs: Int, inputs: Int? = nil, adds: String? = nil
        ) throws -> Rule {
            let inputs = inputs ?? c.width
            let x = try bf16s(input)
            let residual = try adds.map(bf16s)
            return Rule(cost: inputs) { e in
                let (n, o) = (e / outputs, e % outputs)
                let sum = dot([(row(x, n, inputs), weight(parameter, o, inputs, stride: outputs))])
                guard let residual else { return .bf16(bf16(sum).bitPattern) }
                return .bf16(Residual.add([residual[e]], [sum])[0].bitPattern)
            }
        }

        func inputGradient(_ parts: [(dy: String, parameter: String, outputs: Int)], _ inputs: Int) throws -> Rule {
            let gradients = try parts.map { try bf16s($0.dy) }
            return Rule(cost: parts.reduce(0) { $0 + $1.outputs }) { e in
                let (n, a) = (e / inputs, e % inputs)
                let sum = dot(
                    parts.indices.map { p in
                        let width = parts[p].outputs
                        return (row(gradients[p], n, width), weight(parts[p].parameter, a * width, width))
                    })
                return .bf16(bf16(sum).bitPattern)
            }
        }

        /// dW [inputs, outputs] of x [N, inputs] and dy [N, outputs].
        func weightGradient(_ input: String, _ gradient: String, _ inputs: Int, _ outputs: Int) throws -> Rule {
            let (x, dy) = (try bf16s(input), try bf16s(gradient))
            return Rule(cost: rows) { e in
                let (a, b) = (e / outputs, e % outputs)
                var sum = DotAccumulator(recipe: c.dot, arithmetic: .soft)
                for sequence in 0..<sequences {
                    let first = sequence * c.sequenceLength
                    sum.addRow(count: c.sequenceLength) { t in
                        (x[(first + t) * inputs + a], dy[(first + t) * outputs + b])
                    }
                }
                return .fp32(sum.finished().bitPattern)
            }
        }

        func norm(of input: String, _ parameter: String) throws -> Rule {
            let x = try bf16s(input)
            return Rule(cost: 3 * c.width) { e in
                let output = RMSNorm.forward(
                    row(x, e / c.width, c.width), gain: gain(parameter), rows: 1, width: c.width,
                    epsilon: c.normEpsilon
                ).output
                return .bf16(output[e % c.width].bitPattern)
            }
        }

        func normGradient(_ gradient: String, of input: String, _ parameter: String, adds: String?) throws -> Rule {
            let (dy, x) = (try bf16s(gradient), try bf16s(input))
            let stream = try adds.map(bf16s)
            return Rule(cost: 8 * c.width) { e in
                let n = e / c.width
                let dx = RMSNorm.backward(
                    outputGradient: row(dy, n, c.width), x: row(x, n, c.width), gain: gain(parameter), rows: 1,
                    width: c.width, epsilon: c.normEpsilon
                ).input[e % c.width]
                guard let stream else { return .bf16(bf16(dx).bitPattern) }
                return .bf16(Residual.add([stream[e]], [dx])[0].bitPattern)
            }
        }

        func gainGradient(_ gradient: String, of input: String, _ parameter: String) throws -> Rule {
            let (dy, x) = (try bf16s(gradient), try bf16s(input))
            return Rule(cost: 8 * rows * c.width) { e in
                .fp32(
                    RMSNorm.backward(
                        outputGradient: dy, x: x, gain: gain(parameter), rows: rows, width: c.width,
                        epsilon: c.normEpsilon
                    ).gain[e].bitPattern)
            }
        }

        func rotary(_ input: String, _ heads: Int, backward: Bool) throws -> Rule {
            let x = try bf16s(input)
            let d = c.headDimension
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

        /// Head `head` of sequence `b` of [N, heads D], as [T, D].
        func head(_ x: [BFloat16], _ b: Int, _ head: Int, _ heads: Int) -> [BFloat16] {
            let d = c.headDimension
            return (0..<c.sequenceLength).flatMap { i -> ArraySlice<BFloat16> in
                let at = ((b * c.sequenceLength + i) * heads + head) * d
                return x[at..<at + d]
            }
        }

        /// One row of queries [D] and a mask of what it sees.
        func oneRow(_ index: Int, _ b: Int, _ i: Int) throws -> (shape: Attention.Shape, visibility: Visibility) {
            let t = c.sequenceLength
            let mask = verifier.visibility[rank][index]
            let limits = (0..<t).map { mask.isVisible(batch: b, query: i, key: $0) ? Int32(1) : 0 }
            return (
                Attention.Shape(
                    batch: 1, heads: 1, keyValueHeads: 1, queries: 1, keys: t, headDimension: c.headDimension),
                try Visibility(
                    orientation: .byKey, batch: 1, queries: 1, keys: t, start: [Int32](repeating: 0, count: t),
                    limit: limits)
            )
        }

        func attentionRule(_ index: Int, _ source: Int, _ rest: String) throws -> Rule {
            let (t, d) = (c.sequenceLength, c.headDimension)
            let query = try bf16s("layers.\(index).attention.query.rotated")
            let key = try bf16s("layers.\(source).attention.key.rotated")
            let value = try bf16s("layers.\(source).attention.value.output")
            return Rule(cost: t * (2 * d + 50)) { e in
                // max, sum and Z are [B, H, T], the context [N, H D].
                let (b, h, i) =
                    rest == "attention.context"
                    ? (e / d / c.heads / t, e / d % c.heads, e / d / c.heads % t)
                    : (e / t / c.heads, e / t % c.heads, e % t)
                let group = h / (c.heads / c.keyValueHeads)
                let (shape, visibility) = try oneRow(index, b, i)
                let result = try Attention.forward(
                    query: row(query, (b * t + i) * c.heads + h, d), key: head(key, b, group, c.keyValueHeads),
                    value: head(value, b, group, c.keyValueHeads), shape: shape, visibility: visibility, scale: scale,
                    recipe: c.dot, arithmetic: .hardware)
                return switch rest {
                case "attention.max": .fp32(result.maximum[0].bitPattern)
                case "attention.sum": .fp32(result.sum[0].bitPattern)
                case "attention.z": .fp32(result.z[0].bitPattern)
                default: .bf16(result.output[e % d].bitPattern)
                }
            }
        }

        func queryGradient(_ index: Int, _ source: Int) throws -> Rule {
            let (t, d) = (c.sequenceLength, c.headDimension)
            let l = "layers.\(index).attention"
            let (query, dO, o) = (
                try bf16s("\(l).query.rotated"), try bf16s("\(l).context.gradient"), try bf16s("\(l).context")
            )
            let key = try bf16s("layers.\(source).attention.key.rotated")
            let value = try bf16s("layers.\(source).attention.value.output")
            let (maximum, sum, z) = (try floats("\(l).max"), try floats("\(l).sum"), try floats("\(l).z"))
            return Rule(cost: t * (3 * d + 100)) { e in
                let (b, h, i) = (e / d / c.heads / t, e / d % c.heads, e / d / c.heads % t)
                let group = h / (c.heads / c.keyValueHeads)
                let (shape, visibility) = try oneRow(index, b, i)
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
        func keyGradient(_ index: Int, _ source: Int, isKey: Bool) throws -> Rule {
            let (t, d) = (c.sequenceLength, c.headDimension)
            let group = c.heads / c.keyValueHeads
            let l = "layers.\(index).attention"
            let (query, dO, o) = (
                try bf16s("\(l).query.rotated"), try bf16s("\(l).context.gradient"), try bf16s("\(l).context")
            )
            let key = try bf16s("layers.\(source).attention.key.rotated")
            let value = try bf16s("layers.\(source).attention.value.output")
            let (maximum, sum, z) = (try floats("\(l).max"), try floats("\(l).sum"), try floats("\(l).z"))
            let mask = verifier.visibility[rank][index]
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
                return .bf16((isKey ? result.key : result.value)[j * d + e % d].bitPattern)
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
            let logits = try floats("logits")
            return Rule(cost: 20 * c.vocabulary) { e in
                let (maximum, sum, z) = try lossRow(logits, e)
                return .fp32((name == "loss.max" ? maximum : name == "loss.sum" ? sum : z).bitPattern)
            }
        }

        func meanLossRule() throws -> Rule {
            if name == whole && c.ranks > 1 {
                let losses = try (0..<c.ranks).map { try floats("rank.\($0).loss", ofAllRanks: true)[0] }
                return Rule(cost: c.ranks) { _ in .fp32(AllReduce.fp32(losses, ranks: c.ranks)[0].bitPattern) }
            }
            let (logits, z) = (try floats("logits"), try floats("loss.z"))
            return Rule(cost: 10 * rows) { _ in
                .fp32(
                    CrossEntropy.meanLoss(
                        z: z, logits: logits, targets: try hardTargets(), vocabulary: c.vocabulary
                    ).bitPattern)
            }
        }

        func hardTargets() throws -> [Int32] {
            guard case .tokens(let targets) = share.targets else {
                throw Unexpected(
                    step: verifier.step, operation: whole, message: "soft targets are not verified in lockstep")
            }
            return targets
        }

        func logitsGradientRule() throws -> Rule {
            let logits = try floats("logits")
            let (maximum, sum, z) = (try floats("loss.max"), try floats("loss.sum"), try floats("loss.z"))
            let targets = try hardTargets()
            let count = targets.count { $0 >= 0 }
            let v = c.vocabulary
            return Rule(cost: 20 * v) { e in
                let r = e / v
                let forward = CrossEntropy.Forward(
                    maximum: [maximum[r]], sum: [sum[r]], z: [z[r]], losses: [0], count: count, loss: 0)
                return .bf16(
                    CrossEntropy.gradient(
                        logits: Array(logits[r * v..<(r + 1) * v]), forward: forward, targets: [targets[r]], rows: 1,
                        vocabulary: v, zregC: c.outputZRegC)[e % v].bitPattern)
            }
        }

        // Parameters' gradients

        func gradientRule(_ parameter: String) throws -> Rule? {
            if parameter == "norm" {
                return try gainGradient("norm.output.gradient", of: stream(after: c.layers - 1), parameter)
            }
            if parameter == "embedding" {
                let output = try floats("embedding.output_gradient")
                let dy = try bf16s(verifier.streamGradient)
                return Rule(cost: rows) { e in
                    let (v, k) = (e / c.width, e % c.width)
                    var sum: Float = 0
                    for (t, token) in share.tokens.enumerated() where Int(token) == v {
                        sum = SoftFloat32.add(sum, widened(dy[t * c.width + k]))  // R3
                    }
                    return .fp32(SoftFloat32.add(output[e], sum).bitPattern)  // T2
                }
            }
            let pieces = parameter.split(separator: ".", maxSplits: 2)
            guard pieces.count == 3, let index = Int(pieces[1]) else { return nil }
            let l = "layers.\(index)"
            switch pieces[2] {
            case "mlp.down":
                return try weightGradient("\(l).mlp.activation", verifier.streamGradient, c.feedForwardWidth, c.width)
            case "mlp.up":
                return try weightGradient("\(l).mlp.norm.output", "\(l).mlp.up.gradient", c.width, c.feedForwardWidth)
            case "mlp.norm":
                return try gainGradient("\(l).mlp.norm.output.gradient", of: "\(l).attention.residual", parameter)
            case "attention.output":
                return try weightGradient("\(l).attention.context", verifier.streamGradient, queryWidth, c.width)
            case "attention.query":
                return try weightGradient(
                    "\(l).attention.norm.output", "\(l).attention.query.gradient", c.width, queryWidth)
            case "attention.key":
                return try weightGradient(
                    "\(l).attention.norm.output", "\(l).attention.key.gradient", c.width, keyWidth)
            case "attention.value":
                return try weightGradient(
                    "\(l).attention.norm.output", "\(l).attention.value.total_gradient", c.width, keyWidth)
            case "attention.norm":
                return try gainGradient("\(l).attention.norm.output.gradient", of: stream(after: index - 1), parameter)
            default: return nil
            }
        }

        /// The gradient that the update reads (T5).
        func combined(_ parameter: String) throws -> [Float] {
            try floats((c.combinesGradients ? "reduced." : "gradient.") + parameter, ofAllRanks: true)
        }

        func combinationRule(_ parameter: String, isResidual: Bool) throws -> Rule {
            let index = verifier.indices[parameter]!
            let n = verifier.parameters[index].count
            let gradients = try (0..<c.ranks).map {
                try floats(
                    c.ranks == 1 ? "gradient.\(parameter)" : "rank.\($0).gradient.\(parameter)", ofAllRanks: true)
            }
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
                        (isResidual ? result.residual[e / n * block.count + lane] : result.reduced[lane]).bitPattern)
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

        func updateRule(_ parameter: String, _ prefix: String) throws -> Rule {
            let index = verifier.indices[parameter]!
            let gradient = try combined(parameter)
            let rate = try floats("learning_rate", ofAllRanks: true)[0]
            let norm = try floats("gradient_norm", ofAllRanks: true)[0]
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
                    learningRate: rate, decays: verifier.decays[parameter]!, hyperparameters: AdamW.Hyperparameters(c))
                return .fp32((prefix == "m." ? m : prefix == "v." ? v : w)[0].bitPattern)
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
