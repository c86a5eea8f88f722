/// The sequences of one step: B sequences of T tokens, row t = (b, i) in C order (clause T).
public struct TrainingBatch: Sendable, Hashable {
    /// What the model is to predict.
    public enum Targets: Sendable, Hashable {
        /// The next token [B, T]; -1 for none.
        case tokens([Int32])
        /// Soft targets of distillation (K4): ids and weights [B, T, k]; id 0xFFFFFFFF for an empty slot.
        case sparse(ids: [UInt32], weights: [Float])
    }

    /// [B, T]
    public let tokens: [Int32]
    public let targets: Targets
    /// Positions of the rotary embedding [B, T].
    public let positions: [Int32]
    /// By key, half-open [B, T] (V1).
    public let visibilityStart: [Int32]
    /// By key, half-open [B, T] (V1).
    public let visibilityLimit: [Int32]

    public init(
        tokens: [Int32], targets: Targets, positions: [Int32], visibilityStart: [Int32], visibilityLimit: [Int32]
    ) {
        self.tokens = tokens
        self.targets = targets
        self.positions = positions
        self.visibilityStart = visibilityStart
        self.visibilityLimit = visibilityLimit
    }

    /// The sequences `range` of the batch (T5), where each has `length` tokens and `k` soft targets a token.
    public func sequences(_ range: Range<Int>, length: Int, k: Int) -> TrainingBatch {
        let rows = range.lowerBound * length..<range.upperBound * length
        let slots = rows.lowerBound * k..<rows.upperBound * k
        let targets: Targets =
            switch targets {
            case .tokens(let tokens): .tokens(Array(tokens[rows]))
            case .sparse(let ids, let weights): .sparse(ids: Array(ids[slots]), weights: Array(weights[slots]))
            }
        return TrainingBatch(
            tokens: Array(tokens[rows]), targets: targets, positions: Array(positions[rows]),
            visibilityStart: Array(visibilityStart[rows]), visibilityLimit: Array(visibilityLimit[rows]))
    }

    /// Checks that every tensor has the size that the configuration demands.
    public func checkSizes(batch: Int, length: Int, k: Int) throws(TrainingError) {
        let rows = batch * length
        func check(_ name: String, _ count: Int, _ expected: Int) throws(TrainingError) {
            guard count == expected else { throw .count(name: name, count, expected: expected) }
        }
        try check("tokens", tokens.count, rows)
        try check("position", positions.count, rows)
        try check("visibility_start", visibilityStart.count, rows)
        try check("visibility_limit", visibilityLimit.count, rows)
        switch targets {
        case .tokens(let targets):
            guard k == 0 else { throw .targets("token targets beside distillation_k = \(k); expected soft targets") }
            try check("targets", targets.count, rows)
        case .sparse(let ids, let weights):
            guard k > 0 else { throw .targets("soft targets beside distillation_k = 0; expected token targets") }
            try check("target_ids", ids.count, rows * k)
            try check("target_weights", weights.count, rows * k)
        }
        for (row, position) in positions.enumerated() where !(0..<1 << 29).contains(position) {
            throw .position(row: row, position)
        }
    }
}

/// Why a step of training cannot be taken.
public enum TrainingError: Error, Sendable, CustomStringConvertible {
    /// A tensor with another number of elements than the configuration demands.
    case count(name: String, Int, expected: Int)
    /// Targets of the kind that the configuration does not have.
    case targets(String)
    /// A position outside 0 ..< 2^29 (E4).
    case position(row: Int, Int32)
    /// The gradient's norm is NaN or infinite; nothing was updated (T4).
    case gradientNorm(Float, step: Int)
    /// An operation of the step refused its input.
    case operation(name: String, any Error)

    public var description: String {
        switch self {
        case .count(let name, let count, let expected): "\(name) has \(count) elements, expected \(expected)"
        case .targets(let message): message
        case .position(let row, let position): "position \(position) at row \(row), expected 0 ..< 2^29"
        case .gradientNorm(let norm, let step):
            "the gradient's norm at step \(step) is \(norm), expected a finite number; nothing was updated"
        case .operation(let name, let error): "\(name): \(error)"
        }
    }
}
