import ExactMath

/// Sums, sums of products and maxima of fp32 values, each in a stated order (clause R).
///
/// The index i of a reduction is absolute (R5): a key's position in its sequence, not in a tile. Where some terms do not take
/// part, `isVisible` says so; they are skipped, and their value is not asked for.
///
/// Edge cases, of all sums: of no terms +0; +0 is added at the end, so that no sum is -0; gradual underflow (F3); NaN is
/// canonical (F2); infinities of both signs give NaN.
public enum Reductions {
    /// The orders of clause R by name; the raw value stands in the name of an operation, `sum.<order>`.
    public enum Order: String, Sendable, CaseIterable {
        /// R1: 16 interleaved lanes, combined in halves.
        case lane16
        /// R2: R1 of each 4096 consecutive values, then R1 of the results.
        case lane16x4096
        /// R3: ascending.
        case chain
    }

    /// The sum of `x` in the given order.
    public static func sum(_ x: [Float], order: Order) -> Float {
        switch order {
        case .lane16: lane16(count: x.count) { i in x[i] }
        case .lane16x4096: lane16x4096(count: x.count) { i in x[i] }
        case .chain: chain(count: x.count) { i in x[i] }
        }
    }

    /// The sum of `x[i]` * `y[i]` in the given order, every product in an fma. Arrays of different length are a programmer's
    /// error.
    public static func sumOfProducts(_ x: [Float], _ y: [Float], order: Order) -> Float {
        precondition(x.count == y.count, "factors of length \(x.count) and \(y.count)")
        return switch order {
        case .lane16: lane16(count: x.count, factors: { i in (x[i], y[i]) })
        case .lane16x4096: lane16x4096(count: x.count, factors: { i in (x[i], y[i]) })
        case .chain: chain(count: x.count, factors: { i in (x[i], y[i]) })
        }
    }

    // MARK: - R1

    /// R1: the sum of `value(i)`, i = 0 ..< `count`, in 16 lanes.
    public static func lane16(
        count: Int, isVisible: (_ i: Int) -> Bool = { _ in true }, value: (_ i: Int) -> Float
    ) -> Float {
        var lanes = [Float](repeating: 0, count: 16)
        for i in 0..<count where isVisible(i) {
            lanes[i % 16] = SoftFloat32.add(lanes[i % 16], value(i))  // R1
        }
        return combined(&lanes)
    }

    /// R1: the sum of products, lane = fma(x, y, lane).
    public static func lane16(
        count: Int, isVisible: (_ i: Int) -> Bool = { _ in true }, factors: (_ i: Int) -> (x: Float, y: Float)
    ) -> Float {
        var lanes = [Float](repeating: 0, count: 16)
        for i in 0..<count where isVisible(i) {
            let (x, y) = factors(i)
            lanes[i % 16] = SoftFloat32.fusedMultiplyAdd(x, y, lanes[i % 16])  // R1
        }
        return combined(&lanes)
    }

    /// R1: 16 lanes to one number: for w in 8, 4, 2, 1 lane l takes lane l + w; then +0 is added.
    private static func combined(_ lanes: inout [Float]) -> Float {
        for width in [8, 4, 2, 1] {
            for lane in 0..<width {
                lanes[lane] = SoftFloat32.add(lanes[lane], lanes[lane + width])  // R1
            }
        }
        return SoftFloat32.add(lanes[0], 0)  // R1
    }

    // MARK: - R2

    /// R2: R1 of each 4096 consecutive values, then R1 of the results.
    public static func lane16x4096(count: Int, value: (_ i: Int) -> Float) -> Float {
        var blocks: [Float] = []
        for start in stride(from: 0, to: count, by: 4096) {
            blocks.append(lane16(count: min(4096, count - start)) { i in value(start + i) })  // R2
        }
        return lane16(count: blocks.count) { block in blocks[block] }  // R2
    }

    /// R2 for a sum of products: R1 with fma of each 4096 consecutive pairs, then R1 of the results.
    public static func lane16x4096(count: Int, factors: (_ i: Int) -> (x: Float, y: Float)) -> Float {
        var blocks: [Float] = []
        for start in stride(from: 0, to: count, by: 4096) {
            blocks.append(lane16(count: min(4096, count - start), factors: { i in factors(start + i) }))  // R2
        }
        return lane16(count: blocks.count) { block in blocks[block] }  // R2
    }

    // MARK: - R3

    /// R3: the sum of `value(i)` in ascending i, from +0.
    public static func chain(
        count: Int, isVisible: (_ i: Int) -> Bool = { _ in true }, value: (_ i: Int) -> Float
    ) -> Float {
        var sum: Float = 0
        for i in 0..<count where isVisible(i) {
            sum = SoftFloat32.add(sum, value(i))  // R3
        }
        return SoftFloat32.add(sum, 0)  // R3
    }

    /// R3: the sum of products in ascending i, sum = fma(x, y, sum), from +0.
    public static func chain(
        count: Int, isVisible: (_ i: Int) -> Bool = { _ in true }, factors: (_ i: Int) -> (x: Float, y: Float)
    ) -> Float {
        var sum: Float = 0
        for i in 0..<count where isVisible(i) {
            let (x, y) = factors(i)
            sum = SoftFloat32.fusedMultiplyAdd(x, y, sum)  // R3
        }
        return SoftFloat32.add(sum, 0)  // R3
    }

    // MARK: - R4

    /// There was nothing to take a maximum of.
    public struct MaximumOfNothing: Error, CustomStringConvertible {
        /// How many values there were, all of them masked.
        public let count: Int

        public var description: String {
            "maximum of nothing: \(count) values, none of them visible; at least one is needed"
        }
    }

    /// R4: the largest of the visible `value(i)`, i = 0 ..< `count`: exact, whatever the order.
    ///
    /// Edge cases: a NaN makes the maximum NaN (canonical); a zero maximum is +0, also of negative zeros alone.
    ///
    /// - Throws: ``MaximumOfNothing`` if no term is visible.
    public static func maximum(
        count: Int, isVisible: (_ i: Int) -> Bool = { _ in true }, value: (_ i: Int) -> Float
    ) throws(MaximumOfNothing) -> Float {
        var largest: Float?
        for i in 0..<count where isVisible(i) {
            if let previous = largest {
                largest = SoftFloat32.maximum(previous, value(i))
            } else {
                largest = value(i)
            }
        }
        guard let largest else { throw MaximumOfNothing(count: count) }
        return SoftFloat32.add(largest, 0)  // R4, F2
    }

    /// R4: the largest element of `x`.
    ///
    /// - Throws: ``MaximumOfNothing`` if `x` is empty.
    public static func maximum(_ x: [Float]) throws(MaximumOfNothing) -> Float {
        try maximum(count: x.count) { i in x[i] }
    }

    // MARK: - Q1, Q2

    /// `truth` and `bounds` of the sum of `x` (Q1, Q2): no order has a part in them.
    public static func truthAndBounds(_ x: [Float]) -> (truth: Double, bounds: Double) {
        var result = TruthAndBounds()
        for i in 0..<x.count { result.add(x[i]) }
        return (result.truth, result.bounds)
    }

    /// `truth` and `bounds` of the sum of `x[i]` * `y[i]` (Q1, Q2).
    public static func truthAndBounds(_ x: [Float], _ y: [Float]) -> (truth: Double, bounds: Double) {
        precondition(x.count == y.count, "factors of length \(x.count) and \(y.count)")
        var result = TruthAndBounds()
        for i in 0..<x.count { result.addProduct(x[i], y[i]) }
        return (result.truth, result.bounds)
    }
}
