import BFloat16
import Engine
import ExactMath
import Kernels
import ModelSpec
import Pages
import Platform
import Reference
import TrainingData

extension Study {
    /// Where attention's log-sum-exp lies with and without the term, and what that does to bf16.
    static let zreg = Study(
        name: "zreg", summary: "Log-sum-exp of attention with and without z-reg; spacing of bf16, error, loss.",
        steps: 400, seeds: 5, run: zregStudy)

    private static func zregStudy(_ lab: inout Laboratory) throws -> StudyResult {
        let strengths: [(name: String, c: Float)] = [
            ("none", 0), ("2^-14", 0x1p-14), ("2^-10", 0x1p-10), ("2^-6", 0x1p-6),
        ]
        try lab.plan(strengths.count * lab.seeds * (lab.steps + 1))
        var methods: [Method] = []
        var ends: [[AttentionState]] = []
        var courses: [Chart.Series] = []
        for strength in strengths {
            var method = Method(name: strength.name)
            var states: [AttentionState] = []
            for run in 0..<lab.seeds {
                var c = lab.configuration
                c.seed = lab.seed(run)
                (c.zregC, c.outputZRegC) = (strength.c, strength.c)
                var course: [Chart.Point] = []
                let every = max(1, lab.steps / 24)
                let outcome = try lab.train(
                    c, "c = \(strength.name), seed \(run + 1) of \(lab.seeds)",
                    probe: { step in
                        guard run == 0, step % every == 0 || step == 1 else { return nil }
                        var (sum, count) = (0.0, 0)
                        return { name, tensor in
                            guard name.hasSuffix("attention.z") else {
                                if name == "loss", count > 0 {
                                    course.append(Chart.Point(Double(step), (sum / Double(count)).squareRoot()))
                                    count = 0
                                }
                                return
                            }
                            for z in tensor.bytes.bindMemory(to: Float.self) where z.isFinite {
                                sum += Double(z) * Double(z)
                                count += 1
                            }
                        }
                    })
                if run == 0 { courses.append(Chart.Series(strength.name, course)) }
                states.append(try AttentionState(&lab, outcome.trainer))
                try lab.advance("attention against fp64")
                method.runs.append(outcome)
            }
            methods.append(method)
            ends.append(states)
        }
        func estimate(_ index: Int, _ value: (AttentionState) -> Double) -> Estimate {
            Estimate(ends[index].map(value))
        }
        let (off, on) = (estimate(0, \.rootMeanSquare), estimate(1, \.rootMeanSquare))
        let loss = methods[1].difference(from: methods[0])
        let finding =
            "After \(counted(lab.steps, "step")) the root mean square of Z is \(on.text(3)) with c = 2^-14 and \(off.text(3)) without it, and the held-out loss differs by \(loss.text(4, signed: true)) (95 % intervals over \(lab.seeds) seeds)\(loss.isSignificant ? "" : ": at this size the term costs nothing that can be told from chance")."
        var result = StudyResult(
            "Attention z-reg: log-sum-exp near zero", finding: finding,
            method: [
                "Two-layer models of width \(lab.options.width), \(counted(lab.steps, "step")); c is the coefficient of Z2 for attention and of Z4 for the output logits. All strengths of a seed share weights and texts.",
                "Z = max + log(sum) of every query of every head over the first held-out sequences, at the end of training. The spacing is that of bf16 at the largest |Z|, which is what a kernel that stores Z or logits in bf16 loses.",
                "Attention's error: o of the engine (bf16 products of the recipe paired-ftz, P in fp32 rounded to bf16) against the exact o of the same q, k and v by double-double arithmetic, relative to the bound of clause Q2, over one held-out sequence.",
            ],
            csv: [["c", "seed", "held-out loss", "rms Z", "mean Z", "largest |Z|", "relative error of o"]])
        for (index, method) in methods.enumerated() {
            for (run, outcome) in method.runs.enumerated() {
                let state = ends[index][run]
                result.csv.append([
                    method.name, "\(lab.seed(run))", fixed(outcome.heldOut, 6), fixed(state.rootMeanSquare, 6),
                    fixed(state.mean, 6), fixed(state.largest, 6), Number.text(state.error),
                ])
            }
        }
        var table = [
            ["c", "rms Z", "mean Z", "largest |Z|", "bf16 spacing there", "error of o", "held-out loss", "minus none"]
        ]
        for (index, method) in methods.enumerated() {
            let largest = ends[index].map(\.largest).max() ?? 0
            table.append([
                method.name, estimate(index, \.rootMeanSquare).text(3), fixed(estimate(index, \.mean).mean, 3),
                fixed(largest, 2), Number.text(Double(BFloat16(Float(largest)).ulp)),
                Number.text(estimate(index, \.error).mean), fixed(method.heldOut.mean, 4),
                index == 0 ? "" : method.difference(from: methods[0]).text(4, signed: true),
            ])
        }
        let bins = stride(from: -4.0, through: 16, by: 0.5).map { $0 }
        result.sections = [
            StudyResult.Section(
                "Where Z lies",
                charts: [
                    (
                        Chart("Root mean square of Z while training (first seed)", x: "step", y: "rms Z", courses),
                        "With a larger c Z stays nearer to zero."
                    ),
                    (
                        Chart(
                            "Distribution of Z at the end (first seed)", x: "Z", y: "share of queries",
                            ends.enumerated().map { index, states in
                                Chart.Series(methods[index].name, states[0].histogram(bins), isMarked: false)
                            }), "Shares of bins of one half; a query that sees n equal logits of 0 has Z = ln n."
                    ),
                ], table: table),
            StudyResult.Section(
                "Loss",
                charts: [
                    (
                        Chart("Training loss, mean over seeds", x: "step", y: "loss", methods.map(\.curve)),
                        "A c that is too large shows here."
                    )
                ]),
        ]
        return result
    }
}

