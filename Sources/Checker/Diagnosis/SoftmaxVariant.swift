import ExactMath
import ModelSpec

/// The softmax of a row of logits, its log-sum-exp and its gradient under choices on the axes "softmax.*" and "zreg.*": clauses Z1 to Z3 once more.
struct SoftmaxVariant: Sendable {
    /// A row's statistics.
    struct Row: Sendable {
        /// What is subtracted from the logits.
        var shift: Float = 0
        /// The maximum as stored.
        var maximum: Float = 0
        var sum: Float = 0
        var z: Float = 0
    }

    /// Where the scale of the logits is applied, if not to the logits.
    enum LateScale: Sendable {
        /// exp(fl(scale * fl(s - max)))
        case afterMaximum(Float)
        /// exp2(fma(s, scale log2 e, -fl(max * scale log2 e)))
        case inExponent(Float)
    }

    private let shift: String?
    /// Where the maximum starts, if not at -infinity.
    private let sentinel: Float?
    private let exponential: String?
    private let division: String?
    private let logarithm: String?
    /// The tile of one pass with rescaling; nil: two passes.
    var tile: Int?
    private var isRescalingFused = true
    private let sumsRounded: Bool
    let sum: SumVariant
    var scale: LateScale?

    static let log2e = Float(bitPattern: 0x3FB8_AA3B)
    static let ln2 = Float(bitPattern: 0x3F31_7218)

    init(_ choices: Choices) {
        shift = choices.on("softmax.shift")
        sentinel = Sentinel.value(shift, "from")
        exponential = choices.on("softmax.exp")
        division = choices.on("softmax.division")
        logarithm = choices.on("softmax.z")
        sumsRounded = choices.has("softmax.summands.bf16")
        sum = SumVariant(order: .lanes(16)).under(choices, "softmax.sum")
        if let passes = choices.on("softmax.passes") {
            tile = Int(passes.split(separator: "-")[1])
            isRescalingFused = !passes.hasSuffix("unfused")
        }
    }

    // MARK: Forward

    /// The statistics of the visible logits; of a row with nothing visible +0 (V4). `all` are those that a maximum over masked keys too looks at.
    func row(_ s: [Float?], all: [Float] = []) -> Row {
        guard let maximum = shiftOf(s, all: all) else { return Row() }
        var row = Row(shift: maximum)
        if let tile {
            (row.shift, row.sum) = onePass(s, tile) { _, _, _ in }
        } else {
            row.sum = sum.sum(of: s.map { $0.map { summand(exponential($0, maximum)) } })
        }
        row.maximum =
            switch scale {
            case .afterMaximum(let factor)?, .inExponent(let factor)?: factor * row.shift
            case nil: row.shift
            }
        row.z = z(row.maximum, row.sum)
        return row
    }

    /// One pass over tiles: the sum of those before is rescaled where the maximum grows. `visit` sees every tile with the shift of its terms and the
    /// factor for what was summed before.
    func onePass(_ s: [Float?], _ tile: Int, _ visit: (Range<Int>, Float, Float) -> Void) -> (shift: Float, sum: Float)
    {
        var shift = -Float.infinity
        var total: Float = 0
        var isFirst = true
        for start in stride(from: 0, to: s.count, by: tile) {
            let range = start..<min(start + tile, s.count)
            guard let largest = shiftOf(Array(s[range]), all: []) else { continue }
            let next = isFirst ? largest : Self.larger(shift, largest)
            let factor = isFirst ? 0 : exponential(shift, next)
            let part = sum.sum(of: s[range].map { $0.map { summand(exponential($0, next)) } })
            if isFirst {
                total = part
            } else {
                total =
                    isRescalingFused
                    ? HardwareFloat32.fusedMultiplyAdd(total, factor, part) : total * factor + part
            }
            visit(range, next, factor)
            (shift, isFirst) = (next, false)
        }
        return (shift, total)
    }

