import ExactMath
import Kernels
import KernelsEmulated
import ModelSpec
import Reference
import Testing

import Engine

@Suite("Squinch in vectors against the reference")
struct SquinchVectorTests {
    static let sets = InstructionSets.available + [Emulated.singles]
    static let cases = sets.map(\.name).flatMap { name in SquinchVariant.allCases.map { (name, $0) } }

    private func context(_ name: String, threads: Int = 2) throws -> EngineContext {
        let kernels = try #require(Self.sets.first { $0.name == name })
        return EngineContext(kernels: kernels, threads: threads)
    }

    /// A word of a test's own stream.
    private struct Draws {
        let stream: RandomStream
        var at: UInt64 = 0

        init(seed: UInt64) { stream = RandomStream(seed: seed, stream: 9, step: 0) }

        mutating func word() -> UInt32 {
            defer { at += 1 }
            return stream.word(at)
        }

        /// Any finite number of an exponent field of the range.
        mutating func number(_ exponents: ClosedRange<UInt32>) -> Float {
            let bits = word()
            let exponent = exponents.lowerBound + word() % UInt32(exponents.count)
            return Float(bitPattern: bits & 0x807F_FFFF | exponent << 23)
        }
    }

    private func encoded(
        _ context: EngineContext, _ variant: SquinchVariant, _ x: [Float], _ words: [UInt32]
    ) -> (bytes: [UInt8], counts: SquinchBlocks.Counts) {
        var bytes = [UInt8](repeating: 0xA5, count: 6 * SquinchBlocks.blocks(x.count))
        let counts = x.withUnsafeBufferPointer { x in
            words.withUnsafeBufferPointer { words in
                SquinchBlocks(context, variant).encode(
                    x.baseAddress!, x.count, into: &bytes, random: .words(words.baseAddress!))
            }
        }
        return (bytes, counts)
    }

    /// Compares blocks, counts and decoded numbers; says which block differs first.
    private func compare(
        _ context: EngineContext, _ variant: SquinchVariant, _ x: [Float], _ words: [UInt32],
        nonfinite: NonfinitePolicy = .refuse
    ) throws {
        var report = Squinch.Report()
        let expected = try Squinch.encode(x, variant: variant, nonfinite: nonfinite, random: words, report: &report)
        let (bytes, counts) = encoded(context, variant, x, words)
        if let wrong = expected.indices.first(where: { bytes[$0] != expected[$0] }) {
            let block = wrong / 6
            let values = x[8 * block..<min(x.count, 8 * block + 8)]
            Issue.record(
                "block \(block) of \(Array(values)), words \(Array(words[values.indices])): \(bytes[6 * block..<6 * block + 6]), expected \(expected[6 * block..<6 * block + 6])"
            )
        }
        #expect(counts.blocks == report.blocks && counts.zeroBlocks == report.zeroBlocks)
        #expect(counts.clippedBelow == report.clippedBelow && counts.clippedAbove == report.clippedAbove)
        let decoded = try Squinch.decode(expected, variant: variant, count: x.count)
        var numbers = [Float](repeating: .nan, count: x.count)
        SquinchBlocks(context, variant).decode(expected, x.count, into: &numbers)
        let wrong = decoded.indices.first { decoded[$0].bitPattern != numbers[$0].bitPattern }
        #expect(wrong == nil, "element \(wrong ?? 0) decodes to \(wrong.map { numbers[$0] } ?? 0)")
    }

    /// Where the codes of a variant change under M: the binary64 quotient and what is next to it.
    private func boundary(_ k: Int, _ scale: Float, _ variant: SquinchVariant) -> Float {
        switch variant {
        case .floor16: Float(Double(k * k) * Double(scale) / 256)
        case .round15: Float(Double((2 * k - 1) * (2 * k - 1)) * Double(scale) / 900)
        case .stochastic15: Float(Double(k * k) * Double(scale) / 225)
        }
    }

    /// A word at which `stochastic15` rounds x the other way than at the one next to it, or near it.
    private func flip(_ x: Float, _ scale: Float, _ offset: Int) -> UInt32 {
        guard x < scale else { return UInt32.max }
        let a = min(14, Int((225 * Double(x) / Double(scale)).squareRoot()))
        let (left, right) = (Double(2 * a + 1) * Double(scale), 225 * Double(x) - Double(a * a) * Double(scale))
        let v = Int((0x1p24 * right / left).rounded(.up)) + offset
        return UInt32(min(max(v, 0), 0xFF_FFFF)) << 8
    }

    @Test("S3: the boundary of every code under every scale, three places below to three above", arguments: cases)
    func codeBoundaries(isa: String, variant: SquinchVariant) throws {
        var x: [Float] = []
        var words: [UInt32] = []
        for q in 1...255 {
            let scale = SquinchTables.scales[q]
            let peak = q < 255 ? SquinchTables.thresholds[q].nextDown : scale
            for k in 1...15 {
                var value = boundary(k, scale, variant).nextDown.nextDown.nextDown
                var block = [peak]
                for _ in 0..<7 {
                    block.append(k % 2 == 0 ? value : -value)
                    value = value.nextUp
                }
                // Each block with words below, at and above the flip of each of its values.
                for offset in variant == .stochastic15 ? [-1, 0, 1] : [0] {
                    x += block
                    words += block.map { flip($0.magnitude, scale, offset) }
                }
            }
        }
        try compare(try context(isa), variant, x, words)
    }

