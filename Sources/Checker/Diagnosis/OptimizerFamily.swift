import Cases
import ExactMath
import Goldens

// layer.adamw: clause T4 once more, under choices.

extension DeviationCatalog {
    static let adamwFamily = VariantFamily(
        name: "adamw", operations: ["layer.adamw"],
        deviations: named(
            "adamw", ["T4"],
            [
                ("decay.separate", "decays weights first, by the factor 1 - rate times decay"),
                ("decay.l2", "adds decay times weight to the gradient, as Adam with L2 does"),
                ("decay.missing", "leaves the decay out"),
                ("decay.not-times-rate", "decays weights without the factor of the learning rate"),
                ("decay.unfused", "rounds decay times weight before it is added"),
                ("decay.fused-in-fp64", "adds decay times weight in fp64 and rounds to fp32 a second time"),
                ("decay.of-new-weight", "decays the updated weight"),
                ("decay.times-step", "multiplies the decay by the step"),
                ("bias.in-step-size", "corrects the first moment's bias in the step size"),
                ("bias.division", "divides by the rounded 1 - beta^n instead of multiplying by its rounded reciprocal"),
                ("bias.fp32-power", "takes beta^n by repeated squaring in fp32"),
                ("bias.missing", "corrects no bias"),
                ("bias.first-missing", "does not correct the first moment's bias"),
                ("bias.second-missing", "does not correct the second moment's bias"),
                ("bias.step-before", "corrects by the step before"), ("bias.step-after", "corrects by the step after"),
                ("bias.of-beta-1", "corrects both moments by beta1"),
                ("epsilon.inside-root", "adds epsilon inside the root"),
                ("epsilon.before-correction", "adds epsilon before the second moment's correction"),
                ("epsilon.missing", "leaves epsilon out"), ("epsilon.1e-8", "takes 1e-8 for epsilon"),
                ("m.unfused", "rounds both products of the first moment before they are added"),
                ("m.fused-in-fp64", "takes the first moment in fp64 and rounds it to fp32 a second time"),
                ("m.lerp", "moves the first moment by a fused multiply-add of 1 - beta1 and its distance to g"),
                ("m.lerp-unfused", "moves the first moment by the rounded product of 1 - beta1 and its distance to g"),
                ("m.fused-other", "fuses the gradient's product into the first moment"),
                ("m.undamped", "adds the whole gradient to the first moment"),
                ("v.unfused", "rounds both products of the second moment before they are added"),
                ("v.fused-in-fp64", "takes the second moment in fp64 and rounds it to fp32 a second time"),
                ("v.fused-other", "fuses the gradient's product into the second moment"),
                ("v.square-first", "squares the gradient before it is multiplied by 1 - beta2"),
                ("v.unclipped", "takes the second moment of the gradient before clipping"),
                ("v.undamped", "adds the whole square to the second moment"),
                ("v.magnitude", "takes the gradient's magnitude for its square"),
                ("betas.exchanged", "exchanges beta1 and beta2"),
                ("beta2.999e-3", "takes 0.999 for beta2"), ("beta2.95e-2", "takes 0.95 for beta2"),
                ("clip.epsilon", "divides the limit by the norm plus 1e-6"),
                ("clip.missing", "does not clip"),
                ("clip.always", "scales to the limit where the norm is below it too"),
                ("clip.zero-clips", "takes a limit of 0 for a limit"),
                ("clip.norm-over-limit", "divides by the rounded norm / limit"),
                ("clip.product-first", "multiplies by the limit before it divides by the norm"),
                ("clip.by-value", "clips each value at the limit"),
                ("clip.squared-norm", "compares and divides by the norm's square"),
                ("norm.squared", "gives the norm's square"),
                ("norm.after-clipping", "gives the norm after clipping"),
                ("update.unfused", "rounds rate times update before it is subtracted"),
                ("update.fused-in-fp64", "subtracts rate times update in fp64 and rounds to fp32 a second time"),
                ("update.negated", "adds the update instead of subtracting it"),
                ("update.reciprocal", "multiplies by the reciprocal of the denominator"),
                ("update.rsqrt", "multiplies by the reciprocal root, epsilon under it"),
                ("update.rate-first", "multiplies the moment by the rate before it divides"),
                ("update.old-moments", "updates by the moments before this gradient"),
                ("update.gradient", "updates by the gradient instead of the first moment"),
                ("update.root-missing", "divides by the second moment without its root"),
                ("moments.bf16", "keeps moments in bf16"),
                ("weights.bf16", "keeps weights in bf16"),
            ])
            + SumVariant.deviations(
                "adamw.norm-sum", ["T4", "R2"], what: "the norm's sum of squares",
                orders: SumVariant.rowTerms + ["blocks-128", "blocks-256", "lanes-16-of-1024"],
                accumulations: SumVariant.ofSums + ["fused-in-fp64"], zero: false),
        compute: adamw)

