import ArgumentParser
import Cases
import Engine
import EngineOperations
import ExactMath
import Foundation
import Goldens
import JSON
import ModelSpec
import Platform
import Studies
import TrainingData

struct Distill: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Distil a teacher into a student, offline: sample sparse soft targets once, train on them.",
        discussion: """
              touchstone train --config small --steps 500 --checkpoint teacher
              touchstone distill sample --checkpoint teacher --output targets --k 8
              touchstone distill train --targets targets --steps 500

            Targets are k ids and weights a token, 8 bytes each, in place of a probability for every token of the vocabulary; Gumbel sampling makes \
            them without bias (K1, K2). `study gumbel` compares them with the k most likely tokens.
            """,
        subcommands: [DistillSample.self, DistillTrain.self])
}

extension TargetMethod: ExpressibleByArgument {}

struct DistillSample: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sample",
        abstract: "Run a teacher over text and write its sparse soft targets.",
        discussion: """
            Writes a folder of HDF5 files of --chunk sequences each, in the format of goldens: tokens and masks under inputs/, ids and weights under \
            outputs/. A file is whole or absent; the same command goes on where it was interrupted. The text is cut and held out as in `train`: \
            held-out sequences get no targets.
            """)

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The teacher: a folder of checkpoints, whose last counts, or one of them.", valueName: "path"))
    var checkpoint: String

    @Option(name: .long, help: ArgumentHelp("The text; this package's own sources by default.", valueName: "path"))
    var data: String?

    @Option(name: [.short, .long], help: ArgumentHelp("The folder of targets.", valueName: "dir"))
    var output: String

    @Option(name: .long, help: "Targets a token.", reading: Number.whole(1...1 << 24))
    var k = 8

    @Option(name: .long, help: "gumbel (unbiased), with-replacement (unbiased, of equal weights) or top-k (biased).")
    var method: TargetMethod = .gumbel

    @Option(name: .long, help: "Decides the draws.", reading: Number.seed)
    var seed: Seed = Seed(1)

    @Option(
        name: .long, help: "Sequences to sample, from the first on; all by default.",
        transform: Number.whole(1...1 << 40))
    var sequences: Int?

    @Option(name: .long, help: "Sequences in a file.", reading: Number.whole(1...1 << 16))
    var chunk = 64

    @OptionGroup var engine: EngineOptions

    @Flag(name: .long, help: "Print errors only.")
    var quiet = false

    func run() throws {
        let state = try Checkpoint(reading: try CheckpointFolder.latest(checkpoint))
        var c = state.configuration
        guard c.distillationK == 0 else {
            throw CommandError(
                "\(checkpoint) is a student's: its distillation_k is \(c.distillationK), expected a model trained on text"
            )
        }
        guard k <= c.vocabulary else { throw CommandError("--k is \(k), and the teacher knows \(c.vocabulary) tokens") }
        // One rank runs over whole batches; the weights are the same.
        (c.ranks, c.compression, c.errorFeedback) = (1, .none, false)
        let context = try engine.context()
        try EngineRun.requireMemory(Trainer.bytes(c, threads: context.pool.count), for: "the teacher")
        let teacher = Trainer(c, context)
        state.restoreWeights(teacher)
        let corpus = try TrainingCorpus(
            reading: try data ?? DefaultCorpus.path(), sequenceLength: c.sequenceLength, quiet: quiet)
        if let sequences, sequences > corpus.sequences.count {
            throw CommandError("--sequences is \(sequences), and the text has \(corpus.sequences.count) to train on")
        }
        var plan = SoftTargets.Plan()
        (plan.method, plan.k, plan.seed) = (method, k, seed.value)
        (plan.teacher, plan.data) = (teacher.weightsDigest, try corpus.digest(quiet: quiet))
        (plan.vocabulary, plan.sequenceLength) = (c.vocabulary, c.sequenceLength)
        (plan.sequences, plan.chunk) = (sequences ?? corpus.sequences.count, chunk)
        try Files.createFolder(output)
        let lock = try Exclusive.folder(output)
        defer { lock.release() }
        let bar = ProgressBar("sample", total: UInt64(plan.sequences), unit: "sequences", quiet: quiet)
        let start = monotonicSeconds()
        let found = try SoftTargets.sample(plan, teacher: teacher, context: context, corpus: corpus, folder: output) {
            done in
            bar.update(UInt64(done))
            if Interruption.isRequested {
                bar.finish()
                Terminal.writeError(
                    "touchstone: interrupted after \(done) of \(counted(plan.sequences, "sequence")); finished files stay in \(output), and the same command goes on\n"
                )
                throw ExitCode(Interruption.exitStatus)
            }
        }
        bar.finish()
        guard !quiet else { return }
        let rows = plan.sequences * plan.sequenceLength
        let (sparse, full) = (8 * rows * k, 4 * rows * c.vocabulary)
        print("teacher      step \(state.step), weights \(plan.teacher.prefix(16))...; \(EngineOptions.name(context))")
        print(
            "targets      \(counted(plan.sequences, "sequence")) of \(counted(plan.sequenceLength, "token")), \(k) a token by \(method.rawValue), \(found == 0 ? "all new" : "\(found) found")"
        )
        print(
            "storage      \(compact(Double(sparse), "B")) of ids and weights; the distributions take \(compact(Double(full), "B")) in fp32, \(Self.times(full, sparse)) times as much, \(compact(Double(full / 2), "B")) in bf16"
        )
        print("             \(counted(plan.chunks, "file")) in \(output), \(duration(monotonicSeconds() - start))")
    }

    private static func times(_ a: Int, _ b: Int) -> String {
        let tenths = Int((Double(a) / Double(b) * 10).rounded())
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(tenths % 10)"
    }
}