    /// e_j.
    func exponential(_ s: Float, _ shift: Float) -> Float {
        var fused: Float = 1
        switch scale {
        case .afterMaximum(let factor)?: return exponential(of: factor * (s - shift))
        case .inExponent(let factor)?: fused = factor
        case nil:
            if exponential != "base-2-fused" {
                if exponential == "exact-difference" {
                    let x = Double(s) - Double(shift)
                    guard x > -110, x < 89 else { return CorrectlyRounded.exp(s - shift) }
                    return SoftFloat32.convert(DoubleDouble.exp(DoubleDouble(x)).high)
                }
                return exponential(of: s - shift)
            }
        }
        fused = fused * Self.log2e
        return DeviationCatalog.exp2(HardwareFloat32.fusedMultiplyAdd(s, fused, -(shift * fused)))
    }

    private func exponential(of x: Float) -> Float {
        switch exponential {
        case "base-2"?: DeviationCatalog.exp2(x * Self.log2e)
        case "of-base-2"?: DeviationCatalog.exp2(x)
        case "flushed"?: SoftFloat32.flushingSubnormal(CorrectlyRounded.exp(x))
        case "bf16"?: SumVariant.bf16(CorrectlyRounded.exp(x))
        default: CorrectlyRounded.exp(x)
        }
    }

    /// P_j of a visible logit.
    func probability(_ s: Float, _ row: Row) -> Float {
        if division == "by-z" {
            switch scale {
            case .afterMaximum(let factor)?, .inExponent(let factor)?: return CorrectlyRounded.exp(factor * s - row.z)
            case nil: return CorrectlyRounded.exp(s - row.z)
            }
        }
        return normalized(exponential(s, row.shift), row)
    }

    /// x / sum, as the choice has it.
    func normalized(_ x: Float, _ row: Row) -> Float {
        switch division {
        case "reciprocal"?: x * (1 / row.sum)
        case "missing"?: x
        case "flushed"?: SoftFloat32.flushingSubnormal(x / row.sum)
        default: x / row.sum
        }
    }

    private func summand(_ e: Float) -> Float { sumsRounded ? SumVariant.bf16(e) : e }

    private func z(_ maximum: Float, _ sum: Float) -> Float {
        switch logarithm {
        case "log2-of-sum"?: return maximum + DeviationCatalog.log2(sum)
        case "base-2"?: return maximum * Self.log2e + DeviationCatalog.log2(sum)
        case "by-log2"?: return maximum + DeviationCatalog.log2(sum) * Self.ln2
        case "by-log2-fused"?:
            return HardwareFloat32.fusedMultiplyAdd(DeviationCatalog.log2(sum), Self.ln2, maximum)
        case "maximum-missing"?: return CorrectlyRounded.log(sum)
        case "logarithm-missing"?: return maximum + sum
        case "maximum"?: return maximum
        case "bf16"?: return SumVariant.bf16(maximum + CorrectlyRounded.log(sum))
        case "fp64"?:
            guard sum > 0, sum.isFinite, maximum.isFinite else { return maximum + CorrectlyRounded.log(sum) }
            return SoftFloat32.convert(DoubleDouble.log(DoubleDouble(Double(sum))).high + Double(maximum))
        default: return maximum + CorrectlyRounded.log(sum)
        }
    }

    /// R4, or what is taken in its place; nil of nothing.
    private func shiftOf(_ s: [Float?], all: [Float]) -> Float? {
        let visible = s.compactMap { $0 }
        guard let first = visible.first else { return nil }
        switch shift {
        case "missing"?: return 0
        case "first"?: return first
        case "magnitude"?: return visible.reduce(0) { Self.larger($0, $1.magnitude) } + 0
        case "from-zero"?: return visible.reduce(0, Self.larger) + 0
        case _ where sentinel != nil: return visible.reduce(sentinel ?? 0, Self.larger) + 0
        case "nan-ignored"?:
            let numbers = visible.filter { !$0.isNaN }
            return numbers.isEmpty ? .nan : numbers.dropFirst().reduce(numbers[0], Self.larger) + 0
        case "masked-too"? where !all.isEmpty: return all.dropFirst().reduce(all[0], Self.larger) + 0
        default: return visible.dropFirst().reduce(first, Self.larger) + 0  // R4
        }
    }

    private static func larger(_ a: Float, _ b: Float) -> Float { a.isNaN ? a : b.isNaN || b > a ? b : a }
}

