import EngineProver
import ExactMath
import Kernels
import Prover
import Testing

import Engine

@Suite("Proof of the engine's elementary functions")
struct EngineMathProofTests {
    /// A stride over all bit patterns that meets every binade of both signs at other fractions than those of ``EngineMathTests``.
    private func sample(_ proof: EngineMathProof) -> Mismatches {
        let stride: UInt64 = 65_521
        var mismatches = Mismatches(limit: 4)
        let count = Int((EngineMathProof.total - 1) / stride) + 1
        proof.judge(count, { UInt32(truncatingIfNeeded: UInt64($0) * stride) }, &mismatches)
        return mismatches
    }

    @Test("E3: every implementation on a strided sample", arguments: MathFunction.allCases)
    func strided(function: MathFunction) throws {
        let proof = try EngineMathProof(function)
        let hasVectors = [.exp, .log, .rsqrt].contains(function)
        let names = (hasVectors ? InstructionSets.available.map(\.name) : []) + [EngineMathProof.scalar]
        #expect(proof.implementations.map(\.name) == names)
        let mismatches = sample(proof)
        #expect(mismatches.count == 0, "\(mismatches.first)")
    }

    /// exp that leaves one argument out, or gives the neighbour of its result.
    private func defect(at bits: UInt32, skips: Bool) -> EngineMathProof.Implementation {
        EngineMathProof.Implementation(name: "planted") { x, y, n in
            for i in 0..<n {
                let isPlanted = x[i].bitPattern == bits
                if isPlanted && skips { continue }
                y[i] = isPlanted ? ScalarMath.exp(x[i]).nextUp : ScalarMath.exp(x[i])
            }
        }
    }

    @Test(
        "one wrong bit at one argument is found, and so is a result that was never written", arguments: [false, true])
    func planted(skips: Bool) throws {
        // A shard of 2^20 arguments from 1/2 on.
        let shard = try Shard(index: 0x3F0 + 1, count: 4096)
        let bits: UInt32 = 0x3F01_2345
        let right = EngineMathProof.available(.exp)
        let proof = EngineMathProof(.exp, implementations: [defect(at: bits, skips: skips)] + right)
        let outcome = try proof.run(shard: shard, threads: 2)
        #expect(outcome.cases == 1 << 20)
        #expect(outcome.mismatches == 1)
        #expect(outcome.firstMismatches.first?.index == UInt64(bits))
        #expect(outcome.firstMismatches.first?.inputs.hasPrefix("planted exp(") == true)
        let clean = try EngineMathProof(.exp, implementations: right).run(shard: shard, threads: 2)
        #expect(clean.mismatches == 0)
    }

    @Test("one implementation alone, and a name that there is not")
    func names() throws {
        #expect(try EngineMathProof(.log, only: "portable").implementations.map(\.name) == ["portable"])
        #expect(try EngineMathProof(.log1p).work == "engine log1p scalar")
        #expect(
            throws: EngineMathProofError.unknownImplementation("portable", function: "log1p", known: ["scalar"])
        ) { try EngineMathProof(.log1p, only: "portable") }
    }
}
