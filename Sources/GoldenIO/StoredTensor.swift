import CHDF5
import Cases
import JSON
import Platform

/// A dataset of an open file, checked as ``GoldenFile/readCase(_:groups:unreadable:)`` checks one, whose elements are read on demand.
///
/// How much memory a read takes beside its result depends on how the file stores the dataset:
///
/// * contiguous, compact, or chunked without filters: nothing;
/// * one chunk with a checksum and no other filter (what ``GoldenWriter`` makes): nothing; the checksum is computed over the file once, when the
///   dataset is opened;
/// * several chunks with filters: the chunks that one index of the first dimension meets, since HDF5 reads a filtered chunk whole.
public final class StoredTensor: TensorSource {
    public let type: ElementType
    public let shape: [Int]

    private let place: Place
    private let isBigEndian: Bool
    private let fill: [UInt8]?
    private let storedType: Handle
    private let dataset: Handle
    /// Where the bytes of a checksummed dataset of one chunk stand in the file.
    private let direct: (reader: FileReader, offset: Int)?
    /// Closing a file closes what is open in it.
    private let owner: GoldenFile

    init(
        _ name: String, of group: borrowing Handle, _ source: Source, owner: GoldenFile, byteLimit: Int, _ place: Place
    ) throws(GoldenIOError) {
        var dataset = try openMember(name, of: group, as: H5I_DATASET, place)
        let layout = try TensorLayout(dataset, source, byteLimit: .max, chunkLimit: byteLimit, place)
        var direct: (reader: FileReader, offset: Int)?
        if layout.storage.isFiltered, layout.byteCount > 0 {
            if layout.storage.hasChecksumAlone, layout.chunk == layout.shape {
                direct = try onlyChunk(dataset, layout, source, place)
            }
            if direct == nil {
                dataset = try reopened(name, of: group, cacheFor: layout, byteLimit: byteLimit, place)
            }
        }
        type = layout.type
        shape = layout.shape
        isBigEndian = layout.isBigEndian
        fill = layout.fill
        storedType = layout.takeStoredType()
        self.dataset = dataset
        self.direct = direct
        self.owner = owner
        self.place = place
    }

    public func elements(_ range: Range<Int>) throws(GoldenIOError) -> Tensor {
        precondition(0 <= range.lowerBound && range.upperBound <= count, "elements \(range) of \(count)")
        let width = type.byteWidth
        var bytes: [UInt8]
        if range.isEmpty {
            bytes = []
        } else if let direct {
            do {
                bytes = try direct.reader.bytes(
                    at: direct.offset + range.lowerBound * width, count: range.count * width)
            } catch {
                throw place.error(error)
            }
            guard bytes.count == range.count * width else { throw place.error(.damaged, "the file ends early") }
        } else {
            bytes = try read(range)
        }
        if isBigEndian { reverseBytes(ofElementsIn: &bytes, width: width) }
        return Tensor(unchecked: type, shape: [range.count], bytes: bytes)
    }

    /// A range in C order is a few boxes: the end of a row, whole rows, the beginning of one, in each dimension.
    private func read(_ range: Range<Int>) throws(GoldenIOError) -> [UInt8] {
        try HDF5.locked { () throws(GoldenIOError) -> [UInt8] in
            let width = type.byteWidth
            var bytes = filled(fill, count: range.count * width)
            let message = "the dataset could not be read: its bytes are damaged or missing"
            if shape.isEmpty {
                let all = touchstone_h5s_all()
                let status = bytes.withUnsafeMutableBytes {
                    H5Dread(
                        dataset.identifier, storedType.identifier, all, all, touchstone_h5p_default(), $0.baseAddress)
                }
                try place.check(status, message)
                return bytes
            }
            let space = try place.own(H5Dget_space(dataset.identifier), message)
            var position = range.lowerBound
            while position < range.upperBound {
                let box = Box(at: position, most: range.upperBound - position, shape: shape)
                try place.check(
                    H5Sselect_hyperslab(space.identifier, H5S_SELECT_SET, box.start, nil, box.count, nil), message)
                let memory = try place.own(H5Screate_simple(1, [hsize_t(box.size)], nil), message)
                let first = (position - range.lowerBound) * width
                let status = bytes.withUnsafeMutableBytes { buffer in
                    H5Dread(
                        dataset.identifier, storedType.identifier, memory.identifier, space.identifier,
                        touchstone_h5p_default(), buffer.baseAddress.map { $0 + first })
                }
                try place.check(status, message)
                position += box.size
            }
            return bytes
        }
    }
}

/// The largest box of a shape that is contiguous in C order, begins at an element and has no more than `most` elements.
private struct Box {
    var start: [hsize_t] = []
    var count: [hsize_t] = []
    var size = 1

