/// Byte-level tokens: the UTF-8 bytes of a text, 0...255.
public enum ByteTokens {
    /// The tokens of a text.
    public static func tokens(of text: String) -> [Int32] { text.utf8.map { Int32($0) } }
}
