import Foundation
import GoldenIO

/// A floating-point format by its fields; enough to order its values and to take them apart.
struct FloatFields {
    let significandBits: Int
    let exponentBits: Int

    init?(_ type: ElementType) {
        switch type {
        case .bf16: (significandBits, exponentBits) = (7, 8)
        case .fp16: (significandBits, exponentBits) = (10, 5)
        case .fp32: (significandBits, exponentBits) = (23, 8)
        case .fp64: (significandBits, exponentBits) = (52, 11)
        default: return nil
        }
    }

    var bias: Int { (1 << (exponentBits - 1)) - 1 }
    var signBit: UInt64 { 1 << UInt64(significandBits + exponentBits) }
    var infinity: UInt64 { ((1 << UInt64(exponentBits)) - 1) << UInt64(significandBits) }

    func isNaN(_ bits: UInt64) -> Bool { bits & (signBit - 1) > infinity }

    /// Representable values apart: -0 is one step below +0. nil if exactly one is NaN; two NaNs are 0 apart.
    func distance(_ a: UInt64, _ b: UInt64) -> UInt64? {
        if isNaN(a) || isNaN(b) { return isNaN(a) && isNaN(b) ? 0 : nil }
        // Negative numbers count downward from -1 = -0.
        func ordered(_ bits: UInt64) -> Int64 {
            let magnitude = Int64(bitPattern: bits & (signBit - 1))
            return bits & signBit == 0 ? magnitude : -1 - magnitude
        }
        let (difference, overflow) = ordered(a).subtractingReportingOverflow(ordered(b))
        return overflow ? .max : difference.magnitude
    }

    /// Half a unit in the last place of the format at a magnitude: what the rounding of the output may cost.
    func halfUnit(at magnitude: Double) -> Double {
        let least = 1 - bias - significandBits
        let unit = magnitude == 0 ? least : max(Int(magnitude.exponent) - significandBits, least)
        return power(unit - 1)
    }

    func text(_ bits: UInt64) -> String {
        let sign = bits & signBit == 0 ? "+" : "-"
        let exponent = Int(bits >> UInt64(significandBits)) & ((1 << exponentBits) - 1)
        let fraction = bits & ((1 << UInt64(significandBits)) - 1)
        let digits = String(fraction, radix: 2)
        let binary = String(repeating: "0", count: significandBits - digits.count) + digits
        if exponent == (1 << exponentBits) - 1 {
            if fraction == 0 { return "\(sign) infinity" }
            return "\(sign) \(fraction >> UInt64(significandBits - 1) == 1 ? "quiet" : "signalling") NaN \(binary)"
        }
        if exponent == 0 { return fraction == 0 ? "\(sign) 0" : "\(sign) 2^\(1 - bias) x 0.\(binary)" }
        return "\(sign) 2^\(exponent - bias) x 1.\(binary)"
    }
}

/// 2^n exactly, 0 below the range of binary64.
func power(_ n: Int) -> Double {
    if n >= -1022 { return Double(bitPattern: UInt64(n + 1023) << 52) }
    return n < -1074 ? 0 : Double(bitPattern: 1 << UInt64(n + 1074))
}

/// Compares one output with what the specification demands.
struct OutputComparison {
    let goldenCase: GoldenCase
    let name: String
    let expected: Tensor
    let policy: Policy
    let nanRule: NaNRule

    /// kappa of clause Q3 where the recipe does not say it.
    static let standardKappa = 4.0

    func report(_ got: Tensor?) -> OutputReport {
        guard let got else { return unjudged(.missing, "the candidate has no outputs/\(name)") }
        guard got.type == expected.type, got.shape == expected.shape else {
            return unjudged(
                .malformed,
                "outputs/\(name) is \(got.type.rawValue) \(got.shape), expected \(expected.type.rawValue) \(expected.shape)"
            )
        }
        let fields = FloatFields(expected.type)
        let effective = bound == nil && policy == .bound ? Policy.exact : policy
        var histogram = UlpHistogram()
        var mismatches = 0
        var failures = 0
        var first: Int?
        var last: Int?
        var worst: (index: Int, badness: Double)?
        if got.bytes == expected.bytes {
            if fields != nil { histogram.addEqual(expected.count) }
        } else {
            for index in 0..<expected.count {
                let (a, b) = (got.bits(at: index), expected.bits(at: index))
                if a == b || (nanRule == .asClass && fields?.isNaN(a) == true && fields?.isNaN(b) == true) {
                    if fields != nil { histogram.addEqual(1) }
                    continue
                }
                let ulps = fields?.distance(a, b)
                if fields != nil { histogram.add(ulps) }
                mismatches += 1
                if !allows(effective, got, index, ulps) { failures += 1 }
                first = first ?? index
                last = index
                let badness = shareOfBound(got, index) ?? ulps.map(Double.init) ?? (fields == nil ? 0 : .infinity)
                if badness > worst?.badness ?? -1 { worst = (index, badness) }
            }
        }
        let statistics = mismatches > 0 && effective == .bound ? statistics(of: got) : nil
        var note: String?
        var verdict: Verdict
        if mismatches == 0 {
            verdict = .exact
        } else if failures > 0 || effective == .exact {
            verdict = .outside
        } else if effective == .bound {
            verdict = .legalReordering
            if let statistics, abs(statistics.mean) > statistics.meanLimit {
                verdict = .outside
                note =
                    "biased: the mean error is \(statistics.mean.short) of the bound, at most \(statistics.meanLimit.short) is allowed"
            } else if let statistics, statistics.variance > statistics.varianceLimit {
                verdict = .outside
                note =
                    "scattered: the variance of the errors is \(statistics.variance.short), at most \(statistics.varianceLimit.short) is allowed"
            }
        } else {
            verdict = .withinTolerance
        }
        func detail(_ index: Int?) -> MismatchDetail? { index.map { describe($0, got, fields) } }
        return OutputReport(
            name: name, verdict: verdict, policy: effective, elements: expected.count, mismatches: mismatches,
            failures: effective == .exact ? mismatches : failures, note: note, histogram: histogram,
            statistics: statistics, first: detail(first),
            worst: detail(worst?.index), last: detail(last), isVacuous: effective != .exact && isVacuous(effective))
    }

