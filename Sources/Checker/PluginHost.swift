import CTouchstonePlugin
import Cases
import JSON
import Platform

/// The process in which a shared library of `touchstone.h` is loaded: what the hidden verb `plugin-host` does.
public enum PluginHost {
    /// Loads the library and answers the parent's questions until the parent closes the socket.
    ///
    /// - Parameters:
    ///   - memoryLimit: What the process may take, in bytes; nil: what the system gives.
    ///   - outputLimit: The most bytes of outputs that one case may have.
    /// - Throws: `SystemError` if the process was not started by ``PluginLibrary``.
    public static func run(library: String, memoryLimit: Int?, outputLimit: Int) throws -> Never {
        let channel = try ParentChannel(ChildProcess.channelDescriptor)
        ResourceLimits.leaveNoCore()
        if let memoryLimit { ResourceLimits.limitMemory(memoryLimit) }
        var plugin: LoadedPlugin?
        while let (number, payload) = channel.receive() {
            var reader = MessageReader(UnsafeRawBufferPointer(payload))
            do {
                switch try reader.byte() {
                case 0:
                    switch LoadedPlugin.load(library) {
                    case .success(let loaded):
                        plugin = loaded
                        channel.send(
                            PluginOpening.opened(name: loaded.name, version: loaded.version).message, number: number)
                    case .failure(let refusal):
                        channel.send(PluginOpening.refused(refusal.why).message, number: number)
                    }
                case 1:
                    guard let plugin else { throw MalformedMessage() }
                    let question = try HostedCase(&reader, outputLimit: outputLimit)
                    channel.send(plugin.answer(question), number: number)
                default: throw MalformedMessage()
                }
            } catch {
                Terminal.writeError("touchstone: the question is not a message of this version\n")
                ParentChannel.endProcess()
            }
            AlignedMemory.free(payload)
        }
        plugin?.close()
        ParentChannel.endProcess()
    }
}

/// Why a library is no plug-in that can be asked.
private struct Refusal: Error {
    let why: String
}

/// An open plug-in.
private struct LoadedPlugin {
    let table: UnsafePointer<touchstone_plugin>
    let name: String
    let version: UInt32

    /// The bytes of the structure in version 1.0.
    private static let leastSize = MemoryLayout<touchstone_plugin>.offset(of: \.close)! + MemoryLayout<Int>.size

    static func load(_ path: String) -> Result<LoadedPlugin, Refusal> {
        func refuse(_ why: String) -> Result<LoadedPlugin, Refusal> { .failure(Refusal(why: why)) }
        let library: DynamicLibrary
        do { library = try DynamicLibrary(path: path) } catch {
            // The system's words may begin with the path, which the message has already.
            let words = error.description
            let known = ["\(path): ", "./\(path): "].first { words.hasPrefix($0) } ?? ""
            return refuse("cannot be loaded: \(words.dropFirst(known.count))")
        }
        typealias Version = @convention(c) () -> UInt32
        typealias Open = @convention(c) (UnsafePointer<touchstone_host>?) -> UnsafePointer<touchstone_plugin>?
        guard let askVersion = library.function("touchstone_plugin_version", as: Version.self) else {
            return refuse(
                "exports no function touchstone_plugin_version (TOUCHSTONE_DEFINE_VERSION in touchstone.h defines it)")
        }
        let version = askVersion()
        guard isOurs(version) else {
            return refuse(
                "was compiled with version \(text(version)) of touchstone.h; this is \(text(UInt32(TOUCHSTONE_VERSION)))"
            )
        }
        guard let open = library.function("touchstone_plugin_open", as: Open.self) else {
            return refuse("exports no function touchstone_plugin_open")
        }
        guard let table = open(HostTable.shared) else {
            return refuse("refused to open: \(HostTable.openingFailure ?? "touchstone_plugin_open returned NULL")")
        }
        guard Int(table.pointee.size) >= leastSize else {
            return refuse(
                "returned a touchstone_plugin of \(table.pointee.size) bytes; version 1.0 has \(leastSize)")
        }
        guard isOurs(table.pointee.version) else {
            return refuse(
                "returned a touchstone_plugin of version \(text(table.pointee.version)); this is \(text(UInt32(TOUCHSTONE_VERSION)))"
            )
        }
        guard table.pointee.evaluate != nil else { return refuse("returned a touchstone_plugin without evaluate") }
        let name = table.pointee.name.map { String(cString: $0) } ?? ""
        return .success(LoadedPlugin(table: table, name: name, version: version))
    }

