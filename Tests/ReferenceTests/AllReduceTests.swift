import BFloat16
import ExactMath
import ModelSpec
import Reference
import Testing

@Suite("All-reduce (S8, T5)")
struct AllReduceTests {
    /// Values of gradients' sizes, from Philox.
    private func gradients(_ count: Int, stream: UInt32) -> [Float] {
        let random = RandomStream(seed: 0x5EED, stream: stream, step: 0)
        return (0..<count).map { index in
            let word = random.word(UInt64(index))
            return Float(bitPattern: (100 + word % 24) << 23 | word & 0x807F_FFFF)
        }
    }

    /// The whole reduction in one place, with the processor's arithmetic and no shards: only the codec is shared.
    private func inOnePiece(
        _ g: [Float], ranks: Int, _ variant: SquinchVariant, _ random: [UInt32], _ reduced: [UInt32]
    ) throws -> [UInt8] {
        let n = g.count / ranks
        var mean = [Float](repeating: 0, count: n)
        for rank in 0..<ranks {
            let own = Array(g[rank * n..<(rank + 1) * n])
            let words = variant == .stochastic15 ? Array(random[rank * n..<(rank + 1) * n]) : []
            let decoded = try Squinch.decode(
                try Squinch.encode(own, variant: variant, random: words), variant: variant, count: n)
            for index in 0..<n { mean[index] += decoded[index] }
        }
        let reciprocal = Float(1 / Double(ranks))
        return try Squinch.encode(
            mean.map { $0 * reciprocal }, variant: variant, random: variant == .stochastic15 ? reduced : [])
    }

    @Test(
        "shards change no bit; the tail's padding stays +0; ranks without blocks are no problem (S8)",
        arguments: SquinchVariant.allCases, [1, 2, 3, 4, 5, 16])
    func shards(_ variant: SquinchVariant, _ ranks: Int) throws {
        for n in [0, 1, 7, 8, 9, 40, 61, 200] {
            let g = gradients(ranks * n, stream: UInt32(ranks))
            let words = RandomStream(seed: 7, stream: 1, step: 0)
            let random = (0..<UInt64(ranks * n)).map(words.word)
            let reduced = (0..<UInt64(n)).map { words.word($0 + 1_000_000) }
            let isStochastic = variant == .stochastic15
            let answer = try AllReduce.squinch(
                g, ranks: ranks, variant: variant, random: isStochastic ? random : [],
                randomReduced: isStochastic ? reduced : [])
            let expected = try inOnePiece(g, ranks: ranks, variant, random, reduced)
            #expect(answer.reducedBlocks == expected, "\(variant.rawValue), \(ranks) ranks, n = \(n)")
            #expect(answer.reduced == (try Squinch.decode(expected, variant: variant, count: n)))
            #expect(answer.encoded.count == ranks * 6 * Squinch.blockCount(n))
        }
    }

    @Test("shards are contiguous, disjoint and all of the blocks (S8)", arguments: [1, 2, 3, 5, 8, 13])
    func shardRanges(_ ranks: Int) {
        for blocks in [0, 1, 2, 7, 64, 1001] {
            var next = 0
            for rank in 0..<ranks {
                let shard = AllReduce.shard(ofRank: rank, ranks: ranks, blocks: blocks)
                #expect(shard.lowerBound == next)
                next = shard.upperBound
            }
            #expect(next == blocks)
        }
    }

    @Test("one rank encodes twice (S8)")
    func oneRank() throws {
        let g = gradients(64, stream: 1)
        let once = try Squinch.decode(try Squinch.encode(g, variant: .floor16), variant: .floor16, count: 64)
        let twice = try Squinch.decode(try Squinch.encode(once, variant: .floor16), variant: .floor16, count: 64)
        let answer = try AllReduce.squinch(g, ranks: 1, variant: .floor16)
        #expect(answer.reduced == twice)
        #expect(answer.reduced != g)
    }

    @Test("error feedback: each rank's own residual, as S7 has it")
    func feedback() throws {
        let (g, e) = (gradients(3 * 40, stream: 2), gradients(3 * 40, stream: 3))
        let answer = try AllReduce.squinch(g, ranks: 3, variant: .round15, residual: e)
        for rank in 0..<3 {
            let range = rank * 40..<(rank + 1) * 40
            let own = try Squinch.feedback(Array(g[range]), Array(e[range]), variant: .round15)
            #expect(Array(answer.residual[range]) == own.residual)
            #expect(Array(answer.encoded[rank * 30..<(rank + 1) * 30]) == own.blocks)
        }
    }

    @Test("a refused value names its rank and index (S6, S8)")
    func refused() throws {
        var g = gradients(3 * 16, stream: 4)
        g[16 + 5] = .nan
        do {
            _ = try AllReduce.squinch(g, ranks: 3, variant: .floor16)
            Issue.record("a NaN was accepted")
        } catch {
            #expect("\(error)".contains("rank 1") && "\(error)".contains("5"), "\(error)")
        }
    }

    @Test("fp32 and bf16 in rank order from +0, times RNE32(1/W) (T5)", arguments: [1, 2, 3, 7])
    func plain(_ ranks: Int) {
        let n = 500
        let g = gradients(ranks * n, stream: 5)
        let reciprocal = Float(1 / Double(ranks))
        let fp32 = AllReduce.fp32(g, ranks: ranks)
        let bf16 = AllReduce.bf16(g, ranks: ranks)
        for index in 0..<n {
            var sum: Float = 0
            var roundedSum: Float = 0
            for rank in 0..<ranks {
                let value = g[rank * n + index]
                sum += value
                roundedSum += Float(bitPattern: UInt32(SoftFloat32.roundToBFloat16(value)) << 16)
            }
            #expect(fp32[index].bitPattern == (sum * reciprocal).bitPattern)
            #expect(bf16[index].bitPattern == SoftFloat32.roundToBFloat16(roundedSum * reciprocal))
        }
    }
}
