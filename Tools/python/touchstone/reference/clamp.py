"""Clause C: dynamic clamping and int8."""

from __future__ import annotations

import numpy as np

from . import elementary
from .dot import lane16x4096
from .elementary import Rounder
from .fp32 import F, apply, reciprocal, root, widen


def dynamic_limit(w: np.ndarray, kappa, activation: str, rounder: Rounder = elementary.round_function) -> np.float32:
    """C1, of bf16 bits [n, m]."""
    flat = np.ascontiguousarray(widen(w)).reshape(1, -1)
    with np.errstate(all="ignore"):
        mean = lane16x4096(flat, flat)[0] * reciprocal(w.size)
        limit = (F(kappa) * apply("sqrt", np.array([mean]), rounder)[0]) * root(w.shape[0])
        return (limit * limit if activation == "relu2" else limit) + F(0)


def clamp(y: np.ndarray, dy: np.ndarray, limit: np.float32, activation: str, gradient: str, int8: bool) -> dict:
    """C2 to C4: the arrays by name."""
    if not (np.isfinite(limit) and limit >= 0):
        raise ValueError(f"limit {limit}")
    low = F(0) if activation == "relu2" else -limit
    nan = np.isnan(y)
    with np.errstate(all="ignore"):
        clamped = np.where(y > limit, limit, np.where(y < low, low, y))
        if activation == "relu2":
            clamped = clamped + F(0)  # -0 becomes +0, and nothing else changes
        if limit == 0:
            clamped = np.zeros_like(y)
        clamped = np.where(nan, F(np.nan), clamped)
        result = {"clamped": clamped, "dequantised": clamped}
        if int8:
            scale = F(127) / limit if limit else F(0)
            if not np.isfinite(scale):
                raise ValueError(f"127 / {limit} is not finite")
            codes = np.clip(np.rint(np.where(nan, F(0), clamped) * scale), -127, 127)
            values = codes.astype(np.float32) * (limit * reciprocal(127))
            result["codes"] = codes.astype(np.int8)
            result["dequantised"] = np.where(nan, F(np.nan), np.where(codes == 0, F(0), values))
        passes = (low <= y) & (y <= limit)
        if gradient == "inward":
            passes |= ((y > limit) & (dy > 0)) | ((y < low) & (dy < 0))
        if limit == 0:
            passes &= False
        result["dx"] = np.where(nan, F(np.nan), np.where(passes, dy, F(0)))
    return result
