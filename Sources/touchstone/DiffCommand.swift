import ArgumentParser
import Cases
import Checker
import GoldenIO
import Platform

struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare two golden files case by case.",
        discussion: """
            Compares outputs bit by bit, NaNs as one class; with --all also inputs, truth, bounds, intermediates, recipes and \
            operations. What one file alone has is a difference. Exit status 0 if they agree, 1 if they differ, 2 if one \
            cannot be read or there is nothing to compare.
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

    private var groups: [CaseGroup] { CaseGroup.allCases.filter { all || $0 == .outputs } }

    func run() throws {
        let (a, b) = (try GoldenFile(reading: first), try GoldenFile(reading: second))
        var result = Report(subject: second)
        var isAnythingCompared = false
        /// What neither file has where it would be compared, and what is there without being compared.
        var without: [String] = []
        var left: [CaseGroup: Int] = [:]
        let offered = Set(b.caseNames)
        for name in a.caseNames {
            let right = try a.readCase(name)
            guard offered.contains(name) else {
                result.append(difference: "only in \(first): case '\(name)'")
                continue
            }
            let other = try b.readCase(name)
            var compared = 0
            for group in groups {
                // Judged as outputs of a case of their own, so that one report shows them all.
                var golden = GoldenCase(name: name, op: right.op, why: right.why, recipe: right.recipe)
                golden.inputs = group == .inputs ? [] : right.inputs
                golden.outputs = right[group]
                for extra in other[group].names where right[group][extra] == nil {
                    result.append(difference: "only in \(second): case '\(name)', \(group.rawValue)/\(extra)")
                    compared += 1
                }
                guard !golden.outputs.isEmpty else { continue }
                compared += 1
                var answer = GoldenCase(name: name, op: right.op)
                answer.outputs = other[group]
                result.append(
                    Judge.judge(
                        answer, against: golden, suite: group.rawValue, file: first,
                        options: JudgingOptions(policy: .exact, nanRule: nan),
                        wantsPictures: result.needsPictures(JudgingOptions(pictures: report.pictures))))
            }
            if compared == 0 { without.append(name) } else { isAnythingCompared = true }
            for group in CaseGroup.allCases where !groups.contains(group) {
                let names = Set(right[group].names).union(other[group].names)
                if !names.isEmpty { left[group, default: 0] += names.count }
            }
            let differing = [("op", other.op != right.op), ("recipe", other.recipe != right.recipe)].filter(\.1).map(
                \.0)
            for what in differing {
                let text = "case '\(name)': the \(what) differs"
                if all {
                    result.append(difference: text)
                } else {
                    result.append(note: "\(text); not compared without --all")
                }
            }
        }
        let known = Set(a.caseNames)
        for name in b.caseNames where !known.contains(name) {
            result.append(difference: "only in \(second): case '\(name)'")
        }
        let uncompared = CaseGroup.allCases.compactMap { group in left[group].map { "\(group.rawValue) (\($0))" } }
        let hint = uncompared.isEmpty ? "" : "; --all compares \(uncompared.joined(separator: ", ")) too"
        guard isAnythingCompared || !result.differences.isEmpty else {
            throw JudgingError.nothingToJudge(
                "\(first) and \(second) have \(a.caseNames.isEmpty ? "no case" : all ? "no tensor" : "no output") to compare\(hint)"
            )
        }
        if !uncompared.isEmpty {
            result.append(note: "not compared: tensors of \(uncompared.joined(separator: ", ")); --all compares them")
        }
        if !without.isEmpty {
            result.append(
                note:
                    "\(counted(without.count, "case")) without \(all ? "tensors" : "outputs") in both files: \(listed(without))"
            )
        }
        try report.write(result)
        try end(result.judgement)
    }
}
