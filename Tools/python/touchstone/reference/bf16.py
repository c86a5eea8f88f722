"""Clause B: bf16 scalar arithmetic, one element at a time in Python integers."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

from .formats import (
    BF16,
    DIVIDE_BY_ZERO,
    FP16,
    FP32,
    FP64,
    INEXACT,
    INVALID,
    Finite,
    Format,
    cut,
    is_infinite,
    is_nan,
    is_signalling,
    round_value,
    sign_of,
    step,
    unpack,
)

Result = tuple[int, int]  # bits, flags

NAN = BF16.nan
SIGN = BF16.sign_bit
INFINITY = BF16.infinity


def _is_zero(bits: int) -> bool:
    return bits & 0x7FFF == 0


def _nan(*operands: int) -> Result:
    """F2, B2: a NaN operand gives the NaN; a signalling one raises invalid."""
    return NAN, INVALID if any(is_signalling(BF16, bits) for bits in operands) else 0


def _sum(first: Finite, second: Finite, rounding: str) -> Finite:
    """The exact sum; B3 decides the sign of a zero."""
    exponent = min(first.exponent, second.exponent)
    total = 0
    for term in (first, second):
        magnitude = term.significand << (term.exponent - exponent)
        total += -magnitude if term.sign else magnitude
    if total == 0:
        both_zero = first.significand == 0 and second.significand == 0
        if both_zero and first.sign == second.sign:
            return Finite(first.sign, 0, 0)
        return Finite(int(rounding == "rdn"), 0, 0)
    return Finite(int(total < 0), abs(total), exponent)


def _product(a: Finite, b: Finite) -> Finite:
    return Finite(a.sign ^ b.sign, a.significand * b.significand, a.exponent + b.exponent)


def add(a: int, b: int, rounding: str, tininess: str, random: int) -> Result:
    if is_nan(BF16, a) or is_nan(BF16, b):
        return _nan(a, b)
    if is_infinite(BF16, a) or is_infinite(BF16, b):
        if is_infinite(BF16, a) and is_infinite(BF16, b) and a != b:
            return NAN, INVALID
        return (a if is_infinite(BF16, a) else b), 0
    return round_value(BF16, _sum(unpack(BF16, a), unpack(BF16, b), rounding), rounding, tininess, random)


def sub(a: int, b: int, rounding: str, tininess: str, random: int) -> Result:
    return add(a, b if is_nan(BF16, b) else b ^ SIGN, rounding, tininess, random)


def mul(a: int, b: int, rounding: str, tininess: str, random: int) -> Result:
    if is_nan(BF16, a) or is_nan(BF16, b):
        return _nan(a, b)
    if is_infinite(BF16, a) or is_infinite(BF16, b):
        if _is_zero(a) or _is_zero(b):
            return NAN, INVALID
        return INFINITY | ((a ^ b) & SIGN), 0
    return round_value(BF16, _product(unpack(BF16, a), unpack(BF16, b)), rounding, tininess, random)


def div(a: int, b: int, rounding: str, tininess: str, random: int) -> Result:
    if is_nan(BF16, a) or is_nan(BF16, b):
        return _nan(a, b)
    sign = (a ^ b) & SIGN
    if is_infinite(BF16, a):
        return (NAN, INVALID) if is_infinite(BF16, b) else (INFINITY | sign, 0)
    if is_infinite(BF16, b):
        return sign, 0
    if _is_zero(b):
        return (NAN, INVALID) if _is_zero(a) else (INFINITY | sign, DIVIDE_BY_ZERO)
    dividend, divisor = unpack(BF16, a), unpack(BF16, b)
    quotient, remainder = divmod(dividend.significand << 64, divisor.significand)
    jammed = Finite(int(sign != 0), quotient << 1 | (remainder != 0), dividend.exponent - divisor.exponent - 65)
    if quotient == 0 and remainder == 0:
        jammed = Finite(int(sign != 0), 0, 0)
    return round_value(BF16, jammed, rounding, tininess, random)


def rem(a: int, b: int, rounding: str, tininess: str, random: int) -> Result:
    """IEEE remainder: a - b*n, n the integer nearest to a/b, ties to even; always exact."""
    if is_nan(BF16, a) or is_nan(BF16, b):
        return _nan(a, b)
    if is_infinite(BF16, a) or _is_zero(b):
        return NAN, INVALID
    if is_infinite(BF16, b) or _is_zero(a):
        return a, 0
    x, y = unpack(BF16, a), unpack(BF16, b)
    exponent = min(x.exponent, y.exponent)
    dividend, divisor = x.significand << (x.exponent - exponent), y.significand << (y.exponent - exponent)
    whole, rest = divmod(dividend, divisor)
    if 2 * rest > divisor or (2 * rest == divisor and whole & 1):
        rest -= divisor
    # A zero remainder has the dividend's sign.
    sign = x.sign if rest >= 0 else 1 - x.sign
    return round_value(BF16, Finite(sign, abs(rest), exponent))


def sqrt(a: int, rounding: str, tininess: str, random: int) -> Result:
    if is_nan(BF16, a):
        return _nan(a)
    if _is_zero(a):
        return a, 0
    if a & SIGN:
        return NAN, INVALID
    if is_infinite(BF16, a):
        return a, 0
    _, significand, exponent = unpack(BF16, a)
    if exponent & 1:
        significand, exponent = significand << 1, exponent - 1
    scaled = significand << 128
    root = isqrt(scaled)
    jammed = Finite(0, root << 1 | (root * root != scaled), exponent // 2 - 65)
    return round_value(BF16, jammed, rounding, tininess, random)


def fma(a: int, b: int, c: int, rounding: str, tininess: str, random: int) -> Result:
    invalid_product = (is_infinite(BF16, a) and _is_zero(b)) or (_is_zero(a) and is_infinite(BF16, b))
    if is_nan(BF16, a) or is_nan(BF16, b) or is_nan(BF16, c):
        bits, flags = _nan(a, b, c)
        return bits, flags | (INVALID if invalid_product else 0)  # B3: also beside a quiet NaN
    if invalid_product:
        return NAN, INVALID
    if is_infinite(BF16, a) or is_infinite(BF16, b):
        product = INFINITY | ((a ^ b) & SIGN)
        return (NAN, INVALID) if is_infinite(BF16, c) and c != product else (product, 0)
    if is_infinite(BF16, c):
        return c, 0
    exact = _sum(_product(unpack(BF16, a), unpack(BF16, b)), unpack(BF16, c), rounding)
    return round_value(BF16, exact, rounding, tininess, random)


# B4


def _order(bits: int) -> int:
    """Integers in the order of the numbers, with -0 below +0."""
    return -1 - (bits & 0x7FFF) if bits & SIGN else bits


def minimum(a: int, b: int, *_) -> Result:
    if is_nan(BF16, a) or is_nan(BF16, b):
        return _nan(a, b)
    return min(a, b, key=_order), 0


def maximum(a: int, b: int, *_) -> Result:
    if is_nan(BF16, a) or is_nan(BF16, b):
        return _nan(a, b)
    return max(a, b, key=_order), 0


def minimum_number(a: int, b: int, *_) -> Result:
    return _number(a, b, min)


def maximum_number(a: int, b: int, *_) -> Result:
    return _number(a, b, max)


def _number(a: int, b: int, choose) -> Result:
    _, flags = _nan(a, b)
    numbers = [bits for bits in (a, b) if not is_nan(BF16, bits)]
    return (choose(numbers, key=_order) if numbers else NAN), flags


def round_to_integral(a: int, rounding: str, *_) -> Result:
    if is_nan(BF16, a):
        return _nan(a)
    if is_infinite(BF16, a):
        return a, 0
    sign, significand, exponent = unpack(BF16, a)
    kept, tail = cut(significand, exponent, 0)
    bits, _ = round_value(BF16, Finite(sign, step(rounding, sign, kept, tail), 0))
    return bits, INEXACT if tail else 0


def next_up(a: int, *_) -> Result:
    if is_nan(BF16, a):
        return _nan(a)
    if a == INFINITY:
        return a, 0
    if _is_zero(a):
        return 1, 0
    return (a - 1 if a & SIGN else a + 1), 0


def next_down(a: int, *_) -> Result:
    if is_nan(BF16, a):
        return _nan(a)
    return next_up(a ^ SIGN)[0] ^ SIGN, 0


def compare(a: int, b: int, signalling: bool) -> Result:
    """Bit 0 less, 1 equal, 2 greater, 3 unordered."""
    if is_nan(BF16, a) or is_nan(BF16, b):
        return 8, INVALID if signalling or _nan(a, b)[1] else 0
    if _is_zero(a) and _is_zero(b):
        return 2, 0
    return (1 if _order(a) < _order(b) else 2 if a == b else 4), 0


# B5

FLOATS: dict[str, Format] = {"fp16": FP16, "fp32": FP32, "fp64": FP64}
INTEGERS: dict[str, tuple[int, int]] = {
    **{f"int{width}": (-(1 << (width - 1)), (1 << (width - 1)) - 1) for width in (8, 16, 32, 64)},
    **{f"uint{width}": (0, (1 << width) - 1) for width in (8, 16, 32, 64)},
}


def convert_float(source: Format, target: Format, bits: int, rounding: str, tininess: str, random: int = 0) -> Result:
    if is_nan(source, bits):
        return target.nan, INVALID if is_signalling(source, bits) else 0
    if is_infinite(source, bits):
        return target.infinity | (target.sign_bit if sign_of(source, bits) else 0), 0
    return round_value(target, unpack(source, bits), rounding, tininess, random)


def from_integer(value: int, rounding: str, random: int = 0) -> Result:
    return round_value(BF16, Finite(int(value < 0), abs(value), 0), rounding, "after", random)


def to_integer(a: int, target: str, rounding: str) -> Result:
    """Saturates; NaN gives 0; both raise invalid, and then nothing is inexact."""
    low, high = INTEGERS[target]
    if is_nan(BF16, a):
        return 0, INVALID
    if is_infinite(BF16, a):
        return (low if a & SIGN else high), INVALID
    sign, significand, exponent = unpack(BF16, a)
    kept, tail = cut(significand, exponent, 0)
    value = step(rounding, sign, kept, tail)
    value = -value if sign else value
    if value < low:
        return low, INVALID
    if value > high:
        return high, INVALID
    return value, INEXACT if tail else 0


def as_fraction(bits: int) -> Fraction:
    return unpack(BF16, bits).fraction
