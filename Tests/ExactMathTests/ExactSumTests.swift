import ExactMath
import Testing

/// A term of a sum: x, or x * y.
private struct Term: CustomStringConvertible {
    var x: Float
    var y: Float?

    var exact: WideInteger { y.map { WideInteger(product: x, $0) } ?? WideInteger(x) }

    func add(to sum: inout ExactSum) {
        if let y { sum.addProduct(x, y) } else { sum.add(x) }
    }

    var description: String {
        y.map { "\(hexadecimal(x.bitPattern))*\(hexadecimal($0.bitPattern))" } ?? hexadecimal(x.bitPattern)
    }
}

/// RNE64 of a long integer in units of 2^-298, by counting its bits (never subnormal, never too large for binary64).
private func roundedToDouble(_ value: WideInteger) -> UInt64 {
    if value.isZero { return 0 }
    let (significand, exponent) = value.roundedToNearestEven(bits: 53)
    return (value.isNegative ? 1 << 63 : 0) | UInt64(exponent - 298 + 52 + 1023) << 52 | (significand - (1 << 52))
}

/// RNE32 of a long integer in units of 2^-298, gradual underflow.
private func roundedToFloat(_ value: WideInteger) -> UInt32 {
    if value.isZero { return 0 }
    let sign: UInt32 = value.isNegative ? 0x8000_0000 : 0
    // A number below 2^-126 keeps fewer bits: down to the place 2^-149. Two bits at least are asked for.
    let bits = min(24, value.bitWidth - 298 + 149)
    if bits < 1 {
        // Below 2^-149: nearest to 0 or to 2^-149, the midpoint to the even zero.
        let twice = value.magnitude + value.magnitude
        return WideInteger(Float.leastNonzeroMagnitude) < twice ? sign | 1 : sign
    }
    var (significand, exponent) = value.roundedToNearestEven(bits: bits)
    exponent -= 298
    while significand < 1 << 23 && exponent > -149 {
        significand <<= 1
        exponent -= 1
    }
    while exponent < -149 {
        precondition(significand & 1 == 0)
        significand >>= 1
        exponent += 1
    }
    if significand >= 1 << 24 {
        significand >>= 1
        exponent += 1
    }
    if exponent > 104 { return sign | 0x7F80_0000 }
    if significand < 1 << 23 { return sign | UInt32(significand) }
    return sign | UInt32(exponent + 150) << 23 | UInt32(significand - (1 << 23))
}

private func randomFinite(_ generator: inout SplitMix64, exponents: ClosedRange<Int>) -> Float {
    let random = generator.next()
    let field = UInt32(exponents.lowerBound + Int((random >> 32) % UInt64(exponents.count)))
    return Float(bitPattern: UInt32(truncatingIfNeeded: random) & 0x807F_FFFF | field << 23)
}

private func check(_ terms: [Term], _ note: String = "") {
    var sum = ExactSum()
    var exact = WideInteger.zero
    for term in terms {
        term.add(to: &sum)
        exact = exact + term.exact
    }
    let (double, expectedDouble) = (sum.roundedToDouble(), roundedToDouble(exact))
    #expect(
        double.bitPattern == expectedDouble,
        "\(note) \(terms.prefix(8)): expected \(Double(bitPattern: expectedDouble)), got \(double)")
    let (float, expectedFloat) = (sum.roundedToFloat(), roundedToFloat(exact))
    #expect(
        float.bitPattern == expectedFloat,
        "\(note) \(terms.prefix(8)): expected \(hexadecimal(expectedFloat)), got \(hexadecimal(float.bitPattern))")
}

@Suite("ExactSum: Q1, Q2")
struct ExactSumTests {
    /// Ranges of the exponent field: everything, the subnormal end, the large end, a narrow band with cancellation.
    @Test(
        "Q1: sums and sums of products agree with long integers",
        arguments: [0...254, 0...3, 250...254, 125...129, 60...70] as [ClosedRange<Int>])
    func random(exponents: ClosedRange<Int>) {
        let seed: UInt64 = 0x5EED_0101
        var generator = SplitMix64(seed: seed)
        for length in 1...24 {
            for _ in 0..<150 {
                var terms: [Term] = []
                for _ in 0..<length {
                    let x = randomFinite(&generator, exponents: exponents)
                    let isProduct = generator.next() & 1 == 0
                    terms.append(Term(x: x, y: isProduct ? randomFinite(&generator, exponents: exponents) : nil))
                }
                check(terms, "seed \(seed)")
                // Cancel all but a little: the negated terms in reverse, with a small rest.
                var cancelled = terms + terms.reversed().map { Term(x: -$0.x, y: $0.y) }
                check(cancelled, "seed \(seed)")
                cancelled.append(Term(x: randomFinite(&generator, exponents: 0...30), y: nil))
                check(cancelled, "seed \(seed)")
            }
        }
    }

    @Test("Q1: ties and sticky bits of both roundings, at every distance")
    func ties() {
        for distance in 0..<250 {
            let small = Float(sign: .plus, exponent: -distance / 2, significand: 1)
            let other = Float(sign: .plus, exponent: -(distance - distance / 2), significand: 1)
            for sign: Float in [1, -1] {
                check([Term(x: 1), Term(x: small * sign, y: other)])
                check([Term(x: 1), Term(x: 0x1p-53), Term(x: small * sign, y: other)])  // half a unit of binary64
                check([Term(x: 1), Term(x: 0x1p-52), Term(x: 0x1p-53), Term(x: small * sign, y: other)])
                check([Term(x: 1), Term(x: 0x1p-24), Term(x: small * sign, y: other)])  // half a unit of binary32
                check([Term(x: 1), Term(x: 0x1p-23), Term(x: 0x1p-24), Term(x: small * sign, y: other)])
                check([Term(x: -1), Term(x: -0x1p-24), Term(x: small * sign, y: other)])
            }
        }
    }

