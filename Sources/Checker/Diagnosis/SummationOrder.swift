import Cases
import Goldens
import JSON
import ModelSpec
import Platform

/// The order in which an implementation adds the terms of a dot product, found by asking it (the idea of FPRev, Xie et al. 2024).
///
/// Term i is 2^60, term j is -2^60, every other term is 1. A one that is added while 2^60 stands alone is lost; those added elsewhere survive. So the result is
/// the number of terms outside the smallest part of the sum that holds both i and j, and all pairs together give the tree of additions.
public struct SummationOrder: Sendable, Hashable {
    /// A tree of additions.
    public indirect enum Node: Sendable, Hashable {
        case term(Int)
        /// Two or more parts; more than two are added at once, in a wider accumulator.
        case sum([Node])

        /// How many terms it holds.
        public var count: Int {
            switch self {
            case .term: 1
            case .sum(let parts): parts.reduce(0) { $0 + $1.count }
            }
        }

        /// The first of its terms.
        fileprivate var least: Int {
            switch self {
            case .term(let index): index
            case .sum(let parts): parts.map(\.least).min() ?? 0
            }
        }

        /// The longest way from a term to the result, in additions.
        public var depth: Int {
            switch self {
            case .term: 0
            case .sum(let parts): 1 + (parts.map(\.depth).max() ?? 0)
            }
        }

        /// The most parts that are added at once.
        public var width: Int {
            switch self {
            case .term: 1
            case .sum(let parts): max(parts.count, parts.map(\.width).max() ?? 0)
            }
        }
    }

    /// Elements of the product whose terms are added alike.
    public struct Group: Sendable, Hashable {
        /// Row and column of each.
        public let elements: [Element]
        /// The tree; nil if the answers are those of no tree.
        public let tree: Node?
        /// Orders of ``DeviationCatalog`` that give the same answers: "as specified (paired-ftz)", "dot.order.pairwise".
        public let known: [String]
    }

    public struct Element: Sendable, Hashable {
        public let row: Int
        public let column: Int
    }

    public let recipe: DotRecipe
    public let terms: Int
    /// Of the product that was asked for.
    public let rows: Int
    public let columns: Int
    /// That of the first element first.
    public let groups: [Group]

    /// Of the first element.
    public var tree: Node? { groups.first?.tree }
    public var known: [String] { groups.first?.known ?? [] }

    /// Whether elements of one column are not all summed in one order.
    public var differsByRow: Bool { depends { $0.column } }
    /// Whether elements of one row are not all summed in one order.
    public var differsByColumn: Bool { depends { $0.row } }

    /// Whether two groups have elements of one line.
    private func depends(_ line: (Element) -> Int) -> Bool {
        var owner: [Int: Int] = [:]
        for (index, group) in groups.enumerated() {
            for element in group.elements {
                if let known = owner[line(element)], known != index { return true }
                owner[line(element)] = index
            }
        }
        return false
    }

    /// Whether another probe found the same trees at the same places.
    public func isSame(as other: SummationOrder) -> Bool {
        terms == other.terms && groups.map(\.elements) == other.groups.map(\.elements)
            && groups.map(\.tree) == other.groups.map(\.tree)
    }

    /// Of more terms not every pair is asked, only those that the tree turns on.
    private static let mostTermsAskedInFull = 64

