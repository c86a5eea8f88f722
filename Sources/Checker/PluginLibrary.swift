import Cases
import Dispatch
import Platform

/// A shared library with the functions of `touchstone.h`, loaded in a process of its own.
///
/// One process answers many cases, one at a time; whatever ends it, answers nonsense or exceeds the time is an ``ImplementationFailure`` of the case
/// that was being asked, and a fresh process asks the next.
public actor PluginLibrary: Implementation {
    /// What a plug-in may take.
    public struct Limits: Sendable, Hashable {
        /// Seconds for one case, and for loading.
        public var seconds: Double
        /// Bytes of memory for its process beyond the program's own; nil: what the system gives. On Linux private writable memory, elsewhere address
        /// space.
        public var memory: Int?
        /// Bytes of outputs of one case.
        public var output: Int

        public init(seconds: Double = 60, memory: Int? = 4 << 30, output: Int = 1 << 30) {
            self.seconds = seconds
            self.memory = memory
            self.output = output
        }
    }

    /// The path of the library.
    public nonisolated let path: String
    public nonisolated var name: String { path }
    public nonisolated let limits: Limits
    /// What the library calls itself; nil until the first case.
    public private(set) var title: String?
    /// How many processes were started.
    public private(set) var processCount = 0

    private let program: String
    private let environment: [String: String]
    private var child: ChildProcess?
    private var number: UInt64 = 0
    private let executor = QueueExecutor(label: "touchstone.plugin")

    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// - Parameters:
    ///   - path: The library. It is opened at the first case, or by ``open()``.
    ///   - program: The path of the program `touchstone`, whose hidden verb `plugin-host` loads the library.
    ///   - environment: Added to that of its process.
    public init(
        path: String, program: String, limits: Limits = Limits(), environment: [String: String] = [:]
    ) {
        self.path = path
        self.program = program
        self.environment = environment
        self.limits = limits
    }

    /// Loads the library.
    ///
    /// - Throws: ``PluginLibraryError`` if it cannot be loaded, is none, or is of another version; `Interrupted`.
    public func open() throws { _ = try running() }

    public func outputs(for goldenCase: GoldenCase) throws -> TensorGroup? {
        let question = try PluginQuestion.evaluate(goldenCase)
        let child = try running()
        func failure(_ kind: ImplementationFailure.Kind, _ what: String, _ printed: String) -> ImplementationFailure {
            ImplementationFailure(
                kind, implementation: name, goldenCase: goldenCase.name, "\(what) (\(goldenCase.op))", printed: printed)
        }
        let printed = Tail()
        let exchange = ask(child, question, printed)
        if case .answer(let bytes) = exchange, let answer = try? PluginAnswer(bytes) {
            switch answer {
            case .outputs(let outputs): return outputs
            case .unsupported: return nil
            case .failed(let why): throw failure(.reported, "failed: \(why)", printed.text)
            case .refused(let why):
                // It may have written anywhere.
                abandon()
                throw failure(.malformed, why, printed.text)
            }
        }
        abandon()
        let (kind, what) = try explain(exchange)
        throw failure(kind, what, printed.text)
    }

    /// Ends the process; the next case starts another.
    public func close() {
        child?.finish(seconds: 2)
        child = nil
    }

    // MARK: The process

    private func abandon() {
        child?.kill()
        child = nil
    }

    private func ask(_ child: ChildProcess, _ question: [UInt8], _ printed: Tail) -> ChildProcess.Exchange {
        number += 1
        return child.exchange(
            question, number: number, seconds: limits.seconds, limit: limits.output + (1 << 24),
            onOutput: { printed.append($0) },
            isInterrupted: { Interruption.isRequested })
    }

    private func running() throws -> ChildProcess {
        if let child { return child }
        try Interruption.check()
        var arguments = ["plugin-host", "--output-limit", "\(limits.output)"]
        if let memory = limits.memory { arguments += ["--memory-limit", "\(memory)"] }
        func failure(_ what: String, _ printed: String = "") -> PluginLibraryError {
            PluginLibraryError(path: path, what: what, printed: printed)
        }
        guard (try? Files.status(of: path).kind) != nil else { throw failure("is not there") }
        let child: ChildProcess
        do {
            // A crash is expected here and there; Swift's own handler would take seconds over each.
            child = try ChildProcess(
                executable: program, arguments: arguments + ["--", path],
                settings: environment.merging(["SWIFT_BACKTRACE": "enable=no"]) { given, _ in given })
        } catch {
            throw failure("could not be given a process: \(error)")
        }
        processCount += 1
        let printed = Tail()
        let exchange = ask(child, PluginQuestion.open(), printed)
        if case .answer(let bytes) = exchange, let opening = try? PluginOpening(bytes) {
            switch opening {
            case .opened(let name, _):
                title = name
                self.child = child
                return child
            case .refused(let why): throw failure(why, printed.text)
            }
        }
        child.kill()
        let (_, what) = try explain(exchange)
        throw failure("\(what) while it was loaded", printed.text)
    }

    /// What happened, for people. - Throws: `Interrupted`.
    private func explain(_ exchange: ChildProcess.Exchange) throws -> (ImplementationFailure.Kind, String) {
        switch exchange {
        case .answer, .garbage:
            return (
                .malformed, "wrote on or closed the socket between the two processes, so that no answer could be read"
            )
        case .ended(.signaled(let number)):
            let name = ProcessEnd.name(ofSignal: number).map { " (\($0))" } ?? ""
            return (.crash(signal: number), "was ended by signal \(number)\(name)")
        case .ended(.exited(let status)):
            return (.exit(status: status), "ended its process with exit status \(status) instead of answering")
        case .timeout:
            if Interruption.isRequested { throw Interrupted() }
            return (.hang, "had not answered after \(limits.seconds.short) s and was ended")
        }
    }
}

/// Why a library cannot be judged at all.
public struct PluginLibraryError: Error, Hashable, Sendable, CustomStringConvertible {
    public let path: String
    /// The end of a sentence whose subject is the library.
    public let what: String
    public let printed: String

    public var description: String {
        "the library '\(path)' \(what)" + (printed.isEmpty ? "" : "; it printed:\n" + printed)
    }
}

/// Runs an actor on a queue of its own, so that waiting for a process holds up nobody else.
private final class QueueExecutor: SerialExecutor {
    private let queue: DispatchQueue

    init(label: String) { queue = DispatchQueue(label: label) }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}
