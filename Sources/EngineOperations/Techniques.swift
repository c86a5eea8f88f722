import Cases
import Engine
import Goldens
import Kernels
import ModelSpec

// Visibility, clamps, Gumbel sampling, Squinch and all-reduce: clauses V, C, K, S.

let techniqueOperations: [(String, EngineCatalog.Compute)] = [
    (
        "visibility.dense",
        { given, _ in
            let orientation = given.choice("orientation", MaskOrientation.self)
            let queryOffset = given.integer("query_offset")
            let keys = given.integer("keys")
            let queries = given.integer("queries")
            let window = given.optionalInteger("window")
            let start = given.integers("visibility_start", Int32.self)
            let limit = given.integers("visibility_limit", Int32.self)
            let batch = given.size("B")
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
        { given, _ in
            let parents = given.integers("parent", Int32.self)
            let lengths = given.integers("length", Int32.self)
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
        { given, _ in
            let kind = given.choice("kind")
            let window = kind == "window" ? given.integer("window") : 1
            let lengths = given.integers("length", Int32.self)
            let prefixes = kind == "prefix" ? given.integers("prefix", Int32.self) : []
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
        { given, context in
            let kappa = given.float("kappa")
            return try clamp(given, isStatic: false) { weights, fanIn, activation in
                try ClampPass.dynamicLimit(
                    context, weights: weights, fanIn: fanIn, kappa: kappa, activation: activation)
            }
        }
    ),
    (
        "clamp.static",
        { given, _ in
            let limit = given.float("limit")
            return try clamp(given, isStatic: true) { _, _, _ in limit }
        }
    ),
    (
        "gumbel.topk",
        { given, context in
            let (sampler, k) = (try sampler(given, context), given.integer("k"))
            let logits = given.floats("logits")
            let (n, v) = (given.size("N"), given.size("V"))
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
        { given, context in
            let (sampler, k) = (try sampler(given, context), given.integer("k"))
            let logits = given.floats("logits")
            let (n, v) = (given.size("N"), given.size("V"))
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
        { given, context in
            let (sampler, tau) = (try sampler(given, context), given.float("tau"))
            let logits = given.floats("logits")
            let dy = given.floats("dy")
            let (n, v) = (given.size("N"), given.size("V"))
            let relaxed = try sampler.softmax(logits, outputGradient: dy, rows: n, vocabulary: v, tau: tau)
            var result = CaseResult()
            result.output("y", relaxed.output, [n, v])
            result.output("dlogits", relaxed.gradient, [n, v])
            return result
        }
    ),
    (
        "squinch.encode",
        { given, context in
            let variant = given.choice("variant", SquinchVariant.self)
            let saturates = given.choice("nonfinite", NonfinitePolicy.self) == .saturate
            let x =
                given.tensor("x").type == .bf16
                ? given.bf16("x").map { Float(bitPattern: UInt32($0) << 16) } : given.floats("x")
            let random = variant == .stochastic15 ? given.integers("random", UInt32.self) : []
            let bytes = try encoded(context, variant, x, random, saturates: saturates)
            var result = CaseResult()
            result.output("blocks", Tensor(bytes, shape: [bytes.count / 6, 6]))
            return result
        }
    ),
    (
        "squinch.decode",
        { given, context in
            let variant = given.choice("variant", SquinchVariant.self)
            let count = given.integer("count")
            let blocks = given.integers("blocks", UInt8.self)
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
        { given, context in
            let variant = given.choice("variant", SquinchVariant.self)
            let x = given.floats("x")
            let e = given.floats("e")
            let random = variant == .stochastic15 ? given.integers("random", UInt32.self) : []
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
        { given, context in
            let variant = given.choice("variant", SquinchVariant.self)
            let saturates = given.choice("nonfinite", NonfinitePolicy.self) == .saturate
            let hasFeedback = given.flag("feedback")
            let g = given.floats("g")
            let e = hasFeedback ? given.floats("e") : []
            let isStochastic = variant == .stochastic15
            let random = isStochastic ? given.integers("random", UInt32.self) : []
            let randomReduced = isStochastic ? given.integers("random_reduced", UInt32.self) : []
            let (ranks, n) = (given.size("W"), given.size("n"))
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
        { given, context in
            let mean = try mean(given, context, rounds: true)
            var result = CaseResult()
            result.output("r", bf16: mean.map { UInt16($0.bitPattern >> 16) }, [mean.count])
            return result
        }
    ),
    (
        "allreduce.fp32",
        { given, context in
            let mean = try mean(given, context, rounds: false)
            var result = CaseResult()
            result.output("r", mean, [mean.count])
            return result
        }
    ),
]

private func clamp(
    _ given: CheckedCase, isStatic: Bool, limit: ([UInt16], Int, ClampActivation) throws -> Float
) throws -> CaseResult {
    let activation = given.choice("activation", ClampActivation.self)
    let gradient = given.choice("gradient", ClampGradient.self)
    let int8 = given.flag("int8")
    var weights: [UInt16] = []
    var fanIn = 0
    if !isStatic || given.has("w") {
        weights = given.bf16("w")
        fanIn = given.size("n")
    }
    let y = given.floats("y")
    let dy = given.floats("dy")
    let shape = [given.size("t"), given.size("m")]
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

private func sampler(_ given: CheckedCase, _ context: EngineContext) throws -> GumbelSampler {
    GumbelSampler(
        context,
        RandomWords(
            seed: given.unsigned64("seed"),
            stream: UInt32(given.integer("stream")),
            step: UInt32(given.integer("step"))))
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

private func mean(_ given: CheckedCase, _ context: EngineContext, rounds: Bool) throws -> [Float] {
    let g = given.floats("g")
    let (ranks, n) = (given.size("W"), given.size("n"))
    try requireRanks(ranks)
    return filledFloats(n) { mean in
        withPointer(g) { Layers(context).mean($0, ranks: ranks, n, rounds: rounds, into: mean) }
    }
}
