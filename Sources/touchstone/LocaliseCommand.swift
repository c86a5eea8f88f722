import ArgumentParser
import Cases
import Checker
import Foundation
import GoldenIO
import Goldens
import JSON
import ModelSpec
import Platform

struct Localise: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Find the operation at which two training runs part, or which one is wrong.",
        discussion: """
            Takes two traces of the same step (`train --trace`, or any file of cases of training.step with `intermediates/`) and walks them in \
            execution order to the first tensor that differs though all before it agree; the reference recomputes the differing elements from \
            the agreed inputs and says which of the two is right.

            With one trace, --samples elements of every tensor are recomputed from the trace's own tensors before it, so that operations that are wrong by \
            themselves are found, not only the first. Elements between the samples are not checked: a tensor with few wrong elements may pass, and what is made \
            of it does too. Two traces are compared whole.

            Any other file of cases is a trace of whatever its cases say, in their order: op, recipe, inputs and outputs of what a program executed \
            (the page "Traces" has the format, and a hook that records a PyTorch module). Of two such traces the first entry that differs is shown, \
            and whether its inputs differed before; every entry of an operation that the reference knows is judged by its recorded inputs.

            Two logs of `train --log` are compared line by line: the first step whose fingerprint differs is the one to trace. Of two runs, the \
            second with b in place of a:

              touchstone train --steps 12 --log a.jsonl
              touchstone localise a.jsonl b.jsonl

            Where that says step 7:

              touchstone train --steps 7 --trace a.h5 --trace-step 7
              touchstone localise a.h5 b.h5

            Exit status: 0 if nothing differs or is wrong, 1 if something is, 2 if nothing is but not everything was compared or judged.
            """)

    @Argument(help: ArgumentHelp("A trace, or a log.", valueName: "a"))
    var first: String

    @Argument(help: ArgumentHelp("Another of the same step, or of another run.", valueName: "b"))
    var second: String?

    @Option(
        name: .customLong("case"),
        help: ArgumentHelp(
            "The case of a training step, by default the first; in other traces, the entries to walk. * and ? match any text and any character."
        )
    )
    var caseName: NamePattern?

    @Option(
        name: .long, help: ArgumentHelp("Elements of a tensor that the reference recomputes.", valueName: "n"),
        reading: Number.whole(1...1 << 30))
    var samples = 64

    @Option(name: .long, help: "text or json.")
    var format: PlainFormat = .text

    func run() throws {
        let logs = [first, second].compactMap(\.self).map { $0.hasSuffix(".jsonl") }
        if logs.contains(true) {
            guard let second, !logs.contains(false) else {
                throw CommandError("a log (.jsonl) is compared with another log: give two")
            }
            return try compareLogs(second)
        }
        let files = try [first, second].compactMap(\.self).map { try GoldenFile(reading: $0) }
        let steps = try files.map(stepTrace)
        guard let a = steps[0], !steps.contains(where: { $0 == nil }) else { return try walk(files, steps) }
        let plan = StepPlan(a.configuration)
        var localiser = Localiser(plan)
        localiser.samples = samples
        if let second, let b = steps[1] {
            let comparison = try localiser.compare(a, b)
            guard comparison.compared > 0 else {
                throw JudgingError.nothingToJudge("\(first) and \(second) have no tensor of the step in common")
            }
            try show(comparison, second)
            try end(comparison.judgement)
        } else {
            let bar = ProgressBar(
                "localise", total: UInt64(plan.entries.count), unit: "tensors", quiet: format == .json)
            let findings = try localiser.faults(a) { done in
                bar.update(UInt64(done))
                try Interruption.check()
            }
            bar.finish()
            guard findings.recomputed > 0 else {
                throw JudgingError.nothingToJudge(
                    "\(first) has none of the step's \(counted(plan.entries.count, "tensor")) that could be recomputed")
            }
            try show(findings)
            try end(findings.judgement)
        }
    }

    /// The trace of the first selected case, if all of them are cases of training.step; nil if the file is a trace of other operations.
    private func stepTrace(of file: GoldenFile) throws -> StepTrace? {
        let names = file.caseNames.filter { caseName?.matches($0) ?? true }
        guard let first = names.first else {
            throw JudgingError.nothingToJudge("\(file.path) has no case\(caseName.map { " '\($0)'" } ?? "")")
        }
        guard try names.allSatisfy({ try file.openCase($0, groups: []).op == "training.step" }) else { return nil }
        if names.count > 1 {
            Terminal.writeError(
                "touchstone: note: \(file.path) has \(names.count) steps; only '\(first)' is walked, --case takes another\n"
            )
        }
        return try StepTrace(try file.readCase(first), name: file.path)
    }

    // MARK: Any sequence of operations

    /// Traces of which one at least is not a training step's.
    private func walk(_ files: [GoldenFile], _ steps: [StepTrace?]) throws {
        let traces = try zip(files, steps).map { file, step in
            try step.map(Trace.init) ?? Trace(reading: file, CaseSelection(cases: caseName.map { [$0] } ?? []))
        }
        let walk = TraceWalk()
        let bar = ProgressBar(
            "localise", total: UInt64(traces[0].entryNames.count), unit: "entries", quiet: format == .json)
        func progress(_ done: Int) throws {
            bar.update(UInt64(done))
            try Interruption.check()
        }
        let findings =
            traces.count == 2
            ? try walk.compare(traces[0], traces[1], progress: progress)
            : try walk.faults(traces[0], progress: progress)
        bar.finish()
        guard findings.compared + findings.judged + findings.unjudged.count > 0 else {
            let bare = findings.bare.isEmpty ? "" : "; \(TraceText.bare): \(listed(findings.bare))"
            throw JudgingError.nothingToJudge(
                traces.count == 2
                    ? "\(traces[0].name) and \(traces[1].name) have no entry with tensors in common, and none of an operation that the reference knows\(bare)"
                    : "\(traces[0].name) has no entry of an operation that the reference knows; with a second trace they are compared\(bare)"
            )
        }
        if format == .json {
            print(try TraceText.json(findings).text(indented: true))
        } else {
            for line in TraceText.lines(findings, traces.map(\.name)) { print(line) }
        }
        try end(findings.judgement)
    }

    // MARK: Logs

    private func compareLogs(_ second: String) throws {
        let (a, b) = (try fingerprints(first), try fingerprints(second))
        let common = Set(a.keys).intersection(b.keys).sorted()
        guard !common.isEmpty else {
            throw JudgingError.nothingToJudge("\(first) and \(second) have no step in common")
        }
        let parting = common.first { a[$0] != b[$0] }
        let alone = [(first, a, b), (second, b, a)].map { path, own, other in
            (path, own.keys.filter { other[$0] == nil }.sorted())
        }
        let judgement: Judgement =
            parting != nil ? .doesNotConform : alone.allSatisfy { $0.1.isEmpty } ? .conforms : .notJudged
        if format == .json {
            var object: [String: JSONValue] = [
                "format": 1, "compared": .integer(Int64(common.count)),
                "only_in_first": .array(alone[0].1.map { .integer(Int64($0)) }),
                "only_in_second": .array(alone[1].1.map { .integer(Int64($0)) }),
            ]
            if let parting { object["step"] = .integer(Int64(parting)) }
            print(try JSONValue.object(object).text(indented: true))
            return try end(judgement)
        }
        if let step = parting, let x = a[step], let y = b[step] {
            print("the runs part in step \(step): fingerprints \(x.prefix(16))... and \(y.prefix(16))...")
            print("trace it in both:  touchstone train ... --steps \(step) --trace a.h5 --trace-step \(step)")
        } else {
            print("\(counted(common.count, "step")) \(common.count == 1 ? "has" : "have") one fingerprint in both")
        }
        for (path, steps) in alone {
            guard let from = steps.first, let to = steps.last else { continue }
            print(
                "not compared, only in \(path): \(steps.count == 1 ? "step \(from)" : "\(steps.count) steps from \(from) to \(to)")"
            )
        }
        try end(judgement)
    }

    private func fingerprints(_ path: String) throws -> [Int: String] {
        var all: [Int: String] = [:]
        let text: String
        do { text = String(decoding: try Files.bytes(of: path), as: UTF8.self) } catch {
            throw CommandError("\(error)")
        }
        for (number, line) in text.split(separator: "\n").enumerated() {
            guard case .object(let entry)? = try? JSONValue(text: String(line)),
                case .integer(let step)? = entry["step"],
                case .string(let fingerprint)? = entry["fingerprint"]
            else { throw CommandError("\(path), line \(number + 1): expected an object with 'step' and 'fingerprint'") }
            guard all.updateValue(fingerprint, forKey: Int(step)) ?? fingerprint == fingerprint else {
                throw CommandError("\(path), line \(number + 1): step \(step) has another fingerprint than further up")
            }
        }
        return all
    }

    // MARK: Text

    private func show(_ comparison: Localiser.Comparison, _ second: String) throws {
        if format == .json {
            var object: [String: JSONValue] = [
                "format": 1, "inputs": .array(comparison.inputs.map(JSONValue.string)),
                "compared": .integer(Int64(comparison.compared)), "tensors": .integer(Int64(comparison.tensors)),
                "other_fingerprints": .array(comparison.otherFingerprints.map(JSONValue.string)),
                "uncompared": .array(comparison.uncompared.map(JSONValue.string)),
                "unknown": .array(comparison.unknown.map(JSONValue.string)),
            ]
            if let d = comparison.divergence {
                object["divergence"] = .object([
                    "tensor": .string(d.tensor), "place": .integer(Int64(d.place)),
                    "index": .array(d.index.map { .integer(Int64($0)) }), "differing": .integer(Int64(d.differing)),
                    "elements": .integer(Int64(d.elements)), "first": .string(d.first.bits),
                    "second": .string(d.second.bits),
                    "recomputed": .integer(Int64(d.recomputed)), "first_right": .integer(Int64(d.firstRight)),
                    "second_right": .integer(Int64(d.secondRight)), "later": .integer(Int64(d.later)),
                    "unrecorded": .array(d.unrecorded.map(JSONValue.string)),
                ])
            }
            return print(try JSONValue.object(object).text(indented: true))
        }
        if !comparison.inputs.isEmpty {
            let shown = comparison.inputs.prefix(6).joined(separator: ", ")
            print(
                "the steps begin differently: inputs/\(shown)\(comparison.inputs.count > 6 ? " and \(comparison.inputs.count - 6) more" : ""): an earlier step is the cause, or other data"
            )
        }
        for name in comparison.otherFingerprints {
            print(
                "\(name) states a fingerprint that its own tensors do not have: it was altered, or its chain is another"
            )
        }
        Self.tell("not in both traces, so not compared", comparison.uncompared)
        Self.tell("not tensors of this step, so not compared", comparison.unknown)
        guard let d = comparison.divergence else {
            let compared = "\(comparison.compared) of the step's \(counted(comparison.tensors, "tensor"))"
            switch comparison.judgement {
            case .conforms: print("NO DIFFERENCE in \(compared)")
            case .notJudged: print("\(comparison.judgement.word): no difference in \(compared), which are not all")
            case .doesNotConform: print("\(comparison.judgement.word): the difference shows in none of \(compared)")
            }
            return
        }
        print("the runs part at \(d.tensor), tensor \(d.place) of \(d.of): all before it that both have agree")
        print(
            "  \(d.differing) of \(counted(d.elements, "element")) \(d.elements == 1 ? "differs" : "differ"), first at [\(d.index.map(String.init).joined(separator: ", "))]"
        )
        print("    \(first): \(text(d.first))")
        print("    \(second): \(text(d.second))")
        if !d.unrecorded.isEmpty {
            print("  not in both traces, so the cause may lie there: \(d.unrecorded.suffix(6).joined(separator: ", "))")
        }
        if let note = d.note {
            print("  not recomputed: \(note)")
        } else {
            func share(_ right: Int) -> String {
                right == d.recomputed ? "is right" : right == 0 ? "is wrong" : "is right in \(right)"
            }
            print(
                "  the reference recomputed \(d.recomputed) of them from the agreed inputs: \(first) \(share(d.firstRight)), \(second) \(share(d.secondRight))"
            )
        }
        print("  \(counted(d.later, "later tensor")) \(d.later == 1 ? "differs" : "differ") too")
    }

    private func show(_ findings: Localiser.Findings) throws {
        let (faults, recomputed, missing) = (findings.faults, findings.recomputed, findings.missing)
        if format == .json {
            let list = faults.map { fault in
                JSONValue.object([
                    "tensor": .string(fault.tensor), "place": .integer(Int64(fault.place)),
                    "recomputed": .integer(Int64(fault.recomputed)), "wrong": .integer(Int64(fault.wrong)),
                    "example": .string(fault.example.description),
                ])
            }
            return print(
                try JSONValue.object([
                    "format": 1, "faults": .array(list), "recomputed": .integer(Int64(recomputed)),
                    "missing": .array(missing.map(JSONValue.string)),
                    "unchecked": .array(findings.unchecked.map(JSONValue.string)),
                    "unknown": .array(findings.unknown.map(JSONValue.string)),
                    "other_fingerprint": .bool(findings.hasOtherFingerprint),
                ]).text(indented: true))
        }
        for fault in faults {
            print(
                "\(fault.tensor), tensor \(fault.place) of \(fault.of): \(fault.wrong) of \(fault.recomputed) recomputed elements are wrong by themselves"
            )
            print("  \(fault.example)")
        }
        Self.tell("not in the trace", missing)
        Self.tell("not recomputed, since what they are made of is not in the trace", findings.unchecked)
        Self.tell("not tensors of this step, so not checked", findings.unknown)
        if findings.hasOtherFingerprint {
            print(
                "the fingerprint that the trace states is not that of its tensors: it was altered, or its chain is another"
            )
        }
        let follow =
            "\(counted(recomputed, "element")) \(recomputed == 1 ? "follows" : "follow") from the trace's own tensors before them"
        switch findings.judgement {
        case .conforms: print("NOTHING WRONG: \(follow)")
        case .notJudged: print("\(findings.judgement.word): \(follow), but that is not all of the step")
        case .doesNotConform:
            print(
                faults.isEmpty
                    ? "no operation is wrong by itself: \(follow)"
                    : "\(counted(faults.count, "operation")) \(faults.count == 1 ? "is wrong by itself" : "are wrong by themselves"); \(counted(recomputed, "element")) \(recomputed == 1 ? "was" : "were") recomputed"
            )
        }
    }

    /// Names what was left out: how many, and the first.
    private static func tell(_ what: String, _ names: [String]) {
        if !names.isEmpty { print("\(what): \(counted(names.count, "tensor")): \(listed(names))") }
    }

    private func text(_ element: ElementText) -> String {
        "\(element.bits)  \(element.decimal)\(element.fields.map { "   (\($0))" } ?? "")"
    }
}
