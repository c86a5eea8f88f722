import Cases
import JSON
import ModelSpec
import Reference

// Peaks of blocks just below the thresholds of the scale byte (S2), where a logarithm in fp32 gives the next byte: wherever blocks are encoded.

/// Every `step`th threshold's lower neighbour.
private func peaks(every step: Int) -> [Float] {
    stride(from: 0, to: SquinchTables.thresholds.count, by: step).map { SquinchTables.thresholds[$0].nextDown }
}

/// Two parts of a value with fl(x + e) equal to it.
private func parts(_ value: Float, _ share: Float) -> (x: Float, e: Float) {
    let e = value * share
    for x in [value - e, (value - e).nextUp, (value - e).nextDown] where x + e == value { return (x, e) }
    return (value, 0)
}

/// Eight values, the first the peak, the others smaller.
private func block(_ peak: Float, _ random: inout CaseRandom) -> [Float] {
    [random.bool() ? peak : -peak] + (0..<7).map { _ in peak * random.float(exponents: 120...125) }
}

func feedbackThresholdCases(_ builder: CaseBuilder) -> [GoldenCase] {
    SquinchVariant.allCases.map { variant in
        let name = "feedback-\(variant.rawValue)-scale-thresholds"
        var random = builder.random(name)
        var (x, e): ([Float], [Float]) = ([], [])
        for (index, peak) in peaks(every: variant == .floor16 ? 4 : 8).enumerated() {
            for value in block(peak, &random) {
                let (first, second) = parts(value, [0, 0.0625, -0.125, 0.25][index % 4])
                x.append(first)
                e.append(second)
            }
        }
        var inputs: TensorGroup = [
            NamedTensor("x", Tensor(x, shape: [x.count])), NamedTensor("e", Tensor(e, shape: [e.count])),
        ]
        if variant == .stochastic15 { inputs.append("random", Tensor(random.words(x.count), shape: [x.count])) }
        return builder.makeCase(
            name, "squinch.feedback",
            why: "x + e one unit below each threshold of the scale byte: a logarithm in fp32 gives the next byte",
            recipe: ["variant": .string(variant.rawValue)], inputs: inputs)
    }
}

func allReduceThresholdCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    let ranks = 2
    for variant in SquinchVariant.allCases {
        for hasFeedback in [false, true] {
            let name = "\(variant.rawValue)-scale-thresholds\(hasFeedback ? "-feedback" : "")"
            var random = builder.random(name)
            let all = peaks(every: 16)
            var (g, e): ([Float], [Float]) = ([], [])
            for rank in 0..<ranks {
                for index in all.indices {
                    // Both ranks of the same order of size.
                    for value in block(all[max(0, index - rank)], &random) {
                        let (first, second) = parts(value, hasFeedback ? [0.0625, -0.125, 0.25][index % 3] : 0)
                        g.append(first)
                        e.append(second)
                    }
                }
            }
            let n = g.count / ranks
            var inputs: TensorGroup = [NamedTensor("g", Tensor(g, shape: [ranks, n]))]
            if hasFeedback { inputs.append("e", Tensor(e, shape: [ranks, n])) }
            inputs.appendRandomWords(variant, ranks: ranks, n, &random)
            cases.append(
                builder.makeCase(
                    name, "allreduce.squinch",
                    why:
                        "contributions one unit below thresholds of the scale byte: a logarithm in fp32 gives the next byte",
                    recipe: [
                        "variant": .string(variant.rawValue), "nonfinite": "refuse", "feedback": .bool(hasFeedback),
                    ], inputs: inputs))
        }
    }
    return cases
}
