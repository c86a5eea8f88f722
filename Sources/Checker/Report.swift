import Cases
import JSON
import Platform

/// One element that differs, with what a person needs to see why.
public struct MismatchDetail: Sendable, Hashable {
    /// In C order.
    public let index: Int
    /// One number a dimension.
    public let position: [Int]
    /// Hexadecimal bits, decimal value, sign, exponent and significand of what was expected and of what was got.
    public let expected: ElementText
    public let got: ElementText
    /// Representable values apart; nil where one is NaN, and for integers.
    public let ulps: UInt64?
    /// |got - truth| over the tolerance of Q3; nil where the case has no bounds.
    public let shareOfBound: Double?
    /// The inputs that made it, as text: ("a", "0x3F80 = 1").
    public let inputs: [InputText]
}

/// An element as people read it.
public struct ElementText: Sendable, Hashable {
    public let bits: String
    public let decimal: String
    /// For floating-point formats: "+ 2^1 x 1.0110011".
    public let fields: String?

    init(_ tensor: Tensor, _ index: Int) {
        bits = tensor.bitsText(at: index)
        decimal = tensor.valueText(at: index)
        fields = FloatFields(tensor.type)?.text(tensor.bits(at: index))
    }
}

/// An input beside a mismatch.
public struct InputText: Sendable, Hashable {
    public let name: String
    public let text: String
}

/// How far apart the elements of a floating-point output are: counts by distance in representable values. Empty for integers.
public struct UlpHistogram: Sendable, Hashable {
    /// Upper ends of the buckets: 0, 1, 2, 4, 8, ..., 2^31; the last bucket holds all that is more.
    public private(set) var counts = [Int](repeating: 0, count: 34)
    /// NaN against a number.
    public private(set) var incomparable = 0

    public init() {}

    mutating func add(_ ulps: UInt64?) {
        guard let ulps else {
            incomparable += 1
            return
        }
        counts[Self.bucket(ulps)] += 1
    }

    mutating func addEqual(_ count: Int) { counts[0] += count }

    static func bucket(_ ulps: UInt64) -> Int {
        if ulps <= 1 { return Int(ulps) }
        return min(33, 65 - (ulps - 1).leadingZeroBitCount)
    }

    /// The label of a bucket: "0", "1", "2", "3-4", "5-8", ...
    public static func label(_ bucket: Int) -> String {
        if bucket <= 2 { return "\(bucket)" }
        if bucket == 33 { return "more" }
        return "\((1 << (bucket - 2)) + 1)-\(1 << (bucket - 1))"
    }
}

/// The statistics of the errors under the policy `bound`, each error divided by its tolerance.
public struct ErrorStatistics: Sendable, Hashable {
    /// Elements with finite truth and a bound above zero.
    public let count: Int
    public let largest: Double
    public let mean: Double
    public let variance: Double
    /// What |mean| may be for this count.
    public let meanLimit: Double
    /// The mean of the errors away from zero: truncation makes it negative whatever the signs of the results.
    public let outwardMean: Double
    /// What |outwardMean| may be.
    public let outwardLimit: Double
    public let varianceLimit: Double

    /// Of fewer elements there are no statistics.
    public static let leastCount = 64
    /// A mean is suspect beyond so many standard errors: a false alarm in 2e-9 of outputs for independent errors of many elements.
    public static let standardErrors = 6.0
    /// ... and beyond this share of the tolerance, so that what is not worth naming is not named.
    public static let leastMean = 0.02
    /// A variance is suspect beyond that of errors spread evenly over the whole tolerance, 1/3, by ``standardErrors`` of its own, sqrt(4 / (45 n)).
    public static func varianceLimit(_ count: Int) -> Double {
        1 / 3.0 + standardErrors * (4 / (45 * Double(count))).squareRoot()
    }

    /// Why errors that are each inside are not those of another order of summation; nil if nothing speaks against it.
    var complaint: String? {
        if mean.magnitude > meanLimit {
            return "biased: the mean error is \(mean.short) of the bound, at most \(meanLimit.short) is allowed"
        }
        if outwardMean.magnitude > outwardLimit {
            let direction = outwardMean < 0 ? "toward" : "away from"
            return
                "biased \(direction) zero: the mean error away from zero is \(outwardMean.short) of the bound, at most \(outwardLimit.short) is allowed"
        }
        if variance > varianceLimit {
            return
                "scattered: the variance of the errors is \(variance.short), at most \(varianceLimit.short) is allowed"
        }
        return nil
    }
}

