import ExactMath
import Testing

// The expected values come from elsewhere: the processor's own IEEE arithmetic (RNE, gradual underflow), double-precision
// arithmetic rounded to odd, and plain long integers (WideInteger).

// MARK: - Operands

/// Boundary exponents times significand patterns, both signs, with zeros, infinities and NaNs (quiet and signalling).
private let boundaryGrid: [Float] = {
    let exponents: [UInt32] = [0, 1, 2, 24, 63, 103, 126, 127, 128, 150, 190, 253, 254]
    let fractions: [UInt32] = [0, 1, 0x40_0000, 0x7F_FFFF, 0x2A_AAAB, 0x00_0800]
    var magnitudes: [UInt32] = [0x7F80_0000, 0x7FC0_0000, 0x7F80_0001]
    for exponent in exponents {
        for fraction in fractions { magnitudes.append(exponent << 23 | fraction) }
    }
    return magnitudes.flatMap { [Float(bitPattern: $0), Float(bitPattern: $0 | 0x8000_0000)] }
}()

/// How a random triple is drawn; each family aims at one trap.
enum TripleFamily: String, CaseIterable, CustomTestStringConvertible {
    case anyBits, cancellation, subnormalResult, overflowEdge, shortSignificands, farApart, leastNormalEdge
    var testDescription: String { rawValue }

    func draw(_ generator: inout SplitMix64) -> (Float, Float, Float) {
        func normal(_ exponents: ClosedRange<Int>) -> Float {
            let exponent = UInt32(exponents.lowerBound + Int(generator.next() % UInt64(exponents.count)) + 127)
            let random = UInt32(truncatingIfNeeded: generator.next())
            return Float(bitPattern: random & 0x807F_FFFF | exponent << 23)
        }
        func nudged(_ x: Float, by limit: Int32) -> Float {
            let step = Int32(truncatingIfNeeded: generator.next()) % (limit + 1)
            return Float(bitPattern: UInt32(bitPattern: Int32(bitPattern: x.bitPattern) &+ step))
        }
        switch self {
        case .anyBits:
            let (r, s) = (generator.next(), generator.next())
            return (
                Float(bitPattern: UInt32(truncatingIfNeeded: r)), Float(bitPattern: UInt32(r >> 32)),
                Float(bitPattern: UInt32(truncatingIfNeeded: s))
            )
        case .cancellation:  // z within a few units of -x*y
            let (x, y) = (normal(-60...60), normal(-60...60))
            return (x, y, nudged(-(x * y), by: 3))
        case .subnormalResult:  // x*y and z between 2^-155 and 2^-120, some of the operands subnormal
            let exponent = Int(generator.next() % 60) - 110
            let x = normal(exponent...exponent)
            let y = normal((-155 - exponent).clamped(to: -126...127)...(-120 - exponent).clamped(to: -126...127))
            let z = Float(bitPattern: UInt32(truncatingIfNeeded: generator.next()) & 0x83FF_FFFF)
            return (x, y, z)
        case .overflowEdge:  // x*y and z near 2^128
            let exponent = Int(generator.next() % 120)
            return (normal(exponent...exponent), normal((127 - exponent)...(128 - exponent)), normal(100...127))
        case .shortSignificands:  // few significant bits: ties and exact results
            func short() -> Float {
                let x = normal(-30...30)
                return Float(bitPattern: x.bitPattern & ~0 << UInt32(11 + generator.next() % 12))
            }
            return (short(), short(), nudged(short(), by: 1))
        case .farApart:  // the sticky bit: z 20 to 60 binades from x*y
            let (x, y) = (normal(-20...20), normal(-20...20))
            let distance = Int(generator.next() % 41) + 20
            let scale = Int((x * y).exponent) + (generator.next() & 1 == 0 ? distance : -distance)
            let z = normal(scale...scale)
            let bit = UInt32(1) << UInt32(generator.next() % 23)
            return (x, y, generator.next() & 1 == 0 ? z : Float(bitPattern: z.bitPattern & 0xFF80_0000 | bit))
        case .leastNormalEdge:  // x*y + z within some units of 2^-126
            let x = normal(-40...40)
            if generator.next() & 1 == 0 {
                let zero: Float = generator.next() & 1 == 0 ? 0 : -0.0
                return (x, nudged(0x1p-126 / x, by: 2), zero)
            }
            let tiny = Int(generator.next() % 6) - 153
            let y = normal(
                (tiny - Int(x.exponent)).clamped(to: -126...127)...(tiny - Int(x.exponent)).clamped(to: -126...127))
            let z = Float(bitPattern: 0x0080_0000 &+ UInt32(generator.next() % 4))
            return (x, y, generator.next() & 1 == 0 ? z : -z)
        }
    }
}

