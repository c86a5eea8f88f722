import Cases
import Goldens
import JSON
import ModelSpec
import Platform

/// What a run did and found, for people and for programs.
public struct FuzzReport: Sendable {
    public let run: FuzzRun
    /// The implementation's name.
    public let subject: String
    /// The golden file of the minimal cases; nil if there are none.
    public let path: String?

    public init(_ run: FuzzRun, subject: String, path: String?) {
        self.run = run
        self.subject = subject
        self.path = path
    }

    public func text(usesColour: Bool = false) -> String {
        func colour(_ text: String, _ code: String) -> String {
            usesColour ? "\u{1B}[1;\(code)m\(text)\u{1B}[0m" : text
        }
        var lines = operations() + [""] + classes()
        for failure in run.failures {
            lines.append("")
            let (head, rest) = details(failure)
            lines.append(colour("FAILED", "31") + "  " + PlainText.shown(head))
            lines += rest.map(PlainText.shown)
        }
        if !run.coverage.missing.isEmpty {
            lines += ["", PlainText.shown("note: not answered, for want of the operation or recipe: \(missing())")]
        }
        let verdict = colour(run.judgement.word, run.conforms ? "32" : "31")
        let failed = run.coverage.failures == 0 ? "none failed" : "\(run.coverage.failures) failed"
        lines += [
            "",
            "\(verdict): \(counted(run.coverage.cases, "case")), \(counted(run.coverage.elements, "element")), \(failed); \(PlainText.shown(subject)); seed 0x\(hexadecimal(run.seed, digits: 16)), next case \(run.next)",
        ]
        return lines.joined(separator: "\n") + "\n"
    }

    // MARK: Tables

    /// One line an operation: cases, elements, failures, recipes, classes.
    private func operations() -> [String] {
        var rows = [["operation", "cases", "elements", "failed", "recipes", "classes", "fewest"]]
        var byOperation: [String: [(FuzzCoverage.Key, FuzzCoverage.Count)]] = [:]
        for (key, count) in run.coverage.counts { byOperation[key.operation, default: []].append((key, count)) }
        for op in FuzzCases.operations {
            guard let entries = byOperation[op] else { continue }
            let classes = FuzzCases.classes(of: op)
            let each = classes.map { one in entries.reduce(0) { $0 + ($1.0.caseClass == one ? $1.1.cases : 0) } }
            let failures = entries.reduce(0) { $0 + $1.1.failures }
            rows.append([
                op, "\(entries.reduce(0) { $0 + $1.1.cases })", "\(entries.reduce(0) { $0 + $1.1.elements })",
                failures == 0 ? "-" : "\(failures)", "\(Set(entries.map(\.0.recipe)).count)",
                "\(each.count { $0 > 0 }) of \(classes.count)", "\(each.min() ?? 0)",
            ])
        }
        return Self.table(rows)
    }

    /// One line a class of cases.
    private func classes() -> [String] {
        var rows = [["class", "operations", "cases", "elements", "failed"]]
        for caseClass in CaseClass.allCases {
            let entries = run.coverage.counts.filter { $0.key.caseClass == caseClass }
            if entries.isEmpty { continue }
            let failures = entries.reduce(0) { $0 + $1.value.failures }
            rows.append([
                caseClass.rawValue, "\(Set(entries.map(\.key.operation)).count)",
                "\(entries.reduce(0) { $0 + $1.value.cases })", "\(entries.reduce(0) { $0 + $1.value.elements })",
                failures == 0 ? "-" : "\(failures)",
            ])
        }
        return Self.table(rows)
    }

    /// "zreg, bf16.add (12 of 50)": suites and operations that the implementation has nothing of, and how many cases of others.
    private func missing() -> String {
        var judged: [String: Int] = [:]
        for (key, count) in run.coverage.counts { judged[key.operation, default: 0] += count.cases }
        var parts: [String] = []
        for suite in Suite.allCases {
            let asked = OperationCatalog.all.filter { $0.suite == suite }.map(\.name)
                .filter { judged[$0] != nil || run.coverage.missing[$0] != nil }
            let lacking = asked.filter { run.coverage.missing[$0] != nil }
            if lacking == asked && !asked.isEmpty && asked.allSatisfy({ judged[$0] == nil }) {
                parts.append("all of \(suite.rawValue)")
                continue
            }
            for op in lacking {
                let (without, with) = (run.coverage.missing[op] ?? 0, judged[op] ?? 0)
                parts.append(with == 0 ? op : "\(op) (\(without) of \(without + with))")
            }
        }
        return parts.joined(separator: ", ")
    }

