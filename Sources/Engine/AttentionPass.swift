import Kernels
import ModelSpec

/// Attention under a visibility mask with the z-regulariser in its gradient (Z1 to Z3, V4, T3), tiles that nobody sees left out.
///
/// Blocks of queries go by all heads of a batch entry; what a block sees is found as runs of 16-key tiles. A softmax row is two passes over
/// logits that stay in the cache (T3). Zeros stand where a sum skips terms, which gives the same bits as long as the other factors are finite (D3); where one is
/// not, `isCareful` paths take every row, and every key, by itself with the factors that it does not see set to zero.
public struct AttentionPass {
    /// B, H, G, Q, T, D.
    public var batch: Int
    public var heads: Int
    public var keyValueHeads: Int
    public var queries: Int
    public var keys: Int
    public var dimension: Int
    public var scale: Float
    public var recipe: DotRecipe

    public init(
        batch: Int, heads: Int, keyValueHeads: Int, queries: Int, keys: Int, dimension: Int, scale: Float,
        recipe: DotRecipe
    ) {
        self.batch = batch
        self.heads = heads
        self.keyValueHeads = keyValueHeads
        self.queries = queries
        self.keys = keys
        self.dimension = dimension
        self.scale = scale
        self.recipe = recipe
    }

    /// A tensor [batch, head, row, D] in any order of its first three indices; D is contiguous.
    public struct Layout: Sendable {
        public let batch: Int
        public let head: Int
        public let row: Int

        public init(batch: Int, head: Int, row: Int) {
            self.batch = batch
            self.head = head
            self.row = row
        }

        /// [B, heads, rows, D].
        public static func headsFirst(heads: Int, rows: Int, dimension: Int) -> Layout {
            Layout(batch: heads * rows * dimension, head: rows * dimension, row: dimension)
        }

        /// [B, rows, heads, D].
        public static func rowsFirst(heads: Int, rows: Int, dimension: Int) -> Layout {
            Layout(batch: heads * rows * dimension, head: dimension, row: heads * dimension)
        }

        func offset(_ b: Int, _ h: Int, _ i: Int) -> Int { b * batch + h * head + i * row }
    }

    public typealias BF16 = UnsafePointer<UInt16>
    public typealias MutableBF16 = UnsafeMutablePointer<UInt16>

    /// max, sum and Z of every row, [B, H, Q] fp32.
    public struct Statistics {
        public let maximum: UnsafeMutablePointer<Float>
        public let sum: UnsafeMutablePointer<Float>
        public let z: UnsafeMutablePointer<Float>

        public init(
            maximum: UnsafeMutablePointer<Float>, sum: UnsafeMutablePointer<Float>, z: UnsafeMutablePointer<Float>
        ) {
            self.maximum = maximum
            self.sum = sum
            self.z = z
        }
    }

    private var tiles: Int { roundedUp(keys, to: 16) / 16 }
    private var paddedKeys: Int { 16 * tiles }
    private var evenDimension: Int { roundedUp(dimension, to: 2) }
    private var group: Int { heads / keyValueHeads }

    /// Queries of a block: a multiple of every tile's rows, even, few enough for the logits to stay in the cache.
    private var blockQueries: Int { keys > 512 ? 24 : 48 }

    // MARK: - Scratch

    private struct Sizes {
        let keyColumns: Int
        let depthColumns: Int
        let queryColumns: Int
        let rows: Int
        let keyRows: Int
        let logits: Int
        let rounded: Int
        let outputs: Int
        let gradients: Int
        let masked: Int
    }

