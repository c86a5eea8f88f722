import Cases
import Engine
import EngineOperations
import Foundation
import GoldenIO
import Goldens
import Kernels
import KernelsEmulated
import Testing

/// Every golden that the engine has an operation for, on every instruction set, with several numbers of threads.
@Suite("The engine on the goldens")
struct EngineGoldenTests {
    static let goldens = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "GoldenData").path

    struct Target: Sendable, CustomTestStringConvertible {
        let kernels: KernelSet
        let threads: Int
        var testDescription: String { "\(kernels.name), \(threads) threads" }
    }

    /// With one thread and three the AVX-512 modules' sources, as this machine can run them.
    static let targets: [Target] =
        InstructionSets.available.flatMap { kernels in [1, 2, 3, 7].map { Target(kernels: kernels, threads: $0) } }
        + [Emulated.singles, Emulated.pairs].flatMap { kernels in
            [1, 3].map { Target(kernels: kernels, threads: $0) }
        }

    @Test("an operation for every golden's")
    func complete() {
        #expect(Set(EngineCatalog.names) == Set(OperationCatalog.all.map(\.name)))
    }

    @Test("every bit of every output", arguments: targets)
    func exact(target: Target) throws {
        let catalog = EngineCatalog(EngineContext(kernels: target.kernels, threads: target.threads))
        let manifest = try Manifest(reading: "\(Self.goldens)/MANIFEST.json")
        var compared = 0
        for entry in manifest.files {
            let file = try GoldenFile(reading: "\(Self.goldens)/\(entry.path)")
            for name in file.caseNames {
                let golden = try file.readCase(name)
                let answer = try catalog.evaluate(golden)
                for expected in golden.outputs.tensors {
                    let got = try #require(answer.outputs[expected.name], "\(name): no \(expected.name)")
                    if got == expected.tensor { continue }
                    let index = (0..<got.count).first { got.bits(at: $0) != expected.tensor.bits(at: $0) } ?? -1
                    let (bits, wanted) = index < 0 ? (0, 0) : (got.bits(at: index), expected.tensor.bits(at: index))
                    Issue.record(
                        """
                        \(entry.path) \(name) (\(golden.op)): \(expected.name)[\(index)] is \
                        \(String(bits, radix: 16)), expected \(String(wanted, radix: 16)); \(golden.why)
                        """)
                }
                compared += 1
            }
        }
        #expect(compared == manifest.files.reduce(0) { $0 + $1.cases })
    }
}
