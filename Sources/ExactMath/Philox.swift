/// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011 (G1). No other randomness exists in this package.
public enum Philox4x32 {
    /// Ten rounds of the bijection on 128 bits that the key selects, applied to the counter.
    ///
    /// A round multiplies counter words 0 and 2 by constants to 64 bits, and with (high, low) of each product gives
    /// (high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0). Every round but the first adds a constant to each key word before.
    /// All arithmetic is modulo 2^32; every key and counter is valid.
    public static func block(
        key: (UInt32, UInt32), counter: (UInt32, UInt32, UInt32, UInt32)
    ) -> (UInt32, UInt32, UInt32, UInt32) {
        var (k0, k1) = key
        var (c0, c1, c2, c3) = counter
        for round in 0..<10 {
            if round > 0 {
                // Weyl sequences: the golden ratio and the square root of 3 less 1, in units of 2^-32.
                k0 &+= 0x9E37_79B9
                k1 &+= 0xBB67_AE85
            }
            let product0 = UInt64(0xD251_1F53) * UInt64(c0)
            let product2 = UInt64(0xCD9E_8D57) * UInt64(c2)
            (c0, c1, c2, c3) = (
                UInt32(product2 >> 32) ^ c1 ^ k0, UInt32(truncatingIfNeeded: product2),
                UInt32(product0 >> 32) ^ c3 ^ k1, UInt32(truncatingIfNeeded: product0)
            )
        }
        return (c0, c1, c2, c3)
    }
}

/// A numbered sequence of 2^64 random words that can be read at any place (G1).
///
/// The key is the seed (low word, high word), the counter (block low, block high, stream, step). Draw n is word n mod 4
/// of block n div 4: it depends on nothing but seed, stream, step and n.
public struct RandomStream: Sendable, Hashable {
    public let seed: UInt64
    /// What the numbers are for: one of the named constants of `RandomStreams`.
    public let stream: UInt32
    /// The training step, or 0.
    public let step: UInt32

    public init(seed: UInt64, stream: UInt32, step: UInt32) {
        self.seed = seed
        self.stream = stream
        self.step = step
    }

    /// Draw n.
    public func word(_ n: UInt64) -> UInt32 {
        let block = n / 4
        let words = Philox4x32.block(
            key: (UInt32(truncatingIfNeeded: seed), UInt32(seed >> 32)),
            counter: (UInt32(truncatingIfNeeded: block), UInt32(block >> 32), stream, step))
        switch n % 4 {
        case 0: return words.0
        case 1: return words.1
        case 2: return words.2
        default: return words.3
        }
    }
}
