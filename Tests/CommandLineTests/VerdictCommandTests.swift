import Cases
import Foundation
import GoldenIO
import JSON
import Testing

@Suite("What a command prints and its exit status agree; comparing nothing is no success")
struct VerdictCommandTests {
    private func write(_ cases: [GoldenCase], _ path: String, suite: String = "bf16") throws {
        let writer = try GoldenWriter(
            path: path, header: GoldenHeader(specVersion: "", suite: suite, tier: "", generator: "a test", seed: 0))
        for one in cases { try writer.write(one) }
        try writer.finish()
    }

    private func sum(
        _ name: String = "one", outputs: TensorGroup = [NamedTensor("r", Tensor(bf16: [0x4000], shape: [1]))],
        intermediate: Float? = nil
    ) -> GoldenCase {
        let one = Tensor(bf16: [0x3F80], shape: [1])
        var made = GoldenCase(
            name: name, op: "bf16.add", recipe: ["rounding": "rne"],
            inputs: [NamedTensor("a", one), NamedTensor("b", one)])
        made.outputs = outputs
        if let intermediate { made.intermediates = [NamedTensor("t", Tensor([intermediate], shape: [1]))] }
        return made
    }

    @Test("diff: the word it prints is the exit status, and what is not compared is named")
    func diff() async throws {
        let folder = try TemporaryFolder()
        let other = TensorGroup([NamedTensor("r", Tensor(bf16: [0x4001], shape: [1]))])
        let files: [(String, [GoldenCase])] = [
            ("plain", [sum()]), ("same", [sum()]), ("inputs", [sum(outputs: [])]), ("inputs2", [sum(outputs: [])]),
            ("thick", [sum(intermediate: 1)]), ("thick2", [sum(intermediate: 2)]),
            ("bare", [sum(outputs: [], intermediate: 1)]), ("bare2", [sum(outputs: [], intermediate: 2)]),
            ("wrong", [sum(outputs: other)]), ("more", [sum(), sum("two")]), ("elsewhere", [sum("two")]),
            ("half", [sum(), sum("two", outputs: [])]), ("empty", []),
        ]
        for (name, cases) in files { try write(cases, folder.file("\(name).h5")) }
        let table: [(a: String, b: String, options: [String], code: Int, says: String)] = [
            ("plain", "same", [], 0, "CONFORMS: 1 of 1 output in 1 case"),
            ("plain", "same", [], 0, "not compared: tensors of inputs (2)"),
            ("plain", "same", ["--all"], 0, "CONFORMS: 3 of 3"),
            ("inputs", "inputs2", [], 2, "no output to compare; --all compares inputs (2) too"),
            ("inputs", "inputs2", ["--all"], 0, "CONFORMS"), ("empty", "empty", [], 2, "no case to compare"),
            ("bare", "bare2", [], 2, "no output to compare; --all compares inputs (2), intermediates (1) too"),
            ("bare", "bare2", ["--all"], 1, "DOES NOT CONFORM"),
            ("thick", "thick2", [], 0, "not compared: tensors of inputs (2), intermediates (1); --all compares them"),
            ("thick", "thick2", ["--all"], 1, "DOES NOT CONFORM"),
            ("plain", "wrong", [], 1, "DOES NOT CONFORM: 0 of 1"),
            ("plain", "more", [], 1, "DOES NOT CONFORM: 1 of 1 output in 1 case (1 exact); 1 other difference"),
            ("more", "plain", [], 1, "only in \(folder.file("more.h5")): case 'two'"),
            ("plain", "elsewhere", [], 1, "DOES NOT CONFORM: 0 of 0 outputs in 0 cases; 2 other differences"),
            ("inputs", "plain", [], 1, "case 'one', outputs/r"), ("plain", "inputs", [], 1, "missing"),
            ("half", "half", [], 0, "1 case without outputs in both files: two"),
        ]
        for row in table {
            let outcome = try await Program.run(
                ["diff", folder.file("\(row.a).h5"), folder.file("\(row.b).h5")] + row.options)
            let text = outcome.output + outcome.errors
            #expect(outcome.exitCode == row.code && text.contains(row.says), "\(row): \(outcome.exitCode) \(text)")
            guard row.code < 2 else { continue }
            let last = outcome.output.split(separator: "\n").last ?? ""
            #expect(last.hasPrefix(row.code == 0 ? "CONFORMS:" : "DOES NOT CONFORM:"), "\(row): \(last)")
        }
    }

