import CVector
import Kernels

// Squinch on two blocks at a time (S1 to S5): codes from a rough square root that is never too large and at most one too small, and one comparison
// that is exact: the sign of a fused multiply-add.

enum SquinchVectors {
    static func encode(
        _ x: UnsafePointer<Float>, _ bytes: UnsafeMutablePointer<UInt8>, _ n: Int, _ variant: SquinchCode.Variant,
        _ words: UnsafePointer<UInt32>
    ) -> SquinchKernels.Counts {
        switch variant {
        case .floor16: encode(x, bytes, n) { x, scale, inverse, _ in ts_floor16_codes(x, scale, inverse) }
        case .round15: encode(x, bytes, n) { x, scale, inverse, _ in ts_round15_codes(x, scale, inverse) }
        case .stochastic15:
            encode(x, bytes, n) { x, scale, inverse, pair in
                ts_stochastic15_codes(x, scale, inverse, words + 16 &* pair)
            }
        }
    }

    /// Pairs whose scale bytes are found before the first one's codes are. One after the other, a pair's steps take longer than a processor
    /// looks ahead.
    private static let stretch = 32
    /// Pairs that are asked of memory before their stretch begins.
    private static let ahead = 48

    @inline(__always)
    private static func encode(
        _ x: UnsafePointer<Float>, _ bytes: UnsafeMutablePointer<UInt8>, _ n: Int,
        _ codes: (_ x: Vector, _ scale: Vector, _ inverse: Vector, _ pair: Int) -> Rows.Mask
    ) -> SquinchKernels.Counts {
        let tables = SquinchTables.shared
        let (scales, inverses) = (tables.scales, tables.inverses)
        var counts: SquinchKernels.Counts = (0, 0, 0)
        var start = 0
        while start < n {
            let end = min(n, start &+ stretch)
            for pair in start..<end {
                let largest = ts_largest_bits(ts_abs(ts_load(x + 16 &* pair)))
                scaleByte(UInt32(bitPattern: largest[0]), bytes + 12 &* pair, tables, &counts)
                scaleByte(UInt32(bitPattern: largest[4]), bytes + (12 &* pair &+ 6), tables, &counts)
            }
            for pair in start..<end {
                ts_prefetch(x + 16 &* min(pair &+ ahead, n &- 1))
                let out = bytes + 12 &* pair
                let v = ts_load(x + 16 &* pair)
                let (q0, q1) = (Int(out[0]), Int(out[6]))
                let scale = ts_halves(scales[q0], scales[q1])
                // Magnitudes from M on have code 15, as M has (S3, S6).
                let codes = codes(
                    ts_smaller(ts_abs(v), scale), scale, ts_halves(inverses[q0], inverses[q1]), pair)
                let (nibbles, signs) = (ts_nibbles(codes), UInt64(ts_lane_bits(ts_sign(v))))
                // All of a block is 0 where its scale byte is (S4).
                let first = UInt64(q0) | (q0 == 0 ? 0 : (signs & 0xFF) << 8 | (nibbles & 0xFFFF_FFFF) << 16)
                let second = UInt64(q1) | (q1 == 0 ? 0 : signs & 0xFF00 | (nibbles >> 32) << 16)
                ts_store_uint64(out, first | second << 48)
                ts_store_uint32(out + 8, UInt32(truncatingIfNeeded: second >> 16))
            }
            start = end
        }
        return counts
    }

    /// The scale byte of a block by its largest magnitude's bits; the first and the last are counted (S9).
    @inline(__always)
    private static func scaleByte(
        _ bits: UInt32, _ byte: UnsafeMutablePointer<UInt8>, _ tables: SquinchTables,
        _ counts: inout SquinchKernels.Counts
    ) {
        let q = tables.scaleByte(bits)
        byte.pointee = UInt8(truncatingIfNeeded: q)
        if UInt(bitPattern: q &- 1) < 254 { return }
        if q != 0 {
            if tables.scales[255] < Float(bitPattern: bits) { counts.above &+= 1 }
        } else if bits == 0 {
            counts.zero &+= 1
        } else {
            counts.below &+= 1
        }
    }

    static func decode(
        _ bytes: UnsafePointer<UInt8>, _ x: UnsafeMutablePointer<Float>, _ n: Int, _ isFloor: Bool
    ) {
        let tables = SquinchTables.shared
        let (scales, round15) = (tables.scales, tables.round15)
        for pair in 0..<n {
            let first = bytes + 12 &* pair
            let second = first + 6
            let (q0, q1) = (Int(first[0]), Int(second[0]))
            let signs = ts_lanes(
                (q0 == 0 ? 0 : UInt32(first[1])) | (q1 == 0 ? 0 : UInt32(second[1])) << 8)
            let codes = ts_spread_nibbles(ts_load_uint32(first + 2), ts_load_uint32(second + 2))
            let magnitude: Vector
            if isFloor {
                let odd = ts_from_int(codes &+ codes) + Vector(repeating: 1)
                let scale = ts_halves(q0 == 0 ? 0 : scales[q0], q1 == 0 ? 0 : scales[q1])
                magnitude = (odd * odd * Vector(repeating: 0x1p-10)) * scale
            } else {
                magnitude = ts_look_up(round15 + 16 &* q0, round15 + 16 &* q1, codes)
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

    static func words(_ random: RandomWords, _ first: UInt64, _ n: Int, _ words: UnsafeMutablePointer<UInt32>) {
        for i in 0..<n {
            ts_philox(words + 32 &* i, first &+ 8 &* UInt64(i), random.stream, random.step, random.seed)
        }
    }

    static let kernels = SquinchKernels(encode: encode, decode: decode, isFinite: isFinite, words: words)
}
