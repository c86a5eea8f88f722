import BFloat16
import Cases
import ModelSpec
import Reference

// The operations clamp.*: clause C.

let clampOperations: [Operation] = [
    Operation("clamp.dynamic") { given in
        let limit = try Clamp.dynamicLimit(
            weights: given.bf16("w").map(BFloat16.init(bitPattern:)), fanIn: given.size("n"), columns: given.size("m"),
            kappa: given.float("kappa"), activation: given.choice("activation"))
        return try clamp(given, limit: limit)
    },
    Operation("clamp.static") { given in
        let limit = given.float("limit")
        // C1: -0 is +0.
        return try clamp(given, limit: limit == 0 ? 0 : limit)
    },
]

private func clamp(_ given: CheckedCase, limit: Float) throws -> CaseResult {
    let activation = given.choice("activation", ClampActivation.self)
    let gradient = given.choice("gradient", ClampGradient.self)
    let int8 = given.flag("int8")
    let y = given.floats("y")
    let dy = given.floats("dy")
    let shape = [given.size("t"), given.size("m")]
    let forward = try Clamp.forward(y, limit: limit, activation: activation, int8: int8)
    var result = CaseResult()
    result.output("limit", [limit], [1])
    result.output("clamped", forward.clamped, shape)
    if int8 { result.output("codes", Tensor(forward.codes, shape: shape)) }
    result.output("dequantised", forward.dequantised, shape)
    result.output(
        "dx", Clamp.backward(y: y, dy: dy, limit: limit, activation: activation, gradient: gradient), shape)
    return result
}
