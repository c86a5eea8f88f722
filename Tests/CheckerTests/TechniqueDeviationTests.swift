import Cases
import Goldens
import Testing

import Checker

@Suite("Deviations of the techniques")
struct TechniqueDeviationTests {
    struct Planted: Sendable, CustomTestStringConvertible {
        let op: String
        let names: [String]
        init(_ op: String, _ names: String...) { (self.op, self.names) = (op, names) }
        var testDescription: String { "\(op): \(names.joined(separator: " and "))" }
    }

    static let planted = [
        Planted("squinch.encode", "squinch.scale.fp32-log"), Planted("squinch.encode", "squinch.scale.truncated"),
        Planted("squinch.encode", "squinch.code.fp32"), Planted("squinch.encode", "squinch.random.root-probability"),
        Planted("squinch.encode", "squinch.sign.of-negative-zero-dropped"),
        Planted("squinch.decode", "squinch.table.fp32-quotient"),
        Planted("squinch.decode", "squinch.decode.product-rounded"),
        Planted("squinch.feedback", "squinch.residual.regrouped"),
        Planted("squinch.encode", "squinch.nibble.high-first", "squinch.scale.bias-128"),
        Planted("squinch.decode", "squinch.decode.lower-edge", "squinch.sign-order.reversed"),
        Planted("allreduce.squinch", "allreduce.single.encoded-once"),
        Planted("allreduce.fp32", "allreduce.sum.order.descending"),
        Planted("allreduce.squinch", "allreduce.random-reduced.ignored"),
        Planted("allreduce.bf16", "allreduce.mean.missing", "allreduce.result.truncated"),
        Planted("allreduce.fp32", "allreduce.sum.order.pairwise", "allreduce.mean.divided"),
        Planted("clamp.dynamic", "clamp.fan-in.columns"), Planted("clamp.dynamic", "clamp.product.root-first"),
        Planted("clamp.static", "clamp.step.divided"), Planted("clamp.static", "clamp.codes.truncated"),
        Planted("clamp.dynamic", "clamp.squares.order.ascending", "clamp.mask.strict"),
        Planted("clamp.static", "clamp.scale.by-divided-step", "clamp.step.divided"),
        Planted("gumbel.topk", "gumbel.kappa.last-sampled"), Planted("gumbel.topk", "gumbel.noise.24-bits"),
        Planted("gumbel.topk", "gumbel.log-softmax.regrouped"),
        Planted("gumbel.replacement", "gumbel.slot-draw.same"),
        Planted("gumbel.softmax", "gumbel.tau.before-noise", "gumbel.gradient.without-tau"),
        Planted("gumbel.topk", "gumbel.weight.uncorrected", "gumbel.slots.ascending-ids"),
        Planted("visibility.dense", "visibility.window.one-more"),
        Planted("visibility.tree", "visibility.tree-limit.of-parent"),
        Planted("visibility.tree", "visibility.tree-start.next-token", "visibility.position.absolute"),
        Planted("visibility.build", "visibility.build-prefix.one-more", "visibility.build-window.across-documents"),
    ]

    /// One deviation is named alone. Of two each output names those that act on it, and together they are all that was planted.
    @Test("planted deviations are named", arguments: planted)
    func named(_ planted: Planted) throws {
        let deviations = try planted.names.map { name in
            try #require(DeviationCatalog.deviations(for: planted.op).first { $0.name == name }, "\(name)")
        }
        let cases = try #require(ShippedCases.byOperation[planted.op])
        let observations = try cases.map { golden in
            Observation(
                goldenCase: golden,
                outputs: try DeviationCatalog.outputs(of: golden, under: deviations) ?? golden.outputs)
        }
        let diagnosis = try #require(try Diagnoser().diagnose(observations))
        if deviations.count == 1 {
            #expect(diagnosis.commonExplanations == [deviations])
            return
        }
        var found: Set<String> = []
        for output in diagnosis.outputs {
            let named = output.exact.map { Set($0.deviations.map(\.name)) }.filter { $0.isSubset(of: planted.names) }
            #expect(!named.isEmpty, "\(output.name)")
            for names in named { found.formUnion(names) }
        }
        #expect(found == Set(planted.names))
    }
}
