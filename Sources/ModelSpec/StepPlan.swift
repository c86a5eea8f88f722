/// Every tensor of a training step in execution order: clauses T2, T5 and T4 as data.
///
/// The reference and the engine execute a step in code of their own, which tests hold against this list. Who looks at a step from outside
/// (the step verifier, `localise`, the recorder of goldens) walks it.
public struct StepPlan: Sendable {
    /// One tensor.
    public struct Entry: Sendable, Hashable {
        /// The name in fingerprints, traces and goldens: `layers.0.mlp.up.output`, with several ranks `rank.1.` before it.
        public let name: String
        public let type: ElementType
        public let shape: [Int]
        public let operation: StepOperation
        /// In the order in which ``StepOperation`` states them.
        public let inputs: [StepInput]
        /// The rank whose pass makes it; nil for what all ranks make together.
        public let rank: Int?
        /// The layer; nil outside the layers.
        public let layer: Int?
        /// Of a golden case: whether the tensor stands among the outputs, not the intermediates.
        public let isOutput: Bool
    }

    public let configuration: ModelConfiguration
    public let entries: [Entry]
    private let places: [String: Int]

    /// The step of a configuration.
    public init(_ configuration: ModelConfiguration) {
        self.configuration = configuration
        var entries: [Entry] = []
        for rank in 0..<configuration.ranks { entries += Pass(configuration, rank: rank).entries }
        entries += Self.together(configuration)
        self.entries = entries
        places = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.name, $0) })
    }

    /// The tensor of that name; nil if no step of the configuration has it.
    public subscript(name: String) -> Entry? { places[name].map { entries[$0] } }

    /// What the ranks make of their passes: the loss, the combined gradients (T5) and the update (T4).
    private static func together(_ c: ModelConfiguration) -> [Entry] {
        func own(_ rank: Int, _ name: String) -> String { c.ranks == 1 ? name : "rank.\(rank).\(name)" }
        func entry(
            _ name: String, _ shape: [Int], _ operation: StepOperation, _ inputs: [String], isOutput: Bool = true
        ) -> Entry {
            Entry(
                name: name, type: .fp32, shape: shape, operation: operation, inputs: inputs.map(StepInput.tensor),
                rank: nil, layer: nil, isOutput: isOutput)
        }
        let ranks = 0..<c.ranks
        var entries: [Entry] = []
        if c.ranks > 1 {
            entries.append(entry("loss", [1], .meanOfRanks, ranks.map { own($0, "loss") }, isOutput: false))
        }
        if c.combinesGradients {
            for parameter in c.parameters {
                let gradients = ranks.map { own($0, "gradient.\(parameter.name)") }
                entries.append(entry("reduced.\(parameter.name)", parameter.shape, .reduced, gradients))
                if c.usesErrorFeedback {
                    entries.append(
                        entry("residual.\(parameter.name)", [c.ranks, parameter.count], .residual, gradients))
                }
            }
        }
        func combined(_ parameter: ModelConfiguration.Parameter) -> String {
            (c.combinesGradients ? "reduced." : "gradient.") + parameter.name
        }
        entries.append(entry("learning_rate", [1], .learningRate, [], isOutput: false))
        entries.append(entry("gradient_norm", [1], .gradientNorm, c.parameters.map(combined), isOutput: false))
        for parameter in c.parameters {
            let inputs = [combined(parameter), "learning_rate", "gradient_norm"]
            entries.append(entry("m.\(parameter.name)", parameter.shape, .firstMoment, inputs))
            entries.append(entry("v.\(parameter.name)", parameter.shape, .secondMoment, inputs))
            entries.append(entry("weight.\(parameter.name)", parameter.shape, .weight, inputs))
        }
        return entries
    }
}

/// What a tensor of a step is made of.
public enum StepInput: Sendable, Hashable {
    /// An earlier tensor of the step.
    case tensor(String)
    /// The bf16 rounding of a parameter's master, by the parameter's name.
    case weight(String)
    /// Of the batch: `tokens`, `targets`, `position`, `visibility`.
    case batch(String)
}

