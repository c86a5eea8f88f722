import Cases
import Goldens
import Platform

/// A case and what an implementation answered.
public struct Observation: Sendable {
    /// The case with the specified outputs.
    public let goldenCase: GoldenCase
    public let outputs: TensorGroup
    /// Of composite operations, if the implementation gives them.
    public let intermediates: TensorGroup
    /// Outputs whose bits differ as the policy allows, with their verdicts; any other that differs is wrong.
    public let allowed: [String: Verdict]

    public init(
        goldenCase: GoldenCase, outputs: TensorGroup, intermediates: TensorGroup = [], allowed: [String: Verdict] = [:]
    ) {
        self.goldenCase = goldenCase
        self.outputs = outputs
        self.intermediates = intermediates
        self.allowed = allowed
    }

    /// What a judged case shows: outputs that could not be compared (missing, malformed, computed from other inputs) are left out.
    init(_ goldenCase: GoldenCase, outputs: TensorGroup, intermediates: TensorGroup = [], judged: CaseReport) {
        let compared = judged.outputs.filter { $0.verdict.conforms || $0.verdict == .outside }
        let names = Set(compared.map(\.name))
        self.init(
            goldenCase: goldenCase, outputs: TensorGroup(outputs.tensors.filter { names.contains($0.name) }),
            intermediates: intermediates,
            allowed: Dictionary(
                compared.filter { $0.verdict.conforms && $0.verdict != .exact }.map { ($0.name, $0.verdict) }
            ) { first, _ in first })
    }
}

/// How well some deviations explain one output over all cases of its operation.
public struct Explanation: Sendable, Hashable {
    /// One, or two that act together.
    public let deviations: [Deviation]
    /// Elements that differ from the specification.
    public fileprivate(set) var wrong = 0
    /// Of them, those whose observed bits the deviations give.
    public fileprivate(set) var explained = 0
    /// Elements as specified that the deviations would have made wrong.
    public fileprivate(set) var spoilt = 0
    /// Elements compared.
    public fileprivate(set) var elements = 0
    /// Other outputs, right in every case, that the deviations would have made wrong: then the explanation takes code of its own for this output.
    public fileprivate(set) var spoiltOutputs: [String] = []

    init(_ deviations: [Deviation]) { self.deviations = deviations }

    /// Whether every observed bit is reproduced.
    public var isExact: Bool { wrong > 0 && explained == wrong && spoilt == 0 }

    /// Of the wrong elements those explained, less those spoilt: 1 is perfect.
    public var score: Double { wrong == 0 ? 0 : Double(explained - spoilt) / Double(wrong) }

    /// Elements that it makes right, less those that it makes wrong.
    fileprivate var gain: Double { Double(explained - spoilt) }

    /// The names, joined by plus signs.
    public var name: String { deviations.map(\.name).joined(separator: " + ") }
}

/// What the names given to an output rest on.
public struct Evidence: Sendable, Hashable {
    /// Elements that differ, over all cases: each is one chance for a name to be refuted.
    public let differing: Int
    /// Sets of deviations that give every observed bit.
    public let fitting: Int
    /// Sets that were tried.
    public let tried: Int

    /// Of fewer differing elements a name may be a coincidence: some ten thousand sets are tried, and an element that is one unit away is hit by one in two.
    public static let least = 16

    public var isThin: Bool { differing < Self.least }
}

/// What was found of one output of one operation.
public struct OutputDiagnosis: Sendable, Hashable {
    public let name: String
    /// Cases in which it differs from the specification beyond what the policy allows, of those compared.
    public let wrongCases: Int
    /// Cases in which it differs and the policy allows it.
    public let allowedCases: Int
    public let cases: Int
    /// The verdicts on the allowed cases, each once.
    public let allowedVerdicts: [Verdict]
    /// Every explanation that reproduces all bits in all cases, the likeliest first.
    public let exact: [Explanation]
    /// Where there is none: those that come closest, the closest first. All are counted over all cases.
    public let closest: [Explanation]
    public let evidence: Evidence
    /// What the wrong elements have in common, in words.
    public let patterns: [String]

    /// False where every difference is one that the policy allows.
    public var isWrong: Bool { wrongCases > 0 }
    public var isNamed: Bool { !exact.isEmpty }
}

/// The first tensor of a composite operation that departs, in execution order.
public struct Departure: Sendable, Hashable {
    public let caseName: String
    /// "intermediates/norm.0" or "outputs/loss".
    public let tensor: String
    public let index: Int
    public let expected: ElementText
    public let got: ElementText
}

