import ExactMath

/// A sum of products under choices: what dot products, linear layers, attention and reductions are made of.
///
/// Accumulators are held in binary64, which holds every narrower one exactly.
struct SumVariant: Sendable, Hashable {
    enum Order: Sendable, Hashable {
        /// D1: pairs on the absolute index inside a row, the odd element first.
        case oddFirst
        /// The same with the even element first: plain ascending.
        case ascending
        case descending
        /// Neighbours are added, then neighbours of these.
        case pairwise
        /// Blocks of so many consecutive terms, each from +0, then the blocks in ascending order (split-K).
        case blocks(Int)
        /// Interleaved accumulators on the absolute index, combined in halves.
        case lanes(Int)
        /// Interleaved accumulators on the absolute index, combined in ascending order.
        case lanesAscending(Int)
        /// Interleaved accumulators on the place among the visible terms, combined in halves.
        case lanesOfVisible(Int)
        /// Lanes of each block of so many, then lanes of the blocks.
        case lanesOfBlocks(Int, Int)
    }
    enum Arithmetic: Sendable, Hashable {
        /// One rounding a term, to nearest even.
        case fused
        /// The same in binary64, rounded to fp32 a second time.
        case fusedInDouble
        /// The product is rounded to fp32 first.
        case unfused
        /// One rounding a term, toward zero.
        case truncating
        /// The accumulator is rounded to bf16 after each term.
        case bf16
        /// The accumulator is rounded to fp16 after each term.
        case fp16
        case fp64
        /// Exactly, rounded once at the end.
        case exact
    }
    enum Flush: Sendable, Hashable {
        case none, inputs, outputs, both
        /// Both, where smallness of a result is judged before rounding.
        case bothBefore
    }
    typealias Term = (x: Float, y: Float)

    var order: Order
    var arithmetic = Arithmetic.fused
    var flush = Flush.none
    /// D3: +0 is added at the end.
    var addsZero = true
    /// Each product is rounded to bf16 before it is added.
    var roundsProducts = false

    /// Rows of terms, one after another (D4); nil: masked.
    func sum(_ given: [[Term?]], initial: Float = 0) -> Float {
        let rows =
            roundsProducts
            ? given.map { row in
                row.map { term in term.map { (Self.bf16(flushed($0.x) * flushed($0.y)), 1) } }
            } : given
        if arithmetic == .exact {
            var total = ExactSum()
            for case let term? in rows.joined() { total.addProduct(flushed(term.x), flushed(term.y)) }
            total.add(flushed(initial))
            return finished(total.roundedToDouble())
        }
        var accumulator = Double(flushed(initial))
        switch order {
        case .oddFirst:
            for row in rows {
                for pair in stride(from: 0, to: row.count, by: 2) {
                    if pair + 1 < row.count {
                        add(row[pair + 1], to: &accumulator)
                    } else {
                        add((0, 0), to: &accumulator)  // the padding
                    }
                    add(row[pair], to: &accumulator)
                }
            }
        case .ascending:
            for term in rows.joined() { add(term, to: &accumulator) }
        case .descending:
            for term in rows.joined().reversed() { add(term, to: &accumulator) }
        case .pairwise:
            var parts = rows.joined().compactMap { term -> Double? in
                guard let term else { return nil }
                var part = 0.0
                add(term, to: &part)
                return part
            }
            while parts.count > 1 {
                parts = stride(from: 0, to: parts.count, by: 2).map { place in
                    place + 1 < parts.count ? combined(parts[place], parts[place + 1]) : parts[place]
                }
            }
            if let part = parts.first { accumulator = combined(accumulator, part) }
        case .blocks(let size):
            let terms = Array(rows.joined())
            for start in stride(from: 0, to: terms.count, by: size) {
                var part = 0.0
                for term in terms[start..<min(start + size, terms.count)] { add(term, to: &part) }
                accumulator = combined(accumulator, part)
            }
        case .lanes(let width):
            accumulator = combined(accumulator, halves(Array(rows.joined()), width))
        case .lanesOfVisible(let width):
            accumulator = combined(accumulator, halves(rows.joined().filter { $0 != nil }, width))
        case .lanesAscending(let width):
            let lanes = lanes(Array(rows.joined()), width)
            accumulator = combined(accumulator, lanes.dropFirst().reduce(lanes[0], combined))
        case .lanesOfBlocks(let width, let size):
            let terms = Array(rows.joined())
            let parts = stride(from: 0, to: terms.count, by: size).map { start in
                let part = halves(Array(terms[start..<min(start + size, terms.count)]), width)
                return (x: Float(part), y: Float(1)) as Term?
            }
            accumulator = combined(accumulator, halves(parts, width))
        }
        return finished(accumulator)
    }

