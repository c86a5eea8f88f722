/// The numbers of the random streams: the third counter word of G1. A number never changes its meaning, and none is
/// used twice; what has no random numbers has no stream.
public enum RandomStreams {
    /// Initial weights.
    public static let initialization: UInt32 = 0
    /// The order of training data.
    public static let dataOrder: UInt32 = 1
    /// Gumbel sampling of soft targets (K1).
    public static let gumbel: UInt32 = 2
    /// Stochastic rounding of gradients on their way to another rank (S3, S8), and to bf16 (B1: the high half of a draw).
    public static let rounding: UInt32 = 3
    /// Text sampled from a model.
    public static let text: UInt32 = 4
}
