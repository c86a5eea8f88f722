import ExactMath
import Platform

/// Compares an elementary function with MPFR over all 2^32 arguments (E2).
public enum MathProof {
    /// How the arguments are covered. Our function is computed for all 2^32 of them either way.
    public enum Method: String, Sendable, CaseIterable {
        /// One call of MPFR for every argument: hours.
        case every
        /// One call of MPFR at each end of each run of equal results, and a proof for what lies between:
        ///
        /// - *Monotone runs.* Between two neighbouring arguments at which the exact function rounds to y, a monotone function rounds to y as
        ///   well. exp, expm1, log, log1p, sqrt are monotone, rsqrt and reciprocal on each sign; sin(pi x) and cos(pi x) between
        ///   multiples of 1/2, where runs are cut.
        /// - *Tiny arguments.* Where |x| < 2^-25, expm1(x) and log1p(x) lie within x (1 +- 2^-25) and must round to x. Where |x| < 2^-30, sin(pi x)
        ///   lies in (pi x (1 - 2^-57), pi x), which must round to one value: exact integers with pi to 100 bits.
        /// - *Symmetry and period.* sinPi and cosPi of a negative x, and of |x| >= 1, must equal bit for bit their own results at an argument
        ///   in [0, 1) that is congruent to x, exact in binary32, with the sign that this demands.
        /// - *Even integers.* Every binary32 of magnitude 2^24 and above is one: sinPi is a zero of x's sign there, cosPi is 1.
        case runs
    }

    /// The work in one line, as resume files name it.
    public static func work(_ function: MathFunction, _ method: Method) -> String {
        "math \(function.rawValue) \(method.rawValue)"
    }

    /// Judges a shard of the 2^32 arguments, in the order of their bit patterns.
    public static func run(
        _ function: MathFunction, method: Method, shard: Shard = .whole, threads: Int = Workers.processorCount,
        resumeFile: String? = nil, progress: (ExhaustiveProgress) throws -> Void = { _ in }
    ) throws -> ExhaustiveOutcome {
        let library = try MPFR()
        let run = ExhaustiveRun(
            work: work(function, method), total: 1 << 32, blockSize: 1 << 18, shard: shard, threads: threads,
            resumeFile: resumeFile)
        return try run.run(progress: progress) { range, mismatches in
            // A block of 2^18 lies within one binade of one sign.
            let workspace = MPFR.Workspace(library)
            switch method {
            case .every: judgeEvery(function, range, workspace, &mismatches)
            case .runs: judgeRuns(function, range, workspace, &mismatches)
            }
        }
    }

    private static func judgeEvery(
        _ function: MathFunction, _ range: Range<UInt64>, _ mpfr: MPFR.Workspace, _ mismatches: inout Mismatches
    ) {
        for index in range {
            let x = Float(bitPattern: UInt32(index))
            compare(function, x, function.evaluate(x), mpfr.binary32(function, x), &mismatches)
        }
    }

    private static func judgeRuns(
        _ function: MathFunction, _ range: Range<UInt64>, _ mpfr: MPFR.Workspace, _ mismatches: inout Mismatches
    ) {
        let exponent = Int(range.lowerBound >> 23 & 0xFF)
        let isPeriodic = function == .sinPi || function == .cosPi
        var runStart: (x: Float, y: Float)?
        var previous: (x: Float, y: Float)?

        /// Ends the current run: its last argument is compared, unless it is its first.
        func endRun() {
            if let last = previous, let first = runStart, last.x.bitPattern != first.x.bitPattern {
                compare(function, last.x, last.y, mpfr.binary32(function, last.x), &mismatches)
            }
            runStart = nil
            previous = nil
        }

        for index in range {
            let x = Float(bitPattern: UInt32(index))
            let y = function.evaluate(x)
            if exponent < 255 {
                if exponent < 127 - 25 && (function == .expm1 || function == .log1p) {
                    compare(function, x, y, x, &mismatches)
                    continue
                }
                if isPeriodic {
                    if exponent >= 127 + 24 {
                        let zero = Float(bitPattern: x.bitPattern & 0x8000_0000)
                        compare(function, x, y, function == .sinPi ? zero : 1, &mismatches)
                        continue
                    }
                    if exponent >= 127 || x.bitPattern >> 31 == 1 {
                        compare(function, x, y, congruent(function, x), &mismatches)
                        continue
                    }
                    if function == .sinPi && exponent < 127 - 30 {
                        compare(function, x, y, tinySinPi(x), &mismatches)
                        continue
                    }
                }
            }
            // sinPi turns at 1/2, and both change their sign there or at 0 and 1.
            let isTurningPoint = isPeriodic && (x == 0 || x == 0.5)
            if let start = runStart, start.y.bitPattern == y.bitPattern, !isTurningPoint, !x.isNaN {
                previous = (x, y)
                continue
            }
            endRun()
            compare(function, x, y, mpfr.binary32(function, x), &mismatches)
            if !isTurningPoint && !x.isNaN {
                runStart = (x, y)
                previous = (x, y)
            }
        }
        endRun()
    }

