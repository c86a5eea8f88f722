"""The arithmetic that a layer or a whole training step is written over: with every rounding, or with none.

`Rounded` is the specification: fp32 values in float32 arrays, bf16 values in float32 arrays that hold nothing else,
each rounding where a clause has it. `Exact` has the same operations on float64 arrays and rounds nowhere that a clause
does: what it computes is the formula, for comparison with automatic differentiation. A formula written once over either
cannot be right in one and wrong in the other.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np
from mpmath import libmp

from ...files import Tensor, bf16_to_fp32
from .. import dot, elementary
from ..formats import FP32, Finite, Format, round_fraction, round_value

# x and y broadcast against each other, the contracted index last; `seen` (or None) says which of its terms take part.
Row = tuple[np.ndarray, np.ndarray, "np.ndarray | None"]

DOTS = ("paired-ftz", "chain-ieee")


def fraction(x: float | np.floating) -> Fraction:
    """A finite fp32 or fp64 number, exactly."""
    return Fraction(float(x))


def enclosed(value, format: Format = FP32) -> int:
    """The bits of a real number that is no midpoint of the format, rounded to nearest even.

    `value(precision)` is an mpmath number within a relative 2^-precision of it, made sharper until it decides (Ziv
    1991).
    """
    precision = 2 * format.precision + 24
    while True:
        sign, man, exponent, _ = value(precision)
        man, exponent = int(man) << precision, exponent - precision
        error = (man >> precision) + 1
        low, high = (round_value(format, Finite(sign, end, exponent))[0] for end in (man - error, man + error))
        if low == high:
            return low
        precision *= 2


def round_bf16(x: np.ndarray) -> np.ndarray:
    """F4, F2: float32 [...] -> bits, uint16 [...]."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).reshape(np.shape(x)).astype(np.uint64)
    rounded = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), np.uint64(0x7FC0), rounded).astype(np.uint16)


def single(bits: int) -> np.float32:
    return np.array([bits], np.uint32).view(np.float32)[0]


