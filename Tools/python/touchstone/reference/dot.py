"""Clauses D and R: dot products and sums, vectorised over outputs in exact float64.

A product of two fp32 numbers has at most 48 significant bits and an exponent in -298 ... 255: it is exact in float64.
Adding an fp32 number to it may not be; the sum is then rounded to odd at 53 bits, after which a rounding to 24 bits
or fewer gives what one rounding of the exact sum would (Boldo and Melquiond 2008: 53 >= 2 + 24 + ...).
"""

from __future__ import annotations

import math

import numpy as np

from ..files import bf16_to_fp32

MINIMUM_NORMAL = 2.0**-126


def sum_to_odd(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x + y in float64, rounded to odd; NaN and infinity as IEEE addition gives them."""
    with np.errstate(all="ignore"):
        s = x + y
        # Knuth's two-sum: s + tail = x + y exactly (nothing here comes near float64's limits).
        back = s - x
        tail = (x - (s - back)) + (y - back)
        bits = np.array(s, np.float64).view(np.int64)
        toward_zero = np.where((tail < 0) == (s < 0), bits, bits - 1)
        odd = (toward_zero | 1).view(np.float64)
        return np.where(np.isfinite(s) & (tail != 0), odd, s)


def to_fp32(x: np.ndarray) -> np.ndarray:
    """RNE to binary32 with gradual underflow."""
    with np.errstate(all="ignore"):
        return x.astype(np.float32)


def fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """fma of fp32 arrays, gradual underflow (F3)."""
    with np.errstate(all="ignore"):
        return to_fp32(sum_to_odd(x.astype(np.float64) * y.astype(np.float64), z.astype(np.float64)))


def _flush(x: np.ndarray) -> np.ndarray:
    """A subnormal read as the zero of its sign."""
    return np.where(np.abs(x) < MINIMUM_NORMAL, np.copysign(0.0, x), x)


def fma_flushing(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """D1's F(x, y, z) on fp32 values held in float64."""
    x, y, z = _flush(x), _flush(y), _flush(z)
    with np.errstate(all="ignore"):
        odd = sum_to_odd(x * y, z)
        # RNE to 24 bits with unbounded exponent: drop 29 bits of the significand, ties to even; a carry moves up.
        bits = np.array(odd, np.float64).view(np.uint64)
        bits = (bits + np.uint64((1 << 28) - 1) + ((bits >> np.uint64(29)) & np.uint64(1))) & np.uint64(
            0xFFFFFFFF_E0000000
        )
        rounded = np.where(np.isfinite(odd), bits.view(np.float64), odd)
        rounded = np.where(np.abs(rounded) >= 2.0**128, np.copysign(np.inf, rounded), rounded)
        return np.where(np.isnan(odd), np.nan, _flush(rounded))


def canonical_fp32(x: np.ndarray) -> np.ndarray:
    """F2."""
    return np.where(np.isnan(x), np.uint32(0x7FC00000), x.view(np.uint32)).view(np.float32)


def _widen(bits: np.ndarray) -> np.ndarray:
    """bf16 bits as float64."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is quietened
        return bf16_to_fp32(bits).astype(np.float64)


def gemm(recipe: str, a: np.ndarray, b: np.ndarray, c: np.ndarray | None) -> np.ndarray:
    """d [M, N] fp32 = a [M, K] . b [K, N] (bf16 bits) + c [M, N] fp32."""
    rows, depth = a.shape
    columns = b.shape[1]
    x, y = _widen(a), _widen(b)
    with np.errstate(invalid="ignore"):
        accumulator = np.zeros((rows, columns)) if c is None else c.astype(np.float64)
    if recipe == "paired-ftz":  # D1
        if depth % 2:
            x = np.concatenate([x, np.zeros((rows, 1))], 1)
            y = np.concatenate([y, np.zeros((1, columns))], 0)
        accumulator = _flush(accumulator)
        for pair in range(0, x.shape[1], 2):
            for k in (pair + 1, pair):
                accumulator = fma_flushing(x[:, k, None], y[None, k, :], accumulator)
        result = to_fp32(accumulator)  # exact
    elif recipe == "chain-ieee":  # D2
        result = to_fp32(accumulator)
        for k in range(depth):
            with np.errstate(all="ignore"):
                product = x[:, k, None] * y[None, k, :]
            result = to_fp32(sum_to_odd(product, result.astype(np.float64)))
    else:
        raise ValueError(f"dot '{recipe}'")
    with np.errstate(all="ignore"):
        return canonical_fp32(result + np.float32(0))  # D3


def lane16(x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """R1: [m, n] -> [m]."""
    rows, count = x.shape
    lanes = np.zeros((rows, 16), np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, count, 16):
            block = slice(start, min(start + 16, count))
            width = block.stop - block.start
            if y is None:
                lanes[:, :width] = lanes[:, :width] + x[:, block]
            else:
                lanes[:, :width] = fma(x[:, block], y[:, block], lanes[:, :width])
        for width in (8, 4, 2, 1):
            lanes = lanes[:, :width] + lanes[:, width : 2 * width]
        return canonical_fp32(lanes[:, 0] + np.float32(0))


def lane16x4096(x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """R2: [m, n] -> [m]."""
    starts = range(0, x.shape[1], 4096)
    partial = [
        lane16(x[:, start : start + 4096], None if y is None else y[:, start : start + 4096]) for start in starts
    ]
    if not partial:
        return np.zeros(x.shape[0], np.float32)
    return lane16(np.stack(partial, 1))


def chain(x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """R3: [m, n] -> [m]."""
    total = np.zeros(x.shape[0], np.float32)
    with np.errstate(all="ignore"):
        for i in range(x.shape[1]):
            total = total + x[:, i] if y is None else fma(x[:, i], y[:, i], total)
        return canonical_fp32(total + np.float32(0))


def exact_sum(terms: np.ndarray) -> float:
    """RNE64 of the exact sum of float64 terms; NaN and infinity as real arithmetic with infinities gives them (Q1)."""
    if np.isfinite(terms).all():
        return math.fsum(terms) + 0.0  # fsum rounds once, and correctly
    if np.isnan(terms).any() or (np.isposinf(terms).any() and np.isneginf(terms).any()):
        return math.nan
    return math.inf if np.isposinf(terms).any() else -math.inf


def truth_and_bounds(terms: list[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Q1, Q2 for each list of exact terms: the sum, and the sum of magnitudes."""
    truth = np.empty(len(terms))
    bounds = np.empty(len(terms))
    for index, values in enumerate(terms):
        truth[index] = exact_sum(values)
        bounds[index] = math.nan if math.isnan(truth[index]) else exact_sum(np.abs(values))
    return truth.reshape(shape), bounds.reshape(shape)


def gemm_terms(a: np.ndarray, b: np.ndarray, c: np.ndarray | None) -> list[np.ndarray]:
    x, y = _widen(a), _widen(b)
    terms = []
    with np.errstate(all="ignore"):
        for m in range(a.shape[0]):
            for n in range(b.shape[1]):
                products = x[m, :] * y[:, n]
                terms.append(products if c is None else np.append(products, np.float64(c[m, n])))
    return terms


def sum_terms(x: np.ndarray, y: np.ndarray | None) -> list[np.ndarray]:
    with np.errstate(all="ignore"):
        products = x.astype(np.float64) if y is None else x.astype(np.float64) * y.astype(np.float64)
    return list(products)
