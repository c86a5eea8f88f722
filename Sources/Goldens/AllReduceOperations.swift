import BFloat16
import GoldenIO
import ModelSpec
import Reference

// The operations `allreduce.*`: clauses S8 and T5.

let allReduceOperations: [Operation] = [
    Operation(
        "allreduce.squinch", .allreduce, "mean over ranks, six bits a gradient on both legs",
        clauses: ["S8", "S1", "S2", "S3", "S4", "S5", "S6", "S7"]
    ) { reader in
        let variant = try reader.choice("variant", SquinchVariant.self)
        let nonfinite = try reader.choice("nonfinite", NonfinitePolicy.self)
        let feedback = try reader.bool("feedback")
        let g = try reader.floats("g", "W", "n")
        let e = feedback ? try reader.floats("e", "W", "n") : nil
        let isStochastic = variant == .stochastic15
        let random = isStochastic ? try reader.integers("random", UInt32.self, "W", "n") : []
        let randomReduced = isStochastic ? try reader.integers("random_reduced", UInt32.self, "n") : []
        try reader.finish()
        let (ranks, n) = (reader.size("W"), reader.size("n"))
        try requireRanks(ranks)
        let answer = try AllReduce.squinch(
            g, ranks: ranks, variant: variant, nonfinite: nonfinite, residual: e, random: random,
            randomReduced: randomReduced)
        let blocks = Squinch.blockCount(n)
        var result = CaseResult()
        result.output("r", answer.reduced, [n])
        result.output("encoded", Tensor(answer.encoded, shape: [ranks, blocks, 6]))
        result.output("reduced", Tensor(answer.reducedBlocks, shape: [blocks, 6]))
        if feedback { result.output("residual", answer.residual, [ranks, n]) }
        return result
    },
    Operation(
        "allreduce.bf16", .allreduce, "mean over ranks of bf16 contributions", clauses: ["T5", "F4", "B5"]
    ) { reader in
        let g = try reader.floats("g", "W", "n")
        try reader.finish()
        try requireRanks(reader.size("W"))
        var result = CaseResult()
        result.output(
            "r", bf16: AllReduce.bf16(g, ranks: reader.size("W")).map(\.bitPattern), [reader.size("n")])
        return result
    },
    Operation("allreduce.fp32", .allreduce, "mean over ranks in fp32", clauses: ["T5", "F3"]) { reader in
        let g = try reader.floats("g", "W", "n")
        try reader.finish()
        try requireRanks(reader.size("W"))
        var result = CaseResult()
        result.output("r", AllReduce.fp32(g, ranks: reader.size("W")), [reader.size("n")])
        return result
    },
]

private func requireRanks(_ ranks: Int) throws(OperationError) {
    guard ranks >= 1 else { throw OperationError(.input, "inputs/g has no ranks: its first size is 0") }
}
