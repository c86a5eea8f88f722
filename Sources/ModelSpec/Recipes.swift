/// The rounding modes of bf16 operations by their names in recipes (clause B1).
public enum RoundingName: String, Sendable, CaseIterable {
    case rne, rtz, rdn, rup, rna, rto
    /// From random bits; of operations with a bf16 result alone (B2).
    case sr
}

/// The types that bf16 converts from and to (clause B5).
public enum ConversionType: String, Sendable, CaseIterable {
    case fp16, fp32, fp64, int8, int16, int32, int64, uint8, uint16, uint32, uint64
}

/// How a dot product of bf16 inputs is accumulated in fp32 (clause D).
///
/// The raw value is the name that stands in configurations, golden files and reports.
public enum DotRecipe: String, Sendable, CaseIterable, Codable {
    /// D1: pairs along K, the odd element first, each step a fused multiply-add that reads and writes subnormals as zero.
    /// What `VDPBF16PS` computes.
    case pairedFTZ = "paired-ftz"
    /// D2: ascending k, one IEEE fused multiply-add a term, gradual underflow.
    case chainIEEE = "chain-ieee"
}

/// How a magnitude becomes one of the 16 codes of Squinch (clause S3).
public enum SquinchVariant: String, Sendable, CaseIterable, Codable {
    case floor16
    case round15
    case stochastic15
}

/// What Squinch does with an infinity in its input (clause S6). NaN is refused under either.
public enum NonfinitePolicy: String, Sendable, CaseIterable, Codable {
    /// The first NaN or infinity is an error that names it and its index; nothing is written.
    case refuse
    /// Infinities encode as code 15 under the scale 255.
    case saturate
}

/// The clause-by-clause specification that this package implements.
public enum Specification {
    /// Carried by every golden file as `spec_version`; a rule never changes while this stays the same.
    public static let version = "1.0"
}

extension Specification {
    /// The version of this package.
    public static let softwareVersion = "0.1.0"

    /// What golden files name as their `generator`. No machine, date or build stands in it: files are byte-identical
    /// wherever they are made.
    public static let generator = "touchstone \(softwareVersion)"
}

/// How the reference computes fp32 operations: the same bits either way.
public enum Arithmetic: String, Sendable, CaseIterable, Codable {
    /// Integers alone (``/ExactMath/SoftFloat32``). What writes goldens.
    case soft
    /// The processor's binary64 and binary32 operations, proved equal to `soft` by tests; several times faster.
    case hardware
}

/// What the two tensors of a visibility mask are indexed by (clause V1).
public enum MaskOrientation: String, Sendable, CaseIterable, Codable {
    /// [B, Q]: query i attends key j iff start[i] <= j < limit[i].
    case byQuery = "by-query"
    /// [B, T]: key j is attended by the query at position p iff start[j] <= p < limit[j].
    case byKey = "by-key"
}

/// Where the gradient of the z-regulariser enters (clause Z2).
public enum ZRegForm: String, Sendable, CaseIterable, Codable {
    case folded
    case unfolded
    case rowDot = "row-dot"
}

/// What precedes a clamp (clause C1).
public enum ClampActivation: String, Sendable, CaseIterable, Codable {
    case none
    case relu2
}

/// Where the gradient passes a clamp (clause C4).
public enum ClampGradient: String, Sendable, CaseIterable, Codable {
    case straightThrough = "straight-through"
    case inward
}

/// The clamp of a model's feed-forward layers (clauses C1, C5).
public enum ClampKind: String, Sendable, CaseIterable, Codable {
    case none
    case dynamic
    case `static`
}

/// The format in which gradients travel between ranks (clause T5).
public enum Compression: String, Sendable, CaseIterable, Codable {
    case none
    case bf16
    case squinch
}

/// The course of the learning rate after the warm-up (clause T4).
public enum Schedule: String, Sendable, CaseIterable, Codable {
    case constant
    case linear
    case cosine
}
