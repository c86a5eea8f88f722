import Engine
import Kernels
import ModelSpec

/// How a teacher's distribution becomes k ids and weights a token (K).
public enum TargetMethod: String, Sendable, CaseIterable {
    /// K1 and K2: the k largest of logp + Gumbel noise, weighted so that the expectation of the weights is the distribution.
    case gumbel
    /// K2 with replacement: k draws, each of weight 1/k.
    case withReplacement = "with-replacement"
    /// The k most likely tokens, the more likely and then the lower id first; weights fl(p / s), p of K2 and s their fp32 sum in that order, from +0:
    /// biased, what people do first.
    case topK = "top-k"
}

/// Draws soft targets from logits.
struct TargetSampler {
    let context: EngineContext
    let method: TargetMethod
    let k: Int
    let seed: UInt64

    /// Soft targets of rows of logits fp32 [N, V]: ids and weights [N, k]. Draws are those of `step` of the stream ``RandomStreams/gumbel``; row r draws what K1 gives
    /// row r. Empty slots have the id 2^32 - 1 and the weight 0.
    func sample(_ logits: [Float], rows n: Int, vocabulary v: Int, step: UInt32) throws -> (
        ids: [UInt32], weights: [Float]
    ) {
        let random = RandomWords(seed: seed, stream: RandomStreams.gumbel, step: step)
        switch method {
        case .gumbel:
            let sample = try GumbelSampler(context, random).topK(logits, rows: n, vocabulary: v, k: k)
            return (sample.ids, sample.weights)
        case .withReplacement:
            return try GumbelSampler(context, random).withReplacement(logits, rows: n, vocabulary: v, k: k)
        case .topK:
            var ids = [UInt32](repeating: UInt32.max, count: n * k)
            var weights = [Float](repeating: 0, count: n * k)
            let all = try probabilities(logits, rows: n, vocabulary: v)
            for row in 0..<n {
                let p = all[row * v..<(row + 1) * v].map(\.self)
                let order = (0..<v).sorted { (p[$1], $0) < (p[$0], $1) }.prefix(k)
                let sum = order.reduce(Float(0)) { $0 + p[$1] }
                for (slot, id) in order.enumerated() where p[id] > 0 {
                    ids[row * k + slot] = UInt32(id)
                    weights[row * k + slot] = p[id] / sum
                }
            }
            return (ids, weights)
        }
    }

    /// p of K2 [N, V]: the weights of a sample that leaves nothing out.
    func probabilities(_ logits: [Float], rows n: Int, vocabulary v: Int) throws -> [Float] {
        let random = RandomWords(seed: seed, stream: RandomStreams.gumbel, step: 0)
        let whole = try GumbelSampler(context, random).topK(logits, rows: n, vocabulary: v, k: v)
        var p = [Float](repeating: 0, count: n * v)
        for (slot, id) in whole.ids.enumerated() where id != UInt32.max {
            p[slot / v * v + Int(id)] = whole.weights[slot]
        }
        return p
    }

    /// s - Z of a row, its sum in ascending order: for what a study reports, not for targets.
    static func logProbabilities(_ s: ArraySlice<Float>) -> [Float] {
        let maximum = s.max() ?? 0
        let z = maximum + ScalarMath.log(s.reduce(0) { $0 + ScalarMath.exp($1 - maximum) })
        return s.map { $0 - z }
    }
}
