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
///
/// Sequences are read from the files when they are asked for. Memory holds, of more than 16 MiB of text: a name, size and time for each file; 32 bytes for every
/// 1024 sequences of plain text or 8 KiB of JSON Lines; the order's window (``DataOrder``); and while JSON Lines are read, one line. A file that changes
/// while it is in use is an error.
public struct TrainingCorpus: Sendable {
    /// What is trained on.
    public let sequences: SequenceList
    /// Every twentieth sequence, from the first on, if there are at least two.
    public let heldOut: SequenceList
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

    /// Reads a text file, a folder of them, or a `.jsonl` file, and finds out where its sequences begin.
    ///
    /// A file is one document, a line of JSON Lines one tree. A flat document longer than T is cut into pieces of T, each a document of its own; a longer tree is an error. Documents go
    /// into the current sequence in order while they fit, else a new one begins.
    /// - Parameter progress: is told now and then how many bytes of how many were read (JSON Lines twice); what it throws ends the reading. The total is 0 where it is
    ///   not known: while the files are listed, and of a pipe.
    /// - Throws: ``CorpusError``, naming the file and the line; what `progress` throws.
    public init(
        path: String, sequenceLength: Int, progress: ((_ done: Int, _ total: Int) throws -> Void)? = nil
    ) throws {
        try self.init(path: path, sequenceLength: sequenceLength, mostHeld: TextStore.mostHeld, progress: progress)
    }

    /// - Parameter mostHeld: the most bytes of text that stay in memory.
    package init(
        path: String, sequenceLength: Int, mostHeld: Int, progress: ((_ done: Int, _ total: Int) throws -> Void)? = nil
    ) throws {
        let listing = try TextFiles(path) { try progress?(0, 0) }
        let (bytes, total) = (listing.bytes, listing.isPipe ? 0 : listing.bytes + listing.lineBytes)
        let store = try TextStore(listing, mostHeld: mostHeld) { try progress?($0, total) }
        let index = try SequenceIndex(store, length: sequenceLength) { try progress?(bytes + $0, total) }
        guard index.count > 0 else { throw CorpusError(path: path, line: nil, "no document in it") }
        sequences = SequenceList(index: index, part: index.count < 2 ? .all : .training)
        heldOut = SequenceList(index: index, part: index.count < 2 ? .none : .heldOut)
        guard sequences.count <= DataOrder.mostCount else {
            throw CorpusError(
                path: path, line: nil,
                "\(sequences.count) sequences, expected at most \(DataOrder.mostCount): a larger sequence length makes fewer"
            )
        }
        order = DataOrder(count: sequences.count)
        var report = Report()
        report.files = store.files.count
        report.documents = index.documents
        report.tokens = index.tokens
        report.sequences = index.count
        report.heldOut = heldOut.count
        report.skippedFiles = store.skipped
        report.capacity = index.count * sequenceLength
        self.report = report
    }

    /// How many numbers ``forEachNumber(_:)`` gives.
    public var numberCount: Int { 2 + 5 * sequences.index.length * (sequences.count + heldOut.count) }

    /// Gives every number that training depends on to `body`, in order: what a digest of the data is made of.
    ///
    /// - Throws: ``CorpusError`` for a file that has changed, and what `body` throws.
    public func forEachNumber(_ body: (UnsafeBufferPointer<Int32>) throws -> Void) throws {
        for list in [sequences, heldOut] {
            try [Int32(truncatingIfNeeded: list.count)].withUnsafeBufferPointer(body)
            try list.forEach(in: 0..<list.count) { sequence in
                for numbers in [
                    sequence.tokens, sequence.targets, sequence.positions, sequence.start, sequence.limit,
                ] { try numbers.withUnsafeBufferPointer(body) }
            }
        }
    }

    /// Whether a token that is trained on has a next one to be predicted.
    ///
    /// - Throws: ``CorpusError`` for a file that has changed.
    public func hasTarget() throws -> Bool {
        // A document of one token predicts nothing.
        guard sequences.index.length > 1 else { return false }
        struct Found: Error {}
        do {
            // Nearly always the first sequence has one.
            if try sequences.sequence(0).targets.contains(where: { $0 >= 0 }) { return true }
            try sequences.forEach(in: 0..<sequences.count) { sequence in
                if sequence.targets.contains(where: { $0 >= 0 }) { throw Found() }
            }
        } catch is Found { return true }
        return false
    }

    /// The sequences of step n from 1 (T7).
    ///
    /// - Throws: ``CorpusError`` for a file that has changed.
    public func batch(step: Int, configuration: ModelConfiguration) throws -> [TrainingSequence] {
        try order.sequences(step: step, batch: configuration.batch, seed: configuration.seed).map {
            try sequences.sequence($0)
        }
    }
}

extension TrainingSequence {
    mutating func reserve(_ length: Int) {
        tokens.reserveCapacity(length)
        targets.reserveCapacity(length)
        positions.reserveCapacity(length)
        start.reserveCapacity(length)
        limit.reserveCapacity(length)
    }

    mutating func clear() {
        tokens.removeAll(keepingCapacity: true)
        targets.removeAll(keepingCapacity: true)
        positions.removeAll(keepingCapacity: true)
        start.removeAll(keepingCapacity: true)
        limit.removeAll(keepingCapacity: true)
    }

    /// A flat document: a tree of one node.
    mutating func append(_ bytes: ArraySlice<UInt8>) {
        guard !bytes.isEmpty else { return }
        let first = Int32(tokens.count)
        let end = first + Int32(bytes.count)
        tokens.append(contentsOf: bytes.lazy.map { Int32($0) })
        targets.append(contentsOf: bytes.dropFirst().lazy.map { Int32($0) })
        targets.append(-1)
        positions.append(contentsOf: 0..<Int32(bytes.count))
        start.append(contentsOf: first..<end)
        limit.append(contentsOf: repeatElement(end, count: bytes.count))
    }

    mutating func append(_ document: Document) {
        let first = Int32(tokens.count)
        // A document's nodes are a tree in depth-first order by construction.
        guard
            let tree = try? Visibility.tree(parents: document.parents, lengths: document.texts.map { Int32($0.count) })
        else { preconditionFailure("a document is no tree") }
        start += tree.start.map { first + $0 }
        limit += tree.limit.map { first + $0 }
        positions += tree.positions
        for (node, text) in document.texts.enumerated() {
            for (index, byte) in text.enumerated() {
                tokens.append(Int32(byte))
                if index + 1 < text.count {
                    targets.append(Int32(text[index + 1]))
                } else {
                    // The last token of a node predicts the first one of its first child, which is the next node.
                    let hasChild = node + 1 < document.parents.count && document.parents[node + 1] == Int32(node)
                    targets.append(hasChild ? Int32(document.texts[node + 1][0]) : -1)
                }
            }
        }
    }

    /// The unused tail.
    mutating func pad(to length: Int) {
        while tokens.count < length {
            tokens.append(0)
            targets.append(-1)
            positions.append(0)
            start.append(0)
            limit.append(0)
        }
    }
}
