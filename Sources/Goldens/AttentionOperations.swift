import BFloat16
import GoldenIO
import ModelSpec
import Reference

// The operations attention.* and zreg.rows: clauses Z and V, with truth and bounds (Q1, Q2).

let attentionOperations: [Operation] = [
    Operation(
        "attention.forward", .zreg, "attention under a visibility mask, with its log-sum-exp",
        clauses: ["Z1", "V1", "V4", "D3", "R1", "R4", "E1", "Q1", "Q2", "Q3"]
    ) { reader in
        let recipe = try AttentionRecipe(&reader)
        let inputs = try AttentionInputs(&reader, recipe)
        try reader.finish()
        let forward = try recipe.forward(inputs)
        let shape = inputs.shape
        let rows = [shape.batch, shape.heads, shape.queries]
        var result = CaseResult()
        result.output("o", bf16: forward.output.map(\.bitPattern), rows + [shape.headDimension])
        result.output("z", forward.z, rows)
        result.output("max", forward.maximum, rows)
        result.output("sum", forward.sum, rows)
        let exact = recipe.exact(inputs).forward()
        result.truth("o", exact.output.truth, bounds: exact.output.bounds, rows + [shape.headDimension])
        result.truth("z", exact.z.truth, bounds: exact.z.bounds, rows)
        return result
    },
    Operation(
        "attention.backward", .zreg, "gradients of attention with the z-regulariser injected",
        clauses: ["Z2", "Z3", "Z1", "T3", "V1", "V4", "D3", "D4", "R1", "E1", "Q1", "Q2", "Q3"]
    ) { reader in
        let recipe = try AttentionRecipe(&reader)
        let c = try reader.float("zreg_c")
        let form = try reader.choice("form", ZRegForm.self)
        let inputs = try AttentionInputs(&reader, recipe)
        let outputGradient = try reader.bf16("do", "B", "H", "Q", "D").map(BFloat16.init(bitPattern:))
        try reader.finish()
        let gradients = try Attention.backward(
            query: inputs.query, key: inputs.key, value: inputs.value, outputGradient: outputGradient,
            forward: try recipe.forward(inputs), shape: inputs.shape, visibility: inputs.visibility,
            scale: recipe.scale, recipe: recipe.dot, zregC: c, form: form)
        let shape = inputs.shape
        let query = [shape.batch, shape.heads, shape.queries, shape.headDimension]
        let key = [shape.batch, shape.keyValueHeads, shape.keys, shape.headDimension]
        var result = CaseResult()
        result.output("dq", bf16: gradients.query.map(\.bitPattern), query)
        result.output("dk", bf16: gradients.key.map(\.bitPattern), key)
        result.output("dv", bf16: gradients.value.map(\.bitPattern), key)
        let exact = recipe.exact(inputs).backward(outputGradient: outputGradient, zregC: c)
        result.truth("dq", exact.query.truth, bounds: exact.query.bounds, query)
        result.truth("dk", exact.key.truth, bounds: exact.key.bounds, key)
        result.truth("dv", exact.value.truth, bounds: exact.value.bounds, key)
        return result
    },
    Operation(
        "zreg.rows", .zreg, "softmax and its gradient with the z-regulariser, of rows of logits",
        clauses: ["Z1", "Z2", "Z3", "Z4", "R1", "R4", "E1", "Q1", "Q2", "Q3"]
    ) { reader in
        let c = try reader.float("zreg_c")
        let form = try reader.choice("form", ["folded", "unfolded"])
        let s = try reader.floats("s", "n", "m")
        let dp = try reader.floats("dp", "n", "m")
        try reader.boundConstants()
        try reader.finish()
        let (n, m) = (reader.size("n"), reader.size("m"))
        let rows = ZReg.rows(s, dp: dp, rows: n, columns: m, c: c, form: ZRegForm(rawValue: form) ?? .folded)
        var result = CaseResult()
        result.output("z", rows.z, [n])
        result.output("p", rows.p, [n, m])
        result.output("ds", rows.ds, [n, m])
        let exact = ExactAttention.rows(s, dp: dp, rows: n, columns: m, zregC: c)
        result.truth("z", exact.z.truth, bounds: exact.z.bounds, [n])
        result.truth("p", exact.p.truth, bounds: exact.p.bounds, [n, m])
        result.truth("ds", exact.ds.truth, bounds: exact.ds.bounds, [n, m])
        return result
    },
]

/// The keys of attention.*: scale, orientation, query_offset, window, dot.
private struct AttentionRecipe {
    let scale: Float
    let orientation: MaskOrientation
    let queryOffset: Int
    let window: Int?
    let dot: DotRecipe

    init(_ reader: inout CaseReader) throws(OperationError) {
        scale = try reader.float("scale")
        orientation = try reader.choice("orientation", MaskOrientation.self)
        queryOffset = try reader.integer("query_offset", in: 0...Int(Int32.max))
        window = try reader.optionalInteger("window", in: 1...Int(Int32.max))
        dot = try reader.choice("dot", DotRecipe.self)
        try reader.boundConstants()
    }

    func forward(_ inputs: AttentionInputs) throws -> Attention.Forward {
        try Attention.forward(
            query: inputs.query, key: inputs.key, value: inputs.value, shape: inputs.shape,
            visibility: inputs.visibility, scale: scale, recipe: dot)
    }

    func exact(_ inputs: AttentionInputs) -> ExactAttention {
        ExactAttention(
            query: inputs.query, key: inputs.key, value: inputs.value, shape: inputs.shape,
            visibility: inputs.visibility, scale: scale)
    }
}

/// The tensors of attention.*.
private struct AttentionInputs {
    let query: [BFloat16]
    let key: [BFloat16]
    let value: [BFloat16]
    let shape: Attention.Shape
    let visibility: Visibility

    init(_ reader: inout CaseReader, _ recipe: AttentionRecipe) throws {
        query = try reader.bf16("q", "B", "H", "Q", "D").map(BFloat16.init(bitPattern:))
        key = try reader.bf16("k", "B", "G", "T", "D").map(BFloat16.init(bitPattern:))
        value = try reader.bf16("v", "B", "G", "T", "D").map(BFloat16.init(bitPattern:))
        shape = Attention.Shape(
            batch: reader.size("B"), heads: reader.size("H"), keyValueHeads: reader.size("G"),
            queries: reader.size("Q"), keys: reader.size("T"), headDimension: reader.size("D"))
        let tokens = recipe.orientation == .byQuery ? "Q" : "T"
        visibility = try Visibility(
            orientation: recipe.orientation, batch: shape.batch, queries: shape.queries, keys: shape.keys,
            start: try reader.integers("visibility_start", Int32.self, "B", tokens),
            limit: try reader.integers("visibility_limit", Int32.self, "B", tokens),
            queryOffset: recipe.queryOffset, window: recipe.window)
    }
}
