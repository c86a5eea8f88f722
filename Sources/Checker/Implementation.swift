import Cases
import Platform

/// Something that answers cases: the engine, a process, a shared library.
public protocol Implementation: Sendable {
    /// What reports call it: a path, a command, a set of kernels.
    var name: String { get }

    /// The outputs of one case, computed from its operation, recipe and inputs alone; nil if the implementation does not have the case's operation.
    ///
    /// - Throws: ``ImplementationFailure`` (crash, hang, malformed answer), which is a verdict on the case; any other error means that nothing
    ///   could be asked.
    func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup?

    /// The outputs of several cases, of names of their own; one after another unless an implementation is quicker with all at once.
    func outputs(forAll goldenCases: [GoldenCase]) async throws -> [TensorGroup?]
}

extension Implementation {
    public func outputs(forAll goldenCases: [GoldenCase]) async throws -> [TensorGroup?] {
        var all: [TensorGroup?] = []
        for one in goldenCases {
            try Interruption.check()
            all.append(try await outputs(for: one))
        }
        return all
    }
}

/// What an implementation did instead of answering a case.
public struct ImplementationFailure: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Kind: Hashable, Sendable {
        /// Ended by a signal.
        case crash(signal: Int32)
        /// Ended itself before it had answered.
        case exit(status: Int32)
        /// Had not answered in time and was ended.
        case hang
        /// Said itself that it failed.
        case reported
        /// Answered something that is no answer: a wrong type or shape, a broken file or message.
        case malformed
    }

    public let kind: Kind
    /// The implementation's name.
    public let implementation: String
    /// The case.
    public let goldenCase: String
    /// What it did, as the end of a sentence whose subject is the implementation: "was ended by signal 11 (SIGSEGV)".
    public let what: String
    /// The end of what it printed; may be empty.
    public let printed: String

    public init(_ kind: Kind, implementation: String, goldenCase: String, _ what: String, printed: String = "") {
        self.kind = kind
        self.implementation = implementation
        self.goldenCase = goldenCase
        self.what = what
        self.printed = printed
    }

    public var description: String {
        let sentence = "case '\(goldenCase)': '\(implementation)' \(what)"
        return printed.isEmpty ? sentence : sentence + "; it printed:\n" + printed
    }
}
