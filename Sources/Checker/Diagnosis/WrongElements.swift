import Cases

/// What the wrong elements of an output have in common: where they stand, what they are made of.
enum WrongElements {
    /// Sentences that hold of every wrong element over the cases, each for fewer than all elements.
    static func patterns(of name: String, in wrong: [Observation], _ rule: NaNRule) -> [String] {
        var elements: [Element] = []
        for one in wrong {
            guard let observed = one.outputs[name], let specified = one.goldenCase.outputs[name],
                observed.type == specified.type, observed.shape == specified.shape
            else { continue }
            for index in 0..<specified.count {
                elements.append(
                    Element(
                        observation: one, tensor: specified, observed: observed, index: index,
                        isWrong: !rule.isEqual(observed, specified, index)))
            }
        }
        let bad = elements.filter(\.isWrong)
        guard !bad.isEmpty else { return [] }
        var found: [String] = []
        if bad.count == elements.count { found.append("every element is wrong") }
        if wrong.count > 1, bad.count == wrong.count, Set(bad.map(\.observation.goldenCase.name)).count == bad.count {
            found.append("a single element of each wrong case is wrong")
        }
        for period in [2, 3, 4, 5, 7, 8, 16, 32, 64] where bad.count > 2 {
            let rest = bad[0].index % period
            guard bad.allSatisfy({ $0.index % period == rest }) else { continue }
            let all = elements.count { $0.index % period == rest }
            found.append("wrong only where the index is \(rest) modulo \(period) (\(bad.count) of \(all) of these)")
            break
        }
        for (text, holds) in properties where bad.allSatisfy(holds) {
            let all = elements.count { holds($0) }
            guard all < elements.count else { continue }
            found.append(
                all == bad.count
                    ? "wrong exactly where \(text)" : "wrong only where \(text) (\(bad.count) of \(all) of these)")
        }
        return found
    }

    struct Element {
        let observation: Observation
        let tensor: Tensor
        let observed: Tensor
        let index: Int
        let isWrong: Bool

        var fields: FloatFields? { FloatFields(tensor.type) }
        var magnitude: UInt64 { tensor.bits(at: index) & ((fields?.signBit ?? 0) &- 1) }

        func anyElementwiseInput(_ test: (FloatFields, UInt64) -> Bool) -> Bool {
            observation.goldenCase.inputs.tensors.contains { named in
                guard named.tensor.shape == tensor.shape, let fields = FloatFields(named.tensor.type) else {
                    return false
                }
                return test(fields, named.tensor.bits(at: index))
            }
        }
    }

    private static let properties: [(String, @Sendable (Element) -> Bool)] = [
        ("the element is the last", { $0.index == $0.tensor.count - 1 }),
        ("the element is the first", { $0.index == 0 }),
        (
            "the row is the last",
            { element in
                guard element.tensor.shape.count > 1, let width = element.tensor.shape.last else { return false }
                return element.index >= element.tensor.count - width
            }
        ),
        (
            "the column is the last",
            { element in
                guard element.tensor.shape.count > 1, let width = element.tensor.shape.last else { return false }
                return element.index % width == width - 1
            }
        ),
        (
            "the column is the first",
            { element in
                guard element.tensor.shape.count > 1, let width = element.tensor.shape.last else { return false }
                return element.index % width == 0
            }
        ),
        ("the element is beyond the last whole vector of 16", { $0.index >= $0.tensor.count - $0.tensor.count % 16 }),
        (
            "the result is subnormal or zero",
            { element in
                guard let fields = element.fields else { return false }
                return element.magnitude < 1 << UInt64(fields.significandBits)
            }
        ),
        ("the result is zero", { $0.fields != nil && $0.magnitude == 0 }),
        (
            "the result is infinite or NaN",
            { element in element.fields.map { element.magnitude >= $0.infinity } ?? false }
        ),
        ("the result is NaN", { element in element.fields.map { $0.isNaN(element.magnitude) } ?? false }),
        (
            "the result is negative",
            { element in
                element.fields.map { element.tensor.bits(at: element.index) & $0.signBit != 0 } ?? false
            }
        ),
        (
            "the element is one unit in the last place away",
            { element in
                element.fields?.distance(
                    element.tensor.bits(at: element.index), element.observed.bits(at: element.index)) == 1
            }
        ),
        (
            "the element has too large a magnitude",
            { element in
                guard let fields = element.fields else { return false }
                let got = element.observed.bits(at: element.index) & (fields.signBit - 1)
                return got > element.magnitude && got <= fields.infinity && element.magnitude <= fields.infinity
            }
        ),
        (
            "the element has too small a magnitude",
            { element in
                guard let fields = element.fields else { return false }
                return element.observed.bits(at: element.index) & (fields.signBit - 1) < element.magnitude
                    && element.magnitude <= fields.infinity
            }
        ),
        (
            "an input is subnormal",
            { element in
                element.anyElementwiseInput { fields, bits in
                    let magnitude = bits & (fields.signBit - 1)
                    return magnitude > 0 && magnitude < 1 << UInt64(fields.significandBits)
                }
            }
        ),
        ("an input is NaN", { element in element.anyElementwiseInput { $0.isNaN($1) } }),
        (
            "an input is infinite",
            { element in
                element.anyElementwiseInput { $1 & ($0.signBit - 1) == $0.infinity }
            }
        ),
        ("an input is zero", { element in element.anyElementwiseInput { $1 & ($0.signBit - 1) == 0 } }),
        ("an input is negative", { element in element.anyElementwiseInput { $1 & $0.signBit != 0 } }),
    ]
}