/// What attention does at the end of a run.
private struct AttentionState {
    var rootMeanSquare = 0.0
    var mean = 0.0
    var largest = 0.0
    var error = 0.0
    private var values: [Float] = []

    init(_ lab: inout Laboratory, _ trainer: Trainer) throws {
        var values: [Float] = []
        var first: [String: (bf16: [BFloat16], shape: [Int])] = [:]
        _ = try lab.heldOutLoss(trainer) { name, tensor in
            if name.hasSuffix("attention.z") {
                values += tensor.bytes.bindMemory(to: Float.self).filter(\.isFinite)
            } else if tensor.kind == .bf16, name.hasPrefix("layers.0.attention"), first[name] == nil {
                first[name] = (tensor.bytes.bindMemory(to: UInt16.self).map(BFloat16.init(bitPattern:)), tensor.shape)
            }
        }
        self.values = values
        let sum = values.reduce(0.0) { $0 + Double($1) }
        let squares = values.reduce(0.0) { $0 + Double($1) * Double($1) }
        let count = Double(max(1, values.count))
        (mean, rootMeanSquare) = (sum / count, (squares / count).squareRoot())
        largest = values.reduce(0) { max($0, Double(abs($1))) }
        error = try Self.error(trainer.configuration, first.mapValues(\.bf16), try lab.corpus(64).heldOut.sequence(0))
    }

    /// The root mean square of (o - exact) / bound over the first sequence and layer 0.
    private static func error(
        _ c: ModelConfiguration, _ tensors: [String: [BFloat16]], _ sequence: TrainingSequence
    ) throws -> Double {
        let (t, d) = (c.sequenceLength, c.headDimension)
        /// [T, H D] as [H, T, D].
        func headsFirst(_ name: String, _ heads: Int) -> [BFloat16] {
            let x = tensors["layers.0.attention.\(name)"] ?? []
            guard x.count >= t * heads * d else { return [] }
            var result: [BFloat16] = []
            result.reserveCapacity(t * heads * d)
            for head in 0..<heads {
                for row in 0..<t { result += x[(row * heads + head) * d..<(row * heads + head + 1) * d] }
            }
            return result
        }
        let visibility = try Visibility(
            orientation: .byKey, batch: 1, queries: t, keys: t, start: sequence.start, limit: sequence.limit,
            window: c.window(layer: 0))
        let exact = ExactAttention(
            query: headsFirst("query.rotated", c.heads), key: headsFirst("key.rotated", c.keyValueHeads),
            value: headsFirst("value.output", c.keyValueHeads),
            shape: Attention.Shape(
                batch: 1, heads: c.heads, keyValueHeads: c.keyValueHeads, queries: t, keys: t, headDimension: d),
            visibility: visibility, scale: ScalarMath.rsqrt(Float(d))
        ).forward().output
        let got = headsFirst("context", c.heads)
        var (sum, count) = (0.0, 0)
        for (index, bound) in exact.bounds.enumerated() where bound > 0 && bound.isFinite {
            let difference = (Double(Float(got[index])) - exact.truth[index]) / bound
            sum += difference * difference
            count += 1
        }
        return (sum / Double(max(1, count))).squareRoot()
    }

    func histogram(_ bins: [Double]) -> [Chart.Point] {
        var counts = [Int](repeating: 0, count: bins.count)
        for z in values {
            let bin = bins.lastIndex { $0 <= Double(z) } ?? 0
            counts[bin] += 1
        }
        return zip(bins, counts).map { Chart.Point($0 + 0.25, Double($1) / Double(max(1, values.count))) }
    }
}
