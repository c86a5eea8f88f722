import Cases
import ExactMath
import Goldens
import JSON
import ModelSpec

// squinch.*: clauses S1 to S7 once more, under choices.

/// Squinch under choices: scales by way of double-double, codes by comparisons that binary64 makes exactly.
struct SquinchCodec {
    let variant: SquinchVariant
    private let scaleChoice: String?
    private let maximumChoice: String?
    private let roundingChoice: String?
    private let codeChoice: String?
    private let clips: Bool
    private let randomChoice: String?
    private let signChoice: String?
    private let reversesSigns: Bool
    private let nibbleChoice: String?
    private let bytesChoice: String?
    private let interleaves: Bool
    private let zeroChoice: String?
    private let zeroDecodeChoice: String?
    private let infinityChoice: String?
    private let tailChoice: String?
    private let inputChoice: String?
    private let decodeChoice: String?
    private let encodeIntervals: Double
    private let decodeIntervals: Double
    /// M[q].
    private let scales: [Float]

    init(_ variant: SquinchVariant, _ choices: Choices) {
        self.variant = variant
        scaleChoice = choices.on("squinch.scale")
        maximumChoice = choices.on("squinch.maximum")
        roundingChoice = choices.on("squinch.rounding")
        codeChoice = choices.on("squinch.code")
        clips = !choices.has("squinch.clip.missing")
        randomChoice = choices.on("squinch.random")
        signChoice = choices.on("squinch.sign")
        reversesSigns = choices.has("squinch.sign-order.reversed")
        nibbleChoice = choices.on("squinch.nibble")
        bytesChoice = choices.on("squinch.bytes")
        interleaves = choices.has("squinch.block.interleaved")
        zeroChoice = choices.on("squinch.zero-block")
        zeroDecodeChoice = choices.on("squinch.zero-decode")
        infinityChoice = choices.on("squinch.infinity")
        tailChoice = choices.on("squinch.tail")
        inputChoice = choices.on("squinch.input")
        decodeChoice = choices.on("squinch.decode")
        let intervals: Double = variant == .floor16 ? 16 : 15
        encodeIntervals = choices.has("squinch.intervals.exchanged") ? 31 - intervals : intervals
        decodeIntervals = choices.has("squinch.decode-intervals.exchanged") ? 31 - intervals : intervals
        scales = Self.tables[choices.on("squinch.table") ?? ""]!
    }

    // MARK: Scales

    private static let tables: [String: [Float]] = {
        func exact(_ offset: Int) -> [Float] {
            (0...255).map { q in
                SoftFloat32.convert(DoubleDouble.exp(DoubleDouble(Double(q - offset)) / DoubleDouble(6.0)).high)
            }
        }
        func map(_ value: (Float) -> Float) -> [Float] { (0...255).map { value(Float($0 - 128)) } }
        let log2eSixth = SoftFloat32.convert(
            (DoubleDouble(1.0) / (DoubleDouble.log(DoubleDouble(2.0)) * DoubleDouble(6.0))).high)
        var chain = [Float](repeating: 1, count: 256)
        for q in 129...255 { chain[q] = chain[q - 1] * CorrectlyRounded.exp(sixths: 1, rounding: .toNearestOrEven) }
        for q in (0...127).reversed() {
            chain[q] = chain[q + 1] * CorrectlyRounded.exp(sixths: -1, rounding: .toNearestOrEven)
        }
        return [
            "": exact(128), "offset-127": exact(127), "offset-129": exact(129),
            "fp32-quotient": map { CorrectlyRounded.exp($0 / 6) },
            "fp32-sixth": map { CorrectlyRounded.exp($0 * (1 / 6)) },
            "fp32-base-2": map { DeviationCatalog.exp2($0 * log2eSixth) },
            "base-2": map { n in
                let exponent = DoubleDouble(Double(n)) / DoubleDouble(6.0)
                return SoftFloat32.convert(DoubleDouble.exp(exponent * DoubleDouble.log(DoubleDouble(2.0))).high)
            },
            "multiplied": chain,
            "bf16": exact(128).map(SumVariant.bf16),
            "rounded-up": (0...255).map { CorrectlyRounded.exp(sixths: $0 - 128, rounding: .up) },
        ]
    }()

