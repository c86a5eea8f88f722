import Cases
import Checker
import Foundation
import GoldenIO
import Testing

@Suite("Candidates with datasets that cannot be read")
struct UnreadableOutputTests {
    /// Written by h5py (Tools/h5py-fixtures.py): in case a the output `r` and one that is asked for by nobody hold opaque elements.
    private static let candidate =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("GoldenIOTests/Fixtures/opaque.h5").path

    @Test("an opaque output is malformed, by name; every other output of the file is judged")
    func opaque() throws {
        let path = FileManager.default.temporaryDirectory.path + "/touchstone-opaque-\(UUID().uuidString).h5"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let writer = try GoldenWriter(
            path: path,
            header: GoldenHeader(specVersion: "1.0", suite: "test", tier: "quick", generator: "CheckerTests", seed: 0))
        for name in ["a", "b"] {
            let tensor = Tensor([0, 1] as [Float], shape: [2])
            try writer.write(
                GoldenCase(
                    name: name, op: "test.op", outputs: [NamedTensor("r", tensor), NamedTensor("s", tensor)]))
        }
        try writer.finish()
        var report = Report(subject: "opaque")
        try Judge.judge(
            GoldenFile(reading: Self.candidate), against: GoldenFile(reading: path), options: JudgingOptions(),
            into: &report)
        try #require(report.cases.map(\.name) == ["a", "b"])
        #expect(report.cases[0].outputs.map(\.verdict) == [.malformed, .exact])
        #expect(report.cases[1].outputs.map(\.verdict) == [.exact, .exact])
        #expect(report.notes.count == 1 && report.notes[0].contains("outputs/extra"), "\(report.notes)")
        let text = TextReport().text(report)
        #expect(text.contains("outputs/r: holds opaque elements of 3 bytes, expected one of bf16"), "\(text)")
    }
}
