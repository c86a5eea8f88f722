import Cases

func randomFiles(_ builder: CaseBuilder) -> [GoldenFilePlan] {
    let tier = builder.tier
    var cases: [GoldenCase] = []

    // Random123's published known answers, then seeded keys and counters.
    let pi: [UInt32] = [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344, 0xA409_3822, 0x299F_31D0]
    let ones = [UInt32](repeating: .max, count: 6)
    let zeros = [UInt32](repeating: 0, count: 6)
    func philox(_ name: String, _ why: String, _ rows: [[UInt32]]) {
        // A row is four counter words and two key words.
        cases.append(
            builder.makeCase(
                name, "random.philox", why: why,
                inputs: [
                    NamedTensor("key", Tensor(rows.flatMap { [$0[4], $0[5]] }, shape: [rows.count, 2])),
                    NamedTensor("counter", Tensor(rows.flatMap { Array($0[0..<4]) }, shape: [rows.count, 4])),
                ]))
    }
    philox("philox-known-answers", "the vectors that Random123 publishes for philox4x32-10", [zeros, ones, pi])
    var random = builder.random("philox")
    philox(
        "philox-seeded", "seeded keys and counters: swapped words, a carry into the wrong lane",
        (0..<tier.pick(512, 8192, 131_072)).map { _ in random.words(6) })
    philox(
        "philox-single-bits", "each counter and key bit alone: a word read in the wrong place",
        (0..<192).map { bit in (0..<6).map { $0 == bit / 32 ? 1 << UInt32(bit % 32) : 0 } })

    let edges: [UInt32] = [
        0, 1, 2, 0x1FF, 0x200, 0x201, 0x3FF, 0x400, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FDFF, 0xFFFF_FE00,
        0xFFFF_FFFD, 0xFFFF_FFFE, 0xFFFF_FFFF,
    ]
    let powers = (0..<32).flatMap { bit -> [UInt32] in [1 << UInt32(bit), (1 << UInt32(bit)) &- 1, ~(1 << UInt32(bit))]
    }
    var words = builder.random("words")
    let sample = edges + powers + words.words(tier.pick(2048, 65_536, 1_000_000))
    for name in ["uniform", "gumbel"] {
        cases.append(
            builder.makeCase(
                "\(name)-edges-and-sample", "random.\(name)",
                why: name == "uniform"
                    ? "never 0 or 1; 23 bits and a half, not 24, not 32" : "the ends where -log(-log u) is steep",
                inputs: [NamedTensor("words", Tensor(sample, shape: [sample.count]))]))
    }
    var pairs: [UInt32] = []
    for first in edges { for second in edges { pairs += [first, second] } }
    pairs += words.words(tier.pick(2048, 65_536, 1_000_000))
    cases.append(
        builder.makeCase(
            "normal-edges-and-sample", "random.normal",
            why: "the first word makes the radius, the second the angle: swapped or reused words, radians for turns",
            inputs: [NamedTensor("words", Tensor(pairs, shape: [pairs.count / 2, 2]))]))
    return [builder.file("draws", cases)]
}
