import CHDF5
import Platform

/// Reads attributes of variable-length strings from the file's bytes.
///
/// Such an attribute holds references into a global heap, which carry no checksum. HDF5 follows a damaged one without
/// looking (1.10.8 then reads outside of its memory, or never ends), so they are followed here, every step checked against the
/// file's size. An object's attributes stand in its header, or, from the ninth on where their order is tracked or the format is that of 1.10 or later, in a
/// fractal heap that an index lists. Format: HDF5 File Format Specification 3.0, IV.A.1 (object headers), IV.A.2.m (attributes), IV.A.2.v (where they
/// stand), III.E (global heaps), III.G (fractal heaps), III.A.2 (version 2 B-trees).
struct VariableLengthStrings {
    private let reader: FileReader
    /// Where the file's address 0 stands: after the user block.
    private let base: Int

    init(_ reader: FileReader, base: Int) {
        self.reader = reader
        self.base = base
    }

    /// The strings of the attribute `name` of the object whose header stands at `address`; nil where the file does not hold
    /// them as this reader expects.
    func strings(ofAttribute name: String, at address: UInt64, count: Int) throws(FileError) -> [[UInt8]]? {
        guard let references = try attributeData(name, at: address), references.count >= 16 * count else { return nil }
        var strings: [[UInt8]] = []
        var total = 0
        for index in 0..<count {
            let reference = references[(references.startIndex + 16 * index)...]
            let length = Int(reference.unsigned(at: 0, width: 4))
            total += length
            guard total <= VariableLengthStrings.mostBytes else { return nil }
            if length == 0 {
                strings.append([])
                continue
            }
            let heap = reference.unsigned(at: 4, width: 8)
            let object = reference.unsigned(at: 12, width: 4)
            guard let string = try heapObject(object, of: heap, length: length) else { return nil }
            strings.append(Array(string.prefix { $0 != 0 }))
        }
        return strings
    }

    /// The most bytes of one attribute.
    static let mostBytes = 16 << 20

    private func bytes(at address: UInt64, count: Int) throws(FileError) -> [UInt8]? {
        guard let address = Int(exactly: address) else { return nil }
        let (offset, overflow) = address.addingReportingOverflow(base)
        guard !overflow, count >= 0, offset <= reader.size, count <= reader.size - offset else { return nil }
        let bytes = try reader.bytes(at: offset, count: count)
        return bytes.count == count ? bytes : nil
    }

    // MARK: Global heap

    private func heapObject(_ wanted: UInt64, of heap: UInt64, length: Int) throws(FileError) -> [UInt8]? {
        guard let header = try bytes(at: heap, count: 16), header.starts(with: "GCOL".utf8), header[4] == 1 else {
            return nil
        }
        let size = header[...].unsigned(at: 8, width: 8)
        var offset: UInt64 = 16
        while size >= 16, size <= UInt64(reader.size), offset <= size - 16 {
            guard let object = try bytes(at: heap + offset, count: 16) else { return nil }
            let index = object[...].unsigned(at: 0, width: 2)
            let objectSize = object[...].unsigned(at: 8, width: 8)
            guard objectSize <= size - offset - 16 else { return nil }
            if index == wanted && index != 0 {
                guard length <= Int(objectSize) else { return nil }
                return try bytes(at: heap + offset + 16, count: length)
            }
            // Index 0 is the free space, which ends the collection.
            if index == 0 { return nil }
            offset += 16 + (objectSize + 7) / 8 * 8
        }
        return nil
    }

    // MARK: Object header

    private func attributeData(_ name: String, at address: UInt64) throws(FileError) -> ArraySlice<UInt8>? {
        guard let start = try bytes(at: address, count: 16) else { return nil }
        let header = start[...]
        var blocks: [Block]
        if header.starts(with: "OHDR".utf8) {
            let flags = header[5]
            let sizeOffset = 6 + (flags & 0x20 != 0 ? 16 : 0) + (flags & 0x10 != 0 ? 4 : 0)
            let sizeWidth = 1 << Int(flags & 3)
            guard let prefix = try bytes(at: address, count: sizeOffset + sizeWidth) else { return nil }
            let size = prefix[...].unsigned(at: sizeOffset, width: sizeWidth)
            let prefixSize = flags & 0x04 != 0 ? 6 : 4
            blocks = [
                Block(
                    address: address + UInt64(sizeOffset + sizeWidth), size: size, isVersion2: true,
                    prefixSize: prefixSize)
            ]
        } else {
            guard header[0] == 1 else { return nil }
            blocks = [
                Block(
                    address: address + 16, size: header.unsigned(at: 8, width: 4), isVersion2: false, prefixSize: 8)
            ]
        }
        var next = 0
        // A header of a thousand blocks is a cycle.
        while next < blocks.count, next < 1000 {
            let block = blocks[next]
            next += 1
            guard block.size <= UInt64(VariableLengthStrings.mostBytes),
                let bytes = try bytes(at: block.address, count: Int(block.size))
            else { return nil }
            var rest = bytes[...]
            while rest.count >= block.prefixSize {
                let type = rest.unsigned(at: 0, width: block.isVersion2 ? 1 : 2)
                let size = Int(rest.unsigned(at: block.isVersion2 ? 1 : 2, width: 2))
                let flags = rest.unsigned(at: block.isVersion2 ? 3 : 4, width: 1)
                rest = rest.dropFirst(block.prefixSize)
                guard size <= rest.count else { break }
                let message = rest.prefix(size)
                rest = rest.dropFirst(size)
                // Shared messages stand elsewhere.
                guard flags & 0x02 == 0 else { continue }
                if type == 0x0C, let data = attribute(message, named: name) { return data }
                if type == 0x15, let data = try denseAttribute(message, named: name) { return data }
                if type == 0x10, message.count >= 16, let continued = continuation(message, of: block) {
                    blocks.append(continued)
                }
            }
        }
        return nil
    }

