import ModelSpec

// V3: masks from and to what other libraries take: dense masks, cumulative document lengths, FlashMask's column bounds.

extension Visibility {
    // MARK: - Dense masks

    /// [B, Q, T] as 1 where the query attends the key, else 0.
    public var dense: [UInt8] {
        var mask: [UInt8] = []
        mask.reserveCapacity(batch * queries * keys)
        for b in 0..<batch {
            for i in 0..<queries {
                for j in 0..<keys { mask.append(isVisible(batch: b, query: i, key: j) ? 1 : 0) }
            }
        }
        return mask
    }

    /// The mask of a dense one [B, Q, T], visible where it is not 0: by query each row's visible cells must be one interval, by key each
    /// column's. An empty row or column is [0, 0).
    ///
    /// - Throws: ``/Reference/VisibilityBuildError/notAnInterval(batch:token:_:)``, naming the first; for sizes that do not fit
    ///   ``/Reference/VisibilityBuildError/count(name:_:expected:)`` or ``/Reference/VisibilityBuildError/size(name:_:)``.
    public init(
        dense mask: [UInt8], orientation: MaskOrientation, batch: Int, queries: Int, keys: Int, queryOffset: Int = 0
    ) throws(VisibilityBuildError) {
        try Self.check(batch: batch, queries: queries, keys: keys, queryOffset: queryOffset)
        let expected = Self.product(batch, queries, keys)
        guard mask.count == expected else { throw .count(name: "mask", mask.count, expected: expected) }
        try self.init(
            orientation: orientation, batch: batch, queries: queries, keys: keys, queryOffset: queryOffset
        ) { b, i, j in mask[(b * queries + i) * keys + j] != 0 }
    }

    /// The mask of a predicate on batch entry, query row and key.
    private init(
        orientation: MaskOrientation, batch: Int, queries: Int, keys: Int, queryOffset: Int,
        isVisible: (_ b: Int, _ i: Int, _ j: Int) -> Bool
    ) throws(VisibilityBuildError) {
        let (tokens, cells) = orientation == .byQuery ? (queries, keys) : (keys, queries)
        // V1: by key the intervals are of absolute positions.
        let offset = orientation == .byKey ? queryOffset : 0
        var intervals = Intervals()
        for b in 0..<batch {
            for token in 0..<tokens {
                let visible = Self.runs(in: 0..<cells) { cell in
                    orientation == .byQuery ? isVisible(b, token, cell) : isVisible(b, cell, token)
                }
                guard visible.count <= 1 else { throw .notAnInterval(batch: b, token: token, orientation) }
                guard let run = visible.first else {
                    intervals.append(0, 0)
                    continue
                }
                intervals.append(Int32(run.lowerBound + offset), Int32(run.upperBound + offset))
            }
        }
        do {
            try self.init(
                orientation: orientation, batch: batch, queries: queries, keys: keys, start: intervals.start,
                limit: intervals.limit, queryOffset: queryOffset)
        } catch { throw .visibility(error) }
    }

    // MARK: - Cumulative document lengths

    /// The lengths of the documents between cumulative ones, 0 first: what variable-length kernels call cu_seqlens.
    ///
    /// An empty document has no tokens and leaves no trace in a mask: [0, 3, 3, 5] gives [3, 2]. Lists that run beside the documents,
    /// prefixes for example, must leave it out too.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError/cumulativeLengths(_:)`` unless they begin at 0 and do not fall.
    public static func lengths(cumulative: [Int32]) throws(VisibilityBuildError) -> [Int32] {
        guard cumulative.first == 0 else {
            throw .cumulativeLengths(
                "cumulative lengths begin at \(cumulative.first.map(String.init) ?? "nothing"), expected 0")
        }
        var lengths: [Int32] = []
        for index in 1..<max(1, cumulative.count) {
            guard cumulative[index] >= cumulative[index - 1] else {
                throw .cumulativeLengths(
                    "cumulative length \(cumulative[index]) at index \(index), expected \(cumulative[index - 1]) or more"
                )
            }
            if cumulative[index] > cumulative[index - 1] { lengths.append(cumulative[index] - cumulative[index - 1]) }
        }
        return lengths
    }

    /// The cumulative lengths of the documents, causal ones or bidirectional ones, that make the mask of one batch entry; strictly rising,
    /// since no mask shows an empty document.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError/cumulativeLengths(_:)`` if the mask is not that of such documents end to end.
    public func cumulativeLengths(
        batch b: Int = 0, bidirectional: Bool = false
    ) throws(VisibilityBuildError) -> [Int32] {
        guard queries == keys else {
            throw .cumulativeLengths(
                "a mask of \(queries) queries and \(keys) keys is not that of documents end to end")
        }
        var cumulative: [Int32] = [0]
        // A document begins where a token does not see the one before it.
        for token in 1..<max(1, keys) where !isVisible(batch: b, query: token, key: token - 1) {
            cumulative.append(Int32(token))
        }
        if keys > 0 { cumulative.append(Int32(keys)) }
        let expected = try Visibility.byQuery(
            bidirectional ? .full : .documents, lengths: try Visibility.lengths(cumulative: cumulative))
        for i in 0..<queries {
            for j in 0..<keys
            where isVisible(batch: b, query: i, key: j) != (expected.start[i] <= j && j < expected.limit[i]) {
                throw .cumulativeLengths(
                    "query \(i), key \(j): not the mask of \(bidirectional ? "bidirectional" : "causal") documents end to end"
                )
            }
        }
        return cumulative
    }

