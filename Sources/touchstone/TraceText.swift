import Checker
import JSON
import Platform

/// What a walk over traces found, for people and for programs.
enum TraceText {
    /// Before the names of entries that hold nothing.
    static let bare = "entries without a tensor, so not compared (a '/' in a name makes nested groups)"

    static func lines(_ findings: TraceWalk.Findings, _ names: [String]) -> [String] {
        var lines: [String] = []
        if let d = findings.difference {
            lines.append(
                "the traces part at entry \(d.place), \(d.entry)\(d.op.isEmpty ? "" : " (\(d.op))"): \(d.what) differs")
            if d.differing > 0 {
                let place = d.index.map(String.init).joined(separator: ", ")
                lines.append(
                    "  \(d.differing) of \(counted(d.elements, "element")) \(d.differing == 1 ? "differs" : "differ"), first at [\(place)]"
                )
            }
            lines += zip(names, [d.first, d.second]).map { "    \($0): \($1)" }
            if !d.unrecorded.isEmpty {
                lines.append(
                    "  only one of the traces has these before it, so the cause may lie there: \(listed(d.unrecorded))")
            }
            if !d.inputs.isEmpty {
                let place = d.unrecorded.isEmpty ? ", in something that neither trace records" : ""
                lines.append(
                    "  its inputs differ already (\(listed(d.inputs))): the difference arises before it\(place)")
            } else if d.what.hasPrefix("outputs/") {
                lines.append(
                    d.hasInputs
                        ? "  its recorded inputs agree: the difference arises here"
                        : "  its inputs are not in both traces: the difference may arise before it")
            }
            lines.append(
                "  \(counted(findings.later, "later entry", "later entries")) \(findings.later == 1 ? "differs" : "differ") too"
            )
        }
        if let name = findings.outOfOrder { lines.append("the second trace has \(name) at another place in its order") }
        func tell(_ what: String, _ list: [String]) {
            if !list.isEmpty { lines.append("\(what): \(list.count): \(listed(list))") }
        }
        if names.count == 2 {
            tell("only in \(names[0])", findings.onlyInFirst)
            tell("only in \(names[1])", findings.onlyInSecond)
        }
        tell("tensors that only one of the traces has", findings.unmatched)
        tell(bare, findings.bare)
        for name in findings.unordered {
            lines.append(
                "\(name) does not track the order of its entries (track_order=True in h5py): they are taken by name")
        }
        for fault in findings.faults {
            lines.append(
                "\(fault.trace), entry \(fault.place), \(fault.entry) (\(fault.op)) does not follow from its own inputs:"
            )
            lines += fault.outputs.map { "  \($0)" }
        }
        for one in findings.unjudged { lines.append("\(one.trace), \(one.entry): not judged: \(one.why)") }
        let judged =
            "\(counted(findings.judged, "entry", "entries")) judged by the reference, \(findings.faults.count) wrong"
        let foreign = findings.foreign == 0 ? "" : ", \(findings.foreign) of operations that it does not know"
        let compared = names.count == 2 ? "\(counted(findings.compared, "entry", "entries")) compared, " : ""
        lines.append("\(findings.judgement.word): \(compared)\(judged)\(foreign)")
        return lines
    }

    static func json(_ findings: TraceWalk.Findings) -> JSONValue {
        func strings(_ list: [String]) -> JSONValue { .array(list.map(JSONValue.string)) }
        var object: [String: JSONValue] = [
            "format": 1, "judgement": .string(findings.judgement.word),
            "compared": .integer(Int64(findings.compared)), "later": .integer(Int64(findings.later)),
            "only_in_first": strings(findings.onlyInFirst), "only_in_second": strings(findings.onlyInSecond),
            "unmatched": strings(findings.unmatched), "bare": strings(findings.bare),
            "unordered": strings(findings.unordered), "judged": .integer(Int64(findings.judged)),
            "foreign": .integer(Int64(findings.foreign)),
            "faults": .array(
                findings.faults.map { fault in
                    .object([
                        "trace": .string(fault.trace), "entry": .string(fault.entry), "op": .string(fault.op),
                        "place": .integer(Int64(fault.place)), "outputs": strings(fault.outputs),
                    ])
                }),
            "unjudged": .array(
                findings.unjudged.map {
                    .object(["trace": .string($0.trace), "entry": .string($0.entry), "why": .string($0.why)])
                }),
        ]
        if let name = findings.outOfOrder { object["out_of_order"] = .string(name) }
        if let d = findings.difference {
            object["difference"] = .object([
                "entry": .string(d.entry), "op": .string(d.op), "place": .integer(Int64(d.place)),
                "what": .string(d.what), "elements": .integer(Int64(d.elements)),
                "differing": .integer(Int64(d.differing)), "index": .array(d.index.map { .integer(Int64($0)) }),
                "first": .string(d.first), "second": .string(d.second), "inputs": strings(d.inputs),
                "unrecorded": strings(d.unrecorded),
            ])
        }
        return .object(object)
    }
}
