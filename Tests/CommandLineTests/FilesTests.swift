import Foundation
import Platform
import Testing

/// What stands where a file is to be written.
@Suite("Files are replaced as a user expects")
struct FilesTests {
    private let folder: TemporaryFolder
    private let bytes = Array("new".utf8)

    init() throws { folder = try TemporaryFolder() }

    private func attribute<Value>(_ key: FileAttributeKey, _ path: String) throws -> Value? {
        try FileManager.default.attributesOfItem(atPath: path)[key] as? Value
    }

    private func text(_ name: String) throws -> String {
        try String(contentsOfFile: folder.file(name), encoding: .utf8)
    }

    @Test("a file keeps its mode")
    func mode() throws {
        let path = folder.file("private")
        try Files.replace(path, with: Array("old".utf8))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
        try Files.replace(path, with: bytes)
        #expect(try text("private") == "new")
        #expect(try attribute(.posixPermissions, path) as NSNumber? == 0o600)
        #expect(folder.contents == ["private"])
    }

    @Test("a symbolic link stays, and what it names is written, also where that does not exist yet")
    func links() throws {
        try Files.createFolder(folder.file("data"))
        let manager = FileManager.default
        try manager.createSymbolicLink(atPath: folder.file("relative"), withDestinationPath: "data/file")
        try manager.createSymbolicLink(atPath: folder.file("twice"), withDestinationPath: folder.file("relative"))
        for text in ["first", "second"] {
            try Files.replace(folder.file("twice"), with: Array(text.utf8))
            #expect(try self.text("data/file") == text)
            for link in ["relative", "twice"] {
                #expect(try attribute(.type, folder.file(link)) as FileAttributeType? == .typeSymbolicLink)
            }
        }
        #expect(folder.contents == ["data", "data/file", "relative", "twice"])
        try manager.createSymbolicLink(atPath: folder.file("loop"), withDestinationPath: "loop")
        #expect(throws: FileError.self) { try Files.replace(folder.file("loop"), with: bytes) }
    }

    @Test("a pipe gets the bytes and stays a pipe")
    func pipe() async throws {
        let path = folder.file("pipe")
        let made = try await Program.run(["-c", "mkfifo '\(path)'"], program: "/bin/sh")
        #expect(made.exitCode == 0)
        let reader = Task { try await Program.run(["-c", "cat '\(path)'"], program: "/bin/sh") }
        try Files.replace(path, with: bytes)
        #expect(try await reader.value.output == "new")
        #expect(try attribute(.type, path) as FileAttributeType? != .typeRegular)
        #expect(folder.contents == ["pipe"])
    }

    @Test("devices and names of descriptors are written to as they are")
    func devices() async throws {
        let before = try attribute(.type, "/dev/null") as FileAttributeType?
        try Files.replace("/dev/null", with: bytes)
        #expect(try attribute(.type, "/dev/null") as FileAttributeType? == before)
        // Into what the shell opened, behind what is there.
        let golden = "GoldenData/random/draws.h5"
        let outcome = try await Program.run(
            [
                "-c",
                "{ echo begun; '\(Program.path)' validate \(golden) --format json --output /dev/stdout; echo ended; } > '\(folder.file("out"))'",
            ], program: "/bin/sh")
        #expect(outcome.exitCode == 0, "\(outcome.errors)")
        let lines = try text("out").split(separator: "\n")
        #expect(lines.first == "begun" && lines.last == "ended" && lines.count > 10)
    }

    @Test("a folder, or a folder that is not there, is refused and nothing is made")
    func refusals() throws {
        for path in [folder.path, folder.file("absent/file"), ""] {
            #expect(throws: FileError.self) { try Files.replace(path, with: bytes) }
            #expect(throws: FileError.self) { try Files.requireWritable(path) }
        }
        try Files.replace(folder.file("file"), with: bytes)
        #expect(throws: FileError.self) { try Files.createFolder(folder.file("file/below")) }
        try Files.createFolder(folder.file("a/b//c/"))
        try Files.createFolder(folder.file("a/b"))
        #expect(folder.contents == ["a", "a/b", "a/b/c", "file"])
    }
}
