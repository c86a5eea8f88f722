import Cases
import JSON
import ModelSpec

/// A case that its operation's signature accepts, decoded: the one form in which the reference, the engine, the diagnosis
/// and the fuzzer take a case.
///
/// Everything that the signature says is checked when the value is made, in the order recipe, inputs, sizes, elements. What
/// is read here afterwards cannot fail: a name that the signature lacks is a programming error.
package struct CheckedCase: Sendable {
    package let signature: OperationSignature
    /// Of `training.step`: the model.
    package let configuration: ModelConfiguration?
    private let goldenCase: GoldenCase
    private var values: [String: RecipeValue] = [:]
    private var sizes: [String: Int] = [:]

    /// The operation's name.
    package var op: String { signature.name }

    /// - Throws: ``OperationError`` naming the case, the operation, the key or dataset, what was found and what was expected.
    package init(_ goldenCase: GoldenCase) throws(OperationError) {
        do { try self.init(checking: goldenCase) } catch {
            var named = error
            named.caseName = goldenCase.name
            throw named
        }
    }

    private init(checking goldenCase: GoldenCase) throws(OperationError) {
        let signature = try OperationSignature.require(goldenCase.op)
        self.signature = signature
        self.goldenCase = goldenCase
        if signature.takesConfiguration {
            let own = Set(signature.recipe.map(\.name))
            do {
                let configuration = try ModelConfiguration(recipe: goldenCase.recipe.filter { !own.contains($0.key) })
                self.configuration = configuration
                sizes = [
                    "V": configuration.vocabulary, "B": configuration.batch, "T": configuration.sequenceLength,
                    "k": configuration.distillationK,
                ]
            } catch {
                throw OperationError(.recipe, "\(signature.name): \(error)")
            }
        } else {
            configuration = nil
        }
        try checkRecipe()
        let inputs = (signature.inputs + (configuration?.stateSignatures ?? [])).filter(isPresent)
        try checkInputs(inputs)
        for rule in signature.sizes where !rule.holds({ size($0) }) {
            let found = rule.letters.map { "\($0) is \(size($0))" }.joined(separator: ", ")
            throw OperationError(.input, "\(op): \(found); expected \(rule)")
        }
        for output in signature.outputs where isPresent(output) { try checkSize(output) }
        for input in inputs { try checkElements(input) }
    }

    /// A file of a few bytes, some of its sizes 0, must not ask for more results than memory holds.
    private func checkSize(_ output: TensorSignature) throws(OperationError) {
        let sizes = output.shape.compactMap { dimension -> Int? in
            switch dimension {
            case .fixed(let size): size
            case .letter(let letter): self.sizes[letter]
            case .blocks(let letter): self.sizes[letter].map { ($0 + 7) / 8 }
            }
        }
        if sizes.contains(0) { return }
        // The quotient is 0 where the product of the sizes is beyond the limit.
        guard sizes.reduce(Self.mostResults, { $0 / $1 }) >= 1 else {
            throw OperationError(
                .input, "\(op): outputs/\(output.name) would have the shape \(sizes); expected at most 2^32 elements")
        }
    }

    private static let mostResults = 1 << 32

    // MARK: Access

    /// One of the names of a key.
    package func choice(_ key: String) -> String {
        guard case .choice(let name)? = values[key] else { undeclared("choice '\(key)'") }
        return name
    }

    /// One of the cases of the enumeration that a key names.
    package func choice<Choice: RawRepresentable<String>>(_ key: String, _: Choice.Type = Choice.self) -> Choice {
        guard let choice = Choice(rawValue: choice(key)) else { undeclared("\(Choice.self) '\(choice(key))'") }
        return choice
    }

    package func flag(_ key: String) -> Bool {
        guard case .flag(let flag)? = values[key] else { undeclared("flag '\(key)'") }
        return flag
    }

    package func integer(_ key: String) -> Int {
        guard let integer = optionalInteger(key) else { undeclared("integer '\(key)'") }
        return integer
    }

    /// nil where the case leaves the key out.
    package func optionalInteger(_ key: String) -> Int? {
        guard case .integer(let integer)? = values[key] else { return nil }
        return integer
    }

    package func float(_ key: String) -> Float {
        guard case .float(let float)? = values[key] else { undeclared("number '\(key)'") }
        return float
    }

    package func unsigned64(_ key: String) -> UInt64 {
        guard case .unsigned64(let word)? = values[key] else { undeclared("word '\(key)'") }
        return word
    }

    /// The size that a letter was bound to.
    package func size(_ letter: String) -> Int {
        guard let size = sizes[letter] else { undeclared("size \(letter)") }
        return size
    }

    /// Whether the case has an optional input.
    package func has(_ input: String) -> Bool { goldenCase.inputs[input] != nil }

    /// An input; one that the case leaves out is empty.
    package func tensor(_ name: String) -> Tensor {
        goldenCase.inputs[name] ?? Tensor([UInt8](), shape: [0])
    }

    /// The bits of a bf16 input; none of one that the case leaves out.
    package func bf16(_ name: String) -> [UInt16] { words(name, .bf16) }

    /// The values of an fp32 input; none of one that the case leaves out.
    package func floats(_ name: String) -> [Float] {
        (words(name, .fp32) as [UInt32]).map(Float.init(bitPattern:))
    }

    /// The values of an integer input; none of one that the case leaves out.
    package func integers<Element: FixedWidthInteger & TensorInteger>(
        _ name: String, _: Element.Type = Element.self
    ) -> [Element] {
        words(name, Element.elementType)
    }

    private func words<Word: FixedWidthInteger>(_ name: String, _ type: ElementType) -> [Word] {
        guard let tensor = goldenCase.inputs[name] else { return [] }
        do { return try tensor.words(Word.self, of: type) } catch { undeclared("\(type.rawValue) inputs/\(name)") }
    }

    private func undeclared(_ what: String) -> Never { preconditionFailure("\(op): the signature has no \(what)") }

    // MARK: Checking the recipe

    private mutating func checkRecipe() throws(OperationError) {
        var known: Set<String> = []
        for key in signature.recipe where isPresent(key.presence) {
            known.insert(key.name)
            if case .fp32 = key.kind { known.insert(key.name + "_bits") }
            let isAbsent = goldenCase.recipe[key.name] == nil && goldenCase.recipe[key.name + "_bits"] == nil
            if isAbsent, key.presence == .optional {
                if let standard = key.standard, case .choice = key.kind { values[key.name] = .choice(standard) }
                continue
            }
            let value = try RecipeValue(key, in: goldenCase.recipe, op)
            values[key.name] = value
            if let letter = key.letter, case .integer(let size) = value { sizes[letter] = size }
        }
        if signature.takesConfiguration { return }  // Its own reader refuses unknown keys.
        for key in goldenCase.recipe.keys.sorted() where !known.contains(key) {
            let names = known.isEmpty ? "none" : known.sorted().joined(separator: ", ")
            throw OperationError(.recipe, "\(op): unknown recipe key '\(key)'; it has \(names)")
        }
    }

    private func isPresent(_ tensor: TensorSignature) -> Bool { isPresent(tensor.presence) }

    /// Whether a condition allows a key or tensor; it must stand on a key that was checked before.
    private func isPresent(_ presence: Presence) -> Bool {
        switch presence {
        case .required, .optional: true
        case .when(let key, let texts): texts.contains(text(key))
        case .unless(let key, let texts): !texts.contains(text(key))
        }
    }

    /// The value of a key as text.
    private func text(_ key: String) -> String {
        if let value = values[key] { return value.text }
        if let configuration { return configuration.recipe(withBits: false)[key]?.plainText ?? "" }
        undeclared("key '\(key)'")
    }

    // MARK: Checking the inputs

    /// How outputs, truth and bounds violate the signature; empty if they do not. The first output with an unbound letter binds it.
    package func complaints(outputs: TensorGroup, truth: TensorGroup, bounds: TensorGroup) -> [String] {
        var sizes = sizes
        var list: [String] = []
        let expected = signature.outputs.filter(isPresent)
        for output in expected {
            guard let tensor = outputs[output.name] else {
                list.append("outputs/\(output.name) is missing; expected \(expectation(of: output))")
                continue
            }
            let shape = output.shape.enumerated().map { axis, dimension -> Int in
                switch dimension {
                case .fixed(let size): return size
                case .blocks(let letter): return ((sizes[letter] ?? 0) + 7) / 8
                case .letter(let letter):
                    if sizes[letter] == nil, axis < tensor.shape.count { sizes[letter] = tensor.shape[axis] }
                    return sizes[letter] ?? 0
                }
            }
            if !types(of: output).contains(tensor.type) || tensor.shape != shape {
                list.append(
                    "outputs/\(output.name) is \(tensor.type.rawValue) \(tensor.shape); expected \(expectation(of: output)), \(shape)"
                )
            }
            for (group, tensors) in [("truth", truth), ("bounds", bounds)] {
                guard let beside = tensors[output.name] else { continue }
                if !output.isBounded || beside.type != .fp64 || beside.shape != shape {
                    list.append(
                        "\(group)/\(output.name) is \(beside.type.rawValue) \(beside.shape); expected fp64 \(shape) beside a bounded output"
                    )
                }
            }
        }
        let known = Set(expected.map(\.name))
        for name in outputs.names + truth.names + bounds.names where !known.contains(name) {
            // The parameters' new state, whose names the configuration gives.
            if signature.takesConfiguration, name.contains(".") { continue }
            list.append("unexpected dataset '\(name)'")
        }
        return list
    }

    private mutating func checkInputs(_ inputs: [TensorSignature]) throws(OperationError) {
        for input in inputs {
            guard let tensor = goldenCase.inputs[input.name] else {
                if input.presence == .optional { continue }
                throw OperationError(
                    .input, "\(op): inputs/\(input.name) is missing; expected \(expectation(of: input))")
            }
            try check(tensor, input)
        }
        for name in goldenCase.inputs.names where !inputs.contains(where: { $0.name == name }) {
            let known = inputs.map(\.name).sorted()
            let shown = known.prefix(12).joined(separator: ", ") + (known.count > 12 ? ", ..." : "")
            throw OperationError(.input, "\(op): unexpected dataset inputs/\(name); it has \(shown)")
        }
    }

    private func types(of tensor: TensorSignature) -> [ElementType] {
        switch tensor.types {
        case .one(let type): [type]
        case .anyOf(let types): types
        case .named(let key): ElementType(rawValue: choice(key)).map { [$0] } ?? []
        }
    }

    private func expectation(of tensor: TensorSignature) -> String {
        let types = types(of: tensor).map(\.rawValue).joined(separator: " or ")
        return "\(types) [\(tensor.shape.map(\.description).joined(separator: ", "))]"
    }

    private mutating func check(_ tensor: Tensor, _ input: TensorSignature) throws(OperationError) {
        func mismatch(_ why: String) -> OperationError {
            OperationError(
                .input,
                "\(op): inputs/\(input.name) is \(tensor.type.rawValue) \(tensor.shape); expected \(expectation(of: input))\(why)"
            )
        }
        let types = types(of: input)
        guard types.contains(tensor.type) else {
            let halves = types.first { $0.byteWidth == 2 && $0.isFloatingPoint && tensor.type.byteWidth == 2 }
            throw mismatch(
                halves.map {
                    "; uint16 with the attribute element_type = \"\($0.rawValue)\" holds its bits, and so do HDF5's own floats of 16 bits"
                } ?? "")
        }
        guard tensor.shape.count == input.shape.count else { throw mismatch("") }
        for (dimension, size) in zip(input.shape, tensor.shape) {
            switch dimension {
            case .fixed(let fixed):
                guard size == fixed else { throw mismatch("") }
            case .letter(let letter):
                guard let bound = sizes[letter] else {
                    sizes[letter] = size
                    continue
                }
                guard size == bound else { throw mismatch(" with \(letter) = \(bound)") }
            case .blocks(let letter):
                let count = self.size(letter)
                guard size == (count + 7) / 8 else { throw mismatch(" with \(letter) = \(count)") }
            }
        }
    }

    private func checkElements(_ input: TensorSignature) throws(OperationError) {
        guard let range = input.range, let tensor = goldenCase.inputs[input.name] else { return }
        let upper =
            switch range.upper {
            case .fixed(let size): size
            case .letter(let letter), .blocks(let letter): size(letter)
            }
        let isSigned = input.types == .one(.int32)
        for index in 0..<tensor.count {
            let bits = UInt32(truncatingIfNeeded: tensor.bits(at: index))
            let value = isSigned ? Int(Int32(bitPattern: bits)) : Int(bits)
            if range.lower <= value, value < upper || value == range.sentinel { continue }
            if case .letter(let letter) = range.upper {
                throw OperationError(
                    .value,
                    "\(op): inputs/\(input.name) is \(value) at index \(index); expected \(range) with \(letter) = \(upper)"
                )
            }
            throw OperationError(
                .value, "\(op): inputs/\(input.name) is \(value) at index \(index); expected \(range)")
        }
    }
}

