import Cases
import GoldenIO
import Goldens
import JSON
import ModelSpec
import Platform

/// What a program executed, in order: operations with their inputs and outputs, whatever recorded them.
///
/// In a file a trace is a golden file whose cases are the entries, in the order of creation. `op` is any name; an entry whose `op` and inputs
/// are those of the table of operations can be judged, any other one compared.
public struct Trace: Sendable {
    /// For messages: a path.
    public let name: String
    /// The entries' names in order.
    public let entryNames: [String]
    /// Whether the entries stand in the order of execution; in a file that does not track the order of creation they stand by name.
    public let isOrdered: Bool
    private let entry: @Sendable (String) throws -> GoldenCase

    /// A trace in memory.
    ///
    /// - Parameter entries: in the order of execution; of several with one name the first counts.
    public init(name: String, entries: [GoldenCase]) {
        self.name = name
        isOrdered = true
        var seen: Set<String> = []
        entryNames = entries.map(\.name).filter { seen.insert($0).inserted }
        let byName = Dictionary(entries.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        entry = { name in
            guard let one = byName[name] else { throw JudgingError.nothingToJudge("no entry '\(name)'") }
            return one
        }
    }

    /// A trace in a file; an entry is read when it is looked at.
    ///
    /// - Parameter selection: the entries to look at.
    /// - Throws: ``/Cases/GoldenIOError``; ``JudgingError`` if the file has no such entry.
    public init(reading file: GoldenFile, _ selection: CaseSelection = CaseSelection()) throws {
        name = file.path
        entryNames = try selection.names(in: file)
        isOrdered = file.tracksOrder || entryNames.count < 2
        guard !entryNames.isEmpty else { throw JudgingError.nothingToJudge("\(file.path) has no entry") }
        entry = { try file.readCase($0, groups: [.inputs, .outputs]) }
    }

    /// A step's own trace: an entry for every tensor that the step's plan names and the trace holds, with the plan's inputs among its own.
    public init(_ step: StepTrace) {
        let entries = step.plan.entries.compactMap { planned -> GoldenCase? in
            guard let tensor = step.tensor(planned.name) else { return nil }
            var inputs = TensorGroup()
            for case .tensor(let source) in planned.inputs where inputs[source] == nil {
                if let tensor = step.tensor(source) { inputs.append(source, tensor) }
            }
            return GoldenCase(
                name: planned.name, op: "\(Self.stepPrefix)\(planned.operation.rawValue)", inputs: inputs,
                outputs: [NamedTensor("value", tensor)])
        }
        self.init(name: step.name, entries: entries)
    }

    /// Begins the `op` of an entry that a step's plan made.
    static let stepPrefix = "step: "

    /// An entry by its name.
    public func entry(named name: String) throws -> GoldenCase { try entry(name) }
}

/// Walks one or two traces.
public struct TraceWalk: Sendable {
    /// A place where two traces differ.
    public struct Difference: Sendable, Hashable {
        public let entry: String
        public let op: String
        /// Its place in the first trace, from 1.
        public let place: Int
        /// `outputs/y`, or what the entries differ in beside their tensors: `op`, `recipe`.
        public let what: String
        public let elements: Int
        public let differing: Int
        public let index: [Int]
        public let first: String
        public let second: String
        /// Inputs of the entry that differ: then the cause lies before it.
        public let inputs: [String]
        /// Whether both traces recorded the same inputs, one at least: if none differs, the difference arises here.
        public var hasInputs = false
        /// Entries before it that only one of the traces has: the cause may lie there.
        public fileprivate(set) var unrecorded: [String] = []
    }

    /// An entry that is not what the reference makes of its recorded inputs.
    public struct Fault: Sendable, Hashable {
        public let trace: String
        public let entry: String
        public let op: String
        /// Its place in the trace, from 1.
        public let place: Int
        /// The outputs that do not conform, each with the verdict.
        public let outputs: [String]
    }

