import Engine
import GoldenIO
import Goldens
import Kernels
import ModelSpec

// Visibility, clamps, Gumbel sampling, Squinch and all-reduce: clauses V, C, K, S.

let techniqueOperations: [(String, EngineCatalog.Compute)] = [
    (
        "visibility.dense",
        { reader, _ in
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
            guard batch.multipliedReportingOverflow(by: queries * keys).partialValue <= 1 << 30,
                queries * keys <= 1 << 30
            else {
                throw OperationError(
                    .input, "a dense mask of \(batch) x \(queries) x \(keys) is more than 2^30 cells")
            }
            let bits = MaskBits(
                try Visibility(
                    orientation: orientation, batch: batch, queries: queries, keys: keys, start: start, limit: limit,
                    queryOffset: queryOffset, window: window))
            var mask: [UInt8] = []
            mask.reserveCapacity(batch * queries * keys)
            for row in 0..<batch * queries {
                for j in 0..<keys { mask.append(UInt8(bits.words[row * bits.tiles + j / 16] >> UInt16(j % 16) & 1)) }
            }
            var result = CaseResult()
            result.output("mask", Tensor(mask, shape: [batch, queries, keys]))
            return result
        }
    ),
    (
        "visibility.tree",
        { reader, _ in
            let parents = try reader.integers("parent", Int32.self, "nodes")
            let lengths = try reader.integers("length", Int32.self, "nodes")
            try reader.finish()
            let tree = try MaskBuilders.tree(parents: parents, lengths: lengths)
            let shape = [tree.positions.count]
            var result = CaseResult()
            result.output("visibility_start", Tensor(tree.intervals.start, shape: shape))
            result.output("visibility_limit", Tensor(tree.intervals.limit, shape: shape))
            result.output("position", Tensor(tree.positions, shape: shape))
            return result
        }
    ),
    (
        "visibility.build",
        { reader, _ in
            let kind = try reader.choice("kind", ["causal", "full", "prefix", "window", "documents"])
            let window = kind == "window" ? try reader.integer("window", in: 1...Int(Int32.max)) : 1
            let lengths = try reader.integers("length", Int32.self, "documents")
            let prefixes = kind == "prefix" ? try reader.integers("prefix", Int32.self, "documents") : []
            try reader.finish()
            let intervals = try MaskBuilders.byQuery(kind, lengths: lengths, prefixes: prefixes, window: window)
            let shape = [intervals.start.count]
            var result = CaseResult()
            result.output("visibility_start", Tensor(intervals.start, shape: shape))
            result.output("visibility_limit", Tensor(intervals.limit, shape: shape))
            return result
        }
    ),
    (
        "clamp.dynamic",
        { reader, context in
            let kappa = try reader.float("kappa")
            return try clamp(&reader, isStatic: false) { weights, fanIn, activation in
                try ClampPass.dynamicLimit(
                    context, weights: weights, fanIn: fanIn, kappa: kappa, activation: activation)
            }
        }
    ),
    (
        "clamp.static",
        { reader, _ in
            let limit = try reader.float("limit")
            return try clamp(&reader, isStatic: true) { _, _, _ in limit }
        }
    ),
    (
        "gumbel.topk",
        { reader, context in
            let (sampler, k) = (try sampler(&reader, context), try reader.integer("k", in: 0...1 << 24))
            let logits = try reader.floats("logits", "N", "V")
            try reader.finish()
            let (n, v) = (reader.size("N"), reader.size("V"))
            try checkSlots(n, k)
            let sample = try sampler.topK(logits, rows: n, vocabulary: v, k: k)
            var result = CaseResult()
            result.output("ids", Tensor(sample.ids, shape: [n, k]))
            result.output("weights", sample.weights, [n, k])
            result.output("kappa", sample.kappa, [n])
            return result
        }
    ),
    (
        "gumbel.replacement",
        { reader, context in
            let (sampler, k) = (try sampler(&reader, context), try reader.integer("k", in: 0...1 << 24))
            let logits = try reader.floats("logits", "N", "V")
            try reader.finish()
            let (n, v) = (reader.size("N"), reader.size("V"))
            try checkSlots(n, k)
            let sample = try sampler.withReplacement(logits, rows: n, vocabulary: v, k: k)
            var result = CaseResult()
            result.output("ids", Tensor(sample.ids, shape: [n, k]))
            result.output("weights", sample.weights, [n, k])
            return result
        }
    ),
    (
        "gumbel.softmax",
        { reader, context in
            let (sampler, tau) = (try sampler(&reader, context), try reader.float("tau"))
            let logits = try reader.floats("logits", "N", "V")
            let dy = try reader.floats("dy", "N", "V")
            try reader.finish()
            let (n, v) = (reader.size("N"), reader.size("V"))
            let relaxed = try sampler.softmax(logits, outputGradient: dy, rows: n, vocabulary: v, tau: tau)
            var result = CaseResult()
            result.output("y", relaxed.output, [n, v])
            result.output("dlogits", relaxed.gradient, [n, v])
            return result
        }
    ),
    (
        "squinch.encode",
        { reader, context in
            let variant = try reader.choice("variant", SquinchVariant.self)
            let saturates = try reader.choice("nonfinite", NonfinitePolicy.self) == .saturate
            let x =
                reader.inputType("x") == .bf16
                ? try reader.bf16("x", "n").map { Float(bitPattern: UInt32($0) << 16) } : try reader.floats("x", "n")
            let random = variant == .stochastic15 ? try reader.integers("random", UInt32.self, "n") : []
            try reader.finish()
            let bytes = try encoded(context, variant, x, random, saturates: saturates)
            var result = CaseResult()
            result.output("blocks", Tensor(bytes, shape: [bytes.count / 6, 6]))
            return result
        }
    ),
    (
        "squinch.decode",
        { reader, context in
            let variant = try reader.choice("variant", SquinchVariant.self)
            let count = try reader.integer("count", in: 0...(1 << 40))
            let blocks = try reader.integers("blocks", UInt8.self, "nb", "6")
            try reader.finish()
            guard blocks.count == 6 * SquinchBlocks.blocks(count) else {
                throw OperationError(
                    .value,
                    "\(blocks.count) bytes are not the blocks of \(count) elements, which take \(6 * SquinchBlocks.blocks(count))"
                )
            }
            var result = CaseResult()
            result.output("x", decoded(context, variant, blocks, count), [count])
            return result
        }
    ),
    (
        "squinch.feedback",
        { reader, context in
            let variant = try reader.choice("variant", SquinchVariant.self)
            let x = try reader.floats("x", "n")
            let e = try reader.floats("e", "n")
            let random = variant == .stochastic15 ? try reader.integers("random", UInt32.self, "n") : []
            try reader.finish()
            let (bytes, values, residual) = try feedback(context, variant, x, e, random)
            var result = CaseResult()
            result.output("blocks", Tensor(bytes, shape: [bytes.count / 6, 6]))
            result.output("decoded", values, [x.count])
            result.output("residual", residual, [x.count])
            return result
        }
    ),
    (
        "allreduce.squinch",
        { reader, context in
            let variant = try reader.choice("variant", SquinchVariant.self)
            let saturates = try reader.choice("nonfinite", NonfinitePolicy.self) == .saturate
            let hasFeedback = try reader.bool("feedback")
            let g = try reader.floats("g", "W", "n")
            let e = hasFeedback ? try reader.floats("e", "W", "n") : []
            let isStochastic = variant == .stochastic15
            let random = isStochastic ? try reader.integers("random", UInt32.self, "W", "n") : []
            let randomReduced = isStochastic ? try reader.integers("random_reduced", UInt32.self, "n") : []
            try reader.finish()
            let (ranks, n) = (reader.size("W"), reader.size("n"))
            try requireRanks(ranks)
            var bytes: [UInt8] = []
            var residuals: [Float] = []
            for rank in 0..<ranks {
                let row = rank * n..<(rank + 1) * n
                let words = isStochastic ? Array(random[row]) : []
                if hasFeedback {
                    let (code, _, residual) = try feedback(context, variant, Array(g[row]), Array(e[row]), words)
                    bytes += code
                    residuals += residual
                } else {
                    bytes += try encoded(context, variant, Array(g[row]), words, saturates: saturates)
                }
            }
            let blocks = SquinchBlocks.blocks(n)
            var reduced: [UInt8] = []
            let mean = filledFloats(n) { mean in
                reduced = filled(6 * blocks, UInt8(0)) { reduced in
                    withPointer(bytes) { bytes in
                        withPointer(randomReduced) { words in
                            _ = SquinchBlocks(context, variant).reduce(
                                bytes, ranks: ranks, n, reduced: reduced, mean: mean,
                                random: randomReduced.isEmpty ? .none : .words(words))
                        }
                    }
                }
            }
            var result = CaseResult()
            result.output("r", mean, [n])
            result.output("encoded", Tensor(bytes, shape: [ranks, blocks, 6]))
            result.output("reduced", Tensor(reduced, shape: [blocks, 6]))
            if hasFeedback { result.output("residual", residuals, [ranks, n]) }
            return result
        }
    ),
    (
        "allreduce.bf16",
        { reader, context in
            let mean = try mean(&reader, context, rounds: true)
            var result = CaseResult()
            result.output("r", bf16: mean.map { UInt16($0.bitPattern >> 16) }, [mean.count])
            return result
        }
    ),
    (
        "allreduce.fp32",
        { reader, context in
            let mean = try mean(&reader, context, rounds: false)
            var result = CaseResult()
            result.output("r", mean, [mean.count])
            return result
        }
    ),
]