    // MARK: Attributes beside the header

    /// The data of an attribute that an Attribute Info message leads to.
    private func denseAttribute(
        _ message: ArraySlice<UInt8>, named name: String
    ) throws(FileError) -> ArraySlice<UInt8>? {
        guard message.count >= 2, message.unsigned(at: 0, width: 1) == 0 else { return nil }
        let first = message.unsigned(at: 1, width: 1) & 1 != 0 ? 4 : 2
        guard message.count >= first + 16 else { return nil }
        let heapAddress = message.unsigned(at: first, width: 8)
        let indexAddress = message.unsigned(at: first + 8, width: 8)
        guard heapAddress != UInt64.max, let heap = try FractalHeap(at: heapAddress, read: bytes),
            let records = try attributeRecords(at: indexAddress)
        else { return nil }
        for record in records {
            // Heap ID, flags, order of creation, hash of the name. Shared messages stand elsewhere.
            guard record.unsigned(at: 8, width: 1) & 0x02 == 0 else { continue }
            if let object = try heap.object(record.prefix(8), read: bytes),
                let data = attribute(object, named: name)
            {
                return data
            }
        }
        return nil
    }

    /// The records of a version 2 B-tree of attributes by name, of at most two levels: up to some 700.
    private func attributeRecords(at address: UInt64) throws(FileError) -> [ArraySlice<UInt8>]? {
        guard let header = try bytes(at: address, count: 34)?[...], header.starts(with: "BTHD".utf8),
            header.unsigned(at: 5, width: 1) == 8
        else { return nil }
        let size = Int(header.unsigned(at: 10, width: 2))
        let depth = header.unsigned(at: 12, width: 2)
        let nodeSize = Int(header.unsigned(at: 6, width: 4))
        guard size == 17, depth <= 1, (64...1 << 16).contains(nodeSize) else { return nil }
        let root = header.unsigned(at: 16, width: 8)
        let count = Int(header.unsigned(at: 24, width: 2))
        func records(_ node: ArraySlice<UInt8>, _ count: Int) -> [ArraySlice<UInt8>]? {
            guard 6 + size * count <= node.count else { return nil }
            return (0..<count).map { node.dropFirst(6 + size * $0).prefix(size) }
        }
        guard let node = try bytes(at: root, count: nodeSize)?[...], var found = records(node, count) else {
            return nil
        }
        guard depth == 1 else { return node.starts(with: "BTLF".utf8) ? found : nil }
        guard node.starts(with: "BTIN".utf8) else { return nil }
        // A child is its address and its number of records, in as few bytes as the most of them take.
        let width = (nodeSize - 10) / size > 255 ? 2 : 1
        guard 6 + size * count + (8 + width) * (count + 1) <= node.count else { return nil }
        for index in 0...count {
            let child = node.dropFirst(6 + size * count + (8 + width) * index)
            guard let leaf = try bytes(at: child.unsigned(at: 0, width: 8), count: nodeSize)?[...],
                leaf.starts(with: "BTLF".utf8),
                let own = records(leaf, Int(child.unsigned(at: 8, width: width)))
            else { return nil }
            found += own
        }
        return found
    }

    private struct Block {
        let address: UInt64
        let size: UInt64
        let isVersion2: Bool
        let prefixSize: Int
    }

    private func continuation(_ message: ArraySlice<UInt8>, of block: Block) -> Block? {
        let address = message.unsigned(at: 0, width: 8)
        let size = message.unsigned(at: 8, width: 8)
        guard address <= UInt64(reader.size) else { return nil }
        if !block.isVersion2 { return Block(address: address, size: size, isVersion2: false, prefixSize: 8) }
        // "OCHK" before, a checksum after.
        guard size >= 8 else { return nil }
        return Block(address: address + 4, size: size - 8, isVersion2: true, prefixSize: block.prefixSize)
    }

