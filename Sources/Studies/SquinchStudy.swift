import Engine
import ExactMath
import ModelSpec
import Pages
import Platform
import Reference

extension Study {
    /// What six-bit gradients cost in loss, and what the codec does to a run's own gradients.
    static let squinch = Study(
        name: "squinch", summary: "Loss with fp32, bf16 and six-bit gradients; error and bias of the codec.",
        steps: 300, seeds: 5, run: squinchStudy)

    private static let ranks = 4

    private static func squinchStudy(_ lab: inout Laboratory) throws -> StudyResult {
        let methods:
            [(
                name: String, bits: Double, compression: Compression, variant: SquinchVariant, feedback: Bool,
                naive: NaiveCodec?
            )] =
                [
                    ("fp32", 32, .none, .floor16, false, nil), ("bf16", 16, .bf16, .floor16, false, nil),
                    ("floor16", 6, .squinch, .floor16, false, nil), ("floor16 + EF", 6, .squinch, .floor16, true, nil),
                    ("round15", 6, .squinch, .round15, false, nil), ("round15 + EF", 6, .squinch, .round15, true, nil),
                    ("stochastic15", 6, .squinch, .stochastic15, false, nil),
                    ("stochastic15 + EF", 6, .squinch, .stochastic15, true, nil),
                    ("int8 naive", 8, .none, .floor16, false, .integer(127)),
                    ("int6 naive", 6, .none, .floor16, false, .integer(31)),
                    ("1-bit sign", 1, .none, .floor16, false, .sign),
                ]
        try lab.plan(methods.count * lab.seeds * lab.steps)
        var results: [Method] = []
        var gradients: [(name: String, values: [Float])] = []
        for method in methods {
            var result = Method(name: method.name)
            for run in 0..<lab.seeds {
                var c = lab.configuration
                c.seed = lab.seed(run)
                (c.ranks, c.compression, c.squinchVariant) = (ranks, method.compression, method.variant)
                c.errorFeedback = method.feedback
                // The first run's own gradients, half way through.
                let keeps = method.name == "bf16" && run == 0
                let middle = max(1, lab.steps / 2)
                result.runs.append(
                    try lab.train(
                        c, "\(method.name), seed \(run + 1) of \(lab.seeds)",
                        changing: method.naive.map { codec in { _, gradient in codec.apply(gradient) } },
                        probe: !keeps
                            ? nil
                            : { step in
                                step != middle
                                    ? nil
                                    : { name, tensor in
                                        guard name.hasPrefix("rank.0.gradient.") else { return }
                                        gradients.append(
                                            (String(name.dropFirst(16)), Array(tensor.bytes.bindMemory(to: Float.self)))
                                        )
                                    }
                            }))
            }
            results.append(result)
        }
        let codec = try codecRows(gradients, seed: lab.options.seed)

        let bf16 = results[1]
        let best = results[2...7].min { $0.heldOut.mean < $1.heldOut.mean } ?? results[2]
        let plain = results[2].difference(from: bf16)
        let finding =
            "Six-bit floor16 gradients end \(plain.text(4, signed: true)) in held-out loss from bf16 (95 % interval over \(counted(lab.seeds, "seed")), paired) with \(fixed(6.0 / 16, 3)) of the bytes a leg\(plain.isSignificant ? "" : ", which is no difference that this study can tell from chance"); the best six-bit variant here is \(best.name), \(best.difference(from: bf16).text(4, signed: true)), and the naive int6, at as many bits, ends \(results[9].difference(from: bf16).text(4, signed: true))."
        var result = StudyResult(
            "Squinch: six-bit gradients", finding: finding,
            method: [
                "Two-layer models of width \(lab.options.width) on bytes, \(counted(lab.steps, "step")) of 8 sequences of \(lab.configuration.sequenceLength) tokens, \(counted(ranks, "rank")) in one process. Every method of a seed begins with the same weights and reads the same texts in the same order; differences are taken seed by seed against bf16.",
                "bf16 and the Squinch variants pass both legs of the all-reduce (clause S8). The naive codecs are applied once to the combined fp32 gradient, with one scale a tensor, which is in their favour: int8 and int6 round x / max|x| to 127 and 31 steps, the sign keeps sign(x) times the mean of |x|. EF: error feedback (S7).",
                "The codec's errors are those of one encode and decode of the gradients of rank 0 at step \(max(1, lab.steps / 2)) of the first bf16 run. Biases are over elements that are not 0; d is what x decodes to.",
            ],
            csv: [["method", "bits a leg", "seed", "final training loss", "held-out loss"]])
        for (method, one) in zip(methods, results) {
            for (run, outcome) in one.runs.enumerated() {
                result.csv.append([
                    method.name, Number.text(method.bits), "\(lab.seed(run))", fixed(outcome.mean(last: 20), 6),
                    fixed(outcome.heldOut, 6),
                ])
            }
        }
        var table = [["gradients", "bits a leg", "of bf16's bytes", "held-out loss", "spread of seeds", "minus bf16"]]
        for (method, one) in zip(methods, results) {
            table.append([
                method.name, Number.text(method.bits), Number.text(method.bits / 16), fixed(one.heldOut.mean, 4),
                fixed(one.heldOut.standardDeviation, 4),
                method.name == "bf16" ? "" : one.difference(from: bf16).text(4, signed: true),
            ])
        }
        let differences = Chart.intervals(
            "Held-out loss minus bf16's", axis: "difference, 95 % intervals",
            results.filter { $0.name != "bf16" }.map { one in
                let difference = one.difference(from: bf16)
                return (one.name, difference.mean, difference.halfWidth)
            })
        result.sections = [
            StudyResult.Section(
                "What it costs", text: "Lower is better. The interval is of the mean over seeds.",
                charts: [
                    (
                        Chart("Training loss, mean over seeds", x: "step", y: "loss", results.prefix(8).map(\.curve)),
                        "fp32, bf16 and the six-bit variants: where lines lie on each other there is no difference to see."
                    ),
                    (
                        Chart(
                            "Training loss of the baselines", x: "step", y: "loss",
                            [results[1], results[2], results[8], results[9], results[10]].map(\.curve)),
                        "Codecs with one scale a tensor beside bf16 and floor16."
                    ),
                ], table: table),
            StudyResult.Section(
                "What the codec does to real gradients",
                text:
                    "Two biases: the mean of (|d| - |x|) / |x| gives every element one voice, the small ones of a block too, which have no code of their own; the other is that of the sum of magnitudes, in which large elements count.",
                charts: [(codec.chart, "Each dot is a parameter of the model.")], table: codec.table),
            StudyResult.Section(
                "Scales that clip (S9)",
                text: "Blocks of eight over all steps of the first run, all contributions of all ranks.",
                table: [["variant", "blocks", "all zero", "below the least scale", "above the greatest"]]
                    + [2, 4, 6].map { index in
                        let counts = results[index].runs[0].contributions
                        return [
                            results[index].name, "\(counts.blocks)", "\(counts.zeroBlocks)", "\(counts.clippedBelow)",
                            "\(counts.clippedAbove)",
                        ]
                    }),
        ]
        result.sections[0].charts.append(
            (differences, "An interval that crosses the line: no difference that these seeds can show."))
        return result
    }

