"""S: every comparison again in rational arithmetic, one element at a time."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from touchstone.reference import allreduce, squinch
from touchstone.reference.formats import FP32, round_fraction, unpack

THRESHOLDS, SCALES = squinch.tables()


def value(bits) -> Fraction:
    return unpack(FP32, int(bits)).fraction


def test_S2_tables():
    with mpmath.workdps(60):
        for q in range(1, 256):

            def reached(bits: int, q: int = q) -> bool:
                x = value(bits)
                return mpmath.floor(6 * mpmath.log(mpmath.mpf(x.numerator) / x.denominator)) + 129 >= q

            assert reached(int(THRESHOLDS[q])) and not reached(int(THRESHOLDS[q]) - 1)
        for q in range(256):
            low, high = value(int(SCALES[q]) - 1), value(int(SCALES[q]) + 1)
            exact = mpmath.exp(mpmath.mpf(q - 128) / 6)
            middle = value(SCALES[q])
            assert (
                abs(exact - mpmath.mpf(middle.numerator) / middle.denominator) * 2
                <= mpmath.mpf((high - low).numerator) / (high - low).denominator
            )
    assert THRESHOLDS[129] == 0x3F800000 and SCALES[128] == 0x3F800000
    # S2: the largest magnitude of a block is at most its scale
    assert (THRESHOLDS[2:] - 1 <= SCALES[1:255]).all()


def test_S2_tables_against_mpfr():
    pytest.importorskip("gmpy2")
    for ours, theirs in zip(squinch.tables(), squinch.tables(squinch.mpfr_exp_of_sixths)):
        assert np.array_equal(ours, theirs)


def gradients(seed: int, count: int = 4000) -> np.ndarray:
    """All scales, with elements on and next to the boundaries between codes."""
    generator = np.random.default_rng(seed)
    x = (generator.standard_normal((count // 8, 8)) * np.exp(generator.uniform(-22, 21, (count // 8, 1)))).astype(
        np.float32
    )
    for block in range(0, count // 8, 3):
        q = int(generator.integers(1, 255))
        scale = SCALES[q : q + 1].view(np.float32)[0]
        x[block, 0] = THRESHOLDS[q : q + 1].view(np.float32)[0]
        k = generator.integers(0, 16, 7)
        x[block, 1:] = np.nextafter(
            (k * k / 256 * scale).astype(np.float32), generator.choice([0, np.inf], 7).astype(np.float32)
        )
        x[block, 1:] = np.minimum(x[block, 1:], x[block, 0]) * generator.choice([-1, 1], 7)
    return x.reshape(-1)


def code(variant: str, x: Fraction, scale: Fraction, word: int) -> int:
    if variant == "floor16":
        return max(k for k in range(16) if k * k * scale <= 256 * x)
    if variant == "round15":
        return max(k for k in range(16) if k == 0 or (2 * k - 1) ** 2 * scale <= 900 * x)
    if x >= scale:
        return 15
    a = max(k for k in range(15) if k * k * scale <= 225 * x)
    return a + ((word >> 8) * (2 * a + 1) * scale < 2**24 * (225 * x - a * a * scale))


@pytest.mark.parametrize("variant", squinch.VARIANTS)
def test_S3_S4_S5_by_rationals(variant):
    x = gradients(21)[:3997]
    words = np.random.default_rng(2).integers(0, 1 << 32, len(x), np.uint32)
    blocks = squinch.encode(variant, x, words)
    decoded = squinch.decode(variant, blocks, len(x))
    assert blocks.shape == (500, 6)
    for i, number in enumerate(x):
        block = blocks[i // 8]
        largest = np.abs(x[i // 8 * 8 : i // 8 * 8 + 8]).max()
        q_max = sum(largest >= THRESHOLDS.view(np.float32)[1:])
        assert block[0] == q_max
        if q_max == 0:
            assert not block[1:].any() and decoded[i] == 0
            continue
        scale = value(SCALES[q_max])
        got = (block[2 + i % 8 // 2] >> 4 * (i % 2)) & 15
        expected = code(variant, abs(Fraction(float(number))), scale, int(words[i]))
        assert got == expected, f"{variant} x = {number.hex()}, scale {float(scale).hex()}"
        assert (block[1] >> i % 8) & 1 == np.signbit(number)
        ratio = Fraction((2 * expected + 1) ** 2, 1024) if variant == "floor16" else Fraction(expected**2, 225)
        magnitude = round_fraction(FP32, ratio * scale)
        assert decoded.view(np.uint32)[i] == magnitude | np.signbit(number) << 31


def test_S6_nonfinite():
    x = np.array([1, np.inf, np.nan], np.float32)
    with pytest.raises(squinch.NonfiniteError, match=r"x\[1\]"):
        squinch.encode("floor16", x)
    with pytest.raises(squinch.NonfiniteError, match=r"x\[2\]"):
        squinch.encode("floor16", x, nonfinite="saturate")
    (block,) = squinch.encode("floor16", x[:2], nonfinite="saturate")
    assert block.tolist() == [255, 0, 0xF0, 0, 0, 0]
    assert squinch.encode("floor16", x[:0]).shape == (0, 6)


@pytest.mark.parametrize("variant, smallest", [("floor16", 2), ("round15", 2)])
def test_S7_feedback_is_exact_in_unclipped_blocks(variant, smallest):
    x = gradients(5)
    e = (np.random.default_rng(6).standard_normal(len(x)) * np.abs(x) / 16).astype(np.float32)
    blocks, decoded, residual = squinch.feedback(variant, x, e)
    y = x + e
    codes = np.stack([(blocks[:, 2 + i // 2] >> 4 * (i % 2)) & 15 for i in range(8)], 1).reshape(-1)
    clipped = np.repeat((blocks[:, 0] == 0) | (blocks[:, 0] == 255), 8)
    exact = (codes >= smallest) & ~clipped
    assert exact.sum() > 1000
    assert (decoded.astype(np.float64) + residual == y)[exact].all()


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_S8_T5_allreduce(ranks):
    g = gradients(ranks)[: 37 * ranks].reshape(ranks, 37)
    result = allreduce.in_squinch("floor16", "refuse", g, None, None, None)
    total = np.zeros(37, np.float32)
    for rank in range(ranks):
        total = total + squinch.decode("floor16", result["encoded"][rank], 37)
    average = (total * np.float32(1 / ranks)).astype(np.float32)
    assert np.array_equal(result["reduced"], squinch.encode("floor16", average))
    assert np.array_equal(result["r"], squinch.decode("floor16", result["reduced"], 37))
    assert allreduce.in_bf16(g).dtype == np.uint16 and allreduce.in_fp32(g).dtype == np.float32
