import ExactMath
import Foundation
import ModelSpec
import Reference
import Testing

import TrainingData

/// A folder that is removed at the end of a test.
final class Scratch {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "/touchstone-data-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let file = "\(path)/\(name)"
        try FileManager.default.createDirectory(
            atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(fileURLWithPath: file))
        return file
    }

    @discardableResult
    func write(_ name: String, _ text: String) throws -> String { try write(name, Array(text.utf8)) }
}

@Suite("T7: training data")
struct CorpusTests {
    @Test(
        "a folder's texts in the order of their paths, each token once, none visible across documents",
        arguments: [1, 2, 7, 16, 1000])
    func packing(length: Int) throws {
        let scratch = try Scratch()
        try scratch.write("b.txt", "second")
        try scratch.write("a/deep.txt", "first é")
        try scratch.write("c.txt", String(repeating: "long ", count: 20))
        try scratch.write(".hidden", "never")
        try scratch.write("empty.txt", "")
        try scratch.write("binary.bin", [0x50, 0x00, 0x51])
        try scratch.write("latin1.txt", [0x66, 0xE9])
        let corpus = try TrainingCorpus(path: scratch.path, sequenceLength: length)
        #expect(corpus.report.files == 3 && corpus.report.documents == 3)
        #expect(
            corpus.report.skippedFiles.map { $0.description.dropFirst(scratch.path.count + 1) } == [
                ".hidden: hidden", "binary.bin: no text: holds a NUL byte", "empty.txt: empty",
                "latin1.txt: no text: not UTF-8",
            ])
        let text = "first é" + "second" + String(repeating: "long ", count: 20)
        // Held-out sequences are every twentieth: put them back in their places.
        var rest = try corpus.sequences.read(0..<corpus.sequences.count)[...]
        var held = try corpus.heldOut.read(0..<corpus.heldOut.count)[...]
        var ordered: [TrainingSequence] = []
        for index in 0..<corpus.report.sequences {
            ordered.append(!held.isEmpty && index % 20 == 0 ? held.removeFirst() : rest.removeFirst())
        }
        var bytes: [UInt8] = []
        for sequence in ordered {
            #expect(
                [sequence.targets, sequence.positions, sequence.start, sequence.limit].allSatisfy { $0.count == length }
            )
            let visibility = try Visibility(
                orientation: .byKey, batch: 1, queries: length, keys: length, start: sequence.start,
                limit: sequence.limit)
            for index in 0..<length where sequence.limit[index] > 0 {
                bytes.append(UInt8(sequence.tokens[index]))
                // A token is seen by itself, and a document is causal: positions rise by one inside it.
                #expect(visibility.isVisible(batch: 0, query: index, key: index))
                let first = index - Int(sequence.positions[index])
                for key in 0..<length {
                    let expected = sequence.limit[key] > 0 && key >= first && key <= index
                    #expect(visibility.isVisible(batch: 0, query: index, key: key) == expected)
                }
                let isLast = index + 1 == Int(sequence.limit[index])
                #expect(sequence.targets[index] == (isLast ? -1 : sequence.tokens[index + 1]))
            }
            for index in 0..<length where sequence.limit[index] == 0 {
                #expect(sequence.targets[index] == -1 && sequence.tokens[index] == 0 && sequence.start[index] == 0)
            }
        }
        #expect(String(decoding: bytes, as: UTF8.self) == text)
    }

    @Test("a tree of a chat and a tree of branches: targets, positions and masks by hand")
    func trees() throws {
        let scratch = try Scratch()
        let path = try scratch.write(
            "data.jsonl",
            #"{"text": "ab", "children": [{"text": "c", "children": [{"text": "de"}]}, {"text": "f"}]}"# + "\n\n"
                + #"{"messages": [{"role": "u", "content": "x"}, {"role": "a", "content": "y"}]}"# + "\n"
                + #"{"text": "z"}"#)
        let corpus = try TrainingCorpus(path: path, sequenceLength: 20)
        #expect(corpus.report.documents == 3 && corpus.heldOut.isEmpty)
        let sequence = try corpus.sequences.sequence(0)
        let text = "abcdefu: x\na: y\nz"
        #expect(sequence.tokens.prefix(17).map { UInt8($0) } == Array(text.utf8))
        #expect(Array(sequence.positions.prefix(7)) == [0, 1, 2, 3, 4, 2, 0])
        #expect(Array(sequence.start.prefix(7)) == [0, 1, 2, 3, 4, 5, 6])
        #expect(Array(sequence.limit.prefix(7)) == [6, 6, 5, 5, 5, 6, 16])
        func byte(_ character: Character) -> Int32 { Int32(character.asciiValue!) }
        #expect(Array(sequence.targets.prefix(6)) == [byte("b"), byte("c"), byte("d"), byte("e"), -1, -1])
        #expect(sequence.targets[10] == byte("a"), "the first message ends where the second begins")
        #expect(sequence.targets[15] == -1 && sequence.targets[16] == -1)
    }

    static let refused: [(line: String, message: String)] = [
        ("{", "not JSON"), ("3", "expected an object"), ("{}", "\"text\""), (#"{"text": ""}"#, "empty"),
        (#"{"text": 3}"#, "\"text\""), (#"{"text": "a", "children": {}}"#, "not an array"),
        (#"{"text": "a", "children": [{"text": ""}]}"#, "node 1 has an empty"),
        (#"{"text": "a", "chidren": []}"#, "unknown key \"chidren\""), (#"{"messages": []}"#, "at least one"),
        (#"{"messages": [{"role": "u"}]}"#, "message 0"),
        (#"{"text": "a", "children": [{"text": "0123456789"}]}"#, "a tree of 11 tokens"),
    ]

    @Test("a line that is no document is an error that names the file and the line", arguments: refused)
    func refusals(line: String, message: String) throws {
        let scratch = try Scratch()
        let path = try scratch.write("bad.jsonl", "{\"text\": \"fine\"}\n\(line)\n")
        let error = #expect(throws: CorpusError.self) { try TrainingCorpus(path: path, sequenceLength: 8) }
        #expect(
            error?.line == 2 && error?.path == path && error?.message.contains(message) == true,
            "\(String(describing: error))")
    }

    @Test("nothing to read is an error")
    func nothing() throws {
        let scratch = try Scratch()
        #expect(throws: CorpusError.self) { try TrainingCorpus(path: scratch.path + "/none", sequenceLength: 8) }
        #expect(throws: CorpusError.self) { try TrainingCorpus(path: scratch.path, sequenceLength: 8) }
        let empty = try scratch.write("empty.txt", "")
        #expect(throws: CorpusError.self) { try TrainingCorpus(path: empty, sequenceLength: 8) }
        let blank = try scratch.write("blank.jsonl", "\n \n")
        #expect(throws: CorpusError.self) { try TrainingCorpus(path: blank, sequenceLength: 8) }
        let binary = try scratch.write("binary.bin", [0, 1, 2])
        #expect(throws: CorpusError.self) { try TrainingCorpus(path: binary, sequenceLength: 8) }
    }

    @Test("random bytes in a JSON Lines file end in an error or a corpus, never in a trap")
    func fuzz() throws {
        let scratch = try Scratch()
        let stream = RandomStream(seed: 7, stream: 77, step: 0)
        let pieces = [
            "{", "}", "[", "]", "\"text\"", ":", "\"a\"", ",", "\"children\"", "\n", "\"messages\"", "\u{0}", "\\u12",
            "1e9",
        ]
        var draw: UInt64 = 0
        for round in 0..<300 {
            var text = ""
            for _ in 0..<(round % 40 + 1) {
                text += pieces[Int(stream.word(draw)) % pieces.count]
                draw += 1
            }
            let path = try scratch.write("fuzz.jsonl", text)
            do { _ = try TrainingCorpus(path: path, sequenceLength: 8) } catch {
                #expect((error as? CorpusError)?.path == path)
            }
        }
    }

    @Test("an epoch is a permutation that its number and the seed decide; steps walk through epochs without a gap")
    func order() throws {
        let scratch = try Scratch()
        try scratch.write("text.txt", (0..<200).map { "\($0) " }.joined())
        let corpus = try TrainingCorpus(path: scratch.path, sequenceLength: 16)
        var c = ModelConfiguration()
        (c.batch, c.sequenceLength) = (3, 16)
        let count = corpus.sequences.count
        func epoch(_ number: Int, seed: UInt64) throws -> [TrainingSequence] {
            c.seed = seed
            var list: [TrainingSequence] = []
            for step in 1...((number + 1) * count + 2) / 3 + 1 {
                list += try corpus.batch(step: step, configuration: c)
            }
            return Array(list[number * count..<(number + 1) * count])
        }
        let all = Set(try corpus.sequences.read(0..<count))
        for number in 0..<3 { #expect(Set(try epoch(number, seed: 5)) == all) }
        #expect(try epoch(0, seed: 5) != epoch(1, seed: 5))
        #expect(try epoch(0, seed: 5) != epoch(0, seed: 6))
        #expect(try epoch(1, seed: 5) == epoch(1, seed: 5))
        // All 24 orders of four occur about equally often.
        var counts: [[UInt32]: Int] = [:]
        for step in 0..<2400 {
            counts[
                DataOrder.permutation(of: 4, stream: RandomStream(seed: 1, stream: 1, step: UInt32(step))),
                default: 0] += 1
        }
        #expect(counts.count == 24 && counts.values.allSatisfy { (60...145).contains($0) }, "\(counts.values.sorted())")
    }

    @Test(
        "steps take the endless concatenation of epochs, in whatever order they are asked for, batches across epochs too"
    )
    func batchesAcrossEpochs() {
        let order = DataOrder(count: 7)
        var entries: [Int] = []
        for epoch in 0..<9 {
            entries += DataOrder.permutation(
                of: 7, stream: RandomStream(seed: 5, stream: RandomStreams.dataOrder, step: UInt32(epoch))
            ).map { Int($0) }
        }
        for batch in [1, 3, 7, 16] {
            for step in [1, 2, 3, 1] where step * batch <= entries.count {
                let expected = Array(entries[(step - 1) * batch..<step * batch])
                #expect(order.sequences(step: step, batch: batch, seed: 5) == expected)
            }
        }
        #expect(order.sequences(step: 1, batch: 7, seed: 6) != Array(entries[..<7]))
    }
}
