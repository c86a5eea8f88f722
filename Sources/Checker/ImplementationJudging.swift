import Cases
import GoldenIO
import Platform

extension Judge {
    /// Asks an implementation every case of a golden file and adds the verdicts to a report.
    ///
    /// A case that the implementation does not have is skipped, or its outputs are missing under ``JudgingOptions/requiresAll``. One on which it fails gets
    /// the verdict `failed` on every output, or `malformed` where it answered what is no answer; the next case is asked all the same.
    ///
    /// - Parameters:
    ///   - onAnswer: Called with each case that was answered.
    ///   - onCase: Called after each case.
    /// - Throws: `GoldenIOError` if the golden file cannot be read, `Interrupted`, and whatever the implementation throws that is not an
    ///   ``ImplementationFailure``.
    public static func judge(
        _ implementation: any Implementation, against golden: GoldenFile, options: JudgingOptions,
        into report: inout Report, onAnswer: ((Observation) -> Void)? = nil, onCase: () -> Void = {}
    ) async throws {
        for name in try options.selection.names(in: golden) {
            try Interruption.check()
            let right = try golden.readCase(name)
            let suite = golden.header.suite
            var question = right
            for group in CaseGroup.allCases where group != .inputs { question[group] = [] }
            do {
                if let outputs = try await implementation.outputs(for: question) {
                    var answer = question
                    answer.outputs = outputs
                    let found = try judge(
                        CaseView(answer), against: CaseView(right), suite: suite, file: golden.path, options: options,
                        wantsPictures: report.needsPictures(options)
                    ) { report.append(undrawn: $0) }
                    report.append(found)
                    onAnswer?(Observation(right, outputs: outputs, judged: found))
                    report.noteExtraOutputs(of: answer, against: right, from: implementation.name)
                } else if options.requiresAll {
                    report.append(judge(nil, against: right, suite: suite, file: golden.path, options: options))
                } else {
                    report.append(skipped: SkippedCase(suite: suite, file: golden.path, name: name, op: right.op))
                }
            } catch let failure as ImplementationFailure {
                report.append(
                    failed(
                        right, suite: suite, file: golden.path, options: options,
                        verdict: failure.kind == .malformed ? .malformed : .failed,
                        failure.printed.isEmpty ? failure.what : failure.what + "; it printed:\n" + failure.printed))
            }
            onCase()
        }
    }

    /// The report on a case that was not answered: each of its outputs has failed, or is malformed.
    public static func failed(
        _ right: GoldenCase, suite: String, file: String, options: JudgingOptions, verdict: Verdict, _ why: String
    ) -> CaseReport {
        let view = CaseView(right)
        return CaseReport(
            suite: suite, file: file, name: right.name, op: right.op, why: right.why, recipe: right.recipe,
            outputs: view[.outputs].map { comparison(view, $0, options, answer: nil).unjudged(verdict, why) })
    }
}

/// A case that an implementation does not have.
public struct SkippedCase: Sendable, Hashable {
    public let suite: String
    public let file: String
    public let name: String
    public let op: String

    public init(suite: String, file: String, name: String, op: String) {
        self.suite = suite
        self.file = file
        self.name = name
        self.op = op
    }
}

extension Report {
    mutating func noteExtraOutputs(of answer: GoldenCase, against right: GoldenCase, from source: String) {
        for extra in answer.outputs.names where right.outputs[extra] == nil {
            append(note: "\(source): case '\(right.name)' has an extra output '\(extra)', not judged")
        }
    }

    /// ("bf16", "bf16.rem (5), bf16.fma (12)"): the operations of the skipped cases, with how many of each, in order.
    public var skippedOperationsBySuite: [(suite: String, operations: String)] {
        var suites: [String] = []
        var operations: [String: [String]] = [:]
        var counts: [String: Int] = [:]
        for one in skipped {
            if operations[one.suite] == nil { suites.append(one.suite) }
            if counts[one.op] == nil { operations[one.suite, default: []].append(one.op) }
            counts[one.op, default: 0] += 1
        }
        return suites.map { suite in
            (suite, (operations[suite] ?? []).map { "\($0) (\(counts[$0] ?? 0))" }.joined(separator: ", "))
        }
    }
}
