import Reference
import Testing

// MARK: - A second derivation: the processor's arithmetic on lanes cut out beforehand

private func combinedInHalves(_ lanes: [Float]) -> Float {
    if lanes.count == 1 { return canonical(lanes[0] + 0) }
    let half = lanes.count / 2
    return combinedInHalves((0..<half).map { lanes[$0] + lanes[$0 + half] })
}

private func canonical(_ x: Float) -> Float { x.isNaN ? Float(bitPattern: 0x7FC0_0000) : x }

/// x alone, or x and y.
private struct Values {
    var x: [Float]
    var y: [Float]?

    func accumulated(_ indices: [Int]) -> Float {
        var sum: Float = 0
        for i in indices {
            if let y { sum = sum.addingProduct(x[i], y[i]) } else { sum += x[i] }
        }
        return sum
    }

    func lane16(_ indices: [Int]) -> Float {
        combinedInHalves((0..<16).map { lane in accumulated(indices.filter { $0 % 16 == lane }) })
    }

    func expected(_ order: Reductions.Order) -> Float {
        let indices = Array(x.indices)
        switch order {
        case .lane16: return lane16(indices)
        case .lane16x4096:
            var results: [Float] = []
            while results.count * 4096 < indices.count {
                results.append(lane16(Array(indices.dropFirst(results.count * 4096).prefix(4096))))
            }
            return Values(x: results).lane16(Array(results.indices))
        case .chain: return canonical(accumulated(indices) + 0)
        }
    }

    func got(_ order: Reductions.Order) -> Float {
        if let y { return Reductions.sumOfProducts(x, y, order: order) }
        return Reductions.sum(x, order: order)
    }
}

private func draw(_ generator: inout SplitMix64, _ operands: Operands) -> Float {
    let random = UInt32(truncatingIfNeeded: generator.next() >> 16)
    switch operands {
    case .ordinary: return Float(bitPattern: random & 0x807F_FFFF | UInt32(122 + generator.below(8)) << 23)
    case .underflow: return Float(bitPattern: random & 0x80FF_FFFF)
    case .finite: return Float(bitPattern: random & 0x7F80_0000 == 0x7F80_0000 ? random & 0xBFFF_FFFF : random)
    case .any: return Float(bitPattern: generator.below(20) == 0 ? random | 0x7F80_0000 : random)
    }
}

// MARK: - Tests

@Suite("Reductions: R1 to R5, F2, F3, Q1, Q2")
struct ReductionTests {
    @Test("R1, R2, R3: agree with lanes cut out beforehand", arguments: Reductions.Order.allCases, Operands.allCases)
    func orders(order: Reductions.Order, operands: Operands) {
        let seed: UInt64 = 0x5EED_0301
        var generator = SplitMix64(seed: seed)
        let counts = Array(0...70) + [255, 256, 4095, 4096, 4097, 4112, 8191, 8192, 8193, 12_300, 70_001]
        for count in counts {
            for _ in 0..<(count < 100 ? 20 : 2) {
                let x = (0..<count).map { _ in draw(&generator, operands) }
                let y = (0..<count).map { _ in draw(&generator, operands) }
                for values in [Values(x: x), Values(x: x, y: y)] {
                    expectSameBits(
                        values.got(order), values.expected(order),
                        "\(order) of \(count)\(values.y == nil ? "" : " products"), seed \(seed)")
                }
            }
        }
    }

