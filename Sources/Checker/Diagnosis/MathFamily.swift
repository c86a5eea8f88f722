import Cases
import ExactMath
import Goldens
import ModelSpec

// math.* and random.*: clauses E and G under choices.

extension DeviationCatalog {
    static let mathFamily = VariantFamily(
        name: "math", operations: Suite.operations(of: .math),
        deviations: [
            function(
                "base-2.fp32", "goes by way of base 2 in fp32: exp2(x log2 e), log2(x) ln 2",
                [
                    "math.exp": { x in exp2(x * Constants.log2e) }, "math.log": { x in log2(x) * Constants.ln2 },
                ]),
            function(
                "base-2.unscaled", "takes base 2 for base e",
                [
                    "math.exp": exp2, "math.log": log2,
                    "math.log1p": { x in log2(1 + x) },
                ]),
            function(
                "identity.textbook", "uses the identity that loses digits: exp(x) - 1, log(1 + x), 1 / sqrt(x)",
                [
                    "math.expm1": { CorrectlyRounded.exp($0) - 1 },
                    "math.log1p": { CorrectlyRounded.log(1 + $0) },
                    "math.rsqrt": { SoftFloat32.divide(1, CorrectlyRounded.sqrt($0)) },
                ]),
            function(
                "identity.root-of-reciprocal", "takes sqrt(1 / x)",
                [
                    "math.rsqrt": { CorrectlyRounded.sqrt(SoftFloat32.divide(1, $0)) }
                ]),
            function(
                "identity.x-times-rsqrt", "takes x / sqrt(x) by 1 / sqrt(x)",
                [
                    "math.sqrt": { $0 * CorrectlyRounded.rsqrt($0) }
                ]),
            function(
                "pi.rounded", "rounds pi x before the sine or cosine",
                [
                    "math.sinPi": { circular($0, CorrectlyRounded.sin) },
                    "math.cosPi": { circular($0, CorrectlyRounded.cos) },
                ]),
            function(
                "pi.exchanged", "takes the sine for the cosine",
                [
                    "math.sinPi": CorrectlyRounded.cosPi, "math.cosPi": CorrectlyRounded.sinPi,
                ]),
            function(
                "pi.missing", "takes the function of x instead of pi x",
                [
                    "math.sinPi": { $0.isFinite ? CorrectlyRounded.sin(Double($0)) : .nan },
                    "math.cosPi": { $0.isFinite ? CorrectlyRounded.cos(Double($0)) : .nan },
                ]),
            rounding("toward-zero", "rounds toward zero"), rounding("up", "rounds up"), rounding("down", "rounds down"),
            rounding("bf16", "gives a result of bf16's precision"),
            rounding("through-fp64", "rounds the result to fp64 and then to fp32"),
            .input("math.inputs.flushed", "reads subnormal inputs as zero", ["E1", "F3"], "x") {
                $1.mapping { $0 & 0x7F80_0000 == 0 ? $0 & 0x8000_0000 : $0 }
            },
            .input("math.inputs.bf16", "rounds its input to bf16", ["E1"], "x") {
                $1.mapping { UInt64(SoftFloat32.roundToBFloat16(Float(bitPattern: UInt32($0)))) << 16 }
            },
            .input("math.inputs.sign-lost", "takes the input's magnitude", ["E1"], "x") {
                $1.mapping { $0 & 0x7FFF_FFFF }
            },
            Deviation(
                "math.range.exp-clipped-88", "clips the argument of exp at 88", ["E1"],
                .question { goldenCase in
                    guard goldenCase.op == "math.exp", let x = goldenCase.inputs["x"] else { return nil }
                    var changed = goldenCase
                    changed.inputs = goldenCase.inputs.replacing(
                        "x",
                        with: x.mapping { bits in
                            let value = Float(bitPattern: UInt32(bits))
                            return value > 88 ? UInt64(Float(88).bitPattern) : bits
                        })
                    return changed
                }),
        ], compute: nil)

    private enum Constants {
        static let log2e = Float(bitPattern: 0x3FB8_AA3B)
        static let ln2 = Float(bitPattern: 0x3F31_7218)
        static let pi = Float(bitPattern: 0x4049_0FDB)
    }

    private static let ln2 = DoubleDouble.log(DoubleDouble(2.0))

