import Cases
import ExactMath
import ModelSpec

func allReduceFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [
        builder.file("squinch", squinchReductions(builder)), builder.file("plain", plainReductions(builder)),
        builder.file("edges", allReduceThresholdCases(builder)),
    ]
}

private func gradients(_ random: inout CaseRandom, _ count: Int) -> [Float] {
    (0..<count).map { index in
        // Blocks of 8 share a magnitude, as gradients of one layer do.
        let binade = 100 + (index / 8 * 7) % 24
        return random.float(exponents: binade...binade + 5)
    }
}

private func squinchReductions(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    let sizes = builder.tier.pick([0, 7, 9, 61, 200], [0, 1, 8, 9, 61, 200, 4099], [0, 1, 8, 9, 61, 200, 65_539])
    for variant in SquinchVariant.allCases {
        for (ranks, n) in builder.tier.pick([1, 2, 3, 5], [1, 2, 3, 4, 5, 8], [1, 2, 3, 4, 5, 8, 16]).flatMap({ ranks in
            sizes.map { (ranks, $0) }
        }) {
            for feedback in [false, true] {
                // Every size with 3 ranks, one that leaves a ragged tail with each.
                guard ranks == 3 || n == 61 else { continue }
                let name = "\(variant.rawValue)-ranks-\(ranks)-n-\(n)\(feedback ? "-feedback" : "")"
                var random = builder.random(name)
                var inputs: TensorGroup = [
                    NamedTensor("g", Tensor(gradients(&random, ranks * n), shape: [ranks, n]))
                ]
                if feedback {
                    inputs.append("e", Tensor(random.floats(ranks * n, exponents: 90...118), shape: [ranks, n]))
                }
                inputs.appendRandomWords(variant, ranks: ranks, n, &random)
                cases.append(
                    builder.makeCase(
                        name, "allreduce.squinch",
                        why: ranks == 1
                            ? "one rank is not a pass-through: it encodes twice"
                            : "\(ranks) ranks, \(n) elements: rank order, shards that divide nothing, a padded tail that must stay +0",
                        recipe: [
                            "variant": .string(variant.rawValue), "nonfinite": "refuse", "feedback": .bool(feedback),
                        ], inputs: inputs))
            }
        }
    }
    for variant in SquinchVariant.allCases {
        for ranks in [3, 5] {
            let (n, name) = (61, "\(variant.rawValue)-cancelling-ranks-\(ranks)")
            var random = builder.random(name)
            var inputs: TensorGroup = [
                NamedTensor("g", Tensor(cancelling(&random, ranks, n, by: 8, least: -1), shape: [ranks, n]))
            ]
            inputs.appendRandomWords(variant, ranks: ranks, n, &random)
            cases.append(
                builder.makeCase(
                    name, "allreduce.squinch",
                    why:
                        "what is large cancels between two ranks: the order of ranks, scaling before the sum and a padding that is not +0 show in the codes",
                    recipe: ["variant": .string(variant.rawValue), "nonfinite": "refuse", "feedback": .bool(false)],
                    inputs: inputs))
        }
    }
    return cases
}

/// Gradients of `ranks` ranks, blocks of `block` elements alike: one rank has values of some units in the last place of x, 2^`least` and more, the others have x and -x in pairs.
private func cancelling(_ random: inout CaseRandom, _ ranks: Int, _ n: Int, by block: Int, least: Int) -> [Float] {
    var g = [Float](repeating: 0, count: ranks * n)
    for start in stride(from: 0, to: n, by: block) {
        let order = (0..<ranks).map { ($0 + start / block) % ranks }
        let binade = random.integer(in: 115...125)
        for index in start..<min(start + block, n) {
            // All binary digits of bf16; small, of the last places of fp32.
            g[order[0] * n + index] = SoftFloat32.convert(
                bfloat16Bits: random.bf16(exponents: binade - 23 + least...binade - 20 + least))
            for pair in stride(from: 1, to: ranks - 1, by: 2) {
                let x = SoftFloat32.convert(bfloat16Bits: random.bf16(exponents: binade...binade + 1))
                g[order[pair] * n + index] = x
                g[order[pair + 1] * n + index] = -x
            }
        }
    }
    return g
}

private func plainReductions(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    for op in ["allreduce.bf16", "allreduce.fp32"] {
        for (ranks, n) in [(1, 64), (2, 64), (5, 61), (7, builder.tier.pick(512, 8192, 131_072)), (3, 0)] {
            let name = "\(op.dropFirst("allreduce.".count))-ranks-\(ranks)-n-\(n)"
            var random = builder.random(name)
            var g = gradients(&random, ranks * n)
            // Signed zeros, subnormals, overflow and NaN in the first elements of the first rank.
            let special: [Float] = [
                -0.0, .leastNonzeroMagnitude, .greatestFiniteMagnitude, .infinity, -.infinity, .nan,
            ]
            for index in special.indices where index < n { g[index] = special[index] }
            if ranks > 1 && n > 4 {
                g[n] = -0.0
                g[n + 2] = .greatestFiniteMagnitude
                g[n + 4] = .infinity
            }
            cases.append(
                builder.makeCase(
                    name, op, why: "rank order from +0, then times RNE32(1/W): a tree, or a division, gives other bits",
                    inputs: [NamedTensor("g", Tensor(g, shape: [ranks, n]))]))
        }
        let format = op.dropFirst("allreduce.".count)
        for ranks in [3, 5] {
            let name = "\(format)-cancelling-ranks-\(ranks)"
            var random = builder.random(name)
            cases.append(
                builder.makeCase(
                    name, op, why: "what is large cancels between two ranks: any other order of ranks gives other bits",
                    inputs: [
                        NamedTensor("g", Tensor(cancelling(&random, ranks, 64, by: 1, least: -1), shape: [ranks, 64]))
                    ]))
        }
        // RNE32(1/7) is above 1/7 by almost half a unit: the product with it passes the tie that the quotient is.
        let ranks = 7
        var ties = [Float](repeating: 0, count: ranks * 40)
        for index in 0..<40 {
            let sum = ranks * (345 + 4 * index)
            ties[index % ranks * 40 + index] = Float(sum & ~0xF)
            ties[(index + 3) % ranks * 40 + index] = Float(sum & 0xF)
        }
        cases.append(
            builder.makeCase(
                "\(format)-ties-ranks-7", op,
                why: "means that are ties between two bf16 numbers: a division by W rounds otherwise than RNE32(1/W)",
                inputs: [NamedTensor("g", Tensor(ties, shape: [ranks, 40]))]))
    }
    return cases
}

extension TensorGroup {
    /// The random words of an all-reduce of n elements, where the variant takes some (S4).
    mutating func appendRandomWords(_ variant: SquinchVariant, ranks: Int, _ n: Int, _ random: inout CaseRandom) {
        guard variant == .stochastic15 else { return }
        append("random", Tensor(random.words(ranks * n), shape: [ranks, n]))
        append("random_reduced", Tensor(random.words(n), shape: [n]))
    }
}
