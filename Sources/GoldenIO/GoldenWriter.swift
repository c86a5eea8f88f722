import CHDF5
import Cases
import JSON
import Platform

/// Writes a golden file. The same header and cases give the same bytes, whatever the machine, time and run.
///
/// Everything goes to a temporary file beside the target; ``finish()`` puts it in the target's place in one step. A
/// writer that fails or is dropped before that leaves nothing behind, and the target as it was.
public final class GoldenWriter {
    public let path: String
    private let place: Place
    private var temporary: String?
    private var file: Handle?
    private var cases: Handle?

    /// Creates the temporary file and writes the root attributes.
    public init(path: String, header: GoldenHeader) throws(GoldenIOError) {
        self.path = path
        let place = Place(file: path, failure: .writeFailed)
        self.place = place
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw place.error(.invalidName, "the path is empty or holds a NUL character")
        }
        if let status = try? Files.status(of: path), status.kind != .regular {
            throw place.error(
                .fileSystem, "\(status.kind == .folder ? "a folder" : "a device or pipe") stands there, not a file")
        }
        let temporary: String
        do {
            temporary = try Files.createTemporary(beside: path)
        } catch {
            throw place.error(error)
        }
        self.temporary = temporary
        do {
            try HDF5.locked { () throws(GoldenIOError) in
                let file = try createFile(temporary, place)
                let root = try place.own(
                    H5Gopen2(file.identifier, "/", touchstone_h5p_default()), "HDF5 could not open the root group")
                try writeString("spec_version", header.specVersion, to: root, place)
                try writeString("suite", header.suite, to: root, place)
                try writeString("tier", header.tier, to: root, place)
                try writeString("generator", header.generator, to: root, place)
                try writeString("seed", hexadecimal(header.seed), to: root, place)
                cases = try createGroup("cases", in: root, place)
                self.file = consume file
            }
        } catch {
            abandon()
            throw error
        }
    }

    deinit { abandon() }

    /// Adds a case. After an error the writer is of no more use: nothing will be written.
    public func write(_ goldenCase: GoldenCase) throws(GoldenIOError) {
        let place = place.goldenCase(goldenCase.name)
        do {
            try HDF5.locked { () throws(GoldenIOError) in try write(goldenCase, place) }
        } catch {
            abandon()
            throw error
        }
    }

    /// Completes the file and puts it in place: its bytes are on the disk before its name is.
    public func finish() throws(GoldenIOError) {
        guard let temporary else { throw closedError(place) }
        do throws(GoldenIOError) {
            let message = "HDF5 could not write the file to its end"
            try HDF5.locked { () throws(GoldenIOError) in
                if let cases = cases.take(), !cases.close() { throw place.libraryError(message) }
                if let file = file.take(), !file.close() { throw place.libraryError(message) }
            }
            do throws(FileError) {
                try Files.moveIntoPlace(temporary, path)
            } catch {
                throw place.error(error)
            }
            self.temporary = nil
        } catch {
            abandon()
            throw error
        }
    }

    private func abandon() {
        HDF5.locked {
            cases = nil
            file = nil
        }
        if let temporary { Files.discard(temporary) }
        temporary = nil
    }

    private func closedError(_ place: Place) -> GoldenIOError {
        place.error(.closed, "the writer has finished or failed before")
    }

    private func write(_ goldenCase: GoldenCase, _ place: Place) throws(GoldenIOError) {
        try requireName(goldenCase.name, "a case", place)
        let recipe: String
        do {
            recipe = try JSONValue.object(goldenCase.recipe).text()
        } catch {
            throw place.error(.malformed, "the recipe cannot be written: \(error)")
        }
        switch cases {
        case nil: throw closedError(place)
        case .some(let cases):
            let exists = H5Lexists(cases.identifier, goldenCase.name, touchstone_h5p_default())
            try place.check(exists, "HDF5 could not look the case up")
            guard exists == 0 else { throw place.error(.duplicate, "the file has this case already") }
            let group = try createGroup(goldenCase.name, in: cases, place)
            try writeString("op", goldenCase.op, to: group, place)
            try writeString("why", goldenCase.why, to: group, place)
            try writeString("recipe", recipe, to: group, place)
            try writeStrings("spec_clauses", goldenCase.specClauses, to: group, place)
            for caseGroup in CaseGroup.allCases {
                let tensors = goldenCase[caseGroup]
                guard !tensors.isEmpty else { continue }
                let datasets = try createGroup(caseGroup.rawValue, in: group, place)
                for named in tensors.tensors {
                    let place = place.dataset("\(caseGroup.rawValue)/\(named.name)")
                    try requireName(named.name, "a dataset", place)
                    try writeTensor(named.tensor, named.name, to: datasets, place)
                }
            }
        }
    }
}

