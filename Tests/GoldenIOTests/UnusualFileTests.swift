import Cases
import GoldenIO
import Testing

/// What HDF5 can hold and few files do: files that h5py has written (Tools/h5py-fixtures.py).
@Suite struct UnusualFileTests {
    @Test("Elements that were never written have the dataset's fill value")
    func fill() throws {
        let inputs = try GoldenFile(reading: fixture("unusual")).readCase("fill").inputs
        #expect(
            inputs.tensors == [
                NamedTensor("big-endian", Tensor([0x0102_0304, 0x0102_0304, 0x0102_0304] as [Int32], shape: [3])),
                NamedTensor("chunks", Tensor([-7, -7, 1, 2, -7, -7, -7, -7] as [Float], shape: [8])),
                NamedTensor("contiguous", Tensor([0, 0, 0, 0] as [Float], shape: [4])),
                NamedTensor("filters", Tensor([1, 2, 3, -7, 4, 5, 6, -7, -7, -7, -7, -7] as [Int16], shape: [3, 4])),
                NamedTensor("no-chunks", Tensor([Float](repeating: -7, count: 8), shape: [8])),
                NamedTensor("on-allocation", Tensor([9, 9, 9, 9] as [Float], shape: [4])),
                NamedTensor("one-chunk", Tensor([3, 3, 3] as [Float], shape: [3])),
                NamedTensor("scalar", Tensor([1.5] as [Double], shape: [])),
                NamedTensor("value", Tensor([2.5, 2.5, 2.5, 2.5] as [Float], shape: [2, 2])),
            ])
    }

    @Test("A chunk that goes without a filter, as its mask says, has the same bits")
    func masks() throws {
        let inputs = try GoldenFile(reading: fixture("unusual")).readCase("masks").inputs
        #expect(inputs.names == ["both", "checksum", "deflate", "one-of-two", "shuffle"])
        let ramp = Tensor((0..<150).map { Float($0) }, shape: [150])
        for named in inputs.tensors { #expect(named.tensor == ramp, "\(named.name)") }
    }

    @Test(
        "Any number of attributes, in the object's header or beside it, their order tracked or not",
        arguments: ["attributes", "attributes-1.10"])
    func attributes(_ name: String) throws {
        let file = try GoldenFile(reading: fixture(name))
        #expect(file.caseNames.count == 12)
        for count in [4, 5, 8, 9, 30, 60] {
            for suffix in ["", "-tracked"] {
                let found = try file.readCase("\(count)\(suffix)")
                #expect(found.op == "test.many" && found.why == "\(count) größer", "\(count)\(suffix)")
                #expect(found.specClauses == ["F1", "F2"] && found.recipe == ["count": .integer(Int64(count))])
            }
        }
    }

    @Test("Every index of chunks of the 1.10 format")
    func layouts() throws {
        let inputs = try GoldenFile(reading: fixture("layouts-1.10")).readCase("layouts").inputs
        #expect(inputs.tensors.count == 10)
        let expected = Tensor((0..<35).map { Int32($0) }, shape: [5, 7])
        for named in inputs.tensors { #expect(named.tensor == expected, "\(named.name)") }
    }

    @Test("A format newer than the library is called newer; what it can read of the file it reads")
    func newer() throws {
        let file = try GoldenFile(reading: fixture("newer"))
        #expect(try file.readCase("plain").inputs["x"] == Tensor([0, 1, 2, 3] as [Double], shape: [4]))
        let isOld = GoldenFile.libraryVersion.hasPrefix("1.")
        do {
            let chunks = try file.readCase("chunks").inputs["x"]
            #expect(!isOld && chunks == Tensor([0, 1, 2, 3] as [Double], shape: [4]))
        } catch {
            #expect(isOld && error.kind == .newer, "\(error)")
            #expect(error.dataset == "inputs/x" && error.message.contains("newer format than HDF5 1."), "\(error)")
            #expect(!error.description.contains("\n"), "\(error)")
        }
    }

    @Test("A superblock of a later version is newer, not damaged")
    func superblock() throws {
        let folder = try TemporaryFolder()
        try writeFile(folder["a.h5"], sampleCases())
        var changed = try bytes(ofFile: folder["a.h5"])
        changed[8] = 9
        try write(changed, toFile: folder["b.h5"])
        let error = failure { try GoldenFile(reading: folder["b.h5"]) }
        #expect(error?.kind == .newer, "\(String(describing: error))")
    }

    @Test("A dataset that cannot be read is told by name, and the others are there")
    func unreadable() throws {
        let file = try GoldenFile(reading: fixture("opaque"))
        var told: [(CaseGroup, String, GoldenIOError)] = []
        let found = try file.openCase("a") { told.append(($0, $1, $2)) }
        #expect(told.map(\.0) == [.outputs, .outputs] && told.map(\.1) == ["extra", "r"])
        #expect(told.allSatisfy { $0.2.kind == .wrongType && $0.2.dataset == "outputs/\($0.1)" })
        #expect(found.tensors[.outputs]?.map(\.name) == ["s"])
        #expect(failure { try file.openCase("a") }?.dataset == "outputs/extra")
        var names: [String] = []
        let read = try file.readCase("a") {
            names.append("\($0.rawValue)/\($1)"); _ = $2
        }
        #expect(names == ["outputs/extra", "outputs/r"])
        #expect(read.outputs.tensors == [NamedTensor("s", Tensor([0, 1] as [Float], shape: [2]))])
        #expect(failure { try file.readCase("a") }?.dataset == "outputs/extra")
    }

    @Test("Attributes beside the header with wrong bytes are an error or other text, never a trap", arguments: [1, 2])
    func corruptAttributes(seed: UInt64) throws {
        let folder = try TemporaryFolder()
        let original = try bytes(ofFile: fixture("attributes-1.10"))
        var starts: [Int] = []
        for index in 0..<original.count - 4
        where ["FRHP", "FHDB", "BTHD", "BTLF", "BTIN"].contains(where: {
            original[index..<index + 4].elementsEqual($0.utf8)
        }) { starts.append(index) }
        try #require(starts.count > 20)
        var randomness = Randomness(state: seed)
        var errors = 0
        for _ in 0..<300 {
            var changed = original
            let place = starts[randomness.below(starts.count)] + randomness.below(160)
            changed[min(place, changed.count - 1)] = UInt8(randomness.below(256))
            try write(changed, toFile: folder["b.h5"])
            do { _ = try readFile(folder["b.h5"]) } catch { errors += 1 }
        }
        #expect(errors > 0)
    }
}
