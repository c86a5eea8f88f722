import JSON
import ModelSpec

// The table of signatures for people: lines for a terminal, and the tables of Operations.md.

extension OperationSignature {
    /// What `touchstone operations NAME` prints.
    public var lines: [String] {
        var lines = ["\(name): \(summary)", "suite \(suite.rawValue), clauses \(clauses.joined(separator: " "))"]
        func section(_ title: String, _ rows: [(String, String)]) {
            guard !rows.isEmpty else { return }
            let width = rows.map(\.0.count).max() ?? 0
            lines += ["", title]
            lines += rows.map { "  \($0.0)\(String(repeating: " ", count: width - $0.0.count))  \($0.1)" }
        }
        section("recipe", recipe.map { ($0.name, $0.text) })
        if takesConfiguration {
            section("recipe, the model's configuration", ModelConfiguration.keyLines)
        }
        section("inputs", inputs.map { ($0.name, $0.text) })
        if takesConfiguration {
            lines.append(
                "  weight.NAME, m.NAME, v.NAME for every parameter of T1, residual.NAME with error_feedback: fp32")
        }
        section("outputs", outputs.map { ($0.name, $0.text) })
        if !sizes.isEmpty { lines += ["", "expected " + sizes.map(\.description).joined(separator: "; ")] }
        return lines
    }

    /// The tables of Operations.md, a section for each suite.
    public static var markdown: String {
        var lines: [String] = []
        for suite in Suite.allCases {
            lines += ["### Suite \(suite.rawValue)", "", "| op | recipe | inputs | outputs |", "|---|---|---|---|"]
            // Operations with the same cells share a row.
            var rows: [(names: [String], cells: String)] = []
            for operation in all where operation.suite == suite {
                let cells = operation.cells
                if let index = rows.firstIndex(where: { $0.cells == cells }) {
                    rows[index].names.append(operation.name)
                } else {
                    rows.append(([operation.name], cells))
                }
            }
            lines += rows.map { "| \($0.names.map { "`\($0)`" }.joined(separator: " ")) | \($0.cells) |" }
            lines.append("")
        }
        lines += ["### Keys of a configuration", "", "| key | value | default |", "|---|---|---|"]
        lines += ModelConfiguration.keyLines(code: "`").map { "| \($0.name) | \($0.value) | \($0.standard) |" }
        return lines.joined(separator: "\n") + "\n\n"
    }

    private var cells: String {
        let keys = recipe.filter { !["kappa", "n"].contains($0.name) || bound == nil }.map {
            "`\($0.name)`: \($0.text)"
        }
        let configuration = takesConfiguration ? ["the keys of a configuration"] : []
        func list(_ tensors: [TensorSignature]) -> String {
            tensors.map { "`\($0.name)` \($0.text)" }.joined(separator: "; ")
        }
        let sizes = sizes.isEmpty ? "" : "; " + sizes.map(\.description).joined(separator: "; ")
        let state = takesConfiguration ? "; the parameters' state" : ""
        return "\((keys + configuration).joined(separator: "; ")) | \(list(inputs))\(state)\(sizes) | \(list(outputs))"
    }
}

extension RecipeKey {
    /// What may stand there, and when.
    var text: String {
        let value =
            switch kind {
            case .choice(let names): names.joined(separator: " ")
            case .flag: "true false"
            case .integer(let range): range.text
            case .integers: "integers"
            case .fp32(.any): "fp32"
            case .fp32(let range): "fp32, \(range.rawValue)"
            case .hexadecimal64: "16 hex digits"
            }
        let size = letter.map { ", \($0)" } ?? ""
        return value + size + presence.text(standard: standard) + (note.map { "; \($0)" } ?? "")
    }
}

extension ClosedRange<Int> {
    /// Bounds near a power of two as that.
    fileprivate var text: String {
        func power(_ value: Int) -> String {
            if value == Int.max { return "2^63 - 1" }
            if value > 1 << 16, value & (value - 1) == 0 { return "2^\(value.trailingZeroBitCount)" }
            if value > 1 << 16, (value + 1) & value == 0 { return "2^\((value + 1).trailingZeroBitCount) - 1" }
            return "\(value)"
        }
        return "\(lowerBound) to \(power(upperBound))"
    }
}

extension Presence {
    fileprivate func text(standard: String?) -> String {
        func values(_ values: [String]) -> String { values.joined(separator: " or ") }
        return switch self {
        case .required: ""
        case .optional: ", optional" + (standard.map { ": \($0)" } ?? "")
        case .when(let key, ["true"]): ", with \(key)"
        case .when(let key, let names): ", with \(key) \(values(names))"
        case .unless(let key, let names): ", unless \(key) is \(values(names))"
        }
    }
}

extension TensorSignature {
    /// Type, shape, range and condition.
    var text: String {
        let type =
            switch types {
            case .one(let type): type.rawValue
            case .anyOf(let types): types.map(\.rawValue).joined(separator: " or ")
            case .named(let key): "of the type \(key)"
            }
        let shape = "[\(shape.map(\.description).joined(separator: ", "))]"
        let range = range.map { ", \($0)" } ?? ""
        let beside = isBounded ? ", with truth and bounds" : ""
        return "\(type) \(shape)\(range)\(presence.text(standard: nil))\(beside)\(note.map { " (\($0))" } ?? "")"
    }
}

extension ModelConfiguration {
    /// Every key: what may stand there, and the default.
    fileprivate static func keyLines(code: String) -> [(name: String, value: String, standard: String)] {
        let standard = ModelConfiguration()
        let rows = keys.map { entry in
            let value =
                switch entry.write(standard) {
                case .array: "[]"
                case let value: value.plainText
                }
            return (name: "\(code)\(entry.name)\(code)", value: entry.key.meaning, standard: value)
        }
        let seed = standard.recipe(withBits: false)["seed"]?.plainText ?? ""
        return rows + [("\(code)seed\(code)", "16 hex digits", seed)]
    }

    fileprivate static var keyLines: [(String, String)] {
        keyLines(code: "").map { ($0.name, "\($0.value), by default \($0.standard)") }
    }
}

extension RecipeKey {
    /// What a configuration's key may be; its limits depend on the others (``ModelConfiguration/validate()``).
    fileprivate var meaning: String {
        switch kind {
        case .integer: "an integer"
        case .integers: note ?? "integers"
        case .fp32: "fp32"
        case .choice, .flag, .hexadecimal64: text
        }
    }
}
