// The table of operations. A row is the whole of an operation's contract; its arithmetic is the reference's.

extension OperationSignature {
    /// Every operation, in the order of the suites.
    public static let all: [OperationSignature] =
        bf16 + dot + math + random + squinch + allReduce + zreg + visibility + clamp + gumbel + layers + training

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    /// The operation of that name; nil if there is none.
    public static func named(_ name: String) -> OperationSignature? { byName[name] }

    // MARK: bf16

    private static let roundingOrStochastic = RecipeKey.choice("rounding", RoundingName.self)
    private static let rounding = RecipeKey.choice(
        "rounding", RoundingName.allCases.filter { $0 != .sr }.map(\.rawValue))
    private static let tininess = RecipeKey.choice("tininess", ["after", "before"])
    private static let roundingBits = TensorSignature.uint16("random", "n").when("rounding", "sr")
    private static let flags = TensorSignature.uint8("flags", "n").note(
        "bit 0 inexact, 1 underflow, 2 overflow, 3 divideByZero, 4 invalid")

    private static func binary(_ name: String, _ summary: String, _ clauses: [String]) -> Self {
        Self(
            name, .bf16, summary, clauses: clauses, recipe: [roundingOrStochastic, tininess],
            inputs: [.bf16("a", "n"), .bf16("b", "n"), roundingBits], outputs: [.bf16("r", "n"), flags])
    }

    private static func unary(_ name: String, _ summary: String, _ clauses: [String], _ rounding: RecipeKey) -> Self {
        Self(
            name, .bf16, summary, clauses: clauses, recipe: [rounding],
            inputs: [.bf16("a", "n")] + (rounding == roundingOrStochastic ? [roundingBits] : []),
            outputs: [.bf16("r", "n"), flags])
    }

    private static let bf16: [Self] = [
        binary("bf16.add", "a + b", ["B1", "B2", "B3"]),
        binary("bf16.sub", "a - b", ["B1", "B2", "B3"]),
        binary("bf16.mul", "a * b", ["B1", "B2", "B3"]),
        binary("bf16.div", "a / b", ["B1", "B2", "B3"]),
        binary("bf16.rem", "IEEE remainder of a by b", ["B3"]),
        binary("bf16.minimum", "the lesser; NaN propagates", ["B4"]),
        binary("bf16.maximum", "the greater; NaN propagates", ["B4"]),
        binary("bf16.minimumNumber", "the lesser; a number beats NaN", ["B4"]),
        binary("bf16.maximumNumber", "the greater; a number beats NaN", ["B4"]),
        unary("bf16.sqrt", "square root", ["B1", "B2", "B3"], roundingOrStochastic),
        unary("bf16.roundToIntegral", "rounding to an integral value", ["B1", "B3", "B4"], rounding),
        unary("bf16.nextUp", "the next value above", ["B4"], rounding),
        unary("bf16.nextDown", "the next value below", ["B4"], rounding),
        Self(
            "bf16.fma", .bf16, "a * b + c, rounded once", clauses: ["B1", "B2", "B3"],
            recipe: [roundingOrStochastic],
            inputs: [.bf16("a", "n"), .bf16("b", "n"), .bf16("c", "n"), roundingBits],
            outputs: [.bf16("r", "n"), flags]),
        Self(
            "bf16.compare", .bf16, "less, equal, greater or unordered", clauses: ["B4"], recipe: [.flag("signalling")],
            inputs: [.bf16("a", "n"), .bf16("b", "n")],
            outputs: [.uint8("r", "n").note("bit 0 less, 1 equal, 2 greater, 3 unordered"), flags]),
        Self(
            "bf16.from", .bf16, "conversion to bf16 from another type", clauses: ["B1", "B2", "B5", "F2"],
            recipe: [.choice("source", ConversionType.self), roundingOrStochastic],
            inputs: [TensorSignature("a", .named(by: "source"), ["n"]), roundingBits],
            outputs: [.bf16("r", "n"), flags]),
        Self(
            "bf16.to", .bf16, "conversion from bf16 to another type", clauses: ["B1", "B2", "B5", "F2"],
            recipe: [.choice("target", ConversionType.self), rounding],
            inputs: [.bf16("a", "n")], outputs: [TensorSignature("r", .named(by: "target"), ["n"]), flags]),
    ]

