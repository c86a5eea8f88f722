import Cases
import ExactMath
import JSON
import ModelSpec
import Reference

func clampFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [builder.file("clamp", dynamicCases(builder) + staticCases(builder))]
}

/// Values about a limit: on it and one unit to each side, both signs, the ties between int8 codes, and what no number line has.
private func aroundLimit(_ limit: Float, _ random: inout CaseRandom, columns: Int) -> [Float] {
    var values: [Float] = []
    for edge in [limit, limit / 127, limit / 254, limit / 2] {
        for value in [edge.nextDown, edge, edge.nextUp] { values += [value, -value] }
    }
    // Codes and the ties between them, as near as fp32 comes.
    for code in stride(from: 0, to: 127, by: 3) {
        let tie = limit * ((Float(code) + 0.5) / 127)
        values += [tie.nextDown, tie, tie.nextUp, -tie, limit * (Float(code) / 127)]
    }
    values += [
        0, -0.0, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, -.leastNormalMagnitude, .greatestFiniteMagnitude,
    ]
    while values.count % columns != 0 || values.count < 240 {
        values.append(limit * Float(random.integer(in: -4096...4096)) / 2048)
    }
    return values
}

/// Slopes of both signs; zeros, the negative one at values beyond the limits too, and NaN.
private func slopes(_ random: inout CaseRandom, _ count: Int) -> [Float] {
    (0..<count).map { index in
        switch index % 17 {
        case 3: 0
        case 5, 6, 8: -0.0
        case 7: .nan
        default: random.float(exponents: 110...130)
        }
    }
}

private func dynamicCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ why: String, kappa: Float = 4, _ activation: ClampActivation, _ gradient: ClampGradient,
        int8: Bool, fanIn: Int, columns: Int, weights: (inout CaseRandom) -> [UInt16]
    ) {
        var random = builder.random(name)
        let w = weights(&random)
        // Values about the limit that these weights have; of the order of 1 where they have none.
        let limit =
            (try? Clamp.dynamicLimit(
                weights: w.map { .init(bitPattern: $0) }, fanIn: fanIn, columns: columns, kappa: kappa,
                activation: activation)) ?? 0
        let y = aroundLimit(limit > 0 ? limit : 1, &random, columns: columns)
        let shape = [y.count / columns, columns]
        var recipe = JSONValue.entries("kappa", kappa)
        recipe["activation"] = .string(activation.rawValue)
        recipe["gradient"] = .string(gradient.rawValue)
        recipe["int8"] = .bool(int8)
        cases.append(
            builder.makeCase(
                "dynamic-\(name)", "clamp.dynamic", why: why, recipe: recipe,
                inputs: [
                    NamedTensor("w", Tensor(bf16: w, shape: [fanIn, columns])),
                    NamedTensor("y", Tensor(y, shape: shape)),
                    NamedTensor("dy", Tensor(slopes(&random, y.count), shape: shape)),
                ]))
    }
    for activation in ClampActivation.allCases {
        for gradient in ClampGradient.allCases {
            for int8 in [false, true] {
                add(
                    "\(activation.rawValue)-\(gradient.rawValue)\(int8 ? "-int8" : "")",
                    "values on and beside both limits and the ties between codes, slopes of every sign", activation,
                    gradient, int8: int8, fanIn: 23, columns: 8
                ) { $0.bf16s(23 * 8, exponents: 120...125) }
            }
        }
    }
    add(
        "zero-weights", "weights all zero: the limit is 0, everything is +0", .none, .straightThrough, int8: true,
        fanIn: 4, columns: 8
    ) { _ in
        [UInt16](repeating: 0, count: 32)
    }
    add(
        "kappa-zero", "kappa 0: the limit is 0 whatever the weights", kappa: 0, .relu2, .inward, int8: false, fanIn: 4,
        columns: 8
    ) {
        $0.bf16s(32, exponents: 120...125)
    }
    add(
        "many-weights", "more than 4096 weights: the sum of squares goes by blocks (R2)", kappa: 2.5, .none,
        .straightThrough, int8: true, fanIn: 601, columns: 8
    ) {
        $0.bf16s(601 * 8, exponents: 110...127)
    }
    add(
        "rounded-mean", "a mean, a root and a product that all round: kappa last, or a division, gives another limit",
        kappa: 2.7, .none, .inward, int8: true, fanIn: 5, columns: 3
    ) { _ in [UInt16](repeating: 0x3FE5, count: 15) }
    for (kappa, fanIn) in [(2.7, 7), (3.3, 11), (1.9, 13), (5.7, 19)] as [(Float, Int)] {
        add(
            "rounded-product-\(fanIn)",
            "kappa, rms and sqrt(n) of full significands: another order of their product, or one rounding, gives another limit",
            kappa: kappa, .none, .straightThrough, int8: false, fanIn: fanIn, columns: 3
        ) { random in
            var weights: [UInt16] = []
            for _ in 0..<64 {
                weights = random.bf16s(fanIn * 3, exponents: 120...125)
                // With kappa 1 and a fan-in of 1 the limit is the rms.
                let rms =
                    (try? Clamp.dynamicLimit(
                        weights: weights.map { .init(bitPattern: $0) }, fanIn: 1, columns: fanIn * 3, kappa: 1,
                        activation: .none)) ?? 0
                let root = CorrectlyRounded.sqrt(Float(fanIn))
                let limit = kappa * rms * root
                if limit != kappa * root * rms, limit != Float(Double(kappa) * Double(rms) * Double(root)) { break }
            }
            return weights
        }
    }
    add(
        "minus-zero-kappa", "kappa -0: the limit is +0", kappa: -0.0, .none, .straightThrough, int8: true, fanIn: 2,
        columns: 8
    ) { _ in
        [UInt16](repeating: 0x3F80, count: 16)
    }
    add("one-weight", "a single weight", kappa: 1, .relu2, .straightThrough, int8: true, fanIn: 1, columns: 1) { _ in
        [0x3F81]
    }
    add(
        "tiny-weights", "squares of the weights underflow gradually", kappa: 4, .none, .straightThrough, int8: false,
        fanIn: 9, columns: 8
    ) {
        $0.bf16s(72, exponents: 50...60)
    }
    for columns in [65] {
        add(
            "columns-\(columns)", "\(columns) columns: one behind tiles of 64 or 256", .relu2, .straightThrough,
            int8: true,
            fanIn: 3, columns: columns
        ) {
            $0.bf16s(3 * columns, exponents: 120...125)
        }
    }
    return cases
}

