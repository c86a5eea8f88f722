import BFloat16
import ExactMath
import ModelSpec

/// The model: its forward and backward pass, operation by operation in the order of T2.
///
/// Every tensor goes to the probe under its name in T2 as soon as it exists; none of them is changed afterwards. Rows are tokens t =
/// (b, i) in C order, N = B T of them.
public struct Transformer {
    public let configuration: ModelConfiguration
    /// How the dot products are computed; the same bits either way.
    public let arithmetic: Arithmetic
    /// The bf16 roundings of the masters, in the order of the parameters (T2).
    private let weights: [[BFloat16]]
    private let indices: [String: Int]

    /// - Parameter masters: fp32, in the order of ``ModelSpec/ModelConfiguration/parameters``, each with its number of elements.
    /// - Throws: ``/ModelSpec/TrainingError/count(name:_:expected:)``.
    public init(
        _ configuration: ModelConfiguration, masters: [[Float]], arithmetic: Arithmetic = .soft
    ) throws(TrainingError) {
        let parameters = configuration.parameters
        guard masters.count == parameters.count else {
            throw .count(name: "the list of parameters", masters.count, expected: parameters.count)
        }
        var indices: [String: Int] = [:]
        for (index, parameter) in parameters.enumerated() {
            guard masters[index].count == parameter.count else {
                throw .count(name: "weight.\(parameter.name)", masters[index].count, expected: parameter.count)
            }
            indices[parameter.name] = index
        }
        self.configuration = configuration
        self.arithmetic = arithmetic
        self.indices = indices
        weights = masters.map { master in
            var rounded: [BFloat16] = []
            for value in master { rounded.append(bf16(value)) }  // T2, F4
            return rounded
        }
    }

    private func weight(_ name: String) -> [BFloat16] { weights[indices[name]!] }

    // MARK: - Forward

    /// What the forward pass keeps for the backward pass.
    public struct Activations {
        /// One layer's.
        struct Layer {
            /// The stream on entry [N, C].
            var input: [BFloat16] = []
            var attentionNorm: [BFloat16] = []
            /// [B, H, T, D]
            var query: [BFloat16] = []
            /// [B, G, T, D], of the layer itself; empty where it uses another's.
            var key: [BFloat16] = []
            var value: [BFloat16] = []
            var attention = Attention.Forward(output: [], maximum: [], sum: [], z: [], largestLogit: 0)
            /// [N, H D]
            var context: [BFloat16] = []
            /// The stream between attention and feed-forward [N, C].
            var middle: [BFloat16] = []
            var mlpNorm: [BFloat16] = []
            var up: [BFloat16] = []
            /// 0 with clamp `none`.
            var limit: Float = 0
            /// nil with clamp `none`.
            var clampReport: Clamp.Report?
            var activation: [BFloat16] = []
        }

        let batch: TrainingBatch
        /// B of this batch.
        let sequences: Int
        /// One for each layer.
        let visibility: [Visibility]
        var layers: [Layer] = []
        /// The stream after the last layer [N, C].
        var output: [BFloat16] = []
        var norm: [BFloat16] = []
        /// [N, V]
        public internal(set) var logits: [Float] = []
        var crossEntropy: CrossEntropy.Forward?
        var sparseCrossEntropy: SparseCrossEntropy.Forward?

        /// The mean loss of the batch.
        public var loss: Float { crossEntropy?.loss ?? sparseCrossEntropy?.loss ?? 0 }
        /// |Z| and the largest logit of every layer (Z5).
        public var logSumExp: [LogSumExpStatistics] { layers.map { LogSumExpStatistics($0.attention) } }
        /// What every layer's clamp moved, where there is one (C5).
        public var clampReports: [Clamp.Report] { layers.compactMap(\.clampReport) }
    }

