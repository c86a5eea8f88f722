import BFloat16
import ExactMath
import ModelSpec
import Reference
import Testing

// MARK: - A second derivation, from the processor's floating-point arithmetic

/// F of D1 without an integer multiply-add: binary64 rounded to odd, then 24 bits with unbounded exponent, then the limits.
private func flushingStep(_ a: BFloat16, _ b: BFloat16, _ accumulator: Float) -> Float {
    func read(_ x: Float) -> Double { x.isSubnormal ? (x.sign == .minus ? -0.0 : 0.0) : Double(x) }
    let product = read(number(a)) * read(number(b))  // exact
    let addend = read(accumulator)
    let sum = product + addend
    if sum.isNaN { return Float(bitPattern: 0x7FC0_0000) }
    let zero: Float = sum.sign == .minus ? -0.0 : 0.0
    if sum.isInfinite { return sum.sign == .minus ? -.infinity : .infinity }
    let part = sum - product
    let rest = (product - (sum - part)) + (addend - part)  // two-sum: what the addition lost
    var bits = sum.bitPattern
    if rest != 0 && bits & 1 == 0 { bits = (rest < 0) == (sum < 0) ? bits + 1 : bits - 1 }
    let rounded = Double(bitPattern: (bits + 0x0FFF_FFFF + (bits >> 29 & 1)) & ~0x1FFF_FFFF)
    return rounded.magnitude < 0x1p-126 ? zero : Float(rounded)
}

private func ieeeStep(_ a: BFloat16, _ b: BFloat16, _ accumulator: Float) -> Float {
    accumulator.addingProduct(number(a), number(b))
}

/// A dot product as a list of steps made beforehand: rows padded, pairs swapped, masked steps removed; then one loop.
private func bySteps(
    rows: [[(a: BFloat16, b: BFloat16, visible: Bool)]], initial: Float, recipe: DotRecipe
) -> Float {
    var steps: [(a: BFloat16, b: BFloat16)] = []
    for var row in rows {
        if recipe == .pairedFTZ {
            if row.count % 2 == 1 { row.append((bf16(UInt16(0)), bf16(UInt16(0)), true)) }
            for index in stride(from: 0, to: row.count, by: 2) { row.swapAt(index, index + 1) }
        }
        for term in row where term.visible { steps.append((term.a, term.b)) }
    }
    var accumulator = initial
    for step in steps {
        accumulator =
            recipe == .pairedFTZ
            ? flushingStep(step.a, step.b, accumulator) : ieeeStep(step.a, step.b, accumulator)
    }
    // With no step at all the initial value is still read as D1 says.
    if recipe == .pairedFTZ && accumulator.isSubnormal { accumulator = 0 }
    let result = accumulator + 0
    return result.isNaN ? Float(bitPattern: 0x7FC0_0000) : result
}

private func initialValues(_ generator: inout SplitMix64) -> [Float] {
    [
        0, -0.0, 1, -1, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, Float(bitPattern: 0x807F_FFFF), 0x1p-126,
        -0x1p-126,
        .infinity, -.infinity, .nan, Float(bitPattern: 0xFF80_0001), .greatestFiniteMagnitude,
        Float(bitPattern: UInt32(truncatingIfNeeded: generator.next())),
    ]
}

// MARK: - Tests

@Suite("Dot products: D1 to D4, F2, Q1, Q2")
struct DotProductTests {
    @Test(
        "D1, D2, D3: agree with a list of steps, every length to 40", arguments: DotRecipe.allCases, Operands.allCases)
    func lengths(recipe: DotRecipe, operands: Operands) {
        let seed: UInt64 = 0x5EED_0201
        var generator = SplitMix64(seed: seed)
        for count in 0...40 {
            for initial in initialValues(&generator) {
                for _ in 0..<20 {
                    let a = (0..<count).map { _ in operands.draw(&generator) }
                    let b = (0..<count).map { _ in operands.draw(&generator) }
                    let expected = bySteps(
                        rows: [zip(a, b).map { ($0, $1, true) }], initial: initial, recipe: recipe)
                    expectSameBits(
                        DotProduct.dot(a, b, initial: initial, recipe: recipe), expected,
                        "\(recipe) \(operands) K \(count) C \(initial), seed \(seed)")
                }
            }
        }
    }

