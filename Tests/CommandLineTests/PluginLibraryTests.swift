import Cases
import Checker
import Foundation
import JSON
import Platform
import Subprocess
import Testing

/// Shared libraries made for these tests, once.
private enum Libraries {
    /// Compiles with clang, which comes with Swift, or the system's compiler.
    static func compileC(_ source: String, _ name: String, _ flags: [String] = []) async throws -> String {
        let path = "\(folder)/\(name)"
        try await run(
            "/bin/sh",
            [
                "-c",
                #"compiler=$(command -v clang || command -v cc) && exec "$compiler" "$@""#, "sh", "-O2",
                "-ffp-contract=off",
                "-shared", "-fPIC", "-I", "Sources/CTouchstonePlugin/include", source, "-o", path,
            ] + flags + ["-lm"])
        return path
    }

    /// Removed when the tests end.
    private static let folder: String = {
        let path = FileManager.default.temporaryDirectory.path + "/touchstone-test-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        atexit { try? FileManager.default.removeItem(atPath: Libraries.folder) }
        return path
    }()

    static let exampleInC = Task { try await compileC("Tools/examples/plugin.c", "example-c.so") }
    static let exampleInSwift = Task {
        let path = "\(folder)/example-swift.so"
        try await run(
            "/usr/bin/env",
            [
                "swiftc", "-O", "-swift-version", "6", "-parse-as-library", "-emit-library", "-I",
                "Sources/CTouchstonePlugin/include", "Tools/examples/plugin.swift", "-o", path,
            ])
        return path
    }
    static let hostile = Task { try await compileC("Tests/Support/HostilePlugin/hostile.c", "hostile.so") }
    static let withoutVersion = Task {
        try await compileC(
            "Tests/Support/HostilePlugin/hostile.c", "no-version.so", ["-DHOSTILE_WITHOUT_VERSION"])
    }
    static let withoutOpen = Task {
        try await compileC("Tests/Support/HostilePlugin/hostile.c", "no-open.so", ["-DHOSTILE_WITHOUT_OPEN"])
    }

    struct CompilerError: Error, CustomStringConvertible { let description: String }

    private static func run(_ program: String, _ arguments: [String]) async throws {
        let result = try await Subprocess.run(
            .path(.init(program)), arguments: .init(arguments), workingDirectory: .init(Program.root),
            output: .string(limit: 1 << 20), error: .string(limit: 1 << 20))
        guard result.terminationStatus.isSuccess else {
            throw CompilerError(description: "\(arguments): \(result.standardError)")
        }
    }
}

@Suite("Shared libraries of touchstone.h, the command line", .serialized)
struct PluginLibraryCommandTests {
    private func json(_ outcome: Program.Outcome) throws -> [String: JSONValue] {
        guard case .object(let members) = try JSONValue(text: outcome.output) else { return [:] }
        return members
    }

    @Test("the example in C conforms in all that it has; the rest is skipped and counted")
    func exampleInC() async throws {
        let path = try await Libraries.exampleInC.value
        let outcome = try await Program.run("validate", "--library", path, "--format", "json")
        #expect(outcome.exitCode == 0, "\(outcome.errors)")
        let report = try json(outcome)
        #expect(report["conforms"] == true)
        guard case .array(let cases)? = report["cases"], case .array(let skipped)? = report["skipped"],
            case .object(let verdicts)? = report["verdicts"]
        else {
            Issue.record("no cases in the report")
            return
        }
        func operations(_ values: [JSONValue]) -> [String: Int] {
            values.reduce(into: [:]) { counts, value in
                if case .object(let one) = value, case .string(let op)? = one["op"] { counts[op, default: 0] += 1 }
            }
        }
        let judged = operations(cases)
        #expect(
            Set(judged.keys) == [
                "bf16.add", "bf16.sub", "bf16.mul", "bf16.div", "bf16.sqrt", "dot.gemm", "sum.lane16",
                "squinch.encode", "squinch.decode",
            ])
        #expect(operations(skipped)["gumbel.topk"] ?? 0 > 0)
        // Results stored as fp16 are not among what the example has.
        #expect(operations(skipped)["dot.gemm"] == 2)
        // Every bit, though a bound would do for products.
        for (verdict, count) in verdicts where verdict != "exact" { #expect(count == 0, "\(verdict)") }
    }

