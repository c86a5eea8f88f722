import Cases
import Engine
import Goldens
import Kernels
import ModelSpec

let layerOperations: [(String, EngineCatalog.Compute)] = [
    (
        "layer.rmsnorm",
        { given, context in
            let epsilon = given.float("epsilon")
            let x = given.bf16("x")
            let gain = given.bf16("gain")
            let dy = given.bf16("dy")
            let (n, c) = (given.size("n"), given.size("C"))
            guard c >= 1 else {
                throw OperationError(.input, "layer.rmsnorm: inputs/gain is empty; expected at least one column")
            }
            let layers = Layers(context)
            var r: [Float] = []
            let y = withPointer(x) { x in
                withPointer(gain) { gain in
                    filledBF16(n * c) { y in
                        r = filledFloats(n) { r in
                            layers.normalize(x, gain: gain, rows: n, width: c, epsilon: epsilon, output: y, inverse: r)
                        }
                    }
                }
            }
            var dgain: [Float] = []
            let dx = withPointer(x) { x in
                withPointer(gain) { gain in
                    withPointer(dy) { dy in
                        withPointer(r) { r in
                            filledFloats(n * c) { dx in
                                dgain = filledFloats(c) { dgain in
                                    layers.normalizeBackward(
                                        dy, x: x, gain: gain, inverse: r, rows: n, width: c, output: dx,
                                        gainGradient: dgain)
                                }
                            }
                        }
                    }
                }
            }
            var result = CaseResult()
            result.output("y", bf16: y, [n, c])
            result.output("r", r, [n])
            result.output("dx", dx, [n, c])
            result.output("dgain", dgain, [c])
            return result
        }
    ),
    (
        "layer.rope",
        { given, context in
            let base = given.float("base")
            guard base.isFinite, base >= 1 else {
                throw OperationError(.recipe, "layer.rope: recipe key 'base' is \(base); expected 1 or more")
            }
            let x = given.bf16("x")
            let positions = given.integers("position", Int32.self)
            let dy = given.bf16("dy")
            let (n, heads, d) = (given.size("n"), given.size("heads"), given.size("D"))
            guard d % 2 == 0 else {
                throw OperationError(.input, "layer.rope: the head dimension is \(d); expected an even one")
            }
            for (index, position) in positions.enumerated() where !(0..<1 << 29).contains(position) {
                throw OperationError(.value, "layer.rope: position \(position) at index \(index), expected 0 ..< 2^29")
            }
            let layers = Layers(context)
            let frequencies = (0..<d / 2).map { ScalarMath.rotaryFrequency(base: base, pair: $0, dimension: d) }
            var sine: [Float] = []
            let cosine = withPointer(positions) { positions in
                filledFloats(n * d / 2) { cosine in
                    sine = filledFloats(n * d / 2) { sine in
                        layers.rotaryTables(
                            positions: positions, rows: n, frequencies: frequencies, cosine: cosine, sine: sine)
                    }
                }
            }
            func rotated(_ x: [UInt16], backward: Bool) -> [UInt16] {
                withPointer(x) { x in
                    withPointer(cosine) { cosine in
                        withPointer(sine) { sine in
                            filledBF16(n * heads * d) { y in
                                layers.rotate(
                                    x, cosine: cosine, sine: sine, rows: n, heads: heads, dimension: d,
                                    backward: backward, output: y)
                            }
                        }
                    }
                }
            }
            var result = CaseResult()
            result.output("y", bf16: rotated(x, backward: false), [n, heads, d])
            result.output("dx", bf16: rotated(dy, backward: true), [n, heads, d])
            return result
        }
    ),
    (
        "layer.relu2",
        { given, context in
            let x = given.bf16("x")
            let dy = given.floats("dy")
            let n = x.count
            var result = CaseResult()
            withPointer(x) { x in
                withPointer(dy) { dy in
                    result.output("y", filledFloats(n) { context.kernels.rows.square(x, $0, n) }, [n])
                    result.output("dx", filledFloats(n) { context.kernels.rows.squareBackward(x, dy, $0, n) }, [n])
                }
            }
            return result
        }
    ),
    (
        "layer.linear",
        { given, context in
            let recipe = given.choice("dot", DotRecipe.self)
            let x = given.bf16("x")
            let weight = given.bf16("w")
            let dy = given.bf16("dy")
            let (b, t, inputs, outputs) = (given.size("B"), given.size("T"), given.size("in"), given.size("out"))
            let layers = Layers(context)
            let rows = context.kernels.rows
            var result = CaseResult()
            withPointer(x) { x in
                withPointer(weight) { weight in
                    withPointer(dy) { dy in
                        let y = filledFloats(b * t * outputs) { y in
                            layers.forward(
                                x, weight: weight, rows: b * t, inputs: inputs, outputs: outputs, recipe: recipe
                            ) { row, column, sums, count, _ in rows.finish(sums, y + (row * outputs + column), count) }
                        }
                        result.output("y", y, [b, t, outputs])
                        let dx = filledFloats(b * t * inputs) { dx in
                            layers.inputGradient(
                                Layers.InputGradientPart(dy: dy, weight: weight, outputs: outputs), rows: b * t,
                                inputs: inputs, recipe: recipe
                            ) { row, column, sums, count, _ in rows.finish(sums, dx + (row * inputs + column), count) }
                        }
                        result.output("dx", dx, [b, t, inputs])
                        let dw = filledFloats(inputs * outputs) { dw in
                            layers.weightGradient(
                                x, dy: dy, batch: b, tokens: t, inputs: inputs, outputs: outputs, recipe: recipe,
                                into: dw)
                        }
                        result.output("dw", dw, [inputs, outputs])
                    }
                }
            }
            return result
        }
    ),
    (
        "layer.embedding",
        { given, context in
            let tokens = given.integers("tokens", Int32.self)
            let weight = given.bf16("w")
            let dy = given.bf16("dy")
            let (n, v, c) = (given.size("n"), given.size("V"), given.size("C"))
            for (index, token) in tokens.enumerated() where !(0..<v).contains(Int(token)) {
                throw OperationError(.value, "token \(token) at index \(index), expected 0 ..< \(v)")
            }
            let layers = Layers(context)
            var result = CaseResult()
            withPointer(tokens) { tokens in
                withPointer(weight) { weight in
                    withPointer(dy) { dy in
                        let y = filledBF16(n * c) {
                            layers.embed(tokens: tokens, weight: weight, rows: n, width: c, output: $0)
                        }
                        result.output("y", bf16: y, [n, c])
                        let dw = filledFloats(v * c) {
                            layers.embedBackward(tokens: tokens, dy: dy, rows: n, vocabulary: v, width: c, into: $0)
                        }
                        result.output("dw", dw, [v, c])
                    }
                }
            }
            return result
        }
    ),
    (
        "layer.crossEntropy",
        { given, context in
            let c = given.float("zreg_c")
            let logits = given.floats("logits")
            let targets = given.integers("targets", Int32.self)
            let (n, v) = (given.size("N"), given.size("V"))
            for (row, target) in targets.enumerated() where target != -1 && !(0..<v).contains(Int(target)) {
                throw OperationError(.value, "target \(target) at row \(row), expected -1 or 0 ..< \(v)")
            }
            return try loss(context, logits, n, v) { layers, logits, statistics, losses, gradient in
                withPointer(targets) { targets in
                    let count = layers.losses(
                        logits, targets: targets, rows: n, vocabulary: v, z: statistics.z, losses: losses)
                    layers.lossGradient(
                        logits, targets: targets, count: count, rows: n, vocabulary: v, maximum: statistics.maximum,
                        sum: statistics.sum, z: statistics.z, zregC: c, output: gradient)
                    return count
                }
            }
        }
    ),
    (
        "layer.sparseCrossEntropy",
        { given, context in
            let c = given.float("zreg_c")
            let logits = given.floats("logits")
            let ids = given.integers("ids", UInt32.self)
            let weights = given.floats("weights")
            let (n, v, k) = (given.size("N"), given.size("V"), given.size("k"))
            for (index, id) in ids.enumerated() where id != UInt32.max && id >= UInt32(clamping: v) {
                throw OperationError(
                    .value,
                    "id \(id) at row \(index / k), slot \(index % k), expected 0 ..< \(v), or 4294967295 for an empty slot"
                )
            }
            return try loss(context, logits, n, v) { layers, logits, statistics, losses, gradient in
                withPointer(ids) { ids in
                    withPointer(weights) { weights in
                        let count = layers.sparseLosses(
                            logits, ids: ids, weights: weights, k: k, rows: n, vocabulary: v, z: statistics.z,
                            losses: losses)
                        layers.sparseLossGradient(
                            logits, ids: ids, weights: weights, k: k, count: count, rows: n, vocabulary: v,
                            maximum: statistics.maximum, sum: statistics.sum, z: statistics.z, zregC: c,
                            output: gradient)
                        return count
                    }
                }
            }
        }
    ),
    (
        "layer.adamw",
        { given, context in
            let (beta1, beta2) = (given.float("beta1"), given.float("beta2"))
            let (epsilon, weightDecay) = (given.float("epsilon"), given.float("weight_decay"))
            for (key, beta) in [("beta1", beta1), ("beta2", beta2)] where !(beta >= 0 && beta < 1) {
                throw OperationError(
                    .recipe, "layer.adamw: recipe key '\(key)' is \(beta); expected 0 or more and below 1")
            }
            let learningRate = given.float("learning_rate")
            let clipNorm = given.float("clip_norm")
            let step = given.integer("step")
            var weight = given.floats("w")
            var m = given.floats("m")
            var v = given.floats("v")
            let g = given.floats("g")
            let n = g.count
            let layers = Layers(context)
            let norm = withPointer(g) { g in
                var sum: Float = 0
                _ = filledFloats(n / 4096 + 1) { sum = layers.sumOfSquares(g, n, scratch: $0) }
                return ScalarMath.sqrt(canonicalZero(sum))
            }
            guard norm.isFinite else { throw TrainingError.gradientNorm(norm, step: step) }  // T4
            let constants = AdamWConstants(
                beta1: beta1, beta2: beta2, epsilon: epsilon, weightDecay: weightDecay, learningRate: learningRate,
                step: step, norm: norm, clipNorm: clipNorm)
            if n > 0 {
                var rounded = [UInt16](repeating: 0, count: n)
                weight.withUnsafeMutableBufferPointer { w in
                    m.withUnsafeMutableBufferPointer { m in
                        v.withUnsafeMutableBufferPointer { v in
                            g.withUnsafeBufferPointer { g in
                                rounded.withUnsafeMutableBufferPointer {
                                    context.kernels.rows.adamW(
                                        w.baseAddress!, m.baseAddress!, v.baseAddress!, g.baseAddress!,
                                        $0.baseAddress!, constants, n)
                                }
                            }
                        }
                    }
                }
            }
            var result = CaseResult()
            result.output("norm", [norm], [1])
            result.output("m", m, [n])
            result.output("v", v, [n])
            result.output("w", weight, [n])
            return result
        }
    ),
]

