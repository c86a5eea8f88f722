import Cases
import ExactMath
import Goldens
import JSON

// training.step: another configuration or other inputs than those asked for. What changes inside one operation shows in the suites of the operations.

extension DeviationCatalog {
    static let trainingFamily = VariantFamily(
        name: "training", operations: ["training.step"],
        deviations: coefficients("zreg", "zreg_c", "the z-regulariser of attention", ["Z2", "Z3"])
            + coefficients("output-zreg", "output_zreg_c", "the z-regulariser of the output logits", ["Z4"])
            + choices(
                "zreg.form", "zreg_form", ["folded", "unfolded", "row-dot"], ["Z2"]
            ) { "takes the \($0) form of the z-regulariser" }
            + choices("dot.recipe", "dot", ["paired-ftz", "chain-ieee"], ["D1", "D2"]) {
                "takes dot products by \($0)"
            }
            + [
                .recipe(
                    "training.clamp.none", "does not clamp", ["C1", "C2"], key: "clamp", "none"),
                .recipe(
                    "training.clamp.static", "clamps at the static limit", ["C1", "C5"], key: "clamp", "static"),
                .recipe("training.clamp.dynamic", "clamps at a dynamic limit", ["C1", "C5"], key: "clamp", "dynamic"),
                .parameter(
                    "training.kappa.squared", "squares the clamp's kappa", ["C1"], key: "clamp_kappa"
                ) { $0 * $0 },
                .parameter("training.kappa.doubled", "doubles the clamp's kappa", ["C1"], key: "clamp_kappa") {
                    2 * $0
                },
                .parameter("training.kappa.1", "takes 1 for the clamp's kappa", ["C1"], key: "clamp_kappa") { _ in 1 },
                .parameter("training.kappa.4", "takes 4 for the clamp's kappa", ["C1"], key: "clamp_kappa") { _ in 4 },
                .parameter(
                    "training.limit.doubled", "doubles the static limit", ["C5"], key: "clamp_limit"
                ) { 2 * $0 },
                .recipe(
                    "training.clamp-gradient.inward", "passes gradients that point inward through the clamp", ["C4"],
                    key: "clamp_gradient", "inward"),
                .recipe(
                    "training.clamp-gradient.straight-through",
                    "passes no gradient that points inward through the clamp",
                    ["C4"], key: "clamp_gradient", "straight-through"),
                .recipe("training.int8.on", "makes int8 codes that nobody asked for", ["C3"], key: "int8", true),
                .recipe("training.int8.off", "makes no int8 codes", ["C3"], key: "int8", false),
                .parameter(
                    "training.rotary-base.1000", "takes 1000 for the rotary base", ["E4"], key: "rotary_base"
                ) { _ in 1000 },
                .parameter(
                    "training.rotary-base.100000", "takes 100000 for the rotary base", ["E4"], key: "rotary_base"
                ) { _ in 100000 },
                .parameter(
                    "training.rotary-base.500000", "takes 500000 for the rotary base", ["E4"], key: "rotary_base"
                ) { _ in 500000 },
                .recipe("training.windows.none", "ignores the layers' windows", ["V2"], key: "windows", .array([])),
                integers("training.windows.wider", "sees one position more than a window", ["V2"], "windows") {
                    $0.map { $0 == 0 ? 0 : $0 + 1 }
                },
                integers("training.windows.narrower", "sees one position less than a window", ["V2"], "windows") {
                    $0.map { $0 <= 1 ? $0 : $0 - 1 }
                },
                integers("training.windows.reversed", "gives layers their windows from the last on", ["V2"], "windows")
                {
                    $0.reversed()
                },
                .parameter(
                    "training.norm-epsilon.1e-5", "takes 1e-5 for the norms' epsilon", ["T2"], key: "norm_epsilon"
                ) { _ in 1e-5 },
                .parameter(
                    "training.norm-epsilon.1e-6", "takes 1e-6 for the norms' epsilon", ["T2"], key: "norm_epsilon"
                ) { _ in 1e-6 },
                .parameter(
                    "training.norm-epsilon.1e-8", "takes 1e-8 for the norms' epsilon", ["T2"], key: "norm_epsilon"
                ) { _ in 1e-8 },
                .parameter(
                    "training.norm-epsilon.0", "leaves the norms' epsilon out", ["T2"], key: "norm_epsilon"
                ) { _ in 0 },
                .parameter(
                    "training.decay.missing", "leaves the weight decay out", ["T4"], key: "weight_decay"
                ) { _ in 0 },
                .parameter("training.decay.1e-2", "takes 0.01 for the weight decay", ["T4"], key: "weight_decay") {
                    _ in 0.01
                },
                .parameter("training.decay.1e-1", "takes 0.1 for the weight decay", ["T4"], key: "weight_decay") {
                    _ in 0.1
                },
                .parameter("training.beta2.999e-3", "takes 0.999 for beta2", ["T4"], key: "beta2") { _ in 0.999 },
                .parameter("training.beta2.95e-2", "takes 0.95 for beta2", ["T4"], key: "beta2") { _ in 0.95 },
                exchanged("training.betas.exchanged", "exchanges beta1 and beta2", ["T4"], "beta1", "beta2"),
                .parameter(
                    "training.adam-epsilon.1e-8", "takes 1e-8 for AdamW's epsilon", ["T4"], key: "adam_epsilon"
                ) { _ in 1e-8 },
                .parameter(
                    "training.adam-epsilon.0", "leaves AdamW's epsilon out", ["T4"], key: "adam_epsilon"
                ) { _ in 0 },
                .parameter("training.clip.missing", "does not clip gradients", ["T4"], key: "clip_norm") { _ in 0 },
                .parameter("training.clip.1", "clips gradients at a norm of 1", ["T4"], key: "clip_norm") { _ in 1 },
                .parameter("training.rate.doubled", "doubles the learning rate", ["T4"], key: "learning_rate") {
                    2 * $0
                },
                .parameter("training.rate.halved", "halves the learning rate", ["T4"], key: "learning_rate") { $0 / 2 },
                .recipe(
                    "training.warmup.none", "has no warm-up", ["T4"], key: "warmup_steps", 0),
                number("training.warmup.longer", "warms up for one step more", ["T4"], "warmup_steps") { $0 + 1 },
                number("training.warmup.shorter", "warms up for one step less", ["T4"], "warmup_steps") { $0 - 1 },
                number("training.total.longer", "takes the schedule for one step longer", ["T4"], "total_steps") {
                    $0 + 1
                },
                number("training.total.shorter", "takes the schedule for one step shorter", ["T4"], "total_steps") {
                    $0 - 1
                },
                number("training.first-step.next", "counts steps from 1 more", ["T4", "G1"], "first_step") { $0 + 1 },
                number("training.first-step.previous", "counts steps from 1 less", ["T4", "G1"], "first_step") {
                    $0 - 1
                },
                .recipe("training.first-step.1", "begins at step 1", ["T4", "G1"], key: "first_step", 1),
                .parameter(
                    "training.final-fraction.0", "lets the learning rate fall to 0", ["T4"], key: "final_fraction"
                ) { _ in 0 },
            ]
            + choices("schedule.kind", "schedule", ["constant", "linear", "cosine"], ["T4"]) {
                "takes the \($0) schedule of the learning rate"
            }
            + [
                Deviation(
                    "training.compression.none", "exchanges gradients in fp32", ["T5"],
                    .question { compression($0, "none") }),
                Deviation(
                    "training.compression.bf16", "exchanges gradients in bf16", ["T5"],
                    .question { compression($0, "bf16") }),
                Deviation(
                    "training.compression.squinch", "exchanges gradients in Squinch", ["T5", "S8"],
                    .question { compression($0, "squinch") }),
            ]
            + choices("squinch.variant", "squinch_variant", ["floor16", "round15", "stochastic15"], ["S3"]) {
                "takes Squinch's variant \($0)"
            }
            + [
                Deviation(
                    "training.feedback.missing", "compresses without error feedback", ["S7", "T5"],
                    .question { goldenCase in
                        guard goldenCase.recipe["error_feedback"] == true else { return nil }
                        var changed = goldenCase
                        changed.recipe["error_feedback"] = false
                        changed.inputs = TensorGroup(
                            goldenCase.inputs.tensors.filter { !$0.name.hasPrefix("residual.") })
                        return changed
                    }),
                inputs(
                    "training.feedback.forgotten", "forgets the residuals of earlier steps", ["S7", "T5"], "residual."
                ) { $0.mapping { _ in 0 } },
                .recipe("training.ranks.1", "does not divide the batch among ranks", ["T5"], key: "ranks", 1),
                .recipe(
                    "training.seed.0", "takes the seed 0", ["G1"], key: "seed", "0000000000000000"),
                Deviation(
                    "training.seed.words-exchanged", "exchanges the words of the seed", ["G1"],
                    .question { goldenCase in
                        guard case .string(let digits)? = goldenCase.recipe["seed"], digits.utf8.count == 16 else {
                            return nil
                        }
                        var changed = goldenCase
                        changed.recipe["seed"] = .string(String(digits.suffix(8) + digits.prefix(8)))
                        return changed
                    }),
                .input("training.targets.next", "takes the targets of the next place", ["T4"], "targets") { _, tensor in
                    rows(tensor) { row in Array(row.dropFirst()) + [.max] }
                },
                .input("training.targets.own", "takes each token itself for its target", ["T4"], "targets") {
                    goldenCase, _ in goldenCase.inputs["tokens"]
                },
                .input(
                    "training.targets.across-documents", "takes the next token for the target where there is none",
                    ["T4"], "targets"
                ) { goldenCase, _ in
                    goldenCase.inputs["tokens"].flatMap { rows($0) { Array($0.dropFirst()) + [.max] } }
                },
                .input("training.position.absolute", "counts positions on across documents", ["E4", "V2"], "position") {
                    _, tensor in rows(tensor) { row in row.indices.map { UInt32($0) } }
                },
                .input("training.position.from-1", "counts positions from 1", ["E4", "V2"], "position") { _, tensor in
                    tensor.mapping { $0 + 1 }
                },
                .input(
                    "training.visibility.limit-ignored", "ignores visibility_limit: siblings and later documents leak",
                    ["V1", "V2"], "visibility_limit"
                ) { _, tensor in
                    rows(tensor) { row in row.map { _ in UInt32(row.count) } }
                },
                Deviation(
                    "training.visibility.causal", "takes a causal mask in place of the one given", ["V1", "V2"],
                    .question { goldenCase in
                        guard let start = goldenCase.inputs["visibility_start"] else { return nil }
                        var changed = goldenCase
                        changed.inputs = goldenCase.inputs
                            .replacing("visibility_start", with: rows(start) { $0.indices.map { UInt32($0) } })
                            .replacing(
                                "visibility_limit", with: rows(start) { row in row.map { _ in UInt32(row.count) } })
                        return changed == goldenCase ? nil : changed
                    }),
                Deviation(
                    "training.visibility.full", "lets every token see every other", ["V1", "V2"],
                    .question { goldenCase in
                        guard let start = goldenCase.inputs["visibility_start"] else { return nil }
                        var changed = goldenCase
                        changed.inputs = goldenCase.inputs
                            .replacing("visibility_start", with: rows(start) { $0.map { _ in 0 } })
                            .replacing(
                                "visibility_limit", with: rows(start) { row in row.map { _ in UInt32(row.count) } })
                        return changed
                    }),
                .input(
                    "training.distillation.weights-normalised", "divides a row's target weights by their sum", ["K4"],
                    "target_weights"
                ) { _, tensor in
                    guard let width = tensor.shape.last, let weights = try? tensor.floats() else { return nil }
                    return Tensor(
                        weights.indices.map { index in
                            let row = index - index % width..<index - index % width + width
                            let total = weights[row].reduce(0, +)
                            return total == 0 ? 0 : weights[index] / total
                        }, shape: tensor.shape)
                },
                .input(
                    "training.distillation.first-target-only", "takes the first target of a row alone", ["K4"],
                    "target_ids"
                ) { _, tensor in
                    guard let width = tensor.shape.last else { return nil }
                    return tensor.mappingPlaces { index, bits in
                        index % width == 0 ? bits : 0xFFFF_FFFF
                    }
                },
                inputs("training.masters.bf16", "keeps master weights in bf16", ["T1", "T4"], "weight.") {
                    $0.mapping { UInt64(SoftFloat32.roundToBFloat16(Float(bitPattern: UInt32($0)))) << 16 }
                },
                inputs("training.first-moments.forgotten", "forgets the first moments of earlier steps", ["T4"], "m.") {
                    $0.mapping { _ in 0 }
                },
                inputs("training.second-moments.forgotten", "forgets the second moments of earlier steps", ["T4"], "v.")
                { $0.mapping { _ in 0 } },
            ], pairLimit: 200, compute: nil)

