import Cases
import Foundation
import GoldenIO
import JSON
import Testing

@Suite("touchstone fuzz, run as a user runs it")
struct FuzzCommandTests {
    private func object(_ path: String) throws -> [String: JSONValue] {
        let text = String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
        guard case .object(let object) = try JSONValue(text: text) else { return [:] }
        return object
    }

    @Test("the engine conforms; the report has a line for each operation and class")
    func engine() async throws {
        let folder = try TemporaryFolder()
        let outcome = try await Program.run("fuzz", "--cases", "130", "--threads", "2", directory: folder.path)
        #expect(outcome.exitCode == 0, "\(outcome.errors)\(outcome.output)")
        #expect(outcome.output.contains("CONFORMS: 130 cases"))
        for text in ["training.step", "bf16.add", "tile-edge", "mask-empty-row"] {
            #expect(outcome.output.contains(text))
        }
        #expect(folder.contents.isEmpty, "nothing failed, nothing is written")
    }

    @Test("a run in two parts on one thread is the run in one on two")
    func resumes() async throws {
        let folder = try TemporaryFolder()
        let selection = ["--suite", "dot", "--operation", "clamp.static", "--seed", "0x51", "--quiet"]
        for (name, cases, threads) in [("whole", "30", "2"), ("part", "7", "1"), ("part", "30", "1")] {
            let outcome = try await Program.run(
                ["fuzz", "--cases", cases, "--threads", threads, "--resume", "\(name).json", "--report", "\(name).txt"]
                    + selection,
                directory: folder.path)
            #expect(outcome.exitCode == 0 && outcome.output.isEmpty, "\(outcome.errors)")
        }
        var (whole, part) = (try object(folder.file("whole.json")), try object(folder.file("part.json")))
        (whole["subject"], part["subject"]) = (nil, nil)
        #expect(whole == part)
        #expect(whole["next_case"] != .integer(0))
        #expect(folder.contents == ["part.json", "part.txt", "whole.json", "whole.txt"])
        let other = try await Program.run("fuzz", "--resume", "part.json", "--seed", "1", directory: folder.path)
        #expect(other.exitCode == 2 && other.errors.contains("part.json"))
    }

    @Test("a command that rounds wrongly is found, and its smallest case is a golden file")
    func command() async throws {
        let folder = try TemporaryFolder()
        let command = "\"$TOUCHSTONE\" evaluate {in} {out} --quiet --with rounding:rne=rtz"
        let arguments = [
            "fuzz", "--exec", command, "--operation", "bf16.mul", "--seed", "2", "--cases", "30", "--shrink-limit",
            "60",
            "--output", "found.h5", "--resume", "state.json",
        ]
        let outcome = try await Program.run(arguments + ["--format", "json"], directory: folder.path)
        #expect(outcome.exitCode == 1, "\(outcome.errors)\(outcome.output)")
        guard case .object(let report) = try JSONValue(text: outcome.output),
            case .array(let failures)? = report["failures"],
            case .object(let failure)? = failures.first, case .string(let name)? = failure["name"],
            case .integer(let number)? = failure["case"]
        else {
            Issue.record("no failure in \(outcome.output)")
            return
        }
        let names = failures.compactMap { failure -> String? in
            if case .object(let failure) = failure, case .string(let name)? = failure["name"] { name } else { nil }
        }
        // Truncation gives other results, and where it does not overflow, other flags: a class each.
        #expect(names.count == failures.count && (1...2).contains(names.count))
        let file = try GoldenFile(reading: folder.file("found.h5"))
        #expect(file.caseNames == names && file.header.suite == "bf16")
        let minimal = try file.readCase(name)
        #expect(minimal.inputs["a"]?.count == 1 && minimal.why.contains("outputs/r differs"))
        // The file is read by the other commands; the engine has its bits, the command has not.
        for (expected, arguments) in [
            (0, ["check", "--goldens", "found.h5"]), (0, ["dump", "found.h5"]),
            (1, ["validate", "--goldens", "found.h5", "--exec", command]),
        ] {
            let outcome = try await Program.run(arguments, directory: folder.path)
            #expect(outcome.exitCode == expected, "\(arguments): \(outcome.errors)\(outcome.output)")
        }
        let again = try await Program.run(
            "fuzz", "--exec", command, "--seed", "2", "--only", "\(number)", "--shrink-limit", "60", "--output",
            "again.h5",
            directory: folder.path)
        #expect(again.exitCode == 1)
        #expect(try GoldenFile(reading: folder.file("again.h5")).readCase(name) == minimal)
        // Going on, the failure is still there.
        let more = try await Program.run(arguments + ["--quiet"], directory: folder.path)
        #expect(more.exitCode == 1)
        #expect(try GoldenFile(reading: folder.file("found.h5")).readCase(name) == minimal)
    }

    @Test("a command that fails is a failure of the case; one that has no operation is not judged")
    func crash() async throws {
        let folder = try TemporaryFolder()
        let crash = try await Program.run(
            "fuzz", "--exec", "kill -SEGV $$ # {in} {out}", "--operation", "dot.gemm", "--cases", "1", "--shrink-limit",
            "5",
            directory: folder.path)
        #expect(crash.exitCode == 1 && crash.output.contains("signal"), "\(crash.errors)\(crash.output)")
        #expect(folder.contents == ["touchstone-fuzz.h5"])
    }

    @Test(
        "wrong command lines",
        arguments: [
            ["--cases", "0"], ["--cases", "1", "--seconds", "1"], ["--seconds", "-1"], ["--operation", "dot.gem"],
            ["--against", "exec"], ["--against", "engine", "--exec", "a {in} {out}"],
            ["--library", "a", "--exec", "b"],
            ["--only", "3", "--cases", "4"], ["--only", "-1"], ["--suite", "none"], ["--isa", "none"],
        ])
    func usage(arguments: [String]) async throws {
        let outcome = try await Program.run(["fuzz"] + arguments)
        #expect(outcome.exitCode == 64, "\(outcome.errors)")
    }
}
