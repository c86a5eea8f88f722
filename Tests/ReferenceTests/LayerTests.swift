import BFloat16
import ExactMath
import Foundation
import ModelSpec
import Reference
import Testing

/// Normal variates in bf16 or fp32.
private struct Normal {
    private let stream: RandomStream
    private var draw: UInt64 = 0

    init(_ seed: UInt64) { stream = RandomStream(seed: seed, stream: 21, step: 0) }

    mutating func float() -> Float {
        draw += 2
        return RandomDistributions.normal(stream.word(draw), stream.word(draw + 1)).0
    }

    mutating func floats(_ count: Int) -> [Float] { (0..<count).map { _ in float() } }
    mutating func bf16s(_ count: Int) -> [BFloat16] {
        (0..<count).map { _ in BFloat16(bitPattern: SoftFloat32.roundToBFloat16(float())) }
    }
}

/// The central difference of a loss in one coordinate.
private func slope(_ x: [Double], _ index: Int, _ loss: ([Double]) -> Double) -> Double {
    var (up, down) = (x, x)
    up[index] += 1e-5
    down[index] -= 1e-5
    return (loss(up) - loss(down)) / 2e-5
}

private func doubles(_ x: [BFloat16]) -> [Double] { x.map { Double(Float($0)) } }

@Suite("T2: layers")
struct LayerTests {
    @Test("T2: RMSNorm's gradients by central differences of a plain fp64 one")
    func rmsNorm() {
        var random = Normal(1)
        let (rows, width) = (3, 19)
        let (x, gain, dy) = (random.bf16s(rows * width), random.bf16s(width), random.bf16s(rows * width))
        func loss(_ x: [Double], _ g: [Double]) -> Double {
            (0..<rows).reduce(0.0) { total, row in
                let values = Array(x[row * width..<(row + 1) * width])
                let r = 1 / (values.reduce(0) { $0 + $1 * $1 } / Double(width) + 0x1p-10).squareRoot()
                return total
                    + (0..<width).reduce(0.0) { $0 + Double(Float(dy[row * width + $1])) * values[$1] * r * g[$1] }
            }
        }
        let gradients = RMSNorm.backward(
            outputGradient: dy, x: x, gain: gain, rows: rows, width: width, epsilon: 0x1p-10)
        for index in x.indices {
            #expect(abs(slope(doubles(x), index) { loss($0, doubles(gain)) } - Double(gradients.input[index])) < 2e-6)
        }
        for index in gain.indices {
            #expect(abs(slope(doubles(gain), index) { loss(doubles(x), $0) } - Double(gradients.gain[index])) < 2e-6)
        }
        let forward = RMSNorm.forward(x, gain: gain, rows: rows, width: width, epsilon: 0x1p-10)
        for row in 0..<rows {
            let r = Double(forward.inverseRootMeanSquare[row])
            for c in 0..<width {
                let exact = Double(Float(x[row * width + c])) * r * Double(Float(gain[c]))
                #expect(abs(Double(Float(forward.output[row * width + c])) - exact) <= abs(exact) * 0x1.01p-8 + 1e-30)
            }
        }
    }

