import BFloat16
import ExactMath
import ModelSpec
import Platform

/// Attention under a visibility mask with the z-regulariser injected into its gradient (clauses Z1 to Z3, V4, T3).
///
/// query [B, H, Q, D], key and value [B, G, T, D], bf16 in C order; query head h uses key/value head h div (H / G). Keys that a row
/// does not see are skipped: what lies there, a NaN too, has no effect. NaN and infinities that are seen follow fp32 arithmetic.
public enum Attention {
    /// B, H, G, Q, T and D.
    public struct Shape: Sendable, Hashable {
        public var batch: Int
        public var heads: Int
        public var keyValueHeads: Int
        public var queries: Int
        public var keys: Int
        public var headDimension: Int

        public init(batch: Int, heads: Int, keyValueHeads: Int, queries: Int, keys: Int, headDimension: Int) {
            self.batch = batch
            self.heads = heads
            self.keyValueHeads = keyValueHeads
            self.queries = queries
            self.keys = keys
            self.headDimension = headDimension
        }

        /// The key/value head of a query head.
        func group(of head: Int) -> Int { head / (heads / keyValueHeads) }
        /// Where row (b, h, i) begins among rows of [B, H, Q].
        func row(_ b: Int, _ h: Int, _ i: Int) -> Int { (b * heads + h) * queries + i }
        /// b, h and i of a row of [B, H, Q].
        func position(ofRow row: Int) -> (b: Int, h: Int, i: Int) {
            (row / queries / heads, row / queries % heads, row % queries)
        }
        /// Where key (b, g, j) begins among rows of [B, G, T].
        func key(_ b: Int, _ g: Int, _ j: Int) -> Int { (b * keyValueHeads + g) * keys + j }
    }

    /// What the forward pass gives.
    public struct Forward: Sendable {
        /// o, bf16 [B, H, Q, D].
        public let output: [BFloat16]
        /// fp32 [B, H, Q]; +0 in rows that see nothing (V4).
        public let maximum: [Float]
        /// fp32 [B, H, Q].
        public let sum: [Float]
        /// Z, fp32 [B, H, Q].
        public let z: [Float]
        /// The largest |s| over all visible pairs, NaN if one is NaN, +0 if there are none: for reports alone (Z5).
        public let largestLogit: Float

        public init(output: [BFloat16], maximum: [Float], sum: [Float], z: [Float], largestLogit: Float) {
            self.output = output
            self.maximum = maximum
            self.sum = sum
            self.z = z
            self.largestLogit = largestLogit
        }
    }

    /// What the backward pass gives, in the shapes of the inputs.
    public struct Gradients: Sendable {
        public let query: [BFloat16]
        public let key: [BFloat16]
        public let value: [BFloat16]
    }

    /// Sizes that do not fit one another.
    public enum ShapeError: Error, Hashable, Sendable, CustomStringConvertible {
        /// H is no multiple of G, or a size is not positive where it must be.
        case heads(Int, keyValueHeads: Int)
        case count(name: String, Int, expected: Int)
        case visibility(String)

        public var description: String {
            switch self {
            case .heads(let heads, let keyValueHeads):
                "\(heads) heads over \(keyValueHeads) key/value heads; expected a multiple, and at least 1"
            case .count(let name, let count, let expected): "\(name) has \(count) elements, expected \(expected)"
            case .visibility(let message): message
            }
        }
    }

    // MARK: - Forward

    /// Z1: s_j = fl(scale * dot(q, k_j)); P and Z by ``LogSumExp``; o = bf16(dot(bf16(P), v)) over absolute j. V4: a row that sees
    /// nothing has o = +0.
    ///
    /// - Throws: ``ShapeError``.
    public static func forward(
        query: [BFloat16], key: [BFloat16], value: [BFloat16], shape: Shape, visibility: Visibility, scale: Float,
        recipe: DotRecipe, arithmetic: Arithmetic = .soft
    ) throws(ShapeError) -> Forward {
        try check(shape, visibility, [("q", query, .query), ("k", key, .key), ("v", value, .key)])
        let (queries, keys, dimension) = (shape.queries, shape.keys, shape.headDimension)
        let results = Workers.map(shape.batch * shape.heads * queries) { row in
            var result = ForwardRow(output: [BFloat16](repeating: BFloat16(bitPattern: 0), count: dimension))
            let (b, h, i) = shape.position(ofRow: row)
            let isVisible = (0..<keys).map { visibility.isVisible(batch: b, query: i, key: $0) }
            guard isVisible.contains(true) else { return result }  // V4
            let s = logits(row, b, h, query, key, shape, isVisible, scale, recipe, arithmetic)
            for j in 0..<keys where isVisible[j] { result.note(logit: s[j].magnitude) }
            result.statistic = LogSumExp.row(count: keys, isVisible: { isVisible[$0] }, logit: { s[$0] })
            let p = probabilities(s, result.statistic, isVisible)
            for d in 0..<dimension {
                var sum = DotAccumulator(recipe: recipe, arithmetic: arithmetic)
                sum.addRow(count: keys, isVisible: { isVisible[$0] }) { j in
                    (p.rounded[j], value[shape.key(b, shape.group(of: h), j) * dimension + d])
                }
                result.output[d] = bf16(sum.finished())  // Z1
            }
            return result
        }
        var all = ForwardRow(output: [])
        for result in results { all.note(logit: result.largestLogit) }
        return Forward(
            output: results.flatMap(\.output), maximum: results.map(\.statistic.maximum),
            sum: results.map(\.statistic.sum), z: results.map(\.statistic.z), largestLogit: all.largestLogit)
    }

