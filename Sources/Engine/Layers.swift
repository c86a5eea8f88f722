import Kernels
import ModelSpec

/// The operations of a layer, over pointers: bf16 as bits, everything in C order (T2).
public struct Layers: Sendable {
    public typealias BF16 = UnsafePointer<UInt16>
    public typealias MutableBF16 = UnsafeMutablePointer<UInt16>
    public typealias FP32 = UnsafePointer<Float>
    public typealias MutableFP32 = UnsafeMutablePointer<Float>

    let context: EngineContext
    private var rows: RowKernels { context.kernels.rows }

    public init(_ context: EngineContext) { self.context = context }

    // MARK: - Linear

    /// What becomes of a row of sums.
    public typealias Finish = (_ row: Int, _ column: Int, _ sums: FP32, _ count: Int, _ thread: Int) -> Void

    /// x W, x [n, in], W [in, out].
    public func forward(
        _ x: BF16, weight: BF16, rows n: Int, inputs: Int, outputs: Int, recipe: DotRecipe, finish: Finish
    ) {
        MatrixProduct(m: n, n: outputs, depth: { _ in inputs }).run(
            context, recipe,
            part: { _ in
                MatrixProduct.Part(
                    a: KernelSet.Operand(x, stride: inputs, depthStride: 1),
                    b: KernelSet.Operand(weight, stride: 1, depthStride: outputs), depth: inputs)
            }, finish: finish)
    }

    /// x W^T, W [out, in]: the logits of a tied embedding.
    public func forwardTransposed(
        _ x: BF16, weight: BF16, rows n: Int, inputs: Int, outputs: Int, recipe: DotRecipe, finish: Finish
    ) {
        MatrixProduct(m: n, n: outputs, depth: { _ in inputs }).run(
            context, recipe,
            part: { _ in
                MatrixProduct.Part(
                    a: KernelSet.Operand(x, stride: inputs, depthStride: 1),
                    b: KernelSet.Operand(weight, stride: inputs, depthStride: 1), depth: inputs)
            }, finish: finish)
    }

    /// One of the layers that share an input: dy [n, out], W [in, out].
    public struct InputGradientPart {
        public let dy: BF16
        public let weight: BF16
        public let outputs: Int

        public init(dy: BF16, weight: BF16, outputs: Int) {
            self.dy = dy
            self.weight = weight
            self.outputs = outputs
        }
    }

    /// The sum of dy W^T over up to three parts, one chain (D4).
    public func inputGradient(
        _ first: InputGradientPart, _ second: InputGradientPart? = nil, _ third: InputGradientPart? = nil, rows n: Int,
        inputs: Int, recipe: DotRecipe, finish: Finish
    ) {
        func part(_ index: Int) -> InputGradientPart { index == 0 ? first : index == 1 ? second! : third! }
        let parts = third != nil ? 3 : second != nil ? 2 : 1
        MatrixProduct(m: n, n: inputs, parts: parts, depth: { part($0).outputs }).run(
            context, recipe,
            part: { index in
                let p = part(index)
                return MatrixProduct.Part(
                    a: KernelSet.Operand(p.dy, stride: p.outputs, depthStride: 1),
                    b: KernelSet.Operand(p.weight, stride: p.outputs, depthStride: 1), depth: p.outputs)
            }, finish: finish)
    }

    /// dW [in, out] = x^T dy, fp32: one row of the chain a sequence (D4).
    public func weightGradient(
        _ x: BF16, dy: BF16, batch: Int, tokens: Int, inputs: Int, outputs: Int, recipe: DotRecipe, into dw: MutableFP32
    ) {
        MatrixProduct(m: inputs, n: outputs, parts: batch, depth: { _ in tokens }).run(
            context, recipe,
            part: { b in
                MatrixProduct.Part(
                    a: KernelSet.Operand(x + b * tokens * inputs, stride: 1, depthStride: inputs),
                    b: KernelSet.Operand(dy + b * tokens * outputs, stride: 1, depthStride: outputs), depth: tokens)
            },
            finish: { row, column, sums, count, _ in rows.finish(sums, dw + (row * outputs + column), count) })
    }

    // MARK: - RMSNorm

    /// y and r.
    public func normalize(
        _ x: BF16, gain: BF16, rows n: Int, width: Int, epsilon: Float, output y: MutableBF16, inverse r: MutableFP32
    ) {
        let reciprocal = 1 / Float(width)
        context.parallel(n) { part in
            for row in part {
                let squares = rows.sumOfSquaresBF16(x + row * width, width)
                r[row] = ScalarMath.rsqrt(squares * reciprocal + epsilon)
                rows.normalize(x + row * width, gain, r[row], y + row * width, width)
            }
        }
    }

