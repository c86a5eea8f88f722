import BFloat16
import Prover
import Testing

/// One proof of `touchstone prove bf16`, in part.
struct ProofCase: Sendable, CustomTestStringConvertible {
    let operation: BFloat16Operation
    let rounding: String?
    let tininess: Tininess

    var testDescription: String {
        "\(operation.rawValue) \(rounding ?? "") \(tininess == .beforeRounding ? "tininess before" : "")"
    }

    static let all: [ProofCase] = BFloat16Operation.allCases.flatMap { operation -> [ProofCase] in
        if operation.roundings.isEmpty {
            return [ProofCase(operation: operation, rounding: nil, tininess: .afterRounding)]
        }
        return operation.roundings.flatMap { rounding in
            Tininess.allCases.map { ProofCase(operation: operation, rounding: rounding, tininess: $0) }
        }
    }
}

@Suite("Operations on bf16 against a second derivation (B6)")
struct SecondDerivationTests {
    @Test("results and flags, a shard of every operation in every mode; unary ones whole", arguments: ProofCase.all)
    func shards(_ one: ProofCase) throws {
        let proof = try BFloat16Proof(
            operation: one.operation, rounding: one.rounding, tininess: one.tininess, samples: 1 << 18)
        // About a quarter of a million cases each: all of the small ones, a part from the middle of the large ones.
        let parts = Int(max(1, min(proof.total >> 20, 4096)))
        let result = try proof.run(shard: try Shard(index: (parts + 1) / 2, count: parts))
        #expect(result.cases > 0)
        #expect(result.mismatches == 0, "\(result.firstMismatches.map(\.description).joined(separator: "\n"))")
    }
}

@Suite("bf16 by hand")
struct KnownAnswerTests {
    /// a + b in each mode: 1 + 2^-8 is half way between 1 and its successor.
    @Test(
        "a tie in every mode (B1)",
        arguments: [
            (RoundingMode.nearestEven, 0x3F80), (.towardZero, 0x3F80), (.down, 0x3F80), (.up, 0x3F81),
            (.nearestAway, 0x3F81),
            (.toOdd, 0x3F81), (.stochastic(random: 0x7FFF), 0x3F80), (.stochastic(random: 0x8000), 0x3F81),
        ] as [(RoundingMode, UInt16)])
    func tie(_ mode: RoundingMode, _ expected: UInt16) {
        var flags: Flags = []
        let sum = BFloat16.add(
            BFloat16(bitPattern: 0x3F80), BFloat16(bitPattern: 0x3B80), rounding: mode, flags: &flags)
        #expect(sum.bitPattern == expected, "\(mode.name): 0x\(String(sum.bitPattern, radix: 16))")
        #expect(flags == .inexact)
    }

    @Test(
        "overflow in every mode (B1, B2)",
        arguments: [
            (RoundingMode.nearestEven, 0x7F80), (.towardZero, 0x7F7F), (.down, 0x7F7F), (.up, 0x7F80),
            (.nearestAway, 0x7F80),
            (.toOdd, 0x7F7F), (.stochastic(random: 0), 0x7F80),
        ] as [(RoundingMode, UInt16)])
    func overflow(_ mode: RoundingMode, _ expected: UInt16) {
        var flags: Flags = []
        let greatest = BFloat16(bitPattern: 0x7F7F)
        #expect(BFloat16.add(greatest, greatest, rounding: mode, flags: &flags).bitPattern == expected, "\(mode.name)")
        #expect(flags == [.overflow, .inexact])
    }

