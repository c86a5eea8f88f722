import Cases
import Checker
import Goldens
import JSON
import Testing

/// Traces of arbitrary operations: three products with something unknown between them.
@Suite("Traces of any sequence of operations")
struct TraceTests {
    /// A chain of products, each of the output before it; `changing` makes another answer of one of them.
    private static func chain(changing: (Int, GoldenCase) throws -> GoldenCase = { $1 }) throws -> [GoldenCase] {
        var entries: [GoldenCase] = []
        func values(_ count: Int, _ first: Int, _ period: Int, _ sign: Int) -> [UInt16] {
            (0..<count).map { index in UInt16(first + index * 331 % period + (index % sign) / (sign - 1) * 0x8000) }
        }
        var x = Tensor(bf16: values(4 * 33, 0x3A00, 0x0C01, 2), shape: [4, 33])
        let w = Tensor(bf16: values(33 * 33, 0x3A00, 0x0B03, 3), shape: [33, 33])
        for layer in 0..<3 {
            entries.append(
                GoldenCase(
                    name: "act.\(layer)", op: "torch.Identity", inputs: [NamedTensor("0", x)],
                    outputs: [NamedTensor("0", x)]))
            var one = GoldenCase(
                name: "layers.\(layer)", op: "dot.gemm", recipe: ["dot": "chain-ieee", "output": "bf16"],
                inputs: [NamedTensor("a", x), NamedTensor("b", w)])
            one.outputs = try changing(layer, OperationCatalog.evaluate(one)).outputs
            entries.append(one)
            x = try #require(one.outputs["d"])
        }
        return entries
    }

    private func trace(_ name: String, _ entries: [GoldenCase]) -> Trace { Trace(name: name, entries: entries) }

