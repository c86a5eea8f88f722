import ExactMath
import Foundation
import JSON
import ModelSpec
import Reference
import Testing

import TrainingData

/// T7 with everything in memory, written once more: documents are cut, packed and masked as the clause says.
private struct PackedTexts {
    private let length: Int
    private(set) var sequences: [TrainingSequence] = []
    private var current = TrainingSequence()

    init(length: Int) { self.length = length }

    /// A node is its parent's index, -1 for none, and its bytes.
    mutating func add(_ nodes: [(parent: Int32, bytes: [UInt8])]) throws {
        let count = nodes.reduce(0) { $0 + $1.bytes.count }
        guard count <= length else {
            try #require(nodes.count == 1)
            for first in stride(from: 0, to: count, by: length) {
                try add([(-1, Array(nodes[0].bytes[first..<min(first + length, count)]))])
            }
            return
        }
        if current.tokens.count + count > length { close() }
        let first = Int32(current.tokens.count)
        let tree = try Visibility.tree(parents: nodes.map(\.parent), lengths: nodes.map { Int32($0.bytes.count) })
        current.start += tree.start.map { $0 + first }
        current.limit += tree.limit.map { $0 + first }
        current.positions += tree.positions
        for (index, node) in nodes.enumerated() {
            current.tokens += node.bytes.map { Int32($0) }
            current.targets += node.bytes.dropFirst().map { Int32($0) }
            let isParent = index + 1 < nodes.count && nodes[index + 1].parent == Int32(index)
            current.targets.append(isParent ? Int32(nodes[index + 1].bytes[0]) : -1)
        }
        if current.tokens.count == length { close() }
    }

    mutating func close() {
        guard !current.tokens.isEmpty else { return }
        let rest = length - current.tokens.count
        current.tokens += [Int32](repeating: 0, count: rest)
        current.targets += [Int32](repeating: -1, count: rest)
        current.positions += [Int32](repeating: 0, count: rest)
        current.start += [Int32](repeating: 0, count: rest)
        current.limit += [Int32](repeating: 0, count: rest)
        sequences.append(current)
        current = TrainingSequence()
    }
}

/// SplitMix64's numbers.
private struct Dice {
    var state: UInt64

    mutating func below(_ limit: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((z ^ (z >> 31)) % UInt64(limit))
    }

    /// Characters of one to four bytes, and those that JSON escapes.
    mutating func text(_ characters: Int) -> String {
        let letters: [Character] = ["a", "b", " ", "é", "\u{20AC}", "\u{1F642}", "\"", "\\", "\n", "\t", "\u{1}", "/"]
        return String((0..<characters).map { _ in letters[below(letters.count)] })
    }

