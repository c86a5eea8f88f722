/// What one operation of the contract takes and gives, as data.
///
/// Reading a case, checking it, the errors, `touchstone operations`, the tables of <doc:Operations> and the file that the
/// Python package reads are all made of this.
///
/// A letter of a shape is bound where it first appears, in the order of the recipe's keys and then of the inputs, and must
/// have the same size wherever it appears again.
public struct OperationSignature: Sendable {
    /// The public name: `dot.gemm`.
    public let name: String
    public let suite: Suite
    /// One line for people.
    public let summary: String
    /// The clauses that decide the outputs.
    public let clauses: [String]
    /// The keys of the recipe, without those of a ``ModelConfiguration``.
    public let recipe: [RecipeKey]
    /// In the order in which they are checked. A name may stand twice under conditions that exclude each other.
    public let inputs: [TensorSignature]
    public let outputs: [TensorSignature]
    /// What the sizes demand of one another.
    public let sizes: [SizeRule]
    /// The constants of Q3 where a case does not state them; nil without bounds.
    public let bound: BoundRule?
    /// Whether the recipe also holds a whole ``ModelConfiguration``, and the inputs the state of its parameters.
    public let takesConfiguration: Bool

    init(
        _ name: String, _ suite: Suite, _ summary: String, clauses: [String], recipe: [RecipeKey] = [],
        inputs: [TensorSignature], outputs: [TensorSignature], sizes: [SizeRule] = [], bound: BoundRule? = nil,
        takesConfiguration: Bool = false
    ) {
        self.name = name
        self.suite = suite
        self.summary = summary
        self.clauses = clauses
        // Q3: what has bounds may say how wide they are.
        self.recipe = recipe + (bound == nil ? [] : RecipeKey.boundConstants)
        self.inputs = inputs
        self.outputs = outputs
        self.sizes = sizes
        self.bound = bound
        self.takesConfiguration = takesConfiguration
    }

    /// The key of that name; nil if the operation has none.
    public func key(_ name: String) -> RecipeKey? { recipe.first { $0.name == name } }
}

/// A key of a recipe.
public struct RecipeKey: Sendable, Hashable {
    /// What a value may be.
    public enum Kind: Sendable, Hashable {
        /// One of these names.
        case choice([String])
        /// true or false.
        case flag
        case integer(ClosedRange<Int>)
        /// A list of integers.
        case integers
        /// A number and its bits: `KEY` and `KEY_bits`.
        case fp32(FloatRange)
        /// 16 lower-case hex digits.
        case hexadecimal64
    }

    public let name: String
    public let kind: Kind
    public var presence = Presence.required
    /// The letter whose size the integer is.
    public var letter: String?
    /// What an absent optional key means, as text.
    public var standard: String?
    /// A phrase for the tables.
    public var note: String?

    /// One of the cases of an enumeration.
    static func choice<Choice: RawRepresentable<String> & CaseIterable>(_ name: String, _: Choice.Type) -> Self {
        choice(name, Choice.allCases.map(\.rawValue))
    }

    static func choice(_ name: String, _ names: [String]) -> Self { Self(name: name, kind: .choice(names)) }

    static func flag(_ name: String) -> Self { Self(name: name, kind: .flag) }

    static func integer(_ name: String, _ range: ClosedRange<Int>, size letter: String? = nil) -> Self {
        Self(name: name, kind: .integer(range), letter: letter)
    }

    static func fp32(_ name: String, _ range: FloatRange = .any) -> Self { Self(name: name, kind: .fp32(range)) }

    static func hexadecimal64(_ name: String) -> Self { Self(name: name, kind: .hexadecimal64) }

    /// The key may be left out.
    func optional(_ standard: String? = nil) -> Self {
        var key = self
        key.presence = .optional
        key.standard = standard
        return key
    }

