import Cases
import Engine
import Goldens
import ModelSpec

let attentionOperations: [(String, EngineCatalog.Compute)] = [
    ("attention.forward", attentionForward), ("attention.backward", attentionBackward), ("zreg.rows", zregRows),
]

private func attentionForward(_ question: EngineQuestion) throws -> CaseResult {
    let attention = try Attention(question)
    attention.forward()
    let rows = ["B", "H", "Q"].map(question.size)
    var result = CaseResult()
    result.output("o", bf16: attention.output, rows + [question.size("D")])
    result.output("z", attention.statistics.z, rows)
    result.output("max", attention.statistics.maximum, rows)
    result.output("sum", attention.statistics.sum, rows)
    return result
}

private func attentionBackward(_ question: EngineQuestion) throws -> CaseResult {
    let attention = try Attention(question)
    attention.forward()
    let queryShape = ["B", "H", "Q", "D"].map(question.size)
    let keyShape = ["B", "G", "T", "D"].map(question.size)
    let dq = question.zeros(queryShape.reduce(1, *), UInt16.self)
    let dk = question.zeros(keyShape.reduce(1, *), UInt16.self)
    let dv = question.zeros(keyShape.reduce(1, *), UInt16.self)
    attention.pass.backward(
        question.context, query: attention.query, queryLayout: attention.queryLayout, key: attention.key,
        value: attention.value, keyLayout: attention.keyLayout, outputGradient: question.bf16("do"),
        output: attention.output, outputLayout: attention.queryLayout, mask: attention.mask,
        statistics: attention.statistics, zregC: question.given.float("zreg_c"),
        form: question.given.choice("form", ZRegForm.self), queryGradient: dq, keyGradient: dk, valueGradient: dv)
    var result = CaseResult()
    result.output("dq", bf16: dq, queryShape)
    result.output("dk", bf16: dk, keyShape)
    result.output("dv", bf16: dv, keyShape)
    return result
}

private func zregRows(_ question: EngineQuestion) throws -> CaseResult {
    let given = question.given
    let (n, m) = (question.size("n"), question.size("m"))
    var z = [Float](repeating: 0, count: n)
    var p = [Float](repeating: 0, count: n * m)
    var ds = p
    if m > 0 {
        question.layers.zregRows(
            given.floats("s"), given.floats("dp"), n, m, given.float("zreg_c"), given.choice("form", ZRegForm.self),
            z: &z, p: &p, ds: &ds)
    }
    var result = CaseResult()
    result.output("z", z, [n])
    result.output("p", p, [n, m])
    result.output("ds", ds, [n, m])
    return result
}

/// The recipe and tensors of attention.*, and room for what the forward pass gives.
private struct Attention {
    let context: EngineContext
    let pass: AttentionPass
    let query: UnsafeMutablePointer<UInt16>
    let key: UnsafeMutablePointer<UInt16>
    let value: UnsafeMutablePointer<UInt16>
    let mask: MaskBits
    let output: UnsafeMutablePointer<UInt16>
    let statistics: AttentionPass.Statistics
    /// The largest |s| of every thread.
    private let largest: UnsafeMutablePointer<Float>

    var queryLayout: AttentionPass.Layout {
        .headsFirst(heads: pass.heads, rows: pass.queries, dimension: pass.dimension)
    }
    var keyLayout: AttentionPass.Layout {
        .headsFirst(heads: pass.keyValueHeads, rows: pass.keys, dimension: pass.dimension)
    }

    init(_ question: EngineQuestion) throws {
        context = question.context
        pass = AttentionPass(
            batch: question.size("B"), heads: question.size("H"), keyValueHeads: question.size("G"),
            queries: question.size("Q"), keys: question.size("T"), dimension: question.size("D"),
            scale: question.given.float("scale"), recipe: question.given.choice("dot", DotRecipe.self))
        query = question.bf16("q")
        key = question.bf16("k")
        value = question.bf16("v")
        mask = MaskBits(try question.given.visibility())
        let rows = pass.batch * pass.heads * pass.queries
        output = question.zeros(rows * pass.dimension, UInt16.self)
        statistics = AttentionPass.Statistics(
            maximum: question.zeros(rows, Float.self), sum: question.zeros(rows, Float.self),
            z: question.zeros(rows, Float.self))
        largest = question.zeros(context.pool.count, Float.self)
    }

    func forward() {
        pass.forward(
            context, query: query, queryLayout: queryLayout, key: key, value: value, keyLayout: keyLayout, mask: mask,
            output: output, outputLayout: queryLayout, statistics: statistics, largest: largest)
    }
}
