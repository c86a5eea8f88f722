import Cases
import JSON
import ModelSpec

private let modes = RoundingName.allCases.map(\.rawValue)

/// Random bits of stochastic rounding: the ends as often as the rest.
private func roundingWords(_ count: Int, _ random: inout FuzzRandom) -> Tensor {
    vector(
        (0..<count).map { _ -> UInt16 in
            random.chance(3) ? random.pick([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]) : random.half()
        })
}

private func count(_ caseClass: CaseClass, _ random: inout FuzzRandom) -> Int {
    caseClass == .degenerate
        ? random.below(2) : random.chance(2) ? random.edgeSize(atMost: FuzzRandom.longest) : 64 + random.below(96)
}

/// A bf16 with a biased exponent, held inside the finite ones.
private func bf16(exponent: Int, _ random: inout FuzzRandom) -> UInt16 {
    let exponent = min(254, max(0, exponent))
    return random.bf16(exponent...exponent)
}

private func operands(_ op: String, _ caseClass: CaseClass, _ random: inout FuzzRandom) -> (UInt16, UInt16) {
    let isSum = op == "bf16.add" || op == "bf16.sub"
    switch caseClass {
    case .specials: return (random.specialBF16(), random.chance(3) ? random.half() : random.specialBF16())
    case .patterns: return (random.half(), random.half())
    case .cancellation:
        // Neighbours of equal or opposite sign.
        let a = random.bf16(1...253)
        return (a, a &+ UInt16(random.below(5)) &- 2 ^ (random.bool() ? 0x8000 : 0))
    case .ties:
        if op == "bf16.rem" {
            // x = (k + 1/2) y and beside it.
            let y = Float(random.integer(in: 1...15)) * 2
            let x = y * (Float(random.integer(in: 0...7)) + 0.5)
            return (FuzzRandom.bf16(x) ^ (random.bool() ? 0x8000 : 0), FuzzRandom.bf16(y))
        }
        if isSum {
            let a = random.bf16(20...240)
            // An odd number of half units of a.
            let half = Float(bitPattern: UInt32((a >> 7 & 0xFF) - 8) << 23)
            let b = FuzzRandom.bf16(half * Float(2 * random.below(4) + 1))
            return (a, (b &+ (random.chance(4) ? UInt16(random.below(3)) &- 1 : 0)) | (random.bool() ? 0x8000 : 0))
        }
        // Significands whose product ends in 1000...: a tie of multiplication.
        var (m, n): (Int, Int) = (0, 0)
        for _ in 0..<64 {
            (m, n) = (128 + random.below(128), 128 + random.below(128))
            let product = m * n
            let dropped = product >= 1 << 15 ? 8 : 7
            if product & ((1 << dropped) - 1) == 1 << (dropped - 1) { break }
        }
        let exponent = random.integer(in: 60...180)
        return (
            UInt16(exponent) << 7 | UInt16(m & 127) | (random.bool() ? 0x8000 : 0),
            UInt16(random.integer(in: 100...150)) << 7 | UInt16(n & 127)
        )
    case .subnormals:
        if isSum { return (random.bf16(0...3), random.bf16(0...3)) }
        let target = random.integer(in: -9...3)
        let first = random.integer(in: 1...125)
        if op == "bf16.mul" { return (bf16(exponent: first, &random), bf16(exponent: target + 127 - first, &random)) }
        if op == "bf16.div" { return (bf16(exponent: first, &random), bf16(exponent: first + 127 - target, &random)) }
        return (random.bf16(0...2), random.bf16(0...2))
    case .overflow:
        if isSum { return (random.bf16(251...254), random.bf16(245...254)) }
        let target = random.integer(in: 252...256)
        let first = random.integer(in: 130...254)
        if op == "bf16.mul" { return (bf16(exponent: first, &random), bf16(exponent: target + 127 - first, &random)) }
        if op == "bf16.div" { return (bf16(exponent: first, &random), bf16(exponent: first + 127 - target, &random)) }
        return (random.bf16(250...254), random.bf16(0...254))
    default: return (random.bf16(110...140), random.bf16(110...140))
    }
}

