import Foundation

// Elements as people read them.

extension Tensor {
    /// The bits of an element: 0x and all hex digits of its width.
    public func bitsText(at index: Int) -> String {
        let digits = String(bits(at: index), radix: 16, uppercase: true)
        return "0x" + String(repeating: "0", count: 2 * type.byteWidth - digits.count) + digits
    }

    /// The value of an element in decimal, as short as reads back to the same bits in its own type.
    public func valueText(at index: Int) -> String {
        let bits = bits(at: index)
        return switch type {
        case .bf16: Self.shortest(Float(bitPattern: UInt32(bits) << 16), significandBits: 8)
        case .fp16: Self.shortest(Self.widened(binary16: UInt16(bits)), significandBits: 11)
        case .fp32: Float(bitPattern: UInt32(bits)).description
        case .fp64: Double(bitPattern: bits).description
        case .int8: Int8(truncatingIfNeeded: bits).description
        case .int16: Int16(truncatingIfNeeded: bits).description
        case .int32: Int32(truncatingIfNeeded: bits).description
        case .int64: Int64(truncatingIfNeeded: bits).description
        case .uint8, .uint16, .uint32, .uint64: bits.description
        }
    }

    /// The value of an element as a double; exact for every type but the 64-bit integers.
    public func doubleValue(at index: Int) -> Double {
        let bits = bits(at: index)
        return switch type {
        case .bf16: Double(Float(bitPattern: UInt32(bits) << 16))
        case .fp16: Double(Self.widened(binary16: UInt16(bits)))
        case .fp32: Double(Float(bitPattern: UInt32(bits)))
        case .fp64: Double(bitPattern: bits)
        case .int8: Double(Int8(truncatingIfNeeded: bits))
        case .int16: Double(Int16(truncatingIfNeeded: bits))
        case .int32: Double(Int32(truncatingIfNeeded: bits))
        case .int64: Double(Int64(truncatingIfNeeded: bits))
        case .uint8, .uint16, .uint32, .uint64: Double(bits)
        }
    }

    /// binary16 as fp32, exactly.
    private static func widened(binary16 bits: UInt16) -> Float {
        let sign = UInt32(bits & 0x8000) << 16
        let exponent = UInt32(bits >> 10 & 0x1F)
        let significand = UInt32(bits & 0x3FF)
        if exponent == 31 { return Float(bitPattern: sign | 0x7F80_0000 | significand << 13) }
        if exponent == 0 {
            // significand * 2^-24, exact in fp32.
            let magnitude = Float(significand) * Float(bitPattern: 0x3380_0000)
            return sign == 0 ? magnitude : -magnitude
        }
        return Float(bitPattern: sign | (exponent + 112) << 23 | significand << 13)
    }

    /// The fewest decimal digits that identify the value among numbers of `significandBits` bits.
    private static func shortest(_ value: Float, significandBits: Int) -> String {
        guard value.isFinite, value != 0 else { return value.description }
        let dropped = UInt32(24 - significandBits)
        for digits in 1...9 {
            let text = String(format: "%.\(digits)g", Double(value))
            guard let parsed = Float(text) else { continue }
            // Back to the narrow type, nearest even.
            let bits = parsed.bitPattern
            let narrowed = ((bits &+ (1 << (dropped - 1)) &- 1 &+ (bits >> dropped & 1)) >> dropped) << dropped
            if narrowed == value.bitPattern { return text }
        }
        return value.description
    }
}
