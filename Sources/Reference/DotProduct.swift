import BFloat16
import ExactMath
import ModelSpec

/// A dot product of bf16 factors accumulated in fp32, row after row (clause D).
///
/// A plain dot product has one row. A composite sum, over (head, query) or (batch, token), is one chain over several rows in
/// ascending order (D4): call ``addRow(count:isVisible:factors:)`` once for each innermost row.
///
///     var sum = DotAccumulator(recipe: .pairedFTZ)
///     for row in 0..<rows {
///         sum.addRow(count: depth) { k in (a[row * depth + k], b[k * columns + column]) }
///     }
///     let result = sum.finished()
public struct DotAccumulator: Sendable {
    /// The order and the underflow rule.
    public let recipe: DotRecipe
    /// How the steps are computed; the same bits either way.
    public let arithmetic: Arithmetic
    private var accumulator: Float

    /// Starts at +0, or at a given fp32 C. Under `paired-ftz` a subnormal C is read as a zero of its sign (D1).
    public init(recipe: DotRecipe, initial: Float = 0, arithmetic: Arithmetic = .soft) {
        self.recipe = recipe
        self.arithmetic = arithmetic
        switch recipe {
        case .pairedFTZ: accumulator = SoftFloat32.flushingSubnormal(initial)  // D1
        case .chainIEEE: accumulator = initial  // D2
        }
    }

    /// Adds the products of one innermost row, k = 0 ..< `count`.
    ///
    /// Masked terms are skipped (D3): where `isVisible(k)` is false the step is left out and `factors(k)` is not asked for,
    /// so that what lies there, a NaN too, has no effect. The pairs of `paired-ftz` stay those of the absolute index, 2p
    /// with 2p + 1, whatever is visible: with one of the two masked, the other is a single step.
    ///
    /// - Parameters:
    ///   - count: the row's length, masked terms included; 0 adds nothing.
    ///   - isVisible: whether term k takes part; every term by default.
    ///   - factors: a[k] and b[k].
    public mutating func addRow(
        count: Int,
        isVisible: (_ k: Int) -> Bool = { _ in true },
        factors: (_ k: Int) -> (a: BFloat16, b: BFloat16)
    ) {
        switch recipe {
        case .pairedFTZ:  // D1, D4
            for p in 0..<(count + 1) / 2 {
                let odd = 2 * p + 1
                let even = 2 * p
                if odd == count {
                    // The row padded with +0 to even length.
                    step(BFloat16(bitPattern: 0), BFloat16(bitPattern: 0))
                } else if isVisible(odd) {
                    let (a, b) = factors(odd)
                    step(a, b)
                }
                if isVisible(even) {
                    let (a, b) = factors(even)
                    step(a, b)
                }
            }
        case .chainIEEE:  // D2
            for k in 0..<count where isVisible(k) {
                let (a, b) = factors(k)
                step(a, b)
            }
        }
    }

    /// acc = F(a, b, acc) (D1), or fma(a, b, acc) (D2).
    @inline(__always)
    private mutating func step(_ a: BFloat16, _ b: BFloat16) {
        let (x, y) = (widened(a), widened(b))
        accumulator =
            switch (recipe, arithmetic) {
            case (.pairedFTZ, .soft): SoftFloat32.fusedMultiplyAddFlushing(x, y, accumulator)
            case (.chainIEEE, .soft): SoftFloat32.fusedMultiplyAdd(x, y, accumulator)
            case (.pairedFTZ, .hardware): HardwareFloat32.fusedMultiplyAddFlushing(x, y, accumulator)
            case (.chainIEEE, .hardware): HardwareFloat32.fusedMultiplyAdd(x, y, accumulator)
            }
    }

    /// The sum as stored: +0 added, so that it is never -0 (D3); a NaN is canonical (F2).
    public func finished() -> Float {
        SoftFloat32.add(accumulator, 0)  // D3
    }

    /// bf16 to fp32, exact (F1).
    @inline(__always)
    private func widened(_ x: BFloat16) -> Float {
        switch arithmetic {
        case .soft: SoftFloat32.convert(bfloat16Bits: x.bitPattern)
        case .hardware: Float(bitPattern: UInt32(x.bitPattern) << 16)
        }
    }
}

/// The dot product of two bf16 vectors of equal length (clauses D1 to D3): fp32, from +0 or from a given C.
///
/// Edge cases, of both recipes: of no terms, C + 0; NaN is canonical; 0 * infinity and infinity - infinity are NaN; the
/// result is never -0. Vectors of different length are a programmer's error.
public enum DotProduct {
    /// D1: pairs along k, the odd element first, every step F(a, b, acc), which reads and writes subnormals as zero.
    ///
    /// Edge cases: a subnormal factor counts as zero, so that times infinity it is NaN; the result is never subnormal.
    public static func pairedFTZ(_ a: [BFloat16], _ b: [BFloat16], initial: Float = 0) -> Float {
        dot(a, b, initial: initial, recipe: .pairedFTZ)
    }

    /// D2: ascending k, acc = fma(a[k], b[k], acc) with gradual underflow.
    public static func chainIEEE(_ a: [BFloat16], _ b: [BFloat16], initial: Float = 0) -> Float {
        dot(a, b, initial: initial, recipe: .chainIEEE)
    }

    /// The dot product by a recipe given as data.
    public static func dot(_ a: [BFloat16], _ b: [BFloat16], initial: Float = 0, recipe: DotRecipe) -> Float {
        precondition(a.count == b.count, "factors of length \(a.count) and \(b.count)")
        var sum = DotAccumulator(recipe: recipe, initial: initial)
        sum.addRow(count: a.count) { k in (a[k], b[k]) }
        return sum.finished()
    }
}