    /// The data of an attribute message, if it has that name.
    private func attribute(_ message: ArraySlice<UInt8>, named name: String) -> ArraySlice<UInt8>? {
        guard message.count >= 9 else { return nil }
        let version = message.unsigned(at: 0, width: 1)
        guard (1...3).contains(version) else { return nil }
        var rest = message.dropFirst(version == 3 ? 9 : 8)
        var parts: [ArraySlice<UInt8>] = []
        for offset in [2, 4, 6] {
            let size = Int(message.unsigned(at: offset, width: 2))
            let padded = version == 1 ? (size + 7) / 8 * 8 : size
            guard padded <= rest.count else { return nil }
            parts.append(rest.prefix(size))
            rest = rest.dropFirst(padded)
        }
        return parts[0].prefix { $0 != 0 }.elementsEqual(name.utf8) ? rest : nil
    }
}

/// A heap of objects in blocks whose sizes double from row to row, without filters. Objects that are larger than a block are not read.
private struct FractalHeap {
    typealias Read = (UInt64, Int) throws(FileError) -> [UInt8]?

    private let widthOfOffset: Int
    private let widthOfLength: Int
    private let blocksPerRow: Int
    private let firstSize: UInt64
    private let mostDirect: UInt64
    private let root: UInt64
    private let rows: Int

    /// nil where no such heap stands at `address`.
    init?(at address: UInt64, read: Read) throws(FileError) {
        guard let header = try read(address, 146)?[...], header.starts(with: "FRHP".utf8),
            header.unsigned(at: 4, width: 1) == 0, header.unsigned(at: 5, width: 2) == 8,
            header.unsigned(at: 7, width: 2) == 0
        else { return nil }
        let mostManaged = header.unsigned(at: 10, width: 4)
        let bits = Int(header.unsigned(at: 128, width: 2))
        widthOfOffset = (bits + 7) / 8
        blocksPerRow = Int(header.unsigned(at: 110, width: 2))
        firstSize = header.unsigned(at: 112, width: 8)
        mostDirect = header.unsigned(at: 120, width: 8)
        root = header.unsigned(at: 132, width: 8)
        rows = Int(header.unsigned(at: 140, width: 2))
        widthOfLength = max(1, (71 - min(mostManaged, mostDirect).leadingZeroBitCount) / 8)
        guard (1...56).contains(bits), 1 + widthOfOffset + widthOfLength <= 8, (1...64).contains(blocksPerRow),
            (1...1 << 24).contains(firstSize), firstSize.nonzeroBitCount == 1, blocksPerRow.nonzeroBitCount == 1,
            (firstSize...1 << 24).contains(mostDirect), rows <= 64
        else { return nil }
    }

    /// The object of a heap ID; nil where it is not in the blocks.
    func object(_ id: ArraySlice<UInt8>, read: Read) throws(FileError) -> ArraySlice<UInt8>? {
        // Version 0, in a block.
        guard id.unsigned(at: 0, width: 1) & 0xF0 == 0 else { return nil }
        let offset = id.unsigned(at: 1, width: widthOfOffset)
        let length = id.unsigned(at: 1 + widthOfOffset, width: widthOfLength)
        var (address, start, size, rowCount) = (root, UInt64(0), firstSize, rows)
        // Indirect blocks, from the root down; each has fewer rows than the one above it.
        while rowCount > 0 {
            var row = 0
            size = firstSize
            while true {
                // Rows 0 and 1 have blocks of the first size, each later one of twice the size before.
                if row > 1 { size *= 2 }
                let whole = size.multipliedReportingOverflow(by: UInt64(blocksPerRow))
                guard row < rowCount, !whole.overflow, whole.partialValue < 1 << 60 else { return nil }
                if offset - start < whole.partialValue { break }
                start += whole.partialValue
                row += 1
            }
            let column = (offset - start) / size
            let head = 13 + widthOfOffset
            let entry = head + 8 * (row * blocksPerRow + Int(column))
            guard let block = try read(address, entry + 8)?[...], block.starts(with: "FHIB".utf8) else { return nil }
            address = block.unsigned(at: entry, width: 8)
            start += column * size
            if size <= mostDirect { break }
            let inner = (size / (firstSize * UInt64(blocksPerRow))).trailingZeroBitCount + 1
            guard inner < rowCount else { return nil }
            rowCount = inner
        }
        guard let head = try read(address, 5), head.starts(with: "FHDB".utf8), offset >= start, length <= size,
            offset - start <= size - length
        else { return nil }
        let place = address.addingReportingOverflow(offset - start)
        guard !place.overflow else { return nil }
        return try read(place.partialValue, Int(length))?[...]
    }
}

extension ArraySlice<UInt8> {
    /// The little-endian integer of `width` bytes at `offset` from the slice's start.
    fileprivate func unsigned(at offset: Int, width: Int) -> UInt64 {
        var value: UInt64 = 0
        for byte in 0..<width { value |= UInt64(self[startIndex + offset + byte]) << UInt64(8 * byte) }
        return value
    }
}
