import Synchronization

/// ln 2, pi and the table of logarithms, computed once for each number of limbs.
final class ConstantCache: Sendable {
    private let ln2s = Mutex<[Int: FixedPoint]>([:])
    private let pis = Mutex<[Int: FixedPoint]>([:])

    func ln2(_ limbs: Int) -> FixedPoint {
        ln2s.withLock { known in
            if let value = known[limbs] { return value }
            let value = Constants.ln2(fractionLimbs: limbs)
            known[limbs] = value
            return value
        }
    }

    func pi(_ limbs: Int) -> FixedPoint {
        pis.withLock { known in
            if let value = known[limbs] { return value }
            let value = Constants.pi(fractionLimbs: limbs)
            known[limbs] = value
            return value
        }
    }
}

/// The argument reduction of the logarithm: [1, 2) in 128 intervals, each with a multiplier c / 256 that brings its numbers near 1.
enum LogarithmTable {
    /// c for interval i, [1 + i/128, 1 + (i + 1)/128): 256 divided by the middle, rounded; 256 for the first interval and 128 for the last, so
    /// that numbers just above and just below a power of two keep their distance from it exactly.
    static func multiplier(interval i: Int) -> Int {
        if i == 0 { return 256 }
        if i == 127 { return 128 }
        // 256 / (1 + (2i + 1)/256) = 65536 / (257 + 2i), rounded.
        return (65536 + (257 + 2 * i) / 2) / (257 + 2 * i)
    }

    /// ln(256 / c) = 2 atanh((256 - c) / (256 + c)).
    static func logarithm(multiplier c: Int, _ limbs: Int) -> FixedPoint {
        Constants.inverseHyperbolicTangent(UInt64(256 - c), over: UInt64(256 + c), limbs) * 2
    }
}
