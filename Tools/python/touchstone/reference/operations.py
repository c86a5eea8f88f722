"""Every operation of the suites bf16, dot, math, random, squinch and allreduce, by its public name; `model_operations` has the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..files import STORAGE, Case, Tensor
from ..signatures import CheckedCase, check
from . import allreduce, bf16, dot, elementary, random, squinch
from .formats import BF16
from .fp32 import stored, widen


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


Operation = Callable[[CheckedCase, Options], Result]
OPERATIONS: dict[str, Operation] = {}


def _operation(name: str):
    def register(function: Operation) -> Operation:
        OPERATIONS[name] = function
        return function

    return register


def derive(case: Case, options: Options = Options()) -> Result:
    """What the specification says that a case's inputs give.

    Raises OperationError for what the operation's signature refuses, and for values that the specification does.
    """
    given = check(case)
    try:
        return OPERATIONS[given.op](given, options)
    except ValueError as error:
        raise given.error("value", str(error)) from error


# bf16


def _bits_and_flags(pairs: list[tuple[int, int]], type: str = "bf16") -> Result:
    storage = STORAGE[type]
    values = [bits for bits, _ in pairs]
    if storage.kind == "f":
        array = np.array(values, f"uint{8 * storage.itemsize}").view(storage)
    else:
        array = np.array(values, storage)
    return Result({"r": Tensor(type, array), "flags": Tensor("uint8", np.array([f for _, f in pairs], np.uint8))})


def _words(given: CheckedCase) -> list[int]:
    """Of every element its random word, 0 where nothing is drawn."""
    words = given.optional("random")
    return [0] * given.sizes["n"] if words is None else words.tolist()


def _elementwise(function, operands: str) -> Operation:
    def run(given: CheckedCase, options: Options) -> Result:
        rounding, tininess = given.values["rounding"], given.values.get("tininess", "after")
        rows = zip(*(given.array(name).tolist() for name in operands), _words(given))
        return _bits_and_flags([function(*row, rounding, tininess, word) for *row, word in rows])

    return run


for _name, _function, _operands in (
    ("add", bf16.add, "ab"),
    ("sub", bf16.sub, "ab"),
    ("mul", bf16.mul, "ab"),
    ("div", bf16.div, "ab"),
    ("rem", bf16.rem, "ab"),
    ("minimum", bf16.minimum, "ab"),
    ("maximum", bf16.maximum, "ab"),
    ("minimumNumber", bf16.minimum_number, "ab"),
    ("maximumNumber", bf16.maximum_number, "ab"),
    ("sqrt", bf16.sqrt, "a"),
    ("roundToIntegral", bf16.round_to_integral, "a"),
    ("nextUp", bf16.next_up, "a"),
    ("nextDown", bf16.next_down, "a"),
    ("fma", bf16.fma, "abc"),
):
    OPERATIONS[f"bf16.{_name}"] = _elementwise(_function, _operands)


@_operation("bf16.compare")
def _compare(given: CheckedCase, options: Options) -> Result:
    rows = zip(given.array("a").tolist(), given.array("b").tolist())
    return _bits_and_flags([bf16.compare(a, b, given.values["signalling"]) for a, b in rows], "uint8")


@_operation("bf16.from")
def _from(given: CheckedCase, options: Options) -> Result:
    source, rounding, words = given.values["source"], given.values["rounding"], _words(given)
    if source in bf16.INTEGERS:
        rows = zip(given.array("a").tolist(), words)
        return _bits_and_flags([bf16.from_integer(x, rounding, word) for x, word in rows])
    format, rows = bf16.FLOATS[source], zip(given.tensors["a"].bits.tolist(), words)
    return _bits_and_flags([bf16.convert_float(format, BF16, x, rounding, "after", word) for x, word in rows])


@_operation("bf16.to")
def _to(given: CheckedCase, options: Options) -> Result:
    target, rounding = given.values["target"], given.values["rounding"]
    a = given.array("a").tolist()
    if target in bf16.INTEGERS:
        return _bits_and_flags([bf16.to_integer(x, target, rounding) for x in a], target)
    format = bf16.FLOATS[target]
    return _bits_and_flags([bf16.convert_float(BF16, format, x, rounding, "after") for x in a], target)


# dot


def _judged(name: str, value: Tensor, truth: np.ndarray, bounds: np.ndarray) -> Result:
    return Result(
        {name: value},
        {name: Tensor("fp64", canonical_fp64(truth))},
        {name: Tensor("fp64", canonical_fp64(bounds))},
    )


def canonical_fp64(x: np.ndarray) -> np.ndarray:
    """F2 for truth and bounds."""
    return np.where(np.isnan(x), np.uint64(0x7FF8 << 48), x.view(np.uint64)).view(np.float64)


@_operation("dot.gemm")
def _gemm(given: CheckedCase, options: Options) -> Result:
    a, b, c = given.array("a"), given.array("b"), given.optional("c")
    truth, bounds = dot.truth_and_bounds(dot.gemm_terms(a, b, c), (a.shape[0], b.shape[1]))
    product = dot.gemm(given.values["dot"], a, b, c)
    return _judged("d", stored(given.values["output"], product), truth, bounds)


def _summation(function) -> Operation:
    def run(given: CheckedCase, options: Options) -> Result:
        x, y = given.array("x"), given.optional("y")
        truth, bounds = dot.truth_and_bounds(dot.sum_terms(x, y), x.shape[:1])
        return _judged("s", Tensor("fp32", function(x, y)), truth, bounds)

    return run


OPERATIONS["sum.lane16"] = _summation(dot.lane16)
OPERATIONS["sum.lane16x4096"] = _summation(dot.lane16x4096)
OPERATIONS["sum.chain"] = _summation(dot.chain)


# math


def _elementary(name: str) -> Operation:
    def run(given: CheckedCase, options: Options) -> Result:
        x = given.tensors["x"].bits.tolist()
        pairs = [options.rounder(name, bits, (elementary.FP32, elementary.FP64)) for bits in x]
        value = np.array([single for single, _ in pairs], np.uint32).view(np.float32)
        truth = np.array([double for _, double in pairs], np.uint64).view(np.float64)
        return _judged("y", Tensor("fp32", value), truth, np.abs(truth))

    return run


for _name in elementary.FUNCTIONS:
    OPERATIONS[f"math.{_name}"] = _elementary(_name)


# random


@_operation("random.philox")
def _philox(given: CheckedCase, options: Options) -> Result:
    return Result({"words": Tensor("uint32", random.philox(given.array("key"), given.array("counter")))})


@_operation("random.uniform")
def _uniform(given: CheckedCase, options: Options) -> Result:
    return Result({"x": Tensor("fp32", random.uniform(given.array("words")))})


@_operation("random.gumbel")
def _gumbel(given: CheckedCase, options: Options) -> Result:
    return Result({"x": Tensor("fp32", random.gumbel(given.array("words"), options.rounder))})


@_operation("random.normal")
def _normal(given: CheckedCase, options: Options) -> Result:
    return Result({"x": Tensor("fp32", random.normal(given.array("words"), options.rounder))})


# squinch


@_operation("squinch.encode")
def _encode(given: CheckedCase, options: Options) -> Result:
    x = given.tensors["x"]
    values = widen(x.array) if x.type == "bf16" else x.array
    blocks = squinch.encode(given.values["variant"], values, given.optional("random"), given.values["nonfinite"])
    return Result({"blocks": Tensor("uint8", blocks)})


@_operation("squinch.decode")
def _decode(given: CheckedCase, options: Options) -> Result:
    x = squinch.decode(given.values["variant"], given.array("blocks"), given.values["count"])
    return Result({"x": Tensor("fp32", x)})


@_operation("squinch.feedback")
def _feedback(given: CheckedCase, options: Options) -> Result:
    blocks, decoded, residual = squinch.feedback(
        given.values["variant"], given.array("x"), given.array("e"), given.optional("random")
    )
    return Result(
        {"blocks": Tensor("uint8", blocks), "decoded": Tensor("fp32", decoded), "residual": Tensor("fp32", residual)}
    )


# allreduce


@_operation("allreduce.squinch")
def _allreduce_squinch(given: CheckedCase, options: Options) -> Result:
    inputs = (given.optional(name) for name in ("g", "e", "random", "random_reduced"))
    outputs = allreduce.in_squinch(given.values["variant"], given.values["nonfinite"], *inputs)
    return Result({name: Tensor.from_numbers(array) for name, array in outputs.items()})


@_operation("allreduce.bf16")
def _allreduce_bf16(given: CheckedCase, options: Options) -> Result:
    return Result({"r": Tensor("bf16", allreduce.in_bf16(given.array("g")))})


@_operation("allreduce.fp32")
def _allreduce_fp32(given: CheckedCase, options: Options) -> Result:
    return Result({"r": Tensor("fp32", allreduce.in_fp32(given.array("g")))})
