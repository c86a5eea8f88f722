import ArgumentParser
import Cases
import Checker
import Engine
import EngineOperations
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

struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train a transformer, bit for bit reproducibly.",
        discussion: """
            Trains on a text file, a folder of texts, or JSON Lines of documents, chats and trees (see `touchstone data`); on this \
            package's own sources and documents if no --data is given. The configuration is a preset (tiny, small, bench) or a JSON \
            file with the keys of `training.step`; every key may be left out, and {"preset": "small", ...} starts from a preset.

            At the end it prints the loss, the held-out loss, and one fingerprint: a SHA-256 chain over every tensor that every \
            step produced, in execution order. Two runs that agree in every bit print the same line, in debug and in release, with \
            engine and reference, on every instruction set, with any number of threads. --log writes one JSON object a step, with the fingerprint so far, so that two runs that differ can be \
            walked to the first step that does.

            Ctrl-C and SIGTERM give up the step that is under way, keep a checkpoint of the one before where there is a folder for \
            them, and say how to go on; the exit status is 130 or 143. With --resume the same command line serves a loop that restarts what was \
            ended: it begins where the folder has no checkpoint yet, goes on from the last one where it has, and where every step was taken it \
            prints the outcome again:

              until touchstone train --checkpoint run --resume; do sleep 1; done

            One run at a time has a folder of checkpoints; another is refused.

            Data parallel: --ranks W splits the batch across W ranks in this process, --mpi across as many processes as mpirun starts; both \
            give the same bits, fingerprint and checkpoints:

              touchstone train --ranks 4
              mpirun -n 4 touchstone train --mpi

            What the ranks send each other is counted and printed beside what fp32 and bf16 would take. \
            Under mpirun rank 0 is the one that prints, logs and writes checkpoints; the data must be readable everywhere. SIGUSR1 to mpirun \
            ends all ranks after the same step. Ctrl-C and SIGTERM do too, but mpirun hands them on after a second and kills after another what has not \
            ended, or after the seconds of --mca odls_base_sigkill_timeout, which it then waits in full.

            --bandwidth B estimates, from the times measured here, a step on clusters of \(NetworkTable.sizes.map(String.init).joined(separator: ", ")) ranks \
            with fp32, bf16 and Squinch. The model: weak scaling (each rank has as many tokens as one here, in the same time); a \
            direct or ring reduce-scatter and all-gather, each leg W - 1 messages of 1/W of the encoded gradients, (W - 1) (latency + bytes / W / \
            bandwidth); encoding, adding and decoding at the rates measured here; then norm and optimizer over all parameters on every rank. Two bounds: nothing \
            overlaps, or the exchange hides behind forward and backward. No congestion, no slow ranks.
            """)

    @Option(name: .long, help: ArgumentHelp("A preset, or a JSON file.", valueName: "name|file"))
    var config = "tiny"

    @Option(name: .long, help: ArgumentHelp("A text file, a folder, or a .jsonl file.", valueName: "path"))
    var data: String?

    @Option(
        name: .long, help: "Steps to take; the configuration's total_steps by default.",
        transform: Number.whole(1...1 << 30))
    var steps: Int?

    @Option(name: .long, help: "What computes: engine or reference. The same bits; the engine is faster.")
    var backend: Backend = .engine

    @OptionGroup var engine: EngineOptions

    @Option(
        name: .long, help: "Of the reference: soft (integers alone) or hardware. The same bits; hardware is faster.")
    var arithmetic: Arithmetic = .hardware

    @Flag(
        inversion: .prefixedNo,
        help: "Hash every tensor of every step of the engine (T6). The reference always does.")
    var fingerprint = true

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Sampled lockstep: the reference recomputes this many elements of every tensor of each step from the engine's own inputs; a difference ends the run with exit code 1.",
            valueName: "n"), transform: Number.whole(1...1 << 30))
    var verify: Int?

    @Option(
        name: .long, help: "Data-parallel ranks in this process, in place of the configuration's.",
        transform: Number.whole(1...1 << 20))
    var ranks: Int?

    @Flag(
        name: .long,
        help:
            "Be one rank of as many as `mpirun` started, in place of --ranks. Needs a build with `--traits MPI`.")
    var mpi = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Estimate steps on clusters: what a rank's link carries each way. A number is Gbit/s; or with a unit of bits or bytes, as 25Gbit or 12.5GB.",
            valueName: "rate"))
    var bandwidth: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "For --bandwidth: microseconds before a message begins to flow; 10 by default.", valueName: "µs"),
        transform: Number.nonnegative(1e12))
    var latency: Double?

    @Option(name: .long, help: "none, bf16 or squinch, in place of the configuration's.")
    var compression: Compression?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A folder for checkpoints of the engine: one at the end, and at Ctrl-C. The last two are kept.",
            valueName: "dir"))
    var checkpoint: String?

    @Option(name: .long, help: "Also a checkpoint every so many steps.", transform: Number.whole(1...1 << 30))
    var checkpointEvery: Int?

    @Flag(
        name: .long,
        help: "Go on from the last checkpoint in the folder, bit for bit; begin if there is none. --steps is the total."
    )
    var resume = false

    @Option(
        name: .long,
        help: ArgumentHelp("At the end let the engine's model go on with this text.", valueName: "prompt"))
    var sample: String?

    @Option(
        name: .long, help: "Bytes of text to sample; never more than a sequence holds.",
        reading: Number.whole(1...1 << 30))
    var sampleBytes = 200

    @Option(name: .long, help: "The temperature of sampling.", reading: Number.temperature)
    var temperature: Float = 0.8

    @Option(name: .long, help: ArgumentHelp("One JSON object a step goes here.", valueName: "file"))
    var log: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Every tensor of one step goes here as a case of training.step, for `localise`, `evaluate` and other implementations; held in memory first.",
            valueName: "file.h5"))
    var trace: String?

    @Option(
        name: .long, help: ArgumentHelp("The step that --trace keeps; the first by default.", valueName: "n"),
        transform: Number.whole(1...1 << 30))
    var traceStep: Int?

    @Option(
        name: .long,
        help: ArgumentHelp("An HTML page with the loss curve and all that is printed goes here.", valueName: "file"))
    var report: String?

    @Flag(name: .long, help: "Print the mean, rms and largest |Z| of each layer (Z5), and what its clamp moved (C5).")
    var diagnostics = false

    @Flag(name: .long, help: "Print the summary only.")
    var quiet = false

    enum Backend: String, ExpressibleByArgument, CaseIterable { case engine, reference }

    func validate() throws {
        if verify != nil && backend == .reference {
            throw ValidationError("--verify compares the engine with the reference: leave out --backend reference.")
        }
        if checkpoint == nil && (resume || checkpointEvery != nil) {
            throw ValidationError("--resume and --checkpoint-every need --checkpoint DIR.")
        }
        if backend == .reference && (checkpoint != nil || sample != nil) {
            throw ValidationError("Checkpoints and samples are the engine's: leave out --backend reference.")
        }
        if mpi && ranks != nil {
            throw ValidationError("--mpi takes the number of ranks from mpirun: leave out --ranks.")
        }
        if mpi && backend == .reference {
            throw ValidationError("Ranks as processes are the engine's: leave out --backend reference.")
        }
        if mpi && (verify != nil || trace != nil) {
            throw ValidationError(
                "--verify and --trace look at all ranks' tensors in one process: use --ranks in place of --mpi; the bits are the same."
            )
        }
        if let bandwidth, NetworkModel.bandwidth(bandwidth) == nil {
            throw ValidationError("--bandwidth takes a number above 0, of Gbit/s, or with a unit, as 25Gbit or 12.5GB.")
        }
        if latency != nil && bandwidth == nil { throw ValidationError("--latency goes with --bandwidth.") }
        if bandwidth != nil && backend == .reference {
            throw ValidationError("--bandwidth goes by the engine's times: leave out --backend reference.")
        }
        if traceStep != nil && trace == nil { throw ValidationError("--trace-step needs --trace FILE.") }
        let files = [log, report, trace].compactMap(\.self).map { URL(fileURLWithPath: $0).standardized.path }
        let read = [config, data].compactMap(\.self).map { URL(fileURLWithPath: $0).standardized.path }
        if Set(files).count < files.count || !Set(files).isDisjoint(with: read) {
            throw ValidationError("--log, --report and --trace take a file each, other than --data and --config.")
        }
        if sample?.isEmpty == true { throw ValidationError("--sample takes at least one character.") }
    }

    func run() throws {
        if mpi { try RunGroup.underMPI { try train($0) } } else { try train(RunGroup(world: nil)) }
    }

    private func train(_ group: RunGroup) throws {
        let (c, corpus) = try group.together { try prepare(group) }
        // What names the data goes into checkpoints and is compared between processes; a run alone saves the time.
        let data =
            checkpoint != nil || group.world != nil
            ? try group.together { try corpus.digest(quiet: quiet || !group.isMain) } : ""
        let total = steps ?? c.totalSteps
        try group.expectCommon(
            "\(JSONValue.object(c.recipe(withBits: true)).text()) \(total) \(fingerprint) \(checkpoint != nil) \(checkpointEvery ?? 0) \(resume)",
            "configuration or other options")
        try group.expectCommon(data, "text to train on")
        let engineRun = try group.together {
            backend == .engine
                ? try EngineRun(
                    c, try engine.context(processes: group.world?.localCount ?? 1), fingerprints: fingerprint,
                    diagnostics: diagnostics, world: group.world) : nil
        }
        if backend == .reference { engine.applyToReference() }
        let run: any TrainingRun = engineRun ?? ReferenceRun(c, arithmetic)
        let folder = checkpoint.flatMap { path in
            engineRun.map { CheckpointFolder(path, run: $0, data: data, group: group) }
        }
        defer { folder?.close() }
        let before = try folder?.begin(resuming: resume) ?? 0
        guard before <= total else {
            throw CommandError(
                "the checkpoint is of step \(before) already; --steps is the total, expected no less than that")
        }
        let traced = trace == nil || before == total ? nil : traceStep ?? before + 1
        // What a run that goes on has traced before is there.
        if let traced, let trace,
            traced > total || traced <= before && !FileManager.default.fileExists(atPath: trace)
        {
            throw CommandError("--trace-step is \(traced); the steps of this run are \(before + 1) to \(total)")
        }
        if let verify { engineRun?.verify(samples: verify) }
        let isQuiet = quiet || !group.isMain
        if !isQuiet {
            print("data         \(corpus.report)")
            for line in corpus.report.skippedLines { print("skipped      \(line)") }
            let count = c.parameters.reduce(0) { $0 + $1.count }
            print(
                "model        \(compact(Double(count), "parameters")), \(c.batch) x \(c.sequenceLength) tokens a step; \(run.name)"
            )
        }

        if resume && !isQuiet {
            print(
                "resume       \(before == 0 ? "no checkpoint in \(checkpoint ?? "") yet: the run begins" : "after step \(before)")"
            )
        }
        if mpi { Interruption.watchUserSignal() }
        let writer = try group.together {
            group.isMain ? try log.map { try FileAppender($0, keeping: keptLog($0, upTo: before)) } : nil
        }
        let bar = ProgressBar("train", total: UInt64(total), unit: "steps", quiet: isQuiet)
        let start = monotonicSeconds()
        var first: StepSummary?
        var last: StepSummary?
        var losses: [Float] = []
        var taken = before
        var (traffic, spent) = (Traffic(), StepSeconds())
        // What went wrong on this process alone: all hear of it before the next step.
        var failure: (any Error)?
        // From here to the checkpoint a signal ends the run by the checkpoint, and ranks end together.
        let isHeld = folder != nil || mpi
        if isHeld { Interruption.hold() }
        for step in before..<total {
            let step = step + 1
            let batch = Result { try corpus.trainingBatch(step: step, configuration: c) }
            if case .failure(let error) = batch { failure = failure ?? error }
            if try group.mustEnd(failure: failure) { break }
            let summary: StepSummary
            // A step of the reference may take minutes.
            let progress = WorkProgress { part, fraction in
                bar.update(UInt64(step - 1), note: "step \(step): pass \(part), \(Int(fraction * 100)) %")
            }
            do {
                let batch = try batch.get()
                summary = try WorkProgress.$current.withValue(backend == .reference ? progress : nil) {
                    if let trace, step == traced {
                        try writeTrace(trace, run, c, batch, step)
                    } else {
                        try run.step(step, batch)
                    }
                }
            } catch is Interrupted {
                // The step is given up; the state is that of the one before.
                break
            } catch let difference as StepVerifier.Difference {
                bar.finish()
                print("NOT BIT-EXACT  \(difference)")
                throw Judgement.doesNotConform.exit
            }
            taken = step
            first = first ?? summary
            last = summary
            losses.append(summary.loss)
            traffic += summary.traffic
            // The first step finds memory and caches cold.
            if step == before + 2 { spent = StepSeconds() }
            spent += summary.seconds
            do {
                let line = try entry(step, summary, run.fingerprint).text() + "\n"
                try writer?.append(Array(line.utf8))
            } catch { failure = error }
            let tokens = Double((step - before) * c.batch * c.sequenceLength) / (monotonicSeconds() - start)
            bar.update(UInt64(step), note: "loss \(decimals(summary.loss))  \(compact(tokens, "tokens"))/s")
            if let checkpointEvery, step % checkpointEvery == 0, step < total {
                try folder?.save(step)
            }
        }
        bar.finish()
        let seconds = monotonicSeconds() - start
        try group.together {
            if let failure { throw failure }
        }
        let isInterrupted = taken < total
        if taken > before { try folder?.save(taken) }
        // Said before the process may be ended by force.
        if isInterrupted && group.isMain {
            RunInterruption.tell(
                taken: taken, before: before, of: total, folder: folder, processes: group.world?.count)
        }
        if isHeld { Interruption.release() }
        if isInterrupted && taken == before { throw ExitCode(Interruption.exitStatus) }

        try group.onMain {
            var facts: [(String, String)] = []
            func tell(_ name: String, _ value: String) {
                print(name + String(repeating: " ", count: 13 - name.count) + value)
                facts.append((name, value))
            }
            let rate = Double((taken - before) * c.batch * c.sequenceLength) / seconds
            if let first, let last {
                tell("steps", "\(taken - before) in \(duration(seconds)), \(compact(rate, "tokens"))/s")
                tell("loss", "\(decimals(first.loss)) at step \(before + 1), \(decimals(last.loss)) at step \(taken)")
            } else {
                tell("steps", "none left: all \(total) were taken before")
            }
            // After a signal only what is at hand is told.
            if !Interruption.isRequested, let heldOut = try run.heldOutLoss(corpus) {
                tell("held out", HeldOut.text(heldOut))
            }
            if let verifier = engineRun?.verifier { tell("verified", verifier.summary) }
            if diagnostics {
                for line in run.diagnostics { print(line) }
                facts.append(("diagnostics", run.diagnostics.joined(separator: "\n")))
            }
            if c.ranks > 1 && taken > before {
                tell("all-reduce", Self.describe(traffic, steps: taken - before))
                if engineRun != nil {
                    tell(
                        "step time",
                        Self.describe(spent, steps: max(1, taken - before - 1), isShared: group.world == nil))
                }
            }
            var sections = [
                TrainingPage.Section(title: "Loss", svg: TrainingPage.lossCurve(losses, first: before + 1))
            ]
            if taken > before, !Interruption.isRequested, let engineRun,
                let bandwidth = bandwidth.flatMap(NetworkModel.bandwidth)
            {
                let lines = NetworkTable.lines(
                    NetworkModel(bandwidth: bandwidth, latency: (latency ?? 10) * 1e-6), c,
                    seconds: spent.divided(by: max(1, taken - before - 1)), codec: engineRun.codec)
                for line in lines { print(line) }
                sections.append(TrainingPage.Section(title: "On a cluster", text: lines.joined(separator: "\n")))
            }
            if !Interruption.isRequested, let sample, let engineRun {
                let text = try engineRun.text(prompt: sample, bytes: sampleBytes, temperature: temperature)
                print("sample       \(PlainText.line("\(sample)|\(text)"))")
                sections.append(TrainingPage.Section(title: "Text of the model", text: sample + text))
            }
            if let fingerprint = run.fingerprint {
                tell("fingerprint", fingerprint)
            } else if let engineRun {
                tell("weights", engineRun.weightsFingerprint)
            }
            if let report {
                facts.insert(
                    (
                        "data",
                        ([corpus.report.description] + corpus.report.skippedLines).joined(separator: "; skipped ")
                    ), at: 0)
                facts.insert(("model", "\(config), \(run.name)"), at: 1)
                let page = TrainingPage.html(
                    title: "Training \(config)",
                    command: CommandLine.arguments.dropFirst().reduce("touchstone") { $0 + " " + $1 },
                    facts: facts, sections)
                try Files.replace(report, with: Array(page.utf8))
            }
        }
        if isInterrupted { throw ExitCode(Interruption.exitStatus) }
    }

    /// The configuration of this run, and its data.
    private func prepare(_ group: RunGroup) throws -> (ModelConfiguration, TrainingCorpus) {
        var c = try ModelConfiguration.reading(config)
        if let ranks = group.world?.count ?? ranks { c.ranks = ranks }
        if let compression { c.compression = compression }
        try c.validate()
        guard c.vocabulary >= 256 else {
            throw ConfigurationError("vocabulary", "is \(c.vocabulary); bytes as tokens need 256 or more")
        }
        guard c.distillationK == 0 else {
            throw ConfigurationError("distillation_k", "is \(c.distillationK); a text has no soft targets: expected 0")
        }
        let corpus = try TrainingCorpus(
            reading: try data ?? DefaultCorpus.path(), sequenceLength: c.sequenceLength,
            quiet: quiet || !group.isMain)
        guard try corpus.hasTarget() else {
            throw CommandError(
                "no token of the data has a next one to be predicted: a longer text or a sequence_length above \(c.sequenceLength) is needed"
            )
        }
        // What cannot be written is found before the work, by the rank that writes.
        if group.isMain { for path in [report, trace, log].compactMap(\.self) { try Files.requireWritable(path) } }
        return (c, corpus)
    }

    /// What ranks sent each other, beside what other formats would have taken.
    private static func describe(_ traffic: Traffic, steps: Int) -> String {
        func share(_ bytes: Int) -> String {
            "\(bytes / steps) (\((Double(traffic.total) / Double(max(1, bytes)) * 1000).rounded() / 1000) of it)"
        }
        return
            "\(traffic.total / steps) bytes a step over both legs, \(traffic.scattered / steps) to the shards' owners and \(traffic.gathered / steps) back; fp32 would take \(share(traffic.asFP32)), bf16 \(share(traffic.asBF16)); \(compact(Double(traffic.total), "B")) in all"
    }

    /// - Parameter isShared: whether one process codes for all ranks, and sends nothing.
    private static func describe(_ spent: StepSeconds, steps: Int, isShared: Bool) -> String {
        let mean = spent.divided(by: steps)
        let coding = "\(NetworkTable.time(mean.codec)) coding and adding\(isShared ? " of all ranks" : "")"
        let exchange = isShared ? "" : ", \(NetworkTable.time(mean.exchange)) exchange and waiting"
        return
            "\(NetworkTable.time(mean.passes)) forward and backward of a rank, \(coding)\(exchange), \(NetworkTable.time(mean.update)) norm and update"
    }

    /// Takes a step and writes what it began with and every tensor of it.
    private func writeTrace(
        _ path: String, _ run: any TrainingRun, _ c: ModelConfiguration, _ batch: TrainingBatch, _ step: Int
    ) throws -> StepSummary {
        let state = run.currentState
        var tensors: [NamedTensor] = []
        run.observer = { tensors.append(NamedTensor($0, $1)) }
        defer { run.observer = nil }
        let summary = try run.step(step, batch)
        // The chain of this step alone: the state before it is among the inputs.
        var chain = Fingerprint()
        for named in tensors { chain.append(named.name, named.tensor) }
        let made = StepTrace.goldenCase(
            name: "step-\(step)", why: "step \(step) of a training run: \(run.name)", c, state: state, batch: batch,
            step: step,
            tensors: tensors, fingerprint: chain.digest)
        let header = GoldenHeader(
            specVersion: Specification.version, suite: Suite.training.rawValue, tier: "trace",
            generator: "touchstone \(Specification.softwareVersion)", seed: c.seed)
        let writer = try GoldenWriter(path: path, header: header)
        try writer.write(made)
        try writer.finish()
        return summary
    }

    private func entry(_ step: Int, _ summary: StepSummary, _ fingerprint: String?) -> JSONValue {
        var entry: [String: JSONValue] = [
            "step": .integer(Int64(step)), "loss": .number(Double(summary.loss)),
            "gradient_norm": .number(Double(summary.gradientNorm)),
            "learning_rate": .number(Double(summary.learningRate)),
        ]
        if let fingerprint { entry["fingerprint"] = .string(fingerprint) }
        let traffic = summary.traffic
        if traffic.total > 0 {
            entry["bytes_scattered"] = .integer(Int64(traffic.scattered))
            entry["bytes_gathered"] = .integer(Int64(traffic.gathered))
            entry["bytes_as_fp32"] = .integer(Int64(traffic.asFP32))
            entry["bytes_as_bf16"] = .integer(Int64(traffic.asBF16))
        }
        return .object(entry)
    }
}

