import BFloat16
import ExactMath
import ModelSpec
import Platform

/// The exact results beside attention, and the scale of their errors (Q1, Q2): every formula of Z1 and Z2 on real numbers, the
/// inputs taken as they are, in ``ExactMath/DoubleDouble`` arithmetic, rounded once to fp64.
///
/// A magnitude below 2^-80 of its bound is the rounding of an exact zero and stored as +0. Rows that see nothing are +0 with bound 0. A logit
/// of -infinity has P = 0; with a NaN or +infinity among a row's logits, or with -infinity alone, all that follows is NaN. An output whose values are not finite is the sum's infinity or
/// NaN, with a bound of +infinity or NaN; a gradient whose factors are not finite is NaN.
public struct ExactAttention: Sendable {
    /// truth and bounds of one tensor.
    public struct Pair: Sendable {
        public var truth: [Double] = []
        public var bounds: [Double] = []

        mutating func append(_ value: DoubleDouble, bound: DoubleDouble) {
            truth.append(Self.rounded(value, bound))
            bounds.append(value.high.isFinite && bound.high.isFinite ? bound.high : .nan)
        }

        /// A sum with terms that are not finite.
        mutating func append(nonfinite sum: Double) {
            truth.append(sum)
            bounds.append(sum.isNaN ? .nan : .infinity)
        }

        mutating func append(contentsOf other: Pair) {
            truth += other.truth
            bounds += other.bounds
        }

        /// RNE64, zero where only rounding errors are left.
        static func rounded(_ value: DoubleDouble, _ bound: DoubleDouble) -> Double {
            guard value.high.isFinite, bound.high.isFinite else { return .nan }
            return value.high.magnitude < bound.high * 0x1p-80 ? 0 : value.high + 0
        }
    }

    let query: [BFloat16]
    let key: [BFloat16]
    let value: [BFloat16]
    let shape: Attention.Shape
    let visibility: Visibility
    let scale: DoubleDouble

    /// Inputs as ``Attention/forward(query:key:value:shape:visibility:scale:recipe:arithmetic:)`` takes and has checked them.
    public init(
        query: [BFloat16], key: [BFloat16], value: [BFloat16], shape: Attention.Shape, visibility: Visibility,
        scale: Float
    ) {
        self.query = query
        self.key = key
        self.value = value
        self.shape = shape
        self.visibility = visibility
        self.scale = DoubleDouble(scale)
    }

    /// A row's logits and softmax over the keys that it sees.
    private struct Row {
        var isVisible: [Bool]
        var p: [DoubleDouble]
        var maximum: DoubleDouble
        var z: DoubleDouble
    }

    private func number(_ x: BFloat16) -> DoubleDouble { DoubleDouble(widened(x)) }

    private func softmax(_ b: Int, _ h: Int, _ i: Int) -> Row? {
        let isVisible = (0..<shape.keys).map { visibility.isVisible(batch: b, query: i, key: $0) }
        guard isVisible.contains(true) else { return nil }
        let row = shape.row(b, h, i)
        var s = [DoubleDouble](repeating: .zero, count: shape.keys)
        for j in 0..<shape.keys where isVisible[j] {
            let k = shape.key(b, shape.group(of: h), j)
            var sum = DoubleDouble.zero
            // What infinities make of it.
            var plain = 0.0
            for d in 0..<shape.headDimension {
                let (x, y) = (number(query[row * shape.headDimension + d]), number(key[k * shape.headDimension + d]))
                sum += x * y
                plain += x.high * y.high
            }
            s[j] = plain.isFinite ? scale * sum : DoubleDouble(scale.high * plain)
        }
        let (p, maximum, z) = ExactAttention.softmax(s, isVisible)
        return Row(isVisible: isVisible, p: p, maximum: maximum, z: z)
    }

    /// P, max and Z of the visible logits.
    static func softmax(
        _ s: [DoubleDouble], _ isVisible: [Bool]
    ) -> (p: [DoubleDouble], maximum: DoubleDouble, z: DoubleDouble) {
        var maximum = DoubleDouble(-Double.infinity)
        var isUndefined = false
        for j in s.indices where isVisible[j] {
            if maximum < s[j] { maximum = s[j] }
            if s[j].high.isNaN { isUndefined = true }
        }
        if isUndefined || maximum.high.isInfinite { maximum = DoubleDouble(Double.nan) }
        var p = s
        var sum = DoubleDouble.zero
        for j in s.indices {
            let takesPart = isVisible[j] && (s[j].high != -.infinity || maximum.high.isNaN)
            p[j] = takesPart ? DoubleDouble.exp(s[j] - maximum) : .zero
            sum += p[j]
        }
        for j in s.indices { p[j] = p[j] / sum }
        return (p, maximum, maximum + DoubleDouble.log(sum))
    }

    // MARK: - Forward

