import Cases
import Goldens
import ModelSpec

// visibility.*: clause V once more, under choices.

extension DeviationCatalog {
    static let visibilityFamily = VariantFamily(
        name: "visibility", operations: ["visibility.dense", "visibility.tree", "visibility.build"],
        deviations: visibilityDense + visibilityTree + visibilityBuild
    ) { given, choices in
        switch given.op {
        case "visibility.dense": try denseMask(given, choices)
        case "visibility.tree": try treeIntervals(given, choices)
        default: try documentIntervals(given, choices)
        }
    }

    // MARK: V1

    private static func denseMask(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        var isByQuery = given.choice("orientation", MaskOrientation.self) == .byQuery
        let offset =
            choices.has("visibility.offset.ignored") ? 0 : given.integer("query_offset")
        let keys = given.integer("keys")
        let queries = given.integer("queries")
        var window = given.optionalInteger("window")
        let tokens = isByQuery ? queries : keys
        let start = given.integers("visibility_start", Int32.self).map(Int.init)
        let limit = given.integers("visibility_limit", Int32.self).map(Int.init)
        let batch = given.size("B")
        let orientation = choices.on("visibility.orientation")
        // Where queries and keys differ in number the tensors cannot be read the other way.
        if let orientation, queries == keys {
            isByQuery = orientation == "exchanged" ? !isByQuery : orientation == "as-by-query"
        }
        let windowChoice = choices.on("visibility.window")
        switch windowChoice {
        case "one-more": window = window.map { $0 + 1 }
        case "one-fewer": window = window.map { $0 - 1 }
        case "ignored": window = nil
        default: break
        }
        let isInclusive = choices.has("visibility.limit.inclusive")
        let isExclusive = choices.has("visibility.start.exclusive")
        let causal = choices.on("visibility.causal")
        let empty = choices.on("visibility.empty")
        let isFirstBatch = choices.has("visibility.batch.first-repeated")
        let isInverted = choices.has("visibility.mask.inverted")
        let addsOffset = choices.has("visibility.offset.added-to-rows")
        var mask: [UInt8] = []
        mask.reserveCapacity(batch * queries * keys)
        for b in 0..<batch {
            for i in 0..<queries {
                let first = mask.count
                let position = offset + i
                for j in 0..<keys {
                    let token = (isFirstBatch ? 0 : b * tokens) + (isByQuery ? i : j)
                    let place = isByQuery ? (addsOffset ? j + offset : j) : position
                    var isVisible =
                        (isExclusive ? start[token] < place : start[token] <= place)
                        && (isInclusive ? place <= limit[token] : place < limit[token])
                    if empty == "unrestricted" && start[token] == limit[token] { isVisible = true }
                    if let window {
                        let distance = windowChoice == "of-rows" ? i - j : position - j
                        if windowChoice == "symmetric" ? abs(distance) >= window : distance >= window {
                            isVisible = false
                        }
                    }
                    switch causal {
                    case "forced": if j > position { isVisible = false }
                    case "forced-by-row": if j > i { isVisible = false }
                    case "strict": if j >= position { isVisible = false }
                    default: break
                    }
                    mask.append(isVisible ? 1 : 0)
                }
                if empty == "self" && position < keys && !mask[first...].contains(1) { mask[first + position] = 1 }
                if empty == "everything" && !mask[first...].contains(1) {
                    for j in first..<mask.count { mask[j] = 1 }
                }
            }
        }
        if isInverted { mask = mask.map { 1 - $0 } }
        var result = CaseResult()
        result.output("mask", Tensor(mask, shape: [batch, queries, keys]))
        return result
    }

    // MARK: V2

    private static func checked(_ lengths: [Int32]) throws -> [Int] {
        guard lengths.allSatisfy({ $0 >= 1 }), lengths.reduce(0, { $0 + Int($1) }) <= 1 << 24 else {
            throw OperationError(.input, "a length")
        }
        return lengths.map(Int.init)
    }