    // MARK: - FlashMask

    /// The mask of FlashMask's column bounds [B, T, `perColumn`] (Wang et al. 2024; PaddlePaddle's `flashmask_attention`).
    ///
    /// | `causal` | `perColumn` | bounds of a key's column |
    /// |---|---|---|
    /// | true | 1 | LTS |
    /// | true | 2 | LTS, LTE |
    /// | false | 2 | LTS, UTE |
    /// | false | 4 | LTS, LTE, UTS, UTE |
    ///
    /// Query rows LTS ..< LTE (to Q without LTE) and UTS ..< UTE (from 0 without UTS) are masked. With `causal` so are rows i < j - (T -
    /// Q): the last query sees the last key, also where Q and T differ, as in FlashAttention from 2.1 on. Rows count from the first query,
    /// whatever `queryOffset` is. A bound above Q counts as Q; an end that is not above its start masks nothing.
    ///
    /// - Parameters:
    ///   - causal: as in the call of `flashmask_attention`; it decides what two bounds mean.
    ///   - orientation: of the mask. Most masks of FlashMask are intervals by key; a causal blockwise mask is one by query only.
    ///   - queryOffset: the absolute position of query row 0 in the mask that is made.
    /// - Throws: ``/Reference/VisibilityBuildError/boundsPerColumn(_:causal:)``, ``/Reference/VisibilityBuildError/columnBounds(batch:key:_:)`` for a
    ///   negative bound, ``/Reference/VisibilityBuildError/notAnInterval(batch:token:_:)`` for what is no interval in that orientation, and as
    ///   ``init(dense:orientation:batch:queries:keys:queryOffset:)`` for sizes.
    public init(
        columnBounds: [Int32], perColumn: Int, causal: Bool, orientation: MaskOrientation = .byKey, batch: Int,
        queries: Int, keys: Int, queryOffset: Int = 0
    ) throws(VisibilityBuildError) {
        let form = try ColumnForm(perColumn: perColumn, causal: causal)
        try Self.check(batch: batch, queries: queries, keys: keys, queryOffset: queryOffset)
        let expected = Self.product(batch, keys, perColumn)
        guard columnBounds.count == expected else {
            throw .count(name: "column bounds", columnBounds.count, expected: expected)
        }
        var masked: [ColumnForm.Masked] = []
        for column in 0..<batch * keys {
            let bounds = columnBounds[column * perColumn..<(column + 1) * perColumn].map(Int.init)
            if let bound = bounds.first(where: { $0 < 0 }) {
                throw .columnBounds(batch: column / keys, key: column % keys, "bound \(bound), expected 0 or more")
            }
            masked.append(form.masked(bounds.map { min($0, queries) }, queries: queries))
        }
        try self.init(
            orientation: orientation, batch: batch, queries: queries, keys: keys, queryOffset: queryOffset
        ) { b, i, j in
            let rows = masked[b * keys + j]
            return i >= form.firstRow(key: j, queries: queries, keys: keys) && !rows.lower.contains(i)
                && !rows.upper.contains(i)
        }
    }

    /// FlashMask's column bounds of this mask, [B, T, `perColumn`], in the form of ``init(columnBounds:perColumn:causal:orientation:batch:queries:keys:queryOffset:)``.
    ///
    /// Rows count from the first query. Bounds that mask nothing are [Q, Q) below and [0, 0) above.
    ///
    /// - Throws: ``/Reference/VisibilityBuildError/boundsPerColumn(_:causal:)``, and ``/Reference/VisibilityBuildError/columnBounds(batch:key:_:)`` for the
    ///   first key whose column that form does not express.
    public func columnBounds(perColumn: Int = 2, causal: Bool = false) throws(VisibilityBuildError) -> [Int32] {
        let form = try ColumnForm(perColumn: perColumn, causal: causal)
        var bounds: [Int32] = []
        for b in 0..<batch {
            for j in 0..<keys {
                let first = form.firstRow(key: j, queries: queries, keys: keys)
                guard !(0..<first).contains(where: { isVisible(batch: b, query: $0, key: j) }) else {
                    throw .columnBounds(batch: b, key: j, "a query before it sees it, expected a causal mask")
                }
                let hidden = Self.runs(in: first..<queries) { !isVisible(batch: b, query: $0, key: j) }
                guard let column = form.bounds(hidden, queries: queries) else {
                    throw .columnBounds(
                        batch: b, key: j,
                        "\(perColumn) bounds\(causal ? " with causal" : "") do not express its column: \(hidden.count) runs of masked rows"
                    )
                }
                bounds += column.map(Int32.init)
            }
        }
        return bounds
    }

