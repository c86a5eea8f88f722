"""Clause S: 8 gradients in 48 bits. Comparisons are exact: every product below fits float64's 53 bits."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
from mpmath import libmp

from .formats import FP32, Finite, round_fraction, round_value, unpack

VARIANTS = ("floor16", "round15", "stochastic15")


class NonfiniteError(ValueError):
    """S6: a NaN, or an infinity under `refuse`, at an index."""


def _exp_of_sixths(sixths: int, rounding: str) -> int:
    """exp(sixths / 6) rounded to binary32; transcendental but for sixths = 0, so an enclosure decides."""
    if sixths == 0:
        return round_value(FP32, Finite(0, 1, 0))[0]
    precision = 80
    while True:
        ratio = libmp.from_rational(sixths, 6, precision + 16)
        _, man, exponent, _ = libmp.mpf_exp(ratio, precision + 16)  # |sixths / 6| < 2^5: error below 2^-(precision + 9)
        man, exponent = int(man) << precision, exponent - precision
        error = man >> precision
        low, high = (round_value(FP32, Finite(0, end, exponent), rounding)[0] for end in (man - error, man + error))
        if low == high:
            return low
        precision *= 2


def mpfr_exp_of_sixths(sixths: int, rounding: str) -> int:
    """The same by MPFR: exp at 400 bits, rounded once more (no result lies that near to a binary32 number)."""
    import gmpy2

    with gmpy2.context(precision=400):
        value = gmpy2.exp(gmpy2.mpfr(gmpy2.mpq(sixths, 6)))
    man, exponent = (int(part) for part in value.as_mantissa_exp())
    return round_value(FP32, Finite(0, man, exponent), rounding)[0]


def tables(exp_of_sixths=_exp_of_sixths) -> tuple[np.ndarray, np.ndarray]:
    """S2: thresholds T[0...255] (T[0] = 0: always reached) and scales M[0...255], as binary32 patterns.

    floor(6 ln m) + 129 >= q means m >= exp((q - 129) / 6), so T[q] is that number rounded up.
    """
    thresholds = [0] + [exp_of_sixths(q - 129, "rup") for q in range(1, 256)]
    scales = [exp_of_sixths(q - 128, "rne") for q in range(256)]
    return np.array(thresholds, np.uint32), np.array(scales, np.uint32)


@cache
def _values() -> tuple[np.ndarray, np.ndarray]:
    thresholds, scales = tables()
    return thresholds.view(np.float32).astype(np.float64), scales.view(np.float32).astype(np.float64)


@cache
def decode_table(variant: str) -> np.ndarray:
    """S3, S4: magnitudes [256 scales, 16 codes] as binary32 patterns."""
    _, scales = tables()
    table = np.zeros((256, 16), np.uint32)
    for q_max in range(1, 256):
        scale = unpack(FP32, int(scales[q_max])).fraction
        for code in range(16):
            ratio = Fraction((2 * code + 1) ** 2, 1024) if variant == "floor16" else Fraction(code * code, 225)
            table[q_max, code] = round_fraction(FP32, ratio * scale)
    return table


def encode(variant: str, x: np.ndarray, random: np.ndarray | None = None, nonfinite: str = "refuse") -> np.ndarray:
    """fp32 [n] -> UInt8 [ceil(n / 8), 6]; random UInt32 [n] for stochastic15."""
    for index in np.flatnonzero(~np.isfinite(x)).tolist():
        if np.isnan(x[index]) or nonfinite == "refuse":
            raise NonfiniteError(f"x[{index}] is {x[index]}")
    blocks = -(-len(x) // 8)
    padded = np.zeros(blocks * 8)
    padded[: len(x)] = x  # exact
    padded = padded.reshape(blocks, 8)
    magnitude = np.abs(padded)
    thresholds, scales = _values()
    # S2: the number of thresholds T[1...255] that the largest magnitude reaches
    q_max = np.searchsorted(thresholds[1:], magnitude.max(axis=1, initial=0), side="right")
    scale = scales[q_max][:, None]

    codes = np.zeros((blocks, 8), np.int64)
    with np.errstate(invalid="ignore"):
        if variant == "floor16":
            for k in range(1, 16):
                codes[k * k * scale <= 256 * magnitude] = k
        elif variant == "round15":
            for k in range(1, 16):
                codes[(2 * k - 1) ** 2 * scale <= 900 * magnitude] = k
        elif variant == "stochastic15":
            low = np.zeros((blocks, 8))
            for k in range(1, 15):
                low[k * k * scale <= 225 * magnitude] = k
            v = np.zeros(blocks * 8)
            v[: len(x)] = random >> np.uint32(8)
            # Exact: v (2a + 1) M has 24 + 5 + 24 bits. For a >= 1, |x| >= M / 225, so 225|x| and a^2 M are both
            # multiples of ulp(M) / 2^8, and their difference is below 2^5 M: 37 bits. |x| >= M is overruled below.
            up = v.reshape(blocks, 8) * (2 * low + 1) * scale < 2.0**24 * (225 * magnitude - low * low * scale)
            codes = (low + up).astype(np.int64)
            codes[magnitude >= scale] = 15
        else:
            raise ValueError(f"variant '{variant}'")

    signs = (np.signbit(padded) << np.arange(8)).sum(axis=1)
    result = np.zeros((blocks, 6), np.uint8)
    result[:, 0] = q_max
    result[:, 1] = signs
    result[:, 2:] = codes[:, 0::2] | codes[:, 1::2] << 4  # low nibble first
    result[q_max == 0, 1:] = 0  # S4
    return result


def decode(variant: str, blocks: np.ndarray, count: int) -> np.ndarray:
    """UInt8 [blocks, 6] -> fp32 [count]."""
    codes = np.empty((len(blocks), 8), np.int64)
    codes[:, 0::2] = blocks[:, 2:] & 15
    codes[:, 1::2] = blocks[:, 2:] >> 4
    q_max = blocks[:, :1].astype(np.int64)
    bits = decode_table("floor16" if variant == "floor16" else "round15")[q_max, codes]
    signs = (blocks[:, 1:2] >> np.arange(8)) & 1
    bits = np.where(q_max == 0, np.uint32(0), bits | signs.astype(np.uint32) << np.uint32(31))
    return bits.astype(np.uint32).view(np.float32).reshape(-1)[:count]


def feedback(
    variant: str, x: np.ndarray, e: np.ndarray, random: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """S7: blocks, decoded, residual."""
    with np.errstate(all="ignore"):
        y = x + e
    blocks = encode(variant, y, random, "refuse")
    decoded = decode(variant, blocks, len(y))
    return blocks, decoded, y - decoded
