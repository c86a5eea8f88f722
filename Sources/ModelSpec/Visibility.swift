/// Which query sees which key: two integers a token (clause V1).
///
/// Start and limit are half-open intervals: by query [B, Q] of keys, by key [B, T] of absolute query positions. Query row i
/// stands at the position `queryOffset` + i.
public struct Visibility: Sendable, Hashable {
    /// The kinds of masks that document lengths make (V2).
    public enum Kind: String, Sendable, CaseIterable {
        case causal, full, prefix, window, documents
    }

    public let orientation: MaskOrientation
    /// B
    public let batch: Int
    /// Q
    public let queries: Int
    /// T
    public let keys: Int
    /// The absolute position of query row 0: not 0 when decoding with a cache.
    public let queryOffset: Int
    /// By key only: a query sees the last `window` positions, its own included (V2). nil for no window.
    public let window: Int?
    /// [B, Q] by query, [B, T] by key.
    public let start: [Int32]
    public let limit: [Int32]

    /// - Throws: ``VisibilityError`` for sizes that do not fit, a window beside a by-query mask, and an interval that is not valid (V4).
    public init(
        orientation: MaskOrientation, batch: Int, queries: Int, keys: Int, start: [Int32], limit: [Int32],
        queryOffset: Int = 0, window: Int? = nil
    ) throws(VisibilityError) {
        let tokens = orientation == .byQuery ? queries : keys
        guard start.count == batch * tokens, limit.count == batch * tokens else {
            throw .count(start: start.count, limit: limit.count, expected: batch * tokens)
        }
        if let window {
            guard orientation == .byKey else { throw .windowByQuery(window) }
            guard window >= 1 else { throw .window(window) }
        }
        // V4
        let length = orientation == .byQuery ? keys : queryOffset + queries
        for index in 0..<batch * tokens {
            guard 0 <= start[index], start[index] <= limit[index], Int(limit[index]) <= length else {
                throw .interval(
                    batch: index / tokens, token: index % tokens, start: start[index], limit: limit[index],
                    length: length)
            }
        }
        self.orientation = orientation
        self.batch = batch
        self.queries = queries
        self.keys = keys
        self.queryOffset = queryOffset
        self.window = window
        self.start = start
        self.limit = limit
    }

    /// Whether query row `query` attends key `key` (V1, V2).
    public func isVisible(batch: Int, query: Int, key: Int) -> Bool {
        switch orientation {
        case .byQuery:
            let index = batch * queries + query
            return start[index] <= key && key < limit[index]
        case .byKey:
            let index = batch * keys + key
            let position = queryOffset + query
            if let window, position - key >= window { return false }
            return start[index] <= position && position < limit[index]
        }
    }
}

/// What is no visibility mask.
public enum VisibilityError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The tensors have other numbers of elements than the sizes demand.
    case count(start: Int, limit: Int, expected: Int)
    /// A window beside a by-query mask belongs in its start (V2).
    case windowByQuery(Int)
    /// A window below 1.
    case window(Int)
    /// Not 0 <= start <= limit <= length (V4).
    case interval(batch: Int, token: Int, start: Int32, limit: Int32, length: Int)

    public var description: String {
        switch self {
        case .count(let start, let limit, let expected):
            "visibility_start has \(start) and visibility_limit \(limit) elements, expected \(expected)"
        case .windowByQuery(let window):
            "window \(window) beside a by-query mask; expected it in visibility_start"
        case .window(let window): "window \(window), expected at least 1"
        case .interval(let batch, let token, let start, let limit, let length):
            "batch \(batch), token \(token): visibility [\(start), \(limit)), expected 0 <= start <= limit <= \(length)"
        }
    }
}
