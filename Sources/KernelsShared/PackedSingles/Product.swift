import CVector
import Kernels

// Products of factors that are packed as fp32, so that a step is one fma: rows of A times a panel of B, in tiles (``Tile``) whose sums stay
// in vector registers.

enum Product {
    static let tileRows = Tile.rows
    static let tileColumns = Tile.columns

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
            Tile.run(
                a, rowStride, depthStride, b, c, block, firstA: 0, secondA: depthStride, firstB: 0,
                secondB: tileColumns, fma: { ts_fma($0, $1, $2) })
        }
    }

    /// D1: of each pair the odd one first.
    @inline(never)
    private static func flushingTiles(_ block: KernelSet.Block) {
        forEachTile(block) { a, rowStride, depthStride, b, c in
            Tile.run(
                a, rowStride, depthStride, b, c, block, firstA: depthStride, secondA: 0, firstB: tileColumns,
                secondB: 0, fma: { ts_fma_flush($0, $1, $2) })
        }
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
}
