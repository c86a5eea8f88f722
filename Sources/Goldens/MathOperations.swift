import Cases
import ExactMath
import Platform

// The operations `math.*`: clause E1. [n] in, [n] out.

let mathOperations: [Operation] = MathFunction.allCases.map { function in
    Operation("math.\(function.rawValue)") { given in
        let x = given.floats("x")
        var result = CaseResult()
        result.output("y", Workers.map(x.count) { function.evaluate(x[$0]) }, [x.count])
        let truth = Workers.map(x.count) { function.truth(x[$0]) }
        result.truth("y", truth, bounds: truth.map(\.magnitude), [x.count])
        return result
    }
}
