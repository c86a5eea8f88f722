import Cases
import Goldens
import JSON
import Platform

/// What is wrong with an answer to a case.
public struct FuzzFault: Sendable {
    /// The verdict on every output; with a failure all have failed, or are malformed.
    public let report: CaseReport
    /// What the implementation answered; empty with a failure.
    public let outputs: TensorGroup
    /// What it did instead of answering.
    public let failure: ImplementationFailure?
    /// The first output that does not conform, and in what way.
    public let difference: FuzzDifference

    /// One line.
    public var summary: String {
        if let failure { return failure.what }
        let failing = report.outputs.filter { !$0.verdict.conforms }
        guard let output = failing.first else { return "conforms" }
        let others = failing.count > 1 ? ", and \(failing.count - 1) more outputs" : ""
        guard output.mismatches > 0, let first = output.first else {
            return "outputs/\(output.name) is \(output.verdict.rawValue): \(output.note ?? "")\(others)"
        }
        return
            "outputs/\(output.name) differs in \(output.mismatches) of \(counted(output.elements, "element")), first at [\(first.position.map(String.init).joined(separator: ", "))]: expected \(first.expected.bits) = \(first.expected.decimal), got \(first.got.bits) = \(first.got.decimal)\(others)"
    }
}

/// A case that failed, made as small as could be found.
public struct FuzzFailure: Sendable {
    public let number: Int
    public let caseClass: CaseClass
    /// With the reference's outputs, truth and bounds; its `why` says what failed.
    public let minimal: GoldenCase
    /// What is wrong with the answer to the minimal case.
    public let fault: FuzzFault
    /// In what way the case failed as it was drawn: what it has in common with the others that it stands for.
    public let difference: FuzzDifference
    /// How often the implementation was asked on the way.
    public let attempts: Int
    /// How many cases failed so, itself among them.
    public internal(set) var cases: Int

    public init(
        number: Int, caseClass: CaseClass, minimal: GoldenCase, fault: FuzzFault, difference: FuzzDifference,
        attempts: Int, cases: Int = 1
    ) {
        self.number = number
        self.caseClass = caseClass
        self.minimal = minimal
        self.fault = fault
        self.difference = difference
        self.attempts = attempts
        self.cases = cases
    }

    /// Whether another failure is of the same class: the operation, what the cases aim at, the output and the kind of difference.
    func isLike(_ op: String, _ caseClass: CaseClass, _ difference: FuzzDifference) -> Bool {
        minimal.op == op && self.caseClass == caseClass && self.difference == difference
    }
}

/// Sends random cases to an implementation and compares its answers with the reference's.
public struct Fuzzer: Sendable {
    public let implementation: any Implementation
    /// How to judge; the standard policy of each operation where it names none.
    public let options: JudgingOptions
    /// How often a failing case may be tried in smaller forms.
    public let shrinkLimit: Int

    public init(
        _ implementation: any Implementation, options: JudgingOptions = JudgingOptions(), shrinkLimit: Int = 2000
    ) {
        self.implementation = implementation
        self.options = options
        self.shrinkLimit = shrinkLimit
    }

    /// What is wrong with the implementation's answer to a case that holds the reference's outputs; nil if nothing is.
    ///
    /// - Throws: ``FuzzUnknownOperation`` if the implementation does not have the operation, and what it throws when nothing could be asked.
    public func fault(of right: GoldenCase) async throws -> FuzzFault? {
        let suite = (try? OperationCatalog.operation(named: right.op))?.suite.rawValue ?? ""
        var question = right
        (question.outputs, question.truth, question.bounds, question.intermediates) = ([], [], [], [])
        do {
            guard let outputs = try await implementation.outputs(for: question) else {
                throw FuzzUnknownOperation(op: right.op)
            }
            var answer = question
            answer.outputs = outputs
            let report = Judge.judge(answer, against: right, suite: suite, file: "", options: options)
            if report.conforms { return nil }
            return FuzzFault(
                report: report, outputs: outputs, failure: nil, difference: FuzzDifference(report, outputs, right))
        } catch let failure as ImplementationFailure {
            let report = Judge.failed(
                right, suite: suite, file: "", options: options,
                verdict: failure.kind == .malformed ? .malformed : .failed, failure.what)
            return FuzzFault(
                report: report, outputs: [], failure: failure,
                difference: FuzzDifference(output: "", kind: .failed))
        }
    }

    /// The smallest case that was found to fail as `failing` does: in the same output and way.
    ///
    /// - Parameters:
    ///   - most: How often it may be tried in smaller forms; nil: ``shrinkLimit``.
    ///   - progress: is told the number of attempts before each.
    public func shrink(
        _ fuzzCase: FuzzCase, _ failing: GoldenCase, _ fault: FuzzFault, limit most: Int? = nil,
        progress: @escaping (Int) -> Void = { _ in }
    ) async throws -> FuzzFailure {
        var (minimal, found, attempts) = (failing, fault, 0)
        if let generator = FuzzCases.generator(of: failing.op) {
            // What hangs or crashes may take long each time.
            let wanted = most ?? shrinkLimit
            let limit = fault.failure == nil ? wanted : min(wanted, 200)
            var shrinker = Shrinker(failing, fault, generator: generator, limit: limit, progress: progress) {
                try await self.fault(of: $0)
            }
            try await shrinker.run()
            (minimal, found, attempts) = (shrinker.bestCase, shrinker.bestFault, shrinker.attempts)
        }
        minimal.name = "\(failing.op)-case-\(fuzzCase.number)"
        minimal.why = "\(implementation.name): \(found.summary); the smallest form found of \(failing.why)"
        return FuzzFailure(
            number: fuzzCase.number, caseClass: fuzzCase.caseClass, minimal: minimal, fault: found,
            difference: fault.difference, attempts: attempts)
    }