struct DistillTrain: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "train",
        abstract: "Train a student on stored soft targets.",
        discussion: """
            The loss is K4's: the cross-entropy with the stored weights. Vocabulary, sequence length and k are those of the targets; everything else is the \
            configuration's. With --data the held-out loss by the text's own next tokens is printed, which `train` prints too: two students, or a \
            student and a model trained on text, are compared by it.
            """)

    @Option(name: .long, help: ArgumentHelp("The folder that `distill sample` wrote.", valueName: "dir"))
    var targets: String

    @Option(name: .long, help: ArgumentHelp("A preset, or a JSON file.", valueName: "name|file"))
    var config = "tiny"

    @Option(
        name: .long, help: "Steps to take; the configuration's total_steps by default.",
        transform: Number.whole(1...1 << 30))
    var steps: Int?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The text that was sampled, for the held-out loss; this package's own sources by default.",
            valueName: "path"))
    var data: String?

    @Option(
        name: .long, help: ArgumentHelp("A folder for checkpoints: one at the end, and at Ctrl-C.", valueName: "dir"))
    var checkpoint: String?

    @Option(name: .long, help: "Also a checkpoint every so many steps.", transform: Number.whole(1...1 << 30))
    var checkpointEvery: Int?

    @Flag(
        name: .long,
        help: "Go on from the last checkpoint in the folder, bit for bit; begin if there is none. --steps is the total."
    )
    var resume = false

    @Flag(inversion: .prefixedNo, help: "Hash every tensor of every step (T6).")
    var fingerprint = true

    @OptionGroup var engine: EngineOptions

    @Flag(name: .long, help: "Print the summary only.")
    var quiet = false

    func validate() throws {
        if checkpoint == nil && (resume || checkpointEvery != nil) {
            throw ValidationError("--resume and --checkpoint-every need --checkpoint DIR.")
        }
    }

    func run() throws {
        let soft = try SoftTargets(reading: targets)
        var c = try ModelConfiguration.reading(config)
        guard c.vocabulary == soft.plan.vocabulary else {
            throw ConfigurationError("vocabulary", "is \(c.vocabulary), and the teacher's was \(soft.plan.vocabulary)")
        }
        (c.sequenceLength, c.distillationK) = (soft.plan.sequenceLength, soft.plan.k)
        try c.validate()
        let corpus = try sampledText(soft.plan, c)
        let total = steps ?? c.totalSteps
        let run = try EngineRun(c, try engine.context(), fingerprints: fingerprint, diagnostics: false)
        let digest = soft.digest
        let folder = checkpoint.map { CheckpointFolder($0, run: run, data: digest) }
        defer { folder?.close() }
        let before = try folder?.begin(resuming: resume) ?? 0
        guard before <= total else {
            throw CommandError(
                "the checkpoint is of step \(before) already; --steps is the total, expected no less than that")
        }
        let (sparse, full) = soft.storage
        if !quiet {
            print(
                "targets      \(counted(soft.plan.sequences, "sequence")), \(soft.plan.k) a token by \(soft.plan.method.rawValue), \(compact(Double(sparse), "B")) in place of \(compact(Double(full), "B")); weights add up to \(decimals(Float(soft.meanWeight))) in the mean"
            )
            let count = c.parameters.reduce(0) { $0 + $1.count }
            print(
                "student      \(compact(Double(count), "parameters")), \(c.batch) x \(c.sequenceLength) tokens a step; \(run.name)"
            )
        }
        if resume && !quiet {
            print(
                "resume       \(before == 0 ? "no checkpoint in \(checkpoint ?? "") yet: the run begins" : "after step \(before)")"
            )
        }
        let bar = ProgressBar("distill", total: UInt64(total), unit: "steps", quiet: quiet)
        let start = monotonicSeconds()
        var losses: [Float] = []
        var taken = before
        // From here to the checkpoint a signal ends the run by the checkpoint.
        if folder != nil { Interruption.hold() }
        for step in before..<total where !Interruption.isRequested {
            let step = step + 1
            do {
                losses.append(try run.step(step, soft.batch(step: step, configuration: c)).loss)
            } catch is Interrupted { break }
            taken = step
            bar.update(UInt64(step), note: "loss \(decimals(losses[losses.count - 1]))")
            if let checkpointEvery, step % checkpointEvery == 0, step < total { try folder?.save(step) }
        }
        bar.finish()
        let seconds = monotonicSeconds() - start
        let isInterrupted = taken < total
        if taken > before { try folder?.save(taken) }
        // Said before the process may be ended by force.
        if isInterrupted { RunInterruption.tell(taken: taken, before: before, of: total, folder: folder) }
        if folder != nil { Interruption.release() }
        if isInterrupted && taken == before { throw ExitCode(Interruption.exitStatus) }
        let rate = Double((taken - before) * c.batch * c.sequenceLength) / seconds
        if let first = losses.first, let last = losses.last {
            print("steps        \(taken - before) in \(duration(seconds)), \(compact(rate, "tokens"))/s")
            print(
                "loss         \(decimals(first)) at step \(before + 1), \(decimals(last)) at step \(taken), of the soft targets"
            )
        } else {
            print("steps        none left: all \(total) were taken before")
        }
        // After a signal only what is at hand is told.
        if !Interruption.isRequested, let corpus, let heldOut = try run.heldOutLoss(corpus) {
            print("held out     \(HeldOut.text(heldOut))")
        }
        if let fingerprint = run.fingerprint { print("fingerprint  \(fingerprint)") }
        if isInterrupted { throw ExitCode(Interruption.exitStatus) }
    }
}

extension DistillTrain {
    /// The text that the targets were sampled from; nil where none is named and the standard one is another.
    private func sampledText(_ plan: SoftTargets.Plan, _ c: ModelConfiguration) throws -> TrainingCorpus? {
        guard let path = data ?? (try? DefaultCorpus.path()) else { return nil }
        let corpus = try TrainingCorpus(reading: path, sequenceLength: c.sequenceLength, quiet: quiet)
        if try corpus.digest(quiet: quiet) == plan.data { return corpus }
        guard data == nil else { throw CommandError("the targets were sampled from another text than \(path)") }
        return nil
    }
}
