import ArgumentParser
import Checker
import GoldenIO

struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare two golden files case by case.",
        discussion: """
            Compares outputs bit by bit, NaNs as one class; with --all also inputs, truth, bounds, intermediates, recipes and \
            operations. Exit status 0 if they agree, 1 if they differ, 2 if one cannot be read.
            """)

    @Argument(help: ArgumentHelp("The file that is right.", valueName: "a.h5"))
    var first: String

    @Argument(help: ArgumentHelp("The file to compare with it.", valueName: "b.h5"))
    var second: String

    @Flag(name: .long, help: "Compare everything that a case holds.")
    var all = false

    @Option(name: .long, help: "class: all NaNs are equal. bits: every bit counts.")
    var nan: NaNRule = .asClass

    @OptionGroup var report: ReportOptions

    func run() throws {
        let (a, b) = (try GoldenFile(reading: first), try GoldenFile(reading: second))
        var result = Report(subject: second)
        var differs = false
        let offered = Set(b.caseNames)
        for name in a.caseNames {
            let right = try a.readCase(name)
            let other = offered.contains(name) ? try b.readCase(name) : nil
            for group in CaseGroup.allCases where all || group == .outputs {
                // Judged as outputs of a case of their own, so that one report shows them all.
                var left = GoldenCase(name: name, op: right.op, why: right.why, recipe: right.recipe)
                left.inputs = group == .inputs ? [] : right.inputs
                left.outputs = right[group]
                guard !left.outputs.isEmpty else { continue }
                var answer: GoldenCase?
                if let other {
                    answer = GoldenCase(name: name, op: right.op)
                    answer?.outputs = other[group]
                }
                let found = Judge.judge(
                    answer, against: left, suite: group.rawValue, file: first,
                    options: JudgingOptions(policy: .exact, nanRule: nan),
                    wantsPictures: result.needsPictures(JudgingOptions(pictures: report.pictures)))
                result.append(found)
            }
            if let other {
                for group in CaseGroup.allCases where all || group == .outputs {
                    for extra in other[group].names where right[group][extra] == nil {
                        result.append(note: "only in \(second): case '\(name)', \(group.rawValue)/\(extra)")
                        differs = true
                    }
                }
                if all && (other.op != right.op || other.recipe != right.recipe) {
                    result.append(note: "case '\(name)': op or recipe differ")
                    differs = true
                }
            }
        }
        let known = Set(a.caseNames)
        for name in b.caseNames where !known.contains(name) {
            result.append(note: "only in \(second): case '\(name)'")
            differs = true
        }
        try report.write(result)
        if differs || !result.cases.allSatisfy(\.conforms) { throw ExitCode(1) }
    }
}
