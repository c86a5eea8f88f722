import ModelSpec

/// A visibility mask as a bit a pair (V1, V2): word (b, i, t) has bit l where query row i sees key 16 t + l.
public final class MaskBits: @unchecked Sendable {
    public let batch: Int
    public let queries: Int
    public let keys: Int
    /// Words of a row: ceil(keys / 16).
    public let tiles: Int
    public let words: UnsafeMutablePointer<UInt16>

    public init(batch: Int, queries: Int, keys: Int) {
        self.batch = batch
        self.queries = queries
        self.keys = keys
        tiles = roundedUp(keys, to: 16) / 16
        words = .allocate(capacity: max(1, batch * queries * tiles))
    }

    /// The bits of a mask.
    public convenience init(_ visibility: Visibility) {
        self.init(batch: visibility.batch, queries: visibility.queries, keys: visibility.keys)
        visibility.start.withUnsafeBufferPointer { start in
            visibility.limit.withUnsafeBufferPointer { limit in
                guard let start = start.baseAddress, let limit = limit.baseAddress else { return fill() }
                fill(
                    orientation: visibility.orientation, start: start, limit: limit,
                    queryOffset: visibility.queryOffset, window: visibility.window)
            }
        }
    }

    /// Nothing is seen.
    private func fill() { words.update(repeating: 0, count: batch * queries * tiles) }

    deinit { words.deallocate() }

    func row(_ b: Int, _ i: Int) -> UnsafePointer<UInt16> { UnsafePointer(words + (b * queries + i) * tiles) }

    /// Sets every word from half-open intervals: by query [B, Q] of keys, by key [B, T] of query positions, rows standing at
    /// `queryOffset` + i; by key a window besides. Of the first `sequences` entries alone, if told so.
    ///
    /// The intervals are valid (V4): nothing is checked here.
    public func fill(
        orientation: MaskOrientation, start: UnsafePointer<Int32>, limit: UnsafePointer<Int32>,
        sequences: Int? = nil, queryOffset: Int = 0, window: Int? = nil
    ) {
        let sequences = sequences ?? batch
        words.update(repeating: 0, count: sequences * queries * tiles)
        for b in 0..<sequences {
            switch orientation {
            case .byQuery:
                for i in 0..<queries {
                    let row = words + (b * queries + i) * tiles
                    for key in Int(start[b * queries + i])..<Int(limit[b * queries + i]) {
                        row[key >> 4] |= 1 << UInt16(key & 15)
                    }
                }
            case .byKey:
                for key in 0..<keys {
                    var first = Int(start[b * keys + key])
                    var end = Int(limit[b * keys + key])
                    if let window { end = min(end, key + window) }
                    first = max(first, queryOffset) - queryOffset
                    end = min(end - queryOffset, queries)
                    if first >= end { continue }
                    let bit = UInt16(1) << UInt16(key & 15)
                    var word = words + (b * queries + first) * tiles + (key >> 4)
                    for _ in first..<end {
                        word.pointee |= bit
                        word += tiles
                    }
                }
            }
        }
    }
}
