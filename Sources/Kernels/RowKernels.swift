/// Functions of clause E over arrays, correctly rounded.
public final class MathKernels: Sendable {
    public typealias Function =
        @Sendable (_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int) -> Void
    public let exp: Function
    public let log: Function
    public let rsqrt: Function

    public init(exp: @escaping Function, log: @escaping Function, rsqrt: @escaping Function) {
        self.exp = exp
        self.log = log
        self.rsqrt = rsqrt
    }
}

/// What is done to rows of a tensor between the products. All of one instruction set; `n` elements, any number, at any address; bf16 as bits.
public final class RowKernels: Sendable {
    public typealias In = UnsafePointer<Float>
    public typealias Out = UnsafeMutablePointer<Float>
    public typealias InBF16 = UnsafePointer<UInt16>
    public typealias OutBF16 = UnsafeMutablePointer<UInt16>

    /// y = c + 0, NaN canonical (D3, F2).
    public let finish: @Sendable (_ c: In, _ y: Out, _ n: Int) -> Void
    /// y = bf16(c + 0) (D3).
    public let finishBF16: @Sendable (_ c: In, _ y: OutBF16, _ n: Int) -> Void
    /// y = bf16(fl(scale * fl(c + 0))) (Z2).
    public let finishScaled: @Sendable (_ c: In, _ scale: Float, _ y: OutBF16, _ n: Int) -> Void
    /// y = bf16(fl(x + fl(c + 0))) (T2).
    public let finishResidual: @Sendable (_ c: In, _ x: InBF16, _ y: OutBF16, _ n: Int) -> Void
    /// y = bf16(x).
    public let round: @Sendable (_ x: In, _ y: OutBF16, _ n: Int) -> Void
    /// y = x, bf16 as fp32.
    public let widen: @Sendable (_ x: InBF16, _ y: Out, _ n: Int) -> Void
    /// y = fl(y + x), x bf16.
    public let accumulate: @Sendable (_ x: InBF16, _ y: Out, _ n: Int) -> Void
    /// y = fl(a + b), NaN canonical.
    public let add: @Sendable (_ a: In, _ b: In, _ y: Out, _ n: Int) -> Void
    /// y = fl(x * factor), NaN canonical.
    public let scale: @Sendable (_ x: In, _ factor: Float, _ y: Out, _ n: Int) -> Void

    /// x * y + z, rounded once.
    public let fma: @Sendable (_ x: Float, _ y: Float, _ z: Float) -> Float
    /// lane16 sum of x (R1).
    public let sum: @Sendable (_ x: In, _ n: Int) -> Float
    /// lane16 sum of fma(x, y) (R1).
    public let sumOfProducts: @Sendable (_ x: In, _ y: In, _ n: Int) -> Float
    /// lane16 sum of fma(x, x), x bf16 (R1).
    public let sumOfSquaresBF16: @Sendable (_ x: InBF16, _ n: Int) -> Float
    /// lane16 sum of fma(x, y), both bf16 (R1).
    public let sumOfProductsBF16: @Sendable (_ x: InBF16, _ y: InBF16, _ n: Int) -> Float
    /// The largest of x (R4), n >= 1.
    public let maximum: @Sendable (_ x: In, _ n: Int) -> Float

    /// y = bf16(fl(fl(x * r) * gain)) (T2).
    public let normalize: @Sendable (_ x: InBF16, _ gain: InBF16, _ r: Float, _ y: OutBF16, _ n: Int) -> Void
    /// lane16 of fma(a, xhat), a = fl(dy * gain), xhat = fl(x * r) (T2).
    public let normalizedProduct: @Sendable (_ dy: InBF16, _ x: InBF16, _ gain: InBF16, _ r: Float, _ n: Int) -> Float
    /// bf16(fl(stream + dx)), or bf16(dx) without a stream, dx = fl(r * fl(a - fl(xhat * mean))) (T2).
    public let normalizeBackward:
        @Sendable (
            _ dy: InBF16, _ x: InBF16, _ gain: InBF16, _ r: Float, _ mean: Float, _ stream: InBF16?, _ y: OutBF16,
            _ n: Int
        ) -> Void
    /// dx of the same, in fp32.
    public let normalizeGradient:
        @Sendable (_ dy: InBF16, _ x: InBF16, _ gain: InBF16, _ r: Float, _ mean: Float, _ dx: Out, _ n: Int) -> Void
    /// dg[c] = chain over the rows of fma(dy, fl(x * r)) (T2, R3) for n columns; the tensors have `stride` columns.
    public let gainGradient:
        @Sendable (_ dy: InBF16, _ x: InBF16, _ r: In, _ rows: Int, _ stride: Int, _ dg: Out, _ n: Int) -> Void