    /// The stream's gradient with dx added to it, or dx alone, in bf16; and dg. r is that of the forward pass.
    public func normalizeBackward(
        _ dy: BF16, x: BF16, gain: BF16, inverse r: FP32, rows n: Int, width: Int, stream: BF16?,
        output y: MutableBF16, gainGradient dg: MutableFP32
    ) {
        let reciprocal = 1 / Float(width)
        context.parallel(width, unit: 16) { part in
            let c = part.lowerBound
            rows.gainGradient(dy + c, x + c, r, n, width, dg + c, part.count)
        }
        context.parallel(n) { part in
            for row in part {
                let at = row * width
                let mean = rows.normalizedProduct(dy + at, x + at, gain, r[row], width) * reciprocal
                rows.normalizeBackward(
                    dy + at, x + at, gain, r[row], mean, stream.map { $0 + at }, y + at, width)
            }
        }
    }

    /// As the other, with dx in fp32 and no stream.
    public func normalizeBackward(
        _ dy: BF16, x: BF16, gain: BF16, inverse r: FP32, rows n: Int, width: Int, output dx: MutableFP32,
        gainGradient dg: MutableFP32
    ) {
        let reciprocal = 1 / Float(width)
        context.parallel(width, unit: 16) { part in
            let c = part.lowerBound
            rows.gainGradient(dy + c, x + c, r, n, width, dg + c, part.count)
        }
        context.parallel(n) { part in
            for row in part {
                let at = row * width
                let mean = rows.normalizedProduct(dy + at, x + at, gain, r[row], width) * reciprocal
                rows.normalizeGradient(dy + at, x + at, gain, r[row], mean, dx + at, width)
            }
        }
    }

    // MARK: - Rotary embedding

    /// [n, heads, D] turned by tables [n, D/2]; y may be x.
    public func rotate(
        _ x: BF16, cosine: FP32, sine: FP32, rows n: Int, heads: Int, dimension: Int, backward: Bool,
        output y: MutableBF16
    ) {
        let half = dimension / 2
        context.parallel(n) { part in
            for row in part {
                for head in 0..<heads {
                    let at = (row * heads + head) * dimension
                    rows.rotate(x + at, cosine + row * half, sine + row * half, backward, y + at, half)
                }
            }
        }
    }

    /// The tables of E4 for positions [n]: [n, D/2] each. Rows of equal positions are computed once.
    public func rotaryTables(
        positions: UnsafePointer<Int32>, rows n: Int, frequencies: [Float], cosine: MutableFP32, sine: MutableFP32
    ) {
        let half = frequencies.count
        context.parallel(n) { part in
            for row in part {
                // Documents count from 0 again: the row before is often this one's predecessor, seldom its equal.
                for i in 0..<half {
                    let angle = ScalarMath.rotation(position: Int(positions[row]), frequency: frequencies[i])
                    cosine[row * half + i] = angle.cosine
                    sine[row * half + i] = angle.sine
                }
            }
        }
    }

    // MARK: - Embedding

    /// Rows of the weight [V, C] by token. The tokens are in range.
    public func embed(tokens: UnsafePointer<Int32>, weight: BF16, rows n: Int, width: Int, output y: MutableBF16) {
        context.parallel(n) { part in
            for row in part { (y + row * width).update(from: weight + Int(tokens[row]) * width, count: width) }
        }
    }

    /// dE [V, C]: chain over the rows of a token (R3). Each thread has its own columns.
    public func embedBackward(
        tokens: UnsafePointer<Int32>, dy: BF16, rows n: Int, vocabulary: Int, width: Int, into dE: MutableFP32
    ) {
        context.parallel(width, unit: 16) { part in
            for v in 0..<vocabulary { (dE + v * width + part.lowerBound).update(repeating: 0, count: part.count) }
            for row in 0..<n {
                let at = Int(tokens[row]) * width + part.lowerBound
                rows.accumulate(dy + row * width + part.lowerBound, dE + at, part.count)
            }
            for v in 0..<vocabulary {
                let at = dE + v * width + part.lowerBound
                rows.finish(at, at, part.count)
            }
        }
    }

    // MARK: - Sums

