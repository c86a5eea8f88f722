import BFloat16
import Cases
import ModelSpec
import Reference

// The operations `dot.gemm` and `sum.*`: clauses D and R, with truth and bounds (Q1, Q2).

let dotOperations: [Operation] =
    [
        Operation("dot.gemm") { given in
            let recipe = given.choice("dot", DotRecipe.self)
            let a = given.bf16("a").map(BFloat16.init(bitPattern:))
            let b = given.bf16("b").map(BFloat16.init(bitPattern:))
            let c = given.has("c") ? given.floats("c") : nil
            let (m, k, n) = (given.size("M"), given.size("K"), given.size("N"))
            let shape = MatrixMultiply.Shape(m: m, k: k, n: n)
            var result = CaseResult()
            result.output(
                "d", MatrixMultiply.forward(a: a, b: b, c: c, shape: shape, recipe: recipe), [m, n],
                as: given.choice("output", ElementType.self))
            let (truth, bounds) = MatrixMultiply.truthAndBounds(a: a, b: b, c: c, shape: shape)
            result.truth("d", truth, bounds: bounds, [m, n])
            return result
        }
    ] + Reductions.Order.allCases.map(sumOperation)

private func sumOperation(_ order: Reductions.Order) -> Operation {
    Operation("sum.\(order.rawValue)") { given in
        let x = given.floats("x")
        let y = given.has("y") ? given.floats("y") : nil
        let (m, n) = (given.size("m"), given.size("n"))
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
