import Cases
import Foundation
import JSON
import Testing

@Suite("train, data and dump --image, run as a user runs them")
struct TrainingCommandTests {
    private func write(_ text: String, _ path: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    }

    /// A model of a few hundred parameters.
    private static let small = """
        {"width": 8, "layers": 1, "heads": 2, "key_value_heads": 1, "head_dimension": 4, "feed_forward_width": 12,
         "sequence_length": 16, "batch": 2, "warmup_steps": 1, "total_steps": 3, "int8": true}
        """

    private func setUp() throws -> (folder: TemporaryFolder, config: String, data: String) {
        let folder = try TemporaryFolder()
        let (config, data) = (folder.file("small.json"), folder.file("text.txt"))
        try write(Self.small, config)
        try write(String(repeating: "the quick brown fox jumps over the lazy dog. ", count: 20), data)
        return (folder, config, data)
    }

    private func line(_ name: String, _ output: String) -> String? {
        output.split(separator: "\n").map(String.init).first { $0.hasPrefix(name) }
    }

    @Test("T6: a run repeated gives the same fingerprint, with either arithmetic; another seed another")
    func reproducible() async throws {
        let (folder, config, data) = try setUp()
        let log = folder.file("log.jsonl")
        let first = try await Program.run("train", "--config", config, "--data", data, "--quiet", "--log", log)
        let second = try await Program.run(
            "train", "--config", config, "--data", data, "--quiet", "--backend", "reference", "--arithmetic", "soft")
        #expect(first.exitCode == 0 && second.exitCode == 0, "\(first.errors)\(second.errors)")
        let fingerprint = try #require(line("fingerprint", first.output))
        #expect(fingerprint == line("fingerprint", second.output))
        #expect(line("loss", first.output) == line("loss", second.output))
        let entries = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
        #expect(entries.count == 3)
        let last = try fingerprintOf(entries[2])
        #expect(fingerprint.hasSuffix(last))
        let other = folder.file("other.json")
        try write(#"{"seed": "0000000000000001", "# + Self.small.dropFirst(), other)
        let third = try await Program.run("train", "--config", other, "--data", data, "--quiet")
        #expect(third.exitCode == 0 && line("fingerprint", third.output) != fingerprint)
    }

    private func fingerprintOf(_ entry: Substring) throws -> String {
        guard case .object(let members) = try JSONValue(text: String(entry)),
            case .string(let text)? = members["fingerprint"]
        else { return "none" }
        return text
    }

    @Test("T5: ranks and compressions from the command line; what moved is reported")
    func ranks() async throws {
        let (folder, config, data) = try setUp()
        defer { withExtendedLifetime(folder) {} }
        let outcome = try await Program.run(
            "train", "--config", config, "--data", data, "--quiet", "--ranks", "2", "--compression", "squinch",
            "--steps", "1", "--diagnostics")
        #expect(outcome.exitCode == 0, "\(outcome.errors)")
        #expect(outcome.output.contains("all-reduce") && outcome.output.contains("|Z| mean"))
        let tooMany = try await Program.run("train", "--config", config, "--data", data, "--ranks", "3")
        #expect(tooMany.exitCode == 2 && tooMany.errors.contains("'ranks': is 3; expected 1 to 2"))
    }

    @Test("S8: bytes are in the summary and in the log, the same from engine and reference; clusters are estimated")
    func bytes() async throws {
        let (folder, config, data) = try setUp()
        let run = ["train", "--config", config, "--data", data, "--quiet", "--ranks", "2"]
        for (compression, ratio) in [
            ("none", "bf16 9824 (2.0 of it)"), ("bf16", "bf16 9824 (1.0 of it)"),
            ("squinch", "bf16 9824 (0.375 of it)"),
        ] {
            let log = folder.file("\(compression).jsonl")
            let options = ["--compression", compression, "--log", log]
            let outcome = try await Program.run(run + options + ["--bandwidth", "25Gbit", "--latency", "5"])
            #expect(outcome.exitCode == 0, "\(outcome.errors)")
            let line = try #require(self.line("all-reduce", outcome.output))
            #expect(line.contains(ratio), "\(line)")
            #expect(outcome.output.contains("step time ") && outcome.output.contains("25.0 Gbit/s each way"))
            #expect(outcome.output.split(separator: "\n").count { $0.hasPrefix("   1024 ") } == 3, "\(outcome.output)")
            let reference = try await Program.run(run + options + ["--backend", "reference"])
            #expect(self.line("all-reduce", reference.output) == line)
            let entry = try #require(try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n").first)
            guard case .object(let members) = try JSONValue(text: String(entry)),
                case .integer(let scattered)? = members["bytes_scattered"],
                case .integer(let gathered)? = members["bytes_gathered"], case .integer? = members["bytes_as_fp32"],
                case .integer? = members["bytes_as_bf16"]
            else { return #expect(Bool(false), "\(entry)") }
            #expect(line.contains(" \(scattered + gathered) bytes a step") && scattered == gathered)
        }
    }

    @Test("T5: --mpi in a build without MPI says how to make one with it; options that do not go together are usage")
    func processes() async throws {
        let (folder, config, data) = try setUp()
        defer { withExtendedLifetime(folder) {} }
        let run = ["train", "--config", config, "--data", data, "--quiet"]
        let absent = try await Program.run(run + ["--mpi"])
        if absent.exitCode != 0 {
            #expect(absent.exitCode == 2 && absent.errors.contains("swift build -c release --traits MPI"))
        }
        for options in [
            ["--mpi", "--ranks", "2"], ["--mpi", "--backend", "reference"], ["--mpi", "--verify", "1"],
            ["--mpi", "--trace", folder.file("t.h5")], ["--bandwidth", "fast"], ["--bandwidth", "0"],
            ["--latency", "-1"], ["--bandwidth", "1", "--backend", "reference"],
        ] { #expect(try await Program.run(run + options).exitCode == 64, "\(options)") }
    }

    @Test("T6: engine and reference print one fingerprint, on every instruction set and with any number of threads")
    func backends() async throws {
        let (folder, config, data) = try setUp()
        defer { withExtendedLifetime(folder) {} }
        let run = ["train", "--config", config, "--data", data, "--quiet"]
        let reference = try await Program.run(run + ["--backend", "reference"])
        let fingerprint = try #require(line("fingerprint", reference.output))
        for options in [
            ["--threads", "1"], ["--threads", "3"], ["--isa", "portable"], ["--isa", "portable", "--threads", "16"],
        ] {
            let engine = try await Program.run(run + options)
            #expect(
                engine.exitCode == 0 && line("fingerprint", engine.output) == fingerprint,
                "\(options): \(engine.errors)")
            #expect(line("held out", engine.output) == line("held out", reference.output))
        }
        let unhashed = try await Program.run(run + ["--no-fingerprint"])
        #expect(unhashed.exitCode == 0 && line("fingerprint", unhashed.output) == nil)
        #expect(line("weights", unhashed.output)?.count == 13 + 64)
        let missing = try await Program.run(run + ["--isa", "vax"])
        #expect(missing.exitCode == 64 && missing.errors.contains("'vax'"))
    }

    @Test("a run in lockstep says what was recomputed; a page holds the loss curve; the model writes")
    func verified() async throws {
        let (folder, config, data) = try setUp()
        let page = folder.file("page.html")
        let outcome = try await Program.run(
            "train", "--config", config, "--data", data, "--quiet", "--verify", "3", "--report", page, "--sample", "a",
            "--sample-bytes", "5")
        #expect(outcome.exitCode == 0, "\(outcome.errors)")
        #expect(line("verified", outcome.output)?.contains("all bit-exact") == true)
        #expect(outcome.output.contains("sample       a|"))
        let html = try String(contentsOfFile: page, encoding: .utf8)
        #expect(html.contains("<polyline") && html.contains("all bit-exact") && !html.contains("http"))
        let reference = try await Program.run("train", "--backend", "reference", "--verify", "3")
        #expect(reference.exitCode == 64)
    }

    @Test("a run that was cut in two goes on bit for bit")
    func resumed() async throws {
        let (folder, config, data) = try setUp()
        let checkpoints = folder.file("checkpoints")
        let run = ["train", "--config", config, "--data", data, "--quiet"]
        let whole = try await Program.run(run + ["--steps", "3"])
        let fingerprint = try #require(line("fingerprint", whole.output))
        let first = try await Program.run(run + ["--steps", "2", "--checkpoint", checkpoints])
        #expect(first.exitCode == 0, "\(first.errors)")
        let again = try await Program.run(run + ["--steps", "3", "--checkpoint", checkpoints])
        #expect(again.exitCode == 2 && again.errors.contains("--resume"))
        let second = try await Program.run(run + ["--steps", "3", "--checkpoint", checkpoints, "--resume"])
        #expect(second.exitCode == 0 && line("fingerprint", second.output) == fingerprint, "\(second.errors)")
        let over = try await Program.run(run + ["--steps", "2", "--checkpoint", checkpoints, "--resume"])
        #expect(over.exitCode == 2 && over.errors.contains("step 3 already"))
    }

    @Test("check compares the engine with the goldens; bench prints JSON")
    func engineCommands() async throws {
        let goldens = "\(Program.root)/GoldenData"
        let check = try await Program.run(
            "check", "--goldens", goldens, "--suite", "squinch", "--isa", "portable", "--threads", "2")
        #expect(check.exitCode == 0 && check.output.contains("CONFORMS"), "\(check.errors)")
        let none = try await Program.run("check", "--goldens", "no/such/place")
        #expect(none.exitCode == 2)
        let bench = try await Program.run("bench", "--only", "math", "--repeats", "1", "--json")
        #expect(bench.exitCode == 0)
        guard case .array(let rows) = try JSONValue(text: bench.output) else { return #expect(Bool(false), "no array") }
        #expect(rows.count == 3)
    }

    @Test("what cannot be trained is an error that names it, exit status 2 or 64")
    func refusals() async throws {
        let (folder, config, data) = try setUp()
        let empty = folder.file("empty.jsonl")
        try write("\n", empty)
        let broken = folder.file("broken.jsonl")
        try write("{\"text\": \"a\"}\n{\"text\": \"\"}\n", broken)
        let distilled = folder.file("distilled.json")
        try write(#"{"distillation_k": 3}"#, distilled)
        for (arguments, code, message) in [
            (["--config", "huge", "--data", data], 2, "huge"), (["--config", data, "--data", data], 2, "text.txt"),
            (["--config", config, "--data", folder.file("none")], 2, "no such file or folder"),
            (["--config", config, "--data", empty], 2, "no document"),
            (["--config", config, "--data", broken], 2, "line 2"),
            (["--config", distilled, "--data", data], 2, "distillation_k"),
            (["--config", config, "--data", data, "--log", folder.file("no/such/place")], 2, "no/such"),
            (["--config", config, "--steps", "0"], 64, "--steps"), (["--backend", "gpu"], 64, "gpu"),
        ] as [([String], Int, String)] {
            let outcome = try await Program.run(["train", "--quiet"] + arguments)
            #expect(outcome.exitCode == code && outcome.errors.contains(message), "\(arguments): \(outcome.errors)")
        }
    }

    @Test("data shows sequences token by token")
    func data() async throws {
        let folder = try TemporaryFolder()
        let path = folder.file("tree.jsonl")
        try write(#"{"text": "ab", "children": [{"text": "c"}, {"text": "d"}]}"#, path)
        let outcome = try await Program.run("data", path, "--sequence-length", "6", "--show", "1")
        #expect(outcome.exitCode == 0 && outcome.output.contains("1 document, 4 tokens"), "\(outcome.errors)")
        #expect(outcome.output.contains("d         2       -  [3, 4)"), "\(outcome.output)")
        let bad = try await Program.run("data", folder.file("none"))
        #expect(bad.exitCode == 2)
    }

    @Test("V: dump --image draws a mask as PNG and SVG")
    func images() async throws {
        let folder = try TemporaryFolder()
        let golden = "\(Program.root)/GoldenData/visibility/masks.h5"
        for (name, caseName) in [
            ("a.png", "dense-tree"), ("a.svg", "dense-tree"), ("b.png", "build-prefix"), ("c.png", "tree-branches"),
        ] {
            let outcome = try await Program.run("dump", golden, "--case", caseName, "--image", folder.file(name))
            #expect(outcome.exitCode == 0 && outcome.output.isEmpty, "\(outcome.errors)")
        }
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: folder.file("a.png"))))
        #expect(bytes.prefix(8) == [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A])
        // 24 cells of 12 pixels, 23 gaps of 1, two margins of 6.
        let side = UInt32(24 * 12 + 23 + 12)
        func big(_ at: Int) -> UInt32 { bytes[at..<at + 4].reduce(0) { $0 << 8 | UInt32($1) } }
        #expect(big(16) == side && big(20) == side)
        // The pixel rows, from the stored blocks: the diagonal is dark, the cell above it light.
        var raw: [UInt8] = []
        var offset = 8 + 25 + 8 + 2
        while true {
            let isLast = bytes[offset] == 1
            let count = Int(bytes[offset + 1]) | Int(bytes[offset + 2]) << 8
            raw += bytes[offset + 5..<offset + 5 + count]
            offset += 5 + count
            if isLast { break }
        }
        func red(_ x: Int, _ y: Int) -> UInt8 { raw[y * (3 * Int(side) + 1) + 1 + 3 * x] }
        #expect(red(6 + 6, 6 + 6) == 0x1F && red(6 + 13 + 6, 6 + 6) == 0xEE && red(0, 0) == 0xFF)
        #expect(try String(contentsOfFile: folder.file("a.svg"), encoding: .utf8).hasSuffix("</svg>\n"))
        let none = try await Program.run(
            "dump", "\(Program.root)/GoldenData/dot/gemm.h5", "--case", "length-3-paired-ftz", "--image",
            folder.file("d.png"))
        #expect(none.exitCode == 2 && none.errors.contains("no visibility mask"))
        #expect(try await Program.run("dump", golden, "--image", folder.file("d.png")).exitCode == 64)
        #expect(
            try await Program.run("dump", golden, "--case", "dense-tree", "--image", folder.file("d.gif")).exitCode
                == 64)
        #expect(!FileManager.default.fileExists(atPath: folder.file("d.png")))
    }
}
