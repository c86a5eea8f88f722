import Cases
import ModelSpec
import Reference

func squinchFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [
        builder.file("encode", encodeCases(builder)),
        builder.file("decode", decodeCases(builder)),
        builder.file("feedback", feedbackCases(builder)),
        builder.file("edges", feedbackThresholdCases(builder)),
    ]
}

private func fp32(_ values: [Float]) -> Tensor { Tensor(values, shape: [values.count]) }

/// Words for `stochastic15`: the extremes as often as the rest.
private func stochasticWords(_ random: CaseRandom, count: Int) -> Tensor {
    var random = random
    let words: [UInt32] = (0..<count).map { _ in
        let word = random.word()
        return random.index(below: 4) > 0
            ? word : [0, 0xFF, 0x100, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FEFF, .max][Int(word % 7)]
    }
    return Tensor(words, shape: [count])
}

/// Eight values whose largest magnitude is `peak`, the others spread below it.
private func block(_ peak: Float, _ random: inout CaseRandom) -> [Float] {
    var values: [Float] = (0..<8).map { _ in
        // A fraction of the peak, so that all codes occur; exact halving keeps the peak the largest.
        let fraction = Float(random.word() >> 8) * Float(bitPattern: 0x3380_0000)
        return peak * (fraction * fraction) * (random.bool() ? 1 : -1)
    }
    values[random.index(below: 8)] = random.bool() ? peak : -peak
    return values
}

private func encodeCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let tier = builder.tier
    var cases: [GoldenCase] = []
    for variant in SquinchVariant.allCases {
        func add(_ name: String, _ why: String, _ x: Tensor, nonfinite: NonfinitePolicy = .refuse) {
            let full = "\(variant.rawValue)-\(name)"
            var inputs: TensorGroup = [NamedTensor("x", x)]
            if variant == .stochastic15 {
                inputs.append("random", stochasticWords(builder.random(full), count: x.count))
            }
            cases.append(
                builder.makeCase(
                    full, "squinch.encode", why: why,
                    recipe: ["variant": .string(variant.rawValue), "nonfinite": .string(nonfinite.rawValue)],
                    inputs: inputs))
        }

        // S2: the value on each threshold and its neighbours, as the block's peak.
        var random = builder.random("\(variant.rawValue)-thresholds")
        var onThresholds: [Float] = []
        for threshold in SquinchTables.thresholds {
            for peak in [threshold.nextDown, threshold, threshold.nextUp] { onThresholds += block(peak, &random) }
        }
        add(
            "scale-thresholds",
            "the peak on each of the 255 thresholds and one unit to each side: a scale from a rounded logarithm is off by one",
            fp32(onThresholds))

        // S3: every code's boundary under a spread of scales, one unit below, on, above.
        var boundaries: [Float] = []
        let step = tier.pick(16, 4, 1)
        for scale in stride(from: 1, through: 255, by: step) {
            let peak = SquinchTables.scales[scale].nextDown
            for code in 1...15 {
                let ratio: Float =
                    variant == .floor16
                    ? Float(code * code) / 256 : Float((2 * code - 1) * (2 * code - 1)) / 900
                let edge = SquinchTables.scales[scale] * ratio
                boundaries += [peak, edge.nextDown, edge, edge.nextUp, -edge.nextDown, -edge, -edge.nextUp, 0]
            }
        }
        add(
            "code-boundaries",
            "magnitudes on and beside the boundary of each code: a square root in fp32 rounds across it",
            fp32(boundaries))

        add(
            "zeros-and-signs", "zero blocks of both signs, zeros beside values, subnormals far below the least scale",
            fp32(
                [Float](repeating: 0, count: 8) + [Float](repeating: -0.0, count: 8)
                    + [0, -0.0, 1, -1, 0, -0.0, 0.5, -0.5]
                    + [Float](repeating: .leastNonzeroMagnitude, count: 4)
                    + [Float](repeating: -.leastNormalMagnitude, count: 4)
                    + [1e-10, -1e-10, 3e-10, 4e-10, 5e-10, 5.3e-10, 5.4e-10, 5.5e-10]
                    + [4.5e-10, -0.0, 0, 4e-10, 0, 0, 0, 0]))
        add(
            "beyond-the-scales", "blocks clipped at both ends of the range of scales",
            fp32(
                [1e9, 1.5e9, 1.56e9, 1.6e9, 2e9, -1e10, 1e20, .greatestFiniteMagnitude]
                    + [1.5e9, 1e3, -1e3, 1, -1, 1e6, -1e6, 1e8] + [1e-12, 1e-20, -1e-30, 1e-38, 0, 0, 1e-11, -1e-13]))
        for n in [0, 1, 7, 9] {
            var ragged = builder.random("\(variant.rawValue)-ragged-\(n)")
            add(
                "ragged-\(n)", "n = \(n): the tail is padded with +0", fp32(ragged.floats(n, exponents: 110...130)))
        }
        var bits = builder.random("\(variant.rawValue)-bf16")
        let bf16Count = tier.pick(2048, 32_768, 262_144)
        add(
            "bf16-inputs", "bf16 values are read exactly",
            Tensor(bf16: bits.bf16s(bf16Count, exponents: 80...170), shape: [bf16Count]))
        var gradients = builder.random("\(variant.rawValue)-gradients")
        let count = tier.pick(8192, 131_072, 2_097_152)
        var values: [Float] = []
        while values.count < count { values += block(gradients.float(exponents: 97...127).magnitude, &gradients) }
        add("gradients", "blocks over the scales that gradients have", fp32(values))
        if variant == .floor16 || variant == .round15 {
            add(
                "saturated-infinities",
                "infinities of both signs become code 15 under scale 255, finite neighbours what is left",
                fp32([.infinity, -.infinity, 1, -1, 0, -0.0, 1e9, -1e8] + [.infinity, 0, 0, 0, 0, 0, 0, 0]),
                nonfinite: .saturate)
        }
    }
    return cases
}

