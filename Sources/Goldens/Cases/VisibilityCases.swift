import Cases
import JSON
import ModelSpec
import Reference

func visibilityFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [builder.file("masks", denseCases(builder) + treeCases(builder) + buildCases(builder))]
}

private func vector(_ values: [Int32]) -> Tensor { Tensor(values, shape: [values.count]) }

private func buildCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let documents: [Int32] = [5, 1, 9, 2, 16, 3]
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ kind: Visibility.Kind, _ why: String, _ lengths: [Int32], prefix: [Int32] = [],
        window: Int? = nil
    ) {
        var inputs: TensorGroup = [NamedTensor("length", vector(lengths))]
        if kind == .prefix { inputs.append("prefix", vector(prefix)) }
        var recipe: [String: JSONValue] = ["kind": .string(kind.rawValue)]
        if let window { recipe["window"] = .integer(Int64(window)) }
        cases.append(builder.makeCase("build-\(name)", "visibility.build", why: why, recipe: recipe, inputs: inputs))
    }
    add("causal", .causal, "one document: the lower triangle", [12])
    add("full", .full, "one document, every token sees every token", [12])
    add("prefix", .prefix, "a bidirectional prompt, then causal", [12], prefix: [5])
    add("window", .window, "a band below the diagonal", [12], window: 4)
    add("documents", .documents, "packed documents, one of a single token: none sees another", documents)
    add("full-documents", .full, "bidirectional inside each document, never across", documents)
    add(
        "prefix-documents", .prefix,
        "a prefix of none, of one token, of all and of more than its document: the document at most", documents,
        prefix: [0, 1, 9, 7, 4, 100])
    add(
        "window-documents", .window, "a window that reaches back over a document's start stops there", documents,
        window: 4)
    add("window-1", .window, "a token sees itself alone", [7, 1, 3], window: 1)
    add("window-wide", .window, "a window wider than every document is causal", documents, window: 1000)
    add("no-documents", .documents, "nothing: empty tensors", [])
    var random = builder.random("documents")
    let lengths = (0..<builder.tier.pick(40, 400, 4000)).map { _ in Int32(random.integer(in: 1...17)) }
    add("many-documents", .documents, "many documents of random lengths", lengths)
    return cases
}

/// A random tree in depth-first order.
func randomTree(_ random: inout CaseRandom, nodes: Int) -> (parents: [Int32], lengths: [Int32]) {
    var parents: [Int32] = []
    var path: [Int32] = []
    for node in 0..<nodes {
        // Climb back some way, now and then to a new root.
        let climb = random.index(below: path.count + 1)
        let up = random.bool() ? 0 : climb
        path.removeLast(up)
        parents.append(path.last ?? -1)
        path.append(Int32(node))
    }
    return (parents, (0..<nodes).map { _ in Int32(random.integer(in: 1...5)) })
}

private func treeCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(_ name: String, _ why: String, _ parents: [Int32], _ lengths: [Int32]) {
        cases.append(
            builder.makeCase(
                "tree-\(name)", "visibility.tree", why: why,
                inputs: [NamedTensor("parent", vector(parents)), NamedTensor("length", vector(lengths))]))
    }
    add(
        "branches", "a prompt with two answers, one of which goes on in two ways: siblings never meet",
        [-1, 0, 0, 2, 2], [4, 3, 2, 3, 4])
    add("chain", "a path without branches is causal", [-1, 0, 1, 2, 3], [1, 2, 3, 2, 1])
    add(
        "star", "many children of one root: each position restarts after the root", [-1, 0, 0, 0, 0, 0, 0],
        [3, 1, 2, 3, 1, 2, 3])
    add(
        "several-roots", "roots are separate trees: positions restart at 0", [-1, 0, -1, 2, 2, -1], [2, 3, 1, 2, 2, 4])
    add("one-token", "one node of one token", [-1], [1])
    add("empty", "no node at all", [], [])
    var comb: [Int32] = []
    for node: Int32 in 0..<60 { comb.append(node % 2 == 1 ? node - 1 : max(-1, node - 2)) }
    add("deep", "a deep path with a leaf at every level", comb, [Int32](repeating: 1, count: 60))
    var random = builder.random("tree")
    let tree = randomTree(&random, nodes: builder.tier.pick(60, 600, 6000))
    add("random", "a random forest in depth-first order", tree.parents, tree.lengths)
    return cases
}

