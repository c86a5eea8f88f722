/// A file or folder that was left out of the data, and why.
public struct SkippedFile: Sendable, Hashable, CustomStringConvertible {
    public enum Reason: String, Sendable, Hashable {
        case empty = "empty"
        case nul = "no text: holds a NUL byte"
        case notUTF8 = "no text: not UTF-8"
        case hidden = "hidden"
        case link = "a symbolic link"
        case special = "neither a file nor a folder"
    }

    public let path: String
    public let reason: Reason

    public init(path: String, reason: Reason) { (self.path, self.reason) = (path, reason) }

    public var description: String { "\(path): \(reason.rawValue)" }
}

extension TrainingCorpus.Report {
    public var skipped: Int { skippedFiles.count }

    /// One line a file that was skipped, the first few; then how many more there are and what lists them all.
    public var skippedLines: [String] {
        let most = 3
        var lines = skippedFiles.prefix(most).map(\.description)
        if skipped > most { lines.append("and \(skipped - most) more: `touchstone data --skipped` lists all") }
        return lines
    }
}
