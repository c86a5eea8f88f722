import Foundation
import Testing

@Suite("touchstone distill and study, run as a user runs them")
struct DistillCommandTests {
    private static let text = "Sources/ModelSpec/ModelSpec.docc"

    @Test("a teacher's targets are sampled once, and a student that was interrupted ends as one that was not")
    func chain() async throws {
        let folder = try TemporaryFolder()
        let teacher = try await Program.run(
            "train", "--data", Self.text, "--steps", "3", "--checkpoint", folder.file("teacher"), "--no-fingerprint",
            "--quiet")
        #expect(teacher.exitCode == 0, "\(teacher.errors)")
        let sample = [
            "distill", "sample", "--checkpoint", folder.file("teacher"), "--data", Self.text, "--output",
            folder.file("targets"), "--k",
            "4", "--sequences", "20", "--chunk", "8",
        ]
        let sampled = try await Program.run(sample)
        #expect(
            sampled.exitCode == 0 && sampled.output.contains("32 times as much"), "\(sampled.output)\(sampled.errors)")
        #expect(folder.contents.filter { $0.hasPrefix("targets/") }.count == 3)
        let again = try await Program.run(sample)
        #expect(again.output.contains("20 found"), "\(again.output)")

        let train = ["distill", "train", "--targets", folder.file("targets"), "--data", Self.text, "--quiet"]
        let whole = try await Program.run(train + ["--steps", "4"])
        #expect(whole.exitCode == 0 && whole.output.contains("held out"), "\(whole.output)\(whole.errors)")
        let half = try await Program.run(train + ["--steps", "2", "--checkpoint", folder.file("student")])
        #expect(half.exitCode == 0, "\(half.errors)")
        let rest = try await Program.run(train + ["--steps", "4", "--checkpoint", folder.file("student"), "--resume"])
        func fingerprint(_ output: String) -> Substring? {
            output.split(separator: "\n").first { $0.hasPrefix("fingerprint") }
        }
        #expect(
            fingerprint(whole.output) != nil && fingerprint(whole.output) == fingerprint(rest.output),
            "\(rest.output)\(rest.errors)")

        // A student is no teacher, and other targets are refused.
        let student = try await Program.run(
            "distill", "sample", "--checkpoint", folder.file("student"), "--output", folder.file("more"))
        #expect(student.exitCode == 2 && student.errors.contains("distillation_k is 4"), "\(student.errors)")
        let other = try await Program.run(sample.dropLast(6) + ["--k", "2"])
        #expect(other.exitCode == 2 && other.errors.contains("targets-00000.h5"), "\(other.errors)")
        let text = try await Program.run(train.dropLast(2) + ["README.md", "--steps", "1"])
        #expect(text.exitCode == 2 && text.errors.contains("another text than README.md"), "\(text.errors)")
    }

    @Test(
        "what cannot be distilled or studied is refused",
        arguments: [
            (["distill", "sample", "--checkpoint", "GoldenData", "--output", "x"], 2, "no checkpoint"),
            (["distill", "sample", "--checkpoint", "README.md", "--output", "x"], 2, "README.md"),
            (["distill", "sample", "--checkpoint", "x", "--output", "y", "--k", "0"], 64, "--k <k>"),
            (["distill", "train", "--targets", "absent"], 2, "absent/targets-00000.h5"),
            (["study", "nosuch"], 64, "squinch, zreg, clamp"),
            (["study", "precision", "--width", "17"], 64, "multiple of 16"),
            (["study", "precision", "--output", "README.md"], 2, "README.md"),
        ])
    func refusals(_ arguments: [String], _ code: Int, _ says: String) async throws {
        let outcome = try await Program.run(arguments)
        #expect(
            outcome.exitCode == code && outcome.errors.contains(says),
            "\(arguments): \(outcome.exitCode) \(outcome.errors)")
    }

    @Test("a study writes a page and its numbers")
    func study() async throws {
        let folder = try TemporaryFolder()
        let outcome = try await Program.run(
            "study", "precision", "--steps", "2", "--output", folder.file("pages"), "--data", Self.text)
        #expect(
            outcome.exitCode == 0 && outcome.output.hasPrefix("precision: Over 8192 terms"),
            "\(outcome.output)\(outcome.errors)")
        #expect(folder.contents == ["pages", "pages/precision.csv", "pages/precision.html"])
        let page = try String(contentsOfFile: folder.file("pages/precision.html"), encoding: .utf8)
        #expect(page.contains("touchstone study precision --steps 2") && page.contains("<svg"))
    }
}
