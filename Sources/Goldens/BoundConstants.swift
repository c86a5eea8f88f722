import Cases
import JSON
import ModelSpec

/// kappa and n of the policy `bound` (Q3): those that the case states, else those of its operation.
public struct BoundConstants: Sendable, Hashable {
    /// Rounded to fp32, as recipes hold it.
    public let kappa: Float
    public let n: Int

    /// - Parameters:
    ///   - op: the operation's name.
    ///   - recipe: the case's.
    ///   - input: an input of the case by its name; nil where it has none.
    /// - Returns: nil for an operation without bounds, and where an input that the standard needs is absent or of another rank.
    public init?(
        _ op: String, _ recipe: [String: JSONValue], input: (String) -> (any TensorSource)?
    ) throws(GoldenIOError) {
        guard let signature = OperationSignature.named(op), let rule = signature.bound else { return nil }
        let stated = (kappa: Self.kappa(recipe), n: Self.n(recipe))
        if let kappa = stated.kappa, let n = stated.n {
            (self.kappa, self.n) = (kappa, n)
            return
        }
        guard let standard = try Self.standard(rule, signature, input) else { return nil }
        kappa = stated.kappa ?? standard.kappa
        n = stated.n ?? standard.n
    }

    /// The constants of a case in memory.
    public init?(_ goldenCase: GoldenCase) {
        do { try self.init(goldenCase.op, goldenCase.recipe) { goldenCase.inputs[$0] } } catch { return nil }
    }

    /// A recipe that states the constants, whatever it stated before.
    public func stated(in recipe: [String: JSONValue]) -> [String: JSONValue] {
        recipe.merging(JSONValue.entries("kappa", kappa).merging(["n": .integer(Int64(n))]) { $1 }) { $1 }
    }

    /// nil for what no recipe may state: the standard holds then, as where nothing is stated.
    private static func kappa(_ recipe: [String: JSONValue]) -> Float? {
        recipe.fp32("kappa").flatMap { FloatRange.finiteNonnegative.contains($0) ? $0 : nil }
    }

    private static func n(_ recipe: [String: JSONValue]) -> Int? {
        if case .integer(let value)? = recipe["n"], value >= 0 { Int(exactly: value) } else { nil }
    }

    private static func standard(
        _ rule: BoundRule, _ signature: OperationSignature, _ input: (String) -> (any TensorSource)?
    ) throws(GoldenIOError) -> (kappa: Float, n: Int)? {
        var sizes: [String: Int] = [:]
        for tensor in signature.inputs {
            guard let shape = input(tensor.name)?.shape, shape.count == tensor.shape.count else { continue }
            for case (.letter(let letter), let size) in zip(tensor.shape, shape) { sizes[letter] = size }
        }
        switch rule {
        case .units: return (4, 0)
        case .narrowFactors: return (81920, 0)
        case .sums(let products):
            var longest = 0
            for letters in products {
                var product = 1
                for letter in letters {
                    guard let size = sizes[letter] else { return nil }
                    let (longer, overflow) = product.multipliedReportingOverflow(by: size)
                    if overflow { return nil }
                    product = longer
                }
                longest = max(longest, product)
            }
            return (4, longest)
        case .rows(let name, let letter):
            guard let width = sizes[letter], let tensor = input(name) else { return nil }
            let kappa = 4 + (try spread(of: tensor, width: width)).rounded(.up)
            return (Float(min(kappa, Double(Float.greatestFiniteMagnitude))), width)
        }
    }

    /// The largest difference between finite values of a row.
    private static func spread(of tensor: any TensorSource, width: Int) throws(GoldenIOError) -> Double {
        var spread = 0.0
        guard width > 0 else { return spread }
        for start in stride(from: 0, to: tensor.count, by: width) {
            let row = try tensor.elements(start..<min(start + width, tensor.count))
            var (least, most) = (Double.infinity, -Double.infinity)
            for index in 0..<row.count {
                let value = row.doubleValue(at: index)
                guard value.isFinite else { continue }
                (least, most) = (min(least, value), max(most, value))
            }
            if least <= most { spread = max(spread, most - least) }
        }
        return spread
    }
}

extension [String: JSONValue] {
    /// An fp32 parameter of a recipe that is not checked: `KEY_bits` where it stands, else `KEY` rounded; nil where neither is one.
    package func fp32(_ key: String) -> Float? {
        if case .string(let digits)? = self[key + "_bits"], let bits = parseHexadecimal(digits, digits: 8) {
            return Float(bitPattern: UInt32(bits))
        }
        return switch self[key] {
        case .number(let value)?: Float(value)
        case .integer(let value)?: Float(value)
        default: nil
        }
    }
}
