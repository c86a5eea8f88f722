import BFloat16
import ExactMath

/// Root-mean-square normalisation of rows (T2).
///
/// ms = fl(lane16 of fma(x, x) * RNE32(1/C)); r = rsqrt(fl(ms + epsilon)); xhat = fl(x * r); y = bf16(fl(xhat * g)). All arrays in C
/// order, x and y [n, C], g [C]. A NaN in a row makes the row NaN; a zero row with epsilon 0 has r = infinity and is NaN.
public enum RMSNorm {
    public struct Forward: Sendable {
        /// y, bf16 [n, C].
        public let output: [BFloat16]
        /// r, fp32 [n].
        public let inverseRootMeanSquare: [Float]
    }

    /// y and r. `width` C is at least 1; arrays that do not have the shape are a programmer's error.
    public static func forward(
        _ x: [BFloat16], gain: [BFloat16], rows: Int, width: Int, epsilon: Float
    ) -> Forward {
        precondition(x.count == rows * width && gain.count == width && width >= 1)
        var output: [BFloat16] = []
        output.reserveCapacity(x.count)
        var inverses: [Float] = []
        for row in 0..<rows {
            let r = inverseRootMeanSquare(x, row: row, width: width, epsilon: epsilon)
            inverses.append(r)
            for c in 0..<width {
                let normalized = SoftFloat32.multiply(widened(x[row * width + c]), r)  // T2
                output.append(bf16(SoftFloat32.multiply(normalized, widened(gain[c]))))  // T2
            }
        }
        return Forward(output: output, inverseRootMeanSquare: inverses)
    }

    /// The gradients from dy bf16 [n, C]: with a = fl(dy * g), xhat as in the forward pass, m = fl(lane16 of fma(a, xhat) * RNE32(1/C)):
    /// dx = fl(r * fl(a - fl(xhat * m))), fp32 [n, C]; dg = chain over rows of fma(dy, xhat), fp32 [C].
    public static func backward(
        outputGradient dy: [BFloat16], x: [BFloat16], gain: [BFloat16], rows: Int, width: Int, epsilon: Float
    ) -> (input: [Float], gain: [Float]) {
        precondition(x.count == rows * width && dy.count == x.count && gain.count == width && width >= 1)
        let reciprocal = SoftFloat32.reciprocal(of: UInt64(width))
        var dx: [Float] = []
        dx.reserveCapacity(x.count)
        var dg = [Float](repeating: 0, count: width)
        for row in 0..<rows {
            let r = inverseRootMeanSquare(x, row: row, width: width, epsilon: epsilon)
            var a: [Float] = []
            var normalized: [Float] = []
            for c in 0..<width {
                let gradient = widened(dy[row * width + c])
                a.append(SoftFloat32.multiply(gradient, widened(gain[c])))  // T2
                normalized.append(SoftFloat32.multiply(widened(x[row * width + c]), r))  // T2
                dg[c] = SoftFloat32.fusedMultiplyAdd(gradient, normalized[c], dg[c])  // T2, R3
            }
            let mean = SoftFloat32.multiply(Reductions.sumOfProducts(a, normalized, order: .lane16), reciprocal)  // T2
            for c in 0..<width {
                let along = SoftFloat32.multiply(normalized[c], mean)  // T2
                dx.append(SoftFloat32.multiply(r, SoftFloat32.subtract(a[c], along)))  // T2
            }
        }
        for c in 0..<width { dg[c] = SoftFloat32.add(dg[c], 0) }  // R3
        return (dx, dg)
    }

    /// r of one row.
    private static func inverseRootMeanSquare(_ x: [BFloat16], row: Int, width: Int, epsilon: Float) -> Float {
        let squares = Reductions.lane16(
            count: width,
            factors: { c in
                let value = widened(x[row * width + c])
                return (value, value)
            })
        let meanSquare = SoftFloat32.multiply(squares, SoftFloat32.reciprocal(of: UInt64(width)))  // T2
        return CorrectlyRounded.rsqrt(SoftFloat32.add(meanSquare, epsilon))  // T2
    }
}

/// bf16 to fp32, exact (F1).
func widened(_ x: BFloat16) -> Float { SoftFloat32.convert(bfloat16Bits: x.bitPattern) }
