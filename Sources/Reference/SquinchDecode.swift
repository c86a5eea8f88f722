import ExactMath
import ModelSpec

extension Squinch {
    /// The values of `count` elements (S3-S5): [ceil(count/8) * 6] bytes in, [count] fp32 out; the padding is trimmed.
    ///
    /// Every 48-bit word decodes, to finite values. `round15` and `stochastic15` decode alike.
    /// - Throws: ``SquinchError/byteCount(_:elements:)`` where the bytes are not the blocks of `count` elements.
    public static func decode(_ bytes: [UInt8], variant: SquinchVariant, count: Int) throws(SquinchError) -> [Float] {
        guard count >= 0, bytes.count == blockBytes * blockCount(count) else {
            throw .byteCount(bytes.count, elements: count)
        }
        var values: [Float] = []
        for index in 0..<count {
            // S5: byte 0 the scale, byte 1 the signs, bytes 2 to 5 the codes, low nibble first.
            let block = 6 * (index / 8)
            let element = index % 8
            let scaleByte = bytes[block]
            let isNegative = bytes[block + 1] >> UInt8(element) & 1 == 1
            let pair = bytes[block + 2 + element / 2]
            let code = element % 2 == 0 ? pair & 15 : pair >> 4
            values.append(decode(scaleByte: scaleByte, isNegative: isNegative, code: code, variant: variant))
        }
        return values
    }

    /// One element (S3, S4), for each of the 256 scale bytes, both signs and the 16 codes.
    ///
    /// - Precondition: `code` is below 16.
    public static func decode(scaleByte: UInt8, isNegative: Bool, code: UInt8, variant: SquinchVariant) -> Float {
        precondition(code < 16, "code \(code) is none of 0...15")
        // S4
        if scaleByte == 0 { return 0 }
        // S2: M.
        let scale = SquinchTables.scales[Int(scaleByte)]
        let q = UInt64(code)
        let magnitude: Float
        switch variant {
        case .floor16:
            // S3: RNE32((2q + 1)^2 / 1024 * M). The factor is exact, so that one multiplication rounds once.
            let factor = SoftFloat32.multiply(SoftFloat32.convert((2 * q + 1) * (2 * q + 1)), 0x1p-10)
            magnitude = SoftFloat32.multiply(factor, scale)
        case .round15, .stochastic15:
            // S3: RNE32(q^2 M / 225).
            magnitude = quotient(q * q, scale, by: 225)
        }
        return isNegative ? SoftFloat32.negate(magnitude) : magnitude
    }

    /// RNE32(n * scale / divisor), rounded once, for n and divisor below 256 and a scale of the table: no result is
    /// subnormal.
    private static func quotient(_ n: UInt64, _ scale: Float, by divisor: UInt64) -> Float {
        if n == 0 { return 0 }
        // scale = significand * 2^exponent; n * significand * 2^32 is below 2^64.
        let significand = UInt64(scale.bitPattern & 0x7F_FFFF | 0x80_0000)
        let exponent = Int(scale.bitPattern >> 23) - 150
        let (whole, rest) = (n * significand << 32).quotientAndRemainder(dividingBy: divisor)
        // At least 48 bits, the last one sticky: as an integer it is rounded once to 24, then scaled exactly.
        let rounded = SoftFloat32.convert(rest == 0 ? whole : whole | 1)
        return SoftFloat32.multiply(rounded, Float(bitPattern: UInt32(exponent - 32 + 127) << 23))
    }
}
