import ExactMath

/// The softmax of a row of logits in two passes, and its log-sum-exp Z (Z1, T3).
public enum LogSumExp {
    /// max, sum and Z of a row, fp32. Of a row with nothing visible all three are +0 (V4).
    public struct Row: Sendable, Hashable {
        /// R4 over the visible logits.
        public let maximum: Float
        /// lane16 of e_j = exp(fl(s_j - max)) over absolute j.
        public let sum: Float
        /// Z = fl(max + log(sum)).
        public let z: Float

        public init(maximum: Float, sum: Float, z: Float) {
            self.maximum = maximum
            self.sum = sum
            self.z = z
        }

        /// P_j = fl(e_j / sum) of a visible logit (Z1); the same bits in the backward pass (T3).
        public func probability(_ s: Float) -> Float {
            let e = CorrectlyRounded.exp(SoftFloat32.subtract(s, maximum))  // Z1
            return SoftFloat32.divide(e, sum)  // Z1
        }
    }

    /// The row of the visible logits s_j, j = 0 ..< `count`. NaN and infinities follow fp32 arithmetic: of -infinity alone, Z is NaN.
    public static func row(
        count: Int, isVisible: (_ j: Int) -> Bool = { _ in true }, logit: (_ j: Int) -> Float
    ) -> Row {
        // V4
        guard let maximum = try? Reductions.maximum(count: count, isVisible: isVisible, value: logit) else {
            return Row(maximum: 0, sum: 0, z: 0)
        }
        let sum = Reductions.lane16(count: count, isVisible: isVisible) { j in
            CorrectlyRounded.exp(SoftFloat32.subtract(logit(j), maximum))  // Z1
        }
        return Row(maximum: maximum, sum: sum, z: SoftFloat32.add(maximum, CorrectlyRounded.log(sum)))  // Z1
    }

    /// The row of all of s.
    public static func row(_ s: [Float]) -> Row { row(count: s.count) { j in s[j] } }
}
