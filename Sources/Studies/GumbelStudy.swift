import Engine
import Kernels
import ModelSpec
import Pages
import Platform
import TrainingData

extension Study {
    /// What sparse soft targets are worth, sampled without bias or cut off.
    static let gumbel = Study(
        name: "gumbel",
        summary: "Offline distillation from k sampled targets a token, against top-k and the text itself.",
        steps: 300, seeds: 3, run: gumbelStudy)

    private static func gumbelStudy(_ lab: inout Laboratory) throws -> StudyResult {
        let counts = [1, 2, 4, 8, 16]
        var plans: [(name: String, method: TargetMethod?, k: Int)] = [("text", nil, 0)]
        for method in [TargetMethod.gumbel, .topK] { plans += counts.map { ("\(method.rawValue) \($0)", method, $0) } }
        plans += [("with-replacement 4", .withReplacement, 4), ("full distribution", .topK, 256)]
        try lab.plan(3 * lab.steps + plans.count * lab.seeds * lab.steps + counts.count)

        // A teacher that has seen three times as much.
        var teaching = lab.configuration
        (teaching.seed, teaching.totalSteps) = (lab.seed(1000), 3 * lab.steps)
        let teacher = try lab.train(teaching, "teacher")
        let v = teaching.vocabulary

        /// The teacher's logits over a batch.
        func logits(_ trainer: Trainer, _ batch: TrainingBatch) throws -> [Float] {
            var logits: [Float] = []
            _ = try trainer.loss(batch) { name, tensor in
                if name == "logits" { logits = Array(tensor.bytes.bindMemory(to: Float.self)) }
            }
            return logits
        }

        let expectation = try targetErrors(&lab, teacher.trainer, counts, logits: logits)

        var methods: [Method] = []
        var divergences: [Estimate] = []
        for plan in plans {
            var method = Method(name: plan.name)
            var divergence: [Double] = []
            for run in 0..<lab.seeds {
                var c = lab.configuration
                (c.seed, c.distillationK) = (lab.seed(run), plan.k)
                let sampler = plan.method.map {
                    TargetSampler(context: lab.context, method: $0, k: plan.k, seed: lab.seed(run))
                }
                let outcome = try lab.train(
                    c, "\(plan.name), seed \(run + 1) of \(lab.seeds)",
                    batch: { step, hard in
                        guard let sampler else { return hard }
                        let rows = hard.tokens.count
                        var (ids, weights) = try sampler.sample(
                            try logits(teacher.trainer, hard), rows: rows, vocabulary: v, step: UInt32(step))
                        // The text's own targets say which tokens are trained on.
                        if case .tokens(let targets) = hard.targets {
                            for row in 0..<rows where targets[row] < 0 {
                                for slot in row * plan.k..<(row + 1) * plan.k {
                                    (ids[slot], weights[slot]) = (UInt32.max, 0)
                                }
                            }
                        }
                        return hard.withTargets(ids: ids, weights: weights)
                    })
                method.runs.append(outcome)
                divergence.append(
                    try Self.divergence(&lab, teacher: teacher.trainer, student: outcome.trainer, logits: logits))
            }
            methods.append(method)
            divergences.append(Estimate(divergence))
        }
        let text = methods[0]
        let (sampled, cut) = (methods[1 + 2], methods[1 + counts.count + 2])
        let difference = sampled.difference(from: cut)
        let finding =
            "With 4 targets a token, \(Number.text(4.0 * 8 / (4 * Double(v)))) of the fp32 distribution's storage, students of Gumbel samples end \(difference.text(4, signed: true)) in held-out loss from students of the top 4 (95 % interval over \(lab.seeds) seeds, paired)\(difference.isSignificant ? "" : ", which chance explains") and \(sampled.difference(from: text).text(4, signed: true)) from students of the text alone; the teacher's own loss is \(fixed(teacher.heldOut, 4))."
        var result = StudyResult(
            "Gumbel sampling: sparse soft targets without bias", finding: finding,
            method: [
                "Teacher and students are two-layer models of width \(lab.options.width) over \(v) byte tokens; the teacher takes \(counted(3 * lab.steps, "step")), students \(lab.steps). All students of a seed share their weights and texts and differ in their targets alone. Held-out loss is by the text's own next byte, over 64 held-out sequences or as many as there are.",
                "gumbel: K1, K2. top-k: the k most likely tokens, renormalised. with-replacement: k draws of weight 1/k. full distribution: all \(v) probabilities. A stored target takes 8 bytes (K4); the full distribution takes \(4 * v) in fp32 and \(2 * v) in bf16.",
                "Bias and variance: up to 64 rows of the teacher, 64 samples each. Bias: the L1 distance of the mean of the sampled weights from the distribution, which for an unbiased target falls with the number of samples and for top-k does not. Variance: E of |g - E g|^2 of the logit gradient g = (sum w) p - w, at a student that equals the teacher.",
            ],
            csv: [["targets", "k", "bytes a token", "seed", "held-out loss"]])
        for (plan, method) in zip(plans, methods) {
            for (run, outcome) in method.runs.enumerated() {
                result.csv.append([
                    plan.name, "\(plan.k)", "\(plan.method == nil ? 4 : min(8 * plan.k, 4 * v))", "\(lab.seed(run))",
                    fixed(outcome.heldOut, 6),
                ])
            }
        }
        func line(_ name: String, _ method: TargetMethod) -> Chart.Series {
            Chart.Series(
                name,
                zip(plans, methods).filter { $0.0.method == method && $0.0.k < 256 }.map { plan, one in
                    Chart.Point(Double(plan.k), one.heldOut.mean, spread: one.heldOut.standardDeviation)
                })
        }
        var chart = Chart(
            "Students' held-out loss", x: "targets a token", y: "loss", xScale: .octaves,
            [line("gumbel", .gumbel), line("top-k", .topK)])
        chart.references = [
            (text.heldOut.mean, "text"), (methods[methods.count - 1].heldOut.mean, "full distribution"),
            (teacher.heldOut, "teacher"),
        ]
        var table = [["targets", "bytes a token", "held-out loss", "minus text", "KL from the teacher"]]
        for (index, plan) in plans.enumerated() {
            table.append([
                plan.name, "\(plan.method == nil ? 4 : min(8 * plan.k, 4 * v))", fixed(methods[index].heldOut.mean, 4),
                index == 0 ? "" : methods[index].difference(from: text).text(4, signed: true),
                divergences[index].text(4),
            ])
        }
        result.sections = [
            StudyResult.Section(
                "Students", text: "Whiskers are one standard deviation of seeds.",
                charts: [
                    (chart, "At equal storage: both keep k ids and weights a token."),
                    (
                        Chart(
                            "Divergence of the student from the teacher", x: "targets a token", y: "KL",
                            xScale: .octaves,
                            [TargetMethod.gumbel, .topK].map { method in
                                Chart.Series(
                                    method.rawValue,
                                    zip(plans, divergences).filter { $0.0.method == method && $0.0.k < 256 }.map {
                                        Chart.Point(Double($0.0.k), $0.1.mean, spread: $0.1.standardDeviation)
                                    })
                            }), "KL(teacher || student), mean over held-out tokens."
                    ),
                ], table: table),
            StudyResult.Section(
                "The targets themselves",
                charts: [
                    (
                        Chart(
                            "Bias of the mean of 64 samples", x: "targets a token", y: "L1 distance", xScale: .octaves,
                            yScale: .decades, expectation.bias),
                        "Gumbel's rest is noise of 64 samples; top-k's stays."
                    ),
                    (
                        Chart(
                            "Variance of the logit gradient", x: "targets a token", y: "E |g - E g|^2",
                            xScale: .octaves,
                            yScale: .decades, expectation.variance.filter { $0.name != TargetMethod.topK.rawValue }),
                        "What being unbiased costs; top-k has no variance."
                    ),
                ]),
        ]
        return result
    }

