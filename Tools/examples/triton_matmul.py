#!/usr/bin/env python3
"""A Triton matrix product as an implementation that Touchstone can judge: dot.gemm, bf16 factors, fp32 sums.

    touchstone validate --suite dot --exec 'python3 Tools/examples/triton_matmul.py {in} {out}'

The kernel runs where Triton finds a GPU, or in Triton's interpreter with TRITON_INTERPRET=1. Elsewhere, or with
--kernel numpy, a stand-in in NumPy takes its place that goes through K in the same blocks; --kernel h200 is a model of
what the tensor cores of an NVIDIA H200 make of the kernel's blocks. The cases of the recipe chain-ieee are answered,
whose subnormals are kept; those of paired-ftz, whose subnormals are flushed, with --paired-ftz only. --mistake makes
one of three mistakes on purpose. Needs h5py and NumPy; the kernel needs PyTorch and Triton as well. The page "Validate
a Triton kernel" of the documentation goes through it.
"""

import argparse
import math
import os
import pathlib
import sys

import numpy as np

try:
    from touchstone.files import Tensor, bf16_to_fp32, read, write
except ImportError:  # not installed: the package beside this folder
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))
    from touchstone.files import Tensor, bf16_to_fp32, read, write

MISTAKES = ("remainder", "bf16-sum", "no-c")
BLOCK_K = 16

try:
    import torch
    import triton
    import triton.language as tl
except ImportError:
    triton = None

if triton:

    @triton.jit
    def matmul_kernel(
        a, b, c, d, M, N, K,
        HAS_C: tl.constexpr, REMAINDER: tl.constexpr, BF16_SUM: tl.constexpr,
        BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ):  # fmt: skip
        """d [M, N] = a [M, K] b [K, N] (+ c [M, N]): a, b bf16, c, d fp32, all contiguous. One program a tile of d."""
        row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
        column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = (row[:, None] < M) & (column[None, :] < N)
        if HAS_C:
            sums = tl.load(c + row[:, None] * N + column[None, :], mask=inside, other=0.0)
        else:
            sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        # The mistake REMAINDER: the last block of K is left out unless it is full.
        for block in range(0, K // BLOCK_K if REMAINDER else tl.cdiv(K, BLOCK_K)):
            k = block * BLOCK_K + tl.arange(0, BLOCK_K)
            x = tl.load(a + row[:, None] * K + k[None, :], mask=(row[:, None] < M) & (k[None, :] < K), other=0.0)
            y = tl.load(b + k[:, None] * N + column[None, :], mask=(k[:, None] < K) & (column[None, :] < N), other=0.0)
            sums = tl.dot(x, y, sums, input_precision="ieee")
            if BF16_SUM:  # the mistake: the accumulator is rounded to bf16 after every block
                sums = sums.to(tl.bfloat16).to(tl.float32)
        tl.store(d + row[:, None] * N + column[None, :], sums + 0.0, mask=inside)  # never -0 (D3)


def on_triton(a: np.ndarray, b: np.ndarray, c: np.ndarray | None, mistake: str | None) -> np.ndarray:
    """The kernel, on a GPU or in the interpreter; a and b are bit patterns of bf16."""
    device = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

    def bf16(bits: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(np.ascontiguousarray(bits).view(np.int16)).view(torch.bfloat16).to(device)
        # The interpreter of Triton 3.9 multiplies the bit patterns of bf16 as integers: it is given fp32.
        return x.float() if device == "cpu" else x

    (m, k), n = a.shape, b.shape[1]
    d = torch.empty((m, n), dtype=torch.float32, device=device)
    start = torch.from_numpy(np.ascontiguousarray(c)).to(device) if c is not None else d
    block = 16 if device == "cpu" else 32
    if m and n:
        matmul_kernel[(triton.cdiv(m, block), triton.cdiv(n, block))](
            bf16(a), bf16(b), start, d, m, n, k,
            HAS_C=c is not None, REMAINDER=mistake == "remainder", BF16_SUM=mistake == "bf16-sum",
            BLOCK_M=block, BLOCK_N=block, BLOCK_K=BLOCK_K,
        )  # fmt: skip
    return d.cpu().numpy()


def on_numpy(a: np.ndarray, b: np.ndarray, c: np.ndarray | None, mistake: str | None) -> np.ndarray:
    """The stand-in: blocks of K one after the other, each summed by itself in ascending order, in fp32."""
    a, b = bf16_to_fp32(a).astype(np.float64), bf16_to_fp32(b).astype(np.float64)
    depth = a.shape[1]
    end = depth // BLOCK_K * BLOCK_K if mistake == "remainder" else depth
    sums = np.zeros((a.shape[0], b.shape[1]), np.float32) if c is None else c.copy()
    with np.errstate(all="ignore"):
        for first in range(0, end, BLOCK_K):
            block = np.zeros_like(sums)
            for k in range(first, min(first + BLOCK_K, end)):
                # The product is exact in fp64, and so is the sum, as good as always, before it is rounded.
                block = (block + a[:, k, None] * b[None, k, :]).astype(np.float32)
            sums += block
            if mistake == "bf16-sum":
                sums = rounded_to_bf16(sums)
        return sums + np.float32(0)  # never -0 (D3)


def on_h200(a: np.ndarray, b: np.ndarray, c: np.ndarray | None, mistake: str | None) -> np.ndarray:
    """The model: 16 products and the accumulator are added at once.

    Each is cut below 2^-25 of the largest one's power of two (the exponents of a product's factors are added, nothing
    is normalised; the power is never below 2^-133), what is left is added exactly, and the sum is cut to fp32.
    """
    a, b = bf16_to_fp32(a), bf16_to_fp32(b)
    depth = a.shape[1] // BLOCK_K * BLOCK_K if mistake == "remainder" else a.shape[1]
    d = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for i, j in np.ndindex(d.shape):
        x, y = a[i, :depth].tolist(), b[:depth, j].tolist()
        total = 0.0 if c is None else float(c[i, j])
        for first in range(0, depth, BLOCK_K):
            block = slice(first, first + BLOCK_K)
            total = added_at_once([*zip(x[block], y[block], strict=True), (total, 1.0)])
            if mistake == "bf16-sum":
                total = float(rounded_to_bf16(np.array([total], np.float32))[0])
        d[i, j] = total + 0.0
    return d


# The power of two by which terms are aligned is never below this one; a term that is zero counts with it.
LOWEST_EXPONENT = -133


def added_at_once(terms: list[tuple[float, float]]) -> float:
    """The sum of products as the tensor cores have it, cut to fp32."""
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in terms):
        return sum(x * y for x, y in terms)  # NaN or an infinity; all else is finite and small beside it
    exponents = [exponent(x) + exponent(y) if x and y else LOWEST_EXPONENT for x, y in terms]
    unit = max([LOWEST_EXPONENT, *exponents]) - 25
    total = sum(int(math.ldexp(x * y, -unit)) for x, y in terms)  # int cuts towards zero; the rest is exact
    unit_of_fp32 = max(total.bit_length() - 24, -149 - unit, 0)
    cut = math.ldexp(abs(total) >> unit_of_fp32, unit_of_fp32 + unit)
    return math.copysign(cut if cut < 2.0**128 else math.inf, total)


def exponent(x: float) -> int:
    """e of x = 1.f 2^e; a subnormal has that of the smallest normal number."""
    return max(math.frexp(x)[1] - 1, -126)


def rounded_to_bf16(x: np.ndarray) -> np.ndarray:
    """To nearest, ties to even; NaN stays NaN."""
    bits = x.view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, bits.view(np.float32))


