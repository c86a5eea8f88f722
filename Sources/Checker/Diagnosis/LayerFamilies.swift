import Cases
import ExactMath
import Goldens
import ModelSpec

// layer.rmsnorm, layer.rope, layer.relu2, layer.linear and layer.embedding: clause T2 once more, under choices.

extension DeviationCatalog {
    // MARK: - RMSNorm

    static let rmsnormFamily = VariantFamily(
        name: "rmsnorm", operations: ["layer.rmsnorm"],
        deviations: named(
            "rmsnorm", ["T2"],
            [
                ("root.sqrt-then-divide", "takes 1 / sqrt in two roundings"),
                ("root.division", "divides x by the root instead of multiplying by its reciprocal"),
                ("mean.division", "divides the sum of squares by C instead of multiplying by the rounded 1/C"),
                ("normalised.bf16", "rounds the normalised x to bf16 before the gain"),
                ("normalised.bf16-everywhere", "rounds the normalised x to bf16, in the gradients too"),
                ("gain-order.with-root", "multiplies the gain by the root before x"),
                ("gain-order.with-x", "multiplies x by the gain before the root"),
                ("epsilon.missing", "leaves epsilon out"),
                ("epsilon.outside", "adds epsilon to the root instead of inside it"),
                ("epsilon.to-sum", "adds epsilon to the sum of squares instead of to the mean"),
                ("epsilon.maximum", "takes the larger of the mean and epsilon"),
                ("epsilon.1e-5", "takes 1e-5 for epsilon"), ("epsilon.1e-6", "takes 1e-6 for epsilon"),
                ("epsilon.1e-8", "takes 1e-8 for epsilon"),
                ("mean.subtracted", "subtracts the row's mean first, as LayerNorm does"),
                ("mean.missing", "takes the sum of squares for their mean"),
                ("mean.unbiased", "divides the sum of squares by C - 1"),
                ("gain.missing", "leaves the gain out"), ("gain.one-plus", "takes 1 + gain for the gain"),
                ("output.truncated", "cuts y to bf16 instead of rounding it"),
                ("dx.along-missing", "leaves out of dx what flows through the root"),
                ("dx.along-added", "adds what flows through the root to dx instead of subtracting it"),
                ("dx.root-missing", "leaves the factor r out of dx"),
                ("dx.gain-missing", "leaves the gain out of dx"),
                ("dx.mean-missing", "takes the sum for the mean in dx"),
                ("dx.mean-division", "divides by C in dx instead of multiplying by the rounded 1/C"),
                ("dx.fused", "takes the difference in dx with a fused multiply-add"),
                ("dx.distributed", "multiplies both terms of dx by r before they are subtracted"),
                ("dx.root-cubed", "takes the second term of dx as x times r^3 times the mean of a x"),
                ("dgain-factor.input", "takes the gain's gradient from x instead of the normalised x"),
                ("dgain-factor.output", "takes the gain's gradient from y"),
                ("dgain-factor.with-gain", "multiplies the gain's gradient by the gain"),
            ])
            + SumVariant.deviations(
                "rmsnorm.squares", ["T2", "R1"], what: "the sum of squares", orders: SumVariant.rowTerms,
                accumulations: SumVariant.ofSums, zero: false)
            + SumVariant.deviations(
                "rmsnorm.along", ["T2", "R1"], what: "the sum in dx", orders: SumVariant.rowTerms,
                accumulations: SumVariant.ofProducts, zero: false)
            + SumVariant.deviations(
                "rmsnorm.dgain", ["T2", "R3"], what: "the gain's gradient",
                orders: SumVariant.someTerms.filter { $0 != "ascending" } + ["lanes-16"],
                accumulations: SumVariant.ofProducts, zero: false)
            + TileDeviations.outputs, compute: rmsnorm)

