import CVector
import Kernels

// What is done to rows between the products, sixteen elements at a time; the rest of a row is padded with +0, which no result sees.

enum Rows {
    typealias In = UnsafePointer<Float>
    typealias Out = UnsafeMutablePointer<Float>
    typealias InBF16 = UnsafePointer<UInt16>
    typealias OutBF16 = UnsafeMutablePointer<UInt16>
    typealias Mask = SIMD16<Int32>

    private static let zero = Vector()

    @inline(__always)
    private static func forEach(_ n: Int, _ body: (_ i: Int, _ count: Int) -> Void) {
        var i = 0
        while i < n {
            body(i, n &- i)
            i &+= 16
        }
    }

    /// x + 0: -0 is +0 (D3).
    @inline(__always)
    private static func finished(_ c: In, _ count: Int) -> Vector { ts_load_some(c, count) + zero }

    // MARK: - Ends of products

    static func finish(_ c: In, _ y: Out, _ n: Int) {
        forEach(n) { i, count in ts_store_some(y + i, ts_canonical(finished(c + i, count)), count) }
    }

    static func finishBF16(_ c: In, _ y: OutBF16, _ n: Int) {
        forEach(n) { i, count in ts_store_bf16_some(y + i, finished(c + i, count), count) }
    }

    static func finishScaled(_ c: In, _ scale: Float, _ y: OutBF16, _ n: Int) {
        let factor = Vector(repeating: scale)
        forEach(n) { i, count in ts_store_bf16_some(y + i, factor * finished(c + i, count), count) }
    }

    static func finishResidual(_ c: In, _ x: InBF16, _ y: OutBF16, _ n: Int) {
        forEach(n) { i, count in
            ts_store_bf16_some(y + i, ts_load_bf16_some(x + i, count) + finished(c + i, count), count)
        }
    }

    // MARK: - Element by element

    static func round(_ x: In, _ y: OutBF16, _ n: Int) {
        forEach(n) { i, count in ts_store_bf16_some(y + i, ts_load_some(x + i, count), count) }
    }

    static func accumulate(_ x: InBF16, _ y: Out, _ n: Int) {
        forEach(n) { i, count in
            ts_store_some(y + i, ts_load_some(y + i, count) + ts_load_bf16_some(x + i, count), count)
        }
    }

    static func add(_ a: In, _ b: In, _ y: Out, _ n: Int) {
        forEach(n) { i, count in
            ts_store_some(y + i, ts_canonical(ts_load_some(a + i, count) + ts_load_some(b + i, count)), count)
        }
    }

    static func scale(_ x: In, _ factor: Float, _ y: Out, _ n: Int) {
        let factor = Vector(repeating: factor)
        forEach(n) { i, count in ts_store_some(y + i, ts_canonical(ts_load_some(x + i, count) * factor), count) }
    }

    static func divide(_ x: In, _ divisor: Float, _ y: Out, _ n: Int) {
        let divisor = Vector(repeating: divisor)
        forEach(n) { i, count in ts_store_some(y + i, ts_load_some(x + i, count) / divisor, count) }
    }

    /// One lane of a vector operation: the same instruction, or the same path through binary64.
    static func fma(_ x: Float, _ y: Float, _ z: Float) -> Float {
        ts_fma(Vector(repeating: x), Vector(repeating: y), Vector(repeating: z))[0]
    }

    // MARK: - Reductions: padding of +0 leaves a lane as it is

    static func sum(_ x: In, _ n: Int) -> Float {
        var lanes = zero
        forEach(n) { i, count in lanes = lanes + ts_load_some(x + i, count) }
        return ts_combine(lanes)
    }

    static func sumOfProducts(_ x: In, _ y: In, _ n: Int) -> Float {
        var lanes = zero
        forEach(n) { i, count in lanes = ts_fma(ts_load_some(x + i, count), ts_load_some(y + i, count), lanes) }
        return ts_combine(lanes)
    }

