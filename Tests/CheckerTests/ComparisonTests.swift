import Cases
import Checker
import JSON
import Testing

/// A case with one output, its truth and its bounds.
private func makeCase(
    _ op: String, _ expected: Tensor, truth: [Double]? = nil, bounds: [Double]? = nil, recipe: [String: JSONValue] = [:]
) -> GoldenCase {
    var one = GoldenCase(name: "case", op: op, recipe: recipe, outputs: [NamedTensor("r", expected)])
    if let truth, let bounds {
        one.truth = [NamedTensor("r", Tensor(truth, shape: expected.shape))]
        one.bounds = [NamedTensor("r", Tensor(bounds, shape: expected.shape))]
    }
    return one
}

private func judge(
    _ got: Tensor?, _ right: GoldenCase, _ policy: Policy? = nil, nan: NaNRule = .asClass
) throws -> OutputReport {
    let answer = GoldenCase(name: "case", op: right.op, outputs: got.map { [NamedTensor("r", $0)] } ?? [])
    let report = Judge.judge(
        answer, against: right, suite: "s", file: "f", options: JudgingOptions(policy: policy, nanRule: nan))
    return try #require(report.outputs.first)
}

@Suite("Comparison of one output")
struct ComparisonTests {
    private func floats(_ values: [Float]) -> Tensor { Tensor(values, shape: [values.count]) }

    @Test("exact: equal bits conform; NaNs are one class unless bits are asked for; -0 is not +0 (F2)")
    func exact() throws {
        let right = makeCase("math.exp", floats([1, .nan, 0]))
        #expect(try judge(floats([1, .nan, 0]), right).verdict == .exact)
        let payload = floats([1, Float(bitPattern: 0xFFC0_1234), 0])
        #expect(try judge(payload, right).verdict == .exact)
        let bits = try judge(payload, right, nan: .bits)
        #expect(bits.verdict == .outside)
        #expect(bits.mismatches == 1)
        let zero = try judge(floats([1, .nan, -0.0]), right)
        #expect(zero.verdict == .outside)
        #expect(zero.first?.ulps == 1)
        #expect(zero.first?.position == [2])
    }

    @Test("first, worst and last of many mismatches, and the histogram")
    func details() throws {
        let right = makeCase("math.exp", floats([1, 1, 1, 1, 1, 1]))
        func up(_ n: UInt32) -> Float { Float(bitPattern: Float(1).bitPattern + n) }
        let report = try judge(floats([1, up(1), up(5), 1, up(100), up(2)]), right)
        #expect(report.mismatches == 4)
        #expect(report.first?.index == 1)
        #expect(report.worst?.index == 4)
        #expect(report.worst?.ulps == 100)
        #expect(report.last?.index == 5)
        #expect(report.first?.got.bits == "0x3F800001")
        #expect(report.first?.got.fields == "+ 2^0 x 1.00000000000000000000001")
        let counts = report.histogram.counts
        #expect(counts[0] == 2)
        #expect(counts.indices.filter { counts[$0] > 0 }.map(UlpHistogram.label) == ["0", "1", "2", "5-8", "65-128"])
    }

    @Test("ulp:N: N apart conforms, N + 1 does not; infinity is one step beyond the largest; NaN only equals NaN")
    func ulps() throws {
        let greatest = Float.greatestFiniteMagnitude
        let right = makeCase("math.exp", floats([1, greatest, 1]))
        let near = floats([Float(1).nextUp.nextUp, .infinity, 1])
        #expect(try judge(near, right, .ulp(2)).verdict == .withinTolerance)
        #expect(try judge(near, right, .ulp(1)).verdict == .outside)
        #expect(try judge(near, right, .ulp(1)).failures == 1)
        #expect(try judge(floats([1, greatest, .nan]), right, .ulp(.max)).verdict == .outside)
    }

    @Test("integers conform by equality under every policy", arguments: [Policy.exact, .ulp(1000), .bound])
    func integers(_ policy: Policy) throws {
        let right = makeCase("bf16.add", Tensor([1, 2, 3] as [UInt8], shape: [3]))
        #expect(try judge(Tensor([1, 2, 3] as [UInt8], shape: [3]), right, policy).verdict == .exact)
        #expect(try judge(Tensor([1, 2, 4] as [UInt8], shape: [3]), right, policy).verdict == .outside)
    }

    @Test("a missing output, a wrong type, a wrong shape")
    func malformed() throws {
        let right = makeCase("math.exp", floats([1, 2]))
        #expect(try judge(nil, right).verdict == .missing)
        let type = try judge(Tensor([1, 2] as [Double], shape: [2]), right)
        #expect(type.verdict == .malformed)
        #expect(type.note?.contains("fp64") == true && type.note?.contains("fp32") == true)
        #expect(try judge(Tensor([1, 2] as [Float], shape: [1, 2]), right).verdict == .malformed)
    }

