import ExactMath
import Reference

/// Compares every entry of Squinch's tables with MPFR, and what S2 says about them with the definition (S2).
///
/// 255 thresholds: T[q] is exp((q - 129) / 6) rounded up by MPFR. 256 scales: M[q] is exp((q - 128) / 6) rounded to
/// nearest. 255 magnitudes: the largest that has scale byte q < 255, the fp32 before T[q + 1], is at most M[q].
public enum SquinchTablesProof {
    public struct Outcome: Sendable, Hashable {
        /// The version of MPFR.
        public let version: String
        /// Entries and magnitudes compared: 766.
        public let cases: Int
        /// Every difference, in order of the cases.
        public let mismatches: [Mismatch]
        /// What a logarithm in fp32 makes of the values next to the thresholds: why S2 is defined on exact reals.
        public let naiveLogarithm: NaiveLogarithm
    }

    /// How often a scale byte by an fp32 logarithm, floor(fl(6 * log(m))) + 129, is wrong next to a threshold.
    ///
    /// The logarithm is the correctly rounded one, so that no library's error is blamed.
    public struct NaiveLogarithm: Sendable, Hashable {
        /// The values looked at: T[q] and the fp32 on each side of it, for each q.
        public let values: Int
        /// Wrong at T[q]: the byte is too small.
        public let wrongAtThreshold: Int
        /// Wrong just below T[q]: the byte is too large.
        public let wrongBelowThreshold: Int
        /// Wrong just above T[q]: the byte is too small.
        public let wrongAboveThreshold: Int

        public var wrong: Int { wrongAtThreshold + wrongBelowThreshold + wrongAboveThreshold }
    }

    /// - Throws: ``MPFR/LoadError`` where MPFR cannot be loaded.
    public static func run() throws(MPFR.LoadError) -> Outcome {
        let library = try MPFR()
        let mpfr = MPFR.Workspace(library)
        var cases = 0
        var mismatches: [Mismatch] = []

        func compare(_ name: String, _ got: Float, _ expected: Float) {
            if got.bitPattern != expected.bitPattern {
                mismatches.append(
                    Mismatch(index: UInt64(cases), inputs: name, expected: text(expected), got: text(got)))
            }
            cases += 1
        }

        for q in 1...255 {
            compare("T[\(q)]", SquinchTables.thresholds[q - 1], mpfr.exp(sixths: q - 129, .up))
        }
        for q in 0...255 {
            compare("M[\(q)]", SquinchTables.scales[q], mpfr.exp(sixths: q - 128, .nearestEven))
        }
        for q in 0..<255 {
            let largest = SquinchTables.thresholds[q].nextDown
            let scale = SquinchTables.scales[q]
            if largest > scale {
                mismatches.append(
                    Mismatch(
                        index: UInt64(cases), inputs: "largest magnitude of scale byte \(q)",
                        expected: "at most \(text(scale))", got: text(largest)))
            }
            cases += 1
        }
        return Outcome(
            version: library.version, cases: cases, mismatches: mismatches, naiveLogarithm: naiveLogarithm())
    }

    /// Counts the scale bytes that an fp32 logarithm gets wrong; needs no MPFR.
    public static func naiveLogarithm() -> NaiveLogarithm {
        var wrongAtThreshold = 0
        var wrongBelowThreshold = 0
        var wrongAboveThreshold = 0
        for q in 1...255 {
            let threshold = SquinchTables.thresholds[q - 1]
            if naiveScaleByte(threshold) != q { wrongAtThreshold += 1 }
            if naiveScaleByte(threshold.nextDown) != q - 1 { wrongBelowThreshold += 1 }
            if naiveScaleByte(threshold.nextUp) != q { wrongAboveThreshold += 1 }
        }
        return NaiveLogarithm(
            values: 3 * 255, wrongAtThreshold: wrongAtThreshold, wrongBelowThreshold: wrongBelowThreshold,
            wrongAboveThreshold: wrongAboveThreshold)
    }

    /// clip(floor(fl(6 * fl(log m))) + 129, 0, 255): S2 as it is easily written, and not what it means.
    private static func naiveScaleByte(_ m: Float) -> Int {
        let sixths = SoftFloat32.multiply(6, CorrectlyRounded.log(m))
        return min(max(Int(sixths.rounded(.down)) + 129, 0), 255)
    }

    private static func text(_ x: Float) -> String {
        let digits = String(x.bitPattern, radix: 16, uppercase: true)
        return "0x\(String(repeating: "0", count: 8 - digits.count))\(digits) = \(x)"
    }
}
