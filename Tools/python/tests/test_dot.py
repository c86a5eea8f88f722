"""D and R: the float64 path against exact rational arithmetic, step by step."""

import math
from fractions import Fraction

import numpy as np
import pytest

from touchstone.files import bf16_to_fp32
from touchstone.reference import dot
from touchstone.reference.formats import FP32, FP64, round_fraction, unpack

SMALLEST_NORMAL = Fraction(2) ** -126


def fp32(bits: int) -> float:
    return float(np.array([bits], np.uint32).view(np.float32)[0])


def exact_fma(x: float, y: float, z: float, flush: bool) -> float:
    """One rounding of the exact x*y + z, by fractions; finite operands."""
    if flush:
        x, y, z = (0.0 if abs(v) < 2.0**-126 else v for v in (x, y, z))
    v = Fraction(x) * Fraction(y) + Fraction(z)
    if not flush:
        return fp32(round_fraction(FP32, v))
    if v == 0:
        return 0.0
    # to 24 bits with unbounded exponent
    exponent = v.numerator.bit_length() - v.denominator.bit_length() - 24
    while abs(v) / Fraction(2) ** exponent >= 1 << 24:
        exponent += 1
    while abs(v) / Fraction(2) ** exponent < 1 << 23:
        exponent -= 1
    rounded = round(v / Fraction(2) ** exponent) * Fraction(2) ** exponent  # ties to even
    if abs(rounded) < SMALLEST_NORMAL:
        return 0.0
    return math.copysign(math.inf, v) if abs(rounded) >= Fraction(2) ** 128 else float(rounded)


def triples(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Products near the accumulator, near 2^-126, and anywhere."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 1 << 16, count, np.uint16)
    y = generator.integers(0, 1 << 16, count, np.uint16)
    third = count // 3
    near = generator.integers(-24, 25, third)
    x[:third] = (127 << 7) | (x[:third] & 0x807F)
    y[:third] = ((127 + near) << 7).astype(np.uint16) | (y[:third] & 0x807F)
    x[third : 2 * third] = ((generator.integers(1, 127, third)) << 7).astype(np.uint16) | (
        x[third : 2 * third] & 0x807F
    )
    total = 128 + generator.integers(-3, 4, third)  # biased exponents that sum to about 2^-126
    y[third : 2 * third] = (np.clip(total - ((x[third : 2 * third] >> 7) & 255), 0, 254) << 7).astype(np.uint16) | (
        y[third : 2 * third] & 0x807F
    )
    z = generator.integers(0, 1 << 32, count, np.uint32)
    z[:third] = (127 << 23) | (z[:third] & 0x807FFFFF)
    z[third : 2 * third] = (generator.integers(0, 3, third).astype(np.uint32) << 23) | (
        z[third : 2 * third] & 0x807FFFFF
    )
    z = z.view(np.float32)
    a, b = bf16_to_fp32(x), bf16_to_fp32(y)
    keep = np.isfinite(a) & np.isfinite(b) & np.isfinite(z)
    return a[keep], b[keep], z[keep]


def test_D1_every_step_against_fractions():
    x, y, z = triples(1, 9000)
    got = dot.fma_flushing(*(v.astype(np.float64) for v in (x, y, z)))
    for index in range(len(x)):
        expected = exact_fma(float(x[index]), float(y[index]), float(z[index]), flush=True)
        assert got[index] == expected, f"{x[index].hex()} {y[index].hex()} {z[index].hex()}"


def test_D2_every_step_against_fractions():
    x, y, z = triples(2, 9000)
    got = dot.fma(x, y, z)
    for index in range(len(x)):
        expected = exact_fma(float(x[index]), float(y[index]), float(z[index]), flush=False)
        assert got[index] == np.float32(expected)


def test_D2_fma_of_fp32_operands():
    generator = np.random.default_rng(4)
    x, y, z = (generator.integers(0, 1 << 32, 5000, np.uint32).view(np.float32) for _ in range(3))
    keep = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
    x, y, z = x[keep], y[keep], z[keep]
    got = dot.fma(x, y, z)
    for index in range(len(x)):
        assert got[index] == np.float32(exact_fma(float(x[index]), float(y[index]), float(z[index]), flush=False))


def test_D1_takes_the_odd_element_first_and_D3_ends_positive():
    one, two, three, big, minus_big = 0x3F80, 0x4000, 0x4040, 0x4B80, 0xCB80  # big = 2^24
    ones = np.full((2, 1), one, np.uint16)

    def both(values: list[int], start: float) -> tuple[float, float]:
        a, c = np.array([values], np.uint16), np.array([[start]], np.float32)
        return tuple(float(dot.gemm(recipe, a, ones, c)[0, 0]) for recipe in ("paired-ftz", "chain-ieee"))

    assert both([one, minus_big], 2.0**24) == (1, 0)  # 2^24 + 1 is a tie, and goes to 2^24
    assert both([minus_big, one], 2.0**24) == (0, 1)
    assert both([big, three], 0) == (2.0**24 + 4, 2.0**24 + 4)
    assert both([two, 0], -2.0) == (0, 0)
    subnormal = np.array([[1e-40]], np.float32)
    empty = np.zeros((1, 0), np.uint16), np.zeros((0, 1), np.uint16)
    assert dot.gemm("paired-ftz", *empty, subnormal)[0, 0] == 0
    assert dot.gemm("chain-ieee", *empty, subnormal)[0, 0] == np.float32(1e-40)
    assert not np.signbit(dot.gemm("chain-ieee", *empty, np.array([[-0.0]], np.float32)))[0, 0]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 33, 100])
