"""Clause K: Gumbel sampling."""

from __future__ import annotations

import numpy as np

from . import elementary, random
from .elementary import Rounder
from .fp32 import F, apply, lane16, reciprocal, softmax

EMPTY = 0xFFFFFFFF


def words(seed: int, stream: int, step: int, first: int, count: int) -> np.ndarray:
    """G1: draws first ..< first + count."""
    blocks = np.arange(first // 4, (first + count + 3) // 4, dtype=np.uint64)
    counter = np.stack(
        [blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32), np.full_like(blocks, stream), np.full_like(blocks, step)], 1
    ).astype(np.uint32)
    key = np.broadcast_to(np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32), (len(blocks), 2))
    return random.philox(key, counter).reshape(-1)[first % 4 : first % 4 + count]


def _noise(draw, first: int, count: int, rounder: Rounder) -> np.ndarray:
    return random.gumbel(words(*draw, first, count), rounder)


def _check(logits: np.ndarray) -> None:
    if np.isnan(logits).any() or np.isposinf(logits).any():
        raise ValueError(f"logit at {np.argwhere(np.isnan(logits) | np.isposinf(logits))[0].tolist()}")


def top_k(logits, k: int, draw, rounder: Rounder = elementary.round_function):
    """K1, K2: ids, weights, kappa."""
    _check(logits)
    n, v = logits.shape
    ids = np.full((n, k), EMPTY, np.uint32)
    weights = np.zeros((n, k), np.float32)
    kappas = np.full(n, -np.inf, np.float32)
    with np.errstate(all="ignore"):
        logp = logits - softmax(logits, None, rounder)[3][:, None]
        phi = logp + _noise(draw, 0, n * v, rounder).reshape(n, v)
        for row in range(n):
            entering = [j for j in range(v) if logits[row, j] != -np.inf]
            entering.sort(key=lambda j: (-float(phi[row, j]), j))
            chosen = entering[:k]
            if len(entering) > k:
                kappas[row] = phi[row, entering[k]]
            ids[row, : len(chosen)] = chosen
            p = apply("exp", logp[row, chosen], rounder)
            if kappas[row] == -np.inf:
                weights[row, : len(chosen)] = p
            else:
                t = apply("exp", logp[row, chosen] - kappas[row], rounder)
                weights[row, : len(chosen)] = p / -apply("expm1", -t, rounder)
    return ids, weights, kappas


def with_replacement(logits, k: int, draw, rounder: Rounder = elementary.round_function):
    """K2: ids, weights."""
    _check(logits)
    n, v = logits.shape
    ids = np.full((n, k), EMPTY, np.uint32)
    weights = np.zeros((n, k), np.float32)
    with np.errstate(all="ignore"):
        logp = logits - softmax(logits, None, rounder)[3][:, None]
        for slot in range(k):
            phi = logp + _noise(draw, slot * n * v, n * v, rounder).reshape(n, v)
            for row in range(n):
                entering = [j for j in range(v) if logits[row, j] != -np.inf]
                if entering:
                    ids[row, slot] = max(entering, key=lambda j: (float(phi[row, j]), -j))
                    weights[row, slot] = reciprocal(k)
    return ids, weights


def relaxed(logits, dy, tau, draw, rounder: Rounder = elementary.round_function):
    """K3: y, dlogits."""
    with np.errstate(all="ignore"):
        z = (logits + _noise(draw, 0, logits.size, rounder).reshape(logits.shape)) / tau
        if not np.isfinite(z).all():
            raise ValueError("z is not finite")
        y = softmax(z, None, rounder)[0]
        return y, (y * (dy - lane16(y, dy)[:, None])) / tau