    /// One row in which every term takes part.
    func sum(_ terms: [Term], initial: Float = 0) -> Float { sum([terms.map { $0 }], initial: initial) }

    /// The sum of values, as products with 1.
    func sum(of values: [Float?]) -> Float { sum([values.map { value in value.map { ($0, 1) } }]) }

    // MARK: Steps

    private func lanes(_ terms: [Term?], _ width: Int) -> [Double] {
        var lanes = [Double](repeating: 0, count: width)
        for (index, term) in terms.enumerated() { add(term, to: &lanes[index % width]) }
        return lanes
    }

    private func halves(_ terms: [Term?], _ width: Int) -> Double {
        var lanes = lanes(terms, width)
        var half = width / 2
        while half > 0 {
            for lane in 0..<half { lanes[lane] = combined(lanes[lane], lanes[lane + half]) }
            half /= 2
        }
        return lanes[0]
    }

    private func finished(_ accumulator: Double) -> Float {
        let value = SoftFloat32.convert(accumulator)
        return addsZero ? value + 0 : value
    }

    private func flushed(_ x: Float) -> Float {
        switch flush {
        case .none, .outputs: x
        case .inputs, .both, .bothBefore: SoftFloat32.flushingSubnormal(x)
        }
    }

    private func add(_ term: Term?, to accumulator: inout Double) {
        guard let term else { return }
        let (x, y) = (flushed(term.x), flushed(term.y))
        let z =
            flush == .none || flush == .outputs || arithmetic == .fp64
            ? accumulator : Double(flushed(Float(accumulator)))
        accumulator =
            switch arithmetic {
            case .fp64, .exact: z + Double(x) * Double(y)
            case .fused: rounded(x, y, Float(z))
            case .fusedInDouble: Double(Self.fusedInDouble(x, y, Float(z)))
            case .unfused: rounded(x * y, 1, Float(z))
            case .truncating: Double(truncated(x, y, Float(z)))
            case .bf16: Double(Self.bf16(Float(rounded(x, y, Float(z)))))
            case .fp16: Double(Self.fp16(Float(rounded(x, y, Float(z)))))
            }
    }

    private func combined(_ a: Double, _ b: Double) -> Double {
        var sum = a
        if arithmetic == .fp64 { return a + b }
        add((Float(b), 1), to: &sum)
        return sum
    }

    /// RNE32(x y + z), flushed as asked.
    private func rounded(_ x: Float, _ y: Float, _ z: Float) -> Double {
        let r = HardwareFloat32.fusedMultiplyAdd(x, y, z)
        switch flush {
        case .none, .inputs: return Double(r)
        case .both:
            return Double(HardwareFloat32.fusedMultiplyAddFlushing(x, y, z))
        case .outputs:
            // Smallness after rounding, with an unbounded exponent.
            if r.magnitude > .leastNormalMagnitude || r.isNaN { return Double(r) }
            return Self.magnitudeIsBelow(Double.tinyAfterRounding, x, y, z)
                ? Double(Float(signOf: r, magnitudeOf: 0)) : Double(r)
        case .bothBefore:
            if r.magnitude > .leastNormalMagnitude || r.isNaN { return Double(r) }
            return Self.magnitudeIsBelow(Double(Float.leastNormalMagnitude), x, y, z)
                ? Double(Float(signOf: r, magnitudeOf: 0)) : Double(r)
        }
    }

    /// |x y + z| < limit, exactly: the product of two fp32 values fits binary64.
    private static func magnitudeIsBelow(_ limit: Double, _ x: Float, _ y: Float, _ z: Float) -> Bool {
        let (s, e) = exactSum(Double(x) * Double(y), Double(z))
        let (head, tail) = s < 0 ? (-s, -e) : (s, e)
        return head < limit || head == limit && tail < 0
    }