    /// Judges one case.
    public func run(
        only number: Int, into run: inout FuzzRun, shrinking: @escaping (Int) -> Void = { _ in }
    ) async throws {
        let fuzzCase = FuzzCases.make(seed: run.seed, number: number)
        try await judge(fuzzCase, try OperationCatalog.evaluate(fuzzCase.goldenCase), &run, shrinking)
    }

    /// Judges case after case from the run's next one, those of its operations, until `isDone` says so or a signal came.
    ///
    /// Several cases' answers of the reference are computed at once; the implementation is asked for one at a time, in their order.
    /// - Parameters:
    ///   - progress: is called after each case.
    ///   - shrinking: is told the number of attempts while a failing case is made smaller.
    /// - Throws: ``/Goldens/OperationError`` if the reference refuses a case, and what the implementation throws when nothing could be asked.
    public func run(
        _ run: inout FuzzRun, isDone: (FuzzRun) -> Bool, progress: (FuzzRun) throws -> Void = { _ in },
        shrinking: @escaping (Int) -> Void = { _ in }
    ) async throws {
        let selected = Set(run.operations)
        guard FuzzCases.operations.contains(where: selected.contains) else { return }
        let width = 2 * Workers.processorCount
        func numbers(from first: Int) -> [Int] {
            var (list, number): ([Int], Int) = ([], first)
            while list.count < 4 * width {
                if selected.contains(FuzzCases.operation(ofCase: number)) { list.append(number) }
                number += 1
            }
            return list
        }
        let seed = run.seed
        var list = numbers(from: run.next)
        var ahead = Task { [list] in try await Self.answers(seed: seed, list, width: width) }
        while true {
            let answered: [(FuzzCase, GoldenCase)]
            do { answered = try await ahead.value } catch is Interrupted { return }
            list = numbers(from: (list.last ?? run.next) + 1)
            ahead = Task { [list] in try await Self.answers(seed: seed, list, width: width) }
            for (fuzzCase, right) in answered {
                if Interruption.isRequested || isDone(run) {
                    ahead.cancel()
                    return
                }
                do { try await judge(fuzzCase, right, &run, shrinking) } catch {
                    ahead.cancel()
                    // A signal while the implementation worked: the case is not counted.
                    if error is Interrupted || error is CancellationError { return }
                    throw error
                }
                run.next = fuzzCase.number + 1
                try progress(run)
            }
        }
    }

    private func judge(
        _ fuzzCase: FuzzCase, _ right: GoldenCase, _ run: inout FuzzRun, _ shrinking: @escaping (Int) -> Void
    ) async throws {
        do {
            let fault = try await fault(of: right)
            // The first of each class is made small; the rest are counted.
            if let fault {
                if let known = run.failures.firstIndex(where: {
                    $0.isLike(right.op, fuzzCase.caseClass, fault.difference)
                }) {
                    run.failures[known].cases += 1
                } else {
                    // One defect often shows in cases of several aims: the first costs most.
                    let isSeen = run.failures.contains {
                        $0.minimal.op == right.op && $0.difference == fault.difference
                    }
                    run.failures.append(
                        try await shrink(
                            fuzzCase, right, fault, limit: isSeen ? shrinkLimit / 4 : nil, progress: shrinking))
                }
            }
            let elements = right.outputs.tensors.reduce(0) { $0 + $1.tensor.count }
            run.coverage.add(fuzzCase, elements: elements, failed: fault != nil)
        } catch let unknown as FuzzUnknownOperation {
            run.coverage.addMissing(unknown.op)
        }
    }

    /// The cases of some numbers, answered by the reference.
    private static func answers(seed: UInt64, _ numbers: [Int], width: Int) async throws -> [(FuzzCase, GoldenCase)] {
        try await withThrowingTaskGroup(of: [(Int, FuzzCase, GoldenCase)].self) { group in
            for lane in 0..<width {
                group.addTask {
                    var list: [(Int, FuzzCase, GoldenCase)] = []
                    for index in stride(from: lane, to: numbers.count, by: width) {
                        try Task.checkCancellation()
                        try Interruption.check()
                        let fuzzCase = FuzzCases.make(seed: seed, number: numbers[index])
                        list.append((index, fuzzCase, try OperationCatalog.evaluate(fuzzCase.goldenCase)))
                    }
                    return list
                }
            }
            var all: [(Int, FuzzCase, GoldenCase)] = []
            for try await list in group { all += list }
            return all.sorted { $0.0 < $1.0 }.map { ($0.1, $0.2) }
        }
    }
}

/// The implementation does not have an operation.
public struct FuzzUnknownOperation: Error, Sendable {
    public let op: String
}
