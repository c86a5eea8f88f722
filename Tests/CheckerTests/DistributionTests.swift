import BFloat16
import Cases
import Checker
import ExactMath
import Goldens
import JSON
import Testing

private func judge(_ outputs: TensorGroup, _ right: GoldenCase, _ policy: Policy = .distribution) throws -> CaseReport {
    try Judge.judge(
        drawn: GoldenCase(name: right.name, op: right.op, outputs: outputs), against: right, suite: "s", file: "f",
        options: JudgingOptions(policy: policy))
}

private func verdict(_ name: String, _ outputs: TensorGroup, _ right: GoldenCase) throws -> Verdict? {
    try judge(outputs, right).outputs.first { $0.name == name }?.verdict
}

@Suite("Q6: samplers with random numbers of their own")
struct DistributionTests {
    // MARK: Continuous

    private func draws(_ op: String, count: Int, seed: UInt64) throws -> GoldenCase {
        var randomness = Randomness(state: seed)
        let isPair = op == "random.normal"
        let words = (0..<count).map { _ in UInt32(truncatingIfNeeded: randomness.next()) }
        return try OperationCatalog.evaluate(
            GoldenCase(
                name: op, op: op,
                inputs: [NamedTensor("words", Tensor(words, shape: isPair ? [count / 2, 2] : [count]))]))
    }

    static let continuous = ["random.uniform", "random.gumbel", "random.normal"]

    @Test("other draws of the right distribution conform: 60 seeds", arguments: continuous)
    func rightDistribution(_ op: String) throws {
        let right = try draws(op, count: 2200, seed: 0)
        for seed in 1...60 {
            let other = try draws(op, count: 2200, seed: UInt64(seed))
            #expect(try verdict("x", other.outputs, right) == .inDistribution, "seed \(seed)")
            #expect(try judge(other.outputs, right, .exact).conforms == false)
        }
    }

    @Test("a distribution a tenth away, a constant, NaN, a repeated draw are outside: 20 seeds", arguments: continuous)
    func wrongDistribution(_ op: String) throws {
        let right = try draws(op, count: 2200, seed: 0)
        for seed in 1...20 {
            let other = try #require(try draws(op, count: 2200, seed: UInt64(seed)).outputs["x"]).floats()
            func verdict(_ values: [Float]) throws -> Verdict? {
                try Self.verdictOf(Tensor(values, shape: right.outputs["x"]?.shape ?? []), right)
            }
            // Mixed with a constant in its middle in one draw of four: the distribution function moves by an eighth.
            let middle: Float = op == "random.uniform" ? 0.5 : op == "random.gumbel" ? 0.3665 : 0
            #expect(try verdict(other.enumerated().map { $0 % 4 == 0 ? middle : $1 }) == .outside, "seed \(seed)")
            #expect(try verdict([Float](repeating: middle, count: other.count)) == .outside)
            #expect(try verdict(other.enumerated().map { $0 == 77 ? .nan : $1 }) == .outside)
            #expect(try verdict(other.indices.map { other[$0 / 2 * 2] }) == .outside, "each draw twice, seed \(seed)")
        }
    }

    private static func verdictOf(_ x: Tensor, _ right: GoldenCase) throws -> Verdict? {
        try verdict("x", [NamedTensor("x", x)], right)
    }

    @Test("too few draws for the stated power: an error that says how many are needed, unless all bits are right")
    func tooFew() throws {
        let right = try draws("random.uniform", count: 500, seed: 0)
        let other = try draws("random.uniform", count: 500, seed: 1)
        #expect(try judge(right.outputs, right).conforms)
        let error = #expect(throws: JudgingError.self) { try judge(other.outputs, right) }
        #expect(error?.description.contains("500 draws") == true, "\(error.map { "\($0)" } ?? "")")
    }

    // MARK: Tokens

