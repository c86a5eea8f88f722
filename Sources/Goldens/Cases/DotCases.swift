import Cases
import JSON
import ModelSpec

/// The constants of the policy `bound` for an accumulation over `n` terms (Q3).
func boundConstants(n: Int) -> [String: JSONValue] {
    JSONValue.entries("kappa", 4).merging(["n": .integer(Int64(n))]) { $1 }
}

func dotFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [
        builder.file("gemm", gemmCases(builder)),
        builder.file("sums", sumCases(builder)),
        builder.file("edges", sumDoubleRoundingCases(builder)),
        dotShapeFile(builder),
        builder.file("outputs", outputCases(builder)),
    ]
}

/// D6: results stored in 16 bits.
private func outputCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    func add(_ name: String, _ why: String, m: Int, n: Int, k: Int, a: [UInt16], b: [UInt16], c: [Float]? = nil) {
        for (index, output) in ["bf16", "fp16"].enumerated() {
            let dot = DotRecipe.allCases[(cases.count / 2 + index) % DotRecipe.allCases.count].rawValue
            var inputs: TensorGroup = [
                NamedTensor("a", Tensor(bf16: a, shape: [m, k])), NamedTensor("b", Tensor(bf16: b, shape: [k, n])),
            ]
            if let c { inputs.append("c", Tensor(c, shape: [m, n])) }
            cases.append(
                builder.makeCase(
                    "\(name)-\(output)", "dot.gemm", why: why,
                    recipe: boundConstants(n: k).merging(["dot": .string(dot), "output": .string(output)]) { $1 },
                    inputs: inputs, clauses: ["D6"]))
        }
    }
    var random = builder.random("outputs")
    add(
        "output-values", "ordinary sums, stored in 16 bits: one rounding, from the fp32 sum", m: 5, n: 7, k: 33,
        a: random.bf16s(5 * 33, exponents: 120...130), b: random.bf16s(33 * 7, exponents: 120...130))
    // C carries the sum: K is 1 and its product +0. Ties of bf16 and fp16, of even and odd neighbours, and one unit beside them.
    let ties: [UInt32] = [0x3F80_0000, 0x3F81_0000, 0x3F80_2000, 0x4780_0000, 0x3880_0000, 0x0001_0000, 0x3300_0000]
        .flatMap { base in
            [0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001].map { base + $0 }
        }
    // 65504, 65519.996 and 65520 about fp16's end; halves of its least subnormal; bf16's end.
    let ends: [UInt32] = [
        0x477F_E000, 0x477F_EFFF, 0x477F_F000, 0x477F_F001, 0x3300_0000, 0x3300_0001, 0x32FF_FFFF, 0x3380_0000,
        0x7F7F_7FFF, 0x7F7F_8000, 0x7F7F_FFFF, 0x7F80_0000, 0x7FC0_0000, 0x0000_0000, 0x8000_0000, 0x0000_0001,
    ]
    let values = (ties + ends).flatMap { [Float(bitPattern: $0), Float(bitPattern: $0 ^ 0x8000_0000)] }
    add(
        "output-ties", "ties, the largest finite numbers, the least subnormal ones, infinity and NaN in each format",
        m: values.count, n: 1, k: 1, a: [UInt16](repeating: 0, count: values.count), b: [0x3F80], c: values)
    return cases
}

