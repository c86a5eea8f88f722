import BFloat16
import ExactMath
import ModelSpec
import Pages
import Platform
import Reference

extension Study {
    /// How far sums of products are from exact, by the way they are added.
    static let precision = Study(
        name: "precision", summary: "Recipes of accumulation against the exact sum, by length.",
        steps: 200, seeds: 1, run: precisionStudy)

    /// A way to add products of bf16 numbers.
    private struct Accumulation: Sendable {
        let name: String
        let sum: @Sendable ([BFloat16], [BFloat16]) -> Float
    }

    private static let accumulations: [Accumulation] = [
        Accumulation(name: "paired-ftz (D1)") { DotProduct.dot($0, $1, recipe: .pairedFTZ) },
        Accumulation(name: "chain-ieee (D2)") { DotProduct.dot($0, $1, recipe: .chainIEEE) },
        Accumulation(name: "split-K by 128") { a, b in
            stride(from: 0, to: a.count, by: 128).reduce(Float(0)) { sum, first in
                let part = first..<min(first + 128, a.count)
                return sum + DotProduct.dot(Array(a[part]), Array(b[part]), recipe: .chainIEEE)
            }
        },
        Accumulation(name: "pairwise") { a, b in
            func sum(_ range: Range<Int>) -> Float {
                guard range.count > 1 else {
                    return range.isEmpty ? 0 : Float(a[range.lowerBound]) * Float(b[range.lowerBound])
                }
                let middle = range.lowerBound + range.count / 2
                return sum(range.lowerBound..<middle) + sum(middle..<range.upperBound)
            }
            return sum(0..<a.count)
        },
        Accumulation(name: "bf16 accumulator") { a, b in
            Float(
                zip(a, b).reduce(BFloat16(0)) { sum, pair in
                    BFloat16(Float(sum) + Float(pair.0) * Float(pair.1))
                })
        },
        Accumulation(name: "products rounded to bf16") { a, b in
            zip(a, b).reduce(Float(0)) { $0 + Float(BFloat16(Float($1.0) * Float($1.1))) }
        },
    ]

    private static func precisionStudy(_ lab: inout Laboratory) throws -> StudyResult {
        let lengths = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
        let kinds = ["terms of both signs", "terms of one sign"]
        try lab.plan(kinds.count * lengths.count)
        var series = [[Chart.Series]]()
        var bias = [[Chart.Series]]()
        var csv = [["terms", "K", "accumulation", "rms error / sum of |a b|", "mean error / sum of |a b|"]]
        for (kind, name) in kinds.enumerated() {
            var points = [[Chart.Point]](repeating: [], count: accumulations.count)
            var means = points
            for (place, length) in lengths.enumerated() {
                var squares = [Double](repeating: 0, count: accumulations.count)
                var sums = squares
                for trial in 0..<lab.steps {
                    try lab.pause("\(name), K = \(length)")
                    let random = RandomStream(
                        seed: lab.options.seed, stream: RandomStreams.initialization,
                        step: UInt32(truncatingIfNeeded: (kind * lengths.count + place) << 20 + trial))
                    func draw(_ offset: Int) -> [BFloat16] {
                        (0..<length).map { i in
                            let at = UInt64(2 * (offset * length + i))
                            let x = RandomDistributions.normal(random.word(at), random.word(at + 1)).0
                            return BFloat16(kind == 1 ? abs(x) : x)
                        }
                    }
                    let (a, b) = (draw(0), draw(1))
                    var (exact, scale) = (ExactSum(), ExactSum())
                    for (x, y) in zip(a, b) {
                        exact.addProduct(Float(x), Float(y))
                        scale.addProductOfMagnitudes(Float(x), Float(y))
                    }
                    let (truth, size) = (exact.roundedToDouble(), scale.roundedToDouble())
                    for (index, way) in accumulations.enumerated() {
                        let error = (Double(way.sum(a, b)) - truth) / size
                        squares[index] += error * error
                        sums[index] += error
                    }
                }
                for (index, way) in accumulations.enumerated() {
                    let rms = (squares[index] / Double(lab.steps)).squareRoot()
                    let mean = sums[index] / Double(lab.steps)
                    points[index].append(Chart.Point(Double(length), rms))
                    means[index].append(Chart.Point(Double(length), mean))
                    csv.append([name, "\(length)", way.name, Number.text(rms), Number.text(mean)])
                }
                try lab.advance("\(name), K = \(length)")
            }
            series.append(zip(accumulations, points).map { Chart.Series($0.name, $1) })
            bias.append(zip(accumulations, means).map { Chart.Series($0.name, $1) })
        }
        let last = lengths.count - 1
        let (paired, narrow) = (series[1][0].points[last].y, series[1][4].points[last].y)
        let finding =
            "Over \(lengths[last]) terms of one sign the recipe paired-ftz errs by \(Number.text(paired)) of the sum of magnitudes (root mean square of \(counted(lab.steps, "draw"))) and pairwise addition by \(Number.text(series[1][3].points[last].y)); a bf16 accumulator errs by \(Number.text(narrow)): it stops growing."
        var result = StudyResult(
            "Recipes of accumulation against the exact sum", finding: finding,
            method: [
                "a and b are normal numbers rounded to bf16 (clause G4), |x| of them for terms of one sign; \(counted(lab.steps, "draw")) for each length. The exact sum is a fixed-point sum of 640 bits, rounded once (Q1); errors are divided by the sum of |a b|, as Q2 does.",
                "chain-ieee: one fused multiply-add a term. paired-ftz: what VDPBF16PS computes. split-K: chains of 128 terms, added in fp32. pairwise: products rounded to fp32, halves added recursively. The last two round to bf16, the sum after every term or each product, and are what `validate` calls outside.",
            ], csv: csv)
        for (kind, name) in kinds.enumerated() {
            var biasChart = Chart(
                "Mean error, \(name)", x: "K", y: "mean error / sum of |a b|", xScale: .octaves,
                bias[kind].enumerated().filter { $0.offset < 4 }.map(\.element))
            biasChart.references = [(0, "no bias")]
            result.sections.append(
                StudyResult.Section(
                    name.prefix(1).uppercased() + name.dropFirst(),
                    charts: [
                        (
                            Chart(
                                "Root mean square error, \(name)", x: "K", y: "rms error / sum of |a b|",
                                xScale: .octaves,
                                yScale: .decades, series[kind]), "Lower is better; both axes are logarithmic."
                        ), (biasChart, "Without the two that round to bf16, whose errors would hide the others."),
                    ],
                    table: [["accumulation"] + [64, 512, 4096].map { "K = \($0)" }]
                        + series[kind].map { one in
                            [one.name]
                                + [64, 512, 4096].map { k in
                                    Number.text(one.points.first { $0.x == Double(k) }?.y ?? .nan)
                                }
                        }))
        }
        return result
    }
}
