import ArgumentParser
import Checker
import Foundation
import GoldenIO
import Goldens
import JSON
import Platform

struct Diagnose: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Name what an implementation does instead: the variant of the reference that gives its bits.",
        discussion: """
            Takes what `validate` takes. For every operation with a wrong output, named deviations from the specification are tried alone and, \
            where none suffices, in pairs: rounding, flushing, orders of summation, masks, codes, scales. One that gives the observed bits in every case, \
            the right ones too, is reported; where there is none, the closest, and what the wrong elements have in common.

              touchstone diagnose --exec 'python my_kernel.py {in} {out}' --suite dot
              touchstone diagnose --list

            Exit status 0 if nothing is wrong, 1 if something is, named or not.
            """)

    @Argument(help: ArgumentHelp("The file to diagnose.", valueName: "file.h5"))
    var file: String?

    @Option(
        name: .long,
        help: ArgumentHelp("The command to diagnose; {in} and {out} stand for paths.", valueName: "command"))
    var exec: String?

    @Option(name: .long, help: ArgumentHelp("The folder of goldens, or one golden file.", valueName: "path"))
    var goldens = "GoldenData"

    @Option(name: .long, help: "A suite; may be given several times. All by default.")
    var suite: [Suite] = []

    @Option(name: .customLong("case"), help: "A case; may be given several times. All by default.")
    var cases: [String] = []

    @Option(name: .long, help: "class: all NaNs are equal. bits: every bit counts.")
    var nan: NaNRule = .asClass

    @Flag(name: .long, inversion: .prefixedNo, help: "Try pairs where no single deviation suffices.")
    var pairs = true

    @Flag(name: .long, help: "List the deviations that are known, and do nothing else.")
    var list = false

    @Option(name: .long, help: ArgumentHelp("Seconds that the command may take for one file.", valueName: "seconds"))
    var timeout: Double = 600

    @Option(name: .long, help: "text or json.")
    var format: MutateFormat = .text

    @Option(
        name: [.short, .long],
        help: ArgumentHelp("Write the report to this file instead of standard output.", valueName: "file"))
    var output: String?

    @Flag(name: .long, help: "Print nothing but errors; the exit status tells.")
    var quiet = false

    func validate() throws {
        if list { return }
        if (file == nil) == (exec == nil) {
            throw ValidationError("Give a file to diagnose, or a command with --exec.")
        }
        if let exec, !exec.contains("{out}") {
            throw ValidationError("The command of --exec must say where {out} goes.")
        }
        if !(timeout > 0 && timeout <= 1e6) { throw ValidationError("--timeout takes seconds above 0.") }
    }

    func run() async throws {
        if list { return printList() }
        Interruption.watch()
        var report = DiagnosisReport(subject: file ?? exec ?? "")
        var byOperation: [String: [Observation]] = [:]
        var order: [String] = []
        func add(_ candidate: GoldenFile, _ golden: GoldenFile) throws {
            let offered = Set(candidate.caseNames)
            for name in golden.caseNames where (cases.isEmpty || cases.contains(name)) && offered.contains(name) {
                let right = try golden.readCase(name)
                let answer = try candidate.readCase(name, groups: [.outputs, .intermediates])
                if byOperation[right.op] == nil { order.append(right.op) }
                byOperation[right.op, default: []].append(
                    Observation(goldenCase: right, outputs: answer.outputs, intermediates: answer.intermediates))
            }
        }
        if let file {
            let candidate = try GoldenFile(reading: file)
            try add(candidate, try goldenFile(for: candidate, in: goldens))
        } else if let exec {
            let plugin = try PluginProcess(command: exec, timeout: .seconds(timeout))
            let paths = try goldenPaths(goldens, suites: suite.map(\.rawValue))
            try await plugin.answers(to: paths, cases: Set(cases), label: "ask", quiet: quiet) { try add($0, $1) }
        }
        guard !order.isEmpty else {
            throw JudgingError.nothingToJudge("the implementation answered no case of '\(goldens)'")
        }
        let diagnoser = Diagnoser(nanRule: nan, triesPairs: pairs)
        let bar = ProgressBar("diagnose", total: UInt64(order.count), unit: "operations", quiet: quiet)
        for (done, op) in order.enumerated() {
            try Interruption.check()
            report.append(op, try diagnoser.diagnose(byOperation[op] ?? []))
            bar.update(UInt64(done + 1))
        }
        bar.finish()
        let isTerminal = output == nil && Terminal.standardOutputIsTerminal
        let colour = isTerminal && ProcessInfo.processInfo.environment["NO_COLOR"] == nil
        let text = format == .json ? try report.json.text(indented: true) + "\n" : report.text(usesColour: colour)
        if let output {
            try Files.replace(output, with: Array(text.utf8))
        } else if !quiet {
            print(text, terminator: "")
        }
        if report.wrong > 0 { throw ExitCode(1) }
    }

    private func printList() {
        let all = DeviationCatalog.all
        let width = all.map(\.name.count).max() ?? 0
        for deviation in all {
            let clauses = deviation.clauses.isEmpty ? "" : " (\(deviation.clauses.joined(separator: ", ")))"
            print(
                "\(deviation.name.padding(toLength: width, withPad: " ", startingAt: 0))  \(deviation.summary)\(clauses)"
            )
        }
    }
}
