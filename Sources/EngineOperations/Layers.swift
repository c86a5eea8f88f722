import Cases
import Engine
import Goldens
import Kernels
import ModelSpec

let layerOperations: [(String, EngineCatalog.Compute)] = [
    ("layer.rmsnorm", rmsNorm), ("layer.rope", rotaryEmbedding), ("layer.relu2", reluSquared),
    ("layer.swiglu", swiGLU), ("layer.linear", linear), ("layer.embedding", embedding),
    ("layer.crossEntropy", crossEntropy), ("layer.sparseCrossEntropy", sparseCrossEntropy), ("layer.adamw", adamW),
]

private func rmsNorm(_ question: EngineQuestion) throws -> CaseResult {
    let (n, c) = (question.size("n"), question.size("C"))
    let x = question.bf16("x")
    let gain = question.bf16("gain")
    let y = question.zeros(n * c, UInt16.self)
    let r = question.zeros(n, Float.self)
    question.layers.normalize(
        x, gain: gain, rows: n, width: c, epsilon: question.given.float("epsilon"), output: y, inverse: r)
    let dx = question.zeros(n * c, Float.self)
    let dgain = question.zeros(c, Float.self)
    question.layers.normalizeBackward(
        question.bf16("dy"), x: x, gain: gain, inverse: r, rows: n, width: c, output: dx, gainGradient: dgain)
    var result = CaseResult()
    result.output("y", bf16: y, [n, c])
    result.output("r", r, [n])
    result.output("dx", dx, [n, c])
    result.output("dgain", dgain, [c])
    return result
}

private func rotaryEmbedding(_ question: EngineQuestion) throws -> CaseResult {
    let base = question.given.float("base")
    let (n, heads, d) = (question.size("n"), question.size("heads"), question.size("D"))
    let layers = question.layers
    let frequencies = (0..<d / 2).map { ScalarMath.rotaryFrequency(base: base, pair: $0, dimension: d) }
    let cosine = question.zeros(n * d / 2, Float.self)
    let sine = question.zeros(n * d / 2, Float.self)
    layers.rotaryTables(
        positions: question.integers("position", Int32.self), rows: n, frequencies: frequencies, cosine: cosine,
        sine: sine)
    let y = question.zeros(n * heads * d, UInt16.self)
    layers.rotate(
        question.bf16("x"), cosine: cosine, sine: sine, rows: n, heads: heads, dimension: d, backward: false, output: y)
    let dx = question.zeros(n * heads * d, UInt16.self)
    layers.rotate(
        question.bf16("dy"), cosine: cosine, sine: sine, rows: n, heads: heads, dimension: d, backward: true,
        output: dx)
    var result = CaseResult()
    result.output("y", bf16: y, [n, heads, d])
    result.output("dx", bf16: dx, [n, heads, d])
    return result
}

private func reluSquared(_ question: EngineQuestion) throws -> CaseResult {
    let n = question.size("n")
    let x = question.bf16("x")
    let y = question.zeros(n, Float.self)
    question.rows.square(x, y, n)
    let dx = question.zeros(n, Float.self)
    question.rows.squareBackward(x, question.floats("dy"), dx, n)
    var result = CaseResult()
    result.output("y", y, [n])
    result.output("dx", dx, [n])
    return result
}

/// T8: every operation rounded by itself.
private func swiGLU(_ question: EngineQuestion) throws -> CaseResult {
    let n = question.size("n")
    let gate = question.widened("gate", n)
    let up = question.widened("up", n)
    let dy = question.floats("dy")
    let negative = question.zeros(n, Float.self)
    for i in 0..<n { negative[i] = -gate[i] }
    let e = question.zeros(n, Float.self)
    question.context.kernels.math.exp(negative, e, n)
    let y = question.zeros(n, Float.self)
    let dgate = question.zeros(n, Float.self)
    let dup = question.zeros(n, Float.self)
    for i in 0..<n {
        let d = 1 + e[i]
        let t = gate[i] / d
        y[i] = t * up[i]
        dup[i] = dy[i] * t
        // The slope of silu: s (1 + gate (1 - s)).
        let s = 1 / d
        let a = 1 - s
        let b = gate[i] * a
        let c = 1 + b
        let k = s * c
        let f = dy[i] * up[i]
        dgate[i] = f * k
    }
    var result = CaseResult()
    result.output("y", y, [n])
    result.output("dgate", dgate, [n])
    result.output("dup", dup, [n])
    return result
}

private func linear(_ question: EngineQuestion) throws -> CaseResult {
    let recipe = question.given.choice("dot", DotRecipe.self)
    let (b, t) = (question.size("B"), question.size("T"))
    let (inputs, outputs) = (question.size("in"), question.size("out"))
    let x = question.bf16("x")
    let weight = question.bf16("w")
    let dy = question.bf16("dy")
    let (layers, rows) = (question.layers, question.rows)
    let y = question.zeros(b * t * outputs, Float.self)
    layers.forward(x, weight: weight, rows: b * t, inputs: inputs, outputs: outputs, recipe: recipe) {
        row, column, sums, count, _ in rows.finish(sums, y + (row * outputs + column), count)
    }
    let dx = question.zeros(b * t * inputs, Float.self)
    let part = Layers.InputGradientPart(dy: dy, weight: weight, outputs: outputs)
    layers.inputGradient(part, rows: b * t, inputs: inputs, recipe: recipe) {
        row, column, sums, count, _ in rows.finish(sums, dx + (row * inputs + column), count)
    }
    let dw = question.zeros(inputs * outputs, Float.self)
    layers.weightGradient(
        x, dy: dy, batch: b, tokens: t, inputs: inputs, outputs: outputs, recipe: recipe, into: dw)
    var result = CaseResult()
    question.output("y", y, [b, t, outputs], as: "output", in: &result)
    question.output("dx", dx, [b, t, inputs], as: "output", in: &result)
    question.output("dw", dw, [inputs, outputs], as: "dw_output", in: &result)
    return result
}

