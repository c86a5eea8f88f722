import Cases
import ExactMath
import JSON
import ModelSpec
import Reference

func attentionFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [
        builder.file("attention", attentionCases(builder)), builder.file("rows", rowCases(builder)),
        builder.file(
            "edges",
            attentionSentinelCases(builder) + attentionTermCases(builder) + attentionDoubleRoundingCases(builder)
                + rowDoubleRoundingCases(builder)),
        attentionShapeFile(builder),
    ]
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
let attentionKappa: Float = 81920

private func attentionCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []

    func add(
        _ name: String, _ why: String, _ sizes: Sizes, _ orientation: MaskOrientation, start: [Int32], limit: [Int32],
        offset: Int = 0, window: Int? = nil, scale: Float? = nil, dot: DotRecipe = .pairedFTZ, c: Float = 0x1p-7,
        forms: [ZRegForm] = [.folded], backward: Bool = true, forward: Bool = true,
        exponents: ClosedRange<Int> = 120...128, aimed: AimedTensors? = nil,
        change: (inout [UInt16], inout [UInt16], inout [UInt16]) -> Void = { _, _, _ in }
    ) {
        var random = builder.random(name)
        let (b, h, g, q, t, d) = (sizes.b, sizes.h, sizes.g, sizes.q, sizes.t, sizes.d)
        var query = random.bf16s(b * h * q * d, exponents: exponents)
        var key = random.bf16s(b * g * t * d, exponents: 120...128)
        var value = random.bf16s(b * g * t * d, exponents: 118...129)
        change(&query, &key, &value)
        if let aimed { (query, key, value) = (aimed.query, aimed.key, aimed.value) }
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
        if forward {
            cases.append(
                builder.makeCase("forward-\(name)", "attention.forward", why: why, recipe: recipe, inputs: inputs))
        }
        guard backward else { return }
        var withGradient = inputs
        let gradient = aimed?.outputGradient ?? random.bf16s(b * h * q * d, exponents: 115...127)
        withGradient.append("do", Tensor(bf16: gradient, shape: [b, h, q, d]))
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
    aimedCases()
    return cases

    func aimedCases() {
        // Query 0 sees nothing, no query sees key 0: pairs on the place among the visible are others.
        let cancelling = Sizes(h: 3, g: 1, q: 37, t: 37, d: 37)
        var starts = [Int32](repeating: 1, count: 37)
        starts[0] = 37
        for dot in DotRecipe.allCases {
            let name = "cancelling-\(dot.rawValue)"
            add(
                name,
                "large pairs that cancel in every sum, over keys, queries, heads and dimensions: any other order, precision or pairing shows in bf16",
                cancelling, .byQuery, start: starts, limit: [Int32](repeating: 37, count: 37), offset: 1, dot: dot,
                forms: [.folded, .rowDot],
                aimed: cancellingTensors(builder, name, cancelling, first: 1))
        }
        let tiled = Sizes(h: 4, g: 1, q: 29, t: 71, d: 21)
        let (tiledStart, tiledLimit) = full(1, 29, 71)
        add(
            "cancelling-tiles", "large pairs of keys that cancel across tiles of 32 and 64; four heads of one group",
            tiled, .byQuery, start: tiledStart, limit: tiledLimit,
            aimed: cancellingTensors(builder, "cancelling-tiles", tiled, first: 0))

        let ties = logitsOfTiedProbabilities(16)
        let tied = Sizes(h: 1, g: 1, q: 16, t: 2, d: 3)
        var tiedTensors = AimedTensors()
        tiedTensors.query = ties.flatMap(bf16Parts)
        tiedTensors.key = [0, 0, 0, 0x3F80, 0x3F80, 0x3F80]
        tiedTensors.value = [0, 0, 0, 0x3F80, 0x4000, 0xC080]
        tiedTensors.outputGradient = (0..<16).flatMap { [0x3F80, $0 % 2 == 0 ? 0x3F80 : 0xBF80, 0x4000] }
        add(
            "tied-probabilities",
            "P on a tie between two bf16 numbers: a product with the reciprocal of the sum, or exp(s - Z), falls to the other side",
            tied, .byQuery, start: full(1, 16, 2).start, limit: full(1, 16, 2).limit, scale: 1, dot: .chainIEEE,
            aimed: tiedTensors)

        let small = Sizes(h: 1, g: 1, q: 24, t: 37, d: 4)
        var random = builder.random("small-z")
        var smallTensors = AimedTensors()
        var slopes = random.bf16s(36, exponents: 127...127).map { $0 & 0x7FFF } + [0]
        slopes[0] = 0x3F80
        var smallStarts: [Int32] = []
        for i in 0..<24 {
            let start = i % 2 == 0 ? 2 * (i % 4) + 1 : 0
            let slope = random.bf16(exponents: 128...128) & 0x7FFF | 0x8040
            let sum = slopes[start...].reduce(Float(0)) {
                $0
                    + CorrectlyRounded.exp(
                        SoftFloat32.convert(bfloat16Bits: slope) * SoftFloat32.convert(bfloat16Bits: $1))
            }
            smallTensors.query += bf16Parts(-CorrectlyRounded.log(sum) + Float(2 * i - 23) * 0x1p-14) + [slope]
            smallStarts.append(Int32(start))
        }
        smallTensors.key = slopes.flatMap { [0x3F80, 0x3F80, 0x3F80, $0] }
        smallTensors.value = random.bf16s(37 * 4, exponents: 118...129)
        smallTensors.outputGradient = (0..<24).flatMap { row in
            row % 4 != 3 ? [UInt16](repeating: 0, count: 4) : random.bf16s(4, exponents: 100...104)
        }
        add(
            "small-z",
            "Z near 0, where the maximum and the logarithm cancel, and no other gradient: dS shows the last bits of both",
            small, .byQuery, start: smallStarts, limit: full(1, 24, 37).limit, scale: 1, forms: [.folded, .unfolded],
            aimed: smallTensors)

        let tiny = Sizes(h: 2, g: 1, q: 5, t: 9, d: 6)
        for dot in DotRecipe.allCases {
            func tensors(
                _ name: String, q: ClosedRange<Int>, k: ClosedRange<Int>, v: ClosedRange<Int>, d: ClosedRange<Int>
            )
                -> AimedTensors
            {
                var random = builder.random("\(name)-\(dot.rawValue)")
                var tensors = AimedTensors()
                tensors.query = random.bf16s(2 * 5 * 6, exponents: q)
                tensors.key = random.bf16s(9 * 6, exponents: k)
                tensors.value = random.bf16s(9 * 6, exponents: v)
                tensors.outputGradient = random.bf16s(2 * 5 * 6, exponents: d)
                return tensors
            }
            add(
                "subnormal-queries-\(dot.rawValue)", "subnormal queries under a scale that makes logits of them", tiny,
                .byQuery, start: fewStart, limit: fewLimit, scale: 0x1p116, dot: dot,
                aimed: tensors("subnormal-queries", q: 0...3, k: 133...136, v: 118...126, d: 118...122))
            add(
                "subnormal-values-\(dot.rawValue)", "subnormal values, and outputs below 2^-126", tiny, .byQuery,
                start: fewStart, limit: fewLimit, dot: dot, c: 0, forms: ZRegForm.allCases,
                aimed: tensors("subnormal-values", q: 124...127, k: 124...127, v: 0...3, d: 133...136))
            add(
                "subnormal-gradients-\(dot.rawValue)", "subnormal gradients of the output, and dS below 2^-126", tiny,
                .byQuery, start: fewStart, limit: fewLimit, dot: dot, c: 0, forward: false,
                aimed: tensors("subnormal-gradients", q: 124...127, k: 124...127, v: 124...127, d: 0...3))
        }
    }
}

