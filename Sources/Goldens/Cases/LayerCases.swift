import Cases
import ExactMath
import JSON
import ModelSpec

func layerFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [
        builder.file(
            "layers", normCases(builder) + ropeCases(builder) + elementwiseCases(builder) + linearCases(builder)),
        builder.file("losses", lossCases(builder)),
        builder.file("optimizer", optimizerCases(builder)),
        builder.file(
            "edges", lossSentinelCases(builder) + lossTermCases(builder) + layerDoubleRoundingCases(builder)),
        layerShapeFile(builder),
        builder.file("swiglu", gatedUnitCases(builder)),
        builder.file("outputs", linearOutputCases(builder)),
    ]
}

private let specialBF16: [UInt16] = [
    0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x8080, 0x3F80, 0xBF80, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7F81,
    0x7FC0,
]

private func normCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ why: String, n: Int, c: Int, epsilon: Float = 0x1p-20, x: [UInt16], gain: [UInt16]? = nil
    ) {
        var random = builder.random("norm-\(name)")
        cases.append(
            builder.makeCase(
                "rmsnorm-\(name)", "layer.rmsnorm", why: why, recipe: JSONValue.entries("epsilon", epsilon),
                inputs: [
                    NamedTensor("x", Tensor(bf16: x, shape: [n, c])),
                    NamedTensor("gain", Tensor(bf16: gain ?? random.bf16s(c, exponents: 125...128), shape: [c])),
                    NamedTensor("dy", Tensor(bf16: random.bf16s(n * c, exponents: 115...127), shape: [n, c])),
                ]))
    }
    var random = builder.random("norm")
    let (n, c) = builder.tier.pick((24, 67), (64, 257), (256, 1031))
    add(
        "typical", "a width that fills no round of lanes; the mean is times RNE32(1/C), not divided by C", n: n, c: c,
        x: random.bf16s(n * c, exponents: 115...130))
    add(
        "width-1", "C = 1: every value becomes the gain, with its sign", n: 9, c: 1,
        x: random.bf16s(9, exponents: 110...130))
    add("no-rows", "no rows: the gain's gradient is +0", n: 0, c: 5, x: [])
    add(
        "zero-rows", "rows of zeros: epsilon alone", n: 2, c: 8,
        x: [UInt16](repeating: 0, count: 8) + [UInt16](repeating: 0x8000, count: 8))
    add(
        "zero-epsilon", "a zero row without epsilon: infinity times zero is NaN", n: 2, c: 4, epsilon: 0,
        x: [0, 0, 0, 0, 0x3F80, 0, 0, 0])
    add(
        "extremes", "squares that overflow and underflow, infinities and NaN in rows of their own", n: 5, c: 3,
        x: [
            0x7F00, 0x3F80, 0xFF00, 0x0001, 0x8001, 0x0080, 0x7F80, 0x3F80, 0, 0x7F81, 0x3F80, 0, 0x1F00, 0x1F80,
            0x9F80,
        ])
    let tied = tiedNorms(builder)
    add(
        "ties", "y on a tie between two bf16 numbers: x (r g) rounds to the other one of it than (x r) g", n: 8, c: 8,
        x: tied.x, gain: tied.gain)
    return cases
}

/// Eight rows of eight, each with an element in a column of its own that rounds to other bf16 numbers as (x r) g and as x (r g).
private func tiedNorms(_ builder: CaseBuilder) -> (x: [UInt16], gain: [UInt16]) {
    var random = builder.random("norm-ties")
    var x: [UInt16] = []
    var gain = [UInt16](repeating: 0x3F80, count: 8)
    var free = Array(0..<8)
    // One of some 2^17 pairs of an element and a gain is such.
    while !free.isEmpty {
        let candidate = random.bf16s(8, exponents: 126...127)
        // Squares of such values have 16 bits within 2^-16: the sum is exact in any order, and so is an eighth of it.
        let squares = candidate.reduce(Float(0)) {
            let value = SoftFloat32.convert(bfloat16Bits: $1)
            return $0 + value * value
        }
        let r = CorrectlyRounded.rsqrt(squares * 0.125 + 0x1p-20)
        search: for (place, column) in free.enumerated() {
            let value = SoftFloat32.convert(bfloat16Bits: candidate[column])
            for bits in 0x3F80...0x3FFF as ClosedRange<UInt16> {
                let g = SoftFloat32.convert(bfloat16Bits: bits)
                if SoftFloat32.roundToBFloat16(value * r * g) != SoftFloat32.roundToBFloat16(value * (r * g)) {
                    x += candidate
                    gain[column] = bits
                    free.remove(at: place)
                    break search
                }
            }
        }
    }
    return (x, gain)
}

