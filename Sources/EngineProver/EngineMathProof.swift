import Engine
import ExactMath
import Kernels
import Platform
import Prover

/// Compares the engine's elementary functions with the correctly rounded ones of `ExactMath` over all 2^32 arguments (E3).
///
/// `ExactMath` shares no line with the engine, and is itself compared with MPFR (``/Prover/MathProof``). An argument's result is computed there once and compared
/// with that of every implementation that the engine has.
public struct EngineMathProof: Sendable {
    public let function: MathFunction
    /// What is compared, by name: sets of kernels that have the function in vectors, and `scalar`.
    public let implementations: [Implementation]

    /// One of the engine's own.
    public struct Implementation: Sendable {
        public let name: String
        public let evaluate: MathKernels.Function

        public init(name: String, _ evaluate: @escaping MathKernels.Function) {
            self.name = name
            self.evaluate = evaluate
        }
    }

    /// The name of the functions that take one argument at a time; vectors leave to them what an estimate cannot decide.
    public static let scalar = "scalar"

    /// - Parameter implementations: at least one.
    public init(_ function: MathFunction, implementations: [Implementation]) {
        self.function = function
        self.implementations = implementations
    }

    /// A function in every implementation that this machine runs, or in the one of a name.
    ///
    /// - Throws: ``EngineMathProofError/unknownImplementation(_:function:known:)``.
    public init(_ function: MathFunction, only name: String? = nil) throws(EngineMathProofError) {
        let all = Self.available(function)
        let chosen = name == nil ? all : all.filter { $0.name == name }
        guard !chosen.isEmpty else {
            throw .unknownImplementation(name ?? "", function: function.rawValue, known: all.map(\.name))
        }
        self.init(function, implementations: chosen)
    }

    /// Those that this machine runs, vectors first.
    public static func available(_ function: MathFunction) -> [Implementation] {
        var list: [Implementation] = []
        for set in InstructionSets.available {
            if let vector = vector(function, set.math) { list.append(Implementation(name: set.name, vector)) }
        }
        let single = single(function)
        return list + [
            Implementation(name: scalar) { x, y, count in
                for i in 0..<count { y[i] = single(x[i]) }
            }
        ]
    }

    /// nil where the engine has no vectors of the function.
    private static func vector(_ function: MathFunction, _ math: MathKernels) -> MathKernels.Function? {
        switch function {
        case .exp: math.exp
        case .log: math.log
        case .rsqrt: math.rsqrt
        case .expm1, .log1p, .sqrt, .reciprocal, .sinPi, .cosPi: nil
        }
    }

    private static func single(_ function: MathFunction) -> @Sendable (Float) -> Float {
        switch function {
        case .exp: { ScalarMath.exp($0) }
        case .expm1: { ScalarMath.expm1($0) }
        case .log: { ScalarMath.log($0) }
        case .log1p: { ScalarMath.log1p($0) }
        case .sqrt: { ScalarMath.sqrt($0) }
        case .rsqrt: { ScalarMath.rsqrt($0) }
        case .reciprocal: { ScalarMath.reciprocal($0) }
        case .sinPi: { ScalarMath.sinPi($0) }
        case .cosPi: { ScalarMath.cosPi($0) }
        }
    }

    /// All arguments of all shards together.
    public static let total: UInt64 = 1 << 32

    /// The work in one line, as resume files name it.
    public var work: String { "engine \(function.rawValue) \(implementations.map(\.name).joined(separator: " "))" }

    /// Judges a shard of the 2^32 arguments, in the order of their bit patterns.
    ///
    /// - Returns: `cases` counts arguments; an argument at which several implementations are wrong is as many mismatches.
    /// - Throws: `ExhaustiveRunError`, `FileError`, and what `progress` throws.
    public func run(
        shard: Shard = .whole, threads: Int = Workers.processorCount, resumeFile: String? = nil,
        progress: (ExhaustiveProgress) throws -> Void = { _ in }
    ) throws -> ExhaustiveOutcome {
        let run = ExhaustiveRun(
            work: work, total: Self.total, blockSize: 1 << 18, shard: shard, threads: threads, resumeFile: resumeFile)
        return try run.run(progress: progress) { range, mismatches in
            judge(range.count, { UInt32(range.lowerBound + UInt64($0)) }, &mismatches)
        }
    }

    /// Judges `count` arguments, bit patterns in ascending order.
    public func judge(_ count: Int, _ argument: (Int) -> UInt32, _ mismatches: inout Mismatches) {
        let memory = UnsafeMutablePointer<Float>.allocate(capacity: 3 * Self.piece)
        defer { memory.deallocate() }
        let (x, expected, got) = (memory, memory + Self.piece, memory + 2 * Self.piece)
        var first = 0
        while first < count {
            let n = min(Self.piece, count - first)
            for i in 0..<n {
                x[i] = Float(bitPattern: argument(first + i))
                expected[i] = function.evaluate(x[i])
            }
            for implementation in implementations {
                for i in 0..<n { got[i] = Float(bitPattern: 0xDEAD_BEEF) }
                implementation.evaluate(x, got, n)
                for i in 0..<n where got[i].bitPattern != expected[i].bitPattern {
                    mismatches.record {
                        Mismatch(
                            index: UInt64(x[i].bitPattern),
                            inputs:
                                "\(implementation.name) \(function.rawValue)(\(x[i])) = \(hexadecimal(x[i]))",
                            expected: "\(hexadecimal(expected[i])) = \(expected[i])",
                            got: "\(hexadecimal(got[i])) = \(got[i])")
                    }
                }
            }
            first += n
        }
    }

    /// Arguments that stay in the cache from one implementation to the next.
    private static let piece = 4096

    private func hexadecimal(_ x: Float) -> String {
        let digits = String(x.bitPattern, radix: 16, uppercase: true)
        return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
    }
}

/// Why a proof cannot start.
public enum EngineMathProofError: Error, Hashable, Sendable, CustomStringConvertible {
    case unknownImplementation(String, function: String, known: [String])

    public var description: String {
        switch self {
        case .unknownImplementation(let name, let function, let known):
            "this machine has no \(name) for \(function); expected one of \(known.joined(separator: ", "))"
        }
    }
}
