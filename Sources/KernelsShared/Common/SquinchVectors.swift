import CVector
import Kernels

// Squinch on two blocks at a time (S1 to S5): codes from an fp32 square root, corrected by comparisons that are exact: floor16's by the sign of one
// fused multiply-add, round15's in binary64.

enum SquinchVectors {
    static func encode(
        _ x: UnsafePointer<Float>, _ bytes: UnsafeMutablePointer<UInt8>, _ n: Int, _ isFloor: Bool
    ) -> SquinchKernels.Counts {
        let tables = SquinchTables.shared
        var counts: SquinchKernels.Counts = (0, 0, 0)
        for pair in 0..<n {
            let v = ts_load(x + 16 &* pair)
            let magnitudes = ts_abs(v)
            let (m0, m1) = (ts_max_low(magnitudes), ts_max_high(magnitudes))
            let (q0, q1) = (tables.scaleByte(m0), tables.scaleByte(m1))
            count(m0, q0, tables, &counts)
            count(m1, q1, tables, &counts)
            let scale = ts_halves(tables.scales[q0], tables.scales[q1])
            let codes: Rows.Mask
            if isFloor {
                codes = floorCodes(magnitudes, scale, ts_halves(tables.inverses[q0], tables.inverses[q1]))
            } else {
                codes = ts_round15_codes(magnitudes, scale)
            }
            let signs = ts_lane_bits(ts_sign(v))
            let out = bytes + 12 &* pair
            store(out, q0, signs & 0xFF, ts_nibbles_low(codes))
            store(out + 6, q1, signs >> 8, ts_nibbles_high(codes))
        }
        return counts
    }

    /// The largest k <= 15 with k^2 M <= 256 |x| (S3).
    @inline(__always)
    private static func floorCodes(_ x: Vector, _ scale: Vector, _ inverse: Vector) -> Rows.Mask {
        let scaled = x * Vector(repeating: 256)
        // k0 is right or one off: the root's relative error is below 2^-20, and it is below 17.
        let root = ts_sqrt(x * inverse)
        let largest = Vector(repeating: 15)
        var k = ts_truncate(ts_select(ts_less(root, largest), root, largest))
        let one = Vector(repeating: 1)
        let above = k + one
        k = ts_select(
            ts_less_equal(Vector(), ts_fma(ts_negate(above * above), scale, scaled)) & ts_less(k, largest), above, k)
        k = ts_select(ts_less(ts_fma(ts_negate(k * k), scale, scaled), Vector()), k - one, k)
        return ts_to_int(k)
    }

    @inline(__always)
    private static func count(_ m: Float, _ q: Int, _ tables: SquinchTables, _ counts: inout SquinchKernels.Counts) {
        if q == 0 {
            if m == 0 { counts.zero &+= 1 } else { counts.below &+= 1 }
        } else if q == 255 && tables.scales[255] < m {
            counts.above &+= 1
        }
    }

    /// One block; all of it 0 where the scale byte is (S4).
    @inline(__always)
    private static func store(_ out: UnsafeMutablePointer<UInt8>, _ q: Int, _ signs: UInt32, _ nibbles: UInt32) {
        let isZero = q == 0
        out[0] = UInt8(truncatingIfNeeded: q)
        out[1] = isZero ? 0 : UInt8(truncatingIfNeeded: signs)
        ts_store_uint32(out + 2, isZero ? 0 : nibbles)
    }

    static func decode(
        _ bytes: UnsafePointer<UInt8>, _ x: UnsafeMutablePointer<Float>, _ n: Int, _ isFloor: Bool
    ) {
        let tables = SquinchTables.shared
        for pair in 0..<n {
            let first = bytes + 12 &* pair
            let second = first + 6
            let (q0, q1) = (Int(first[0]), Int(second[0]))
            let signs = ts_lanes(
                (q0 == 0 ? 0 : UInt32(first[1])) | (q1 == 0 ? 0 : UInt32(second[1])) << 8)
            let codes = ts_spread_nibbles(ts_load_uint32(first + 2), ts_load_uint32(second + 2))
            var magnitude: Vector
            if isFloor {
                let odd = ts_from_int(codes &+ codes) + Vector(repeating: 1)
                let scale = ts_halves(q0 == 0 ? 0 : tables.scales[q0], q1 == 0 ? 0 : tables.scales[q1])
                magnitude = (odd * odd * Vector(repeating: 0x1p-10)) * scale
            } else {
                magnitude = Vector()
                for lane in 0..<16 {
                    magnitude[lane] = tables.round15[16 &* (lane < 8 ? q0 : q1) &+ Int(codes[lane])]
                }
            }
            ts_store(x + 16 &* pair, ts_with_sign(magnitude, signs))
        }
    }

    static func isFinite(_ x: UnsafePointer<Float>, _ n: Int) -> Bool {
        var i = 0
        var all = Rows.Mask()
        let infinity = Vector(repeating: Float.infinity)
        while i < n {
            all = all | ~ts_less(ts_abs(ts_load_some(x + i, n &- i)), infinity)
            i &+= 16
        }
        return ts_any(all) == 0
    }

    static let kernels = SquinchKernels(encode: encode, decode: decode, isFinite: isFinite)
}
