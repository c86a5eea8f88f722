import Cases
import ExactMath
import Goldens
import ModelSpec

// attention.forward, attention.backward and zreg.rows: clauses Z and V once more, under choices.

extension DeviationCatalog {
    static let attentionForwardFamily = VariantFamily(
        name: "attention-forward", operations: ["attention.forward"], deviations: AttentionVariant.forwardDeviations
    ) { given, choices in
        let attention = try AttentionVariant(given, choices)
        let forward = attention.forward()
        let rows = [attention.b, attention.h, attention.q]
        var result = CaseResult()
        result.output("o", bf16: forward.o, rows + [attention.d])
        result.output("z", forward.rows.map(\.z), rows)
        result.output("max", forward.rows.map(\.maximum), rows)
        result.output("sum", forward.rows.map(\.sum), rows)
        return result
    }

    static let attentionBackwardFamily = VariantFamily(
        name: "attention-backward", operations: ["attention.backward"],
        deviations: AttentionVariant.backwardDeviations
    ) { given, choices in
        let attention = try AttentionVariant(given, choices)
        let outputGradient = given.bf16("do")
        let zreg = ZRegVariant(
            choices, c: given.float("zreg_c"), form: given.choice("form", ZRegForm.self))
        let gradients = attention.backward(outputGradient.map(Float.init(bf16:)), zreg)
        let key = [attention.b, attention.g, attention.t, attention.d]
        var result = CaseResult()
        result.output("dq", bf16: gradients.dq, [attention.b, attention.h, attention.q, attention.d])
        result.output("dk", bf16: gradients.dk, key)
        result.output("dv", bf16: gradients.dv, key)
        return result
    }

    static let rowsFamily = VariantFamily(
        name: "rows", operations: ["zreg.rows"],
        deviations: SoftmaxVariant.deviations(
            tiles: [1, 4, 8, 16, 32, 64], orders: SumVariant.rowTerms, without: ["softmax.shift.nan-ignored"])
            + ZRegVariant.termDeviations()
            + ZRegVariant.gradientDeviations(
                forms: [
                    ("folded", "folds dZ into D, whatever form the recipe names"),
                    ("unfolded", "adds dZ P at the end, whatever form the recipe names"),
                ], orders: SumVariant.rowTerms)
            + [
                Deviation("rows.logits.bf16", "rounds the logits to bf16", ["Z1"]),
                Deviation("rows.gradients.bf16", "rounds dP to bf16", ["Z2"]),
            ] + TileDeviations.outputs
    ) { given, choices in
        let c = given.float("zreg_c")
        let form = given.choice("form")
        var s = given.floats("s")
        var dp = given.floats("dp")
        let (n, m) = (given.size("n"), given.size("m"))
        if choices.has("rows.logits.bf16") { s = s.map(SumVariant.bf16) }
        if choices.has("rows.gradients.bf16") { dp = dp.map(SumVariant.bf16) }
        let softmax = SoftmaxVariant(choices)
        let zreg = ZRegVariant(choices, c: c, form: form == "folded" ? .folded : .unfolded)
        var (z, p, ds): ([Float], [Float], [Float]) = ([], [], [])
        for i in 0..<n {
            let logits = Array(s[i * m..<(i + 1) * m])
            let gradients = Array(dp[i * m..<(i + 1) * m])
            let row = softmax.row(logits)
            let probabilities = logits.map { softmax.probability($0, row) }
            let weighted = zreg.weightedSum(probabilities, gradients)
            z.append(row.z)
            p += probabilities
            ds += zip(probabilities, gradients).map { zreg.gradient($0, $1, weighted, row) }
        }
        var result = CaseResult()
        result.output("z", z, [n])
        result.output("p", p, [n, m])
        result.output("ds", ds, [n, m])
        return result
    }
}

