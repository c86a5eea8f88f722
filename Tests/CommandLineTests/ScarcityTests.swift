import Cases
import Foundation
import Platform
import Testing

#if os(Linux)
    /// Limits of the shell on memory, processes, files and their sizes.
    @Suite("What the system does not give is one line and exit status 2: no hang, no trap", .serialized)
    struct ScarcityTests {
        private let folder: TemporaryFolder

        init() throws { folder = try TemporaryFolder() }

        /// Runs the program in a shell with limits; the shell's `timeout` ends what hangs with 124.
        private func run(_ limits: String, _ arguments: String) async throws -> Program.Outcome {
            try await Program.run(
                ["-c", "\(limits); SWIFT_BACKTRACE=enable=no timeout 60 '\(Program.path)' \(arguments)"],
                program: "/bin/bash")
        }

        private static let commands = [
            "train --steps 2 --quiet --data README.md", "evaluate --quiet GoldenData/dot/gemm.h5 DIR/out.h5",
            "check --quiet --suite dot", "validate --quiet GoldenData/dot/gemm.h5",
            "generate --quiet --suite dot --output DIR/goldens", "fuzz --cases 20 --quiet --output DIR/fuzz.h5",
        ]

        @Test("from too little address space to enough", arguments: commands)
        func addressSpace(_ command: String) async throws {
            var codes: [Int: Int] = [:]
            for megabytes in [60, 70, 80, 90, 100, 110, 120, 140, 160, 200, 250, 300, 400, 600, 1000, 2000] {
                let outcome = try await run(
                    "ulimit -v \(megabytes * 1000)", command.replacing("DIR", with: folder.path))
                codes[outcome.exitCode, default: 0] += 1
                // 127: the system could not load the program at all.
                #expect(
                    [0, 2, 127].contains(outcome.exitCode), "\(megabytes) MB: \(outcome.exitCode) \(outcome.errors)")
                if outcome.exitCode == 2 {
                    let lines = outcome.errors.split(separator: "\n")
                    #expect(lines.count == 1 && outcome.errors.hasPrefix("touchstone: error: "), "\(outcome.errors)")
                }
                #expect(!folder.contents.contains { $0.hasSuffix(".partial") })
            }
            #expect(codes[0, default: 0] > 0 && codes[2, default: 0] > 0, "\(codes)")
        }

        @Test("a model that does not fit is refused with the figures before it is begun")
        func model() async throws {
            let outcome = try await run("ulimit -v 300000", "train --config bench --data README.md --steps 1")
            #expect(outcome.exitCode == 2)
            #expect(outcome.errors.contains("training takes ") && outcome.errors.contains("(ulimit -v) leaves "))
        }

        @Test("a product that no memory holds is refused with its size, and one above the limit with its shape")
        func output() async throws {
            let path = folder.file("huge.h5")
            try LongWork.writeProduct(path, m: 60_000, k: 0, n: 50_000)
            let outcome = try await run("ulimit -v 4000000", "evaluate '\(path)' '\(folder.file("out.h5"))'")
            #expect(outcome.exitCode == 2, "\(outcome.errors)")
            #expect(outcome.errors.hasPrefix("touchstone: error: no memory for 12.0 GB"), "\(outcome.errors)")
            try LongWork.writeProduct(path, m: 2_000_000, k: 0, n: 1_000_000)
            let larger = try await run("true", "evaluate '\(path)' '\(folder.file("out.h5"))'")
            #expect(larger.exitCode == 2, "\(larger.errors)")
            #expect(larger.errors.contains("outputs/d would have the shape [2000000, 1000000]"), "\(larger.errors)")
            #expect(folder.contents == ["huge.h5"])
        }

        @Test("a limit on open files is told by name")
        func openFiles() async throws {
            let outcome = try await run(
                "ulimit -n 5", "evaluate GoldenData/dot/gemm.h5 '\(folder.file("out.h5"))' --quiet")
            #expect(outcome.exitCode == 0 || outcome.exitCode == 2, "\(outcome.exitCode) \(outcome.errors)")
            if outcome.exitCode == 2 { #expect(outcome.errors.contains("Too many open files"), "\(outcome.errors)") }
        }
    }
#endif
