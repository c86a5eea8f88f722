import Cases
import Foundation
import Platform
import Testing

/// SIGINT and SIGTERM in the middle of whatever a command does.
@Suite("A signal ends every command soon, with its own exit status and nothing half-written", .serialized)
struct InterruptionTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// Arguments of long work; FILE stands for a case of minutes, DIR for an empty folder.
    private static let commands: [[String]] = [
        ["evaluate", "FILE", "DIR/out.h5"],
        ["generate", "--tier", "full", "--output", "DIR/goldens", "--suite", "layers", "--suite", "training"],
        ["fuzz", "--seconds", "600", "--output", "DIR/fuzz.h5"],
        ["diagnose", "--exec", "sleep 600; true {in} {out}", "--suite", "dot"],
        ["validate", "--exec", "sleep 600; true {in} {out}", "--suite", "dot"],
        ["mutate"],
        ["prove", "bf16", "--operation", "add", "--resume", "DIR/state"],
        ["train", "--config", "bench", "--steps", "1000"],
        ["train", "--config", "small", "--steps", "1000", "--backend", "reference", "--arithmetic", "soft"],
        ["study", "precision", "--steps", "100000", "--output", "DIR"],
        ["bench", "--repeats", "1000"],
    ]

    @Test("within two seconds, within a case too", arguments: commands, [(SIGTERM, 143), (SIGINT, 130)])
    func ends(_ command: [String], _ signal: (number: Int32, status: Int)) async throws {
        let long = folder.file("long.h5")
        if command.contains("FILE") { try LongWork.writeProduct(long, m: 256, k: 16384, n: 256) }
        let place = folder.file("out")
        try Files.createFolder(place)
        let program = try BackgroundProgram(
            command.map { $0 == "FILE" ? long : $0.replacing("DIR", with: place) })
        try await Task.sleep(for: .seconds(1.5))
        #expect(program.isRunning, "\(program.errors)")
        program.send(signal.number)
        let end = try #require(try await program.end(within: 30), "\(command) does not end")
        #expect(end.exitCode == signal.status, "\(program.errors)")
        #expect(end.seconds < 2)
        let left = folder.contents.filter { $0.hasSuffix(".partial") }
        #expect(left.isEmpty)
    }

    @Test("a run that was interrupted goes on to the same bits, also where `timeout` signals it twice")
    func resumes() async throws {
        let text = folder.file("text")
        try Files.replace(text, with: Array(String(repeating: "the quick brown fox jumps. ", count: 4000).utf8))
        let run = ["train", "--config", "tiny", "--data", text, "--steps", "600", "--threads", "2", "--quiet"]
        func fingerprint(_ outcome: Program.Outcome) -> Substring? {
            outcome.output.split(separator: "\n").first { $0.hasPrefix("fingerprint") }
        }
        let whole = try await Program.run(run)
        #expect(whole.exitCode == 0, "\(whole.errors)")
        let expected = try #require(fingerprint(whole))
        let checkpoints = ["--checkpoint", folder.file("checkpoints")]
        var interruptions = 0
        var outcome = try await Program.run(
            ["--preserve-status", "2", Program.path] + run + checkpoints, program: "/usr/bin/timeout")
        while outcome.exitCode == 143, interruptions < 100 {
            interruptions += 1
            #expect(!folder.contents.contains { $0.hasSuffix(".partial") })
            outcome = try await Program.run(
                ["--preserve-status", "2", Program.path] + run + checkpoints + ["--resume"],
                program: "/usr/bin/timeout")
        }
        #expect(interruptions > 0, "the run was over before the signal")
        #expect(outcome.exitCode == 0, "\(outcome.errors)")
        #expect(fingerprint(outcome) == expected)
    }
}

/// What killed processes leave in folders.
@Suite("Temporary files of killed processes go with the next run, those of living ones stay", .serialized)
struct LeftoversTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private var partial: [String] { folder.contents.filter { $0.hasSuffix(".partial") } }

    /// Starts a run that writes into the folder for minutes; its temporary file is there.
    private func writer(_ name: String) async throws -> BackgroundProgram {
        let long = folder.file("long.h5")
        if !FileManager.default.fileExists(atPath: long) { try LongWork.writeProduct(long, m: 256, k: 16384, n: 256) }
        let before = Set(partial)
        let program = try BackgroundProgram(["evaluate", long, folder.file(name)])
        // It removes what the dead have left, so that names are compared and not their number.
        for _ in 0..<500 where before.isSuperset(of: partial) { try await Task.sleep(for: .milliseconds(20)) }
        #expect(!before.isSuperset(of: partial))
        return program
    }

    private func writeSomething() async throws {
        let short = folder.file("short.h5")
        try LongWork.writeProduct(short, m: 2, k: 2, n: 2)
        let outcome = try await Program.run("evaluate", "--quiet", short, folder.file("answers.h5"))
        #expect(outcome.exitCode == 0, "\(outcome.errors)")
    }

    @Test("after kill -9, beside a run that lives")
    func killed() async throws {
        let dead = try await writer("dead.h5")
        let deadName = try #require(partial.first)
        dead.send(SIGKILL)
        _ = try await dead.end(within: 10)
        #expect(partial == [deadName])
        let alive = try await writer("alive.h5")
        // That run has removed it already.
        let aliveName = try #require(partial.first { $0 != deadName })
        #expect(partial == [aliveName])
        try await writeSomething()
        #expect(partial == [aliveName] && alive.isRunning)
        alive.send(SIGTERM)
        #expect(try await alive.end(within: 10)?.exitCode == 143)
        #expect(partial.isEmpty)
    }

    @Test("what another machine may be writing stays, and what has a name of another kind")
    func others() async throws {
        let dead = try await writer("dead.h5")
        let name = try #require(partial.first)
        dead.send(SIGKILL)
        _ = try await dead.end(within: 10)
        var parts = name.split(separator: "-").map(String.init)
        parts[1] = parts[1] == "00000000" ? "00000001" : "00000000"
        let elsewhere = parts.joined(separator: "-")
        let kept = [elsewhere, ".touchstone-1-1.partial", ".touchstone-notes.partial"].sorted()
        for one in kept { try Files.replace(folder.file(one), with: []) }
        // A number that is another process's now: of the same number, begun at another time.
        var reused = name.split(separator: "-").map(String.init)
        reused[3] = "\(ProcessInfo.processInfo.processIdentifier)"
        reused[4] = "1"
        try Files.replace(folder.file(reused.joined(separator: "-")), with: [])
        try await writeSomething()
        #expect(partial == kept)
    }
}
