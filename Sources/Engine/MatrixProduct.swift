import Kernels
import ModelSpec

/// C = A B by a recipe, A and B bf16 in any orientation, the depth in one or several parts (D1 to D4), and something done to every row of C while it is
/// in the cache.
///
/// The layers around the kernel are those of BLIS (Van Zee, van de Geijn 2015): columns are packed once for all rows, rows in blocks; the
/// sums of a block stay in the cache while depth goes by in steps, which keeps the order of every sum.
struct MatrixProduct {
    /// One row of a composite sum (D4): A [M, depth], B [depth, N].
    struct Part {
        let a: KernelSet.Operand
        /// Its rows are C's columns.
        let b: KernelSet.Operand
        let depth: Int
    }

    let m: Int
    let n: Int
    let parts: Int
    /// The sum of the parts' depths, each rounded up to an even number.
    let packedDepth: Int

    /// - Parameter depth: of every part.
    init(m: Int, n: Int, parts: Int = 1, depth: (Int) -> Int) {
        self.m = m
        self.n = n
        self.parts = parts
        var sum = 0
        for part in 0..<parts { sum += roundedUp(depth(part), to: 2) }
        packedDepth = sum
    }

    /// Rows of a block, a multiple of every tile's.
    private static let blockRows = 192
    /// Depth of a step.
    private static let blockDepth = 256

    /// Columns that are packed together: at most 8 MB of them.
    private func blockColumns(_ kernels: KernelSet) -> Int {
        let unit = kernels.tileColumns
        let fit = (2 * 1024 * 1024) / max(1, packedDepth) / unit * unit
        return min(roundedUp(max(n, 1), to: unit), max(unit, min(256, fit)))
    }

    /// Bytes of scratch that a thread needs.
    func scratchBytes(_ kernels: KernelSet) -> Int {
        let columns = blockColumns(kernels)
        return ScratchArena.total(
            kernels.pack.columnBytes(columns, packedDepth), kernels.pack.rowBytes(Self.blockRows, Self.blockDepth),
            4 * Self.blockRows * columns)
    }

    /// - Parameters:
    ///   - initial: sets `count` sums of row `row` from column `column` on to what they begin with; +0 without.
    ///   - part: each part's operands, whose pointers are those of element (0, 0).
    ///   - finish: what is done to `count` sums of row `row` from column `column` on, by which thread.
    func run(
        _ context: EngineContext, _ recipe: DotRecipe,
        initial: ((_ row: Int, _ column: Int, _ sums: UnsafeMutablePointer<Float>, _ count: Int) -> Void)? = nil,
        part: (Int) -> Part,
        finish: (_ row: Int, _ column: Int, _ sums: UnsafePointer<Float>, _ count: Int, _ thread: Int) -> Void
    ) {
        context.reserve(scratchBytes(context.kernels))
        // Each thread has rows or columns of C, whichever are more.
        let splitsRows = m >= n
        context.pool.run { thread, count in
            let unit = splitsRows ? context.kernels.tileRows : context.kernels.tileColumns
            let range = WorkerPool.part(thread, of: count, splitsRows ? m : n, unit: unit)
            if range.isEmpty { return }
            run(
                context.kernels, context.arena(thread), recipe.isPairedFTZ, rows: splitsRows ? range : 0..<m,
                columns: splitsRows ? 0..<n : range, initial: initial, part: part, finish: finish, thread: thread)
        }
    }

    private func run(
        _ kernels: KernelSet, _ arena: ScratchArena, _ isPairedFTZ: Bool, rows: Range<Int>, columns: Range<Int>,
        initial: ((Int, Int, UnsafeMutablePointer<Float>, Int) -> Void)?, part: (Int) -> Part,
        finish: (Int, Int, UnsafePointer<Float>, Int, Int) -> Void, thread: Int
    ) {
        var arena = arena
        let blockColumns = blockColumns(kernels)
        let packedColumns = arena.bytes(kernels.pack.columnBytes(blockColumns, packedDepth))
        let packedRows = arena.bytes(kernels.pack.rowBytes(Self.blockRows, Self.blockDepth))
        let sums = arena.floats(Self.blockRows * blockColumns)
        let panelBytes = kernels.pack.columnBytes(kernels.tileColumns, packedDepth)
        let depthBytes = packedDepth == 0 ? 0 : panelBytes / packedDepth

        var column = columns.lowerBound
        while column < columns.upperBound {
            let width = min(blockColumns, columns.upperBound - column)
            var offset = 0
            for index in 0..<parts {
                let part = part(index)
                let operand = KernelSet.Operand(
                    part.b.pointer + column * part.b.stride, stride: part.b.stride, depthStride: part.b.depthStride)
                kernels.pack.packColumns(operand, width, part.depth, packedDepth, offset, packedColumns)
                offset += roundedUp(part.depth, to: 2)
            }
            var row = rows.lowerBound
            while row < rows.upperBound {
                let height = min(Self.blockRows, rows.upperBound - row)
                var accumulates = false
                if let initial {
                    for r in 0..<height { initial(row + r, column, sums + r * blockColumns, width) }
                    accumulates = true
                }
                offset = 0
                for index in 0..<parts {
                    let part = part(index)
                    var k = 0
                    while k < part.depth {
                        let depth = min(Self.blockDepth, part.depth - k)
                        let even = roundedUp(depth, to: 2)
                        let operand = KernelSet.Operand(
                            part.a.pointer + row * part.a.stride + k * part.a.depthStride, stride: part.a.stride,
                            depthStride: part.a.depthStride)
                        kernels.pack.packRows(operand, height, depth, packedRows)
                        kernels.multiply(
                            KernelSet.Block(
                                a: packedRows, isDepthContiguous: part.a.depthStride == 1, packedRows: height,
                                packedDepth: even, b: packedColumns + (offset + k) * depthBytes,
                                panelDepth: packedDepth, c: sums, cStride: blockColumns, rows: height, columns: width,
                                depth: even, accumulates: accumulates, isPairedFTZ: isPairedFTZ))
                        accumulates = true
                        k += depth
                    }
                    offset += roundedUp(part.depth, to: 2)
                }
                if !accumulates { sums.update(repeating: 0, count: height * blockColumns) }
                for r in 0..<height { finish(row + r, column, UnsafePointer(sums + r * blockColumns), width, thread) }
                row += height
            }
            column += width
        }
    }
}
