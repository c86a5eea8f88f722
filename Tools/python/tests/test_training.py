"""T: the names and order of a step against the specification's tables, ranks, the fingerprint, the optimizer."""

import hashlib
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from touchstone.__main__ import main
from touchstone.files import Case, GoldenFile, Tensor, write
from touchstone.reference import OperationError, derive, squinch
from touchstone.reference.transformer import layers, operations, training
from touchstone.reference.transformer.arithmetic import Rounded
from touchstone.reference.transformer.configuration import ConfigurationError

DOCUMENTS = Path(__file__).parents[3] / "Sources/ModelSpec/ModelSpec.docc"


def configuration(**changes) -> training.Configuration:
    sizes = {"vocabulary": 13, "width": 5, "layers": 2, "heads": 2, "key_value_heads": 1, "head_dimension": 4}
    sizes |= {"feed_forward_width": 7, "sequence_length": 5, "batch": 3, "warmup_steps": 2, "total_steps": 9}
    return training.Configuration(**(sizes | changes))


def batch(c: training.Configuration, seed: int = 0) -> training.Batch:
    generator = np.random.default_rng(seed)
    shape = (c.batch, c.sequence_length)
    position = np.tile(np.arange(c.sequence_length, dtype=np.int32), (c.batch, 1))
    made = training.Batch(
        generator.integers(0, c.vocabulary, shape).astype(np.int32),
        position,
        position.copy(),
        np.full(shape, c.sequence_length, np.int32),
    )
    if c.distillation_k:
        ids = generator.integers(0, c.vocabulary, (*shape, c.distillation_k)).astype(np.uint32)
        ids[generator.random(ids.shape) < 0.2] = layers.EMPTY_SLOT
        return replace(made, target_ids=ids, target_weights=generator.random(ids.shape).astype(np.float32))
    return replace(made, targets=generator.integers(-1, c.vocabulary, shape).astype(np.int32))


def first_step(c: training.Configuration, seed: int = 0) -> tuple[training.Run, training.State, training.State]:
    """The run, the state before and the state after."""
    before = training.State.initial(c, training.initial_weights(c))
    after = training.State.initial(c, before.weight)
    return training.run(c, 1, after, [batch(c, seed)]), before, after


def tables() -> list[tuple[str, str]]:
    """T2's names and formats, with `l.` for a layer, as the tables list them."""
    text = (DOCUMENTS / "Specification.md").read_text()
    rows = [line.split("|")[1:3] for line in text.split("<!-- step -->")[1].splitlines() if line.startswith("| `")]
    return [(name.strip(" `"), format.split()[0]) for name, format in rows]


def test_T2_names_and_formats_are_those_of_the_tables():
    c = configuration(int8=True)
    run, _, _ = first_step(c)
    listed = tables()
    loop = [i for i, (name, _) in enumerate(listed) if name.startswith(("l.", "gradient.l."))]
    turn = listed.index(("norm.output", "bf16"))
    forward, backward = [i for i in loop if i < turn], [i for i in loop if i > turn]
    expected = []
    for start, block, order in ((0, forward, (0, 1)), (turn, backward, (1, 0))):
        expected += listed[start : block[0]]
        for layer in order:
            expected += [(re.sub(r"\bl\.", f"layers.{layer}.", listed[i][0], count=1), listed[i][1]) for i in block]
    last = listed.index(("gradient.embedding", "fp32"))
    expected.append(listed[last])
    assert {name for name, _ in listed[last + 1 :]} >= {"learning_rate", "gradient_norm", "m.p", "v.p", "weight.p"}
    ours = [(name, tensor.type) for name, tensor in run.first]
    assert ours[: len(expected)] == expected
    rest = [("learning_rate", "fp32"), ("gradient_norm", "fp32")]
    for parameter in training.parameters(c):
        rest += [(f"{kind}.{parameter.name}", "fp32") for kind in ("m", "v", "weight")]
    assert ours[len(expected) :] == rest


