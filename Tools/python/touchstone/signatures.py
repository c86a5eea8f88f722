"""What every operation takes and gives, and the check of a case against it.

operations.json is the contract as data: what `touchstone operations --json` prints. A case is checked in the order recipe,
inputs, sizes, elements, with the messages that the program has for the same mistakes. What the table cannot say (valid
intervals of a mask, a norm that is finite) is left to the derivation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import STORAGE, Case, Tensor

if TYPE_CHECKING:
    from .reference.transformer.configuration import Configuration

KINDS = ("unknownOperation", "recipe", "input", "value")


class OperationError(Exception):
    """A case that the specification does not allow: the operation, the key or dataset, what was found and expected."""

    def __init__(self, kind: str, message: str, case_name: str | None = None):
        super().__init__(message)
        self.kind = kind  # of KINDS
        self.message = message
        self.case_name = case_name

    def __str__(self) -> str:
        return self.message if self.case_name is None else f"case '{self.case_name}': {self.message}"


# The table


@dataclass(frozen=True)
class Presence:
    """When a key or a tensor is there: `required`, `optional`, or `when` or `unless` a key has one of some values."""

    kind: str
    key: str = ""
    values: tuple[str, ...] = ()

    def allows(self, text: Callable[[str], str]) -> bool:
        """`text` gives the value of a key."""
        if self.kind in ("required", "optional"):
            return True
        return (text(self.key) in self.values) == (self.kind == "when")


FLOAT_RANGES: dict[str, Callable[[np.float32], bool]] = {
    "a number": lambda value: True,
    "0 or more": lambda value: value >= 0,
    "a finite number, 0 or more": lambda value: value >= 0 and np.isfinite(value),
    "a finite number above 0": lambda value: value > 0 and np.isfinite(value),
    "0 or more and below 1": lambda value: 0 <= value < 1,
    "1 or more": lambda value: value >= 1 and np.isfinite(value),
}


@dataclass(frozen=True)
class Key:
    """A key of a recipe."""

    name: str
    kind: str  # choice, flag, integer, integers, fp32, hexadecimal64
    presence: Presence
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0
    range: str = "a number"  # of FLOAT_RANGES
    size: str | None = None  # the letter whose size the integer is
    default: Any = None
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """An fp32 key has a twin of its bits."""
        return (self.name, f"{self.name}_bits") if self.kind == "fp32" else (self.name,)

    @property
    def expectation(self) -> str:
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        if self.kind == "integer":
            return f"an integer in {self.minimum}...{self.maximum}"
        return {
            "flag": "true or false", "integers": "an array of integers", "fp32": "a number",
            "hexadecimal64": "16 lower-case hex digits",
        }[self.kind]  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """A size of ceil(n / 8): the Squinch blocks of n values."""

    of: str

    def __str__(self) -> str:
        return f"ceil({self.of}/8)"


Dimension = str | int | Blocks  # a letter, bound where it first appears; a fixed size


@dataclass(frozen=True)
class ElementRange:
    """The values that an integer tensor may hold: lower ..< upper, and a sentinel."""

    lower: int
    upper: Dimension
    sentinel: int | None = None

    def __str__(self) -> str:
        upper = str(self.upper)
        if isinstance(self.upper, int) and self.upper > 1 << 16 and self.upper & (self.upper - 1) == 0:
            upper = f"2^{self.upper.bit_length() - 1}"
        return f"{self.lower} ..< {upper}" + ("" if self.sentinel is None else f" or {self.sentinel}")


@dataclass(frozen=True)
class TensorSignature:
    """A tensor among the inputs or outputs."""

    name: str
    shape: tuple[Dimension, ...]
    presence: Presence = Presence("required")
    types: tuple[str, ...] = ()
    type_key: str | None = None  # the key of the recipe that names the type, in place of `types`
    range: ElementRange | None = None
    bounded: bool = False  # of an output: `truth` and `bounds` stand beside it
    note: str = ""

    def types_under(self, values: dict[str, Any]) -> tuple[str, ...]:
        return self.types if self.type_key is None else (values[self.type_key],)

    def expectation(self, values: dict[str, Any]) -> str:
        return f"{' or '.join(self.types_under(values))} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class SizeRule:
    """What sizes demand of one another."""

    rule: str  # at_least, even, multiple, product
    letters: tuple[str, ...]
    limit: int = 0

    def __str__(self) -> str:
        if self.rule == "at_least":
            return f"{self.letters[0]} of at least {self.limit}"
        if self.rule == "even":
            return f"an even {self.letters[0]}"
        if self.rule == "multiple":
            return f"{self.letters[0]} a multiple of {self.letters[1]}"
        return f"{' x '.join(self.letters)} of at most 2^{self.limit.bit_length() - 1}"

    def holds(self, sizes: dict[str, int]) -> bool:
        found = [sizes[letter] for letter in self.letters]
        if self.rule == "at_least":
            return found[0] >= self.limit
        if self.rule == "even":
            return found[0] % 2 == 0
        if self.rule == "multiple":
            return found[1] > 0 and found[0] % found[1] == 0
        product = 1
        for size in found:
            product *= size
        return product <= self.limit


@dataclass(frozen=True)
class Signature:
    """The contract of one operation."""

    name: str
    suite: str
    summary: str
    clauses: tuple[str, ...]
    recipe: tuple[Key, ...]
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    sizes: tuple[SizeRule, ...]
    takes_configuration: bool
    bound: dict[str, Any] | None = None  # the constants of Q3, for those who judge


@dataclass(frozen=True)
class Table:
    spec_version: str
    operations: dict[str, Signature]
    configuration: dict[str, Key]


def _presence(entry: dict) -> Presence:
    return Presence(entry["kind"], entry.get("key", ""), tuple(entry.get("values", ())))


def _key(entry: dict) -> Key:
    made = {"presence": _presence(entry["presence"]), "choices": tuple(entry.get("choices", ()))}
    return Key(**(entry | made))


def _dimension(entry: Any) -> Dimension:
    return Blocks(entry["blocks_of"]) if isinstance(entry, dict) else entry


def _tensor(entry: dict) -> TensorSignature:
    made = {
        "presence": _presence(entry["presence"]), "types": tuple(entry.get("types", ())),
        "shape": tuple(map(_dimension, entry["shape"])),
    }  # fmt: skip
    if "range" in entry:
        limits = entry["range"]
        made["range"] = ElementRange(limits["lower"], _dimension(limits["upper"]), limits.get("sentinel"))
    return TensorSignature(**(entry | made))


def _size_rule(entry: dict) -> SizeRule:
    letters = entry.get("letters") or [entry["letter"], *([entry["of"]] if "of" in entry else [])]
    return SizeRule(entry["rule"], tuple(letters), entry.get("value", entry.get("at_most", 0)))


def _signature(entry: dict) -> Signature:
    made = {
        "clauses": tuple(entry["clauses"]), "recipe": tuple(map(_key, entry["recipe"])),
        "inputs": tuple(map(_tensor, entry["inputs"])), "outputs": tuple(map(_tensor, entry["outputs"])),
        "sizes": tuple(map(_size_rule, entry["sizes"])),
    }  # fmt: skip
    return Signature(**(entry | made))


@cache
def table() -> Table:
    entries = json.loads(Path(__file__).with_name("operations.json").read_text(encoding="utf-8"))
    operations = {entry["name"]: _signature(entry) for entry in entries["operations"]}
    configuration = {entry["name"]: _key(entry) for entry in entries["configuration"]}
    return Table(entries["spec_version"], operations, configuration)


def names() -> tuple[str, ...]:
    """Every operation, in the order of the suites."""
    return tuple(table().operations)


def suites() -> tuple[str, ...]:
    return tuple(dict.fromkeys(signature.suite for signature in table().operations.values()))


def suite_of(name: str) -> str:
    """The suite of an operation; `unknown` for a name that is none."""
    found = table().operations.get(name)
    return found.suite if found else "unknown"


def signature(name: str) -> Signature:
    """Raises OperationError for a name that is none, with the nearest one."""
    found = table().operations.get(name)
    if found:
        return found
    if not name:
        message = "the case has no attribute 'op': it names the operation, such as 'dot.gemm'"
        raise OperationError("unknownOperation", message)
    nearest = min(names(), key=lambda other: _edit_distance(other, name))
    raise OperationError("unknownOperation", f"unknown operation '{name}'; did you mean '{nearest}'?")


def _edit_distance(first: str, second: str) -> int:
    """Levenshtein's: letters to change, add or drop."""
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first):
        previous, row[0] = row[0], i + 1
        for j, other in enumerate(second):
            changed = previous + (letter != other)
            previous = row[j + 1]
            row[j + 1] = min(changed, row[j + 1] + 1, row[j] + 1)
    return row[-1]