/// Attention under choices.
struct AttentionVariant {
    let choices: Choices
    let (b, h, g, q, t, d): (Int, Int, Int, Int, Int, Int)
    private let (query, key, value): ([Float], [Float], [Float])
    private let (start, limit): ([Int32], [Int32])
    private let orientation: MaskOrientation
    private let offset: Int
    private let window: Int?
    private let factor: Float
    private let recipe: DotRecipe
    private var softmax: SoftmaxVariant
    /// [B, Q, T]: what takes part.
    private var isVisible: [Bool] = []
    /// What is added to logits that are masked, where masking is done so.
    private let bias: Float?
    /// What stands in place of logits that are masked, where masking is done so.
    private let replacement: Float?
    /// As specified, for both.
    private var isUnmasked: [Bool] = []

    private let scaling: String?
    private let logitsFormat: String?
    private let probabilities: String?
    private let pairs: String?
    private let flashTile: Int?
    private let looksAtMasked: Bool
    private let scores: SumVariant
    private let values: SumVariant

    init(_ given: CheckedCase, _ choices: Choices) throws {
        self.choices = choices
        factor = given.float("scale")
        orientation = given.choice("orientation", MaskOrientation.self)
        offset = given.integer("query_offset")
        window = given.optionalInteger("window")
        recipe = given.choice("dot", DotRecipe.self)
        query = given.bf16("q").map(Float.init(bf16:))
        let keys = given.bf16("k").map(Float.init(bf16:))
        let values = given.bf16("v").map(Float.init(bf16:))
        (key, value) = choices.has("attention.inputs.keys-and-values-exchanged") ? (values, keys) : (keys, values)
        (b, h, g) = (given.size("B"), given.size("H"), given.size("G"))
        (q, t, d) = (given.size("Q"), given.size("T"), given.size("D"))
        start = given.integers("visibility_start", Int32.self)
        limit = given.integers("visibility_limit", Int32.self)

        scaling = choices.on("attention.scale")
        logitsFormat = choices.on("attention.logits")
        pairs = choices.on("attention.pairs")
        looksAtMasked = choices.has("softmax.shift.masked-too")
        scores = SumVariant(recipe).under(choices, "attention.scores")
        self.values = SumVariant(recipe).under(choices, "attention.values")
        softmax = SoftmaxVariant(choices)
        let flash = choices.on("attention.flash").flatMap { Int($0.split(separator: "-")[1]) }
        if let flash { softmax.tile = flash }
        flashTile = flash
        probabilities = flash == nil ? choices.on("attention.probabilities") : "unnormalised"
        let mask = choices.on("attention.mask")
        bias = mask == "added-minus-infinity" ? -.infinity : Sentinel.value(mask, "added")
        replacement = Sentinel.value(mask, "replaced-by")
        for b in 0..<b {
            for i in 0..<q {
                for j in 0..<t {
                    isVisible.append(sees(b, i, j, mask))
                    if bias != nil || replacement != nil { isUnmasked.append(sees(b, i, j, nil)) }
                }
            }
        }
        switch scaling {
        case "after-maximum"?: softmax.scale = .afterMaximum(factor)
        case "in-exponent"?: softmax.scale = .inExponent(factor)
        default: break
        }
    }

    // MARK: Visibility

    /// V1, V2.
    private func sees(_ b: Int, _ i: Int, _ j: Int, _ mask: String?) -> Bool {
        if bias != nil || replacement != nil, mask != nil { return true }
        let position = mask == "offset-ignored" ? i : offset + i
        switch mask {
        case "none"?: return true
        case "causal"?: return j <= position
        case "causal-to-the-last-key"?: return j <= i + t - q
        case "strictly-causal"?: if j >= position { return false }
        default: break
        }
        var readsByQuery = orientation == .byQuery
        if mask == "orientation-exchanged", q == t { readsByQuery.toggle() }
        let index = readsByQuery ? b * q + i : b * t + j
        let place = readsByQuery ? j : position
        if let window, mask != "window-ignored" {
            let width = mask == "window-wider" ? window + 1 : mask == "window-narrower" ? window - 1 : window
            if position - j >= width { return false }
        }
        let (first, end) = (Int(start[index]), Int(limit[index]))
        let isAfterStart =
            mask == "start-ignored" ? true : mask == "start-exclusive" ? place > first : place >= first
        let isBeforeEnd = mask == "limit-ignored" ? true : mask == "limit-inclusive" ? place <= end : place < end
        return isAfterStart && isBeforeEnd
    }

