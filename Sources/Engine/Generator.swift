import Kernels
import ModelSpec

/// Text from a model, token by token, the keys and values of earlier tokens kept: logits equal, bit for bit, to those of a whole forward pass over
/// the same tokens as one causal document.
public final class Generator {
    private let model: Model
    private let memory: MemoryBlock
    private let buffers: Buffers
    private let mask: MaskBits
    /// Tokens so far.
    public private(set) var count = 0

    private struct Buffers {
        let keys: [UnsafeMutablePointer<UInt16>]
        let values: [UnsafeMutablePointer<UInt16>]
        let stream: UnsafeMutablePointer<UInt16>
        let norm: UnsafeMutablePointer<UInt16>
        let query: UnsafeMutablePointer<UInt16>
        let context: UnsafeMutablePointer<UInt16>
        let up: UnsafeMutablePointer<UInt16>
        let activation: UnsafeMutablePointer<UInt16>
        let codes: UnsafeMutablePointer<Int8>
        let inverse: UnsafeMutablePointer<Float>
        let statistics: AttentionPass.Statistics
        let largest: UnsafeMutablePointer<Float>
        let counts: UnsafeMutablePointer<ClampCounts>
        let logits: UnsafeMutablePointer<Float>
        let limits: UnsafeMutablePointer<Float>

        init(_ c: ModelConfiguration, _ threads: Int, _ plan: inout MemoryPlan) {
            let (hd, gd) = (c.heads * c.headDimension, c.keyValueHeads * c.headDimension)
            keys = (0..<c.layers).map { _ in plan.bf16(c.sequenceLength * gd) }
            values = (0..<c.layers).map { _ in plan.bf16(c.sequenceLength * gd) }
            stream = plan.bf16(c.width)
            norm = plan.bf16(c.width)
            query = plan.bf16(hd)
            context = plan.bf16(hd)
            up = plan.bf16(c.feedForwardWidth)
            activation = plan.bf16(c.feedForwardWidth)
            codes = plan.take(Int8.self, c.feedForwardWidth)
            inverse = plan.floats(1)
            statistics = AttentionPass.Statistics(
                maximum: plan.floats(c.heads), sum: plan.floats(c.heads), z: plan.floats(c.heads))
            largest = plan.floats(threads)
            counts = plan.take(ClampCounts.self, threads)
            logits = plan.floats(c.vocabulary)
            limits = plan.floats(c.layers)
        }
    }

    /// Of a trainer's model, whose weights must not change meanwhile.
    ///
    /// - Throws: ``EngineError`` where a clamp has no limit.
    public init(_ trainer: Trainer) throws {
        model = trainer.model
        let c = model.configuration
        let threads = model.context.pool.count
        var count = MemoryPlan()
        _ = Buffers(c, threads, &count)
        memory = MemoryBlock(bytes: count.bytes)
        var plan = MemoryPlan(memory.base)
        buffers = Buffers(c, threads, &plan)
        mask = MaskBits(batch: 1, queries: 1, keys: c.sequenceLength)
        if c.clamp != .none {
            for layer in 0..<c.layers { buffers.limits[layer] = try model.limit(layer) }
        }
    }

