import CHDF5
import Cases

/// An element type as a file stores it.
struct StoredType {
    let type: ElementType
    let isBigEndian: Bool
}

/// Where the fields of a floating-point format stand, in bits from the least significant one.
private struct FloatFields: Equatable {
    var sign: Int
    var exponent: Int
    var exponentWidth: Int
    var mantissa: Int
    var mantissaWidth: Int
    var bias: Int
}

extension ElementType {
    private var fields: FloatFields? {
        switch self {
        case .bf16:
            FloatFields(sign: 15, exponent: 7, exponentWidth: 8, mantissa: 0, mantissaWidth: 7, bias: 127)
        case .fp16:
            FloatFields(sign: 15, exponent: 10, exponentWidth: 5, mantissa: 0, mantissaWidth: 10, bias: 15)
        case .fp32:
            FloatFields(sign: 31, exponent: 23, exponentWidth: 8, mantissa: 0, mantissaWidth: 23, bias: 127)
        case .fp64:
            FloatFields(sign: 63, exponent: 52, exponentWidth: 11, mantissa: 0, mantissaWidth: 52, bias: 1023)
        default: nil
        }
    }

    /// The type of the datasets that we write: little-endian; bf16 and binary16 as IEEE-like floats of 16 bits.
    func makeStoredType(_ place: Place) throws(GoldenIOError) -> Handle {
        let base =
            switch self {
            case .bf16, .fp16, .fp32: touchstone_h5t_ieee_f32le()
            case .fp64: touchstone_h5t_ieee_f64le()
            case .int8: touchstone_h5t_std_i8le()
            case .int16: touchstone_h5t_std_i16le()
            case .int32: touchstone_h5t_std_i32le()
            case .int64: touchstone_h5t_std_i64le()
            case .uint8: touchstone_h5t_std_u8le()
            case .uint16: touchstone_h5t_std_u16le()
            case .uint32: touchstone_h5t_std_u32le()
            case .uint64: touchstone_h5t_std_u64le()
            }
        let message = "HDF5 could not make the type \(rawValue)"
        let handle = try place.own(H5Tcopy(base), message)
        guard byteWidth == 2, let fields else { return handle }
        let type = handle.identifier
        try place.check(
            H5Tset_fields(
                type, fields.sign, fields.exponent, fields.exponentWidth, fields.mantissa, fields.mantissaWidth),
            message)
        try place.check(H5Tset_precision(type, 16), message)
        try place.check(H5Tset_size(type, 2), message)
        try place.check(H5Tset_ebias(type, fields.bias), message)
        return handle
    }

    /// The element type that a dataset's type stores; nil if golden files cannot hold it.
    static func stored(as type: hid_t) -> StoredType? {
        let width = H5Tget_size(type)
        guard H5Tget_offset(type) == 0, H5Tget_precision(type) == 8 * width else { return nil }
        let order = H5Tget_order(type)
        guard order == H5T_ORDER_LE || order == H5T_ORDER_BE else { return nil }
        let found: ElementType? =
            switch H5Tget_class(type) {
            case H5T_INTEGER:
                switch (width, H5Tget_sign(type)) {
                case (1, H5T_SGN_2): .int8
                case (2, H5T_SGN_2): .int16
                case (4, H5T_SGN_2): .int32
                case (8, H5T_SGN_2): .int64
                case (1, H5T_SGN_NONE): .uint8
                case (2, H5T_SGN_NONE): .uint16
                case (4, H5T_SGN_NONE): .uint32
                case (8, H5T_SGN_NONE): .uint64
                default: nil
                }
            case H5T_FLOAT:
                fields(of: type).flatMap { fields in
                    allCases.first { $0.fields == fields && $0.byteWidth == width }
                }
            default: nil
            }
        return found.map { StoredType(type: $0, isBigEndian: order == H5T_ORDER_BE) }
    }

    private static func fields(of type: hid_t) -> FloatFields? {
        var sign = 0
        var exponent = 0
        var exponentWidth = 0
        var mantissa = 0
        var mantissaWidth = 0
        guard H5Tget_fields(type, &sign, &exponent, &exponentWidth, &mantissa, &mantissaWidth) >= 0,
            H5Tget_norm(type) == H5T_NORM_IMPLIED
        else { return nil }
        return FloatFields(
            sign: sign, exponent: exponent, exponentWidth: exponentWidth, mantissa: mantissa,
            mantissaWidth: mantissaWidth, bias: H5Tget_ebias(type))
    }

    /// A type of the library in words, for an error about one that golden files cannot hold.
    static func describe(_ type: hid_t) -> String {
        let width = H5Tget_size(type)
        return switch H5Tget_class(type) {
        case H5T_INTEGER: "integers of \(H5Tget_precision(type)) bits in \(width) bytes"
        case H5T_FLOAT:
            fields(of: type).map {
                "floats of \(width) bytes with \($0.exponentWidth) exponent and \($0.mantissaWidth) fraction bits, "
                    + "bias \($0.bias)"
            } ?? "floats of \(width) bytes in no IEEE-like form"
        case H5T_STRING: "strings"
        case H5T_BITFIELD: "a bit field of \(width) bytes"
        case H5T_OPAQUE: "opaque elements of \(width) bytes"
        case H5T_COMPOUND: "a compound type of \(H5Tget_nmembers(type)) members"
        case H5T_REFERENCE: "references"
        case H5T_ENUM: "an enumeration of \(H5Tget_nmembers(type)) members (as h5py stores booleans)"
        case H5T_VLEN: "sequences of variable length"
        case H5T_ARRAY: "arrays as elements"
        default: "a type that this version of HDF5 does not know"
        }
    }
}
