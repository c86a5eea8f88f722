import ExactMath
import GoldenIO
import JSON
import ModelSpec
import Reference

func attentionFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [builder.file("attention", attentionCases(builder)), builder.file("rows", rowCases(builder))]
}

/// Sizes of one attention.
private struct Sizes {
    var b = 1
    var h = 2
    var g = 1
    var q: Int
    var t: Int
    var d: Int
}

/// kappa of Q3 for attention: a factor of P or dS that is rounded to bf16 errs by 2^-8 of itself, 2^16 in units of 2^-24; a quarter more for
/// everything in fp32.
private let attentionKappa: Float = 81920

private func attentionCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []

    func add(
        _ name: String, _ why: String, _ sizes: Sizes, _ orientation: MaskOrientation, start: [Int32], limit: [Int32],
        offset: Int = 0, window: Int? = nil, scale: Float? = nil, dot: DotRecipe = .pairedFTZ, c: Float = 0x1p-7,
        forms: [ZRegForm] = [.folded], backward: Bool = true, exponents: ClosedRange<Int> = 120...128,
        change: (inout [UInt16], inout [UInt16], inout [UInt16]) -> Void = { _, _, _ in }
    ) {
        var random = builder.random(name)
        let (b, h, g, q, t, d) = (sizes.b, sizes.h, sizes.g, sizes.q, sizes.t, sizes.d)
        var query = random.bf16s(b * h * q * d, exponents: exponents)
        var key = random.bf16s(b * g * t * d, exponents: 120...128)
        var value = random.bf16s(b * g * t * d, exponents: 118...129)
        change(&query, &key, &value)
        let tokens = orientation == .byQuery ? q : t
        let inputs: TensorGroup = [
            NamedTensor("q", Tensor(bf16: query, shape: [b, h, q, d])),
            NamedTensor("k", Tensor(bf16: key, shape: [b, g, t, d])),
            NamedTensor("v", Tensor(bf16: value, shape: [b, g, t, d])),
            NamedTensor("visibility_start", Tensor(start, shape: [b, tokens])),
            NamedTensor("visibility_limit", Tensor(limit, shape: [b, tokens])),
        ]
        let factor = scale ?? CorrectlyRounded.rsqrt(SoftFloat32.convert(UInt64(d)))
        var recipe = JSONValue.entries("scale", factor).merging(JSONValue.entries("kappa", attentionKappa)) { $1 }
        recipe["n"] = 0
        recipe["orientation"] = .string(orientation.rawValue)
        recipe["query_offset"] = .integer(Int64(offset))
        recipe["dot"] = .string(dot.rawValue)
        if let window { recipe["window"] = .integer(Int64(window)) }
        cases.append(builder.makeCase("forward-\(name)", "attention.forward", why: why, recipe: recipe, inputs: inputs))
        guard backward else { return }
        var withGradient = inputs
        withGradient.append("do", Tensor(bf16: random.bf16s(b * h * q * d, exponents: 115...127), shape: [b, h, q, d]))
        recipe.merge(JSONValue.entries("zreg_c", c)) { $1 }
        for form in forms {
            recipe["form"] = .string(form.rawValue)
            cases.append(
                builder.makeCase(
                    "backward-\(name)\(forms.count > 1 ? "-\(form.rawValue)" : "")", "attention.backward", why: why,
                    recipe: recipe, inputs: withGradient))
        }
    }

    func full(_ b: Int, _ count: Int, _ length: Int) -> (start: [Int32], limit: [Int32]) {
        ([Int32](repeating: 0, count: b * count), [Int32](repeating: Int32(length), count: b * count))
    }
    let scaled = builder.tier.pick(1, 2, 4)
    let causalLength = 19 * scaled
    // The lists are valid by construction.
    guard let causal = try? Visibility.byKey(lengths: [Int32(causalLength)]),
        let documents = try? Visibility.byKey(lengths: [5, 1, 9, 2]),
        let prefix = try? Visibility.byQuery(.prefix, lengths: [11, 6], prefixes: [4, 20]),
        let tree = try? Visibility.tree(parents: [-1, 0, 1, 1, 0, 4], lengths: [4, 3, 2, 3, 2, 3]),
        let drafts = try? Visibility.drafts(cached: 9, parents: [-1, 0, 0, -1], lengths: [2, 2, 1, 3])
    else { preconditionFailure("the masks of the cases are valid") }

    add(
        "causal-grouped",
        "grouped heads, one odd length: head h uses key/value head h div 2; chains over heads and queries",
        Sizes(b: 2, h: 4, g: 2, q: causalLength, t: causalLength, d: 8), .byKey, start: causal.start + causal.start,
        limit: causal.limit + causal.limit, forms: ZRegForm.allCases)
    add(
        "causal-chain-ieee", "the other recipe, gradual underflow",
        Sizes(h: 2, g: 1, q: causalLength, t: causalLength, d: 6), .byKey,
        start: causal.start, limit: causal.limit, dot: .chainIEEE)
    let (fullStart, fullLimit) = full(2, 7, 13)
    add(
        "full", "every key visible, more keys than queries, one head each", Sizes(b: 2, h: 2, g: 2, q: 7, t: 13, d: 4),
        .byQuery, start: fullStart, limit: fullLimit, forms: [.folded, .unfolded])
    add(
        "window", "a window on a by-key mask", Sizes(h: 2, g: 1, q: causalLength, t: causalLength, d: 4), .byKey,
        start: causal.start, limit: causal.limit, window: 5)
    add(
        "documents", "packed documents: pairs stay those of the absolute index where a document begins at an odd one",
        Sizes(h: 3, g: 1, q: 17, t: 17, d: 4), .byKey, start: documents.start, limit: documents.limit)
    add(
        "prefix", "bidirectional prompts, the second longer than its document", Sizes(h: 2, g: 1, q: 17, t: 17, d: 4),
        .byQuery, start: prefix.start, limit: prefix.limit)
    add(
        "tree", "a document tree: siblings never meet", Sizes(h: 2, g: 1, q: 17, t: 17, d: 4), .byKey,
        start: tree.start, limit: tree.limit)
    add(
        "drafts", "draft branches after a cache of nine: the query's index is its stored one, its position is not",
        Sizes(h: 2, g: 1, q: 8, t: 17, d: 4), .byKey, start: drafts.start, limit: drafts.limit, offset: 9)
    add(
        "one-query", "one token after a cache, by query", Sizes(h: 4, g: 1, q: 1, t: 23, d: 8), .byQuery, start: [3],
        limit: [23], offset: 22)
    add(
        "nothing-visible", "rows that see nothing and keys that nobody sees: zeros, never NaN",
        Sizes(h: 2, g: 1, q: 6, t: 6, d: 4), .byQuery,
        start: [0, 2, 6, 1, 0, 3], limit: [0, 2, 6, 4, 1, 5])
    add(
        "masked-nan", "NaN and infinity where nothing looks have no effect", Sizes(h: 1, g: 1, q: 5, t: 6, d: 4),
        .byQuery, start: [1, 1, 1, 1, 1],
        limit: [2, 3, 4, 5, 5]
    ) { _, key, value in
        for d in 0..<4 { (key[d], value[d], key[20 + d], value[20 + d]) = (0x7FC1, 0x7F80, 0xFF80, 0x7F81) }
    }
    let (one, oneLimit) = full(1, 1, 1)
    add(
        "single", "one query, one key: P is 1, dS is dZ alone", Sizes(h: 1, g: 1, q: 1, t: 1, d: 2), .byQuery,
        start: one, limit: oneLimit, forms: [.folded, .unfolded])
    for (name, c) in [("zero", 0), ("minus-zero", -0.0)] as [(String, Float)] {
        let (start, limit) = full(1, 5, 9)
        add(
            "c-\(name)", "c = \(name == "zero" ? "0" : "-0") leaves the term out", Sizes(h: 2, g: 1, q: 5, t: 9, d: 4),
            .byQuery, start: start, limit: limit, c: c)
    }
    let (fewStart, fewLimit) = full(1, 5, 9)
    add(
        "c-negative", "a negative c drives Z away from 0", Sizes(h: 2, g: 1, q: 5, t: 9, d: 4), .byQuery,
        start: fewStart, limit: fewLimit, c: -0.5)
    add(
        "large-logits", "logits in the hundreds: P underflows, bf16 is spaced by 1 and more",
        Sizes(h: 1, g: 1, q: 6, t: 11, d: 4), .byQuery, start: full(1, 6, 11).start, limit: full(1, 6, 11).limit,
        exponents: 131...133)
    add(
        "odd-dimension", "an odd head dimension: the pair's other half is padding", Sizes(h: 2, g: 1, q: 5, t: 9, d: 5),
        .byQuery, start: fewStart, limit: fewLimit)
    add(
        "negative-scale", "a scale that is given, and negative", Sizes(h: 1, g: 1, q: 5, t: 9, d: 4), .byQuery,
        start: fewStart, limit: fewLimit, scale: -0.3)
    add(
        "infinite-logits", "a key at -infinity has weight 0; +infinity or NaN make the row NaN",
        Sizes(h: 3, g: 3, q: 3, t: 5, d: 2), .byQuery,
        start: [0, 0, 0], limit: [5, 5, 5], backward: false
    ) { query, key, _ in
        // Head 0: -infinity against positive queries; head 1: +infinity; head 2: NaN.
        for i in 0..<6 { query[i] &= 0x7FFF }
        for i in 6..<12 { query[i] &= 0x7FFF }
        (key[2], key[10 + 4], key[20 + 6]) = (0xFF80, 0x7F80, 0x7F81)
    }
    add(
        "ties",
        "two keys of weight 1/2: o lies half way between two bf16 numbers, at an even and an odd one, a negative and a subnormal one",
        Sizes(h: 1, g: 1, q: 3, t: 2, d: 4), .byQuery, start: [0, 0, 0], limit: [2, 2, 2], dot: .chainIEEE
    ) { query, _, value in
        for i in query.indices { query[i] = 0 }
        value.replaceSubrange(0..<8, with: [0x3F80, 0x3F81, 0xBF80, 0x0001, 0x3F81, 0x3F82, 0xBF81, 0x0002])
    }
    add(
        "infinite-gradients",
        "an infinite and a NaN value: rows that see them are infinite or NaN, the gradients of keys and queries that meet neither stay finite",
        Sizes(h: 1, g: 1, q: 4, t: 7, d: 2), .byQuery, start: [0, 2, 4, 0], limit: [2, 4, 6, 2],
        forms: ZRegForm.allCases
    ) { _, _, value in (value[6], value[11]) = (0x7F80, 0x7F81) }
    add(
        "subnormal", "subnormal factors and products", Sizes(h: 1, g: 1, q: 4, t: 7, d: 4), .byQuery,
        start: full(1, 4, 7).start,
        limit: full(1, 4, 7).limit, exponents: 0...3)
    return cases
}

