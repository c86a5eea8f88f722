import BFloat16

/// The comparison of one operation of the `BFloat16` module, in one rounding mode, with a second derivation (B6).
///
/// Results and flags are compared, bit for bit; NaNs too, since every NaN result has one pattern (F2). The functions under proof are the
/// public ones that every user calls.
///
///     let proof = try BFloat16Proof(operation: "add", rounding: "rne", tininess: "after")
///     let result = try proof.run(shard: Shard("1/8"), resumeFile: "add-rne-1.state") { progress in ... }
public struct BFloat16Proof: Sendable {
    public let operation: BFloat16Operation
    /// The rounding mode's name; nil where the operation does not round.
    public let rounding: String?
    public let tininess: Tininess
    /// Chooses the random words of `sr` and the sampled operands.
    public let seed: UInt64
    /// The number of sampled cases, beside the grid, of the operations whose cases cannot be exhausted.
    public let samples: UInt64

    /// - Parameters:
    ///   - rounding: nil for the operation's first mode, `rne`, or for none where it does not round.
    ///   - samples: for fma and conversions from 64-bit types; of no effect elsewhere.
    /// - Throws: ``BFloat16ProofError/inapplicableRounding(_:operation:expected:)``.
    public init(
        operation: BFloat16Operation, rounding: String? = nil, tininess: Tininess = .afterRounding, seed: UInt64 = 1,
        samples: UInt64 = 1 << 28
    ) throws(BFloat16ProofError) {
        if let rounding, !operation.roundings.contains(rounding) {
            throw .inapplicableRounding(rounding, operation: operation.rawValue, expected: operation.roundings)
        }
        self.operation = operation
        self.rounding = rounding ?? operation.roundings.first
        self.tininess = tininess
        self.seed = seed
        self.samples = min(samples, 1 << 48)
    }

    /// The same from texts of a command line.
    ///
    /// - Throws: ``BFloat16ProofError``, which names what is known.
    public init(
        operation: String, rounding: String? = nil, tininess: String = "after", seed: UInt64 = 1,
        samples: UInt64 = 1 << 28
    ) throws(BFloat16ProofError) {
        guard let known = BFloat16Operation(rawValue: operation) else { throw .unknownOperation(operation) }
        guard let knownTininess = Tininess(rawValue: tininess) else { throw .unknownTininess(tininess) }
        try self.init(operation: known, rounding: rounding, tininess: knownTininess, seed: seed, samples: samples)
    }

    /// The number of cases of all shards together.
    public var total: UInt64 {
        switch operation.domain {
        // With every random word where both fit 32 bits.
        case .every(let bits): 1 << UInt64(isStochastic && bits <= 16 ? bits + 16 : bits)
        case .everyPair: 1 << 32
        case .everyScaled: UInt64(BFloat16Cases.scales.count) << 16
        case .sampledTriples: BFloat16Cases.gridTriples + samples
        case .sampledWide: BFloat16Cases.gridWide + samples
        }
    }

    var isStochastic: Bool { rounding == "sr" }

    /// Judges the cases of a shard.
    ///
    /// - Parameters:
    ///   - resumeFile: keeps the state of the run, so that it can be cut short and taken up again; nil keeps none.
    ///   - progress: called on this thread a few times a second; what it throws ends the run after the state has been saved.
    /// - Throws: ``ExhaustiveRunError``, `FileError`, and what `progress` throws.
    public func run(
        shard: Shard = .whole, threads: Int? = nil, resumeFile: String? = nil,
        progress: (ExhaustiveProgress) throws -> Void = { _ in }
    ) throws -> BFloat16ProofResult {
        var plan = ExhaustiveRun(work: description, total: total, shard: shard, resumeFile: resumeFile)
        if let threads { plan.threads = max(1, threads) }
        let outcome = try plan.run(progress: progress) { cases, mismatches in judge(cases, &mismatches) }
        return BFloat16ProofResult(
            operation: operation.rawValue, rounding: rounding, tininess: tininess.rawValue, shard: shard,
            isExhaustive: operation.isExhaustive && (!isStochastic || hasEveryRandomWord), coverage: coverage,
            method: method,
            cases: outcome.cases, mismatches: outcome.mismatches, firstMismatches: outcome.firstMismatches,
            seconds: outcome.seconds)
    }

