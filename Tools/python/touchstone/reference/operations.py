"""Every operation of the suites bf16, dot, math, random, squinch and allreduce, by its public name; `model_operations` has the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..files import STORAGE, Case, Tensor
from . import allreduce, bf16, dot, elementary, random, squinch
from .formats import BF16, ROUNDINGS


class OperationError(Exception):
    """A case that the specification does not allow: the message names the case and what was expected."""


@dataclass
class Result:
    outputs: dict[str, Tensor] = field(default_factory=dict)
    truth: dict[str, Tensor] = field(default_factory=dict)
    bounds: dict[str, Tensor] = field(default_factory=dict)
    intermediates: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """Which arbitrary-precision library rounds the functions of clause E."""

    rounder: elementary.Rounder = elementary.round_function


class _Reader:
    """A case's recipe and inputs, each asked for by name; what nobody asked for is an error."""

    def __init__(self, case: Case):
        self.case = case
        judged = ("dot.", "sum.", "math.")
        self.keys = {"kappa", "kappa_bits", "n"} if case.op.startswith(judged) else set()
        self.names: set[str] = set()

    def fail(self, message: str) -> OperationError:
        return OperationError(f"case '{self.case.name}' ({self.case.op}): {message}")

    def choice(self, key: str, allowed: tuple, default: Any = None) -> Any:
        self.keys.add(key)
        value = self.case.recipe.get(key, default)
        if not any(type(value) is type(choice) and value == choice for choice in allowed):  # 1 is not true
            raise self.fail(f"recipe key '{key}' is {value!r}; expected one of {', '.join(map(str, allowed))}")
        return value

    def integer(self, key: str) -> int:
        self.keys.add(key)
        value = self.case.recipe.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.fail(f"recipe key '{key}' is {value!r}; expected a count")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        self.keys.add(key)
        value = self.case.recipe.get(key)
        if not isinstance(value, list) or not all(type(entry) is int for entry in value):
            raise self.fail(f"recipe key '{key}' is {value!r}; expected a list of integers")
        return tuple(value)

    def hexadecimal(self, key: str) -> int:
        """A 64-bit integer of 16 lower-case hex digits."""
        self.keys.add(key)
        value = self.case.recipe.get(key)
        if not isinstance(value, str) or len(value) != 16 or set(value) - set("0123456789abcdef"):
            raise self.fail(f"recipe key '{key}' is {value!r}; expected 16 lower-case hex digits")
        return int(value, 16)

    def number(self, key: str) -> np.float32:
        """An fp32 parameter: `key` as a number, `key`_bits as eight hex digits, or both where they agree."""
        self.keys |= {key, f"{key}_bits"}
        value, digits = self.case.recipe.get(key), self.case.recipe.get(f"{key}_bits")
        if value is None and digits is None:
            raise self.fail(f"recipe key '{key}' is missing")
        if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            raise self.fail(f"recipe key '{key}' is {value!r}; expected a number")
        number = None if value is None else np.float32(value)
        if digits is None:
            return number
        if not isinstance(digits, str) or len(digits) != 8 or set(digits) - set("0123456789abcdef"):
            raise self.fail(f"recipe key '{key}_bits' is {digits!r}; expected 8 lower-case hex digits")
        stored = np.array([int(digits, 16)], np.uint32).view(np.float32)[0]
        if number is not None and not (
            number.view(np.uint32) == stored.view(np.uint32) or np.isnan([number, stored]).all()
        ):
            raise self.fail(f"recipe keys '{key}' = {value!r} and '{key}_bits' = {digits} disagree")
        return stored

    def has(self, name: str) -> bool:
        return name in self.case.inputs

    def tensor(self, name: str, types: str | tuple[str, ...], rank: int) -> Tensor:
        self.names.add(name)
        types = (types,) if isinstance(types, str) else types
        tensor = self.case.inputs.get(name)
        if tensor is None:
            raise self.fail(f"inputs/{name} is missing")
        if tensor.type not in types or len(tensor.shape) != rank:
            raise self.fail(
                f"inputs/{name} is {tensor.type} {list(tensor.shape)}; expected {' or '.join(types)} of rank {rank}"
            )
        return tensor

    def array(self, name: str, types: str | tuple[str, ...], rank: int) -> np.ndarray:
        return self.tensor(name, types, rank).array

    def same_shape(self, *arrays: np.ndarray | None) -> None:
        shapes = {array.shape for array in arrays if array is not None}
        if len(shapes) > 1:
            raise self.fail(f"inputs have shapes {', '.join(map(str, sorted(shapes)))}; expected equal ones")

    def finish(self) -> None:
        for key in self.case.recipe:
            if key not in self.keys:
                raise self.fail(f"unknown recipe key '{key}'")
        for name in self.case.inputs:
            if name not in self.names:
                raise self.fail(f"unexpected dataset inputs/{name}")


