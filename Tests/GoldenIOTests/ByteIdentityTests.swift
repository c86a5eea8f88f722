import Cases
import Foundation
import GoldenIO
import Testing

@Suite struct ByteIdentityTests {
    @Test("The same cases give the same bytes, whenever and wherever they are written")
    func sameBytes() throws {
        let folder = try TemporaryFolder()
        let cases = try sampleCases()
        try writeFile(folder["a.h5"], cases)
        // Other content in between leaves other bytes in the memory that HDF5 uses again; a second passes, for the times.
        for seed in 0..<20 {
            var goldenCase = GoldenCase(name: "noise", op: String(repeating: "~", count: 100 * seed))
            goldenCase.inputs.append("noise", try sampleTensor(.uint8, [1000 * seed], seed: UInt64(seed)))
            try writeFile(folder["noise.h5"], [goldenCase])
        }
        Thread.sleep(forTimeInterval: 1.1)
        try FileManager.default.createDirectory(atPath: folder["deeper"], withIntermediateDirectories: false)
        try writeFile(folder["deeper/b-longer-name.h5"], cases)
        #expect(try bytes(ofFile: folder["a.h5"]) == bytes(ofFile: folder["deeper/b-longer-name.h5"]))
    }

    /// Holds for HDF5 1.10.8 and 2.0.0. Another hash means that a version of HDF5 lays files out otherwise, or
    /// that this module does: then every shipped golden file changes.
    @Test("The bytes are those that other versions of HDF5 have written")
    func knownHash() throws {
        let folder = try TemporaryFolder()
        try writeFile(folder["a.h5"], sampleCases())
        let found = try sha256(ofFile: folder["a.h5"])
        #expect(found == "874541466de412e1c2168544fb1d2367af3e0645ff532d35a48e3f0898af46a8")
    }

    @Test("The superblock is version 2 without an extension, which would hold the time")
    func superblock() throws {
        let folder = try TemporaryFolder()
        try writeFile(folder["a.h5"], sampleCases())
        let bytes = try bytes(ofFile: folder["a.h5"])
        #expect(Array(bytes[0..<12]) == [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A, 2, 8, 8, 0])
        #expect(Array(bytes[20..<28]) == [UInt8](repeating: 0xFF, count: 8))
    }

    @Test("No object's header holds times")
    func noTimes() throws {
        let folder = try TemporaryFolder()
        try writeFile(folder["a.h5"], sampleCases())
        let bytes = try bytes(ofFile: folder["a.h5"])
        var headers = 0
        for start in 0..<(bytes.count - 6) where bytes[start..<(start + 4)].elementsEqual("OHDR".utf8) {
            headers += 1
            #expect(bytes[start + 4] == 2 && bytes[start + 5] & 0x20 == 0, "object header at byte \(start)")
        }
        // The root, /cases, 4 cases, 11 groups, 60 datasets.
        #expect(headers == 2 + 4 + 13 + 4 * 12 + 3 + 8)
    }

    @Test("The order in which a recipe was built does not show")
    func recipeOrder() throws {
        let folder = try TemporaryFolder()
        let keys = (0..<50).map { "key-\($0)" }
        var forward = GoldenCase(name: "case", op: "test")
        var backward = forward
        for key in keys { forward.recipe[key] = .string(key) }
        for key in keys.reversed() { backward.recipe[key] = .string(key) }
        try writeFile(folder["a.h5"], [forward])
        try writeFile(folder["b.h5"], [backward])
        #expect(try bytes(ofFile: folder["a.h5"]) == bytes(ofFile: folder["b.h5"]))
    }
}
