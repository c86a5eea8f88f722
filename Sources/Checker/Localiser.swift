import BFloat16
import Cases
import ExactMath
import Goldens
import JSON
import ModelSpec
import Reference

/// One training step tensor by tensor: a case of training.step with its intermediates, from the engine, the reference or anybody else.
public struct StepTrace: Sendable {
    /// What people call it: a path.
    public let name: String
    public let goldenCase: GoldenCase
    /// Of the case's inputs.
    public let configuration: ModelConfiguration
    public let firstStep: Int
    /// The tensors of a step of the configuration.
    public let plan: StepPlan
    let state: TrainingState
    public let firstBatch: TrainingBatch

    /// - Throws: ``Goldens/OperationError`` if the case is no training.step or its inputs are not complete.
    public init(_ goldenCase: GoldenCase, name: String) throws {
        guard goldenCase.op == "training.step" else {
            throw OperationError(
                .unknownOperation, "a trace is a case of training.step, not of '\(goldenCase.op)'",
                caseName: goldenCase.name)
        }
        let training = TrainingCase(try CheckedCase(goldenCase))
        self.name = name
        self.goldenCase = goldenCase
        configuration = training.configuration
        plan = StepPlan(training.configuration)
        firstStep = training.firstStep
        state = TrainingState(
            weights: training.weights, firstMoments: training.firstMoments, secondMoments: training.secondMoments,
            residuals: training.residuals)
        firstBatch = training.batches[0]
    }

    /// The case of one step: what it began with, and every tensor that it produced.
    public static func goldenCase(
        name: String, why: String, _ configuration: ModelConfiguration, state: TrainingState, batch: TrainingBatch,
        step: Int,
        tensors: [NamedTensor], fingerprint: [UInt8]
    ) -> GoldenCase {
        let c = configuration
        let shape = [1, c.batch, c.sequenceLength]
        var inputs: TensorGroup = [NamedTensor("tokens", Tensor(batch.tokens, shape: shape))]
        switch batch.targets {
        case .tokens(let targets): inputs.append("targets", Tensor(targets, shape: shape))
        case .sparse(let ids, let weights):
            inputs.append("target_ids", Tensor(ids, shape: shape + [c.distillationK]))
            inputs.append("target_weights", Tensor(weights, shape: shape + [c.distillationK]))
        }
        inputs.append("position", Tensor(batch.positions, shape: shape))
        inputs.append("visibility_start", Tensor(batch.visibilityStart, shape: shape))
        inputs.append("visibility_limit", Tensor(batch.visibilityLimit, shape: shape))
        for (index, parameter) in c.parameters.enumerated() {
            inputs.append("weight.\(parameter.name)", Tensor(state.weights[index], shape: parameter.shape))
            inputs.append("m.\(parameter.name)", Tensor(state.firstMoments[index], shape: parameter.shape))
            inputs.append("v.\(parameter.name)", Tensor(state.secondMoments[index], shape: parameter.shape))
            if c.usesErrorFeedback {
                inputs.append(
                    "residual.\(parameter.name)", Tensor(state.residuals[index], shape: [c.ranks, parameter.count]))
            }
        }
        var recorder = StepRecorder(configuration: c)
        for named in tensors { recorder.record(named.name, named.tensor, keeps: true) }
        var recipe = c.recipe(withBits: true)
        recipe["first_step"] = .integer(Int64(step))
        recipe["probe"] = true
        let clauses = (try? OperationCatalog.operation(named: "training.step"))?.clauses ?? []
        var made = GoldenCase(
            name: name, op: "training.step", why: why, specClauses: clauses, recipe: recipe, inputs: inputs)
        made.outputs = TensorGroup(recorder.everyStep)
        made.outputs.append("fingerprint", Tensor(fingerprint, shape: [1, 32]))
        for named in recorder.outputs { made.outputs.append(named.name, named.tensor) }
        made.intermediates = TensorGroup(recorder.intermediates)
        return made
    }

