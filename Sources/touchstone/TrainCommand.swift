import ArgumentParser
import ExactMath
import Foundation
import GoldenIO
import Goldens
import JSON
import ModelSpec
import Platform
import Reference
import TrainingData

extension Compression: ExpressibleByArgument {}
extension Arithmetic: ExpressibleByArgument {}

struct Train: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train a transformer with the reference, bit for bit reproducibly.",
        discussion: """
            Trains on a text file, a folder of texts, or JSON Lines of documents, chats and trees (see `touchstone data`); on this \
            package's own sources and documents if no --data is given. The configuration is a preset (tiny, small, bench) or a JSON \
            file with the keys of `training.step`; every key may be left out, and {"preset": "small", ...} starts from a preset.

            At the end it prints the loss, the held-out loss, and one fingerprint: a SHA-256 chain over every tensor that every \
            step produced, in execution order. Two runs that agree in every bit print the same line, in debug and in release, with \
            either arithmetic. --log writes one JSON object a step, with the fingerprint so far, so that two runs that differ can be \
            walked to the first step that does.

            Ctrl-C ends after the step that is under way.
            """)

    @Option(name: .long, help: ArgumentHelp("A preset, or a JSON file.", valueName: "name|file"))
    var config = "tiny"

    @Option(name: .long, help: ArgumentHelp("A text file, a folder, or a .jsonl file.", valueName: "path"))
    var data: String?

    @Option(name: .long, help: "Steps to take; the configuration's total_steps by default.")
    var steps: Int?

    @Option(name: .long, help: "What computes: reference.")
    var backend: Backend = .reference

    @Option(name: .long, help: "soft (integers alone) or hardware: the same bits, hardware is faster.")
    var arithmetic: Arithmetic = .hardware

    @Option(name: .long, help: "Simulated data-parallel ranks, in place of the configuration's.")
    var ranks: Int?

    @Option(name: .long, help: "none, bf16 or squinch, in place of the configuration's.")
    var compression: Compression?

    @Option(name: .long, help: ArgumentHelp("One JSON object a step goes here.", valueName: "file"))
    var log: String?

    @Flag(name: .long, help: "Print the mean, rms and largest |Z| of each layer (Z5), and what its clamp moved (C5).")
    var diagnostics = false

    @Flag(name: .long, help: "Print the summary only.")
    var quiet = false

    enum Backend: String, ExpressibleByArgument, CaseIterable { case reference }

    func validate() throws {
        if let steps, steps < 1 { throw ValidationError("--steps takes 1 or more.") }
        if let ranks, ranks < 1 { throw ValidationError("--ranks takes 1 or more.") }
    }

    func run() async throws {
        var c = try ModelConfiguration.reading(config)
        if let ranks { c.ranks = ranks }
        if let compression { c.compression = compression }
        try c.validate()
        guard c.vocabulary >= 256 else {
            throw ConfigurationError("vocabulary", "is \(c.vocabulary); bytes as tokens need 256 or more")
        }
        guard c.distillationK == 0 else {
            throw ConfigurationError("distillation_k", "is \(c.distillationK); a text has no soft targets: expected 0")
        }
        let corpus = try TrainingCorpus(path: try data ?? DefaultCorpus.path(), sequenceLength: c.sequenceLength)
        let total = steps ?? c.totalSteps
        var state = TrainingState(initial: c)
        if !quiet {
            print("data         \(corpus.report)")
            let count = c.parameters.reduce(0) { $0 + $1.count }
            print(
                "model        \(compact(Double(count), "parameters")), \(c.batch) x \(c.sequenceLength) tokens a step")
        }

        Interruption.watch()
        let writer = try log.map(LogFile.init)
        let bar = ProgressBar("train", total: UInt64(total), unit: "steps", quiet: quiet)
        let start = monotonicSeconds()
        var recorder = StepRecorder(configuration: c)
        var first: TrainingStep.Outcome?
        var last: TrainingStep.Outcome?
        var taken = 0
        for step in 1...total where !Interruption.isRequested {
            let batch = corpus.trainingBatch(step: step, configuration: c)
            let outcome = try TrainingStep.run(c, state: &state, batch: batch, step: step, arithmetic: arithmetic) {
                recorder.record($0, Tensor($1))
            }
            taken = step
            first = first ?? outcome
            last = outcome
            try writer?.append(entry(step, outcome, recorder.fingerprint))
            bar.update(UInt64(step), note: "loss \(decimals(outcome.loss))")
        }
        bar.finish()
        try writer?.finish()
        let seconds = monotonicSeconds() - start
        guard let first, let last else { throw Interrupted() }

        print(
            "steps        \(taken) in \(duration(seconds)), \(compact(Double(taken * c.batch * c.sequenceLength) / seconds, "tokens"))/s"
        )
        print("loss         \(decimals(first.loss)) at step 1, \(decimals(last.loss)) at step \(taken)")
        if let heldOut = try heldOutLoss(corpus, c, state) {
            print("held out     \(decimals(heldOut)), byte perplexity \(decimals(CorrectlyRounded.exp(heldOut)))")
        }
        if diagnostics {
            for (layer, statistics) in last.logSumExp[0].enumerated() {
                print("layer \(layer)      |Z| \(statistics)")
            }
            for (layer, report) in (last.clampReports.first ?? []).enumerated() {
                print("layer \(layer)      clamp of \(report)")
            }
        }
        for report in last.compression.first.map({ [$0] }) ?? [] { print("all-reduce   \(report.traffic)") }
        print("fingerprint  \(recorder.fingerprint.hexadecimal)")
        if taken < total { throw ExitCode(130) }
    }

    /// The mean loss over the held-out sequences, in batches; nil if there are none.
    private func heldOutLoss(_ corpus: TrainingCorpus, _ c: ModelConfiguration, _ state: TrainingState) throws -> Float?
    {
        guard !corpus.heldOut.isEmpty else { return nil }
        let model = try Transformer(c, masters: state.weights, arithmetic: arithmetic)
        var sum: Float = 0
        let sequences = corpus.heldOut.prefix(64)
        for sequence in sequences {
            sum = SoftFloat32.add(sum, try model.forward(TrainingBatch([sequence])).loss)
        }
        return SoftFloat32.divide(sum, SoftFloat32.convert(UInt64(sequences.count)))
    }

    private func entry(_ step: Int, _ outcome: TrainingStep.Outcome, _ fingerprint: Fingerprint) -> JSONValue {
        .object([
            "step": .integer(Int64(step)), "loss": .number(Double(outcome.loss)),
            "gradient_norm": .number(Double(outcome.gradientNorm)),
            "learning_rate": .number(Double(outcome.learningRate)), "fingerprint": .string(fingerprint.hexadecimal),
        ])
    }
}