    private func visible(_ b: Int, _ i: Int) -> ArraySlice<Bool> { isVisible[(b * q + i) * t..<(b * q + i + 1) * t] }

    // MARK: Forward

    private func group(_ head: Int) -> Int {
        switch choices.on("attention.heads") {
        case "modulo"?: head % g
        case "first"?: 0
        default: head / (h / g)
        }
    }

    private func row(_ b: Int, _ h: Int, _ i: Int) -> Int { (b * self.h + h) * q + i }
    private func keyRow(_ b: Int, _ g: Int, _ j: Int) -> Int { (b * self.g + g) * t + j }

    /// fl(scale * dot) of all keys, [T].
    private func logits(_ b: Int, _ h: Int, _ i: Int, _ group: Int, visible: ArraySlice<Bool>) -> [Float?] {
        var x = Array(query[row(b, h, i) * d..<(row(b, h, i) + 1) * d])
        switch scaling {
        case "on-query"?: x = x.map { SumVariant.bf16($0 * factor) }
        case "on-query-fp32"?: x = x.map { $0 * factor }
        default: break
        }
        return zip(0..<t, visible).map { j, isVisible in
            guard isVisible || looksAtMasked else { return nil }
            let place = keyRow(b, group, j) * d
            var s = scores.sum([(0..<d).map { (x[$0], key[place + $0]) }])
            if logitsFormat == "bf16-before-scale" { s = SumVariant.bf16(s) }
            switch scaling {
            case "on-query"?, "on-query-fp32"?, "missing"?, "after-maximum"?, "in-exponent"?: break
            case "twice"?: s = factor * (factor * s)
            case "inverse-dimension"?: s = SoftFloat32.reciprocal(of: UInt64(d)) * s
            case "from-dimension"?: s = CorrectlyRounded.rsqrt(Float(d)) * s
            case "of-all-heads"?: s = CorrectlyRounded.rsqrt(Float(d * self.h)) * s
            case "division"?: s = s / (1 / factor)
            case "magnitude"?: s = factor.magnitude * s
            default: s = factor * s  // Z1
            }
            if logitsFormat == "bf16" { s = SumVariant.bf16(s) }
            if let bias, !isUnmasked[(b * q + i) * t + j] { s = s + bias }
            if let replacement, !isUnmasked[(b * q + i) * t + j] { s = replacement }
            return s
        }
    }

    /// The statistics of a row, its logits (nil where masked) and all logits.
    private func statistics(_ b: Int, _ h: Int, _ i: Int, _ group: Int) -> (SoftmaxVariant.Row, [Float?]) {
        let visible = self.visible(b, i)
        let all = logits(b, h, i, group, visible: visible)
        let s = zip(all, visible).map { $1 ? $0 : nil }
        return (softmax.row(s, all: looksAtMasked ? all.compactMap { $0 } : []), s)
    }

    struct Forward {
        var o: [UInt16] = []
        /// Before the rounding.
        var exact: [Float] = []
        var rows: [SoftmaxVariant.Row] = []
    }

    func forward() -> Forward {
        var forward = Forward()
        for b in 0..<b {
            for h in 0..<h {
                for i in 0..<q {
                    let group = self.group(h)
                    var (row, s) = statistics(b, h, i, group)
                    let output = outputRow(b, group, s, row)
                    forward.exact += output
                    forward.o += output.map(rounded)
                    switch choices.on("attention.statistics") {
                    case "sum-reciprocal"?: row.sum = s.contains { $0 != nil } ? 1 / row.sum : 0
                    case "maximum-unscaled"?: row.maximum = row.maximum / factor
                    default: break
                    }
                    forward.rows.append(row)
                }
            }
        }
        return forward
    }