    /// Tensors that it holds and that the step does not produce: whatever they are, nothing is compared with them.
    var unknown: [String] {
        var seen: Set<String> = []
        return (goldenCase.intermediates.names + goldenCase.outputs.names).filter {
            plan[$0] == nil && $0 != "fingerprint" && seen.insert($0).inserted
        }
    }

    /// A tensor of the first step by its name (T2); nil if the trace has not kept it.
    func tensor(_ name: String) -> Tensor? {
        if let tensor = goldenCase.intermediates[name] { return tensor }
        guard let tensor = goldenCase.outputs[name] else { return nil }
        guard plan[name]?.record == .everyStep, tensor.count > 1 else { return tensor }
        // [S]: the first step's.
        return try? Tensor(type: tensor.type, shape: [1], bytes: Array(tensor.bytes.prefix(tensor.type.byteWidth)))
    }
}

/// Walks one or two traces of a step to the operation that went another way.
public struct Localiser: Sendable {
    /// The step's tensors in execution order.
    let plan: StepPlan
    /// Elements that are recomputed of a tensor.
    public var samples = 64

    public init(_ plan: StepPlan) { self.plan = plan }

    /// Rules read a step's tensors by index, so none may have another shape than its operation makes.
    private func requireShapes(_ trace: StepTrace) throws(JudgingError) {
        for expected in plan.entries {
            guard let tensor = trace.tensor(expected.name) else { continue }
            guard tensor.type == expected.type, tensor.shape == expected.shape else {
                throw JudgingError.nothingToJudge(
                    "\(trace.name), case '\(trace.goldenCase.name)': \(expected.name) is \(tensor.type.rawValue) \(tensor.shape), expected \(expected.type.rawValue) \(expected.shape)"
                )
            }
        }
    }

    /// Whether the fingerprint that a trace states is another than its tensors have (T6); nil if it states none, or lacks tensors.
    private func hasOtherFingerprint(_ trace: StepTrace) -> Bool? {
        guard let stated = trace.goldenCase.outputs["fingerprint"], stated.type == .uint8, stated.bytes.count >= 32
        else {
            return nil
        }
        var chain = Fingerprint()
        for expected in plan.entries {
            guard let tensor = trace.tensor(expected.name) else { return nil }
            chain.append(expected.name, tensor)
        }
        return chain.digest != Array(stated.bytes.prefix(32))
    }

    /// The first tensor in which two traces differ.
    public struct Divergence: Sendable, Hashable {
        public let tensor: String
        /// Its place in the order of execution, from 1, and how many there are.
        public let place: Int
        public let of: Int
        public let elements: Int
        public let differing: Int
        public let index: [Int]
        public let first: ElementText
        public let second: ElementText
        /// Tensors before it that one of the traces does not have: the cause may lie there.
        public let unrecorded: [String]
        /// Of the differing elements that were recomputed from the agreed inputs: how many of each trace are the reference's. nil: could not be recomputed.
        public let recomputed: Int
        public let firstRight: Int
        public let secondRight: Int
        /// Why nothing was recomputed.
        public let note: String?
        /// Later tensors that differ.
        public let later: Int
    }

    /// What two traces have in common.
    public struct Comparison: Sendable, Hashable {
        /// Inputs of the step that differ: then the step is not where the runs parted.
        public let inputs: [String]
        /// nil: every tensor that both have agrees.
        public let divergence: Divergence?
        /// Tensors that both have, and tensors of the step.
        public let compared: Int
        public let tensors: Int
        /// Tensors of the step that one of the traces, or both, do not have.
        public let uncompared: [String]
        /// Tensors of the traces that the step does not have.
        public let unknown: [String]
        /// Traces whose fingerprint is not that of their own tensors.
        public let otherFingerprints: [String]

        /// They conform where every tensor of the step was compared, nothing else is in the traces, and nothing differs.
        public var judgement: Judgement {
            if divergence != nil || !inputs.isEmpty || !otherFingerprints.isEmpty { return .doesNotConform }
            return uncompared.isEmpty && unknown.isEmpty && compared > 0 ? .conforms : .notJudged
        }
    }