/// Whether a name can stand for one member of a group: HDF5 reads `/` as a path and `.` as the group itself.
func isName(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && !name.utf8.contains(UInt8(ascii: "/")) && !name.utf8.contains(0)
}

private func requireName(_ name: String, _ what: String, _ place: Place) throws(GoldenIOError) {
    guard isName(name) else {
        throw place.error(
            .invalidName, "\"\(name)\" cannot be the name of \(what): it is empty, . or .., or holds / or NUL")
    }
}

// Every creation list leaves the times out; the format is that of HDF5 1.8 whatever the library's version.

private func createFile(_ path: String, _ place: Place) throws(GoldenIOError) -> Handle {
    let message = "HDF5 could not create the file"
    let creation = try place.own(H5Pcreate(touchstone_h5p_file_create()), message)
    try place.check(touchstone_h5p_set_no_times(creation.identifier), message)
    // Nothing else here may leave its default: HDF5 would add a superblock extension, an object that holds the time.
    let access = try place.own(H5Pcreate(touchstone_h5p_file_access()), message)
    try place.check(H5Pset_libver_bounds(access.identifier, H5F_LIBVER_V18, H5F_LIBVER_V18), message)
    try place.check(H5Pset_fclose_degree(access.identifier, H5F_CLOSE_STRONG), message)
    try place.check(touchstone_h5p_set_no_file_locking(access.identifier), message)
    return try place.own(
        H5Fcreate(path, touchstone_h5f_acc_trunc(), creation.identifier, access.identifier), message)
}

/// A group whose members keep the order in which they were written.
private func createGroup(
    _ name: String, in parent: borrowing Handle, _ place: Place
) throws(GoldenIOError) -> Handle {
    let message = "HDF5 could not create the group \(name)"
    let creation = try place.own(H5Pcreate(touchstone_h5p_group_create()), message)
    try place.check(touchstone_h5p_set_no_times(creation.identifier), message)
    try place.check(
        H5Pset_link_creation_order(
            creation.identifier, touchstone_h5p_crt_order_tracked() | touchstone_h5p_crt_order_indexed()), message)
    let link = try createLinkList(place, message)
    return try place.own(
        H5Gcreate2(parent.identifier, name, link.identifier, creation.identifier, touchstone_h5p_default()), message)
}

/// Names are UTF-8.
private func createLinkList(_ place: Place, _ message: String) throws(GoldenIOError) -> Handle {
    let link = try place.own(H5Pcreate(touchstone_h5p_link_create()), message)
    try place.check(H5Pset_char_encoding(link.identifier, H5T_CSET_UTF8), message)
    return link
}