    // MARK: dot

    private static let dotRecipe = RecipeKey.choice("dot", DotRecipe.self)
    /// A result as kernels store it: fp32, or rounded once to 16 bits.
    private static func output(_ name: String, _ note: String) -> RecipeKey {
        .choice(name, [ElementType.fp32, .bf16, .fp16].map(\.rawValue)).optional("fp32").note(note)
    }

    private static func sum(_ name: String, _ summary: String, _ clauses: [String]) -> Self {
        Self(
            "sum.\(name)", .dot, "sum of rows, or of products: \(summary)",
            clauses: clauses + ["R5", "F3", "Q1", "Q2", "Q3"],
            inputs: [.fp32("x", "m", "n"), .fp32("y", "m", "n").optional.note("for a sum of products")],
            outputs: [.fp32("s", "m").bounded], bound: .sums([["n"]]))
    }

    private static let dot: [Self] = [
        Self(
            "dot.gemm", .dot, "matrix product by a named recipe", clauses: ["D1", "D2", "D3", "F3", "Q1", "Q2", "Q3"],
            recipe: [dotRecipe, output("output", "the format of d")],
            inputs: [.bf16("a", "M", "K"), .bf16("b", "K", "N"), .fp32("c", "M", "N").optional],
            outputs: [TensorSignature("d", .named(by: "output"), ["M", "N"]).bounded], bound: .sums([["K"]])),
        sum("lane16", "sixteen lanes, then halves", ["R1"]),
        sum("lane16x4096", "lane16 of blocks of 4096, then of their results", ["R2", "R1"]),
        sum("chain", "one accumulator, ascending", ["R3"]),
    ]

    // MARK: math

    private static let math: [Self] = [
        "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "sinPi", "cosPi",
    ].map {
        Self(
            "math.\($0)", .math, "\($0)(x), correctly rounded to fp32", clauses: ["E1", "Q1", "Q2"],
            inputs: [.fp32("x", "n")], outputs: [.fp32("y", "n").bounded], bound: .units)
    }

    // MARK: random

    private static let random: [Self] = [
        Self(
            "random.philox", .random, "blocks of Philox4x32-10", clauses: ["G1"],
            inputs: [.uint32("key", "n", 2), .uint32("counter", "n", 4)], outputs: [.uint32("words", "n", 4)]),
        Self(
            "random.uniform", .random, "uniform on (0, 1) from a word", clauses: ["G2"],
            inputs: [.uint32("words", "n")], outputs: [.fp32("x", "n")]),
        Self(
            "random.gumbel", .random, "standard Gumbel from a word", clauses: ["G3", "E1"],
            inputs: [.uint32("words", "n")], outputs: [.fp32("x", "n")]),
        Self(
            "random.normal", .random, "two standard normals from two words", clauses: ["G4", "E1"],
            inputs: [.uint32("words", "n", 2)], outputs: [.fp32("x", "n", 2)]),
    ]

    // MARK: squinch and allreduce

    private static let variant = RecipeKey.choice("variant", SquinchVariant.self)
    private static let nonfinite = RecipeKey.choice("nonfinite", NonfinitePolicy.self)
    private static let codeBits = TensorSignature.uint32("random", "n").when("variant", "stochastic15")
    private static let blocks = TensorSignature.uint8("blocks", .blocks(of: "n"), 6)

    private static let squinch: [Self] = [
        Self(
            "squinch.encode", .squinch, "eight gradients in 48 bits", clauses: ["S1", "S2", "S3", "S4", "S5", "S6"],
            recipe: [variant, nonfinite],
            inputs: [TensorSignature("x", .anyOf([.fp32, .bf16]), ["n"]), codeBits], outputs: [blocks]),
        Self(
            "squinch.decode", .squinch, "48 bits to eight values", clauses: ["S3", "S4", "S5"],
            recipe: [variant, .integer("count", 0...1 << 40, size: "n")], inputs: [blocks],
            outputs: [.fp32("x", "n")]),
        Self(
            "squinch.feedback", .squinch, "encode x + e, keep what the code lost",
            clauses: ["S7", "S1", "S2", "S3", "S4", "S5"], recipe: [variant],
            inputs: [.fp32("x", "n"), .fp32("e", "n"), codeBits],
            outputs: [blocks, .fp32("decoded", "n"), .fp32("residual", "n")]),
    ]