/// What was found of one operation.
public struct OperationDiagnosis: Sendable, Hashable {
    public let op: String
    /// Those of other bits in some case.
    public let outputs: [OutputDiagnosis]
    public let departure: Departure?
    /// Sets of deviations that were tried.
    public let tried: Int

    /// The deviations that explain every wrong output and leave the right ones right.
    public var commonExplanations: [[Deviation]] {
        guard let first = outputs.first else { return [] }
        return first.exact.map(\.deviations).filter { deviations in
            outputs.allSatisfy { $0.exact.contains { $0.deviations == deviations && $0.spoiltOutputs.isEmpty } }
        }
    }
}

/// Searches the known deviations for those that reproduce an implementation's bits.
public struct Diagnoser: Sendable {
    public var nanRule: NaNRule
    /// Whether two deviations at once are tried where one alone explains nothing.
    public var triesPairs: Bool
    /// How many of the closest are kept.
    public var closestLimit = 3
    /// What single deviations answer, kept where many diagnoses are made of the same cases.
    var predictions: PredictionCache?

    /// Of so many cases at least every single deviation is counted, so that those that come closest can be chosen.
    private static let probes = 6

    public init(nanRule: NaNRule = .asClass, triesPairs: Bool = true) {
        self.nanRule = nanRule
        self.triesPairs = triesPairs
    }

    /// The diagnosis of one operation; nil if nothing that was observed has other bits.
    ///
    /// A set of deviations explains an output if it gives the observed bits of that output in every case, the right ones too. Cases whose answer has another type
    /// or shape are left out: the verdict says what is wrong with them.
    ///
    /// - Throws: `Interrupted`.
    public func diagnose(_ observations: [Observation]) throws -> OperationDiagnosis? {
        guard let op = observations.first?.goldenCase.op else { return nil }
        let compared = observations.map { Compared($0, nanRule) }.filter { !$0.names.isEmpty }
        let differing = compared.filter { !$0.differing.isEmpty }
        guard !differing.isEmpty else { return nil }
        // Smallest first: most deviations are refuted by the first case.
        let ordered =
            differing.sorted { $0.size < $1.size } + compared.filter(\.differing.isEmpty).sorted { $0.size < $1.size }
        var names: [String] = []
        for one in differing { for name in one.differing where !names.contains(name) { names.append(name) } }

        let deviations = DeviationCatalog.deviations(for: op)
        var exact: [String: [Explanation]] = [:]
        var partial: [String: [Explanation]] = [:]
        var tried = 0
        func attempt(_ set: [Deviation], _ wanted: [String]) throws {
            tried += 1
            for (name, var explanation) in try explain(set, wanted, ordered) {
                if explanation.isExact {
                    // Outputs that another set explains are wrong too: what this one makes of them is no matter.
                    explanation.spoiltOutputs = try spoiltOutputs(set, names, ordered)
                    exact[name, default: []].append(explanation)
                }
                partial[name, default: []].append(explanation)
            }
        }
        for deviation in deviations { try attempt([deviation], names) }
        let unexplained = names.filter { exact[$0] == nil }
        if triesPairs && !unexplained.isEmpty {
            // Those that explain most by themselves first.
            var weight: [Deviation: Int] = [:]
            for name in unexplained {
                for explanation in partial[name] ?? [] {
                    weight[explanation.deviations[0], default: 0] += explanation.explained
                }
            }
            var pairs: [(set: [Deviation], weight: Int)] = []
            for (i, first) in deviations.enumerated() {
                for second in deviations[(i + 1)...] where second.axis != first.axis {
                    pairs.append(([first, second], weight[first, default: 0] + weight[second, default: 0]))
                }
            }
            pairs = pairs.enumerated().sorted { ($1.element.weight, $0.offset) < ($0.element.weight, $1.offset) }
                .map(\.element)
            for pair in pairs.prefix(DeviationCatalog.family(of: op)?.pairLimit ?? pairs.count) {
                try attempt(pair.set, unexplained)
            }
        }
        let nearest = try closest(to: names.filter { exact[$0] == nil }, partial, ordered)
        let outputs = names.map { name in
            let showing = differing.filter { $0.differing.contains(name) }
            let allowed = showing.compactMap { $0.observation.allowed[name] }
            let found = exact[name] ?? []
            return OutputDiagnosis(
                name: name, wrongCases: showing.count - allowed.count, allowedCases: allowed.count,
                cases: compared.count { $0.names.contains(name) },
                allowedVerdicts: Verdict.allCases.filter(allowed.contains),
                exact: found.filter(\.spoiltOutputs.isEmpty) + found.filter { !$0.spoiltOutputs.isEmpty },
                closest: nearest[name] ?? [],
                evidence: Evidence(
                    differing: showing.reduce(0) { $0 + $1.differences(in: name, nanRule) }, fitting: found.count,
                    tried: tried),
                patterns: WrongElements.patterns(of: name, in: differing.map(\.observation), nanRule))
        }
        return OperationDiagnosis(op: op, outputs: outputs, departure: departure(differing), tried: tried)
    }

