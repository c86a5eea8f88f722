import Cases
import Foundation

/// A floating-point format by its fields; enough to order its values and to take them apart.
struct FloatFields {
    let significandBits: Int
    let exponentBits: Int

    init?(_ type: ElementType) {
        switch type {
        case .bf16: (significandBits, exponentBits) = (7, 8)
        case .fp16: (significandBits, exponentBits) = (10, 5)
        case .fp32: (significandBits, exponentBits) = (23, 8)
        case .fp64: (significandBits, exponentBits) = (52, 11)
        default: return nil
        }
    }

    var bias: Int { (1 << (exponentBits - 1)) - 1 }
    var signBit: UInt64 { 1 << UInt64(significandBits + exponentBits) }
    var infinity: UInt64 { ((1 << UInt64(exponentBits)) - 1) << UInt64(significandBits) }

    func isNaN(_ bits: UInt64) -> Bool { bits & (signBit - 1) > infinity }

    /// Representable values apart: -0 is one step below +0. nil if exactly one is NaN; two NaNs are 0 apart.
    func distance(_ a: UInt64, _ b: UInt64) -> UInt64? {
        if isNaN(a) || isNaN(b) { return isNaN(a) && isNaN(b) ? 0 : nil }
        // Negative numbers count downward from -1 = -0.
        func ordered(_ bits: UInt64) -> Int64 {
            let magnitude = Int64(bitPattern: bits & (signBit - 1))
            return bits & signBit == 0 ? magnitude : -1 - magnitude
        }
        let (difference, overflow) = ordered(a).subtractingReportingOverflow(ordered(b))
        return overflow ? .max : difference.magnitude
    }

    /// Half a unit in the last place of the format at a magnitude: what the rounding of the output may cost.
    func halfUnit(at magnitude: Double) -> Double {
        let least = 1 - bias - significandBits
        let unit = magnitude == 0 ? least : max(Int(magnitude.exponent) - significandBits, least)
        return power(unit - 1)
    }

    var greatest: Double { power(bias) * (2 - power(-significandBits)) }

    /// The value of a bit pattern, exactly.
    func value(_ bits: UInt64) -> Double {
        switch exponentBits + significandBits {
        case 15 where exponentBits == 8: return Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits) << 16))
        case 31: return Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits)))
        case 63: return Double(bitPattern: bits)
        default: break
        }
        let exponent = Int(bits >> UInt64(significandBits)) & ((1 << exponentBits) - 1)
        let fraction = Double(bits & ((1 << UInt64(significandBits)) - 1))
        let magnitude: Double
        if exponent == (1 << exponentBits) - 1 {
            magnitude = fraction == 0 ? .infinity : .nan
        } else if exponent == 0 {
            magnitude = fraction * power(1 - bias - significandBits)
        } else {
            magnitude = (fraction + power(significandBits)) * power(exponent - bias - significandBits)
        }
        return bits & signBit == 0 ? magnitude : -magnitude
    }

    func text(_ bits: UInt64) -> String {
        let sign = bits & signBit == 0 ? "+" : "-"
        let exponent = Int(bits >> UInt64(significandBits)) & ((1 << exponentBits) - 1)
        let fraction = bits & ((1 << UInt64(significandBits)) - 1)
        let digits = String(fraction, radix: 2)
        let binary = String(repeating: "0", count: significandBits - digits.count) + digits
        if exponent == (1 << exponentBits) - 1 {
            if fraction == 0 { return "\(sign) infinity" }
            return "\(sign) \(fraction >> UInt64(significandBits - 1) == 1 ? "quiet" : "signalling") NaN \(binary)"
        }
        if exponent == 0 { return fraction == 0 ? "\(sign) 0" : "\(sign) 2^\(1 - bias) x 0.\(binary)" }
        return "\(sign) 2^\(exponent - bias) x 1.\(binary)"
    }
}

/// 2^n exactly, 0 below the range of binary64.
func power(_ n: Int) -> Double {
    if n >= -1022 { return Double(bitPattern: UInt64(n + 1023) << 52) }
    return n < -1074 ? 0 : Double(bitPattern: 1 << UInt64(n + 1074))
}

extension Double {
    /// Three significant digits.
    var short: String { String(format: "%.3g", self) }
}
