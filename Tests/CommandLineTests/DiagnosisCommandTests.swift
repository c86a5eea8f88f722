import Foundation
import GoldenIO
import JSON
import Testing

@Suite("diagnose, mutate and localise, run as a user runs them")
struct DiagnosisCommandTests {
    private static func folder() throws -> String {
        let path = FileManager.default.temporaryDirectory.path + "/touchstone-diagnosis-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    /// Tools/examples/wrong.c as a shared library.
    private static func wrongLibrary(_ folder: String) throws -> String {
        let library = folder + "/libwrong.so"
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "clang", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-I",
            Program.root + "/Sources/CTouchstonePlugin/include",
            Program.root + "/Tools/examples/wrong.c", "-o", library, "-lm",
        ]
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return library
    }

    @Test("three wrong kernels are judged and named")
    func wrongKernels() async throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let library = try Self.wrongLibrary(folder)
        let suites = ["--suite", "dot", "--suite", "squinch", "--suite", "zreg"]
        let judged = try await Program.run(["validate", "--library", library, "--quiet"] + suites)
        #expect(judged.exitCode == 1)
        let named = try await Program.run(["diagnose", "--library", library] + suites)
        #expect(named.exitCode == 1)
        for name in ["dot.order.blocks-16", "squinch.nibble.high-first", "zreg.term.factor-2-missing"] {
            #expect(named.output.contains(name), "\(name) in: \(named.output)")
        }
        #expect(named.output.contains("NAMED: the bits of 3 of 3 wrong outputs are reproduced, in 3 of 3 operations"))
        let order = try await Program.run(["diagnose", "--library", library, "--probe-order", "40"])
        #expect(
            order.exitCode == 0 && order.output.contains("the order is that of dot.order.blocks-16"), "\(order.output)")
        let json = try await Program.run(["diagnose", "--library", library, "--format", "json", "--suite", "dot"])
        guard case .object(let object) = try JSONValue(text: json.output) else {
            Issue.record("no object")
            return
        }
        #expect(object["wrong_outputs"] == 1 && object["named_outputs"] == 1)
    }

    @Test("a right file has nothing wrong; a directory, nothing and two subjects are refused")
    func refusals() async throws {
        let right = try await Program.run(["diagnose", "GoldenData/random/draws.h5", "--goldens", "GoldenData"])
        #expect(right.exitCode == 0 && right.output.contains("NOTHING WRONG"), "\(right.output)\(right.errors)")
        #expect(try await Program.run(["diagnose"]).exitCode == 64)
        #expect(try await Program.run(["diagnose", "a.h5", "--library", "b.so"]).exitCode == 64)
        #expect(try await Program.run(["diagnose", "GoldenData"]).exitCode == 2)
        #expect(try await Program.run(["diagnose", "--library", "/nonexistent/lib.so"]).exitCode == 2)
        #expect(try await Program.run(["diagnose", "a.h5", "--probe-order", "8"]).exitCode == 64)
        #expect(try await Program.run(["diagnose", "--list"]).output.contains("zreg.term.negated"))
    }

    @Test("mutate plants, catches and names, a quick selection")
    func mutate() async throws {
        let good = try await Program.run(["mutate", "--quick", "--suite", "squinch", "--suite", "visibility"])
        #expect(good.exitCode == 0 && good.output.contains("GOOD: "), "\(good.output)\(good.errors)")
        #expect(try await Program.run(["mutate", "--goldens", "/nonexistent"]).exitCode == 2)
    }

    @Test("localise walks two traces and two logs to the place where they part")
    func localise() async throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        func train(_ name: String, _ options: [String]) async throws {
            let run = try await Program.run(
                [
                    "train", "--config", "tiny", "--data", "README.md", "--steps", "2", "--quiet", "--log",
                    "\(folder)/\(name).jsonl",
                    "--trace", "\(folder)/\(name).h5", "--trace-step", "2",
                ] + options)
            #expect(run.exitCode == 0, "\(run.errors)")
        }
        try await train("engine", ["--threads", "2"])
        try await train("reference", ["--backend", "reference"])
        try #"{"preset": "tiny", "norm_epsilon": 0.001}"#.write(
            toFile: folder + "/other.json", atomically: true, encoding: .utf8)
        try await train("other", ["--config", folder + "/other.json"])
        func compare(_ a: String, _ b: String) async throws -> Program.Outcome {
            try await Program.run(["localise", "\(folder)/\(a)", "\(folder)/\(b)"])
        }
        let same = try await compare("engine.h5", "reference.h5")
        #expect(
            same.exitCode == 0 && same.output.contains("NO DIFFERENCE in 143 of the step's 143 tensors"),
            "\(same.output)")
        #expect(try await compare("engine.jsonl", "reference.jsonl").exitCode == 0)
        let logs = try await compare("engine.jsonl", "other.jsonl")
        #expect(logs.exitCode == 1 && logs.output.contains("the runs part in step 1"), "\(logs.output)")
        // Other configurations are no pair.
        #expect(try await compare("engine.h5", "other.h5").exitCode == 2)
        let alone = try await Program.run(["localise", "\(folder)/engine.h5"])
        #expect(alone.exitCode == 0 && alone.output.contains("NOTHING WRONG"), "\(alone.output)\(alone.errors)")
        #expect(try await Program.run(["localise", "GoldenData/dot/gemm.h5"]).exitCode == 2)
        #expect(try await Program.run(["localise", "\(folder)/engine.jsonl"]).exitCode == 2)
    }
}
