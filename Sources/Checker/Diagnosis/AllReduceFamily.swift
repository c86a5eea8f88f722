import Cases
import ExactMath
import Goldens
import ModelSpec

// allreduce.*: clauses S8 and T5 under choices; Squinch itself deviates as in its own family.

extension DeviationCatalog {
    static let allReduceFamily = VariantFamily(
        name: "allreduce", operations: ["allreduce.squinch", "allreduce.bf16", "allreduce.fp32"],
        deviations: allReduceOwn + squinchVariants + allReduceSquinch
    ) { given, choices in
        if given.op == "allreduce.squinch" { return try squinchReduction(given, choices) }
        let isBF16 = given.op == "allreduce.bf16"
        let g = given.floats("g")
        let mean = RankMean(ranks: given.size("W"), choices)
        let n = given.size("n")
        let rounded = g.map { value in
            switch choices.on("allreduce.contribution") {
            case _ where !isBF16: value
            case "unrounded": value
            case "truncated": Float(bitPattern: value.bitPattern & 0xFFFF_0000)
            default: SumVariant.bf16(value)
            }
        }
        var r: [Float] = []
        for index in 0..<n {
            if mean.ranks == 1 && choices.has("allreduce.single.pass-through") {
                r.append(rounded[index])
            } else {
                r.append(
                    mean.of((0..<mean.ranks).map { rounded[$0 * n + index] }, roundsSum: isBF16))
            }
        }
        var result = CaseResult()
        if isBF16 {
            result.output(
                "r",
                bf16: r.map { value in
                    choices.has("allreduce.result.truncated") && !value.isNaN
                        ? UInt16(value.bitPattern >> 16) : SoftFloat32.roundToBFloat16(value)
                }, [n])
        } else {
            result.output("r", r, [n])
        }
        return result
    }

    // MARK: The mean over ranks

    /// The sum in rank order from +0, times RNE32(1/W), under choices.
    private struct RankMean {
        let ranks: Int
        private let sum: SumVariant
        private let form: String?
        private let startsFromFirst: Bool
        private let terms: String?
        private let roundsSumChoice: Bool

        init(ranks: Int, _ choices: Choices) {
            self.ranks = ranks
            sum = SumVariant(order: .ascending).under(choices, "allreduce.sum")
            form = choices.on("allreduce.mean")
            startsFromFirst = choices.has("allreduce.start.first-rank")
            terms = choices.on("allreduce.ranks")
            roundsSumChoice = choices.has("allreduce.sum-rounding.bf16")
        }

        func of(_ contributions: [Float], roundsSum: Bool) -> Float {
            let reciprocal = 1 / Float(ranks)
            var values = contributions
            switch terms {
            case "last-missing": values.removeLast()
            case "first-missing": values.removeFirst()
            default: break
            }
            if form == "before-sum" { values = values.map { $0 * reciprocal } }
            if form == "before-sum-divided" { values = values.map { $0 / Float(ranks) } }
            var total: Float
            if startsFromFirst, let first = values.first {
                total = values.dropFirst().reduce(first, +)
            } else {
                total = sum.sum(of: values)
            }
            if roundsSum && roundsSumChoice { total = SumVariant.bf16(total) }
            switch form {
            case "missing", "before-sum", "before-sum-divided": return total
            case "divided": return total / Float(ranks)
            case "running":
                var mean: Float = 0
                for (index, value) in values.enumerated() { mean += (value - mean) / Float(index + 1) }
                return mean
            default: return total * reciprocal
            }
        }
    }

    // MARK: Squinch on both legs