    /// RNE32 of 2^x, from double-double.
    static let exp2: @Sendable (Float) -> Float = { x in
        guard x.isFinite else { return x.isNaN ? x : x > 0 ? x : 0 }
        if x >= 128 { return .infinity }
        if x < -151 { return 0 }
        let value = DoubleDouble.exp(DoubleDouble(Double(x)) * ln2)
        return SoftFloat32.convert(value.high)
    }

    /// RNE32 of the logarithm to base 2, from double-double.
    static let log2: @Sendable (Float) -> Float = { x in
        guard x > 0, x.isFinite else { return CorrectlyRounded.log(x) }
        let value = DoubleDouble.log(DoubleDouble(Double(x))) / ln2
        return SoftFloat32.convert(value.high)
    }

    private static func circular(_ x: Float, _ function: (Double) -> Float) -> Float {
        let product = x * Constants.pi
        return product.isFinite ? function(Double(product)) : .nan
    }

    /// `y` element by element, of some operations.
    private static func function(_ name: String, _ summary: String, _ functions: [String: @Sendable (Float) -> Float])
        -> Deviation
    {
        Deviation(
            "math.\(name)", summary, ["E1"],
            .answer { question, outputs in
                guard let function = functions[question.op], let x = try? question.inputs["x"]?.floats(),
                    let y = outputs["y"]
                else { return nil }
                return outputs.replacing("y", with: Tensor(x.map(function), shape: y.shape))
            })
    }

    /// `y` from the exact result in fp64, rounded in another way.
    private static func rounding(_ name: String, _ summary: String) -> Deviation {
        Deviation(
            "math.rounding.\(name)", summary, ["E1"],
            .answer { question, outputs in
                guard let function = MathFunction(rawValue: String(question.op.dropFirst("math.".count))),
                    let x = try? question.inputs["x"]?.floats(), let y = outputs["y"]
                else { return nil }
                let values = x.map { x -> Float in
                    let (nearest, truth) = (function.evaluate(x), function.truth(x))
                    guard truth.isFinite, truth != 0 else { return nearest }
                    switch name {
                    case "bf16": return SumVariant.bf16(nearest)
                    case "through-fp64": return SoftFloat32.convert(truth)
                    case "toward-zero":
                        return Double(nearest).magnitude > truth.magnitude
                            ? (nearest.isInfinite
                                ? Float(signOf: nearest, magnitudeOf: .greatestFiniteMagnitude)
                                : Float(bitPattern: nearest.bitPattern - 1)) : nearest
                    case "up": return Double(nearest) < truth ? nearest.nextUp : nearest
                    default: return Double(nearest) > truth ? nearest.nextDown : nearest
                    }
                }
                return outputs.replacing("y", with: Tensor(values, shape: y.shape))
            })
    }

    // MARK: - random.*

    static let randomFamily = VariantFamily(
        name: "random", operations: Suite.operations(of: .random),
        deviations: [
            words("key.exchanged", "takes the key's words in the other order", "key") { [$0[1], $0[0]] },
            words("counter.reversed", "takes the counter's words in the other order", "counter") { $0.reversed() },
            words("counter.next", "counts one block further", "counter") { [$0[0] &+ 1, $0[1], $0[2], $0[3]] },
            words("counter.halves-exchanged", "takes stream and step for the block's number", "counter") {
                [$0[2], $0[3], $0[0], $0[1]]
            },
            Deviation(
                "random.words.reversed", "gives the words of a block in the other order", ["G1"],
                .answer { question, outputs in
                    guard question.op == "random.philox", let words = outputs["words"] else { return nil }
                    return outputs.replacing("words", with: words.picking { $0 / 4 * 4 + 3 - $0 % 4 })
                }),
            rounds(7), rounds(9), rounds(11),
            draw("uniform.24-bits", "takes w >> 8 times 2^-24, which can be 0", ["G2"], "random.uniform") {
                Float($0 >> 8) * 0x1p-24
            },
            draw("uniform.23-bits-open", "leaves out the half step: (w >> 9) times 2^-23", ["G2"], "random.uniform") {
                Float($0 >> 9) * 0x1p-23
            },
            draw("uniform.32-bits", "takes w times 2^-32, rounded", ["G2"], "random.uniform") {
                SoftFloat32.convert(UInt64($0)) * 0x1p-32
            },
            draw("uniform.lower-bits", "takes the lower bits of the word", ["G2"], "random.uniform") {
                Float(2 * ($0 & 0x7F_FFFF) + 1) * 0x1p-24
            },
            draw("uniform.reflected", "takes 1 - u", ["G2"], "random.uniform") { 1 - RandomDistributions.uniform($0) },
            draw("gumbel.24-bits", "makes a Gumbel of the 24-bit uniform: -log(-log(u))", ["G3"], "random.gumbel") {
                -CorrectlyRounded.log(-CorrectlyRounded.log(RandomDistributions.uniform($0)))
            },
            draw("gumbel.minimum", "gives the Gumbel of the minimum: log(-log(u))", ["G3"], "random.gumbel") {
                -RandomDistributions.gumbel($0)
            },
            draw("gumbel.epsilon", "adds 1e-20 inside the logarithms", ["G3"], "random.gumbel") {
                let epsilon = Float(1e-20)
                return -CorrectlyRounded.log(-CorrectlyRounded.log(RandomDistributions.uniform($0) + epsilon) + epsilon)
            },
            draw("gumbel.exponential", "stops at -log(u)", ["G3"], "random.gumbel") {
                -CorrectlyRounded.log(RandomDistributions.uniform($0))
            },
            normal("exchanged", "gives sine before cosine") { ($0.1, $0.0) },
            normal("negated", "gives the second with the other sign") { ($0.0, -$0.1) },
            words("normal.words-exchanged", "takes the angle from the first word", "words") { [$0[1], $0[0]] },
        ], compute: nil)

