import Kernels
import ModelSpec
import Platform

/// The model on the engine: its memory, laid out once, and its forward and backward pass in the order of T2.
final class Model: @unchecked Sendable {
    let configuration: ModelConfiguration
    let context: EngineContext
    let parameters: [ModelConfiguration.Parameter]
    let layers: Layers
    private let block: MemoryBlock
    let buffers: Buffers
    private let frequencies: [Float]
    let scale: Float
    private let masks: [MaskBits]
    /// Which of `masks` a layer uses.
    private let maskOfLayer: [Int]
    /// Whether a signal ends a pass between two operations; not where other processes wait for this one.
    private let isInterruptible: Bool
    private let parameterIndex: [String: Int]
    let layerParameters: [LayerParameters]

    /// Where a layer's parameters stand in the list.
    struct LayerParameters {
        let attentionNorm: Int
        let query: Int
        /// nil where the layer uses another's.
        let key: Int?
        let value: Int?
        let output: Int
        let mlpNorm: Int
        let up: Int
        let down: Int
    }

    /// Everything that lasts from step to step or from pass to pass.
    struct Buffers {
        struct Parameter {
            let weight: UnsafeMutablePointer<Float>
            let first: UnsafeMutablePointer<Float>
            let second: UnsafeMutablePointer<Float>
            /// bf16 of the weight (T2).
            let rounded: UnsafeMutablePointer<UInt16>
            /// Of every rank that this process computes, [W, count].
            let gradients: UnsafeMutablePointer<Float>
            /// The combined gradient: that of the one rank, or the all-reduce's result.
            let combined: UnsafeMutablePointer<Float>
            /// [W, count] with error feedback, and what they become.
            let residual: UnsafeMutablePointer<Float>?
            let nextResidual: UnsafeMutablePointer<Float>?
        }

        struct Layer {
            let input: UnsafeMutablePointer<UInt16>
            let attentionNorm: UnsafeMutablePointer<UInt16>
            let attentionInverse: UnsafeMutablePointer<Float>
            let query: UnsafeMutablePointer<UInt16>
            let key: UnsafeMutablePointer<UInt16>
            let value: UnsafeMutablePointer<UInt16>
            let statistics: AttentionPass.Statistics
            let context: UnsafeMutablePointer<UInt16>
            let middle: UnsafeMutablePointer<UInt16>
            let mlpNorm: UnsafeMutablePointer<UInt16>
            let mlpInverse: UnsafeMutablePointer<Float>
            let up: UnsafeMutablePointer<UInt16>
            let activation: UnsafeMutablePointer<UInt16>
            /// Sums over the layers that share this one's keys and values; nil where only itself uses them.
            let keyTotal: UnsafeMutablePointer<Float>?
            let valueTotal: UnsafeMutablePointer<Float>?
        }

        let parameters: [Parameter]
        let layers: [Layer]
        let output: UnsafeMutablePointer<UInt16>
        let norm: UnsafeMutablePointer<UInt16>
        let inverse: UnsafeMutablePointer<Float>
        let logits: UnsafeMutablePointer<Float>
        let loss: AttentionPass.Statistics
        let losses: UnsafeMutablePointer<Float>
        let cosine: UnsafeMutablePointer<Float>
        let sine: UnsafeMutablePointer<Float>
        /// Of positions 0 ..< T.
        let cosineTable: UnsafeMutablePointer<Float>
        let sineTable: UnsafeMutablePointer<Float>
        let codes: UnsafeMutablePointer<Int8>?
        let logitsGradient: UnsafeMutablePointer<UInt16>
        /// Two gradients of the stream's width: the stream's own and a branch's.
        let stream: UnsafeMutablePointer<UInt16>
        let branch: UnsafeMutablePointer<UInt16>
        let upGradient: UnsafeMutablePointer<UInt16>
        let contextGradient: UnsafeMutablePointer<UInt16>
        let queryGradient: UnsafeMutablePointer<UInt16>
        let keyGradient: UnsafeMutablePointer<UInt16>
        let valueGradient: UnsafeMutablePointer<UInt16>
        let keyTotal: UnsafeMutablePointer<UInt16>
        let valueTotal: UnsafeMutablePointer<UInt16>
        let embeddingOutputGradient: UnsafeMutablePointer<Float>
        let sums: UnsafeMutablePointer<Float>
        let largest: UnsafeMutablePointer<Float>
        let counts: UnsafeMutablePointer<ClampCounts>
        let encoded: UnsafeMutablePointer<UInt8>
        let reduced: UnsafeMutablePointer<UInt8>
        /// Of several processes: this rank's gradients as the owners of the shards get them, then the means of all shards.
        let outgoing: UnsafeMutablePointer<UInt8>
        /// All ranks' contributions to this one's shard.
        let incoming: UnsafeMutablePointer<UInt8>
        /// A whole batch, of all ranks.
        let tokens: UnsafeMutablePointer<Int32>
        let positions: UnsafeMutablePointer<Int32>
        let start: UnsafeMutablePointer<Int32>
        let limit: UnsafeMutablePointer<Int32>
        let targets: UnsafeMutablePointer<Int32>
        let targetIDs: UnsafeMutablePointer<UInt32>
        let targetWeights: UnsafeMutablePointer<Float>

