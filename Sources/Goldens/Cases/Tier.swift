import Cases
import JSON
import ModelSpec

/// How much a golden set holds. Each tier has the cases of the one before, larger.
public enum Tier: String, Sendable, CaseIterable, Codable {
    /// Shipped with the package; seconds.
    case quick
    /// Wider grids and samples; tens of megabytes.
    case standard
    /// As wide as is still a file; hundreds of megabytes.
    case full

    /// Picks a size.
    func pick<Value>(_ quick: Value, _ standard: Value, _ full: Value) -> Value {
        switch self {
        case .quick: quick
        case .standard: standard
        case .full: full
        }
    }
}

/// One golden file before it is evaluated: cases with inputs and recipes.
public struct GoldenFilePlan: Sendable {
    public let suite: Suite
    /// Without the extension.
    public let name: String
    public let cases: [GoldenCase]
}

/// The golden cases of the package.
public enum GoldenSuites {
    /// Seeds every generated sample unless told otherwise.
    public static let defaultSeed: UInt64 = 0x746F_7563_6873_746F

    /// The files of a suite, inputs only; ``OperationCatalog/evaluate(_:)`` fills in the rest.
    public static func files(of suite: Suite, tier: Tier, seed: UInt64) -> [GoldenFilePlan] {
        let builder = CaseBuilder(suite: suite, tier: tier, seed: seed)
        return switch suite {
        case .bf16: bfloat16Files(builder)
        case .dot: dotFiles(builder)
        case .math: mathFiles(builder)
        case .random: randomFiles(builder)
        case .squinch: squinchFiles(builder)
        case .allreduce: allReduceFiles(builder)
        case .zreg: attentionFiles(builder)
        case .visibility: visibilityFiles(builder)
        case .clamp: clampFiles(builder)
        case .gumbel: gumbelFiles(builder)
        case .layers: layerFiles(builder)
        case .training: trainingFiles(builder)
        }
    }

    /// The root attributes of a file.
    public static func header(suite: Suite, tier: Tier, seed: UInt64) -> GoldenHeader {
        GoldenHeader(
            specVersion: Specification.version, suite: suite.rawValue, tier: tier.rawValue,
            generator: Specification.generator, seed: seed)
    }
}

/// What the case generators share.
struct CaseBuilder: Sendable {
    let suite: Suite
    let tier: Tier
    let seed: UInt64

    func random(_ caseName: String) -> CaseRandom { CaseRandom(seed: seed, caseName: "\(suite.rawValue)/\(caseName)") }

    func file(_ name: String, _ cases: [GoldenCase]) -> GoldenFilePlan {
        GoldenFilePlan(suite: suite, name: name, cases: cases)
    }

    /// A case with the clauses that its operation has in the catalogue.
    func makeCase(
        _ name: String, _ op: String, why: String, recipe: [String: JSONValue] = [:], inputs: TensorGroup,
        clauses: [String] = []
    ) -> GoldenCase {
        let operation = OperationCatalog.all.first { $0.name == op }
        precondition(operation != nil, "case \(name) names no operation: \(op)")
        return GoldenCase(
            name: name, op: op, why: why, specClauses: (operation?.clauses ?? []) + clauses, recipe: recipe,
            inputs: inputs)
    }
}

extension JSONValue {
    /// The two entries of an fp32 parameter: the number and its bits.
    static func entries(_ name: String, _ value: Float) -> [String: JSONValue] {
        let digits = String(value.bitPattern, radix: 16)
        return [
            name: value.isFinite ? .number(Double(value)) : .null,
            name + "_bits": .string(String(repeating: "0", count: 8 - digits.count) + digits),
        ]
    }
}