    private static let ln2Sixths = SoftFloat32.convert((DoubleDouble.log(DoubleDouble(2.0)) * DoubleDouble(6.0)).high)

    /// S2
    private func scaleByte(_ m: Float) -> Int {
        if m == 0 { return zeroChoice == "least-scale-always" ? 1 : 0 }
        guard m.isFinite else { return 255 }
        let sixths: Double
        var bias = 129
        switch scaleChoice {
        case "fp32-log": sixths = Double((6 * CorrectlyRounded.log(m)).rounded(.down))
        case "fp32-log-divided": sixths = Double((CorrectlyRounded.log(m) / (1 / 6)).rounded(.down))
        case "fp32-log2": sixths = Double((DeviationCatalog.log2(m) * Self.ln2Sixths).rounded(.down))
        case "bf16-log": sixths = Double((6 * SumVariant.bf16(CorrectlyRounded.log(m))).rounded(.down))
        case "base-2":
            sixths = Self.floor(
                DoubleDouble.log(DoubleDouble(m)) * DoubleDouble(6.0) / DoubleDouble.log(DoubleDouble(2.0)))
        case "truncated":
            let exact = DoubleDouble.log(DoubleDouble(m)) * DoubleDouble(6.0)
            sixths = m >= 1 ? (m == 1 ? 0 : Self.floor(exact)) : -Self.floor(-exact)
        case "rounded":
            sixths = Self.floor(DoubleDouble.log(DoubleDouble(m)) * DoubleDouble(6.0) + DoubleDouble(0.5))
        case "up":
            sixths = m == 1 ? 0 : -Self.floor(-(DoubleDouble.log(DoubleDouble(m)) * DoubleDouble(6.0)))
        default:
            sixths = m == 1 ? 0 : Self.floor(DoubleDouble.log(DoubleDouble(m)) * DoubleDouble(6.0))
            switch scaleChoice {
            case "bias-127": bias = 127
            case "bias-128": bias = 128
            case "bias-130": bias = 130
            default: break
            }
        }
        let least = zeroChoice == "least-scale" || zeroChoice == "least-scale-always" ? 1 : 0
        return max(least, min(255, Int(sixths) + bias))
    }

    private static func floor(_ x: DoubleDouble) -> Double {
        let down = x.high.rounded(.down)
        return down == x.high && x.low < 0 ? down - 1 : down
    }

    // MARK: Codes

    /// S3
    private func code(_ x: Float, _ scale: Float, _ word: UInt32) -> Int {
        guard x.isFinite else { return x.isNaN ? 0 : 15 }
        if codeChoice == "nearest-decoded" { return nearestDecoded(x.magnitude, scale) }
        if codeChoice?.hasPrefix("fp32") == true { return codeInSingle(x.magnitude, scale, word) }
        let (x, scale) = (Double(x.magnitude), Double(scale))
        if variant == .stochastic15 { return stochasticCode(x, scale, word) }
        let n = encodeIntervals
        let rounding = roundingChoice ?? (variant == .floor16 ? "down" : "nearest")
        let isLinear = codeChoice == "linear"
        // The condition under which a code is at least k. All products are exact.
        func reaches(_ k: Int) -> Bool {
            let k = Double(k)
            switch rounding {
            case "nearest":
                return isLinear
                    ? (2 * k - 1) * scale <= 2 * n * x : (2 * k - 1) * (2 * k - 1) * scale <= 4 * n * n * x
            case "up":
                return isLinear ? (k - 1) * scale < n * x : (k - 1) * (k - 1) * scale < n * n * x
            case "strict":
                let (left, factor) = variant == .floor16 ? (k, n) : (2 * k - 1, 2 * n)
                return left * left * scale < factor * factor * x
            default: return isLinear ? k * scale <= n * x : k * k * scale <= n * n * x
            }
        }
        var code = 0
        while code < 15 && reaches(code + 1) { code += 1 }
        if code == 15 && !clips {
            // Codes beyond fp32's integers are none that an implementation would count.
            let approximate = n * (x / scale).squareRoot()
            guard approximate < 0x1p24 else { return 15 }
            code = Int(approximate)
            while !reaches(code) { code -= 1 }
            while reaches(code + 1) { code += 1 }
            return code & 15
        }
        return code
    }

