import Cases
import Engine
import Goldens
import Kernels
import ModelSpec

// Visibility, clamps, Gumbel sampling, Squinch and all-reduce: clauses V, C, K, S.

let techniqueOperations: [(String, EngineCatalog.Compute)] = [
    ("visibility.dense", denseMask), ("visibility.tree", treeMask), ("visibility.build", queryMask),
    ("clamp.dynamic", dynamicClamp), ("clamp.static", staticClamp),
    ("gumbel.topk", gumbelTopK), ("gumbel.replacement", gumbelReplacement), ("gumbel.softmax", gumbelSoftmax),
    ("squinch.encode", squinchEncode), ("squinch.decode", squinchDecode), ("squinch.feedback", squinchFeedback),
    ("allreduce.squinch", squinchAllReduce), ("allreduce.bf16", bf16AllReduce), ("allreduce.fp32", fp32AllReduce),
]

// MARK: - Visibility

private func denseMask(_ question: EngineQuestion) throws -> CaseResult {
    let bits = MaskBits(try question.given.visibility())
    var mask: [UInt8] = []
    mask.reserveCapacity(bits.batch * bits.queries * bits.keys)
    for row in 0..<bits.batch * bits.queries {
        for key in 0..<bits.keys {
            mask.append(UInt8(bits.words[row * bits.tiles + key / 16] >> UInt16(key % 16) & 1))
        }
    }
    var result = CaseResult()
    result.output("mask", Tensor(mask, shape: [bits.batch, bits.queries, bits.keys]))
    return result
}

private func treeMask(_ question: EngineQuestion) throws -> CaseResult {
    let parents = question.given.integers("parent", Int32.self)
    let lengths = question.given.integers("length", Int32.self)
    let tree = try MaskBuilders.tree(parents: parents, lengths: lengths)
    let shape = [tree.positions.count]
    var result = CaseResult()
    result.output("visibility_start", Tensor(tree.intervals.start, shape: shape))
    result.output("visibility_limit", Tensor(tree.intervals.limit, shape: shape))
    result.output("position", Tensor(tree.positions, shape: shape))
    return result
}

private func queryMask(_ question: EngineQuestion) throws -> CaseResult {
    let given = question.given
    let intervals = try MaskBuilders.byQuery(
        given.choice("kind"), lengths: given.integers("length", Int32.self),
        prefixes: given.integers("prefix", Int32.self), window: given.optionalInteger("window") ?? 1)
    let shape = [intervals.start.count]
    var result = CaseResult()
    result.output("visibility_start", Tensor(intervals.start, shape: shape))
    result.output("visibility_limit", Tensor(intervals.limit, shape: shape))
    return result
}

// MARK: - Clamps

private func dynamicClamp(_ question: EngineQuestion) throws -> CaseResult {
    let given = question.given
    let limit = try ClampPass.dynamicLimit(
        question.context, weights: given.bf16("w"), fanIn: question.size("n"), kappa: given.float("kappa"),
        activation: given.choice("activation", ClampActivation.self))
    return try clamp(question, limit: limit)
}

private func staticClamp(_ question: EngineQuestion) throws -> CaseResult {
    try clamp(question, limit: question.given.float("limit"))
}

private func clamp(_ question: EngineQuestion, limit: Float) throws -> CaseResult {
    let given = question.given
    let int8 = given.flag("int8")
    let y = given.floats("y")
    let shape = [question.size("t"), question.size("m")]
    let pass = try ClampPass(
        limit: limit, activation: given.choice("activation", ClampActivation.self), int8: int8)
    let forward = pass.forward(y)
    let dx = pass.backward(y, dy: given.floats("dy"), gradient: given.choice("gradient", ClampGradient.self))
    var result = CaseResult()
    result.output("limit", [pass.limit], [1])
    result.output("clamped", forward.clamped, shape)
    if int8 { result.output("codes", Tensor(forward.codes, shape: shape)) }
    result.output("dequantised", forward.dequantised, shape)
    result.output("dx", dx, shape)
    return result
}

// MARK: - Gumbel

