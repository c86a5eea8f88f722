import ModelSpec
import Platform

/// What a training step would take on a cluster, from times measured on one machine and two numbers of a network. An estimate, no measurement.
///
/// Assumptions, all of them:
/// * Weak scaling: every rank computes as many tokens as a rank did where it was measured, in the same time, whatever the number of ranks W.
/// * The all-reduce of a step is that of S8: a reduce-scatter and an all-gather of all gradients in one message a peer. On each leg a rank sends W - 1 messages of
///   1/W of the encoded gradients, one after the other, over a link of its own that carries `bandwidth` each way and starts each message after `latency`:
///   (W - 1) (latency + bytes / W / bandwidth). Direct sends over a switch without congestion and a ring take the same by this count.
/// * A rank encodes all elements, adds W contributions to its shard and encodes that, decodes all, at the rates measured by themselves; the two legs wait for it.
/// * Norm and AdamW run on every rank over all parameters, after the all-reduce.
/// * Two bounds: without overlap the passes, the coding and the exchange follow each other; with complete overlap the exchange hides behind the passes, and
///   what takes longer counts.
public struct NetworkModel: Sendable, Hashable {
    /// Bytes a second that a rank sends, while it receives as many.
    public let bandwidth: Double
    /// Seconds before a message begins to flow.
    public let latency: Double

    /// - Precondition: bandwidth above 0, latency 0 or more, both finite.
    public init(bandwidth: Double, latency: Double) {
        precondition(bandwidth > 0 && bandwidth.isFinite && latency >= 0 && latency.isFinite, "no such network")
        self.bandwidth = bandwidth
        self.latency = latency
    }

    /// Seconds for one element of a gradient.
    public struct Codec: Sendable, Hashable {
        public let encode: Double
        /// For each rank's contribution.
        public let add: Double
        public let decode: Double
        /// For the residual of error feedback.
        public let feedback: Double

        public init(encode: Double, add: Double, decode: Double, feedback: Double = 0) {
            self.encode = encode
            self.add = add
            self.decode = decode
            self.feedback = feedback
        }
    }

    /// What one rank does in a step.
    public struct Work: Sendable, Hashable {
        public let elements: Int
        /// Bytes of the encoded gradients.
        public let bytes: Int
        public let tokens: Double
        /// Seconds of forward and backward.
        public let passes: Double
        /// Seconds of norm and optimizer.
        public let update: Double
        public let codec: Codec

        public init(elements: Int, bytes: Int, tokens: Double, passes: Double, update: Double, codec: Codec) {
            self.elements = elements
            self.bytes = bytes
            self.tokens = tokens
            self.passes = passes
            self.update = update
            self.codec = codec
        }
    }

    public struct Estimate: Sendable, Hashable {
        /// Bytes that a rank sends on both legs.
        public let bytes: Double
        /// Seconds of both legs.
        public let exchange: Double
        public let coding: Double
        /// Seconds of a step where nothing overlaps, and where the exchange hides behind the passes.
        public let apart: Double
        public let overlapped: Double
        /// Tokens that a step trains on, of all ranks.
        public let tokens: Double

        /// Tokens a second.
        public var rate: (apart: Double, overlapped: Double) { (tokens / apart, tokens / overlapped) }
    }

    /// - Precondition: at least one rank.
    public func estimate(_ work: Work, ranks: Int) -> Estimate {
        precondition(ranks >= 1, "no rank")
        let w = Double(ranks)
        let elements = Double(work.elements)
        let leg = (w - 1) * (latency + Double(work.bytes) / w / bandwidth)
        let codec = work.codec
        let coding =
            ranks == 1 ? 0 : elements * (codec.feedback + codec.encode + codec.add + codec.encode / w + codec.decode)
        return Estimate(
            bytes: 2 * (w - 1) * Double(work.bytes) / w, exchange: 2 * leg, coding: coding,
            apart: work.passes + coding + 2 * leg + work.update,
            overlapped: max(work.passes, 2 * leg) + coding + work.update, tokens: w * work.tokens)
    }

