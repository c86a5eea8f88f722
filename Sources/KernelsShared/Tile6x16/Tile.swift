import CVector
import Kernels

/// 6 x 16 outputs: twelve registers of eight lanes, or six of sixteen.
enum Tile {
    static let rows = 6
    static let columns = 16

    /// Six rows' sums from registers alone.
    @inline(never)
    static func peak(_ n: Int) -> Int {
        let x = Vector(repeating: Float(n & 1) * 0x1p-20)
        let y = Vector(repeating: 1 - 0x1p-20)
        var c0 = x
        var (c1, c2, c3, c4, c5) = (x, x, x, x, x)
        for _ in 0..<n {
            c0 = ts_fma(x, y, c0)
            c1 = ts_fma(x, y, c1)
            c2 = ts_fma(x, y, c2)
            c3 = ts_fma(x, y, c3)
            c4 = ts_fma(x, y, c4)
            c5 = ts_fma(x, y, c5)
        }
        // What is not used is not computed.
        let sum = (c0 + c1) + (c2 + c3) + (c4 + c5)
        return n &* rows &* columns &* 2 &+ (sum[0] == 12345 ? 1 : 0)
    }

    /// C (+)= A B of one tile: per step two of the depth, the first and the second as the recipe has them.
    @inline(__always)
    static func run(
        _ a: UnsafePointer<Float>, _ rowStride: Int, _ depthStride: Int, _ b: UnsafePointer<Float>,
        _ c: UnsafeMutablePointer<Float>, _ block: KernelSet.Block, firstA: Int, secondA: Int, firstB: Int,
        secondB: Int, fma: (Vector, Vector, Vector) -> Vector
    ) {
        var c0 = Vector()
        var (c1, c2, c3, c4, c5) = (c0, c0, c0, c0, c0)
        let stride = block.cStride
        if block.accumulates {
            c0 = ts_load(c)
            c1 = ts_load(c + stride)
            c2 = ts_load(c + 2 &* stride)
            c3 = ts_load(c + 3 &* stride)
            c4 = ts_load(c + 4 &* stride)
            c5 = ts_load(c + 5 &* stride)
        }
        // One index for all rows: an address is a row's own plus it.
        let (a1, a2, a3) = (a + rowStride, a + 2 &* rowStride, a + 3 &* rowStride)
        let (a4, a5) = (a + 4 &* rowStride, a + 5 &* rowStride)
        var k = 0
        var b = b
        let end = block.depth &* depthStride
        while k < end {
            let first = k &+ firstA
            let v = ts_load(b + firstB)
            c0 = fma(Vector(repeating: a[first]), v, c0)
            c1 = fma(Vector(repeating: a1[first]), v, c1)
            c2 = fma(Vector(repeating: a2[first]), v, c2)
            c3 = fma(Vector(repeating: a3[first]), v, c3)
            c4 = fma(Vector(repeating: a4[first]), v, c4)
            c5 = fma(Vector(repeating: a5[first]), v, c5)
            let second = k &+ secondA
            let w = ts_load(b + secondB)
            c0 = fma(Vector(repeating: a[second]), w, c0)
            c1 = fma(Vector(repeating: a1[second]), w, c1)
            c2 = fma(Vector(repeating: a2[second]), w, c2)
            c3 = fma(Vector(repeating: a3[second]), w, c3)
            c4 = fma(Vector(repeating: a4[second]), w, c4)
            c5 = fma(Vector(repeating: a5[second]), w, c5)
            k &+= 2 &* depthStride
            b += 2 &* columns
        }
        ts_store(c, c0)
        ts_store(c + stride, c1)
        ts_store(c + 2 &* stride, c2)
        ts_store(c + 3 &* stride, c3)
        ts_store(c + 4 &* stride, c4)
        ts_store(c + 5 &* stride, c5)
    }
}
