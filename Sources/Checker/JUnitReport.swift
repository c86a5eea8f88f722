import Pages

/// A report as JUnit XML, which build servers show: a suite a golden file, a test a case.
///
/// An output outside its policy or missing is a failure with the text report's details, a malformed one an error. There are no times: a report is the
/// same every time.
public struct JUnitReport {
    public init() {}

    public func text(_ report: Report) -> String {
        var files: [String] = []
        var byFile: [String: [CaseReport]] = [:]
        for one in report.cases {
            if byFile[one.file] == nil { files.append(one.file) }
            byFile[one.file, default: []].append(one)
        }
        var lines = ["<?xml version=\"1.0\" encoding=\"UTF-8\"?>"]
        let all = counts(report.cases)
        lines.append(
            "<testsuites name=\"\(Page.escaped(attribute: report.subject))\" tests=\"\(all.tests)\" failures=\"\(all.failures)\" errors=\"\(all.errors)\">"
        )
        for file in files {
            let cases = byFile[file] ?? []
            let counts = counts(cases)
            lines.append(
                "  <testsuite name=\"\(Page.escaped(attribute: file))\" tests=\"\(counts.tests)\" failures=\"\(counts.failures)\" errors=\"\(counts.errors)\">"
            )
            for one in cases { lines += test(one) }
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
        let errors = cases.count { $0.outputs.contains { $0.verdict == .malformed } }
        let failures = cases.count { one in
            !one.conforms && !one.outputs.contains { $0.verdict == .malformed }
        }
        return (cases.count, failures, errors)
    }

    private func test(_ one: CaseReport) -> [String] {
        let head =
            "    <testcase classname=\"\(Page.escaped(attribute: "\(one.suite).\(one.op)"))\" name=\"\(Page.escaped(attribute: one.name))\""
        let failing = one.outputs.filter { !$0.verdict.conforms }
        if failing.isEmpty { return [head + "/>"] }
        let isError = failing.contains { $0.verdict == .malformed }
        let tag = isError ? "error" : "failure"
        // One element a test: what the format's readers agree on.
        let message = failing.map { "outputs/\($0.name): \($0.verdict.rawValue)" }.joined(separator: "; ")
        let details = failing.map { TextReport().details(one, $0).joined(separator: "\n") }.joined(separator: "\n\n")
        return [
            head + ">",
            "      <\(tag) type=\"\(isError ? "malformed" : failing[0].verdict.rawValue)\" message=\"\(Page.escaped(attribute: message))\">\(Page.escaped(details))</\(tag)>",
            "    </testcase>",
        ]
    }
}
