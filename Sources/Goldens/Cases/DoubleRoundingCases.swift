import Cases
import ExactMath
import JSON
import ModelSpec

// Results that come out otherwise by way of a wider format: the wider format rounds them onto a midpoint of the narrower one, the second rounding
// takes the even neighbour. A product stands on a midpoint, and an addend of fewer than 2^-53 of it decides.

private let doubleRounding =
    "a product on a midpoint, and an addend too small for fp64: a fused multiply-add in fp64, rounded again, falls to the even side"

// MARK: - bf16

func bfloat16DoubleRoundingCases(_ builder: CaseBuilder) -> [GoldenCase] {
    // Nine significant bits, the last of them set.
    var triples: [(UInt16, UInt16, UInt16)] = []
    for (a, b) in [(129, 3), (131, 3), (133, 3), (135, 3), (169, 3), (97, 5)] {
        for distance in [10, 30, 60, 100] {
            for sign in [1, -1] as [Float] {
                let (x, y) = (sign * Float(a), Float(b))
                // The exponent of 2^distance below the product's.
                let c = Float(sign: .plus, exponent: 8 - distance, significand: 1)
                triples.append((upperBits(x), upperBits(y), upperBits(c)))
                triples.append((upperBits(x), upperBits(y), upperBits(-c)))
            }
        }
    }
    return RoundingName.allCases.map(\.rawValue).map { rounding in
        var inputs: TensorGroup = [
            NamedTensor("a", Tensor(bf16: triples.map(\.0), shape: [triples.count])),
            NamedTensor("b", Tensor(bf16: triples.map(\.1), shape: [triples.count])),
            NamedTensor("c", Tensor(bf16: triples.map(\.2), shape: [triples.count])),
        ]
        if rounding == "sr" {
            var random = builder.random("fma-product-on-tie")
            inputs.append("random", Tensor(random.halves(triples.count), shape: [triples.count]))
        }
        return builder.makeCase(
            "fma-product-on-tie-\(rounding)", "bf16.fma",
            why:
                "the product is half way between two bf16 numbers and c, 2^10 to 2^100 below it, decides: fp32 and fp64 lose c, and the tie goes to the even side",
            recipe: ["rounding": .string(rounding)], inputs: inputs)
    }
}

private func upperBits(_ x: Float) -> UInt16 { UInt16(x.bitPattern >> 16) }

// MARK: - dot

func sumDoubleRoundingCases(_ builder: CaseBuilder) -> [GoldenCase] {
    // 4097 * 4097 and 4097 * 4099 have 25 bits; the even neighbour lies below the one and above the other.
    var (x, y): ([Float], [Float]) = ([], [])
    for (small, a, b) in [
        (0x1p-30, 4097, 4097), (-0x1p-30, 4097, 4099), (-0x1p-30, -4097, 4097), (0x1p-30, 4097, -4099),
        (0x1p-90, 4097, 4097), (-0x1p-140, 4097, 4099),
    ] as [(Float, Float, Float)] {
        x += [small] + [Float](repeating: 0, count: 15) + [a]
        y += [1] + [Float](repeating: 0, count: 15) + [b]
    }
    // One lane of sixteen: terms 0 and 16.
    var cases = ["sum.lane16", "sum.lane16x4096", "sum.chain"].map { op in
        builder.makeCase(
            "\(op.dropFirst("sum.".count))-double-rounding", op, why: doubleRounding, recipe: boundConstants(n: 17),
            inputs: [NamedTensor("x", Tensor(x, shape: [6, 17])), NamedTensor("y", Tensor(y, shape: [6, 17]))],
            clauses: ["F3"])
    }
    cases.append(
        builder.makeCase(
            "chain-double-rounding-of-two", "sum.chain", why: doubleRounding, recipe: boundConstants(n: 2),
            inputs: [
                NamedTensor("x", Tensor([0x1p-30, 4097, -0x1p-30, 4097] as [Float], shape: [2, 2])),
                NamedTensor("y", Tensor([1, 4097, 1, 4099] as [Float], shape: [2, 2])),
            ], clauses: ["F3"]))
    return cases
}

// MARK: - math

