"""Random valid cases of every operation, inputs only: for `touchstone evaluate`, then `verify`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .files import Case, GoldenFile, Tensor, write
from .reference import bf16
from .reference.elementary import FUNCTIONS
from .reference.formats import ROUNDINGS
from .reference.transformer.operations import random_case

SIZES = (1, 2, 3, 5, 7, 8, 13, 16, 17, 31)


class Source:
    """Random recipes and tensors from one seed."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def size(self, largest: int = 31) -> int:
        return int(self.rng.choice([size for size in SIZES if size <= largest]))

    def pick(self, *values):
        return values[int(self.rng.integers(len(values)))]

    def words(self, bits: int, *shape: int) -> np.ndarray:
        return self.rng.integers(0, 1 << bits, shape, np.uint64).astype(f"uint{bits}")

    def bf16(self, *shape: int, low: int = 115, high: int = 130) -> Tensor:
        exponent = self.rng.integers(low, high + 1, shape).astype(np.uint16)
        bits = (self.words(16, *shape) & np.uint16(0x807F)) | (exponent << np.uint16(7))
        return Tensor("bf16", np.where(self.rng.random(shape) < 0.02, np.uint16(0), bits).astype(np.uint16))

    def fp32(self, *shape: int, low: int = 115, high: int = 130) -> Tensor:
        exponent = self.rng.integers(low, high + 1, shape).astype(np.uint32)
        bits = (self.words(32, *shape) & np.uint32(0x807FFFFF)) | (exponent << np.uint32(23))
        return Tensor("fp32", np.where(self.rng.random(shape) < 0.02, np.uint32(0), bits).astype(np.uint32).view(np.float32))

    def any(self, type: str, *shape: int) -> Tensor:
        bits = self.words({"bf16": 16, "fp16": 16, "fp32": 32, "fp64": 64}.get(type) or int(type.strip("uint")), *shape)
        return Tensor(type, bits if type == "bf16" else bits.view({"fp16": "f2", "fp32": "f4", "fp64": "f8"}.get(type, type)))

    def ints(self, low: int, high: int, *shape: int) -> Tensor:
        return Tensor("int32", self.rng.integers(low, high, shape).astype(np.int32))


def floats(**values: float) -> dict:
    result = {}
    for name, value in values.items():
        single = np.float32(value)
        result[name] = float(single)
        result[f"{name}_bits"] = f"{int(single.view(np.uint32)):08x}"
    return result


Maker = Callable[[Source, str], tuple[dict, dict]]
MAKERS: dict[str, Maker] = {}


def _makes(*names: str):
    def register(maker: Maker) -> Maker:
        for name in names:
            MAKERS[name] = maker
        return maker

    return register


def _random_words(source: Source, recipe: dict, n: int) -> dict:
    return {"random": Tensor("uint16", source.words(16, n))} if recipe["rounding"] == "sr" else {}


@_makes(*(f"bf16.{name}" for name in ("add", "sub", "mul", "div", "rem", "fma", "sqrt")))
def _arithmetic(source: Source, op: str):
    n = 40
    recipe = {"rounding": source.pick(*ROUNDINGS)}
    if op not in ("bf16.fma", "bf16.sqrt"):
        recipe["tininess"] = source.pick("after", "before")
    names = {"bf16.fma": "abc", "bf16.sqrt": "a"}.get(op, "ab")
    return recipe, {name: source.any("bf16", n) for name in names} | _random_words(source, recipe, n)


@_makes(*(f"bf16.{name}" for name in ("minimum", "maximum", "minimumNumber", "maximumNumber")))
def _selection(source: Source, op: str):
    return {"rounding": "rne", "tininess": "after"}, {name: source.any("bf16", 40) for name in "ab"}


@_makes("bf16.roundToIntegral", "bf16.nextUp", "bf16.nextDown")
def _unary(source: Source, op: str):
    return {"rounding": source.pick(*ROUNDINGS[:-1])}, {"a": source.any("bf16", 40)}


@_makes("bf16.compare")
def _compare(source: Source, op: str):
    return {"signalling": source.pick(True, False)}, {name: source.any("bf16", 40) for name in "ab"}


