/// Operands of the proofs that cannot be exhaustive: case i of a domain, a function of i and the seed alone.
enum BFloat16Cases {
    /// 64 bits that depend on every bit of `index` and `seed` (Steele, Lea, Flood 2014: the output function of SplitMix64).
    @inline(__always)
    static func hash(_ index: UInt64, seed: UInt64) -> UInt64 {
        var z = (index &+ 1) &* 0x9E37_79B9_7F4A_7C15 ^ seed &* 0xD6E8_FEB8_6659_FD93
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }

    /// bf16 at boundaries (TestFloat's idea): exponents at the ends, in the middle and where formats and alignments change, with
    /// significands of few ones, few zeros and in between; infinities and NaNs; both signs.
    static let boundary: [UInt16] = {
        let exponents: [UInt16] = [0, 1, 2, 8, 64, 118, 119, 126, 127, 128, 134, 135, 190, 246, 253, 254]
        let fractions: [UInt16] = [0x00, 0x01, 0x3F, 0x40, 0x55, 0x7E, 0x7F]
        var values: [UInt16] = []
        for sign in [0, 0x8000] as [UInt16] {
            for exponent in exponents {
                for fraction in fractions { values.append(sign | exponent << 7 | fraction) }
            }
            values += [0x7F80, 0x7F81, 0x7FBF, 0x7FC0, 0x7FFF].map { sign | $0 }
        }
        return values
    }()

    /// The exponents of scalbn: all that matter and the ends of the type.
    static let scales: [Int] = [Int.min, -100_000, -600, -500] + Array(-400...400) + [500, 600, 100_000, Int.max]

    // MARK: Triples

    static var gridTriples: UInt64 {
        let count = UInt64(boundary.count)
        return count * count * count
    }

    /// Operands of fma: the grid cubed, then hashes. Of these, every second has c near -a b, so that the high half cancels and the low one
    /// shows, or c a hair beside a tie of a b, far below it.
    static func triple(_ index: UInt64, seed: UInt64) -> (UInt16, UInt16, UInt16) {
        let count = UInt64(boundary.count)
        if index < gridTriples {
            return (
                boundary[Int(index / (count * count))], boundary[Int(index / count % count)],
                boundary[Int(index % count)]
            )
        }
        let bits = hash(index, seed: seed)
        let a = UInt16(truncatingIfNeeded: bits)
        let b = UInt16(truncatingIfNeeded: bits >> 16)
        let c = UInt16(truncatingIfNeeded: bits >> 32)
        switch bits >> 48 & 3 {
        case 0, 1:
            return (a, b, c)
        case 2:
            // -a b truncated, moved by -2 ... 2 in its last place.
            let product = Float(Double(Float(bitPattern: UInt32(a) << 16)) * Double(Float(bitPattern: UInt32(b) << 16)))
            let near = UInt16(truncatingIfNeeded: product.bitPattern >> 16) ^ 0x8000
            return (a, b, near &+ UInt16(truncatingIfNeeded: Int(bits >> 50 % 5) - 2))
        default:
            // The product's exponent, and c's some places away from it.
            let exponent = Int(a >> 7 & 0xFF) + Int(b >> 7 & 0xFF) - 127 + Int(bits >> 50 % 64) - 40
            return (a, b, c & 0x807F | UInt16(min(max(exponent, 0), 254)) << 7)
        }
    }

    // MARK: 64 bits

    static let gridWide: UInt64 = 64 * 64 * 4 * 2

    /// Operands of conversions from 64-bit integers: two bits and a run of ones or zeros between and below them, both signs; then hashes of
    /// every magnitude, of which every second is a tie of the bf16 grid or one beside it.
    static func wideInteger(_ index: UInt64, seed: UInt64) -> UInt64 {
        if index < gridWide { return gridPattern(index) }
        let bits = hash(index, seed: seed)
        let width = UInt64(hash(bits, seed: seed) % 64)
        let magnitude = bits >> width
        let result: UInt64
        if index % 2 == 0 || width > 64 - 10 {
            result = magnitude
        } else {
            // The highest 9 bits, then nothing, one, or all ones: at, above or below a tie.
            let top = UInt64(64 - 9) - width
            let high = magnitude & ~(1 << top - 1)
            result = [high, high &+ 1, high &- 1, high | (1 << top - 1)][Int(bits & 3)]
        }
        return bits & 4 == 0 ? result : 0 &- result
    }

    /// Operands of conversions from binary64: a grid of exponents and significands, then hashes: any bits, or the bf16 range with significands at,
    /// above and below ties and bf16 values.
    static func wideDouble(_ index: UInt64, seed: UInt64) -> UInt64 {
        if index < gridWide {
            let exponents = gridExponents
            let exponent = exponents[Int(index % UInt64(exponents.count))]
            let fraction = gridPattern(index / UInt64(exponents.count) * 7 % gridWide) & 0xF_FFFF_FFFF_FFFF
            return exponent << 52 | fraction | (index & 1) << 63
        }
        let bits = hash(index, seed: seed)
        if index % 4 == 0 { return bits }
        let other = hash(bits, seed: seed)
        // 2^-140 ... 2^130.
        let exponent = 1023 - 140 + other % 270
        let kept = bits & 0xF_F000_0000_0000
        let low: UInt64 =
            switch other >> 16 & 7 {
            case 0: 0
            case 1: 1
            case 2: 1 << 44 - 1
            case 3: 1 << 44 - 1 << 20  // ones as far as binary32 reaches
            case 4: 1 << 20
            // A single bit or a run: ties of subnormals, whose last place lies higher.
            case 5: 1 << (other >> 32 % 44)
            default: bits & (1 << 44 - 1)
            }
        return exponent << 52 | kept ^ low | bits & 1 << 63
    }

    /// Exponent fields of binary64 where something changes: the ends of binary64, and of bf16 and binary32 to their least subnormals.
    private static let gridExponents: [UInt64] =
        [0, 1, 2, 1023, 2045, 2046, 2047].map { UInt64($0) } + (0..<32).map { 1023 - 150 + UInt64($0) }
        + (0..<6).map { 1023 + 124 + UInt64($0) }

    /// A word of two bits, i and j, with ones or zeros below each, and its negative.
    private static func gridPattern(_ index: UInt64) -> UInt64 {
        let (i, j) = (index & 63, index >> 6 & 63)
        let (high, low) = (UInt64(1) << i, UInt64(1) << j)
        let value: UInt64 =
            switch index >> 12 & 3 {
            case 0: high | low
            case 1: high | (low - 1)
            case 2: high &- low
            default: high &+ low &+ 1
            }
        return index >> 14 & 1 == 0 ? value : 0 &- value
    }
}
