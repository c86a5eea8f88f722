import Cases
import GoldenIO
import Goldens
import JSON
import ModelSpec

/// How far a run has come, and what it found.
public struct FuzzRun: Sendable {
    public let seed: UInt64
    /// The operations whose cases are judged, in the catalogue's order.
    public let operations: [String]
    /// The number of the next case.
    public var next = 0
    public var coverage = FuzzCoverage()
    /// The first of each class, with how many there were.
    public var failures: [FuzzFailure] = []

    public init(seed: UInt64, operations: [String]) {
        self.seed = seed
        self.operations = operations
    }

    /// What the cases come to; where none was judged, nothing conforms.
    public var judgement: Judgement {
        if coverage.failures > 0 { return .doesNotConform }
        return coverage.cases > 0 ? .conforms : .notJudged
    }

    /// Whether any case was judged and none failed.
    public var conforms: Bool { judgement == .conforms }

    // MARK: State

    /// What a later run goes on from. The minimal cases themselves stand in the golden file.
    public func state(subject: String) -> JSONValue {
        .object([
            "format": .integer(2), "seed": .string(hexadecimal(seed, digits: 16)), "subject": .string(subject),
            "specification": .string(Specification.version),
            "all_operations": .array(FuzzCases.operations.map(JSONValue.string)),
            "operations": .array(operations.map(JSONValue.string)), "next_case": .integer(Int64(next)),
            "coverage": coverage.json, "missing": coverage.missingJSON,
            "failures": .array(
                failures.map { failure in
                    .object([
                        "case": .integer(Int64(failure.number)), "class": .string(failure.caseClass.rawValue),
                        "name": .string(failure.minimal.name), "attempts": .integer(Int64(failure.attempts)),
                        "output": .string(failure.difference.output),
                        "difference": .string(failure.difference.kind.rawValue),
                        "cases": .integer(Int64(failure.cases)),
                    ])
                }),
        ])
    }

    /// A failure that a state names: where to find its case.
    public struct KnownFailure: Sendable {
        public let number: Int
        public let caseClass: CaseClass
        public let name: String
        public let attempts: Int
        public let difference: FuzzDifference
        public let cases: Int
    }

    /// - Returns: the run without its failures, and what to look them up by.
    /// - Throws: ``FuzzStateError`` if the state is not one, or one of other generators.
    public static func resuming(_ state: JSONValue) throws(FuzzStateError) -> (run: FuzzRun, known: [KnownFailure]) {
        guard case .object(let object) = state, object["format"] == .integer(2) else {
            throw FuzzStateError("is not a state of fuzz, format 2")
        }
        guard case .string(let digits)? = object["seed"], let seed = UInt64(digits, radix: 16) else {
            throw FuzzStateError("'seed' is not 16 hex digits")
        }
        guard object["all_operations"] == .array(FuzzCases.operations.map(JSONValue.string)),
            object["specification"] == .string(Specification.version)
        else { throw FuzzStateError("was written by another version, whose cases have other numbers; start anew") }
        guard case .array(let names)? = object["operations"], case .integer(let next)? = object["next_case"],
            let next = Int(exactly: next), next >= 0
        else { throw FuzzStateError("'operations' is not an array, or 'next_case' not a number from 0") }
        var operations: [String] = []
        for name in names {
            guard case .string(let text) = name else {
                throw FuzzStateError("'operations' holds something that is no string")
            }
            operations.append(text)
        }
        var run = FuzzRun(seed: seed, operations: operations)
        run.next = next
        run.coverage = try FuzzCoverage(
            json: object["coverage"] ?? .null, missing: object["missing"] ?? .null)
        guard case .array(let failures)? = object["failures"] else {
            throw FuzzStateError("'failures' is not an array")
        }
        var known: [KnownFailure] = []
        for failure in failures {
            guard case .object(let entry) = failure, case .integer(let number)? = entry["case"],
                let number = Int(exactly: number), case .string(let className)? = entry["class"],
                let caseClass = CaseClass(rawValue: className), case .string(let name)? = entry["name"],
                case .integer(let attempts)? = entry["attempts"], let attempts = Int(exactly: attempts),
                case .string(let output)? = entry["output"], case .string(let kindName)? = entry["difference"],
                let kind = FuzzDifference.Kind(rawValue: kindName), case .integer(let cases)? = entry["cases"],
                let cases = Int(exactly: cases), cases >= 1
            else {
                throw FuzzStateError(
                    "'failures' has an entry without case, class, name, attempts, output, difference and cases")
            }
            known.append(
                KnownFailure(
                    number: number, caseClass: caseClass, name: name, attempts: attempts,
                    difference: FuzzDifference(output: output, kind: kind), cases: cases))
        }
        return (run, known)
    }

    /// The root attributes of the golden file of minimal cases; its suite is that of all cases, or "fuzz".
    public var header: GoldenHeader {
        let suites = Set(
            failures.compactMap { (try? OperationCatalog.operation(named: $0.minimal.op))?.suite.rawValue })
        return GoldenHeader(
            specVersion: Specification.version, suite: suites.count == 1 ? suites.first ?? "fuzz" : "fuzz",
            tier: "fuzz",
            generator: Specification.generator, seed: seed)
    }

    /// Writes the minimal cases as a golden file, with the reference's outputs, truth and bounds.
    public func write(to path: String) throws(GoldenIOError) {
        let writer = try GoldenWriter(path: path, header: header)
        for failure in failures { try writer.write(failure.minimal) }
        try writer.finish()
    }
}

/// A state that no run can go on from.
public struct FuzzStateError: Error, Hashable, Sendable, CustomStringConvertible {
    public let message: String
    public init(_ message: String) { self.message = message }
    public var description: String { "the state \(message)" }
}
