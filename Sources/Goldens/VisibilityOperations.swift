import Cases
import ModelSpec
import Reference

// The operations visibility.*: clause V.

let visibilityOperations: [Operation] = [
    Operation("visibility.dense") { given in
        let visibility = try given.visibility()
        var result = CaseResult()
        result.output("mask", Tensor(visibility.dense, shape: ["B", "Q", "T"].map(given.size)))
        return result
    },
    Operation("visibility.tree") { given in
        let parents = given.integers("parent", Int32.self)
        let lengths = given.integers("length", Int32.self)
        let tree = try Visibility.tree(parents: parents, lengths: lengths)
        let shape = [tree.start.count]
        var result = CaseResult()
        result.output("visibility_start", Tensor(tree.start, shape: shape))
        result.output("visibility_limit", Tensor(tree.limit, shape: shape))
        result.output("position", Tensor(tree.positions, shape: shape))
        return result
    },
    Operation("visibility.build") { given in
        let kind = given.choice("kind", Visibility.Kind.self)
        let window = kind == .window ? given.integer("window") : 1
        let lengths = given.integers("length", Int32.self)
        let prefixes = given.integers("prefix", Int32.self)
        let intervals = try Visibility.byQuery(kind, lengths: lengths, prefixes: prefixes, window: window)
        let shape = [intervals.start.count]
        var result = CaseResult()
        result.output("visibility_start", Tensor(intervals.start, shape: shape))
        result.output("visibility_limit", Tensor(intervals.limit, shape: shape))
        return result
    },
]

extension CheckedCase {
    /// The mask of an operation that takes one: `orientation`, `query_offset`, `window` and the two tensors of V1.
    package func visibility() throws(VisibilityError) -> Visibility {
        try Visibility(
            orientation: choice("orientation"), batch: size("B"), queries: size("Q"), keys: size("T"),
            start: integers("visibility_start"), limit: integers("visibility_limit"),
            queryOffset: integer("query_offset"), window: optionalInteger("window"))
    }
}
