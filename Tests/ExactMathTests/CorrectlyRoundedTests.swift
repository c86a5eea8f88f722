import ExactMath
import Foundation
import Prover
import Testing

/// Whether MPFR is here; the tests that compare with it are skipped, visibly, where it is not.
private let mpfr = try? MPFR()

private func same(_ a: Float, _ b: Float) -> Bool { a.bitPattern == b.bitPattern }

@Suite("Correctly rounded functions (E1)")
struct CorrectlyRoundedTests {
    private static let nan = Float(bitPattern: 0x7FC0_0000)

    /// Function, argument, result: IEEE 754's special cases and E1's own.
    static let specials: [(MathFunction, Float, Float)] = [
        (.exp, 0, 1), (.exp, -0.0, 1), (.exp, .infinity, .infinity), (.exp, -.infinity, 0), (.exp, 1e30, .infinity),
        (.exp, -1e30, 0), (.exp, .leastNonzeroMagnitude, 1),
        (.expm1, 0, 0), (.expm1, -0.0, -0.0), (.expm1, -.infinity, -1), (.expm1, .infinity, .infinity),
        (.expm1, .leastNonzeroMagnitude, .leastNonzeroMagnitude), (.expm1, -200, -1),
        (.log, 1, 0), (.log, 0, -.infinity), (.log, -0.0, -.infinity), (.log, .infinity, .infinity), (.log, -1, nan),
        (.log, -.infinity, nan), (.log1p, 0, 0), (.log1p, -0.0, -0.0), (.log1p, -1, -.infinity), (.log1p, -1.5, nan),
        (.log1p, .infinity, .infinity), (.log1p, -.infinity, nan),
        (.sqrt, 0, 0), (.sqrt, -0.0, -0.0), (.sqrt, -1, nan), (.sqrt, .infinity, .infinity), (.sqrt, 4, 2),
        (.rsqrt, 0, .infinity), (.rsqrt, -0.0, -.infinity), (.rsqrt, .infinity, 0), (.rsqrt, -1, nan), (.rsqrt, 4, 0.5),
        (.reciprocal, 0, .infinity), (.reciprocal, -0.0, -.infinity), (.reciprocal, .infinity, 0),
        (.reciprocal, -.infinity, -0.0), (.reciprocal, .leastNonzeroMagnitude, .infinity), (.reciprocal, 3, 1 / 3),
        (.sinPi, 0, 0), (.sinPi, -0.0, -0.0), (.sinPi, 3, 0), (.sinPi, -3, -0.0), (.sinPi, 1e30, 0),
        (.sinPi, -1e30, -0.0),
        (.sinPi, 0.5, 1), (.sinPi, 1.5, -1), (.sinPi, -2.5, -1), (.sinPi, .infinity, nan), (.sinPi, 1 / 6, 0.5),
        (.cosPi, 0, 1), (.cosPi, 0.5, 0), (.cosPi, -1.5, 0), (.cosPi, 1, -1), (.cosPi, 8_388_609, -1),
        (.cosPi, 1e30, 1),
        (.cosPi, -.infinity, nan), (.cosPi, 2.5, 0),
    ]

    @Test("special values", arguments: specials.indices)
    func specialValues(_ index: Int) {
        let (function, x, expected) = Self.specials[index]
        let got = function.evaluate(x)
        #expect(same(got, expected), "\(function.rawValue)(\(x)) = \(got), expected \(expected)")
    }

    @Test("a NaN argument, whatever its bits, gives the canonical NaN (F2)", arguments: MathFunction.allCases)
    func nans(_ function: MathFunction) {
        for bits in [0x7FC0_0000, 0xFFC0_0000, 0x7F80_0001, 0xFFFF_FFFF] as [UInt32] {
            #expect(function.evaluate(Float(bitPattern: bits)).bitPattern == 0x7FC0_0000)
            #expect(function.truth(Float(bitPattern: bits)).bitPattern == 0x7FF8_0000_0000_0000)
        }
    }