private func ropeCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ why: String, base: Float, heads: Int, d: Int, positions: [Int32],
        aimed: (x: [UInt16], dy: [UInt16])? = nil
    ) {
        var random = builder.random("rope-\(name)")
        let shape = [positions.count, heads, d]
        let count = positions.count * heads * d
        cases.append(
            builder.makeCase(
                "rope-\(name)", "layer.rope", why: why, recipe: JSONValue.entries("base", base),
                inputs: [
                    NamedTensor("x", Tensor(bf16: aimed?.x ?? random.bf16s(count, exponents: 118...129), shape: shape)),
                    NamedTensor("position", Tensor(positions, shape: [positions.count])),
                    NamedTensor(
                        "dy", Tensor(bf16: aimed?.dy ?? random.bf16s(count, exponents: 118...129), shape: shape)),
                ]))
    }
    add(
        "typical", "first positions, several heads: element i turns with element i + D/2", base: 10000, heads: 2, d: 16,
        positions: Array(0..<17))
    add(
        "far", "positions to 2^29 - 1: the product with theta is exact, the reduction is not a rounded one",
        base: 10000, heads: 1, d: 8,
        positions: [0, 1, 1000, 65_535, 65_536, 1_000_000, 1 << 24, (1 << 24) + 1, (1 << 29) - 1])
    add("large-base", "a base of five million", base: 5_000_000, heads: 1, d: 12, positions: [0, 3, 4095, 131_071])
    add(
        "base-1", "base 1: every pair turns by the position", base: 1, heads: 1, d: 4,
        positions: [0, 1, 2, 3, 22, 355, 103_993])
    add("dimension-2", "one pair", base: 10000, heads: 3, d: 2, positions: [7, 5, 5])
    add(
        "far-frequencies", "far positions of many frequencies: one unit in the last place of one turns by radians",
        base: 500_000, heads: 1, d: 26, positions: [1 << 16, (1 << 24) + 3, (1 << 29) - 1])
    let positions: [Int32] = (1...24).map { $0 } + [100, 1001, 65_537]
    let heads = 3
    var (x, dy): ([UInt16], [UInt16]) = ([], [])
    for position in positions {
        let pairs = cancellingPairs(
            cosine: CorrectlyRounded.cos(Double(position)), sine: CorrectlyRounded.sin(Double(position)), heads)
        x += pairs.flatMap { [$0.0, $0.1] }
        // The gradient turns the other way.
        dy += pairs.flatMap { [$0.0, $0.1 ^ 0x8000] }
    }
    add(
        "cancelling", "products that cancel but for 15 bits: which of the two is fused shows in bf16", base: 10000,
        heads: heads, d: 2, positions: positions, aimed: (x, dy))
    return cases
}

/// The pairs (a, b) of bf16 for which a cosine - b sine is nearest to 0 beside its terms.
private func cancellingPairs(cosine: Float, sine: Float, _ count: Int) -> [(UInt16, UInt16)] {
    var all: [(pair: (UInt16, UInt16), size: Double)] = []
    for a in 0x3F80...0x3FFF as ClosedRange<UInt16> {
        let value = SoftFloat32.convert(bfloat16Bits: a)
        let b = SoftFloat32.roundToBFloat16(value * cosine / sine)
        let rest =
            Double(value) * Double(cosine) - Double(SoftFloat32.convert(bfloat16Bits: b)) * Double(sine)
        all.append(((a, b), rest.magnitude / Double(value * cosine).magnitude))
    }
    return all.sorted { $0.size < $1.size }.prefix(count).map(\.pair)
}

