import Cases
import Engine
import EngineOperations
import Foundation
import Goldens
import ModelSpec
import Reference
import Testing

/// T2's tables as data against what the reference and the engine do.
@Suite("The plan of a step")
struct StepPlanTests {
    /// A tensor without its elements.
    struct Signature: Hashable {
        let name: String
        let type: ElementType
        let shape: [Int]
    }

    /// Random small models in every combination of techniques.
    static let seeds = 1000..<1120

    @Test("the reference and the engine make the plan's tensors in its order", arguments: seeds)
    func traces(seed: Int) throws {
        var draws = RandomConfigurationTests.Draws(seed: UInt64(seed))
        let c = RandomConfigurationTests.configuration(&draws)
        let plan = StepPlan(c).entries.map { Signature(name: $0.name, type: $0.type, shape: $0.shape) }
        let batch = RandomConfigurationTests.batch(c, &draws)
        var state = TrainingState(initial: c)
        let trainer = Trainer(c, EngineContext(threads: 1))
        StepTraceTests.load(state, into: trainer)
        let reference = try StepTraceTests.referenceTrace(c, &state, batch, 1).map {
            Signature(name: $0.name, type: $0.tensor.type, shape: $0.tensor.shape)
        }
        var engine: [Signature] = []
        _ = try trainer.step(1, batch: batch) {
            engine.append(Signature(name: $0, type: $1.elementType, shape: $1.shape))
        }
        #expect(Self.parting(reference, plan) == nil, "the reference, seed \(seed): \(c)")
        #expect(Self.parting(engine, plan) == nil, "the engine, seed \(seed): \(c)")
    }

    private static func parting(_ trace: [Signature], _ plan: [Signature]) -> String? {
        for (got, expected) in zip(trace, plan) where got != expected { return "\(got), planned \(expected)" }
        return trace.count == plan.count ? nil : "\(trace.count) tensors, planned \(plan.count)"
    }

    @Test("a tensor is made of earlier ones, of the parameters and of the batch", arguments: seeds)
    func inputs(seed: Int) throws {
        var draws = RandomConfigurationTests.Draws(seed: UInt64(seed))
        let c = RandomConfigurationTests.configuration(&draws)
        let plan = StepPlan(c)
        let parameters = Set(c.parameters.map(\.name))
        var before: Set<String> = []
        var used: Set<String> = []
        for entry in plan.entries {
            for input in entry.inputs {
                switch input {
                case .tensor(let name):
                    #expect(before.contains(name), "\(entry.name) is made of \(name)")
                    used.insert(name)
                case .weight(let name): #expect(parameters.contains(name), "\(entry.name) reads \(name)")
                case .batch(let name):
                    #expect(["tokens", "targets", "position", "visibility"].contains(name), "\(entry.name)")
                }
            }
            #expect(before.insert(entry.name).inserted, "\(entry.name) stands twice")
            #expect(plan[entry.name] == entry)
        }
        // Only results lead nowhere: the new state, the loss, residuals, codes, and statistics of passes without a backward use.
        for name in before.subtracting(used) {
            let ends =
                ["m.", "v.", "weight.", "residual."].contains { name.hasPrefix($0) }
                || ["loss", "mlp.codes"].contains { name.hasSuffix($0) }
            #expect(ends, "\(name) is of no use")
        }
    }

    @Test("every operation and every condition of the tables occurs in some configuration")
    func coverage() {
        var operations: Set<StepOperation> = []
        for seed in Self.seeds {
            var draws = RandomConfigurationTests.Draws(seed: UInt64(seed))
            let c = RandomConfigurationTests.configuration(&draws)
            operations.formUnion(StepPlan(c).entries.map(\.operation))
        }
        #expect(operations == Set(StepOperation.allCases))
    }

    @Test("the tables of clause T2 are those of the plan")
    func specification() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let path = "Sources/ModelSpec/ModelSpec.docc/Specification.md"
        let page = try String(contentsOf: folder.appendingPathComponent(path), encoding: .utf8)
        let parts = page.components(separatedBy: "<!-- step -->\n")
        try #require(parts.count == 3, "the tables stand between two marks")
        #expect(parts[1] == StepPlan.markdown, "run Tools/tables")
    }
}
