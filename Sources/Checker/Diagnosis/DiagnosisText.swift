import Cases
import JSON
import Pages
import Platform

/// A diagnosis as people and programs read it: what was judged, and the names of what has other bits.
public struct DiagnosisReport: Sendable {
    /// The verdicts on every case, as `validate` gives them.
    public let judged: Report
    public private(set) var operations: [OperationDiagnosis] = []
    /// Operations that were answered and have no other bits.
    public private(set) var conforming: [String] = []

    public var subject: String { judged.subject }

    public init(_ judged: Report) { self.judged = judged }

    public mutating func append(_ op: String, _ diagnosis: OperationDiagnosis?) {
        if let diagnosis { operations.append(diagnosis) } else { conforming.append(op) }
    }

    private var outputs: [OutputDiagnosis] { operations.flatMap(\.outputs) }

    /// Wrong outputs of operations, and those of them that some deviation reproduces.
    public var wrong: Int { outputs.count(where: \.isWrong) }
    public var named: Int { outputs.count { $0.isWrong && $0.isNamed } }
    /// Outputs of operations that have other bits only where the policy allows them.
    public var allowed: Int { outputs.count { !$0.isWrong } }

    /// What has no bits to search: outputs of cases that are missing or malformed, or that could not be judged, those of one operation with one reason together.
    struct Fault {
        let op: String
        let verdict: Verdict
        let note: String
        /// Cases, and which of their outputs: "outputs/x, outputs/y".
        var places: [(caseName: String, outputs: String)]

        /// One line a case, or one for all where their outputs have the same names.
        var lines: [String] {
            if let outputs = places.first?.outputs, places.count > 1, places.allSatisfy({ $0.outputs == outputs }) {
                return ["cases \(places.map { "'\($0.caseName)'" }.joined(separator: ", ")): \(outputs)"]
            }
            return places.map { "case '\($0.caseName)': \($0.outputs)" }
        }
    }

    var faults: [Fault] {
        var all: [Fault] = []
        var indices: [String: Int] = [:]
        for one in judged.cases {
            let bad = one.outputs.filter { [.missing, .malformed, .failed].contains($0.verdict) }
            // One line for all the outputs of a case that have one reason.
            var seen: Set<String> = []
            for output in bad {
                let note = output.note ?? ""
                let reason = "\(one.op)\t\(output.verdict.rawValue)\t\(note)"
                guard seen.insert(reason).inserted else { continue }
                let names = bad.filter { $0.verdict == output.verdict && ($0.note ?? "") == note }
                let place = (one.name, names.map { "outputs/\($0.name)" }.joined(separator: ", "))
                if let index = indices[reason] {
                    all[index].places.append(place)
                } else {
                    indices[reason] = all.count
                    all.append(Fault(op: one.op, verdict: output.verdict, note: note, places: [place]))
                }
            }
        }
        return all
    }

    private var faultCounts: String {
        [Verdict.failed, .malformed, .missing].filter { judged.count($0) > 0 }
            .map { "\(counted(judged.count($0), "output")) \($0.rawValue)" }.joined(separator: ", ")
    }

    // MARK: Text

    public func text(usesColour: Bool = false) -> String {
        func colour(_ text: String, _ code: String) -> String {
            usesColour ? "\u{1B}[1;\(code)m\(text)\u{1B}[0m" : text
        }
        var lines: [String] = []
        for operation in operations {
            for output in operation.outputs {
                let code = output.isWrong ? "31" : "32"
                lines.append(
                    colour(PlainText.shown(operation.op), code)
                        + PlainText.shown(": outputs/\(output.name) \(standing(output))"))
                lines += findings(operation, output).map { finding in
                    let text = PlainText.shown(finding.text)
                    return "  \(finding.isName ? colour(text, "32") : text)"
                }
            }
            if let common = common(operation) { lines.append("  \(common)") }
            if let departure = operation.departure {
                lines.append(PlainText.shown("  \(place(departure))"))
                lines.append("      expected \(text(departure.expected))")
                lines.append("      got      \(text(departure.got))")
            }
            lines.append("")
        }
        for fault in faults {
            lines.append(
                colour(PlainText.shown(fault.op), "31") + PlainText.shown(": \(fault.verdict.rawValue): \(fault.note)"))
            lines += fault.lines.map { PlainText.shown("  \($0)") }
            lines.append("")
        }
        if !judged.skipped.isEmpty {
            lines.append("skipped: the implementation gives no output for them (cases):")
            lines += judged.skippedOperationsBySuite.map { PlainText.shown("  \($0.suite): \($0.operations)") }
            lines.append("")
        }
        for note in judged.notes.prefix(10) { lines.append(PlainText.shown("note: \(note)")) }
        if judged.notes.count > 10 { lines.append("note: ... and \(judged.notes.count - 10) more") }
        let (verdict, rest) = summary
        lines.append(colour(verdict, judged.conforms ? "32" : "31") + rest)
        return lines.joined(separator: "\n") + "\n"
    }

