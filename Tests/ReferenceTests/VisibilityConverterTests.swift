import ExactMath
import ModelSpec
import Reference
import Testing

/// A dense mask [Q, T] as a library defines it, written down again cell by cell from its documentation: nothing here knows of intervals.
private struct Definition: Equatable, CustomStringConvertible {
    let queries: Int
    let keys: Int
    var cells: [UInt8]

    init(queries: Int, keys: Int, sees: (_ i: Int, _ j: Int) -> Bool) {
        (self.queries, self.keys, cells) = (queries, keys, [])
        for i in 0..<queries {
            for j in 0..<keys { cells.append(sees(i, j) ? 1 : 0) }
        }
    }

    func sees(_ i: Int, _ j: Int) -> Bool { cells[i * keys + j] != 0 }

    var description: String {
        (0..<queries).map { i in (0..<keys).map { sees(i, $0) ? "1" : "0" }.joined() }.joined(separator: " ")
    }

    // MARK: PaddlePaddle

    /// `flashmask_to_densemask` of `flashmask_attention`'s documentation, with the alignment of `startend_row_indices_to_attn_bias` in
    /// PaddlePaddle's tests (test/test_flashmask_ci): everything is visible, then each column hides its slices, which end at the last row at
    /// the latest, and with `causal` the rows before max(0, j - (T - Q)).
    static func flashMask(_ bounds: [Int32], perColumn: Int, causal: Bool, queries: Int, keys: Int) -> Definition {
        var mask = Definition(queries: queries, keys: keys) { _, _ in true }
        func hide(_ j: Int, from: Int, to: Int) {
            var i = from
            while i < to && i < queries {
                mask.cells[i * keys + j] = 0
                i += 1
            }
        }
        let hasEnd = (causal && perColumn == 2) || (!causal && perColumn == 4)
        for j in 0..<keys {
            let column = bounds[j * perColumn..<(j + 1) * perColumn].map(Int.init)
            hide(j, from: column[0], to: hasEnd ? column[1] : queries)
            if causal {
                hide(j, from: 0, to: max(0, j - (keys - queries)))
            } else if hasEnd {
                hide(j, from: column[2], to: column[3])
            } else {
                hide(j, from: 0, to: column[1])
            }
        }
        return mask
    }

    /// LTS of `window_size` w with `causal`, as `flashmask_attention` makes them: j + w + 1, at most Q; Q = T.
    static func flashMaskWindow(_ w: Int, count: Int) -> [Int32] { (0..<count).map { Int32(min($0 + w + 1, count)) } }

    // MARK: FlashAttention

    /// README 2.1 and 2.3, and `construct_local_mask` of its tests: query i sees keys i + T - Q - left to i + T - Q + right, a negative side
    /// without end; `causal` is right = 0.
    static func flashAttention(
        causal: Bool, window: (left: Int, right: Int) = (-1, -1), queries: Int, keys: Int
    ) -> Definition {
        let right = causal ? 0 : window.right
        return Definition(queries: queries, keys: keys) { i, j in
            let diagonal = i + keys - queries
            return (window.left < 0 || j >= diagonal - window.left) && (right < 0 || j <= diagonal + right)
        }
    }

    /// `flash_attn_varlen_func` with cu_seqlens_q = cu_seqlens_k: sequence s is rows and columns cu[s] ..< cu[s + 1], each a matrix of its own.
    static func variableLength(_ cumulative: [Int32], causal: Bool, window: Int = -1) -> Definition {
        let count = Int(cumulative.last!)
        var mask = Definition(queries: count, keys: count) { _, _ in false }
        for s in 0..<cumulative.count - 1 {
            let (first, size) = (Int(cumulative[s]), Int(cumulative[s + 1] - cumulative[s]))
            let own = flashAttention(causal: causal, window: (window, -1), queries: size, keys: size)
            for i in 0..<size {
                for j in 0..<size { mask.cells[(first + i) * count + first + j] = own.sees(i, j) ? 1 : 0 }
            }
        }
        return mask
    }

    // MARK: FlexAttention

    typealias MaskMod = (_ q: Int, _ kv: Int) -> Bool

