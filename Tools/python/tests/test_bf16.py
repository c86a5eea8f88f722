"""B: against neighbours found by search among all bf16 numbers, and against fp32 hardware where B6 allows it."""

import random
from bisect import bisect_left
from fractions import Fraction

import numpy as np
import pytest

from touchstone.files import bf16_to_fp32
from touchstone.reference import bf16
from touchstone.reference.formats import (
    BF16,
    DIVIDE_BY_ZERO,
    FP16,
    FP32,
    FP64,
    INEXACT,
    INVALID,
    OVERFLOW,
    UNDERFLOW,
    Finite,
    round_fraction,
    round_value,
    unpack,
)

POSITIVE = [unpack(BF16, bits).fraction for bits in range(0x7F80)] + [Fraction(2) ** 128]
TINY = Fraction(2) ** -126

GRID = [
    0x0000,
    0x0001,
    0x0002,
    0x0040,
    0x007F,
    0x0080,
    0x0081,
    0x00FF,
    0x0100,
    0x1234,
    0x3380,
    0x3B80,
    0x3F00,
    0x3F7F,
    0x3F80,
    0x3F81,
    0x3FC0,
    0x4000,
    0x4049,
    0x42FF,
    0x437F,
    0x4B00,
    0x7E80,
    0x7F00,
    0x7F7E,
    0x7F7F,
    0x7F80,
    0x7F81,
    0x7FC0,
    0x7FFF,
]
GRID += [bits | 0x8000 for bits in GRID]


def neighbours(v: Fraction) -> tuple[int, int]:
    """The bits of the numbers just below and above a positive v (equal if v is one); 0x7F80 stands for 2^128."""
    at = bisect_left(POSITIVE, v)
    if at < len(POSITIVE) and POSITIVE[at] == v:
        return at, at
    return at - 1, at


def by_search(v: Fraction, mode: str) -> int:
    """v > 0 rounded by looking at its two neighbours."""
    if v >= 2**128:
        return 0x7F7F if mode in ("rtz", "rdn", "rto") else 0x7F80
    low, high = neighbours(v)
    if low == high:
        return low
    if mode in ("rtz", "rdn"):
        return low
    if mode == "rup":
        return high
    if mode == "rto":
        return low if low & 1 else high
    below, above = v - POSITIVE[low], POSITIVE[high] - v
    if below != above:
        return low if below < above else high
    return high if mode == "rna" else low if low & 1 == 0 else high


def operands(count: int, width: int, seed: int = 20240601):
    generator = random.Random(seed)
    for _ in range(count):
        yield tuple(generator.getrandbits(16) for _ in range(width))


def finite(*values: int) -> bool:
    return all(bits & 0x7FFF < 0x7F80 for bits in values)


def value(bits: int) -> Fraction:
    return unpack(BF16, bits).fraction


EXACT = {
    "add": lambda a, b: value(a) + value(b),
    "sub": lambda a, b: value(a) - value(b),
    "mul": lambda a, b: value(a) * value(b),
    "div": lambda a, b: value(a) / value(b),
}


@pytest.mark.parametrize("mode", ["rne", "rtz", "rdn", "rup", "rna", "rto"])
@pytest.mark.parametrize("name", EXACT)
def test_B1_B3_every_mode_against_neighbours(name, mode):
    pairs = [(a, b) for a in GRID for b in GRID] + list(operands(2000, 2))
    for a, b in pairs:
        if not finite(a, b) or (name == "div" and b & 0x7FFF == 0):
            continue
        v = EXACT[name](a, b)
        got, flags = getattr(bf16, name)(a, b, mode, "after", 0)
        if v == 0:
            assert got & 0x7FFF == 0 and flags == 0
            continue
        mirrored = {"rdn": "rup", "rup": "rdn"}.get(mode, mode) if v < 0 else mode
        expected = by_search(abs(v), mirrored) | (0x8000 if v < 0 else 0)
        assert got == expected, f"{name} {mode} {a:04x} {b:04x}: {got:04x}, expected {expected:04x}"
        inexact = got & 0x7FFF == 0x7F80 or value(got) != v
        assert bool(flags & INEXACT) == inexact
        assert bool(flags & OVERFLOW) == (got & 0x7FFF == 0x7F80 or abs(v) >= 2**128)
        # B2: tiny after rounding with unbounded exponent, found by rounding v * 2^100
        scaled = by_search(abs(v) * 2**100, mirrored) if abs(v) < TINY else None
        tiny = scaled is not None and POSITIVE[scaled] < TINY * 2**100
        assert bool(flags & UNDERFLOW) == (tiny and inexact)
        before = getattr(bf16, name)(a, b, mode, "before", 0)[1]
        assert bool(before & UNDERFLOW) == (abs(v) < TINY and inexact)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "sqrt"])
