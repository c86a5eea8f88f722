import Cases
import ExactMath
import Goldens
import JSON

// gumbel.*: clause K once more, under choices.

extension DeviationCatalog {
    static let gumbelFamily = VariantFamily(
        name: "gumbel", operations: ["gumbel.topk", "gumbel.replacement", "gumbel.softmax"],
        deviations: gumbelSamples + gumbelDraws + gumbelRelaxed + gumbelSums
    ) { given, choices in
        let noise = GumbelNoise(
            seed: given.unsigned64("seed"), stream: UInt32(given.integer("stream")),
            step: UInt32(given.integer("step")), choices)
        switch given.op {
        case "gumbel.topk": return try topK(given, noise, choices)
        case "gumbel.replacement": return try replacement(given, noise, choices)
        default: return try relaxed(given, noise, choices)
        }
    }

    // MARK: The noise

    private struct GumbelNoise {
        let seed: UInt64
        let stream: UInt32
        let step: UInt32
        private let words: String?
        private let kind: String?
        private let draw: String?

        init(seed: UInt64, stream: UInt32, step: UInt32, _ choices: Choices) {
            self.seed = seed
            self.stream = stream
            self.step = step
            words = choices.on("gumbel.words")
            kind = choices.on("gumbel.noise")
            draw = choices.on("gumbel.draw")
        }

        /// Where token j of row r, slot c finds its draw.
        func index(row r: Int, rows n: Int, token j: Int, vocabulary v: Int) -> Int {
            switch draw {
            case "row-missing": j
            case "transposed": j * n + r
            case "rows-padded": r * ((v + 3) / 4 * 4) + j
            case "one-further": r * v + j + 1
            default: r * v + j
            }
        }

