import Cases
import Checker
import GoldenIO
import Goldens
import Testing

/// The shipped cases of operations whose sums an implementation may order as it likes.
private func boundedCases() throws -> [GoldenCase] {
    try [
        "dot/gemm.h5", "dot/sums.h5", "dot/outputs.h5", "layers/layers.h5", "layers/outputs.h5", "layers/losses.h5",
        "zreg/attention.h5", "zreg/rows.h5",
    ].flatMap { path in
        let file = try GoldenFile(reading: goldenPath(path))
        return try file.caseNames.map { try file.readCase($0) }.filter { Policy.standard(for: $0.op) == .bound }
    }
}

private let cases: [GoldenCase] = (try? boundedCases()) ?? []

private func judged(_ answer: GoldenCase, _ one: GoldenCase) -> CaseReport {
    Judge.judge(answer, against: one, suite: "s", file: "f", options: JudgingOptions())
}

@Suite("The standard policies over the shipped goldens")
struct LegalOrderTests {
    @Test("every shipped case that is judged by bound is among those of these tests")
    func complete() throws { #expect(try cases.count == boundedCases().count && cases.count > 150) }

    @Test("every order of summation is exact or legal, in every case", arguments: Accumulation.legal)
    func legal(_ order: Accumulation) throws {
        var reordered = 0
        for one in cases {
            let answer = try #require(try one.answer(order))
            for output in judged(answer, one).outputs {
                #expect(
                    output.verdict.conforms,
                    "\(order), \(one.name): \(output.name) (\(output.policy)) \(output.verdict), \(output.failures) of \(output.elements), \(output.note ?? ""), \(output.statistics.map { "\($0)" } ?? ""), worst \(output.worst.map { "\($0.position) expected \($0.expected) got \($0.got) share \($0.shareOfBound ?? -1)" } ?? "")"
                )
                if output.verdict == .legalReordering { reordered += 1 }
            }
        }
        // Otherwise nothing was tested.
        #expect(reordered > 50)
    }

    @Test(
        "constants that a case does not state are its operation's: every order is legal without them too",
        arguments: Accumulation.legal)
    func unstated(_ order: Accumulation) throws {
        var reordered: [String: Int] = [:]
        for one in cases {
            var bare = one
            for key in ["kappa", "kappa_bits", "n"] { bare.recipe[key] = nil }
            let standard = try #require(BoundConstants(bare))
            // What the generator states for them is the same rule.
            if ["dot.gemm", "layer.linear", "attention.forward"].contains(one.op) || one.op.hasPrefix("sum.") {
                #expect(standard == BoundConstants(one), "\(one.name)")
            }
            let answer = try #require(try bare.answer(order))
            for output in judged(answer, bare).outputs {
                #expect(output.verdict.conforms, "\(order), \(one.name): \(output.name) \(output.verdict)")
                if output.verdict == .legalReordering { reordered[one.op, default: 0] += 1 }
            }
        }
        #expect((reordered["attention.forward"] ?? 0) > 3 && (reordered["dot.gemm"] ?? 0) > 3)
    }

    @Test(
        "a result stored in 16 bits is judged in its own format: a second rounding on the way is seen, an order is not")
    func storedFormats() throws {
        let stored = cases.filter { $0.recipe["output"] != nil }
        #expect(stored.count >= 6)
        for one in stored {
            // Through the other format first: a value of 8 or 11 bits rounds differently from most sums.
            var answer = one
            answer.outputs = TensorGroup(
                one.outputs.tensors.map { named in
                    let tensor = named.tensor
                    guard tensor.type != .fp32 else { return named }
                    let changed = (0..<tensor.count).map { index -> UInt16 in
                        let bits = UInt16(tensor.bits(at: index))
                        // Two units further away from zero, where that is a number.
                        return bits & 0x7FFF == 0 || tensor.doubleValue(at: index).isNaN
                            || !tensor.doubleValue(at: index).isFinite ? bits : bits + 2
                    }
                    return NamedTensor(
                        named.name,
                        tensor.type == .bf16
                            ? Tensor(bf16: changed, shape: tensor.shape) : Tensor(fp16: changed, shape: tensor.shape))
                })
            let report = judged(answer, one)
            for output in report.outputs where one.outputs[output.name]?.type != .fp32 {
                #expect(output.verdict == .outside, "\(one.name): \(output.name) \(output.verdict)")
            }
        }
    }