    private static let allReduce: [Self] = [
        Self(
            "allreduce.squinch", .allreduce, "mean over ranks, six bits a gradient on both legs",
            clauses: ["S8", "S1", "S2", "S3", "S4", "S5", "S6", "S7"],
            recipe: [variant, nonfinite, .flag("feedback")],
            inputs: [
                .fp32("g", "W", "n"), .fp32("e", "W", "n").when("feedback", "true"),
                .uint32("random", "W", "n").when("variant", "stochastic15"),
                .uint32("random_reduced", "n").when("variant", "stochastic15"),
            ],
            outputs: [
                .fp32("r", "n"), .uint8("encoded", "W", .blocks(of: "n"), 6), .uint8("reduced", .blocks(of: "n"), 6),
                .fp32("residual", "W", "n").when("feedback", "true"),
            ], sizes: [.atLeast(1, "W")]),
        Self(
            "allreduce.bf16", .allreduce, "mean over ranks of bf16 contributions", clauses: ["T5", "F4", "B5"],
            inputs: [.fp32("g", "W", "n")], outputs: [.bf16("r", "n")], sizes: [.atLeast(1, "W")]),
        Self(
            "allreduce.fp32", .allreduce, "mean over ranks in fp32", clauses: ["T5", "F3"],
            inputs: [.fp32("g", "W", "n")], outputs: [.fp32("r", "n")], sizes: [.atLeast(1, "W")]),
    ]

    // MARK: zreg

    private static let position = 0...Int(Int32.max)
    private static let orientation = RecipeKey.choice("orientation", MaskOrientation.self)
    private static let queryOffset = RecipeKey.integer("query_offset", position)
    private static let window = RecipeKey.integer("window", 1...Int(Int32.max)).optional("none").note("by-key only")

    private static func intervals(_ queries: Dimension, _ keys: Dimension) -> [TensorSignature] {
        ["visibility_start", "visibility_limit"].flatMap { name in
            [
                .int32(name, "B", queries).when("orientation", MaskOrientation.byQuery.rawValue),
                .int32(name, "B", keys).when("orientation", MaskOrientation.byKey.rawValue),
            ] as [TensorSignature]
        }
    }

    private static let attentionKeys: [RecipeKey] = [.fp32("scale"), orientation, queryOffset, window, dotRecipe]
    private static let attentionInputs: [TensorSignature] =
        [.bf16("q", "B", "H", "Q", "D"), .bf16("k", "B", "G", "T", "D"), .bf16("v", "B", "G", "T", "D")]
        + intervals("Q", "T")
    private static let attentionSizes: [SizeRule] = [.atLeast(1, "H"), .atLeast(1, "G"), .multiple("H", of: "G")]

    private static let zreg: [Self] = [
        Self(
            "attention.forward", .zreg, "attention under a visibility mask, with its log-sum-exp",
            clauses: ["Z1", "V1", "V4", "D3", "R1", "R4", "E1", "Q1", "Q2", "Q3"], recipe: attentionKeys,
            inputs: attentionInputs,
            outputs: [
                .bf16("o", "B", "H", "Q", "D").bounded, .fp32("z", "B", "H", "Q").bounded,
                .fp32("max", "B", "H", "Q"), .fp32("sum", "B", "H", "Q"),
            ], sizes: attentionSizes, bound: .narrowFactors),
        Self(
            "attention.backward", .zreg, "gradients of attention with the z-regulariser injected",
            clauses: ["Z2", "Z3", "Z1", "T3", "V1", "V4", "D3", "D4", "R1", "E1", "Q1", "Q2", "Q3"],
            recipe: attentionKeys + [.fp32("zreg_c"), .choice("form", ZRegForm.self)],
            inputs: attentionInputs + [.bf16("do", "B", "H", "Q", "D")],
            outputs: [
                .bf16("dq", "B", "H", "Q", "D").bounded, .bf16("dk", "B", "G", "T", "D").bounded,
                .bf16("dv", "B", "G", "T", "D").bounded,
            ], sizes: attentionSizes, bound: .narrowFactors),
        Self(
            "zreg.rows", .zreg, "softmax and its gradient with the z-regulariser, of rows of logits",
            clauses: ["Z1", "Z2", "Z3", "Z4", "R1", "R4", "E1", "Q1", "Q2", "Q3"],
            recipe: [
                .fp32("zreg_c"), .choice("form", [ZRegForm.folded, .unfolded].map(\.rawValue)),
            ], inputs: [.fp32("s", "n", "m"), .fp32("dp", "n", "m")],
            outputs: [.fp32("z", "n").bounded, .fp32("p", "n", "m").bounded, .fp32("ds", "n", "m").bounded],
            bound: .rows(of: "s", "m")),
    ]

