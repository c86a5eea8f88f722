import ExactMath
import GoldenIO
import Platform

// The operations `math.*`: clause E1. [n] in, [n] out.

let mathOperations: [Operation] = MathFunction.allCases.map { function in
    Operation(
        "math.\(function.rawValue)", .math, "\(function.rawValue)(x), correctly rounded to fp32",
        clauses: ["E1", "Q1", "Q2"]
    ) { reader in
        let x = try reader.floats("x", "n")
        try reader.boundConstants()
        try reader.finish()
        var result = CaseResult()
        result.output("y", Workers.map(x.count) { function.evaluate(x[$0]) }, [x.count])
        let truth = Workers.map(x.count) { function.truth(x[$0]) }
        result.truth("y", truth, bounds: truth.map(\.magnitude), [x.count])
        return result
    }
}
