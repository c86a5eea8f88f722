"""The operations of the suites zreg, visibility, clamp, gumbel, layers and training, by their public names."""

from __future__ import annotations

import numpy as np

from ..files import Tensor
from . import attention, clamp, gumbel, layers, masks
from .dot import truth_and_bounds
from .fp32 import F, bf16, fp32, stored, widen
from .operations import Result, _operation, canonical_fp64
from .transformer.operations import step


def _judge(result: Result, pairs: dict) -> Result:
    for name, (truth, bounds) in pairs.items():
        for group, values in ((result.truth, truth), (result.bounds, bounds)):
            group[name] = Tensor("fp64", canonical_fp64(np.ascontiguousarray(values, np.float64)))
    return result


def _mask(given, batch: int, queries: int, keys: int) -> np.ndarray:
    """V1, V2, V4: [batch, queries, keys]."""
    orientation, offset, window = (given.values.get(key) for key in ("orientation", "query_offset", "window"))
    if window is not None and orientation == "by-query":
        raise given.error("value", "a window beside a by-query mask; expected it in visibility_start")
    start, limit = given.array("visibility_start"), given.array("visibility_limit")
    attention.check_intervals(orientation, start, limit, queries, keys, offset)
    mask = attention.visibility(orientation, start, limit, queries, keys, offset, window)
    return np.broadcast_to(mask, (batch, queries, keys))


def _attention(given):
    q, k, v = (given.array(name) for name in "qkv")
    return q, k, v, _mask(given, q.shape[0], q.shape[2], k.shape[2]), given.values["scale"], given.values["dot"]


@_operation("attention.forward")
def _attention_forward(given, options):
    q, k, v, mask, scale, recipe = _attention(given)
    o, z, maximum, total, _ = attention.forward(q, k, v, mask, scale, recipe, options.rounder)
    result = Result({"o": bf16(o), "z": fp32(z), "max": fp32(maximum), "sum": fp32(total)})
    return _judge(result, attention.Exact(q, k, v, mask, scale).forward())


@_operation("attention.backward")
def _attention_backward(given, options):
    q, k, v, mask, scale, recipe = _attention(given)
    c, form, do = given.values["zreg_c"], given.values["form"], given.array("do")
    gradients = attention.backward(q, k, v, do, mask, scale, recipe, c, form, options.rounder)
    result = Result({name: bf16(bits) for name, bits in zip(("dq", "dk", "dv"), gradients)})
    return _judge(result, attention.Exact(q, k, v, mask, scale).backward(do, c))


@_operation("zreg.rows")
def _rows(given, options):
    c, s, dp = given.values["zreg_c"], given.array("s"), given.array("dp")
    z, p, ds = attention.rows(s, dp, c, given.values["form"], options.rounder)
    return _judge(Result({"z": fp32(z), "p": fp32(p), "ds": fp32(ds)}), attention.exact_rows(s, dp, c))


@_operation("visibility.dense")
def _dense(given, options):
    mask = _mask(given, *(given.sizes[letter] for letter in "BQT"))
    return Result({"mask": Tensor("uint8", mask.astype(np.uint8))})


def _int32(**arrays) -> Result:
    return Result({name: Tensor("int32", np.ascontiguousarray(array, np.int32)) for name, array in arrays.items()})


@_operation("visibility.tree")
def _tree(given, options):
    start, limit, position = masks.tree(given.array("parent").tolist(), given.array("length").tolist())
    return _int32(visibility_start=start, visibility_limit=limit, position=position)


@_operation("visibility.build")
def _build(given, options):
    prefixes = given.optional("prefix")
    prefixes = None if prefixes is None else prefixes.tolist()
    kind, window = given.values["kind"], given.values.get("window")
    start, limit = masks.build(kind, given.array("length").tolist(), prefixes, window)
    return _int32(visibility_start=start, visibility_limit=limit)


def _clamp(given, limit):
    activation, gradient, int8 = (given.values[key] for key in ("activation", "gradient", "int8"))
    limit = F(limit) + F(0)
    arrays = clamp.clamp(given.array("y"), given.array("dy"), limit, activation, gradient, int8)
    outputs = {"limit": fp32([limit])}
    for name in ("clamped", "codes", "dequantised", "dx"):
        if name in arrays:
            outputs[name] = Tensor("int8", arrays[name]) if name == "codes" else fp32(arrays[name])
    return Result(outputs)


@_operation("clamp.dynamic")
def _clamp_dynamic(given, options):
    kappa, activation = given.values["kappa"], given.values["activation"]
    return _clamp(given, clamp.dynamic_limit(given.array("w"), kappa, activation, options.rounder))


@_operation("clamp.static")
def _clamp_static(given, options):
    return _clamp(given, given.values["limit"])


def _draw(given) -> tuple[int, int, int]:
    return given.values["seed"], given.values["stream"], given.values["step"]


@_operation("gumbel.topk")
def _topk(given, options):
    ids, weights, kappa = gumbel.top_k(given.array("logits"), given.values["k"], _draw(given), options.rounder)
    return Result({"ids": Tensor("uint32", ids), "weights": fp32(weights), "kappa": fp32(kappa)})


@_operation("gumbel.replacement")
def _replacement(given, options):
    ids, weights = gumbel.with_replacement(given.array("logits"), given.values["k"], _draw(given), options.rounder)
    return Result({"ids": Tensor("uint32", ids), "weights": fp32(weights)})


