import Cases
import Engine
import Goldens
import Kernels
import ModelSpec

let dotOperations: [(String, EngineCatalog.Compute)] = [
    ("dot.gemm", gemm),
    ("sum.lane16", sums { question, x, y, n, _ in lane16(question.rows, x, y, n) }),
    ("sum.lane16x4096", sums { question, x, y, n, scratch in lane16x4096(question.rows, x, y, n, scratch) }),
    ("sum.chain", sums { question, x, y, n, _ in question.layers.chain(x, y, n) }),
]

private func gemm(_ question: EngineQuestion) throws -> CaseResult {
    let given = question.given
    let (m, k, n) = (question.size("M"), question.size("K"), question.size("N"))
    let c = given.has("c") ? given.floats("c") : nil
    let d = question.zeros(m * n, Float.self)
    question.layers.multiply(
        given.bf16("a"), given.bf16("b"), initial: c, m: m, k: k, n: n, recipe: given.choice("dot", DotRecipe.self),
        into: d)
    var result = CaseResult()
    question.output("d", d, [m, n], as: "output", in: &result)
    return result
}

private typealias Floats = UnsafeMutablePointer<Float>

/// A sum of a row, or of products of rows, with room for n / 4096 + 1 numbers.
private typealias Sum =
    @Sendable (_ question: EngineQuestion, _ x: Floats, _ y: Floats?, _ n: Int, _ scratch: Floats) -> Float

private func sums(_ sum: @escaping Sum) -> EngineCatalog.Compute {
    { question in
        let (m, n) = (question.size("m"), question.size("n"))
        let x = question.floats("x")
        let y = question.given.has("y") ? question.floats("y") : nil
        let s = question.zeros(m, Float.self)
        let scratch = question.zeros(n / 4096 + 1, Float.self)
        for row in 0..<m {
            let factor: Floats? = y.map { $0 + row * n }
            s[row] = sum(question, x + row * n, factor, n, scratch)
        }
        var result = CaseResult()
        result.output("s", s, [m])
        return result
    }
}

private func lane16(_ rows: RowKernels, _ x: Floats, _ y: Floats?, _ n: Int) -> Float {
    if let y { return rows.sumOfProducts(x, y, n) }
    return rows.sum(x, n)
}

private func lane16x4096(_ rows: RowKernels, _ x: Floats, _ y: Floats?, _ n: Int, _ scratch: Floats) -> Float {
    var blocks = 0
    for first in stride(from: 0, to: n, by: 4096) {
        let factor: Floats? = y.map { $0 + first }
        scratch[blocks] = lane16(rows, x + first, factor, min(4096, n - first))
        blocks += 1
    }
    return rows.sum(scratch, blocks)
}

let mathOperations: [(String, EngineCatalog.Compute)] = [
    ("math.exp", vectorFunction { $0.math.exp }), ("math.log", vectorFunction { $0.math.log }),
    ("math.rsqrt", vectorFunction { $0.math.rsqrt }), ("math.expm1", scalarFunction(ScalarMath.expm1)),
    ("math.log1p", scalarFunction(ScalarMath.log1p)), ("math.sqrt", scalarFunction(ScalarMath.sqrt)),
    ("math.reciprocal", scalarFunction(ScalarMath.reciprocal)), ("math.sinPi", scalarFunction(ScalarMath.sinPi)),
    ("math.cosPi", scalarFunction(ScalarMath.cosPi)), ("random.philox", philox),
    ("random.uniform", wordFunction(RandomWords.uniform)), ("random.gumbel", wordFunction(RandomWords.gumbel)),
    ("random.normal", normal),
]

private func vectorFunction(
    _ function: @escaping @Sendable (KernelSet) -> MathKernels.Function
) -> EngineCatalog.Compute {
    { question in
        let n = question.size("n")
        let y = question.zeros(n, Float.self)
        function(question.context.kernels)(question.floats("x"), y, n)
        var result = CaseResult()
        result.output("y", y, [n])
        return result
    }
}

private func scalarFunction(_ function: @escaping @Sendable (Float) -> Float) -> EngineCatalog.Compute {
    { question in
        var result = CaseResult()
        result.output("y", question.given.floats("x").map(function), [question.size("n")])
        return result
    }
}

private func wordFunction(_ function: @escaping @Sendable (UInt32) -> Float) -> EngineCatalog.Compute {
    { question in
        var result = CaseResult()
        result.output("x", question.given.integers("words", UInt32.self).map(function), [question.size("n")])
        return result
    }
}

private func philox(_ question: EngineQuestion) throws -> CaseResult {
    let key = question.given.integers("key", UInt32.self)
    let counter = question.given.integers("counter", UInt32.self)
    let n = question.size("n")
    var words: [UInt32] = []
    for row in 0..<n {
        let seed = UInt64(key[2 * row + 1]) << 32 | UInt64(key[2 * row])
        let random = RandomWords(seed: seed, stream: counter[4 * row + 2], step: counter[4 * row + 3])
        let block = random.block(UInt64(counter[4 * row + 1]) << 32 | UInt64(counter[4 * row]))
        words += [block.0, block.1, block.2, block.3]
    }
    var result = CaseResult()
    result.output("words", Tensor(words, shape: [n, 4]))
    return result
}

private func normal(_ question: EngineQuestion) throws -> CaseResult {
    let words = question.given.integers("words", UInt32.self)
    let n = question.size("n")
    var values: [Float] = []
    for row in 0..<n {
        let pair = RandomWords.normal(words[2 * row], words[2 * row + 1])
        values += [pair.0, pair.1]
    }
    var result = CaseResult()
    result.output("x", values, [n, 2])
    return result
}
