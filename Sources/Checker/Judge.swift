import Cases
import GoldenIO
import Platform

/// How to judge.
public struct JudgingOptions: Sendable {
    /// The last rule that names an output holds; where none does, the operation's standard policy.
    public var rules: [PolicyRule]
    public var nanRule: NaNRule
    /// Cases to judge.
    public var selection: CaseSelection
    /// Whether a case that is answered with no output at all is judged as missing instead of being skipped.
    public var requiresAll: Bool
    /// Of so many outputs that do not conform, pictures are kept for a page.
    public var pictures: Int

    /// - Parameter policy: For every output; nil: the rules, else each operation's standard policy.
    public init(
        policy: Policy? = nil, rules: [PolicyRule] = [], nanRule: NaNRule = .asClass,
        selection: CaseSelection = CaseSelection(), requiresAll: Bool = false, pictures: Int = 0
    ) {
        self.rules = (policy.map { [PolicyRule(policy: $0)] } ?? []) + rules
        self.nanRule = nanRule
        self.selection = selection
        self.requiresAll = requiresAll
        self.pictures = pictures
    }

    func policy(for op: String, _ output: String) -> AppliedPolicy {
        if let rule = rules.last(where: { $0.names(op, output: output) }) {
            return AppliedPolicy(policy: rule.policy, isAskedFor: true)
        }
        return AppliedPolicy(policy: Policy.standard(for: op), isAskedFor: false)
    }
}

/// Judges files of outputs against golden files.
public enum Judge {
    /// Adds the verdicts on every case of `golden` to a report. Both files are read in parts: memory does not grow with their tensors, but for
    /// ``/GoldenIO/StoredTensor``'s filtered chunks. A case that the candidate lacks, or has no output of, is skipped unless
    /// ``JudgingOptions/requiresAll``. Outputs that have too few draws for their policy are not judged: ``Report/undrawn``.
    ///
    /// - Parameter onAnswer: Called with each case that was answered, whole in memory; nil: none is read whole.
    /// - Throws: `GoldenIOError` if either file cannot be read; `Interrupted`.
    public static func judge(
        _ candidate: GoldenFile, against golden: GoldenFile, options: JudgingOptions, into report: inout Report,
        onAnswer: ((Observation) -> Void)? = nil
    ) throws {
        let offered = Set(candidate.caseNames)
        for name in try options.selection.names(in: golden) {
            try Interruption.check()
            let right = CaseView(try golden.openCase(name, groups: [.inputs, .outputs, .truth, .bounds]))
            let answer =
                offered.contains(name)
                ? try CaseView(ofCandidate: candidate, name) : nil
            let suite = golden.header.suite
            if !options.requiresAll, answer.map({ $0[.outputs].isEmpty && $0.isReadable }) ?? true,
                !right[.outputs].isEmpty
            {
                report.append(skipped: SkippedCase(suite: suite, file: golden.path, name: name, op: right.op))
                continue
            }
            let found = try judge(
                answer, against: right, suite: suite, file: golden.path, options: options,
                wantsPictures: report.needsPictures(options)
            ) { report.append(undrawn: $0) }
            report.append(found)
            for (extra, why) in (answer?.unreadableOutputs ?? [:]).sorted(by: { $0.key < $1.key })
            where right[.outputs, extra] == nil {
                report.append(note: "\(candidate.path): case '\(name)': \(why); it is no output, not judged")
            }
            if let onAnswer, let answer, answer.isReadable {
                let given = try candidate.readCase(name, groups: [.outputs, .intermediates])
                onAnswer(
                    Observation(
                        try golden.readCase(name), outputs: given.outputs, intermediates: given.intermediates,
                        judged: found))
            }
            for extra in answer?[.outputs] ?? [] where right[.outputs, extra.name] == nil {
                report.append(note: "\(candidate.path): case '\(name)' has an extra output '\(extra.name)', not judged")
            }
        }
        let known = Set(golden.caseNames)
        for name in candidate.caseNames where !known.contains(name) {
            report.append(note: "\(candidate.path): case '\(name)' is not in \(golden.path), not judged")
        }
    }