private func elementwiseCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var random = builder.random("relu2")
    let x = specialBF16 + random.bf16s(builder.tier.pick(241, 4081, 65_521), exponents: 50...200)
    var dy = random.floats(x.count, exponents: 100...140)
    dy[3] = .nan
    dy[7] = .infinity
    dy[8] = .nan
    let relu = builder.makeCase(
        "relu2-values", "layer.relu2",
        why:
            "both signs, zeros, NaN, squares that overflow and underflow: +0 where u is not above 0, whatever the slope",
        inputs: [NamedTensor("x", Tensor(bf16: x, shape: [x.count])), NamedTensor("dy", Tensor(dy, shape: [x.count]))])
    var cases = [relu]
    for (name, why, tokens, v, c) in [
        (
            "repeated", "tokens that occur often: their gradients add in the order of the rows",
            (0..<61).map { _ in Int32(random.index(below: 5)) }, 7, 5
        ),
        ("absent", "tokens that do not occur have gradient +0", [3, 3, 0], 9, 3),
        ("none", "no tokens at all", [], 3, 2),
    ] as [(String, String, [Int32], Int, Int)] {
        cases.append(
            builder.makeCase(
                "embedding-\(name)", "layer.embedding", why: why,
                inputs: [
                    NamedTensor("tokens", Tensor(tokens, shape: [tokens.count])),
                    NamedTensor("w", Tensor(bf16: random.bf16s(v * c, exponents: 110...130), shape: [v, c])),
                    NamedTensor(
                        "dy",
                        Tensor(bf16: random.bf16s(tokens.count * c, exponents: 105...135), shape: [tokens.count, c])),
                ]))
    }
    return cases
}

private func gatedUnitCases(_ builder: CaseBuilder) -> [GoldenCase] {
    func make(_ name: String, _ why: String, gate: [UInt16], up: [UInt16], dy: [Float]) -> GoldenCase {
        builder.makeCase(
            "swiglu-\(name)", "layer.swiglu", why: why,
            inputs: [
                NamedTensor("gate", Tensor(bf16: gate, shape: [gate.count])),
                NamedTensor("up", Tensor(bf16: up, shape: [up.count])),
                NamedTensor("dy", Tensor(dy, shape: [dy.count])),
            ])
    }
    var random = builder.random("swiglu")
    let count = builder.tier.pick(131, 4081, 65_521)
    let pairs = specialBF16.flatMap { gate in specialBF16.map { (gate: gate, up: $0) } }
    // exp(-gate) underflows above 104, is less than half a unit of 1 above 17, and overflows below -88.72.
    let limits: [Float] = [16.5, 17.25, 88, 88.5, 89, 103, 104, 105, 1e10]
    let gates = limits.flatMap { [SoftFloat32.roundToBFloat16($0), SoftFloat32.roundToBFloat16(-$0)] }
    return [
        make(
            "values", "ordinary gates of both signs",
            gate: random.bf16s(count, exponents: 118...130), up: random.bf16s(count, exponents: 118...130),
            dy: random.floats(count, exponents: 118...130)),
        make(
            "limits", "gates at which exp(-gate) vanishes beside 1, underflows and overflows",
            gate: gates, up: random.bf16s(gates.count, exponents: 120...128),
            dy: random.floats(gates.count, exponents: 120...128)),
        make(
            "special", "zeros, subnormals, infinities and NaN of gate and up: a gate of -infinity gives NaN",
            gate: pairs.map(\.gate), up: pairs.map(\.up), dy: random.floats(pairs.count, exponents: 120...128)),
        make("none", "no elements at all", gate: [], up: [], dy: []),
    ]
}