def test_T1_parameters_are_those_of_the_table():
    c = configuration(layers=3, key_value_source=(0, 0, 2))
    named = {parameter.name: parameter for parameter in training.parameters(c)}
    assert list(named)[:4] == [
        "embedding",
        "layers.0.attention.norm",
        "layers.0.attention.query",
        "layers.0.attention.key",
    ]
    assert "layers.1.attention.key" not in named and "layers.2.attention.value" in named
    assert named["layers.1.attention.output"].shape == (8, 5) and named["layers.1.attention.output"].fan == 2 * 3 * 8
    assert [name for name, parameter in named.items() if not parameter.decays] == [
        n for n in named if n.endswith("norm")
    ]


def test_configuration_is_the_table_of_operations():
    text = (DOCUMENTS / "Operations.md").read_text()
    text = text[text.index("| key | value | default |") :].split("\n\n")[0]
    listed = {}
    for line in text.splitlines()[2:]:
        names, _, defaults = (cell.strip() for cell in line.strip("|").split("|"))
        names = re.findall(r"`(\w+)`", names)
        defaults = [defaults] if len(names) == 1 else defaults.split(", ")
        defaults *= len(names) if len(defaults) == 1 else 1
        listed |= dict(zip(names, defaults, strict=True))
    ours = training.Configuration()
    assert sorted(key.name for key in fields(ours)) == sorted(listed)
    for name, default in listed.items():
        value = getattr(ours, name)
        if isinstance(value, np.float32):
            expected = 2.0 ** int(default[2:]) if default.startswith("2^") else float(default)
            assert value == np.float32(expected), name
        elif name == "seed":
            assert value == int(default, 16)
        else:
            assert str(list(value) if isinstance(value, tuple) else value).lower() == default, name


REFUSED = {"heads": "key_value_heads", "layers": "key_value_source", "clamp": "int8"}  # where another key is named


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": 3, "key_value_heads": 2},
        {"head_dimension": 3},
        {"windows": (1,)},
        {"key_value_source": (0, 2)},
        {"layers": 3, "key_value_source": (0, 0, 1)},
        {"zreg_form": "twisted"},
        {"beta1": np.float32(1)},
        {"vocabulary": 0},
        {"clamp": "none", "int8": True},
        {"error_feedback": True},
    ],
)
def test_configuration_refuses(changes):
    (key, *_) = changes
    with pytest.raises(ConfigurationError, match=f"key '{REFUSED.get(key, key)}'"):
        configuration(**changes).validate()


def test_T1_initial_values():
    c = configuration(width=64, vocabulary=128)
    weights = training.initial_weights(c)
    assert abs(weights["embedding"].std() * 8 - 1) < 0.02 and abs(weights["embedding"].mean()) < 0.01
    assert (weights["norm"] == 1).all()
    # variates 2n and 2n + 1 come from draws 2n and 2n + 1, whatever the number of elements
    words = training.draws(c.seed, training.STREAMS["initialization"], 0, 6, 2)
    two = training.random.normal(words.reshape(1, 2))[0]
    assert np.array_equal(weights["embedding"].reshape(-1)[6:8], two * np.float32(0.125))
    shuffled = training.draws(c.seed, 5, 7, 3, 9)
    assert np.array_equal(shuffled, training.draws(c.seed, 5, 7, 0, 12)[3:])


@pytest.mark.parametrize(
    "changes", [{}, {"dot": "chain-ieee", "zreg_form": "row-dot"}, {"distillation_k": 2, "int8": True}]
)
def test_bits_stay_near_the_formulas(changes):
    """bf16 has 8 bits: the rounded gradients lie within a few percent of the exact ones, layer by layer."""
    from touchstone.reference.transformer.arithmetic import Exact

    c = configuration(layers=1, width=16, clip_norm=np.float32(0), **changes)
    weights = training.initial_weights(c)
    found = []
    for arithmetic in (Rounded(c.dot), Exact()):
        tensors = training.run_pass(arithmetic, c, weights, batch(c))
        while True:
            try:
                next(tensors)
            except StopIteration as end:
                found.append(end.value)
                break
    ours, exact = found
    assert abs(ours.loss - exact.loss) < 0.02
    for name, gradient in exact.gradients.items():
        assert np.linalg.norm(ours.gradients[name] - gradient) < 0.05 * np.linalg.norm(gradient), name


