import CVector
import Kernels

// Products of a 6 x 16 tile: six rows of A times one panel of B, twelve or fewer vector registers of sums. Packed factors are fp32, so
// that a step is one fma.

typealias Vector = SIMD16<Float>

enum Product {
    static let tileRows = 6
    static let tileColumns = 16

    /// C (+)= A B over a block, in tiles. The flush mode is set here and nowhere else, around nothing but the loop over tiles (F3).
    static func multiply(_ block: KernelSet.Block) {
        guard block.isPairedFTZ else { return tiles(block) }
        let mode = ts_begin_flush()
        flushingTiles(block)
        ts_restore_flush(mode)
    }

    /// D2: ascending.
    @inline(never)
    private static func tiles(_ block: KernelSet.Block) {
        forEachTile(block) { a, rowStride, depthStride, b, c in
            tile(
                a, rowStride, depthStride, b, c, block, firstA: 0, secondA: depthStride, firstB: 0,
                secondB: tileColumns, fma: { ts_fma($0, $1, $2) })
        }
    }

    /// D1: of each pair the odd one first.
    @inline(never)
    private static func flushingTiles(_ block: KernelSet.Block) {
        forEachTile(block) { a, rowStride, depthStride, b, c in
            tile(
                a, rowStride, depthStride, b, c, block, firstA: depthStride, secondA: 0, firstB: tileColumns,
                secondB: 0, fma: { ts_fma_flush($0, $1, $2) })
        }
    }

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
        return n &* tileRows &* tileColumns &* 2 &+ (sum[0] == 12345 ? 1 : 0)
    }

    @inline(__always)
    private static func forEachTile(
        _ block: KernelSet.Block,
        _ body: (UnsafePointer<Float>, Int, Int, UnsafePointer<Float>, UnsafeMutablePointer<Float>) -> Void
    ) {
        let a = block.a.assumingMemoryBound(to: Float.self)
        let b = block.b.assumingMemoryBound(to: Float.self)
        let rowStride = block.isDepthContiguous ? Packing.stride(block.packedDepth) : 1
        let depthStride = block.isDepthContiguous ? 1 : Packing.stride(block.packedRows)
        var column = 0
        var panel = b
        while column < block.columns {
            var row = 0
            while row < block.rows {
                body(
                    a + row &* rowStride, rowStride, depthStride, panel, block.c + (row &* block.cStride &+ column))
                row &+= tileRows
            }
            column &+= tileColumns
            panel += block.panelDepth &* tileColumns
        }
    }

    @inline(__always)
    private static func tile(
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
            b += 2 &* tileColumns
        }
        ts_store(c, c0)
        ts_store(c + stride, c1)
        ts_store(c + 2 &* stride, c2)
        ts_store(c + 3 &* stride, c3)
        ts_store(c + 4 &* stride, c4)
        ts_store(c + 5 &* stride, c5)
    }
}

/// Factors as fp32. Rows keep their orientation: depth contiguous or rows contiguous, at a padded stride.
enum Packing {
    static let packing = KernelSet.Packing(
        rowBytes: { rows, depth in
            // Either orientation, and whole tiles beyond the last row.
            let tiles = roundedUp(rows, Product.tileRows)
            return 4 * max(tiles * stride(depth), depth * stride(tiles)) + 128
        },
        columnBytes: { columns, depth in 4 * roundedUp(columns, Product.tileColumns) * depth },
        packRows: packRows, packColumns: packColumns)

    @inline(__always)
    static func roundedUp(_ n: Int, _ unit: Int) -> Int { (n + unit - 1) / unit * unit }

    /// The stride of packed rows: not a multiple of the size of a cache's way.
    @inline(__always)
    static func stride(_ n: Int) -> Int { roundedUp(n, 16) + 16 }

    static func packRows(_ x: KernelSet.Operand, _ count: Int, _ depth: Int, _ destination: UnsafeMutableRawPointer) {
        let out = destination.assumingMemoryBound(to: Float.self)
        let even = depth + depth % 2
        if x.depthStride == 1 {
            let stride = stride(even)
            for row in 0..<count {
                widen(x.pointer + row &* x.stride, out + row &* stride, depth)
                if even > depth { out[row &* stride &+ depth] = 0 }
            }
        } else {
            let stride = stride(count)
            for k in 0..<depth { widen(x.pointer + k &* x.depthStride, out + k &* stride, count) }
            if even > depth {
                for row in 0..<count { out[depth &* stride &+ row] = 0 }
            }
        }
    }

    static func packColumns(
        _ x: KernelSet.Operand, _ count: Int, _ depth: Int, _ panelDepth: Int, _ depthOffset: Int,
        _ destination: UnsafeMutableRawPointer
    ) {
        let even = depth + depth % 2
        var column = 0
        var panel = destination.assumingMemoryBound(to: Float.self) + depthOffset &* Product.tileColumns
        while column < count {
            let width = min(Product.tileColumns, count &- column)
            let source = x.pointer + column &* x.stride
            if width == Product.tileColumns && x.stride == 1 {
                for k in 0..<depth {
                    ts_store(panel + k &* Product.tileColumns, ts_load_bf16(source + k &* x.depthStride))
                }
            } else {
                for k in 0..<depth {
                    for j in 0..<width {
                        panel[k &* Product.tileColumns &+ j] = widened(source[j &* x.stride &+ k &* x.depthStride])
                    }
                    for j in width..<Product.tileColumns { panel[k &* Product.tileColumns &+ j] = 0 }
                }
            }
            if even > depth {
                for j in 0..<Product.tileColumns { panel[depth &* Product.tileColumns &+ j] = 0 }
            }
            column &+= Product.tileColumns
            panel += panelDepth &* Product.tileColumns
        }
    }

    /// bf16 to fp32, exactly.
    @inline(__always)
    static func widen(_ source: UnsafePointer<UInt16>, _ destination: UnsafeMutablePointer<Float>, _ count: Int) {
        var i = 0
        while i &+ 16 <= count {
            ts_store(destination + i, ts_load_bf16(source + i))
            i &+= 16
        }
        while i < count {
            destination[i] = widened(source[i])
            i &+= 1
        }
    }

    @inline(__always)
    static func widened(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }
}