private func gumbelTopK(_ question: EngineQuestion) throws -> CaseResult {
    let (n, v, k) = (question.size("N"), question.size("V"), question.size("k"))
    let sample = try sampler(question).topK(question.given.floats("logits"), rows: n, vocabulary: v, k: k)
    var result = CaseResult()
    result.output("ids", Tensor(sample.ids, shape: [n, k]))
    result.output("weights", sample.weights, [n, k])
    result.output("kappa", sample.kappa, [n])
    return result
}

private func gumbelReplacement(_ question: EngineQuestion) throws -> CaseResult {
    let (n, v, k) = (question.size("N"), question.size("V"), question.size("k"))
    let sample = try sampler(question).withReplacement(question.given.floats("logits"), rows: n, vocabulary: v, k: k)
    var result = CaseResult()
    result.output("ids", Tensor(sample.ids, shape: [n, k]))
    result.output("weights", sample.weights, [n, k])
    return result
}

private func gumbelSoftmax(_ question: EngineQuestion) throws -> CaseResult {
    let given = question.given
    let (n, v) = (question.size("N"), question.size("V"))
    let relaxed = try sampler(question).softmax(
        given.floats("logits"), outputGradient: given.floats("dy"), rows: n, vocabulary: v, tau: given.float("tau"))
    var result = CaseResult()
    result.output("y", relaxed.output, [n, v])
    result.output("dlogits", relaxed.gradient, [n, v])
    return result
}

private func sampler(_ question: EngineQuestion) -> GumbelSampler {
    let given = question.given
    return GumbelSampler(
        question.context,
        RandomWords(
            seed: given.unsigned64("seed"), stream: UInt32(given.integer("stream")),
            step: UInt32(given.integer("step"))))
}

// MARK: - Squinch

/// The code of a question, over n values at a time.
private struct Squinch {
    let blocks: SquinchBlocks
    let memory: Memory

    init(_ question: EngineQuestion) {
        blocks = SquinchBlocks(question.context, question.given.choice("variant", SquinchVariant.self))
        memory = question.memory
    }

    /// Where the random words are, if the variant draws any.
    func source(_ words: UnsafeMutablePointer<UInt32>) -> SquinchBlocks.RandomSource {
        blocks.variant == .stochastic15 ? .words(UnsafePointer(words)) : .none
    }

    /// - Throws: ``/Goldens/OperationError`` for the first value that is refused (S6).
    func encode(
        _ x: UnsafeMutablePointer<Float>, _ n: Int, _ words: UnsafeMutablePointer<UInt32>, saturates: Bool,
        into bytes: UnsafeMutablePointer<UInt8>
    ) throws {
        if let first = blocks.firstRefused(x, n, saturates: saturates) {
            throw OperationError(.value, "\(x[first]) at index \(first), where a finite value was expected")
        }
        _ = blocks.encode(x, n, into: bytes, random: source(words))
    }

    /// S7: the code of x + e, its values, and what it lost.
    ///
    /// - Throws: ``/Goldens/OperationError`` for the first sum that is not finite.
    func feedback(
        _ x: UnsafeMutablePointer<Float>, _ e: UnsafeMutablePointer<Float>, _ n: Int,
        _ words: UnsafeMutablePointer<UInt32>, into bytes: UnsafeMutablePointer<UInt8>,
        decoded: UnsafeMutablePointer<Float>, residual: UnsafeMutablePointer<Float>
    ) throws {
        let sum = memory.zeros(n, Float.self)
        for i in 0..<n {
            sum[i] = x[i] + e[i]
            guard sum[i].isFinite else {
                throw OperationError(.value, "x + e is not finite at index \(i): x is \(x[i]), e is \(e[i])")
            }
        }
        try encode(sum, n, words, saturates: false, into: bytes)
        blocks.decode(bytes, n, into: decoded)
        for i in 0..<n { residual[i] = sum[i] - decoded[i] }
    }
}

