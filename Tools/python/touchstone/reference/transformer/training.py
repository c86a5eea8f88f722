"""Clauses T1 to T6: the model's gradients, ranks, the optimizer and the fingerprint of a step.

Everything a step computes is yielded as (name, `Tensor`) in execution order, so that two runs can be walked to the
first tensor that differs. The pass itself is written over an arithmetic (`arithmetic.Rounded`, or `arithmetic.Exact`
for its formulas).
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ...files import Tensor
from .. import allreduce, random
from . import layers
from .arithmetic import Arithmetic, Rounded
from .configuration import Configuration, parameters
from ..dot import canonical_fp32
from ..elementary import Rounder, round_function

Named = tuple[str, Tensor]

# Clause G names the streams; a stream is a word of the counter.
STREAMS = {"initialization": 0, "rounding": 3}


def draws(seed: int, stream: int, step: int, first: int, count: int) -> np.ndarray:
    """G1: draws first ..< first + count of a stream."""
    blocks = np.arange(first // 4, -(-(first + count) // 4), dtype=np.uint64)
    counter = np.empty((len(blocks), 4), np.uint32)
    counter[:, 0], counter[:, 1] = blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32)
    counter[:, 2], counter[:, 3] = stream, step
    key = np.tile(np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32), (len(blocks), 1))
    return random.philox(key, counter).reshape(-1)[first % 4 :][:count]


def initial_weights(configuration: Configuration, rounder: Rounder = round_function) -> dict[str, np.ndarray]:
    """T1: the masters before the first step."""
    a = Rounded()
    weights = {}
    for index, parameter in enumerate(parameters(configuration)):
        if parameter.fan is None:
            weights[parameter.name] = np.ones(parameter.shape, np.float32)
            continue
        even = parameter.count + parameter.count % 2
        words = draws(configuration.seed, STREAMS["initialization"], index, 0, even)
        normal = random.normal(words.reshape(-1, 2), rounder).reshape(-1)[: parameter.count]
        std = a.root(Fraction(1, parameter.fan))
        weights[parameter.name] = a.mul(std, normal).reshape(parameter.shape)
    return weights


@dataclass
class Batch:
    """The data of one step; sequences first."""

    tokens: np.ndarray  # [B, T]
    position: np.ndarray
    visibility_start: np.ndarray
    visibility_limit: np.ndarray
    targets: np.ndarray | None = None  # [B, T]
    target_ids: np.ndarray | None = None  # [B, T, k]
    target_weights: np.ndarray | None = None

    def sequences(self, first: int, limit: int) -> Batch:
        return Batch(*(None if x is None else x[first:limit] for x in vars(self).values()))


@dataclass
class State:
    """What a step changes, by parameter name; `residual` [W, elements] with error feedback alone."""

    weight: dict[str, np.ndarray]
    m: dict[str, np.ndarray]
    v: dict[str, np.ndarray]
    residual: dict[str, np.ndarray]

    @staticmethod
    def initial(configuration: Configuration, weight: dict[str, np.ndarray]) -> State:
        zeros = {name: np.zeros_like(value) for name, value in weight.items()}
        residual = {}
        if configuration.error_feedback:
            residual = {name: np.zeros((configuration.ranks, w.size), np.float32) for name, w in weight.items()}
        return State(dict(weight), zeros, {name: value.copy() for name, value in zeros.items()}, residual)


# The pass of one rank (T2, T3)


@dataclass
class Pass:
    loss: np.ndarray
    gradients: dict[str, np.ndarray]


@dataclass
class _Layer:
    """What the backward pass of a layer reads; rows are tokens."""

    attention_in: np.ndarray
    attention_norm: layers.Normalised
    query: np.ndarray  # rotated, [B, H, T, D]
    seen: np.ndarray
    attended: layers.Attended
    context: np.ndarray
    mlp_in: np.ndarray
    mlp_norm: layers.Normalised
    up: np.ndarray
    limit: Any
    activation: np.ndarray


def run_pass(
    a: Arithmetic, configuration: Configuration, masters: dict[str, np.ndarray], batch: Batch
) -> Generator[Named, None, Pass]:
    """T2 on one rank's sequences: yields every tensor in execution order and returns the loss and the gradients."""
    c = configuration
    sequences, length = batch.tokens.shape
    rows = sequences * length
    H, G, D = c.heads, c.key_value_heads, c.head_dimension
    w = {name: a.bf16(value.astype(a.dtype)) for name, value in masters.items()}
    tokens, position = batch.tokens.reshape(-1), batch.position.reshape(-1)
    cosines, sines = layers.rotary_tables(a, c.rotary_base, D, position)
    scale = a.function("rsqrt", np.array(D, a.dtype))

    def heads(x: np.ndarray, count: int) -> np.ndarray:  # [N, count D] -> [B, count, T, D]
        return x.reshape(sequences, length, count, D).swapaxes(1, 2)

    def columns(x: np.ndarray) -> np.ndarray:  # and back
        return x.swapaxes(1, 2).reshape(rows, x.shape[1] * D)

    def turned(x: np.ndarray, direction) -> np.ndarray:
        return direction(a, x.reshape(rows, x.shape[1] // D, D), cosines, sines).reshape(x.shape)

    def by_sequence(x: np.ndarray) -> np.ndarray:
        return x.reshape(sequences, length, x.shape[1])

    def weight_gradient(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        return layers.weight_gradient(a, by_sequence(x), by_sequence(dy))

    def bf16(name: str, x: np.ndarray) -> Named:
        return name, a.stored("bf16", x)

    def fp32(name: str, x: np.ndarray) -> Named:
        return name, a.stored("fp32", x)

    # Forward

    stream = w["embedding"][tokens]
    yield bf16("embedding.output", stream)
    saved: list[_Layer] = []
    keys: dict[int, np.ndarray] = {}  # rotated, and values, of the layers that have their own
    values: dict[int, np.ndarray] = {}
    for layer in range(c.layers):
        at = f"layers.{layer}."
        normed, attention_norm = layers.rms_norm(a, stream, w[at + "attention.norm"], c.norm_epsilon)
        yield bf16(at + "attention.norm.output", normed)
        query = a.bf16(layers.linear(a, normed, w[at + "attention.query"]))
        yield bf16(at + "attention.query.output", query)
        if c.owns(layer):
            key = a.bf16(layers.linear(a, normed, w[at + "attention.key"]))
            yield bf16(at + "attention.key.output", key)
            value = a.bf16(layers.linear(a, normed, w[at + "attention.value"]))
            yield bf16(at + "attention.value.output", value)
        query = turned(query, layers.rotary)
        yield bf16(at + "attention.query.rotated", query)
        if c.owns(layer):
            key = turned(key, layers.rotary)
            yield bf16(at + "attention.key.rotated", key)
            keys[layer], values[layer] = heads(key, G), heads(value, G)
        seen = layers.visible_by_key(batch.visibility_start, batch.visibility_limit, length, c.window(layer))
        own = c.source(layer)
        attended = layers.attention(a, heads(query, H), keys[own], values[own], seen, scale)
        yield fp32(at + "attention.max", attended.rows.max)
        yield fp32(at + "attention.sum", attended.rows.sum)
        yield fp32(at + "attention.z", attended.rows.z)
        context = columns(attended.o)
        yield bf16(at + "attention.context", context)
        stream = layers.residual(a, stream, layers.linear(a, context, w[at + "attention.output"]))
        yield bf16(at + "attention.residual", stream)

        mlp_in, mlp_norm = layers.rms_norm(a, stream, w[at + "mlp.norm"], c.norm_epsilon)
        yield bf16(at + "mlp.norm.output", mlp_in)
        up = a.bf16(layers.linear(a, mlp_in, w[at + "mlp.up"]))
        yield bf16(at + "mlp.up.output", up)
        square = layers.relu2(a, up)
        limit = None
        if c.clamp == "none":
            activation = a.bf16(square)
        else:
            limit = c.clamp_limit + np.float32(0)  # -0 is +0 (C1)
            if c.clamp == "dynamic":
                limit = layers.dynamic_limit(a, w[at + "mlp.up"], c.clamp_kappa)
            yield fp32(at + "mlp.limit", np.array([limit], a.dtype))
            clamped = layers.clamp(a, square, limit, c.int8)
            if clamped.codes is not None:
                yield at + "mlp.codes", a.stored("int8", clamped.codes)
            activation = a.bf16(clamped.value)
        yield bf16(at + "mlp.activation", activation)
        stream = layers.residual(a, stream, layers.linear(a, activation, w[at + "mlp.down"]))
        yield bf16(at + "mlp.residual", stream)
        query = heads(query, H)
        saved.append(
            _Layer(normed, attention_norm, query, seen, attended, context, mlp_in, mlp_norm, up, limit, activation)
        )
    normed, final_norm = layers.rms_norm(a, stream, w["norm"], c.norm_epsilon)
    yield bf16("norm.output", normed)
    logits = layers.linear_transposed(a, normed, w["embedding"])
    yield fp32("logits", logits)
    if c.distillation_k:
        ids, weights = (x.reshape(rows, c.distillation_k) for x in (batch.target_ids, batch.target_weights))
        loss = layers.sparse_cross_entropy(a, logits, ids, weights, c.output_zreg_c)
    else:
        loss = layers.cross_entropy(a, logits, batch.targets.reshape(-1), c.output_zreg_c)
    yield fp32("loss.max", loss.rows.max)
    yield fp32("loss.sum", loss.rows.sum)
    yield fp32("loss.z", loss.rows.z)
    yield fp32("loss", np.array([loss.loss], a.dtype))

    # Backward

    gradients: dict[str, np.ndarray] = {}

    def gradient(name: str, x: np.ndarray) -> Named:
        gradients[name] = x
        return fp32("gradient." + name, x)

    yield bf16("logits.gradient", loss.gradient)
    d_normed = a.bf16(layers.linear(a, loss.gradient, w["embedding"]))
    yield bf16("norm.output.gradient", d_normed)
    output_gradient = weight_gradient(loss.gradient, normed)
    yield fp32("embedding.output_gradient", output_gradient)
    dx, d_gain = layers.rms_norm_backward(a, d_normed, w["norm"], final_norm)
    yield gradient("norm", d_gain)
    d_stream = a.bf16(dx)
    yield bf16("stream.gradient", d_stream)
    d_keys: dict[int, np.ndarray] = {}  # fp32 sums over the layers so far that use a layer's keys
    d_values: dict[int, np.ndarray] = {}
    for layer in reversed(range(c.layers)):
        at, s = f"layers.{layer}.", saved[layer]
        yield gradient(at + "mlp.down", weight_gradient(s.activation, d_stream))
        d_activation = layers.linear_transposed(a, d_stream, w[at + "mlp.down"])
        if s.limit is not None:
            square = layers.relu2(a, s.up)
            d_activation = layers.clamp_backward(d_activation, square, s.limit, c.clamp_gradient)
        d_up = a.bf16(layers.relu2_backward(a, d_activation, s.up))
        yield bf16(at + "mlp.up.gradient", d_up)
        yield gradient(at + "mlp.up", weight_gradient(s.mlp_in, d_up))
        d_normed = a.bf16(layers.linear_transposed(a, d_up, w[at + "mlp.up"]))
        yield bf16(at + "mlp.norm.output.gradient", d_normed)
        dx, d_gain = layers.rms_norm_backward(a, d_normed, w[at + "mlp.norm"], s.mlp_norm)
        yield gradient(at + "mlp.norm", d_gain)
        d_stream = layers.residual(a, d_stream, dx)
        yield bf16(at + "mlp.stream.gradient", d_stream)

        yield gradient(at + "attention.output", weight_gradient(s.context, d_stream))
        d_context = a.bf16(layers.linear_transposed(a, d_stream, w[at + "attention.output"]))
        yield bf16(at + "attention.context.gradient", d_context)
        own = c.source(layer)
        d_query, d_key, d_value = layers.attention_backward(
            a, s.query, keys[own], values[own], s.seen, scale, s.attended, heads(d_context, H), c.zreg_c, c.zreg_form
        )
        d_query, d_key, d_value = columns(d_query), columns(d_key), columns(d_value)
        yield bf16(at + "attention.query.rotated.gradient", d_query)
        yield bf16(at + "attention.key.rotated.gradient", d_key)
        yield bf16(at + "attention.value.gradient", d_value)
        d_query = turned(d_query, layers.rotary_backward)
        yield bf16(at + "attention.query.gradient", d_query)
        d_keys[own] = a.add(d_keys[own], d_key) if own in d_keys else d_key
        d_values[own] = a.add(d_values[own], d_value) if own in d_values else d_value
        parts = [(d_query, w[at + "attention.query"])]
        if c.owns(layer):
            d_key = a.bf16(d_keys[layer])
            yield bf16(at + "attention.key.total_gradient", d_key)
            d_key = turned(d_key, layers.rotary_backward)
            yield bf16(at + "attention.key.gradient", d_key)
            d_value = a.bf16(d_values[layer])
            yield bf16(at + "attention.value.total_gradient", d_value)
        yield gradient(at + "attention.query", weight_gradient(s.attention_in, d_query))
        if c.owns(layer):
            yield gradient(at + "attention.key", weight_gradient(s.attention_in, d_key))
            yield gradient(at + "attention.value", weight_gradient(s.attention_in, d_value))
            parts += [(d_key, w[at + "attention.key"]), (d_value, w[at + "attention.value"])]
        d_normed = a.bf16(layers.linear_input_gradient(a, *parts))
        yield bf16(at + "attention.norm.output.gradient", d_normed)
        dx, d_gain = layers.rms_norm_backward(a, d_normed, w[at + "attention.norm"], s.attention_norm)
        yield gradient(at + "attention.norm", d_gain)
        d_stream = layers.residual(a, d_stream, dx)
        yield bf16(at + "attention.stream.gradient", d_stream)
    d_embedding = layers.embedding_gradient(a, tokens, d_stream, c.vocabulary)
    yield gradient("embedding", a.add(output_gradient, d_embedding))
    return Pass(loss.loss, gradients)


# Ranks (T5)


def combine(
    configuration: Configuration, number: int, passes: list[Pass], state: State
) -> Generator[Named, None, dict[str, np.ndarray]]:
    """Each parameter's gradients over the ranks; returns them reduced. `state.residual` goes on."""
    c = configuration
    reduced = {}
    listed = parameters(c)
    total = sum(parameter.count for parameter in listed)
    before = 0
    for parameter in listed:
        g = np.stack([each.gradients[parameter.name].reshape(-1) for each in passes])
        if c.compression == "none":
            result = allreduce.mean(g)
        elif c.compression == "bf16":
            rounded = Rounded()
            result = rounded.bf16(allreduce.mean(rounded.bf16(g)))
        else:
            words = reduced_words = None
            if c.squinch_variant == "stochastic15":
                firsts = [r * total + before for r in range(c.ranks + 1)]
                drawn = [draws(c.seed, STREAMS["rounding"], number, first, parameter.count) for first in firsts]
                words, reduced_words = np.stack(drawn[:-1]), drawn[-1]
            e = state.residual[parameter.name] if c.error_feedback else None
            outcome = allreduce.in_squinch(c.squinch_variant, "refuse", g, e, words, reduced_words)
            result = outcome["r"]
            if e is not None:
                state.residual[parameter.name] = outcome["residual"]
        before += parameter.count
        reduced[parameter.name] = result.reshape(parameter.shape)
        yield "reduced." + parameter.name, Tensor("fp32", canonical_fp32(reduced[parameter.name]))
        if c.error_feedback:
            yield "residual." + parameter.name, Tensor("fp32", canonical_fp32(state.residual[parameter.name]))
    return reduced


# A step


@dataclass
class Outcome:
    loss: np.float32
    gradient_norm: np.float32


def step(configuration: Configuration, number: int, state: State, batch: Batch) -> Generator[Named, None, Outcome]:
    """Step `number` (from 1): every tensor of its fingerprint in execution order. `state` goes on."""
    c = configuration
    a = Rounded(c.dot)
    passes = []
    for rank in range(c.ranks):
        part = batch.sequences(rank * c.batch // c.ranks, (rank + 1) * c.batch // c.ranks)
        prefix = f"rank.{rank}." if c.ranks > 1 else ""
        passes.append((yield from _prefixed(prefix, run_pass(a, c, state.weight, part))))
    loss = passes[0].loss
    gradients = passes[0].gradients
    if c.combines:
        if c.ranks > 1:
            loss = allreduce.mean(np.array([[each.loss] for each in passes], np.float32))[0]
            yield "loss", Tensor("fp32", canonical_fp32(np.array([loss], np.float32)))
        gradients = yield from combine(c, number, passes, state)
    rate = layers.learning_rate(c.schedule, c.learning_rate, c.final_fraction, c.warmup_steps, c.total_steps, number)
    norm = layers.gradient_norm(a, [gradients[parameter.name] for parameter in parameters(c)])
    if not np.isfinite(norm):
        raise ValueError(f"step {number}: gradient_norm is {norm}")
    yield "learning_rate", Tensor("fp32", np.array([rate], np.float32))
    yield "gradient_norm", Tensor("fp32", np.array([norm], np.float32))
    factor = layers.clip_factor(a, norm, c.clip_norm)
    for parameter in parameters(c):
        name = parameter.name
        g = gradients[name] if factor is None else a.mul(gradients[name], factor)
        decay = c.weight_decay if parameter.decays else np.float32(0)
        hyper = layers.AdamW(rate, c.beta1, c.beta2, c.adam_epsilon, decay)
        updated = layers.adamw(a, hyper, number, state.weight[name], state.m[name], state.v[name], g)
        state.weight[name], state.m[name], state.v[name] = updated
        yield "m." + name, a.stored("fp32", state.m[name])
        yield "v." + name, a.stored("fp32", state.v[name])
        yield "weight." + name, a.stored("fp32", state.weight[name])
    return Outcome(np.float32(loss), np.float32(norm))


def _prefixed(prefix: str, tensors: Generator[Named, None, Pass]) -> Generator[Named, None, Pass]:
    while True:
        try:
            name, tensor = next(tensors)
        except StopIteration as end:
            return end.value
        yield prefix + name, tensor


# The fingerprint (T6)


def fingerprint(tensors: Iterable[Named], previous: bytes = bytes(32)) -> bytes:
    for name, tensor in tensors:
        previous = link(name, tensor, previous)
    return previous


def link(name: str, tensor: Tensor, previous: bytes) -> bytes:
    """SHA-256 of name, 0, type, 0, rank, dimensions, bytes and the digest before."""
    digest = hashlib.sha256()
    digest.update(name.encode() + b"\0" + tensor.type.encode() + b"\0")
    digest.update(np.array([len(tensor.shape), *tensor.shape], "<u8").tobytes())
    array = np.ascontiguousarray(tensor.array)
    digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    digest.update(previous)
    return digest.digest()


# All steps


@dataclass
class Run:
    loss: np.ndarray  # [S]
    gradient_norm: np.ndarray  # [S]
    fingerprint: np.ndarray  # UInt8 [S, 32]
    first: list[Named]  # the tensors of the first step


def run(configuration: Configuration, first_step: int, state: State, batches: list[Batch]) -> Run:
    losses, norms, digests = [], [], []
    first: list[Named] = []
    digest = bytes(32)
    for index, batch in enumerate(batches):
        tensors = step(configuration, first_step + index, state, batch)
        while True:
            try:
                name, tensor = next(tensors)
            except StopIteration as end:
                outcome: Outcome = end.value
                break
            digest = link(name, tensor, digest)
            if index == 0:
                first.append((name, tensor))
        losses.append(outcome.loss)
        norms.append(outcome.gradient_norm)
        digests.append(np.frombuffer(digest, np.uint8))
    numbers = (canonical_fp32(np.array(x, np.float32)) for x in (losses, norms))
    return Run(*numbers, np.array(digests, np.uint8).reshape(-1, 32), first)


def first_difference(ours: Iterable[Named], theirs: dict[str, Tensor]) -> str | None:
    """The name of the first tensor, in execution order, that another run does not have or has with other bits."""
    for name, tensor in ours:
        if name not in theirs or not tensor.same_bits(theirs[name]):
            return name
    return None
