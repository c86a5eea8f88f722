import Cases
import Foundation
import GoldenIO
import Testing

@Suite struct RefusalTests {
    struct Refusal: Sendable, CustomTestStringConvertible {
        let name: String
        let kind: GoldenIOError.Kind
        let words: String
        var testDescription: String { name }
        init(_ name: String, _ kind: GoldenIOError.Kind, _ words: String) {
            self.name = name
            self.kind = kind
            self.words = words
        }
    }

    static let inCase: [Refusal] = [
        Refusal("boolean", .wrongType, "an enumeration of 2 members (as h5py stores booleans)"),
        Refusal("compound", .wrongType, "a compound type of 2 members"),
        Refusal("complex", .wrongType, "expected one of bf16, fp16"),
        Refusal("strings", .wrongType, "strings"),
        Refusal("opaque", .wrongType, "opaque elements of 2 bytes"),
        Refusal("sequences", .wrongType, "sequences of variable length"),
        Refusal("arrays", .wrongType, "arrays as elements"),
        Refusal("references", .wrongType, "references"),
        Refusal("null", .wrongType, "a null dataspace"),
        Refusal("long-double", .wrongType, "floats of 16 bytes"),
        Refusal("odd-bias", .wrongType, "floats of 4 bytes with 8 exponent and 23 fraction bits, bias 126"),
        Refusal("24-bit", .wrongType, "integers of 24 bits in 4 bytes"),
        Refusal("group", .refused, "a soft link"),
        Refusal("soft-cycle", .refused, "a soft link"),
        Refusal("external-link", .refused, "a link to another file"),
        Refusal("soft-group", .refused, "a soft link"),
        Refusal("soft-case", .refused, "a soft link"),
        Refusal("hard-cycle", .wrongType, "is a group, expected a dataset"),
        Refusal("nested", .wrongType, "x is a group, expected a dataset"),
        Refusal("dataset-as-group", .wrongType, "inputs is a dataset, expected a group"),
        Refusal("dataset-as-case", .wrongType, "is a dataset, expected a group"),
        Refusal("named-type", .wrongType, "a named datatype"),
        Refusal("virtual", .refused, "a virtual dataset"),
        Refusal("external-storage", .refused, "bytes are in other files"),
        Refusal("lzf", .refused, "filter 32000"),
        Refusal("scale-offset", .refused, "filter 6"),
        Refusal("never-filled", .damaged, "no fill value"),
        Refusal("short-chunk", .damaged, "has 592 bytes, expected 600"),
        Refusal("short-chunk-gzip", .damaged, "has 592 bytes, expected 600"),
        Refusal("fill-over-limit", .tooLarge, "takes 536870912 bytes, of which the file"),
        Refusal(
            "huge-empty", .tooLarge, "[1000000000000000] takes 1000000000000000 bytes, the limit leaves 8589934592"),
        Refusal("int16-as-bf16", .wrongType, "the bits of bf16 are stored as uint16"),
        Refusal("bit-field", .wrongType, "a bit field of 1 bytes"),
        Refusal("huge", .tooLarge, "[1048576, 1048576, 1048576]"),
        Refusal("overflowing", .tooLarge, "[1073741824, 1073741824, 1024]"),
        Refusal("over-limit", .tooLarge, "takes 17179869184 bytes, the limit leaves 8589934592"),
        Refusal("compressed-huge", .tooLarge, "takes 1073741824 bytes"),
        Refusal("wrong-element-type", .wrongType, "says bf16, but the dataset holds fp64"),
        Refusal("unknown-element-type", .malformed, "float7"),
        Refusal("recipe-array", .malformed, "not a JSON object"),
        Refusal("recipe-text", .malformed, "not JSON"),
        Refusal("op-number", .wrongType, "expected strings"),
        Refusal("op-empty", .wrongType, "expected strings"),
        Refusal("op-two", .wrongType, "2 strings, expected one"),
        Refusal("op-not-utf8", .malformed, "not UTF-8"),
        Refusal("composed-names", .duplicate, "Unicode"),
        Refusal("absent", .missing, "no such case"),
        Refusal("boolean/inputs", .missing, "no such case"),
        Refusal(".", .missing, "no such case"),
        Refusal("", .missing, "no such case"),
        Refusal("nul\0", .missing, "no such case"),
    ]