private func squinchEncode(_ question: EngineQuestion) throws -> CaseResult {
    let n = question.size("n")
    let isNarrow = question.given.tensor("x").type == .bf16
    let x = isNarrow ? question.widened("x", n) : question.floats("x")
    let bytes = question.zeros(6 * SquinchBlocks.blocks(n), UInt8.self)
    try Squinch(question).encode(
        x, n, question.integers("random", UInt32.self), saturates: saturates(question), into: bytes)
    var result = CaseResult()
    result.output("blocks", bytes: bytes, [SquinchBlocks.blocks(n), 6])
    return result
}

private func squinchDecode(_ question: EngineQuestion) throws -> CaseResult {
    let n = question.size("n")
    let x = question.zeros(n, Float.self)
    Squinch(question).blocks.decode(question.integers("blocks", UInt8.self), n, into: x)
    var result = CaseResult()
    result.output("x", x, [n])
    return result
}

private func squinchFeedback(_ question: EngineQuestion) throws -> CaseResult {
    let n = question.size("n")
    let bytes = question.zeros(6 * SquinchBlocks.blocks(n), UInt8.self)
    let decoded = question.zeros(n, Float.self)
    let residual = question.zeros(n, Float.self)
    try Squinch(question).feedback(
        question.floats("x"), question.floats("e"), n, question.integers("random", UInt32.self), into: bytes,
        decoded: decoded, residual: residual)
    var result = CaseResult()
    result.output("blocks", bytes: bytes, [SquinchBlocks.blocks(n), 6])
    result.output("decoded", decoded, [n])
    result.output("residual", residual, [n])
    return result
}

private func saturates(_ question: EngineQuestion) -> Bool {
    question.given.choice("nonfinite", NonfinitePolicy.self) == .saturate
}

// MARK: - All-reduce

private func squinchAllReduce(_ question: EngineQuestion) throws -> CaseResult {
    let (ranks, n) = (question.size("W"), question.size("n"))
    let hasFeedback = question.given.flag("feedback")
    let squinch = Squinch(question)
    let blocks = SquinchBlocks.blocks(n)
    let g = question.floats("g")
    let e = question.floats("e")
    let words = question.integers("random", UInt32.self)
    let encoded = question.zeros(ranks * 6 * blocks, UInt8.self)
    let decoded = question.zeros(n, Float.self)
    let residual = question.zeros(ranks * n, Float.self)
    for rank in 0..<ranks {
        let (row, bytes) = (rank * n, encoded + rank * 6 * blocks)
        if hasFeedback {
            try squinch.feedback(
                g + row, e + row, n, words + row, into: bytes, decoded: decoded, residual: residual + row)
        } else {
            try squinch.encode(g + row, n, words + row, saturates: saturates(question), into: bytes)
        }
    }
    let reduced = question.zeros(6 * blocks, UInt8.self)
    let mean = question.zeros(n, Float.self)
    let reducedWords = question.integers("random_reduced", UInt32.self)
    _ = squinch.blocks.reduce(
        encoded, ranks: ranks, n, reduced: reduced, mean: mean, random: squinch.source(reducedWords))
    var result = CaseResult()
    result.output("r", mean, [n])
    result.output("encoded", bytes: encoded, [ranks, blocks, 6])
    result.output("reduced", bytes: reduced, [blocks, 6])
    if hasFeedback { result.output("residual", residual, [ranks, n]) }
    return result
}

private func bf16AllReduce(_ question: EngineQuestion) throws -> CaseResult {
    let n = question.size("n")
    let mean = mean(question, rounds: true)
    var result = CaseResult()
    result.output("r", bf16: (0..<n).map { UInt16(mean[$0].bitPattern >> 16) }, [n])
    return result
}

private func fp32AllReduce(_ question: EngineQuestion) throws -> CaseResult {
    var result = CaseResult()
    result.output("r", mean(question, rounds: false), [question.size("n")])
    return result
}

private func mean(_ question: EngineQuestion, rounds: Bool) -> UnsafeMutablePointer<Float> {
    let (ranks, n) = (question.size("W"), question.size("n"))
    let mean = question.zeros(n, Float.self)
    question.layers.mean(question.floats("g"), ranks: ranks, n, rounds: rounds, into: mean)
    return mean
}
