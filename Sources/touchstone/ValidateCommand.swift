import ArgumentParser
import Checker
import Foundation
import GoldenIO
import Goldens
import Platform

extension NaNRule: ExpressibleByArgument {}

extension PolicyRule: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }

    /// - Throws: `ValidationError` for a rule that names no operation.
    static func requireOperations(_ rules: [Self]) throws {
        for rule in rules where !OperationCatalog.all.contains(where: { rule.names($0.name) }) {
            throw ValidationError("--policy \(rule) names no operation.")
        }
    }
}

extension Report {
    /// - Throws: `JudgingError` for a rule that names none of the outputs of the operations that it names.
    func requireOutputs(of rules: [PolicyRule]) throws(JudgingError) {
        for rule in rules {
            let named = cases.filter { rule.names($0.op) }
            guard let one = named.first,
                !named.contains(where: { one in one.outputs.contains { rule.names(one.op, output: $0.name) } })
            else { continue }
            throw JudgingError.nothingToJudge(
                "--policy \(rule) names no output; \(one.op) has \(one.outputs.map(\.name).joined(separator: ", "))")
        }
    }
}

enum ReportFormat: String, ExpressibleByArgument, CaseIterable { case text, json, junit, html }

/// Where a report goes and how it looks.
struct ReportOptions: ParsableArguments {
    @Option(name: .long, help: "text, json, junit (XML for build servers) or html (one page with pictures).")
    var format: ReportFormat = .text

    @Option(
        name: [.short, .long],
        help: ArgumentHelp("Write the report to this file instead of standard output.", valueName: "file"))
    var output: String?

    @Option(name: .long, help: ArgumentHelp("Show so many failing outputs in detail.", valueName: "n"))
    var details = 8

    @Flag(name: .long, help: "Print nothing but errors; the exit status tells.")
    var quiet = false

    func validate() throws {
        if details < 0 { throw ValidationError("--details cannot be negative.") }
    }

    /// How many outputs' pictures are to be kept while judging.
    var pictures: Int { format == .html ? details : 0 }

    func write(_ report: Report) throws {
        let isTerminal = output == nil && Terminal.standardOutputIsTerminal
        let colour = isTerminal && ProcessInfo.processInfo.environment["NO_COLOR"] == nil
        let text =
            switch format {
            case .text: TextReport(usesColour: colour, detailLimit: details).text(report)
            case .json: try report.json.text(indented: true) + "\n"
            case .junit: JUnitReport().text(report)
            case .html: HTMLReport(detailLimit: details).text(report)
            }
        if let output {
            try Files.replace(output, with: Array(text.utf8))
        } else if !quiet {
            print(text, terminator: "")
        }
    }
}

