import ExactMath
import ModelSpec

/// The optimizer (T4): AdamW (Loshchilov, Hutter 2019) with clipping by the global norm. Everything is fp32.
public enum AdamW {
    /// What does not change from step to step.
    public struct Hyperparameters: Sendable, Hashable {
        public let beta1: Float
        public let beta2: Float
        public let epsilon: Float
        public let weightDecay: Float

        /// beta1 and beta2 in 0 ..< 1.
        public init(beta1: Float, beta2: Float, epsilon: Float, weightDecay: Float) {
            self.beta1 = beta1
            self.beta2 = beta2
            self.epsilon = epsilon
            self.weightDecay = weightDecay
        }

        public init(_ c: ModelConfiguration) {
            self.init(beta1: c.beta1, beta2: c.beta2, epsilon: c.adamEpsilon, weightDecay: c.weightDecay)
        }
    }

    /// sqrt of the chain (R3), over the tensors in order, of each one's lane16x4096 sum of squares (R2).
    ///
    /// NaN with a NaN among the gradients, +infinity where an infinity or an overflow of the squares is: no update is taken then (T4), which is for the caller
    /// to refuse.
    public static func gradientNorm(_ gradients: [[Float]]) -> Float {
        let sums = gradients.map { Reductions.sumOfProducts($0, $0, order: .lane16x4096) }  // T4, R2
        return CorrectlyRounded.sqrt(Reductions.sum(sums, order: .chain))  // T4, R3
    }

    /// fl(clipNorm / norm) where clipNorm > 0 and norm > clipNorm; nil where gradients stay as they are.
    public static func clipFactor(norm: Float, clipNorm: Float) -> Float? {
        guard SoftFloat32.isLess(0, clipNorm), SoftFloat32.isLess(clipNorm, norm) else { return nil }
        return SoftFloat32.divide(clipNorm, norm)  // T4
    }

    /// One update of a parameter and its moments, n = `step` from 1:
    ///
    /// m' = fma(beta1, m, fl(RNE32(1 - beta1) * g)); v' = fma(beta2, v, fl(fl(RNE32(1 - beta2) * g) * g));
    /// u = fl(fl(m' * RNE32(1/(1 - beta1^n))) / fl(fl(sqrt(fl(v' * RNE32(1/(1 - beta2^n))))) + epsilon));
    /// with decay u = fma(decay, w, u); w' = fma(-lr, u, w).
    public static func update(
        weight: inout [Float], firstMoment m: inout [Float], secondMoment v: inout [Float], gradient: [Float],
        step: Int, learningRate: Float, decays: Bool, hyperparameters h: Hyperparameters
    ) {
        precondition(weight.count == gradient.count && m.count == gradient.count && v.count == gradient.count)
        // T4: RNE32(1 - beta)
        let (rest1, rest2) = (SoftFloat32.subtract(1, h.beta1), SoftFloat32.subtract(1, h.beta2))
        let correction1 = CorrectlyRounded.biasCorrection(h.beta1, step: UInt64(step))  // T4
        let correction2 = CorrectlyRounded.biasCorrection(h.beta2, step: UInt64(step))  // T4
        let rate = SoftFloat32.negate(learningRate)
        let hasDecay = decays && !SoftFloat32.isZero(h.weightDecay)
        for index in weight.indices {
            let g = gradient[index]
            m[index] = SoftFloat32.fusedMultiplyAdd(h.beta1, m[index], SoftFloat32.multiply(rest1, g))  // T4
            let square = SoftFloat32.multiply(SoftFloat32.multiply(rest2, g), g)  // T4
            v[index] = SoftFloat32.fusedMultiplyAdd(h.beta2, v[index], square)  // T4
            let root = CorrectlyRounded.sqrt(SoftFloat32.multiply(v[index], correction2))  // T4
            var u = SoftFloat32.divide(
                SoftFloat32.multiply(m[index], correction1), SoftFloat32.add(root, h.epsilon))  // T4
            if hasDecay { u = SoftFloat32.fusedMultiplyAdd(h.weightDecay, weight[index], u) }  // T4
            weight[index] = SoftFloat32.fusedMultiplyAdd(rate, u, weight[index])  // T4
        }
    }
}

/// The learning rate of a step (T4).
public enum LearningRate {
    /// RNE32 of the exact real value at step n from 1: rate * n / warmup while n <= warmup; then with p = min(1, (n - warmup) / (total -
    /// warmup)), or 1 where total <= warmup, by the schedule.
    public static func at(step: Int, configuration c: ModelConfiguration) -> Float {
        precondition(step >= 1)
        if step <= c.warmupSteps {
            return CorrectlyRounded.scaled(c.learningRate, by: UInt64(step), over: UInt64(c.warmupSteps))
        }
        let length = c.totalSteps - c.warmupSteps
        let (a, b) = length <= 0 ? (1, 1) : (UInt64(min(step - c.warmupSteps, length)), UInt64(length))
        return switch c.schedule {
        case .constant: c.learningRate
        case .linear: CorrectlyRounded.linearDecay(c.learningRate, to: c.finalFraction, at: a, of: b)
        case .cosine: CorrectlyRounded.cosineDecay(c.learningRate, to: c.finalFraction, at: a, of: b)
        }
    }
}

/// Initial weights (T1).
public enum Initialization {
    /// The parameters' values in their order: 1 for gains, else element e of parameter k is fl(RNE32(1/sqrt(n)) * x), x the normal variate e of the stream
    /// `initialization` with step k (G4).
    public static func values(of configuration: ModelConfiguration) -> [[Float]] {
        configuration.parameters.enumerated().map { k, parameter in
            guard let inverseVariance = parameter.inverseVariance else {
                return [Float](repeating: 1, count: parameter.count)
            }
            let deviation = CorrectlyRounded.rsqrt(SoftFloat32.convert(UInt64(inverseVariance)))
            let stream = RandomStream(
                seed: configuration.seed, stream: RandomStreams.initialization, step: UInt32(truncatingIfNeeded: k))
            var values: [Float] = []
            values.reserveCapacity(parameter.count + 1)
            for pair in 0..<UInt64((parameter.count + 1) / 2) {
                let (x0, x1) = RandomDistributions.normal(stream.word(2 * pair), stream.word(2 * pair + 1))
                values.append(SoftFloat32.multiply(deviation, x0))  // T1
                values.append(SoftFloat32.multiply(deviation, x1))  // T1
            }
            values.removeLast(values.count - parameter.count)
            return values
        }
    }
}