Operation = Callable[[_Reader, Options], Result]
OPERATIONS: dict[str, Operation] = {}


def _operation(name: str):
    def register(function: Operation) -> Operation:
        OPERATIONS[name] = function
        return function

    return register


def suite_of(op: str) -> str:
    family = op.split(".")[0]
    return {"sum": "dot", "attention": "zreg", "layer": "layers"}.get(family, family)


def derive(case: Case, options: Options = Options()) -> Result:
    """What the specification says that a case's inputs give.

    Raises OperationError for an unknown operation, recipe key or dataset.
    """
    operation = OPERATIONS.get(case.op)
    if operation is None:
        raise OperationError(f"case '{case.name}': unknown operation '{case.op}'")
    reader = _Reader(case)
    result = operation(reader, options)
    reader.finish()
    return result


# bf16


def _bits_and_flags(pairs: list[tuple[int, int]], type: str = "bf16") -> Result:
    storage = STORAGE[type]
    values = [bits for bits, _ in pairs]
    if storage.kind == "f":
        array = np.array(values, f"uint{8 * storage.itemsize}").view(storage)
    else:
        array = np.array(values, storage)
    return Result({"r": Tensor(type, array), "flags": Tensor("uint8", np.array([f for _, f in pairs], np.uint8))})


def _random(reader: _Reader, rounding: str, like: np.ndarray) -> list[int]:
    if rounding != "sr":
        return [0] * len(like)
    words = reader.array("random", "uint16", 1)
    reader.same_shape(words, like)
    return words.tolist()


def _elementwise(function, operands: str, roundings: tuple[str, ...]) -> Operation:
    def run(reader: _Reader, options: Options) -> Result:
        rounding = reader.choice("rounding", roundings, "rne")
        tininess = reader.choice("tininess", ("after", "before"), "after")
        arrays = [reader.array(name, "bf16", 1) for name in operands]
        reader.same_shape(*arrays)
        words = _random(reader, rounding, arrays[0])
        columns = [array.tolist() for array in arrays]
        return _bits_and_flags([function(*row, rounding, tininess, word) for *row, word in zip(*columns, words)])

    return run


_DETERMINISTIC = tuple(rounding for rounding in ROUNDINGS if rounding != "sr")

for _name, _function, _operands, _roundings in (
    ("add", bf16.add, "ab", ROUNDINGS),
    ("sub", bf16.sub, "ab", ROUNDINGS),
    ("mul", bf16.mul, "ab", ROUNDINGS),
    ("div", bf16.div, "ab", ROUNDINGS),
    ("rem", bf16.rem, "ab", ROUNDINGS),
    ("minimum", bf16.minimum, "ab", ROUNDINGS),
    ("maximum", bf16.maximum, "ab", ROUNDINGS),
    ("minimumNumber", bf16.minimum_number, "ab", ROUNDINGS),
    ("maximumNumber", bf16.maximum_number, "ab", ROUNDINGS),
    ("sqrt", bf16.sqrt, "a", ROUNDINGS),
    ("nextUp", bf16.next_up, "a", _DETERMINISTIC),
    ("nextDown", bf16.next_down, "a", _DETERMINISTIC),
    ("fma", bf16.fma, "abc", ROUNDINGS),
):
    OPERATIONS[f"bf16.{_name}"] = _elementwise(_function, _operands, _roundings)
