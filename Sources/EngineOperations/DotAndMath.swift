import Cases
import Engine
import Goldens
import Kernels
import ModelSpec

let dotOperations: [(String, EngineCatalog.Compute)] = [
    (
        "dot.gemm",
        { given, context in
            let recipe = given.choice("dot", DotRecipe.self)
            let a = given.bf16("a")
            let b = given.bf16("b")
            let c = given.has("c") ? given.floats("c") : nil
            let (m, k, n) = (given.size("M"), given.size("K"), given.size("N"))
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
        { given, context in
            try sums(given) { x, y, n, _ in
                y.map { context.kernels.rows.sumOfProducts(x, $0, n) } ?? context.kernels.rows.sum(x, n)
            }
        }
    ),
    (
        "sum.lane16x4096",
        { given, context in
            try sums(given) { x, y, n, scratch in
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
    ("sum.chain", { given, context in try sums(given) { x, y, n, _ in Layers(context).chain(x, y, n) } }),
]

private func sums(
    _ given: CheckedCase,
    _ sum: (UnsafePointer<Float>, UnsafePointer<Float>?, Int, UnsafeMutablePointer<Float>) -> Float
) throws -> CaseResult {
    let x = given.floats("x")
    let y = given.has("y") ? given.floats("y") : nil
    let (m, n) = (given.size("m"), given.size("n"))
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
        { given, _ in
            let key = given.integers("key", UInt32.self)
            let counter = given.integers("counter", UInt32.self)
            var words: [UInt32] = []
            for row in 0..<given.size("n") {
                let seed = UInt64(key[2 * row + 1]) << 32 | UInt64(key[2 * row])
                let random = RandomWords(seed: seed, stream: counter[4 * row + 2], step: counter[4 * row + 3])
                let block = random.block(UInt64(counter[4 * row + 1]) << 32 | UInt64(counter[4 * row]))
                words += [block.0, block.1, block.2, block.3]
            }
            var result = CaseResult()
            result.output("words", Tensor(words, shape: [given.size("n"), 4]))
            return result
        }
    ),
    ("random.uniform", wordFunction(RandomWords.uniform)), ("random.gumbel", wordFunction(RandomWords.gumbel)),
    (
        "random.normal",
        { given, _ in
            let words = given.integers("words", UInt32.self)
            var values: [Float] = []
            for row in 0..<given.size("n") {
                let pair = RandomWords.normal(words[2 * row], words[2 * row + 1])
                values += [pair.0, pair.1]
            }
            var result = CaseResult()
            result.output("x", values, [given.size("n"), 2])
            return result
        }
    ),
]

private func vectorFunction(_ function: @escaping @Sendable (KernelSet) -> MathKernels.Function)
    -> EngineCatalog.Compute
{
    { given, context in
        let x = given.floats("x")
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
    { given, _ in
        let x = given.floats("x")
        var result = CaseResult()
        result.output("y", x.map(function), [x.count])
        return result
    }
}

private func wordFunction(_ function: @escaping @Sendable (UInt32) -> Float) -> EngineCatalog.Compute {
    { given, _ in
        let words = given.integers("words", UInt32.self)
        var result = CaseResult()
        result.output("x", words.map(function), [words.count])
        return result
    }
}
