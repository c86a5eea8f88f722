import EngineOperations
import GoldenIO
import Platform

/// A folder of a run's checkpoints. Where ranks are processes all make the same calls, and rank 0 reads and writes.
struct CheckpointFolder {
    let path: String
    private let run: EngineRun
    private let data: String
    private let group: RunGroup

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

    /// Makes the folder if it is not there; goes on from its last checkpoint, or sees that there is none. The steps that were taken before.
    func begin(resuming: Bool) throws -> Int {
        var last: String?
        var hint = ""
        try group.onMain {
            try Files.createFolder(path)
            let steps = try Checkpoint.steps(path)
            guard resuming else {
                guard steps.isEmpty else {
                    throw CommandError(
                        "\(path) has checkpoints already: --resume goes on from them, another folder begins anew")
                }
                return
            }
            guard let step = steps.last else { throw CommandError("\(path) has no checkpoint to resume from") }
            last = Checkpoint.path(path, step: step)
            if let before = steps.dropLast().last {
                hint = "\nThe one before it is of step \(before): move the damaged file away to go on from there."
            }
        }
        guard resuming else { return 0 }
        do { return try run.resume(last, data: data, group: group) } catch let error as GoldenIOError {
            throw CommandError("\(error)\(hint)")
        }
    }

    /// Writes the state after step `step`, then removes all but the last two.
    func save(_ step: Int) throws { try run.save(path, step: step, data: data, group: group) }
}
