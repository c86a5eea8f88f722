import Cases
import GoldenIO

/// A name, or several: `*` stands for any run of characters, `?` for one. Cases, operations and outputs are all named by it.
public struct NamePattern: Sendable, Hashable, CustomStringConvertible, ExpressibleByStringLiteral {
    public let text: String

    /// - Returns: nil for an empty text.
    public init?(_ text: String) {
        guard !text.isEmpty else { return nil }
        self.text = text
    }

    public init(stringLiteral text: String) { self.text = text }

    public var description: String { text }

    /// Whether the pattern names `name`. A name that holds a star itself is named by its own text too.
    public func matches(_ name: String) -> Bool {
        if name == text { return true }
        let (pattern, name) = (Array(text.unicodeScalars), Array(name.unicodeScalars))
        var (p, n) = (0, 0)
        // Where the last star stands, and up to where it reaches so far.
        var star: (place: Int, end: Int)?
        while n < name.count {
            if p < pattern.count, pattern[p] == "*" {
                star = (p, n)
                p += 1
            } else if p < pattern.count, pattern[p] == "?" || pattern[p] == name[n] {
                p += 1
                n += 1
            } else if let last = star {
                star = (last.place, last.end + 1)
                (p, n) = (last.place + 1, last.end + 1)
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == "*" }
    }
}

/// Which cases of golden files are asked: those that patterns name, less those that others exclude.
public struct CaseSelection: Sendable, Hashable {
    /// Names of cases; all if empty.
    public var cases: [NamePattern]
    /// Names of cases or of operations.
    public var excluded: [NamePattern]

    public init(cases: [NamePattern] = [], excluded: [NamePattern] = []) {
        self.cases = cases
        self.excluded = excluded
    }

    /// The cases of a file that are selected, in its order.
    public func names(in file: GoldenFile) throws(GoldenIOError) -> [String] {
        let named = file.caseNames.filter { name in cases.isEmpty || cases.contains { $0.matches(name) } }
        guard !excluded.isEmpty else { return named }
        var kept: [String] = []
        for name in named {
            let op = try file.readCase(name, groups: []).op
            if !excluded.contains(where: { $0.matches(name) || $0.matches(op) }) { kept.append(name) }
        }
        return kept
    }

    /// Sees that every pattern names something, and that something is left.
    ///
    /// - Returns: how many cases of the files are not selected because a pattern excludes them.
    /// - Throws: ``JudgingError/nothingToJudge(_:)``, naming the pattern; `GoldenIOError`.
    @discardableResult
    public func require(in files: [GoldenFile]) throws -> Int {
        guard !cases.isEmpty || !excluded.isEmpty else { return 0 }
        let names = files.flatMap(\.caseNames)
        for pattern in cases where !names.contains(where: pattern.matches) {
            throw JudgingError.nothingToJudge("no case is named '\(pattern)'")
        }
        if excluded.isEmpty { return 0 }
        var operations: Set<String> = []
        for file in files {
            for name in file.caseNames { operations.insert(try file.readCase(name, groups: []).op) }
        }
        for pattern in excluded
        where !names.contains(where: pattern.matches) && !operations.contains(where: pattern.matches) {
            throw JudgingError.nothingToJudge("no case and no operation is named '\(pattern)'; it cannot be excluded")
        }
        let all = try files.reduce(0) { try $0 + CaseSelection(cases: cases).names(in: $1).count }
        let left = try files.reduce(0) { try $0 + self.names(in: $1).count }
        if left == 0 && all > 0 { throw JudgingError.nothingToJudge("every case is excluded") }
        return all - left
    }
}