/// The operations of a step (T2, T4, T5), each with its inputs in order.
public enum StepOperation: String, Sendable, CaseIterable {
    /// tokens, w
    case embedding = "Embedding"
    /// x, gain
    case rmsNorm = "RMSNorm"
    /// x, w
    case linear = "Linear"
    /// x, w, stream: the stream with the linear layer added.
    case linearResidual = "Linear, Residual"
    /// x, w: by the transpose of w.
    case linearTransposed = "Linear by its transpose"
    /// x, position
    case rotary = "Rotary"
    /// dy, position
    case rotaryBackward = "Rotary backward"
    /// query, key, value, visibility
    case attentionMax = "Attention, max"
    case attentionSum = "Attention, sum"
    case attentionZ = "Attention, Z"
    case attention = "Attention"
    /// query, key, value, visibility, gradient of the context, context, max, sum, Z
    case attentionQueryGradient = "Attention backward, dq"
    case attentionKeyGradient = "Attention backward, dk"
    case attentionValueGradient = "Attention backward, dv"
    /// w, which a static limit does not read
    case clampLimit = "Clamp, limit"
    /// u, limit
    case clampCodes = "ReLU^2, Clamp, codes"
    /// u, limit where there is a clamp
    case activation = "ReLU^2, Clamp"
    /// dy, w, u, limit where there is a clamp
    case activationGradient = "Linear, Clamp and ReLU^2 backward"
    /// logits
    case lossMax = "Cross-entropy, max"
    case lossSum = "Cross-entropy, sum"
    case lossZ = "Cross-entropy, Z"
    /// logits, Z, targets
    case loss = "Cross-entropy"
    /// logits, max, sum, Z, targets
    case logitsGradient = "Cross-entropy backward"
    /// dy and w, of one layer or of several whose parts follow each other (D4)
    case inputGradient = "Linear backward, input"
    /// dy, w
    case inputGradientTransposed = "Linear by its transpose, backward"
    /// x, dy
    case weightGradient = "Linear backward, weight"
    /// dy, x, gain, stream gradient where there is one: added
    case normGradient = "RMSNorm backward, Residual"
    /// dy, x
    case gainGradient = "RMSNorm backward, gain"
    /// one tensor of every layer that used the keys and values, the last layer first
    case total = "Sum"
    /// weight gradient of the logits, dy, tokens
    case embeddingGradient = "Embedding backward"
    /// of every rank
    case meanOfRanks = "All-reduce, mean"
    case reduced = "All-reduce"
    case residual = "All-reduce, residual"
    case learningRate = "Learning rate"
    /// the combined gradients in parameter order
    case gradientNorm = "Gradient norm"
    /// gradient, learning rate, norm
    case firstMoment = "AdamW, m"
    case secondMoment = "AdamW, v"
    case weight = "AdamW, w"
}

/// A row of T2's tables: one tensor for each rank, or for each rank and layer.
public struct StepRow: Sendable, Hashable {
    /// `l.` stands for `layers.l.`.
    public let name: String
    public let type: ElementType
    /// Letters: N = B T rows, and H D, G D as one size each.
    public let shape: [String]
    public let operation: StepOperation
    /// Names of tensors, `l.` for this layer; `w(NAME)` a weight; `stream` and `stream gradient` the latest of the residual stream; `s.` the layer
    /// whose keys and values this one uses; `u.` every layer that uses this one's; `tokens`, `targets`, `position` and `visibility` of the batch.
    public let inputs: [String]
    public let presence: Presence
    public let note: String

    /// Where a row is there.
    public enum Presence: String, Sendable, CaseIterable {
        case always = ""
        case ownKeys = "layers with keys and values of their own"
        case clamp = "absent with clamp none"
        case int8 = "with int8"
    }

