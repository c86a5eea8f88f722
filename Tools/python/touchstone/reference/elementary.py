"""Clause E: correctly rounded functions of binary32, by arbitrary precision.

Algebraic functions and exact results are done in integers. The rest are enclosed: an mpmath value of p bits with a
stated relative error, made sharper until both ends of the enclosure round to the same bits (Ziv 1991). That ends,
because by Lindemann's theorem no transcendental result here is a midpoint. `mpfr()` does the same through MPFR.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from math import isqrt

from mpmath import libmp

from .formats import FP32, FP64, Finite, Format, is_infinite, is_nan, round_value, unpack

FUNCTIONS = ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "sinPi", "cosPi")

ONE = 0x3F800000
SIGN = 0x80000000
INFINITY = 0x7F800000


def _special(name: str, bits: int) -> float | None:
    """The result where it is not a finite real that must be computed: NaN, an infinity or a signed zero."""
    if is_nan(FP32, bits):
        return math.nan
    negative = bool(bits & SIGN)
    zero = bits & ~SIGN == 0
    infinite = is_infinite(FP32, bits)
    signed_zero = -0.0 if negative else 0.0
    signed_infinity = -math.inf if negative else math.inf
    if name == "exp" and infinite:
        return 0.0 if negative else math.inf
    if name == "expm1":
        return signed_zero if zero else -1.0 if infinite and negative else math.inf if infinite else None
    if name == "log":
        return -math.inf if zero else math.nan if negative else math.inf if infinite else 0.0 if bits == ONE else None
    if name == "log1p":
        if zero:
            return signed_zero
        if bits >= SIGN | ONE:
            return -math.inf if bits == SIGN | ONE else math.nan
        return math.inf if infinite else None
    if name == "sqrt":
        return signed_zero if zero else math.nan if negative else math.inf if infinite else None
    if name == "rsqrt":
        return signed_infinity if zero else math.nan if negative else 0.0 if infinite else None
    if name == "reciprocal":
        return signed_infinity if zero else signed_zero if infinite else None
    if name in ("sinPi", "cosPi"):
        if infinite:
            return math.nan
        quarter, exact = _half_turns(unpack(FP32, bits))
        if exact:  # x = quarter / 2
            if name == "sinPi":
                return (signed_zero, 1.0, signed_zero, -1.0)[quarter % 4]
            return (1.0, 0.0, -1.0, 0.0)[quarter % 4]
    return None


def _half_turns(x: Finite) -> tuple[int, bool]:
    """floor(2x), and whether 2x is an integer."""
    significand = -x.significand if x.sign else x.significand
    exponent = x.exponent + 1
    if exponent >= 0:
        return significand << exponent, True
    return significand >> -exponent, significand & ((1 << -exponent) - 1) == 0


def _algebraic(name: str, x: Finite) -> Finite | None:
    """sqrt, rsqrt, reciprocal: a long integer result with a sticky bit."""
    _, significand, exponent = x
    if name == "reciprocal":
        quotient, remainder = divmod(1 << 128, significand)
        return Finite(x.sign, quotient << 1 | (remainder != 0), -exponent - 129)
    if exponent & 1:
        significand, exponent = significand << 1, exponent - 1
    if name == "sqrt":
        scaled = significand << 160
        root = isqrt(scaled)
        return Finite(0, root << 1 | (root * root != scaled), exponent // 2 - 81)
    if name == "rsqrt":
        scaled = 1 << 320
        root = isqrt(scaled // significand)
        return Finite(0, root << 1 | (root * root * significand != scaled), -exponent // 2 - 161)
    return None


def _transcendental(name: str, x: Finite, precision: int) -> tuple:
    """An mpmath number within a relative 2^-precision of the result."""
    work = precision + 16
    value = libmp.from_man_exp(-x.significand if x.sign else x.significand, x.exponent)
    if name == "exp":
        return libmp.mpf_exp(value, work)
    if name == "expm1":
        # exp(x) - 1 loses as many bits as x is small.
        work += max(0, -(x.significand.bit_length() + x.exponent))
        return libmp.mpf_sub(libmp.mpf_exp(value, work + 4), libmp.fone)
    if name == "log":
        return libmp.mpf_log(value, work)
    if name == "log1p":
        return libmp.mpf_log(libmp.mpf_add(libmp.fone, value), work)  # 1 + x is exact
    # sin(pi r) or cos(pi r) with r = |x| mod 2 exactly, folded to an angle of at most a quarter turn.
    shift = -x.exponent
    turn = x.significand % (2 << shift)  # r = turn / 2^shift in (0, 2); integers were dealt with
    half = 1 << shift
    negative = bool(x.sign) if name == "sinPi" else False
    if name == "sinPi":
        if turn > half:
            turn, negative = turn - half, not negative
        if 2 * turn > half:
            turn = half - turn
    else:
        if turn > half:
            turn = 2 * half - turn
        negative = 2 * turn > half
        turn = (half - 2 * turn) if not negative else (2 * turn - half)
        half *= 2  # cos(pi r) = sin(pi (1/2 - r))
    ratio = libmp.from_man_exp(turn, -(half.bit_length() - 1))
    sine = libmp.mpf_sin(libmp.mpf_mul(libmp.mpf_pi(work + 8), ratio, work + 4), work)
    return libmp.mpf_neg(sine) if negative else sine


def _far(name: str, x: Finite) -> Finite | None:
    """exp and expm1 of |x| >= 1024: beyond every format's range, so any number out there rounds alike."""
    if name not in ("exp", "expm1") or x.significand.bit_length() + x.exponent <= 10:
        return None
    if not x.sign:
        return Finite(0, 1, 1400)
    return Finite(0, 1, -1400) if name == "exp" else Finite(1, (1 << 1400) - 1, -1400)