    private func sizes(_ kernels: KernelSet) -> Sizes {
        let pack = kernels.pack
        let unit = kernels.tileColumns
        let columns = roundedUp(dimension, to: unit)
        let block = roundedUp(blockQueries, to: kernels.tileRows)
        return Sizes(
            keyColumns: pack.columnBytes(roundedUp(keys, to: unit), evenDimension),
            depthColumns: pack.columnBytes(columns, paddedKeys),
            queryColumns: pack.columnBytes(columns, roundedUp(max(queries, block), to: 2)),
            rows: max(pack.rowBytes(block, evenDimension), pack.rowBytes(block, paddedKeys)),
            keyRows: pack.rowBytes(paddedKeys, roundedUp(max(queries, block), to: 2)),
            logits: 4 * block * roundedUp(paddedKeys, to: unit), rounded: 2 * block * paddedKeys,
            outputs: 4 * block * columns, gradients: 4 * roundedUp(paddedKeys, to: kernels.tileRows) * columns,
            masked: 2 * max(keys, queries) * dimension)
    }

    /// Bytes of scratch of each thread.
    public func scratchBytes(_ kernels: KernelSet) -> Int {
        let s = sizes(kernels)
        return ScratchArena.total(
            s.keyColumns, s.keyColumns, s.depthColumns, s.depthColumns, s.queryColumns, s.queryColumns, s.rows, s.rows,
            s.keyRows, s.logits)
            + ScratchArena.total(
                s.logits, s.rounded, s.rounded, s.outputs, s.gradients, s.gradients, s.masked, 64, 2 * tiles + 2)
    }

    // MARK: - Runs of tiles

    /// The tiles that some row of a block sees.
    private func union(_ mask: MaskBits, _ b: Int, _ rows: Range<Int>, _ seen: MutableBF16) {
        seen.update(repeating: 0, count: tiles)
        for i in rows {
            let row = mask.row(b, i)
            for tile in 0..<tiles { seen[tile] |= row[tile] }
        }
    }

    /// From the first seen tile to the last: all that a row of the block needs looking at.
    private func span(_ seen: MutableBF16) -> Range<Int> {
        var (first, end) = (0, tiles)
        while first < end && seen[first] == 0 { first += 1 }
        while end > first && seen[end - 1] == 0 { end -= 1 }
        return first..<end
    }

    /// Calls `body` with every run of seen tiles.
    @inline(__always)
    private func forEachRun(_ seen: MutableBF16, _ body: (Range<Int>) -> Void) {
        var tile = 0
        while tile < tiles {
            if seen[tile] == 0 {
                tile += 1
                continue
            }
            var end = tile + 1
            while end < tiles && seen[end] != 0 { end += 1 }
            body(tile..<end)
            tile = end
        }
    }

    // MARK: - Forward

    /// o, bf16 in the layout of the queries, and the rows' statistics. `largest` is the largest |s| that is seen, for each thread (Z5).
    public func forward(
        _ context: EngineContext, query: BF16, queryLayout: Layout, key: BF16, value: BF16, keyLayout: Layout,
        mask: MaskBits, output: MutableBF16, outputLayout: Layout, statistics: Statistics,
        largest: UnsafeMutablePointer<Float>
    ) {
        context.reserve(scratchBytes(context.kernels))
        context.pool.run { thread, count in
            largest[thread] = 0
            // The heads of a group share their keys and values.
            var packed = PackedGroup()
            for task in WorkerPool.part(thread, of: count, batch * heads) {
                let (b, h) = (task / heads, task % heads)
                let work = Work(self, context, thread)
                work.forward(
                    b, h, query, queryLayout, key, value, keyLayout, mask, output, outputLayout, statistics,
                    &largest[thread], &packed)
            }
        }
    }

    // MARK: - Backward

    /// dq, dk and dv, bf16 in the layouts of q, k and v (Z2).
    ///
    /// - Parameter output: o of the forward pass, read by the form `row-dot` alone.
    public func backward(
        _ context: EngineContext, query: BF16, queryLayout: Layout, key: BF16, value: BF16, keyLayout: Layout,
        outputGradient: BF16, output: BF16, outputLayout: Layout, mask: MaskBits, statistics: Statistics, zregC: Float,
        form: ZRegForm, queryGradient: MutableBF16, keyGradient: MutableBF16, valueGradient: MutableBF16
    ) {
        context.reserve(scratchBytes(context.kernels))
        context.pool.run { thread, count in
            for task in WorkerPool.part(thread, of: count, batch * keyValueHeads) {
                let work = Work(self, context, thread)
                work.backward(
                    task / keyValueHeads, task % keyValueHeads, query, queryLayout, key, value, keyLayout,
                    outputGradient, output, outputLayout, mask, statistics, zregC, form, queryGradient, keyGradient,
                    valueGradient)
            }
        }
    }

