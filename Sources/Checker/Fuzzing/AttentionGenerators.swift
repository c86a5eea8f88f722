import Cases
import ExactMath
import JSON
import ModelSpec
import Reference

/// A mask and the sizes that it fits.
struct MaskDraft {
    var orientation = MaskOrientation.byKey
    var queries: Int
    var keys: Int
    var offset = 0
    var window: Int?
    /// [batch, tokens]
    var start: [Int32] = []
    var limit: [Int32] = []

    var tokens: Int { orientation == .byQuery ? queries : keys }
    /// What the intervals' values may reach (V4).
    var length: Int { orientation == .byQuery ? keys : offset + queries }

    /// - Parameter longest: about the most queries, and keys.
    init(_ caseClass: CaseClass, batch: Int, longest: Int, _ random: inout FuzzRandom) {
        let t =
            switch caseClass {
            case .degenerate: random.below(2)
            case .tileEdge: random.edgeSize(atMost: longest)
            default: 1 + random.below(longest)
            }
        (queries, keys) = (t, t)
        switch caseClass {
        case .maskTree:
            let (parents, lengths) = Self.tree(nodes: 1 + random.below(7), &random)
            // Trees are made in depth-first order; a cache of zero tokens is a plain tree.
            let cached = random.bool() ? 0 : random.below(9)
            guard let tree = try? Visibility.drafts(cached: Int32(cached), parents: parents, lengths: lengths) else {
                preconditionFailure("a tree in depth-first order")
            }
            keys = tree.start.count
            (queries, offset) = (keys - cached, cached)
            for _ in 0..<batch { (start, limit) = (start + tree.start, limit + tree.limit) }
            return
        case .queryOffset:
            offset = random.pick([1, 2, 7, 15, 16, 17, random.below(40)])
            queries = 1 + random.below(min(8, longest))
            keys = offset + queries
            orientation = random.pick(MaskOrientation.allCases)
            if orientation == .byKey && random.bool() { window = 1 + random.below(keys + 1) }
        case .maskWindow:
            window = random.pick([1, 2, max(1, t / 2), max(1, t - 1), max(1, t), t + 1, 16, 17])
        case .maskOneKey, .maskEmptyRow, .maskRandom:
            orientation = random.pick(MaskOrientation.allCases)
            if random.bool() { keys = 1 + random.below(longest) }
            if orientation == .byKey && random.bool() { offset = random.below(20) }
            if caseClass == .maskRandom && orientation == .byKey && random.chance(3) {
                window = 1 + random.below(longest)
            }
        case .tileEdge:
            orientation = random.pick(MaskOrientation.allCases)
            // Long in one direction: the reference's work stays bounded.
            if longest > 9 && random.chance(3) {
                (queries, keys) = (min(t, 5), random.longSize())
                if random.bool() { (queries, keys) = (keys, queries) }
            } else if random.bool() {
                keys = random.edgeSize(atMost: longest)
            }
        case .degenerate:
            orientation = random.pick(MaskOrientation.allCases)
            keys = random.below(2)
        default: orientation = random.pick(MaskOrientation.allCases)
        }
        let kind = random.below(3)
        for _ in 0..<batch {
            // Documents of one length, for the kind that has them.
            let document = 1 + random.below(max(1, t))
            for token in 0..<tokens {
                let interval: (Int, Int)
                switch caseClass {
                case .maskOneKey:
                    let place = random.below(max(1, length))
                    interval = (place, min(length, place + 1))
                case .maskEmptyRow:
                    let place = random.below(length + 1)
                    interval = random.chance(2) ? (place, place) : (min(place, length / 2), length)
                case .maskRandom:
                    let (a, b) = (random.below(length + 1), random.below(length + 1))
                    interval = (min(a, b), max(a, b))
                default:
                    // Causal, full, or documents.
                    if orientation == .byQuery {
                        let position = offset + token
                        let first = kind == 2 ? position / document * document : 0
                        interval = (first, kind == 1 ? length : position + 1)
                    } else {
                        interval = (kind == 1 ? 0 : token, kind == 2 ? (token / document + 1) * document : length)
                    }
                }
                start.append(Int32(min(interval.0, length)))
                limit.append(Int32(min(max(interval.0, interval.1), length)))
            }
        }
    }