/// What was found of one output of one case.
public struct OutputReport: Sendable, Hashable {
    public let name: String
    public var verdict: Verdict
    public let policy: Policy
    public let elements: Int
    /// Elements whose bits differ.
    public let mismatches: Int
    /// Elements that the policy does not allow.
    public let failures: Int
    /// Why it is missing, malformed or outside, where counts do not say it.
    public let note: String?
    public let histogram: UlpHistogram
    public let statistics: ErrorStatistics?
    public let first: MismatchDetail?
    public let worst: MismatchDetail?
    public let last: MismatchDetail?
    /// Of an output that differs, if they were asked for.
    public internal(set) var pictures: ErrorPictures?
    /// Whether a tensor of zeros or of NaNs would have passed where it is not the right answer.
    public let isVacuous: Bool
}

/// What was found of one case.
public struct CaseReport: Sendable, Hashable {
    public let suite: String
    public let file: String
    public let name: String
    public let op: String
    public let why: String
    public let recipe: [String: JSONValue]
    public internal(set) var outputs: [OutputReport]
    /// The visibility mask of a case that does not conform, if pictures were asked for and it has one.
    public var mask: MaskPicture?

    public init(
        suite: String, file: String, name: String, op: String, why: String, recipe: [String: JSONValue],
        outputs: [OutputReport], mask: MaskPicture? = nil
    ) {
        self.suite = suite
        self.file = file
        self.name = name
        self.op = op
        self.why = why
        self.recipe = recipe
        self.outputs = outputs
        self.mask = mask
    }

    public var conforms: Bool { outputs.allSatisfy(\.verdict.conforms) }
}

/// The outcome of judging an implementation, independent of how it is shown.
public struct Report: Sendable, Hashable {
    /// What was judged: a path or a command.
    public let subject: String
    public private(set) var cases: [CaseReport] = []
    /// The cases that the candidate does not have; they count neither for nor against it.
    public private(set) var skipped: [SkippedCase] = []
    /// What differs beside the bits of outputs: a case that only one of two files has. Each makes the whole not conform.
    public private(set) var differences: [String] = []
    /// What the candidate has beside what was judged, and what was not compared.
    public private(set) var notes: [String] = []
    /// Outputs that were not judged, for want of draws.
    public private(set) var undrawn: [UndrawnOutput] = []

    public init(subject: String) { self.subject = subject }

    /// Adds a case; pictures of outputs that conform are dropped. A case of which nothing was judged, for want of draws, does not count.
    public mutating func append(_ report: CaseReport) {
        if report.outputs.isEmpty, undrawn.contains(where: { $0.caseName == report.name }) { return }
        var report = report
        for index in report.outputs.indices where report.outputs[index].verdict.conforms {
            report.outputs[index].pictures = nil
        }
        cases.append(report)
    }
    public mutating func append(difference: String) { differences.append(difference) }
    public mutating func append(note: String) { notes.append(note) }
    mutating func append(undrawn: UndrawnOutput) { self.undrawn.append(undrawn) }
    public mutating func append(skipped: SkippedCase) { self.skipped.append(skipped) }

    /// Adds a note that says which outputs had too few draws, and how many cases of them had enough.
    ///
    /// - Throws: ``JudgingError/tooFewDraws(caseName:output:draws:needed:)`` where no case of an operation had enough for one of its outputs: nothing says
    ///   whether that is right.
    public mutating func noteUndrawn() throws(JudgingError) {
        var counts: [String: Int] = [:]
        var order: [String] = []
        for one in undrawn {
            let name = "\(one.op)/\(one.output)"
            let isJudged = cases.contains { report in
                report.op == one.op
                    && report.outputs.contains {
                        $0.name == one.output && $0.policy == .distribution && $0.mismatches > 0
                    }
            }
            guard isJudged else { throw one.error }
            if counts[name] == nil { order.append(name) }
            counts[name, default: 0] += 1
        }
        if order.isEmpty { return }
        let list = order.map { "\($0) in \(counted(counts[$0] ?? 0, "case"))" }
        append(
            note:
                "too few draws for the policy distribution, not judged there: \(list.joined(separator: ", ")); other cases of each had enough"
        )
    }

    /// Whether the next case is to be judged with pictures.
    public func needsPictures(_ options: JudgingOptions) -> Bool { pictureCount < options.pictures }

    /// How many outputs that do not conform have pictures.
    private var pictureCount: Int {
        cases.reduce(0) { $0 + $1.outputs.count { $0.pictures != nil && !$0.verdict.conforms } }
    }

