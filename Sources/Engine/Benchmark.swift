import Kernels
import ModelSpec

/// Work of known size for `bench`: each prepares its operands and gives a closure to time.
public enum Benchmark {
    /// Something to time.
    public struct Item {
        public let name: String
        /// What `run` does once, in `unit`s.
        public let amount: Double
        public let unit: String
        public let run: () -> Void
        /// The memory that `run` uses.
        private let owner: AnyObject?

        init(name: String, amount: Double, unit: String, owner: AnyObject? = nil, run: @escaping () -> Void) {
            self.name = name
            self.amount = amount
            self.unit = unit
            self.owner = owner
            self.run = run
        }

        /// The same under another name.
        public func named(_ name: String) -> Item {
            Item(name: name, amount: amount, unit: unit, owner: owner, run: run)
        }
    }

    /// A block of memory of pseudo-random bf16 numbers near 1, or fp32.
    private final class Operands {
        let memory: MemoryBlock

        init(bytes: Int) { memory = MemoryBlock(bytes: bytes) }

        func bf16(_ count: Int, at offset: Int = 0) -> UnsafeMutablePointer<UInt16> {
            let p = (memory.base + offset).bindMemory(to: UInt16.self, capacity: count)
            for i in 0..<count { p[i] = UInt16(0x3F00 + (i * 7919) % 251 + (i & 1) << 15) }
            return p
        }

        func fp32(_ count: Int, at offset: Int = 0) -> UnsafeMutablePointer<Float> {
            let p = (memory.base + offset).bindMemory(to: Float.self, capacity: count)
            for i in 0..<count { p[i] = Float((i * 7919) % 4093 - 2046) * 0x1p-11 }
            return p
        }
    }

    /// The machine's own limit on all threads.
    public static func peak(_ context: EngineContext) -> Item {
        let rounds = 2_000_000
        // The kernel says how many operations a round has; its lowest bit says nothing.
        let flops = Double(rounds * (context.kernels.peak(1) & ~1) * context.pool.count)
        return Item(name: "peak", amount: flops, unit: "FLOP") {
            context.pool.run { _, _ in _ = context.kernels.peak(rounds) }
        }
    }

    /// 64 MB read and written by all threads.
    public static func copy(_ context: EngineContext) -> Item {
        let count = 16 << 20
        let operands = Operands(bytes: 8 * count)
        let source = operands.fp32(count)
        let target = (operands.memory.base + 4 * count).bindMemory(to: Float.self, capacity: count)
        return Item(name: "copy", amount: Double(8 * count), unit: "B", owner: operands) {
            context.parallel(count, unit: 1024) { part in
                (target + part.lowerBound).update(from: source + part.lowerBound, count: part.count)
            }
        }
    }

    /// y = x W in bf16.
    public static func product(_ context: EngineContext, m: Int, k: Int, n: Int, recipe: DotRecipe) -> Item {
        let operands = Operands(bytes: 2 * (m * k + k * n + m * n))
        let x = operands.bf16(m * k)
        let weight = operands.bf16(k * n, at: 2 * m * k)
        let y = (operands.memory.base + 2 * (m * k + k * n)).bindMemory(to: UInt16.self, capacity: m * n)
        let layers = Layers(context)
        let rows = context.kernels.rows
        return Item(name: "\(m) x \(k) x \(n)", amount: 2 * Double(m * k * n), unit: "FLOP", owner: operands) {
            layers.forward(x, weight: weight, rows: m, inputs: k, outputs: n, recipe: recipe) {
                row, column, sums, count, _ in rows.finishBF16(sums, y + (row * n + column), count)
            }
        }
    }

    /// dW = x^T dy over 8 sequences, and dx = dy W^T.
    public static func gradients(_ context: EngineContext, tokens: Int, inputs: Int, outputs: Int) -> [Item] {
        let operands = Operands(
            bytes: 2 * (8 * tokens * (2 * inputs + outputs) + inputs * outputs) + 4 * inputs * outputs + 4096)
        let (n, flops) = (8 * tokens, 2 * Double(8 * tokens * inputs * outputs))
        let x = operands.bf16(n * inputs)
        let dy = operands.bf16(n * outputs, at: 2 * n * inputs)
        let weight = operands.bf16(inputs * outputs, at: 2 * n * (inputs + outputs))
        let dx = operands.bf16(n * inputs, at: 2 * (n * (inputs + outputs) + inputs * outputs))
        let dw = operands.fp32(inputs * outputs, at: 2 * (n * (2 * inputs + outputs) + inputs * outputs))
        let layers = Layers(context)
        let rows = context.kernels.rows
        return [
            Item(name: "\(inputs) x \(n) x \(outputs) dW", amount: flops, unit: "FLOP", owner: operands) {
                layers.weightGradient(
                    x, dy: dy, batch: 8, tokens: tokens, inputs: inputs, outputs: outputs, recipe: .pairedFTZ, into: dw)
            },
            Item(name: "\(n) x \(outputs) x \(inputs) dx", amount: flops, unit: "FLOP", owner: operands) {
                layers.inputGradient(
                    Layers.InputGradientPart(dy: dy, weight: weight, outputs: outputs), rows: n, inputs: inputs,
                    recipe: .pairedFTZ
                ) { row, column, sums, count, _ in rows.finishBF16(sums, dx + (row * inputs + column), count) }
            },
        ]
    }