    // MARK: - From text

    /// Bytes a second: `100` is 100 Gbit/s; otherwise a number with a unit, of bits or of bytes: `25Gbit`, `400Gbit/s`, `800Mbit`, `12.5GB`, `12.5GB/s`. nil if
    /// it is none, or not above 0.
    public static func bandwidth(_ text: String) -> Double? {
        var text = text[...]
        if text.hasSuffix("/s") { text = text.dropLast(2) }
        var factor = 1e9 / 8
        for (unit, bytes) in [("bit", 0.125), ("B", 1.0)] where text.hasSuffix(unit) {
            text = text.dropLast(unit.count)
            factor = bytes
            let prefixes: [Character: Double] = ["k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12]
            if let last = text.last, let prefix = prefixes[last] {
                factor *= prefix
                text = text.dropLast()
            }
            break
        }
        while text.last == " " { text = text.dropLast() }
        guard let number = Double(text), number > 0, (number * factor).isFinite, number * factor > 0 else { return nil }
        return number * factor
    }
}

extension Trainer {
    /// What encoding, adding and decoding an element takes here, the median of five, on gradients of the last step; it changes nothing that lasts.
    public func measureCodec(_ compression: Compression) -> NetworkModel.Codec {
        // The largest parameter over and over, up to as many elements as there are or 2^22, which no cache holds: whole blocks, at least one.
        let largest = parameters.indices.max { parameters[$0].count < parameters[$1].count } ?? 0
        let count = parameters[largest].count
        let n = max(8, min(parameters.reduce(0) { $0 + $1.count }, 1 << 22) / 8 * 8)
        let memory = MemoryBlock(bytes: 14 * n + 512)
        var plan = MemoryPlan(memory.base)
        let (x, sum, decoded) = (plan.floats(n), plan.floats(n), plan.floats(n))
        let bytes = plan.take(UInt8.self, 2 * n)
        let source = model.buffers.parameters[largest].combined
        for i in 0..<n { x[i] = source[i % count].isFinite ? source[i % count] : 0 }
        let rows = context.kernels.rows
        let squinch = SquinchBlocks(context, configuration.squinchVariant)
        func seconds(_ body: () -> Void) -> Double {
            let times = (0..<5).map { _ in
                let start = monotonicSeconds()
                body()
                return monotonicSeconds() - start
            }
            return times.sorted()[2] / Double(n)
        }
        /// Seconds an element of `body` on every thread's part.
        func parts(_ body: (_ at: Int, _ count: Int) -> Void) -> Double {
            seconds { context.parallel(n, unit: 16) { body($0.lowerBound, $0.count) } }
        }
        let add = parts { rows.add(sum + $0, x + $0, sum + $0, $1) }
        switch compression {
        case .none:
            let copy = parts { (decoded + $0).update(from: x + $0, count: $1) }
            return NetworkModel.Codec(encode: copy, add: add, decode: copy)
        case .bf16:
            let rounded = UnsafeMutableRawPointer(bytes).assumingMemoryBound(to: UInt16.self)
            return NetworkModel.Codec(
                encode: parts { rows.round(x + $0, rounded + $0, $1) },
                add: parts { rows.accumulate(rounded + $0, sum + $0, $1) },
                decode: parts { rows.widen(rounded + $0, decoded + $0, $1) })
        case .squinch:
            let encode = seconds { _ = squinch.encode(x, n, into: bytes, random: roundingWords(0, 0)) }
            let decode = seconds { squinch.decode(bytes, n, into: decoded) }
            // Error feedback takes an addition, a decoding and a subtraction more.
            let feedback = configuration.errorFeedback ? 2 * add + decode : 0
            // The blocks are copied into the owners' messages and out of them.
            let copy = parts { (decoded + $0).update(from: x + $0, count: $1) } * 6 / 32
            return NetworkModel.Codec(
                encode: encode + copy, add: decode + add, decode: decode + copy, feedback: feedback)
        }
    }
}
