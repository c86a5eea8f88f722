import Engine
import GoldenIO
import Goldens
import Kernels
import ModelSpec

let dotOperations: [(String, EngineCatalog.Compute)] = [
    (
        "dot.gemm",
        { reader, context in
            let recipe = try reader.choice("dot", DotRecipe.self)
            let a = try reader.bf16("a", "M", "K")
            let b = try reader.bf16("b", "K", "N")
            let c = reader.hasInput("c") ? try reader.floats("c", "M", "N") : nil
            try reader.boundConstants()
            try reader.finish()
            let (m, k, n) = (reader.size("M"), reader.size("K"), reader.size("N"))
            let d = filledFloats(m * n) { d in
                Layers(context).multiply(a, b, initial: c, m: m, k: k, n: n, recipe: recipe, into: d)
            }
            var result = CaseResult()
            result.output("d", d, [m, n])
            return result
        }
    ),
    (
        "sum.lane16",
        { reader, context in
            try sums(&reader) { x, y, n, _ in
                y.map { context.kernels.rows.sumOfProducts(x, $0, n) } ?? context.kernels.rows.sum(x, n)
            }
        }
    ),
    (
        "sum.lane16x4096",
        { reader, context in
            try sums(&reader) { x, y, n, scratch in
                let rows = context.kernels.rows
                var blocks = 0
                for first in stride(from: 0, to: n, by: 4096) {
                    let count = min(4096, n - first)
                    scratch[blocks] =
                        y.map { rows.sumOfProducts(x + first, $0 + first, count) } ?? rows.sum(x + first, count)
                    blocks += 1
                }
                return rows.sum(scratch, blocks)
            }
        }
    ),
    ("sum.chain", { reader, context in try sums(&reader) { x, y, n, _ in Layers(context).chain(x, y, n) } }),
]

private func sums(
    _ reader: inout CaseReader,
    _ sum: (UnsafePointer<Float>, UnsafePointer<Float>?, Int, UnsafeMutablePointer<Float>) -> Float
) throws -> CaseResult {
    let x = try reader.floats("x", "m", "n")
    let y = reader.hasInput("y") ? try reader.floats("y", "m", "n") : nil
    try reader.boundConstants()
    try reader.finish()
    let (m, n) = (reader.size("m"), reader.size("n"))
    let s = filledFloats(m) { s in
        _ = filledFloats(n / 4096 + 1) { scratch in
            x.withUnsafeBufferPointer { x in
                for row in 0..<m {
                    guard let first = x.baseAddress, n > 0 else { break }
                    if let y {
                        y.withUnsafeBufferPointer {
                            s[row] = sum(first + row * n, $0.baseAddress! + row * n, n, scratch)
                        }
                    } else {
                        s[row] = sum(first + row * n, nil, n, scratch)
                    }
                }
            }
        }
    }
    var result = CaseResult()
    result.output("s", s, [m])
    return result
}

let mathOperations: [(String, EngineCatalog.Compute)] = [
    ("math.exp", vectorFunction { $0.math.exp }), ("math.log", vectorFunction { $0.math.log }),
    ("math.rsqrt", vectorFunction { $0.math.rsqrt }), ("math.expm1", scalarFunction(ScalarMath.expm1)),
    ("math.log1p", scalarFunction(ScalarMath.log1p)), ("math.sqrt", scalarFunction(ScalarMath.sqrt)),
    ("math.reciprocal", scalarFunction(ScalarMath.reciprocal)), ("math.sinPi", scalarFunction(ScalarMath.sinPi)),
    ("math.cosPi", scalarFunction(ScalarMath.cosPi)),
    (
        "random.philox",
        { reader, _ in
            let key = try reader.integers("key", UInt32.self, "n", "2")
            let counter = try reader.integers("counter", UInt32.self, "n", "4")
            try reader.finish()
            var words: [UInt32] = []
            for row in 0..<reader.size("n") {
                let seed = UInt64(key[2 * row + 1]) << 32 | UInt64(key[2 * row])
                let random = RandomWords(seed: seed, stream: counter[4 * row + 2], step: counter[4 * row + 3])
                let block = random.block(UInt64(counter[4 * row + 1]) << 32 | UInt64(counter[4 * row]))
                words += [block.0, block.1, block.2, block.3]
            }
            var result = CaseResult()
            result.output("words", Tensor(words, shape: [reader.size("n"), 4]))
            return result
        }
    ),
    ("random.uniform", wordFunction(RandomWords.uniform)), ("random.gumbel", wordFunction(RandomWords.gumbel)),
    (
        "random.normal",
        { reader, _ in
            let words = try reader.integers("words", UInt32.self, "n", "2")
            try reader.finish()
            var values: [Float] = []
            for row in 0..<reader.size("n") {
                let pair = RandomWords.normal(words[2 * row], words[2 * row + 1])
                values += [pair.0, pair.1]
            }
            var result = CaseResult()
            result.output("x", values, [reader.size("n"), 2])
            return result
        }
    ),
]

private func vectorFunction(_ function: @escaping @Sendable (KernelSet) -> MathKernels.Function)
    -> EngineCatalog.Compute
{
    { reader, context in
        let x = try reader.floats("x", "n")
        try reader.boundConstants()
        try reader.finish()
        var result = CaseResult()
        result.output(
            "y",
            filledFloats(x.count) { y in
                x.withUnsafeBufferPointer { x in
                    if let first = x.baseAddress { function(context.kernels)(first, y, x.count) }
                }
            }, [x.count])
        return result
    }
}

private func scalarFunction(_ function: @escaping @Sendable (Float) -> Float) -> EngineCatalog.Compute {
    { reader, _ in
        let x = try reader.floats("x", "n")
        try reader.boundConstants()
        try reader.finish()
        var result = CaseResult()
        result.output("y", x.map(function), [x.count])
        return result
    }
}

private func wordFunction(_ function: @escaping @Sendable (UInt32) -> Float) -> EngineCatalog.Compute {
    { reader, _ in
        let words = try reader.integers("words", UInt32.self, "n")
        try reader.finish()
        var result = CaseResult()
        result.output("x", words.map(function), [words.count])
        return result
    }
}
