import Cases
import Engine
import EngineOperations
import Foundation
import Goldens
import ModelSpec
import Testing

@Suite("T5: ranks that are processes, played by threads")
struct DistributedTests {
    /// Nothing in it is a multiple of anything: seven sequences, parameters of 15 to 630 numbers, blocks with tails.
    private static func tiny(_ ranks: Int, _ compression: Compression, _ feedback: Bool = false) -> ModelConfiguration {
        var c = ModelConfiguration()
        (c.vocabulary, c.width, c.layers, c.heads, c.keyValueHeads) = (42, 15, 2, 3, 1)
        (c.headDimension, c.feedForwardWidth, c.sequenceLength, c.batch) = (6, 21, 11, 7)
        (c.int8, c.ranks, c.compression, c.errorFeedback) = (true, ranks, compression, feedback)
        return c
    }

    private static func batch(_ c: ModelConfiguration, _ step: Int) -> TrainingBatch {
        let n = c.batch * c.sequenceLength
        let rows = (0..<n).map { Int32($0 % c.sequenceLength) }
        return TrainingBatch(
            tokens: (0..<n).map { Int32(($0 * 31 + step * 7) % c.vocabulary) },
            targets: .tokens((0..<n).map { Int32(($0 * 29 + step * 5 + 3) % c.vocabulary) }), positions: rows,
            visibilityStart: rows, visibilityLimit: rows.map { _ in Int32(c.sequenceLength) })
    }

    /// What is left of a run.
    private struct Trace: Sendable, Equatable {
        var state: [UInt32] = []
        var residuals: [UInt32] = []
        var fingerprint = ""
        var losses: [UInt32] = []
        var traffic = Traffic()
        var contributions = SquinchBlocks.Counts()
        var reductions = SquinchBlocks.Counts()

        mutating func add(_ outcome: Trainer.Outcome) {
            losses.append(outcome.loss.bitPattern)
            (traffic, contributions, reductions) = (outcome.traffic, outcome.contributions, outcome.reductions)
        }

        mutating func read(_ trainer: Trainer) throws {
            trainer.readState { state in
                for values in [state.weight, state.first, state.second] { self.state += values.map(\.bitPattern) }
            }
            residuals = try trainer.gatherResiduals().flatMap { $0.map(\.bitPattern) }
        }
    }

    private static func alone(_ c: ModelConfiguration, _ steps: ClosedRange<Int>) throws -> Trace {
        let trainer = Trainer(c, EngineContext(threads: 2))
        trainer.initialize()
        var recorder = StepRecorder(configuration: c)
        var trace = Trace()
        for step in steps {
            trace.add(
                try trainer.step(step, batch: batch(c, step)) {
                    recorder.record($0, $1.elementType, $1.shape, canonical: $1.bytes)
                })
        }
        try trace.read(trainer)
        trace.fingerprint = recorder.fingerprint.hexadecimal
        return trace
    }

    private static func one(
        _ c: ModelConfiguration, _ steps: ClosedRange<Int>, _ communicator: ThreadCommunicator, hashes: Bool = true,
        prepare: (Trainer) throws -> Void = { $0.initialize() }
    ) throws -> Trace {
        let trainer = Trainer(c, EngineContext(threads: 1 + communicator.rank % 2), communicator: communicator)
        try prepare(trainer)
        var chain = RankFingerprint(communicator)
        var trace = Trace()
        for step in steps {
            chain.begin()
            let probe: EngineProbe? = hashes ? { chain.record($0, $1) } : nil
            trace.add(
                try trainer.step(step, batch: batch(c, step), probe: probe) { if hashes { try chain.relay() } })
        }
        try trace.read(trainer)
        trace.fingerprint = chain.chain.hexadecimal
        return trace
    }

    static let variants: [(Compression, Bool, SquinchVariant)] = [
        (.none, false, .floor16), (.bf16, false, .floor16), (.squinch, false, .floor16), (.squinch, true, .floor16),
        (.squinch, true, .round15), (.squinch, false, .stochastic15), (.squinch, true, .stochastic15),
    ]