    /// The examples of attention-gym (attn_gym/masks): causal, sliding window, prefix LM, documents.
    static func flexCausal(_ q: Int, _ kv: Int) -> Bool { q >= kv }
    static func flexSlidingWindow(_ size: Int) -> MaskMod { { q, kv in q - kv <= size && flexCausal(q, kv) } }
    static func flexPrefix(_ length: Int) -> MaskMod { { q, kv in kv < length || flexCausal(q, kv) } }
    static func flexDocuments(_ mod: @escaping MaskMod, offsets: [Int32]) -> MaskMod {
        var document: [Int] = []
        for d in 0..<offsets.count - 1 { document += [Int](repeating: d, count: Int(offsets[d + 1] - offsets[d])) }
        return { q, kv in
            document[q] == document[kv] && mod(q - Int(offsets[document[q]]), kv - Int(offsets[document[kv]]))
        }
    }

    // MARK: What an interval mask can hold

    /// Whether the visible cells of every row, or column, are consecutive.
    func isIntervals(_ orientation: MaskOrientation) -> Bool {
        let (tokens, count) = orientation == .byQuery ? (queries, keys) : (keys, queries)
        return (0..<tokens).allSatisfy { token in
            let line = (0..<count).map { orientation == .byQuery ? sees(token, $0) : sees($0, token) }
            return line.indices.dropFirst().count { line[$0] && !line[$0 - 1] } + (line.first == true ? 1 : 0) <= 1
        }
    }

    /// Whether bounds of a form express every column, by trying all.
    func isExpressible(perColumn: Int, causal: Bool) -> Bool {
        let choices = queries + 1
        return (0..<keys).allSatisfy { j in
            var number = 0
            let all = (0..<perColumn).reduce(1) { product, _ in product * choices }
            while number < all {
                // The other columns do not matter: they have the same bounds.
                var rest = number
                var one: [Int32] = []
                for _ in 0..<perColumn {
                    one.append(Int32(rest % choices))
                    rest /= choices
                }
                let tried = Definition.flashMask(
                    [[Int32]](repeating: one, count: keys).flatMap { $0 }, perColumn: perColumn, causal: causal,
                    queries: queries, keys: keys)
                if (0..<queries).allSatisfy({ tried.sees($0, j) == sees($0, j) }) { return true }
                number += 1
            }
            return false
        }
    }
}

@Suite("V3: masks of other libraries, by their own definitions")
struct VisibilityConverterTests {
    private struct Random {
        var stream = RandomStream(seed: 23, stream: 7, step: 0)
        var next: UInt64 = 0

        mutating func below(_ bound: Int) -> Int {
            next += 1
            return Int(stream.word(next) % UInt32(bound))
        }
    }

    /// The forms of FlashMask's bounds.
    static let forms: [(perColumn: Int, causal: Bool)] = [(1, true), (2, true), (2, false), (4, false)]

    private func mask(
        _ intervals: Visibility.Intervals, _ orientation: MaskOrientation, queries: Int, keys: Int, offset: Int = 0,
        window: Int? = nil
    ) throws -> Visibility {
        try Visibility(
            orientation: orientation, batch: 1, queries: queries, keys: keys, start: intervals.start,
            limit: intervals.limit, queryOffset: offset, window: window)
    }

    // MARK: FlashMask

    /// The ten examples of PaddlePaddle's documentation of `flashmask_attention`: bounds and the mask printed beside them, T = Q = 10.
    struct Example: Sendable, CustomTestStringConvertible {
        let name: String
        let causal: Bool
        /// One list for each bound of a column.
        let bounds: [[Int32]]
        let rows: String
        /// The orientations in which it is intervals.
        let orientations: [MaskOrientation]
        var testDescription: String { name }
    }

