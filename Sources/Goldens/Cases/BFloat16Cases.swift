import Cases
import ModelSpec

// Operands chosen as a hardware verifier chooses them: a grid of boundary exponents and significands (TestFloat's
// idea), then sets aimed at one mistake each: ties, sticky bits, cancellation, both ends of the exponent range.

/// The bf16 values whose exponent or significand sits on a boundary, both signs, with infinities and NaNs.
///
/// Quick: 11 exponents x 5 significands. Wider tiers add exponents and significands.
private func boundaryGrid(_ tier: Tier) -> [UInt16] {
    let exponents: [UInt16] = tier.pick(
        [0, 1, 2, 8, 120, 126, 127, 128, 135, 253, 254],
        [
            0, 1, 2, 7, 8, 9, 63, 64, 118, 119, 120, 125, 126, 127, 128, 129, 133, 134, 135, 190, 191, 246, 252, 253,
            254,
        ],
        [
            0, 1, 2, 3, 6, 7, 8, 9, 10, 32, 63, 64, 65, 96, 117, 118, 119, 120, 124, 125, 126, 127, 128, 129, 130, 133,
            134, 135, 136, 160, 189, 190, 191, 192, 222, 245, 246, 247, 251, 252, 253, 254,
        ])
    let significands: [UInt16] = tier.pick(
        [0x00, 0x01, 0x40, 0x55, 0x7F],
        [0x00, 0x01, 0x02, 0x2A, 0x3F, 0x40, 0x41, 0x55, 0x7E, 0x7F],
        [
            0x00, 0x01, 0x02, 0x03, 0x04, 0x10, 0x2A, 0x35, 0x3E, 0x3F, 0x40, 0x41, 0x42, 0x55, 0x60, 0x7C, 0x7D, 0x7E,
            0x7F,
        ])
    var values: [UInt16] = []
    for sign in [0x0000, 0x8000] as [UInt16] {
        for exponent in exponents {
            for significand in significands { values.append(sign | exponent << 7 | significand) }
        }
        // Infinity, the canonical NaN, a quiet NaN with a payload, signalling NaNs.
        values += [0x7F80, 0x7FC0, 0x7FFF, 0x7F81, 0x7FBF].map { sign | $0 }
    }
    return values
}

/// The bf16 with these fields.
private func pattern(negative: Bool, exponent: Int, significand: Int) -> UInt16 {
    (negative ? 0x8000 : 0) | UInt16(exponent) << 7 | UInt16(significand)
}

/// What a set of operand pairs is there to catch, and the pairs.
private struct PairSet {
    let name: String
    let why: String
    let pairs: [(UInt16, UInt16)]
}

/// Every pair of the grid: one operand from the whole grid, the other from it too.
private func gridPairs(_ tier: Tier) -> PairSet {
    let grid = boundaryGrid(tier)
    var pairs: [(UInt16, UInt16)] = []
    for a in grid { for b in grid { pairs.append((a, b)) } }
    return PairSet(
        name: "boundary-grid",
        why:
            "every pair of boundary exponents and significands, zeros, infinities and NaNs: the wrong branch of any rule",
        pairs: pairs)
}

/// a + b whose exact sum is half a unit in the last place from two neighbours, and the pairs just beside that tie.
private func tiePairs(_ random: CaseRandom, count: Int) -> PairSet {
    var random = random
    var pairs: [(UInt16, UInt16)] = []
    while pairs.count < count {
        let exponent = UInt16(random.integer(in: 20...250))
        let a = exponent << 7 | random.half() & 0x7F | random.half() & 0x8000
        // One bit below the last place of a, with the bits under it set to -1, 0 or +1 of b's last place.
        let half = UInt16(Int(exponent - 8) << 7 + random.integer(in: -1...1))
        pairs.append((a, half | random.half() & 0x8000))
    }
    return PairSet(
        name: "tie-and-its-neighbours",
        why:
            "sums exactly half way between two bf16 and one unit beside it: round half up, half down, or ties by a lost bit",
        pairs: pairs)
}