def can_run_triton() -> bool:
    return triton is not None and (os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available())


def main(
    source: str,
    target: str,
    kernel: str | None = None,
    mistake: str | None = None,
    recipes: tuple[str, ...] = ("chain-ieee",),
) -> None:
    if kernel is None:
        kernel = "triton" if can_run_triton() else "numpy"
        if kernel == "numpy":
            print("triton_matmul: no Triton with a GPU here; NumPy stands in for the kernel", file=sys.stderr)
    product = {"triton": on_triton, "numpy": on_numpy, "h200": on_h200}[kernel]
    golden = read(source)
    for case in golden.cases:
        # Only the answers are written; a case without outputs is skipped, and counted.
        case.outputs, case.truth, case.bounds, case.intermediates = {}, {}, {}, {}
        if case.op != "dot.gemm" or case.recipe["dot"] not in recipes:
            continue
        if case.recipe.get("output", "fp32") != "fp32":
            continue
        c = case.inputs["c"].array if "c" in case.inputs and mistake != "no-c" else None
        case.outputs["d"] = Tensor("fp32", product(case.inputs["a"].array, case.inputs["b"].array, c, mistake))
    write(target, golden)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", metavar="IN")
    parser.add_argument("output", metavar="OUT")
    parser.add_argument("--kernel", choices=("triton", "numpy", "h200"), help="triton where it can run, else numpy")
    parser.add_argument("--mistake", choices=MISTAKES, help="make this mistake on purpose")
    parser.add_argument("--paired-ftz", action="store_true", help="answer the cases of that recipe too")
    options = parser.parse_args()
    recipes = ("chain-ieee", "paired-ftz") if options.paired_ftz else ("chain-ieee",)
    main(options.input, options.output, options.kernel, options.mistake, recipes)
