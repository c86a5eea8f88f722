import Cases
import Goldens
import Testing

import Checker

@Suite("Diagnosis")
struct DiagnosisTests {
    private func observations(_ op: String, _ names: [String]) throws -> [Observation] {
        let deviations = try names.map { name in
            try #require(DeviationCatalog.deviations(for: op).first { $0.name == name }, "\(name)")
        }
        return try (ShippedCases.byOperation[op] ?? []).map { golden in
            let outputs = try DeviationCatalog.outputs(of: golden, under: deviations) ?? golden.outputs
            return Observation(goldenCase: golden, outputs: outputs)
        }
    }

    @Test("fp16: every number is itself, midpoints go to the even neighbour, what is beside them to the nearer one")
    func binary16() {
        /// The value of finite bits of binary16, by their definition.
        func value(_ bits: Int) -> Float {
            let (exponent, fraction) = (bits >> 10, Float(bits & 1023))
            return exponent == 0
                ? fraction * 0x1p-24
                : (1024 + fraction) * Float(sign: .plus, exponent: exponent - 25, significand: 1)
        }
        for bits in 0..<0x7C00 {
            let x = value(bits)
            // The step after the largest leads to 2^16, which stands for infinity.
            let next = bits == 0x7BFF ? 65536 : value(bits + 1)
            let above = bits == 0x7BFF ? Float.infinity : next
            let middle = (x + next) / 2
            #expect(x.roundedToBinary16.bitPattern == x.bitPattern)
            #expect((-x).roundedToBinary16.bitPattern == (-x).bitPattern)
            #expect(middle.roundedToBinary16 == (bits & 1 == 0 ? x : above))
            #expect(middle.nextDown.roundedToBinary16 == x && middle.nextUp.roundedToBinary16 == above)
            #expect((-middle.nextUp).roundedToBinary16 == -above)
        }
        #expect(Float.infinity.roundedToBinary16 == .infinity && Float.nan.roundedToBinary16.isNaN)
        #expect((-Float.greatestFiniteMagnitude).roundedToBinary16 == -.infinity)
    }

