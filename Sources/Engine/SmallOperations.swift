import Kernels
import ModelSpec

// Operations on whole arrays that a training step does not need in this form: what golden cases ask for.

extension Layers {
    /// d = a b + c (D1, D2), c flushed first under D1; fp32 [M, N].
    public func multiply(
        _ a: [UInt16], _ b: [UInt16], initial c: [Float]?, m: Int, k: Int, n: Int, recipe: DotRecipe,
        into d: MutableFP32
    ) {
        withUnsafePointers(a, b) { a, b in
            MatrixProduct(m: m, n: n, depth: { _ in k }).run(
                context, recipe,
                initial: c.map { c in
                    { row, column, sums, count in
                        for j in 0..<count {
                            let x = c[row * n + column + j]
                            sums[j] =
                                recipe.isPairedFTZ && x.isSubnormal
                                ? Float(sign: x.sign, exponent: 0, significand: 0) : x
                        }
                    }
                },
                part: { _ in
                    MatrixProduct.Part(
                        a: KernelSet.Operand(a, stride: k, depthStride: 1),
                        b: KernelSet.Operand(b, stride: 1, depthStride: n), depth: k)
                },
                finish: { row, column, sums, count, _ in
                    context.kernels.rows.finish(sums, d + (row * n + column), count)
                })
        }
    }

    /// Ascending (R3), of x, or of fma(x, y).
    public func chain(_ x: FP32, _ y: FP32?, _ n: Int) -> Float {
        var sum: Float = 0
        for i in 0..<n { sum = y.map { context.kernels.rows.fma(x[i], $0[i], sum) } ?? sum + x[i] }
        return canonical(sum + 0)
    }

    /// Z, P and dS of rows of logits and gradients [n, m], m >= 1 (Z2, Z4).
    public func zregRows(
        _ s: [Float], _ dp: [Float], _ n: Int, _ m: Int, _ c: Float, _ form: ZRegForm, z: inout [Float],
        p: inout [Float], ds: inout [Float]
    ) {
        let rows = context.kernels.rows
        for row in 0..<n {
            s.withUnsafeBufferPointer { s in
                dp.withUnsafeBufferPointer { dp in
                    p.withUnsafeMutableBufferPointer { p in
                        let at = row * m
                        let maximum = rows.maximum(s.baseAddress! + at, m)
                        let sum = canonical(
                            rows.softmaxExponentials(s.baseAddress! + at, maximum, p.baseAddress! + at, m))
                        rows.divide(p.baseAddress! + at, sum, p.baseAddress! + at, m)
                        z[row] = canonical(maximum + ScalarMath.log(sum))
                        let weighted = canonical(rows.sumOfProducts(p.baseAddress! + at, dp.baseAddress! + at, m))
                        let gradient = gradientForm(weighted, z[row], c, form)
                        for j in at..<at + m {
                            let plain = p[j] * (dp[j] - gradient.d)
                            ds[j] = canonical(gradient.dz.map { plain + $0 * p[j] } ?? plain)
                        }
                    }
                }
            }
        }
    }
}

/// The addresses of two arrays, any of them empty.
func withUnsafePointers<Element>(
    _ a: [Element], _ b: [Element], _ body: (UnsafePointer<Element>, UnsafePointer<Element>) -> Void
) {
    withUnsafeTemporaryAllocation(of: Element.self, capacity: 1) { spare in
        a.withUnsafeBufferPointer { a in
            b.withUnsafeBufferPointer { b in
                let none = UnsafePointer(spare.baseAddress!)
                body(a.baseAddress ?? none, b.baseAddress ?? none)
            }
        }
    }
}
