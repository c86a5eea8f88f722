import CTouchstonePlugin
import Cases
import JSON

// What a plug-in's process and its parent say to each other: little-endian, strings with their length before and a zero byte behind.

/// A message as it is written.
struct MessageWriter {
    private(set) var bytes: [UInt8] = []

    mutating func byte(_ value: UInt8) { bytes.append(value) }

    mutating func integer<Integer: FixedWidthInteger>(_ value: Integer) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func string(_ text: String) {
        let utf8 = text.utf8
        integer(UInt32(utf8.count))
        bytes.append(contentsOf: utf8)
        byte(0)
    }

    mutating func raw(_ more: some Collection<UInt8>) { bytes.append(contentsOf: more) }

    /// Zeros up to the next multiple of 64.
    mutating func align() { while bytes.count % 64 != 0 { bytes.append(0) } }
}

/// The bytes are no message.
struct MalformedMessage: Error {}

/// A message as it is read; every step is checked against its end.
struct MessageReader {
    let bytes: UnsafeRawBufferPointer
    private(set) var offset = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    mutating func take(_ count: Int) throws(MalformedMessage) -> UnsafeRawBufferPointer {
        guard count >= 0, count <= bytes.count - offset else { throw MalformedMessage() }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }

    mutating func byte() throws(MalformedMessage) -> UInt8 { try take(1)[0] }

    mutating func integer<Integer: FixedWidthInteger>(_: Integer.Type) throws(MalformedMessage) -> Integer {
        Integer(littleEndian: try take(MemoryLayout<Integer>.size).loadUnaligned(as: Integer.self))
    }

    mutating func string() throws(MalformedMessage) -> String {
        let text = String(decoding: try take(Int(try integer(UInt32.self))), as: UTF8.self)
        guard try byte() == 0 else { throw MalformedMessage() }
        return text
    }

    mutating func align() throws(MalformedMessage) { _ = try take((64 - offset % 64) % 64) }

    /// - Throws: if bytes are left.
    func finish() throws(MalformedMessage) { if offset != bytes.count { throw MalformedMessage() } }
}

extension MessageWriter {
    /// Type and shape.
    mutating func head(of name: String, _ type: ElementType, _ shape: [Int]) {
        string(name)
        byte(type.pluginCode)
        byte(UInt8(shape.count))
        for size in shape { integer(Int64(size)) }
    }
}

extension MessageReader {
    /// A tensor's name, type, shape and size in bytes.
    mutating func head() throws(MalformedMessage) -> (name: String, type: ElementType, shape: [Int], size: Int) {
        let name = try string()
        guard let type = ElementType(pluginCode: Int32(try byte())) else { throw MalformedMessage() }
        let rank = try byte()
        guard rank <= TOUCHSTONE_MAXIMUM_RANK else { throw MalformedMessage() }
        var shape: [Int] = []
        for _ in 0..<rank { shape.append(Int(try integer(Int64.self))) }
        guard let size = byteCount(type, shape) else { throw MalformedMessage() }
        return (name, type, shape, size)
    }
}

/// The bytes of a tensor; nil if the shape is none or too large for an `Int`.
func byteCount(_ type: ElementType, _ shape: [Int]) -> Int? {
    var size = type.byteWidth
    // A zero makes the product small whatever the other dimensions are; those must be dimensions all the same.
    for dimension in shape {
        guard dimension >= 0 else { return nil }
        let (product, overflow) = size.multipliedReportingOverflow(by: max(1, dimension))
        if overflow { return nil }
        size = product
    }
    return shape.contains(0) ? 0 : size
}

extension ElementType {
    private static let inPluginOrder: [ElementType] = [
        .bf16, .fp16, .fp32, .fp64, .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64,
    ]

    /// The type's number in `touchstone.h`: 1 to 12.
    var pluginCode: UInt8 { UInt8(1 + (Self.inPluginOrder.firstIndex(of: self) ?? 0)) }

    init?(pluginCode: Int32) {
        guard pluginCode >= 1, pluginCode <= Self.inPluginOrder.count else { return nil }
        self = Self.inPluginOrder[Int(pluginCode) - 1]
    }
}

/// What the parent asks: to be told of the library, or one case.
enum PluginQuestion {
    static func open() -> [UInt8] { [0] }

    /// Data stands at multiples of 64.
    static func evaluate(_ goldenCase: GoldenCase) throws(JSONError) -> [UInt8] {
        var message = MessageWriter()
        message.byte(1)
        message.string(goldenCase.name)
        message.string(goldenCase.op)
        message.string(try JSONValue.object(goldenCase.recipe).text())
        message.integer(UInt32(goldenCase.inputs.tensors.count))
        for named in goldenCase.inputs.tensors {
            message.head(of: named.name, named.tensor.type, named.tensor.shape)
            message.align()
            message.raw(named.tensor.bytes)
        }
        return message.bytes
    }
}

/// What the child says of the library.
enum PluginOpening {
    case opened(name: String, version: UInt32)
    case refused(String)

    var message: [UInt8] {
        var message = MessageWriter()
        switch self {
        case .opened(let name, let version):
            message.byte(0)
            message.string(name)
            message.integer(version)
        case .refused(let why):
            message.byte(1)
            message.string(why)
        }
        return message.bytes
    }

    init(_ bytes: [UInt8]) throws(MalformedMessage) {
        let result = bytes.withUnsafeBytes { raw in
            Result { () throws(MalformedMessage) -> PluginOpening in
                var reader = MessageReader(raw)
                let opening: PluginOpening
                switch try reader.byte() {
                case 0: opening = .opened(name: try reader.string(), version: try reader.integer(UInt32.self))
                case 1: opening = .refused(try reader.string())
                default: throw MalformedMessage()
                }
                try reader.finish()
                return opening
            }
        }
        self = try result.get()
    }
}

/// What the child says of one case.
enum PluginAnswer {
    case outputs(TensorGroup)
    case unsupported(String)
    case failed(String)
    /// The host did not accept what the plug-in did.
    case refused(String)

    static func refusal(_ why: String) -> [UInt8] { text(3, why) }
    static func failure(_ why: String) -> [UInt8] { text(2, why) }
    static func unsupported(_ why: String) -> [UInt8] { text(1, why) }

    private static func text(_ kind: UInt8, _ text: String) -> [UInt8] {
        var message = MessageWriter()
        message.byte(kind)
        message.string(text)
        return message.bytes
    }

    init(_ bytes: [UInt8]) throws(MalformedMessage) {
        let result = bytes.withUnsafeBytes { raw in
            Result { () throws(MalformedMessage) -> PluginAnswer in
                var reader = MessageReader(raw)
                let answer: PluginAnswer
                switch try reader.byte() {
                case 0: answer = .outputs(try Self.outputs(&reader))
                case 1: answer = .unsupported(try reader.string())
                case 2: answer = .failed(try reader.string())
                case 3: answer = .refused(try reader.string())
                default: throw MalformedMessage()
                }
                try reader.finish()
                return answer
            }
        }
        self = try result.get()
    }

    private static func outputs(_ reader: inout MessageReader) throws(MalformedMessage) -> TensorGroup {
        var tensors: [NamedTensor] = []
        var names: Set<String> = []
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let (name, type, shape, size) = try reader.head()
            let bytes = [UInt8](try reader.take(size))
            guard names.insert(name).inserted, let tensor = try? Tensor(type: type, shape: shape, bytes: bytes) else {
                throw MalformedMessage()
            }
            tensors.append(NamedTensor(name, tensor))
        }
        return TensorGroup(tensors)
    }
}
