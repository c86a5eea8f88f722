import BFloat16
import Cases
import Goldens
import JSON
import ModelSpec
import Reference

private func clamp(_ op: String) -> CaseGenerator {
    let isStatic = op == "clamp.static"
    return CaseGenerator(
        op,
        [.random, .ties, .thresholds, .zeroLimit, .subnormals, .overflow, .specials, .tileEdge, .degenerate]
    ) { caseClass, random in
        var (n, m, t) = (1 + random.below(12), 1 + random.below(9), 1 + random.below(12))
        switch caseClass {
        case .tileEdge:
            m = random.edgeSize(atMost: 49)
            // One sum of squares in three goes over a block of 4096 (R2).
            n = random.chance(3) ? (4095 + random.below(4)) / m + random.below(2) : random.edgeSize(atMost: 17)
            n = max(1, n)
            t = random.edgeSize(atMost: 17)
        case .degenerate: (n, m, t) = (1, 1, random.below(2))
        default: break
        }
        let activation = random.pick(ClampActivation.allCases)
        var kappa: Float =
            caseClass == .zeroLimit && random.bool() ? random.pick([0, -0.0]) : random.pick([4, 2.5, 2.7, 1, 0.25, 3])
        var limit: Float =
            caseClass == .zeroLimit
            ? random.pick([0, -0.0])
            : random.pick([16, 3.3, 13, 0.25, 1, 1000, 0.01, random.float(120...135).magnitude])
        if caseClass == .overflow { limit = random.float(250...254).magnitude }
        if caseClass == .subnormals { limit = random.float(0...8).magnitude }
        var w = (0..<n * m).map { _ -> UInt16 in
            switch caseClass {
            case .subnormals: random.bf16(random.pick([0...60, 60...66]))
            case .overflow: random.bf16(180...188)
            case .zeroLimit: kappa == 0 ? random.bf16(110...127) : random.pick([0, 0x8000, 0x0001])
            case .ties: 0x3F80
            default: random.bf16(115...127)
            }
        }
        if !isStatic {
            func bound() -> Float? {
                try? Clamp.dynamicLimit(
                    weights: w.map(BFloat16.init(bitPattern:)), fanIn: n, columns: m, kappa: kappa,
                    activation: activation)
            }
            // A limit that overflows is refused.
            if bound() == nil { (w, kappa) = ([UInt16](repeating: 0x3F80, count: n * m), 1) }
            limit = bound() ?? 0
        }
        // 127 / limit must be finite for int8 (C3).
        let int8 = random.bool() && (limit == 0 || (127 / limit).isFinite)
        let scale = limit == 0 ? 1 : limit
        let y = (0..<t * m).map { _ -> Float in
            let sign: Float = random.chance(3) ? -1 : 1
            switch caseClass {
            case .ties: return random.near(scale * ((Float(random.below(127)) + 0.5) / 127), units: 1) * sign
            case .thresholds: return random.near(random.pick([scale, scale / 127, scale / 254, 0]), units: 1) * sign
            case .specials:
                return random.chance(2) ? random.special() : scale * Float(random.integer(in: -2048...2048)) * 0x1p-10
            case .subnormals:
                return random.chance(2)
                    ? random.float(0...2) : scale * Float(random.integer(in: -2048...2048)) * 0x1p-10
            default: return scale * Float(random.integer(in: -4096...4096)) * 0x1p-11
            }
        }
        let dy = (0..<t * m).map { _ in
            random.chance(4)
                ? (caseClass == .specials ? random.special() : random.pick([0, -0.0])) : random.float(110...130)
        }
        let shape = [t, m]
        var inputs = [("y", Tensor(y, shape: shape)), ("dy", Tensor(dy, shape: shape))]
        if !isStatic || random.chance(4) { inputs.insert(("w", Tensor(bf16: w, shape: [n, m])), at: 0) }
        return Draft(
            entries(isStatic ? "limit" : "kappa", isStatic ? limit : kappa)
                + [
                    "activation": .string(activation.rawValue),
                    "gradient": .string(random.pick(ClampGradient.allCases).rawValue), "int8": .bool(int8),
                ], inputs)
    }
}

let clampGenerators = [clamp("clamp.dynamic"), clamp("clamp.static")]

/// Seed, stream and step of a case's draws: any; sometimes the ends of the counters.
private func stream(_ random: inout FuzzRandom) -> [String: JSONValue] {
    [
        "seed": .string(hexadecimal(random.chance(8) ? random.pick([0, .max, 1 << 63]) : random.wide(), digits: 16)),
        "stream": .integer(random.pick([2, 2, 2, 0, Int64(UInt32.max)])),
        "step": .integer(random.chance(4) ? random.pick([0, Int64(UInt32.max)]) : Int64(random.below(1 << 20))),
    ]
}

private func sizes(_ caseClass: CaseClass, _ random: inout FuzzRandom) -> (n: Int, v: Int) {
    switch caseClass {
    case .degenerate: (random.below(2), random.below(2))
    case .tileEdge: (1 + random.below(3), random.edgeSize(atMost: FuzzRandom.longest))
    default: (1 + random.below(4), 1 + random.below(40))
    }
}

private func sampler(_ op: String) -> CaseGenerator {
    CaseGenerator(
        op, [.random, .ties, .infiniteLogits, .subnormals, .overflow, .slots, .tileEdge, .degenerate]
    ) { caseClass, random in
        var (n, v) = sizes(caseClass, &random)
        if caseClass == .ties && random.chance(4) {
            // Two draws of other words with the same g, in slot 50 of the default seed: the lower id wins.
            return Draft(
                [
                    "seed": .string(hexadecimal(GoldenSuites.defaultSeed, digits: 16)), "stream": 2, "step": 762_149,
                    "k": .integer(Int64(random.pick([51, 52, 60]))),
                ], [("logits", Tensor([0, 0] as [Float], shape: [1, 2]))])
        }
        if caseClass == .ties && random.bool() { (n, v) = (1, 8 + random.below(9)) }
        var values = logits(n, v, caseClass, &random)
        // So low that the noise is lost in rounding: phi itself ties.
        if caseClass == .ties && random.bool() { values = values.map { _ in random.chance(4) ? 0 : -1e9 } }
        let k =
            caseClass == .slots
            ? random.pick([0, v, v + 1, v + 5, max(0, v - 1)]) : random.below(min(v, 9) + 1)
        return Draft(stream(&random) + ["k": .integer(Int64(k))], [("logits", Tensor(values, shape: [n, v]))])
    }
}

let gumbelGenerators: [CaseGenerator] = [
    sampler("gumbel.topk"), sampler("gumbel.replacement"),
    CaseGenerator(
        "gumbel.softmax", [.random, .ties, .subnormals, .overflow, .tileEdge, .degenerate]
    ) { caseClass, random in
        let (n, v) = sizes(caseClass, &random)
        let dy = (0..<n * v).map { _ in caseClass == .subnormals ? random.float(0...2) : random.float(118...128) }
        // A colder one would divide the largest logits to infinity.
        let tau: Float =
            caseClass == .overflow ? random.pick([1, 7, 1e30]) : random.pick([1, 0.1, 0.5, 7, 1.3, 0x1p-10])
        return Draft(
            stream(&random) + entries("tau", tau),
            [("logits", Tensor(logits(n, v, caseClass, &random), shape: [n, v])), ("dy", Tensor(dy, shape: [n, v]))])
    },
]
