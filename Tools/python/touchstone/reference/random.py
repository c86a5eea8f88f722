"""Clause G: Philox4x32-10 and what is made of its words."""

from __future__ import annotations

import numpy as np

from . import elementary
from .elementary import SIGN, Rounder
from .formats import FP32, Finite, round_value

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = np.uint64(0xFFFFFFFF)


def philox(key: np.ndarray, counter: np.ndarray) -> np.ndarray:
    """G1: UInt32 [n, 2], [n, 4] -> [n, 4]."""
    k0, k1 = (key[:, i].astype(np.uint64) for i in range(2))
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    for _ in range(10):
        first, second = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (second >> np.uint64(32)) ^ c1 ^ k0,
            second & MASK,
            (first >> np.uint64(32)) ^ c3 ^ k1,
            first & MASK,
        )
        k0, k1 = (k0 + np.uint64(WEYL[0])) & MASK, (k1 + np.uint64(WEYL[1])) & MASK
    return np.stack([c0, c1, c2, c3], 1).astype(np.uint32)


def uniform(words: np.ndarray) -> np.ndarray:
    """G2: (2 (w >> 9) + 1) 2^-24, exactly."""
    return ((2 * (words >> np.uint32(9)) + 1).astype(np.float64) * 2.0**-24).astype(np.float32)


def _function(name: str, bits: int, rounder: Rounder) -> int:
    return rounder(name, bits, (FP32,))[0]


def gumbel(words: np.ndarray, rounder: Rounder = elementary.round_function) -> np.ndarray:
    """G3."""
    largest = round_value(FP32, Finite(0, (1 << 24) - 1, -24))[0]
    results = np.empty(len(words), np.uint32)
    for index, word in enumerate(words.tolist()):
        v = min(round_value(FP32, Finite(0, 2 * word + 1, -33))[0], largest)  # positive: bits are in order
        t = _function("log1p", v | SIGN, rounder) ^ SIGN
        results[index] = _function("log", t, rounder) ^ SIGN
    return results.view(np.float32)


def normal(words: np.ndarray, rounder: Rounder = elementary.round_function) -> np.ndarray:
    """G4: UInt32 [n, 2] -> fp32 [n, 2]."""
    u = uniform(words.reshape(-1)).reshape(-1, 2)
    results = np.empty(u.shape, np.float32)
    for index in range(len(u)):
        logarithm = np.uint32(_function("log", int(u[index, :1].view(np.uint32)[0]), rounder))
        square = np.array([logarithm]).view(np.float32) * np.float32(-2)  # exact
        radius = np.array([_function("sqrt", int(square.view(np.uint32)[0]), rounder)], np.uint32).view(np.float32)[0]
        angle = int((u[index, 1:] * np.float32(2)).view(np.uint32)[0])  # exact
        for column, name in enumerate(("cosPi", "sinPi")):
            factor = np.array([_function(name, angle, rounder)], np.uint32).view(np.float32)[0]
            results[index, column] = radius * factor
    return results
