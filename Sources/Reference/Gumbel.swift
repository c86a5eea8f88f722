import ExactMath
import ModelSpec

/// Gumbel sampling of soft targets for offline distillation (clause K).
///
/// Draws come from one random stream: draw r V + j for row r, token j (K1, K3), or (c N + r) V + j for slot c (K2). Logits are fp32
/// [N, V] in C order.
public enum Gumbel {
    /// A logit that no sample can be taken with.
    public enum SampleError: Error, Hashable, Sendable, CustomStringConvertible {
        /// A NaN or +infinity (K1).
        case logit(row: Int, column: Int, bits: UInt32)
        /// A temperature that is not finite and above 0 (K3).
        case temperature(Float)
        /// A z that is not finite (K3).
        case relaxed(row: Int, column: Int, bits: UInt32)

        public var description: String {
            switch self {
            case .logit(let row, let column, let bits):
                "logit \(Float(bitPattern: bits)) at row \(row), column \(column), expected a number below +infinity"
            case .temperature(let tau): "tau is \(tau), expected a finite number above 0"
            case .relaxed(let row, let column, let bits):
                "(logit + g) / tau is \(Float(bitPattern: bits)) at row \(row), column \(column), expected a finite number"
            }
        }
    }

    /// k tokens a row with their weights, [N, k]; id 0xFFFFFFFF and weight +0 in slots that stay empty.
    public struct Sample: Sendable, Hashable {
        public let ids: [UInt32]
        public let weights: [Float]
        /// The (k + 1)-th phi of each row, [N]; -infinity where there is none.
        public let kappa: [Float]
    }

    /// What the stored form takes beside the logits (K4).
    public struct StorageReport: Sendable, Hashable, CustomStringConvertible {
        /// 8 k bytes a row: an id and a weight.
        public let bytes: Int
        /// 2 V bytes a row: the logits in bf16.
        public let logitBytes: Int

        public init(rows: Int, vocabulary: Int, k: Int) {
            bytes = rows * 8 * k
            logitBytes = rows * 2 * vocabulary
        }

        public var description: String {
            let ratio = bytes == 0 ? 0 : Double(logitBytes * 10 / bytes) / 10
            return "\(bytes) bytes, where bf16 logits would take \(logitBytes): \(ratio) times as much"
        }
    }

    // MARK: - Without replacement

    /// K1, K2: the k largest phi_j = fl(logp_j + g_j), logp_j = fl(s_j - Z), in descending phi, ties to the lower id; kappa the next;
    /// weights w = fl(p / (-expm1(-t))), p = exp(logp), t = exp(fl(logp - kappa)), or p where kappa is -infinity. Unbiased: E[w_j 1(j sampled)] =
    /// p_j.
    ///
    /// - Throws: ``SampleError/logit(row:column:bits:)``.
    public static func topK(
        logits: [Float], rows: Int, vocabulary: Int, k: Int, stream: RandomStream
    ) throws(SampleError) -> Sample {
        try check(logits, rows: rows, vocabulary: vocabulary)
        var ids: [UInt32] = []
        var weights: [Float] = []
        var kappas: [Float] = []
        for row in 0..<rows {
            let s = Array(logits[row * vocabulary..<(row + 1) * vocabulary])
            let logp = logProbabilities(s)
            // -infinity never enters (K1).
            var entries: [(id: Int, phi: Float)] = []
            for j in 0..<vocabulary where !isNegativeInfinity(s[j]) {
                entries.append((j, SoftFloat32.add(logp[j], gumbel(stream, row * vocabulary + j))))  // K1
            }
            // Ties keep the order of the ids.
            entries.sort {
                SoftFloat32.isLess($1.phi, $0.phi) || (SoftFloat32.isEqual($0.phi, $1.phi) && $0.id < $1.id)
            }
            let kappa = entries.count > k ? entries[k].phi : -Float.infinity
            kappas.append(kappa)
            for slot in 0..<k {
                guard slot < entries.count else {
                    ids.append(SparseCrossEntropy.emptySlot)
                    weights.append(0)
                    continue
                }
                ids.append(UInt32(entries[slot].id))
                weights.append(weight(logp[entries[slot].id], kappa: kappa))
            }
        }
        return Sample(ids: ids, weights: weights, kappa: kappas)
    }

    /// K2: w = fl(p / (-expm1(-t))), p = exp(logp), t = exp(fl(logp - kappa)), of a sampled token; p where kappa is -infinity.
    public static func weight(_ logp: Float, kappa: Float) -> Float {
        let p = CorrectlyRounded.exp(logp)  // K2
        if isNegativeInfinity(kappa) { return p }
        let t = CorrectlyRounded.exp(SoftFloat32.subtract(logp, kappa))  // K2
        return SoftFloat32.divide(
            p, SoftFloat32.negate(CorrectlyRounded.expm1(SoftFloat32.negate(t))))  // K2
    }