private func embedding(_ question: EngineQuestion) throws -> CaseResult {
    let (n, v, c) = (question.size("n"), question.size("V"), question.size("C"))
    let tokens = question.integers("tokens", Int32.self)
    let y = question.zeros(n * c, UInt16.self)
    question.layers.embed(tokens: tokens, weight: question.bf16("w"), rows: n, width: c, output: y)
    let dw = question.zeros(v * c, Float.self)
    question.layers.embedBackward(
        tokens: tokens, dy: question.bf16("dy"), rows: n, vocabulary: v, width: c, into: dw)
    var result = CaseResult()
    result.output("y", bf16: y, [n, c])
    result.output("dw", dw, [v, c])
    return result
}

/// What the losses have in common: logits and the statistics of their rows, and room for the results.
private struct Loss {
    let question: EngineQuestion
    let n: Int
    let v: Int
    let logits: UnsafeMutablePointer<Float>
    let maximum: UnsafeMutablePointer<Float>
    let sum: UnsafeMutablePointer<Float>
    let z: UnsafeMutablePointer<Float>
    let losses: UnsafeMutablePointer<Float>
    let gradient: UnsafeMutablePointer<UInt16>

    init(_ question: EngineQuestion) {
        self.question = question
        n = question.size("N")
        v = question.size("V")
        logits = question.floats("logits")
        maximum = question.zeros(n, Float.self)
        sum = question.zeros(n, Float.self)
        z = question.zeros(n, Float.self)
        losses = question.zeros(n, Float.self)
        gradient = question.zeros(n * v, UInt16.self)
        guard v > 0 else { return }
        question.layers.logSumExp(logits, rows: n, vocabulary: v, maximum: maximum, sum: sum, z: z)
    }

    /// - Parameter count: the rows that have a target.
    func result(count: Int) -> CaseResult {
        let scratch = question.zeros(n / 4096 + 1, Float.self)
        let mean = question.layers.meanLoss(losses, rows: n, count: count, scratch: scratch)
        var result = CaseResult()
        result.output("loss", [mean], [1])
        result.output("losses", losses, [n])
        result.output("z", z, [n])
        result.output("dlogits", bf16: gradient, [n, v])
        return result
    }
}

private func crossEntropy(_ question: EngineQuestion) throws -> CaseResult {
    let loss = Loss(question)
    let targets = question.integers("targets", Int32.self)
    let count = question.layers.losses(
        loss.logits, targets: targets, rows: loss.n, vocabulary: loss.v, z: loss.z, losses: loss.losses)
    question.layers.lossGradient(
        loss.logits, targets: targets, count: count, rows: loss.n, vocabulary: loss.v, maximum: loss.maximum,
        sum: loss.sum, z: loss.z, zregC: question.given.float("zreg_c"), output: loss.gradient)
    return loss.result(count: count)
}

private func sparseCrossEntropy(_ question: EngineQuestion) throws -> CaseResult {
    let loss = Loss(question)
    let k = question.size("k")
    let ids = question.integers("ids", UInt32.self)
    let weights = question.floats("weights")
    let count = question.layers.sparseLosses(
        loss.logits, ids: ids, weights: weights, k: k, rows: loss.n, vocabulary: loss.v, z: loss.z,
        losses: loss.losses)
    question.layers.sparseLossGradient(
        loss.logits, ids: ids, weights: weights, k: k, count: count, rows: loss.n, vocabulary: loss.v,
        maximum: loss.maximum, sum: loss.sum, z: loss.z, zregC: question.given.float("zreg_c"), output: loss.gradient)
    return loss.result(count: count)
}

private func adamW(_ question: EngineQuestion) throws -> CaseResult {
    let given = question.given
    let n = question.size("n")
    let step = given.integer("step")
    let g = question.floats("g")
    let squares = question.layers.sumOfSquares(g, n, scratch: question.zeros(n / 4096 + 1, Float.self))
    // The chain over one tensor's sum (R3): +0 added twice changes nothing.
    let norm = ScalarMath.sqrt((0 + squares) + 0)
    guard norm.isFinite else { throw TrainingError.gradientNorm(norm, step: step) }  // T4
    let constants = AdamWConstants(
        beta1: given.float("beta1"), beta2: given.float("beta2"), epsilon: given.float("epsilon"),
        weightDecay: given.float("weight_decay"), learningRate: given.float("learning_rate"), step: step, norm: norm,
        clipNorm: given.float("clip_norm"))
    let weight = question.floats("w")
    let m = question.floats("m")
    let v = question.floats("v")
    question.rows.adamW(weight, m, v, g, question.zeros(n, UInt16.self), constants, n)
    var result = CaseResult()
    result.output("norm", [norm], [1])
    result.output("m", m, [n])
    result.output("v", v, [n])
    result.output("w", weight, [n])
    return result
}