    /// "is wrong in 2 of 20 cases, and in 12 has other bits that the policy allows (legal reordering)".
    private func standing(_ output: OutputDiagnosis) -> String {
        let verdicts = output.allowedVerdicts.map(\.rawValue).joined(separator: ", ")
        let all = "of \(counted(output.cases, "case"))"
        if !output.isWrong { return "has other bits in \(output.allowedCases) \(all), all allowed: \(verdicts)" }
        let rest =
            output.allowedCases == 0
            ? "" : "; in \(output.allowedCases) it has other bits that are allowed: \(verdicts)"
        return "is wrong in \(output.wrongCases) \(all)" + rest
    }

    /// What is known of an output's bits, line by line.
    private func findings(_ operation: OperationDiagnosis, _ output: OutputDiagnosis) -> [(text: String, isName: Bool)]
    {
        var lines: [(String, Bool)] = []
        func add(_ text: String, isName: Bool = false) { lines.append((text, isName)) }
        let evidence = output.evidence
        if output.exact.isEmpty {
            add(
                "nothing tried gives these bits (\(counted(operation.tried, "deviation or pair", "deviations and pairs")))"
            )
            for explanation in output.closest {
                add(
                    "closest: \(explanation.name): explains \(explanation.explained) of the \(counted(explanation.wrong, "element")) of other bits and would spoil \(explanation.spoilt) of the \(explanation.elements - explanation.wrong) right ones"
                )
            }
        } else {
            // Where little speaks for any of them, none is left out.
            let shown = evidence.isThin ? output.exact.count : 6
            for explanation in output.exact.prefix(shown) {
                add(explanation.name, isName: true)
                for deviation in explanation.deviations { add("    the implementation \(sentence(deviation))") }
                add(
                    "    every bit of \(counted(explanation.elements, "element")); \(explanation.wrong) of them \(explanation.wrong == 1 ? "is" : "are") not as specified"
                )
                if !explanation.spoiltOutputs.isEmpty {
                    let names = explanation.spoiltOutputs.map { "outputs/\($0)" }.joined(separator: ", ")
                    let verb = explanation.spoiltOutputs.count == 1 ? "is" : "are"
                    add("    in code for this output alone: \(names) would be wrong too, and \(verb) right")
                }
            }
            if output.exact.count > shown {
                add(
                    "and \(output.exact.count - shown) more: \(output.exact.dropFirst(shown).map(\.name).joined(separator: ", "))"
                )
            }
            if output.exact.count > 1 { add("(these cannot be told apart by the cases given)") }
        }
        if evidence.isThin {
            add(
                "thin evidence: \(counted(evidence.differing, "element")) of other bits in all, \(evidence.fitting) of \(counted(evidence.tried, "deviation or pair", "deviations and pairs")) tried fit\(evidence.fitting == 1 ? "s" : ""); below \(Evidence.least) elements chance is not excluded: ask more cases"
            )
        }
        for pattern in output.patterns.prefix(4) {
            // What the policy allows is not wrong.
            add(output.isWrong ? pattern : pattern.replacing(/^wrong|is wrong$/, with: "differs"))
        }
        return lines
    }

    private func common(_ operation: OperationDiagnosis) -> String? {
        guard operation.outputs.count > 1, let first = operation.commonExplanations.first else { return nil }
        return "one cause explains all of \(operation.op): \(first.map(\.name).joined(separator: " + "))"
    }

    private func place(_ departure: Departure) -> String {
        "first to depart in execution order: \(departure.tensor)[\(departure.index)] of case '\(departure.caseName)'"
    }

    private var summary: (verdict: String, rest: String) {
        let faults = faultCounts
        let other =
            allowed == 0 ? "" : "; \(counted(allowed, "output")) of other bits that are allowed"
        let unanswered = judged.skipped.isEmpty ? "" : "; \(counted(judged.skipped.count, "case")) skipped"
        if wrong == 0 && faults.isEmpty {
            return (
                "NOTHING WRONG", " in \(counted(conforming.count + operations.count, "operation"))\(other)\(unanswered)"
            )
        }
        if wrong == 0 {
            return (judged.judgement.word, ": \(faults); no wrong bits in what was answered\(other)\(unanswered)")
        }
        let thin = outputs.count { $0.isWrong && $0.isNamed && $0.evidence.isThin }
        let places = operations.count { $0.outputs.contains(where: \.isWrong) }
        return (
            named == wrong ? "NAMED" : "NOT ALL NAMED",
            ": the bits of \(named) of \(counted(wrong, "wrong output")) are reproduced, in \(places) of \(counted(operations.count + conforming.count, "operation"))"
                + (thin == 0 ? "" : ", \(thin) on thin evidence") + (faults.isEmpty ? "" : "; \(faults)") + other
                + unanswered
        )
    }

    private func sentence(_ deviation: Deviation) -> String {
        deviation.summary + (deviation.clauses.isEmpty ? "" : " (\(deviation.clauses.joined(separator: ", ")))")
    }

    private func text(_ element: ElementText) -> String {
        "\(element.bits)  \(element.decimal)\(element.fields.map { "   (\($0))" } ?? "")"
    }

    // MARK: A page

