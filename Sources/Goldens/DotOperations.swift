import BFloat16
import GoldenIO
import ModelSpec
import Reference

// The operations `dot.gemm` and `sum.*`: clauses D and R, with truth and bounds (Q1, Q2).

let dotOperations: [Operation] =
    [
        Operation(
            "dot.gemm", .dot, "matrix product by a named recipe", clauses: ["D1", "D2", "D3", "F3", "Q1", "Q2", "Q3"]
        ) { reader in
            let recipe = try reader.choice("dot", DotRecipe.self)
            let a = try reader.bf16("a", "M", "K").map(BFloat16.init(bitPattern:))
            let b = try reader.bf16("b", "K", "N").map(BFloat16.init(bitPattern:))
            let c = reader.hasInput("c") ? try reader.floats("c", "M", "N") : nil
            try reader.boundConstants()
            try reader.finish()
            let (m, k, n) = (reader.size("M"), reader.size("K"), reader.size("N"))
            let shape = MatrixMultiply.Shape(m: m, k: k, n: n)
            var result = CaseResult()
            result.output("d", MatrixMultiply.forward(a: a, b: b, c: c, shape: shape, recipe: recipe), [m, n])
            let (truth, bounds) = MatrixMultiply.truthAndBounds(a: a, b: b, c: c, shape: shape)
            result.truth("d", truth, bounds: bounds, [m, n])
            return result
        }
    ] + Reductions.Order.allCases.map(sumOperation)

private func sumOperation(_ order: Reductions.Order) -> Operation {
    let (summary, clauses) =
        switch order {
        case .lane16: ("sixteen lanes, then halves", ["R1"])
        case .lane16x4096: ("lane16 of blocks of 4096, then of their results", ["R2", "R1"])
        case .chain: ("one accumulator, ascending", ["R3"])
        }
    return Operation(
        "sum.\(order.rawValue)", .dot, "sum of rows, or of products: \(summary)",
        clauses: clauses + ["R5", "F3", "Q1", "Q2", "Q3"]
    ) { reader in
        let x = try reader.floats("x", "m", "n")
        let y = reader.hasInput("y") ? try reader.floats("y", "m", "n") : nil
        try reader.boundConstants()
        try reader.finish()
        let (m, n) = (reader.size("m"), reader.size("n"))
        var sums: [Float] = []
        var truth: [Double] = []
        var bounds: [Double] = []
        for row in 0..<m {
            let range = row * n..<(row + 1) * n
            let xs = Array(x[range])
            if let y {
                let ys = Array(y[range])
                sums.append(Reductions.sumOfProducts(xs, ys, order: order))
                let beside = Reductions.truthAndBounds(xs, ys)
                truth.append(beside.truth)
                bounds.append(beside.bounds)
            } else {
                sums.append(Reductions.sum(xs, order: order))
                let beside = Reductions.truthAndBounds(xs)
                truth.append(beside.truth)
                bounds.append(beside.bounds)
            }
        }
        var result = CaseResult()
        result.output("s", sums, [m])
        result.truth("s", truth, bounds: bounds, [m])
        return result
    }
}