    private func stochasticCode(_ x: Double, _ scale: Double, _ word: UInt32) -> Int {
        if scale <= x { return 15 }
        let isLinear = codeChoice == "linear"
        var a = 0
        while a < 14 {
            let k = Double(a + 1)
            guard isLinear ? k * scale <= 15 * x : k * k * scale <= 225 * x else { break }
            a += 1
        }
        let k = Double(a)
        // Both sides are exact: see S3, and Sterbenz for the difference.
        let width = isLinear ? scale : (2 * k + 1) * scale
        let part = isLinear ? 15 * x - k * scale : 225 * x - k * k * scale
        let v = Double(Self.word(word, randomChoice))
        let roundsUp: Bool =
            switch randomChoice {
            case "ignored": false
            case "probability-inverted": v * width >= 0x1p24 * part
            case "inclusive": v * width <= 0x1p24 * part
            case "root-probability": v * 0x1p-24 < 15 * (x / scale).squareRoot() - k
            default: v * width < 0x1p24 * part
            }
        return roundsUp ? a + 1 : a
    }

    /// The 24 bits that are compared.
    private static func word(_ word: UInt32, _ choice: String?) -> UInt32 {
        switch choice {
        case "half": 1 << 23
        case "lower-24-bits": word & 0xFF_FFFF
        case "upper-16-bits": (word >> 16) << 8
        case "upper-8-bits": (word >> 24) << 16
        case "inverted": ~word >> 8
        default: word >> 8
        }
    }

    private func codeInSingle(_ x: Float, _ scale: Float, _ word: UInt32) -> Int {
        let n = Float(encodeIntervals)
        if codeChoice == "fp32-thresholds" {
            if variant == .stochastic15 { return stochasticCode(Double(x), Double(scale), word) }
            var code = 0
            for k in 1...15 {
                let k = Float(k)
                let factor = variant == .floor16 ? k * k / (n * n) : (2 * k - 1) * (2 * k - 1) / (4 * n * n)
                if factor * scale <= x { code = Int(k) }
            }
            return code
        }
        let root: Float =
            switch codeChoice {
            case "fp32-reciprocal": (x * (1 / scale)).squareRoot()
            case "fp32-roots": x.squareRoot() / scale.squareRoot()
            case "fp32-rsqrt": x.squareRoot() * CorrectlyRounded.rsqrt(scale)
            default: (x / scale).squareRoot()
            }
        let scaled = min(n * root, 100)
        switch variant {
        case .floor16: return min(15, Int(roundingChoice == "nearest" ? scaled + 0.5 : scaled))
        case .round15: return min(15, Int(roundingChoice == "down" ? scaled : scaled + 0.5))
        case .stochastic15:
            if scaled >= 15 { return 15 }
            let a = min(14, scaled.rounded(.down))
            let share = (225 * (root * root) - a * a) / (2 * a + 1)
            return Int(a) + (Float(Self.word(word, randomChoice)) * 0x1p-24 < share ? 1 : 0)
        }
    }

    private func nearestDecoded(_ x: Float, _ scale: Float) -> Int {
        var best = 0
        for code in 1...15
        where (Double(magnitude(code, scale)) - Double(x)).magnitude
            < (Double(magnitude(best, scale)) - Double(x)).magnitude
        {
            best = code
        }
        return best
    }

    // MARK: Encoding