    @Sendable private static func rmsnorm(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        var epsilon = given.float("epsilon")
        let input = given.bf16("x").map(Float.init(bf16:))
        var gain = given.bf16("gain").map(Float.init(bf16:))
        let dy = given.bf16("dy").map(Float.init(bf16:))
        let (n, width) = (given.size("n"), given.size("C"))
        let (root, mean) = (choices.on("rmsnorm.root"), choices.on("rmsnorm.mean"))
        let normalised = choices.on("rmsnorm.normalised")
        let (order, dxChoice) = (choices.on("rmsnorm.gain-order"), choices.on("rmsnorm.dx"))
        let factor = choices.on("rmsnorm.dgain-factor")
        let place = choices.on("rmsnorm.epsilon")
        switch place {
        case "1e-5"?: epsilon = 1e-5
        case "1e-6"?: epsilon = 1e-6
        case "1e-8"?: epsilon = 1e-8
        case "missing"?: epsilon = 0
        default: break
        }
        switch choices.on("rmsnorm.gain") {
        case "missing"?: gain = gain.map { _ in 1 }
        case "one-plus"?: gain = gain.map { 1 + $0 }
        default: break
        }
        let squares = SumVariant(order: .lanes(16)).under(choices, "rmsnorm.squares")
        let along = SumVariant(order: .lanes(16)).under(choices, "rmsnorm.along")
        let dgainSum = SumVariant(order: .ascending).under(choices, "rmsnorm.dgain")
        let reciprocal = SoftFloat32.reciprocal(of: UInt64(width))
        var (y, roots, dx): ([UInt16], [Float], [Float]) = ([], [], [])
        var dgainTerms = [[SumVariant.Term]](repeating: [], count: width)
        for i in 0..<n {
            var x = Array(input[i * width..<(i + 1) * width])
            if mean == "subtracted" {
                let average = squares.sum(of: x) * reciprocal
                x = x.map { $0 - average }
            }
            let sum = squares.sum(x.map { ($0, $0) }) + (place == "to-sum" ? epsilon : 0)
            var meanSquare: Float
            switch mean {
            case "division"?: meanSquare = sum / Float(width)
            case "missing"?: meanSquare = sum
            case "unbiased"?: meanSquare = sum / Float(width - 1)
            default: meanSquare = sum * reciprocal
            }
            switch place {
            case "outside"?, "to-sum"?: break
            case "maximum"?: meanSquare = epsilon > meanSquare ? epsilon : meanSquare
            default: meanSquare = meanSquare + epsilon
            }
            let r: Float =
                if place == "outside" {
                    1 / (CorrectlyRounded.sqrt(meanSquare) + epsilon)
                } else if root == "sqrt-then-divide" {
                    1 / CorrectlyRounded.sqrt(meanSquare)
                } else {
                    CorrectlyRounded.rsqrt(meanSquare)
                }
            roots.append(r)
            let xhat = x.map { x in
                let value = root == "division" ? x / CorrectlyRounded.sqrt(meanSquare) : x * r
                return normalised == "bf16-everywhere" ? SumVariant.bf16(value) : value
            }
            var outputs: [Float] = []
            for c in 0..<width {
                let output: Float =
                    switch order {
                    case "with-root"?: x[c] * (r * gain[c])
                    case "with-x"?: (x[c] * gain[c]) * r
                    default: (normalised == "bf16" ? SumVariant.bf16(xhat[c]) : xhat[c]) * gain[c]
                    }
                outputs.append(SumVariant.bf16(output))
                y.append(
                    choices.has("rmsnorm.output.truncated")
                        ? UInt16(output.bitPattern >> 16) : SoftFloat32.roundToBFloat16(output))
            }
            let gradient = Array(dy[i * width..<(i + 1) * width])
            let a = (0..<width).map { dxChoice == "gain-missing" ? gradient[$0] : gradient[$0] * gain[$0] }
            let total = along.sum((0..<width).map { (a[$0], dxChoice == "root-cubed" ? x[$0] : xhat[$0]) })
            let m =
                switch dxChoice {
                case "mean-missing"?: total
                case "mean-division"?: total / Float(width)
                default: total * reciprocal
                }
            for c in 0..<width {
                let derivative: Float =
                    switch dxChoice {
                    case "along-missing"?: r * a[c]
                    case "along-added"?: r * (a[c] + xhat[c] * m)
                    case "root-missing"?: a[c] - xhat[c] * m
                    case "fused"?: r * HardwareFloat32.fusedMultiplyAdd(-xhat[c], m, a[c])
                    case "distributed"?: r * a[c] - r * (xhat[c] * m)
                    case "root-cubed"?: r * a[c] - x[c] * (r * r * r * m)
                    default: r * (a[c] - xhat[c] * m)
                    }
                dx.append(derivative)
                let other: Float =
                    switch factor {
                    case "input"?: x[c]
                    case "output"?: outputs[c]
                    case "with-gain"?: xhat[c] * gain[c]
                    default: xhat[c]
                    }
                dgainTerms[c].append((gradient[c], other))
            }
        }
        var result = CaseResult()
        result.output("y", bf16: y, [n, width])
        result.output("r", roots, [n])
        result.output("dx", dx, [n, width])
        result.output("dgain", dgainTerms.map { dgainSum.sum($0) }, [width])
        return result
    }

