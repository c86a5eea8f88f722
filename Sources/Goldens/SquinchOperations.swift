import BFloat16
import Cases
import ModelSpec
import Reference

// The operations `squinch.*`: clauses S1-S7.

let squinchOperations: [Operation] = [
    Operation("squinch.encode") { given in
        let variant = given.choice("variant", SquinchVariant.self)
        let nonfinite = given.choice("nonfinite", NonfinitePolicy.self)
        let x: [Float]
        if given.tensor("x").type == .bf16 {
            x = given.bf16("x").map { Float(bitPattern: UInt32($0) << 16) }
        } else {
            x = given.floats("x")
        }
        let random = given.integers("random", UInt32.self)
        let bytes = try Squinch.encode(x, variant: variant, nonfinite: nonfinite, random: random)
        var result = CaseResult()
        result.output("blocks", Tensor(bytes, shape: [bytes.count / 6, 6]))
        return result
    },
    Operation("squinch.decode") { given in
        let variant = given.choice("variant", SquinchVariant.self)
        let count = given.integer("count")
        let blocks = given.integers("blocks", UInt8.self)
        let x = try Squinch.decode(blocks, variant: variant, count: count)
        var result = CaseResult()
        result.output("x", x, [count])
        return result
    },
    Operation("squinch.feedback") { given in
        let variant = given.choice("variant", SquinchVariant.self)
        let x = given.floats("x")
        let e = given.floats("e")
        let random = given.integers("random", UInt32.self)
        let feedback = try Squinch.feedback(x, e, variant: variant, random: random)
        var result = CaseResult()
        result.output("blocks", Tensor(feedback.blocks, shape: [feedback.blocks.count / 6, 6]))
        result.output("decoded", feedback.decoded, [x.count])
        result.output("residual", feedback.residual, [x.count])
        return result
    },
]
