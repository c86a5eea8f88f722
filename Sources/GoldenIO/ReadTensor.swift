import CHDF5
import Cases
import Platform

/// What a dataset says of itself, checked against the file before memory is taken for its elements.
struct TensorLayout: ~Copyable {
    let type: ElementType
    let shape: [Int]
    let byteCount: Int
    let isBigEndian: Bool
    let storage: Storage
    /// Of a chunked dataset: elements a chunk in each dimension.
    let chunk: [Int]
    /// The bytes of an element, as stored, that was never written; nil where all were.
    let fill: [UInt8]?
    /// The type in the file, which is the type in memory too: bytes arrive as they are.
    let storedType: Handle

    /// - Parameter chunkLimit: The most bytes of one chunk.
    init(
        _ dataset: borrowing Handle, _ source: Source, byteLimit: Int, chunkLimit: Int, _ place: Place
    ) throws(GoldenIOError) {
        let list = try place.own(H5Dget_create_plist(dataset.identifier), "the dataset's layout is damaged")
        let storage = try requirePlainStorage(list, place)

        let type = try place.own(H5Dget_type(dataset.identifier), "the dataset's type is damaged")
        guard let stored = ElementType.stored(as: type.identifier) else {
            throw place.error(
                .wrongType,
                "holds \(ElementType.describe(type.identifier)), expected one of "
                    + ElementType.allCases.map(\.rawValue).joined(separator: ", "))
        }
        let elementType = try namedType(of: dataset, stored: stored.type, source, place)
        let shape = try readShape(of: dataset, place)
        var byteCount = stored.type.byteWidth
        for dimension in shape.contains(0) ? [0] : shape {
            let (product, overflow) = byteCount.multipliedReportingOverflow(by: dimension)
            guard !overflow else {
                throw place.error(.tooLarge, "the shape \(shape) has more bytes than memory can hold")
            }
            byteCount = product
        }
        guard byteCount <= byteLimit else {
            throw place.error(
                .tooLarge, "\(stored.type.rawValue) \(shape) takes \(byteCount) bytes, the limit leaves \(byteLimit)")
        }
        var chunk: [Int] = []
        var fill: [UInt8]?
        if byteCount > 0 {
            let byteCountInFile = Int(clamping: H5Dget_storage_size(dataset.identifier))
            // Deflate turns at most 1032 bytes into one.
            let most = min(byteCountInFile, source.reader.size)
                .multipliedReportingOverflow(by: storage.isCompressed ? 1032 : 1)
            if !most.overflow, byteCount > most.partialValue {
                let sizes =
                    "\(stored.type.rawValue) \(shape) takes \(byteCount) bytes, of which the file (\(source.reader.size) bytes) "
                    + "stores \(byteCountInFile)\(storage.isCompressed ? " compressed" : "")"
                // What was never written takes no space: all of a contiguous dataset, any chunk of a chunked one.
                guard storage.isChunked ? byteCountInFile <= source.reader.size : byteCountInFile == 0 else {
                    throw place.error(.damaged, sizes)
                }
                guard byteCount <= mostFillBytes else {
                    throw place.error(.tooLarge, "\(sizes); at most \(mostFillBytes) are read with fill values")
                }
            }
            var isWhole = storage.isChunked || byteCountInFile > 0 || storage.isCompact
            if storage.isChunked {
                (chunk, isWhole) = try requireChunks(
                    of: dataset, list, storage, shape: shape, width: stored.type.byteWidth, byteLimit: chunkLimit,
                    place)
            }
            if !isWhole { fill = try fillValue(list, type, place) }
        }
        self.type = elementType
        self.shape = shape
        self.byteCount = byteCount
        self.isBigEndian = stored.isBigEndian
        self.storage = storage
        self.chunk = chunk
        self.fill = fill
        self.storedType = type
    }

    consuming func takeStoredType() -> Handle { storedType }
}

/// The bits of a dataset, checked against the file and the limit before memory is taken for them.
func readTensor(
    _ dataset: borrowing Handle, _ source: Source, byteLimit: Int, _ place: Place
) throws(GoldenIOError) -> Tensor {
    let layout = try TensorLayout(dataset, source, byteLimit: byteLimit, chunkLimit: byteLimit, place)
    var bytes: [UInt8] = []
    if layout.byteCount > 0 {
        bytes = filled(layout.fill, count: layout.byteCount)
        let all = touchstone_h5s_all()
        let status = bytes.withUnsafeMutableBytes { bytes in
            H5Dread(
                dataset.identifier, layout.storedType.identifier, all, all, touchstone_h5p_default(), bytes.baseAddress)
        }
        try place.check(status, "the dataset could not be read: its bytes are damaged or missing")
        if layout.isBigEndian { reverseBytes(ofElementsIn: &bytes, width: layout.type.byteWidth) }
    }
    do {
        return try Tensor(type: layout.type, shape: layout.shape, bytes: bytes)
    } catch {
        throw place.error(.wrongType, error.description)
    }
}