    private static func isOurs(_ version: UInt32) -> Bool { version >> 16 == UInt32(TOUCHSTONE_VERSION) >> 16 }
    private static func text(_ version: UInt32) -> String { "\(version >> 16).\(version & 0xFFFF)" }

    /// The message that answers a case.
    func answer(_ question: HostedCase) -> [UInt8] {
        guard let evaluate = table.pointee.evaluate else { return PluginAnswer.failure("no evaluate") }
        let handle = OpaquePointer(Unmanaged.passUnretained(question).toOpaque())
        let status = withExtendedLifetime(question) { evaluate(table.pointee.state, handle) }
        if let overrun = question.overrun { return PluginAnswer.refusal(overrun) }
        if let refusal = question.refusal { return PluginAnswer.refusal(refusal) }
        switch Int(status) {
        case TOUCHSTONE_OK: return question.answer
        case TOUCHSTONE_UNSUPPORTED: return PluginAnswer.unsupported(question.failure ?? "")
        case TOUCHSTONE_FAILED: return PluginAnswer.failure(question.failure ?? "it did not say why")
        default: return PluginAnswer.refusal("returned \(status) from evaluate, which is no status")
        }
    }

    func close() { table.pointee.close?(table.pointee.state) }
}

/// One case in the plug-in's process: what `touchstone_case` points to.
private final class HostedCase {
    let name: CText
    let op: CText
    let recipeText: CText
    let inputs: [HostedTensor]
    /// The message as it came, to see whether the plug-in wrote into it.
    private let message: UnsafeRawBufferPointer
    private let copy: UnsafeMutableRawBufferPointer
    /// Why the plug-in said that it failed.
    var failure: String?
    /// What the host did not accept; the first counts.
    var refusal: String?

    private let recipe: [String: JSONValue]
    private let outputLimit: Int
    private var outputSize = 0
    private var outputs: [Output] = []
    private var outputNames: Set<String> = []
    private var texts: [CText] = []
    private var arrays: [UnsafeMutablePointer<Int64>] = []

    private struct Output {
        let name: String
        let type: ElementType
        let shape: [Int]
        /// The guard before, the elements, the guard behind.
        let memory: UnsafeMutableRawBufferPointer
        let size: Int
    }

    private static let guardSize = 64
    private static let guardByte: UInt8 = 0xC5
    /// What unwritten elements hold: large finite numbers, which no tolerance allows.
    private static let unwritten: UInt8 = 0x7E