private func rowCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(_ name: String, _ why: String, n: Int, m: Int, c: Float = 0x1p-6, _ s: [Float], dp: [Float]? = nil) {
        var random = builder.random("rows-\(name)")
        let gradients = dp ?? random.floats(n * m, exponents: 115...128)
        // Q3: fl(s - max) errs by half a unit of up to the spread, and so does P relatively.
        var spread: Float = 0
        for row in 0..<n {
            let values = s[row * m..<(row + 1) * m].filter(\.isFinite)
            if let least = values.min(), let most = values.max() { spread = max(spread, most - least) }
        }
        let kappa = (4 + spread).rounded(.up)
        for form in ["folded", "unfolded"] {
            var recipe = JSONValue.entries("zreg_c", c).merging(JSONValue.entries("kappa", kappa)) { $1 }
            recipe["n"] = .integer(Int64(m))
            recipe["form"] = .string(form)
            cases.append(
                builder.makeCase(
                    "\(name)-\(form)", "zreg.rows", why: why, recipe: recipe,
                    inputs: [
                        NamedTensor("s", Tensor(s, shape: [n, m])),
                        NamedTensor("dp", Tensor(gradients, shape: [n, m])),
                    ]))
        }
    }
    var random = builder.random("rows")
    let (n, m) = builder.tier.pick((8, 67), (64, 257), (256, 1031))
    add(
        "typical", "rows of a prime length: sixteen lanes that end early", n: n, m: m,
        random.floats(n * m, exponents: 118...129))
    add("lengths-16", "rows of exactly one round of the lanes", n: 4, m: 16, random.floats(64, exponents: 118...129))
    add("one-column", "P is 1: dS is dZ", n: 5, m: 1, [0, 3, -3, 1e4, -1e-3])
    add("no-columns", "nothing to sum: zeros", n: 3, m: 0, [])
    add(
        "equal", "equal logits: P = 1/m, Z = s + log m", n: 3, m: 7,
        [Float](repeating: 2, count: 7) + [Float](repeating: -5, count: 7) + [Float](repeating: 0, count: 7))
    add(
        "near-zero", "Z is nearly 0: the sign of dZ and of -0", n: 2, m: 4,
        [-1.3862944, -1.3862944, -1.3862944, -1.3862944, -0.6931472, -0.6931472, -.infinity, -.infinity])
    add(
        "minus-infinity", "columns at -infinity have P = 0", n: 2, m: 6,
        [0, -.infinity, 1, -.infinity, 2, 0.5, -.infinity, 3, -.infinity, 3, -1, -.infinity])
    add("c-zero", "c = 0: no term", n: 2, m: 9, c: 0, random.floats(18, exponents: 120...128))
    add(
        "c-large", "a c so large that the term outweighs the rest", n: 2, m: 9, c: 64,
        random.floats(18, exponents: 120...128))
    add(
        "far", "logits a hundred apart: P underflows gradually", n: 2, m: 8,
        [0, -10, -50, -80, -90, -95, -100, -104, 100, 0, 12, 96, 4, 30, 11, 5])
    return cases
}