OPERATIONS["bf16.roundToIntegral"] = _elementwise(
    lambda a, rounding, *_: bf16.round_to_integral(a, rounding), "a", _DETERMINISTIC
)


@_operation("bf16.compare")
def _compare(reader: _Reader, options: Options) -> Result:
    signalling = reader.choice("signalling", (True, False))
    a, b = reader.array("a", "bf16", 1), reader.array("b", "bf16", 1)
    reader.same_shape(a, b)
    return _bits_and_flags([bf16.compare(x, y, signalling) for x, y in zip(a.tolist(), b.tolist())], "uint8")


@_operation("bf16.from")
def _from(reader: _Reader, options: Options) -> Result:
    source = reader.choice("source", (*bf16.FLOATS, *bf16.INTEGERS))
    rounding = reader.choice("rounding", ROUNDINGS)
    tininess = reader.choice("tininess", ("after", "before"), "after")
    a = reader.tensor("a", source, 1)
    words = _random(reader, rounding, a.array)
    if source in bf16.INTEGERS:
        return _bits_and_flags([bf16.from_integer(x, rounding, word) for x, word in zip(a.array.tolist(), words)])
    format = bf16.FLOATS[source]
    return _bits_and_flags(
        [bf16.convert_float(format, BF16, x, rounding, tininess, word) for x, word in zip(a.bits.tolist(), words)]
    )


@_operation("bf16.to")
def _to(reader: _Reader, options: Options) -> Result:
    target = reader.choice("target", (*bf16.FLOATS, *bf16.INTEGERS))
    rounding = reader.choice("rounding", _DETERMINISTIC)
    tininess = reader.choice("tininess", ("after", "before"), "after")
    a = reader.array("a", "bf16", 1).tolist()
    if target in bf16.INTEGERS:
        return _bits_and_flags([bf16.to_integer(x, target, rounding) for x in a], target)
    format = bf16.FLOATS[target]
    return _bits_and_flags([bf16.convert_float(BF16, format, x, rounding, tininess) for x in a], target)


# dot


def _judged(name: str, value: np.ndarray, truth: np.ndarray, bounds: np.ndarray) -> Result:
    return Result(
        {name: Tensor("fp32", value)},
        {name: Tensor("fp64", canonical_fp64(truth))},
        {name: Tensor("fp64", canonical_fp64(bounds))},
    )


def canonical_fp64(x: np.ndarray) -> np.ndarray:
    """F2 for truth and bounds."""
    return np.where(np.isnan(x), np.uint64(0x7FF8 << 48), x.view(np.uint64)).view(np.float64)


@_operation("dot.gemm")
def _gemm(reader: _Reader, options: Options) -> Result:
    recipe = reader.choice("dot", ("paired-ftz", "chain-ieee"))
    a, b = reader.array("a", "bf16", 2), reader.array("b", "bf16", 2)
    c = reader.array("c", "fp32", 2) if reader.has("c") else None
    if a.shape[1] != b.shape[0] or (c is not None and c.shape != (a.shape[0], b.shape[1])):
        raise reader.fail(f"shapes {a.shape}, {b.shape}{'' if c is None else f', {c.shape}'} do not fit")
    truth, bounds = dot.truth_and_bounds(dot.gemm_terms(a, b, c), (a.shape[0], b.shape[1]))
    return _judged("d", dot.gemm(recipe, a, b, c), truth, bounds)


def _summation(function) -> Operation:
    def run(reader: _Reader, options: Options) -> Result:
        x = reader.array("x", "fp32", 2)
        y = reader.array("y", "fp32", 2) if reader.has("y") else None
        reader.same_shape(x, y)
        truth, bounds = dot.truth_and_bounds(dot.sum_terms(x, y), x.shape[:1])
        return _judged("s", function(x, y), truth, bounds)

    return run


OPERATIONS["sum.lane16"] = _summation(dot.lane16)
OPERATIONS["sum.lane16x4096"] = _summation(dot.lane16x4096)
OPERATIONS["sum.chain"] = _summation(dot.chain)


# math