def test_B6_fp32_hardware_then_nearest_even(name):
    pairs = [(a, b) for a in GRID for b in GRID] + list(operands(20000, 2, seed=7))
    a, b = (bf16_to_fp32(np.array(column, np.uint16)) for column in zip(*pairs))
    with np.errstate(all="ignore"):
        single = {"add": a + b, "sub": a - b, "mul": a * b, "div": a / b, "sqrt": np.sqrt(a)}[name]
    word = single.view(np.uint32).astype(np.uint64)
    expected = np.where(np.isnan(single), 0x7FC0, (word + 0x7FFF + ((word >> 16) & 1)) >> 16).tolist()
    for (x, y), wanted in zip(pairs, expected):
        got = bf16.sqrt(x, "rne", "after", 0)[0] if name == "sqrt" else getattr(bf16, name)(x, y, "rne", "after", 0)[0]
        assert got == wanted, f"{name} {x:04x} {y:04x}"


@pytest.mark.parametrize("mode", ["rne", "rtz", "rdn", "rup", "rna", "rto"])
def test_B3_fma_and_sqrt_against_neighbours(mode):
    generator = random.Random(3)
    triples = list(operands(4000, 3, seed=5)) + [tuple(generator.choice(GRID) for _ in range(3)) for _ in range(4000)]
    for a, b, c in triples:
        if not finite(a, b, c):
            continue
        v = value(a) * value(b) + value(c)
        got, _ = bf16.fma(a, b, c, mode, "after", 0)
        if v:
            mirrored = {"rdn": "rup", "rup": "rdn"}.get(mode, mode) if v < 0 else mode
            assert got == by_search(abs(v), mirrored) | (0x8000 if v < 0 else 0)
    for a in range(0, 0x7F80, 3):
        got, _ = bf16.sqrt(a, mode, "after", 0)
        if mode in ("rdn", "rtz"):
            assert value(got) ** 2 <= value(a) < value(got + 1) ** 2
        if mode == "rup" and a:
            assert value(got - 1) ** 2 < value(a) <= value(got) ** 2


def test_B1_stochastic_rounding_is_unbiased_to_the_bit():
    """The random words that round up number exactly the tail's 16 bits."""
    for significand, exponent in ((0x80F001, -130), (0xFFFFFF, -23), (0x812345, -152), (0x123456789, -40)):
        v = Finite(0, significand, exponent)
        results = [round_value(BF16, v, "sr", "after", word)[0] for word in range(0, 1 << 16, 7)]
        low, high = neighbours(v.fraction)
        assert set(results) <= {low, high}
        single = round_value(FP32, v, "rtz")[0]
        ups = sum(round_value(BF16, v, "sr", "after", word)[0] == high for word in range(1 << 16))
        assert ups == single & 0xFFFF
    assert round_value(BF16, Finite(0, 1, 128), "sr", "after", 0) == (0x7F80, OVERFLOW | INEXACT)
    assert round_value(BF16, Finite(0, 0xFFFFFF, 104), "sr", "after", 0) == (0x7F7F, INEXACT)
    assert round_value(BF16, Finite(1, 0xFFFFFF, 104), "sr", "after", 0xFFFF) == (0xFF80, OVERFLOW | INEXACT)