private func isStochastic(_ draft: Draft) -> Bool { draft.text("rounding") == "sr" }

@Sendable private func repairRandom(_ draft: inout Draft) {
    if !isStochastic(draft) { draft.drop("random") }
}

let bfloat16Generators: [CaseGenerator] =
    ["add", "sub", "mul", "div", "rem", "minimum", "maximum", "minimumNumber", "maximumNumber"].map { name in
        CaseGenerator(
            "bf16.\(name)",
            [.random, .ties, .subnormals, .overflow, .cancellation, .specials, .patterns, .degenerate],
            repair: repairRandom
        ) { caseClass, random in
            let n = count(caseClass, &random)
            let rounding = random.pick(modes)
            let pairs = (0..<n).map { _ in operands("bf16.\(name)", caseClass, &random) }
            var inputs = [("a", vector(bf16: pairs.map(\.0))), ("b", vector(bf16: pairs.map(\.1)))]
            if rounding == "sr" { inputs.append(("random", roundingWords(n, &random))) }
            return Draft(
                ["rounding": .string(rounding), "tininess": .string(random.pick(["after", "before"]))], inputs)
        }
    }
    + ["sqrt", "roundToIntegral", "nextUp", "nextDown"].map { name in
        CaseGenerator(
            "bf16.\(name)", [.random, .ties, .subnormals, .overflow, .specials, .patterns, .degenerate],
            repair: repairRandom
        ) { caseClass, random in
            let n = count(caseClass, &random)
            let rounding = random.pick(name == "sqrt" ? modes : modes.dropLast())
            let a = (0..<n).map { _ -> UInt16 in
                switch caseClass {
                case .ties where name == "sqrt":
                    // Squares and their neighbours.
                    let root = Float(random.integer(in: 1...15))
                    return FuzzRandom.bf16(root * root) &+ UInt16(random.below(3)) &- 1
                case .ties: return FuzzRandom.bf16(Float(random.integer(in: -255...255)) * random.pick([0.25, 0.5, 1]))
                case .subnormals: return random.bf16(0...2)
                case .overflow: return random.bf16(252...254)
                case .specials: return random.specialBF16()
                case .patterns: return random.half()
                default: return random.bf16(112...142)
                }
            }
            var inputs = [("a", vector(bf16: a))]
            if rounding == "sr" { inputs.append(("random", roundingWords(n, &random))) }
            return Draft(["rounding": .string(rounding)], inputs)
        }
    } + [fusedMultiplyAdd, compare, convertFrom, convertTo]

private let fusedMultiplyAdd = CaseGenerator(
    "bf16.fma", [.random, .ties, .subnormals, .overflow, .cancellation, .specials, .patterns, .degenerate],
    repair: repairRandom
) { caseClass, random in
    let n = count(caseClass, &random)
    let rounding = random.pick(modes)
    var (a, b, c): ([UInt16], [UInt16], [UInt16]) = ([], [], [])
    for _ in 0..<n {
        var (x, y) = operands("bf16.mul", caseClass == .cancellation ? .random : caseClass, &random)
        var z = random.bf16(110...140)
        switch caseClass {
        case .ties:
            // A product of few bits, half a unit of c; and c half a unit of the product.
            x = FuzzRandom.bf16(Float(2 * random.below(8) + 1))
            y = FuzzRandom.bf16(Float(bitPattern: UInt32(random.integer(in: 110...140)) << 23))
            let exponent = Int(y >> 7) + (random.bool() ? 8 : -8) + random.below(3)
            z = bf16(exponent: exponent, &random)
        case .cancellation:
            // c is the product rounded, negated, or a neighbour of it.
            let product = Float(bitPattern: UInt32(x) << 16) * Float(bitPattern: UInt32(y) << 16)
            z = FuzzRandom.bf16(-product) &+ UInt16(random.below(3)) &- 1
        case .subnormals: z = random.bf16(0...2)
        case .overflow: z = random.bf16(247...254)
        case .specials: z = random.specialBF16()
        case .patterns: z = random.half()
        default: break
        }
        a.append(x)
        b.append(y)
        c.append(z)
    }
    var inputs = [("a", vector(bf16: a)), ("b", vector(bf16: b)), ("c", vector(bf16: c))]
    if rounding == "sr" { inputs.append(("random", roundingWords(n, &random))) }
    return Draft(["rounding": .string(rounding)], inputs)
}

