import Foundation
import Platform
import Subprocess

/// Runs an implementation given as a command, once for a golden file (`--exec`).
///
/// The command is a line for /bin/sh in which {in} and {out} stand for two paths, quoted. It runs in a session of its own, so that everything it
/// started can be ended with it: at the timeout, and when it returns.
public struct PluginProcess: Sendable {
    public let command: String
    public let timeout: Duration
    /// The largest output file that is read, in bytes.
    public let outputLimit: Int

    /// - Throws: ``JudgingError/nothingToJudge(_:)`` if the command names no {out}.
    public init(command: String, timeout: Duration, outputLimit: Int = 8 << 30) throws(JudgingError) {
        guard command.contains("{out}") else {
            throw .nothingToJudge("the command '\(command)' does not say where {out}, the file of answers, goes")
        }
        self.command = command
        self.timeout = timeout
        self.outputLimit = outputLimit
    }

    /// Runs the command on one file of inputs.
    ///
    /// - Throws: ``JudgingError/plugin(command:file:_:)`` saying what it did wrong: exit status, signal, timeout, no regular file at {out}; with the
    ///   end of what it printed.
    public func run(input: String, output: String, naming file: String) async throws {
        let line = command.replacing("{in}", with: Self.quoted(input)).replacing("{out}", with: Self.quoted(output))
        let printed = Tail()
        var options = PlatformOptions()
        options.createSession = true
        let outcome: Outcome
        do {
            outcome = try await execute(line, options, printed)
        } catch is CancellationError {
            throw Interrupted()
        } catch {
            throw failure(file, "could not be started: \(error)", printed)
        }
        switch outcome {
        case .timeout: throw failure(file, "was still running after the timeout of \(seconds) s and was ended", printed)
        case .interrupted: throw Interrupted()
        case .ended(.exited(0)): break
        case .ended(.exited(let code)): throw failure(file, "failed with exit status \(code)", printed)
        case .ended(.signaled(let number)): throw failure(file, "was ended by signal \(number)", printed)
        }
        // Not followed: a symbolic link is not a file that the command wrote.
        let attributes = try? FileManager.default.attributesOfItem(atPath: output)
        guard let type = attributes?[.type] as? FileAttributeType else {
            throw failure(file, "ended well but wrote no file at {out}", printed)
        }
        guard type == .typeRegular else {
            throw failure(file, "left something at {out} that is not a regular file but \(Self.noun(type))", printed)
        }
        let size = (try? Files.status(of: output).size) ?? 0
        guard size <= outputLimit else {
            throw failure(file, "wrote \(size) bytes to {out}; at most \(outputLimit) are read", printed)
        }
    }

    private enum Outcome: Sendable {
        case ended(TerminationStatus)
        case timeout
        case interrupted
    }

    private func execute(_ line: String, _ options: PlatformOptions, _ printed: Tail) async throws -> Outcome {
        let timeout = timeout
        return try await withThrowingTaskGroup(of: Outcome?.self) { group in
            let process = ProcessHolder()
            group.addTask {
                let result = try await Subprocess.run(
                    .path("/bin/sh"), arguments: ["-c", line], platformOptions: options, input: .none,
                    output: .sequence,
                    error: .combinedWithOutput
                ) { execution in
                    process.set(execution.processIdentifier.value)
                    for try await buffer in execution.standardOutput {
                        buffer.withUnsafeBytes { printed.append($0) }
                    }
                }
                return .ended(result.terminationStatus)
            }
            group.addTask {
                let clock = ContinuousClock()
                let end = clock.now + timeout
                while clock.now < end {
                    try await Task.sleep(for: min(.milliseconds(50), end - clock.now))
                    if Interruption.isRequested { return .interrupted }
                }
                return .timeout
            }
            // Whoever comes first decides. A process that was ended is still waited for, so that no child is left.
            let first = try await group.next() ?? nil
            process.endGroup()
            group.cancelAll()
            while let _ = try? await group.next() {}
            return first ?? .timeout
        }
    }

    private var seconds: String {
        let text = String(
            format: "%.3g", Double(timeout.components.seconds) + Double(timeout.components.attoseconds) * 1e-18)
        return text
    }

    private func failure(_ file: String, _ what: String, _ printed: Tail) -> JudgingError {
        let text = printed.text
        return .plugin(command: command, file: file, text.isEmpty ? what : what + "; it printed:\n" + text)
    }

    /// For the shell: inside single quotes, which themselves are escaped.
    public static func quoted(_ path: String) -> String { "'" + path.replacing("'", with: "'\\''") + "'" }

    private static func noun(_ type: FileAttributeType) -> String {
        switch type {
        case .typeDirectory: "a folder"
        case .typeSymbolicLink: "a symbolic link"
        case .typeSocket: "a socket"
        default: "a pipe or a device"
        }
    }
}

/// The process that runs now; its session is ended from another task.
private final class ProcessHolder: Sendable {
    private let identifier = Synchronized<Int32?>(nil)

    func set(_ value: Int32) { identifier.set(value) }

    /// Kills everything in the process's session and group.
    func endGroup() {
        if let value = identifier.get { ProcessGroups.kill(value) }
    }
}

/// The last 4 KiB of what a process printed.
private final class Tail: Sendable {
    private let bytes = Synchronized<[UInt8]>([])
    private static let limit = 4096

    func append(_ more: UnsafeRawBufferPointer) {
        bytes.change { bytes in
            bytes.append(contentsOf: more.suffix(Self.limit))
            if bytes.count > Self.limit { bytes.removeFirst(bytes.count - Self.limit) }
        }
    }

    var text: String {
        let lines = String(decoding: bytes.get, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: true)
        return lines.suffix(12).map { "    \($0)" }.joined(separator: "\n")
    }
}