    private func sample(_ op: String, rows: Int, step: Int, logits: [Float], k: Int) throws -> GoldenCase {
        try OperationCatalog.evaluate(
            GoldenCase(
                name: op, op: op,
                recipe: [
                    "seed": "0000000000000007", "stream": 2, "step": .integer(Int64(step)), "k": .integer(Int64(k)),
                ],
                inputs: [
                    NamedTensor(
                        "logits",
                        Tensor((0..<rows).flatMap { _ in logits }, shape: [rows, logits.count]))
                ]))
    }

    static let logits: [Float] = [0, 1, -1, 2, 0.5, -0.5, 1.5, -.infinity, 0, 0.25, 3]

    @Test("another seed conforms in ids, weights and kappa", arguments: ["gumbel.topk", "gumbel.replacement"])
    func rightTokens(_ op: String) throws {
        let right = try sample(op, rows: 3000, step: 0, logits: Self.logits, k: 3)
        for step in 1...4 {
            let other = try sample(op, rows: 3000, step: step, logits: Self.logits, k: 3)
            let report = try judge(other.outputs, right)
            #expect(report.conforms, "\(report.outputs.map { "\($0.name): \($0.verdict) \($0.note ?? "")" })")
            #expect(report.outputs[0].verdict == .inDistribution)
        }
    }

