import Cases
import Goldens

/// What is allowed to an output, and whether somebody asked for it.
struct AppliedPolicy {
    let policy: Policy
    /// False for the standard policy of the operation.
    let isAskedFor: Bool
}

/// truth and the scale of errors of one output (Q3): |got - truth| <= factor * bounds + half a unit of the output's format at truth.
struct OutputBound {
    let truth: any TensorSource
    let bounds: any TensorSource
    let factor: Double

    /// The tolerance of an element with finite truth; enlarged by 2^-40 of itself, so that no rounding of this computation makes a false
    /// alarm.
    func tolerance(_ truth: Double, _ bounds: Double, _ fields: FloatFields) -> Double {
        (factor * bounds + fields.halfUnit(at: truth.magnitude)) * (1 + power(-40))
    }

    /// Whether `value` is inside, where the golden value is `golden` (Q3, Q4).
    func allows(_ value: Double, truth: Double, bounds: Double, golden: Double, _ fields: FloatFields) -> Bool {
        if truth.isNaN { return value.isNaN }
        if truth.isInfinite { return value == truth }
        if !value.isFinite {
            // Where the exact result itself is beyond the format: rounded once, it would be that infinity. Or where a partial sum may overflow in
            // some order (Q4).
            if value.isInfinite && golden == value
                && truth.magnitude + fields.halfUnit(at: truth.magnitude) > fields.greatest
            {
                return true
            }
            // A sum that another order takes to where the format's infinity begins.
            if value.isInfinite, (value > 0) == (truth > 0),
                truth.magnitude + factor * bounds >= fields.greatest + fields.halfUnit(at: fields.greatest)
            {
                return true
            }
            let overflow = mayOverflow(truth, bounds, fields)
            if value.isNaN { return overflow.upward && overflow.downward }
            return value > 0 ? overflow.upward : overflow.downward
        }
        let tolerance = tolerance(truth, bounds, fields)
        if (value - truth).magnitude <= tolerance { return true }
        // The specified result itself is outside: it flushes, or stagnates. What lies between it and the truth is a part of that (Q4).
        guard golden.isFinite, (golden - truth).magnitude > tolerance else { return false }
        return min(golden, truth) - tolerance <= value && value <= max(golden, truth) + tolerance
    }

    /// Whether the terms of one sign alone add up to more than the format holds: (bounds + truth) / 2 and (bounds - truth) / 2.
    func mayOverflow(_ truth: Double, _ bounds: Double, _ fields: FloatFields) -> (upward: Bool, downward: Bool) {
        // Partial sums are fp32 whatever the output's format is (D6): bf16 has nearly its range, fp16 has not.
        let most = max(fields.greatest, power(127) * (2 - power(-7))) * (1 - power(-20))
        return ((bounds / 2 + truth / 2) > most, (bounds / 2 - truth / 2) > most)
    }

    /// |value - truth| over the tolerance; infinite where one is not finite.
    func share(_ value: Double, _ truth: Double, _ bounds: Double, _ fields: FloatFields) -> Double {
        guard value.isFinite, truth.isFinite, bounds.isFinite else { return .infinity }
        return (value - truth).magnitude / tolerance(truth, bounds, fields)
    }
}

/// Compares one output with what the specification demands, a slab of elements at a time.
struct OutputComparison {
    let goldenCase: CaseView
    let name: String
    let expected: any TensorSource
    let applied: AppliedPolicy
    let nanRule: NaNRule
    var wantsPictures = false
    /// The implementation's case, whose other outputs some tests need.
    var answer: CaseView?

    /// kappa of clause Q3 for sums in fp32.
    static let standardKappa = 4.0
    /// Elements in memory at a time.
    static let slab = 1 << 17

    func report(_ got: (any TensorSource)?) throws -> OutputReport {
        guard let got else { return unjudged(.missing, "the candidate has no outputs/\(name)") }
        guard got.type == expected.type, got.shape == expected.shape else {
            return unjudged(
                .malformed,
                "outputs/\(name) is \(got.type.rawValue) \(got.shape), expected \(expected.type.rawValue) \(expected.shape)"
            )
        }
        return try compare(got)
    }

