import Cases
import Engine
import Foundation
import GoldenIO
import JSON
import Testing

@Suite("The command line, run as a user runs it")
struct CommandLineTests {
    /// A file with one case, as a user would write it.
    private func write(_ goldenCase: GoldenCase, _ path: String, suite: String = "bf16") throws {
        let writer = try GoldenWriter(
            path: path, header: GoldenHeader(specVersion: "", suite: suite, tier: "", generator: "a test", seed: 0))
        try writer.write(goldenCase)
        try writer.finish()
    }

    private func addCase(a: Tensor = Tensor(bf16: [0x3F80, 0x4000], shape: [2])) -> GoldenCase {
        GoldenCase(
            name: "mine", op: "bf16.add", recipe: ["rounding": "rne", "tininess": "after"],
            inputs: [NamedTensor("a", a), NamedTensor("b", Tensor(bf16: [0x3F80, 0x3F80], shape: [2]))])
    }

    @Test(
        "what would be ignored is told: a recipe key that no case has, an output that no operation has, a file of another suite"
    )
    func ignored() async throws {
        let folder = try TemporaryFolder()
        let (input, output) = (folder.file("in.h5"), folder.file("out.h5"))
        try write(addCase(), input)
        let key = try await Program.run("evaluate", input, output, "--with", "roundin=rtz")
        #expect(key.exitCode == 0 && key.errors.contains("has the key 'roundin' of --with"), "\(key.errors)")
        let dot = "GoldenData/dot/gemm.h5"
        let rule = try await Program.run("validate", dot, "--policy", "dot.gemm/zz=exact")
        #expect(rule.exitCode == 2 && rule.errors.contains("names no output; dot.gemm has"), "\(rule.errors)")
        for arguments in [
            ["validate", dot, "--suite", "bf16"], ["validate", dot, "--goldens", dot, "--suite", "bf16"],
            ["check", "--goldens", dot, "--suite", "bf16"],
        ] {
            let suite = try await Program.run(arguments)
            #expect(suite.exitCode == 2 && suite.errors.contains("of the suite 'dot', not of bf16"), "\(suite.errors)")
        }
    }

    // MARK: generate

    @Test("generate twice gives the same bytes, equal to the shipped goldens")
    func generateIsReproducible() async throws {
        let folder = try TemporaryFolder()
        for name in ["first", "second"] {
            let outcome = try await Program.run("generate", "--output", folder.file(name), "--quiet")
            #expect(outcome.exitCode == 0, "\(outcome.errors)")
            #expect(outcome.output.isEmpty)
        }
        let shipped = try Manifest(reading: "\(Program.root)/GoldenData/MANIFEST.json")
        #expect(shipped.files.count > 10)
        for file in shipped.files {
            let expected = try Data(contentsOf: URL(fileURLWithPath: "\(Program.root)/GoldenData/\(file.path)"))
            for name in ["first", "second"] {
                let found = try Data(contentsOf: URL(fileURLWithPath: folder.file("\(name)/\(file.path)")))
                // Compared outside of #expect, which would list the differences of two files of megabytes.
                let isEqual = found == expected
                #expect(isEqual, "\(name)/\(file.path) differs from the shipped file")
            }
        }
        let manifests = try ["first", "second"].map {
            try Data(contentsOf: URL(fileURLWithPath: folder.file("\($0)/MANIFEST.json")))
        }
        #expect(manifests[0] == manifests[1])
        let names = folder.contents.filter { $0.hasPrefix("first/") && $0.hasSuffix(".h5") }
        #expect(names.count == shipped.files.count, "no file more, none less: \(names)")
    }

