"""E: mpmath's enclosures against MPFR, and the special values."""

import random

import pytest

from touchstone.reference.elementary import FUNCTIONS, mpfr, round_function
from touchstone.reference.formats import FP32

gmpy2 = pytest.importorskip("gmpy2")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_E1_against_mpfr(name):
    generator = random.Random(1)
    inputs = [generator.getrandbits(32) for _ in range(2000)]
    for biased in range(256):
        for trailing in (0, 1, 0x400000, 0x7FFFFF):
            inputs += [biased << 23 | trailing, 1 << 31 | biased << 23 | trailing]
    for x in inputs:
        assert round_function(name, x) == mpfr(name, x), f"{name} {x:08x}"


@pytest.mark.parametrize(
    "name, x, y",
    [
        ("exp", 0xFF800000, 0),
        ("exp", 0, 0x3F800000),
        ("exp", 0x7F7FFFFF, 0x7F800000),
        ("expm1", 0x80000000, 0x80000000),
        ("expm1", 0xFF7FFFFF, 0xBF800000),
        ("log", 0x80000000, 0xFF800000),
        ("log", 0x3F800000, 0),
        ("log", 0x80000001, 0x7FC00000),
        ("log1p", 0x80000000, 0x80000000),
        ("log1p", 0xBF800000, 0xFF800000),
        ("sqrt", 0x80000000, 0x80000000),
        ("rsqrt", 0x80000000, 0xFF800000),
        ("rsqrt", 0x7F800000, 0),
        ("reciprocal", 0xFF800000, 0x80000000),
        ("reciprocal", 1, 0x7F800000),
        ("sinPi", 0xBF800000, 0x80000000),
        ("sinPi", 0x4B800000, 0),
        ("sinPi", 0x3F000000, 0x3F800000),
        ("cosPi", 0x3F000000, 0),
        ("cosPi", 0xBF000000, 0),
        ("cosPi", 0x3F800000, 0xBF800000),
        ("cosPi", 0x4B7FFFFF, 0xBF800000),
        ("sinPi", 0x7F800000, 0x7FC00000),
        ("cosPi", 0xFF800000, 0x7FC00000),
        ("exp", 0x7F800001, 0x7FC00000),
    ],
)
def test_E1_special_values(name, x, y):
    assert round_function(name, x, (FP32,)) == (y,)