    func encode(_ input: [Float], random: [UInt32]) -> [UInt8] {
        let count = input.count
        let blocks = (count + 7) / 8
        var x = input
        switch inputChoice {
        case "rounded-to-bf16": x = x.map(SumVariant.bf16)
        case "truncated-to-bf16": x = x.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) }
        default: break
        }
        // S5: the padding.
        for index in count..<8 * blocks {
            switch tailChoice {
            case "stale": x.append(index >= 8 ? x[index - 8] : 0)
            case "last-repeated": x.append(x[count - 1])
            default: x.append(0)
            }
        }
        if infinityChoice == "as-zero" { x = x.map { $0.isInfinite ? Float(signOf: $0, magnitudeOf: 0) : $0 } }
        let words = random + [UInt32](repeating: 0, count: random.isEmpty ? 0 : 8 * blocks - count)
        var ofTensor: Float = 0
        if maximumChoice == "of-tensor" { ofTensor = x.reduce(0) { max($0, $1.magnitude) } }
        var bytes = [UInt8](repeating: 0, count: 6 * blocks)
        var values = [Float](repeating: 0, count: 8)
        var codes = [Int](repeating: 0, count: 8)
        for block in 0..<blocks {
            if tailChoice == "unwritten" && 8 * block + 8 > count { continue }
            for element in 0..<8 { values[element] = x[place(block, element, blocks)] }
            // S1
            var m = ofTensor
            if maximumChoice != "of-tensor" {
                for (element, value) in values.enumerated() {
                    switch maximumChoice {
                    case "signed": m = max(m, value)
                    case "first-half": if element < 4 { m = max(m, value.magnitude) }
                    case "last-missing": if element < 7 { m = max(m, value.magnitude) }
                    case "first-element": if element == 0 { m = value.magnitude }
                    default:
                        if infinityChoice == "scale-of-finite" && value.isInfinite { continue }
                        m = max(m, value.magnitude)
                    }
                }
            }
            let q = scaleByte(m)
            // S4
            if q == 0 && zeroChoice != "codes-kept" && zeroChoice != "signs-kept" { continue }
            var signs: UInt8 = 0
            for element in 0..<8 {
                let index = place(block, element, blocks)
                var word: UInt32 = 0
                if !words.isEmpty { word = words[randomChoice == "first-of-block" ? index - index % 8 : index] }
                codes[element] = q == 0 && zeroChoice == "signs-kept" ? 0 : code(values[element], scales[q], word)
                let isNegative: Bool =
                    switch signChoice {
                    case "inverted": values[element].sign == .plus
                    case "ignored": false
                    case "of-negative-zero-dropped": values[element] < 0
                    case "of-zero-code-dropped": values[element].sign == .minus && codes[element] > 0
                    default: values[element].sign == .minus
                    }
                if isNegative { signs |= 1 << UInt8(reversesSigns ? 7 - element : element) }
            }
            let packed = [UInt8(q), signs] + nibbles(codes)
            for part in 0..<6 { bytes[address(block, part, blocks)] = packed[part] }
        }
        return bytes
    }

    private func place(_ block: Int, _ element: Int, _ blocks: Int) -> Int {
        interleaves ? element * blocks + block : 8 * block + element
    }

    /// Where byte `part` of S5 stands.
    private func address(_ block: Int, _ part: Int, _ blocks: Int) -> Int {
        switch bytesChoice {
        case "scale-last": 6 * block + (part + 5) % 6
        case "signs-first": 6 * block + (part < 2 ? 1 - part : part)
        case "signs-last": 6 * block + (part == 0 ? 0 : part == 1 ? 5 : part - 1)
        case "codes-first": 6 * block + (part + 4) % 6
        case "codes-reversed": 6 * block + (part < 2 ? part : 7 - part)
        case "reversed": 6 * block + 5 - part
        case "planar": part < 2 ? part * blocks + block : 2 * blocks + 4 * block + part - 2
        default: 6 * block + part
        }
    }

    /// The nibble in which a code stands, low nibbles first.
    private func nibble(_ element: Int) -> Int {
        switch nibbleChoice {
        case "high-first": element ^ 1
        case "reversed": 7 - element
        case "halves": element < 4 ? 2 * element : 2 * element - 7
        default: element
        }
    }

    private func nibbles(_ codes: [Int]) -> [UInt8] {
        var bytes: [UInt8] = [0, 0, 0, 0]
        for element in 0..<8 {
            let nibble = nibble(element)
            bytes[nibble / 2] |= UInt8(codes[element]) << UInt8(4 * (nibble % 2))
        }
        return bytes
    }

    // MARK: Decoding

    /// `count` values, or those of the padding too.
    func decode(_ bytes: [UInt8], count: Int) -> [Float] {
        let blocks = bytes.count / 6
        var values = [Float](repeating: 0, count: 8 * blocks)
        for block in 0..<blocks {
            let q = Int(bytes[address(block, 0, blocks)])
            let signs = bytes[address(block, 1, blocks)]
            for element in 0..<8 {
                let nibble = nibble(element)
                let code = Int(bytes[address(block, 2 + nibble / 2, blocks)] >> UInt8(4 * (nibble % 2)) & 15)
                var isNegative = signs >> UInt8(reversesSigns ? 7 - element : element) & 1 == 1
                if signChoice == "inverted" { isNegative.toggle() }
                if signChoice == "ignored" { isNegative = false }
                var value: Float = 0
                // S4
                if q > 0 || zeroDecodeChoice == "by-scale" { value = magnitude(code, scales[q]) }
                if q == 0 && zeroDecodeChoice == nil { isNegative = false }
                values[place(block, element, blocks)] = isNegative ? -value : value
            }
        }
        return Array(values.prefix(count))
    }

    /// S3
    private func magnitude(_ code: Int, _ scale: Float) -> Float {
        let n = decodeIntervals
        let (q, single) = (Double(code), Float(code))
        let isFloor = variant == .floor16
        // Factors below 2^11 times 24 bits are exact, and a quotient by 225, 512 or 900 is never so near a tie that rounding twice differs.
        func rounded(_ numerator: Double, _ divisor: Double) -> Float {
            SoftFloat32.convert(numerator * Double(scale) / divisor)
        }
        let ratio = isFloor ? (2 * single + 1) / Float(2 * n) : single / Float(n)
        switch decodeChoice {
        case "lower-edge": return rounded(q * q, n * n)
        case "midpoint": return rounded((2 * q + 1) * (2 * q + 1), 4 * n * n)
        case "upper-edge" where isFloor: return rounded((q + 1) * (q + 1), n * n)
        case "mean-of-edges" where isFloor: return rounded(q * q + (q + 1) * (q + 1), 2 * n * n)
        case "zero-as-zero" where code == 0: return 0
        case "linear": return isFloor ? rounded(2 * q + 1, 2 * n) : rounded(q, n)
        case "ratio-twice": return ratio * (ratio * scale)
        case "ratio-squared": return ratio * ratio * scale
        case "factor-rounded" where !isFloor: return single * single / Float(n * n) * scale
        case "product-rounded" where !isFloor: return single * single * scale / Float(n * n)
        case "by-reciprocal" where !isFloor: return single * single * scale * (1 / Float(n * n))
        case "factor-by-reciprocal" where !isFloor: return single * single * (1 / Float(n * n)) * scale
        case "scale-divided" where !isFloor: return single * single * (scale / Float(n * n))
        default: break
        }
        return isFloor ? rounded((2 * q + 1) * (2 * q + 1), 4 * n * n) : rounded(q * q, n * n)
    }

    // MARK: Feedback

    /// S7 of one rank.
    static func feedback(_ x: [Float], _ e: [Float], random: [UInt32], _ codec: SquinchCodec, _ choices: Choices)
        -> (blocks: [UInt8], decoded: [Float], residual: [Float], y: [Float])
    {
        let y: [Float] = zip(x, e).map { x, e in
            switch choices.on("squinch.y") {
            case "e-ignored": x
            case "e-subtracted": x - e
            case "rounded-to-bf16": SumVariant.bf16(x + e)
            default: x + e
            }
        }
        let blocks = codec.encode(choices.has("squinch.coded.x") ? x : y, random: random)
        let decoded = codec.decode(blocks, count: x.count)
        let residual: [Float] = x.indices.map { index in
            let d = decoded[index]
            switch choices.on("squinch.residual") {
            case "from-x": return x[index] - d
            case "accumulated": return e[index] + (y[index] - d)
            case "regrouped": return (x[index] - d) + e[index]
            case "regrouped-e": return x[index] + (e[index] - d)
            case "unrounded-sum":
                var sum = ExactSum()
                sum.add(x[index])
                sum.add(e[index])
                sum.add(-d)
                return sum.roundedToFloat()
            case "forgotten-in-zero-blocks": return d == 0 ? 0 : y[index] - d
            default: return y[index] - d
            }
        }
        return (blocks, decoded, residual, y)
    }
}

