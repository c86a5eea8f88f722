import Cases
import JSON
import ModelSpec

// The z-regulariser at its default, c = 2^-14, where nothing else is left of the gradient: beside a gradient of ordinary size it hides in the
// rounding to bf16 and in what another order of summation may give.

/// The default of T1.
private let standardC: Float = 0x1p-14

func attentionTermCases(_ builder: CaseBuilder) -> [GoldenCase] {
    var cases: [GoldenCase] = []
    let why = "no gradient of the output, and c = 2^-14, the default: dq and dk are the z-regulariser's alone, dv is 0"
    for dot in DotRecipe.allCases {
        for form in ZRegForm.allCases where dot == .pairedFTZ || form == .folded {
            let name = "zreg-alone-\(dot.rawValue)-\(form.rawValue)"
            var random = builder.random(name)
            func tensor(_ heads: Int, _ length: Int) -> Tensor {
                Tensor(bf16: random.bf16s(heads * length * 4, exponents: 122...127), shape: [1, heads, length, 4])
            }
            let (query, key, value) = (tensor(2, 5), tensor(1, 7), tensor(1, 7))
            cases.append(
                AttentionQuestion(
                    query: query, key: key, value: value,
                    outputGradient: Tensor(bf16: [UInt16](repeating: 0, count: 40), shape: [1, 2, 5, 4]),
                    start: [0, 1, 0, 2, 0], limit: [7, 7, 4, 6, 1], dot: dot, c: standardC
                ).makeBackward(builder, name, why, form))
        }
    }
    for form in ["folded", "unfolded"] {
        var random = builder.random("rows-zreg-alone-\(form)")
        var recipe = JSONValue.entries("zreg_c", standardC).merging(JSONValue.entries("kappa", 8)) { $1 }
        recipe["n"] = 19
        recipe["form"] = .string(form)
        cases.append(
            builder.makeCase(
                "rows-zreg-alone-\(form)", "zreg.rows",
                why: "dP is 0, and c = 2^-14, the default: dS is the z-regulariser's alone", recipe: recipe,
                inputs: [
                    NamedTensor("s", Tensor(random.floats(3 * 19, exponents: 122...127), shape: [3, 19])),
                    NamedTensor("dp", Tensor([Float](repeating: 0, count: 3 * 19), shape: [3, 19])),
                ]))
    }
    return cases
}

func lossTermCases(_ builder: CaseBuilder) -> [GoldenCase] {
    // P is 1 at the target, to the last bit, and what weights ask for.
    let certain: [Float] = [90, -20, -30, -25, -20, -90, -200, -210]
    var cases: [GoldenCase] = []
    for (name, width, logits) in [("one-token", 1, [3, -4, 0.5]), ("certain", 4, certain)] as [(String, Int, [Float])] {
        let rows = logits.count / width
        let recipe = JSONValue.entries("zreg_c", standardC)
            .merging(JSONValue.entries("kappa", width == 1 ? 4 : 256)) { $1 }.merging(["n": .integer(Int64(width))]) {
                $1
            }
        let why = "a loss of 0, and c = 2^-14, the default: the gradient is the z-regulariser's alone"
        let tensor = NamedTensor("logits", Tensor(logits, shape: [rows, width]))
        cases.append(
            builder.makeCase(
                "crossEntropy-zreg-alone-\(name)", "layer.crossEntropy", why: why, recipe: recipe,
                inputs: [tensor, NamedTensor("targets", Tensor([Int32](repeating: 0, count: rows), shape: [rows]))]))
        cases.append(
            builder.makeCase(
                "sparseCrossEntropy-zreg-alone-\(name)", "layer.sparseCrossEntropy", why: why, recipe: recipe,
                inputs: [
                    tensor, NamedTensor("ids", Tensor([UInt32](repeating: 0, count: rows), shape: [rows, 1])),
                    NamedTensor("weights", Tensor([Float](repeating: 1, count: rows), shape: [rows, 1])),
                ]))
    }
    return cases
}