    /// Takes a token in; the logits of the next one [V], valid until the next call. nil once the sequence is full.
    ///
    /// - Precondition: the token is in 0 ..< V.
    public func logits(after token: Int32) -> UnsafeBufferPointer<Float>? {
        let c = model.configuration
        guard count < c.sequenceLength else { return nil }
        precondition((0..<c.vocabulary).contains(Int(token)))
        let b = buffers
        let (layers, rows) = (model.layers, model.context.kernels.rows)
        let (width, feedForward) = (c.width, c.feedForwardWidth)
        let (hd, gd) = (c.heads * c.headDimension, c.keyValueHeads * c.headDimension)
        let half = c.headDimension / 2
        let position = count
        let cosine = UnsafePointer(model.buffers.cosineTable + position * half)
        let sine = UnsafePointer(model.buffers.sineTable + position * half)
        func rotate(_ x: UnsafeMutablePointer<UInt16>, _ heads: Int) {
            for head in 0..<heads {
                let at = x + head * c.headDimension
                rows.rotate(at, cosine, sine, false, at, half)
            }
        }
        b.stream.update(from: model.weight(0) + Int(token) * width, count: width)
        for index in 0..<c.layers {
            let p = model.layerParameters[index]
            layers.normalize(
                b.stream, gain: model.weight(p.attentionNorm), rows: 1, width: width, epsilon: c.normEpsilon,
                output: b.norm, inverse: b.inverse)
            model.linear(b.norm, p.query, 1, width, hd, b.query)
            rotate(b.query, c.heads)
            if let key = p.key, let value = p.value {
                model.linear(b.norm, key, 1, width, gd, b.keys[index] + position * gd)
                rotate(b.keys[index] + position * gd, c.keyValueHeads)
                model.linear(b.norm, value, 1, width, gd, b.values[index] + position * gd)
            }
            let source = c.keyValueSource(layer: index)
            let first = c.window(layer: index).map { max(0, position - $0 + 1) } ?? 0
            var (start, limit) = (Int32(first), Int32(position + 1))
            mask.fill(orientation: .byQuery, start: &start, limit: &limit)
            let pass = AttentionPass(
                batch: 1, heads: c.heads, keyValueHeads: c.keyValueHeads, queries: 1, keys: c.sequenceLength,
                dimension: c.headDimension, scale: model.scale, recipe: c.dot)
            pass.forward(
                model.context, query: b.query,
                queryLayout: .rowsFirst(heads: c.heads, rows: 1, dimension: c.headDimension), key: b.keys[source],
                value: b.values[source],
                keyLayout: .rowsFirst(heads: c.keyValueHeads, rows: c.sequenceLength, dimension: c.headDimension),
                mask: mask, output: b.context,
                outputLayout: .rowsFirst(heads: c.heads, rows: 1, dimension: c.headDimension),
                statistics: b.statistics, largest: b.largest)
            layers.forward(
                b.context, weight: model.weight(p.output), rows: 1, inputs: hd, outputs: width, recipe: c.dot
            ) { _, column, sums, count, _ in
                rows.finishResidual(sums, b.stream + column, b.stream + column, count)
            }
            layers.normalize(
                b.stream, gain: model.weight(p.mlpNorm), rows: 1, width: width, epsilon: c.normEpsilon,
                output: b.norm, inverse: b.inverse)
            let clamp = model.clamp(b.limits[index])
            layers.forward(
                b.norm, weight: model.weight(p.up), rows: 1, inputs: width, outputs: feedForward, recipe: c.dot
            ) { _, column, sums, count, thread in
                rows.feedForward(
                    sums, clamp, b.up + column, b.codes + column, b.activation + column, &b.counts[thread], count)
            }
            layers.forward(
                b.activation, weight: model.weight(p.down), rows: 1, inputs: feedForward, outputs: width, recipe: c.dot
            ) { _, column, sums, count, _ in
                rows.finishResidual(sums, b.stream + column, b.stream + column, count)
            }
        }
        layers.normalize(
            b.stream, gain: model.weight(model.parameters.count - 1), rows: 1, width: width, epsilon: c.normEpsilon,
            output: b.norm, inverse: b.inverse)
        layers.forwardTransposed(
            b.norm, weight: model.weight(0), rows: 1, inputs: width, outputs: c.vocabulary, recipe: c.dot
        ) { _, column, sums, count, _ in rows.finish(sums, b.logits + column, count) }
        count += 1
        return UnsafeBufferPointer(start: b.logits, count: c.vocabulary)
    }

    /// Tokens that follow `prompt`, each the argmax of logit / temperature + Gumbel noise (G3): a draw from the softmax. Ends with the sequence.
    ///
    /// - Parameters:
    ///   - prompt: at least one token.
    ///   - temperature: above 0; near 0 the likeliest token each time.
    public func sample(prompt: [Int32], tokens: Int, temperature: Float, random: RandomWords) -> [Int32] {
        var sampled: [Int32] = []
        var next: UnsafeBufferPointer<Float>?
        for token in prompt { next = logits(after: token) }
        while sampled.count < tokens, let scores = next {
            var (best, largest) = (0, -Float.infinity)
            for j in 0..<scores.count {
                let noise = RandomWords.gumbel(random.word(UInt64(sampled.count * scores.count + j)))
                let score = scores[j] / temperature + noise
                if score > largest { (best, largest) = (j, score) }
            }
            sampled.append(Int32(best))
            next = logits(after: Int32(best))
        }
        return sampled
    }
}
