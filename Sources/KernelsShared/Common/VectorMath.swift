import CVector
import Kernels

// Functions of clause E on sixteen lanes: a binary64 estimate of each, rounded where that is safe (E3). The lanes where it is not, and special
// arguments, go through the scalar functions one by one.

enum VectorMath {
    /// How near to half way, in units of the last of 53 bits, an estimate is not trusted: its error is below 16.
    private static let margin: Int64 = 32

    // MARK: - exp

    @inline(__always)
    static func exp(_ x: Vector) -> Vector {
        let (low, lowUnsafe) = expEstimate(ts_widen_low(x))
        let (high, highUnsafe) = expEstimate(ts_widen_high(x))
        let y = ts_narrow(low, high)
        // Outside, and for NaN, the exponent below would not be one.
        let isOrdinary = ts_less(ts_abs(x), Vector(repeating: 87))
        let careful = ts_lane_bits(ts_join(lowUnsafe, highUnsafe)) | ~ts_lane_bits(isOrdinary) & 0xFFFF
        return careful == 0 ? y : corrected(x, y, careful, ScalarMath.exp)
    }

    @inline(__always)
    private static func expEstimate(_ x: SIMD8<Double>) -> (SIMD8<Double>, SIMD8<Int64>) {
        let shift = SIMD8<Double>(repeating: 0x1.8p52)
        // log2(e), then the nearest integer in the low bits of t.
        let t = ts_estimate_fma8(x, SIMD8(repeating: 1.4426950408889634), shift)
        let k = t - shift
        var r = ts_estimate_fma8(k, SIMD8(repeating: -0x1.62e42fefa3800p-1), x)
        r = ts_estimate_fma8(k, SIMD8(repeating: -0x1.ef35793c76730p-45), r)
        // The series to r^13 / 13!, evens and odds apart.
        let z = r * r
        var even = SIMD8<Double>(repeating: 1 / 479_001_600)
        even = ts_estimate_fma8(even, z, SIMD8(repeating: 1 / 3_628_800))
        even = ts_estimate_fma8(even, z, SIMD8(repeating: 1 / 40_320))
        even = ts_estimate_fma8(even, z, SIMD8(repeating: 1 / 720))
        even = ts_estimate_fma8(even, z, SIMD8(repeating: 1 / 24))
        even = ts_estimate_fma8(even, z, SIMD8(repeating: 1 / 2))
        var odd = SIMD8<Double>(repeating: 1 / 6_227_020_800)
        odd = ts_estimate_fma8(odd, z, SIMD8(repeating: 1 / 39_916_800))
        odd = ts_estimate_fma8(odd, z, SIMD8(repeating: 1 / 362_880))
        odd = ts_estimate_fma8(odd, z, SIMD8(repeating: 1 / 5_040))
        odd = ts_estimate_fma8(odd, z, SIMD8(repeating: 1 / 120))
        odd = ts_estimate_fma8(odd, z, SIMD8(repeating: 1 / 6))
        // 1 + (r + (z even + z r odd))
        let tail = ts_estimate_fma8(z, even, (z * r) * odd)
        let p = SIMD8<Double>(repeating: 1) + (r + tail)
        return (ts_scale8(p, t), ts_near_halfway(p, margin))
    }

    // MARK: - log

    @inline(__always)
    static func log(_ x: Vector) -> Vector {
        let e = ts_exponent(x)
        let m = ts_fraction(x, e)
        let (low, lowUnsafe) = logEstimate(ts_widen_low(m), ts_convert_low(e))
        let (high, highUnsafe) = logEstimate(ts_widen_high(m), ts_convert_high(e))
        let y = ts_narrow(low, high)
        let isOrdinary =
            ts_less_equal(Vector(repeating: 0x1p-126), x) & ts_less(x, Vector(repeating: Float.infinity))
        let careful = ts_lane_bits(ts_join(lowUnsafe, highUnsafe)) | ~ts_lane_bits(isOrdinary) & 0xFFFF
        return careful == 0 ? y : corrected(x, y, careful, ScalarMath.log)
    }

    /// k ln 2 + 2 atanh((m - 1) / (m + 1)).
    @inline(__always)
    private static func logEstimate(_ m: SIMD8<Double>, _ k: SIMD8<Double>) -> (SIMD8<Double>, SIMD8<Int64>) {
        let one = SIMD8<Double>(repeating: 1)
        let s = (m - one) / (m + one)
        let z = s * s
        var p = SIMD8<Double>(repeating: 2.0 / 23)
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 21))
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 19))
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 17))
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 15))
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 13))
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 11))
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 9))
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 7))
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 5))
        p = ts_estimate_fma8(p, z, SIMD8(repeating: 2.0 / 3))
        let series = ts_estimate_fma8(k, SIMD8(repeating: 0x1.ef35793c76730p-45), s * (z * p))
        let y = ts_estimate_fma8(k, SIMD8(repeating: 0x1.62e42fefa3800p-1), (s + s) + series)
        return (y, ts_near_halfway(y, margin))
    }

    // MARK: - rsqrt

    @inline(__always)
    static func rsqrt(_ x: Vector) -> Vector {
        let one = SIMD8<Double>(repeating: 1)
        let low = one / ts_sqrt8(ts_widen_low(x))
        let high = one / ts_sqrt8(ts_widen_high(x))
        let isOrdinary = ts_less(Vector(), x) & ts_less(x, Vector(repeating: Float.infinity))
        let unsafe = ts_lane_bits(ts_join(ts_near_halfway(low, margin), ts_near_halfway(high, margin)))
        let careful = unsafe | ~ts_lane_bits(isOrdinary) & 0xFFFF
        let y = ts_narrow(low, high)
        return careful == 0 ? y : corrected(x, y, careful, ScalarMath.rsqrt)
    }

    // MARK: - Pieces

    /// y with the lanes of `careful` computed anew.
    @inline(never)
    private static func corrected(_ x: Vector, _ y: Vector, _ careful: UInt32, _ function: (Float) -> Float) -> Vector {
        var y = y
        for lane in 0..<16 where careful >> UInt32(lane) & 1 == 1 { y[lane] = function(x[lane]) }
        return y
    }

    /// Element by element over an array.
    @inline(__always)
    static func map(
        _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int, _ function: (Vector) -> Vector,
        _ scalar: (Float) -> Float
    ) {
        var i = 0
        while i &+ 16 <= count {
            ts_store(y + i, ts_canonical(function(ts_load(x + i))))
            i &+= 16
        }
        while i < count {
            y[i] = scalar(x[i])
            i &+= 1
        }
    }

    static let kernels = MathKernels(
        exp: { x, y, count in map(x, y, count, exp, ScalarMath.exp) },
        log: { x, y, count in map(x, y, count, log, ScalarMath.log) },
        rsqrt: { x, y, count in map(x, y, count, rsqrt, ScalarMath.rsqrt) })
}
