import ArgumentParser
import Cases
import Checker
import Foundation
import GoldenIO
import Goldens
import ModelSpec
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

/// Which cases are asked: one matcher for all the verbs that judge.
struct SelectionOptions: ParsableArguments {
    @Option(
        name: .customLong("case"),
        help: ArgumentHelp(
            "A case to judge, or several: * stands for any text, ? for a character; may be given several times. All by default.",
            valueName: "name"))
    var cases: [NamePattern] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Cases or operations to leave out, with * and ? as in --case; may be given several times.",
            valueName: "name"))
    var exclude: [NamePattern] = []

    var selection: CaseSelection { CaseSelection(cases: cases, excluded: exclude) }

    /// Sees that every pattern names something, and notes how much is excluded.
    func require(in paths: [String], _ report: inout Report) throws {
        guard !cases.isEmpty || !exclude.isEmpty else { return }
        let excluded = try selection.require(in: try paths.map { try GoldenFile(reading: $0) })
        if excluded > 0 { report.append(note: "\(counted(excluded, "case")) not asked, by --exclude") }
    }
}

extension NamePattern: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

/// What is judged and by what rules: what `validate` and `diagnose` have in common.
struct SubjectOptions: ParsableArguments {
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

    @OptionGroup var selection: SelectionOptions

    @Option(
        name: .long,
        help: ArgumentHelp(
            "exact, ulp:N, bound or distribution, for everything or for what a pattern names; may be given several times.",
            valueName: "[operation[/output]=]policy"))
    var policy: [PolicyRule] = []

    @Option(name: .long, help: "class: all NaNs are equal. bits: every bit counts.")
    var nan: NaNRule = .asClass

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Seconds that the command may take for one file (default: 600), or the library for one case (default: 60).",
            valueName: "seconds"), transform: Number.positive(1e6))
    var timeout: Double?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Megabytes of memory that the library may take; 0: as much as there is.", valueName: "megabytes"),
        reading: Number.whole(0...1 << 30))
    var memory = 4096

    @Flag(name: .long, help: "What the implementation does not have counts as missing.")
    var requireAll = false

    func validate() throws {
        try PolicyRule.requireOperations(policy)
        if let exec, !exec.contains("{out}") {
            throw ValidationError("The command of --exec must say where {out} goes.")
        }
    }

    /// For commands that can be asked for something else as well.
    func requireSubject() throws {
        if [file, exec, library].count(where: { $0 != nil }) != 1 {
            throw ValidationError(
                "Give one of these: a file to judge, a command with --exec, or a shared library with --library.")
        }
    }

    /// Asks and judges.
    ///
    /// - Parameter onAnswer: Called with each case that was answered.
    /// - Throws: ``JudgingError`` if there is nothing to judge, nothing was answered, or the policy is vacuous.
    func judge(
        label: String, pictures: Int = 0, quiet: Bool, onAnswer: ((Observation) -> Void)? = nil
    ) async throws -> Report {
        let options = JudgingOptions(
            rules: policy, nanRule: nan, selection: selection.selection, requiresAll: requireAll, pictures: pictures)
        var result = Report(subject: file ?? exec ?? library ?? "")
        if let file {
            let candidate = try GoldenFile(reading: file)
            let golden = try goldenFile(for: candidate, in: goldens)
            try require(golden, isOf: suite.map(\.rawValue))
            try selection.require(in: [golden.path], &result)
            try Judge.judge(candidate, against: golden, options: options, into: &result, onAnswer: onAnswer)
        } else if exec != nil {
            let paths = try goldenPaths(goldens, suites: suite.map(\.rawValue))
            try selection.require(in: paths, &result)
            try await process().judge(
                paths, options, label: label, quiet: quiet, into: &result, onAnswer: onAnswer)
        } else if library != nil {
            try await judgeLibrary(options, label: label, quiet: quiet, into: &result, onAnswer)
        }
        try result.noteUndrawn()
        guard !result.cases.isEmpty || !result.skipped.isEmpty else {
            throw JudgingError.nothingToJudge("no case of these suites under '\(goldens)' is selected")
        }
        guard !result.cases.isEmpty else {
            throw JudgingError.nothingToJudge(
                "'\(result.subject)' gives no output for \(counted(result.skipped.count, "case")): "
                    + result.skippedOperationsBySuite.map(\.operations).joined(separator: ", "))
        }
        try result.requireOutputs(of: policy)
        try result.refuseVacuous()
        return result
    }

    /// The command of --exec.
    func process() throws -> PluginProcess {
        try PluginProcess(command: exec ?? "", timeout: .seconds(timeout ?? 600))
    }

    /// The library of --library, opened.
    func openLibrary() async throws -> PluginLibrary {
        var limits = PluginLibrary.Limits(memory: memory == 0 ? nil : memory << 20)
        if let timeout { limits.seconds = timeout }
        let plugin = PluginLibrary(path: library ?? "", limits: limits)
        try await plugin.open()
        return plugin
    }

    private func judgeLibrary(
        _ options: JudgingOptions, label: String, quiet: Bool, into result: inout Report,
        _ onAnswer: ((Observation) -> Void)?
    ) async throws {
        let library = try await openLibrary()
        let paths = try goldenPaths(goldens, suites: suite.map(\.rawValue))
        try selection.require(in: paths, &result)
        let files = try paths.map { try GoldenFile(reading: $0) }
        let total = try files.reduce(0) { try $0 + options.selection.names(in: $1).count }
        let bar = ProgressBar(label, total: UInt64(total), unit: "cases", quiet: quiet)
        defer { bar.finish() }
        var done: UInt64 = 0
        for golden in files {
            try await Judge.judge(library, against: golden, options: options, into: &result, onAnswer: onAnswer) {
                done += 1
                bar.update(done)
            }
        }
        await library.close()
    }
}

