import ModelSpec

/// How the gradients of all parameters are dealt to W owners, and where each piece lies in the messages (S8).
///
/// Owner r has of every parameter the blocks floor(r nb / W) ..< floor((r + 1) nb / W) of eight elements, whatever the compression. A message for an owner
/// holds its pieces of all parameters, in order: fp32, bf16, or six bytes a block.
struct GradientShards {
    let ranks: Int
    let compression: Compression
    private let counts: [Int]
    /// Of parameter k's piece for owner r at k W + r, from the beginning of all messages laid end to end in the owners' order.
    private let offsets: [Int]
    /// Each owner's bytes.
    let parts: [Range<Int>]

    /// Of all messages.
    var bytes: Int { parts.last?.upperBound ?? 0 }

    init(_ c: ModelConfiguration) {
        (ranks, compression) = (c.ranks, c.compression)
        counts = c.parameters.map(\.count)
        var offsets = [Int](repeating: 0, count: counts.count * c.ranks)
        var parts: [Range<Int>] = []
        var at = 0
        for owner in 0..<c.ranks {
            let start = at
            for (k, n) in counts.enumerated() {
                offsets[k * c.ranks + owner] = at
                at += c.compression.bytes(Self.elements(n, owner, of: c.ranks).count)
            }
            parts.append(start..<at)
        }
        self.offsets = offsets
        self.parts = parts
    }

    /// The elements of parameter k that an owner has.
    func elements(_ k: Int, owner: Int) -> Range<Int> { Self.elements(counts[k], owner, of: ranks) }

    private static func elements(_ n: Int, _ owner: Int, of ranks: Int) -> Range<Int> {
        let blocks = (n + 7) / 8
        return min(n, 8 * (owner * blocks / ranks))..<min(n, 8 * ((owner + 1) * blocks / ranks))
    }

    /// Where parameter k's piece for an owner begins.
    func offset(_ k: Int, owner: Int) -> Int { offsets[k * ranks + owner] }

    /// What so many elements from the beginning of a block take in a message.
    func bytes(_ elements: Int) -> Int { compression.bytes(elements) }

    /// Shows `body` the owners' pieces of parameter k within `part`, and where in the messages each begins.
    ///
    /// - Precondition: `part` begins with a block, and ends with one or with the parameter.
    @inline(__always)
    func pieces(_ k: Int, in part: Range<Int>, _ body: (_ elements: Range<Int>, _ offset: Int) -> Void) {
        for owner in 0..<ranks {
            let all = elements(k, owner: owner)
            let own = all.clamped(to: part)
            if !own.isEmpty { body(own, offset(k, owner: owner) + bytes(own.lowerBound - all.lowerBound)) }
        }
    }

    /// The elements of all parameters that an owner has.
    func elements(owner: Int) -> Int { counts.indices.reduce(0) { $0 + elements($1, owner: owner).count } }
}

/// What the ranks of a run sent each other, counted where it was sent (S8).
public struct Traffic: Sendable, Hashable, BitwiseCopyable {
    /// Bytes of contributions on their way to the owners of the shards.
    public var scattered = 0
    /// Bytes of means on their way to every rank.
    public var gathered = 0
    /// Elements that those bytes stand for.
    public var elements = 0

    public init() {}

    /// Bytes of both legs.
    public var total: Int { scattered + gathered }
    /// Had every element moved as fp32.
    public var asFP32: Int { 4 * elements }
    /// Had every element moved as bf16.
    public var asBF16: Int { 2 * elements }

    public static func += (a: inout Traffic, b: Traffic) {
        a.scattered += b.scattered
        a.gathered += b.gathered
        a.elements += b.elements
    }
}

/// Where the time of steps went, in seconds.
public struct StepSeconds: Sendable, Hashable, BitwiseCopyable {
    /// Forward and backward of one rank: the mean of ranks in one process, the slowest of several processes.
    public var passes = 0.0
    /// Rounding, encoding, adding and decoding gradients.
    public var codec = 0.0
    /// Sending and receiving, waiting for slower ranks included; 0 in one process.
    public var exchange = 0.0
    /// Norm, clipping and AdamW.
    public var update = 0.0

    public init() {}

    public static func += (a: inout StepSeconds, b: StepSeconds) {
        a.passes += b.passes
        a.codec += b.codec
        a.exchange += b.exchange
        a.update += b.update
    }

    /// The mean over so many steps.
    public func divided(by steps: Int) -> StepSeconds {
        var mean = self
        for path in [\StepSeconds.passes, \.codec, \.exchange, \.update] { mean[keyPath: path] /= Double(steps) }
        return mean
    }
}

extension Compression {
    /// What so many elements from the beginning of a block take on their way: fp32, bf16, or six bytes for eight (S1, T5).
    public func bytes(_ elements: Int) -> Int {
        switch self {
        case .none: 4 * elements
        case .bf16: 2 * elements
        case .squinch: 6 * ((elements + 7) / 8)
        }
    }
}