    /// What the bounds of a column mean.
    private enum ColumnForm {
        /// causal: LTS.
        case start
        /// causal: LTS, LTE.
        case startEnd
        /// LTS, UTE.
        case startUpperEnd
        /// LTS, LTE, UTS, UTE.
        case both

        /// Rows that bounds mask.
        struct Masked {
            let lower: Range<Int>
            let upper: Range<Int>
        }

        init(perColumn: Int, causal: Bool) throws(VisibilityBuildError) {
            switch (perColumn, causal) {
            case (1, true): self = .start
            case (2, true): self = .startEnd
            case (2, false): self = .startUpperEnd
            case (4, false): self = .both
            default: throw .boundsPerColumn(perColumn, causal: causal)
            }
        }

        /// The first row that may see a key.
        func firstRow(key j: Int, queries: Int, keys: Int) -> Int {
            switch self {
            case .start, .startEnd: max(0, j - (keys - queries))
            case .startUpperEnd, .both: 0
            }
        }

        /// The rows that bounds in 0 ... Q mask.
        func masked(_ bounds: [Int], queries: Int) -> Masked {
            func range(_ start: Int, _ end: Int) -> Range<Int> { start..<max(start, end) }
            return switch self {
            case .start: Masked(lower: range(bounds[0], queries), upper: 0..<0)
            case .startEnd: Masked(lower: range(bounds[0], bounds[1]), upper: 0..<0)
            case .startUpperEnd: Masked(lower: range(bounds[0], queries), upper: range(0, bounds[1]))
            case .both: Masked(lower: range(bounds[0], bounds[1]), upper: range(bounds[2], bounds[3]))
            }
        }

        /// The bounds that mask these runs of rows; nil if there are none.
        func bounds(_ hidden: [Range<Int>], queries: Int) -> [Int]? {
            switch self {
            case .start:
                guard let run = hidden.first else { return [queries] }
                return hidden.count == 1 && run.upperBound == queries ? [run.lowerBound] : nil
            case .startEnd:
                guard let run = hidden.first else { return [queries, queries] }
                return hidden.count == 1 ? [run.lowerBound, run.upperBound] : nil
            case .startUpperEnd:
                // At most one run that begins at row 0 and one that ends at row Q; one of all rows is the lower one.
                let lower = hidden.last.flatMap { $0.upperBound == queries ? $0 : nil }
                let upper = hidden.first.flatMap { $0.lowerBound == 0 && $0 != lower ? $0 : nil }
                guard (lower == nil ? 0 : 1) + (upper == nil ? 0 : 1) == hidden.count else { return nil }
                return [lower?.lowerBound ?? queries, upper?.upperBound ?? 0]
            case .both:
                // One run is the upper one where it begins at row 0 and does not reach the end.
                guard let last = hidden.last else { return [queries, queries, 0, 0] }
                switch hidden.count {
                case 1:
                    return last.lowerBound == 0 && last.upperBound < queries
                        ? [queries, queries, 0, last.upperBound] : [last.lowerBound, last.upperBound, 0, 0]
                case 2: return [last.lowerBound, last.upperBound, hidden[0].lowerBound, hidden[0].upperBound]
                default: return nil
                }
            }
        }
    }

    // MARK: - Pieces

    /// The maximal runs of cells that satisfy a predicate.
    private static func runs(in cells: Range<Int>, _ isIncluded: (Int) -> Bool) -> [Range<Int>] {
        var runs: [Range<Int>] = []
        for cell in cells where isIncluded(cell) {
            if let last = runs.last, last.upperBound == cell {
                runs[runs.count - 1] = last.lowerBound..<cell + 1
            } else {
                runs.append(cell..<cell + 1)
            }
        }
        return runs
    }

    private static func check(
        batch: Int, queries: Int, keys: Int, queryOffset: Int
    ) throws(VisibilityBuildError) {
        let most = Int(Int32.max)
        for (name, size) in [("batch", batch), ("queries", queries), ("keys", keys)] where !(0...most).contains(size) {
            throw .size(name: name, size)
        }
        guard (0...most - queries).contains(queryOffset) else { throw .size(name: "query offset", queryOffset) }
    }

    /// The product of sizes, `Int.max` where it is larger.
    private static func product(_ sizes: Int...) -> Int {
        sizes.reduce(1) {
            let (product, overflow) = $0.multipliedReportingOverflow(by: $1)
            return overflow ? .max : product
        }
    }
}