    @Test("another question answered: inputs that are not the golden file's")
    func otherInputs() throws {
        var right = makeCase("math.exp", floats([1, 2]))
        right.inputs = [NamedTensor("x", floats([0, 0]))]
        var answer = right
        answer.inputs = [NamedTensor("x", floats([0, 1]))]
        let report = Judge.judge(answer, against: right, suite: "s", file: "f", options: JudgingOptions())
        #expect(report.outputs[0].verdict == .malformed)
        #expect(report.outputs[0].note?.contains("inputs/x") == true)
    }

    @Test("bound (Q3): the boundary itself conforms, one part in 2^20 beyond does not")
    func boundary() throws {
        // kappa 4, n 3: the tolerance is 4 * 2^-24 * 2 * bounds + half a unit at truth.
        let recipe: [String: JSONValue] = ["kappa": .number(4), "n": .integer(3)]
        let tolerance = 0x1p-21 * 1000 + 0x1p-25 * 2
        let right = makeCase("dot.gemm", floats([1]), truth: [1], bounds: [1000], recipe: recipe)
        func got(_ error: Double) -> Tensor { floats([Float(1 + error)]) }
        #expect(try judge(got(tolerance * 0.9999), right).verdict == .legalReordering)
        #expect(try judge(got(-tolerance * 0.9999), right).verdict == .legalReordering)
        #expect(try judge(got(tolerance * 1.001), right).verdict == .outside)
        #expect(try judge(got(-tolerance * 1.001), right).verdict == .outside)
    }

    @Test("bound: NaN and infinities must be what truth is; an overflow only where truth itself overflows")
    func nonfinite() throws {
        let right = makeCase(
            "dot.gemm", floats([.nan, .infinity, .infinity, 1]), truth: [.nan, .infinity, 4e38, 1],
            bounds: [.nan, .infinity, 4e38, 1e9], recipe: ["n": .integer(1)])
        #expect(try judge(floats([.nan, .infinity, .infinity, 1.001]), right).verdict == .legalReordering)
        #expect(try judge(floats([1, .infinity, .infinity, 1]), right).failures == 1)
        #expect(try judge(floats([.nan, -.infinity, .infinity, 1]), right).failures == 1)
        #expect(try judge(floats([.nan, .infinity, -.infinity, 1]), right).failures == 1)
        #expect(try judge(floats([.nan, .infinity, .infinity, .infinity]), right).failures == 1)
    }

    @Test("bound: 64 errors of one sign inside the bound are a bias, of both signs they are not")
    func bias() throws {
        let n = 256
        let right = makeCase(
            "dot.gemm", floats([Float](repeating: 1, count: n)), truth: [Double](repeating: 1, count: n),
            bounds: [Double](repeating: 100, count: n), recipe: ["kappa": .number(4), "n": .integer(0)])
        // The tolerance is about 4 * 2^-24 * 100 = 2.4e-5.
        let oneSided = floats((0..<n).map { 1 + Float($0 % 7) * 1e-6 + 2e-6 })
        let report = try judge(oneSided, right)
        #expect(report.verdict == .outside)
        #expect(report.failures == 0)
        #expect(report.note?.contains("biased") == true, "\(report.note ?? "")")
        let balanced = floats((0..<n).map { 1 + ($0 % 2 == 0 ? 1 : -1) * (Float($0 % 7) * 1e-6 + 2e-6) })
        #expect(try judge(balanced, right).verdict == .legalReordering)
    }

    @Test("without bounds the policy bound is exact")
    func boundWithoutBounds() throws {
        let right = makeCase("squinch.decode", floats([1]))
        let report = try judge(floats([Float(1).nextUp]), right, .bound)
        #expect(report.verdict == .outside)
        #expect(report.policy == .exact)
    }

    @Test("a tolerance that zeros or NaNs would satisfy is refused as vacuous")
    func vacuous() throws {
        let right = makeCase("math.exp", floats([1, 2, 3]))
        func report(_ policy: Policy) -> Report {
            var report = Report(subject: "test")
            let answer = GoldenCase(name: "case", op: right.op, outputs: right.outputs)
            report.append(
                Judge.judge(answer, against: right, suite: "s", file: "f", options: JudgingOptions(policy: policy)))
            return report
        }
        #expect(throws: JudgingError.vacuous(.ulp(.max))) { try report(.ulp(.max)).refuseVacuous() }
        #expect(throws: Never.self) { try report(.ulp(100)).refuseVacuous() }
        #expect(throws: Never.self) { try report(.exact).refuseVacuous() }
        let wide = makeCase("dot.gemm", floats([1, 2]), truth: [1, 2], bounds: [1e9, 1e9])
        #expect(try judge(floats([1, 2]), wide, .bound).isVacuous)
        let narrow = makeCase("dot.gemm", floats([1, 2]), truth: [1, 2], bounds: [1, 2])
        #expect(try !judge(floats([1, 2]), narrow).isVacuous)
    }

