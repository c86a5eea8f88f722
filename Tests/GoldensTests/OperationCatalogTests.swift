import Cases
import Goldens
import JSON
import ModelSpec
import Testing

@Suite("The catalogue of operations")
struct OperationCatalogTests {
    private func error(of goldenCase: GoldenCase) -> OperationError? {
        do {
            _ = try OperationCatalog.evaluate(goldenCase)
            return nil
        } catch {
            return error
        }
    }

    private let add = GoldenCase(
        name: "sum", op: "bf16.add", recipe: ["rounding": "rne", "tininess": "after"],
        inputs: [
            NamedTensor("a", Tensor(bf16: [0x3F80], shape: [1])), NamedTensor("b", Tensor(bf16: [0x3F80], shape: [1])),
        ])

    @Test("names are unique and start with a known family")
    func names() {
        let names = OperationCatalog.all.map(\.name)
        #expect(Set(names).count == names.count)
        #expect(names.count == 61)
        for operation in OperationCatalog.all {
            #expect(!operation.clauses.isEmpty && !operation.summary.isEmpty, "\(operation.name)")
        }
    }

    @Test("a case without an operation is no unknown operation ''")
    func noOperation() {
        var one = add
        one.op = ""
        #expect(error(of: one)?.kind == .unknownOperation)
        #expect(error(of: one)?.description.contains("has no attribute 'op'") == true)
        #expect(error(of: one)?.description.contains("''") == false)
    }

    @Test("16-bit integers in the place of bf16: the error says how the bits are written", arguments: [true, false])
    func bits(isSigned: Bool) {
        var one = add
        one.inputs = [
            NamedTensor(
                "a",
                isSigned ? Tensor([0x3F80] as [Int16], shape: [1]) : Tensor([0x3F80] as [UInt16], shape: [1])),
            NamedTensor("b", Tensor(bf16: [0x3F80], shape: [1])),
        ]
        let text = error(of: one)?.description ?? ""
        #expect(text.contains("expected bf16") && text.contains("element_type = \"bf16\""), "\(text)")
    }

    @Test("an unknown operation names the nearest")
    func unknownOperation() {
        var one = add
        one.op = "squinch.encod"
        #expect(error(of: one)?.kind == .unknownOperation)
        #expect(error(of: one)?.description.contains("squinch.encode") == true)
        #expect(error(of: one)?.caseName == "sum")
    }

    @Test("recipe: unknown, missing and wrong keys")
    func recipes() {
        for (key, value, part) in [
            ("mode", "rne", "unknown recipe key 'mode'"), ("rounding", "up", "one of rne, rtz"),
            ("tininess", 1, "one of after, before"),
        ] as [(String, JSONValue, String)] {
            var one = add
            one.recipe[key] = value
            #expect(error(of: one)?.kind == .recipe)
            #expect(error(of: one)?.description.contains(part) == true, "\(String(describing: error(of: one)))")
        }
        var missing = add
        missing.recipe["rounding"] = nil
        #expect(error(of: missing)?.description.contains("'rounding' is missing") == true)
    }

    @Test("fp32 parameters: number and bits agree, either may stand alone, neither may be malformed")
    func bitsRule() {
        func exp(_ recipe: [String: JSONValue]) -> GoldenCase {
            GoldenCase(
                name: "exp", op: "math.exp", recipe: recipe,
                inputs: [NamedTensor("x", Tensor([1] as [Float], shape: [1]))])
        }
        #expect(error(of: exp([:])) == nil)
        #expect(error(of: exp(["kappa": .number(4), "kappa_bits": "40800000"])) == nil)
        #expect(error(of: exp(["kappa": 4])) == nil)
        #expect(error(of: exp(["kappa_bits": "40800000"])) == nil)
        #expect(error(of: exp(["kappa": .number(4), "kappa_bits": "40800001"]))?.kind == .recipe)
        #expect(error(of: exp(["kappa": .number(4), "kappa_bits": "0x408000"]))?.kind == .recipe)
        #expect(error(of: exp(["kappa": "4"]))?.kind == .recipe)
    }