    static func sumOfSquaresBF16(_ x: InBF16, _ n: Int) -> Float {
        var lanes = zero
        forEach(n) { i, count in
            let v = ts_load_bf16_some(x + i, count)
            lanes = ts_fma(v, v, lanes)
        }
        return ts_combine(lanes)
    }

    static func sumOfProductsBF16(_ x: InBF16, _ y: InBF16, _ n: Int) -> Float {
        var lanes = zero
        forEach(n) { i, count in
            lanes = ts_fma(ts_load_bf16_some(x + i, count), ts_load_bf16_some(y + i, count), lanes)
        }
        return ts_combine(lanes)
    }

    /// The larger of each lane; where either is NaN, NaN.
    @inline(__always)
    private static func larger(_ a: Vector, _ b: Vector) -> Vector {
        ts_select(ts_is_nan(a) | ts_less(b, a), a, b)
    }

    static func maximum(_ x: In, _ n: Int) -> Float {
        var largest = Vector(repeating: x[0])
        forEach(n) { i, count in
            var v = ts_load_some(x + i, count)
            if count < 16 { v = ts_select(ts_lanes((1 << UInt32(count)) &- 1), v, largest) }
            largest = larger(largest, v)
        }
        return largestLane(largest)
    }

    /// R4: NaN propagates, a zero is +0.
    @inline(__always)
    private static func largestLane(_ v: Vector) -> Float {
        var largest = v[0]
        for lane in 1..<16 {
            let x = v[lane]
            if x != x || x > largest { largest = x }
            if largest != largest { return Float(bitPattern: 0x7FC0_0000) }
        }
        return largest != largest ? Float(bitPattern: 0x7FC0_0000) : largest + 0
    }

    // MARK: - RMSNorm

    static func normalize(_ x: InBF16, _ gain: InBF16, _ r: Float, _ y: OutBF16, _ n: Int) {
        let r = Vector(repeating: r)
        forEach(n) { i, count in
            let normalized = ts_load_bf16_some(x + i, count) * r
            ts_store_bf16_some(y + i, normalized * ts_load_bf16_some(gain + i, count), count)
        }
    }

    static func normalizedProduct(_ dy: InBF16, _ x: InBF16, _ gain: InBF16, _ r: Float, _ n: Int) -> Float {
        let r = Vector(repeating: r)
        var lanes = zero
        forEach(n) { i, count in
            var a = ts_load_bf16_some(dy + i, count) * ts_load_bf16_some(gain + i, count)
            var normalized = ts_load_bf16_some(x + i, count) * r
            if count < 16 {
                // Padding times an infinite r is NaN: it takes no part.
                let mask = ts_lanes((1 << UInt32(count)) &- 1)
                a = ts_mask(mask, a)
                normalized = ts_mask(mask, normalized)
            }
            lanes = ts_fma(a, normalized, lanes)
        }
        return ts_combine(lanes)
    }

    static func normalizeBackward(
        _ dy: InBF16, _ x: InBF16, _ gain: InBF16, _ r: Float, _ mean: Float, _ stream: InBF16?, _ y: OutBF16, _ n: Int
    ) {
        let r = Vector(repeating: r)
        let mean = Vector(repeating: mean)
        forEach(n) { i, count in
            let a = ts_load_bf16_some(dy + i, count) * ts_load_bf16_some(gain + i, count)
            let normalized = ts_load_bf16_some(x + i, count) * r
            let dx = r * (a - normalized * mean)
            if let stream {
                ts_store_bf16_some(y + i, ts_load_bf16_some(stream + i, count) + dx, count)
            } else {
                ts_store_bf16_some(y + i, dx, count)
            }
        }
    }

    static func normalizeGradient(
        _ dy: InBF16, _ x: InBF16, _ gain: InBF16, _ r: Float, _ mean: Float, _ dx: Out, _ n: Int
    ) {
        let r = Vector(repeating: r)
        let mean = Vector(repeating: mean)
        forEach(n) { i, count in
            let a = ts_load_bf16_some(dy + i, count) * ts_load_bf16_some(gain + i, count)
            let normalized = ts_load_bf16_some(x + i, count) * r
            ts_store_some(dx + i, ts_canonical(r * (a - normalized * mean)), count)
        }
    }