    @Test(
        "a product stored as fp16 whose fp32 sums cannot overflow is no infinity and no NaN; one at the format's end may be infinite"
    )
    func fp16Overflow() throws {
        func product(_ a: [Float], _ b: [Float]) throws -> GoldenCase {
            let bits = { (x: [Float]) in x.map { UInt16($0.bitPattern >> 16) } }
            return try OperationCatalog.evaluate(
                GoldenCase(
                    name: "fp16", op: "dot.gemm", recipe: ["dot": "chain-ieee", "output": "fp16"],
                    inputs: [
                        NamedTensor("a", Tensor(bf16: bits(a), shape: [1, a.count])),
                        NamedTensor("b", Tensor(bf16: bits(b), shape: [b.count, 1])),
                    ]))
        }
        func verdict(_ bits: UInt16, _ one: GoldenCase) -> Verdict? {
            var answer = one
            answer.outputs = [NamedTensor("d", Tensor(fp16: [bits], shape: [1, 1]))]
            return judged(answer, one).outputs.first?.verdict
        }
        // 300 * 300 twice, with both signs: 1 is left, and the magnitudes pass 65504.
        let cancelling = try product([300, 300, 1], [300, -300, 1])
        for bits in [0x7C00, 0xFC00, 0x7E00] as [UInt16] { #expect(verdict(bits, cancelling) == .outside) }
        #expect(verdict(0x3C00, cancelling) == .exact)
        // One unit below 65520, where infinity begins: another order may take the sum there.
        let edge = try product([65280, 240, -0x1p-8], [1, 1, 1])
        #expect(edge.outputs["d"]?.bits(at: 0) == 0x7BFF)
        #expect(verdict(0x7C00, edge)?.conforms == true)
        #expect(verdict(0xFC00, edge) == .outside)
    }

    @Test("an order that flushes is legal where the recipe flushes")
    func flushing() throws {
        var reordered = 0
        for one in cases where one.op == "dot.gemm" || one.op == "layer.linear" {
            // There most partial sums are below 2^-126: what another order flushes is as large as the results, and bits must judge (JudgingBounds).
            guard one.recipe["dot"] == "paired-ftz", !one.name.contains("subnormal") else { continue }
            let answer = try #require(try one.answer(.flushing))
            for output in judged(answer, one).outputs {
                #expect(
                    output.verdict.conforms,
                    "\(one.name): \(output.failures) of \(output.elements), \(output.note ?? "")")
                if output.verdict == .legalReordering { reordered += 1 }
            }
        }
        #expect(reordered > 3)
    }
}

@Suite("What the standard policies find out")
struct WrongArithmeticTests {
    /// Cases in which each wrong arithmetic must show, by output. The others may be too short for it.
    static let telling: [(Accumulation, String, String)] = [
        (.bf16, "typical-layer-paired-ftz", "d"), (.bf16, "order-of-accumulation-chain-ieee", "d"),
        (.bf16, "length-129-paired-ftz", "d"), (.bf16, "linear-long-paired-ftz", "dw"),
        (.bf16, "linear-even-chain-ieee", "y"),
        (.bf16, "lane16-length-1024", "s"), (.bf16, "chain-products-length-100", "s"),
        (.truncating, "typical-layer-paired-ftz", "d"), (.truncating, "typical-layer-chain-ieee", "d"),
        (.missingLast, "typical-layer-paired-ftz", "d"), (.missingLast, "length-17-chain-ieee", "d"),
        (.missingLast, "linear-odd-paired-ftz", "dx"), (.missingLast, "lane16-length-100", "s"),
        (.missingLast, "forward-causal-grouped", "max"), (.missingLast, "forward-causal-grouped", "sum"),
        (.missingLast, "forward-causal-grouped", "z"), (.missingLast, "backward-causal-grouped-folded", "dq"),
        (.bf16, "forward-causal-grouped", "max"), (.bf16, "forward-causal-grouped", "sum"),
        (.bf16, "forward-causal-grouped", "z"), (.bf16, "typical-folded", "z"), (.bf16, "typical-folded", "p"),
        (.bf16, "crossEntropy-typical", "z"), (.bf16, "crossEntropy-typical", "losses"),
        (.missingLast, "crossEntropy-typical", "z"), (.missingLast, "sparseCrossEntropy-typical", "losses"),
    ]

    @Test("accumulation in bf16, truncation, a missing term: outside", arguments: telling.indices)
    func outside(_ index: Int) throws {
        let (order, name, output) = Self.telling[index]
        let one = try #require(cases.first { $0.name == name }, "no case \(name)")
        let answer = try #require(try one.answer(order))
        let found = try #require(judged(answer, one).outputs.first { $0.name == output })
        #expect(found.verdict == .outside, "\(found.verdict), \(found.statistics.map { "\($0)" } ?? "")")
    }

