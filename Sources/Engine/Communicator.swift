/// The processes of a data-parallel run as one of them sees them, one rank each (T5).
///
/// Every call is made by all ranks, in the same order; ``send(_:to:)`` and ``receive(_:from:)`` by the two that they name. What a call throws says that the
/// ranks can no longer speak to each other: ``CommunicationError``.
public protocol Communicator: AnyObject {
    /// 0 ..< ``count``.
    var rank: Int { get }
    var count: Int { get }

    /// Sends every rank r the bytes `parts[r]` of `source`, and receives rank r's for this one in `places[r]` of `target`. What a rank has for itself is
    /// copied. Source and target may be one buffer if no place overlaps a part that leaves this rank.
    ///
    /// - Returns: the bytes that left this rank.
    /// - Precondition: `places[r]` holds as many bytes as rank r sends to this one.
    func exchange(
        _ source: UnsafeRawBufferPointer, _ parts: [Range<Int>], _ target: UnsafeMutableRawBufferPointer,
        _ places: [Range<Int>]
    ) throws -> Int

    func send(_ bytes: UnsafeRawBufferPointer, to rank: Int) throws
    func receive(_ bytes: UnsafeMutableRawBufferPointer, from rank: Int) throws
}

/// The ranks can no longer speak to each other.
public struct CommunicationError: Error, Hashable, Sendable, CustomStringConvertible {
    public let rank: Int
    public let message: String

    public init(rank: Int, _ message: String) {
        self.rank = rank
        self.message = message
    }

    public var description: String { "rank \(rank): \(message)" }
}

/// What went wrong on a rank, as all ranks throw it.
public struct RankFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// nil where the same went wrong on all of them.
    public let rank: Int?
    public let message: String

    public var description: String {
        guard let rank, !message.contains("rank \(rank) "), !message.contains("rank.\(rank).") else { return message }
        return "rank \(rank): \(message)"
    }
}

extension Communicator {
    /// Every rank has its bytes `parts[rank]`; afterwards all have all.
    ///
    /// - Returns: the bytes that left this rank.
    @discardableResult
    public func allGather(_ bytes: UnsafeMutableRawBufferPointer, _ parts: [Range<Int>]) throws -> Int {
        try exchange(
            UnsafeRawBufferPointer(bytes), [Range<Int>](repeating: parts[rank], count: count), bytes, parts)
    }

    /// What every rank has, in rank order.
    public func allGather<Value: BitwiseCopyable>(_ value: Value) throws -> [Value] {
        let size = MemoryLayout<Value>.stride
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size * count, alignment: 16)
        defer { memory.deallocate() }
        memory.storeBytes(of: value, toByteOffset: rank * size, as: Value.self)
        try allGather(memory, (0..<count).map { $0 * size..<($0 + 1) * size })
        return (0..<count).map { memory.load(fromByteOffset: $0 * size, as: Value.self) }
    }

    /// Rank `root`'s bytes become everybody's.
    public func broadcast(_ bytes: UnsafeMutableRawBufferPointer, from root: Int) throws {
        let whole = 0..<bytes.count
        _ = try exchange(
            UnsafeRawBufferPointer(bytes), (0..<count).map { _ in rank == root ? whole : 0..<0 }, bytes,
            (0..<count).map { $0 == root ? whole : 0..<0 })
    }

    /// Rank `root`'s list, of whatever length; what the others give is not looked at.
    public func broadcast(_ list: [UInt8], from root: Int) throws -> [UInt8] {
        let size = try allGather(list.count)[root]
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
        defer { memory.deallocate() }
        if rank == root { memory.copyBytes(from: list) }
        try broadcast(memory, from: root)
        return Array(memory)
    }

    /// Every rank's bytes, equally many, one after the other in `target` of rank 0; the others' targets stay as they are.
    public func gather(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) throws {
        let n = source.count
        _ = try exchange(
            source, (0..<count).map { $0 == 0 ? 0..<n : 0..<0 }, target,
            (0..<count).map { rank == 0 ? $0 * n..<($0 + 1) * n : 0..<0 })
    }

    /// Of `source` of rank 0, equally many bytes for each rank, this one's.
    public func scatter(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) throws {
        let n = target.count
        _ = try exchange(
            source, (0..<count).map { rank == 0 ? $0 * n..<($0 + 1) * n : 0..<0 }, target,
            (0..<count).map { $0 == 0 ? 0..<n : 0..<0 })
    }

    // MARK: - Agreement

    /// Runs `body` on every rank. If it fails on one, all throw the same ``RankFailure``: that of the lowest rank.
    public func agree<Result>(_ body: () throws -> Result) throws -> Result {
        var result: Result?
        var message: String?
        do { result = try body() } catch let error as CommunicationError { throw error } catch { message = "\(error)" }
        _ = try agree(message, sharing: UInt8(0))
        // A rank without a result has a message, and then all have thrown.
        return result!
    }

    /// Goes on if no rank has a message; what every rank shares. Otherwise all throw the same: the message with the lowest `order`, of the lowest rank
    /// among those.
    public func agree<Value: BitwiseCopyable>(
        _ message: String?, order: Int = 0, sharing value: Value
    ) throws -> [Value] {
        let bytes = Array((message ?? "").utf8)
        let all = try allGather(
            Vote(
                order: message == nil ? Int.max : order, count: bytes.count, sum: Self.checksum(bytes), value: value))
        var first: Int?
        for (rank, vote) in all.enumerated() where vote.order < Int.max {
            if first.map({ vote.order < all[$0].order }) ?? true { first = rank }
        }
        guard let first else { return all.map(\.value) }
        let text = String(decoding: try broadcast(bytes, from: first), as: UTF8.self)
        let isCommon = all.allSatisfy {
            $0.order == all[first].order && $0.count == all[first].count && $0.sum == all[first].sum
        }
        throw RankFailure(rank: isCommon ? nil : first, message: text)
    }

    /// FNV-1a: tells messages apart.
    private static func checksum(_ bytes: [UInt8]) -> UInt64 {
        bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}

private struct Vote<Value: BitwiseCopyable>: BitwiseCopyable {
    let order: Int
    let count: Int
    let sum: UInt64
    let value: Value
}
