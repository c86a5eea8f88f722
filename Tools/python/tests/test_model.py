"""Attention, masks, clamping, sampling, layers and the training step: against PyTorch's autograd in fp64, and by hand."""

import math

import numpy as np
import pytest

from touchstone.fresh import MAKERS, Source, cases
from touchstone.reference import OPERATIONS, attention, clamp, derive, gumbel, masks
from touchstone.reference.fp32 import F, dot, lane16, round_bf16, softmax, widen


def bf16(rng, *shape, scale=1.0):
    return round_bf16((rng.standard_normal(shape) * scale).astype(np.float32))


def test_every_operation_has_fresh_cases_that_it_accepts():
    assert set(MAKERS) == set(OPERATIONS)
    for case in cases(1, 3):
        assert derive(case).outputs, case.op


def test_fresh_cases_do_not_depend_on_one_another():
    both = {case.name: case for case in cases(2, 9)}
    for case in cases(2, 9, ["clamp"]):
        assert case.inputs["y"].array.tobytes() == both[case.name].inputs["y"].array.tobytes()


MASKS = {
    "full": lambda: attention.visibility("by-query", np.zeros((2, 7), np.int32), np.full((2, 7), 9, np.int32), 7, 9),
    "causal": lambda: attention.visibility("by-key", *np.array([[range(7)] * 2, [[7] * 7] * 2], np.int32), 7, 7),
    "window": lambda: attention.visibility("by-key", *np.array([[range(7)] * 2, [[7] * 7] * 2], np.int32), 7, 7, 0, 3),
    "tree": lambda: np.repeat(
        attention.visibility("by-key", *(row[None] for row in masks.tree([-1, 0, 0, 2], [2, 1, 3, 1])[:2]), 7, 7), 2, 0
    ),
    "nothing": lambda: attention.visibility(
        "by-query", np.array([[0, 1, 7, 2, 3, 0, 5]] * 2, np.int32), np.array([[0, 3, 7, 2, 6, 1, 7]] * 2, np.int32), 7, 7
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_injected_gradient_is_autograds_of_the_explicit_term(name):
    """Z2: the exact gradients equal those of <do, o> + c sum Z^2, to 1e-12; the bf16 ones to their rounding."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    mask = MASKS[name]()
    queries, keys = mask.shape[1:]
    q, do = bf16(rng, 2, 4, queries, 6), bf16(rng, 2, 4, queries, 6)
    k, v = bf16(rng, 2, 2, keys, 6), bf16(rng, 2, 2, keys, 6)
    scale, c = F(0.4), F(0.3)
    tensors = [torch.tensor(widen(x).astype(np.float64), requires_grad=True) for x in (q, k, v)]
    tq, tk, tv = tensors
    seen = torch.tensor(mask)[:, None].expand(-1, 4, -1, -1)
    some = seen.any(-1)
    s = (tq @ tk.repeat_interleave(2, 1).transpose(-1, -2)) * float(scale)
    s = torch.where(seen, s, torch.tensor(-1e30, dtype=torch.float64))
    z = torch.logsumexp(s, -1)
    o = torch.softmax(s, -1) @ tv.repeat_interleave(2, 1)
    loss = (o * torch.tensor(widen(do).astype(np.float64)) * some[..., None]).sum()
    loss = loss + float(c) * torch.where(some, z, torch.zeros_like(z)).square().sum()
    loss.backward()
    exact = attention.Exact(q, k, v, mask, scale).backward(do, c)
    for form in ("folded", "unfolded"):
        rounded = attention.backward(q, k, v, do, mask, scale, "paired-ftz", c, form)
        for (truth, bounds), tensor, bits in zip(exact.values(), tensors, rounded):
            grad = tensor.grad.numpy()
            assert np.abs(truth - grad).max() < 1e-12 * (1 + np.abs(bounds).max())
            assert (np.abs(widen(bits) - grad) <= 1.25 * 2.0**-8 * bounds + 2.0**-8 * np.abs(grad)).all()


def test_attention_by_hand():
    one, half = np.uint16(0x3F80), np.uint16(0x3F00)
    q = np.full((1, 1, 1, 2), one)
    k = np.array([[[[one, one], [one, one], [half, half]]]], np.uint16)
    v = np.array([[[[one, 0], [0, one], [one, one]]]], np.uint16)
    mask = np.array([[[True, True, False]]])
    o, z, maximum, total, p = attention.forward(q, k, v, mask, F(1), "paired-ftz")
    assert p.tolist() == [[[[0.5, 0.5, 0]]]] and maximum.item() == 2 and total.item() == 2
    assert z.item() == F(2 + math.log(2)) and (o == half).all()


def test_masked_lanes_and_padding():
    x = np.arange(1, 20, dtype=np.float32)[None]
    visible = (np.arange(19) % 3 != 0)[None]
    assert lane16(x, visible=visible)[0] == x[visible].sum()
    values = np.array([[1.0, 2.0, 4.0]], np.float32)
    assert dot("paired-ftz", values, values, np.array([[True, False, True]]))[0] == 17


def test_clamp_by_hand():
    y = np.array([[-3, -0.0, 1.0, 3.0, np.nan]], np.float32)
    result = clamp.clamp(y, np.ones_like(y), F(2), "none", "straight-through", True)
    assert result["codes"].tolist() == [[-127, 0, 64, 127, 0]]
    assert result["dx"][0, :4].tolist() == [0, 1, 1, 0] and np.isnan(result["dx"][0, 4])
    assert clamp.dynamic_limit(np.full((9, 2), 0x3F00, np.uint16), 4, "relu2") == 36


def test_gumbel_weights_are_unbiased_by_enumeration():
    """K5: over a grid of uniform noise, E[w 1(sampled)] = p; weights of p alone are not."""
    p = np.array([0.2, 0.3, 0.5])
    g = -np.log(-np.log((np.arange(120) + 0.5) / 120))
    phi = np.log(p) + np.stack(np.meshgrid(g, g, g, indexing="ij"), -1).reshape(-1, 3)
    for k in (1, 2):
        order = np.argsort(-phi, axis=1)
        kappa = np.take_along_axis(phi, order[:, k : k + 1], 1)
        w = p / -np.expm1(-np.exp(np.log(p) - kappa))
        sampled = np.zeros_like(phi, bool)
        np.put_along_axis(sampled, order[:, :k], True, 1)
        assert np.abs((w * sampled).mean(0) - p).max() < 0.006
        assert np.abs((p * sampled).mean(0) - p).max() > 0.03


def test_gumbel_draws_walk_through_blocks():
    all_words = gumbel.words(7, 2, 3, 0, 40)
    assert (gumbel.words(7, 2, 3, 5, 17) == all_words[5:22]).all()


def test_trees_and_documents():
    assert masks.tree([-1, 0, 0, 2], [2, 1, 2, 1]).tolist() == [[0, 1, 2, 3, 4, 5], [6, 6, 3, 6, 6, 6], [0, 1, 2, 2, 3, 4]]
    assert masks.build("prefix", [3, 2], [2, 9], None).tolist() == [[0, 0, 0, 3, 3], [2, 2, 3, 5, 5]]
    for parents, lengths in (([0], [1]), ([-1, 0, 0, 1], [1] * 4), ([-1], [0])):
        with pytest.raises(ValueError):
            masks.tree(parents, lengths)


def test_softmax_of_a_row_that_sees_nothing():
    p, maximum, total, z = softmax(np.ones((1, 3), np.float32), np.zeros((1, 3), bool))
    assert not p.any() and maximum[0] == total[0] == z[0] == 0


def test_sources_are_reproducible():
    assert Source(4).fp32(9).array.tobytes() == Source(4).fp32(9).array.tobytes()
