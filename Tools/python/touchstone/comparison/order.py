"""In which order does somebody else's matrix product add?

With 2^60 at position i, -2^60 at j and ones elsewhere, every one that is added before the two meet is absorbed, and
the result counts the ones that are added after: the leaves outside the smallest subtree that holds both i and j. The
counts for enough pairs give the whole tree of additions (the method of FPRev, Xie et al. 2025). A product of two bf16
numbers is exact in fp32 except near underflow and overflow, so beside the order only flushing and the final rounding
are left to decide the bits: a simulation of the tree either reproduces the library on random data or it does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..files import bf16_to_fp32
from ..reference import dot
from .rounding import flush_bf16, fp32_to_bf16

BIG, MINUS_BIG, ONE = 0x5D80, 0xDD80, 0x3F80  # 2^60, -2^60, 1

# bf16 bits [M, K] and [K, N] to float32 [M, N]
Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Tree:
    """Leaf `first`, to which the others are added one after another; each is a leaf or a finished sum."""

    first: int
    rest: tuple[Tree, ...] = ()

    def __str__(self) -> str:
        return " ".join([str(self.first)] + [f"({tree})" if tree.rest else str(tree) for tree in self.rest])


class Prober:
    """Finds the tree of every output of one product of a fixed shape."""

    def __init__(self, product: Product, rows: int, depth: int, columns: int, exact_count: int):
        """`exact_count`: the largest count that the output format holds exactly (256 for bf16)."""
        self.product, self.shape, self.depth, self.exact_count = product, (rows, columns), depth, exact_count
        self.ones = np.full((depth, columns), ONE, np.uint16)
        self.known: dict[tuple[int, int], np.ndarray] = {}

    def together(self, i: int, j: int) -> np.ndarray:
        """[M, N]: the number of leaves in the smallest subtree that holds i and j."""
        if (i, j) not in self.known:
            survivors = np.zeros(self.shape, np.int64)
            for start in range(0, self.depth, self.exact_count):
                row = np.zeros(self.depth, np.uint16)
                row[start : start + self.exact_count] = ONE
                row[i], row[j] = BIG, MINUS_BIG
                left = np.broadcast_to(row, (self.shape[0], self.depth)).copy()
                survivors += self.product(left, self.ones).astype(np.int64)
            self.known[i, j] = self.depth - survivors
        return self.known[i, j]

    def trees(self) -> list[tuple[np.ndarray, Tree]]:
        """Boolean masks [M, N] that cover all outputs, each with the tree of its outputs."""
        return list(self._build(list(range(self.depth)), np.ones(self.shape, bool)))

    def _build(self, leaves: list[int], mask: np.ndarray) -> Iterator[tuple[np.ndarray, Tree]]:
        if len(leaves) == 1:
            yield mask, Tree(leaves[0])
            return
        first, others = leaves[0], leaves[1:]
        sizes = np.stack([self.together(first, other)[mask] for other in others])
        patterns, which = np.unique(sizes, axis=1, return_inverse=True)
        positions = np.argwhere(mask)
        for pattern in range(patterns.shape[1]):
            part = np.zeros(self.shape, bool)
            part[tuple(positions[which.reshape(-1) == pattern].T)] = True
            groups: dict[int, list[int]] = {}
            for other, size in zip(others, patterns[:, pattern].tolist()):
                groups.setdefault(size, []).append(other)
            partial = [(part, ())]
            for size in sorted(groups):
                partial = [
                    (narrower, siblings + (tree,))
                    for wider, siblings in partial
                    for narrower, tree in self._build(groups[size], wider)
                ]
            for narrower, siblings in partial:
                yield narrower, Tree(first, siblings)


class Arithmetic(NamedTuple):
    """What the order leaves open; only near underflow and overflow does any of it show."""

    flush_products: bool = False  # adding a product reads and writes subnormals as zeros (VDPBF16PS always does)
    flush_sums: bool = False  # so does adding two sums
    fused: bool = True  # a product is not rounded before it is added
    from_zero: bool = False  # the result is added to +0, so it is never -0
    tail_apart: bool = False  # the product at the last k is rounded by itself, then added
    flush_output: bool = False  # the conversion to bf16 writes zeros for subnormals (VCVTNEPS2BF16 always does)

    def __str__(self) -> str:
        flushes = {
            (False, False): "gradual underflow",
            (True, True): "subnormals flushed",
            (True, False): "subnormals flushed in the products' sums only",
            (False, True): "subnormals flushed in the sums of sums only",
        }
        return flushes[self.flush_products, self.flush_sums] + "".join(
            [
                "" if self.fused else ", products rounded first",
                ", the last product apart" if self.tail_apart else "",
                ", subnormals flushed on output" if self.flush_output else "",
            ]
        )


def arithmetics(odd: bool, bf16: bool) -> list[Arithmetic]:
    """The likely ones first. The last product can stand apart only if K is odd, outputs be flushed only if bf16."""
    return [
        Arithmetic(products, sums, fused, from_zero, tail_apart, flush_output)
        for flush_output in ((False, True) if bf16 else (False,))
        for tail_apart in ((False, True) if odd else (False,))
        for products, sums in ((False, False), (True, True), (True, False))
        for fused in (True, False)
        for from_zero in (False, True)
    ]


def evaluate(tree: Tree, a: np.ndarray, b: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """The tree's sum for rows of a [outputs, K] and of b [outputs, K], bf16 bits; float32 [outputs]."""
    x, y = (bf16_to_fp32(np.ascontiguousarray(v.T)) for v in (a, b))
    zero = np.zeros(x.shape[1], np.float32)

    def multiply_add(leaf: int, total: np.ndarray) -> np.ndarray:
        apart = not arithmetic.fused or (arithmetic.tail_apart and leaf == len(x) - 1)
        if apart and total is not zero:
            return add(multiply_add(leaf, zero), total, arithmetic.flush_products)
        if arithmetic.flush_products:
            wide = (v.astype(np.float64) for v in (x[leaf], y[leaf], total))
            return dot.to_fp32(dot.fma_flushing(*wide))
        return dot.fma(x[leaf], y[leaf], total)

    def add(first: np.ndarray, second: np.ndarray, flush: bool) -> np.ndarray:
        if flush:
            one = np.ones_like(second, np.float64)
            return dot.to_fp32(dot.fma_flushing(second.astype(np.float64), one, first.astype(np.float64)))
        with np.errstate(all="ignore"):
            return first + second

    def total(tree: Tree) -> np.ndarray:
        result = multiply_add(tree.first, zero)
        for part in tree.rest:
            if part.rest:
                result = add(result, total(part), arithmetic.flush_sums)
            else:
                result = multiply_add(part.first, result)
        return result

    return total(tree) + np.float32(0) if arithmetic.from_zero else total(tree)