/// A large operand and one far below its last place: only the sticky bit can see the small one.
private func stickyPairs(_ random: CaseRandom, count: Int) -> PairSet {
    var random = random
    var pairs: [(UInt16, UInt16)] = []
    while pairs.count < count {
        let exponent = random.integer(in: 30...254)
        let distance = random.element(of: [9, 10, 11, 15, 16, 17, 23, 24, 25, 31, 32, 33, 63, 64, 65, 127, 200])
        let small = max(0, exponent - distance)
        let a = UInt16(exponent) << 7 | random.half() & 0x807F
        let b = UInt16(small) << 7 | random.half() & 0x807F
        pairs.append(random.bool() ? (a, b) : (b, a))
    }
    return PairSet(
        name: "sticky-bit-far-below",
        why:
            "one operand many places below the other: a shift that drops or wraps the sticky bit shows in the directed modes",
        pairs: pairs)
}

/// Nearly equal magnitudes of opposite sign.
private func cancellationPairs(_ random: CaseRandom, count: Int) -> PairSet {
    var random = random
    var pairs: [(UInt16, UInt16)] = []
    while pairs.count < count {
        let a = random.bf16(exponents: 0...254)
        let magnitude = Int(a & 0x7FFF) + random.element(of: [-129, -128, -127, -2, -1, 0, 1, 2, 127, 128, 129])
        guard (0..<0x7F80).contains(magnitude) else { continue }
        pairs.append((a, UInt16(magnitude) | ~a & 0x8000))
    }
    return PairSet(
        name: "cancellation",
        why:
            "a + b with nearly equal magnitudes: normalisation after cancellation, the sign of an exact zero, subnormal results",
        pairs: pairs)
}

/// Pairs whose product or quotient lies near the overflow threshold.
private func overflowPairs(_ random: CaseRandom, count: Int, quotient: Bool) -> PairSet {
    var random = random
    var pairs: [(UInt16, UInt16)] = []
    while pairs.count < count {
        let first = random.integer(in: 128...254)
        let target = random.element(of: [253, 254, 254, 255, 255, 256])
        let second = quotient ? first - target + 127 : target - first + 127
        guard (1...254).contains(second) else { continue }
        pairs.append(
            (UInt16(first) << 7 | random.half() & 0x807F, UInt16(second) << 7 | random.half() & 0x807F))
    }
    return PairSet(
        name: quotient ? "quotient-at-overflow" : "product-at-overflow",
        why: "results around the largest finite bf16: which modes give infinity, which the largest finite value",
        pairs: pairs)
}

/// Pairs whose product or quotient lies near the smallest normal or below it.
private func underflowPairs(_ random: CaseRandom, count: Int, quotient: Bool) -> PairSet {
    var random = random
    var pairs: [(UInt16, UInt16)] = []
    while pairs.count < count {
        let first = random.integer(in: 1...126)
        let target = random.element(of: [-9, -8, -7, -4, -1, 0, 0, 0, 1, 1])
        let second = quotient ? first - target + 127 : target - first + 127
        guard (1...254).contains(second) else { continue }
        // Significands near all ones make products that round up to the smallest normal: tininess before or after.
        let mask: UInt16 = random.bool() ? 0x78 : 0
        pairs.append(
            (
                UInt16(first) << 7 | random.half() & 0x807F | mask, UInt16(second) << 7 | random.half() & 0x807F | mask
            ))
    }
    return PairSet(
        name: quotient ? "quotient-at-underflow" : "product-at-underflow",
        why:
            "results around and below 2^-126: gradual underflow, flush to zero, double rounding, tininess before or after rounding",
        pairs: pairs)
}

/// Products of every two significands just below 2^-126 that round up to it with 8 bits.
private func productsRoundingToNormal() -> PairSet {
    var pairs: [(UInt16, UInt16)] = []
    for a in 128..<256 {
        for b in 128..<256 where (32_705..<32_768).contains(a * b) {
            let exponent = 1 + (a + b) % 126
            pairs.append(
                (
                    pattern(negative: a % 2 == 1, exponent: exponent, significand: a - 128),
                    pattern(negative: false, exponent: 127 - exponent, significand: b - 128)
                ))
        }
    }
    return PairSet(
        name: "product-rounding-to-normal",
        why:
            "products below 2^-126 that round up to it: small before rounding, not after, which the underflow flag tells",
        pairs: pairs)
}

private func randomPairs(_ random: CaseRandom, count: Int) -> PairSet {
    var random = random
    return PairSet(
        name: "random-bits", why: "uniform random bit patterns: what nobody thought of",
        pairs: (0..<count).map { _ in (random.half(), random.half()) })
}

