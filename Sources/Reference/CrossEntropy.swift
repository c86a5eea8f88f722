import BFloat16
import ExactMath
import Platform

/// Mean cross-entropy of logits against tokens, and its gradient with z-reg on the output logits (T2, Z4).
public enum CrossEntropy {
    /// What the backward pass and reports need: every array [n].
    public struct Forward: Sendable {
        public let maximum: [Float]
        public let sum: [Float]
        public let z: [Float]
        /// fl(Z - s_target); +0 without a target.
        public let losses: [Float]
        /// The number of rows with a target.
        public let count: Int
        /// fl(lane16x4096 of the losses * RNE32(1/count)); +0 if count is 0.
        public let loss: Float

        public init(maximum: [Float], sum: [Float], z: [Float], losses: [Float], count: Int, loss: Float) {
            self.maximum = maximum
            self.sum = sum
            self.z = z
            self.losses = losses
            self.count = count
            self.loss = loss
        }
    }

    /// A target that is neither -1 nor in 0 ..< V.
    public struct TargetError: Error, Hashable, Sendable, CustomStringConvertible {
        public let row: Int
        public let target: Int32
        public let vocabulary: Int

        public var description: String { "target \(target) at row \(row), expected -1 or 0 ..< \(vocabulary)" }
    }

    /// The loss of logits fp32 [n, V]; target -1 means none.
    public static func forward(
        logits: [Float], targets: [Int32], rows: Int, vocabulary: Int
    ) throws(TargetError) -> Forward {
        precondition(logits.count == rows * vocabulary && targets.count == rows)
        for (row, target) in targets.enumerated() where target != -1 && !(0..<vocabulary).contains(Int(target)) {
            throw TargetError(row: row, target: target, vocabulary: vocabulary)
        }
        let statistics = Workers.map(rows) { row in
            LogSumExp.row(count: vocabulary) { j in logits[row * vocabulary + j] }
        }
        var losses: [Float] = []
        for row in 0..<rows {
            losses.append(
                targets[row] < 0
                    ? 0 : SoftFloat32.subtract(statistics[row].z, logits[row * vocabulary + Int(targets[row])]))  // T2
        }
        let count = targets.count { $0 >= 0 }
        return Forward(
            maximum: statistics.map(\.maximum), sum: statistics.map(\.sum), z: statistics.map(\.z), losses: losses,
            count: count, loss: meanLoss(losses, count: count))
    }

    /// dlogits bf16 [n, V]: with d_j = fl(P_j - 1) at the target and P_j elsewhere, and for c not 0 d_j = fl(d_j + fl(fl(fl(2c) * Z) * P_j)):
    /// bf16(fl(d_j * RNE32(1/count))); +0 in rows without a target.
    public static func gradient(
        logits: [Float], forward: Forward, targets: [Int32], rows: Int, vocabulary: Int, zregC: Float
    ) -> [BFloat16] {
        precondition(logits.count == rows * vocabulary && targets.count == rows)
        let weight = SoftFloat32.reciprocal(of: UInt64(max(1, forward.count)))
        return Workers.map(rows * vocabulary) { element in
            let (row, j) = element.quotientAndRemainder(dividingBy: vocabulary)
            guard targets[row] >= 0 else { return BFloat16(bitPattern: 0) }
            let statistic = LogSumExp.Row(
                maximum: forward.maximum[row], sum: forward.sum[row], z: forward.z[row])
            let p = statistic.probability(logits[element])
            let d = j == Int(targets[row]) ? SoftFloat32.subtract(p, 1) : p  // T2
            return bf16(SoftFloat32.multiply(regularized(d, p, statistic.z, zregC), weight))  // T2
        }
    }

    /// The mean loss of rows whose Z is known: fl(Z - s_target) of each, +0 without a target, and their mean (T2).
    public static func meanLoss(z: [Float], logits: [Float], targets: [Int32], vocabulary: Int) -> Float {
        precondition(z.count == targets.count && logits.count == z.count * vocabulary)
        let losses = targets.indices.map { row in
            targets[row] < 0
                ? 0 : SoftFloat32.subtract(z[row], logits[row * vocabulary + Int(targets[row])])
        }
        return meanLoss(losses, count: targets.count { $0 >= 0 })
    }

    /// T2: the losses' lane16x4096 sum times RNE32(1/count).
    static func meanLoss(_ losses: [Float], count: Int) -> Float {
        guard count > 0 else { return 0 }
        return SoftFloat32.multiply(
            Reductions.sum(losses, order: .lane16x4096), SoftFloat32.reciprocal(of: UInt64(count)))
    }

    /// Z4: d with the z-regulariser's term, left out where c is 0 (Z3).
    static func regularized(_ d: Float, _ p: Float, _ z: Float, _ c: Float) -> Float {
        if SoftFloat32.isZero(c) { return d }
        let dz = SoftFloat32.multiply(SoftFloat32.multiply(2, c), z)
        return SoftFloat32.add(d, SoftFloat32.multiply(dz, p))
    }
}

/// Mean cross-entropy against k weighted tokens a row: the student's loss of offline distillation (K4, T2).
///
/// Slots with id 0xFFFFFFFF are empty. A row whose slots are all empty has no target.
public enum SparseCrossEntropy {
    /// What the backward pass and reports need: every array [n].
    public struct Forward: Sendable {
        public let maximum: [Float]
        public let sum: [Float]
        public let z: [Float]
        /// lane16 over the slots of fma(w_c, fl(Z - s_id)); +0 without a target.
        public let losses: [Float]
        /// The number of rows with a target.
        public let count: Int
        /// fl(lane16x4096 of the losses * RNE32(1/count)); +0 if count is 0.
        public let loss: Float