/// D6: results stored in 16 bits.
private func linearOutputCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    for (index, (output, gradient)) in [("bf16", "fp16"), ("fp16", "bf16")].enumerated() {
        var random = builder.random("linear-output-\(output)-\(gradient)")
        let (b, t, inputs, outputs) = (2, 3, 17, 5)
        // fp16 ends at 65504 and is subnormal below 2^-14: the exponents reach both.
        let exponents = output == "fp16" ? 116...134 : 110...140
        let dot = DotRecipe.allCases[index % DotRecipe.allCases.count].rawValue
        cases.append(
            builder.makeCase(
                "linear-\(output)-\(gradient)", "layer.linear",
                why: "y and dx stored as \(output), dw as \(gradient): one rounding, from the fp32 sum",
                recipe: boundConstants(n: 17).merging([
                    "dot": .string(dot), "output": .string(output), "dw_output": .string(gradient),
                ]) { $1 },
                inputs: [
                    NamedTensor(
                        "x", Tensor(bf16: random.bf16s(b * t * inputs, exponents: exponents), shape: [b, t, inputs])),
                    NamedTensor(
                        "w",
                        Tensor(bf16: random.bf16s(inputs * outputs, exponents: exponents), shape: [inputs, outputs])
                    ),
                    NamedTensor(
                        "dy",
                        Tensor(bf16: random.bf16s(b * t * outputs, exponents: exponents), shape: [b, t, outputs])),
                ], clauses: ["D6"]))
    }
    return cases
}

private func linearCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    for (name, why, b, t, inputs, outputs) in [
        ("odd", "odd lengths everywhere: each sequence's rows are padded on their own (D4)", 3, 5, 7, 9),
        ("even", "sizes that fill pairs and lanes", 2, 8, 16, 16), ("one", "sizes of one", 1, 1, 1, 1),
        ("no-rows", "no tokens: the weight's gradient is +0", 2, 0, 3, 2),
        ("long", "terms far apart in size: any other order gives other bits", 2, 19, 33, 17),
    ] as [(String, String, Int, Int, Int, Int)] {
        for recipe in DotRecipe.allCases {
            var random = builder.random("linear-\(name)")
            let exponents = name == "long" ? 112...140 : 120...130
            cases.append(
                builder.makeCase(
                    "linear-\(name)-\(recipe.rawValue)", "layer.linear", why: why,
                    recipe: boundConstants(n: max(inputs, outputs, b * t)).merging(["dot": .string(recipe.rawValue)]) {
                        $1
                    },
                    inputs: [
                        NamedTensor(
                            "x",
                            Tensor(bf16: random.bf16s(b * t * inputs, exponents: exponents), shape: [b, t, inputs])),
                        NamedTensor(
                            "w",
                            Tensor(
                                bf16: random.bf16s(inputs * outputs, exponents: exponents), shape: [inputs, outputs])),
                        NamedTensor(
                            "dy",
                            Tensor(bf16: random.bf16s(b * t * outputs, exponents: exponents), shape: [b, t, outputs])),
                    ]))
        }
    }
    for (name, why, x, w, dy) in [
        (
            "subnormal-inputs", "subnormal inputs, and sums below 2^-126: y and dw of the two recipes differ", 0...3,
            122...128, 122...128
        ),
        (
            "subnormal-gradients", "subnormal gradients: dx and dw of the two recipes differ", 122...128, 122...128,
            0...3
        ),
    ] as [(String, String, ClosedRange<Int>, ClosedRange<Int>, ClosedRange<Int>)] {
        for recipe in DotRecipe.allCases {
            var random = builder.random("linear-\(name)")
            cases.append(
                builder.makeCase(
                    "linear-\(name)-\(recipe.rawValue)", "layer.linear", why: why,
                    recipe: boundConstants(n: 11).merging(["dot": .string(recipe.rawValue)]) { $1 },
                    inputs: [
                        NamedTensor("x", Tensor(bf16: random.bf16s(2 * 3 * 7, exponents: x), shape: [2, 3, 7])),
                        NamedTensor("w", Tensor(bf16: random.bf16s(7 * 11, exponents: w), shape: [7, 11])),
                        NamedTensor("dy", Tensor(bf16: random.bf16s(2 * 3 * 11, exponents: dy), shape: [2, 3, 11])),
                    ]))
        }
    }
    return cases
}