    /// Bias and gradient variance of targets, on rows of the teacher.
    private static func targetErrors(
        _ lab: inout Laboratory, _ teacher: Trainer, _ counts: [Int], logits: (Trainer, TrainingBatch) throws -> [Float]
    ) throws -> (bias: [Chart.Series], variance: [Chart.Series]) {
        let c = teacher.configuration
        let v = c.vocabulary
        let batch = TrainingBatch(try lab.corpus(c.sequenceLength).heldOut.prefix(1))
        let rows = min(64, batch.tokens.count)
        let s = Array(try logits(teacher, batch).prefix(rows * v))
        let exact = try TargetSampler(context: lab.context, method: .gumbel, k: v, seed: lab.options.seed)
            .probabilities(s, rows: rows, vocabulary: v)
        let p = (0..<rows).map { exact[$0 * v..<($0 + 1) * v].map(Double.init) }
        let methods: [TargetMethod] = [.gumbel, .topK, .withReplacement]
        let repeats = 64
        var bias = [[Chart.Point]](repeating: [], count: methods.count)
        var variance = bias
        for k in counts {
            for (index, method) in methods.enumerated() {
                let sampler = TargetSampler(context: lab.context, method: method, k: k, seed: lab.options.seed)
                var mean = [Double](repeating: 0, count: rows * v)
                var squares = 0.0
                var meanGradient = mean
                for sample in 0..<repeats {
                    let (ids, weights) = try sampler.sample(s, rows: rows, vocabulary: v, step: UInt32(sample))
                    for row in 0..<rows {
                        var dense = [Double](repeating: 0, count: v)
                        var sum = 0.0
                        for slot in row * k..<(row + 1) * k where ids[slot] != UInt32.max {
                            dense[Int(ids[slot])] += Double(weights[slot])
                            sum += Double(weights[slot])
                        }
                        for j in 0..<v {
                            let g = sum * p[row][j] - dense[j]
                            mean[row * v + j] += dense[j] / Double(repeats)
                            meanGradient[row * v + j] += g / Double(repeats)
                            squares += g * g / Double(repeats)
                        }
                    }
                }
                let distance = (0..<rows * v).reduce(0.0) { $0 + abs(mean[$1] - p[$1 / v][$1 % v]) } / Double(rows)
                let ofMean = meanGradient.reduce(0.0) { $0 + $1 * $1 }
                bias[index].append(Chart.Point(Double(k), distance))
                // Unbiased: n - 1 in the denominator.
                variance[index].append(
                    Chart.Point(
                        Double(k), max(0, squares - ofMean) / Double(rows) * Double(repeats) / Double(repeats - 1)))
            }
            try lab.advance("bias and variance, k = \(k)")
        }
        let names = methods.map(\.rawValue)
        return (zip(names, bias).map { Chart.Series($0, $1) }, zip(names, variance).map { Chart.Series($0, $1) })
    }