    // MARK: - With replacement

    /// K2: slot c of row r is the argmax over j of fl(logp_j + g), draw (c N + r) V + j, ties to the lower id; each weight is RNE32(1/k).
    ///
    /// - Throws: ``SampleError/logit(row:column:bits:)``.
    public static func withReplacement(
        logits: [Float], rows: Int, vocabulary: Int, k: Int, stream: RandomStream
    ) throws(SampleError) -> (ids: [UInt32], weights: [Float]) {
        try check(logits, rows: rows, vocabulary: vocabulary)
        let share = SoftFloat32.reciprocal(of: UInt64(max(1, k)))
        var ids: [UInt32] = []
        var weights: [Float] = []
        for row in 0..<rows {
            let s = Array(logits[row * vocabulary..<(row + 1) * vocabulary])
            let logp = logProbabilities(s)
            for slot in 0..<k {
                var best: (id: Int, phi: Float)?
                for j in 0..<vocabulary where !isNegativeInfinity(s[j]) {
                    let draw = (slot * rows + row) * vocabulary + j
                    let phi = SoftFloat32.add(logp[j], gumbel(stream, draw))  // K2
                    if best.map({ SoftFloat32.isLess($0.phi, phi) }) ?? true { best = (j, phi) }
                }
                ids.append(best.map { UInt32($0.id) } ?? SparseCrossEntropy.emptySlot)
                weights.append(best == nil ? 0 : share)
            }
        }
        return (ids, weights)
    }

    // MARK: - Relaxed

    /// K3: y = P of Z1 over z_j = fl(fl(s_j + g_j) / tau) [N, V], and from dy the gradient dlogits_j = fl(fl(y_j * fl(dy_j - lane16 of fma(y, dy))) / tau).
    ///
    /// - Throws: ``SampleError/temperature(_:)``, ``SampleError/relaxed(row:column:bits:)``.
    public static func softmax(
        logits: [Float], outputGradient dy: [Float], rows: Int, vocabulary: Int, tau: Float, stream: RandomStream
    ) throws(SampleError) -> (output: [Float], logitsGradient: [Float]) {
        precondition(logits.count == rows * vocabulary && dy.count == logits.count)
        guard SoftFloat32.isFinite(tau), SoftFloat32.isLess(0, tau) else { throw .temperature(tau) }
        var output: [Float] = []
        var gradient: [Float] = []
        for row in 0..<rows {
            var z: [Float] = []
            for j in 0..<vocabulary {
                let draw = row * vocabulary + j
                let relaxed = SoftFloat32.divide(SoftFloat32.add(logits[draw], gumbel(stream, draw)), tau)  // K3
                guard SoftFloat32.isFinite(relaxed) else {
                    throw .relaxed(row: row, column: j, bits: relaxed.bitPattern)
                }
                z.append(relaxed)
            }
            let statistic = LogSumExp.row(z)
            let y = z.map(statistic.probability)  // K3
            let slopes = Array(dy[row * vocabulary..<(row + 1) * vocabulary])
            let along = Reductions.sumOfProducts(y, slopes, order: .lane16)  // K3
            for j in 0..<vocabulary {
                let centred = SoftFloat32.multiply(y[j], SoftFloat32.subtract(slopes[j], along))  // K3
                gradient.append(SoftFloat32.divide(centred, tau))  // K3
            }
            output += y
        }
        return (output, gradient)
    }

    // MARK: - Pieces

    /// logp_j = fl(s_j - Z) (K1). Of -infinity alone there is no Z; the values are then of no use and not used.
    private static func logProbabilities(_ s: [Float]) -> [Float] {
        let z = LogSumExp.row(s).z
        return s.map { SoftFloat32.subtract($0, z) }  // K1
    }

    private static func gumbel(_ stream: RandomStream, _ draw: Int) -> Float {
        RandomDistributions.gumbel(stream.word(UInt64(draw)))  // G3
    }

    private static func isNegativeInfinity(_ x: Float) -> Bool { x.bitPattern == 0xFF80_0000 }

    private static func check(_ logits: [Float], rows: Int, vocabulary: Int) throws(SampleError) {
        precondition(logits.count == rows * vocabulary)
        for (index, logit) in logits.enumerated()
        where SoftFloat32.isNaN(logit) || logit.bitPattern == SoftFloat32.magnitude(.infinity).bitPattern {
            throw .logit(row: index / vocabulary, column: index % vocabulary, bits: logit.bitPattern)
        }
    }
}