private func lossCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func recipe(_ c: Float, _ logits: [Float], _ v: Int) -> [String: JSONValue] {
        // Q3: as for rows of logits: P errs by half a unit of the spread of its logits.
        let finite = logits.filter(\.isFinite)
        let spread = (finite.max() ?? 0) - (finite.min() ?? 0)
        return JSONValue.entries("zreg_c", c).merging(JSONValue.entries("kappa", (4 + spread).rounded(.up))) { $1 }
            .merging(["n": .integer(Int64(v))]) { $1 }
    }
    func hard(_ name: String, _ why: String, n: Int, v: Int, c: Float = 0x1p-8, logits: [Float], targets: [Int32]) {
        cases.append(
            builder.makeCase(
                "crossEntropy-\(name)", "layer.crossEntropy", why: why, recipe: recipe(c, logits, v),
                inputs: [
                    NamedTensor("logits", Tensor(logits, shape: [n, v])),
                    NamedTensor("targets", Tensor(targets, shape: [n])),
                ]))
    }
    var random = builder.random("losses")
    let (n, v) = builder.tier.pick((13, 61), (67, 257), (257, 1031))
    let logits = random.floats(n * v, exponents: 120...129)
    let targets = (0..<n).map { row in row % 5 == 2 ? -1 : Int32(random.index(below: v)) }
    hard(
        "typical", "rows with and without a target: the mean is over those with one", n: n, v: v, logits: logits,
        targets: targets)
    hard("no-zreg", "c = 0 leaves the term out", n: n, v: v, c: 0, logits: logits, targets: targets)
    hard(
        "minus-zero-zreg", "c = -0 is c = 0", n: 4, v: 9, c: -0.0, logits: random.floats(36, exponents: 120...128),
        targets: [0, 8, 3, 3])
    hard(
        "no-targets", "no row has a target: the loss is +0, so is every gradient", n: 3, v: 5,
        logits: random.floats(15, exponents: 120...128), targets: [-1, -1, -1])
    hard("one-token", "V = 1: loss 0", n: 2, v: 1, logits: [3, -4], targets: [0, 0])
    hard(
        "certain", "a target far above the rest: P rounds to 1, the gradient to 0", n: 2, v: 4,
        logits: [90, 0, 1, 2, -3, 80, 2, 1], targets: [0, 1])
    hard("no-rows", "nothing at all", n: 0, v: 4, logits: [], targets: [])
    let manyRows = builder.tier.pick(4100, 4100, 9000)
    hard(
        "many-rows", "more than 4096 rows: their losses are summed by blocks (R2)", n: manyRows, v: 2,
        logits: random.floats(manyRows * 2, exponents: 122...128), targets: (0..<manyRows).map { Int32($0 % 3) - 1 })
    var aimed = builder.random("losses-aimed")
    for count in [3, 5, 7, 35] {
        let (rows, width) = (count + count / 3, 11)
        hard(
            "count-\(count)",
            "a mean over \(count) rows, no power of two: a division gives other bits than RNE32(1/count)",
            n: rows, v: width, logits: aimed.floats(rows * width, exponents: 120...129),
            targets: (0..<rows).map { $0 < count ? Int32(aimed.index(below: width)) : -1 })
    }
    hard(
        "small-z", "Z near 0, where the maximum and the logarithm cancel: it shows the last bits of both", n: 12, v: 67,
        logits: (0..<12).flatMap { logitsOfSmallZ(&aimed, 67, z: Float($0 - 5) * 0x1p-18) },
        targets: (0..<12).map { Int32(5 * $0) })
    hard(
        "tied-probabilities", "P on a tie between two bf16 numbers, the mean over 16 rows exact", n: 16, v: 2, c: 0,
        logits: logitsOfTiedProbabilities(16).flatMap { [0, $0] }, targets: [Int32](repeating: 0, count: 16))
    // dZ is nearly -1: P + dZ P cancels.
    let cancelled = aimed.floats(67, exponents: 118...127)
    let z = logSumExp(cancelled)
    hard(
        "cancelled-zreg", "dZ close to -1: P + dZ P cancels, and a fused multiply-add shows in bf16", n: 1, v: 67,
        c: -0.5 / z * (1 - 0x1p-14), logits: cancelled, targets: [5])

    func soft(
        _ name: String, _ why: String, n: Int, v: Int, k: Int, c: Float = 0x1p-8, ids: [UInt32], weights: [Float],
        logits given: [Float]? = nil
    ) {
        let logits = given ?? random.floats(n * v, exponents: 120...129)
        cases.append(
            builder.makeCase(
                "sparseCrossEntropy-\(name)", "layer.sparseCrossEntropy", why: why, recipe: recipe(c, logits, v),
                inputs: [
                    NamedTensor("logits", Tensor(logits, shape: [n, v])),
                    NamedTensor("ids", Tensor(ids, shape: [n, k])),
                    NamedTensor("weights", Tensor(weights, shape: [n, k])),
                ]))
    }
    let k = 19
    soft(
        "typical", "k targets a row, more than the lanes: weights that do not sum to 1", n: n, v: v, k: k,
        ids: (0..<n * k).map { UInt32(($0 * 7) % v) },
        weights: random.floats(n * k, exponents: 118...126).map(\.magnitude))
    soft(
        "repeated", "a token in several slots, as drawing with replacement gives: subtracted slot by slot", n: 2, v: 6,
        k: 5,
        ids: [3, 3, 1, 3, 0, 5, 5, 5, 5, 5], weights: [Float](repeating: 0.2, count: 10))
    soft(
        "empty-slots", "empty slots are skipped, whatever their weight; a row of them has no target", n: 3, v: 6, k: 3,
        ids: [.max, 2, .max, .max, .max, .max, 0, 1, .max], weights: [9, 0.5, .nan, 1, 1, 1, 0.25, 0.75, 7])
    soft("no-slots", "k = 0: no row has a target", n: 2, v: 3, k: 0, ids: [], weights: [])
    soft(
        "zero-weights", "weights of zero: a target all the same, of loss 0", n: 2, v: 4, k: 2, c: 0, ids: [0, 1, 2, 3],
        weights: [0, 0, 0, -0.0])
    do {
        let (n, v, k) = (7, 67, 150)
        var (ids, weights, logits): ([UInt32], [Float], [Float]) = ([], [], [])
        for row in 0..<n {
            let order = permutation(&aimed, k)
            let drawn = aimed.floats(k, exponents: 120...126).map(\.magnitude)
            ids += order.map { UInt32($0 % v) }
            weights += drawn
            var shares = [Float](repeating: 0, count: v)
            for (place, weight) in zip(order, drawn) { shares[place % v] += weight }
            let total = drawn.reduce(0, +)
            // Rows whose Z is above and below 0.
            logits += shares.map {
                CorrectlyRounded.log($0 / total) + Float(row - 3) + aimed.float(exponents: 110...113)
            }
        }
        soft(
            "matched",
            "P is what the weights ask for but for a few of its last bits: each token's weights, in several slots, cancel it, slot by slot",
            n: n, v: v, k: k, c: 0x1p-18, ids: ids, weights: weights, logits: logits)
    }
    for count in [3, 5, 7, 35] {
        let (rows, width, slots) = (count + count / 3, 6, 4)
        soft(
            "count-\(count)", "a mean over \(count) rows, no power of two", n: rows, v: width, k: slots,
            ids: (0..<rows * slots).map { $0 / slots < count ? UInt32(aimed.index(below: width)) : .max },
            weights: aimed.floats(rows * slots, exponents: 120...127).map(\.magnitude),
            logits: aimed.floats(rows * width, exponents: 120...129))
    }
    soft(
        "cancelled-zreg", "dZ close to -1 and weights of sum 1: the term cancels P, and a fused multiply-add shows",
        n: 1, v: 67, k: 3, c: -0.5 / z * (1 - 0x1p-14), ids: [3, 9, 3], weights: [0.5, 0.25, 0.25], logits: cancelled)
    return cases
}

