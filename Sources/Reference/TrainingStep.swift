import ExactMath
import ModelSpec

/// What training carries from step to step: masters and optimizer state, fp32, in the order of the parameters (T1, T4, S7).
public struct TrainingState: Sendable, Hashable {
    public var weights: [[Float]]
    /// m of AdamW.
    public var firstMoments: [[Float]]
    /// v of AdamW.
    public var secondMoments: [[Float]]
    /// With error feedback the residuals of each parameter [W, elements]; empty without.
    public var residuals: [[Float]]

    public init(
        weights: [[Float]], firstMoments: [[Float]], secondMoments: [[Float]], residuals: [[Float]] = []
    ) {
        self.weights = weights
        self.firstMoments = firstMoments
        self.secondMoments = secondMoments
        self.residuals = residuals
    }

    /// Before the first step: initial weights (T1), moments and residuals +0.
    public init(initial configuration: ModelConfiguration) {
        let weights = Initialization.values(of: configuration)
        let zeros = weights.map { [Float](repeating: 0, count: $0.count) }
        self.init(
            weights: weights, firstMoments: zeros, secondMoments: zeros,
            residuals: configuration.usesErrorFeedback
                ? weights.map { [Float](repeating: 0, count: configuration.ranks * $0.count) } : [])
    }
}

/// One step of training: forward, backward, all-reduce, AdamW (T2, T5, T4).
public enum TrainingStep {
    /// What a step reports.
    public struct Outcome: Sendable {
        /// The mean of the ranks' mean losses.
        public let loss: Float
        /// Before clipping.
        public let gradientNorm: Float
        public let learningRate: Float
        /// |Z| and the largest logit of every rank's layers, [ranks][layers] (Z5).
        public let logSumExp: [[LogSumExpStatistics]]
        /// What the clamps of every rank's layers moved, [ranks][layers]; empty without clamps (C5).
        public let clampReports: [[Clamp.Report]]
        /// With Squinch: what each parameter's all-reduce moved and clipped.
        public let compression: [AllReduce.Report]
    }