    init(at position: Int, most: Int, shape: [Int]) {
        var inner = [Int](repeating: 1, count: shape.count)
        for axis in shape.indices.dropLast().reversed() { inner[axis] = inner[axis + 1] * shape[axis + 1] }
        let place = shape.indices.map { position / inner[$0] % shape[$0] }
        let axis = shape.indices.first { position % inner[$0] == 0 && most >= inner[$0] } ?? shape.count - 1
        for index in shape.indices {
            if index < axis {
                start.append(hsize_t(place[index]))
                count.append(1)
            } else if index == axis {
                let rows = min(shape[axis] - place[axis], most / inner[axis])
                start.append(hsize_t(place[axis]))
                count.append(hsize_t(rows))
                size = rows * inner[axis]
            } else {
                start.append(0)
                count.append(hsize_t(shape[index]))
            }
        }
    }
}

/// Where a dataset's only chunk stands in the file, its checksum verified; nil if HDF5 does not tell.
private func onlyChunk(
    _ dataset: borrowing Handle, _ layout: borrowing TensorLayout, _ source: Source, _ place: Place
) throws(GoldenIOError) -> (reader: FileReader, offset: Int)? {
    guard source.hasNoUserBlock else { return nil }
    var (address, size, mask): (UInt64, UInt64, UInt32) = (0, 0, 0)
    guard touchstone_h5d_only_chunk(dataset.identifier, &address, &size, &mask) >= 0, mask == 0,
        size == UInt64(layout.byteCount) + 4, let offset = Int(exactly: address),
        offset <= source.reader.size - layout.byteCount - 4
    else { return nil }
    var sum = Fletcher32()
    var position = 0
    do {
        while position < layout.byteCount {
            let count = min(Fletcher32.blockBytes, layout.byteCount - position)
            sum.add(try source.reader.bytes(at: offset + position, count: count))
            position += count
        }
        let stored = try source.reader.bytes(at: offset + position, count: 4)
        let value = stored.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard stored.count == 4, sum.matches(value) else {
            throw place.error(.damaged, "the dataset could not be read: its bytes do not match their checksum")
        }
    } catch let error as FileError {
        throw place.error(error)
    } catch let error as GoldenIOError {
        throw error
    } catch {
        throw place.error(.damaged, "\(error)")
    }
    return (source.reader, offset)
}

/// The dataset with a cache that holds the chunks which one index of the first dimension meets: each is then read once.
private func reopened(
    _ name: String, of group: borrowing Handle, cacheFor layout: borrowing TensorLayout, byteLimit: Int, _ place: Place
) throws(GoldenIOError) -> Handle {
    let message = "the dataset's layout is damaged"
    var chunkBytes = layout.type.byteWidth
    var chunks = 1
    for axis in layout.shape.indices {
        chunkBytes = chunkBytes.multipliedReportingOverflow(by: layout.chunk[axis]).partialValue
        if axis > 0 { chunks *= (layout.shape[axis] + layout.chunk[axis] - 1) / layout.chunk[axis] }
    }
    // Two rows of chunks: a range may begin in one and end in the next.
    let wanted = chunkBytes.multipliedReportingOverflow(by: 2 * chunks)
    let bytes = wanted.overflow ? byteLimit : min(byteLimit, max(1 << 20, wanted.partialValue + 1))
    let access = try place.own(H5Pcreate(touchstone_h5p_dataset_access()), message)
    let slots = min(1 << 20, max(521, 20 * chunks + 1))
    try place.check(H5Pset_chunk_cache(access.identifier, slots, bytes, 1), message)
    return try place.own(H5Dopen2(group.identifier, name, access.identifier), message)
}

/// HDF5's Fletcher-32: sums of big-endian words of 16 bits, in the order of the bytes.
struct Fletcher32 {
    /// Blocks must have so many bytes, the last excepted: sums are folded every 360 words.
    static let blockBytes = 720 * 1456
    private var first: UInt32 = 0
    private var second: UInt32 = 0

    mutating func add(_ block: [UInt8]) {
        var (one, two) = (first, second)
        func fold(_ sum: UInt32) -> UInt32 { (sum & 0xFFFF) + (sum >> 16) }
        block.withUnsafeBufferPointer { block in
            var index = 0
            while index < block.count {
                let end = min(index + 720, block.count)
                while index + 1 < end {
                    one &+= UInt32(block[index]) << 8 | UInt32(block[index + 1])
                    two &+= one
                    index += 2
                }
                if index < end {
                    one &+= UInt32(block[index]) << 8
                    two &+= one
                    index += 1
                }
                (one, two) = (fold(one), fold(two))
            }
        }
        (first, second) = (one, two)
    }

    /// Whether a stored sum is this one; libraries before 1.6.3 stored it with the bytes of each half exchanged.
    func matches(_ stored: UInt32) -> Bool {
        func fold(_ sum: UInt32) -> UInt32 { (sum & 0xFFFF) + (sum >> 16) }
        let value = fold(second) << 16 | fold(first)
        let exchanged = (value & 0x00FF_00FF) << 8 | (value >> 8) & 0x00FF_00FF
        return stored == value || stored == exchanged
    }
}

/// One case of an open file: its attributes, and its datasets to be read in parts.
public struct StoredCase: Sendable {
    public let name: String
    public let op: String
    public let why: String
    public let specClauses: [String]
    public let recipe: [String: JSONValue]
    /// In the order in which ``GoldenFile/readCase(_:groups:unreadable:)`` gives them.
    public let tensors: [CaseGroup: [(name: String, tensor: StoredTensor)]]
}
