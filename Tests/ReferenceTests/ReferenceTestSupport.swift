import BFloat16
import Testing

/// A small repeatable generator for test operands (Steele, Lea, Flood 2014): the same seed, the same operands everywhere.
struct SplitMix64 {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }

    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}

/// Eight hexadecimal digits with the prefix 0x.
func hexadecimal(_ bits: UInt32) -> String {
    let digits = String(bits, radix: 16)
    return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
}

/// Equal bits, or a report of both.
func expectSameBits(
    _ got: Float, _ expected: Float, _ note: @autoclosure () -> String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    if got.bitPattern == expected.bitPattern { return }
    Issue.record(
        "\(note()): expected \(hexadecimal(expected.bitPattern)) (\(expected)), got \(hexadecimal(got.bitPattern)) (\(got))",
        sourceLocation: sourceLocation)
}

func bf16(_ bits: UInt16) -> BFloat16 { BFloat16(bitPattern: bits) }

/// The bfloat16 of a number that is one.
func bf16(_ x: Float) -> BFloat16 {
    precondition(x.bitPattern & 0xFFFF == 0)
    return BFloat16(bitPattern: UInt16(x.bitPattern >> 16))
}

/// A bfloat16 by its bits alone, as the processor's binary32.
func number(_ x: BFloat16) -> Float { Float(bitPattern: UInt32(x.bitPattern) << 16) }

/// How test factors are drawn.
enum Operands: String, CaseIterable, CustomTestStringConvertible {
    /// Magnitudes about 1: rounding and cancellation.
    case ordinary
    /// Products near 2^-126, factors and partial sums subnormal.
    case underflow
    /// Any finite number: large cancellations, overflow to infinity, NaN by infinity - infinity.
    case finite
    /// Any 16 bits, NaNs and infinities too.
    case any

    var testDescription: String { rawValue }

    func draw(_ generator: inout SplitMix64) -> BFloat16 {
        let random = UInt16(truncatingIfNeeded: generator.next() >> 16)
        switch self {
        case .ordinary: return bf16(random & 0x807F | UInt16(124 + generator.below(6)) << 7)
        case .underflow:
            return bf16(random & 0x807F | UInt16(generator.below(4) == 0 ? 0 : 58 + generator.below(12)) << 7)
        case .finite: return bf16(random & 0x7F80 == 0x7F80 ? random & 0xBFFF : random)
        case .any: return bf16(generator.below(12) == 0 ? random | 0x7F80 : random)
        }
    }
}
