import Cases
import ExactMath
import JSON
import ModelSpec
import Reference

// Sizes just below, at and above those of tiles, in each dimension of the operations that kernels tile. One dimension is long and the others are
// short, so that the results stay few.

/// 16, 32, 64, 128 and 256, and the sizes beside them.
let tileEdges = [16, 32, 64, 128, 256].flatMap { [$0 - 1, $0, $0 + 1] }

/// Of the larger ones those that tell most: behind a tile, and full tiles.
private let fewTileEdges = [65, 256, 257]

private func why(_ what: String, _ size: Int) -> String {
    "\(size) \(what): tiles of 16 to 256 that end early, are full, or leave something behind them"
}

/// One recipe or the other in turn.
private func recipe(_ index: Int) -> DotRecipe { DotRecipe.allCases[index % DotRecipe.allCases.count] }

// MARK: - dot

func dotShapeFile(_ builder: CaseBuilder) -> GoldenFilePlan {
    var cases: [GoldenCase] = []
    func gemm(_ name: String, _ why: String, m: Int, n: Int, k: Int, _ dot: DotRecipe) {
        var random = builder.random("shape-\(name)")
        cases.append(
            builder.makeCase(
                "\(name)-\(dot.rawValue)", "dot.gemm", why: why,
                recipe: boundConstants(n: k).merging(["dot": .string(dot.rawValue)]) { $1 },
                inputs: [
                    NamedTensor("a", Tensor(bf16: random.bf16s(m * k, exponents: 120...127), shape: [m, k])),
                    NamedTensor("b", Tensor(bf16: random.bf16s(k * n, exponents: 120...127), shape: [k, n])),
                ]))
    }
    for (index, size) in tileEdges.enumerated() {
        let short = size > 200 ? 1 : 2
        gemm("rows-\(size)", why("rows of results", size), m: size, n: short, k: 3, recipe(index))
        gemm("columns-\(size)", why("columns of results", size), m: short, n: size, k: 3, recipe(index + 1))
        gemm("depth-\(size)", why("terms", size), m: 2, n: 2, k: size, recipe(index))
    }
    gemm("sizes-17-33-33", "a tile and one more in each dimension", m: 17, n: 33, k: 33, .pairedFTZ)
    func sum(_ op: String, _ name: String, _ why: String, m: Int, n: Int) {
        let short = op.dropFirst("sum.".count)
        var random = builder.random("shape-\(op)-\(name)")
        cases.append(
            builder.makeCase(
                "\(short)-\(name)", op, why: why, recipe: boundConstants(n: n),
                inputs: [
                    NamedTensor("x", Tensor(random.floats(m * n, exponents: 120...127), shape: [m, n])),
                    NamedTensor("y", Tensor(random.floats(m * n, exponents: 120...127), shape: [m, n])),
                ], clauses: ["F3"]))
    }
    for size in tileEdges where size > 17 { sum("sum.lane16", "terms-\(size)", why("terms", size), m: 1, n: size) }
    for size in [65, 256, 257] {
        sum("sum.lane16x4096", "terms-\(size)", why("terms", size), m: 1, n: size)
        sum("sum.chain", "terms-\(size)", why("terms", size), m: 1, n: size)
    }
    for size in [256, 257] { sum("sum.lane16", "rows-\(size)", why("sums", size), m: size, n: 2) }
    return builder.file("shapes", cases)
}

// MARK: - zreg

