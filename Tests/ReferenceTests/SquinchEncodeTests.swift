import BFloat16
import ModelSpec
import Reference
import Testing

@Suite("Squinch: encode")
struct SquinchEncodeTests {
    /// The codes of a block's bytes.
    private func codes(_ bytes: [UInt8]) -> [UInt8] { bytes[2..<6].flatMap { [$0 & 15, $0 >> 4] } }

    /// The least fp32 with at least the k-th code: k^2 M / 256, or (2k - 1)^2 M / 900. Products of 34 bits, exact in fp64.
    private func leastMagnitude(_ k: Int, _ scale: Float, _ variant: SquinchVariant) -> Float {
        let (square, divisor) = variant == .floor16 ? (k * k, 256.0) : ((2 * k - 1) * (2 * k - 1), 900.0)
        let bound = Double(square) * Double(scale)
        var x = Float(bound / divisor).nextDown
        while divisor * Double(x) < bound { x = x.nextUp }
        return x
    }

    @Test(
        "S3: the boundary of every code under every scale, one unit below, at, one unit above",
        arguments: [SquinchVariant.floor16, .round15])
    func codeBoundaries(variant: SquinchVariant) throws {
        for q in 1...255 {
            let scale = SquinchTables.scales[q]
            // The largest magnitude with this scale byte keeps the scale in the block.
            let peak = q < 255 ? SquinchTables.thresholds[q].nextDown : scale
            for k in 1...15 {
                let x = leastMagnitude(k, scale, variant)
                let bytes = try Squinch.encode(
                    [peak, x.nextDown, x, x.nextUp, -x.nextDown, -x, -x.nextUp, 0], variant: variant)
                let (below, at) = (UInt8(k - 1), UInt8(k))
                #expect(bytes[0] == UInt8(q), "scale byte \(q), code \(k)")
                #expect(bytes[1] == 0b0111_0000, "scale byte \(q), code \(k)")
                #expect(
                    codes(bytes) == [15, below, at, at, below, at, at, 0],
                    "scale byte \(q), code \(k), least magnitude \(x) = \(hexadecimal(x.bitPattern))")
            }
        }
    }

    @Test("S1-S5: encoded blocks against a second derivation", arguments: SquinchVariant.allCases)
    func againstSecondDerivation(variant: SquinchVariant) throws {
        let seed: UInt64 = 0xE2C0DE + UInt64(variant.rawValue.count)
        var generator = SplitMix64(seed: seed)
        // The least and greatest scales, the range between, and all of fp32.
        for exponents in [90...100, 120...134, 150...162, 0...254] {
            var values = drawGradient(&generator, count: 8000, exponents: exponents)
            for _ in 0..<4000 { values.append(drawFloat(&generator, exponents: exponents)) }
            let random = values.map { _ in UInt32(truncatingIfNeeded: generator.next()) }
            let bytes = try Squinch.encode(values, variant: variant, random: random)
            let expected = SecondSquinch.encode(values, variant, random)
            for block in 0..<values.count / 8 {
                let range = 6 * block..<6 * block + 6
                #expect(
                    bytes[range] == expected[range],
                    "block \(block), values \(values[8 * block..<8 * block + 8]), seed \(seed)")
            }
        }
    }

    @Test("S3: magnitudes at and above M have code 15")
    func clippedAbove() throws {
        let scale = SquinchTables.scales[255]
        let block: [Float] = [scale.nextDown, scale, scale.nextUp, 1e10, 1e20, .greatestFiniteMagnitude, -1e38, 0]
        var report = Squinch.Report()
        for variant in SquinchVariant.allCases {
            let random = [UInt32](repeating: .max, count: 8)
            let bytes = try Squinch.encode(block, variant: variant, random: random, report: &report)
            #expect(bytes[0] == 255)
            // Just below M the stochastic code is 14 for the largest v, which 1 - 2^-24 of the words are below.
            #expect(Array(codes(bytes)[1...]) == [15, 15, 15, 15, 15, 15, 0], "\(variant)")
        }
        #expect(report.description == "3 blocks: 0 zero, 0 below the least scale, 3 above the greatest")
    }

    @Test("S4: zero blocks, zeros beside values, and their signs", arguments: SquinchVariant.allCases)
    func zeros(variant: SquinchVariant) throws {
        let random = [UInt32](repeating: 0, count: 8)
        for value: Float in [0, -0.0, .leastNonzeroMagnitude, -1e-20, SquinchTables.thresholds[0].nextDown] {
            let bytes = try Squinch.encode([Float](repeating: value, count: 8), variant: variant, random: random)
            #expect(bytes == [0, 0, 0, 0, 0, 0], "\(value)")
        }
        // v = 0 rounds everything up but a zero.
        let bytes = try Squinch.encode([1, 0, -0.0, 0, -0.0, -1, 0, -0.0] as [Float], variant: variant, random: random)
        #expect(bytes[0] == 129)
        #expect(bytes[1] == 0b1011_0100)
        #expect(Array(codes(bytes)[1...4]) == [0, 0, 0, 0])
        let decoded = try Squinch.decode(bytes, variant: variant, count: 8)
        let zero = variant == .floor16 ? SquinchTables.scales[129] / 1024 : 0
        expectSameBits(decoded[1], zero, "+0")
        expectSameBits(decoded[2], -zero, "-0")
    }

    @Test("S5: n elements take ceil(n/8) blocks, the tail is coded as +0", arguments: SquinchVariant.allCases)
    func raggedLengths(variant: SquinchVariant) throws {
        let seed: UInt64 = 0x2A66ED
        var generator = SplitMix64(seed: seed)
        for n in [0, 1, 2, 7, 8, 9, 15, 16, 17, 61] {
            let values = drawGradient(&generator, count: n)
            let random = values.map { _ in UInt32(truncatingIfNeeded: generator.next()) }
            let padding = (8 - n % 8) % 8
            // Whatever random words the padding might have had.
            for word: UInt32 in [0, 0xFFFF_FFFF] {
                let padded = try Squinch.encode(
                    values + [Float](repeating: 0, count: padding), variant: variant,
                    random: random + [UInt32](repeating: word, count: padding))
                let bytes = try Squinch.encode(values, variant: variant, random: random)
                #expect(bytes.count == 6 * Squinch.blockCount(n))
                #expect(bytes == padded, "n = \(n), seed \(seed)")
            }
        }
        #expect([0, 1, 7, 8, 9, 16, 17].map(Squinch.blockCount) == [0, 1, 1, 1, 2, 2, 3])
    }

    @Test(
        "S6: the first NaN or infinity is an error that names it",
        arguments: [
            (0x7FC0_0000, true), (0x7F80_0001, true), (0xFFFF_FFFF, true), (0x7F80_0000, false), (0xFF80_0000, false),
        ] as [(UInt32, Bool)])
    func nonfiniteRefused(bits: UInt32, isNaN: Bool) throws {
        var values = [Float](repeating: 1, count: 20)
        values[11] = Float(bitPattern: bits)
        values[12] = .nan
        var report = Squinch.Report()
        for variant in SquinchVariant.allCases {
            let random = [UInt32](repeating: 0, count: 20)
            #expect(throws: SquinchError.nonfinite(index: 11, bits: bits, rank: nil)) {
                try Squinch.encode(values, variant: variant, random: random, report: &report)
            }
            // `saturate` refuses the NaN alone.
            #expect(throws: SquinchError.nonfinite(index: isNaN ? 11 : 12, bits: isNaN ? bits : 0x7FC0_0000, rank: nil))
            {
                try Squinch.encode(values, variant: variant, nonfinite: .saturate, random: random, report: &report)
            }
        }
        #expect(report == Squinch.Report())
        let signalling = BFloat16(bitPattern: 0x7F81)
        #expect(throws: SquinchError.nonfinite(index: 1, bits: 0x7F81_0000, rank: nil)) {
            try Squinch.encode([BFloat16(bitPattern: 0x3F80), signalling], variant: .floor16)
        }
    }

    @Test("S6: saturated infinities are code 15 under scale byte 255", arguments: SquinchVariant.allCases)
    func saturated(variant: SquinchVariant) throws {
        var report = Squinch.Report()
        let bytes = try Squinch.encode(
            [.infinity, -.infinity, 1, -1, 0, 1e9, -1.5e9, 2e38] as [Float], variant: variant, nonfinite: .saturate,
            random: [UInt32](repeating: .max, count: 8), report: &report)
        #expect(bytes[0] == 255)
        #expect(bytes[1] == 0b0100_1010)
        #expect(Array(codes(bytes)[0...4]) == [15, 15, 0, 0, 0])
        #expect(codes(bytes)[7] == 15)
        #expect(report.clippedAbove == 1)
        let decoded = try Squinch.decode(bytes, variant: variant, count: 8)
        #expect(variant == .floor16 ? decoded[2] > 1.5e6 : decoded[2] == 0)
    }

    @Test("S1: all 2^16 bf16 values as members of blocks, read exactly", arguments: SquinchVariant.allCases)
    func everyBFloat16(variant: SquinchVariant) throws {
        let words = [UInt32](repeating: 0x9E37_79B9, count: 8)
        // Values in the order of their bits, each block with a seventh of its own place for a peak of another magnitude.
        for first in stride(from: 0, to: 1 << 16, by: 7) {
            let members = (first..<min(first + 7, 1 << 16)).map { BFloat16(bitPattern: UInt16($0)) }
            for peak: UInt16 in [0, 0x3F80, 0x4E80] {
                let block = members + [BFloat16(bitPattern: peak)]
                let random = Array(words[..<block.count])
                let values = block.map(number)
                if let index = values.firstIndex(where: { !$0.isFinite }) {
                    #expect(throws: SquinchError.nonfinite(index: index, bits: values[index].bitPattern, rank: nil)) {
                        try Squinch.encode(block, variant: variant, random: random)
                    }
                    continue
                }
                let bytes = try Squinch.encode(block, variant: variant, random: random)
                #expect(bytes == SecondSquinch.encode(values, variant, random), "\(values)")
            }
        }
    }

    @Test("S9: zero blocks and blocks clipped at both ends are counted, each block once")
    func reports() throws {
        let least = SquinchTables.thresholds[0]
        let greatest = SquinchTables.scales[255]
        func block(_ peak: Float) -> [Float] { [0, 0, peak, 0, 0, 0, 0, 0] }
        var report = Squinch.Report()
        let values =
            block(0) + block(-0.0) + block(.leastNonzeroMagnitude) + block(least.nextDown) + block(-least)
            + block(1) + block(greatest) + block(greatest.nextUp) + block(-1e30)
        _ = try Squinch.encode(values, variant: .floor16, report: &report)
        #expect(report.blocks == 9)
        #expect(report.zeroBlocks == 2)
        #expect(report.clippedBelow == 2)
        #expect(report.clippedAbove == 2)
        // A second tensor is added.
        _ = try Squinch.encode([BFloat16(bitPattern: 0)], variant: .floor16, report: &report)
        #expect(report.blocks == 10)
        #expect(report.zeroBlocks == 3)
        _ = try Squinch.encode([Float](), variant: .floor16, report: &report)
        #expect(report.blocks == 10)
    }

    @Test("S3: a wrong number of random words is an error")
    func randomWords() {
        #expect(throws: SquinchError.valueCount(name: "random", 2, expected: 3)) {
            try Squinch.encode([1, 2, 3] as [Float], variant: .stochastic15, random: [1, 2])
        }
    }

    @Test("S6, S7: errors in words")
    func errorTexts() {
        #expect(
            SquinchError.nonfinite(index: 3, bits: 0x7FC0_0001, rank: nil).description
                == "NaN (0x7FC00001) at index 3, where a finite value was expected")
        #expect(
            SquinchError.nonfinite(index: 3, bits: 0xFF80_0000, rank: 2).description
                == "-infinity (0xFF800000) at rank 2, index 3, where a finite value was expected")
        #expect(
            SquinchError.nonfiniteSum(index: 0, x: 0x7F7F_FFFF, e: 0x7F80_0000, rank: nil).description
                == "x + e is not finite at index 0: x is 3.4028235e+38 (0x7F7FFFFF), e is infinity (0x7F800000)")
        #expect(
            SquinchError.byteCount(7, elements: 9).description
                == "7 bytes are not the blocks of 9 elements, which take 12")
        #expect(SquinchError.byteCount(6, elements: -1).description == "-1 elements cannot be decoded")
        #expect(
            SquinchError.valueCount(name: "e", 2, expected: 3).description == "e has 2 values, expected 3")
        #expect(SquinchError.ranks(0, values: 3).description == "0 ranks, expected at least 1")
        #expect(SquinchError.ranks(2, values: 3).description == "3 values are not the gradients of 2 ranks")
    }
}