    private func rounded(_ o: Float) -> UInt16 {
        choices.has("attention.output.truncated")
            ? UInt16(o.bitPattern >> 16) : SoftFloat32.roundToBFloat16(o)
    }

    /// What multiplies v: of P or e.
    private func weight(_ s: Float, _ row: SoftmaxVariant.Row, _ choice: String?) -> Float {
        switch choice {
        case "fp32"?: return softmax.probability(s, row)
        case "truncated"?:
            return Float(bitPattern: softmax.probability(s, row).bitPattern & 0xFFFF_0000)
        case "unnormalised"?: return SumVariant.bf16(softmax.exponential(s, row.shift))
        case "unnormalised-fp32"?: return softmax.exponential(s, row.shift)
        default: return SumVariant.bf16(softmax.probability(s, row))
        }
    }

    private func outputRow(_ b: Int, _ group: Int, _ s: [Float?], _ row: SoftmaxVariant.Row) -> [Float] {
        guard s.contains(where: { $0 != nil }) else { return [Float](repeating: 0, count: d) }  // V4
        let isUnnormalised = probabilities == "unnormalised" || probabilities == "unnormalised-fp32"
        if isUnnormalised, let tile = softmax.tile {
            // The accumulators are rescaled as the sum is.
            var o = [Float](repeating: 0, count: d)
            _ = softmax.onePass(s, tile) { range, shift, factor in
                let e = s[range].map { $0.map { weight($0, SoftmaxVariant.Row(shift: shift), probabilities) } }
                for c in 0..<d {
                    let terms = zip(range, e).map { j, e -> SumVariant.Term? in
                        e.map { ($0, value[keyRow(b, group, j) * d + c]) }
                    }
                    o[c] = values.sum([terms], initial: o[c] * factor)
                }
            }
            return o.map { softmax.normalized($0, row) }
        }
        let weights = s.map { $0.map { weight($0, row, probabilities) } }
        return (0..<d).map { c in
            let sum = values.sum([
                paired(
                    zip(0..<t, weights).map { j, p in p.map { ($0, value[keyRow(b, group, j) * d + c]) } })
            ])
            return isUnnormalised ? softmax.normalized(sum, row) : sum
        }
    }

    /// Terms over keys or queries with their pairs as the choice has them.
    private func paired(_ terms: [SumVariant.Term?], isOverQueries: Bool = false) -> [SumVariant.Term?] {
        switch pairs {
        case "of-visible"?: terms.filter { $0 != nil }
        case "by-position"? where isOverQueries && offset % 2 == 1: [nil] + terms
        case "padding-behind-key-0"?: [nil] + terms
        default: terms
        }
    }

    // MARK: Backward

    /// A gradient as it is written, or each part of it.
    private func store(_ gradient: Float) -> UInt16 {
        choices.has("attention.gradients.truncated") && !gradient.isNaN
            ? UInt16(gradient.bitPattern >> 16) : SoftFloat32.roundToBFloat16(gradient)
    }