    // MARK: - Making them

    private static func coefficients(_ axis: String, _ key: String, _ what: String, _ clauses: [String]) -> [Deviation]
    {
        [
            .parameter("training.\(axis).missing", "leaves out \(what)", clauses, key: key) { _ in 0 },
            .parameter("training.\(axis).halved", "halves \(what), as without the factor 2", clauses, key: key) {
                $0 / 2
            },
            .parameter("training.\(axis).doubled", "doubles \(what)", clauses, key: key) { 2 * $0 },
            .parameter("training.\(axis).negated", "gives \(what) the other sign", clauses, key: key) { -$0 },
            .parameter("training.\(axis).squared", "squares the coefficient of \(what)", clauses, key: key) { $0 * $0 },
        ]
    }

    private static func choices(
        _ axis: String, _ key: String, _ values: [String], _ clauses: [String], _ summary: (String) -> String
    ) -> [Deviation] {
        values.map { value in
            .recipe("training.\(axis).\(value)", summary(value), clauses, key: key, .string(value))
        }
    }

    private static func number(
        _ name: String, _ summary: String, _ clauses: [String], _ key: String,
        _ change: @escaping @Sendable (Int64) -> Int64
    ) -> Deviation {
        Deviation(
            name, summary, clauses,
            .question { goldenCase in
                guard case .integer(let old)? = goldenCase.recipe[key] else { return nil }
                var changed = goldenCase
                changed.recipe[key] = .integer(change(old))
                return changed
            })
    }

