"""Edges of the clauses that no shipped golden shows: the derivation does what the text says there."""

import struct

import numpy as np
import pytest

from touchstone.files import Case, Tensor
from touchstone.reference import OperationError, derive
from touchstone.reference.transformer import layers
from touchstone.reference.transformer.arithmetic import Rounded

CANONICAL_NAN = 0x7FC00000


def parameters(**values) -> dict:
    """fp32 recipe keys as numbers and bits, as golden files have them."""
    recipe = {}
    for name, value in values.items():
        bits = struct.unpack("<I", struct.pack("<f", value))[0]
        recipe |= {f"{name}_bits": f"{bits:08x}"} | ({name: value} if np.isfinite(value) else {})
    return recipe


def single(*values) -> Tensor:
    return Tensor("fp32", np.array(values, np.float32))


def adamw(*g, clip: float = 1.0) -> Case:
    recipe = {"step": 3} | parameters(
        beta1=0.9, beta2=0.99, epsilon=2.0**-27, weight_decay=0.0625, learning_rate=0.001, clip_norm=clip
    )
    n = len(g)
    inputs = {"w": single(*[1] * n), "m": single(*[0.5] * n), "v": single(*[0.25] * n), "g": single(*g)}
    return Case("step", "layer.adamw", recipe, inputs=inputs)


@pytest.mark.parametrize("g", [(np.inf,), (-np.inf, 1), (np.nan,), (1, 2.0**64), (1.5 * 2.0**63, 1.5 * 2.0**63)])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_T4_a_norm_that_is_not_finite(g, clip):
    with pytest.raises(OperationError, match="norm"):
        derive(adamw(*g, clip=clip))


def test_T4_the_largest_finite_norm():
    assert np.isfinite(derive(adamw(2.0**63, 2.0**63)).outputs["norm"].array).all()


@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("activation", ["none", "relu2"])
@pytest.mark.parametrize("gradient", ["straight-through", "inward"])
@pytest.mark.parametrize("limit", [0.0, -0.0, 2.0])
def test_C3_limit_zero_and_NaN(int8, activation, gradient, limit):
    y = np.array([[np.nan, 0, -0.0, 3, -3, 2.0**-149, np.inf, -np.inf]], np.float32)
    dy = np.array([[2, 2, 2, 2, -2, 2, 2, -2]], np.float32)
    recipe = parameters(limit=limit) | {"activation": activation, "gradient": gradient, "int8": int8}
    outputs = derive(
        Case("clamp", "clamp.static", recipe, inputs={"y": Tensor("fp32", y), "dy": Tensor("fp32", dy)})
    ).outputs
    assert ("codes" in outputs) == int8
    for name in ("clamped", "dequantised", "dx"):
        bits = outputs[name].bits.reshape(-1)
        assert bits[0] == CANONICAL_NAN
        if limit == 0:
            assert not bits[1:].any()
    if int8:
        assert outputs["codes"].array[0, 0] == 0
        # A number whose code is 0 has the value +0.
        assert outputs["dequantised"].bits.reshape(-1)[2] == 0
    if limit:
        assert outputs["dx"].array[0, 1] == 2


@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("gradient", ["straight-through", "inward"])
def test_C3_limit_zero_in_a_step(int8, gradient):
    y = np.array([np.nan, 0, 2.0**-149, 3, np.inf], np.float32)
    clamped = layers.clamp(Rounded("paired-ftz"), y, np.float32(0), int8)
    assert np.isnan(clamped.value[0]) and not clamped.value[1:].view(np.uint32).any()
    assert (clamped.codes is not None) == int8
    assert not int8 or not clamped.codes.any()
    dx = layers.clamp_backward(np.full(5, 2, np.float32), y, np.float32(0), gradient)
    assert np.isnan(dx[0]) and not dx[1:].view(np.uint32).any()


@pytest.mark.parametrize("op", ["rem", "minimum", "maximum", "minimumNumber", "maximumNumber"])
def test_B2_sr_where_nothing_is_rounded(op):
    a = Tensor("bf16", np.array([0x3F80, 0xBF80, 0x8000, 0, 0x7FC0, 0x7F80, 0x0001, 0x4049], np.uint16))
    b = Tensor("bf16", a.array[::-1].copy())
    plain = derive(Case("rne", f"bf16.{op}", {"rounding": "rne", "tininess": "after"}, inputs={"a": a, "b": b}))
    words = Tensor("uint16", np.full(8, 0xFFFF, np.uint16))
    inputs = {"a": a, "b": b, "random": words}
    drawn = derive(Case("sr", f"bf16.{op}", {"rounding": "sr", "tininess": "after"}, inputs=inputs))
    assert all(plain.outputs[name].same_bits(drawn.outputs[name]) for name in ("r", "flags"))


