import GoldenIO
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

    @Test(
        "a single deviation is named from its bits",
        arguments: [
            ("dot.gemm", "dot.order.ascending"), ("dot.gemm", "dot.accumulate.bf16"), ("dot.gemm", "dot.flush.none"),
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