/// Arguments at which the function's value, rounded to fp64, is a midpoint of fp32 whose even neighbour is the wrong one: all there are among the
/// normal results of these functions. The others (exp, expm1, sqrt, rsqrt, reciprocal, sinPi, cosPi) have none.
func mathDoubleRoundingCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let arguments: [(MathFunction, [UInt32])] = [
        (.log, [0x3C41_3D3A, 0x4117_8FEB, 0x4C5D_65A5, 0x65D8_90D3, 0x6F31_A8EC]),
        (
            .log1p,
            [
                0x3540_0003, 0x3710_001B, 0x3EFD_81AD, 0x4107_8FEB, 0x65D8_90D3, 0x6F31_A8EC, 0xB53F_FFFD, 0xB70F_FFE5,
                0xBB0E_C8C4,
            ]
        ),
    ]
    return arguments.map { function, bits in
        let x = bits.map { Float(bitPattern: $0) }
        return builder.makeCase(
            "\(function.rawValue)-double-rounding", "math.\(function.rawValue)",
            why:
                "values that fp64 rounds onto a midpoint of fp32: the result of a good fp64 function, rounded again, is wrong",
            recipe: boundConstants(n: 0), inputs: [NamedTensor("x", Tensor(x, shape: [x.count]))])
    }
}

// MARK: - zreg

/// x about -log 3 with exp(0) / (exp(0) + exp(x)) = 3/4 in fp32.
private func logitOfThreeQuarters() -> Float {
    var x = CorrectlyRounded.log(Float(1) / 3)
    for _ in 0..<8 { x = x.nextDown }
    for _ in 0..<17 {
        if 1 / (1 + CorrectlyRounded.exp(x)) == 0.75 { return x }
        x = x.nextUp
    }
    preconditionFailure("some logit has the probability 3/4")
}

/// dP with 25 bits in 3/4 dP, whose even neighbours lie below and above, and what the row's first term adds.
private let threeQuarterTies: [(dp: Float, first: Float)] = [(5_592_407 * 0x1p-23, 1), (5_592_409 * 0x1p-23, -1)]

/// Logits of a row of 17: weights of e^-60, 1/4 and 3/4 at 0, 1 and 16; that at 2 is 2^-43.
private func logitsOfTies(_ none: Float) -> [Float] {
    [-60, logitOfThreeQuarters(), -30] + [Float](repeating: none, count: 13) + [0]
}

func rowDoubleRoundingCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let s = logitsOfTies(-.infinity) + logitsOfTies(-.infinity)
    let dp = threeQuarterTies.flatMap { [$0.first] + [Float](repeating: 0, count: 15) + [$0.dp] }
    return ["folded", "unfolded"].map { form in
        var recipe = JSONValue.entries("zreg_c", 0).merging(JSONValue.entries("kappa", 64)) { $1 }
        recipe["n"] = 17
        recipe["form"] = .string(form)
        return builder.makeCase(
            "rows-double-rounding-\(form)", "zreg.rows", why: "D: \(doubleRounding)", recipe: recipe,
            inputs: [NamedTensor("s", Tensor(s, shape: [2, 17])), NamedTensor("dp", Tensor(dp, shape: [2, 17]))])
    }
}

func attentionDoubleRoundingCases(_ builder: CaseBuilder) -> [GoldenCase] {
    // A head of its own for each tie: its values are its dP.
    let logits = logitsOfTies(-300)
    var value: [UInt16] = []
    for tie in threeQuarterTies {
        // Key 2 has dP = D, so that its dS is 0.
        let d = SoftFloat32.fusedMultiplyAdd(0.75, tie.dp, CorrectlyRounded.exp(-60) * 0.75 * tie.first)
        value += ([tie.first, 0, d] + [Float](repeating: 0, count: 13) + [tie.dp]).flatMap(bf16Parts)
    }
    let ones = Tensor(bf16: [UInt16](repeating: 0x3F80, count: 6), shape: [1, 2, 1, 3])
    return DotRecipe.allCases.map { dot in
        AttentionQuestion(
            query: ones, key: Tensor(bf16: (logits + logits).flatMap(bf16Parts), shape: [1, 2, 17, 3]),
            value: Tensor(bf16: value, shape: [1, 2, 17, 3]), outputGradient: ones, start: [0], limit: [17], scale: 1,
            dot: dot, c: 0
        ).makeBackward(
            builder, "double-rounding-\(dot.rawValue)", "D: \(doubleRounding); a key whose dP is D shows it in dk",
            .folded)
    }
}

// MARK: - layers

func layerDoubleRoundingCases(_ builder: CaseBuilder) -> [GoldenCase] {
    [normCase(builder), sparseCase(builder), ropeCase(builder)] + adamwCases(builder)
}