    // MARK: visibility

    private static let lengths = ElementRange(1, .fixed(1 << 31))

    private static let visibility: [Self] = [
        Self(
            "visibility.dense", .visibility, "the dense mask of two integers a token",
            clauses: ["V1", "V2", "V3", "V4"],
            recipe: [
                orientation, queryOffset, .integer("keys", 0...1 << 24, size: "T"),
                .integer("queries", 0...1 << 24, size: "Q"), window,
            ], inputs: intervals("Q", "T"), outputs: [.uint8("mask", "B", "Q", "T")],
            sizes: [.product(["B", "Q", "T"], atMost: 1 << 30)]),
        Self(
            "visibility.tree", .visibility, "a document tree as a by-key mask", clauses: ["V2"],
            inputs: [
                .int32("parent", "nodes").within(ElementRange(-1, "nodes")), .int32("length", "nodes").within(lengths),
            ],
            outputs: [
                .int32("visibility_start", "T"), .int32("visibility_limit", "T"), .int32("position", "T"),
            ]),
        Self(
            "visibility.build", .visibility, "the by-query mask of packed documents", clauses: ["V2"],
            recipe: [
                .choice("kind", Visibility.Kind.self), .integer("window", 1...Int(Int32.max)).when("kind", "window"),
            ],
            inputs: [
                .int32("length", "documents").within(lengths),
                .int32("prefix", "documents").when("kind", "prefix").within(ElementRange(0, .fixed(1 << 31))),
            ], outputs: [.int32("visibility_start", "T"), .int32("visibility_limit", "T")]),
    ]

    // MARK: clamp

    private static func clamp(
        _ name: String, _ summary: String, _ clauses: [String], _ key: RecipeKey, _ weights: TensorSignature,
        _ sizes: [SizeRule]
    ) -> Self {
        Self(
            name, .clamp, summary, clauses: clauses,
            recipe: [
                key, .choice("activation", ClampActivation.self), .choice("gradient", ClampGradient.self),
                .flag("int8"),
            ],
            inputs: [
                weights, .fp32("y", "t", "m").note("the value after ReLU^2 for relu2"), .fp32("dy", "t", "m"),
            ],
            outputs: [
                .fp32("limit", 1), .fp32("clamped", "t", "m"), .int8("codes", "t", "m").when("int8", "true"),
                .fp32("dequantised", "t", "m"), .fp32("dx", "t", "m"),
            ], sizes: sizes)
    }

    private static let clamp: [Self] = [
        clamp(
            "clamp.dynamic", "a clamp whose limit follows the weights, and int8", ["C1", "C2", "C3", "C4", "R2"],
            .fp32("kappa", .nonnegative), .bf16("w", "n", "m"), [.atLeast(1, "n"), .atLeast(1, "m")]),
        clamp(
            "clamp.static", "a clamp with a given limit, and int8", ["C5", "C2", "C3", "C4"],
            .fp32("limit", .finiteNonnegative), .bf16("w", "n", "m").optional.note("not used"), []),
    ]

    // MARK: gumbel

    private static let draws: [RecipeKey] = [
        .hexadecimal64("seed"), .integer("stream", 0...Int(UInt32.max)), .integer("step", 0...Int(UInt32.max)),
    ]
    private static let slots = RecipeKey.integer("k", 0...1 << 24, size: "k")

