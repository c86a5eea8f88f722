import Cases
import ExactMath
import Goldens

// layer.crossEntropy and layer.sparseCrossEntropy: clauses T2, K4 and Z4 once more, under choices.

extension DeviationCatalog {
    static let crossEntropyFamily = VariantFamily(
        name: "crossEntropy", operations: ["layer.crossEntropy"],
        deviations: lossDeviations(isSparse: false)
            + named(
                "loss", ["T2"],
                [
                    ("target.next-row", "takes the target of the next row"),
                    ("target.next-token", "takes the token after the target"),
                    ("target.logit-by-log", "takes the loss as -log(P) of the target"),
                    ("one-hot.added", "adds 1 at the target instead of subtracting it"),
                    ("one-hot.missing", "does not subtract 1 at the target"),
                    ("one-hot.negated", "takes the one-hot row less P"),
                    ("one-hot.after-mean", "subtracts the rounded 1/count at the target, after P is scaled"),
                    ("ignored.as-token-0", "takes token 0 where there is no target"),
                    ("ignored.as-last-token", "takes the last token where there is no target"),
                    ("ignored.gradient-kept", "keeps P as the gradient of rows without a target"),
                    ("ignored.zreg-kept", "keeps the z-regulariser's gradient in rows without a target"),
                ]) + TileDeviations.outputs, compute: crossEntropy)

    @Sendable private static func crossEntropy(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        let loss = try LossVariant(given, choices)
        var targets = given.integers("targets", Int32.self).map(Int.init)
        switch choices.on("loss.ignored") {
        case "as-token-0"?: targets = targets.map { max($0, 0) }
        case "as-last-token"?: targets = targets.map { $0 < 0 ? loss.v - 1 : $0 }
        default: break
        }
        switch choices.on("loss.target") {
        case "next-row"?: targets = targets.indices.map { targets[($0 + 1) % targets.count] }
        case "next-token"?: targets = targets.map { $0 < 0 ? $0 : ($0 + 1) % loss.v }
        default: break
        }
        let oneHot = choices.on("loss.one-hot")
        return loss.result(hasTarget: { targets[$0] >= 0 }) { row, logits, statistic in
            let target = targets[row]
            let probabilities = logits.map { loss.softmax.probability($0, statistic) }
            var value: Float = 0
            if target >= 0 {
                value =
                    choices.has("loss.target.logit-by-log")
                    ? -CorrectlyRounded.log(probabilities[target]) : loss.difference(statistic, logits[target])
            }
            var d = probabilities
            if oneHot == "negated" { d = d.map { -$0 } }
            if target >= 0 {
                switch oneHot {
                case "added"?, "negated"?: d[target] += 1
                case "missing"?, "after-mean"?: break
                default: d[target] -= 1
                }
            }
            return (value, probabilities, d, oneHot == "after-mean" && target >= 0 ? target : nil)
        }
    }

    static let sparseCrossEntropyFamily = VariantFamily(
        name: "sparseCrossEntropy", operations: ["layer.sparseCrossEntropy"],
        deviations: named(
            "loss", ["K4", "T2"],
            [
                ("weights.total-missing", "takes q - w for the gradient in place of (sum w) q - w"),
                ("weights.normalised", "divides weights by their sum"),
                ("weights.ones", "takes 1 for every weight"),
                ("weights.bf16", "rounds weights to bf16"),
                ("slots.empty-as-token-0", "takes an empty slot for token 0"),
                ("slots.empty-in-total", "counts the weights of empty slots in their sum"),
                ("slots.last-wins", "subtracts the last weight alone of a token in several slots"),
                ("slots.added-first", "adds up the weights of a token in several slots before they are subtracted"),
                ("slots.descending", "subtracts slots in descending order"),
                ("slots.first-only", "takes the first slot alone"),
                ("mean.by-weight", "divides by the sum of all weights in place of the number of rows"),
            ]) + lossDeviations(isSparse: true)
            + SumVariant.deviations(
                "loss.slot-sum", ["T2", "K4", "R1"], what: "a row's loss",
                orders: SumVariant.someTerms, accumulations: SumVariant.ofProducts.filter { $0 != "unfused" },
                zero: false)
            + SumVariant.deviations(
                "loss.total", ["T2", "K4", "R1"], what: "the sum of the weights",
                orders: SumVariant.fewTerms, accumulations: SumVariant.ofSums, zero: false)
            + TileDeviations.outputs,
        compute: sparseCrossEntropy)