/// Several sets as one, under a name and a reason that say so.
private func joined(_ sets: [PairSet]) -> PairSet {
    PairSet(
        name: sets.map(\.name).joined(separator: "-and-"), why: sets.map(\.why).joined(separator: "; "),
        pairs: sets.flatMap(\.pairs))
}

private let roundingNames = RoundingName.allCases.map(\.rawValue)

func bfloat16Files(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [
        builder.file("arithmetic", arithmeticCases(builder)),
        builder.file("remainder-minimum-maximum", selectionCases(builder)),
        builder.file("fused-multiply-add", fusedMultiplyAddCases(builder)),
        builder.file("unary", unaryCases(builder)),
        builder.file("compare", compareCases(builder)),
        builder.file("convert-from", convertFromCases(builder)),
        builder.file("convert-to", convertToCases(builder)),
        builder.file("edges", bfloat16DoubleRoundingCases(builder)),
    ]
}

private func pairCase(
    _ builder: CaseBuilder, _ op: String, _ set: PairSet, rounding: String, tininess: String = "after"
) -> GoldenCase {
    let suffix = tininess == "after" ? rounding : "\(rounding)-tininess-before"
    let name = "\(op.dropFirst("bf16.".count))-\(set.name)-\(suffix)"
    var inputs: TensorGroup = [
        NamedTensor("a", Tensor(bf16: set.pairs.map(\.0), shape: [set.pairs.count])),
        NamedTensor("b", Tensor(bf16: set.pairs.map(\.1), shape: [set.pairs.count])),
    ]
    if rounding == "sr" { inputs.append("random", stochasticBits(builder.random(name), count: set.pairs.count)) }
    return builder.makeCase(
        name, op, why: set.why, recipe: ["rounding": .string(rounding), "tininess": .string(tininess)],
        inputs: inputs)
}

/// Random bits for SR: the extremes and the middle as often as the rest.
private func stochasticBits(_ random: CaseRandom, count: Int) -> Tensor {
    var random = random
    let values: [UInt16] = (0..<count).map { _ in
        let word = random.half()
        return random.bool() ? word : [0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF][Int(word % 7)]
    }
    return Tensor(values, shape: [count])
}

private func arithmeticCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let tier = builder.tier
    let count = tier.pick(384, 8192, 131_072)
    let grid = gridPairs(tier)
    var cases: [GoldenCase] = []
    for (op, ends) in [
        ("bf16.add", false), ("bf16.sub", false), ("bf16.mul", true), ("bf16.div", true),
    ] {
        let quotient = op == "bf16.div"
        for rounding in roundingNames {
            // The whole grid in the default mode; a third of it, a different third each, in the others of the quick tier.
            let third = roundingNames.firstIndex(of: rounding)! % 3
            let thinned =
                rounding == "rne" || tier != .quick
                ? grid
                : PairSet(
                    name: grid.name, why: grid.why,
                    pairs: grid.pairs.enumerated().filter { $0.offset % 3 == third }.map(\.element))
            cases.append(pairCase(builder, op, thinned, rounding: rounding))
            func random(_ name: String) -> CaseRandom { builder.random("\(op)-\(name)") }
            let sets =
                ends
                ? [
                    overflowPairs(random("overflow"), count: count, quotient: quotient),
                    underflowPairs(random("underflow"), count: count, quotient: quotient),
                    randomPairs(random("random"), count: count),
                ]
                : [
                    tiePairs(random("tie"), count: count), stickyPairs(random("sticky"), count: count),
                    cancellationPairs(random("cancellation"), count: count),
                    randomPairs(random("random"), count: count),
                ]
            // A case costs kilobytes of its own: outside the default mode the quick tier has the sets as one.
            let judged = rounding == "rne" || tier != .quick ? sets : [joined(sets)]
            for set in judged { cases.append(pairCase(builder, op, set, rounding: rounding)) }
            if op == "bf16.mul" && rounding == "rne" {
                for tininess in ["after", "before"] {
                    cases.append(
                        pairCase(builder, op, productsRoundingToNormal(), rounding: rounding, tininess: tininess))
                }
            }
            if ends && (rounding == "rne" || rounding == "rup" || tier != .quick) {
                cases.append(
                    pairCase(
                        builder, op, underflowPairs(random("underflow"), count: count, quotient: quotient),
                        rounding: rounding, tininess: "before"))
            }
        }
    }
    return cases
}