/// r is 4097/4096, so that the normalised x has 20 bits and the product with dy 25.
private func normCase(_ builder: CaseBuilder) -> GoldenCase {
    let width = 32
    let wanted: Float = 4097 * 0x1p-12
    var x = [Float](repeating: 0, count: 2 * width)
    x[16] = 0x1p-60
    (x[width], x[width + 1], x[width + 16]) = (0x1p-60, 0.125, 181 * 0x1p-8)
    let mean = (x[width + 1] * x[width + 1] + x[width + 16] * x[width + 16]) / Float(width)
    var epsilon = 1 / (wanted * wanted) - mean
    for _ in 0..<8 { epsilon = epsilon.nextDown }
    for _ in 0..<17 where CorrectlyRounded.rsqrt(mean + epsilon) != wanted { epsilon = epsilon.nextUp }
    precondition(CorrectlyRounded.rsqrt(mean + epsilon) == wanted, "some epsilon makes r 4097/4096")
    var dy = [Float](repeating: 0, count: 2 * width)
    // 23 * 181 * 4097 has 25 bits and its even neighbour above.
    (dy[16], dy[width], dy[width + 16]) = (-1, -1, 23 * 0x1p-5)
    func tensor(_ values: [Float], _ shape: [Int]) -> Tensor { Tensor(bf16: values.map(upperBits), shape: shape) }
    return builder.makeCase(
        "rmsnorm-double-rounding", "layer.rmsnorm", why: "dx's sum over the row and dgain: \(doubleRounding)",
        recipe: JSONValue.entries("epsilon", epsilon),
        inputs: [
            NamedTensor("x", tensor(x, [2, width])),
            NamedTensor("gain", tensor([Float](repeating: 1, count: width), [width])),
            NamedTensor("dy", tensor(dy, [2, width])),
        ])
}

/// Two equal logits: Z less one of them is the fp32 log 2, an odd number of 21 bits.
private func sparseCase(_ builder: CaseBuilder) -> GoldenCase {
    let slots = 17
    var ids = [UInt32](repeating: .max, count: 2 * slots)
    var weights = [Float](repeating: 0, count: 2 * slots)
    for (row, (first, last)) in [(-0x1p-60, 13), (0x1p-60, 15)].enumerated() as EnumeratedSequence<[(Float, Float)]> {
        (ids[row * slots], ids[row * slots + 16]) = (0, 1)
        (weights[row * slots], weights[row * slots + 16]) = (first, last)
    }
    return builder.makeCase(
        "sparseCrossEntropy-double-rounding", "layer.sparseCrossEntropy", why: "a row's loss: \(doubleRounding)",
        recipe: JSONValue.entries("zreg_c", 0x1p-8).merging(JSONValue.entries("kappa", 4)) { $1 }
            .merging(["n": 2]) { $1 },
        inputs: [
            NamedTensor("logits", Tensor([Float](repeating: 0, count: 4), shape: [2, 2])),
            NamedTensor("ids", Tensor(ids, shape: [2, slots])),
            NamedTensor("weights", Tensor(weights, shape: [2, slots])),
        ])
}

/// Positions whose cosine, times a small integer, is half a unit of fp32 beside a midpoint of bf16.
private func ropeCase(_ builder: CaseBuilder) -> GoldenCase {
    var (positions, x, dy): ([Int32], [UInt16], [UInt16]) = ([], [], [])
    for (position, factor) in [
        (8045, 15), (54_302, 5), (78_494, 13), (102_690, 155), (117_240, 45), (134_879, 41),
    ] as [(Int32, Float)] {
        let (cosine, sine) = (
            CorrectlyRounded.cos(Double(position)), CorrectlyRounded.sin(Double(position))
        )
        for small in [0x1p-70, -0x1p-70] as [Float] {
            let addend = -(small * sine)
            let once = SoftFloat32.fusedMultiplyAdd(factor, cosine, addend)
            let twice = SoftFloat32.convert(Double(factor) * Double(cosine) + Double(addend))
            guard SoftFloat32.roundToBFloat16(once) != SoftFloat32.roundToBFloat16(twice) else { continue }
            positions.append(position)
            x += [upperBits(factor), upperBits(small)]
            // The gradient turns the other way.
            dy += [upperBits(factor), upperBits(-small)]
        }
    }
    precondition(positions.count >= 3, "some of the positions tell the two from each other")
    let shape = [positions.count, 1, 2]
    return builder.makeCase(
        "rope-double-rounding", "layer.rope", why: "\(doubleRounding), and bf16 shows it",
        recipe: JSONValue.entries("base", 1),
        inputs: [
            NamedTensor("x", Tensor(bf16: x, shape: shape)),
            NamedTensor("position", Tensor(positions, shape: [positions.count])),
            NamedTensor("dy", Tensor(bf16: dy, shape: shape)),
        ])
}