        /// - Parameter rank: the rank that this process computes, if there are others; nil for all of them.
        init(_ c: ModelConfiguration, threads: Int, rank: Int?, _ plan: inout MemoryPlan) {
            let ranks = rank == nil ? c.ranks : 1
            let sequences = Model.largestShare(c)
            let rows = sequences * c.sequenceLength
            let (hd, gd) = (c.heads * c.headDimension, c.keyValueHeads * c.headDimension)
            func statistics(_ n: Int) -> AttentionPass.Statistics {
                AttentionPass.Statistics(maximum: plan.floats(n), sum: plan.floats(n), z: plan.floats(n))
            }
            let combines = c.ranks > 1 || c.compression != .none
            let hasResidual = c.compression == .squinch && c.errorFeedback
            var (largestParameter, blocks4096) = (0, 0)
            var parameterList: [Parameter] = []
            for parameter in c.parameters {
                let n = parameter.count
                largestParameter = max(largestParameter, n)
                blocks4096 += (n + 4095) / 4096
                let gradients = plan.floats(ranks * n)
                parameterList.append(
                    Parameter(
                        weight: plan.floats(n), first: plan.floats(n), second: plan.floats(n), rounded: plan.bf16(n),
                        gradients: gradients, combined: combines ? plan.floats(n) : gradients,
                        residual: hasResidual ? plan.floats(ranks * n) : nil,
                        nextResidual: hasResidual ? plan.floats(ranks * n) : nil))
            }
            parameters = parameterList
            var layerList: [Layer] = []
            for index in 0..<c.layers {
                let hasKeyValue = c.hasKeyValue(layer: index)
                let users = (0..<c.layers).count { c.keyValueSource(layer: $0) == index }
                layerList.append(
                    Layer(
                        input: plan.bf16(rows * c.width), attentionNorm: plan.bf16(rows * c.width),
                        attentionInverse: plan.floats(rows), query: plan.bf16(rows * hd),
                        key: plan.bf16(hasKeyValue ? rows * gd : 0), value: plan.bf16(hasKeyValue ? rows * gd : 0),
                        statistics: statistics(rows * c.heads), context: plan.bf16(rows * hd),
                        middle: plan.bf16(rows * c.width), mlpNorm: plan.bf16(rows * c.width),
                        mlpInverse: plan.floats(rows), up: plan.bf16(rows * c.feedForwardWidth),
                        activation: plan.bf16(rows * c.feedForwardWidth),
                        keyTotal: users > 1 ? plan.floats(rows * gd) : nil,
                        valueTotal: users > 1 ? plan.floats(rows * gd) : nil))
            }
            layers = layerList
            output = plan.bf16(rows * c.width)
            norm = plan.bf16(rows * c.width)
            inverse = plan.floats(rows)
            logits = plan.floats(rows * c.vocabulary)
            loss = statistics(rows)
            losses = plan.floats(rows)
            cosine = plan.floats(rows * c.headDimension / 2)
            sine = plan.floats(rows * c.headDimension / 2)
            cosineTable = plan.floats(c.sequenceLength * c.headDimension / 2)
            sineTable = plan.floats(c.sequenceLength * c.headDimension / 2)
            codes = c.int8 ? plan.take(Int8.self, rows * c.feedForwardWidth) : nil
            logitsGradient = plan.bf16(rows * c.vocabulary)
            stream = plan.bf16(rows * c.width)
            branch = plan.bf16(rows * c.width)
            upGradient = plan.bf16(rows * c.feedForwardWidth)
            contextGradient = plan.bf16(rows * hd)
            queryGradient = plan.bf16(rows * hd)
            keyGradient = plan.bf16(rows * gd)
            valueGradient = plan.bf16(rows * gd)
            keyTotal = plan.bf16(rows * gd)
            valueTotal = plan.bf16(rows * gd)
            embeddingOutputGradient = plan.floats(c.vocabulary * c.width)
            sums = plan.floats(max(blocks4096, rows / 4096 + 1))
            largest = plan.floats(c.layers * threads)
            counts = plan.take(ClampCounts.self, c.layers * threads)
            let blocks = c.compression == .squinch ? 6 * ((largestParameter + 7) / 8) : 0
            encoded = plan.take(UInt8.self, ranks * blocks)
            reduced = plan.take(UInt8.self, blocks)
            let shards = rank == nil ? nil : GradientShards(c)
            outgoing = plan.take(UInt8.self, shards?.bytes ?? 0)
            incoming = plan.take(UInt8.self, c.ranks * (shards?.parts[rank ?? 0].count ?? 0))
            let all = c.batch * c.sequenceLength
            tokens = plan.take(Int32.self, all)
            positions = plan.take(Int32.self, all)
            start = plan.take(Int32.self, all)
            limit = plan.take(Int32.self, all)
            targets = plan.take(Int32.self, all)
            targetIDs = plan.take(UInt32.self, all * c.distillationK)
            targetWeights = plan.floats(all * c.distillationK)
        }
    }