    @Test("E4, T2: a rotation keeps the length, its gradient is its transpose, and pair i turns with i + D/2")
    func rotary() {
        var random = Normal(2)
        let positions: [Int32] = [0, 1, 7, 1000]
        let (x, dy) = (random.bf16s(4 * 2 * 8), random.bf16s(4 * 2 * 8))
        let y = Rotary.forward(x, positions: positions, heads: 2, headDimension: 8, base: 100)
        let dx = Rotary.backward(dy, positions: positions, heads: 2, headDimension: 8, base: 100)
        func dot(_ a: [BFloat16], _ b: [BFloat16]) -> Double {
            zip(doubles(a), doubles(b)).reduce(0) { $0 + $1.0 * $1.1 }
        }
        #expect(abs(dot(y, dy) - dot(x, dx)) < 0.02 * (dot(x, x) * dot(dy, dy)).squareRoot() * 0.1)
        #expect(abs(dot(y, y) / dot(x, x) - 1) < 0.01)
        for (row, position) in positions.enumerated() {
            for head in 0..<2 {
                for i in 0..<4 {
                    let start = (row * 2 + head) * 8
                    let angle = Double(position) * Foundation.pow(100, -Double(i) / 4)
                    let (a, b) = (Double(Float(x[start + i])), Double(Float(x[start + 4 + i])))
                    let tolerance = 0x1p-8 * (abs(a) + abs(b)) + 1e-4
                    #expect(
                        abs(Double(Float(y[start + i])) - (a * Foundation.cos(angle) - b * Foundation.sin(angle)))
                            < tolerance)
                    #expect(
                        abs(Double(Float(y[start + 4 + i])) - (a * Foundation.sin(angle) + b * Foundation.cos(angle)))
                            < tolerance)
                }
            }
        }
    }

    @Test(
        "D4: a composite product is the chain of one longer row where every row has even length, and not where one is odd"
    )
    func composite() {
        var random = Normal(3)
        for recipe in DotRecipe.allCases {
            let (a, b) = (random.bf16s(5 * 8), random.bf16s(5 * 6))
            let (v, w) = (random.bf16s(3 * 8), random.bf16s(3 * 6))
            let parts = Linear.inputGradient(parts: [(a, v, 8), (b, w, 6)], rows: 5, inputs: 3, recipe: recipe)
            var joined: [BFloat16] = []
            var weight: [BFloat16] = []
            for row in 0..<5 {
                joined += a[row * 8..<row * 8 + 8]
                joined += b[row * 6..<row * 6 + 6]
            }
            for row in 0..<3 {
                weight += v[row * 8..<row * 8 + 8]
                weight += w[row * 6..<row * 6 + 6]
            }
            #expect(
                parts == Linear.inputGradient(joined, weight: weight, rows: 5, inputs: 3, outputs: 14, recipe: recipe))
        }
        // Two sequences of three tokens: the second begins a pair of its own.
        let (x, dy) = (random.bf16s(6 * 2), random.bf16s(6 * 2))
        let gradient = Linear.weightGradient(
            x: x, dy: dy, batch: 2, tokens: 3, inputs: 2, outputs: 2, recipe: .pairedFTZ)
        for i in 0..<2 {
            for j in 0..<2 {
                var sum = DotAccumulator(recipe: .pairedFTZ)
                for b in 0..<2 { sum.addRow(count: 3) { t in (x[(b * 3 + t) * 2 + i], dy[(b * 3 + t) * 2 + j]) } }
                #expect(gradient[i * 2 + j] == sum.finished())
            }
        }
    }

    @Test(
        "T2: the products of a layer against matrix products of transposes; hardware arithmetic the same bits",
        arguments: DotRecipe.allCases)
    func linear(recipe: DotRecipe) {
        var random = Normal(4)
        let (rows, inputs, outputs) = (7, 9, 5)
        let (x, w, dy) = (random.bf16s(rows * inputs), random.bf16s(inputs * outputs), random.bf16s(rows * outputs))
        func transposed(_ a: [BFloat16], _ n: Int, _ m: Int) -> [BFloat16] {
            (0..<m).flatMap { j in (0..<n).map { a[$0 * m + j] } }
        }
        func product(_ a: [BFloat16], _ b: [BFloat16], _ m: Int, _ k: Int, _ n: Int) -> [Float] {
            MatrixMultiply.forward(a: a, b: b, shape: .init(m: m, k: k, n: n), recipe: recipe)
        }
        for arithmetic in Arithmetic.allCases {
            #expect(
                Linear.forward(
                    x, weight: w, rows: rows, inputs: inputs, outputs: outputs, recipe: recipe, arithmetic: arithmetic)
                    == product(x, w, rows, inputs, outputs))
            #expect(
                Linear.inputGradient(
                    dy, weight: w, rows: rows, inputs: inputs, outputs: outputs, recipe: recipe, arithmetic: arithmetic)
                    == product(dy, transposed(w, inputs, outputs), rows, outputs, inputs))
            #expect(
                Linear.weightGradient(
                    x: x, dy: dy, batch: 1, tokens: rows, inputs: inputs, outputs: outputs, recipe: recipe,
                    arithmetic: arithmetic)
                    == product(transposed(x, rows, inputs), dy, inputs, rows, outputs))
            #expect(
                Linear.forwardTransposed(
                    x, weight: transposed(w, inputs, outputs), rows: rows, inputs: inputs, outputs: outputs,
                    recipe: recipe, arithmetic: arithmetic)
                    == product(x, w, rows, inputs, outputs))
        }
    }

    @Test("T2: ReLU^2 and its slope on the values where it turns")
    func relu() {
        let u: [BFloat16] = [2, -2, 0, -0.0, .nan, .infinity, -.infinity, 0.5]
        let y = ReLUSquared.forward(u)
        #expect(
            y[0] == 4 && y[1].bitPattern == 0 && y[2].bitPattern == 0 && y[3].bitPattern == 0 && y[4].isNaN
                && y[5] == .infinity)
        #expect(y[6].bitPattern == 0 && y[7] == 0.25)
        let du = ReLUSquared.backward(u: u, dy: [3, 3, .nan, .infinity, 1, 1, 1, -1])
        #expect(
            du[0] == 12 && du[1].bitPattern == 0 && du[2].bitPattern == 0 && du[3].bitPattern == 0 && du[4].isNaN
                && du[7] == -1)
    }

    @Test("T8: SwiGLU by a plain fp64 one, its gradients by central differences")
    func swiglu() {
        var random = Normal(8)
        let (gate, up, dy) = (random.bf16s(500), random.bf16s(500), random.floats(500))
        func plain(_ g: Double, _ u: Double) -> Double { g / (1 + exp(-g)) * u }
        let y = SwiGLU.forward(gate: gate, up: up)
        let gradients = SwiGLU.backward(gate: gate, up: up, dy: dy)
        for index in gate.indices {
            let (g, u) = (Double(Float(gate[index])), Double(Float(up[index])))
            let exact = plain(g, u)
            // Four roundings, each of at most 2^-24 of the value.
            #expect((Double(y[index]) - exact).magnitude <= 4 * 0x1p-24 * exact.magnitude)
            let ofGate = slope([g], 0) { plain($0[0], u) } * Double(dy[index])
            let ofUp = plain(g, 1) * Double(dy[index])
            #expect((Double(gradients.gate[index]) - ofGate).magnitude < 1e-6 * (1 + ofGate.magnitude))
            #expect((Double(gradients.up[index]) - ofUp).magnitude <= 4 * 0x1p-24 * ofUp.magnitude)
        }
    }

    @Test("T8: SwiGLU where exp(-gate) vanishes, overflows, and where nothing is a number")
    func swigluEdges() {
        let gate: [BFloat16] = [0, -0.0, 20, -100, 256, .infinity, -.infinity, .nan]
        let ones = [BFloat16](repeating: 1, count: gate.count)
        let y = SwiGLU.forward(gate: gate, up: ones)
        #expect(y[0].bitPattern == 0 && y[1].bitPattern == 0x8000_0000 && y[2] == 20 && y[4] == 256)
        // d overflows: gate / infinity.
        #expect(y[3].bitPattern == 0x8000_0000 && y[5] == .infinity && y[6].isNaN && y[7].isNaN)
        let gradients = SwiGLU.backward(gate: gate, up: ones, dy: [Float](repeating: 2, count: gate.count))
        #expect(gradients.gate[0] == 1 && gradients.gate[1] == 1 && gradients.gate[4] == 2)
        #expect(gradients.gate[5].isNaN && gradients.gate[6].isNaN && gradients.up[5] == .infinity)
    }

    @Test("T2: cross-entropy and its gradient with z-reg by central differences of a plain fp64 one")
    func crossEntropy() throws {
        var random = Normal(5)
        let (rows, v) = (4, 11)
        let logits = random.floats(rows * v)
        let targets: [Int32] = [3, -1, 0, 10]
        let c = 0.125
        func loss(_ s: [Double]) -> Double {
            (0..<rows).filter { targets[$0] >= 0 }.reduce(0.0) { total, row in
                let values = s[row * v..<(row + 1) * v]
                let z = Foundation.log(values.reduce(0) { $0 + Foundation.exp($1) })
                return total + (z - s[row * v + Int(targets[row])] + c * z * z) / 3
            }
        }
        let forward = try CrossEntropy.forward(logits: logits, targets: targets, rows: rows, vocabulary: v)
        let gradient = CrossEntropy.gradient(
            logits: logits, forward: forward, targets: targets, rows: rows, vocabulary: v, zregC: Float(c))
        let exact = ExactCrossEntropy.losses(
            logits: logits, targets: targets.map { $0 < 0 ? [] : [(token: Int($0), weight: Float(1))] }, vocabulary: v,
            zregC: Float(c))
        #expect(abs(Double(forward.loss) - exact.loss.truth[0]) < 1e-6 && forward.count == 3)
        for index in logits.indices {
            let expected = slope(logits.map(Double.init), index, loss)
            #expect(abs(expected - exact.gradient.truth[index]) < 1e-8)
            #expect(abs(expected - Double(Float(gradient[index]))) < 0x1p-8 * abs(expected) + 1e-7)
        }
    }

    @Test("K4, T2: hard targets as soft ones of weight 1 have the same loss and gradient; empty slots are skipped")
    func sparse() throws {
        var random = Normal(6)
        let (rows, v) = (3, 7)
        let logits = random.floats(rows * v)
        let hard = try CrossEntropy.forward(logits: logits, targets: [2, -1, 6], rows: rows, vocabulary: v)
        let ids: [UInt32] = [.max, 2, .max, .max, 6, .max]
        let weights: [Float] = [.nan, 1, 5, 5, 1, .infinity]
        let soft = try SparseCrossEntropy.forward(
            logits: logits, ids: ids, weights: weights, rows: rows, vocabulary: v, k: 2)
        #expect(soft.loss == hard.loss && soft.count == 2)
        #expect(
            SparseCrossEntropy.gradient(
                logits: logits, forward: soft, ids: ids, weights: weights, rows: rows, vocabulary: v, k: 2, zregC: 0.5
            )
            .map(\.bitPattern)
                == CrossEntropy.gradient(
                    logits: logits, forward: hard, targets: [2, -1, 6], rows: rows, vocabulary: v, zregC: 0.5
                )
                .map(\.bitPattern))
    }

    @Test("T2: tokens, targets and ids out of range are errors that name them")
    func refusals() {
        let token = #expect(throws: Embedding.TokenError.self) {
            try Embedding.forward(
                tokens: [0, 5], weight: [BFloat16](repeating: 0, count: 5), vocabulary: 5, width: 1)
        }
        #expect(token.map { [$0.index, Int($0.token), $0.vocabulary] } == [1, 5, 5])
        let target = #expect(throws: CrossEntropy.TargetError.self) {
            try CrossEntropy.forward(logits: [0, 0], targets: [-2], rows: 1, vocabulary: 2)
        }
        #expect(target.map { [$0.row, Int($0.target), $0.vocabulary] } == [0, -2, 2])
        let id = #expect(throws: SparseCrossEntropy.TargetError.self) {
            try SparseCrossEntropy.forward(
                logits: [0, 0], ids: [0, 2], weights: [1, 1], rows: 1, vocabulary: 2, k: 2)
        }
        #expect(id.map { [$0.row, $0.slot, Int($0.id), $0.vocabulary] } == [0, 1, 2, 2])
    }
}

