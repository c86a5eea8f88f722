import Cases
import JSON

/// How many cases there were of each operation, recipe and class.
public struct FuzzCoverage: Sendable, Hashable {
    /// What is counted.
    public struct Key: Sendable, Hashable, Comparable {
        public let operation: String
        /// The recipe's choices, "dot=paired-ftz, form=folded"; numbers are left out.
        public let recipe: String
        public let caseClass: CaseClass

        public static func < (left: Self, right: Self) -> Bool {
            (left.operation, left.recipe, left.caseClass.rawValue) < (
                right.operation, right.recipe, right.caseClass.rawValue
            )
        }
    }

    public struct Count: Sendable, Hashable {
        public var cases = 0
        /// Elements of the outputs.
        public var elements = 0
        public var failures = 0
    }

    public private(set) var counts: [Key: Count] = [:]
    /// Cases of operations that the implementation does not have.
    public private(set) var missing: [String: Int] = [:]

    public init() {}

    /// All cases that were judged.
    public var cases: Int { counts.values.reduce(0) { $0 + $1.cases } }
    public var elements: Int { counts.values.reduce(0) { $0 + $1.elements } }
    public var failures: Int { counts.values.reduce(0) { $0 + $1.failures } }

    mutating func add(_ fuzzCase: FuzzCase, elements: Int, failed: Bool) {
        let goldenCase = fuzzCase.goldenCase
        let key = Key(operation: goldenCase.op, recipe: Self.recipe(goldenCase), caseClass: fuzzCase.caseClass)
        counts[key, default: Count()].cases += 1
        counts[key, default: Count()].elements += elements
        if failed { counts[key, default: Count()].failures += 1 }
    }

    mutating func addMissing(_ op: String) { missing[op, default: 0] += 1 }

    /// The choices of a recipe. Of a whole model, which has hundreds of thousands of combinations, three.
    static func recipe(_ goldenCase: GoldenCase) -> String {
        let isModel = goldenCase.op == "training.step"
        return goldenCase.recipe.keys.sorted().compactMap { key -> String? in
            if isModel && !["clamp", "compression", "dot"].contains(key) { return nil }
            if key == "seed" || key.hasSuffix("_bits") { return nil }
            switch goldenCase.recipe[key] {
            case .string(let text)?: return "\(key)=\(text)"
            case .bool(let flag)?: return "\(key)=\(flag)"
            default: return nil
            }
        }.joined(separator: ", ")
    }
}

extension FuzzCoverage {
    /// One object a key, sorted.
    public var json: JSONValue {
        .array(
            counts.keys.sorted().map { key in
                let count = counts[key] ?? Count()
                return .object([
                    "operation": .string(key.operation), "recipe": .string(key.recipe),
                    "class": .string(key.caseClass.rawValue), "cases": .integer(Int64(count.cases)),
                    "elements": .integer(Int64(count.elements)), "failures": .integer(Int64(count.failures)),
                ])
            })
    }

    init(json: JSONValue, missing: JSONValue) throws(FuzzStateError) {
        guard case .array(let entries) = json, case .object(let none) = missing else {
            throw FuzzStateError("'coverage' is not an array, or 'missing' not an object")
        }
        for entry in entries {
            guard case .object(let object) = entry, case .string(let operation)? = object["operation"],
                case .string(let recipe)? = object["recipe"], case .string(let name)? = object["class"],
                let caseClass = CaseClass(rawValue: name), case .integer(let cases)? = object["cases"],
                case .integer(let elements)? = object["elements"], case .integer(let failures)? = object["failures"],
                let cases = Int(exactly: cases), let elements = Int(exactly: elements),
                let failures = Int(exactly: failures), cases >= 0, elements >= 0, failures >= 0
            else {
                throw FuzzStateError(
                    "'coverage' has an entry without operation, recipe, class, cases, elements and failures")
            }
            counts[Key(operation: operation, recipe: recipe, caseClass: caseClass)] = Count(
                cases: cases, elements: elements, failures: failures)
        }
        for (op, value) in none {
            guard case .integer(let count) = value, let count = Int(exactly: count) else {
                throw FuzzStateError("'missing' has an entry that is no integer")
            }
            self.missing[op] = count
        }
    }

    var missingJSON: JSONValue { .object(missing.mapValues { .integer(Int64($0)) }) }
}
