import ArgumentParser
import Engine
import Foundation
import JSON
import Kernels
import ModelSpec
import Platform

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure the engine beside what this machine can do.",
        discussion: """
            Times the kernels, and a training step, each several times, and gives the median beside the machine's own limits, measured in the same \
            run: multiply-adds on registers alone, and a copy of memory. `Tools/bench` runs PyTorch and others on the same shapes side by side.
            """)

    @Option(name: .long, help: "peak, gemm, attention, math, squinch or train; may be given several times.")
    var only: [Group] = []

    @Option(name: .long, help: ArgumentHelp("The configuration of the training step.", valueName: "name|file"))
    var config = "bench"

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Of the matrix products measure these alone; may be given several times.", valueName: "MxKxN"))
    var shape: [ProductShape] = []

    @Option(name: .long, help: "Repetitions of each; the median counts.", reading: Number.whole(1...1000))
    var repeats = 5

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    @OptionGroup var engine: EngineOptions

    enum Group: String, ExpressibleByArgument, CaseIterable { case peak, gemm, attention, math, squinch, train }

    /// [M, K] times [K, N].
    struct ProductShape: ExpressibleByArgument {
        let m: Int
        let k: Int
        let n: Int

        init?(argument: String) {
            let sizes = argument.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
            guard sizes.count == 3, let m = sizes[0], let k = sizes[1], let n = sizes[2] else { return nil }
            guard [m, k, n].allSatisfy({ (1...65_536).contains($0) }) else { return nil }
            (self.m, self.k, self.n) = (m, k, n)
        }
    }

    private struct Row {
        let group: Group
        let name: String
        let seconds: Double
        let rate: Double
        let unit: String
        /// Share of the limit that was measured beside it.
        let share: Double?
    }

    func run() throws {
        let context = try engine.context()
        let groups = only.isEmpty ? Group.allCases : only
        var rows: [Row] = []
        func add(_ group: Group, _ item: Benchmark.Item, limit: Double? = nil) {
            let seconds = median(item.run)
            let rate = item.amount / seconds
            let row = Row(
                group: group, name: item.name, seconds: seconds, rate: rate, unit: item.unit,
                share: limit.map { rate / $0 })
            rows.append(row)
            if !json { print(line(row)) }
        }
        if !json {
            print(
                "engine        \(context.kernels.name), \(counted(context.pool.count, "thread")), median of \(repeats)")
        }
        let peak = Benchmark.peak(context)
        let copy = Benchmark.copy(context)
        let peakRate = peak.amount / median(peak.run)
        let copyRate = copy.amount / median(copy.run)
        if groups.contains(.peak) {
            add(.peak, peak)
            add(.peak, copy)
        }
        for shape in groups.contains(.gemm) ? shape : [] {
            let item = Benchmark.product(context, m: shape.m, k: shape.k, n: shape.n, recipe: .pairedFTZ)
            add(.gemm, item.named("\(item.name) \(DotRecipe.pairedFTZ.rawValue)"), limit: peakRate)
        }
        if groups.contains(.gemm) && shape.isEmpty {
            for recipe in [DotRecipe.pairedFTZ, .chainIEEE] {
                for (m, k, n) in [
                    (4096, 512, 512), (4096, 512, 2048), (4096, 2048, 512), (512, 512, 512), (1024, 1024, 1024),
                    (2048, 2048, 2048),
                ] where recipe == .pairedFTZ || m == 2048 {
                    let item = Benchmark.product(context, m: m, k: k, n: n, recipe: recipe)
                    add(.gemm, item.named("\(item.name) \(recipe.rawValue)"), limit: peakRate)
                }
            }
        }
        if groups.contains(.gemm) && shape.isEmpty {
            for (inputs, outputs) in [(512, 512), (512, 2048), (2048, 512), (512, 64)] {
                for item in Benchmark.gradients(context, tokens: 512, inputs: inputs, outputs: outputs) {
                    add(.gemm, item, limit: peakRate)
                }
            }
        }
        if groups.contains(.attention) {
            var dense: Double?
            for mask in [Benchmark.Mask.full, .causal, .documents(128), .window(128)] {
                let item = Benchmark.attention(context, batch: 2, heads: 8, tokens: 1024, dimension: 64, mask: mask)
                add(.attention, item, limit: dense)
                dense = dense ?? rows.last?.rate
            }
        }
        if groups.contains(.math) {
            let math = context.kernels.math
            for (name, function) in [("exp", math.exp), ("log", math.log), ("rsqrt", math.rsqrt)] {
                add(.math, Benchmark.function(context, name, function))
            }
        }
        if groups.contains(.squinch) {
            for variant in SquinchVariant.allCases {
                for item in Benchmark.squinch(context, variant) { add(.squinch, item, limit: copyRate / 2) }
            }
        }
        if groups.contains(.train) { rows.append(try trainingStep(context)) }
        if json {
            print(
                try JSONValue.array(
                    rows.map { row in
                        .object([
                            "group": .string(row.group.rawValue), "name": .string(row.name),
                            "seconds": .number(row.seconds), "rate": .number(row.rate), "unit": .string(row.unit),
                            "share": row.share.map(JSONValue.number) ?? .null,
                        ])
                    }
                ).text(indented: true))
        }
    }

    private func trainingStep(_ context: EngineContext) throws -> Row {
        let c = try ModelConfiguration.reading(config)
        try EngineRun.requireMemory(Trainer.bytes(c, threads: context.pool.count), for: "the training step")
        let trainer = Trainer(c, context)
        trainer.initialize()
        let n = c.batch * c.sequenceLength
        let rows = (0..<n).map { Int32($0 % c.sequenceLength) }
        let batch = TrainingBatch(
            tokens: (0..<n).map { Int32(($0 * 7919) % c.vocabulary) },
            targets: .tokens((0..<n).map { Int32((($0 + 1) * 7919) % c.vocabulary) }), positions: rows,
            visibilityStart: rows, visibilityLimit: rows.map { _ in Int32(c.sequenceLength) })
        var step = 0
        var failure: (any Error)?
        let seconds = median {
            step += 1
            do { _ = try trainer.step(step, batch: batch) } catch { failure = error }
        }
        if let failure { throw failure }
        let row = Row(
            group: .train, name: "\(config), \(c.batch) x \(c.sequenceLength) tokens", seconds: seconds,
            rate: Double(n) / seconds, unit: "tokens", share: nil)
        if !json {
            print(line(row))
            print("              memory \(compact(Double(Trainer.bytes(c, threads: context.pool.count)), "B"))")
        }
        return row
    }

    private func median(_ body: () -> Void) -> Double {
        body()
        let times = (0..<repeats).map { _ in
            let start = monotonicSeconds()
            body()
            return monotonicSeconds() - start
        }
        return max(1e-9, times.sorted()[repeats / 2])
    }

    private func line(_ row: Row) -> String {
        let name = "\(row.group.rawValue.padding(toLength: 14, withPad: " ", startingAt: 0))\(row.name)"
        let share = row.share.map { "  \(Int(($0 * 100).rounded())) %" } ?? ""
        return
            "\(name.padding(toLength: 52, withPad: " ", startingAt: 0))\(compact(row.rate, row.unit))/s\(share)  \(Int(row.seconds * 1e6)) µs"
    }
}