    /// 2^24 + 1 + 1 ...: which term meets which partial sum decides the result.
    @Test("D1, D2: known answers that tell the orders apart")
    func orders() {
        let big = bf16(Float(0x1p24))
        let one = bf16(Float(1))
        let minus = bf16(Float(-0x1p24))
        // D2: (2^24 + 1) = 2^24 (tie to even), then - 2^24 = 0, then + 1 = 1.
        let a = [big, one, minus, one]
        let ones = [one, one, one, one]
        expectSameBits(DotProduct.chainIEEE(a, ones), 1)
        // D1: 1 first, then 2^24 + 1 = 2^24 (tie); then 1: 2^24 + 1 = 2^24; then - 2^24 = 0.
        expectSameBits(DotProduct.pairedFTZ(a, ones), 0)
        // D1, the odd element first: (1 + 1) + 2^24 = 2^24 + 2. The even element first: 2^24 + 1 = 2^24 twice.
        expectSameBits(DotProduct.pairedFTZ([big, one], [one, one], initial: 1), 0x1p24 + 2)
        expectSameBits(DotProduct.chainIEEE([big, one], [one, one], initial: 1), 0x1p24)
        // An odd length: the last element stands alone, after its +0 partner.
        expectSameBits(DotProduct.pairedFTZ([one, one, big], [one, one, one]), 0x1p24 + 2)
    }

    @Test("D1: subnormals are read and written as zero; D2: they are kept")
    func underflow() {
        let subnormal = bf16(UInt16(0x0040))  // 2^-127
        let one = bf16(Float(1))
        let huge = bf16(Float(0x1p100))
        expectSameBits(DotProduct.pairedFTZ([subnormal], [huge]), 0)
        expectSameBits(DotProduct.chainIEEE([subnormal], [huge]), 0x1p-27)
        // 1.5 * 2^-126 - 2^-126 = 2^-127.
        let (x, y) = (bf16(Float(0x1.8p-126)), bf16(Float(0x1p-126)))
        expectSameBits(DotProduct.pairedFTZ([x, bf16(-number(y))], [one, one]), 0)
        expectSameBits(DotProduct.chainIEEE([x, bf16(-number(y))], [one, one]), 0x1p-127)
        // Infinity times a subnormal.
        expectSameBits(DotProduct.pairedFTZ([subnormal], [bf16(UInt16(0x7F80))]), SoftFloat32.canonicalNaN)
        expectSameBits(DotProduct.chainIEEE([subnormal], [bf16(UInt16(0x7F80))]), .infinity)
    }

    @Test("D1, D2, D3: K = 0 gives C + 0", arguments: DotRecipe.allCases)
    func nothing(recipe: DotRecipe) {
        let flushed: Float? = recipe == .pairedFTZ ? 0 : nil
        for initial: Float in [0, -0.0, 1, -3.5, .infinity, -.infinity] {
            expectSameBits(DotProduct.dot([], [], initial: initial, recipe: recipe), initial == 0 ? 0 : initial)
        }
        for initial: Float in [.leastNonzeroMagnitude, Float(bitPattern: 0x807F_FFFF)] {
            expectSameBits(DotProduct.dot([], [], initial: initial, recipe: recipe), flushed ?? initial)
        }
        expectSameBits(
            DotProduct.dot([], [], initial: Float(bitPattern: 0xFF80_0001), recipe: recipe), SoftFloat32.canonicalNaN)
    }

    @Test("D3: the result is never -0", arguments: DotRecipe.allCases)
    func negativeZero(recipe: DotRecipe) {
        let (zero, minus) = (bf16(UInt16(0)), bf16(UInt16(0x8000)))
        let (tiny, minusTiny) = (bf16(Float(0x1p-126)), bf16(Float(-0x1p-126)))
        for (a, b) in [(zero, minus), (minus, zero), (tiny, minusTiny)] {
            for initial: Float in [0, -0.0] {
                expectSameBits(DotProduct.dot([a], [b], initial: initial, recipe: recipe), 0)
                expectSameBits(DotProduct.dot([a, a], [b, b], initial: initial, recipe: recipe), 0)
            }
        }
    }

    @Test("D3, D4: masked terms are skipped, rows are one chain", arguments: DotRecipe.allCases, Operands.allCases)
    func maskedRows(recipe: DotRecipe, operands: Operands) {
        let seed: UInt64 = 0x5EED_0202
        var generator = SplitMix64(seed: seed)
        for trial in 0..<4000 {
            var rows: [[(a: BFloat16, b: BFloat16, visible: Bool)]] = []
            for _ in 0..<generator.below(4) {
                let density = generator.below(5)
                rows.append(
                    (0..<generator.below(10)).map { _ in
                        (operands.draw(&generator), operands.draw(&generator), generator.below(4) < density)
                    })
            }
            let initial = initialValues(&generator)[generator.below(15)]
            var sum = DotAccumulator(recipe: recipe, initial: initial)
            for row in rows {
                sum.addRow(count: row.count, isVisible: { row[$0].visible }) { k in
                    if !row[k].visible { Issue.record("a masked factor was asked for") }
                    return (row[k].a, row[k].b)
                }
            }
            expectSameBits(
                sum.finished(), bySteps(rows: rows, initial: initial, recipe: recipe), "trial \(trial), seed \(seed)")
        }
    }