@Suite("T4: the optimizer")
struct OptimizerTests {
    /// base^n in 320-bit arithmetic would be circular; here long products of doubles bound it: enough to judge 24 bits away from ties.
    @Test("T4: 1/(1 - beta^n) against fp64, and exactly where it is a number by hand")
    func biasCorrection() {
        #expect(CorrectlyRounded.biasCorrection(0, step: 5) == 1)
        #expect(CorrectlyRounded.biasCorrection(0.5, step: 1) == 2)
        #expect(CorrectlyRounded.biasCorrection(0.5, step: 2) == 4 / 3 as Float)
        #expect(CorrectlyRounded.biasCorrection(Float(1).nextDown, step: 1) == 0x1p24)
        for beta in [0.1, 0.5, 0.9, 0.99, 0.999, 0.9999] as [Float] {
            for n in [1, 2, 3, 7, 50, 1000, 30_000, 1_000_000] {
                // log1p of the exact complement keeps what beta^n near 1 would lose.
                let power = Foundation.exp(Double(n) * Foundation.log(Double(beta)))
                let expected =
                    n == 1 ? 1 / (1 - Double(beta)) : 1 / -Foundation.expm1(Double(n) * Foundation.log(Double(beta)))
                let got = CorrectlyRounded.biasCorrection(beta, step: UInt64(n))
                #expect(abs(Double(got) - expected) <= 0.5001 * Double(got.ulp), "\(beta)^\(n) \(power)")
            }
        }
    }

