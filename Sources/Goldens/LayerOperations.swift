import BFloat16
import ExactMath
import GoldenIO
import ModelSpec
import Reference

// The operations layer.*: the single operations of a training step, forward and backward (T2, T4).

let layerOperations: [Operation] = [
    Operation(
        "layer.rmsnorm", .layers, "root-mean-square normalisation and its gradients", clauses: ["T2", "R1", "R3", "E1"]
    ) { reader in
        let epsilon = try reader.float("epsilon")
        let x = try reader.bf16("x", "n", "C").map(BFloat16.init(bitPattern:))
        let gain = try reader.bf16("gain", "C").map(BFloat16.init(bitPattern:))
        let dy = try reader.bf16("dy", "n", "C").map(BFloat16.init(bitPattern:))
        try reader.finish()
        let (n, c) = (reader.size("n"), reader.size("C"))
        guard c >= 1 else {
            throw OperationError(.input, "layer.rmsnorm: inputs/gain is empty; expected at least one column")
        }
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
    Operation("layer.rope", .layers, "rotary position embedding and its gradient", clauses: ["T2", "E4", "F4"]) {
        reader in
        let base = try reader.float("base")
        guard base.isFinite, base >= 1 else {
            throw OperationError(.recipe, "layer.rope: recipe key 'base' is \(base); expected 1 or more")
        }
        let x = try reader.bf16("x", "n", "heads", "D").map(BFloat16.init(bitPattern:))
        let positions = try reader.integers("position", Int32.self, "n")
        let dy = try reader.bf16("dy", "n", "heads", "D").map(BFloat16.init(bitPattern:))
        try reader.finish()
        let (n, heads, d) = (reader.size("n"), reader.size("heads"), reader.size("D"))
        guard d % 2 == 0 else {
            throw OperationError(.input, "layer.rope: the head dimension is \(d); expected an even one")
        }
        for (index, position) in positions.enumerated() where !(0..<1 << 29).contains(position) {
            throw OperationError(.value, "layer.rope: position \(position) at index \(index), expected 0 ..< 2^29")
        }
        var result = CaseResult()
        let y = Rotary.forward(x, positions: positions, heads: heads, headDimension: d, base: base)
        let dx = Rotary.backward(dy, positions: positions, heads: heads, headDimension: d, base: base)
        result.output("y", bf16: y.map(\.bitPattern), [n, heads, d])
        result.output("dx", bf16: dx.map(\.bitPattern), [n, heads, d])
        return result
    },
    Operation("layer.relu2", .layers, "the square of the positive part and its gradient", clauses: ["T2", "F3"]) {
        reader in
        let x = try reader.bf16("x", "n").map(BFloat16.init(bitPattern:))
        let dy = try reader.floats("dy", "n")
        try reader.finish()
        var result = CaseResult()
        result.output("y", ReLUSquared.forward(x), [x.count])
        result.output("dx", ReLUSquared.backward(u: x, dy: dy), [x.count])
        return result
    },
    Operation(
        "layer.linear", .layers, "a linear layer over (batch, token) rows and its gradients",
        clauses: ["T2", "D1", "D2", "D3", "D4", "Q1", "Q2", "Q3"]
    ) { reader in
        let recipe = try reader.choice("dot", DotRecipe.self)
        try reader.boundConstants()
        let x = try reader.bf16("x", "B", "T", "in").map(BFloat16.init(bitPattern:))
        let weight = try reader.bf16("w", "in", "out").map(BFloat16.init(bitPattern:))
        let dy = try reader.bf16("dy", "B", "T", "out").map(BFloat16.init(bitPattern:))
        try reader.finish()
        let (b, t, inputs, outputs) = (reader.size("B"), reader.size("T"), reader.size("in"), reader.size("out"))
        var result = CaseResult()
        result.output(
            "y", Linear.forward(x, weight: weight, rows: b * t, inputs: inputs, outputs: outputs, recipe: recipe),
            [b, t, outputs])
        result.output(
            "dx",
            Linear.inputGradient(
                dy, weight: weight, rows: b * t, inputs: inputs, outputs: outputs, recipe: recipe), [b, t, inputs])
        result.output(
            "dw",
            Linear.weightGradient(
                x: x, dy: dy, batch: b, tokens: t, inputs: inputs, outputs: outputs, recipe: recipe),
            [inputs, outputs])
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
    Operation("layer.embedding", .layers, "rows by token and their gradient", clauses: ["T2", "R3"]) { reader in
        let tokens = try reader.integers("tokens", Int32.self, "n")
        let weight = try reader.bf16("w", "V", "C").map(BFloat16.init(bitPattern:))
        let dy = try reader.bf16("dy", "n", "C").map(BFloat16.init(bitPattern:))
        try reader.finish()
        let (n, v, c) = (reader.size("n"), reader.size("V"), reader.size("C"))
        let y = try Embedding.forward(tokens: tokens, weight: weight, vocabulary: v, width: c)
        var result = CaseResult()
        result.output("y", bf16: y.map(\.bitPattern), [n, c])
        result.output("dw", Embedding.backward(tokens: tokens, dy: dy, vocabulary: v, width: c), [v, c])
        return result
    },
    Operation(
        "layer.crossEntropy", .layers, "mean cross-entropy, with z-reg on the logits",
        clauses: ["T2", "Z1", "Z4", "R1", "R2", "E1", "Q1", "Q2", "Q3"]
    ) { reader in
        let c = try reader.float("zreg_c")
        try reader.boundConstants()
        let logits = try reader.floats("logits", "N", "V")
        let targets = try reader.integers("targets", Int32.self, "N")
        try reader.finish()
        let (n, v) = (reader.size("N"), reader.size("V"))
        let forward = try CrossEntropy.forward(logits: logits, targets: targets, rows: n, vocabulary: v)
        let gradient = CrossEntropy.gradient(
            logits: logits, forward: forward, targets: targets, rows: n, vocabulary: v, zregC: c)
        let exact = ExactCrossEntropy.losses(
            logits: logits, targets: targets.map { $0 < 0 ? [] : [(token: Int($0), weight: Float(1))] }, vocabulary: v,
            zregC: c)
        return lossResult(
            forward.loss, forward.losses, forward.z, gradient, exact, rows: n, vocabulary: v)
    },
    Operation(
        "layer.sparseCrossEntropy", .layers, "mean cross-entropy against k weighted tokens a row",
        clauses: ["T2", "K4", "Z1", "Z4", "R1", "R2", "E1", "Q1", "Q2", "Q3"]
    ) { reader in
        let c = try reader.float("zreg_c")
        try reader.boundConstants()
        let logits = try reader.floats("logits", "N", "V")
        let ids = try reader.integers("ids", UInt32.self, "N", "k")
        let weights = try reader.floats("weights", "N", "k")
        try reader.finish()
        let (n, v, k) = (reader.size("N"), reader.size("V"), reader.size("k"))
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
    Operation(
        "layer.adamw", .layers, "an AdamW update with clipping by the gradient's norm",
        clauses: ["T4", "R2", "R3", "E1"]
    ) { reader in
        let hyperparameters = AdamW.Hyperparameters(
            beta1: try reader.float("beta1"), beta2: try reader.float("beta2"), epsilon: try reader.float("epsilon"),
            weightDecay: try reader.float("weight_decay"))
        for (key, beta) in [("beta1", hyperparameters.beta1), ("beta2", hyperparameters.beta2)]
        where !(beta >= 0 && beta < 1) {
            throw OperationError(.recipe, "layer.adamw: recipe key '\(key)' is \(beta); expected 0 or more and below 1")
        }
        let learningRate = try reader.float("learning_rate")
        let clipNorm = try reader.float("clip_norm")
        let step = try reader.integer("step", in: 1...1 << 30)
        var weight = try reader.floats("w", "n")
        var m = try reader.floats("m", "n")
        var v = try reader.floats("v", "n")
        var g = try reader.floats("g", "n")
        try reader.finish()
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
