import Engine
import ModelSpec
import Pages
import Platform

extension Study {
    /// What a clamp that follows the weights does where a fixed one fails.
    static let clamp = Study(
        name: "clamp", summary: "Dynamic against static clamping before int8, over scales of the weights.",
        steps: 300, seeds: 3, run: clampStudy)

    private static func clampStudy(_ lab: inout Laboratory) throws -> StudyResult {
        let scales: [Float] = [0x1p-6, 0x1p-4, 0x1p-2, 1, 4, 16]
        let kinds: [(name: String, clamp: ClampKind, limit: Float, int8: Bool)] = [
            ("no clamp, no int8", .none, 16, false), ("dynamic, int8", .dynamic, 16, true),
            ("static 16, int8", .static, 16, true), ("static 1, int8", .static, 1, true),
            ("static 256, int8", .static, 256, true),
        ]
        try lab.plan(kinds.count * lab.seeds * lab.steps + kinds.count { $0.int8 } * scales.count)
        // One trained model for the scales.
        var methods: [Method] = []
        for kind in kinds {
            var method = Method(name: kind.name)
            for run in 0..<lab.seeds {
                var c = lab.configuration
                c.seed = lab.seed(run)
                (c.clamp, c.clampLimit, c.int8) = (kind.clamp, kind.limit, kind.int8)
                method.runs.append(try lab.train(c, "\(kind.name), seed \(run + 1) of \(lab.seeds)"))
            }
            methods.append(method)
        }
        var zeroRows: [Chart.Series] = []
        var zeroCodes: [Chart.Series] = []
        var csv = [["clamp", "scale of the weights", "all-zero int8 rows", "zero codes"]]
        var table = [["clamp"] + scales.map { "x \(Number.text(Double($0)))" }]
        for kind in kinds where kind.int8 {
            var c = methods[0].runs[0].trainer.configuration
            (c.clamp, c.clampLimit, c.int8) = (kind.clamp, kind.limit, true)
            let trainer = Trainer(c, lab.context)
            var rows: [Chart.Point] = []
            var codes: [Chart.Point] = []
            var line = [kind.name]
            for scale in scales {
                var weights: [[Float]] = []
                methods[0].runs[0].trainer.readState { weights.append(Array($0.weight)) }
                var index = 0
                trainer.withState { state in
                    let isUp = state.parameter.name.hasSuffix("mlp.up")
                    for (i, value) in weights[index].enumerated() { state.weight[i] = isUp ? value * scale : value }
                    index += 1
                }
                var (all, allZero, zeros, elements) = (0, 0, 0, 0)
                _ = try lab.heldOutLoss(trainer) { name, tensor in
                    guard name.hasSuffix("mlp.codes") else { return }
                    let values = tensor.bytes.bindMemory(to: Int8.self)
                    let width = tensor.shape[1]
                    for row in 0..<tensor.shape[0] {
                        let count = values[row * width..<(row + 1) * width].count { $0 == 0 }
                        zeros += count
                        if count == width { allZero += 1 }
                        all += 1
                    }
                    elements += values.count
                }
                let (ofRows, ofCodes) = (
                    Double(allZero) / Double(max(1, all)), Double(zeros) / Double(max(1, elements))
                )
                rows.append(Chart.Point(Double(scale), 100 * ofRows))
                codes.append(Chart.Point(Double(scale), 100 * ofCodes))
                csv.append([kind.name, Number.text(Double(scale)), Number.text(ofRows), Number.text(ofCodes)])
                line.append("\(Number.text(100 * ofRows)) %")
                try lab.advance("scales, \(kind.name)")
            }
            zeroRows.append(Chart.Series(kind.name, rows))
            zeroCodes.append(Chart.Series(kind.name, codes))
            table.append(line)
        }
        let dynamic = methods[1].difference(from: methods[0])
        let least = zeroRows.map { $0.points[0].y }
        let finding =
            "With the weights of the up projection scaled by 2^-6, \(Number.text(least[0])) % of the int8 rows are all zero under dynamic clamping and \(Number.text(least[1])) % under a static limit of 16; trained from the beginning, dynamic clamping with int8 ends \(dynamic.text(4, signed: true)) in held-out loss from neither (95 % interval over \(lab.seeds) seeds)\(dynamic.isSignificant ? "" : ", which chance explains")."
        var result = StudyResult(
            "Dynamic clamping before int8", finding: finding,
            method: [
                "Two-layer models of width \(lab.options.width), \(counted(lab.steps, "step")) each, trained with every kind of clamp; all kinds of a seed share weights and texts.",
                "For the scales, the first model trained without clamp gets its up projections multiplied, and the int8 codes of the activation after ReLU^2 are counted over the first held-out sequences, 64 or as many as there are, (C1, C3, C5). The activation grows with the square of the scale; a dynamic limit follows it, a static one does not.",
            ], csv: csv)
        var losses = [["clamp", "held-out loss", "spread of seeds", "minus no clamp"]]
        for (index, method) in methods.enumerated() {
            losses.append([
                method.name, fixed(method.heldOut.mean, 4), fixed(method.heldOut.standardDeviation, 4),
                index == 0 ? "" : method.difference(from: methods[0]).text(4, signed: true),
            ])
            for (run, outcome) in method.runs.enumerated() {
                result.csv.append([method.name, "trained, seed \(lab.seed(run))", "", fixed(outcome.heldOut, 6)])
            }
        }
        result.csv[0] = ["clamp", "scale of the weights, or run", "all-zero int8 rows", "zero codes, or held-out loss"]
        result.sections = [
            StudyResult.Section(
                "Weights of another scale",
                text: "Share of token rows whose int8 codes are all zero: nothing of them is left.",
                charts: [
                    (
                        Chart(
                            "All-zero int8 rows", x: "scale of the up projection", y: "% of rows", xScale: .octaves,
                            zeroRows),
                        "A limit that follows the weights keeps its codes; a fixed one loses small weights altogether."
                    ),
                    (
                        Chart(
                            "Zero codes", x: "scale of the up projection", y: "% of codes", xScale: .octaves, zeroCodes),
                        "ReLU^2 alone makes about half of all codes zero."
                    ),
                ], table: table),
            StudyResult.Section(
                "Trained with it",
                charts: [
                    (
                        Chart("Training loss, mean over seeds", x: "step", y: "loss", methods.map(\.curve)),
                        "Lower is better."
                    )
                ], table: losses),
        ]
        return result
    }
}