    @Test("S8, T5, T6: weights, residuals, counts and fingerprint of ranks in one process", arguments: 1...7)
    func same(ranks: Int) throws {
        for (compression, feedback, variant) in Self.variants {
            var c = Self.tiny(ranks, compression, feedback)
            c.squinchVariant = variant
            let expected = try Self.alone(c, 1...3)
            let configuration = c
            for hashes in [true, false] {
                let results = ThreadCommunicator.run(ranks) {
                    try Self.one(configuration, 1...3, $0, hashes: hashes)
                }
                for (rank, result) in results.enumerated() {
                    let trace = try result.get()
                    let place: Comment = "rank \(rank) of \(ranks), \(compression) \(feedback) \(variant)"
                    #expect(trace.state == expected.state, place)
                    #expect(trace.losses == expected.losses, place)
                    #expect(trace.traffic == expected.traffic, place)
                    #expect(trace.contributions == expected.contributions, place)
                    #expect(trace.reductions == expected.reductions, place)
                    if rank == 0 {
                        #expect(trace.residuals == expected.residuals, place)
                        #expect(!hashes || trace.fingerprint == expected.fingerprint, place)
                    }
                }
            }
        }
    }

    @Test("S8: bytes are counted, and are what the formula says", arguments: 1...5)
    func bytes(ranks: Int) throws {
        for (compression, feedback) in [(Compression.none, false), (.bf16, false), (.squinch, false), (.squinch, true)]
        {
            let c = Self.tiny(ranks, compression, feedback)
            var (encoded, elements) = (0, 0)
            for parameter in c.parameters {
                elements += parameter.count
                switch compression {
                case .none: encoded += 4 * parameter.count
                case .bf16: encoded += 2 * parameter.count
                case .squinch: encoded += 6 * ((parameter.count + 7) / 8)
                }
            }
            let results = ThreadCommunicator.run(ranks) { try Self.one(c, 1...1, $0, hashes: false) }
            for traffic in try results.map({ try $0.get().traffic }) + [Self.alone(c, 1...1).traffic] {
                #expect(traffic.scattered == (ranks - 1) * encoded && traffic.gathered == traffic.scattered)
                #expect(traffic.asFP32 == 2 * (ranks - 1) * 4 * elements)
                #expect(traffic.asBF16 == 2 * (ranks - 1) * 2 * elements)
            }
        }
    }

