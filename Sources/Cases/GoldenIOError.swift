/// Why a golden file or a manifest could not be read or written: what failed, where, and what was expected.
public struct GoldenIOError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Kind: String, Hashable, Sendable, CaseIterable {
        /// The system refused: no such file, no permission, no space left.
        case fileSystem
        /// The file is not HDF5.
        case notHDF5
        /// HDF5 could not read what the file says it holds: truncated, or its bytes are wrong.
        case damaged
        /// Of a format that is newer than the HDF5 library, or damaged where it says which.
        case newer
        /// A case, group, dataset or attribute that must be there is not.
        case missing
        /// An attribute or dataset of the wrong type or shape.
        case wrongType
        /// Something that HDF5 can hold and a golden file must not: a soft or external link, external or virtual
        /// storage, a filter other than deflate, shuffle and Fletcher-32.
        case refused
        /// More bytes than the limit, the file, or HDF5 can hold.
        case tooLarge
        /// The name of a case or dataset that HDF5 or a golden file cannot hold.
        case invalidName
        /// An attribute, recipe or manifest whose text does not say what it must.
        case malformed
        /// A case or dataset that stands twice.
        case duplicate
        /// HDF5 could not write.
        case writeFailed
        /// The writer has finished or has failed before.
        case closed
    }

    public let kind: Kind
    /// The path of the file.
    public let file: String
    /// The name of the case, if it is about one.
    public let caseName: String?
    /// The dataset inside the case (`inputs/a`), if it is about one.
    public let dataset: String?
    /// What was found and what was expected.
    public let message: String
    /// HDF5's error stack, outermost call first; empty if HDF5 reported nothing.
    public let stack: [String]

    public init(
        _ kind: Kind, file: String, caseName: String? = nil, dataset: String? = nil, _ message: String,
        stack: [String] = []
    ) {
        self.kind = kind
        self.file = file
        self.caseName = caseName
        self.dataset = dataset
        self.message = message
        self.stack = stack
    }

    /// One line, and a line for each entry of HDF5's error stack.
    public var description: String {
        var line = file
        if let caseName { line += ": case \(caseName)" }
        if let dataset { line += ": \(dataset)" }
        line += ": \(message)"
        return stack.reduce(line) { $0 + "\n  HDF5: \($1)" }
    }
}
