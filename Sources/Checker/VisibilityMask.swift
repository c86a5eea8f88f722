import Cases

/// Which key each query of a case sees: its `mask`, or what its intervals say (V1).
public struct VisibilityMask: Sendable {
    public let batch: Int
    public let queries: Int
    public let keys: Int
    private let source: Source

    /// Of masks and intervals that are held in memory.
    private static let mostCells = 1 << 24

    private enum Source {
        /// [B, Q, T]
        case dense([UInt64])
        case intervals(start: [Int], limit: [Int], tokens: Int, isByQuery: Bool, offset: Int, window: Int)
    }

    /// - Returns: nil if the case has no mask, or one whose shapes do not fit.
    public init?(_ goldenCase: GoldenCase) throws { try self.init(CaseView(goldenCase)) }

    init?(_ one: CaseView) throws {
        if let mask = one[.outputs, "mask"], mask.shape.count == 3 {
            guard mask.count <= Self.mostCells else { return nil }
            (batch, queries, keys) = (mask.shape[0], mask.shape[1], mask.shape[2])
            source = .dense(try mask.words(0..<mask.count))
            return
        }
        func tensor(_ name: String) -> (any TensorSource)? { one[.outputs, name] ?? one[.inputs, name] }
        guard let start = tensor("visibility_start"), let limit = tensor("visibility_limit"), start.type == .int32,
            limit.type == .int32, start.shape == limit.shape, let tokens = start.shape.last,
            start.count <= Self.mostCells
        else { return nil }
        func size(_ name: String, _ axis: Int) -> Int? {
            one[.inputs, name].flatMap { $0.shape.count == 4 ? $0.shape[axis] : nil }
        }
        // visibility.build gives intervals by query; what says nothing is by key.
        let isBuilt = one.op == "visibility.build"
        let isByQuery = one.string("orientation").map { $0 == "by-query" } ?? isBuilt
        batch = tokens == 0 ? 0 : start.count / tokens
        queries = size("q", 2) ?? one.integer("queries") ?? tokens
        keys = size("k", 2) ?? one.integer("keys") ?? tokens
        guard (isByQuery ? queries : keys) == tokens, queries >= 0, keys >= 0, queries <= Int(Int32.max),
            keys <= Int(Int32.max)
        else { return nil }
        func integers(_ tensor: any TensorSource) throws -> [Int] {
            try tensor.words(0..<tensor.count).map { Int(Int32(truncatingIfNeeded: $0)) }
        }
        source = .intervals(
            start: try integers(start), limit: try integers(limit), tokens: tokens, isByQuery: isByQuery,
            offset: min(max(one.integer("query_offset") ?? 0, 0), 1 << 40),
            window: isBuilt ? .max : one.integer("window") ?? .max)
    }

    /// Whether query `i` sees key `j`.
    /// - Precondition: all are in range.
    public func isVisible(_ b: Int, _ i: Int, _ j: Int) -> Bool {
        switch source {
        case .dense(let cells): return cells[(b * queries + i) * keys + j] != 0
        case .intervals(let start, let limit, let tokens, let isByQuery, let offset, let window):
            let index = b * tokens + (isByQuery ? i : j)
            let cell = isByQuery ? j : offset + i
            return start[index] <= cell && cell < limit[index] && (isByQuery || offset + i - j < window)
        }
    }
}

/// A mask folded to at most ``mostCells`` cells a side: the share of each cell that is visible.
public struct MaskPicture: Sendable, Hashable {
    public static let mostCells = 96

    public let queries: Int
    public let keys: Int
    public let cellRows: Int
    public let cellColumns: Int
    /// [cellRows, cellColumns], 0 to 1.
    public let visible: [Double]

    /// The first batch entry; nil if it has no cells.
    init?(_ mask: VisibilityMask) {
        guard mask.batch > 0, mask.queries > 0, mask.keys > 0 else { return nil }
        (queries, keys) = (mask.queries, mask.keys)
        (cellRows, cellColumns) = (min(queries, Self.mostCells), min(keys, Self.mostCells))
        var counts = [Int](repeating: 0, count: cellRows * cellColumns)
        var cells = counts
        // Of a large mask some queries and keys stand for all.
        for i in stride(from: 0, to: queries, by: max(1, queries / 4096)) {
            for j in stride(from: 0, to: keys, by: max(1, keys / 4096)) {
                let cell = i * cellRows / queries * cellColumns + j * cellColumns / keys
                cells[cell] += 1
                if mask.isVisible(0, i, j) { counts[cell] += 1 }
            }
        }
        visible = zip(counts, cells).map { Double($0) / Double(max(1, $1)) }
    }
}
