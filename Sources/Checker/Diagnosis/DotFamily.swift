import BFloat16
import Cases
import ExactMath
import Goldens
import ModelSpec

// dot.gemm and sum.*: clauses D and R once more, under choices.

extension SumVariant {
    /// A dot product as a recipe has it.
    init(_ recipe: DotRecipe) {
        switch recipe {
        case .pairedFTZ: self.init(order: .oddFirst, flush: .both)
        case .chainIEEE: self.init(order: .ascending)
        }
    }
}

extension DeviationCatalog {
    static let dotFamily = VariantFamily(
        name: "dot", operations: ["dot.gemm"],
        deviations: SumVariant.deviations(
            "dot", ["D1", "D2"], flushes: ["none", "inputs", "outputs", "all", "before-rounding"],
            accumulations: ["unfused", "truncating", "bf16", "fp16", "fp64", "exact"], products: true)
            + [
                Deviation("dot.c.ignored", "leaves C out", ["D1", "D2"]),
                Deviation("dot.c.added-last", "adds C at the end instead of starting from it", ["D1", "D2"]),
                Deviation("dot.terms.last-missing", "leaves out the last term", ["D1", "D2"]),
                Deviation("dot.terms.first-missing", "leaves out the first term", ["D1", "D2"]),
                Deviation("dot.terms.odd-last-missing", "leaves out the last term where K is odd", ["D1"]),
                Deviation("dot.terms.remainder-16-missing", "leaves out what does not fill 16 terms", ["D1", "D2"]),
                Deviation("dot.terms.absolute", "multiplies magnitudes", ["D1", "D2"]),
                Deviation("dot.b.transposed", "reads B as [N, K]", []),
            ] + TileDeviations.terms("dot.depth", "terms", ["D1", "D2"]) + TileDeviations.outputs
    ) { given, choices in
        let recipe = given.choice("dot", DotRecipe.self)
        let a = given.bf16("a").map(Float.init(bf16:))
        let b = given.bf16("b").map(Float.init(bf16:))
        let c = given.has("c") ? given.floats("c") : nil
        let (m, k, n) = (given.size("M"), given.size("K"), given.size("N"))
        let sum = SumVariant(recipe).under(choices, "dot")
        let terms: Range<Int> =
            switch choices.on("dot.terms") {
            case "last-missing": 0..<max(0, k - 1)
            case "first-missing": min(1, k)..<k
            case "odd-last-missing": 0..<k - k % 2
            case "remainder-16-missing": 0..<k - k % 16
            default: 0..<k
            }
        let lost = TileDeviations.lost(k, choices.on("dot.depth"))
        let isTransposed = choices.has("dot.b.transposed")
        let isAbsolute = choices.has("dot.terms.absolute")
        let lastC = choices.has("dot.c.added-last")
        var d = [Float](repeating: 0, count: m * n)
        for i in 0..<m {
            for j in 0..<n {
                let row = terms.map { l -> SumVariant.Term? in
                    if lost.contains(l) { return nil }
                    let (x, y) = (a[i * k + l], isTransposed ? b[j * k + l] : b[l * n + j])
                    return isAbsolute ? (x.magnitude, y.magnitude) : (x, y)
                }
                let start = choices.has("dot.c.ignored") ? 0 : c?[i * n + j] ?? 0
                d[i * n + j] = lastC ? sum.sum([row]) + start : sum.sum([row], initial: start)
            }
        }
        var result = CaseResult()
        result.output("d", d, [m, n], as: given.choice("output", ElementType.self))
        return result
    }

    static let sumFamily = VariantFamily(
        name: "sum", operations: ["sum.lane16", "sum.lane16x4096", "sum.chain"],
        deviations: SumVariant.deviations(
            "sum", ["R1", "R2", "R3"], flushes: ["inputs", "outputs", "all"], zero: false)
            + [
                Deviation("sum.terms.last-missing", "leaves out the last term", ["R1", "R2", "R3"]),
                Deviation("sum.terms.remainder-16-missing", "leaves out what does not fill 16 lanes", ["R1"]),
                Deviation("sum.terms.absolute", "adds magnitudes", ["R1"]),
                Deviation("sum.terms.squared", "squares x where a product is asked for", ["R1"]),
                Deviation("sum.y.ignored", "leaves y out", ["R1"]),
            ] + TileDeviations.terms("sum.depth", "terms", ["R1", "R2", "R3"])
            + TileDeviations.outputs.filter { $0.axis == "tile.columns" }
    ) { given, choices in
        let x = given.floats("x")
        let y = given.has("y") ? given.floats("y") : nil
        let (m, n) = (given.size("m"), given.size("n"))
        let order: SumVariant.Order =
            switch given.op {
            case "sum.lane16": .lanes(16)
            case "sum.lane16x4096": .lanesOfBlocks(16, 4096)
            default: .ascending
            }
        let sum = SumVariant(order: order).under(choices, "sum")
        let count =
            switch choices.on("sum.terms") {
            case "last-missing": max(0, n - 1)
            case "remainder-16-missing": n - n % 16
            default: n
            }
        let lost = TileDeviations.lost(n, choices.on("sum.depth"))
        var sums: [Float] = []
        for row in 0..<m {
            sums.append(
                sum.sum([
                    (0..<count).map { i -> SumVariant.Term? in
                        if lost.contains(i) { return nil }
                        let place = row * n + i
                        var term = (x: x[place], y: choices.has("sum.y.ignored") ? 1 : y?[place] ?? 1)
                        if choices.has("sum.terms.squared"), y != nil { term.y = term.x }
                        return choices.has("sum.terms.absolute") ? (term.x.magnitude, term.y.magnitude) : term
                    }
                ]))
        }
        var result = CaseResult()
        result.output("s", sums, [m])
        return result
    }
}

extension Float {
    /// Exactly (F1).
    init(bf16 bits: UInt16) { self.init(bitPattern: UInt32(bits) << 16) }
}