    // MARK: - Rotary embedding

    static let ropeFamily = VariantFamily(
        name: "rope", operations: ["layer.rope"],
        deviations: named(
            "rope", ["T2", "E4"],
            [
                ("pairs.interleaved", "turns element 2i with element 2i + 1 instead of i with i + D/2"),
                ("arithmetic.unfused", "rounds both products before they are added"),
                ("arithmetic.fused-other", "fuses the other product into the addition"),
                ("arithmetic.fp64", "rounds once, from fp64"),
                ("arithmetic.fused-in-fp64", "takes the fused multiply-add in fp64 and rounds it to fp32 on the way"),
                ("arithmetic.bf16-products", "rounds both products to bf16"),
                ("angle.rounded", "rounds position times frequency to fp32 before the sine"),
                ("angle.bf16", "rounds position times frequency to bf16 before the sine"),
                ("angle.negated", "turns by the opposite angle"),
                ("tables.bf16", "rounds sines and cosines to bf16"),
                ("tables.exchanged", "takes the sine for the cosine"),
                ("frequency.by-exp", "takes the frequency as exp of a rounded product with the rounded log(base)"),
                ("frequency.reciprocal", "takes the frequency as the reciprocal of the rounded base^(2i/D)"),
                ("frequency.bf16", "rounds frequencies to bf16"),
                ("frequency.half-exponent", "takes base^(-i/D) for base^(-2i/D)"),
                ("frequency.last-index", "takes base^(-2i/(D - 2)) for base^(-2i/D)"),
                ("frequency.inverted", "takes base^(2i/D) for base^(-2i/D)"),
                ("frequency.descending", "gives the pairs their frequencies in the other order"),
                ("position.from-1", "counts positions from 1"), ("position.minus-1", "counts one position less"),
                ("position.row", "takes the row's number for its position"),
                ("base.10000", "takes 10000 for the base"), ("base.1000", "takes 1000 for the base"),
                ("base.100000", "takes 100000 for the base"), ("base.500000", "takes 500000 for the base"),
                ("base.1000000", "takes 1000000 for the base"),
                ("backward.not-inverted", "turns the gradient by the forward angle"),
                ("backward.missing", "passes the gradient on as it is"),
                ("backward.fused-other", "fuses the other product into the addition, in the gradient alone"),
                ("width.first-half", "turns the first half of each head alone"),
                ("output.truncated", "cuts results to bf16 instead of rounding them"),
            ]), compute: rope)