    @Test("another seed gives other samples, and one suite leaves the manifest's other entries alone")
    func generateSuites() async throws {
        let folder = try TemporaryFolder()
        #expect(
            try await Program.run("generate", "--suite", "random", "--suite", "allreduce", "--output", folder.path)
                .exitCode == 0)
        let both = try Manifest(reading: folder.file("MANIFEST.json"))
        #expect(Set(both.files.map(\.suite)) == ["random", "allreduce"])
        #expect(try await Program.run("generate", "--suite", "random", "--output", folder.path).exitCode == 0)
        #expect(try Manifest(reading: folder.file("MANIFEST.json")) == both)
        #expect(
            try await Program.run("generate", "--suite", "random", "--seed", "7", "--output", folder.path).exitCode == 0
        )
        let other = try Manifest(reading: folder.file("MANIFEST.json"))
        #expect(other.files.map(\.suite) == ["random"], "entries of another seed do not stay listed")
        #expect(other.files[0].sha256 != both.files.first { $0.suite == "random" }?.sha256)
    }

    @Test("inputs alone, evaluated, are the goldens")
    func inputsOnlyThenEvaluate() async throws {
        let folder = try TemporaryFolder()
        #expect(
            try await Program.run("generate", "--suite", "squinch", "--inputs-only", "--output", folder.path).exitCode
                == 0)
        #expect(!folder.contents.contains("MANIFEST.json"))
        let input = folder.file("squinch/encode.h5")
        let file = try GoldenFile(reading: input)
        #expect(try file.readCase(file.caseNames[0]).outputs.isEmpty)
        let evaluated = try await Program.run("evaluate", input, folder.file("out.h5"))
        #expect(evaluated.exitCode == 0, "\(evaluated.errors)")
        let golden = "\(Program.root)/GoldenData/squinch/encode.h5"
        let diff = try await Program.run("diff", golden, folder.file("out.h5"), "--all")
        #expect(diff.exitCode == 0, "\(diff.output)\(diff.errors)")
        let verdict = try await Program.run("validate", folder.file("out.h5"))
        #expect(verdict.exitCode == 0, "\(verdict.output)\(verdict.errors)")
    }

    @Test("an unwritable folder: exit 2, a message that names it")
    func unwritableFolder() async throws {
        let folder = try TemporaryFolder()
        try Data().write(to: URL(fileURLWithPath: folder.file("plain")))
        let outcome = try await Program.run("generate", "--suite", "random", "--output", folder.file("plain/inside"))
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("plain/inside"), "\(outcome.errors)")
        try write(addCase(), folder.file("in.h5"))
        let evaluate = try await Program.run("evaluate", folder.file("in.h5"), folder.file("absent/out.h5"))
        #expect(evaluate.exitCode == 2)
        #expect(evaluate.errors.contains("absent"), "\(evaluate.errors)")
    }

    // MARK: evaluate

    @Test("a user's own inputs are answered")
    func evaluateOwnInputs() async throws {
        let folder = try TemporaryFolder()
        try write(addCase(), folder.file("in.h5"))
        let outcome = try await Program.run("evaluate", folder.file("in.h5"), folder.file("out.h5"))
        #expect(outcome.exitCode == 0, "\(outcome.errors)")
        let answered = try GoldenFile(reading: folder.file("out.h5")).readCase("mine")
        #expect(answered.outputs["r"] == Tensor(bf16: [0x4000, 0x4040], shape: [2]))
        #expect(answered.outputs["flags"] == Tensor([0, 0] as [UInt8], shape: [2]))
    }

    /// Each is a file that cannot be evaluated, and what the message must name.
    enum BadInput: String, CaseIterable, Sendable {
        case truncated, wrongType, wrongShape, missingDataset, extraDataset, unknownOperation, unknownKey, missingKey
        case badValue, nanUnderRefuse, notHDF5, absent, bitsDisagree
    }

    @Test("bad input: exit 2, a message naming the thing, and no output file", arguments: BadInput.allCases)
    func badInput(_ kind: BadInput) async throws {
        let folder = try TemporaryFolder()
        let path = folder.file("in.h5")
        var goldenCase = addCase()
        var named: [String] = ["in.h5"]
        switch kind {
        case .truncated, .notHDF5, .absent: break
        case .wrongType:
            goldenCase = addCase(a: Tensor([1, 2] as [Float], shape: [2]))
            named += ["mine", "inputs/a", "fp32", "bf16"]
        case .wrongShape:
            goldenCase = addCase(a: Tensor(bf16: [1, 2, 3], shape: [3]))
            named += ["mine", "inputs/b", "[2]", "3"]
        case .missingDataset:
            goldenCase.inputs = [NamedTensor("a", Tensor(bf16: [1], shape: [1]))]
            named += ["mine", "inputs/b", "missing"]
        case .extraDataset:
            goldenCase.inputs.append("c", Tensor(bf16: [1, 1], shape: [2]))
            named += ["mine", "inputs/c"]
        case .unknownOperation:
            goldenCase.op = "bf16.ad"
            named += ["mine", "bf16.ad", "bf16.add"]
        case .unknownKey:
            goldenCase.recipe["mode"] = "rne"
            named += ["mine", "'mode'"]
        case .missingKey:
            goldenCase.recipe["rounding"] = nil
            named += ["mine", "'rounding'", "rtz"]
        case .badValue:
            goldenCase.recipe["rounding"] = "nearest"
            named += ["mine", "'rounding'", "nearest"]
        case .nanUnderRefuse:
            goldenCase = GoldenCase(
                name: "mine", op: "squinch.encode", recipe: ["variant": "floor16", "nonfinite": "refuse"],
                inputs: [NamedTensor("x", Tensor([1, 2, .nan, 4] as [Float], shape: [4]))])
            named += ["mine", "2", "NaN"]
        case .bitsDisagree:
            goldenCase = GoldenCase(
                name: "mine", op: "math.exp", recipe: ["kappa": .number(4), "kappa_bits": "3f800000"],
                inputs: [NamedTensor("x", Tensor([1] as [Float], shape: [1]))])
            named += ["mine", "kappa_bits", "disagree"]
        }
        if kind != .absent { try write(goldenCase, path) }
        if kind == .truncated {
            let data = try Data(contentsOf: URL(fileURLWithPath: path))
            try data.prefix(data.count / 2).write(to: URL(fileURLWithPath: path))
        }
        if kind == .notHDF5 { try Data("not a golden file".utf8).write(to: URL(fileURLWithPath: path)) }
        let outcome = try await Program.run("evaluate", path, folder.file("out.h5"))
        #expect(outcome.exitCode == 2, "\(outcome.output)\(outcome.errors)")
        for name in named {
            #expect(outcome.errors.lowercased().contains(name.lowercased()), "no \(name) in: \(outcome.errors)")
        }
        #expect(folder.contents == (kind == .absent ? [] : ["in.h5"]), "something was left behind")
    }

    // MARK: validate

    @Test("validate: a file that conforms, one that does not, one without outputs")
    func validateFiles() async throws {
        let folder = try TemporaryFolder()
        let golden = "\(Program.root)/GoldenData/random/draws.h5"
        let conforming = try await Program.run("validate", golden)
        #expect(conforming.exitCode == 0, "\(conforming.output)\(conforming.errors)")

        let file = try GoldenFile(reading: golden)
        let writer = try GoldenWriter(path: folder.file("wrong.h5"), header: file.header)
        for name in file.caseNames {
            var goldenCase = try file.readCase(name, groups: [.inputs, .outputs])
            if name == "uniform-edges-and-sample", let x = goldenCase.outputs["x"] {
                var bytes = x.bytes
                bytes[0] ^= 1
                goldenCase.outputs = [NamedTensor("x", try Tensor(type: .fp32, shape: x.shape, bytes: bytes))]
            }
            try writer.write(goldenCase)
        }
        try writer.finish()
        let wrong = try await Program.run("validate", folder.file("wrong.h5"))
        #expect(wrong.exitCode == 1, "\(wrong.output)\(wrong.errors)")
        #expect(wrong.output.contains("uniform-edges-and-sample"))

        #expect(
            try await Program.run("generate", "--suite", "random", "--inputs-only", "--output", folder.path).exitCode
                == 0)
        let empty = try await Program.run("validate", folder.file("random/draws.h5"))
        #expect(empty.exitCode != 0, "outputs that are missing do not conform")
    }

    @Test("validate --exec: the reference itself conforms, truncation does not")
    func validateProcesses() async throws {
        let reference = try await Program.run(
            "validate", "--suite", "random", "--exec", "\(Program.path) evaluate --quiet {in} {out}")
        #expect(reference.exitCode == 0, "\(reference.output)\(reference.errors)")
        let truncating = try await Program.run(
            "validate", "--suite", "bf16", "--exec", "Tools/examples/truncating {in} {out}")
        #expect(truncating.exitCode == 1, "\(truncating.output)\(truncating.errors)")
        #expect(truncating.output.contains("add-tie-and-its-neighbours-rne"))
    }

    /// A plug-in that cannot be judged, as a shell command, and what the message must say.
    static let badPlugins: [(name: String, command: String, says: String)] = [
        ("crashes", "kill -SEGV $$ # {in} {out}", "signal"),
        ("fails", "echo oh no >&2; exit 3 # {in} {out}", "oh no"),
        ("hangs", "sleep 60 # {in} {out}", "timeout"),
        ("writes nothing", "true {in} {out}", "out"),
        ("writes garbage", "echo garbage > {out} # {in}", "out"),
        ("writes a truncated file", "head -c 3000 {in} > {out}", "out"),
        ("is not there", "/nonexistent/program {in} {out}", "nonexistent"),
    ]

    @Test("a plug-in that cannot be judged: exit 2 and why", arguments: badPlugins.indices)
    func badPlugin(_ index: Int) async throws {
        let plugin = Self.badPlugins[index]
        let outcome = try await Program.run(
            "validate", "--suite", "random", "--timeout", "2", "--exec", plugin.command)
        #expect(outcome.exitCode == 2, "\(plugin.name): \(outcome.output)\(outcome.errors)")
        let text = (outcome.output + outcome.errors).lowercased()
        #expect(text.contains(plugin.says), "\(plugin.name): \(text)")
    }

    // MARK: the rest

    @Test(
        "usage errors exit 64",
        arguments: [
            ["frobnicate"], ["generate", "--suite", "bf17"], ["generate", "--tier", "huge"], ["evaluate", "one.h5"],
            ["validate"], ["prove", "bf16", "--operation", "ad"], ["dump"], ["hash"],
            ["evaluate", "a", "b", "--with", "x"],
        ])
    func usage(_ arguments: [String]) async throws {
        let outcome = try await Program.run(arguments)
        #expect(outcome.exitCode == 64, "\(arguments): \(outcome.exitCode) \(outcome.errors)")
        #expect(!outcome.errors.isEmpty)
    }

    @Test(
        "help and version exit 0",
        arguments: [
            ["--help"], ["--version"], ["generate", "--help"], ["evaluate", "--help"], ["validate", "--help"],
            ["diff", "--help"], ["dump", "--help"], ["hash", "--help"], ["prove", "--help"], ["doctor", "--help"],
            ["demo", "--help"],
        ])
    func help(_ arguments: [String]) async throws {
        let outcome = try await Program.run(arguments)
        #expect(outcome.exitCode == 0)
        #expect(outcome.output.count > 10)
    }

    @Test("doctor's known answers hold")
    func doctor() async throws {
        let outcome = try await Program.run("doctor")
        #expect(outcome.exitCode == 0, "\(outcome.output)")
        #expect(outcome.output.contains("hdf5"))
        #expect(!outcome.output.contains("WRONG"))
        // Scripts loop over these lines.
        let engines = try await Program.run("doctor", "--engines")
        #expect(engines.exitCode == 0)
        #expect(engines.output.split(separator: "\n").map(String.init) == InstructionSets.available.map(\.name))
        #expect(engines.output.hasSuffix("portable\n"))
        let json = try JSONValue(text: try await Program.run("doctor", "--json").output)
        guard case .object(let facts) = json else {
            Issue.record("\(json) is not an object")
            return
        }
        #expect(facts["engine"] == .array(InstructionSets.available.map { .string($0.name) }))
    }

    @Test("dump shows attributes, cases, values; hash agrees with the manifest")
    func dumpAndHash() async throws {
        let path = "GoldenData/random/draws.h5"
        let summary = try await Program.run("dump", path)
        #expect(summary.exitCode == 0)
        #expect(summary.output.contains("philox-known-answers"))
        let one = try await Program.run("dump", path, "--case", "philox-known-answers", "--dataset", "outputs/words")
        #expect(one.output.contains("0x6627E8D5"), "\(one.output)")
        #expect(try await Program.run("dump", path, "--case", "absent").exitCode == 2)
        let manifest = try Manifest(reading: "\(Program.root)/GoldenData/MANIFEST.json")
        let hash = try await Program.run("hash", path)
        #expect(hash.output.hasPrefix(manifest.files.first { $0.path == "random/draws.h5" }?.sha256 ?? "absent"))
        let cases = try await Program.run("hash", "--cases", path)
        #expect(
            cases.output.split(separator: "\n").count == manifest.files.first { $0.path == "random/draws.h5" }?.cases)
    }

    @Test("the demonstration ends well")
    func demo() async throws {
        let outcome = try await Program.run("demo")
        #expect(outcome.exitCode == 0, "\(outcome.output)\(outcome.errors)")
    }
}