    /// What sees what in an attention benchmark.
    public enum Mask: Sendable {
        case full
        case causal
        /// Causal documents of equal length.
        case documents(Int)
        case window(Int)
    }

    /// Attention forward and backward, H heads over one.
    public static func attention(
        _ context: EngineContext, batch: Int, heads: Int, tokens: Int, dimension: Int, mask: Mask
    ) -> Item {
        let (query, key) = (batch * heads * tokens * dimension, batch * tokens * dimension)
        let operands = Operands(bytes: 2 * (5 * query + 4 * key) + 12 * batch * heads * tokens + 4096)
        var offset = 0
        func bf16(_ count: Int) -> UnsafeMutablePointer<UInt16> {
            defer { offset += 2 * count }
            return operands.bf16(count, at: offset)
        }
        let (q, o, gradient, dq) = (bf16(query), bf16(query), bf16(query), bf16(query))
        let (k, v, dk, dv) = (bf16(key), bf16(key), bf16(key), bf16(key))
        func fp32() -> UnsafeMutablePointer<Float> {
            defer { offset += 4 * batch * heads * tokens }
            return operands.fp32(batch * heads * tokens, at: offset)
        }
        let statistics = AttentionPass.Statistics(maximum: fp32(), sum: fp32(), z: fp32())
        var start: [Int32] = []
        var limit: [Int32] = []
        for _ in 0..<batch {
            for j in 0..<tokens {
                switch mask {
                case .full: (start, limit) = (start + [0], limit + [Int32(tokens)])
                case .causal, .window: (start, limit) = (start + [Int32(j)], limit + [Int32(tokens)])
                case .documents(let length):
                    (start, limit) = (start + [Int32(j)], limit + [Int32(min(tokens, (j / length + 1) * length))])
                }
            }
        }
        var window: Int?
        if case .window(let size) = mask { window = size }
        let bits = MaskBits(batch: batch, queries: tokens, keys: tokens)
        bits.fill(orientation: .byKey, start: start, limit: limit, window: window)
        var visible = 0
        for word in 0..<batch * tokens * bits.tiles { visible += bits.words[word].nonzeroBitCount }
        let pass = AttentionPass(
            batch: batch, heads: heads, keyValueHeads: 1, queries: tokens, keys: tokens, dimension: dimension,
            scale: ScalarMath.rsqrt(Float(dimension)), recipe: .pairedFTZ)
        let queryLayout = AttentionPass.Layout.rowsFirst(heads: heads, rows: tokens, dimension: dimension)
        let keyLayout = AttentionPass.Layout.rowsFirst(heads: 1, rows: tokens, dimension: dimension)
        let largest = UnsafeMutablePointer<Float>.allocate(capacity: context.pool.count)
        let name =
            switch mask {
            case .full: "full"
            case .causal: "causal"
            case .documents(let length): "documents of \(length)"
            case .window(let size): "window \(size)"
            }
        return Item(name: name, amount: Double(visible * heads), unit: "pairs", owner: operands) {
            pass.forward(
                context, query: q, queryLayout: queryLayout, key: k, value: v, keyLayout: keyLayout, mask: bits,
                output: o, outputLayout: queryLayout, statistics: statistics, largest: largest)
            pass.backward(
                context, query: q, queryLayout: queryLayout, key: k, value: v, keyLayout: keyLayout,
                outputGradient: gradient, output: o, outputLayout: queryLayout, mask: bits, statistics: statistics,
                zregC: 0x1p-14, form: .folded, queryGradient: dq, keyGradient: dk, valueGradient: dv)
        }
    }

    /// A function of clause E over 1 M numbers.
    public static func function(_ context: EngineContext, _ name: String, _ function: @escaping MathKernels.Function)
        -> Item
    {
        let count = 1 << 20
        let operands = Operands(bytes: 8 * count)
        let x = operands.fp32(count)
        for i in 0..<count { x[i] = name == "exp" ? x[i] * 8 : abs(x[i]) + 0x1p-10 }
        let y = (operands.memory.base + 4 * count).bindMemory(to: Float.self, capacity: count)
        return Item(name: name, amount: Double(count), unit: "values", owner: operands) {
            context.parallel(count, unit: 16) { part in function(x + part.lowerBound, y + part.lowerBound, part.count) }
        }
    }

    /// Squinch over 16 M gradients.
    public static func squinch(_ context: EngineContext, _ variant: SquinchVariant) -> [Item] {
        let count = 16 << 20
        let operands = Operands(bytes: 4 * count + count)
        let x = operands.fp32(count)
        let bytes = (operands.memory.base + 4 * count).bindMemory(to: UInt8.self, capacity: count)
        let codec = SquinchBlocks(context, variant)
        return [
            Item(name: "encode \(variant.rawValue)", amount: Double(4 * count), unit: "B", owner: operands) {
                _ = codec.encode(
                    x, count, into: bytes, random: .draws(RandomWords(seed: 1, stream: 0, step: 1), first: 0))
            },
            Item(name: "decode \(variant.rawValue)", amount: Double(4 * count), unit: "B", owner: operands) {
                codec.decode(bytes, count, into: x)
            },
        ]
    }
}