    /// o with bounds sum_j P |v|, and z with bounds |max| + 1.
    public func forward() -> (output: Pair, z: Pair) {
        let rows = Workers.map(shape.batch * shape.heads * shape.queries) { index in
            let (b, h, i) = shape.position(ofRow: index)
            var (output, z) = (Pair(), Pair())
            guard let row = softmax(b, h, i) else {
                for _ in 0..<shape.headDimension { output.append(.zero, bound: .zero) }
                z.append(.zero, bound: .zero)
                return (output: output, z: z)
            }
            z.append(row.z, bound: row.maximum.magnitude + DoubleDouble(1.0))
            for d in 0..<shape.headDimension {
                var (sum, bound) = (DoubleDouble.zero, DoubleDouble.zero)
                var plain = 0.0
                for j in 0..<shape.keys where row.isVisible[j] {
                    let v = number(value[shape.key(b, shape.group(of: h), j) * shape.headDimension + d])
                    sum += row.p[j] * v
                    bound += row.p[j] * v.magnitude
                    plain += row.p[j].high * v.high
                }
                if plain.isFinite { output.append(sum, bound: bound) } else { output.append(nonfinite: plain) }
            }
            return (output: output, z: z)
        }
        var (output, z) = (Pair(), Pair())
        for row in rows {
            output.append(contentsOf: row.output)
            z.append(contentsOf: row.z)
        }
        return (output, z)
    }

    // MARK: - Backward

    /// dq, dk and dv; the bound of ds_j is P_j (|dP_j| + sum P |dP| + |dZ|), that of a product the product of magnitudes.
    public func backward(outputGradient: [BFloat16], zregC: Float) -> (query: Pair, key: Pair, value: Pair) {
        // What every head of keys and values gets comes from the rows of its own query heads alone.
        let groups = Workers.map(shape.batch * shape.keyValueHeads) { index in
            let (b, g) = index.quotientAndRemainder(dividingBy: shape.keyValueHeads)
            return group(b, g, outputGradient, zregC)
        }
        var (query, key, value) = (Pair(), Pair(), Pair())
        for group in groups {
            query.append(contentsOf: group.query)
            key.append(contentsOf: group.key)
            value.append(contentsOf: group.value)
        }
        return (query, key, value)
    }

    /// dq of the query heads of one key/value head, dk and dv of that.
    private func group(
        _ b: Int, _ g: Int, _ outputGradient: [BFloat16], _ zregC: Float
    ) -> (query: Pair, key: Pair, value: Pair) {
        let dimension = shape.headDimension
        let twiceC = DoubleDouble(zregC) * DoubleDouble(2.0)
        var query = Pair()
        let first = shape.key(b, g, 0) * dimension
        var dk = [(sum: DoubleDouble, bound: DoubleDouble)](
            repeating: (.zero, .zero), count: shape.keys * dimension)
        var dv = dk
        for h in 0..<shape.heads where shape.group(of: h) == g {
            for i in 0..<shape.queries {
                let r = shape.row(b, h, i)
                guard let row = softmax(b, h, i) else {
                    for _ in 0..<dimension { query.append(.zero, bound: .zero) }
                    continue
                }
                var dp = [DoubleDouble](repeating: .zero, count: shape.keys)
                for j in 0..<shape.keys where row.isVisible[j] {
                    for d in 0..<dimension {
                        dp[j] +=
                            number(outputGradient[r * dimension + d])
                            * number(self.value[first + j * dimension + d])
                    }
                }
                let gradient = ExactAttention.gradient(row.p, dp, dz: twiceC * row.z, row.isVisible)
                for d in 0..<dimension {
                    var (sum, bound) = (DoubleDouble.zero, DoubleDouble.zero)
                    for j in 0..<shape.keys where row.isVisible[j] {
                        let element = j * dimension + d
                        let k = number(self.key[first + element])
                        sum += gradient.ds[j] * k
                        bound += gradient.bounds[j] * k.magnitude
                        let q = number(self.query[r * dimension + d])
                        dk[element].sum += gradient.ds[j] * q
                        dk[element].bound += gradient.bounds[j] * q.magnitude
                        let slope = number(outputGradient[r * dimension + d])
                        dv[element].sum += row.p[j] * slope
                        dv[element].bound += row.p[j] * slope.magnitude
                    }
                    query.append(scale * sum, bound: scale.magnitude * bound)
                }
            }
        }
        var (key, value) = (Pair(), Pair())
        for element in dk.indices {
            key.append(scale * dk[element].sum, bound: scale.magnitude * dk[element].bound)
            value.append(dv[element].sum, bound: dv[element].bound)
        }
        return (query, key, value)
    }

