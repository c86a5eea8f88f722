import BFloat16
import GoldenIO
import ModelSpec
import Reference

// The operations clamp.*: clause C.

let clampOperations: [Operation] = [
    Operation(
        "clamp.dynamic", .clamp, "a clamp whose limit follows the weights, and int8",
        clauses: ["C1", "C2", "C3", "C4", "R2"]
    ) { reader in
        let kappa = try reader.float("kappa")
        return try clamp(&reader, isStatic: false) { weights, n, m, activation in
            try Clamp.dynamicLimit(weights: weights, fanIn: n, columns: m, kappa: kappa, activation: activation)
        }
    },
    Operation(
        "clamp.static", .clamp, "a clamp with a given limit, and int8", clauses: ["C5", "C2", "C3", "C4"]
    ) { reader in
        let limit = try reader.float("limit")
        // C1: -0 is +0.
        return try clamp(&reader, isStatic: true) { _, _, _, _ in limit == 0 ? 0 : limit }
    },
]

private func clamp(
    _ reader: inout CaseReader, isStatic: Bool,
    limit: (_ weights: [BFloat16], _ n: Int, _ m: Int, ClampActivation) throws -> Float
) throws -> CaseResult {
    let activation = try reader.choice("activation", ClampActivation.self)
    let gradient = try reader.choice("gradient", ClampGradient.self)
    let int8 = try reader.bool("int8")
    var weights: [BFloat16] = []
    var fanIn = 0
    if !isStatic || reader.hasInput("w") {
        weights = try reader.bf16("w", "n", "m").map(BFloat16.init(bitPattern:))
        fanIn = reader.size("n")
    }
    let y = try reader.floats("y", "t", "m")
    let dy = try reader.floats("dy", "t", "m")
    try reader.finish()
    let shape = [reader.size("t"), reader.size("m")]
    let limit = try limit(weights, fanIn, reader.size("m"), activation)
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
