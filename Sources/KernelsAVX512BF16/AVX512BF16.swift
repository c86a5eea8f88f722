import Kernels

/// AVX-512, and VDPBF16PS for products.
public enum AVX512BF16 {
    public static let kernels = KernelSet(
        name: "avx512-bf16", tileRows: PairsProduct.tileRows, tileColumns: PairsProduct.tileColumns,
        pack: PairsPacking.packing, multiply: { PairsProduct.multiply($0) }, rows: Rows.kernels,
        math: VectorMath.kernels, squinch: SquinchVectors.kernels, peak: { PairsProduct.peak($0) })
}
