import ModelSpec

/// What cannot be made into a visibility mask, or a mask into something else.
public enum VisibilityBuildError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A document or node without tokens.
    case length(index: Int, Int32)
    /// More tokens than a 32-bit position can count.
    case tooLong(Int)
    /// A window below 1.
    case window(Int)
    /// A prefix below 0.
    case prefix(document: Int, Int32)
    /// Lists of different lengths.
    case count(name: String, Int, expected: Int)
    /// A parent that is not -1 and not an earlier node.
    case parent(node: Int, Int32)
    /// A parent that is earlier but not an ancestor of the node before: the order is not depth-first.
    case notDepthFirst(node: Int, parent: Int32)
    /// A row (of queries) or column (of keys) whose visible cells are not one interval.
    case notAnInterval(batch: Int, token: Int, MaskOrientation)
    /// Cumulative lengths that do not begin at 0, do not rise, or a mask that no documents make.
    case cumulativeLengths(String)
    /// A key whose mask FlashMask's bounds do not express, or bounds that express no interval.
    case columnBounds(batch: Int, key: Int, String)

    public var description: String {
        switch self {
        case .length(let index, let length): "length \(length) at index \(index), expected at least 1"
        case .tooLong(let count): "\(count) tokens, expected fewer than 2^31"
        case .window(let window): "window \(window), expected at least 1"
        case .prefix(let document, let prefix): "prefix \(prefix) of document \(document), expected 0 or more"
        case .count(let name, let count, let expected): "\(name) has \(count) entries, expected \(expected)"
        case .parent(let node, let parent):
            "node \(node) has the parent \(parent), expected -1 or an earlier node"
        case .notDepthFirst(let node, let parent):
            "node \(node) with parent \(parent) is not in depth-first order: the parent's subtree has ended"
        case .notAnInterval(let batch, let token, let orientation):
            "batch \(batch), \(orientation == .byQuery ? "query" : "key") \(token): the visible cells are not one interval"
        case .cumulativeLengths(let message): message
        case .columnBounds(let batch, let key, let message): "batch \(batch), key \(key): \(message)"
        }
    }
}

extension Visibility {
    /// An interval a token: by query of keys, or by key of queries.
    public struct Intervals: Sendable, Hashable {
        public var start: [Int32] = []
        public var limit: [Int32] = []
    }

    /// The kinds of masks that document lengths make (V2).
    public enum Kind: String, Sendable, CaseIterable {
        case causal, full, prefix, window, documents
    }

    // MARK: - Documents (V2)

    /// By-query intervals of documents end to end: for token t of the document [a, b) `causal` and `documents` [a, t + 1), `full` [a, b), `prefix` [a, max(t + 1, a +
    /// min(prefix, b - a))), `window` [max(a, t - window + 1), t + 1).
    ///
    /// - Parameters:
    ///   - lengths: of the documents, each at least 1.
    ///   - prefixes: for `prefix`, one for each document; a longer one than its document means the document.
    ///   - window: for `window`, at least 1.
    /// - Throws: ``/Reference/VisibilityBuildError``.
    public static func byQuery(
        _ kind: Kind, lengths: [Int32], prefixes: [Int32] = [], window: Int = 1
    ) throws(VisibilityBuildError) -> Intervals {
        try checkLengths(lengths)
        if kind == .prefix && prefixes.count != lengths.count {
            throw .count(name: "prefix", prefixes.count, expected: lengths.count)
        }
        if kind == .window && window < 1 { throw .window(window) }
        var intervals = Intervals()
        var a: Int32 = 0
        for (document, length) in lengths.enumerated() {
            let b = a + length
            if kind == .prefix && prefixes[document] < 0 {
                throw .prefix(document: document, prefixes[document])
            }
            for t in a..<b {
                switch kind {
                case .causal, .documents:
                    intervals.append(a, t + 1)
                case .full:
                    intervals.append(a, b)
                case .prefix:
                    intervals.append(a, max(t + 1, a + min(prefixes[document], length)))
                case .window:
                    intervals.append(Int32(max(Int(a), Int(t) - window + 1)), t + 1)
                }
            }
            a = b
        }
        return intervals
    }