extension Int {
    fileprivate func clamped(to range: ClosedRange<Int>) -> Int {
        Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
    }
}

// MARK: - Comparison

/// The bits that a result must have where the processor's own result is `hardware`: the same, or the canonical NaN (F2).
private func expectedBits(_ hardware: Float) -> UInt32 {
    hardware.isNaN ? 0x7FC0_0000 : hardware.bitPattern
}

private func describe(_ operands: [Float], _ expected: UInt32, _ got: UInt32) -> Comment {
    let operands = operands.map { "\(hexadecimal($0.bitPattern)) (\($0))" }.joined(separator: ", ")
    return
        "operands \(operands): expected \(hexadecimal(expected)) (\(Float(bitPattern: expected))), got \(hexadecimal(got)) (\(Float(bitPattern: got)))"
}

/// Counts differences and records the first few, so that a broken operation does not print millions of lines.
private struct Differences {
    private(set) var count = 0

    mutating func check(_ operands: @autoclosure () -> [Float], expected: UInt32, got: UInt32) {
        if expected == got { return }
        count += 1
        if count <= 5 { Issue.record(describe(operands(), expected, got)) }
    }

    func finish(_ compared: Int, seed: UInt64? = nil) {
        #expect(compared > 0)
        #expect(count == 0, "\(count) of \(compared) differ\(seed.map { ", seed \($0)" } ?? "")")
    }
}

// MARK: - F(x, y, z) of D1, derived twice more

/// x*y + z in double precision rounded to odd, then to 24 bits with unbounded exponent (binary64 has room for all of it).
private func flushingByRoundToOdd(_ x: Float, _ y: Float, _ z: Float) -> UInt32 {
    func read(_ value: Float) -> Double { value.isSubnormal ? (value.sign == .minus ? -0.0 : 0.0) : Double(value) }
    let product = read(x) * read(y)  // exact: 48 bits
    let addend = read(z)
    let sum = product + addend
    if sum.isNaN { return 0x7FC0_0000 }
    let sign: UInt32 = sum.sign == .minus ? 0x8000_0000 : 0
    if sum.isInfinite { return sign | 0x7F80_0000 }
    // Knuth's two-sum: `rest` is exactly what the addition lost.
    let part = sum - product
    let rest = (product - (sum - part)) + (addend - part)
    var bits = sum.bitPattern
    if rest != 0 && bits & 1 == 0 {
        bits = (rest < 0) == (sum < 0) ? bits + 1 : bits - 1
    }
    let isOdd = bits >> 29 & 1
    bits = (bits + 0x0FFF_FFFF + isOdd) & ~0x1FFF_FFFF
    let rounded = Double(bitPattern: bits & ~(1 << 63))
    if rounded < 0x1p-126 { return sign }
    if rounded >= 0x1p128 { return sign | 0x7F80_0000 }
    return sign | Float(rounded).bitPattern
}