@_makes("bf16.from", "bf16.to")
def _conversion(source: Source, op: str):
    type = source.pick(*bf16.FLOATS, *bf16.INTEGERS)
    if op == "bf16.to":
        return {"target": type, "rounding": source.pick(*ROUNDINGS[:-1])}, {"a": source.any("bf16", 40)}
    recipe = {"source": type, "rounding": source.pick(*ROUNDINGS)}
    return recipe, {"a": source.any(type, 40)} | _random_words(source, recipe, 40)


def _formats(source: Source, *keys: str) -> dict:
    """Output formats, or none of a key."""
    picked = {key: source.pick(None, "fp32", "bf16", "fp16") for key in keys}
    return {key: format for key, format in picked.items() if format}


@_makes("dot.gemm")
def _gemm(source: Source, op: str):
    m, n, k = source.size(8), source.size(8), source.size()
    inputs = {"a": source.bf16(m, k), "b": source.bf16(k, n)}
    if source.pick(True, False):
        inputs["c"] = source.fp32(m, n)
    return {"dot": source.pick("paired-ftz", "chain-ieee")} | _formats(source, "output"), inputs


@_makes("sum.lane16", "sum.lane16x4096", "sum.chain")
def _sum(source: Source, op: str):
    shape = (source.size(5), source.size())
    inputs = {"x": source.fp32(*shape)}
    if source.pick(True, False):
        inputs["y"] = source.fp32(*shape)
    return {}, inputs


@_makes(*(f"math.{name}" for name in FUNCTIONS))
def _math(source: Source, op: str):
    return {}, {"x": source.any("fp32", 20)}


@_makes("random.philox", "random.uniform", "random.gumbel", "random.normal")
def _random(source: Source, op: str):
    if op == "random.philox":
        return {}, {"key": Tensor("uint32", source.words(32, 5, 2)), "counter": Tensor("uint32", source.words(32, 5, 4))}
    return {}, {"words": Tensor("uint32", source.words(32, *((9, 2) if op == "random.normal" else (9,))))}


