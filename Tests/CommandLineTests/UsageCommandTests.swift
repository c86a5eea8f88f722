import Foundation
import Testing

@Suite("Numbers, help, units and plurals, as a user meets them")
struct UsageCommandTests {
    /// Every option that takes a number: the command with what it must have, the option, and whether 0 is a value.
    static let table: [(command: [String], option: String, takesZero: Bool)] = [
        (["validate", "a"], "timeout", false), (["validate", "a"], "memory", true),
        (["validate", "a"], "details", true), (["diagnose", "a"], "timeout", false),
        (["diagnose", "a"], "memory", true),
        (["diagnose", "--library", "a"], "probe-order", false), (["check"], "threads", false),
        (["check"], "details", true), (["diff", "a", "b"], "details", true), (["localise", "a"], "samples", false),
        (["evaluate", "a", "b"], "threads", false), (["generate"], "seed", true), (["dump", "a"], "start", true),
        (["dump", "a"], "count", true), (["dump", "a"], "batch", true), (["data", "a"], "sequence-length", false),
        (["data", "a"], "show", true), (["demo"], "seconds", false), (["bench"], "repeats", false),
        (["bench"], "threads", false), (["fuzz"], "cases", false), (["fuzz"], "seconds", false),
        (["fuzz"], "seed", true), (["fuzz"], "only", true), (["fuzz"], "timeout", false), (["fuzz"], "memory", true),
        (["fuzz"], "shrink-limit", true), (["fuzz"], "threads", false),
        (["prove", "bf16", "--operation", "add"], "threads", false),
        (["prove", "bf16", "--operation", "add"], "shard", false),
        (["prove", "bf16", "--operation", "add"], "seed", true),
        (["prove", "bf16", "--operation", "fma"], "samples", false),
        (["prove", "engine", "--function", "exp"], "threads", false), (["train"], "steps", false),
        (["train"], "verify", false), (["train"], "ranks", false), (["train"], "threads", false),
        (["train", "--bandwidth", "1"], "latency", true), (["train", "--checkpoint", "a"], "checkpoint-every", false),
        (["train"], "sample-bytes", false), (["train"], "temperature", false),
        (["train", "--trace", "a"], "trace-step", false),
        (["distill", "sample", "--checkpoint", "a", "--output", "b"], "k", false),
        (["distill", "sample", "--checkpoint", "a", "--output", "b"], "seed", true),
        (["distill", "sample", "--checkpoint", "a", "--output", "b"], "sequences", false),
        (["distill", "sample", "--checkpoint", "a", "--output", "b"], "chunk", false),
        (["distill", "train", "--targets", "a"], "steps", false),
        (["distill", "train", "--targets", "a", "--checkpoint", "b"], "checkpoint-every", false),
        (["study", "precision"], "steps", false), (["study", "precision"], "seeds", false),
        (["study", "precision"], "seed", true), (["study", "precision"], "width", false),
    ]