    /// Parents and lengths of nodes in depth-first order; roots among them.
    static func tree(nodes: Int, _ random: inout FuzzRandom) -> (parents: [Int32], lengths: [Int32]) {
        var (parents, lengths, path): ([Int32], [Int32], [Int32]) = ([], [], [])
        for node in 0..<nodes {
            if node > 0 { for _ in 0..<random.below(path.count + 1) { path.removeLast() } }
            parents.append(path.last ?? -1)
            lengths.append(Int32(1 + random.below(4)))
            path.append(Int32(node))
        }
        return (parents, lengths)
    }

    var recipe: [String: JSONValue] {
        var recipe: [String: JSONValue] = [
            "orientation": .string(orientation.rawValue), "query_offset": .integer(Int64(offset)),
        ]
        if let window { recipe["window"] = .integer(Int64(window)) }
        return recipe
    }

    func inputs(batch: Int) -> [(String, Tensor)] {
        [
            ("visibility_start", Tensor(start, shape: [batch, tokens])),
            ("visibility_limit", Tensor(limit, shape: [batch, tokens])),
        ]
    }
}

/// Holds the intervals of a smaller mask inside it (V4).
private func repairIntervals(_ draft: inout Draft, length: Int) {
    guard let starts = try? draft.inputs["visibility_start"]?.integers(Int32.self),
        let limits = try? draft.inputs["visibility_limit"]?.integers(Int32.self), starts.count == limits.count,
        let shape = draft.inputs["visibility_start"]?.shape
    else { return }
    let limit = limits.map { min(max(0, $0), Int32(length)) }
    draft.replace("visibility_start", Tensor(zip(starts, limit).map { min(max(0, $0), $1) }, shape: shape))
    draft.replace("visibility_limit", Tensor(limit, shape: shape))
}

@Sendable private func repairAttention(_ draft: inout Draft) {
    guard let q = draft.inputs["q"]?.shape, let k = draft.inputs["k"]?.shape, q.count == 4, k.count == 4 else { return }
    let isByQuery = draft.text("orientation") == MaskOrientation.byQuery.rawValue
    repairIntervals(&draft, length: isByQuery ? k[2] : (draft.integer("query_offset") ?? 0) + q[2])
}

private let maskClasses: [CaseClass] = [
    .maskEmptyRow, .maskOneKey, .maskTree, .maskWindow, .queryOffset, .maskRandom, .tileEdge, .degenerate,
]

