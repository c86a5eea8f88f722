import ArgumentParser
import Foundation
import TrainingData

struct DataCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data",
        abstract: "Show how texts become sequences of tokens.",
        discussion: """
            PATH is a text file, a folder of texts, or a .jsonl file with one document a line: {"text": "..."}, a chat {"messages": \
            [{"role": "...", "content": "..."}]}, or a tree {"text": "...", "children": [...]}. Prints what was found and, with --show, the \
            first sequences: each token's text, position, target and the positions that see it.
            """)

    @Argument(help: "A text file, a folder, or a .jsonl file.")
    var path: String

    @Option(name: .long, help: "T, tokens of a sequence.", reading: Number.whole(1...1 << 20))
    var sequenceLength = 64

    @Flag(name: .long, help: "List everything that was skipped, and why; the first few otherwise.")
    var skipped = false

    @Option(name: .long, help: "How many sequences to show.", reading: Number.whole(0...1 << 30))
    var show = 0

    func run() throws {
        let corpus = try TrainingCorpus(reading: path, sequenceLength: sequenceLength)
        print(corpus.report)
        for line in skipped ? corpus.report.skippedFiles.map(\.description) : corpus.report.skippedLines {
            print("skipped      \(line)")
        }
        var number = 0
        try corpus.sequences.forEach(in: 0..<min(show, corpus.sequences.count)) { sequence in
            defer { number += 1 }
            print("\nsequence \(number)\n  index  token  text  position  target  seen by")
            for index in sequence.tokens.indices {
                let columns = [
                    "\(index)", "\(sequence.tokens[index])", text(sequence.tokens[index]),
                    "\(sequence.positions[index])",
                    sequence.targets[index] < 0 ? "-" : text(sequence.targets[index]),
                    sequence.limit[index] == 0
                        ? "  nobody" : "  [\(sequence.start[index]), \(sequence.limit[index]))",
                ]
                let widths = [7, 7, 6, 10, 8, 0]
                print(zip(columns, widths).map { String(repeating: " ", count: max(0, $1 - $0.count)) + $0 }.joined())
            }
        }
    }

    private func text(_ token: Int32) -> String {
        switch token {
        case 0x0A: "\\n"
        case 0x09: "\\t"
        case 0x20...0x7E: String(Unicode.Scalar(UInt8(token)))
        default: "x\(String(token, radix: 16))"
        }
    }
}

/// The texts to train on where none are named: this package's own sources and documents.
enum DefaultCorpus {
    /// The `Sources` folder in the current folder, or in the package that the program was built in.
    static func path() throws -> String {
        let binary = Bundle.main.executablePath.map { URL(fileURLWithPath: $0) }
        var candidates = ["Sources"]
        var folder = binary?.deletingLastPathComponent()
        for _ in 0..<4 {
            folder = folder?.deletingLastPathComponent()
            if let folder { candidates.append(folder.appendingPathComponent("Sources").path) }
        }
        for candidate in candidates
        where FileManager.default.fileExists(atPath: candidate + "/ModelSpec/ModelSpec.docc/Specification.md") {
            return candidate
        }
        throw CommandError("no --data given, and the package's own Sources are not here; name a text with --data")
    }
}