    private var hasEveryRandomWord: Bool {
        if case .every(let bits) = operation.domain { bits <= 16 } else { false }
    }

    /// What the cases are, in words.
    public var coverage: String {
        let operands =
            switch operation.domain {
            case .every(let bits): "all 2^\(bits) operands"
            case .everyPair: "all 2^32 pairs"
            case .everyScaled: "all 2^16 operands with \(BFloat16Cases.scales.count) exponents"
            case .sampledTriples:
                "\(BFloat16Cases.boundary.count)^3 triples of boundary values and \(samples) sampled triples, seed \(seed)"
            case .sampledWide: "a grid of \(BFloat16Cases.gridWide) operands and \(samples) sampled ones, seed \(seed)"
            }
        if !isStochastic { return operands }
        return hasEveryRandomWord
            ? "\(operands) with all 2^16 random words"
            : "\(operands), one random word each, at the rounding threshold or by seed \(seed)"
    }

    /// How the expected results are derived, in words.
    public var method: String {
        switch operation {
        case .add, .subtract, .multiply, .divide, .squareRoot:
            let exact =
                "exact value as a double rounded to odd, rounded by comparison with its neighbours (result and flags)"
            return rounding == "rne" ? "binary32 operation, then nearest even (result); \(exact)" : exact
        case .fusedMultiplyAdd, .scalbn, .fromFloat16, .fromFloat, .fromDouble, .fromInt8, .fromInt16, .fromInt32,
            .fromInt64, .fromUInt8, .fromUInt16, .fromUInt32, .fromUInt64:
            return
                "exact value as a double rounded to odd, rounded by comparison with its neighbours (result and flags)"
        case .remainder: return "powers of two modulo 2|y| from a table, n and its ties on the quotient of integers"
        case .roundToIntegral, .toInt8, .toInt16, .toInt32, .toInt64, .toUInt8, .toUInt16, .toUInt32, .toUInt64:
            return "the standard library's rounding of doubles to integral values, range judged on doubles"
        case .toFloat16: return "rounding by comparison with the neighbours, on doubles"
        case .toFloat, .toDouble: return "the hardware's conversions"
        case .nextUp, .nextDown: return "search in the sorted list of all values"
        case .minimum, .maximum, .minimumNumber, .maximumNumber, .compareQuiet, .compareSignalling:
            return "the hardware's binary32 comparisons"
        case .totalOrder, .classify, .logb: return "the standard library's Float and Double"
        }
    }
}

extension BFloat16Proof: CustomStringConvertible {
    /// The work in one line; a resume file carries it.
    public var description: String {
        var text = "bf16 \(operation.rawValue)"
        if let rounding { text += ", rounding \(rounding), tininess \(tininess.rawValue)" }
        return text + ", \(coverage)"
    }
}

/// What a proof, or one shard of it, found.
public struct BFloat16ProofResult: Sendable, Hashable {
    public let operation: String
    public let rounding: String?
    public let tininess: String
    public let shard: Shard
    /// Whether all shards together are every case there is; else ``coverage`` says which cases were chosen.
    public let isExhaustive: Bool
    public let coverage: String
    public let method: String
    public let cases: UInt64
    public let mismatches: UInt64
    /// The first ones, in order of the cases: inputs, expected and got, as bits, decimal and flags.
    public let firstMismatches: [Mismatch]
    /// Wall time, all parts of a resumed run together.
    public let seconds: Double
}

/// Why a proof cannot start.
public enum BFloat16ProofError: Error, Hashable, Sendable, CustomStringConvertible {
    case unknownOperation(String)
    case unknownTininess(String)
    case inapplicableRounding(String, operation: String, expected: [String])

    public var description: String {
        switch self {
        case .unknownOperation(let name):
            return
                "no operation \(name) in bf16; expected one of \(BFloat16Operation.allCases.map(\.rawValue).joined(separator: " "))"
        case .unknownTininess(let name):
            return "no tininess \(name); expected after or before"
        case .inapplicableRounding(let name, let operation, let expected):
            if expected.isEmpty { return "\(operation) does not round; no rounding mode expected, found \(name)" }
            return "\(operation) has no rounding mode \(name); expected one of \(expected.joined(separator: " "))"
        }
    }
}
