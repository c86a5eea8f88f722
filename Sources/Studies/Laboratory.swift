import Engine
import Kernels
import ModelSpec
import Pages
import TrainingData

/// What experiments share: the machine, the texts, and training runs that tell how far they are.
struct Laboratory {
    let context: EngineContext
    let options: StudyOptions
    let steps: Int
    let seeds: Int
    private let makeCorpus: (Int) throws -> TrainingCorpus
    private let progress: (Double, String) throws -> Void
    private var corpora: [Int: TrainingCorpus] = [:]
    /// Steps that the whole study takes, and those taken.
    private var planned = 1
    private var taken = 0

    init(
        context: EngineContext, options: StudyOptions, steps: Int, seeds: Int,
        makeCorpus: @escaping (Int) throws -> TrainingCorpus, progress: @escaping (Double, String) throws -> Void
    ) {
        (self.context, self.options, self.steps, self.seeds) = (context, options, steps, seeds)
        (self.makeCorpus, self.progress) = (makeCorpus, progress)
    }

    /// Says how many units of work there are.
    mutating func plan(_ units: Int) throws {
        planned = max(1, units)
        try progress(0, "")
    }

    /// A unit of work is done.
    mutating func advance(_ what: String, by units: Int = 1) throws {
        taken += units
        try progress(min(1, Double(taken) / Double(planned)), what)
    }

    /// Between two pieces of a unit: the way to hear that the study is to end.
    func pause(_ what: String) throws { try progress(min(1, Double(taken) / Double(planned)), what) }

    mutating func corpus(_ length: Int) throws -> TrainingCorpus {
        if let corpus = corpora[length] { return corpus }
        let corpus = try makeCorpus(length)
        guard !corpus.heldOut.isEmpty else { throw StudyError(length: length) }
        corpora[length] = corpus
        return corpus
    }

    /// The model that experiments train: two layers, of the width asked for.
    var configuration: ModelConfiguration {
        var c = ModelConfiguration(preset: .tiny)
        (c.width, c.feedForwardWidth) = (options.width, 4 * options.width)
        c.heads = max(1, options.width / 16)
        c.batch = 8
        (c.learningRate, c.warmupSteps, c.totalSteps) = (0x1p-8, min(20, steps / 4), steps)
        return c
    }

    func seed(_ run: Int) -> UInt64 { options.seed &+ UInt64(run) }

    /// A training run.
    struct Run {
        var losses: [Double] = []
        /// Of the first 64 held-out sequences.
        var heldOut = 0.0
        var contributions = SquinchBlocks.Counts()
        let trainer: Trainer

        /// The mean over the last so many steps.
        func mean(last: Int) -> Double { losses.suffix(last).reduce(0, +) / Double(min(last, losses.count)) }
    }

    /// Trains from the beginning.
    ///
    /// - Parameters:
    ///   - batch: the batch of a step in place of the corpus's own.
    ///   - probe: is shown every tensor of the step.
    mutating func train(
        _ c: ModelConfiguration, _ what: String,
        changing: ((Int, UnsafeMutableBufferPointer<Float>) -> Void)? = nil,
        batch: ((Int, TrainingBatch) throws -> TrainingBatch)? = nil,
        probe: ((Int) -> EngineProbe?)? = nil
    ) throws -> Run {
        try c.validate()
        let corpus = try corpus(c.sequenceLength)
        var run = Run(trainer: Trainer(c, context))
        run.trainer.initialize()
        run.trainer.changesGradients = changing
        for step in 1...c.totalSteps {
            let hard = try corpus.trainingBatch(step: step, configuration: c)
            let outcome = try run.trainer.step(step, batch: try batch?(step, hard) ?? hard, probe: probe?(step))
            run.losses.append(Double(outcome.loss))
            run.contributions = run.contributions.adding(outcome.contributions)
            try advance(what)
        }
        run.heldOut = try heldOutLoss(run.trainer)
        return run
    }

    /// The mean loss of the first held-out sequences by the text's own next tokens.
    mutating func heldOutLoss(_ trainer: Trainer, probe: EngineProbe? = nil) throws -> Double {
        let c = trainer.configuration
        let sequences = try corpus(c.sequenceLength).heldOut.prefix(64)
        var (sum, count) = (0.0, 0)
        for first in stride(from: 0, to: sequences.count, by: trainer.sequenceCapacity) {
            let part = Array(sequences[first..<min(first + trainer.sequenceCapacity, sequences.count)])
            let batch = TrainingBatch(part)
            let soft = c.distillationK > 0 ? batch.hardTargetsAsSoft(k: c.distillationK) : batch
            // The loss of a batch is the mean over its targets.
            let targets = part.reduce(0) { $0 + $1.targets.count { $0 >= 0 } }
            sum += Double(try trainer.loss(soft, probe: probe)) * Double(targets)
            count += targets
        }
        return count == 0 ? .nan : sum / Double(count)
    }
}

extension SquinchBlocks.Counts {
    func adding(_ other: Self) -> Self {
        var sum = self
        sum.blocks += other.blocks
        sum.zeroBlocks += other.zeroBlocks
        sum.clippedBelow += other.clippedBelow
        sum.clippedAbove += other.clippedAbove
        return sum
    }
}

/// A method, its runs, and what they say beside another's with the same seeds.
struct Method {
    let name: String
    var runs: [Laboratory.Run] = []

    var heldOut: Estimate { Estimate(runs.map(\.heldOut)) }

    /// Run by run: the same initial weights and the same texts.
    func difference(from other: Method) -> Estimate {
        Estimate(zip(runs, other.runs).map { $0.heldOut - $1.heldOut })
    }

    /// The mean loss of all runs, a point for every fortieth of the run.
    var curve: Chart.Series {
        let steps = runs.first?.losses.count ?? 0
        let window = max(1, steps / 40)
        return Chart.Series(
            name,
            stride(from: window, through: steps, by: window).map { end in
                let means = runs.map { $0.losses[end - window..<end].reduce(0, +) / Double(window) }
                return Chart.Point(Double(end), means.reduce(0, +) / Double(means.count))
            }, isMarked: false)
    }
}