private func gemmCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let tier = builder.tier
    var cases: [GoldenCase] = []

    /// One case for each recipe, on the same inputs.
    func add(
        _ name: String, _ why: String, m: Int, n: Int, k: Int, a: [UInt16], b: [UInt16], c: [Float]? = nil
    ) {
        for recipe in DotRecipe.allCases {
            var inputs: TensorGroup = [
                NamedTensor("a", Tensor(bf16: a, shape: [m, k])), NamedTensor("b", Tensor(bf16: b, shape: [k, n])),
            ]
            if let c { inputs.append("c", Tensor(c, shape: [m, n])) }
            cases.append(
                builder.makeCase(
                    "\(name)-\(recipe.rawValue)", "dot.gemm", why: why,
                    recipe: boundConstants(n: k).merging(["dot": .string(recipe.rawValue)]) { $1 }, inputs: inputs))
        }
    }

    // Lengths at, below and above every width a kernel may block by.
    for k in [0, 1, 2, 3, 8, 16, 17, 31, 33, 64, 129] {
        var random = builder.random("length-\(k)")
        let (m, n) = (3, 5)
        add(
            "length-\(k)", "K = \(k): pairing of an odd tail, blocks that end early or read past the end", m: m, n: n,
            k: k,
            a: random.bf16s(m * k, exponents: 120...134), b: random.bf16s(k * n, exponents: 120...134))
    }
    for k in [0, 1, 2, 33] {
        var random = builder.random("initial-\(k)")
        let (m, n) = (4, 4)
        var c = random.floats(m * n, exponents: 118...136)
        // Signed zeros, subnormals (read as zero by paired-ftz), infinities, NaN.
        let special: [UInt32] = [
            0x0000_0000, 0x8000_0000, 0x0000_0001, 0x807F_FFFF, 0x0080_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0001,
            0x7F80_0001,
        ]
        for (index, bits) in special.enumerated() { c[index] = Float(bitPattern: bits) }
        add(
            "initial-value-\(k)",
            "an fp32 C goes in before the products: zeros of both signs, subnormals, infinities, NaN",
            m: m, n: n, k: k, a: random.bf16s(m * k, exponents: 120...134),
            b: random.bf16s(k * n, exponents: 120...134),
            c: c)
    }
    do {
        // Exponents so spread that every order of summation gives another answer.
        var random = builder.random("order")
        let (m, n, k) = tier.pick((8, 8, 64), (16, 16, 256), (64, 64, 1024))
        add(
            "order-of-accumulation",
            "terms spread over 24 binades with cancelling signs: any other order gives other bits",
            m: m, n: n, k: k, a: random.bf16s(m * k, exponents: 115...139), b: random.bf16s(k * n, exponents: 115...139)
        )
    }
    do {
        // The products of a pair nearly cancel, pairs lie far apart in size: the residue of the pairs before is rounded differently
        // when the even element comes first.
        var random = builder.random("pairs")
        let (m, n, k) = (6, 6, 32)
        var a = random.bf16s(m * k, exponents: 105...145)
        var b = random.bf16s(k * n, exponents: 126...128)
        for index in a.indices where index % 2 == 1 {
            a[index] = (a[index - 1] ^ 0x8000) &+ UInt16(random.index(below: 3)) &- 1
        }
        for row in stride(from: 1, to: k, by: 2) {
            for column in 0..<n { b[row * n + column] = b[(row - 1) * n + column] }
        }
        add(
            "odd-before-even", "within a pair the odd element goes in first: even first loses other bits", m: m, n: n,
            k: k,
            a: a, b: b)
    }
    do {
        var random = builder.random("not-fused")
        let (m, n, k) = (8, 8, 24)
        add(
            "cancellation", "each row is followed by its negation: what is left is rounding error alone", m: m, n: n,
            k: 2 * k,
            a: (0..<m).flatMap { _ -> [UInt16] in
                let row = random.bf16s(k, exponents: 122...132)
                return row + row.map { $0 ^ 0x8000 }
            },
            b: {
                let half = random.bf16s(k * n, exponents: 122...132)
                return half + half
            }())
    }
    do {
        var random = builder.random("subnormal-inputs")
        let (m, n, k) = (6, 6, 16)
        add(
            "subnormal-inputs",
            "subnormal bf16 factors times large ones: read as zero by paired-ftz, exactly by chain-ieee",
            m: m, n: n, k: k,
            a: (0..<m * k).map { _ in random.bool() ? random.bf16(exponents: 0...0) : random.bf16(exponents: 1...3) },
            b: random.bf16s(k * n, exponents: 200...240))
    }
    do {
        // Products around 2^-126: the accumulator passes through and ends in the subnormal range.
        var random = builder.random("subnormal-results")
        let (m, n, k) = (8, 8, 10)
        add(
            "subnormal-results", "accumulators around and below 2^-126: flushed after rounding, or kept", m: m, n: n,
            k: k,
            a: random.bf16s(m * k, exponents: 60...66), b: random.bf16s(k * n, exponents: 60...66))
    }
    do {
        // x * y + z that rounds up to 2^-126 exactly, or stays just below: tininess after rounding, 24 bits unbounded.
        let triples: [(UInt16, UInt16, UInt32)] = [
            (0x1FFF, 0x207F, 0x0000_0000), (0x1FFF, 0x2080, 0x0000_0000), (0x1FFE, 0x2081, 0x0000_0000),
            (0x2000, 0x2000, 0x8080_0000), (0x1F80, 0x2000, 0x0080_0000), (0x9F80, 0x2000, 0x0080_0000),
            (0x9F80, 0x1F80, 0x0080_0001), (0x1480, 0x9480, 0x0080_0000), (0x0A00, 0x8A00, 0x0080_0000),
            (0x0100, 0x8080, 0x0080_0000), (0x1AFF, 0x9AFF, 0x0080_0000), (0x1AFF, 0x1AFF, 0x0080_0000),
            (0x1300, 0x9300, 0x0080_0000), (0x9300, 0x1300, 0x8080_0000), (0x1300, 0x9300, 0x0080_0001),
            (0x1400, 0x9400, 0x0080_0000), (0x13FF, 0x9380, 0x0080_0000), (0x2000, 0x9F80, 0x0080_0000),
        ]
        // Element (i, i) is triple i; the others mix their neighbours'.
        for first in stride(from: 0, to: triples.count, by: 6) {
            let six = Array(triples[first..<first + 6])
            add(
                "flush-boundary-\(first / 6)",
                "one product and an initial value that meet at 2^-126: a flush that tests before rounding is wrong here",
                m: 6, n: 6, k: 1, a: six.map(\.0), b: six.map(\.1),
                c: (0..<36).map { Float(bitPattern: six[$0 / 6].2) })
        }
    }
    do {
        var random = builder.random("overflow")
        let (m, n, k) = (6, 6, 12)
        add(
            "overflow", "sums that pass the largest finite fp32 and come back: infinity sticks, inf - inf is NaN", m: m,
            n: n,
            k: k, a: random.bf16s(m * k, exponents: 189...191), b: random.bf16s(k * n, exponents: 189...191))
    }
    do {
        var random = builder.random("special")
        let specials: [UInt16] = [
            0x7F80, 0xFF80, 0x7FC0, 0xFFC1, 0x7F81, 0x0000, 0x8000, 0x0001, 0x3F80, 0xBF80, 0x7F7F, 0xFF7F,
        ]
        let (m, n, k) = (8, 8, 6)
        add(
            "special-values", "infinities, NaNs with payloads, zeros: inf * 0, inf - inf, and one canonical NaN out",
            m: m,
            n: n, k: k,
            a: (0..<m * k).map { _ in
                random.index(below: 3) == 0 ? random.element(of: specials) : random.bf16(exponents: 125...129)
            },
            b: (0..<k * n).map { _ in
                random.index(below: 4) == 0 ? random.element(of: specials) : random.bf16(exponents: 125...129)
            })
        add(
            "negative-zero", "a sum of negative zeros, and one that cancels: the result has +0 added and is never -0",
            m: 2,
            n: 2, k: 2, a: [0x8000, 0x8000, 0x3F80, 0xBF80], b: [0x3F80, 0x0000, 0x3F80, 0x3F80],
            c: [-0.0, -0.0, -0.0, 0.0])
    }
    do {
        // A long sum of ones and small terms: fp32 stagnates, a wider accumulator does not.
        let k = tier.pick(2048, 16_384, 65_536)
        var random = builder.random("stagnation")
        var a = [UInt16](repeating: 0x3F80, count: 2 * k)
        a[0] = 0x4C00  // 2^25: adding 1 changes nothing
        for index in k..<2 * k { a[index] = random.bf16(exponents: 118...127) & 0x7FFF }
        let b = [UInt16](repeating: 0x3F80, count: k)
        add(
            "stagnation", "2^25 and then ones: an fp32 accumulator never moves, a wider or blocked one does", m: 2,
            n: 1,
            k: k, a: a, b: b)
    }
    do {
        var random = builder.random("typical")
        let (m, n, k) = tier.pick((24, 17, 512), (64, 64, 1024), (256, 256, 4096))
        add(
            "typical-layer", "activations and weights of ordinary size: what every kernel should get right", m: m, n: n,
            k: k,
            a: random.bf16s(m * k, exponents: 122...128), b: random.bf16s(k * n, exponents: 116...123))
    }
    return cases
}