    /// One file without scripts or anything from elsewhere, as ``HTMLReport`` writes it.
    public var html: String {
        var page = Page(title: "Touchstone: diagnosis of \(subject)")
        page.heading("Touchstone: diagnosis", level: 1)
        page.paragraph(subject, style: "soft")
        let (verdict, rest) = summary
        page.paragraph(verdict + rest, style: judged.conforms ? "good" : "bad")
        page.table(TextReport.rows(judged), numbersFrom: 2)
        for operation in operations {
            page.parts.append("<section>")
            page.heading(operation.op)
            for output in operation.outputs {
                page.paragraph("outputs/\(output.name) \(standing(output))", style: output.isWrong ? "bad" : nil)
                page.preformatted(findings(operation, output).map(\.text).joined(separator: "\n"))
            }
            if let common = common(operation) { page.paragraph(common) }
            if let departure = operation.departure {
                page.paragraph(place(departure))
                page.facts([("expected", text(departure.expected)), ("got", text(departure.got))])
            }
            page.parts.append("</section>")
        }
        if !faults.isEmpty { page.heading("Missing, malformed or failed") }
        for fault in faults {
            page.paragraph("\(fault.op): \(fault.verdict.rawValue): \(fault.note)", style: "bad")
            page.preformatted(fault.lines.joined(separator: "\n"))
        }
        if !judged.skipped.isEmpty {
            page.heading("Skipped: the implementation gives no output for them")
            page.facts(judged.skippedOperationsBySuite.map { ($0.suite, $0.operations) })
        }
        if !judged.notes.isEmpty {
            page.heading("Notes")
            page.preformatted(judged.notes.prefix(100).joined(separator: "\n"))
        }
        return page.html
    }

    // MARK: JSON

    public var json: JSONValue {
        .object([
            "format": 1, "subject": .string(subject), "conforms": .bool(judged.conforms),
            "judged": .bool(judged.isJudged),
            "verdicts": .object(
                Dictionary(
                    uniqueKeysWithValues: Verdict.allCases.map {
                        ($0.rawValue, JSONValue.integer(Int64(judged.count($0))))
                    })),
            "wrong_outputs": .integer(Int64(wrong)), "named_outputs": .integer(Int64(named)),
            "allowed_outputs": .integer(Int64(allowed)),
            "conforming_operations": .array(conforming.map(JSONValue.string)),
            "notes": .array(judged.notes.map(JSONValue.string)), "operations": .array(operations.map(json)),
            "faults": .array(
                judged.cases.flatMap { one in
                    one.outputs.filter { [.missing, .malformed, .failed].contains($0.verdict) }.map { output in
                        .object([
                            "suite": .string(one.suite), "case": .string(one.name), "op": .string(one.op),
                            "output": .string(output.name), "verdict": .string(output.verdict.rawValue),
                            "note": .string(output.note ?? ""),
                        ])
                    }
                }),
            "skipped": .array(
                judged.skipped.map {
                    .object(["suite": .string($0.suite), "case": .string($0.name), "op": .string($0.op)])
                }),
        ])
    }

    private func json(_ operation: OperationDiagnosis) -> JSONValue {
        var object: [String: JSONValue] = [
            "op": .string(operation.op), "tried": .integer(Int64(operation.tried)),
            "outputs": .array(operation.outputs.map(json)),
        ]
        if let departure = operation.departure {
            object["departure"] = .object([
                "case": .string(departure.caseName), "tensor": .string(departure.tensor),
                "index": .integer(Int64(departure.index)), "expected": .string(departure.expected.bits),
                "got": .string(departure.got.bits),
            ])
        }
        return .object(object)
    }

    private func json(_ output: OutputDiagnosis) -> JSONValue {
        .object([
            "output": .string(output.name), "wrong": .bool(output.isWrong),
            "wrong_cases": .integer(Int64(output.wrongCases)), "allowed_cases": .integer(Int64(output.allowedCases)),
            "allowed": .array(output.allowedVerdicts.map { .string($0.rawValue) }),
            "cases": .integer(Int64(output.cases)), "explanations": .array(output.exact.map(json)),
            "closest": .array(output.closest.map(json)), "patterns": .array(output.patterns.map(JSONValue.string)),
            "evidence": .object([
                "differing_elements": .integer(Int64(output.evidence.differing)),
                "fitting": .integer(Int64(output.evidence.fitting)), "tried": .integer(Int64(output.evidence.tried)),
                "thin": .bool(output.evidence.isThin),
            ]),
        ])
    }

    private func json(_ one: Explanation) -> JSONValue {
        .object([
            "deviations": .array(
                one.deviations.map { deviation in
                    .object([
                        "name": .string(deviation.name), "summary": .string(deviation.summary),
                        "clauses": .array(deviation.clauses.map(JSONValue.string)),
                    ])
                }), "exact": .bool(one.isExact), "wrong": .integer(Int64(one.wrong)),
            "explained": .integer(Int64(one.explained)), "spoilt": .integer(Int64(one.spoilt)),
            "elements": .integer(Int64(one.elements)),
            "spoilt_outputs": .array(one.spoiltOutputs.map(JSONValue.string)),
        ])
    }
}