/// x*y + z as a long integer in units of 2^-298, rounded by counting its bits.
private func flushingByLongIntegers(_ x: Float, _ y: Float, _ z: Float) -> UInt32 {
    func read(_ value: Float) -> Float { value.isSubnormal ? (value.sign == .minus ? -0.0 : 0.0) : value }
    let (x, y, z) = (read(x), read(y), read(z))
    if x.isNaN || y.isNaN || z.isNaN { return 0x7FC0_0000 }
    let productSign: UInt32 = (x.bitPattern ^ y.bitPattern) & 0x8000_0000
    if x.isInfinite || y.isInfinite {
        if x == 0 || y == 0 { return 0x7FC0_0000 }
        if z.isInfinite && z.bitPattern & 0x8000_0000 != productSign { return 0x7FC0_0000 }
        return productSign | 0x7F80_0000
    }
    if z.isInfinite { return z.bitPattern }
    let sum = WideInteger(product: x, y) + WideInteger(z)
    if sum.isZero {
        let bothNegative = productSign != 0 && z.sign == .minus
        return bothNegative && (x == 0 || y == 0) ? 0x8000_0000 : 0
    }
    let sign: UInt32 = sum.isNegative ? 0x8000_0000 : 0
    var (significand, exponent) = sum.roundedToNearestEven(bits: 24)
    exponent -= 298
    // significand * 2^exponent with exactly 24 bits
    if exponent + 23 < -126 { return sign }
    if exponent + 23 > 127 { return sign | 0x7F80_0000 }
    significand -= 1 << 23
    return sign | UInt32(exponent + 23 + 127) << 23 | UInt32(significand)
}

// MARK: - Tests

@Suite("SoftFloat32: F2, F3, F4, D1, R4")
struct SoftFloat32Tests {
    @Test("F3: add, subtract, multiply, divide agree with the processor on the boundary grid squared")
    func binaryOperationsOnGrid() {
        var differences = Differences()
        for a in boundaryGrid {
            for b in boundaryGrid {
                differences.check([a, b], expected: expectedBits(a + b), got: SoftFloat32.add(a, b).bitPattern)
                differences.check([a, b], expected: expectedBits(a - b), got: SoftFloat32.subtract(a, b).bitPattern)
                differences.check([a, b], expected: expectedBits(a * b), got: SoftFloat32.multiply(a, b).bitPattern)
                differences.check([a, b], expected: expectedBits(a / b), got: SoftFloat32.divide(a, b).bitPattern)
            }
        }
        differences.finish(4 * boundaryGrid.count * boundaryGrid.count)
    }

    @Test(
        "F3: add, subtract, multiply, divide agree with the processor on random operands",
        arguments: TripleFamily.allCases)
    func binaryOperationsOnRandom(family: TripleFamily) {
        let seed: UInt64 = 0x5EED_0001
        let count = 2_000_000
        var generator = SplitMix64(seed: seed)
        var differences = Differences()
        for _ in 0..<count {
            let (x, y, z) = family.draw(&generator)
            let product = x * y
            differences.check([x, y], expected: expectedBits(product), got: SoftFloat32.multiply(x, y).bitPattern)
            differences.check(
                [product, z], expected: expectedBits(product + z), got: SoftFloat32.add(product, z).bitPattern)
            differences.check(
                [z, product], expected: expectedBits(z - product), got: SoftFloat32.subtract(z, product).bitPattern)
            differences.check([x, y], expected: expectedBits(x / y), got: SoftFloat32.divide(x, y).bitPattern)
            differences.check([z, y], expected: expectedBits(z / y), got: SoftFloat32.divide(z, y).bitPattern)
        }
        differences.finish(5 * count, seed: seed)
    }