    static func gainGradient(_ dy: InBF16, _ x: InBF16, _ r: In, _ rows: Int, _ stride: Int, _ dg: Out, _ n: Int) {
        forEach(n) { i, count in
            var sum = zero
            for row in 0..<rows {
                let at = row &* stride &+ i
                let normalized = ts_load_bf16_some(x + at, count) * Vector(repeating: r[row])
                sum = ts_fma(ts_load_bf16_some(dy + at, count), normalized, sum)
            }
            ts_store_some(dg + i, ts_canonical(sum + zero), count)
        }
    }

    // MARK: - Feed-forward

    /// u where u > 0 or NaN, else +0.
    @inline(__always)
    private static func positivePart(_ u: Vector) -> Vector { ts_select(ts_less_equal(u, zero), zero, u) }

    static func square(_ u: InBF16, _ y: Out, _ n: Int) {
        forEach(n) { i, count in
            let p = positivePart(ts_load_bf16_some(u + i, count))
            ts_store_some(y + i, ts_canonical(p * p), count)
        }
    }

    static func squareBackward(_ u: InBF16, _ dy: In, _ du: Out, _ n: Int) {
        let two = Vector(repeating: 2)
        forEach(n) { i, count in
            let p = positivePart(ts_load_bf16_some(u + i, count))
            let slope = ts_mask(~ts_less_equal(p, zero), ts_load_some(dy + i, count) * (two * p))
            ts_store_some(du + i, ts_canonical(slope), count)
        }
    }

    static func feedForward(
        _ c: In, _ clamp: FeedForwardClamp, _ u: OutBF16, _ codes: UnsafeMutablePointer<Int8>?, _ y: OutBF16,
        _ counts: inout ClampCounts, _ n: Int
    ) {
        let limit = Vector(repeating: clamp.limit)
        let codeScale = Vector(repeating: clamp.codeScale)
        let step = Vector(repeating: clamp.step)
        let hundred27 = Vector(repeating: 127)
        let isZeroLimit = clamp.limit == 0
        forEach(n) { i, count in
            ts_store_bf16_some(u + i, finished(c + i, count), count)
            let p = positivePart(ts_load_bf16_some(u + i, count))
            var value = p * p
            if clamp.kind != .none {
                let isNaN = ts_is_nan(value)
                let isAbove = ts_less(limit, value)
                let present: UInt32 = count >= 16 ? 0xFFFF : (1 << UInt32(count)) &- 1
                counts.above &+= (ts_lane_bits(isAbove) & present).nonzeroBitCount
                counts.notANumber &+= (ts_lane_bits(isNaN) & present).nonzeroBitCount
                value = ts_select(isAbove, limit, value)
                if isZeroLimit { value = ts_mask(isNaN, value) }
                if clamp.kind == .int8 {
                    var code = isZeroLimit ? zero : ts_nearest_integer(value * codeScale)
                    code = ts_select(ts_less(hundred27, code), hundred27, code)
                    code = ts_mask(~isNaN, code)
                    let isZero = ts_less_equal(ts_abs(code), zero)
                    counts.zeroCodes &+= (ts_lane_bits(isZero & ~isNaN) & present).nonzeroBitCount
                    if let codes { ts_store_int8_some(codes + i, code, count) }
                    value = ts_select(isNaN, value, ts_mask(~isZero, code * step))
                }
            }
            ts_store_bf16_some(y + i, value, count)
        }
    }

    static func feedForwardBackward(_ c: In, _ u: InBF16, _ clamp: FeedForwardClamp, _ du: OutBF16, _ n: Int) {
        let limit = Vector(repeating: clamp.limit)
        let two = Vector(repeating: 2)
        forEach(n) { i, count in
            var dy = finished(c + i, count)
            let p = positivePart(ts_load_bf16_some(u + i, count))
            if clamp.kind != .none {
                let value = p * p
                let isNaN = ts_is_nan(value)
                if clamp.limit == 0 {
                    dy = ts_mask(isNaN, dy)
                } else {
                    var stops = ts_less(limit, value)
                    if clamp.isInward { stops = stops & ~ts_less(zero, dy) }
                    dy = ts_mask(~stops, dy)
                }
                dy = ts_select(isNaN, value, dy)
            }
            let slope = dy * (two * p)
            ts_store_bf16_some(du + i, ts_mask(~ts_less_equal(p, zero), slope), count)
        }
    }

