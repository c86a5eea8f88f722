import BFloat16
import Cases
import ModelSpec
import Reference

// The operations `allreduce.*`: clauses S8 and T5.

let allReduceOperations: [Operation] = [
    Operation("allreduce.squinch") { given in
        let variant = given.choice("variant", SquinchVariant.self)
        let nonfinite = given.choice("nonfinite", NonfinitePolicy.self)
        let feedback = given.flag("feedback")
        let g = given.floats("g")
        let e = feedback ? given.floats("e") : nil
        let (ranks, n) = (given.size("W"), given.size("n"))
        let answer = try AllReduce.squinch(
            g, ranks: ranks, variant: variant, nonfinite: nonfinite, residual: e, random: given.integers("random"),
            randomReduced: given.integers("random_reduced"))
        let blocks = Squinch.blockCount(n)
        var result = CaseResult()
        result.output("r", answer.reduced, [n])
        result.output("encoded", Tensor(answer.encoded, shape: [ranks, blocks, 6]))
        result.output("reduced", Tensor(answer.reducedBlocks, shape: [blocks, 6]))
        if feedback { result.output("residual", answer.residual, [ranks, n]) }
        return result
    },
    Operation("allreduce.bf16") { given in
        let g = given.floats("g")
        var result = CaseResult()
        result.output(
            "r", bf16: AllReduce.bf16(g, ranks: given.size("W")).map(\.bitPattern), [given.size("n")])
        return result
    },
    Operation("allreduce.fp32") { given in
        let g = given.floats("g")
        var result = CaseResult()
        result.output("r", AllReduce.fp32(g, ranks: given.size("W")), [given.size("n")])
        return result
    },
]
