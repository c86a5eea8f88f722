/// Every tensor of a training step in execution order: clauses T2, T5 and T4 as data.
///
/// The reference and the engine execute a step in code of their own; tests compare it with this list. Whatever looks at a step from outside
/// (the step verifier, `localise`, the recorder of goldens) walks the list. It describes and computes nothing.
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
        /// The parameter whose gradient, residual, moment or master it is; nil for any other tensor.
        public let parameter: String?
        public let record: Record
    }

    /// Where a golden case of training.step holds a tensor.
    public enum Record: Sendable, Hashable {
        /// Among the outputs, of the first step.
        case output
        /// Among the outputs, one element of every step.
        case everyStep
        /// Among the intermediates, of the first step.
        case intermediate
    }

    public let configuration: ModelConfiguration
    public let entries: [Entry]
    private let places: [String: Int]

    /// The step of a configuration.
    public init(_ configuration: ModelConfiguration) {
        self.configuration = configuration
        var expansion = Expansion(configuration)
        for rank in 0..<configuration.ranks { expansion.add(Self.pass, rank: rank) }
        expansion.add(Self.together, rank: nil)
        entries = expansion.entries
        places = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.name, $0) })
    }

    /// The tensor of that name; nil if no step of the configuration has it.
    public subscript(name: String) -> Entry? { place(of: name).map { entries[$0] } }

    /// The index of a tensor in ``entries``; nil if no step of the configuration has it.
    public func place(of name: String) -> Int? { places[name] }
}

/// What a tensor of a step is made of.
public enum StepInput: Sendable, Hashable {
    /// An earlier tensor of the step.
    case tensor(String)
    /// The bf16 rounding of a parameter's master, by the parameter's name.
    case weight(String)
    /// Of the batch: `tokens`, `targets` (with distillation ids and weights), `position`, `visibility`.
    case batch(String)
    /// Of the state before the step: `weight.NAME`, `m.NAME`, `v.NAME`, `residual.NAME` of a parameter.
    case state(String)
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
    /// the losses of the ranks
    case meanOfRanks = "All-reduce, mean"
    /// the gradients of the ranks, residual where there is one
    case reduced = "All-reduce"
    case residual = "All-reduce, residual"
    /// of nothing but the step's number
    case learningRate = "Learning rate"
    /// the combined gradients in parameter order
    case gradientNorm = "Gradient norm"
    /// gradient, norm, m
    case firstMoment = "AdamW, m"
    /// gradient, norm, v
    case secondMoment = "AdamW, v"
    /// gradient, norm, learning rate, m, v, master
    case weight = "AdamW, w"
}

/// A row of T2's tables: one tensor for each rank, for each rank and layer, or for each parameter.
public struct StepRow: Sendable, Hashable {
    /// `l.` stands for `layers.l.`, a last `p` for a parameter's name.
    public let name: String
    public let type: ElementType
    /// Letters: N = B T rows; H D, G D as one size each; `p` for a parameter's shape, `count p` for the number of its elements; W ranks.
    public let shape: [String]
    public let operation: StepOperation
    /// Names of tensors, `l.` for this layer; `w(NAME)` a weight; `stream` and `stream gradient` the latest of the residual stream; `s.` the layer
    /// whose keys and values this one uses; `u.` every layer that uses this one's; `r.` every rank; `combined.p` the gradient of a parameter that
    /// all ranks use, outside the parameters' tables that of every one; `before(NAME)` of the state before the step; `tokens`, `targets`,
    /// `position` and `visibility` of the batch. What the configuration does not have is left out.
    public let inputs: [String]
    public let presence: Presence
    public let note: String

    /// When a row is present.
    public enum Presence: String, Sendable, CaseIterable {
        case always = ""
        case ownKeys = "layers with keys and values of their own"
        case clamp = "absent with clamp none"
        case int8 = "with int8"
        case ranks = "with several ranks"
        case combined = "with several ranks or a compression"
        case errorFeedback = "with error feedback"
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

/// One of T2's tables: rows that follow each other once, or once for each layer or parameter.
public struct StepSection: Sendable, Hashable {
    /// What its rows are repeated for.
    public enum Repetition: Sendable, Hashable {
        case none, layers, layersDescending, parameters
    }