    @Test("F3: squareRoot agrees with the processor over two binades, every exponent, and specials")
    func squareRoots() {
        var differences = Differences()
        var compared = 0
        func compare(_ x: Float) {
            compared += 1
            differences.check([x], expected: expectedBits(x.squareRoot()), got: SoftFloat32.squareRoot(x).bitPattern)
        }
        for x in boundaryGrid { compare(x) }
        for bits in stride(from: UInt32(0x3F80_0000), to: 0x4080_0000, by: 5) { compare(Float(bitPattern: bits)) }
        for bits in stride(from: UInt32(0), to: 0x7F80_0000, by: 1021) { compare(Float(bitPattern: bits)) }
        for bits in UInt32(0)..<200_000 { compare(Float(bitPattern: bits)) }
        differences.finish(compared)
    }

    @Test("F3: fusedMultiplyAdd agrees with the processor on the boundary grid cubed")
    func fusedMultiplyAddOnGrid() {
        var differences = Differences()
        for x in boundaryGrid {
            for y in boundaryGrid {
                for z in boundaryGrid {
                    differences.check(
                        [x, y, z], expected: expectedBits(z.addingProduct(x, y)),
                        got: SoftFloat32.fusedMultiplyAdd(x, y, z).bitPattern)
                }
            }
        }
        differences.finish(boundaryGrid.count * boundaryGrid.count * boundaryGrid.count)
    }

    @Test("F3: fusedMultiplyAdd agrees with the processor on random triples", arguments: TripleFamily.allCases)
    func fusedMultiplyAddOnRandom(family: TripleFamily) {
        let seed: UInt64 = 0x5EED_0002
        let count = 5_000_000
        var generator = SplitMix64(seed: seed)
        var differences = Differences()
        for _ in 0..<count {
            let (x, y, z) = family.draw(&generator)
            differences.check(
                [x, y, z], expected: expectedBits(z.addingProduct(x, y)),
                got: SoftFloat32.fusedMultiplyAdd(x, y, z).bitPattern)
        }
        differences.finish(count, seed: seed)
    }

    @Test("D1: fusedMultiplyAddFlushing agrees with round-to-odd in double precision on the boundary grid cubed")
    func flushingOnGrid() {
        var differences = Differences()
        for x in boundaryGrid {
            for y in boundaryGrid {
                for z in boundaryGrid {
                    differences.check(
                        [x, y, z], expected: flushingByRoundToOdd(x, y, z),
                        got: SoftFloat32.fusedMultiplyAddFlushing(x, y, z).bitPattern)
                }
            }
        }
        differences.finish(boundaryGrid.count * boundaryGrid.count * boundaryGrid.count)
    }

    @Test(
        "D1: fusedMultiplyAddFlushing agrees with round-to-odd in double precision on random triples",
        arguments: TripleFamily.allCases)
    func flushingOnRandom(family: TripleFamily) {
        let seed: UInt64 = 0x5EED_0003
        let count = 5_000_000
        var generator = SplitMix64(seed: seed)
        var differences = Differences()
        for _ in 0..<count {
            let (x, y, z) = family.draw(&generator)
            differences.check(
                [x, y, z], expected: flushingByRoundToOdd(x, y, z),
                got: SoftFloat32.fusedMultiplyAddFlushing(x, y, z).bitPattern)
        }
        differences.finish(count, seed: seed)
    }

    @Test("D1: fusedMultiplyAddFlushing agrees with long integers", arguments: TripleFamily.allCases)
    func flushingByIntegers(family: TripleFamily) {
        let seed: UInt64 = 0x5EED_0004
        let count = 60_000
        var generator = SplitMix64(seed: seed)
        var differences = Differences()
        for _ in 0..<count {
            let (x, y, z) = family.draw(&generator)
            let expected = flushingByLongIntegers(x, y, z)
            differences.check(
                [x, y, z], expected: expected, got: SoftFloat32.fusedMultiplyAddFlushing(x, y, z).bitPattern)
            differences.check([x, y, z], expected: expected, got: flushingByRoundToOdd(x, y, z))
        }
        differences.finish(count, seed: seed)
    }