@_makes("squinch.encode", "squinch.decode", "squinch.feedback")
def _squinch(source: Source, op: str):
    variant, n = source.pick("floor16", "round15", "stochastic15"), source.size()
    if op == "squinch.decode":
        return {"variant": variant, "count": n}, {"blocks": Tensor("uint8", source.words(8, -(-n // 8), 6))}
    words = {"random": Tensor("uint32", source.words(32, n))} if variant == "stochastic15" else {}
    if op == "squinch.feedback":
        return {"variant": variant}, {"x": source.fp32(n), "e": source.fp32(n)} | words
    return {"variant": variant, "nonfinite": "refuse"}, {"x": source.fp32(n, low=90, high=160)} | words


@_makes("allreduce.squinch", "allreduce.bf16", "allreduce.fp32")
def _allreduce(source: Source, op: str):
    ranks, n = source.size(5), source.size()
    if op != "allreduce.squinch":
        return {}, {"g": source.fp32(ranks, n)}
    variant, feedback = source.pick("floor16", "round15", "stochastic15"), source.pick(True, False)
    inputs = {"g": source.fp32(ranks, n)}
    if feedback:
        inputs["e"] = source.fp32(ranks, n)
    if variant == "stochastic15":
        inputs["random"] = Tensor("uint32", source.words(32, ranks, n))
        inputs["random_reduced"] = Tensor("uint32", source.words(32, n))
    return {"variant": variant, "nonfinite": "refuse", "feedback": feedback}, inputs


def _intervals(source: Source, batch: int, tokens: int, length: int) -> dict:
    ends = np.sort(source.rng.integers(0, length + 1, (batch, tokens, 2)), -1).astype(np.int32)
    return {
        "visibility_start": Tensor("int32", np.ascontiguousarray(ends[..., 0])),
        "visibility_limit": Tensor("int32", np.ascontiguousarray(ends[..., 1])),
    }


def _mask_recipe(source: Source) -> dict:
    recipe = {"orientation": source.pick("by-query", "by-key"), "query_offset": source.pick(0, 0, 3)}
    if recipe["orientation"] == "by-key" and source.pick(True, False):
        recipe["window"] = source.size(8)
    return recipe


@_makes("attention.forward", "attention.backward")
def _attention(source: Source, op: str):
    b, g, q, t, d = source.size(2), source.size(2), source.size(8), source.size(13), source.size(8)
    h = g * source.size(3)
    recipe = _mask_recipe(source) | floats(scale=float(source.pick(0.5, 0.3, -1.1))) | {
        "dot": source.pick("paired-ftz", "chain-ieee")
    }  # fmt: skip
    by_query = recipe["orientation"] == "by-query"
    length = t if by_query else recipe["query_offset"] + q
    inputs = {"q": source.bf16(b, h, q, d), "k": source.bf16(b, g, t, d), "v": source.bf16(b, g, t, d)}
    inputs |= _intervals(source, b, q if by_query else t, length)
    if op == "attention.backward":
        recipe |= floats(zreg_c=source.pick(0.0, -0.0, 0.01, -0.5)) | {"form": source.pick("folded", "unfolded", "row-dot")}
        inputs["do"] = source.bf16(b, h, q, d)
    return recipe, inputs


@_makes("zreg.rows")
def _rows(source: Source, op: str):
    shape = (source.size(5), source.size())
    return floats(zreg_c=source.pick(0.0, 0.01, 2.0)) | {"form": source.pick("folded", "unfolded")}, {
        "s": source.fp32(*shape), "dp": source.fp32(*shape)
    }  # fmt: skip


@_makes("visibility.dense")
def _dense(source: Source, op: str):
    recipe = _mask_recipe(source) | {"keys": source.size(), "queries": source.size()}
    by_query = recipe["orientation"] == "by-query"
    length = recipe["keys"] if by_query else recipe["query_offset"] + recipe["queries"]
    return recipe, _intervals(source, source.size(3), recipe["queries" if by_query else "keys"], length)


def _tree(source: Source, nodes: int) -> tuple[list[int], list[int]]:
    path: list[int] = []
    parents = []
    for node in range(nodes):
        del path[len(path) - int(source.rng.integers(len(path) + 1)) :]
        parents.append(path[-1] if path else -1)
        path.append(node)
    return parents, source.rng.integers(1, 4, nodes).tolist()


@_makes("visibility.tree")
def _visibility_tree(source: Source, op: str):
    parents, lengths = _tree(source, source.size())
    return {}, {"parent": Tensor("int32", np.array(parents, np.int32)), "length": Tensor("int32", np.array(lengths, np.int32))}


@_makes("visibility.build")
def _build(source: Source, op: str):
    kind, n = source.pick("causal", "full", "prefix", "window", "documents"), source.size(8)
    inputs = {"length": source.ints(1, 9, n)}
    if kind == "prefix":
        inputs["prefix"] = source.ints(0, 12, n)
    return {"kind": kind} | ({"window": source.size(8)} if kind == "window" else {}), inputs


@_makes("clamp.dynamic", "clamp.static")
def _clamp(source: Source, op: str):
    n, m, t = source.size(), source.size(), source.size(8)
    recipe = floats(**({"kappa": 1.5} if op == "clamp.dynamic" else {"limit": 0.7})) | {
        "activation": source.pick("none", "relu2"), "gradient": source.pick("straight-through", "inward"),
        "int8": source.pick(True, False),
    }  # fmt: skip
    inputs = {"w": source.bf16(n, m, low=118, high=125)} if op == "clamp.dynamic" else {}
    return recipe, inputs | {"y": source.fp32(t, m, low=118, high=128), "dy": source.fp32(t, m)}


@_makes("gumbel.topk", "gumbel.replacement", "gumbel.softmax")
def _gumbel(source: Source, op: str):
    shape = (source.size(5), source.size())
    recipe = {"seed": f"{int(source.words(64, 1)[0]):016x}", "stream": int(source.pick(0, 2, 2**32 - 1)), "step": int(source.rng.integers(1 << 32))}
    inputs = {"logits": source.fp32(*shape, low=118, high=129)}
    if op == "gumbel.softmax":
        return recipe | floats(tau=float(source.pick(0.3, 1.0, 5.0))), inputs | {"dy": source.fp32(*shape)}
    return recipe | {"k": source.pick(0, 1, 2, 5, 40)}, inputs


@_makes("layer.rmsnorm")
def _rmsnorm(source: Source, op: str):
    n, c = source.size(8), source.size()
    return floats(epsilon=1e-5), {"x": source.bf16(n, c), "gain": source.bf16(c), "dy": source.bf16(n, c)}


@_makes("layer.rope")
def _rope(source: Source, op: str):
    shape = (source.size(5), source.size(3), 2 * source.size(5))
    positions = source.ints(0, int(source.pick(50, 1 << 29)), shape[0])
    return floats(base=float(source.pick(10000.0, 500.0, 1.0))), {"x": source.bf16(*shape), "position": positions, "dy": source.bf16(*shape)}


@_makes("layer.relu2")
def _relu2(source: Source, op: str):
    return {}, {"x": source.any("bf16", 40), "dy": source.any("fp32", 40)}


@_makes("layer.swiglu")
def _swiglu(source: Source, op: str):
    return {}, {"gate": source.any("bf16", 40), "up": source.any("bf16", 40), "dy": source.any("fp32", 40)}


@_makes("layer.linear")
def _linear(source: Source, op: str):
    b, t, i, o = source.size(3), source.size(7), source.size(13), source.size(13)
    recipe = {"dot": source.pick("paired-ftz", "chain-ieee")} | _formats(source, "output", "dw_output")
    return recipe, {"x": source.bf16(b, t, i), "w": source.bf16(i, o), "dy": source.bf16(b, t, o)}


@_makes("layer.embedding")
def _embedding(source: Source, op: str):
    n, v, c = source.size(), source.size(), source.size(8)
    return {}, {"tokens": source.ints(0, v, n), "w": source.bf16(v, c), "dy": source.bf16(n, c)}


@_makes("layer.crossEntropy")
def _cross_entropy(source: Source, op: str):
    n, v = source.size(8), source.size()
    return floats(zreg_c=source.pick(0.0, 0.01)), {"logits": source.fp32(n, v), "targets": source.ints(-1, v, n)}


def _slots(source: Source, vocabulary: int, *shape: int) -> tuple[Tensor, Tensor]:
    ids = source.rng.integers(0, vocabulary, shape).astype(np.uint32)
    ids[source.rng.random(shape) < 0.2] = 0xFFFFFFFF
    return Tensor("uint32", ids), Tensor("fp32", source.rng.random(shape, np.float32))


@_makes("layer.sparseCrossEntropy")
def _sparse(source: Source, op: str):
    n, v, k = source.size(8), source.size(), source.size(5)
    ids, weights = _slots(source, v, n, k)
    return floats(zreg_c=source.pick(0.0, 0.01)), {"logits": source.fp32(n, v), "ids": ids, "weights": weights}


@_makes("layer.adamw")
def _adamw(source: Source, op: str):
    n = source.size()
    recipe = {"step": int(source.pick(1, 2, 77, 100_000))} | floats(
        beta1=float(source.pick(0.0, 0.9)), beta2=float(source.pick(0.95, 0.999)), epsilon=1e-8,
        weight_decay=float(source.pick(0.0, 0.1)), learning_rate=0.003, clip_norm=float(source.pick(0.0, 0.1)),
    )  # fmt: skip
    v = source.fp32(n, low=95, high=110)
    return recipe, {"w": source.fp32(n), "m": source.fp32(n), "v": Tensor("fp32", np.abs(v.array)), "g": source.fp32(n)}


@_makes("training.step")
def _training(source: Source, op: str):
    return random_case(source.rng)


def cases(count: int, seed: int, operations: list[str] | None = None) -> list[Case]:
    """`count` cases of each operation; each operation's are its own, whatever the others."""
    result = []
    for number, (op, maker) in enumerate(MAKERS.items()):
        if operations and not any(op == name or op.startswith(name + ".") for name in operations):
            continue
        source = Source(seed * 1000 + number)
        for index in range(count):
            recipe, inputs = maker(source, op)
            result.append(Case(f"{op}-{index}", op, recipe, "fresh random inputs", [], inputs))
    return result


def generate(path: str, count: int, seed: int, operations: list[str] | None = None) -> int:
    found = cases(count, seed, operations)
    write(path, GoldenFile(found, {"generator": "touchstone python", "seed": f"{seed:016x}"}))
    return len(found)