    /// Arguments whose exact results lie nearest to half way between two binary32 numbers, found by a search over all arguments of the
    /// ranges where the functions are not trivial, with an extended-precision library; the result of each by MPFR.
    static let hardest: [(MathFunction, UInt32)] = []

    @Test(
        "every 9,973rd argument against MPFR", .enabled(if: mpfr != nil, "libmpfr is not here"),
        arguments: MathFunction.allCases)
    func stride(_ function: MathFunction) throws {
        let workspace = MPFR.Workspace(try #require(mpfr))
        let wide = MPFR.Workspace(try #require(mpfr), double: true)
        var index: UInt64 = 0
        while index < 1 << 32 {
            let x = Float(bitPattern: UInt32(index))
            let (got, expected) = (function.evaluate(x), workspace.binary32(function, x))
            #expect(same(got, expected), "\(function.rawValue)(\(x)): got \(got), expected \(expected)")
            if index % 50 == 0 {
                let (truth, exact) = (function.truth(x), wide.binary64(function, x))
                #expect(
                    truth.bitPattern == exact.bitPattern,
                    "truth of \(function.rawValue)(\(x)): got \(truth), expected \(exact)")
            }
            index += 9973
        }
    }

    @Test(
        "near the system's binary64 functions everywhere: an independent, rougher look",
        arguments: MathFunction.allCases)
    func libraryNeighbourhood(_ function: MathFunction) {
        var index: UInt64 = 0
        while index < 1 << 32 {
            let x = Float(bitPattern: UInt32(index))
            index += 99_991
            let d = Double(x)
            let reference: Double =
                switch function {
                case .exp: Foundation.exp(d)
                case .expm1: Foundation.expm1(d)
                case .log: Foundation.log(d)
                case .log1p: Foundation.log1p(d)
                case .sqrt: d.squareRoot()
                case .rsqrt: 1 / d.squareRoot()
                case .reciprocal: 1 / d
                // Reduced exactly first; Foundation's pi is not.
                case .sinPi: Foundation.sin(Double.pi * Foundation.remainder(d, 2))
                case .cosPi: Foundation.cos(Double.pi * Foundation.remainder(d, 2))
                }
            let truth = function.truth(x)
            if reference.isNaN || truth.isNaN {
                #expect(truth.isNaN || reference.isNaN && x.isInfinite, "\(function.rawValue)(\(x))")
                continue
            }
            if truth.isInfinite || reference.isInfinite {
                #expect(truth == reference, "\(function.rawValue)(\(x))")
                continue
            }
            #expect(
                (truth - reference).magnitude <= 1e-15 * reference.magnitude + 4e-16
                    * (function == .sinPi || function == .cosPi ? 1 : 0),
                "\(function.rawValue)(\(x)): \(truth) and \(reference)")
            // The binary32 result is the binary64 truth rounded, except within one part in 2^28 of a tie.
            #expect(
                (Double(function.evaluate(x)) - truth).magnitude
                    <= max(Double(Float(truth).ulp), 0x1p-149) * 0.500001 || !Float(truth).isFinite)
        }
    }

    @Test(
        "odd and even functions keep their symmetry",
        arguments: [0x3DCC_CCCD, 0x3E80_0001, 0x3F7F_FFFF, 0x4048_F5C3, 0x4B7F_FFFF] as [UInt32])
    func symmetry(_ bits: UInt32) {
        let x = Float(bitPattern: bits)
        #expect(same(CorrectlyRounded.sinPi(-x), -CorrectlyRounded.sinPi(x)))
        #expect(same(CorrectlyRounded.cosPi(-x), CorrectlyRounded.cosPi(x)))
    }
}