    init(_ reader: inout MessageReader, outputLimit: Int) throws(MalformedMessage) {
        name = CText(try reader.string())
        op = CText(try reader.string())
        let text = try reader.string()
        recipeText = CText(text)
        guard case .object(let members)? = try? JSONValue(text: text) else { throw MalformedMessage() }
        recipe = members
        self.outputLimit = outputLimit
        var inputs: [HostedTensor] = []
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let (name, type, shape, size) = try reader.head()
            try reader.align()
            inputs.append(HostedTensor(name, type, shape, try reader.take(size)))
        }
        try reader.finish()
        self.inputs = inputs
        message = reader.bytes
        copy = .allocate(byteCount: max(1, reader.bytes.count), alignment: 64)
        copy.copyMemory(from: reader.bytes)
    }

    deinit {
        copy.deallocate()
        for output in outputs { AlignedMemory.free(output.memory) }
        for array in arrays { array.deallocate() }
    }

    func input(named name: String) -> HostedTensor? { inputs.first { $0.name.string == name } }

    // MARK: Recipe

    func string(_ key: String, _ value: UnsafeMutablePointer<UnsafePointer<CChar>?>) -> Int {
        guard let member = recipe[key] else { return TOUCHSTONE_ABSENT }
        guard case .string(let string) = member else { return TOUCHSTONE_WRONG_TYPE }
        let text = CText(string)
        texts.append(text)
        value.pointee = text.pointer
        return TOUCHSTONE_OK
    }

    func bool(_ key: String, _ value: UnsafeMutablePointer<Int32>) -> Int {
        guard let member = recipe[key] else { return TOUCHSTONE_ABSENT }
        guard case .bool(let bool) = member else { return TOUCHSTONE_WRONG_TYPE }
        value.pointee = bool ? 1 : 0
        return TOUCHSTONE_OK
    }

    func integer(_ key: String, _ value: UnsafeMutablePointer<Int64>) -> Int {
        guard let member = recipe[key] else { return TOUCHSTONE_ABSENT }
        guard case .integer(let integer) = member else { return TOUCHSTONE_WRONG_TYPE }
        value.pointee = integer
        return TOUCHSTONE_OK
    }

    func fp32(_ key: String, _ value: UnsafeMutablePointer<Float>) -> Int {
        if let member = recipe[key + "_bits"] {
            guard case .string(let digits) = member, digits.utf8.count == 8, let bits = UInt32(digits, radix: 16) else {
                return TOUCHSTONE_WRONG_TYPE
            }
            UnsafeMutableRawPointer(value).storeBytes(of: bits, as: UInt32.self)
            return TOUCHSTONE_OK
        }
        switch recipe[key] {
        case nil: return TOUCHSTONE_ABSENT
        case .number(let number)?: value.pointee = Float(number)
        case .integer(let integer)?: value.pointee = Float(integer)
        default: return TOUCHSTONE_WRONG_TYPE
        }
        return TOUCHSTONE_OK
    }

    func word(_ key: String, _ value: UnsafeMutablePointer<UInt64>) -> Int {
        guard let member = recipe[key] else { return TOUCHSTONE_ABSENT }
        guard case .string(let digits) = member, digits.utf8.count == 16, let bits = UInt64(digits, radix: 16) else {
            return TOUCHSTONE_WRONG_TYPE
        }
        value.pointee = bits
        return TOUCHSTONE_OK
    }

    func integers(
        _ key: String, _ values: UnsafeMutablePointer<UnsafePointer<Int64>?>, _ count: UnsafeMutablePointer<Int>
    ) -> Int {
        guard let member = recipe[key] else { return TOUCHSTONE_ABSENT }
        guard case .array(let elements) = member else { return TOUCHSTONE_WRONG_TYPE }
        var numbers: [Int64] = []
        for element in elements {
            guard case .integer(let number) = element else { return TOUCHSTONE_WRONG_TYPE }
            numbers.append(number)
        }
        let array = UnsafeMutablePointer<Int64>.allocate(capacity: max(1, numbers.count))
        array.initialize(from: numbers, count: numbers.count)
        arrays.append(array)
        values.pointee = UnsafePointer(array)
        count.pointee = numbers.count
        return TOUCHSTONE_OK
    }

    // MARK: Outputs

    func output(
        _ name: UnsafePointer<CChar>?, _ code: Int32, rank: UInt32, _ dims: UnsafePointer<Int64>?
    ) -> UnsafeMutableRawPointer? {
        func refuse(_ why: String) -> UnsafeMutableRawPointer? {
            refusal = refusal ?? why
            return nil
        }
        guard let name = name.map({ String(cString: $0) }), !name.isEmpty else {
            return refuse("declared an output without a name")
        }
        guard name.utf8.count <= 255 else {
            return refuse("declared an output whose name has \(name.utf8.count) bytes")
        }
        guard let type = ElementType(pluginCode: code) else {
            return refuse("declared outputs/\(name) of type \(code), which is none")
        }
        guard rank <= TOUCHSTONE_MAXIMUM_RANK else {
            return refuse(
                "declared outputs/\(name) of rank \(rank); at most \(TOUCHSTONE_MAXIMUM_RANK) dimensions are possible")
        }
        guard rank == 0 || dims != nil else { return refuse("declared outputs/\(name) without its dimensions") }
        let shape = (0..<Int(rank)).map { Int(dims?[$0] ?? 0) }
        guard let size = byteCount(type, shape) else {
            return refuse("declared outputs/\(name) with the dimensions \(shape), which are none")
        }
        guard size <= outputLimit - outputSize else {
            return refuse(
                "declared outputs/\(name) of \(size) bytes, \(type.rawValue) \(shape); one answer may have \(outputLimit)"
            )
        }
        guard outputNames.count < 65536 else { return refuse("declared more than 65536 outputs") }
        guard outputNames.insert(name).inserted else { return refuse("declared outputs/\(name) twice") }
        guard let memory = AlignedMemory.allocate(size + 2 * Self.guardSize), let start = memory.baseAddress else {
            return refuse("declared outputs/\(name) of \(size) bytes, for which there is no memory under the limit")
        }
        start.initializeMemory(as: UInt8.self, repeating: Self.guardByte, count: Self.guardSize)
        let data = start + Self.guardSize
        data.initializeMemory(as: UInt8.self, repeating: Self.unwritten, count: size)
        (data + size).initializeMemory(as: UInt8.self, repeating: Self.guardByte, count: Self.guardSize)
        outputSize += size
        outputs.append(Output(name: name, type: type, shape: shape, memory: memory, size: size))
        return data
    }

    /// What was written outside an output's elements.
    var overrun: String? {
        if !message.elementsEqual(copy[..<message.count]) {
            let changed = inputs.first { input in
                let size = input.count * input.type.byteWidth
                let offset = input.data - UnsafeRawPointer(message.baseAddress!)
                return size > 0
                    && !UnsafeRawBufferPointer(start: input.data, count: size).elementsEqual(
                        copy[offset..<offset + size])
            }
            return changed.map { "wrote into inputs/\($0.name.string)" } ?? "wrote between its inputs"
        }
        for output in outputs {
            let before = output.memory[..<Self.guardSize]
            if before.contains(where: { $0 != Self.guardByte }) {
                return "wrote before the first element of outputs/\(output.name)"
            }
            if output.memory[(Self.guardSize + output.size)...].contains(where: { $0 != Self.guardByte }) {
                return "wrote beyond the last element of outputs/\(output.name)"
            }
        }
        return nil
    }

    /// The message with the outputs.
    var answer: [UInt8] {
        var message = MessageWriter()
        message.byte(0)
        message.integer(UInt32(outputs.count))
        for output in outputs {
            message.head(of: output.name, output.type, output.shape)
            message.raw(output.memory[Self.guardSize..<Self.guardSize + output.size])
        }
        return message.bytes
    }
}