    /// Whose keys and values a thread has packed.
    private struct PackedGroup {
        var group = -1
        /// A value is not finite: rows go one by one.
        var isCareful = false
    }

    // MARK: - One thread's work

    private struct Work {
        let pass: AttentionPass
        let kernels: KernelSet
        let isPairedFTZ: Bool
        let keyPanels: UnsafeMutableRawPointer
        let valuePanels: UnsafeMutableRawPointer
        let keyByDepth: UnsafeMutableRawPointer
        let valueByDepth: UnsafeMutableRawPointer
        let queryByDepth: UnsafeMutableRawPointer
        let gradientByDepth: UnsafeMutableRawPointer
        let packedRows: UnsafeMutableRawPointer
        let packedGradientRows: UnsafeMutableRawPointer
        let packedKeys: UnsafeMutableRawPointer
        let s: UnsafeMutablePointer<Float>
        let dp: UnsafeMutablePointer<Float>
        let p: UnsafeMutablePointer<UInt16>
        let ds: UnsafeMutablePointer<UInt16>
        let sums: UnsafeMutablePointer<Float>
        let keySums: UnsafeMutablePointer<Float>
        let valueSums: UnsafeMutablePointer<Float>
        let masked: UnsafeMutablePointer<UInt16>
        let lanes: UnsafeMutablePointer<Float>
        let seen: UnsafeMutablePointer<UInt16>
        /// Floats of a row of logits, and of a row of [.., D] sums.
        let logitStride: Int
        let sumStride: Int

        init(_ pass: AttentionPass, _ context: EngineContext, _ thread: Int) {
            self.pass = pass
            kernels = context.kernels
            isPairedFTZ = pass.recipe.isPairedFTZ
            var arena = context.arena(thread)
            let sizes = pass.sizes(kernels)
            keyPanels = arena.bytes(sizes.keyColumns)
            valuePanels = arena.bytes(sizes.keyColumns)
            keyByDepth = arena.bytes(sizes.depthColumns)
            valueByDepth = arena.bytes(sizes.depthColumns)
            queryByDepth = arena.bytes(sizes.queryColumns)
            gradientByDepth = arena.bytes(sizes.queryColumns)
            packedRows = arena.bytes(sizes.rows)
            packedGradientRows = arena.bytes(sizes.rows)
            packedKeys = arena.bytes(sizes.keyRows)
            s = arena.floats(sizes.logits / 4)
            dp = arena.floats(sizes.logits / 4)
            p = arena.bf16(sizes.rounded / 2)
            ds = arena.bf16(sizes.rounded / 2)
            sums = arena.floats(sizes.outputs / 4)
            keySums = arena.floats(sizes.gradients / 4)
            valueSums = arena.floats(sizes.gradients / 4)
            masked = arena.bf16(sizes.masked / 2)
            lanes = arena.floats(16)
            seen = arena.bf16(pass.tiles + 1)
            logitStride = roundedUp(pass.paddedKeys, to: kernels.tileColumns)
            sumStride = roundedUp(pass.dimension, to: kernels.tileColumns)
        }

        /// k or v as columns to multiply rows of D with.
        private func packKeys(_ x: BF16, _ layout: Layout, _ panels: UnsafeMutableRawPointer) {
            kernels.pack.packColumns(
                KernelSet.Operand(x, stride: layout.row, depthStride: 1), pass.keys, pass.dimension,
                pass.evenDimension, 0, panels)
        }

