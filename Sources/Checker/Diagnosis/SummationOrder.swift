import GoldenIO
import Goldens
import JSON
import ModelSpec

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

    /// The tree; nil if the answers are those of no tree.
    public let tree: Node?
    public let terms: Int
    /// Orders of ``DeviationCatalog`` that give the same answers: "as specified (paired-ftz)", "dot.order.pairwise".
    public let known: [String]
    /// Whether the columns of the product were not all summed in one order.
    public let differsByColumn: Bool

    /// Asks an implementation of `dot.gemm`.
    ///
    /// - Parameters:
    ///   - terms: K, 2 ... 256: results are counts up to K, which bf16 accumulators still hold.
    ///   - columns: N, so that a kernel's usual path is taken.
    /// - Throws: ``JudgingError`` if it does not have the operation or gives another shape; what the implementation throws.
    public static func probe(
        _ implementation: any Implementation, terms: Int, columns: Int = 16, recipe: DotRecipe = .pairedFTZ
    ) async throws -> SummationOrder {
        precondition((2...256).contains(terms) && columns >= 1)
        let pairs = pairs(terms)
        let question = question(pairs, terms, columns, recipe)
        guard let outputs = try await implementation.outputs(for: question) else {
            throw JudgingError.nothingToJudge("'\(implementation.name)' does not have dot.gemm")
        }
        guard let d = outputs["d"], d.type == .fp32, d.shape == [pairs.count, columns] else {
            throw JudgingError.nothingToJudge(
                "'\(implementation.name)' answered dot.gemm with another shape than fp32 [\(pairs.count), \(columns)]")
        }
        let values = try d.floats()
        let survivors = (0..<pairs.count).map { values[$0 * columns] }
        let differs = (0..<pairs.count).contains { row in
            (1..<max(1, columns)).contains { values[row * columns + $0] != survivors[row] }
        }
        // Known orders answer the same question.
        var known: [String] = []
        for (name, order) in [("as specified (\(recipe.rawValue))", SumVariant(recipe).order)]
            + SumVariant.orders.map({ ("dot.order.\($0.name)", $0.order) })
        {
            let variant = SumVariant(order: order)
            let isSame = zip(pairs, survivors).allSatisfy { pair, got in
                variant.sum(row(pair, terms).map { (x: $0, y: Float(1)) }) == got
            }
            if isSame { known.append(name) }
        }
        return SummationOrder(
            tree: tree(survivors, terms), terms: terms, known: known, differsByColumn: differs)
    }

    // MARK: The question

    private static func pairs(_ terms: Int) -> [(Int, Int)] {
        (0..<terms).flatMap { i in (i + 1..<max(i + 1, terms)).map { (i, $0) } }
    }

    private static func row(_ pair: (Int, Int), _ terms: Int) -> [Float] {
        (0..<terms).map { $0 == pair.0 ? 0x1p60 : $0 == pair.1 ? -0x1p60 : 1 }
    }

    static func question(_ pairs: [(Int, Int)], _ terms: Int, _ columns: Int, _ recipe: DotRecipe) -> GoldenCase {
        func bits(_ x: Float) -> UInt16 { UInt16(x.bitPattern >> 16) }
        var question = GoldenCase(
            name: "probe-of-the-order", op: "dot.gemm", why: "powers that cancel, and ones that are lost between them",
            recipe: ["dot": .string(recipe.rawValue)])
        question.inputs = [
            NamedTensor(
                "a", Tensor(bf16: pairs.flatMap { row($0, terms).map(bits) }, shape: [pairs.count, terms])),
            NamedTensor(
                "b", Tensor(bf16: [UInt16](repeating: bits(1), count: terms * columns), shape: [terms, columns])),
        ]
        return question
    }

    // MARK: The tree

    /// The tree whose smallest parts around each pair have the sizes that the counts say; nil if there is none.
    private static func tree(_ survivors: [Float], _ terms: Int) -> Node? {
        var sizes = [[Int]](repeating: [Int](repeating: 0, count: terms), count: terms)
        for ((i, j), value) in zip(pairs(terms), survivors) {
            guard value >= 0, value <= Float(terms - 2), value == value.rounded() else { return nil }
            sizes[i][j] = terms - Int(value)
            sizes[j][i] = sizes[i][j]
        }
        // Nothing was ever lost: all terms at once, exactly.
        if terms > 2, survivors.allSatisfy({ $0 == Float(terms - 2) }) { return .sum((0..<terms).map { .term($0) }) }
        return part(Array(0..<terms), sizes).flatMap { $0.count == terms ? $0 : nil }
    }

    private static func part(_ members: [Int], _ sizes: [[Int]]) -> Node? {
        guard let first = members.first else { return nil }
        var node = Node.term(first)
        let rest = Dictionary(grouping: members.dropFirst()) { sizes[first][$0] }
        for size in rest.keys.sorted() {
            // Those in one smaller part together are one child.
            var children: [[Int]] = []
            for member in rest[size] ?? [] {
                if let place = children.firstIndex(where: { sizes[$0[0]][member] < size }) {
                    children[place].append(member)
                } else {
                    children.append([member])
                }
            }
            var nodes = [node]
            for child in children {
                guard let built = part(child, sizes) else { return nil }
                nodes.append(built)
            }
            node = .sum(nodes)
            guard node.count == size else { return nil }
        }
        return node
    }

    // MARK: Text

    /// The order in words and, where it is not too large, as parentheses.
    public var text: String {
        var lines: [String] = []
        guard let tree else {
            return
                "the sum of \(terms) terms is no tree of additions: the order depends on the values, or terms are lost otherwise\n"
        }
        lines.append(
            "\(terms) terms: \(tree.depth) additions deep\(tree.width > 2 ? ", up to \(tree.width) terms at once" : "")"
        )
        if known.isEmpty { lines.append("no known order") }
        for name in known { lines.append("the order is that of \(name)") }
        if differsByColumn { lines.append("not every column is summed in this order") }
        let drawn = Self.draw(tree)
        lines.append("  " + (drawn.count > 400 ? String(drawn.prefix(400)) + " ..." : drawn))
        return lines.joined(separator: "\n") + "\n"
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