    @Test(
        "validate, check: a name that matches nothing is refused, whatever else matches; wildcards select and exclude")
    func selections() async throws {
        let golden = "GoldenData/bf16/arithmetic.h5"
        for arguments in [
            ["validate", golden], ["check", "--goldens", golden],
            ["validate", "--goldens", golden, "--exec", "cp {in} {out}"],
        ] {
            let one = try await Program.run(arguments + ["--case", "add-*", "--case", "nosuch"])
            #expect(one.exitCode == 2 && one.errors.contains("no case is named 'nosuch'"), "\(one.errors)")
            let other = try await Program.run(arguments + ["--exclude", "nosuch.*"])
            #expect(other.exitCode == 2 && other.errors.contains("'nosuch.*'"), "\(other.errors)")
        }
        let all = try await Program.run("validate", golden)
        let some = try await Program.run("validate", golden, "--case", "*-rne", "--exclude", "bf16.add")
        #expect(some.exitCode == 0 && some.output.contains("bf16.mul") && !some.output.contains("bf16.add"))
        #expect(some.output.contains("not asked, by --exclude") && some.output.count < all.output.count)
        let dump = try await Program.run("dump", golden, "--case", "add-boundary-grid-*", "--count", "1")
        #expect(dump.exitCode == 0 && dump.output.split(separator: "\n").count { $0.hasPrefix("case ") } > 1)
        let suite = try await Program.run("generate", "--suite", "random", "--output", "/dev/null/x")
        #expect(suite.exitCode == 2)
    }

