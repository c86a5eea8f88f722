import ArgumentParser
import Engine
import Foundation
import MPIRanks
import Platform

/// The processes of a training run, or this one alone: what all do together, and what only the first one does, which is the one that users see.
struct RunGroup {
    /// nil for a process alone.
    let world: MPIWorld?

    var isMain: Bool { world.map { $0.rank == 0 } ?? true }

    /// Runs `body` everywhere; fails everywhere if it fails anywhere.
    func together<Result>(_ body: () throws -> Result) throws -> Result {
        guard let world else { return try body() }
        return try world.agree(body)
    }

    /// Runs `body` on rank 0; fails everywhere if it fails.
    func onMain(_ body: () throws -> Void) throws { try together { if isMain { try body() } } }

    /// What rank 0 has.
    func ofMain(_ value: Int) throws -> Int {
        guard let world else { return value }
        return try world.allGather(value)[0]
    }

    /// Whether a signal has asked one of the processes to end; fails everywhere if there is a failure anywhere.
    func mustEnd(failure: (any Error)? = nil) throws -> Bool {
        guard let world else {
            if let failure { throw failure }
            return Interruption.isRequested
        }
        return try world.agree(failure.map { "\($0)" }, sharing: Interruption.isRequested).contains(true)
    }

    /// Fails everywhere unless `text` is the same everywhere.
    ///
    /// - Parameter what: what it stands for, in messages.
    func expectCommon(_ text: String, _ what: String) throws {
        guard let world else { return }
        let main = String(decoding: try world.broadcast(Array(text.utf8), from: 0), as: UTF8.self)
        try together { if text != main { throw CommandError("rank \(world.rank) has another \(what) than rank 0") } }
    }

    /// Runs `body` as one of the processes that `mpirun` started. What goes wrong is printed once, by rank 0, and all end with one exit code.
    static func underMPI(_ body: (RunGroup) throws -> Void) throws {
        let world = try MPIWorld()
        var code: Int32 = 0
        var message: String?
        do { try body(RunGroup(world: world)) } catch let exit as ExitCode { code = exit.rawValue } catch let
            interrupted
            as Interrupted
        { (code, message) = (Interruption.exitStatus, "\(interrupted)") } catch {
            (code, message) = (2, "error: \(error)")
        }
        func tell() { if let message { Terminal.writeError("touchstone: \(message)\n") } }
        if world.rank == 0 { tell() }
        fflush(nil)
        // All come here at about the same time: what one throws all throw. Unless a rank is lost.
        guard world.leave(within: 15) else {
            if world.rank != 0 { tell() }
            Terminal.writeError("touchstone: error: rank \(world.rank): not all ranks answer; the run ends\n")
            world.abort(code == 0 ? 2 : code)
            throw ExitCode(code == 0 ? 2 : code)
        }
        if code != 0 { throw ExitCode(code) }
    }
}
