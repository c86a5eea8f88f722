import ExactMath

/// The random values of one case: Philox words, in order, from a stream that the case's own name selects, so that adding a
/// case changes no other.
struct CaseRandom {
    private let stream: RandomStream
    private var next: UInt64 = 0

    init(seed: UInt64, caseName: String) {
        // FNV-1a of the name.
        var hash: UInt32 = 0x811C_9DC5
        for byte in caseName.utf8 { hash = (hash ^ UInt32(byte)) &* 0x0100_0193 }
        stream = RandomStream(seed: seed, stream: hash, step: 0)
    }

    mutating func word() -> UInt32 {
        defer { next += 1 }
        return stream.word(next)
    }

    mutating func half() -> UInt16 { UInt16(word() >> 16) }

    mutating func wide() -> UInt64 {
        let high = UInt64(word())
        return high << 32 | UInt64(word())
    }

    /// Uniform below `bound`, by multiplication (biased by less than 2^-20 for the small bounds used here).
    mutating func index(below bound: Int) -> Int { Int((UInt64(word()) * UInt64(bound)) >> 32) }

    mutating func integer(in range: ClosedRange<Int>) -> Int { range.lowerBound + index(below: range.count) }

    mutating func element<Element>(of values: [Element]) -> Element { values[index(below: values.count)] }

    mutating func bool() -> Bool { word() >> 31 == 1 }

    /// A finite bf16 with a biased exponent in `exponents`, any significand and sign.
    mutating func bf16(exponents: ClosedRange<Int>) -> UInt16 {
        UInt16(integer(in: exponents)) << 7 | half() & 0x807F
    }

    /// A finite fp32 with a biased exponent in `exponents`, any significand and sign.
    mutating func float(exponents: ClosedRange<Int>) -> Float {
        Float(bitPattern: UInt32(integer(in: exponents)) << 23 | word() & 0x807F_FFFF)
    }

    mutating func halves(_ count: Int) -> [UInt16] { (0..<count).map { _ in half() } }
    mutating func words(_ count: Int) -> [UInt32] { (0..<count).map { _ in word() } }
    mutating func bf16s(_ count: Int, exponents: ClosedRange<Int>) -> [UInt16] {
        (0..<count).map { _ in bf16(exponents: exponents) }
    }
    mutating func floats(_ count: Int, exponents: ClosedRange<Int>) -> [Float] {
        (0..<count).map { _ in float(exponents: exponents) }
    }
}
