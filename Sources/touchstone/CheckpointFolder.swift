import Cases
import EngineOperations
import Foundation
import Platform

/// A folder of a run's checkpoints, locked while the run lasts. Where ranks are processes all make the same calls, and rank 0 locks, reads and writes.
final class CheckpointFolder {
    let path: String
    private let run: EngineRun
    private let data: String
    private let group: RunGroup
    private var lock: FileLock?

    /// - Parameter data: what names the data that is trained on.
    init(_ path: String, run: EngineRun, data: String, group: RunGroup = RunGroup(world: nil)) {
        (self.path, self.run, self.data, self.group) = (path, run, data, group)
    }

    /// The last checkpoint of a folder, or the file itself.
    static func latest(_ path: String) throws -> String {
        guard try Files.status(of: path).kind == .folder else { return path }
        guard let last = try Checkpoint.steps(path).last else { throw CommandError("\(path) has no checkpoint in it") }
        return Checkpoint.path(path, step: last)
    }

    /// Makes the folder if it is not there and locks it. Goes on from its last checkpoint if it has one and that is wanted.
    ///
    /// - Returns: the steps that were taken before; 0 where the run begins.
    /// - Throws: ``CommandError`` if another run has the folder, if it has checkpoints that are not to be gone on from, or if they are of another run.
    func begin(resuming: Bool) throws -> Int {
        var last: String?
        var hint = ""
        try group.onMain {
            try Files.createFolder(path)
            lock = try Exclusive.folder(path)
            let steps = try Checkpoint.steps(path)
            guard resuming else {
                guard steps.isEmpty else {
                    throw CommandError(
                        "\(path) has checkpoints already: --resume goes on from them, another folder begins anew")
                }
                return
            }
            guard let step = steps.last else { return }
            last = Checkpoint.path(path, step: step)
            if let before = steps.dropLast().last {
                hint = "\nThe one before it is of step \(before): move the damaged file away to go on from there."
            }
        }
        guard try group.ofMain(last == nil ? 0 : 1) == 1 else { return 0 }
        do { return try run.resume(last, data: data, group: group) } catch let error as GoldenIOError {
            throw CommandError("\(error)\(hint)")
        }
    }

    /// Writes the state after step `step`, then removes all but the last two.
    func save(_ step: Int) throws { try run.save(path, step: step, data: data, group: group) }

    /// The file of a step's state.
    func file(_ step: Int) -> String { Checkpoint.path(path, step: step) }

    /// Lets others have the folder.
    func close() { lock?.release() }
}

/// What a run that a signal has ended says before it ends.
enum RunInterruption {
    /// Says on standard error where the run stopped, what is kept, and by which command it goes on.
    ///
    /// - Parameters:
    ///   - taken: The last step that was taken, of this run or before it.
    ///   - before: The steps that were taken before this run.
    ///   - processes: Of a run under `mpirun`.
    static func tell(taken: Int, before: Int, of total: Int, folder: CheckpointFolder?, processes: Int? = nil) {
        let place = taken == 0 ? "before the first step of \(total)" : "after step \(taken) of \(total)"
        guard let folder else {
            return Terminal.writeError(
                "touchstone: interrupted \(place); nothing is kept: --checkpoint DIR keeps a run that --resume goes on with\n"
            )
        }
        let kept =
            taken == 0
            ? "there is no checkpoint yet"
            : taken == before
                ? "the checkpoint is \(folder.file(taken)), as before" : "checkpoint written: \(folder.file(taken))"
        var arguments = Array(CommandLine.arguments.dropFirst())
        if !arguments.contains("--resume") { arguments.append("--resume") }
        let launcher = processes.map { "mpirun -n \($0) " } ?? ""
        Terminal.writeError(
            "touchstone: interrupted \(place); \(kept)\ntouchstone: to go on:  \(launcher)\(Exclusive.command(arguments))\n"
        )
    }
}
