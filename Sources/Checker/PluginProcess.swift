import Cases
import Foundation
import GoldenIO
import Goldens
import ModelSpec
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
        do {
            try await run(input: input, output: output)
        } catch let failure as ProcessFailure {
            throw JudgingError.plugin(command: command, file: file, failure.description)
        }
    }

    /// - Throws: ``ProcessFailure``, `Interrupted`.
    func run(input: String, output: String) async throws {
        let line = command.replacing("{in}", with: Self.quoted(input)).replacing("{out}", with: Self.quoted(output))
        let printed = Tail()
        var options = PlatformOptions()
        options.createSession = true
        func failure(_ kind: ImplementationFailure.Kind, _ what: String) -> ProcessFailure {
            ProcessFailure(kind: kind, what: what, printed: printed.text)
        }
        let outcome: Outcome
        do {
            outcome = try await execute(line, options, printed)
        } catch is CancellationError {
            throw Interrupted()
        } catch {
            throw failure(.reported, "could not be started: \(error)")
        }
        switch outcome {
        case .timeout:
            throw failure(.hang, "was still running after the timeout of \(seconds) s and was ended")
        case .interrupted: throw Interrupted()
        case .ended(.exited(0)): break
        case .ended(.exited(let code)): throw failure(.exit(status: code), "failed with exit status \(code)")
        case .ended(.signaled(let number)):
            let name = ProcessEnd.name(ofSignal: number).map { " (\($0))" } ?? ""
            throw failure(.crash(signal: number), "was ended by signal \(number)\(name)")
        }
        // Not followed: a symbolic link is not a file that the command wrote.
        let attributes = try? FileManager.default.attributesOfItem(atPath: output)
        guard let type = attributes?[.type] as? FileAttributeType else {
            throw failure(.malformed, "ended well but wrote no file at {out}")
        }
        guard type == .typeRegular else {
            throw failure(
                .malformed, "left something at {out} that is not a regular file but \(Self.noun(type))")
        }
        let size = (try? Files.status(of: output).size) ?? 0
        guard size <= outputLimit else {
            throw failure(.malformed, "wrote \(size) bytes to {out}; at most \(outputLimit) are read")
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

/// What a command did instead of answering.
struct ProcessFailure: Error, CustomStringConvertible {
    let kind: ImplementationFailure.Kind
    let what: String
    let printed: String

    var description: String { printed.isEmpty ? what : what + "; it printed:\n" + printed }
}

/// A command asked one case at a time, each in a file of its own: slow, and the same to whoever asks as a library. Several cases asked at once share a file.
public struct ProcessImplementation: Implementation {
    public let plugin: PluginProcess
    public var name: String { plugin.command }

    public init(_ plugin: PluginProcess) { self.plugin = plugin }

    /// Runs the command on a file with this one case. A case without any output in the answer, or absent from it, is one that the command does not have.
    public func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
        try await outputs(forAll: [goldenCase])[0]
    }

    /// Runs the command once, on a file with all of the cases. A failure is laid to the first.
    public func outputs(forAll goldenCases: [GoldenCase]) async throws -> [TensorGroup?] {
        guard let goldenCase = goldenCases.first else { return [] }
        let folder = try Files.createTemporaryFolder()
        defer { Files.removeFolder(folder) }
        let (input, output) = (folder + "/in.h5", folder + "/out.h5")
        let suite = (try? OperationCatalog.operation(named: goldenCase.op))?.suite.rawValue ?? ""
        let writer = try GoldenWriter(
            path: input,
            header: GoldenHeader(
                specVersion: Specification.version, suite: suite, tier: "", generator: Specification.generator, seed: 0)
        )
        for var question in goldenCases {
            for group in CaseGroup.allCases where group != .inputs { question[group] = [] }
            try writer.write(question)
        }
        try writer.finish()
        func failure(_ kind: ImplementationFailure.Kind, _ what: String, _ printed: String = "")
            -> ImplementationFailure
        {
            ImplementationFailure(
                kind, implementation: name, goldenCase: goldenCase.name, "\(what) (\(goldenCase.op))", printed: printed)
        }
        do {
            try await plugin.run(input: input, output: output)
        } catch let error as ProcessFailure {
            throw failure(error.kind, error.what, error.printed)
        }
        do {
            let file = try GoldenFile(reading: output, byteLimit: plugin.outputLimit)
            let answered = Set(file.caseNames)
            return try goldenCases.map { one in
                guard answered.contains(one.name) else { return nil }
                let outputs = try file.readCase(one.name, groups: [.outputs]).outputs
                return outputs.isEmpty ? nil : outputs
            }
        } catch {
            throw failure(.malformed, "wrote an {out} that cannot be read: \(error)")
        }
    }
}

/// The process that runs now; its session is ended from another task.
private final class ProcessHolder: Sendable {
    private let identifier = Synchronized<Int32?>(nil)

    func set(_ value: Int32) {
        identifier.set(value)
        ProcessGroups.add(value)
    }

    /// Kills everything in the process's session and group.
    func endGroup() {
        guard let value = identifier.get else { return }
        ProcessGroups.kill(value)
        ProcessGroups.remove(value)
    }
}

/// The last 4 KiB of what a process printed.
final class Tail: Sendable {
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
