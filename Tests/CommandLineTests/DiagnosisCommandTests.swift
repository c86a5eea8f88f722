import Cases
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
        let page = try await Program.run(
            ["diagnose", "--library", library, "--format", "html", "--suite", "squinch"])
        #expect(page.exitCode == 1 && page.output.contains("</html>"))
        #expect(page.output.contains("squinch.nibble.high-first"))
        // The order is a legal one where nothing is flushed: named, and not wrong.
        let legal = ["diagnose", "--library", library, "--case", "odd-before-even-paired-ftz"]
        let allowed = try await Program.run(legal)
        #expect(allowed.exitCode == 0, "\(allowed.output)")
        #expect(allowed.output.contains("all allowed: legal reordering"), "\(allowed.output)")
        #expect(allowed.output.contains("dot.order.blocks-16") && allowed.output.contains("NOTHING WRONG"))
        #expect(try await Program.run(legal + ["--policy", "exact"]).exitCode == 1)
    }

    @Test("the order of a command's sums, by every recipe or a chosen one")
    func probeOfACommand() async throws {
        let oracle = "'\(Program.path)' evaluate {in} {out} --quiet"
        let both = try await Program.run(["diagnose", "--exec", oracle, "--probe-order", "9"])
        #expect(both.exitCode == 0, "\(both.errors)")
        #expect(both.output.hasPrefix("chain-ieee, 9 terms: 8 additions deep"), "\(both.output)")
        #expect(both.output.contains("the order is as specified (paired-ftz)"), "\(both.output)")
        let json = try await Program.run([
            "diagnose", "--exec", oracle, "--probe-order", "5", "--probe-recipe", "paired-ftz", "--format", "json",
        ])
        guard case .object(let object) = try JSONValue(text: json.output), case .array(let orders)? = object["orders"]
        else {
            Issue.record("no orders in \(json.output)\(json.errors)")
            return
        }
        #expect(orders.count == 1)
        #expect(
            try await Program.run(["diagnose", "--exec", "exit 3; {in} {out}", "--probe-order", "5"]).exitCode == 2)
        #expect(try await Program.run(["diagnose", "a.h5", "--probe-recipe", "paired-ftz"]).exitCode == 64)
    }

    /// The shipped draws with something done to one case.
    private static func draws(
        _ path: String, _ change: (inout GoldenCase) throws -> Bool
    ) throws {
        let file = try GoldenFile(reading: "\(Program.root)/GoldenData/random/draws.h5")
        let writer = try GoldenWriter(path: path, header: file.header)
        for name in file.caseNames {
            var one = try file.readCase(name, groups: [.inputs, .outputs])
            if try name != "uniform-edges-and-sample" || change(&one) { try writer.write(one) }
        }
        try writer.finish()
    }

    @Test("what is malformed, missing or answers another question is said, and ends as validate does")
    func faults() async throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let file = folder + "/answers.h5"
        func expect(_ words: String, _ options: [String] = [], _ change: (inout GoldenCase) throws -> Bool) async throws
        {
            try Self.draws(file, change)
            let judged = try await Program.run(["validate", file, "--quiet"] + options)
            let diagnosed = try await Program.run(["diagnose", file] + options)
            #expect(diagnosed.exitCode == judged.exitCode && judged.exitCode == 1, "\(diagnosed.output)")
            #expect(diagnosed.output.contains(words), "\(words) in: \(diagnosed.output)")
            #expect(diagnosed.output.contains("case 'uniform-edges-and-sample': outputs/x"), "\(diagnosed.output)")
            #expect(!diagnosed.output.contains("NOTHING WRONG"))
            let json = try await Program.run(["diagnose", file, "--format", "json"] + options)
            guard case .object(let object) = try JSONValue(text: json.output),
                case .array(let faults)? = object["faults"]
            else {
                Issue.record("no faults in \(json.output)")
                return
            }
            #expect(faults.count == 1 && object["conforms"] == false)
        }
        try await expect("malformed: outputs/x is fp64") { one in
            let x = try one.outputs["x"]!.floats()
            one.outputs = [NamedTensor("x", Tensor(x.map(Double.init), shape: one.outputs["x"]!.shape))]
            return true
        }
        try await expect("expected fp32") { one in
            let x = one.outputs["x"]!
            one.outputs = [NamedTensor("x", try Tensor(type: x.type, shape: [1] + x.shape, bytes: x.bytes))]
            return true
        }
        try await expect("another question was answered") { one in
            let input = one.inputs.tensors[0]
            var bytes = input.tensor.bytes
            bytes[0] ^= 1
            let changed = try Tensor(type: input.tensor.type, shape: input.tensor.shape, bytes: bytes)
            one.inputs = TensorGroup([NamedTensor(input.name, changed)] + one.inputs.tensors.dropFirst())
            return true
        }
        try await expect("missing", ["--require-all"]) { _ in false }
    }

    @Test("a command that fails, or answers nothing, is no success")
    func failures() async throws {
        for (command, words) in [("exit 3; {in} {out}", "exit status 3"), ("kill -SEGV $$; {in} {out}", "SIGSEGV")] {
            let run = try await Program.run(["diagnose", "--suite", "random", "--exec", command])
            #expect(run.exitCode == 2, "\(run.output)")
            #expect(run.output.contains("failed: ") && run.output.contains(words), "\(run.output)")
            #expect(run.output.contains("uniform-edges-and-sample'"), "\(run.output)")
        }
        // The questions themselves: no case has an output.
        let nothing = try await Program.run(["diagnose", "--suite", "random", "--exec", "cp {in} {out}"])
        #expect(nothing.exitCode == 2 && nothing.errors.contains("nothing was judged"), "\(nothing.errors)")
    }

    @Test(
        "a signal ends a search within seconds",
        arguments: [["mutate", "--suite", "zreg"], ["diagnose", "narrowed.h5", "--suite", "zreg"]])
    func interruption(_ arguments: [String]) async throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var arguments = arguments
        if arguments[0] == "diagnose" {
            // Bits that nothing makes, so that every pair is tried.
            arguments[1] = folder + "/narrowed.h5"
            let file = try GoldenFile(reading: "\(Program.root)/GoldenData/zreg/attention.h5")
            let writer = try GoldenWriter(path: arguments[1], header: file.header)
            for name in file.caseNames {
                var one = try file.readCase(name, groups: [.inputs, .outputs])
                one.outputs = TensorGroup(
                    try one.outputs.tensors.map { named in
                        var bytes = named.tensor.bytes
                        for index in stride(from: 0, to: bytes.count, by: 10) { bytes[index] ^= 1 }
                        return NamedTensor(
                            named.name,
                            try Tensor(type: named.tensor.type, shape: named.tensor.shape, bytes: bytes))
                    })
                try writer.write(one)
            }
            try writer.finish()
        }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Program.path)
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: Program.root)
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        try await Task.sleep(for: .seconds(3))
        #expect(process.isRunning)
        let clock = ContinuousClock()
        let start = clock.now
        process.terminate()
        while process.isRunning, clock.now - start < .seconds(30) { try await Task.sleep(for: .milliseconds(50)) }
        #expect(clock.now - start < .seconds(5))
        #expect(!process.isRunning && process.terminationStatus == 143)
        if process.isRunning { process.interrupt() }
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
        // Damage has no name and does not count against the naming.
        let random = try await Program.run(["mutate", "--suite", "random"])
        #expect(random.exitCode == 0 && random.output.contains("that have a name"), "\(random.output)\(random.errors)")
        #expect(random.output.contains("accidental damage, which has no name"), "\(random.output)")
        let unknown = try await Program.run(["mutate", "--suite", "random", "--only", "neutral.exchanged"])
        #expect(unknown.exitCode == 64 && unknown.errors.contains("Near it: "), "\(unknown.errors)")
        #expect(!unknown.errors.contains("?."))
        let damage = try await Program.run(["mutate", "--suite", "random", "--only", "damage.last-bit"])
        #expect(damage.exitCode == 0 && damage.output.contains("none of them has a name"), "\(damage.output)")
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
        // A step beside a trace of other operations.
        let mixed = try await Program.run(["localise", "\(folder)/engine.h5", "GoldenData/dot/gemm.h5"])
        #expect(mixed.exitCode == 2, "\(mixed.output)\(mixed.errors)")
        #expect(try await Program.run(["localise", "\(folder)/engine.jsonl"]).exitCode == 2)
    }

    @Test("localise walks traces of any operations: the first that differs, and those that are wrong by themselves")
    func localiseOperations() async throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let golden = try GoldenFile(reading: "\(Program.root)/GoldenData/dot/gemm.h5")
        let entries = try golden.caseNames.prefix(6).map { try golden.readCase($0, groups: [.inputs, .outputs]) }
        let last = try #require(entries.last { ($0.outputs["d"]?.count ?? 0) > 1 })
        func write(_ name: String, _ change: (GoldenCase) throws -> GoldenCase?) throws {
            let writer = try GoldenWriter(path: "\(folder)/\(name)", header: golden.header)
            for one in entries { if let changed = try change(one) { try writer.write(changed) } }
            try writer.finish()
        }
        try write("a.h5") { $0 }
        try write("b.h5") { one in
            guard one.name == last.name, let d = one.outputs["d"] else { return one }
            var bytes = d.bytes
            bytes[3] ^= 0x40
            var changed = one
            changed.outputs = [NamedTensor("d", try Tensor(type: d.type, shape: d.shape, bytes: bytes))]
            return changed
        }
        try write("short.h5") { $0.name == last.name ? nil : $0 }
        let (a, b) = ("\(folder)/a.h5", "\(folder)/b.h5")
        let same = try await Program.run("localise", a, a)
        #expect(same.exitCode == 0 && same.output.contains("CONFORMS: 6 entries compared"), "\(same.output)")
        let parted = try await Program.run("localise", a, b)
        #expect(parted.exitCode == 1, "\(parted.output)\(parted.errors)")
        for part in [
            last.name, "outputs/d differs", "the difference arises here", "does not follow from its own inputs",
        ] {
            #expect(parted.output.contains(part), "\(parted.output)")
        }
        let json = try await Program.run("localise", a, b, "--format", "json")
        guard case .object(let object) = try JSONValue(text: json.output) else {
            Issue.record("\(json.output)")
            return
        }
        #expect(json.exitCode == 1 && object["compared"] == 6 && object["judgement"] == "DOES NOT CONFORM")
        let alone = try await Program.run("localise", b)
        #expect(alone.exitCode == 1 && alone.output.contains("6 entries judged by the reference, 1 wrong"))
        let short = try await Program.run("localise", a, "\(folder)/short.h5")
        #expect(short.exitCode == 2 && short.output.contains("only in \(a): 1: \(last.name)"), "\(short.output)")
    }

    @Test(
        "localise on traces that hold nothing, or not what they should: exit 2 with file, entry and tensor; usage is 64"
    )
    func unusualTraces() async throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        func write(_ name: String, _ cases: [GoldenCase]) throws -> String {
            let header = GoldenHeader(specVersion: "", suite: "", tier: "", generator: "", seed: 0)
            let writer = try GoldenWriter(path: "\(folder)/\(name)", header: header)
            for one in cases { try writer.write(one) }
            try writer.finish()
            return "\(folder)/\(name)"
        }
        func entry(_ name: String, _ bits: [UInt32], shape: [Int]? = nil) -> GoldenCase {
            GoldenCase(
                name: name, op: "torch.nn.Linear", inputs: [NamedTensor("0", Tensor([1, 2] as [Float], shape: [2]))],
                outputs: [NamedTensor("0", Tensor(fp32: bits, shape: shape ?? [bits.count]))])
        }
        func expect(_ code: Int, _ arguments: [String], _ parts: [String]) async throws {
            let run = try await Program.run(["localise"] + arguments)
            let text = run.output + run.errors
            #expect(run.exitCode == code && parts.allSatisfy(text.contains), "\(arguments): \(run.exitCode) \(text)")
        }
        let a = try write("a.h5", [entry("in", [1, 2]), entry("a.b.c", [3, 4])])
        let empty = try write("empty.h5", [])
        let shaped = try write("shaped.h5", [entry("in", [1, 2]), entry("a.b.c", [3, 4], shape: [2, 1])])
        let hasNaN = try write("nan.h5", [entry("in", [1, 2]), entry("a.b.c", [3, 0x7FC0_0001])])
        let otherNaN = try write("other-nan.h5", [entry("in", [1, 2]), entry("a.b.c", [3, 0xFF80_0001])])
        let more = try write("more.h5", [entry("in", [1, 2]), entry("new", [5]), entry("a.b.c", [3, 5])])
        try await expect(0, [a, a], ["CONFORMS: 2 entries compared", "4 of operations that it does not know"])
        try await expect(2, [a], [a, "no entry of an operation that the reference knows"])
        try await expect(2, [a, empty], [empty, "has no case"])
        try await expect(2, [empty], [empty, "has no case"])
        try await expect(
            1, [a, shaped], ["entry 2, a.b.c (torch.nn.Linear): outputs/0 differs", "fp32 [2]", "fp32 [2, 1]"])
        try await expect(1, [a, hasNaN], ["1 of 2 elements differs, first at [1]", "the difference arises here"])
        try await expect(0, [hasNaN, otherNaN], ["CONFORMS"])
        try await expect(
            1, [a, more], ["only in \(more): 1: new", "so the cause may lie there: new", "outputs/0 differs"])
        try await expect(2, [a, more, "--case", "in?"], ["no case 'in?'"])
        try await expect(0, [a, more, "--case", "i*"], ["CONFORMS: 1 entry compared"])
        // Entries of a step, of which none is here.
        try await expect(2, [a, "GoldenData/training/steps.h5"], ["no entry with tensors in common"])
        // A step among other entries is judged as an operation.
        let step = try GoldenFile(reading: "\(Program.root)/GoldenData/training/steps.h5").readCase("plain")
        let mixed = try write("mixed.h5", [entry("in", [1, 2]), step])
        try await expect(
            2, [mixed], ["1 entry judged by the reference, 0 wrong, 1 of operations that it does not know"])
        // What h5py writes without the order of creation, and a tensor of a type that no case has.
        let fixtures = "Tests/GoldenIOTests/Fixtures"
        try await expect(
            0, ["\(fixtures)/unusual.h5", "\(fixtures)/unusual.h5"],
            ["CONFORMS", "unusual.h5 does not track the order"])
        try await expect(2, ["\(fixtures)/opaque.h5", "\(fixtures)/opaque.h5"], ["opaque.h5", "outputs/"])
        try await expect(2, ["\(fixtures)/no-cases.h5"], ["no-cases.h5", "no group /cases"])
        try await expect(
            2, ["\(fixtures)/attributes.h5", "\(fixtures)/attributes.h5"],
            ["no entry with tensors", "a '/' in a name", "30-tracked"])
        try await expect(2, ["\(folder)/absent.h5"], ["absent.h5"])
        try await expect(64, [], ["<a>"])
        try await expect(64, [a, "--format", "yaml"], ["yaml"])
        try await expect(64, [a, "--samples", "0"], ["samples"])
    }
}