private let compare = CaseGenerator(
    "bf16.compare", [.random, .cancellation, .subnormals, .specials, .patterns, .degenerate]
) { caseClass, random in
    let pairs = (0..<count(caseClass, &random)).map { _ in operands("bf16.compare", caseClass, &random) }
    return Draft(
        ["signalling": .bool(random.bool())],
        [("a", vector(bf16: pairs.map(\.0))), ("b", vector(bf16: pairs.map(\.1)))])
}

private let types = ConversionType.allCases.map(\.rawValue)

/// A tensor of any type from the low bits of words.
private func vector(_ type: ElementType, _ bits: [UInt64]) -> Tensor {
    switch type {
    case .bf16: vector(bf16: bits.map { UInt16(truncatingIfNeeded: $0) })
    case .fp16: Tensor(fp16: bits.map { UInt16(truncatingIfNeeded: $0) }, shape: [bits.count])
    case .fp32: Tensor(fp32: bits.map { UInt32(truncatingIfNeeded: $0) }, shape: [bits.count])
    case .fp64: Tensor(fp64: bits, shape: [bits.count])
    case .int8: vector(bits.map { Int8(truncatingIfNeeded: $0) })
    case .int16: vector(bits.map { Int16(truncatingIfNeeded: $0) })
    case .int32: vector(bits.map { Int32(truncatingIfNeeded: $0) })
    case .int64: vector(bits.map { Int64(truncatingIfNeeded: $0) })
    case .uint8: vector(bits.map { UInt8(truncatingIfNeeded: $0) })
    case .uint16: vector(bits.map { UInt16(truncatingIfNeeded: $0) })
    case .uint32: vector(bits.map { UInt32(truncatingIfNeeded: $0) })
    case .uint64: vector(bits)
    }
}