    @Sendable private static func adamw(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        var (beta1, beta2) = (given.float("beta1"), given.float("beta2"))
        var epsilon = given.float("epsilon")
        let decay = given.float("weight_decay")
        let rate = given.float("learning_rate")
        let limit = given.float("clip_norm")
        let step = given.integer("step")
        var w = given.floats("w")
        var m = given.floats("m")
        var v = given.floats("v")
        let given = given.floats("g")

        // The axes.
        let (decayChoice, bias, epsilonChoice) = (
            choices.on("adamw.decay"), choices.on("adamw.bias"), choices.on("adamw.epsilon")
        )
        let (mChoice, vChoice, update) = (choices.on("adamw.m"), choices.on("adamw.v"), choices.on("adamw.update"))
        let clip = choices.on("adamw.clip")
        if choices.has("adamw.betas.exchanged") { (beta1, beta2) = (beta2, beta1) }
        if choices.has("adamw.beta2.999e-3") { beta2 = 0.999 }
        if choices.has("adamw.beta2.95e-2") { beta2 = 0.95 }
        switch epsilonChoice {
        case "missing"?: epsilon = 0
        case "1e-8"?: epsilon = 1e-8
        default: break
        }

        // The norm and clipping.
        let normSum = SumVariant(order: .lanesOfBlocks(16, 4096)).under(choices, "adamw.norm-sum")
        let squares = normSum.sum(given.map { ($0, $0) })
        var norm = CorrectlyRounded.sqrt(squares)
        let measure = clip == "squared-norm" ? squares : norm
        var g = given
        let isClipped =
            (limit > 0 || clip == "zero-clips") && (measure > limit || clip == "always" || clip == "by-value")
        if isClipped {
            g = given.map { g in
                switch clip {
                case "missing"?: g
                case "epsilon"?: g * (limit / (norm + 1e-6))
                case "norm-over-limit"?: g / (norm / limit)
                case "product-first"?: g * limit / norm
                case "by-value"?: g > limit ? limit : g < -limit ? -limit : g
                default: g * (limit / measure)
                }
            }
        }
        switch choices.on("adamw.norm") {
        case "squared"?: norm = squares
        case "after-clipping"?: norm = CorrectlyRounded.sqrt(normSum.sum(g.map { ($0, $0) }))
        default: break
        }

        // The corrections.
        let correctionStep =
            switch bias {
            case "step-before"?: step - 1
            case "step-after"?: step + 1
            default: step
            }
        func correction(_ beta: Float) -> Float {
            guard correctionStep >= 1 else { return 1 }
            if bias == "fp32-power" || bias == "division" {
                var (power, base, rest) = (Float(1), beta, correctionStep)
                if bias == "division" {
                    // 1 - beta^n rounded once: the reciprocal of the correction in fp64 is within 2^-24 of it, so it comes from the power itself.
                    var exact = DoubleDouble(1.0)
                    var factor = DoubleDouble(Double(beta))
                    while rest > 0 {
                        if rest % 2 == 1 { exact = exact * factor }
                        factor = factor * factor
                        rest /= 2
                    }
                    return SoftFloat32.convert((DoubleDouble(1.0) - exact).high)
                }
                while rest > 0 {
                    if rest % 2 == 1 { power = power * base }
                    base = base * base
                    rest /= 2
                }
                return 1 / (1 - power)
            }
            return CorrectlyRounded.biasCorrection(beta, step: UInt64(correctionStep))
        }
        let correction1 = bias == "missing" || bias == "first-missing" ? 1 : correction(beta1)
        let correction2 =
            bias == "missing" || bias == "second-missing" ? 1 : correction(bias == "of-beta-1" ? beta1 : beta2)
        func corrected(_ x: Float, _ factor: Float) -> Float { bias == "division" ? x / factor : x * factor }
        let (rest1, rest2) = (1 - beta1, 1 - beta2)
        let weightDecay = decayChoice == "times-step" ? decay * Float(step) : decay

        for index in w.indices {
            var x = g[index]
            if decayChoice == "l2" { x = HardwareFloat32.fusedMultiplyAdd(decay, w[index], x) }
            let (oldM, oldV) = (m[index], v[index])
            m[index] =
                switch mChoice {
                case "unfused"?: beta1 * oldM + rest1 * x
                case "fused-in-fp64"?: SumVariant.fusedInDouble(beta1, oldM, rest1 * x)
                case "lerp"?: HardwareFloat32.fusedMultiplyAdd(rest1, x - oldM, oldM)
                case "lerp-unfused"?: oldM + rest1 * (x - oldM)
                case "fused-other"?: HardwareFloat32.fusedMultiplyAdd(rest1, x, beta1 * oldM)
                case "undamped"?: HardwareFloat32.fusedMultiplyAdd(beta1, oldM, x)
                default: HardwareFloat32.fusedMultiplyAdd(beta1, oldM, rest1 * x)
                }
            let y = vChoice == "unclipped" ? given[index] : x
            v[index] =
                switch vChoice {
                case "unfused"?: beta2 * oldV + rest2 * y * y
                case "fused-in-fp64"?: SumVariant.fusedInDouble(beta2, oldV, rest2 * y * y)
                case "fused-other"?: HardwareFloat32.fusedMultiplyAdd(rest2 * y, y, beta2 * oldV)
                case "square-first"?: HardwareFloat32.fusedMultiplyAdd(beta2, oldV, rest2 * (y * y))
                case "undamped"?: HardwareFloat32.fusedMultiplyAdd(beta2, oldV, y * y)
                case "magnitude"?: HardwareFloat32.fusedMultiplyAdd(beta2, oldV, rest2 * y.magnitude)
                default: HardwareFloat32.fusedMultiplyAdd(beta2, oldV, rest2 * y * y)
                }
            if choices.has("adamw.moments.bf16") {
                m[index] = SumVariant.bf16(m[index])
                v[index] = SumVariant.bf16(v[index])
            }
            let (usedM, usedV) =
                switch update {
                case "old-moments"?: (oldM, oldV)
                case "gradient"?: (x, v[index])
                default: (m[index], v[index])
                }
            let variance = corrected(usedV, correction2)
            var numerator = bias == "in-step-size" ? usedM : corrected(usedM, correction1)
            var rate = bias == "in-step-size" ? rate * correction1 : rate
            if update == "rate-first" { (numerator, rate) = (numerator * rate, 1) }
            let denominator: Float =
                switch epsilonChoice {
                case "inside-root"?: CorrectlyRounded.sqrt(variance + epsilon)
                case "before-correction"?:
                    (CorrectlyRounded.sqrt(usedV) + epsilon) * CorrectlyRounded.sqrt(correction2)
                default:
                    (bias == "in-step-size"
                        ? CorrectlyRounded.sqrt(usedV) * CorrectlyRounded.sqrt(correction2)
                        : update == "root-missing" ? variance : CorrectlyRounded.sqrt(variance)) + epsilon
                }
            var u: Float =
                switch update {
                case "reciprocal"?: numerator * (1 / denominator)
                case "rsqrt"?: numerator * CorrectlyRounded.rsqrt(variance + epsilon)
                default: numerator / denominator
                }
            var weight = w[index]
            if weightDecay != 0 {
                switch decayChoice {
                case "separate"?: weight = weight * (1 - rate * weightDecay)
                case "not-times-rate"?: weight = HardwareFloat32.fusedMultiplyAdd(-weightDecay, weight, weight)
                case "unfused"?: u = weightDecay * weight + u
                case "fused-in-fp64"?: u = SumVariant.fusedInDouble(weightDecay, weight, u)
                case "l2"?, "missing"?, "of-new-weight"?: break
                default: u = HardwareFloat32.fusedMultiplyAdd(weightDecay, weight, u)
                }
            }
            weight =
                switch update {
                case "unfused"?: weight - rate * u
                case "fused-in-fp64"?: SumVariant.fusedInDouble(-rate, u, weight)
                case "negated"?: HardwareFloat32.fusedMultiplyAdd(rate, u, weight)
                default: HardwareFloat32.fusedMultiplyAdd(-rate, u, weight)
                }
            if decayChoice == "of-new-weight", weightDecay != 0 {
                weight = HardwareFloat32.fusedMultiplyAdd(-(rate * weightDecay), weight, weight)
            }
            w[index] = choices.has("adamw.weights.bf16") ? SumVariant.bf16(weight) : weight
        }
        var result = CaseResult()
        result.output("norm", [norm], [1])
        result.output("m", m, [m.count])
        result.output("v", v, [v.count])
        result.output("w", w, [w.count])
        return result
    }
}
