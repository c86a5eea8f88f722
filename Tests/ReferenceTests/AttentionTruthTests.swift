import BFloat16
import ExactMath
import ModelSpec
import Reference
import Testing

/// Identities of real numbers that hold for every row, where a formula evaluated as it is written would cancel.
@Suite("Q1: truth of attention keeps its bits where terms cancel")
struct AttentionTruthTests {
    private func rows(_ s: [Float], dp: [Float], c: Float = 0) -> (
        z: ExactAttention.Pair, p: ExactAttention.Pair, ds: ExactAttention.Pair
    ) {
        ExactAttention.rows(s, dp: dp, rows: 1, columns: s.count, zregC: c)
    }

    @Test(
        "two keys: dS_0 = -dS_1 to the last bit, however small the second's weight",
        arguments: [1, 5, 12, 20, 27, 35, 40, 45, 50] as [Float])
    func oppositeGradients(gap: Float) {
        for dp in [[1, -1], [3, 0.1], [0.7, 100]] as [[Float]] {
            let ds = rows([gap, 0], dp: dp).ds.truth
            #expect(ds[0] == -ds[1] && ds[0] != 0, "\(dp): \(ds)")
        }
    }

    @Test(
        "Z of 0 and of -x is log(1 + exp(-x)): exp(-x) itself once its square is nothing",
        arguments: [38, 42, 46, 50, 54] as [Float])
    func smallLogSumExp(x: Float) {
        #expect(rows([0, -x], dp: [0, 0]).z.truth[0] == MathFunction.exp.truth(-x))
    }

    @Test("keys with equal dP have dS = P dZ and nothing else, whatever their weights")
    func equalSlopes() {
        let exact = rows([3, 2.5, -40, 0], dp: [0.1, 0.1, 0.1, 0.1], c: 0.5)
        for j in 0..<4 {
            // c = 1/2: dZ = Z.
            let product = DoubleDouble(exact.p.truth[j]) * DoubleDouble(exact.z.truth[0])
            #expect(abs(exact.ds.truth[j] - product.high) <= 0x1p-51 * abs(product.high))
        }
        #expect(rows([3, 2.5, -40, 0], dp: [0.1, 0.1, 0.1, 0.1]).ds.truth == [0, 0, 0, 0])
    }
}

@Suite("Z5: what reports say of |Z|")
struct LogSumExpStatisticsTests {
    private func bf16s(_ values: [Float]) -> [BFloat16] {
        values.map { BFloat16(bitPattern: SoftFloat32.roundToBFloat16($0)) }
    }

    /// One head of dimension 1: logits q k.
    private func statistics(_ q: [Float], _ k: [Float], limit: [Int32]) throws -> LogSumExpStatistics {
        let mask = try Visibility(
            orientation: .byQuery, batch: 1, queries: q.count, keys: k.count,
            start: [Int32](repeating: 0, count: q.count), limit: limit)
        let shape = Attention.Shape(
            batch: 1, heads: 1, keyValueHeads: 1, queries: q.count, keys: k.count, headDimension: 1)
        let forward = try Attention.forward(
            query: bf16s(q), key: bf16s(k), value: bf16s(k), shape: shape, visibility: mask, scale: 1,
            recipe: .pairedFTZ)
        return LogSumExpStatistics(forward)
    }

    @Test("rows that see nothing are left out; Z of one visible key is its logit")
    func means() throws {
        let one = try statistics([3, -4, 100], [1, 50], limit: [1, 1, 0])
        #expect(one.rows == 2 && one.mean == 3.5 && one.largest == 4)
        #expect(one.rootMeanSquare == 12.5.squareRoot())
        // The largest |s| is 4.
        #expect(one.spacing == 0x1p-5)
        #expect("\(one)".hasPrefix("mean 3.5, rms 3.536, max 4.0; bf16 at the largest logit is spaced 0.03125"))
    }

    @Test("the spacing is that at the largest |s|, a negative one too, not at the largest |Z|")
    func spacing() throws {
        // Logits 2 and -200: Z is 2.
        let one = try statistics([2], [1, -100], limit: [2])
        #expect(one.largest < 2.001 && one.spacing == 1)
        // At 255 and 256.
        #expect(try statistics([1], [255], limit: [1]).spacing == 1)
        #expect(try statistics([1], [256], limit: [1]).spacing == 2)
    }

    @Test("nothing visible, logits of 0, and logits that are not finite")
    func edges() throws {
        let none = try statistics([1, 1], [1], limit: [0, 0])
        #expect(none.rows == 0 && none.mean == 0 && none.rootMeanSquare == 0 && none.largest == 0)
        #expect(try statistics([0], [1], limit: [1]).spacing == 0x1p-133)
        let infinite = try statistics([.infinity, 1], [1], limit: [1, 1])
        #expect(infinite.spacing.isNaN && infinite.largest.isNaN && infinite.mean.isNaN && infinite.rows == 2)
    }
}
