import BFloat16
import ExactMath
import ModelSpec

/// Dynamic clamping: the range of a layer's outputs from the root mean square of its weights, then int8 (clause C).
public enum Clamp {
    /// What a clamp refuses.
    public enum ClampError: Error, Hashable, Sendable, CustomStringConvertible {
        /// A limit below zero, infinite or NaN.
        case limit(Float)
        /// fl(127 / L) is not finite: the limit is too small for int8.
        case scale(limit: Float)
        /// kappa below zero or NaN.
        case kappa(Float)
        /// No weights: there is no root mean square.
        case noWeights

        public var description: String {
            switch self {
            case .limit(let limit): "the clamp's limit is \(limit), expected a finite number, 0 or more"
            case .scale(let limit): "the clamp's limit \(limit) is too small for int8: 127 / limit is not finite"
            case .kappa(let kappa): "kappa is \(kappa), expected 0 or more"
            case .noWeights: "the weights are empty, expected at least one"
            }
        }
    }

    /// How many values a clamp moved.
    public struct Report: Sendable, Hashable, CustomStringConvertible {
        public var values = 0
        /// Values above the limit.
        public var above = 0
        /// Values below the lower end.
        public var below = 0
        /// Codes of numbers that are 0; 0 without int8.
        public var zeroCodes = 0
        public var notANumber = 0

        public init() {}

        public var description: String {
            "\(values) values: \(above) clipped above, \(below) below, \(zeroCodes) zero codes, \(notANumber) NaN"
        }
    }

    /// What a clamp gives, every array in the shape of y.
    public struct Forward: Sendable {
        /// C2, fp32.
        public let clamped: [Float]
        /// C3; empty without int8.
        public let codes: [Int8]
        /// C3, fp32; `clamped` without int8.
        public let dequantised: [Float]
        public let report: Report
    }

    // MARK: - The limit

    /// C1: L = fl(fl(kappa * rmsW) * RNE32(sqrt(n))), rmsW = fl(sqrt(fl(sumsq * RNE32(1/(n m))))), sumsq = lane16x4096 of fma(w, w) over W [n, m];
    /// with `relu2` fl(L * L).
    ///
    /// A zero limit is +0.
    /// - Throws: ``ClampError/noWeights``, ``ClampError/kappa(_:)``, and ``ClampError/limit(_:)`` where the result is not finite (NaN or infinite
    ///   weights, overflow).
    public static func dynamicLimit(
        weights: [BFloat16], fanIn n: Int, columns m: Int, kappa: Float, activation: ClampActivation
    ) throws(ClampError) -> Float {
        precondition(weights.count == n * m)
        guard !weights.isEmpty else { throw .noWeights }
        guard SoftFloat32.isLessOrEqual(0, kappa) else { throw .kappa(kappa) }
        let squares = Reductions.lane16x4096(
            count: weights.count,
            factors: { i in
                let w = widened(weights[i])
                return (w, w)
            })  // C1
        let meanSquare = SoftFloat32.multiply(squares, SoftFloat32.reciprocal(of: UInt64(weights.count)))  // C1
        let rootMeanSquare = CorrectlyRounded.sqrt(meanSquare)  // C1
        let root = SoftFloat32.squareRoot(of: UInt64(n))
        var limit = SoftFloat32.multiply(SoftFloat32.multiply(kappa, rootMeanSquare), root)  // C1
        if activation == .relu2 { limit = SoftFloat32.multiply(limit, limit) }  // C1
        try check(limit)
        return SoftFloat32.isZero(limit) ? 0 : limit
    }

    // MARK: - Forward