    /// The text as a string of JSON, each character as it is or, where it may be, in one of its escaped forms.
    mutating func json(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            let units = String(scalar).utf16.map {
                "\\u" + String(repeating: "0", count: 4 - String($0, radix: 16).count) + String($0, radix: 16)
            }
            if scalar.value < 0x20 || below(4) == 0 {
                result += units.joined()
            } else if scalar == "\"" || scalar == "\\" {
                result += "\\" + String(scalar)
            } else {
                result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

@Suite("T7: texts that stay on disk")
struct StreamedCorpusTests {
    /// A folder of plain texts and JSON Lines of all kinds, and what T7 makes of it.
    private func corpus(_ scratch: Scratch, length: Int, seed: UInt64) throws -> [TrainingSequence] {
        var dice = Dice(state: seed)
        var packed = PackedTexts(length: length)
        for file in 0..<30 {
            let name = "\(100 + file)"
            if file % 3 > 0 {
                // Sizes about the block that is read at once are among them.
                let text =
                    file == 4
                    ? String(repeating: "0123456789abcde\u{e9}", count: length < 64 ? 3000 : 70_000)
                    : dice.text(1 + dice.below(file % 3 == 1 ? 3 * length : 12))
                try scratch.write("\(name).txt", text)
                try packed.add([(-1, Array(text.utf8))])
                continue
            }
            var lines = ""
            for _ in 0..<dice.below(60) + 1 {
                switch dice.below(8) {
                case 0:
                    lines += [" \t", "", "\u{A0}\u{3000}", "\r"][dice.below(4)]
                case 1:
                    let (role, content) = (dice.text(2), dice.text(dice.below(3 * length)))
                    lines += "{\"messages\": [{\"role\": \(dice.json(role)), \"content\": \(dice.json(content))}]}"
                    try packed.add([(-1, Array("\(role): \(content)\n".utf8))])
                case 2 where length >= 40:
                    let parts = (0..<4).map { _ in dice.text(1 + dice.below(2)) }
                    let texts = parts.map { dice.json($0) }
                    lines += "{\"children\": [{\"text\": \(texts[1]), \"children\": [{\"text\": \(texts[2])}]}, "
                    lines += "{\"text\": \(texts[3])}], \"text\": \(texts[0])}"
                    try packed.add(zip([-1, 0, 1, 0], parts).map { (Int32($0), Array($1.utf8)) })
                case 3 where file % 2 == 0:
                    // A line that is longer than what is read for a piece of it.
                    let text = dice.text(3000 + dice.below(5000))
                    let json = dice.json(text)
                    lines +=
                        dice.below(2) == 0
                        ? "{ \"children\" : [ ],\t\"t\\u0065xt\" : \(json) } " : "{\"text\": \(json), \"children\": []}"
                    try packed.add([(-1, Array(text.utf8))])
                default:
                    let text = dice.text(1 + dice.below(2 * length))
                    lines += "{\"text\": \(dice.json(text))}"
                    try packed.add([(-1, Array(text.utf8))])
                }
                lines += "\n"
            }
            if dice.below(2) == 0 { lines.removeLast() }
            try scratch.write("\(name).jsonl", lines)
        }
        packed.close()
        return packed.sequences
    }

    @Test(
        "every sequence is that of T7 in memory: read alone, in ranges, all of them; from disk and from memory",
        arguments: [1, 2, 5, 16, 64, 300, 5000], [0, 1 << 30])
    func sequences(length: Int, mostHeld: Int) throws {
        let scratch = try Scratch()
        let expected = try corpus(scratch, length: length, seed: UInt64(length))
        let corpus = try TrainingCorpus(path: scratch.path, sequenceLength: length, mostHeld: mostHeld)
        #expect(corpus.report.sequences == expected.count && corpus.report.files == 30)
        let held = expected.indices.filter { $0 % 20 == 0 }.map { expected[$0] }
        let training = expected.indices.filter { $0 % 20 != 0 }.map { expected[$0] }
        #expect(corpus.sequences.count == training.count && corpus.heldOut.count == held.count)
        #expect(try corpus.sequences.read(0..<training.count) == training)
        #expect(try corpus.heldOut.read(0..<held.count) == held)
        var dice = Dice(state: 3)
        for _ in 0..<100 {
            let entry = dice.below(training.count)
            #expect(try corpus.sequences.sequence(entry) == training[entry], "sequence \(entry)")
            let end = min(training.count, entry + dice.below(30))
            #expect(try corpus.sequences.read(entry..<end) == Array(training[entry..<end]), "\(entry) ..< \(end)")
            let other = dice.below(held.count)
            #expect(try corpus.heldOut.sequence(other) == held[other], "held out \(other)")
        }
        // The numbers whose digest names the data.
        var numbers: [Int32] = []
        for list in [training, held] {
            numbers.append(Int32(list.count))
            for one in list { numbers += one.tokens + one.targets + one.positions + one.start + one.limit }
        }
        var found: [Int32] = []
        try corpus.forEachNumber { found += $0 }
        #expect(found == numbers && corpus.numberCount == numbers.count)
        #expect(try corpus.hasTarget() == training.contains { $0.targets.contains { $0 >= 0 } })
    }

    @Test("a text that changes while it is in use is an error that names it; one that is small is in memory")
    func changes() throws {
        let scratch = try Scratch()
        let path = try scratch.write("text.txt", String(repeating: "to be or not to be, ", count: 500))
        let onDisk = try TrainingCorpus(path: path, sequenceLength: 16, mostHeld: 0)
        let inMemory = try TrainingCorpus(path: path, sequenceLength: 16)
        let before = try onDisk.sequences.sequence(7)
        for text in [String(repeating: "that is the question", count: 500), "short"] {
            try scratch.write("text.txt", text)
            #expect(try inMemory.sequences.sequence(7) == before)
            let error = #expect(throws: CorpusError.self) { try onDisk.sequences.sequence(7) }
            #expect(error?.path == path && error?.message.contains("has changed") == true)
            #expect(throws: CorpusError.self) { try onDisk.forEachNumber { _ in } }
        }
        try FileManager.default.removeItem(atPath: path)
        #expect(throws: CorpusError.self) { try onDisk.sequences.sequence(7) }
    }

    @Test("JSON Lines that keep size and time but have other documents are an error, not other sequences")
    func exchanged() throws {
        let scratch = try Scratch()
        func lines(_ text: String) -> String { String(repeating: "{\"text\": \"\(text)\"}\n", count: 400) }
        let path = try scratch.write("a.jsonl", lines("abcdefgh"))
        let manager = FileManager.default
        let time = try #require(try manager.attributesOfItem(atPath: path)[.modificationDate] as? Date)
        try manager.setAttributes([.modificationDate: time], ofItemAtPath: path)
        let corpus = try TrainingCorpus(path: path, sequenceLength: 8, mostHeld: 0)
        for other in [lines("\\u0061\\u0062").prefix(lines("abcdefgh").utf8.count), lines("abcdef\\n").prefix(8000)] {
            let text = String(other) + String(repeating: " ", count: lines("abcdefgh").utf8.count - other.utf8.count)
            try scratch.write("a.jsonl", text)
            try manager.setAttributes([.modificationDate: time], ofItemAtPath: path)
            let error = #expect(throws: CorpusError.self) { try corpus.sequences.read(0..<corpus.sequences.count) }
            #expect(error?.path == path)
        }
    }

    @Test("UTF-8 is checked across the blocks that are read", arguments: [-3, -2, -1, 0, 1])
    func blocks(shift: Int) throws {
        let scratch = try Scratch()
        let front = [UInt8](repeating: 0x61, count: 1 << 20 + shift)
        func skipped(_ bytes: [UInt8]) throws -> [SkippedFile.Reason] {
            try scratch.write("good.txt", "good")
            try scratch.write("text.txt", front + bytes)
            return try TrainingCorpus(path: scratch.path, sequenceLength: 64).report.skippedFiles.map(\.reason)
        }
        for text in ["\u{e9}", "\u{20AC}", "\u{1F642}"] {
            let bytes = Array(text.utf8)
            #expect(try skipped(bytes + [0x62]) == [])
            #expect(try skipped(bytes) == [])
            #expect(try skipped(Array(bytes.dropLast())) == [.notUTF8])
            #expect(try skipped(Array(bytes.dropLast()) + [0x62]) == [.notUTF8])
            #expect(try skipped(Array(bytes.dropFirst())) == [.notUTF8])
            #expect(try skipped(bytes + [0]) == [.nul])
        }
    }

    @Test("a pipe is read once, to the end")
    func pipe() throws {
        let scratch = try Scratch()
        let text = String(repeating: "through a pipe ", count: 20_000)
        let file = try scratch.write("text.txt", text)
        let pipe = scratch.path + "/pipe"
        try #require(mkfifo(pipe, 0o600) == 0)
        for mostHeld in [0, 1 << 30] {
            let writer = Thread { try? FileHandle(forWritingAtPath: pipe)?.write(contentsOf: Data(text.utf8)) }
            writer.start()
            let corpus = try TrainingCorpus(path: pipe, sequenceLength: 50, mostHeld: mostHeld)
            let same = try TrainingCorpus(path: file, sequenceLength: 50)
            #expect(corpus.report == same.report)
            let range = 0..<corpus.sequences.count
            #expect(try corpus.sequences.read(range) == same.sequences.read(range))
        }
    }

    @Test("a line of more than 64 MiB is refused by its number; a plain text of one line is not")
    func longLine() throws {
        let scratch = try Scratch()
        let text = String(repeating: "x", count: 64 << 20)
        let lines = try scratch.write("long.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\(text)\"}\n")
        let error = #expect(throws: CorpusError.self) { _ = try TrainingCorpus(path: lines, sequenceLength: 8) }
        #expect(error?.line == 2 && error?.message.contains("67108864 bytes") == true, "\(String(describing: error))")
        let plain = try scratch.write("long.txt", text)
        #expect(try TrainingCorpus(path: plain, sequenceLength: 1024).report.tokens == 64 << 20)
    }

    @Test("progress is told, and ends the reading")
    func progress() throws {
        struct Enough: Error {}
        let scratch = try Scratch()
        let line = "{\"text\": \"a line of some length\"}\n"
        let path = try scratch.write("a.jsonl", String(repeating: line, count: 100_000))
        var calls: [(Int, Int)] = []
        _ = try TrainingCorpus(path: path, sequenceLength: 64) { if $1 > 0 { calls.append(($0, $1)) } }
        #expect(calls.count > 4)
        #expect(calls.allSatisfy { $0.1 == 2 * 100_000 * line.utf8.count && $0.0 <= $0.1 })
        #expect(zip(calls, calls.dropFirst()).allSatisfy { $0.0 <= $1.0 })
        #expect(throws: Enough.self) {
            try TrainingCorpus(path: path, sequenceLength: 64) { _, _ in throw Enough() }
        }
    }

    @Test("a window of an epoch's order has the entries of the whole", arguments: [1, 2, 3, 7, 64, 1000])
    func windows(window: Int) {
        for count in [1, 2, 3, 10, 100, 1000, 1003] where window <= count {
            for seed in [1, 2] as [UInt64] {
                let (whole, parts) = (DataOrder(count: count, window: count), DataOrder(count: count, window: window))
                for step in 1...3 {
                    #expect(
                        whole.sequences(step: step, batch: count, seed: seed)
                            == parts.sequences(step: step, batch: count, seed: seed),
                        "\(count) sequences, epoch \(step - 1)")
                }
            }
        }
    }
}
