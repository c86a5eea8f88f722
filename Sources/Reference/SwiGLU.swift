import BFloat16
import ExactMath

/// The gated unit y = silu(gate) * up, silu(x) = x / (1 + exp(-x)), and its gradients (T8). Element by element.
public enum SwiGLU {
    /// y, fp32, of gate and up, bf16, all of one length.
    ///
    /// NaN where an input is NaN, where the gate is -infinity, and where silu(gate) is 0 and up infinite.
    public static func forward(gate: [BFloat16], up: [BFloat16]) -> [Float] {
        precondition(gate.count == up.count)
        return gate.indices.map { index in
            SoftFloat32.multiply(Unit(widened(gate[index])).silu, widened(up[index]))  // T8
        }
    }

    /// dgate and dup, fp32, of dy, fp32.
    ///
    /// dgate is NaN where the gate is infinite: 0 * infinity.
    public static func backward(gate: [BFloat16], up: [BFloat16], dy: [Float]) -> (gate: [Float], up: [Float]) {
        precondition(gate.count == up.count && gate.count == dy.count)
        var gradients: (gate: [Float], up: [Float]) = ([], [])
        for index in gate.indices {
            let unit = Unit(widened(gate[index]))
            gradients.up.append(SoftFloat32.multiply(dy[index], unit.silu))  // T8
            let ofSilu = SoftFloat32.multiply(dy[index], widened(up[index]))  // T8
            gradients.gate.append(SoftFloat32.multiply(ofSilu, unit.slope))  // T8
        }
        return gradients
    }

    /// silu at one gate, and its slope.
    private struct Unit {
        /// fl(gate / d), d = fl(1 + exp(-gate)).
        let silu: Float
        /// fl(s * fl(1 + fl(gate * fl(1 - s)))), s = fl(1 / d).
        let slope: Float

        init(_ gate: Float) {
            let e = CorrectlyRounded.exp(SoftFloat32.negate(gate))  // E1
            let d = SoftFloat32.add(1, e)  // T8
            silu = SoftFloat32.divide(gate, d)  // T8
            let s = SoftFloat32.divide(1, d)  // T8
            let rest = SoftFloat32.subtract(1, s)  // T8
            slope = SoftFloat32.multiply(s, SoftFloat32.add(1, SoftFloat32.multiply(gate, rest)))  // T8
        }
    }
}