    @Test("wrong samplers are outside")
    func wrongTokens() throws {
        let right = try sample("gumbel.topk", rows: 3000, step: 0, logits: Self.logits, k: 3)
        // A temperature of 2, noise of the uniform distribution in place of Gumbel's would look alike: other logits.
        let hot = try sample("gumbel.topk", rows: 3000, step: 1, logits: Self.logits.map { $0 / 2 }, k: 3)
        #expect(try verdict("ids", hot.outputs, right) == .outside)
        #expect(try verdict("weights", hot.outputs, right) == .outside)
        // kappa of the k-th instead of the (k + 1)-th.
        let fewer = try sample("gumbel.topk", rows: 3000, step: 1, logits: Self.logits, k: 2)
        let other = try sample("gumbel.topk", rows: 3000, step: 1, logits: Self.logits, k: 3)
        var wrong: TensorGroup = []
        for named in other.outputs.tensors {
            wrong.append(named.name, named.name == "kappa" ? try #require(fewer.outputs["kappa"]) : named.tensor)
        }
        #expect(try verdict("kappa", wrong, right) == .outside)
        #expect(try verdict("weights", wrong, right) == .outside)
        // The same row's sample everywhere; an id twice; an impossible id.
        let ids = try #require(other.outputs["ids"]).integers(UInt32.self)
        for change in [
            { _ in Array(ids[0..<3]) }, { row in row == 5 ? [1, 1, 3] : Array(ids[3 * row..<3 * row + 3]) },
            { row in row == 5 ? [7, 1, 3] : Array(ids[3 * row..<3 * row + 3]) },
        ] as [(Int) -> [UInt32]] {
            let changed: TensorGroup = [NamedTensor("ids", Tensor((0..<3000).flatMap(change), shape: [3000, 3]))]
            #expect(try verdict("ids", changed, right) == .outside)
        }
        // Drawn with replacement, then made distinct by the next id: the conditional shares are wrong.
        let repeated = try sample("gumbel.replacement", rows: 3000, step: 2, logits: Self.logits, k: 3)
        let drawn = try #require(repeated.outputs["ids"]).integers(UInt32.self)
        let distinct = (0..<3000).flatMap { row -> [UInt32] in
            var taken: [UInt32] = []
            for id in drawn[3 * row..<3 * row + 3] {
                var next = id
                while taken.contains(next) || next == 7 { next = (next + 1) % 11 }
                taken.append(next)
            }
            return taken
        }
        let report = try judge([NamedTensor("ids", Tensor(distinct, shape: [3000, 3]))], right)
        #expect(report.outputs[0].verdict == .outside, "\(report.outputs[0].note ?? "")")
    }

    // MARK: Stochastic rounding

    /// Values of one stream, random bits of another: of one and the same they would be correlated, which the test finds out.
    private func rounded(_ seed: UInt64) throws -> GoldenCase {
        var values = Randomness(state: 1009)
        var bits = Randomness(state: seed)
        let x = (0..<4000).map { _ in
            Float(bitPattern: 0x3F80_0000 &+ UInt32(truncatingIfNeeded: values.next()) & 0x81FF_FFFF)
        }
        return try OperationCatalog.evaluate(
            GoldenCase(
                name: "from", op: "bf16.from", recipe: ["source": "fp32", "rounding": "sr"],
                inputs: [
                    NamedTensor("a", Tensor(x, shape: [4000])),
                    NamedTensor(
                        "random",
                        Tensor((0..<4000).map { _ in UInt16(truncatingIfNeeded: bits.next()) }, shape: [4000])),
                ]))
    }

    @Test("stochastic rounding: other bits conform; nearest, truncated and coarse rounding are outside")
    func stochasticRounding() throws {
        let right = try rounded(1)
        for seed in 2...30 {
            let other = try #require(try rounded(UInt64(seed)).outputs["r"])
            #expect(try verdict("r", [NamedTensor("r", other)], right) == .inDistribution, "seed \(seed)")
        }
        let x = try #require(right.inputs["a"]).floats()
        for rounding in ["rne", "rtz"] {
            let wrong = try OperationCatalog.evaluate(
                GoldenCase(
                    name: "from", op: "bf16.from", recipe: ["source": "fp32", "rounding": .string(rounding)],
                    inputs: [NamedTensor("a", Tensor(x, shape: [4000]))]))
            #expect(
                try verdict("r", [NamedTensor("r", try #require(wrong.outputs["r"]))], right) == .outside, "\(rounding)"
            )
        }
        var bits = try #require(right.outputs["r"]).bf16Bits()
        bits[17] &+= 2
        #expect(try verdict("r", [NamedTensor("r", Tensor(bf16: bits, shape: [4000]))], right) == .outside)
    }

    private func encoded(_ variant: String, _ seed: UInt64) throws -> GoldenCase {
        var values = Randomness(state: 1009)
        var words = Randomness(state: seed)
        let x = (0..<4001).map { _ in Float(values.unit() - 0.5) * Float(values.unit()) }
        var inputs: TensorGroup = [NamedTensor("x", Tensor(x, shape: [4001]))]
        if variant == "stochastic15" {
            inputs.append(
                "random", Tensor((0..<4001).map { _ in UInt32(truncatingIfNeeded: words.next()) }, shape: [4001]))
        }
        return try OperationCatalog.evaluate(
            GoldenCase(
                name: "encode", op: "squinch.encode",
                recipe: ["variant": .string(variant), "nonfinite": "refuse"], inputs: inputs))
    }

    @Test("Squinch's stochastic codes: other bits conform, the nearest codes are outside")
    func stochasticCodes() throws {
        let right = try encoded("stochastic15", 1)
        for seed in 2...10 {
            let other = try #require(try encoded("stochastic15", UInt64(seed)).outputs["blocks"])
            let report = try judge([NamedTensor("blocks", other)], right)
            #expect(report.outputs[0].verdict == .inDistribution, "seed \(seed): \(report.outputs[0].note ?? "")")
        }
        let nearest = try #require(try encoded("round15", 1).outputs["blocks"])
        #expect(try verdict("blocks", [NamedTensor("blocks", nearest)], right) == .outside)
    }

    @Test("what is no sample is judged by bits under the policy distribution")
    func noSample() throws {
        let right = try draws("random.uniform", count: 64, seed: 0)
        let report = try Judge.judge(
            drawn: nil, against: right, suite: "s", file: "f", options: JudgingOptions(policy: .distribution))
        #expect(report.outputs[0].verdict == .missing)
        let exp = try OperationCatalog.evaluate(
            GoldenCase(name: "e", op: "math.exp", inputs: [NamedTensor("x", Tensor([1, 2] as [Float], shape: [2]))]))
        let found = try judge([NamedTensor("y", Tensor([1, 2] as [Float], shape: [2]))], exp)
        #expect(found.outputs[0].policy == .exact && found.outputs[0].verdict == .outside)
    }
}
