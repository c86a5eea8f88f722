"""Vectorised rounding to bf16, for models of what a library might do. NaN is canonical."""

from __future__ import annotations

import numpy as np


def fp32_to_bf16(x: np.ndarray) -> np.ndarray:
    """RNE by integers: fp32 -> bf16 bits."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).reshape(np.shape(x)).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


def fp64_to_fp32(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(x, np.float64).astype(np.float32)


def flush_fp32(x: np.ndarray) -> np.ndarray:
    """Subnormals become zeros of their sign."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def flush_bf16(bits: np.ndarray) -> np.ndarray:
    return np.where((bits & 0x7F80) == 0, bits & 0x8000, bits).astype(np.uint16)
