import Cases
import ExactMath
import Goldens
import JSON
import ModelSpec

// clamp.*: clause C once more, under choices.

extension DeviationCatalog {
    static let clampFamily = VariantFamily(
        name: "clamp", operations: ["clamp.dynamic", "clamp.static"],
        deviations: clampLimit + clampForward + clampBackward + clampSquares
    ) { given, choices in
        let isStatic = given.op == "clamp.static"
        let parameter = given.float(isStatic ? "limit" : "kappa")
        let activation = given.choice("activation", ClampActivation.self)
        let gradient = given.choice("gradient", ClampGradient.self)
        let int8 = given.flag("int8")
        var limit = parameter
        if !isStatic {
            let w = given.bf16("w").map(Float.init(bf16:))
            limit = dynamicLimit(w, given.size("n"), given.size("m"), kappa: parameter, choices)
        }
        let squares =
            switch choices.on("clamp.square") {
            case "missing": 0
            case "twice": activation == .relu2 && !isStatic ? 2 : 0
            case "always": isStatic ? 0 : 1
            case "static": activation == .relu2 ? 1 : 0
            case "before-kappa": 0
            default: activation == .relu2 && !isStatic ? 1 : 0
            }
        if choices.has("clamp.square.before-kappa"), !isStatic, activation == .relu2 {
            let root = dynamicLimit(
                given.bf16("w").map(Float.init(bf16:)), given.size("n"), given.size("m"), kappa: 1,
                choices)
            limit = parameter * (root * root)
        }
        for _ in 0..<squares { limit *= limit }
        switch choices.on("clamp.limit") {
        case "bf16": limit = SumVariant.bf16(limit)
        case "bf16-truncated": limit = Float(bitPattern: limit.bitPattern & 0xFFFF_0000)
        default: break
        }
        if limit == 0 && !choices.has("clamp.zero-limit.sign-kept") { limit = 0 }
        var y = given.floats("y")
        let dy = given.floats("dy")
        switch choices.on("clamp.input") {
        case "rounded-to-bf16": y = y.map { $0.isNaN ? $0 : SumVariant.bf16($0) }
        default: break
        }
        let clamp = ClampVariant(limit, activation, int8: int8, choices)
        let shape = [given.size("t"), given.size("m")]
        let forward = y.map(clamp.forward)
        var result = CaseResult()
        result.output("limit", [limit], [1])
        result.output("clamped", forward.map(\.clamped), shape)
        if int8 { result.output("codes", Tensor(forward.map(\.code), shape: shape)) }
        result.output("dequantised", forward.map(\.value), shape)
        result.output("dx", zip(y, dy).map { clamp.backward($0, $1, gradient) }, shape)
        return result
    }

