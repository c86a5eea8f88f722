import ModelSpec

/// What cannot be made into a visibility mask, or what a mask cannot be made into.
public enum VisibilityBuildError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A document or node without tokens.
    case length(index: Int, Int32)
    /// More tokens than a 32-bit position can count.
    case tooLong(Int)
    /// A window below 1.
    case window(Int)
    /// A prefix below 0.
    case prefix(document: Int, Int32)
    /// A cache of fewer than 0 tokens.
    case cached(Int32)
    /// A size of a mask below 0, or beyond 32-bit positions.
    case size(name: String, Int)
    /// Lists of different lengths.
    case count(name: String, Int, expected: Int)
    /// A parent that is not -1 and not an earlier node.
    case parent(node: Int, Int32)
    /// A parent that is earlier but not an ancestor of the node before: the order is not depth-first.
    case notDepthFirst(node: Int, parent: Int32)
    /// A row (of queries) or column (of keys) whose visible cells are not one interval.
    case notAnInterval(batch: Int, token: Int, MaskOrientation)
    /// Cumulative lengths that do not begin at 0 or that fall, or a mask that no documents make.
    case cumulativeLengths(String)
    /// A form of FlashMask's bounds that does not exist: with `causal` 1 or 2 bounds a column, without it 2 or 4.
    case boundsPerColumn(Int, causal: Bool)
    /// A negative bound, or a key whose column FlashMask's bounds of that form do not express.
    case columnBounds(batch: Int, key: Int, String)
    /// Intervals that are no mask (V4).
    case visibility(VisibilityError)

    public var description: String {
        switch self {
        case .length(let index, let length): "length \(length) at index \(index), expected at least 1"
        case .tooLong(let count): "\(count) tokens, expected fewer than 2^31"
        case .window(let window): "window \(window), expected at least 1"
        case .prefix(let document, let prefix): "prefix \(prefix) of document \(document), expected 0 or more"
        case .cached(let cached): "a cache of \(cached) tokens, expected 0 or more"
        case .size(let name, let size): "\(name) is \(size), expected 0 or more, and positions below 2^31"
        case .count(let name, let count, let expected): "\(name) has \(count) entries, expected \(expected)"
        case .parent(let node, let parent):
            "node \(node) has the parent \(parent), expected -1 or an earlier node"
        case .notDepthFirst(let node, let parent):
            "node \(node) with parent \(parent) is not in depth-first order: the parent's subtree has ended"
        case .notAnInterval(let batch, let token, let orientation):
            "batch \(batch), \(orientation == .byQuery ? "query" : "key") \(token): the visible cells are not one interval"
        case .cumulativeLengths(let message): message
        case .boundsPerColumn(let count, let causal):
            "\(count) bounds a column \(causal ? "with causal, expected 1 or 2" : "without causal, expected 2 or 4")"
        case .columnBounds(let batch, let key, let message): "batch \(batch), key \(key): \(message)"
        case .visibility(let error): "\(error)"
        }
    }
}

extension Visibility {
    /// An interval a token: by query of keys, or by key of queries.
    public struct Intervals: Sendable, Hashable {
        public var start: [Int32] = []
        public var limit: [Int32] = []
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
        guard cached >= 0 else { throw .cached(cached) }
        let total = Int(cached) + drafts.start.count
        guard total <= Int(Int32.max) else { throw .tooLong(total) }
        return Tree(
            start: Array(0..<cached) + drafts.start.map { cached + $0 },
            limit: [Int32](repeating: Int32(total), count: Int(cached)) + drafts.limit.map { cached + $0 },
            positions: Array(0..<cached) + drafts.positions.map { cached + $0 })
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
    mutating func append(_ first: Int32, _ end: Int32) {
        start.append(first)
        limit.append(end)
    }
}
