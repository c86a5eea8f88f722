import JSON

/// Where a piece of text begins: a document, or as much of a longer one as a sequence holds (T7).
struct TextPlace: Sendable, Hashable {
    enum Kind: UInt8, Sendable {
        /// `offset` is the piece's first byte in a plain text.
        case plain
        /// `offset` is the first byte of a line of JSON Lines, or of blank ones before it; the piece begins after the document's first `taken` tokens.
        case line
        /// `offset` is a character or an escape within the string that is a long line's text; of the bytes that an escape stands for the first `taken` belong
        /// to the piece before.
        case string
    }

    var file: Int32 = 0
    var taken: Int32 = 0
    var offset = 0
    var kind = Kind.plain
}

/// A document of at most T tokens, or a part of T of a longer one, the last one shorter.
struct Piece {
    enum Content {
        /// Bytes of a file.
        case stored(file: Int, Range<Int>)
        case flat(ArraySlice<UInt8>)
        case tree(Document)
    }

    let place: TextPlace
    /// Its tokens, at least 1.
    let count: Int
    /// What was read to find it, in bytes.
    let cost: Int
    /// Whether a document begins with it.
    let isFirst: Bool
    let content: Content
}

/// Walks through texts piece by piece, in order.
struct PieceReader {
    /// The most bytes of a line: one line at a time is in memory, with what JSON makes of it.
    static let mostLine = 64 << 20
    /// Lines above that are not read whole for a piece of theirs.
    static let longLine = 8 << 10

    private let store: TextStore
    /// T
    private let length: Int
    /// Of the next piece.
    private(set) var place: TextPlace
    /// Where to stop; nil for the end of the texts.
    private let limit: TextPlace?
    /// Where the limit's long line must not be read to find that it is the limit.
    private let stringLimit: TextPlace?
    private let block: Int
    /// Whether lines are read for the first time, from the beginning of the first file on.
    private let isFirst: Bool
    /// From 1, of the last line that was read; where `isFirst`.
    private var number = 0
    /// The line's document, while only a part of it was given.
    private var pending: [UInt8] = []
    private var afterLine = 0
    private var beginsString = false
    private var window = Window()

    /// Some bytes of a file.
    private struct Window {
        var file: Int32 = -1
        var start = 0
        var bytes: [UInt8] = []
    }

    /// - Parameters:
    ///   - limitIsFirst: whether a document begins at the limit.
    ///   - block: how many bytes are read at once.
    init(
        _ store: TextStore, length: Int, from place: TextPlace? = nil, to limit: TextPlace? = nil,
        limitIsFirst: Bool = false, block: Int
    ) {
        (self.store, self.length, self.limit, self.block) = (store, length, limit, block)
        stringLimit = limit?.kind == .string && limitIsFirst ? limit : nil
        isFirst = place == nil
        self.place = place ?? Self.start(of: 0, store)
    }

    private static func start(of file: Int, _ store: TextStore) -> TextPlace {
        TextPlace(file: Int32(file), kind: file < store.files.count && store.files[file].isLines ? .line : .plain)
    }

    /// The next piece; nil at the end.
    ///
    /// - Throws: ``CorpusError`` for a line that is no document, a tree of more than T tokens, and a file that has changed.
    mutating func next() throws(CorpusError) -> Piece? {
        while Int(place.file) < store.files.count, place != limit {
            let piece: Piece? =
                switch place.kind {
                case .plain: nextPlain()
                case .line: try nextOfLine()
                case .string: try nextOfString()
                }
            if let piece { return piece }
        }
        return nil
    }

    private mutating func nextFile() {
        place = Self.start(of: Int(place.file) + 1, store)
        number = 0
    }

    private mutating func nextPlain() -> Piece? {
        let rest = store.files[Int(place.file)].size - place.offset
        guard rest > 0 else {
            nextFile()
            return nil
        }
        let count = min(length, rest)
        let range = place.offset..<place.offset + count
        let piece = Piece(
            place: place, count: count, cost: 8, isFirst: place.offset == 0,
            content: .stored(file: Int(place.file), range))
        place.offset += count
        return piece
    }

    /// A line's document or the next part of it; nil after a blank line and at the end of a file.
    private mutating func nextOfLine() throws(CorpusError) -> Piece? {
        var cost = 0
        if pending.isEmpty {
            guard let (line, after) = try line() else { return nil }
            number += 1
            afterLine = after
            cost = line.count + 1
            guard !Self.isBlank(line) else {
                place.offset = after
                return nil
            }
            let document: Document
            do { document = try Document(line: line, path: store.files[Int(place.file)].path, number: number) } catch {
                throw isFirst ? error : store.changed(Int(place.file))
            }
            guard document.isFlat else {
                let count = document.count
                guard count <= length else {
                    throw CorpusError(
                        path: store.files[Int(place.file)].path, line: number,
                        "a tree of \(count) tokens, expected at most the sequence length, \(length)")
                }
                let piece = Piece(place: place, count: count, cost: cost, isFirst: true, content: .tree(document))
                place.offset = after
                return piece
            }
            if line.count > Self.longLine, document.count > length, let start = Document.text(in: line) {
                place.kind = .string
                place.offset += start
                beginsString = true
                return nil
            }
            pending = document.texts[0]
        }
        guard Int(place.taken) < pending.count else { throw store.changed(Int(place.file)) }
        let part = pending[Int(place.taken)..<min(Int(place.taken) + length, pending.count)]
        let piece = Piece(
            place: place, count: part.count, cost: cost, isFirst: place.taken == 0, content: .flat(part))
        if part.endIndex == pending.count {
            pending = []
            (place.offset, place.taken) = (afterLine, 0)
        } else {
            place.taken = Int32(part.endIndex)
        }
        return piece
    }

