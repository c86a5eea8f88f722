"""Binary floating-point formats and rounding, in Python integers (F1, B1, B2).

A finite value is `(-1)^sign * significand * 2^exponent` with any integer significand: nothing is ever rounded before
`round_value`, except that a quotient or root carries its discarded tail as one more bit that is set if the tail is
not zero (a "sticky" bit, far below any position where a format rounds).
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

INEXACT, UNDERFLOW, OVERFLOW, DIVIDE_BY_ZERO, INVALID = 1, 2, 4, 8, 16

ROUNDINGS = ("rne", "rtz", "rdn", "rup", "rna", "rto", "sr")


class Format(NamedTuple):
    """An IEEE 754 binary format: `precision` counts the leading bit."""

    width: int
    precision: int
    maximum_exponent: int

    @property
    def minimum_exponent(self) -> int:
        return 1 - self.maximum_exponent

    @property
    def quantum_exponent(self) -> int:
        """The exponent of the smallest subnormal."""
        return self.minimum_exponent - self.precision + 1

    @property
    def sign_bit(self) -> int:
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        return (2 * self.maximum_exponent + 1) << (self.precision - 1)

    @property
    def quiet_bit(self) -> int:
        return 1 << (self.precision - 2)

    @property
    def nan(self) -> int:
        """F2: the canonical NaN."""
        return self.infinity | self.quiet_bit


BF16 = Format(16, 8, 127)
FP16 = Format(16, 11, 15)
FP32 = Format(32, 24, 127)
FP64 = Format(64, 53, 1023)


class Finite(NamedTuple):
    """(-1)^sign * significand * 2^exponent; a zero keeps its sign."""

    sign: int
    significand: int
    exponent: int

    @property
    def fraction(self) -> Fraction:
        magnitude = Fraction(self.significand) * Fraction(2) ** self.exponent
        return -magnitude if self.sign else magnitude


def is_nan(format: Format, bits: int) -> bool:
    return bits & (format.sign_bit - 1) > format.infinity


def is_signalling(format: Format, bits: int) -> bool:
    return is_nan(format, bits) and not bits & format.quiet_bit


def is_infinite(format: Format, bits: int) -> bool:
    return bits & (format.sign_bit - 1) == format.infinity


def sign_of(format: Format, bits: int) -> int:
    return 1 if bits & format.sign_bit else 0


def unpack(format: Format, bits: int) -> Finite:
    """The value of a finite number's bits."""
    sign = sign_of(format, bits)
    magnitude = bits & (format.sign_bit - 1)
    biased = magnitude >> (format.precision - 1)
    trailing = magnitude & ((1 << (format.precision - 1)) - 1)
    if biased == 0:
        return Finite(sign, trailing, format.quantum_exponent)
    return Finite(sign, trailing | 1 << (format.precision - 1), format.quantum_exponent + biased - 1)


def cut(significand: int, exponent: int, quantum: int) -> tuple[int, int]:
    """`significand * 2^exponent` in whole units of 2^quantum, and what the tail is in halves of a unit.

    The tail is 0: none, 1: under a half, 2: a half, 3: over a half.
    """
    shift = quantum - exponent
    if shift <= 0:
        return significand << -shift, 0
    kept = significand >> shift
    tail = significand - (kept << shift)
    if tail == 0:
        return kept, 0
    half = 1 << (shift - 1)
    return kept, 1 if tail < half else 2 if tail == half else 3


def step(rounding: str, sign: int, kept: int, tail: int) -> int:
    """B1: the neighbour that a rounding mode takes, in units."""
    if tail == 0:
        return kept
    if rounding == "rne":
        return kept + (tail == 3 or (tail == 2 and kept & 1))
    if rounding == "rna":
        return kept + (tail >= 2)
    if rounding == "rtz":
        return kept
    if rounding == "rdn":
        return kept + sign
    if rounding == "rup":
        return kept + 1 - sign
    if rounding == "rto":
        return kept | 1
    raise ValueError(f"rounding '{rounding}'")


def round_value(
    format: Format, value: Finite, rounding: str = "rne", tininess: str = "after", random: int = 0
) -> tuple[int, int]:
    """The bits and flags of a finite value rounded to a format.

    B1 (modes), B2 (flags). Zero keeps its sign.
    """
    sign, significand, exponent = value
    signed = format.sign_bit if sign else 0
    if significand == 0:
        return signed, 0
    if rounding == "sr":
        bits, flags = _round_stochastically(format, value, random)
        return signed | bits, flags
    leading = significand.bit_length() + exponent - 1
    quantum = max(leading, format.minimum_exponent) - format.precision + 1
    kept, tail = cut(significand, exponent, quantum)
    rounded = step(rounding, sign, kept, tail)
    if rounded.bit_length() + quantum - 1 > format.maximum_exponent:
        to_infinity = rounding in ("rne", "rna") or (rounding == "rdn" and sign) or (rounding == "rup" and not sign)
        return signed | (format.infinity if to_infinity else format.infinity - 1), OVERFLOW | INEXACT
    flags = 0
    if tail:
        flags = INEXACT
        if leading < format.minimum_exponent:
            tiny = True
            if tininess == "after" and leading == format.minimum_exponent - 1:
                unbounded = leading - format.precision + 1
                normal = step(rounding, sign, *cut(significand, exponent, unbounded))
                tiny = normal.bit_length() <= format.precision
            if tiny:
                flags |= UNDERFLOW
    # A carry out of the significand moves into the exponent by itself; so does a subnormal that becomes normal.
    return signed | (rounded + ((quantum - format.quantum_exponent) << (format.precision - 1))), flags


def _round_stochastically(format: Format, value: Finite, random: int) -> tuple[int, int]:
    """B1 SR: (bits(RTZ32(|v|)) + random) >> 16, for bf16 alone."""
    if format != BF16:
        raise ValueError("stochastic rounding is for results in bf16")
    _, significand, exponent = value
    leading = significand.bit_length() + exponent - 1
    if leading >= 128:
        return format.infinity, OVERFLOW | INEXACT
    quantum = max(leading, FP32.minimum_exponent) - FP32.precision + 1
    kept, tail = cut(significand, exponent, quantum)
    single = kept + ((quantum - FP32.quantum_exponent) << (FP32.precision - 1))
    flags = INEXACT if tail or single & 0xFFFF else 0
    bits = (single + random) >> 16
    if flags and bits == format.infinity:
        flags |= OVERFLOW
    if flags and leading < format.minimum_exponent:
        flags |= UNDERFLOW
    return bits, flags


def round_fraction(format: Format, value: Fraction, rounding: str = "rne", zero_sign: int = 0) -> int:
    """The bits of a rational number rounded to a format."""
    if value == 0:
        return format.sign_bit if zero_sign else 0
    numerator, denominator = abs(value.numerator), value.denominator
    # Enough quotient bits that the sticky bit lies below every rounding position.
    shift = max(0, format.precision + 8 + denominator.bit_length() - numerator.bit_length())
    quotient, remainder = divmod(numerator << shift, denominator)
    jammed = Finite(int(value < 0), quotient << 1 | (remainder != 0), -shift - 1)
    return round_value(format, jammed, rounding)[0]
