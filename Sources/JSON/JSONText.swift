/// Why a text is not the JSON that it should be.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    /// In bytes of UTF-8 from the start; nil if the value cannot be written.
    public let offset: Int?
    public let message: String

    public var description: String { offset.map { "\(message) at byte \($0)" } ?? message }
}

extension JSONValue {
    /// The text of the value: keys in the order of their UTF-8 bytes, numbers as the shortest digits that read back the same,
    /// no white space, or with `indented` one entry a line. The same value gives the same text everywhere.
    ///
    /// - Throws: ``JSONError`` for a NaN or an infinity, which JSON cannot hold.
    public func text(indented: Bool = false) throws(JSONError) -> String {
        var writer = JSONWriter(indented: indented)
        try writer.write(self)
        return writer.text
    }

    /// Reads one JSON document (RFC 8259), strictly. A number without fraction and exponent that fits is an `integer`, any
    /// other a `number`.
    ///
    /// - Throws: ``JSONError`` for anything else, for a key that stands twice, for a number outside the range of a double and
    ///   for more than 128 levels.
    public init(text: String) throws(JSONError) { try self.init(utf8: Array(text.utf8)) }

    /// The same of a text's bytes. A string that is not UTF-8 is an error too.
    public init(utf8 bytes: [UInt8]) throws(JSONError) {
        var parser = JSONParser(bytes: bytes)
        self = try parser.document()
    }
}

private struct JSONWriter {
    let indented: Bool
    var text = ""
    private var depth = 0

    init(indented: Bool) { self.indented = indented }

    mutating func write(_ value: JSONValue) throws(JSONError) {
        switch value {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .integer(let value): text += String(value)
        case .number(let value):
            guard value.isFinite else { throw JSONError(offset: nil, message: "JSON cannot hold the number \(value)") }
            text += value.description
        case .string(let value): write(string: value)
        case .array(let values):
            open("[")
            for (index, value) in values.enumerated() {
                separate(index)
                try write(value)
            }
            close("]", isEmpty: values.isEmpty)
        case .object(let members):
            let keys = members.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            open("{")
            for (index, key) in keys.enumerated() {
                separate(index)
                write(string: key)
                text += indented ? ": " : ":"
                try write(members[key] ?? .null)
            }
            close("}", isEmpty: keys.isEmpty)
        }
    }

    private mutating func open(_ bracket: String) {
        text += bracket
        depth += 1
    }

    private mutating func separate(_ index: Int) {
        if index > 0 { text += "," }
        breakLine()
    }

    private mutating func close(_ bracket: String, isEmpty: Bool) {
        depth -= 1
        if !isEmpty { breakLine() }
        text += bracket
    }

    private mutating func breakLine() {
        if indented { text += "\n" + String(repeating: "  ", count: depth) }
    }

    private mutating func write(string: String) {
        text += "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}

private struct JSONParser {
    let bytes: [UInt8]
    private var position = 0
    private var depth = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func document() throws(JSONError) -> JSONValue {
        let value = try value()
        skipSpace()
        guard position == bytes.count else { throw error("expected the end of the text") }
        return value
    }

    private func error(_ message: String) -> JSONError { JSONError(offset: position, message: message) }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { position += 1 }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard let byte = next, UInt32(byte) == character.value else { return false }
        position += 1
        return true
    }

    private mutating func value() throws(JSONError) -> JSONValue {
        skipSpace()
        guard let byte = next else { throw error("expected a value, found the end of the text") }
        switch Unicode.Scalar(byte) {
        case "{": return try object()
        case "[": return try array()
        case "\"": return .string(try string())
        case "t": return try literal("true", .bool(true))
        case "f": return try literal("false", .bool(false))
        case "n": return try literal("null", .null)
        case "-", "0"..."9": return try number()
        default: throw error("expected a value")
        }
    }

    private mutating func literal(_ word: String, _ value: JSONValue) throws(JSONError) -> JSONValue {
        guard bytes[position...].starts(with: word.utf8) else { throw error("expected \(word)") }
        position += word.utf8.count
        return value
    }

    private mutating func enter() throws(JSONError) {
        position += 1
        depth += 1
        guard depth <= 128 else { throw error("more than 128 levels") }
    }

    private mutating func array() throws(JSONError) -> JSONValue {
        try enter()
        defer { depth -= 1 }
        var values: [JSONValue] = []
        skipSpace()
        if take("]") { return .array([]) }
        while true {
            values.append(try value())
            skipSpace()
            if take("]") { return .array(values) }
            guard take(",") else { throw error("expected , or ]") }
        }
    }

    private mutating func object() throws(JSONError) -> JSONValue {
        try enter()
        defer { depth -= 1 }
        var members: [String: JSONValue] = [:]
        skipSpace()
        if take("}") { return .object([:]) }
        while true {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw error("expected a key") }
            let key = try string()
            skipSpace()
            guard take(":") else { throw error("expected :") }
            guard members.updateValue(try value(), forKey: key) == nil else {
                throw error("the key \(key) stands twice")
            }
            skipSpace()
            if take("}") { return .object(members) }
            guard take(",") else { throw error("expected , or }") }
        }
    }

    private mutating func number() throws(JSONError) -> JSONValue {
        let start = position
        var isInteger = true
        _ = take("-")
        if !take("0") { try digits() }
        if take(".") {
            isInteger = false
            try digits()
        }
        if take("e") || take("E") {
            isInteger = false
            _ = take("+") || take("-")
            try digits()
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        // -0 is no integer: it would lose its sign.
        if isInteger, text != "-0", let value = Int64(text) { return .integer(value) }
        guard let value = Double(text), value.isFinite else { throw error("\(text) is no finite double") }
        return .number(value)
    }

    private mutating func digits() throws(JSONError) {
        let start = position
        while let byte = next, UInt8(ascii: "0") <= byte, byte <= UInt8(ascii: "9") { position += 1 }
        guard position > start else { throw error("expected a digit") }
    }

    private mutating func string() throws(JSONError) -> String {
        position += 1
        var result: [UInt8] = []
        while let byte = next {
            position += 1
            switch Unicode.Scalar(byte) {
            case "\"":
                guard let text = String(validating: result, as: UTF8.self) else { throw error("a string is not UTF-8") }
                return text
            case "\\": result.append(contentsOf: Array(String(try escape()).utf8))
            default:
                guard byte >= 0x20 else { throw error("a control character in a string") }
                result.append(byte)
            }
        }
        throw error("a string does not end")
    }

    private mutating func escape() throws(JSONError) -> Unicode.Scalar {
        guard let byte = next else { throw error("a string does not end") }
        position += 1
        switch Unicode.Scalar(byte) {
        case "\"": return "\""
        case "\\": return "\\"
        case "/": return "/"
        case "b": return "\u{08}"
        case "f": return "\u{0C}"
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "u":
            let unit = try hexadecimal()
            if let scalar = Unicode.Scalar(unit) { return scalar }
            guard unit < 0xDC00, take("\\"), take("u") else { throw error("half of a surrogate pair") }
            let low = try hexadecimal()
            guard (0xDC00...0xDFFF).contains(low),
                let scalar = Unicode.Scalar(0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00))
            else { throw error("half of a surrogate pair") }
            return scalar
        default: throw error("an unknown escape")
        }
    }

    private mutating func hexadecimal() throws(JSONError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw error("expected four hex digits")
            }
            position += 1
            value = value << 4 | UInt32(digit)
        }
        return value
    }
}