    /// What all of it comes to. What could not be judged (a crash, a hang, an answer given up) outweighs what does not conform; where no output
    /// was judged and nothing differs, nothing conforms.
    public var judgement: Judgement {
        if count(.failed) > 0 { return .notJudged }
        if !differences.isEmpty || !cases.allSatisfy(\.conforms) { return .doesNotConform }
        return cases.contains { !$0.outputs.isEmpty } ? .conforms : .notJudged
    }

    /// Whether anything was judged and all of it conforms.
    public var conforms: Bool { judgement == .conforms }

    /// Whether everything that was asked could be judged.
    public var isJudged: Bool { judgement != .notJudged }

    public func count(_ verdict: Verdict) -> Int {
        cases.reduce(0) { $0 + $1.outputs.count { $0.verdict == verdict } }
    }

    /// - Throws: ``JudgingError/vacuous(_:)`` if some output was judged by a tolerance and every such output would have let zeros or NaNs pass.
    public func refuseVacuous() throws(JudgingError) {
        let tolerant = cases.flatMap(\.outputs).filter { $0.policy != .exact && $0.elements > 0 }
        if let first = tolerant.first, tolerant.allSatisfy(\.isVacuous) { throw .vacuous(first.policy) }
    }
}

/// An output that was not judged, for want of draws.
public struct UndrawnOutput: Sendable, Hashable {
    public let op: String
    public let output: String
    /// ``JudgingError/tooFewDraws(caseName:output:draws:needed:)``
    public let error: JudgingError

    var caseName: String? {
        if case .tooFewDraws(let name, _, _, _) = error { return name }
        return nil
    }
}

extension Report {
    /// Outputs that do not conform and of which a report says the same: one with bits of its own, or all that were not answered for one reason.
    struct Failure {
        let verdict: Verdict
        /// nil where counts say it.
        let note: String?
        var members: [(one: CaseReport, output: OutputReport)]
    }

    /// Everything that does not conform, what was not answered first: it has one cause more often than many.
    var failures: [Failure] {
        var groups: [Failure] = []
        var alone: [Failure] = []
        var indices: [String: Int] = [:]
        for one in cases {
            for output in one.outputs where !output.verdict.conforms {
                guard output.mismatches == 0, let note = output.note else {
                    alone.append(Failure(verdict: output.verdict, note: output.note, members: [(one, output)]))
                    continue
                }
                let reason = "\(output.verdict.rawValue)\t\(note)"
                if let index = indices[reason] {
                    groups[index].members.append((one, output))
                } else {
                    indices[reason] = groups.count
                    groups.append(Failure(verdict: output.verdict, note: note, members: [(one, output)]))
                }
            }
        }
        return groups + alone
    }
}

extension Report.Failure {
    /// "24 outputs in 12 cases of 3 files: dot.gemm, sum.lane16".
    var extent: String {
        let cases = Set(members.map { "\($0.one.file)\t\($0.one.name)" }).count
        let files = Set(members.map(\.one.file)).count
        var seen: Set<String> = []
        let operations = members.map(\.one.op).filter { seen.insert($0).inserted }
        return
            "\(counted(members.count, "output")) in \(counted(cases, "case")) of \(counted(files, "file")): \(listed(operations))"
    }

    /// "bf16: add-grid: outputs/r".
    var first: String {
        guard let (one, output) = members.first else { return "" }
        return "\(one.suite): \(one.name): outputs/\(output.name)"
    }
}

/// Why something could not be judged.
public enum JudgingError: Error, Hashable, Sendable, CustomStringConvertible {
    case nothingToJudge(String)
    case vacuous(Policy)
    /// An output that is to be judged by its distribution has not enough draws for the stated power.
    case tooFewDraws(caseName: String, output: String, draws: Int, needed: Int)
    case plugin(command: String, file: String, String)
    case goldens(String)

    public var description: String {
        switch self {
        case .nothingToJudge(let why): "nothing was judged: \(why)"
        case .vacuous(let policy):
            "the policy \(policy) is vacuous here: a tensor of zeros, or of NaNs, would pass every output that it judges"
        case .tooFewDraws(let caseName, let output, let draws, let needed):
            "case '\(caseName)': outputs/\(output) has \(counted(draws, "draw")) to judge, \(needed) are needed for the stated power of the policy distribution; choose larger cases with --case, or judge it by exact"
        case .plugin(let command, let file, let what): "\(file): the command '\(command)' \(what)"
        case .goldens(let what): what
        }
    }
}
