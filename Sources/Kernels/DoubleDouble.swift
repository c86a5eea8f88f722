/// An unevaluated sum of two binary64 numbers, |low| at most half a unit of high: some 104 bits (Dekker 1971; Knuth).
///
/// Only additions and multiplications of binary64, nothing fused, so that every processor gives the same. Relative errors of `+` of like signs, `*`
/// and `/` are below 2^-100.
struct DoubleDouble: Sendable {
    var high: Double
    var low: Double

    init(_ high: Double, _ low: Double = 0) {
        self.high = high
        self.low = low
    }

    /// a + b exactly.
    static func sum(_ a: Double, _ b: Double) -> DoubleDouble {
        let s = a + b
        let t = s - a
        return DoubleDouble(s, (a - (s - t)) + (b - t))
    }

    /// a + b exactly, for |a| >= |b| or a = 0.
    static func orderedSum(_ a: Double, _ b: Double) -> DoubleDouble {
        let s = a + b
        return DoubleDouble(s, b - (s - a))
    }

    /// a b exactly, where no part underflows or overflows.
    static func product(_ a: Double, _ b: Double) -> DoubleDouble {
        let (ah, al) = halves(a)
        let (bh, bl) = halves(b)
        let p = a * b
        return DoubleDouble(p, ((ah * bh - p) + ah * bl + al * bh) + al * bl)
    }

    /// The upper 26 bits and the rest.
    private static func halves(_ a: Double) -> (Double, Double) {
        let t = 134_217_729 * a
        let high = t - (t - a)
        return (high, a - high)
    }

    static func + (a: DoubleDouble, b: DoubleDouble) -> DoubleDouble {
        var s = sum(a.high, b.high)
        let t = sum(a.low, b.low)
        s = orderedSum(s.high, s.low + t.high)
        return orderedSum(s.high, s.low + t.low)
    }

    static prefix func - (a: DoubleDouble) -> DoubleDouble { DoubleDouble(-a.high, -a.low) }

    static func - (a: DoubleDouble, b: DoubleDouble) -> DoubleDouble { a + -b }

    static func * (a: DoubleDouble, b: DoubleDouble) -> DoubleDouble {
        let p = product(a.high, b.high)
        return orderedSum(p.high, p.low + (a.high * b.low + a.low * b.high))
    }

    static func * (a: DoubleDouble, b: Double) -> DoubleDouble {
        let p = product(a.high, b)
        return orderedSum(p.high, p.low + a.low * b)
    }

    static func / (a: DoubleDouble, b: DoubleDouble) -> DoubleDouble {
        let first = a.high / b.high
        let rest = a - b * first
        let second = rest.high / b.high
        let last = (rest - b * second).high / b.high
        let q = orderedSum(first, second)
        return q + DoubleDouble(last)
    }

    /// Times a power of two; exact but for underflow.
    func scaled(by power: Double) -> DoubleDouble { DoubleDouble(high * power, low * power) }

    /// Rounded once to binary32, gradual underflow included: the high part is made odd where the low part is not 0, and a conversion
    /// from 53 bits rounded to odd is as one from the sum.
    var single: Float {
        var h = high
        if low != 0 && h.bitPattern & 1 == 0 {
            let isAway = (low > 0) == (h > 0)
            h = Double(bitPattern: isAway ? h.bitPattern &+ 1 : h.bitPattern &- 1)
        }
        return Float(h)
    }
}
