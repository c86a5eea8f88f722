import GoldenIO
import ModelSpec
import Reference

// The operations visibility.*: clause V.

let visibilityOperations: [Operation] = [
    Operation(
        "visibility.dense", .visibility, "the dense mask of two integers a token", clauses: ["V1", "V2", "V3", "V4"]
    ) {
        reader in
        let orientation = try reader.choice("orientation", MaskOrientation.self)
        let queryOffset = try reader.integer("query_offset", in: 0...Int(Int32.max))
        let keys = try reader.integer("keys", in: 0...1 << 24)
        let queries = try reader.integer("queries", in: 0...1 << 24)
        let window = try reader.optionalInteger("window", in: 1...Int(Int32.max))
        let tokens = "\(orientation == .byQuery ? queries : keys)"
        let start = try reader.integers("visibility_start", Int32.self, "B", tokens)
        let limit = try reader.integers("visibility_limit", Int32.self, "B", tokens)
        try reader.finish()
        let batch = reader.size("B")
        guard batch.multipliedReportingOverflow(by: queries * keys).partialValue <= 1 << 30, queries * keys <= 1 << 30
        else { throw OperationError(.input, "a dense mask of \(batch) x \(queries) x \(keys) is more than 2^30 cells") }
        let visibility = try Visibility(
            orientation: orientation, batch: batch, queries: queries, keys: keys, start: start, limit: limit,
            queryOffset: queryOffset, window: window)
        var result = CaseResult()
        result.output("mask", Tensor(visibility.dense, shape: [batch, queries, keys]))
        return result
    },
    Operation("visibility.tree", .visibility, "a document tree as a by-key mask", clauses: ["V2"]) { reader in
        let parents = try reader.integers("parent", Int32.self, "nodes")
        let lengths = try reader.integers("length", Int32.self, "nodes")
        try reader.finish()
        let tree = try Visibility.tree(parents: parents, lengths: lengths)
        let shape = [tree.start.count]
        var result = CaseResult()
        result.output("visibility_start", Tensor(tree.start, shape: shape))
        result.output("visibility_limit", Tensor(tree.limit, shape: shape))
        result.output("position", Tensor(tree.positions, shape: shape))
        return result
    },
    Operation("visibility.build", .visibility, "the by-query mask of packed documents", clauses: ["V2"]) { reader in
        let kind = try reader.choice("kind", Visibility.Kind.self)
        let window = kind == .window ? try reader.integer("window", in: 1...Int(Int32.max)) : 1
        let lengths = try reader.integers("length", Int32.self, "documents")
        let prefixes = kind == .prefix ? try reader.integers("prefix", Int32.self, "documents") : []
        try reader.finish()
        let intervals = try Visibility.byQuery(kind, lengths: lengths, prefixes: prefixes, window: window)
        let shape = [intervals.start.count]
        var result = CaseResult()
        result.output("visibility_start", Tensor(intervals.start, shape: shape))
        result.output("visibility_limit", Tensor(intervals.limit, shape: shape))
        return result
    },
]
