import Cases
import ExactMath
import JSON

let mathGenerators: [CaseGenerator] = MathFunction.allCases.map { function in
    CaseGenerator(
        "math.\(function.rawValue)",
        [.random, .thresholds, .subnormals, .overflow, .specials, .patterns, .tileEdge, .degenerate]
    ) { caseClass, random in
        let n =
            caseClass == .degenerate
            ? random.below(2)
            : caseClass == .tileEdge ? random.edgeSize(atMost: FuzzRandom.longest) : 48 + random.below(64)
        // Where the function overflows, underflows, vanishes or turns.
        let points: [Float] =
            switch function {
            case .exp: [88.722839, -87.33654, -103.27893, -103.97208, 0.6931472, 5.9604645e-08, 2.9802322e-08]
            case .expm1: [88.722839, -17.32868, -16.635532, 0.6931472, 5.9604645e-08, 1e-5]
            case .log: [1, 2, 0.5, 2.7182817, 0.36787945, 1.4142135]
            case .log1p: [-1, -0.99999994, -0.5, 1, 5.9604645e-08, 1.7182817, -0.6321206]
            case .sqrt, .rsqrt, .reciprocal: [1, 2, 4, 0.25, 1.4142135, 3, 8.507059e+37, 1.7014118e+38]
            case .sinPi, .cosPi: [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 1 / 6, 1 / 3, 4_194_304, 8_388_608, 16_777_216]
            }
        let domain: ClosedRange<Int> =
            switch function {
            case .exp, .expm1: 110...133
            case .log, .log1p: 100...150
            case .sqrt, .rsqrt, .reciprocal: 1...254
            case .sinPi, .cosPi: 110...149
            }
        let isPositive = function == .log || function == .sqrt || function == .rsqrt
        let x = (0..<n).map { _ -> Float in
            switch caseClass {
            case .thresholds:
                switch function {
                case .sqrt, .rsqrt:
                    // Squares of 12 bits and beside them: exact roots, and roots near a rounding boundary.
                    if random.bool() {
                        let root = Float(random.integer(in: 1...4095))
                        return random.near(root * root, units: 1)
                    }
                default: break
                }
                return random.near(random.pick(points) * (random.chance(4) ? -1 : 1), units: 40)
            case .subnormals: return random.float(0...2)
            case .overflow: return random.float(250...254)
            case .specials: return random.special()
            case .patterns: return Float(bitPattern: random.word())
            default:
                let value = random.float(domain)
                return isPositive && !random.chance(8) ? value.magnitude : value
            }
        }
        return Draft(entries("kappa", 4) + ["n": .integer(0)], [("x", vector(x))])
    }
}

let randomGenerators: [CaseGenerator] = [
    CaseGenerator(
        "random.philox", [.random, .patterns, .tileEdge, .degenerate]
    ) { caseClass, random in
        let n = wordCount(caseClass, &random)
        return Draft(
            [:],
            [
                ("key", Tensor(words(2 * n, caseClass, &random), shape: [n, 2])),
                ("counter", Tensor(words(4 * n, caseClass, &random), shape: [n, 4])),
            ])
    },
    draws("random.uniform"), draws("random.gumbel"),
    CaseGenerator("random.normal", [.random, .patterns, .tileEdge, .degenerate]) {
        caseClass, random in
        let n = wordCount(caseClass, &random)
        return Draft([:], [("words", Tensor(words(2 * n, caseClass, &random), shape: [n, 2]))])
    },
]

private func draws(_ op: String) -> CaseGenerator {
    CaseGenerator(op, [.random, .patterns, .tileEdge, .degenerate]) { caseClass, random in
        Draft([:], [("words", vector(words(wordCount(caseClass, &random), caseClass, &random)))])
    }
}

private func wordCount(_ caseClass: CaseClass, _ random: inout FuzzRandom) -> Int {
    switch caseClass {
    case .degenerate: random.below(2)
    case .tileEdge: random.edgeSize(atMost: FuzzRandom.longest)
    default: 32 + random.below(64)
    }
}

/// Words; as patterns the ends of the range, single bits, and the last ones before the Gumbel tail is cut.
private func words(_ count: Int, _ caseClass: CaseClass, _ random: inout FuzzRandom) -> [UInt32] {
    (0..<count).map { _ in
        guard caseClass == .patterns else { return random.word() }
        let word = random.pick(
            [
                0, 1, 0x1FF, 0x200, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FE80, 0xFFFF_FE7F, .max,
                UInt32(1) << UInt32(random.below(32)),
            ] as [UInt32])
        return random.chance(3) ? word &+ UInt32(random.below(5)) &- 2 : word
    }
}