    /// y = fl(p * p), p the positive part of u (T2).
    public let square: @Sendable (_ u: InBF16, _ y: Out, _ n: Int) -> Void
    /// du = fl(dy * fl(2 p)), +0 where p is 0 (T2).
    public let squareBackward: @Sendable (_ u: InBF16, _ dy: In, _ du: Out, _ n: Int) -> Void
    /// u = bf16(c + 0), and of it ReLU^2, the clamp, int8, bf16 (T2, C2, C3).
    public let feedForward:
        @Sendable (
            _ c: In, _ clamp: FeedForwardClamp, _ u: OutBF16, _ codes: UnsafeMutablePointer<Int8>?, _ y: OutBF16,
            _ counts: inout ClampCounts, _ n: Int
        ) -> Void
    /// du = bf16 of the gradient through clamp and ReLU^2 of dy = c + 0 (T2, C4).
    public let feedForwardBackward:
        @Sendable (_ c: In, _ u: InBF16, _ clamp: FeedForwardClamp, _ du: OutBF16, _ n: Int) -> Void
    /// One head of 2 `half` elements turned by cosines and sines, or back (E4, T2).
    public let rotate:
        @Sendable (_ x: InBF16, _ cosine: In, _ sine: In, _ isBackward: Bool, _ y: OutBF16, _ half: Int) -> Void

    /// s = fl(scale * fl(s + 0)) in whole tiles of 16; the largest visible s, and the largest |s|; `bits` has a bit a key (Z1, R4).
    public let scaleLogits:
        @Sendable (_ s: Out, _ scale: Float, _ bits: InBF16, _ tiles: Int) -> (maximum: Float, magnitude: Float)
    /// s = exp(fl(s - maximum)), +0 where not visible; adds to the lanes of the sum (Z1, R1).
    public let exponentials: @Sendable (_ s: Out, _ maximum: Float, _ bits: InBF16, _ lanes: Out, _ tiles: Int) -> Void
    /// Sixteen lanes to one number (R1).
    public let combine: @Sendable (_ lanes: In) -> Float
    /// p = fl(s / sum), bf16(p) where it is asked for; +0 where not visible (Z1). p may be s.
    public let probabilities:
        @Sendable (_ s: In, _ sum: Float, _ bits: InBF16, _ p: Out?, _ rounded: OutBF16, _ tiles: Int) -> Void
    /// dp = dp + 0 where visible, else +0; adds fma(p, dp) to the lanes (Z2, R1).
    public let weighProbabilities: @Sendable (_ p: In, _ dp: Out, _ bits: InBF16, _ lanes: Out, _ tiles: Int) -> Void
    /// ds = bf16 of dS by form, +0 where not visible (Z2, Z3).
    public let logitGradient:
        @Sendable (_ p: In, _ dp: In, _ form: GradientForm, _ bits: InBF16, _ ds: OutBF16, _ tiles: Int) -> Void

    /// y = exp(fl(x - maximum)) and its lane16 sum (Z1).
    public let softmaxExponentials: @Sendable (_ x: In, _ maximum: Float, _ y: Out, _ n: Int) -> Float
    /// y = fl(x / divisor).
    public let divide: @Sendable (_ x: In, _ divisor: Float, _ y: Out, _ n: Int) -> Void
    /// dlogits = bf16(fl(fl(d + fl(dz * p)) * weight)), the inner sum left out where `dz` is nil (Z4, T2).
    public let lossGradient: @Sendable (_ d: In, _ p: In, _ dz: Float?, _ weight: Float, _ y: OutBF16, _ n: Int) -> Void