struct Validate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Judge an implementation: a file that it wrote, a command that writes one, or a shared library.",
        discussion: """
            FILE.h5 holds the same cases as a golden file, with outputs/ filled by the implementation. Its suite is read from the file, or \
            given by --goldens as one golden file.

            With --exec the command runs once for each golden file of the suites, through /bin/sh, with {in} replaced by a file of \
            recipes and inputs and {out} by the path to write to:

              touchstone validate --suite dot --exec 'python my_kernel.py {in} {out}'

            With --library a shared library with the functions of touchstone.h answers each case, loaded in a process of its own:

              cc -O2 -shared -fPIC -I Sources/CTouchstonePlugin/include mine.c -o libmine.so
              touchstone validate --library ./libmine.so

            Every output gets a verdict: exact, legal reordering (inside the bound and unbiased), within tolerance, in distribution, outside, \
            missing, malformed, or failed (a crash, a hang, an error of its own; the next case or file is asked all the same). --policy says what is \
            allowed: to everything (--policy exact), to operations (--policy dot.gemm=bound --policy 'math.*=ulp:1') or to one output of them \
            (--policy attention.forward/z=ulp:2); the last that names an output holds.

              exact         every bit; NaNs are one class
              ulp:N         at most N representable values apart
              bound         what another order of summation may give: inside the bound, no bias, no excess of variance
              distribution  for samplers with random numbers of their own: a test of fit that refuses a right one once in a million \
            outputs, and one that is 0.1 away in 999 of 1000; too few draws for that are an error

            Without --policy each operation has a standard policy; --list-policies shows them. A tolerance that zeros or NaNs would pass is \
            refused as vacuous.

            A case that is answered with no output at all is skipped and counted: the implementation does not have it. With --require-all such \
            outputs are missing.

            Exit status: 0 if all that was answered conforms, 1 if not, 2 if some of it could not be judged, or nothing was answered.
            """)

    @Argument(help: ArgumentHelp("The file to judge.", valueName: "file.h5"))
    var file: String?

    @Option(
        name: .long, help: ArgumentHelp("The command to judge; {in} and {out} stand for paths.", valueName: "command"))
    var exec: String?

    @Option(
        name: .long,
        help: ArgumentHelp("The shared library to judge; it implements touchstone.h.", valueName: "lib.so"))
    var library: String?

    @Option(name: .long, help: ArgumentHelp("The folder of goldens, or one golden file.", valueName: "path"))
    var goldens = "GoldenData"

    @Option(name: .long, help: "A suite to judge; may be given several times. All by default.")
    var suite: [Suite] = []

    @Option(name: .customLong("case"), help: "A case to judge; may be given several times. All by default.")
    var cases: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "exact, ulp:N, bound or distribution, for everything or for what a pattern names; may be given several times.",
            valueName: "[operation[/output]=]policy"))
    var policy: [PolicyRule] = []

    @Flag(name: .long, help: "Show every operation's standard policy and why, and end.")
    var listPolicies = false

    @Option(name: .long, help: "class: all NaNs are equal. bits: every bit counts.")
    var nan: NaNRule = .asClass

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Seconds that the command may take for one file (default: 600), or the library for one case (default: 60).",
            valueName: "seconds"))
    var timeout: Double?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Megabytes of memory that the library may take; 0: as much as there is.", valueName: "megabytes"))
    var memory = 4096

    @Flag(name: .long, help: "What the implementation does not have counts as missing.")
    var requireAll = false

    @OptionGroup var report: ReportOptions

    func validate() throws {
        if listPolicies { return }
        try PolicyRule.requireOperations(policy)
        if [file, exec, library].count(where: { $0 != nil }) != 1 {
            throw ValidationError(
                "Give one of these: a file to judge, a command with --exec, or a shared library with --library.")
        }
        if let exec, !exec.contains("{out}") {
            throw ValidationError("The command of --exec must say where {out} goes.")
        }
        if let timeout, !(timeout > 0 && timeout <= 1e6) { throw ValidationError("--timeout takes seconds above 0.") }
        if !(0...(1 << 30)).contains(memory) { throw ValidationError("--memory takes megabytes, or 0.") }
    }

    func run() async throws {
        Interruption.watch()
        if listPolicies { return print(Self.policies, terminator: "") }
        let options = JudgingOptions(
            rules: policy, nanRule: nan, cases: Set(cases), requiresAll: requireAll, pictures: report.pictures)
        var result = Report(subject: file ?? exec ?? library ?? "")
        if let file {
            try judge(file: file, options, &result)
        } else if let exec {
            try await judge(command: exec, options, &result)
        } else if let library {
            try await judge(library: library, options, &result)
        }
        guard !result.cases.isEmpty || !result.skipped.isEmpty else {
            throw JudgingError.nothingToJudge(
                cases.isEmpty
                    ? "no golden file of these suites under '\(goldens)'"
                    : "no case named \(cases.joined(separator: ", "))")
        }
        guard !result.cases.isEmpty else {
            throw JudgingError.nothingToJudge(
                "'\(result.subject)' has no output of any of the \(result.skipped.count) cases: "
                    + result.skippedOperationsBySuite.map(\.operations).joined(separator: ", "))
        }
        try result.requireOutputs(of: policy)
        try result.refuseVacuous()
        try report.write(result)
        if !result.isJudged { throw ExitCode(2) }
        if !result.conforms { throw ExitCode(1) }
    }

    /// One line an operation.
    private static var policies: String {
        let rows = OperationCatalog.all.map { operation in
            let standard = Policy.Standard.of(operation.name)
            return (operation.name, standard.policy.description, standard.reason)
        }
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { name, policy, reason in
            "\(name.padding(toLength: width, withPad: " ", startingAt: 0))  \(policy.padding(toLength: 5, withPad: " ", startingAt: 0))  \(reason)\n"
        }.joined()
    }

    private func judge(file: String, _ options: JudgingOptions, _ result: inout Report) throws {
        let candidate = try GoldenFile(reading: file)
        let golden = try goldenFile(for: candidate, in: goldens)
        try require(golden, isOf: suite.map(\.rawValue))
        try Judge.judge(candidate, against: golden, options: options, into: &result)
    }

    private func judge(library path: String, _ options: JudgingOptions, _ result: inout Report) async throws {
        var limits = PluginLibrary.Limits(memory: memory == 0 ? nil : memory << 20)
        if let timeout { limits.seconds = timeout }
        let library = PluginLibrary(path: path, limits: limits)
        try await library.open()
        let files = try goldenPaths(goldens, suites: suite.map(\.rawValue)).map { try GoldenFile(reading: $0) }
        let total = files.reduce(0) { $0 + $1.caseNames.count }
        let bar = ProgressBar("validate", total: UInt64(total), unit: "cases", quiet: report.quiet)
        defer { bar.finish() }
        var done: UInt64 = 0
        for golden in files {
            try await Judge.judge(library, against: golden, options: options, into: &result) {
                done += 1
                bar.update(done)
            }
        }
        await library.close()
    }

    private func judge(command: String, _ options: JudgingOptions, _ result: inout Report) async throws {
        let plugin = try PluginProcess(command: command, timeout: .seconds(timeout ?? 600))
        let paths = try goldenPaths(goldens, suites: suite.map(\.rawValue))
        try await plugin.judge(paths, options, quiet: report.quiet, into: &result)
    }
}