    private static func exactSum(_ a: Double, _ b: Double) -> (Double, Double) {
        let s = a + b
        let t = s - a
        return (s, (a - (s - t)) + (b - t))
    }

    /// RTZ32(x y + z).
    private func truncated(_ x: Float, _ y: Float, _ z: Float) -> Float {
        let nearest = HardwareFloat32.fusedMultiplyAdd(x, y, z)
        guard x.isFinite, y.isFinite, z.isFinite, !nearest.isNaN, nearest != 0 else { return nearest }
        if nearest.isInfinite { return Float(signOf: nearest, magnitudeOf: .greatestFiniteMagnitude) }
        let (s, e) = Self.exactSum(Double(x) * Double(y), Double(z))
        let beyond = (Double(nearest) - s) - e
        var result = nearest
        if nearest != 0, nearest > 0 ? beyond > 0 : beyond < 0 {
            result = Float(bitPattern: nearest.bitPattern - 1)
        }
        if flush == .both || flush == .outputs, result.isSubnormal { result = Float(signOf: result, magnitudeOf: 0) }
        return result
    }

    /// RNE32(RNE64(x y + z)): the product is exact in binary64, the sum is not.
    static func fusedInDouble(_ x: Float, _ y: Float, _ z: Float) -> Float {
        SoftFloat32.convert(Double(x) * Double(y) + Double(z))
    }

    static func bf16(_ x: Float) -> Float { SoftFloat32.convert(bfloat16Bits: SoftFloat32.roundToBFloat16(x)) }

    static func fp16(_ x: Float) -> Float { x.roundedToBinary16 }
}

extension Float {
    /// The nearest binary16 number, ties to even; from 65520 on an infinity, NaN as it is. By bits: not every system has the type.
    package var roundedToBinary16: Float {
        if isNaN { return self }
        // Below the least normal number, 2^-14, the spacing is 2^-24; the products are exact.
        if magnitude < 0x1p-14 { return (self * 0x1p24).rounded(.toNearestOrEven) * 0x1p-24 }
        if magnitude >= 65520 { return self < 0 ? -.infinity : .infinity }
        return Float(bitPattern: (bitPattern &+ 0xFFF &+ (bitPattern >> 13 & 1)) & ~0x1FFF)
    }
}

extension Double {
    /// Exact values of smaller magnitude round below 2^-126 with 24 bits and an unbounded exponent.
    fileprivate static var tinyAfterRounding: Double { power(-126) - power(-151) }
}

// MARK: - Choices

extension SumVariant {
    /// The variant that some choices on the axes "PREFIX.order", "PREFIX.accumulate", "PREFIX.products", "PREFIX.flush" and "PREFIX.zero" make of a specified one.
    func under(_ choices: Choices, _ prefix: String) -> SumVariant {
        var variant = self
        if let name = choices.on(prefix + ".order"), let order = Self.orders.first(where: { $0.name == name }) {
            variant.order = order.order
        }
        switch choices.on(prefix + ".accumulate") {
        case "unfused": variant.arithmetic = .unfused
        case "fused-in-fp64": variant.arithmetic = .fusedInDouble
        case "truncating": variant.arithmetic = .truncating
        case "bf16": variant.arithmetic = .bf16
        case "fp16": variant.arithmetic = .fp16
        case "fp64": variant.arithmetic = .fp64
        case "exact": variant.arithmetic = .exact
        default: break
        }
        switch choices.on(prefix + ".flush") {
        case "none": variant.flush = .none
        case "inputs": variant.flush = .inputs
        case "outputs": variant.flush = .outputs
        case "all": variant.flush = .both
        case "before-rounding": variant.flush = .bothBefore
        default: break
        }
        if choices.has(prefix + ".zero.negative-kept") { variant.addsZero = false }
        if choices.has(prefix + ".products.bf16") { variant.roundsProducts = true }
        return variant
    }

