import Cases

/// Why a case could not be evaluated: its recipe, its inputs, or a value in them.
public struct OperationError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Kind: String, Sendable {
        /// No operation of that name.
        case unknownOperation
        /// A key that the operation does not have, lacks, or holds something it cannot be.
        case recipe
        /// A dataset that is absent, of the wrong type or shape, or not the operation's.
        case input
        /// A value that the operation refuses: NaN in a gradient, say.
        case value
    }

    public let kind: Kind
    public let message: String
    public var caseName: String?

    public init(_ kind: Kind, _ message: String, caseName: String? = nil) {
        self.kind = kind
        self.message = message
        self.caseName = caseName
    }

    public var description: String {
        if let caseName { "case '\(caseName)': \(message)" } else { message }
    }
}
