import Cases
import Foundation
import JSON
import Platform
import Testing

@Suite("Runs that others get in the way of, that are interrupted, and that go on")
struct RunCommandTests {
    private static let small = """
        {"width": 8, "layers": 1, "heads": 2, "key_value_heads": 1, "head_dimension": 4, "feed_forward_width": 12,
         "sequence_length": 16, "batch": 2, "warmup_steps": 1, "total_steps": 3}
        """

    private func setUp() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        try Data(Self.small.utf8).write(to: URL(fileURLWithPath: folder.file("small.json")))
        try Data((#"{"seed": "0000000000000001", "# + Self.small.dropFirst()).utf8).write(
            to: URL(fileURLWithPath: folder.file("other.json")))
        try Data(String(repeating: "the quick brown fox jumps over the lazy dog. ", count: 20).utf8).write(
            to: URL(fileURLWithPath: folder.file("text.txt")))
        return folder
    }

    private func shell(_ script: String, in folder: TemporaryFolder) async throws -> Program.Outcome {
        try await Program.run(["-c", script], directory: folder.path, program: "/bin/sh")
    }

    /// A run without end in the background, `$first`, that has begun.
    private static let endless = """
        "$TOUCHSTONE" train --config small.json --data text.txt --quiet --steps 1000000000 --checkpoint run & first=$!
        i=0; while [ ! -s run/.touchstone.lock ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
        """

    private func line(_ name: String, _ output: String) -> String? {
        output.split(separator: "\n").map(String.init).first { $0.hasPrefix(name) }
    }

    @Test("a folder of checkpoints is one run's: another is refused and the first is named, until it ends, however")
    func lock() async throws {
        let folder = try setUp()
        let outcome = try await shell(
            Self.endless + """

                "$TOUCHSTONE" train --config other.json --data text.txt --quiet --steps 2 --checkpoint run; echo "second $?"
                "$TOUCHSTONE" train --config small.json --data text.txt --quiet --steps 2 --checkpoint run --resume; echo "third $?"
                kill -9 $first; wait $first
                "$TOUCHSTONE" train --config other.json --data text.txt --quiet --steps 2 --checkpoint run >/dev/null; echo "fourth $?"
                echo "process $first"
                """, in: folder)
        let process = try #require(line("process ", outcome.output))
        for part in ["second 2", "third 2", "fourth 0"] { #expect(outcome.output.contains(part), "\(outcome)") }
        let refusals = outcome.errors.split(separator: "\n").filter { $0.contains("another run writes to run: ") }
        #expect(refusals.count == 2, "\(outcome.errors)")
        #expect(
            refusals.allSatisfy {
                $0.contains("\(process) ") && $0.contains("touchstone train --config small.json --data text.txt")
            }, "\(refusals)")
        #expect(folder.contents.filter { $0.hasPrefix("run/") } == ["run/step-00000002.h5"], "\(folder.contents)")
    }