    @Test("the example in Swift conforms")
    func exampleInSwift() async throws {
        let path = try await Libraries.exampleInSwift.value
        let outcome = try await Program.run(
            "validate", "--library", path, "--policy", "exact", "--suite", "random", "--suite", "math", "--suite",
            "layers")
        #expect(outcome.exitCode == 0, "\(outcome.output)\(outcome.errors)")
        for operation in ["random.philox", "random.uniform", "math.sqrt", "math.reciprocal", "layer.relu2"] {
            #expect(outcome.output.contains(operation))
        }
        #expect(outcome.output.contains("random: random.gumbel (1), random.normal (1)"), "\(outcome.output)")
    }

    @Test("--require-all: what is not there is missing")
    func requireAll() async throws {
        let path = try await Libraries.exampleInC.value
        let outcome = try await Program.run("validate", "--library", path, "--suite", "dot", "--require-all")
        #expect(outcome.exitCode == 1, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.output.contains("MISSING"))
        #expect(!outcome.output.contains("skipped"))
    }

    @Test("nothing implemented: exit 2")
    func nothing() async throws {
        let path = try await Libraries.exampleInC.value
        let outcome = try await Program.run("validate", "--library", path, "--suite", "gumbel")
        #expect(outcome.exitCode == 2, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.errors.contains("gumbel.topk"))
    }

    @Test("a crash on one case: its verdict is failed, the others are judged, exit 2")
    func crashOnOneCase() async throws {
        let path = try await Libraries.hostile.value
        let outcome = try await Program.run(
            [
                "validate", "--library", path, "--suite", "bf16", "--case", "add-boundary-grid-rne", "--case",
                "add-boundary-grid-rtz", "--case", "sub-boundary-grid-rne", "--details", "99",
            ], settings: ["MISDEED": "segv@add-boundary-grid-rtz"])
        #expect(outcome.exitCode == 2, "\(outcome.output)\(outcome.errors)")
        let failure = """
            FAILED  was ended by signal 11 (SIGSEGV) (bf16.add)
              2 outputs in 1 case of 1 file: bf16.add
              first bf16: add-boundary-grid-rtz: outputs/r
            """
        #expect(outcome.output.contains(failure), "\(outcome.output)")
        #expect(outcome.output.contains("OUTSIDE  bf16: sub-boundary-grid-rne"), "\(outcome.output)")
        #expect(outcome.output.contains("OUTSIDE  bf16: add-boundary-grid-rne"), "\(outcome.output)")
    }

    @Test("NaN everywhere is outside, under a tolerance too; a wrong type is malformed; exit 1")
    func wrongAnswers() async throws {
        let path = try await Libraries.hostile.value
        for (misdeed, policy, text) in [
            ("nan", "exact", "OUTSIDE"), ("nan", "ulp:4", "OUTSIDE"), ("nan", "bound", "OUTSIDE"),
            ("unwritten", "exact", "OUTSIDE"), ("wrong-type", "exact", "MALFORMED"),
            ("wrong-shape", "exact", "MALFORMED"), ("nothing", "exact", "MISSING"), ("other-name", "exact", "MISSING"),
        ] {
            let outcome = try await Program.run(
                [
                    "validate", "--library", path, "--suite", "bf16", "--case", "add-boundary-grid-rne", "--policy",
                    policy,
                ], settings: ["MISDEED": misdeed])
            #expect(outcome.exitCode == 1, "\(misdeed): \(outcome.output)\(outcome.errors)")
            #expect(outcome.output.contains(text), "\(misdeed): \(outcome.output)")
            if misdeed == "nan" {
                // Every element that should not be a NaN differs.
                #expect(outcome.output.contains("NaN against a number"), "\(outcome.output)")
            }
        }
    }

    @Test(
        "what is no plug-in: exit 2 and why, without a report",
        arguments: [
            ("", "is not there"), ("text", "cannot be loaded"), ("folder", "cannot be loaded"),
            ("program", "cannot be loaded"),
        ])
    func noLibrary(_ kind: String, _ says: String) async throws {
        let folder = try TemporaryFolder()
        var path = folder.file("absent.so")
        if kind == "text" { try Data("not a library".utf8).write(to: URL(fileURLWithPath: path)) }
        if kind == "folder" { path = folder.path }
        if kind == "program" { path = Program.path }
        let outcome = try await Program.run("validate", "--library", path)
        #expect(outcome.exitCode == 2, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.errors.contains(says), "\(outcome.errors)")
        #expect(outcome.errors.contains(path), "\(outcome.errors)")
        #expect(outcome.output.isEmpty)
    }

    @Test("a file, a command and a library exclude each other")
    func usage() async throws {
        for arguments in [
            ["validate", "--library", "a", "--exec", "b {out}"], ["validate", "a.h5", "--library", "b"],
            ["validate", "--library", "a", "--memory", "-1"], ["validate", "--library", "a", "--timeout", "0"],
        ] {
            #expect(try await Program.run(arguments).exitCode == 64, "\(arguments)")
        }
    }

