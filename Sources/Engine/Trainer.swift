import Kernels
import ModelSpec
import Platform

/// Training steps on the engine (T2, T4, T5): the reference's bits at any number of threads and on any instruction set.
///
/// All memory is laid out when it is made, see ``bytes(_:threads:rank:)``; a step allocates none of it. Not to be used from several threads at once.
public final class Trainer {
    public let configuration: ModelConfiguration
    let context: EngineContext
    let model: Model
    let layers: Layers
    let parameters: [ModelConfiguration.Parameter]
    /// Of several processes, where there are some: this one computes the rank that is its own, and combines with the others.
    public let communicator: (any Communicator)?
    let shards: GradientShards
    /// All ranks' residuals of one parameter, on rank 0 of several processes.
    var residualsOfAll: MemoryBlock?

    /// Rows of gradients and residuals: those of the ranks that this process computes.
    private var rows: Int { communicator == nil ? configuration.ranks : 1 }

    /// What a step reports.
    public struct Outcome: Sendable {
        /// The mean of the ranks' mean losses.
        public var loss: Float = 0
        /// Before clipping.
        public var gradientNorm: Float = 0
        public var learningRate: Float = 0
        /// What the scales of compressed contributions did (S9).
        public var contributions = SquinchBlocks.Counts()
        public var reductions = SquinchBlocks.Counts()
        /// What all ranks sent each other, or would have sent had they been processes.
        public var traffic = Traffic()
        public var seconds = StepSeconds()
        /// Of rank 0, where they were asked for (Z5, C5).
        public var layers: [LayerDiagnostics] = []
    }

    /// Whether steps gather ``Outcome/layers``.
    public var gathersDiagnostics = false

    /// Changes every parameter's combined gradient fp32 [count] before the norm and the update read it; where ranks are processes, on each. For experiments with codecs that the contract does not know. Such a
    /// run is not one of clause T.
    public var changesGradients: ((_ parameter: Int, _ gradient: UnsafeMutableBufferPointer<Float>) -> Void)?

    /// Bytes that training with this configuration takes, scratch left out.
    ///
    /// - Parameter rank: in one of several processes the rank that it computes.
    public static func bytes(_ c: ModelConfiguration, threads: Int, rank: Int? = nil) -> Int {
        Model.bytes(c, threads: threads, rank: rank)
    }

    /// Weights and moments are +0 until they are set: ``initialize()`` or ``withState(_:)``.
    ///
    /// - Parameter communicator: with as many ranks as the configuration; nil where this process computes all of them. All ranks then make the same calls.
    public init(_ c: ModelConfiguration, _ context: EngineContext, communicator: (any Communicator)? = nil) {
        precondition(
            communicator == nil || communicator?.count == c.ranks, "a communicator for another number of ranks")
        configuration = c
        self.context = context
        // A single rank is the same either way.
        self.communicator = c.ranks > 1 ? communicator : nil
        model = Model(c, context, rank: self.communicator?.rank)
        layers = Layers(context)
        parameters = c.parameters
        shards = GradientShards(c)
    }

    // MARK: - State

    /// A parameter's fp32 numbers: weight, moments, and with error feedback the ranks' residuals [W, count]; of several processes each has its own rank's [count].
    public struct ParameterState {
        public let parameter: ModelConfiguration.Parameter
        public let weight: UnsafeMutableBufferPointer<Float>
        public let first: UnsafeMutableBufferPointer<Float>
        public let second: UnsafeMutableBufferPointer<Float>
        public let residual: UnsafeMutableBufferPointer<Float>?
    }

    /// Shows every parameter's state to `body`, in order, and takes over what it changes.
    public func withState(_ body: (ParameterState) throws -> Void) rethrows {
        try readState(body)
        model.roundWeights()
    }

    /// Shows every parameter's state to `body`, in order, which leaves it as it is.
    public func readState(_ body: (ParameterState) throws -> Void) rethrows {
        for (index, parameter) in parameters.enumerated() {
            let p = model.buffers.parameters[index]
            func buffer(_ pointer: UnsafeMutablePointer<Float>, _ times: Int = 1) -> UnsafeMutableBufferPointer<Float> {
                UnsafeMutableBufferPointer(start: pointer, count: times * parameter.count)
            }
            try body(
                ParameterState(
                    parameter: parameter, weight: buffer(p.weight), first: buffer(p.first), second: buffer(p.second),
                    residual: p.residual.map { buffer($0, rows) }))
        }
    }