    @Sendable private static func rope(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        var base = given.float("base")
        let x = given.bf16("x").map(Float.init(bf16:))
        let positions = given.integers("position", Int32.self)
        let dy = given.bf16("dy").map(Float.init(bf16:))
        let (n, heads, d) = (given.size("n"), given.size("heads"), given.size("D"))
        if let other = choices.on("rope.base"), let value = Float(other) { base = value }
        let (frequency, angle) = (choices.on("rope.frequency"), choices.on("rope.angle"))
        let tables = choices.on("rope.tables")
        let width = choices.has("rope.width.first-half") ? d / 4 * 2 : d
        let half = width / 2
        var frequencies = (0..<half).map { i in
            rotaryFrequency(base, i, frequency == "last-index" ? width - 2 : width, frequency)
        }
        if frequency == "descending" { frequencies.reverse() }
        var known: [Int32: [(cosine: Float, sine: Float)]] = [:]
        func rotations(_ row: Int) -> [(cosine: Float, sine: Float)] {
            var position = positions[row]
            switch choices.on("rope.position") {
            case "from-1"?: position += 1
            case "minus-1"?: position -= 1
            case "row"?: position = Int32(row)
            default: break
            }
            if let table = known[position] { return table }
            let table = frequencies.map { theta in
                var product = Double(position) * Double(theta)
                switch angle {
                case "rounded"?: product = Double(Float(product))
                case "bf16"?: product = Double(SumVariant.bf16(Float(product)))
                case "negated"?: product = -product
                default: break
                }
                let pair = (cosine: CorrectlyRounded.cos(product), sine: CorrectlyRounded.sin(product))
                return switch tables {
                case "bf16"?: (cosine: SumVariant.bf16(pair.cosine), sine: SumVariant.bf16(pair.sine))
                case "exchanged"?: (cosine: pair.sine, sine: pair.cosine)
                default: pair
                }
            }
            known[position] = table
            return table
        }
        let isTruncated = choices.has("rope.output.truncated")
        let isInterleaved = choices.has("rope.pairs.interleaved")
        func turned(_ x: [Float], _ turn: Float, _ arithmetic: String?) -> [UInt16] {
            var y = x.map { SoftFloat32.roundToBFloat16($0) }
            for row in 0..<n {
                let table = rotations(row)
                for head in 0..<heads {
                    let start = (row * heads + head) * d
                    for i in 0..<half {
                        let (a, b) = isInterleaved ? (start + 2 * i, start + 2 * i + 1) : (start + i, start + half + i)
                        let (cosine, sine) = (table[i].cosine, turn * table[i].sine)
                        let (first, second) = (
                            sum(x[a], cosine, -x[b], sine, arithmetic), sum(x[a], sine, x[b], cosine, arithmetic)
                        )
                        for (place, value) in [(a, first), (b, second)] {
                            y[place] =
                                isTruncated ? UInt16(value.bitPattern >> 16) : SoftFloat32.roundToBFloat16(value)
                        }
                    }
                }
            }
            return y
        }
        /// x c + y s, the first product fused.
        func sum(_ x: Float, _ c: Float, _ y: Float, _ s: Float, _ arithmetic: String?) -> Float {
            switch arithmetic {
            case "unfused"?: x * c + y * s
            case "fused-other"?: HardwareFloat32.fusedMultiplyAdd(y, s, x * c)
            case "fp64"?: Float(Double(x) * Double(c) + Double(y) * Double(s))
            case "fused-in-fp64"?: SumVariant.fusedInDouble(x, c, y * s)
            case "bf16-products"?: SumVariant.bf16(x * c) + SumVariant.bf16(y * s)
            default: HardwareFloat32.fusedMultiplyAdd(x, c, y * s)
            }
        }
        let arithmetic = choices.on("rope.arithmetic")
        let backward = choices.on("rope.backward")
        var result = CaseResult()
        result.output("y", bf16: turned(x, 1, arithmetic), [n, heads, d])
        result.output(
            "dx",
            bf16: backward == "missing"
                ? dy.map { SoftFloat32.roundToBFloat16($0) }
                : turned(
                    dy, backward == "not-inverted" ? 1 : -1, backward == "fused-other" ? "fused-other" : arithmetic),
            [n, heads, d])
        return result
    }

    /// RNE32(base^(-2i/d)) or what is taken for it.
    private static func rotaryFrequency(_ base: Float, _ i: Int, _ d: Int, _ choice: String?) -> Float {
        if i == 0 { return 1 }
        let logarithm = DoubleDouble.log(DoubleDouble(Double(base)))
        func power(_ numerator: Int, _ denominator: Int) -> Float {
            SoftFloat32.convert(
                DoubleDouble.exp(logarithm * DoubleDouble(Double(numerator)) / DoubleDouble(Double(denominator))).high)
        }
        switch choice {
        case "by-exp"?: return CorrectlyRounded.exp(-(Float(2 * i) / Float(d)) * CorrectlyRounded.log(base))
        case "reciprocal"?: return 1 / power(2 * i, d)
        case "half-exponent"?: return power(-i, d)
        case "inverted"?: return power(2 * i, d)
        case "bf16"?: return SumVariant.bf16(power(-2 * i, d))
        default: return power(-2 * i, d)
        }
    }

    // MARK: - ReLU^2

