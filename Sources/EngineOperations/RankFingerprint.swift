import Cases
import Engine

/// The chain of T6 over steps whose ranks are processes, on rank 0 in the end: the one of ranks in one process.
///
/// Every rank hashes its own tensors while it makes them; after the passes the digest goes from rank to rank, each of which finishes its part, and back to rank
/// 0, which adds what all ranks have in common. A step sends 32 bytes a rank.
public struct RankFingerprint {
    private let communicator: any Communicator
    /// After a step the chain so far; on rank 0 only.
    public private(set) var chain: Fingerprint
    private var part = FingerprintPart()
    private var isOwn = true

    /// - Parameter chain: the one that goes on; looked at on rank 0 only.
    public init(_ communicator: any Communicator, chain: Fingerprint = Fingerprint()) {
        self.communicator = communicator
        self.chain = chain
    }

    /// Before a step.
    public mutating func begin() {
        part = FingerprintPart()
        isOwn = true
    }

    /// Adds a tensor of a step.
    public mutating func record(_ name: String, _ tensor: EngineTensor) {
        if isOwn {
            part.append(name, tensor.elementType, tensor.shape, canonical: tensor.bytes)
        } else {
            chain.append(name, tensor.elementType, tensor.shape, canonical: tensor.bytes)
        }
    }

    /// After the passes; all ranks call it.
    public mutating func relay() throws {
        let (rank, count) = (communicator.rank, communicator.count)
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 32, alignment: 16)
        defer { bytes.deallocate() }
        if rank > 0 {
            try communicator.receive(bytes, from: rank - 1)
            chain = Fingerprint(digest: Array(bytes))
        }
        chain.append(part)
        if count > 1 {
            bytes.copyBytes(from: chain.digest)
            try communicator.send(UnsafeRawBufferPointer(bytes), to: (rank + 1) % count)
            if rank == 0 {
                try communicator.receive(bytes, from: count - 1)
                chain = Fingerprint(digest: Array(bytes))
            }
        }
        begin()
        isOwn = false
    }
}
