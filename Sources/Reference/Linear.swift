import BFloat16
import ExactMath
import ModelSpec
import Platform

/// Linear layers y = x W and their gradients, as fp32 accumulators (T2, D1 to D4). W is [in, out]; all arrays in C order.
///
/// Every result is a dot product by the recipe, from +0, never -0. Under `hardware` the same sums are computed with the
/// processor's arithmetic, several at a time. Arrays that do not have the shape are a programmer's error.
public enum Linear {
    /// y [n, out] = dot over in of x_t and W's column.
    public static func forward(
        _ x: [BFloat16], weight: [BFloat16], rows: Int, inputs: Int, outputs: Int, recipe: DotRecipe,
        arithmetic: Arithmetic = .soft
    ) -> [Float] {
        compositeProduct(
            [CompositeRow(a: x, b: weight, depth: inputs)], m: rows, n: outputs, recipe: recipe,
            arithmetic: arithmetic)
    }

    /// y [n, out] = dot over in of x_t and row o of W [out, in]: the logits of a tied embedding.
    public static func forwardTransposed(
        _ x: [BFloat16], weight: [BFloat16], rows: Int, inputs: Int, outputs: Int, recipe: DotRecipe,
        arithmetic: Arithmetic = .soft
    ) -> [Float] {
        compositeProduct(
            [CompositeRow(a: x, b: transposed(weight, outputs, inputs), depth: inputs)], m: rows, n: outputs,
            recipe: recipe, arithmetic: arithmetic)
    }

    /// dx [n, in] = dot over out of dy_t and W's row.
    public static func inputGradient(
        _ dy: [BFloat16], weight: [BFloat16], rows: Int, inputs: Int, outputs: Int, recipe: DotRecipe,
        arithmetic: Arithmetic = .soft
    ) -> [Float] {
        inputGradient(
            parts: [(dy, weight, outputs)], rows: rows, inputs: inputs, recipe: recipe, arithmetic: arithmetic)
    }

    /// dx [n, in] of several layers that read the same x: one composite chain over the parts in their order (D4).
    ///
    /// - Parameter parts: of each layer dy [n, out] and W [in, out].
    public static func inputGradient(
        parts: [(dy: [BFloat16], weight: [BFloat16], outputs: Int)], rows: Int, inputs: Int, recipe: DotRecipe,
        arithmetic: Arithmetic = .soft
    ) -> [Float] {
        compositeProduct(
            parts.map { CompositeRow(a: $0.dy, b: transposed($0.weight, inputs, $0.outputs), depth: $0.outputs) },
            m: rows, n: inputs, recipe: recipe, arithmetic: arithmetic)
    }

    /// dW [in, out] = composite chain of x[t, a] dy[t, b] over t = (b, i): one innermost row a sequence, pairs on i (D4).
    public static func weightGradient(
        x: [BFloat16], dy: [BFloat16], batch: Int, tokens: Int, inputs: Int, outputs: Int, recipe: DotRecipe,
        arithmetic: Arithmetic = .soft
    ) -> [Float] {
        precondition(x.count == batch * tokens * inputs && dy.count == batch * tokens * outputs)
        var sequences: [CompositeRow] = []
        for b in 0..<batch {
            let xs = Array(x[b * tokens * inputs..<(b + 1) * tokens * inputs])
            let dys = Array(dy[b * tokens * outputs..<(b + 1) * tokens * outputs])
            sequences.append(CompositeRow(a: transposed(xs, tokens, inputs), b: dys, depth: tokens))
        }
        return compositeProduct(sequences, m: inputs, n: outputs, recipe: recipe, arithmetic: arithmetic)
    }

    // MARK: - Composite products

    /// One innermost row of a composite sum (D4), for all outputs at once: a [M, depth] times b [depth, N].
    private struct CompositeRow: Sendable {
        let a: [BFloat16]
        let b: [BFloat16]
        let depth: Int
    }

    /// [M, N]: every element one chain over the rows in ascending order (D4).
    private static func compositeProduct(
        _ rows: [CompositeRow], m: Int, n: Int, recipe: DotRecipe, arithmetic: Arithmetic
    ) -> [Float] {
        for row in rows { precondition(row.a.count == m * row.depth && row.b.count == row.depth * n) }
        if arithmetic == .hardware { return hardwareProduct(rows, m: m, n: n, recipe: recipe) }
        return Workers.map(m * n) { element in
            let (i, j) = element.quotientAndRemainder(dividingBy: n)
            var sum = DotAccumulator(recipe: recipe)
            for row in rows {
                sum.addRow(count: row.depth) { k in (row.a[i * row.depth + k], row.b[k * n + j]) }
            }
            return sum.finished()  // D3
        }
    }

    /// The same with the loop over outputs innermost, so that the processor overlaps the steps of independent sums.
    private static func hardwareProduct(_ rows: [CompositeRow], m: Int, n: Int, recipe: DotRecipe) -> [Float] {
        let flushes = recipe == .pairedFTZ
        func widened(_ x: [BFloat16]) -> [Float] {
            x.map { value in
                // D1: a subnormal factor is read as a zero of its sign.
                let isFlushed = flushes && value.bitPattern & 0x7F80 == 0
                return Float(bitPattern: UInt32(isFlushed ? value.bitPattern & 0x8000 : value.bitPattern) << 16)
            }
        }
        let parts = rows.map { (a: widened($0.a), b: widened($0.b), depth: $0.depth) }
        return Workers.map(m) { i in
            var result = [Float](repeating: 0, count: n)
            result.withUnsafeMutableBufferPointer { sums in
                for part in parts {
                    part.b.withUnsafeBufferPointer { b in
                        for step in 0..<part.depth {
                            let k = order(step, part.depth, recipe)
                            let x = part.a[i * part.depth + k]
                            if flushes {
                                for j in 0..<n {
                                    sums[j] = HardwareFloat32.fusedMultiplyAddOfFlushed(x, b[k * n + j], sums[j])  // D1
                                }
                            } else {
                                for j in 0..<n {
                                    sums[j] = HardwareFloat32.fusedMultiplyAdd(x, b[k * n + j], sums[j])  // D2
                                }
                            }
                        }
                    }
                }
                // D3, F2. The padding of an odd row, F(0, 0, acc), changes at most the sign of a zero, which ends here.
                for j in sums.indices { sums[j] = SoftFloat32.add(sums[j], 0) }
            }
            return result
        }.flatMap { $0 }
    }

    /// Which k comes at a step: pairs with the odd one first (D1), or ascending (D2).
    private static func order(_ step: Int, _ depth: Int, _ recipe: DotRecipe) -> Int {
        switch recipe {
        case .pairedFTZ: step ^ 1 < depth ? step ^ 1 : step
        case .chainIEEE: step
        }
    }

    /// [columns, rows] of a matrix [rows, columns]: nothing is computed.
    private static func transposed(_ x: [BFloat16], _ rows: Int, _ columns: Int) -> [BFloat16] {
        precondition(x.count == rows * columns)
        var result: [BFloat16] = []
        result.reserveCapacity(x.count)
        for column in 0..<columns {
            for row in 0..<rows { result.append(x[row * columns + column]) }
        }
        return result
    }
}
