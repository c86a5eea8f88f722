import CVector
import Kernels

/// 12 x 32 outputs: 24 of the 32 registers of sixteen lanes.
enum Tile {
    static let rows = 12
    static let columns = 32

    /// A tile's sums from registers alone.
    @inline(never)
    static func peak(_ n: Int) -> Int {
        let x = Vector(repeating: Float(n & 1) * 0x1p-20)
        let y = Vector(repeating: 1 - 0x1p-20)
        var c0 = x
        var (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11) = (x, x, x, x, x, x, x, x, x, x, x)
        for _ in 0..<n {
            c0 = ts_fma(x, y, c0)
            c1 = ts_fma(x, y, c1)
            c2 = ts_fma(x, y, c2)
            c3 = ts_fma(x, y, c3)
            c4 = ts_fma(x, y, c4)
            c5 = ts_fma(x, y, c5)
            c6 = ts_fma(x, y, c6)
            c7 = ts_fma(x, y, c7)
            c8 = ts_fma(x, y, c8)
            c9 = ts_fma(x, y, c9)
            c10 = ts_fma(x, y, c10)
            c11 = ts_fma(x, y, c11)
        }
        // What is not used is not computed.
        let sum = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)) + ((c8 + c9) + (c10 + c11))
        return n &* 12 &* 16 &* 2 &+ (sum[0] == 12345 ? 1 : 0)
    }

    /// C (+)= A B of one tile: per step two of the depth, the first and the second as the recipe has them.
    @inline(__always)
    static func run(
        _ a: UnsafePointer<Float>, _ rowStride: Int, _ depthStride: Int, _ b: UnsafePointer<Float>,
        _ c: UnsafeMutablePointer<Float>, _ block: KernelSet.Block, firstA: Int, secondA: Int, firstB: Int,
        secondB: Int, fma: (Vector, Vector, Vector) -> Vector
    ) {
        let stride = block.cStride
        var l0 = Vector()
        var (l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11) = (l0, l0, l0, l0, l0, l0, l0, l0, l0, l0, l0)
        var h0 = Vector()
        var (h1, h2, h3, h4, h5, h6, h7, h8, h9, h10, h11) = (h0, h0, h0, h0, h0, h0, h0, h0, h0, h0, h0)
        if block.accumulates {
            l0 = ts_load(c + 0 &* stride)
            h0 = ts_load(c + (0 &* stride &+ 16))
            l1 = ts_load(c + 1 &* stride)
            h1 = ts_load(c + (1 &* stride &+ 16))
            l2 = ts_load(c + 2 &* stride)
            h2 = ts_load(c + (2 &* stride &+ 16))
            l3 = ts_load(c + 3 &* stride)
            h3 = ts_load(c + (3 &* stride &+ 16))
            l4 = ts_load(c + 4 &* stride)
            h4 = ts_load(c + (4 &* stride &+ 16))
            l5 = ts_load(c + 5 &* stride)
            h5 = ts_load(c + (5 &* stride &+ 16))
            l6 = ts_load(c + 6 &* stride)
            h6 = ts_load(c + (6 &* stride &+ 16))
            l7 = ts_load(c + 7 &* stride)
            h7 = ts_load(c + (7 &* stride &+ 16))
            l8 = ts_load(c + 8 &* stride)
            h8 = ts_load(c + (8 &* stride &+ 16))
            l9 = ts_load(c + 9 &* stride)
            h9 = ts_load(c + (9 &* stride &+ 16))
            l10 = ts_load(c + 10 &* stride)
            h10 = ts_load(c + (10 &* stride &+ 16))
            l11 = ts_load(c + 11 &* stride)
            h11 = ts_load(c + (11 &* stride &+ 16))
        }
        // One index for all rows: an address is a row's own plus it.
        let a1 = a + 1 &* rowStride
        let a2 = a + 2 &* rowStride
        let a3 = a + 3 &* rowStride
        let a4 = a + 4 &* rowStride
        let a5 = a + 5 &* rowStride
        let a6 = a + 6 &* rowStride
        let a7 = a + 7 &* rowStride
        let a8 = a + 8 &* rowStride
        let a9 = a + 9 &* rowStride
        let a10 = a + 10 &* rowStride
        let a11 = a + 11 &* rowStride
        var k = 0
        var b = b
        let end = block.depth &* depthStride
        while k < end {
            let first = k &+ firstA
            let v = ts_load(b + firstB)
            let w = ts_load(b + (firstB &+ 16))
            let p0 = Vector(repeating: a[first])
            l0 = fma(p0, v, l0)
            h0 = fma(p0, w, h0)
            let p1 = Vector(repeating: a1[first])
            l1 = fma(p1, v, l1)
            h1 = fma(p1, w, h1)
            let p2 = Vector(repeating: a2[first])
            l2 = fma(p2, v, l2)
            h2 = fma(p2, w, h2)
            let p3 = Vector(repeating: a3[first])
            l3 = fma(p3, v, l3)
            h3 = fma(p3, w, h3)
            let p4 = Vector(repeating: a4[first])
            l4 = fma(p4, v, l4)
            h4 = fma(p4, w, h4)
            let p5 = Vector(repeating: a5[first])
            l5 = fma(p5, v, l5)
            h5 = fma(p5, w, h5)
            let p6 = Vector(repeating: a6[first])
            l6 = fma(p6, v, l6)
            h6 = fma(p6, w, h6)
            let p7 = Vector(repeating: a7[first])
            l7 = fma(p7, v, l7)
            h7 = fma(p7, w, h7)
            let p8 = Vector(repeating: a8[first])
            l8 = fma(p8, v, l8)
            h8 = fma(p8, w, h8)
            let p9 = Vector(repeating: a9[first])
            l9 = fma(p9, v, l9)
            h9 = fma(p9, w, h9)
            let p10 = Vector(repeating: a10[first])
            l10 = fma(p10, v, l10)
            h10 = fma(p10, w, h10)
            let p11 = Vector(repeating: a11[first])
            l11 = fma(p11, v, l11)
            h11 = fma(p11, w, h11)
            let second = k &+ secondA
            let x = ts_load(b + secondB)
            let y = ts_load(b + (secondB &+ 16))
            let q0 = Vector(repeating: a[second])
            l0 = fma(q0, x, l0)
            h0 = fma(q0, y, h0)
            let q1 = Vector(repeating: a1[second])
            l1 = fma(q1, x, l1)
            h1 = fma(q1, y, h1)
            let q2 = Vector(repeating: a2[second])
            l2 = fma(q2, x, l2)
            h2 = fma(q2, y, h2)
            let q3 = Vector(repeating: a3[second])
            l3 = fma(q3, x, l3)
            h3 = fma(q3, y, h3)
            let q4 = Vector(repeating: a4[second])
            l4 = fma(q4, x, l4)
            h4 = fma(q4, y, h4)
            let q5 = Vector(repeating: a5[second])
            l5 = fma(q5, x, l5)
            h5 = fma(q5, y, h5)
            let q6 = Vector(repeating: a6[second])
            l6 = fma(q6, x, l6)
            h6 = fma(q6, y, h6)
            let q7 = Vector(repeating: a7[second])
            l7 = fma(q7, x, l7)
            h7 = fma(q7, y, h7)
            let q8 = Vector(repeating: a8[second])
            l8 = fma(q8, x, l8)
            h8 = fma(q8, y, h8)
            let q9 = Vector(repeating: a9[second])
            l9 = fma(q9, x, l9)
            h9 = fma(q9, y, h9)
            let q10 = Vector(repeating: a10[second])
            l10 = fma(q10, x, l10)
            h10 = fma(q10, y, h10)
            let q11 = Vector(repeating: a11[second])
            l11 = fma(q11, x, l11)
            h11 = fma(q11, y, h11)
            k &+= 2 &* depthStride
            b += 2 &* columns
        }
        ts_store(c + 0 &* stride, l0)
        ts_store(c + (0 &* stride &+ 16), h0)
        ts_store(c + 1 &* stride, l1)
        ts_store(c + (1 &* stride &+ 16), h1)
        ts_store(c + 2 &* stride, l2)
        ts_store(c + (2 &* stride &+ 16), h2)
        ts_store(c + 3 &* stride, l3)
        ts_store(c + (3 &* stride &+ 16), h3)
        ts_store(c + 4 &* stride, l4)
        ts_store(c + (4 &* stride &+ 16), h4)
        ts_store(c + 5 &* stride, l5)
        ts_store(c + (5 &* stride &+ 16), h5)
        ts_store(c + 6 &* stride, l6)
        ts_store(c + (6 &* stride &+ 16), h6)
        ts_store(c + 7 &* stride, l7)
        ts_store(c + (7 &* stride &+ 16), h7)
        ts_store(c + 8 &* stride, l8)
        ts_store(c + (8 &* stride &+ 16), h8)
        ts_store(c + 9 &* stride, l9)
        ts_store(c + (9 &* stride &+ 16), h9)
        ts_store(c + 10 &* stride, l10)
        ts_store(c + (10 &* stride &+ 16), h10)
        ts_store(c + 11 &* stride, l11)
        ts_store(c + (11 &* stride &+ 16), h11)
    }
}