// MARK: - The family

extension DeviationCatalog {
    static let squinchFamily = VariantFamily(
        name: "squinch", operations: ["squinch.encode", "squinch.decode", "squinch.feedback"],
        deviations: squinchVariants + squinchEncoding + squinchDecoding + squinchFeedback + squinchRarities
    ) { given, choices in
        let variant = given.choice("variant", SquinchVariant.self)
        let codec = SquinchCodec(variant, choices)
        var result = CaseResult()
        if given.op == "squinch.decode" {
            let count = given.integer("count")
            let blocks = given.integers("blocks", UInt8.self)
            result.output("x", codec.decode(blocks, count: count), [count])
            return result
        }
        let x =
            given.tensor("x").type == .bf16
            ? given.bf16("x").map(Float.init(bf16:)) : given.floats("x")
        let random = given.integers("random", UInt32.self)
        if given.op == "squinch.encode" {
            let bytes = codec.encode(x, random: random)
            result.output("blocks", Tensor(bytes, shape: [bytes.count / 6, 6]))
            return result
        }
        let e = given.floats("e")
        let feedback = SquinchCodec.feedback(x, e, random: random, codec, choices)
        result.output("blocks", Tensor(feedback.blocks, shape: [feedback.blocks.count / 6, 6]))
        result.output("decoded", feedback.decoded, [x.count])
        result.output("residual", feedback.residual, [x.count])
        return result
    }