    private func unjudged(_ verdict: Verdict, _ note: String) -> OutputReport {
        OutputReport(
            name: name, verdict: verdict, policy: policy, elements: expected.count, mismatches: 0, failures: 0,
            note: note,
            histogram: UlpHistogram(), statistics: nil, first: nil, worst: nil, last: nil, isVacuous: false)
    }

    // MARK: Rules

    private func allows(_ policy: Policy, _ got: Tensor, _ index: Int, _ ulps: UInt64?) -> Bool {
        switch policy {
        case .exact: return false
        case .ulp(let count): return expected.type.isFloatingPoint && ulps.map { $0 <= count } ?? false
        case .bound: return isInsideBound(got, index)
        }
    }

    /// truth, bounds, and the factor kappa * 2^-24 * sqrt(n + 1) of Q3; nil where the case has none for this output.
    private var bound: (truth: Tensor, bounds: Tensor, factor: Double)? {
        guard let truth = goldenCase.truth[name], let bounds = goldenCase.bounds[name], truth.type == .fp64,
            bounds.type == .fp64, truth.count == expected.count, bounds.count == expected.count,
            FloatFields(expected.type) != nil
        else { return nil }
        var kappa = Self.standardKappa
        switch goldenCase.recipe["kappa"] {
        case .number(let value)?: kappa = value
        case .integer(let value)?: kappa = Double(value)
        default: break
        }
        var n = 0.0
        if case .integer(let value)? = goldenCase.recipe["n"] { n = Double(value) }
        return (truth, bounds, kappa * power(-24) * (n + 1).squareRoot())
    }

    /// The tolerance of an element with finite truth; enlarged by 2^-40 of itself, so that no rounding of this computation makes a false
    /// alarm.
    private func tolerance(_ truth: Double, _ bounds: Double, _ factor: Double, _ fields: FloatFields) -> Double {
        (factor * bounds + fields.halfUnit(at: truth.magnitude)) * (1 + power(-40))
    }

    private func isInsideBound(_ got: Tensor, _ index: Int) -> Bool {
        guard let (truths, bounds, factor) = bound, let fields = FloatFields(expected.type) else { return false }
        let (value, truth) = (got.doubleValue(at: index), truths.doubleValue(at: index))
        let golden = expected.doubleValue(at: index)
        if truth.isNaN { return value.isNaN }
        if truth.isInfinite { return value == truth }
        if !value.isFinite {
            // Only where the exact result itself is beyond the format: rounded once, it would be that infinity.
            return value.isInfinite && golden == value
                && truth.magnitude + fields.halfUnit(at: truth.magnitude) > greatest(fields)
        }
        return (value - truth).magnitude <= tolerance(truth, bounds.doubleValue(at: index), factor, fields)
    }

    private func greatest(_ fields: FloatFields) -> Double {
        power(fields.bias) * (2 - power(-fields.significandBits))
    }

    private func shareOfBound(_ got: Tensor, _ index: Int) -> Double? {
        guard let (truths, bounds, factor) = bound, let fields = FloatFields(expected.type) else { return nil }
        let (value, truth, scale) = (
            got.doubleValue(at: index), truths.doubleValue(at: index), bounds.doubleValue(at: index)
        )
        guard value.isFinite, truth.isFinite, scale.isFinite else { return .infinity }
        return (value - truth).magnitude / tolerance(truth, scale, factor, fields)
    }