    func backward(_ outputGradient: [Float], _ given: ZRegVariant)
        -> (dq: [UInt16], dk: [UInt16], dv: [UInt16])
    {
        var zreg = given
        zreg.scale = factor
        let dpSum = SumVariant(recipe).under(choices, "attention.dp")
        let dqSum = SumVariant(recipe).under(choices, "attention.dq")
        let dkSum = SumVariant(recipe).under(choices, "attention.dk")
        let dvSum = SumVariant(recipe).under(choices, "attention.dv")
        let ds = choices.on("attention.ds")
        let dvWeights = choices.on("attention.dv-weights")
        let (dqScale, dkScale) = (choices.on("attention.dq-scale"), choices.on("attention.dk-scale"))
        let forward = self.forward()
        // [B, H, Q, T]: the weights of dv and dS; nil where masked.
        var p = [Float?](repeating: nil, count: b * h * q * t)
        var s = p
        var dq = [UInt16](repeating: 0, count: query.count)
        func scaled(_ sum: Float, _ choice: String?) -> UInt16 {
            if ds == "scaled" { return store(sum) }
            return switch choice {
            case "missing"?: store(sum)
            case "twice"?: store(factor * (factor * sum))
            case "after-rounding"?: store(factor * SumVariant.bf16(sum))
            case "on-query"?: store(sum)
            default: store(factor * sum)  // Z2
            }
        }
        for b in 0..<b {
            for h in 0..<h {
                let group = self.group(h)
                for i in 0..<q {
                    let row = self.row(b, h, i)
                    let (statistic, logits) = statistics(b, h, i, group)
                    guard logits.contains(where: { $0 != nil }) else { continue }
                    let probabilities = logits.map { $0.map { softmax.probability($0, statistic) } }
                    let dp = (0..<t).map { j -> Float in
                        guard probabilities[j] != nil else { return 0 }
                        let place = keyRow(b, group, j) * d
                        return dpSum.sum([(0..<d).map { (outputGradient[row * d + $0], value[place + $0]) }])
                    }
                    let weighted: Float
                    if zreg.form == .rowDot {
                        weighted = zreg.stored(
                            zreg.weighted.sum([
                                (0..<d).map { c in
                                    let o = forward.exact[row * d + c]
                                    return (
                                        outputGradient[row * d + c],
                                        zreg.isOutputUnrounded ? o : Float(bf16: forward.o[row * d + c])
                                    )
                                }
                            ]))
                    } else {
                        weighted = zreg.weightedSum(probabilities, dp)
                    }
                    for j in 0..<t {
                        guard let probability = probabilities[j], let logit = logits[j] else { continue }
                        let exact = zreg.gradient(probability, dp[j], weighted, statistic)
                        let place = row * t + j
                        p[place] = weight(logit, statistic, dvWeights)
                        s[place] =
                            switch ds {
                            case "fp32"?: exact
                            case "truncated"?: Float(bitPattern: exact.bitPattern & 0xFFFF_0000)
                            case "scaled"?: SumVariant.bf16(factor * exact)
                            default: SumVariant.bf16(exact)
                            }
                    }
                    for c in 0..<d {
                        let terms = (0..<t).map { j -> SumVariant.Term? in
                            s[row * t + j].map { ($0, key[keyRow(b, group, j) * d + c]) }
                        }
                        dq[row * d + c] = scaled(dqSum.sum([paired(terms)]), dqScale)
                    }
                }
            }
        }
        var dk = [UInt16](repeating: 0, count: key.count)
        var dv = dk
        let chain = choices.on("attention.group")
        let isScaled = dkScale == "on-query"
        for b in 0..<b {
            for g in 0..<g {
                var heads = (0..<h).filter { group($0) == g }
                switch chain {
                case "first-only"?: heads = Array(heads.prefix(1))
                case "last-only"?: heads = Array(heads.suffix(1))
                case "descending"?: heads.reverse()
                default: break
                }
                for j in 0..<t {
                    for c in 0..<d {
                        var keyRows: [[SumVariant.Term?]] = []
                        var valueRows: [[SumVariant.Term?]] = []
                        for head in heads {
                            keyRows.append(
                                paired(
                                    (0..<q).map { i in
                                        let place = row(b, head, i)
                                        let x = query[place * d + c]
                                        return s[place * t + j].map { ($0, isScaled ? SumVariant.bf16(factor * x) : x) }
                                    }, isOverQueries: true))
                            valueRows.append(
                                paired(
                                    (0..<q).map { i in
                                        let place = row(b, head, i)
                                        return p[place * t + j].map { ($0, outputGradient[place * d + c]) }
                                    }, isOverQueries: true))
                        }
                        let place = keyRow(b, g, j) * d + c
                        dk[place] = combined(keyRows, dkSum, chain) { scaled($0, dkScale) }
                        dv[place] = combined(valueRows, dvSum, chain, store)
                    }
                }
            }
        }
        return (dq, dk, dv)
    }