    /// Asks an implementation of `dot.gemm`.
    ///
    /// Every question has the same two powers in every row, so that each element of the product tells its own order: kernels sum the rows and columns that do
    /// not fill a tile in another way.
    ///
    /// - Parameters:
    ///   - terms: K, 2 ... 256: results are counts up to K, which bf16 accumulators still hold.
    ///   - rows: M; not a multiple of usual tiles, so that whole tiles and the rest are seen.
    ///   - columns: N, likewise.
    /// - Throws: ``JudgingError`` if it does not have the operation or gives another shape; `Interrupted`; what the implementation throws.
    public static func probe(
        _ implementation: any Implementation, terms: Int, rows: Int = 20, columns: Int = 18,
        recipe: DotRecipe = .pairedFTZ
    ) async throws -> SummationOrder {
        precondition((2...256).contains(terms) && rows >= 1 && columns >= 1)
        var answers: [Pair: [Float]] = [:]
        var groups: [(elements: [Int], tree: Node?)] = []
        var needed: [Pair] = []
        for i in 0..<terms - 1 {
            for j in i + 1..<terms where terms <= mostTermsAskedInFull || i == 0 || j == terms - 1 {
                needed.append(Pair(i, j))
            }
        }
        while !needed.isEmpty {
            // A command reads them from one file, which is not to grow without end.
            for start in stride(from: 0, to: needed.count, by: 2048) {
                try Interruption.check()
                let pairs = Array(needed[start..<min(start + 2048, needed.count)])
                let values = try await ask(implementation, pairs, terms, rows, columns, recipe)
                for (pair, value) in zip(pairs, values) { answers[pair] = value }
            }
            let pairs = answers.keys.sorted()
            let alike = Dictionary(grouping: 0..<rows * columns) { element in
                pairs.map { answers[$0]?[element].bitPattern ?? 0 }
            }
            var missing: Set<Pair> = []
            groups = alike.values.sorted { $0[0] < $1[0] }.map { elements in
                var builder = TreeBuilder(terms: terms, survivors: answers.mapValues { $0[elements[0]] })
                let tree = builder.tree()
                missing.formUnion(builder.missing)
                return (elements, tree)
            }
            needed = missing.sorted()
        }
        // Known orders answer the same questions.
        let pairs = answers.keys.sorted()
        let orders =
            [("as specified (\(recipe.rawValue))", SumVariant(recipe).order)]
            + SumVariant.orders.map { ("dot.order.\($0.name)", $0.order) }
        return SummationOrder(
            recipe: recipe, terms: terms, rows: rows, columns: columns,
            groups: groups.map { elements, tree in
                Group(
                    elements: elements.map { Element(row: $0 / columns, column: $0 % columns) }, tree: tree,
                    known: orders.filter { _, order in
                        let variant = SumVariant(order: order)
                        return pairs.allSatisfy { pair in
                            variant.sum(row(pair, terms).map { (x: $0, y: Float(1)) }) == answers[pair]?[elements[0]]
                        }
                    }.map(\.0))
            })
    }

    // MARK: The question

    /// Two terms, the earlier first.
    fileprivate struct Pair: Hashable, Comparable {
        let i: Int
        let j: Int

        init(_ a: Int, _ b: Int) { (i, j) = (min(a, b), max(a, b)) }

        static func < (a: Pair, b: Pair) -> Bool { (a.i, a.j) < (b.i, b.j) }
    }

    private static func row(_ pair: Pair, _ terms: Int) -> [Float] {
        (0..<terms).map { $0 == pair.i ? 0x1p60 : $0 == pair.j ? -0x1p60 : 1 }
    }

    /// Each answer's elements.
    private static func ask(
        _ implementation: any Implementation, _ pairs: [Pair], _ terms: Int, _ rows: Int, _ columns: Int,
        _ recipe: DotRecipe
    ) async throws -> [[Float]] {
        let questions = pairs.enumerated().map { question($1, $0, terms, rows, columns, recipe) }
        return try await implementation.outputs(forAll: questions).map { outputs in
            guard let outputs else {
                throw JudgingError.nothingToJudge(
                    "'\(implementation.name)' does not have dot.gemm (\(recipe.rawValue))")
            }
            guard let d = outputs["d"], d.type == .fp32, d.shape == [rows, columns] else {
                throw JudgingError.nothingToJudge(
                    "'\(implementation.name)' answered dot.gemm with another shape than fp32 [\(rows), \(columns)]")
            }
            return try d.floats()
        }
    }

    private static func question(
        _ pair: Pair, _ number: Int, _ terms: Int, _ rows: Int, _ columns: Int, _ recipe: DotRecipe
    ) -> GoldenCase {
        func bits(_ x: Float) -> UInt16 { UInt16(x.bitPattern >> 16) }
        var question = GoldenCase(
            name: "probe-of-the-order-\(number)", op: "dot.gemm",
            why: "powers that cancel, and ones that are lost between them",
            recipe: ["dot": .string(recipe.rawValue)])
        let row = row(pair, terms).map(bits)
        question.inputs = [
            NamedTensor("a", Tensor(bf16: (0..<rows).flatMap { _ in row }, shape: [rows, terms])),
            NamedTensor(
                "b", Tensor(bf16: [UInt16](repeating: bits(1), count: terms * columns), shape: [terms, columns])),
        ]
        return question
    }