/// An input in the plug-in's process: what `touchstone_tensor` points to. The elements stay where the message has them.
private final class HostedTensor {
    let name: CText
    let type: ElementType
    let rank: Int
    let dims: UnsafeMutablePointer<Int64>
    let count: Int
    let data: UnsafeRawPointer

    init(_ name: String, _ type: ElementType, _ shape: [Int], _ bytes: UnsafeRawBufferPointer) {
        self.name = CText(name)
        self.type = type
        rank = shape.count
        dims = .allocate(capacity: max(1, shape.count))
        dims.initialize(from: shape.map(Int64.init), count: shape.count)
        count = shape.reduce(1, *)
        data = bytes.baseAddress ?? UnsafeRawPointer(dims)
    }

    deinit { dims.deallocate() }

    var handle: OpaquePointer { OpaquePointer(Unmanaged.passUnretained(self).toOpaque()) }
}

/// A string for C.
private final class CText {
    let string: String
    let pointer: UnsafePointer<CChar>

    init(_ string: String) {
        self.string = string
        let bytes = Array(string.utf8CString)
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        copy.initialize(from: bytes, count: bytes.count)
        pointer = UnsafePointer(copy)
    }

    deinit { pointer.deallocate() }
}

/// The functions of `touchstone_host`.
private enum HostTable {
    /// What the plug-in said in `touchstone_plugin_open`. The process has one thread that calls.
    nonisolated(unsafe) static var openingFailure: String?

    private static func hosted(_ handle: OpaquePointer?) -> HostedCase? {
        handle.map { Unmanaged<HostedCase>.fromOpaque(UnsafeRawPointer($0)).takeUnretainedValue() }
    }