    /// What one row of queries gives; as it begins, a row that sees nothing (V4).
    private struct ForwardRow: Sendable {
        var output: [BFloat16]
        var statistic = LogSumExp.Row(maximum: 0, sum: 0, z: 0)
        var largestLogit: Float = 0

        /// The largest of all magnitudes; NaN once one is.
        mutating func note(logit magnitude: Float) {
            if !(magnitude <= largestLogit) && !largestLogit.isNaN { largestLogit = magnitude }
        }
    }

    // MARK: - Backward

    /// Z2: dq, dk and dv from do [B, H, Q, D]; P again from the stored max and sum (T3).
    ///
    /// - Parameters:
    ///   - forward: of the same inputs.
    ///   - zregC: c of the virtual term c Z^2; 0 of either sign leaves it out (Z3).
    /// - Throws: ``ShapeError``.
    public static func backward(
        query: [BFloat16], key: [BFloat16], value: [BFloat16], outputGradient: [BFloat16], forward: Forward,
        shape: Shape, visibility: Visibility, scale: Float, recipe: DotRecipe, zregC: Float, form: ZRegForm,
        arithmetic: Arithmetic = .soft
    ) throws(ShapeError) -> Gradients {
        try check(
            shape, visibility,
            [("q", query, .query), ("k", key, .key), ("v", value, .key), ("do", outputGradient, .query)])
        let (queries, keys, dimension) = (shape.queries, shape.keys, shape.headDimension)
        let zero = BFloat16(bitPattern: 0)
        var dq = [BFloat16](repeating: zero, count: query.count)
        var dk = [BFloat16](repeating: zero, count: key.count)
        var dv = [BFloat16](repeating: zero, count: value.count)
        let group = shape.heads / shape.keyValueHeads
        for b in 0..<shape.batch {
            var isVisible: [[Bool]] = []
            for i in 0..<queries {
                isVisible.append((0..<keys).map { visibility.isVisible(batch: b, query: i, key: $0) })
            }
            for g in 0..<shape.keyValueHeads {
                // bf16(P) and bf16(dS) [T], and dq [D], of the group's rows [H/G, Q]; nil where a row sees nothing.
                let first = shape.row(b, g * group, 0)
                let rows = Workers.map(group * queries) { [isVisible] index -> BackwardRow? in
                    let (head, i) = index.quotientAndRemainder(dividingBy: queries)
                    guard isVisible[i].contains(true) else { return nil }
                    let gradient = rowGradient(
                        first + index, b, g * group + head, query, key, value, outputGradient, forward, shape,
                        isVisible[i], scale, recipe, zregC, form, arithmetic)
                    let dq = (0..<dimension).map { d in
                        var sum = DotAccumulator(recipe: recipe, arithmetic: arithmetic)
                        sum.addRow(count: keys, isVisible: { isVisible[i][$0] }) { j in
                            (gradient.ds[j], key[shape.key(b, g, j) * dimension + d])
                        }
                        return bf16(SoftFloat32.multiply(scale, sum.finished()))  // Z2
                    }
                    return BackwardRow(p: gradient.p, ds: gradient.ds, dq: dq)
                }
                for (index, row) in rows.enumerated() {
                    guard let row else { continue }
                    for d in 0..<dimension { dq[(first + index) * dimension + d] = row.dq[d] }
                }
                let columns = Workers.map(keys * dimension) { [isVisible] index in
                    let (j, d) = index.quotientAndRemainder(dividingBy: dimension)
                    // Z2, D4: one chain over (head of the group, query); pairs on the stored query index.
                    var keySum = DotAccumulator(recipe: recipe, arithmetic: arithmetic)
                    var valueSum = DotAccumulator(recipe: recipe, arithmetic: arithmetic)
                    for head in 0..<group {
                        keySum.addRow(count: queries, isVisible: { isVisible[$0][j] }) { i in
                            let row = head * queries + i
                            return (rows[row]!.ds[j], query[(first + row) * dimension + d])
                        }
                        valueSum.addRow(count: queries, isVisible: { isVisible[$0][j] }) { i in
                            let row = head * queries + i
                            return (rows[row]!.p[j], outputGradient[(first + row) * dimension + d])
                        }
                    }
                    let dk = bf16(SoftFloat32.multiply(scale, keySum.finished()))  // Z2
                    return (dk: dk, dv: bf16(valueSum.finished()))  // Z2
                }
                for (index, column) in columns.enumerated() {
                    let element = shape.key(b, g, 0) * dimension + index
                    (dk[element], dv[element]) = column
                }
            }
        }
        return Gradients(query: dq, key: dk, value: dv)
    }

