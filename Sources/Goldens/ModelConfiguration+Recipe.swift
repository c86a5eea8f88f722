import Foundation
import JSON
import ModelSpec
import Platform

/// One key of a configuration: what it may be, and how its value is read and written.
struct ConfigurationKey {
    let key: RecipeKey
    let read: (JSONValue, inout ModelConfiguration) throws(ConfigurationError) -> Void
    let write: (ModelConfiguration) -> JSONValue

    var name: String { key.name }
    var isFloat: Bool { if case .fp32 = key.kind { true } else { false } }

    static func integer(_ name: String, _ path: any WritableKeyPath<ModelConfiguration, Int> & Sendable) -> Self {
        Self(
            key: RecipeKey(name: name, kind: .integer(0...Int.max)),
            read: { (value, c) throws(ConfigurationError) in c[keyPath: path] = try integer(name, value) },
            write: { .integer(Int64($0[keyPath: path])) })
    }

    static func integers(_ name: String, _ path: any WritableKeyPath<ModelConfiguration, [Int]> & Sendable) -> Self {
        Self(
            key: RecipeKey(name: name, kind: .integers),
            read: { (value, c) throws(ConfigurationError) in
                guard case .array(let values) = value else {
                    throw ConfigurationError(name, "is \(value.text); expected an array of integers")
                }
                var list: [Int] = []
                for value in values { list.append(try integer(name, value)) }
                c[keyPath: path] = list
            },
            write: { .array($0[keyPath: path].map { .integer(Int64($0)) }) })
    }

    static func flag(_ name: String, _ path: any WritableKeyPath<ModelConfiguration, Bool> & Sendable) -> Self {
        Self(
            key: RecipeKey(name: name, kind: .flag),
            read: { (value, c) throws(ConfigurationError) in
                guard case .bool(let flag) = value else {
                    throw ConfigurationError(name, "is \(value.text); expected true or false")
                }
                c[keyPath: path] = flag
            },
            write: { .bool($0[keyPath: path]) })
    }

    static func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ path: any WritableKeyPath<ModelConfiguration, Choice> & Sendable
    ) -> Self {
        Self(
            key: RecipeKey(name: name, kind: .choice(Choice.allCases.map(\.rawValue))),
            read: { (value, c) throws(ConfigurationError) in
                guard case .string(let text) = value, let choice = Choice(rawValue: text) else {
                    let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
                    throw ConfigurationError(name, "is \(value.text); expected one of \(known)")
                }
                c[keyPath: path] = choice
            },
            write: { .string($0[keyPath: path].rawValue) })
    }

    static func float(_ name: String, _ path: any WritableKeyPath<ModelConfiguration, Float> & Sendable) -> Self {
        Self(
            key: RecipeKey(name: name, kind: .fp32(.any)),
            read: { (value, c) throws(ConfigurationError) in
                switch value {
                case .integer(let number): c[keyPath: path] = Float(number)
                case .number(let number): c[keyPath: path] = Float(number)
                default: throw ConfigurationError(name, "is \(value.text); expected a number")
                }
            },
            write: { .number(Double($0[keyPath: path])) })
    }

    private static func integer(_ name: String, _ value: JSONValue) throws(ConfigurationError) -> Int {
        guard case .integer(let number) = value, let integer = Int(exactly: number) else {
            throw ConfigurationError(name, "is \(value.text); expected an integer")
        }
        return integer
    }
}

extension ModelConfiguration {
    /// The keys in their order; `seed`, of 16 hex digits, follows them.
    static var keys: [ConfigurationKey] {
        [
            .integer("vocabulary", \.vocabulary), .integer("width", \.width), .integer("layers", \.layers),
            .integer("heads", \.heads), .integer("key_value_heads", \.keyValueHeads),
            .integer("head_dimension", \.headDimension), .integer("feed_forward_width", \.feedForwardWidth),
            .integer("sequence_length", \.sequenceLength), .integer("batch", \.batch), .choice("dot", \.dot),
            .integers("windows", \.windows), .integers("key_value_source", \.keyValueSource),
            .float("rotary_base", \.rotaryBase), .float("norm_epsilon", \.normEpsilon), .float("zreg_c", \.zregC),
            .choice("zreg_form", \.zregForm), .float("output_zreg_c", \.outputZRegC), .choice("clamp", \.clamp),
            .float("clamp_kappa", \.clampKappa), .float("clamp_limit", \.clampLimit),
            .choice("clamp_gradient", \.clampGradient), .flag("int8", \.int8),
            .integer("distillation_k", \.distillationK), .float("learning_rate", \.learningRate),
            .choice("schedule", \.schedule), .integer("warmup_steps", \.warmupSteps),
            .integer("total_steps", \.totalSteps), .float("final_fraction", \.finalFraction), .float("beta1", \.beta1),
            .float("beta2", \.beta2), .float("adam_epsilon", \.adamEpsilon), .float("weight_decay", \.weightDecay),
            .float("clip_norm", \.clipNorm), .integer("ranks", \.ranks), .choice("compression", \.compression),
            .choice("squinch_variant", \.squinchVariant), .flag("error_feedback", \.errorFeedback),
        ]
    }

    /// What a key of a configuration may be; nil if there is no such key.
    package static func key(_ name: String) -> RecipeKey? { keys.first { $0.name == name }?.key }