    /// The forward pass over a batch, its targets' loss included.
    ///
    /// - Throws: ``/ModelSpec/TrainingError``, naming the tensor or the operation, and what `probe` throws.
    public func forward(_ batch: TrainingBatch, probe: Probe = { _, _ in }) throws -> Activations {
        let c = configuration
        let (length, width, feedForward) = (c.sequenceLength, c.width, c.feedForwardWidth)
        let sequences = batch.tokens.count / length
        let rows = sequences * length
        try batch.checkSizes(batch: sequences, length: length, k: c.distillationK)
        var pass = Activations(
            batch: batch, sequences: sequences,
            visibility: try (0..<c.layers).map { layer in
                try named("visibility") {
                    try Visibility(
                        orientation: .byKey, batch: sequences, queries: length, keys: length,
                        start: batch.visibilityStart, limit: batch.visibilityLimit, window: c.window(layer: layer))
                }
            })

        var stream = try named("embedding") {
            try Embedding.forward(
                tokens: batch.tokens, weight: weight("embedding"), vocabulary: c.vocabulary, width: width)
        }
        try probe("embedding.output", StepTensor(stream, [rows, width]))

        for index in 0..<c.layers {
            let l = "layers.\(index)"
            var layer = Activations.Layer()
            layer.input = stream

            // Attention
            layer.attentionNorm =
                RMSNorm.forward(
                    stream, gain: weight("\(l).attention.norm"), rows: rows, width: width, epsilon: c.normEpsilon
                ).output
            try probe("\(l).attention.norm.output", StepTensor(layer.attentionNorm, [rows, width]))

            let query = bf16(linear(layer.attentionNorm, "\(l).attention.query", rows, width, queryWidth))
            try probe("\(l).attention.query.output", StepTensor(query, [rows, queryWidth]))
            var key: [BFloat16] = []
            if c.hasKeyValue(layer: index) {
                key = bf16(linear(layer.attentionNorm, "\(l).attention.key", rows, width, keyWidth))
                try probe("\(l).attention.key.output", StepTensor(key, [rows, keyWidth]))
                let value = bf16(linear(layer.attentionNorm, "\(l).attention.value", rows, width, keyWidth))
                try probe("\(l).attention.value.output", StepTensor(value, [rows, keyWidth]))
                layer.value = headsFirst(value, sequences: sequences, heads: c.keyValueHeads)
            }
            let queryRotated = rotated(query, batch, heads: c.heads)
            try probe("\(l).attention.query.rotated", StepTensor(queryRotated, [rows, queryWidth]))
            layer.query = headsFirst(queryRotated, sequences: sequences, heads: c.heads)
            if c.hasKeyValue(layer: index) {
                let keyRotated = rotated(key, batch, heads: c.keyValueHeads)
                try probe("\(l).attention.key.rotated", StepTensor(keyRotated, [rows, keyWidth]))
                layer.key = headsFirst(keyRotated, sequences: sequences, heads: c.keyValueHeads)
            }
            let source = c.keyValueSource(layer: index)
            let (sourceKey, sourceValue) =
                source == index ? (layer.key, layer.value) : (pass.layers[source].key, pass.layers[source].value)
            layer.attention = try named("\(l).attention") {
                try Attention.forward(
                    query: layer.query, key: sourceKey, value: sourceValue, shape: attentionShape(sequences),
                    visibility: pass.visibility[index], scale: attentionScale, recipe: c.dot, arithmetic: arithmetic)
            }
            let rowShape = [sequences, c.heads, length]
            try probe("\(l).attention.max", StepTensor(layer.attention.maximum, rowShape))
            try probe("\(l).attention.sum", StepTensor(layer.attention.sum, rowShape))
            try probe("\(l).attention.z", StepTensor(layer.attention.z, rowShape))
            layer.context = rowsFirst(layer.attention.output, sequences: sequences, heads: c.heads)
            try probe("\(l).attention.context", StepTensor(layer.context, [rows, queryWidth]))
            stream = Residual.add(stream, linear(layer.context, "\(l).attention.output", rows, queryWidth, width))
            try probe("\(l).attention.residual", StepTensor(stream, [rows, width]))
            layer.middle = stream

            // Feed-forward
            layer.mlpNorm =
                RMSNorm.forward(
                    stream, gain: weight("\(l).mlp.norm"), rows: rows, width: width, epsilon: c.normEpsilon
                ).output
            try probe("\(l).mlp.norm.output", StepTensor(layer.mlpNorm, [rows, width]))
            layer.up = bf16(linear(layer.mlpNorm, "\(l).mlp.up", rows, width, feedForward))
            try probe("\(l).mlp.up.output", StepTensor(layer.up, [rows, feedForward]))
            let squared = ReLUSquared.forward(layer.up)
            switch c.clamp {
            case .none:
                layer.activation = bf16(squared)
            case .dynamic, .static:
                try named("\(l).mlp") {
                    layer.limit =
                        c.clamp == .static
                        ? (SoftFloat32.isZero(c.clampLimit) ? 0 : c.clampLimit)  // C1: -0 is +0
                        : try Clamp.dynamicLimit(
                            weights: weight("\(l).mlp.up"), fanIn: width, columns: feedForward, kappa: c.clampKappa,
                            activation: .relu2)
                }
                try probe("\(l).mlp.limit", StepTensor([layer.limit], [1]))
                let clamped = try named("\(l).mlp") {
                    try Clamp.forward(squared, limit: layer.limit, activation: .relu2, int8: c.int8)
                }
                if c.int8 { try probe("\(l).mlp.codes", StepTensor(clamped.codes, [rows, feedForward])) }
                layer.activation = bf16(clamped.dequantised)
                layer.clampReport = clamped.report
            }
            try probe("\(l).mlp.activation", StepTensor(layer.activation, [rows, feedForward]))
            stream = Residual.add(stream, linear(layer.activation, "\(l).mlp.down", rows, feedForward, width))
            try probe("\(l).mlp.residual", StepTensor(stream, [rows, width]))
            pass.layers.append(layer)
        }

        // Output and loss
        pass.output = stream
        pass.norm =
            RMSNorm.forward(stream, gain: weight("norm"), rows: rows, width: width, epsilon: c.normEpsilon).output
        try probe("norm.output", StepTensor(pass.norm, [rows, width]))
        pass.logits = Linear.forwardTransposed(
            pass.norm, weight: weight("embedding"), rows: rows, inputs: width, outputs: c.vocabulary, recipe: c.dot,
            arithmetic: arithmetic)
        try probe("logits", StepTensor(pass.logits, [rows, c.vocabulary]))
        switch batch.targets {
        case .tokens(let targets):
            let forward = try named("loss") {
                try CrossEntropy.forward(
                    logits: pass.logits, targets: targets, rows: rows, vocabulary: c.vocabulary)
            }
            try probe("loss.max", StepTensor(forward.maximum, [rows]))
            try probe("loss.sum", StepTensor(forward.sum, [rows]))
            try probe("loss.z", StepTensor(forward.z, [rows]))
            pass.crossEntropy = forward
        case .sparse(let ids, let weights):
            let forward = try named("loss") {
                try SparseCrossEntropy.forward(
                    logits: pass.logits, ids: ids, weights: weights, rows: rows, vocabulary: c.vocabulary,
                    k: c.distillationK)
            }
            try probe("loss.max", StepTensor(forward.maximum, [rows]))
            try probe("loss.sum", StepTensor(forward.sum, [rows]))
            try probe("loss.z", StepTensor(forward.z, [rows]))
            pass.sparseCrossEntropy = forward
        }
        try probe("loss", StepTensor([pass.loss], [1]))
        return pass
    }