    // 2^25 - 1 = 31 * 1082401, so the tie below 2^-126 is a product of two binary32 numbers.
    @Test(
        "D1: known answers at the least normal number",
        arguments: [
            // 2^-126 - 2^-151 is half way between 24-bit neighbours: ties to even, to 2^-126.
            (0x1.fp-7, Float(1_082_401) * 0x1p-140, Float(0), UInt32(0x0080_0000)),
            (-0x1.fp-7, Float(1_082_401) * 0x1p-140, Float(0), UInt32(0x8080_0000)),
            // 2^-126 - 2^-150 has 24 bits and stays below: zero. A multiply-add with gradual underflow rounds it up to 2^-126.
            (Float(0xFF_FFFF) * 0x1p-30, Float(0x1p-120), Float(0), UInt32(0)),
            (Float(0xFF_FFFF) * -0x1p-30, Float(0x1p-120), Float(0), UInt32(0x8000_0000)),
            // 2^-126 - 2^-149 as a difference of normal numbers.
            (Float(1), Float(0x1p-125), -(Float(0x1p-126) + 0x1p-149), UInt32(0)),
            // 2^-126 - 2^-152 rounds up; 2^-126 - 2^-150 - 2^-160 does not.
            (Float(-0x1p-76), Float(0x1p-76), Float(0x1p-126), UInt32(0x0080_0000)),
            (Float(-0x1.004p-75), Float(0x1p-75), Float(0x1p-126), UInt32(0)),
            // Subnormal operands are read as zeros of their sign.
            (Float(bitPattern: 0x007F_FFFF), Float(0x1p100), Float(-0.0), UInt32(0)),
            (Float(bitPattern: 0x807F_FFFF), Float(0x1p100), Float(-0.0), UInt32(0x8000_0000)),
            (Float(0), Float(0), Float(bitPattern: 0x007F_FFFF), UInt32(0)),
            (Float.infinity, Float(bitPattern: 1), Float(1), UInt32(0x7FC0_0000)),
            // The other end: the largest finite number, and what rounds to 2^128.
            (Float.greatestFiniteMagnitude, Float(1), Float(0x1.fffffep102), UInt32(0x7F7F_FFFF)),
            (Float.greatestFiniteMagnitude, Float(1), Float(0x1p103), UInt32(0x7F80_0000)),
        ] as [(Float, Float, Float, UInt32)])
    func leastNormalEdge(x: Float, y: Float, z: Float, expected: UInt32) {
        let got = SoftFloat32.fusedMultiplyAddFlushing(x, y, z).bitPattern
        #expect(got == expected, describe([x, y, z], expected, got))
        let second = flushingByLongIntegers(x, y, z)
        #expect(second == expected, describe([x, y, z], expected, second))
    }

    @Test("F4: roundToBFloat16 is the nearest bfloat16, ties to even, at every midpoint and beside it")
    func roundToBFloat16() {
        for upper in UInt32(0)..<0x7F80 {
            // Between two neighbours `upper` and `upper + 1` (the last is infinity in the place of 2^128).
            let even = upper & 1 == 0 ? upper : upper + 1
            let expectations: [(UInt32, UInt32)] = [
                (0, upper), (1, upper), (0x7FFF, upper), (0x8000, even), (0x8001, upper + 1), (0xFFFF, upper + 1),
            ]
            for (lower, expected) in expectations {
                for sign: UInt32 in [0, 0x8000] {
                    let x = Float(bitPattern: (sign | upper) << 16 | lower)
                    let got = SoftFloat32.roundToBFloat16(x)
                    if UInt32(got) != sign | expected {
                        Issue.record(
                            "\(hexadecimal(x.bitPattern)): expected \(hexadecimal(sign | expected)), got \(hexadecimal(UInt32(got)))"
                        )
                    }
                }
            }
        }
        for bits: UInt32 in [0x7F80_0001, 0x7FC0_0000, 0x7FFF_FFFF, 0xFF80_0001, 0xFFFF_FFFF] {
            #expect(SoftFloat32.roundToBFloat16(Float(bitPattern: bits)) == 0x7FC0)
        }
        #expect(SoftFloat32.roundToBFloat16(.infinity) == 0x7F80)
        #expect(SoftFloat32.roundToBFloat16(-.infinity) == 0xFF80)
    }

