import Cases
import Checker
import ExactMath
import Foundation
import JSON

// Implementations as others write them, in the processor's fp32: orders of summation that are legal, and arithmetic that is not.

/// How a sum of products is accumulated.
enum Accumulation: String, CaseIterable, Sendable {
    case ascending, reverse, pairwise, blocks32, blocks128, lanes16, fp64
    /// As `ascending`, subnormal operands and results as zeros.
    case flushing
    // Wrong ones.
    case bf16, truncating, missingLast

    static let legal: [Accumulation] = [.ascending, .reverse, .pairwise, .blocks32, .blocks128, .lanes16, .fp64]
    static let wrong: [Accumulation] = [.bf16, .truncating, .missingLast]

    func sum(_ x: [Float], _ y: [Float], initial: Float = 0) -> Float {
        func chain(_ range: some Sequence<Int>, from start: Float = 0) -> Float {
            range.reduce(start) { $0.addingProduct(x[$1], y[$1]) }
        }
        func tree(_ range: Range<Int>) -> Float {
            if range.count <= 1 { return chain(range) }
            let middle = range.lowerBound + range.count / 2
            return tree(range.lowerBound..<middle) + tree(middle..<range.upperBound)
        }
        func blocks(_ size: Int) -> Float {
            stride(from: 0, to: x.count, by: size).reduce(initial) { $0 + chain($1..<min($1 + size, x.count)) }
        }
        let result: Float =
            switch self {
            case .ascending: chain(x.indices, from: initial)
            case .reverse: chain(x.indices.reversed()) + initial
            case .pairwise: tree(0..<x.count) + initial
            case .blocks32: blocks(32)
            case .blocks128: blocks(128)
            case .lanes16:
                (0..<16).reduce(initial) { $0 + chain(stride(from: $1, to: x.count, by: 16)) }
            case .fp64:
                Float(x.indices.reduce(Double(initial)) { $0 + Double(x[$1]) * Double(y[$1]) })
            case .flushing:
                x.indices.reduce(flushed(initial)) { flushed($0.addingProduct(flushed(x[$1]), flushed(y[$1]))) }
            case .bf16: x.indices.reduce(narrowed(initial)) { narrowed($0.addingProduct(x[$1], y[$1])) }
            case .truncating:
                x.indices.reduce(initial) { truncated(Double($0) + Double(x[$1]) * Double(y[$1])) }
            case .missingLast: chain(x.indices.dropLast(), from: initial)
            }
        return result + 0
    }

    func sum(_ x: [Float]) -> Float { sum(x, [Float](repeating: 1, count: x.count)) }
}

/// Nearest even bf16, as fp32.
func narrowed(_ x: Float) -> Float {
    guard x.isFinite else { return x }
    let bits = x.bitPattern
    return Float(bitPattern: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) & 0xFFFF_0000)
}

private func flushed(_ x: Float) -> Float {
    x.magnitude < .leastNormalMagnitude ? (x.sign == .minus ? -0.0 : 0) : x
}

/// Toward zero.
private func truncated(_ x: Double) -> Float {
    let nearest = Float(x)
    guard nearest.isFinite, Double(nearest).magnitude > x.magnitude else { return nearest }
    return nearest < 0 ? nearest.nextUp : nearest.nextDown
}

extension Tensor {
    /// The values as fp32; of bf16 exactly.
    var singles: [Float] { (0..<count).map { Float(doubleValue(at: $0)) } }

    /// bf16 from fp32, nearest even.
    init(narrowing values: [Float], shape: [Int]) {
        self.init(
            bf16: values.map { $0.isNaN ? 0x7FC0 : UInt16(narrowed($0).bitPattern >> 16) }, shape: shape)
    }
}

extension GoldenCase {
    fileprivate func floats(_ name: String) -> [Float] { inputs[name]?.singles ?? [] }
    fileprivate func shape(_ name: String) -> [Int] { inputs[name]?.shape ?? [] }
    fileprivate func parameter(_ name: String) -> Float {
        guard case .string(let digits)? = recipe[name + "_bits"], let bits = UInt32(digits, radix: 16) else { return 0 }
        return Float(bitPattern: bits)
    }

    /// A result in the format that a key of the recipe names.
    private func stored(_ values: [Float], _ shape: [Int], _ key: String) -> Tensor {
        switch recipe[key] {
        case "bf16": Tensor(narrowing: values, shape: shape)
        case "fp16": Tensor(fp16: values.map(SoftFloat32.roundToFloat16), shape: shape)
        default: Tensor(values, shape: shape)
        }
    }