private func selectionCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let grid = gridPairs(builder.tier)
    let random = randomPairs(builder.random("selection"), count: builder.tier.pick(2048, 32_768, 262_144))
    var cases: [GoldenCase] = []
    for op in ["bf16.rem", "bf16.minimum", "bf16.maximum", "bf16.minimumNumber", "bf16.maximumNumber"] {
        let half = builder.tier == .quick && op != "bf16.rem"
        let set =
            half
            ? PairSet(
                name: grid.name, why: grid.why,
                pairs: grid.pairs.enumerated().filter { $0.offset % 3 == 0 }.map(\.element)) : grid
        cases.append(pairCase(builder, op, set, rounding: "rne"))
        cases.append(pairCase(builder, op, random, rounding: "rne"))
    }
    var far: [(UInt16, UInt16)] = []
    var source = builder.random("remainder-far")
    for _ in 0..<builder.tier.pick(1024, 16_384, 131_072) {
        far.append((source.bf16(exponents: 150...254), source.bf16(exponents: 0...110)))
    }
    cases.append(
        pairCase(
            builder, "bf16.rem",
            PairSet(
                name: "quotient-of-hundreds-of-bits",
                why: "exponents far apart: a remainder through a rounded quotient is wrong", pairs: far),
            rounding: "rne"))
    return cases
}

private func fusedMultiplyAddCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let tier = builder.tier
    var cases: [GoldenCase] = []
    let values: [UInt16] = tier.pick(
        [
            0x0000, 0x8000, 0x0001, 0x007F, 0x0080, 0x80FF, 0x3F80, 0xBF80, 0x3F81, 0x3FFF, 0xC07F, 0x7F00, 0xFF7F,
            0x7F80, 0xFF80, 0x7FC0, 0x7F81,
        ],
        [
            0x0000, 0x8000, 0x0001, 0x8001, 0x0040, 0x007F, 0x0080, 0x0081, 0x80FF, 0x3580, 0x3F00, 0x3F7F, 0x3F80,
            0xBF80, 0x3F81, 0x3FFF, 0xC07F, 0x4380, 0x7E80, 0x7F00, 0xFF7F, 0x7F7F, 0x7F80, 0xFF80, 0x7FC0, 0x7F81,
            0xFFBF,
        ],
        boundaryGrid(.quick).enumerated().filter { $0.offset % 3 == 0 }.map(\.element))
    for rounding in roundingNames {
        func add(_ name: String, _ why: String, _ triples: [(UInt16, UInt16, UInt16)]) {
            let full = "fma-\(name)-\(rounding)"
            var inputs: TensorGroup = [
                NamedTensor("a", Tensor(bf16: triples.map(\.0), shape: [triples.count])),
                NamedTensor("b", Tensor(bf16: triples.map(\.1), shape: [triples.count])),
                NamedTensor("c", Tensor(bf16: triples.map(\.2), shape: [triples.count])),
            ]
            if rounding == "sr" { inputs.append("random", stochasticBits(builder.random(full), count: triples.count)) }
            cases.append(
                builder.makeCase(full, "bf16.fma", why: why, recipe: ["rounding": .string(rounding)], inputs: inputs))
        }
        var grid: [(UInt16, UInt16, UInt16)] = []
        for a in values { for b in values { for c in values { grid.append((a, b, c)) } } }
        add("special-values-cubed", "every triple of special values: 0 * inf, inf - inf, signed zeros, NaNs", grid)

        var random = builder.random("fma")
        let count = tier.pick(768, 16_384, 262_144)
        var cancelling: [(UInt16, UInt16, UInt16)] = []
        while cancelling.count < count {
            let a = random.bf16(exponents: 60...200)
            let b = random.bf16(exponents: 60...200)
            // c = -(a * b) truncated to bf16, moved by a few units: what is left is the product's low half.
            let product = Float(bitPattern: UInt32(a) << 16) * Float(bitPattern: UInt32(b) << 16)
            let truncated = UInt16(product.bitPattern >> 16)
            guard product.isFinite, truncated & 0x7F80 > 0x0400 else { continue }
            cancelling.append((a, b, (truncated ^ 0x8000) &+ UInt16(bitPattern: Int16(random.integer(in: -2...2)))))
        }
        add(
            "product-cancels",
            "c cancels the product's high half: an fma that rounds the product first loses what is left",
            cancelling)

        var double: [(UInt16, UInt16, UInt16)] = []
        while double.count < count {
            // a * b is half a unit of c exactly or nearly, c moves it: rounding through fp32 and then to bf16 can tie wrongly.
            let c = random.bf16(exponents: 60...200)
            let exponent = Int(c >> 7 & 0xFF)
            let ea = random.integer(in: 100...140)
            let eb = exponent - 8 + 127 - ea
            guard (1...254).contains(eb) else { continue }
            let significand = random.element(of: [0x00, 0x01, 0x7F, 0x40] as [UInt16])
            double.append(
                (
                    UInt16(ea) << 7 | significand | random.half() & 0x8000,
                    UInt16(eb) << 7 | random.element(of: [0x00, 0x01, 0x7F] as [UInt16]), c
                ))
        }
        add(
            "product-at-half-a-unit",
            "the product is about half a unit in the last place of c: ties, near ties, and the double rounding of fp32 then bf16",
            double)

        var tiny: [(UInt16, UInt16, UInt16)] = []
        while tiny.count < count {
            let ea = random.integer(in: 1...126)
            let eb = random.integer(in: 1...126)
            tiny.append(
                (
                    UInt16(ea) << 7 | random.half() & 0x807F, UInt16(eb) << 7 | random.half() & 0x807F,
                    random.bf16(exponents: 0...9)
                ))
        }
        add("subnormal-result", "results around 2^-126: gradual underflow and the underflow flag", tiny)
        add(
            "random-bits", "uniform random bit patterns",
            (0..<count).map { _ in (random.half(), random.half(), random.half()) })
    }
    return cases
}

