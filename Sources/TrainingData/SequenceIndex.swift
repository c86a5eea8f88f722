/// Fills sequences of T tokens with pieces in their order: a piece goes into the current sequence if it fits, else the next one begins (T7).
struct Packing {
    /// T
    let length: Int
    /// The current sequence.
    private(set) var sequence = 0
    /// Its tokens so far.
    private(set) var filled = 0

    /// The sequences that were begun.
    var count: Int { filled == 0 ? sequence : sequence + 1 }

    /// - Returns: the piece's sequence, and its first token's place in it.
    mutating func add(_ tokens: Int) -> (sequence: Int, at: Int) {
        if filled == length || filled + tokens > length { close() }
        defer { filled += tokens }
        return (sequence, filled)
    }

    private mutating func close() {
        guard filled > 0 else { return }
        sequence += 1
        filled = 0
    }
}

/// Where sequences begin in the texts: of some of them, from which the others are found by packing again.
///
/// Memory: 32 bytes for every 1024 pieces of plain texts or 8 KiB of JSON Lines, whichever comes first.
struct SequenceIndex: Sendable {
    private struct Anchor: Sendable {
        let sequence: Int
        let place: TextPlace
        /// Whether a document begins there.
        let isFirst: Bool
    }

    let count: Int
    let documents: Int
    let tokens: Int
    private let store: TextStore
    /// T
    let length: Int
    private let anchors: [Anchor]

    private static let cost = 8 << 10
    private static let smallBlock = 4 << 10
    private static let largeBlock = 1 << 20

    /// - Parameter progress: is told how many bytes of JSON Lines were read.
    /// - Throws: ``CorpusError`` for a line that cannot be trained on, and what `progress` throws.
    init(_ store: TextStore, length: Int, progress: (Int) throws -> Void) throws {
        var reader = PieceReader(store, length: length, block: Self.largeBlock)
        var packing = Packing(length: length)
        var anchors: [Anchor] = []
        var (documents, tokens, cost, lineBytes, reported) = (0, 0, 0, 0, 0)
        while let piece = try reader.next() {
            let (sequence, at) = packing.add(piece.count)
            if piece.isFirst { documents += 1 }
            tokens += piece.count
            if at == 0, anchors.isEmpty || cost >= Self.cost || piece.place.kind == .string && piece.isFirst {
                anchors.append(Anchor(sequence: sequence, place: piece.place, isFirst: piece.isFirst))
                cost = 0
            }
            cost += piece.cost
            if piece.place.kind != .plain { lineBytes += piece.cost }
            if tokens - reported >= 1 << 20 {
                reported = tokens
                try progress(lineBytes)
            }
        }
        (self.store, self.length, self.anchors) = (store, length, anchors)
        (self.documents, self.tokens, count) = (documents, tokens, packing.count)
    }

    /// Gives sequences of a range to `body`, in order. Consecutive ones are read together.
    ///
    /// - Parameter isWanted: which of them; the last one is.
    /// - Throws: ``CorpusError`` for a file that has changed, and what `body` throws.
    func forEach(
        in range: Range<Int>, where isWanted: (Int) -> Bool,
        _ body: (Int, TrainingSequence) throws -> Void
    ) throws {
        guard !range.isEmpty else { return }
        let first = firstAnchor { $0 > range.lowerBound } - 1
        let end = firstAnchor { $0 >= range.upperBound }
        let limit = end < anchors.count ? anchors[end] : nil
        var reader = PieceReader(
            store, length: length, from: anchors[first].place, to: limit?.place, limitIsFirst: limit?.isFirst ?? false,
            block: range.count > 64 ? Self.largeBlock : Self.smallBlock)
        var packing = Packing(length: length)
        var sequence = TrainingSequence()
        sequence.reserve(length)
        var current = -1
        func finish() throws {
            guard current >= 0 else { return }
            sequence.pad(to: length)
            try body(current, sequence)
            sequence.clear()
        }
        while let piece = try reader.next() {
            let number = anchors[first].sequence + packing.add(piece.count).sequence
            if number >= range.upperBound { break }
            guard number >= range.lowerBound, isWanted(number) else { continue }
            if number != current {
                try finish()
                current = number
            }
            switch piece.content {
            case .stored(let file, let bytes): sequence.append(try reader.bytes(file, bytes))
            case .flat(let bytes): sequence.append(bytes)
            case .tree(let document): sequence.append(document)
            }
        }
        // A text that changed but for its size and time has other pieces.
        guard current == range.upperBound - 1 else { throw store.changed(Int(anchors[first].place.file)) }
        try finish()
    }

    /// The first anchor whose sequence meets a condition that all later ones meet too.
    private func firstAnchor(where condition: (Int) -> Bool) -> Int {
        var (low, high) = (0, anchors.count)
        while low < high {
            let middle = (low + high) / 2
            if condition(anchors[middle].sequence) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

/// Sequences of a corpus, read when they are asked for.
public struct SequenceList: Sendable {
    /// Which of the index's sequences: all, none, those held out, or the others (T7).
    enum Part: Sendable { case all, none, heldOut, training }

    static let interval = 20

    let index: SequenceIndex
    let part: Part

    public var isEmpty: Bool { count == 0 }

    public var count: Int {
        let held = (index.count + Self.interval - 1) / Self.interval
        return switch part {
        case .all: index.count
        case .none: 0
        case .heldOut: held
        case .training: index.count - held
        }
    }

    /// The number in the index of entry `entry`.
    private func number(_ entry: Int) -> Int {
        switch part {
        case .all, .none: entry
        case .heldOut: Self.interval * entry
        case .training: entry + entry / (Self.interval - 1) + 1
        }
    }

    private func isIn(_ number: Int) -> Bool {
        switch part {
        case .all, .none: true
        case .heldOut: number % Self.interval == 0
        case .training: number % Self.interval != 0
        }
    }

    /// Gives the sequences of a range to `body`, in order.
    ///
    /// - Throws: ``CorpusError`` for a file that has changed, and what `body` throws.
    /// - Precondition: `range` lies in 0 ..< count.
    public func forEach(in range: Range<Int>, _ body: (TrainingSequence) throws -> Void) throws {
        precondition(0 <= range.lowerBound && range.upperBound <= count, "sequences \(range) of \(count)")
        guard let last = range.last else { return }
        try index.forEach(in: number(range.lowerBound)..<number(last) + 1, where: isIn) { try body($1) }
    }

    /// The sequences of a range. - Throws: ``CorpusError`` for a file that has changed.
    public func read(_ range: Range<Int>) throws -> [TrainingSequence] {
        var list: [TrainingSequence] = []
        try forEach(in: range) { list.append($0) }
        return list
    }

    /// The first sequences, at most `most`. - Throws: ``CorpusError`` for a file that has changed.
    public func prefix(_ most: Int) throws -> [TrainingSequence] { try read(0..<min(most, count)) }

    /// One sequence. - Throws: ``CorpusError`` for a file that has changed.
    public func sequence(_ entry: Int) throws -> TrainingSequence { try read(entry..<entry + 1)[0] }
}