    /// The verdict on one case in memory; `answer` is nil if the candidate lacks it.
    ///
    /// - Throws: ``JudgingError/tooFewDraws(caseName:output:draws:needed:)``.
    public static func judge(
        drawn answer: GoldenCase?, against right: GoldenCase, suite: String, file: String, options: JudgingOptions,
        wantsPictures: Bool = false
    ) throws -> CaseReport {
        try judge(
            answer.map { CaseView($0) }, against: CaseView(right), suite: suite, file: file, options: options,
            wantsPictures: wantsPictures)
    }

    /// The verdict on one case in memory. An output whose draws are too few to judge is malformed here.
    public static func judge(
        _ answer: GoldenCase?, against right: GoldenCase, suite: String, file: String, options: JudgingOptions,
        wantsPictures: Bool = false
    ) -> CaseReport {
        let view = CaseView(right)
        do {
            return try judge(
                answer.map { CaseView($0) }, against: view, suite: suite, file: file, options: options,
                wantsPictures: wantsPictures)
        } catch {
            return CaseReport(
                suite: suite, file: file, name: right.name, op: right.op, why: right.why, recipe: right.recipe,
                outputs: view[.outputs].map {
                    comparison(view, $0, options, answer: nil).unjudged(.malformed, "\(error)")
                })
        }
    }

    static func comparison(
        _ right: CaseView, _ named: CaseView.NamedSource, _ options: JudgingOptions, answer: CaseView?
    ) -> OutputComparison {
        OutputComparison(
            goldenCase: right, name: named.name, expected: named.tensor,
            applied: options.policy(for: right.op, named.name), nanRule: options.nanRule, answer: answer)
    }

    /// - Parameter onTooFewDraws: Called with each output that has too few draws to judge, which the report then lacks.
    static func judge(
        _ answer: CaseView?, against right: CaseView, suite: String, file: String, options: JudgingOptions,
        wantsPictures: Bool, onTooFewDraws: (UndrawnOutput) throws -> Void = { throw $0.error }
    ) throws -> CaseReport {
        let complaint = try answer.flatMap { try inputComplaint($0, right) }
        var outputs: [OutputReport] = []
        for named in right[.outputs] {
            var comparison = comparison(right, named, options, answer: answer)
            comparison.wantsPictures = wantsPictures
            if let complaint {
                outputs.append(comparison.unjudged(.malformed, complaint))
            } else if let why = answer?.unreadableOutputs[named.name] {
                outputs.append(comparison.unjudged(.malformed, why))
            } else {
                do { outputs.append(try comparison.report(answer?[.outputs, named.name])) } catch let error
                    as JudgingError
                {
                    guard case .tooFewDraws = error else { throw error }
                    try onTooFewDraws(UndrawnOutput(op: right.op, output: named.name, error: error))
                }
            }
        }
        var report = CaseReport(
            suite: suite, file: file, name: right.name, op: right.op, why: right.why, recipe: right.recipe,
            outputs: outputs)
        if wantsPictures && !report.conforms { report.mask = try VisibilityMask(right).flatMap(MaskPicture.init) }
        return report
    }

    /// What is wrong with the question that the candidate answered, if it shows it: other operation, other inputs.
    private static func inputComplaint(_ answer: CaseView, _ right: CaseView) throws -> String? {
        if !answer.op.isEmpty && answer.op != right.op {
            return "the case's op is '\(answer.op)', expected '\(right.op)'"
        }
        if let why = answer.unreadableInput { return why }
        for named in answer[.inputs] {
            guard let expected = right[.inputs, named.name] else { continue }
            if try !isSame(named.tensor, expected) {
                return "inputs/\(named.name) is not the golden file's: another question was answered"
            }
        }
        return nil
    }

    private static func isSame(_ a: any TensorSource, _ b: any TensorSource) throws -> Bool {
        guard a.type == b.type, a.shape == b.shape else { return false }
        for start in stride(from: 0, to: a.count, by: OutputComparison.slab) {
            let range = start..<min(start + OutputComparison.slab, a.count)
            let (x, y) = (try a.elements(range), try b.elements(range))
            if x.bytes != y.bytes && x.canonicalBytes != y.canonicalBytes { return false }
        }
        return true
    }
}