    /// C2 and C3: clamped = min(max(y, lo), hi), hi = `limit`, lo = -hi, or +0 for `relu2` (where -0 becomes +0); with int8 codes = fl(clamped * fl(127 / hi)) to
    /// the nearest integer, ties to even, within +-127, and dequantised = fl(code * fl(hi * RNE32(1/127))).
    ///
    /// Edge cases: a NaN stays NaN with code 0; hi = 0 gives +0 throughout; a zero code gives +0; without int8 dequantised = clamped.
    /// - Throws: ``ClampError``.
    public static func forward(
        _ y: [Float], limit: Float, activation: ClampActivation, int8: Bool
    ) throws(ClampError) -> Forward {
        try check(limit)
        let isZeroLimit = SoftFloat32.isZero(limit)
        let scale = isZeroLimit ? 0 : SoftFloat32.divide(127, limit)  // C3
        if int8 && !SoftFloat32.isFinite(scale) { throw .scale(limit: limit) }
        let step = SoftFloat32.multiply(limit, SoftFloat32.reciprocal(of: 127))  // C3
        let low = lowerEnd(limit, activation)
        var report = Report()
        var clamped: [Float] = []
        var codes: [Int8] = []
        var dequantised: [Float] = []
        for value in y {
            report.values += 1
            if SoftFloat32.isNaN(value) {
                report.notANumber += 1
                clamped.append(SoftFloat32.canonicalNaN)  // C2, F2
                dequantised.append(SoftFloat32.canonicalNaN)
                if int8 { codes.append(0) }
                continue
            }
            if SoftFloat32.isLess(limit, value) { report.above += 1 }
            if SoftFloat32.isLess(value, low) { report.below += 1 }
            var x = SoftFloat32.minimum(SoftFloat32.maximum(value, low), limit)  // C2
            if isZeroLimit { x = 0 }  // C3
            clamped.append(x)
            guard int8 else {
                dequantised.append(x)
                continue
            }
            let code = isZeroLimit ? 0 : nearestInteger(SoftFloat32.multiply(x, scale))  // C3
            codes.append(code)
            if code == 0 { report.zeroCodes += 1 }
            dequantised.append(
                code == 0 ? 0 : SoftFloat32.multiply(SoftFloat32.convert(Int64(code)), step))  // C3
        }
        return Forward(clamped: clamped, codes: codes, dequantised: dequantised, report: report)
    }

    // MARK: - Backward

    /// C4: dx = dy where lo <= y <= hi, else +0; with `inward` also where y > hi and dy > 0, or y < lo and dy < 0. NaN y: NaN. hi = 0: +0.
    public static func backward(
        y: [Float], dy: [Float], limit: Float, activation: ClampActivation, gradient: ClampGradient
    ) -> [Float] {
        precondition(y.count == dy.count)
        let low = lowerEnd(limit, activation)
        var dx: [Float] = []
        dx.reserveCapacity(y.count)
        for index in y.indices {
            let (value, slope) = (y[index], dy[index])
            if SoftFloat32.isNaN(value) {
                dx.append(SoftFloat32.canonicalNaN)  // C2
                continue
            }
            let isAbove = SoftFloat32.isLess(limit, value)
            let isBelow = SoftFloat32.isLess(value, low)
            var passes = !isAbove && !isBelow  // C4
            if gradient == .inward {
                if isAbove && SoftFloat32.isLess(0, slope) { passes = true }  // C4
                if isBelow && SoftFloat32.isLess(slope, 0) { passes = true }  // C4
            }
            if SoftFloat32.isZero(limit) { passes = false }  // C3
            dx.append(passes ? (SoftFloat32.isNaN(slope) ? SoftFloat32.canonicalNaN : slope) : 0)
        }
        return dx
    }

    // MARK: - Pieces

    private static func check(_ limit: Float) throws(ClampError) {
        guard SoftFloat32.isFinite(limit), SoftFloat32.isLessOrEqual(0, limit) else { throw .limit(limit) }
    }

    private static func lowerEnd(_ limit: Float, _ activation: ClampActivation) -> Float {
        activation == .relu2 ? 0 : SoftFloat32.negate(limit)
    }

    /// The integer nearest to a finite x, ties to even, within +-127 (C3).
    private static func nearestInteger(_ x: Float) -> Int8 {
        var nearest = 0
        // x is at most about 127; of the integers k with |x - k| <= 1/2 the even one: exact comparisons with k + 1/2.
        let magnitude = SoftFloat32.magnitude(x)
        for k in 0..<127 {
            let tie = SoftFloat32.add(SoftFloat32.convert(Int64(k)), 0.5)
            let isAbove = k % 2 == 0 ? SoftFloat32.isLess(tie, magnitude) : SoftFloat32.isLessOrEqual(tie, magnitude)
            if isAbove { nearest = k + 1 }
        }
        return Int8(SoftFloat32.isLess(x, 0) ? -nearest : nearest)
    }
}
