import ExactMath
import Testing

@Suite("Random numbers (G1-G4)")
struct RandomNumberTests {
    /// Random123's kat_vectors for philox4x32, 10 rounds.
    @Test("Philox4x32-10: the published known answers (G1)")
    func knownAnswers() {
        let vectors: [(counter: [UInt32], key: [UInt32], expected: [UInt32])] = [
            ([0, 0, 0, 0], [0, 0], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]),
            (
                [.max, .max, .max, .max], [.max, .max], [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]
            ),
            (
                [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0],
                [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]
            ),
        ]
        for (counter, key, expected) in vectors {
            let block = Philox4x32.block(
                key: (key[0], key[1]), counter: (counter[0], counter[1], counter[2], counter[3]))
            #expect([block.0, block.1, block.2, block.3] == expected)
        }
    }

    @Test("a stream's draws are the words of its blocks, at any distance (G1)")
    func streams() {
        let stream = RandomStream(seed: 0x0123_4567_89AB_CDEF, stream: 3, step: 9)
        for n in [0, 1, 2, 3, 4, 7, 1 << 33, .max] as [UInt64] {
            let block = Philox4x32.block(
                key: (0x89AB_CDEF, 0x0123_4567),
                counter: (UInt32(truncatingIfNeeded: n / 4), UInt32(truncatingIfNeeded: (n / 4) >> 32), 3, 9))
            #expect(stream.word(n) == [block.0, block.1, block.2, block.3][Int(n % 4)])
        }
    }

    @Test("uniform: exact, symmetric, never 0 or 1 (G2)")
    func uniform() {
        #expect(RandomDistributions.uniform(0) == 0x1p-24)
        #expect(RandomDistributions.uniform(511) == 0x1p-24, "the low nine bits do not count")
        #expect(RandomDistributions.uniform(512) == 3 * 0x1p-24)
        #expect(RandomDistributions.uniform(.max) == 1 - 0x1p-24)
        for word in stride(from: 0, through: UInt32.max, by: 9_999_991) {
            let u = RandomDistributions.uniform(word)
            #expect(u == Float(Double(2 * (word >> 9) + 1) * 0x1p-24))
            #expect(u + RandomDistributions.uniform(~word) == 1)
        }
    }

    @Test("gumbel: its ends, and growing with the word (G3)")
    func gumbel() {
        // v = 2^-33: t = RNE32(-log1p(-2^-33)) = 2^-33, g = 33 ln 2 = 22.87...
        #expect(RandomDistributions.gumbel(0) == CorrectlyRounded.log(0x1p-33) * -1)
        #expect(RandomDistributions.gumbel(0) > 22.8 && RandomDistributions.gumbel(0) < 22.9)
        // v is capped at 1 - 2^-24: t = 24 ln 2, g = -log(16.6...) = -2.81...
        #expect(RandomDistributions.gumbel(.max) < -2.8 && RandomDistributions.gumbel(.max) > -2.82)
        var last = Float.infinity
        for word in stride(from: 0, through: UInt32.max, by: 4_999_999) {
            let g = RandomDistributions.gumbel(word)
            #expect(g <= last)
            last = g
        }
    }

    @Test("normal: the radius from the first word, the angle from the second (G4)")
    func normal() {
        // u2 = 1/4 + 2^-24: a quarter turn, nearly. u1 = 2^-24: the greatest radius.
        let (x, y) = RandomDistributions.normal(0, 0x4000_0000)
        #expect(y > 5.76 && y < 5.77, "sqrt(48 ln 2) = 5.768")
        #expect(x < 0 && x > -1e-5)
        let (one, other) = RandomDistributions.normal(.max, 0)
        #expect(one > 0 && one < 0.0004 && other > 0 && other < 1e-9, "u1 next to 1: no radius")
        // Mean and variance of 100,000 draws, six standard errors.
        let stream = RandomStream(seed: 1, stream: 0, step: 0)
        var (sum, squares) = (0.0, 0.0)
        let count = 50_000
        for n in 0..<UInt64(count) {
            let (a, b) = RandomDistributions.normal(stream.word(2 * n), stream.word(2 * n + 1))
            sum += Double(a) + Double(b)
            squares += Double(a) * Double(a) + Double(b) * Double(b)
        }
        let mean = sum / Double(2 * count)
        let variance = squares / Double(2 * count)
        #expect(mean.magnitude < 6 / Double(2 * count).squareRoot())
        #expect((variance - 1).magnitude < 6 * (2 / Double(2 * count)).squareRoot())
    }
}
