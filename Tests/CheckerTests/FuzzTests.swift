import Cases
import Checker
import Goldens
import JSON
import Testing

/// The reference with a planted defect: it answers another question, changes its answer, or does not answer.
struct Planted: Implementation {
    let name: String
    var asks: @Sendable (GoldenCase) -> GoldenCase = { $0 }
    var answers: @Sendable (GoldenCase, TensorGroup) throws -> TensorGroup? = { $1 }

    func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
        var asked = asks(goldenCase)
        asked.name = goldenCase.name
        return try answers(goldenCase, try OperationCatalog.evaluate(asked).outputs)
    }

    /// Answers as if the recipe said `new` where it says `old`.
    static func answering(_ key: String, _ old: JSONValue, as new: JSONValue) -> Planted {
        Planted(
            name: "\(key) \(old) as \(new)",
            asks: { goldenCase in
                var changed = goldenCase
                if changed.recipe[key] == old { changed.recipe[key] = new }
                return changed
            })
    }

    static let faithful = Planted(name: "the reference")
}

@Suite("Fuzzing")
struct FuzzTests {
    // MARK: Generators

    @Test("every operation has random cases")
    func complete() {
        #expect(FuzzCases.operations == OperationCatalog.all.map(\.name))
    }

    @Test("the reference answers every case, and every class comes", arguments: FuzzCases.operations)
    func valid(op: String) throws {
        let (count, first) = (FuzzCases.operations.count, try #require(FuzzCases.operations.firstIndex(of: op)))
        var classes: Set<CaseClass> = []
        var withElements = 0
        let rounds = op == "training.step" ? 40 : 60
        for round in 0..<rounds {
            let fuzzCase = FuzzCases.make(seed: 0x5EED, number: first + round * count)
            #expect(fuzzCase.goldenCase.op == op)
            classes.insert(fuzzCase.caseClass)
            let answered: GoldenCase
            do { answered = try OperationCatalog.evaluate(fuzzCase.goldenCase) } catch {
                Issue.record("case \(fuzzCase.number), \(fuzzCase.caseClass.rawValue): \(error)")
                continue
            }
            if answered.outputs.tensors.contains(where: { $0.tensor.count > 0 }) { withElements += 1 }
        }
        #expect(classes == Set(FuzzCases.classes(of: op)))
        // All but the degenerate ones.
        #expect(withElements > rounds / 2)
    }

    @Test("a case depends on the seed and its number alone")
    func deterministic() {
        for number in [0, 1, 57, 1000, 1 << 33] {
            #expect(FuzzCases.make(seed: 7, number: number) == FuzzCases.make(seed: 7, number: number))
        }
        let others = (0..<200).count {
            FuzzCases.make(seed: 7, number: $0).goldenCase.inputs
                != FuzzCases.make(seed: 8, number: $0).goldenCase.inputs
        }
        #expect(others > 150)
        // 2^32 cases on, the same words are not drawn again.
        let count = FuzzCases.operations.count
        let (near, far) = (3 * count, 3 * count + (1 << 32) * count)
        #expect(
            FuzzCases.make(seed: 7, number: near).goldenCase.inputs
                != FuzzCases.make(seed: 7, number: far).goldenCase.inputs)
    }