    /// Initial weights (T1, G4), moments and residuals +0.
    public func initialize() {
        for (k, parameter) in parameters.enumerated() {
            let p = model.buffers.parameters[k]
            let n = parameter.count
            p.first.update(repeating: 0, count: n)
            p.second.update(repeating: 0, count: n)
            p.residual?.update(repeating: 0, count: rows * n)
            guard let inverseVariance = parameter.inverseVariance else {
                p.weight.update(repeating: 1, count: n)
                continue
            }
            let deviation = ScalarMath.rsqrt(Float(inverseVariance))
            let random = RandomWords(
                seed: configuration.seed, stream: RandomStreams.initialization, step: UInt32(truncatingIfNeeded: k))
            // A block of four words makes four numbers.
            context.parallel((n + 3) / 4) { part in
                for block in part {
                    let words = random.block(UInt64(block))
                    let (a, b) = (RandomWords.normal(words.0, words.1), RandomWords.normal(words.2, words.3))
                    let at = 4 * block
                    p.weight[at] = deviation * a.0
                    if at + 1 < n { p.weight[at + 1] = deviation * a.1 }
                    if at + 2 < n { p.weight[at + 2] = deviation * b.0 }
                    if at + 3 < n { p.weight[at + 3] = deviation * b.1 }
                }
            }
        }
        model.roundWeights()
    }

    // MARK: - Steps

    /// Takes step `step` (from 1).
    ///
    /// Of several processes each rank's `probe` sees its own rank's tensors, and rank 0's then those that all have in common; all have one or none has.
    ///
    /// - Parameters:
    ///   - probe: is shown every tensor of the step in execution order (T6); nil where nobody looks.
    ///   - afterPasses: called after the tensors of the ranks' own passes and before those that all have in common. May use the communicator.
    /// - Throws: ``/ModelSpec/TrainingError`` and ``EngineError``, naming what was wrong, and what `probe` throws; ``RankFailure`` where one of several processes did,
    ///   on all of them, and ``CommunicationError``; in one process `Interrupted` after a signal. Weights, moments and residuals are then as they
    ///   were.
    public func step(
        _ step: Int, batch: TrainingBatch, probe: EngineProbe? = nil, afterPasses: (() throws -> Void)? = nil
    ) throws -> Outcome {
        if let communicator {
            return try distributedStep(step, batch, communicator, probe: probe, afterPasses: afterPasses)
        }
        let c = configuration
        var outcome = Outcome()
        let watch = ProbeWatch(probe)
        let probe = watch.probe
        try check(batch, sequences: c.batch)
        var losses: Float = 0
        let start = monotonicSeconds()
        model.load(batch)
        for rank in 0..<c.ranks {
            let share = model.batch(Model.sequences(c, rank: rank))
            let rankProbe: EngineProbe? =
                c.ranks == 1 ? probe : probe.map { probe in { try probe("rank.\(rank).\($0)", $1) } }
            let report = try model.forward(share, probe: rankProbe)
            if gathersDiagnostics && rank == 0 { outcome.layers = model.diagnostics(sequences: share.sequences) }
            try model.backward(share, report, row: rank, probe: rankProbe)
            outcome.loss = report.loss
            losses = losses + report.loss
        }
        outcome.seconds.passes = watch.seconds(since: start) / Double(c.ranks)
        try afterPasses?()
        if c.ranks > 1 {
            outcome.loss = canonical(losses * ScalarMath.reciprocal(of: c.ranks))  // T5
            try withUnsafePointer(to: outcome.loss) { try probe?("loss", EngineTensor($0, [1])) }
        }
        let combining = monotonicSeconds()
        try combine(step, &outcome, probe)
        outcome.seconds.codec = watch.seconds(since: combining)
        let updating = monotonicSeconds()
        try update(step, &outcome, probe)
        outcome.seconds.update = watch.seconds(since: updating)
        return outcome
    }