    /// AdamW (T4), and the bf16 weights of the next step.
    public let adamW:
        @Sendable (_ w: Out, _ m: Out, _ v: Out, _ g: In, _ rounded: OutBF16, _ h: AdamWConstants, _ n: Int) -> Void

    public init(
        finish: @escaping @Sendable (In, Out, Int) -> Void, finishBF16: @escaping @Sendable (In, OutBF16, Int) -> Void,
        finishScaled: @escaping @Sendable (In, Float, OutBF16, Int) -> Void,
        finishResidual: @escaping @Sendable (In, InBF16, OutBF16, Int) -> Void,
        round: @escaping @Sendable (In, OutBF16, Int) -> Void,
        widen: @escaping @Sendable (InBF16, Out, Int) -> Void,
        accumulate: @escaping @Sendable (InBF16, Out, Int) -> Void,
        add: @escaping @Sendable (In, In, Out, Int) -> Void, scale: @escaping @Sendable (In, Float, Out, Int) -> Void,
        fma: @escaping @Sendable (Float, Float, Float) -> Float,
        sum: @escaping @Sendable (In, Int) -> Float, sumOfProducts: @escaping @Sendable (In, In, Int) -> Float,
        sumOfSquaresBF16: @escaping @Sendable (InBF16, Int) -> Float,
        sumOfProductsBF16: @escaping @Sendable (InBF16, InBF16, Int) -> Float,
        maximum: @escaping @Sendable (In, Int) -> Float,
        normalize: @escaping @Sendable (InBF16, InBF16, Float, OutBF16, Int) -> Void,
        normalizedProduct: @escaping @Sendable (InBF16, InBF16, InBF16, Float, Int) -> Float,
        normalizeBackward: @escaping @Sendable (InBF16, InBF16, InBF16, Float, Float, InBF16?, OutBF16, Int) -> Void,
        normalizeGradient: @escaping @Sendable (InBF16, InBF16, InBF16, Float, Float, Out, Int) -> Void,
        gainGradient: @escaping @Sendable (InBF16, InBF16, In, Int, Int, Out, Int) -> Void,
        square: @escaping @Sendable (InBF16, Out, Int) -> Void,
        squareBackward: @escaping @Sendable (InBF16, In, Out, Int) -> Void,
        feedForward:
            @escaping @Sendable (
                In, FeedForwardClamp, OutBF16, UnsafeMutablePointer<Int8>?, OutBF16, inout ClampCounts, Int
            ) -> Void,
        feedForwardBackward: @escaping @Sendable (In, InBF16, FeedForwardClamp, OutBF16, Int) -> Void,
        rotate: @escaping @Sendable (InBF16, In, In, Bool, OutBF16, Int) -> Void,
        scaleLogits: @escaping @Sendable (Out, Float, InBF16, Int) -> (maximum: Float, magnitude: Float),
        exponentials: @escaping @Sendable (Out, Float, InBF16, Out, Int) -> Void,
        combine: @escaping @Sendable (In) -> Float,
        probabilities: @escaping @Sendable (In, Float, InBF16, Out?, OutBF16, Int) -> Void,
        weighProbabilities: @escaping @Sendable (In, Out, InBF16, Out, Int) -> Void,
        logitGradient: @escaping @Sendable (In, In, GradientForm, InBF16, OutBF16, Int) -> Void,
        softmaxExponentials: @escaping @Sendable (In, Float, Out, Int) -> Float,
        divide: @escaping @Sendable (In, Float, Out, Int) -> Void,
        lossGradient: @escaping @Sendable (In, In, Float?, Float, OutBF16, Int) -> Void,
        adamW: @escaping @Sendable (Out, Out, Out, In, OutBF16, AdamWConstants, Int) -> Void
    ) {
        self.finish = finish
        self.finishBF16 = finishBF16
        self.finishScaled = finishScaled
        self.finishResidual = finishResidual
        self.round = round
        self.widen = widen
        self.accumulate = accumulate
        self.add = add
        self.scale = scale
        self.fma = fma
        self.sum = sum
        self.sumOfProducts = sumOfProducts
        self.sumOfSquaresBF16 = sumOfSquaresBF16
        self.sumOfProductsBF16 = sumOfProductsBF16
        self.maximum = maximum
        self.normalize = normalize
        self.normalizedProduct = normalizedProduct
        self.normalizeBackward = normalizeBackward
        self.normalizeGradient = normalizeGradient
        self.gainGradient = gainGradient
        self.square = square
        self.squareBackward = squareBackward
        self.feedForward = feedForward
        self.feedForwardBackward = feedForwardBackward
        self.rotate = rotate
        self.scaleLogits = scaleLogits
        self.exponentials = exponentials
        self.combine = combine
        self.probabilities = probabilities
        self.weighProbabilities = weighProbabilities
        self.logitGradient = logitGradient
        self.softmaxExponentials = softmaxExponentials
        self.divide = divide
        self.lossGradient = lossGradient
        self.adamW = adamW
    }
}

