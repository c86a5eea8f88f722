import CVector
import Kernels

// Products of factors that are packed as pairs of bf16: a word is element 2p in its low and 2p + 1 in its high half, so that a step of
// `paired-ftz` is one instruction (D1). Tiles of 12 x 32 outputs: 24 of the 32 registers of sixteen lanes.

enum PairsProduct {
    static let tileRows = 12
    static let tileColumns = 32

    typealias Words = UnsafePointer<UInt32>

    /// C (+)= A B over a block, in tiles. Where the instruction is missing, what stands for it wants the flush mode (F3).
    static func multiply(_ block: KernelSet.Block) {
        guard block.isPairedFTZ else { return tiles(block) }
        let mode = ts_begin_flush()
        pairedTiles(block)
        ts_restore_flush(mode)
    }

    /// D1: the odd product, then the even one, fused with the sum, subnormals flushed.
    @inline(never)
    private static func pairedTiles(_ block: KernelSet.Block) {
        forEachTile(block) { a, rowStride, depthStride, b, c in
            tile(a, rowStride, depthStride, b, c, block) { ts_dot_pairs($0, $1, $2) }
        }
    }

    /// D2: ascending.
    @inline(never)
    private static func tiles(_ block: KernelSet.Block) {
        forEachTile(block) { a, rowStride, depthStride, b, c in
            tile(a, rowStride, depthStride, b, c, block) { sum, x, y in
                ts_fma(ts_odd(x), ts_odd(y), ts_fma(ts_even(x), ts_even(y), sum))
            }
        }
    }

    /// A tile's sums from registers alone.
    @inline(never)
    static func peak(_ n: Int) -> Int {
        let x = SIMD16<UInt32>(repeating: UInt32(truncatingIfNeeded: n & 1) &* 0x3580_3580)
        let y = SIMD16<UInt32>(repeating: 0x3F7F_3F7F)
        let zero = Vector()
        var c0 = zero
        var (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11) = (c0, c0, c0, c0, c0, c0, c0, c0, c0, c0, c0)
        for _ in 0..<n {
            c0 = ts_dot_pairs(c0, x, y)
            c1 = ts_dot_pairs(c1, x, y)
            c2 = ts_dot_pairs(c2, x, y)
            c3 = ts_dot_pairs(c3, x, y)
            c4 = ts_dot_pairs(c4, x, y)
            c5 = ts_dot_pairs(c5, x, y)
            c6 = ts_dot_pairs(c6, x, y)
            c7 = ts_dot_pairs(c7, x, y)
            c8 = ts_dot_pairs(c8, x, y)
            c9 = ts_dot_pairs(c9, x, y)
            c10 = ts_dot_pairs(c10, x, y)
            c11 = ts_dot_pairs(c11, x, y)
        }
        // What is not used is not computed.
        let sum = ((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)) + ((c8 + c9) + (c10 + c11))
        return n &* 12 &* 16 &* 4 &+ (sum[0] == 12345 ? 1 : 0)
    }

    @inline(__always)
    private static func forEachTile(
        _ block: KernelSet.Block, _ body: (Words, Int, Int, Words, UnsafeMutablePointer<Float>) -> Void
    ) {
        let a = block.a.assumingMemoryBound(to: UInt32.self)
        let b = block.b.assumingMemoryBound(to: UInt32.self)
        let rowStride = block.isDepthContiguous ? PairsPacking.stride(block.packedDepth / 2) : 1
        let depthStride = block.isDepthContiguous ? 1 : PairsPacking.stride(block.packedRows)
        var column = 0
        var panel = b
        while column < block.columns {
            var row = 0
            while row < block.rows {
                body(a + row &* rowStride, rowStride, depthStride, panel, block.c + (row &* block.cStride &+ column))
                row &+= tileRows
            }
            column &+= tileColumns
            panel += block.panelDepth / 2 &* tileColumns
        }
    }