    /// An entry that names an operation of the table but is not a valid case of it.
    public struct Unjudged: Sendable, Hashable {
        public let trace: String
        public let entry: String
        public let why: String
    }

    /// What a walk found.
    public struct Findings: Sendable, Hashable {
        public var difference: Difference?
        /// Entries after the first difference that differ too.
        public var later = 0
        /// Entries that both traces have.
        public var compared = 0
        public var onlyInFirst: [String] = []
        public var onlyInSecond: [String] = []
        /// Tensors of a common entry that only one of the traces has.
        public var unmatched: [String] = []
        /// Entries of either trace without a tensor: nothing of them was compared.
        public var bare: [String] = []
        /// Traces whose file does not track the order of creation: their entries were taken by name.
        public var unordered: [String] = []
        /// The first entry that the second trace has earlier than the first one; nil if both have one order.
        public var outOfOrder: String?
        /// Entries that the reference was asked about, over both traces.
        public var judged = 0
        /// Entries of operations that the reference does not know, over both traces.
        public var foreign = 0
        public var faults: [Fault] = []
        public var unjudged: [Unjudged] = []

        /// They conform where something was compared or judged, all of it agrees, and nothing was left out.
        public var judgement: Judgement {
            if difference != nil || !faults.isEmpty || outOfOrder != nil { return .doesNotConform }
            let isWhole =
                onlyInFirst.isEmpty && onlyInSecond.isEmpty && unmatched.isEmpty && unjudged.isEmpty && bare.isEmpty
            // Beside another trace, what the reference does not know is compared at least.
            return isWhole && compared + judged > 0 && (compared > 0 || foreign == 0) ? .conforms : .notJudged
        }
    }

    public var options: JudgingOptions

    public init(options: JudgingOptions = JudgingOptions()) { self.options = options }

    /// Judges every entry of a trace that is a case of a known operation.
    ///
    /// - Parameter progress: is told how many entries are done; what it throws ends the walk.
    public func faults(_ trace: Trace, progress: (Int) throws -> Void = { _ in }) throws -> Findings {
        var findings = Findings()
        findings.unordered = trace.isOrdered ? [] : [trace.name]
        for (place, name) in trace.entryNames.enumerated() {
            try progress(place)
            let one = try trace.entry(named: name)
            findings.note(one)
            findings.count(verdict(one), of: one, place + 1, trace)
        }
        return findings
    }

