import Cases
import JSON
import ModelSpec
import Reference

/// Words for `stochastic15`: the ends as often as the rest.
private func stochasticWords(_ count: Int, _ random: inout FuzzRandom) -> [UInt32] {
    (0..<count).map { _ in
        random.chance(3) ? random.pick([0, 0xFF, 0x100, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FEFF, .max]) : random.word()
    }
}

/// Eight values of a class.
private func block(_ variant: SquinchVariant, _ caseClass: CaseClass, _ random: inout FuzzRandom) -> [Float] {
    func spread(below peak: Float) -> [Float] {
        var values: [Float] = (0..<8).map { _ in
            let fraction = Float(random.word() >> 8) * 0x1p-24
            return peak * (fraction * fraction) * (random.bool() ? 1 : -1)
        }
        values[random.below(8)] = random.bool() ? peak : -peak
        return values
    }
    switch caseClass {
    case .thresholds:
        // The peak at T[q] or one unit beside it (S2).
        return spread(below: random.near(random.pick(SquinchTables.thresholds), units: 1))
    case .codeBoundaries:
        // Magnitudes at the boundaries between codes under a scale, and one unit beside them (S3).
        let scale = random.integer(in: 1...255)
        let m = SquinchTables.scales[scale]
        var values: [Float] = (0..<8).map { _ in
            let code = Float(random.integer(in: 1...15))
            let odd = 2 * code - 1
            let ratio =
                switch variant {
                case .floor16: code * code / 256
                case .round15: odd * odd / 900
                case .stochastic15: random.bool() ? code * code / 225 : odd * odd / 900
                }
            return random.near(m * ratio, units: 1) * (random.bool() ? 1 : -1)
        }
        values[random.below(8)] = random.bool() ? m.nextDown : SquinchTables.thresholds[scale - 1]
        return values
    case .subnormals: return random.floats(8, 0...random.pick([1, 20, 97]))
    case .overflow: return random.floats(8, random.pick([155...160, 250...254]))
    case .specials:
        return (0..<8).map { _ in
            random.chance(2)
                ? random.pick([0, -0.0, 1, -1])
                : random.chance(4) ? random.pick([0x1p-149, -0x1p-126]) : random.float(100...150)
        }
    case .ties: return [Float](repeating: random.float(97...157), count: 8).map { random.bool() ? $0 : -$0 }
    default:
        let center = random.integer(in: 97...157)
        return random.chance(2)
            ? spread(below: random.float(center...center).magnitude) : random.floats(8, center - 8...center)
    }
}

private let squinchClasses: [CaseClass] = [
    .random, .ties, .thresholds, .codeBoundaries, .subnormals, .overflow, .specials, .tileEdge, .degenerate,
]

private func values(_ count: Int, _ variant: SquinchVariant, _ caseClass: CaseClass, _ random: inout FuzzRandom)
    -> [Float]
{
    var values: [Float] = []
    while values.count < count { values += block(variant, caseClass, &random) }
    return Array(values.prefix(count))
}

private func length(_ caseClass: CaseClass, _ random: inout FuzzRandom) -> Int {
    switch caseClass {
    case .degenerate: random.below(2)
    case .tileEdge: random.edgeSize(atMost: FuzzRandom.longest)
    default: random.chance(3) ? 1 + random.below(64) : 8 * (1 + random.below(12))
    }
}

@Sendable private func repairVariant(_ draft: inout Draft) {
    if draft.text("variant") != SquinchVariant.stochastic15.rawValue { draft.drop("random", "random_reduced") }
    if draft.recipe["feedback"] == .bool(false) { draft.drop("e") }
    // A block more or less is eight elements.
    if draft.recipe["count"] != nil, let blocks = draft.inputs["blocks"]?.shape.first,
        let count = draft.integer("count")
    {
        draft.recipe["count"] = .integer(Int64(min(8 * blocks, max(count, 8 * blocks - 7))))
    }
}

