import Kernels

/// Sixteen lanes in whatever registers every processor of the architecture has; fma by binary64 where there is no instruction.
public enum Portable {
    public static let kernels = KernelSet(
        name: "portable", tileRows: Product.tileRows, tileColumns: Product.tileColumns, pack: Packing.packing,
        multiply: { Product.multiply($0) }, rows: Rows.kernels, math: VectorMath.kernels,
        squinch: SquinchVectors.kernels,
        peak: { Tile.peak($0) })
}
