import Cases
import Engine
import Goldens
import Kernels

/// Buffers that live as long as the question they were allocated for.
final class Memory {
    private var buffers: [UnsafeMutableRawPointer] = []

    deinit { free() }

    /// At least one element, all zero, aligned to 64 bytes.
    func zeros<Element: BitwiseCopyable>(_ count: Int, _: Element.Type) -> UnsafeMutablePointer<Element> {
        let room = max(1, count)
        let buffer = allocate(room, Element.self)
        buffer.initializeMemory(as: UInt8.self, repeating: 0, count: room * MemoryLayout<Element>.stride)
        return buffer.bindMemory(to: Element.self, capacity: room)
    }

    private func allocate<Element>(_ count: Int, _: Element.Type) -> UnsafeMutableRawPointer {
        let bytes = count * MemoryLayout<Element>.stride
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        buffers.append(buffer)
        return buffer
    }

    /// The elements of an array; one zero of an empty one.
    func copy<Element: BitwiseCopyable>(_ array: [Element]) -> UnsafeMutablePointer<Element> {
        if array.isEmpty { return zeros(0, Element.self) }
        return allocate(array.count, Element.self).initializeMemory(as: Element.self, from: array, count: array.count)
    }

    /// Frees every buffer.
    func free() {
        for buffer in buffers { buffer.deallocate() }
        buffers = []
    }
}

/// A checked case, and what the engine answers it with.
///
/// An input that the case leaves out is a buffer of one zero that nobody reads.
struct EngineQuestion {
    let given: CheckedCase
    let context: EngineContext
    let memory: Memory

    var layers: Layers { Layers(context) }
    var rows: RowKernels { context.kernels.rows }

    /// The size that a letter of the signature is bound to.
    func size(_ letter: String) -> Int { given.size(letter) }

    /// The bits of a bf16 input.
    func bf16(_ name: String) -> UnsafeMutablePointer<UInt16> { memory.copy(given.bf16(name)) }

    /// An fp32 input.
    func floats(_ name: String) -> UnsafeMutablePointer<Float> { memory.copy(given.floats(name)) }

    /// A bf16 input as fp32, exactly.
    func widened(_ name: String, _ count: Int) -> UnsafeMutablePointer<Float> {
        let values = zeros(count, Float.self)
        rows.widen(bf16(name), values, count)
        return values
    }

    /// An integer input.
    func integers<Element: FixedWidthInteger & TensorInteger & BitwiseCopyable>(
        _ name: String, _: Element.Type
    ) -> UnsafeMutablePointer<Element> {
        memory.copy(given.integers(name, Element.self))
    }

    /// Room for results.
    func zeros<Element: BitwiseCopyable>(_ count: Int, _: Element.Type) -> UnsafeMutablePointer<Element> {
        memory.zeros(count, Element.self)
    }

    /// Stores fp32 results in the format that a key of the recipe names, each rounded once.
    func output(
        _ name: String, _ values: UnsafeMutablePointer<Float>, _ shape: [Int], as key: String,
        in result: inout CaseResult
    ) {
        let count = shape.reduce(1, *)
        let format: ElementType = given.choice(key)
        switch format {
        case .bf16:
            let bits = zeros(count, UInt16.self)
            rows.round(values, bits, count)
            result.output(name, bf16: bits, shape)
        case .fp16:
            let bits = (0..<count).map { Binary16.rounded(values[$0]) }
            result.output(name, Tensor(fp16: bits, shape: shape))
        default: result.output(name, values, shape)
        }
    }
}

extension CaseResult {
    /// fp32 results where they lie.
    mutating func output(_ name: String, _ values: UnsafeMutablePointer<Float>, _ shape: [Int]) {
        output(name, elements(values, shape), shape)
    }

    /// bf16 results where they lie.
    mutating func output(_ name: String, bf16 bits: UnsafeMutablePointer<UInt16>, _ shape: [Int]) {
        output(name, bf16: elements(bits, shape), shape)
    }

    /// Bytes where they lie.
    mutating func output(_ name: String, bytes: UnsafeMutablePointer<UInt8>, _ shape: [Int]) {
        output(name, Tensor(elements(bytes, shape), shape: shape))
    }
}

private func elements<Element>(_ start: UnsafeMutablePointer<Element>, _ shape: [Int]) -> [Element] {
    Array(UnsafeBufferPointer(start: start, count: shape.reduce(1, *)))
}