    /// Another variant. What rounds stochastically has no words where none are asked for.
    static let squinchVariants: [Deviation] = [SquinchVariant.floor16, .round15].map { variant in
        Deviation(
            "squinch.variant.\(variant.rawValue)", "codes or decodes as \(variant.rawValue)", ["S3"],
            .question { goldenCase in
                guard let old = goldenCase.recipe["variant"], old != .string(variant.rawValue) else { return nil }
                var changed = goldenCase
                changed.recipe["variant"] = .string(variant.rawValue)
                changed.inputs = goldenCase.inputs.removing("random").removing("random_reduced")
                return changed
            })
    }

    private static func alternatives(
        _ axis: String, _ clauses: [String], _ all: KeyValuePairs<String, String>
    ) -> [Deviation] {
        all.map { Deviation("squinch.\(axis).\($0.key)", $0.value, clauses) }
    }

    /// What changes blocks.
    static let squinchEncoding: [Deviation] =
        alternatives(
            "scale", ["S2"],
            [
                "fp32-log": "takes the scale byte from a logarithm that was rounded to fp32: floor(6 log m)",
                "fp32-log-divided": "takes the scale byte from floor(log m / (1/6)) in fp32",
                "fp32-log2": "takes the scale byte from a base 2 logarithm in fp32: floor(log2 m * 6 ln 2)",
                "truncated": "truncates 6 ln m toward zero (an integer conversion) instead of taking the floor",
                "rounded": "rounds 6 ln m to the nearest integer instead of taking the floor",
                "up": "takes the ceiling of 6 ln m instead of the floor",
                "bias-128": "adds 128 instead of 129 to floor(6 ln m)",
                "bias-130": "adds 130 instead of 129 to floor(6 ln m)",
                "bias-127": "adds 127 instead of 129 to floor(6 ln m)",
                "base-2": "takes the logarithm to base 2 for the natural one",
                "bf16-log": "takes the scale byte from a logarithm that was rounded to bf16",
            ])
        + alternatives(
            "code", ["S3"],
            [
                "fp32": "takes the square root of the ratio in fp32 instead of comparing exactly",
                "fp32-reciprocal": "multiplies by 1/M and takes the square root in fp32",
                "fp32-roots": "divides the square roots of |x| and M in fp32",
                "fp32-rsqrt": "multiplies the square root of |x| by 1/sqrt(M) in fp32",
                "fp32-thresholds": "compares |x| with thresholds that were rounded to fp32",
                "linear": "divides magnitudes, not their square roots, evenly",
                "nearest-decoded": "takes the code that decodes nearest to the value",
            ])
        + alternatives(
            "rounding", ["S3"],
            [
                "nearest": "rounds the code to nearest instead of down",
                "down": "rounds the code down instead of to nearest", "up": "rounds the code up",
                "strict": "takes the lower code for a magnitude on a boundary",
            ])
        + alternatives("intervals", ["S3"], ["exchanged": "codes with 15 intervals for 16, or 16 for 15"])
        + alternatives(
            "random", ["S3"],
            [
                "ignored": "leaves the random words out and rounds down",
                "half": "leaves the random words out and rounds to nearest",
                "inverted": "complements the random words",
                "probability-inverted": "rounds up with the probability of rounding down",
                "root-probability": "rounds up in proportion to the root, not to the magnitude, which is biased",
                "lower-24-bits": "compares with the lower 24 bits of the random word",
                "upper-16-bits": "compares with the upper 16 bits of the random word",
                "upper-8-bits": "compares with the upper 8 bits of the random word",
                "first-of-block": "uses a block's first random word for all its elements",
                "inclusive": "rounds up where the random number equals the share",
            ])
        + alternatives(
            "maximum", ["S1"],
            [
                "signed": "takes the largest value of a block, not the largest magnitude",
                "last-missing": "leaves the last element out of a block's maximum",
                "first-half": "takes the maximum of the first 4 elements",
                "first-element": "scales by the first element",
                "of-tensor": "takes one scale for the whole tensor",
            ])
        + alternatives(
            "zero-block", ["S2", "S4"],
            [
                "signs-kept": "keeps the sign bits of a block whose scale byte is 0",
                "codes-kept": "keeps the codes and signs of a block whose scale byte is 0",
                "least-scale": "gives scale byte 1 to blocks below the least scale",
                "least-scale-always": "gives scale byte 1 to zero blocks and blocks below the least scale",
            ])
        + alternatives(
            "tail", ["S5"],
            [
                "stale": "leaves the previous block's values in the tail's padding",
                "last-repeated": "pads the tail with the last value", "unwritten": "leaves the ragged last block zero",
            ])
        + alternatives(
            "input", ["S1"],
            [
                "rounded-to-bf16": "rounds fp32 inputs to bf16 first",
                "truncated-to-bf16": "cuts fp32 inputs to bf16 first",
            ])