    // MARK: The tree

    /// The tree whose smallest parts around each pair have the sizes that the counts say; says which pairs it would have to know.
    private struct TreeBuilder {
        let terms: Int
        let survivors: [Pair: Float]
        private(set) var missing: Set<Pair> = []

        init(terms: Int, survivors: [Pair: Float]) {
            self.terms = terms
            self.survivors = survivors
        }

        /// nil if there is none, or if pairs are missing.
        mutating func tree() -> Node? {
            for value in survivors.values {
                guard value >= 0, value <= Float(terms - 2), value == value.rounded() else { return nil }
            }
            // Nothing was ever lost: all terms at once, exactly.
            if terms > 2, survivors.values.allSatisfy({ $0 == Float(terms - 2) }) {
                return .sum((0..<terms).map { .term($0) })
            }
            guard let tree = part(Array(0..<terms)), missing.isEmpty, tree.count == terms else { return nil }
            var isRight = true
            _ = leaves(tree) { a, b, size in
                if let known = survivors[Pair(a, b)], terms - Int(known) != size { isRight = false }
            }
            return isRight ? tree : nil
        }

        private mutating func size(_ a: Int, _ b: Int) -> Int? {
            guard let value = survivors[Pair(a, b)] else {
                missing.insert(Pair(a, b))
                return nil
            }
            return terms - Int(value)
        }

        private mutating func part(_ members: [Int]) -> Node? {
            guard let first = members.first, let last = members.last else { return nil }
            if members.count == 1 { return .term(first) }
            // From an end of the chain, if it is one, everything is told apart at once.
            var (fromFirst, fromLast) = ([Int: [Int]](), [Int: [Int]]())
            for member in members {
                if member != first, let size = size(first, member) { fromFirst[size, default: []].append(member) }
                if member != last, let size = size(last, member) { fromLast[size, default: []].append(member) }
            }
            guard missing.isEmpty else { return nil }
            let usesLast = fromLast.count > fromFirst.count
            let rest = usesLast ? fromLast : fromFirst
            var node = Node.term(usesLast ? last : first)
            var isBuilt = true
            for size in rest.keys.sorted() {
                // Those in one smaller part together are one child.
                var children: [[Int]] = []
                for member in rest[size] ?? [] {
                    var place: Int?
                    for (index, child) in children.enumerated() where place == nil {
                        guard let joint = self.size(child[0], member) else { continue }
                        if joint < size { place = index }
                    }
                    if let place { children[place].append(member) } else { children.append([member]) }
                }
                var nodes = [node]
                // All are gone into, so that all the missing pairs are asked at once.
                for child in children {
                    if let built = part(child) { nodes.append(built) } else { isBuilt = false }
                }
                guard isBuilt else { continue }
                node = .sum(nodes.sorted { $0.least < $1.least })
                isBuilt = node.count == size
            }
            return isBuilt && missing.isEmpty ? node : nil
        }

        /// The terms of a part; calls for each two of them with the size of the smallest part that holds both.
        private func leaves(_ node: Node, _ joined: (Int, Int, Int) -> Void) -> [Int] {
            guard case .sum(let parts) = node else {
                if case .term(let index) = node { return [index] }
                return []
            }
            let size = node.count
            var all: [Int] = []
            for part in parts {
                let more = leaves(part, joined)
                for a in all { for b in more { joined(a, b, size) } }
                all += more
            }
            return all
        }
    }

    // MARK: Text

