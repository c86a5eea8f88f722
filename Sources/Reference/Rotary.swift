import BFloat16
import ExactMath

/// Rotary position embedding (E4, T2; Su et al. 2021): element i of a head is turned together with element i + D/2.
///
/// y_i = bf16(fma(x_i, cos_i, -fl(x_{i+h} sin_i))), y_{i+h} = bf16(fma(x_i, sin_i, fl(x_{i+h} cos_i))), h = D / 2, i < h; cos and sin of
/// the position times theta_i = RNE32(base^(-2i/D)), correctly rounded. x [n, heads, D] in C order, positions [n].
public enum Rotary {
    /// The rotated x. D is even, positions are in 0 ..< 2^29; else a programmer's error.
    public static func forward(
        _ x: [BFloat16], positions: [Int32], heads: Int, headDimension: Int, base: Float
    ) -> [BFloat16] {
        rotate(x, positions: positions, heads: heads, headDimension: headDimension, base: base, backward: false)
    }

    /// The gradient with respect to x: the rotation by the opposite angle, with the forward pass's operations.
    public static func backward(
        _ dy: [BFloat16], positions: [Int32], heads: Int, headDimension: Int, base: Float
    ) -> [BFloat16] {
        rotate(dy, positions: positions, heads: heads, headDimension: headDimension, base: base, backward: true)
    }

    private static func rotate(
        _ x: [BFloat16], positions: [Int32], heads: Int, headDimension: Int, base: Float, backward: Bool
    ) -> [BFloat16] {
        precondition(headDimension % 2 == 0 && x.count == positions.count * heads * headDimension)
        let half = headDimension / 2
        let frequencies = (0..<half).map {
            CorrectlyRounded.rotaryFrequency(base: base, pair: $0, dimension: headDimension)  // E4
        }
        var tables: [Int32: [(cosine: Float, sine: Float)]] = [:]
        var y = x
        for (row, position) in positions.enumerated() {
            let table =
                tables[position]
                ?? frequencies.map { CorrectlyRounded.rotation(position: Int(position), frequency: $0) }  // E4
            tables[position] = table
            for head in 0..<heads {
                let start = (row * heads + head) * headDimension
                for i in 0..<half {
                    let (first, second) = (widened(x[start + i]), widened(x[start + half + i]))
                    let cosine = table[i].cosine
                    let sine = backward ? SoftFloat32.negate(table[i].sine) : table[i].sine
                    let crossed = SoftFloat32.negate(SoftFloat32.multiply(second, sine))  // T2
                    y[start + i] = bf16(SoftFloat32.fusedMultiplyAdd(first, cosine, crossed))  // T2
                    let straight = SoftFloat32.multiply(second, cosine)  // T2
                    y[start + half + i] = bf16(SoftFloat32.fusedMultiplyAdd(first, sine, straight))  // T2
                }
            }
        }
        return y
    }
}