        /// Rows [count, D] as D columns of depth `depth`, with zeros beyond.
        private func packByDepth(
            _ x: BF16, _ stride: Int, _ count: Int, _ depth: Int, _ panels: UnsafeMutableRawPointer
        ) {
            if depth > count {
                panels.initializeMemory(
                    as: UInt8.self, repeating: 0, count: kernels.pack.columnBytes(sumStride, depth))
            }
            kernels.pack.packColumns(
                KernelSet.Operand(x, stride: 1, depthStride: stride), pass.dimension, count, depth, 0, panels)
        }

        private func multiply(
            _ a: UnsafeRawPointer, contiguous: Bool, packedRows: Int, packedDepth: Int, _ b: UnsafeRawPointer,
            panelDepth: Int, _ c: UnsafeMutablePointer<Float>, _ stride: Int, rows: Int, columns: Int, depth: Int,
            accumulates: Bool
        ) {
            kernels.multiply(
                KernelSet.Block(
                    a: a, isDepthContiguous: contiguous, packedRows: packedRows, packedDepth: packedDepth, b: b,
                    panelDepth: panelDepth, c: c, cStride: stride, rows: rows, columns: columns, depth: depth,
                    accumulates: accumulates, isPairedFTZ: isPairedFTZ))
        }

        /// c [rows, keys] = x [rows, D] times the panels' keys, where a run is seen.
        private func products(
            _ x: BF16, _ stride: Int, _ rows: Int, _ packed: UnsafeMutableRawPointer, _ panels: UnsafeRawPointer,
            _ c: UnsafeMutablePointer<Float>
        ) {
            kernels.pack.packRows(
                KernelSet.Operand(x, stride: stride, depthStride: 1), rows, pass.dimension, packed)
            let depth = pass.evenDimension
            let unit = kernels.tileColumns
            let panelBytes = kernels.pack.columnBytes(unit, depth)
            pass.forEachRun(seen) { run in
                let first = 16 * run.lowerBound / unit * unit
                let end = min(roundedUp(16 * run.upperBound, to: unit), logitStride)
                multiply(
                    packed, contiguous: true, packedRows: rows, packedDepth: depth, panels + first / unit * panelBytes,
                    panelDepth: depth, c + first, logitStride, rows: rows, columns: end - first, depth: depth,
                    accumulates: false)
            }
        }

        /// sums [rows, D] = bf16 weights [rows, keys] times [keys, D] by depth, over the runs that are seen.
        private func weightedRows(_ weights: BF16, _ rows: Int, _ panels: UnsafeRawPointer) {
            let unit = kernels.tileColumns
            // Without keys there is no run.
            let depthBytes = kernels.pack.columnBytes(unit, pass.paddedKeys) / max(1, pass.paddedKeys)
            var accumulates = false
            pass.forEachRun(seen) { run in
                let depth = 16 * run.count
                kernels.pack.packRows(
                    KernelSet.Operand(weights + 16 * run.lowerBound, stride: pass.paddedKeys, depthStride: 1), rows,
                    depth, packedRows)
                multiply(
                    packedRows, contiguous: true, packedRows: rows, packedDepth: depth,
                    panels + 16 * run.lowerBound * depthBytes, panelDepth: pass.paddedKeys, sums, sumStride,
                    rows: rows, columns: pass.dimension, depth: depth, accumulates: accumulates)
                accumulates = true
            }
        }