    init(
        _ name: String, _ type: ElementType, _ shape: [String], _ operation: StepOperation, _ inputs: [String],
        _ presence: Presence = .always, _ note: String = ""
    ) {
        self.name = name
        self.type = type
        self.shape = shape
        self.operation = operation
        self.inputs = inputs
        self.presence = presence
        self.note = note
    }

    /// The row in the specification: `tensor | format, shape | operation | inputs`.
    public var line: String {
        let notes = [presence.rawValue, note].filter { !$0.isEmpty }.joined(separator: "; ")
        let made = inputs.map { "`\($0)`" }.joined(separator: ", ")
        return
            "| `\(name)` | \(type.rawValue) [\(shape.joined(separator: ", "))] | \(operation.rawValue)\(notes.isEmpty ? "" : "; \(notes)") | \(made) |"
    }
}

extension StepPlan {
    /// The forward pass before, in and after the layers.
    public static let forward: (before: [StepRow], layer: [StepRow], after: [StepRow]) = (
        before: [StepRow("embedding.output", .bf16, ["N", "C"], .embedding, ["tokens", "w(embedding)"])],
        layer: [
            StepRow("l.attention.norm.output", .bf16, ["N", "C"], .rmsNorm, ["stream", "w(l.attention.norm)"]),
            StepRow(
                "l.attention.query.output", .bf16, ["N", "H D"], .linear,
                ["l.attention.norm.output", "w(l.attention.query)"], .always, "bf16, before rotation"),
            StepRow(
                "l.attention.key.output", .bf16, ["N", "G D"], .linear,
                ["l.attention.norm.output", "w(l.attention.key)"], .ownKeys, "bf16"),
            StepRow(
                "l.attention.value.output", .bf16, ["N", "G D"], .linear,
                ["l.attention.norm.output", "w(l.attention.value)"], .ownKeys, "bf16"),
            StepRow(
                "l.attention.query.rotated", .bf16, ["N", "H D"], .rotary, ["l.attention.query.output", "position"]),
            StepRow(
                "l.attention.key.rotated", .bf16, ["N", "G D"], .rotary, ["l.attention.key.output", "position"],
                .ownKeys),
            StepRow(
                "l.attention.max", .fp32, ["B", "H", "T"], .attentionMax, attended, .always,
                "Z1 with the layer's window; scale = rsqrt(D)"),
            StepRow("l.attention.sum", .fp32, ["B", "H", "T"], .attentionSum, attended),
            StepRow("l.attention.z", .fp32, ["B", "H", "T"], .attentionZ, attended),
            StepRow(
                "l.attention.context", .bf16, ["N", "H D"], .attention, attended, .always,
                "o of Z1, head h in columns h D ..."),
            StepRow(
                "l.attention.residual", .bf16, ["N", "C"], .linearResidual,
                ["l.attention.context", "w(l.attention.output)", "stream"]),
            StepRow("l.mlp.norm.output", .bf16, ["N", "C"], .rmsNorm, ["stream", "w(l.mlp.norm)"]),
            StepRow(
                "l.mlp.up.output", .bf16, ["N", "F"], .linear, ["l.mlp.norm.output", "w(l.mlp.up)"], .always, "bf16"),
            StepRow(
                "l.mlp.limit", .fp32, ["1"], .clampLimit, ["w(l.mlp.up)"], .clamp,
                "C1 with `relu2`, or the static limit"),
            StepRow("l.mlp.codes", .int8, ["N", "F"], .clampCodes, ["l.mlp.up.output", "l.mlp.limit"], .int8),
            StepRow(
                "l.mlp.activation", .bf16, ["N", "F"], .activation, ["l.mlp.up.output", "l.mlp.limit"], .always,
                "bf16 of dequantised (C3), of clamped, or of ReLU^2 with clamp none"),
            StepRow(
                "l.mlp.residual", .bf16, ["N", "C"], .linearResidual,
                ["l.mlp.activation", "w(l.mlp.down)", "stream"]),
        ],
        after: [
            StepRow("norm.output", .bf16, ["N", "C"], .rmsNorm, ["stream", "w(norm)"]),
            StepRow(
                "logits", .fp32, ["N", "V"], .linearTransposed, ["norm.output", "w(embedding)"], .always,
                "dot(norm.output_t, row v of the embedding) over C"),
            StepRow("loss.max", .fp32, ["N"], .lossMax, ["logits"]),
            StepRow("loss.sum", .fp32, ["N"], .lossSum, ["logits"]),
            StepRow("loss.z", .fp32, ["N"], .lossZ, ["logits"]),
            StepRow("loss", .fp32, ["1"], .loss, ["logits", "loss.z", "targets"]),
        ]
    )