/// Tensors of an attention that are made for one purpose.
private struct AimedTensors {
    var query: [UInt16] = []
    var key: [UInt16] = []
    var value: [UInt16] = []
    var outputGradient: [UInt16] = []
}

/// Tensors of one batch entry and one group of heads in which large terms cancel in pairs, exactly, in every sum.
///
/// Two keys of a pair have the same logits and the same dP, so the same P and dS: what stands in k, and in v, with opposite signs in dimensions that
/// queries, or dO, leave out cancels in dq, and in o. So do two queries of a pair in dk and dv. Some dimensions of q, and of dO, cancel in pairs within
/// the scores and dP. Keys before `first` and the last one are in no pair, nor is query 0.
private func cancellingTensors(_ builder: CaseBuilder, _ name: String, _ sizes: Sizes, first: Int) -> AimedTensors {
    var random = builder.random("\(name)-tensors")
    let (d, t, rows) = (sizes.d, sizes.t, sizes.h * sizes.q)
    var tensors = AimedTensors()
    func opposite(_ x: UInt16) -> UInt16 { x ^ 0x8000 }

    // Partners: -1 for none, the second of a pair names the first.
    func partners(_ count: Int, _ isFree: (Int) -> Bool, single: Int) -> (order: [Int], partner: [Int]) {
        let free = permutation(&random, count).filter(isFree)
        var partner = [Int](repeating: -1, count: count)
        let paired = free.dropFirst(single)
        for place in stride(from: paired.startIndex, to: paired.endIndex - 1, by: 2) {
            partner[paired[place + 1]] = paired[place]
            partner[paired[place]] = paired[place]
        }
        // Firsts before seconds.
        let order = (0..<count).sorted { a, b in
            let (second, other) = (partner[a] >= 0 && partner[a] != a, partner[b] >= 0 && partner[b] != b)
            return second == other ? a < b : !second
        }
        return (order, partner)
    }
    let keys = partners(t, { $0 >= max(1, first) && $0 < t - 1 }, single: 4)
    let queries = partners(rows, { $0 % sizes.q != 0 }, single: 5)

    /// Dimensions by what they do: pairs within a dot product, what remains of it, and where one factor is 0.
    struct Roles {
        var pairs: [(Int, Int)] = []
        var rest: [Int] = []
        var ofKeys: [Int] = []
        var ofQueries: [Int] = []
    }
    func roles() -> Roles {
        var order = permutation(&random, d)[...]
        var roles = Roles()
        let pairs = d >= 30 ? 5 : 3
        for _ in 0..<pairs { roles.pairs.append((order.removeFirst(), order.removeFirst())) }
        for _ in 0..<3 { roles.rest.append(order.removeFirst()) }
        roles.ofKeys = Array(order.prefix(order.count / 2))
        roles.ofQueries = Array(order.dropFirst(order.count / 2))
        return roles
    }
    /// A row of keys (k or v): of its pair's first the same, with opposite signs where only keys stand.
    func makeKeys(_ roles: Roles, pairs: ClosedRange<Int>, rest: ClosedRange<Int>, constant: Bool) -> [UInt16] {
        var all = [UInt16](repeating: 0, count: t * d)
        for j in keys.order {
            let partner = keys.partner[j]
            if partner >= 0 && partner != j {
                for c in 0..<d { all[j * d + c] = all[partner * d + c] }
                for c in roles.ofKeys { all[j * d + c] = opposite(all[j * d + c]) }
                continue
            }
            for (a, b) in roles.pairs {
                all[j * d + a] = random.bf16(exponents: pairs)
                all[j * d + b] = all[j * d + a]
            }
            for c in roles.rest { all[j * d + c] = random.bf16(exponents: rest) }
            if constant { all[j * d + roles.rest[0]] = 0x3F80 }
            for (place, c) in roles.ofKeys.enumerated() {
                all[j * d + c] = random.bf16(exponents: partner == j ? 134...137 : 124 - place...126 - place)
            }
        }
        return all
    }
    func makeQueries(_ roles: Roles, pairs: ClosedRange<Int>, rest: ClosedRange<Int>, constant: Bool) -> [UInt16] {
        var all = [UInt16](repeating: 0, count: rows * d)
        for i in queries.order {
            let partner = queries.partner[i]
            if partner >= 0 && partner != i {
                for c in 0..<d { all[i * d + c] = all[partner * d + c] }
                for c in roles.ofQueries { all[i * d + c] = opposite(all[i * d + c]) }
                continue
            }
            for (a, b) in roles.pairs {
                all[i * d + a] = random.bf16(exponents: pairs)
                all[i * d + b] = opposite(all[i * d + a])
            }
            for c in roles.rest { all[i * d + c] = random.bf16(exponents: rest) }
            // dP is nearly the same for every key.
            if constant { all[i * d + roles.rest[0]] = random.bf16(exponents: 134...135) }
            for (place, c) in roles.ofQueries.enumerated() {
                all[i * d + c] = random.bf16(exponents: partner == i ? 134...137 : 124 - place...126 - place)
            }
        }
        return all
    }
    let (scores, gradients) = (roles(), roles())
    tensors.key = makeKeys(scores, pairs: 130...131, rest: 127...129, constant: false)
    tensors.query = makeQueries(scores, pairs: 131...133, rest: 127...128, constant: false)
    tensors.value = makeKeys(gradients, pairs: 128...130, rest: 124...126, constant: true)
    tensors.outputGradient = makeQueries(gradients, pairs: 130...132, rest: 123...125, constant: true)
    // One query of dP without cancellation, alone in one dimension of dk: there the bounds say something, so that they judge and not the bits (Q3).
    if let plain = (0..<rows).first(where: { queries.partner[$0] < 0 && $0 % sizes.q != 0 }) {
        for (a, b) in gradients.pairs {
            tensors.outputGradient[plain * d + a] = 0
            tensors.outputGradient[plain * d + b] = 0
        }
        tensors.outputGradient[plain * d + gradients.rest[0]] = 0
        let dimension = scores.ofQueries[0]
        for i in 0..<rows { tensors.query[i * d + dimension] = i == plain ? 0x3F80 : 0 }
    }
    return tensors
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
