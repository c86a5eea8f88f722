import ModelSpec

/// The element types of tensors (``/ModelSpec/ElementType``).
public typealias ElementType = ModelSpec.ElementType

/// A dense tensor: an element type, a shape, and the elements' bits in C order, little-endian.
///
/// A scalar has the empty shape and one element. A dimension may be zero. The bits are held as they are: a
/// signalling NaN stays one.
public struct Tensor: Sendable, Hashable {
    public let type: ElementType
    public let shape: [Int]
    /// `count * type.byteWidth` bytes.
    public let bytes: [UInt8]

    /// The number of elements: the product of the shape.
    public var count: Int { shape.reduce(1, *) }

    /// - Throws: ``TensorError`` if a dimension is negative, the product overflows, or the bytes do not fit the shape.
    public init(type: ElementType, shape: [Int], bytes: [UInt8]) throws(TensorError) {
        var size = type.byteWidth
        for dimension in shape {
            guard dimension >= 0 else { throw .shape(shape) }
            let (product, overflow) = size.multipliedReportingOverflow(by: dimension)
            guard !overflow else { throw .shape(shape) }
            size = product
        }
        guard bytes.count == size else { throw .byteCount(bytes.count, expected: size, type, shape) }
        self.type = type
        self.shape = shape
        self.bytes = bytes
    }

    /// The bits of element `index` (in C order), zero-extended to 64.
    public func bits(at index: Int) -> UInt64 {
        let width = type.byteWidth
        var value: UInt64 = 0
        for byte in 0..<width { value |= UInt64(bytes[index * width + byte]) << UInt64(8 * byte) }
        return value
    }
}

/// Why a tensor could not be made or read as asked.
public enum TensorError: Error, Hashable, Sendable, CustomStringConvertible {
    case shape([Int])
    case byteCount(Int, expected: Int, ElementType, [Int])
    case type(ElementType, expected: ElementType)

    public var description: String {
        switch self {
        case .shape(let shape): "shape \(shape) is not a shape"
        case .byteCount(let count, let expected, let type, let shape):
            "\(count) bytes do not fill \(type.rawValue) \(shape), which takes \(expected)"
        case .type(let found, let expected): "element type is \(found.rawValue), expected \(expected.rawValue)"
        }
    }
}