def other_start(tree: Tree) -> Tree:
    """The tree with its first two products exchanged: addition commutes, so only flushing can tell them apart."""
    if tree.rest and not tree.rest[0].rest:
        return Tree(tree.rest[0].first, (Tree(tree.first),) + tuple(other_start(part) for part in tree.rest[1:]))
    return Tree(tree.first, tuple(other_start(part) for part in tree.rest))


def simulate(
    trees: list[tuple[np.ndarray, Tree]], a: np.ndarray, b: np.ndarray, arithmetic: Arithmetic, bf16: bool
) -> np.ndarray:
    """What a library with these trees gives for a [M, K] times b [K, N]; float32, rounded to bf16 if its output is."""
    result = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for mask, tree in trees:
        rows, columns = np.nonzero(mask)
        result[mask] = evaluate(tree, a[rows], b.T[columns], arithmetic)
    if not bf16:
        return result
    rounded = fp32_to_bf16(result)
    return bf16_to_fp32(flush_bf16(rounded) if arithmetic.flush_output else rounded)


# Names for the shapes that trees have


def ascending(depth: int) -> Tree:
    return Tree(0, tuple(Tree(k) for k in range(1, depth)))


def paired(depth: int) -> Tree:
    """D1's; which of the first two products comes first leaves no trace."""
    order = [k for pair in range(2, depth, 2) for k in (pair + 1, pair) if k < depth]
    return Tree(0, tuple(Tree(k) for k in [1][: depth - 1] + order))


def name(tree: Tree, depth: int) -> str:
    if depth <= 2 or tree == ascending(3):  # of three products, both recipes' order
        return "any"
    if tree == ascending(depth):
        return "ascending"
    if tree == paired(depth):
        return "pairs, odd first"
    chains, tails = _chains(tree)
    if len(chains) == 1:
        return "one sum, permuted"
    tail = " and a tail" if tails else ""
    strides = Counter(later - earlier for chain in chains for earlier, later in zip(chain, chain[1:]))
    stride, count = strides.most_common(1)[0] if strides else (0, 0)
    if count >= 0.8 * strides.total():
        if len(strides) > 1:
            tail = " and a tail"
        if stride > 1:
            return f"{stride} lanes{tail}"
        return f"blocks of {max(len(chain) for chain in chains)}{tail}"
    pairs = [(chain[i], chain[i + 1]) for chain in chains for i in range(0, len(chain) - 1, 2)]
    if all(abs(first - second) == 1 for first, second in pairs):
        step = Counter(
            min(chain[i : i + 2]) - min(chain[i - 2 : i]) for chain in chains for i in range(2, len(chain) - 1, 2)
        )
        apart = step.most_common(1)[0][0] if step else 0
        if apart == 2:
            return f"blocks of {max(len(chain) for chain in chains)}, each in pairs, odd first{tail}"
        if apart > 2:
            return f"{apart // 2} lanes of pairs, odd first{tail}"
    return f"{len(chains)} partial sums, irregular{tail}"


def _chains(tree: Tree) -> tuple[list[list[int]], list[int]]:
    """Runs of products added one by one, and products added to a sum of such runs."""
    chain, chains, tails = [tree.first], [], []
    for part in tree.rest:
        if part.rest:
            inner, inner_tails = _chains(part)
            chains += inner
            tails += inner_tails
        else:
            (tails if chains else chain).append(part.first)
    return [chain] + chains, tails