    @Sendable private static func sparseCrossEntropy(_ given: CheckedCase, _ choices: Choices) throws
        -> CaseResult
    {
        let loss = try LossVariant(given, choices)
        var ids = given.integers("ids", UInt32.self)
        var weights = given.floats("weights")
        let k = given.size("k")
        let none = UInt32.max
        let slots = choices.on("loss.slots")
        let targeted = (0..<loss.n).map { row in ids[row * k..<(row + 1) * k].contains { $0 != none } }
        if slots == "empty-as-token-0" { ids = ids.map { $0 == none ? 0 : $0 } }
        if slots == "first-only" { ids = ids.indices.map { $0 % k == 0 ? ids[$0] : none } }
        switch choices.on("loss.weights") {
        case "ones"?: weights = weights.map { _ in 1 }
        case "bf16"?: weights = weights.map(SumVariant.bf16)
        default: break
        }
        let slotSum = SumVariant(order: .lanes(16)).under(choices, "loss.slot-sum")
        let totalSum = SumVariant(order: .lanes(16)).under(choices, "loss.total")
        func total(_ row: Int) -> Float {
            totalSum.sum(
                of: (row * k..<(row + 1) * k).map {
                    ids[$0] != none || slots == "empty-in-total" ? weights[$0] : nil
                })
        }
        if choices.has("loss.weights.normalised") {
            let totals = (0..<loss.n).map(total)
            weights = weights.indices.map { weights[$0] / totals[$0 / k] }
        }
        let count: Float? =
            choices.has("loss.mean.by-weight")
            ? (0..<loss.n).reduce(Float(0)) { $0 + (targeted[$1] ? total($1) : 0) } : nil
        return loss.result(count: count, hasTarget: { targeted[$0] }) { row, logits, statistic in
            let places = (row * k..<(row + 1) * k)
            let probabilities = logits.map { loss.softmax.probability($0, statistic) }
            let value = slotSum.sum([
                places.map { place in
                    ids[place] == none
                        ? nil : (weights[place], loss.difference(statistic, logits[Int(ids[place])]))
                }
            ])
            let sum = total(row)
            let scaled = probabilities.map { choices.has("loss.weights.total-missing") ? $0 : sum * $0 }
            var d = scaled
            var added: [Int: Float] = [:]
            for place in slots == "descending" ? Array(places.reversed()) : Array(places) where ids[place] != none {
                let token = Int(ids[place])
                switch slots {
                case "last-wins"?: d[token] = scaled[token] - weights[place]
                case "added-first"?: added[token, default: 0] += weights[place]
                default: d[token] -= weights[place]
                }
            }
            for (token, weight) in added { d[token] -= weight }
            return (value, probabilities, d, nil)
        }
    }

    private static func lossDeviations(isSparse: Bool) -> [Deviation] {
        named(
            "loss", ["T2"],
            [
                ("mean.sum", "takes the sum of losses for their mean"),
                ("mean.all-rows", "divides by the number of all rows, not only of those with a target"),
                ("mean.division", "divides by the count instead of multiplying by the rounded 1/count"),
                ("gradient.not-scaled", "does not multiply the gradient by 1/count"),
                ("gradient.bf16-before-mean", "rounds the gradient to bf16 before it is multiplied by 1/count"),
                ("gradient.truncated", "cuts the gradient to bf16 instead of rounding it"),
                ("zreg.added-to-loss", "adds c Z^2 to the loss"),
                ("zreg.not-scaled", "does not multiply the z-regulariser's gradient by 1/count"),
                ("difference.from-maximum", "takes the loss as log(sum) less the logit's distance to the maximum"),
                ("difference.negated", "takes the loss with the other sign"),
                ("difference.base-2", "gives the loss in base 2"),
                ("logits.bf16", "rounds logits to bf16"),
            ])
            + ZRegVariant.termDeviations()
            + SumVariant.deviations(
                "loss.sum", ["T2", "R2"], what: "the sum of losses",
                orders: isSparse ? SumVariant.fewTerms : SumVariant.someTerms + ["blocks-128", "lanes-16"],
                accumulations: SumVariant.ofSums, zero: false)
            + SoftmaxVariant.deviations(
                tiles: [1, 4, 8, 16, 32], orders: SumVariant.rowTerms.filter { $0 != "blocks-64" },
                without: isSparse
                    ? [
                        "softmax.shift.nan-ignored", "softmax.shift.from-zero", "softmax.exp.flushed",
                        "softmax.division.flushed",
                    ] : ["softmax.shift.nan-ignored"])
    }
}