    /// dS_j = P_j (dP_j - sum P dP + dZ) and its bound, of visible j; both forms of Z2 are this in real numbers.
    ///
    /// The P of a row add up to 1, so that dP may be counted from its value at the largest P: the difference dP_j - sum P dP of that key, tiny
    /// where its P is nearly 1, is then a sum of tiny terms and not the difference of two large numbers.
    static func gradient(
        _ p: [DoubleDouble], _ dp: [DoubleDouble], dz: DoubleDouble, _ isVisible: [Bool]
    ) -> (ds: [DoubleDouble], bounds: [DoubleDouble]) {
        var origin = DoubleDouble.zero
        var largest = DoubleDouble(-1.0)
        for j in p.indices where isVisible[j] && largest < p[j] { (largest, origin) = (p[j], dp[j]) }
        var (weighted, magnitude) = (DoubleDouble.zero, DoubleDouble.zero)
        for j in p.indices where isVisible[j] {
            weighted += p[j] * (dp[j] - origin)
            magnitude += p[j] * dp[j].magnitude
        }
        var (ds, bounds) = (p, p)
        for j in p.indices where isVisible[j] {
            ds[j] = p[j] * (dp[j] - origin - weighted + dz)
            bounds[j] = p[j] * (dp[j].magnitude + magnitude + dz.magnitude)
        }
        return (ds, bounds)
    }

    // MARK: - Rows

    /// z, p and ds of rows of logits, every column visible: bounds |max| + 1, P, and as for ds above.
    public static func rows(
        _ s: [Float], dp: [Float], rows n: Int, columns m: Int, zregC: Float
    ) -> (z: Pair, p: Pair, ds: Pair) {
        var (z, p, ds) = (Pair(), Pair(), Pair())
        let isVisible = [Bool](repeating: true, count: m)
        for row in 0..<n {
            if m == 0 {
                z.append(.zero, bound: .zero)
                continue
            }
            let range = row * m..<(row + 1) * m
            let exact = softmax(s[range].map { DoubleDouble($0) }, isVisible)
            z.append(exact.z, bound: exact.maximum.magnitude + DoubleDouble(1.0))
            let dz = DoubleDouble(zregC) * DoubleDouble(2.0) * exact.z
            let gradient = gradient(exact.p, dp[range].map { DoubleDouble($0) }, dz: dz, isVisible)
            for j in 0..<m {
                p.append(exact.p[j], bound: exact.p[j])
                ds.append(gradient.ds[j], bound: gradient.bounds[j])
            }
        }
        return (z, p, ds)
    }
}

/// The exact results beside the cross-entropies (Q1, Q2); conventions as for ``ExactAttention``.
public enum ExactCrossEntropy {
    /// The mean loss and dlogits of hard targets as soft ones of weight 1: each row's list of (token, weight), empty for none.
    ///
    /// Bounds: the mean of sum |w| (|max| + 1 + |s|), and (sum |w| P_j + the weights at j + |dZ| P_j) / count.
    public static func losses(
        logits: [Float], targets: [[(token: Int, weight: Float)]], vocabulary: Int, zregC: Float
    ) -> (loss: ExactAttention.Pair, gradient: ExactAttention.Pair) {
        let isVisible = [Bool](repeating: true, count: vocabulary)
        let count = targets.count { !$0.isEmpty }
        // Divided, not multiplied by a reciprocal: a quotient that is exact stays so.
        let rows = DoubleDouble(Double(max(1, count)))
        var (loss, lossBound) = (DoubleDouble.zero, DoubleDouble.zero)
        var gradient = ExactAttention.Pair()
        for (row, pairs) in targets.enumerated() {
            guard !pairs.isEmpty else {
                for _ in 0..<vocabulary { gradient.append(.zero, bound: .zero) }
                continue
            }
            let s = logits[row * vocabulary..<(row + 1) * vocabulary].map { DoubleDouble($0) }
            let exact = ExactAttention.softmax(s, isVisible)
            let dz =
                zregC == 0 ? DoubleDouble.zero : DoubleDouble(zregC) * DoubleDouble(2.0) * exact.z
            var (total, magnitude) = (DoubleDouble.zero, DoubleDouble.zero)
            var at = [DoubleDouble](repeating: .zero, count: vocabulary)
            var atMagnitude = at
            for (token, weight) in pairs {
                let w = DoubleDouble(weight)
                total += w
                magnitude += w.magnitude
                at[token] += w
                atMagnitude[token] += w.magnitude
                loss += w * (exact.z - s[token])
                lossBound += w.magnitude * (exact.maximum.magnitude + DoubleDouble(1.0) + s[token].magnitude)
            }
            for j in 0..<vocabulary {
                let d = total * exact.p[j] - at[j] + dz * exact.p[j]
                let bound = magnitude * exact.p[j] + atMagnitude[j] + dz.magnitude * exact.p[j]
                gradient.append(d / rows, bound: bound / rows)
            }
        }
        var pair = ExactAttention.Pair()
        pair.append(loss / rows, bound: lossBound / rows)
        return (pair, gradient)
    }
}