    private static func integers(
        _ name: String, _ summary: String, _ clauses: [String], _ key: String,
        _ change: @escaping @Sendable ([Int64]) -> [Int64]
    ) -> Deviation {
        Deviation(
            name, summary, clauses,
            .question { goldenCase in
                guard case .array(let values)? = goldenCase.recipe[key] else { return nil }
                var list: [Int64] = []
                for case .integer(let value) in values { list.append(value) }
                let new = JSONValue.array(change(list).map { .integer($0) })
                guard new != .array(values) else { return nil }
                var changed = goldenCase
                changed.recipe[key] = new
                return changed
            })
    }

    private static func exchanged(
        _ name: String, _ summary: String, _ clauses: [String], _ a: String, _ b: String
    ) -> Deviation {
        Deviation(
            name, summary, clauses,
            .question { goldenCase in
                var changed = goldenCase
                for (from, to) in [(a, b), (b, a)] {
                    for suffix in ["", "_bits"] { changed.recipe[to + suffix] = goldenCase.recipe[from + suffix] }
                }
                return changed == goldenCase ? nil : changed
            })
    }

    /// Another format between ranks; nothing where one rank alone would then combine nothing, or several would begin to.
    private static func compression(_ goldenCase: GoldenCase, _ format: String) -> GoldenCase? {
        guard case .string(let old)? = goldenCase.recipe["compression"], old != format,
            case .integer(let ranks)? = goldenCase.recipe["ranks"],
            ranks > 1 || (old != "none" && format != "none")
        else { return nil }
        var changed = goldenCase
        changed.recipe["compression"] = .string(format)
        if format != "squinch", goldenCase.recipe["error_feedback"] == true {
            changed.recipe["error_feedback"] = false
            changed.inputs = TensorGroup(goldenCase.inputs.tensors.filter { !$0.name.hasPrefix("residual.") })
        }
        return changed
    }

