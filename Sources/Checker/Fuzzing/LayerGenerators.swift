import Cases
import JSON
import ModelSpec
import Reference

private func tokens(_ count: Int, below v: Int, none: Bool, _ random: inout FuzzRandom) -> [Int32] {
    (0..<count).map { _ in
        none && random.chance(4) ? -1 : random.chance(4) ? random.pick([0, Int32(v) - 1]) : Int32(random.below(v))
    }
}

/// Holds tokens, targets and ids of a smaller vocabulary inside it.
private func repairIDs(_ draft: inout Draft, _ name: String, below v: Int) {
    guard let tensor = draft.inputs[name], v > 0 else { return }
    if let ids = try? tensor.integers(Int32.self) {
        draft.replace(name, Tensor(ids.map { min($0, Int32(v) - 1) }, shape: tensor.shape))
    } else if let ids = try? tensor.integers(UInt32.self) {
        draft.replace(name, Tensor(ids.map { $0 == .max ? $0 : min($0, UInt32(v) - 1) }, shape: tensor.shape))
    }
}

let layerGenerators: [CaseGenerator] = [
    CaseGenerator(
        "layer.rmsnorm", [.random, .ties, .subnormals, .overflow, .cancellation, .specials, .tileEdge, .degenerate]
    ) { caseClass, random in
        var (n, c) = (1 + random.below(6), 1 + random.below(40))
        if caseClass == .tileEdge {
            (n, c) = (random.edgeSize(atMost: 17), random.edgeSize(atMost: FuzzRandom.longest))
        }
        if caseClass == .degenerate { (n, c) = (random.below(2), 1) }
        func values(_ count: Int, _ random: inout FuzzRandom) -> [UInt16] {
            (0..<count).map { _ in
                switch caseClass {
                case .specials: random.chance(12) ? random.specialBF16() : random.bf16(118...131)
                // Squares about 2^-126.
                case .subnormals: random.bf16(random.pick([0...2, 58...66]))
                case .overflow: random.bf16(random.pick([188...192, 250...254]))
                case .ties: FuzzRandom.bf16(random.simple())
                case .cancellation: random.pick([0x3F80, 0xBF80, 0x3F81, 0xBF81])
                default: random.bf16(115...132)
                }
            }
        }
        return Draft(
            entries("epsilon", random.pick([0x1p-20, 1e-6, 0, 0x1p-149, 1])),
            [
                ("x", Tensor(bf16: values(n * c, &random), shape: [n, c])),
                ("gain", Tensor(bf16: values(c, &random), shape: [c])),
                ("dy", Tensor(bf16: values(n * c, &random), shape: [n, c])),
            ])
    },
    CaseGenerator(
        "layer.rope", [.random, .ties, .subnormals, .overflow, .specials, .patterns, .tileEdge, .degenerate]
    ) { caseClass, random in
        var (n, heads, d) = (1 + random.below(5), 1 + random.below(3), 2 * (1 + random.below(8)))
        if caseClass == .tileEdge {
            let sizes = random.edgeSizes(atMost: [17, 33, 3])
            (n, d, heads) = (sizes[0], 2 * sizes[1], sizes[2])
        }
        if caseClass == .degenerate { (n, heads, d) = (random.below(2), random.below(2), 2 * random.below(2)) }
        // Exact and late positions, and those at which the angles are large.
        let positions = (0..<n).map { _ -> Int32 in
            caseClass == .patterns
                ? random.pick([0, 1, 1 << 24, (1 << 29) - 1, Int32(random.below(1 << 29))] as [Int32])
                : Int32(random.below(2048))
        }
        return Draft(
            entries("base", random.pick([10000, 1, 2, 500_000, 1.0000001, 3.4e38] as [Float])),
            [
                ("x", Tensor(bf16: random.bf16s(n * heads * d, of: caseClass), shape: [n, heads, d])),
                ("position", vector(positions)),
                ("dy", Tensor(bf16: random.bf16s(n * heads * d, of: caseClass), shape: [n, heads, d])),
            ])
    },
    CaseGenerator(
        "layer.relu2", [.random, .subnormals, .overflow, .specials, .tileEdge, .degenerate]
    ) { caseClass, random in
        let n =
            caseClass == .degenerate
            ? random.below(2)
            : caseClass == .tileEdge ? random.edgeSize(atMost: FuzzRandom.longest) : 1 + random.below(80)
        let x = (0..<n).map { _ -> UInt16 in
            switch caseClass {
            case .subnormals: random.bf16(random.pick([0...2, 55...66]))
            case .overflow: random.bf16(188...192)
            case .specials: random.specialBF16()
            default: random.bf16(112...140)
            }
        }
        return Draft([:], [("x", vector(bf16: x)), ("dy", vector(random.floats(n, of: caseClass)))])
    },
    CaseGenerator(
        "layer.swiglu", [.random, .subnormals, .overflow, .specials, .tileEdge, .degenerate]
    ) { caseClass, random in
        let n =
            caseClass == .degenerate
            ? random.below(2)
            : caseClass == .tileEdge ? random.edgeSize(atMost: FuzzRandom.longest) : 1 + random.below(80)
        func values(_ random: inout FuzzRandom) -> [UInt16] {
            (0..<n).map { _ in
                switch caseClass {
                case .subnormals: random.bf16(random.pick([0...2, 55...66]))
                // exp(-gate) overflows below -88.
                case .overflow: random.bf16(random.pick([132...135, 188...192]))
                case .specials: random.specialBF16()
                default: random.bf16(112...134)
                }
            }
        }
        return Draft(
            [:],
            [
                ("gate", vector(bf16: values(&random))), ("up", vector(bf16: values(&random))),
                ("dy", vector(random.floats(n, of: caseClass))),
            ])
    },
    CaseGenerator(
        "layer.linear", [.random, .ties, .subnormals, .overflow, .cancellation, .specials, .tileEdge, .degenerate],
        repair: { draft in
            guard let x = draft.inputs["x"]?.shape, let w = draft.inputs["w"]?.shape else { return }
            draft.recipe["n"] = .integer(Int64(max(x[0] * x[1], w[0], w[1])))
        }
    ) { caseClass, random in
        var (b, t) = (1 + random.below(3), 1 + random.below(7))
        var (rows, columns) = (1 + random.below(12), 1 + random.below(12))
        if caseClass == .tileEdge {
            let sizes = random.edgeSizes(atMost: [17, 33, 33])
            (t, rows, columns) = (sizes[0], sizes[1], sizes[2])
        }
        if caseClass == .degenerate {
            (b, t, rows, columns) = (random.below(2), random.below(2), random.below(2), random.below(2))
        }
        func values(_ count: Int, _ random: inout FuzzRandom) -> [UInt16] {
            (0..<count).map { _ in
                switch caseClass {
                case .specials: random.chance(12) ? random.specialBF16() : random.bf16(118...131)
                case .subnormals: random.bf16(random.pick([0...2, 60...66]))
                case .overflow: random.bf16(188...192)
                case .ties: random.pick([0x3F80, 0xBF80, 0x4B80, 0xCB80, 0x3F00])
                case .cancellation: random.pick([0x3F80, 0xBF80, 0x3F81, 0xBF81, 0x4780, 0xC780])
                default: random.bf16(115...135)
                }
            }
        }
        var draft = Draft(
            entries("kappa", 4)
                + [
                    "dot": .string(random.pick(DotRecipe.allCases).rawValue),
                    "n": .integer(Int64(max(b * t, rows, columns))),
                ],
            [
                ("x", Tensor(bf16: values(b * t * rows, &random), shape: [b, t, rows])),
                ("w", Tensor(bf16: values(rows * columns, &random), shape: [rows, columns])),
                ("dy", Tensor(bf16: values(b * t * columns, &random), shape: [b, t, columns])),
            ])
        draft.recipe = draft.recipe + storedFormat("output", &random) + storedFormat("dw_output", &random)
        return draft
    },
    CaseGenerator(
        "layer.embedding", [.random, .ties, .subnormals, .overflow, .cancellation, .specials, .tileEdge, .degenerate],
        repair: { draft in repairIDs(&draft, "tokens", below: draft.inputs["w"]?.shape[0] ?? 0) }
    ) { caseClass, random in
        var (n, v, c) = (1 + random.below(24), 1 + random.below(6), 1 + random.below(12))
        if caseClass == .tileEdge {
            let sizes = random.edgeSizes(atMost: [65, 33, 6])
            (n, c, v) = (sizes[0], sizes[1], sizes[2])
        }
        if caseClass == .degenerate { (n, v, c) = (random.below(2), 1, random.below(2)) }
        let dy = (0..<n * c).map { index -> UInt16 in
            caseClass == .cancellation
                ? random.pick([0x3F80, 0xBF80, 0x4B00, 0xCB00, 0x3B80]) : random.bf16s(1, of: caseClass)[0]
        }
        return Draft(
            [:],
            [
                ("tokens", vector(tokens(n, below: v, none: false, &random))),
                ("w", Tensor(bf16: random.bf16s(v * c, of: caseClass), shape: [v, c])),
                ("dy", Tensor(bf16: dy, shape: [n, c])),
            ])
    },
    CaseGenerator(
        "layer.crossEntropy",
        [
            .random, .ties, .subnormals, .overflow, .cancellation, .infiniteLogits, .specials, .slots, .tileEdge,
            .degenerate,
        ],
        repair: { draft in
            let v = draft.inputs["logits"]?.shape[1] ?? 0
            draft.recipe["n"] = .integer(Int64(v))
            repairIDs(&draft, "targets", below: v)
        }
    ) { caseClass, random in
        var (n, v) = (1 + random.below(6), 1 + random.below(30))
        if caseClass == .tileEdge {
            let sizes = random.edgeSizes(atMost: [33, 65])
            (n, v) = random.chance(8) ? (random.pick([4095, 4096, 4097]), 2) : (sizes[0], sizes[1])
        }
        if caseClass == .degenerate { (n, v) = (random.below(2), 1) }
        let values = logits(n, v, caseClass, &random)
        let targets = caseClass == .slots ? [Int32](repeating: -1, count: n) : tokens(n, below: v, none: true, &random)
        return Draft(
            entries("zreg_c", random.pick([0x1p-14, 0x1p-8, 0, -0.0, -0.1])) + entries("kappa", 4 + spread(values))
                + ["n": .integer(Int64(v))],
            [("logits", Tensor(values, shape: [n, v])), ("targets", vector(targets))])
    },
    CaseGenerator(
        "layer.sparseCrossEntropy",
        [
            .random, .ties, .subnormals, .overflow, .cancellation, .infiniteLogits, .specials, .slots, .tileEdge,
            .degenerate,
        ],
        repair: { draft in
            let v = draft.inputs["logits"]?.shape[1] ?? 0
            draft.recipe["n"] = .integer(Int64(v))
            repairIDs(&draft, "ids", below: v)
        }
    ) { caseClass, random in
        var (n, v, k) = (1 + random.below(5), 1 + random.below(24), 1 + random.below(20))
        if caseClass == .tileEdge {
            let sizes = random.edgeSizes(atMost: [65, 33, 5])
            (v, k, n) = (sizes[0], sizes[1], sizes[2])
        }
        if caseClass == .degenerate { (n, v, k) = (random.below(2), 1, random.below(2)) }
        let values = logits(n, v, caseClass, &random)
        let ids = (0..<n * k).map { _ in
            random.chance(caseClass == .slots ? 2 : 6) ? UInt32.max : UInt32(random.below(v))
        }
        let weights = (0..<n * k).map { _ -> Float in
            switch caseClass {
            case .specials: random.chance(6) ? random.special() : random.float(118...126)
            case .slots: random.pick([0, -0.0, .nan, 1, 0.25])
            case .subnormals: random.float(0...2)
            default: random.float(118...126).magnitude
            }
        }
        return Draft(
            entries("zreg_c", random.pick([0x1p-14, 0x1p-8, 0, -0.0, -0.1])) + entries("kappa", 4 + spread(values))
                + ["n": .integer(Int64(v))],
            [
                ("logits", Tensor(values, shape: [n, v])), ("ids", Tensor(ids, shape: [n, k])),
                ("weights", Tensor(weights, shape: [n, k])),
            ])
    },
    CaseGenerator(
        "layer.adamw",
        [.random, .subnormals, .overflow, .cancellation, .specials, .largeSteps, .tileEdge, .degenerate]
    ) { caseClass, random in
        let n =
            caseClass == .degenerate
            ? random.below(2)
            : caseClass == .tileEdge
                ? (random.chance(6) ? random.pick([4095, 4096, 4097]) : random.edgeSize(atMost: FuzzRandom.longest))
                : 1 + random.below(40)
        let isFirst = random.chance(3)
        func values(_ exponents: ClosedRange<Int>, _ random: inout FuzzRandom) -> [Float] {
            (0..<n).map { _ in
                switch caseClass {
                case .specials: random.chance(12) ? random.special() : random.float(exponents)
                case .subnormals: random.float(random.pick([0...2, 60...66]))
                case .overflow: random.float(random.pick([188...192, 250...254]))
                default: random.float(exponents)
                }
            }
        }
        let w = values(118...126, &random)
        let m = isFirst ? [Float](repeating: 0, count: n) : values(108...122, &random)
        let v = isFirst ? [Float](repeating: 0, count: n) : values(95...115, &random).map(\.magnitude)
        // A norm that is not finite is refused (T4): gradients are finite, and the sum of 40 of the largest squares is about 2^127.
        let g = (0..<n).map { index -> Float in
            switch caseClass {
            case .cancellation: random.near(-m[index] * 9)
            case .specials:
                random.chance(12) ? random.pick([0, -0.0, 0x1p-149, -0x1p-126, 1]) : random.float(110...128)
            case .subnormals: random.float(random.pick([0...2, 60...66]))
            case .overflow: random.float(random.pick([120...130, 182...186]))
            default: random.float(110...128)
            }
        }
        let isLarge = caseClass == .largeSteps
        let step =
            isLarge ? random.pick([1, 2, 1000, 1_000_000, 1 << 24, (1 << 24) + 1, 1 << 30]) : 1 + random.below(60)
        var recipe: [String: JSONValue] = ["step": .integer(Int64(step))]
        recipe = recipe + entries("beta1", random.pick(isLarge ? [0, 0.9, Float(1).nextDown, 0x1p-149] : [0.9, 0.5]))
        recipe = recipe + entries("beta2", random.pick(isLarge ? [0, 0.999, Float(1).nextDown] : [0.99, 0.999]))
        recipe = recipe + entries("epsilon", random.pick([0x1p-27, 1e-8, 0, 1]))
        recipe = recipe + entries("weight_decay", random.pick([0, 0.0625, 0.1, -0.0]))
        recipe =
            recipe + entries("learning_rate", random.pick(isLarge ? [1, 1e10, 0, 0x1p-149] : [0x1p-9, 0.003, 0.1]))
        recipe = recipe + entries("clip_norm", random.pick([0, 1, 0.01, 100, 0x1p-126]))
        return Draft(recipe, [("w", vector(w)), ("m", vector(m)), ("v", vector(v)), ("g", vector(g))])
    },
]
