import ModelSpec

extension TrainingBatch {
    /// Sequences as one batch with hard targets.
    public init(_ sequences: [TrainingSequence]) {
        self.init(
            tokens: sequences.flatMap(\.tokens), targets: .tokens(sequences.flatMap(\.targets)),
            positions: sequences.flatMap(\.positions), visibilityStart: sequences.flatMap(\.start),
            visibilityLimit: sequences.flatMap(\.limit))
    }

    /// The same tokens with soft targets [B, T, k] (K4).
    public func withTargets(ids: [UInt32], weights: [Float]) -> TrainingBatch {
        TrainingBatch(
            tokens: tokens, targets: .sparse(ids: ids, weights: weights), positions: positions,
            visibilityStart: visibilityStart, visibilityLimit: visibilityLimit)
    }

    /// The same tokens with hard targets as soft ones of weight 1 in the first of k slots: the loss of both is the same, and a model that is trained on
    /// soft targets can be judged by text.
    public func hardTargetsAsSoft(k: Int) -> TrainingBatch {
        guard case .tokens(let targets) = targets, k > 0 else { return self }
        var ids = [UInt32](repeating: UInt32.max, count: targets.count * k)
        var weights = [Float](repeating: 0, count: targets.count * k)
        for (row, target) in targets.enumerated() where target >= 0 {
            ids[row * k] = UInt32(target)
            weights[row * k] = 1
        }
        return withTargets(ids: ids, weights: weights)
    }
}

extension TrainingCorpus {
    /// The sequences of a step as one batch with hard targets.
    ///
    /// - Throws: ``CorpusError`` for a file that has changed.
    public func trainingBatch(step: Int, configuration: ModelConfiguration) throws -> TrainingBatch {
        TrainingBatch(try batch(step: step, configuration: configuration))
    }
}