        public init(maximum: [Float], sum: [Float], z: [Float], losses: [Float], count: Int, loss: Float) {
            self.maximum = maximum
            self.sum = sum
            self.z = z
            self.losses = losses
            self.count = count
            self.loss = loss
        }
    }

    /// The id of an empty slot.
    public static let emptySlot: UInt32 = 0xFFFF_FFFF

    /// An id that is neither empty nor in 0 ..< V.
    public struct TargetError: Error, Hashable, Sendable, CustomStringConvertible {
        public let row: Int
        public let slot: Int
        public let id: UInt32
        public let vocabulary: Int

        public var description: String {
            "id \(id) at row \(row), slot \(slot), expected 0 ..< \(vocabulary), or 4294967295 for an empty slot"
        }
    }

    /// The loss of logits fp32 [n, V] against ids and weights [n, k].
    public static func forward(
        logits: [Float], ids: [UInt32], weights: [Float], rows: Int, vocabulary: Int, k: Int
    ) throws(TargetError) -> Forward {
        precondition(logits.count == rows * vocabulary && ids.count == rows * k && weights.count == ids.count)
        for (index, id) in ids.enumerated() where id != emptySlot && id >= UInt32(clamping: vocabulary) {
            throw TargetError(row: index / k, slot: index % k, id: id, vocabulary: vocabulary)
        }
        var statistics: [LogSumExp.Row] = []
        for row in 0..<rows {
            statistics.append(LogSumExp.row(count: vocabulary) { j in logits[row * vocabulary + j] })
        }
        let z = statistics.map(\.z)
        let losses = losses(z: z, logits: logits, ids: ids, weights: weights, vocabulary: vocabulary, k: k)
        let count = count(ids, k: k)
        return Forward(
            maximum: statistics.map(\.maximum), sum: statistics.map(\.sum), z: z, losses: losses, count: count,
            loss: CrossEntropy.meanLoss(losses, count: count))
    }

    /// The mean loss of rows whose Z [n] is known, ids and weights as in
    /// ``forward(logits:ids:weights:rows:vocabulary:k:)`` and in range (T2).
    public static func meanLoss(
        z: [Float], logits: [Float], ids: [UInt32], weights: [Float], vocabulary: Int, k: Int
    ) -> Float {
        precondition(logits.count == z.count * vocabulary && ids.count == z.count * k && weights.count == ids.count)
        return CrossEntropy.meanLoss(
            losses(z: z, logits: logits, ids: ids, weights: weights, vocabulary: vocabulary, k: k),
            count: count(ids, k: k))
    }

    /// The number of rows of ids [n, k] that have a target (T2).
    public static func count(_ ids: [UInt32], k: Int) -> Int {
        (0..<(k == 0 ? 0 : ids.count / k)).count { hasTarget(ids, row: $0, k: k) }
    }

    private static func losses(
        z: [Float], logits: [Float], ids: [UInt32], weights: [Float], vocabulary: Int, k: Int
    ) -> [Float] {
        var losses: [Float] = []
        for row in z.indices {
            losses.append(
                Reductions.lane16(
                    count: k, isVisible: { ids[row * k + $0] != emptySlot },
                    factors: { c in
                        let logit = logits[row * vocabulary + Int(ids[row * k + c])]
                        return (weights[row * k + c], SoftFloat32.subtract(z[row], logit))  // T2
                    }))
        }
        return losses
    }

    /// dlogits bf16 [n, V]: d_j = fl(sw * P_j), sw = lane16 of the weights; then, slot by slot, fl(d_j - w_c) at its id; then z-reg and
    /// the mean's factor as in ``CrossEntropy/gradient(logits:forward:targets:rows:vocabulary:zregC:)``.
    public static func gradient(
        logits: [Float], forward: Forward, ids: [UInt32], weights: [Float], rows: Int, vocabulary: Int, k: Int,
        zregC: Float
    ) -> [BFloat16] {
        precondition(logits.count == rows * vocabulary && ids.count == rows * k && weights.count == ids.count)
        let weight = SoftFloat32.reciprocal(of: UInt64(max(1, forward.count)))
        var gradient: [BFloat16] = []
        gradient.reserveCapacity(logits.count)
        for row in 0..<rows {
            guard hasTarget(ids, row: row, k: k) else {
                gradient += [BFloat16](repeating: BFloat16(bitPattern: 0), count: vocabulary)
                continue
            }
            let statistic = LogSumExp.Row(
                maximum: forward.maximum[row], sum: forward.sum[row], z: forward.z[row])
            let total = Reductions.lane16(
                count: k, isVisible: { ids[row * k + $0] != emptySlot }, value: { weights[row * k + $0] })
            let p = (0..<vocabulary).map { statistic.probability(logits[row * vocabulary + $0]) }
            var d = p.map { SoftFloat32.multiply(total, $0) }  // T2
            for c in 0..<k where ids[row * k + c] != emptySlot {
                let j = Int(ids[row * k + c])
                d[j] = SoftFloat32.subtract(d[j], weights[row * k + c])  // T2
            }
            for j in 0..<vocabulary {
                let value = CrossEntropy.regularized(d[j], p[j], statistic.z, zregC)
                gradient.append(bf16(SoftFloat32.multiply(value, weight)))  // T2
            }
        }
        return gradient
    }

    private static func hasTarget(_ ids: [UInt32], row: Int, k: Int) -> Bool {
        ids[row * k..<(row + 1) * k].contains { $0 != emptySlot }
    }
}