private func attention(_ op: String) -> CaseGenerator {
    CaseGenerator(
        op, [.random, .ties, .subnormals, .overflow, .specials] + maskClasses,
        repair: repairAttention
    ) { caseClass, random in
        let isBackward = op == "attention.backward"
        let b = 1 + (random.chance(4) ? 1 : 0)
        let g = 1 + (random.chance(4) ? 1 : 0)
        let h = g * (1 + random.below(random.chance(3) ? 3 : 1))
        let d =
            caseClass == .tileEdge
            ? (random.chance(4)
                ? random.pick([63, 64, 65, 127, 128, 129, 255, 256, 257])
                : random.pick([1, 2, 3, 7, 8, 15, 16, 17, 24, 31, 32, 33]))
            : caseClass == .degenerate ? 1 + random.below(2) : 1 + random.below(9)
        let mask = MaskDraft(caseClass, batch: b, longest: caseClass == .tileEdge ? (d > 33 ? 9 : 33) : 14, &random)
        let (q, t) = (mask.queries, mask.keys)
        // Logits of the order of 1; where they are to be large, of hundreds.
        let exponents = caseClass == .overflow ? random.pick([130...133, 180...189]) : 119...128
        func tensor(_ heads: Int, _ length: Int, _ exponents: ClosedRange<Int>, _ random: inout FuzzRandom) -> Tensor {
            let count = b * heads * length * d
            let values: [UInt16] = (0..<count).map { _ in
                switch caseClass {
                case .ties: FuzzRandom.bf16(random.simple())
                case .subnormals: random.bf16(random.chance(3) ? 55...66 : 0...2)
                case .specials: random.chance(16) ? random.specialBF16() : random.bf16(exponents)
                default: random.bf16(exponents)
                }
            }
            return Tensor(bf16: values, shape: [b, heads, length, d])
        }
        var inputs = [
            ("q", tensor(h, q, exponents, &random)), ("k", tensor(g, t, exponents, &random)),
            ("v", tensor(g, t, 118...129, &random)),
        ]
        inputs += mask.inputs(batch: b)
        // A factor that is rounded to bf16 errs by 2^-8 of itself, 2^16 in units of 2^-24; a quarter more for all in fp32 (Q3).
        var recipe = mask.recipe + entries("kappa", 81920) + ["n": .integer(0)]
        let root = CorrectlyRounded.rsqrt(SoftFloat32.convert(UInt64(max(1, d))))
        recipe = recipe + entries("scale", random.chance(4) ? random.pick([1, 0.5, -0.3, 0, 0x1p-20]) : root)
        recipe["dot"] = .string(random.pick(DotRecipe.allCases).rawValue)
        if isBackward {
            inputs.append(("do", tensor(h, q, 115...128, &random)))
            recipe = recipe + entries("zreg_c", random.pick([0x1p-14, 0x1p-7, 0, -0.0, -0.5, 0.3]))
            recipe["form"] = .string(random.pick(ZRegForm.allCases).rawValue)
        }
        return Draft(recipe, inputs)
    }
}

let attentionGenerators: [CaseGenerator] = [
    attention("attention.forward"), attention("attention.backward"),
    CaseGenerator(
        "zreg.rows",
        [.random, .ties, .subnormals, .overflow, .cancellation, .infiniteLogits, .specials, .tileEdge, .degenerate],
        repair: { draft in
            if let s = draft.inputs["s"] { draft.recipe["n"] = .integer(Int64(s.shape[1])) }
        }
    ) { caseClass, random in
        var (n, m) = (1 + random.below(4), 1 + random.below(40))
        if caseClass == .tileEdge { m = random.edgeSize(atMost: FuzzRandom.longest) }
        if caseClass == .degenerate { (n, m) = (random.below(2), random.below(2)) }
        let s = logits(n, m, caseClass, &random)
        let dp = (0..<n * m).map { _ -> Float in
            switch caseClass {
            case .specials: random.chance(12) ? random.special() : random.float(115...128)
            case .subnormals: random.float(0...2)
            case .ties: random.simple()
            case .overflow: random.float(240...254)
            default: random.float(115...128)
            }
        }
        return Draft(
            entries("zreg_c", random.pick([0x1p-14, 0x1p-6, 0, -0.0, -0.5, 64])) + entries("kappa", spread(s) + 4)
                + ["n": .integer(Int64(m)), "form": .string(random.pick(["folded", "unfolded"]))],
            [("s", Tensor(s, shape: [n, m])), ("dp", Tensor(dp, shape: [n, m]))])
    },
]