    /// The backward pass before the layers, in them, the last one first, and after them.
    public static let backward: (before: [StepRow], layer: [StepRow], after: [StepRow]) = (
        before: [
            StepRow(
                "logits.gradient", .bf16, ["N", "V"], .logitsGradient,
                ["logits", "loss.max", "loss.sum", "loss.z", "targets"]),
            StepRow(
                "norm.output.gradient", .bf16, ["N", "C"], .inputGradientTransposed,
                ["logits.gradient", "w(embedding)"], .always,
                "bf16(dot(dlogits_t, column c of the embedding) over V)"),
            StepRow(
                "embedding.output_gradient", .fp32, ["V", "C"], .weightGradient, ["logits.gradient", "norm.output"],
                .always, "chain over (b, i) of dlogits[t, v] * norm.output[t, c]"),
            StepRow("gradient.norm", .fp32, ["C"], .gainGradient, ["norm.output.gradient", "stream"]),
            StepRow(
                "stream.gradient", .bf16, ["N", "C"], .normGradient, ["norm.output.gradient", "stream", "w(norm)"],
                .always, "bf16 of dx"),
        ],
        layer: [
            StepRow(
                "gradient.l.mlp.down", .fp32, ["F", "C"], .weightGradient, ["l.mlp.activation", "stream gradient"]),
            StepRow(
                "l.mlp.up.gradient", .bf16, ["N", "F"], .activationGradient,
                ["stream gradient", "w(l.mlp.down)", "l.mlp.up.output", "l.mlp.limit"], .always,
                "da = dot(dy_t, row of down) in fp32; C4 on y = ReLU^2(up.output); ReLU^2 backward; bf16"),
            StepRow(
                "gradient.l.mlp.up", .fp32, ["C", "F"], .weightGradient, ["l.mlp.norm.output", "l.mlp.up.gradient"]),
            StepRow(
                "l.mlp.norm.output.gradient", .bf16, ["N", "C"], .inputGradient, ["l.mlp.up.gradient", "w(l.mlp.up)"],
                .always, "bf16"),
            StepRow(
                "gradient.l.mlp.norm", .fp32, ["C"], .gainGradient,
                ["l.mlp.norm.output.gradient", "l.attention.residual"]),
            StepRow(
                "l.mlp.stream.gradient", .bf16, ["N", "C"], .normGradient,
                ["l.mlp.norm.output.gradient", "l.attention.residual", "w(l.mlp.norm)", "stream gradient"], .always,
                "bf16(fl(stream gradient + dx)); the stream gradient from here on"),
            StepRow(
                "gradient.l.attention.output", .fp32, ["H D", "C"], .weightGradient,
                ["l.attention.context", "stream gradient"]),
            StepRow(
                "l.attention.context.gradient", .bf16, ["N", "H D"], .inputGradient,
                ["stream gradient", "w(l.attention.output)"], .always, "bf16"),
            StepRow(
                "l.attention.query.rotated.gradient", .bf16, ["N", "H D"], .attentionQueryGradient, differentiated,
                .always, "Z2"),
            StepRow(
                "l.attention.key.rotated.gradient", .bf16, ["N", "G D"], .attentionKeyGradient, differentiated,
                .always, "Z2, of this layer's queries"),
            StepRow(
                "l.attention.value.gradient", .bf16, ["N", "G D"], .attentionValueGradient, differentiated, .always,
                "Z2, of this layer's queries"),
            StepRow(
                "l.attention.query.gradient", .bf16, ["N", "H D"], .rotaryBackward,
                ["l.attention.query.rotated.gradient", "position"]),
            StepRow(
                "l.attention.key.total_gradient", .bf16, ["N", "G D"], .total, ["u.attention.key.rotated.gradient"],
                .ownKeys, "bf16 of the fp32 sum that begins with the first value, layers descending"),
            StepRow(
                "l.attention.key.gradient", .bf16, ["N", "G D"], .rotaryBackward,
                ["l.attention.key.total_gradient", "position"], .ownKeys),
            StepRow(
                "l.attention.value.total_gradient", .bf16, ["N", "G D"], .total, ["u.attention.value.gradient"],
                .ownKeys, "likewise"),
            StepRow(
                "gradient.l.attention.query", .fp32, ["C", "H D"], .weightGradient,
                ["l.attention.norm.output", "l.attention.query.gradient"]),
            StepRow(
                "gradient.l.attention.key", .fp32, ["C", "G D"], .weightGradient,
                ["l.attention.norm.output", "l.attention.key.gradient"], .ownKeys),
            StepRow(
                "gradient.l.attention.value", .fp32, ["C", "G D"], .weightGradient,
                ["l.attention.norm.output", "l.attention.value.total_gradient"], .ownKeys),
            StepRow(
                "l.attention.norm.output.gradient", .bf16, ["N", "C"], .inputGradient,
                [
                    "l.attention.query.gradient", "w(l.attention.query)", "l.attention.key.gradient",
                    "w(l.attention.key)", "l.attention.value.total_gradient", "w(l.attention.value)",
                ], .always,
                "bf16 of one composite chain (D4) over query, key and value parts, the last two with keys and values of the layer's own"
            ),
            StepRow(
                "gradient.l.attention.norm", .fp32, ["C"], .gainGradient,
                ["l.attention.norm.output.gradient", "stream before l"]),
            StepRow(
                "l.attention.stream.gradient", .bf16, ["N", "C"], .normGradient,
                ["l.attention.norm.output.gradient", "stream before l", "w(l.attention.norm)", "stream gradient"],
                .always, "bf16(fl(stream gradient + dx))"),
        ],
        after: [
            StepRow(
                "gradient.embedding", .fp32, ["V", "C"], .embeddingGradient,
                ["embedding.output_gradient", "stream gradient", "tokens"], .always,
                "fl(embedding.output_gradient + Embedding gradient)")
        ]
    )

