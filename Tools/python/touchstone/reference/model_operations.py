"""The operations of the suites zreg, visibility, clamp, gumbel, layers and training, by their public names."""

from __future__ import annotations

import numpy as np

from ..files import Tensor
from . import attention, clamp, gumbel, layers, masks
from .dot import truth_and_bounds
from .fp32 import F, bf16, fp32, widen
from .operations import Result, _operation, _Reader, canonical_fp64
from .transformer.operations import step


def _judge(result: Result, pairs: dict) -> Result:
    for name, (truth, bounds) in pairs.items():
        for group, values in ((result.truth, truth), (result.bounds, bounds)):
            group[name] = Tensor("fp64", canonical_fp64(np.ascontiguousarray(values, np.float64)))
    return result


def _bound_constants(reader: _Reader) -> None:
    reader.keys |= {"kappa", "kappa_bits", "n"}


def _positive(reader: _Reader, key: str) -> int:
    value = reader.integer(key)
    if value < 1:
        raise reader.fail(f"recipe key '{key}' is {value}; expected 1 or more")
    return value


def _window(reader: _Reader, orientation: str) -> int | None:
    """V2: beside a by-key mask only."""
    if "window" not in reader.case.recipe:
        return None
    if orientation == "by-query":
        raise reader.fail("a window beside a by-query mask; expected it in visibility_start")
    return _positive(reader, "window")


def _attention(reader: _Reader):
    _bound_constants(reader)
    scale, recipe = reader.number("scale"), reader.choice("dot", ("paired-ftz", "chain-ieee"))
    orientation = reader.choice("orientation", ("by-query", "by-key"))
    offset = reader.integer("query_offset")
    window = _window(reader, orientation)
    q, k, v = (reader.array(name, "bf16", 4) for name in "qkv")
    start, limit = (reader.array(f"visibility_{name}", "int32", 2) for name in ("start", "limit"))
    queries, keys = q.shape[2], k.shape[2]
    attention.check_intervals(orientation, start, limit, queries, keys, offset)
    mask = attention.visibility(orientation, start, limit, queries, keys, offset, window)
    return q, k, v, np.broadcast_to(mask, (q.shape[0], queries, keys)), scale, recipe


@_operation("attention.forward")
def _attention_forward(reader, options):
    q, k, v, mask, scale, recipe = _attention(reader)
    o, z, maximum, total, _ = attention.forward(q, k, v, mask, scale, recipe, options.rounder)
    result = Result({"o": bf16(o), "z": fp32(z), "max": fp32(maximum), "sum": fp32(total)})
    return _judge(result, attention.Exact(q, k, v, mask, scale).forward())


@_operation("attention.backward")
def _attention_backward(reader, options):
    q, k, v, mask, scale, recipe = _attention(reader)
    c, form = reader.number("zreg_c"), reader.choice("form", ("folded", "unfolded", "row-dot"))
    do = reader.array("do", "bf16", 4)
    gradients = attention.backward(q, k, v, do, mask, scale, recipe, c, form, options.rounder)
    result = Result({name: bf16(bits) for name, bits in zip(("dq", "dk", "dv"), gradients)})
    return _judge(result, attention.Exact(q, k, v, mask, scale).backward(do, c))


@_operation("zreg.rows")
def _rows(reader, options):
    _bound_constants(reader)
    c, form = reader.number("zreg_c"), reader.choice("form", ("folded", "unfolded"))
    s, dp = reader.array("s", "fp32", 2), reader.array("dp", "fp32", 2)
    reader.same_shape(s, dp)
    z, p, ds = attention.rows(s, dp, c, form, options.rounder)
    return _judge(Result({"z": fp32(z), "p": fp32(p), "ds": fp32(ds)}), attention.exact_rows(s, dp, c))


@_operation("visibility.dense")
def _dense(reader, options):
    orientation = reader.choice("orientation", ("by-query", "by-key"))
    offset, keys, queries = (reader.integer(key) for key in ("query_offset", "keys", "queries"))
    window = _window(reader, orientation)
    start, limit = (reader.array(f"visibility_{name}", "int32", 2) for name in ("start", "limit"))
    attention.check_intervals(orientation, start, limit, queries, keys, offset)
    mask = attention.visibility(orientation, start, limit, queries, keys, offset, window)
    return Result({"mask": Tensor("uint8", np.broadcast_to(mask, (len(start), queries, keys)).astype(np.uint8))})


def _int32(**arrays) -> Result:
    return Result({name: Tensor("int32", np.ascontiguousarray(array, np.int32)) for name, array in arrays.items()})


