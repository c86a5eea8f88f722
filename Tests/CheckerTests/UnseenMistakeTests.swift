import Cases
import Checker
import ExactMath
import Goldens
import JSON
import ModelSpec
import Reference
import Testing

/// What the shipped cases make of one deviation of an operation.
private struct Sight {
    /// Cases whose outputs have other bits.
    var differing: [String] = []
    /// Cases that the operation's standard policy refuses.
    var refused: [String] = []

    init(_ op: String, _ name: String, where isIncluded: (GoldenCase) -> Bool = { _ in true }) throws {
        let deviation = try #require(DeviationCatalog.deviations(for: op).first { $0.name == name }, "\(op): \(name)")
        for one in ShippedCases.byOperation[op] ?? [] where isIncluded(one) {
            guard let outputs = try DeviationCatalog.outputs(of: one, under: [deviation]) else { continue }
            var answer = one
            answer.outputs = outputs
            if !Judge.judge(answer, against: one, suite: "", file: "", options: JudgingOptions(policy: .exact)).conforms
            {
                differing.append(one.name)
            }
            if !Judge.judge(answer, against: one, suite: "", file: "", options: JudgingOptions()).conforms {
                refused.append(one.name)
            }
        }
    }
}

private func shipped(_ op: String, _ name: String) throws -> GoldenCase {
    try #require((ShippedCases.byOperation[op] ?? []).first { $0.name == name }, "\(op) has the case \(name)")
}

@Suite("Mistakes that show in few places")
struct UnseenMistakeTests {
    // MARK: Double rounding