    static let orders: [(name: String, order: Order, summary: String)] = [
        ("ascending", .ascending, "adds the terms one by one in ascending order"),
        ("odd-first", .oddFirst, "adds the odd term of each pair first"),
        ("descending", .descending, "adds the terms in descending order"),
        ("pairwise", .pairwise, "adds neighbours, then neighbours of these (a tree)"),
        ("blocks-4", .blocks(4), "sums blocks of 4 terms by themselves and adds these up (split-K)"),
        ("blocks-8", .blocks(8), "sums blocks of 8 terms by themselves and adds these up (split-K)"),
        ("blocks-16", .blocks(16), "sums blocks of 16 terms by themselves and adds these up (split-K)"),
        ("blocks-32", .blocks(32), "sums blocks of 32 terms by themselves and adds these up (split-K)"),
        ("blocks-64", .blocks(64), "sums blocks of 64 terms by themselves and adds these up (split-K)"),
        ("blocks-128", .blocks(128), "sums blocks of 128 terms by themselves and adds these up (split-K)"),
        ("blocks-256", .blocks(256), "sums blocks of 256 terms by themselves and adds these up (split-K)"),
        ("lanes-2", .lanes(2), "keeps 2 interleaved accumulators, combined in halves"),
        ("lanes-4", .lanes(4), "keeps 4 interleaved accumulators, combined in halves"),
        ("lanes-8", .lanes(8), "keeps 8 interleaved accumulators, combined in halves"),
        ("lanes-16", .lanes(16), "keeps 16 interleaved accumulators, combined in halves"),
        ("lanes-32", .lanes(32), "keeps 32 interleaved accumulators, combined in halves"),
        ("lanes-4-ascending", .lanesAscending(4), "keeps 4 interleaved accumulators, combined in ascending order"),
        ("lanes-8-ascending", .lanesAscending(8), "keeps 8 interleaved accumulators, combined in ascending order"),
        ("lanes-16-ascending", .lanesAscending(16), "keeps 16 interleaved accumulators, combined in ascending order"),
        (
            "lanes-16-of-visible", .lanesOfVisible(16),
            "deals the visible terms to 16 lanes by their place among the visible"
        ),
        ("lanes-16-of-1024", .lanesOfBlocks(16, 1024), "sums blocks of 1024 in 16 lanes, then these"),
        ("lanes-16-of-4096", .lanesOfBlocks(16, 4096), "sums blocks of 4096 in 16 lanes, then these"),
    ]

    /// The deviations on the axes of a sum. `what` names it where a family has several: "the score's dot product ".
    static func deviations(
        _ prefix: String, _ clauses: [String], what: String = "", orders wanted: [String]? = nil,
        flushes: [String] = [],
        accumulations: [String] = ["unfused", "fused-in-fp64", "truncating", "bf16", "fp16", "fp64", "exact"],
        products: Bool = false,
        zero: Bool = true
    ) -> [Deviation] {
        let of = what.isEmpty ? "" : " (\(what))"
        var all = orders.filter { wanted?.contains($0.name) ?? true }.map {
            Deviation("\(prefix).order.\($0.name)", $0.summary + of, clauses)
        }
        for (name, summary) in [
            ("unfused", "rounds each product before it is added"),
            ("fused-in-fp64", "takes each fused multiply-add in fp64 and rounds it to fp32 a second time"),
            ("truncating", "cuts instead of rounding at each addition"),
            ("bf16", "accumulates in bf16"), ("fp16", "accumulates in fp16"),
            ("fp64", "accumulates in fp64 and rounds at the end"),
            ("exact", "sums exactly and rounds once"),
        ] where accumulations.contains(name) {
            all.append(Deviation("\(prefix).accumulate.\(name)", summary + of, clauses))
        }
        if products {
            all.append(
                Deviation("\(prefix).products.bf16", "rounds each product to bf16 before it is added" + of, clauses))
        }
        for (name, summary) in [
            ("none", "flushes no subnormals"), ("inputs", "flushes subnormal factors but not results"),
            ("outputs", "flushes subnormal results but not factors"), ("all", "flushes subnormal factors and results"),
            ("before-rounding", "judges before rounding whether a result is subnormal"),
        ] where flushes.contains(name) {
            all.append(Deviation("\(prefix).flush.\(name)", summary + of, clauses))
        }
        if zero { all.append(Deviation("\(prefix).zero.negative-kept", "lets a sum be -0" + of, ["D3"])) }
        return all
    }
}