    private static let gumbel: [Self] = [
        Self(
            "gumbel.topk", .gumbel, "k tokens without replacement, with unbiased weights",
            clauses: ["K1", "K2", "Z1", "G1", "G3", "E1"], recipe: draws + [slots], inputs: [.fp32("logits", "N", "V")],
            outputs: [.uint32("ids", "N", "k"), .fp32("weights", "N", "k"), .fp32("kappa", "N")],
            sizes: [.product(["N", "k"], atMost: 1 << 28)]),
        Self(
            "gumbel.replacement", .gumbel, "k tokens with replacement",
            clauses: ["K2", "K1", "Z1", "G1", "G3", "E1"], recipe: draws + [slots], inputs: [.fp32("logits", "N", "V")],
            outputs: [.uint32("ids", "N", "k"), .fp32("weights", "N", "k")],
            sizes: [.product(["N", "k"], atMost: 1 << 28)]),
        Self(
            "gumbel.softmax", .gumbel, "the relaxed sample and its gradient",
            clauses: ["K3", "Z1", "G1", "G3", "R1", "E1"], recipe: draws + [.fp32("tau", .finitePositive)],
            inputs: [.fp32("logits", "N", "V"), .fp32("dy", "N", "V")],
            outputs: [.fp32("y", "N", "V"), .fp32("dlogits", "N", "V")]),
    ]

    // MARK: layers

    private static let tokens = ElementRange(0, "V")
    private static let positions = ElementRange(0, .fixed(1 << 29))
    /// The id of an empty slot of soft targets (K4).
    private static let emptySlot = Int(UInt32.max)

    private static let losses: [TensorSignature] = [
        .fp32("loss", 1).bounded, .fp32("losses", "N"), .fp32("z", "N"), .bf16("dlogits", "N", "V").bounded,
    ]

    private static let layers: [Self] = [
        Self(
            "layer.rmsnorm", .layers, "root-mean-square normalisation and its gradients",
            clauses: ["T2", "R1", "R3", "E1"], recipe: [.fp32("epsilon")],
            inputs: [.bf16("x", "n", "C"), .bf16("gain", "C"), .bf16("dy", "n", "C")],
            outputs: [.bf16("y", "n", "C"), .fp32("r", "n"), .fp32("dx", "n", "C"), .fp32("dgain", "C")],
            sizes: [.atLeast(1, "C")]),
        Self(
            "layer.rope", .layers, "rotary position embedding and its gradient", clauses: ["T2", "E4", "F4"],
            recipe: [.fp32("base", .finiteAtLeastOne)],
            inputs: [
                .bf16("x", "n", "heads", "D"), .int32("position", "n").within(positions),
                .bf16("dy", "n", "heads", "D"),
            ], outputs: [.bf16("y", "n", "heads", "D"), .bf16("dx", "n", "heads", "D")], sizes: [.even("D")]),
        Self(
            "layer.relu2", .layers, "the square of the positive part and its gradient", clauses: ["T2", "F3"],
            inputs: [.bf16("x", "n"), .fp32("dy", "n")], outputs: [.fp32("y", "n"), .fp32("dx", "n")]),
        Self(
            "layer.swiglu", .layers, "the gated unit silu(gate) * up and its gradients", clauses: ["T8", "E1", "F3"],
            inputs: [.bf16("gate", "n"), .bf16("up", "n"), .fp32("dy", "n")],
            outputs: [.fp32("y", "n"), .fp32("dgate", "n"), .fp32("dup", "n")]),
        Self(
            "layer.linear", .layers, "a linear layer over (batch, token) rows and its gradients",
            clauses: ["T2", "D1", "D2", "D3", "D4", "Q1", "Q2", "Q3"],
            recipe: [
                dotRecipe, output("output", "the format of y and dx"), output("dw_output", "the format of dw"),
            ],
            inputs: [.bf16("x", "B", "T", "in"), .bf16("w", "in", "out"), .bf16("dy", "B", "T", "out")],
            outputs: [
                TensorSignature("y", .named(by: "output"), ["B", "T", "out"]).bounded,
                TensorSignature("dx", .named(by: "output"), ["B", "T", "in"]).bounded,
                TensorSignature("dw", .named(by: "dw_output"), ["in", "out"]).bounded,
            ], bound: .sums([["in"], ["out"], ["B", "T"]])),
        Self(
            "layer.embedding", .layers, "rows by token and their gradient", clauses: ["T2", "R3"],
            inputs: [.int32("tokens", "n").within(tokens), .bf16("w", "V", "C"), .bf16("dy", "n", "C")],
            outputs: [.bf16("y", "n", "C"), .fp32("dw", "V", "C")]),
        Self(
            "layer.crossEntropy", .layers, "mean cross-entropy, with z-reg on the logits",
            clauses: ["T2", "Z1", "Z4", "R1", "R2", "E1", "Q1", "Q2", "Q3"], recipe: [.fp32("zreg_c")],
            inputs: [
                .fp32("logits", "N", "V"),
                .int32("targets", "N").within(ElementRange(-1, "V")).note("-1: none"),
            ], outputs: losses, bound: .rows(of: "logits", "V")),
        Self(
            "layer.sparseCrossEntropy", .layers, "mean cross-entropy against k weighted tokens a row",
            clauses: ["T2", "K4", "Z1", "Z4", "R1", "R2", "E1", "Q1", "Q2", "Q3"], recipe: [.fp32("zreg_c")],
            inputs: [
                .fp32("logits", "N", "V"),
                .uint32("ids", "N", "k").within(ElementRange(0, "V", or: emptySlot)).note("0xFFFFFFFF: an empty slot"),
                .fp32("weights", "N", "k"),
            ], outputs: losses, bound: .rows(of: "logits", "V")),
        Self(
            "layer.adamw", .layers, "an AdamW update with clipping by the gradient's norm",
            clauses: ["T4", "R2", "R3", "E1"],
            recipe: [
                .fp32("beta1", .fraction), .fp32("beta2", .fraction), .fp32("epsilon"), .fp32("weight_decay"),
                .fp32("learning_rate"), .fp32("clip_norm"), .integer("step", 1...1 << 30),
            ], inputs: ["w", "m", "v", "g"].map { .fp32($0, "n") },
            outputs: [.fp32("norm", 1), .fp32("m", "n"), .fp32("v", "n"), .fp32("w", "n")]),
    ]

