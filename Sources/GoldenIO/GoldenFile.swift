import CHDF5
import Cases
import Foundation
import JSON
import Platform

/// A golden file, open for reading: one of ours or one written by h5py or another HDF5 program.
///
/// A tensor's bits are those in the file, turned to little-endian; no number is ever converted. Accepted are datasets that
/// are compact, contiguous or chunked, with deflate (gzip), shuffle and Fletcher-32 filters, of any byte order, of the
/// types of ``/ModelSpec/ElementType``; UInt16 datasets whose attribute `element_type` is `bf16` or `fp16` hold those bits. Elements that were never written
/// have the dataset's fill value, of at most 256 MiB; where there is none, or the fill time is *never*, as in our own files, they are an error.
/// Soft and external links, virtual and external storage, and all other filters and types are refused.
public final class GoldenFile: Sendable {
    public let path: String
    /// The root attributes; absent ones read as "" and seed 0, so that a user's own file needs only cases.
    public let header: GoldenHeader
    /// In the order of creation if the file tracks it, else by name.
    public let caseNames: [String]
    /// Whether the file tracks the order in which its cases were created.
    public let tracksOrder: Bool

    private let byteLimit: Int
    private let source: Source
    private let cases: Handle
    private let file: Handle

    /// Opens the file and reads its header and the names of its cases.
    ///
    /// - Parameter byteLimit: The most bytes of tensors that one ``readCase(_:groups:unreadable:)`` may take, checked before memory
    ///   is taken for them.
    public init(reading path: String, byteLimit: Int = 8 << 30) throws(GoldenIOError) {
        let place = Place(file: path)
        guard !path.utf8.contains(0) else { throw place.error(.invalidName, "the path holds a NUL character") }
        let reader: FileReader
        do {
            reader = try FileReader(path)
        } catch {
            throw place.error(error)
        }
        let opened = try HDF5.locked { () throws(GoldenIOError) -> Opened in try Opened(reader, place) }
        self.path = path
        self.byteLimit = byteLimit
        self.source = opened.source
        self.header = opened.header
        self.caseNames = opened.caseNames
        self.tracksOrder = opened.tracksOrder
        self.cases = opened.cases
        self.file = opened.file
    }

    /// Reads one case: its attributes and the datasets of the named groups, in the order of creation if the file tracks
    /// it, else by name. Absent attributes and groups read as empty.
    ///
    /// - Parameter unreadable: is told of each dataset that cannot be read, which is then left out; nil: the first one is thrown.
    public func readCase(
        _ name: String, groups: Set<CaseGroup> = Set(CaseGroup.allCases),
        unreadable: ((CaseGroup, String, GoldenIOError) -> Void)? = nil
    ) throws(GoldenIOError) -> GoldenCase {
        try HDF5.locked { () throws(GoldenIOError) -> GoldenCase in
            let place = Place(file: path).goldenCase(name)
            guard isName(name), H5Lexists(cases.identifier, name, touchstone_h5p_default()) > 0 else {
                throw place.error(.missing, "the file has no such case")
            }
            let group = try openMember(name, of: cases, as: H5I_GROUP, place)
            let members = try memberNames(of: group, place)
            var result = GoldenCase(
                name: name,
                op: try readString("op", of: group, source, place) ?? "",
                why: try readString("why", of: group, source, place) ?? "",
                specClauses: try readStrings("spec_clauses", of: group, source, place) ?? [],
                recipe: try readRecipe(of: group, place))
            var bytesLeft = byteLimit
            for caseGroup in CaseGroup.allCases
            where groups.contains(caseGroup) && members.contains(caseGroup.rawValue) {
                result[caseGroup] = try readGroup(caseGroup, of: group, place, bytesLeft: &bytesLeft, unreadable)
            }
            return result
        }
    }