/// Up to ``mostCompactBytes`` in the dataset's own header, whose checksum covers them; above that one chunk with a Fletcher-32
/// checksum; contiguous without one for a scalar or a tensor of no elements.
private func writeTensor(
    _ tensor: Tensor, _ name: String, to group: borrowing Handle, _ place: Place
) throws(GoldenIOError) {
    guard tensor.shape.count <= mostDimensions else {
        throw place.error(.tooLarge, "\(tensor.shape.count) dimensions, HDF5 holds at most \(mostDimensions)")
    }
    guard tensor.bytes.count <= mostChunkBytes else {
        throw place.error(.tooLarge, "\(tensor.bytes.count) bytes, a chunk holds at most \(mostChunkBytes)")
    }
    let exists = H5Lexists(group.identifier, name, touchstone_h5p_default())
    try place.check(exists, "HDF5 could not look the dataset up")
    guard exists == 0 else { throw place.error(.duplicate, "the group has this dataset already") }

    let message = "HDF5 could not write the dataset"
    let creation = try place.own(H5Pcreate(touchstone_h5p_dataset_create()), message)
    try place.check(touchstone_h5p_set_no_times(creation.identifier), message)
    try place.check(H5Pset_fill_time(creation.identifier, H5D_FILL_TIME_NEVER), message)
    let dimensions = tensor.shape.map { hsize_t($0) }
    if !dimensions.isEmpty && !tensor.bytes.isEmpty && tensor.bytes.count <= mostCompactBytes {
        try place.check(H5Pset_layout(creation.identifier, H5D_COMPACT), message)
    } else if !dimensions.isEmpty && !tensor.bytes.isEmpty {
        try place.check(H5Pset_chunk(creation.identifier, Int32(dimensions.count), dimensions), message)
        try place.check(H5Pset_fletcher32(creation.identifier), message)
    }
    let space = try place.own(
        dimensions.isEmpty ? H5Screate(H5S_SCALAR) : H5Screate_simple(Int32(dimensions.count), dimensions, nil), message
    )
    let type = try tensor.type.makeStoredType(place)
    let link = try createLinkList(place, message)
    let dataset = try place.own(
        H5Dcreate2(
            group.identifier, name, type.identifier, space.identifier, link.identifier, creation.identifier,
            touchstone_h5p_default()), message)
    if !tensor.bytes.isEmpty {
        // The type in memory is the type in the file: the bytes go as they are.
        let all = touchstone_h5s_all()
        let status = tensor.bytes.withUnsafeBytes { bytes in
            H5Dwrite(dataset.identifier, type.identifier, all, all, touchstone_h5p_default(), bytes.baseAddress)
        }
        try place.check(status, message)
    }
    guard dataset.close() else { throw place.libraryError(message) }
}

private let mostDimensions = 32
/// The index of a chunked dataset takes 2 to 4 kB, whatever the size of the data, and has no checksum.
private let mostCompactBytes = 8192
/// HDF5 counts a chunk's bytes, with the 4 of the checksum, in 32 bits.
private let mostChunkBytes = Int(UInt32.max) - 4

private func writeString(
    _ name: String, _ value: String, to object: borrowing Handle, _ place: Place
) throws(GoldenIOError) {
    try writeAttribute(name, [value], isScalar: true, to: object, place)
}

private func writeStrings(
    _ name: String, _ values: [String], to object: borrowing Handle, _ place: Place
) throws(GoldenIOError) {
    try writeAttribute(name, values, isScalar: false, to: object, place)
}

/// UTF-8 strings of the longest one's length, padded with NUL: their bytes stand in the object's checksummed header.
private func writeAttribute(
    _ name: String, _ values: [String], isScalar: Bool, to object: borrowing Handle, _ place: Place
) throws(GoldenIOError) {
    let texts = values.map { Array($0.utf8) }
    guard !texts.contains(where: { $0.contains(0) }) else {
        throw place.error(.malformed, "the attribute \(name) holds a NUL character")
    }
    let message = "HDF5 could not write the attribute \(name)"
    let width = max(1, texts.map(\.count).max() ?? 1)
    let type = try place.own(H5Tcopy(touchstone_h5t_c_s1()), message)
    try place.check(H5Tset_size(type.identifier, width), message)
    try place.check(H5Tset_strpad(type.identifier, H5T_STR_NULLPAD), message)
    try place.check(H5Tset_cset(type.identifier, H5T_CSET_UTF8), message)
    let count = [hsize_t(texts.count)]
    let space = try place.own(isScalar ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, count, nil), message)
    let attribute = try place.own(
        H5Acreate2(
            object.identifier, name, type.identifier, space.identifier, touchstone_h5p_default(),
            touchstone_h5p_default()), message)
    guard !texts.isEmpty else { return }
    let bytes = texts.flatMap { $0 + [UInt8](repeating: 0, count: width - $0.count) }
    let status = bytes.withUnsafeBytes { H5Awrite(attribute.identifier, type.identifier, $0.baseAddress) }
    try place.check(status, message)
}
