import ArgumentParser
import Checker

/// The process in which `validate --library` and the like load a library. Not for people.
struct PluginHostCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plugin-host", abstract: "Answer questions with a shared library, on a socket.",
        shouldDisplay: false)

    @Argument var library: String
    @Option var memoryLimit: Int?
    @Option var outputLimit: Int

    func run() throws {
        try PluginHost.run(library: library, memoryLimit: memoryLimit, outputLimit: outputLimit)
    }
}