    /// The names of all keys, in their order; every fp32 one may have a twin `KEY_bits`.
    public static var keyNames: [String] { keys.map(\.name) + ["seed"] }

    /// A configuration from keys and values; what is not there is as in `base`.
    ///
    /// Of an fp32 key the bits rule where `KEY_bits` stands (8 lower-case hex digits); the number beside it must agree. A number alone is
    /// rounded to the nearest fp32, by way of fp64 as JSON numbers are.
    /// - Throws: ``ModelSpec/ConfigurationError`` for an unknown key, naming the nearest one, a value of the wrong kind, and what
    ///   ``ModelSpec/ModelConfiguration/validate()`` refuses.
    public init(recipe: [String: JSONValue], base: ModelConfiguration = .init()) throws(ConfigurationError) {
        self = base
        var known: Set<String> = ["seed"]
        for key in Self.keys {
            known.insert(key.name)
            if let value = recipe[key.name] { try key.read(value, &self) }
            guard key.isFloat else { continue }
            known.insert(key.name + "_bits")
            guard let bits = recipe[key.name + "_bits"] else { continue }
            guard case .string(let digits) = bits, digits.utf8.count == 8,
                digits.utf8.allSatisfy({ "0123456789abcdef".utf8.contains($0) }),
                let pattern = UInt32(digits, radix: 16)
            else {
                throw ConfigurationError(key.name + "_bits", "is \(bits.text); expected 8 lower-case hex digits")
            }
            let value = Float(bitPattern: pattern)
            var fromNumber = self
            try key.read(.number(Double(value)), &fromNumber)
            if recipe[key.name] != nil, key.write(fromNumber) != key.write(self) {
                throw ConfigurationError(
                    key.name, "is \(key.write(self).text), but \(key.name)_bits says \(value) (\(digits))")
            }
            self = fromNumber
        }
        if let value = recipe["seed"] {
            guard case .string(let digits) = value, digits.utf8.count == 16, let seed = UInt64(digits, radix: 16),
                digits.utf8.allSatisfy({ "0123456789abcdef".utf8.contains($0) })
            else { throw ConfigurationError("seed", "is \(value.text); expected 16 lower-case hex digits") }
            self.seed = seed
        }
        for key in recipe.keys.sorted() where !known.contains(key) {
            let nearest = Self.keyNames.min { editDistance($0, key) < editDistance($1, key) }
            throw ConfigurationError(key, "is unknown; did you mean '\(nearest ?? "")'?")
        }
        try validate()
    }

    /// All keys with their values; with `bits` every fp32 one twice, as golden recipes hold them.
    public func recipe(withBits bits: Bool) -> [String: JSONValue] {
        var recipe: [String: JSONValue] = [:]
        for key in Self.keys {
            let value = key.write(self)
            recipe[key.name] = value
            if bits, key.isFloat, case .number(let number) = value {
                recipe.merge(JSONValue.entries(key.name, Float(number))) { $1 }
            }
        }
        let digits = String(seed, radix: 16)
        recipe["seed"] = .string(String(repeating: "0", count: 16 - digits.count) + digits)
        return recipe
    }

    /// A preset by its name, or a JSON file: an object of keys, with `preset` among them to start from that preset.
    ///
    /// - Throws: ``/Goldens/ConfigurationFileError``, naming the file.
    public static func reading(_ nameOrPath: String) throws(ConfigurationFileError) -> ModelConfiguration {
        if let preset = Preset(rawValue: nameOrPath) { return ModelConfiguration(preset: preset) }
        let names = Preset.allCases.map(\.rawValue).joined(separator: ", ")
        do {
            guard let text = String(validating: try Files.bytes(of: nameOrPath), as: UTF8.self) else {
                throw ConfigurationFileError(path: nameOrPath, message: "is not UTF-8")
            }
            guard case .object(var recipe) = try JSONValue(text: text) else {
                throw ConfigurationFileError(path: nameOrPath, message: "is not a JSON object")
            }
            var base = ModelConfiguration()
            if let value = recipe.removeValue(forKey: "preset") {
                guard case .string(let name) = value, let preset = Preset(rawValue: name) else {
                    throw ConfigurationError("preset", "is \(value.text); expected one of \(names)")
                }
                base = ModelConfiguration(preset: preset)
            }
            return try ModelConfiguration(recipe: recipe, base: base)
        } catch let error as ConfigurationFileError {
            throw error
        } catch let error as FileError {
            throw ConfigurationFileError(
                path: nameOrPath, message: "is no preset (\(names)), and no file: \(error.reason)")
        } catch {
            throw ConfigurationFileError(path: nameOrPath, message: "\(error)")
        }
    }
}

/// A configuration file that cannot be used.
public struct ConfigurationFileError: Error, Sendable, CustomStringConvertible {
    public let path: String
    public let message: String
    public var description: String { "configuration '\(path)': \(message)" }
}

/// Levenshtein's distance: how many letters to change, add or drop.
package func editDistance(_ first: String, _ second: String) -> Int {
    let second = Array(second)
    var row = Array(0...second.count)
    for (i, character) in first.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for j in second.indices {
            let substituted = diagonal + (character == second[j] ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(substituted, row[j] + 1, diagonal + 1)
        }
    }
    return row[second.count]
}
