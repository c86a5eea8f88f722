/// The element types that a tensor of a case can have.
///
/// The raw value is the type's name in reports and recipes. Everything is little-endian in memory and in the file.
public enum ElementType: String, Sendable, CaseIterable, Codable {
    case bf16, fp16, fp32, fp64
    case int8, int16, int32, int64
    case uint8, uint16, uint32, uint64

    /// Bytes an element takes.
    public var byteWidth: Int {
        switch self {
        case .int8, .uint8: 1
        case .bf16, .fp16, .int16, .uint16: 2
        case .fp32, .int32, .uint32: 4
        case .fp64, .int64, .uint64: 8
        }
    }

    /// Whether the type has NaNs and infinities.
    public var isFloatingPoint: Bool {
        switch self {
        case .bf16, .fp16, .fp32, .fp64: true
        default: false
        }
    }
}