        /// keySums [keys, D] += transposed weights [rows, keys] times rows [rows, D], one step of a chain over rows (D4).
        private func weightedKeys(
            _ weights: BF16, _ rows: Int, _ panels: UnsafeRawPointer, _ c: UnsafeMutablePointer<Float>
        ) {
            let even = roundedUp(rows, to: 2)
            pass.forEachRun(seen) { run in
                let count = 16 * run.count
                kernels.pack.packRows(
                    KernelSet.Operand(weights + 16 * run.lowerBound, stride: 1, depthStride: pass.paddedKeys), count,
                    rows, packedKeys)
                // Whole tiles of rows: the last may reach into the keys after the run, whose sums are kept aside.
                let whole = count / kernels.tileRows * kernels.tileRows
                if whole > 0 {
                    multiply(
                        packedKeys, contiguous: false, packedRows: count, packedDepth: even, panels, panelDepth: even,
                        c + 16 * run.lowerBound * sumStride, sumStride, rows: whole, columns: pass.dimension,
                        depth: even, accumulates: true)
                }
                let rest = count - whole
                if rest > 0 {
                    kernels.pack.packRows(
                        KernelSet.Operand(
                            weights + (16 * run.lowerBound + whole), stride: 1, depthStride: pass.paddedKeys), rest,
                        rows, packedKeys)
                    let target = c + (16 * run.lowerBound + whole) * sumStride
                    sums.update(from: target, count: rest * sumStride)
                    multiply(
                        packedKeys, contiguous: false, packedRows: rest, packedDepth: even, panels, panelDepth: even,
                        sums, sumStride, rows: rest, columns: pass.dimension, depth: even, accumulates: true)
                    target.update(from: sums, count: rest * sumStride)
                }
            }
        }

        /// x [count, D] with the rows that `isSeen` leaves out set to zero, in `masked`, stride D.
        private func maskedRows(_ x: BF16, _ stride: Int, _ count: Int, _ isSeen: (Int) -> Bool) {
            for row in 0..<count {
                let target = masked + row * pass.dimension
                if isSeen(row) {
                    target.update(from: x + row * stride, count: pass.dimension)
                } else {
                    target.update(repeating: 0, count: pass.dimension)
                }
            }
        }

        private func isFinite(_ x: BF16, _ stride: Int, _ rows: Int) -> Bool {
            for row in 0..<rows {
                // The exponents' bits all set: one bit more carries out of them.
                var carries: UInt16 = 0
                let x = x + row &* stride
                for d in 0..<pass.dimension { carries |= (x[d] & 0x7F80) &+ 0x80 }
                if carries & 0x8000 != 0 { return false }
            }
            return true
        }

        // MARK: Forward

        func forward(
            _ b: Int, _ h: Int, _ query: BF16, _ queryLayout: Layout, _ key: BF16, _ value: BF16, _ keyLayout: Layout,
            _ mask: MaskBits, _ output: MutableBF16, _ outputLayout: Layout, _ statistics: Statistics,
            _ largest: inout Float, _ packed: inout PackedGroup
        ) {
            let g = h / pass.group
            let (k, v) = (key + keyLayout.offset(b, g, 0), value + keyLayout.offset(b, g, 0))
            if packed.group != b * pass.keyValueHeads + g {
                packed.group = b * pass.keyValueHeads + g
                packKeys(k, keyLayout, keyPanels)
                packed.isCareful = !isFinite(v, keyLayout.row, pass.keys)
                if !packed.isCareful { packByDepth(v, keyLayout.row, pass.keys, pass.paddedKeys, valueByDepth) }
            }
            let isCareful = packed.isCareful
            let step = isCareful ? 1 : pass.blockQueries
            var first = 0
            while first < pass.queries {
                let rows = min(step, pass.queries - first)
                pass.union(mask, b, first..<first + rows, seen)
                if isCareful {
                    let bits = mask.row(b, first)
                    maskedRows(v, keyLayout.row, pass.keys) { bits[$0 >> 4] >> UInt16($0 & 15) & 1 == 1 }
                    packByDepth(masked, pass.dimension, pass.keys, pass.paddedKeys, valueByDepth)
                }
                let q = query + queryLayout.offset(b, h, first)
                products(q, queryLayout.row, rows, packedRows, keyPanels, s)
                let span = pass.span(seen)
                for r in 0..<rows {
                    let statistic = (b * pass.heads + h) * pass.queries + first + r
                    softmax(mask.row(b, first + r), span, r, statistic, statistics, &largest)
                }
                weightedRows(p, rows, valueByDepth)
                for r in 0..<rows {
                    let o = output + outputLayout.offset(b, h, first + r)
                    if statistics.sum[(b * pass.heads + h) * pass.queries + first + r] == 0 {
                        o.update(repeating: 0, count: pass.dimension)  // V4
                    } else {
                        kernels.rows.finishBF16(sums + r * sumStride, o, pass.dimension)
                    }
                }
                first += rows
            }
        }