/// The gradient of a row's softmax with the z-regulariser under choices on the axes "softmax.weighted", "softmax.d" and "zreg.*".
struct ZRegVariant: Sendable {
    private let term: String?
    private let placement: String?
    let c: Float
    let form: ZRegForm
    /// The recipe's form counts, unless a choice names another.
    let isOutputUnrounded: Bool
    let weighted: SumVariant
    private let d: String?
    private let isProduct: String?
    /// Of the logits, for the term that is multiplied by it.
    var scale: Float = 1

    init(_ choices: Choices, c: Float, form: ZRegForm) {
        term = choices.on("zreg.term")
        placement = choices.on("zreg.placement")
        self.c = c
        let chosen = choices.on("zreg.form")
        self.form =
            switch chosen {
            case "folded"?: .folded
            case "unfolded"?: .unfolded
            case "row-dot"?, "row-dot-of-fp32-output"?: .rowDot
            default: form
            }
        isOutputUnrounded = chosen == "row-dot-of-fp32-output"
        weighted = SumVariant(order: .lanes(16)).under(choices, "softmax.weighted")
        d = choices.on("softmax.d")
        isProduct = choices.on("softmax.ds")
    }

    /// D of fp32 P and dP over the visible terms; or of other factors.
    func weightedSum(_ p: [Float?], _ dp: [Float]) -> Float { stored(sumOfRow(p, dp)) }

    /// D as it is kept.
    func stored(_ sum: Float) -> Float { d == "bf16" ? SumVariant.bf16(sum) : sum }

    private func sumOfRow(_ p: [Float?], _ dp: [Float]) -> Float {
        switch d {
        case "missing"?: return 0
        case "probabilities-bf16"?:
            return weighted.sum([zip(p, dp).map { p, dp in p.map { (SumVariant.bf16($0), dp) } }])
        case "mean"?: return weighted.sum([zip(p, dp).map { p, dp in p.map { _ in (1, dp) } }])
        default: return weighted.sum([zip(p, dp).map { p, dp in p.map { ($0, dp) } }])
        }
    }

    /// dZ; nil where there is no term (Z3).
    func dz(_ row: SoftmaxVariant.Row) -> Float? {
        if c == 0 || term == "missing" { return nil }
        switch term {
        case "negated"?: return -(2 * c * row.z)
        case "factor-2-missing"?: return c * row.z
        case "doubled"?: return 4 * c * row.z
        case "c-squared"?: return 2 * (c * c) * row.z
        case "z-missing"?: return 2 * c
        case "z-squared"?: return 2 * c * row.z * row.z
        case "of-maximum"?: return 2 * c * row.maximum
        case "of-log-of-sum"?: return 2 * c * CorrectlyRounded.log(row.sum)
        case "scaled"?: return scale * (2 * c * row.z)
        case "sign-of-z"?: return row.z > 0 ? 2 * c : row.z < 0 ? -(2 * c) : 0
        case "magnitude-of-z"?: return 2 * c * row.z.magnitude
        default: return 2 * c * row.z  // Z2
        }
    }

    /// dS_j.
    func gradient(_ exact: Float, _ dp: Float, _ weighted: Float, _ row: SoftmaxVariant.Row) -> Float {
        let p = isProduct == "probabilities-bf16" ? SumVariant.bf16(exact) : exact
        func product(_ difference: Float, _ d: Float) -> Float {
            switch isProduct {
            case "distributed"?: p * dp - p * d
            case "distributed-fused"?: HardwareFloat32.fusedMultiplyAdd(p, dp, -(p * d))
            case "probability-missing"?: difference
            default: p * difference
            }
        }
        guard let dz = dz(row) else { return product(dp - weighted, weighted) }  // Z3
        switch placement {
        case "unweighted"?: return product(dp - weighted, weighted) + dz
        case "in-dp"?: return product((dp + dz) - weighted, weighted - dz)
        case "fused"?: return HardwareFloat32.fusedMultiplyAdd(dz, p, product(dp - weighted, weighted))
        default: break
        }
        switch form {
        case .folded, .rowDot:
            let d = weighted - dz
            return product(dp - d, d)
        case .unfolded: return product(dp - weighted, weighted) + dz * p
        }
    }