@_operation("gumbel.softmax")
def _relaxed(given, options):
    logits, dy, tau = given.array("logits"), given.array("dy"), given.values["tau"]
    y, gradient = gumbel.relaxed(logits, dy, tau, _draw(given), options.rounder)
    return Result({"y": fp32(y), "dlogits": fp32(gradient)})


@_operation("layer.rmsnorm")
def _rmsnorm(given, options):
    x, gain, dy, epsilon = given.array("x"), given.array("gain"), given.array("dy"), given.values["epsilon"]
    y, r = layers.rmsnorm(x, gain, epsilon, options.rounder)
    dx, dgain = layers.rmsnorm_backward(dy, x, gain, epsilon, options.rounder)
    return Result({"y": bf16(y), "r": fp32(r), "dx": fp32(dx), "dgain": fp32(dgain)})


@_operation("layer.rope")
def _rope(given, options):
    x, positions, dy, base = given.array("x"), given.array("position"), given.array("dy"), given.values["base"]
    return Result({"y": bf16(layers.rotary(x, positions, base)), "dx": bf16(layers.rotary(dy, positions, base, True))})


@_operation("layer.relu2")
def _relu2(given, options):
    x, dy = given.array("x"), given.array("dy")
    return Result({"y": fp32(layers.relu2(x)), "dx": fp32(layers.relu2_backward(x, dy))})


@_operation("layer.swiglu")
def _swiglu(given, options):
    arrays = layers.swiglu(given.array("gate"), given.array("up"), given.array("dy"), options.rounder)
    return Result({name: fp32(array) for name, array in zip(("y", "dgate", "dup"), arrays)})


@_operation("layer.linear")
def _linear(given, options):
    recipe, output, dw_output = (given.values[key] for key in ("dot", "output", "dw_output"))
    x, w, dy = given.array("x"), given.array("w"), given.array("dy")
    batch, tokens = x.shape[:2]
    rows, slopes = (a.reshape(batch * tokens, a.shape[2]) for a in (x, dy))
    products = {
        "y": (output, layers.linear(rows, w, recipe), rows, w, (batch, tokens, w.shape[1])),
        "dx": (output, layers.input_gradient([(slopes, w)], recipe), slopes, w.T, (batch, tokens, w.shape[0])),
        "dw": (dw_output, layers.weight_gradient(rows, slopes, batch, recipe), rows.T, slopes, w.shape),
    }
    result, exact = Result(), {}
    for name, (format, value, a, b, shape) in products.items():
        result.outputs[name] = stored(format, value.reshape(shape))
        a, b = widen(np.ascontiguousarray(a)).astype(np.float64), widen(np.ascontiguousarray(b)).astype(np.float64)
        terms = [a[i] * b[:, j] for i in range(a.shape[0]) for j in range(b.shape[1])]
        exact[name] = truth_and_bounds(terms, shape)
    return _judge(result, exact)


@_operation("layer.embedding")
def _embedding(given, options):
    tokens, w, dy = given.array("tokens"), given.array("w"), given.array("dy")
    return Result({"y": bf16(w[tokens]), "dw": fp32(layers.embedding_gradient(tokens, dy, len(w)))})


def _losses(values, exact) -> Result:
    loss, losses, _, _, z, gradient = values
    result = Result({"loss": fp32([loss]), "losses": fp32(losses), "z": fp32(z), "dlogits": bf16(gradient)})
    (truth, bound), slopes = exact
    return _judge(result, {"loss": (np.array([truth]), np.array([bound])), "dlogits": (slopes[0], slopes[1])})


@_operation("layer.crossEntropy")
def _cross_entropy(given, options):
    logits, targets, c = given.array("logits"), given.array("targets"), given.values["zreg_c"]
    pairs = [[] if target < 0 else [(int(target), 1.0)] for target in targets]
    return _losses(
        layers.cross_entropy(logits, targets, c, options.rounder), attention.exact_losses(logits, pairs, c)
    )


@_operation("layer.sparseCrossEntropy")
def _sparse_cross_entropy(given, options):
    logits, ids, weights, c = given.array("logits"), given.array("ids"), given.array("weights"), given.values["zreg_c"]
    pairs = [
        [(int(i), float(w)) for i, w in zip(ids[row], weights[row]) if i != layers.EMPTY] for row in range(len(logits))
    ]
    return _losses(
        layers.sparse_cross_entropy(logits, ids, weights, c, options.rounder), attention.exact_losses(logits, pairs, c)
    )


@_operation("layer.adamw")
def _adamw(given, options):
    names = ("step", "learning_rate", "beta1", "beta2", "epsilon", "weight_decay")
    w, m, v, g = (given.array(name) for name in "wmvg")
    norm = layers.gradient_norm([g], options.rounder)
    if not np.isfinite(norm):
        raise given.error("value", f"the gradient's norm is {norm}; expected a finite number")
    (g,) = layers.clipped([g], norm, given.values["clip_norm"])
    w, m, v = layers.adamw(w, m, v, g, *(given.values[name] for name in names), options.rounder)
    return Result({"norm": fp32([norm]), "m": fp32(m), "v": fp32(v), "w": fp32(w)})


@_operation("training.step")
def _training_step(given, options):
    outputs, intermediates = step(given)
    return Result(outputs, intermediates=intermediates)
