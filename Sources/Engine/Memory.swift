/// Lays out one block of memory: once to count its bytes, once to hand the pieces out. A step allocates nothing.
struct MemoryPlan {
    private let base: UnsafeMutableRawPointer?
    /// Bytes so far.
    private(set) var bytes = 0

    /// Counts.
    init() { base = nil }

    /// Hands out pieces of `base`.
    init(_ base: UnsafeMutableRawPointer) { self.base = base }

    /// `count` elements, aligned to 64 bytes. While counting, an address that nobody may use.
    mutating func take<Element>(_: Element.Type, _ count: Int) -> UnsafeMutablePointer<Element> {
        defer { bytes += (count * MemoryLayout<Element>.stride + 63) / 64 * 64 }
        let address = base.map { $0 + bytes } ?? UnsafeMutableRawPointer(bitPattern: 64)!
        return address.bindMemory(to: Element.self, capacity: count)
    }

    mutating func floats(_ count: Int) -> UnsafeMutablePointer<Float> { take(Float.self, count) }
    mutating func bf16(_ count: Int) -> UnsafeMutablePointer<UInt16> { take(UInt16.self, count) }
}

/// A block of memory that is freed with its owner.
final class MemoryBlock: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let bytes: Int

    init(bytes: Int) {
        self.bytes = bytes
        base = .allocate(byteCount: max(64, bytes), alignment: 64)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: max(64, bytes))
    }

    deinit { base.deallocate() }
}

/// A tensor that the engine made, where it lies: valid while the probe that it is shown to runs.
public struct EngineTensor {
    public enum Kind: Sendable { case bf16, fp32, int8 }
    public let kind: Kind
    public let shape: [Int]
    /// The elements' bytes, little-endian, in C order.
    public let bytes: UnsafeRawBufferPointer

    init(_ pointer: UnsafePointer<UInt16>, _ shape: [Int]) {
        (kind, self.shape) = (.bf16, shape)
        bytes = UnsafeRawBufferPointer(start: pointer, count: 2 * shape.reduce(1, *))
    }

    init(_ pointer: UnsafePointer<Float>, _ shape: [Int]) {
        (kind, self.shape) = (.fp32, shape)
        bytes = UnsafeRawBufferPointer(start: pointer, count: 4 * shape.reduce(1, *))
    }

    init(_ pointer: UnsafePointer<Int8>, _ shape: [Int]) {
        (kind, self.shape) = (.int8, shape)
        bytes = UnsafeRawBufferPointer(start: pointer, count: shape.reduce(1, *))
    }
}

extension EngineTensor {
    /// Whether an element is a NaN or infinite.
    public var holdsNonfinite: Bool {
        switch kind {
        case .bf16: bytes.bindMemory(to: UInt16.self).contains { $0 & 0x7F80 == 0x7F80 }
        case .fp32: bytes.bindMemory(to: UInt32.self).contains { $0 & 0x7F80_0000 == 0x7F80_0000 }
        case .int8: false
        }
    }
}

/// Is shown every tensor of a step by its name (T2), in execution order.
public typealias EngineProbe = (_ name: String, _ tensor: EngineTensor) throws -> Void
