import Cases
import Checker
import Goldens
import JSON
import Testing

@Suite("Fuzzing: classes of failures, long sides")
struct FuzzClassTests {
    /// Two defects of one operation: NaN answered with 1, subnormal results with 0.
    static let twoDefects = Planted(
        name: "two defects",
        answers: { _, outputs in
            guard let r = outputs["r"] else { return outputs }
            let bits = try r.bf16Bits().map { bits -> UInt16 in
                if bits & 0x7FFF > 0x7F80 { return 0x3F80 }
                return bits & 0x7F80 == 0 ? 0 : bits
            }
            return TensorGroup(
                outputs.tensors.map { $0.name == "r" ? NamedTensor("r", Tensor(bf16: bits, shape: r.shape)) : $0 })
        })

    @Test("one alarm does not hide another: each class is shown once, with the number of its cases")
    func classes() async throws {
        var run = FuzzRun(seed: 3, operations: ["bf16.mul"])
        let fuzzer = Fuzzer(Self.twoDefects, options: JudgingOptions(policy: .exact), shrinkLimit: 200)
        try await fuzzer.run(&run) { $0.coverage.cases >= 80 }
        let kinds = Set(run.failures.map(\.difference.kind))
        #expect(kinds.isSuperset(of: [.number, .zero]), "\(kinds)")
        // Every failing case is in one class, and no class stands twice.
        #expect(run.failures.reduce(0) { $0 + $1.cases } == run.coverage.failures)
        #expect(run.coverage.failures > run.failures.count)
        let keys = run.failures.map {
            "\($0.minimal.op) \($0.caseClass.rawValue) \($0.difference.output) \($0.difference.kind.rawValue)"
        }
        #expect(Set(keys).count == keys.count)
        for failure in run.failures {
            // The smallest form fails in the way of its class.
            #expect(failure.fault.difference == failure.difference)
            #expect(failure.minimal.inputs["a"]?.count == 1)
        }
        let text = FuzzReport(run, subject: "x", path: nil).text()
        let shown = try #require(run.failures.first { $0.cases > 1 })
        #expect(text.contains("the first of \(shown.cases) cases with \(shown.difference.kind.rawValue)"), "\(text)")
        #expect(text.components(separatedBy: "FAILED").count == run.failures.count + 1)
        // The state keeps the counts.
        let resumed = try FuzzRun.resuming(try JSONValue(text: try run.state(subject: "x").text()))
        #expect(resumed.known.map(\.cases) == run.failures.map(\.cases))
        #expect(resumed.known.map(\.difference) == run.failures.map(\.difference))
    }

    static let long: [(String, String, [Int])] = [
        ("dot.gemm", "a", [0, 1]), ("dot.gemm", "b", [0, 1]), ("sum.lane16", "x", [1]),
        ("attention.forward", "q", [2, 3]), ("attention.forward", "k", [2, 3]), ("attention.backward", "k", [2]),
        ("zreg.rows", "s", [1]), ("layer.linear", "x", [1, 2]), ("layer.linear", "w", [0, 1]),
        ("layer.rmsnorm", "x", [1]), ("layer.crossEntropy", "logits", [1]), ("layer.embedding", "dy", [0, 1]),
        ("layer.sparseCrossEntropy", "ids", [1]), ("layer.rope", "x", [2]),
    ]

    @Test("sides pass 256, and the cases stay small", arguments: long)
    func sides(_ op: String, _ input: String, _ axes: [Int]) throws {
        let (count, first) = (FuzzCases.operations.count, try #require(FuzzCases.operations.firstIndex(of: op)))
        var longest = [Int](repeating: 0, count: axes.count)
        var most = 0
        for round in 0..<2000 {
            let one = FuzzCases.make(seed: 0x5EED, number: first + round * count)
            guard one.caseClass == .tileEdge, let shape = one.goldenCase.inputs[input]?.shape else { continue }
            for (place, axis) in axes.enumerated() { longest[place] = max(longest[place], shape[axis]) }
            most = max(most, one.goldenCase.inputs.tensors.reduce(0) { $0 + $1.tensor.count })
        }
        #expect(longest.allSatisfy { $0 >= 256 }, "\(longest)")
        #expect(most > 0 && most < 120_000, "\(most) elements")
    }
}