    /// Mean and variance of the errors over their tolerances, of 64 elements or more.
    ///
    /// A mean is suspect beyond six standard errors (a false alarm in 2e-9 of outputs for independent errors) and beyond 5 % of the tolerance, so that
    /// what is not worth naming is not named; a variance beyond 0.4, more than that of errors spread evenly over the whole tolerance, 1/3.
    private func statistics(of got: Tensor) -> ErrorStatistics? {
        guard let (truths, bounds, factor) = bound, let fields = FloatFields(expected.type) else { return nil }
        var count = 0
        var (sum, squares, largest) = (0.0, 0.0, 0.0)
        for index in 0..<expected.count {
            let (value, truth, scale) = (
                got.doubleValue(at: index), truths.doubleValue(at: index), bounds.doubleValue(at: index)
            )
            guard value.isFinite, truth.isFinite, scale.isFinite, scale > 0 else { continue }
            let share = (value - truth) / tolerance(truth, scale, factor, fields)
            count += 1
            sum += share
            squares += share * share
            largest = max(largest, share.magnitude)
        }
        guard count >= 64 else { return nil }
        let mean = sum / Double(count)
        let variance = max(0, squares / Double(count) - mean * mean)
        return ErrorStatistics(
            count: count, largest: largest, mean: mean, variance: variance,
            meanLimit: max(0.05, 6 * (variance / Double(count)).squareRoot()), varianceLimit: 0.4)
    }

    /// Whether zeros, or NaNs, would pass although some of the right answer is neither.
    private func isVacuous(_ policy: Policy) -> Bool {
        guard let fields = FloatFields(expected.type) else { return false }
        func passes(_ bits: UInt64, isNaN: Bool) -> Bool {
            var isTrivial = true
            let bytes = (0..<expected.count).flatMap { _ in
                (0..<expected.type.byteWidth).map { UInt8(truncatingIfNeeded: bits >> UInt64(8 * $0)) }
            }
            guard let constant = try? Tensor(type: expected.type, shape: expected.shape, bytes: bytes) else {
                return false
            }
            for index in 0..<expected.count {
                let right = expected.bits(at: index)
                if isNaN ? fields.isNaN(right) : right & (fields.signBit - 1) == 0 { continue }
                isTrivial = false
                if !allows(policy, constant, index, fields.distance(bits, right)) { return false }
            }
            return !isTrivial
        }
        return passes(0, isNaN: false) || passes(fields.infinity | fields.infinity >> 1, isNaN: true)
    }

    // MARK: Description

    private func describe(_ index: Int, _ got: Tensor, _ fields: FloatFields?) -> MismatchDetail {
        MismatchDetail(
            index: index, position: position(index, expected.shape), expected: ElementText(expected, index),
            got: ElementText(got, index),
            ulps: fields?.distance(got.bits(at: index), expected.bits(at: index)),
            shareOfBound: shareOfBound(got, index),
            inputs: inputs(of: index))
    }

    private func position(_ index: Int, _ shape: [Int]) -> [Int] {
        var rest = index
        var result: [Int] = []
        for size in shape.reversed() {
            result.append(rest % size)
            rest /= size
        }
        return result.reversed()
    }

    /// The inputs that made an element: those at the same index, the row and column of a product, the block of a codec.
    private func inputs(of index: Int) -> [InputText] {
        goldenCase.inputs.tensors.compactMap { named in
            guard let range = indices(of: named, for: index), !range.isEmpty else { return nil }
            let shown = range.prefix(8).map { element in
                "\(named.tensor.bitsText(at: element)) = \(named.tensor.valueText(at: element))"
            }
            let more = range.count > 8 ? ", ... \(range.count - 8) more" : ""
            return InputText(name: named.name, text: shown.joined(separator: ", ") + more)
        }
    }

    private func indices(of input: NamedTensor, for index: Int) -> [Int]? {
        let shape = input.tensor.shape
        let place = position(index, expected.shape)
        if goldenCase.op == "dot.gemm", place.count == 2, shape.count == 2 {
            switch input.name {
            case "a": return Array(place[0] * shape[1]..<(place[0] + 1) * shape[1])
            case "b": return (0..<shape[0]).map { $0 * shape[1] + place[1] }
            default: break
            }
        }
        if shape == expected.shape { return [index] }
        guard let row = place.first, let rows = expected.shape.first, let inputRows = shape.first else { return nil }
        if goldenCase.op.hasPrefix("squinch.") || goldenCase.op.hasPrefix("allreduce.") {
            // Blocks of 8 values against rows of 6 bytes.
            if shape.count == 1 && expected.shape.count == 2 { return Array(8 * row..<min(8 * row + 8, shape[0])) }
            if shape.count == 2 && shape[1] == 6 { return Array(6 * (index / 8)..<6 * (index / 8) + 6) }
            return nil
        }
        // A row of inputs for a row of outputs.
        guard rows == inputRows, rows > 0 else { return nil }
        let width = input.tensor.count / rows
        return Array(row * width..<(row + 1) * width)
    }
}

extension Double {
    /// Three significant digits.
    var short: String { String(format: "%.3g", self) }
}
