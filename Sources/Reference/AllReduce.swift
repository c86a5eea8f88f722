import BFloat16
import ExactMath
import ModelSpec

/// The mean of a gradient over W simulated ranks (S8, T5).
///
/// Gradients are [W, n] in C order: row r is rank r's. Every rank ends with the same bits, so one result is returned.
public enum AllReduce {
    // MARK: - Squinch

    /// The bytes that all ranks together send over both legs, beside what other formats would take (S8).
    ///
    /// On the first leg each rank sends the owner of each shard but its own its blocks of that shard; on the second each
    /// owner sends the reduced blocks of its shard to every other rank. So each leg moves W - 1 times the tensor,
    /// whatever the shards. A single rank moves nothing.
    public struct Traffic: Sendable, Hashable, CustomStringConvertible {
        /// Contributions on their way to the owners: 6 bytes a block.
        public let scattered: Int
        /// Reduced blocks on their way to every rank: 6 bytes a block.
        public let gathered: Int
        /// Both legs, had the elements moved as fp32: 4 bytes an element, no padding.
        public let asFP32: Int
        /// Both legs, had the elements moved as bf16: 2 bytes an element, no padding.
        public let asBF16: Int

        public var total: Int { scattered + gathered }

        public var description: String {
            "\(total) bytes over both legs; fp32 would take \(asFP32), bf16 \(asBF16)"
        }
    }

    /// What an all-reduce moved and what the scales lost (S8, S9).
    public struct Report: Sendable, Hashable, CustomStringConvertible {
        public let traffic: Traffic
        /// The blocks that the ranks encoded, of all of them together.
        public let contributions: Squinch.Report
        /// The blocks that the owners encoded.
        public let reduction: Squinch.Report

        public var description: String {
            "\(traffic)\ncontributions: \(contributions)\nreduction: \(reduction)"
        }
    }

    /// The result of the all-reduce with Squinch on both legs.
    public struct Compressed: Sendable, Hashable {
        /// The mean as every rank decodes it [n].
        public let reduced: [Float]
        /// Each rank's encoded gradient [W, nb, 6], nb = ceil(n / 8).
        public let encoded: [UInt8]
        /// The reduced blocks that every rank receives [nb, 6].
        public let reducedBlocks: [UInt8]
        /// With error feedback each rank's new residual [W, n]; empty without.
        public let residual: [Float]
        public let report: Report
    }

    /// The blocks that a rank r owns: floor(r nb / W) ..< floor((r + 1) nb / W) (S8).
    ///
    /// The shards of all ranks are disjoint and together all blocks. Where W > nb some are empty.
    public static func shard(ofRank rank: Int, ranks: Int, blocks: Int) -> Range<Int> {
        precondition(ranks >= 1 && (0..<ranks).contains(rank) && blocks >= 0, "no rank \(rank) of \(ranks)")
        return rank * blocks / ranks..<(rank + 1) * blocks / ranks
    }

