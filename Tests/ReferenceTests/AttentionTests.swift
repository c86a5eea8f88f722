import BFloat16
import ExactMath
import Foundation
import ModelSpec
import Reference
import Testing

/// Random tensors of one attention.
private struct Setup {
    let shape: Attention.Shape
    let query: [BFloat16]
    let key: [BFloat16]
    let value: [BFloat16]
    let slope: [BFloat16]

    init(_ shape: Attention.Shape, seed: UInt64 = 3, magnitude: Float = 1) {
        self.shape = shape
        let stream = RandomStream(seed: seed, stream: 9, step: 0)
        var draw: UInt64 = 0
        func tensor(_ count: Int, _ scale: Float) -> [BFloat16] {
            (0..<count).map { _ in
                draw += 2
                let x = RandomDistributions.normal(stream.word(draw), stream.word(draw + 1)).0 * scale
                return BFloat16(bitPattern: SoftFloat32.roundToBFloat16(x))
            }
        }
        let queries = shape.batch * shape.heads * shape.queries * shape.headDimension
        let keys = shape.batch * shape.keyValueHeads * shape.keys * shape.headDimension
        query = tensor(queries, magnitude)
        key = tensor(keys, 1)
        value = tensor(keys, 1)
        slope = tensor(queries, 1)
    }

    func forward(_ mask: Visibility, scale: Float = 0.5, recipe: DotRecipe = .pairedFTZ, arithmetic: Arithmetic = .soft)
        throws -> Attention.Forward
    {
        try Attention.forward(
            query: query, key: key, value: value, shape: shape, visibility: mask, scale: scale, recipe: recipe,
            arithmetic: arithmetic)
    }

    func backward(
        _ mask: Visibility, c: Float, form: ZRegForm = .folded, scale: Float = 0.5, arithmetic: Arithmetic = .soft
    ) throws -> Attention.Gradients {
        try Attention.backward(
            query: query, key: key, value: value, outputGradient: slope, forward: try forward(mask, scale: scale),
            shape: shape, visibility: mask, scale: scale, recipe: .pairedFTZ, zregC: c, form: form,
            arithmetic: arithmetic)
    }

    func exact(_ mask: Visibility, scale: Float = 0.5) -> ExactAttention {
        ExactAttention(query: query, key: key, value: value, shape: shape, visibility: mask, scale: scale)
    }
}

private func bits(_ gradients: Attention.Gradients) -> [[UInt16]] {
    [gradients.query, gradients.key, gradients.value].map { $0.map(\.bitPattern) }
}

@Suite("Z: attention with z-reg")
struct AttentionTests {
    static let shape = Attention.Shape(batch: 2, heads: 4, keyValueHeads: 2, queries: 7, keys: 7, headDimension: 6)

    static let masks: [Visibility] = (try? makeMasks()) ?? []