    /// The order in words and, where it is not too large, as parentheses; one paragraph for each group of elements.
    public var text: String {
        var lines: [String] = []
        let head = "\(recipe.rawValue), \(terms) terms"
        if groups.count == 1, let only = groups.first {
            let (depth, rest) = words(only)
            lines.append("\(head): \(depth)")
            lines += rest
        } else {
            let what =
                switch (differsByRow, differsByColumn) {
                case (true, false): "row"
                case (false, true): "column"
                default: "element"
                }
            lines.append("\(head), a product of \(rows) x \(columns): the order depends on the \(what)")
            for group in groups.prefix(12) {
                let (depth, rest) = words(group)
                lines.append("\(place(group)): \(depth)")
                lines += rest.map { "  " + $0 }
            }
            if groups.count > 12 { lines.append("and \(groups.count - 12) more orders") }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func words(_ group: Group) -> (depth: String, rest: [String]) {
        guard let tree = group.tree else {
            return ("no tree of additions: the order depends on the values, or terms are lost otherwise", [])
        }
        var lines: [String] = []
        if group.known.isEmpty { lines.append("no known order") }
        if let name = group.known.first {
            lines.append("the order is \(name.hasPrefix("as ") ? name : "that of \(name)")")
        }
        if group.known.count > 1 {
            lines.append("the same at so many terms: \(group.known.dropFirst().joined(separator: ", "))")
        }
        let drawn = Self.draw(tree)
        lines.append("  " + (drawn.count > 400 ? String(drawn.prefix(400)) + " ..." : drawn))
        return (
            "\(counted(tree.depth, "addition")) deep\(tree.width > 2 ? ", up to \(tree.width) terms at once" : "")",
            lines
        )
    }

    /// "rows 0-15", "rows 16-19 in columns 0-15; rows 0-3 in columns 16-17", "57 elements, the first at [0, 3]".
    private func place(_ group: Group) -> String {
        func list(_ noun: String, _ numbers: [Int]) -> String {
            "\(noun)\(numbers.count == 1 ? "" : "s") \(Self.ranges(numbers))"
        }
        // Rows with elements in the same columns stand together.
        let byRow = Dictionary(grouping: group.elements, by: \.row).mapValues { $0.map(\.column) }
        let parts = Dictionary(grouping: byRow.keys.sorted()) { byRow[$0] ?? [] }.sorted { $0.value[0] < $1.value[0] }
        guard parts.count <= 4, let first = parts.first else {
            let first = group.elements[0]
            return "\(counted(group.elements.count, "element")), the first at [\(first.row), \(first.column)]"
        }
        if parts.count == 1, first.value.count == rows { return list("column", first.key) }
        return parts.map { part in
            list("row", part.value) + (part.key.count == columns ? "" : " in \(list("column", part.key))")
        }.joined(separator: "; ")
    }

    /// "0-15, 18".
    private static func ranges(_ numbers: [Int]) -> String {
        var all: [ClosedRange<Int>] = []
        for number in numbers {
            if let last = all.last, last.upperBound + 1 == number {
                all[all.count - 1] = last.lowerBound...number
            } else {
                all.append(number...number)
            }
        }
        return all.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            .joined(separator: ", ")
    }

    public var json: JSONValue {
        .object([
            "recipe": .string(recipe.rawValue), "terms": .integer(Int64(terms)), "rows": .integer(Int64(rows)),
            "columns": .integer(Int64(columns)), "differs_by_row": .bool(differsByRow),
            "differs_by_column": .bool(differsByColumn),
            "groups": .array(
                groups.map { group in
                    .object([
                        "elements": .array(
                            group.elements.map { .array([.integer(Int64($0.row)), .integer(Int64($0.column))]) }),
                        "tree": group.tree.map { .string(Self.draw($0)) } ?? .null,
                        "depth": group.tree.map { .integer(Int64($0.depth)) } ?? .null,
                        "width": group.tree.map { .integer(Int64($0.width)) } ?? .null,
                        "known": .array(group.known.map(JSONValue.string)),
                    ])
                }),
        ])
    }

    /// "((0 1) (2 3))"; a chain of single terms stands in one pair of parentheses: "(0 1 2 3)".
    static func draw(_ node: Node) -> String {
        switch node {
        case .term(let index): return "\(index)"
        case .sum(let parts):
            if parts.count == 2, case .term(let index) = parts[1], case .sum(let inner) = parts[0], inner.count == 2 {
                return String(draw(parts[0]).dropLast()) + " \(index))"
            }
            let inside = parts.map(draw).joined(separator: parts.count > 2 ? " + " : " ")
            return "(\(inside))"
        }
    }
}
