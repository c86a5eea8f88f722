import Cases
import Foundation
import Reference

/// Goodness of fit of outputs drawn by an implementation's own generator (Q6).
///
/// Every test compares a mean of n bounded differences, each of mean zero whatever came before it, with a limit that independent draws pass with
/// probability 1 - alpha by the inequality of Hoeffding and Azuma, or an empirical distribution function by that of Dvoretzky, Kiefer, Wolfowitz and
/// Massart. Neither assumes a large n or a normal law.
struct SampleTest {
    /// The probability that a right implementation is refused: an output, all of its tests together.
    static let falseAlarm = 1e-6
    /// The probability that one that is ``distance`` away is accepted.
    static let miss = 1e-3
    /// The distance that must be seen: of a distribution function somewhere, or of a probability on average.
    static let distance = 0.1

    /// What a test found.
    struct Outcome {
        let conforms: Bool
        let text: String
    }

    private enum Kind {
        /// Values of a continuous distribution.
        case continuous(Distribution)
        case tokens(withReplacement: Bool)
        case threshold
        case weights
        /// bf16 results, one of two neighbours each.
        case rounding
        case codes
    }

    /// A continuous distribution.
    private struct Distribution {
        /// P(X <= x).
        let below: @Sendable (Double) -> Double
        /// P(X >= x), which the other loses where it is small.
        let above: @Sendable (Double) -> Double
        /// What the specified generator gives at most and at least (G2 to G4).
        let range: ClosedRange<Double>
        /// Whether nothing outside the range is a draw; else what is rare enough there.
        let isStrict: Bool

        /// Why a value is no draw among n; nil if it may be one. Beyond the specified range, other generators of the distribution may give what they
        /// give with a probability that ``unlikely`` allows.
        func complaint(_ x: Double, _ n: Int) -> String? {
            guard x.isFinite else { return "is \(x)" }
            if range.contains(x) { return nil }
            if isStrict { return "is \(x), outside the open interval from 0 to 1" }
            if min(below(x), above(x)) * Double(n) >= SampleTest.unlikely { return nil }
            return
                "is \(x), too far out for a draw: from \(range.lowerBound.short) to \(range.upperBound.short) is specified"
        }

        /// 2^-24 to 1 - 2^-24 are G2's; the bounds of the interval are no draws of any generator that is right.
        static let uniform = Distribution(
            below: { min(1, max(0, $0)) }, above: { 1 - min(1, max(0, $0)) },
            range: Double.leastNonzeroMagnitude...Double(1).nextDown, isStrict: true)
        static let gumbel = Distribution(
            below: { exp(-exp(-$0)) }, above: { -expm1(-exp(-$0)) }, range: -2.8115409...22.873858, isStrict: false)
        static let normal = Distribution(
            below: { erfc(-$0 * 0.5.squareRoot()) / 2 }, above: { erfc($0 * 0.5.squareRoot()) / 2 },
            range: -5.7681075...5.7681075, isStrict: false)
    }

    /// The probability of all draws together to lie so far out at one end that one is refused by itself. Both ends have a tenth of the false alarms,
    /// the tests of the whole sample the rest.
    static let unlikely = falseAlarm / 20
    private static let ofTests = falseAlarm * 0.9

    private let kind: Kind

    /// - Returns: nil where the output is no sample.
    static func make(_ one: CaseView, _ output: String) throws -> SampleTest? {
        switch (one.op, output) {
        case ("random.uniform", "x"): SampleTest(kind: .continuous(.uniform))
        case ("random.gumbel", "x"): SampleTest(kind: .continuous(.gumbel))
        case ("random.normal", "x"): SampleTest(kind: .continuous(.normal))
        case ("gumbel.topk", "ids"): SampleTest(kind: .tokens(withReplacement: false))
        case ("gumbel.replacement", "ids"): SampleTest(kind: .tokens(withReplacement: true))
        case ("gumbel.topk", "kappa"): SampleTest(kind: .threshold)
        case ("gumbel.topk", "weights"): SampleTest(kind: .weights)
        case (_, "r") where one.op.hasPrefix("bf16.") && one.string("rounding") == "sr" && exact(one) != nil:
            SampleTest(kind: .rounding)
        case ("squinch.encode", "blocks") where one.string("variant") == "stochastic15": SampleTest(kind: .codes)
        default: nil
        }
    }

    /// What the mean of n differences, each within an interval of length 1, may be with `tests` tests in all.
    static func limit(_ n: Int, tests: Int) -> Double {
        (log(2 * Double(tests) / ofTests) / (2 * Double(n))).squareRoot()
    }

