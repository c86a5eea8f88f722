import Cases
import Foundation

/// Bounds of outputs beside which the goldens have none, or only a loose one, computed from the inputs (Q5): `z`, `max` and `sum` of
/// attention.forward, `z` and `losses` of the losses. fp64 arithmetic, whose own errors are 2^-29 of the tolerances.
enum DerivedBounds {
    static func has(_ op: String, _ output: String) -> Bool {
        switch op {
        case "attention.forward": ["z", "max", "sum"].contains(output)
        case "layer.crossEntropy", "layer.sparseCrossEntropy": ["z", "losses"].contains(output)
        default: false
        }
    }

    /// The exact result and the tolerance of every element, the output's own rounding excepted. Rows whose golden value is not finite have that value
    /// and tolerance 0.
    /// - Returns: nil where the case lacks what it takes.
    static func make(_ one: CaseView, _ output: String) throws -> OutputBound? {
        guard let golden = one[.outputs, output] else { return nil }
        let values = try golden.doubles(0..<golden.count)
        let found: [(truth: Double, tolerance: Double)]?
        if one.op == "attention.forward" {
            found = try attention(one, output)
        } else {
            found = try losses(one, output)
        }
        guard let found, found.count == values.count else { return nil }
        var (truths, tolerances): ([Double], [Double]) = ([], [])
        for (value, element) in zip(values, found) {
            let isUsable = value.isFinite && element.truth.isFinite && element.tolerance.isFinite
            truths.append(isUsable ? element.truth : value)
            tolerances.append(isUsable ? element.tolerance : 0)
        }
        return OutputBound(
            truth: Tensor(truths, shape: golden.shape), bounds: Tensor(tolerances, shape: golden.shape), factor: 1)
    }

    /// 2^-24.
    private static let unit = power(-24)

    /// A row of softmax: logits and what each may err by.
    private struct Row {
        var maximum = 0.0
        var maximumTolerance = 0.0
        var sum = 0.0
        var sumTolerance = 0.0
        var z = 0.0
        var zTolerance = 0.0

        init() {}

        /// Q5. `errors`: of the logits. Every exp may err by 4 units, its argument by 4 units of the logit and of the maximum.
        init(_ s: [Double], _ errors: [Double], terms: Int) {
            maximum = s.max() ?? -.infinity
            // A logit at -infinity has no part in the row.
            maximumTolerance = zip(s, errors).filter { $0.0 != -.infinity }.map(\.1).max() ?? 0
            var (weightedErrors, size) = (0.0, 0.0)
            for (logit, error) in zip(s, errors) where logit != -.infinity {
                let e = exp(logit - maximum)
                let argument = error + maximumTolerance + 4 * unit * (logit.magnitude + maximum.magnitude)
                sum += e
                weightedErrors += e * (expm1(argument) + 4 * unit)
                size += e * (error + 4 * unit * (logit.magnitude + maximum.magnitude))
            }
            let order = OutputComparison.standardKappa * unit * Double(terms + 1).squareRoot()
            sumTolerance = weightedErrors + order * sum
            let logarithm = log(sum)
            z = maximum + logarithm
            // The log of the sum of exponentials moves by no more than the mean of its logits' errors, weighted by P.
            zTolerance = size / sum + 4 * unit + order + 4 * unit * logarithm.magnitude + unit * z.magnitude
        }
    }