private func staticCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ why: String, limit: Float, _ activation: ClampActivation, int8: Bool,
        y: (inout CaseRandom) -> [Float]
    ) {
        var random = builder.random(name)
        let values = y(&random)
        let shape = [values.count / 8, 8]
        var recipe = JSONValue.entries("limit", limit)
        recipe["activation"] = .string(activation.rawValue)
        recipe["gradient"] = "straight-through"
        recipe["int8"] = .bool(int8)
        cases.append(
            builder.makeCase(
                "static-\(name)", "clamp.static", why: why, recipe: recipe,
                inputs: [
                    NamedTensor("y", Tensor(values, shape: shape)),
                    NamedTensor("dy", Tensor(slopes(&random, values.count), shape: shape)),
                ]))
    }
    for activation in ClampActivation.allCases {
        add(
            "limit-\(activation.rawValue)", "a limit as given, int8 codes about every tie", limit: 3.3, activation,
            int8: true
        ) {
            aroundLimit(3.3, &$0, columns: 8)
        }
    }
    add(
        "limit-13", "a step of L * RNE32(1/127), not L / 127: most codes dequantise otherwise", limit: 13, .none,
        int8: true
    ) {
        aroundLimit(13, &$0, columns: 8)
    }
    add(
        "code-127-above", "127 times the rounded step is above the limit: the dequantised value stays there",
        limit: 1.9843811, .none, int8: true
    ) {
        aroundLimit(1.9843811, &$0, columns: 8)
    }
    add("minus-zero", "a limit of -0 is +0", limit: -0.0, .relu2, int8: false) { $0.floats(16, exponents: 110...127) }
    add("collapse", "a limit far above the values: every code is 0 (C5)", limit: 1000, .none, int8: true) {
        $0.floats(64, exponents: 110...127)
    }
    add(
        "power-of-two", "a limit that is a power of two: 127/L and L/127 are rounded, not exact", limit: 0.25, .none,
        int8: true
    ) {
        aroundLimit(0.25, &$0, columns: 8)
    }
    add(
        "largest", "the largest limit that there is: nothing but infinities is clamped",
        limit: .greatestFiniteMagnitude, .none, int8: false
    ) {
        $0.floats(56, exponents: 240...254) + [.infinity, -.infinity, .nan, 0, -0.0, 1, -1, .greatestFiniteMagnitude]
    }
    return cases
}