    /// lane16x4096 of fma(x, x) or of x (R2); `scratch` has room for n / 4096 + 1 numbers.
    public func sumOfSquares(_ x: FP32, _ n: Int, scratch: MutableFP32) -> Float {
        let blocks = (n + 4095) / 4096
        context.parallel(blocks) { part in
            for block in part {
                let at = x + 4096 * block
                scratch[block] = rows.sumOfProducts(at, at, min(4096, n - 4096 * block))
            }
        }
        return canonical(rows.sum(scratch, blocks))
    }

    /// As ``sumOfSquares(_:_:scratch:)``, of bf16.
    public func sumOfSquaresBF16(_ x: BF16, _ n: Int, scratch: MutableFP32) -> Float {
        let blocks = (n + 4095) / 4096
        context.parallel(blocks) { part in
            for block in part {
                scratch[block] = rows.sumOfSquaresBF16(x + 4096 * block, min(4096, n - 4096 * block))
            }
        }
        return canonical(rows.sum(scratch, blocks))
    }

    // MARK: - Losses

    /// max, sum and Z of rows of logits [n, V] (Z1).
    public func logSumExp(
        _ logits: FP32, rows n: Int, vocabulary: Int, maximum: MutableFP32, sum: MutableFP32, z: MutableFP32
    ) {
        context.reserve(ScratchArena.total(4 * vocabulary))
        context.pool.run { thread, count in
            var arena = context.arena(thread)
            let e = arena.floats(vocabulary)
            for row in WorkerPool.part(thread, of: count, n) {
                let s = logits + row * vocabulary
                maximum[row] = rows.maximum(s, vocabulary)
                sum[row] = canonical(rows.softmaxExponentials(s, maximum[row], e, vocabulary))
                z[row] = canonical(maximum[row] + ScalarMath.log(sum[row]))
            }
        }
    }

    /// fl(Z - s_target), +0 without a target; the number of targets (T2). Targets are -1 or in range.
    public func losses(
        _ logits: FP32, targets: UnsafePointer<Int32>, rows n: Int, vocabulary: Int, z: FP32, losses: MutableFP32
    ) -> Int {
        var count = 0
        for row in 0..<n {
            let target = Int(targets[row])
            losses[row] = target < 0 ? 0 : canonical(z[row] - logits[row * vocabulary + target])
            if target >= 0 { count += 1 }
        }
        return count
    }