    /// KL(teacher || student), the mean over tokens with a target in the first 16 held-out sequences.
    private static func divergence(
        _ lab: inout Laboratory, teacher: Trainer, student: Trainer, logits: (Trainer, TrainingBatch) throws -> [Float]
    ) throws -> Double {
        let c = teacher.configuration
        let v = c.vocabulary
        let sequences = try lab.corpus(c.sequenceLength).heldOut.prefix(16)
        var (sum, count) = (0.0, 0)
        for first in stride(from: 0, to: sequences.count, by: c.batch) {
            let part = Array(sequences[first..<min(first + c.batch, sequences.count)])
            let batch = TrainingBatch(part)
            let k = student.configuration.distillationK
            let (p, q) = (
                try logits(teacher, batch), try logits(student, k > 0 ? batch.hardTargetsAsSoft(k: k) : batch)
            )
            for (row, target) in part.flatMap(\.targets).enumerated() where target >= 0 {
                let range = row * v..<(row + 1) * v
                let (logP, logQ) = (TargetSampler.logProbabilities(p[range]), TargetSampler.logProbabilities(q[range]))
                for j in 0..<v { sum += Double(ScalarMath.exp(logP[j])) * Double(logP[j] - logQ[j]) }
                count += 1
            }
        }
        return count == 0 ? .nan : sum / Double(count)
    }
}