/// The value of a key.
private enum RecipeValue {
    case choice(String)
    case flag(Bool)
    case integer(Int)
    case float(Float)
    case unsigned64(UInt64)

    /// As conditions of a signature name it.
    var text: String {
        switch self {
        case .choice(let name): name
        case .flag(let flag): "\(flag)"
        case .integer(let integer): "\(integer)"
        case .float(let float): "\(float)"
        case .unsigned64(let word): "\(word)"
        }
    }

    init(_ key: RecipeKey, in recipe: [String: JSONValue], _ op: String) throws(OperationError) {
        let value = recipe[key.name]
        func wrong(_ name: String, _ found: JSONValue?) -> OperationError {
            let found = found.map { "is \($0.text)" } ?? "is missing"
            let expected = name == key.name ? key.kind.expectation : "8 lower-case hex digits"
            return OperationError(.recipe, "\(op): recipe key '\(name)' \(found); expected \(expected)")
        }
        switch key.kind {
        case .choice(let names):
            guard case .string(let name)? = value, names.contains(name) else { throw wrong(key.name, value) }
            self = .choice(name)
        case .flag:
            guard case .bool(let flag)? = value else { throw wrong(key.name, value) }
            self = .flag(flag)
        case .integer(let range):
            guard case .integer(let number)? = value, let integer = Int(exactly: number), range.contains(integer) else {
                throw wrong(key.name, value)
            }
            self = .integer(integer)
        case .integers: throw wrong(key.name, value)
        case .hexadecimal64:
            guard case .string(let digits)? = value, let word = parseHexadecimal(digits, digits: 16) else {
                throw wrong(key.name, value)
            }
            self = .unsigned64(word)
        case .fp32(let range):
            let float = try Self.float(key.name, in: recipe, op, wrong)
            guard range.contains(float) else {
                throw OperationError(
                    .recipe, "\(op): recipe key '\(key.name)' is \(float); expected \(range.rawValue)")
            }
            self = .float(float)
        }
    }