    /// lane16 over the slots of fma(w, fl(Z - s_id)), +0 without a target; the number of rows with one (K4, T2). Ids are in range.
    public func sparseLosses(
        _ logits: FP32, ids: UnsafePointer<UInt32>, weights: FP32, k: Int, rows n: Int, vocabulary: Int, z: FP32,
        losses: MutableFP32
    ) -> Int {
        var count = 0
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 16) { lanes in
            for row in 0..<n {
                lanes.initialize(repeating: 0)
                for c in 0..<k where ids[row * k + c] != Layers.emptySlot {
                    let difference = z[row] - logits[row * vocabulary + Int(ids[row * k + c])]
                    lanes[c % 16] = rows.fma(weights[row * k + c], difference, lanes[c % 16])
                }
                losses[row] = Layers.combined(lanes)
                if Layers.hasTarget(ids, row, k) { count += 1 }
            }
        }
        return count
    }

    /// fl(lane16x4096 of the losses * RNE32(1/count)), +0 of none (T2).
    public func meanLoss(_ losses: FP32, rows n: Int, count: Int, scratch: MutableFP32) -> Float {
        guard count > 0 else { return 0 }
        let blocks = (n + 4095) / 4096
        for block in 0..<blocks { scratch[block] = rows.sum(losses + 4096 * block, min(4096, n - 4096 * block)) }
        return canonical(rows.sum(scratch, blocks) * ScalarMath.reciprocal(of: count))
    }

    /// dlogits bf16 [n, V] of token targets (T2, Z4).
    public func lossGradient(
        _ logits: FP32, targets: UnsafePointer<Int32>, count targetCount: Int, rows n: Int, vocabulary: Int,
        maximum: FP32, sum: FP32, z: FP32, zregC: Float, output: MutableBF16
    ) {
        lossGradient(
            logits, targetCount: targetCount, rows: n, vocabulary: vocabulary, maximum: maximum, sum: sum, z: z,
            zregC: zregC, output: output, hasTarget: { targets[$0] >= 0 }
        ) { row, p, d in
            d.update(from: p, count: vocabulary)
            d[Int(targets[row])] = p[Int(targets[row])] - 1
        }
    }

    /// dlogits bf16 [n, V] of k weighted tokens a row (K4, T2).
    public func sparseLossGradient(
        _ logits: FP32, ids: UnsafePointer<UInt32>, weights: FP32, k: Int, count targetCount: Int, rows n: Int,
        vocabulary: Int, maximum: FP32, sum: FP32, z: FP32, zregC: Float, output: MutableBF16
    ) {
        lossGradient(
            logits, targetCount: targetCount, rows: n, vocabulary: vocabulary, maximum: maximum, sum: sum, z: z,
            zregC: zregC, output: output,
            hasTarget: { row in Layers.hasTarget(ids, row, k) }
        ) { row, p, d in
            // lane16 of the weights, absolute slot by absolute slot; empty ones take no part.
            let total = Layers.lane16(k) { ids[row * k + $0] == Layers.emptySlot ? nil : weights[row * k + $0] }
            rows.scale(p, total, d, vocabulary)
            for c in 0..<k where ids[row * k + c] != Layers.emptySlot {
                let j = Int(ids[row * k + c])
                d[j] = d[j] - weights[row * k + c]
            }
        }
    }

    static let emptySlot: UInt32 = 0xFFFF_FFFF

    static func hasTarget(_ ids: UnsafePointer<UInt32>, _ row: Int, _ k: Int) -> Bool {
        for c in 0..<k where ids[row * k + c] != emptySlot { return true }
        return false
    }

    /// A short lane16 sum of the terms that there are.
    static func lane16(_ n: Int, _ term: (Int) -> Float?) -> Float {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 16) { lanes in
            lanes.initialize(repeating: 0)
            for i in 0..<n {
                if let x = term(i) { lanes[i % 16] = lanes[i % 16] + x }
            }
            return combined(lanes)
        }
    }

    static func combined(_ lanes: UnsafeMutableBufferPointer<Float>) -> Float {
        var width = 8
        while width >= 1 {
            for l in 0..<width { lanes[l] = lanes[l] + lanes[l + width] }
            width /= 2
        }
        return canonical(lanes[0] + 0)
    }

    private func lossGradient(
        _ logits: FP32, targetCount: Int, rows n: Int, vocabulary: Int, maximum: FP32, sum: FP32, z: FP32,
        zregC: Float, output: MutableBF16, hasTarget: (Int) -> Bool,
        _ difference: (_ row: Int, _ p: FP32, _ d: MutableFP32) -> Void
    ) {
        let weight = ScalarMath.reciprocal(of: max(1, targetCount))
        context.reserve(ScratchArena.total(4 * vocabulary, 4 * vocabulary))
        context.pool.run { thread, count in
            var arena = context.arena(thread)
            let (p, d) = (arena.floats(vocabulary), arena.floats(vocabulary))
            for row in WorkerPool.part(thread, of: count, n) {
                let out = output + row * vocabulary
                guard hasTarget(row) else {
                    out.update(repeating: 0, count: vocabulary)
                    continue
                }
                _ = rows.softmaxExponentials(logits + row * vocabulary, maximum[row], p, vocabulary)
                rows.divide(p, sum[row], p, vocabulary)
                difference(row, p, d)
                rows.lossGradient(d, p, zregC == 0 ? nil : (2 * zregC) * z[row], weight, out, vocabulary)
            }
        }
    }

    // MARK: - Ranks

    /// The mean over W ranks' g [W, n] (T5): the sum in rank order from +0 times RNE32(1/W); with `rounds` contributions and mean in bf16.
    public func mean(_ g: FP32, ranks: Int, _ n: Int, rounds: Bool, into mean: MutableFP32) {
        let reciprocal = ScalarMath.reciprocal(of: ranks)
        context.parallel(n, unit: 16) { part in
            let (at, count) = (part.lowerBound, part.count)
            (mean + at).update(repeating: 0, count: count)
            withUnsafeTemporaryAllocation(of: UInt16.self, capacity: rounds ? count : 1) { rounded in
                for rank in 0..<ranks {
                    let contribution = g + (rank * n + at)
                    if rounds {
                        rows.round(contribution, rounded.baseAddress!, count)
                        rows.accumulate(rounded.baseAddress!, mean + at, count)
                    } else {
                        rows.add(mean + at, contribution, mean + at, count)
                    }
                }
                rows.scale(mean + at, reciprocal, mean + at, count)
                if rounds {
                    rows.round(mean + at, rounded.baseAddress!, count)
                    rows.widen(rounded.baseAddress!, mean + at, count)
                }
            }
        }
    }
}