    @Test(
        "a single deviation is named from its bits",
        arguments: [
            ("dot.gemm", "dot.order.ascending"), ("dot.gemm", "dot.accumulate.bf16"), ("dot.gemm", "dot.flush.none"),
            ("dot.gemm", "dot.products.bf16"), ("dot.gemm", "dot.accumulate.fp16"),
            ("dot.gemm", "dot.order.blocks-8"), ("sum.lane16", "sum.order.pairwise"), ("bf16.add", "bf16.rounding.rna"),
            ("bf16.fma", "bf16.fma.unfused"), ("math.log", "math.base-2.fp32"),
            ("random.normal", "random.normal.exchanged"),
            ("bf16.minimum", "bf16.minimum.by-comparison"), ("random.philox", "random.rounds.7"),
        ])
    func single(_ op: String, _ name: String) throws {
        let diagnosis = try #require(try Diagnoser(triesPairs: false).diagnose(observations(op, [name])))
        #expect(diagnosis.op == op)
        for output in diagnosis.outputs {
            #expect(
                output.exact.contains { $0.deviations.map(\.name) == [name] },
                "\(output.name): \(output.exact.map(\.deviations))")
            #expect(output.closest.isEmpty)
        }
        // Not everything explains it.
        #expect(diagnosis.outputs.allSatisfy { $0.exact.count < 6 })
    }

    @Test(
        "two deviations at once are named as a pair",
        arguments: [
            ("dot.gemm", ["dot.order.ascending", "dot.flush.none"]),
            ("dot.gemm", ["dot.order.pairwise", "dot.c.ignored"]),
            ("bf16.add", ["bf16.rounding.rtz", "output.flushed"]),
        ])
    func pairs(_ op: String, _ names: [String]) throws {
        let diagnosis = try #require(try Diagnoser().diagnose(observations(op, names)))
        let output = try #require(diagnosis.outputs.first)
        #expect(
            output.exact.contains { Set($0.deviations.map(\.name)) == Set(names) }, "\(output.exact.map(\.deviations))")
        #expect(
            try Diagnoser(triesPairs: false).diagnose(observations(op, names))?.outputs.first?.exact.isEmpty == true)
    }

    @Test("nothing wrong is no diagnosis; damage that no deviation makes is not explained away")
    func honesty() throws {
        let golden = try #require(ShippedCases.byOperation["dot.gemm"])
        #expect(try Diagnoser().diagnose(golden.map { Observation(goldenCase: $0, outputs: $0.outputs) }) == nil)
        let damaged = try golden.map { one in
            let d = try #require(one.outputs["d"])
            var bytes = d.bytes
            if !bytes.isEmpty { bytes[0] ^= 1 }
            return Observation(
                goldenCase: one, outputs: [NamedTensor("d", try Tensor(type: d.type, shape: d.shape, bytes: bytes))])
        }
        let diagnosis = try #require(try Diagnoser(triesPairs: false).diagnose(damaged))
        #expect(diagnosis.outputs[0].exact.isEmpty)
        #expect(diagnosis.outputs[0].patterns.contains("wrong exactly where the element is the first"))
    }

    @Test("a deviation that holds in some cases only is no explanation")
    func consistency() throws {
        var mixed = try observations("dot.gemm", ["dot.order.ascending"])
        let other = try observations("dot.gemm", ["dot.order.descending"])
        mixed[mixed.count - 1] = other[other.count - 1]
        for index in mixed.indices where index % 2 == 0 { mixed[index] = other[index] }
        let diagnosis = try #require(try Diagnoser(triesPairs: false).diagnose(mixed))
        #expect(!diagnosis.outputs[0].exact.contains { $0.deviations.map(\.name) == ["dot.order.ascending"] })
        #expect(!diagnosis.outputs[0].closest.isEmpty)
    }

    @Test("those that come closest are counted over the same cases: all of them")
    func closest() throws {
        var observations = try observations("dot.gemm", ["dot.order.ascending"])
        // One bit more in the last case, so that nothing is exact.
        let last = observations.count - 1
        let d = try #require(observations[last].outputs["d"])
        var bytes = d.bytes
        bytes[0] ^= 64
        observations[last] = Observation(
            goldenCase: observations[last].goldenCase,
            outputs: [NamedTensor("d", try Tensor(type: d.type, shape: d.shape, bytes: bytes))])
        let output = try #require(try Diagnoser().diagnose(observations)?.outputs.first)
        #expect(output.exact.isEmpty && output.closest.count == 3)
        #expect(output.closest.first?.deviations.contains { $0.name == "dot.order.ascending" } == true)
        let elements = observations.reduce(0) { $0 + ($1.goldenCase.outputs["d"]?.count ?? 0) }
        for explanation in output.closest {
            #expect(explanation.wrong == output.evidence.differing && explanation.elements == elements)
        }
        #expect(output.closest.map(\.score) == output.closest.map(\.score).sorted(by: >))
    }

    @Test("an output that something else explains is not said to be right")
    func mixedCauses() throws {
        let pair = try observations("zreg.rows", ["softmax.exp.base-2", "zreg.term.negated"])
        let single = try observations("zreg.rows", ["softmax.z.maximum"])
        let mixed = try zip(pair, single).map { pair, single in
            Observation(
                goldenCase: pair.goldenCase,
                outputs: TensorGroup(
                    try pair.outputs.tensors.map { named in
                        named.name == "z" ? NamedTensor("z", try #require(single.outputs["z"])) : named
                    }))
        }
        let diagnosis = try #require(try Diagnoser().diagnose(mixed))
        let ds = try #require(diagnosis.outputs.first { $0.name == "ds" })
        let explanation = try #require(
            ds.exact.first { Set($0.deviations.map(\.name)) == ["softmax.exp.base-2", "zreg.term.negated"] })
        #expect(explanation.spoiltOutputs.isEmpty, "\(explanation.spoiltOutputs)")
    }

    @Test("few wrong elements are thin evidence, and all that fits them is listed")
    func thinEvidence() throws {
        let one = try #require(
            try observations("dot.gemm", ["dot.terms.last-missing"]).filter { observation in
                let (got, right) = (observation.outputs["d"], observation.goldenCase.outputs["d"])
                return got?.count ?? 0 < Evidence.least && got != right
            }.min { $0.goldenCase.inputs.tensors[0].tensor.count < $1.goldenCase.inputs.tensors[0].tensor.count })
        let diagnosis = try #require(try Diagnoser().diagnose([one]))
        let output = diagnosis.outputs[0]
        #expect(output.evidence.isThin && output.evidence.fitting == output.exact.count && output.evidence.fitting > 1)
        #expect(output.evidence.tried == diagnosis.tried)
        var report = DiagnosisReport(Report(subject: "thin"))
        report.append("dot.gemm", diagnosis)
        let text = report.text()
        #expect(
            text.contains("thin evidence: \(output.evidence.differing) element") && text.contains("on thin evidence"))
        for explanation in output.exact { #expect(text.contains("  \(explanation.name)\n")) }
        #expect(try report.json.text().contains(#""thin":true"#))
        // Of many elements it is not.
        let all = try #require(try Diagnoser().diagnose(observations("dot.gemm", ["dot.terms.last-missing"])))
        #expect(!all.outputs[0].evidence.isThin)
    }

    @Test("other bits that the policy allows are named and are not wrong")
    func allowed() throws {
        let planted = try observations("dot.gemm", ["dot.order.pairwise"]).map {
            Observation(goldenCase: $0.goldenCase, outputs: $0.outputs, allowed: ["d": .legalReordering])
        }
        let diagnosis = try #require(try Diagnoser().diagnose(planted))
        let output = diagnosis.outputs[0]
        #expect(!output.isWrong && output.isNamed && output.allowedCases > 0 && output.wrongCases == 0)
        var report = DiagnosisReport(Report(subject: "legal"))
        report.append("dot.gemm", diagnosis)
        #expect(report.wrong == 0 && report.allowed == 1)
        #expect(report.text().contains("all allowed: legal reordering") && report.text().contains("NOTHING WRONG"))
        #expect(report.html.contains("dot.order.pairwise"))
    }

    @Test(
        "planted defects are caught and named, a quick selection",
        arguments: ["dot.gemm", "sum.lane16", "random.philox", "math.exp"])
    func mutations(_ op: String) throws {
        let mutator = Mutator(cases: ShippedCases.byOperation[op] ?? [])
        let mutations = try mutator.mutations(pairs: 0)
        #expect(mutations.count >= 15)
        var named = 0
        for mutation in mutations {
            let outcome = try mutator.outcome(of: mutation)
            #expect(outcome.fate != .survived, "\(mutation)")
            if outcome.isNamed { named += 1 }
        }
        #expect(named * 10 >= mutations.count { $0.kind == .deviation } * 9)
    }
}