    /// How many draws see ``distance``.
    static func needed(tests: Int) -> Int {
        let reach = (log(2 * Double(tests) / ofTests) / 2).squareRoot() + (log(1 / miss) / 2).squareRoot()
        return Int((reach * reach / (distance * distance)).rounded(.up))
    }

    private func require(_ n: Int, tests: Int, _ one: CaseView, _ output: String) throws {
        let needed = Self.needed(tests: tests)
        guard n >= needed else {
            throw JudgingError.tooFewDraws(caseName: one.name, output: output, draws: n, needed: needed)
        }
    }

    /// Judges what an implementation drew; `answer` holds its other outputs.
    /// - Throws: ``JudgingError/tooFewDraws(caseName:output:draws:needed:)``.
    func judge(_ got: any TensorSource, _ one: CaseView, _ output: String, _ answer: CaseView?) throws -> Outcome {
        switch kind {
        case .continuous(let distribution): return try continuous(got, distribution, one, output)
        case .tokens(let withReplacement): return try tokens(got, withReplacement, one, output)
        case .threshold: return try threshold(got, one, output, answer)
        case .weights: return try weights(got, one, answer)
        case .rounding: return try rounding(got, one, output)
        case .codes: return try codes(got, one, output)
        }
    }

    /// Whether zeros, or NaNs, would pass although they are not the golden's.
    func isVacuous(_ expected: any TensorSource, _ one: CaseView, _ output: String, _ answer: CaseView?) throws -> Bool
    {
        for isNaN in [false, true] where !isNaN || expected.type.isFloatingPoint {
            let constant = Constant(type: expected.type, shape: expected.shape, isNaN: isNaN)
            do { if try judge(constant, one, output, answer).conforms { return true } } catch is JudgingError {
                // Too few draws: no constant passes.
            }
        }
        return false
    }

    private struct Constant: TensorSource {
        let type: ElementType
        let shape: [Int]
        let isNaN: Bool

        func elements(_ range: Range<Int>) -> Tensor {
            let fields = isNaN ? FloatFields(type) : nil
            let bits = fields.map { $0.infinity | $0.infinity >> 1 } ?? 0
            let bytes = range.flatMap { _ in
                (0..<type.byteWidth).map { UInt8(truncatingIfNeeded: bits >> UInt64(8 * $0)) }
            }
            // The bytes fill the shape.
            return (try? Tensor(type: type, shape: [range.count], bytes: bytes)) ?? Tensor([] as [Float], shape: [0])
        }
    }

    /// Means of differences of mean zero.
    private struct Means {
        var sums: [Double]
        init(_ tests: Int) { sums = [Double](repeating: 0, count: tests) }

        /// The verdict on n differences; `slack`: what rounding may add to each.
        func outcome(_ n: Int, slack: Double, _ what: String) -> Outcome {
            let limit = SampleTest.limit(n, tests: sums.count) + slack
            let largest = sums.map { $0.magnitude / Double(n) }.max() ?? 0
            let conforms = largest <= limit
            return Outcome(
                conforms: conforms,
                text:
                    "\(what): \(largest.short) from what it should be, at most \(limit.short) is allowed, \(n) draws in \(sums.count) tests"
            )
        }
    }

    // MARK: Continuous

    /// Every value by itself, then the distribution function on 4096 steps, and the correlation of neighbours in pairs.
    private func continuous(
        _ got: any TensorSource, _ distribution: Distribution, _ one: CaseView, _ output: String
    ) throws -> Outcome {
        let n = got.count
        // What cannot be drawn is wrong however few there are.
        for start in stride(from: 0, to: n, by: OutputComparison.slab) {
            for (index, x) in try got.doubles(start..<min(start + OutputComparison.slab, n)).enumerated() {
                if let complaint = distribution.complaint(x, n) {
                    return Outcome(conforms: false, text: "element \(start + index) \(complaint)")
                }
            }
        }
        try require(n, tests: 2, one, output)
        let steps = 4096
        var counts = [Int](repeating: 0, count: steps)
        var products = 0.0
        for start in stride(from: 0, to: n, by: OutputComparison.slab) {
            let values = try got.doubles(start..<min(start + OutputComparison.slab, n))
            let u = values.map(distribution.below)
            for x in u { counts[min(steps - 1, Int(x * Double(steps)))] += 1 }
            for index in stride(from: 0, to: u.count - 1, by: 2) { products += (u[index] - 0.5) * (u[index + 1] - 0.5) }
        }
        var (below, farthest) = (0, 0.0)
        for step in 0..<steps {
            below += counts[step]
            farthest = max(
                farthest, (Double(below) / Double(n) - Double(step + 1) / Double(steps)).magnitude)
        }
        // fp32 values stand on a grid.
        let limit = Self.limit(n, tests: 2) + power(-20)
        // Products lie within an interval of length 1/2.
        let correlation = (products / Double(n / 2)).magnitude
        let correlationLimit = Self.limit(n / 2, tests: 2) / 2 + power(-20)
        return Outcome(
            conforms: farthest <= limit && correlation <= correlationLimit,
            text:
                "distribution function \(farthest.short) away, at most \(limit.short) is allowed, \(n) draws; neighbours' covariance \(correlation.short), at most \(correlationLimit.short)"
        )
    }