    private static let attended = [
        "l.attention.query.rotated", "s.attention.key.rotated", "s.attention.value.output", "visibility",
    ]
    private static let differentiated =
        attended + [
            "l.attention.context.gradient", "l.attention.context", "l.attention.max", "l.attention.sum",
            "l.attention.z",
        ]

    /// The tables of clause T2.
    public static var markdown: String {
        let head = ["| tensor | format, shape | operation | of |", "|---|---|---|---|"]
        func table(_ title: String, _ rows: [StepRow]) -> [String] { [title, ""] + head + rows.map(\.line) + [""] }
        let lines =
            table("Forward:", forward.before) + table("for l = 0 ... L - 1:", forward.layer)
            + table("and then:", forward.after) + table("Backward:", backward.before)
            + table("for l = L - 1 ... 0:", backward.layer) + table("and last:", backward.after)
        return lines.joined(separator: "\n") + "\n"
    }
}

/// The forward and backward pass of one rank.
private struct Pass {
    let c: ModelConfiguration
    let rank: Int
    private(set) var entries: [StepPlan.Entry] = []
    /// The latest tensor of the residual stream, and of its gradient, without the rank.
    private var stream = ""
    private var streamGradient = ""

    init(_ c: ModelConfiguration, rank: Int) {
        self.c = c
        self.rank = rank
        for row in StepPlan.forward.before { add(row, nil) }
        for layer in 0..<c.layers { for row in StepPlan.forward.layer { add(row, layer) } }
        for row in StepPlan.forward.after { add(row, nil) }
        for row in StepPlan.backward.before { add(row, nil) }
        for layer in (0..<c.layers).reversed() { for row in StepPlan.backward.layer { add(row, layer) } }
        for row in StepPlan.backward.after { add(row, nil) }
    }

