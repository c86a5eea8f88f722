import ArgumentParser
import Cases
import Checker
import Engine
import EngineOperations
import Foundation
import GoldenIO
import Goldens
import ModelSpec
import Platform

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what this does, in about a minute.",
        discussion: """
            Generates the quick goldens into a fresh folder and compares them with the shipped ones; has the engine answer them, on every \
            instruction set of this processor; judges the reference through the same door as any other implementation, and a deliberately \
            wrong one; and trains a small model on real text while the reference recomputes elements of every tensor of every step. \
            Run it in the package's folder. The loss curve and all of the above go to one HTML page.
            """)

    @Option(name: .long, help: ArgumentHelp("The shipped goldens.", valueName: "dir"))
    var goldens = "GoldenData"

    @Option(name: .long, help: ArgumentHelp("The wrong implementation.", valueName: "script"))
    var wrong = "Tools/examples/truncating"

    @Option(name: .long, help: ArgumentHelp("Text to train on; this package's own by default.", valueName: "path"))
    var data: String?

    @Option(name: .long, help: "Seconds to train for, at most.", reading: Number.positive(1e6))
    var seconds = 30.0

    @Option(name: .long, help: ArgumentHelp("Where the page goes.", valueName: "file"))
    var report = "touchstone-demo.html"

    func run() async throws {
        guard FileManager.default.fileExists(atPath: goldens + "/MANIFEST.json") else {
            throw CommandError(
                "no goldens at '\(goldens)': run this in the package's folder, or name them with --goldens")
        }
        guard FileManager.default.isExecutableFile(atPath: wrong) else {
            throw CommandError("no script at '\(wrong)': run this in the package's folder, or name it with --wrong")
        }
        let folder = try TemporaryFolder()
        defer { folder.remove() }
        let start = monotonicSeconds()

        print("1. Write the quick goldens with the bit-exact reference")
        let fresh = try GoldenSet.generate(
            suites: Suite.allCases, tier: .quick, seed: GoldenSuites.defaultSeed,
            directory: folder.path + "/GoldenData",
            inputsOnly: false, quiet: false)
        let elements = fresh.files.reduce(0) { $0 + $1.bytes }
        print(
            "   \(counted(fresh.files.count, "file")), \(counted(fresh.files.reduce(0) { $0 + $1.cases }, "case")), \(compact(Double(elements), "B")) in \(tenths(monotonicSeconds() - start)) s"
        )

        print("2. Compare them with the shipped ones, byte for byte")
        let shipped = try Manifest(reading: goldens + "/MANIFEST.json")
        var differing: [String] = []
        for file in fresh.files where !shipped.files.contains(where: { $0.path == file.path }) {
            differing.append("\(file.path) is not shipped")
        }
        for file in shipped.files {
            let now = fresh.files.first { $0.path == file.path }?.sha256
            let onDisk = try sha256(ofFile: "\(goldens)/\(file.path)")
            if now != file.sha256 || onDisk != file.sha256 { differing.append(file.path) }
        }
        print(
            differing.isEmpty
                ? "   all \(counted(shipped.files.count, "file")) are identical"
                : "   DIFFERENT: \(differing.joined(separator: ", "))")

        print("3. Let the engine answer them")
        var engineIsExact = true
        for kernels in InstructionSets.available {
            let context = EngineContext(kernels: kernels, threads: ProcessInfo.processInfo.activeProcessorCount)
            var tally = Report(subject: EngineOptions.name(context))
            for path in fresh.files.map({ "\(folder.path)/GoldenData/\($0.path)" }) {
                try EngineCatalog(context).check(path, into: &tally)
            }
            if !tally.conforms { engineIsExact = false }
            print("   \(EngineOptions.name(context)): \(TextReport().summary(tally))")
        }

        print("4. Judge the reference as if it were somebody else's")
        let program = PluginProcess.quoted(Bundle.main.executablePath ?? CommandLine.arguments[0])
        let reference = try await judge(
            "\(program) evaluate --quiet {in} {out}",
            ["dot/gemm.h5", "squinch/encode.h5", "zreg/attention.h5", "training/steps.h5"])
        print("   \(TextReport().summary(reference))")

        print("5. Judge an implementation that truncates instead of rounding to nearest")
        let truncating = try await judge(
            "\(PluginProcess.quoted(wrong)) {in} {out}", ["bf16/arithmetic.h5"],
            CaseSelection(cases: ["*-rne"]))
        let text = TextReport(usesColour: Terminal.standardOutputIsTerminal, detailLimit: 1).text(truncating)
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) { Swift.print("   \(line)") }

        print("6. Train on text, the reference recomputing elements of every tensor of every step")
        let training = try DemoTraining(data: data, seconds: seconds)
        for line in training.lines { print("   \(line)") }

        print("Summary")
        let lines: [(String, Bool)] = [
            ("goldens reproduced byte for byte", differing.isEmpty && !shipped.files.isEmpty),
            ("the engine has the goldens' bits", engineIsExact),
            ("the reference conforms to its goldens", reference.conforms),
            ("the truncating implementation is found out", !truncating.conforms && truncating.count(.outside) > 0),
            (
                "training is bit-exact wherever the reference looked",
                training.difference == nil && !training.losses.isEmpty
            ),
        ]
        for (what, holds) in lines { print("   \(holds ? "yes" : "NO ")  \(what)") }
        let wrongReport = TextReport(usesColour: false, detailLimit: 1).text(truncating)
        try Files.replace(report, with: Array(DemoPage.html(lines, training, wrongReport).utf8))
        print("   \(tenths(monotonicSeconds() - start)) s in all; \(report) shows it as a page")
        try end(lines.allSatisfy(\.1) ? .conforms : .doesNotConform)
    }

    private func judge(_ command: String, _ files: [String], _ selection: CaseSelection = CaseSelection()) async throws
        -> Report
    {
        var report = Report(subject: command)
        let plugin = try PluginProcess(command: command, timeout: .seconds(600))
        try await plugin.judge(
            files.map { "\(goldens)/\($0)" }, JudgingOptions(selection: selection), quiet: true, into: &report)
        return report
    }

    private func tenths(_ seconds: Double) -> String { "\((seconds * 10).rounded() / 10)" }
}