    private func compare(_ got: any TensorSource) throws -> OutputReport {
        let fields = FloatFields(expected.type)
        var effective = applied.policy
        // Integers have no units to be apart by.
        if case .ulp = effective, fields == nil { effective = .exact }
        var bound: OutputBound?
        if effective == .bound, fields != nil {
            // Derived bounds cost a computation: made once something differs.
            bound = try storedBound()
            if DerivedBounds.has(goldenCase.op, name) {
                if try isEqual(got) { bound = nil } else { bound = try DerivedBounds.make(goldenCase, name) ?? bound }
            }
        }
        if effective == .bound && bound == nil && !DerivedBounds.has(goldenCase.op, name) { effective = .exact }
        var sample: SampleTest?
        if effective == .distribution {
            sample = try SampleTest.make(goldenCase, name)
            if sample == nil { effective = .exact }
        }

        var tally = Tally(fields: fields, shape: expected.shape, hasBound: bound != nil, wantsPictures: wantsPictures)
        var vacuity = Vacuity(fields: fields, policy: effective, bound: bound)
        var statistics = StatisticsAccumulator()
        /// The slabs before the first difference, whose statistics are still to be taken.
        var skipped = 0
        for start in stride(from: 0, to: expected.count, by: Self.slab) {
            let range = start..<min(start + Self.slab, expected.count)
            let (right, answer) = (try expected.elements(range), try got.elements(range))
            let isEqual = right.bytes == answer.bytes
            if isEqual && fields != nil { tally.histogram.addEqual(range.count) }
            let isDifferentYet = tally.mismatches > 0 || !isEqual
            let needsBound = bound != nil && (isDifferentYet || vacuity.isOpen)
            let truths = needsBound ? try bound?.truth.doubles(range) : nil
            let bounds = needsBound ? try bound?.bounds.doubles(range) : nil
            let rightBits = isEqual && !vacuity.isOpen && !needsBound ? [] : right.allBits
            if vacuity.isOpen { vacuity.add(rightBits, truths, bounds) }
            if !isEqual {
                tally.add(
                    answer.allBits, rightBits, from: start, policy: effective, nanRule, bound, truths, bounds)
            }
            guard let bound, let fields, effective == .bound else { continue }
            if isDifferentYet, let truths, let bounds {
                statistics.add(isEqual ? rightBits : answer.allBits, rightBits, truths, bounds, bound, fields)
            } else {
                skipped = range.upperBound
            }
        }
        if let bound, let fields, effective == .bound, tally.mismatches > 0 {
            for start in stride(from: 0, to: skipped, by: Self.slab) {
                let range = start..<min(start + Self.slab, skipped)
                let bits = try got.words(range)
                statistics.add(
                    bits, bits, try bound.truth.doubles(range), try bound.bounds.doubles(range), bound, fields)
            }
        }
        var isVacuous = effective != .exact && vacuity.isVacuous
        if effective == .bound && isVacuous && !applied.isAskedFor {
            // Nobody asked for a tolerance, and this one would let zeros pass: bits judge.
            (effective, isVacuous) = (.exact, false)
        }
        let found = tally.mismatches > 0 && effective == .bound ? statistics.result : nil
        var (verdict, note) = Self.verdict(effective, tally, found)
        if let sample, tally.mismatches > 0 {
            let outcome = try sample.judge(got, goldenCase, name, answer)
            verdict = outcome.conforms ? .inDistribution : .outside
            note = outcome.text
            isVacuous = try sample.isVacuous(expected, goldenCase, name, answer)
        }
        return OutputReport(
            name: name, verdict: verdict, policy: effective, elements: expected.count, mismatches: tally.mismatches,
            failures: effective == .exact ? tally.mismatches : verdict == .inDistribution ? 0 : tally.failures,
            note: note, histogram: tally.histogram, statistics: found,
            first: try tally.first.map { try describe($0, got, fields, bound) },
            worst: try tally.worst.map { try describe($0.index, got, fields, bound) },
            last: try tally.last.map { try describe($0, got, fields, bound) },
            pictures: tally.pictures, isVacuous: isVacuous)
    }

