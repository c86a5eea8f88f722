import ExactMath

/// The scales and thresholds of Squinch (S2), derived from exp(n/6) when first used.
///
/// `touchstone prove squinch` compares every entry with MPFR.
public enum SquinchTables {
    /// M[q] = RNE32(exp((q - 128) / 6)) at index q = 0...255: what the codes of a block with scale byte q are fractions
    /// of. From 5.4e-10 (q = 0, which no code uses) to 1.56e9.
    public static let scales: [Float] = (0...255).map {
        CorrectlyRounded.exp(sixths: $0 - 128, rounding: .toNearestOrEven)
    }

    /// T[q] at index q - 1, q = 1...255: the least fp32 t with floor(6 ln t) + 129 >= q, that is with
    /// t >= exp((q - 129) / 6).
    ///
    /// T[129] = 1. Every other exp((q - 129) / 6) is irrational, so that the least fp32 not below it is the value rounded
    /// up.
    public static let thresholds: [Float] = (1...255).map { CorrectlyRounded.exp(sixths: $0 - 129, rounding: .up) }

    /// The scale byte q_max of a block whose largest magnitude is m: the number of thresholds that m reaches (S2).
    ///
    /// 0 for both zeros and below T[1], 255 from T[255] on and for infinity. m <= M[q_max] wherever q_max < 255.
    /// - Precondition: m is not a NaN and not below zero.
    public static func scaleByte(largestMagnitude m: Float) -> UInt8 {
        precondition(SoftFloat32.isLessOrEqual(0, m), "\(m) is no magnitude")
        var reached: UInt8 = 0
        for threshold in thresholds where SoftFloat32.isLessOrEqual(threshold, m) { reached += 1 }
        return reached
    }
}
