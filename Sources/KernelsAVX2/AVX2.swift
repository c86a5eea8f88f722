import Kernels

/// Two registers of eight lanes, with AVX2 and FMA.
public enum AVX2 {
    public static let kernels = KernelSet(
        name: "avx2", tileRows: Product.tileRows, tileColumns: Product.tileColumns, pack: Packing.packing,
        multiply: { Product.multiply($0) }, rows: Rows.kernels, math: VectorMath.kernels,
        squinch: SquinchVectors.kernels,
        peak: { Tile.peak($0) })
}