    private static func verdict(
        _ policy: Policy, _ tally: Tally, _ statistics: ErrorStatistics?
    ) -> (Verdict, String?) {
        if tally.mismatches == 0 { return (.exact, nil) }
        if tally.failures > 0 || policy == .exact { return (.outside, nil) }
        guard policy == .bound else { return (.withinTolerance, nil) }
        if let complaint = statistics?.complaint { return (.outside, complaint) }
        return (.legalReordering, nil)
    }

    private func isEqual(_ got: any TensorSource) throws -> Bool {
        for start in stride(from: 0, to: expected.count, by: Self.slab) {
            let range = start..<min(start + Self.slab, expected.count)
            if try expected.elements(range).bytes != got.elements(range).bytes { return false }
        }
        return true
    }

    func unjudged(_ verdict: Verdict, _ note: String) -> OutputReport {
        OutputReport(
            name: name, verdict: verdict, policy: applied.policy, elements: expected.count, mismatches: 0, failures: 0,
            note: note, histogram: UlpHistogram(), statistics: nil, first: nil, worst: nil, last: nil, pictures: nil,
            isVacuous: false)
    }

    /// truth and bounds as the golden file gives them, with the factor kappa * 2^-24 * sqrt(n + 1) of Q3; nil where the case has none for this
    /// output.
    private func storedBound() throws -> OutputBound? {
        guard let truth = goldenCase[.truth, name], let bounds = goldenCase[.bounds, name], truth.type == .fp64,
            bounds.type == .fp64, truth.count == expected.count, bounds.count == expected.count
        else { return nil }
        let constants = try BoundConstants(goldenCase.op, goldenCase.recipe) { goldenCase[.inputs, $0] }
        let (kappa, n) = constants.map { (Double($0.kappa), Double($0.n)) } ?? (Self.standardKappa, 0)
        return OutputBound(truth: truth, bounds: bounds, factor: kappa * power(-24) * (n + 1).squareRoot())
    }

    // MARK: Description

    private func describe(
        _ index: Int, _ got: any TensorSource, _ fields: FloatFields?, _ bound: OutputBound?
    ) throws -> MismatchDetail {
        let (answer, right) = (try got.elements(index..<index + 1), try expected.elements(index..<index + 1))
        var share: Double?
        if let bound, let fields {
            share = bound.share(
                answer.doubleValue(at: 0), try bound.truth.doubles(index..<index + 1)[0],
                try bound.bounds.doubles(index..<index + 1)[0], fields)
        }
        return MismatchDetail(
            index: index, position: Checker.place(of: index, in: expected.shape), expected: ElementText(right, 0),
            got: ElementText(answer, 0),
            ulps: fields?.distance(answer.bits(at: 0), right.bits(at: 0)), shareOfBound: share,
            inputs: try inputs(of: index))
    }

    /// The inputs that made an element: those at the same index, the row and column of a product, the block of a codec.
    private func inputs(of index: Int) throws -> [InputText] {
        var texts: [InputText] = []
        for named in goldenCase[.inputs] {
            guard let indices = indices(of: named, for: index), indices.count > 0 else { continue }
            var shown: [String] = []
            for element in indices.prefix(8) {
                let one = try named.tensor.elements(element..<element + 1)
                shown.append("\(one.bitsText(at: 0)) = \(one.valueText(at: 0))")
            }
            let more = indices.count > 8 ? ", ... \(indices.count - 8) more" : ""
            texts.append(InputText(name: named.name, text: shown.joined(separator: ", ") + more))
        }
        return texts
    }

