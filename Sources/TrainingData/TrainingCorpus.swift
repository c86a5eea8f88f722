import ExactMath
import ModelSpec
import Platform
import Reference

/// One sequence of T tokens with everything a model needs of it (T7); arrays [T].
public struct TrainingSequence: Sendable, Hashable {
    /// Bytes of UTF-8, 0 in the unused tail.
    public var tokens: [Int32] = []
    /// The next token of the document; -1 for none.
    public var targets: [Int32] = []
    /// From the document's start, or the tree's root.
    public var positions: [Int32] = []
    /// By key, half-open (V1); [0, 0) in the unused tail.
    public var start: [Int32] = []
    /// By key, half-open (V1).
    public var limit: [Int32] = []

    public init() {}
}

/// Text as sequences of byte-level tokens, and their order (T7).
public struct TrainingCorpus: Sendable {
    /// What is trained on.
    public let sequences: [TrainingSequence]
    /// Every twentieth sequence, from the first on, if there are at least two.
    public let heldOut: [TrainingSequence]
    public let report: Report
    private let order: DataOrder

    /// What was found and how full the sequences are.
    public struct Report: Sendable, Hashable, CustomStringConvertible {
        public var files = 0
        public var documents = 0
        public var tokens = 0
        public var sequences = 0
        public var heldOut = 0
        /// What was left out, in the order of the paths' bytes.
        public var skippedFiles: [SkippedFile] = []
        public var capacity = 0

        public var description: String {
            let fill = capacity == 0 ? 0 : Int((Double(tokens) / Double(capacity) * 100).rounded())
            let left = skipped > 0 ? ", \(skipped) skipped" : ""
            return
                "\(counted(files, "file")), \(counted(documents, "document")), \(counted(tokens, "token")) in \(counted(sequences, "sequence")), \(fill) % full, \(heldOut) held out\(left)"
        }
    }

    /// Reads a text file, a folder of them, or a `.jsonl` file, and packs it.
    ///
    /// A file is one document, a line of JSON Lines one tree. A flat document longer than T is cut into pieces of T, each a document of its own; a longer tree is an error. Documents go
    /// into the current sequence in order while they fit, else a new one begins.
    /// - Throws: ``CorpusError``, naming the file and the line.
    public init(path: String, sequenceLength: Int) throws(CorpusError) {
        var report = Report()
        let found = try TextFiles.read(path)
        report.files = found.texts.count
        report.skippedFiles = found.skipped
        var packer = Packer(length: sequenceLength)
        for text in found.texts {
            if text.path.hasSuffix(".jsonl") {
                var number = 0
                for line in text.bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
                    number += 1
                    let string = String(decoding: line, as: UTF8.self)
                    guard !string.allSatisfy(\.isWhitespace) else { continue }
                    let document = try Document(line: string, path: text.path, number: number)
                    guard document.isFlat || document.count <= sequenceLength else {
                        throw CorpusError(
                            path: text.path, line: number,
                            "a tree of \(document.count) tokens, expected at most the sequence length, \(sequenceLength)"
                        )
                    }
                    report.documents += 1
                    report.tokens += document.count
                    packer.add(document)
                }
            } else {
                report.documents += 1
                report.tokens += text.bytes.count
                packer.add(Document(text.bytes))
            }
        }
        let all = packer.finish()
        guard !all.isEmpty else { throw CorpusError(path: path, line: nil, "no document in it") }
        report.sequences = all.count
        report.capacity = all.count * sequenceLength
        heldOut = all.count < 2 ? [] : all.indices.filter { $0 % 20 == 0 }.map { all[$0] }
        sequences = all.count < 2 ? all : all.indices.filter { $0 % 20 != 0 }.map { all[$0] }
        order = DataOrder(count: sequences.count)
        report.heldOut = heldOut.count
        self.report = report
    }

    /// Every number that training depends on, in order: what a digest of the data is made of.
    public var contents: [Int32] {
        var numbers: [Int32] = []
        for list in [sequences, heldOut] {
            numbers.append(Int32(truncatingIfNeeded: list.count))
            for sequence in list {
                numbers += sequence.tokens + sequence.targets + sequence.positions + sequence.start + sequence.limit
            }
        }
        return numbers
    }

    /// The sequences of step n from 1 (T7).
    public func batch(step: Int, configuration: ModelConfiguration) -> [TrainingSequence] {
        order.sequences(step: step, batch: configuration.batch, seed: configuration.seed).map { sequences[$0] }
    }
}

/// Fills sequences with documents.
private struct Packer {
    let length: Int
    private var current = TrainingSequence()
    private var done: [TrainingSequence] = []

    init(length: Int) { self.length = length }

    mutating func add(_ document: Document) {
        if document.isFlat && document.count > length {
            let bytes = document.texts[0]
            for first in stride(from: 0, to: bytes.count, by: length) {
                append(Document(Array(bytes[first..<min(first + length, bytes.count)])))
            }
        } else {
            append(document)
        }
    }

    /// A document of at most `length` tokens.
    private mutating func append(_ document: Document) {
        if current.tokens.count + document.count > length { close() }
        let first = Int32(current.tokens.count)
        // A document's nodes are a tree in depth-first order by construction.
        guard
            let tree = try? Visibility.tree(parents: document.parents, lengths: document.texts.map { Int32($0.count) })
        else { preconditionFailure("a document is no tree") }
        current.start += tree.start.map { first + $0 }
        current.limit += tree.limit.map { first + $0 }
        current.positions += tree.positions
        for (node, text) in document.texts.enumerated() {
            for (index, byte) in text.enumerated() {
                current.tokens.append(Int32(byte))
                if index + 1 < text.count {
                    current.targets.append(Int32(text[index + 1]))
                } else {
                    // The last token of a node predicts the first one of its first child, which is the next node.
                    let hasChild = node + 1 < document.parents.count && document.parents[node + 1] == Int32(node)
                    current.targets.append(hasChild ? Int32(document.texts[node + 1][0]) : -1)
                }
            }
        }
        if current.tokens.count == length { close() }
    }

    private mutating func close() {
        guard !current.tokens.isEmpty else { return }
        while current.tokens.count < length {
            current.tokens.append(0)
            current.targets.append(-1)
            current.positions.append(0)
            current.start.append(0)
            current.limit.append(0)
        }
        done.append(current)
        current = TrainingSequence()
    }

    mutating func finish() -> [TrainingSequence] {
        close()
        return done
    }
}
