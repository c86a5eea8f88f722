/// A tensor whose elements are read in parts: one in memory, or a dataset of a file.
public protocol TensorSource: Sendable {
    var type: ElementType { get }
    var shape: [Int] { get }

    /// The elements of a range in C order, as a tensor of one dimension.
    /// - Precondition: `range` lies in 0 ..< count.
    func elements(_ range: Range<Int>) throws(GoldenIOError) -> Tensor
}

extension TensorSource {
    /// The number of elements: the product of the shape.
    public var count: Int { shape.contains(0) ? 0 : shape.reduce(1, *) }

    /// All elements, in memory, with their shape.
    public func whole() throws(GoldenIOError) -> Tensor {
        Tensor(unchecked: type, shape: shape, bytes: try elements(0..<count).bytes)
    }
}

extension Tensor: TensorSource {
    public func elements(_ range: Range<Int>) -> Tensor {
        if range == 0..<count { return Tensor(unchecked: type, shape: [count], bytes: bytes) }
        let width = type.byteWidth
        return Tensor(
            unchecked: type, shape: [range.count],
            bytes: Array(bytes[range.lowerBound * width..<range.upperBound * width]))
    }

    public func whole() -> Tensor { self }
}
