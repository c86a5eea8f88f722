import Cases
import ExactMath
import JSON
import ModelSpec

// Logits below the finite numbers that stand for -infinity in kernels (-1e4, -5e4, -65504, -1e9, the least finite fp32): where they are masked
// logits, or the maximum before the first logit, such rows see what is masked, or nothing.

/// Levels below one sentinel after the other.
private let levels: [Float] = [-16384, -65536, -131_072, -0x1p31]

private func upperBits(_ x: Float) -> UInt16 { UInt16(x.bitPattern >> 16) }

func attentionSentinelCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    var random = builder.random("sentinels")
    func bf16(_ values: [Float], _ shape: [Int]) -> Tensor { Tensor(bf16: values.map(upperBits), shape: shape) }

    let one = AttentionQuestion(
        query: bf16([-256, 0], [1, 1, 1, 2]), key: bf16([256, 0], [1, 1, 1, 2]),
        value: Tensor(bf16: random.bf16s(2, exponents: 120...127), shape: [1, 1, 1, 2]),
        outputGradient: Tensor(bf16: random.bf16s(2, exponents: 120...127), shape: [1, 1, 1, 2]), start: [0],
        limit: [1],
        scale: 1, c: 0x1p-14)
    let whyOne = "one key with the logit -65536: max and z are -65536, the sum is 1 and o is v"
    cases.append(one.makeForward(builder, "one-far-key", whyOne))
    for form in ZRegForm.allCases {
        cases.append(one.makeBackward(builder, "one-far-key-\(form.rawValue)", whyOne, form))
    }

    // Queries (L, 1). Keys 1 to 3 give L and a little; masked ones the opposite, and 0. Where fp32 cannot hold the little beside L, queries are (L, 0): a
    // logit that is rounded would make the probabilities other ones than the exact logits have.
    func far(_ levels: [Float], dot: DotRecipe, c: Float) -> AttentionQuestion {
        let key: [Float] = [-1, 0.5, 1, 0.25, 1, -0.5, 1, 1.5, 0, 1, -1, -1]
        let count = levels.count
        return AttentionQuestion(
            query: bf16(levels.flatMap { [$0, $0 < -0x1p20 ? 0 : 1] }, [1, 1, count, 2]), key: bf16(key, [1, 1, 6, 2]),
            value: Tensor(bf16: random.bf16s(12, exponents: 120...127), shape: [1, 1, 6, 2]),
            outputGradient: Tensor(bf16: random.bf16s(2 * count, exponents: 120...127), shape: [1, 1, count, 2]),
            start: [Int32](repeating: 1, count: count), limit: [Int32](repeating: 4, count: count), scale: 1, dot: dot,
            c: c)
    }
    let whyFar = "all visible logits are far below the masked ones, and below every finite stand-in for -infinity"
    for dot in DotRecipe.allCases {
        cases.append(
            far(levels + [-0x1p60, -0x1p127], dot: dot, c: 0).makeForward(
                builder, "far-keys-\(dot.rawValue)", whyFar))
        cases.append(
            far(levels, dot: dot, c: 0).makeBackward(builder, "far-keys-\(dot.rawValue)", whyFar, .folded))
        cases.append(
            far(levels, dot: dot, c: 0x1p-14).makeBackward(
                builder, "far-keys-zreg-\(dot.rawValue)", whyFar, .unfolded))
    }
    cases.append(
        far([-.infinity, -16384], dot: .pairedFTZ, c: 0).makeForward(
            builder, "infinite-keys", "logits of -infinity alone: the maximum is -infinity, and what follows NaN"))

    for (index, level) in ([-16384, -131_072, -0x1p31] as [Float]).enumerated() {
        var rowRandom = builder.random("sentinel-rows-\(index)")
        cases.append(
            rows(
                builder, "far-\(index)", "all logits of a row are about \(level): nothing else is the maximum",
                (0..<14).map { _ in level + rowRandom.float(exponents: 120...127) }, &rowRandom))
    }
    var rowRandom = builder.random("sentinel-rows-infinite")
    cases.append(
        rows(
            builder, "all-infinite", "a row of -infinity alone: NaN, and another row that is not",
            [Float](repeating: -.infinity, count: 7) + [0, 1, -1, 2, -.infinity, 0.5, 3], &rowRandom))
    return cases
}