    /// C1 without the square after ReLU^2.
    private static func dynamicLimit(_ w: [Float], _ n: Int, _ m: Int, kappa: Float, _ choices: Choices) -> Float {
        var weights = w
        if choices.has("clamp.weights.column-major") {
            weights = (0..<w.count).map { w[$0 % n * m + $0 / n] }
        }
        if choices.has("clamp.weights.first-row") { weights = Array(w[..<m]) }
        let sum = SumVariant(order: .lanesOfBlocks(16, 4096)).under(choices, "clamp.squares")
        let count = weights.count
        let rms: Float
        func squares(_ values: [Float]) -> Float { sum.sum(values.map { ($0, $0) }) }
        func root(_ x: Float) -> Float { x.squareRoot() }
        switch choices.on("clamp.rms") {
        case "divided": rms = root(squares(weights) / Float(count))
        case "sum": rms = root(squares(weights))
        case "of-fan-in": rms = root(squares(weights) * (1 / Float(n)))
        case "one-less": rms = root(squares(weights) / Float(max(1, count - 1)))
        case "centred":
            let mean = sum.sum(of: weights) * (1 / Float(count))
            rms = root(squares(weights.map { $0 - mean }) * (1 / Float(count)))
        case "centred-one-less":
            let mean = sum.sum(of: weights) * (1 / Float(count))
            rms = root(squares(weights.map { $0 - mean }) / Float(max(1, count - 1)))
        case "mean-absolute": rms = sum.sum(of: weights.map(\.magnitude)) * (1 / Float(count))
        case "largest": rms = weights.reduce(0) { max($0, $1.magnitude) }
        case "fp64":
            var total = 0.0
            for x in weights { total += Double(x) * Double(x) }
            rms = SoftFloat32.convert((total / Double(count)).squareRoot())
        case "roots-divided": rms = root(squares(weights)) / root(Float(count))
        case "by-reciprocal-root":
            let mean = squares(weights) * (1 / Float(count))
            rms = mean == 0 ? 0 : mean * CorrectlyRounded.rsqrt(mean)
        case "epsilon": rms = root(squares(weights) * (1 / Float(count)) + 1e-6)
        default: rms = root(squares(weights) * (1 / Float(count)))
        }
        let fan: Float =
            switch choices.on("clamp.fan-in") {
            case "missing": 1
            case "columns": root(Float(m))
            case "count": root(Float(w.count))
            case "without-root": Float(n)
            case "divided": 1 / root(Float(n))
            case "bf16": SumVariant.bf16(root(Float(n)))
            default: root(Float(n))
            }
        switch choices.on("clamp.product") {
        case "root-first": return kappa * (rms * fan)
        case "kappa-last": return kappa * fan * rms
        case "fp64": return SoftFloat32.convert(Double(kappa) * Double(rms) * Double(fan))
        case "inside-root": return kappa * root(squares(weights) * (1 / Float(count)) * Float(n))
        default: return kappa * rms * fan
        }
    }

    /// C2 to C4 of one value.
    private struct ClampVariant {
        let limit: Float
        let low: Float
        let int8: Bool
        let activation: ClampActivation
        let choices: Choices
        private let isZero: Bool
        private let scale: Float
        private let step: Float
        private let bounds: String?
        private let nan: String?
        private let codes: String?
        private let quotient: String?
        private let dequantised: String?

        init(_ limit: Float, _ activation: ClampActivation, int8: Bool, _ choices: Choices) {
            self.limit = limit
            self.int8 = int8
            self.activation = activation
            self.choices = choices
            isZero = limit == 0
            bounds = choices.on("clamp.bounds")
            nan = choices.on("clamp.nan")
            codes = choices.on("clamp.codes")
            quotient = choices.on("clamp.scale")
            dequantised = choices.on("clamp.dequantised")
            switch bounds {
            case "relu2-symmetric": low = -limit
            case "none-one-sided": low = 0
            case "low-missing": low = -.infinity
            default: low = activation == .relu2 ? 0 : -limit
            }
            scale =
                switch quotient {
                case "128", "128-asymmetric": 128 / limit
                case "127-and-a-half": 127.5 / limit
                case "by-step-reciprocal": 1 / (limit * (1 / 127))
                default: 127 / limit
                }
            step =
                switch choices.on("clamp.step") {
                case "divided": limit / 127
                case "128": limit / 128
                case "reciprocal-of-scale": 1 / (127 / limit)
                case "bf16": SumVariant.bf16(limit * (1 / 127))
                default: limit * (1 / 127)
                }
        }