    @Test("states and folders of other verbs are one run's too")
    func otherLocks() async throws {
        let folder = try setUp()
        try FileManager.default.createDirectory(atPath: folder.file("targets"), withIntermediateDirectories: true)
        for (lock, arguments) in [
            ("targets/.touchstone.lock", ["generate", "--suite", "random", "--output", "targets", "--quiet"]),
            (".state.json.lock", ["fuzz", "--cases", "1", "--operation", "bf16.add", "--resume", "state.json"]),
            (
                ".proof.lock",
                ["prove", "bf16", "--operation", "sqrt", "--threads", "1", "--quiet", "--resume", "proof"]
            ),
            (".precision.html.lock", ["study", "precision", "--steps", "1", "--data", "text.txt", "--quiet"]),
        ] {
            let before = folder.contents
            let held = try FileLock(folder.file(lock), holder: "process 1: somebody else")
            let outcome = try await Program.run(arguments, directory: folder.path)
            #expect(
                outcome.exitCode == 2 && outcome.errors.contains("process 1: somebody else"),
                "\(lock): \(outcome.exitCode) \(outcome.errors)")
            held.release()
            #expect(folder.contents == before, "\(lock): \(folder.contents)")
            #expect(throws: Never.self) { try FileLock(folder.file(lock), holder: "").release() }
        }
    }

    @Test(
        "a run that a signal ends says where, what is kept and how it goes on, and its exit status names the signal",
        arguments: [("INT", 130), ("TERM", 143)])
    func interrupted(_ signal: String, _ code: Int) async throws {
        let folder = try setUp()
        let outcome = try await shell(
            Self.endless + "\nsleep 0.5; kill -\(signal) $first; wait $first; echo \"code $?\"", in: folder)
        #expect(outcome.output.contains("code \(code)"), "\(outcome)")
        let said = try #require(line("touchstone: interrupted after step ", outcome.errors), "\(outcome.errors)")
        let checkpoint = try #require(folder.contents.last { $0.hasPrefix("run/step-") })
        #expect(said.hasSuffix("of 1000000000; checkpoint written: \(checkpoint)"), "\(said)")
        let command =
            "touchstone train --config small.json --data text.txt --quiet --steps 1000000000 --checkpoint run --resume"
        #expect(outcome.errors.contains("touchstone: to go on:  \(command)\n"), "\(outcome.errors)")
        #expect(!folder.contents.contains { $0.contains("lock") })
        let without = try await shell(
            """
            "$TOUCHSTONE" train --config small.json --data text.txt --quiet --steps 1000000000 --log log & first=$!
            i=0; while [ ! -s log ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
            kill -\(signal) $first; wait $first; echo "code $?"
            """, in: folder)
        #expect(
            without.output.contains("code \(code)") && without.errors.contains("nothing is kept: --checkpoint DIR"),
            "\(without)")
    }

    @Test("one command line serves a loop of restarts: it begins, goes on, and repeats the outcome; the log is whole")
    func restarts() async throws {
        let folder = try setUp()
        let run = ["train", "--config", "small.json", "--data", "text.txt"]
        let whole = try await Program.run(run + ["--steps", "5", "--quiet"], directory: folder.path)
        let fingerprint = try #require(line("fingerprint", whole.output))
        let loop = run + ["--checkpoint", "a/run", "--resume", "--log", "log.jsonl", "--steps"]
        let first = try await Program.run(loop + ["2"], directory: folder.path)
        #expect(first.exitCode == 0, "\(first.errors)")
        #expect(line("resume", first.output) == "resume       no checkpoint in a/run yet: the run begins")
        let second = try await Program.run(loop + ["5"], directory: folder.path)
        #expect(second.exitCode == 0 && line("fingerprint", second.output) == fingerprint, "\(second.errors)")
        #expect(line("resume", second.output) == "resume       after step 2")
        let third = try await Program.run(loop + ["5"], directory: folder.path)
        #expect(third.exitCode == 0 && line("fingerprint", third.output) == fingerprint, "\(third.errors)")
        #expect(line("steps", third.output) == "steps        none left: all 5 were taken before")
        #expect(line("held out", third.output) == line("held out", second.output))
        let steps = try String(contentsOfFile: folder.file("log.jsonl"), encoding: .utf8).split(separator: "\n").map {
            guard case .object(let entry) = try JSONValue(text: String($0)) else { return JSONValue.null }
            return entry["step"] ?? .null
        }
        #expect(steps == (1...5).map { .integer($0) })
        let over = try await Program.run(loop + ["4"], directory: folder.path)
        #expect(over.exitCode == 2 && over.errors.contains("step 5 already"), "\(over.errors)")
        let anew = try await Program.run(run + ["--checkpoint", "a/run", "--steps", "9"], directory: folder.path)
        #expect(anew.exitCode == 2 && anew.errors.contains("--resume goes on"), "\(anew.errors)")
    }

    @Test("what is skipped is named with its reason: a few by train, all by data --skipped")
    func skipped() async throws {
        let folder = try setUp()
        let manager = FileManager.default
        try manager.createDirectory(atPath: folder.file("texts"), withIntermediateDirectories: true)
        func put(_ name: String, _ bytes: [UInt8]) throws {
            try Data(bytes).write(to: URL(fileURLWithPath: folder.file("texts/\(name)")))
        }
        try put("a.txt", Array(String(repeating: "some text to train on. ", count: 40).utf8))
        try put("b.bin", [0x61, 0x00, 0x62])
        try put("c.txt", [])
        try put("d.txt", [0x61, 0x62, 0xFF, 0x63])
        try put(".hidden", [0x61])
        try manager.createSymbolicLink(atPath: folder.file("texts/link"), withDestinationPath: "a.txt")
        let reasons = [
            "texts/.hidden: hidden", "texts/b.bin: no text: holds a NUL byte", "texts/c.txt: empty",
            "texts/d.txt: no text: not UTF-8", "texts/link: a symbolic link",
        ]
        let few = try await Program.run("data", "texts", directory: folder.path)
        #expect(few.exitCode == 0 && few.output.hasPrefix("1 file, 1 document, "), "\(few.output)\(few.errors)")
        #expect(few.output.contains(" held out, 5 skipped\n"), "\(few.output)")
        let shown = reasons.prefix(3).map { "skipped      \($0)\n" }.joined()
        #expect(few.output.hasSuffix(shown + "skipped      and 2 more: `touchstone data --skipped` lists all\n"))
        let all = try await Program.run("data", "texts", "--skipped", directory: folder.path)
        #expect(all.output.hasSuffix(reasons.map { "skipped      \($0)\n" }.joined()), "\(all.output)")
        let train = try await Program.run(
            "train", "--config", "small.json", "--data", "texts", "--steps", "1", directory: folder.path)
        #expect(train.exitCode == 0 && train.output.contains(shown), "\(train.output)\(train.errors)")
        let none = try await Program.run("data", "texts/d.txt", directory: folder.path)
        #expect(none.exitCode == 2 && none.errors.hasSuffix("texts/d.txt: no text: not UTF-8\n"))
    }
}