    /// One case without its elements: attributes, and the datasets of the named groups, to be read in parts. Every dataset's type, shape and storage is
    /// checked here, and the checksum of one that is stored as a single chunk.
    ///
    /// - Parameter unreadable: is told of each dataset that cannot be read, which is then left out; nil: the first one is thrown.
    public func openCase(
        _ name: String, groups: Set<CaseGroup> = Set(CaseGroup.allCases),
        unreadable: ((CaseGroup, String, GoldenIOError) -> Void)? = nil
    ) throws(GoldenIOError) -> StoredCase {
        try HDF5.locked { () throws(GoldenIOError) -> StoredCase in
            let place = Place(file: path).goldenCase(name)
            guard isName(name), H5Lexists(cases.identifier, name, touchstone_h5p_default()) > 0 else {
                throw place.error(.missing, "the file has no such case")
            }
            let group = try openMember(name, of: cases, as: H5I_GROUP, place)
            let members = try memberNames(of: group, place)
            var tensors: [CaseGroup: [(name: String, tensor: StoredTensor)]] = [:]
            for caseGroup in CaseGroup.allCases
            where groups.contains(caseGroup) && members.contains(caseGroup.rawValue) {
                let place = place.dataset(caseGroup.rawValue)
                let datasets = try openMember(caseGroup.rawValue, of: group, as: H5I_GROUP, place)
                var found: [(name: String, tensor: StoredTensor)] = []
                for name in try memberNames(of: datasets, place) {
                    let place = place.dataset("\(caseGroup.rawValue)/\(name)")
                    guard !found.contains(where: { $0.name == name }) else {
                        throw place.error(
                            .duplicate, "two datasets whose names differ only in how Unicode composes them")
                    }
                    do throws(GoldenIOError) {
                        let tensor = try StoredTensor(
                            name, of: datasets, source, owner: self, byteLimit: byteLimit, place)
                        found.append((name, tensor))
                    } catch {
                        guard let unreadable else { throw error }
                        unreadable(caseGroup, name, error)
                    }
                }
                tensors[caseGroup] = found
            }
            return StoredCase(
                name: name,
                op: try readString("op", of: group, source, place) ?? "",
                why: try readString("why", of: group, source, place) ?? "",
                specClauses: try readStrings("spec_clauses", of: group, source, place) ?? [],
                recipe: try readRecipe(of: group, place), tensors: tensors)
        }
    }

    private func readRecipe(of group: borrowing Handle, _ place: Place) throws(GoldenIOError) -> [String: JSONValue] {
        guard let text = try readString("recipe", of: group, source, place), !text.isEmpty else { return [:] }
        let value: JSONValue
        do {
            value = try JSONValue(text: text)
        } catch {
            throw place.error(.malformed, "the attribute recipe is not JSON: \(error)")
        }
        guard case .object(let recipe) = value else {
            throw place.error(.malformed, "the attribute recipe is not a JSON object: \(text.prefix(80))")
        }
        return recipe
    }

    private func readGroup(
        _ caseGroup: CaseGroup, of goldenCase: borrowing Handle, _ place: Place, bytesLeft: inout Int,
        _ unreadable: ((CaseGroup, String, GoldenIOError) -> Void)?
    ) throws(GoldenIOError) -> TensorGroup {
        let place = place.dataset(caseGroup.rawValue)
        let group = try openMember(caseGroup.rawValue, of: goldenCase, as: H5I_GROUP, place)
        var tensors: [NamedTensor] = []
        var names: Set<String> = []
        for name in try memberNames(of: group, place) {
            let place = place.dataset("\(caseGroup.rawValue)/\(name)")
            guard names.insert(name).inserted else {
                throw place.error(.duplicate, "two datasets whose names differ only in how Unicode composes them")
            }
            do throws(GoldenIOError) {
                let dataset = try openMember(name, of: group, as: H5I_DATASET, place)
                let tensor = try readTensor(dataset, source, byteLimit: bytesLeft, place)
                bytesLeft -= tensor.bytes.count
                tensors.append(NamedTensor(name, tensor))
            } catch {
                guard let unreadable else { throw error }
                unreadable(caseGroup, name, error)
            }
        }
        return TensorGroup(tensors)
    }
}

/// What opening a file gives.
private struct Opened: ~Copyable {
    let header: GoldenHeader
    let caseNames: [String]
    let tracksOrder: Bool
    let source: Source
    let cases: Handle
    let file: Handle

    init(_ reader: FileReader, _ place: Place) throws(GoldenIOError) {
        try requireSignature(reader, place)
        let access = try place.own(H5Pcreate(touchstone_h5p_file_access()), "HDF5 could not make an access list")
        try place.check(H5Pset_fclose_degree(access.identifier, H5F_CLOSE_STRONG), "HDF5 refused a property")
        try place.check(touchstone_h5p_set_no_file_locking(access.identifier), "HDF5 refused a property")
        let file = try place.own(
            H5Fopen(reader.path, touchstone_h5f_acc_rdonly(), access.identifier),
            "HDF5 could not open the file: it is truncated or damaged")
        let source = try Source(reader, file, place)
        let root = try place.own(H5Gopen2(file.identifier, "/", touchstone_h5p_default()), "the root group is damaged")
        let seedText = try readString("seed", of: root, source, place) ?? ""
        guard let seed = seedText.isEmpty ? 0 : parseHexadecimal(seedText) else {
            throw place.error(.malformed, "the attribute seed is \"\(seedText)\", expected 16 hex digits")
        }
        let header = GoldenHeader(
            specVersion: try readString("spec_version", of: root, source, place) ?? "",
            suite: try readString("suite", of: root, source, place) ?? "",
            tier: try readString("tier", of: root, source, place) ?? "",
            generator: try readString("generator", of: root, source, place) ?? "",
            seed: seed)
        guard try memberNames(of: root, place).contains("cases") else {
            throw place.error(.missing, "the file has no group /cases")
        }
        let cases = try openMember("cases", of: root, as: H5I_GROUP, place)
        let members = try members(of: cases, place)
        self.caseNames = try names(members, place)
        self.tracksOrder = members.allSatisfy { $0.creationOrder >= 0 }
        self.header = header
        self.source = source
        self.cases = cases
        self.file = file
    }
}