    /// By-key intervals of documents end to end: token t of [a, b) is seen by [t, b), or by [a, b) where `bidirectional`.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError``.
    public static func byKey(
        lengths: [Int32], bidirectional: Bool = false
    ) throws(VisibilityBuildError) -> Intervals {
        try checkLengths(lengths)
        var intervals = Intervals()
        var a: Int32 = 0
        for length in lengths {
            for t in a..<a + length { intervals.append(bidirectional ? a : t, a + length) }
            a += length
        }
        return intervals
    }

    // MARK: - Trees (V2)

    /// A document tree as by-key intervals, and where each token stands on its path from the root.
    public struct Tree: Sendable, Hashable {
        /// [tokens]: token t of node n is seen from t on.
        public let start: [Int32]
        /// [tokens]: the end of n's subtree.
        public let limit: [Int32]
        /// [tokens]: the tokens of the ancestors, then of the node before it.
        public let positions: [Int32]
    }

    /// V2: nodes in depth-first order, each with its parent's index (-1: a root) and its length. Token t of node n is seen by [t, end of n's
    /// subtree): by the later tokens of its node and by all descendants, never by a sibling. Several roots are several trees.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError`` for a parent that is no earlier node (so for every cycle), an order that is not depth-first, a
    ///   length below 1.
    public static func tree(parents: [Int32], lengths: [Int32]) throws(VisibilityBuildError) -> Tree {
        guard parents.count == lengths.count else {
            throw .count(name: "length", lengths.count, expected: parents.count)
        }
        try checkLengths(lengths)
        // The nodes from a root to the node before, and each node's first token, first position and subtree's end.
        var path: [Int32] = []
        var first: [Int32] = []
        var position: [Int32] = []
        var end: [Int32] = []
        var next: Int32 = 0
        for (node, parent) in parents.enumerated() {
            guard parent >= -1, parent < node else { throw .parent(node: node, parent) }
            while let last = path.last, last != parent {
                end[Int(last)] = next
                path.removeLast()
            }
            guard parent == -1 || path.last == parent else { throw .notDepthFirst(node: node, parent: parent) }
            first.append(next)
            position.append(parent == -1 ? 0 : position[Int(parent)] + lengths[Int(parent)])
            end.append(next)
            path.append(Int32(node))
            next += lengths[node]
        }
        for node in path { end[Int(node)] = next }
        var (start, limit, positions): ([Int32], [Int32], [Int32]) = ([], [], [])
        for node in parents.indices {
            for offset in 0..<lengths[node] {
                start.append(first[node] + offset)
                limit.append(end[node])
                positions.append(position[node] + offset)
            }
        }
        return Tree(start: start, limit: limit, positions: positions)
    }

    /// Draft branches that are decoded together after a cache of `cached` tokens (V2): by-key intervals and positions of all keys, the cached
    /// ones first; the queries are the drafts' tokens alone, at `queryOffset` = `cached`. Every draft sees the whole cache; the drafts
    /// are a tree among themselves, whose roots continue the cache.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError``.
    public static func drafts(
        cached: Int32, parents: [Int32], lengths: [Int32]
    ) throws(VisibilityBuildError) -> Tree {
        let drafts = try tree(parents: parents, lengths: lengths)
        let total = Int(cached) + drafts.start.count
        guard cached >= 0, total <= Int(Int32.max) else { throw .tooLong(total) }
        return Tree(
            start: Array(0..<cached) + drafts.start.map { cached + $0 },
            limit: [Int32](repeating: Int32(total), count: Int(cached)) + drafts.limit.map { cached + $0 },
            positions: Array(0..<cached) + drafts.positions.map { cached + $0 })
    }

    // MARK: - Dense masks (V3)