let squinchGenerators: [CaseGenerator] = [
    CaseGenerator("squinch.encode", squinchClasses, repair: repairVariant) {
        caseClass, random in
        let variant = random.pick(SquinchVariant.allCases)
        let saturates = random.bool()
        let n = length(caseClass, &random)
        var x = values(n, variant, caseClass, &random)
        if saturates && caseClass == .specials {
            for index in x.indices where random.chance(12) { x[index] = random.bool() ? .infinity : -.infinity }
        }
        let isNarrow = random.chance(4)
        var inputs = [("x", isNarrow ? vector(bf16: x.map(FuzzRandom.bf16)) : vector(x))]
        if variant == .stochastic15 { inputs.append(("random", vector(stochasticWords(n, &random)))) }
        return Draft(
            ["variant": .string(variant.rawValue), "nonfinite": .string(saturates ? "saturate" : "refuse")], inputs)
    },
    CaseGenerator(
        "squinch.decode", [.random, .patterns, .tileEdge, .degenerate],
        repair: repairVariant
    ) {
        caseClass, random in
        let count = length(caseClass, &random)
        let blocks = (count + 7) / 8
        var bytes = (0..<6 * blocks).map { _ in UInt8(truncatingIfNeeded: random.word() >> 13) }
        if caseClass == .patterns {
            // Scale 0 over anything, the last scale, codes all alike.
            for block in 0..<blocks {
                bytes[6 * block] = random.pick([0, 1, 127, 128, 254, 255])
                let code = random.pick([0x00, 0x11, 0x77, 0xEE, 0xFF] as [UInt8])
                for byte in 2..<6 where random.bool() { bytes[6 * block + byte] = code }
            }
        }
        return Draft(
            [
                "variant": .string(random.pick(SquinchVariant.allCases).rawValue), "count": .integer(Int64(count)),
            ], [("blocks", Tensor(bytes, shape: [blocks, 6]))])
    },
    CaseGenerator(
        "squinch.feedback", squinchClasses + [.cancellation],
        repair: repairVariant
    ) { caseClass, random in
        let variant = random.pick(SquinchVariant.allCases)
        let n = length(caseClass, &random)
        let x = values(n, variant, caseClass, &random)
        let inputs = [("x", vector(x)), ("e", vector(residuals(of: x, caseClass, &random)))]
        return Draft(
            ["variant": .string(variant.rawValue)],
            variant == .stochastic15 ? inputs + [("random", vector(stochasticWords(n, &random)))] : inputs)
    },
]

/// Residuals: zeros, small ones, and what cancels the gradient. The sum stays finite.
private func residuals(of x: [Float], _ caseClass: CaseClass, _ random: inout FuzzRandom) -> [Float] {
    let kind = caseClass == .cancellation ? 2 : random.below(3)
    return x.map { value in
        switch kind {
        case 0: random.bool() ? 0 : -0.0
        case 1: value.isFinite && value.magnitude < 0x1p120 ? value * Float(random.integer(in: -64...64)) * 0x1p-9 : 0
        default: random.near(-value, units: 1).isFinite ? random.near(-value, units: random.below(2)).orZero : 0
        }
    }
}

extension Float {
    fileprivate var orZero: Float { isFinite ? self : 0 }
}

let allReduceGenerators: [CaseGenerator] =
    [
        CaseGenerator(
            "allreduce.squinch", squinchClasses + [.cancellation],
            repair: repairVariant
        ) { caseClass, random in
            let variant = random.pick(SquinchVariant.allCases)
            let ranks = caseClass == .degenerate ? 1 : 1 + random.below(5)
            let n = length(caseClass, &random)
            let feedback = random.bool()
            let saturates = random.bool()
            var g: [Float] = []
            for rank in 0..<ranks {
                // With cancellation the second rank's gradient is about the first one's negation.
                g +=
                    caseClass == .cancellation && rank % 2 == 1
                    ? g[(rank - 1) * n..<rank * n].map { -random.near($0, units: 2) }
                    : values(n, variant, caseClass, &random)
            }
            if saturates && !feedback && caseClass == .specials {
                for index in g.indices where random.chance(20) { g[index] = random.bool() ? .infinity : -.infinity }
            }
            let shape = [ranks, n]
            var inputs = [("g", Tensor(g, shape: shape))]
            if feedback {
                inputs.append(
                    (
                        "e",
                        Tensor(
                            residuals(of: g, caseClass == .cancellation ? .random : caseClass, &random), shape: shape)
                    ))
            }
            if variant == .stochastic15 {
                inputs.append(("random", Tensor(stochasticWords(ranks * n, &random), shape: shape)))
                inputs.append(("random_reduced", vector(stochasticWords(n, &random))))
            }
            return Draft(
                [
                    "variant": .string(variant.rawValue), "nonfinite": .string(saturates ? "saturate" : "refuse"),
                    "feedback": .bool(feedback),
                ], inputs)
        }
    ]
    + ["bf16", "fp32"].map { format in
        CaseGenerator(
            "allreduce.\(format)",
            [.random, .ties, .subnormals, .overflow, .cancellation, .specials, .tileEdge, .degenerate]
        ) { caseClass, random in
            let ranks = caseClass == .degenerate ? 1 : 1 + random.below(7)
            let n =
                caseClass == .degenerate
                ? random.below(2)
                : caseClass == .tileEdge ? random.edgeSize(atMost: FuzzRandom.longest) : 1 + random.below(64)
            var g: [Float] = []
            for rank in 0..<ranks {
                g += (0..<n).map { column -> Float in
                    switch caseClass {
                    case .cancellation where rank % 2 == 1: -random.near(g[(rank - 1) * n + column])
                    // On and beside half a unit of bf16.
                    case .ties:
                        Float(
                            bitPattern: (random.float(124...128).bitPattern & ~0xFFFF)
                                + random.pick([0x7FFF, 0x8000, 0x8000, 0x8001]))
                    case .subnormals: random.float(0...2)
                    case .overflow: random.float(251...254)
                    case .specials: random.chance(3) ? random.special() : random.float(118...132)
                    default: random.float(112...140)
                    }
                }
            }
            return Draft([:], [("g", Tensor(g, shape: [ranks, n]))])
        }
    }