    /// Z4: a loss's gradient with the term.
    func regularized(_ d: Float, _ p: Float, _ row: SoftmaxVariant.Row) -> Float {
        guard let dz = dz(row) else { return d }
        return switch placement {
        case "unweighted"?: d + dz
        case "fused"?: HardwareFloat32.fusedMultiplyAdd(dz, p, d)
        default: d + dz * p
        }
    }
}

// MARK: - The deviations

extension SoftmaxVariant {
    /// Those of the forward pass. `tiles` are the sizes that the family's rows are long enough to tell.
    static func deviations(
        tiles: [Int], orders: [String], isUnfusedToo: Bool = false, without: Set<String> = []
    ) -> [Deviation] {
        var all: [Deviation] = []
        func add(_ name: String, _ summary: String, _ clauses: [String] = ["Z1"]) {
            all.append(Deviation("softmax.\(name)", summary, clauses))
        }
        add("exp.base-2", "takes exp2 of the difference times log2 e, rounded to fp32", ["Z1", "E1"])
        add(
            "exp.base-2-fused", "takes exp2 of one fused multiply-add: logit times log2 e less maximum times log2 e",
            ["Z1", "E1"])
        add("division.reciprocal", "multiplies by the reciprocal of the sum instead of dividing")
        add("division.by-z", "takes P as exp(s - Z) instead of dividing by the sum")
        all += SumVariant.deviations(
            "softmax.sum", ["Z1", "R1", "R5"], what: "the sum of exponentials", orders: orders,
            accumulations: SumVariant.ofSums, zero: false)
        for tile in tiles {
            add(
                "passes.online-\(tile)",
                "goes over tiles of \(tile) in one pass and rescales the sum with a fused multiply-add where the maximum grows",
                ["Z1", "T3"])
            guard isUnfusedToo else { continue }
            add(
                "passes.online-\(tile)-unfused",
                "goes over tiles of \(tile) in one pass and rescales the sum, product and addition rounded apart",
                ["Z1", "T3"])
        }
        add("summands.bf16", "sums exponentials that are rounded to bf16")
        add("exp.bf16", "rounds exponentials to bf16")
        add("exp.exact-difference", "takes the exponential of the difference before it is rounded")
        add("exp.flushed", "flushes subnormal exponentials to zero", ["Z1", "F3"])
        add("exp.of-base-2", "takes base 2 for base e")
        add("division.missing", "leaves probabilities unnormalised")
        add("division.flushed", "flushes subnormal probabilities to zero", ["Z1", "F3"])
        add("shift.missing", "subtracts no maximum")
        add("shift.from-zero", "starts the maximum at 0", ["Z1", "R4"])
        all += Sentinel.deviations(
            "softmax.shift", "from", "starts the maximum at * in place of -infinity", ["Z1", "R4"])
        add("shift.first", "subtracts the first visible logit", ["Z1", "R4"])
        add("shift.magnitude", "subtracts the largest magnitude", ["Z1", "R4"])
        add("shift.nan-ignored", "takes a maximum that passes over NaN", ["Z1", "R4"])
        add("z.by-log2", "takes the logarithm as log2 times ln 2, rounded to fp32")
        add("z.by-log2-fused", "takes Z as one fused multiply-add of log2 of the sum, ln 2 and the maximum")
        add("z.log2-of-sum", "adds log2 of the sum in place of its natural logarithm")
        add("z.base-2", "gives Z in base 2")
        add("z.fp64", "takes Z in fp64 and rounds once")
        add("z.maximum-missing", "leaves the maximum out of Z")
        add("z.logarithm-missing", "adds the sum itself in place of its logarithm")
        add("z.maximum", "gives the maximum as Z")
        add("z.bf16", "rounds Z to bf16")
        return all.filter { !without.contains($0.name) }
    }
}

