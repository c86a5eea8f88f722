import Cases
import JSON

func gumbelFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [
        builder.file("samples", sampleCases(builder) + softmaxCases(builder)),
        builder.file("edges", gumbelSentinelCases(builder) + gumbelDoubleRoundingCases(builder)),
        builder.file("draws", drawCases(builder)),
    ]
}

func drawRecipe(_ builder: CaseBuilder, stream: UInt32 = 2, step: UInt32 = 0) -> [String: JSONValue] {
    let digits = String(builder.seed, radix: 16)
    return [
        "seed": .string(String(repeating: "0", count: 16 - digits.count) + digits),
        "stream": .integer(Int64(stream)), "step": .integer(Int64(step)),
    ]
}

/// Cases with enough draws for the policy `distribution` (Q6): 2100 rows, whose kappas are as many draws.
private func drawCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let (v, k) = (4, 2)
    var random = builder.random("draws")
    let row: [Float] = (0..<v).map { _ in random.float(exponents: 125...127) }
    // A few different rows, so that probabilities are not all alike.
    let rows: [[Float]] = [row, row.reversed(), [0, 0, 0, 0], [2, 1, 0, -.infinity]]
    return [("topk", 2100), ("replacement", 1100)].map { op, n in
        let logits = (0..<n).flatMap { rows[$0 % rows.count] }
        return builder.makeCase(
            "\(op)-draws", "gumbel.\(op)",
            why:
                "as many draws as the policy distribution needs: a sampler with random numbers of its own is judged by these",
            recipe: drawRecipe(builder).merging(["k": .integer(Int64(k))]) { $1 },
            inputs: [NamedTensor("logits", Tensor(logits, shape: [n, v]))])
    }
}

/// Logits about a range, as a trained model has them: a few large ones.
private func logits(_ random: inout CaseRandom, _ count: Int) -> [Float] {
    (0..<count).map { _ in
        let spread = random.float(exponents: 120...129)
        return random.index(below: 8) == 0 ? spread.magnitude * 2 : spread
    }
}

private func sampleCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ why: String, n: Int, v: Int, k: Int, stream: UInt32 = 2, step: UInt32 = 0, _ values: [Float]
    ) {
        var recipe = drawRecipe(builder, stream: stream, step: step)
        recipe["k"] = .integer(Int64(k))
        for op in ["topk", "replacement"] {
            cases.append(
                builder.makeCase(
                    "\(op)-\(name)", "gumbel.\(op)", why: why, recipe: recipe,
                    inputs: [NamedTensor("logits", Tensor(values, shape: [n, v]))]))
        }
    }
    var random = builder.random("samples")
    let (n, v) = builder.tier.pick((12, 101), (64, 509), (128, 4099))
    add(
        "typical", "k of V as in distillation; V a prime, so that rows begin inside a Philox block", n: n, v: v, k: 8,
        logits(&random, n * v))
    add("one", "k = 1: the argmax of logits and noise", n: 9, v: 33, k: 1, logits(&random, 9 * 33))
    add(
        "all", "k = V: every token, its own probability as weight, kappa -infinity", n: 3, v: 17, k: 17,
        logits(&random, 51))
    add("more-than-all", "k > V: the rest of the slots stay empty", n: 3, v: 5, k: 8, logits(&random, 15))
    add(
        "one-token", "V = 1: whatever the noise, the token and its weight are certain", n: 4, v: 1, k: 1,
        [0, 3, -1e30, 1e30])
    add(
        "equal", "equal logits: the noise alone decides, weights far from p", n: 4, v: 40, k: 6,
        [Float](repeating: 1.5, count: 160))
    add(
        "minus-infinity", "-infinity never enters: fewer than k are left, or none; a row of them alone has no Z", n: 4,
        v: 7, k: 4,
        [Float](repeating: -.infinity, count: 7) + [-.infinity, 1, -.infinity, 2, -.infinity, -.infinity, -.infinity]
            + [1, 2, 3, -.infinity, 4, 5, 6] + [-.infinity, -.infinity, 0, 0, 0, 0, -.infinity])
    add("spread", "logits so far apart that p underflows", n: 2, v: 16, k: 5, (0..<32).map { Float($0 % 16) * -20 })
    add(
        "large", "logits of 1e30 and subnormal ones: phi equals the logit, ties go to the lower id", n: 2, v: 8, k: 3,
        [1e30, 1e30, -1e30, 0, 1e30, 2, 3, 4] + [0x1p-140, -0x1p-141, 0, -0.0, 0x1p-149, 0x1.8p-130, 0, -0x1p-100])
    add(
        "last-step", "the last stream and step: the counter's high words", n: 3, v: 19, k: 4, stream: .max, step: .max,
        logits(&random, 57))
    // Ties of phi itself: logits so low that the noise is lost, and two words that give one g.
    add(
        "lost-noise", "phi of equal bits: the lower id wins", n: 1, v: 8, k: 4, [0] + [Float](repeating: -1e9, count: 7)
    )
    add(
        "equal-noise", "two draws of other words with the same g, in slot 50: the lower id wins", n: 1, v: 2, k: 51,
        step: 762_149, [0, 0])
    add("no-slots", "k = 0: kappa is the largest phi", n: 2, v: 6, k: 0, logits(&random, 12))
    return cases
}

private func softmaxCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(_ name: String, _ why: String, n: Int, v: Int, tau: Float, step: UInt32 = 0, _ values: [Float]) {
        var random = builder.random("softmax-\(name)")
        let recipe = drawRecipe(builder, step: step).merging(JSONValue.entries("tau", tau)) { $1 }
        cases.append(
            builder.makeCase(
                "softmax-\(name)", "gumbel.softmax", why: why, recipe: recipe,
                inputs: [
                    NamedTensor("logits", Tensor(values, shape: [n, v])),
                    NamedTensor("dy", Tensor(random.floats(n * v, exponents: 118...128), shape: [n, v])),
                ]))
    }
    var random = builder.random("softmax")
    let (n, v) = builder.tier.pick((8, 67), (32, 509), (64, 2053))
    add("typical", "the noise is added before the temperature divides", n: n, v: v, tau: 1, logits(&random, n * v))
    add("cold", "tau 0.1: nearly one-hot, probabilities underflow", n: 4, v: 33, tau: 0.1, logits(&random, 132))
    add("hot", "tau 7: nearly uniform", n: 4, v: 33, tau: 7, step: 3, logits(&random, 132))
    add("one-token", "V = 1: y is 1, the gradient 0", n: 3, v: 1, tau: 0.5, [0, 2, -3])
    return cases
}
