import ArgumentParser
import GoldenIO
import ModelSpec
import Platform

/// The command line. Exit codes: 0 conforms, 1 does not conform, 2 could not be judged or done, 64 usage, 130 and 143 ended by SIGINT and SIGTERM.
@main
struct Touchstone: AsyncParsableCommand {
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
            Diff.self, Dump.self,
            Hash.self,
            Prove.self, Doctor.self, Demo.self, PluginHostCommand.self,
        ])

    static func main() async {
        do {
            var command = try parseAsRoot(Number.joiningNegative(Array(CommandLine.arguments.dropFirst())))
            do {
                if var asynchronous = command as? any AsyncParsableCommand {
                    try await asynchronous.run()
                } else {
                    try command.run()
                }
            } catch let error as ExitCode {
                throw error
            } catch is Interrupted {
                Terminal.writeError("touchstone: \(Interrupted())\n")
                throw ExitCode(Interruption.exitStatus)
            } catch  where exitCode(for: error) != .failure {
                // The parser's own: help, version, usage.
                throw error
            } catch {
                Terminal.writeError("touchstone: error: \(error)\n")
                throw ExitCode(2)
            }
        } catch {
            exit(withError: error)
        }
    }
}