/// The golden file that a candidate answers: --goldens itself, or the file of the candidate's suite that shares most cases with it.
func goldenFile(for candidate: GoldenFile, in goldens: String) throws -> GoldenFile {
    if try Files.status(of: goldens).kind == .regular { return try GoldenFile(reading: goldens) }
    let names = Set(candidate.caseNames)
    var best: (file: GoldenFile, shared: Int)?
    for path in try goldenPaths(goldens, suites: candidate.header.suite.isEmpty ? [] : [candidate.header.suite]) {
        let file = try GoldenFile(reading: path)
        let shared = file.caseNames.count { names.contains($0) }
        if shared > best?.shared ?? 0 { best = (file, shared) }
    }
    guard let best else {
        throw JudgingError.nothingToJudge(
            "no golden file under '\(goldens)' has a case of \(candidate.path)\(candidate.header.suite.isEmpty ? "" : " (suite '\(candidate.header.suite)')")"
        )
    }
    return best.file
}

extension PluginLibrary {
    /// The library, to be loaded by this program itself.
    init(path: String, limits: Limits = Limits()) {
        self.init(
            path: path, program: Bundle.main.executablePath ?? CommandLine.arguments[0], limits: limits)
    }
}

extension PluginProcess {
    /// Runs the command on the inputs of each golden file, in a temporary folder, and adds the verdicts on what it wrote.
    ///
    /// Where it fails on a file, every case of the file gets the verdict `failed` and a note says why; the next file is asked all the same.
    func judge(_ paths: [String], _ options: JudgingOptions, quiet: Bool, into result: inout Report) async throws {
        var report = result
        try await answers(to: paths, cases: options.cases, label: "validate", quiet: quiet) { candidate, golden in
            var answered = report
            try Judge.judge(candidate, against: golden, options: options, into: &answered)
            report = answered
        } failed: { golden, names, error, what in
            if quiet { Terminal.writeError("touchstone: error: \(error)\n") }
            report.append(note: error.description)
            let first = what.prefix { $0 != "\n" }
            for name in names {
                let right = try golden.readCase(name)
                report.append(
                    Judge.failed(
                        right, suite: golden.header.suite, file: golden.path, options: options, verdict: .failed,
                        "the command \(first)"))
            }
        }
        result = report
    }

    /// Runs the command on the inputs of each golden file, in a temporary folder, and hands on what it wrote, or that it failed.
    func answers(
        to paths: [String], cases: Set<String>, label: String, quiet: Bool,
        _ take: (_ candidate: GoldenFile, _ golden: GoldenFile) throws -> Void,
        failed: (_ golden: GoldenFile, _ names: [String], JudgingError, _ what: String) throws -> Void
    ) async throws {
        let folder = try TemporaryFolder()
        defer { folder.remove() }
        let bar = ProgressBar(label, total: UInt64(paths.count), unit: "files", quiet: quiet)
        defer { bar.finish() }
        for (index, path) in paths.enumerated() {
            try Interruption.check()
            let golden = try GoldenFile(reading: path)
            let names = golden.caseNames.filter { cases.isEmpty || cases.contains($0) }
            if names.isEmpty { continue }
            folder.empty()
            let (input, output) = (folder.path + "/in.h5", folder.path + "/out.h5")
            let writer = try GoldenWriter(path: input, header: golden.header)
            for name in names { try writer.write(try golden.readCase(name, groups: [.inputs])) }
            try writer.finish()
            do {
                try await run(input: input, output: output, naming: path)
                do {
                    try take(try GoldenFile(reading: output), golden)
                } catch let error as GoldenIOError where error.file == output {
                    throw JudgingError.plugin(
                        command: command, file: path, "wrote an {out} that cannot be read: \(error)")
                }
            } catch JudgingError.plugin(let command, let file, let what) {
                try failed(golden, names, .plugin(command: command, file: file, what), what)
            }
            bar.update(UInt64(index + 1))
        }
    }
}

/// A folder of one run's own under the system's temporary folder.
struct TemporaryFolder {
    let path: String

    init() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("touchstone-\(UUID().uuidString)")
        do {
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        } catch {
            throw CommandError("cannot make a temporary folder: \(error.localizedDescription)")
        }
        path = url.path
    }

    func empty() {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] {
            try? FileManager.default.removeItem(atPath: path + "/" + name)
        }
    }

    func remove() { try? FileManager.default.removeItem(atPath: path) }
}
