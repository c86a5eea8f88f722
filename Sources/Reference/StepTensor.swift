import BFloat16
import ModelSpec

/// A tensor that a training step produced, on its way to a probe: the fingerprint, golden intermediates, a search for the
/// first operation that differs (T2, T6).
public struct StepTensor: Sendable {
    public enum Values: Sendable {
        case bf16([BFloat16])
        case fp32([Float])
        case int8([Int8])
    }

    public let values: Values
    /// In C order.
    public let shape: [Int]

    /// The element format.
    public var type: ElementType {
        switch values {
        case .bf16: .bf16
        case .fp32: .fp32
        case .int8: .int8
        }
    }

    public init(_ values: [BFloat16], _ shape: [Int]) {
        self.values = .bf16(values)
        self.shape = shape
    }

    public init(_ values: [Float], _ shape: [Int]) {
        self.values = .fp32(values)
        self.shape = shape
    }

    public init(_ values: [Int8], _ shape: [Int]) {
        self.values = .int8(values)
        self.shape = shape
    }
}

/// Is shown every tensor of a step by its name (T2), in execution order.
public typealias Probe = (_ name: String, _ tensor: StepTensor) throws -> Void
