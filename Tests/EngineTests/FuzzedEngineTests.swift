import Cases
import Checker
import Engine
import EngineOperations
import Goldens
import JSON
import Kernels
import KernelsEmulated
import Testing

/// Random cases of every operation: each set of kernels has the reference's bits.
@Suite("The engine on random cases")
struct FuzzedEngineTests {
    struct Kernels: Implementation {
        let catalog: EngineCatalog
        let name: String

        init(_ kernels: KernelSet, threads: Int) {
            catalog = EngineCatalog(EngineContext(kernels: kernels, threads: threads))
            name = "\(kernels.name), \(threads) threads"
        }

        func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
            do { return try catalog.evaluate(goldenCase).outputs } catch {
                throw ImplementationFailure(
                    .reported, implementation: name, goldenCase: goldenCase.name, "refused it: \(error)")
            }
        }
    }

    @Test("eight hundred cases, every bit of every output")
    func agree() async throws {
        let sets = InstructionSets.available + [Emulated.singles, Emulated.pairs]
        let fuzzers = sets.enumerated().map {
            Fuzzer(Kernels($1, threads: [1, 3, 2, 7][$0 % 4]), options: JudgingOptions(policy: .exact))
        }
        for number in 0..<800 {
            let fuzzCase = FuzzCases.make(seed: 0xE9, number: number)
            let right = try OperationCatalog.evaluate(fuzzCase.goldenCase)
            for fuzzer in fuzzers {
                guard let fault = try await fuzzer.fault(of: right) else { continue }
                Issue.record(
                    "\(fuzzer.implementation.name), case \(number), \(right.op), \(fuzzCase.caseClass.rawValue): \(fault.summary)"
                )
            }
        }
    }

    @Test("attention over no keys, and of no queries", arguments: ["attention.forward", "attention.backward"])
    func nothing(op: String) async throws {
        for (queries, keys) in [(1, 0), (3, 0), (0, 2), (0, 0)] {
            var recipe: [String: JSONValue] = [
                "scale": 1, "orientation": "by-query", "query_offset": 0, "dot": "paired-ftz",
            ]
            let query = Tensor(bf16: [UInt16](repeating: 0x3F80, count: 2 * queries), shape: [1, 1, queries, 2])
            let key = Tensor(bf16: [UInt16](repeating: 0x3F80, count: 2 * keys), shape: [1, 1, keys, 2])
            let bounds = Tensor([Int32](repeating: 0, count: queries), shape: [1, queries])
            var inputs: TensorGroup = [
                NamedTensor("q", query), NamedTensor("k", key), NamedTensor("v", key),
                NamedTensor("visibility_start", bounds), NamedTensor("visibility_limit", bounds),
            ]
            if op == "attention.backward" {
                (recipe["zreg_c"], recipe["form"]) = (1, "folded")
                inputs.append("do", query)
            }
            let right = try OperationCatalog.evaluate(
                GoldenCase(name: "\(queries) on \(keys)", op: op, recipe: recipe, inputs: inputs))
            for kernels in InstructionSets.available + [Emulated.singles, Emulated.pairs] {
                let fault = try await Fuzzer(Kernels(kernels, threads: 2), options: JudgingOptions(policy: .exact))
                    .fault(of: right)
                #expect(fault == nil, "\(kernels.name), \(queries) queries on \(keys) keys: \(fault?.summary ?? "")")
            }
        }
    }
}