    static let examples: [Example] = [
        Example(
            name: "causal", causal: true, bounds: [[Int32](repeating: 8, count: 10)],
            rows: """
                1000000000 1100000000 1110000000 1111000000 1111100000 1111110000 1111111000 1111111100 0000000000 0000000000
                """, orientations: [.byQuery, .byKey]),
        Example(
            name: "sliding window", causal: true, bounds: [[3, 4, 5, 6, 7, 8, 9, 10, 10, 10]],
            rows: """
                1000000000 1100000000 1110000000 0111000000 0011100000 0001110000 0000111000 0000011100 0000001110 0000000111
                """, orientations: [.byQuery, .byKey]),
        Example(
            name: "causal document", causal: true, bounds: [[4, 4, 4, 4, 7, 7, 7, 10, 10, 10]],
            rows: """
                1000000000 1100000000 1110000000 1111000000 0000100000 0000110000 0000111000 0000000100 0000000110 0000000111
                """, orientations: [.byQuery, .byKey]),
        Example(
            name: "document", causal: false,
            bounds: [[4, 4, 4, 4, 7, 7, 7, 10, 10, 10], [0, 0, 0, 0, 4, 4, 4, 7, 7, 7]],
            rows: """
                1111000000 1111000000 1111000000 1111000000 0000111000 0000111000 0000111000 0000000111 0000000111 0000000111
                """, orientations: [.byQuery, .byKey]),
        Example(
            name: "share question", causal: true, bounds: [[10, 10, 10, 10, 7, 7, 7, 10, 10, 10]],
            rows: """
                1000000000 1100000000 1110000000 1111000000 1111100000 1111110000 1111111000 1111000100 1111000110 1111000111
                """, orientations: [.byKey]),
        Example(
            name: "global and sliding window", causal: false,
            bounds: [
                [10, 10, 4, 5, 6, 7, 8, 9, 10, 10], [Int32](repeating: 10, count: 10), [0, 0, 0, 0, 2, 2, 2, 2, 2, 2],
                [0, 0, 0, 0, 3, 4, 5, 6, 7, 8],
            ],
            rows: """
                1111111111 1111111111 1111000000 1111100000 1101110000 1100111000 1100011100 1100001110 1100000111 1100000011
                """, orientations: []),
        Example(
            name: "causal blockwise", causal: true,
            bounds: [[4, 4, 4, 4, 10, 10, 10, 10, 10, 10], [7, 7, 7, 7, 10, 10, 10, 10, 10, 10]],
            rows: """
                1000000000 1100000000 1110000000 1111000000 0000100000 0000110000 0000111000 1111111100 1111111110 1111111111
                """, orientations: [.byQuery]),
        Example(
            name: "prefix LM document", causal: false,
            bounds: [[3, 3, 3, 5, 5, 10, 10, 10, 10, 10], [0, 0, 2, 3, 3, 5, 5, 7, 8, 9]],
            rows: """
                1100000000 1100000000 1110000000 0001100000 0001100000 0000011000 0000011000 0000011100 0000011110 0000011111
                """, orientations: [.byQuery, .byKey]),
        Example(
            name: "prefix LM causal", causal: false,
            bounds: [[Int32](repeating: 10, count: 10), [0, 0, 0, 0, 0, 5, 6, 7, 8, 9]],
            rows: """
                1111100000 1111100000 1111100000 1111100000 1111100000 1111110000 1111111000 1111111100 1111111110 1111111111
                """, orientations: [.byQuery, .byKey]),
        Example(
            name: "QK-sparse", causal: true,
            bounds: [[10, 10, 2, 3, 4, 5, 6, 7, 10, 10], [10, 10, 5, 5, 5, 5, 8, 8, 10, 10]],
            rows: """
                1000000000 1100000000 1100000000 1100000000 1100000000 1111110000 1111110000 1111110000 1111111110 1111111111
                """, orientations: [.byQuery, .byKey]),
    ]