private func source(_ type: ElementType, _ caseClass: CaseClass, _ random: inout FuzzRandom) -> UInt64 {
    // What is one unit beside half a unit of bf16, or on it.
    let beside = random.pick([-1, 0, 0, 1])
    switch (type, caseClass) {
    case (.fp32, .ties):
        return UInt64(bitPattern: Int64(random.float(90...160).bitPattern & ~0xFFFF | 0x8000) + Int64(beside))
    case (.fp32, .subnormals): return UInt64(random.float(0...1).bitPattern & ~UInt32(random.pick([0, 0x7FFF])))
    case (.fp32, .overflow):
        return UInt64(random.bool() ? random.float(253...254).bitPattern : 0x7F7F_7FFE + UInt32(random.below(5)))
    case (.fp32, .specials): return UInt64(random.special().bitPattern)
    case (.fp64, .ties), (.fp64, .subnormals), (.fp64, .overflow):
        let exponent =
            caseClass == .ties
            ? random.integer(in: 1000...1050)
            : caseClass == .subnormals ? random.integer(in: 884...899) : random.integer(in: 1148...1152)
        let head = UInt64(exponent) << 52 | random.wide() & 0x800F_F000_0000_0000
        // Half a unit of bf16 and, twice as far down, what rounding through fp32 first would lose.
        let tail = random.pick(
            [1 << 44, (1 << 44) + (1 << 15), (1 << 44) - (1 << 15), 1 << 45, 0, 1 << 28] as [UInt64])
        // Negative zero's word minus 1 would be a NaN.
        return head | (beside < 0 && tail > 0 ? tail - 1 : tail + (beside > 0 ? 1 : 0))
    case (.fp64, .specials):
        let special = random.pick(
            [
                0, 1, 0x000F_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000, 0x3FF0_0000_0000_0000, 0x7FEF_FFFF_FFFF_FFFF,
                0x7FF0_0000_0000_0000, 0x7FF8_0000_0000_0000, 0x7FF0_0000_0000_0001,
            ] as [UInt64])
        return special | (random.bool() ? 1 << 63 : 0)
    case (.fp64, .random): return Double(random.float(100...150)).bitPattern | random.wide() & 0x1FFF_FFFF
    case (.fp16, .subnormals): return UInt64(random.half() & 0x83FF)
    case (.fp16, .specials):
        return UInt64(
            random.pick([0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0x7C00, 0x7E00, 0x7C01]) | (random.bool() ? 0x8000 : 0)
                as UInt16)
    case (.fp16, .ties): return UInt64(random.half() & 0xFFF8 | random.pick([3, 4, 5, 12]))
    case (.fp32, .random): return UInt64(random.float(100...150).bitPattern)
    case (_, .ties) where !type.isFloatingPoint:
        // m 2^s with a significand of nine bits, the last one set; and beside it.
        let width = 8 * type.byteWidth
        guard width > 9 else { return random.wide() }
        let value = UInt64(257 + 2 * random.below(127)) << UInt64(random.below(width - 9))
        let signed = UInt64(bitPattern: Int64(bitPattern: value) &+ Int64(beside))
        return random.bool() ? 0 &- signed : signed
    case (_, .specials), (_, .overflow):
        if type.isFloatingPoint { return random.wide() }
        let top = UInt64(1) << UInt64(8 * type.byteWidth - 1)
        return random.pick([0, 1, 2, .max, top, top - 1, top + 1, .max - 1])
    default: return random.wide()
    }
}

private let convertFrom = CaseGenerator(
    "bf16.from", [.random, .ties, .subnormals, .overflow, .specials, .patterns, .degenerate],
    repair: repairRandom
) { caseClass, random in
    let n = count(caseClass, &random)
    let rounding = random.pick(modes)
    let name = random.pick(types)
    let type = ElementType(rawValue: name) ?? .fp32
    var inputs = [("a", vector(type, (0..<n).map { _ in source(type, caseClass, &random) }))]
    if rounding == "sr" { inputs.append(("random", roundingWords(n, &random))) }
    return Draft(["rounding": .string(rounding), "source": .string(name)], inputs)
}

private let convertTo = CaseGenerator(
    "bf16.to", [.random, .ties, .subnormals, .overflow, .specials, .patterns, .degenerate]
) { caseClass, random in
    let n = count(caseClass, &random)
    let target = random.pick(types)
    let bits = ElementType(rawValue: target).map { 8 * $0.byteWidth } ?? 32
    let a = (0..<n).map { _ -> UInt16 in
        switch caseClass {
        case .ties:
            // Halves of integers; for fp16 values in its subnormal range.
            target == "fp16"
                ? random.bf16(100...114)
                : FuzzRandom.bf16(Float(random.integer(in: -255...255)) * random.pick([0.25, 0.5]))
        case .subnormals: random.bf16(0...2)
        case .overflow:
            // About the ends of the target's range.
            target == "fp16" ? random.bf16(141...143) : random.bf16(127 + bits - 2...min(254, 127 + bits))
        case .specials: random.specialBF16()
        case .patterns: random.half()
        default: random.bf16(110...150)
        }
    }
    return Draft(
        ["rounding": .string(random.pick(modes.dropLast())), "target": .string(target)], [("a", vector(bf16: a))])
}
