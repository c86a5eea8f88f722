import Engine
import Foundation
import ModelSpec
import Studies
import Testing
import TrainingData

@Suite("Studies, very small")
struct StudyTests {
    private static let text = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path

    private func run(_ study: Study, threads: Int = 2) throws -> StudyResult {
        var options = StudyOptions()
        (options.steps, options.seeds, options.width) = (2, 2, 16)
        return try study.result(
            options, context: EngineContext(threads: threads),
            corpus: { try TrainingCorpus(path: Self.text, sequenceLength: $0) }, progress: { _, _ in })
    }

    @Test("a study has a finding, pictures and numbers, and the same ones again", arguments: Study.all.map(\.name))
    func study(name: String) throws {
        let study = try #require(Study.named(name))
        let result = try run(study)
        #expect(!result.finding.isEmpty && !result.finding.contains("nan"))
        let html = result.html(command: "touchstone study \(name)")
        #expect(
            html.contains("<svg") && html.contains("touchstone study \(name)") && !html.contains(">nan")
                && !html.contains("nan<"))
        #expect(!result.csv.joined().contains { $0.contains("nan") })
        let width = result.csv[0].count
        #expect(result.csv.count > 3 && result.csv.allSatisfy { $0.count == width })
        // Times are measured.
        guard name != "visibility" else { return }
        let again = try run(study, threads: 3)
        #expect(again.csv == result.csv && again.finding == result.finding)
    }

    @Test("progress ends at 1, and what it throws ends the study")
    func progress() throws {
        struct Stop: Error {}
        var options = StudyOptions()
        (options.steps, options.seeds, options.width) = (2, 1, 16)
        var last = 0.0
        for study in Study.all where study.name != "visibility" {
            _ = try study.result(
                options, context: EngineContext(threads: 1),
                corpus: { try TrainingCorpus(path: Self.text, sequenceLength: $0) },
                progress: { done, _ in last = done })
            #expect(last == 1, "\(study.name): \(last)")
        }
        #expect(throws: Stop.self) {
            try Study.all[0].result(
                options, context: EngineContext(threads: 1),
                corpus: { try TrainingCorpus(path: Self.text, sequenceLength: $0) },
                progress: { done, _ in if done > 0.5 { throw Stop() } })
        }
    }

    @Test("gradients that are changed by nothing leave a step as it is; changed ones do not")
    func changedGradients() throws {
        let corpus = try TrainingCorpus(path: Self.text, sequenceLength: 16)
        var c = ModelConfiguration(preset: .tiny)
        c.sequenceLength = 16
        func weights(_ change: ((Int, UnsafeMutableBufferPointer<Float>) -> Void)?) throws -> String {
            let trainer = Trainer(c, EngineContext(threads: 2))
            trainer.initialize()
            trainer.changesGradients = change
            for step in 1...3 {
                _ = try trainer.step(step, batch: try corpus.trainingBatch(step: step, configuration: c))
            }
            return trainer.weightsDigest
        }
        let plain = try weights(nil)
        #expect(try weights { _, _ in } == plain)
        #expect(try weights { _, x in for i in x.indices { x[i] = -x[i] } } != plain)
    }

    @Test("cells with commas and quotes are quoted in CSV")
    func csv() throws {
        var result = try run(try #require(Study.named("precision")))
        result.csv = [["a", "b,c"], ["d\"e", ""]]
        #expect(result.csvText == "a,\"b,c\"\r\n\"d\"\"e\",\r\n")
    }
}