    /// One chain over the heads of a group (D4), or what is made of their sums.
    private func combined(
        _ rows: [[SumVariant.Term?]], _ sum: SumVariant, _ chain: String?, _ finish: (Float) -> UInt16
    ) -> UInt16 {
        switch chain {
        case "flat"?: return finish(sum.sum([Array(rows.joined())]))
        case "queries-outermost"?:
            let flat = (0..<q).flatMap { i in rows.map { i < $0.count ? $0[i] : nil } }
            return finish(sum.sum([flat]))
        case "fp32-per-head"?:
            return finish(rows.reduce(Float(0)) { $0 + sum.sum([$1]) })
        case "bf16-per-head"?:
            return store(rows.reduce(Float(0)) { $0 + Float(bf16: finish(sum.sum([$1]))) })
        case "bf16-accumulated"?:
            return rows.reduce(UInt16(0)) {
                store(Float(bf16: $0) + Float(bf16: finish(sum.sum([$1]))))
            }
        case "mean"?: return finish(sum.sum(rows) / Float(rows.count))
        default: return finish(sum.sum(rows))
        }
    }

    // MARK: The deviations

    private static func named(_ entries: [(String, String, [String])]) -> [Deviation] {
        entries.map { Deviation("attention.\($0.0)", $0.1, $0.2) }
    }

    private static let masks =
        named([
            ("mask.limit-inclusive", "counts visibility_limit as visible", ["V1"]),
            ("mask.start-exclusive", "does not count visibility_start as visible", ["V1"]),
            ("mask.limit-ignored", "ignores visibility_limit: siblings and later documents leak", ["V1", "V2"]),
            ("mask.start-ignored", "ignores visibility_start", ["V1"]),
            ("mask.window-wider", "sees one position more than the window", ["V2"]),
            ("mask.window-narrower", "sees one position less than the window", ["V2"]),
            ("mask.window-ignored", "ignores the window", ["V2"]),
            ("mask.offset-ignored", "ignores query_offset", ["V1"]),
            ("mask.causal", "takes a causal mask in place of the one given", ["V1", "V2"]),
            (
                "mask.causal-to-the-last-key",
                "takes a causal mask that ends at the last key in place of the one given", ["V1", "V2"]
            ),
            ("mask.strictly-causal", "lets no token see itself", ["V2"]),
            ("mask.none", "sees every key", ["V1"]),
            ("mask.orientation-exchanged", "reads a by-key mask by query, and the reverse", ["V1"]),
            (
                "mask.added-minus-infinity",
                "adds -infinity to masked logits: rows that see nothing are NaN, and masked NaNs leak", ["V4", "D3"]
            ),
            ("heads.modulo", "gives query head h the key/value head h mod G", ["Z2"]),
            ("heads.first", "gives every query head the first key/value head", ["Z2"]),
            ("inputs.keys-and-values-exchanged", "takes keys for values and the reverse", ["Z1"]),
        ])
        + Sentinel.deviations(
            "attention.mask", "added", "adds * to masked logits: rows that see nothing are uniform", ["V4", "D3"])
        + Sentinel.deviations(
            "attention.mask", "replaced-by",
            "takes * for masked logits: rows that see nothing are uniform, rows of lower logits see what is masked",
            ["V4", "D3"])

    private static let scales = named([
        ("scale.on-query", "scales the query, rounded to bf16, before the dot product", ["Z1", "F4"]),
        ("scale.on-query-fp32", "scales the query in fp32 before the dot product", ["Z1"]),
        ("scale.after-maximum", "scales the difference to the maximum of unscaled logits", ["Z1"]),
        (
            "scale.in-exponent", "scales in the exponent: exp2 of one fused multiply-add with scale log2 e",
            ["Z1", "E1"]
        ),
        ("scale.missing", "does not scale the logits", ["Z1"]),
        ("scale.twice", "scales the logits twice", ["Z1"]),
        ("scale.inverse-dimension", "scales by 1/D", ["Z1"]),
        ("scale.from-dimension", "scales by 1/sqrt(D), whatever scale is given", ["Z1"]),
        ("scale.of-all-heads", "scales by 1/sqrt(H D)", ["Z1"]),
        ("scale.division", "divides by the rounded reciprocal of the scale", ["Z1"]),
        ("scale.magnitude", "loses the scale's sign", ["Z1"]),
        ("logits.bf16", "rounds logits to bf16", ["Z1", "F4"]),
        ("logits.bf16-before-scale", "rounds dot products to bf16 before they are scaled", ["Z1", "F4"]),
    ])

