/// Text from outside made fit for people.
public enum PlainText {
    /// `text` with everything escaped that a terminal obeys or a reader cannot see.
    ///
    /// Control characters (C0, DEL, C1), format characters such as directional overrides, and Unicode's line separators become `\u001B`; a carriage return
    /// becomes `\r`. Line feeds and tabs stay. The escapes are those of JSON, so that a JSON text stays one and keeps its meaning.
    public static func shown(_ text: String) -> String {
        var text = text
        // Nearly all text is plain.
        let isPlain = text.withUTF8 { $0.allSatisfy { (0x20...0x7E).contains($0) || $0 == 0x0A || $0 == 0x09 } }
        if isPlain { return text }
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            if isUnseen(scalar) && scalar != "\n" && scalar != "\t" {
                result.append(contentsOf: escape(scalar).unicodeScalars)
            } else {
                result.append(scalar)
            }
        }
        return String(result)
    }

    /// `text` on one line, a cell for each of its characters: a line feed is a return symbol, and what ``shown(_:)`` escapes, a tab or U+FFFD is a dot.
    public static func line(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { scalar in
                    scalar == "\n" ? "\u{23CE}" : scalar == "\u{FFFD}" || isUnseen(scalar) ? "\u{B7}" : scalar
                }))
    }

    /// Whether a terminal may take a character for a command, or shows nothing for it.
    private static func isUnseen(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }

    private static func escape(_ scalar: Unicode.Scalar) -> String {
        if scalar == "\r" { return "\\r" }
        return String(scalar).utf16.map { unit in
            let digits = String(unit, radix: 16, uppercase: true)
            return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }.joined()
    }
}

/// "1 case", "3 cases", "2 indices" where the plural is not the noun and an s.
public func counted(_ count: Int, _ noun: String, _ plural: String? = nil) -> String {
    "\(count) \(count == 1 ? noun : plural ?? noun + "s")"
}

/// "a, b, c and 4 more".
///
/// - Parameter most: Names that are shown.
public func listed(_ names: [String], most: Int = 6) -> String {
    let shown = names.prefix(most).joined(separator: ", ")
    return names.count > most ? "\(shown) and \(names.count - most) more" : shown
}
