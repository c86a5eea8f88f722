import ArgumentParser
import Engine
import Foundation
import Kernels
import Platform

/// Which kernels the engine uses, and how many threads. The bits do not depend on either.
struct EngineOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The engine's instruction set; the best one that this machine has by default. `doctor` lists them.",
            valueName: "name"))
    var isa: String?

    @Option(
        name: .long,
        help:
            "Threads of the engine, or of the reference; one a processor by default, under MPI the processors shared among the ranks of a machine.",
        transform: Number.whole(1...1024))
    var threads: Int?

    func validate() throws {
        if let isa, InstructionSets.named(isa) == nil {
            let names = InstructionSets.available.map(\.name).joined(separator: ", ")
            throw ValidationError("This machine has no instruction set '\(isa)' for the engine; it has \(names).")
        }
    }

    /// - Parameter processes: that share this machine's processors.
    /// - Precondition: validated.
    /// - Throws: ``CommandError`` if the system does not start so many threads.
    func context(processes: Int = 1) throws -> EngineContext {
        applyToReference()
        for refusal in InstructionSets.refused {
            Terminal.writeError("touchstone: not using \(refusal.name): \(refusal.complaint)\n")
        }
        let kernels = InstructionSets.named(isa) ?? InstructionSets.available[0]
        let processors = ProcessInfo.processInfo.activeProcessorCount
        let wanted = threads ?? max(1, processors / processes)
        let context = EngineContext(kernels: kernels, threads: wanted)
        guard context.pool.count == wanted else {
            throw CommandError(
                "the system starts \(context.pool.count) of \(wanted) threads: --threads \(context.pool.count) takes no more; `ulimit -u` and `ulimit -v` bound them"
            )
        }
        return context
    }

    /// What the reference computes is computed on as many threads.
    func applyToReference() { if let threads { Workers.use(threads: threads) } }

    /// For reports.
    static func name(_ context: EngineContext) -> String {
        "engine, \(context.kernels.name), \(counted(context.pool.count, "thread"))"
    }
}

/// How many threads the reference uses, for commands that have no engine. The bits do not depend on it.
struct ThreadOptions: ParsableArguments {
    @Option(
        name: .long, help: "Threads of the reference; one a processor by default.",
        transform: Number.whole(1...1024))
    var threads: Int?

    func apply() { if let threads { Workers.use(threads: threads) } }
}
