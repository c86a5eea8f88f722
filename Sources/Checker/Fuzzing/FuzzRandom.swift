import Cases
import ExactMath

/// The random values of one case: Philox words that the run's seed and the case's number select, and nothing else (G1).
///
/// The third counter word is "fuzz" in ASCII, which no stream of the specification has; the fourth is the low half of the number.
struct FuzzRandom {
    private let stream: RandomStream
    private var next: UInt64

    init(seed: UInt64, number: Int) {
        stream = RandomStream(seed: seed, stream: 0x6675_7A7A, step: UInt32(truncatingIfNeeded: number))
        // 2^40 draws for each case.
        next = (UInt64(number) >> 32) << 40
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

    /// Uniform below `bound`, by multiplication.
    mutating func below(_ bound: Int) -> Int { Int((UInt64(word()) * UInt64(bound)) >> 32) }
    mutating func integer(in range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }
    mutating func pick<Element>(_ values: [Element]) -> Element { values[below(values.count)] }
    mutating func bool() -> Bool { word() >> 31 == 1 }
    /// True once in `n` times.
    mutating func chance(_ n: Int) -> Bool { below(n) == 0 }
    mutating func words(_ count: Int) -> [UInt32] { (0..<count).map { _ in word() } }

    // MARK: Formats

    /// A finite bf16 with a biased exponent in `exponents`, any significand and sign.
    mutating func bf16(_ exponents: ClosedRange<Int>) -> UInt16 {
        UInt16(integer(in: exponents)) << 7 | half() & 0x807F
    }

    /// A finite fp32 with a biased exponent in `exponents`, any significand and sign.
    mutating func float(_ exponents: ClosedRange<Int>) -> Float {
        Float(bitPattern: UInt32(integer(in: exponents)) << 23 | word() & 0x807F_FFFF)
    }

    mutating func bf16s(_ count: Int, _ exponents: ClosedRange<Int>) -> [UInt16] {
        (0..<count).map { _ in bf16(exponents) }
    }

    mutating func floats(_ count: Int, _ exponents: ClosedRange<Int>) -> [Float] {
        (0..<count).map { _ in float(exponents) }
    }

    /// Zeros, infinities and NaNs of both kinds and signs, the ends of both ranges, 1 and its neighbours.
    static let specialFloats: [UInt32] =
        ([
            0, 1, 2, 0x0040_0000, 0x007F_FFFF, 0x0080_0000, 0x0080_0001, 0x00FF_FFFF, 0x3F7F_FFFF, 0x3F80_0000,
            0x3F80_0001, 0x4000_0000, 0x3F00_0000, 0x3F80_8000, 0x7F7F_FFFF, 0x7F7F_0000, 0x7F80_0000, 0x7FC0_0000,
            0x7F80_0001, 0x7FFF_FFFF,
        ] as [UInt32]).flatMap { [$0, $0 | 0x8000_0000] }

    static let specialBFloats: [UInt16] =
        ([
            0, 1, 2, 0x40, 0x7F, 0x80, 0x81, 0xFF, 0x3F7F, 0x3F80, 0x3F81, 0x4000, 0x3F00, 0x7F7F, 0x7F00, 0x7F80,
            0x7FC0, 0x7F81, 0x7FFF,
        ] as [UInt16]).flatMap { [$0, $0 | 0x8000] }

    mutating func special() -> Float { Float(bitPattern: pick(Self.specialFloats)) }
    mutating func specialBF16() -> UInt16 { pick(Self.specialBFloats) }

    /// A small integer or half of one, exact in every format.
    mutating func simple() -> Float { Float(integer(in: -8...8)) * 0.5 }

    /// The upper half of an fp32's bits: exact for values that a bf16 holds.
    static func bf16(_ value: Float) -> UInt16 { UInt16(value.bitPattern >> 16) }

    /// A value or one of its neighbours within `units`.
    mutating func near(_ value: Float, units: Int = 2) -> Float {
        guard value.isFinite else { return value }
        var result = value
        for _ in 0..<below(units + 1) { result = bool() ? result.nextUp : result.nextDown }
        return result
    }

    /// The longest side of a case.
    static let longest = 300

    /// A size at which kernels change what they do: 1, primes, the ends of tiles and lanes of 8 to 256 and their neighbours.
    mutating func edgeSize(atMost limit: Int) -> Int {
        let sizes = [
            1, 2, 3, 5, 6, 7, 8, 9, 11, 13, 15, 16, 17, 23, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128,
            129, 191, 192, 193, 255, 256, 257, 300,
        ]
        return pick(sizes.filter { $0 <= limit })
    }

    /// A size of one of the larger tiles, or beside it.
    mutating func longSize() -> Int {
        pick([63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 192, 193, 255, 256, 257, Self.longest])
    }

    /// Sizes of several dimensions at the ends of tiles, each at most its limit; every other time one of them is long and the others are at most 9, so
    /// that the work stays bounded.
    mutating func edgeSizes(atMost limits: [Int]) -> [Int] {
        let long = bool() ? below(limits.count) : nil
        return limits.enumerated().map { index, limit in
            guard let long else { return edgeSize(atMost: limit) }
            return index == long ? longSize() : edgeSize(atMost: min(9, limit))
        }
    }

    /// A prime size.
    mutating func primeSize(atMost limit: Int) -> Int {
        pick([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47].filter { $0 <= limit })
    }
}

extension FuzzRandom {
    /// fp32 values of a class, as any operation that admits them may get them.
    mutating func floats(_ count: Int, of caseClass: CaseClass, around exponents: ClosedRange<Int> = 118...132)
        -> [Float]
    {
        (0..<count).map { index in
            switch caseClass {
            case .subnormals: chance(4) ? float(1...3) : chance(3) ? special().magnitude.keepTiny : float(0...0)
            case .overflow: chance(3) ? float(exponents) : float(246...254)
            case .specials: chance(3) ? special() : float(exponents)
            case .ties: simple()
            default: float(exponents)
            }
        }
    }

    /// bf16 values of a class.
    mutating func bf16s(_ count: Int, of caseClass: CaseClass, around exponents: ClosedRange<Int> = 118...132)
        -> [UInt16]
    {
        (0..<count).map { index in
            switch caseClass {
            case .subnormals: chance(4) ? bf16(1...3) : bf16(0...0)
            case .overflow: chance(3) ? bf16(exponents) : bf16(246...254)
            case .specials: chance(3) ? specialBF16() : bf16(exponents)
            case .ties: Self.bf16(simple())
            default: bf16(exponents)
            }
        }
    }
}

extension Float {
    /// Itself where it is a zero or about 2^-126, else the least subnormal.
    fileprivate var keepTiny: Float { self < 0x1p-124 ? self : .leastNonzeroMagnitude }
}
