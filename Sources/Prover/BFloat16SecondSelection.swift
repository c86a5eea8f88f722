import BFloat16

// The second derivation of B4 (B6): comparisons, minimum and maximum, neighbours, classes from the hardware's float comparisons and the
// standard library's Float.

@inline(__always)
private func float(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

enum SecondSelection {
    @inline(__always)
    static func compare(_ a: UInt16, _ b: UInt16, signalling: Bool) -> (UInt16, Flags) {
        let (x, y) = (float(a), float(b))
        if x < y { return (1, []) }
        if x == y { return (2, []) }
        if x > y { return (4, []) }
        return (8, signalling || isSignalling(a) || isSignalling(b) ? .invalid : [])
    }

    /// - Parameters:
    ///   - greater: maximum instead of minimum.
    ///   - numbersWin: minimumNumber instead of minimum.
    @inline(__always)
    static func extreme(_ a: UInt16, _ b: UInt16, greater: Bool, numbersWin: Bool) -> (UInt16, Flags) {
        if isNotANumber(a) || isNotANumber(b) {
            let flags: Flags = isSignalling(a) || isSignalling(b) ? .invalid : []
            if numbersWin && !isNotANumber(a) { return (a, flags) }
            if numbersWin && !isNotANumber(b) { return (b, flags) }
            return (0x7FC0, flags)
        }
        let (x, y) = (float(a), float(b))
        if x != y { return ((x < y) != greater ? a : b, []) }
        // Equal: the same number, or two zeros, of which the negative one is the lesser.
        return (greater ? a & b : a | b, [])
    }

    @inline(__always)
    static func totalOrder(_ a: UInt16, _ b: UInt16) -> UInt16 {
        float(a).isTotallyOrdered(belowOrEqualTo: float(b)) ? 1 : 0
    }

    static func classify(_ a: UInt16) -> UInt16 { classNumber(float(a).floatingPointClass) }

    /// A number for each class, to compare.
    static func classNumber(_ classification: FloatingPointClassification) -> UInt16 {
        switch classification {
        case .signalingNaN: 0
        case .quietNaN: 1
        case .negativeInfinity: 2
        case .negativeNormal: 3
        case .negativeSubnormal: 4
        case .negativeZero: 5
        case .positiveZero: 6
        case .positiveSubnormal: 7
        case .positiveNormal: 8
        case .positiveInfinity: 9
        }
    }

    /// All values from -infinity to +infinity, each once (-0 stands for zero), sorted by the hardware's comparison.
    private static let ascending: [UInt16] =
        (0...0xFFFF).map { UInt16($0) }.filter { !isNotANumber($0) && $0 != 0 }.sorted { float($0) < float($1) }

    /// The first value above a in the sorted list of all.
    static func nextUp(_ a: UInt16) -> (UInt16, Flags) {
        if isNotANumber(a) { return (0x7FC0, isSignalling(a) ? .invalid : []) }
        var (low, high) = (0, ascending.count)  // the first index whose value is above a
        while low < high {
            let middle = (low + high) / 2
            if float(ascending[middle]) > float(a) { high = middle } else { low = middle + 1 }
        }
        return (low < ascending.count ? ascending[low] : 0x7F80, [])
    }

    /// The last value below a; zero is then approached from above, so +0.
    static func nextDown(_ a: UInt16) -> (UInt16, Flags) {
        if isNotANumber(a) { return (0x7FC0, isSignalling(a) ? .invalid : []) }
        var (low, high) = (0, ascending.count)  // the first index whose value is not below a
        while low < high {
            let middle = (low + high) / 2
            if float(ascending[middle]) < float(a) { low = middle + 1 } else { high = middle }
        }
        let found = low > 0 ? ascending[low - 1] : 0xFF80
        return (found == 0x8000 ? 0 : found, [])
    }

    /// The standard library's rounding of a double to an integral value; to odd from its floor and ceiling.
    static func integral(_ x: Double, _ mode: RoundingMode) -> Double {
        switch mode {
        case .nearestEven: return x.rounded(.toNearestOrEven)
        case .nearestAway: return x.rounded(.toNearestOrAwayFromZero)
        case .towardZero, .stochastic: return x.rounded(.towardZero)
        case .down: return x.rounded(.down)
        case .up: return x.rounded(.up)
        case .toOdd:
            let below = x.rounded(.down)
            if below == x { return x }
            return (below / 2).rounded(.down) * 2 == below ? x.rounded(.up) : below
        }
    }

    static func roundToIntegral(_ a: UInt16, _ mode: RoundingMode) -> (UInt16, Flags) {
        if isNotANumber(a) { return (0x7FC0, isSignalling(a) ? .invalid : []) }
        let result = integral(double(a), mode)
        // The sign of a zero result is that of a.
        let bits = UInt16(truncatingIfNeeded: Float(result.magnitude).bitPattern >> 16) | a & 0x8000
        return (bits, result == double(a) ? [] : .inexact)
    }

    static func logb(_ a: UInt16) -> (UInt16, Flags) {
        if isNotANumber(a) { return (0x7FC0, isSignalling(a) ? .invalid : []) }
        let x = double(a)
        if x == 0 { return (0xFF80, .divideByZero) }
        if x.isInfinite { return (0x7F80, []) }
        return (UInt16(truncatingIfNeeded: Float(x.exponent).bitPattern >> 16), [])
    }

    static func scalbn(_ a: UInt16, _ n: Int) -> ExactResult {
        let x = double(a)
        if x.isNaN { return .decided(0x7FC0, isSignalling(a) ? .invalid : []) }
        if x.isInfinite || x == 0 { return .decided(a, []) }
        // Beyond 2^500 on either side every bf16 has left the range.
        return .value(x.magnitude * power(min(max(n, -500), 500)), negative: x < 0)
    }
}