    // MARK: - Rotary embedding

    static func rotate(_ x: InBF16, _ cosine: In, _ sine: In, _ isBackward: Bool, _ y: OutBF16, _ half: Int) {
        forEach(half) { i, count in
            let (first, second) = (ts_load_bf16_some(x + i, count), ts_load_bf16_some(x + half + i, count))
            let cosine = ts_load_some(cosine + i, count)
            var sine = ts_load_some(sine + i, count)
            if isBackward { sine = ts_negate(sine) }
            ts_store_bf16_some(y + i, ts_fma(first, cosine, ts_negate(second * sine)), count)
            ts_store_bf16_some(y + half + i, ts_fma(first, sine, second * cosine), count)
        }
    }

    // MARK: - Attention: whole tiles of sixteen keys, a bit a key

    static func scaleLogits(
        _ s: Out, _ scale: Float, _ bits: InBF16, _ tiles: Int
    ) -> (maximum: Float, magnitude: Float) {
        let scale = Vector(repeating: scale)
        var largest = Vector(repeating: -Float.infinity)
        var magnitude = zero
        for tile in 0..<tiles where bits[tile] != 0 {
            let mask = ts_lanes(UInt32(bits[tile]))
            let v = scale * (ts_load(s + 16 &* tile) + zero)
            ts_store(s + 16 &* tile, v)
            largest = larger(largest, ts_select(mask, v, largest))
            magnitude = larger(magnitude, ts_mask(mask, ts_abs(v)))
        }
        return (largestLane(largest), largestLane(magnitude))
    }

    static func exponentials(_ s: Out, _ maximum: Float, _ bits: InBF16, _ lanes: Out, _ tiles: Int) {
        let maximum = Vector(repeating: maximum)
        var sum = ts_load(lanes)
        for tile in 0..<tiles where bits[tile] != 0 {
            let mask = ts_lanes(UInt32(bits[tile]))
            let e = ts_mask(mask, VectorMath.exp(ts_mask(mask, ts_load(s + 16 &* tile) - maximum)))
            ts_store(s + 16 &* tile, e)
            sum = sum + e
        }
        ts_store(lanes, sum)
    }

    static func probabilities(_ s: In, _ sum: Float, _ bits: InBF16, _ p: Out?, _ rounded: OutBF16, _ tiles: Int) {
        let sum = Vector(repeating: sum)
        for tile in 0..<tiles {
            guard bits[tile] != 0 else {
                ts_store_bf16(rounded + 16 &* tile, zero)
                continue
            }
            let v = ts_mask(ts_lanes(UInt32(bits[tile])), ts_load(s + 16 &* tile) / sum)
            if let p { ts_store(p + 16 &* tile, v) }
            ts_store_bf16(rounded + 16 &* tile, v)
        }
    }

    static func weighProbabilities(_ p: In, _ dp: Out, _ bits: InBF16, _ lanes: Out, _ tiles: Int) {
        var sum = ts_load(lanes)
        for tile in 0..<tiles where bits[tile] != 0 {
            let v = ts_mask(ts_lanes(UInt32(bits[tile])), ts_load(dp + 16 &* tile) + zero)
            ts_store(dp + 16 &* tile, v)
            sum = ts_fma(ts_load(p + 16 &* tile), v, sum)
        }
        ts_store(lanes, sum)
    }