    /// One encode and decode of gradients by every variant.
    private static func codecRows(_ gradients: [(name: String, values: [Float])], seed: UInt64) throws -> (
        chart: Chart, table: [[String]]
    ) {
        var series: [Chart.Series] = []
        var table = [
            ["variant", "elements", "relative RMS error", "mean relative bias", "bias of the sum", "decoded as zero"]
        ]
        for variant in SquinchVariant.allCases {
            var points: [Chart.Point] = []
            var (squares, power, bias, nonzero, zeros, elements) = (0.0, 0.0, 0.0, 0, 0, 0)
            var (magnitudes, excess) = (0.0, 0.0)
            for (index, gradient) in gradients.enumerated() {
                let random = RandomStream(seed: seed, stream: RandomStreams.rounding, step: UInt32(index))
                let words =
                    variant == .stochastic15 ? gradient.values.indices.map { random.word(UInt64($0)) } : []
                let bytes = try Squinch.encode(gradient.values, variant: variant, random: words)
                let decoded = try Squinch.decode(bytes, variant: variant, count: gradient.values.count)
                var (ownBias, ownCount) = (0.0, 0)
                for (x, d) in zip(gradient.values, decoded) where x != 0 {
                    let (x, d) = (Double(x), Double(d))
                    squares += (d - x) * (d - x)
                    power += x * x
                    magnitudes += abs(x)
                    excess += abs(d) - abs(x)
                    ownBias += (abs(d) - abs(x)) / abs(x)
                    ownCount += 1
                    if d == 0 { zeros += 1 }
                }
                elements += gradient.values.count
                bias += ownBias
                nonzero += ownCount
                if ownCount > 0 { points.append(Chart.Point(Double(index + 1), ownBias / Double(ownCount))) }
            }
            series.append(Chart.Series(variant.rawValue, points, isJoined: false))
            table.append([
                variant.rawValue, "\(elements)", Number.text((squares / max(power, 1e-300)).squareRoot()),
                Number.text(bias / Double(max(1, nonzero))), Number.text(excess / max(magnitudes, 1e-300)),
                "\(Number.text(100 * Double(zeros) / Double(max(1, nonzero)))) %",
            ])
        }
        var chart = Chart(
            "Relative bias of magnitudes", x: "parameter, in the model's order", y: "mean (|d| - |x|) / |x|", series)
        chart.references = [(0, "no bias")]
        return (chart, table)
    }
}

/// Codecs that people try first.
private enum NaiveCodec {
    /// round(x / max|x| * steps), one scale a tensor.
    case integer(Float)
    /// sign(x) times the mean of |x|.
    case sign

    func apply(_ x: UnsafeMutableBufferPointer<Float>) {
        switch self {
        case .integer(let steps):
            let largest = x.reduce(0) { max($0, abs($1)) }
            guard largest > 0, largest.isFinite else { return }
            let scale = steps / largest
            for i in x.indices { x[i] = (x[i] * scale).rounded(.toNearestOrEven) / scale }
        case .sign:
            let mean = Float(x.reduce(0.0) { $0 + Double(abs($1)) } / Double(max(1, x.count)))
            for i in x.indices { x[i] = x[i] > 0 ? mean : x[i] < 0 ? -mean : 0 }
        }
    }
}