    private static let masked = Deviation(
        "softmax.shift.masked-too", "takes the maximum over masked keys too", ["Z1", "V1"])
    private static let pairs = named([
        ("pairs.of-visible", "forms pairs on the place among the visible terms", ["D3", "R5"]),
        ("pairs.padding-behind-key-0", "forms pairs as if a row began at an odd index", ["D1", "D4"]),
    ])

    static let forwardDeviations: [Deviation] =
        named([("probabilities.fp32", "multiplies v by P in fp32, not rounded to bf16", ["Z1", "F4"])])
        + SumVariant.deviations(
            "attention.values", ["Z1", "D1", "D2", "D3"], what: "the dot product of P and v",
            orders: SumVariant.someTerms + ["lanes-16"], flushes: ["none", "all"],
            accumulations: SumVariant.ofDots, products: true,
            zero: false)
        + SumVariant.deviations(
            "attention.scores", ["Z1", "D1", "D2"], what: "the dot product of q and k",
            orders: SumVariant.fewTerms, flushes: ["none", "all"],
            accumulations: SumVariant.ofDots, products: true, zero: false)
        + named([
            (
                "probabilities.unnormalised",
                "multiplies v by exponentials rounded to bf16 and divides by the sum at the end", ["Z1", "T3"]
            ),
            (
                "probabilities.unnormalised-fp32",
                "multiplies v by fp32 exponentials and divides by the sum at the end",
                ["Z1", "T3"]
            ),
            ("probabilities.truncated", "cuts P to bf16 instead of rounding it", ["Z1", "F4"]),
        ])
        + [1, 2, 4, 8, 16].map {
            Deviation(
                "attention.flash.tiles-\($0)",
                "goes over tiles of \($0) keys in one pass, rescales the output and divides by the sum at the end",
                ["Z1", "T3"])
        }
        + scales + masks + [masked] + pairs
        + SoftmaxVariant.deviations(
            tiles: [1, 4, 8, 16], orders: SumVariant.someTerms + ["lanes-16-of-visible"], isUnfusedToo: true,
            without: ["softmax.exp.flushed", "softmax.division.flushed"])
        + named([
            ("output.truncated", "cuts o to bf16 instead of rounding it", ["Z1", "F4"]),
            ("statistics.sum-reciprocal", "gives the reciprocal of the sum", ["Z1"]),
            ("statistics.maximum-unscaled", "gives the maximum before scaling", ["Z1"]),
        ])
        + TileDeviations.attention("keys") + TileDeviations.outputs