    /// An observation and what in it can be compared.
    private struct Compared {
        let observation: Observation
        var goldenCase: GoldenCase { observation.goldenCase }
        /// Outputs of the specified type and shape.
        let names: [String]
        /// Of them, those whose bits differ.
        let differing: [String]
        /// Elements of inputs and outputs.
        let size: Int

        init(_ observation: Observation, _ rule: NaNRule) {
            self.observation = observation
            let goldenCase = observation.goldenCase
            let tensors = goldenCase.outputs.tensors.filter { named in
                observation.outputs[named.name].map {
                    $0.type == named.tensor.type && $0.shape == named.tensor.shape
                } ?? false
            }
            names = tensors.map(\.name)
            differing = tensors.filter { named in
                guard let observed = observation.outputs[named.name], observed.bytes != named.tensor.bytes else {
                    return false
                }
                return (0..<observed.count).contains { !rule.isEqual(observed, named.tensor, $0) }
            }.map(\.name)
            size =
                goldenCase.inputs.tensors.reduce(0) { $0 + $1.tensor.count }
                + goldenCase.outputs.tensors.reduce(0) { $0 + $1.tensor.count }
        }

        /// What was observed and what is specified; nil where they cannot be compared.
        func pair(_ name: String) -> (observed: Tensor, specified: Tensor)? {
            guard names.contains(name), let observed = observation.outputs[name],
                let specified = goldenCase.outputs[name]
            else { return nil }
            return (observed, specified)
        }

        func differences(in name: String, _ rule: NaNRule) -> Int {
            guard let (observed, specified) = pair(name) else { return 0 }
            return (0..<specified.count).count { !rule.isEqual(observed, specified, $0) }
        }
    }

    /// How a set of deviations fares on some outputs. Unless all cases are asked for, it is given up at an output's first fault, a single one after ``probes`` cases.
    private func explain(_ set: [Deviation], _ names: [String], _ cases: [Compared], inAll: Bool = false) throws
        -> [String: Explanation]
    {
        var result = Dictionary(uniqueKeysWithValues: names.map { ($0, Explanation(set)) })
        for (place, one) in cases.enumerated() {
            let alive = names.filter { name in
                guard let explanation = result[name] else { return false }
                return inAll || place < Self.probes && set.count == 1
                    || explanation.explained == explanation.wrong && explanation.spoilt == 0
            }
            if alive.isEmpty { break }
            let predicted = try predictedOutputs(one.goldenCase, set)
            for name in alive {
                guard let (observed, specified) = one.pair(name) else { continue }
                // A deviation that means nothing here leaves the case as specified.
                var guess = predicted?[name] ?? specified
                if guess.type != specified.type || guess.shape != specified.shape { guess = specified }
                result[name]?.add(observed, specified, guess, nanRule)
            }
        }
        return result
    }

    /// Those that come closest to each output that nothing explains, each counted over all cases: sets that were given up at different cases cannot be
    /// compared. The leaders by either count are tried.
    private func closest(to names: [String], _ partial: [String: [Explanation]], _ cases: [Compared]) throws
        -> [String: [Explanation]]
    {
        guard closestLimit > 0 else { return [:] }
        var sets: [[Deviation]] = []
        var wanted: [[Deviation]: [String]] = [:]
        for name in names {
            for value in [\Explanation.score, \.gain] {
                let leaders = (partial[name] ?? []).filter { $0.explained > 0 }.enumerated()
                    .sorted { ($1.element[keyPath: value], $0.offset) < ($0.element[keyPath: value], $1.offset) }
                for (_, leader) in leaders.prefix(2 * closestLimit) {
                    let set = leader.deviations
                    if wanted[set] == nil { sets.append(set) }
                    if wanted[set]?.contains(name) != true { wanted[set, default: []].append(name) }
                }
            }
        }
        var counted: [String: [Explanation]] = [:]
        for set in sets {
            for (name, explanation) in try explain(set, wanted[set] ?? [], cases, inAll: true)
            where explanation.score > 0 {
                counted[name, default: []].append(explanation)
            }
        }
        return counted.mapValues { explanations in
            explanations.enumerated()
                .sorted { ($1.element.score, $0.offset) < ($0.element.score, $1.offset) }
                .map(\.element).prefix(closestLimit).map { $0 }
        }
    }