@_operation("visibility.tree")
def _tree(reader, options):
    parents, lengths = reader.array("parent", "int32", 1), reader.array("length", "int32", 1)
    start, limit, position = masks.tree(parents.tolist(), lengths.tolist())
    return _int32(visibility_start=start, visibility_limit=limit, position=position)


@_operation("visibility.build")
def _build(reader, options):
    kind = reader.choice("kind", ("causal", "full", "prefix", "window", "documents"))
    window = _positive(reader, "window") if kind == "window" else None
    lengths = reader.array("length", "int32", 1).tolist()
    prefixes = reader.array("prefix", "int32", 1).tolist() if kind == "prefix" else None
    start, limit = masks.build(kind, lengths, prefixes, window)
    return _int32(visibility_start=start, visibility_limit=limit)


def _clamp(reader, limit_of):
    activation = reader.choice("activation", ("none", "relu2"))
    gradient = reader.choice("gradient", ("straight-through", "inward"))
    int8 = reader.choice("int8", (True, False))
    y, dy = reader.array("y", "fp32", 2), reader.array("dy", "fp32", 2)
    reader.same_shape(y, dy)
    limit = F(limit_of(activation)) + F(0)
    arrays = clamp.clamp(y, dy, limit, activation, gradient, int8)
    outputs = {"limit": fp32([limit])}
    for name in ("clamped", "codes", "dequantised", "dx"):
        if name in arrays:
            outputs[name] = Tensor("int8", arrays[name]) if name == "codes" else fp32(arrays[name])
    return Result(outputs)


@_operation("clamp.dynamic")
def _clamp_dynamic(reader, options):
    kappa, w = reader.number("kappa"), reader.array("w", "bf16", 2)
    return _clamp(reader, lambda activation: clamp.dynamic_limit(w, kappa, activation, options.rounder))


@_operation("clamp.static")
def _clamp_static(reader, options):
    if reader.has("w"):
        reader.array("w", "bf16", 2)
    limit = reader.number("limit")
    return _clamp(reader, lambda activation: limit)


def _draw(reader) -> tuple[int, int, int]:
    return reader.hexadecimal("seed"), reader.integer("stream"), reader.integer("step")


@_operation("gumbel.topk")
def _topk(reader, options):
    draw, k = _draw(reader), reader.integer("k")
    ids, weights, kappa = gumbel.top_k(reader.array("logits", "fp32", 2), k, draw, options.rounder)
    return Result({"ids": Tensor("uint32", ids), "weights": fp32(weights), "kappa": fp32(kappa)})


@_operation("gumbel.replacement")
def _replacement(reader, options):
    draw, k = _draw(reader), reader.integer("k")
    ids, weights = gumbel.with_replacement(reader.array("logits", "fp32", 2), k, draw, options.rounder)
    return Result({"ids": Tensor("uint32", ids), "weights": fp32(weights)})


@_operation("gumbel.softmax")
def _relaxed(reader, options):
    draw, tau = _draw(reader), reader.number("tau")
    logits, dy = reader.array("logits", "fp32", 2), reader.array("dy", "fp32", 2)
    reader.same_shape(logits, dy)
    y, gradient = gumbel.relaxed(logits, dy, tau, draw, options.rounder)
    return Result({"y": fp32(y), "dlogits": fp32(gradient)})


@_operation("layer.rmsnorm")
def _rmsnorm(reader, options):
    epsilon = reader.number("epsilon")
    x, gain, dy = reader.array("x", "bf16", 2), reader.array("gain", "bf16", 1), reader.array("dy", "bf16", 2)
    if not gain.size:
        raise reader.fail("inputs/gain is empty; expected at least one column")
    y, r = layers.rmsnorm(x, gain, epsilon, options.rounder)
    dx, dgain = layers.rmsnorm_backward(dy, x, gain, epsilon, options.rounder)
    return Result({"y": bf16(y), "r": fp32(r), "dx": fp32(dx), "dgain": fp32(dgain)})


@_operation("layer.rope")
def _rope(reader, options):
    base = reader.number("base")
    x, positions, dy = reader.array("x", "bf16", 3), reader.array("position", "int32", 1), reader.array("dy", "bf16", 3)
    if not (np.isfinite(base) and base >= 1) or x.shape[2] % 2 or ((positions < 0) | (positions >= 1 << 29)).any():
        raise reader.fail(f"base {base}, dimension {x.shape[2]}, positions outside 0 ..< 2^29: E4 has no such rotation")
    return Result({"y": bf16(layers.rotary(x, positions, base)), "dx": bf16(layers.rotary(dy, positions, base, True))})


