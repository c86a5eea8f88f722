import ArgumentParser
import Checker
import Engine
import EngineOperations
import Foundation
import GoldenIO
import Goldens
import JSON
import Platform
import Reference

struct Localise: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Find the operation at which two training runs part, or which one is wrong.",
        discussion: """
            Takes two traces of the same step (`train --trace`, or any file of cases of training.step with `intermediates/`) and walks them in \
            execution order to the first tensor that differs though all before it agree; the reference recomputes the differing elements from \
            the agreed inputs and says which of the two is right.

            With one trace, --samples elements of every tensor are recomputed from the trace's own tensors before it, so that operations that are wrong by \
            themselves are found, not only the first. What lies between the samples is not looked at: a tensor with few wrong elements may pass, and what is made \
            of it does too. Two traces are compared whole.

            Two logs of `train --log` are compared line by line: the first step whose fingerprint differs is the one to trace.

              touchstone train --steps 12 --log a.jsonl                     # and another run with --log b.jsonl
              touchstone localise a.jsonl b.jsonl                           # says: step 7
              touchstone train --steps 7 --trace a.h5 --trace-step 7        # and b.h5 by the other
              touchstone localise a.h5 b.h5

            Exit status 0 if nothing differs, 1 if something does.
            """)

    @Argument(help: ArgumentHelp("A trace, or a log.", valueName: "a"))
    var first: String

    @Argument(help: ArgumentHelp("Another of the same step, or of another run.", valueName: "b"))
    var second: String?

    @Option(name: .customLong("case"), help: "The case of the files; the first of training.step by default.")
    var caseName: String?

    @Option(name: .long, help: ArgumentHelp("Elements of a tensor that the reference recomputes.", valueName: "n"))
    var samples = 64

    @Option(name: .long, help: "text or json.")
    var format: PlainFormat = .text

    func validate() throws {
        if samples < 1 { throw ValidationError("--samples takes 1 or more.") }
    }

    func run() throws {
        let logs = [first, second].compactMap(\.self).map { $0.hasSuffix(".jsonl") }
        if logs.contains(true) {
            guard let second, !logs.contains(false) else {
                throw CommandError("a log (.jsonl) is compared with another log: give two")
            }
            return try compareLogs(second)
        }
        let a = try trace(first)
        let order = try Self.order(a)
        var localiser = Localiser(order: order)
        localiser.samples = samples
        if let second {
            let comparison = try localiser.compare(a, try trace(second))
            guard comparison.compared > 0 else {
                throw JudgingError.nothingToJudge("\(first) and \(second) have no tensor of the step in common")
            }
            try show(comparison, second)
            let isOne =
                comparison.divergence == nil && comparison.inputs.isEmpty && comparison.otherFingerprints.isEmpty
            if !isOne { throw ExitCode(1) }
        } else {
            let bar = ProgressBar("localise", total: UInt64(order.count), unit: "tensors", quiet: format == .json)
            let findings = try localiser.faults(a) { done in
                bar.update(UInt64(done))
                try Interruption.check()
            }
            bar.finish()
            guard findings.recomputed > 0 else {
                throw JudgingError.nothingToJudge("\(first) has none of the step's \(order.count) tensors")
            }
            try show(findings)
            if !findings.faults.isEmpty || findings.hasOtherFingerprint { throw ExitCode(1) }
        }
    }

    private func trace(_ path: String) throws -> StepTrace {
        let file = try GoldenFile(reading: path)
        for name in file.caseNames where caseName == nil || caseName == name {
            let one = try file.readCase(name)
            if one.op == "training.step" || caseName != nil { return try StepTrace(one, name: path) }
        }
        throw JudgingError.nothingToJudge("\(path) has no case \(caseName.map { "'\($0)'" } ?? "of training.step")")
    }

    /// A step's tensors in execution order, from a step of the engine.
    private static func order(_ trace: StepTrace) throws -> [Localiser.Expected] {
        var names: [Localiser.Expected] = []
        let trainer = Trainer(trace.configuration, EngineContext(threads: 1))
        trainer.initialize()
        _ = try trainer.step(trace.firstStep, batch: trace.firstBatch) { name, tensor in
            names.append(Localiser.Expected(name, tensor.elementType, tensor.shape))
        }
        return names
    }

    // MARK: Logs

    private func compareLogs(_ second: String) throws {
        let (a, b) = (try fingerprints(first), try fingerprints(second))
        for step in a.keys.sorted() {
            guard let x = a[step], let y = b[step] else { continue }
            if x == y { continue }
            print("the runs part in step \(step): fingerprints \(x.prefix(16))... and \(y.prefix(16))...")
            print("trace it in both:  touchstone train ... --steps \(step) --trace a.h5 --trace-step \(step)")
            throw ExitCode(1)
        }
        let common = Set(a.keys).intersection(b.keys).count
        guard common > 0 else { throw JudgingError.nothingToJudge("\(first) and \(second) have no step in common") }
        print("\(common) step\(common == 1 ? " has" : "s have") one fingerprint in both")
        for (path, own, other) in [(first, a, b), (second, b, a)] {
            let alone = own.keys.filter { other[$0] == nil }.sorted()
            guard let from = alone.first, let to = alone.last else { continue }
            print(
                "only in \(path): \(alone.count == 1 ? "step \(from)" : "\(alone.count) steps from \(from) to \(to)")")
        }
    }

    private func fingerprints(_ path: String) throws -> [Int: String] {
        var all: [Int: String] = [:]
        let text: String
        do { text = try String(contentsOfFile: path, encoding: .utf8) } catch {
            throw CommandError("\(path): cannot be read: \(error.localizedDescription)")
        }
        for (number, line) in text.split(separator: "\n").enumerated() {
            guard case .object(let entry)? = try? JSONValue(text: String(line)),
                case .integer(let step)? = entry["step"],
                case .string(let fingerprint)? = entry["fingerprint"]
            else { throw CommandError("\(path), line \(number + 1): expected an object with 'step' and 'fingerprint'") }
            all[Int(step)] = fingerprint
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
        guard let d = comparison.divergence else {
            print(
                comparison.inputs.isEmpty
                    ? "NO DIFFERENCE in \(comparison.compared) of the step's \(comparison.tensors) tensors"
                    : "none of the \(comparison.compared) tensors compared, of the step's \(comparison.tensors), shows it"
            )
            return
        }
        print("the runs part at \(d.tensor), tensor \(d.place) of \(d.of): all before it that both have agree")
        print(
            "  \(d.differing) of \(d.elements) elements differ, first at [\(d.index.map(String.init).joined(separator: ", "))]"
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
        print("  \(d.later) later tensors differ too")
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
                    "other_fingerprint": .bool(findings.hasOtherFingerprint),
                ]).text(indented: true))
        }
        for fault in faults {
            print(
                "\(fault.tensor), tensor \(fault.place) of \(fault.of): \(fault.wrong) of \(fault.recomputed) recomputed elements are wrong by themselves"
            )
            print("  \(fault.example)")
        }
        if !missing.isEmpty { print("not in the trace: \(missing.count) tensors, \(missing[0]) first") }
        if findings.hasOtherFingerprint {
            print(
                "the fingerprint that the trace states is not that of its tensors: it was altered, or its chain is another"
            )
        }
        print(
            faults.isEmpty
                ? findings.hasOtherFingerprint
                    ? "no operation is wrong by itself: \(recomputed) elements follow from the trace's own tensors before them"
                    : "NOTHING WRONG: \(recomputed) elements follow from the trace's own tensors before them"
                : "\(faults.count) operation\(faults.count == 1 ? " is" : "s are") wrong by \(faults.count == 1 ? "itself" : "themselves"); \(recomputed) elements were recomputed"
        )
    }

    private func text(_ element: ElementText) -> String {
        "\(element.bits)  \(element.decimal)\(element.fields.map { "   (\($0))" } ?? "")"
    }
}