    @Test("the examples of PaddlePaddle's documentation", arguments: examples)
    func documentedExamples(example: Example) throws {
        let perColumn = example.bounds.count
        let bounds = (0..<10).flatMap { j in example.bounds.map { $0[j] } }
        let definition = Definition.flashMask(
            bounds, perColumn: perColumn, causal: example.causal, queries: 10, keys: 10)
        #expect(definition.description == example.rows)
        for orientation in MaskOrientation.allCases {
            func convert() throws -> Visibility {
                try Visibility(
                    columnBounds: bounds, perColumn: perColumn, causal: example.causal, orientation: orientation,
                    batch: 1, queries: 10, keys: 10)
            }
            guard example.orientations.contains(orientation) else {
                #expect(throws: VisibilityBuildError.self) { try convert() }
                continue
            }
            let converted = try convert()
            #expect(converted.dense == definition.cells)
            let back = try converted.columnBounds(perColumn: perColumn, causal: example.causal)
            #expect(
                Definition.flashMask(back, perColumn: perColumn, causal: example.causal, queries: 10, keys: 10)
                    == definition)
        }
    }

    @Test(
        "two columns mean LTS, LTE with causal, LTS, UTE without; causal aligns bottom-right; bounds above Q are clipped"
    )
    func smallestBounds() throws {
        func rows(_ bounds: [Int32], _ perColumn: Int, _ causal: Bool, _ queries: Int, _ keys: Int) throws -> [UInt8] {
            try Visibility(
                columnBounds: bounds, perColumn: perColumn, causal: causal, batch: 1, queries: queries, keys: keys
            ).dense
        }
        #expect(try rows([1, 1], 2, true, 1, 1) == [1])
        #expect(try rows([1, 1], 2, false, 1, 1) == [0])
        #expect(try rows([1, 1], 1, true, 1, 2) == [1, 1])
        #expect(try rows([2, 0], 2, false, 1, 1) == [1])
        #expect(try rows([.max], 1, true, 1, 1) == [1])
        // FlashAttention's README, 2.1.
        #expect(try rows([2, 2, 2, 2, 2], 1, true, 2, 5) == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1])
        #expect(try rows([5, 5], 1, true, 5, 2) == [0, 0, 0, 0, 0, 0, 1, 0, 1, 1])
    }

    @Test(
        "FlashMask's bounds to masks, both orientations, Q and T apart; what is no interval is refused",
        arguments: forms)
    func fromBounds(form: (perColumn: Int, causal: Bool)) throws {
        var random = Random()
        var (converted, refused, clipped) = (0, 0, 0)
        for _ in 0..<400 {
            let (batch, queries, keys) = (1 + random.below(2), random.below(6), random.below(6))
            let bounds = (0..<batch * keys * form.perColumn).map { _ in Int32(random.below(queries + 3)) }
            if bounds.contains(where: { $0 > queries }) { clipped += 1 }
            let definitions = (0..<batch).map { b in
                Definition.flashMask(
                    Array(bounds[b * keys * form.perColumn..<(b + 1) * keys * form.perColumn]),
                    perColumn: form.perColumn, causal: form.causal, queries: queries, keys: keys)
            }
            for orientation in MaskOrientation.allCases {
                let offset = random.below(3)
                func convert() throws -> Visibility {
                    try Visibility(
                        columnBounds: bounds, perColumn: form.perColumn, causal: form.causal, orientation: orientation,
                        batch: batch, queries: queries, keys: keys, queryOffset: offset)
                }
                if definitions.allSatisfy({ $0.isIntervals(orientation) }) {
                    converted += 1
                    let mask = try convert()
                    #expect(
                        mask.dense == definitions.flatMap(\.cells), "\(bounds) Q \(queries) T \(keys) \(orientation)")
                    #expect(mask.queryOffset == offset)
                } else {
                    refused += 1
                    let error = #expect(throws: VisibilityBuildError.self) { try convert() }
                    guard case .notAnInterval(_, _, orientation)? = error else {
                        Issue.record("\(bounds) Q \(queries) T \(keys): \(String(describing: error))")
                        continue
                    }
                }
            }
        }
        #expect(converted > 100 && refused > 10 && clipped > 100, "\(converted) \(refused) \(clipped)")
    }

    @Test(
        "masks to FlashMask's bounds and back, every form; refused where no bounds express the mask", arguments: forms)
    func toBounds(form: (perColumn: Int, causal: Bool)) throws {
        var random = Random()
        var (converted, refused) = (0, 0)
        for number in 0..<400 {
            let (queries, keys) = (random.below(6), random.below(6))
            let orientation = MaskOrientation.allCases[number % 2]
            let offset = random.below(3)
            let length = orientation == .byQuery ? keys : offset + queries
            var (start, limit): ([Int32], [Int32]) = ([], [])
            for token in 0..<(orientation == .byQuery ? queries : keys) {
                // A third of the masks are causal, so that the causal forms express some of them.
                let last =
                    number % 3 == 0 && orientation == .byQuery ? max(0, min(keys, token + keys - queries + 1)) : length
                let first =
                    number % 3 == 0 && orientation == .byKey
                    ? min(length, offset + max(0, token - (keys - queries)))
                    : number % 3 == 0 ? 0 : random.below(length + 1)
                start.append(Int32(min(first, last)))
                limit.append(Int32(first >= last ? min(first, last) : first + random.below(last - first + 1)))
            }
            let visibility = try Visibility(
                orientation: orientation, batch: 1, queries: queries, keys: keys, start: start, limit: limit,
                queryOffset: offset,
                window: orientation == .byKey && number % 4 == 0 ? 1 + random.below(6) : nil)
            let definition = Definition(queries: queries, keys: keys) { i, j in
                visibility.isVisible(batch: 0, query: i, key: j)
            }
            if definition.isExpressible(perColumn: form.perColumn, causal: form.causal) {
                converted += 1
                let bounds = try visibility.columnBounds(perColumn: form.perColumn, causal: form.causal)
                #expect(bounds.count == keys * form.perColumn)
                #expect(
                    Definition.flashMask(
                        bounds, perColumn: form.perColumn, causal: form.causal, queries: queries, keys: keys)
                        == definition, "\(definition)")
                if definition.isIntervals(orientation) {
                    let back = try Visibility(
                        columnBounds: bounds, perColumn: form.perColumn, causal: form.causal, orientation: orientation,
                        batch: 1, queries: queries, keys: keys, queryOffset: offset)
                    #expect(back.dense == visibility.dense)
                }
            } else {
                refused += 1
                let error = #expect(throws: VisibilityBuildError.self) {
                    try visibility.columnBounds(perColumn: form.perColumn, causal: form.causal)
                }
                guard case .columnBounds? = error else {
                    Issue.record("\(definition): \(String(describing: error))")
                    continue
                }
            }
        }
        #expect(converted > 80, "\(converted) \(refused)")
        // Four bounds express every column of up to five rows but one of three masked runs, which is tested below.
        #expect(refused > 10 || form.perColumn == 4, "\(converted) \(refused)")
    }

    @Test("a column of three masked runs has no bounds")
    func threeRuns() throws {
        let rows: [[UInt8]] = [[0], [1], [0], [1], [0]]
        let stripes = try Visibility(
            dense: rows.flatMap { $0 }, orientation: .byQuery, batch: 1, queries: 5, keys: 1)
        #expect(throws: VisibilityBuildError.self) { try stripes.columnBounds(perColumn: 4, causal: false) }
        #expect(throws: VisibilityBuildError.self) { try stripes.columnBounds(perColumn: 2, causal: false) }
    }

    @Test("bounds and sizes that are none")
    func refusedBounds() {
        func convert(
            _ bounds: [Int32], _ perColumn: Int, _ causal: Bool, queries: Int = 1, keys: Int = 1, offset: Int = 0
        )
            throws
        {
            _ = try Visibility(
                columnBounds: bounds, perColumn: perColumn, causal: causal, batch: 1, queries: queries, keys: keys,
                queryOffset: offset)
        }
        for (perColumn, causal) in [(1, false), (4, true), (3, true), (3, false), (0, true), (-1, false)] {
            #expect(throws: VisibilityBuildError.boundsPerColumn(perColumn, causal: causal)) {
                try convert([Int32](repeating: 0, count: max(0, perColumn)), perColumn, causal)
            }
            #expect(throws: VisibilityBuildError.boundsPerColumn(perColumn, causal: causal)) {
                try Visibility(dense: [1], orientation: .byKey, batch: 1, queries: 1, keys: 1)
                    .columnBounds(perColumn: perColumn, causal: causal)
            }
        }
        #expect(throws: VisibilityBuildError.columnBounds(batch: 0, key: 1, "bound -1, expected 0 or more")) {
            try convert([1, 1, 1, -1], 2, false, keys: 2)
        }
        #expect(throws: VisibilityBuildError.count(name: "column bounds", 1, expected: 2)) { try convert([1], 2, true) }
        #expect(throws: VisibilityBuildError.size(name: "queries", -1)) { try convert([1], 1, true, queries: -1) }
        #expect(throws: VisibilityBuildError.size(name: "query offset", .max)) {
            try convert([1], 1, true, offset: .max)
        }
        #expect(throws: VisibilityBuildError.size(name: "query offset", .max)) {
            try Visibility(dense: [1], orientation: .byKey, batch: 1, queries: 1, keys: 1, queryOffset: .max)
        }
        #expect(throws: VisibilityBuildError.count(name: "mask", 0, expected: .max)) {
            try Visibility(dense: [], orientation: .byKey, batch: 1 << 31 - 1, queries: 1 << 31 - 1, keys: 1 << 31 - 1)
        }
    }

    // MARK: Dense masks

    @Test("dense masks, both orientations: intervals are converted and give the mask back, others refused")
    func dense() throws {
        var random = Random()
        var (converted, refused) = (0, 0)
        for _ in 0..<400 {
            let (queries, keys, offset) = (random.below(6), random.below(6), random.below(3))
            let definition = Definition(queries: queries, keys: keys) { _, _ in random.below(2) > 0 }
            for orientation in MaskOrientation.allCases {
                func convert() throws -> Visibility {
                    try Visibility(
                        dense: definition.cells, orientation: orientation, batch: 1, queries: queries, keys: keys,
                        queryOffset: offset)
                }
                if definition.isIntervals(orientation) {
                    converted += 1
                    #expect(try convert().dense == definition.cells)
                } else {
                    refused += 1
                    #expect(throws: VisibilityBuildError.self) { try convert() }
                }
            }
        }
        #expect(converted > 100 && refused > 100, "\(converted) \(refused)")
    }

    // MARK: FlashAttention

    @Test("FlashAttention's causal and window_size, Q and T apart: a window w is window_size w - 1")
    func flashAttention() throws {
        var random = Random()
        var compared = 0
        for _ in 0..<300 {
            let (queries, keys, window) = (1 + random.below(6), 1 + random.below(8), 1 + random.below(6))
            let causal = Definition.flashAttention(causal: true, queries: queries, keys: keys)
            let everything = [Int32](repeating: Int32(queries), count: keys)
            #expect(
                try Visibility(
                    columnBounds: everything, perColumn: 1, causal: true, batch: 1, queries: queries, keys: keys
                ).dense == causal.cells)
            #expect(
                try Visibility(
                    dense: causal.cells, orientation: .byKey, batch: 1, queries: queries, keys: keys
                ).columnBounds(perColumn: 1, causal: true).allSatisfy { $0 == queries })
            // Queries behind a cache: row 0 stands at T - Q.
            guard keys >= queries else { continue }
            let offset = keys - queries
            let intervals = try Visibility.byKey(lengths: [Int32(keys)])
            for (window, definition) in [
                (nil, causal),
                (window, .flashAttention(causal: true, window: (window - 1, -1), queries: queries, keys: keys)),
            ] as [(Int?, Definition)] {
                compared += 1
                #expect(
                    try mask(intervals, .byKey, queries: queries, keys: keys, offset: offset, window: window).dense
                        == definition.cells)
            }
        }
        #expect(compared > 200)
    }

    @Test("cumulative lengths of FlashAttention, empty documents among them, and back")
    func cumulativeLengths() throws {
        #expect(try Visibility.lengths(cumulative: [0, 3, 3, 5]) == [3, 2])
        #expect(try Visibility.lengths(cumulative: [0]) == [] && Visibility.lengths(cumulative: [0, 0]) == [])
        for wrong in [[], [1, 2], [0, 2, 1], [-1], [0, -1]] as [[Int32]] {
            #expect(throws: VisibilityBuildError.self) { try Visibility.lengths(cumulative: wrong) }
        }
        var random = Random()
        var withEmpty = 0
        for _ in 0..<200 {
            var cumulative: [Int32] = [0]
            for _ in 0..<random.below(6) { cumulative.append(cumulative.last! + Int32(random.below(4))) }
            let count = Int(cumulative.last!)
            let lengths = try Visibility.lengths(cumulative: cumulative)
            if lengths.count < cumulative.count - 1 { withEmpty += 1 }
            let rising = cumulative.enumerated().filter { $0 == 0 || cumulative[$0 - 1] < $1 }.map(\.element)
            let window = 1 + random.below(4)
            #expect(
                try mask(
                    Visibility.byQuery(.window, lengths: lengths, window: window), .byQuery, queries: count, keys: count
                ).dense == Definition.variableLength(cumulative, causal: true, window: window - 1).cells)
            for causal in [true, false] {
                let definition = Definition.variableLength(cumulative, causal: causal)
                for built in [
                    try mask(
                        Visibility.byQuery(causal ? .documents : .full, lengths: lengths), .byQuery, queries: count,
                        keys: count),
                    try mask(
                        Visibility.byKey(lengths: lengths, bidirectional: !causal), .byKey, queries: count, keys: count),
                    try Visibility(
                        dense: definition.cells, orientation: .byKey, batch: 1, queries: count, keys: count,
                        queryOffset: 3),
                ] {
                    #expect(built.dense == definition.cells)
                    #expect(try built.cumulativeLengths(bidirectional: !causal) == rising)
                    // Where every document has one token, causal and bidirectional are the same.
                    if rising.indices.dropFirst().contains(where: { rising[$0] > rising[$0 - 1] + 1 }) {
                        #expect(throws: VisibilityBuildError.self) {
                            try built.cumulativeLengths(bidirectional: causal)
                        }
                    }
                }
            }
        }
        #expect(withEmpty > 50)
        let cached = try mask(Visibility.byKey(lengths: [3]), .byKey, queries: 1, keys: 3, offset: 2)
        #expect(throws: VisibilityBuildError.self) { try cached.cumulativeLengths() }
        let windowed = try mask(Visibility.byKey(lengths: [3]), .byKey, queries: 3, keys: 3, window: 2)
        #expect(throws: VisibilityBuildError.self) { try windowed.cumulativeLengths() }
        // A window that hides nothing.
        #expect(
            try mask(Visibility.byKey(lengths: [3]), .byKey, queries: 3, keys: 3, window: 3).cumulativeLengths() == [
                0, 3,
            ])
    }

    // MARK: FlexAttention

    @Test("FlexAttention's examples: causal, sliding window w - 1, prefix LM, each alone and by documents")
    func flexAttention() throws {
        var random = Random()
        for _ in 0..<200 {
            var offsets: [Int32] = [0]
            for _ in 0..<1 + random.below(4) { offsets.append(offsets.last! + Int32(random.below(5))) }
            if random.below(4) == 0 { offsets = [0, Int32(1 + random.below(12))] }
            let (count, lengths) = (Int(offsets.last!), try Visibility.lengths(cumulative: offsets))
            let (window, prefix) = (1 + random.below(6), random.below(7))
            let prefixes = lengths.map { _ in Int32(prefix) }
            for (kind, mod) in [
                (.causal, Definition.flexCausal), (.documents, Definition.flexCausal),
                (.window, Definition.flexSlidingWindow(window - 1)), (.prefix, Definition.flexPrefix(prefix)),
                (.full, { _, _ in true }),
            ] as [(Visibility.Kind, Definition.MaskMod)] {
                let definition = Definition(
                    queries: count, keys: count, sees: Definition.flexDocuments(mod, offsets: offsets))
                let built = try mask(
                    Visibility.byQuery(kind, lengths: lengths, prefixes: prefixes, window: window), .byQuery,
                    queries: count, keys: count)
                #expect(built.dense == definition.cells, "\(kind) \(offsets) \(window) \(prefix)")
                #expect(
                    try Visibility(
                        dense: definition.cells, orientation: .byQuery, batch: 1, queries: count, keys: count
                    ).dense == definition.cells)
                // Prefixes and documents alike are one run of rows for each key.
                #expect(
                    try Visibility(
                        columnBounds: built.columnBounds(), perColumn: 2, causal: false, batch: 1, queries: count,
                        keys: count
                    ).dense == definition.cells)
            }
            // A window beside a by-key mask, and FlashMask's window_size, are the same lookback.
            let sliding = Definition(queries: count, keys: count, sees: Definition.flexSlidingWindow(window - 1))
            let all = count > 0 ? [Int32(count)] : []
            #expect(
                try mask(Visibility.byKey(lengths: all), .byKey, queries: count, keys: count, window: window).dense
                    == sliding.cells)
            let lts = Definition.flashMaskWindow(window - 1, count: count)
            #expect(
                try Visibility(columnBounds: lts, perColumn: 1, causal: true, batch: 1, queries: count, keys: count)
                    .dense
                    == sliding.cells)
            #expect(
                try mask(Visibility.byKey(lengths: all), .byKey, queries: count, keys: count, window: window)
                    .columnBounds(perColumn: 1, causal: true) == lts)
        }
    }
}