private func rows(
    _ builder: CaseBuilder, _ name: String, _ why: String, _ s: [Float], _ random: inout CaseRandom
) -> GoldenCase {
    var recipe = JSONValue.entries("zreg_c", 0x1p-14).merging(JSONValue.entries("kappa", 8)) { $1 }
    recipe["n"] = 7
    recipe["form"] = "folded"
    return builder.makeCase(
        "rows-\(name)", "zreg.rows", why: why, recipe: recipe,
        inputs: [
            NamedTensor("s", Tensor(s, shape: [2, 7])),
            NamedTensor("dp", Tensor(random.floats(14, exponents: 118...127), shape: [2, 7])),
        ])
}

func lossSentinelCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    let recipe = JSONValue.entries("zreg_c", 0x1p-14).merging(JSONValue.entries("kappa", 8)) { $1 }
        .merging(["n": 5]) { $1 }
    func add(_ name: String, _ why: String, _ logits: [Float]) {
        let tensor = NamedTensor("logits", Tensor(logits, shape: [2, 5]))
        cases.append(
            builder.makeCase(
                "crossEntropy-\(name)", "layer.crossEntropy", why: why, recipe: recipe,
                inputs: [tensor, NamedTensor("targets", Tensor([1, 4] as [Int32], shape: [2]))]))
        cases.append(
            builder.makeCase(
                "sparseCrossEntropy-\(name)", "layer.sparseCrossEntropy", why: why, recipe: recipe,
                inputs: [
                    tensor, NamedTensor("ids", Tensor([1, 3, 4, 0] as [UInt32], shape: [2, 2])),
                    NamedTensor("weights", Tensor([0.5, 0.5, 0.75, 0.25] as [Float], shape: [2, 2])),
                ]))
    }
    for (index, level) in ([-16384, -131_072, -0x1p31] as [Float]).enumerated() {
        var random = builder.random("sentinel-losses-\(index)")
        add(
            "far-\(index)", "all logits of a row are about \(level): nothing else is the maximum",
            (0..<10).map { _ in level + random.float(exponents: 120...127) })
    }
    add(
        "all-infinite", "a row of -infinity alone: its z is NaN, the other row's is not",
        [Float](repeating: -.infinity, count: 5) + [0, 1, -1, 2, 0.5])
    return cases
}

func gumbelSentinelCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    var random = builder.random("sentinels")
    func add(_ name: String, _ why: String, v: Int, k: Int, _ logits: [Float]) {
        let recipe = drawRecipe(builder).merging(["k": .integer(Int64(k))]) { $1 }
        for op in ["topk", "replacement"] {
            cases.append(
                builder.makeCase(
                    "\(op)-\(name)", "gumbel.\(op)", why: why, recipe: recipe,
                    inputs: [NamedTensor("logits", Tensor(logits, shape: [logits.count / v, v]))]))
        }
    }
    // Rounded to halves, so that noise still decides at -2^31 and a row's logits stay apart.
    add(
        "far", "all logits of a row lie far below 0: nothing else is the maximum", v: 6, k: 3,
        [-16384, -65536, -131_072].flatMap { level in (0..<6).map { _ in level + random.float(exponents: 120...127) } })
    add(
        "far-beside-one", "one logit at 0, the others so low that they enter the sample by their phi alone", v: 6, k: 4,
        [-20_000, -60_000, -70_000, -2e9, -.greatestFiniteMagnitude].flatMap { level in
            [0] + [Float](repeating: level, count: 5)
        })
    let logits = [-16384, -65536, -131_072].flatMap { level in
        (0..<6).map { _ in level + random.float(exponents: 120...127) }
    }
    cases.append(
        builder.makeCase(
            "softmax-far", "gumbel.softmax", why: "all logits of a row lie far below 0",
            recipe: drawRecipe(builder).merging(JSONValue.entries("tau", 1)) { $1 },
            inputs: [
                NamedTensor("logits", Tensor(logits, shape: [3, 6])),
                NamedTensor("dy", Tensor(random.floats(18, exponents: 120...127), shape: [3, 6])),
            ]))
    return cases
}
