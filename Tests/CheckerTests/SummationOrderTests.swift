import Cases
import Checker
import Goldens
import ModelSpec
import Testing

@Suite("The order of a sum, found by asking")
struct SummationOrderTests {
    /// Sums by a closure over one row's factors.
    struct Summing: Implementation {
        let name: String
        let sum: @Sendable ([Float]) -> Float

        func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
            let a = try #require(goldenCase.inputs["a"])
            let (rows, terms) = (a.shape[0], a.shape[1])
            let columns = try #require(goldenCase.inputs["b"]).shape[1]
            let values = try a.bf16Bits().map { Float(bitPattern: UInt32($0) << 16) }
            let sums = (0..<rows).map { sum(Array(values[$0 * terms..<($0 + 1) * terms])) }
            return [
                NamedTensor(
                    "d", Tensor(sums.flatMap { [Float](repeating: $0, count: columns) }, shape: [rows, columns]))
            ]
        }
    }

    private static let ascending: @Sendable ([Float]) -> Float = { $0.reduce(0, +) }

    @Test("the reference's own order is the specified one", arguments: DotRecipe.allCases)
    func specified(_ recipe: DotRecipe) async throws {
        struct Oracle: Implementation {
            let name = "reference"
            func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
                try OperationCatalog.evaluate(goldenCase).outputs
            }
        }
        let order = try await SummationOrder.probe(Oracle(), terms: 9, columns: 2, recipe: recipe)
        #expect(order.known.first == "as specified (\(recipe.rawValue))")
        #expect(order.tree?.depth == 8 && order.tree?.width == 2)
        #expect(!order.differsByColumn)
    }

    @Test("ascending: one chain")
    func chain() async throws {
        let order = try await SummationOrder.probe(Summing(name: "chain", sum: Self.ascending), terms: 12)
        #expect(order.known.contains("dot.order.ascending") && !order.known.contains("dot.order.pairwise"))
        #expect(order.text.contains("(0 1 2 3 4 5 6 7 8 9 10 11)"))
    }

    @Test("a tree that nobody has a name for")
    func unnamed() async throws {
        let implementation = Summing(name: "odd") { x in (x[4] + (x[0] + x[3])) + ((x[1] + x[5]) + x[2]) }
        let order = try await SummationOrder.probe(implementation, terms: 6)
        #expect(order.known.isEmpty)
        #expect(
            order.tree
                == .sum([
                    .sum([.sum([.term(0), .term(3)]), .term(4)]), .sum([.sum([.term(1), .term(5)]), .term(2)]),
                ]))
    }

    @Test("blocks of four exactly, then a chain of these: four terms at once")
    func wide() async throws {
        let implementation = Summing(name: "wide") { x in
            stride(from: 0, to: x.count, by: 4).reduce(Float(0)) { sum, start in
                // The carried sum and four terms in one wide accumulator, cut to what an aligned adder keeps.
                let terms = [sum] + x[start..<min(start + 4, x.count)]
                let largest = terms.map(\.magnitude).max() ?? 0
                let kept = terms.filter { largest < 0x1p40 || $0.magnitude > 1000 }
                return Float(kept.reduce(0.0) { $0 + Double($1) })
            }
        }
        let order = try await SummationOrder.probe(implementation, terms: 12)
        #expect(order.tree?.width == 5 && order.tree?.depth == 3)
    }

    @Test("a sum that loses nothing is one addition of all terms")
    func exact() async throws {
        let order = try await SummationOrder.probe(
            Summing(name: "exact") { x in Float(x.filter { $0.magnitude == 1 }.count) }, terms: 7)
        #expect(order.tree?.width == 7 && order.tree?.depth == 1)
    }

    @Test("what is no sum has no tree")
    func none() async throws {
        let order = try await SummationOrder.probe(Summing(name: "none") { $0[0] * 0.3 }, terms: 5)
        #expect(order.tree == nil && order.text.contains("no tree"))
    }

    /// Other sums in rows from 16 on, as kernels have them beyond the last whole tile.
    struct ByRow: Implementation {
        let name = "tiles of 16 rows"

        func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
            let a = try #require(goldenCase.inputs["a"])
            let (rows, terms) = (a.shape[0], a.shape[1])
            let columns = try #require(goldenCase.inputs["b"]).shape[1]
            let values = try a.bf16Bits().map { Float(bitPattern: UInt32($0) << 16) }
            let sums = (0..<rows).map { row -> Float in
                let terms = Array(values[row * terms..<(row + 1) * terms])
                return row < 16 ? terms.reduce(0, +) : terms.reversed().reduce(0, +)
            }
            return [
                NamedTensor(
                    "d", Tensor(sums.flatMap { [Float](repeating: $0, count: columns) }, shape: [rows, columns]))
            ]
        }
    }

    @Test("an order that depends on the row is found for each class of rows", arguments: [10, 70])
    func byRow(_ terms: Int) async throws {
        let order = try await SummationOrder.probe(ByRow(), terms: terms, recipe: .chainIEEE)
        #expect(order.differsByRow && !order.differsByColumn && order.groups.count == 2)
        #expect(order.groups[0].known.contains("dot.order.ascending"))
        #expect(order.groups[1].known.contains("dot.order.descending"))
        #expect(order.groups[1].elements.first?.row == 16 && order.groups[1].elements.first?.column == 0)
        #expect(order.text.contains("the order depends on the row"), "\(order.text)")
        #expect(order.text.contains("rows 0-15: ") && order.text.contains("rows 16-19: "), "\(order.text)")
    }

    /// Counts what it is asked.
    actor Counting: Implementation {
        nonisolated let name = "counting"
        let sum: @Sendable ([Float]) -> Float
        private(set) var asked = 0
        init(_ sum: @escaping @Sendable ([Float]) -> Float) { self.sum = sum }

        func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
            asked += 1
            return try await Summing(name: name, sum: sum).outputs(for: goldenCase)
        }
    }

    @Test(
        "of many terms few pairs are asked, and the tree is the same",
        arguments: ["ascending", "descending", "pairwise", "blocks-16", "lanes-8"])
    func manyTerms(_ name: String) async throws {
        let implementation = Counting { x in
            switch name {
            case "ascending": return x.reduce(0, +)
            case "descending": return x.reversed().reduce(0, +)
            case "pairwise":
                var x = x
                while x.count > 1 {
                    x = stride(from: 0, to: x.count, by: 2).map { $0 + 1 < x.count ? x[$0] + x[$0 + 1] : x[$0] }
                }
                return x[0]
            case "blocks-16":
                return stride(from: 0, to: x.count, by: 16).reduce(Float(0)) {
                    $0 + x[$1..<min($1 + 16, x.count)].reduce(0, +)
                }
            default:
                var lanes = [Float](repeating: 0, count: 8)
                for (index, value) in x.enumerated() { lanes[index % 8] += value }
                return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
            }
        }
        let order = try await SummationOrder.probe(implementation, terms: 130, rows: 2, columns: 2)
        #expect(order.known.contains("dot.order.\(name)"), "\(order.text)")
        #expect(order.tree?.count == 130 && order.groups.count == 1)
        #expect(await implementation.asked < 130 * 129 / 4)
    }

    @Test("an implementation without dot.gemm, or with another shape, is refused")
    func refused() async throws {
        struct Nothing: Implementation {
            let name = "nothing"
            let answer: TensorGroup?
            func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? { answer }
        }
        await #expect(throws: JudgingError.self) { try await SummationOrder.probe(Nothing(answer: nil), terms: 4) }
        await #expect(throws: JudgingError.self) {
            try await SummationOrder.probe(
                Nothing(answer: [NamedTensor("d", Tensor([Float(1)], shape: [1]))]), terms: 4)
        }
    }
}