    @Test("S2: peaks on every threshold and beside it, at each place of a block", arguments: cases)
    func thresholds(isa: String, variant: SquinchVariant) throws {
        var draws = Draws(seed: 3)
        var x: [Float] = []
        for (index, threshold) in SquinchTables.thresholds.enumerated() {
            for peak in [threshold.nextDown, threshold, threshold.nextUp] {
                var block = (0..<8).map { _ in peak * Float(draws.word() >> 8) * 0x1p-24 }
                block[(index + x.count / 8) % 8] = index % 2 == 0 ? peak : -peak
                x += block
            }
        }
        try compare(try context(isa), variant, x, x.map { _ in draws.word() })
    }

    @Test("S1 to S6: all magnitudes, ragged lengths, zeros and infinities, on one to three threads", arguments: cases)
    func everything(isa: String, variant: SquinchVariant) throws {
        var draws = Draws(seed: 5)
        let special: [Float] = [0, -0.0, .leastNonzeroMagnitude, .greatestFiniteMagnitude, .infinity, -.infinity]
        for (threads, n) in [(1, 1), (2, 7), (3, 8), (1, 17), (2, 4095), (3, 20_011), (2, 16 * 1024)] {
            var x: [Float] = []
            for (block, exponents) in ([90...100, 120...134, 150...162, 0...254, 0...1] as [ClosedRange<UInt32>])
                .enumerated()
            {
                for i in 0..<n where i * 5 / n == block { x.append(draws.number(exponents)) }
            }
            for i in 0..<n where i % 61 == 60 { x[i] = special[Int(draws.word() % 6)] }
            // A run of zero blocks, and one of blocks below the least scale.
            for i in n / 2..<min(n, n / 2 + 48) { x[i] = i < n / 2 + 24 ? 0 : 1e-30 }
            let words = x.map { _ in [draws.word(), 0, UInt32.max, 0x100][Int(draws.word() % 4)] }
            try compare(try context(isa, threads: threads), variant, x, words, nonfinite: .saturate)
        }
    }

    @Test("S7, G1: draws from any place of the stream on", arguments: sets.map(\.name), [0, 1, 2, 3, (1 << 34) - 6])
    func draws(isa: String, first: UInt64) throws {
        var draws = Draws(seed: 7)
        let x = (0..<5003).map { _ in draws.number(120...127) }
        let stream = RandomStream(seed: 0x0123_4567_89AB_CDEF, stream: 6, step: 0xFFFF_FFFE)
        let words = x.indices.map { stream.word(first + UInt64($0)) }
        let expected = try Squinch.encode(x, variant: .stochastic15, random: words)
        let random = RandomWords(seed: stream.seed, stream: stream.stream, step: stream.step)
        for threads in 1...3 {
            let context = try context(isa, threads: threads)
            var bytes = [UInt8](repeating: 0, count: expected.count)
            _ = SquinchBlocks(context, .stochastic15).encode(
                x, x.count, into: &bytes, random: .draws(random, first: first))
            #expect(bytes == expected)
        }
    }

    @Test("S8: means over ranks, longer than what is worked on at a time", arguments: cases)
    func means(isa: String, variant: SquinchVariant) throws {
        var draws = Draws(seed: 11)
        for (ranks, n) in [(1, 1000), (3, 5003), (2, 8192)] {
            let g = (0..<ranks * n).map { _ in draws.number(118...130) }
            let words = g.map { _ in draws.word() }
            let reducedWords = (0..<n).map { _ in draws.word() }
            let expected = try AllReduce.squinch(
                g, ranks: ranks, variant: variant, random: words, randomReduced: reducedWords)
            let context = try context(isa, threads: ranks)
            var reduced = [UInt8](repeating: 0, count: expected.reducedBlocks.count)
            var mean = [Float](repeating: 0, count: n)
            let counts = reducedWords.withUnsafeBufferPointer {
                SquinchBlocks(context, variant).reduce(
                    expected.encoded, ranks: ranks, n, reduced: &reduced, mean: &mean, random: .words($0.baseAddress!))
            }
            #expect(reduced == expected.reducedBlocks)
            #expect(mean.map(\.bitPattern) == expected.reduced.map(\.bitPattern))
            #expect(counts.blocks == expected.report.reduction.blocks)
        }
    }

    @Test("S6: the first refused element, wherever it lies among the threads' parts", arguments: sets.map(\.name))
    func refused(isa: String) throws {
        for threads in 1...3 {
            let codec = SquinchBlocks(try context(isa, threads: threads), .floor16)
            for n in [1, 15, 16, 100, 1000] {
                for place in Set([0, n / 2, n - 1]) {
                    var x = [Float](repeating: 1, count: n)
                    #expect(codec.firstRefused(x, n, saturates: false) == nil)
                    x[place] = -.infinity
                    #expect(codec.firstRefused(x, n, saturates: false) == place)
                    #expect(codec.firstRefused(x, n, saturates: true) == nil)
                    x[place] = .nan
                    #expect(codec.firstRefused(x, n, saturates: true) == place)
                }
            }
        }
    }
}
