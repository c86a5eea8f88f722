import Checker
import Foundation
import Platform

/// Places that one run at a time writes to.
enum Exclusive {
    /// Locks a folder for this run.
    ///
    /// - Throws: ``CommandError`` that names the run that has it.
    static func folder(_ path: String) throws -> FileLock { try lock("\(path)/.touchstone.lock", of: path) }

    /// Locks a file that is written anew again and again, by a file beside it.
    static func file(_ path: String) throws -> FileLock {
        let url = URL(fileURLWithPath: path)
        return try lock(
            url.deletingLastPathComponent().appendingPathComponent(".\(url.lastPathComponent).lock").path, of: path)
    }

    private static func lock(_ lockPath: String, of path: String) throws -> FileLock {
        let host = Machine.hostName
        let own = "process \(Machine.processIdentifier)\(host.isEmpty ? "" : " on \(host)"): \(commandLine)"
        do { return try FileLock(lockPath, holder: own) } catch {
            switch error {
            case .held(let other):
                throw CommandError(
                    "another run writes to \(path): \(other.isEmpty ? "it has not said which" : other); wait for its end, or name another place"
                )
            case .file(let error): throw CommandError("cannot write to \(path): \(error.reason)")
            }
        }
    }

    /// The command of this process, as a shell would take it.
    static var commandLine: String { command(Array(CommandLine.arguments.dropFirst())) }

    /// `touchstone` with arguments, as a shell would take it.
    static func command(_ arguments: [String]) -> String {
        (["touchstone"]
            + arguments.map { argument in
                let isPlain =
                    !argument.isEmpty
                    && argument.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_./=,:+".contains($0)) }
                return isPlain ? argument : PluginProcess.quoted(argument)
            }).joined(separator: " ")
    }
}