    private static func attention(_ one: CaseView, _ output: String) throws -> [(truth: Double, tolerance: Double)]? {
        guard let q = one[.inputs, "q"], let k = one[.inputs, "k"], q.shape.count == 4, k.shape.count == 4,
            let scale = one.number("scale"), let mask = try VisibilityMask(one),
            k.shape[0] == q.shape[0], k.shape[1] > 0, q.shape[1] % k.shape[1] == 0, k.shape[3] == q.shape[3]
        else { return nil }
        let (batch, heads, queries, dimension) = (q.shape[0], q.shape[1], q.shape[2], q.shape[3])
        let (groups, keys) = (k.shape[1], k.shape[2])
        guard mask.queries == queries, mask.keys == keys, mask.batch == batch else { return nil }
        let flushes = one.string("dot") == "paired-ftz"
        let least = power(-126)
        let order = OutputComparison.standardKappa * unit * Double(dimension + 1).squareRoot()
        var result: [(truth: Double, tolerance: Double)] = []
        for b in 0..<batch {
            for h in 0..<heads {
                let g = h / (heads / groups)
                let queryStart = (b * heads + h) * queries * dimension
                let keyStart = (b * groups + g) * keys * dimension
                let query = try q.doubles(queryStart..<queryStart + queries * dimension)
                let key = try k.doubles(keyStart..<keyStart + keys * dimension)
                for i in 0..<queries {
                    var (s, errors): ([Double], [Double]) = ([], [])
                    for j in 0..<keys where mask.isVisible(b, i, j) {
                        var (sum, magnitude) = (0.0, 0.0)
                        // What flushing operands and partial sums may lose (Q4).
                        var flushed = flushes ? Double(dimension + 1) * least : 0
                        for d in 0..<dimension {
                            let (x, y) = (query[i * dimension + d], key[j * dimension + d])
                            sum += x * y
                            magnitude += (x * y).magnitude
                            if flushes && (x.magnitude < least || y.magnitude < least) { flushed += (x * y).magnitude }
                        }
                        let logit = scale * sum
                        s.append(logit)
                        errors.append(scale.magnitude * (order * magnitude + flushed) + unit * logit.magnitude)
                    }
                    let row = s.isEmpty ? Row() : Row(s, errors, terms: keys)
                    switch output {
                    case "max": result.append((row.maximum, row.maximumTolerance))
                    case "sum": result.append((row.sum, row.sumTolerance))
                    default: result.append((row.z, row.zTolerance))
                    }
                }
            }
        }
        return result
    }

    private static func losses(_ one: CaseView, _ output: String) throws -> [(truth: Double, tolerance: Double)]? {
        guard let logits = one[.inputs, "logits"], logits.shape.count == 2 else { return nil }
        let (rows, width) = (logits.shape[0], logits.shape[1])
        var result: [(truth: Double, tolerance: Double)] = []
        let targets = one[.inputs, "targets"]
        let (ids, weights) = (one[.inputs, "ids"], one[.inputs, "weights"])
        let slots = ids?.shape.last ?? 1
        // A damaged file's shapes may not fit one another.
        guard targets.map({ $0.count == rows }) ?? true, ids.map({ $0.shape == [rows, slots] }) ?? true,
            weights.map({ $0.shape == [rows, slots] }) ?? true
        else { return nil }
        for r in 0..<rows {
            let s = try logits.doubles(r * width..<(r + 1) * width)
            let row = s.isEmpty ? Row() : Row(s, [Double](repeating: 0, count: width), terms: width)
            if output == "z" {
                result.append((row.z, row.zTolerance))
                continue
            }
            /// A term of the loss: its weight, z - s, and what that may err by.
            func term(_ id: Double, _ weight: Double) -> (Double, Double)? {
                guard id >= 0, id < Double(width) else { return nil }
                let difference = row.z - s[Int(id)]
                return (
                    weight * difference,
                    weight.magnitude * (row.zTolerance + unit * (row.z.magnitude + difference.magnitude))
                )
            }
            if let targets {
                let found = term(try targets.doubles(r..<r + 1)[0], 1)
                result.append((found?.0 ?? 0, found?.1 ?? 0))
            } else if let ids, let weights {
                let range = r * slots..<(r + 1) * slots
                var (truth, tolerance, magnitude) = (0.0, 0.0, 0.0)
                for (id, weight) in zip(try ids.doubles(range), try weights.doubles(range)) {
                    guard let found = term(id, weight) else { continue }
                    truth += found.0
                    magnitude += found.0.magnitude
                    tolerance += found.1
                }
                tolerance += OutputComparison.standardKappa * unit * Double(slots + 1).squareRoot() * magnitude
                result.append((truth, tolerance))
            } else {
                return nil
            }
        }
        return result
    }
}