    /// What changes blocks or what they decode to.
    static let squinchDecoding: [Deviation] =
        alternatives(
            "table", ["S2"],
            [
                "fp32-quotient": "makes M with fp32 arithmetic: exp(fl((q - 128) / 6))",
                "fp32-sixth": "makes M with fp32 arithmetic: exp(fl((q - 128) * fl(1/6)))",
                "fp32-base-2": "makes M with fp32 arithmetic: exp2(fl((q - 128) * fl(log2(e) / 6)))",
                "multiplied": "makes M by repeated fp32 multiplication with exp(1/6) and exp(-1/6)",
                "offset-129": "makes M with q - 129", "offset-127": "makes M with q - 127",
                "base-2": "makes M a power of 2^(1/6)", "rounded-up": "rounds M up", "bf16": "rounds M to bf16",
            ])
        + alternatives(
            "nibble", ["S5"],
            [
                "high-first": "puts the first code of a byte into the high nibble",
                "reversed": "puts the codes in the other order",
                "halves": "puts the codes of elements i and i + 4 into one byte",
            ])
        + alternatives("sign-order", ["S5"], ["reversed": "puts the sign of element 0 into the highest bit"])
        + alternatives(
            "sign", ["S4"],
            [
                "of-negative-zero-dropped": "gives -0 no sign bit",
                "of-zero-code-dropped": "gives no sign bit to elements of code 0",
                "inverted": "sets the sign bit of positive values", "ignored": "has no signs",
            ])
        + alternatives(
            "bytes", ["S5"],
            [
                "scale-last": "puts the scale behind signs and codes", "signs-first": "puts the signs before the scale",
                "signs-last": "puts the signs behind the codes", "codes-first": "puts the codes before scale and signs",
                "codes-reversed": "puts the bytes of codes in the other order",
                "reversed": "puts all bytes of a block in the other order",
                "planar": "stores all scales, then all signs, then all codes",
            ])
        + alternatives(
            "block", ["S1"], ["interleaved": "makes a block of elements that lie a number of blocks apart"])
        + alternatives(
            "decode", ["S3"],
            [
                "lower-edge": "decodes floor16 codes to the lower edge of their interval: q^2 M / 256",
                "midpoint": "decodes round15 codes half a step higher: (2q + 1)^2 M / 900",
                "zero-as-zero": "decodes code 0 to zero",
                "mean-of-edges": "decodes floor16 codes to the mean of the interval's edges",
                "upper-edge": "decodes floor16 codes to the upper edge of their interval",
                "linear": "decodes without the square", "ratio-twice": "multiplies twice by the rounded root",
                "ratio-squared": "squares q/15, rounding it",
                "factor-rounded": "rounds q^2 / 225 before it multiplies by M",
                "product-rounded": "rounds q^2 M before it divides by 225",
                "by-reciprocal": "multiplies q^2 M by a rounded 1/225",
                "factor-by-reciprocal": "multiplies q^2 by a rounded 1/225 and then by M",
                "scale-divided": "rounds M / 225 before it multiplies by q^2",
            ])
        + alternatives(
            "decode-intervals", ["S3"], ["exchanged": "decodes with 15 intervals for 16, or 16 for 15"])
        + alternatives(
            "zero-decode", ["S4"],
            [
                "by-scale": "decodes blocks of scale byte 0 by their codes",
                "sign-kept": "decodes elements of scale byte 0 to zeros with their sign bits",
            ])

    static let squinchFeedback: [Deviation] =
        alternatives(
            "y", ["S7"],
            [
                "e-ignored": "leaves the residual of the step before out",
                "e-subtracted": "subtracts the residual of the step before",
                "rounded-to-bf16": "rounds x + e to bf16",
            ])
        + alternatives("coded", ["S7"], ["x": "encodes x instead of x + e"])
        + alternatives(
            "residual", ["S7"],
            [
                "from-x": "takes the residual x - d instead of (x + e) - d",
                "accumulated": "adds the new residual to the old one", "regrouped": "takes the residual (x - d) + e",
                "regrouped-e": "takes the residual x + (e - d)",
                "unrounded-sum": "takes the residual from the sum x + e before it is rounded",
                "forgotten-in-zero-blocks": "drops the residual where the value decodes to zero",
            ])

    private static let squinchRarities: [Deviation] =
        alternatives("clip", ["S3"], ["missing": "lets a code beyond 15 wrap around"])
        + alternatives(
            "infinity", ["S6"],
            [
                "scale-of-finite": "leaves infinities out of a block's maximum",
                "as-zero": "encodes infinities as zeros",
            ])
}
