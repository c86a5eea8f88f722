import ExactMath
import Kernels
import Testing

@Suite("binary16 of the engine against the reference's")
struct Binary16Tests {
    @Test("Half-way points between neighbours, and what lies beside them")
    func boundaries() {
        var wrong: [Float] = []
        for bits in UInt16(0)...0x7BFF {
            // The 12 bits of a half-way point fit binary32; above the greatest finite number it is 65520.
            let middle = (value(bits) + value(bits + 1)) / 2
            for x in [value(bits), middle.nextDown, middle, middle.nextUp] {
                wrong += [x, -x].filter { Binary16.rounded($0) != SoftFloat32.roundToFloat16($0) }
            }
        }
        #expect(wrong.isEmpty)
    }

    @Test("Bits from all over binary32")
    func spread() {
        var wrong: [UInt64] = []
        for pattern in stride(from: UInt64(0), to: 1 << 32, by: 65_521) {
            let x = Float(bitPattern: UInt32(pattern))
            if Binary16.rounded(x) != SoftFloat32.roundToFloat16(x) { wrong.append(pattern) }
        }
        #expect(wrong.isEmpty)
    }

    @Test("Ends of the range")
    func ends() {
        #expect(Binary16.rounded(.nan) == 0x7E00)
        #expect(Binary16.rounded(-.nan) == 0x7E00)
        #expect(Binary16.rounded(.infinity) == 0x7C00)
        #expect(Binary16.rounded(-65520) == 0xFC00)
        #expect(Binary16.rounded(Float(65520).nextDown) == 0x7BFF)
        #expect(Binary16.rounded(-Float(0)) == 0x8000)
        #expect(Binary16.rounded(0x1p-25) == 0)
        #expect(Binary16.rounded(Float(0x1p-25).nextUp) == 1)
        #expect(Binary16.rounded(-.leastNonzeroMagnitude) == 0x8000)
    }

    /// The value of a positive number's bits, 0x7C00 as if the exponents went on.
    private func value(_ bits: UInt16) -> Float {
        let (exponent, fraction) = (Int(bits >> 10), Float(bits & 0x3FF))
        if exponent == 0 { return fraction * 0x1p-24 }
        return Float(sign: .plus, exponent: exponent - 15, significand: 1 + fraction / 1024)
    }
}
