import Checker
import Foundation
import Testing

@Suite("Implementations given as a command")
struct PluginProcessTests {
    /// A folder with a file of inputs; removed at the end.
    private final class Folder {
        let path = FileManager.default.temporaryDirectory.path + "/touchstone-plugin-\(UUID().uuidString)"
        var input: String { path + "/in put's.h5" }
        var output: String { path + "/out.h5" }

        init() throws {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try Data("some bytes".utf8).write(to: URL(fileURLWithPath: input))
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    private func failure(_ command: String, timeout: Duration = .seconds(30), outputLimit: Int = 1 << 20) async throws
        -> String
    {
        let folder = try Folder()
        let plugin = try PluginProcess(command: command, timeout: timeout, outputLimit: outputLimit)
        do {
            try await plugin.run(input: folder.input, output: folder.output, naming: "golden.h5")
        } catch let error as JudgingError {
            return error.description
        }
        Issue.record("'\(command)' was accepted")
        return ""
    }

    @Test("paths with spaces and quotes reach the command as they are")
    func success() async throws {
        let folder = try Folder()
        let plugin = try PluginProcess(command: "cp {in} {out}", timeout: .seconds(30))
        try await plugin.run(input: folder.input, output: folder.output, naming: "golden.h5")
        #expect(try Data(contentsOf: URL(fileURLWithPath: folder.output)) == Data("some bytes".utf8))
    }

    @Test("a command without {out} is refused")
    func noOutput() {
        #expect(throws: JudgingError.self) { try PluginProcess(command: "cp {in}", timeout: .seconds(1)) }
    }

    @Test(
        "what goes wrong is said, with the command, the golden file and what was printed",
        arguments: [
            ("echo hello; echo trouble >&2; exit 7 # {out}", ["exit status 7", "trouble", "hello"]),
            ("kill -KILL $$ # {out}", ["signal 9"]),
            ("kill -SEGV $$ # {out}", ["signal 11"]),
            ("true {out}", ["wrote no file"]),
            ("mkdir {out}", ["a folder"]),
            ("ln -s {in} {out}", ["a symbolic link"]),
            ("mkfifo {out}", ["a pipe"]),
            ("head -c 2000000 /dev/zero > {out}", ["2000000 bytes", "1048576"]),
            ("/nonexistent/program {in} {out}", ["exit status 127", "nonexistent"]),
        ])
    func failures(_ command: String, _ parts: [String]) async throws {
        let message = try await failure(command)
        for part in parts + ["golden.h5", command] {
            #expect(message.contains(part), "no '\(part)' in: \(message)")
        }
    }

    @Test("a hang ends at the timeout, with everything that the command started")
    func hang() async throws {
        let marker = FileManager.default.temporaryDirectory.path + "/touchstone-marker-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: marker) }
        let clock = ContinuousClock()
        let start = clock.now
        // A grandchild that would leave a mark if it lived on.
        let message = try await failure(
            "(sleep 3; touch \(marker)) & sleep 60 # {out}", timeout: .milliseconds(500))
        #expect(message.contains("timeout of 0.5 s"), "\(message)")
        #expect(clock.now - start < .seconds(20))
        try await Task.sleep(for: .seconds(4))
        #expect(!FileManager.default.fileExists(atPath: marker), "a grandchild lived on")
    }

    @Test("what a command leaves running ends with it")
    func leftovers() async throws {
        let marker = FileManager.default.temporaryDirectory.path + "/touchstone-marker-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: marker) }
        let folder = try Folder()
        let plugin = try PluginProcess(
            command: "(sleep 2; touch \(marker)) > /dev/null 2>&1 & cp {in} {out}", timeout: .seconds(30))
        try await plugin.run(input: folder.input, output: folder.output, naming: "golden.h5")
        try await Task.sleep(for: .seconds(3))
        #expect(!FileManager.default.fileExists(atPath: marker), "it lived on")
    }

    @Test("gigabytes of output are read and dropped")
    func flood() async throws {
        let message = try await failure(
            "head -c 1000000000 /dev/zero | tr '\\0' 'x'; echo; echo the end; exit 1 # {out}")
        #expect(message.contains("the end"))
        #expect(message.utf8.count < 10_000)
    }
}