/// The golden file that a candidate answers: --goldens itself, or the file of the candidate's suite that shares most cases with it.
func goldenFile(for candidate: GoldenFile, in goldens: String) throws -> GoldenFile {
    if try goldensKind(goldens) == .regular { return try GoldenFile(reading: goldens) }
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
    /// Where it fails on a file, every case of the file gets the verdict `failed` with the reason; the next file is asked all the same.
    func judge(
        _ paths: [String], _ options: JudgingOptions, label: String = "validate", quiet: Bool,
        into result: inout Report, onAnswer: ((Observation) -> Void)? = nil
    ) async throws {
        var report = result
        // Where nothing else is shown, the files of each reason in one message.
        var reasons: [(what: String, files: [String])] = []
        defer {
            for (what, files) in reasons where quiet {
                let message = JudgingError.plugin(command: command, file: listed(files, most: 3), what)
                Terminal.writeError("touchstone: error: \(message)\n")
            }
        }
        try await answers(to: paths, options.selection, label: label, quiet: quiet) { candidate, golden in
            // What was read before a broken file was noticed does not count: the file fails as a whole.
            var answered = report
            var observed: [Observation] = []
            try Judge.judge(
                candidate, against: golden, options: options, into: &answered,
                onAnswer: onAnswer == nil ? nil : { observed.append($0) })
            report = answered
            if let onAnswer { observed.forEach(onAnswer) }
        } failed: { golden, names, what in
            if let index = reasons.firstIndex(where: { $0.what == what }) {
                reasons[index].files.append(golden.path)
            } else {
                reasons.append((what, [golden.path]))
            }
            for name in names {
                let right = try golden.readCase(name)
                report.append(
                    Judge.failed(
                        right, suite: golden.header.suite, file: golden.path, options: options, verdict: .failed,
                        "the command \(what)"))
            }
        }
        result = report
    }

    /// Runs the command on the inputs of each golden file, in a temporary folder, and hands on what it wrote, or that it failed.
    private func answers(
        to paths: [String], _ selection: CaseSelection, label: String, quiet: Bool,
        _ take: (_ candidate: GoldenFile, _ golden: GoldenFile) throws -> Void,
        failed: (_ golden: GoldenFile, _ names: [String], _ what: String) throws -> Void
    ) async throws {
        let folder = try TemporaryFolder()
        defer { folder.remove() }
        let bar = ProgressBar(label, total: UInt64(paths.count), unit: "files", quiet: quiet)
        defer { bar.finish() }
        for (index, path) in paths.enumerated() {
            try Interruption.check()
            let golden = try GoldenFile(reading: path)
            let names = try selection.names(in: golden)
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
            } catch JudgingError.plugin(_, _, let what) {
                try failed(golden, names, what)
            }
            bar.update(UInt64(index + 1))
        }
    }
}

/// A folder of one run's own under the system's temporary folder.
struct TemporaryFolder {
    let path: String

    init() throws { path = try Files.createTemporaryFolder() }

    func empty() { Files.emptyFolder(path) }

    func remove() { Files.removeFolder(path) }
}