    /// Before the table in the specification.
    public let title: String
    public let repetition: Repetition
    public let rows: [StepRow]

    init(_ title: String, _ repetition: Repetition, _ rows: [StepRow]) {
        self.title = title
        self.repetition = repetition
        self.rows = rows
    }
}

extension StepPlan {
    /// The forward and backward pass of a rank (T2).
    public static let pass: [StepSection] = forward + backward

    private static let forward = [
        StepSection(
            "Forward:", .none,
            [StepRow("embedding.output", .bf16, ["N", "C"], .embedding, ["tokens", "w(embedding)"])]),
        StepSection(
            "for l = 0 ... L - 1:", .layers,
            [
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
                    "l.mlp.up.output", .bf16, ["N", "F"], .linear, ["l.mlp.norm.output", "w(l.mlp.up)"], .always, "bf16"
                ),
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
            ]),
        StepSection(
            "and then:", .none,
            [
                StepRow("norm.output", .bf16, ["N", "C"], .rmsNorm, ["stream", "w(norm)"]),
                StepRow(
                    "logits", .fp32, ["N", "V"], .linearTransposed, ["norm.output", "w(embedding)"], .always,
                    "dot(norm.output_t, row v of the embedding) over C"),
                StepRow("loss.max", .fp32, ["N"], .lossMax, ["logits"]),
                StepRow("loss.sum", .fp32, ["N"], .lossSum, ["logits"]),
                StepRow("loss.z", .fp32, ["N"], .lossZ, ["logits"]),
                StepRow("loss", .fp32, ["1"], .loss, ["logits", "loss.z", "targets"]),
            ]),
    ]

    private static let backward = [
        StepSection(
            "Backward:", .none,
            [
                StepRow(
                    "logits.gradient", .bf16, ["N", "V"], .logitsGradient,
                    ["logits", "loss.max", "loss.sum", "loss.z", "targets"]),
                StepRow(
                    "norm.output.gradient", .bf16, ["N", "C"], .inputGradientTransposed,
                    ["logits.gradient", "w(embedding)"], .always,
                    "bf16(dot(dlogits_t, column c of the embedding) over V)"),
                StepRow(
                    "embedding.output_gradient", .fp32, ["V", "C"], .weightGradient,
                    ["logits.gradient", "norm.output"],
                    .always, "chain over (b, i) of dlogits[t, v] * norm.output[t, c]"),
                StepRow("gradient.norm", .fp32, ["C"], .gainGradient, ["norm.output.gradient", "stream"]),
                StepRow(
                    "stream.gradient", .bf16, ["N", "C"], .normGradient, ["norm.output.gradient", "stream", "w(norm)"],
                    .always, "bf16 of dx"),
            ]),
        StepSection(
            "for l = L - 1 ... 0:", .layersDescending,
            [
                StepRow(
                    "gradient.l.mlp.down", .fp32, ["F", "C"], .weightGradient, ["l.mlp.activation", "stream gradient"]),
                StepRow(
                    "l.mlp.up.gradient", .bf16, ["N", "F"], .activationGradient,
                    ["stream gradient", "w(l.mlp.down)", "l.mlp.up.output", "l.mlp.limit"], .always,
                    "da = dot(dy_t, row of down) in fp32; C4 on y = ReLU^2(up.output); ReLU^2 backward; bf16"),
                StepRow(
                    "gradient.l.mlp.up", .fp32, ["C", "F"], .weightGradient, ["l.mlp.norm.output", "l.mlp.up.gradient"]),
                StepRow(
                    "l.mlp.norm.output.gradient", .bf16, ["N", "C"], .inputGradient,
                    ["l.mlp.up.gradient", "w(l.mlp.up)"],
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
            ]),
        StepSection(
            "and last:", .none,
            [
                StepRow(
                    "gradient.embedding", .fp32, ["V", "C"], .embeddingGradient,
                    ["embedding.output_gradient", "stream gradient", "tokens"], .always,
                    "fl(embedding.output_gradient + Embedding gradient)")
            ]),
    ]

    /// What follows the passes of all ranks: the combined gradients (T5) and the update (T4).
    public static let together = [
        StepSection(
            "All ranks together (T5):", .none,
            [
                StepRow("loss", .fp32, ["1"], .meanOfRanks, ["r.loss"], .ranks)
            ]),
        StepSection(
            "for each parameter p:", .parameters,
            [
                StepRow("reduced.p", .fp32, ["p"], .reduced, ["r.gradient.p", "before(residual.p)"], .combined),
                StepRow(
                    "residual.p", .fp32, ["W", "count p"], .residual, ["r.gradient.p", "before(residual.p)"],
                    .errorFeedback
                ),
            ]),
        StepSection(
            "The update (T4):", .none,
            [
                StepRow("learning_rate", .fp32, ["1"], .learningRate, []),
                StepRow("gradient_norm", .fp32, ["1"], .gradientNorm, ["combined.p"]),
            ]),
        StepSection(
            "for each parameter p:", .parameters,
            [
                StepRow("m.p", .fp32, ["p"], .firstMoment, ["combined.p", "gradient_norm", "before(m.p)"]),
                StepRow("v.p", .fp32, ["p"], .secondMoment, ["combined.p", "gradient_norm", "before(v.p)"]),
                StepRow(
                    "weight.p", .fp32, ["p"], .weight,
                    [
                        "combined.p", "gradient_norm", "learning_rate", "before(m.p)", "before(v.p)",
                        "before(weight.p)",
                    ]),
            ]),
    ]

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
        let lines = (pass + together).flatMap { [$0.title, ""] + head + $0.rows.map(\.line) + [""] }
        return lines.joined(separator: "\n") + "\n"
    }
}

/// T2's tables expanded for one configuration.
private struct Expansion {
    let c: ModelConfiguration
    let parameters: [ModelConfiguration.Parameter]
    private let weights: Set<String>
    private(set) var entries: [StepPlan.Entry] = []
    /// The presence of every row by its name; that of the pass for a name that both have.
    private let presence: [String: StepRow.Presence]
    /// The latest tensor of the residual stream and of its gradient, without the rank.
    private var stream = ""
    private var streamGradient = ""

