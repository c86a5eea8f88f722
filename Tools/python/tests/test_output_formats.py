"""Results rounded once to 16 bits, and SwiGLU (T8)."""

from fractions import Fraction

import numpy as np
import pytest

from touchstone.adapters import Unsupported, implementation
from touchstone.files import Case, Tensor
from touchstone.reference import derive
from touchstone.reference.bf16 import convert_float
from touchstone.reference.elementary import round_function
from touchstone.reference.formats import BF16, FP16, FP32, round_fraction, unpack
from touchstone.reference.fp32 import round_bf16, round_fp16, stored, widen


def single(*bits: int) -> np.ndarray:
    return np.array(bits, np.uint32).view(np.float32)


def numpy_fp16(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.where(np.isnan(x), np.uint16(0x7E00), x.astype(np.float16).view(np.uint16))


def boundaries() -> np.ndarray:
    """Every fp16 number, every midpoint of two neighbours, and the fp32 numbers beside them; both signs."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    halves = np.append(halves, 65536)
    points = np.concatenate([halves, (halves[1:] + halves[:-1]) / 2]).astype(np.float32)
    assert (points.astype(np.float64) == np.concatenate([halves, (halves[1:] + halves[:-1]) / 2])).all()
    points = np.concatenate([points, np.nextafter(points, np.float32(-np.inf)), np.nextafter(points, np.float32(np.inf))])
    special = single(0, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0xFFFFFFFF)
    return np.concatenate([points, -points, special, -special])


def test_fp16_on_every_boundary():
    x = boundaries()
    assert len(x) > 6 * 63000
    assert np.array_equal(round_fp16(x), numpy_fp16(x))


def test_fp16_of_a_million_numbers():
    rng = np.random.default_rng(16)
    anything = rng.integers(0, 1 << 32, 1 << 20, np.uint64).astype(np.uint32).view(np.float32)
    near = np.ldexp(rng.standard_normal(1 << 20), rng.integers(-28, 18, 1 << 20)).astype(np.float32)
    for x in (anything, near):
        assert np.array_equal(round_fp16(x), numpy_fp16(x))


@pytest.mark.parametrize("rounding, format", [(round_bf16, BF16), (round_fp16, FP16)])
def test_16_bits_are_those_of_exact_integers(rounding, format):
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.integers(0, 1 << 32, 20000, np.uint64).astype(np.uint32).view(np.float32), boundaries()[::17]])
    ours = rounding(x)
    for bits, got in zip(x.view(np.uint32).tolist(), ours.tolist()):
        assert got == convert_float(FP32, format, bits, "rne", "after")[0]


def test_fp16_at_its_ends():
    x = np.array([65519.996, 65520, -65520, 2.0**-25, 2.0**-25 * 1.0000001, -(2.0**-26), np.nan], np.float32)
    assert round_fp16(x).tolist() == [0x7BFF, 0x7C00, 0xFC00, 0, 1, 0x8000, 0x7E00]
    assert stored("fp16", x).bits.tolist() == round_fp16(x).tolist() and stored("fp16", x).type == "fp16"


def bf16(*shape: int, seed: int = 0, scale: float = 1) -> Tensor:
    numbers = np.random.default_rng(seed).standard_normal(shape) * scale
    return Tensor("bf16", round_bf16(numbers.astype(np.float32)))


def gemm(output: str | None, with_c: bool = False) -> Case:
    inputs = {"a": bf16(7, 33, seed=1, scale=100), "b": bf16(33, 5, seed=2, scale=30)}
    if with_c:
        inputs["c"] = Tensor("fp32", np.random.default_rng(3).standard_normal((7, 5)).astype(np.float32))
    return Case("m", "dot.gemm", {"dot": "chain-ieee"} | ({"output": output} if output else {}), inputs=inputs)


@pytest.mark.parametrize("with_c", [False, True])
@pytest.mark.parametrize("output", ["fp32", "bf16", "fp16"])
def test_a_product_is_rounded_once(output, with_c):
    plain, rounded = derive(gemm(None, with_c)), derive(gemm(output, with_c))
    assert plain.outputs["d"].type == "fp32" and rounded.outputs["d"].type == output
    assert rounded.outputs["d"].same_bits(stored(output, plain.outputs["d"].array))
    for group in ("truth", "bounds"):
        ours, theirs = getattr(rounded, group)["d"], getattr(plain, group)["d"]
        assert ours.type == "fp64" and ours.same_bits(theirs)


def linear(**formats: str) -> Case:
    inputs = {"x": bf16(2, 3, 9, seed=1), "w": bf16(9, 4, seed=2), "dy": bf16(2, 3, 4, seed=3)}
    return Case("l", "layer.linear", {"dot": "paired-ftz"} | formats, inputs=inputs)


@pytest.mark.parametrize("output", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("dw_output", ["fp32", "bf16", "fp16"])
def test_a_layer_has_two_formats(output, dw_output):
    plain, rounded = derive(linear()), derive(linear(output=output, dw_output=dw_output))
    for name, format in (("y", output), ("dx", output), ("dw", dw_output)):
        assert rounded.outputs[name].same_bits(stored(format, plain.outputs[name].array))
        assert rounded.truth[name].same_bits(plain.truth[name])


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("case", [
    *(gemm(output, with_c) for output in (None, "fp32", "bf16", "fp16") for with_c in (False, True)),
    linear(), linear(output="bf16"), linear(output="fp16", dw_output="bf16"), linear(output="bf16", dw_output="fp16"),
], ids=lambda case: " ".join([case.op, *case.recipe.values(), *case.inputs]))  # fmt: skip
def test_libraries_give_the_format(library, case):
    if library != "numpy":
        pytest.importorskip(library)
    if library == "jax" and case.op == "layer.linear":
        with pytest.raises(Unsupported):
            implementation(library).evaluate(case)
        return
    ours, theirs = derive(case), implementation(library).evaluate(case)
    for name, tensor in ours.outputs.items():
        got = theirs[name]
        assert (got.type, got.shape) == (tensor.type, tensor.shape)
        unit = {"bf16": 2.0**-8, "fp16": 2.0**-11, "fp32": 2.0**-24}[tensor.type]
        distance = np.abs(np.asarray(got.numbers()).astype(np.float64) - ours.truth[name].array)
        assert (distance <= unit * np.abs(ours.truth[name].array) + 1e-5 * ours.bounds[name].array).all()


# SwiGLU


def swiglu(gate: Tensor, up: Tensor, dy: np.ndarray) -> dict[str, np.ndarray]:
    case = Case("s", "layer.swiglu", inputs={"gate": gate, "up": up, "dy": Tensor("fp32", dy)})
    outputs = derive(case).outputs
    assert all(tensor.type == "fp32" and tensor.shape == gate.shape for tensor in outputs.values())
    return {name: tensor.array for name, tensor in outputs.items()}


def test_T8_gradients_are_those_of_finite_differences():
    gate, up = bf16(200, seed=1, scale=3), bf16(200, seed=2, scale=3)
    dy = np.random.default_rng(3).standard_normal(200).astype(np.float32)
    found = swiglu(gate, up, dy)

    def y(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        return gate / (1 + np.exp(-gate)) * up

    g, u, h = widen(gate.array).astype(np.float64), widen(up.array).astype(np.float64), 1e-6
    expected = {
        "y": y(g, u),
        "dgate": dy * (y(g + h, u) - y(g - h, u)) / (2 * h),
        "dup": dy * (y(g, u + h) - y(g, u - h)) / (2 * h),
    }
    for name, array in expected.items():
        assert np.allclose(found[name], array, rtol=3e-6, atol=3e-7 * np.abs(array).max()), name


def test_T8_gradients_are_those_of_autograd():
    torch = pytest.importorskip("torch")
    gate, up = bf16(500, seed=4, scale=4), bf16(500, seed=5)
    dy = np.random.default_rng(6).standard_normal(500).astype(np.float32)
    wide = [torch.tensor(widen(x.array).astype(np.float64), requires_grad=True) for x in (gate, up)]
    y = torch.nn.functional.silu(wide[0]) * wide[1]
    gradients = torch.autograd.grad(y, wide, torch.tensor(dy.astype(np.float64)))
    found = swiglu(gate, up, dy)
    for name, tensor in zip(("y", "dgate", "dup"), (y, *gradients)):
        exact = tensor.detach().numpy()
        # dgate's last sum may cancel where silu has its least value.
        assert np.abs(found[name] - exact).max() < 2e-6 * np.abs(exact).max(), name
        assert np.median(np.abs(found[name] / exact - 1)) < 1e-7, name


def rounded(value: Fraction) -> Fraction:
    return unpack(FP32, round_fraction(FP32, value)).fraction


def exactly(x) -> Fraction:
    return Fraction(float(x))


def test_T8_rounds_every_operation_once():
    """The clause by fractions: each of its operations exact, then rounded."""
    gate, up = bf16(60, seed=7, scale=4), bf16(60, seed=8)
    dy = np.random.default_rng(9).standard_normal(60).astype(np.float32)
    found = swiglu(gate, up, dy)
    for i, (g, u, slope) in enumerate(zip(map(exactly, widen(gate.array)), map(exactly, widen(up.array)), map(exactly, dy))):
        e = exactly(single(round_function("exp", int(gate.array[i] ^ 0x8000) << 16, (FP32,))[0])[0])
        d = rounded(1 + e)
        t, s = rounded(g / d), rounded(1 / d)
        b = rounded(g * rounded(1 - s))
        k = rounded(s * rounded(1 + b))
        assert exactly(found["y"][i]) == rounded(t * u)
        assert exactly(found["dup"][i]) == rounded(slope * t)
        assert exactly(found["dgate"][i]) == rounded(rounded(slope * u) * k)


def test_T8_at_the_ends():
    inf, nan = 0x7F80, 0x7FC0
    gate = Tensor("bf16", np.array([inf, inf | 0x8000, nan, 0x7F81, 0, 0x8000, 0xC2C8, 0x42C8], np.uint16))
    up = Tensor("bf16", np.full(8, 0x3F80, np.uint16))
    found = swiglu(gate, up, np.ones(8, np.float32))
    bits = {name: array.view(np.uint32).tolist() for name, array in found.items()}
    # exp(100) overflows: -100 / inf is -0, 1 / inf is +0.
    assert bits["y"] == [0x7F800000, 0x7FC00000, 0x7FC00000, 0x7FC00000, 0, 0x80000000, 0x80000000, 0x42C80000]
    assert bits["dup"] == bits["y"]
    assert bits["dgate"] == [0x7FC00000, 0x7FC00000, 0x7FC00000, 0x7FC00000, 0x3F000000, 0x3F000000, 0x80000000, 0x3F800000]


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_T8_in_libraries(library):
    pytest.importorskip(library)
    inputs = {"gate": bf16(300, seed=1, scale=3), "up": bf16(300, seed=2)}
    inputs["dy"] = Tensor("fp32", np.random.default_rng(3).standard_normal(300).astype(np.float32))
    case = Case("s", "layer.swiglu", inputs=inputs)
    ours, theirs = derive(case).outputs, implementation(library).evaluate(case)
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert np.allclose(theirs[name].array, tensor.array, rtol=1e-5, atol=1e-6)
