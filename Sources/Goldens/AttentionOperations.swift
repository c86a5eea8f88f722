import BFloat16
import Cases
import ModelSpec
import Reference

// The operations attention.* and zreg.rows: clauses Z and V, with truth and bounds (Q1, Q2).

let attentionOperations: [Operation] = [
    Operation("attention.forward") { given in
        let inputs = try AttentionInputs(given)
        let forward = try inputs.forward()
        let shape = inputs.shape
        let rows = [shape.batch, shape.heads, shape.queries]
        var result = CaseResult()
        result.output("o", bf16: forward.output.map(\.bitPattern), rows + [shape.headDimension])
        result.output("z", forward.z, rows)
        result.output("max", forward.maximum, rows)
        result.output("sum", forward.sum, rows)
        let exact = inputs.exact.forward()
        result.truth("o", exact.output.truth, bounds: exact.output.bounds, rows + [shape.headDimension])
        result.truth("z", exact.z.truth, bounds: exact.z.bounds, rows)
        return result
    },
    Operation("attention.backward") { given in
        let inputs = try AttentionInputs(given)
        let c = given.float("zreg_c")
        let outputGradient = given.bf16("do").map(BFloat16.init(bitPattern:))
        let gradients = try Attention.backward(
            query: inputs.query, key: inputs.key, value: inputs.value, outputGradient: outputGradient,
            forward: try inputs.forward(), shape: inputs.shape, visibility: inputs.visibility,
            scale: inputs.scale, recipe: inputs.dot, zregC: c, form: given.choice("form"))
        let shape = inputs.shape
        let query = [shape.batch, shape.heads, shape.queries, shape.headDimension]
        let key = [shape.batch, shape.keyValueHeads, shape.keys, shape.headDimension]
        var result = CaseResult()
        result.output("dq", bf16: gradients.query.map(\.bitPattern), query)
        result.output("dk", bf16: gradients.key.map(\.bitPattern), key)
        result.output("dv", bf16: gradients.value.map(\.bitPattern), key)
        let exact = inputs.exact.backward(outputGradient: outputGradient, zregC: c)
        result.truth("dq", exact.query.truth, bounds: exact.query.bounds, query)
        result.truth("dk", exact.key.truth, bounds: exact.key.bounds, key)
        result.truth("dv", exact.value.truth, bounds: exact.value.bounds, key)
        return result
    },
    Operation("zreg.rows") { given in
        let c = given.float("zreg_c")
        let s = given.floats("s")
        let dp = given.floats("dp")
        let (n, m) = (given.size("n"), given.size("m"))
        let rows = ZReg.rows(s, dp: dp, rows: n, columns: m, c: c, form: given.choice("form"))
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

/// The tensors of attention.*, its mask, `scale` and `dot`.
private struct AttentionInputs {
    let query: [BFloat16]
    let key: [BFloat16]
    let value: [BFloat16]
    let shape: Attention.Shape
    let visibility: Visibility
    let scale: Float
    let dot: DotRecipe

    init(_ given: CheckedCase) throws {
        query = given.bf16("q").map(BFloat16.init(bitPattern:))
        key = given.bf16("k").map(BFloat16.init(bitPattern:))
        value = given.bf16("v").map(BFloat16.init(bitPattern:))
        shape = Attention.Shape(
            batch: given.size("B"), heads: given.size("H"), keyValueHeads: given.size("G"),
            queries: given.size("Q"), keys: given.size("T"), headDimension: given.size("D"))
        visibility = try given.visibility()
        scale = given.float("scale")
        dot = given.choice("dot")
    }

    func forward() throws -> Attention.Forward {
        try Attention.forward(
            query: query, key: key, value: value, shape: shape, visibility: visibility, scale: scale, recipe: dot)
    }

    var exact: ExactAttention {
        ExactAttention(query: query, key: key, value: value, shape: shape, visibility: visibility, scale: scale)
    }
}