def test_T2_roundings_between_the_layers(monkeypatch):
    """What a step does between its layers, from its own tensors: shared keys, three parts, residuals, embedding."""
    c = configuration(layers=4, width=12, key_value_source=(0, 0, 0, 0), zreg_c=np.float32(0.01))
    chains = []  # bf16 hides most differences of order: what the chain is made of is looked at itself
    original = layers.linear_input_gradient
    monkeypatch.setattr(layers, "linear_input_gradient", lambda a, *parts: chains.append(parts) or original(a, *parts))
    run, before, _ = first_step(c)
    a = Rounded()
    named = {name: a.given(tensor) for name, tensor in run.first}
    w = {name: a.bf16(value) for name, value in before.weight.items()}
    for part in ("key.rotated.gradient", "value.gradient"):
        total = named[f"layers.3.attention.{part}"]
        for layer in (2, 1, 0):
            total = total + named[f"layers.{layer}.attention.{part}"]
        kind = part.split(".")[0]
        assert np.array_equal(named[f"layers.0.attention.{kind}.total_gradient"], a.bf16(total))
    gradients = [named[f"layers.0.attention.{x}"] for x in ("query.gradient", "key.gradient", "value.total_gradient")]
    matrices = [w[f"layers.0.attention.{x}"] for x in ("query", "key", "value")]
    rows = [(dy[:, None, :], matrix[None], None) for dy, matrix in zip(gradients, matrices)]
    assert np.array_equal(named["layers.0.attention.norm.output.gradient"], a.bf16(a.dot(*rows)))
    assert [len(parts) for parts in chains] == [1, 1, 1, 3]
    for (dy, matrix), gradient, weight in zip(chains[-1], gradients, matrices):
        assert np.array_equal(dy, gradient) and np.array_equal(matrix, weight)
    same_parts = original(a, *zip(gradients, matrices))
    assert np.array_equal(same_parts, a.dot(*rows)) and (same_parts != a.dot(*rows[::-1])).any()
    accumulator = layers.linear(a, named["layers.1.attention.context"], w["layers.1.attention.output"])
    expected = a.bf16(named["layers.0.mlp.residual"] + accumulator)
    assert np.array_equal(named["layers.1.attention.residual"], expected)
    tokens = batch(c).tokens.reshape(-1)
    dx = named["layers.0.attention.stream.gradient"]
    for token in range(c.vocabulary):
        total = np.zeros(c.width, np.float32)
        for row in np.flatnonzero(tokens == token):
            total = total + dx[row]
        expected = named["embedding.output_gradient"][token] + total
        assert np.array_equal(named["gradient.embedding"][token], expected)


def combined(c: training.Configuration) -> tuple[dict[str, Tensor], list[dict[str, np.ndarray]]]:
    run, before, _ = first_step(c)
    named = dict(run.first)
    alone = []
    for rank in range(c.ranks):
        first, limit = rank * c.batch // c.ranks, (rank + 1) * c.batch // c.ranks
        single = replace(c, ranks=1, compression="none", error_feedback=False, batch=max(limit - first, 1))
        tensors = training.run_pass(Rounded(), single, before.weight, batch(c).sequences(first, limit))
        prefix = f"rank.{rank}." if c.ranks > 1 else ""
        while True:
            try:
                name, tensor = next(tensors)
                assert named[prefix + name].same_bits(tensor), prefix + name
            except StopIteration as end:
                alone.append(end.value.gradients)
                break
    return named, alone


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_T5_ranks_in_fp32(ranks):
    """Each rank's tensors are those of a run on its sequences alone; a fourth rank has none of the three sequences."""
    c = configuration(ranks=ranks)
    named, alone = combined(c)
    assert ("loss" in named) and ("rank.0.loss" in named) == (ranks > 1)
    for parameter in training.parameters(c):
        if ranks == 1:
            assert "reduced." + parameter.name not in named
            continue
        total = np.zeros(parameter.shape, np.float32)
        for gradients in alone:
            total = total + gradients[parameter.name]
        assert np.array_equal(named["reduced." + parameter.name].array, total * np.float32(1 / ranks))