    /// The sequences of a rank (T5).
    static func sequences(_ c: ModelConfiguration, rank: Int) -> Range<Int> {
        rank * c.batch / c.ranks..<(rank + 1) * c.batch / c.ranks
    }

    /// The most sequences that a rank has.
    static func largestShare(_ c: ModelConfiguration) -> Int {
        var largest = 0
        for rank in 0..<c.ranks { largest = max(largest, sequences(c, rank: rank).count) }
        return largest
    }

    /// Bytes that a model of this configuration takes.
    static func bytes(_ c: ModelConfiguration, threads: Int, rank: Int?) -> Int {
        var plan = MemoryPlan()
        _ = Buffers(c, threads: threads, rank: rank, &plan)
        let sequences = largestShare(c)
        let windows = Set((0..<c.layers).map { c.window(layer: $0) ?? 0 }).count
        return plan.bytes + windows * sequences * c.sequenceLength * ((c.sequenceLength + 15) / 16) * 2
    }

    init(_ c: ModelConfiguration, _ context: EngineContext, rank: Int?) {
        configuration = c
        self.context = context
        layers = Layers(context)
        parameters = c.parameters
        isInterruptible = rank == nil
        var count = MemoryPlan()
        _ = Buffers(c, threads: context.pool.count, rank: rank, &count)
        block = MemoryBlock(bytes: count.bytes)
        var plan = MemoryPlan(block.base)
        buffers = Buffers(c, threads: context.pool.count, rank: rank, &plan)
        frequencies = (0..<c.headDimension / 2).map {
            ScalarMath.rotaryFrequency(base: c.rotaryBase, pair: $0, dimension: c.headDimension)
        }
        scale = ScalarMath.rsqrt(Float(c.headDimension))
        let sequences = Model.largestShare(c)
        var windows: [Int?] = []
        var maskOfLayer: [Int] = []
        for layer in 0..<c.layers {
            let window = c.window(layer: layer)
            if let known = windows.firstIndex(of: window) {
                maskOfLayer.append(known)
            } else {
                maskOfLayer.append(windows.count)
                windows.append(window)
            }
        }
        self.maskOfLayer = maskOfLayer
        masks = windows.map { _ in MaskBits(batch: sequences, queries: c.sequenceLength, keys: c.sequenceLength) }
        var indices: [String: Int] = [:]
        for (index, parameter) in parameters.enumerated() { indices[parameter.name] = index }
        parameterIndex = indices
        layerParameters = (0..<c.layers).map { layer in
            let l = "layers.\(layer)"
            return LayerParameters(
                attentionNorm: indices["\(l).attention.norm"]!, query: indices["\(l).attention.query"]!,
                key: indices["\(l).attention.key"], value: indices["\(l).attention.value"],
                output: indices["\(l).attention.output"]!, mlpNorm: indices["\(l).mlp.norm"]!,
                up: indices["\(l).mlp.up"]!, down: indices["\(l).mlp.down"]!)
        }
        let half = c.headDimension / 2
        for position in 0..<c.sequenceLength {
            for i in 0..<half {
                let angle = ScalarMath.rotation(position: position, frequency: frequencies[i])
                buffers.cosineTable[position * half + i] = angle.cosine
                buffers.sineTable[position * half + i] = angle.sine
            }
        }
    }

    /// bf16 of every weight (T2), after weights were set from outside.
    func roundWeights() {
        for (index, parameter) in parameters.enumerated() {
            let p = buffers.parameters[index]
            context.parallel(parameter.count, unit: 16) { part in
                context.kernels.rows.round(
                    p.weight + part.lowerBound, p.rounded + part.lowerBound, part.count)
            }
        }
    }

    // MARK: - One rank's pass

    /// Takes a batch over, whose sizes were checked.
    func load(_ batch: TrainingBatch) {
        func copy<Element>(_ list: [Element], _ target: UnsafeMutablePointer<Element>) {
            list.withUnsafeBufferPointer { source in
                if let first = source.baseAddress { target.update(from: first, count: source.count) }
            }
        }
        copy(batch.tokens, buffers.tokens)
        copy(batch.positions, buffers.positions)
        copy(batch.visibilityStart, buffers.start)
        copy(batch.visibilityLimit, buffers.limit)
        switch batch.targets {
        case .tokens(let targets): copy(targets, buffers.targets)
        case .sparse(let ids, let weights):
            copy(ids, buffers.targetIDs)
            copy(weights, buffers.targetWeights)
        }
    }