private func sumCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let tier = builder.tier
    var cases: [GoldenCase] = []
    for op in ["sum.lane16", "sum.lane16x4096", "sum.chain"] {
        let short = op.dropFirst("sum.".count)
        func add(_ name: String, _ why: String, m: Int, n: Int, x: [Float], y: [Float]? = nil) {
            var inputs: TensorGroup = [NamedTensor("x", Tensor(x, shape: [m, n]))]
            if let y { inputs.append("y", Tensor(y, shape: [m, n])) }
            cases.append(
                builder.makeCase(
                    "\(short)-\(name)", op, why: why, recipe: boundConstants(n: n), inputs: inputs,
                    clauses: y == nil ? [] : ["F3"]))
        }
        let long = op == "sum.lane16x4096"
        for n in [0, 1, 15, 16, 17, 100] + (long ? [4095, 4096, 4097, 8200] : [1024]) {
            var random = builder.random("\(op)-\(n)")
            let m = n > 1024 ? 1 : 3
            add(
                "length-\(n)", "\(n) values: lanes that stay empty, a last block that is short", m: m, n: n,
                x: random.floats(m * n, exponents: 115...139))
            add(
                "products-length-\(n)", "a sum of products is fused: a product rounded first gives other bits", m: m,
                n: n,
                x: random.floats(m * n, exponents: 120...134), y: random.floats(m * n, exponents: 120...134))
        }
        var random = builder.random("\(op)-special")
        let specials: [Float] = [
            .infinity, -.infinity, .nan, Float(bitPattern: 0x7F80_0001), 0, -0.0, .leastNonzeroMagnitude,
            -.leastNormalMagnitude, .greatestFiniteMagnitude, -.greatestFiniteMagnitude,
        ]
        let (m, n) = (24, 40)
        add(
            "special-values", "infinities, NaNs, overflow, subnormals kept, all-zero rows: +0 out, never -0", m: m,
            n: n,
            x: (0..<m * n).map { index in
                if index < n { return -0.0 }
                return random.index(below: 30) == 0 ? random.element(of: specials) : random.float(exponents: 100...150)
            })
        add(
            "subnormal-values", "everything below 2^-126: gradual underflow, nothing is flushed", m: 4, n: 64,
            x: (0..<256).map { _ in random.float(exponents: 0...1) })
        let size = tier.pick(2000, 50_000, 1_000_000)
        add(
            "cancellation", "a long row that nearly cancels: every bit of the order shows", m: 2, n: size,
            x: (0..<2).flatMap { _ -> [Float] in
                let half = random.floats(size / 2, exponents: 110...140)
                return half + half.map { -$0 }
            })
    }
    return cases
}
