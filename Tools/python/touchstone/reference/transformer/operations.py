"""The operation `training.step` of the document Operations."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from ...files import Tensor
from . import layers, training
from .configuration import Configuration, parameters
from .training import Batch, State


def _batches(given) -> list[Batch]:
    names = [name for name in fields(Batch) if name.name in given.tensors]
    steps = given.sizes["S"]
    return [Batch(**{key.name: given.array(key.name)[index] for key in names}) for index in range(steps)]


def _state(given) -> State:
    listed = parameters(given.configuration)
    kinds = {kind: {p.name: given.array(f"{kind}.{p.name}") for p in listed} for kind in ("weight", "m", "v")}
    residual = {}
    if given.configuration.error_feedback:
        residual = {p.name: given.array(f"residual.{p.name}") for p in listed}
    return State(**kinds, residual=residual)


def step(given) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, and with `probe` the other tensors of the first step, in execution order."""
    c = given.configuration
    run = training.run(c, given.values["first_step"], _state(given), _batches(given))
    first = dict(run.first)
    listed = [parameter.name for parameter in parameters(c)]
    gradients = "reduced" if c.combines else "gradient"
    kinds = [gradients, *(["residual"] if c.error_feedback else []), "m", "v", "weight"]
    outputs = {
        "loss": Tensor("fp32", run.loss),
        "gradient_norm": Tensor("fp32", run.gradient_norm),
        "fingerprint": Tensor("uint8", run.fingerprint),
    }
    outputs |= {f"{kind}.{name}": first[f"{kind}.{name}"] for kind in kinds for name in listed}
    probed = first.items() if given.values["probe"] else ()
    return outputs, {name: tensor for name, tensor in probed if name not in outputs}


# Random cases


def random_configuration(generator: np.random.Generator) -> Configuration:
    """Any valid one that a step takes well under a second for: sizes of one, odd, prime; every choice of every key."""

    def pick(*values):
        return values[int(generator.integers(len(values)))]

    groups, per_group = pick(1, 1, 2, 3), pick(1, 2, 3)
    depth = pick(1, 1, 2, 2, 3)
    clamp = pick("none", "dynamic", "dynamic", "static")
    compression = pick("none", "none", "bf16", "squinch", "squinch")
    batch = pick(1, 2, 3, 5)
    source: list[int] = []
    for layer in range(depth):
        owners = [index for index in range(layer) if source[index] == index]
        source.append(pick(layer, *owners))
    length = pick(1, 2, 3, 5, 7, 12)
    return Configuration(
        vocabulary=pick(2, 7, 17, 32, 37),
        width=pick(1, 3, 5, 8, 16, 17),
        layers=depth,
        heads=groups * per_group,
        key_value_heads=groups,
        head_dimension=pick(2, 4, 6),
        feed_forward_width=pick(1, 3, 11, 16),
        sequence_length=length,
        batch=batch,
        dot=pick("paired-ftz", "chain-ieee"),
        windows=pick((), tuple(int(x) for x in generator.integers(0, length + 2, depth))),
        key_value_source=pick((), tuple(source)),
        rotary_base=np.float32(pick(10000, 500000, 16, 1.5, 1)),
        norm_epsilon=np.float32(pick(2.0**-20, 1e-5, 0.01)),
        zreg_c=np.float32(pick(0, 2.0**-14, 1e-3, 0.1)),
        output_zreg_c=np.float32(pick(0, 2.0**-14, 1e-3, 0.1)),
        zreg_form=pick("folded", "unfolded", "row-dot"),
        clamp=clamp,
        clamp_kappa=np.float32(pick(4, 1, 0.3)),
        clamp_limit=np.float32(pick(16, 1, 0.1)),
        clamp_gradient=pick("straight-through", "inward"),
        int8=clamp != "none" and pick(True, False),
        distillation_k=pick(0, 0, 1, 2),
        learning_rate=np.float32(pick(2.0**-9, 0.01, 0)),
        final_fraction=np.float32(pick(0.125, 0, 1)),
        beta1=np.float32(pick(0.9, 0, 0.5)),
        beta2=np.float32(pick(0.99, 0.999, 0)),
        adam_epsilon=np.float32(pick(2.0**-27, 1e-8)),
        weight_decay=np.float32(pick(0.0625, 0, 0.1)),
        clip_norm=np.float32(pick(1, 0, 0.01, 1000)),
        schedule=pick("constant", "linear", "cosine"),
        warmup_steps=pick(0, 1, 3, 10),
        total_steps=pick(1, 2, 7, 200),
        ranks=min(pick(1, 1, 2, 3, batch), batch),
        compression=compression,
        squinch_variant=pick("floor16", "round15", "stochastic15"),
        error_feedback=compression == "squinch" and pick(True, False),
        seed=int(generator.integers(0, 1 << 64, dtype=np.uint64)),
    )


