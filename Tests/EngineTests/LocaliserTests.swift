import BFloat16
import Cases
import Checker
import Engine
import Goldens
import JSON
import ModelSpec
import Reference
import Testing

/// Traces of a step that part at a known place.
@Suite("Localising a difference in a training step")
struct LocaliserTests {
    /// Cases whose intermediates are kept.
    static let probed = StepTraceTests.steps.filter { !$0.intermediates.isEmpty }

    /// The case with the last bit of one element of one tensor flipped.
    private func flipping(_ name: String, _ element: Int, in golden: GoldenCase) throws -> GoldenCase {
        var changed = golden
        func flipped(_ tensor: Tensor) throws -> Tensor {
            var bytes = tensor.bytes
            bytes[element * tensor.type.byteWidth] ^= 1
            return try Tensor(type: tensor.type, shape: tensor.shape, bytes: bytes)
        }
        changed.outputs = TensorGroup(
            try golden.outputs.tensors.map { $0.name == name ? NamedTensor(name, try flipped($0.tensor)) : $0 })
        changed.intermediates = TensorGroup(
            try golden.intermediates.tensors.map { $0.name == name ? NamedTensor(name, try flipped($0.tensor)) : $0 })
        return changed
    }

    @Test("a flipped bit is found in its tensor, and the other trace is called right", arguments: probed.map(\.name))
    func flips(name: String) throws {
        let golden = try #require(Self.probed.first { $0.name == name })
        let right = try StepTrace(golden, name: "right")
        let plan = StepPlan(right.configuration)
        var localiser = Localiser(plan)
        #expect(try localiser.compare(right, right).divergence == nil)
        let alone = try localiser.faults(right)
        #expect(alone.faults.isEmpty && alone.judgement == .conforms)
        localiser.samples = 4
        for (place, tensor) in plan.entries.map(\.name).enumerated() where tensor != "loss" && tensor != "gradient_norm"
        {
            let values = golden.intermediates[tensor] ?? golden.outputs[tensor]
            guard let values, values.count > 0 else { continue }
            let element = values.count / 2
            let wrong = try StepTrace(try flipping(tensor, element, in: golden), name: "wrong")
            let divergence = try #require(try localiser.compare(right, wrong).divergence, "\(tensor)")
            #expect(divergence.tensor == tensor)
            #expect(divergence.place == place + 1)
            #expect(divergence.differing == 1)
            #expect(divergence.note == nil, "\(tensor): \(divergence.note ?? "")")
            #expect(divergence.firstRight == 1 && divergence.secondRight == 0, "\(tensor)")
        }
    }

    @Test("a run with another epsilon parts at the first norm; its own trace shows every norm as wrong")
    func otherEpsilon() throws {
        let golden = try #require(Self.probed.first { $0.name == "plain" })
        var deviating = golden
        deviating.recipe["norm_epsilon"] = nil
        deviating.recipe["norm_epsilon_bits"] = "3a83126f"
        var wrong = try OperationCatalog.evaluate(deviating)
        wrong.recipe = golden.recipe
        let (a, b) = (try StepTrace(golden, name: "a"), try StepTrace(wrong, name: "b"))
        let localiser = Localiser(StepPlan(a.configuration))
        let divergence = try #require(try localiser.compare(a, b).divergence)
        #expect(divergence.tensor == "layers.0.attention.norm.output")
        #expect(divergence.firstRight == divergence.recomputed && divergence.secondRight == 0)
        #expect(divergence.later > 10)
        let faults = try localiser.faults(b).faults.map(\.tensor)
        #expect(faults.contains("layers.0.attention.norm.output") && faults.contains("norm.output"))
        #expect(
            !faults.contains { $0.contains("rotated") || $0.hasSuffix("query.output") || $0 == "logits" }, "\(faults)")
    }

    @Test("tensors that a trace lacks are named as where the cause may lie")
    func gaps() throws {
        let golden = try #require(Self.probed.first { $0.name == "plain" })
        let a = try StepTrace(golden, name: "a")
        let name = "layers.0.attention.context"
        var thin = try flipping("layers.0.attention.residual", 3, in: golden)
        thin.intermediates = TensorGroup(thin.intermediates.tensors.filter { $0.name != name })
        let divergence = try #require(
            try Localiser(StepPlan(a.configuration)).compare(a, try StepTrace(thin, name: "b")).divergence)
        #expect(divergence.tensor == "layers.0.attention.residual")
        #expect(divergence.unrecorded == [name])
    }

    @Test("traces of different steps are refused")
    func differentSteps() throws {
        let golden = try #require(Self.probed.first { $0.name == "plain" })
        var other = golden
        other.recipe["first_step"] = 2
        let (a, b) = (try StepTrace(golden, name: "a"), try StepTrace(other, name: "b"))
        #expect(throws: JudgingError.self) { try Localiser(StepPlan(a.configuration)).compare(a, b) }
    }

    @Test("a tensor of another shape or type is refused by name, with one trace and with two")
    func shapes() throws {
        let golden = try #require(Self.probed.first { $0.name == "plain" })
        let right = try StepTrace(golden, name: "right")
        let localiser = Localiser(StepPlan(right.configuration))
        for named in golden.intermediates.tensors where named.tensor.count > 1 {
            let (type, shape, bytes) = (named.tensor.type, named.tensor.shape, named.tensor.bytes)
            let short = [shape[0] - 1] + shape.dropFirst()
            var damaged = [
                try Tensor(type: type, shape: [named.tensor.count, 1], bytes: bytes),
                try Tensor(
                    type: type, shape: short, bytes: Array(bytes.prefix(short.reduce(type.byteWidth, *)))),
                try Tensor(type: type, shape: [0], bytes: []),
            ]
            if type == .bf16 { damaged.append(try Tensor(type: .fp16, shape: shape, bytes: bytes)) }
            for tensor in damaged where tensor.shape != shape || tensor.type != type {
                var changed = golden
                changed.intermediates = TensorGroup(
                    golden.intermediates.tensors.map { $0.name == named.name ? NamedTensor($0.name, tensor) : $0 })
                let trace = try StepTrace(changed, name: "wrong.h5")
                for attempt in [{ _ = try localiser.faults(trace) }, { _ = try localiser.compare(right, trace) }] {
                    let error = try #require(throws: JudgingError.self) { try attempt() }
                    #expect("\(error)".contains(named.name) && "\(error)".contains("wrong.h5"), "\(error)")
                }
            }
        }
    }

    @Test("a fingerprint that is not that of the trace's tensors is told")
    func alteredFingerprint() throws {
        let golden = try #require(Self.probed.first { $0.name == "plain" })
        let right = try StepTrace(golden, name: "right")
        let localiser = Localiser(StepPlan(right.configuration))
        #expect(try localiser.faults(right).hasOtherFingerprint == false)
        let altered = try StepTrace(try flipping("fingerprint", 3, in: golden), name: "altered")
        #expect(try localiser.faults(altered).hasOtherFingerprint)
        #expect(try localiser.compare(right, altered).otherFingerprints == ["altered"])
    }
}