extension TrainingCorpus {
    /// The sequences of a step as one batch with hard targets.
    func trainingBatch(step: Int, configuration: ModelConfiguration) -> TrainingBatch {
        TrainingBatch(batch(step: step, configuration: configuration))
    }
}

extension TrainingBatch {
    init(_ sequences: [TrainingSequence]) {
        self.init(
            tokens: sequences.flatMap(\.tokens), targets: .tokens(sequences.flatMap(\.targets)),
            positions: sequences.flatMap(\.positions), visibilityStart: sequences.flatMap(\.start),
            visibilityLimit: sequences.flatMap(\.limit))
    }
}

/// A loss with four decimals.
private func decimals(_ value: Float) -> String {
    guard value.isFinite else { return "\(value)" }
    let scaled = Int((Double(value) * 10_000).rounded())
    let digits = String(abs(scaled) % 10_000)
    let sign = scaled < 0 ? "-" : ""
    return "\(sign)\(abs(scaled) / 10_000).\(String(repeating: "0", count: 4 - digits.count))\(digits)"
}

/// A JSON Lines file that grows a line at a time, so that it can be watched.
private final class LogFile {
    private let handle: FileHandle

    init(_ path: String) throws {
        // An unwritable place is found before the work, not after it.
        try Files.replace(path, with: [])
        guard let handle = FileHandle(forWritingAtPath: path) else { throw CommandError("cannot write \(path)") }
        self.handle = handle
    }

    func append(_ entry: JSONValue) throws { try handle.write(contentsOf: Data((entry.text() + "\n").utf8)) }

    func finish() throws { try handle.close() }
}