    // MARK: - Backward

    /// The gradients of the mean loss, in the order of the parameters, fp32.
    ///
    /// - Throws: what `probe` throws.
    public func backward(_ pass: Activations, probe: Probe = { _, _ in }) throws -> [[Float]] {
        let c = configuration
        let (length, width, feedForward) = (c.sequenceLength, c.width, c.feedForwardWidth)
        let (sequences, rows) = (pass.sequences, pass.sequences * c.sequenceLength)
        var gradients = [[Float]](repeating: [], count: weights.count)
        func finish(_ name: String, _ gradient: [Float]) throws {
            let index = indices[name]!
            gradients[index] = gradient
            try probe("gradient.\(name)", StepTensor(gradient, c.parameters[index].shape))
        }

        // Output and loss
        let logitsGradient: [BFloat16] =
            switch pass.batch.targets {
            case .tokens(let targets):
                CrossEntropy.gradient(
                    logits: pass.logits, forward: pass.crossEntropy!, targets: targets, rows: rows,
                    vocabulary: c.vocabulary, zregC: c.outputZRegC)
            case .sparse(let ids, let weights):
                SparseCrossEntropy.gradient(
                    logits: pass.logits, forward: pass.sparseCrossEntropy!, ids: ids, weights: weights, rows: rows,
                    vocabulary: c.vocabulary, k: c.distillationK, zregC: c.outputZRegC)
            }
        try probe("logits.gradient", StepTensor(logitsGradient, [rows, c.vocabulary]))
        // The logits are norm.output times the embedding's transpose: their input gradient is a plain product with it.
        let normGradient = bf16(
            Linear.forward(
                logitsGradient, weight: weight("embedding"), rows: rows, inputs: c.vocabulary, outputs: width,
                recipe: c.dot, arithmetic: arithmetic))
        try probe("norm.output.gradient", StepTensor(normGradient, [rows, width]))
        let embeddingOutputGradient = weightGradient(logitsGradient, pass.norm, sequences, c.vocabulary, width)
        try probe("embedding.output_gradient", StepTensor(embeddingOutputGradient, [c.vocabulary, width]))
        let output = RMSNorm.backward(
            outputGradient: normGradient, x: pass.output, gain: weight("norm"), rows: rows, width: width,
            epsilon: c.normEpsilon)
        try finish("norm", output.gain)
        var stream = bf16(output.input)
        try probe("stream.gradient", StepTensor(stream, [rows, width]))

        // The fp32 sums of what every layer that used a layer's keys and values found, [B, G, T, D].
        var keyTotals = [[Float]?](repeating: nil, count: c.layers)
        var valueTotals = [[Float]?](repeating: nil, count: c.layers)
        for index in (0..<c.layers).reversed() {
            let l = "layers.\(index)"
            let layer = pass.layers[index]

            // Feed-forward
            try finish("\(l).mlp.down", weightGradient(layer.activation, stream, sequences, feedForward, width))
            var activationGradient = inputGradient(stream, "\(l).mlp.down", rows, feedForward, width)
            if c.clamp != .none {
                activationGradient = Clamp.backward(
                    y: ReLUSquared.forward(layer.up), dy: activationGradient, limit: layer.limit, activation: .relu2,
                    gradient: c.clampGradient)
            }
            let upGradient = bf16(ReLUSquared.backward(u: layer.up, dy: activationGradient))
            try probe("\(l).mlp.up.gradient", StepTensor(upGradient, [rows, feedForward]))
            try finish("\(l).mlp.up", weightGradient(layer.mlpNorm, upGradient, sequences, width, feedForward))
            let mlpNormGradient = bf16(inputGradient(upGradient, "\(l).mlp.up", rows, width, feedForward))
            try probe("\(l).mlp.norm.output.gradient", StepTensor(mlpNormGradient, [rows, width]))
            let mlpNorm = RMSNorm.backward(
                outputGradient: mlpNormGradient, x: layer.middle, gain: weight("\(l).mlp.norm"), rows: rows,
                width: width, epsilon: c.normEpsilon)
            try finish("\(l).mlp.norm", mlpNorm.gain)
            stream = Residual.add(stream, mlpNorm.input)
            try probe("\(l).mlp.stream.gradient", StepTensor(stream, [rows, width]))

            // Attention
            try finish("\(l).attention.output", weightGradient(layer.context, stream, sequences, queryWidth, width))
            let contextGradient = bf16(inputGradient(stream, "\(l).attention.output", rows, queryWidth, width))
            try probe("\(l).attention.context.gradient", StepTensor(contextGradient, [rows, queryWidth]))
            let source = c.keyValueSource(layer: index)
            let attention = try named("\(l).attention") {
                try Attention.backward(
                    query: layer.query, key: pass.layers[source].key, value: pass.layers[source].value,
                    outputGradient: headsFirst(contextGradient, sequences: sequences, heads: c.heads),
                    forward: layer.attention, shape: attentionShape(sequences), visibility: pass.visibility[index],
                    scale: attentionScale, recipe: c.dot, zregC: c.zregC, form: c.zregForm, arithmetic: arithmetic)
            }
            let queryRotatedGradient = rowsFirst(attention.query, sequences: sequences, heads: c.heads)
            try probe("\(l).attention.query.rotated.gradient", StepTensor(queryRotatedGradient, [rows, queryWidth]))
            try probe(
                "\(l).attention.key.rotated.gradient",
                StepTensor(
                    rowsFirst(attention.key, sequences: sequences, heads: c.keyValueHeads), [rows, keyWidth]))
            try probe(
                "\(l).attention.value.gradient",
                StepTensor(
                    rowsFirst(attention.value, sequences: sequences, heads: c.keyValueHeads), [rows, keyWidth]))
            keyTotals[source] = sum(keyTotals[source], attention.key)
            valueTotals[source] = sum(valueTotals[source], attention.value)

            let queryGradient = rotatedBack(queryRotatedGradient, pass.batch, heads: c.heads)
            try probe("\(l).attention.query.gradient", StepTensor(queryGradient, [rows, queryWidth]))
            var parts = [(dy: queryGradient, weight: weight("\(l).attention.query"), outputs: queryWidth)]
            var keyGradient: [BFloat16] = []
            var valueGradient: [BFloat16] = []
            if c.hasKeyValue(layer: index) {
                let keyTotal = rowsFirst(bf16(keyTotals[index]!), sequences: sequences, heads: c.keyValueHeads)
                try probe("\(l).attention.key.total_gradient", StepTensor(keyTotal, [rows, keyWidth]))
                keyGradient = rotatedBack(keyTotal, pass.batch, heads: c.keyValueHeads)
                try probe("\(l).attention.key.gradient", StepTensor(keyGradient, [rows, keyWidth]))
                valueGradient = rowsFirst(bf16(valueTotals[index]!), sequences: sequences, heads: c.keyValueHeads)
                try probe("\(l).attention.value.total_gradient", StepTensor(valueGradient, [rows, keyWidth]))
                parts.append((keyGradient, weight("\(l).attention.key"), keyWidth))
                parts.append((valueGradient, weight("\(l).attention.value"), keyWidth))
            }
            try finish(
                "\(l).attention.query",
                weightGradient(layer.attentionNorm, queryGradient, sequences, width, queryWidth))
            if c.hasKeyValue(layer: index) {
                try finish(
                    "\(l).attention.key", weightGradient(layer.attentionNorm, keyGradient, sequences, width, keyWidth))
                try finish(
                    "\(l).attention.value",
                    weightGradient(layer.attentionNorm, valueGradient, sequences, width, keyWidth))
            }
            let attentionNormGradient = bf16(
                Linear.inputGradient(
                    parts: parts, rows: rows, inputs: width, recipe: c.dot, arithmetic: arithmetic))
            try probe("\(l).attention.norm.output.gradient", StepTensor(attentionNormGradient, [rows, width]))
            let attentionNorm = RMSNorm.backward(
                outputGradient: attentionNormGradient, x: layer.input, gain: weight("\(l).attention.norm"), rows: rows,
                width: width, epsilon: c.normEpsilon)
            try finish("\(l).attention.norm", attentionNorm.gain)
            stream = Residual.add(stream, attentionNorm.input)
            try probe("\(l).attention.stream.gradient", StepTensor(stream, [rows, width]))
        }

        // The tied embedding: the output's gradient first (T2).
        let embeddingInputGradient = Embedding.backward(
            tokens: pass.batch.tokens, dy: stream, vocabulary: c.vocabulary, width: width)
        var embeddingGradient: [Float] = []
        for element in embeddingOutputGradient.indices {
            embeddingGradient.append(
                SoftFloat32.add(embeddingOutputGradient[element], embeddingInputGradient[element]))  // T2
        }
        try finish("embedding", embeddingGradient)
        precondition(length > 0)
        return gradients
    }

