import GoldenIO
import JSON

/// A diagnosis as people and programs read it.
public struct DiagnosisReport: Sendable {
    public let subject: String
    public private(set) var operations: [OperationDiagnosis] = []
    /// Operations in which nothing is wrong.
    public private(set) var conforming: [String] = []
    public private(set) var notes: [String] = []

    public init(subject: String) { self.subject = subject }

    public mutating func append(_ op: String, _ diagnosis: OperationDiagnosis?) {
        if let diagnosis { operations.append(diagnosis) } else { conforming.append(op) }
    }

    public mutating func append(note: String) { notes.append(note) }

    /// Wrong outputs, and those of them that some deviation reproduces.
    public var wrong: Int { operations.reduce(0) { $0 + $1.outputs.count } }
    public var named: Int { operations.reduce(0) { $0 + $1.outputs.count { !$0.exact.isEmpty } } }

    public func text(usesColour: Bool = false) -> String {
        func colour(_ text: String, _ code: String) -> String {
            usesColour ? "\u{1B}[1;\(code)m\(text)\u{1B}[0m" : text
        }
        var lines: [String] = []
        for operation in operations {
            let common = operation.commonExplanations
            for output in operation.outputs {
                lines.append(
                    "\(colour(operation.op, "31")): outputs/\(output.name) is wrong in \(output.wrongCases) of \(output.cases) cases"
                )
                if output.exact.isEmpty {
                    lines.append("  nothing tried gives these bits (\(operation.tried) deviations and pairs of them)")
                    for explanation in output.closest {
                        lines.append(
                            "  closest: \(names(explanation)): explains \(explanation.explained) of \(explanation.wrong) wrong elements and would spoil \(explanation.spoilt)"
                        )
                    }
                } else {
                    for explanation in output.exact.prefix(6) {
                        lines.append("  \(colour(names(explanation), "32"))")
                        for deviation in explanation.deviations {
                            lines.append("      the implementation \(sentence(deviation))")
                        }
                        lines.append(
                            "      every bit of \(explanation.elements) elements; \(explanation.wrong) of them are not as specified"
                        )
                        if !explanation.spoiltOutputs.isEmpty {
                            let names = explanation.spoiltOutputs.map { "outputs/\($0)" }.joined(separator: ", ")
                            lines.append(
                                "      in code for this output alone: \(names) would be wrong too, and is right")
                        }
                    }
                    if output.exact.count > 6 {
                        lines.append(
                            "  and \(output.exact.count - 6) more: \(output.exact.dropFirst(6).map(names).joined(separator: ", "))"
                        )
                    }
                    if output.exact.count > 1 { lines.append("  (these cannot be told apart by the cases given)") }
                }
                for pattern in output.patterns.prefix(4) { lines.append("  \(pattern)") }
            }
            if operation.outputs.count > 1, let first = common.first {
                lines.append(
                    "  one cause explains all of \(operation.op): \(first.map(\.name).joined(separator: " + "))")
            }
            if let departure = operation.departure {
                lines.append(
                    "  first to depart in execution order: \(departure.tensor)[\(departure.index)] of case '\(departure.caseName)'"
                )
                lines.append("      expected \(text(departure.expected))")
                lines.append("      got      \(text(departure.got))")
            }
            lines.append("")
        }
        for note in notes.prefix(10) { lines.append("note: \(note)") }
        lines.append(summary(colour))
        return lines.joined(separator: "\n") + "\n"
    }

    private func summary(_ colour: (String, String) -> String) -> String {
        if wrong == 0 { return "\(colour("NOTHING WRONG", "32")) in \(conforming.count) operations" }
        let verdict = named == wrong ? colour("NAMED", "32") : colour("NOT ALL NAMED", "31")
        return
            "\(verdict): the bits of \(named) of \(wrong) wrong outputs are reproduced, in \(operations.count) of \(operations.count + conforming.count) operations"
    }

    private func names(_ explanation: Explanation) -> String {
        explanation.deviations.map(\.name).joined(separator: " + ")
    }

    private func sentence(_ deviation: Deviation) -> String {
        deviation.summary + (deviation.clauses.isEmpty ? "" : " (\(deviation.clauses.joined(separator: ", ")))")
    }

    private func text(_ element: ElementText) -> String {
        "\(element.bits)  \(element.decimal)\(element.fields.map { "   (\($0))" } ?? "")"
    }

    public var json: JSONValue {
        func explanation(_ one: Explanation) -> JSONValue {
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
        return .object([
            "format": 1, "subject": .string(subject), "wrong_outputs": .integer(Int64(wrong)),
            "named_outputs": .integer(Int64(named)), "conforming_operations": .array(conforming.map(JSONValue.string)),
            "notes": .array(notes.map(JSONValue.string)),
            "operations": .array(
                operations.map { operation in
                    var object: [String: JSONValue] = [
                        "op": .string(operation.op), "tried": .integer(Int64(operation.tried)),
                        "outputs": .array(
                            operation.outputs.map { output in
                                .object([
                                    "output": .string(output.name), "wrong_cases": .integer(Int64(output.wrongCases)),
                                    "cases": .integer(Int64(output.cases)),
                                    "explanations": .array(output.exact.map(explanation)),
                                    "closest": .array(output.closest.map(explanation)),
                                    "patterns": .array(output.patterns.map(JSONValue.string)),
                                ])
                            }),
                    ]
                    if let departure = operation.departure {
                        object["departure"] = .object([
                            "case": .string(departure.caseName), "tensor": .string(departure.tensor),
                            "index": .integer(Int64(departure.index)), "expected": .string(departure.expected.bits),
                            "got": .string(departure.got.bits),
                        ])
                    }
                    return .object(object)
                }),
        ])
    }
}