    @Test("D3: with finite operands a zero factor does what skipping does", arguments: DotRecipe.allCases)
    func zeroInsteadOfSkipping(recipe: DotRecipe) {
        let seed: UInt64 = 0x5EED_0203
        var generator = SplitMix64(seed: seed)
        for operands in [Operands.ordinary, .underflow, .finite] {
            for _ in 0..<4000 {
                let count = generator.below(12)
                let terms = (0..<count).map { _ in
                    (a: operands.draw(&generator), b: operands.draw(&generator), visible: generator.below(2) == 0)
                }
                var skipping = DotAccumulator(recipe: recipe)
                skipping.addRow(count: count, isVisible: { terms[$0].visible }) { (terms[$0].a, terms[$0].b) }
                var zeroing = DotAccumulator(recipe: recipe)
                zeroing.addRow(count: count) { (terms[$0].visible ? terms[$0].a : bf16(UInt16(0)), terms[$0].b) }
                expectSameBits(skipping.finished(), zeroing.finished(), "\(operands), seed \(seed)")
            }
        }
    }

    @Test("D4: pairs do not reach across rows")
    func pairsInsideRows() {
        let (one, big) = (bf16(Float(1)), bf16(Float(0x1p24)))
        // Rows [2^24] and [1], from 1: (1 + 2^24) + 1 = 2^24 by two ties. As one row the 1 came first: 2^24 + 2.
        var rows = DotAccumulator(recipe: .pairedFTZ, initial: 1)
        for factor in [big, one] { rows.addRow(count: 1) { _ in (factor, one) } }
        expectSameBits(rows.finished(), 0x1p24)
        expectSameBits(DotProduct.pairedFTZ([big, one], [one, one], initial: 1), 0x1p24 + 2)
    }

    @Test("D3, D4: a mask does not move the pairs")
    func maskKeepsPairs() {
        let (one, big) = (bf16(Float(1)), bf16(Float(0x1p24)))
        // Terms 1 and 2 visible of [_, 2^24, 1, _]: term 1 first, although term 2 would be its partner if they moved up.
        let row = [one, big, one, one]
        var sum = DotAccumulator(recipe: .pairedFTZ, initial: 1)
        sum.addRow(count: 4, isVisible: { $0 == 1 || $0 == 2 }) { (row[$0], one) }
        expectSameBits(sum.finished(), 0x1p24)
    }

