import Cases
import JSON

extension Report {
    /// The report as JSON, for programs; `report.schema.json` in this module's documentation describes it. Keys do not change their meaning within a
    /// `format`.
    public var json: JSONValue {
        .object([
            "format": .integer(1),
            "subject": .string(subject),
            "conforms": .bool(conforms),
            "judged": .bool(isJudged),
            "differences": .array(differences.map(JSONValue.string)),
            "verdicts": .object(
                Dictionary(
                    uniqueKeysWithValues: Verdict.allCases.map { ($0.rawValue, JSONValue.integer(Int64(count($0)))) })),
            "cases": .array(cases.map(\.json)),
            "skipped": .array(
                skipped.map {
                    .object([
                        "suite": .string($0.suite), "file": .string($0.file), "case": .string($0.name),
                        "op": .string($0.op),
                    ])
                }),
            "notes": .array(notes.map(JSONValue.string)),
        ])
    }
}

extension CaseReport {
    fileprivate var json: JSONValue {
        .object([
            "suite": .string(suite), "file": .string(file), "case": .string(name), "op": .string(op),
            "why": .string(why),
            "recipe": .object(recipe), "conforms": .bool(conforms), "outputs": .array(outputs.map(\.json)),
        ])
    }
}

extension OutputReport {
    fileprivate var json: JSONValue {
        var object: [String: JSONValue] = [
            "output": .string(name), "verdict": .string(verdict.rawValue), "policy": .string(policy.description),
            "elements": .integer(Int64(elements)), "mismatches": .integer(Int64(mismatches)),
            "failures": .integer(Int64(failures)),
        ]
        if let note { object["note"] = .string(note) }
        if mismatches > 0 {
            var buckets: [String: JSONValue] = [:]
            for (bucket, count) in histogram.counts.enumerated() where count > 0 {
                buckets[UlpHistogram.label(bucket)] = .integer(Int64(count))
            }
            object["ulps"] = .object(buckets)
            object["nan_against_number"] = .integer(Int64(histogram.incomparable))
        }
        if let statistics {
            object["errors"] = .object([
                "count": .integer(Int64(statistics.count)), "largest": .finite(statistics.largest),
                "mean": .finite(statistics.mean), "variance": .finite(statistics.variance),
                "mean_limit": .finite(statistics.meanLimit), "outward_mean": .finite(statistics.outwardMean),
                "outward_mean_limit": .finite(statistics.outwardLimit),
                "variance_limit": .finite(statistics.varianceLimit),
            ])
        }
        if let first { object["first"] = first.json }
        if let worst { object["worst"] = worst.json }
        if let last { object["last"] = last.json }
        return .object(object)
    }
}

extension MismatchDetail {
    fileprivate var json: JSONValue {
        func text(_ element: ElementText) -> JSONValue {
            .object(["bits": .string(element.bits), "value": .string(element.decimal)])
        }
        var object: [String: JSONValue] = [
            "index": .array(position.map { .integer(Int64($0)) }), "expected": text(expected), "got": text(got),
            "inputs": .object(Dictionary(inputs.map { ($0.name, JSONValue.string($0.text)) }) { first, _ in first }),
        ]
        if let ulps { object["ulps"] = .integer(Int64(clamping: ulps)) }
        if let shareOfBound { object["share_of_bound"] = .finite(shareOfBound) }
        return .object(object)
    }
}

extension JSONValue {
    /// A number; null where JSON has none.
    fileprivate static func finite(_ value: Double) -> JSONValue { value.isFinite ? .number(value) : .null }
}