    private static func table(_ rows: [[String]]) -> [String] {
        let columns = rows.first?.count ?? 0
        let widths = (0..<columns).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            row.indices.map { column in
                let padding = String(repeating: " ", count: widths[column] - row[column].count)
                return column == 0 ? row[column] + padding : padding + row[column]
            }.joined(separator: "  ")
        }
    }

    // MARK: Failures

    /// The first line, and the rest.
    private func details(_ failure: FuzzFailure) -> (head: String, rest: [String]) {
        let minimal = failure.minimal
        var lines = ["  \(failure.fault.summary)"]
        if let printed = failure.fault.failure?.printed, !printed.isEmpty { lines += ["  it printed:", printed] }
        lines.append("  the smallest form found, after \(counted(failure.attempts, "attempt")):")
        if let recipe = try? JSONValue.object(minimal.recipe).text(), recipe != "{}" {
            lines.append("    recipe   \(recipe)")
        }
        for named in minimal.inputs.tensors { lines.append("    \(Self.text(named.name, named.tensor))") }
        for named in minimal.outputs.tensors {
            guard let output = failure.fault.report.outputs.first(where: { $0.name == named.name }),
                !output.verdict.conforms
            else { continue }
            lines.append("    expected \(Self.text(named.name, named.tensor))")
            if let got = failure.fault.outputs[named.name] {
                lines.append("    got      \(Self.text(named.name, got))")
            }
        }
        lines.append("  again: --seed 0x\(hexadecimal(run.seed, digits: 16)) --only \(failure.number)")
        if let path { lines.append("  written: \(path), case \(minimal.name)") }
        let extent =
            failure.cases == 1 ? "the only case" : "the first of \(counted(failure.cases, "case"))"
        return (
            "\(minimal.op): case \(failure.number), which aims at \(failure.caseClass.rawValue); \(extent) with \(Self.text(failure.difference))",
            lines
        )
    }

    /// "another value in outputs/d".
    private static func text(_ difference: FuzzDifference) -> String {
        difference.output.isEmpty
            ? "no answer" : "\(difference.kind.rawValue) in outputs/\(difference.output)"
    }

    /// Name, type, shape, and up to 16 elements in bits and decimal.
    private static func text(_ name: String, _ tensor: Tensor) -> String {
        let shown = (0..<min(16, tensor.count)).map { "\(tensor.bitsText(at: $0)) = \(tensor.valueText(at: $0))" }
        let more = tensor.count > 16 ? ", ... \(tensor.count - 16) more" : ""
        return "\(name) \(tensor.type.rawValue) \(tensor.shape): \(shown.joined(separator: ", "))\(more)"
    }

    /// For programs. Keys do not change their meaning within a `format`.
    public var json: JSONValue {
        .object([
            "format": .integer(1), "subject": .string(subject), "conforms": .bool(run.conforms),
            "seed": .string(hexadecimal(run.seed, digits: 16)), "next_case": .integer(Int64(run.next)),
            "cases": .integer(Int64(run.coverage.cases)), "elements": .integer(Int64(run.coverage.elements)),
            "failed_cases": .integer(Int64(run.coverage.failures)), "coverage": run.coverage.json,
            "not_implemented": run.coverage.missingJSON,
            "failures": .array(
                run.failures.map { failure in
                    var object: [String: JSONValue] = [
                        "operation": .string(failure.minimal.op), "case": .integer(Int64(failure.number)),
                        "class": .string(failure.caseClass.rawValue), "summary": .string(failure.fault.summary),
                        "output": .string(failure.difference.output),
                        "difference": .string(failure.difference.kind.rawValue),
                        "cases": .integer(Int64(failure.cases)),
                        "attempts": .integer(Int64(failure.attempts)), "recipe": .object(failure.minimal.recipe),
                        "inputs": Self.json(failure.minimal.inputs), "expected": Self.json(failure.minimal.outputs),
                        "got": Self.json(failure.fault.outputs), "name": .string(failure.minimal.name),
                    ]
                    if let path { object["file"] = .string(path) }
                    return .object(object)
                }),
        ])
    }

    /// Type, shape and up to 64 elements in bits and decimal.
    private static func json(_ group: TensorGroup) -> JSONValue {
        .object(
            Dictionary(
                uniqueKeysWithValues: group.tensors.map { named in
                    let tensor = named.tensor
                    return (
                        named.name,
                        .object([
                            "type": .string(tensor.type.rawValue),
                            "shape": .array(tensor.shape.map { .integer(Int64($0)) }),
                            "bits": .array((0..<min(64, tensor.count)).map { .string(tensor.bitsText(at: $0)) }),
                            "values": .array((0..<min(64, tensor.count)).map { .string(tensor.valueText(at: $0)) }),
                        ])
                    )
                }))
    }
}