    /// Sequences of the batch that was loaded.
    func batch(_ range: Range<Int>) -> Batch {
        let c = configuration
        let at = range.lowerBound * c.sequenceLength
        let targets: Targets =
            c.distillationK == 0
            ? .tokens(buffers.targets + at)
            : .sparse(
                ids: buffers.targetIDs + at * c.distillationK, weights: buffers.targetWeights + at * c.distillationK)
        return Batch(
            sequences: range.count, tokens: buffers.tokens + at, positions: buffers.positions + at,
            start: buffers.start + at, limit: buffers.limit + at, targets: targets)
    }

    /// The batch's tensors by address.
    struct Batch {
        let sequences: Int
        let tokens: UnsafePointer<Int32>
        let positions: UnsafePointer<Int32>
        let start: UnsafePointer<Int32>
        let limit: UnsafePointer<Int32>
        let targets: Targets
    }

    enum Targets {
        case tokens(UnsafePointer<Int32>)
        case sparse(ids: UnsafePointer<UInt32>, weights: UnsafePointer<Float>)
    }

    /// What a pass reports.
    struct Report {
        var loss: Float = 0
        var targetCount = 0
        /// One for each layer that has a clamp.
        var limits: [Float] = []
    }

    /// |Z| of each layer's rows and what its clamp moved, of the pass that ran last (Z5, C5).
    func diagnostics(sequences: Int) -> [LayerDiagnostics] {
        let c = configuration
        return (0..<c.layers).map { index in
            let statistics = buffers.layers[index].statistics
            var layer = LayerDiagnostics()
            var (sum, squares) = (0.0, 0.0)
            for row in 0..<sequences * c.heads * c.sequenceLength where statistics.sum[row] != 0 {
                let magnitude = Double(statistics.z[row].magnitude)
                layer.rows += 1
                sum += magnitude
                squares += magnitude * magnitude
                if !(magnitude <= layer.largest) && !layer.largest.isNaN { layer.largest = magnitude }
            }
            if layer.rows > 0 {
                layer.mean = sum / Double(layer.rows)
                layer.rootMeanSquare = (squares / Double(layer.rows)).squareRoot()
            }
            var logit: Float = 0
            for thread in 0..<context.pool.count {
                let x = buffers.largest[index * context.pool.count + thread]
                if !(x <= logit) && !logit.isNaN { logit = x }
                let counts = buffers.counts[index * context.pool.count + thread]
                layer.clamp.above += counts.above
                layer.clamp.zeroCodes += counts.zeroCodes
                layer.clamp.notANumber += counts.notANumber
            }
            layer.spacing = logit.isFinite ? max(Double(logit).binade * 0x1p-7, 0x1p-133) : .nan
            layer.clampedValues = c.clamp == .none ? 0 : sequences * c.sequenceLength * c.feedForwardWidth
            return layer
        }
    }

    func weight(_ index: Int) -> UnsafePointer<UInt16> { UnsafePointer(buffers.parameters[index].rounded) }

    private func attention(_ sequences: Int) -> AttentionPass {
        let c = configuration
        return AttentionPass(
            batch: sequences, heads: c.heads, keyValueHeads: c.keyValueHeads, queries: c.sequenceLength,
            keys: c.sequenceLength, dimension: c.headDimension, scale: scale, recipe: c.dot)
    }

    private var queryLayout: AttentionPass.Layout {
        .rowsFirst(
            heads: configuration.heads, rows: configuration.sequenceLength, dimension: configuration.headDimension)
    }

    private var keyLayout: AttentionPass.Layout {
        .rowsFirst(
            heads: configuration.keyValueHeads, rows: configuration.sequenceLength,
            dimension: configuration.headDimension)
    }

    func clamp(_ limit: Float) -> FeedForwardClamp {
        let c = configuration
        return FeedForwardClamp(
            kind: c.clamp == .none ? .none : c.int8 ? .int8 : .clamp, limit: limit,
            codeScale: limit == 0 ? 0 : 127 / limit, step: limit * ScalarMath.reciprocal(of: 127),
            isInward: c.clampGradient == .inward)
    }

    /// L of a layer (C1).
    func limit(_ layer: Int) throws -> Float {
        let c = configuration
        var limit = c.clampLimit
        if c.clamp == .dynamic {
            let index = layerParameters[layer].up
            let n = parameters[index].count
            let squares = layers.sumOfSquaresBF16(weight(index), n, scratch: buffers.sums)
            let root = ScalarMath.sqrt(squares * ScalarMath.reciprocal(of: n))
            limit = (c.clampKappa * root) * Float(c.width).squareRoot()
            limit = limit * limit
        }
        guard limit.isFinite, limit >= 0 else {
            throw EngineError(
                "layers.\(layer).mlp", "the clamp's limit is \(limit), expected a finite number, 0 or more")
        }
        if limit == 0 { limit = 0 }
        if c.int8 && limit != 0 && !(127 / limit).isFinite {
            throw EngineError(
                "layers.\(layer).mlp",
                "the clamp's limit \(limit) is too small for int8: 127 / limit is not finite")
        }
        return limit
    }

