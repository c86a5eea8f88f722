import BFloat16
import ExactMath
import ModelSpec
import Platform

/// d = a b + c for matrices in C order: a bf16 [M, K], b bf16 [K, N], c fp32 [M, N] or absent, d fp32 [M, N].
public enum MatrixMultiply {
    /// M, K and N; any of them may be 0.
    public struct Shape: Sendable, Equatable {
        /// Rows of a, c and d.
        public var m: Int
        /// Columns of a and rows of b: the index that is summed over.
        public var k: Int
        /// Columns of b, c and d.
        public var n: Int

        public init(m: Int, k: Int, n: Int) {
            self.m = m
            self.k = k
            self.n = n
        }
    }

    /// d[i, j] = the dot product over k of a[i, k] and b[k, j], from c[i, j] or from +0 (clauses D1 to D3).
    ///
    /// Edge cases: with K = 0, d = c + 0, where `paired-ftz` reads a subnormal c as zero; NaNs are canonical (F2); no
    /// element is -0. Arrays that do not have the shape are a programmer's error.
    public static func forward(
        a: [BFloat16], b: [BFloat16], c: [Float]? = nil, shape: Shape, recipe: DotRecipe
    ) -> [Float] {
        requireShape(a, b, c, shape)
        return Workers.map(shape.m * shape.n) { element in
            let (i, j) = element.quotientAndRemainder(dividingBy: shape.n)
            var sum = DotAccumulator(recipe: recipe, initial: c?[element] ?? 0)
            sum.addRow(count: shape.k) { k in (a[i * shape.k + k], b[k * shape.n + j]) }
            return sum.finished()  // D3
        }
    }

    /// `truth` and `bounds` of every element of d (Q1, Q2): RNE64 of the exact sum of a[i, k] b[k, j] and c[i, j], and of
    /// the exact sum of their magnitudes.
    ///
    /// The inputs count as given: subnormals are not flushed here, whatever the recipe. For NaN and infinity see
    /// ``TruthAndBounds``.
    public static func truthAndBounds(
        a: [BFloat16], b: [BFloat16], c: [Float]? = nil, shape: Shape
    ) -> (truth: [Double], bounds: [Double]) {
        requireShape(a, b, c, shape)
        let results = Workers.map(shape.m * shape.n) { element in
            let (i, j) = element.quotientAndRemainder(dividingBy: shape.n)
            var sum = TruthAndBounds()
            for k in 0..<shape.k {
                sum.addProduct(
                    SoftFloat32.convert(bfloat16Bits: a[i * shape.k + k].bitPattern),
                    SoftFloat32.convert(bfloat16Bits: b[k * shape.n + j].bitPattern))
            }
            if let c { sum.add(c[element]) }
            return (truth: sum.truth, bounds: sum.bounds)
        }
        return (results.map(\.truth), results.map(\.bounds))
    }

    private static func requireShape(_ a: [BFloat16], _ b: [BFloat16], _ c: [Float]?, _ shape: Shape) {
        precondition(a.count == shape.m * shape.k, "a has \(a.count) elements, not M * K of \(shape)")
        precondition(b.count == shape.k * shape.n, "b has \(b.count) elements, not K * N of \(shape)")
        precondition(
            c == nil || c?.count == shape.m * shape.n, "c has \(c?.count ?? 0) elements, not M * N of \(shape)")
    }
}