    /// [B, Q, T] as 1 where the query attends the key, else 0.
    public var dense: [UInt8] {
        var mask: [UInt8] = []
        mask.reserveCapacity(batch * queries * keys)
        for b in 0..<batch {
            for i in 0..<queries {
                for j in 0..<keys { mask.append(isVisible(batch: b, query: i, key: j) ? 1 : 0) }
            }
        }
        return mask
    }

    /// The mask of a dense one [B, Q, T]: by query each row's visible cells must be one interval, by key each column's. An empty row or column
    /// is [0, 0).
    ///
    /// - Throws: ``/Reference/VisibilityBuildError/notAnInterval(batch:token:_:)``, naming the first.
    public init(
        dense mask: [UInt8], orientation: MaskOrientation, batch: Int, queries: Int, keys: Int, queryOffset: Int = 0
    ) throws(VisibilityBuildError) {
        guard mask.count == batch * queries * keys else {
            throw .count(name: "mask", mask.count, expected: batch * queries * keys)
        }
        var intervals = Intervals()
        let (tokens, cells) = orientation == .byQuery ? (queries, keys) : (keys, queries)
        for b in 0..<batch {
            for token in 0..<tokens {
                func isVisible(_ cell: Int) -> Bool {
                    let (i, j) = orientation == .byQuery ? (token, cell) : (cell, token)
                    return mask[(b * queries + i) * keys + j] != 0
                }
                let visible = (0..<cells).filter(isVisible)
                guard let first = visible.first, let last = visible.last else {
                    intervals.append(0, 0)
                    continue
                }
                guard last - first + 1 == visible.count else {
                    throw .notAnInterval(batch: b, token: token, orientation)
                }
                let offset = orientation == .byKey ? queryOffset : 0
                intervals.append(Int32(first + offset), Int32(last + 1 + offset))
            }
        }
        do {
            try self.init(
                orientation: orientation, batch: batch, queries: queries, keys: keys, start: intervals.start,
                limit: intervals.limit, queryOffset: queryOffset)
        } catch {
            throw .cumulativeLengths("\(error)")
        }
    }

    // MARK: - Cumulative document lengths (V3)

    /// The lengths between cumulative ones, 0 first: what variable-length kernels call cu_seqlens.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError/cumulativeLengths(_:)`` unless they begin at 0 and rise.
    public static func lengths(cumulative: [Int32]) throws(VisibilityBuildError) -> [Int32] {
        guard cumulative.first == 0 else {
            throw .cumulativeLengths(
                "cumulative lengths begin at \(cumulative.first.map(String.init) ?? "nothing"), expected 0")
        }
        var lengths: [Int32] = []
        for index in 1..<max(1, cumulative.count) {
            guard cumulative[index] > cumulative[index - 1] else {
                throw .cumulativeLengths(
                    "cumulative length \(cumulative[index]) at index \(index), expected more than \(cumulative[index - 1])"
                )
            }
            lengths.append(cumulative[index] - cumulative[index - 1])
        }
        return lengths
    }

    /// The cumulative lengths of the causal documents that make the mask of one batch entry.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError/cumulativeLengths(_:)`` if the mask is not that of causal documents end to end.
    public func cumulativeLengths(batch b: Int = 0) throws(VisibilityBuildError) -> [Int32] {
        guard queries == keys, queryOffset == 0, window == nil else {
            throw .cumulativeLengths(
                "a mask with a window, an offset or other queries than keys has no cumulative lengths")
        }
        var cumulative: [Int32] = [0]
        // A document begins where a token does not see the one before it.
        for token in 1..<max(1, keys) where !isVisible(batch: b, query: token, key: token - 1) {
            cumulative.append(Int32(token))
        }
        if keys > 0 { cumulative.append(Int32(keys)) }
        let expected = try Visibility.byQuery(.documents, lengths: try Visibility.lengths(cumulative: cumulative))
        for i in 0..<queries {
            for j in 0..<keys
            where isVisible(batch: b, query: i, key: j) != (expected.start[i] <= j && j < expected.limit[i]) {
                throw .cumulativeLengths("query \(i), key \(j): not the mask of causal documents end to end")
            }
        }
        return cumulative
    }