    @Test("T4: warm-up and decays against fp64, their ends exactly")
    func schedules() {
        var c = ModelConfiguration()
        (c.learningRate, c.warmupSteps, c.totalSteps, c.finalFraction) = (0.003, 7, 1000, 0.1)
        for schedule in [Schedule.constant, .linear, .cosine] {
            c.schedule = schedule
            for step in [1, 2, 6, 7, 8, 100, 338, 503, 504, 669, 999, 1000, 1001, 5000] {
                let rate = Double(c.learningRate)
                let f = Double(c.finalFraction)
                let p = min(1, Double(step - 7) / 993)
                let expected =
                    step <= 7
                    ? rate * Double(step) / 7
                    : schedule == .constant
                        ? rate
                        : schedule == .linear
                            ? rate * (1 - (1 - f) * p) : rate * (f + (1 - f) * (1 + Foundation.cos(Double.pi * p)) / 2)
                let got = LearningRate.at(step: step, configuration: c)
                #expect(abs(Double(got) - expected) <= 0.5001 * Double(got.ulp), "\(schedule) \(step)")
            }
            #expect(LearningRate.at(step: 7, configuration: c) == c.learningRate)
        }
        // Thirds and halves of the cosine are rational: exact values.
        (c.learningRate, c.warmupSteps, c.totalSteps, c.finalFraction, c.schedule) = (1, 0, 12, 0, .cosine)
        #expect([4, 6, 8, 12].map { LearningRate.at(step: $0, configuration: c) } == [0.75, 0.5, 0.25, 0])
        c.totalSteps = 0
        #expect(LearningRate.at(step: 1, configuration: c) == 0)
    }

