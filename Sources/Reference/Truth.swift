import ExactMath

/// What goes beside the bits of a sum: the exact real result and the magnitude that scales a tolerated error (Q1, Q2).
///
/// Both are exact sums rounded once, RNE64; they have nothing to do with any order of accumulation.
///
/// Edge cases: of no terms, and where the terms cancel, `truth` is +0. With a NaN term, a product 0 * infinity, or infinities
/// of both signs, `truth` and `bounds` are NaN. With infinities of one sign, `truth` is that infinity and `bounds` +infinity.
public struct TruthAndBounds: Sendable {
    private var sum = ExactSum()
    private var sumOfMagnitudes = ExactSum()

    /// The empty sum.
    public init() {}

    /// Adds the term `x`.
    public mutating func add(_ x: Float) {
        sum.add(x)
        sumOfMagnitudes.addMagnitude(x)
    }

    /// Adds the term `x` * `y`.
    public mutating func addProduct(_ x: Float, _ y: Float) {
        sum.addProduct(x, y)
        sumOfMagnitudes.addProductOfMagnitudes(x, y)
    }

    /// RNE64 of the exact sum (Q1).
    public var truth: Double { sum.roundedToDouble() }

    /// RNE64 of the exact sum of the terms' magnitudes (Q2); NaN where `truth` is.
    public var bounds: Double {
        let truth = sum.roundedToDouble()
        return truth.isNaN ? truth : sumOfMagnitudes.roundedToDouble()
    }
}