private func unaryCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let everyBits: [UInt16] = (0...65535).map { UInt16($0) }
    let grid = boundaryGrid(.full)
    var cases: [GoldenCase] = []
    func add(_ op: String, _ name: String, _ why: String, _ values: [UInt16], _ rounding: String) {
        let full = "\(op)-\(name)-\(rounding)"
        var inputs: TensorGroup = [NamedTensor("a", Tensor(bf16: values, shape: [values.count]))]
        if rounding == "sr" { inputs.append("random", stochasticBits(builder.random(full), count: values.count)) }
        cases.append(
            builder.makeCase(full, "bf16.\(op)", why: why, recipe: ["rounding": .string(rounding)], inputs: inputs))
    }
    let all = "all 65,536 bit patterns: nothing is left to chance"
    let some = "boundary exponents and significands, every rounding mode"
    for rounding in roundingNames {
        let every = rounding == "rne" || builder.tier != .quick
        add("sqrt", every ? "all-inputs" : "boundary-grid", every ? all : some, every ? everyBits : grid, rounding)
        if rounding != "sr" {
            // Magnitudes from 1/4 to 2^9, where a bf16 can have a fraction.
            let halves = (0..<2048).map { index in
                pattern(negative: index >= 1536, exponent: 125 + index / 128 % 12, significand: index % 128)
            }
            add(
                "roundToIntegral", every ? "all-inputs" : "fractions", every ? all : some,
                every ? everyBits : halves + grid, rounding)
        }
    }
    let neighbours = builder.tier == .quick ? grid : everyBits
    let name = builder.tier == .quick ? "boundary-grid" : "all-inputs"
    add("nextUp", name, builder.tier == .quick ? some : all, neighbours, "rne")
    add("nextDown", name, builder.tier == .quick ? some : all, neighbours, "rne")
    return cases
}

private func compareCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let grid = gridPairs(builder.tier)
    return [false, true].map { signalling in
        builder.makeCase(
            "compare-boundary-grid-\(signalling ? "signalling" : "quiet")", "bf16.compare",
            why: "every pair of boundary values: -0 = +0, unordered NaNs, and which NaNs raise invalid",
            recipe: ["signalling": .bool(signalling)],
            inputs: [
                NamedTensor("a", Tensor(bf16: grid.pairs.map(\.0), shape: [grid.pairs.count])),
                NamedTensor("b", Tensor(bf16: grid.pairs.map(\.1), shape: [grid.pairs.count])),
            ])
    }
}

// MARK: Conversions