    /// The next part of a long line's text; nil at its end.
    private mutating func nextOfString() throws(CorpusError) -> Piece? {
        let start = place
        var part: [UInt8] = []
        part.reserveCapacity(length)
        while part.count < length {
            let byte = try byte(at: place.offset)
            if byte == UInt8(ascii: "\"") { break }
            guard byte == UInt8(ascii: "\\") else {
                part.append(byte)
                place.offset += 1
                continue
            }
            let (bytes, size) = try escape(at: place.offset)
            let own = bytes.dropFirst(Int(place.taken)).prefix(length - part.count)
            part += own
            place.taken += Int32(own.count)
            guard Int(place.taken) == bytes.count else { break }
            place.taken = 0
            place.offset += size
        }
        guard !part.isEmpty else {
            // Behind the string comes what the line's first reading has checked.
            while place.offset < store.files[Int(place.file)].size, try byte(at: place.offset) != 0x0A {
                place.offset += 1
            }
            place.offset = min(place.offset + 1, store.files[Int(place.file)].size)
            place.kind = .line
            return nil
        }
        defer { beginsString = false }
        return Piece(
            place: start, count: part.count, cost: place.offset - start.offset, isFirst: beginsString,
            content: .flat(part[...]))
    }

    /// The bytes that an escape stands for, and its length.
    private mutating func escape(at offset: Int) throws(CorpusError) -> (bytes: [UInt8], size: Int) {
        var size = 2
        if try byte(at: offset + 1) == UInt8(ascii: "u") {
            let high = [try byte(at: offset + 2), try byte(at: offset + 3)]
            // The first half of a surrogate pair.
            let isHalf = high[0] | 0x20 == UInt8(ascii: "d") && "89abAB".utf8.contains(high[1])
            size = isHalf ? 12 : 6
        }
        var text: [UInt8] = [UInt8(ascii: "\"")]
        for index in 0..<size { text.append(try byte(at: offset + index)) }
        guard case .string(let string)? = try? JSONValue(utf8: text + [UInt8(ascii: "\"")]) else {
            throw store.changed(Int(place.file))
        }
        return (Array(string.utf8), size)
    }

    // MARK: Bytes

    /// The line that begins at the place, without its line feed, and the offset behind it; nil at the end of the file, or where the limit lies in it.
    private mutating func line() throws(CorpusError) -> (bytes: [UInt8], after: Int)? {
        let size = store.files[Int(place.file)].size
        let end = if let stringLimit, stringLimit.file == place.file { stringLimit.offset } else { size }
        var bytes: [UInt8] = []
        var position = place.offset
        while position < end {
            try load(position)
            let part = window.bytes[(position - window.start)..<min(window.bytes.count, end - window.start)]
            let feed = part.firstIndex(of: 0x0A)
            bytes += part[..<(feed ?? part.endIndex)]
            position += part.count
            guard bytes.count <= Self.mostLine else {
                throw CorpusError(
                    path: store.files[Int(place.file)].path, line: isFirst ? number + 1 : nil,
                    "the line has more than \(Self.mostLine) bytes, the most of a document in JSON Lines; longer ones are plain text files"
                )
            }
            if let feed { return (bytes, window.start + feed + 1) }
        }
        if let stringLimit, stringLimit.file == place.file {
            // The limit is in this line, whose first piece it is.
            place = stringLimit
            return nil
        }
        guard !bytes.isEmpty else {
            nextFile()
            return nil
        }
        return (bytes, size)
    }

    private static func isBlank(_ line: [UInt8]) -> Bool {
        if line.first == UInt8(ascii: "{") { return false }
        return String(decoding: line, as: UTF8.self).allSatisfy(\.isWhitespace)
    }

    private mutating func byte(at offset: Int) throws(CorpusError) -> UInt8 {
        try load(offset)
        return window.bytes[offset - window.start]
    }

    /// Sees to it that the window holds the byte at an offset of the current file.
    private mutating func load(_ offset: Int) throws(CorpusError) {
        if window.file == place.file, window.start <= offset, offset < window.start + window.bytes.count { return }
        let size = store.files[Int(place.file)].size
        guard offset < size else { throw store.changed(Int(place.file)) }
        window = Window(
            file: place.file, start: offset,
            bytes: try store.bytes(Int(place.file), offset..<min(size, offset + block)))
    }

    /// The bytes of a piece that ``next()`` gave.
    mutating func bytes(_ file: Int, _ range: Range<Int>) throws(CorpusError) -> ArraySlice<UInt8> {
        if Int(window.file) != file || range.lowerBound < window.start
            || range.upperBound > window.start + window.bytes.count
        {
            let end = max(range.upperBound, min(store.files[file].size, range.lowerBound + block))
            window = Window(
                file: Int32(file), start: range.lowerBound, bytes: try store.bytes(file, range.lowerBound..<end))
        }
        return window.bytes[(range.lowerBound - window.start)..<(range.upperBound - window.start)]
    }
}