    private mutating func add(_ row: StepRow, _ layer: Int?) {
        guard isPresent(row.presence, layer) else { return }
        let name = expanded(row.name, layer)
        let own = name.hasPrefix("gradient.")
        entries.append(
            StepPlan.Entry(
                name: whole(name), type: row.type, shape: row.shape.map(size), operation: row.operation,
                inputs: row.inputs.flatMap { inputs($0, layer) }, rank: rank, layer: layer,
                isOutput: own && !c.combinesGradients))
        switch row.operation {
        case .embedding, .linearResidual: stream = name
        case .normGradient: streamGradient = name
        default: break
        }
    }

    private func isPresent(_ presence: StepRow.Presence, _ layer: Int?) -> Bool {
        switch presence {
        case .always: true
        case .ownKeys: layer.map { c.hasKeyValue(layer: $0) } ?? true
        case .clamp: c.clamp != .none
        case .int8: c.int8
        }
    }

    /// `l.` as `layers.N.`, wherever it begins a part of the name.
    private func expanded(_ name: String, _ layer: Int?) -> String {
        guard let layer else { return name }
        if name.hasPrefix("l.") { return "layers.\(layer).\(name.dropFirst(2))" }
        if name.hasPrefix("gradient.l.") { return "gradient.layers.\(layer).\(name.dropFirst("gradient.l.".count))" }
        return name
    }

    private func whole(_ name: String) -> String { c.ranks == 1 ? name : "rank.\(rank).\(name)" }

    private var sequences: Int { (rank + 1) * c.batch / c.ranks - rank * c.batch / c.ranks }

    private func size(_ letter: String) -> Int {
        switch letter {
        case "N": sequences * c.sequenceLength
        case "B": sequences
        case "T": c.sequenceLength
        case "C": c.width
        case "H": c.heads
        case "H D": c.heads * c.headDimension
        case "G D": c.keyValueHeads * c.headDimension
        case "F": c.feedForwardWidth
        case "V": c.vocabulary
        case "1": 1
        default: preconditionFailure("no size '\(letter)'")
        }
    }

    private func inputs(_ text: String, _ layer: Int?) -> [StepInput] {
        if text.hasPrefix("w(") {
            let name = expanded(String(text.dropFirst(2).dropLast()), layer)
            // A layer without keys and values of its own has none of their weights.
            if name.hasSuffix("attention.key") || name.hasSuffix("attention.value"),
                !isPresent(.ownKeys, layer)
            {
                return []
            }
            return [.weight(name)]
        }
        switch text {
        case "tokens", "targets", "position", "visibility": return [.batch(text)]
        case "stream": return [.tensor(whole(stream))]
        case "stream before l":
            let before = (layer ?? 0) - 1
            return [.tensor(whole(before < 0 ? "embedding.output" : "layers.\(before).mlp.residual"))]
        case "stream gradient": return [.tensor(whole(streamGradient))]
        case "l.mlp.limit" where c.clamp == .none: return []
        case "l.attention.key.gradient", "l.attention.value.total_gradient":
            return isPresent(.ownKeys, layer) ? [.tensor(whole(expanded(text, layer)))] : []
        default: break
        }
        if text.hasPrefix("s."), let layer {
            return [.tensor(whole("layers.\(c.keyValueSource(layer: layer)).\(text.dropFirst(2))"))]
        }
        if text.hasPrefix("u."), let layer {
            return (0..<c.layers).reversed().filter { c.keyValueSource(layer: $0) == layer }
                .map { .tensor(whole("layers.\($0).\(text.dropFirst(2))")) }
        }
        return [.tensor(whole(expanded(text, layer)))]
    }
}