def test_B3_special_values():
    inf, nan, quiet, signalling = 0x7F80, 0x7FC0, 0x7FFF, 0x7F81
    assert bf16.fma(inf, 0, quiet, "rne", "after", 0) == (nan, INVALID)
    assert bf16.add(quiet, 0, "rne", "after", 0) == (nan, 0)
    assert bf16.add(0, signalling, "rne", "after", 0) == (nan, INVALID)
    assert bf16.sub(inf, inf, "rne", "after", 0) == (nan, INVALID)
    assert bf16.div(0x3F80, 0x8000, "rne", "after", 0) == (0xFF80, DIVIDE_BY_ZERO)
    for mode in ("rne", "rtz", "rdn", "rup", "rna", "rto", "sr"):
        assert bf16.sub(0x3F80, 0x3F80, mode, "after", 0) == (0x8000 if mode == "rdn" else 0, 0)
    assert bf16.minimum(0x8000, 0) == (0x8000, 0) and bf16.maximum(0x8000, 0) == (0, 0)
    assert bf16.maximum_number(signalling, 0x3F80) == (0x3F80, INVALID)
    assert bf16.rem(0x4040, 0x4000, "rne", "after", 0) == (0xBF80, 0)  # 3 rem 2 = -1
    assert bf16.rem(0xC000, 0x3F80, "rne", "after", 0) == (0x8000, 0)
    assert bf16.next_up(0x8001) == (0x8000, 0) and bf16.next_down(0) == (0x8001, 0)
    assert [bf16.round_to_integral(a, "rto")[0] for a in (0x3F00, 0x3FC0, 0x4020)] == [0x3F80, 0x3F80, 0x4040]


def test_B3_remainder_by_definition():
    for a, b in operands(3000, 2, seed=11):
        if not finite(a, b) or b & 0x7FFF == 0:
            continue
        ratio = value(a) / value(b)
        assert value(bf16.rem(a, b, "rne", "after", 0)[0]) == value(a) - round(ratio) * value(b)


def test_B5_conversions():
    every = np.arange(1 << 16, dtype=np.uint16)
    for bits in range(0, 1 << 16, 5):
        if finite(bits):
            for format, dtype in ((FP32, np.float32), (FP64, np.float64)):
                got, flags = bf16.convert_float(BF16, format, bits, "rne", "after")
                assert (
                    flags == 0
                    and got == bf16_to_fp32(every[bits : bits + 1]).astype(dtype).view(f"u{dtype().itemsize}")[0]
                )
            with np.errstate(all="ignore"):
                half = bf16_to_fp32(every[bits : bits + 1]).astype(np.float16).view(np.uint16)[0]
            assert bf16.convert_float(BF16, FP16, bits, "rne", "after")[0] == half
            for target, (low, high) in bf16.INTEGERS.items():
                whole = round(value(bits))
                expected = min(max(whole, low), high)
                flags = INVALID if whole != expected else INEXACT if whole != value(bits) else 0
                assert bf16.to_integer(bits, target, "rne") == (expected, flags)
    # A double that is no tie must not become one on the way through fp32.
    trap = round_fraction(FP64, 1 + Fraction(1, 256) + Fraction(1, 2**40))
    assert bf16.convert_float(FP64, BF16, trap, "rne", "after") == (0x3F81, INEXACT)
    assert bf16.from_integer((1 << 63) - 1, "rne") == (0x5F00, INEXACT)
    assert bf16.from_integer(257, "rne") == (0x4380, INEXACT) and bf16.from_integer(259, "rne") == (0x4382, INEXACT)
    assert bf16.to_integer(0xBE80, "uint8", "rdn") == (0, INVALID) and bf16.to_integer(0xBE80, "uint8", "rne") == (0, 1)


def test_B4_compare():
    assert [bf16.compare(a, b, False) for a, b in ((0, 0x8000), (1, 0), (0x8001, 0), (0x7FC0, 0), (0, 0x7F81))] == [
        (2, 0),
        (4, 0),
        (1, 0),
        (8, 0),
        (8, INVALID),
    ]
    assert bf16.compare(0x7FC0, 0, True) == (8, INVALID)
