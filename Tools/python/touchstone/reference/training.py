"""Clause T: the whole training step, tensor by tensor in the order of T2."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..files import Tensor
from . import allreduce, attention, clamp, elementary, layers
from .elementary import Rounder
from .fp32 import F, apply, round_bf16, widen
from .gumbel import words

FLOATS = {
    "rotary_base": 10000.0, "norm_epsilon": 2.0**-20, "zreg_c": 2.0**-14, "output_zreg_c": 2.0**-14, "clamp_kappa": 4.0,
    "clamp_limit": 16.0, "learning_rate": 2.0**-9, "final_fraction": 0.125, "beta1": 0.9, "beta2": 0.99,
    "adam_epsilon": 2.0**-27, "weight_decay": 0.0625, "clip_norm": 1.0,
}  # fmt: skip
OTHERS = {
    "vocabulary": 256, "width": 64, "layers": 2, "heads": 4, "key_value_heads": 1, "head_dimension": 16,
    "feed_forward_width": 256, "sequence_length": 64, "batch": 4, "dot": "paired-ftz", "windows": [],
    "key_value_source": [], "zreg_form": "folded", "clamp": "dynamic", "clamp_gradient": "straight-through",
    "int8": False, "distillation_k": 0, "schedule": "cosine", "warmup_steps": 10, "total_steps": 200, "ranks": 1,
    "compression": "none", "squinch_variant": "floor16", "error_feedback": False, "seed": "746f75636873746f",
}  # fmt: skip


class Configuration:
    """The keys of a recipe as attributes; fp32 ones from their bits."""

    def __init__(self, recipe: dict):
        unknown = set(recipe) - set(OTHERS) - set(FLOATS) - {f"{name}_bits" for name in FLOATS}
        if unknown:
            raise ValueError(f"unknown configuration keys {sorted(unknown)}")
        for name, default in OTHERS.items():
            setattr(self, name, recipe.get(name, default))
        for name, default in FLOATS.items():
            bits = recipe.get(f"{name}_bits")
            value = F(recipe.get(name, default)) if bits is None else np.array(int(bits, 16), np.uint32).view(np.float32)[()]
            setattr(self, name, value)
        self.seed = int(self.seed, 16)
        self.windows = self.windows or [0] * self.layers
        self.key_value_source = self.key_value_source or list(range(self.layers))

    @property
    def combines(self) -> bool:
        return self.ranks > 1 or self.compression != "none"

    @property
    def feedback(self) -> bool:
        return self.compression == "squinch" and self.error_feedback

    def parameters(self) -> list[tuple[str, tuple[int, ...], int | None]]:
        """T1: name, shape, and 1 / variance of the initial values, None for gains."""
        c, hd, gd = self.width, self.heads * self.head_dimension, self.key_value_heads * self.head_dimension
        f = self.feed_forward_width
        result = [("embedding", (self.vocabulary, c), c)]
        for index in range(self.layers):
            name = f"layers.{index}"
            result += [(f"{name}.attention.norm", (c,), None), (f"{name}.attention.query", (c, hd), c)]
            if self.key_value_source[index] == index:
                result += [(f"{name}.attention.{what}", (c, gd), c) for what in ("key", "value")]
            result += [
                (f"{name}.attention.output", (hd, c), 2 * self.layers * hd),
                (f"{name}.mlp.norm", (c,), None),
                (f"{name}.mlp.up", (c, f), c),
                (f"{name}.mlp.down", (f, c), 2 * self.layers * f),
            ]
        return [*result, ("norm", (c,), None)]


@dataclass
class Batch:
    """[B, T]; targets are tokens, or (ids, weights) [B, T, k]."""

    tokens: np.ndarray
    targets: object
    positions: np.ndarray
    start: np.ndarray
    limit: np.ndarray

    def part(self, rows: slice) -> Batch:
        targets = tuple(t[rows] for t in self.targets) if isinstance(self.targets, tuple) else self.targets[rows]
        return Batch(self.tokens[rows], targets, self.positions[rows], self.start[rows], self.limit[rows])


def _heads(x: np.ndarray, batch: int, heads: int) -> np.ndarray:
    return x.reshape(batch, -1, heads, x.shape[1] // heads).swapaxes(1, 2)


def _rows(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(1, 2).reshape(x.shape[0] * x.shape[2], -1)


def bf16(bits: np.ndarray) -> Tensor:
    return Tensor("bf16", np.ascontiguousarray(bits, np.uint16))


def fp32(x, shape=None) -> Tensor:
    array = np.array(x, np.float32) if shape is None else np.array(x, np.float32).reshape(shape)
    bits = np.where(np.isnan(array), np.uint32(0x7FC00000), np.ascontiguousarray(array).view(np.uint32).reshape(array.shape))
    return Tensor("fp32", bits.view(np.float32))


def forward_backward(
    c: Configuration, masters: dict[str, np.ndarray], batch: Batch, rounder: Rounder = elementary.round_function
) -> Iterator[tuple[str, Tensor]]:
    """T2 for one rank: every tensor by its name, in order."""
    w = {name: round_bf16(value) for name, value in masters.items()}
    count, length = batch.tokens.shape
    n = count * length
    tokens, positions = batch.tokens.reshape(-1), batch.positions.reshape(-1)
    scale = apply("rsqrt", np.array([c.head_dimension], np.float32), rounder)[0]
    if ((tokens < 0) | (tokens >= c.vocabulary)).any():
        raise ValueError("a token is out of range")
    attention.check_intervals("by-key", batch.start, batch.limit, length, length, 0)
    masks = [
        attention.visibility("by-key", batch.start, batch.limit, length, length, 0, window or None) for window in c.windows
    ]

    def rotate(x: np.ndarray, heads: int, backward: bool = False) -> np.ndarray:
        return layers.rotary(x.reshape(n, heads, -1), positions, c.rotary_base, backward).reshape(n, -1)

    stream = w["embedding"][tokens]
    yield "embedding.output", bf16(stream)
    kept = []
    for index in range(c.layers):
        name = f"layers.{index}"
        own = c.key_value_source[index] == index
        layer = {"input": stream}
        layer["norm"], _ = layers.rmsnorm(stream, w[f"{name}.attention.norm"], c.norm_epsilon, rounder)
        yield f"{name}.attention.norm.output", bf16(layer["norm"])
        query = round_bf16(layers.linear(layer["norm"], w[f"{name}.attention.query"], c.dot))
        yield f"{name}.attention.query.output", bf16(query)
        if own:
            key = round_bf16(layers.linear(layer["norm"], w[f"{name}.attention.key"], c.dot))
            yield f"{name}.attention.key.output", bf16(key)
            value = round_bf16(layers.linear(layer["norm"], w[f"{name}.attention.value"], c.dot))
            yield f"{name}.attention.value.output", bf16(value)
        query = rotate(query, c.heads)
        yield f"{name}.attention.query.rotated", bf16(query)
        if own:
            key = rotate(key, c.key_value_heads)
            yield f"{name}.attention.key.rotated", bf16(key)
            layer["key"], layer["value"] = (_heads(x, count, c.key_value_heads) for x in (key, value))
        else:
            layer["key"], layer["value"] = (kept[c.key_value_source[index]][what] for what in ("key", "value"))
        layer["query"] = _heads(query, count, c.heads)
        o, z, maximum, total, _ = attention.forward(
            layer["query"], layer["key"], layer["value"], masks[index], scale, c.dot, rounder
        )
        yield f"{name}.attention.max", fp32(maximum)
        yield f"{name}.attention.sum", fp32(total)
        yield f"{name}.attention.z", fp32(z)
        layer["context"] = _rows(o)
        yield f"{name}.attention.context", bf16(layer["context"])
        stream = layers.residual(stream, layers.linear(layer["context"], w[f"{name}.attention.output"], c.dot))
        yield f"{name}.attention.residual", bf16(stream)
        layer["middle"] = stream
        layer["mlp"], _ = layers.rmsnorm(stream, w[f"{name}.mlp.norm"], c.norm_epsilon, rounder)
        yield f"{name}.mlp.norm.output", bf16(layer["mlp"])
        layer["up"] = round_bf16(layers.linear(layer["mlp"], w[f"{name}.mlp.up"], c.dot))
        yield f"{name}.mlp.up.output", bf16(layer["up"])
        squared = layers.relu2(layer["up"])
        if c.clamp == "none":
            activation = squared
        else:
            layer["limit"] = (
                c.clamp_limit if c.clamp == "static"
                else clamp.dynamic_limit(w[f"{name}.mlp.up"], c.clamp_kappa, "relu2", rounder)
            )  # fmt: skip
            yield f"{name}.mlp.limit", fp32([layer["limit"]])
            result = clamp.clamp(squared, np.zeros_like(squared), layer["limit"], "relu2", "straight-through", c.int8)
            if c.int8:
                yield f"{name}.mlp.codes", Tensor("int8", result["codes"])
            activation = result["dequantised"]
        layer["activation"] = round_bf16(activation)
        yield f"{name}.mlp.activation", bf16(layer["activation"])
        stream = layers.residual(stream, layers.linear(layer["activation"], w[f"{name}.mlp.down"], c.dot))
        yield f"{name}.mlp.residual", bf16(stream)
        kept.append(layer)
    final = stream
    norm, _ = layers.rmsnorm(stream, w["norm"], c.norm_epsilon, rounder)
    yield "norm.output", bf16(norm)
    logits = layers.linear(norm, np.ascontiguousarray(w["embedding"].T), c.dot)
    yield "logits", fp32(logits)
    if c.distillation_k:
        ids, weights = (t.reshape(n, -1) for t in batch.targets)
        loss, _, maximum, total, z, gradient = layers.sparse_cross_entropy(logits, ids, weights, c.output_zreg_c, rounder)
    else:
        targets = batch.targets.reshape(-1)
        loss, _, maximum, total, z, gradient = layers.cross_entropy(logits, targets, c.output_zreg_c, rounder)
    yield "loss.max", fp32(maximum)
    yield "loss.sum", fp32(total)
    yield "loss.z", fp32(z)
    yield "loss", fp32([loss])

    # Backward
    yield "logits.gradient", bf16(gradient)
    dnorm = round_bf16(layers.linear(gradient, w["embedding"], c.dot))
    yield "norm.output.gradient", bf16(dnorm)
    output_gradient = layers.weight_gradient(gradient, norm, count, c.dot)
    yield "embedding.output_gradient", fp32(output_gradient)
    dx, dgain = layers.rmsnorm_backward(dnorm, final, w["norm"], c.norm_epsilon, rounder)
    yield "gradient.norm", fp32(dgain)
    stream = round_bf16(dx)
    yield "stream.gradient", bf16(stream)
    totals: dict[tuple[str, int], np.ndarray] = {}
    for index in reversed(range(c.layers)):
        name, layer, source = f"layers.{index}", kept[index], c.key_value_source[index]
        own = source == index
        yield f"gradient.{name}.mlp.down", fp32(layers.weight_gradient(layer["activation"], stream, count, c.dot))
        da = layers.input_gradient([(stream, w[f"{name}.mlp.down"])], c.dot)
        if c.clamp != "none":
            y = layers.relu2(layer["up"])
            da = clamp.clamp(y, da, layer["limit"], "relu2", c.clamp_gradient, False)["dx"]
        du = round_bf16(layers.relu2_backward(layer["up"], da))
        yield f"{name}.mlp.up.gradient", bf16(du)
        yield f"gradient.{name}.mlp.up", fp32(layers.weight_gradient(layer["mlp"], du, count, c.dot))
        dmlp = round_bf16(layers.input_gradient([(du, w[f"{name}.mlp.up"])], c.dot))
        yield f"{name}.mlp.norm.output.gradient", bf16(dmlp)
        dx, dgain = layers.rmsnorm_backward(dmlp, layer["middle"], w[f"{name}.mlp.norm"], c.norm_epsilon, rounder)
        yield f"gradient.{name}.mlp.norm", fp32(dgain)
        stream = layers.residual(stream, dx)
        yield f"{name}.mlp.stream.gradient", bf16(stream)
        yield f"gradient.{name}.attention.output", fp32(layers.weight_gradient(layer["context"], stream, count, c.dot))
        dcontext = round_bf16(layers.input_gradient([(stream, w[f"{name}.attention.output"])], c.dot))
        yield f"{name}.attention.context.gradient", bf16(dcontext)
        dq, dk, dv = attention.backward(
            layer["query"], layer["key"], layer["value"], _heads(dcontext, count, c.heads), masks[index], scale, c.dot,
            c.zreg_c, c.zreg_form, rounder,
        )  # fmt: skip
        yield f"{name}.attention.query.rotated.gradient", bf16(_rows(dq))
        yield f"{name}.attention.key.rotated.gradient", bf16(_rows(dk))
        yield f"{name}.attention.value.gradient", bf16(_rows(dv))
        for what, part in (("key", dk), ("value", dv)):
            with np.errstate(all="ignore"):
                so_far = totals.get((what, source))
                totals[what, source] = widen(part) if so_far is None else so_far + widen(part)
        dquery = rotate(_rows(dq), c.heads, backward=True)
        yield f"{name}.attention.query.gradient", bf16(dquery)
        parts = [(dquery, w[f"{name}.attention.query"])]
        gradients = [("query", dquery)]
        if own:
            total_key = _rows(round_bf16(totals["key", index]))
            yield f"{name}.attention.key.total_gradient", bf16(total_key)
            dkey = rotate(total_key, c.key_value_heads, backward=True)
            yield f"{name}.attention.key.gradient", bf16(dkey)
            dvalue = _rows(round_bf16(totals["value", index]))
            yield f"{name}.attention.value.total_gradient", bf16(dvalue)
            gradients += [("key", dkey), ("value", dvalue)]
            parts += [(dkey, w[f"{name}.attention.key"]), (dvalue, w[f"{name}.attention.value"])]
        for what, part in gradients:
            yield f"gradient.{name}.attention.{what}", fp32(layers.weight_gradient(layer["norm"], part, count, c.dot))
        dattention = round_bf16(layers.input_gradient(parts, c.dot))
        yield f"{name}.attention.norm.output.gradient", bf16(dattention)
        dx, dgain = layers.rmsnorm_backward(
            dattention, layer["input"], w[f"{name}.attention.norm"], c.norm_epsilon, rounder
        )
        yield f"gradient.{name}.attention.norm", fp32(dgain)
        stream = layers.residual(stream, dx)
        yield f"{name}.attention.stream.gradient", bf16(stream)
    with np.errstate(all="ignore"):
        yield "gradient.embedding", fp32(output_gradient + layers.embedding_gradient(tokens, stream, c.vocabulary))


def _rounding_words(c: Configuration, counts: list[int], index: int, step: int):
    """T5: the words of stochastic15, [W, n] and [n]."""
    if c.compression != "squinch" or c.squinch_variant != "stochastic15":
        return None, None
    offset = sum(counts[:index])
    drawn = [words(c.seed, 3, step, rank * sum(counts) + offset, counts[index]) for rank in range(c.ranks + 1)]
    return np.stack(drawn[:-1]), drawn[-1]


def step(
    c: Configuration, state: dict[str, dict[str, np.ndarray]], batch: Batch, number: int,
    rounder: Rounder = elementary.round_function,
) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
    """Every tensor of a step; `state` (weight, m, v, residual by parameter) is updated."""
    parameters = c.parameters()
    counts = [int(np.prod(shape)) for _, shape, _ in parameters]
    losses, found = [], []
    for rank in range(c.ranks):
        rows = slice(rank * c.batch // c.ranks, (rank + 1) * c.batch // c.ranks)
        gradients = {}
        for name, tensor in forward_backward(c, state["weight"], batch.part(rows), rounder):
            if name == "loss":
                losses.append(tensor.array)
            if name.startswith("gradient."):
                gradients[name[len("gradient.") :]] = tensor.array
            yield (f"rank.{rank}.{name}" if c.ranks > 1 else name), tensor
        found.append(gradients)
    if c.ranks > 1:
        yield "loss", fp32(allreduce.in_fp32(np.stack(losses)))
    final = {}
    for index, (name, shape, _) in enumerate(parameters):
        if not c.combines:
            final[name] = found[0][name]
            continue
        g = np.stack([gradients[name].reshape(-1) for gradients in found])
        if c.compression == "none":
            final[name] = allreduce.in_fp32(g).reshape(shape)
        elif c.compression == "bf16":
            final[name] = widen(allreduce.in_bf16(g)).reshape(shape)
        else:
            residual = state["residual"][name] if c.feedback else None
            drawn, reduced = _rounding_words(c, counts, index, number)
            result = allreduce.in_squinch(c.squinch_variant, "refuse", g, residual, drawn, reduced)
            final[name] = result["r"].reshape(shape)
            if c.feedback:
                state["residual"][name] = result["residual"]
        yield f"reduced.{name}", fp32(final[name])
        if c.feedback:
            yield f"residual.{name}", fp32(state["residual"][name])
    rate = layers.learning_rate(
        number, c.learning_rate, c.schedule, c.warmup_steps, c.total_steps, c.final_fraction
    )
    yield "learning_rate", fp32([rate])
    ordered = [final[name] for name, _, _ in parameters]
    norm = layers.gradient_norm(ordered, rounder)
    yield "gradient_norm", fp32([norm])
    if not np.isfinite(norm):
        raise ValueError(f"the gradient's norm is {norm}")
    for (name, _, variance), g in zip(parameters, layers.clipped(ordered, norm, c.clip_norm)):
        weight, m, v = layers.adamw(
            state["weight"][name], state["m"][name], state["v"][name], g, number, rate, c.beta1, c.beta2, c.adam_epsilon,
            0 if variance is None else c.weight_decay, rounder,
        )  # fmt: skip
        state["weight"][name], state["m"][name], state["v"][name] = weight, m, v
        yield f"m.{name}", fp32(m)
        yield f"v.{name}", fp32(v)
        yield f"weight.{name}", fp32(weight)


def fingerprint(name: str, tensor: Tensor, previous: bytes) -> bytes:
    """T6."""
    header = name.encode() + b"\0" + tensor.type.encode() + b"\0"
    for value in (len(tensor.shape), *tensor.shape):
        header += int(value).to_bytes(8, "little")
    little = np.ascontiguousarray(tensor.array).astype(tensor.array.dtype.newbyteorder("<"))
    return hashlib.sha256(header + little.tobytes() + previous).digest()