private func clamp(
    _ reader: inout CaseReader, isStatic: Bool, limit: ([UInt16], Int, ClampActivation) throws -> Float
) throws -> CaseResult {
    let activation = try reader.choice("activation", ClampActivation.self)
    let gradient = try reader.choice("gradient", ClampGradient.self)
    let int8 = try reader.bool("int8")
    var weights: [UInt16] = []
    var fanIn = 0
    if !isStatic || reader.hasInput("w") {
        weights = try reader.bf16("w", "n", "m")
        fanIn = reader.size("n")
    }
    let y = try reader.floats("y", "t", "m")
    let dy = try reader.floats("dy", "t", "m")
    try reader.finish()
    let shape = [reader.size("t"), reader.size("m")]
    let pass = try ClampPass(limit: try limit(weights, fanIn, activation), activation: activation, int8: int8)
    let forward = pass.forward(y)
    var result = CaseResult()
    result.output("limit", [pass.limit], [1])
    result.output("clamped", forward.clamped, shape)
    if int8 { result.output("codes", Tensor(forward.codes, shape: shape)) }
    result.output("dequantised", forward.dequantised, shape)
    result.output("dx", pass.backward(y, dy: dy, gradient: gradient), shape)
    return result
}

private func sampler(_ reader: inout CaseReader, _ context: EngineContext) throws -> GumbelSampler {
    GumbelSampler(
        context,
        RandomWords(
            seed: try reader.unsigned64("seed"),
            stream: UInt32(try reader.integer("stream", in: 0...Int(UInt32.max))),
            step: UInt32(try reader.integer("step", in: 0...Int(UInt32.max)))))
}

