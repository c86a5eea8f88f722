"""fp32 arithmetic on arrays: one rounding an operation, clause E's functions, chains of dot products (D, R)."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import isqrt

import numpy as np

from ..files import Tensor, bf16_to_fp32
from . import elementary
from .dot import canonical_fp32, fma_flushing, sum_to_odd, to_fp32
from .dot import fma as fma32
from .elementary import Rounder
from .formats import FP32, Finite, round_fraction, round_value

F = np.float32


def number(bits: int) -> np.float32:
    return np.array(bits, np.uint32).view(np.float32)[()]


@cache
def reciprocal(n: int) -> np.float32:
    """RNE32(1/n)."""
    return number(round_fraction(FP32, Fraction(1, n)))


@cache
def root(n: int) -> np.float32:
    """RNE32(sqrt(n)) of an integer."""
    scaled = n << 128
    value = isqrt(scaled)
    return number(round_value(FP32, Finite(0, value << 1 | (value * value != scaled), -65))[0])


_KNOWN: dict[tuple[Rounder, str, int], int] = {}


def apply(name: str, x: np.ndarray, rounder: Rounder = elementary.round_function) -> np.ndarray:
    """A function of clause E on every element."""
    x = np.ascontiguousarray(x, np.float32)
    distinct, places = np.unique(x.view(np.uint32).reshape(-1), return_inverse=True)
    results = np.empty(len(distinct), np.uint32)
    for index, bits in enumerate(distinct.tolist()):
        key = (rounder, name, bits)
        if key not in _KNOWN:
            _KNOWN[key] = rounder(name, bits, (FP32,))[0]
        results[index] = _KNOWN[key]
    return results[places].view(np.float32).reshape(x.shape)


def widen(bits: np.ndarray) -> np.ndarray:
    """bf16 bits -> fp32."""
    return bf16_to_fp32(bits)


def round_bf16(x: np.ndarray) -> np.ndarray:
    """fp32 -> bf16 bits: RNE by integers, canonical NaN (F2, F4)."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), np.uint64(0x7FC0), rounded).astype(np.uint16)