/// A feed-forward layer's clamp between ReLU^2 and bf16 (C2 to C4).
public struct FeedForwardClamp: Sendable {
    public enum Kind: Sendable { case none, clamp, int8 }
    public var kind: Kind
    /// L, of the value after the square.
    public var limit: Float
    /// fl(127 / L), and fl(L * RNE32(1/127)).
    public var codeScale: Float
    public var step: Float
    /// C4's `inward`.
    public var isInward: Bool

    public init(kind: Kind, limit: Float, codeScale: Float, step: Float, isInward: Bool) {
        self.kind = kind
        self.limit = limit
        self.codeScale = codeScale
        self.step = step
        self.isInward = isInward
    }
}

/// How many values a clamp moved (C5).
public struct ClampCounts: Sendable, Hashable {
    public var above = 0
    public var zeroCodes = 0
    public var notANumber = 0

    public init() {}
}

/// dS of a row (Z2): folded fl(P * fl(dP - d)); unfolded fl(fl(P * fl(dP - d)) + fl(dZ * P)).
public struct GradientForm: Sendable {
    /// D, or fl(D - dZ) where it is folded.
    public var d: Float
    /// nil where no term is added.
    public var dz: Float?

    public init(d: Float, dz: Float?) {
        self.d = d
        self.dz = dz
    }
}

/// What AdamW has in common for a tensor (T4), every number rounded as its clause says.
public struct AdamWConstants: Sendable {
    public var beta1: Float
    public var rest1: Float
    public var beta2: Float
    public var rest2: Float
    public var correction1: Float
    public var correction2: Float
    public var epsilon: Float
    /// nil where nothing decays.
    public var decay: Float?
    public var rate: Float
    /// The factor of clipping; nil where gradients stay as they are.
    public var clip: Float?

    /// Of step `step` from 1; the gradients' norm before clipping.
    public init(
        beta1: Float, beta2: Float, epsilon: Float, weightDecay: Float, learningRate: Float, step: Int, norm: Float,
        clipNorm: Float
    ) {
        self.init(
            beta1: beta1, rest1: 1 - beta1, beta2: beta2, rest2: 1 - beta2,
            correction1: ScalarMath.biasCorrection(beta1, step: step),
            correction2: ScalarMath.biasCorrection(beta2, step: step), epsilon: epsilon,
            decay: weightDecay == 0 ? nil : weightDecay, rate: -learningRate,
            clip: 0 < clipNorm && clipNorm < norm ? clipNorm / norm : nil)
    }

    public init(
        beta1: Float, rest1: Float, beta2: Float, rest2: Float, correction1: Float, correction2: Float, epsilon: Float,
        decay: Float?, rate: Float, clip: Float?
    ) {
        self.beta1 = beta1
        self.rest1 = rest1
        self.beta2 = beta2
        self.rest2 = rest2
        self.correction1 = correction1
        self.correction2 = correction2
        self.epsilon = epsilon
        self.decay = decay
        self.rate = rate
        self.clip = clip
    }
}
