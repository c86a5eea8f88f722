/// Philox4x32-10 (G1; Salmon et al. 2011) and what is made of its words.
public struct RandomWords: Sendable {
    public let seed: UInt64
    public let stream: UInt32
    public let step: UInt32

    /// Counter words 2 and 3 are `stream` and `step` (G1).
    public init(seed: UInt64, stream: UInt32, step: UInt32) {
        self.seed = seed
        self.stream = stream
        self.step = step
    }

    /// The four words of a block: draws 4 n to 4 n + 3.
    @inline(__always)
    public func block(_ n: UInt64) -> (UInt32, UInt32, UInt32, UInt32) {
        var (c0, c1, c2, c3) = (UInt32(truncatingIfNeeded: n), UInt32(truncatingIfNeeded: n >> 32), stream, step)
        var (k0, k1) = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
        for _ in 0..<10 {
            let p0 = UInt64(0xD251_1F53) &* UInt64(c0)
            let p1 = UInt64(0xCD9E_8D57) &* UInt64(c2)
            (c0, c1, c2, c3) = (
                UInt32(truncatingIfNeeded: p1 >> 32) ^ c1 ^ k0, UInt32(truncatingIfNeeded: p1),
                UInt32(truncatingIfNeeded: p0 >> 32) ^ c3 ^ k1, UInt32(truncatingIfNeeded: p0)
            )
            k0 &+= 0x9E37_79B9
            k1 &+= 0xBB67_AE85
        }
        return (c0, c1, c2, c3)
    }

    /// Draw n.
    public func word(_ n: UInt64) -> UInt32 {
        let words = block(n >> 2)
        switch n & 3 {
        case 0: return words.0
        case 1: return words.1
        case 2: return words.2
        default: return words.3
        }
    }

    /// Uniform on (0, 1), G2.
    @inline(__always)
    public static func uniform(_ word: UInt32) -> Float { Float(2 &* (word >> 9) &+ 1) * 0x1p-24 }

    /// Standard Gumbel, G3.
    public static func gumbel(_ word: UInt32) -> Float {
        let v = min(Float(2 * UInt64(word) + 1) * 0x1p-33, 1 - 0x1p-24)
        return -ScalarMath.log(-ScalarMath.log1p(-v))
    }

    /// Two standard normal numbers, G4.
    public static func normal(_ first: UInt32, _ second: UInt32) -> (Float, Float) {
        let radius = ScalarMath.sqrt(-2 * ScalarMath.log(uniform(first)))
        let angle = 2 * uniform(second)
        return (radius * ScalarMath.cosPi(angle), radius * ScalarMath.sinPi(angle))
    }
}
