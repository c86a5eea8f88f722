import ArgumentParser
import Cases
import Checker
import EngineOperations
import Foundation
import GoldenIO
import Goldens
import ModelSpec
import Platform

struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the engine on the goldens' inputs and compare every bit.",
        discussion: """
            The engine answers every case of the goldens that it has an operation for; every output must be the golden's, bit for bit (NaNs are one \
            class), whatever the instruction set and the number of threads. Exit status 1 if one is not.
            """)

    @Option(name: .long, help: ArgumentHelp("The folder of goldens, or one golden file.", valueName: "path"))
    var goldens = "GoldenData"

    @Option(name: .long, help: "A suite to check; may be given several times. All by default.")
    var suite: [Suite] = []

    @OptionGroup var selection: SelectionOptions

    @OptionGroup var engine: EngineOptions
    @OptionGroup var report: ReportOptions

    func run() throws {
        let context = try engine.context()
        let catalog = EngineCatalog(context)
        var result = Report(subject: EngineOptions.name(context))
        let options = JudgingOptions(policy: .exact, selection: selection.selection, pictures: report.pictures)
        let paths = try goldenPaths(goldens, suites: suite.map(\.rawValue))
        try selection.require(in: paths, &result)
        let bar = ProgressBar("check", total: UInt64(paths.count), unit: "files", quiet: report.quiet)
        for (index, path) in paths.enumerated() {
            try catalog.check(path, options, into: &result)
            bar.update(UInt64(index + 1))
        }
        bar.finish()
        guard !result.cases.isEmpty else {
            throw JudgingError.nothingToJudge("no case of the engine's operations under '\(goldens)'")
        }
        try report.write(result)
        try end(result.judgement)
    }
}

/// - Throws: `JudgingError` for a file of another suite than those asked for; no suites are all.
func require(_ file: GoldenFile, isOf suites: [String]) throws(JudgingError) {
    guard suites.isEmpty || suites.contains(file.header.suite) else {
        throw JudgingError.nothingToJudge(
            "\(file.path) is of the suite '\(file.header.suite)', not of \(suites.joined(separator: ", "))")
    }
}

/// What stands at --goldens.
///
/// - Throws: `JudgingError` that says how to come by goldens, if nothing does.
func goldensKind(_ goldens: String) throws -> FileKind {
    do { return try Files.status(of: goldens).kind } catch {
        throw JudgingError.goldens(
            "cannot read the goldens at '\(goldens)': \(error.reason); --goldens names them, `touchstone generate` writes them"
        )
    }
}

/// The golden files of the suites, in the order of their suites and paths; a path to one file is that file.
func goldenPaths(_ goldens: String, suites: [String]) throws -> [String] {
    if try goldensKind(goldens) == .regular {
        try require(try GoldenFile(reading: goldens), isOf: suites)
        return [goldens]
    }
    let manifestPath = goldens + "/MANIFEST.json"
    guard FileManager.default.fileExists(atPath: manifestPath) else {
        throw JudgingError.goldens(
            "'\(goldens)' has no MANIFEST.json, so it is no folder of goldens: --goldens names one, `touchstone generate` writes one"
        )
    }
    let order = Suite.allCases.map(\.rawValue)
    let files = try Manifest(reading: manifestPath).files
    for suite in suites where !files.contains(where: { $0.suite == suite }) {
        throw JudgingError.nothingToJudge("'\(goldens)' has no file of the suite '\(suite)'")
    }
    return
        files.filter { suites.isEmpty || suites.contains($0.suite) }
        .sorted {
            (order.firstIndex(of: $0.suite) ?? order.count, $0.path) < (
                order.firstIndex(of: $1.suite) ?? order.count, $1.path
            )
        }
        .map { "\(goldens)/\($0.path)" }
}

extension EngineCatalog {
    /// Judges the engine's answers to a golden file's cases; those of operations that the engine does not have are skipped.
    func check(_ path: String, _ options: JudgingOptions = JudgingOptions(policy: .exact), into report: inout Report)
        throws
    {
        let known = Set(Self.names)
        let file = try GoldenFile(reading: path)
        for name in try options.selection.names(in: file) {
            try Interruption.check()
            let golden = try file.readCase(name)
            guard known.contains(golden.op) else {
                report.append(
                    skipped: SkippedCase(suite: file.header.suite, file: path, name: name, op: golden.op))
                continue
            }
            report.append(
                Judge.judge(
                    try evaluate(golden), against: golden, suite: file.header.suite, file: path, options: options,
                    wantsPictures: report.needsPictures(options)))
        }
    }
}
