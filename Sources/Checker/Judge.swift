import GoldenIO

/// How to judge.
public struct JudgingOptions: Sendable {
    /// nil: each operation's standard policy.
    public var policy: Policy?
    public var nanRule: NaNRule
    /// Cases to judge; all if empty.
    public var cases: Set<String>
    /// Whether a case that is answered with no output at all is judged as missing instead of being skipped.
    public var requiresAll: Bool

    public init(
        policy: Policy? = nil, nanRule: NaNRule = .asClass, cases: Set<String> = [], requiresAll: Bool = false
    ) {
        self.policy = policy
        self.nanRule = nanRule
        self.cases = cases
        self.requiresAll = requiresAll
    }
}

/// Judges files of outputs against golden files.
public enum Judge {
    /// Adds the verdicts on every case of `golden` to a report; one case of each file is in memory at a time. A case that the candidate lacks, or
    /// has no output of, is skipped unless ``JudgingOptions/requiresAll``.
    ///
    /// - Throws: `GoldenIOError` if either file cannot be read.
    public static func judge(
        _ candidate: GoldenFile, against golden: GoldenFile, options: JudgingOptions, into report: inout Report
    ) throws {
        let offered = Set(candidate.caseNames)
        for name in golden.caseNames where options.cases.isEmpty || options.cases.contains(name) {
            let right = try golden.readCase(name)
            let answer = offered.contains(name) ? try candidate.readCase(name, groups: [.inputs, .outputs]) : nil
            let suite = golden.header.suite
            if !options.requiresAll, answer?.outputs.isEmpty ?? true, !right.outputs.isEmpty {
                report.append(skipped: SkippedCase(suite: suite, file: golden.path, name: name, op: right.op))
                continue
            }
            report.append(judge(answer, against: right, suite: suite, file: golden.path, options: options))
            if let answer { report.noteExtraOutputs(of: answer, against: right, from: candidate.path) }
        }
        let known = Set(golden.caseNames)
        for name in candidate.caseNames where !known.contains(name) {
            report.append(note: "\(candidate.path): case '\(name)' is not in \(golden.path), not judged")
        }
    }

    /// The verdict on one case; `answer` is nil if the candidate lacks it.
    public static func judge(
        _ answer: GoldenCase?, against right: GoldenCase, suite: String, file: String, options: JudgingOptions
    ) -> CaseReport {
        let policy = options.policy ?? Policy.standard(for: right.op)
        let complaint = answer.flatMap { inputComplaint($0, right) }
        let outputs = right.outputs.tensors.map { named in
            let comparison = OutputComparison(
                goldenCase: right, name: named.name, expected: named.tensor, policy: policy, nanRule: options.nanRule)
            if let complaint { return comparison.malformed(complaint) }
            return comparison.report(answer?.outputs[named.name])
        }
        return CaseReport(
            suite: suite, file: file, name: right.name, op: right.op, why: right.why, recipe: right.recipe,
            outputs: outputs)
    }

    /// What is wrong with the question that the candidate answered, if it shows it: other operation, other inputs.
    private static func inputComplaint(_ answer: GoldenCase, _ right: GoldenCase) -> String? {
        if !answer.op.isEmpty && answer.op != right.op {
            return "the case's op is '\(answer.op)', expected '\(right.op)'"
        }
        for named in answer.inputs.tensors {
            guard let expected = right.inputs[named.name] else { continue }
            let isSame =
                named.tensor.type == expected.type && named.tensor.shape == expected.shape
                && named.tensor.canonicalBytes == expected.canonicalBytes
            if !isSame { return "inputs/\(named.name) is not the golden file's: another question was answered" }
        }
        return nil
    }
}

extension OutputComparison {
    func malformed(_ note: String) -> OutputReport {
        OutputReport(
            name: name, verdict: .malformed, policy: policy, elements: expected.count, mismatches: 0, failures: 0,
            note: note, histogram: UlpHistogram(), statistics: nil, first: nil, worst: nil, last: nil, isVacuous: false)
    }
}
