import BFloat16
import Cases
import Engine
import EngineOperations
import ExactMath
import Goldens
import JSON
import Kernels
import ModelSpec
import Reference
import Testing

/// What single words of the clauses decide and no shipped golden shows: the reference and the engine answer alike, and as the text says.
@Suite("Edges of the clauses, reference and engine")
struct ClauseEdgeTests {
    private static let engine = EngineCatalog(EngineContext(kernels: InstructionSets.available[0], threads: 2))

    private func one(_ op: String, _ recipe: [String: JSONValue], _ inputs: [(String, Tensor)]) -> GoldenCase {
        GoldenCase(name: "edge", op: op, recipe: recipe, inputs: TensorGroup(inputs.map { NamedTensor($0.0, $0.1) }))
    }

    /// An fp32 parameter by its bits alone.
    private func parameter(_ key: String, _ value: Float) -> [String: JSONValue] {
        let digits = String(value.bitPattern, radix: 16)
        return [key + "_bits": .string(String(repeating: "0", count: 8 - digits.count) + digits)]
    }

    private func fp32(_ values: [Float]) -> Tensor { Tensor(values, shape: [values.count]) }

    /// The outputs, the same bits from both.
    private func answer(_ goldenCase: GoldenCase) throws -> TensorGroup {
        let (reference, engine) = (
            try OperationCatalog.evaluate(goldenCase), try Self.engine.evaluate(goldenCase)
        )
        #expect(reference.outputs.names == engine.outputs.names)
        for named in reference.outputs.tensors { #expect(engine.outputs[named.name] == named.tensor, "\(named.name)") }
        return reference.outputs
    }

    private func bits(_ tensor: Tensor?) -> [UInt64] { tensor.map { t in (0..<t.count).map { t.bits(at: $0) } } ?? [] }

    private func expectRefused(_ goldenCase: GoldenCase, _ part: String, _ comment: Comment? = nil) {
        let errors = [
            #expect(throws: OperationError.self, comment) { try OperationCatalog.evaluate(goldenCase) },
            #expect(throws: OperationError.self, comment) { try Self.engine.evaluate(goldenCase) },
        ]
        for error in errors { #expect(error?.description.contains(part) == true, "\(String(describing: error))") }
    }

    // MARK: T4

    private func adamW(_ g: [Float], clip: Float = 1, m: Float = 0.5) -> GoldenCase {
        var recipe: [String: JSONValue] = ["step": 3]
        for (key, value) in [
            ("beta1", 0.9), ("beta2", 0.99), ("epsilon", 0x1p-27), ("weight_decay", 0.0625), ("learning_rate", 0.001),
            ("clip_norm", clip),
        ] as [(String, Float)] { recipe.merge(parameter(key, value)) { $1 } }
        let same = { (x: Float) in fp32([Float](repeating: x, count: g.count)) }
        return one("layer.adamw", recipe, [("w", same(1)), ("m", same(m)), ("v", same(0.25)), ("g", fp32(g))])
    }

    @Test("T4: layer.adamw refuses a norm that is not finite, as a step does; a NaN elsewhere follows fp32 arithmetic")
    func gradientNorm() throws {
        for g in [[.infinity], [-.infinity, 1], [.nan], [1, 0x1p64], [0x1.8p63, 0x1.8p63]] as [[Float]] {
            for clip in [0, 1] as [Float] { expectRefused(adamW(g, clip: clip), "the gradient's norm", "\(g)") }
        }
        // The largest squares whose sum is finite.
        let large = try answer(adamW([0x1p63, 0x1p63], clip: 0))
        #expect(bits(large["norm"]).allSatisfy { Float(bitPattern: UInt32($0)).isFinite })
        let moments = try answer(adamW([1], m: .nan))
        #expect(bits(moments["m"]) == [0x7FC0_0000] && bits(moments["w"]) == [0x7FC0_0000])
        #expect(bits(moments["v"]) != [0x7FC0_0000])
    }

    // MARK: C

    @Test(
        "C2, C3: of a NaN the code is 0 and the value NaN; a limit of 0 gives +0, with int8 and without",
        arguments: [true, false])
    func clamps(int8: Bool) throws {
        let y: [Float] = [.nan, 0, -0.0, 3, -3, 0x1p-149, .infinity, -.infinity]
        let dy: [Float] = [2, 2, 2, 2, -2, 2, 2, -2]
        let nan: UInt64 = 0x7FC0_0000
        for activation in ClampActivation.allCases {
            for gradient in ClampGradient.allCases {
                for (op, key, value) in [
                    ("clamp.static", "limit", 0), ("clamp.static", "limit", -0.0), ("clamp.dynamic", "kappa", 0),
                    ("clamp.dynamic", "kappa", -0.0), ("clamp.static", "limit", 2), ("clamp.dynamic", "kappa", 2),
                ] as [(String, String, Float)] {
                    let recipe = parameter(key, value).merging([
                        "activation": .string(activation.rawValue), "gradient": .string(gradient.rawValue),
                        "int8": .bool(int8),
                    ]) { $1 }
                    // One weight of 1: the limit is kappa, or its square.
                    let outputs = try answer(
                        one(
                            op, recipe,
                            [
                                ("w", Tensor(bf16: [UInt16](repeating: 0x3F80, count: y.count), shape: [1, y.count])),
                                ("y", Tensor(y, shape: [1, y.count])), ("dy", Tensor(dy, shape: [1, y.count])),
                            ]))
                    #expect((outputs["codes"] != nil) == int8)
                    for name in ["clamped", "dequantised", "dx"] { #expect(bits(outputs[name]).first == nan) }
                    if int8 { #expect(bits(outputs["codes"]).first == 0) }
                    guard value == 0 else {
                        // A number whose code is 0: its value is +0, whatever its sign.
                        if int8 { #expect(bits(outputs["dequantised"])[2] == 0) }
                        #expect(bits(outputs["dx"])[1] == 0x4000_0000)
                        continue
                    }
                    #expect(bits(outputs["limit"]) == [0])
                    for name in ["clamped", "dequantised", "dx"] + (int8 ? ["codes"] : []) {
                        #expect(bits(outputs[name]).dropFirst().allSatisfy { $0 == 0 }, "\(op) \(activation) \(name)")
                    }
                }
            }
        }
    }

    @Test("C1, C3: no weights, kappa below 0 or NaN, and limits below 0 or not finite are errors without int8 too")
    func refusedClamps() {
        func goldenCase(_ op: String, _ key: String, _ value: Float, int8: Bool, weights: Int = 1) -> GoldenCase {
            let recipe = parameter(key, value).merging([
                "activation": "none", "gradient": "inward", "int8": .bool(int8),
            ]) { $1 }
            return one(
                op, recipe,
                [
                    ("w", Tensor(bf16: [UInt16](repeating: 0x3F80, count: weights), shape: [weights, 1])),
                    ("y", Tensor([1] as [Float], shape: [1, 1])), ("dy", Tensor([1] as [Float], shape: [1, 1])),
                ])
        }
        for int8 in [true, false] {
            for value in [-1, .nan, -0x1p-149] as [Float] {
                expectRefused(goldenCase("clamp.dynamic", "kappa", value, int8: int8), "kappa")
                expectRefused(goldenCase("clamp.static", "limit", value, int8: int8), "limit")
            }
            expectRefused(goldenCase("clamp.dynamic", "kappa", .infinity, int8: int8), "limit")
            expectRefused(goldenCase("clamp.static", "limit", .infinity, int8: int8), "limit")
            expectRefused(
                goldenCase("clamp.dynamic", "kappa", 1, int8: int8, weights: 0), "n is 0; expected n of at least 1")
        }
    }

    @Test("C1, T2: a static limit of -0 is +0 in a step")
    func negativeZeroLimit() throws {
        func fingerprint(_ limit: Float) throws -> [UInt64] {
            bits(try answer(step { ($0.clamp, $0.clampLimit, $0.int8) = (.static, limit, false) })["fingerprint"])
        }
        let (zero, negative) = (try fingerprint(0), try fingerprint(-0.0))
        #expect(zero == negative && zero.count == 32)
        #expect(try fingerprint(1) != zero)
    }

    /// A step of a plain model of one layer.
    private func step(_ change: (inout ModelConfiguration) -> Void) -> GoldenCase {
        var c = ModelConfiguration()
        (c.vocabulary, c.width, c.layers, c.heads, c.keyValueHeads, c.headDimension) = (5, 4, 1, 1, 1, 2)
        (c.feedForwardWidth, c.sequenceLength, c.batch) = (3, 3, 1)
        change(&c)
        let state = TrainingState(initial: c)
        let place: [Int32] = [0, 1, 2]
        var inputs: [(String, Tensor)] = [
            ("tokens", Tensor([1, 4, 2] as [Int32], shape: [1, 1, 3])),
            ("targets", Tensor([4, 2, -1] as [Int32], shape: [1, 1, 3])),
            ("position", Tensor(place, shape: [1, 1, 3])), ("visibility_start", Tensor(place, shape: [1, 1, 3])),
            ("visibility_limit", Tensor([3, 3, 3] as [Int32], shape: [1, 1, 3])),
        ]
        for (index, parameter) in c.parameters.enumerated() {
            let zeros = Tensor(state.firstMoments[index], shape: parameter.shape)
            inputs += [
                ("weight.\(parameter.name)", Tensor(state.weights[index], shape: parameter.shape)),
                ("m.\(parameter.name)", zeros), ("v.\(parameter.name)", zeros),
            ]
        }
        return GoldenCase(
            name: "step", op: "training.step",
            recipe: c.recipe(withBits: true).merging(["first_step": 1, "probe": false]) { $1 },
            inputs: TensorGroup(inputs.map { NamedTensor($0.0, $0.1) }))
    }

    // MARK: K, Z1

    private func draw(_ k: Int) -> [String: JSONValue] {
        ["seed": "0000000000000007", "stream": 2, "step": 0, "k": .integer(Int64(k))]
    }

    @Test("K1, K2: a finite logit whose logp is -infinity enters; a kappa of -infinity gives weights p")
    func overflowingLogits() throws {
        let logits = Tensor([3e38, -3e38, -.infinity, -3e38] as [Float], shape: [1, 4])
        for (k, ids) in [(1, [0]), (2, [0, 1]), (3, [0, 1, 3]), (4, [0, 1, 3, 0xFFFF_FFFF])] as [(Int, [UInt64])] {
            let sample = try answer(one("gumbel.topk", draw(k), [("logits", logits)]))
            #expect(bits(sample["ids"]) == ids)
            #expect(bits(sample["kappa"]) == [0xFF80_0000])
            // p of the first is 1, of the others 0.
            #expect(bits(sample["weights"]) == [0x3F80_0000, 0, 0, 0].prefix(k).map { $0 })
        }
        let slots = try answer(one("gumbel.replacement", draw(3), [("logits", logits)]))
        #expect(bits(slots["ids"]) == [0, 0, 0])
    }

    @Test("K2, Z1: rows of no columns: empty slots, kappa = -infinity; max, sum and Z are +0")
    func noColumns() throws {
        let none = Tensor([] as [Float], shape: [2, 0])
        let sample = try answer(one("gumbel.topk", draw(1), [("logits", none)]))
        #expect(bits(sample["ids"]) == [0xFFFF_FFFF, 0xFFFF_FFFF] && bits(sample["weights"]) == [0, 0])
        #expect(bits(sample["kappa"]) == [0xFF80_0000, 0xFF80_0000])
        let slots = try answer(one("gumbel.replacement", draw(1), [("logits", none)]))
        #expect(bits(slots["ids"]) == [0xFFFF_FFFF, 0xFFFF_FFFF] && bits(slots["weights"]) == [0, 0])
        let loss = try answer(
            one(
                "layer.crossEntropy", parameter("zreg_c", 0),
                [("logits", none), ("targets", Tensor([-1, -1] as [Int32], shape: [2]))]))
        #expect(bits(loss["z"]) == [0, 0] && bits(loss["losses"]) == [0, 0] && bits(loss["loss"]) == [0])
        let rows = try answer(
            one(
                "zreg.rows", parameter("zreg_c", 1).merging(["form": "folded"]) { $1 },
                [("s", none), ("dp", none)]))
        #expect(bits(rows["z"]) == [0, 0])
    }

    // MARK: B

    @Test("B2: sr has no effect where nothing is rounded, and is refused where results are not those of B3")
    func stochasticWhereNothingRounds() throws {
        let values: [UInt16] = [0x3F80, 0xBF80, 0x8000, 0, 0x7FC0, 0x7F80, 0x0001, 0x4049]
        let others = Array(values.reversed())
        for op in ["rem", "minimum", "maximum", "minimumNumber", "maximumNumber"] {
            var found: [[UInt64]] = []
            for rounding in ["rne", "sr"] {
                var inputs = [
                    ("a", Tensor(bf16: values, shape: [8])), ("b", Tensor(bf16: others, shape: [8])),
                ]
                if rounding == "sr" {
                    inputs.append(("random", Tensor([UInt16](repeating: 0xFFFF, count: 8), shape: [8])))
                }
                let outputs = try answer(
                    one("bf16.\(op)", ["rounding": .string(rounding), "tininess": "after"], inputs))
                found.append(bits(outputs["r"]) + bits(outputs["flags"]))
            }
            #expect(found[0] == found[1], "\(op)")
        }
        let words = Tensor([UInt16](repeating: 0, count: 8), shape: [8])
        for (op, recipe) in [
            ("roundToIntegral", [:]), ("nextUp", [:]), ("nextDown", [:]), ("to", ["target": "fp16"]),
            ("to", ["target": "int32"]),
        ] as [(String, [String: JSONValue])] {
            expectRefused(
                one(
                    "bf16.\(op)", recipe.merging(["rounding": "sr"]) { $1 },
                    [("a", Tensor(bf16: values, shape: [8])), ("random", words)]),
                "'rounding' is \"sr\"")
        }
    }

    @Test(
        "B1, B2, B4: to fp16, to odd overflows to 0x7BFF and 2^-14 is the smallest normal number; zeros keep their sign"
    )
    func halfPrecision() throws {
        // 2^17, -2^17, 2^-15 (exact, subnormal), 1.5 x 2^-25, 2^-14
        let values: [UInt16] = [0x4800, 0xC800, 0x3800, 0x3340, 0x3880]
        let odd = try answer(
            one("bf16.to", ["rounding": "rto", "target": "fp16"], [("a", Tensor(bf16: values, shape: [5]))]))
        #expect(bits(odd["r"]) == [0x7BFF, 0xFBFF, 0x0200, 0x0001, 0x0400])
        #expect(bits(odd["flags"]) == [5, 5, 0, 3, 0])
        let integral = try answer(
            one(
                "bf16.roundToIntegral", ["rounding": "rne"],
                [("a", Tensor(bf16: [0xBE80, 0x3E80, 0xBF00], shape: [3]))]))
        #expect(bits(integral["r"]) == [0x8000, 0, 0x8000])
    }

    // MARK: D1, Z5, E4

    @Test("D1: a subnormal factor times an infinity is NaN")
    func subnormalTimesInfinity() throws {
        let product = try answer(
            one(
                "dot.gemm", ["dot": "paired-ftz"],
                [("a", Tensor(bf16: [0x0001], shape: [1, 1])), ("b", Tensor(bf16: [0x7F80], shape: [1, 1]))]))
        #expect(bits(product["d"]) == [0x7FC0_0000])
        let kept = try answer(
            one(
                "dot.gemm", ["dot": "chain-ieee"],
                [("a", Tensor(bf16: [0x0001], shape: [1, 1])), ("b", Tensor(bf16: [0x7F80], shape: [1, 1]))]))
        #expect(bits(kept["d"]) == [0x7F80_0000])
    }

    @Test("Z5: the spacing at the largest logit is at least 2^-133, and NaN where that is not finite")
    func spacing() {
        func spacing(_ logit: Float) -> Double {
            LogSumExpStatistics(Attention.Forward(output: [], maximum: [], sum: [], z: [], largestLogit: logit)).spacing
        }
        #expect(spacing(3) == 0x1p-6 && spacing(0) == 0x1p-133 && spacing(0x1p-140) == 0x1p-133)
        #expect(spacing(0x1p-126) == 0x1p-133 && spacing(0x1p-125) == 0x1p-132)
        #expect(spacing(.infinity).isNaN && spacing(.nan).isNaN)
    }

    @Test("E4: positions outside 0 ..< 2^29, an odd dimension and a base below 1 are errors")
    func rotary() throws {
        func rope(_ position: Int32, _ base: Float, dimension: Int = 2) -> GoldenCase {
            let x = Tensor(bf16: [UInt16](repeating: 0x3F80, count: dimension), shape: [1, 1, dimension])
            return one(
                "layer.rope", parameter("base", base),
                [("x", x), ("position", Tensor([position], shape: [1])), ("dy", x)])
        }
        _ = try answer(rope(1 << 29 - 1, 1))
        expectRefused(rope(1 << 29, 10), "position")
        expectRefused(rope(-1, 10), "position")
        expectRefused(rope(0, 0.5), "base")
        expectRefused(rope(0, .infinity), "base")
        expectRefused(rope(0, 10, dimension: 3), "D is 3; expected an even D")
    }
}
