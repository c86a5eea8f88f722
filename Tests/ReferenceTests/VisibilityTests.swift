import ExactMath
import ModelSpec
import Reference
import Testing

@Suite("V: visibility masks")
struct VisibilityTests {
    /// Documents of random lengths and a random forest, by Philox.
    private struct Random {
        var stream = RandomStream(seed: 11, stream: 5, step: 0)
        var next: UInt64 = 0

        mutating func below(_ bound: Int) -> Int {
            next += 1
            return Int(stream.word(next) % UInt32(bound))
        }

        mutating func tree(nodes: Int) -> (parents: [Int32], lengths: [Int32]) {
            var path: [Int32] = []
            var parents: [Int32] = []
            for node in 0..<nodes {
                path.removeLast(below(path.count + 1))
                parents.append(path.last ?? -1)
                path.append(Int32(node))
            }
            return (parents, (0..<nodes).map { _ in Int32(below(4) + 1) })
        }
    }

    /// The document of each token.
    private func owners(_ lengths: [Int32]) -> [Int] {
        lengths.enumerated().flatMap { [Int](repeating: $0, count: Int($1)) }
    }

    @Test("V2: every kind, by membership of documents instead of intervals", arguments: Visibility.Kind.allCases)
    func kinds(kind: Visibility.Kind) throws {
        var random = Random()
        for _ in 0..<20 {
            let lengths = (0..<random.below(6) + 1).map { _ in Int32(random.below(9) + 1) }
            let prefixes = lengths.map { _ in Int32(random.below(12)) }
            let window = random.below(6) + 1
            let intervals = try Visibility.byQuery(kind, lengths: lengths, prefixes: prefixes, window: window)
            let owner = owners(lengths)
            for i in owner.indices {
                for j in owner.indices {
                    let first = owner.firstIndex(of: owner[j])!
                    let expected: Bool =
                        switch kind {
                        case .causal, .documents: owner[i] == owner[j] && j <= i
                        case .full: owner[i] == owner[j]
                        case .prefix: owner[i] == owner[j] && (j <= i || j - first < prefixes[owner[j]])
                        case .window: owner[i] == owner[j] && j <= i && i - j < window
                        }
                    #expect(
                        (intervals.start[i] <= j && j < intervals.limit[i]) == expected, "\(kind) \(lengths) \(i) \(j)")
                }
            }
        }
    }

    @Test("V1, V2: documents by key are documents by query")
    func orientations() throws {
        let lengths: [Int32] = [3, 1, 5]
        for bidirectional in [false, true] {
            let key = try Visibility.byKey(lengths: lengths, bidirectional: bidirectional)
            let query = try Visibility.byQuery(bidirectional ? .full : .causal, lengths: lengths)
            let a = try Visibility(
                orientation: .byKey, batch: 1, queries: 9, keys: 9, start: key.start, limit: key.limit)
            let b = try Visibility(
                orientation: .byQuery, batch: 1, queries: 9, keys: 9, start: query.start, limit: query.limit)
            #expect(a.dense == b.dense)
        }
    }

    @Test("V2: trees, by walking from each token's node to the root")
    func trees() throws {
        var random = Random()
        for _ in 0..<40 {
            let (parents, lengths) = random.tree(nodes: random.below(12) + 1)
            let tree = try Visibility.tree(parents: parents, lengths: lengths)
            let owner = owners(lengths)
            func ancestors(_ node: Int) -> [Int] {
                var list = [node]
                while parents[list.last!] >= 0 { list.append(Int(parents[list.last!])) }
                return list
            }
            for i in owner.indices {
                let path = ancestors(owner[i])
                #expect(
                    Int(tree.positions[i])
                        == path.dropFirst().reduce(0) { $0 + Int(lengths[$1]) } + i - owner.firstIndex(of: owner[i])!)
                for j in owner.indices {
                    let expected = j <= i && path.contains(owner[j])
                    #expect((tree.start[j] <= i && i < tree.limit[j]) == expected, "\(parents) \(lengths) \(i) \(j)")
                }
            }
        }
    }

    @Test("V2: drafts see the cache and their own branch")
    func drafts() throws {
        let drafts = try Visibility.drafts(cached: 3, parents: [-1, 0, 0], lengths: [1, 2, 1])
        #expect(drafts.positions == [0, 1, 2, 3, 4, 5, 4])
        let mask = try Visibility(
            orientation: .byKey, batch: 1, queries: 4, keys: 7, start: drafts.start, limit: drafts.limit, queryOffset: 3
        )
        #expect(
            mask.dense == [
                1, 1, 1, 1, 0, 0, 0,  //
                1, 1, 1, 1, 1, 0, 0,  //
                1, 1, 1, 1, 1, 1, 0,  //
                1, 1, 1, 1, 0, 0, 1,
            ])
    }

    @Test("V3: dense masks and back, every interval mask of a small size")
    func dense() throws {
        for orientation in MaskOrientation.allCases {
            for offset in [0, 2] where orientation == .byKey || offset == 0 {
                let length = orientation == .byQuery ? 3 : offset + 2
                for first in 0...length {
                    for last in first...length {
                        let count = orientation == .byQuery ? 2 : 3
                        let mask = try Visibility(
                            orientation: orientation, batch: 1, queries: 2, keys: 3,
                            start: [Int32](repeating: Int32(first), count: count),
                            limit: [Int32](repeating: Int32(last), count: count), queryOffset: offset)
                        let back = try Visibility(
                            dense: mask.dense, orientation: orientation, batch: 1, queries: 2, keys: 3,
                            queryOffset: offset)
                        #expect(back.dense == mask.dense)
                    }
                }
            }
        }
        #expect(throws: VisibilityBuildError.notAnInterval(batch: 0, token: 1, .byQuery)) {
            try Visibility(dense: [1, 1, 1, 1, 0, 1], orientation: .byQuery, batch: 1, queries: 2, keys: 3)
        }
        #expect(throws: VisibilityBuildError.notAnInterval(batch: 0, token: 2, .byKey)) {
            try Visibility(dense: [1, 1, 1, 0, 1, 0, 0, 0, 1], orientation: .byKey, batch: 1, queries: 3, keys: 3)
        }
    }

    @Test("V2: lists that are no documents and no tree are errors that name the entry")
    func refusals() {
        #expect(throws: VisibilityBuildError.length(index: 1, 0)) { try Visibility.byQuery(.causal, lengths: [2, 0]) }
        #expect(throws: VisibilityBuildError.window(0)) { try Visibility.byQuery(.window, lengths: [2], window: 0) }
        #expect(throws: VisibilityBuildError.prefix(document: 0, -1)) {
            try Visibility.byQuery(.prefix, lengths: [2], prefixes: [-1])
        }
        #expect(throws: VisibilityBuildError.count(name: "prefix", 0, expected: 1)) {
            try Visibility.byQuery(.prefix, lengths: [2])
        }
        #expect(throws: VisibilityBuildError.tooLong(4_294_967_294)) { try Visibility.byKey(lengths: [.max, .max]) }
        #expect(throws: VisibilityBuildError.parent(node: 0, 0)) { try Visibility.tree(parents: [0], lengths: [1]) }
        #expect(throws: VisibilityBuildError.parent(node: 1, 2)) {
            try Visibility.tree(parents: [-1, 2, 1], lengths: [1, 1, 1])
        }
        #expect(throws: VisibilityBuildError.notDepthFirst(node: 3, parent: 1)) {
            try Visibility.tree(parents: [-1, 0, 0, 1], lengths: [1, 1, 1, 1])
        }
        #expect(throws: VisibilityBuildError.self) { try Visibility.tree(parents: [-1], lengths: []) }
        #expect(throws: VisibilityBuildError.cached(-1)) {
            try Visibility.drafts(cached: -1, parents: [-1], lengths: [1])
        }
    }

    @Test("V4: an interval that is not valid is an error that names batch, token and value")
    func invalid() {
        func mask(_ orientation: MaskOrientation, _ start: [Int32], _ limit: [Int32], window: Int? = nil) throws {
            _ = try Visibility(
                orientation: orientation, batch: 2, queries: 1, keys: 2, start: start, limit: limit, queryOffset: 3,
                window: window)
        }
        #expect(throws: VisibilityError.interval(batch: 1, token: 0, start: 0, limit: 3, length: 2)) {
            try mask(.byQuery, [0, 0], [2, 3])
        }
        #expect(throws: VisibilityError.interval(batch: 0, token: 1, start: 2, limit: 1, length: 4)) {
            try mask(.byKey, [0, 2, 0, 0], [4, 1, 0, 0])
        }
        #expect(throws: VisibilityError.interval(batch: 0, token: 0, start: -1, limit: 1, length: 4)) {
            try mask(.byKey, [-1, 0, 0, 0], [1, 0, 0, 0])
        }
        #expect(throws: VisibilityError.count(start: 1, limit: 2, expected: 2)) { try mask(.byQuery, [0], [0, 0]) }
        #expect(throws: VisibilityError.windowByQuery(2)) { try mask(.byQuery, [0, 0], [0, 0], window: 2) }
        #expect(throws: VisibilityError.window(0)) { try mask(.byKey, [0, 0, 0, 0], [0, 0, 0, 0], window: 0) }
    }
}