    /// All-reduce with Squinch on both legs (S8).
    ///
    /// A rank encodes its gradient; the owner of a shard decodes the W contributions to it, adds them in rank order in
    /// fp32 from +0, multiplies by RNE32(1/W), and encodes the mean; every rank decodes that. W = 1 is no exception: it
    /// encodes twice. A contribution decodes to 1.56e9 at most, so that the sum is finite for every W; a mean above
    /// M[255] is clipped and counted. A mean of zero is +0, so that of opposite contributions too.
    ///
    /// - Parameters:
    ///   - g: the gradients [W, n].
    ///   - nonfinite: what becomes of infinities in g (S6). With error feedback they are refused under either policy (S7).
    ///   - e: with error feedback e [W, n], each rank's own from the step before; nil without.
    ///   - random: for `stochastic15`, words [W, n] for the contributions; not read otherwise.
    ///   - randomReduced: for `stochastic15`, words [n] for the reduced blocks; not read otherwise.
    /// - Throws: ``SquinchError``, naming rank and index of the first value that is refused.
    public static func squinch(
        _ g: [Float], ranks: Int, variant: SquinchVariant, nonfinite: NonfinitePolicy = .refuse,
        residual e: [Float]? = nil, random: [UInt32] = [], randomReduced: [UInt32] = []
    ) throws(SquinchError) -> Compressed {
        guard ranks >= 1, g.count % ranks == 0 else { throw .ranks(ranks, values: g.count) }
        let n = g.count / ranks
        let blocks = Squinch.blockCount(n)
        if let e, e.count != g.count { throw .valueCount(name: "e", e.count, expected: g.count) }
        let isStochastic = variant == .stochastic15
        if isStochastic && random.count != g.count {
            throw .valueCount(name: "random", random.count, expected: g.count)
        }
        if isStochastic && randomReduced.count != n {
            throw .valueCount(name: "random_reduced", randomReduced.count, expected: n)
        }

        // S8: each rank encodes its gradient, with its own error feedback if on.
        var contributions = Squinch.Report()
        var encoded: [UInt8] = []
        var residual: [Float] = []
        for rank in 0..<ranks {
            let row = rank * n..<(rank + 1) * n
            let words = isStochastic ? Array(random[row]) : []
            do throws(SquinchError) {
                if let e {
                    let feedback = try Squinch.feedback(
                        Array(g[row]), Array(e[row]), variant: variant, random: words, report: &contributions)
                    encoded += feedback.blocks
                    residual += feedback.residual
                } else {
                    encoded += try Squinch.encode(
                        Array(g[row]), variant: variant, nonfinite: nonfinite, random: words, report: &contributions)
                }
            } catch {
                throw error.at(rank: rank)
            }
        }

        // S8: each owner reduces its shard.
        let reciprocal = SoftFloat32.reciprocal(of: UInt64(ranks))
        var reduction = Squinch.Report()
        var reducedBlocks: [UInt8] = []
        for owner in 0..<ranks {
            let shard = shard(ofRank: owner, ranks: ranks, blocks: blocks)
            var mean = [Float](repeating: 0, count: 8 * shard.count)
            for rank in 0..<ranks {
                // Row `rank` of [W, nb, 6], the owner's blocks of it.
                let first = 6 * (rank * blocks + shard.lowerBound)
                let contribution = try Squinch.decode(
                    Array(encoded[first..<first + 6 * shard.count]), variant: variant, count: 8 * shard.count)
                // S8: in rank order from +0.
                for index in 0..<mean.count { mean[index] = SoftFloat32.add(mean[index], contribution[index]) }
            }
            var words: [UInt32] = []
            for index in 0..<mean.count {
                let element = 8 * shard.lowerBound + index
                // S8: times RNE32(1/W).
                mean[index] = SoftFloat32.multiply(mean[index], reciprocal)
                // S8: the padding of the tail, which floor16 has decoded to M/1024, is +0 again.
                if element >= n { mean[index] = 0 }
                if isStochastic { words.append(element < n ? randomReduced[element] : 0) }
            }
            reducedBlocks += try Squinch.encode(mean, variant: variant, random: words, report: &reduction)
        }

        // S8: every rank decodes the same bytes.
        let reduced = try Squinch.decode(reducedBlocks, variant: variant, count: n)
        let traffic = Traffic(
            scattered: (ranks - 1) * 6 * blocks, gathered: (ranks - 1) * 6 * blocks, asFP32: 2 * (ranks - 1) * 4 * n,
            asBF16: 2 * (ranks - 1) * 2 * n)
        return Compressed(
            reduced: reduced, encoded: encoded, reducedBlocks: reducedBlocks, residual: residual,
            report: Report(traffic: traffic, contributions: contributions, reduction: reduction))
    }

    // MARK: - Uncompressed

    /// fp32: the sum in rank order from +0, times RNE32(1/W) (T5). g [W, n], result [n].
    ///
    /// NaN, infinities and overflow are as fp32 addition has them; NaN is canonical. A single -0 becomes +0, also for
    /// W = 1.
    /// - Precondition: W is at least 1 and divides the number of values.
    public static func fp32(_ g: [Float], ranks: Int) -> [Float] {
        precondition(ranks >= 1 && g.count % ranks == 0, "\(g.count) values are not the gradients of \(ranks) ranks")
        let n = g.count / ranks
        let reciprocal = SoftFloat32.reciprocal(of: UInt64(ranks))
        var mean: [Float] = []
        for index in 0..<n {
            var sum: Float = 0
            for rank in 0..<ranks { sum = SoftFloat32.add(sum, g[rank * n + index]) }
            mean.append(SoftFloat32.multiply(sum, reciprocal))
        }
        return mean
    }

    /// bf16: each rank rounds to bf16; the fp32 sum in rank order from +0, times RNE32(1/W), is rounded to bf16 (T5).
    ///
    /// g [W, n], result [n]. Edge cases as ``fp32(_:ranks:)``; a gradient of 2^128 - 2^119 or more rounds to infinity.
    /// - Precondition: W is at least 1 and divides the number of values.
    public static func bf16(_ g: [Float], ranks: Int) -> [BFloat16] {
        var rounded: [Float] = []
        for value in g {
            // T5, F4
            rounded.append(SoftFloat32.convert(bfloat16Bits: SoftFloat32.roundToBFloat16(value)))
        }
        var mean: [BFloat16] = []
        for value in fp32(rounded, ranks: ranks) {
            // T5, F4
            mean.append(BFloat16(bitPattern: SoftFloat32.roundToBFloat16(value)))
        }
        return mean
    }
}
