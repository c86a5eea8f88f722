/// What a random case aims at. Coverage is counted by operation, recipe and class.
public enum CaseClass: String, Sendable, CaseIterable {
    /// Ordinary values, sizes and recipes.
    case random
    /// Results half way between two representable ones, and one unit to each side; equal candidates of a choice.
    case ties
    /// Values, products and sums about 2^-126 and below.
    case subnormals
    /// Values near the largest finite one, and infinities that they make.
    case overflow
    /// Sums of terms that nearly cancel.
    case cancellation
    /// NaN, infinities and zeros of both signs where the operation admits them.
    case specials
    /// Sizes at which lanes, tiles and blocks end: 1, primes, 15-17, 31-33, 4095-4097.
    case tileEdge = "tile-edge"
    /// Sizes of 0 and 1.
    case degenerate
    /// Queries that see nothing, and keys that nobody sees.
    case maskEmptyRow = "mask-empty-row"
    /// Queries that see one key.
    case maskOneKey = "mask-one-key"
    /// Document trees.
    case maskTree = "mask-tree"
    /// Windows of 1, the length, and between.
    case maskWindow = "mask-window"
    /// Queries behind a cache.
    case queryOffset = "query-offset"
    /// Arbitrary intervals.
    case maskRandom = "mask-random"
    /// The table's thresholds and their neighbours.
    case thresholds
    /// Ratios at the boundaries between codes.
    case codeBoundaries = "code-boundaries"
    /// A limit of 0.
    case zeroLimit = "zero-limit"
    /// Logits of -infinity, rows of them alone.
    case infiniteLogits = "infinite-logits"
    /// Slots, ids or targets that are none; as many and more than there are.
    case slots
    /// Late steps, large rates, betas at their ends, clipped gradients.
    case largeSteps = "large-steps"
    /// Both forms of a quantity that wraps, ends or repeats: counters, bit patterns.
    case patterns
    /// A plain model.
    case plain
    /// Random combinations of techniques.
    case features
    /// Several ranks and compressed gradients.
    case ranks
}
