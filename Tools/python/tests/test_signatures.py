"""The table of signatures: every shipped case passes, and of every operation each kind of mistake is refused by name."""

import copy
from collections import Counter
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from touchstone import signatures
from touchstone.__main__ import main
from touchstone.files import STORAGE, Case, GoldenFile, Tensor, read, write
from touchstone.reference import OPERATIONS, derive
from touchstone.reference.transformer import operations
from touchstone.reference.transformer.configuration import Configuration
from touchstone.signatures import FLOAT_RANGES, KINDS, Blocks, OperationError, Signature, TensorSignature, check
from touchstone.verify import golden_files

GOLDENS = Path(__file__).parents[3] / "GoldenData"
LEAST = 15  # wrong cases of every operation
MISTAKES = 16  # kinds of them

# Of every range of an fp32 key, values outside it.
OUTSIDE = {
    "a number": (),
    "0 or more": (-1, -np.inf, np.nan),
    "a finite number, 0 or more": (-1, -np.inf, np.inf, np.nan),
    "a finite number above 0": (-1, 0, -0.0, np.inf, np.nan),
    "0 or more and below 1": (-0.5, 1, np.inf, np.nan),
    "1 or more": (0.5, -1, np.inf, np.nan),
}
# Of every kind of key, values of another kind.
OF_ANOTHER_KIND = {
    "choice": ("nonsense", "", 1, True, None, [], {}),
    "flag": (1, 0, "true", None, []),
    "integer": (1.5, "1", True, None, []),
    "integers": (1, "1", None, [1.5], ["1"], [True]),
    "fp32": ("1", True, None, []),
    "hexadecimal64": ("0123456789ABCDEF", "012345678", "", 7, True, None),
}
MALFORMED_BITS = ("3F800000", "3f80000", "3f8000000", "0x3f8000", "", 1065353216, None)


@cache
def shipped() -> tuple[Case, ...]:
    return tuple(case for path in golden_files(str(GOLDENS)) for case in read(path).cases)


def elements(case: Case) -> int:
    return sum(tensor.array.size for tensor in case.inputs.values())


def zeros(type: str, shape) -> Tensor:
    return Tensor(type, np.zeros(tuple(shape), STORAGE[type]))


def constructed(signature: Signature) -> Case:
    """A case of an operation that has none yet: every key and tensor that must be there, every letter of size 3."""
    first = {"choice": lambda key: key.choices[0], "flag": lambda key: False, "integer": lambda key: key.minimum}
    first |= {"fp32": lambda key: 1.0, "hexadecimal64": lambda key: "0" * 16}
    recipe = {key.name: first[key.kind](key) for key in signature.recipe if key.presence.kind == "required"}
    inputs = {
        tensor.name: zeros((tensor.types or (recipe.get(tensor.type_key),))[0], [3 if isinstance(d, str) else d for d in tensor.shape])
        for tensor in signature.inputs
        if tensor.presence.kind == "required"
    }
    return Case("constructed", signature.name, recipe, inputs=inputs)


@cache
def valid_cases(op: str) -> tuple[Case, ...]:
    """The smallest case of every set of keys and tensors that cases of the operation have, the smallest of all first."""
    smallest: dict = {}
    for case in sorted((case for case in shipped() if case.op == op), key=elements):
        if all(tensor.array.size for tensor in case.inputs.values()):
            smallest.setdefault((frozenset(case.recipe), frozenset(case.inputs)), case)
    return tuple(smallest.values()) or (constructed(signatures.signature(op)),)


