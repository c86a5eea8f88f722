import Cases
import Foundation
import GoldenIO

/// A folder of its own, removed at the end.
final class TemporaryFolder {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/touchstone-golden-io-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    subscript(name: String) -> String { path + "/" + name }

    /// Everything in the folder, hidden files too.
    var contents: [String] { get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() } }
}

func fixture(_ name: String) throws -> String {
    guard let path = Bundle.module.path(forResource: name, ofType: "h5", inDirectory: "Fixtures") else {
        throw MissingFixture(name: name)
    }
    return path
}

struct MissingFixture: Error { let name: String }

func bytes(ofFile path: String) throws -> [UInt8] { try [UInt8](Data(contentsOf: URL(fileURLWithPath: path))) }

/// Writes a file without waiting for the disk, as `Data.write` does: thousands are written here.
func write(_ bytes: [UInt8], toFile path: String) throws {
    try? FileManager.default.removeItem(atPath: path)
    guard let stream = OutputStream(toFileAtPath: path, append: false) else { throw CannotWrite(path: path) }
    stream.open()
    defer { stream.close() }
    guard bytes.isEmpty || stream.write(bytes, maxLength: bytes.count) == bytes.count else {
        throw CannotWrite(path: path)
    }
}

struct CannotWrite: Error { let path: String }

/// The error that `body` throws; nil if it throws none or another.
func failure<Result>(_ body: () throws -> Result) -> GoldenIOError? {
    do {
        _ = try body()
        return nil
    } catch {
        return error as? GoldenIOError
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Randomness {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}

let header = GoldenHeader(
    specVersion: "1.0", suite: "bf16", tier: "quick", generator: "GoldenIOTests", seed: 0x0123_4567_89AB_CDEF)

/// A tensor whose bits follow from its type, shape and seed: every pattern may occur, signalling NaNs too.
func sampleTensor(_ type: ElementType, _ shape: [Int], seed: UInt64) throws -> Tensor {
    var randomness = Randomness(state: seed)
    let count = shape.reduce(type.byteWidth, *)
    return try Tensor(
        type: type, shape: shape, bytes: (0..<count).map { _ in UInt8(truncatingIfNeeded: randomness.next()) })
}

/// A few cases of every kind of content, without scalars: those carry no checksum.
func sampleCases() throws -> [GoldenCase] {
    var cases: [GoldenCase] = []
    for (index, name) in ["tie-to-even", "größte-Zahl", "a b.c", "aaa"].enumerated() {
        var goldenCase = GoldenCase(
            name: name, op: "bf16.add", why: index == 0 ? "" : "caught once: ±0 🙂", specClauses: ["B1", "B3", "F2"],
            recipe: ["rounding": "rne", "kappa": .number(0.1), "list": .array([.null, true, 3])])
        for (number, type) in ElementType.allCases.enumerated() {
            goldenCase.inputs.append(
                "z\(number)-\(type.rawValue)", try sampleTensor(type, [3, index + 1], seed: UInt64(number)))
        }
        if index > 0 { goldenCase.outputs.append("r", try sampleTensor(.bf16, [5], seed: 5)) }
        if index > 1 {
            goldenCase.truth.append("r", Tensor([1.5, -0.0], shape: [2]))
            goldenCase.bounds.append("r", Tensor([0.25, 0.5], shape: [1, 2]))
            goldenCase.intermediates.append("second", Tensor([Int32(1)], shape: [1]))
            goldenCase.intermediates.append("first", Tensor([] as [Float], shape: [0, 4]))
        }
        cases.append(goldenCase)
    }
    return cases
}

func writeFile(_ path: String, _ cases: [GoldenCase], header: GoldenHeader = header) throws {
    let writer = try GoldenWriter(path: path, header: header)
    for goldenCase in cases { try writer.write(goldenCase) }
    try writer.finish()
}

func readFile(_ path: String) throws(GoldenIOError) -> [GoldenCase] {
    let file = try GoldenFile(reading: path)
    var cases: [GoldenCase] = []
    for name in file.caseNames { cases.append(try file.readCase(name)) }
    return cases
}