/// Rows of logits of a class; numbers or -infinity, except for the specials.
func logits(_ n: Int, _ m: Int, _ caseClass: CaseClass, _ random: inout FuzzRandom) -> [Float] {
    var values: [Float] = []
    for _ in 0..<n {
        // A row whose log-sum-exp is about 0, for the class that cancels.
        let level = Float(random.integer(in: -4...4))
        let isAllInfinite = random.chance(6)
        for _ in 0..<m {
            let value: Float =
                switch caseClass {
                case .ties: level
                case .subnormals: random.float(0...2)
                case .overflow:
                    random.chance(2) ? random.float(126...134) : random.float(133...random.pick([135, 150, 254]))
                case .cancellation:
                    -CorrectlyRounded.log(SoftFloat32.convert(UInt64(m))) + Float(random.integer(in: -2...2)) * 0x1p-22
                case .infiniteLogits: isAllInfinite || random.chance(3) ? -.infinity : random.float(118...129)
                case .specials: random.chance(10) ? random.special() : random.float(118...129)
                default: random.chance(8) ? random.float(129...131) : random.float(118...129)
                }
            values.append(value)
        }
    }
    return values
}

/// The largest less the least finite logit, as fp32 constants of Q3 need it.
func spread(_ logits: [Float]) -> Float {
    let finite = logits.filter(\.isFinite)
    let spread = (finite.max() ?? 0) - (finite.min() ?? 0)
    return spread.isFinite ? spread.rounded(.up) : 0x1p127
}

let visibilityGenerators: [CaseGenerator] = [
    CaseGenerator(
        "visibility.dense", [.random] + maskClasses,
        repair: { draft in
            guard let tokens = draft.inputs["visibility_start"]?.shape.last else { return }
            let isByQuery = draft.text("orientation") == MaskOrientation.byQuery.rawValue
            draft.recipe[isByQuery ? "queries" : "keys"] = .integer(Int64(tokens))
            let (keys, queries) = (draft.integer("keys") ?? 0, draft.integer("queries") ?? 0)
            repairIntervals(&draft, length: isByQuery ? keys : (draft.integer("query_offset") ?? 0) + queries)
        }
    ) { caseClass, random in
        let b = 1 + random.below(3)
        let mask = MaskDraft(caseClass, batch: b, longest: 40, &random)
        return Draft(
            mask.recipe + ["keys": .integer(Int64(mask.keys)), "queries": .integer(Int64(mask.queries))],
            mask.inputs(batch: b))
    },
    CaseGenerator(
        "visibility.tree", [.random, .tileEdge, .degenerate],
        repair: { draft in
            // What lost its parent becomes the child of the node before, which keeps the order depth-first.
            guard let parents = try? draft.inputs["parent"]?.integers(Int32.self) else { return }
            let repaired = parents.enumerated().map { $1 < $0 ? $1 : Int32($0) - 1 }
            draft.replace("parent", vector(repaired))
        }
    ) { caseClass, random in
        let nodes =
            caseClass == .degenerate
            ? random.below(2) : caseClass == .tileEdge ? random.edgeSize(atMost: 33) : 1 + random.below(20)
        let tree = MaskDraft.tree(nodes: nodes, &random)
        return Draft([:], [("parent", vector(tree.parents)), ("length", vector(tree.lengths))])
    },
    CaseGenerator(
        "visibility.build", [.random, .maskWindow, .tileEdge, .degenerate],
        repair: { draft in
            if draft.text("kind") != "prefix" { draft.drop("prefix") }
            if draft.text("kind") != "window" { draft.recipe["window"] = nil }
        }
    ) { caseClass, random in
        let documents = caseClass == .degenerate ? random.below(2) : 1 + random.below(6)
        let lengths = (0..<documents).map { _ in
            Int32(
                caseClass == .degenerate
                    ? 1 : caseClass == .tileEdge ? random.edgeSize(atMost: 49) : 1 + random.below(12))
        }
        let kind = caseClass == .maskWindow ? "window" : random.pick(Visibility.Kind.allCases).rawValue
        var recipe: [String: JSONValue] = ["kind": .string(kind)]
        if kind == "window" { recipe["window"] = .integer(random.pick([1, 2, 5, 11, 12, 13, 1000, Int64(Int32.max)])) }
        var inputs = [("length", vector(lengths))]
        if kind == "prefix" {
            inputs.append(("prefix", vector(lengths.map { length in Int32(random.below(Int(length) + 3)) })))
        }
        return Draft(recipe, inputs)
    },
]
