import ExactMath
import Foundation
import Reference
import Testing

/// exp(n / 6) against fp32 numbers in integers: t < exp(n / 6) iff t^6 < e^n, and e lies between sum / factorial and
/// (sum + 1) / factorial.
private struct ExponentialBounds {
    private static let terms: UInt64 = 45
    /// Powers of 45!, of the sum of 45!/k! for k <= 45, and of that sum plus 1.
    private var factorials = [NaturalNumber(1)]
    private var below = [NaturalNumber(1)]
    private var above = [NaturalNumber(1)]

    init() {
        var factorial = NaturalNumber(1)
        var sum = NaturalNumber(1)
        for k in 1...ExponentialBounds.terms {
            factorial = factorial * NaturalNumber(k)
            sum = sum * NaturalNumber(k) + NaturalNumber(1)
        }
        for n in 1...128 {
            factorials.append(factorials[n - 1] * factorial)
            below.append(below[n - 1] * sum)
            above.append(above[n - 1] * (sum + NaturalNumber(1)))
        }
    }

    /// Whether significand * 2^exponent is below exp(n / 6), above it, or (n = 0) equal; nil if the bounds leave it open.
    func order(_ significand: UInt64, _ exponent: Int, sixths n: Int) -> ComparisonResult? {
        // t^6 against e^n, both times the denominator: t^6 * 45!^n against sum^n, or t^6 * sum^-n against 45!^-n.
        let power = NaturalNumber(significand).power(6)
        let (left, right) = (max(6 * exponent, 0), max(-6 * exponent, 0))
        let magnitude = abs(n)
        let leastLeft = (power * (n >= 0 ? factorials : below)[magnitude]).shiftedLeft(by: left)
        let mostLeft = (power * (n >= 0 ? factorials : above)[magnitude]).shiftedLeft(by: left)
        let leastRight = (n >= 0 ? below : factorials)[magnitude].shiftedLeft(by: right)
        let mostRight = (n >= 0 ? above : factorials)[magnitude].shiftedLeft(by: right)
        if mostLeft < leastRight { return .orderedAscending }
        if mostRight < leastLeft { return .orderedDescending }
        return n == 0 ? .orderedSame : nil
    }

    func order(_ t: Float, sixths n: Int) -> ComparisonResult? {
        order(UInt64(t.bitPattern & 0x7F_FFFF | 0x80_0000), Int(t.bitPattern >> 23) - 150, sixths: n)
    }
}

@Suite("Squinch: scales and thresholds")
struct SquinchTablesTests {
    @Test("S2: T[q] is the least fp32 not below exp((q - 129) / 6), by sixth powers of integers")
    func thresholdsAreExact() {
        let bounds = ExponentialBounds()
        #expect(SquinchTables.thresholds.count == 255)
        for q in 1...255 {
            let threshold = SquinchTables.thresholds[q - 1]
            #expect(
                bounds.order(threshold, sixths: q - 129) == (q == 129 ? .orderedSame : .orderedDescending),
                "T[\(q)] = \(threshold) is below exp(\(q - 129)/6)")
            #expect(
                bounds.order(threshold.nextDown, sixths: q - 129) == .orderedAscending,
                "T[\(q)] = \(threshold) is not the least")
        }
    }

    @Test("S2: M[q] is the fp32 nearest to exp((q - 128) / 6), by sixth powers of integers")
    func scalesAreExact() {
        let bounds = ExponentialBounds()
        #expect(SquinchTables.scales.count == 256)
        for q in 0...255 {
            let scale = SquinchTables.scales[q]
            let significand = UInt64(scale.bitPattern & 0x7F_FFFF | 0x80_0000)
            let exponent = Int(scale.bitPattern >> 23) - 150
            // Half way to each neighbour, in quarters of a unit; the one below a power of two is half as far.
            let lower = 4 * significand - (significand == 0x80_0000 ? 1 : 2)
            #expect(bounds.order(lower, exponent - 2, sixths: q - 128) == .orderedAscending, "M[\(q)] = \(scale)")
            #expect(
                bounds.order(4 * significand + 2, exponent - 2, sixths: q - 128) == .orderedDescending,
                "M[\(q)] = \(scale)")
        }
    }

    @Test("S2: m <= M for every q_max below 255")
    func magnitudesDoNotExceedTheScale() {
        for q in 0..<255 {
            let largest = SquinchTables.thresholds[q].nextDown
            #expect(largest <= SquinchTables.scales[q], "scale byte \(q): \(largest) above \(SquinchTables.scales[q])")
        }
        #expect(SquinchTables.scales[255] < .greatestFiniteMagnitude)
    }

    @Test("S2: a threshold and its neighbours have the scale bytes on their sides")
    func neighboursOfThresholds() {
        for q in 1...255 {
            let threshold = SquinchTables.thresholds[q - 1]
            #expect(SquinchTables.scaleByte(largestMagnitude: threshold.nextDown) == q - 1, "below T[\(q)]")
            #expect(SquinchTables.scaleByte(largestMagnitude: threshold) == q, "T[\(q)]")
            #expect(SquinchTables.scaleByte(largestMagnitude: threshold.nextUp) == q, "above T[\(q)]")
        }
        for (m, q): (Float, UInt8) in [
            (0, 0), (-0.0, 0), (.leastNonzeroMagnitude, 0), (.leastNormalMagnitude, 0), (1, 129),
            (.greatestFiniteMagnitude, 255), (.infinity, 255),
        ] {
            #expect(SquinchTables.scaleByte(largestMagnitude: m) == q, "\(m)")
        }
    }

    @Test("S2: scale bytes of all magnitudes of a sample, against a logarithm in binary64")
    func sampleAgainstLogarithm() {
        let seed: UInt64 = 0x5CA1E
        var generator = SplitMix64(seed: seed)
        for _ in 0..<20_000 {
            let m = drawFloat(&generator, exponents: 90...162).magnitude
            #expect(
                Int(SquinchTables.scaleByte(largestMagnitude: m)) == SecondSquinch.scaleByte(m), "\(m), seed \(seed)")
        }
    }

    @Test("S2: an fp32 logarithm misclassifies 241 of the 765 values at and next to a threshold")
    func naiveLogarithmIsWrong() {
        func naiveScaleByte(_ m: Float) -> Int {
            Int(SoftFloat32.multiply(6, CorrectlyRounded.log(m)).rounded(.down)) + 129
        }
        var wrong = 0
        for q in 1...255 {
            let threshold = SquinchTables.thresholds[q - 1]
            if naiveScaleByte(threshold.nextDown) != q - 1 { wrong += 1 }
            if naiveScaleByte(threshold) != q { wrong += 1 }
            if naiveScaleByte(threshold.nextUp) != q { wrong += 1 }
        }
        #expect(wrong == 241)
    }
}
