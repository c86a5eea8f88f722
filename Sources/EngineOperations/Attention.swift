import Cases
import Engine
import Goldens
import Kernels
import ModelSpec

let attentionOperations: [(String, EngineCatalog.Compute)] = [
    (
        "attention.forward",
        { given, context in
            let inputs = try AttentionCase(given)
            let forward = inputs.forward(context)
            let (rows, d) = ([inputs.pass.batch, inputs.pass.heads, inputs.pass.queries], inputs.pass.dimension)
            var result = CaseResult()
            result.output("o", bf16: forward.output, rows + [d])
            result.output("z", forward.z, rows)
            result.output("max", forward.maximum, rows)
            result.output("sum", forward.sum, rows)
            return result
        }
    ),
    (
        "attention.backward",
        { given, context in
            let c = given.float("zreg_c")
            let form = given.choice("form", ZRegForm.self)
            let inputs = try AttentionCase(given)
            let gradient = given.bf16("do")
            let pass = inputs.pass
            var forward = inputs.forward(context)
            var dk: [UInt16] = []
            var dv: [UInt16] = []
            let dq = filledBF16(inputs.query.count) { dq in
                dk = filledBF16(inputs.key.count) { dk in
                    dv = filledBF16(inputs.value.count) { dv in
                        forward.withStatistics { statistics, output in
                            inputs.withPointers { q, k, v in
                                withPointer(gradient) { gradient in
                                    pass.backward(
                                        context, query: q, queryLayout: inputs.queryLayout, key: k, value: v,
                                        keyLayout: inputs.keyLayout, outputGradient: gradient, output: output,
                                        outputLayout: inputs.queryLayout, mask: inputs.mask, statistics: statistics,
                                        zregC: c, form: form, queryGradient: dq, keyGradient: dk, valueGradient: dv)
                                }
                            }
                        }
                    }
                }
            }
            let query = [pass.batch, pass.heads, pass.queries, pass.dimension]
            let key = [pass.batch, pass.keyValueHeads, pass.keys, pass.dimension]
            var result = CaseResult()
            result.output("dq", bf16: dq, query)
            result.output("dk", bf16: dk, key)
            result.output("dv", bf16: dv, key)
            return result
        }
    ),
    (
        "zreg.rows",
        { given, context in
            let c = given.float("zreg_c")
            let form = ZRegForm(rawValue: given.choice("form")) ?? .folded
            let s = given.floats("s")
            let dp = given.floats("dp")
            let (n, m) = (given.size("n"), given.size("m"))
            var z = [Float](repeating: 0, count: n)
            var p = [Float](repeating: 0, count: n * m)
            var ds = p
            if m > 0 { Layers(context).zregRows(s, dp, n, m, c, form, z: &z, p: &p, ds: &ds) }
            var result = CaseResult()
            result.output("z", z, [n])
            result.output("p", p, [n, m])
            result.output("ds", ds, [n, m])
            return result
        }
    ),
]

/// Reads past what an empty array has not.
func withPointer<Element, Result>(_ array: [Element], _ body: (UnsafePointer<Element>) throws -> Result) rethrows
    -> Result
{
    try array.withUnsafeBufferPointer { buffer in
        if let first = buffer.baseAddress { return try body(first) }
        return try withUnsafeTemporaryAllocation(of: Element.self, capacity: 1) {
            try body(UnsafePointer($0.baseAddress!))
        }
    }
}

/// The recipe and tensors of attention.*.
private struct AttentionCase {
    let pass: AttentionPass
    let query: [UInt16]
    let key: [UInt16]
    let value: [UInt16]
    let mask: MaskBits

    var queryLayout: AttentionPass.Layout {
        .headsFirst(heads: pass.heads, rows: pass.queries, dimension: pass.dimension)
    }
    var keyLayout: AttentionPass.Layout {
        .headsFirst(heads: pass.keyValueHeads, rows: pass.keys, dimension: pass.dimension)
    }

    init(_ given: CheckedCase) throws {
        let scale = given.float("scale")
        let orientation = given.choice("orientation", MaskOrientation.self)
        let queryOffset = given.integer("query_offset")
        let window = given.optionalInteger("window")
        let dot = given.choice("dot", DotRecipe.self)
        query = given.bf16("q")
        key = given.bf16("k")
        value = given.bf16("v")
        let (h, g) = (given.size("H"), given.size("G"))
        guard g >= 1, h >= 1, h % g == 0 else {
            throw OperationError(
                .input, "\(h) heads over \(g) key/value heads; expected a multiple, and at least 1")
        }
        pass = AttentionPass(
            batch: given.size("B"), heads: h, keyValueHeads: g, queries: given.size("Q"), keys: given.size("T"),
            dimension: given.size("D"), scale: scale, recipe: dot)
        let visibility = try Visibility(
            orientation: orientation, batch: pass.batch, queries: pass.queries, keys: pass.keys,
            start: given.integers("visibility_start", Int32.self),
            limit: given.integers("visibility_limit", Int32.self), queryOffset: queryOffset,
            window: window)
        mask = MaskBits(visibility)
    }

    struct Forward {
        var output: [UInt16]
        var maximum: [Float]
        var sum: [Float]
        var z: [Float]

        mutating func withStatistics(
            _ body: (AttentionPass.Statistics, UnsafeMutablePointer<UInt16>) -> Void
        ) {
            maximum.withUnsafeMutableBufferPointer { maximum in
                sum.withUnsafeMutableBufferPointer { sum in
                    z.withUnsafeMutableBufferPointer { z in
                        output.withUnsafeMutableBufferPointer { output in
                            body(
                                AttentionPass.Statistics(
                                    maximum: maximum.baseAddress!, sum: sum.baseAddress!, z: z.baseAddress!),
                                output.baseAddress!)
                        }
                    }
                }
            }
        }
    }

    func withPointers(
        _ body: (UnsafePointer<UInt16>, UnsafePointer<UInt16>, UnsafePointer<UInt16>) -> Void
    ) {
        withPointer(query) { q in withPointer(key) { k in withPointer(value) { v in body(q, k, v) } } }
    }

    /// Arrays one element longer than they need to be, so that they have an address.
    func forward(_ context: EngineContext) -> Forward {
        let rows = pass.batch * pass.heads * pass.queries
        let numbers = [Float](repeating: 0, count: rows + 1)
        var forward = Forward(
            output: [UInt16](repeating: 0, count: query.count + 1), maximum: numbers, sum: numbers, z: numbers)
        var largest = [Float](repeating: 0, count: context.pool.count)
        forward.withStatistics { statistics, output in
            withPointers { q, k, v in
                largest.withUnsafeMutableBufferPointer {
                    pass.forward(
                        context, query: q, queryLayout: queryLayout, key: k, value: v, keyLayout: keyLayout,
                        mask: mask, output: output, outputLayout: queryLayout, statistics: statistics,
                        largest: $0.baseAddress!)
                }
            }
        }
        forward.output.removeLast()
        forward.maximum.removeLast()
        forward.sum.removeLast()
        forward.z.removeLast()
        return forward
    }
}