    @Test("nothing judged does not conform")
    func nothing() {
        #expect(!Report(subject: "test").conforms)
    }

    @Test(
        "policies from text",
        arguments: [
            ("exact", Policy.exact), ("bound", .bound), ("ulp:0", .ulp(0)), ("ulp:17", .ulp(17)), ("ulp:", nil),
            ("ulp:-1", nil), ("distribution", .distribution), ("close", nil), ("ulp:99999999999999999999", nil),
        ] as [(String, Policy?)])
    func policies(_ text: String, _ expected: Policy?) { #expect(Policy(text) == expected) }

    @Test(
        "rules from text",
        arguments: [
            ("exact", PolicyRule(policy: .exact)),
            ("dot.gemm=bound", PolicyRule(operations: "dot.gemm", policy: .bound)),
            ("math.*=ulp:1", PolicyRule(operations: "math.*", policy: .ulp(1))),
            ("attention.forward/z=ulp:2", PolicyRule(operations: "attention.forward", outputs: "z", policy: .ulp(2))),
            ("=exact", nil), ("dot.gemm=", nil), ("dot.gemm=close", nil),
            ("d*t=exact", PolicyRule(operations: "d*t", policy: .exact)),
            ("a/b/c=exact", nil), ("a=b=exact", nil),
            ("a/=exact", nil),
        ] as [(String, PolicyRule?)])
    func rules(_ text: String, _ expected: PolicyRule?) {
        #expect(PolicyRule(text) == expected)
        if let expected { #expect(expected.description == text) }
    }

    @Test("the last rule that names an output holds, else the operation's standard policy")
    func lastRule() throws {
        let right = makeCase("math.exp", floats([1, 2]))
        let answer = GoldenCase(
            name: "case", op: right.op, outputs: [NamedTensor("r", floats([Float(1).nextUp, 2]))])
        func policy(_ texts: String...) throws -> OutputReport {
            let rules = try texts.map { try #require(PolicyRule($0)) }
            return try #require(
                Judge.judge(answer, against: right, suite: "s", file: "f", options: JudgingOptions(rules: rules))
                    .outputs.first)
        }
        #expect(try policy().policy == .exact)
        #expect(try policy("math.*=ulp:1").verdict == .withinTolerance)
        #expect(try policy("math.*=ulp:1", "math.exp=exact").verdict == .outside)
        #expect(try policy("math.exp=exact", "math.*=ulp:1").verdict == .withinTolerance)
        #expect(try policy("ulp:1", "dot.*=exact").verdict == .withinTolerance)
        #expect(try policy("math.exp/s=ulp:1").verdict == .outside)
        #expect(try policy("math.exp/r=ulp:1").verdict == .withinTolerance)
    }

    @Test("a standard bound that zeros would pass is no tolerance: bits judge")
    func vacuousStandard() throws {
        let wide = makeCase("dot.gemm", floats([1, 2]), truth: [1, 2], bounds: [1e9, 1e9])
        let report = try judge(floats([1, 3]), wide)
        #expect(report.policy == .exact && report.verdict == .outside && !report.isVacuous)
        #expect(try judge(floats([1, 3]), wide, .bound).isVacuous)
    }

    @Test("Q4: between a golden that is itself outside and the truth is allowed, beyond is not")
    func betweenGoldenAndTruth() throws {
        let right = makeCase(
            "dot.gemm", floats([100, 1]), truth: [110, 1], bounds: [110, 1], recipe: ["n": .integer(1)])
        for (value, conforms) in [(99.99, false), (100.00001, true), (104, true), (110.00001, true), (110.01, false)] {
            let report = try judge(floats([Float(value), 1]), right)
            #expect(report.verdict.conforms == conforms, "\(value)")
        }
    }

    @Test("distances in bf16 and fp16: across zero, to infinity")
    func narrowFormats() throws {
        let bf16 = makeCase("bf16.add", Tensor(bf16: [0x0001, 0x7F7F], shape: [2]))
        let report = try judge(Tensor(bf16: [0x8001, 0x7F80], shape: [2]), bf16, .ulp(3))
        #expect(report.first?.ulps == 3)
        #expect(report.last?.ulps == 1)
        #expect(report.verdict == .withinTolerance)
        let fp16 = makeCase("bf16.to", Tensor(fp16: [0x3C00], shape: [1]))
        #expect(try judge(Tensor(fp16: [0x3C02], shape: [1]), fp16, .ulp(1)).verdict == .outside)
    }
}

/// A shipped golden file.
func goldenPath(_ relative: String, file: String = #filePath) -> String {
    let root = file.split(separator: "/").dropLast(3).joined(separator: "/")
    return "/\(root)/GoldenData/\(relative)"
}