class Rounded:
    """Every operation as its clause rounds it; dot products by the recipe `dot` (D1, D2)."""

    exact = False
    dtype = np.float32

    def __init__(self, recipe: str = "paired-ftz"):
        if recipe not in DOTS:
            raise ValueError(f"dot '{recipe}'")
        self.recipe = recipe

    # Values in and out

    def real(self, value: Fraction) -> np.float32:
        """RNE32 of a rational number."""
        return single(round_fraction(FP32, value))

    def root(self, value: Fraction) -> np.float32:
        """RNE32 of the square root of a rational number, at least 0."""
        if value == 0:
            return np.float32(0)
        shift = 200 + 2 * value.denominator.bit_length()
        scaled, rest = divmod(value.numerator << shift, value.denominator)
        root = isqrt(scaled)
        return single(
            round_value(FP32, Finite(0, root << 1 | (rest != 0 or root * root != scaled), -shift // 2 - 1))[0]
        )

    def given(self, tensor: Tensor) -> np.ndarray:
        """A stored tensor's values."""
        with np.errstate(invalid="ignore"):
            return bf16_to_fp32(tensor.array) if tensor.type == "bf16" else tensor.array

    def stored(self, type: str, x: np.ndarray) -> Tensor:
        """F2."""
        if type == "bf16":
            return Tensor("bf16", round_bf16(x))  # x is bf16 already: exact
        if type == "fp32":
            return Tensor("fp32", dot.canonical_fp32(np.ascontiguousarray(x, np.float32).reshape(np.shape(x))))
        return Tensor(type, x)

    # fp32 (F3)

    def add(self, x, y):
        with np.errstate(all="ignore"):
            return np.add(x, y, dtype=np.float32)

    def sub(self, x, y):
        with np.errstate(all="ignore"):
            return np.subtract(x, y, dtype=np.float32)

    def mul(self, x, y):
        with np.errstate(all="ignore"):
            return np.multiply(x, y, dtype=np.float32)

    def div(self, x, y):
        with np.errstate(all="ignore"):
            return np.divide(x, y, dtype=np.float32)

    def sqrt(self, x):
        with np.errstate(all="ignore"):
            return np.sqrt(x, dtype=np.float32)

    def fma(self, x, y, z):
        return dot.fma(*(np.asarray(v, np.float32) for v in (x, y, z)))

    def function(self, name: str, x: np.ndarray) -> np.ndarray:
        """E1."""
        bits, where = np.unique(np.ascontiguousarray(x, np.float32).view(np.uint32), return_inverse=True)
        values = [elementary.round_function(name, b, (FP32,))[0] for b in bits.tolist()]
        return np.array(values, np.uint32).view(np.float32)[where].reshape(np.shape(x))

    def round_integer(self, x):
        """To the nearest integer, ties to even (C3)."""
        return np.rint(x)

    # Formats

    def bf16(self, x: np.ndarray) -> np.ndarray:
        """F4."""
        return bf16_to_fp32(round_bf16(x))

    # Sums

    def dot(self, *rows: Row) -> np.ndarray:
        """D1 to D4: one chain over the rows, ascending, from +0."""
        shape = np.broadcast_shapes(*(np.broadcast_shapes(x.shape[:-1], y.shape[:-1]) for x, y, _ in rows))
        total = np.zeros(shape)
        step = dot.fma_flushing if self.recipe == "paired-ftz" else _fma
        for x, y, seen in rows:
            depth = x.shape[-1]
            order = range(depth)
            if self.recipe == "paired-ftz":  # the padding term of an odd row is 0 * 0: it comes first of its pair
                order = [k for pair in range(0, depth, 2) for k in (pair + 1, pair)]
            with np.errstate(invalid="ignore"):
                x, y = (np.ascontiguousarray(np.moveaxis(v, -1, 0), np.float64) for v in (x, y))
            if seen is not None:
                seen = np.moveaxis(seen, -1, 0)
            for k in order:
                if k == depth:
                    total = step(np.zeros(()), np.zeros(()), total)
                elif seen is None:
                    total = step(x[k], y[k], total)
                else:
                    total = np.where(seen[k], step(x[k], y[k], total), total)
        with np.errstate(all="ignore"):
            return total.astype(np.float32) + np.float32(0)  # exact; D3

    def lane16(self, x: np.ndarray, y: np.ndarray | None = None, seen: np.ndarray | None = None) -> np.ndarray:
        """R1 over the last index."""
        arrays = np.broadcast_arrays(x, *([] if y is None else [y]), *([] if seen is None else [seen]))
        shape, count = arrays[0].shape[:-1], arrays[0].shape[-1]
        x = arrays[0].astype(np.float32)
        y = None if y is None else arrays[1].astype(np.float32)
        seen = None if seen is None else arrays[-1]
        lanes = np.zeros((*shape, 16), np.float32)
        with np.errstate(all="ignore"):
            for i in range(count):
                lane = lanes[..., i % 16]
                after = lane + x[..., i] if y is None else dot.fma(x[..., i], y[..., i], lane)
                lanes[..., i % 16] = after if seen is None else np.where(seen[..., i], after, lane)
            for width in (8, 4, 2, 1):
                lanes = lanes[..., :width] + lanes[..., width : 2 * width]
            return lanes[..., 0] + np.float32(0)

    def lane16x4096(self, x: np.ndarray, y: np.ndarray | None = None) -> np.float32:
        """R2 over all elements in C order."""
        flat = np.ascontiguousarray(x, np.float32).reshape(1, -1)
        other = None if y is None else np.ascontiguousarray(y, np.float32).reshape(1, -1)
        return dot.lane16x4096(flat, other)[0]

    def chain(self, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """R3 over the first index."""
        total = np.zeros(np.shape(x)[1:], np.float32)
        with np.errstate(all="ignore"):
            for i in range(len(x)):
                total = total + x[i] if y is None else self.fma(x[i], y[i], total)
            return total + np.float32(0)

    def maximum(self, x: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
        """R4 over the last index; +0 where nothing is seen (V4)."""
        return _maximum(x, seen)


class Exact:
    """The same formulas on float64, nothing rounded to bf16 or fp32; sums in whatever order NumPy likes."""

    exact = True
    dtype = np.float64

    def __init__(self, recipe: str = "paired-ftz"):
        self.recipe = recipe

    def real(self, value: Fraction) -> np.float64:
        return np.float64(value.numerator / value.denominator)

    def root(self, value: Fraction) -> np.float64:
        return np.sqrt(self.real(value))

    def given(self, tensor: Tensor) -> np.ndarray:
        return Rounded().given(tensor).astype(np.float64) if tensor.type in ("bf16", "fp32", "fp64") else tensor.array

    def stored(self, type: str, x: np.ndarray) -> Tensor:
        return Tensor(
            "fp64" if type in ("bf16", "fp32") else type, np.asarray(x, None if type == "int8" else np.float64)
        )

    def add(self, x, y):
        return np.add(x, y, dtype=np.float64)

    def sub(self, x, y):
        return np.subtract(x, y, dtype=np.float64)

    def mul(self, x, y):
        return np.multiply(x, y, dtype=np.float64)

    def div(self, x, y):
        return np.divide(x, y, dtype=np.float64)

    def sqrt(self, x):
        return np.sqrt(x, dtype=np.float64)

    def fma(self, x, y, z):
        return np.float64(x) * y + z

    def function(self, name: str, x: np.ndarray) -> np.ndarray:
        functions = {"rsqrt": lambda v: 1 / np.sqrt(v), "exp": np.exp, "log": np.log}
        return functions[name](np.asarray(x, np.float64))

    def round_integer(self, x):
        return np.rint(x)

    def bf16(self, x: np.ndarray) -> np.ndarray:
        return x

    def dot(self, *rows: Row) -> np.ndarray:
        return sum(np.where(True if seen is None else seen, x * y, 0).sum(-1) for x, y, seen in rows)

    def lane16(self, x, y=None, seen=None) -> np.ndarray:
        terms = np.asarray(x if y is None else x * y, np.float64)
        return np.where(True if seen is None else seen, terms, 0).sum(-1)

    def lane16x4096(self, x, y=None) -> np.float64:
        return np.sum(x if y is None else x * y)

    def chain(self, x, y=None) -> np.ndarray:
        return np.sum(x if y is None else x * y, axis=0)

    def maximum(self, x, seen=None) -> np.ndarray:
        return _maximum(x, seen)


Arithmetic = Rounded | Exact


def _fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """D2's step on fp32 values held in float64."""
    with np.errstate(all="ignore"):
        return dot.to_fp32(dot.sum_to_odd(x * y, z)).astype(np.float64)


def _maximum(x: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    if seen is None:
        seen = np.ones((), bool)
    x, seen = np.broadcast_arrays(x, seen)
    with np.errstate(invalid="ignore"):
        found = np.where(seen, x, -np.inf).max(-1)  # NaN propagates
    found = np.where(seen.any(-1), found, 0).astype(x.dtype)
    return np.where(found == 0, np.zeros((), x.dtype), found)


def cosine(numerator: Fraction, format: Format = FP32) -> int:
    """cos of a non-zero rational number of radians, rounded: transcendental, so an enclosure decides."""
    return _circular(libmp.mpf_cos, numerator, format)


def sine(numerator: Fraction, format: Format = FP32) -> int:
    return _circular(libmp.mpf_sin, numerator, format)


def _circular(function, angle: Fraction, format: Format) -> int:
    def value(precision: int):
        # The angles here are binary fractions: exact in mpmath.
        exact = libmp.from_man_exp(angle.numerator, -(angle.denominator.bit_length() - 1))
        return function(exact, precision + 16)

    return enclosed(value, format)