/// A mean loss of rows of logits under choices.
struct LossVariant {
    let (n, v): (Int, Int)
    let softmax: SoftmaxVariant
    private let logits: [Float]
    private let zreg: ZRegVariant
    private let sum: SumVariant
    private let (mean, gradient, term, form): (String?, String?, String?, String?)

    init(_ given: CheckedCase, _ choices: Choices) throws {
        let c = given.float("zreg_c")
        let exact = given.floats("logits")
        logits = choices.has("loss.logits.bf16") ? exact.map(SumVariant.bf16) : exact
        (n, v) = (given.size("N"), given.size("V"))
        softmax = SoftmaxVariant(choices)
        zreg = ZRegVariant(choices, c: c, form: .folded)
        sum = SumVariant(order: .lanesOfBlocks(16, 4096)).under(choices, "loss.sum")
        (mean, gradient) = (choices.on("loss.mean"), choices.on("loss.gradient"))
        (term, form) = (choices.on("loss.zreg"), choices.on("loss.difference"))
        keepsZReg = choices.has("loss.ignored.zreg-kept")
        keepsGradient = choices.has("loss.ignored.gradient-kept")
    }

    private let keepsZReg: Bool
    private let keepsGradient: Bool

    /// fl(Z - s).
    func difference(_ row: SoftmaxVariant.Row, _ s: Float) -> Float {
        switch form {
        case "from-maximum"?: CorrectlyRounded.log(row.sum) - (s - row.maximum)
        case "negated"?: s - row.z
        case "base-2"?: (row.z - s) * SoftmaxVariant.log2e
        default: row.z - s
        }
    }

    /// Everything from each row's loss, P and gradient before z-reg and mean, and the column from which 1/count is still to be subtracted.
    func result(
        count given: Float? = nil, hasTarget: (Int) -> Bool,
        _ row: (Int, [Float], SoftmaxVariant.Row) -> (Float, [Float], [Float], Int?)
    ) -> CaseResult {
        let targets = (0..<n).count(where: hasTarget)
        let count = mean == "all-rows" ? n : targets
        let reciprocal =
            given.map { 1 / $0 } ?? (mean == "sum" ? 1 : SoftFloat32.reciprocal(of: UInt64(max(1, count))))
        func averaged(_ x: Float) -> Float {
            mean == "division" && given == nil ? x / Float(max(1, count)) : x * reciprocal
        }
        var (losses, z, dlogits): ([Float], [Float], [UInt16]) = ([], [], [])
        for i in 0..<n {
            let s = Array(logits[i * v..<(i + 1) * v])
            let statistic = softmax.row(s)
            z.append(statistic.z)
            let (loss, p, d, left) = row(i, s, statistic)
            var value = hasTarget(i) ? loss : 0
            if term == "added-to-loss", hasTarget(i) { value = value + zreg.c * statistic.z * statistic.z }
            losses.append(value)
            for j in 0..<v {
                var x: Float = 0
                if hasTarget(i) || keepsGradient {
                    switch gradient {
                    case "not-scaled"?: x = zreg.regularized(d[j], p[j], statistic)
                    case "bf16-before-mean"?:
                        x = averaged(SumVariant.bf16(zreg.regularized(d[j], p[j], statistic)))
                    default:
                        x =
                            term == "not-scaled"
                            ? zreg.regularized(averaged(d[j]), p[j], statistic)
                            : averaged(zreg.regularized(d[j], p[j], statistic))
                    }
                } else if keepsZReg {
                    x = averaged(zreg.regularized(0, p[j], statistic))
                }
                if j == left { x = x - reciprocal }
                dlogits.append(
                    gradient == "truncated" ? UInt16(x.bitPattern >> 16) : SoftFloat32.roundToBFloat16(x))
            }
        }
        var result = CaseResult()
        result.output("loss", [targets == 0 ? 0 : averaged(sum.sum(of: losses))], [1])
        result.output("losses", losses, [n])
        result.output("z", z, [n])
        result.output("dlogits", bf16: dlogits, [n, v])
        return result
    }
}