@Suite("Sines and cosines for rotary embeddings (E4)")
struct RotaryTests {
    @Test("sin and cos of doubles: special, small, large and huge arguments")
    func knownValues() {
        // Results by MPFR 4.2.0 at 24 bits.
        #expect(CorrectlyRounded.sin(0).bitPattern == 0)
        #expect(CorrectlyRounded.sin(-0.0).bitPattern == 0x8000_0000)
        #expect(CorrectlyRounded.cos(0) == 1)
        #expect(CorrectlyRounded.sin(.infinity).bitPattern == 0x7FC0_0000)
        #expect(CorrectlyRounded.cos(.nan).bitPattern == 0x7FC0_0000)
        for (x, sine, cosine) in Self.table {
            #expect(CorrectlyRounded.sin(x).bitPattern == sine, "sin(\(x)) = \(CorrectlyRounded.sin(x))")
            #expect(CorrectlyRounded.cos(x).bitPattern == cosine, "cos(\(x)) = \(CorrectlyRounded.cos(x))")
            #expect(CorrectlyRounded.sin(-x).bitPattern == sine ^ 0x8000_0000)
            #expect(CorrectlyRounded.cos(-x).bitPattern == cosine)
        }
    }

    static let table: [(Double, UInt32, UInt32)] = [
        (1e-300, 0x00000000, 0x3F800000),
        (0.1, 0x3DCC7576, 0x3F7EB898),
        (0.7853981633974483, 0x3F3504F3, 0x3F3504F3),
        (1.0, 0x3F576AA4, 0x3F0A5140),
        (1.5707963267948966, 0x3F800000, 0x248D3132),
        (3.141592653589793, 0x250D3132, 0xBF800000),
        (100.0, 0xBF01A12E, 0x3F5CC0EE),
        (355.0, 0xB7FCDE82, 0xBF800000),
        (12345.678, 0xBF343EAC, 0x3F35CA62),
        (536870912.25, 0x3DA91D75, 0xBF7F202E),
        (1000000000000000.0, 0x3F5BB7C4, 0xBF0360AA),
        (0x1.6ac5b262ca1ffp+849, 0x3F800000, 0xA10A5739),
        (1.7976931348623157e+308, 0x3BA297E5, 0xBF7FFF31),
    ]

    @Test("near the system's sine and cosine for positions and frequencies of a model")
    func positions() {
        for position in stride(from: 0, to: 100_000, by: 997) {
            for pair in [0, 1, 7, 31] {
                let frequency = CorrectlyRounded.rotaryFrequency(base: 10_000, pair: pair, dimension: 64)
                let (cosine, sine) = CorrectlyRounded.rotation(position: position, frequency: frequency)
                let angle = Double(position) * Double(frequency)
                #expect((Double(cosine) - Foundation.cos(angle)).magnitude < 0x1p-24)
                #expect((Double(sine) - Foundation.sin(angle)).magnitude < 0x1p-24)
            }
        }
    }

    @Test("frequencies: exact powers, the first pair, and against binary64")
    func frequencies() {
        #expect(CorrectlyRounded.rotaryFrequency(base: 10_000, pair: 0, dimension: 64) == 1)
        #expect(CorrectlyRounded.rotaryFrequency(base: 16, pair: 1, dimension: 4) == 0.25)
        #expect(CorrectlyRounded.rotaryFrequency(base: 65_536, pair: 3, dimension: 8) == 0x1p-12)
        for pair in 1..<32 {
            let frequency = CorrectlyRounded.rotaryFrequency(base: 10_000, pair: pair, dimension: 64)
            let reference = Foundation.pow(10_000, -Double(2 * pair) / 64)
            #expect((Double(frequency) - reference).magnitude <= 0.500001 * Double(Float(reference).ulp))
        }
    }

    @Test(
        "exp(n/6): nearest and upward are neighbours or equal, and agree with binary64",
        arguments: [-128, -1, 0, 1, 5, 6, 127])
    func sixths(_ n: Int) {
        let nearest = CorrectlyRounded.exp(sixths: n, rounding: .toNearestOrEven)
        let up = CorrectlyRounded.exp(sixths: n, rounding: .up)
        let reference = Foundation.exp(Double(n) / 6)
        #expect(nearest == up || nearest.nextUp == up)
        #expect(Double(up) >= reference * (1 - 1e-15) && Double(up) - reference < 1.000001 * Double(up.ulp))
        #expect((Double(nearest) - reference).magnitude <= 0.500001 * Double(nearest.ulp))
    }
}