extension ZRegVariant {
    /// Those of the regulariser's term.
    static func termDeviations(isScaled: Bool = false, without: Set<String> = []) -> [Deviation] {
        var all: [Deviation] = []
        func add(_ name: String, _ summary: String, _ clauses: [String] = ["Z2"]) {
            all.append(Deviation("zreg.\(name)", summary, clauses))
        }
        add("term.missing", "leaves the z-regulariser out", ["Z2", "Z3"])
        add("term.factor-2-missing", "takes c Z for the gradient of c Z^2, without the factor 2")
        add("term.negated", "subtracts the z-regulariser's gradient instead of adding it")
        add("term.doubled", "takes twice the z-regulariser's gradient")
        add("term.c-squared", "squares the z-regulariser's coefficient")
        add("term.z-missing", "takes 2c for the z-regulariser's gradient, without Z")
        add("term.z-squared", "takes 2 c Z^2 for the z-regulariser's gradient")
        add("term.of-maximum", "regularises the maximum in place of Z")
        add("term.of-log-of-sum", "regularises log(sum), without the maximum, in place of Z")
        add("term.sign-of-z", "regularises |Z| in place of Z^2")
        add("term.magnitude-of-z", "loses the sign of Z in the z-regulariser's gradient")
        if isScaled { add("term.scaled", "multiplies the z-regulariser's gradient by the scale of the logits") }
        add("placement.unweighted", "adds the z-regulariser's gradient without the factor P")
        add("placement.fused", "adds the z-regulariser's term with a fused multiply-add")
        return all.filter { !without.contains($0.name) }
    }

    /// Those of dS.
    static func gradientDeviations(
        forms: [(name: String, summary: String)], orders: [String]
    ) -> [Deviation] {
        var all: [Deviation] = []
        func add(_ name: String, _ summary: String, _ clauses: [String] = ["Z2"]) {
            all.append(Deviation(name, summary, clauses))
        }
        for (name, summary) in forms { add("zreg.form.\(name)", summary) }
        all += SumVariant.deviations(
            "softmax.weighted", ["Z2", "R1", "R5"], what: "D, the sum of P dP", orders: orders,
            accumulations: SumVariant.ofProducts, zero: false)
        add("softmax.d.probabilities-bf16", "sums D of P rounded to bf16")
        add("softmax.d.bf16", "rounds D, the sum of a row, to bf16")
        add("softmax.d.missing", "leaves D out: dS = P dP")
        add("softmax.d.mean", "subtracts the sum of dP without the weights P")
        add("softmax.ds.probabilities-bf16", "multiplies by P rounded to bf16 in dS")
        add("softmax.ds.distributed", "takes dS as the difference of two products")
        add("softmax.ds.distributed-fused", "takes dS as a fused multiply-add of P dP and the rounded P D")
        add("softmax.ds.probability-missing", "leaves the factor P out of dS")
        add("zreg.placement.in-dp", "adds dZ to dP before D is subtracted")
        return all
    }
}

extension SumVariant {
    /// Ways to accumulate that differ for sums of bf16 products, which fp32 holds exactly, and for plain sums.
    static let ofSums = ["truncating", "bf16", "fp64"]
    /// For dot products of bf16 values, which tensor cores add in fp16 too.
    static let ofDots = ofSums + ["fp16"]
    /// For sums of fp32 products. Fused in fp64, sums of bf16 products have the same bits: those are no midpoints of fp32, nor do they make one
    /// with an accumulator that takes more than 53 bits.
    static let ofProducts = ["unfused", "fused-in-fp64", "truncating", "bf16", "fp64"]
    /// Orders of a few terms: a head dimension, the rows of a small case.
    static let fewTerms = [
        "ascending", "odd-first", "descending", "pairwise", "blocks-4", "lanes-2", "lanes-4", "lanes-8-ascending",
    ]
    /// Orders of some tens of terms.
    static let someTerms = [
        "ascending", "odd-first", "descending", "pairwise", "blocks-4", "blocks-8", "blocks-16", "lanes-2", "lanes-4",
        "lanes-8", "lanes-4-ascending", "lanes-8-ascending", "lanes-16-ascending",
    ]
    /// Orders of rows of more than 64 terms that are specified in 16 lanes.
    static let rowTerms = someTerms + ["blocks-32", "blocks-64", "lanes-32"]
}
