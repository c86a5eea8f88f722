import Cases
import Goldens
import ModelSpec
import Platform
import Reference
import Testing

@Suite("The reference gives the same bits on any number of threads")
struct ReferenceThreadsTests {
    /// The two largest quick cases of every operation: truth, bounds and intermediates count as outputs do.
    private static let cases: [GoldenCase] = {
        var byOperation: [String: [GoldenCase]] = [:]
        func size(_ one: GoldenCase) -> Int { one.inputs.tensors.reduce(0) { $0 + $1.tensor.count } }
        for suite in Suite.allCases {
            for plan in GoldenSuites.files(of: suite, tier: .quick, seed: GoldenSuites.defaultSeed) {
                for one in plan.cases { byOperation[one.op, default: []].append(one) }
            }
        }
        return byOperation.values.flatMap { $0.sorted { size($0) > size($1) }.prefix(2) }.sorted { $0.name < $1.name }
    }()

    @Test("2, 3 and 16 threads against 1", arguments: [2, 3, 16])
    func threads(_ count: Int) throws {
        #expect(Self.cases.count > OperationCatalog.all.count)
        for one in Self.cases {
            let alone = try Workers.$threadLimit.withValue(1) { try OperationCatalog.evaluate(one) }
            let shared = try Workers.$threadLimit.withValue(count) { try OperationCatalog.evaluate(one) }
            #expect(alone == shared, "\(one.op), \(one.name)")
        }
    }

    @Test("with the processor's arithmetic too", arguments: [2, 3, 16])
    func hardware(_ count: Int) throws {
        var c = ModelConfiguration(preset: .tiny)
        (c.width, c.layers, c.heads, c.keyValueHeads, c.headDimension) = (16, 2, 4, 2, 4)
        (c.feedForwardWidth, c.sequenceLength, c.batch) = (24, 20, 2)
        let n = c.batch * c.sequenceLength
        let rows = (0..<n).map { Int32($0 % c.sequenceLength) }
        let batch = TrainingBatch(
            tokens: (0..<n).map { Int32($0 * 7919 % c.vocabulary) },
            targets: .tokens((0..<n).map { Int32(($0 + 1) * 7919 % c.vocabulary) }), positions: rows,
            visibilityStart: rows, visibilityLimit: rows.map { _ in Int32(c.sequenceLength) })
        func step(_ threads: Int) throws -> TrainingState {
            try Workers.$threadLimit.withValue(threads) {
                var state = TrainingState(initial: c)
                _ = try TrainingStep.run(c, state: &state, batch: batch, step: 1, arithmetic: .hardware)
                return state
            }
        }
        #expect(try step(1) == step(count))
    }

    @Test("results stand in order, from nested calls too, and no index is left out", arguments: [1, 2, 3, 16])
    func order(_ threads: Int) {
        for count in [0, 1, 2, 3, 17, 1000, 4097] {
            let squares = Workers.$threadLimit.withValue(threads) {
                Workers.map(count) { i in Workers.map(3) { j in 3 * i + j } }
            }
            #expect(squares.flatMap { $0 } == Array(0..<3 * count))
        }
    }

    @Test("progress counts every call from nothing to all")
    func progress() {
        let seen = Synchronized<[(part: Int, fraction: Double)]>([])
        let progress = WorkProgress { part, fraction in seen.change { $0.append((part, fraction)) } }
        WorkProgress.$current.withValue(progress) {
            Workers.$threadLimit.withValue(2) {
                for _ in 0..<3 { _ = Workers.map(100) { Workers.map($0) { $0 } } }
            }
        }
        for part in 1...3 { #expect(seen.get.filter { $0.part == part }.map(\.fraction).max() == 1) }
        #expect(seen.get.count > 10)
        #expect(seen.get.allSatisfy { (1...3).contains($0.part) && (0...1).contains($0.fraction) })
    }
}
