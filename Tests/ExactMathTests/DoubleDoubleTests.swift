import ExactMath
import Testing

@Suite("Q1: double-double arithmetic")
struct DoubleDoubleTests {
    private func random(_ index: UInt64) -> Double {
        let stream = RandomStream(seed: 3, stream: 4, step: 5)
        let mantissa = Double(UInt64(stream.word(2 * index)) << 21 | UInt64(stream.word(2 * index + 1)) >> 11) * 0x1p-53
        return (mantissa + 0.5) * (index % 2 == 0 ? 1 : -1)
    }

    /// |x - y| relative to y.
    private func error(_ x: DoubleDouble, _ y: DoubleDouble) -> Double {
        let difference = (x - y).magnitude.high
        return difference / y.magnitude.high
    }

    @Test("identities that hold exactly in real numbers hold to 2^-100")
    func identities() {
        for index: UInt64 in 0..<500 {
            let (a, b, c) = (
                DoubleDouble(random(index)), DoubleDouble(random(index + 1000)) * DoubleDouble(random(index + 2000)),
                DoubleDouble(random(index + 3000))
            )
            #expect(error((a / c) * c, a) < 0x1p-100)
            #expect(error((a + b) - b, a) < 0x1p-98)
            #expect(error(a * (b / a), b) < 0x1p-100)
            let (x, y) = (a * DoubleDouble(8.0), b * DoubleDouble(5.0))
            #expect(error(DoubleDouble.exp(x) * DoubleDouble.exp(y), DoubleDouble.exp(x + y)) < 0x1p-95)
            let p = DoubleDouble.exp(x)
            #expect((DoubleDouble.log(p) - x).magnitude.high < 0x1p-95)
        }
    }

    @Test("exp and log round to the correctly rounded binary64 of MathFunction's own derivation")
    func functions() {
        for index: UInt64 in 0..<400 {
            let x = Float(random(index) * 40)
            #expect(DoubleDouble.exp(DoubleDouble(x)).high == MathFunction.exp.truth(x), "exp \(x)")
            let y = Float(random(index).magnitude * 1000)
            #expect(DoubleDouble.log(DoubleDouble(y)).high == MathFunction.log.truth(y), "log \(y)")
        }
        #expect(DoubleDouble.log(DoubleDouble(1.0)).isZero && DoubleDouble.exp(.zero).high == 1)
        #expect(
            DoubleDouble.exp(DoubleDouble(-800.0)).isZero && DoubleDouble.exp(DoubleDouble(800.0)).high == .infinity)
        #expect(DoubleDouble.log(.zero).high == -.infinity && DoubleDouble.exp(DoubleDouble(Double.nan)).high.isNaN)
    }

    @Test("sums and products keep what binary64 alone would lose")
    func lowParts() {
        let tiny = DoubleDouble(0x1p-80)
        #expect(((DoubleDouble(1.0) + tiny) - DoubleDouble(1.0)).high == 0x1p-80)
        let third = DoubleDouble(1.0) / DoubleDouble(3.0)
        #expect((third * DoubleDouble(3.0) - DoubleDouble(1.0)).magnitude.high < 0x1p-104)
        #expect(third.low != 0)
    }
}

@Suite("D1, D2, F3: the processor's arithmetic gives the soft bits")
struct HardwareFloat32Tests {
    private static let boundary: [UInt32] = {
        var values: [UInt32] = []
        for exponent: UInt32 in [0, 1, 2, 23, 24, 25, 63, 101, 126, 127, 128, 149, 150, 151, 230, 253, 254, 255] {
            for fraction: UInt32 in [0, 1, 2, 0x3F_FFFF, 0x40_0000, 0x40_0001, 0x55_5555, 0x7F_FFFE, 0x7F_FFFF] {
                values += [exponent << 23 | fraction, 0x8000_0000 | exponent << 23 | fraction]
            }
        }
        return values
    }()

    private func check(_ x: UInt32, _ y: UInt32, _ z: UInt32, _ failures: inout [String]) {
        let (a, b, c) = (Float(bitPattern: x), Float(bitPattern: y), Float(bitPattern: z))
        let soft = SoftFloat32.fusedMultiplyAdd(a, b, c).bitPattern
        let hard = HardwareFloat32.fusedMultiplyAdd(a, b, c)
        let softFlushed = SoftFloat32.fusedMultiplyAddFlushing(a, b, c).bitPattern
        let hardFlushed = HardwareFloat32.fusedMultiplyAddFlushing(a, b, c)
        if hard.bitPattern != soft || hardFlushed.bitPattern != softFlushed {
            failures.append(
                "fma(\(a), \(b), \(c)): soft \(soft) \(softFlushed), hardware \(hard.bitPattern) \(hardFlushed.bitPattern)"
            )
        }
    }

    @Test("boundary values cubed, thinned")
    func grid() {
        var failures: [String] = []
        let values = Self.boundary
        for (i, x) in values.enumerated() {
            for (j, y) in values.enumerated() where (i + j) % 3 == 0 {
                for (k, z) in values.enumerated() where (i + 2 * j + k) % 5 == 0 { check(x, y, z, &failures) }
            }
        }
        #expect(failures.isEmpty, "\(failures.count): \(failures.first ?? "")")
    }

    @Test("two million sampled triples: sums near midpoints, cancellation, results around 2^-126")
    func samples() {
        var failures: [String] = []
        let stream = RandomStream(seed: 9, stream: 9, step: 9)
        for index: UInt64 in 0..<2_000_000 {
            let block = Philox4x32.block(key: (9, 9), counter: (UInt32(truncatingIfNeeded: index), 7, stream.stream, 0))
            let (x, y) = (block.0 & 0xFFFF_0000, block.1 & 0xFFFF_0000)
            var z = block.2
            let product = Float(bitPattern: x) * Float(bitPattern: y)
            switch block.3 & 7 {
            case 0, 1: break
            // Near the negated product, or some binades beside it with a short significand: midpoints and beside them.
            case 2: z = (product.bitPattern ^ 0x8000_0000) &+ (block.2 & 3) &- 1
            case 3, 4:
                let shift = Int32(block.3 >> 8 & 31) - 16
                z = product.bitPattern &+ UInt32(bitPattern: shift << 23)
                z &= ~UInt32(0xFFF)
            default:
                // Exponents that bring the result near 2^-126.
                let target = 254 &- (x >> 23 & 0xFF)
                z = (block.2 & 0x807F_FFFF) | (block.3 >> 9 & 3) << 23
                check(x, (y & 0x807F_0000) | (target &- 126 & 0xFF) << 23, z, &failures)
            }
            check(x, y, z, &failures)
            if failures.count > 5 { break }
        }
        #expect(failures.isEmpty, "\(failures.first ?? "")")
    }
}