    @Test("one wrong element is outside, in every output that is judged by bound")
    func oneElement() throws {
        var seen = 0
        for one in cases
        where one.name.contains("typical") || one.name.contains("causal-grouped") || one.name.contains("linear-odd") {
            for named in one.outputs.tensors where named.tensor.count > 0 {
                // The element in the middle takes the place of a number twice as far from zero.
                let middle = named.tensor.count / 2
                var bytes = named.tensor.bytes
                let width = named.tensor.type.byteWidth
                // Exponents differ by one bit of the top byte and one of the next.
                bytes[middle * width + width - 1] ^= 1
                var answer = one
                answer.outputs = [
                    NamedTensor(
                        named.name, try Tensor(type: named.tensor.type, shape: named.tensor.shape, bytes: bytes))
                ]
                let found = try #require(judged(answer, one).outputs.first { $0.name == named.name })
                #expect(found.verdict == .outside, "\(one.name) \(named.name)")
                #expect(found.mismatches == 1)
                seen += 1
            }
        }
        #expect(seen > 20)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Randomness: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// In [0, 1).
    mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
}

@Suite("Limits on mean and variance: a simulation with stated seeds")
struct BiasTests {
    /// An output whose errors are `share()` of the tolerance 2^-20 bounds, with truths of both signs.
    private func verdict(_ count: Int, _ randomness: inout Randomness, share: (inout Randomness, Double) -> Double)
        -> OutputReport?
    {
        var (truth, got): ([Double], [Double]) = ([], [])
        for _ in 0..<count {
            let value = (randomness.unit() + 1) * (randomness.next() & 1 == 0 ? 1 : -1)
            truth.append(value)
            got.append(value + share(&randomness, value) * 0x1p-10)
        }
        // fp64 outputs: no rounding of the output blurs the errors.
        let shape = [count]
        var right = GoldenCase(
            name: "simulated", op: "dot.gemm", recipe: ["kappa": .number(0x1p14), "n": .integer(0)],
            outputs: [NamedTensor("d", Tensor(truth, shape: shape))])
        right.truth = [NamedTensor("d", Tensor(truth, shape: shape))]
        right.bounds = [NamedTensor("d", Tensor([Double](repeating: 1, count: count), shape: shape))]
        let answer = GoldenCase(
            name: "simulated", op: "dot.gemm", outputs: [NamedTensor("d", Tensor(got, shape: shape))])
        return judged(answer, right).outputs.first
    }

    @Test("no false alarm in 3000 outputs of centred errors of three shapes", arguments: [64, 500])
    func falseAlarms(_ count: Int) throws {
        var randomness = Randomness(state: 1)
        for trial in 0..<1000 {
            let shapes: [(inout Randomness, Double) -> Double] = [
                { r, _ in 2 * r.unit() - 1 },
                // Errors of rounding: small against a bound that is a worst case.
                { r, _ in (r.unit() + r.unit() + r.unit() - 1.5) / 30 },
                // A few large ones among many small.
                { r, _ in (r.unit() < 0.05 ? 0.9 : 0.01) * (2 * r.unit() - 1) },
            ]
            for (index, shape) in shapes.enumerated() {
                let found = try #require(verdict(count, &randomness, share: shape))
                #expect(found.verdict == .legalReordering, "trial \(trial), shape \(index): \(found.note ?? "")")
            }
        }
    }

    @Test(
        "power: a drift of a tenth of the tolerance toward zero, a bias, errors at the ends are found in 200 of 200 outputs of 500"
    )
    func power() throws {
        var randomness = Randomness(state: 2)
        let wrong: [(String, (inout Randomness, Double) -> Double)] = [
            ("biased toward zero", { r, value in (value < 0 ? 1 : -1) * 0.2 * r.unit() }),
            ("biased away from zero", { r, value in (value < 0 ? -1 : 1) * 0.2 * r.unit() }),
            ("biased: the mean", { r, _ in 0.1 + 0.1 * (2 * r.unit() - 1) }),
            ("scattered", { r, _ in r.next() & 1 == 0 ? 0.9 : -0.9 }),
        ]
        for (note, share) in wrong {
            for trial in 0..<200 {
                let found = try #require(verdict(500, &randomness, share: share))
                #expect(found.verdict == .outside && found.failures == 0, "\(note), trial \(trial)")
                #expect(found.note?.hasPrefix(note) == true, "\(note), trial \(trial): \(found.note ?? "")")
            }
        }
    }

    @Test("of fewer than 64 elements there are no statistics")
    func few() throws {
        var randomness = Randomness(state: 3)
        let found = try #require(verdict(63, &randomness) { _, _ in 0.9 })
        #expect(found.statistics == nil && found.verdict == .legalReordering)
    }
}