    // MARK: training

    private static let training: [Self] = [
        Self(
            "training.step", .training, "whole training steps: forward, backward, all-reduce, AdamW",
            clauses: ["T1", "T2", "T3", "T4", "T5", "T6", "Z1", "Z2", "V1", "C1", "C2", "D4", "R2", "R3"],
            recipe: [
                .integer("first_step", 1...1 << 30).note("the number n of the first step (T4)"),
                .flag("probe").note("whether `intermediates` are wanted"),
            ],
            inputs: [
                .int32("tokens", "S", "B", "T").within(tokens),
                .int32("targets", "S", "B", "T").when("distillation_k", "0").within(ElementRange(-1, "V"))
                    .note("-1: none"),
                .uint32("target_ids", "S", "B", "T", "k").unless("distillation_k", "0")
                    .within(ElementRange(0, "V", or: emptySlot)).note("0xFFFFFFFF: an empty slot"),
                .fp32("target_weights", "S", "B", "T", "k").unless("distillation_k", "0"),
                .int32("position", "S", "B", "T").within(positions).note("of the rotary embedding"),
                .int32("visibility_start", "S", "B", "T").note("by key"),
                .int32("visibility_limit", "S", "B", "T").note("by key"),
            ],
            outputs: [.fp32("loss", "S"), .fp32("gradient_norm", "S"), .uint8("fingerprint", "S", 32)],
            sizes: [.atLeast(1, "S")], takesConfiguration: true)
    ]
}

extension ModelConfiguration {
    /// The masters, optimizer state and residuals that a step of this configuration begins with: fp32, for every parameter of T1 in order.
    public var stateSignatures: [TensorSignature] {
        parameters.flatMap { parameter -> [TensorSignature] in
            let shape = parameter.shape.map(Dimension.fixed)
            let state = ["weight", "m", "v"].map { TensorSignature("\($0).\(parameter.name)", .one(.fp32), shape) }
            guard usesErrorFeedback else { return state }
            return state + [
                TensorSignature(
                    "residual.\(parameter.name)", .one(.fp32), [.fixed(ranks), .fixed(parameter.count)])
            ]
        }
    }
}
