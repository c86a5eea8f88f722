import Checker
import Engine
import ExactMath
import Foundation
import ModelSpec
import Platform
import TrainingData

/// The demonstration's training run: a small model on text for a while, in lockstep with the reference.
struct DemoTraining {
    private(set) var lines: [String] = []
    private(set) var losses: [Float] = []
    /// What the untrained and the trained model write.
    private(set) var before = ""
    private(set) var after = ""
    /// nil where every element that was looked at was the reference's.
    private(set) var difference: StepVerifier.Difference?

    static let prompt = "The "

    static var configuration: ModelConfiguration {
        var c = ModelConfiguration(preset: .tiny)
        (c.learningRate, c.warmupSteps, c.totalSteps) = (0.004, 20, 1000)
        return c
    }

    init(data: String?, seconds: Double) throws {
        let c = Self.configuration
        let corpus = try TrainingCorpus(reading: try data ?? DefaultCorpus.path(), sequenceLength: c.sequenceLength)
        let context = EngineContext(threads: ProcessInfo.processInfo.activeProcessorCount)
        let run = try EngineRun(c, context, fingerprints: true, diagnostics: false)
        lines.append("\(corpus.report)")
        lines += corpus.report.skippedLines.map { "skipped \($0)" }
        lines.append("\(compact(Double(c.parameters.reduce(0) { $0 + $1.count }), "parameters")); \(run.name)")
        before = try sample(run)
        run.verify(samples: 1)
        let bar = ProgressBar("   train", total: UInt64(c.totalSteps), unit: "steps", quiet: false)
        let start = monotonicSeconds()
        var step = 0
        while step < c.totalSteps, monotonicSeconds() - start < seconds, !Interruption.isRequested {
            step += 1
            do {
                losses.append(try run.step(step, try corpus.trainingBatch(step: step, configuration: c)).loss)
            } catch let found as StepVerifier.Difference {
                difference = found
                break
            }
            bar.update(UInt64(step), note: "loss \(decimals(losses[losses.count - 1]))")
        }
        bar.finish()
        try Interruption.check()
        let taken = monotonicSeconds() - start
        if let difference { lines.append("NOT BIT-EXACT: \(difference)") }
        guard let first = losses.first, let last = losses.last else { return }
        lines.append(
            "\(counted(losses.count, "step")) in \(duration(taken)), \(compact(Double(losses.count * c.batch * c.sequenceLength) / taken, "tokens"))/s with the reference looking on"
        )
        lines.append("loss \(decimals(first)) at the first step, \(decimals(last)) at the last")
        if let verifier = run.verifier, difference == nil { lines.append(verifier.summary) }
        after = try sample(run)
        lines.append("untrained  \(PlainText.line(before))")
        lines.append("trained    \(PlainText.line(after))")
        if let fingerprint = run.fingerprint { lines.append("fingerprint \(fingerprint)") }
    }

    private func sample(_ run: EngineRun) throws -> String {
        Self.prompt + (try run.text(prompt: Self.prompt, bytes: 56, temperature: 0.5))
    }
}

/// The demonstration as a page.
enum DemoPage {
    static func html(_ summary: [(String, Bool)], _ training: DemoTraining, _ wrong: String) -> String {
        TrainingPage.html(
            title: "Touchstone: the demonstration", command: "Tools/run",
            facts: summary.map { ($0.1 ? "yes" : "NO", $0.0) },
            [
                TrainingPage.Section(
                    title: "Training, watched by the reference", text: training.lines.joined(separator: "\n"),
                    svg: TrainingPage.lossCurve(training.losses, first: 1)),
                TrainingPage.Section(
                    title: "What it says of a kernel that truncates where it should round to nearest", text: wrong),
            ])
    }
}