    /// What an implementation with this accumulation answers; nil for operations without one.
    func answer(_ order: Accumulation) throws -> GoldenCase? {
        var result = GoldenCase(name: name, op: op)
        switch op {
        case "dot.gemm":
            let (m, k, n) = (shape("a")[0], shape("a")[1], shape("b")[1])
            let (a, b, c) = (floats("a"), floats("b"), floats("c"))
            var d: [Float] = []
            for i in 0..<m {
                for j in 0..<n {
                    d.append(
                        order.sum(
                            Array(a[i * k..<(i + 1) * k]), (0..<k).map { b[$0 * n + j] },
                            initial: c.isEmpty ? 0 : c[i * n + j]))
                }
            }
            result.outputs.append("d", stored(d, [m, n], "output"))
        case _ where op.hasPrefix("sum."):
            let (m, n) = (shape("x")[0], shape("x")[1])
            let (x, y) = (floats("x"), floats("y"))
            result.outputs.append(
                "s",
                Tensor(
                    (0..<m).map { row in
                        let part = Array(x[row * n..<(row + 1) * n])
                        return y.isEmpty ? order.sum(part) : order.sum(part, Array(y[row * n..<(row + 1) * n]))
                    }, shape: [m]))
        case "layer.linear":
            let (b, t, n, m) = (shape("x")[0], shape("x")[1], shape("w")[0], shape("w")[1])
            let (x, w, dy) = (floats("x"), floats("w"), floats("dy"))
            let rows = b * t
            var (y, dx, dw): ([Float], [Float], [Float]) = ([], [], [])
            for r in 0..<rows {
                for o in 0..<m { y.append(order.sum((0..<n).map { x[r * n + $0] }, (0..<n).map { w[$0 * m + o] })) }
                for i in 0..<n { dx.append(order.sum((0..<m).map { dy[r * m + $0] }, (0..<m).map { w[i * m + $0] })) }
            }
            for i in 0..<n {
                for o in 0..<m {
                    dw.append(order.sum((0..<rows).map { x[$0 * n + i] }, (0..<rows).map { dy[$0 * m + o] }))
                }
            }
            result.outputs.append("y", stored(y, [b, t, m], "output"))
            result.outputs.append("dx", stored(dx, [b, t, n], "output"))
            result.outputs.append("dw", stored(dw, [n, m], "dw_output"))
        case "attention.forward", "attention.backward": try attention(order, &result)
        case "zreg.rows": rows(order, &result)
        case "layer.crossEntropy", "layer.sparseCrossEntropy": losses(order, &result)
        default: return nil
        }
        return result
    }

    /// A row of softmax in fp32: P, max, sum and Z.
    private func softmax(_ s: [Float], _ order: Accumulation) -> (p: [Float], maximum: Float, sum: Float, z: Float) {
        var maximum = -Float.infinity
        for value in s { maximum = value.isNaN || maximum.isNaN ? .nan : max(maximum, value) }
        let e = s.map { Float(exp(Double($0 - maximum))) }
        let sum = order.sum(e)
        return (e.map { $0 / sum }, maximum + 0, sum, maximum + Float(log(Double(sum))))
    }

    private func attention(_ order: Accumulation, _ result: inout GoldenCase) throws {
        guard let mask = try VisibilityMask(self) else { return }
        let (b, h, q, d) = (shape("q")[0], shape("q")[1], shape("q")[2], shape("q")[3])
        let (g, t) = (shape("k")[1], shape("k")[2])
        let (query, key, value, slope) = (floats("q"), floats("k"), floats("v"), floats("do"))
        let scale = parameter("scale")
        let c = parameter("zreg_c")
        var (o, z, maxima, sums): ([Float], [Float], [Float], [Float]) = ([], [], [], [])
        var dq: [Float] = []
        // Terms of the key/value gradients: per key element, over (head of the group, query).
        var keyTerms = [([Float], [Float])](repeating: ([], []), count: b * g * t * d)
        var valueTerms = keyTerms
        for bi in 0..<b {
            for hi in 0..<h {
                let gi = hi / (h / g)
                func k(_ j: Int, _ e: Int) -> Int { ((bi * g + gi) * t + j) * d + e }
                for i in 0..<q {
                    let first = ((bi * h + hi) * q + i) * d
                    let seen = (0..<t).filter { mask.isVisible(bi, i, $0) }
                    guard !seen.isEmpty else {
                        o += [Float](repeating: 0, count: d)
                        dq += [Float](repeating: 0, count: d)
                        z.append(0)
                        maxima.append(0)
                        sums.append(0)
                        continue
                    }
                    let s = seen.map { j in
                        scale * order.sum(Array(query[first..<first + d]), (0..<d).map { key[k(j, $0)] })
                    }
                    let row = softmax(s, order)
                    z.append(row.z)
                    maxima.append(row.maximum)
                    sums.append(row.sum)
                    let p = row.p.map(narrowed)
                    for e in 0..<d { o.append(order.sum(p, seen.map { value[k($0, e)] })) }
                    guard op == "attention.backward" else { continue }
                    let dp = seen.map { j in
                        order.sum(Array(slope[first..<first + d]), (0..<d).map { value[k(j, $0)] })
                    }
                    let weighted =
                        recipe["form"] == "row-dot"
                        ? order.sum(Array(slope[first..<first + d]), o.suffix(d).map(narrowed)) : order.sum(row.p, dp)
                    let dz = c == 0 ? 0 : 2 * c * row.z
                    let ds = zip(row.p, dp).map { p, dp in narrowed(p * (dp - (weighted - dz))) }
                    for e in 0..<d { dq.append(scale * order.sum(ds, seen.map { key[k($0, e)] })) }
                    for (index, j) in seen.enumerated() {
                        for e in 0..<d {
                            keyTerms[k(j, e)].0.append(ds[index])
                            keyTerms[k(j, e)].1.append(query[first + e])
                            valueTerms[k(j, e)].0.append(p[index])
                            valueTerms[k(j, e)].1.append(slope[first + e])
                        }
                    }
                }
            }
        }
        if op == "attention.forward" {
            result.outputs.append("o", Tensor(narrowing: o, shape: [b, h, q, d]))
            for (name, values) in [("z", z), ("max", maxima), ("sum", sums)] {
                result.outputs.append(name, Tensor(values, shape: [b, h, q]))
            }
        } else {
            result.outputs.append("dq", Tensor(narrowing: dq, shape: [b, h, q, d]))
            result.outputs.append(
                "dk", Tensor(narrowing: keyTerms.map { scale * order.sum($0.0, $0.1) }, shape: [b, g, t, d]))
            result.outputs.append(
                "dv", Tensor(narrowing: valueTerms.map { order.sum($0.0, $0.1) }, shape: [b, g, t, d]))
        }
    }