/// The chain over one tensor's sum (R3): +0 added twice changes nothing.
private func canonicalZero(_ x: Float) -> Float { (0 + x) + 0 }

private func loss(
    _ context: EngineContext, _ logits: [Float], _ n: Int, _ v: Int,
    _ body: (
        Layers, UnsafePointer<Float>, AttentionPass.Statistics, UnsafeMutablePointer<Float>,
        UnsafeMutablePointer<UInt16>
    ) -> Int
) throws -> CaseResult {
    let layers = Layers(context)
    var (maximum, sum) = ([Float](repeating: 0, count: n + 1), [Float](repeating: 0, count: n + 1))
    var z: [Float] = []
    var losses: [Float] = []
    var mean: Float = 0
    let gradient = filledBF16(n * v) { gradient in
        losses = filledFloats(n) { losses in
            z = filledFloats(n) { z in
                maximum.withUnsafeMutableBufferPointer { maximum in
                    sum.withUnsafeMutableBufferPointer { sum in
                        withPointer(logits) { logits in
                            let statistics = AttentionPass.Statistics(
                                maximum: maximum.baseAddress!, sum: sum.baseAddress!, z: z)
                            if v > 0 {
                                layers.logSumExp(
                                    logits, rows: n, vocabulary: v, maximum: statistics.maximum, sum: statistics.sum,
                                    z: statistics.z)
                            }
                            let count = body(layers, logits, statistics, losses, gradient)
                            _ = filledFloats(n / 4096 + 1) {
                                mean = layers.meanLoss(losses, rows: n, count: count, scratch: $0)
                            }
                        }
                    }
                }
            }
        }
    }
    var result = CaseResult()
    result.output("loss", [mean], [1])
    result.output("losses", losses, [n])
    result.output("z", z, [n])
    result.output("dlogits", bf16: gradient, [n, v])
    return result
}