        /// Z1 for row r of the block, which sees tiles of `span` alone: its statistics, and bf16(P).
        private func softmax(
            _ bits: BF16, _ span: Range<Int>, _ r: Int, _ statistic: Int, _ statistics: Statistics,
            _ largest: inout Float
        ) {
            let (bits, tiles) = (bits + span.lowerBound, span.count)
            let row = s + (r * logitStride + 16 * span.lowerBound)
            let rounded = p + (r * pass.paddedKeys + 16 * span.lowerBound)
            var isBlind = true
            for tile in 0..<tiles where bits[tile] != 0 {
                isBlind = false
                break
            }
            if isBlind {
                statistics.maximum[statistic] = 0
                statistics.sum[statistic] = 0
                statistics.z[statistic] = 0
                rounded.update(repeating: 0, count: 16 * tiles)
                return
            }
            let (maximum, magnitude) = kernels.rows.scaleLogits(row, pass.scale, bits, tiles)
            if !(magnitude <= largest) && largest == largest { largest = magnitude }
            lanes.update(repeating: 0, count: 16)
            kernels.rows.exponentials(row, maximum, bits, lanes, tiles)
            let sum = canonical(kernels.rows.combine(lanes))
            statistics.maximum[statistic] = maximum
            statistics.sum[statistic] = sum
            statistics.z[statistic] = canonical(maximum + ScalarMath.log(sum))
            kernels.rows.probabilities(row, sum, bits, nil, rounded, tiles)
        }

        // MARK: Backward

        func backward(
            _ b: Int, _ g: Int, _ query: BF16, _ queryLayout: Layout, _ key: BF16, _ value: BF16,
            _ keyLayout: Layout, _ outputGradient: BF16, _ output: BF16, _ outputLayout: Layout, _ mask: MaskBits,
            _ statistics: Statistics, _ zregC: Float, _ form: ZRegForm, _ queryGradient: MutableBF16,
            _ keyGradient: MutableBF16, _ valueGradient: MutableBF16
        ) {
            let (k, v) = (key + keyLayout.offset(b, g, 0), value + keyLayout.offset(b, g, 0))
            packKeys(k, keyLayout, keyPanels)
            packKeys(v, keyLayout, valuePanels)
            let isKeyFinite = isFinite(k, keyLayout.row, pass.keys)
            if isKeyFinite { packByDepth(k, keyLayout.row, pass.keys, pass.paddedKeys, keyByDepth) }
            var isRowFinite = true
            for h in g * pass.group..<(g + 1) * pass.group {
                let isFiniteHead =
                    isFinite(query + queryLayout.offset(b, h, 0), queryLayout.row, pass.queries)
                    && isFinite(outputGradient + outputLayout.offset(b, h, 0), outputLayout.row, pass.queries)
                isRowFinite = isRowFinite && isFiniteHead
            }
            keySums.update(repeating: 0, count: pass.paddedKeys * sumStride)
            valueSums.update(repeating: 0, count: pass.paddedKeys * sumStride)
            for h in g * pass.group..<(g + 1) * pass.group {
                // A block of one row would break pairs of queries: a careful key's gradient has its own loop below.
                let step = isKeyFinite ? pass.blockQueries : 2
                var first = 0
                while first < pass.queries {
                    let rows = min(step, pass.queries - first)
                    let q = query + queryLayout.offset(b, h, first)
                    let d = outputGradient + outputLayout.offset(b, h, first)
                    logitGradients(
                        b, h, first, rows, q, queryLayout, d, output, outputLayout, mask, statistics, zregC, form)
                    // dq
                    if isKeyFinite {
                        weightedRows(ds, rows, keyByDepth)
                        finishQueries(b, h, first, rows, queryLayout, statistics, queryGradient)
                    } else {
                        for r in 0..<rows {
                            carefulQuery(b, h, first, r, k, keyLayout, mask, statistics, queryLayout, queryGradient)
                        }
                        pass.union(mask, b, first..<first + rows, seen)
                    }
                    // dk and dv
                    if isRowFinite {
                        let even = roundedUp(rows, to: 2)
                        packByDepth(q, queryLayout.row, rows, even, queryByDepth)
                        packByDepth(d, outputLayout.row, rows, even, gradientByDepth)
                        weightedKeys(ds, rows, queryByDepth, keySums)
                        weightedKeys(p, rows, gradientByDepth, valueSums)
                    }
                    first += rows
                }
                if !isRowFinite {
                    carefulKeys(
                        b, h, query, queryLayout, outputGradient, output, outputLayout, mask, statistics, zregC, form)
                }
            }
            for j in 0..<pass.keys {
                let at = keyLayout.offset(b, g, j)
                kernels.rows.finishScaled(keySums + j * sumStride, pass.scale, keyGradient + at, pass.dimension)
                kernels.rows.finishBF16(valueSums + j * sumStride, valueGradient + at, pass.dimension)
            }
        }

