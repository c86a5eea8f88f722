import ArgumentParser
import Foundation
import Platform

/// Of a report that people or programs read.
enum PlainFormat: String, ExpressibleByArgument, CaseIterable { case text, json }

/// Of one that is a page too.
enum PageFormat: String, ExpressibleByArgument, CaseIterable { case text, json, html }

/// Of verdicts, which build servers read too.
enum ReportFormat: String, ExpressibleByArgument, CaseIterable { case text, json, junit, html }

/// Whether what goes to standard output may have colour: on a terminal, unless NO_COLOR forbids it.
func allowsColour(output: String?) -> Bool {
    output == nil && Terminal.standardOutputIsTerminal && ProcessInfo.processInfo.environment["NO_COLOR"] == nil
}

/// Writes a report to a file, or to standard output unless that is to be quiet.
func write(_ text: String, to output: String?, quiet: Bool) throws {
    if let output {
        try Files.replace(output, with: Array(text.utf8))
    } else if !quiet {
        // Printable already, but for colours of its own.
        Swift.print(text, terminator: "")
    }
}