class Wrong:
    """Makes wrong cases of a valid one: each has the kind of the mistake, of the error, and names that it must say."""

    def __init__(self, case: Case):
        self.case = case
        self.given = check(case)
        self.signature = self.given.signature
        state = signatures.state_signatures(self.given.configuration) if self.given.configuration else ()
        listed = (*self.signature.inputs, *state)
        self.present = [tensor for tensor in listed if tensor.presence.allows(self.text) and tensor.name in case.inputs]
        self.absent = [tensor for tensor in listed if tensor.name not in case.inputs]
        self.made: list[tuple[str, str, tuple[str, ...], Case]] = []
        self.make()

    def text(self, key: str) -> str:
        value = self.given.values[key] if key in self.given.values else getattr(self.given.configuration, key)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def add(self, mistake: str, kind: str, names, recipe: dict | None = None, inputs: dict | None = None) -> None:
        case = copy.copy(self.case)
        case.recipe = dict(self.case.recipe if recipe is None else recipe)
        case.inputs = dict(self.case.inputs if inputs is None else inputs)
        self.made.append((mistake, kind, (names,) if isinstance(names, str) else tuple(names), case))

    def with_input(self, mistake: str, kind: str, names, name: str, tensor: Tensor) -> None:
        self.add(mistake, kind, names, inputs=self.case.inputs | {name: tensor})

    def without_keys(self, *names: str) -> dict:
        return {name: value for name, value in self.case.recipe.items() if name not in names}

    def make(self) -> None:
        for tensor in self.present:
            self.tensor(tensor)
        for tensor in self.absent:
            self.excluded_tensor(tensor)
        self.add("extra input", "input", "inputs/surplus", inputs=self.case.inputs | {"surplus": zeros("fp32", [1])})
        self.add("unknown key", "recipe", "'momentum'", self.case.recipe | {"momentum": 1})
        for key in self.signature.recipe:
            if not key.presence.allows(self.text):
                value = key.minimum if key.kind == "integer" else ""
                self.add("excluded key", "recipe", f"'{key.name}'", self.case.recipe | {key.name: value})
                continue
            self.key(key)
            if key.presence.kind != "optional":
                self.add("missing key", "recipe", f"'{key.name}' is missing", self.without_keys(*key.names))
        if self.signature.takes_configuration:
            for key in signatures.table().configuration.values():
                self.key(key)
        for rule in self.signature.sizes:
            self.size_rule(rule)

    # Tensors

    def tensor(self, expected: TensorSignature) -> None:
        name, tensor = f"inputs/{expected.name}", self.case.inputs[expected.name]
        if expected.presence.kind != "optional":
            rest = {other: value for other, value in self.case.inputs.items() if other != expected.name}
            self.add("missing input", "input", f"{name} is missing", inputs=rest)
        for type in set(STORAGE) - set(expected.types_under(self.given.values)):
            self.with_input("wrong type", "input", f"{name} is {type}", expected.name, zeros(type, tensor.shape))
        for shape in ((1, *tensor.shape), tensor.shape[1:]):
            self.with_input("wrong rank", "input", name, expected.name, zeros(tensor.type, shape))
        for axis, dimension in enumerate(expected.shape):
            self.size(expected, tensor, axis, dimension)
        if expected.range is not None:
            self.elements(expected, tensor)

    def size(self, expected: TensorSignature, tensor: Tensor, axis: int, dimension) -> None:
        """One more than another tensor or a key says."""
        users = [other.name for other in self.present if dimension in other.shape]
        is_bound = not isinstance(dimension, str) or any(key.size == dimension for key in self.signature.recipe)
        is_bound = is_bound or (self.given.configuration is not None and dimension in "VBTk")
        if not is_bound and len(users) == 1 and expected.shape.count(dimension) == 1:
            return
        shape = list(tensor.shape)
        shape[axis] += 1
        self.with_input("wrong size", "input", [f"inputs/{user} is" for user in users], expected.name, zeros(tensor.type, shape))

    def elements(self, expected: TensorSignature, tensor: Tensor) -> None:
        limits, info = expected.range, np.iinfo(STORAGE[tensor.type])
        upper = limits.upper if isinstance(limits.upper, int) else self.given.sizes[limits.upper]
        for value in {limits.lower - 1, upper, upper + 1, info.min, info.max, info.max - 1}:
            if info.min <= value <= info.max and not limits.lower <= value < upper and value != limits.sentinel:
                for index in {0, tensor.array.size - 1}:
                    array = tensor.array.copy()
                    array.reshape(-1)[index] = value
                    names = f"inputs/{expected.name} is {value} at index {index}"
                    self.with_input("element", "value", names, expected.name, Tensor(tensor.type, array))

    def excluded_tensor(self, tensor: TensorSignature) -> None:
        if tensor.presence.kind == "optional":
            return
        sizes = self.given.sizes
        shape = [d if isinstance(d, int) else sizes.get(d.of if isinstance(d, Blocks) else d, 1) for d in tensor.shape]
        self.with_input("excluded input", "input", f"inputs/{tensor.name}", tensor.name, zeros(tensor.types[0], shape))

    # Keys

    def key(self, key: signatures.Key) -> None:
        recipe = self.without_keys(*key.names)
        for value in OF_ANOTHER_KIND[key.kind]:
            self.add("wrong value", "recipe", f"'{key.name}'", recipe | {key.name: value})
        if key.kind == "integer":
            for value in (key.minimum - 1, key.maximum + 1):
                self.add("integer out of range", "recipe", f"'{key.name}'", recipe | {key.name: value})
        if key.kind == "fp32":
            self.fp32(key, recipe)

    def fp32(self, key: signatures.Key, recipe: dict) -> None:
        bits = f"{key.name}_bits"
        both = {key.name: 0.5, bits: "3f400000"}
        self.add("number and bits", "recipe", f"'{key.name}'", recipe | both)
        for value in MALFORMED_BITS:
            self.add("malformed bits", "recipe", f"'{bits}'", recipe | {bits: value})
        for value in OUTSIDE[key.range]:
            digits = f"{int(np.float32(value).view(np.uint32)):08x}"
            self.add("fp32 out of range", "recipe", f"'{key.name}'", recipe | {bits: digits})
            if np.isfinite(value):
                self.add("fp32 out of range", "recipe", f"'{key.name}'", recipe | {key.name: value})

    # Sizes

    def resized(self, sizes: dict[str, int]) -> tuple[dict, dict]:
        """The recipe and the inputs, other letters as they are; elements are the smallest that their range allows."""
        sizes = self.given.sizes | sizes
        recipe = self.case.recipe | {key.name: sizes[key.size] for key in self.signature.recipe if key.size in sizes}
        inputs = dict(self.case.inputs)
        for tensor in self.present:
            shape = [d if isinstance(d, int) else sizes[d] if isinstance(d, str) else -(-sizes[d.of] // 8) for d in tensor.shape]
            if tuple(shape) != inputs[tensor.name].shape:
                made = zeros(inputs[tensor.name].type, shape)
                made.array[...] = tensor.range.lower if tensor.range else 0
                inputs[tensor.name] = made
        return recipe, inputs

    def size_rule(self, rule: signatures.SizeRule) -> None:
        if rule.rule == "at_least":
            broken = [{rule.letters[0]: size} for size in range(rule.limit)]
        elif rule.rule == "even":
            broken = [{rule.letters[0]: size} for size in (1, 3)]
        elif rule.rule == "multiple":
            broken = [dict(zip(rule.letters, sizes)) for sizes in ((1, 2), (3, 2), (7, 3))]
        else:
            broken = [self.product(rule)]
        for sizes in broken:
            recipe, inputs = self.resized(sizes)
            self.add("size rule", "input", [f"expected {rule}"], recipe, inputs)

    def product(self, rule: signatures.SizeRule) -> dict[str, int]:
        """The letter that a key alone has gets its greatest size, another one as much as the rule then forbids."""
        shapes = [dimension for tensor in self.present for dimension in tensor.shape]
        (key, *_) = [key for key in self.signature.recipe if key.size in rule.letters and key.size not in shapes]
        (letter, *_) = [letter for letter in rule.letters if letter in shapes]
        return {key.size: key.maximum, letter: rule.limit // key.maximum + 1}


@cache
def wrong_cases(op: str) -> tuple:
    return tuple(wrong for case in valid_cases(op) for wrong in Wrong(case).made)


def test_the_derivation_has_every_operation_of_the_table():
    assert set(OPERATIONS) == set(signatures.names())
    assert set(FLOAT_RANGES) == set(OUTSIDE)
    listed = [key for name in signatures.names() for key in signatures.signature(name).recipe]
    assert {key.range for key in listed} <= set(OUTSIDE)


def test_suites_and_names_keep_the_order_of_the_table():
    assert signatures.suites() == tuple(dict.fromkeys(map(signatures.suite_of, signatures.names())))
    assert signatures.suite_of("sum.chain") == "dot" and signatures.suite_of("attention.forward") == "zreg"
    assert signatures.suite_of("bf16.nothing") == "unknown"


def test_the_configuration_is_that_of_the_table():
    keys = signatures.table().configuration
    assert {field.name for field in fields(Configuration)} == set(keys)
    standard = Configuration()
    for name, key in keys.items():
        value = getattr(standard, name)
        if key.kind == "hexadecimal64":
            assert f"{value:016x}" == key.default
        else:
            assert (list(value) if isinstance(value, tuple) else value) == key.default, name
            assert isinstance(value, np.float32) == (key.kind == "fp32"), name


def test_every_shipped_case_passes():
    for case in shipped():
        given = check(case)
        assert set(given.tensors) == set(case.inputs)
    assert len(shipped()) > 1000


def test_every_output_of_a_shipped_case_is_listed():
    for case in shipped():
        listed = {output.name: output for output in signatures.signature(case.op).outputs}
        given = check(case)
        for name, output in listed.items():
            if output.presence.kind == "required":
                assert case.outputs[name].type in output.types_under(given.values), (case.name, name)
                assert len(case.outputs[name].shape) == len(output.shape)
                assert (name in case.truth) == (name in case.bounds) == output.bounded
        assert case.op == "training.step" or set(case.outputs) <= set(listed), case.name


@pytest.mark.parametrize("op", signatures.names())
def test_every_mistake_is_refused_by_name(op):
    for mistake, kind, expected, case in wrong_cases(op):
        with pytest.raises(OperationError) as caught:
            check(case)
        error = caught.value
        assert error.message.startswith(f"{op}: "), (mistake, error.message)
        assert any(name in error.message for name in expected), (mistake, expected, error.message)
        assert error.kind == kind and kind in KINDS, (mistake, error.message)
        assert str(error) == f"case '{case.name}': {error.message}"


def test_wrong_cases_are_many(capsys):
    tried = {op: len(wrong_cases(op)) for op in signatures.names()}
    mistakes = Counter(mistake for op in signatures.names() for mistake, *_ in wrong_cases(op))
    assert min(tried.values()) >= LEAST, min(tried, key=tried.get)
    assert len(mistakes) == MISTAKES and sum(tried.values()) > 9000
    with capsys.disabled():
        counts = ", ".join(f"{count} {mistake}" for mistake, count in mistakes.most_common())
        print(f"\n{sum(tried.values())} wrong cases of {len(tried)} operations: {counts}")


def test_operations_that_are_none():
    for op, message in {
        "dot.gem": "unknown operation 'dot.gem'; did you mean 'dot.gemm'?",
        "BF16.add": "unknown operation 'BF16.add'; did you mean 'bf16.add'?",
        "": "the case has no attribute 'op': it names the operation, such as 'dot.gemm'",
    }.items():
        with pytest.raises(OperationError) as caught:
            check(Case("none", op))
        assert (caught.value.kind, caught.value.message) == ("unknownOperation", message)


def gemm(recipe: dict, a=(4, 5), b=(5, 3), **more) -> Case:
    return Case("m", "dot.gemm", recipe, inputs={"a": zeros("bf16", a), "b": zeros("bf16", b)} | more)


def clamp(**recipe) -> Case:
    recipe = {"activation": "none", "gradient": "inward", "int8": False} | recipe
    return Case("c", "clamp.static", recipe, inputs={"y": zeros("fp32", [2, 2]), "dy": zeros("fp32", [2, 2])})


def model(**changes) -> Case:
    recipe, inputs = operations.random_case(np.random.default_rng(1))
    return Case("t", "training.step", recipe | changes, inputs=inputs)


DOT = {"dot": "paired-ftz"}
HALVES = 'uint16 with the attribute element_type = "bf16" holds its bits, and so do HDF5\'s own floats of 16 bits'


@pytest.mark.parametrize("case, message", [
    (gemm({}), "dot.gemm: recipe key 'dot' is missing; expected one of paired-ftz, chain-ieee"),
    (gemm({"dot": None}), "dot.gemm: recipe key 'dot' is null; expected one of paired-ftz, chain-ieee"),
    (gemm({"dot": "x"}), 'dot.gemm: recipe key \'dot\' is "x"; expected one of paired-ftz, chain-ieee'),
    (gemm(DOT | {"output": []}), "dot.gemm: recipe key 'output' is an array; expected one of fp32, bf16, fp16"),
    (gemm(DOT | {"x": 1}), "dot.gemm: unknown recipe key 'x'; it has dot, kappa, kappa_bits, n, output"),
    (gemm(DOT | {"n": -1}), "dot.gemm: recipe key 'n' is -1; expected an integer in 0...9223372036854775807"),
    (gemm(DOT | {"n": 1e-5}), "dot.gemm: recipe key 'n' is 1e-05; expected an integer in 0...9223372036854775807"),
    (gemm(DOT | {"n": 1 << 63}),
     "dot.gemm: recipe key 'n' is 9.223372036854776e+18; expected an integer in 0...9223372036854775807"),
    (gemm(DOT | {"kappa_bits": "4"}), "dot.gemm: recipe key 'kappa_bits' is \"4\"; expected 8 lower-case hex digits"),
    (gemm(DOT | {"kappa": 0.1, "kappa_bits": "4c000000"}),
     "dot.gemm: recipe keys 'kappa' and 'kappa_bits' disagree: 0.1 and 3.3554432e+07 (4c000000)"),
    (gemm(DOT, b=(4, 3)), "dot.gemm: inputs/b is bf16 [4, 3]; expected bf16 [K, N] with K = 5"),
    (gemm(DOT, a=(4,)), "dot.gemm: inputs/a is bf16 [4]; expected bf16 [M, K]"),
    (gemm(DOT, a=(4, 5), b=(5, 3), c=zeros("fp64", [4, 3])), "dot.gemm: inputs/c is fp64 [4, 3]; expected fp32 [M, N]"),
    (gemm(DOT, d=zeros("fp32", [1])), "dot.gemm: unexpected dataset inputs/d; it has a, b, c"),
    (Case("u", "random.uniform", {"seed": 1}), "random.uniform: unknown recipe key 'seed'; it has none"),
    (Case("u", "random.uniform"), "random.uniform: inputs/words is missing; expected uint32 [n]"),
    (Case("s", "layer.relu2", {}, inputs={"x": zeros("uint16", [3])}),
     f"layer.relu2: inputs/x is uint16 [3]; expected bf16 [n]; {HALVES}"),
    (Case("e", "squinch.encode", {"variant": "floor16", "nonfinite": "refuse"}, inputs={"x": zeros("fp64", [3])}),
     "squinch.encode: inputs/x is fp64 [3]; expected fp32 or bf16 [n]"),
    (Case("d", "squinch.decode", {"variant": "floor16", "count": 17}, inputs={"blocks": zeros("uint8", [2, 6])}),
     "squinch.decode: inputs/blocks is uint8 [2, 6]; expected uint8 [ceil(n/8), 6] with n = 17"),
    (clamp(), "clamp.static: recipe key 'limit' is missing; expected a number"),
    (clamp(limit=-0.25), "clamp.static: recipe key 'limit' is -0.25; expected a finite number, 0 or more"),
    (clamp(limit_bits="7fc00000"), "clamp.static: recipe key 'limit' is nan; expected a finite number, 0 or more"),
    (clamp(limit=1e300), "clamp.static: recipe key 'limit' is inf; expected a finite number, 0 or more"),
    (clamp(limit=1, int8=1), "clamp.static: recipe key 'int8' is 1; expected true or false"),
    (Case("a", "allreduce.fp32", inputs={"g": zeros("fp32", [0, 3])}),
     "allreduce.fp32: W is 0; expected W of at least 1"),
    (Case("g", "gumbel.topk", {"seed": "00", "stream": 0, "step": 0, "k": 1}, inputs={"logits": zeros("fp32", [1, 1])}),
     'gumbel.topk: recipe key \'seed\' is "00"; expected 16 lower-case hex digits'),
    (Case("g", "gumbel.topk", {"seed": "0" * 16, "stream": 0, "step": 0, "k": 1 << 24},
          inputs={"logits": zeros("fp32", [17, 1])}),
     "gumbel.topk: N is 17, k is 16777216; expected N x k of at most 2^28"),
    (Case("v", "visibility.tree", inputs={"parent": Tensor("int32", np.array([-1, 2], np.int32)), "length": zeros("int32", [2])}),
     "visibility.tree: inputs/parent is 2 at index 1; expected -1 ..< nodes with nodes = 2"),
    (Case("v", "visibility.tree", inputs={"parent": zeros("int32", [2]), "length": zeros("int32", [2])}),
     "visibility.tree: inputs/length is 0 at index 0; expected 1 ..< 2^31"),
    (model(heads=0), "training.step: configuration key 'heads': is 0; expected 1 to 4096"),
    (model(heads=1.5), "training.step: configuration key 'heads': is 1.5; expected an integer"),
    (model(int8=1), "training.step: configuration key 'int8': is 1; expected true or false"),
    (model(windows=[True]), "training.step: configuration key 'windows': is true; expected an integer"),
    (model(bach=1), "training.step: configuration key 'bach': is unknown; did you mean 'batch'?"),
    (model(clip_norm=-1, clip_norm_bits="bf800000"),
     "training.step: configuration key 'clip_norm': is -1.0; expected 0.0 to 3.4028235e+38"),
    (model(clip_norm=0.1, clip_norm_bits="3f800000"),
     "training.step: configuration key 'clip_norm': is 0.10000000149011612, but clip_norm_bits says 1.0 (3f800000)"),
    (model(first_step=0), "training.step: recipe key 'first_step' is 0; expected an integer in 1...1073741824"),
])  # fmt: skip
def test_messages(case, message):
    with pytest.raises(OperationError) as caught:
        check(case)
    assert caught.value.message == message


def test_keys_of_a_configuration_have_defaults():
    case = model()
    given = check(case)
    for key in ("zreg_c", "zreg_c_bits", "seed"):
        case.recipe.pop(key, None)
    assert check(case).configuration.zreg_c == np.float32(2.0**-14)
    assert check(case).configuration.seed == Configuration().seed
    assert given.sizes["S"] == case.inputs["tokens"].shape[0]


def test_what_a_checked_case_says():
    given = check(gemm(DOT | {"kappa_bits": "40490fdb", "n": 7}))
    assert given.values == {"dot": "paired-ftz", "output": "fp32", "kappa": np.float32(np.pi), "n": 7}
    assert given.values["kappa"].dtype == np.float32
    assert given.sizes == {"M": 4, "K": 5, "N": 3}
    assert given.array("a").shape == (4, 5) and given.optional("c") is None
    # an integer is rounded once, by no way of fp64
    assert check(gemm(DOT | {"kappa": 2**53 + 2**29 + 1})).values["kappa"] == np.float32(2.0**53 + 2.0**30)


def test_a_mistake_of_values_is_an_error_of_the_case():
    case = next(case for case in shipped() if case.op == "attention.forward" and case.inputs["visibility_limit"].array.size)
    case = copy.copy(case)
    limit = case.inputs["visibility_limit"].array.copy()
    limit.reshape(-1)[0] = 1000
    case.inputs = case.inputs | {"visibility_limit": Tensor("int32", limit)}
    with pytest.raises(OperationError, match="1000") as caught:
        derive(case)
    assert caught.value.kind == "value" and caught.value.message.startswith("attention.forward: ")


def test_check_case(tmp_path, capsys):
    write(tmp_path / "a.h5", GoldenFile([gemm(DOT), Case("none", "dot.gem")]))
    assert main(["check-case", str(tmp_path / "a.h5")]) == 1
    captured = capsys.readouterr()
    assert "did you mean 'dot.gemm'?" in captured.err and captured.out == "2 cases, 1 refused\n"
    write(tmp_path / "a.h5", GoldenFile([gemm(DOT)]))
    assert main(["check-case", str(tmp_path / "a.h5")]) == 0