    private static func treeIntervals(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        let parents = given.integers("parent", Int32.self).map(Int.init)
        let lengths = try checked(given.integers("length", Int32.self))
        let nodes = parents.indices
        guard nodes.allSatisfy({ parents[$0] >= -1 && parents[$0] < $0 }) else {
            throw OperationError(.input, "a parent")
        }
        var first: [Int] = []
        var next = 0
        for length in lengths {
            first.append(next)
            next += length
        }
        let total = next
        // In depth-first order a subtree ends where its last descendant does.
        var end = nodes.map { first[$0] + lengths[$0] }
        var (depth, root, position) = ([Int](), [Int](), [Int]())
        for node in nodes {
            let parent = parents[node]
            depth.append(parent < 0 ? 0 : depth[parent] + 1)
            root.append(parent < 0 ? node : root[parent])
            position.append(parent < 0 ? 0 : position[parent] + lengths[parent])
        }
        for node in nodes.reversed() where parents[node] >= 0 {
            end[parents[node]] = max(end[parents[node]], end[node])
        }
        var (start, limit, positions) = ([Int32](), [Int32](), [Int32]())
        for node in nodes {
            let parent = parents[node]
            for offset in 0..<lengths[node] {
                let token = first[node] + offset
                let from =
                    switch choices.on("visibility.tree-start") {
                    case "next-token": token + 1
                    case "node": first[node]
                    case "root": first[root[node]]
                    default: token
                    }
                let to =
                    switch choices.on("visibility.tree-limit") {
                    case "of-parent": parent < 0 ? end[node] : end[parent]
                    case "of-tree": end[root[node]]
                    case "of-all": total
                    case "of-node": first[node] + lengths[node]
                    case "last-token": end[node] - 1
                    case "one-beyond": min(total, end[node] + 1)
                    default: end[node]
                    }
                let place =
                    switch choices.on("visibility.position") {
                    case "absolute": token
                    case "from-root": token - first[root[node]]
                    case "depth": depth[node]
                    case "depth-and-offset": depth[node] + offset
                    case "in-node": offset
                    case "from-one": position[node] + offset + 1
                    case "parent-length-missing": (parent < 0 ? 0 : position[parent]) + offset
                    case "roots-continue": position[node] + offset + first[root[node]]
                    default: position[node] + offset
                    }
                start.append(Int32(from))
                limit.append(Int32(to))
                positions.append(Int32(place))
            }
        }
        var result = CaseResult()
        result.output("visibility_start", Tensor(start, shape: [total]))
        result.output("visibility_limit", Tensor(limit, shape: [total]))
        result.output("position", Tensor(positions, shape: [total]))
        return result
    }

    private static func documentIntervals(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        var kind = given.choice("kind")
        var window = kind == "window" ? given.integer("window") : 1
        let lengths = try checked(given.integers("length", Int32.self))
        var prefixes = given.integers("prefix", Int32.self).map(Int.init)
        let total = lengths.reduce(0, +)
        switch choices.on("visibility.build-window") {
        case "one-more": window += 1
        case "one-fewer": window -= 1
        case "ignored": if kind == "window" { kind = "causal" }
        default: break
        }
        let prefixChoice = choices.on("visibility.build-prefix")
        switch prefixChoice {
        case "one-more": prefixes = prefixes.map { $0 + 1 }
        case "one-fewer": prefixes = prefixes.map { $0 - 1 }
        case "ignored": if kind == "prefix" { kind = "causal" }
        case "first-for-all": if let first = prefixes.first { prefixes = prefixes.map { _ in first } }
        default: break
        }
        switch choices.on("visibility.kind") {
        case "all-causal": kind = "causal"
        case "full-as-causal": if kind == "full" { kind = "causal" }
        case "documents-as-full": if kind == "documents" { kind = "full" }
        default: break
        }
        var (start, limit) = ([Int32](), [Int32]())
        var first = 0
        for (document, length) in lengths.enumerated() {
            var (a, b) = (first, first + length)
            if choices.has("visibility.documents.ignored") { (a, b) = (0, total) }
            for t in first..<first + length {
                var (from, to) = (a, t + 1)
                switch kind {
                case "full": to = b
                case "prefix":
                    let prefix = prefixes[document]
                    switch prefixChoice {
                    case "beyond-document": to = max(t + 1, a + prefix)
                    case "absolute": to = max(t + 1, min(prefix, b))
                    case "rest-blind": to = a + min(prefix, b - a)
                    case "prompt-causal": to = t + 1 - a <= prefix ? t + 1 : b
                    default: to = max(t + 1, a + min(prefix, b - a))
                    }
                case "window":
                    from = max(choices.has("visibility.build-window.across-documents") ? 0 : a, t - window + 1)
                    if choices.has("visibility.build-window.symmetric") { to = min(b, t + window) }
                default: break
                }
                switch choices.on("visibility.build-self") {
                case "missing": if to == t + 1 { to = t }
                case "one-beyond": to = min(b, to + 1)
                default: break
                }
                if choices.has("visibility.build-orientation.by-key") && (kind == "causal" || kind == "documents") {
                    (from, to) = (t, b)
                }
                start.append(Int32(from))
                limit.append(Int32(clamping: to))
            }
            first += length
        }
        var result = CaseResult()
        result.output("visibility_start", Tensor(start, shape: [total]))
        result.output("visibility_limit", Tensor(limit, shape: [total]))
        return result
    }

