// Typed views of a tensor's bits. bf16 and binary16 travel as UInt16: this module computes nothing.

extension Tensor {
    /// A tensor of fixed-width integers.
    /// - Precondition: the values fill the shape.
    public init<Element: FixedWidthInteger & TensorInteger>(_ values: [Element], shape: [Int]) {
        self.init(words: values, type: Element.elementType, shape: shape)
    }

    /// A bf16 tensor from bit patterns.
    public init(bf16 bits: [UInt16], shape: [Int]) { self.init(words: bits, type: .bf16, shape: shape) }

    /// A binary16 tensor from bit patterns.
    public init(fp16 bits: [UInt16], shape: [Int]) { self.init(words: bits, type: .fp16, shape: shape) }

    /// An fp32 tensor; NaN payloads are kept as far as the platform keeps them in a `Float`.
    public init(_ values: [Float], shape: [Int]) {
        self.init(words: values.map(\.bitPattern), type: .fp32, shape: shape)
    }

    /// An fp64 tensor.
    public init(_ values: [Double], shape: [Int]) {
        self.init(words: values.map(\.bitPattern), type: .fp64, shape: shape)
    }

    /// An fp32 tensor from bit patterns.
    public init(fp32 bits: [UInt32], shape: [Int]) { self.init(words: bits, type: .fp32, shape: shape) }

    /// An fp64 tensor from bit patterns.
    public init(fp64 bits: [UInt64], shape: [Int]) { self.init(words: bits, type: .fp64, shape: shape) }

    /// The elements as words of the type's width, checked against the type the caller expects.
    public func words<Word: FixedWidthInteger>(_ word: Word.Type, of expected: ElementType) throws(TensorError)
        -> [Word]
    {
        guard type == expected, MemoryLayout<Word>.size == type.byteWidth else {
            throw .type(type, expected: expected)
        }
        let count = count
        return [Word](unsafeUninitializedCapacity: count) { buffer, initialized in
            bytes.withUnsafeBytes { raw in
                for index in 0..<count {
                    let word = raw.loadUnaligned(fromByteOffset: index * MemoryLayout<Word>.size, as: Word.self)
                    buffer[index] = Word(littleEndian: word)
                }
            }
            initialized = count
        }
    }

    /// The bit patterns of a bf16 tensor.
    public func bf16Bits() throws(TensorError) -> [UInt16] { try words(UInt16.self, of: .bf16) }

    /// The values of an fp32 tensor.
    public func floats() throws(TensorError) -> [Float] {
        try words(UInt32.self, of: .fp32).map(Float.init(bitPattern:))
    }

    /// The values of an fp64 tensor.
    public func doubles() throws(TensorError) -> [Double] {
        try words(UInt64.self, of: .fp64).map(Double.init(bitPattern:))
    }

    /// The values of an integer tensor of exactly this type.
    public func integers<Element: FixedWidthInteger & TensorInteger>(_ element: Element.Type) throws(TensorError)
        -> [Element]
    {
        try words(Element.self, of: Element.elementType)
    }

    private init<Word: FixedWidthInteger>(words: [Word], type: ElementType, shape: [Int]) {
        precondition(shape.reduce(1, *) == words.count, "\(words.count) values do not fill \(shape)")
        let width = MemoryLayout<Word>.size
        let bytes = [UInt8](unsafeUninitializedCapacity: words.count * width) { buffer, initialized in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            for (index, word) in words.enumerated() {
                raw.storeBytes(of: word.littleEndian, toByteOffset: index * width, as: Word.self)
            }
            initialized = words.count * width
        }
        self.init(unchecked: type, shape: shape, bytes: bytes)
    }

    package init(unchecked type: ElementType, shape: [Int], bytes: [UInt8]) {
        self.type = type
        self.shape = shape
        self.bytes = bytes
    }
}

/// The integer types that stand in golden files as themselves.
public protocol TensorInteger { static var elementType: ElementType { get } }
extension Int8: TensorInteger { public static var elementType: ElementType { .int8 } }
extension Int16: TensorInteger { public static var elementType: ElementType { .int16 } }
extension Int32: TensorInteger { public static var elementType: ElementType { .int32 } }
extension Int64: TensorInteger { public static var elementType: ElementType { .int64 } }
extension UInt8: TensorInteger { public static var elementType: ElementType { .uint8 } }
extension UInt16: TensorInteger { public static var elementType: ElementType { .uint16 } }
extension UInt32: TensorInteger { public static var elementType: ElementType { .uint32 } }
extension UInt64: TensorInteger { public static var elementType: ElementType { .uint64 } }