    /// Takes step `step` (from 1) and updates `state`.
    ///
    /// - Parameter probe: is shown every tensor of the step in execution order: the fingerprint's (T6).
    /// - Throws: ``/ModelSpec/TrainingError``, ``SquinchError`` in one, and what `probe` throws. The state is then as it was.
    public static func run(
        _ configuration: ModelConfiguration, state: inout TrainingState, batch: TrainingBatch, step: Int,
        arithmetic: Arithmetic = .soft, probe: Probe = { _, _ in }
    ) throws -> Outcome {
        let c = configuration
        let parameters = c.parameters
        try batch.checkSizes(batch: c.batch, length: c.sequenceLength, k: c.distillationK)
        try checkState(state, c)
        let model = try Transformer(c, masters: state.weights, arithmetic: arithmetic)

        // T5: every rank's own pass over its sequences.
        var losses: [Float] = []
        var contributions: [[[Float]]] = []
        var logSumExp: [[LogSumExpStatistics]] = []
        var clampReports: [[Clamp.Report]] = []
        for rank in 0..<c.ranks {
            let sequences = rank * c.batch / c.ranks..<(rank + 1) * c.batch / c.ranks
            func rankProbe(_ name: String, _ tensor: StepTensor) throws {
                try probe(c.ranks == 1 ? name : "rank.\(rank).\(name)", tensor)
            }
            let pass = try model.forward(
                batch.sequences(sequences, length: c.sequenceLength, k: c.distillationK), probe: rankProbe)
            contributions.append(try model.backward(pass, probe: rankProbe))
            losses.append(pass.loss)
            logSumExp.append(pass.logSumExp)
            clampReports.append(pass.clampReports)
        }
        var loss = losses[0]
        if c.ranks > 1 {
            loss = AllReduce.fp32(losses, ranks: c.ranks)[0]  // T5
            try probe("loss", StepTensor([loss], [1]))
        }

        // T5: the gradients combined.
        var residuals = state.residuals
        var reports: [AllReduce.Report] = []
        var gradients = contributions[0]
        if c.combinesGradients {
            for (index, parameter) in parameters.enumerated() {
                let g = contributions.flatMap { $0[index] }
                switch c.compression {
                case .none: gradients[index] = AllReduce.fp32(g, ranks: c.ranks)
                case .bf16:
                    gradients[index] = AllReduce.bf16(g, ranks: c.ranks).map {
                        SoftFloat32.convert(bfloat16Bits: $0.bitPattern)
                    }
                case .squinch:
                    let words = roundingWords(c, parameter: index, step: step)
                    let compressed: AllReduce.Compressed
                    do {
                        compressed = try AllReduce.squinch(
                            g, ranks: c.ranks, variant: c.squinchVariant,
                            residual: c.usesErrorFeedback ? residuals[index] : nil, random: words.contributions,
                            randomReduced: words.reduced)
                    } catch {
                        throw TrainingError.operation(name: "gradient.\(parameter.name)", error)
                    }
                    gradients[index] = compressed.reduced
                    if c.usesErrorFeedback { residuals[index] = compressed.residual }
                    reports.append(compressed.report)
                }
                try probe("reduced.\(parameter.name)", StepTensor(gradients[index], parameter.shape))
                if c.usesErrorFeedback {
                    try probe(
                        "residual.\(parameter.name)", StepTensor(residuals[index], [c.ranks, parameter.count]))
                }
            }
        }

        // T4
        let learningRate = LearningRate.at(step: step, configuration: c)
        try probe("learning_rate", StepTensor([learningRate], [1]))
        let norm = AdamW.gradientNorm(gradients)
        try probe("gradient_norm", StepTensor([norm], [1]))
        guard SoftFloat32.isFinite(norm) else { throw TrainingError.gradientNorm(norm, step: step) }
        let factor = AdamW.clipFactor(norm: norm, clipNorm: c.clipNorm)
        let hyperparameters = AdamW.Hyperparameters(c)
        var next = state
        next.residuals = residuals
        for (index, parameter) in parameters.enumerated() {
            var gradient = gradients[index]
            if let factor {
                for element in gradient.indices {
                    gradient[element] = SoftFloat32.multiply(gradient[element], factor)  // T4
                }
            }
            AdamW.update(
                weight: &next.weights[index], firstMoment: &next.firstMoments[index],
                secondMoment: &next.secondMoments[index], gradient: gradient, step: step, learningRate: learningRate,
                decays: parameter.decays, hyperparameters: hyperparameters)
            try probe("m.\(parameter.name)", StepTensor(next.firstMoments[index], parameter.shape))
            try probe("v.\(parameter.name)", StepTensor(next.secondMoments[index], parameter.shape))
            try probe("weight.\(parameter.name)", StepTensor(next.weights[index], parameter.shape))
        }
        state = next
        return Outcome(
            loss: loss, gradientNorm: norm, learningRate: learningRate, logSumExp: logSumExp,
            clampReports: clampReports, compression: reports)
    }

    /// The words of `stochastic15` (T5): draw r P + o_k + e for rank r, W P + o_k + e for the reduced blocks.
    private static func roundingWords(
        _ c: ModelConfiguration, parameter index: Int, step: Int
    ) -> (contributions: [UInt32], reduced: [UInt32]) {
        guard c.squinchVariant == .stochastic15 else { return ([], []) }
        let counts = c.parameters.map(\.count)
        let all = counts.reduce(0, +)
        let offset = counts[..<index].reduce(0, +)
        let stream = RandomStream(
            seed: c.seed, stream: RandomStreams.rounding, step: UInt32(truncatingIfNeeded: step))
        func words(_ rank: Int) -> [UInt32] {
            (0..<counts[index]).map { stream.word(UInt64(rank * all + offset + $0)) }
        }
        return ((0..<c.ranks).flatMap(words), words(c.ranks))
    }

    private static func checkState(_ state: TrainingState, _ c: ModelConfiguration) throws(TrainingError) {
        let parameters = c.parameters
        for (name, tensors) in [
            ("weight", state.weights), ("m", state.firstMoments), ("v", state.secondMoments),
        ] {
            guard tensors.count == parameters.count else {
                throw .count(name: "the list of \(name)", tensors.count, expected: parameters.count)
            }
            for (parameter, tensor) in zip(parameters, tensors) where tensor.count != parameter.count {
                throw .count(name: "\(name).\(parameter.name)", tensor.count, expected: parameter.count)
            }
        }
        guard c.usesErrorFeedback else { return }
        guard state.residuals.count == parameters.count else {
            throw .count(name: "the list of residual", state.residuals.count, expected: parameters.count)
        }
        for (parameter, tensor) in zip(parameters, state.residuals) where tensor.count != c.ranks * parameter.count {
            throw .count(name: "residual.\(parameter.name)", tensor.count, expected: c.ranks * parameter.count)
        }
    }
}
