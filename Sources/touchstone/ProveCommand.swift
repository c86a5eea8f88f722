import ArgumentParser
import BFloat16
import Checker
import EngineProver
import ExactMath
import Foundation
import Platform
import Prover

extension BFloat16Operation: ExpressibleByArgument {}
extension Tininess: ExpressibleByArgument {}
extension MathFunction: ExpressibleByArgument {}
extension MathProof.Method: ExpressibleByArgument {}

struct Prove: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare the arithmetic with a second derivation, and the engine with the arithmetic, exhaustively.",
        discussion: """
            Long work on all cores: it shows a bar, can be cut into shards (--shard 3/8), and with --resume FILE goes on where it \
            was stopped. Exit status 1 if the two derivations differ anywhere.
            """,
        subcommands: [ProveBFloat16.self, ProveMath.self, ProveEngine.self, ProveSquinch.self])
}

/// What every proof takes.
struct ProofOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp("Do part I of N of the cases; the parts are disjoint and together all.", valueName: "i/n"),
        reading: Number.shard)
    var shard: Shard = .whole

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Keep the state in this file and go on from it; a finished one repeats its outcome.", valueName: "file"))
    var resume: String?

    @Option(name: .long, help: "Threads; all cores by default.", reading: Number.whole(1...1024))
    var threads: Int = Workers.processorCount

    @Flag(name: .long, help: "Print the outcome only.")
    var quiet = false

    /// Runs a proof under a progress bar and prints its outcome.
    func run(
        _ label: String, total: UInt64, method: String,
        _ body: (_ progress: (ExhaustiveProgress) throws -> Void) throws -> ExhaustiveOutcome
    ) throws {
        let lock = try resume.map(Exclusive.file)
        defer { lock?.release() }
        let bar = ProgressBar(label, total: total / UInt64(shard.count), unit: "cases", quiet: quiet)
        let outcome = try body { progress in
            bar.update(progress.done)
            try Interruption.check()
        }
        bar.finish()
        print("proof       \(label)")
        print("shard       \(shard)")
        print("method      \(method)")
        print("cases       \(outcome.cases)")
        print("mismatches  \(outcome.mismatches)")
        print("time        \(duration(outcome.seconds))")
        for mismatch in outcome.firstMismatches { print("  \(mismatch)") }
        guard outcome.cases > 0 else { throw CommandError("nothing was proved: shard \(shard) has no case") }
        try end(outcome.mismatches == 0 ? .conforms : .doesNotConform)
    }
}

struct ProveBFloat16: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bf16",
        abstract: "An operation on bf16 against a second derivation (B6).",
        discussion: """
            Unary operations over all 65,536 values, binary ones over all 2^32 pairs, conversions from 32-bit types over all 2^32; fma and \
            conversions from 64-bit types over a grid of boundary values and a seeded sample. Results and flags are compared bit for bit.
            """)

    @Option(name: .long, help: "add, sub, mul, div, rem, sqrt, fma, roundToIntegral, from-fp32, to-int8 ...")
    var operation: BFloat16Operation

    @Option(name: .long, help: "rne, rtz, rdn, rup, rna, rto or sr, where the operation rounds; rne by default.")
    var rounding: String?

    @Option(name: .long, help: "after or before: when a result counts as tiny.")
    var tininess: Tininess = .afterRounding

    @Option(name: .long, help: "Chooses the random words of sr and the sampled operands.", reading: Number.seed)
    var seed: Seed = Seed(1)

    @Option(name: .long, help: "Sampled cases, where not all can be done.", reading: Number.count(1...1 << 48))
    var samples: UInt64 = 1 << 28

    @OptionGroup var options: ProofOptions

    func validate() throws {
        if let rounding, !operation.roundings.contains(rounding) {
            let known = operation.roundings.isEmpty ? "none" : operation.roundings.joined(separator: ", ")
            throw ValidationError("\(operation.rawValue) has no rounding mode '\(rounding)'; it has \(known).")
        }
    }

    func run() throws {
        let proof = try BFloat16Proof(
            operation: operation, rounding: rounding, tininess: tininess, seed: seed.value, samples: samples)
        let label = "bf16.\(operation.rawValue)\(proof.rounding.map { " \($0)" } ?? "")"
        try options.run(label, total: proof.total, method: "\(proof.coverage); \(proof.method)") { progress in
            let result = try proof.run(
                shard: options.shard, threads: options.threads, resumeFile: options.resume, progress: progress)
            return ExhaustiveOutcome(
                cases: result.cases, mismatches: result.mismatches, firstMismatches: result.firstMismatches,
                seconds: result.seconds)
        }
    }
}