private func adamwCases(_ builder: CaseBuilder) -> [GoldenCase] {
    func make(
        _ name: String, _ what: String, beta: Float, epsilon: Float, decay: Float, rate: Float, w: [Float], m: [Float],
        v: [Float], g: [Float]
    ) -> GoldenCase {
        var recipe: [String: JSONValue] = ["step": 1]
        for (key, value) in [
            ("beta1", beta), ("beta2", beta), ("epsilon", epsilon), ("weight_decay", decay), ("learning_rate", rate),
            ("clip_norm", 0),
        ] as [(String, Float)] { recipe.merge(JSONValue.entries(key, value)) { $1 } }
        return builder.makeCase(
            "adamw-\(name)", "layer.adamw", why: "\(what): \(doubleRounding)", recipe: recipe,
            inputs: [
                NamedTensor("w", Tensor(w, shape: [w.count])), NamedTensor("m", Tensor(m, shape: [m.count])),
                NamedTensor("v", Tensor(v, shape: [v.count])), NamedTensor("g", Tensor(g, shape: [g.count])),
            ])
    }
    let factor: Float = 4097 * 0x1p-13
    // A norm whose square stands just beside the square of a midpoint, where one unit decides: terms 0 and 16 meet in a lane, term 1 moves the sum.
    var third: Float = 2
    while third < 3900
        && CorrectlyRounded.sqrt(16_785_408 + third * third) == CorrectlyRounded.sqrt(16_785_410 + third * third)
    {
        third += 2
    }
    var norm = [Float](repeating: 0, count: 17)
    (norm[0], norm[1], norm[16]) = (0x1p-15, third, 4097)
    return [
        make(
            "double-rounding-moments", "both moments, and the decay", beta: factor, epsilon: 0x1p-27, decay: factor,
            rate: 2, w: [0, 0, 4097, -4097], m: [4097, 4099, 0x1p-60, -0x1p-60], v: [4097, 4097, 1, 1],
            g: [0x1p-60, -0x1p-60, 0, 0]),
        make(
            "double-rounding-update", "the weight", beta: 0, epsilon: 4095, decay: 0, rate: 4097,
            w: [-0x1p-60, 0x1p-60], m: [0, 0], v: [0, 0], g: [4097, -4097]),
        make(
            "double-rounding-norm", "the gradient's norm", beta: 0.5, epsilon: 1, decay: 0, rate: 1,
            w: [Float](repeating: 1, count: 17), m: [Float](repeating: 0, count: 17),
            v: [Float](repeating: 0, count: 17), g: norm),
    ]
}

// MARK: - gumbel

func gumbelDoubleRoundingCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let width = 17
    let stream = RandomStream(seed: builder.seed, stream: 2, step: 0)
    var dy = [Float](repeating: 0, count: 2 * width)
    for (row, tie) in threeQuarterTies.enumerated() { (dy[row * width], dy[row * width + 16]) = (tie.first, tie.dp) }
    // Logits that the noise takes to those of a tie; column 1 by so many units further.
    func logits(_ units: Int) -> [Float] {
        (0..<2 * width).map { index in
            let column = index % width
            let wanted: Float = column == 0 ? -60 : column == 1 ? logitOfThreeQuarters() : column == 16 ? 0 : -300
            var value = wanted - RandomDistributions.gumbel(stream.word(UInt64(index)))
            if column == 1 { for _ in 0..<abs(units) { value = units < 0 ? value.nextDown : value.nextUp } }
            return value
        }
    }
    func makeCase(_ logits: [Float]) -> GoldenCase {
        builder.makeCase(
            "softmax-double-rounding", "gumbel.softmax", why: "the sum over y dy: \(doubleRounding)",
            recipe: drawRecipe(builder).merging(JSONValue.entries("tau", 1)) { $1 },
            inputs: [
                NamedTensor("logits", Tensor(logits, shape: [2, width])),
                NamedTensor("dy", Tensor(dy, shape: [2, width])),
            ])
    }
    var best = logits(0)
    var isFound = [false, false]
    for units in -32..<32 {
        let candidate = logits(units)
        guard let y = try? OperationCatalog.evaluate(makeCase(candidate)).outputs["y"]?.floats() else { continue }
        for row in 0..<2 where !isFound[row] && y[row * width + 16] == 0.75 {
            best.replaceSubrange(row * width..<(row + 1) * width, with: candidate[row * width..<(row + 1) * width])
            isFound[row] = true
        }
    }
    precondition(isFound == [true, true], "some logits have the probability 3/4")
    return [makeCase(best)]
}
