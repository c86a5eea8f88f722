import ExactMath
import Foundation
import Reference
import Testing

@Suite("K: Gumbel sampling")
struct GumbelTests {
    private func stream(_ step: Int) -> RandomStream { RandomStream(seed: 77, stream: 2, step: UInt32(step)) }

    private static let logits: [Float] = [1, -0.5, 2, 0, 1.5, -2, 0.25, 3]

    /// Softmax in fp64 by the platform's exp.
    private func softmax(_ s: [Float]) -> [Double] {
        let e = s.map { Foundation.exp(Double($0)) }
        let sum = e.reduce(0, +)
        return e.map { $0 / sum }
    }

    @Test("K1: the sample is the k largest phi in order, kappa the next, weights as K2 says", arguments: 0..<20)
    func order(step: Int) throws {
        let s = Self.logits
        let z = LogSumExp.row(s).z
        let phi = (0..<8).map { j in
            SoftFloat32.add(SoftFloat32.subtract(s[j], z), RandomDistributions.gumbel(stream(step).word(UInt64(j))))
        }
        let ranked = (0..<8).sorted { phi[$0] != phi[$1] ? phi[$0] > phi[$1] : $0 < $1 }
        for k in 0...10 {
            let sample = try Gumbel.topK(logits: s, rows: 1, vocabulary: 8, k: k, stream: stream(step))
            #expect(sample.ids.prefix(8).map { Int($0) } == Array(ranked.prefix(k)))
            #expect(sample.ids.dropFirst(8).allSatisfy { $0 == 0xFFFF_FFFF })
            #expect(sample.kappa[0] == (k < 8 ? phi[ranked[k]] : -.infinity))
            for slot in 0..<min(k, 8) {
                let logp = Double(SoftFloat32.subtract(s[ranked[slot]], z))
                let expected =
                    k >= 8
                    ? Foundation.exp(logp)
                    : Foundation.exp(logp) / -Foundation.expm1(-Foundation.exp(logp - Double(sample.kappa[0])))
                #expect(abs(Double(sample.weights[slot]) - expected) < 1e-6 * expected)
            }
        }
    }