@pytest.mark.parametrize("variant", squinch.VARIANTS)
def test_T5_squinch_with_error_feedback(variant):
    c = configuration(ranks=2, compression="squinch", error_feedback=True, squinch_variant=variant)
    named, alone = combined(c)
    listed = training.parameters(c)
    total = sum(parameter.count for parameter in listed)
    before = 0
    for parameter in listed:
        decoded = []
        for rank in range(2):
            g = alone[rank][parameter.name].reshape(-1)
            words = training.draws(c.seed, training.STREAMS["rounding"], 1, rank * total + before, g.size)
            decoded.append(squinch.decode(variant, squinch.encode(variant, g, words), g.size))
            assert np.array_equal(named["residual." + parameter.name].array[rank], g - decoded[-1])
        mean = (decoded[0] + decoded[1]) * np.float32(0.5)
        words = training.draws(c.seed, training.STREAMS["rounding"], 1, 2 * total + before, mean.size)
        expected = squinch.decode(variant, squinch.encode(variant, mean, words), mean.size)
        assert np.array_equal(named["reduced." + parameter.name].array.reshape(-1), expected)
        before += parameter.count
    names = list(named)
    assert names.index("residual.embedding") == names.index("reduced.embedding") + 1
    assert named["residual.embedding"].shape == (2, 13 * 5)


def test_T5_bf16():
    c = configuration(compression="bf16")
    named, alone = combined(c)
    a = Rounded()
    for name, gradient in alone[0].items():
        assert np.array_equal(named["reduced." + name].array, a.bf16(gradient))


def test_T4_in_place():
    """The update uses the clipped gradient, the decay where the table has it, and the rate of the step."""
    c = configuration(clip_norm=np.float32(0.5), weight_decay=np.float32(0.5))
    run, before, after = first_step(c)
    named = dict(run.first)
    a = Rounded()
    norm = layers.gradient_norm(a, [named["gradient." + p.name].array for p in training.parameters(c)])
    assert run.gradient_norm[0] == norm > 0.5
    rate = named["learning_rate"].array[0]
    assert rate == c.learning_rate / 2  # n = 1 of a warmup of 2
    for parameter in training.parameters(c):
        g = named["gradient." + parameter.name].array * (np.float32(0.5) / norm)
        decay = np.float32(0.5) if "norm" not in parameter.name else np.float32(0)
        hyper = layers.AdamW(rate, c.beta1, c.beta2, c.adam_epsilon, decay)
        name = parameter.name
        expected = layers.adamw(a, hyper, 1, before.weight[name], before.m[name], before.v[name], g)
        for kind, value in zip(("weight", "m", "v"), expected):
            assert np.array_equal(named[f"{kind}.{name}"].array, value)
            assert np.array_equal(getattr(after, kind)[name], value)


def test_T4_refuses_a_norm_that_is_not_finite():
    c = configuration()
    state = training.State.initial(c, training.initial_weights(c))
    state.weight["norm"] = np.full(5, np.inf, np.float32)
    kept = {name: value.copy() for name, value in state.weight.items()}
    with pytest.raises(ValueError, match="gradient_norm"):
        training.run(c, 1, state, [batch(c)])
    assert all(np.array_equal(kept[name], state.weight[name]) for name in kept)


