import GoldenIO
import Goldens
import Platform

/// A case and what an implementation answered.
public struct Observation: Sendable {
    /// The case with the specified outputs.
    public let goldenCase: GoldenCase
    public let outputs: TensorGroup
    /// Of composite operations, if the implementation gives them.
    public let intermediates: TensorGroup

    public init(goldenCase: GoldenCase, outputs: TensorGroup, intermediates: TensorGroup = []) {
        self.goldenCase = goldenCase
        self.outputs = outputs
        self.intermediates = intermediates
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
}

/// What was found of one output of one operation.
public struct OutputDiagnosis: Sendable, Hashable {
    public let name: String
    /// Cases in which it differs from the specification, of those compared.
    public let wrongCases: Int
    public let cases: Int
    /// Every explanation that reproduces all bits in all cases, the likeliest first.
    public let exact: [Explanation]
    /// Where there is none: those that come closest, the closest first.
    public let closest: [Explanation]
    /// What the wrong elements have in common, in words.
    public let patterns: [String]
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

    public init(nanRule: NaNRule = .asClass, triesPairs: Bool = true) {
        self.nanRule = nanRule
        self.triesPairs = triesPairs
    }

    /// The diagnosis of one operation; nil if nothing that was observed is wrong.
    ///
    /// A set of deviations explains an output if it gives the observed bits of that output in every case, the right ones too. Cases whose answer has another type
    /// or shape are left out: the verdict says what is wrong with them.
    public func diagnose(_ observations: [Observation]) throws -> OperationDiagnosis? {
        guard let op = observations.first?.goldenCase.op else { return nil }
        let compared = observations.filter { !comparableNames($0).isEmpty }
        let wrong = compared.filter { !wrongNames($0).isEmpty }
        guard !wrong.isEmpty else { return nil }
        // Smallest first: most deviations are refuted by the first case.
        let ordered =
            wrong.sorted { size($0) < size($1) }
            + compared.filter { wrongNames($0).isEmpty }.sorted { size($0) < size($1) }
        var names: [String] = []
        for one in wrong { for name in wrongNames(one) where !names.contains(name) { names.append(name) } }

        let deviations = DeviationCatalog.deviations(for: op)
        var exact: [String: [Explanation]] = [:]
        var partial: [String: [Explanation]] = [:]
        var tried = 0
        func attempt(_ set: [Deviation], _ names: [String]) throws {
            tried += 1
            for (name, var explanation) in try explain(set, names, ordered, probes: 6) {
                if explanation.isExact {
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
        let outputs = names.map { name in
            let closest =
                exact[name] != nil
                ? []
                : (partial[name] ?? []).filter { $0.score > 0 }
                    .enumerated().sorted { ($1.element.score, $0.offset) < ($0.element.score, $1.offset) }
                    .map(\.element).prefix(closestLimit)
            return OutputDiagnosis(
                name: name, wrongCases: wrong.count { wrongNames($0).contains(name) },
                cases: compared.count { comparableNames($0).contains(name) },
                exact: (exact[name] ?? []).filter { $0.spoiltOutputs.isEmpty }
                    + (exact[name] ?? []).filter { !$0.spoiltOutputs.isEmpty },
                closest: Array(closest), patterns: WrongElements.patterns(of: name, in: wrong, nanRule))
        }
        return OperationDiagnosis(op: op, outputs: outputs, departure: departure(wrong), tried: tried)
    }

    /// How a set of deviations fares on some outputs. All cases are looked at only for outputs of which it explains `probes` cases without a fault.
    private func explain(_ set: [Deviation], _ names: [String], _ observations: [Observation], probes: Int) throws
        -> [String: Explanation]
    {
        var result = Dictionary(uniqueKeysWithValues: names.map { ($0, Explanation(set)) })
        for (place, one) in observations.enumerated() {
            let alive = names.filter { name in
                let explanation = result[name]!
                return place < probes && set.count == 1
                    || explanation.explained == explanation.wrong && explanation.spoilt == 0
            }
            if alive.isEmpty { break }
            let predicted = try predictedOutputs(one.goldenCase, set)
            for name in alive {
                guard let observed = one.outputs[name], let specified = one.goldenCase.outputs[name],
                    observed.type == specified.type, observed.shape == specified.shape
                else { continue }
                // A deviation that means nothing here leaves the case as specified.
                var guess = predicted?[name] ?? specified
                if guess.type != specified.type || guess.shape != specified.shape { guess = specified }
                result[name]!.add(observed, specified, guess, nanRule)
            }
        }
        return result
    }

    /// Outputs that are right in every case and would not be.
    private func spoiltOutputs(_ set: [Deviation], _ wrong: [String], _ observations: [Observation]) throws -> [String]
    {
        var right: [String] = []
        for one in observations {
            for name in comparableNames(one) where !wrong.contains(name) && !right.contains(name) { right.append(name) }
        }
        guard !right.isEmpty else { return [] }
        var spoilt: [String] = []
        for one in observations where spoilt.count < right.count {
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

    private func predictedOutputs(_ goldenCase: GoldenCase, _ set: [Deviation]) throws -> TensorGroup? {
        if let predictions, set.count == 1 { return try predictions.outputs(of: goldenCase, under: set[0]) }
        return try DeviationCatalog.outputs(of: goldenCase, under: set)
    }

    private func size(_ observation: Observation) -> Int {
        observation.goldenCase.inputs.tensors.reduce(0) { $0 + $1.tensor.count }
            + observation.goldenCase.outputs.tensors.reduce(0) { $0 + $1.tensor.count }
    }

    private func comparableNames(_ observation: Observation) -> [String] {
        observation.goldenCase.outputs.tensors.compactMap { named in
            guard let observed = observation.outputs[named.name] else { return nil }
            return observed.type == named.tensor.type && observed.shape == named.tensor.shape ? named.name : nil
        }
    }

    private func wrongNames(_ observation: Observation) -> [String] {
        comparableNames(observation).filter { name in
            let (observed, specified) = (observation.outputs[name]!, observation.goldenCase.outputs[name]!)
            return observed.bytes != specified.bytes
                && (0..<specified.count).contains { !nanRule.isEqual(observed, specified, $0) }
        }
    }

    /// The first of the intermediates, then of the outputs, that differs, in the smallest wrong case that has intermediates (or in the smallest).
    private func departure(_ wrong: [Observation]) -> Departure? {
        let ordered = wrong.sorted { size($0) < size($1) }
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