    /// What one row of queries gives the backward pass.
    private struct BackwardRow: Sendable {
        let p: [BFloat16]
        let ds: [BFloat16]
        let dq: [BFloat16]
    }

    /// bf16(P) and bf16(dS) of one row, [T]; +0 where nothing is seen.
    private static func rowGradient(
        _ row: Int, _ b: Int, _ h: Int, _ query: [BFloat16], _ key: [BFloat16], _ value: [BFloat16],
        _ outputGradient: [BFloat16], _ forward: Forward, _ shape: Shape, _ isVisible: [Bool], _ scale: Float,
        _ recipe: DotRecipe, _ zregC: Float, _ form: ZRegForm, _ arithmetic: Arithmetic
    ) -> (p: [BFloat16], ds: [BFloat16]) {
        let dimension = shape.headDimension
        let s = logits(row, b, h, query, key, shape, isVisible, scale, recipe, arithmetic)
        let statistic = LogSumExp.Row(
            maximum: forward.maximum[row], sum: forward.sum[row], z: forward.z[row])
        let p = probabilities(s, statistic, isVisible)
        var dp = [Float](repeating: 0, count: shape.keys)
        for j in 0..<shape.keys where isVisible[j] {
            let v = shape.key(b, shape.group(of: h), j)
            var sum = DotAccumulator(recipe: recipe, arithmetic: arithmetic)
            sum.addRow(count: dimension) { d in (outputGradient[row * dimension + d], value[v * dimension + d]) }
            dp[j] = sum.finished()  // Z2
        }
        let weighted: Float
        switch form {
        case .folded, .unfolded: weighted = ZReg.weightedSum(p.exact, dp, isVisible)
        case .rowDot:
            weighted = Reductions.lane16(
                count: dimension,
                factors: { d in
                    (widened(outputGradient[row * dimension + d]), widened(forward.output[row * dimension + d]))
                })  // Z2
        }
        var ds = [BFloat16](repeating: BFloat16(bitPattern: 0), count: shape.keys)
        for j in 0..<shape.keys where isVisible[j] {
            ds[j] = bf16(
                ZReg.gradient(p: p.exact[j], dp: dp[j], weighted: weighted, z: statistic.z, c: zregC, form: form))
        }
        return (p.rounded, ds)
    }

    // MARK: - Pieces

    /// s_j = fl(scale * dot(q_i, k_j)) of the visible keys, [T]; +0 elsewhere.
    private static func logits(
        _ row: Int, _ b: Int, _ h: Int, _ query: [BFloat16], _ key: [BFloat16], _ shape: Shape, _ isVisible: [Bool],
        _ scale: Float, _ recipe: DotRecipe, _ arithmetic: Arithmetic
    ) -> [Float] {
        let dimension = shape.headDimension
        var s = [Float](repeating: 0, count: shape.keys)
        for j in 0..<shape.keys where isVisible[j] {
            let k = shape.key(b, shape.group(of: h), j)
            var sum = DotAccumulator(recipe: recipe, arithmetic: arithmetic)
            sum.addRow(count: dimension) { d in (query[row * dimension + d], key[k * dimension + d]) }
            s[j] = SoftFloat32.multiply(scale, sum.finished())  // Z1
        }
        return s
    }

    /// P and bf16(P), [T]; +0 where nothing is seen.
    private static func probabilities(
        _ s: [Float], _ statistic: LogSumExp.Row, _ isVisible: [Bool]
    ) -> (exact: [Float], rounded: [BFloat16]) {
        var p = [Float](repeating: 0, count: s.count)
        for j in s.indices where isVisible[j] { p[j] = statistic.probability(s[j]) }  // Z1, T3
        return (p, bf16(p))
    }

    private enum Kind { case query, key }

    private static func check(
        _ shape: Shape, _ visibility: Visibility, _ tensors: [(name: String, tensor: [BFloat16], kind: Kind)]
    ) throws(ShapeError) {
        guard shape.keyValueHeads >= 1, shape.heads >= 1, shape.heads % shape.keyValueHeads == 0 else {
            throw .heads(shape.heads, keyValueHeads: shape.keyValueHeads)
        }
        for (name, tensor, kind) in tensors {
            let rows = kind == .query ? shape.heads * shape.queries : shape.keyValueHeads * shape.keys
            let expected = shape.batch * rows * shape.headDimension
            guard tensor.count == expected else { throw .count(name: name, tensor.count, expected: expected) }
        }
        let sizes = (visibility.batch, visibility.queries, visibility.keys)
        guard sizes == (shape.batch, shape.queries, shape.keys) else {
            throw .visibility(
                "the mask is of batch \(sizes.0), \(sizes.1) queries and \(sizes.2) keys, expected \(shape.batch), \(shape.queries) and \(shape.keys)"
            )
        }
    }
}