    private static func squinchReduction(_ given: CheckedCase, _ choices: Choices) throws -> CaseResult {
        let variant = given.choice("variant", SquinchVariant.self)
        let hasFeedback = given.flag("feedback")
        let g = given.floats("g")
        let (ranks, n) = (given.size("W"), given.size("n"))
        let e = given.floats("e")
        let isStochastic = variant == .stochastic15
        let random = given.integers("random", UInt32.self)
        var randomReduced = given.integers("random_reduced", UInt32.self)
        guard ranks >= 1 else { throw OperationError(.input, "no ranks") }
        let codec = SquinchCodec(variant, choices)
        let blocks = (n + 7) / 8
        let wordsOfFirst = choices.has("allreduce.random.first-rank")

        var encoded: [UInt8] = []
        var residual: [Float] = []
        var sent: [[Float]] = []
        var received: [[Float]] = []
        for rank in 0..<ranks {
            let row = rank * n..<(rank + 1) * n
            let words = isStochastic ? Array(random[wordsOfFirst ? 0..<n : row]) : []
            let bytes: [UInt8]
            if hasFeedback {
                let feedback = SquinchCodec.feedback(Array(g[row]), Array(e[row]), random: words, codec, choices)
                bytes = feedback.blocks
                residual += feedback.residual
                sent.append(feedback.y)
            } else {
                bytes = codec.encode(Array(g[row]), random: words)
                sent.append(Array(g[row]))
            }
            encoded += bytes
            // S8: the padding decodes too, and is set to +0 below.
            received.append(codec.decode(bytes, count: 8 * blocks))
        }

        let mean = RankMean(ranks: ranks, choices)
        let ownChoice = choices.on("allreduce.contribution")
        var means = [Float](repeating: 0, count: 8 * blocks)
        for owner in 0..<ranks {
            for block in owner * blocks / ranks..<(owner + 1) * blocks / ranks {
                for index in 8 * block..<8 * block + 8 {
                    var contributions = received.map { $0[index] }
                    for rank in 0..<ranks where index < n {
                        switch ownChoice {
                        case "unrounded": contributions[rank] = sent[rank][index]
                        case "own-uncompressed" where rank == owner: contributions[rank] = sent[rank][index]
                        case "own-missing" where rank == owner: contributions[rank] = 0
                        case "own-first":
                            // The owner starts from what it has.
                            contributions = [received[owner][index]]
                            for other in 0..<ranks where other != owner { contributions.append(received[other][index]) }
                        case "ring":
                            // Around the ring, the owner's last.
                            contributions = (1...ranks).map { received[(owner + $0) % ranks][index] }
                        default: break
                        }
                    }
                    means[index] = mean.of(contributions, roundsSum: false)
                }
            }
        }
        if choices.has("allreduce.padding.kept") == false { for index in n..<8 * blocks { means[index] = 0 } }
        switch choices.on("allreduce.random-reduced") {
        case "first-of-contributions": if isStochastic { randomReduced = Array(random[..<n]) }
        case "last-of-contributions": if isStochastic { randomReduced = Array(random[((ranks - 1) * n)...]) }
        case "zeros": randomReduced = randomReduced.map { _ in 0 }
        default: break
        }
        var second = SquinchCodec(variant, choices)
        if choices.has("allreduce.random-reduced.ignored") {
            second = SquinchCodec(
                variant,
                Choices(
                    names: choices.names.filter { !$0.hasPrefix("squinch.random.") }.union(["squinch.random.ignored"])))
        }
        let padded = choices.has("allreduce.padding.kept")
        var reduced =
            padded
            ? second.encode(
                means, random: isStochastic ? randomReduced + [UInt32](repeating: 0, count: 8 * blocks - n) : [])
            : second.encode(Array(means[..<n]), random: randomReduced)
        var r = codec.decode(reduced, count: n)
        if choices.has("allreduce.second-leg.uncompressed") { r = Array(means[..<n]) }
        if ranks == 1 {
            switch choices.on("allreduce.single") {
            case "pass-through": r = sent[0]
            case "encoded-once":
                reduced = encoded
                r = codec.decode(encoded, count: n)
            default: break
            }
        }
        var result = CaseResult()
        result.output("r", r, [n])
        result.output("encoded", Tensor(encoded, shape: [ranks, blocks, 6]))
        result.output("reduced", Tensor(reduced, shape: [blocks, 6]))
        if hasFeedback { result.output("residual", residual, [ranks, n]) }
        return result
    }

    // MARK: What may deviate

    private static func alternatives(
        _ axis: String, _ clauses: [String], _ all: KeyValuePairs<String, String>
    ) -> [Deviation] {
        all.map { Deviation("allreduce.\(axis).\($0.key)", $0.value, clauses) }
    }

    private static let allReduceOwn: [Deviation] =
        alternatives(
            "mean", ["S8", "T5"],
            [
                "divided": "divides the sum by W instead of multiplying by RNE32(1/W)",
                "missing": "gives the sum over the ranks, not the mean",
                "before-sum": "multiplies each contribution by 1/W before it is added",
                "before-sum-divided": "divides each contribution by W before it is added",
                "running": "keeps a running mean",
            ])
        + SumVariant.deviations(
            "allreduce.sum", ["S8", "T5"],
            orders: ["descending", "pairwise", "odd-first", "lanes-2", "lanes-4", "blocks-4"],
            accumulations: ["bf16", "fp64", "truncating"], zero: false)
        + alternatives(
            "single", ["S8"],
            [
                "pass-through": "passes the gradient of a single rank through",
                "encoded-once": "encodes the gradient of a single rank once, not twice",
            ])
        + alternatives(
            "second-leg", ["S8"], ["uncompressed": "gives the mean before it is encoded as the result"])
        + alternatives(
            "contribution", ["S8", "T5"],
            [
                "own-uncompressed": "adds the owner's contribution as it was before encoding",
                "own-missing": "leaves the owner's own contribution out",
                "own-first": "adds the owner's contribution first",
                "ring": "adds the contributions around a ring, the owner's last",
                "unrounded": "adds all contributions as they were before encoding or rounding",
                "truncated": "cuts contributions to bf16 instead of rounding them",
            ])
        + alternatives("result", ["T5"], ["truncated": "cuts the mean to bf16 instead of rounding it"])
        + alternatives("sum-rounding", ["T5"], ["bf16": "rounds the sum to bf16 before the mean is taken"])
        + alternatives("start", ["S8", "T5"], ["first-rank": "starts from the first rank's value instead of +0"])
        + alternatives(
            "ranks", ["S8", "T5"],
            ["last-missing": "leaves the last rank out", "first-missing": "leaves the first rank out"])
        + alternatives(
            "random-reduced", ["S8"],
            [
                "ignored": "rounds the mean's codes down, whatever the random words",
                "zeros": "rounds the mean's codes with zeros as random words",
                "first-of-contributions": "rounds the mean's codes with the first rank's words",
                "last-of-contributions": "rounds the mean's codes with the last rank's words",
            ])
        + alternatives("random", ["S8"], ["first-rank": "uses the first rank's random words for every rank"])
        + alternatives("padding", ["S8"], ["kept": "encodes the decoded padding of the tail instead of +0"])

    /// Of Squinch's own deviations those that gradients show: not those of zero blocks, of ties and of boundaries between codes.
    private static let allReduceSquinch: [Deviation] = (squinchEncoding + squinchDecoding + squinchFeedback).filter {
        deviation in
        ![
            "squinch.code.fp32", "squinch.rounding.strict", "squinch.random.upper-16-bits", "squinch.zero-",
            "squinch.sign.of-negative-zero-dropped",
        ].contains { deviation.name.hasPrefix($0) }
    }
}
