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

    /// What a configuration can switch, each by itself.
    static let switches: [(name: String, change: @Sendable (inout ModelConfiguration) -> Void)] = [
        ("plain", { _ in }),
        ("clamp none", { $0.clamp = .none }), ("clamp static", { $0.clamp = .static }),
        ("int8", { $0.int8 = true }), ("static int8", { ($0.clamp, $0.int8) = (.static, true) }),
        ("shared keys", { $0.keyValueSource = [0, 0, 0] }), ("shared by some", { $0.keyValueSource = [0, 1, 1] }),
        ("windows", { $0.windows = [1, 0, 2] }), ("grouped heads", { $0.keyValueHeads = 2 }),
        ("one layer", { $0.layers = 1 }), ("chain", { $0.dot = .chainIEEE }),
        ("no z-loss", { ($0.zregC, $0.outputZRegC) = (0, 0) }), ("row dot", { $0.zregForm = .rowDot }),
        ("distillation", { $0.distillationK = 3 }), ("no clipping", { $0.clipNorm = 0 }),
        ("three ranks", { $0.ranks = 3 }), ("bf16", { $0.compression = .bf16 }),
        ("bf16 on ranks", { ($0.compression, $0.ranks) = (.bf16, 2) }), ("squinch", { $0.compression = .squinch }),
        ("error feedback", { ($0.compression, $0.errorFeedback) = (.squinch, true) }),
        (
            "error feedback on ranks",
            {
                ($0.compression, $0.errorFeedback, $0.ranks) = (.squinch, true, 3)
                $0.squinchVariant = .stochastic15
            }
        ),
        ("distillation on ranks", { ($0.distillationK, $0.ranks, $0.int8) = (2, 2, true) }),
    ]

    static func switched(_ change: (inout ModelConfiguration) -> Void) -> ModelConfiguration {
        var c = ModelConfiguration()
        (c.vocabulary, c.width, c.layers, c.heads, c.keyValueHeads) = (11, 6, 3, 4, 1)
        (c.headDimension, c.feedForwardWidth, c.sequenceLength, c.batch) = (2, 9, 5, 4)
        change(&c)
        return c
    }

    @Test("the reference and the engine make the plan's tensors in its order", arguments: seeds)
    func traces(seed: Int) throws {
        var draws = RandomConfigurationTests.Draws(seed: UInt64(seed))
        try Self.hold(RandomConfigurationTests.configuration(&draws), &draws, "seed \(seed)")
    }

    @Test("and so with every technique by itself", arguments: switches.indices)
    func eachSwitch(place: Int) throws {
        var draws = RandomConfigurationTests.Draws(seed: 9)
        let (name, change) = Self.switches[place]
        try Self.hold(Self.switched(change), &draws, name)
    }

    /// Takes a step on both sides and compares what they made with the plan.
    private static func hold(
        _ c: ModelConfiguration, _ draws: inout RandomConfigurationTests.Draws, _ name: String
    ) throws {
        try c.validate()
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
        #expect(parting(reference, plan) == nil, "the reference, \(name): \(c)")
        #expect(parting(engine, plan) == nil, "the engine, \(name): \(c)")
    }

    @Test("a plan that differs in one name, type, size, place or number of tensors is told apart")
    func perturbed() throws {
        let c = Self.switched { ($0.int8, $0.compression, $0.errorFeedback) = (true, .squinch, true) }
        let plan = StepPlan(c).entries.map { Signature(name: $0.name, type: $0.type, shape: $0.shape) }
        #expect(Self.parting(plan, plan) == nil && plan.count > 100)
        for place in plan.indices {
            let one = plan[place]
            var changed = plan
            func isSeen() -> Bool { Self.parting(plan, changed) != nil }
            changed[place] = Signature(name: one.name + "x", type: one.type, shape: one.shape)
            #expect(isSeen(), "the name of \(one.name)")
            changed[place] = Signature(name: one.name, type: .fp64, shape: one.shape)
            #expect(isSeen(), "the type of \(one.name)")
            changed[place] = Signature(name: one.name, type: one.type, shape: one.shape + [1])
            #expect(isSeen(), "the shape of \(one.name)")
            changed = plan
            changed.remove(at: place)
            #expect(isSeen(), "without \(one.name)")
            guard place > 0 else { continue }
            changed = plan
            changed.swapAt(place, place - 1)
            #expect(isSeen(), "\(one.name) too early")
        }
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
        let state = Set(c.stateSignatures.map(\.name))
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
                case .state(let name): #expect(state.contains(name), "\(entry.name) reads \(name)")
                }
            }
            #expect(before.insert(entry.name).inserted, "\(entry.name) stands twice")
            #expect(plan[entry.name] == entry)
        }
        // Only results lead nowhere: the new state, the loss, residuals and codes.
        for name in before.subtracting(used) {
            let ends =
                ["m.", "v.", "weight.", "residual."].contains { name.hasPrefix($0) }
                || ["loss", "mlp.codes"].contains { name.hasSuffix($0) }
            #expect(ends, "\(name) is of no use")
        }
    }

    @Test(
        "every operation and every row of the tables is there in some configuration, and one with a condition not in all"
    )
    func coverage() throws {
        let plans = Self.switches.map { StepPlan(Self.switched($0.change)) }
        #expect(Set(plans.flatMap { $0.entries.map(\.operation) }) == Set(StepOperation.allCases))
        let rows = (StepPlan.pass + StepPlan.together).flatMap(\.rows)
        #expect(Set(rows.map(\.presence)) == Set(StepRow.Presence.allCases))
        for row in rows {
            // Of layer 2, and of a parameter whose name no row has.
            let name = row.name.replacingOccurrences(of: "l.", with: "layers.2.", options: .anchored)
                .replacingOccurrences(of: "gradient.l.", with: "gradient.layers.2.", options: .anchored)
                .replacingOccurrences(of: "\\.p$", with: ".layers.0.mlp.up", options: .regularExpression)
            let having = plans.count { $0.entries.contains { $0.name == name && $0.operation == row.operation } }
            let withoutRanks = plans.count {
                $0.configuration.ranks == 1 && ($0.configuration.layers > 2 || name == row.name)
            }
            #expect(having > 0, "\(row.name)")
            switch row.presence {
            case .always: #expect(having >= withoutRanks, "\(row.name)")
            default: #expect(having < plans.count, "\(row.name)")
            }
        }
    }

    @Test("a golden case holds what the plan says where it says it", arguments: LocaliserTests.probed.map(\.name))
    func records(name: String) throws {
        let golden = try #require(LocaliserTests.probed.first { $0.name == name })
        let plan = StepPlan(TrainingCase(try CheckedCase(golden)).configuration)
        func names(_ record: StepPlan.Record) -> [String] {
            plan.entries.filter { $0.record == record }.map(\.name)
        }
        #expect(golden.intermediates.names == names(.intermediate))
        #expect(golden.outputs.names == names(.everyStep) + ["fingerprint"] + names(.output))
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