    /// 2^24 + 1 rounds to 2^24, 2^24 + 2 does not.
    @Test("R1, R2, R3: known answers that tell the orders apart")
    func knownAnswers() {
        let big: Float = 0x1p24
        // Elements 0 and 16 share a lane: 1 + 1 = 2 meets the 2^24 of lane 1 at the last step. The chain loses both.
        var x = [Float](repeating: 0, count: 17)
        (x[0], x[1], x[16]) = (1, big, 1)
        expectSameBits(Reductions.sum(x, order: .lane16), big + 2)
        expectSameBits(Reductions.sum(x, order: .chain), big)  // (1 + 2^24) + 1: two ties to even
        // The halves: lanes 0 and 8 meet first, so 1 + 1 = 2 meets 2^24 of lane 1 whole; lanes 8 and 9 alone do not.
        x = [Float](repeating: 0, count: 16)
        (x[0], x[1], x[8]) = (1, big, 1)
        expectSameBits(Reductions.sum(x, order: .lane16), big + 2)
        x = [Float](repeating: 0, count: 16)
        (x[0], x[8], x[1]) = (1, big, 1)
        expectSameBits(Reductions.sum(x, order: .lane16), big)
        // R2: elements 0 and 4096 are in different blocks, 2^24 shares the first block's lane.
        x = [Float](repeating: 0, count: 4097 + 4096)
        (x[0], x[16], x[4096], x[8192]) = (1, big, 1, 1)
        expectSameBits(Reductions.sum(x, order: .lane16), big)
        // Blocks 2^24, 1, 1 in lanes 0, 1, 2: (2^24 + 1) + 1 at w = 2 and w = 1, two ties to even.
        expectSameBits(Reductions.sum(x, order: .lane16x4096), big)
        // Blocks 2^24, 1, 2: (2^24 + 2) + 1 is a tie between 2^24 + 2 (odd) and 2^24 + 4. The chain ends at 2^24 + 2.
        x[8192] = 2
        expectSameBits(Reductions.sum(x, order: .lane16x4096), big + 4)
        expectSameBits(Reductions.sum(x, order: .chain), big + 2)
    }

    @Test("R1, R3: products are fused", arguments: Reductions.Order.allCases)
    func fused(order: Reductions.Order) {
        // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: rounded by itself it loses the last term.
        let x: [Float] = [-1, -0x1p-11] + [Float](repeating: 0, count: 14) + [1 + 0x1p-12]
        let y: [Float] = [1, 1] + [Float](repeating: 0, count: 14) + [1 + 0x1p-12]
        // lane 0 (and the chain, shifted): fma keeps it.
        let (first, last) = ([x[0], x[16]], [y[0], y[16]])
        if order == .chain {
            expectSameBits(Reductions.sumOfProducts(first, last, order: order), 0x1p-11 + 0x1p-24)
        } else {
            expectSameBits(Reductions.sumOfProducts(x, y, order: order), 0x1p-24)
        }
    }

    @Test("R1, R2, R3: nothing, and negative zeros, give +0", arguments: Reductions.Order.allCases)
    func zeros(order: Reductions.Order) {
        expectSameBits(Reductions.sum([], order: order), 0)
        expectSameBits(Reductions.sumOfProducts([], [], order: order), 0)
        expectSameBits(Reductions.sum([Float](repeating: -0.0, count: 40), order: order), 0)
        // -2^-298 rounds to -0 in the accumulator.
        let tiny = [Float](repeating: .leastNonzeroMagnitude, count: 16)
        expectSameBits(Reductions.sumOfProducts(tiny, tiny.map { -$0 }, order: order), 0)
    }

    @Test("F3: gradual underflow is kept", arguments: Reductions.Order.allCases)
    func gradualUnderflow(order: Reductions.Order) {
        let x = [Float](repeating: .leastNonzeroMagnitude, count: 5000)
        expectSameBits(Reductions.sum(x, order: order), Float(bitPattern: 5000))
    }

    @Test("R5: the lane is that of the absolute index, whatever is masked")
    func masked() {
        let seed: UInt64 = 0x5EED_0302
        var generator = SplitMix64(seed: seed)
        for _ in 0..<2000 {
            let count = generator.below(60)
            let x = (0..<count).map { _ in draw(&generator, .ordinary) }
            let y = (0..<count).map { _ in draw(&generator, .ordinary) }
            let visible = (0..<count).map { _ in generator.below(2) == 0 }
            let indices = (0..<count).filter { visible[$0] }
            let note = "\(count) values, seed \(seed)"
            expectSameBits(
                Reductions.lane16(count: count, isVisible: { visible[$0] }, value: { visible[$0] ? x[$0] : .nan }),
                Values(x: x).lane16(indices), note)
            expectSameBits(
                Reductions.lane16(count: count, isVisible: { visible[$0] }, factors: { (x[$0], y[$0]) }),
                Values(x: x, y: y).lane16(indices), note)
            expectSameBits(
                Reductions.chain(count: count, isVisible: { visible[$0] }, value: { x[$0] }),
                Values(x: x).accumulated(indices) + 0, note)
            expectSameBits(
                Reductions.chain(count: count, isVisible: { visible[$0] }, factors: { (x[$0], y[$0]) }),
                Values(x: x, y: y).accumulated(indices) + 0, note)
        }
    }