    @Test("D1, D2: a matrix product is its elements' dot products", arguments: DotRecipe.allCases)
    func matrices(recipe: DotRecipe) {
        let seed: UInt64 = 0x5EED_0204
        var generator = SplitMix64(seed: seed)
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (2, 0, 3), (0, 4, 2), (2, 4, 0), (4, 8, 4), (1, 33, 7), (5, 2, 1)] {
            let shape = MatrixMultiply.Shape(m: m, k: k, n: n)
            let a = (0..<m * k).map { _ in Operands.any.draw(&generator) }
            let b = (0..<k * n).map { _ in Operands.any.draw(&generator) }
            let someC = (0..<m * n).map { _ in initialValues(&generator)[generator.below(15)] }
            for c in [nil, someC] {
                let d = MatrixMultiply.forward(a: a, b: b, c: c, shape: shape, recipe: recipe)
                #expect(d.count == m * n)
                for index in d.indices {
                    let (row, column) = (index / n, index % n)
                    let terms = (0..<k).map { (a: a[row * k + $0], b: b[$0 * n + column], visible: true) }
                    expectSameBits(
                        d[index], bySteps(rows: [terms], initial: c?[index] ?? 0, recipe: recipe),
                        "[\(row), \(column)] of \(shape), seed \(seed)")
                }
            }
        }
    }

    // MARK: Q1, Q2

    @Test("Q1, Q2: truth and bounds agree with 128-bit integers")
    func truthAndBounds() {
        let seed: UInt64 = 0x5EED_0205
        var generator = SplitMix64(seed: seed)
        let shape = MatrixMultiply.Shape(m: 20, k: 9, n: 20)
        /// Magnitudes from 2^-16 to 2^16: products are multiples of 2^-46.
        func draw() -> BFloat16 {
            bf16(UInt16(truncatingIfNeeded: generator.next()) & 0x807F | UInt16(111 + generator.below(32)) << 7)
        }
        let a = (0..<shape.m * shape.k).map { _ in draw() }
        let b = (0..<shape.k * shape.n).map { _ in draw() }
        let c = (0..<shape.m * shape.n).map { _ in number(draw()) + number(draw()) * 0x1p-12 }
        let result = MatrixMultiply.truthAndBounds(a: a, b: b, c: c, shape: shape)
        for i in 0..<shape.m {
            for j in 0..<shape.n {
                // In units of 2^-80; every conversion from binary64 is exact.
                var (sum, magnitudes) = (Int128(0), Int128(0))
                var terms = (0..<shape.k).map {
                    Double(number(a[i * shape.k + $0])) * Double(number(b[$0 * shape.n + j]))
                }
                terms.append(Double(c[i * shape.n + j]))
                for term in terms {
                    let scaled = Int128(exactly: term * 0x1p80) ?? 0
                    #expect(scaled != 0)
                    sum += scaled
                    magnitudes += scaled < 0 ? -scaled : scaled
                }
                #expect(result.truth[i * shape.n + j] == roundedToDouble(sum) * 0x1p-80, "seed \(seed)")
                #expect(result.bounds[i * shape.n + j] == roundedToDouble(magnitudes) * 0x1p-80, "seed \(seed)")
            }
        }
    }

    /// RNE64: 55 leading bits with a sticky last one; the final rounding is that of a 64-bit integer to binary64.
    private func roundedToDouble(_ value: Int128) -> Double {
        let magnitude = value.magnitude
        let shift = max(0, 128 - magnitude.leadingZeroBitCount - 56)
        var leading = UInt64(magnitude >> UInt128(shift))
        if UInt128(leading) << UInt128(shift) != magnitude { leading |= 1 }
        let rounded = Double(sign: .plus, exponent: shift, significand: Double(leading))
        return value < 0 ? -rounded : rounded
    }

    @Test("Q1: truth does not flush subnormals; terms of every size count")
    func truthOfSubnormals() {
        let shape = MatrixMultiply.Shape(m: 1, k: 2, n: 1)
        let (subnormal, one) = (bf16(UInt16(1)), bf16(Float(1)))  // 2^-133
        let result = MatrixMultiply.truthAndBounds(
            a: [subnormal, subnormal], b: [bf16(UInt16(0x8001)), one], c: [-.leastNonzeroMagnitude], shape: shape)
        #expect(result.truth == [0x1p-133 - 0x1p-149])  // 2^-266 is below half a unit, 2^-187
        #expect(result.bounds == [0x1p-133 + 0x1p-149])
    }

    @Test(
        "Q1, Q2: not finite",
        arguments: [
            ([0x7F80, 0x3F80], [0x3F80, 0xBF80], 1, Double.infinity, Double.infinity),
            ([0xFF80, 0x3F80], [0x3F80, 0x3F80], 1, -Double.infinity, Double.infinity),
            ([0x7F80, 0x7F80], [0x3F80, 0xBF80], 1, Double.nan, Double.nan),
            ([0x7F80, 0x3F80], [0x0000, 0x3F80], 1, Double.nan, Double.nan),
            ([0x7F80, 0x3F80], [0x0001, 0x3F80], 1, Double.infinity, Double.infinity),
            ([0x7FC0, 0x3F80], [0x3F80, 0x3F80], 1, Double.nan, Double.nan),
            ([0x3F80, 0x3F80], [0x3F80, 0x3F80], -Float.infinity, -Double.infinity, Double.infinity),
            ([0x7F80, 0x3F80], [0x3F80, 0x3F80], -Float.infinity, Double.nan, Double.nan),
            ([0x3F80, 0x3F80], [0x3F80, 0x3F80], Float.nan, Double.nan, Double.nan),
            ([0x3F80, 0x3F80], [0x3F80, 0xBF80], -0.0, 0.0, 2.0),
        ] as [([UInt16], [UInt16], Float, Double, Double)])
    func truthNotFinite(a: [UInt16], b: [UInt16], c: Float, truth: Double, bounds: Double) {
        let result = MatrixMultiply.truthAndBounds(
            a: a.map { bf16($0) }, b: b.map { bf16($0) }, c: [c], shape: MatrixMultiply.Shape(m: 1, k: 2, n: 1))
        #expect(result.truth[0].bitPattern == truth.bitPattern, "got \(result.truth[0])")
        #expect(result.bounds[0].bitPattern == bounds.bitPattern, "got \(result.bounds[0])")
    }
}
