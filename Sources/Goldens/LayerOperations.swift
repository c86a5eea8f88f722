import BFloat16
import Cases
import ExactMath
import ModelSpec
import Reference

// The operations layer.*: the single operations of a training step, forward and backward (T2, T4).

let layerOperations: [Operation] = [
    Operation("layer.rmsnorm") { given in
        let epsilon = given.float("epsilon")
        let x = given.bf16("x").map(BFloat16.init(bitPattern:))
        let gain = given.bf16("gain").map(BFloat16.init(bitPattern:))
        let dy = given.bf16("dy").map(BFloat16.init(bitPattern:))
        let (n, c) = (given.size("n"), given.size("C"))
        let forward = RMSNorm.forward(x, gain: gain, rows: n, width: c, epsilon: epsilon)
        let backward = RMSNorm.backward(
            outputGradient: dy, x: x, gain: gain, rows: n, width: c, epsilon: epsilon)
        var result = CaseResult()
        result.output("y", bf16: forward.output.map(\.bitPattern), [n, c])
        result.output("r", forward.inverseRootMeanSquare, [n])
        result.output("dx", backward.input, [n, c])
        result.output("dgain", backward.gain, [c])
        return result
    },
    Operation("layer.rope") { given in
        let base = given.float("base")
        let x = given.bf16("x").map(BFloat16.init(bitPattern:))
        let positions = given.integers("position", Int32.self)
        let dy = given.bf16("dy").map(BFloat16.init(bitPattern:))
        let (n, heads, d) = (given.size("n"), given.size("heads"), given.size("D"))
        var result = CaseResult()
        let y = Rotary.forward(x, positions: positions, heads: heads, headDimension: d, base: base)
        let dx = Rotary.backward(dy, positions: positions, heads: heads, headDimension: d, base: base)
        result.output("y", bf16: y.map(\.bitPattern), [n, heads, d])
        result.output("dx", bf16: dx.map(\.bitPattern), [n, heads, d])
        return result
    },
    Operation("layer.relu2") { given in
        let x = given.bf16("x").map(BFloat16.init(bitPattern:))
        let dy = given.floats("dy")
        var result = CaseResult()
        result.output("y", ReLUSquared.forward(x), [x.count])
        result.output("dx", ReLUSquared.backward(u: x, dy: dy), [x.count])
        return result
    },
    Operation("layer.swiglu") { given in
        let gate = given.bf16("gate").map(BFloat16.init(bitPattern:))
        let up = given.bf16("up").map(BFloat16.init(bitPattern:))
        let gradients = SwiGLU.backward(gate: gate, up: up, dy: given.floats("dy"))
        var result = CaseResult()
        result.output("y", SwiGLU.forward(gate: gate, up: up), [gate.count])
        result.output("dgate", gradients.gate, [gate.count])
        result.output("dup", gradients.up, [gate.count])
        return result
    },
    Operation("layer.linear") { given in
        let recipe = given.choice("dot", DotRecipe.self)
        let x = given.bf16("x").map(BFloat16.init(bitPattern:))
        let weight = given.bf16("w").map(BFloat16.init(bitPattern:))
        let dy = given.bf16("dy").map(BFloat16.init(bitPattern:))
        let (b, t, inputs, outputs) = (given.size("B"), given.size("T"), given.size("in"), given.size("out"))
        let type = given.choice("output", ElementType.self)
        var result = CaseResult()
        result.output(
            "y", Linear.forward(x, weight: weight, rows: b * t, inputs: inputs, outputs: outputs, recipe: recipe),
            [b, t, outputs], as: type)
        result.output(
            "dx",
            Linear.inputGradient(
                dy, weight: weight, rows: b * t, inputs: inputs, outputs: outputs, recipe: recipe), [b, t, inputs],
            as: type)
        result.output(
            "dw",
            Linear.weightGradient(
                x: x, dy: dy, batch: b, tokens: t, inputs: inputs, outputs: outputs, recipe: recipe),
            [inputs, outputs], as: given.choice("dw_output", ElementType.self))
        func truth(
            _ name: String, _ m: Int, _ k: Int, _ n: Int, _ shape: [Int],
            _ factors: (Int, Int, Int) -> (BFloat16, BFloat16)
        ) {
            var (values, bounds): ([Double], [Double]) = ([], [])
            for i in 0..<m {
                for j in 0..<n {
                    var element = TruthAndBounds()
                    for l in 0..<k {
                        let (a, b) = factors(i, l, j)
                        element.addProduct(
                            SoftFloat32.convert(bfloat16Bits: a.bitPattern),
                            SoftFloat32.convert(bfloat16Bits: b.bitPattern))
                    }
                    values.append(element.truth)
                    bounds.append(element.bounds)
                }
            }
            result.truth(name, values, bounds: bounds, shape)
        }
        truth("y", b * t, inputs, outputs, [b, t, outputs]) { (x[$0 * inputs + $1], weight[$1 * outputs + $2]) }
        truth("dx", b * t, outputs, inputs, [b, t, inputs]) { (dy[$0 * outputs + $1], weight[$2 * outputs + $1]) }
        truth("dw", inputs, b * t, outputs, [inputs, outputs]) { (x[$1 * inputs + $0], dy[$1 * outputs + $2]) }
        return result
    },
    Operation("layer.embedding") { given in
        let tokens = given.integers("tokens", Int32.self)
        let weight = given.bf16("w").map(BFloat16.init(bitPattern:))
        let dy = given.bf16("dy").map(BFloat16.init(bitPattern:))
        let (n, v, c) = (given.size("n"), given.size("V"), given.size("C"))
        let y = try Embedding.forward(tokens: tokens, weight: weight, vocabulary: v, width: c)
        var result = CaseResult()
        result.output("y", bf16: y.map(\.bitPattern), [n, c])
        result.output("dw", Embedding.backward(tokens: tokens, dy: dy, vocabulary: v, width: c), [v, c])
        return result
    },
    Operation("layer.crossEntropy") { given in
        let c = given.float("zreg_c")
        let logits = given.floats("logits")
        let targets = given.integers("targets", Int32.self)
        let (n, v) = (given.size("N"), given.size("V"))
        let forward = try CrossEntropy.forward(logits: logits, targets: targets, rows: n, vocabulary: v)
        let gradient = CrossEntropy.gradient(
            logits: logits, forward: forward, targets: targets, rows: n, vocabulary: v, zregC: c)
        let exact = ExactCrossEntropy.losses(
            logits: logits, targets: targets.map { $0 < 0 ? [] : [(token: Int($0), weight: Float(1))] }, vocabulary: v,
            zregC: c)
        return lossResult(
            forward.loss, forward.losses, forward.z, gradient, exact, rows: n, vocabulary: v)
    },
    Operation("layer.sparseCrossEntropy") { given in
        let c = given.float("zreg_c")
        let logits = given.floats("logits")
        let ids = given.integers("ids", UInt32.self)
        let weights = given.floats("weights")
        let (n, v, k) = (given.size("N"), given.size("V"), given.size("k"))
        let forward = try SparseCrossEntropy.forward(
            logits: logits, ids: ids, weights: weights, rows: n, vocabulary: v, k: k)
        let gradient = SparseCrossEntropy.gradient(
            logits: logits, forward: forward, ids: ids, weights: weights, rows: n, vocabulary: v, k: k, zregC: c)
        let exact = ExactCrossEntropy.losses(
            logits: logits,
            targets: (0..<n).map { row in
                (0..<k).filter { ids[row * k + $0] != SparseCrossEntropy.emptySlot }
                    .map { (token: Int(ids[row * k + $0]), weight: weights[row * k + $0]) }
            }, vocabulary: v, zregC: c)
        return lossResult(
            forward.loss, forward.losses, forward.z, gradient, exact, rows: n, vocabulary: v)
    },
    Operation("layer.adamw") { given in
        let hyperparameters = AdamW.Hyperparameters(
            beta1: given.float("beta1"), beta2: given.float("beta2"), epsilon: given.float("epsilon"),
            weightDecay: given.float("weight_decay"))
        let learningRate = given.float("learning_rate")
        let clipNorm = given.float("clip_norm")
        let step = given.integer("step")
        var weight = given.floats("w")
        var m = given.floats("m")
        var v = given.floats("v")
        var g = given.floats("g")
        let norm = AdamW.gradientNorm([g])
        guard SoftFloat32.isFinite(norm) else { throw TrainingError.gradientNorm(norm, step: step) }  // T4
        if let factor = AdamW.clipFactor(norm: norm, clipNorm: clipNorm) {
            g = g.map { SoftFloat32.multiply($0, factor) }  // T4
        }
        AdamW.update(
            weight: &weight, firstMoment: &m, secondMoment: &v, gradient: g, step: step, learningRate: learningRate,
            decays: true, hyperparameters: hyperparameters)
        var result = CaseResult()
        result.output("norm", [norm], [1])
        result.output("m", m, [m.count])
        result.output("v", v, [v.count])
        result.output("w", weight, [weight.count])
        return result
    },
]

private func lossResult(
    _ loss: Float, _ losses: [Float], _ z: [Float], _ gradient: [BFloat16],
    _ exact: (loss: ExactAttention.Pair, gradient: ExactAttention.Pair), rows: Int, vocabulary: Int
) -> CaseResult {
    var result = CaseResult()
    result.output("loss", [loss], [1])
    result.output("losses", losses, [rows])
    result.output("z", z, [rows])
    result.output("dlogits", bf16: gradient.map(\.bitPattern), [rows, vocabulary])
    result.truth("loss", exact.loss.truth, bounds: exact.loss.bounds, [1])
    result.truth("dlogits", exact.gradient.truth, bounds: exact.gradient.bounds, [rows, vocabulary])
    return result
}
