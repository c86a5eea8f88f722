import ArgumentParser
import CScarcity
import Cases
import ModelSpec
import Platform

/// The command line. Exit codes: 0 conforms, 1 does not conform, 2 could not be judged or done, 64 usage, 130 and 143 ended by SIGINT and SIGTERM.
@main
struct Touchstone: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "touchstone",
        abstract: "A reference test oracle for the numerics of large transformer training.",
        discussion: """
            Touchstone writes golden tensors from a bit-exact reference, fills in the reference's answers for your own \
            inputs, and judges other implementations: a file that they wrote, a command that reads one file and \
            writes another, or a shared library.

            Exit status: 0 conforms, 1 does not conform, 2 could not be judged (an unreadable file, a failed process), \
            64 usage, 130 and 143 ended by Ctrl-C and SIGTERM.
            """,
        version: "touchstone \(Specification.softwareVersion), specification \(Specification.version)",
        subcommands: [
            Generate.self, Evaluate.self, Validate.self, Diagnose.self, Localise.self, Check.self, Fuzz.self,
            Mutate.self,
            Train.self, Bench.self,
            DataCommand.self, Distill.self, StudyCommand.self,
            Operations.self, Diff.self, Dump.self,
            Hash.self,
            Prove.self, Doctor.self, Demo.self, PluginHostCommand.self,
        ])

    static func main() {
        StandardStreams.open()
        do {
            var command = try parseAsRoot(Number.joiningNegative(Array(CommandLine.arguments.dropFirst())))
            do {
                // The host of a plug-in is the plug-in's process: signals, memory and threads are its own business.
                if !(command is PluginHostCommand) { try prepare() }
                if let asynchronous = command as? any AsyncParsableCommand {
                    try runToEnd(asynchronous)
                } else {
                    try command.run()
                }
                try StandardStreams.finishOutput()
            } catch let error as ExitCode {
                // A verdict that could not be printed is none.
                do { try StandardStreams.finishOutput() } catch let lost {
                    Terminal.writeError("touchstone: error: \(lost)\n")
                    if error.rawValue < 2 { throw ExitCode(2) }
                }
                throw error
            } catch is Interrupted {
                Interruption.tell()
                throw ExitCode(Interruption.exitStatus)
            } catch  where exitCode(for: error) != .failure {
                // The parser's own: help, version, usage.
                throw error
            } catch {
                if let error = error as? FileError, error.isBrokenPipe { Interruption.endAfterBrokenPipe() }
                Terminal.writeError("touchstone: error: \(error)\n")
                throw ExitCode(2)
            }
        } catch {
            exit(withError: error)
        }
    }

    /// Signals, and what the system does not give, end the program in order.
    private static func prepare() throws {
        touchstone_end_on_scarcity { bytes in
            // First what must not stay; words may need more memory than is left.
            Interruption.discardAll()
            let what =
                bytes == 0
                ? "the system starts no further thread: --threads takes fewer, `ulimit -u` and -v say how many there may be"
                : MemoryLimits.explanation(of: Int(clamping: bytes))
            Terminal.writeError("touchstone: error: \(what)\n")
            Interruption.endProcess(2)
        }
        try Interruption.watch()
    }

    /// Runs a command that waits for others beside what it does itself. The commands that compute alone run on the main thread and need no other.
    private static func runToEnd(_ command: sending any AsyncParsableCommand) throws {
        let outcome = Synchronized<Result<Void, any Error>?>(nil)
        let gate = ThreadGate()
        Task.detached {
            var command = command
            do {
                try await command.run()
                outcome.set(.success(()))
            } catch {
                outcome.set(.failure(error))
            }
            gate.open()
        }
        gate.wait { outcome.get != nil }
        try outcome.get?.get()
    }
}