    // MARK: - Pieces

    /// H D
    private var queryWidth: Int { configuration.heads * configuration.headDimension }
    /// G D
    private var keyWidth: Int { configuration.keyValueHeads * configuration.headDimension }
    /// The scale of the logits: rsqrt(D) (T2).
    private var attentionScale: Float {
        CorrectlyRounded.rsqrt(SoftFloat32.convert(UInt64(configuration.headDimension)))
    }

    private func attentionShape(_ sequences: Int) -> Attention.Shape {
        Attention.Shape(
            batch: sequences, heads: configuration.heads, keyValueHeads: configuration.keyValueHeads,
            queries: configuration.sequenceLength, keys: configuration.sequenceLength,
            headDimension: configuration.headDimension)
    }

    private func linear(_ x: [BFloat16], _ name: String, _ rows: Int, _ inputs: Int, _ outputs: Int) -> [Float] {
        Linear.forward(
            x, weight: weight(name), rows: rows, inputs: inputs, outputs: outputs, recipe: configuration.dot,
            arithmetic: arithmetic)
    }

    private func inputGradient(_ dy: [BFloat16], _ name: String, _ rows: Int, _ inputs: Int, _ outputs: Int) -> [Float]
    {
        Linear.inputGradient(
            dy, weight: weight(name), rows: rows, inputs: inputs, outputs: outputs, recipe: configuration.dot,
            arithmetic: arithmetic)
    }