/// Of a compressed dataset with more chunks their masks are not looked at.
private let mostMasks = 4096

/// The most bytes of a dataset that does not have them all in the file.
private let mostFillBytes = 256 << 20

/// Elements that were never written: HDF5 leaves memory as it is for some of them.
func filled(_ fill: [UInt8]?, count: Int) -> [UInt8] {
    guard let fill, fill.contains(where: { $0 != 0 }) else { return [UInt8](repeating: 0, count: count) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count < count { bytes += fill }
    return bytes
}

/// The bytes of one element that was never written: the dataset's fill value, zeros by default.
private func fillValue(
    _ list: borrowing Handle, _ type: borrowing Handle, _ place: Place
) throws(GoldenIOError) -> [UInt8] {
    var status = H5D_FILL_VALUE_UNDEFINED
    var time = H5D_FILL_TIME_ERROR
    let damaged = "the dataset's fill value is damaged"
    try place.check(H5Pfill_value_defined(list.identifier, &status), damaged)
    try place.check(H5Pget_fill_time(list.identifier, &time), damaged)
    guard status != H5D_FILL_VALUE_UNDEFINED, time != H5D_FILL_TIME_NEVER else {
        throw place.error(.damaged, "elements of the dataset are missing, and it has no fill value for them")
    }
    var value = [UInt8](repeating: 0, count: H5Tget_size(type.identifier))
    if status == H5D_FILL_VALUE_USER_DEFINED {
        try place.check(
            value.withUnsafeMutableBytes { H5Pget_fill_value(list.identifier, type.identifier, $0.baseAddress) },
            damaged)
    }
    return value
}

/// How a dataset's bytes stand in the file.
struct Storage {
    var isChunked = false
    /// In the object's header.
    var isCompact = false
    /// By deflate.
    var isCompressed = false
    /// A Fletcher-32 checksum of 4 bytes follows each chunk.
    var hasChecksum = false
    var filterCount = 0
    /// The bits that a chunk's mask has where it goes without the checksum, without deflate.
    var checksumBit: UInt32 = 0
    var deflateBit: UInt32 = 0

    var isFiltered: Bool { filterCount > 0 }
    var hasChecksumAlone: Bool { hasChecksum && filterCount == 1 }
}

/// Checks that the file itself holds the dataset's bytes, in a form that needs no plug-in.
private func requirePlainStorage(_ list: borrowing Handle, _ place: Place) throws(GoldenIOError) -> Storage {
    switch H5Pget_layout(list.identifier) {
    case H5D_COMPACT: return Storage(isCompact: true)
    case H5D_CONTIGUOUS:
        let count = H5Pget_external_count(list.identifier)
        guard count >= 0 else { throw place.libraryError("the dataset's layout is damaged") }
        guard count == 0 else {
            throw place.error(.refused, "the dataset's bytes are in other files, which are not read")
        }
        return Storage()
    case H5D_CHUNKED: break
    case H5D_VIRTUAL:
        throw place.error(.refused, "a virtual dataset: its bytes are in other files, which are not read")
    default: throw place.libraryError("the dataset's layout is damaged")
    }
    var storage = Storage(isChunked: true)
    let count = H5Pget_nfilters(list.identifier)
    guard count >= 0 else { throw place.libraryError("the dataset's filters are damaged") }
    storage.filterCount = Int(count)
    for index in 0..<UInt32(count) {
        var flags: UInt32 = 0
        var valueCount = 0
        var configuration: UInt32 = 0
        let filter = H5Pget_filter2(list.identifier, index, &flags, &valueCount, nil, 0, nil, &configuration)
        switch filter {
        case touchstone_h5z_filter_shuffle(): break
        case touchstone_h5z_filter_fletcher32():
            guard !storage.hasChecksum else { throw place.error(.refused, "the dataset is checksummed twice") }
            storage.hasChecksum = true
            storage.checksumBit = 1 << index
        case touchstone_h5z_filter_deflate():
            guard !storage.isCompressed else { throw place.error(.refused, "the dataset is compressed twice") }
            storage.isCompressed = true
            storage.deflateBit = 1 << index
        default:
            guard filter >= 0 else { throw place.libraryError("the dataset's filters are damaged") }
            throw place.error(
                .refused, "filter \(filter) of the dataset is not deflate (gzip), shuffle or Fletcher-32")
        }
    }
    return storage
}

/// Checks that every chunk that the file holds has the size that the filters give it: HDF5 reads one that is too short beyond its end. Returns the elements of a
/// chunk in each dimension, and whether no chunk is missing.
private func requireChunks(
    of dataset: borrowing Handle, _ list: borrowing Handle, _ storage: Storage, shape: [Int], width: Int,
    byteLimit: Int,
    _ place: Place
) throws(GoldenIOError) -> (extents: [Int], isWhole: Bool) {
    var extents = [hsize_t](repeating: 0, count: shape.count)
    guard H5Pget_chunk(list.identifier, Int32(shape.count), &extents) == Int32(shape.count), !extents.contains(0) else {
        throw place.libraryError("the dataset's layout is damaged")
    }
    var chunkBytes = UInt64(width)
    for extent in extents {
        let (product, overflow) = chunkBytes.multipliedReportingOverflow(by: UInt64(extent))
        guard !overflow, product <= UInt64(max(byteLimit, 1 << 20)) else {
            throw place.error(.tooLarge, "chunks of \(extents) elements pass the limit of \(byteLimit) bytes")
        }
        chunkBytes = product
    }
    if storage.hasChecksum { chunkBytes += 4 }

    // HDF5 looks through all chunks for the mask of one.
    var chunkCount = 1
    for (size, extent) in zip(shape, extents) {
        let inAxis = (size - 1) / Int(clamping: extent) + 1
        let product = chunkCount.multipliedReportingOverflow(by: inAxis)
        chunkCount = product.overflow ? .max : product.partialValue
    }
    var offset = [hsize_t](repeating: 0, count: shape.count)
    var isDone = false
    var isWhole = true
    while !isDone {
        var size: hsize_t = 0
        // Of a chunk that was never written some versions of HDF5 say that it is missing, others that it has no bytes.
        if H5Dget_chunk_storage_size(dataset.identifier, &offset, &size) < 0 || size == 0 {
            isWhole = false
        } else if UInt64(size) != chunkBytes, !storage.isCompressed || chunkCount <= mostMasks {
            // A chunk's mask says which filters it goes without.
            let mask = storage.isFiltered ? touchstone_h5d_chunk_mask(dataset.identifier, &offset) : 0
            let expected = mask & storage.checksumBit != 0 ? chunkBytes - 4 : chunkBytes
            guard UInt64(size) == expected || storage.isCompressed && mask & storage.deflateBit == 0 else {
                throw place.error(
                    .damaged, "the dataset's chunk at \(offset) has \(size) bytes, expected \(expected)")
            }
        }
        // The next chunk in C order.
        isDone = true
        for axis in shape.indices.reversed() {
            offset[axis] += extents[axis]
            if offset[axis] < hsize_t(shape[axis]) {
                isDone = false
                break
            }
            offset[axis] = 0
        }
    }
    return (extents.map { Int(clamping: $0) }, isWhole)
}

/// The type that the dataset's attribute `element_type` gives to its bits; the stored one without it.
private func namedType(
    of dataset: borrowing Handle, stored: ElementType, _ source: Source, _ place: Place
) throws(GoldenIOError) -> ElementType {
    guard let name = try readString("element_type", of: dataset, source, place) else { return stored }
    guard let named = ElementType(rawValue: name) else {
        throw place.error(.malformed, "the attribute element_type is \"\(name)\", which is no element type")
    }
    guard named == stored || stored == .uint16 && (named == .bf16 || named == .fp16) else {
        throw place.error(
            .wrongType,
            "the attribute element_type says \(name), but the dataset holds \(stored.rawValue)"
                + (named.byteWidth == 2 && named.isFloatingPoint ? "; the bits of \(name) are stored as uint16" : ""))
    }
    return named
}

private func readShape(of dataset: borrowing Handle, _ place: Place) throws(GoldenIOError) -> [Int] {
    let space = try place.own(H5Dget_space(dataset.identifier), "the dataset's shape is damaged")
    switch H5Sget_simple_extent_type(space.identifier) {
    case H5S_SCALAR: return []
    case H5S_SIMPLE: break
    case H5S_NULL: throw place.error(.wrongType, "the dataset is empty (a null dataspace), expected an array or scalar")
    default: throw place.libraryError("the dataset's shape is damaged")
    }
    let rank = H5Sget_simple_extent_ndims(space.identifier)
    try place.check(rank, "the dataset's shape is damaged")
    var dimensions = [hsize_t](repeating: 0, count: Int(rank))
    try place.check(
        H5Sget_simple_extent_dims(space.identifier, &dimensions, nil), "the dataset's shape is damaged")
    var shape: [Int] = []
    for dimension in dimensions {
        guard let dimension = Int(exactly: dimension) else {
            throw place.error(.tooLarge, "the shape \(dimensions) has more bytes than memory can hold")
        }
        shape.append(dimension)
    }
    return shape
}

func reverseBytes(ofElementsIn bytes: inout [UInt8], width: Int) {
    guard width > 1 else { return }
    bytes.withUnsafeMutableBufferPointer { bytes in
        for start in stride(from: 0, to: bytes.count, by: width) {
            for byte in 0..<(width / 2) { bytes.swapAt(start + byte, start + width - 1 - byte) }
        }
    }
}