def state_signatures(configuration: Configuration) -> tuple[TensorSignature, ...]:
    """Masters, optimizer state and residuals of every parameter of T1, in its order."""
    from .reference.transformer.configuration import parameters

    found = []
    for parameter in parameters(configuration):
        shapes = {kind: parameter.shape for kind in ("weight", "m", "v")}
        if configuration.error_feedback:
            shapes["residual"] = (configuration.ranks, parameter.count)
        found += [TensorSignature(f"{kind}.{parameter.name}", shape, types=("fp32",)) for kind, shape in shapes.items()]
    return tuple(found)


# Values of a recipe


def number_text(value: float | np.float32) -> str:
    """The shortest digits; with an exponent below 1e-4 and above the integers that the type counts one by one."""
    if not np.isfinite(value):
        return str(float(value))
    scientific = np.format_float_scientific(value, unique=True, trim="-", exp_digits=2)
    limit = 2.0**24 if isinstance(value, np.float32) else 2.0**54
    if int(scientific.split("e")[1]) < -4 or abs(value) > limit:
        return scientific
    return np.format_float_positional(value, unique=True, trim="0")


def _plain(value: Any) -> str:
    """A value as conditions name it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (float, np.float32)):
        return number_text(value)
    if isinstance(value, int) and not _is_integer(value):
        return number_text(float(value))
    return "an array" if isinstance(value, list) else "an object" if isinstance(value, dict) else str(value)


def _found(recipe: dict, name: str) -> str:
    """For messages."""
    if name not in recipe:
        return "is missing"
    value = recipe[name]
    return f'is "{value}"' if isinstance(value, str) else f"is {_plain(value)}"


def _hexadecimal(value: Any, digits: int) -> int | None:
    """The value of exactly that many lower-case hex digits."""
    if not isinstance(value, str) or len(value) != digits or set(value) - set("0123456789abcdef"):
        return None
    return int(value, 16)


def _is_integer(value: Any) -> bool:
    """An integer beyond 64 bits is a number like any other."""
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def _nearest_fp32(value: float) -> np.float32:
    """An integer is rounded once, any other number by way of fp64."""
    with np.errstate(over="ignore"):
        return np.int64(value).astype(np.float32) if _is_integer(value) else np.float32(value)


def _from_bits(bits: int) -> np.float32:
    return np.array([bits], np.uint32).view(np.float32)[0]


class _WrongValue(Exception):
    """The key, what was found and what was expected."""

    def __init__(self, name: str, message: str):
        super().__init__(message)
        self.name = name


def _wrong(recipe: dict, name: str, expected: str) -> _WrongValue:
    return _WrongValue(name, f"{_found(recipe, name)}; expected {expected}")


def _fp32_parts(key: Key, recipe: dict) -> tuple[np.float32 | None, np.float32 | None]:
    """The value by its number and by its bits."""
    number = bits = None
    if key.name in recipe:
        value = recipe[key.name]
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _wrong(recipe, key.name, "a number")
        number = _nearest_fp32(value)
    if f"{key.name}_bits" in recipe:
        pattern = _hexadecimal(recipe[f"{key.name}_bits"], 8)
        if pattern is None:
            raise _wrong(recipe, f"{key.name}_bits", "8 lower-case hex digits")
        bits = _from_bits(pattern)
    return number, bits


def _plain_value(key: Key, recipe: dict) -> Any:
    """The value of a key that is no fp32 number."""
    value = recipe.get(key.name)
    if key.kind == "hexadecimal64":
        value = _hexadecimal(value, 16)
    accepted = {
        "choice": lambda: isinstance(value, str) and value in key.choices,
        "flag": lambda: isinstance(value, bool),
        "integer": lambda: _is_integer(value) and key.minimum <= value <= key.maximum,
        "integers": lambda: False,  # in configurations alone
        "hexadecimal64": lambda: value is not None,
    }
    if not accepted[key.kind]():
        raise _wrong(recipe, key.name, key.expectation)
    return value


# Configurations


def _configured(key: Key, recipe: dict) -> Any:
    """The value of a key of a configuration: what the keys demand of one another is checked later."""
    value = recipe[key.name]
    if key.kind == "integer" and not _is_integer(value):
        raise _wrong(recipe, key.name, "an integer")
    if key.kind == "integers":
        if not isinstance(value, list):
            raise _wrong(recipe, key.name, key.expectation)
        for entry in value:
            if not _is_integer(entry):
                raise _wrong({key.name: entry}, key.name, "an integer")
        return tuple(value)
    return value if key.kind == "integer" else _plain_value(key, recipe)


def _configured_fp32(key: Key, recipe: dict) -> np.float32:
    number, bits = _fp32_parts(key, recipe)
    if bits is None:
        return number
    if number is not None and number != bits:
        digits = recipe[f"{key.name}_bits"]
        message = f"is {_plain(float(number))}, but {key.name}_bits says {_plain(bits)} ({digits})"
        raise _WrongValue(key.name, message)
    return bits


def _configuration_values(recipe: dict) -> dict[str, Any]:
    """What is not there is left to the defaults."""
    keys = table().configuration
    values = {}
    for key in keys.values():
        if any(name in recipe for name in key.names):
            values[key.name] = (_configured_fp32 if key.kind == "fp32" else _configured)(key, recipe)
    known = {name for key in keys.values() for name in key.names}
    for name in sorted(recipe):
        if name not in known:
            nearest = min(keys, key=lambda other: _edit_distance(other, name))
            raise _WrongValue(name, f"is unknown; did you mean '{nearest}'?")
    return values


def read_configuration(recipe: dict) -> Configuration:
    """A configuration from keys and values. Raises ConfigurationError."""
    from .reference.transformer.configuration import Configuration, ConfigurationError

    try:
        configuration = Configuration(**_configuration_values(recipe))
    except _WrongValue as error:
        raise ConfigurationError(error.name, str(error)) from None
    configuration.validate()
    return configuration


# Cases


@dataclass
class CheckedCase:
    """A case that its operation's signature accepts, decoded.

    `values` has what the recipe says by key: text, bool, int, float32, and the default of a choice that was left out;
    `sizes` the size of every letter; `tensors` the inputs that are there.
    """

    case: Case
    signature: Signature
    configuration: Configuration | None = None
    values: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def op(self) -> str:
        return self.signature.name

    def array(self, name: str) -> np.ndarray:
        return self.tensors[name].array

    def optional(self, name: str) -> np.ndarray | None:
        """None for an input that the case leaves out."""
        return self.tensors[name].array if name in self.tensors else None

    def error(self, kind: str, message: str) -> OperationError:
        return OperationError(kind, f"{self.op}: {message}", self.case.name)


def check(case: Case) -> CheckedCase:
    """Raises OperationError, naming the operation, the key or dataset, what was found and what was expected."""
    try:
        found = signature(case.op)
    except OperationError as error:
        error.case_name = case.name
        raise
    given = CheckedCase(case, found)
    if found.takes_configuration:
        _read_configuration(given)
    _check_recipe(given)
    inputs = _present_inputs(given)
    _check_inputs(given, inputs)
    for rule in found.sizes:
        if not rule.holds(given.sizes):
            sizes = ", ".join(f"{letter} is {given.sizes[letter]}" for letter in rule.letters)
            raise given.error("input", f"{sizes}; expected {rule}")
    for tensor in inputs:
        if tensor.range is not None and tensor.name in given.tensors:
            _check_elements(given, tensor)
    return given


def _read_configuration(given: CheckedCase) -> None:
    from .reference.transformer.configuration import ConfigurationError

    own = {key.name for key in given.signature.recipe}
    recipe = {name: value for name, value in given.case.recipe.items() if name not in own}
    try:
        c = given.configuration = read_configuration(recipe)
    except ConfigurationError as error:
        raise given.error("recipe", str(error)) from None
    given.sizes = {"V": c.vocabulary, "B": c.batch, "T": c.sequence_length, "k": c.distillation_k}


def _text(given: CheckedCase, key: str) -> str:
    """The value of a key as text, for conditions."""
    return _plain(given.values[key] if key in given.values else getattr(given.configuration, key))


def _check_recipe(given: CheckedCase) -> None:
    recipe, known = given.case.recipe, set()
    for key in given.signature.recipe:
        if not key.presence.allows(lambda name: _text(given, name)):
            continue
        known.update(key.names)
        if key.presence.kind == "optional" and not any(name in recipe for name in key.names):
            if key.kind == "choice" and key.default is not None:
                given.values[key.name] = key.default
            continue
        value = given.values[key.name] = _key_value(given, key)
        if key.size:
            given.sizes[key.size] = value
    if given.signature.takes_configuration:  # its own reader refuses unknown keys
        return
    for name in sorted(recipe):
        if name not in known:
            expected = ", ".join(sorted(known)) or "none"
            raise given.error("recipe", f"unknown recipe key '{name}'; it has {expected}")


def _key_value(given: CheckedCase, key: Key) -> Any:
    try:
        return _fp32_value(given, key) if key.kind == "fp32" else _plain_value(key, given.case.recipe)
    except _WrongValue as error:
        raise given.error("recipe", f"recipe key '{error.name}' {error}") from None


def _fp32_value(given: CheckedCase, key: Key) -> np.float32:
    """The bits rule; where a number stands beside them, it must say the same."""
    recipe = given.case.recipe
    number, bits = _fp32_parts(key, recipe)
    if number is None and bits is None:
        raise _wrong(recipe, key.name, "a number")
    if number is not None and bits is not None and number.view(np.uint32) != bits.view(np.uint32):
        values = f"{_plain(number)} and {_plain(bits)} ({recipe[f'{key.name}_bits']})"
        raise given.error("recipe", f"recipe keys '{key.name}' and '{key.name}_bits' disagree: {values}")
    value = number if bits is None else bits
    if not FLOAT_RANGES[key.range](value):
        raise given.error("recipe", f"recipe key '{key.name}' is {_plain(value)}; expected {key.range}")
    return value


def _present_inputs(given: CheckedCase) -> list[TensorSignature]:
    state = state_signatures(given.configuration) if given.configuration else ()
    listed = (*given.signature.inputs, *state)
    return [tensor for tensor in listed if tensor.presence.allows(lambda key: _text(given, key))]


def _check_inputs(given: CheckedCase, inputs: list[TensorSignature]) -> None:
    for expected in inputs:
        tensor = given.case.inputs.get(expected.name)
        if tensor is not None:
            _check_type(given, tensor, expected)
            _check_shape(given, tensor, expected)
            given.tensors[expected.name] = tensor
        elif expected.presence.kind != "optional":
            raise given.error(
                "input", f"inputs/{expected.name} is missing; expected {expected.expectation(given.values)}"
            )
    known = sorted(tensor.name for tensor in inputs)
    for name in given.case.inputs:
        if name not in known:
            shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise given.error("input", f"unexpected dataset inputs/{name}; it has {shown}")


def _mismatch(given: CheckedCase, tensor: Tensor, expected: TensorSignature, why: str = "") -> OperationError:
    found = f"inputs/{expected.name} is {tensor.type} {list(tensor.shape)}"
    return given.error("input", f"{found}; expected {expected.expectation(given.values)}{why}")


def _check_type(given: CheckedCase, tensor: Tensor, expected: TensorSignature) -> None:
    types = expected.types_under(given.values)
    if tensor.type in types:
        return
    halves = [name for name in types if name in ("bf16", "fp16")]
    if not halves or STORAGE[tensor.type].itemsize != 2:
        raise _mismatch(given, tensor, expected)
    holds = f'; uint16 with the attribute element_type = "{halves[0]}" holds its bits'
    raise _mismatch(given, tensor, expected, f"{holds}, and so do HDF5's own floats of 16 bits")


def _check_shape(given: CheckedCase, tensor: Tensor, expected: TensorSignature) -> None:
    if len(tensor.shape) != len(expected.shape):
        raise _mismatch(given, tensor, expected)
    for dimension, size in zip(expected.shape, tensor.shape):
        if isinstance(dimension, int):
            if size != dimension:
                raise _mismatch(given, tensor, expected)
            continue
        letter = dimension if isinstance(dimension, str) else dimension.of
        bound = given.sizes.setdefault(letter, size) if isinstance(dimension, str) else given.sizes[letter]
        if size != (bound if isinstance(dimension, str) else -(-bound // 8)):
            raise _mismatch(given, tensor, expected, f" with {letter} = {bound}")


def _check_elements(given: CheckedCase, expected: TensorSignature) -> None:
    limits = expected.range
    upper = limits.upper if isinstance(limits.upper, int) else given.sizes[limits.upper]
    values = given.array(expected.name).reshape(-1).astype(np.int64)
    wrong = (values < limits.lower) | (values >= upper)
    if limits.sentinel is not None:
        wrong &= values != limits.sentinel
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        size = "" if isinstance(limits.upper, int) else f" with {limits.upper} = {upper}"
        message = f"inputs/{expected.name} is {values[index]} at index {index}; expected {limits}{size}"
        raise given.error("value", message)
