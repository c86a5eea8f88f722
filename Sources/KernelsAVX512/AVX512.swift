import Kernels

/// One register of sixteen lanes, with AVX-512 F, BW, DQ and VL.
public enum AVX512 {
    public static let kernels = KernelSet(
        name: "avx512", tileRows: Product.tileRows, tileColumns: Product.tileColumns, pack: Packing.packing,
        multiply: { Product.multiply($0) }, rows: Rows.kernels, math: VectorMath.kernels,
        squinch: SquinchVectors.kernels, peak: { Tile.peak($0) })
}
