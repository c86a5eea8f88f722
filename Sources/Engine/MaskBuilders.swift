import ModelSpec

/// Masks from document lengths and trees (V2), as half-open intervals a token.
public enum MaskBuilders {
    public struct Intervals: Sendable {
        public var start: [Int32] = []
        public var limit: [Int32] = []
    }

    private static func checkLengths(_ lengths: [Int32]) throws(EngineError) {
        if let index = lengths.firstIndex(where: { $0 < 1 }) {
            throw EngineError("length", "\(lengths[index]) at index \(index), expected at least 1")
        }
        let total = lengths.reduce(0) { $0 + Int($1) }
        guard total <= Int(Int32.max) else { throw EngineError("length", "\(total) tokens, expected fewer than 2^31") }
    }

    /// By query: `causal`, `documents`, `full`, `prefix` or `window`.
    public static func byQuery(
        _ kind: String, lengths: [Int32], prefixes: [Int32], window: Int
    ) throws(EngineError) -> Intervals {
        try checkLengths(lengths)
        if kind == "prefix" {
            guard prefixes.count == lengths.count else {
                throw EngineError("prefix", "has \(prefixes.count) entries, expected \(lengths.count)")
            }
            if let document = prefixes.firstIndex(where: { $0 < 0 }) {
                throw EngineError("prefix", "\(prefixes[document]) of document \(document), expected 0 or more")
            }
        }
        var intervals = Intervals()
        var first = 0
        for (document, length) in lengths.enumerated() {
            for offset in 0..<Int(length) {
                var (start, limit) = (first, first + offset + 1)
                switch kind {
                case "full": limit = first + Int(length)
                case "prefix": limit = max(limit, first + min(Int(prefixes[document]), Int(length)))
                case "window": start = max(first, limit - window)
                default: break
                }
                intervals.start.append(Int32(start))
                intervals.limit.append(Int32(limit))
            }
            first += Int(length)
        }
        return intervals
    }

    /// By key: a document tree in depth-first order, and every token's position from its root.
    public static func tree(parents: [Int32], lengths: [Int32]) throws(EngineError) -> (
        intervals: Intervals, positions: [Int32]
    ) {
        guard parents.count == lengths.count else {
            throw EngineError("length", "has \(lengths.count) entries, expected \(parents.count)")
        }
        try checkLengths(lengths)
        // Where each node begins, in the sequence and on its path from the root.
        var first: [Int] = []
        var depth: [Int] = []
        var next = 0
        for (node, parent) in parents.enumerated() {
            guard parent >= -1, parent < node else {
                throw EngineError("parent", "\(parent) of node \(node), expected -1 or an earlier node")
            }
            if parent >= 0 {
                // Depth-first: the parent is the node before or one of its ancestors.
                var ancestor = node - 1
                while ancestor != Int(parent) && ancestor >= 0 { ancestor = Int(parents[ancestor]) }
                guard ancestor == Int(parent) else {
                    throw EngineError(
                        "parent", "\(parent) of node \(node) is not in depth-first order: its subtree has ended")
                }
            }
            first.append(next)
            depth.append(parent < 0 ? 0 : depth[Int(parent)] + Int(lengths[Int(parent)]))
            next += Int(lengths[node])
        }
        // A subtree ends where its last descendant does: children come after their parents.
        var end = zip(first, lengths).map { $0 + Int($1) }
        for node in parents.indices.reversed() where parents[node] >= 0 {
            end[Int(parents[node])] = max(end[Int(parents[node])], end[node])
        }
        var intervals = Intervals()
        var positions: [Int32] = []
        for node in parents.indices {
            for offset in 0..<Int(lengths[node]) {
                intervals.start.append(Int32(first[node] + offset))
                intervals.limit.append(Int32(end[node]))
                positions.append(Int32(depth[node] + offset))
            }
        }
        return (intervals, positions)
    }
}