        /// bf16(P) and bf16(dS) of a block's rows.
        private func logitGradients(
            _ b: Int, _ h: Int, _ first: Int, _ rows: Int, _ q: BF16, _ queryLayout: Layout, _ d: BF16, _ output: BF16,
            _ outputLayout: Layout, _ mask: MaskBits, _ statistics: Statistics, _ zregC: Float, _ form: ZRegForm,
            ofAllKeys: Bool = false
        ) {
            pass.union(mask, b, first..<first + rows, seen)
            let span = ofAllKeys ? 0..<pass.tiles : pass.span(seen)
            let (firstKey, tiles) = (16 * span.lowerBound, span.count)
            products(q, queryLayout.row, rows, packedRows, keyPanels, s)
            products(d, outputLayout.row, rows, packedGradientRows, valuePanels, dp)
            for r in 0..<rows {
                let bits = mask.row(b, first + r) + span.lowerBound
                let statistic = (b * pass.heads + h) * pass.queries + first + r
                let (row, dpRow) = (s + (r * logitStride + firstKey), dp + (r * logitStride + firstKey))
                let (pRow, dsRow) = (p + (r * pass.paddedKeys + firstKey), ds + (r * pass.paddedKeys + firstKey))
                let sum = statistics.sum[statistic]
                if sum == 0 {
                    pRow.update(repeating: 0, count: 16 * tiles)  // V4
                    dsRow.update(repeating: 0, count: 16 * tiles)
                    continue
                }
                _ = kernels.rows.scaleLogits(row, pass.scale, bits, tiles)
                lanes.update(repeating: 0, count: 16)
                kernels.rows.exponentials(row, statistics.maximum[statistic], bits, lanes, tiles)
                kernels.rows.probabilities(row, sum, bits, row, pRow, tiles)
                lanes.update(repeating: 0, count: 16)
                kernels.rows.weighProbabilities(row, dpRow, bits, lanes, tiles)
                var weighted = kernels.rows.combine(lanes)
                if form == .rowDot {
                    weighted = kernels.rows.sumOfProductsBF16(
                        d + r * outputLayout.row, output + outputLayout.offset(b, h, first + r), pass.dimension)
                }
                kernels.rows.logitGradient(
                    row, dpRow, gradientForm(weighted, statistics.z[statistic], zregC, form), bits, dsRow, tiles)
            }
        }