    /// [inputs, outputs] from x [N, inputs] and dy [N, outputs].
    private func weightGradient(
        _ x: [BFloat16], _ dy: [BFloat16], _ sequences: Int, _ inputs: Int, _ outputs: Int
    ) -> [Float] {
        Linear.weightGradient(
            x: x, dy: dy, batch: sequences, tokens: configuration.sequenceLength, inputs: inputs, outputs: outputs,
            recipe: configuration.dot, arithmetic: arithmetic)
    }

    private func rotated(_ x: [BFloat16], _ batch: TrainingBatch, heads: Int) -> [BFloat16] {
        Rotary.forward(
            x, positions: batch.positions, heads: heads, headDimension: configuration.headDimension,
            base: configuration.rotaryBase)
    }

    private func rotatedBack(_ dy: [BFloat16], _ batch: TrainingBatch, heads: Int) -> [BFloat16] {
        Rotary.backward(
            dy, positions: batch.positions, heads: heads, headDimension: configuration.headDimension,
            base: configuration.rotaryBase)
    }

    /// The total so far plus one more layer's contribution, in fp32 (T2).
    private func sum(_ total: [Float]?, _ contribution: [BFloat16]) -> [Float] {
        let contribution = contribution.map { SoftFloat32.convert(bfloat16Bits: $0.bitPattern) }
        guard var total else { return contribution }
        for index in total.indices { total[index] = SoftFloat32.add(total[index], contribution[index]) }  // T2
        return total
    }