private func convertFromCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let tier = builder.tier
    var cases: [GoldenCase] = []
    let targets = boundaryGrid(tier == .quick ? .quick : .standard).filter { $0 & 0x7FFF < 0x7F80 }
    for rounding in roundingNames {
        func add(_ source: String, _ name: String, _ why: String, _ a: Tensor) {
            let full = "\(source)-\(name)-\(rounding)"
            var inputs: TensorGroup = [NamedTensor("a", a)]
            if rounding == "sr" { inputs.append("random", stochasticBits(builder.random(full), count: a.count)) }
            cases.append(
                builder.makeCase(
                    full, "bf16.from", why: why,
                    recipe: ["source": .string(source), "rounding": .string(rounding)], inputs: inputs))
        }

        // Beside and on every rounding boundary near a bf16 value: the value, the tie above, and one unit to each side.
        var near32: [UInt32] = []
        var near64: [UInt64] = []
        for target in targets {
            for low in [0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF] as [UInt32] {
                near32.append(UInt32(target) << 16 | low)
            }
            let wide = Double(Float(bitPattern: UInt32(target) << 16)).bitPattern
            let half: UInt64 = 1 << 44
            for delta in [0, 1, half - 1, half, half + 1, 2 * half - 1] as [UInt64] { near64.append(wide + delta) }
            // Above the tie by less than fp32 can hold: rounding twice falls back onto the tie.
            near64.append(wide + half + (1 << 20))
            near64.append(wide + half - (1 << 20))
        }
        let special32: [UInt32] = [
            0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0xFFC0_0001, 0x7F80_0001, 0x7F80_8000, 0x7FBF_FFFF, 0x7FFF_FFFF,
            0x7F7F_7FFF, 0x7F7F_8000, 0x7F7F_FFFF, 0xFF7F_8000, 0x0000_0001, 0x0000_8000, 0x0000_8001, 0x8000_7FFF,
            0x007F_FFFF, 0x007F_8000, 0x007F_7FFF, 0x0080_0000,
        ]
        add(
            "fp32", "ties-and-neighbours",
            "on and beside every boundary of rounding, NaNs whose payload truncates to nothing, overflow at 0x7F7F8000, subnormals",
            Tensor(fp32: near32 + special32, shape: [near32.count + special32.count]))
        var random = builder.random("from-\(rounding)")
        let count = tier.pick(1024, 32_768, 524_288)
        add("fp32", "random-bits", "uniform random bit patterns", Tensor(fp32: random.words(count), shape: [count]))

        let special64: [UInt64] = [
            0x7FF0_0000_0000_0000, 0xFFF0_0000_0000_0000, 0x7FF8_0000_0000_0000, 0x7FF0_0000_0000_0001,
            0xFFF4_0000_0000_0000, 0x7FEF_FFFF_FFFF_FFFF, 0x47EF_F000_0000_0000, 0x47EF_EFFF_FFFF_FFFF,
            0x47EF_E000_0000_0000, 0x47F0_0000_0000_0000, 0x0000_0000_0000_0001, 0x8000_0000_0000_0001,
            0x3790_0000_0000_0000, 0x3790_0000_0000_0001, 0x377F_FFFF_FFFF_FFFF, 0x3780_0000_0000_0000,
            0x37A0_0000_0000_0000, 0x380F_FFFF_FFFF_FFFF, 0x000F_FFFF_FFFF_FFFF,
        ]
        let some64: [UInt64] = (0..<count / 2).map { _ in
            // Exponents around bf16's range, any significand.
            UInt64(random.integer(in: 880...1160)) << 52 | random.wide() & 0x800F_FFFF_FFFF_FFFF
        }
        add(
            "fp64", "ties-and-double-rounding",
            "beside the ties by one unit of fp64, and by so little that rounding through fp32 first makes a tie",
            Tensor(fp64: near64 + special64 + some64, shape: [near64.count + special64.count + some64.count]))

        if rounding == "rne" || tier != .quick {
            add(
                "fp16", "all-inputs", "all 65,536 bit patterns",
                Tensor(fp16: (0...65535).map { UInt16($0) }, shape: [65536]))
        } else {
            let low: [UInt16] = [0x000, 0x001, 0x003, 0x004, 0x005, 0x3FF, 0x3FC, 0x3FB]
            let some16 = (0..<2048).map { index -> UInt16 in
                let exponent = UInt16(index / 64) << 10
                let significand = low[index % 8] | UInt16(index / 8 % 8) << 4
                return exponent | significand | (index % 3 == 0 ? 0x8000 : 0)
            }
            add(
                "fp16", "ties-and-neighbours", "every exponent, last bits on and beside the tie",
                Tensor(fp16: some16, shape: [some16.count]))
        }

        add(
            "int8", "all-inputs", "every value", Tensor((0...255).map { Int8(bitPattern: UInt8($0)) }, shape: [256]))
        add("uint8", "all-inputs", "every value", Tensor((0...255).map { UInt8($0) }, shape: [256]))
        let why = "around powers of two and ties, both ends of the type"
        let magnitudes = integerMagnitudes()
        add("int16", "ties-and-ends", why, integerTensor(signed: magnitudes, Int16.self))
        add("int32", "ties-and-ends", why, integerTensor(signed: magnitudes, Int32.self))
        add("int64", "ties-and-ends", why, integerTensor(signed: magnitudes, Int64.self))
        add("uint16", "ties-and-ends", why, integerTensor(unsigned: magnitudes, UInt16.self))
        add("uint32", "ties-and-ends", why, integerTensor(unsigned: magnitudes, UInt32.self))
        add("uint64", "ties-and-ends", why, integerTensor(unsigned: magnitudes, UInt64.self))
    }
    return cases
}