    @Test("a checkpoint of ranks in one process goes on as processes, and the other way round")
    func checkpoints() throws {
        let c = Self.tiny(3, .squinch, true)
        let folder = FileManager.default.temporaryDirectory.path + "/touchstone-ranks-\(UUID())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let expected = try Self.alone(c, 1...4)
        // Two steps each way: the files are the same.
        let trainer = Trainer(c, EngineContext(threads: 2))
        trainer.initialize()
        for step in 1...2 { _ = try trainer.step(step, batch: Self.batch(c, step)) }
        try Checkpoint(trainer, step: 2, fingerprint: nil, data: "d").write("\(folder)/alone.h5")
        let written = ThreadCommunicator.run(3) { communicator in
            let trainer = Trainer(c, EngineContext(threads: 1), communicator: communicator)
            trainer.initialize()
            for step in 1...2 { _ = try trainer.step(step, batch: Self.batch(c, step)) }
            let residuals = try trainer.gatherResiduals()
            if communicator.rank == 0 {
                try Checkpoint(trainer, step: 2, fingerprint: nil, data: "d", residuals: residuals)
                    .write("\(folder)/ranks.h5")
            }
        }
        for result in written { try result.get() }
        let (alone, ranks) = (
            FileManager.default.contents(atPath: "\(folder)/alone.h5"),
            FileManager.default.contents(atPath: "\(folder)/ranks.h5")
        )
        #expect(alone != nil && alone == ranks)
        let results = ThreadCommunicator.run(3) { communicator in
            try Self.one(c, 3...4, communicator) { trainer in
                let checkpoint = communicator.rank == 0 ? try Checkpoint(reading: "\(folder)/alone.h5") : nil
                try Checkpoint.restore(checkpoint, everywhere: trainer)
            }
        }
        for result in results { #expect(try result.get().state == expected.state) }
        #expect(try results[0].get().residuals == expected.residuals)
        let again = Trainer(c, EngineContext(threads: 2))
        try Checkpoint(reading: "\(folder)/ranks.h5").restore(again)
        for step in 3...4 { _ = try again.step(step, batch: Self.batch(c, step)) }
        var trace = Trace()
        try trace.read(again)
        #expect(trace.state == expected.state && trace.residuals == expected.residuals)
    }

    /// What a step throws, as text.
    private static func refusal(_ body: () throws -> Void) -> String {
        do { try body() } catch { return "\(error)" }
        return "nothing"
    }

    @Test("what a rank refuses, all of them throw, in the words of ranks in one process; the state stays as it was")
    func refusals() throws {
        let c = Self.tiny(3, .squinch, true)
        // Residuals that are not finite: of rank 1 in a late parameter, of rank 2 in two earlier ones. Parameters come first, then ranks.
        let (early, late) = (1, 5)
        let alone = Trainer(c, EngineContext(threads: 1))
        alone.initialize()
        var index = 0
        alone.withState { state in
            if index == early { state.residual![2 * state.parameter.count + 3] = .infinity }
            if index == late { state.residual![state.parameter.count + 2] = .nan }
            index += 1
        }
        let expected = Self.refusal { _ = try alone.step(1, batch: Self.batch(c, 1)) }
        #expect(expected.contains("gradient plus residual of rank 2 at index 3 is inf"), "\(expected)")
        let results = ThreadCommunicator.run(3) { communicator in
            let trainer = Trainer(c, EngineContext(threads: 1), communicator: communicator)
            trainer.initialize()
            var index = 0
            trainer.withState { state in
                if index == early && communicator.rank == 2 { state.residual![3] = .infinity }
                if index == late && communicator.rank == 1 { state.residual![2] = .nan }
                index += 1
            }
            var (before, after) = (Trace(), Trace())
            try before.read(trainer)
            let refusal = Self.refusal { _ = try trainer.step(1, batch: Self.batch(c, 1)) }
            try after.read(trainer)
            return [refusal, "\(before.state == after.state)", try trainer.firstNonfinite(Self.batch(c, 1)) ?? "none"]
        }
        for result in results { #expect(try result.get() == [expected, "true", "none"]) }

        // The same on all: no rank is named. Then a NaN that only rank 1's sequences meet.
        let broken = ThreadCommunicator.run(3) { communicator in
            let trainer = Trainer(c, EngineContext(threads: 1), communicator: communicator)
            trainer.initialize()
            let short = Self.refusal {
                _ = try trainer.step(
                    1,
                    batch: TrainingBatch(
                        tokens: [1], targets: .tokens([1]), positions: [0], visibilityStart: [0], visibilityLimit: [1]))
            }
            let own = Self.refusal {
                try communicator.agree { if communicator.rank == 1 { throw EngineError("a place", "is wrong") } }
            }
            let (first, token) = (2 * c.sequenceLength, Int32(41))
            var tokens = Self.batch(c, 1).tokens.map { $0 == token ? 0 : $0 }
            tokens[first] = token
            let good = Self.batch(c, 1)
            let batch = TrainingBatch(
                tokens: tokens, targets: good.targets, positions: good.positions,
                visibilityStart: good.visibilityStart, visibilityLimit: good.visibilityLimit)
            trainer.withState { state in
                if state.parameter.name == "embedding" { state.weight[Int(token) * c.width] = .nan }
            }
            return [short, own, try trainer.firstNonfinite(batch) ?? "none"]
        }
        for result in broken {
            let texts = try result.get()
            #expect(texts[0] == "tokens has 1 elements, expected 77")
            #expect(texts[1] == "rank 1: a place: is wrong")
            // The weights are everybody's: rank 0 has NaN logits for the token, whether its sequences hold it or not.
            #expect(texts[2].hasPrefix("rank.0."), "\(texts[2])")
        }
    }

    @Test("a rank that is gone is an error for those who wait for it")
    func lost() {
        let c = Self.tiny(2, .none)
        let results = ThreadCommunicator.run(2) { communicator in
            if communicator.rank == 1 { return "gone" }
            let trainer = Trainer(c, EngineContext(threads: 1), communicator: communicator)
            trainer.initialize()
            return Self.refusal { _ = try trainer.step(1, batch: Self.batch(c, 1)) }
        }
        #expect((try? results[0].get()) == "rank 0: rank 1 has left")
    }
}
