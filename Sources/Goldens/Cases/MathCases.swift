import Cases
import ExactMath

func mathFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    [
        builder.file("functions", MathFunction.allCases.flatMap { mathCases($0, builder) }),
        builder.file("edges", mathDoubleRoundingCases(builder)),
    ]
}

private func mathCases(_ function: MathFunction, _ builder: CaseBuilder) -> [GoldenCase] {
    let name = function.rawValue
    let recipe = boundConstants(n: 0)
    var cases: [GoldenCase] = []
    func add(_ suffix: String, _ why: String, _ x: [Float]) {
        cases.append(
            builder.makeCase(
                "\(name)-\(suffix)", "math.\(name)", why: why, recipe: recipe,
                inputs: [NamedTensor("x", Tensor(x, shape: [x.count]))]))
    }
    func both(_ magnitudes: [Float]) -> [Float] { magnitudes + magnitudes.map { -$0 } }

    add(
        "special-values", "zeros of both signs, infinities, NaNs, the ends of both ranges",
        both([
            0, .leastNonzeroMagnitude, Float(bitPattern: 0x007F_FFFF), .leastNormalMagnitude, 0.5, 1, 1.5, 2, 3, 4,
            .greatestFiniteMagnitude, .infinity, .nan, Float(bitPattern: 0x7F80_0001),
        ]))

    // Every binade: its ends, its middle, and seeded values.
    var random = builder.random("\(name)-binades")
    var binades: [Float] = []
    let each = builder.tier.pick(1, 64, 1024)
    for exponent in 0...254 {
        for significand in [0x00_0000, 0x7F_FFFF] as [UInt32] {
            binades.append(Float(bitPattern: UInt32(exponent) << 23 | significand))
        }
        for _ in 0..<each { binades.append(random.float(exponents: exponent...exponent)) }
    }
    add("every-binade", "both ends of every binade and values in it: range reduction and scaling", both(binades))

    // Where the function does something: its own domain, sampled densely.
    let domain: ClosedRange<Int> =
        switch function {
        case .exp, .expm1: 110...133
        case .log, .log1p: 100...150
        case .sqrt, .rsqrt, .reciprocal: 1...254
        case .sinPi, .cosPi: 110...149
        }
    var dense = builder.random("\(name)-domain")
    add(
        "domain", "seeded values where the result is neither trivial nor constant",
        dense.floats(builder.tier.pick(1024, 65_536, 1_000_000), exponents: domain))

    // Around the points where the function changes its nature.
    var points: [Float] =
        switch function {
        case .exp: [88.722839, 88.72283, -87.33654, -103.27893, -103.97208, 0.6931472, 5.9604645e-08, 2.9802322e-08]
        case .expm1: [88.722839, -17.32868, -16.635532, 0.6931472, 5.9604645e-08, 1e-5]
        case .log: [1, 2, 0.5, 2.7182817, 0.36787945, 1.4142135]
        case .log1p: [-1, -0.99999994, -0.5, 1, 5.9604645e-08, 1.7182817, -0.6321206]
        case .sqrt, .rsqrt, .reciprocal: [1, 2, 4, 0.25, 1.4142135, 3, 8.507059e+37, 1.7014118e+38]
        case .sinPi, .cosPi: [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 1 / 6, 1 / 3, 4_194_304, 8_388_608, 16_777_216]
        }
    points = both(points).flatMap { point in
        (-24...24).map { Float(bitPattern: point.bitPattern &+ UInt32(bitPattern: Int32($0))) }
    }
    add(
        "turning-points", "48 neighbours of each value where the function overflows, underflows, vanishes or turns",
        points)
    return cases
}