    /// E[w_j 1(j sampled)] integrated over a grid of cells of equal probability for each token's noise; kappa and the sample from phi in
    /// fp64, the weight from the code.
    @Test(
        "K5: the weight is unbiased, by quadrature over the noise of two and three tokens",
        arguments: [(2, 1), (3, 1), (3, 2)])
    func quadrature(tokens: Int, k: Int) {
        let p = tokens == 2 ? [0.2, 0.8] : [0.2, 0.3, 0.5]
        let cells = tokens == 2 ? 400 : 72
        let noise = (0..<cells).map { -Foundation.log(-Foundation.log((Double($0) + 0.5) / Double(cells))) }
        var estimate = [Double](repeating: 0, count: tokens)
        var biased = estimate
        var points = 1
        for _ in 0..<tokens { points *= cells }
        for point in 0..<points {
            var rest = point
            var phi: [Double] = []
            for j in 0..<tokens {
                phi.append(Foundation.log(p[j]) + noise[rest % cells])
                rest /= cells
            }
            let ranked = (0..<tokens).sorted { phi[$0] > phi[$1] }
            for j in ranked.prefix(k) {
                let w = Gumbel.weight(Float(Foundation.log(p[j])), kappa: Float(phi[ranked[k]]))
                estimate[j] += Double(w) / Double(points)
                biased[j] += p[j] / Double(points)
            }
        }
        for j in 0..<tokens { #expect(abs(estimate[j] - p[j]) < 0.012, "\(estimate)") }
        #expect(abs(biased[0] - p[0]) > 0.03, "a weight of p alone is far off: the check can fail")
    }

    /// The mean of w_j 1(j sampled) over 20,000 rows lies within 5 standard errors of p_j for every one of 64 tokens. A bias of 5 % of a token with p above
    /// 0.02 is 6 standard errors and more: it would be found with probability above 80 % for each such token, of which there are more than ten.
    @Test("K5: unbiased over 20,000 draws of the code itself, 64 tokens")
    func unbiased() throws {
        let logits = (0..<64).map { Float(($0 * 29) % 64) / 16 - 2 }
        let p = softmax(logits)
        let rows = 20_000
        var (sum, squares, plain) = (
            [Double](repeating: 0, count: 64), [Double](repeating: 0, count: 64), [Double](repeating: 0, count: 64)
        )
        for step in 0..<rows / 100 {
            let sample = try Gumbel.topK(
                logits: (0..<100).flatMap { _ in logits }, rows: 100, vocabulary: 64, k: 8, stream: stream(step))
            for slot in 0..<800 {
                let (j, w) = (Int(sample.ids[slot]), Double(sample.weights[slot]))
                sum[j] += w
                squares[j] += w * w
                plain[j] += p[j]
            }
        }
        var (control, powerful) = (0, 0)
        for j in 0..<64 {
            let mean = sum[j] / Double(rows)
            let error = ((squares[j] / Double(rows) - mean * mean) / Double(rows)).squareRoot()
            #expect(abs(mean - p[j]) < 5 * error, "token \(j): \(mean), expected \(p[j]) +- \(error)")
            if abs(plain[j] / Double(rows) - p[j]) > 5 * error { control += 1 }
            if p[j] > 0.02 && 0.05 * p[j] > 6 * error * 0.5 { powerful += 1 }
        }
        #expect(control >= 60, "weights of p alone are found out for nearly every token: \(control)")
        #expect(powerful >= 10)
    }

    @Test("K2: with replacement each slot has the model's distribution")
    func replacement() throws {
        let p = softmax(Self.logits)
        let rows = 2000
        var counts = [Double](repeating: 0, count: 8)
        let sample = try Gumbel.withReplacement(
            logits: (0..<rows).flatMap { _ in Self.logits }, rows: rows, vocabulary: 8, k: 4, stream: stream(1))
        for id in sample.ids { counts[Int(id)] += 1 }
        #expect(sample.weights.allSatisfy { $0 == 0.25 })
        var chi = 0.0
        for j in 0..<8 { chi += (counts[j] - 8000 * p[j]) * (counts[j] - 8000 * p[j]) / (8000 * p[j]) }
        // 7 degrees of freedom: above 30 once in ten thousand.
        #expect(chi < 30, "\(chi)")
        // Uniform counts would give far more: the test has power.
        let uniform = p.reduce(0) { $0 + (1000 - 8000 * $1) * (1000 - 8000 * $1) / (8000 * $1) }
        #expect(uniform > 1000)
    }

    @Test("K3: the relaxed sample's gradient by central differences, and rows of y that sum to 1")
    func softmaxGradient() throws {
        let dy: [Float] = [0.5, -1, 2, 0.25, -0.75, 1, 0, 0.125]
        let noise = (0..<8).map { Double(RandomDistributions.gumbel(stream(4).word(UInt64($0)))) }
        let relaxed = try Gumbel.softmax(
            logits: Self.logits, outputGradient: dy, rows: 1, vocabulary: 8, tau: 0.75, stream: stream(4))
        func loss(_ s: [Double]) -> Double {
            let z = (0..<8).map { (s[$0] + noise[$0]) / 0.75 }
            let e = z.map { Foundation.exp($0 - z.max()!) }
            return (0..<8).reduce(0) { $0 + Double(dy[$1]) * e[$1] / e.reduce(0, +) }
        }
        #expect(abs(relaxed.output.reduce(0, +) - 1) < 1e-6)
        for j in 0..<8 {
            var (up, down) = (Self.logits.map(Double.init), Self.logits.map(Double.init))
            up[j] += 1e-5
            down[j] -= 1e-5
            #expect(abs((loss(up) - loss(down)) / 2e-5 - Double(relaxed.logitsGradient[j])) < 1e-5)
        }
    }

    @Test("K1, K3: what cannot be sampled is an error that names row and column")
    func refusals() {
        #expect(throws: Gumbel.SampleError.logit(row: 1, column: 0, bits: 0x7F80_0000)) {
            try Gumbel.topK(logits: [0, 1, .infinity, 2], rows: 2, vocabulary: 2, k: 1, stream: stream(0))
        }
        #expect(throws: Gumbel.SampleError.logit(row: 0, column: 1, bits: 0x7FC0_0000)) {
            try Gumbel.withReplacement(logits: [0, .nan], rows: 1, vocabulary: 2, k: 1, stream: stream(0))
        }
        for tau in [0, -1, .nan, .infinity] as [Float] {
            #expect(throws: Gumbel.SampleError.self) {
                try Gumbel.softmax(
                    logits: [0], outputGradient: [0], rows: 1, vocabulary: 1, tau: tau, stream: stream(0))
            }
        }
        #expect(throws: Gumbel.SampleError.self) {
            try Gumbel.softmax(
                logits: [-.infinity, 0], outputGradient: [0, 0], rows: 1, vocabulary: 2, tau: 1, stream: stream(0))
        }
    }

    @Test("K1, K2: equal phi: the lower id comes first")
    func ties() throws {
        let lost = try Gumbel.topK(
            logits: [0] + [Float](repeating: -1e9, count: 7), rows: 1, vocabulary: 8, k: 4, stream: stream(0))
        #expect(lost.ids == [0, 1, 2, 3])
        let draws = RandomStream(seed: 0x746F_7563_6873_746F, stream: 2, step: 762_149)
        let noise = [100, 101].map { RandomDistributions.gumbel(draws.word($0)) }
        #expect(noise[0] == noise[1] && draws.word(100) != draws.word(101), "slot 50 is a tie")
        let equal = try Gumbel.withReplacement(logits: [0, 0], rows: 1, vocabulary: 2, k: 51, stream: draws)
        #expect(equal.ids[50] == 0)
    }

    @Test("K1: -infinity never enters; K4: what the stored form takes")
    func emptySlots() throws {
        let sample = try Gumbel.topK(
            logits: [-.infinity, 2, -.infinity], rows: 1, vocabulary: 3, k: 2, stream: stream(0))
        #expect(sample.ids == [1, 0xFFFF_FFFF] && sample.weights == [1, 0] && sample.kappa == [-.infinity])
        let none = try Gumbel.topK(logits: [-.infinity], rows: 1, vocabulary: 1, k: 1, stream: stream(0))
        #expect(none.ids == [0xFFFF_FFFF] && none.weights == [0])
        let storage = Gumbel.StorageReport(rows: 10, vocabulary: 32_000, k: 50)
        #expect(storage.bytes == 4000 && storage.logitBytes == 640_000)
    }
}
