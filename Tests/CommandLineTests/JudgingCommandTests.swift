import Cases
import Foundation
import GoldenIO
import JSON
import Testing

@Suite("validate: formats, policies, memory, damaged files")
struct JudgingCommandTests {
    /// The shipped draws with one wrong bit.
    private func wrongDraws(_ folder: TemporaryFolder) throws -> String {
        let file = try GoldenFile(reading: "\(Program.root)/GoldenData/random/draws.h5")
        let writer = try GoldenWriter(path: folder.file("wrong.h5"), header: file.header)
        for name in file.caseNames {
            var one = try file.readCase(name, groups: [.inputs, .outputs])
            if name == "uniform-edges-and-sample", let x = one.outputs["x"] {
                var bytes = x.bytes
                bytes[0] ^= 1
                one.outputs = [NamedTensor("x", try Tensor(type: .fp32, shape: x.shape, bytes: bytes))]
            }
            try writer.write(one)
        }
        try writer.finish()
        return folder.file("wrong.h5")
    }

    @Test(
        "every format is written, to a file or to standard output",
        arguments: [("text", "OUTSIDE"), ("json", "\"format\""), ("junit", "<testsuites"), ("html", "<svg")])
    func formats(_ format: String, _ part: String) async throws {
        let folder = try TemporaryFolder()
        let wrong = try wrongDraws(folder)
        let shown = try await Program.run("validate", wrong, "--format", format)
        #expect(shown.exitCode == 1 && shown.output.contains(part), "\(shown.errors)")
        let written = try await Program.run("validate", wrong, "--format", format, "--output", folder.file("report"))
        #expect(written.exitCode == 1 && written.output.isEmpty)
        #expect(try String(contentsOfFile: folder.file("report"), encoding: .utf8) == shown.output)
        #expect(folder.contents == ["report", "wrong.h5"])
    }

    @Test("check and diff write the same formats")
    func otherVerbs() async throws {
        let folder = try TemporaryFolder()
        let check = try await Program.run("check", "--suite", "random", "--format", "junit")
        #expect(check.exitCode == 0 && check.output.contains("failures=\"0\""), "\(check.errors)")
        let wrong = try wrongDraws(folder)
        let diff = try await Program.run(
            "diff", "\(Program.root)/GoldenData/random/draws.h5", wrong, "--format", "html")
        #expect(diff.exitCode == 1 && diff.output.contains("<svg"), "\(diff.errors)")
    }

    @Test("policies by pattern; a pattern that names nothing, a policy that is none: exit 64")
    func policies() async throws {
        let folder = try TemporaryFolder()
        let wrong = try wrongDraws(folder)
        #expect(try await Program.run("validate", wrong, "--policy", "random.*=ulp:1").exitCode == 0)
        #expect(try await Program.run("validate", wrong, "--policy", "random.uniform/x=ulp:1").exitCode == 0)
        #expect(try await Program.run("validate", wrong, "--policy", "dot.*=ulp:1").exitCode == 1)
        #expect(
            try await Program.run("validate", wrong, "--policy", "ulp:1", "--policy", "random.uniform=exact").exitCode
                == 1)
        #expect(try await Program.run("validate", wrong, "--policy", "nothing.*=exact").exitCode == 64)
        #expect(try await Program.run("validate", wrong, "--policy", "random.*=near").exitCode == 64)
        let vacuous = try await Program.run("validate", wrong, "--policy", "ulp:18446744073709551615")
        #expect(vacuous.exitCode == 2 && vacuous.errors.contains("vacuous"), "\(vacuous.errors)")
        let list = try await Program.run("validate", "--list-policies")
        #expect(list.exitCode == 0)
        for part in ["dot.gemm", "training.step", "bound", "exact"] { #expect(list.output.contains(part)) }
    }