    // MARK: - FlashMask (V3)

    /// FlashMask's bounds a key column, [B, T, 2]: query rows at or below `lowerStart` and above `upperEnd` are masked, LTS and UTE (Wang et al. 2024). Rows count
    /// from the first query.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError/columnBounds(batch:key:_:)`` for a by-query mask whose columns are not intervals.
    public func columnBounds() throws(VisibilityBuildError) -> [Int32] {
        var bounds: [Int32] = []
        for b in 0..<batch {
            for j in 0..<keys {
                let visible = (0..<queries).filter { isVisible(batch: b, query: $0, key: j) }
                guard let first = visible.first, let last = visible.last else {
                    // Nothing is left between the two: everything below row 0 is masked.
                    bounds += [0, 0]
                    continue
                }
                guard last - first + 1 == visible.count else {
                    throw .columnBounds(batch: b, key: j, "the visible queries are not one interval")
                }
                bounds += [Int32(last + 1), Int32(first)]
            }
        }
        return bounds
    }

    /// The by-key mask of FlashMask's bounds: [B, T, 1] LTS, or [B, T, 2] LTS and UTE, or [B, T, 4] LTS, LTE, UTS, UTE; with `causal` no query sees a later key.
    /// Rows from LTS to LTE (to the end without LTE) and from UTS (from 0 without) to UTE are masked; what is left must be one interval.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError/columnBounds(batch:key:_:)``.
    public init(
        columnBounds: [Int32], perColumn: Int, causal: Bool, batch: Int, queries: Int, keys: Int
    ) throws(VisibilityBuildError) {
        guard [1, 2, 4].contains(perColumn), columnBounds.count == batch * keys * perColumn else {
            throw .count(name: "column bounds", columnBounds.count, expected: batch * keys * perColumn)
        }
        var intervals = Intervals()
        for b in 0..<batch {
            for j in 0..<keys {
                let bounds = columnBounds[(b * keys + j) * perColumn..<(b * keys + j + 1) * perColumn].map(Int.init)
                for bound in bounds where !(0...queries).contains(bound) {
                    throw .columnBounds(batch: b, key: j, "bound \(bound), expected 0 to \(queries)")
                }
                let (lowerStart, lowerEnd) = (bounds[0], perColumn == 4 ? bounds[1] : queries)
                let (upperStart, upperEnd) =
                    perColumn == 4 ? (bounds[2], bounds[3]) : perColumn == 2 ? (0, bounds[1]) : (0, 0)
                let visible = (0..<queries).filter { i in
                    !(lowerStart..<max(lowerStart, lowerEnd)).contains(i)
                        && !(upperStart..<max(upperStart, upperEnd)).contains(i) && !(causal && i < j)
                }
                guard let first = visible.first, let last = visible.last else {
                    intervals.append(0, 0)
                    continue
                }
                guard last - first + 1 == visible.count else {
                    throw .columnBounds(batch: b, key: j, "the visible queries are not one interval")
                }
                intervals.append(Int32(first), Int32(last + 1))
            }
        }
        do {
            try self.init(
                orientation: .byKey, batch: batch, queries: queries, keys: keys, start: intervals.start,
                limit: intervals.limit)
        } catch {
            throw .cumulativeLengths("\(error)")
        }
    }

    private static func checkLengths(_ lengths: [Int32]) throws(VisibilityBuildError) {
        var total = 0
        for (index, length) in lengths.enumerated() {
            guard length >= 1 else { throw .length(index: index, length) }
            total += Int(length)
        }
        guard total <= Int(Int32.max) else { throw .tooLong(total) }
    }
}

extension Visibility.Intervals {
    fileprivate mutating func append(_ first: Int32, _ end: Int32) {
        start.append(first)
        limit.append(end)
    }
}