private func denseCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ why: String, _ orientation: MaskOrientation, batch: Int = 1, queries: Int, keys: Int,
        offset: Int = 0, window: Int? = nil, start: [Int32], limit: [Int32]
    ) {
        var recipe: [String: JSONValue] = [
            "orientation": .string(orientation.rawValue), "query_offset": .integer(Int64(offset)),
            "keys": .integer(Int64(keys)), "queries": .integer(Int64(queries)),
        ]
        if let window { recipe["window"] = .integer(Int64(window)) }
        let shape = [batch, orientation == .byQuery ? queries : keys]
        cases.append(
            builder.makeCase(
                "dense-\(name)", "visibility.dense", why: why, recipe: recipe,
                inputs: [
                    NamedTensor("visibility_start", Tensor(start, shape: shape)),
                    NamedTensor("visibility_limit", Tensor(limit, shape: shape)),
                ]))
    }
    let documents: [Int32] = [5, 1, 9, 2, 7]
    let count = 24
    // The lists are valid by construction.
    guard let byQuery = try? Visibility.byQuery(.documents, lengths: documents),
        let byKey = try? Visibility.byKey(lengths: documents),
        let full = try? Visibility.byQuery(.full, lengths: documents),
        let prefix = try? Visibility.byQuery(.prefix, lengths: [24], prefixes: [9]),
        let window = try? Visibility.byQuery(.window, lengths: [24], window: 5),
        let causal = try? Visibility.byQuery(.causal, lengths: [24]),
        let tree = try? Visibility.tree(parents: [-1, 0, 1, 1, 0, 4, 4], lengths: [5, 3, 2, 3, 4, 3, 4]),
        let drafts = try? Visibility.drafts(cached: 11, parents: [-1, 0, 0, -1, 3], lengths: [2, 2, 3, 1, 3])
    else { preconditionFailure("the masks of the cases are valid") }
    add("causal", "the lower triangle", .byQuery, queries: count, keys: count, start: causal.start, limit: causal.limit)
    add(
        "full", "packed documents, bidirectional inside each", .byQuery, queries: count, keys: count, start: full.start,
        limit: full.limit)
    add(
        "prefix", "a bidirectional prompt, then causal", .byQuery, queries: count, keys: count, start: prefix.start,
        limit: prefix.limit)
    add(
        "window", "a window that stands in the starts", .byQuery, queries: count, keys: count, start: window.start,
        limit: window.limit)
    add(
        "documents-by-query", "packed documents by query", .byQuery, queries: count, keys: count, start: byQuery.start,
        limit: byQuery.limit)
    add(
        "documents-by-key", "the same documents by key: the same mask", .byKey, queries: count, keys: count,
        start: byKey.start, limit: byKey.limit)
    add(
        "tree", "a document tree by key: siblings never meet", .byKey, queries: count, keys: count, start: tree.start,
        limit: tree.limit)
    add(
        "tree-with-window", "a window on a by-key mask cuts by distance in the stored order", .byKey, queries: count,
        keys: count, window: 6, start: tree.start, limit: tree.limit)
    add(
        "drafts", "draft branches after a cache: the queries are the drafts, the offset is the cache", .byKey,
        queries: drafts.start.count - 11, keys: drafts.start.count, offset: 11, start: drafts.start, limit: drafts.limit
    )
    add(
        "cached-query", "one new token after a cache, by query: the starts are key positions", .byQuery, queries: 1,
        keys: 9, offset: 8, start: [2], limit: [9])
    add(
        "nothing-visible", "rows and columns that see nothing, in every way to say so", .byQuery, queries: 5, keys: 6,
        start: [0, 3, 6, 0, 2], limit: [0, 3, 6, 6, 3])
    add("no-keys", "queries without keys", .byQuery, queries: 3, keys: 0, start: [0, 0, 0], limit: [0, 0, 0])
    add(
        "window-after-cache",
        "a window after a cache: it cuts earlier keys by the query's position, not its row, and no later ones", .byKey,
        queries: 9, keys: 15, offset: 5, window: 4, start: [Int32](repeating: 0, count: 15),
        limit: [Int32](repeating: 14, count: 15))
    var random = builder.random("dense")
    for orientation in MaskOrientation.allCases {
        let (batch, queries, keys, offset) = builder.tier.pick((3, 13, 17, 5), (3, 61, 67, 19), (4, 257, 263, 31))
        let tokens = orientation == .byQuery ? queries : keys
        let length = orientation == .byQuery ? keys : offset + queries
        var (start, limit): ([Int32], [Int32]) = ([], [])
        for _ in 0..<batch * tokens {
            let (a, b) = (random.integer(in: 0...length), random.integer(in: 0...length))
            start.append(Int32(min(a, b)))
            limit.append(Int32(max(a, b)))
        }
        add(
            "random-\(orientation.rawValue)", "any valid intervals, several batch entries, an offset", orientation,
            batch: batch, queries: queries, keys: keys, offset: offset, start: start, limit: limit)
    }
    for (queries, keys) in [(65, 129), (257, 3), (2, 257)] {
        for orientation in MaskOrientation.allCases where queries != 65 || orientation == .byQuery {
            let name = "sizes-\(queries)-\(keys)-\(orientation.rawValue)"
            var random = builder.random(name)
            let (tokens, length) = orientation == .byQuery ? (queries, keys) : (keys, queries)
            let ends = (0..<tokens).map { _ in
                [random.integer(in: 0...length), random.integer(in: 0...length)].sorted()
            }
            add(
                name, "\(queries) queries and \(keys) keys: one behind tiles of 64, 128 or 256", orientation,
                queries: queries, keys: keys, start: ends.map { Int32($0[0]) }, limit: ends.map { Int32($0[1]) })
        }
    }
    return cases
}