def round_fp16(x: np.ndarray) -> np.ndarray:
    """fp32 -> binary16 bits: RNE by integers, gradual underflow, canonical NaN (F2)."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).reshape(np.shape(x))
    sign = ((bits >> np.uint32(16)) & np.uint32(0x8000)).astype(np.int64)
    magnitude = (bits & np.uint32(0x7FFFFFFF)).astype(np.int64)
    exponent, fraction = magnitude >> 23, magnitude & 0x7FFFFF
    # A normal result drops 13 bits of 24. Below 2^-14 a unit is 2^-24, and the smaller the number, the more bits lie below it;
    # 25 of them are more than half of nothing.
    dropped = np.clip(126 - exponent, 13, 25)
    significand = fraction | np.where(exponent > 0, 1 << 23, 0)
    kept, rest, half = significand >> dropped, significand & ((1 << dropped) - 1), 1 << (dropped - 1)
    kept += (rest > half) | ((rest == half) & (kept & 1 == 1))
    # Of a normal result the leading bit of `kept` adds one to the exponent's field, and so does a carry.
    normal = np.maximum(exponent - 113, 0) << 10
    rounded = np.minimum(kept + normal, 0x7C00)
    return np.where(np.isnan(x), 0x7E00, rounded | sign).astype(np.uint16)


def fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return fma32(np.asarray(x, F), np.asarray(y, F), np.asarray(z, F))


class Chain:
    """A composite dot product (D1 to D4) for every element of a shape: rows added in order, then finished."""

    def __init__(self, recipe: str, shape: tuple[int, ...]):
        self.recipe = recipe
        self.accumulator = np.zeros(shape, np.float64 if recipe == "paired-ftz" else np.float32)

    def add(self, x: np.ndarray, y: np.ndarray, visible: np.ndarray | None = None) -> Chain:
        """fp32 factors [..., K] that broadcast to the shape; terms that are not visible are skipped."""
        depth = max(x.shape[-1], y.shape[-1])
        order = list(range(depth))
        if self.recipe == "paired-ftz":
            order = [k for pair in range(0, depth, 2) for k in (pair + 1, pair) if k < depth]
        with np.errstate(all="ignore"):
            for k in order:
                a, b = x[..., k].astype(np.float64), y[..., k].astype(np.float64)
                if self.recipe == "paired-ftz":
                    step = fma_flushing(a, b, self.accumulator)
                else:
                    step = to_fp32(sum_to_odd(a * b, self.accumulator.astype(np.float64)))
                keep = True if visible is None else visible[..., k]
                self.accumulator = np.where(keep, step, self.accumulator)
        return self

    def finish(self) -> np.ndarray:
        with np.errstate(all="ignore"):
            return canonical_fp32(to_fp32(self.accumulator) + F(0))


def dot(recipe: str, x: np.ndarray, y: np.ndarray, visible: np.ndarray | None = None) -> np.ndarray:
    """The dot product over the last axis of fp32 factors that broadcast."""
    arrays = [x, y] if visible is None else [x, y, visible]
    return Chain(recipe, np.broadcast_shapes(*(a.shape for a in arrays))[:-1]).add(x, y, visible).finish()


def lane16(x: np.ndarray, y: np.ndarray | None = None, visible: np.ndarray | None = None) -> np.ndarray:
    """R1 over the last axis; terms that are not visible are skipped."""
    shape = np.broadcast_shapes(x.shape, () if y is None else y.shape, () if visible is None else visible.shape)
    lanes = np.zeros((*shape[:-1], 16), np.float32)
    with np.errstate(all="ignore"):
        for i in range(shape[-1]):
            lane = lanes[..., i % 16]
            new = lane + x[..., i] if y is None else fma(x[..., i], y[..., i], lane)
            lanes[..., i % 16] = new if visible is None else np.where(visible[..., i], new, lane)
        for width in (8, 4, 2, 1):
            lanes = lanes[..., :width] + lanes[..., width : 2 * width]
        return canonical_fp32(np.ascontiguousarray(lanes[..., 0] + F(0)))


def chain(x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """R3 over the first axis."""
    total = np.zeros(x.shape[1:], np.float32)
    with np.errstate(all="ignore"):
        for i in range(len(x)):
            total = total + x[i] if y is None else fma(x[i], y[i], total)
        return canonical_fp32(np.asarray(total + F(0)))


def softmax(s: np.ndarray, visible: np.ndarray | None = None, rounder: Rounder = elementary.round_function) -> tuple:
    """Z1 over the last axis: P, max, sum, Z; zeros where nothing is visible (V4)."""
    visible = np.ones(s.shape, bool) if visible is None else np.broadcast_to(visible, s.shape)
    some = visible.any(axis=-1)
    with np.errstate(all="ignore"):
        maximum = np.where(visible, s, F(-np.inf)).max(axis=-1, initial=-np.inf).astype(np.float32) + F(0)
        maximum = np.where(some, maximum, F(0))
        e = apply("exp", np.where(visible, s - maximum[..., None], F(0)), rounder)
        total = lane16(e, visible=visible)
        p = np.where(visible, e / np.where(some, total, F(1))[..., None], F(0))
        z = maximum + apply("log", np.where(some, total, F(1)), rounder)
    return p, maximum, np.where(some, total, F(0)), np.where(some, z, F(0))


def bf16(bits: np.ndarray) -> Tensor:
    return Tensor("bf16", np.ascontiguousarray(bits, np.uint16))


def fp32(x, shape=None) -> Tensor:
    """NaNs canonical (F2)."""
    array = np.array(x, np.float32) if shape is None else np.array(x, np.float32).reshape(shape)
    bits = np.where(np.isnan(array), np.uint32(0x7FC00000), np.ascontiguousarray(array).view(np.uint32).reshape(array.shape))
    return Tensor("fp32", bits.view(np.float32))


def stored(type: str, x: np.ndarray) -> Tensor:
    """An fp32 result in a format that it is rounded to once."""
    if type == "fp16":
        return Tensor("fp16", round_fp16(x).view(np.float16))
    return bf16(round_bf16(x)) if type == "bf16" else fp32(x)
