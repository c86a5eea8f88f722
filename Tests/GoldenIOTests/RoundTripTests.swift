import Cases
import GoldenIO
import Testing

@Suite struct RoundTripTests {
    static let shapes: [[Int]] = [
        [], [1], [7], [0], [2, 3], [0, 3], [3, 0], [2, 3, 4], [1, 1, 1], [2, 0, 2], [2, 3, 1, 4],
    ]

    @Test("F1: every element type and shape comes back bit for bit", arguments: ElementType.allCases)
    func tensor(type: ElementType) throws {
        let folder = try TemporaryFolder()
        var goldenCase = GoldenCase(name: "case", op: "test")
        for (index, shape) in Self.shapes.enumerated() {
            goldenCase.inputs.append("\(shape)", try sampleTensor(type, shape, seed: UInt64(index)))
        }
        try writeFile(folder["a.h5"], [goldenCase])
        let found = try readFile(folder["a.h5"])
        for named in goldenCase.inputs.tensors { #expect(found[0].inputs[named.name] == named.tensor) }
        #expect(found == [goldenCase])
    }

    @Test("F2: NaN payloads, signalling NaNs and the sign of zero are kept")
    func payloads() throws {
        let folder = try TemporaryFolder()
        var goldenCase = GoldenCase(name: "case", op: "test")
        goldenCase.inputs.append("bf16", Tensor(bf16: Array(UInt16.min...UInt16.max), shape: [65536]))
        goldenCase.inputs.append("fp16", Tensor(fp16: Array(UInt16.min...UInt16.max), shape: [256, 256]))
        goldenCase.inputs.append(
            "fp32", Tensor(fp32: [0x7F80_0001, 0xFFBF_FFFF, 0x7FC0_1234, 0x8000_0000], shape: [4]))
        goldenCase.inputs.append(
            "fp64", Tensor(fp64: [0x7FF0_0000_0000_0001, 0xFFF7_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000], shape: [3]))
        try writeFile(folder["a.h5"], [goldenCase])
        #expect(try readFile(folder["a.h5"]) == [goldenCase])
    }

    @Test("Header, attributes, groups and the order of cases and datasets come back")
    func everything() throws {
        let folder = try TemporaryFolder()
        let cases = try sampleCases()
        try writeFile(folder["a.h5"], cases)
        let file = try GoldenFile(reading: folder["a.h5"])
        #expect(file.header == header)
        #expect(file.path == folder["a.h5"])
        #expect(file.caseNames == cases.map(\.name))
        // Read out of order: a case does not depend on those read before.
        for goldenCase in cases.reversed() {
            let found = try file.readCase(goldenCase.name)
            #expect(found == goldenCase)
            #expect(found.inputs.names == goldenCase.inputs.names)
            #expect(found.intermediates.names == goldenCase.intermediates.names)
        }
        #expect(try folder.contents == ["a.h5"])
    }

    @Test("Only the groups that are asked for are read")
    func groups() throws {
        let folder = try TemporaryFolder()
        let cases = try sampleCases()
        try writeFile(folder["a.h5"], cases)
        let file = try GoldenFile(reading: folder["a.h5"])
        for group in CaseGroup.allCases {
            let found = try file.readCase("aaa", groups: [group])
            for other in CaseGroup.allCases { #expect(found[other] == (other == group ? cases[3][group] : [])) }
        }
    }

    @Test("A thousand cases keep their order, which is not that of their names")
    func manyCases() throws {
        let folder = try TemporaryFolder()
        let names = (0..<1000).map { "case-\(999 - $0)" }
        try writeFile(
            folder["a.h5"],
            names.map { GoldenCase(name: $0, op: "test", inputs: [NamedTensor("x", Tensor([1.5], shape: [1]))]) })
        let file = try GoldenFile(reading: folder["a.h5"])
        #expect(file.caseNames == names)
        #expect(try file.readCase("case-500").inputs["x"] == Tensor([1.5], shape: [1]))
    }

    @Test("Empty header fields, no cases, no clauses and a long recipe are a file too")
    func extremes() throws {
        let folder = try TemporaryFolder()
        let empty = GoldenHeader(specVersion: "", suite: "", tier: "", generator: "", seed: 0)
        try writeFile(folder["empty.h5"], [], header: empty)
        #expect(try GoldenFile(reading: folder["empty.h5"]).header == empty)
        #expect(try GoldenFile(reading: folder["empty.h5"]).caseNames == [])
        // An attribute of more than 64 KiB leaves the object's header.
        let long = GoldenCase(
            name: "long", op: "", recipe: ["text": .string(String(repeating: "x", count: 100_000))])
        try writeFile(folder["long.h5"], [long])
        #expect(try readFile(folder["long.h5"]) == [long])
    }

    @Test("A file is replaced as a whole, also while it is open for reading")
    func replacement() throws {
        let folder = try TemporaryFolder()
        let cases = try sampleCases()
        try writeFile(folder["a.h5"], cases)
        let old = try GoldenFile(reading: folder["a.h5"])
        try writeFile(folder["a.h5"], [cases[1]])
        #expect(try old.readCase("aaa") == cases[3])
        #expect(try readFile(folder["a.h5"]) == [cases[1]])
        #expect(try folder.contents == ["a.h5"])
    }

    @Test("Eight threads read and write at the same time")
    func threads() async throws {
        let folder = try TemporaryFolder()
        let cases = try sampleCases()
        let path = folder.path
        try writeFile(folder["shared.h5"], cases)
        let shared = try GoldenFile(reading: folder["shared.h5"])
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<8 {
                group.addTask {
                    var isEqual = true
                    for _ in 0..<3 {
                        try writeFile("\(path)/\(number).h5", cases)
                        isEqual = try isEqual && readFile("\(path)/\(number).h5") == cases
                        isEqual = try isEqual && shared.readCase("aaa") == cases[3]
                    }
                    return isEqual
                }
            }
            for try await isEqual in group { #expect(isEqual) }
        }
    }
}