    private func indices(of input: CaseView.NamedSource, for index: Int) -> Indices? {
        let shape = input.tensor.shape
        let place = Checker.place(of: index, in: expected.shape)
        // nil where a damaged file's shapes do not fit one another.
        func run(_ first: Int, _ count: Int, by step: Int = 1) -> Indices? {
            guard count == 0 || first + (count - 1) * step < input.tensor.count else { return nil }
            return Indices(first: first, count: count, step: step)
        }
        if goldenCase.op == "dot.gemm", place.count == 2, shape.count == 2 {
            switch input.name {
            case "a": return run(place[0] * shape[1], shape[1])
            case "b": return run(place[1], shape[0], by: shape[1])
            default: break
            }
        }
        if shape == expected.shape { return run(index, 1) }
        guard let row = place.first, let rows = expected.shape.first, let inputRows = shape.first else { return nil }
        if goldenCase.op.hasPrefix("squinch.") || goldenCase.op.hasPrefix("allreduce.") {
            // Blocks of 8 values against rows of 6 bytes.
            if shape.count == 1 && expected.shape.count == 2 { return run(8 * row, max(0, min(8, shape[0] - 8 * row))) }
            if shape.count == 2 && shape[1] == 6 { return run(6 * (index / 8), 6) }
            return nil
        }
        // A row of inputs for a row of outputs.
        guard rows == inputRows, rows > 0 else { return nil }
        let width = input.tensor.count / rows
        return run(row * width, width)
    }
}

/// Evenly spaced elements of an input.
private struct Indices {
    let first: Int
    let count: Int
    let step: Int

    func prefix(_ most: Int) -> [Int] { (0..<min(most, count)).map { first + $0 * step } }
}

// MARK: - Accumulators

/// What is counted while slabs go by.
struct Tally {
    let fields: FloatFields?
    var histogram = UlpHistogram()
    var mismatches = 0
    var failures = 0
    var first: Int?
    var last: Int?
    var worst: (index: Int, badness: Double)?
    var pictures: ErrorPictures?

    init(fields: FloatFields?, shape: [Int], hasBound: Bool, wantsPictures: Bool) {
        self.fields = fields
        if wantsPictures { pictures = ErrorPictures(shape: shape, isShareOfBound: hasBound) }
    }

    mutating func add(
        _ answer: [UInt64], _ right: [UInt64], from start: Int, policy: Policy, _ nanRule: NaNRule,
        _ bound: OutputBound?, _ truths: [Double]?, _ bounds: [Double]?
    ) {
        for index in answer.indices {
            let (a, b) = (answer[index], right[index])
            if a == b || (nanRule == .asClass && fields?.isNaN(a) == true && fields?.isNaN(b) == true) {
                if fields != nil { histogram.addEqual(1) }
                continue
            }
            let ulps = fields?.distance(a, b)
            if fields != nil { histogram.add(ulps) }
            mismatches += 1
            var share: Double?
            var isAllowed = false
            if let bound, let fields, let truths, let bounds {
                let value = fields.value(a)
                share = bound.share(value, truths[index], bounds[index], fields)
                isAllowed =
                    policy == .bound
                    && bound.allows(
                        value, truth: truths[index], bounds: bounds[index], golden: fields.value(b), fields)
            }
            if case .ulp(let most) = policy { isAllowed = ulps.map { $0 <= most } ?? false }
            if !isAllowed { failures += 1 }
            let element = start + index
            if first == nil { first = element }
            last = element
            let badness = share ?? ulps.map(Double.init) ?? (fields == nil ? 0 : .infinity)
            if badness > worst?.badness ?? -1 { worst = (element, badness) }
            if pictures != nil {
                pictures?.add(element, magnitude: fields.map { $0.value(b).magnitude }, ulps: ulps, share: share)
            }
        }
    }
}

/// Whether zeros, or NaNs, would pass although some of the right answer is neither. Where the exact result is 0, or a partial sum may overflow in some
/// order, they are a right answer.
struct Vacuity {
    let fields: FloatFields?
    let policy: Policy
    let bound: OutputBound?
    private var zeroMayPass = true
    private var nanMayPass = true
    private var zeroIsWrong = false
    private var nanIsWrong = false