    @Test("the masks of these tests are valid")
    func masksAreThere() { #expect(Self.masks.count == 5) }

    private static func makeMasks() throws -> [Visibility] {
        let lengths: [Int32] = [3, 4]
        let key = try Visibility.byKey(lengths: lengths)
        let tree = try Visibility.tree(parents: [-1, 0, 0, 2], lengths: [2, 1, 3, 1])
        let full = try Visibility.byQuery(.full, lengths: [7])
        func mask(_ orientation: MaskOrientation, _ start: [Int32], _ limit: [Int32], window: Int? = nil) throws
            -> Visibility
        {
            try Visibility(
                orientation: orientation, batch: 2, queries: 7, keys: 7, start: start + start, limit: limit + limit,
                window: window)
        }
        return [
            try mask(.byQuery, full.start, full.limit), try mask(.byKey, key.start, key.limit),
            try mask(.byKey, key.start, key.limit, window: 2), try mask(.byKey, tree.start, tree.limit),
            try mask(.byQuery, [0, 1, 7, 2, 3, 0, 5], [0, 3, 7, 2, 6, 1, 7]),
        ]
    }

    /// sum of do . o and c Z^2 over the rows that see a key, in fp64 with the platform's exp: nothing here is the code under test.
    private func loss(
        _ q: [Double], _ k: [Double], _ v: [Double], _ setup: Setup, _ mask: Visibility, c: Double, scale: Double
    ) -> Double {
        let s = setup.shape
        var total = 0.0
        for b in 0..<s.batch {
            for h in 0..<s.heads {
                let g = h / (s.heads / s.keyValueHeads)
                for i in 0..<s.queries {
                    let row = ((b * s.heads + h) * s.queries + i) * s.headDimension
                    let seen = (0..<s.keys).filter { mask.isVisible(batch: b, query: i, key: $0) }
                    if seen.isEmpty { continue }
                    func keyRow(_ j: Int) -> Int { ((b * s.keyValueHeads + g) * s.keys + j) * s.headDimension }
                    let logits = seen.map { j in
                        scale * (0..<s.headDimension).reduce(0.0) { $0 + q[row + $1] * k[keyRow(j) + $1] }
                    }
                    let top = logits.max()!
                    let e = logits.map { Foundation.exp($0 - top) }
                    let sum = e.reduce(0, +)
                    let z = top + Foundation.log(sum)
                    total += c * z * z
                    for (index, j) in seen.enumerated() {
                        for d in 0..<s.headDimension {
                            total += Double(Float(setup.slope[row + d])) * e[index] / sum * v[keyRow(j) + d]
                        }
                    }
                }
            }
        }
        return total
    }

    @Test(
        "Z2: central differences of a plain fp64 loss with the explicit term c Z^2 give the exact gradients",
        arguments: masks)
    func finiteDifferences(mask: Visibility) throws {
        let setup = Setup(Self.shape)
        let (q, k, v) = (
            setup.query.map { Double(Float($0)) }, setup.key.map { Double(Float($0)) },
            setup.value.map { Double(Float($0)) }
        )
        let exact = setup.exact(mask).backward(outputGradient: setup.slope, zregC: 0.25)
        let step = 1e-5
        for index in stride(from: 0, to: q.count, by: 5) {
            func at(_ offset: Double) -> Double {
                var moved = q
                moved[index] += offset
                return loss(moved, k, v, setup, mask, c: 0.25, scale: 0.5)
            }
            let difference = (at(step) - at(-step)) / (2 * step)
            #expect(abs(difference - exact.query.truth[index]) < 1e-7 * (1 + exact.query.bounds[index]), "dq[\(index)]")
        }
        for index in stride(from: 0, to: k.count, by: 5) {
            func at(_ offset: Double, _ isKey: Bool) -> Double {
                var moved = isKey ? k : v
                moved[index] += offset
                return loss(q, isKey ? moved : k, isKey ? v : moved, setup, mask, c: 0.25, scale: 0.5)
            }
            let key = (at(step, true) - at(-step, true)) / (2 * step)
            #expect(abs(key - exact.key.truth[index]) < 1e-7 * (1 + exact.key.bounds[index]), "dk[\(index)]")
            let value = (at(step, false) - at(-step, false)) / (2 * step)
            #expect(abs(value - exact.value.truth[index]) < 1e-7 * (1 + exact.value.bounds[index]), "dv[\(index)]")
        }
    }

    @Test(
        "Q2, Q3: bf16 results stay within 1.25 * 2^-8 of the bound of the exact ones, plus their own rounding",
        arguments: masks, ZRegForm.allCases)
    func bounds(mask: Visibility, form: ZRegForm) throws {
        let setup = Setup(Self.shape)
        func judge(_ name: String, _ got: [BFloat16], _ exact: ExactAttention.Pair) {
            for index in got.indices {
                let value = Double(Float(got[index]))
                let tolerance = 0x1.4p-8 * exact.bounds[index] + 0x1p-8 * abs(exact.truth[index])
                #expect(
                    abs(value - exact.truth[index]) <= tolerance, "\(name)[\(index)] \(value) \(exact.truth[index])")
            }
        }
        let forward = try setup.forward(mask)
        let exact = setup.exact(mask).forward()
        judge("o", forward.output, exact.output)
        for row in forward.z.indices {
            #expect(abs(Double(forward.z[row]) - exact.z.truth[row]) <= 4e-7 * exact.z.bounds[row])
        }
        let gradients = try setup.backward(mask, c: 0.125, form: form)
        let exactGradients = setup.exact(mask).backward(outputGradient: setup.slope, zregC: 0.125)
        judge("dq", gradients.query, exactGradients.query)
        judge("dk", gradients.key, exactGradients.key)
        judge("dv", gradients.value, exactGradients.value)
        // A control: without the regulariser's term the same results are outside.
        let without = try setup.backward(mask, c: 0, form: form)
        let outside = without.query.indices.filter { index in
            abs(Double(Float(without.query[index])) - exactGradients.query.truth[index])
                > 0x1.4p-8 * exactGradients.query.bounds[index] + 0x1p-8 * abs(exactGradients.query.truth[index])
        }
        #expect(outside.count > without.query.count / 4)
    }

