import BFloat16
import GoldenIO
import ModelSpec
import Reference

// The operations `squinch.*`: clauses S1-S7.

let squinchOperations: [Operation] = [
    Operation(
        "squinch.encode", .squinch, "eight gradients in 48 bits", clauses: ["S1", "S2", "S3", "S4", "S5", "S6"]
    ) { reader in
        let variant = try reader.choice("variant", SquinchVariant.self)
        let nonfinite = try reader.choice("nonfinite", NonfinitePolicy.self)
        let x: [Float]
        if reader.inputType("x") == .bf16 {
            x = try reader.bf16("x", "n").map { Float(bitPattern: UInt32($0) << 16) }
        } else {
            x = try reader.floats("x", "n")
        }
        let random = variant == .stochastic15 ? try reader.integers("random", UInt32.self, "n") : []
        try reader.finish()
        let bytes = try Squinch.encode(x, variant: variant, nonfinite: nonfinite, random: random)
        var result = CaseResult()
        result.output("blocks", Tensor(bytes, shape: [bytes.count / 6, 6]))
        return result
    },
    Operation("squinch.decode", .squinch, "48 bits to eight values", clauses: ["S3", "S4", "S5"]) { reader in
        let variant = try reader.choice("variant", SquinchVariant.self)
        let count = try reader.integer("count", in: 0...(1 << 40))
        let blocks = try reader.integers("blocks", UInt8.self, "nb", "6")
        try reader.finish()
        let x = try Squinch.decode(blocks, variant: variant, count: count)
        var result = CaseResult()
        result.output("x", x, [count])
        return result
    },
    Operation(
        "squinch.feedback", .squinch, "encode x + e, keep what the code lost",
        clauses: ["S7", "S1", "S2", "S3", "S4", "S5"]
    ) { reader in
        let variant = try reader.choice("variant", SquinchVariant.self)
        let x = try reader.floats("x", "n")
        let e = try reader.floats("e", "n")
        let random = variant == .stochastic15 ? try reader.integers("random", UInt32.self, "n") : []
        try reader.finish()
        let feedback = try Squinch.feedback(x, e, variant: variant, random: random)
        var result = CaseResult()
        result.output("blocks", Tensor(feedback.blocks, shape: [feedback.blocks.count / 6, 6]))
        result.output("decoded", feedback.decoded, [x.count])
        result.output("residual", feedback.residual, [x.count])
        return result
    },
]