    private func rows(_ order: Accumulation, _ result: inout GoldenCase) {
        let (n, m) = (shape("s")[0], shape("s")[1])
        let (s, dp) = (floats("s"), floats("dp"))
        let c = parameter("zreg_c")
        var (z, p, ds): ([Float], [Float], [Float]) = ([], [], [])
        for r in 0..<n {
            guard m > 0 else {
                z.append(0)
                continue
            }
            let row = softmax(Array(s[r * m..<(r + 1) * m]), order)
            let slopes = Array(dp[r * m..<(r + 1) * m])
            let weighted = order.sum(row.p, slopes)
            let dz = c == 0 ? 0 : 2 * c * row.z
            z.append(row.z)
            p += row.p
            ds += zip(row.p, slopes).map { $0 * ($1 - (weighted - dz)) }
        }
        result.outputs.append("z", Tensor(z, shape: [n]))
        result.outputs.append("p", Tensor(p, shape: [n, m]))
        result.outputs.append("ds", Tensor(ds, shape: [n, m]))
    }

    private func losses(_ order: Accumulation, _ result: inout GoldenCase) {
        let (n, v) = (shape("logits")[0], shape("logits")[1])
        let logits = floats("logits")
        let c = parameter("zreg_c")
        let k = op == "layer.crossEntropy" ? 1 : shape("ids")[1]
        let ids = (inputs["targets"] ?? inputs["ids"])?.doubleValues ?? []
        let weights = inputs["weights"]?.singles ?? [Float](repeating: 1, count: n)
        var (losses, z, d): ([Float], [Float], [Float]) = ([], [], [])
        var hasTarget: [Bool] = []
        for r in 0..<n {
            let row = softmax(Array(logits[r * v..<(r + 1) * v]), order)
            let slots = (r * k..<(r + 1) * k).filter { ids[$0] >= 0 && ids[$0] < Double(v) }
            hasTarget.append(!slots.isEmpty)
            z.append(row.z)
            let w = slots.map { weights[$0] }
            losses.append(order.sum(w, slots.map { row.z - logits[r * v + Int(ids[$0])] }))
            let total = order.sum(w)
            var gradient = row.p.map { total * $0 }
            for slot in slots { gradient[Int(ids[slot])] -= weights[slot] }
            if c != 0 { for j in 0..<v { gradient[j] += 2 * c * row.z * row.p[j] } }
            d += slots.isEmpty ? [Float](repeating: 0, count: v) : gradient
        }
        let count = hasTarget.count { $0 }
        let share = count == 0 ? 0 : 1 / Float(count)
        result.outputs.append("loss", Tensor([order.sum(losses) * share], shape: [1]))
        result.outputs.append("losses", Tensor(losses, shape: [n]))
        result.outputs.append("z", Tensor(z, shape: [n]))
        result.outputs.append("dlogits", Tensor(narrowing: d.map { $0 * share }, shape: [n, v]))
    }
}

extension Tensor {
    fileprivate var doubleValues: [Double] { (0..<count).map { doubleValue(at: $0) } }
}
