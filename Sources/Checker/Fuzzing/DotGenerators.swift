import Cases
import JSON
import ModelSpec

/// The constants of the policy `bound` for sums of n terms (Q3).
private func boundConstants(_ n: Int) -> [String: JSONValue] { entries("kappa", 4) + ["n": .integer(Int64(n))] }

/// Keeps `n` of Q3 what the case's own length is.
private func repairLength(_ draft: inout Draft, _ name: String, _ axis: Int) {
    if let tensor = draft.inputs[name], draft.recipe["n"] != nil {
        draft.recipe["n"] = .integer(Int64(tensor.shape[axis]))
    }
}

/// The format of a result, in one case of three another one than fp32.
func storedFormat(_ key: String, _ random: inout FuzzRandom) -> [String: JSONValue] {
    random.chance(3) ? [key: .string(random.pick(["bf16", "fp16"]))] : [:]
}

let dotGenerators: [CaseGenerator] =
    [
        CaseGenerator(
            "dot.gemm",
            [.random, .ties, .subnormals, .overflow, .cancellation, .specials, .tileEdge, .degenerate],
            repair: { repairLength(&$0, "a", 1) }
        ) { caseClass, random in
            var (m, k, n) = (1 + random.below(8), 1 + random.below(24), 1 + random.below(20))
            switch caseClass {
            case .tileEdge:
                // One long side at a time: tiles of rows, of columns, and blocks along K.
                let sizes = [random.edgeSize(atMost: 17), random.edgeSize(atMost: 17), random.edgeSize(atMost: 33)]
                let long = random.below(3)
                m = long == 0 ? random.edgeSize(atMost: FuzzRandom.longest) : sizes[0]
                n = long == 1 ? random.edgeSize(atMost: FuzzRandom.longest) : sizes[1]
                k = long == 2 ? random.pick([63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513]) : sizes[2]
            case .degenerate: (m, k, n) = (random.below(2), random.below(2), random.below(2))
            case .cancellation: k = 2 * (1 + random.below(12))
            default: break
            }
            var (a, b): ([UInt16], [UInt16])
            // D1 decides what is flushed after rounding with an unbounded exponent: sums that a term of about 2^-150 takes just below 2^-126.
            let isLeastNormal = caseClass == .subnormals && random.chance(3)
            switch caseClass {
            case .subnormals where isLeastNormal:
                // Odd products are 2^-126 of either sign, even ones 2^-152 to 2^-148.
                a = (0..<m * k).map { index in
                    index % max(1, k) % 2 == 1 ? random.pick([0x2000, 0xA000]) : random.bf16(46...48)
                }
                b = (0..<k * n).map { index in
                    index / max(1, n) % 2 == 1 ? 0x2000 : random.pick([0x1C00, 0x1C80, 0x9C00])
                }
            case .subnormals:
                // Products about 2^-126, and factors that are subnormal themselves.
                let first = random.integer(in: 0...120)
                a = random.bf16s(m * k, max(0, first - 2)...first + 2)
                b = random.bf16s(k * n, max(0, 126 - first - 4)...130 - first)
            case .overflow:
                let first = random.integer(in: 130...250)
                a = random.bf16s(m * k, first - 2...min(254, first + 2))
                b = random.bf16s(k * n, max(1, 378 - first)...min(254, 382 - first))
            case .cancellation:
                a = random.bf16s(m * k, 110...144)
                b = random.bf16s(k * n, 125...129)
                // The second of two factors is the first's negation or beside it, the columns repeat.
                for index in a.indices where index % 2 == 1 {
                    a[index] = (a[index - 1] ^ 0x8000) &+ UInt16(random.below(3)) &- 1
                }
                for row in stride(from: 1, to: k, by: 2) {
                    for column in 0..<n { b[row * n + column] = b[(row - 1) * n + column] }
                }
            case .specials:
                // One element in eight, so that some sums stay finite.
                a = (0..<m * k).map { _ in random.chance(8) ? random.specialBF16() : random.bf16(120...134) }
                b = (0..<k * n).map { _ in random.chance(8) ? random.specialBF16() : random.bf16(120...134) }
            case .ties:
                // An accumulator of 2^24 and products of odd halves: every addition is a tie or beside one.
                a = (0..<m * k).map { _ in FuzzRandom.bf16(Float(random.integer(in: -3...3))) }
                b = (0..<k * n).map { _ in
                    FuzzRandom.bf16(Float(random.integer(in: -3...3)) * random.pick([0.5, 1, 0x1p23]))
                }
            default:
                a = random.bf16s(m * k, 115...139)
                b = random.bf16s(k * n, 115...139)
            }
            var inputs = [("a", Tensor(bf16: a, shape: [m, k])), ("b", Tensor(bf16: b, shape: [k, n]))]
            if random.bool() {
                let c = (0..<m * n).map { _ -> Float in
                    switch caseClass {
                    case .specials: random.special()
                    case .subnormals where isLeastNormal:
                        random.near(.leastNormalMagnitude) * (random.bool() ? 1 : -1)
                    case .subnormals: random.float(0...3)
                    case .ties: 0x1p24 + Float(random.integer(in: -4...4))
                    case .overflow: random.float(250...254)
                    default: random.float(115...139)
                    }
                }
                inputs.append(("c", Tensor(c, shape: [m, n])))
            }
            return Draft(
                boundConstants(k) + ["dot": .string(random.pick(DotRecipe.allCases).rawValue)]
                    + storedFormat("output", &random), inputs)
        }
    ]
    + ["lane16", "lane16x4096", "chain"].map { order in
        CaseGenerator(
            "sum.\(order)",
            [.random, .ties, .subnormals, .overflow, .cancellation, .specials, .tileEdge, .degenerate],
            repair: { repairLength(&$0, "x", 1) }
        ) { caseClass, random in
            var (m, n) = (1 + random.below(4), 1 + random.below(80))
            switch caseClass {
            case .tileEdge where order == "lane16x4096":
                (m, n) = (1, random.pick([4095, 4096, 4097, 4111, 4112, 4113, 8191, 8192, 8193]))
            case .tileEdge: n = random.edgeSize(atMost: FuzzRandom.longest)
            case .degenerate: (m, n) = (random.below(2), random.below(2))
            default: break
            }
            let hasProducts = random.bool()
            var x = (0..<m * n).map { _ -> Float in
                switch caseClass {
                case .specials: random.chance(12) ? random.special() : random.float(118...132)
                case .subnormals: hasProducts ? random.float(58...66) : random.float(0...2)
                case .overflow: hasProducts ? random.float(188...192) : random.float(250...254)
                case .ties: random.pick([1, -1, 0x1p24, -0x1p24, 3, 0.5])
                default: random.float(112...140)
                }
            }
            if caseClass == .cancellation {
                // Each value is followed, at some distance, by its negation.
                for index in stride(from: 1, to: x.count, by: 2) { x[index] = -random.near(x[index - 1], units: 1) }
            }
            var inputs = [("x", Tensor(x, shape: [m, n]))]
            if hasProducts {
                let y = (0..<m * n).map { _ -> Float in
                    switch caseClass {
                    case .subnormals: random.float(58...66)
                    case .overflow: random.float(188...190)
                    case .ties: random.pick([1, -1, 0.5])
                    case .cancellation: 1.25
                    case .specials: random.chance(12) ? random.special() : random.float(118...132)
                    default: random.float(118...132)
                    }
                }
                inputs.append(("y", Tensor(y, shape: [m, n])))
            }
            return Draft(boundConstants(n), inputs)
        }
    }