    // MARK: Tokens

    /// The rows of logits of a case as probabilities, log-sum-exp beside them.
    private func rows(_ one: CaseView, _ body: (Int, [Double], [Double], Double) throws -> Void) throws -> (
        n: Int, v: Int
    )? {
        guard let logits = one[.inputs, "logits"], logits.shape.count == 2 else { return nil }
        let (n, v) = (logits.shape[0], logits.shape[1])
        for row in 0..<n {
            let s = try logits.doubles(row * v..<(row + 1) * v)
            let largest = s.max() ?? -.infinity
            let e = s.map { $0 == -.infinity ? 0 : exp($0 - largest) }
            let sum = e.reduce(0, +)
            try body(row, s, e.map { $0 / sum }, largest + log(sum))
        }
        return (n, v)
    }

    private static let empty = 4_294_967_295.0

    /// Whether each token falls into sets of known probability: ids with bit b set, for every b, and the likelier half. Without replacement the
    /// probability is that of what is left.
    private func tokens(
        _ got: any TensorSource, _ withReplacement: Bool, _ one: CaseView, _ output: String
    ) throws -> Outcome {
        guard let logits = one[.inputs, "logits"]?.shape, logits.count == 2, got.shape.count == 2,
            got.shape[0] == logits[0]
        else {
            return Outcome(conforms: false, text: "no logits")
        }
        let (k, v) = (got.shape[1], logits[1])
        var bits = 0
        while 1 << bits < v { bits += 1 }
        let n = got.count
        var means = Means(bits + 1)
        var complaint: String?
        _ = try rows(one) { row, s, p, _ in
            let ids = try got.doubles(row * k..<(row + 1) * k)
            var left = p
            var isLikely = [Bool](repeating: false, count: v)
            var mass = 0.0
            for j in p.indices.sorted(by: { p[$0] > p[$1] }) where mass < 0.5 {
                isLikely[j] = true
                mass += p[j]
            }
            var available = s.count { $0 != -.infinity }
            for (slot, id) in ids.enumerated() where complaint == nil {
                if available == 0 {
                    if id != Self.empty { complaint = "row \(row), slot \(slot): id \(id), nothing was left" }
                    continue
                }
                guard id >= 0, id < Double(v), s[Int(id)] != -.infinity, withReplacement || left[Int(id)] >= 0 else {
                    complaint = "row \(row), slot \(slot): id \(id) cannot be drawn, or was before"
                    return
                }
                let total = left.reduce(0) { $0 + max(0, $1) }
                if total > 1e-300 {
                    for test in 0...bits {
                        func isMember(_ j: Int) -> Bool { test == bits ? isLikely[j] : j >> test & 1 == 1 }
                        var members = 0.0
                        for j in 0..<v where isMember(j) { members += max(0, left[j]) }
                        means.sums[test] += (isMember(Int(id)) ? 1 : 0) - members / total
                    }
                }
                if !withReplacement {
                    left[Int(id)] = -1
                    available -= 1
                }
            }
        }
        if let complaint { return Outcome(conforms: false, text: complaint) }
        try require(n, tests: bits + 1, one, output)
        return means.outcome(n, slack: power(-16), "share of tokens in a set")
    }