private func decodeCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    // Every scale with every code and sign: four blocks a scale.
    var every: [UInt8] = []
    for scale in 0...255 {
        for part in 0..<4 {
            // Elements 0-7: codes 4 part ..< 4 part + 4, positive then negative.
            var codes = [UInt8](repeating: 0, count: 8)
            for element in 0..<8 { codes[element] = UInt8(4 * part + element % 4) }
            every += [UInt8(scale), 0xF0]
            for pair in 0..<4 { every.append(codes[2 * pair] | codes[2 * pair + 1] << 4) }
        }
    }
    for variant in SquinchVariant.allCases {
        func add(_ name: String, _ why: String, _ blocks: [UInt8], count: Int) {
            cases.append(
                builder.makeCase(
                    "\(variant.rawValue)-\(name)", "squinch.decode", why: why,
                    recipe: ["variant": .string(variant.rawValue), "count": .integer(Int64(count))],
                    inputs: [NamedTensor("blocks", Tensor(blocks, shape: [blocks.count / 6, 6]))]))
        }
        add(
            "every-scale-code-sign", "all 256 scales x 16 codes x 2 signs, garbage under scale 0 included", every,
            count: every.count / 6 * 8)
        var random = builder.random("\(variant.rawValue)-decode")
        let blocks = builder.tier.pick(1024, 16_384, 262_144)
        add(
            "random-words", "every 48-bit word decodes",
            (0..<blocks * 6).map { _ in UInt8(truncatingIfNeeded: random.word() >> 13) }, count: blocks * 8)
        for count in [0, 7, 9] {
            let bytes = (count + 7) / 8 * 6
            add(
                "ragged-\(count)", "\(count) elements: the padding is trimmed",
                (0..<bytes).map { _ in UInt8(truncatingIfNeeded: random.word() >> 13) }, count: count)
        }
    }
    return cases
}

private func feedbackCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    for variant in SquinchVariant.allCases {
        func add(_ name: String, _ why: String, _ x: [Float], _ e: [Float]) {
            let full = "feedback-\(variant.rawValue)-\(name)"
            var inputs: TensorGroup = [NamedTensor("x", fp32(x)), NamedTensor("e", fp32(e))]
            if variant == .stochastic15 {
                inputs.append("random", stochasticWords(builder.random(full), count: x.count))
            }
            cases.append(
                builder.makeCase(
                    full, "squinch.feedback", why: why, recipe: ["variant": .string(variant.rawValue)], inputs: inputs))
        }
        var random = builder.random("\(variant.rawValue)-feedback")
        let count = builder.tier.pick(2048, 65_536, 1_048_576)
        let x = random.floats(count, exponents: 97...127)
        add("first-step", "no residual yet: e = 0", x, [Float](repeating: 0, count: count))
        add(
            "later-step", "x + e is rounded once before it is encoded, y - d once after", x,
            random.floats(count, exponents: 93...124))
        add(
            "cancelling", "the residual cancels the gradient: zero blocks, signed zeros",
            x.prefix(64) + [0, -0.0, 0, -0.0, 1],
            x.prefix(64).map { -$0 } + [0, -0.0, -0.0, 0, -1])
        add(
            "clipped", "beyond the scales the residual keeps what the code cannot hold",
            [1e10, -1e12, 3e38, 1, 0, 2e9, 1e-30, -1e-12, 1e-11], [1e9, 0, 3e37, 1e-3, 1e-37, 0, 1e-31, 0, 1e-12])
    }
    return cases
}