    @Test("a suite without files, fingerprints of nothing, a fuzz run without operations, a mutation without defects")
    func nothing() async throws {
        let folder = try TemporaryFolder()
        #expect(
            try await Program.run("generate", "--suite", "random", "--output", folder.path, "--quiet").exitCode == 0)
        let suites = try await Program.run(
            "check", "--goldens", folder.path, "--suite", "random", "--suite", "dot")
        #expect(suites.exitCode == 2 && suites.errors.contains("no file of the suite 'dot'"), "\(suites.errors)")
        try write([sum(), sum("two", outputs: [])], folder.file("half.h5"))
        let hash = try await Program.run("hash", "--cases", folder.file("half.h5"))
        #expect(hash.exitCode == 2 && hash.errors.contains("case 'two' has no outputs"), "\(hash.errors)")
        #expect(hash.output.split(separator: "\n").count == 1)
        #expect(try await Program.run("hash", "--inputs", folder.file("half.h5")).exitCode == 0)
        let fuzz = try await Program.run("fuzz", "--operation", "bf16.*", "--exclude", "bf16.*")
        #expect(fuzz.exitCode == 64 && fuzz.errors.contains("leave no operation"), "\(fuzz.errors)")
        // More shards than blocks: some have no case.
        let shard = try await Program.run(
            "prove", "bf16", "--operation", "sqrt", "--shard", "1/1000000", "--threads", "1", "--quiet")
        #expect(shard.exitCode == 2 && shard.errors.contains("nothing was proved"), "\(shard.output)\(shard.errors)")
    }

    @Test("a failed command: NOT ALL JUDGED and exit status 2, once, with its reason first")
    func failures() async throws {
        let command = "printf 'bad \\033[31m\\007\\000 news\\n' >&2; exit 3 # {in} {out}"
        let outcome = try await Program.run("validate", "--suite", "random", "--suite", "dot", "--exec", command)
        #expect(outcome.exitCode == 2)
        let lines = outcome.output.split(separator: "\n").map(String.init)
        let heads = lines.indices.filter { lines[$0].hasPrefix("FAILED") }
        #expect(heads.count == 1, "\(outcome.output)")
        let head = try #require(heads.first)
        #expect(lines[head].contains("failed with exit status 3"), "\(lines[head])")
        #expect(lines[head + 1].contains("bad \\u001B[31m\\u0007\\u0000 news"), "\(lines[head + 1])")
        #expect(lines[head + 2].contains("outputs in"))
        #expect(lines.last?.hasPrefix("NOT ALL JUDGED: 0 of") == true)
        for text in [outcome.output, outcome.errors] {
            #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" })
        }
        let quiet = try await Program.run(
            "validate", "--suite", "random", "--suite", "dot", "--quiet", "--exec", command)
        #expect(quiet.output.isEmpty && quiet.errors.split(separator: "\n").count == 2, "\(quiet.errors)")
        let diagnosis = try await Program.run("diagnose", "--suite", "random", "--exec", command)
        #expect(diagnosis.exitCode == 2 && diagnosis.output.contains("NOT ALL JUDGED"), "\(diagnosis.output)")
    }

    @Test("names from a file cannot steer the terminal, in any command that shows them")
    func names() async throws {
        let folder = try TemporaryFolder()
        let path = folder.file("evil\u{1B}[2J.h5")
        var one = sum("one\u{1B}[2J\u{7}")
        one.why = "why\u{1B}]0;title\u{7}"
        try write([one], path)
        let wrong = path + "wrong"
        one.outputs = [NamedTensor("r", Tensor(bf16: [0x4001], shape: [1]))]
        try write([one], wrong)
        for arguments in [
            ["dump", path], ["dump", path, "--case", "*"], ["hash", "--cases", path], ["diff", path, wrong],
            ["validate", wrong, "--goldens", path], ["check", "--goldens", path], ["evaluate", path, path + "2"],
            ["dump", path + "\u{7}absent"],
        ] {
            let outcome = try await Program.run(arguments)
            let text = outcome.output + outcome.errors
            #expect(text.contains("\\u001B[2J"), "\(arguments[0]): \(text)")
            #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" }, "\(arguments[0]): \(text)")
        }
    }

    @Test("localise: tensors that are missing or unknown are named, and then nothing is called the same")
    func localise() async throws {
        let folder = try TemporaryFolder()
        let train = try await Program.run(
            "train", "--config", "tiny", "--data", "README.md", "--steps", "1", "--quiet", "--trace",
            folder.file("whole.h5"), "--log", folder.file("a.jsonl"))
        #expect(train.exitCode == 0, "\(train.errors)")
        let file = try GoldenFile(reading: folder.file("whole.h5"))
        let whole = try file.readCase(file.caseNames[0])
        func write(_ name: String, _ change: (inout GoldenCase) -> Void) throws {
            var one = whole
            change(&one)
            let writer = try GoldenWriter(path: folder.file("\(name).h5"), header: file.header)
            try writer.write(one)
            try writer.finish()
        }
        let names = whole.intermediates.names
        try write("half") { $0.intermediates = TensorGroup(Array(whole.intermediates.tensors.prefix(names.count / 2))) }
        try write("renamed") { one in
            one.intermediates = TensorGroup(
                whole.intermediates.tensors.map { $0.name == names[3] ? NamedTensor("mine", $0.tensor) : $0 })
        }
        try write("extra") { $0.intermediates.append("mine", Tensor([1] as [Float], shape: [1])) }
        for (arguments, code, says) in [
            (["whole", "whole"], 0, ["NO DIFFERENCE"]), (["whole"], 0, ["NOTHING WRONG"]),
            (["whole", "half"], 2, ["NOT ALL JUDGED", "not in both traces, so not compared", names[names.count / 2]]),
            (["whole", "renamed"], 2, ["NOT ALL JUDGED", names[3], "mine"]),
            (["renamed", "renamed"], 2, ["NOT ALL JUDGED", names[3], "mine"]),
            (["whole", "extra"], 2, ["NOT ALL JUDGED", "1 tensor: mine"]), (["extra"], 2, ["NOT ALL JUDGED", "mine"]),
            (["half"], 2, ["NOT ALL JUDGED", "not in the trace", "not recomputed"]),
        ] as [([String], Int, [String])] {
            let outcome = try await Program.run(["localise"] + arguments.map { folder.file("\($0).h5") })
            #expect(outcome.exitCode == code, "\(arguments): \(outcome.output)\(outcome.errors)")
            for part in says { #expect(outcome.output.contains(part), "\(arguments): \(part): \(outcome.output)") }
        }
        // Logs: steps that only one has are not compared.
        let log = try String(contentsOfFile: folder.file("a.jsonl"), encoding: .utf8)
        try (log + log.replacing("\"step\":1", with: "\"step\":2")).write(
            toFile: folder.file("b.jsonl"), atomically: true, encoding: .utf8)
        let logs = try await Program.run("localise", folder.file("a.jsonl"), folder.file("b.jsonl"))
        #expect(
            logs.exitCode == 2 && logs.output.contains("not compared, only in \(folder.file("b.jsonl")): step 2"),
            "\(logs.output)\(logs.errors)")
        #expect(try await Program.run("localise", folder.file("a.jsonl"), folder.file("a.jsonl")).exitCode == 0)
    }
}
