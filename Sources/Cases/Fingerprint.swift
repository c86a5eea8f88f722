import Crypto

/// A chain of SHA-256 over tensors (T6): two computations that agree have one equal line, whatever file held them.
///
/// digest = SHA-256(name, 0, type, 0, rank, dimensions, bytes, previous digest), with the name and the type's name as
/// UTF-8, rank and dimensions as little-endian 64-bit integers, the bytes in C order and little-endian, NaNs made
/// canonical (F2) where the tensor is floating-point, and 32 zero bytes before the first tensor.
public struct Fingerprint: Sendable, Hashable {
    /// 32 bytes.
    public private(set) var digest: [UInt8] = [UInt8](repeating: 0, count: 32)

    public init() {}

    /// The chain that ended with a digest of 32 bytes.
    public init(digest: [UInt8]) {
        precondition(digest.count == 32, "a digest of \(digest.count) bytes")
        self.digest = digest
    }

    /// The chain that ended with `hexadecimal`; nil unless it is 64 hex digits.
    public init?(hexadecimal: String) {
        let digits = Array(hexadecimal.utf8)
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        for index in 0..<32 {
            guard let byte = UInt8(String(decoding: digits[2 * index..<2 * index + 2], as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(byte)
        }
        digest = bytes
    }

    /// Adds a tensor to the chain.
    public mutating func append(_ name: String, _ tensor: Tensor) {
        tensor.canonicalBytes.withUnsafeBytes { append(name, tensor.type, tensor.shape, canonical: $0) }
    }

    /// Adds a tensor whose elements lie at an address, its NaNs canonical already.
    public mutating func append(
        _ name: String, _ type: ElementType, _ shape: [Int], canonical bytes: UnsafeRawBufferPointer
    ) {
        finish(Self.hash(name, type, shape, bytes))
    }

    /// Adds a tensor whose elements come in parts, their NaNs canonical already.
    ///
    /// - Parameter parts: gives the elements to its argument, in C order.
    /// - Throws: what `parts` throws; the chain is then as it was.
    public mutating func append(
        _ name: String, _ type: ElementType, _ shape: [Int],
        parts: ((UnsafeRawBufferPointer) -> Void) throws -> Void
    ) throws {
        var hash = Self.hash(name, type, shape, UnsafeRawBufferPointer(start: nil, count: 0))
        var count = 0
        try parts {
            hash.update(bufferPointer: $0)
            count += $0.count
        }
        precondition(count == shape.reduce(type.byteWidth, *), "\(count) bytes of \(type.rawValue) \(shape)")
        finish(hash)
    }

    /// Adds tensors that were hashed as far as they go without the chain before them.
    public mutating func append(_ part: FingerprintPart) { for hash in part.hashes { finish(hash) } }

    private mutating func finish(_ hash: SHA256) {
        var hash = hash
        hash.update(data: digest)
        digest = Array(hash.finalize())
    }

    /// All of a tensor but the previous digest.
    fileprivate static func hash(
        _ name: String, _ type: ElementType, _ shape: [Int], _ bytes: UnsafeRawBufferPointer
    ) -> SHA256 {
        var hash = SHA256()
        hash.update(data: Array(name.utf8) + [0] + Array(type.rawValue.utf8) + [0])
        for number in [shape.count] + shape {
            hash.update(data: (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) })
        }
        hash.update(bufferPointer: bytes)
        return hash
    }

    /// 64 lower-case hex digits.
    public var hexadecimal: String {
        digest.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
    }
}

/// Consecutive tensors of a chain whose beginning is not known yet: the previous digest comes last in T6, so that all but a few bytes of each can be hashed
/// before it, on another processor or in another process.
public struct FingerprintPart: Sendable {
    fileprivate var hashes: [SHA256] = []

    public init() {}

    /// Adds a tensor whose elements lie at an address, its NaNs canonical already.
    public mutating func append(
        _ name: String, _ type: ElementType, _ shape: [Int], canonical bytes: UnsafeRawBufferPointer
    ) { hashes.append(Fingerprint.hash(name, type, shape, bytes)) }
}

extension Tensor {
    /// The bytes with every NaN replaced by the canonical one of its type (F2).
    public var canonicalBytes: [UInt8] {
        let (magnitude, infinity, canonical): (UInt64, UInt64, UInt64)
        switch type {
        case .bf16: (magnitude, infinity, canonical) = (0x7FFF, 0x7F80, 0x7FC0)
        case .fp16: (magnitude, infinity, canonical) = (0x7FFF, 0x7C00, 0x7E00)
        case .fp32: (magnitude, infinity, canonical) = (0x7FFF_FFFF, 0x7F80_0000, 0x7FC0_0000)
        case .fp64:
            (magnitude, infinity, canonical) = (
                0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000, 0x7FF8_0000_0000_0000
            )
        default: return bytes
        }
        var result = bytes
        let width = type.byteWidth
        for index in 0..<count where bits(at: index) & magnitude > infinity {
            for byte in 0..<width { result[index * width + byte] = UInt8(truncatingIfNeeded: canonical >> (8 * byte)) }
        }
        return result
    }
}