    @Test("too few draws for the policy distribution: exit 2, which case, how many")
    func tooFewDraws() async throws {
        let folder = try TemporaryFolder()
        #expect(
            try await Program.run(
                "generate", "--suite", "gumbel", "--seed", "5", "--output", folder.path, "--quiet"
            ).exitCode == 0)
        let golden = "\(Program.root)/GoldenData/gumbel/samples.h5"
        let file = try GoldenFile(reading: golden)
        let other = try GoldenFile(reading: folder.file("gumbel/samples.h5"))
        // The shipped inputs with the outputs of another seed's case of equal logits.
        let name = "topk-equal"
        var one = try file.readCase(name, groups: [.inputs])
        one.outputs = try other.readCase(name).outputs
        let writer = try GoldenWriter(path: folder.file("drawn.h5"), header: file.header)
        try writer.write(one)
        try writer.finish()
        let outcome = try await Program.run(
            "validate", folder.file("drawn.h5"), "--case", name, "--policy", "gumbel.*=distribution")
        #expect(
            outcome.exitCode == 2 && outcome.errors.contains(name) && outcome.errors.contains("24 draws"),
            "\(outcome.errors)")
    }

    @Test("memory does not grow with the file: two files of 256 MB within 500 MB of address space")
    func memory() async throws {
        let folder = try TemporaryFolder()
        // One tensor of 64 Mi elements as one checksummed chunk, golden and candidate alike but for one element.
        let count = 1 << 26
        var words = [UInt32](repeating: 0, count: count)
        for index in words.indices { words[index] = UInt32(truncatingIfNeeded: index) & 0x3F7F_FFFF }
        let header = GoldenHeader(specVersion: "1.0", suite: "math", tier: "quick", generator: "test", seed: 0)
        for name in ["golden", "candidate"] {
            if name == "candidate" { words[count / 3] ^= 1 }
            let writer = try GoldenWriter(path: folder.file("\(name).h5"), header: header)
            try writer.write(
                GoldenCase(
                    name: "large", op: "math.exp",
                    outputs: [NamedTensor("y", Tensor(fp32: words, shape: [1 << 13, 1 << 13]))]))
            try writer.finish()
        }
        words = []
        let outcome = try await shell(
            "ulimit -v 500000; exec '\(Program.path)' validate '\(folder.file("candidate.h5"))' --goldens '\(folder.file("golden.h5"))'"
        )
        #expect(outcome.exitCode == 1, "\(outcome.errors)")
        #expect(outcome.output.contains("1 of 67108864 elements differ"), "\(outcome.output)")
    }

    private func shell(_ command: String) async throws -> Program.Outcome {
        try await Program.run(["-c", command], program: "/bin/sh")
    }

    /// One flipped bit, a changed run, a cut, a piece of the file in another place.
    private func damage(_ bytes: [UInt8], _ state: inout UInt64) -> [UInt8] {
        func next() -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33)
        }
        var bytes = bytes
        for _ in 0...next() % 3 where !bytes.isEmpty {
            let place = next() % bytes.count
            switch next() % 5 {
            case 0: bytes[place] ^= 1 << UInt8(next() % 8)
            case 1: for index in place..<min(bytes.count, place + 1 + next() % 8) { bytes[index] = 0xFF }
            case 2: bytes[place] = UInt8(next() % 256)
            case 3: bytes.removeLast(min(bytes.count, next() % 2000))
            default:
                let source = next() % bytes.count
                let length = min(1 + next() % 64, bytes.count - source, bytes.count - place)
                bytes.replaceSubrange(place..<place + length, with: bytes[source..<source + length])
            }
        }
        return bytes
    }

    @Test(
        "damaged candidates and goldens: a verdict or exit 2 within a limit of memory, never a crash",
        arguments: [1, 2, 3, 4] as [UInt64])
    func damaged(_ seed: UInt64) async throws {
        let folder = try TemporaryFolder()
        let golden = folder.file("golden.h5")
        let writer = try GoldenWriter(
            path: golden,
            header: GoldenHeader(specVersion: "1.0", suite: "dot", tier: "quick", generator: "test", seed: 0))
        // Compact, chunked, empty and scalar datasets; truth and bounds; two cases.
        for name in ["one", "two"] {
            var one = GoldenCase(name: name, op: "dot.gemm", why: "damage", recipe: ["dot": "chain-ieee", "n": 2])
            one.inputs = [NamedTensor("a", Tensor(bf16: [0x3F80, 0x4000], shape: [1, 2]))]
            let d = (0..<2100).map { Float($0) }
            one.outputs = [
                NamedTensor("d", Tensor(d, shape: [30, 70])),
                NamedTensor("empty", Tensor([] as [Float], shape: [0, 3])),
                NamedTensor("scalar", Tensor([1] as [Float], shape: [])),
            ]
            one.truth = [NamedTensor("d", Tensor(d.map { Double($0) }, shape: [30, 70]))]
            one.bounds = [NamedTensor("d", Tensor(d.map { Double($0) }, shape: [30, 70]))]
            try writer.write(one)
        }
        try writer.finish()
        let original = [UInt8](try Data(contentsOf: URL(fileURLWithPath: golden)))
        // A few dozen files a process of the shell: the program starts anew for each.
        var state = seed
        let count = 24
        for index in 0..<count {
            try Data(damage(original, &state)).write(to: URL(fileURLWithPath: folder.file("damaged-\(index).h5")))
        }
        let outcome = try await shell(
            """
            ulimit -v 700000; for i in $(seq 0 \(count - 1)); do
            for arguments in "damaged-$i.h5 --goldens golden.h5" "golden.h5 --goldens damaged-$i.h5"; do
            (cd '\(folder.path)' && timeout 60 '\(Program.path)' validate --quiet $arguments >/dev/null 2>last-errors); code=$?
            echo "$code"; case $code in 0|1|2) ;; *) echo "seed \(seed), file $i, $arguments: $code"; cat '\(folder.path)/last-errors';; esac
            done; done
            """)
        let lines = outcome.output.split(separator: "\n")
        #expect(!lines.contains { !["0", "1", "2"].contains($0) }, "\(outcome.output)")
        #expect(lines.count == 2 * count)
        // The damage reaches the reader, and some of it only the tensors.
        #expect(lines.count { $0 == "2" } > count / 2)
    }
}
