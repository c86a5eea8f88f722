import Cases
import GoldenIO
import Testing

@Suite("Datasets read in parts")
struct StoredTensorTests {
    /// Every range of a short tensor, else many of it.
    private func ranges(_ count: Int) -> [Range<Int>] {
        if count <= 12 { return (0...count).flatMap { first in (first...count).map { first..<$0 } } }
        var randomness = Randomness(state: UInt64(count))
        return [0..<count, 0..<1, count - 1..<count]
            + (0..<60).map { _ in
                let (a, b) = (randomness.below(count + 1), randomness.below(count + 1))
                return min(a, b)..<max(a, b)
            }
    }

    private func compare(_ path: String) throws {
        let file = try GoldenFile(reading: path)
        var seen = 0
        for name in file.caseNames {
            let (whole, stored) = (try file.readCase(name), try file.openCase(name))
            #expect(stored.op == whole.op && stored.why == whole.why && stored.recipe == whole.recipe)
            #expect(stored.specClauses == whole.specClauses)
            for group in CaseGroup.allCases {
                #expect((stored.tensors[group] ?? []).map(\.name) == whole[group].names)
                for (name, tensor) in stored.tensors[group] ?? [] {
                    let expected = try #require(whole[group][name])
                    #expect(tensor.type == expected.type && tensor.shape == expected.shape)
                    #expect(try tensor.whole() == expected)
                    for range in ranges(expected.count) {
                        #expect(try tensor.elements(range) == expected.elements(range), "\(name) \(range)")
                        seen += 1
                    }
                }
            }
        }
        #expect(seen > 0)
    }

    @Test("of our own files: compact, one chunk, scalars, nothing")
    func ours() throws {
        let folder = try TemporaryFolder()
        var cases = try sampleCases()
        for (index, shape) in [[], [0, 4], [5], [70, 90], [3, 50, 40], [9000], [1, 9001], [2, 3, 5, 7, 11, 13]]
            .enumerated()
        {
            for type in ElementType.allCases {
                cases[0].outputs.append("\(type)-\(index)", try sampleTensor(type, shape, seed: UInt64(index)))
            }
        }
        try writeFile(folder["a.h5"], cases)
        try compare(folder["a.h5"])
    }

    @Test(
        "of other programs' files",
        arguments: [
            "little-endian", "big-endian", "big-endian-gzip", "bits", "format-1.10", "user-block", "unusual",
            "layouts-1.10",
        ])
    func foreign(_ name: String) throws {
        try compare(try fixture(name))
    }

    @Test("a wrong byte in a chunk is found when the dataset is opened")
    func checksum() throws {
        let folder = try TemporaryFolder()
        var one = try sampleCases()[0]
        let marked = Tensor((0..<6000).map { UInt32($0) ^ 0x5A5A_0000 }, shape: [60, 100])
        one.outputs = [NamedTensor("r", marked)]
        try writeFile(folder["a.h5"], [one])
        let original = try bytes(ofFile: folder["a.h5"])
        let start = try #require(
            (0..<original.count - 16).first { original[$0..<$0 + 16].elementsEqual(marked.bytes[0..<16]) })
        for offset in [0, 1, 719, 720, 12_345, 23_999, 24_000, 24_003] {
            var changed = original
            changed[start + offset] ^= 0x10
            try write(changed, toFile: folder["b.h5"])
            let file = try GoldenFile(reading: folder["b.h5"])
            #expect(failure { try file.openCase(one.name) }?.kind == .damaged, "\(offset)")
        }
    }

    @Test("a tensor in memory is read in parts too")
    func inMemory() throws {
        let tensor = try sampleTensor(.int16, [5, 7], seed: 1)
        for range in ranges(35) {
            #expect(tensor.elements(range).bytes == Array(tensor.bytes[2 * range.lowerBound..<2 * range.upperBound]))
        }
    }
}