    @Test("What a golden file must not hold is refused by name", arguments: inCase)
    func refusedInCase(refusal: Refusal) throws {
        let path = try fixture("refused")
        let file = try GoldenFile(reading: path)
        let error = try #require(failure { try file.readCase(refusal.name) })
        #expect(error.kind == refusal.kind, "\(error)")
        #expect(error.message.contains(refusal.words), "\(error)")
        #expect(error.caseName == refusal.name)
        #expect(error.file == path)
        #expect(error.description.hasPrefix("\(path): case \(refusal.name): "), "\(error)")
    }

    @Test("Every case of that file is refused: the list above is complete")
    func complete() throws {
        let names = try GoldenFile(reading: fixture("refused")).caseNames
        #expect(Set(names).subtracting(Self.inCase.map(\.name)) == [])
    }

    @Test("An error about a dataset names it")
    func namesDataset() throws {
        let error = failure { try GoldenFile(reading: fixture("refused")).readCase("boolean") }
        #expect(error?.dataset == "inputs/x")
        #expect(error?.description.contains(": case boolean: inputs/x: holds an enumeration") == true)
    }

    @Test("The other cases of a file with a bad one can be read, and groups that are not asked for are not looked at")
    func others() throws {
        let file = try GoldenFile(reading: fixture("refused"))
        _ = failure { try file.readCase("virtual") }
        #expect(try file.readCase("boolean", groups: [.outputs]) == GoldenCase(name: "boolean", op: ""))
    }

    static let files: [Refusal] = [
        Refusal("name-not-utf8", .invalidName, "not UTF-8"),
        Refusal("no-cases", .missing, "no group /cases"),
        Refusal("soft-cases", .refused, "cases is a soft link"),
        Refusal("bad-seed", .malformed, "seed is \"12\", expected 16 hex digits"),
    ]

    @Test("A file that is no golden file", arguments: files)
    func refusedFile(refusal: Refusal) throws {
        let error = try #require(failure { try GoldenFile(reading: fixture(refusal.name)) })
        #expect(error.kind == refusal.kind, "\(error)")
        #expect(error.message.contains(refusal.words), "\(error)")
    }

    @Test("No file, a folder, a device, an empty file, text, a path with NUL")
    func unreadable() throws {
        let folder = try TemporaryFolder()
        #expect(failure { try GoldenFile(reading: folder["absent.h5"]) }?.kind == .fileSystem)
        #expect(failure { try GoldenFile(reading: folder.path) }?.kind == .fileSystem)
        #expect(failure { try GoldenFile(reading: "/dev/zero") }?.kind == .fileSystem)
        #expect(failure { try GoldenFile(reading: "") }?.kind == .fileSystem)
        #expect(failure { try GoldenFile(reading: "a\0b") }?.kind == .invalidName)
        try write([], toFile: folder["empty.h5"])
        #expect(failure { try GoldenFile(reading: folder["empty.h5"]) }?.kind == .notHDF5)
        try write(Array("a,b\n1,2\n".utf8), toFile: folder["text.h5"])
        #expect(failure { try GoldenFile(reading: folder["text.h5"]) }?.kind == .notHDF5)
    }

    @Test("The limit counts all the tensors that one read takes")
    func limit() throws {
        let folder = try TemporaryFolder()
        var goldenCase = GoldenCase(name: "case", op: "test")
        goldenCase.inputs.append("a", try sampleTensor(.uint8, [600], seed: 1))
        goldenCase.inputs.append("b", try sampleTensor(.uint8, [400], seed: 2))
        try writeFile(folder["a.h5"], [goldenCase])
        #expect(try GoldenFile(reading: folder["a.h5"], byteLimit: 1000).readCase("case") == goldenCase)
        let error = failure { try GoldenFile(reading: folder["a.h5"], byteLimit: 999).readCase("case") }
        #expect(error?.kind == .tooLarge)
        #expect(error?.dataset == "inputs/b")
    }

    static let badNames = ["", ".", "..", "a/b", "/", "nul\0"]

