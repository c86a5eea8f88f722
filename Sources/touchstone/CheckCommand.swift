import ArgumentParser
import Checker
import EngineOperations
import Foundation
import GoldenIO
import Goldens
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

    @Option(name: .customLong("case"), help: "A case to check; may be given several times. All by default.")
    var cases: [String] = []

    @OptionGroup var engine: EngineOptions
    @OptionGroup var report: ReportOptions

    func run() throws {
        let context = try engine.context()
        let catalog = EngineCatalog(context)
        var result = Report(subject: EngineOptions.name(context))
        let options = JudgingOptions(policy: .exact, cases: Set(cases), pictures: report.pictures)
        let paths = try goldenPaths(goldens, suites: suite.map(\.rawValue))
        let bar = ProgressBar("check", total: UInt64(paths.count), unit: "files", quiet: report.quiet)
        var missing: Set<String> = []
        for (index, path) in paths.enumerated() {
            missing.formUnion(try catalog.check(path, options, into: &result))
            bar.update(UInt64(index + 1))
        }
        bar.finish()
        for op in missing.sorted() { result.append(note: "the engine has no '\(op)': its cases were not checked") }
        guard !result.cases.isEmpty else {
            throw JudgingError.nothingToJudge("no case of the engine's operations under '\(goldens)'")
        }
        try report.write(result)
        if !result.conforms { throw ExitCode(1) }
    }
}

/// - Throws: `JudgingError` for a file of another suite than those asked for; no suites are all.
func require(_ file: GoldenFile, isOf suites: [String]) throws(JudgingError) {
    guard suites.isEmpty || suites.contains(file.header.suite) else {
        throw JudgingError.nothingToJudge(
            "\(file.path) is of the suite '\(file.header.suite)', not of \(suites.joined(separator: ", "))")
    }
}

/// The golden files of the suites, in the order of their suites and paths; a path to one file is that file.
func goldenPaths(_ goldens: String, suites: [String]) throws -> [String] {
    if try Files.status(of: goldens).kind == .regular {
        try require(try GoldenFile(reading: goldens), isOf: suites)
        return [goldens]
    }
    let manifestPath = goldens + "/MANIFEST.json"
    guard FileManager.default.fileExists(atPath: manifestPath) else {
        throw JudgingError.goldens(
            "'\(goldens)' has no MANIFEST.json: not a folder of goldens; `touchstone generate` writes one, --goldens names it"
        )
    }
    let order = Suite.allCases.map(\.rawValue)
    return try Manifest(reading: manifestPath).files
        .filter { suites.isEmpty || suites.contains($0.suite) }
        .sorted {
            (order.firstIndex(of: $0.suite) ?? order.count, $0.path) < (
                order.firstIndex(of: $1.suite) ?? order.count, $1.path
            )
        }
        .map { "\(goldens)/\($0.path)" }
}

extension EngineCatalog {
    /// Judges the engine's answers to a golden file's cases; operations that the engine does not have.
    @discardableResult
    func check(_ path: String, _ options: JudgingOptions = JudgingOptions(policy: .exact), into report: inout Report)
        throws -> Set<String>
    {
        let known = Set(Self.names)
        var missing: Set<String> = []
        let file = try GoldenFile(reading: path)
        for name in file.caseNames where options.cases.isEmpty || options.cases.contains(name) {
            try Interruption.check()
            let golden = try file.readCase(name)
            guard known.contains(golden.op) else {
                missing.insert(golden.op)
                continue
            }
            report.append(
                Judge.judge(
                    try evaluate(golden), against: golden, suite: file.header.suite, file: path, options: options,
                    wantsPictures: report.needsPictures(options)))
        }
        return missing
    }
}