    /// Our own result at the argument in [0, 1) that is congruent to x, with the sign that this demands; 1 <= |x| < 2^24 or x < 0.
    private static func congruent(_ function: MathFunction, _ x: Float) -> Float {
        let isNegative = x.bitPattern >> 31 == 1
        let magnitude = Float(bitPattern: x.bitPattern & 0x7FFF_FFFF)
        // |x| = whole + rest: truncation is exact, and so is the difference of |x| and its integer part.
        let whole = UInt32(magnitude)
        let rest = magnitude - Float(whole)
        let flips = whole % 2 == 1
        let y = function.evaluate(rest)
        if function == .sinPi {
            // The zero of an integer has x's sign.
            if y == 0 { return Float(bitPattern: isNegative ? 0x8000_0000 : 0) }
            return flips != isNegative ? -y : y
        }
        // cosPi of a half-integer is +0.
        if y == 0 { return 0 }
        return flips ? -y : y
    }

    /// RNE32 of pi x, |x| < 2^-30, where that of pi x (1 - 2^-57) is the same; NaN, which equals no result, where it is not.
    private static func tinySinPi(_ x: Float) -> Float {
        let biased = Int(x.bitPattern >> 23 & 0xFF)
        let fraction = UInt128(x.bitPattern & 0x7F_FFFF)
        let m = biased == 0 ? fraction : fraction | 0x80_0000
        if m == 0 { return x }
        // pi in units of 2^-100: 3.243F6A88 85A308D3 13198A2E 0 in hexadecimal, 102 bits; cut, so that the next above is an upper bound.
        let pi: UInt128 = 0x3243_F6A8_885A_308D_3131_98A2_E0
        let exponent = max(biased, 1) - 150 - 100
        let upper = rounded(m * (pi + 1), exponent)
        let product = m * pi
        let lower = rounded(product - product >> 57 - 1, exponent)
        return upper == lower ? Float(bitPattern: upper) : Float(bitPattern: 0x7FC0_0000)
    }

    /// The bits of RNE32(n * 2^exponent), n of at least 100 bits, below the overflow threshold: this proof's own.
    private static func rounded(_ n: UInt128, _ exponent: Int) -> UInt32 {
        let top = exponent + 127 - n.leadingZeroBitCount
        let unit = max(top - 23, -149)
        let shift = UInt128(unit - exponent)
        var kept = shift < 128 ? n >> shift : 0
        let rest = shift < 128 ? n - kept << shift : n
        if shift <= 128 {
            let half: UInt128 = 1 << (shift - 1)
            if rest > half || (rest == half && kept & 1 == 1) { kept += 1 }
        }
        return UInt32((unit + 149) << 23) + UInt32(kept)
    }

    private static func compare(
        _ function: MathFunction, _ x: Float, _ got: Float, _ expected: Float, _ mismatches: inout Mismatches
    ) {
        guard got.bitPattern != expected.bitPattern else { return }
        mismatches.record {
            Mismatch(
                index: UInt64(x.bitPattern), inputs: "\(function.rawValue)(\(x)) = \(hexadecimal(x))",
                expected: "\(hexadecimal(expected)) = \(expected)", got: "\(hexadecimal(got)) = \(got)")
        }
    }

    private static func hexadecimal(_ x: Float) -> String {
        let digits = String(x.bitPattern, radix: 16, uppercase: true)
        return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
    }
}
