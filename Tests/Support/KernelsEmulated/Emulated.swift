import Kernels

/// The tiles and packings of the AVX-512 modules, compiled for this machine's older instructions: the same sources, the same bits, so that a machine
/// without AVX-512 tests all of them but the instructions themselves.
public enum Emulated {
    public static let singles = KernelSet(
        name: "emulated-avx512", tileRows: Product.tileRows, tileColumns: Product.tileColumns, pack: Packing.packing,
        multiply: { Product.multiply($0) }, rows: Rows.kernels, math: VectorMath.kernels,
        squinch: SquinchVectors.kernels, peak: { Tile.peak($0) })

    public static let pairs = KernelSet(
        name: "emulated-avx512-bf16", tileRows: PairsProduct.tileRows, tileColumns: PairsProduct.tileColumns,
        pack: PairsPacking.packing, multiply: { PairsProduct.multiply($0) }, rows: Rows.kernels,
        math: VectorMath.kernels, squinch: SquinchVectors.kernels, peak: { PairsProduct.peak($0) })
}