        private func finishQueries(
            _ b: Int, _ h: Int, _ first: Int, _ rows: Int, _ layout: Layout, _ statistics: Statistics,
            _ queryGradient: MutableBF16
        ) {
            for r in 0..<rows {
                let target = queryGradient + layout.offset(b, h, first + r)
                if statistics.sum[(b * pass.heads + h) * pass.queries + first + r] == 0 {
                    target.update(repeating: 0, count: pass.dimension)  // V4
                } else {
                    kernels.rows.finishScaled(sums + r * sumStride, pass.scale, target, pass.dimension)
                }
            }
        }

        // MARK: Factors that are not finite

        /// dq of one row of a block, the keys that it does not see set to zero.
        private func carefulQuery(
            _ b: Int, _ h: Int, _ first: Int, _ r: Int, _ k: BF16, _ keyLayout: Layout, _ mask: MaskBits,
            _ statistics: Statistics, _ layout: Layout, _ queryGradient: MutableBF16
        ) {
            let bits = mask.row(b, first + r)
            maskedRows(k, keyLayout.row, pass.keys) { bits[$0 >> 4] >> UInt16($0 & 15) & 1 == 1 }
            packByDepth(masked, pass.dimension, pass.keys, pass.paddedKeys, keyByDepth)
            pass.union(mask, b, first + r..<first + r + 1, seen)
            weightedRows(ds + r * pass.paddedKeys, 1, keyByDepth)
            finishQueries(b, h, first + r, 1, layout, statistics, queryGradient)
        }

        /// One head's part of every key's dk and dv, the queries that do not see the key set to zero.
        private func carefulKeys(
            _ b: Int, _ h: Int, _ query: BF16, _ queryLayout: Layout, _ outputGradient: BF16, _ output: BF16,
            _ outputLayout: Layout, _ mask: MaskBits, _ statistics: Statistics, _ zregC: Float, _ form: ZRegForm
        ) {
            for j in 0..<pass.keys {
                let (word, bit) = (j >> 4, UInt16(j & 15))
                func isSeen(_ i: Int) -> Bool { mask.row(b, i)[word] >> bit & 1 == 1 }
                // Pairs of queries one after the other: each once more, for this key alone.
                var first = 0
                while first < pass.queries {
                    let rows = min(2, pass.queries - first)
                    let q = query + queryLayout.offset(b, h, first)
                    let d = outputGradient + outputLayout.offset(b, h, first)
                    logitGradients(
                        b, h, first, rows, q, queryLayout, d, output, outputLayout, mask, statistics, zregC, form,
                        ofAllKeys: true)
                    for (x, stride, weights, total) in [
                        (q, queryLayout.row, ds, keySums), (d, outputLayout.row, p, valueSums),
                    ] {
                        maskedRows(x, stride, rows) { isSeen(first + $0) }
                        packByDepth(masked, pass.dimension, rows, 2, queryByDepth)
                        kernels.pack.packRows(
                            KernelSet.Operand(weights + j, stride: 1, depthStride: pass.paddedKeys), 1, rows,
                            packedKeys)
                        sums.update(from: total + j * sumStride, count: sumStride)
                        multiply(
                            packedKeys, contiguous: false, packedRows: 1, packedDepth: 2, queryByDepth, panelDepth: 2,
                            sums, sumStride, rows: 1, columns: pass.dimension, depth: 2, accumulates: true)
                        (total + j * sumStride).update(from: sums, count: sumStride)
                    }
                    first += rows
                }
            }
        }
    }
}

/// dS by form (Z2, Z3).
func gradientForm(_ weighted: Float, _ z: Float, _ c: Float, _ form: ZRegForm) -> GradientForm {
    if c == 0 { return GradientForm(d: weighted, dz: nil) }
    let dz = (2 * c) * z
    switch form {
    case .folded, .rowDot: return GradientForm(d: weighted - dz, dz: nil)
    case .unfolded: return GradientForm(d: weighted, dz: dz)
    }
}

/// A NaN as stored (F2).
@inline(__always)
func canonical(_ x: Float) -> Float { x != x ? Float(bitPattern: 0x7FC0_0000) : x }