    init(fields: FloatFields?, policy: Policy, bound: OutputBound?) {
        self.fields = fields
        self.policy = policy
        self.bound = bound
        if fields == nil { (zeroMayPass, nanMayPass) = (false, false) }
        switch policy {
        case .exact, .distribution: (zeroMayPass, nanMayPass) = (false, false)
        case .bound: if bound == nil { (zeroMayPass, nanMayPass) = (false, false) }
        case .ulp: break
        }
    }

    /// Whether more elements may change the answer.
    var isOpen: Bool { zeroMayPass || nanMayPass }

    var isVacuous: Bool { zeroMayPass && zeroIsWrong || nanMayPass && nanIsWrong }

    mutating func add(_ right: [UInt64], _ truths: [Double]?, _ bounds: [Double]?) {
        guard let fields else { return }
        let nan = fields.infinity | fields.infinity >> 1
        func allows(_ bits: UInt64, _ index: Int) -> Bool {
            if case .ulp(let most) = policy { return fields.distance(bits, right[index]).map { $0 <= most } ?? false }
            guard let bound, let truths, let bounds else { return false }
            return bound.allows(
                fields.value(bits), truth: truths[index], bounds: bounds[index], golden: fields.value(right[index]),
                fields)
        }
        for index in right.indices where isOpen {
            let isZero = truths.map { policy == .bound && $0[index] == 0 } ?? false
            if zeroMayPass && right[index] & (fields.signBit - 1) != 0 && !isZero {
                zeroIsWrong = true
                zeroMayPass = allows(0, index)
            }
            var mayOverflow = false
            if policy == .bound, let bound, let truths, let bounds {
                mayOverflow = bound.mayOverflow(truths[index], bounds[index], fields) == (true, true)
            }
            if nanMayPass && !fields.isNaN(right[index]) && !mayOverflow {
                nanIsWrong = true
                nanMayPass = allows(nan, index)
            }
        }
    }
}

/// Sums of the errors over their tolerances.
struct StatisticsAccumulator {
    private var count = 0
    private var largest = 0.0
    private var (sum, squares) = (0.0, 0.0)
    private var signedCount = 0
    private var outward = 0.0
    private var outwardSquares = 0.0

    init() {}

    mutating func add(
        _ answer: [UInt64], _ right: [UInt64], _ truths: [Double], _ bounds: [Double], _ bound: OutputBound,
        _ fields: FloatFields
    ) {
        for index in answer.indices {
            let (truth, scale) = (truths[index], bounds[index])
            let (value, golden) = (fields.value(answer[index]), fields.value(right[index]))
            guard value.isFinite, truth.isFinite, scale.isFinite, scale > 0 else { continue }
            let tolerance = bound.tolerance(truth, scale, fields)
            // Where the specified result itself is outside, errors are no rounding errors (Q4).
            guard golden.isFinite, (golden - truth).magnitude <= tolerance else { continue }
            let share = (value - truth) / tolerance
            count += 1
            sum += share
            squares += share * share
            largest = max(largest, share.magnitude)
            guard truth != 0 else { continue }
            signedCount += 1
            outward += truth < 0 ? -share : share
            outwardSquares += share * share
        }
    }

    /// nil of fewer than 64 elements.
    var result: ErrorStatistics? {
        guard count >= ErrorStatistics.leastCount else { return nil }
        func moments(_ sum: Double, _ squares: Double, _ count: Int) -> (mean: Double, variance: Double, limit: Double)
        {
            guard count > 0 else { return (0, 0, .infinity) }
            let mean = sum / Double(count)
            let variance = max(0, squares / Double(count) - mean * mean)
            return (
                mean, variance,
                max(
                    ErrorStatistics.leastMean,
                    ErrorStatistics.standardErrors * (variance / Double(count)).squareRoot())
            )
        }
        let plain = moments(sum, squares, count)
        let signed = moments(outward, outwardSquares, signedCount)
        return ErrorStatistics(
            count: count, largest: largest, mean: plain.mean, variance: plain.variance, meanLimit: plain.limit,
            outwardMean: signed.mean,
            outwardLimit: signedCount >= ErrorStatistics.leastCount ? signed.limit : .infinity,
            varianceLimit: ErrorStatistics.varianceLimit(count))
    }
}
