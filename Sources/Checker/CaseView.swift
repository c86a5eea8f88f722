import Cases
import GoldenIO
import Goldens
import JSON

/// A case whose tensors are in memory or in a file, read in parts.
struct CaseView: Sendable {
    struct NamedSource: Sendable {
        let name: String
        let tensor: any TensorSource
    }

    let name: String
    let op: String
    let why: String
    let recipe: [String: JSONValue]
    private let groups: [CaseGroup: [NamedSource]]
    /// Why an output cannot be read, by its name.
    private(set) var unreadableOutputs: [String: String] = [:]
    /// What cannot be read among the inputs.
    private(set) var unreadableInput: String?

    /// A case of a candidate's file: a dataset that cannot be read is not there, but said.
    ///
    /// - Throws: `GoldenIOError` for what concerns the case as a whole.
    init(ofCandidate file: GoldenFile, _ name: String) throws {
        var outputs: [String: String] = [:]
        var input: String?
        let stored = try file.openCase(name, groups: [.inputs, .outputs]) { group, name, error in
            let text = "\(group.rawValue)/\(name): \(error.message)"
            if group == .outputs { outputs[name] = text } else { input = input ?? text }
        }
        self.init(stored)
        (unreadableOutputs, unreadableInput) = (outputs, input)
    }

    init(_ goldenCase: GoldenCase) {
        name = goldenCase.name
        op = goldenCase.op
        why = goldenCase.why
        recipe = goldenCase.recipe
        groups = Dictionary(
            uniqueKeysWithValues: CaseGroup.allCases.map { group in
                (group, goldenCase[group].tensors.map { NamedSource(name: $0.name, tensor: $0.tensor) })
            })
    }

    init(_ stored: StoredCase) {
        name = stored.name
        op = stored.op
        why = stored.why
        recipe = stored.recipe
        groups = stored.tensors.mapValues { $0.map { NamedSource(name: $0.name, tensor: $0.tensor) } }
    }

    /// Whether all datasets that are there can be read.
    var isReadable: Bool { unreadableOutputs.isEmpty && unreadableInput == nil }

    subscript(group: CaseGroup) -> [NamedSource] { groups[group] ?? [] }

    subscript(group: CaseGroup, name: String) -> (any TensorSource)? {
        groups[group]?.first { $0.name == name }?.tensor
    }

    /// A number of the recipe; nil if it has none of that name.
    func number(_ key: String) -> Double? { recipe.fp32(key).map(Double.init) }

    func integer(_ key: String) -> Int? {
        if case .integer(let value)? = recipe[key] { Int(exactly: value) } else { nil }
    }

    func string(_ key: String) -> String? {
        if case .string(let value)? = recipe[key] { value } else { nil }
    }
}

extension TensorSource {
    /// How many elements are in memory at a time.
    static var slab: Int { 1 << 17 }

    /// The bits of a range.
    func words(_ range: Range<Int>) throws(GoldenIOError) -> [UInt64] { try elements(range).allBits }

    /// The values of a range as doubles; exact for all types but 64-bit integers.
    func doubles(_ range: Range<Int>) throws(GoldenIOError) -> [Double] {
        let part = try elements(range)
        guard let fields = FloatFields(type) else { return (0..<part.count).map { part.doubleValue(at: $0) } }
        return part.allBits.map(fields.value)
    }
}

extension Tensor {
    /// The bits of every element, zero-extended.
    var allBits: [UInt64] {
        let (count, width) = (count, type.byteWidth)
        return bytes.withUnsafeBytes { raw in
            switch width {
            case 1: (0..<count).map { UInt64(raw[$0]) }
            case 2:
                (0..<count).map {
                    UInt64(UInt16(littleEndian: raw.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self)))
                }
            case 4:
                (0..<count).map {
                    UInt64(UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
                }
            default:
                (0..<count).map { UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)) }
            }
        }
    }
}