    /// Leaves the last term out.
    private static func lastMissing(_ one: GoldenCase) throws -> GoldenCase {
        var changed = one
        changed.outputs = []
        let deviation = try #require(
            DeviationCatalog.deviations(for: "dot.gemm").first { $0.name == "dot.terms.last-missing" })
        changed.outputs = try #require(try DeviationCatalog.outputs(of: changed, under: [deviation]))
        return changed
    }

    /// Pairs instead of a chain: a permitted order.
    private static func pairwise(_ one: GoldenCase) throws -> GoldenCase {
        var changed = one
        let deviation = try #require(
            DeviationCatalog.deviations(for: "dot.gemm").first { $0.name == "dot.order.pairwise" })
        changed.outputs = try #require(try DeviationCatalog.outputs(of: one, under: [deviation]))
        return changed
    }

    @Test("equal traces conform, alone and together")
    func equal() throws {
        let a = trace("a", try Self.chain())
        let together = try TraceWalk().compare(a, a)
        #expect(together.judgement == .conforms && together.compared == 6 && together.judged == 6)
        let alone = try TraceWalk().faults(a)
        // The other three are of an operation that the reference does not know, and nothing is beside them.
        #expect(alone.judgement == .notJudged && alone.judged == 3 && alone.foreign == 3 && alone.compared == 0)
    }

    @Test("a mistake in one layer is found there, and later layers are right by their own inputs", arguments: 0..<3)
    func mistake(layer: Int) throws {
        let a = trace("a", try Self.chain())
        let b = trace("b", try Self.chain { try $0 == layer ? Self.lastMissing($1) : $1 })
        let findings = try TraceWalk().compare(a, b)
        let difference = try #require(findings.difference)
        #expect(difference.entry == "layers.\(layer)" && difference.what == "outputs/d" && difference.inputs.isEmpty)
        #expect(difference.place == 2 * layer + 2 && findings.later == 2 * (2 - layer))
        #expect(findings.faults.map(\.entry) == ["layers.\(layer)"] && findings.faults[0].trace == "b")
        #expect(findings.judgement == .doesNotConform)
        #expect(try TraceWalk().faults(b).faults.map(\.entry) == ["layers.\(layer)"])
    }

    @Test("another order of summation differs and is no mistake; a mistake behind it is still found")
    func legalOrder() throws {
        // fp32 results, so that another order shows.
        func wide(_ changing: (Int, GoldenCase) throws -> GoldenCase) throws -> [GoldenCase] {
            try Self.chain().map { one in
                guard one.op == "dot.gemm" else { return one }
                var wide = one
                wide.recipe["output"] = nil
                wide.outputs = []
                wide = try OperationCatalog.evaluate(wide)
                return try changing(Int(String(one.name.last ?? "0")) ?? 0, wide)
            }
        }
        let a = trace("a", try wide { $1 })
        let b = trace(
            "b",
            try wide { layer, one in
                var changed = one
                changed.outputs = []
                return try layer == 2 ? Self.lastMissing(changed) : Self.pairwise(one)
            })
        let findings = try TraceWalk().compare(a, b)
        #expect(findings.difference?.entry == "layers.0")
        #expect(findings.faults.map(\.entry) == ["layers.2"])
    }

    @Test("what one trace lacks, has beside, or has in another order is named, and keeps the walk from success")
    func unmatched() throws {
        let entries = try Self.chain()
        let short = trace("short", entries.filter { $0.name != "layers.1" })
        var findings = try TraceWalk().compare(trace("a", entries), short)
        #expect(findings.onlyInFirst == ["layers.1"] && findings.onlyInSecond == [] && findings.judgement == .notJudged)
        findings = try TraceWalk().compare(short, trace("a", entries))
        #expect(findings.onlyInSecond == ["layers.1"] && findings.judged == 5 && findings.judgement == .notJudged)
        findings = try TraceWalk().compare(trace("a", entries), trace("b", entries.reversed()))
        #expect(findings.outOfOrder == "layers.0" && findings.judgement == .doesNotConform)
        var fewer = entries
        fewer[0].inputs = []
        findings = try TraceWalk().compare(trace("a", entries), trace("b", fewer))
        #expect(findings.unmatched == ["act.0: inputs/0"] && findings.judgement == .notJudged)
    }

    @Test("another op, recipe, shape or type is a difference by name; inputs that differ are said")
    func kinds() throws {
        let entries = try Self.chain()
        func first(_ change: (inout GoldenCase) -> Void) throws -> TraceWalk.Difference {
            var changed = entries
            change(&changed[1])
            return try #require(try TraceWalk().compare(trace("a", entries), trace("b", changed)).difference)
        }
        #expect(try first { $0.op = "torch.Linear" }.what == "op")
        let recipe = try first { $0.recipe["dot"] = "paired-ftz" }
        #expect(recipe.what == "recipe" && recipe.second == "dot \"paired-ftz\"")
        let shape = try first { $0.outputs = [NamedTensor("d", Tensor([Float](repeating: 0, count: 3), shape: [3]))] }
        #expect(shape.what == "outputs/d" && shape.first == "bf16 [4, 33]" && shape.second == "fp32 [3]")
        let before = try first { one in
            let (a, d) = (one.inputs["b"]!, one.outputs["d"]!)
            one.inputs = [NamedTensor("a", one.inputs["a"]!), NamedTensor("b", a.halved)]
            one.outputs = [NamedTensor("d", d.halved)]
        }
        #expect(before.inputs == ["b"] && before.what == "outputs/d")
        let rows = try first { one in
            one.inputs = [
                NamedTensor("a", Tensor(bf16: [0, 0], shape: [1, 2])), NamedTensor("b", one.inputs["b"]!),
            ]
            one.outputs = [NamedTensor("d", Tensor(bf16: [0], shape: [1, 1]))]
        }
        #expect(rows.what == "outputs/d" && rows.second == "bf16 [1, 1]" && rows.inputs == ["a"])
    }

    @Test("an entry that names an operation and is no case of it is not judged, with the reason")
    func notACase() throws {
        var entries = try Self.chain()
        entries[1].recipe["dot"] = "fast"
        entries[3].inputs = [NamedTensor("a", try #require(entries[3].inputs["a"]))]
        let findings = try TraceWalk().faults(trace("a", entries))
        #expect(findings.unjudged.map(\.entry) == ["layers.0", "layers.1"] && findings.judged == 1)
        #expect(findings.unjudged[0].why.contains("'dot'") && findings.unjudged[1].why.contains("inputs/b"))
        #expect(findings.judgement == .notJudged)
    }

    @Test("a step beside another program's record of its tensors, without an op or with one: the tensors are compared")
    func stepBesideOthers() throws {
        let golden = try #require(ShippedCases.byOperation["training.step"]?.first { !$0.intermediates.isEmpty })
        let step = Trace(try StepTrace(golden, name: "step"))
        for op in ["", "torch.x"] {
            let others = try step.entryNames.map { name in
                var entry = try step.entry(named: name)
                (entry.op, entry.inputs) = (op, [])
                return entry
            }
            #expect(try TraceWalk().compare(step, trace("own", others)).difference == nil)
        }
    }

    @Test("constants that decide no result, and defaults that are stated, are no difference")
    func recipes() throws {
        let entries = try Self.chain()
        var stated = entries
        for index in stated.indices where stated[index].op == "dot.gemm" {
            (stated[index].recipe["kappa"], stated[index].recipe["n"]) = (4, 33)
        }
        #expect(try TraceWalk().compare(trace("a", entries), trace("b", stated)).judgement == .conforms)
        var (wide, plain) = (entries, entries)
        (wide[1].recipe["output"], plain[1].recipe["output"]) = ("fp32", nil)
        #expect(try TraceWalk().compare(trace("a", wide), trace("b", plain)).difference == nil)
    }

    @Test("NaNs are one class")
    func notANumber() throws {
        func entry(_ bits: UInt32) -> Trace {
            trace(
                "a",
                [GoldenCase(name: "x", op: "other", outputs: [NamedTensor("0", Tensor(fp32: [bits, 0], shape: [2]))])])
        }
        #expect(try TraceWalk().compare(entry(0x7FC0_0000), entry(0xFFC0_0001)).difference == nil)
        #expect(try TraceWalk().compare(entry(0x7FC0_0000), entry(0)).difference?.index == [0])
    }

    @Test("a NaN against a number is a difference in either trace, and NaN inputs of a judged entry are judged")
    func notANumberInProducts() throws {
        let entries = try Self.chain()
        var wrong = entries
        wrong[1].outputs = [NamedTensor("d", try #require(entries[1].outputs["d"]).replacing(0, by: 0x7FC0))]
        for (a, b) in [(entries, wrong), (wrong, entries)] {
            let findings = try TraceWalk().compare(trace("a", a), trace("b", b))
            #expect(findings.difference?.entry == "layers.0" && findings.difference?.index == [0, 0])
            #expect(findings.faults.map(\.entry) == ["layers.0"])
        }
        var given = entries[1]
        given.inputs = [
            NamedTensor("a", try #require(given.inputs["a"]).replacing(0, by: 0x7FC0)),
            NamedTensor("b", try #require(given.inputs["b"])),
        ]
        #expect(try TraceWalk().faults(trace("a", [given])).judgement == .doesNotConform)
        given.outputs = []
        let right = try OperationCatalog.evaluate(given)
        let alone = try TraceWalk().faults(trace("a", [right]))
        #expect(alone.judgement == .conforms && alone.judged == 1)
    }

    @Test("empty traces, and entries without a tensor, are not success")
    func nothing() throws {
        let entries = try Self.chain()
        let empty = try TraceWalk().compare(trace("a", []), trace("b", []))
        #expect(empty.judgement == .notJudged && empty.compared == 0)
        #expect(try TraceWalk().faults(trace("a", [])).judgement == .notJudged)
        let half = try TraceWalk().compare(trace("a", entries), trace("b", []))
        #expect(half.judgement == .notJudged && half.onlyInFirst.count == 6 && half.compared == 0)
        let bare = GoldenCase(name: "bare", op: "other")
        let both = try TraceWalk().compare(trace("a", entries + [bare]), trace("b", entries + [bare]))
        #expect(both.judgement == .notJudged && both.bare == ["bare"] && both.compared == 6)
        var unanswered = entries
        unanswered[1].outputs = []
        let findings = try TraceWalk().faults(trace("a", unanswered))
        #expect(findings.unjudged.map(\.entry) == ["layers.0"] && findings.judgement == .notJudged)
    }

    @Test("an entry before the difference that only one trace has is named as a place of the cause")
    func unrecorded() throws {
        let entries = try Self.chain()
        let wrong = try Self.chain { try $0 == 1 ? Self.lastMissing($1) : $1 }
        let without = wrong.filter { $0.name != "layers.1" }
        var findings = try TraceWalk().compare(trace("a", entries), trace("b", without))
        #expect(findings.difference?.entry == "act.2" && findings.difference?.inputs == ["0"])
        #expect(findings.difference?.unrecorded == ["layers.1"] && findings.onlyInFirst == ["layers.1"])
        findings = try TraceWalk().compare(trace("a", without), trace("b", entries))
        #expect(findings.difference?.unrecorded == ["layers.1"] && findings.onlyInSecond == ["layers.1"])
        // What comes after the difference is no cause.
        findings = try TraceWalk().compare(trace("a", entries), trace("b", wrong.filter { $0.name != "act.2" }))
        #expect(findings.difference?.entry == "layers.1" && findings.difference?.unrecorded == [])
    }

    @Test("draws that are too few to judge are said not to be judged")
    func tooFewDraws() throws {
        var one = try #require(ShippedCases.byOperation["gumbel.topk"]?.first { $0.name == "topk-equal" })
        var other = one
        other.recipe["seed"] = "00000000000000ff"
        one.outputs = try OperationCatalog.evaluate(other).outputs
        let options = JudgingOptions(policy: .distribution)
        let findings = try TraceWalk(options: options).faults(trace("a", [one]))
        #expect(findings.judged == 0 && findings.unjudged.map(\.entry) == [one.name])
        #expect(findings.judgement == .notJudged)
    }

    @Test("a training step is a trace of its tensors, each with the inputs that the plan names")
    func step() throws {
        let golden = try #require(ShippedCases.byOperation["training.step"]?.first { !$0.intermediates.isEmpty })
        let step = Trace(try StepTrace(golden, name: "step"))
        #expect(step.entryNames.count > 50)
        #expect(try TraceWalk().compare(step, step).difference == nil)
        let norm = try step.entry(named: "layers.0.attention.query.output")
        #expect(norm.inputs.names == ["layers.0.attention.norm.output"] && norm.op == "step: Linear")
        // Another program's record of one of its tensors.
        let value = try #require(norm.outputs["value"])
        let own = trace(
            "own", [GoldenCase(name: norm.name, op: norm.op, outputs: [NamedTensor("value", value.halved)])])
        let findings = try TraceWalk().compare(step, own)
        #expect(findings.difference?.entry == norm.name && findings.onlyInFirst.count == step.entryNames.count - 1)
    }
}

extension Tensor {
    /// bf16 with other bits in one element.
    fileprivate func replacing(_ index: Int, by bits: UInt16) throws -> Tensor {
        var changed = bytes
        (changed[2 * index], changed[2 * index + 1]) = (UInt8(bits & 0xFF), UInt8(bits >> 8))
        return try Tensor(type: type, shape: shape, bytes: changed)
    }

    /// Another value in the first element: bf16 with the lowest exponent bit turned over.
    fileprivate var halved: Tensor {
        var changed = bytes
        changed[0] ^= 0x80
        return (try? Tensor(type: type, shape: shape, bytes: changed)) ?? self
    }
}