    @Test("the host's verb is not among those that help lists, and without a parent it ends well")
    func hiddenVerb() async throws {
        let help = try await Program.run("--help")
        #expect(help.exitCode == 0 && !help.output.contains("plugin-host"))
        let alone = try await Program.run("plugin-host", "--output-limit", "1000", "--", "/nonexistent.so")
        #expect(alone.exitCode != 0 && alone.exitCode < 1000, "\(alone.exitCode)")
    }

    @Test("a command that fails on one file: its cases have failed, the other files are judged, exit 2")
    func commandFailsOnOneFile() async throws {
        let program = PluginProcess.quoted(Program.path)
        let outcome = try await Program.run(
            "validate", "--suite", "random", "--suite", "dot", "--details", "99", "--exec",
            "\(program) dump {in} | grep -q dot.gemm && kill -ABRT $$; \(program) evaluate --quiet {in} {out}"
        )
        #expect(outcome.exitCode == 2, "\(outcome.output)\(outcome.errors)")
        #expect(outcome.output.contains("signal 6 (SIGABRT)"), "\(outcome.output)")
        #expect(outcome.output.contains("random.philox"), "\(outcome.output)")
        #expect(outcome.output.contains("sum.lane16"), "\(outcome.output)")
        // One block for all cases of the files that hold a product, the reason first.
        #expect(
            outcome.output.contains(
                #/FAILED  the command was ended by signal 6 \(SIGABRT\)\n  [0-9]+ outputs in [0-9]+ cases of [0-9]+ files?: dot.gemm/#
            ), "\(outcome.output)")
    }

    @Test("what a command leaves at {out} is not followed, and a truncated file is no answer")
    func outputsThatAreNone() async throws {
        for (command, says) in [
            ("ln -s {in} {out}", "a symbolic link"),
            (
                "\(PluginProcess.quoted(Program.path)) evaluate --quiet {in} {out}.h5; head -c 5000 {out}.h5 > {out}",
                "cannot be read"
            ),
        ] {
            let outcome = try await Program.run("validate", "--suite", "random", "--exec", command)
            #expect(outcome.exitCode == 2, "\(outcome.output)\(outcome.errors)")
            #expect(outcome.output.contains(says), "\(outcome.output)")
        }
    }
}

@Suite("Shared libraries of touchstone.h, one call at a time", .serialized)
struct PluginLibraryTests {
    private func addition(_ name: String, count: Int = 5) -> GoldenCase {
        let bits = (0..<count).map { UInt16(truncatingIfNeeded: 0x3F80 + $0) }
        return GoldenCase(
            name: name, op: "bf16.add", recipe: ["rounding": "rne", "tininess": "after"],
            inputs: [
                NamedTensor("a", Tensor(bf16: bits, shape: [count])),
                NamedTensor("b", Tensor(bf16: bits, shape: [count])),
            ])
    }

    private func library(
        _ path: String, misdeed: String? = nil, seconds: Double = 20, memory: Int? = 4 << 30, output: Int = 1 << 28
    ) -> PluginLibrary {
        PluginLibrary(
            path: path, program: Program.path,
            limits: PluginLibrary.Limits(seconds: seconds, memory: memory, output: output),
            environment: misdeed.map { ["MISDEED": $0] } ?? [:])
    }

    /// The hostile library under one misdeed for the case `bad`, and its failure there; asked before and after for the case `good`, which it answers.
    private func failure(
        _ misdeed: String, seconds: Double = 20, memory: Int? = 4 << 30, output: Int = 1 << 28, restarts: Bool = true
    ) async throws -> ImplementationFailure? {
        let library = library(
            try await Libraries.hostile.value, misdeed: "\(misdeed)@bad", seconds: seconds, memory: memory,
            output: output)
        let (good, bad) = (addition("good"), addition("bad"))
        let expected: TensorGroup = [NamedTensor("r", good.inputs.tensors[0].tensor)]
        #expect(try await library.outputs(for: good) == expected)
        var found: ImplementationFailure?
        do {
            let answer = try await library.outputs(for: bad)
            Issue.record("\(misdeed) was answered with \(String(describing: answer))")
        } catch let failure as ImplementationFailure {
            found = failure
        }
        #expect(try await library.outputs(for: good) == expected, "after \(misdeed)")
        #expect(await library.processCount == (restarts ? 2 : 1), "\(misdeed)")
        await library.close()
        #expect(found?.goldenCase == "bad")
        #expect(found?.description.contains("bf16.add") == true)
        return found
    }