    /// `KEY` as a number and `KEY_bits` as eight lower-case hex digits. The bits rule; where both stand, they must say the same.
    private static func float(
        _ name: String, in recipe: [String: JSONValue], _ op: String, _ wrong: (String, JSONValue?) -> OperationError
    ) throws(OperationError) -> Float {
        let (number, bits) = (recipe[name], recipe[name + "_bits"])
        var fromNumber: Float?
        switch number {
        case .number(let value)?: fromNumber = Float(value)
        case .integer(let value)?: fromNumber = Float(value)
        case nil: break
        default: throw wrong(name, number)
        }
        guard let bits else {
            guard let fromNumber else { throw wrong(name, nil) }
            return fromNumber
        }
        guard case .string(let digits) = bits, let pattern = parseHexadecimal(digits, digits: 8) else {
            throw wrong(name + "_bits", bits)
        }
        let float = Float(bitPattern: UInt32(pattern))
        if let fromNumber, fromNumber.bitPattern != float.bitPattern {
            throw OperationError(
                .recipe,
                "\(op): recipe keys '\(name)' and '\(name)_bits' disagree: \(fromNumber) and \(float) (\(digits))")
        }
        return float
    }
}

/// The value of exactly that many lower-case hex digits; nil for any other text.
func parseHexadecimal(_ text: String, digits: Int) -> UInt64? {
    guard text.utf8.count == digits, text.utf8.allSatisfy({ "0123456789abcdef".utf8.contains($0) }) else { return nil }
    return UInt64(text, radix: 16)
}

