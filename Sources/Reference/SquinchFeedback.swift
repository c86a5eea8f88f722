import ExactMath
import ModelSpec

extension Squinch {
    /// What one step of error feedback gives (S7).
    public struct Feedback: Sendable, Hashable {
        /// encode(y): [ceil(n/8) * 6] bytes.
        public let blocks: [UInt8]
        /// d = decode(blocks): [n].
        public let decoded: [Float]
        /// e' = RNE32(y - d): [n], what the next step adds to its gradient.
        public let residual: [Float]
    }

    /// Error feedback (S7): y = RNE32(x + e), d = decode(encode(y)), e' = RNE32(y - d); all [n] fp32.
    ///
    /// d + e' = y exactly in blocks with m <= M for `floor16` codes from 2 on, for `round15` codes other than 1, and for
    /// `stochastic15` codes 0 and from 4 on: there y/2 <= d <= 2y, or d = 0 (Sterbenz). Elsewhere e' is rounded once. e'
    /// is always finite. In a block that is clipped below, d = +0 and e' = y.
    /// - Throws: ``SquinchError/nonfiniteSum(index:x:e:rank:)`` for the first y that is not finite, under every policy (a
    ///   residual of infinity would never go away), ``SquinchError/valueCount(name:_:expected:)``.
    public static func feedback(
        _ x: [Float], _ e: [Float], variant: SquinchVariant, random: [UInt32] = []
    ) throws(SquinchError) -> Feedback {
        var report = Report()
        return try feedback(x, e, variant: variant, random: random, report: &report)
    }

    /// As ``feedback(_:_:variant:random:)``, adding to a report of the encoded blocks (S9).
    public static func feedback(
        _ x: [Float], _ e: [Float], variant: SquinchVariant, random: [UInt32] = [], report: inout Report
    ) throws(SquinchError) -> Feedback {
        if e.count != x.count { throw .valueCount(name: "e", e.count, expected: x.count) }
        // S7: y = RNE32(x + e).
        var y: [Float] = []
        for index in 0..<x.count {
            y.append(SoftFloat32.add(x[index], e[index]))
            if !SoftFloat32.isFinite(y[index]) {
                throw .nonfiniteSum(index: index, x: x[index].bitPattern, e: e[index].bitPattern, rank: nil)
            }
        }
        // S7: d = decode(encode(y)).
        let blocks = try encode(y, variant: variant, random: random, report: &report)
        let decoded = try decode(blocks, variant: variant, count: y.count)
        // S7: e' = RNE32(y - d).
        var residual: [Float] = []
        for index in 0..<y.count { residual.append(SoftFloat32.subtract(y[index], decoded[index])) }
        return Feedback(blocks: blocks, decoded: decoded, residual: residual)
    }
}