def test_K2_overflowing_logits_and_rows_of_no_columns():
    recipe = {"seed": "0000000000000007", "stream": 2, "step": 0}
    logits = Tensor("fp32", np.array([[3e38, -3e38, -np.inf, -3e38]], np.float32))
    for k, ids in ((1, [0]), (2, [0, 1]), (3, [0, 1, 3]), (4, [0, 1, 3, 0xFFFFFFFF])):
        outputs = derive(Case("k", "gumbel.topk", recipe | {"k": k}, inputs={"logits": logits})).outputs
        assert outputs["ids"].array.tolist() == [ids]
        assert outputs["kappa"].array.tolist() == [-np.inf]
        assert outputs["weights"].array.tolist() == [[1.0, 0.0, 0.0, 0.0][:k]]
    empty = {"logits": Tensor("fp32", np.zeros((2, 0), np.float32))}
    for op in ("gumbel.topk", "gumbel.replacement"):
        outputs = derive(Case("none", op, recipe | {"k": 1}, inputs=empty)).outputs
        assert outputs["ids"].array.tolist() == [[0xFFFFFFFF]] * 2
        assert outputs["weights"].array.tolist() == [[0.0]] * 2
        if op == "gumbel.topk":
            assert outputs["kappa"].array.tolist() == [-np.inf] * 2


def test_Z1_rows_of_no_columns():
    inputs = {
        "logits": Tensor("fp32", np.zeros((2, 0), np.float32)),
        "targets": Tensor("int32", np.array([-1, -1], np.int32)),
    }
    outputs = derive(Case("none", "layer.crossEntropy", parameters(zreg_c=0.0), inputs=inputs)).outputs
    for name in ("z", "losses", "loss"):
        assert not outputs[name].bits.any()
    none = Tensor("fp32", np.zeros((2, 0), np.float32))
    rows = derive(
        Case("none", "zreg.rows", parameters(zreg_c=1.0) | {"form": "folded"}, inputs={"s": none, "dp": none})
    )
    assert not rows.outputs["z"].bits.any()


def int32(*values) -> Tensor:
    return Tensor("int32", np.array(values, np.int32))


def test_V2_windows_prefixes_and_lengths_that_are_none():
    def build(kind: str, lengths: tuple, recipe: dict | None = None, **inputs) -> Case:
        return Case(
            "build", "visibility.build", {"kind": kind} | (recipe or {}), inputs={"length": int32(*lengths)} | inputs
        )

    assert derive(build("window", (2, 1), {"window": 1})).outputs["visibility_start"].array.tolist() == [0, 1, 2]
    for wrong in (
        build("window", (2,), {"window": 0}),
        build("causal", (2, 0)),
        build("prefix", (2,), prefix=int32(-1)),
    ):
        with pytest.raises(OperationError):
            derive(wrong)
    recipe = {"query_offset": 0, "keys": 1, "queries": 1}
    intervals = {
        "visibility_start": Tensor("int32", np.zeros((1, 1), np.int32)),
        "visibility_limit": Tensor("int32", np.ones((1, 1), np.int32)),
    }
    for orientation, window, fails in (("by-key", 1, False), ("by-key", 0, True), ("by-query", 1, True)):
        case = Case(
            "dense", "visibility.dense", recipe | {"orientation": orientation, "window": window}, inputs=intervals
        )
        if fails:
            with pytest.raises(OperationError, match="window"):
                derive(case)
        else:
            assert derive(case).outputs["mask"].array.tolist() == [[[1]]]


@pytest.mark.parametrize("position, base, dimension, fails", [
    ((1 << 29) - 1, 1.0, 2, None), (1 << 29, 10.0, 2, "position"), (-1, 10.0, 2, "position"), (0, 0.5, 2, "base"),
    (0, np.inf, 2, "base"), (0, 10.0, 3, "an even D"),
])  # fmt: skip
def test_E4_rotations_that_are_none(position, base, dimension, fails):
    x = Tensor("bf16", np.full((1, 1, dimension), 0x3F80, np.uint16))
    case = Case("rope", "layer.rope", parameters(base=base), inputs={"x": x, "position": int32(position), "dy": x})
    if fails:
        with pytest.raises(OperationError, match=fails):
            derive(case)
    else:
        derive(case)


@pytest.mark.parametrize("beta1", [-0.1, 1.0, np.nan])
def test_T4_betas_that_are_none(beta1):
    case = adamw(1.0)
    case.recipe |= parameters(beta1=beta1)
    if not np.isfinite(beta1):
        del case.recipe["beta1"]
    with pytest.raises(OperationError, match="beta1"):
        derive(case)


@pytest.mark.parametrize("shape", [(2, 3, 0), (2, 0, 4), (0, 3, 4), (0, 0, 0), (1, 0, 0)])
def test_T2_rotations_of_nothing(shape):
    x = Tensor("bf16", np.zeros(shape, np.uint16))
    inputs = {"x": x, "position": int32(*range(shape[0])), "dy": x}
    outputs = derive(Case("rope", "layer.rope", parameters(base=10.0), inputs=inputs)).outputs
    assert outputs["y"].shape == outputs["dx"].shape == shape