    @Test(
        "a number out of range, too large or none at all is a usage error that names option and range",
        arguments: table.indices)
    func numbers(_ index: Int) async throws {
        let (command, option, takesZero) = Self.table[index]
        for value in ["-1", "-0.5", "99999999999999999999999999999999999999999999999999", "many", "nan", ""]
            + (takesZero ? [] : ["0"])
        {
            let outcome = try await Program.run(command + ["--\(option)", value])
            #expect(outcome.exitCode == 64, "\(command) --\(option) \(value): \(outcome.exitCode) \(outcome.errors)")
            #expect(
                outcome.errors.contains("The value '\(value)' is invalid for '--\(option) <")
                    && outcome.errors.contains(": expected "), "\(command) --\(option) \(value): \(outcome.errors)")
        }
    }

    @Test("no option with a number in its help is missing above")
    func complete() async throws {
        var seen = 0
        for command in Self.commands {
            // What stands under an option with a long name is its line too.
            let help = try await Program.run(command + ["--help"], settings: ["COLUMNS": "400"]).output
                .replacing(/\n {26}/, with: " ")
            for line in help.split(separator: "\n") {
                guard
                    let match = line.firstMatch(
                        of: /^  (?:-., )?--([a-z-]+) <[^>]*>.*\(default: (?:0x)?[0-9][0-9a-f.\/]*\)$/)
                else { continue }
                seen += 1
                let option = String(match.output.1)
                #expect(
                    Self.table.contains { $0.option == option && $0.command.first == command.first },
                    "\(command): \(option)")
            }
        }
        #expect(seen >= 20, "\(seen)")
    }

    private static let commands = [
        [], ["generate"], ["evaluate"], ["validate"], ["diagnose"], ["localise"], ["check"], ["fuzz"], ["mutate"],
        ["train"], ["bench"], ["data"], ["distill"], ["distill", "sample"], ["distill", "train"], ["study"], ["diff"],
        ["dump"], ["hash"], ["prove"], ["prove", "bf16"], ["prove", "math"], ["prove", "engine"], ["prove", "squinch"],
        ["doctor"], ["demo"], ["operations"],
    ]

    @Test("a command in a help text is whole at 80 columns and can be copied")
    func examples() async throws {
        var count = 0
        for command in Self.commands {
            let help = try await Program.run(command + ["--help"], settings: ["COLUMNS": "80"])
            #expect(help.exitCode == 0)
            let lines = help.output.split(separator: "\n", omittingEmptySubsequences: false)
            for (index, line) in lines.enumerated()
            where line.starts(with: #/  (touchstone|cc|mpirun|until|python) /#) {
                count += 1
                #expect(line.count < 80, "\(command): \(line)")
                for quote in ["'", "\""] {
                    #expect(line.count { String($0) == quote } % 2 == 0, "\(command): \(line)")
                }
                // What was wrapped stands at the left edge, behind its beginning.
                let next = lines[index + 1]
                #expect(next.isEmpty || next.hasPrefix("  "), "\(command): \(line) / \(next)")
            }
        }
        #expect(count >= 18, "\(count)")
    }

    @Test("no goldens: what to do; a path stands once in a message")
    func messages() async throws {
        let folder = try TemporaryFolder()
        try Data("nothing".utf8).write(to: URL(fileURLWithPath: folder.file("plain")))
        for arguments in [
            ["validate", "--exec", "cp {in} {out}"], ["check"], ["mutate"],
            ["diagnose", "--exec", "cp {in} {out}"],
        ] {
            let outcome = try await Program.run(arguments, directory: folder.path)
            #expect(outcome.exitCode == 2, "\(outcome.errors)")
            for part in ["'GoldenData'", "--goldens", "touchstone generate"] {
                #expect(outcome.errors.contains(part), "\(arguments): \(outcome.errors)")
            }
        }
        let path = folder.file("no/such/file")
        let plain = folder.file("plain")
        for (name, arguments) in [
            (plain, ["validate", "--library", plain, "--goldens", "\(Program.root)/GoldenData"]),
            (path, ["validate", path]), (path, ["check", "--goldens", path]), (path, ["dump", path]),
            (path, ["hash", path]), (path, ["data", path]), (path, ["evaluate", path, plain]),
            (path, ["localise", path]), (path, ["localise", path + ".jsonl", path + "2.jsonl"]),
            (path, ["diff", path, plain]), (path, ["train", "--config", "tiny", "--data", path]),
            (path, ["train", "--config", path]),
            (path, ["distill", "sample", "--checkpoint", path, "--output", plain]),
            (plain, ["dump", plain]), (plain, ["fuzz", "--cases", "1", "--resume", plain]),
            (plain, ["prove", "bf16", "--operation", "sqrt", "--resume", plain, "--quiet"]),
            (plain, ["distill", "sample", "--checkpoint", plain, "--output", path]),
            (plain, ["train", "--config", plain]), (plain, ["evaluate", plain, path]),
            (plain, ["train", "--checkpoint", plain, "--steps", "1", "--data", plain, "--quiet"]),
        ] {
            let outcome = try await Program.run(arguments, directory: folder.path)
            #expect(outcome.exitCode == 2, "\(arguments): \(outcome.exitCode) \(outcome.output)\(outcome.errors)")
            let parts = outcome.errors.components(separatedBy: name)
            #expect(parts.count == 2, "\(arguments): \(outcome.errors)")
        }
    }

    @Test("units are the field's, and plurals are right")
    func words() async throws {
        let folder = try TemporaryFolder()
        let text = folder.file("text.txt")
        try Data(String(repeating: "a text. ", count: 40).utf8).write(to: URL(fileURLWithPath: text))
        let data = try await Program.run("data", text)
        #expect(data.output.hasPrefix("1 file, 1 document, 320 tokens in 5 sequences, "), "\(data.output)")
        let train = try await Program.run("train", "--data", text, "--steps", "1", "--threads", "1", "--quiet")
        let heldOut = train.output.split(separator: "\n").first { $0.hasPrefix("held out") } ?? ""
        let match = try #require(heldOut.wholeMatch(of: /held out     ([0-9.]+), ([0-9.]+) bits a byte/), "\(heldOut)")
        let (nats, bits) = (try #require(Double(match.output.1)), try #require(Double(match.output.2)))
        #expect(abs(bits * 0.6931471805599453 - nats) < 1e-3 && nats > 1)
        let bench = try await Program.run("bench", "--only", "peak", "--repeats", "1", "--threads", "1")
        let rates = bench.output.split(separator: "\n").dropFirst()
        #expect(bench.output.contains("1 thread, median of 1") && rates.count == 2, "\(bench.output)")
        #expect(rates.contains { $0.contains(/[0-9.]+ [GT]FLOP\/s  [0-9]+ µs$/) }, "\(bench.output)")
        #expect(rates.contains { $0.contains(/[0-9.]+ [GT]B\/s  [0-9]+ µs$/) }, "\(bench.output)")
        let evaluated = try await Program.run(
            "generate", "--suite", "random", "--output", folder.file("goldens"))
        #expect(evaluated.output.contains(": 1 file, "), "\(evaluated.output)")
    }
}