/// A held-out loss, in nats a token, as people compare it: tokens are bytes.
enum HeldOut {
    static func text(_ loss: Float) -> String {
        "\(decimals(loss)), \(decimals(Float(Double(loss) / 0x1.62E42FEFA39EFp-1))) bits a byte"
    }
}

/// A loss with four decimals.
func decimals(_ value: Float) -> String {
    guard value.isFinite, abs(value) < 0x1p40 else { return "\(value)" }
    let scaled = Int((Double(value) * 10_000).rounded())
    let digits = String(abs(scaled) % 10_000)
    let sign = scaled < 0 ? "-" : ""
    return "\(sign)\(abs(scaled) / 10_000).\(String(repeating: "0", count: 4 - digits.count))\(digits)"
}

/// The lines of a log that a run that goes on keeps: steps behind its checkpoint are taken again, and a line that was cut short is gone.
///
/// - Parameter step: the last step whose line stays; 0 begins anew.
private func keptLog(_ path: String, upTo step: Int) throws -> [UInt8] {
    guard step > 0, FileManager.default.fileExists(atPath: path) else { return [] }
    var kept: [UInt8] = []
    for line in try Files.bytes(of: path).split(separator: 0x0A) {
        guard case .object(let entry)? = try? JSONValue(text: String(decoding: line, as: UTF8.self)),
            case .integer(let number)? = entry["step"], number <= Int64(step)
        else { continue }
        kept += line + [0x0A]
    }
    return kept
}