    /// kappa given the tokens: exp(-phi) of the ordered tokens are the times of a race whose gaps are exponential with the mass that is left as rate,
    /// so that E exp(-s exp(-kappa)) is the product of rate / (rate + s).
    private func threshold(
        _ got: any TensorSource, _ one: CaseView, _ output: String, _ answer: CaseView?
    ) throws -> Outcome {
        guard let ids = answer?[.outputs, "ids"], let k = ids.shape.last, ids.shape.count == 2,
            got.shape == [ids.shape[0]],
            one[.inputs, "logits"]?.shape.first == ids.shape[0]
        else {
            return Outcome(conforms: false, text: "kappa is judged beside ids, which are missing")
        }
        var means = Means(1)
        var complaint: String?
        _ = try rows(one) { row, s, p, _ in
            let kappa = try got.doubles(row..<row + 1)[0]
            if s.count(where: { $0 != -.infinity }) <= k {
                if kappa != -.infinity { complaint = "row \(row): kappa \(kappa) where nothing is left" }
                return
            }
            guard kappa.isFinite else {
                complaint = "row \(row): kappa is \(kappa)"
                return
            }
            var left = p
            var rates = [left.reduce(0, +)]
            for id in try ids.doubles(row * k..<(row + 1) * k) where id >= 0 && id < Double(p.count) {
                left[Int(id)] = 0
                rates.append(left.reduce(0, +))
            }
            guard rates.allSatisfy({ $0 > 1e-300 }) else { return }
            // The (k + 1)-th time of the race is at least its first, whose rate is 1, and at most k + 1 times the longest gap.
            let time = exp(-kappa)
            let late = Double(rates.count) * exp(-time * (rates.min() ?? 0) / Double(rates.count))
            if min(-expm1(-time), late) * Double(got.count) < Self.unlikely {
                complaint = "row \(row): kappa \(kappa.short) is too far out for a draw"
                return
            }
            let s = 1 / rates.reduce(0) { $0 + 1 / $1 }
            means.sums[0] += exp(-s * exp(-kappa)) - rates.reduce(1) { $0 * $1 / ($1 + s) }
        }
        if let complaint { return Outcome(conforms: false, text: complaint) }
        try require(got.count, tests: 1, one, output)
        return means.outcome(got.count, slack: power(-16), "mean of a function of kappa")
    }

    /// The weights that go with the implementation's own tokens and kappa (K2).
    private func weights(_ got: any TensorSource, _ one: CaseView, _ answer: CaseView?) throws -> Outcome {
        guard let ids = answer?[.outputs, "ids"], let kappas = answer?[.outputs, "kappa"], let k = ids.shape.last,
            ids.count == got.count, kappas.count == ids.shape[0], ids.shape.count == 2,
            one[.inputs, "logits"]?.shape.first == ids.shape[0]
        else { return Outcome(conforms: false, text: "weights are judged beside ids and kappa, which are missing") }
        var complaint: String?
        var largest = 0.0
        _ = try rows(one) { row, s, p, z in
            let kappa = try kappas.doubles(row..<row + 1)[0]
            let found = try got.doubles(row * k..<(row + 1) * k)
            for (slot, id) in try ids.doubles(row * k..<(row + 1) * k).enumerated() where complaint == nil {
                guard id >= 0, id < Double(p.count) else {
                    if found[slot] != 0 { complaint = "row \(row), slot \(slot): a weight without a token" }
                    continue
                }
                let j = Int(id)
                let right = kappa == -.infinity ? p[j] : p[j] / -expm1(-exp(s[j] - z - kappa))
                // Rounding of Z, of logp and of its difference to kappa, each relative to its size.
                let scale = 1 + s[j].magnitude + z.magnitude + (kappa.isFinite ? kappa.magnitude : 0)
                let tolerance = 16 * power(-24) * scale * right + power(-149)
                let error = (found[slot] - right).magnitude
                if !(error <= tolerance) {
                    complaint =
                        "row \(row), slot \(slot): weight \(found[slot].short), \(right.short) goes with its token and kappa"
                }
                largest = max(largest, error / tolerance)
            }
        }
        return Outcome(
            conforms: complaint == nil,
            text: complaint ?? "weights go with the tokens and kappa, \(largest.short) of the tolerance")
    }

    // MARK: Stochastic rounding

    /// The exact result of a bf16 operation on values, to the 53 bits of a double; nil for operations that have no stochastic rounding.
    private static func exact(_ one: CaseView) -> (([Double]) -> Double)? {
        switch one.op {
        case "bf16.from": { $0[0] }
        case "bf16.add": { $0[0] + $0[1] }
        case "bf16.sub": { $0[0] - $0[1] }
        case "bf16.mul": { $0[0] * $0[1] }
        case "bf16.div": { $0[0] / $0[1] }
        case "bf16.sqrt": { $0[0].squareRoot() }
        case "bf16.fma": { $0[0] * $0[1] + $0[2] }
        default: nil
        }
    }

