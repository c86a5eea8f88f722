import ArgumentParser
import Cases
import Checker
import Engine
import Foundation
import GoldenIO
import Goldens
import JSON
import MPIRanks
import ModelSpec
import Platform

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what this machine offers and whether the arithmetic works here.",
        discussion: """
            Prints versions, processor features, threads and libraries, then runs known answers through every operation \
            family. Exit status 1 if one of them is wrong.
            """)

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    @Flag(name: .long, help: "Print the engine's instruction sets alone, one a line, the preferred one first.")
    var engines = false

    func validate() throws {
        if json && engines { throw ValidationError("--json and --engines exclude each other.") }
    }

    func run() throws {
        let sets = InstructionSets.available.map(\.name)
        if engines {
            print(sets.joined(separator: "\n"))
            return
        }
        let checks = KnownAnswers.run()
        let facts: [(String, String)] = [
            ("touchstone", "\(Specification.softwareVersion), specification \(Specification.version)"),
            ("processor", "\(Machine.processorName), \(Machine.architecture)"),
            ("features", Machine.features.joined(separator: " ")),
            ("threads", "\(ProcessInfo.processInfo.activeProcessorCount)"),
            ("engine", sets.joined(separator: ", ")),
            (
                "refused",
                InstructionSets.refused.isEmpty
                    ? "none: every set answered its known questions"
                    : InstructionSets.refused.map { "\($0.name) (\($0.complaint))" }.joined(separator: "; ")
            ),
            ("hdf5", GoldenFile.libraryVersion),
            ("mpi", MPIWorld.library ?? "none: a build with `--traits MPI` has it"),
            ("operations", "\(OperationCatalog.all.count) in \(counted(Suite.allCases.count, "suite"))"),
        ]
        if json {
            var object: [String: JSONValue] = [:]
            for (key, value) in facts { object[key] = .string(value) }
            object["engine"] = .array(sets.map(JSONValue.string))
            object["known_answers"] = .object(
                Dictionary(uniqueKeysWithValues: checks.map { ($0.name, JSONValue.bool($0.passed)) }))
            print(try JSONValue.object(object).text(indented: true))
        } else {
            for (key, value) in facts { print("\(key.padding(toLength: 14, withPad: " ", startingAt: 0))\(value)") }
            print("known answers")
            for check in checks {
                print("  \(check.passed ? "ok    " : "WRONG ") \(check.name)\(check.passed ? "" : ": \(check.detail)")")
            }
        }
        try end(checks.allSatisfy(\.passed) ? .conforms : .doesNotConform)
    }
}

/// A handful of answers known from elsewhere, one or two a family: published vectors, or values worked out by hand.
enum KnownAnswers {
    struct Check {
        let name: String
        let passed: Bool
        let detail: String
    }

    static func run() -> [Check] {
        [
            check(
                "bf16.add: 1 + 2^-8 ties to 1 (B3)", "bf16.add", ["rounding": "rne", "tininess": "after"],
                [
                    NamedTensor("a", Tensor(bf16: [0x3F80], shape: [1])),
                    NamedTensor("b", Tensor(bf16: [0x3B80], shape: [1])),
                ],
                "r", Tensor(bf16: [0x3F80], shape: [1])),
            check(
                "bf16.from: 0x7F7F8000 overflows (B5)", "bf16.from", ["source": "fp32", "rounding": "rne"],
                [NamedTensor("a", Tensor(fp32: [0x7F7F_8000], shape: [1]))], "r", Tensor(bf16: [0x7F80], shape: [1])),
            check(
                "dot.gemm: paired-ftz reads a subnormal as zero (D1)", "dot.gemm", ["dot": "paired-ftz"],
                [
                    NamedTensor("a", Tensor(bf16: [0x0001], shape: [1, 1])),
                    NamedTensor("b", Tensor(bf16: [0x7F00], shape: [1, 1])),
                ], "d", Tensor([Float(0)], shape: [1, 1])),
            check(
                "math.exp: exp(1) = 0x402DF854 (E1)", "math.exp", [:],
                [NamedTensor("x", Tensor([Float(1)], shape: [1]))],
                "y", Tensor(fp32: [0x402D_F854], shape: [1])),
            check(
                "random.philox: Random123's vector for zeros (G1)", "random.philox", [:],
                [
                    NamedTensor("key", Tensor([0, 0] as [UInt32], shape: [1, 2])),
                    NamedTensor("counter", Tensor([0, 0, 0, 0] as [UInt32], shape: [1, 4])),
                ], "words", Tensor([0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8] as [UInt32], shape: [1, 4])),
            check(
                "squinch.encode: eight ones have scale 129 and codes 14 (S2, S3)", "squinch.encode",
                ["variant": "floor16", "nonfinite": "refuse"],
                [NamedTensor("x", Tensor([Float](repeating: 1, count: 8), shape: [8]))], "blocks",
                Tensor([129, 0, 0xEE, 0xEE, 0xEE, 0xEE] as [UInt8], shape: [1, 6])),
        ]
    }

    private static func check(
        _ name: String, _ op: String, _ recipe: [String: JSONValue], _ inputs: [NamedTensor], _ output: String,
        _ expected: Tensor
    ) -> Check {
        do {
            let answer = try OperationCatalog.evaluate(
                GoldenCase(name: "known-answer", op: op, recipe: recipe, inputs: TensorGroup(inputs)))
            let found = answer.outputs[output]
            return Check(
                name: name, passed: found == expected,
                detail: found.map { "found \($0.bytes), expected \(expected.bytes)" } ?? "no output")
        } catch {
            return Check(name: name, passed: false, detail: "\(error)")
        }
    }
}