    /// - Throws: what `probe` throws, ``EngineError``, and `Interrupted`.
    func forward(_ batch: Batch, probe: EngineProbe?) throws -> Report {
        let c = configuration
        let b = buffers
        let rows = context.kernels.rows
        let (length, width, feedForward) = (c.sequenceLength, c.width, c.feedForwardWidth)
        let n = batch.sequences * length
        let (hd, gd) = (c.heads * c.headDimension, c.keyValueHeads * c.headDimension)
        var report = Report()
        if c.clamp != .none { report.limits.reserveCapacity(c.layers) }
        for (index, mask) in masks.enumerated() {
            let layer = maskOfLayer.firstIndex(of: index)!
            mask.fill(
                orientation: .byKey, start: batch.start, limit: batch.limit, sequences: batch.sequences,
                window: c.window(layer: layer))
        }
        rotaryRows(batch.positions, n)

        var stream = b.layers[0].input
        layers.embed(tokens: batch.tokens, weight: weight(0), rows: n, width: width, output: stream)
        try probe?("embedding.output", EngineTensor(stream, [n, width]))
        for index in 0..<c.layers {
            let layer = b.layers[index]
            let p = layerParameters[index]
            let l = probe == nil ? "" : "layers.\(index)"

            // Attention
            try checkInterruption()
            layers.normalize(
                stream, gain: weight(p.attentionNorm), rows: n, width: width, epsilon: c.normEpsilon,
                output: layer.attentionNorm, inverse: layer.attentionInverse)
            try probe?("\(l).attention.norm.output", EngineTensor(layer.attentionNorm, [n, width]))
            linear(layer.attentionNorm, p.query, n, width, hd, layer.query)
            try probe?("\(l).attention.query.output", EngineTensor(layer.query, [n, hd]))
            if let key = p.key, let value = p.value {
                linear(layer.attentionNorm, key, n, width, gd, layer.key)
                try probe?("\(l).attention.key.output", EngineTensor(layer.key, [n, gd]))
                linear(layer.attentionNorm, value, n, width, gd, layer.value)
                try probe?("\(l).attention.value.output", EngineTensor(layer.value, [n, gd]))
            }
            rotate(layer.query, n, c.heads, backward: false)
            try probe?("\(l).attention.query.rotated", EngineTensor(layer.query, [n, hd]))
            if p.key != nil {
                rotate(layer.key, n, c.keyValueHeads, backward: false)
                try probe?("\(l).attention.key.rotated", EngineTensor(layer.key, [n, gd]))
            }
            let source = b.layers[c.keyValueSource(layer: index)]
            try checkInterruption()
            attention(batch.sequences).forward(
                context, query: layer.query, queryLayout: queryLayout, key: source.key, value: source.value,
                keyLayout: keyLayout, mask: masks[maskOfLayer[index]], output: layer.context,
                outputLayout: queryLayout, statistics: layer.statistics,
                largest: b.largest + index * context.pool.count)
            if let probe {
                let shape = [batch.sequences, c.heads, length]
                try probe("\(l).attention.max", EngineTensor(layer.statistics.maximum, shape))
                try probe("\(l).attention.sum", EngineTensor(layer.statistics.sum, shape))
                try probe("\(l).attention.z", EngineTensor(layer.statistics.z, shape))
                try probe("\(l).attention.context", EngineTensor(layer.context, [n, hd]))
            }
            let (before, middle) = (stream, layer.middle)
            layers.forward(
                layer.context, weight: weight(p.output), rows: n, inputs: hd, outputs: width, recipe: c.dot
            ) { row, column, sums, count, _ in
                rows.finishResidual(sums, before + (row * width + column), middle + (row * width + column), count)
            }
            try probe?("\(l).attention.residual", EngineTensor(middle, [n, width]))

            // Feed-forward
            try checkInterruption()
            layers.normalize(
                middle, gain: weight(p.mlpNorm), rows: n, width: width, epsilon: c.normEpsilon,
                output: layer.mlpNorm, inverse: layer.mlpInverse)
            try probe?("\(l).mlp.norm.output", EngineTensor(layer.mlpNorm, [n, width]))
            var limit: Float = 0
            if c.clamp != .none {
                limit = try self.limit(index)
                report.limits.append(limit)
            }
            let clamp = clamp(limit)
            let counts = b.counts + index * context.pool.count
            for thread in 0..<context.pool.count { counts[thread] = ClampCounts() }
            layers.forward(
                layer.mlpNorm, weight: weight(p.up), rows: n, inputs: width, outputs: feedForward, recipe: c.dot
            ) { row, column, sums, count, thread in
                let at = row * feedForward + column
                rows.feedForward(
                    sums, clamp, layer.up + at, b.codes.map { $0 + at }, layer.activation + at, &counts[thread], count)
            }
            try probe?("\(l).mlp.up.output", EngineTensor(layer.up, [n, feedForward]))
            if let probe, c.clamp != .none {
                try withUnsafePointer(to: limit) { try probe("\(l).mlp.limit", EngineTensor($0, [1])) }
            }
            if let codes = b.codes { try probe?("\(l).mlp.codes", EngineTensor(codes, [n, feedForward])) }
            try probe?("\(l).mlp.activation", EngineTensor(layer.activation, [n, feedForward]))
            let next = index + 1 < c.layers ? b.layers[index + 1].input : b.output
            try checkInterruption()
            layers.forward(
                layer.activation, weight: weight(p.down), rows: n, inputs: feedForward, outputs: width, recipe: c.dot
            ) { row, column, sums, count, _ in
                rows.finishResidual(sums, middle + (row * width + column), next + (row * width + column), count)
            }
            stream = next
            try probe?("\(l).mlp.residual", EngineTensor(stream, [n, width]))
        }

        // Output and loss
        try checkInterruption()
        layers.normalize(
            stream, gain: weight(parameters.count - 1), rows: n, width: width, epsilon: c.normEpsilon, output: b.norm,
            inverse: b.inverse)
        try probe?("norm.output", EngineTensor(b.norm, [n, width]))
        let vocabulary = c.vocabulary
        layers.forwardTransposed(
            b.norm, weight: weight(0), rows: n, inputs: width, outputs: vocabulary, recipe: c.dot
        ) { row, column, sums, count, _ in rows.finish(sums, b.logits + (row * vocabulary + column), count) }
        try probe?("logits", EngineTensor(b.logits, [n, vocabulary]))
        layers.logSumExp(
            b.logits, rows: n, vocabulary: vocabulary, maximum: b.loss.maximum, sum: b.loss.sum, z: b.loss.z)
        switch batch.targets {
        case .tokens(let targets):
            report.targetCount = layers.losses(
                b.logits, targets: targets, rows: n, vocabulary: vocabulary, z: b.loss.z, losses: b.losses)
        case .sparse(let ids, let weights):
            report.targetCount = layers.sparseLosses(
                b.logits, ids: ids, weights: weights, k: c.distillationK, rows: n, vocabulary: vocabulary, z: b.loss.z,
                losses: b.losses)
        }
        report.loss = layers.meanLoss(b.losses, rows: n, count: report.targetCount, scratch: b.sums)
        if let probe {
            try probe("loss.max", EngineTensor(b.loss.maximum, [n]))
            try probe("loss.sum", EngineTensor(b.loss.sum, [n]))
            try probe("loss.z", EngineTensor(b.loss.z, [n]))
            try withUnsafePointer(to: report.loss) { try probe("loss", EngineTensor($0, [1])) }
        }
        return report
    }