    init(_ c: ModelConfiguration) {
        self.c = c
        parameters = c.parameters
        weights = Set(parameters.map(\.name))
        let rows = (StepPlan.pass + StepPlan.together).flatMap(\.rows)
        presence = Dictionary(rows.map { ($0.name, $0.presence) }, uniquingKeysWith: { first, _ in first })
    }

    /// Where a row stands: the rank of its pass, and what its section is repeated for.
    private struct Site {
        var rank: Int?
        var layer: Int?
        var parameter: ModelConfiguration.Parameter?
    }

    mutating func add(_ sections: [StepSection], rank: Int?) {
        for section in sections {
            let sites: [Site] =
                switch section.repetition {
                case .none: [Site(rank: rank)]
                case .layers: (0..<c.layers).map { Site(rank: rank, layer: $0) }
                case .layersDescending: (0..<c.layers).reversed().map { Site(rank: rank, layer: $0) }
                case .parameters: parameters.map { Site(rank: rank, parameter: $0) }
                }
            for site in sites { for row in section.rows { add(row, site) } }
        }
    }

    private mutating func add(_ row: StepRow, _ site: Site) {
        guard isPresent(row.presence, site.layer) else { return }
        let name = expanded(row.name, site)
        let gradient = name.hasPrefix("gradient.") ? String(name.dropFirst("gradient.".count)) : nil
        entries.append(
            StepPlan.Entry(
                name: whole(name, site.rank), type: row.type, shape: row.shape.flatMap { sizes($0, site) },
                operation: row.operation, inputs: row.inputs.flatMap { inputs($0, site) }, rank: site.rank,
                layer: site.layer, parameter: gradient ?? site.parameter?.name, record: record(row, gradient != nil)))
        switch row.operation {
        case .embedding, .linearResidual: stream = name
        case .normGradient: streamGradient = name
        default: break
        }
    }