@_operation("layer.relu2")
def _relu2(reader, options):
    x, dy = reader.array("x", "bf16", 1), reader.array("dy", "fp32", 1)
    return Result({"y": fp32(layers.relu2(x)), "dx": fp32(layers.relu2_backward(x, dy))})


@_operation("layer.linear")
def _linear(reader, options):
    _bound_constants(reader)
    recipe = reader.choice("dot", ("paired-ftz", "chain-ieee"))
    x, w, dy = reader.array("x", "bf16", 3), reader.array("w", "bf16", 2), reader.array("dy", "bf16", 3)
    batch, tokens = x.shape[:2]
    rows, slopes = (a.reshape(batch * tokens, a.shape[2]) for a in (x, dy))
    products = {
        "y": (layers.linear(rows, w, recipe), rows, w, (batch, tokens, w.shape[1])),
        "dx": (layers.input_gradient([(slopes, w)], recipe), slopes, w.T, (batch, tokens, w.shape[0])),
        "dw": (layers.weight_gradient(rows, slopes, batch, recipe), rows.T, slopes, w.shape),
    }
    result = Result({name: fp32(value, shape) for name, (value, _, _, shape) in products.items()})
    exact = {}
    for name, (_, a, b, shape) in products.items():
        a, b = widen(np.ascontiguousarray(a)).astype(np.float64), widen(np.ascontiguousarray(b)).astype(np.float64)
        terms = [a[i] * b[:, j] for i in range(a.shape[0]) for j in range(b.shape[1])]
        exact[name] = truth_and_bounds(terms, shape)
    return _judge(result, exact)


@_operation("layer.embedding")
def _embedding(reader, options):
    tokens, w, dy = reader.array("tokens", "int32", 1), reader.array("w", "bf16", 2), reader.array("dy", "bf16", 2)
    if ((tokens < 0) | (tokens >= len(w))).any():
        raise reader.fail("a token is out of range")
    return Result({"y": bf16(w[tokens]), "dw": fp32(layers.embedding_gradient(tokens, dy, len(w)))})


def _losses(values, exact) -> Result:
    loss, losses, _, _, z, gradient = values
    result = Result({"loss": fp32([loss]), "losses": fp32(losses), "z": fp32(z), "dlogits": bf16(gradient)})
    (truth, bound), slopes = exact
    return _judge(result, {"loss": (np.array([truth]), np.array([bound])), "dlogits": (slopes[0], slopes[1])})


@_operation("layer.crossEntropy")
def _cross_entropy(reader, options):
    _bound_constants(reader)
    c = reader.number("zreg_c")
    logits, targets = reader.array("logits", "fp32", 2), reader.array("targets", "int32", 1)
    pairs = [[] if target < 0 else [(int(target), 1.0)] for target in targets]
    return _losses(
        layers.cross_entropy(logits, targets, c, options.rounder), attention.exact_losses(logits, pairs, c)
    )


@_operation("layer.sparseCrossEntropy")
def _sparse_cross_entropy(reader, options):
    _bound_constants(reader)
    c = reader.number("zreg_c")
    logits, ids, weights = reader.array("logits", "fp32", 2), reader.array("ids", "uint32", 2), reader.array("weights", "fp32", 2)
    pairs = [
        [(int(i), float(w)) for i, w in zip(ids[row], weights[row]) if i != layers.EMPTY] for row in range(len(logits))
    ]
    return _losses(
        layers.sparse_cross_entropy(logits, ids, weights, c, options.rounder), attention.exact_losses(logits, pairs, c)
    )


@_operation("layer.adamw")
def _adamw(reader, options):
    names = ("beta1", "beta2", "epsilon", "weight_decay", "learning_rate", "clip_norm")
    beta1, beta2, epsilon, decay, rate, clip = (reader.number(name) for name in names)
    step = _positive(reader, "step")
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise reader.fail(f"beta1 is {beta1}, beta2 {beta2}; expected 0 or more and below 1")
    w, m, v, g = (reader.array(name, "fp32", 1) for name in "wmvg")
    norm = layers.gradient_norm([g], options.rounder)
    if not np.isfinite(norm):
        raise reader.fail(f"the gradient's norm is {norm}; expected a finite number")
    (g,) = layers.clipped([g], norm, clip)
    w, m, v = layers.adamw(w, m, v, g, step, rate, beta1, beta2, epsilon, decay, options.rounder)
    return Result({"norm": fp32([norm]), "m": fp32(m), "v": fp32(v), "w": fp32(w)})


@_operation("training.step")
def _training_step(reader, options):
    outputs, intermediates = step(reader)
    return Result(outputs, intermediates=intermediates)
