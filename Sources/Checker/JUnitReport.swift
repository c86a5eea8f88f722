import Pages

/// A report as JUnit XML, which build servers show: a suite a golden file, a test a case.
///
/// An output outside its policy or missing is a failure with the text report's details, a malformed or failed one an error; a case that the
/// implementation does not have is skipped. There are no times: a report is the
/// same every time.
public struct JUnitReport {
    public init() {}

    public func text(_ report: Report) -> String {
        var files: [String] = []
        let skipped = Dictionary(grouping: report.skipped, by: \.file)
        var byFile: [String: [CaseReport]] = [:]
        for one in report.cases {
            if byFile[one.file] == nil { files.append(one.file) }
            byFile[one.file, default: []].append(one)
        }
        for one in report.skipped where byFile[one.file] == nil {
            files.append(one.file)
            byFile[one.file] = []
        }
        var lines = ["<?xml version=\"1.0\" encoding=\"UTF-8\"?>"]
        let all = counts(report.cases)
        lines.append(
            "<testsuites name=\"\(Page.escaped(attribute: report.subject))\" tests=\"\(all.tests + report.skipped.count + report.differences.count)\" failures=\"\(all.failures + report.differences.count)\" errors=\"\(all.errors)\" skipped=\"\(report.skipped.count)\">"
        )
        for file in files {
            let cases = byFile[file] ?? []
            let counts = counts(cases)
            let left = skipped[file] ?? []
            lines.append(
                "  <testsuite name=\"\(Page.escaped(attribute: file))\" tests=\"\(counts.tests + left.count)\" failures=\"\(counts.failures)\" errors=\"\(counts.errors)\" skipped=\"\(left.count)\">"
            )
            for one in cases { lines += test(one) }
            for one in left {
                lines.append("    \(head(one.suite, one.op, one.name))><skipped/></testcase>")
            }
            lines.append("  </testsuite>")
        }
        if !report.differences.isEmpty {
            let count = report.differences.count
            lines.append(
                "  <testsuite name=\"differences\" tests=\"\(count)\" failures=\"\(count)\" errors=\"0\" skipped=\"0\">"
            )
            for (number, difference) in report.differences.enumerated() {
                lines.append(
                    "    \(head("differences", "difference", "\(number + 1)"))><failure type=\"difference\" message=\"\(Page.escaped(attribute: difference))\"/></testcase>"
                )
            }
            lines.append("  </testsuite>")
        }
        if !report.notes.isEmpty {
            lines.append("  <testsuite name=\"notes\" tests=\"0\" failures=\"0\" errors=\"0\">")
            lines.append("    <system-out>\(Page.escaped(report.notes.joined(separator: "\n")))</system-out>")
            lines.append("  </testsuite>")
        }
        lines.append("</testsuites>")
        return lines.joined(separator: "\n") + "\n"
    }

    /// A case with an error counts as one, not as a failure too.
    private func counts(_ cases: [CaseReport]) -> (tests: Int, failures: Int, errors: Int) {
        let errors = cases.count { $0.outputs.contains { isError($0.verdict) } }
        let failures = cases.count { one in !one.conforms && !one.outputs.contains { isError($0.verdict) } }
        return (cases.count, failures, errors)
    }

    private func isError(_ verdict: Verdict) -> Bool { verdict == .malformed || verdict == .failed }

    private func head(_ suite: String, _ op: String, _ name: String) -> String {
        "<testcase classname=\"\(Page.escaped(attribute: "\(suite).\(op)"))\" name=\"\(Page.escaped(attribute: name))\""
    }

    private func test(_ one: CaseReport) -> [String] {
        let head = "    " + head(one.suite, one.op, one.name)
        let failing = one.outputs.filter { !$0.verdict.conforms }
        if failing.isEmpty { return [head + "/>"] }
        let isError = failing.contains { self.isError($0.verdict) }
        let tag = isError ? "error" : "failure"
        // One element a test: what the format's readers agree on.
        let message = failing.map { "outputs/\($0.name): \($0.verdict.rawValue)" }.joined(separator: "; ")
        let details = failing.map { TextReport().details(one, $0).joined(separator: "\n") }.joined(separator: "\n\n")
        return [
            head + ">",
            "      <\(tag) type=\"\(failing.first { self.isError($0.verdict) == isError }?.verdict.rawValue ?? "")\" message=\"\(Page.escaped(attribute: message))\">\(Page.escaped(details))</\(tag)>",
            "    </testcase>",
        ]
    }
}