        func forward(_ y: Float) -> (clamped: Float, code: Int8, value: Float) {
            if y.isNaN {
                let code: Int8 =
                    choices.has("clamp.nan-code.minimum") ? -127 : choices.has("clamp.nan-code.minus-128") ? -128 : 0
                switch nan {
                case "as-low": return forward(low)
                case "as-high": return forward(limit)
                case "dequantised-from-code" where int8: return (y, code, Float(code) * step)
                default: return (y, code, y)
                }
            }
            var x = y
            if bounds != "low-missing" { x = x < low || x == 0 && low == 0 ? low : x }
            if bounds != "high-missing" { x = x > limit ? limit : x }
            if isZero && !choices.has("clamp.zero-limit.sign-kept") { x = 0 }
            if choices.has("clamp.zero-sign.kept") && y == 0 && activation == .relu2 { x = y }
            guard int8 else { return (x, 0, x) }
            if isZero { return (x, 0, x) }
            let quantised =
                choices.has("clamp.quantised.bf16")
                ? SumVariant.bf16(x) : choices.has("clamp.quantised.unclamped") ? y : x
            let q: Float =
                switch quotient {
                case "by-step": quantised / (limit * (1 / 127))
                case "by-divided-step": quantised / (limit / 127)
                case "product-first": quantised * 127 / limit
                case "ratio-first": quantised / limit * 127
                default: quantised * scale
                }
            let whole: Float =
                switch codes {
                case "ties-away": q.rounded(.toNearestOrAwayFromZero)
                case "truncated": q.rounded(.towardZero)
                case "down": q.rounded(.down)
                case "half-up": (q + 0.5).rounded(.down)
                case "half-up-magnitude": Float(signOf: q, magnitudeOf: (q.magnitude + 0.5).rounded(.down))
                default: q.rounded(.toNearestOrEven)
                }
            let code: Float
            if choices.has("clamp.quantised.unclamped") {
                // An integer conversion keeps the lower byte.
                let integer = whole.isFinite && whole.magnitude < 0x1p31 ? Int(whole) : Int(Int32.min)
                code = Float(Int8(truncatingIfNeeded: integer))
            } else {
                code = max(quotient == "128-asymmetric" ? -128 : -127, min(127, whole))
            }
            var value: Float = code == 0 ? 0 : code * step
            switch dequantised {
            case "clamped": value = max(-limit, min(limit, value))
            case "not": value = x
            case "codes": value = code == 0 ? 0 : code
            case "product-first": value = code == 0 ? 0 : code * limit * (1 / 127)
            case "product-divided": value = code == 0 ? 0 : code * limit / 127
            case "divided-by-scale": value = code == 0 ? 0 : code / scale
            case "ratio-first": value = code == 0 ? 0 : code / 127 * limit
            case "zero-sign-kept": value = whole == 0 ? whole * step : value
            case "bf16": value = SumVariant.bf16(value)
            default: break
            }
            return (x, code.isNaN ? 0 : Int8(code), value)
        }

        func backward(_ y: Float, _ dy: Float, _ gradient: ClampGradient) -> Float {
            let mask = choices.on("clamp.mask")
            if y.isNaN {
                switch choices.on("clamp.nan-gradient") {
                case "passes": return dy
                case "zero": return 0
                default: return y
                }
            }
            let (isAbove, isBelow) =
                switch mask {
                case "strict": (y >= limit, y <= low)
                case "strict-above": (y >= limit, y < low)
                case "strict-below": (y > limit, y <= low)
                case "above-only": (y > limit, false)
                case "below-only": (false, y < low)
                case "magnitude": (y.magnitude > limit, false)
                case "nonzero": (y > limit, y < low || y == 0)
                default: (y > limit, y < low)
                }
            var passes = !isAbove && !isBelow
            if mask == "missing" { passes = true }
            if mask == "inverted" { passes.toggle() }
            if gradient == .inward {
                switch choices.on("clamp.inward") {
                case "outward": if isAbove && dy < 0 || isBelow && dy > 0 { passes = true }
                case "above-only": if isAbove && dy > 0 { passes = true }
                case "with-zero": if isAbove && dy >= 0 || isBelow && dy <= 0 { passes = true }
                default: if isAbove && dy > 0 || isBelow && dy < 0 { passes = true }
                }
            }
            if isZero && !choices.has("clamp.zero-limit-gradient.passes") { passes = false }
            if choices.has("clamp.masking.multiplied") { return dy * (passes ? 1 : 0) }
            return passes ? dy : 0
        }
    }

    // MARK: What may deviate

    private static func alternatives(
        _ axis: String, _ clauses: [String], _ all: KeyValuePairs<String, String>
    ) -> [Deviation] {
        all.map { Deviation("clamp.\(axis).\($0.key)", $0.value, clauses) }
    }

