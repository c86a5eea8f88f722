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

    /// exp and log of binary64 numbers as high + low, from a computation with 400 bits by MPFR's algorithms in mpmath.
    @Test(
        "both halves of exp and log, 2^-96 relative, against 400 bits",
        arguments: [
            ("exp", 1, 0x1.5bf0a8b145769p+1, 0x1.4d57ee2b1013ap-53),
            ("exp", -0.5, 0x1.368b2fc6f960ap-1, -0x1.85314b9559e64p-61),
            ("exp", 10, 0x1.5829dcf950560p+14, -0x1.83e055cfea4bbp-40),
            ("exp", -20.25, 0x1.b93de1e27ca3bp-30, -0x1.6a3c4abdc49a6p-85),
            ("exp", 88, 0x1.f1056dc7bf22dp+126, 0x1.ef076abb0ade3p+71),
            ("exp", -104, 0x1.f1e6b68529e33p-151, 0x1.a8a4753425ca7p-206),
            ("exp", 700, 0x1.d945df4f8ec8ep+1009, 0x1.183392684a46ep+954),
            ("log", 2, 0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56),
            ("log", 3, 0x1.193ea7aad030bp+0, -0x1.a256f99caabebp-54),
            ("log", 10, 0x1.26bb1bbb55516p+1, -0x1.f48ad494ea3e9p-53),
            ("log", 0x1.8p-8, -0x1.48f10c02e406ap+2, -0x1.d9374e7c3031ep-52),
            ("log", 1e30, 0x1.144f69ff9ffc4p+6, 0x1.58594e618bc31p-49),
            ("log", 0.75, -0x1.269621134db92p-2, -0x1.e0efadd9db02bp-56),
        ] as [(String, Double, Double, Double)])
    func bothHalves(function: String, x: Double, high: Double, low: Double) {
        let value = DoubleDouble(x)
        let result = function == "exp" ? DoubleDouble.exp(value) : DoubleDouble.log(value)
        #expect(result.high == high)
        #expect(abs(result.low - low) <= 0x1p-96 * abs(high), "\(result.low), expected \(low)")
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