    @Test(
        "R4: maximum",
        arguments: [
            ([1], 0x3F80_0000), ([-2, -1, -3], 0xBF80_0000), ([-0.0], 0), ([-0.0, -0.0], 0), ([-0.0, 0], 0),
            ([0, -0.0], 0),
            ([-1, -0.0], 0), ([-.leastNonzeroMagnitude], 0x8000_0001), ([-.leastNonzeroMagnitude, -1], 0x8000_0001),
            ([-.infinity], 0xFF80_0000), ([-.infinity, .infinity, 1], 0x7F80_0000), ([.nan], 0x7FC0_0000),
            ([Float(bitPattern: 0xFF80_0001)], 0x7FC0_0000), ([1, Float(bitPattern: 0xFFC0_0001)], 0x7FC0_0000),
            ([.nan, .infinity], 0x7FC0_0000), ([.infinity, .nan, 1], 0x7FC0_0000),
        ] as [([Float], UInt32)])
    func maximum(x: [Float], expected: UInt32) throws {
        expectSameBits(try Reductions.maximum(x), Float(bitPattern: expected))
        expectSameBits(try Reductions.maximum(x.reversed()), Float(bitPattern: expected))
    }

    @Test("R4: the maximum of nothing is an error")
    func maximumOfNothing() throws {
        #expect(throws: Reductions.MaximumOfNothing.self) { try Reductions.maximum([]) }
        #expect(throws: Reductions.MaximumOfNothing.self) {
            try Reductions.maximum(count: 3, isVisible: { _ in false }, value: { _ in 1 })
        }
        let one = try Reductions.maximum(count: 3, isVisible: { $0 == 1 }, value: { [.nan, 5, 9][$0] })
        expectSameBits(one, 5)
    }

    @Test("R4: random maxima in any order")
    func randomMaxima() throws {
        let seed: UInt64 = 0x5EED_0303
        var generator = SplitMix64(seed: seed)
        for _ in 0..<2000 {
            let x = (0...generator.below(20)).map { _ in draw(&generator, .finite) }
            let expected = x.dropFirst().reduce(x[0]) { $0 < $1 ? $1 : $0 }
            expectSameBits(try Reductions.maximum(x), expected == 0 ? 0 : expected, "seed \(seed)")
        }
    }

    @Test("Q1, Q2: truth and bounds of sums")
    func truthAndBounds() {
        let x: [Float] = [0x1p100, 1, -0x1p100, 0x1p-100]
        let sum = Reductions.truthAndBounds(x)
        #expect(sum.truth == 1)  // 1 + 2^-100
        #expect(sum.bounds == 0x1p101)
        let products = Reductions.truthAndBounds(x, [1, -0x1p-149, 1, 0x1p-50])
        #expect(products.truth == -0x1p-149 + 0x1p-150)
        #expect(products.bounds == 0x1p101)
        #expect(Reductions.truthAndBounds([]).truth.bitPattern == 0)
        #expect(Reductions.truthAndBounds([-0.0]).truth.bitPattern == 0)
        #expect(Reductions.truthAndBounds([.infinity, -.infinity]).bounds.isNaN)
        #expect(Reductions.truthAndBounds([-.infinity, 1]).truth == -.infinity)
        #expect(Reductions.truthAndBounds([-.infinity, 1]).bounds == .infinity)
    }

    /// The error bound of recursive summation, (n + 1) u sum |x|, is a theorem; a wrong truth or order would break it.
    @Test("Q1, Q3: every order stays within the a priori bound of the truth", arguments: Reductions.Order.allCases)
    func withinBound(order: Reductions.Order) {
        let seed: UInt64 = 0x5EED_0304
        var generator = SplitMix64(seed: seed)
        for _ in 0..<300 {
            let x = (0..<(1 + generator.below(500))).map { _ in draw(&generator, .ordinary) }
            let (truth, bounds) = Reductions.truthAndBounds(x)
            let got = Double(Reductions.sum(x, order: order))
            #expect((got - truth).magnitude <= Double(x.count + 1) * 0x1p-24 * bounds, "seed \(seed)")
        }
    }
}
