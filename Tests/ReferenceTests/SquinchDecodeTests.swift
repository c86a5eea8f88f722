import ModelSpec
import Reference
import Testing

@Suite("Squinch: decode")
struct SquinchDecodeTests {
    /// Whether d is RNE32(numerator / denominator * scale), in integers: the distance is at most half a unit, a tie is even.
    private func isNearest(_ d: Float, _ numerator: UInt128, _ denominator: UInt128, _ scale: Float) -> Bool {
        if numerator == 0 { return d.bitPattern == 0 }
        guard d.sign == .plus, d.isNormal else { return false }
        func parts(_ x: Float) -> (significand: UInt128, exponent: Int) {
            (UInt128(x.bitPattern & 0x7F_FFFF | 0x80_0000), Int(x.bitPattern >> 23) - 150)
        }
        let (s, t) = (parts(scale), parts(d))
        guard s.exponent >= t.exponent else { return false }
        // In quarters of d's unit, times the denominator.
        let exact = 4 * (numerator * s.significand) << (s.exponent - t.exponent)
        let got = 4 * denominator * t.significand
        let half = 2 * denominator
        if exact >= got { return exact - got < half || (exact - got == half && t.significand % 2 == 0) }
        // Below a power of two the numbers lie twice as dense.
        let lower = t.significand == 0x80_0000 ? half / 2 : half
        return got - exact < lower || (got - exact == lower && t.significand % 2 == 0)
    }

    @Test(
        "S3: all 16 codes x 256 scales x 2 signs decode to the nearest fp32, exact rationals",
        arguments: SquinchVariant.allCases)
    func everyCodeScaleAndSign(variant: SquinchVariant) {
        for q in 0...255 {
            for code in 0...15 {
                let numerator = UInt128(variant == .floor16 ? (2 * code + 1) * (2 * code + 1) : code * code)
                let denominator: UInt128 = variant == .floor16 ? 1024 : 225
                let positive = Squinch.decode(
                    scaleByte: UInt8(q), isNegative: false, code: UInt8(code), variant: variant)
                let negative = Squinch.decode(
                    scaleByte: UInt8(q), isNegative: true, code: UInt8(code), variant: variant)
                if q == 0 {
                    // S4
                    expectSameBits(positive, 0, "scale byte 0, code \(code)")
                    expectSameBits(negative, 0, "scale byte 0, code \(code), negative")
                    continue
                }
                #expect(
                    isNearest(positive, numerator, denominator, SquinchTables.scales[q]),
                    "scale byte \(q), code \(code): \(positive) is not nearest")
                expectSameBits(negative, -positive, "scale byte \(q), code \(code), negative")
                expectSameBits(
                    positive, SecondSquinch.decode(q, false, code, variant), "scale byte \(q), code \(code)")
            }
            if q > 0 && variant != .floor16 {
                expectSameBits(
                    Squinch.decode(scaleByte: UInt8(q), isNegative: false, code: 15, variant: variant),
                    SquinchTables.scales[q], "code 15 is M")
            }
        }
    }

    @Test("S5: every 48-bit word decodes, to finite values, laid out as stated", arguments: SquinchVariant.allCases)
    func everyWordDecodes(variant: SquinchVariant) throws {
        let seed: UInt64 = 0xDEC0DE
        var generator = SplitMix64(seed: seed)
        let bytes = (0..<6 * 4000).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
        let values = try Squinch.decode(bytes, variant: variant, count: 8 * 4000)
        let expected = SecondSquinch.decode(bytes, variant, count: 8 * 4000)
        for index in 0..<values.count {
            #expect(values[index].isFinite)
            expectSameBits(values[index], expected[index], "element \(index), seed \(seed)")
        }
        // A tail is trimmed, whatever stands in it.
        for count in [0, 1, 7, 8, 9, 15, 16, 17] {
            let blocks = (count + 7) / 8
            let trimmed = try Squinch.decode(Array(bytes[..<(6 * blocks)]), variant: variant, count: count)
            #expect(trimmed.map(\.bitPattern) == values[..<count].map(\.bitPattern), "count \(count)")
        }
    }

    @Test("S5: one block by hand")
    func oneBlock() throws {
        // M[128] = exp(0) = 1; codes 1, 2, 3, 4, 5, 6, 15, 0; elements 0 and 7 negative.
        let values = try Squinch.decode([128, 0b1000_0001, 0x21, 0x43, 0x65, 0x0F], variant: .floor16, count: 8)
        let expected: [Float] = [-9, 25, 49, 81, 121, 169, 961, -1]
        #expect(values == expected.map { $0 / 1024 })
    }

    @Test(
        "S5: bytes that are not the blocks of the elements are an error",
        arguments: [(6, 9), (6, 0), (0, 1), (7, 8), (5, 8), (12, 8), (0, -1), (6, -8)])
    func wrongByteCount(bytes: Int, elements: Int) {
        #expect(throws: SquinchError.byteCount(bytes, elements: elements)) {
            try Squinch.decode([UInt8](repeating: 1, count: bytes), variant: .floor16, count: elements)
        }
    }
}