def round_function(name: str, bits: int, formats: tuple[Format, ...] = (FP32, FP64)) -> tuple[int, ...]:
    """The bits of function(x), x a binary32 pattern, rounded to nearest even once to each format."""
    special = _special(name, bits)
    if special is not None:
        return tuple(_float_bits(format, special) for format in formats)
    x = unpack(FP32, bits)
    exact = Finite(0, 1, 0) if name == "exp" and x.significand == 0 else _algebraic(name, x) or _far(name, x)
    if exact is not None:
        return tuple(round_value(format, exact)[0] for format in formats)
    precision = max(format.precision for format in formats) + 24
    while True:
        sign, man, exponent, _ = _transcendental(name, x, precision)
        man = int(man) << precision
        exponent -= precision
        error = (man >> precision) + 1
        low, high = Finite(sign, man - error, exponent), Finite(sign, man + error, exponent)
        ends = [(round_value(format, low)[0], round_value(format, high)[0]) for format in formats]
        if all(first == second for first, second in ends):
            return tuple(first for first, _ in ends)
        precision *= 2


def _float_bits(format: Format, value: float) -> int:
    """A NaN, an infinity, a zero or +-1 in a format."""
    sign = format.sign_bit if math.copysign(1, value) < 0 and not math.isnan(value) else 0
    if math.isnan(value):
        return format.nan
    if math.isinf(value):
        return sign | format.infinity
    return sign | (round_value(format, Finite(0, 1, 0))[0] if value else 0)


Rounder = Callable[[str, int, tuple[Format, ...]], tuple[int, ...]]


def mpfr(name: str, bits: int, formats: tuple[Format, ...] = (FP32, FP64)) -> tuple[int, ...]:
    """`round_function` by MPFR (gmpy2), which rounds correctly by itself; sinPi and cosPi are not in gmpy2."""
    import gmpy2

    x = gmpy2.mpfr(_as_float(bits), 24)
    results = []
    for format in formats:
        context = gmpy2.context(
            precision=format.precision,
            emax=format.maximum_exponent + 1,
            emin=format.quantum_exponent + 1,
            subnormalize=True,
            round=gmpy2.RoundToNearest,
        )
        if name in ("sinPi", "cosPi"):
            low, high = _mpfr_circular(gmpy2, name, bits)
            with context:
                result, other = gmpy2.mpfr(low), gmpy2.mpfr(high)
            assert result == other or gmpy2.is_nan(result), "160 bits decide no rounding"
        else:
            with context:
                if name == "reciprocal":
                    result = gmpy2.div(1, x)
                elif name == "rsqrt":
                    # MPFR's 1/sqrt(-0) is +inf; IEEE 754's is -inf.
                    result = gmpy2.mpfr("-inf") if bits == SIGN else gmpy2.rec_sqrt(x)
                else:
                    result = getattr(gmpy2, name)(x)
        results.append(_mpfr_bits(gmpy2, format, result))
    return tuple(results)


def _mpfr_circular(gmpy2, name: str, bits: int) -> tuple:
    """sinPi or cosPi between two MPFR numbers of 320 bits that lie 2^-300 apart."""
    special = _special(name, bits)
    if special is not None:
        return gmpy2.mpfr(special), gmpy2.mpfr(special)
    x = unpack(FP32, bits)
    turn = (-x.fraction if x.sign else x.fraction) % 2
    negative = bool(x.sign)
    if name == "cosPi":  # cos(pi t) = sin(pi (t + 1/2)), an even function
        turn, negative = (turn + Fraction(1, 2)) % 2, False
    if turn > 1:
        turn, negative = turn - 1, not negative
    turn = min(turn, 1 - turn)
    with gmpy2.context(precision=320):
        sine = gmpy2.sin(gmpy2.const_pi() * gmpy2.mpfr(gmpy2.mpq(turn)))
        sine = -sine if negative else sine
        margin = sine * gmpy2.mpfr(2) ** -300
        return sine - margin, sine + margin


def _mpfr_bits(gmpy2, format: Format, value) -> int:
    if gmpy2.is_nan(value):
        return format.nan
    sign = format.sign_bit if gmpy2.is_signed(value) else 0
    if gmpy2.is_infinite(value):
        return sign | format.infinity
    if value == 0:
        return sign
    significand, exponent = (int(part) for part in value.as_mantissa_exp())
    bits, flags = round_value(format, Finite(0, abs(significand), exponent))
    assert flags == 0, "MPFR's result was already in the format"
    return sign | bits


def _as_float(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits))[0]