    /// [N, heads D] as [B, heads, T, D]: nothing is computed.
    private func headsFirst(_ x: [BFloat16], sequences: Int, heads: Int) -> [BFloat16] {
        let (length, dimension) = (configuration.sequenceLength, configuration.headDimension)
        var result: [BFloat16] = []
        result.reserveCapacity(x.count)
        for b in 0..<sequences {
            for h in 0..<heads {
                for i in 0..<length {
                    let start = ((b * length + i) * heads + h) * dimension
                    result += x[start..<start + dimension]
                }
            }
        }
        return result
    }

    /// [B, heads, T, D] as [N, heads D]: nothing is computed.
    private func rowsFirst(_ x: [BFloat16], sequences: Int, heads: Int) -> [BFloat16] {
        let (length, dimension) = (configuration.sequenceLength, configuration.headDimension)
        var result: [BFloat16] = []
        result.reserveCapacity(x.count)
        for b in 0..<sequences {
            for i in 0..<length {
                for h in 0..<heads {
                    let start = ((b * heads + h) * length + i) * dimension
                    result += x[start..<start + dimension]
                }
            }
        }
        return result
    }

    /// An operation's own error under the operation's name.
    private func named<Result>(_ name: String, _ body: () throws -> Result) throws(TrainingError) -> Result {
        do { return try body() } catch { throw .operation(name: name, error) }
    }
}

/// RNE to bf16 (F4).
func bf16(_ x: Float) -> BFloat16 { BFloat16(bitPattern: SoftFloat32.roundToBFloat16(x)) }

/// RNE to bf16, each element (F4).
func bf16(_ x: [Float]) -> [BFloat16] {
    var rounded: [BFloat16] = []
    rounded.reserveCapacity(x.count)
    for value in x { rounded.append(bf16(value)) }
    return rounded
}