def _elementary(name: str) -> Operation:
    def run(reader: _Reader, options: Options) -> Result:
        x = reader.tensor("x", "fp32", 1)
        pairs = [options.rounder(name, bits, (elementary.FP32, elementary.FP64)) for bits in x.bits.tolist()]
        value = np.array([single for single, _ in pairs], np.uint32).view(np.float32)
        truth = np.array([double for _, double in pairs], np.uint64).view(np.float64)
        return _judged("y", value, truth, np.abs(truth))

    return run


for _name in elementary.FUNCTIONS:
    OPERATIONS[f"math.{_name}"] = _elementary(_name)


# random


@_operation("random.philox")
def _philox(reader: _Reader, options: Options) -> Result:
    key, counter = reader.array("key", "uint32", 2), reader.array("counter", "uint32", 2)
    return Result({"words": Tensor("uint32", random.philox(key, counter))})


@_operation("random.uniform")
def _uniform(reader: _Reader, options: Options) -> Result:
    return Result({"x": Tensor("fp32", random.uniform(reader.array("words", "uint32", 1)))})


@_operation("random.gumbel")
def _gumbel(reader: _Reader, options: Options) -> Result:
    return Result({"x": Tensor("fp32", random.gumbel(reader.array("words", "uint32", 1), options.rounder))})


@_operation("random.normal")
def _normal(reader: _Reader, options: Options) -> Result:
    return Result({"x": Tensor("fp32", random.normal(reader.array("words", "uint32", 2), options.rounder))})


# squinch


def _squinch_words(reader: _Reader, variant: str, name: str, rank: int) -> np.ndarray | None:
    return reader.array(name, "uint32", rank) if variant == "stochastic15" else None


@_operation("squinch.encode")
def _encode(reader: _Reader, options: Options) -> Result:
    variant = reader.choice("variant", squinch.VARIANTS)
    nonfinite = reader.choice("nonfinite", ("refuse", "saturate"))
    x = reader.tensor("x", ("fp32", "bf16"), 1)
    words = _squinch_words(reader, variant, "random", 1)
    values = x.array if x.type == "fp32" else (x.array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return Result({"blocks": Tensor("uint8", squinch.encode(variant, values, words, nonfinite))})


@_operation("squinch.decode")
def _decode(reader: _Reader, options: Options) -> Result:
    variant = reader.choice("variant", squinch.VARIANTS)
    count = reader.integer("count")
    return Result({"x": Tensor("fp32", squinch.decode(variant, reader.array("blocks", "uint8", 2), count))})


@_operation("squinch.feedback")
def _feedback(reader: _Reader, options: Options) -> Result:
    variant = reader.choice("variant", squinch.VARIANTS)
    x, e = reader.array("x", "fp32", 1), reader.array("e", "fp32", 1)
    words = _squinch_words(reader, variant, "random", 1)
    reader.same_shape(x, e, words)
    blocks, decoded, residual = squinch.feedback(variant, x, e, words)
    return Result(
        {"blocks": Tensor("uint8", blocks), "decoded": Tensor("fp32", decoded), "residual": Tensor("fp32", residual)}
    )


# allreduce


@_operation("allreduce.squinch")
def _allreduce_squinch(reader: _Reader, options: Options) -> Result:
    variant = reader.choice("variant", squinch.VARIANTS)
    nonfinite = reader.choice("nonfinite", ("refuse", "saturate"))
    g = reader.array("g", "fp32", 2)
    e = reader.array("e", "fp32", 2) if reader.choice("feedback", (True, False)) else None
    words = _squinch_words(reader, variant, "random", 2)
    reduced = _squinch_words(reader, variant, "random_reduced", 1)
    reader.same_shape(g, e, words)
    outputs = allreduce.in_squinch(variant, nonfinite, g, e, words, reduced)
    return Result({name: Tensor.from_numbers(array) for name, array in outputs.items()})


@_operation("allreduce.bf16")
def _allreduce_bf16(reader: _Reader, options: Options) -> Result:
    return Result({"r": Tensor("bf16", allreduce.in_bf16(reader.array("g", "fp32", 2)))})


@_operation("allreduce.fp32")
def _allreduce_fp32(reader: _Reader, options: Options) -> Result:
    return Result({"r": Tensor("fp32", allreduce.in_fp32(reader.array("g", "fp32", 2)))})