extension Presence {
    /// Whether a recipe that is not checked yet allows a key or tensor.
    package func holds(in recipe: [String: JSONValue]) -> Bool {
        switch self {
        case .required, .optional: true
        case .when(let key, let values): values.contains(recipe[key]?.plainText ?? "")
        case .unless(let key, let values): !values.contains(recipe[key]?.plainText ?? "")
        }
    }
}

extension RecipeKey.Kind {
    /// What a value must be, for messages.
    package var expectation: String {
        switch self {
        case .choice(let names): "one of \(names.joined(separator: ", "))"
        case .flag: "true or false"
        case .integer(let range): "an integer in \(range.lowerBound)...\(range.upperBound)"
        case .integers: "an array of integers"
        case .fp32: "a number"
        case .hexadecimal64: "16 lower-case hex digits"
        }
    }
}

extension OperationSignature {
    /// - Throws: ``OperationError`` of kind `unknownOperation`, naming the nearest name that exists.
    package static func require(_ name: String) throws(OperationError) -> OperationSignature {
        if let signature = named(name) { return signature }
        guard !name.isEmpty else {
            throw OperationError(
                .unknownOperation, "the case has no attribute 'op': it names the operation, such as 'dot.gemm'")
        }
        let nearest = all.map(\.name).min { editDistance($0, name) < editDistance($1, name) }
        let hint = nearest.map { "; did you mean '\($0)'?" } ?? ""
        throw OperationError(.unknownOperation, "unknown operation '\(name)'\(hint)")
    }
}

extension JSONValue {
    /// For messages.
    var text: String {
        switch self {
        case .string(let value): "\"\(value)\""
        default: plainText
        }
    }

    /// A value as conditions of a signature name it.
    var plainText: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        case .string(let value): value
        case .array: "an array"
        case .object: "an object"
        }
    }
}