    /// The most sequences that ``loss(_:probe:)`` takes at once.
    public var sequenceCapacity: Int { Model.largestShare(configuration) }

    /// The name of the first tensor of a step over `batch` that holds a NaN or an infinity, in execution order; nil if none does. Weights stay as
    /// they are.
    public func firstNonfinite(_ batch: TrainingBatch) throws -> String? {
        if let communicator { return try distributedFirstNonfinite(batch, communicator) }
        let c = configuration
        try check(batch, sequences: c.batch)
        model.load(batch)
        for rank in 0..<c.ranks {
            if let name = try firstNonfinite(rank: rank, row: rank) { return name }
        }
        return nil
    }

    /// Of one rank's passes over the batch that was loaded.
    func firstNonfinite(rank: Int, row: Int) throws -> String? {
        struct Found: Error { let name: String }
        let c = configuration
        let share = model.batch(Model.sequences(c, rank: rank))
        let probe: EngineProbe = { name, tensor in
            guard tensor.holdsNonfinite else { return }
            throw Found(name: c.ranks == 1 ? name : "rank.\(rank).\(name)")
        }
        do {
            let report = try model.forward(share, probe: probe)
            try model.backward(share, report, row: row, probe: probe)
        } catch let found as Found { return found.name }
        return nil
    }

    /// The mean loss of sequences, at most ``sequenceCapacity``; nothing else.
    ///
    /// - Parameter probe: is shown every tensor of the forward pass, the logits among them.
    public func loss(_ batch: TrainingBatch, probe: EngineProbe? = nil) throws -> Float {
        let length = configuration.sequenceLength
        let sequences = batch.tokens.count / length
        guard sequences <= sequenceCapacity else {
            throw EngineError("tokens", "\(sequences) sequences, expected at most \(sequenceCapacity)")
        }
        try check(batch, sequences: sequences)
        model.load(batch)
        return try model.forward(model.batch(0..<sequences), probe: probe).loss
    }

    /// What a kernel would read or write out of bounds is refused here.
    func check(_ batch: TrainingBatch, sequences: Int) throws {
        let c = configuration
        try batch.checkSizes(batch: sequences, length: c.sequenceLength, k: c.distillationK)
        for (index, token) in batch.tokens.enumerated() where !(0..<c.vocabulary).contains(Int(token)) {
            throw EngineError("embedding", "token \(token) at index \(index), expected 0 ..< \(c.vocabulary)")
        }
        switch batch.targets {
        case .tokens(let targets):
            for (row, target) in targets.enumerated() where target != -1 && !(0..<c.vocabulary).contains(Int(target)) {
                throw EngineError("loss", "target \(target) at row \(row), expected -1 or 0 ..< \(c.vocabulary)")
            }
        case .sparse(let ids, _):
            for (index, id) in ids.enumerated() where id != UInt32.max && id >= UInt32(clamping: c.vocabulary) {
                throw EngineError(
                    "loss",
                    "id \(id) at row \(index / c.distillationK), slot \(index % c.distillationK), expected 0 ..< \(c.vocabulary), or 4294967295 for an empty slot"
                )
            }
        }
        do {
            _ = try Visibility(
                orientation: .byKey, batch: sequences, queries: c.sequenceLength, keys: c.sequenceLength,
                start: batch.visibilityStart, limit: batch.visibilityLimit)
        } catch { throw TrainingError.operation(name: "visibility", error) }
    }

    // MARK: - Combining (T5)

    private func combine(_ step: Int, _ outcome: inout Outcome, _ probe: EngineProbe?) throws {
        let c = configuration
        guard c.ranks > 1 || c.compression != .none else { return }
        var offset = 0
        let all = parameters.reduce(0) { $0 + $1.count }
        for (index, parameter) in parameters.enumerated() {
            let p = model.buffers.parameters[index]
            switch c.compression {
            case .none: layers.mean(p.gradients, ranks: c.ranks, parameter.count, rounds: false, into: p.combined)
            case .bf16: layers.mean(p.gradients, ranks: c.ranks, parameter.count, rounds: true, into: p.combined)
            case .squinch: try squinch(index, step, offset: offset, of: all, &outcome)
            }
            countTraffic(index, &outcome.traffic)
            try probe?("reduced.\(parameter.name)", EngineTensor(p.combined, parameter.shape))
            if let residual = p.nextResidual {
                try probe?("residual.\(parameter.name)", EngineTensor(residual, [c.ranks, parameter.count]))
            }
            offset += parameter.count
        }
    }