    @Test(
        "Z3: c = 0 of either sign gives the bits of attention without the term, in every form",
        arguments: ZRegForm.allCases)
    func zeroCoefficient(form: ZRegForm) throws {
        let setup = Setup(Self.shape)
        let positive = try setup.backward(Self.masks[1], c: 0, form: form)
        #expect(bits(positive) == bits(try setup.backward(Self.masks[1], c: -0.0, form: form)))
        // Without the term folded and unfolded are the same formula; a term of any size changes something.
        if form != .rowDot { #expect(bits(positive) == bits(try setup.backward(Self.masks[1], c: 0, form: .folded))) }
        #expect(bits(positive) != bits(try setup.backward(Self.masks[1], c: 0.25, form: form)))
    }

    @Test("V4: a row that sees nothing has zeros everywhere, and keys that nobody sees have zero gradients")
    func nothingVisible() throws {
        let setup = Setup(Self.shape)
        let mask = Self.masks[4]
        let forward = try setup.forward(mask)
        let gradients = try setup.backward(mask, c: 0.25)
        for b in 0..<2 {
            for h in 0..<4 {
                for i in [0, 2, 3] {
                    let row = (b * 4 + h) * 7 + i
                    #expect(
                        forward.z[row].bitPattern == 0 && forward.maximum[row].bitPattern == 0
                            && forward.sum[row].bitPattern == 0)
                    for d in 0..<6 {
                        #expect(
                            forward.output[row * 6 + d].bitPattern == 0 && gradients.query[row * 6 + d].bitPattern == 0)
                    }
                }
            }
        }
    }

    @Test("D3: NaN and infinity at masked keys have no effect")
    func maskedValues() throws {
        let shape = Attention.Shape(batch: 1, heads: 1, keyValueHeads: 1, queries: 3, keys: 5, headDimension: 4)
        let setup = Setup(shape)
        let mask = try Visibility(
            orientation: .byQuery, batch: 1, queries: 3, keys: 5, start: [1, 1, 2], limit: [4, 3, 4])
        var (key, value) = (setup.key, setup.value)
        for d in 0..<4 {
            (key[d], value[d]) = (.nan, .infinity)
            (key[16 + d], value[16 + d]) = (.infinity, .nan)
        }
        let clean = try setup.forward(mask)
        let dirty = try Attention.forward(
            query: setup.query, key: key, value: value, shape: shape, visibility: mask, scale: 0.5, recipe: .pairedFTZ)
        #expect(clean.output.map(\.bitPattern) == dirty.output.map(\.bitPattern) && clean.z == dirty.z)
        let a = try setup.backward(mask, c: 0.5)
        let b = try Attention.backward(
            query: setup.query, key: key, value: value, outputGradient: setup.slope, forward: dirty, shape: shape,
            visibility: mask, scale: 0.5, recipe: .pairedFTZ, zregC: 0.5, form: .folded)
        #expect(bits(a) == bits(b))
    }

    @Test("V1: a mask by query, by key, and as a dense one give the same bits")
    func sameMask() throws {
        let setup = Setup(Self.shape)
        var compared = 0
        for mask in Self.masks[..<4] {
            for orientation in MaskOrientation.allCases {
                // A mask need not be one of intervals the other way round.
                guard
                    let other = try? Visibility(
                        dense: mask.dense, orientation: orientation, batch: 2, queries: 7, keys: 7)
                else { continue }
                #expect(
                    try setup.forward(mask).output.map(\.bitPattern) == setup.forward(other).output.map(\.bitPattern))
                #expect(bits(try setup.backward(mask, c: 0.25)) == bits(try setup.backward(other, c: 0.25)))
                compared += 1
            }
        }
        #expect(compared > 4, "every mask has its own orientation, and some have both")
    }

    @Test("Z1: a group's heads are those of repeated keys and values")
    func groupedHeads() throws {
        let setup = Setup(Self.shape)
        let keyRow = 7 * 6
        func repeated(_ x: [BFloat16]) -> [BFloat16] {
            (0..<4).flatMap { group in (0..<2).flatMap { _ in x[group * keyRow..<(group + 1) * keyRow] } }
        }
        var shape = Self.shape
        shape.keyValueHeads = 4
        let mask = Self.masks[1]
        let repeatedOutput = try Attention.forward(
            query: setup.query, key: repeated(setup.key), value: repeated(setup.value), shape: shape, visibility: mask,
            scale: 0.5, recipe: .pairedFTZ)
        #expect(repeatedOutput.output.map(\.bitPattern) == (try setup.forward(mask)).output.map(\.bitPattern))
    }

    @Test("F3: hardware arithmetic gives the same bits", arguments: masks)
    func hardware(mask: Visibility) throws {
        let setup = Setup(Self.shape, magnitude: 8)
        #expect(
            try setup.forward(mask).output.map(\.bitPattern)
                == setup.forward(mask, arithmetic: .hardware).output.map(\.bitPattern))
        #expect(
            bits(try setup.backward(mask, c: 0.25)) == bits(try setup.backward(mask, c: 0.25, arithmetic: .hardware)))
    }

    @Test("Z4: the gradients of a row of logits add up to dZ: sum of dS = 2 c Z")
    func rowSums() {
        let s: [Float] = [0.5, -1, 2, 0.25, 3, -0.125, 1.5]
        let dp: [Float] = [1, -2, 0.5, 0.75, -1, 2, 0.125]
        let exact = ExactAttention.rows(s, dp: dp, rows: 1, columns: 7, zregC: 0.375)
        let total = exact.ds.truth.reduce(0, +)
        #expect(abs(total - 0.75 * exact.z.truth[0]) < 1e-14)
        for form in [ZRegForm.folded, .unfolded] {
            let rows = ZReg.rows(s, dp: dp, rows: 1, columns: 7, c: 0.375, form: form)
            #expect(abs(Double(rows.ds.reduce(0, +)) - total) < 1e-5)
        }
    }

    @Test("sizes that do not fit are errors")
    func refusals() throws {
        let setup = Setup(Self.shape)
        let mask = Self.masks[0]
        func error(_ shape: Attention.Shape, _ mask: Visibility) -> String {
            do {
                _ = try Attention.forward(
                    query: setup.query, key: setup.key, value: setup.value, shape: shape, visibility: mask, scale: 1,
                    recipe: .pairedFTZ)
                return "none"
            } catch { return "\(error)" }
        }
        var shape = Self.shape
        shape.keyValueHeads = 3
        #expect(error(shape, mask).contains("4 heads over 3"))
        shape = Self.shape
        shape.keys = 8
        #expect(error(shape, mask).contains("k has 168 elements, expected 192"))
        let other = try Visibility(
            orientation: .byQuery, batch: 2, queries: 6, keys: 7, start: [Int32](repeating: 0, count: 12),
            limit: [Int32](repeating: 0, count: 12))
        #expect(error(Self.shape, other).contains("6 queries"))
    }
}