def random_mask(generator: np.random.Generator, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By-key visibility and positions of a sequence: a tree of documents, or anything valid (rows may see nothing)."""
    if generator.random() < 0.25:
        bounds = np.sort(generator.integers(0, length + 1, (2, length)), axis=0)
        return (*bounds, np.arange(length))
    start, limit, position = np.arange(length), np.empty(length, int), np.empty(length, int)
    parents, ends, starts = [], [], []
    at = 0
    path: list[int] = []
    while at < length:  # depth first: a node's parent is on the path to the node before
        path = path[: int(generator.integers(0, len(path) + 1))]
        size = int(generator.integers(1, length - at + 1)) if generator.random() < 0.5 else 1
        node = len(parents)
        parents.append(path[-1] if path else -1)
        starts.append(at)
        ends.append(at + size)
        before = 0 if not path else int(position[ends[path[-1]] - 1]) + 1
        position[at : at + size] = before + np.arange(size)
        path.append(node)
        at += size
    for node in range(len(parents)):
        last = ends[node]
        for later in range(node + 1, len(parents)):
            ancestor = parents[later]
            while ancestor > node:
                ancestor = parents[ancestor]
            if ancestor != node:
                break
            last = ends[later]
        limit[starts[node] : ends[node]] = last
    return start, limit, position


def random_case(generator: np.random.Generator) -> tuple[dict, dict[str, Tensor]]:
    """A recipe without its `_bits`, and inputs."""
    c = random_configuration(generator)
    steps = int(generator.integers(1, 4))
    first = int(generator.choice([1, 2, 9, 150]))
    shape = (steps, c.batch, c.sequence_length)
    masks = [random_mask(generator, c.sequence_length) for _ in range(steps * c.batch)]
    start, limit, position = (np.array(x, np.int32).reshape(shape) for x in zip(*masks))
    inputs = {"tokens": generator.integers(0, c.vocabulary, shape).astype(np.int32)}
    if c.distillation_k:
        ids = generator.integers(0, c.vocabulary, (*shape, c.distillation_k)).astype(np.uint32)
        ids[generator.random(ids.shape) < 0.2] = layers.EMPTY_SLOT
        inputs |= {"target_ids": ids, "target_weights": generator.random(ids.shape, np.float32)}
    else:
        inputs["targets"] = generator.integers(-1, c.vocabulary, shape).astype(np.int32)
    inputs |= {"position": position, "visibility_start": start, "visibility_limit": limit}
    fresh = first == 1 and generator.random() < 0.5
    for parameter in parameters(c):
        scale = 1 / np.sqrt(parameter.fan or 30)
        normal = generator.standard_normal((3, *parameter.shape)) * scale
        inputs[f"weight.{parameter.name}"] = (normal[0] + (parameter.fan is None)).astype(np.float32)
        inputs[f"m.{parameter.name}"] = (normal[1] * (0 if fresh else 0.01)).astype(np.float32)
        inputs[f"v.{parameter.name}"] = (normal[2] ** 2 * (0 if fresh else 1e-4)).astype(np.float32)
    if c.error_feedback:
        for parameter in parameters(c):
            rest = generator.standard_normal((c.ranks, parameter.count)) * (0 if fresh else 1e-3)
            inputs[f"residual.{parameter.name}"] = rest.astype(np.float32)
    recipe: dict = {"first_step": first, "probe": True}
    for key in fields(Configuration):
        value = getattr(c, key.name)
        if isinstance(value, np.float32):
            recipe[key.name] = float(value)
            recipe[f"{key.name}_bits"] = f"{int(np.array(value).view(np.uint32)):08x}"
        else:
            recipe[key.name] = (
                f"{value:016x}" if key.name == "seed" else list(value) if isinstance(value, tuple) else value
            )
    return recipe, {name: Tensor.from_numbers(np.ascontiguousarray(array)) for name, array in inputs.items()}