    /// Compares two traces entry by entry, in the first one's order, and judges the entries of both.
    ///
    /// - Parameter progress: is told how many entries are done; what it throws ends the walk.
    public func compare(_ a: Trace, _ b: Trace, progress: (Int) throws -> Void = { _ in }) throws -> Findings {
        var findings = Findings()
        findings.unordered = [a, b].filter { !$0.isOrdered }.map(\.name)
        let places = Dictionary(b.entryNames.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        let known = Set(a.entryNames)
        findings.onlyInSecond = b.entryNames.filter { !known.contains($0) }
        var latest = -1
        for (place, name) in a.entryNames.enumerated() {
            try progress(place)
            let x = try a.entry(named: name)
            findings.note(x)
            let verdict = verdict(x)
            findings.count(verdict, of: x, place + 1, a)
            guard let other = places[name] else {
                findings.onlyInFirst.append(name)
                continue
            }
            if other < latest, findings.outOfOrder == nil { findings.outOfOrder = name }
            latest = max(latest, other)
            // Its own spelling: names that differ only in how Unicode composes them are one.
            let y = try b.entry(named: b.entryNames[other])
            findings.note(y)
            findings.count(Self.isSame(x, y) ? verdict : self.verdict(y), of: y, other + 1, b)
            if Self.hasNothing(x) && Self.hasNothing(y) { continue }
            findings.compared += 1
            guard var difference = Self.difference(x, y, place: place + 1, &findings.unmatched) else { continue }
            if findings.difference == nil {
                difference.unrecorded =
                    findings.onlyInFirst + findings.onlyInSecond.filter { places[$0].map { $0 < other } ?? false }
                findings.difference = difference
            } else {
                findings.later += 1
            }
        }
        for name in findings.onlyInSecond {
            let one = try b.entry(named: name)
            findings.note(one)
            findings.count(verdict(one), of: one, (places[name] ?? 0) + 1, b)
        }
        return findings
    }

    // MARK: Judging

    /// What the reference says of an entry.
    fileprivate enum Verdict {
        /// Of an operation that it does not know.
        case foreign
        /// Why the entry, which names an operation of the table, could not be judged.
        case unjudged(String)
        /// The outputs that do not conform, each with its verdict.
        case judged([String])
    }

    private func verdict(_ one: GoldenCase) -> Verdict {
        guard OperationSignature.named(one.op) != nil else { return .foreign }
        guard !one.outputs.isEmpty else { return .unjudged("no output is recorded") }
        var right: GoldenCase
        do { right = try OperationCatalog.evaluate(one) } catch { return .unjudged(error.message) }
        // An entry records what its program kept: the reference's other outputs are not asked for.
        right.outputs = TensorGroup(right.outputs.tensors.filter { one.outputs[$0.name] != nil })
        let report: CaseReport
        do { report = try Judge.judge(drawn: one, against: right, suite: "", file: "", options: options) } catch {
            return .unjudged("\(error)")
        }
        let extra = one.outputs.names.filter { right.outputs[$0] == nil }.map {
            "outputs/\($0): \(one.op) has no such output"
        }
        let wrong = report.outputs.filter { !$0.verdict.conforms }.map { output in
            let share =
                output.verdict == .outside ? ", \(output.failures) of \(counted(output.elements, "element"))" : ""
            return "outputs/\(output.name): \(output.verdict.rawValue)\(share)\(output.note.map { ", \($0)" } ?? "")"
        }
        return .judged(extra + wrong)
    }

    fileprivate static func hasNothing(_ one: GoldenCase) -> Bool { one.inputs.isEmpty && one.outputs.isEmpty }

    /// Whether two entries put one question and have one answer.
    private static func isSame(_ x: GoldenCase, _ y: GoldenCase) -> Bool {
        x.op == y.op && x.recipe == y.recipe && x.inputs == y.inputs && x.outputs == y.outputs
    }

    // MARK: Comparing

    private static func difference(
        _ x: GoldenCase, _ y: GoldenCase, place: Int, _ unmatched: inout [String]
    ) -> Difference? {
        func differing(_ what: String, _ first: String, _ second: String, inputs: [String] = []) -> Difference {
            Difference(
                entry: x.name, op: x.op, place: place, what: what, elements: 0, differing: 0, index: [], first: first,
                second: second, inputs: inputs)
        }
        // A tensor alone, and one of a step, have no operation of the program's own.
        let areNamed = [x, y].allSatisfy { !$0.op.isEmpty && !$0.op.hasPrefix(Trace.stepPrefix) }
        if areNamed, x.op != y.op { return differing("op", x.op, y.op) }
        let recipes = (decisive(x), decisive(y))
        if areNamed, recipes.0 != recipes.1 {
            let keys = Set(recipes.0.keys).union(recipes.1.keys).sorted().filter { recipes.0[$0] != recipes.1[$0] }
            func text(_ recipe: [String: JSONValue]) -> String {
                keys.map { "\($0) \((try? recipe[$0]?.text()) ?? "unset")" }.joined(separator: ", ")
            }
            return differing("recipe", text(recipes.0), text(recipes.1))
        }
        var inputs: [String] = []
        for named in x.inputs.tensors {
            guard let other = y.inputs[named.name] else {
                unmatched.append("\(x.name): inputs/\(named.name)")
                continue
            }
            if firstDifference(named.tensor, other) != nil { inputs.append(named.name) }
        }
        unmatched += (y.inputs.names.filter { x.inputs[$0] == nil }).map { "\(x.name): inputs/\($0)" }
        unmatched += (y.outputs.names.filter { x.outputs[$0] == nil }).map { "\(x.name): outputs/\($0)" }
        let hasInputs = !x.inputs.isEmpty && Set(x.inputs.names) == Set(y.inputs.names)
        var found: Difference?
        for named in x.outputs.tensors {
            guard let other = y.outputs[named.name] else {
                unmatched.append("\(x.name): outputs/\(named.name)")
                continue
            }
            guard found == nil, let index = firstDifference(named.tensor, other) else { continue }
            let tensor = named.tensor
            guard tensor.type == other.type, tensor.shape == other.shape else {
                found = differing(
                    "outputs/\(named.name)", "\(tensor.type.rawValue) \(tensor.shape)",
                    "\(other.type.rawValue) \(other.shape)", inputs: inputs)
                continue
            }
            let count = (0..<tensor.count).count { !NaNRule.asClass.isEqual(tensor, other, $0) }
            found = Difference(
                entry: x.name, op: x.op, place: place, what: "outputs/\(named.name)", elements: tensor.count,
                differing: count, index: Checker.place(of: index, in: tensor.shape),
                first: "\(tensor.bitsText(at: index))  \(tensor.valueText(at: index))",
                second: "\(other.bitsText(at: index))  \(other.valueText(at: index))", inputs: inputs)
        }
        // What came in differs and what went out does not: a difference all the same.
        if found == nil, let input = inputs.first, let tensor = x.inputs[input], let other = y.inputs[input] {
            let index = firstDifference(tensor, other) ?? 0
            let isSame = tensor.type == other.type && tensor.shape == other.shape
            found = Difference(
                entry: x.name, op: x.op, place: place, what: "inputs/\(input)", elements: tensor.count,
                differing: isSame ? (0..<tensor.count).count { !NaNRule.asClass.isEqual(tensor, other, $0) } : 0,
                index: isSame ? Checker.place(of: index, in: tensor.shape) : [],
                first: isSame ? tensor.bitsText(at: index) : "\(tensor.type.rawValue) \(tensor.shape)",
                second: isSame ? other.bitsText(at: index) : "\(other.type.rawValue) \(other.shape)", inputs: inputs)
        }
        found?.hasInputs = hasInputs
        return found
    }

    /// What of a recipe decides results: defaults stated, the constants of the policy `bound` left out.
    private static func decisive(_ one: GoldenCase) -> [String: JSONValue] {
        guard let signature = OperationSignature.named(one.op) else { return one.recipe }
        var recipe = one.recipe
        if signature.bound != nil { for key in ["kappa", "kappa_bits", "n"] { recipe[key] = nil } }
        for key in signature.recipe where recipe[key.name] == nil {
            if case .choice = key.kind, let standard = key.standard { recipe[key.name] = .string(standard) }
        }
        return recipe
    }

    /// The first element in which two tensors differ, 0 for another type or shape; nil if they are equal, all NaNs being one class.
    private static func firstDifference(_ x: Tensor, _ y: Tensor) -> Int? {
        guard x.type == y.type, x.shape == y.shape else { return 0 }
        if x.bytes == y.bytes { return nil }
        return (0..<x.count).first { !NaNRule.asClass.isEqual(x, y, $0) }
    }
}

extension TraceWalk.Findings {
    fileprivate mutating func note(_ one: GoldenCase) {
        if TraceWalk.hasNothing(one), !bare.contains(one.name) { bare.append(one.name) }
    }

    fileprivate mutating func count(_ verdict: TraceWalk.Verdict, of one: GoldenCase, _ place: Int, _ trace: Trace) {
        switch verdict {
        case .foreign: foreign += 1
        case .unjudged(let why):
            unjudged.append(TraceWalk.Unjudged(trace: trace.name, entry: one.name, why: why))
        case .judged(let wrong):
            judged += 1
            guard !wrong.isEmpty else { return }
            faults.append(
                TraceWalk.Fault(trace: trace.name, entry: one.name, op: one.op, place: place, outputs: wrong))
        }
    }
}