    @Test(
        "crashes and exits are of the case that was asked, and a fresh process asks the next",
        arguments: [
            ("segv", .crash(signal: SIGSEGV), "SIGSEGV"), ("wild-write", .crash(signal: SIGSEGV), "signal 11"),
            ("abort", .crash(signal: SIGABRT), "assertion of mine failed"),
            ("stack-overflow", .crash(signal: SIGSEGV), "SIGSEGV"), ("kill", .crash(signal: SIGKILL), "SIGKILL"),
            ("exit0", .exit(status: 0), "exit status 0 instead of answering"), ("exit7", .exit(status: 7), "status 7"),
            ("quick-exit", .exit(status: 0), "exit status 0"),
        ] as [(String, ImplementationFailure.Kind, String)])
    func crashes(_ misdeed: String, _ kind: ImplementationFailure.Kind, _ says: String) async throws {
        let failure = try await failure(misdeed)
        #expect(failure?.kind == kind)
        #expect(failure?.description.contains(says) == true, "\(String(describing: failure))")
    }

    @Test("a trap is a crash, by whatever signal the processor gives")
    func trap() async throws {
        guard case .crash(let signal)? = try await failure("trap")?.kind else {
            Issue.record("a trap is no crash")
            return
        }
        #expect([SIGILL, SIGTRAP].contains(signal))
    }

    @Test(
        "what does not answer in time is ended",
        arguments: ["hang", "sleep", "stop", "hang-deaf", "print-forever"])
    func hangs(_ misdeed: String) async throws {
        let failure = try await failure(misdeed, seconds: 2)
        #expect(failure?.kind == .hang)
        #expect(failure?.description.contains("had not answered after 2 s") == true, "\(String(describing: failure))")
    }

    @Test("gigabytes of output are read and dropped; the end of it is shown")
    func gigabytes() async throws {
        let failure = try await failure("print-gigabytes", seconds: 120, restarts: false)
        #expect(failure?.kind == .reported)
        #expect(failure?.printed.contains("the end") == true)
        #expect(failure?.description.utf8.count ?? 0 < 10_000)
    }