func attentionShapeFile(_ builder: CaseBuilder) -> GoldenFilePlan {
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ why: String, b: Int = 1, h: Int = 1, g: Int = 1, q: Int, t: Int, d: Int,
        isCausal: Bool = false,
        _ dot: DotRecipe, _ form: ZRegForm = .folded, forward: Bool = true, backward: Bool = true
    ) {
        var random = builder.random("shape-\(name)")
        func tensor(_ heads: Int, _ length: Int) -> Tensor {
            Tensor(bf16: random.bf16s(b * heads * length * d, exponents: 122...127), shape: [b, heads, length, d])
        }
        let inputs = [tensor(h, q), tensor(g, t), tensor(g, t)]
        // By key every later query sees a key, by query all keys are seen.
        let (start, limit) =
            isCausal
            ? ((0..<b * t).map { Int32($0 % t) }, [Int32](repeating: Int32(q), count: b * t))
            : ([Int32](repeating: 0, count: b * q), [Int32](repeating: Int32(t), count: b * q))
        let question = AttentionQuestion(
            query: inputs[0], key: inputs[1], value: inputs[2], outputGradient: tensor(h, q),
            orientation: isCausal ? .byKey : .byQuery, start: start, limit: limit, dot: dot, c: 0x1p-7)
        if forward { cases.append(question.makeForward(builder, name, why)) }
        if backward { cases.append(question.makeBackward(builder, name, why, form)) }
    }
    // All lengths of keys, the longest with the fewest queries; some lengths of queries.
    let queries = [257, 256, 129, 65, 64, 33]
    for (index, size) in tileEdges.enumerated() {
        let q = index < queries.count ? queries[index] : 2
        add(
            "queries-\(q)-keys-\(size)", "\(q) queries, and \(why("keys", size))", q: q, t: size, d: 2, recipe(index),
            backward: false)
    }
    for (index, size) in [65, 256, 257].enumerated() {
        add("keys-\(size)", why("keys", size), q: 2, t: size, d: 2, recipe(index), forward: false)
        add("queries-\(size)", why("queries", size), q: size, t: 3, d: 2, recipe(index + 1), forward: false)
    }
    for (index, size) in [33, 65, 256, 257].enumerated() {
        add(
            "dimension-\(size)", why("dimensions of a head", size), q: 1, t: 2, d: size, recipe(index), backward: false)
    }
    for (index, size) in [256, 257].enumerated() { cases.append(exactGradients(size, recipe(index))) }
    for (index, size) in [33, 65, 257].enumerated() {
        add(
            "causal-\(size)",
            "\(size) queries and keys, causal: whole tiles above the diagonal, and a last one of one row", q: size,
            t: size, d: 2, isCausal: true, recipe(index), ZRegForm.allCases[index % 3], forward: size > 33,
            backward: size < 200)
    }
    add("heads-65", why("heads", 65), h: 65, g: 1, q: 1, t: 3, d: 2, .pairedFTZ)
    add("batch-65", why("batch entries", 65), b: 65, q: 1, t: 2, d: 2, .chainIEEE, backward: false)
    for (index, size) in [33, 64, 65, 129, 256, 257].enumerated() {
        cases.append(rows("columns-\(size)", why("columns", size), n: 1, m: size, index))
    }
    for (index, size) in [256, 257].enumerated() {
        cases.append(rows("rows-\(size)", why("rows", size), n: size, m: 1, index))
    }
    return builder.file("shapes", cases)

    /// The gradients of one query and two keys in which nothing is rounded: else all elements would share the rounding of one probability, a bias that right
    /// code has too. The logits are equal, so that P is 1/2, dP is 1 and -1, and dS 1/2 and -1/2.
    func exactGradients(_ d: Int, _ dot: DotRecipe) -> GoldenCase {
        let name = "dimension-\(d)"
        var random = builder.random("shape-exact-\(name)")
        func element() -> Float { Float(random.integer(in: 1...7)) * (random.bool() ? 0.25 : -0.25) }
        // Neighbours are equal in q and exchanged between the keys.
        let query = (0..<d).map { $0 / 2 }.map { $0 % 3 == 0 ? Float(-0.5) : 0.25 }
        let first = (0..<d).map { _ in element() }
        let second = (0..<d).map { $0 ^ 1 < d ? first[$0 ^ 1] : first[$0] }
        let value: [Float] = [1] + [Float](repeating: 0, count: d - 1) + [-1] + [Float](repeating: 0, count: d - 1)
        let gradient: [Float] = [1] + (1..<d).map { _ in element() }
        func tensor(_ values: [Float], _ length: Int) -> Tensor {
            Tensor(bf16: values.map { UInt16($0.bitPattern >> 16) }, shape: [1, 1, length, d])
        }
        return AttentionQuestion(
            query: tensor(query, 1), key: tensor(first + second, 2), value: tensor(value, 2),
            outputGradient: tensor(gradient, 1), start: [0], limit: [2], scale: 0.0625, dot: dot, c: 0
        ).makeBackward(builder, name, why("dimensions of a head", d), .folded)
    }

    func rows(_ name: String, _ why: String, n: Int, m: Int, _ index: Int) -> GoldenCase {
        var random = builder.random("shape-rows-\(name)")
        // Q3: logits within 4 of each other.
        var recipe = JSONValue.entries("zreg_c", 0x1p-7).merging(JSONValue.entries("kappa", 8)) { $1 }
        recipe["n"] = .integer(Int64(m))
        recipe["form"] = .string(index % 2 == 0 ? "folded" : "unfolded")
        return builder.makeCase(
            "rows-\(name)", "zreg.rows", why: why, recipe: recipe,
            inputs: [
                NamedTensor("s", Tensor(random.floats(n * m, exponents: 122...127), shape: [n, m])),
                NamedTensor("dp", Tensor(random.floats(n * m, exponents: 122...127), shape: [n, m])),
            ])
    }
}

