import Cases
import Testing

@Suite struct DamageTests {
    /// Files cut at every byte are far too many files; these bytes are all those of the first KiB, and one in `stride` after.
    private func truncations(of path: String, stride step: Int) throws {
        let folder = try TemporaryFolder()
        let original = try bytes(ofFile: path)
        for count in Array(0..<min(1024, original.count)) + Array(stride(from: 1024, to: original.count, by: step)) {
            try write(Array(original[..<count]), toFile: folder["cut.h5"])
            let error = failure { try readFile(folder["cut.h5"]) }
            #expect(
                error?.kind == .damaged || error?.kind == .notHDF5 || error?.kind == .newer,
                "cut at \(count): \(String(describing: error))")
            if error?.kind == .damaged { #expect(error?.stack.isEmpty == false, "cut at \(count)") }
        }
    }

    @Test("A truncated file of ours is an error, with HDF5's error stack")
    func truncatedOurs() throws {
        let folder = try TemporaryFolder()
        try writeFile(folder["a.h5"], [sampleCases()[2]])
        try truncations(of: folder["a.h5"], stride: 97)
    }

    @Test("A truncated file of h5py's is an error", arguments: ["little-endian", "strings", "format-1.10"])
    func truncatedForeign(name: String) throws { try truncations(of: fixture(name), stride: 31) }

    /// Changes 1 to 8 places: one bit, one byte, or a run of 0xFF.
    private func corrupt(_ bytes: inout [UInt8], in range: Range<Int>, _ randomness: inout Randomness) {
        for _ in 0...randomness.below(8) {
            let index = range.lowerBound + randomness.below(range.count)
            switch randomness.below(3) {
            case 0: bytes[index] ^= 1 << UInt8(randomness.below(8))
            case 1: bytes[index] = UInt8(truncatingIfNeeded: randomness.next())
            default:
                for run in index..<min(range.upperBound, index + 1 + randomness.below(8)) { bytes[run] = 0xFF }
            }
        }
    }

    /// One structure of the 1.8 format has no checksum, the index of a dataset's chunks: an address in it that turns into that
    /// of zeros gives a tensor of zeros, whose Fletcher-32 is zero too. The SHA-256 of the manifest is for that.
    @Test("A file of ours with wrong bytes is an error, or the bytes do not matter", arguments: [1, 2, 3] as [UInt64])
    func corruptOurs(seed: UInt64) throws {
        let folder = try TemporaryFolder()
        let cases = [try sampleCases()[2]]
        try writeFile(folder["a.h5"], cases)
        let original = try bytes(ofFile: folder["a.h5"])
        var randomness = Randomness(state: seed)
        var errors = 0
        var silent = 0
        for _ in 0..<500 {
            var changed = original
            corrupt(&changed, in: 0..<changed.count, &randomness)
            try write(changed, toFile: folder["b.h5"])
            do {
                if try readFile(folder["b.h5"]) != cases { silent += 1 }
            } catch {
                errors += 1
                #expect([.damaged, .notHDF5, .tooLarge, .newer].contains(error.kind), "seed \(seed): \(error)")
            }
        }
        #expect(errors > 50, "seed \(seed)")
        #expect(silent <= 2, "seed \(seed)")
    }

    /// Only the global heap, whose references this module follows itself. In the rest of a file of the oldest format, which has
    /// no checksums, HDF5 1.10.8 itself crashes for about one in a thousand corruptions.
    @Test("Variable-length strings with wrong bytes never lead outside of the file", arguments: [1, 2, 3] as [UInt64])
    func corruptHeap(seed: UInt64) throws {
        let folder = try TemporaryFolder()
        let original = try bytes(ofFile: fixture("little-endian"))
        let heap = try #require((0..<(original.count - 4)).first { original[$0..<($0 + 4)].elementsEqual("GCOL".utf8) })
        var randomness = Randomness(state: seed)
        for _ in 0..<500 {
            var changed = original
            corrupt(&changed, in: heap..<(heap + 256), &randomness)
            try write(changed, toFile: folder["b.h5"])
            do {
                let found = try readFile(folder["b.h5"])
                #expect(found[0].inputs.tensors == ForeignFileTests.everyType(shape: [2, 4]), "seed \(seed)")
            } catch {
                #expect([.damaged, .malformed].contains(error.kind), "seed \(seed): \(error)")
            }
        }
    }

    /// Every byte of a variable-length reference (length, heap, object) in the header of `/cases/every-type`.
    @Test("References of variable-length strings with wrong bytes are errors")
    func corruptReferences() throws {
        let folder = try TemporaryFolder()
        let original = try bytes(ofFile: fixture("little-endian"))
        let heap = try #require((0..<(original.count - 4)).first { original[$0..<($0 + 4)].elementsEqual("GCOL".utf8) })
        let address = (0..<8).map { UInt8(truncatingIfNeeded: heap >> (8 * $0)) }
        let references = (4..<(original.count - 12)).filter { original[$0..<($0 + 8)].elementsEqual(address) }
        // op, why, recipe and two clauses.
        #expect(references.count == 5)
        for reference in references {
            for index in (reference - 4)..<(reference + 12) {
                for byte: UInt8 in [0x00, 0x01, 0x7F, 0x80, 0xFF] where byte != original[index] {
                    var changed = original
                    changed[index] = byte
                    try write(changed, toFile: folder["b.h5"])
                    do {
                        // A shorter length or another object is another string.
                        _ = try readFile(folder["b.h5"])
                    } catch {
                        #expect([.damaged, .malformed].contains(error.kind), "byte \(index): \(error)")
                    }
                }
            }
        }
    }
}
