import Kernels

/// Gumbel sampling of soft targets (K1 to K3) over logits fp32 [N, V].
public struct GumbelSampler: Sendable {
    let context: EngineContext
    private let random: RandomWords

    public init(_ context: EngineContext, _ random: RandomWords) {
        self.context = context
        self.random = random
    }

    /// What no sample can be taken with.
    private func check(_ logits: [Float], _ v: Int) throws(EngineError) {
        for (index, x) in logits.enumerated() where x.isNaN || x == .infinity {
            throw EngineError(
                "logits", "\(x) at row \(index / v), column \(index % v), expected a number below +infinity")
        }
    }

    /// fl(s_j - Z) of a row into `logp`; false if nothing can enter.
    private func logProbabilities(_ s: UnsafePointer<Float>, _ v: Int, _ logp: UnsafeMutablePointer<Float>) -> Bool {
        let rows = context.kernels.rows
        let maximum = rows.maximum(s, v)
        if maximum == -.infinity { return false }
        let z = maximum + ScalarMath.log(rows.softmaxExponentials(s, maximum, logp, v))
        for j in 0..<v { logp[j] = s[j] - z }
        return true
    }

    private func gumbel(_ draw: Int) -> Float { RandomWords.gumbel(random.word(UInt64(draw))) }

    /// K1, K2: ids and weights [N, k], kappa [N].
    public func topK(_ logits: [Float], rows n: Int, vocabulary v: Int, k: Int) throws(EngineError) -> (
        ids: [UInt32], weights: [Float], kappa: [Float]
    ) {
        try check(logits, v)
        var ids = [UInt32](repeating: UInt32.max, count: n * k)
        var weights = [Float](repeating: 0, count: n * k)
        var kappas = [Float](repeating: -.infinity, count: n)
        ids.withUnsafeMutableBufferPointer { ids in
            weights.withUnsafeMutableBufferPointer { weights in
                kappas.withUnsafeMutableBufferPointer { kappas in
                    logits.withUnsafeBufferPointer { logits in
                        if v == 0 { return }
                        context.parallel(n) { part in
                            let logp = UnsafeMutablePointer<Float>.allocate(capacity: v)
                            defer { logp.deallocate() }
                            for row in part {
                                let s = logits.baseAddress! + row * v
                                guard logProbabilities(s, v, logp) else { continue }
                                var entries: [(id: Int, phi: Float)] = []
                                for j in 0..<v where s[j] != -.infinity {
                                    entries.append((j, logp[j] + gumbel(row * v + j)))
                                }
                                entries.sort { ($1.phi, $0.id) < ($0.phi, $1.id) }
                                let kappa = entries.count > k ? entries[k].phi : -.infinity
                                kappas[row] = kappa
                                for (slot, entry) in entries.prefix(k).enumerated() {
                                    ids[row * k + slot] = UInt32(entry.id)
                                    weights[row * k + slot] = Self.weight(logp[entry.id], kappa)
                                }
                            }
                        }
                    }
                }
            }
        }
        return (ids, weights, kappas)
    }

    /// w = fl(p / (-expm1(-t))), t = exp(fl(logp - kappa)) (K2).
    private static func weight(_ logp: Float, _ kappa: Float) -> Float {
        let p = ScalarMath.exp(logp)
        if kappa == -.infinity { return p }
        return p / -ScalarMath.expm1(-ScalarMath.exp(logp - kappa))
    }

    /// K2 with replacement: ids and weights [N, k].
    public func withReplacement(_ logits: [Float], rows n: Int, vocabulary v: Int, k: Int) throws(EngineError) -> (
        ids: [UInt32], weights: [Float]
    ) {
        try check(logits, v)
        var ids = [UInt32](repeating: UInt32.max, count: n * k)
        var weights = [Float](repeating: 0, count: n * k)
        let share = ScalarMath.reciprocal(of: max(1, k))
        ids.withUnsafeMutableBufferPointer { ids in
            weights.withUnsafeMutableBufferPointer { weights in
                logits.withUnsafeBufferPointer { logits in
                    if v == 0 { return }
                    context.parallel(n) { part in
                        let logp = UnsafeMutablePointer<Float>.allocate(capacity: v)
                        defer { logp.deallocate() }
                        for row in part {
                            let s = logits.baseAddress! + row * v
                            guard logProbabilities(s, v, logp) else { continue }
                            for slot in 0..<k {
                                var (best, largest) = (-1, Float(0))
                                for j in 0..<v where s[j] != -.infinity {
                                    let phi = logp[j] + gumbel((slot * n + row) * v + j)
                                    if best < 0 || phi > largest { (best, largest) = (j, phi) }
                                }
                                ids[row * k + slot] = UInt32(best)
                                weights[row * k + slot] = share
                            }
                        }
                    }
                }
            }
        }
        return (ids, weights)
    }

    /// K3: y and dlogits [N, V].
    public func softmax(_ logits: [Float], outputGradient dy: [Float], rows n: Int, vocabulary v: Int, tau: Float)
        throws(EngineError) -> (output: [Float], gradient: [Float])
    {
        guard tau.isFinite, tau > 0 else { throw EngineError("tau", "is \(tau), expected a finite number above 0") }
        let kernels = context.kernels.rows
        var output = [Float](repeating: 0, count: n * v)
        var gradient = output
        var relaxed = [Float](repeating: 0, count: max(1, v))
        for row in 0..<n {
            for j in 0..<v {
                relaxed[j] = (logits[row * v + j] + gumbel(row * v + j)) / tau
                guard relaxed[j].isFinite else {
                    throw EngineError(
                        "logits",
                        "(logit + g) / tau is \(relaxed[j]) at row \(row), column \(j), expected a finite number")
                }
            }
            if v == 0 { continue }
            output.withUnsafeMutableBufferPointer { output in
                let y = output.baseAddress! + row * v
                let maximum = kernels.maximum(relaxed, v)
                let sum = kernels.softmaxExponentials(relaxed, maximum, y, v)
                kernels.divide(y, sum, y, v)
                let along = dy.withUnsafeBufferPointer { kernels.sumOfProducts(y, $0.baseAddress! + row * v, v) }
                for j in 0..<v { gradient[row * v + j] = (y[j] * (dy[row * v + j] - along)) / tau }
            }
        }
        return (output, gradient)
    }
}