    /// C (+)= A B of one tile; `dot` adds a pair of products to every lane.
    @inline(__always)
    private static func tile(
        _ a: Words, _ rowStride: Int, _ depthStride: Int, _ b: Words, _ c: UnsafeMutablePointer<Float>,
        _ block: KernelSet.Block, dot: (Vector, SIMD16<UInt32>, SIMD16<UInt32>) -> Vector
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
        let end = block.depth / 2 &* depthStride
        while k < end {
            let v = ts_load_words(b)
            let w = ts_load_words(b + 16)
            let p0 = SIMD16<UInt32>(repeating: a[k])
            l0 = dot(l0, p0, v)
            h0 = dot(h0, p0, w)
            let p1 = SIMD16<UInt32>(repeating: a1[k])
            l1 = dot(l1, p1, v)
            h1 = dot(h1, p1, w)
            let p2 = SIMD16<UInt32>(repeating: a2[k])
            l2 = dot(l2, p2, v)
            h2 = dot(h2, p2, w)
            let p3 = SIMD16<UInt32>(repeating: a3[k])
            l3 = dot(l3, p3, v)
            h3 = dot(h3, p3, w)
            let p4 = SIMD16<UInt32>(repeating: a4[k])
            l4 = dot(l4, p4, v)
            h4 = dot(h4, p4, w)
            let p5 = SIMD16<UInt32>(repeating: a5[k])
            l5 = dot(l5, p5, v)
            h5 = dot(h5, p5, w)
            let p6 = SIMD16<UInt32>(repeating: a6[k])
            l6 = dot(l6, p6, v)
            h6 = dot(h6, p6, w)
            let p7 = SIMD16<UInt32>(repeating: a7[k])
            l7 = dot(l7, p7, v)
            h7 = dot(h7, p7, w)
            let p8 = SIMD16<UInt32>(repeating: a8[k])
            l8 = dot(l8, p8, v)
            h8 = dot(h8, p8, w)
            let p9 = SIMD16<UInt32>(repeating: a9[k])
            l9 = dot(l9, p9, v)
            h9 = dot(h9, p9, w)
            let p10 = SIMD16<UInt32>(repeating: a10[k])
            l10 = dot(l10, p10, v)
            h10 = dot(h10, p10, w)
            let p11 = SIMD16<UInt32>(repeating: a11[k])
            l11 = dot(l11, p11, v)
            h11 = dot(h11, p11, w)
            k &+= depthStride
            b += tileColumns
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

/// Factors as pairs of bf16. Rows keep their orientation: depth contiguous or rows contiguous, at a padded stride of words.
enum PairsPacking {
    static let packing = KernelSet.Packing(
        rowBytes: { rows, depth in
            let (tiles, pairs) = (roundedUp(rows, PairsProduct.tileRows), (depth + 1) / 2)
            return 4 * max(tiles * stride(pairs), pairs * stride(tiles)) + 128
        },
        columnBytes: { columns, depth in 2 * roundedUp(columns, PairsProduct.tileColumns) * depth },
        packRows: packRows, packColumns: packColumns)

    @inline(__always)
    static func roundedUp(_ n: Int, _ unit: Int) -> Int { (n + unit - 1) / unit * unit }

    /// The stride of packed rows: not a multiple of the size of a cache's way.
    @inline(__always)
    static func stride(_ n: Int) -> Int { roundedUp(n, 16) + 16 }

    /// Elements 2p and 2p + 1, which stand `stride` apart.
    @inline(__always)
    private static func pair(_ x: UnsafePointer<UInt16>, _ stride: Int) -> UInt32 {
        UInt32(x[0]) | UInt32(x[stride]) << 16
    }

    static func packRows(_ x: KernelSet.Operand, _ count: Int, _ depth: Int, _ destination: UnsafeMutableRawPointer) {
        let out = destination.assumingMemoryBound(to: UInt32.self)
        let (pairs, isOdd) = (depth / 2, depth % 2 == 1)
        if x.depthStride == 1 {
            let stride = stride(pairs + (isOdd ? 1 : 0))
            for row in 0..<count {
                let (source, target) = (x.pointer + row &* x.stride, out + row &* stride)
                for p in 0..<pairs { target[p] = pair(source + 2 &* p, 1) }
                if isOdd { target[pairs] = UInt32(source[depth - 1]) }
            }
        } else {
            let stride = stride(count)
            for p in 0..<pairs {
                interleave(x.pointer + 2 &* p &* x.depthStride, x.depthStride, out + p &* stride, count)
            }
            if isOdd {
                let source = x.pointer + (depth - 1) &* x.depthStride
                for row in 0..<count { out[pairs &* stride &+ row] = UInt32(source[row]) }
            }
        }
    }

    static func packColumns(
        _ x: KernelSet.Operand, _ count: Int, _ depth: Int, _ panelDepth: Int, _ depthOffset: Int,
        _ destination: UnsafeMutableRawPointer
    ) {
        let unit = PairsProduct.tileColumns
        let (pairs, isOdd) = (depth / 2, depth % 2 == 1)
        var column = 0
        var panel = destination.assumingMemoryBound(to: UInt32.self) + depthOffset / 2 &* unit
        while column < count {
            let width = min(unit, count &- column)
            let source = x.pointer + column &* x.stride
            for p in 0..<pairs {
                let (from, to) = (source + 2 &* p &* x.depthStride, panel + p &* unit)
                if x.stride == 1 {
                    interleave(from, x.depthStride, to, width)
                } else {
                    for j in 0..<width { to[j] = pair(from + j &* x.stride, x.depthStride) }
                }
                for j in width..<unit { to[j] = 0 }
            }
            if isOdd {
                let (from, to) = (source + (depth - 1) &* x.depthStride, panel + pairs &* unit)
                for j in 0..<width { to[j] = UInt32(from[j &* x.stride]) }
                for j in width..<unit { to[j] = 0 }
            }
            column &+= unit
            panel += panelDepth / 2 &* unit
        }
    }

    /// Pairs of a row and the row `stride` after it.
    @inline(__always)
    private static func interleave(
        _ source: UnsafePointer<UInt16>, _ stride: Int, _ target: UnsafeMutablePointer<UInt32>, _ count: Int
    ) {
        for j in 0..<count { target[j] = pair(source + j, stride) }
    }
}
