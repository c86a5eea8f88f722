import Testing
import TrainingData

@Suite struct TokensTests {
    @Test("A token is a byte of UTF-8")
    func bytes() { #expect(ByteTokens.tokens(of: "aé") == [0x61, 0xC3, 0xA9]) }
}
