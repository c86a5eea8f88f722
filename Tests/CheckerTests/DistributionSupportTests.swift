import Cases
import Checker
import GoldenIO
import Goldens
import JSON
import Testing

@Suite("Q6: what can be drawn, and the shipped cases of samplers")
struct DistributionSupportTests {
    private func draws(_ op: String, seed: UInt64, count: Int = 2200) throws -> GoldenCase {
        var randomness = Randomness(state: seed)
        let words = (0..<count).map { _ in UInt32(truncatingIfNeeded: randomness.next()) }
        return try OperationCatalog.evaluate(
            GoldenCase(
                name: op, op: op,
                inputs: [
                    NamedTensor("words", Tensor(words, shape: op == "random.normal" ? [count / 2, 2] : [count]))
                ]))
    }

    @Test(
        "one value that cannot be drawn is outside, among draws that are right",
        arguments: [
            ("random.uniform", [0, 1, -0.25, 1.5, -0.0, .infinity, .nan]),
            ("random.gumbel", [-4, 60, .infinity, -.infinity, .nan]),
            ("random.normal", [9, -9, .infinity, -.infinity, .nan]),
        ] as [(String, [Float])])
    func support(_ op: String, _ values: [Float]) throws {
        // With few draws too: what cannot be drawn is no question of power.
        for count in [2200, 100] {
            let right = try draws(op, seed: 1, count: count)
            let other = try #require(try draws(op, seed: 2, count: count).outputs["x"])
            for value in values {
                var x = try other.floats()
                x[77] = value
                let report = try Judge.judge(
                    drawn: GoldenCase(name: op, op: op, outputs: [NamedTensor("x", Tensor(x, shape: other.shape))]),
                    against: right, suite: "s", file: "f", options: JudgingOptions(policy: .distribution))
                #expect(report.outputs[0].verdict == .outside, "\(value) of \(count)")
                #expect(report.outputs[0].note?.contains("element 77") == true, "\(report.outputs[0].note ?? "")")
            }
        }
    }

    @Test(
        "values at the ends of what other generators may give are draws",
        arguments: [
            ("random.uniform", [0x1p-30, 0x1p-24, Float(1).nextDown]), ("random.gumbel", [-2.9, 22.9, -2.8115408]),
            ("random.normal", [5.9, -5.9]),
        ] as [(String, [Float])])
    func ends(_ op: String, _ values: [Float]) throws {
        let right = try draws(op, seed: 1)
        let other = try #require(try draws(op, seed: 2).outputs["x"])
        for value in values {
            var x = try other.floats()
            x[77] = value
            let report = try Judge.judge(
                drawn: GoldenCase(name: op, op: op, outputs: [NamedTensor("x", Tensor(x, shape: other.shape))]),
                against: right, suite: "s", file: "f", options: JudgingOptions(policy: .distribution))
            #expect(report.outputs[0].verdict == .inDistribution, "\(value)")
        }
    }

    /// The reference with random words of its own.
    private struct OtherWords: Implementation {
        let name = "other words"

        func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
            var asked = goldenCase
            var randomness = Randomness(state: goldenCase.name.utf8.reduce(7 as UInt64) { ($0 &* 31) &+ UInt64($1) })
            if goldenCase.recipe["seed"] != nil { asked.recipe["seed"] = "00000000deadbeef" }
            for name in ["words", "random"] {
                guard let tensor = goldenCase.inputs[name] else { continue }
                let bytes = tensor.bytes.map { _ in UInt8(truncatingIfNeeded: randomness.next() >> 32) }
                asked.inputs = TensorGroup(
                    asked.inputs.tensors.map {
                        $0.name == name
                            ? NamedTensor(
                                name, (try? Tensor(type: tensor.type, shape: tensor.shape, bytes: bytes)) ?? tensor)
                            : $0
                    })
            }
            return try OperationCatalog.evaluate(asked).outputs
        }
    }

    private func report(_ files: [String], _ rules: [String], cases: [NamePattern] = []) async throws -> Report {
        var report = Report(subject: "other words")
        for file in files {
            try await Judge.judge(
                OtherWords(), against: try GoldenFile(reading: ShippedCases.folder + "/" + file),
                options: JudgingOptions(
                    rules: rules.compactMap { PolicyRule($0) }, selection: CaseSelection(cases: cases)),
                into: &report)
        }
        return report
    }

    @Test(
        "the shipped cases judge a sampler with random numbers of its own, every output of it",
        arguments: [
            (
                ["gumbel/samples.h5", "gumbel/edges.h5", "gumbel/draws.h5"], "gumbel.*=distribution",
                ["gumbel.topk/ids", "gumbel.topk/weights", "gumbel.topk/kappa", "gumbel.replacement/ids"]
            ),
            (["random/draws.h5"], "random.*=distribution", ["random.uniform/x", "random.gumbel/x", "random.normal/x"]),
            (["squinch/encode.h5"], "squinch.encode=distribution", ["squinch.encode/blocks"]),
            (["bf16/arithmetic.h5"], "bf16.mul=distribution", ["bf16.mul/r"]),
        ] as [([String], String, [String])])
    func shipped(_ files: [String], _ rule: String, _ outputs: [String]) async throws {
        var report = try await report(files, [rule])
        #expect(throws: Never.self) { try report.noteUndrawn() }
        for name in outputs {
            let parts = name.split(separator: "/").map(String.init)
            let judged = report.cases.filter { $0.op == parts[0] }.flatMap(\.outputs)
                .filter { $0.name == parts[1] && $0.verdict == .inDistribution }
            #expect(!judged.isEmpty, "\(name)")
        }
        // Other operations of these files are no samples, or judged by bits here.
        let judgedOps = Set(outputs.compactMap { $0.split(separator: "/").first.map(String.init) })
        let wrong = report.cases.filter { !$0.conforms && judgedOps.contains($0.op) }
        #expect(
            wrong.isEmpty,
            "\(wrong.prefix(5).map { "\($0.name): \($0.outputs.map { "\($0.name) \($0.note ?? "")" })" })")
    }

    @Test("cases with too few draws alone are an error that says how many are needed")
    func tooFew() async throws {
        var report = try await report(["gumbel/samples.h5"], ["gumbel.*=distribution"], cases: ["topk-equal"])
        #expect(!report.undrawn.isEmpty)
        let error = #expect(throws: JudgingError.self) { try report.noteUndrawn() }
        #expect(error?.description.contains("24 draws") == true, "\(error.map { "\($0)" } ?? "")")
        // Beside cases with enough they are a note.
        var both = try await self.report(["gumbel/samples.h5", "gumbel/draws.h5"], ["gumbel.*=distribution"])
        let count = both.undrawn.count
        try both.noteUndrawn()
        #expect(count > 10 && both.notes.contains { $0.contains("too few draws") && $0.contains("gumbel.topk/ids") })
    }
}