    static let reluSquaredFamily = VariantFamily(
        name: "relu2", operations: ["layer.relu2"],
        deviations: named(
            "relu2", ["T2"],
            [
                ("y.not-squared", "gives the positive part, not its square"),
                ("y.square-of-all", "squares negative values too"),
                ("y.bf16", "rounds the square to bf16"),
                ("y.magnitude", "keeps the sign: x |x|"),
                ("y.nan-as-zero", "gives 0 for NaN, as max(0, x) may"),
                ("dx.factor-2-missing", "leaves the factor 2 out of dx"),
                ("dx.slope-1", "passes the gradient where x is positive, without the factor 2x"),
                ("dx.of-all", "takes 2 x dy for negative x too"),
                ("dx.nan-passed", "multiplies by 0 where x is not positive, so that NaN and infinity pass"),
                ("dx.of-square", "takes 2 y dy"),
                ("dx.bf16-factor", "rounds dy to bf16 first"),
                ("dx.nan-as-zero", "gives 0 where x is NaN"),
            ]), compute: reluSquared)

    @Sendable private static func reluSquared(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        let x = given.bf16("x").map(Float.init(bf16:))
        let dy = given.floats("dy")
        let (y, dx) = (choices.on("relu2.y"), choices.on("relu2.dx"))
        let outputs = x.map { x -> Float in
            let p = x.isNaN || x > 0 ? x : 0
            switch y {
            case "not-squared"?: return p
            case "square-of-all"?: return x * x
            case "bf16"?: return SumVariant.bf16(p * p)
            case "magnitude"?: return x * x.magnitude
            case "nan-as-zero"?: return p.isNaN ? 0 : p * p
            default: return p * p
            }
        }
        let gradients = zip(x, dy).map { x, dy -> Float in
            let p = x.isNaN || x > 0 ? x : 0
            switch dx {
            case "nan-passed"?: return dy * (2 * p)
            case "of-all"?: return dy * (2 * x)
            case "nan-as-zero"? where x.isNaN: return 0
            default: break
            }
            if p == 0 { return 0 }
            switch dx {
            case "factor-2-missing"?: return dy * p
            case "slope-1"?: return dy
            case "of-square"?: return dy * (2 * (p * p))
            case "bf16-factor"?: return SumVariant.bf16(dy) * (2 * p)
            default: return dy * (2 * p)
            }
        }
        var result = CaseResult()
        result.output("y", outputs, [x.count])
        result.output("dx", gradients, [x.count])
        return result
    }

    // MARK: - SwiGLU

    static let swigluFamily = VariantFamily(
        name: "swiglu", operations: ["layer.swiglu"],
        deviations: named(
            "swiglu", ["T8"],
            [
                ("inputs.exchanged", "takes gate for up and up for gate"),
                ("silu.sigmoid", "takes the sigmoid for silu, as GLU does"),
                ("silu.relu", "takes the positive part for silu, as ReGLU does"),
                ("silu.multiplied", "multiplies the gate by 1 / (1 + exp(-gate)) instead of dividing by it"),
                ("silu.bf16", "rounds silu to bf16 before the product"),
                ("silu.identity", "leaves silu out"),
                ("silu.positive-exponent", "takes exp(gate) for exp(-gate)"),
                ("slope.sigmoid", "takes the sigmoid for the slope of silu"),
                ("slope.without-gate", "takes s (1 - s), the slope of the sigmoid"),
                ("slope.of-silu", "computes the slope as s + silu (1 - s)"),
                ("slope.bf16", "rounds the slope to bf16"),
                ("output.bf16", "rounds y to bf16"),
                ("dup.of-gate", "takes dy gate for dup"),
                ("dgate.up-missing", "leaves up out of dgate"),
            ]), compute: swiglu)

