import ArgumentParser
import Cases
import Checker
import Foundation
import Goldens
import JSON
import ModelSpec
import Platform

extension DotRecipe: ExpressibleByArgument {}

struct Diagnose: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Name what an implementation does instead: the variant of the reference that gives its bits.",
        discussion: """
            Takes what `validate` takes and judges by the same policies. For every operation with other bits, named deviations from the specification are \
            tried alone and, where none suffices, in pairs: rounding, flushing, orders of summation, masks, codes, scales. Those that give the observed \
            bits in every case, the right ones too, are reported, with how many elements speak for them; where there is none, the closest, counted over all cases, \
            and what the wrong elements have in common. Other bits that the policy allows, such as another order of summation, are named too and are not wrong. \
            What was missing, malformed or failed has no bits to search and is listed.

              touchstone diagnose --exec 'python my_kernel.py {in} {out}' --suite dot
              touchstone diagnose --library ./libmine.so --format html --output page.html
              touchstone diagnose --library ./libmine.so --probe-order 40
              touchstone diagnose --list

            --probe-order asks new questions of dot.gemm: two powers of two that cancel at two places, ones elsewhere. What is lost tells the tree of \
            additions, for each element of a product of 20 x 18 by itself.

            Exit status, as of `validate`: 0 if all that was answered conforms, 1 if not, named or not, 2 if some of it could not be judged (a crash, a hang), \
            or nothing was answered.
            """)

    @OptionGroup var subject: SubjectOptions

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Find the order in which dot.gemm adds so many terms (2 to 256), by asking the command or the library.",
            valueName: "terms"), transform: Number.whole(2...256))
    var probeOrder: Int?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The recipe to probe; may be given several times. All by default: chain-ieee, plain fp32, then paired-ftz.",
            valueName: "recipe"))
    var probeRecipe: [DotRecipe] = []

    @Flag(name: .long, inversion: .prefixedNo, help: "Try pairs where no single deviation suffices.")
    var pairs = true

    @Flag(name: .long, help: "List the deviations that are known, and do nothing else.")
    var list = false

    @Option(name: .long, help: "text, json or html (one page).")
    var format: PageFormat = .text

    @Option(
        name: [.short, .long],
        help: ArgumentHelp("Write the report to this file instead of standard output.", valueName: "file"))
    var output: String?

    @Flag(name: .long, help: "Print nothing but errors; the exit status tells.")
    var quiet = false

    func validate() throws {
        if list { return }
        try subject.requireSubject()
        if probeOrder != nil {
            if subject.file != nil {
                throw ValidationError("--probe-order asks new questions: it needs --exec or --library.")
            }
            if format == .html { throw ValidationError("--probe-order answers as text or json.") }
        } else if !probeRecipe.isEmpty {
            throw ValidationError("--probe-recipe goes with --probe-order.")
        }
    }

    func run() async throws {
        if list { return printList() }
        if let probeOrder { return try await showOrder(probeOrder) }
        let observations = Observations()
        let judged = try await subject.judge(label: "ask", quiet: quiet) { observations.append($0) }
        var report = DiagnosisReport(judged)
        let diagnoser = Diagnoser(nanRule: subject.nan, triesPairs: pairs)
        let bar = ProgressBar(
            "diagnose", total: UInt64(observations.operations.count), unit: "operations", quiet: quiet)
        for (done, op) in observations.operations.enumerated() {
            try Interruption.check()
            report.append(op, try diagnoser.diagnose(observations.of(op)))
            bar.update(UInt64(done + 1))
        }
        bar.finish()
        let text =
            switch format {
            case .text: report.text(usesColour: allowsColour(output: output))
            case .json: try report.json.text(indented: true) + "\n"
            case .html: report.html
            }
        try write(text, to: output, quiet: quiet)
        try end(judged.judgement)
    }

    /// What was answered, by operation in the order of the cases.
    private final class Observations {
        private(set) var operations: [String] = []
        private var byOperation: [String: [Observation]] = [:]

        func append(_ observation: Observation) {
            let op = observation.goldenCase.op
            if byOperation[op] == nil { operations.append(op) }
            byOperation[op, default: []].append(observation)
        }

        func of(_ op: String) -> [Observation] { byOperation[op] ?? [] }
    }

    private func showOrder(_ terms: Int) async throws {
        let implementation: any Implementation
        var opened: PluginLibrary?
        if subject.library != nil {
            let plugin = try await subject.openLibrary()
            implementation = plugin
            opened = plugin
        } else {
            implementation = ProcessImplementation(try subject.process())
        }
        var orders: [SummationOrder] = []
        var complaints: [String] = []
        var isJudged = true
        for recipe in probeRecipe.isEmpty ? [.chainIEEE, .pairedFTZ] : probeRecipe {
            do {
                orders.append(try await SummationOrder.probe(implementation, terms: terms, recipe: recipe))
            } catch let error as JudgingError {
                complaints.append("\(recipe.rawValue): \(error)")
            } catch let failure as ImplementationFailure {
                complaints.append("\(recipe.rawValue): \(failure)")
                isJudged = false
            }
        }
        await opened?.close()
        guard !orders.isEmpty else { throw JudgingError.nothingToJudge(complaints.joined(separator: "; ")) }
        if format == .json {
            let json = JSONValue.object([
                "format": 1, "subject": .string(implementation.name), "orders": .array(orders.map(\.json)),
                "notes": .array(complaints.map(JSONValue.string)),
            ])
            try write(try json.text(indented: true) + "\n", to: output, quiet: quiet)
        } else {
            var text = ""
            for (index, order) in orders.enumerated() {
                if index > 0, order.isSame(as: orders[0]) {
                    text += "\(order.recipe.rawValue), \(order.terms) terms: as \(orders[0].recipe.rawValue)\n"
                } else {
                    text += order.text
                }
            }
            text += complaints.map { "note: \($0)\n" }.joined()
            try write(text, to: output, quiet: quiet)
        }
        try end(isJudged ? .conforms : .notJudged)
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