    @Test("F1: every bfloat16 converts exactly and back")
    func convertBFloat16() {
        for bits in UInt16.min...UInt16.max {
            let x = SoftFloat32.convert(bfloat16Bits: bits)
            if bits & 0x7FFF > 0x7F80 {
                #expect(x.bitPattern == 0x7FC0_0000)
            } else {
                #expect(x.bitPattern == UInt32(bits) << 16)
                #expect(SoftFloat32.roundToBFloat16(x) == bits)
            }
        }
    }

    @Test("RNE32 of binary64 and of integers agrees with the processor")
    func conversions() {
        let seed: UInt64 = 0x5EED_0005
        var generator = SplitMix64(seed: seed)
        var differences = Differences()
        var doubles: [Double] = [
            0, -0.0, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, .greatestFiniteMagnitude,
        ]
        for x in boundaryGrid where x.isFinite {
            let middle = (Double(x) + Double(x.nextUp)) / 2
            doubles += [Double(x), middle, middle.nextUp, middle.nextDown]
        }
        for _ in 0..<1_000_000 {
            let random = generator.next()
            doubles.append(Double(bitPattern: random))
            // Exponents 2^-160 to 2^130, where binary32 is.
            let exponent = UInt64(1023 - 160) + generator.next() % 290
            doubles.append(Double(bitPattern: random & 0x800F_FFFF_FFFF_FFFF | exponent << 52))
        }
        for x in doubles {
            let got = SoftFloat32.convert(x).bitPattern
            let expected = expectedBits(Float(x))
            if got != expected { Issue.record("\(x): expected \(hexadecimal(expected)), got \(hexadecimal(got))") }
        }
        var integers: [UInt64] = [0, 1, .max, .max - 1, 1 << 63, (1 << 63) + (1 << 39), (1 << 63) + (1 << 39) + 1]
        for shift in 0..<64 { integers.append(generator.next() >> UInt64(shift)) }
        for shift in 0..<40 { integers += [0x1FF_FFFF << UInt64(shift), (0x1FF_FFFF << UInt64(shift)) + 1] }
        for n in integers {
            differences.check([], expected: Float(n).bitPattern, got: SoftFloat32.convert(n).bitPattern)
            let signed = Int64(bitPattern: n)
            differences.check([], expected: Float(signed).bitPattern, got: SoftFloat32.convert(signed).bitPattern)
        }
        differences.finish(doubles.count + 2 * integers.count, seed: seed)
    }

