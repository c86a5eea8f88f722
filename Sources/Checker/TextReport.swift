import Cases
import Foundation
import JSON
import Platform

/// A report for a terminal. What comes from outside (names, recipes, what a command printed) is made printable; colours are the report's own.
public struct TextReport {
    /// Whether to use colour.
    public var usesColour: Bool
    /// How many failing outputs, or groups of them that have one reason, are shown in detail.
    public var detailLimit: Int

    public init(usesColour: Bool = false, detailLimit: Int = 8) {
        self.usesColour = usesColour
        self.detailLimit = detailLimit
    }

    public func text(_ report: Report) -> String {
        var lines: [String] = []
        lines += table(report).map(PlainText.shown)
        let failures = report.failures
        for failure in failures.prefix(detailLimit) {
            lines.append("")
            lines += details(failure)
        }
        if failures.count > detailLimit {
            let rest = failures.dropFirst(detailLimit).reduce(0) { $0 + $1.members.count }
            lines.append("")
            lines.append(
                "... and \(counted(rest, "more output", "more outputs")) that \(rest == 1 ? "does" : "do") not conform; --details N shows more"
            )
        }
        if !report.skipped.isEmpty {
            lines.append("")
            lines.append("skipped: the implementation gives no output for them (cases):")
            lines += report.skippedOperationsBySuite.map { PlainText.shown("  \($0.suite): \($0.operations)") }
        }
        for (label, list) in [("difference", report.differences), ("note", report.notes)] where !list.isEmpty {
            lines.append("")
            lines += list.prefix(10).map { PlainText.shown("\(label): \($0)") }
            if list.count > 10 { lines.append("\(label): ... and \(list.count - 10) more; --format json has all") }
        }
        lines.append("")
        lines.append(summary(report))
        return lines.joined(separator: "\n") + "\n"
    }

    // MARK: Parts

    /// One line an operation: cases, outputs by verdict, elements, mismatches, the largest distance.
    static func rows(_ report: Report) -> [[String]] {
        var operations: [String] = []
        var byOperation: [String: [CaseReport]] = [:]
        for one in report.cases {
            let key = "\(one.suite)\t\(one.op)"
            if byOperation[key] == nil { operations.append(key) }
            byOperation[key, default: []].append(one)
        }
        let header = [
            "suite", "operation", "cases", "exact", "reordered", "tolerated", "distributed", "outside", "missing",
            "malformed", "failed", "elements", "differ", "ulps",
        ]
        var rows = [header]
        for key in operations {
            let cases = byOperation[key] ?? []
            let outputs = cases.flatMap(\.outputs)
            func count(_ verdict: Verdict) -> String {
                let count = outputs.count { $0.verdict == verdict }
                return count == 0 ? "-" : "\(count)"
            }
            let differ = outputs.reduce(0) { $0 + $1.mismatches }
            let farthest = outputs.compactMap { $0.histogram.farthest }.max()
            let name = key.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            rows.append(
                name + [
                    "\(cases.count)", count(.exact), count(.legalReordering), count(.withinTolerance),
                    count(.inDistribution), count(.outside), count(.missing), count(.malformed), count(.failed),
                    "\(outputs.reduce(0) { $0 + $1.elements })",
                    differ == 0 ? "-" : "\(differ)", farthest.map(UlpHistogram.label) ?? "-",
                ])
        }
        // Columns that are empty throughout are left out.
        let kept = header.indices.filter { column in
            !["reordered", "tolerated", "distributed", "missing", "malformed", "failed"].contains(header[column])
                || rows.dropFirst().contains { $0[column] != "-" }
        }
        return rows.map { row in kept.map { row[$0] } }
    }