    /// What one trace has by itself.
    public struct Findings: Sendable, Hashable {
        public let faults: [Fault]
        /// Elements recomputed.
        public let recomputed: Int
        /// Tensors of the step that the trace lacks.
        public let missing: [String]
        /// Tensors that could not be recomputed, since one that they are made of is missing.
        public let unchecked: [String]
        /// Tensors of the trace that the step does not have.
        public let unknown: [String]
        /// Whether the trace states a fingerprint that its own tensors do not have.
        public let hasOtherFingerprint: Bool

        /// It conforms where elements of every tensor of the step were recomputed, nothing else is in the trace, and nothing is wrong.
        public var judgement: Judgement {
            if !faults.isEmpty || hasOtherFingerprint { return .doesNotConform }
            return missing.isEmpty && unchecked.isEmpty && unknown.isEmpty && recomputed > 0 ? .conforms : .notJudged
        }
    }

    /// A tensor that does not follow from what the trace itself has before it.
    public struct Fault: Sendable, Hashable {
        public let tensor: String
        public let place: Int
        public let of: Int
        /// Elements recomputed, and those that differ.
        public let recomputed: Int
        public let wrong: Int
        public let example: StepVerifier.Difference
    }

    /// Compares two traces of the same step.
    ///
    /// - Throws: ``JudgingError`` if the traces are of different configurations or steps, or a tensor has another type or shape than its
    ///   operation makes.
    public func compare(_ a: StepTrace, _ b: StepTrace) throws -> Comparison {
        guard a.firstStep == b.firstStep else {
            throw JudgingError.nothingToJudge(
                "\(a.name) and \(b.name) are traces of different steps, \(a.firstStep) and \(b.firstStep)")
        }
        guard a.configuration == b.configuration else {
            let (x, y) = (a.configuration.recipe(withBits: false), b.configuration.recipe(withBits: false))
            let keys = x.keys.sorted().filter { x[$0] != y[$0] }.map { key in
                "\(key) \((try? x[key]?.text()) ?? "unset") and \((try? y[key]?.text()) ?? "unset")"
            }
            throw JudgingError.nothingToJudge(
                "\(a.name) and \(b.name) are traces of different configurations: \(keys.joined(separator: "; "))")
        }
        for trace in [a, b] { try requireShapes(trace) }
        let inputs = a.goldenCase.inputs.tensors.filter { b.goldenCase.inputs[$0.name] != $0.tensor }.map(\.name)
        var verifier = StepVerifier(a.configuration, state: a.state, samples: 1, seed: 0)
        var cannot: String?
        do { try verifier.begin(a.firstStep, a.firstBatch) } catch { cannot = "\(error)" }
        var unrecorded: [String] = []
        var uncompared: [String] = []
        var divergence: Divergence?
        var compared = 0
        var later = 0
        for (place, name) in plan.entries.map(\.name).enumerated() {
            guard let x = a.tensor(name), let y = b.tensor(name) else {
                if divergence == nil { unrecorded.append(name) }
                uncompared.append(name)
                continue
            }
            compared += 1
            let different = (0..<x.count).filter { !NaNRule.asClass.isEqual(x, y, $0) }
            if divergence != nil {
                if !different.isEmpty { later += 1 }
                continue
            }
            if different.isEmpty {
                if cannot == nil {
                    do { try verifier.accept(name, StepTensor(x)) } catch { cannot = "\(error)" }
                }
                continue
            }
            let asked = Array(different.prefix(samples))
            var right = (0, 0)
            if cannot == nil && inputs.isEmpty {
                do {
                    var other = verifier
                    right.0 = asked.count - (try verifier.differences(name, try StepTensor(x, name), at: asked).count)
                    right.1 = asked.count - (try other.differences(name, try StepTensor(y, name), at: asked).count)
                } catch { cannot = "\(error)" }
            } else if cannot == nil {
                cannot = "the inputs differ"
            }
            divergence = Divergence(
                tensor: name, place: place + 1, of: plan.entries.count, elements: x.count, differing: different.count,
                index: Checker.place(of: different[0], in: x.shape), first: ElementText(x, different[0]),
                second: ElementText(y, different[0]), unrecorded: unrecorded,
                recomputed: cannot == nil ? asked.count : 0, firstRight: right.0, secondRight: right.1, note: cannot,
                later: 0)
        }
        var seen: Set<String> = []
        let unknown = (a.unknown + b.unknown).filter { seen.insert($0).inserted }
        return Comparison(
            inputs: inputs, divergence: divergence.map { $0.with(later: later) }, compared: compared,
            tensors: plan.entries.count, uncompared: uncompared, unknown: unknown,
            otherFingerprints: [a, b].filter { hasOtherFingerprint($0) == true }.map(\.name))
    }

