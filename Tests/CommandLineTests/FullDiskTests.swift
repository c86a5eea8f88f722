import Cases
import Foundation
import GoldenIO
import Platform
import Testing

/// Where something cannot be written: one line that names it and the system's reason, exit status 2, and nothing half-written.
@Suite("What cannot be written is told in one line", .serialized)
struct FullDiskTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// In which $TOUCHSTONE stands for the program.
    private func shell(_ line: String) async throws -> Program.Outcome {
        try await Program.run(["-c", line], program: "/bin/bash")
    }

    private func expectOneLine(
        _ outcome: Program.Outcome, _ name: String, _ reason: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(outcome.exitCode == 2, "\(outcome.errors)", sourceLocation: sourceLocation)
        #expect(
            outcome.errors.split(separator: "\n").count == 1 && outcome.errors.contains(name)
                && outcome.errors.contains(reason), "\(outcome.errors)", sourceLocation: sourceLocation)
    }

    /// A command that writes at OUT, and a limit in KiB on the size of files that it does not keep.
    struct Writer: Sendable, CustomTestStringConvertible {
        let command: String
        let kilobytes: Int
        /// What it leaves: whole files that the limit does not concern.
        var leaves: [String] = []
        var testDescription: String { command }
    }

    private static let writers = [
        Writer(command: "evaluate --quiet GoldenData/dot/gemm.h5 OUT", kilobytes: 64),
        Writer(command: "evaluate --quiet GoldenData/dot/gemm.h5 OUT", kilobytes: 0),
        Writer(command: "generate --quiet --suite dot --output OUT", kilobytes: 64, leaves: ["out", "out/dot"]),
        Writer(command: "generate --quiet --suite dot --output OUT", kilobytes: 1, leaves: ["out", "out/dot"]),
        Writer(command: "validate GoldenData/dot/gemm.h5 --format html --output OUT", kilobytes: 4),
        Writer(command: "validate GoldenData/dot/gemm.h5 --format json --output OUT", kilobytes: 4),
        Writer(command: "validate GoldenData/dot/gemm.h5 --format junit --output OUT", kilobytes: 4),
        Writer(command: "diagnose GoldenData/dot/gemm.h5 --output OUT", kilobytes: 0),
        Writer(
            command: "train --steps 2 --data README.md --quiet --checkpoint OUT", kilobytes: 64, leaves: ["out"]),
        Writer(command: "train --steps 2 --data README.md --quiet --trace OUT", kilobytes: 64),
        Writer(command: "train --steps 2 --data README.md --quiet --report OUT", kilobytes: 1),
        Writer(command: "train --steps 40 --data README.md --quiet --log OUT", kilobytes: 4, leaves: ["out"]),
        Writer(command: "study precision --steps 1 --seeds 2 --quiet --output OUT", kilobytes: 1, leaves: ["out"]),
    ]

    @Test("a file that is to be larger than the limit on sizes", arguments: writers)
    func sizes(_ writer: Writer) async throws {
        let place = folder.file("out")
        let outcome = try await shell(
            "ulimit -f \(writer.kilobytes); exec $TOUCHSTONE \(writer.command.replacing("OUT", with: "'\(place)'"))")
        expectOneLine(outcome, place, "File too large")
        #expect(folder.contents == writer.leaves)
        guard writer.command.contains("--log") else { return }
        // A log grows: what is in it is whole lines.
        let log = try String(contentsOfFile: place, encoding: .utf8)
        #expect(log.hasSuffix("}\n") && log.utf8.count > 1024)
    }

    @Test("a device that is full: reports, logs, what is printed")
    func fullDevice() async throws {
        for command in [
            "validate GoldenData/dot/gemm.h5 --format json --output /dev/full",
            "diagnose GoldenData/dot/gemm.h5 --output /dev/full",
            "train --steps 1 --data README.md --quiet --log /dev/full",
        ] {
            expectOneLine(try await shell("exec $TOUCHSTONE \(command)"), "/dev/full", "No space left on device")
        }
        for command in ["hash GoldenData/dot/gemm.h5", "validate GoldenData/dot/gemm.h5", "doctor", "data README.md"] {
            expectOneLine(
                try await shell("exec $TOUCHSTONE \(command) > /dev/full"), "standard output", "No space left on device"
            )
        }
    }

    @Test("a standard output that is closed, and one whose reader has gone")
    func closedOutput() async throws {
        expectOneLine(
            try await shell("exec $TOUCHSTONE hash GoldenData/dot/gemm.h5 >&-"), "standard output",
            "Bad file descriptor")
        // What is written to a file does not get what was to be printed.
        let path = folder.file("out.h5")
        let evaluated = try await shell("exec $TOUCHSTONE evaluate GoldenData/dot/gemm.h5 '\(path)' >&- 2>&- <&-")
        #expect(evaluated.exitCode == 2)
        #expect(try GoldenFile(reading: path).caseNames.count > 0)
        let piped = try await shell(
            "$TOUCHSTONE dump GoldenData/dot/gemm.h5 --case \(try firstCase()) --count 1000000 | head -1; echo ${PIPESTATUS[0]}"
        )
        #expect(piped.errors.isEmpty && piped.output.split(separator: "\n").last == "141", "\(piped.errors)")
    }

    private func firstCase() throws -> String {
        let golden = try GoldenFile(reading: "\(Program.root)/GoldenData/dot/gemm.h5")
        return try #require(
            golden.caseNames.max {
                try golden.readCase($0).outputs.tensors[0].tensor.count
                    < golden.readCase($1).outputs.tensors[0].tensor.count
            })
    }

    @Test("a folder that may not be written to or is not there, and a name that is too long")
    func places() async throws {
        let long = String(repeating: "x", count: 300)
        for command in [
            "evaluate --quiet GoldenData/dot/gemm.h5 PLACE", "validate GoldenData/dot/gemm.h5 --output PLACE",
            "train --steps 1 --data README.md --quiet --log PLACE", "train --steps 1 --data README.md --report PLACE",
            "train --steps 1 --data README.md --trace PLACE",
        ] {
            func refused(_ place: String, _ reason: String) async throws {
                let line = "exec $TOUCHSTONE \(command.replacing("PLACE", with: "'\(place)'"))"
                expectOneLine(try await shell(line), place, reason)
            }
            try await refused(folder.file("absent/file"), "No such file or directory")
            try await refused(folder.file(long), "File name too long")
            #if os(Linux)
                try await refused("/sys/file", "Permission denied")
            #endif
        }
        #expect(folder.contents.isEmpty)
    }

    #if os(Linux)
        /// Whether this process may mount a small disk.
        private static let canMount = geteuid() == 0 && FileManager.default.fileExists(atPath: "/usr/bin/unshare")

        @Test("a disk that is full", .enabled(if: canMount, "only root can mount a small disk"))
        func fullDisk() async throws {
            let disk = folder.file("disk")
            try Files.createFolder(disk)
            for (command, name) in [
                ("evaluate --quiet GoldenData/dot/gemm.h5 DISK/out.h5", "DISK/out.h5"),
                ("generate --quiet --suite dot --output DISK/goldens", "DISK/goldens/dot"),
                ("validate GoldenData/dot/gemm.h5 --format html --output DISK/page.html", "DISK/page.html"),
                ("train --steps 200 --data README.md --quiet --log DISK/log", "DISK/log"),
                ("train --steps 2 --data README.md --quiet --checkpoint DISK/run", "DISK/run"),
            ] {
                let line = command.replacing("DISK", with: "'\(disk)'")
                let outcome = try await shell(
                    """
                    exec unshare -m bash -c "mount -t tmpfs -o size=64k none '\(disk)' || exit 99
                    head -c 61440 /dev/zero > '\(disk)/filler'; \\$TOUCHSTONE \(line); code=\\$?
                    find '\(disk)' -name '*.partial' | grep -q . && exit 98; exit \\$code"
                    """)
                expectOneLine(outcome, name.replacing("DISK", with: disk), "No space left on device")
            }
        }
    #endif
}
