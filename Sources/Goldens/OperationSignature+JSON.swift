import JSON
import ModelSpec

// The table of signatures as JSON: what `touchstone operations --json` prints and the Python package reads.

extension OperationSignature {
    /// The whole table, with the keys of a configuration and their defaults.
    public static var table: JSONValue {
        let standard = ModelConfiguration()
        // A key that is left out has its default.
        let optional = ["presence": Presence.optional.json]
        let configuration = ModelConfiguration.keys.map { entry in
            JSONValue.object(
                entry.key.members.merging(optional) { $1 }.merging(["default": entry.write(standard)]) { $1 })
        }
        let seed = RecipeKey(name: "seed", kind: .hexadecimal64)
        let seedText = standard.recipe(withBits: false)["seed"] ?? .null
        return .object([
            "spec_version": .string(Specification.version),
            "operations": .array(all.map(\.json)),
            "configuration": .array(
                configuration + [.object(seed.members.merging(optional) { $1 }.merging(["default": seedText]) { $1 })]),
        ])
    }

    /// One operation.
    public var json: JSONValue {
        var members: [String: JSONValue] = [
            "name": .string(name), "suite": .string(suite.rawValue), "summary": .string(summary),
            "clauses": .array(clauses.map(JSONValue.string)),
            "recipe": .array(recipe.map { .object($0.members) }),
            "inputs": .array(inputs.map(\.json)), "outputs": .array(outputs.map(\.json)),
            "sizes": .array(sizes.map(\.json)), "takes_configuration": .bool(takesConfiguration),
        ]
        if let bound { members["bound"] = bound.json }
        return .object(members)
    }
}

extension RecipeKey {
    var members: [String: JSONValue] {
        var members: [String: JSONValue] = ["name": .string(name), "presence": presence.json]
        switch kind {
        case .choice(let names):
            members["kind"] = "choice"
            members["choices"] = .array(names.map(JSONValue.string))
        case .flag: members["kind"] = "flag"
        case .integer(let range):
            members["kind"] = "integer"
            members["minimum"] = .integer(Int64(range.lowerBound))
            members["maximum"] = .integer(Int64(range.upperBound))
        case .integers: members["kind"] = "integers"
        case .fp32(let range):
            members["kind"] = "fp32"
            members["range"] = .string(range.rawValue)
        case .hexadecimal64: members["kind"] = "hexadecimal64"
        }
        if let letter { members["size"] = .string(letter) }
        if let standard { members["default"] = .string(standard) }
        if let note { members["note"] = .string(note) }
        return members
    }
}

extension Presence {
    var json: JSONValue {
        func condition(_ kind: String, _ key: String, _ values: [String]) -> JSONValue {
            .object([
                "kind": .string(kind), "key": .string(key), "values": .array(values.map(JSONValue.string)),
            ])
        }
        return switch self {
        case .required: .object(["kind": "required"])
        case .optional: .object(["kind": "optional"])
        case .when(let key, let values): condition("when", key, values)
        case .unless(let key, let values): condition("unless", key, values)
        }
    }
}

extension Dimension {
    var json: JSONValue {
        switch self {
        case .letter(let letter): .string(letter)
        case .fixed(let size): .integer(Int64(size))
        case .blocks(let letter): .object(["blocks_of": .string(letter)])
        }
    }
}

extension TensorSignature {
    var json: JSONValue {
        var members: [String: JSONValue] = [
            "name": .string(name), "shape": .array(shape.map(\.json)), "presence": presence.json,
        ]
        switch types {
        case .one(let type): members["types"] = .array([.string(type.rawValue)])
        case .anyOf(let types): members["types"] = .array(types.map { .string($0.rawValue) })
        case .named(let key): members["type_key"] = .string(key)
        }
        if isBounded { members["bounded"] = true }
        if let note { members["note"] = .string(note) }
        if let range {
            var limits: [String: JSONValue] = ["lower": .integer(Int64(range.lower)), "upper": range.upper.json]
            if let sentinel = range.sentinel { limits["sentinel"] = .integer(Int64(sentinel)) }
            members["range"] = .object(limits)
        }
        return .object(members)
    }
}

extension SizeRule {
    var json: JSONValue {
        switch self {
        case .atLeast(let least, let letter):
            .object(["rule": "at_least", "value": .integer(Int64(least)), "letter": .string(letter)])
        case .even(let letter): .object(["rule": "even", "letter": .string(letter)])
        case .multiple(let letter, let divisor):
            .object(["rule": "multiple", "letter": .string(letter), "of": .string(divisor)])
        case .product(let letters, let most):
            .object([
                "rule": "product", "letters": .array(letters.map(JSONValue.string)),
                "at_most": .integer(Int64(most)),
            ])
        }
    }
}

extension BoundRule {
    var json: JSONValue {
        switch self {
        case .units: .object(["rule": "units"])
        case .sums(let products):
            .object(["rule": "sums", "letters": .array(products.map { .array($0.map(JSONValue.string)) })])
        case .narrowFactors: .object(["rule": "narrow_factors"])
        case .rows(let input, let letter):
            .object(["rule": "rows", "input": .string(input), "letter": .string(letter)])
        }
    }
}
