import CHDF5
import Cases
import Platform

/// A string attribute: a scalar or an array of one string; nil if absent.
func readString(
    _ name: String, of object: borrowing Handle, _ source: Source, _ place: Place
) throws(GoldenIOError) -> String? {
    guard let strings = try readStrings(name, of: object, source, place) else { return nil }
    guard let string = strings.first, strings.count == 1 else {
        throw place.error(.wrongType, "the attribute \(name) holds \(strings.count) strings, expected one")
    }
    return string
}

/// The strings of an attribute, scalar or array, of fixed or variable length, ASCII or UTF-8; nil if absent.
func readStrings(
    _ name: String, of object: borrowing Handle, _ source: Source, _ place: Place
) throws(GoldenIOError) -> [String]? {
    let exists = H5Aexists(object.identifier, name)
    try place.check(exists, "the attributes are damaged")
    guard exists > 0 else { return nil }
    let damaged = "the attribute \(name) is damaged"
    let attribute = try place.own(H5Aopen(object.identifier, name, touchstone_h5p_default()), damaged)
    let space = try place.own(H5Aget_space(attribute.identifier), damaged)
    let type = try place.own(H5Aget_type(attribute.identifier), damaged)
    let extent = H5Sget_simple_extent_npoints(space.identifier)
    guard extent >= 0 else { throw place.libraryError(damaged) }
    // An empty array of any type: h5py gives [] the type of a float.
    if extent == 0 && H5Sget_simple_extent_type(space.identifier) == H5S_SIMPLE { return [] }
    guard H5Tget_class(type.identifier) == H5T_STRING, extent > 0 else {
        throw place.error(
            .wrongType,
            "the attribute \(name) holds \(extent == 0 ? "nothing" : ElementType.describe(type.identifier)), "
                + "expected strings")
    }
    let width = H5Tget_size(type.identifier)
    let (byteCount, overflow) = Int(extent).multipliedReportingOverflow(by: width)
    guard !overflow, byteCount <= mostAttributeBytes else {
        throw place.error(.tooLarge, "the attribute \(name) has more than \(mostAttributeBytes) bytes")
    }
    let raw =
        H5Tis_variable_str(type.identifier) > 0
        ? try readVariableStrings(name, of: object, source, count: Int(extent), place)
        : try readFixedStrings(attribute, type, count: Int(extent), width: width, damaged, place)
    var strings: [String] = []
    for bytes in raw {
        guard let string = String(validating: bytes, as: UTF8.self) else {
            throw place.error(.malformed, "the attribute \(name) is not UTF-8")
        }
        strings.append(string)
    }
    return strings
}

private let mostAttributeBytes = VariableLengthStrings.mostBytes

private func readFixedStrings(
    _ attribute: borrowing Handle, _ type: borrowing Handle, count: Int, width: Int, _ damaged: String, _ place: Place
) throws(GoldenIOError) -> [[UInt8]] {
    var buffer = [UInt8](repeating: 0, count: count * width)
    let status = buffer.withUnsafeMutableBytes { H5Aread(attribute.identifier, type.identifier, $0.baseAddress) }
    try place.check(status, damaged)
    let padding = H5Tget_strpad(type.identifier)
    return (0..<count).map { index in
        var text = buffer[(index * width)..<((index + 1) * width)]
        switch padding {
        case H5T_STR_NULLTERM: text = text.prefix { $0 != 0 }
        case H5T_STR_SPACEPAD: while let last = text.last, last == 0x20 || last == 0 { text.removeLast() }
        default: while text.last == 0 { text.removeLast() }
        }
        return Array(text)
    }
}

private func readVariableStrings(
    _ name: String, of object: borrowing Handle, _ source: Source, count: Int, _ place: Place
) throws(GoldenIOError) -> [[UInt8]] {
    var address: UInt64 = 0
    try place.check(touchstone_h5o_address(object.identifier, &address), "the attribute \(name) is damaged")
    do throws(FileError) {
        if let strings = try source.variableLengthStrings?.strings(ofAttribute: name, at: address, count: count) {
            return strings
        }
    } catch {
        throw place.error(error)
    }
    throw place.error(
        .damaged,
        "the attribute \(name) of variable-length strings is damaged, or one of several hundred; strings of fixed length have no such limit"
    )
}
