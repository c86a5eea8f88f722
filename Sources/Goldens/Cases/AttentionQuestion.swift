import Cases
import ExactMath
import JSON
import ModelSpec
import Reference

/// The inputs of an attention, for cases whose tensors are given.
struct AttentionQuestion {
    /// [B, H, Q, D]
    var query: Tensor
    /// [B, G, T, D]
    var key: Tensor
    var value: Tensor
    /// [B, H, Q, D]
    var outputGradient: Tensor
    var orientation = MaskOrientation.byQuery
    /// [B, Q] or [B, T]
    var start: [Int32]
    var limit: [Int32]
    /// nil: 1 / sqrt(D).
    var scale: Float?
    var dot = DotRecipe.pairedFTZ
    var c: Float

    private var recipe: [String: JSONValue] {
        let factor = scale ?? CorrectlyRounded.rsqrt(SoftFloat32.convert(UInt64(query.shape[3])))
        var recipe = JSONValue.entries("scale", factor).merging(JSONValue.entries("kappa", attentionKappa)) { $1 }
        recipe["n"] = 0
        recipe["orientation"] = .string(orientation.rawValue)
        recipe["query_offset"] = 0
        recipe["dot"] = .string(dot.rawValue)
        return recipe
    }

    private var inputs: TensorGroup {
        let tokens = orientation == .byQuery ? query.shape[2] : key.shape[2]
        return [
            NamedTensor("q", query), NamedTensor("k", key), NamedTensor("v", value),
            NamedTensor("visibility_start", Tensor(start, shape: [query.shape[0], tokens])),
            NamedTensor("visibility_limit", Tensor(limit, shape: [query.shape[0], tokens])),
        ]
    }

    func makeForward(_ builder: CaseBuilder, _ name: String, _ why: String) -> GoldenCase {
        builder.makeCase("forward-\(name)", "attention.forward", why: why, recipe: recipe, inputs: inputs)
    }

    func makeBackward(_ builder: CaseBuilder, _ name: String, _ why: String, _ form: ZRegForm) -> GoldenCase {
        var withGradient = inputs
        withGradient.append("do", outputGradient)
        return builder.makeCase(
            "backward-\(name)", "attention.backward", why: why,
            recipe: recipe.merging(JSONValue.entries("zreg_c", c)) { $1 }.merging(["form": .string(form.rawValue)]) {
                $1
            },
            inputs: withGradient)
    }
}