    /// The gradients of the mean loss, into row `row` of the parameters' gradients.
    func backward(_ batch: Batch, _ report: Report, row: Int, probe: EngineProbe?) throws {
        let c = configuration
        let b = buffers
        let rows = context.kernels.rows
        let (width, feedForward, vocabulary) = (c.width, c.feedForwardWidth, c.vocabulary)
        let n = batch.sequences * c.sequenceLength
        let (hd, gd) = (c.heads * c.headDimension, c.keyValueHeads * c.headDimension)
        func gradient(_ index: Int) -> UnsafeMutablePointer<Float> {
            b.parameters[index].gradients + row * parameters[index].count
        }
        /// After every gradient of a weight: several times a layer.
        func finish(_ index: Int) throws {
            try checkInterruption()
            try probe?("gradient.\(parameters[index].name)", EngineTensor(gradient(index), parameters[index].shape))
        }
        func weightGradient(
            _ index: Int, _ x: UnsafePointer<UInt16>, _ dy: UnsafePointer<UInt16>, _ inputs: Int, _ outputs: Int
        ) throws {
            layers.weightGradient(
                x, dy: dy, batch: batch.sequences, tokens: c.sequenceLength, inputs: inputs, outputs: outputs,
                recipe: c.dot, into: gradient(index))
            try finish(index)
        }

        // Output and loss
        switch batch.targets {
        case .tokens(let targets):
            layers.lossGradient(
                b.logits, targets: targets, count: report.targetCount, rows: n, vocabulary: vocabulary,
                maximum: b.loss.maximum, sum: b.loss.sum, z: b.loss.z, zregC: c.outputZRegC, output: b.logitsGradient)
        case .sparse(let ids, let weights):
            layers.sparseLossGradient(
                b.logits, ids: ids, weights: weights, k: c.distillationK, count: report.targetCount, rows: n,
                vocabulary: vocabulary, maximum: b.loss.maximum, sum: b.loss.sum, z: b.loss.z, zregC: c.outputZRegC,
                output: b.logitsGradient)
        }
        try probe?("logits.gradient", EngineTensor(b.logitsGradient, [n, vocabulary]))
        layers.forward(
            b.logitsGradient, weight: weight(0), rows: n, inputs: vocabulary, outputs: width, recipe: c.dot
        ) { row, column, sums, count, _ in rows.finishBF16(sums, b.branch + (row * width + column), count) }
        try probe?("norm.output.gradient", EngineTensor(b.branch, [n, width]))
        layers.weightGradient(
            b.logitsGradient, dy: b.norm, batch: batch.sequences, tokens: c.sequenceLength, inputs: vocabulary,
            outputs: width, recipe: c.dot, into: b.embeddingOutputGradient)
        try probe?("embedding.output_gradient", EngineTensor(b.embeddingOutputGradient, [vocabulary, width]))
        let last = parameters.count - 1
        layers.normalizeBackward(
            b.branch, x: b.output, gain: weight(last), inverse: b.inverse, rows: n, width: width, stream: nil,
            output: b.stream, gainGradient: gradient(last))
        try finish(last)
        try probe?("stream.gradient", EngineTensor(b.stream, [n, width]))

        var isTotalBegun = [Bool](repeating: false, count: c.layers)
        for index in (0..<c.layers).reversed() {
            let layer = b.layers[index]
            let p = layerParameters[index]
            let l = probe == nil ? "" : "layers.\(index)"

            // Feed-forward
            try weightGradient(p.down, layer.activation, b.stream, feedForward, width)
            let clamp = clamp(c.clamp == .none ? 0 : report.limits[index])
            layers.inputGradient(
                Layers.InputGradientPart(dy: b.stream, weight: weight(p.down), outputs: width), rows: n,
                inputs: feedForward, recipe: c.dot
            ) { row, column, sums, count, _ in
                let at = row * feedForward + column
                rows.feedForwardBackward(sums, layer.up + at, clamp, b.upGradient + at, count)
            }
            try probe?("\(l).mlp.up.gradient", EngineTensor(b.upGradient, [n, feedForward]))
            try weightGradient(p.up, layer.mlpNorm, b.upGradient, width, feedForward)
            layers.inputGradient(
                Layers.InputGradientPart(dy: b.upGradient, weight: weight(p.up), outputs: feedForward), rows: n,
                inputs: width, recipe: c.dot
            ) { row, column, sums, count, _ in rows.finishBF16(sums, b.branch + (row * width + column), count) }
            try probe?("\(l).mlp.norm.output.gradient", EngineTensor(b.branch, [n, width]))
            layers.normalizeBackward(
                b.branch, x: layer.middle, gain: weight(p.mlpNorm), inverse: layer.mlpInverse, rows: n, width: width,
                stream: UnsafePointer(b.stream), output: b.stream, gainGradient: gradient(p.mlpNorm))
            try finish(p.mlpNorm)
            try probe?("\(l).mlp.stream.gradient", EngineTensor(b.stream, [n, width]))

            // Attention
            try weightGradient(p.output, layer.context, b.stream, hd, width)
            layers.inputGradient(
                Layers.InputGradientPart(dy: b.stream, weight: weight(p.output), outputs: width), rows: n, inputs: hd,
                recipe: c.dot
            ) { row, column, sums, count, _ in rows.finishBF16(sums, b.contextGradient + (row * hd + column), count) }
            try probe?("\(l).attention.context.gradient", EngineTensor(b.contextGradient, [n, hd]))
            let sourceIndex = c.keyValueSource(layer: index)
            let source = b.layers[sourceIndex]
            try checkInterruption()
            attention(batch.sequences).backward(
                context, query: layer.query, queryLayout: queryLayout, key: source.key, value: source.value,
                keyLayout: keyLayout, outputGradient: b.contextGradient, output: layer.context,
                outputLayout: queryLayout, mask: masks[maskOfLayer[index]], statistics: layer.statistics,
                zregC: c.zregC, form: c.zregForm, queryGradient: b.queryGradient, keyGradient: b.keyGradient,
                valueGradient: b.valueGradient)
            try probe?("\(l).attention.query.rotated.gradient", EngineTensor(b.queryGradient, [n, hd]))
            try probe?("\(l).attention.key.rotated.gradient", EngineTensor(b.keyGradient, [n, gd]))
            try probe?("\(l).attention.value.gradient", EngineTensor(b.valueGradient, [n, gd]))
            if let keyTotal = source.keyTotal, let valueTotal = source.valueTotal {
                let isBegun = isTotalBegun[sourceIndex]
                context.parallel(n * gd, unit: 16) { part in
                    for (x, total) in [(b.keyGradient, keyTotal), (b.valueGradient, valueTotal)] {
                        let (x, total) = (x + part.lowerBound, total + part.lowerBound)
                        if isBegun { rows.accumulate(x, total, part.count) } else { rows.widen(x, total, part.count) }
                    }
                }
                isTotalBegun[sourceIndex] = true
            }
            rotate(b.queryGradient, n, c.heads, backward: true)
            try probe?("\(l).attention.query.gradient", EngineTensor(b.queryGradient, [n, hd]))
            var keyPart: Layers.InputGradientPart?
            var valuePart: Layers.InputGradientPart?
            if let key = p.key, let value = p.value {
                var (keyTotal, valueTotal) = (b.keyGradient, b.valueGradient)
                if let keySum = layer.keyTotal, let valueSum = layer.valueTotal {
                    context.parallel(n * gd, unit: 16) { part in
                        rows.round(keySum + part.lowerBound, b.keyTotal + part.lowerBound, part.count)
                        rows.round(valueSum + part.lowerBound, b.valueTotal + part.lowerBound, part.count)
                    }
                    (keyTotal, valueTotal) = (b.keyTotal, b.valueTotal)
                }
                try probe?("\(l).attention.key.total_gradient", EngineTensor(keyTotal, [n, gd]))
                rotate(keyTotal, n, c.keyValueHeads, backward: true)
                try probe?("\(l).attention.key.gradient", EngineTensor(keyTotal, [n, gd]))
                try probe?("\(l).attention.value.total_gradient", EngineTensor(valueTotal, [n, gd]))
                keyPart = Layers.InputGradientPart(dy: keyTotal, weight: weight(key), outputs: gd)
                valuePart = Layers.InputGradientPart(dy: valueTotal, weight: weight(value), outputs: gd)
            }
            try weightGradient(p.query, layer.attentionNorm, b.queryGradient, width, hd)
            if let key = p.key, let keyPart { try weightGradient(key, layer.attentionNorm, keyPart.dy, width, gd) }
            if let value = p.value, let valuePart {
                try weightGradient(value, layer.attentionNorm, valuePart.dy, width, gd)
            }
            layers.inputGradient(
                Layers.InputGradientPart(dy: b.queryGradient, weight: weight(p.query), outputs: hd), keyPart,
                valuePart, rows: n, inputs: width, recipe: c.dot
            ) { row, column, sums, count, _ in rows.finishBF16(sums, b.branch + (row * width + column), count) }
            try probe?("\(l).attention.norm.output.gradient", EngineTensor(b.branch, [n, width]))
            layers.normalizeBackward(
                b.branch, x: layer.input, gain: weight(p.attentionNorm), inverse: layer.attentionInverse, rows: n,
                width: width, stream: UnsafePointer(b.stream), output: b.stream,
                gainGradient: gradient(p.attentionNorm))
            try finish(p.attentionNorm)
            try probe?("\(l).attention.stream.gradient", EngineTensor(b.stream, [n, width]))
        }

        // The tied embedding: the output's gradient first (T2).
        let embedding = gradient(0)
        layers.embedBackward(
            tokens: batch.tokens, dy: b.stream, rows: n, vocabulary: vocabulary, width: width, into: embedding)
        context.parallel(vocabulary * width, unit: 16) { part in
            let at = part.lowerBound
            rows.add(b.embeddingOutputGradient + at, embedding + at, embedding + at, part.count)
        }
        try finish(0)
    }