    static func logitGradient(
        _ p: In, _ dp: In, _ form: GradientForm, _ bits: InBF16, _ ds: OutBF16, _ tiles: Int
    ) {
        let d = Vector(repeating: form.d)
        let dz = Vector(repeating: form.dz ?? 0)
        for tile in 0..<tiles {
            guard bits[tile] != 0 else {
                ts_store_bf16(ds + 16 &* tile, zero)
                continue
            }
            let probability = ts_load(p + 16 &* tile)
            var v = probability * (ts_load(dp + 16 &* tile) - d)
            if form.dz != nil { v = v + dz * probability }
            ts_store_bf16(ds + 16 &* tile, ts_mask(ts_lanes(UInt32(bits[tile])), v))
        }
    }

    // MARK: - Losses

    static func softmaxExponentials(_ x: In, _ maximum: Float, _ y: Out, _ n: Int) -> Float {
        let largest = Vector(repeating: maximum)
        var lanes = zero
        forEach(n) { i, count in
            var e = VectorMath.exp(ts_load_some(x + i, count) - largest)
            if count < 16 { e = ts_mask(ts_lanes((1 << UInt32(count)) &- 1), e) }
            ts_store_some(y + i, e, count)
            lanes = lanes + e
        }
        return ts_combine(lanes)
    }

    static func lossGradient(_ d: In, _ p: In, _ dz: Float?, _ weight: Float, _ y: OutBF16, _ n: Int) {
        let weight = Vector(repeating: weight)
        forEach(n) { i, count in
            var v = ts_load_some(d + i, count)
            if let dz { v = v + Vector(repeating: dz) * ts_load_some(p + i, count) }
            ts_store_bf16_some(y + i, v * weight, count)
        }
    }

    // MARK: - Optimizer

    static func adamW(_ w: Out, _ m: Out, _ v: Out, _ g: In, _ rounded: OutBF16, _ h: AdamWConstants, _ n: Int) {
        let (beta1, rest1) = (Vector(repeating: h.beta1), Vector(repeating: h.rest1))
        let (beta2, rest2) = (Vector(repeating: h.beta2), Vector(repeating: h.rest2))
        let (correction1, correction2) = (Vector(repeating: h.correction1), Vector(repeating: h.correction2))
        let (epsilon, rate) = (Vector(repeating: h.epsilon), Vector(repeating: h.rate))
        forEach(n) { i, count in
            var gradient = ts_load_some(g + i, count)
            if let clip = h.clip { gradient = gradient * Vector(repeating: clip) }
            let first = ts_fma(beta1, ts_load_some(m + i, count), rest1 * gradient)
            let second = ts_fma(beta2, ts_load_some(v + i, count), (rest2 * gradient) * gradient)
            let weight = ts_load_some(w + i, count)
            var u = (first * correction1) / (ts_sqrt(second * correction2) + epsilon)
            if let decay = h.decay { u = ts_fma(Vector(repeating: decay), weight, u) }
            let next = ts_canonical(ts_fma(rate, u, weight))
            ts_store_some(m + i, ts_canonical(first), count)
            ts_store_some(v + i, ts_canonical(second), count)
            ts_store_some(w + i, next, count)
            ts_store_bf16_some(rounded + i, next, count)
        }
    }

    static let kernels = RowKernels(
        finish: finish, finishBF16: finishBF16, finishScaled: finishScaled, finishResidual: finishResidual,
        round: round, widen: Widening.widen, accumulate: accumulate, add: add, scale: scale, fma: fma, sum: sum,
        sumOfProducts: sumOfProducts,
        sumOfSquaresBF16: sumOfSquaresBF16, sumOfProductsBF16: sumOfProductsBF16, maximum: maximum,
        normalize: normalize, normalizedProduct: normalizedProduct, normalizeBackward: normalizeBackward,
        normalizeGradient: normalizeGradient,
        gainGradient: gainGradient, square: square, squareBackward: squareBackward, feedForward: feedForward,
        feedForwardBackward: feedForwardBackward, rotate: rotate,
        scaleLogits: scaleLogits, exponentials: exponentials, combine: { ts_combine(ts_load($0)) },
        probabilities: probabilities, weighProbabilities: weighProbabilities, logitGradient: logitGradient,
        softmaxExponentials: softmaxExponentials, divide: divide, lossGradient: lossGradient, adamW: adamW)
}