        func callAsFunction(_ draw: Int) -> Float {
            let n = UInt64(draw)
            var (block, word) = (n / 4, Int(n % 4))
            switch words {
            case "reversed": word = 3 - word
            case "block-a-draw": (block, word) = (n, 0)
            default: break
            }
            let counter = (UInt32(truncatingIfNeeded: block), UInt32(truncatingIfNeeded: block >> 32), stream, step)
            let result = Philox4x32.block(
                key: (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32)), counter: counter)
            let w = [result.0, result.1, result.2, result.3][word]
            let log: (Float) -> Float = CorrectlyRounded.log
            // G2
            let u = Float(2 * (w >> 9) + 1) * 0x1p-24
            switch kind {
            case "missing": return 0
            case "24-bits": return -log(-log(u))
            case "24-bits-closed": return -log(-log(Float(w >> 8) * 0x1p-24))
            case "23-bits-closed": return -log(-log(Float(w >> 9) * 0x1p-23))
            case "32-bits": return -log(-log(SoftFloat32.convert(UInt64(w)) * 0x1p-32))
            case "exponential": return -log(u)
            case "uniform": return u
            default: break
            }
            // G3
            var v = SoftFloat32.convert(2 * UInt64(w) + 1) * 0x1p-33
            if v > 1 - 0x1p-24 { v = 1 - 0x1p-24 }
            let t: Float =
                switch kind {
                case "log-of-difference": -log(1 - v)
                case "unreflected": -log(v)
                default: -CorrectlyRounded.log1p(-v)
                }
            return kind == "minimum" ? log(t) : -log(t)
        }
    }

    // MARK: Z1

    private struct LogSoftmax {
        let maximum: Float
        let sum: Float
        let z: Float
        private let form: String?

        init(_ s: [Float], _ choices: Choices) {
            form = choices.on("gumbel.log-softmax")
            let first = Sentinel.value(choices.on("gumbel.maximum"), "from") ?? -Float.infinity
            var maximum = s.reduce(first) { $1 > $0 ? $1 : $0 }
            if maximum == 0 || form == "maximum-missing" { maximum = 0 }
            let variant = SumVariant(order: .lanes(16)).under(choices, "gumbel.sum")
            let shift = maximum
            sum = variant.sum(of: s.map { CorrectlyRounded.exp($0 - shift) })
            self.maximum = maximum
            z = maximum + CorrectlyRounded.log(sum)
        }

        func logProbability(_ s: Float) -> Float {
            switch form {
            case "regrouped": return (s - maximum) - CorrectlyRounded.log(sum)
            case "log-of-quotient": return CorrectlyRounded.log(CorrectlyRounded.exp(s - maximum) / sum)
            default: return s - z
            }
        }

        func probability(_ s: Float) -> Float { CorrectlyRounded.exp(s - maximum) / sum }
    }

    // MARK: K1, K2

    private static func checked(_ logits: [Float]) throws -> [Float] {
        guard logits.allSatisfy({ !$0.isNaN && $0 != .infinity }) else { throw OperationError(.value, "a logit") }
        return logits
    }

    private static func topK(_ given: CheckedCase, _ noise: GumbelNoise, _ choices: Choices) throws -> CaseResult {
        let k = given.integer("k")
        let logits = try checked(given.floats("logits"))
        let (n, v) = (given.size("N"), given.size("V"))
        var ids: [UInt32] = []
        var weights: [Float] = []
        var kappas: [Float] = []
        let enters = choices.has("gumbel.empty.minus-infinity-enters")
        let kappaChoice = choices.on("gumbel.kappa")
        for row in 0..<n {
            let s = Array(logits[row * v..<(row + 1) * v])
            let softmax = LogSoftmax(s, choices)
            let logp = s.map(softmax.logProbability)
            let entries = s.indices.filter { enters || s[$0] != -.infinity }
            let phi = s.indices.map { j -> Float in
                let g = noise(noise.index(row: row, rows: n, token: j, vocabulary: v))
                switch choices.on("gumbel.phi") {
                case "of-logits", "of-logits-throughout": return s[j] + g
                case "of-probabilities": return softmax.probability(s[j]) + g
                case "noise-alone": return g
                default: return logp[j] + g
                }
            }
            func ranked(_ key: [Float]) -> [Int] {
                let lowest = Sentinel.value(choices.on("gumbel.best"), "above") ?? -.infinity
                return entries.filter { key[$0] > lowest || lowest == -.infinity }.sorted { a, b in
                    if key[a] != key[b] { return key[a] > key[b] }
                    return choices.has("gumbel.ties.higher-id") ? a > b : a < b
                }
            }
            let order = ranked(phi)
            func value(_ place: Int, _ key: [Float], _ order: [Int]) -> Float {
                order.indices.contains(place) ? key[order[place]] : -.infinity
            }
            var kappa: Float =
                switch kappaChoice {
                case "last-sampled": value(k - 1, phi, order)
                case "one-further": value(k + 1, phi, order)
                case "unperturbed": value(k, logp, ranked(logp))
                case "without-noise": value(k, logp, order)
                default: value(k, phi, order)
                }
            if kappa == -.infinity {
                switch kappaChoice {
                case "zero-where-none": kappa = 0
                case "last-where-none": kappa = order.last.map { phi[$0] } ?? kappa
                default: break
                }
            }
            kappas.append(kappa)
            var slots = Array(order.prefix(k))
            switch choices.on("gumbel.slots") {
            case "ascending-ids": slots.sort()
            case "ascending-phi": slots.reverse()
            case "by-probability": slots.sort { logp[$0] != logp[$1] ? logp[$0] > logp[$1] : $0 < $1 }
            default: break
            }
            var row: [Float] = slots.map { j in
                weight(s: s[j], logp: logp[j], phi: phi[j], kappa: kappa, k: k, softmax, choices)
            }
            if choices.has("gumbel.normalised.sum") {
                let sum = row.reduce(0, +)
                row = row.map { $0 / sum }
            }
            for slot in 0..<k {
                guard slot < slots.count else {
                    ids.append(
                        choices.has("gumbel.empty.zero") ? 0 : choices.has("gumbel.empty.vocabulary") ? UInt32(v) : .max
                    )
                    weights.append(0)
                    continue
                }
                ids.append(UInt32(slots[slot]))
                weights.append(row[slot])
            }
        }
        var result = CaseResult()
        result.output("ids", Tensor(ids, shape: [n, k]))
        result.output("weights", weights, [n, k])
        result.output("kappa", kappas, [n])
        return result
    }

    private static func weight(
        s: Float, logp: Float, phi: Float, kappa: Float, k: Int, _ softmax: LogSoftmax, _ choices: Choices
    ) -> Float {
        let exp: (Float) -> Float = CorrectlyRounded.exp
        let expm1: (Float) -> Float = CorrectlyRounded.expm1
        let choice = choices.on("gumbel.weight")
        let logits = choice == "of-logits" ? s : logp
        let p = choices.has("gumbel.p.of-softmax") ? softmax.probability(s) : exp(logits)
        switch choice {
        case "uncorrected": return p
        case "one-over-k": return 1 / Float(max(1, k))
        case "one": return 1
        case "of-phi": return exp(phi)
        case "of-phi-less-kappa": return exp(phi - kappa)
        default: break
        }
        if kappa == -.infinity { return p }
        let distance =
            choice == "t-inverted"
            ? kappa - logits : choices.has("gumbel.phi.of-logits-throughout") ? s - kappa : logits - kappa
        let t = exp(distance)
        switch choice {
        case "textbook": return p / (1 - exp(-t))
        case "fp64": return SoftFloat32.convert(Double(p) / Double(-expm1(-t)))
        case "by-reciprocal": return p * (1 / -expm1(-t))
        case "probability-of-inclusion": return -expm1(-t)
        case "reciprocal-of-inclusion": return 1 / -expm1(-t)
        case "multiplied": return p * -expm1(-t)
        case "product-of-p-and-kappa": return p / -expm1(-(p / exp(kappa)))
        default: return p / -expm1(-t)
        }
    }

    // MARK: With replacement

    private static func replacement(_ given: CheckedCase, _ noise: GumbelNoise, _ choices: Choices) throws
        -> CaseResult
    {
        let k = given.integer("k")
        let logits = try checked(given.floats("logits"))
        let (n, v) = (given.size("N"), given.size("V"))
        var ids: [UInt32] = []
        var weights: [Float] = []
        for row in 0..<n {
            let s = Array(logits[row * v..<(row + 1) * v])
            let softmax = LogSoftmax(s, choices)
            let logp = s.map(softmax.logProbability)
            for slot in 0..<k {
                let lowest = Sentinel.value(choices.on("gumbel.best"), "above") ?? -.infinity
                var best: (id: Int, phi: Float)?
                for j in 0..<v where s[j] != -.infinity || choices.has("gumbel.empty.minus-infinity-enters") {
                    let draw =
                        switch choices.on("gumbel.slot-draw") {
                        case "same": noise.index(row: row, rows: n, token: j, vocabulary: v)
                        case "slot-inside-row": (row * k + slot) * v + j
                        case "slot-innermost": (row * v + j) * k + slot
                        default: slot * n * v + noise.index(row: row, rows: n, token: j, vocabulary: v)
                        }
                    let key: Float =
                        switch choices.on("gumbel.phi") {
                        case "of-logits": s[j]
                        case "of-probabilities": softmax.probability(s[j])
                        case "noise-alone": 0
                        default: logp[j]
                        }
                    let phi = key + noise(draw)
                    if phi <= lowest && lowest > -.infinity { continue }
                    let isBetter =
                        best.map { $0.phi < phi || $0.phi == phi && choices.has("gumbel.ties.higher-id") } ?? true
                    if isBetter { best = (j, phi) }
                }
                guard let best else {
                    ids.append(
                        choices.has("gumbel.empty.zero") ? 0 : choices.has("gumbel.empty.vocabulary") ? UInt32(v) : .max
                    )
                    weights.append(0)
                    continue
                }
                ids.append(UInt32(best.id))
                let share: Float =
                    switch choices.on("gumbel.share") {
                    case "one": 1
                    case "probability": CorrectlyRounded.exp(logp[best.id])
                    case "probability-over-k": CorrectlyRounded.exp(logp[best.id]) / Float(k)
                    default: 1 / Float(k)
                    }
                weights.append(share)
            }
            if choices.has("gumbel.slots.ascending-ids") {
                ids.replaceSubrange((ids.count - k)..., with: ids[(ids.count - k)...].sorted())
            }
        }
        var result = CaseResult()
        result.output("ids", Tensor(ids, shape: [n, k]))
        result.output("weights", weights, [n, k])
        return result
    }

    // MARK: K3

    private static func relaxed(_ given: CheckedCase, _ noise: GumbelNoise, _ choices: Choices) throws
        -> CaseResult
    {
        let tau = given.float("tau")
        let logits = given.floats("logits")
        let dy = given.floats("dy")
        let (n, v) = (given.size("N"), given.size("V"))
        guard tau.isFinite, tau > 0 else { throw OperationError(.value, "tau is \(tau)") }
        let inner = SumVariant(order: .lanes(16)).under(choices, "gumbel.inner")
        var output: [Float] = []
        var gradient: [Float] = []
        for row in 0..<n {
            let s = Array(logits[row * v..<(row + 1) * v])
            let z: [Float] = (0..<v).map { j in
                let g = noise(noise.index(row: row, rows: n, token: j, vocabulary: v))
                switch choices.on("gumbel.tau") {
                case "missing": return s[j] + g
                case "multiplied": return (s[j] + g) * tau
                case "before-noise": return s[j] / tau + g
                case "of-noise": return s[j] + g / tau
                case "noise-multiplied": return s[j] + g * tau
                case "by-reciprocal": return (s[j] + g) * (1 / tau)
                default: return (s[j] + g) / tau
                }
            }
            let softmax = LogSoftmax(z, choices)
            var y: [Float] = z.map { z in
                switch choices.on("gumbel.softmax") {
                case "by-log-sum": return CorrectlyRounded.exp(z - softmax.z)
                case "by-reciprocal": return CorrectlyRounded.exp(z - softmax.maximum) * (1 / softmax.sum)
                case "of-log-softmax":
                    return CorrectlyRounded.exp((z - softmax.maximum) - CorrectlyRounded.log(softmax.sum))
                default: return softmax.probability(z)
                }
            }
            let slopes = Array(dy[row * v..<(row + 1) * v])
            let along = choices.has("gumbel.gradient.sum-missing") ? 0 : inner.sum(zip(y, slopes).map { ($0, $1) })
            gradient += (0..<v).map { j -> Float in
                let centred = slopes[j] - along
                switch choices.on("gumbel.gradient") {
                case "without-tau": return y[j] * centred
                case "tau-multiplied": return y[j] * centred * tau
                case "tau-reciprocal": return y[j] * centred * (1 / tau)
                case "tau-first": return y[j] * (centred / tau)
                case "expanded": return (y[j] * slopes[j] - y[j] * along) / tau
                case "probability-over-tau": return y[j] / tau * centred
                case "y-missing": return centred / tau
                case "negated-sum": return y[j] * (slopes[j] + along) / tau
                default: return y[j] * centred / tau
                }
            }
            if choices.has("gumbel.hard.argmax"), let largest = y.max(), let place = y.firstIndex(of: largest) {
                y = y.indices.map { $0 == place ? 1 : 0 }
            }
            output += y
        }
        var result = CaseResult()
        result.output("y", output, [n, v])
        result.output("dlogits", gradient, [n, v])
        return result
    }

    // MARK: What may deviate

    private static func alternatives(
        _ axis: String, _ clauses: [String], _ all: KeyValuePairs<String, String>
    ) -> [Deviation] {
        all.map { Deviation("gumbel.\(axis).\($0.key)", $0.value, clauses) }
    }

    private static let gumbelSamples: [Deviation] =
        Sentinel.deviations(
            "gumbel.maximum", "from", "starts the maximum of a row at * in place of -infinity", ["K1", "Z1", "R4"]
        ).filter { !$0.name.hasSuffix("lowest") }
        + Sentinel.deviations(
            "gumbel.best", "above", "lets only phi above * enter the sample, in place of all above -infinity", ["K1"])
        + alternatives(
            "weight", ["K2"],
            [
                "uncorrected": "gives the probability as weight: w = p",
                "textbook": "takes 1 - exp(-t) instead of -expm1(-t)",
                "of-logits": "makes the weights of logits instead of log-probabilities",
                "t-inverted": "takes t = exp(kappa - logp)", "one-over-k": "gives every token the weight 1/k",
                "one": "gives every token the weight 1", "of-phi": "gives exp(phi) as weight",
                "of-phi-less-kappa": "gives exp(phi - kappa) as weight",
                "probability-of-inclusion": "gives the probability of inclusion as weight",
                "reciprocal-of-inclusion": "leaves p out of the weight",
                "multiplied": "multiplies by the probability of inclusion",
                "by-reciprocal": "multiplies p by the reciprocal of the probability of inclusion",
                "product-of-p-and-kappa": "takes t = p / exp(kappa)",
            ])
        + alternatives("normalised", ["K2"], ["sum": "divides the weights of a row by their sum"])
        + alternatives(
            "kappa", ["K1"],
            [
                "last-sampled": "takes the k-th phi for kappa", "one-further": "takes the (k + 2)-th phi for kappa",
                "unperturbed": "takes the (k + 1)-th log-probability for kappa",
                "without-noise": "takes the log-probability of the (k + 1)-th token for kappa",
                "zero-where-none": "gives 0 where there is no kappa",
                "last-where-none": "gives the last phi where there is no kappa",
            ])
        + alternatives(
            "phi", ["K1"],
            [
                "of-logits": "adds the noise to logits, not to log-probabilities",
                "of-logits-throughout": "adds the noise to logits and takes t = exp(s - kappa)",
                "of-probabilities": "adds the noise to probabilities", "noise-alone": "ranks by the noise alone",
            ])
        + alternatives(
            "log-softmax", ["K1", "Z1"],
            [
                "regrouped": "takes (s - max) - log(sum) instead of s - Z",
                "log-of-quotient": "takes the logarithm of the softmax",
                "maximum-missing": "sums exp(s) without subtracting the maximum",
            ])
        + alternatives("p", ["K2"], ["of-softmax": "takes p = exp(s - max) / sum instead of exp(logp)"])
        + alternatives(
            "slots", ["K1"],
            [
                "ascending-ids": "stores a row's ids in ascending order",
                "ascending-phi": "stores the largest phi last",
                "by-probability": "stores a row's tokens by descending probability",
            ])
        + alternatives("ties", ["K1"], ["higher-id": "puts the higher id first where phi ties"])
        + alternatives(
            "empty", ["K1"],
            [
                "minus-infinity-enters": "lets logits of -infinity enter the sample",
                "zero": "writes id 0 to empty slots",
                "vocabulary": "writes the vocabulary's size to empty slots",
            ])
        + alternatives(
            "slot-draw", ["K2"],
            [
                "same": "uses the same draws for every slot", "slot-inside-row": "uses draw (r k + c) V + j for slot c",
                "slot-innermost": "uses draw (r V + j) k + c for slot c",
            ])
        + alternatives(
            "share", ["K2"],
            [
                "one": "gives every slot the weight 1", "probability": "gives a slot the probability of its token",
                "probability-over-k": "gives a slot the probability of its token over k",
            ])

    private static let gumbelDraws: [Deviation] =
        alternatives(
            "noise", ["G3"],
            [
                "missing": "adds no noise", "24-bits": "makes the noise of the 24-bit uniform: -log(-log(u))",
                "24-bits-closed": "makes the noise of (w >> 8) 2^-24: -log(-log(u))",
                "23-bits-closed": "makes the noise of (w >> 9) 2^-23: -log(-log(u))",
                "32-bits": "makes the noise of w 2^-32: -log(-log(u))",
                "log-of-difference": "takes log(1 - v) instead of log1p(-v)",
                "minimum": "adds the Gumbel of the minimum",
                "unreflected": "takes -log(-log(v)), which is coarse where samples are decided",
                "exponential": "adds -log(u)", "uniform": "adds the uniform itself",
            ])
        + alternatives(
            "draw", ["K1"],
            [
                "row-missing": "uses the same draws for every row", "transposed": "uses draw j N + r",
                "rows-padded": "begins every row at a whole block of random words", "one-further": "begins with draw 1",
            ])
        + alternatives(
            "words", ["G1"],
            [
                "reversed": "takes the words of a block in the other order",
                "block-a-draw": "takes the first word of a block for every draw",
            ])
        + [
            seed("exchanged", "takes the seed's words in the other order") { $0 << 32 | $0 >> 32 },
            seed("lower-word", "uses the seed's lower word alone") { $0 & 0xFFFF_FFFF },
            seed("next", "adds 1 to the seed") { $0 &+ 1 },
            .recipe("gumbel.stream.zero", "leaves the stream out", ["G1"], key: "stream", 0),
            .recipe("gumbel.step.zero", "leaves the step out", ["G1"], key: "step", 0),
            Deviation(
                "gumbel.stream.exchanged", "exchanges stream and step", ["G1"],
                .question { goldenCase in
                    guard let stream = goldenCase.recipe["stream"], let step = goldenCase.recipe["step"], stream != step
                    else { return nil }
                    var changed = goldenCase
                    changed.recipe["stream"] = step
                    changed.recipe["step"] = stream
                    return changed
                }),
        ]

    private static func seed(_ name: String, _ summary: String, _ change: @escaping @Sendable (UInt64) -> UInt64)
        -> Deviation
    {
        Deviation(
            "gumbel.seed.\(name)", summary, ["G1"],
            .question { goldenCase in
                guard case .string(let digits)? = goldenCase.recipe["seed"], let seed = UInt64(digits, radix: 16) else {
                    return nil
                }
                let text = String(change(seed), radix: 16)
                var changed = goldenCase
                changed.recipe["seed"] = .string(String(repeating: "0", count: 16 - text.count) + text)
                return changed == goldenCase ? nil : changed
            })
    }

    private static let gumbelRelaxed: [Deviation] =
        alternatives(
            "tau", ["K3"],
            [
                "missing": "leaves the temperature out", "multiplied": "multiplies by the temperature",
                "before-noise": "divides the logits alone by the temperature",
                "of-noise": "divides the noise alone by the temperature",
                "noise-multiplied": "multiplies the noise by the temperature",
                "by-reciprocal": "multiplies by the rounded reciprocal of the temperature",
            ])
        + alternatives(
            "softmax", ["K3", "Z1"],
            [
                "by-log-sum": "takes y = exp(z - Z)", "by-reciprocal": "multiplies by the reciprocal of the sum",
                "of-log-softmax": "takes y = exp((z - max) - log(sum))",
            ])
        + alternatives("hard", ["K3"], ["argmax": "gives the argmax (straight-through) as output"])
        + alternatives(
            "gradient", ["K3"],
            [
                "without-tau": "leaves the temperature out of the gradient",
                "tau-multiplied": "multiplies the gradient by the temperature",
                "tau-reciprocal": "multiplies the gradient by the temperature's rounded reciprocal",
                "tau-first": "divides by the temperature before it multiplies by y",
                "probability-over-tau": "divides y by the temperature first", "expanded": "takes y dy - y D",
                "sum-missing": "leaves the sum over y dy out", "y-missing": "leaves the factor y out",
                "negated-sum": "adds the sum over y dy",
            ])

    /// Rows of fewer than 128 terms: longer blocks are the ascending order.
    private static let otherOrders = SumVariant.orders.map(\.name).filter {
        !$0.hasPrefix("lanes-16") && ![64, 128, 256].map { "blocks-\($0)" }.contains($0)
    }

    private static let gumbelSums: [Deviation] =
        SumVariant.deviations(
            "gumbel.sum", ["Z1", "R1"], what: "of the softmax", orders: otherOrders,
            accumulations: ["truncating", "bf16", "fp64"], zero: false)
        + SumVariant.deviations(
            "gumbel.inner", ["K3", "R1"], what: "over y dy", orders: otherOrders,
            accumulations: SumVariant.ofProducts, zero: false)
}
