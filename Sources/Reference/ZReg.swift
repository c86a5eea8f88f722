import ExactMath
import ModelSpec

/// The z-regulariser: the virtual loss term c Z^2 of each row, which enters through the gradient alone (clauses Z2, Z3).
public enum ZReg {
    /// What rows of logits give, arrays in C order.
    public struct Rows: Sendable {
        /// Z, fp32 [n].
        public let z: [Float]
        /// P, fp32 [n, m].
        public let p: [Float]
        /// dS, fp32 [n, m].
        public let ds: [Float]
    }

    /// Z, P and dS of logits s and gradients dP, both fp32 [n, m], every column visible (Z4). A row of no columns has Z = +0 (V4).
    ///
    /// - Precondition: `form` is `folded` or `unfolded`; there is no output for `row-dot` to multiply with.
    public static func rows(_ s: [Float], dp: [Float], rows n: Int, columns m: Int, c: Float, form: ZRegForm) -> Rows {
        precondition(s.count == n * m && dp.count == n * m && form != .rowDot)
        var (z, p, ds): ([Float], [Float], [Float]) = ([], [], [])
        for row in 0..<n {
            let range = row * m..<(row + 1) * m
            let statistic = LogSumExp.row(Array(s[range]))
            let probabilities = s[range].map(statistic.probability)  // Z1
            let gradients = Array(dp[range])
            let weighted = weightedSum(probabilities, gradients, [Bool](repeating: true, count: m))
            z.append(statistic.z)
            p += probabilities
            for j in 0..<m {
                ds.append(
                    gradient(
                        p: probabilities[j], dp: gradients[j], weighted: weighted, z: statistic.z, c: c, form: form))
            }
        }
        return Rows(z: z, p: p, ds: ds)
    }

    /// D = lane16 of fma(P_j, dP_j) over the visible j (Z2).
    static func weightedSum(_ p: [Float], _ dp: [Float], _ isVisible: [Bool]) -> Float {
        Reductions.lane16(count: p.count, isVisible: { isVisible[$0] }, factors: { j in (p[j], dp[j]) })
    }

    /// dS_j by form (Z2): `folded` and `row-dot` fl(P * fl(dP - fl(D - dZ))), `unfolded` fl(fl(P * fl(dP - D)) + fl(dZ * P)), with dZ = fl(fl(2c) *
    /// Z); for c = 0 of either sign fl(P * fl(dP - D)) (Z3).
    static func gradient(p: Float, dp: Float, weighted: Float, z: Float, c: Float, form: ZRegForm) -> Float {
        // Z3
        if SoftFloat32.isZero(c) { return SoftFloat32.multiply(p, SoftFloat32.subtract(dp, weighted)) }
        let dz = SoftFloat32.multiply(SoftFloat32.multiply(2, c), z)  // Z2
        switch form {
        case .folded, .rowDot:
            let folded = SoftFloat32.subtract(weighted, dz)  // Z2
            return SoftFloat32.multiply(p, SoftFloat32.subtract(dp, folded))  // Z2
        case .unfolded:
            let plain = SoftFloat32.multiply(p, SoftFloat32.subtract(dp, weighted))  // Z2
            return SoftFloat32.add(plain, SoftFloat32.multiply(dz, p))  // Z2
        }
    }
}

/// Mean, rms and largest |Z| over the rows that see a key, and the spacing of bf16 at the largest |s| (Z5): why one would regularise Z.
///
/// For reports alone: fp64 arithmetic, not part of any result. A NaN among the values makes what is computed from it NaN.
public struct LogSumExpStatistics: Sendable, Hashable, CustomStringConvertible {
    /// Rows that see a key.
    public let rows: Int
    /// Of |Z|; 0 of no rows.
    public let mean: Double
    /// Of |Z|; 0 of no rows.
    public let rootMeanSquare: Double
    /// Of |Z|; 0 of no rows.
    public let largest: Double
    /// 2^(e - 7) at |s| in [2^e, 2^(e + 1)), s the logit of the largest magnitude, and never below the smallest bf16, 2^-133; NaN
    /// where that logit is not finite.
    public let spacing: Double

    /// Of one forward pass. A row sees nothing exactly where its sum is 0: the sum of any other holds exp(0) = 1.
    public init(_ forward: Attention.Forward) {
        var (count, sum, squares, largest) = (0, 0.0, 0.0, 0.0)
        for (row, value) in forward.z.enumerated() where forward.sum[row] != 0 {
            let magnitude = Double(value.magnitude)
            count += 1
            sum += magnitude
            squares += magnitude * magnitude
            if !(magnitude <= largest) && !largest.isNaN { largest = magnitude }
        }
        rows = count
        mean = count > 0 ? sum / Double(count) : 0
        rootMeanSquare = count > 0 ? (squares / Double(count)).squareRoot() : 0
        self.largest = largest
        let logit = Double(forward.largestLogit)
        spacing = logit.isFinite ? max(logit.binade * 0x1p-7, 0x1p-133) : .nan
    }

    public var description: String {
        func short(_ x: Double) -> String { "\((x * 1000).rounded() / 1000)" }
        return
            "mean \(short(mean)), rms \(short(rootMeanSquare)), max \(short(largest)); bf16 at the largest logit is spaced \(spacing)"
    }
}
