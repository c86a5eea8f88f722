/// 16 lower-case hex digits, as 64-bit integers stand in golden files.
func hexadecimal(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}

/// The value of exactly 16 hex digits; nil for any other text.
func parseHexadecimal(_ text: String) -> UInt64? {
    guard text.utf8.count == 16, text.utf8.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }) else { return nil }
    return UInt64(text, radix: 16)
}