    @Test("T4: an update against fp64 AdamW; decay only where asked; the norm over tensors")
    func update() {
        var random = Normal(8)
        let h = AdamW.Hyperparameters(beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1)
        for decays in [false, true] {
            var (w, m) = (random.floats(20), random.floats(20))
            var v = random.floats(20).map { $0 * $0 }
            let (g, before) = (random.floats(20), (w, m, v))
            AdamW.update(
                weight: &w, firstMoment: &m, secondMoment: &v, gradient: g, step: 3, learningRate: 0.01, decays: decays,
                hyperparameters: h)
            for index in 0..<20 {
                let (b1, b2) = (Double(h.beta1), Double(h.beta2))
                let x = Double(g[index])
                let m1 = b1 * Double(before.1[index]) + (1 - b1) * x
                let v1 = b2 * Double(before.2[index]) + (1 - b2) * x * x
                let a = m1 / (1 - b1 * b1 * b1) / ((v1 / (1 - b2 * b2 * b2)).squareRoot() + 1e-8)
                let w1 =
                    Double(before.0[index]) - Double(Float(0.01))
                    * (a + (decays ? Double(Float(0.1)) * Double(before.0[index]) : 0))
                #expect(
                    abs(Double(w[index]) - w1) < 1e-6 && abs(Double(m[index]) - m1) < 1e-6
                        && abs(Double(v[index]) - v1) < 1e-6)
            }
        }
        #expect(AdamW.gradientNorm([[3], [], [0, 4]]) == 5)
        #expect(AdamW.clipFactor(norm: 5, clipNorm: 0) == nil && AdamW.clipFactor(norm: 5, clipNorm: 5) == nil)
        #expect(AdamW.clipFactor(norm: 5, clipNorm: 1) == 0.2)
    }

    @Test("T1: initial values: gains of 1, the variance of the rest, no two parameters alike")
    func initialization() {
        let c = ModelConfiguration()
        let values = Initialization.values(of: c)
        for (parameter, tensor) in zip(c.parameters, values) {
            #expect(tensor.count == parameter.count)
            guard let n = parameter.inverseVariance else {
                #expect(tensor.allSatisfy { $0 == 1 })
                continue
            }
            let variance = tensor.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(tensor.count)
            #expect(abs(variance * Double(n) - 1) < 6 * (2 / Double(tensor.count)).squareRoot(), "\(parameter.name)")
        }
        #expect(Set(values.filter { $0[0] != 1 }.map { $0[0] }).count == values.count { $0[0] != 1 })
    }
}
