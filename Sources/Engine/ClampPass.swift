import Kernels
import ModelSpec

/// A clamp and int8 over arrays of fp32 (C1 to C4); the training step has its own, fused (``Layers``).
public struct ClampPass: Sendable {
    public let limit: Float
    public let activation: ClampActivation
    public let int8: Bool

    /// - Throws: ``EngineError`` for a limit that is not finite or below 0, or too small for int8.
    public init(limit: Float, activation: ClampActivation, int8: Bool) throws(EngineError) {
        guard limit.isFinite, limit >= 0 else {
            throw EngineError("limit", "is \(limit), expected a finite number, 0 or more")
        }
        if int8 && limit != 0 && !(127 / limit).isFinite {
            throw EngineError("limit", "\(limit) is too small for int8: 127 / limit is not finite")
        }
        self.limit = limit == 0 ? 0 : limit
        self.activation = activation
        self.int8 = int8
    }

    /// L of weights W [n, m] (C1).
    public static func dynamicLimit(
        _ context: EngineContext, weights: [UInt16], fanIn: Int, kappa: Float, activation: ClampActivation
    ) throws(EngineError) -> Float {
        guard !weights.isEmpty else { throw EngineError("w", "is empty, expected at least one weight") }
        guard kappa >= 0 else { throw EngineError("kappa", "is \(kappa), expected 0 or more") }
        let scratch = UnsafeMutablePointer<Float>.allocate(capacity: weights.count / 4096 + 1)
        defer { scratch.deallocate() }
        let squares = weights.withUnsafeBufferPointer {
            Layers(context).sumOfSquaresBF16($0.baseAddress!, weights.count, scratch: scratch)
        }
        let root = ScalarMath.sqrt(squares * ScalarMath.reciprocal(of: weights.count))
        var limit = (kappa * root) * Float(fanIn).squareRoot()
        if activation == .relu2 { limit = limit * limit }
        return limit
    }

    private var low: Float { activation == .relu2 ? 0 : -limit }

    /// clamped, codes (empty without int8) and dequantised values (C2, C3).
    public func forward(_ y: [Float]) -> (clamped: [Float], codes: [Int8], dequantised: [Float]) {
        let scale = limit == 0 ? 0 : 127 / limit
        let step = limit * ScalarMath.reciprocal(of: 127)
        var (clamped, dequantised, codes): ([Float], [Float], [Int8]) = ([], [], [])
        for value in y {
            if value.isNaN {
                clamped.append(value)
                dequantised.append(value)
                if int8 { codes.append(0) }
                continue
            }
            var x = value > limit ? limit : value < low ? low : value
            if limit == 0 || (activation == .relu2 && x == 0) { x = 0 }
            clamped.append(x)
            guard int8 else {
                dequantised.append(x)
                continue
            }
            // |x * scale| is about 127 at most: nearest even by the bits that a large number pushes out.
            let nearest = limit == 0 ? 0 : (x * scale + 0x1.8p23) - 0x1.8p23
            let code = Swift.max(-127, Swift.min(127, nearest))
            codes.append(Int8(code))
            dequantised.append(code == 0 ? 0 : code * step)
        }
        return (clamped, codes, dequantised)
    }

    /// dx (C4).
    public func backward(_ y: [Float], dy: [Float], gradient: ClampGradient) -> [Float] {
        var dx: [Float] = []
        for (value, slope) in zip(y, dy) {
            if value.isNaN {
                dx.append(value)
                continue
            }
            var passes = low <= value && value <= limit
            if gradient == .inward { passes = passes || (value > limit && slope > 0) || (value < low && slope < 0) }
            dx.append(passes && limit != 0 ? slope : 0)
        }
        return dx
    }
}