    @Test("tininess before and after rounding part where a product rounds up to 2^-126 (B2)")
    func tininess() {
        // (1 - 2^-8) * 2^-126 + a little: 0x00FF... as 255/128 * 2^-64 times 255.5/256 * 2^-63 is not bf16; 129/128 * 127/128 ... is.
        let a = BFloat16(bitPattern: 0x20FF)  // 255/128 * 2^-62
        let b = BFloat16(bitPattern: 0x1F81)  // 129/128 * 2^-64
        var before: Flags = []
        var after: Flags = []
        let product = BFloat16.multiply(a, b, tininess: .beforeRounding, flags: &before)
        #expect(BFloat16.multiply(a, b, tininess: .afterRounding, flags: &after).bitPattern == product.bitPattern)
        // 255 * 129 / 2^14 * 2^-126 = 2.0077... * 2^-126: normal, no underflow either way.
        #expect(!before.contains(.underflow) && !after.contains(.underflow))
        // 255/128 * 2^-63 times 1.0039...: 255 * 128.5 has no bf16; the pair below gives (1 - 2^-16) * 2^-126.
        let c = BFloat16(bitPattern: 0x20FF)  // (2 - 2^-7) * 2^-62
        let d = BFloat16(bitPattern: 0x1F00)  // 2^-65
        var exact: Flags = []
        // (2 - 2^-7) * 2^-127 = (1 - 2^-8) * 2^-126: a tie between the greatest subnormal and 2^-126; with an unbounded exponent it is exact.
        let tied = BFloat16.multiply(c, d, flags: &exact)
        #expect(tied.bitPattern == 0x0080)
        #expect(exact == [.underflow, .inexact])
    }

    @Test("NaNs: one pattern out, signalling ones raise invalid (F2, B3)")
    func nans() {
        for bits in [0x7FC0, 0xFFC0, 0x7FFF] as [UInt16] {
            var flags: Flags = []
            let x = BFloat16(bitPattern: bits)
            #expect(BFloat16.add(x, x, flags: &flags).bitPattern == 0x7FC0)
            #expect(flags.isEmpty)
        }
        var flags: Flags = []
        #expect(BFloat16.add(BFloat16(bitPattern: 0x7F81), BFloat16(bitPattern: 0), flags: &flags).bitPattern == 0x7FC0)
        #expect(flags == .invalid)
        flags = []
        let fused = BFloat16.fusedMultiplyAdd(
            BFloat16(bitPattern: 0x7F80), BFloat16(bitPattern: 0), BFloat16(bitPattern: 0x7FC0), flags: &flags)
        #expect(fused.bitPattern == 0x7FC0)
        #expect(flags == .invalid, "fma(inf, 0, quiet NaN) raises invalid")
    }

    @Test(
        "x + (-x) is +0, and -0 rounding down alone (B3)", arguments: ["rne", "rtz", "rdn", "rup", "rna", "rto", "sr"])
    func exactZero(_ name: String) throws {
        let mode = try #require(RoundingMode(name: name, random: 0xFFFF))
        var flags: Flags = []
        let zero = BFloat16.add(
            BFloat16(bitPattern: 0x4049), BFloat16(bitPattern: 0xC049), rounding: mode, flags: &flags)
        #expect(zero.bitPattern == (name == "rdn" ? 0x8000 : 0))
        #expect(flags.isEmpty)
    }

    @Test(
        "conversions: overflow at half a unit above the greatest, payloads that would truncate to infinity, saturation (B5)"
    )
    func conversions() throws {
        var flags: Flags = []
        #expect(BFloat16.convert(floatBits: 0x7F7F_7FFF, flags: &flags).bitPattern == 0x7F7F)
        #expect(BFloat16.convert(floatBits: 0x7F7F_8000, flags: &flags).bitPattern == 0x7F80)
        #expect(BFloat16.convert(floatBits: 0x7F80_0001, flags: &flags).bitPattern == 0x7FC0)
        #expect(flags == [.inexact, .overflow, .invalid])
        flags = []
        #expect(try BFloat16.toInteger(BFloat16(bitPattern: 0x4380), as: UInt8.self, flags: &flags) == 255)
        #expect(flags == .invalid, "256 saturates UInt8")
        flags = []
        #expect(try BFloat16.toInteger(BFloat16(bitPattern: 0xC020), as: Int8.self, flags: &flags) == -2)
        #expect(flags == .inexact, "-2.5 is rounded")
        flags = []
        #expect(try BFloat16.toInteger(BFloat16(bitPattern: 0x7FC0), as: Int64.self, flags: &flags) == 0)
        #expect(flags == .invalid)
    }
}
