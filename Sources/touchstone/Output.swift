import ArgumentParser
import Checker
import Platform

/// Prints to standard output as `Swift.print` does, but with what a terminal would obey escaped: names and texts may come from anywhere. Reports with
/// colours of their own have seen to that themselves (``write(_:to:quiet:)``).
func print(_ items: Any..., separator: String = " ", terminator: String = "\n") {
    let text = items.map { "\($0)" }.joined(separator: separator)
    Swift.print(PlainText.shown(text), terminator: terminator)
}

/// Ends a command with the exit status of what it found; nothing else turns a verdict into a status.
func end(_ judgement: Judgement) throws { if judgement != .conforms { throw judgement.exit } }

extension Judgement {
    /// The exit status as the parser takes it.
    var exit: ExitCode { ExitCode(exitStatus) }
}