    static let backwardDeviations: [Deviation] =
        ZRegVariant.termDeviations(isScaled: true)
        + ZRegVariant.gradientDeviations(
            forms: [
                ("row-dot", "takes D as the dot product of do and o, whatever form the recipe names"),
                (
                    "row-dot-of-fp32-output",
                    "takes D as the dot product of do and the output before its rounding, whatever form the recipe names"
                ),
                ("folded", "folds dZ into D, whatever form the recipe names"),
                ("unfolded", "adds dZ P at the end, whatever form the recipe names"),
            ], orders: SumVariant.someTerms)
        + named([
            ("ds.fp32", "does not round dS to bf16", ["Z2", "F4"]),
            ("ds.scaled", "scales dS before it is rounded to bf16", ["Z2", "F4"]),
            ("ds.truncated", "cuts dS to bf16 instead of rounding it", ["Z2", "F4"]),
            ("dq-scale.missing", "does not scale dq", ["Z2"]), ("dq-scale.twice", "scales dq twice", ["Z2"]),
            ("dq-scale.after-rounding", "scales dq after it is rounded to bf16", ["Z2", "F4"]),
            ("dk-scale.missing", "does not scale dk", ["Z2"]), ("dk-scale.twice", "scales dk twice", ["Z2"]),
            ("dk-scale.after-rounding", "scales dk after it is rounded to bf16", ["Z2", "F4"]),
            ("dk-scale.on-query", "takes dk from the query scaled and rounded to bf16", ["Z2", "F4"]),
            ("dv-weights.fp32", "takes dv from P in fp32, not rounded to bf16", ["Z2", "F4"]),
            ("dv-weights.unnormalised", "takes dv from exponentials that are not divided by the sum", ["Z2"]),
            ("dv-weights.truncated", "takes dv from P cut to bf16 instead of rounded", ["Z2", "F4"]),
            ("gradients.truncated", "cuts dq, dk and dv to bf16 instead of rounding them", ["Z2", "F4"]),
            (
                "group.bf16-per-head",
                "rounds each head's part of dk and dv to bf16 and adds these in fp32", ["Z2", "D4"]
            ),
            ("group.bf16-accumulated", "adds each head's part of dk and dv in bf16", ["Z2", "D4"]),
            ("group.fp32-per-head", "sums each head of a group by itself and adds these in fp32", ["Z2", "D4"]),
            ("group.flat", "forms pairs over the heads of a group laid end to end", ["D4"]),
            ("group.queries-outermost", "sums over the heads of a group inside each query", ["D4"]),
            ("group.descending", "takes the heads of a group in descending order", ["D4"]),
            ("group.first-only", "gives dk and dv of the first head of a group alone", ["Z2"]),
            ("group.last-only", "gives dk and dv of the last head of a group alone", ["Z2"]),
            ("group.mean", "divides dk and dv by the number of heads of a group", ["Z2"]),
            ("pairs.by-position", "forms pairs of queries on their position, not on the stored index", ["V4", "D4"]),
        ])
        + ["dp", "dq", "dk", "dv"].flatMap { name in
            SumVariant.deviations(
                "attention.\(name)", ["Z2", "D1", "D2", "D4"], what: name == "dp" ? "dP" : name,
                orders: name == "dp" ? SumVariant.fewTerms : SumVariant.someTerms + ["lanes-16"],
                flushes: ["none", "all"],
                accumulations: SumVariant.ofDots, products: true, zero: name == "dk")
        }
        + [
            exchanged("dk", "dv"), exchanged("dq", "dk"), exchanged("dq", "dv"),
        ]
        + TileDeviations.attention("keys") + TileDeviations.attention("queries") + TileDeviations.outputs
        + SumVariant.deviations(
            "attention.scores", ["Z1", "D1", "D2"], what: "the dot product of q and k",
            orders: SumVariant.fewTerms, flushes: ["none", "all"],
            accumulations: SumVariant.ofDots, products: true, zero: false)
        + SumVariant.deviations(
            "attention.values", ["Z1", "D1", "D2", "D3"], what: "the dot product of P and v",
            orders: SumVariant.someTerms + ["lanes-16"], flushes: ["none", "all"],
            accumulations: SumVariant.ofDots, products: true,
            zero: false)
        + named([("probabilities.fp32", "multiplies v by P in fp32, not rounded to bf16", ["Z1", "F4"])])
        + scales + masks + [masked] + pairs
        + SoftmaxVariant.deviations(
            tiles: [1, 4, 8, 16], orders: SumVariant.someTerms + ["lanes-16-of-visible"],
            without: [
                "softmax.shift.nan-ignored", "softmax.shift.from-zero", "softmax.shift.from-lowest",
                "softmax.exp.flushed", "softmax.division.flushed",
            ])

    private static func exchanged(_ a: String, _ b: String) -> Deviation {
        Deviation(
            "attention.gradients.\(a)-and-\(b)-exchanged", "writes \(a) for \(b) and the reverse", ["Z2"],
            .answer { _, outputs in
                guard let x = outputs[a], let y = outputs[b], x.shape == y.shape else { return nil }
                return outputs.replacing(a, with: y).replacing(b, with: x)
            })
    }
}