    /// Every tensor of a trace that does not follow from the trace's own tensors before it: the operations that are wrong by themselves.
    ///
    /// - Parameter progress: is told how many tensors are done; what it throws ends the work.
    /// - Throws: ``StepVerifier/Unexpected`` if the trace lacks a tensor that another is made of,
    ///   ``JudgingError`` if a tensor has another type or shape than its operation makes.
    public func faults(_ trace: StepTrace, progress: (Int) throws -> Void = { _ in }) throws -> Findings {
        try requireShapes(trace)
        var verifier = StepVerifier(trace.configuration, state: trace.state, samples: 1, seed: 0)
        try verifier.begin(trace.firstStep, trace.firstBatch)
        var faults: [Fault] = []
        var missing: [String] = []
        var unchecked: [String] = []
        var recomputed = 0
        for (place, name) in plan.entries.map(\.name).enumerated() {
            try progress(place)
            guard let tensor = trace.tensor(name) else {
                missing.append(name)
                continue
            }
            // Spread over the tensor; the last element always.
            let count = tensor.count
            let stride = max(1, count / samples)
            let elements = count == 0 ? [] : Array(Swift.stride(from: 0, to: count, by: stride)) + [count - 1]
            do {
                let wrong = try verifier.differences(name, try StepTensor(tensor, name), at: elements)
                recomputed += elements.count
                if let example = wrong.first {
                    faults.append(
                        Fault(
                            tensor: name, place: place + 1, of: plan.entries.count, recomputed: elements.count,
                            wrong: wrong.count,
                            example: example))
                }
            } catch let error as StepVerifier.Unexpected {
                guard !missing.isEmpty else { throw error }
                unchecked.append(name)
            } catch {
                // The reference refuses what the trace holds: a limit that is NaN, say, which is a fault of its own.
                unchecked.append(name)
            }
        }
        return Findings(
            faults: faults, recomputed: recomputed, missing: missing, unchecked: unchecked,
            unknown: trace.unknown, hasOtherFingerprint: hasOtherFingerprint(trace) == true)
    }

}

extension Localiser.Divergence {
    fileprivate func with(later: Int) -> Self {
        Self(
            tensor: tensor, place: place, of: of, elements: elements, differing: differing, index: index, first: first,
            second: second, unrecorded: unrecorded, recomputed: recomputed, firstRight: firstRight,
            secondRight: secondRight, note: note, later: later)
    }
}

extension StepTensor {
    init(_ tensor: Tensor) throws { try self.init(tensor, "") }

    /// - Throws: ``JudgingError`` if no step has tensors of such a type.
    init(_ tensor: Tensor, _ name: String) throws {
        switch tensor.type {
        case .bf16: self.init(try tensor.bf16Bits().map(BFloat16.init(bitPattern:)), tensor.shape)
        case .fp32: self.init(try tensor.floats(), tensor.shape)
        case .int8: self.init(try tensor.integers(Int8.self), tensor.shape)
        default: throw JudgingError.nothingToJudge("\(name) is \(tensor.type.rawValue); a step has bf16, fp32 and int8")
        }
    }
}