    @Test("inputs: missing, extra, of another type, rank or size")
    func inputs() {
        func with(_ inputs: TensorGroup) -> GoldenCase {
            var one = add
            one.inputs = inputs
            return one
        }
        let a = add.inputs.tensors[0]
        let wrong: [TensorGroup] = [
            [a], [a, NamedTensor("b", Tensor(bf16: [1, 2], shape: [2]))],
            [a, NamedTensor("b", Tensor(bf16: [1], shape: [1, 1]))],
            [a, NamedTensor("b", Tensor([1] as [UInt16], shape: [1]))],
            [a, add.inputs.tensors[1], NamedTensor("random", Tensor([1] as [UInt16], shape: [1]))],
        ]
        for group in wrong { #expect(error(of: with(group))?.kind == .input, "\(group.names)") }
    }

    @Test("stochastic rounding is for results in bf16 (B2)")
    func stochasticElsewhere() {
        for op in ["bf16.to", "bf16.roundToIntegral"] {
            var one = GoldenCase(
                name: "sr", op: op, recipe: ["rounding": "sr"],
                inputs: [NamedTensor("a", Tensor(bf16: [1], shape: [1]))])
            if op == "bf16.to" { one.recipe["target"] = "int8" }
            #expect(error(of: one)?.kind == .recipe)
        }
    }

    @Test("values that an operation refuses are named with their index (S6, S7)")
    func refusedValues() {
        let encode = GoldenCase(
            name: "nan", op: "squinch.encode", recipe: ["variant": "floor16", "nonfinite": "refuse"],
            inputs: [NamedTensor("x", Tensor([1, .infinity] as [Float], shape: [2]))])
        #expect(error(of: encode)?.kind == .value)
        #expect(error(of: encode)?.description.contains("1") == true)
        let decode = GoldenCase(
            name: "count", op: "squinch.decode", recipe: ["variant": "floor16", "count": 9],
            inputs: [NamedTensor("blocks", Tensor([0, 0, 0, 0, 0, 0] as [UInt8], shape: [1, 6]))])
        #expect(error(of: decode)?.kind == .input)
        let ranks = GoldenCase(
            name: "ranks", op: "allreduce.fp32", inputs: [NamedTensor("g", Tensor([] as [Float], shape: [0, 4]))])
        #expect(error(of: ranks)?.kind == .input)
    }
}

@Suite("The shipped goldens")
struct GoldenSuiteTests {
    @Test(
        "every suite has files, every case a name, a reason, clauses; names are unique in a file",
        arguments: Suite.allCases)
    func cases(_ suite: Suite) {
        let files = GoldenSuites.files(of: suite, tier: .quick, seed: GoldenSuites.defaultSeed)
        #expect(!files.isEmpty)
        for file in files {
            #expect(Set(file.cases.map(\.name)).count == file.cases.count, "\(file.name)")
            for one in file.cases {
                #expect(one.why.count > 5 && !one.specClauses.isEmpty, "\(file.name)/\(one.name)")
            }
        }
    }

    @Test("every operation has cases")
    func coverage() {
        let covered = Set(
            Suite.allCases.flatMap { GoldenSuites.files(of: $0, tier: .quick, seed: 1) }.flatMap(\.cases).map(\.op))
        #expect(covered == Set(OperationCatalog.all.map(\.name)))
    }

    @Test("the seed changes samples and nothing else; a case depends on its own name alone")
    func seeds() {
        let first = GoldenSuites.files(of: .dot, tier: .quick, seed: 1)[0].cases
        let again = GoldenSuites.files(of: .dot, tier: .quick, seed: 1)[0].cases
        let other = GoldenSuites.files(of: .dot, tier: .quick, seed: 2)[0].cases
        #expect(first == again)
        #expect(first.map(\.name) == other.map(\.name))
        #expect(first != other)
    }

    @Test("wider tiers hold the cases of the narrower, larger", arguments: [Suite.dot, .random, .squinch, .allreduce])
    func tiers(_ suite: Suite) {
        func elements(_ tier: Tier) -> Int {
            GoldenSuites.files(of: suite, tier: tier, seed: 1).flatMap(\.cases)
                .reduce(0) { $0 + $1.inputs.tensors.reduce(0) { $0 + $1.tensor.count } }
        }
        #expect(elements(.quick) < elements(.standard))
    }
}
