extension Squinch {
    /// What the range of scales did to the blocks of a tensor (S9).
    ///
    /// A block belongs to at most one of the three counts beside ``blocks``. m is its largest magnitude.
    public struct Report: Sendable, Hashable, CustomStringConvertible {
        /// All blocks.
        public var blocks = 0
        /// Blocks with m = 0.
        public var zeroBlocks = 0
        /// Blocks with 0 < m < T[1], about 5.4e-10: all of a block is lost, it decodes to +0.
        public var clippedBelow = 0
        /// Blocks with m > M[255], about 1.56e9, among them those of saturated infinities: their largest elements decode
        /// to less than they are by more than the code's own step.
        public var clippedAbove = 0

        public init() {}

        public var description: String {
            "\(blocks) blocks: \(zeroBlocks) zero, \(clippedBelow) below the least scale, "
                + "\(clippedAbove) above the greatest"
        }
    }
}
