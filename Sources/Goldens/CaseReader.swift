import GoldenIO
import JSON
import ModelSpec

/// Reads a case's recipe and inputs, checking as it goes, and notices what nobody asked for.
///
/// Shapes are written as in the table of operations: a letter binds a size where it first appears and must match
/// where it appears again; digits are a fixed size.
package struct CaseReader {
    private let goldenCase: GoldenCase
    private var keysRead: Set<String> = []
    private var inputsRead: Set<String> = []
    private var sizes: [String: Int] = [:]

    package init(_ goldenCase: GoldenCase) { self.goldenCase = goldenCase }

    /// The operation's name.
    package var op: String { goldenCase.op }

    // MARK: Recipe

    private mutating func value(_ key: String) -> JSONValue? {
        keysRead.insert(key)
        return goldenCase.recipe[key]
    }

    /// A key whose value is one of a fixed set of names.
    package mutating func choice<Choice: RawRepresentable & CaseIterable>(_ key: String, _: Choice.Type)
        throws(OperationError)
        -> Choice
    where Choice.RawValue == String {
        let names = Choice.allCases.map(\.rawValue)
        return Choice(rawValue: try choice(key, names))!
    }

    /// A key whose value is one of a fixed set of names.
    package mutating func choice(_ key: String, _ names: [String]) throws(OperationError) -> String {
        let value = value(key)
        guard case .string(let name)? = value, names.contains(name) else {
            throw recipeError(key, value, "one of \(names.joined(separator: ", "))")
        }
        return name
    }

    package mutating func bool(_ key: String) throws(OperationError) -> Bool {
        let value = value(key)
        guard case .bool(let flag)? = value else { throw recipeError(key, value, "true or false") }
        return flag
    }

    package mutating func integer(_ key: String, in range: ClosedRange<Int>) throws(OperationError) -> Int {
        let value = value(key)
        guard case .integer(let number)? = value, let integer = Int(exactly: number), range.contains(integer) else {
            throw recipeError(key, value, "an integer in \(range.lowerBound)...\(range.upperBound)")
        }
        return integer
    }

    /// An integer that may be left out.
    package mutating func optionalInteger(_ key: String, in range: ClosedRange<Int>) throws(OperationError) -> Int? {
        goldenCase.recipe[key] == nil ? nil : try integer(key, in: range)
    }

    /// The policy `bound` (Q3) keeps its constants in the recipe; evaluating ignores them, but they must be what they are.
    package mutating func boundConstants() throws(OperationError) {
        if goldenCase.recipe["kappa"] != nil || goldenCase.recipe["kappa_bits"] != nil { _ = try float("kappa") }
        if goldenCase.recipe["n"] != nil { _ = try integer("n", in: 0...Int.max) }
    }

    /// An fp32 parameter: `key` as a number and `key_bits` as eight lower-case hex digits. The bits rule; where both
    /// stand, they must say the same.
    package mutating func float(_ key: String) throws(OperationError) -> Float {
        let number = value(key)
        let bits = value(key + "_bits")
        var fromNumber: Float?
        switch number {
        case .number(let value)?: fromNumber = Float(value)
        case .integer(let value)?: fromNumber = Float(value)
        case nil: break
        default: throw recipeError(key, number, "a number")
        }
        switch bits {
        case .string(let digits)?:
            guard let pattern = Self.hexadecimal(digits, digits: 8) else {
                throw recipeError(key + "_bits", bits, "8 lower-case hex digits")
            }
            let float = Float(bitPattern: UInt32(pattern))
            if let fromNumber, fromNumber.bitPattern != float.bitPattern {
                throw OperationError(
                    .recipe, "recipe keys '\(key)' and '\(key)_bits' disagree: \(fromNumber) and \(float) (\(digits))")
            }
            return float
        case nil:
            guard let fromNumber else { throw recipeError(key, nil, "a number, and '\(key)_bits'") }
            return fromNumber
        default: throw recipeError(key + "_bits", bits, "8 lower-case hex digits")
        }
    }

    /// A 64-bit parameter: 16 lower-case hex digits.
    package mutating func unsigned64(_ key: String) throws(OperationError) -> UInt64 {
        let value = value(key)
        guard case .string(let digits)? = value, let pattern = Self.hexadecimal(digits, digits: 16) else {
            throw recipeError(key, value, "16 lower-case hex digits")
        }
        return pattern
    }

    /// The keys of a whole model's configuration: all of the recipe but `others`.
    package mutating func configuration(besides others: Set<String>) throws(OperationError) -> ModelConfiguration {
        let recipe = goldenCase.recipe.filter { !others.contains($0.key) }
        keysRead.formUnion(recipe.keys)
        do { return try ModelConfiguration(recipe: recipe) } catch {
            throw OperationError(.recipe, "\(goldenCase.op): \(error)")
        }
    }

    private static func hexadecimal(_ text: String, digits: Int) -> UInt64? {
        guard text.utf8.count == digits, text.utf8.allSatisfy({ "0123456789abcdef".utf8.contains($0) }) else {
            return nil
        }
        return UInt64(text, radix: 16)
    }

    private func recipeError(_ key: String, _ found: JSONValue?, _ expected: String) -> OperationError {
        let found = found.map { "is \($0.text)" } ?? "is missing"
        return OperationError(.recipe, "\(goldenCase.op): recipe key '\(key)' \(found); expected \(expected)")
    }

    // MARK: Inputs

    package func hasInput(_ name: String) -> Bool { goldenCase.inputs[name] != nil }

    /// The type of an input that may be of several.
    package func inputType(_ name: String) -> ElementType? { goldenCase.inputs[name]?.type }

    /// A dataset of `inputs/` of exactly this type and shape.
    package mutating func input(_ name: String, _ type: ElementType, _ shape: String...) throws(OperationError)
        -> Tensor
    {
        try input(name, type, shape)
    }

    private mutating func input(_ name: String, _ type: ElementType, _ shape: [String]) throws(OperationError) -> Tensor
    {
        inputsRead.insert(name)
        let expected = "\(type.rawValue) [\(shape.joined(separator: ", "))]"
        guard let tensor = goldenCase.inputs[name] else {
            throw OperationError(.input, "\(goldenCase.op): inputs/\(name) is missing; expected \(expected)")
        }
        func mismatch(_ why: String) -> OperationError {
            OperationError(
                .input,
                "\(goldenCase.op): inputs/\(name) is \(tensor.type.rawValue) \(tensor.shape); expected \(expected)\(why)"
            )
        }
        guard tensor.type == type else {
            let isBits = type.byteWidth == 2 && type.isFloatingPoint && tensor.type.byteWidth == 2
            throw mismatch(
                isBits
                    ? "; uint16 with the attribute element_type = \"\(type.rawValue)\" holds its bits, and so do HDF5's own floats of 16 bits"
                    : "")
        }
        guard tensor.shape.count == shape.count else { throw mismatch("") }
        for (symbol, size) in zip(shape, tensor.shape) {
            if let fixed = Int(symbol) {
                guard fixed == size else { throw mismatch("") }
            } else if let bound = sizes[symbol] {
                guard bound == size else { throw mismatch(" with \(symbol) = \(bound)") }
            } else {
                sizes[symbol] = size
            }
        }
        return tensor
    }

    /// The size that a letter was bound to.
    package func size(_ symbol: String) -> Int {
        precondition(sizes[symbol] != nil, "size \(symbol) was read by nobody")
        return sizes[symbol]!
    }

    package mutating func bf16(_ name: String, _ shape: String...) throws(OperationError) -> [UInt16] {
        try elements(try input(name, .bf16, shape), UInt16.self)
    }

    package mutating func floats(_ name: String, _ shape: String...) throws(OperationError) -> [Float] {
        try elements(try input(name, .fp32, shape), UInt32.self).map(Float.init(bitPattern:))
    }

    package mutating func floats(_ name: String, shape: [String]) throws(OperationError) -> [Float] {
        try elements(try input(name, .fp32, shape), UInt32.self).map(Float.init(bitPattern:))
    }

    package mutating func integers<Element: FixedWidthInteger & TensorInteger>(
        _ name: String, _: Element.Type, _ shape: String...
    ) throws(OperationError) -> [Element] {
        try elements(try input(name, Element.elementType, shape), Element.self)
    }

    private func elements<Word: FixedWidthInteger>(_ tensor: Tensor, _: Word.Type) throws(OperationError) -> [Word] {
        do { return try tensor.words(Word.self, of: tensor.type) } catch {
            throw OperationError(.input, error.description)
        }
    }

    // MARK: The end

    /// - Throws: if the case has a recipe key or an input that the operation does not know.
    package func finish() throws(OperationError) {
        for key in goldenCase.recipe.keys.sorted() where !keysRead.contains(key) {
            let known = keysRead.sorted().joined(separator: ", ")
            throw OperationError(
                .recipe,
                "\(goldenCase.op): unknown recipe key '\(key)'; it has \(known.isEmpty ? "none" : known)")
        }
        for name in goldenCase.inputs.names where !inputsRead.contains(name) {
            throw OperationError(
                .input,
                "\(goldenCase.op): unexpected dataset inputs/\(name); it has \(inputsRead.sorted().joined(separator: ", "))"
            )
        }
    }
}

extension JSONValue {
    /// For messages.
    var text: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        case .string(let value): "\"\(value)\""
        case .array: "an array"
        case .object: "an object"
        }
    }
}