    /// Each result is a neighbour of the exact one; the upper one with the probability of B1, on average and where it is the nearer.
    private func rounding(_ got: any TensorSource, _ one: CaseView, _ output: String) throws -> Outcome {
        let operands = ["a", "b", "c"].compactMap { one[.inputs, $0] }
        guard let exact = Self.exact(one), let golden = one[.outputs, output], let fields = FloatFields(.bf16),
            !operands.isEmpty, operands.allSatisfy({ $0.count == got.count })
        else { return Outcome(conforms: false, text: "no operands") }
        var means = Means(2)
        var n = 0
        for start in stride(from: 0, to: got.count, by: OutputComparison.slab) {
            let range = start..<min(start + OutputComparison.slab, got.count)
            var values: [[Double]] = []
            for operand in operands { values.append(try operand.doubles(range)) }
            let (answers, right) = (try got.words(range), try golden.words(range))
            for index in answers.indices {
                let v = exact(values.map { $0[index] })
                let magnitude = v.magnitude
                func fails() -> Outcome {
                    Outcome(
                        conforms: false,
                        text: "element \(start + index) is \(fields.value(answers[index])), no neighbour of \(v)")
                }
                let unit = magnitude == 0 || !magnitude.isFinite ? 1 : power(max(Int(magnitude.exponent), -126) - 7)
                let quotient = magnitude / unit
                let lower = quotient.rounded(.down)
                // Exact results, specials and what is beyond the range do not depend on the draw.
                guard v.isFinite, magnitude < power(127) * 2, lower != quotient else {
                    let isSame =
                        answers[index] == right[index] || fields.isNaN(answers[index]) && fields.isNaN(right[index])
                    // A sum beside a bf16 number by less than a double tells may become that number, or by 2^-16 the golden's other one.
                    if !isSame && !(v != 0 && v.isFinite && fields.value(answers[index]) == v) { return fails() }
                    continue
                }
                let found = fields.value(answers[index])
                let isUp =
                    found.magnitude == (lower + 1) * unit || (lower + 1) * unit > fields.greatest && found.isInfinite
                guard isUp || found.magnitude == lower * unit, (answers[index] & fields.signBit != 0) == (v < 0) else {
                    return fails()
                }
                let q = ((quotient - lower) * 65536).rounded(.down) / 65536
                n += 1
                let difference = (isUp ? 1 : 0) - q
                means.sums[0] += difference
                means.sums[1] += q >= 0.5 ? difference : -difference
            }
        }
        try require(n, tests: 2, one, output)
        return means.outcome(n, slack: power(-16), "share of results rounded up")
    }

    /// Codes of stochastic15: the scale and the signs by bits, each code one of two (S3).
    private func codes(_ got: any TensorSource, _ one: CaseView, _ output: String) throws -> Outcome {
        guard let x = one[.inputs, "x"], let golden = one[.outputs, output], got.count % 6 == 0,
            got.count / 6 == (x.count + 7) / 8
        else {
            return Outcome(conforms: false, text: "no values")
        }
        var means = Means(2)
        var n = 0
        for block in 0..<got.count / 6 {
            let (found, right) = (
                try got.words(6 * block..<6 * block + 6), try golden.words(6 * block..<6 * block + 6)
            )
            guard found[0] == right[0], found[1] == right[1] else {
                return Outcome(conforms: false, text: "block \(block): another scale or other signs")
            }
            let values = try x.doubles(8 * block..<min(8 * block + 8, x.count))
            let m = Double(SquinchTables.scales[Int(found[0])])
            for element in 0..<8 {
                func code(_ bytes: [UInt64]) -> Int { Int(bytes[2 + element / 2] >> UInt64(4 * (element % 2)) & 15) }
                let (answer, golden) = (code(found), code(right))
                let magnitude = element < values.count ? values[element].magnitude : 0
                if found[0] == 0 || magnitude == 0 || !(magnitude < m) {
                    guard answer == golden else {
                        return Outcome(
                            conforms: false,
                            text: "block \(block), element \(element): code \(answer), expected \(golden)")
                    }
                    continue
                }
                // The largest a with a^2 M <= 225 |x|; both sides are exact in a double for the codes of interest, or nearly.
                var a = 0
                while a < 14 && Double((a + 1) * (a + 1)) * m <= 225 * magnitude { a += 1 }
                let q = (225 * magnitude - Double(a * a) * m) / (Double(2 * a + 1) * m)
                guard answer == a || answer == a + 1 && q > 0 else {
                    return Outcome(
                        conforms: false,
                        text: "block \(block), element \(element): code \(answer), expected \(a) or \(a + 1)")
                }
                n += 1
                let difference = (answer == a + 1 ? 1 : 0) - q
                means.sums[0] += difference
                means.sums[1] += q >= 0.5 ? difference : -difference
            }
        }
        try require(n, tests: 2, one, output)
        return means.outcome(n, slack: power(-16), "share of codes rounded up")
    }
}
