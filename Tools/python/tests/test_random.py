"""G: Random123's known answers (kat_vectors, philox4x32 with 10 rounds), and the transforms by their formulas."""

import math

import numpy as np
import pytest

from touchstone.reference import random


@pytest.mark.parametrize(
    "counter, key, words",
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_G1_known_answers(counter, key, words):
    got = random.philox(np.array([key], np.uint32), np.array([counter], np.uint32))
    assert tuple(got[0].tolist()) == words


def test_G2_uniform_is_never_0_or_1():
    x = random.uniform(np.array([0, 511, 512, 0xFFFFFFFF], np.uint32))
    assert x.tolist() == [2.0**-24, 2.0**-24, 3 * 2.0**-24, 1 - 2.0**-24]


def test_G3_G4_near_float64():
    words = np.random.default_rng(0).integers(0, 1 << 32, 2000, np.uint32)
    v = ((2 * words.astype(np.float64) + 1) * 2.0**-33).astype(np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        expected = -np.log(-np.log1p(-v))
    got = random.gumbel(words)
    assert np.allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert math.isclose(
        random.gumbel(np.array([0xFFFFFFFF], np.uint32))[0], -math.log(-math.log(2.0**-24)), rel_tol=1e-6
    )
    assert math.isclose(random.gumbel(np.array([0], np.uint32))[0], 33 * math.log(2), rel_tol=1e-6)
    pairs = words.reshape(-1, 2)
    u1, u2 = random.uniform(words).astype(np.float64).reshape(-1, 2).T
    radius = np.sqrt(-2 * np.log(u1))
    expected = np.stack([radius * np.cos(2 * np.pi * u2), radius * np.sin(2 * np.pi * u2)], 1)
    assert np.allclose(random.normal(pairs), expected, rtol=1e-5, atol=1e-6)