    @Test(
        "what is written on the host's descriptors is no answer",
        arguments: ["garbage", "garbage-megabytes", "forged-length", "close-and-answer", "close-everything"])
    func garbage(_ misdeed: String) async throws {
        let failure = try await failure(misdeed, seconds: 5)
        switch failure?.kind {
        case .malformed, .hang, .exit, .crash: break
        default: Issue.record("\(misdeed): \(String(describing: failure))")
        }
        if misdeed.hasPrefix("garbage") || misdeed.hasPrefix("forged") { #expect(failure?.kind == .malformed) }
    }

    @Test(
        "declarations that are refused",
        arguments: [
            ("rank", "of rank 100; at most 8"), ("negative", "[-1]"),
            ("overflowing", "1099511627776, 1099511627776, 0"),
            ("huge", "of 1099511627776 bytes"), ("type", "of type 99"), ("no-dims", "without its dimensions"),
            ("no-name", "without a name"), ("twice", "outputs/r twice"), ("many-outputs", "more than 65536 outputs"),
            ("status", "returned 77 from evaluate"), ("beyond", "beyond the last element of outputs/r"),
            ("before", "before the first element of outputs/r"), ("input", "wrote into inputs/a"),
        ])
    func refusals(_ misdeed: String, _ says: String) async throws {
        let failure = try await failure(misdeed)
        #expect(failure?.kind == .malformed)
        #expect(failure?.description.contains(says) == true, "\(String(describing: failure))")
    }

    @Test("an output above the limit is refused, one at the limit is not")
    func outputLimit() async throws {
        let library = library(try await Libraries.hostile.value, output: 10)
        #expect(try await library.outputs(for: addition("five", count: 5))?["r"]?.count == 5)
        await #expect(throws: ImplementationFailure.self) { try await library.outputs(for: addition("six", count: 6)) }
        #expect(try await library.outputs(for: addition("none", count: 0))?["r"]?.count == 0)
    }

    @Test(
        "what the plug-in says itself",
        arguments: [
            ("failed", "the device is on fire"), ("failed-silently", "did not say why"),
            ("nulls", "nothing found, nothing broken"),
        ])
    func reported(_ misdeed: String, _ says: String) async throws {
        let failure = try await failure(misdeed, restarts: false)
        #expect(failure?.kind == .reported)
        #expect(failure?.description.contains(says) == true, "\(String(describing: failure))")
        #expect(failure?.description.contains("second reason") == false)
    }

    #if os(Linux)
        @Test("memory beyond the limit is not given")
        func memory() async throws {
            let failure = try await failure("memory", memory: 512 << 20, restarts: false)
            #expect(failure?.kind == .reported)
            #expect(failure?.description.contains("no memory beyond") == true, "\(String(describing: failure))")
        }
    #endif

    @Test("unsupported is nil, no failure")
    func unsupported() async throws {
        let library = library(try await Libraries.hostile.value, misdeed: "unsupported")
        #expect(try await library.outputs(for: addition("any")) == nil)
        #expect(await library.processCount == 1)
        #expect(await library.title == "hostile")
    }

    @Test(
        "libraries that cannot be opened",
        arguments: [
            ("load-crash", "signal 11"), ("load-exit", "exit status 0"), ("load-hang", "had not answered"),
            ("open-null", "returned NULL"), ("open-reason", "no such device"), ("open-abort", "signal 6"),
            ("open-future", "version 2.0 of touchstone.h; this is 1.0"), ("open-small", "of 8 bytes"),
            ("open-old", "of version 0.0"), ("open-empty", "without evaluate"),
        ])
    func openings(_ misdeed: String, _ says: String) async throws {
        let library = library(try await Libraries.hostile.value, misdeed: misdeed, seconds: 2)
        do {
            try await library.open()
            Issue.record("\(misdeed) was opened")
        } catch let error as PluginLibraryError {
            #expect(error.description.contains(says), "\(error)")
        }
    }

    @Test("a later minor version is accepted; missing functions are named")
    func versionsAndSymbols() async throws {
        try await library(try await Libraries.hostile.value, misdeed: "open-minor").open()
        for (path, name) in [
            (try await Libraries.withoutVersion.value, "touchstone_plugin_version"),
            (try await Libraries.withoutOpen.value, "touchstone_plugin_open"),
        ] {
            do {
                try await library(path).open()
                Issue.record("\(path) was opened")
            } catch let error as PluginLibraryError {
                #expect(error.description.contains("exports no function \(name)"), "\(error)")
            }
        }
    }

    @Test("a library that hangs or crashes while it is closed is ended", arguments: ["close-hang", "close-crash"])
    func closing(_ misdeed: String) async throws {
        let library = library(try await Libraries.hostile.value, misdeed: misdeed)
        #expect(try await library.outputs(for: addition("good")) != nil)
        await library.close()
        #expect(try await library.outputs(for: addition("good")) != nil)
        #expect(await library.processCount == 2)
    }

    @Test("thousands of cases are answered by one process, large tensors whole")
    func manyCases() async throws {
        let library = library(try await Libraries.exampleInC.value)
        for index in 0..<3000 {
            var one = addition("case \(index)", count: index % 7)
            one.op = "bf16.sub"
            let outputs = try await library.outputs(for: one)
            #expect(outputs?["r"] == Tensor(bf16: [UInt16](repeating: 0, count: index % 7), shape: [index % 7]))
        }
        let large = addition("large", count: 3_000_000)
        let outputs = try await library.outputs(for: large)
        #expect(outputs?["r"]?.count == 3_000_000)
        #expect(outputs?["flags"]?.count == 3_000_000)
        #expect(await library.processCount == 1)
    }

    @Test("a command, one case a file, answers as a library does")
    func processImplementation() async throws {
        let plugin = try PluginProcess(
            command: "\(PluginProcess.quoted(Program.path)) evaluate --quiet {in} {out}", timeout: .seconds(60))
        let command = ProcessImplementation(plugin)
        let library = library(try await Libraries.exampleInC.value)
        let one = addition("one")
        #expect(try await command.outputs(for: one) == library.outputs(for: one))
        let copying = ProcessImplementation(try PluginProcess(command: "cp {in} {out}", timeout: .seconds(60)))
        #expect(try await copying.outputs(for: one) == nil)
        for (line, kind) in [
            ("kill -SEGV $$ # {out}", .crash(signal: SIGSEGV)), ("exit 3 # {out}", .exit(status: 3)),
            ("sleep 60 # {out}", .hang), ("echo > {out}", .malformed), ("true # {out}", .malformed),
        ] as [(String, ImplementationFailure.Kind)] {
            let bad = ProcessImplementation(try PluginProcess(command: line, timeout: .seconds(2)))
            do {
                _ = try await bad.outputs(for: one)
                Issue.record("\(line) answered")
            } catch let failure as ImplementationFailure {
                #expect(failure.kind == kind, "\(failure)")
                #expect(failure.goldenCase == "one")
            }
        }
    }
}