private func checkSlots(_ n: Int, _ k: Int) throws(OperationError) {
    guard n == 0 || k <= (1 << 28) / n else {
        throw OperationError(.recipe, "recipe key 'k' is \(k) for \(n) rows; expected at most 2^28 slots in all")
    }
}

private func requireRanks(_ ranks: Int) throws(OperationError) {
    guard ranks >= 1 else { throw OperationError(.input, "inputs/g has no ranks: its first size is 0") }
}

private func encoded(
    _ context: EngineContext, _ variant: SquinchVariant, _ x: [Float], _ random: [UInt32], saturates: Bool
) throws -> [UInt8] {
    if let first = withPointer(x, { SquinchBlocks(context, variant).firstRefused($0, x.count, saturates: saturates) }) {
        throw OperationError(.value, "\(x[first]) at index \(first), where a finite value was expected")
    }
    return filled(6 * SquinchBlocks.blocks(x.count), UInt8(0)) { bytes in
        withPointer(x) { x1 in
            withPointer(random) { words in
                _ = SquinchBlocks(context, variant).encode(
                    x1, x.count, into: bytes, random: random.isEmpty ? .none : .words(words))
            }
        }
    }
}

private func decoded(_ context: EngineContext, _ variant: SquinchVariant, _ bytes: [UInt8], _ count: Int) -> [Float] {
    filledFloats(count) { x in
        withPointer(bytes) { SquinchBlocks(context, variant).decode($0, count, into: x) }
    }
}

private func feedback(
    _ context: EngineContext, _ variant: SquinchVariant, _ x: [Float], _ e: [Float], _ random: [UInt32]
) throws -> (bytes: [UInt8], decoded: [Float], residual: [Float]) {
    let y = zip(x, e).map { $0 + $1 }
    if let index = y.firstIndex(where: { !$0.isFinite }) {
        throw OperationError(
            .value, "x + e is not finite at index \(index): x is \(x[index]), e is \(e[index])")
    }
    let bytes = try encoded(context, variant, y, random, saturates: false)
    let values = decoded(context, variant, bytes, y.count)
    return (bytes, values, zip(y, values).map { $0 - $1 })
}

private func mean(_ reader: inout CaseReader, _ context: EngineContext, rounds: Bool) throws -> [Float] {
    let g = try reader.floats("g", "W", "n")
    try reader.finish()
    let (ranks, n) = (reader.size("W"), reader.size("n"))
    try requireRanks(ranks)
    return filledFloats(n) { mean in
        withPointer(g) { Layers(context).mean($0, ranks: ranks, n, rounds: rounds, into: mean) }
    }
}
