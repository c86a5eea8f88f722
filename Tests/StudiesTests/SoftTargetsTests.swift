import Cases
import Engine
import ExactMath
import Foundation
import GoldenIO
import ModelSpec
import Reference
import Studies
import Testing
import TrainingData

@Suite("Offline distillation: stored soft targets")
final class SoftTargetsTests {
    private let folder: String
    private let corpus: TrainingCorpus
    private let teacher: Trainer
    private let context = EngineContext(threads: 2)
    private var plan = SoftTargets.Plan()

    init() throws {
        folder = FileManager.default.temporaryDirectory.path + "/touchstone-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder + "/text", withIntermediateDirectories: true)
        for index in 0..<40 {
            let text =
                "Document \(index): " + String(repeating: "the quick brown fox \(index * 7919) ", count: 1 + index % 4)
            try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/text/\(100 + index).txt"))
        }
        corpus = try TrainingCorpus(path: folder + "/text", sequenceLength: 32)
        var c = ModelConfiguration(preset: .tiny)
        (c.width, c.feedForwardWidth, c.sequenceLength, c.batch) = (32, 64, 32, 3)
        teacher = Trainer(c, context)
        teacher.initialize()
        (plan.teacher, plan.data, plan.k, plan.seed) = (teacher.weightsDigest, "text", 4, 9)
        (plan.sequenceLength, plan.sequences, plan.chunk) = (32, 11, 4)
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    private func sample(_ plan: SoftTargets.Plan, _ name: String) throws -> SoftTargets {
        try SoftTargets.sample(
            plan, teacher: teacher, context: context, corpus: corpus, folder: "\(folder)/\(name)", progress: { _ in })
        return try SoftTargets(reading: "\(folder)/\(name)")
    }

    /// The batch of one sequence, in the order in which they were sampled.
    private func stored(_ name: String, _ sequence: Int, chunk: Int) throws -> (ids: [UInt32], weights: [Float]) {
        let file = try GoldenFile(reading: SoftTargets.path("\(folder)/\(name)", chunk: sequence / chunk))
        let made = try file.readCase("targets")
        let (ids, weights) = (try #require(made.outputs["target_ids"]), try #require(made.outputs["target_weights"]))
        let size = ids.shape[1] * ids.shape[2]
        let at = sequence % chunk * size
        return (Array(try ids.integers(UInt32.self)[at..<at + size]), Array(try weights.floats()[at..<at + size]))
    }

    @Test(
        "the engine's targets are the reference's samples of the teacher's logits",
        arguments: [TargetMethod.gumbel, .withReplacement])
    func reference(_ method: TargetMethod) throws {
        plan.method = method
        _ = try sample(plan, "targets")
        for (index, sequence) in try corpus.sequences.prefix(plan.sequences).enumerated() {
            var logits: [Float] = []
            _ = try teacher.loss(TrainingBatch([sequence])) { name, tensor in
                if name == "logits" { logits = Array(tensor.bytes.bindMemory(to: Float.self)) }
            }
            let random = RandomStream(seed: 9, stream: RandomStreams.gumbel, step: UInt32(index))
            let expected: (ids: [UInt32], weights: [Float])
            if method == .gumbel {
                let sample = try Gumbel.topK(logits: logits, rows: 32, vocabulary: 256, k: 4, stream: random)
                expected = (sample.ids, sample.weights)
            } else {
                let sample = try Gumbel.withReplacement(logits: logits, rows: 32, vocabulary: 256, k: 4, stream: random)
                expected = (sample.ids, sample.weights)
            }
            let got = try stored("targets", index, chunk: 4)
            for (row, target) in sequence.targets.enumerated() {
                for slot in row * 4..<(row + 1) * 4 {
                    #expect(got.ids[slot] == (target < 0 ? UInt32.max : expected.ids[slot]))
                    #expect(got.weights[slot].bitPattern == (target < 0 ? 0 : expected.weights[slot]).bitPattern)
                }
            }
        }
    }

    @Test("the k most likely tokens and their shares follow from the reference's probabilities")
    func mostLikely() throws {
        plan.method = .topK
        _ = try sample(plan, "targets")
        for (index, sequence) in try corpus.sequences.prefix(3).enumerated() {
            var logits: [Float] = []
            _ = try teacher.loss(TrainingBatch([sequence])) { name, tensor in
                if name == "logits" { logits = Array(tensor.bytes.bindMemory(to: Float.self)) }
            }
            let got = try stored("targets", index, chunk: 4)
            for (row, target) in sequence.targets.enumerated() where target >= 0 {
                // Z1, K1, K2 by the reference: p = exp(fl(s - Z)).
                let s = Array(logits[row * 256..<(row + 1) * 256])
                let forward = try CrossEntropy.forward(logits: s, targets: [-1], rows: 1, vocabulary: 256)
                let p = s.map { CorrectlyRounded.exp(SoftFloat32.subtract($0, forward.z[0])) }
                var left = Set(0..<256)
                var expected: [Int] = []
                for _ in 0..<4 {
                    let next = left.min { (p[$1], $0) < (p[$0], $1) }!
                    left.remove(next)
                    expected.append(next)
                }
                let sum = expected.reduce(Float(0)) { SoftFloat32.add($0, p[$1]) }
                for (slot, id) in expected.enumerated() {
                    #expect(got.ids[row * 4 + slot] == UInt32(id))
                    #expect(got.weights[row * 4 + slot].bitPattern == SoftFloat32.divide(p[id], sum).bitPattern)
                }
            }
        }
    }

    @Test("how the text is cut into files, and where a run stopped, change no target")
    func chunks() throws {
        let first = try sample(plan, "first")
        var other = plan
        other.chunk = 5
        _ = try sample(other, "other")
        for index in 0..<plan.sequences {
            #expect(try stored("first", index, chunk: 4) == stored("other", index, chunk: 5))
        }
        let path = SoftTargets.path("\(folder)/first", chunk: 1)
        let before = try Data(contentsOf: URL(fileURLWithPath: path))
        try FileManager.default.removeItem(atPath: path)
        #expect(throws: SoftTargets.Failure.self) { try SoftTargets(reading: "\(folder)/first") }
        let again = try sample(plan, "first")
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
        #expect(again.digest == first.digest)
    }

    @Test("an interruption leaves whole files alone")
    func interruption() throws {
        struct Stop: Error {}
        #expect(throws: Stop.self) {
            try SoftTargets.sample(
                plan, teacher: teacher, context: context, corpus: corpus, folder: "\(folder)/cut",
                progress: { if $0 > 5 { throw Stop() } })
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(folder)/cut") == ["targets-00000.h5"])
        #expect(try sample(plan, "cut").digest == sample(plan, "whole").digest)
    }

    @Test("the k most likely tokens have weights that add up to 1; Gumbel's do in the mean")
    func weights() throws {
        plan.method = .topK
        #expect(abs(try sample(plan, "top").meanWeight - 1) < 1e-6)
        plan.method = .gumbel
        plan.k = 16
        // 300 rows or so; the weights of one row have a standard deviation below 1.
        #expect(abs(try sample(plan, "gumbel").meanWeight - 1) < 0.3)
        plan.k = 256
        let all = try sample(plan, "all")
        #expect(abs(all.meanWeight - 1) < 1e-5)
        #expect(all.storage.sparse == 2 * all.storage.full)
    }

    @Test("targets of another plan, and damaged files, are refused by name")
    func refusals() throws {
        _ = try sample(plan, "targets")
        var other = plan
        other.seed = 10
        let error = try #require(throws: SoftTargets.Failure.self) { _ = try sample(other, "targets") }
        #expect("\(error)".contains("targets-00000.h5"))
        let path = SoftTargets.path("\(folder)/targets", chunk: 2)
        try Data("no HDF5".utf8).write(to: URL(fileURLWithPath: path))
        #expect(throws: GoldenIOError.self) { try SoftTargets(reading: "\(folder)/targets") }
        let golden = try GoldenFile(reading: SoftTargets.path("\(folder)/targets", chunk: 0))
        var made = try golden.readCase("targets")
        made.outputs = TensorGroup(
            made.outputs.tensors.map {
                $0.name == "target_ids"
                    ? NamedTensor(
                        "target_ids", Tensor([UInt32](repeating: 256, count: $0.tensor.count), shape: $0.tensor.shape))
                    : $0
            })
        let writer = try GoldenWriter(path: SoftTargets.path("\(folder)/targets", chunk: 0), header: golden.header)
        try writer.write(made)
        try writer.finish()
        let id = try #require(throws: SoftTargets.Failure.self) { _ = try SoftTargets(reading: "\(folder)/targets") }
        #expect("\(id)".contains("256 at 0"))
    }

    @Test("a student's batches are those of the text in T7's order, with targets in place of the next token")
    func batches() throws {
        plan.sequences = corpus.sequences.count
        let targets = try sample(plan, "targets")
        var c = teacher.configuration
        c.distillationK = 4
        for step in [1, 2, 9] {
            let (soft, hard) = (
                targets.batch(step: step, configuration: c), try corpus.trainingBatch(step: step, configuration: c)
            )
            #expect(soft.tokens == hard.tokens && soft.positions == hard.positions)
            #expect(soft.visibilityStart == hard.visibilityStart && soft.visibilityLimit == hard.visibilityLimit)
        }
    }

    @Test("hard targets as soft ones have the same loss, bit for bit")
    func hardAsSoft() throws {
        var c = teacher.configuration
        c.distillationK = 5
        let student = Trainer(c, context)
        student.initialize()
        let batch = TrainingBatch(try corpus.heldOut.prefix(2))
        #expect(try teacher.loss(batch).bitPattern == student.loss(batch.hardTargetsAsSoft(k: 5)).bitPattern)
    }
}
