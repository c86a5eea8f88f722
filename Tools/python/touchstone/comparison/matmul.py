"""Matrix products of a library against both dot recipes, and the order in which it adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from ..files import bf16_to_fp32
from ..reference import dot
from .libraries import MatrixProduct
from .order import Arithmetic, Prober, Tree, arithmetics, name, other_start, simulate
from .rounding import fp32_to_bf16

SEED = 20240301
DEPTHS = (1, 2, 3, 7, 8, 16, 31, 32, 33, 64, 128, 256, 1024)
SHAPES = ((64, 64), (16, 16), (5, 7), (1, 64), (64, 1))
MODELLED_DEPTH = 256
RECIPES = ("paired-ftz", "chain-ieee")


@dataclass
class Row:
    """One way to multiply, one shape [M, K] x [K, N]."""

    product: str
    rows: int
    depth: int
    columns: int
    equal: dict[str, float]  # by recipe: the share of elements with our bits
    equal_cancelling: dict[str, float]  # the same for sums that nearly cancel, which show every rounding
    largest_ulp: dict[str, int]
    order: str
    orders: int  # different ones among the outputs
    tree: str
    reproduced: float  # the share of elements that a simulation of the order gives, inputs of ordinary size
    near_underflow: float | None  # the same with products near 2^-126, by the best of the models; None: not tried
    model: str  # that model


def _random(generator: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    return fp32_to_bf16((generator.standard_normal(shape) * scale).astype(np.float32))


def _share(first: np.ndarray, second: np.ndarray) -> float:
    """Of equal bits, NaNs being one class."""
    equal = first.view(np.uint32) == second.view(np.uint32)
    return float((equal | (np.isnan(first) & np.isnan(second))).mean())


def _ulps(expected: np.ndarray, got: np.ndarray, bf16: bool) -> int:
    """The largest distance along the ordered patterns of the output format."""

    def ordered(x: np.ndarray) -> np.ndarray:
        bits = x.view(np.uint32).astype(np.int64)
        bits = np.where(bits >= 1 << 31, (1 << 31) - bits, bits)
        return bits >> 16 if bf16 else bits

    return int(np.abs(ordered(expected) - ordered(got)).max())


def measure(product: MatrixProduct, rows: int, depth: int, columns: int) -> Row:
    generator = np.random.default_rng([SEED, rows, depth, columns])
    a, b = _random(generator, (rows, depth), 1), _random(generator, (depth, columns), 1)
    # The second half of each sum is the first with its sign turned: what is left is the roundings.
    half = depth // 2
    cancelling = a.copy(), b.copy()
    cancelling[0][:, half : 2 * half] = a[:, :half]
    cancelling[1][half : 2 * half] = b[:half] ^ 0x8000
    small = _random(generator, (rows, depth), 2.0**-63), _random(generator, (depth, columns), 2.0**-63)

    def rounded(x: np.ndarray) -> np.ndarray:
        return bf16_to_fp32(fp32_to_bf16(x)) if product.bf16 else x

    got = product.call(a, b)
    got_cancelling = product.call(*cancelling)
    ours = {recipe: rounded(dot.gemm(recipe, a, b, None)) for recipe in RECIPES}
    equal_cancelling = {
        recipe: _share(rounded(dot.gemm(recipe, *cancelling, None)), got_cancelling) for recipe in RECIPES
    }
    trees = Prober(product.call, rows, depth, columns, 256 if product.bf16 else 1 << 24).trees()
    _, tree = max(trees, key=lambda pair: int(pair[0].sum()))
    reproduced = min(
        _share(simulate(trees, *operands, Arithmetic(), product.bf16), result)
        for operands, result in (((a, b), got), (cancelling, got_cancelling))
    )
    near, model = (None, "") if depth > MODELLED_DEPTH else _best_model(product, trees, *small)
    return Row(
        product.name,
        rows,
        depth,
        columns,
        {recipe: _share(x, got) for recipe, x in ours.items()},
        equal_cancelling,
        {recipe: _ulps(x, got, product.bf16) for recipe, x in ours.items()},
        name(tree, depth),
        len(trees),
        str(tree),
        reproduced,
        near,
        model,
    )


def _best_model(
    product: MatrixProduct, trees: list[tuple[np.ndarray, Tree]], a: np.ndarray, b: np.ndarray
) -> tuple[float, str]:
    """The first model of subnormals that gives the library's bits, else the one that gives most of them."""
    got = product.call(a, b)
    started = [(mask, other_start(tree)) for mask, tree in trees]
    best = 0.0, ""
    for candidate in (trees, started):
        for arithmetic in arithmetics(a.shape[1] % 2 == 1, product.bf16):
            share = _share(simulate(candidate, a, b, arithmetic, product.bf16), got)
            if share > best[0]:
                best = share, str(arithmetic)
            if share == 1:
                return best
    return best


def compare(products: list[MatrixProduct], progress: Callable[[str], None], depths=DEPTHS, shapes=SHAPES) -> list[dict]:
    results = []
    for product in products:
        for rows, columns in shapes:
            for depth in depths:
                row = measure(product, rows, depth, columns)
                results.append(asdict(row))
            progress(f"{product.name}: [{rows}, K] x [K, {columns}]")
    return results
