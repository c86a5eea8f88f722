import BFloat16
import ExactMath

/// Rows of the embedding by token, and their gradient (T2).
public enum Embedding {
    /// A token outside 0 ..< V.
    public struct TokenError: Error, Hashable, Sendable, CustomStringConvertible {
        public let index: Int
        public let token: Int32
        public let vocabulary: Int

        public var description: String { "token \(token) at index \(index), expected 0 ..< \(vocabulary)" }
    }

    /// [n, C]: row token_t of the weight [V, C], bit for bit.
    public static func forward(
        tokens: [Int32], weight: [BFloat16], vocabulary: Int, width: Int
    ) throws(TokenError) -> [BFloat16] {
        precondition(weight.count == vocabulary * width)
        var output: [BFloat16] = []
        output.reserveCapacity(tokens.count * width)
        for (index, token) in tokens.enumerated() {
            guard (0..<vocabulary).contains(Int(token)) else {
                throw TokenError(index: index, token: token, vocabulary: vocabulary)
            }
            output += weight[Int(token) * width..<(Int(token) + 1) * width]
        }
        return output
    }

    /// dE fp32 [V, C]: chain (R3) over the rows t ascending whose token is v, of dy [n, C]; +0 for a token that does not occur.
    ///
    /// - Precondition: the tokens are those of a forward pass: in range.
    public static func backward(tokens: [Int32], dy: [BFloat16], vocabulary: Int, width: Int) -> [Float] {
        precondition(dy.count == tokens.count * width)
        var gradient = [Float](repeating: 0, count: vocabulary * width)
        for (t, token) in tokens.enumerated() {
            for c in 0..<width {
                let element = Int(token) * width + c
                gradient[element] = SoftFloat32.add(gradient[element], widened(dy[t * width + c]))  // R3
            }
        }
        for element in gradient.indices { gradient[element] = SoftFloat32.add(gradient[element], 0) }  // R3
        return gradient
    }
}