    @Test("Names that HDF5 would read as paths are not written, and nothing is left behind", arguments: badNames)
    func badName(name: String) throws {
        let folder = try TemporaryFolder()
        let tensor = Tensor([1.0], shape: [1])
        for goldenCase in [
            GoldenCase(name: name, op: "test"),
            GoldenCase(name: "case", op: "test", inputs: [NamedTensor(name, tensor)]),
        ] {
            let writer = try GoldenWriter(path: folder["a.h5"], header: header)
            let error = try #require(failure { try writer.write(goldenCase) })
            #expect(error.kind == .invalidName)
            #expect(try folder.contents == [])
            #expect(failure { try writer.write(GoldenCase(name: "good", op: "")) }?.kind == .closed)
            #expect(failure { try writer.finish() }?.kind == .closed)
        }
    }

    @Test("What cannot be written: a case twice, a dataset twice, NaN in a recipe, NUL in a string, 33 dimensions")
    func unwritable() throws {
        let folder = try TemporaryFolder()
        let tensor = Tensor([1.0], shape: [1])
        let twice = GoldenCase(
            name: "b", op: "", inputs: TensorGroup([NamedTensor("x", tensor), NamedTensor("x", tensor)]))
        let deep = try Tensor(type: .uint8, shape: [Int](repeating: 1, count: 33), bytes: [1])
        let cases: [(GoldenCase, GoldenIOError.Kind)] = [
            (GoldenCase(name: "a", op: ""), .duplicate),
            (twice, .duplicate),
            (GoldenCase(name: "b", op: "", recipe: ["x": .number(.nan)]), .malformed),
            (GoldenCase(name: "b", op: "", recipe: ["x": .array([.number(-.infinity)])]), .malformed),
            (GoldenCase(name: "b", op: "nul\0"), .malformed),
            (GoldenCase(name: "b", op: "", specClauses: ["B1", "\0"]), .malformed),
            (GoldenCase(name: "b", op: "", inputs: [NamedTensor("x", deep)]), .tooLarge),
        ]
        for (goldenCase, kind) in cases {
            let writer = try GoldenWriter(path: folder["a.h5"], header: header)
            try writer.write(GoldenCase(name: "a", op: ""))
            let error = failure { try writer.write(goldenCase) }
            #expect(error?.kind == kind, "\(String(describing: error))")
            #expect(error?.caseName == goldenCase.name)
            #expect(try folder.contents == [])
        }
        var bad = header
        bad.tier = "\0"
        #expect(failure { try GoldenWriter(path: folder["a.h5"], header: bad) }?.kind == .malformed)
        #expect(try folder.contents == [])
    }

    @Test("A writer that is dropped leaves nothing; one that has finished writes no more")
    func dropped() throws {
        let folder = try TemporaryFolder()
        try write([1, 2, 3], toFile: folder["a.h5"])
        do {
            let writer = try GoldenWriter(path: folder["a.h5"], header: header)
            try writer.write(sampleCases()[0])
            #expect(try folder.contents.count == 2)
        }
        #expect(try folder.contents == ["a.h5"])
        #expect(try bytes(ofFile: folder["a.h5"]) == [1, 2, 3])

        let writer = try GoldenWriter(path: folder["a.h5"], header: header)
        try writer.finish()
        #expect(failure { try writer.finish() }?.kind == .closed)
        #expect(failure { try writer.write(GoldenCase(name: "late", op: "")) }?.kind == .closed)
        #expect(try GoldenFile(reading: folder["a.h5"]).caseNames == [])
    }

    @Test("No such folder, a folder or device in the file's place")
    func unwritablePlace() throws {
        let folder = try TemporaryFolder()
        for path in [folder["absent/a.h5"], folder.path, "/dev/null", "", "nul\0"] {
            #expect(failure { try GoldenWriter(path: path, header: header) } != nil, "\(path)")
        }
        // A folder that appears while the file is written.
        let writer = try GoldenWriter(path: folder["a.h5"], header: header)
        try FileManager.default.createDirectory(atPath: folder["a.h5"], withIntermediateDirectories: false)
        #expect(failure { try writer.finish() }?.kind == .fileSystem)
        #expect(try folder.contents == ["a.h5"])
    }
}