    @Sendable private static func swiglu(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        var (gate, up) = (given.bf16("gate").map(Float.init(bf16:)), given.bf16("up").map(Float.init(bf16:)))
        let dy = given.floats("dy")
        if choices.has("swiglu.inputs.exchanged") { (gate, up) = (up, gate) }
        var (y, dgate, dup): ([Float], [Float], [Float]) = ([], [], [])
        for index in gate.indices {
            let (g, u) = (gate[index], up[index])
            let d = 1 + CorrectlyRounded.exp(choices.has("swiglu.silu.positive-exponent") ? g : -g)
            let s = 1 / d
            var silu = g / d
            switch choices.on("swiglu.silu") {
            case "sigmoid"?: silu = s
            case "relu"?: silu = g.isNaN || g > 0 ? g : 0
            case "multiplied"?: silu = g * s
            case "bf16"?: silu = SumVariant.bf16(silu)
            case "identity"?: silu = g
            default: break
            }
            var slope = s * (1 + g * (1 - s))
            switch choices.on("swiglu.slope") {
            case "sigmoid"?: slope = s
            case "without-gate"?: slope = s * (1 - s)
            case "of-silu"?: slope = s + silu * (1 - s)
            case "bf16"?: slope = SumVariant.bf16(slope)
            default: break
            }
            let product = silu * u
            y.append(choices.has("swiglu.output.bf16") ? SumVariant.bf16(product) : product)
            dup.append(dy[index] * (choices.has("swiglu.dup.of-gate") ? g : silu))
            dgate.append((choices.has("swiglu.dgate.up-missing") ? dy[index] : dy[index] * u) * slope)
        }
        var result = CaseResult()
        result.output("y", y, [y.count])
        result.output("dgate", dgate, [y.count])
        result.output("dup", dup, [y.count])
        return result
    }

    // MARK: - Linear

    static let linearFamily = VariantFamily(
        name: "linear", operations: ["layer.linear"],
        deviations: ["y", "dx", "dw"].flatMap {
            SumVariant.deviations(
                "linear.\($0)", ["T2", "D1", "D2", "D4"], what: $0,
                orders: SumVariant.someTerms + ["lanes-16"] + ($0 == "dw" ? ["blocks-32"] : []),
                flushes: ["none", "all"], accumulations: SumVariant.ofDots, products: true, zero: false)
        }
            + named(
                "linear", ["T2", "D4"],
                [
                    ("sequences.flat", "forms pairs over the tokens of all sequences laid end to end"),
                    ("sequences.fp32-each", "sums each sequence's part of dw by itself and adds these in fp32"),
                    ("sequences.bf16-each", "rounds each sequence's part of dw to bf16 and adds these"),
                    ("sequences.descending", "takes the sequences in descending order in dw"),
                    ("sequences.last-only", "gives dw of the last sequence alone"),
                    ("sequences.first-only", "gives dw of the first sequence alone"),
                    ("sequences.mean", "divides dw by the number of sequences"),
                    ("sequences.tokens-outermost", "sums over the sequences inside each token in dw"),
                    ("weight.transposed", "reads w as [out, in]"),
                    ("weight.transposed-in-dx", "takes dx of w as [out, in]"),
                ])
            + TileDeviations.inputs("linear.depth-of-y", "inputs", ["T2", "D4"], [("x", 1)])
            + TileDeviations.inputs("linear.depth-of-dx", "outputs", ["T2", "D4"], [("dy", 1)])
            + TileDeviations.inputs("linear.depth-of-dw", "tokens", ["T2", "D4"], [("x", 2), ("dy", 2)])
            + TileDeviations.outputs, compute: linear)

    @Sendable private static func linear(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        let recipe = given.choice("dot", DotRecipe.self)
        let x = given.bf16("x").map(Float.init(bf16:))
        let w = given.bf16("w").map(Float.init(bf16:))
        let dy = given.bf16("dy").map(Float.init(bf16:))
        let (b, t, inputs, outputs) = (given.size("B"), given.size("T"), given.size("in"), given.size("out"))
        let weight = choices.on("linear.weight")
        func factor(_ i: Int, _ o: Int, _ isTransposed: Bool) -> Float {
            w[isTransposed ? o * inputs + i : i * outputs + o]
        }
        let ySum = SumVariant(recipe).under(choices, "linear.y")
        let dxSum = SumVariant(recipe).under(choices, "linear.dx")
        let dwSum = SumVariant(recipe).under(choices, "linear.dw")
        var (y, dx, dw): ([Float], [Float], [Float]) = ([], [], [])
        for row in 0..<b * t {
            for o in 0..<outputs {
                y.append(
                    ySum.sum((0..<inputs).map { (x[row * inputs + $0], factor($0, o, weight == "transposed")) }))
            }
            for i in 0..<inputs {
                dx.append(dxSum.sum((0..<outputs).map { (dy[row * outputs + $0], factor(i, $0, weight != nil)) }))
            }
        }
        let (length, sequences) = (t, choices.on("linear.sequences"))
        for i in 0..<inputs {
            for o in 0..<outputs {
                var rows = (0..<b).map { b in
                    (0..<t).map { t -> SumVariant.Term? in
                        (x[(b * length + t) * inputs + i], dy[(b * length + t) * outputs + o])
                    }
                }
                switch sequences {
                case "flat"?: rows = [Array(rows.joined())]
                case "descending"?: rows.reverse()
                case "last-only"?: rows = Array(rows.suffix(1))
                case "first-only"?: rows = Array(rows.prefix(1))
                case "tokens-outermost"?: rows = [(0..<t).flatMap { t in rows.map { $0[t] } }]
                default: break
                }
                let element: Float =
                    switch sequences {
                    case "fp32-each"?: rows.reduce(0) { $0 + dwSum.sum([$1]) }
                    case "bf16-each"?: rows.reduce(0) { $0 + SumVariant.bf16(dwSum.sum([$1])) }
                    case "mean"?: dwSum.sum(rows) / Float(b)
                    default: dwSum.sum(rows)
                    }
                dw.append(element)
            }
        }
        var result = CaseResult()
        result.output("y", y, [b, t, outputs], as: given.choice("output", ElementType.self))
        result.output("dx", dx, [b, t, inputs], as: given.choice("output", ElementType.self))
        result.output("dw", dw, [inputs, outputs], as: given.choice("dw_output", ElementType.self))
        return result
    }