/// About log(sum exp(x)).
private func logSumExp(_ x: [Float]) -> Float {
    let maximum = x.max() ?? 0
    return maximum + CorrectlyRounded.log(x.reduce(0) { $0 + CorrectlyRounded.exp($1 - maximum) })
}

private func optimizerCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ why: String, n: Int, step: Int, beta1: Float = 0.9, beta2: Float = 0.99,
        epsilon: Float = 0x1p-27,
        decay: Float = 0.1, rate: Float = 0x1p-9, clip: Float = 1, gradient: ClosedRange<Int> = 110...124,
        zeroMoments: Bool = false,
        change: (inout [Float], inout [Float]) -> Void = { _, _ in }
    ) {
        var random = builder.random("adamw-\(name)")
        let w = random.floats(n, exponents: 118...126)
        let m = zeroMoments ? [Float](repeating: 0, count: n) : random.floats(n, exponents: 108...122)
        var v = zeroMoments ? [Float](repeating: 0, count: n) : random.floats(n, exponents: 95...115).map(\.magnitude)
        var g = random.floats(n, exponents: gradient)
        change(&g, &v)
        var recipe: [String: JSONValue] = ["step": .integer(Int64(step))]
        for (key, value) in [
            ("beta1", beta1), ("beta2", beta2), ("epsilon", epsilon), ("weight_decay", decay), ("learning_rate", rate),
            ("clip_norm", clip),
        ] { recipe.merge(JSONValue.entries(key, value)) { $1 } }
        let shape = [n]
        cases.append(
            builder.makeCase(
                "adamw-\(name)", "layer.adamw", why: why, recipe: recipe,
                inputs: [
                    NamedTensor("w", Tensor(w, shape: shape)), NamedTensor("m", Tensor(m, shape: shape)),
                    NamedTensor("v", Tensor(v, shape: shape)), NamedTensor("g", Tensor(g, shape: shape)),
                ]))
    }
    let n = builder.tier.pick(131, 4099, 65_537)
    add("first-step", "step 1 from zero moments: the corrections are 1/(1 - beta)", n: n, step: 1, zeroMoments: true)
    add("second-step", "step 2: the corrections are 1/(1 - beta^2), rounded once", n: 37, step: 2)
    add("step-1000", "beta1^n has vanished, beta2^n has not", n: 37, step: 1000, beta2: 0.999)
    add("step-million", "both corrections are 1", n: 37, step: 1_000_000)
    add(
        "clipped", "a norm above the limit: every gradient times fl(limit / norm)", n: 53, step: 7, clip: 0.25,
        gradient: 124...130)
    add("not-clipped", "no limit", n: 53, step: 7, clip: 0, gradient: 124...130)
    add("no-decay", "weight decay 0", n: 37, step: 3, decay: 0)
    add("zero-gradient", "gradients of zero with moments of zero: 0 / (0 + epsilon)", n: 5, step: 1, zeroMoments: true)
    { g, _ in
        g = [0, -0.0, 0, -0.0, 0]
    }
    add(
        "beta-edges", "beta1 0, beta2 one unit below 1: a correction of 2^24", n: 17, step: 1, beta1: 0,
        beta2: Float(1).nextDown)
    add(
        "rate",
        "a learning rate of full significand: its product with the update is rounded with the subtraction alone",
        n: 53, step: 5, rate: 0.001)
    add("tiny", "squares of the gradients underflow", n: 17, step: 4, gradient: 40...70)
    add(
        "long", "more than 4096 elements: the norm goes by blocks (R2)", n: builder.tier.pick(4099, 9001, 20_011),
        step: 12)
    return cases
}