    @Test("a fused multiply-add in fp64: the sum of 2^-30 and 4097 * 4097")
    func doubleRounding() throws {
        let one = try shipped("sum.chain", "chain-double-rounding-of-two")
        #expect(try one.outputs["s"]?.floats().map(\.bitPattern).first == 0x4B80_1001)
        let deviation = try #require(
            DeviationCatalog.deviations(for: "sum.chain").first { $0.name == "sum.accumulate.fused-in-fp64" })
        let outputs = try #require(try DeviationCatalog.outputs(of: one, under: [deviation]))
        #expect(try outputs["s"]?.floats().map(\.bitPattern).first == 0x4B80_1000)
    }

    /// Operations whose outputs are judged by bits, and what shows there by way of a wider format.
    static let wide: [(String, String)] = [
        ("layer.adamw", "adamw.m.fused-in-fp64"), ("layer.adamw", "adamw.v.fused-in-fp64"),
        ("layer.adamw", "adamw.decay.fused-in-fp64"), ("layer.adamw", "adamw.update.fused-in-fp64"),
        ("layer.adamw", "adamw.norm-sum.accumulate.fused-in-fp64"), ("layer.rope", "rope.arithmetic.fused-in-fp64"),
        ("layer.rmsnorm", "rmsnorm.along.accumulate.fused-in-fp64"),
        ("layer.rmsnorm", "rmsnorm.dgain.accumulate.fused-in-fp64"),
        ("gumbel.softmax", "gumbel.inner.accumulate.fused-in-fp64"), ("math.log", "math.rounding.through-fp64"),
        ("math.log1p", "math.rounding.through-fp64"), ("bf16.fma", "bf16.via-fp64.twice"),
        ("bf16.from", "bf16.via-fp64.twice"), ("bf16.add", "bf16.via-fp64.twice"),
    ]

    @Test("double rounding is refused where bits are judged", arguments: wide)
    func refusedDoubleRounding(_ op: String, _ name: String) throws {
        #expect(try !Sight(op, name).refused.isEmpty)
    }

    /// Sums of free order: another order may give what double rounding gives.
    static let free: [(String, String)] = [
        ("sum.lane16", "sum.accumulate.fused-in-fp64"), ("sum.lane16x4096", "sum.accumulate.fused-in-fp64"),
        ("sum.chain", "sum.accumulate.fused-in-fp64"), ("zreg.rows", "softmax.weighted.accumulate.fused-in-fp64"),
        ("attention.backward", "softmax.weighted.accumulate.fused-in-fp64"),
        ("layer.sparseCrossEntropy", "loss.slot-sum.accumulate.fused-in-fp64"),
    ]

    @Test("double rounding shows in the bits of sums", arguments: free)
    func visibleDoubleRounding(_ op: String, _ name: String) throws {
        let sight = try Sight(op, name) { $0.name.contains("double-rounding") }
        #expect(!sight.differing.isEmpty)
    }

    // MARK: Sentinels

    @Test("one key with the logit -65536: max = z = -65536, sum = 1, o = v")
    func oneFarKey() throws {
        let one = try shipped("attention.forward", "forward-one-far-key")
        #expect(try one.outputs["max"]?.floats() == [-65536])
        #expect(try one.outputs["z"]?.floats() == [-65536])
        #expect(try one.outputs["sum"]?.floats() == [1])
        #expect(try one.outputs["o"]?.bf16Bits() == one.inputs["v"]?.bf16Bits())
    }

    static let sentinels = ["minus-10000", "minus-50000", "minus-65504", "minus-1e9", "lowest"]

    @Test("a finite number in place of -infinity is refused", arguments: sentinels)
    func sentinel(_ name: String) throws {
        for op in [
            "attention.forward", "attention.backward", "zreg.rows", "layer.crossEntropy", "layer.sparseCrossEntropy",
        ] {
            // A gradient of rows of -infinity alone is NaN either way.
            if op == "attention.backward" && name == "lowest" { continue }
            #expect(try !Sight(op, "softmax.shift.from-\(name)").refused.isEmpty, "\(op)")
        }
        for kind in ["added", "replaced-by"] {
            for op in ["attention.forward", "attention.backward"] {
                // What sees nothing has shown these always; here rows that see something do.
                let sight = try Sight(op, "attention.mask.\(kind)-\(name)") {
                    $0.name.contains("far-keys") || $0.name.contains("infinite-keys")
                }
                if op == "attention.backward" && name == "lowest" { continue }
                #expect(!sight.refused.isEmpty, "\(op) \(kind)")
            }
        }
        for op in ["gumbel.topk", "gumbel.replacement"] {
            if op == "gumbel.topk" { #expect(try !Sight(op, "gumbel.best.above-\(name)").refused.isEmpty, "\(op)") }
            if name != "lowest" && op == "gumbel.topk" {
                #expect(try !Sight(op, "gumbel.maximum.from-\(name)").refused.isEmpty, "\(op)")
            }
        }
    }

    // MARK: Squinch

    @Test(
        "a scale byte from a logarithm in fp32 is refused wherever blocks are encoded",
        arguments: ["squinch.encode", "squinch.feedback", "allreduce.squinch"],
        ["squinch.scale.fp32-log", "squinch.scale.fp32-log2"])
    func logarithm(_ op: String, _ name: String) throws {
        for variant in SquinchVariant.allCases {
            let sight = try Sight(op, name) {
                $0.recipe["variant"] == .string(variant.rawValue) && $0.name.contains("scale-thresholds")
            }
            #expect(!sight.refused.isEmpty, "\(variant)")
        }
    }

    @Test("a training step encodes blocks just below thresholds of the scale byte")
    func trainingThresholds() throws {
        var one = try shipped("training.step", "scale-thresholds")
        one.recipe["probe"] = true
        let answered = try OperationCatalog.evaluate(one)
        let below = Set(SquinchTables.thresholds.map(\.nextDown.bitPattern))
        var (count, blocks) = (0, 0)
        for rank in 0..<2 {
            let name = "layers.0.mlp.up"
            let gradient = try #require(answered.intermediates["rank.\(rank).gradient.\(name)"]).floats()
            let residual = try #require(one.inputs["residual.\(name)"]).floats()
            for start in stride(from: 0, to: gradient.count, by: 8) {
                let y = (start..<min(start + 8, gradient.count)).map { index in
                    (gradient[index] + residual[rank * gradient.count + index]).magnitude
                }
                blocks += 1
                if let peak = y.max(), below.contains(peak.bitPattern) { count += 1 }
            }
        }
        #expect(blocks >= 40 && count > blocks / 2, "\(count) of \(blocks)")
    }

    // MARK: The z-regulariser

    private static func isStandard(_ one: GoldenCase) -> Bool { one.recipe["zreg_c_bits"] == "38800000" }

    @Test(
        "the z-regulariser left out, negated or halved is refused at c = 2^-14, in every form",
        arguments: ["missing", "negated", "factor-2-missing", "doubled"])
    func term(_ name: String) throws {
        for (op, forms) in [
            ("attention.backward", ["folded", "unfolded", "row-dot"]), ("zreg.rows", ["folded", "unfolded"]),
            ("layer.crossEntropy", []), ("layer.sparseCrossEntropy", []),
        ] as [(String, [String])] {
            for form in forms.isEmpty ? [nil] : forms.map(Optional.init) {
                let sight = try Sight(op, "zreg.term.\(name)") {
                    Self.isStandard($0) && form.map(JSONValue.string) == $0.recipe["form"]
                }
                #expect(!sight.refused.isEmpty, "\(op) \(form ?? "")")
            }
        }
    }

    @Test(
        "a training step at the default c shows the z-regulariser left out or negated",
        arguments: ["training.zreg.missing", "training.zreg.negated", "training.output-zreg.missing"])
    func trainingTerm(_ name: String) throws {
        let sight = try Sight("training.step", name) {
            $0.recipe[name.contains("output") ? "output_zreg_c_bits" : "zreg_c_bits"] == "38800000"
        }
        #expect(!sight.refused.isEmpty)
    }

    // MARK: Tiles

    static let tiled = [
        "dot.gemm", "layer.linear", "attention.forward", "attention.backward", "zreg.rows", "layer.rmsnorm",
        "layer.crossEntropy", "layer.sparseCrossEntropy",
    ]

    @Test("rows and columns that a kernel leaves unwritten behind some place are refused", arguments: tiled)
    func tiles(_ op: String) throws {
        for axis in ["rows", "columns"] {
            for size in [16, 32, 64, 128, 256] {
                for fault in ["from-\(size)", "behind-tiles-of-\(size)", "last-full-tile-of-\(size)"] {
                    #expect(try !Sight(op, "tile.\(axis).\(fault)-unwritten").refused.isEmpty, "\(axis) \(fault)")
                }
            }
        }
    }

    @Test(
        "terms that a kernel leaves out of its sums behind some place are refused",
        arguments: [
            ("dot.gemm", "dot.depth"), ("sum.lane16", "sum.depth"), ("sum.chain", "sum.depth"),
            ("layer.linear", "linear.depth-of-y"), ("layer.linear", "linear.depth-of-dx"),
            ("layer.linear", "linear.depth-of-dw"), ("attention.forward", "attention.keys"),
            ("attention.backward", "attention.keys"), ("attention.backward", "attention.queries"),
        ])
    func depth(_ op: String, _ axis: String) throws {
        for size in [16, 32, 64, 128, 256] {
            for fault in ["from-\(size)", "behind-tiles-of-\(size)", "last-full-tile-of-\(size)"] {
                #expect(try !Sight(op, "\(axis).\(fault)").refused.isEmpty, "\(fault)")
            }
        }
    }

    @Test("products have every size at, below and above those of tiles, in each dimension")
    func sizes() throws {
        var sizes: [Set<Int>] = [[], [], []]
        for one in ShippedCases.byOperation["dot.gemm"] ?? [] {
            let (a, b) = (try #require(one.inputs["a"]).shape, try #require(one.inputs["b"]).shape)
            for (place, size) in [a[0], b[1], a[1]].enumerated() { sizes[place].insert(size) }
        }
        for tile in [16, 32, 64, 128, 256] {
            for size in tile - 1...tile + 1 { #expect(sizes.allSatisfy { $0.contains(size) }, "\(size)") }
        }
    }
}