/// Magnitudes whose leading nine bits are on or beside a tie.
private func integerMagnitudes() -> [UInt64] {
    var values: [UInt64] = [0]
    for position in 0..<64 {
        let power: UInt64 = 1 << UInt64(position)
        values += [power, power - 1, power &+ 1]
        guard position >= 8 else { continue }
        let half = power >> 8
        values += [power + half, power + half - 1, power + half &+ 1, power + 3 * half, power + (power - half)]
    }
    values.append(.max)
    return values
}

private func integerTensor<Element: FixedWidthInteger & SignedInteger & TensorInteger>(
    signed magnitudes: [UInt64], _: Element.Type
) -> Tensor {
    var values: [Element] = [.min, .min + 1, .max, .max - 1]
    for magnitude in magnitudes {
        guard let value = Element(exactly: magnitude) else { continue }
        values += [value, -value]
    }
    return Tensor(values, shape: [values.count])
}

private func integerTensor<Element: FixedWidthInteger & UnsignedInteger & TensorInteger>(
    unsigned magnitudes: [UInt64], _: Element.Type
) -> Tensor {
    let values: [Element] = [.max, .max - 1] + magnitudes.compactMap(Element.init(exactly:))
    return Tensor(values, shape: [values.count])
}

private func convertToCases(_ builder: CaseBuilder) -> [GoldenCase] {
    let everyBits: [UInt16] = (0...65535).map { UInt16($0) }
    let grid = boundaryGrid(builder.tier == .quick ? .quick : .full)
    // Magnitudes from 2^-2 to 2^65: the ends of every integer type and all fractions; and binary16's subnormals.
    let integers =
        grid
        + (0..<1088).map { index in
            pattern(negative: index % 2 == 0, exponent: 125 + index / 16 % 68, significand: index * 37 % 128)
        }
    let narrow =
        grid
        + (0..<1472).map { index in
            pattern(negative: index % 3 == 0, exponent: 100 + index / 32 % 46, significand: index * 37 % 128)
        }
    var cases: [GoldenCase] = []
    for target in ConversionType.allCases {
        for rounding in roundingNames where rounding != "sr" {
            let isFloat = [.fp16, .fp32, .fp64].contains(target)
            if [.fp32, .fp64].contains(target) && rounding != "rne" { continue }  // exact: one mode says it all
            let every = builder.tier != .quick || (rounding == "rne" && [.fp16, .fp32].contains(target))
            let values = every ? everyBits : isFloat ? narrow : integers
            cases.append(
                builder.makeCase(
                    "\(target.rawValue)-\(every ? "all-inputs" : "boundaries")-\(rounding)", "bf16.to",
                    why: every
                        ? "all 65,536 bit patterns"
                        : "saturation at both ends, fractions and ties, NaN and infinities, subnormals of the target",
                    recipe: ["target": .string(target.rawValue), "rounding": .string(rounding)],
                    inputs: [NamedTensor("a", Tensor(bf16: values, shape: [values.count]))]))
        }
    }
    return cases
}
