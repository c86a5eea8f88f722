import Cases
import ExactMath
import Reference

// The operations gumbel.*: clause K.

let gumbelOperations: [Operation] = [
    Operation("gumbel.topk") { given in
        let (stream, k) = (stream(given), given.integer("k"))
        let logits = given.floats("logits")
        let (n, v) = (given.size("N"), given.size("V"))
        let sample = try Gumbel.topK(logits: logits, rows: n, vocabulary: v, k: k, stream: stream)
        var result = CaseResult()
        result.output("ids", Tensor(sample.ids, shape: [n, k]))
        result.output("weights", sample.weights, [n, k])
        result.output("kappa", sample.kappa, [n])
        return result
    },
    Operation("gumbel.replacement") { given in
        let (stream, k) = (stream(given), given.integer("k"))
        let logits = given.floats("logits")
        let (n, v) = (given.size("N"), given.size("V"))
        let sample = try Gumbel.withReplacement(logits: logits, rows: n, vocabulary: v, k: k, stream: stream)
        var result = CaseResult()
        result.output("ids", Tensor(sample.ids, shape: [n, k]))
        result.output("weights", sample.weights, [n, k])
        return result
    },
    Operation("gumbel.softmax") { given in
        let (stream, tau) = (stream(given), given.float("tau"))
        let logits = given.floats("logits")
        let dy = given.floats("dy")
        let (n, v) = (given.size("N"), given.size("V"))
        let relaxed = try Gumbel.softmax(
            logits: logits, outputGradient: dy, rows: n, vocabulary: v, tau: tau, stream: stream)
        var result = CaseResult()
        result.output("y", relaxed.output, [n, v])
        result.output("dlogits", relaxed.logitsGradient, [n, v])
        return result
    },
]

private func stream(_ given: CheckedCase) -> RandomStream {
    RandomStream(
        seed: given.unsigned64("seed"),
        stream: UInt32(given.integer("stream")),
        step: UInt32(given.integer("step")))
}