    private static func kappa(_ name: String, _ summary: String, _ change: @escaping @Sendable (Float) -> Float)
        -> Deviation
    {
        .parameter("clamp.kappa.\(name)", summary, ["C1"], key: "kappa", change)
    }

    private static let clampLimit: [Deviation] =
        alternatives(
            "square", ["C1"],
            [
                "missing": "does not square the limit after ReLU^2",
                "always": "squares the limit whatever the activation",
                "static": "squares a given limit after ReLU^2 too",
                "before-kappa": "squares before it multiplies by kappa", "twice": "squares the limit twice",
            ])
        + alternatives(
            "fan-in", ["C1"],
            [
                "missing": "leaves out sqrt(n)", "columns": "takes the columns of W for the fan-in",
                "count": "takes the number of weights for the fan-in",
                "without-root": "multiplies by n, not by sqrt(n)",
                "divided": "divides by sqrt(n)", "bf16": "rounds sqrt(n) to bf16",
            ])
        + alternatives(
            "rms", ["C1"],
            [
                "divided": "divides the sum of squares by the count instead of multiplying by RNE32(1/count)",
                "fp64": "takes the root mean square in fp64 and rounds once",
                "sum": "takes the root of the sum of squares, not of their mean",
                "of-fan-in": "divides the sum of squares by the fan-in alone",
                "centred": "takes the standard deviation of the weights",
                "one-less": "divides the sum of squares by the count less one",
                "centred-one-less": "takes the standard deviation with the count less one",
                "mean-absolute": "takes the mean magnitude of the weights",
                "largest": "takes the largest magnitude of the weights",
                "roots-divided": "divides the root of the sum by the root of the count",
                "by-reciprocal-root": "takes the root as x * rsqrt(x)", "epsilon": "adds 1e-6 to the mean square",
            ])
        + alternatives(
            "product", ["C1"],
            [
                "root-first": "multiplies rms and sqrt(n) first, kappa last",
                "kappa-last": "multiplies kappa and sqrt(n) first, rms last", "fp64": "rounds the product once",
                "inside-root": "multiplies by n inside the square root",
            ])
        + [
            kappa("squared", "squares kappa") { $0 * $0 }, kappa("3", "takes 3 for kappa") { _ in 3 },
            kappa("4", "takes 4 for kappa, whatever is asked for") { _ in 4 },
            kappa("6", "takes 6 for kappa") { _ in 6 }, kappa("1", "leaves kappa out") { _ in 1 },
            kappa("bf16", "rounds kappa to bf16") { SumVariant.bf16($0) },
        ]
        + alternatives(
            "limit", ["C1"], ["bf16": "rounds the limit to bf16", "bf16-truncated": "cuts the limit to bf16"])
        + alternatives(
            "weights", ["C1", "R2"],
            [
                "column-major": "sums the weights column by column",
                "first-row": "looks at the first row of the weights alone",
            ])