    // MARK: What may deviate

    private static func alternatives(
        _ axis: String, _ clauses: [String], _ all: KeyValuePairs<String, String>
    ) -> [Deviation] {
        all.map { Deviation("visibility.\(axis).\($0.key)", $0.value, clauses) }
    }

    private static let visibilityDense: [Deviation] =
        alternatives("limit", ["V1"], ["inclusive": "takes the limit as the last that is seen"])
        + alternatives("start", ["V1"], ["exclusive": "takes the start as the last that is not seen"])
        + alternatives(
            "orientation", ["V1"],
            [
                "exchanged": "reads by-query masks by key and by-key masks by query",
                "as-by-query": "reads by-key masks by query", "as-by-key": "reads by-query masks by key",
            ])
        + alternatives(
            "offset", ["V1"],
            [
                "ignored": "leaves the queries' offset out",
                "added-to-rows": "adds the queries' offset to the key of a by-query mask too",
            ])
        + alternatives(
            "window", ["V2"],
            [
                "ignored": "leaves the window out", "one-more": "lets a window see one key more",
                "one-fewer": "lets a window see one key fewer", "symmetric": "cuts later keys by the window too",
                "of-rows": "measures the window from the query's row, not from its position",
            ])
        + alternatives(
            "causal", ["V1"],
            [
                "forced": "hides later keys whatever the mask says",
                "forced-by-row": "hides keys beyond the query's row whatever the mask says",
                "strict": "hides a token from itself",
            ])
        + alternatives(
            "empty", ["V4"],
            [
                "self": "lets a row that sees nothing see itself",
                "everything": "lets a row that sees nothing see everything",
                "unrestricted": "takes an empty interval for no restriction",
            ])
        + alternatives("mask", ["V3"], ["inverted": "writes 1 where a key is hidden"])
        + alternatives("batch", ["V1"], ["first-repeated": "uses the first batch entry's intervals for all"])

    private static let visibilityTree: [Deviation] =
        alternatives(
            "tree-limit", ["V2"],
            [
                "of-parent": "lets siblings see a node: up to the end of its parent's subtree",
                "of-tree": "lets all later tokens of a tree see a node", "of-all": "lets all later tokens see a node",
                "of-node": "hides a node from its descendants",
                "last-token": "hides a node from the last token of its subtree",
                "one-beyond": "lets the token after its subtree see a node",
            ])
        + alternatives(
            "tree-start", ["V2"],
            [
                "next-token": "hides a token from itself", "node": "lets earlier tokens of its node see a token",
                "root": "lets all tokens of its tree before it see a token",
            ])
        + alternatives(
            "position", ["V2"],
            [
                "absolute": "gives positions in the stored order",
                "from-root": "gives positions in the stored order of each tree",
                "depth": "gives a node's depth as position",
                "depth-and-offset": "adds the offset in a node to its depth",
                "in-node": "restarts positions in each node", "from-one": "counts positions from 1",
                "parent-length-missing": "begins a node where its parent begins",
                "roots-continue": "does not restart positions at a root",
            ])

    private static let visibilityBuild: [Deviation] =
        alternatives("documents", ["V2"], ["ignored": "takes packed documents for one"])
        + alternatives(
            "kind", ["V2"],
            [
                "all-causal": "makes every mask causal", "full-as-causal": "makes bidirectional masks causal",
                "documents-as-full": "makes packed documents bidirectional",
            ])
        + alternatives(
            "build-prefix", ["V2"],
            [
                "ignored": "leaves the prefix out", "one-more": "lets the prefix have one token more",
                "one-fewer": "lets the prefix have one token fewer",
                "beyond-document": "lets a prefix reach beyond its document",
                "absolute": "counts the prefix from token 0, not from its document",
                "rest-blind": "lets no token beyond the prefix see more than the prefix",
                "prompt-causal": "makes the prefix causal and the rest bidirectional",
                "first-for-all": "uses the first document's prefix for all",
            ])
        + alternatives(
            "build-window", ["V2"],
            [
                "ignored": "leaves the window out", "one-more": "lets a window see one token more",
                "one-fewer": "lets a window see one token fewer",
                "across-documents": "lets a window reach back over its document's start",
                "symmetric": "lets a window see as many later tokens",
            ])
        + alternatives(
            "build-self", ["V2"],
            ["missing": "hides a token from itself", "one-beyond": "takes the limit for the last that is seen"])
        + alternatives("build-orientation", ["V1"], ["by-key": "gives causal masks by key"])
}
