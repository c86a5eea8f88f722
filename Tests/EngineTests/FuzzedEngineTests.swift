import Checker
import Engine
import EngineOperations
import GoldenIO
import Goldens
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
}