    private static let clampForward: [Deviation] =
        alternatives(
            "bounds", ["C2"],
            [
                "relu2-symmetric": "clamps at -L after ReLU^2 too",
                "none-one-sided": "clamps at 0 below without ReLU^2 too",
                "low-missing": "does not clamp below", "high-missing": "does not clamp above",
            ])
        + alternatives(
            "zero-sign", ["C2"], ["kept": "keeps -0 after ReLU^2"])
        + alternatives(
            "nan", ["C2"],
            [
                "as-low": "clamps NaN to the lower limit", "as-high": "clamps NaN to the upper limit",
                "dequantised-from-code": "dequantises the code of a NaN",
            ])
        + alternatives(
            "nan-code", ["C2"], ["minimum": "gives NaN the code -127", "minus-128": "gives NaN the code -128"])
        + alternatives(
            "codes", ["C3"],
            [
                "ties-away": "rounds ties of codes away from zero", "truncated": "truncates codes toward zero",
                "half-up": "rounds codes as floor(x + 1/2)", "down": "rounds codes down",
                "half-up-magnitude": "rounds codes as the magnitude plus 1/2, truncated",
            ])
        + alternatives(
            "scale", ["C3"],
            [
                "by-divided-step": "divides by fl(L / 127) instead of multiplying by fl(127 / L)",
                "by-step": "divides by fl(L * RNE32(1/127))",
                "by-step-reciprocal": "multiplies by the reciprocal of the step",
                "product-first": "multiplies by 127 and then divides by L",
                "ratio-first": "divides by L and then multiplies by 127", "128": "scales by 128 / L, within +-127",
                "128-asymmetric": "scales by 128 / L, codes from -128 on", "127-and-a-half": "scales by 127.5 / L",
            ])
        + alternatives(
            "step", ["C3"],
            [
                "divided": "dequantises by fl(L / 127) instead of fl(L * RNE32(1/127))",
                "128": "dequantises by L / 128",
                "reciprocal-of-scale": "dequantises by the reciprocal of 127 / L",
                "bf16": "rounds the step to bf16",
            ])
        + alternatives(
            "dequantised", ["C3"],
            [
                "clamped": "clamps the dequantised values once more", "not": "gives the clamped values as dequantised",
                "codes": "gives the codes as dequantised values",
                "product-first": "dequantises as fl(q * L) * RNE32(1/127)",
                "product-divided": "dequantises as fl(q * L) / 127", "ratio-first": "dequantises as fl(q / 127) * L",
                "divided-by-scale": "dequantises as q / fl(127 / L)",
                "zero-sign-kept": "keeps the sign of a value whose code is 0",
                "bf16": "rounds dequantised values to bf16",
            ])
        + alternatives(
            "quantised", ["C2", "C3"],
            [
                "bf16": "rounds the clamped value to bf16 before it is coded",
                "unclamped": "codes the value without clamping it, the code's lower byte",
            ])
        + alternatives(
            "input", ["C2"],
            ["rounded-to-bf16": "rounds y to bf16 before it is clamped"])
        + alternatives("zero-limit", ["C3"], ["sign-kept": "keeps -0 under a limit of 0"])

    private static let clampBackward: [Deviation] =
        [
            .recipe(
                "clamp.gradient.straight-through", "masks outside the limits, whatever the slope", ["C4"],
                key: "gradient", "straight-through"),
            .recipe(
                "clamp.gradient.inward", "lets slopes pass that lead back inside", ["C4"], key: "gradient", "inward"),
        ]
        + alternatives(
            "mask", ["C4"],
            [
                "missing": "does not mask the gradient", "strict": "masks the gradient at the limits themselves",
                "strict-above": "masks the gradient at the upper limit itself",
                "strict-below": "masks the gradient at the lower limit itself",
                "nonzero": "masks the gradient at 0", "magnitude": "compares the magnitude with the limit",
                "above-only": "masks the gradient above the limits only",
                "below-only": "masks the gradient below the limits only",
                "inverted": "masks the gradient inside the limits",
            ])
        + alternatives(
            "inward", ["C4"],
            [
                "outward": "lets the slopes pass that lead further outside",
                "above-only": "lets inward slopes pass above only",
                "with-zero": "lets slopes of 0 pass outside the limits",
            ])
        + alternatives(
            "nan-gradient", ["C2"],
            ["passes": "lets the gradient pass where y is NaN", "zero": "masks the gradient where y is NaN"])
        + alternatives("masking", ["C4"], ["multiplied": "multiplies the gradient by 0 or 1"])
        + alternatives("zero-limit-gradient", ["C3"], ["passes": "lets the gradient of zeros pass a limit of 0"])

    // Squares of bf16 values are exact in fp32, so that nothing is unfused.
    private static let clampSquares = SumVariant.deviations(
        "clamp.squares", ["C1", "R2"], what: "of the weights' squares",
        orders: SumVariant.orders.map(\.name).filter { !$0.hasPrefix("lanes-16-of") },
        accumulations: ["truncating", "bf16", "fp64"], zero: false)
}
