// An implementation in Swift that touchstone validate --library judges. From the package's folder:
//
//   swiftc -O -parse-as-library -emit-library -I Sources/CTouchstonePlugin/include Tools/examples/plugin.swift -o libexample.so
//   touchstone validate --library ./libexample.so
//
// It has random.philox, random.uniform, math.sqrt, math.reciprocal and layer.relu2. Any language that can export two C
// functions can do the same: no library of Touchstone is linked.

import CTouchstonePlugin

/// The host's functions, for the plug-in's one thread.
nonisolated(unsafe) private var host: UnsafePointer<touchstone_host>!

/// A failure whose reason the host has noted.
private struct Refused: Error {}

/// One case, in Swift's terms.
private struct Question {
    let handle: OpaquePointer

    var operation: String { String(cString: host.pointee.operation(handle)!) }

    /// An input's elements and dimensions.
    func input<Element>(_ name: String, _ type: Int, rank: UInt32, as: Element.Type) throws -> (
        elements: UnsafeBufferPointer<Element>, dims: [Int64]
    ) {
        guard let tensor = host.pointee.input(handle, name, touchstone_type(type), rank) else { throw Refused() }
        let elements = UnsafeBufferPointer(
            start: host.pointee.data(tensor)!.assumingMemoryBound(to: Element.self), count: host.pointee.count(tensor))
        return (elements, Array(UnsafeBufferPointer(start: host.pointee.dims(tensor), count: Int(rank))))
    }

    /// Declares an output and writes it.
    func output<Element>(_ name: String, _ type: Int, _ dims: [Int64], _ values: [Element]) throws {
        guard
            let memory = host.pointee.output(handle, name, touchstone_type(type), UInt32(dims.count), dims)
        else { throw Refused() }
        memory.assumingMemoryBound(to: Element.self).update(from: values, count: values.count)
    }
}

/// Philox4x32-10 (clause G1).
private func philox(_ key: (UInt32, UInt32), _ counter: [UInt32]) -> [UInt32] {
    var (k0, k1) = key
    var c = counter
    for _ in 0..<10 {
        let a = UInt64(c[0]) * 0xD251_1F53
        let b = UInt64(c[2]) * 0xCD9E_8D57
        c = [
            UInt32(b >> 32) ^ c[1] ^ k0, UInt32(truncatingIfNeeded: b), UInt32(a >> 32) ^ c[3] ^ k1,
            UInt32(truncatingIfNeeded: a),
        ]
        k0 &+= 0x9E37_79B9
        k1 &+= 0xBB67_AE85
    }
    return c
}

private func answer(_ question: Question) throws -> Int {
    switch question.operation {
    case "random.philox":
        let (key, dims) = try question.input("key", TOUCHSTONE_UINT32, rank: 2, as: UInt32.self)
        let (counter, _) = try question.input("counter", TOUCHSTONE_UINT32, rank: 2, as: UInt32.self)
        var words: [UInt32] = []
        for row in 0..<Int(dims[0]) {
            words += philox((key[2 * row], key[2 * row + 1]), Array(counter[4 * row..<4 * row + 4]))
        }
        try question.output("words", TOUCHSTONE_UINT32, [dims[0], 4], words)
    case "random.uniform":
        let (words, dims) = try question.input("words", TOUCHSTONE_UINT32, rank: 1, as: UInt32.self)
        try question.output("x", TOUCHSTONE_FP32, dims, words.map { Float(2 * ($0 >> 9) + 1) * 0x1p-24 })
    case "math.sqrt":
        let (x, dims) = try question.input("x", TOUCHSTONE_FP32, rank: 1, as: Float.self)
        try question.output("y", TOUCHSTONE_FP32, dims, x.map { $0.squareRoot() })
    case "math.reciprocal":
        let (x, dims) = try question.input("x", TOUCHSTONE_FP32, rank: 1, as: Float.self)
        try question.output("y", TOUCHSTONE_FP32, dims, x.map { 1 / $0 })
    case "layer.relu2":
        let (x, dims) = try question.input("x", TOUCHSTONE_BF16, rank: 1, as: UInt16.self)
        let (dy, _) = try question.input("dy", TOUCHSTONE_FP32, rank: 1, as: Float.self)
        let positive = x.map { bits in
            let value = Float(bitPattern: UInt32(bits) << 16)
            return value > 0 || value.isNaN ? value : 0
        }
        try question.output("y", TOUCHSTONE_FP32, dims, positive.map { $0 * $0 })
        try question.output("dx", TOUCHSTONE_FP32, dims, zip(positive, dy).map { $0 == 0 ? 0 : $1 * (2 * $0) })
    default: return TOUCHSTONE_UNSUPPORTED
    }
    return TOUCHSTONE_OK
}

@_cdecl("touchstone_plugin_version")
public func pluginVersion() -> UInt32 { UInt32(TOUCHSTONE_VERSION) }

@_cdecl("touchstone_plugin_open")
public func open(_ given: UnsafePointer<touchstone_host>) -> UnsafePointer<touchstone_plugin>? {
    host = given
    // As long as the process.
    let plugin = UnsafeMutablePointer<touchstone_plugin>.allocate(capacity: 1)
    let name: StaticString = "the example in Swift"
    plugin.initialize(
        to: touchstone_plugin(
            size: UInt32(MemoryLayout<touchstone_plugin>.size), version: UInt32(TOUCHSTONE_VERSION),
            name: UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self), state: nil,
            evaluate: { _, handle in
                guard let handle else { return touchstone_status(TOUCHSTONE_FAILED) }
                do { return touchstone_status(try answer(Question(handle: handle))) } catch {
                    return touchstone_status(TOUCHSTONE_FAILED)
                }
            },
            close: nil))
    return UnsafePointer(plugin)
}