// MARK: - layers

func layerShapeFile(_ builder: CaseBuilder) -> GoldenFilePlan {
    var cases: [GoldenCase] = []
    func add(
        _ name: String, _ op: String, _ what: String, _ size: Int, _ recipe: [String: JSONValue], _ inputs: TensorGroup
    ) {
        cases.append(
            builder.makeCase(
                "\(op.dropFirst("layer.".count))-\(name)", op, why: why(what, size), recipe: recipe, inputs: inputs))
    }
    func linear(_ name: String, _ what: String, _ size: Int, t: Int, inputs: Int, outputs: Int, _ dot: DotRecipe) {
        var random = builder.random("shape-linear-\(name)")
        func tensor(_ shape: [Int]) -> Tensor {
            Tensor(bf16: random.bf16s(shape.reduce(1, *), exponents: 122...127), shape: shape)
        }
        add(
            name, "layer.linear", what, size,
            boundConstants(n: max(inputs, outputs, t)).merging(["dot": .string(dot.rawValue)]) { $1 },
            [
                NamedTensor("x", tensor([1, t, inputs])), NamedTensor("w", tensor([inputs, outputs])),
                NamedTensor("dy", tensor([1, t, outputs])),
            ])
    }
    func norm(_ name: String, _ what: String, _ size: Int, n: Int, c: Int) {
        var random = builder.random("shape-norm-\(name)")
        add(
            name, "layer.rmsnorm", what, size, JSONValue.entries("epsilon", 0x1p-20),
            [
                NamedTensor("x", Tensor(bf16: random.bf16s(n * c, exponents: 120...128), shape: [n, c])),
                NamedTensor("gain", Tensor(bf16: random.bf16s(c, exponents: 125...128), shape: [c])),
                NamedTensor("dy", Tensor(bf16: random.bf16s(n * c, exponents: 120...127), shape: [n, c])),
            ])
    }
    func hard(_ name: String, _ what: String, _ size: Int, n: Int, v: Int) {
        var random = builder.random("shape-loss-\(name)")
        add(
            name, "layer.crossEntropy", what, size, lossRecipe(v),
            [
                NamedTensor("logits", Tensor(random.floats(n * v, exponents: 122...127), shape: [n, v])),
                NamedTensor("targets", Tensor((0..<n).map { _ in Int32(random.index(below: v)) }, shape: [n])),
            ])
    }
    func soft(_ name: String, _ what: String, _ size: Int, n: Int, v: Int, k: Int) {
        var random = builder.random("shape-sparse-\(name)")
        add(
            name, "layer.sparseCrossEntropy", what, size, lossRecipe(v),
            [
                NamedTensor("logits", Tensor(random.floats(n * v, exponents: 122...127), shape: [n, v])),
                NamedTensor("ids", Tensor((0..<n * k).map { _ in UInt32(random.index(below: v)) }, shape: [n, k])),
                NamedTensor(
                    "weights", Tensor(random.floats(n * k, exponents: 122...126).map(\.magnitude), shape: [n, k])),
            ])
    }
    func rope(_ name: String, _ what: String, _ size: Int, n: Int, heads: Int, d: Int) {
        var random = builder.random("shape-rope-\(name)")
        let shape = [n, heads, d]
        add(
            name, "layer.rope", what, size, JSONValue.entries("base", 10000),
            [
                NamedTensor("x", Tensor(bf16: random.bf16s(n * heads * d, exponents: 122...127), shape: shape)),
                NamedTensor("position", Tensor((0..<n).map { Int32($0) }, shape: [n])),
                NamedTensor("dy", Tensor(bf16: random.bf16s(n * heads * d, exponents: 122...127), shape: shape)),
            ])
    }
    func embedding(_ name: String, _ what: String, _ size: Int, n: Int, v: Int, c: Int) {
        var random = builder.random("shape-embedding-\(name)")
        add(
            name, "layer.embedding", what, size, [:],
            [
                NamedTensor("tokens", Tensor((0..<n).map { _ in Int32(random.index(below: v)) }, shape: [n])),
                NamedTensor("w", Tensor(bf16: random.bf16s(v * c, exponents: 122...127), shape: [v, c])),
                NamedTensor("dy", Tensor(bf16: random.bf16s(n * c, exponents: 122...127), shape: [n, c])),
            ])
    }
    for (index, size) in fewTileEdges.enumerated() {
        linear("tokens-\(size)", "tokens", size, t: size, inputs: 2, outputs: 1, recipe(index))
        linear("inputs-\(size)", "inputs", size, t: 2, inputs: size, outputs: 1, recipe(index + 1))
        linear("outputs-\(size)", "outputs", size, t: 2, inputs: 1, outputs: size, recipe(index))
    }
    for size in [33, 64, 65, 129, 256, 257] { norm("width-\(size)", "columns", size, n: 2, c: size) }
    for size in [256, 257] { norm("rows-\(size)", "rows", size, n: size, c: 3) }
    for size in [33, 65, 129, 256, 257] {
        hard("vocabulary-\(size)", "tokens of the vocabulary", size, n: 1, v: size)
        soft("vocabulary-\(size)", "tokens of the vocabulary", size, n: 1, v: size, k: 3)
    }
    for size in [256, 257] {
        hard("rows-\(size)", "rows", size, n: size, v: 2)
        soft("rows-\(size)", "rows", size, n: size, v: 2, k: 1)
    }
    for size in [65, 257] { soft("slots-\(size)", "slots", size, n: 1, v: 5, k: size) }
    for size in [66, 130, 256, 258] {
        rope("dimension-\(size)", "dimensions of a head", size, n: 2, heads: 1, d: size)
    }
    rope("tokens-65", "tokens", 65, n: 65, heads: 1, d: 2)
    rope("heads-65", "heads", 65, n: 2, heads: 65, d: 2)
    embedding("width-65", "columns", 65, n: 4, v: 3, c: 65)
    embedding("tokens-65", "tokens", 65, n: 65, v: 5, c: 3)
    embedding("vocabulary-65", "tokens of the vocabulary", 65, n: 7, v: 65, c: 3)
    return builder.file("shapes", cases)
}

/// Logits within 4 of each other.
private func lossRecipe(_ v: Int) -> [String: JSONValue] {
    JSONValue.entries("zreg_c", 0x1p-8).merging(JSONValue.entries("kappa", 8)) { $1 }
        .merging(["n": .integer(Int64(v))]) { $1 }
}