    @Test("Q1: the least and the largest terms, alone and together")
    func extremes() {
        let least = Float.leastNonzeroMagnitude
        let largest = Float.greatestFiniteMagnitude
        check([Term(x: least, y: least)])
        check([Term(x: least, y: -least)])
        check([Term(x: least, y: 0.5)])  // half of 2^-149: to even, zero
        check([Term(x: least, y: 0.5), Term(x: least, y: least)])
        check([Term(x: least, y: 1.5)])
        check([Term(x: largest, y: largest), Term(x: least, y: least)])
        check([Term(x: largest, y: largest), Term(x: least, y: least), Term(x: -largest, y: largest)])
        check([Term(x: largest), Term(x: 0x1p103)])  // half a unit beyond the largest: 2^128, infinity
        check([Term(x: largest), Term(x: 0x1p103), Term(x: -least, y: least)])
        check([Term](repeating: Term(x: largest, y: -largest), count: 1000))
        // A carry, and a borrow, through every word.
        check([Term(x: least, y: -least), Term(x: largest, y: largest), Term(x: least, y: least)])
        check([Term(x: largest, y: -largest), Term(x: least, y: least)])
    }

    @Test("Q1: a zero sum is +0, of no terms, of negative zeros, of a cancellation")
    func zeros() {
        var sum = ExactSum()
        #expect(sum.roundedToDouble().bitPattern == 0)
        #expect(sum.roundedToFloat().bitPattern == 0)
        sum.add(-0.0)
        sum.addProduct(-0.0, 1)
        #expect(sum.roundedToDouble().bitPattern == 0)
        sum.addProduct(3, -7)
        sum.add(21)
        #expect(sum.roundedToDouble().bitPattern == 0)
        #expect(sum.roundedToFloat().bitPattern == 0)
    }

    @Test("Q1: a sum that rounds to zero in binary32 keeps its sign")
    func signedUnderflow() {
        var sum = ExactSum()
        sum.addProduct(.leastNonzeroMagnitude, -.leastNonzeroMagnitude)
        #expect(sum.roundedToFloat().bitPattern == 0x8000_0000)
        #expect(sum.roundedToDouble() == -0x1p-298)
    }

    @Test("Q1: terms that are not finite, as IEEE 754 adds them")
    func nonfinite() {
        func result(_ terms: [Term]) -> (UInt64, UInt32) {
            var sum = ExactSum()
            for term in terms { term.add(to: &sum) }
            return (sum.roundedToDouble().bitPattern, sum.roundedToFloat().bitPattern)
        }
        let nan: (UInt64, UInt32) = (0x7FF8_0000_0000_0000, 0x7FC0_0000)
        let positive: (UInt64, UInt32) = (0x7FF0_0000_0000_0000, 0x7F80_0000)
        let negative: (UInt64, UInt32) = (0xFFF0_0000_0000_0000, 0xFF80_0000)
        #expect(result([Term(x: .infinity), Term(x: -1)]) == positive)
        #expect(result([Term(x: -.infinity), Term(x: .greatestFiniteMagnitude)]) == negative)
        #expect(result([Term(x: .infinity, y: -2)]) == negative)
        #expect(result([Term(x: -.infinity, y: -.infinity), Term(x: .infinity)]) == positive)
        #expect(result([Term(x: .infinity), Term(x: -.infinity)]) == nan)
        #expect(result([Term(x: .infinity, y: 0)]) == nan)
        #expect(result([Term(x: -0.0, y: -.infinity), Term(x: 1)]) == nan)
        #expect(result([Term(x: Float(bitPattern: 0xFF80_0001))]) == nan)
        #expect(result([Term(x: 1, y: .nan), Term(x: .infinity)]) == nan)
    }

    @Test("Q2: magnitudes")
    func magnitudes() {
        var sum = ExactSum()
        sum.addMagnitude(-3)
        sum.addProductOfMagnitudes(-2, 0.25)
        sum.addProductOfMagnitudes(-2, -4)
        #expect(sum.roundedToDouble() == 11.5)
        sum.addMagnitude(-.infinity)
        sum.addProductOfMagnitudes(-.infinity, 1)
        #expect(sum.roundedToDouble() == .infinity)
        sum.addProductOfMagnitudes(-.infinity, 0)
        #expect(sum.roundedToDouble().isNaN)
    }

    @Test("Q1: the order of the terms does not matter")
    func order() {
        let seed: UInt64 = 0x5EED_0102
        var generator = SplitMix64(seed: seed)
        var values = (0..<1000).map { _ in randomFinite(&generator, exponents: 0...254) }
        var forward = ExactSum()
        for value in values { forward.add(value) }
        for index in stride(from: values.count - 1, to: 0, by: -1) {
            values.swapAt(index, Int(generator.next() % UInt64(index + 1)))
        }
        var shuffled = ExactSum()
        for value in values { shuffled.add(value) }
        #expect(forward.roundedToDouble().bitPattern == shuffled.roundedToDouble().bitPattern, "seed \(seed)")
    }
}