    // MARK: - Embedding

    static let embeddingFamily = VariantFamily(
        name: "embedding", operations: ["layer.embedding"],
        deviations: named(
            "embedding", ["T2", "R3"],
            [
                ("repeated.last-wins", "overwrites the gradient of a token that occurs again"),
                ("repeated.first-wins", "keeps the gradient of a token's first place alone"),
                ("repeated.averaged", "divides a token's gradient by the number of its places"),
                ("y.scaled", "multiplies rows by sqrt(C)"), ("y.next-token", "takes the row of the next token number"),
                ("gradient.scaled", "multiplies the gradient by sqrt(C)"),
                ("padding.token-0", "takes token 0 for padding: no gradient"),
            ])
            + SumVariant.deviations(
                "embedding.dw", ["T2", "R3"], what: "a token's gradient",
                orders: SumVariant.someTerms.filter { $0 != "ascending" } + [
                    "blocks-32", "lanes-16", "lanes-16-of-visible",
                ], accumulations: SumVariant.ofSums, zero: false), compute: embedding)

    @Sendable private static func embedding(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        let tokens = given.integers("tokens", Int32.self).map(Int.init)
        let w = given.bf16("w")
        let dy = given.bf16("dy").map(Float.init(bf16:))
        let (n, v, width) = (given.size("n"), given.size("V"), given.size("C"))
        let root = SoftFloat32.squareRoot(of: UInt64(width))
        var y = tokens.flatMap { token -> [UInt16] in
            let row = choices.has("embedding.y.next-token") ? min(token + 1, v - 1) : token
            return Array(w[row * width..<(row + 1) * width])
        }
        if choices.has("embedding.y.scaled") { y = y.map { SoftFloat32.roundToBFloat16(Float(bf16: $0) * root) } }
        let sum = SumVariant(order: .ascending).under(choices, "embedding.dw")
        let repeated = choices.on("embedding.repeated")
        var dw: [Float] = []
        for token in 0..<v {
            let places = (0..<n).filter { tokens[$0] == token }
            let taken: Set<Int> =
                switch repeated {
                case "last-wins"?: Set(places.suffix(1))
                case "first-wins"?: Set(places.prefix(1))
                default: Set(places)
                }
            for c in 0..<width {
                var value = sum.sum([(0..<n).map { taken.contains($0) ? (dy[$0 * width + c], 1) : nil }])
                if repeated == "averaged", !places.isEmpty { value = value / Float(places.count) }
                if choices.has("embedding.gradient.scaled") { value = value * root }
                dw.append(token == 0 && choices.has("embedding.padding.token-0") ? 0 : value)
            }
        }
        var result = CaseResult()
        result.output("y", bf16: y, [n, width])
        result.output("dw", dw, [v, width])
        return result
    }

    /// Deviations of one family in a row.
    static func named(_ family: String, _ clauses: [String], _ entries: [(String, String)]) -> [Deviation] {
        entries.map { Deviation("\(family).\($0.0)", $0.1, clauses) }
    }
}
