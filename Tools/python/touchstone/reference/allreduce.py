"""S8 and T5: gradients of W ranks combined."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from . import squinch
from .bf16 import convert_float
from .dot import canonical_fp32
from .formats import BF16, FP32, round_fraction


def mean(contributions: np.ndarray) -> np.ndarray:
    """fp32 [W, n] -> [n]: added in rank order from +0, times RNE32(1/W)."""
    ranks = len(contributions)
    total = np.zeros(contributions.shape[1], np.float32)
    reciprocal = np.array(round_fraction(FP32, Fraction(1, ranks)), np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        for rank in range(ranks):
            total = total + contributions[rank]
        return total * reciprocal


def round_to_bf16(x: np.ndarray) -> np.ndarray:
    """fp32 -> bf16 bits, RNE, canonical NaN."""
    bits = np.ascontiguousarray(x).view(np.uint32).reshape(-1).tolist()
    rounded = [convert_float(FP32, BF16, value, "rne", "after")[0] for value in bits]
    return np.array(rounded, np.uint16).reshape(x.shape)


def in_fp32(g: np.ndarray) -> np.ndarray:
    return canonical_fp32(mean(g))


def in_bf16(g: np.ndarray) -> np.ndarray:
    rounded = round_to_bf16(g).astype(np.uint32) << np.uint32(16)
    return round_to_bf16(mean(rounded.view(np.float32)))


def in_squinch(
    variant: str,
    nonfinite: str,
    g: np.ndarray,
    e: np.ndarray | None,
    random: np.ndarray | None,
    random_reduced: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """S8. Shards do not appear: an element's sum knows nothing of its block's owner."""
    ranks, count = g.shape
    encoded, decoded, residual = [], [], []
    for rank in range(ranks):
        words = None if random is None else random[rank]
        if e is None:
            encoded.append(squinch.encode(variant, g[rank], words, nonfinite))
            decoded.append(squinch.decode(variant, encoded[-1], count))
        else:
            blocks, values, rest = squinch.feedback(variant, g[rank], e[rank], words)
            encoded.append(blocks)
            decoded.append(values)
            residual.append(rest)
    reduced = squinch.encode(variant, mean(np.stack(decoded)), random_reduced, nonfinite)
    outputs = {"r": squinch.decode(variant, reduced, count), "encoded": np.stack(encoded), "reduced": reduced}
    if e is not None:
        outputs["residual"] = np.stack(residual)
    return outputs