    /// Every input whose name begins so.
    private static func inputs(
        _ name: String, _ summary: String, _ clauses: [String], _ prefix: String,
        _ change: @escaping @Sendable (Tensor) -> Tensor
    ) -> Deviation {
        Deviation(
            name, summary, clauses,
            .question { goldenCase in
                var changed = goldenCase
                changed.inputs = TensorGroup(
                    goldenCase.inputs.tensors.map {
                        $0.name.hasPrefix(prefix) ? NamedTensor($0.name, change($0.tensor)) : $0
                    })
                return changed == goldenCase ? nil : changed
            })
    }

    /// An Int32 tensor with every row of its last dimension through a function.
    private static func rows(_ tensor: Tensor, _ change: ([UInt32]) -> [UInt32]) -> Tensor {
        guard let width = tensor.shape.last, width > 0 else { return tensor }
        let bits = (0..<tensor.count).map { UInt32(truncatingIfNeeded: tensor.bits(at: $0)) }
        let new = stride(from: 0, to: bits.count, by: width).flatMap { change(Array(bits[$0..<$0 + width])) }
        return tensor.mappingPlaces { index, _ in UInt64(new[index]) }
    }
}

extension Tensor {
    /// Every element's bits through a function of its index too.
    func mappingPlaces(_ change: (Int, UInt64) -> UInt64) -> Tensor {
        var index = -1
        return mapping { bits in
            index += 1
            return change(index, bits)
        }
    }
}