    private static func words(
        _ name: String, _ summary: String, _ input: String, _ change: @escaping @Sendable ([UInt32]) -> [UInt32]
    ) -> Deviation {
        .input("random.\(name)", summary, ["G1", "G4"], input) { _, tensor in
            guard tensor.shape.count == 2, let width = tensor.shape.last, width > 1,
                let words = try? tensor.integers(UInt32.self)
            else { return nil }
            let rows = stride(from: 0, to: words.count, by: width).flatMap { change(Array(words[$0..<$0 + width])) }
            return Tensor(rows, shape: tensor.shape)
        }
    }

    /// Philox4x32 with another number of rounds, by its definition (Salmon et al. 2011).
    private static func rounds(_ count: Int) -> Deviation {
        Deviation(
            "random.rounds.\(count)", "runs \(count) rounds instead of 10", ["G1"],
            .answer { question, outputs in
                guard question.op == "random.philox", let key = try? question.inputs["key"]?.integers(UInt32.self),
                    let counter = try? question.inputs["counter"]?.integers(UInt32.self), let words = outputs["words"]
                else { return nil }
                var result: [UInt32] = []
                for row in 0..<words.shape[0] {
                    var c = Array(counter[4 * row..<4 * row + 4])
                    var k = (key[2 * row], key[2 * row + 1])
                    for round in 0..<count {
                        if round > 0 { k = (k.0 &+ 0x9E37_79B9, k.1 &+ 0xBB67_AE85) }
                        let (p0, p1) = (
                            UInt32(0xD251_1F53).multipliedFullWidth(by: c[0]),
                            UInt32(0xCD9E_8D57).multipliedFullWidth(by: c[2])
                        )
                        c = [p1.high ^ c[1] ^ k.0, p1.low, p0.high ^ c[3] ^ k.1, p0.low]
                    }
                    result += c
                }
                return outputs.replacing("words", with: Tensor(result, shape: words.shape))
            })
    }

    private static func draw(
        _ name: String, _ summary: String, _ clauses: [String], _ op: String,
        _ compute: @escaping @Sendable (UInt32) -> Float
    ) -> Deviation {
        Deviation(
            "random.\(name)", summary, clauses,
            .answer { question, outputs in
                guard question.op == op, let words = try? question.inputs["words"]?.integers(UInt32.self),
                    let x = outputs["x"]
                else { return nil }
                return outputs.replacing("x", with: Tensor(words.map(compute), shape: x.shape))
            })
    }

    private static func normal(
        _ name: String, _ summary: String, _ change: @escaping @Sendable ((Float, Float)) -> (Float, Float)
    )
        -> Deviation
    {
        Deviation(
            "random.normal.\(name)", summary, ["G4"],
            .answer { question, outputs in
                guard question.op == "random.normal", let x = try? outputs["x"]?.floats(),
                    let shape = outputs["x"]?.shape
                else { return nil }
                let values = stride(from: 0, to: x.count, by: 2).flatMap { index -> [Float] in
                    let pair = change((x[index], x[index + 1]))
                    return [pair.0, pair.1]
                }
                return outputs.replacing("x", with: Tensor(values, shape: shape))
            })
    }
}