    /// What the ranks would send each other for a parameter, piece by piece: its shards to their owners, the owners' means to all.
    private func countTraffic(_ index: Int, _ traffic: inout Traffic) {
        for owner in 0..<configuration.ranks {
            let elements = shards.elements(index, owner: owner).count
            for rank in 0..<configuration.ranks where rank != owner {
                traffic.scattered += shards.bytes(elements)
                traffic.gathered += shards.bytes(elements)
                traffic.elements += 2 * elements
            }
        }
    }

    private func squinch(_ index: Int, _ step: Int, offset: Int, of all: Int, _ outcome: inout Outcome) throws {
        let c = configuration
        let b = model.buffers
        let n = parameters[index].count
        for rank in 0..<c.ranks {
            outcome.contributions += try contribute(index, step, offset: offset, of: all, rank: rank, row: rank)
        }
        outcome.reductions += SquinchBlocks(context, c.squinchVariant).reduce(
            b.encoded, ranks: c.ranks, n, reduced: b.reduced, mean: b.parameters[index].combined,
            random: roundingWords(step, UInt64(c.ranks * all + offset)))
    }

    /// Draws of the stream `rounding` from `first` on.
    func roundingWords(_ step: Int, _ first: UInt64) -> SquinchBlocks.RandomSource {
        .draws(
            RandomWords(
                seed: configuration.seed, stream: RandomStreams.rounding, step: UInt32(truncatingIfNeeded: step)),
            first: first)
    }

    /// Encodes a rank's gradient of a parameter (S7, S8), which lies in row `row`; y takes its place. With error feedback the next residual too.
    ///
    /// - Throws: ``EngineError``, naming parameter, rank and index of what is not finite.
    func contribute(
        _ index: Int, _ step: Int, offset: Int, of all: Int, rank: Int, row: Int
    ) throws -> SquinchBlocks.Counts {
        let b = model.buffers
        let p = b.parameters[index]
        let n = parameters[index].count
        let codec = SquinchBlocks(context, configuration.squinchVariant)
        let encoded = b.encoded + 6 * row * SquinchBlocks.blocks(n)
        let rows = context.kernels.rows
        let g = p.gradients + row * n
        // S7: y = RNE32(g + e) takes the gradient's place.
        if let residual = p.residual {
            context.parallel(n, unit: 16) { part in
                let at = part.lowerBound
                rows.add(g + at, residual + (row * n + at), g + at, part.count)
            }
        }
        if let first = codec.firstRefused(g, n, saturates: false) {
            let what = p.residual == nil ? "the gradient" : "gradient plus residual"
            throw EngineError(
                "gradient.\(parameters[index].name)",
                "\(what) of rank \(rank) at index \(first) is \(g[first]), expected a finite number")
        }
        let counts = codec.encode(g, n, into: encoded, random: roundingWords(step, UInt64(rank * all + offset)))
        if let next = p.nextResidual {
            // S7: e' = RNE32(y - d), d decoded into the mean's place.
            codec.decode(encoded, n, into: p.combined)
            context.parallel(n) { part in
                for i in part { next[row * n + i] = g[i] - p.combined[i] }
            }
        }
        return counts
    }

    // MARK: - Update (T4)