    @Test("the reference conforms to itself, and the coverage says what was judged")
    func faithful() async throws {
        var run = FuzzRun(seed: 1, operations: FuzzCases.operations)
        try await Fuzzer(Planted.faithful, options: JudgingOptions(policy: .exact)).run(&run) {
            $0.coverage.cases >= 300
        }
        #expect(run.conforms)
        #expect(run.coverage.cases == 300 && run.next == 300)
        #expect(Set(run.coverage.counts.keys.map(\.operation)) == Set(FuzzCases.operations))
        #expect(run.coverage.elements > 10_000)
        let text = FuzzReport(run, subject: "the reference", path: nil).text()
        #expect(text.contains("CONFORMS: 300 cases"))
        for caseClass in Set(run.coverage.counts.keys.map(\.caseClass)) { #expect(text.contains(caseClass.rawValue)) }
    }

    @Test("selected operations keep the numbers of their cases")
    func selection() async throws {
        var run = FuzzRun(seed: 1, operations: ["dot.gemm", "layer.rope"])
        try await Fuzzer(Planted.faithful).run(&run) { $0.coverage.cases >= 6 }
        #expect(run.coverage.cases == 6)
        #expect(Set(run.coverage.counts.keys.map(\.operation)) == ["dot.gemm", "layer.rope"])
        #expect(run.next > 2 * FuzzCases.operations.count && run.next <= 3 * FuzzCases.operations.count)
    }

    @Test("an implementation without the operations is not judged")
    func without() async throws {
        var run = FuzzRun(seed: 1, operations: ["dot.gemm"])
        let nothing = Planted(name: "nothing", answers: { _, _ in nil })
        try await Fuzzer(nothing).run(&run) { $0.coverage.missing.values.reduce(0, +) >= 5 }
        #expect(run.coverage.cases == 0 && !run.conforms)
        #expect(run.coverage.missing == ["dot.gemm": 5])
    }

    // MARK: Planted defects

    struct Defect: Sendable, CustomTestStringConvertible {
        let implementation: Planted
        let operation: String
        /// The most elements that all inputs of the smallest case may have together.
        let size: Int
        var testDescription: String { "\(operation): \(implementation.name)" }
    }

    static let defects: [Defect] = [
        Defect(implementation: flushedAfterRounding, operation: "dot.gemm", size: 4),
        // Products are exact in fp32: three terms are the fewest whose order shows, one where a subnormal is flushed.
        Defect(implementation: .answering("dot", "paired-ftz", as: "chain-ieee"), operation: "dot.gemm", size: 8),
        Defect(implementation: .answering("dot", "chain-ieee", as: "paired-ftz"), operation: "layer.linear", size: 8),
        Defect(implementation: .answering("rounding", "rne", as: "rna"), operation: "bf16.add", size: 2),
        Defect(implementation: .answering("rounding", "rne", as: "rtz"), operation: "bf16.from", size: 1),
        Defect(implementation: .answering("form", "folded", as: "unfolded"), operation: "zreg.rows", size: 6),
        Defect(implementation: .answering("variant", "round15", as: "floor16"), operation: "squinch.encode", size: 1),
        Defect(
            implementation: .answering("gradient", "inward", as: "straight-through"), operation: "clamp.static", size: 2
        ),
        Defect(
            implementation: Planted(
                name: "a window one too wide",
                asks: { goldenCase in
                    var changed = goldenCase
                    if case .integer(let window)? = changed.recipe["window"] {
                        changed.recipe["window"] = .integer(window + 1)
                    }
                    return changed
                }), operation: "attention.forward", size: 14),
        Defect(
            implementation: Planted(
                name: "the last element of a long row left out",
                asks: { goldenCase in
                    var changed = goldenCase
                    guard let x = goldenCase.inputs["x"], x.shape[1] > 16, x.shape[0] > 0, var values = try? x.floats()
                    else {
                        return changed
                    }
                    for row in 0..<x.shape[0] { values[(row + 1) * x.shape[1] - 1] = 0 }
                    changed.inputs = TensorGroup(
                        changed.inputs.tensors.map {
                            $0.name == "x" ? NamedTensor("x", Tensor(values, shape: x.shape)) : $0
                        })
                    return changed
                }), operation: "sum.lane16", size: 17),
        // A whole model of 1 x 1 matrices: every parameter thrice, a token or two.
        Defect(
            implementation: .answering("schedule", "cosine", as: "linear"), operation: "training.step", size: 120),
    ]

    /// A product of `paired-ftz` by IEEE's fused multiply-add and a flush: where a sum rounds up to 2^-126 it stays, while D1, which rounds with an
    /// unbounded exponent, flushes those that stay below.
    static let flushedAfterRounding = Planted(
        name: "IEEE fma, then a flush",
        answers: { goldenCase, outputs in
            guard goldenCase.recipe["dot"] == "paired-ftz", let a = goldenCase.inputs["a"],
                let b = goldenCase.inputs["b"]
            else { return outputs }
            func flush(_ x: Float) -> Float { x.magnitude < .leastNormalMagnitude ? x * 0 : x }
            func wide(_ bits: UInt16) -> Float { flush(Float(bitPattern: UInt32(bits) << 16)) }
            let (m, depth, n) = (a.shape[0], a.shape[1], b.shape[1])
            let (x, y) = (try a.bf16Bits(), try b.bf16Bits())
            var d = try goldenCase.inputs["c"]?.floats() ?? [Float](repeating: 0, count: m * n)
            for element in d.indices {
                var sum = flush(d[element])
                for pair in stride(from: 0, to: depth, by: 2) {
                    for k in [pair + 1, pair] where k < depth {
                        sum = flush(sum.addingProduct(wide(x[element / n * depth + k]), wide(y[k * n + element % n])))
                    }
                }
                d[element] = sum + 0
            }
            return [NamedTensor("d", Tensor(d, shape: [m, n]))]
        })

    @Test("a planted defect is found and made small", arguments: defects)
    func planted(defect: Defect) async throws {
        var run = FuzzRun(seed: 3, operations: [defect.operation])
        let fuzzer = Fuzzer(defect.implementation, options: JudgingOptions(policy: .exact), shrinkLimit: 3000)
        try await fuzzer.run(&run) { !$0.failures.isEmpty || $0.coverage.cases >= 1500 }
        let failure = try #require(run.failures.first, "not found in \(run.coverage.cases) cases")
        #expect(run.failures.count == 1 && run.coverage.failures == 1 && !run.conforms)
        #expect(failure.fault.failure == nil)
        let size = failure.minimal.inputs.tensors.reduce(0) { $0 + $1.tensor.count }
        #expect(size <= defect.size, "\(FuzzReport(run, subject: "", path: nil).text())")
        // It still fails, and the reference has answered it.
        #expect(try await fuzzer.fault(of: failure.minimal) != nil)
        #expect(try OperationCatalog.evaluate(failure.minimal).outputs == failure.minimal.outputs)
        #expect(failure.minimal.why.contains(defect.implementation.name))
        // The same steps again.
        var again = FuzzRun(seed: 3, operations: [defect.operation])
        try await fuzzer.run(only: failure.number, into: &again)
        #expect(again.failures.first?.minimal == failure.minimal)
        #expect(again.failures.first?.attempts == failure.attempts)
    }

    @Test("an implementation that crashes, hangs or answers nonsense is a failure, made small")
    func crashes() async throws {
        let kinds: [(ImplementationFailure.Kind?, String)] = [
            (.crash(signal: 11), "signal 11"), (.hang, "no answer"), (nil, "malformed"),
        ]
        for (kind, text) in kinds {
            let implementation = Planted(
                name: "a trap on NaN",
                answers: { goldenCase, outputs in
                    let a = try goldenCase.inputs["a"]?.bf16Bits() ?? []
                    guard a.contains(where: { $0 & 0x7FFF > 0x7F80 }) else { return outputs }
                    guard let kind else { return [NamedTensor("r", Tensor(bf16: [], shape: [0]))] }
                    throw ImplementationFailure(
                        kind, implementation: "a trap", goldenCase: goldenCase.name, "was ended: \(text)")
                })
            var run = FuzzRun(seed: 5, operations: ["bf16.mul"])
            try await Fuzzer(implementation).run(&run) { !$0.failures.isEmpty || $0.coverage.cases >= 200 }
            let failure = try #require(run.failures.first)
            #expect(failure.fault.failure?.kind == kind)
            #expect(failure.minimal.inputs["a"]?.count == 1)
            #expect(failure.attempts <= 200 || kind == nil)
            #expect(FuzzReport(run, subject: "", path: nil).text().contains(text))
        }
    }

    @Test("what cannot be asked is no verdict")
    func unasked() async throws {
        struct NoAnswer: Error {}
        let broken = Planted(name: "broken", answers: { _, _ in throw NoAnswer() })
        var run = FuzzRun(seed: 5, operations: ["bf16.mul"])
        await #expect(throws: NoAnswer.self) { try await Fuzzer(broken).run(&run) { $0.coverage.cases >= 1 } }
        #expect(run.coverage.cases == 0 && run.next == 0)
    }

    // MARK: Going on

    @Test("a run in parts is the run in one")
    func resumes() async throws {
        let fuzzer = Fuzzer(Planted.faithful)
        var whole = FuzzRun(seed: 9, operations: FuzzCases.operations)
        try await fuzzer.run(&whole) { $0.coverage.cases >= 150 }
        var part = FuzzRun(seed: 9, operations: FuzzCases.operations)
        for stop in [1, 40, 41, 150] {
            try await fuzzer.run(&part) { $0.coverage.cases >= stop }
            #expect(part.coverage.cases == stop)
            let text = try part.state(subject: "x").text()
            part = try FuzzRun.resuming(try JSONValue(text: text)).run
        }
        #expect(try part.state(subject: "x").text() == whole.state(subject: "x").text())
    }

    @Test("a state that is none is refused")
    func badStates() throws {
        let good = FuzzRun(seed: 9, operations: ["dot.gemm"]).state(subject: "x")
        guard case .object(let object) = good else {
            Issue.record("a state is not an object")
            return
        }
        #expect(throws: Never.self) { try FuzzRun.resuming(good) }
        for key in ["format", "seed", "all_operations", "operations", "next_case", "coverage", "missing", "failures"] {
            var broken = object
            broken[key] = nil
            #expect(throws: FuzzStateError.self, "\(key)") { try FuzzRun.resuming(.object(broken)) }
        }
        var older = object
        older["all_operations"] = .array(["dot.gemm"])
        #expect(throws: FuzzStateError.self) { try FuzzRun.resuming(.object(older)) }
        #expect(throws: FuzzStateError.self) { try FuzzRun.resuming(.array([])) }
    }
}