/// A file without HDF5's signature is another kind of file, which deserves its own message.
private func requireSignature(_ reader: FileReader, _ place: Place) throws(GoldenIOError) {
    // The signature stands at byte 0, or after a user block at 512, 1024, 2048, ...
    let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]
    var offset = 0
    while offset < reader.size {
        do {
            if try reader.bytes(at: offset, count: signature.count) == signature { return }
        } catch {
            throw place.error(error)
        }
        offset = offset == 0 ? 512 : 2 * offset
    }
    throw place.error(.notHDF5, "not an HDF5 file: it has no HDF5 signature")
}

/// The bytes behind an open file, for what HDF5 is not asked to read.
struct Source {
    let reader: FileReader
    /// nil in a file whose addresses are not of 8 bytes.
    let variableLengthStrings: VariableLengthStrings?
    /// Whether addresses count from the file's first byte.
    let hasNoUserBlock: Bool

    init(_ reader: FileReader, _ file: borrowing Handle, _ place: Place) throws(GoldenIOError) {
        let list = try place.own(H5Fget_create_plist(file.identifier), "the file's first bytes are damaged")
        var base: hsize_t = 0
        var addressWidth = 0
        var sizeWidth = 0
        try place.check(H5Pget_userblock(list.identifier, &base), "the file's first bytes are damaged")
        try place.check(
            H5Pget_sizes(list.identifier, &addressWidth, &sizeWidth), "the file's first bytes are damaged")
        self.reader = reader
        hasNoUserBlock = base == 0
        variableLengthStrings =
            addressWidth == 8 && sizeWidth == 8
            ? Int(exactly: base).map { VariableLengthStrings(reader, base: $0) } : nil
    }
}

/// A member of a group as HDF5 lists it.
private struct Member {
    let name: [UInt8]
    /// -1 where the group does not track the order of creation.
    let creationOrder: Int64

    static func precedes(_ a: Member, _ b: Member) -> Bool {
        a.creationOrder != b.creationOrder
            ? a.creationOrder < b.creationOrder : a.name.lexicographicallyPrecedes(b.name)
    }
}

/// The names of a group's members, in the order of creation if the group tracks it, else by name.
private func memberNames(of group: borrowing Handle, _ place: Place) throws(GoldenIOError) -> [String] {
    try names(try members(of: group, place), place)
}

/// A group's members, in the order of creation if the group tracks it, else by name.
private func members(of group: borrowing Handle, _ place: Place) throws(GoldenIOError) -> [Member] {
    var members: [Member] = []
    let status = withUnsafeMutablePointer(to: &members) { members in
        touchstone_h5l_iterate(
            group.identifier,
            { name, creationOrder, members in
                guard let name, let members else { return -1 }
                let text = UnsafeBufferPointer(start: name, count: strlen(name)).map(UInt8.init(bitPattern:))
                members.assumingMemoryBound(to: [Member].self).pointee
                    .append(Member(name: text, creationOrder: creationOrder))
                return 0
            }, members)
    }
    try place.check(status, "the list of a group's members is damaged")
    return members.sorted(by: Member.precedes)
}

private func names(_ members: [Member], _ place: Place) throws(GoldenIOError) -> [String] {
    var names: [String] = []
    for member in members {
        guard let name = String(validating: member.name, as: UTF8.self) else {
            throw place.error(
                .invalidName, "the name \"\(String(decoding: member.name, as: UTF8.self))\" in a group is not UTF-8")
        }
        names.append(name)
    }
    return names
}

/// Opens a member of a group, if the file itself holds it and it is what is expected.
func openMember(
    _ name: String, of group: borrowing Handle, as expected: H5I_type_t, _ place: Place
) throws(GoldenIOError) -> Handle {
    let linkType = touchstone_h5l_type(group.identifier, name)
    guard linkType >= 0 else { throw place.libraryError("\(name) is damaged") }
    guard linkType == touchstone_h5l_type_hard() else {
        let kind =
            switch linkType {
            case touchstone_h5l_type_soft(): "a soft link"
            case touchstone_h5l_type_external(): "a link to another file"
            default: "a link of a kind that the file's writer has defined"
            }
        throw place.error(.refused, "\(name) is \(kind), which is not followed; expected \(noun(expected))")
    }
    let member = try place.own(
        H5Oopen(group.identifier, name, touchstone_h5p_default()), "\(name) could not be opened: it is damaged")
    let found = H5Iget_type(member.identifier)
    guard found == expected else {
        throw place.error(.wrongType, "\(name) is \(noun(found)), expected \(noun(expected))")
    }
    return member
}

private func noun(_ type: H5I_type_t) -> String {
    switch type {
    case H5I_GROUP: "a group"
    case H5I_DATASET: "a dataset"
    case H5I_DATATYPE: "a named datatype"
    default: "an object of another kind"
    }
}