    private static func tensor(_ handle: OpaquePointer?) -> HostedTensor? {
        handle.map { Unmanaged<HostedTensor>.fromOpaque(UnsafeRawPointer($0)).takeUnretainedValue() }
    }

    /// Looks a key up; what is asked wrongly is of the wrong type.
    private static func look(
        _ handle: OpaquePointer?, _ key: UnsafePointer<CChar>?, _ body: (HostedCase, String) -> Int
    ) -> touchstone_status {
        guard let question = hosted(handle), let key else { return touchstone_status(TOUCHSTONE_WRONG_TYPE) }
        return touchstone_status(body(question, String(cString: key)))
    }

    /// As long as the process.
    nonisolated(unsafe) static let shared: UnsafePointer<touchstone_host> = {
        let table = UnsafeMutablePointer<touchstone_host>.allocate(capacity: 1)
        table.initialize(
            to: touchstone_host(
                size: UInt32(MemoryLayout<touchstone_host>.size), version: UInt32(TOUCHSTONE_VERSION),
                operation: { hosted($0)?.op.pointer },
                case_name: { hosted($0)?.name.pointer },
                recipe_string: { handle, key, value in
                    look(handle, key) { question, key in value.map { question.string(key, $0) } ?? TOUCHSTONE_WRONG_TYPE
                    }
                },
                recipe_bool: { handle, key, value in
                    look(handle, key) { question, key in value.map { question.bool(key, $0) } ?? TOUCHSTONE_WRONG_TYPE }
                },
                recipe_integer: { handle, key, value in
                    look(handle, key) { question, key in
                        value.map { question.integer(key, $0) } ?? TOUCHSTONE_WRONG_TYPE
                    }
                },
                recipe_fp32: { handle, key, value in
                    look(handle, key) { question, key in value.map { question.fp32(key, $0) } ?? TOUCHSTONE_WRONG_TYPE }
                },
                recipe_u64: { handle, key, value in
                    look(handle, key) { question, key in value.map { question.word(key, $0) } ?? TOUCHSTONE_WRONG_TYPE }
                },
                recipe_integers: { handle, key, values, count in
                    look(handle, key) { question, key in
                        guard let values, let count else { return TOUCHSTONE_WRONG_TYPE }
                        return question.integers(key, values, count)
                    }
                },
                recipe_json: { hosted($0)?.recipeText.pointer },
                input_at: { handle, index in
                    guard let question = hosted(handle), index >= 0, index < question.inputs.count else { return nil }
                    return question.inputs[index].handle
                },
                find_input: { handle, name in
                    guard let name else { return nil }
                    return hosted(handle)?.input(named: String(cString: name))?.handle
                },
                input: { handle, name, code, rank in
                    guard let question = hosted(handle), let name = name.map({ String(cString: $0) }) else {
                        return nil
                    }
                    let expected =
                        "\(ElementType(pluginCode: code)?.rawValue ?? "type \(code)") of rank \(rank)"
                    guard let input = question.input(named: name) else {
                        question.failure = question.failure ?? "the case has no inputs/\(name), expected \(expected)"
                        return nil
                    }
                    guard Int32(input.type.pluginCode) == code, input.rank == rank else {
                        question.failure =
                            question.failure
                            ?? "inputs/\(name) is \(input.type.rawValue) of rank \(input.rank), expected \(expected)"
                        return nil
                    }
                    return input.handle
                },
                name: { tensor($0)?.name.pointer },
                type: { Int32(tensor($0)?.type.pluginCode ?? 0) },
                rank: { UInt32(tensor($0)?.rank ?? 0) },
                dims: { tensor($0).map { UnsafePointer($0.dims) } },
                count: { tensor($0)?.count ?? 0 },
                data: { tensor($0)?.data },
                output: { handle, name, code, rank, dims in
                    hosted(handle)?.output(name, code, rank: rank, dims)
                },
                fail: { handle, message in
                    let text = message.map { String(String(cString: $0).prefix(2000)) }
                    if let question = hosted(handle) {
                        question.failure = question.failure ?? text
                    } else {
                        openingFailure = openingFailure ?? text
                    }
                }))
        return UnsafePointer(table)
    }()
}