    /// The key stands where another one has one of these values, and nowhere else.
    func when(_ key: String, _ values: String...) -> Self {
        var changed = self
        changed.presence = .when(key: key, values)
        return changed
    }

    func note(_ note: String) -> Self {
        var key = self
        key.note = note
        return key
    }

    public init(name: String, kind: Kind, letter: String? = nil) {
        self.name = name
        self.kind = kind
        self.letter = letter
    }

    /// The constants of the policy `bound` (Q3): the factor kappa and the length n of the sums, 0 for a sum's own.
    static let boundConstants: [RecipeKey] = [
        .fp32("kappa", .finiteNonnegative).optional().note("the factor of the policy `bound` (Q3)"),
        .integer("n", 0...Int.max).optional().note("the length of the sums in the policy `bound` (Q3)"),
    ]
}

/// When a key or a tensor is there.
public enum Presence: Sendable, Hashable {
    case required
    case optional
    /// Where a key of the recipe has one of these values, as text (`true` and `false` for flags), and only there.
    case when(key: String, [String])
    /// Where the key has any other value.
    case unless(key: String, [String])
}

/// The constants of the policy `bound` (Q3) for a case that does not state them.
public enum BoundRule: Sendable, Hashable {
    /// kappa = 4, n = 0: a few units of the result itself.
    case units
    /// kappa = 4, n the greatest product of sizes of letters: sums of that many products.
    case sums([[String]])
    /// kappa = 81920, n = 0: a factor of a product is rounded to bf16.
    case narrowFactors
    /// kappa = 4 and the spread of the finite values of a row, the widest one, rounded up; n the size of the letter: softmax of rows.
    case rows(of: String, String)
}

/// What an fp32 parameter may be.
public enum FloatRange: String, Sendable, Hashable, CaseIterable {
    case any = "a number"
    case nonnegative = "0 or more"
    case finiteNonnegative = "a finite number, 0 or more"
    case finitePositive = "a finite number above 0"
    case fraction = "0 or more and below 1"
    case finiteAtLeastOne = "1 or more"

    /// Whether a value lies in the range. NaN lies in `any` alone.
    public func contains(_ value: Float) -> Bool {
        switch self {
        case .any: true
        case .nonnegative: value >= 0
        case .finiteNonnegative: value >= 0 && value.isFinite
        case .finitePositive: value > 0 && value.isFinite
        case .fraction: value >= 0 && value < 1
        case .finiteAtLeastOne: value >= 1 && value.isFinite
        }
    }
}

/// A size of a shape.
public enum Dimension: Sendable, Hashable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    CustomStringConvertible
{
    /// A size that is bound where it first appears.
    case letter(String)
    case fixed(Int)
    /// ceil(n / 8): the Squinch blocks of n values.
    case blocks(of: String)

    public init(stringLiteral letter: String) { self = .letter(letter) }
    public init(integerLiteral size: Int) { self = .fixed(size) }

    public var description: String {
        switch self {
        case .letter(let letter): letter
        case .fixed(let size): "\(size)"
        case .blocks(let letter): "ceil(\(letter)/8)"
        }
    }
}

/// The values that an integer tensor may hold.
public struct ElementRange: Sendable, Hashable, CustomStringConvertible {
    public let lower: Int
    /// Exclusive.
    public let upper: Dimension
    /// A value outside the range that has a meaning of its own.
    public let sentinel: Int?

    init(_ lower: Int, _ upper: Dimension, or sentinel: Int? = nil) {
        self.lower = lower
        self.upper = upper
        self.sentinel = sentinel
    }

    public var description: String {
        let bound =
            switch upper {
            case .fixed(let size) where size & (size - 1) == 0 && size > 1 << 16: "2^\(size.trailingZeroBitCount)"
            default: "\(upper)"
            }
        return "\(lower) ..< \(bound)" + (sentinel.map { " or \($0)" } ?? "")
    }
}