    @Test("RNE32(1/n) and RNE32(sqrt(n)) of an integer")
    func reciprocalAndRootOfIntegers() {
        #expect(SoftFloat32.reciprocal(of: 0).bitPattern == 0x7F80_0000)
        #expect(SoftFloat32.reciprocal(of: 127).bitPattern == Float(1.0 / 127.0).bitPattern)
        #expect(SoftFloat32.squareRoot(of: 0).bitPattern == 0)
        var differences = Differences()
        // Below 2^24 the integer is a binary32 number, and the processor's operation rounds once.
        for n in UInt64(1)..<300_000 {
            differences.check(
                [Float(n)], expected: (1 / Float(n)).bitPattern, got: SoftFloat32.reciprocal(of: n).bitPattern)
            differences.check(
                [Float(n)], expected: Float(n).squareRoot().bitPattern, got: SoftFloat32.squareRoot(of: n).bitPattern)
        }
        // Beyond: the value v is nearest to the result r iff it lies between the midpoints beside r, in exact integers.
        let seed: UInt64 = 0x5EED_0006
        var generator = SplitMix64(seed: seed)
        for index in 0..<20_000 {
            var n = max(generator.next() >> UInt64(index % 64), 1)
            if index % 4 == 0 {
                // The integers beside 2^88 / c, c odd with 25 bits: 1/n is a hair beyond or short of a midpoint.
                let odd = UInt128(generator.next() & 0xFF_FFFF | 0x100_0001)
                n = UInt64((UInt128(1) << 88) / odd) + (generator.next() & 1)
            }
            let reciprocal = SoftFloat32.reciprocal(of: n)
            let (below, above) = midpointsBeside(reciprocal)
            let one = WideInteger(Float(1))
            #expect(below.times(n) <= one && one <= above.times(n), "1/\(n), seed \(seed)")
            let root = SoftFloat32.squareRoot(of: n)
            let (lower, upper) = (
                Double(root.nextDown) / 2 + Double(root) / 2, Double(root) / 2 + Double(root.nextUp) / 2
            )
            // The midpoints have 25 bits: their squares are exact in 128-bit integers scaled by 2^32.
            let (lowerInteger, upperInteger) = (UInt128(lower * 0x1p32), UInt128(upper * 0x1p32))
            #expect(lowerInteger * lowerInteger <= UInt128(n) << 64, "sqrt(\(n)), seed \(seed)")
            #expect(n == .max || UInt128(n) << 64 <= upperInteger * upperInteger, "sqrt(\(n)), seed \(seed)")
        }
        differences.finish(600_000)
    }

    private func midpointsBeside(_ x: Float) -> (WideInteger, WideInteger) {
        let half = WideInteger(product: x, 0.5)
        return (half + WideInteger(product: x.nextDown, 0.5), half + WideInteger(product: x.nextUp, 0.5))
    }

    @Test("R4, B4: maximum, minimum and comparisons on the boundary grid squared")
    func comparisons() {
        for a in boundaryGrid {
            for b in boundaryGrid {
                #expect(SoftFloat32.isLess(a, b) == (a < b))
                #expect(SoftFloat32.isLessOrEqual(a, b) == (a <= b))
                #expect(SoftFloat32.isEqual(a, b) == (a == b))
                let (larger, smaller) = (SoftFloat32.maximum(a, b).bitPattern, SoftFloat32.minimum(a, b).bitPattern)
                if a.isNaN || b.isNaN {
                    #expect(larger == 0x7FC0_0000 && smaller == 0x7FC0_0000)
                } else if a == 0 && b == 0 {
                    #expect(larger == (a.sign == .plus || b.sign == .plus ? 0 : 0x8000_0000))
                    #expect(smaller == (a.sign == .minus || b.sign == .minus ? 0x8000_0000 : 0))
                } else {
                    #expect(larger == max(a, b).bitPattern && smaller == min(a, b).bitPattern)
                }
            }
        }
    }

    @Test("F2: a NaN result has the canonical bits, whatever the payload of the operand")
    func canonicalNaN() {
        for bits: UInt32 in [0x7F80_0001, 0x7FC0_0000, 0x7FFF_FFFF, 0xFF80_0001, 0xFFC0_0000, 0xFFFF_FFFF] {
            let nan = Float(bitPattern: bits)
            let results = [
                SoftFloat32.add(nan, 1), SoftFloat32.subtract(1, nan), SoftFloat32.multiply(nan, 0),
                SoftFloat32.divide(1, nan),
                SoftFloat32.squareRoot(nan), SoftFloat32.fusedMultiplyAdd(1, 1, nan),
                SoftFloat32.fusedMultiplyAddFlushing(nan, .infinity, 0), SoftFloat32.negate(nan),
                SoftFloat32.magnitude(nan),
                SoftFloat32.maximum(nan, .infinity), SoftFloat32.minimum(.infinity, nan),
            ]
            for result in results { #expect(result.bitPattern == 0x7FC0_0000) }
        }
    }
}