    // MARK: - Pieces

    private func checkInterruption() throws { if isInterruptible { try Interruption.check() } }

    func linear(
        _ x: UnsafePointer<UInt16>, _ index: Int, _ n: Int, _ inputs: Int, _ outputs: Int,
        _ y: UnsafeMutablePointer<UInt16>
    ) {
        let rows = context.kernels.rows
        layers.forward(x, weight: weight(index), rows: n, inputs: inputs, outputs: outputs, recipe: configuration.dot) {
            row, column, sums, count, _ in rows.finishBF16(sums, y + (row * outputs + column), count)
        }
    }

    private func rotate(_ x: UnsafeMutablePointer<UInt16>, _ n: Int, _ heads: Int, backward: Bool) {
        layers.rotate(
            x, cosine: buffers.cosine, sine: buffers.sine, rows: n, heads: heads,
            dimension: configuration.headDimension, backward: backward, output: x)
    }

    /// The tables of every row's position: those below T are at hand.
    private func rotaryRows(_ positions: UnsafePointer<Int32>, _ n: Int) {
        let half = configuration.headDimension / 2
        let b = buffers
        context.parallel(n) { part in
            for row in part {
                let position = Int(positions[row])
                let (cosine, sine) = (b.cosine + row * half, b.sine + row * half)
                if position < configuration.sequenceLength {
                    cosine.update(from: b.cosineTable + position * half, count: half)
                    sine.update(from: b.sineTable + position * half, count: half)
                } else {
                    for i in 0..<half {
                        let angle = ScalarMath.rotation(position: position, frequency: frequencies[i])
                        cosine[i] = angle.cosine
                        sine[i] = angle.sine
                    }
                }
            }
        }
    }
}

/// What one layer reports of a pass (Z5, C5): fp64, no part of any result.
public struct LayerDiagnostics: Sendable, Hashable {
    /// Rows that see a key.
    public var rows = 0
    /// Of |Z|.
    public var mean = 0.0
    public var rootMeanSquare = 0.0
    public var largest = 0.0
    /// Of bf16 at the largest logit's magnitude.
    public var spacing = 0.0
    public var clamp = ClampCounts()
    /// Values that the clamp saw; 0 without one.
    public var clampedValues = 0
}

/// Why the engine cannot do something: where, and what was expected.
public struct EngineError: Error, Hashable, Sendable, CustomStringConvertible {
    public let place: String
    public let message: String

    public init(_ place: String, _ message: String) {
        self.place = place
        self.message = message
    }

    public var description: String { "\(place): \(message)" }
}