def test_T6_chain():
    c = configuration()
    run, _, state = first_step(c)
    previous = bytes(32)
    for name, tensor in run.first:
        shape = b"".join(n.to_bytes(8, "little") for n in (len(tensor.shape), *tensor.shape))
        data = name.encode() + b"\0" + tensor.type.encode() + b"\0" + shape + tensor.array.tobytes()
        previous = hashlib.sha256(data + previous).digest()
    assert run.fingerprint[0].tobytes() == previous
    # the chain goes on from step to step, and a run of two is a run of one and another from its state
    state2 = training.State.initial(c, training.initial_weights(c))
    both = training.run(c, 1, state2, [batch(c, 0), batch(c, 1)])
    again = training.run(c, 2, state, [batch(c, 1)])
    assert both.fingerprint[0].tobytes() == previous
    assert training.fingerprint(again.first, previous) == both.fingerprint[1].tobytes()
    assert all(np.array_equal(state.weight[name], state2.weight[name]) for name in state.weight)


def test_first_difference():
    c = configuration()
    run, before, _ = first_step(c)
    changed = dict(before.weight)
    changed["layers.1.mlp.up"] = changed["layers.1.mlp.up"].copy()
    changed["layers.1.mlp.up"][2, 3] *= 2
    other = training.run(c, 1, training.State.initial(c, changed), [batch(c)])
    assert training.first_difference(other.first, dict(run.first)) == "layers.1.mlp.up.output"
    assert training.first_difference(run.first, dict(run.first)) is None


def test_training_learns():
    """Twenty steps on one batch take the loss down by half: the signs are right."""
    c = configuration(learning_rate=np.float32(0.05), total_steps=30, zreg_c=np.float32(0), width=8)
    state = training.State.initial(c, training.initial_weights(c))
    run = training.run(c, 1, state, [batch(c)] * 20)
    assert run.loss[-1] < run.loss[0] / 2


def stored_case(seed: int) -> Case:
    recipe, inputs = operations.random_case(np.random.default_rng(seed))
    case = Case("step", "training.step", recipe, inputs=inputs)
    result = derive(case)
    case.outputs, case.intermediates = result.outputs, result.intermediates
    return case


@pytest.mark.parametrize("seed", range(6))
def test_random_steps_survive_a_file(tmp_path, seed):
    write(tmp_path / "a.h5", GoldenFile([stored_case(seed)]))
    assert main(["verify", str(tmp_path / "a.h5")]) == 0


def test_verify_names_the_first_difference(tmp_path, capsys):
    case = stored_case(4)
    names = list(case.intermediates)
    for name in (names[9], names[5], names[-1]):
        array = case.intermediates[name].bits.copy()
        array.reshape(-1)[0] ^= 1
        case.intermediates[name] = Tensor(
            case.intermediates[name].type, array.view(case.intermediates[name].array.dtype)
        )
    write(tmp_path / "a.h5", GoldenFile([case]))
    assert main(["verify", str(tmp_path / "a.h5")]) == 1
    captured = capsys.readouterr()
    assert f"intermediates/{names[5]}[" in captured.err.splitlines()[0], "complaints come in execution order"
    assert captured.out.splitlines()[-1].endswith(" 3")
    del case.intermediates[names[-1]]
    write(tmp_path / "a.h5", GoldenFile([case]))
    assert main(["verify", str(tmp_path / "a.h5")]) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"int8": 1}, "int8"),
        ({"seed": "12"}, "seed"),
        ({"first_step": 0}, "first_step"),
        ({"zreg_c_bits": "3f800000"}, "zreg_c_bits says 1.0"),
        ({"windows": [1.5]}, "windows"),
        ({"heads": 5, "key_value_heads": 2}, "does not divide"),
        ({"momentum": 1}, "momentum"),
    ],
)
def test_operations_refuses_a_recipe(change, message):
    recipe, inputs = operations.random_case(np.random.default_rng(1))
    recipe |= change
    with pytest.raises(OperationError, match=message):
        derive(Case("step", "training.step", {k: v for k, v in recipe.items() if v is not None}, inputs=inputs))


def test_operations_refuses_data():
    recipe, inputs = operations.random_case(np.random.default_rng(1))
    for name, array in (("tokens", inputs["tokens"].array + 1000), ("weight.norm", np.zeros(99, np.float32))):
        with pytest.raises(OperationError, match=f"inputs/{name} is"):
            derive(Case("step", "training.step", recipe, inputs=inputs | {name: Tensor.from_numbers(array)}))
