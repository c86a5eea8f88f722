import ExactMath
import GoldenIO
import Reference

// The operations gumbel.*: clause K.

let gumbelOperations: [Operation] = [
    Operation(
        "gumbel.topk", .gumbel, "k tokens without replacement, with unbiased weights",
        clauses: ["K1", "K2", "Z1", "G1", "G3", "E1"]
    ) { reader in
        let (stream, k) = (try stream(&reader), try reader.integer("k", in: 0...1 << 24))
        let logits = try reader.floats("logits", "N", "V")
        try reader.finish()
        let (n, v) = (reader.size("N"), reader.size("V"))
        try checkSlots(n, k)
        let sample = try Gumbel.topK(logits: logits, rows: n, vocabulary: v, k: k, stream: stream)
        var result = CaseResult()
        result.output("ids", Tensor(sample.ids, shape: [n, k]))
        result.output("weights", sample.weights, [n, k])
        result.output("kappa", sample.kappa, [n])
        return result
    },
    Operation(
        "gumbel.replacement", .gumbel, "k tokens with replacement", clauses: ["K2", "K1", "Z1", "G1", "G3", "E1"]
    ) { reader in
        let (stream, k) = (try stream(&reader), try reader.integer("k", in: 0...1 << 24))
        let logits = try reader.floats("logits", "N", "V")
        try reader.finish()
        let (n, v) = (reader.size("N"), reader.size("V"))
        try checkSlots(n, k)
        let sample = try Gumbel.withReplacement(logits: logits, rows: n, vocabulary: v, k: k, stream: stream)
        var result = CaseResult()
        result.output("ids", Tensor(sample.ids, shape: [n, k]))
        result.output("weights", sample.weights, [n, k])
        return result
    },
    Operation(
        "gumbel.softmax", .gumbel, "the relaxed sample and its gradient", clauses: ["K3", "Z1", "G1", "G3", "R1", "E1"]
    ) { reader in
        let (stream, tau) = (try stream(&reader), try reader.float("tau"))
        let logits = try reader.floats("logits", "N", "V")
        let dy = try reader.floats("dy", "N", "V")
        try reader.finish()
        let (n, v) = (reader.size("N"), reader.size("V"))
        let relaxed = try Gumbel.softmax(
            logits: logits, outputGradient: dy, rows: n, vocabulary: v, tau: tau, stream: stream)
        var result = CaseResult()
        result.output("y", relaxed.output, [n, v])
        result.output("dlogits", relaxed.logitsGradient, [n, v])
        return result
    },
]

/// A file of a few bytes must not ask for more slots than memory holds.
private func checkSlots(_ n: Int, _ k: Int) throws(OperationError) {
    guard n == 0 || k <= (1 << 28) / n else {
        throw OperationError(.recipe, "recipe key 'k' is \(k) for \(n) rows; expected at most 2^28 slots in all")
    }
}

private func stream(_ reader: inout CaseReader) throws(OperationError) -> RandomStream {
    RandomStream(
        seed: try reader.unsigned64("seed"),
        stream: UInt32(try reader.integer("stream", in: 0...Int(UInt32.max))),
        step: UInt32(try reader.integer("step", in: 0...Int(UInt32.max))))
}