    private func table(_ report: Report) -> [String] {
        let rows = Self.rows(report)
        guard let columns = rows.first?.indices else { return [] }
        let widths = columns.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            zip(columns, widths).map { column, width in
                let padding = String(repeating: " ", count: width - row[column].count)
                return column < 2 ? row[column] + padding : padding + row[column]
            }.joined(separator: "  ")
        }
    }

    /// What is known of outputs that have one reason, the reason first.
    private func details(_ failure: Report.Failure) -> [String] {
        if failure.members.count == 1, let (one, output) = failure.members.first { return details(one, output) }
        return [
            colour(failure.verdict.rawValue.uppercased(), "31") + "  " + PlainText.shown(failure.note ?? ""),
            PlainText.shown("  \(failure.extent)"), PlainText.shown("  first \(failure.first)"),
        ]
    }

    /// What is known of one output, line by line.
    func details(_ one: CaseReport, _ output: OutputReport) -> [String] {
        let head = "  \(one.suite): \(one.name): outputs/\(output.name) (\(one.op), policy \(output.policy))"
        return [colour(output.verdict.rawValue.uppercased(), "31") + PlainText.shown(head)]
            + facts(one, output).map(PlainText.shown)
    }

    private func facts(_ one: CaseReport, _ output: OutputReport) -> [String] {
        var lines: [String] = []
        if let note = output.note { lines.append("  \(note)") }
        if !one.why.isEmpty { lines.append("  the case: \(one.why)") }
        if let recipe = try? JSONValue.object(one.recipe).text(), recipe != "{}" {
            lines.append("  recipe:   \(recipe)")
        }
        guard output.mismatches > 0 else { return lines }
        lines.append(
            "  \(output.mismatches) of \(counted(output.elements, "element")) \(output.elements == 1 ? "differs" : "differ"), \(output.failures) beyond the policy"
        )
        if !output.histogram.text.isEmpty { lines.append("  ulps apart: \(output.histogram.text)") }
        if let statistics = output.statistics {
            lines.append(
                "  errors over their bound, \(counted(statistics.count, "element")): largest \(statistics.largest.short), mean \(statistics.mean.short) (at most \(statistics.meanLimit.short)), away from zero \(statistics.outwardMean.short) (at most \(statistics.outwardLimit.short)), variance \(statistics.variance.short) (at most \(statistics.varianceLimit.short))"
            )
        }
        var shown: Set<Int> = []
        for (label, detail) in [("first", output.first), ("worst", output.worst), ("last", output.last)] {
            guard let detail, shown.insert(detail.index).inserted else { continue }
            lines += element(label, detail)
        }
        return lines
    }

    private func element(_ label: String, _ detail: MismatchDetail) -> [String] {
        func row(_ name: String, _ text: ElementText) -> String {
            "    \(name.padding(toLength: 9, withPad: " ", startingAt: 0))\(text.bits)  \(text.decimal)\(text.fields.map { "   (\($0))" } ?? "")"
        }
        var head = "  \(label) at [\(detail.position.map(String.init).joined(separator: ", "))]"
        if let ulps = detail.ulps { head += ", \(ulps) ulp" }
        if let share = detail.shareOfBound { head += ", \(share.short) of the bound" }
        var lines = [head, row("expected", detail.expected), row("got", detail.got)]
        for input in detail.inputs {
            lines.append(
                "    \(input.name.padding(toLength: max(9, input.name.count + 1), withPad: " ", startingAt: 0))\(input.text)"
            )
        }
        return lines
    }

    /// One line: whether it conforms, and how many outputs have each verdict.
    public func summary(_ report: Report) -> String {
        let outputs = report.cases.reduce(0) { $0 + $1.outputs.count }
        let conforming = report.cases.reduce(0) { $0 + $1.outputs.count { $0.verdict.conforms } }
        let verdict = colour(report.judgement.word, report.conforms ? "32" : "31")
        var parts = [
            "\(verdict): \(conforming) of \(counted(outputs, "output")) in \(counted(report.cases.count, "case"))"
        ]
        for kind in Verdict.allCases where report.count(kind) > 0 {
            parts.append("\(report.count(kind)) \(kind.rawValue)")
        }
        let differences =
            report.differences.isEmpty ? "" : "; \(counted(report.differences.count, "other difference"))"
        let skipped = report.skipped.isEmpty ? "" : "; \(counted(report.skipped.count, "case")) skipped"
        let counts = parts.count == 1 ? "" : " (" + parts.dropFirst().joined(separator: ", ") + ")"
        return parts[0] + counts + differences + skipped
    }

    private func colour(_ text: String, _ code: String) -> String {
        usesColour ? "\u{1B}[1;\(code)m\(text)\u{1B}[0m" : text
    }
}

extension UlpHistogram {
    /// The highest bucket that holds something, unless all are equal.
    var farthest: Int? { counts.lastIndex { $0 > 0 }.flatMap { $0 == 0 ? nil : $0 } }

    /// "0: 15, 1: 3, 3-4: 1".
    var text: String {
        var parts = counts.indices.filter { counts[$0] > 0 }.map { "\(Self.label($0)): \(counts[$0])" }
        if incomparable > 0 { parts.append("NaN against a number: \(incomparable)") }
        return parts.joined(separator: ", ")
    }
}