    func update(_ step: Int, _ outcome: inout Outcome, _ probe: EngineProbe?) throws {
        let c = configuration
        let b = model.buffers
        if let changesGradients {
            for (parameter, p) in zip(parameters.indices, b.parameters) {
                changesGradients(
                    parameter, UnsafeMutableBufferPointer(start: p.combined, count: parameters[parameter].count))
            }
        }
        outcome.learningRate = Self.learningRate(step, c)
        try withUnsafePointer(to: outcome.learningRate) { try probe?("learning_rate", EngineTensor($0, [1])) }
        let sum = sumOfSquares()
        outcome.gradientNorm = ScalarMath.sqrt(sum + 0)
        try withUnsafePointer(to: outcome.gradientNorm) { try probe?("gradient_norm", EngineTensor($0, [1])) }
        guard outcome.gradientNorm.isFinite else { throw TrainingError.gradientNorm(outcome.gradientNorm, step: step) }
        let constants = AdamWConstants(
            beta1: c.beta1, beta2: c.beta2, epsilon: c.adamEpsilon, weightDecay: c.weightDecay,
            learningRate: outcome.learningRate, step: step, norm: outcome.gradientNorm, clipNorm: c.clipNorm)
        // Every thread has its part of every parameter.
        context.pool.run { thread, count in
            for (index, parameter) in parameters.enumerated() {
                let p = b.parameters[index]
                var h = constants
                if !parameter.decays { h.decay = nil }
                let part = WorkerPool.part(thread, of: count, parameter.count, unit: 16)
                let at = part.lowerBound
                context.kernels.rows.adamW(
                    p.weight + at, p.first + at, p.second + at, p.combined + at, p.rounded + at, h, part.count)
            }
        }
        for (index, parameter) in parameters.enumerated() {
            let p = b.parameters[index]
            if let residual = p.residual, let next = p.nextResidual {
                residual.update(from: next, count: rows * parameter.count)
            }
            try probe?("m.\(parameter.name)", EngineTensor(p.first, parameter.shape))
            try probe?("v.\(parameter.name)", EngineTensor(p.second, parameter.shape))
            try probe?("weight.\(parameter.name)", EngineTensor(p.weight, parameter.shape))
        }
    }

    /// The squares of all combined gradients: lane16x4096 of each parameter (R2), added in order.
    private func sumOfSquares() -> Float {
        let (b, rows) = (model.buffers, context.kernels.rows)
        context.pool.run { thread, count in
            var first = b.sums
            for (index, parameter) in parameters.enumerated() {
                let x = b.parameters[index].combined
                let blocks = (parameter.count + 4095) / 4096
                for block in WorkerPool.part(thread, of: count, blocks) {
                    let at = x + 4096 * block
                    first[block] = rows.sumOfProducts(at, at, min(4096, parameter.count - 4096 * block))
                }
                first += blocks
            }
        }
        var sum: Float = 0
        var first = b.sums
        for parameter in parameters {
            let blocks = (parameter.count + 4095) / 4096
            sum = sum + canonical(rows.sum(first, blocks))
            first += blocks
        }
        return sum
    }

    /// The learning rate of a step (T4).
    public static func learningRate(_ step: Int, _ c: ModelConfiguration) -> Float {
        if step <= c.warmupSteps {
            return ScalarMath.scaled(c.learningRate, by: UInt64(step), over: UInt64(c.warmupSteps))
        }
        let length = c.totalSteps - c.warmupSteps
        let (a, b) = length <= 0 ? (1, 1) : (UInt64(min(step - c.warmupSteps, length)), UInt64(length))
        return switch c.schedule {
        case .constant: c.learningRate
        case .linear: ScalarMath.linearDecay(c.learningRate, to: c.finalFraction, at: a, of: b)
        case .cosine: ScalarMath.cosineDecay(c.learningRate, to: c.finalFraction, at: a, of: b)
        }
    }
}

/// A probe that notes the time it takes, which is no part of a step's.
final class ProbeWatch {
    private let inner: EngineProbe?
    private var taken = 0.0

    init(_ probe: EngineProbe?) { inner = probe }

    var probe: EngineProbe? {
        guard let inner else { return nil }
        return { [self] name, tensor in
            let start = monotonicSeconds()
            defer { taken += monotonicSeconds() - start }
            try inner(name, tensor)
        }
    }

    /// Without what the probe has taken since this was asked last.
    func seconds(since start: Double) -> Double {
        defer { taken = 0 }
        return monotonicSeconds() - start - taken
    }
}