def test_R1_lane16_as_written(count):
    generator = np.random.default_rng(count)
    x, y = (generator.standard_normal((2, count)).astype(np.float32) for _ in range(2))
    for second in (None, y):
        got = dot.lane16(x, second)
        for row in range(2):
            lanes = [np.float32(0)] * 16
            for i in range(count):
                if second is None:
                    lanes[i % 16] = lanes[i % 16] + x[row, i]
                else:
                    exact = Fraction(float(x[row, i])) * Fraction(float(y[row, i])) + Fraction(float(lanes[i % 16]))
                    lanes[i % 16] = np.float32(fp32(round_fraction(FP32, exact)))
            for width in (8, 4, 2, 1):
                for lane in range(width):
                    lanes[lane] = lanes[lane] + lanes[lane + width]
            assert got[row] == lanes[0]


def test_R2_R3():
    generator = np.random.default_rng(9)
    x = generator.standard_normal((1, 9000)).astype(np.float32)
    parts = np.array([[dot.lane16(x[:, i : i + 4096])[0] for i in (0, 4096, 8192)]], np.float32)
    assert dot.lane16x4096(x)[0] == dot.lane16(parts)[0]
    assert dot.chain(x)[0] == np.add.accumulate(x[0])[-1]


def test_Q1_truth_is_one_rounding_of_the_exact_sum():
    generator = np.random.default_rng(12)
    for _ in range(200):
        terms = generator.integers(0, 1 << 32, 40, np.uint32).view(np.float32)
        terms = terms[np.isfinite(terms)].astype(np.float64)
        exact = sum((Fraction(float(term)) for term in terms), Fraction(0))
        bits = int(np.array([dot.exact_sum(terms)]).view(np.uint64)[0])
        assert bits == round_fraction(FP64, exact)
        assert unpack(FP64, bits).fraction == Fraction(dot.exact_sum(terms))
    inf = math.inf
    assert math.isnan(dot.exact_sum(np.array([inf, -inf]))) and dot.exact_sum(np.array([1, -inf])) == -inf
    assert math.copysign(1, dot.exact_sum(np.array([-0.0, -0.0]))) == 1