/// A tensor among the inputs or outputs of an operation.
public struct TensorSignature: Sendable, Hashable {
    /// Its element types.
    public enum Types: Sendable, Hashable {
        case one(ElementType)
        case anyOf([ElementType])
        /// The value of a key of the recipe.
        case named(by: String)
    }

    public let name: String
    public let types: Types
    public let shape: [Dimension]
    public var presence = Presence.required
    public var range: ElementRange?
    public var note: String?
    /// Of an output: whether `truth` and `bounds` stand beside it (Q1, Q2).
    public var isBounded = false

    public init(_ name: String, _ types: Types, _ shape: [Dimension]) {
        self.name = name
        self.types = types
        self.shape = shape
    }

    static func bf16(_ name: String, _ shape: Dimension...) -> Self { Self(name, .one(.bf16), shape) }
    static func fp32(_ name: String, _ shape: Dimension...) -> Self { Self(name, .one(.fp32), shape) }
    static func int8(_ name: String, _ shape: Dimension...) -> Self { Self(name, .one(.int8), shape) }
    static func int32(_ name: String, _ shape: Dimension...) -> Self { Self(name, .one(.int32), shape) }
    static func uint8(_ name: String, _ shape: Dimension...) -> Self { Self(name, .one(.uint8), shape) }
    static func uint16(_ name: String, _ shape: Dimension...) -> Self { Self(name, .one(.uint16), shape) }
    static func uint32(_ name: String, _ shape: Dimension...) -> Self { Self(name, .one(.uint32), shape) }

    /// The tensor may be left out.
    var optional: Self {
        var tensor = self
        tensor.presence = .optional
        return tensor
    }

    /// `truth` and `bounds` stand beside the output.
    var bounded: Self {
        var tensor = self
        tensor.isBounded = true
        return tensor
    }

    /// The tensor stands where a key has one of these values, and nowhere else.
    func when(_ key: String, _ values: String...) -> Self {
        var tensor = self
        tensor.presence = .when(key: key, values)
        return tensor
    }

    /// The values that the elements may have.
    func within(_ range: ElementRange) -> Self {
        var tensor = self
        tensor.range = range
        return tensor
    }

    /// The tensor is present unless a key has one of these values.
    func unless(_ key: String, _ values: String...) -> Self {
        var tensor = self
        tensor.presence = .unless(key: key, values)
        return tensor
    }

    func note(_ note: String) -> Self {
        var tensor = self
        tensor.note = note
        return tensor
    }
}

/// What sizes demand of one another.
public enum SizeRule: Sendable, Hashable, CustomStringConvertible {
    case atLeast(Int, String)
    case even(String)
    /// The first is a multiple of the second.
    case multiple(String, of: String)
    /// The product of the letters' sizes.
    case product([String], atMost: Int)

    public var description: String {
        switch self {
        case .atLeast(let least, let letter): "\(letter) of at least \(least)"
        case .even(let letter): "an even \(letter)"
        case .multiple(let letter, let divisor): "\(letter) a multiple of \(divisor)"
        case .product(let letters, let most):
            letters.joined(separator: " x ") + " of at most 2^\(most.trailingZeroBitCount)"
        }
    }

    /// The letters that the rule is about.
    public var letters: [String] {
        switch self {
        case .atLeast(_, let letter), .even(let letter): [letter]
        case .multiple(let letter, let divisor): [letter, divisor]
        case .product(let letters, _): letters
        }
    }

    /// Whether sizes obey the rule.
    public func holds(_ size: (String) -> Int) -> Bool {
        switch self {
        case .atLeast(let least, let letter): size(letter) >= least
        case .even(let letter): size(letter) % 2 == 0
        case .multiple(let letter, let divisor): size(divisor) > 0 && size(letter) % size(divisor) == 0
        case .product(let letters, let most):
            // A size of 0 makes any product 0.
            letters.contains { size($0) == 0 }
                || letters.reduce(most) { left, letter in left / size(letter) } >= 1
        }
    }
}