    private func record(_ row: StepRow, _ isGradient: Bool) -> StepPlan.Record {
        switch row.operation {
        case .reduced, .residual, .firstMoment, .secondMoment, .weight: .output
        case .loss where c.ranks == 1: .everyStep
        case .meanOfRanks, .gradientNorm: .everyStep
        default: isGradient && !c.combinesGradients ? .output : .intermediate
        }
    }

    private func isPresent(_ presence: StepRow.Presence, _ layer: Int?) -> Bool {
        switch presence {
        case .always: true
        case .ownKeys: layer.map { c.hasKeyValue(layer: $0) } ?? true
        case .clamp: c.clamp != .none
        case .int8: c.int8
        case .ranks: c.ranks > 1
        case .combined: c.combinesGradients
        case .errorFeedback: c.usesErrorFeedback
        }
    }

    /// A row's name, or one that it refers to, with the layer and the parameter written out.
    private func expanded(_ name: String, _ site: Site) -> String {
        if let parameter = site.parameter, name.hasSuffix(".p") { return String(name.dropLast()) + parameter.name }
        guard let layer = site.layer else { return name }
        for prefix in ["", "gradient."] where name.hasPrefix(prefix + "l.") {
            return "\(prefix)layers.\(layer).\(name.dropFirst(prefix.count + 2))"
        }
        return name
    }

    private func whole(_ name: String, _ rank: Int?) -> String {
        if let rank, c.ranks > 1 { "rank.\(rank).\(name)" } else { name }
    }

    private func sizes(_ letter: String, _ site: Site) -> [Int] {
        let rank = site.rank ?? 0
        let sequences = (rank + 1) * c.batch / c.ranks - rank * c.batch / c.ranks
        return switch letter {
        case "N": [sequences * c.sequenceLength]
        case "B": [sequences]
        case "T": [c.sequenceLength]
        case "C": [c.width]
        case "H": [c.heads]
        case "H D": [c.heads * c.headDimension]
        case "G D": [c.keyValueHeads * c.headDimension]
        case "F": [c.feedForwardWidth]
        case "V": [c.vocabulary]
        case "W": [c.ranks]
        case "p": site.parameter?.shape ?? []
        case "count p": [site.parameter?.count ?? 0]
        case "1": [1]
        default: preconditionFailure("no size '\(letter)'")
        }
    }

    private func inputs(_ text: String, _ site: Site) -> [StepInput] {
        func tensor(_ name: String) -> StepInput { .tensor(whole(name, site.rank)) }
        func argument(of function: String) -> String? {
            text.hasPrefix(function + "(") ? expanded(String(text.dropFirst(function.count + 1).dropLast()), site) : nil
        }
        if let name = argument(of: "w") { return weights.contains(name) ? [.weight(name)] : [] }
        if let name = argument(of: "before") {
            return name.hasPrefix("residual.") && !c.usesErrorFeedback ? [] : [.state(name)]
        }
        let (first, rest) = (text.prefix { $0 != "." }, String(text.drop { $0 != "." }.dropFirst()))
        switch (text, first) {
        case ("tokens", _), ("targets", _), ("position", _), ("visibility", _): return [.batch(text)]
        case ("stream", _): return [tensor(stream)]
        case ("stream gradient", _): return [tensor(streamGradient)]
        case ("stream before l", _):
            let layer = site.layer ?? 0
            return [tensor(layer == 0 ? "embedding.output" : "layers.\(layer - 1).mlp.residual")]
        case ("combined.p", _):
            let combined = c.combinesGradients ? "reduced." : "gradient."
            return (site.parameter.map { [$0] } ?? parameters).map { tensor(combined + $0.name) }
        case (_, "r"): return (0..<c.ranks).map { .tensor(whole(expanded(rest, site), $0)) }
        case (_, "s"): return [tensor("layers.\(c.keyValueSource(layer: site.layer ?? 0)).\(rest)")]
        case (_, "u"):
            return (0..<c.layers).reversed().filter { c.keyValueSource(layer: $0) == site.layer }
                .map { tensor("layers.\($0).\(rest)") }
        default: return isPresent(presence[text] ?? .always, site.layer) ? [tensor(expanded(text, site))] : []
        }
    }
}