    /// Outputs that are right in every case and would not be.
    private func spoiltOutputs(_ set: [Deviation], _ wrong: [String], _ cases: [Compared]) throws -> [String] {
        var right: [String] = []
        for one in cases {
            for name in one.names where !wrong.contains(name) && !right.contains(name) { right.append(name) }
        }
        guard !right.isEmpty else { return [] }
        var spoilt: [String] = []
        for one in cases where spoilt.count < right.count {
            guard let predicted = try predictedOutputs(one.goldenCase, set) else { continue }
            for name in right where !spoilt.contains(name) {
                guard let guess = predicted[name], let specified = one.goldenCase.outputs[name],
                    guess.bytes != specified.bytes,
                    guess.type == specified.type, guess.shape == specified.shape
                else { continue }
                if (0..<specified.count).contains(where: { !nanRule.isEqual(guess, specified, $0) }) {
                    spoilt.append(name)
                }
            }
        }
        return spoilt
    }

    /// - Throws: `Interrupted`: every step of the search comes by here.
    private func predictedOutputs(_ goldenCase: GoldenCase, _ set: [Deviation]) throws -> TensorGroup? {
        try Interruption.check()
        if let predictions, set.count == 1 { return try predictions.outputs(of: goldenCase, under: set[0]) }
        return try DeviationCatalog.outputs(of: goldenCase, under: set)
    }

    /// The first of the intermediates, then of the outputs, that differs, in the smallest wrong case that has intermediates (or in the smallest).
    private func departure(_ differing: [Compared]) -> Departure? {
        let ordered = differing.sorted { $0.size < $1.size }.map(\.observation)
        guard let one = ordered.first(where: { !$0.intermediates.isEmpty }) ?? ordered.first else { return nil }
        let right = one.goldenCase
        guard !right.intermediates.isEmpty || right.outputs.tensors.count > 1 else { return nil }
        for (group, specified, observed) in [
            ("intermediates", right.intermediates, one.intermediates), ("outputs", right.outputs, one.outputs),
        ] {
            for named in specified.tensors {
                guard let got = observed[named.name], got.type == named.tensor.type, got.shape == named.tensor.shape,
                    got.bytes != named.tensor.bytes,
                    let index = (0..<got.count).first(where: { !nanRule.isEqual(got, named.tensor, $0) })
                else { continue }
                return Departure(
                    caseName: right.name, tensor: "\(group)/\(named.name)", index: index,
                    expected: ElementText(named.tensor, index), got: ElementText(got, index))
            }
        }
        return nil
    }
}

extension Explanation {
    fileprivate mutating func add(_ observed: Tensor, _ specified: Tensor, _ guess: Tensor, _ rule: NaNRule) {
        elements += specified.count
        if observed.bytes == specified.bytes && guess.bytes == specified.bytes { return }
        for index in 0..<specified.count {
            let isRight = rule.isEqual(observed, specified, index)
            let isGuessed = rule.isEqual(observed, guess, index)
            if !isRight {
                wrong += 1
                if isGuessed { explained += 1 }
            } else if !isGuessed {
                spoilt += 1
            }
        }
    }
}

extension NaNRule {
    /// Whether two tensors of one type agree in an element.
    package func isEqual(_ a: Tensor, _ b: Tensor, _ index: Int) -> Bool {
        let (x, y) = (a.bits(at: index), b.bits(at: index))
        if x == y { return true }
        guard self == .asClass, let fields = FloatFields(a.type) else { return false }
        return fields.isNaN(x) && fields.isNaN(y)
    }
}

/// Remembers what single deviations answer, for the operations asked about last.
final class PredictionCache: Sendable {
    private struct Key: Hashable {
        let deviation: String
        let goldenCase: String
    }
    private struct Answer {
        let outputs: TensorGroup?
    }
    private let answers = Synchronized<[(op: String, [Key: Answer])]>([])
    private let limit = 3

    func outputs(of goldenCase: GoldenCase, under deviation: Deviation) throws -> TensorGroup? {
        let key = Key(deviation: deviation.name, goldenCase: goldenCase.name)
        let known = answers.get.first { $0.op == goldenCase.op }?.1[key]
        if let known { return known.outputs }
        // Two threads may compute the same answer; it is the same.
        let outputs = try DeviationCatalog.outputs(of: goldenCase, under: [deviation])
        answers.change { answers in
            if let place = answers.firstIndex(where: { $0.op == goldenCase.op }) {
                answers[place].1[key] = Answer(outputs: outputs)
            } else {
                answers.append((goldenCase.op, [key: Answer(outputs: outputs)]))
                if answers.count > limit { answers.removeFirst() }
            }
        }
        return outputs
    }
}