struct ProveSquinch: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "squinch",
        abstract: "The scales and thresholds of Squinch against MPFR (S2).",
        discussion: "Needs the library MPFR, which nothing else does.")

    func run() throws {
        let outcome = try SquinchTablesProof.run()
        let naive = outcome.naiveLogarithm
        print("proof       squinch tables")
        print("method      MPFR \(outcome.version)")
        print("cases       \(outcome.cases)")
        print("mismatches  \(outcome.mismatches.count)")
        for mismatch in outcome.mismatches.prefix(16) { print("  \(mismatch)") }
        print(
            "a scale byte by a logarithm rounded to fp32 would be wrong at \(naive.wrongAtThreshold) of 255 thresholds and just below \(naive.wrongBelowThreshold)"
        )
        try end(outcome.mismatches.isEmpty ? .conforms : .doesNotConform)
    }
}

struct ProveMath: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "math",
        abstract: "An elementary function against MPFR, over all 2^32 arguments (E2).",
        discussion: """
            Needs the library MPFR 4.2 or later, which nothing else does. --method every calls MPFR for every argument and takes \
            hours; --method runs calls it at the ends of each run of equal results and proves the rest: by monotonicity, symmetry \
            and period, and bounds for tiny arguments, all of them checked on all arguments.
            """)

    @Option(name: .long, help: "exp, expm1, log, log1p, sqrt, rsqrt, reciprocal, sinPi or cosPi.")
    var function: MathFunction

    @Option(name: .long, help: "runs or every.")
    var method: MathProof.Method = .runs

    @OptionGroup var options: ProofOptions

    func run() throws {
        let version = try MPFR().version
        try options.run(
            "math.\(function.rawValue)", total: 1 << 32, method: "MPFR \(version), \(method.rawValue)"
        ) { progress in
            try MathProof.run(
                function, method: method, shard: options.shard, threads: options.threads, resumeFile: options.resume,
                progress: progress)
        }
    }
}

struct ProveEngine: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "engine",
        abstract: "The engine's elementary functions against the correctly rounded ones, over all 2^32 arguments (E3).",
        discussion: """
            Each argument's result is computed once by the reference's integers and compared, bit for bit, with that of every set of kernels that \
            this machine runs (exp, log and rsqrt have vectors) and with `scalar`, the engine's function of one argument. `touchstone prove \
            math` holds the reference itself against MPFR.
            """)

    @Option(name: .long, help: "exp, expm1, log, log1p, sqrt, rsqrt, reciprocal, sinPi or cosPi.")
    var function: MathFunction

    @Option(
        name: .long,
        help: ArgumentHelp("Compare this set of kernels, or scalar, alone; all of them by default.", valueName: "name"))
    var isa: String?

    @OptionGroup var options: ProofOptions

    private func proof() throws -> EngineMathProof {
        do throws(EngineMathProofError) {
            return try EngineMathProof(function, only: isa)
        } catch { throw ValidationError("--isa: \(error).") }
    }

    func validate() throws { _ = try proof() }

    func run() throws {
        let proof = try proof()
        let names = proof.implementations.map(\.name).joined(separator: ", ")
        try options.run(
            "engine.\(function.rawValue)", total: EngineMathProof.total,
            method: "\(names) against the reference, every argument"
        ) { progress in
            try proof.run(
                shard: options.shard, threads: options.threads, resumeFile: options.resume, progress: progress)
        }
    }
}
