"""The prober must find the orders that we know, and the models what they model."""

import numpy as np
import pytest

from touchstone.comparison import elementwise, matmul, order
from touchstone.comparison.libraries import MatrixProduct
from touchstone.comparison.rounding import fp32_to_bf16
from touchstone.files import Case, Tensor, bf16_to_fp32
from touchstone.reference import bf16, derive, dot


def by_recipe(recipe: str, rounded: bool = False) -> order.Product:
    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        result = dot.gemm(recipe, a, b, None)
        return bf16_to_fp32(fp32_to_bf16(result)) if rounded else result

    return product


def in_lanes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """R1's order, as a matrix product."""
    x, y = bf16_to_fp32(a), bf16_to_fp32(b)
    return np.stack([dot.lane16(x, np.broadcast_to(y[:, n], x.shape).copy()) for n in range(b.shape[1])], 1)


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 8, 33])
@pytest.mark.parametrize("recipe, found", [("paired-ftz", order.paired), ("chain-ieee", order.ascending)])
def test_prober_finds_the_recipes(recipe, found, depth):
    for rounded in (False, True):
        ((mask, tree),) = order.Prober(by_recipe(recipe, rounded), 2, depth, 3, 256 if rounded else 1 << 24).trees()
        assert mask.all() and tree == found(depth)
    assert order.name(order.paired(9), 9) == "pairs, odd first" and order.name(order.ascending(9), 9) == "ascending"


def test_prober_finds_lanes_and_the_simulation_reproduces_them():
    trees = order.Prober(in_lanes, 2, 50, 3, 1 << 24).trees()
    assert order.name(trees[0][1], 50) == "16 lanes"
    generator = np.random.default_rng(8)
    a, b = (fp32_to_bf16(generator.standard_normal(shape).astype(np.float32)) for shape in ((2, 50), (50, 3)))
    assert np.array_equal(order.simulate(trees, a, b, order.Arithmetic(), False), in_lanes(a, b))


def test_prober_tells_outputs_apart():
    def mixed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        result = by_recipe("chain-ieee")(a, b)
        result[1] = in_lanes(a, b)[1]
        return result

    trees = order.Prober(mixed, 2, 20, 2, 1 << 24).trees()
    assert len(trees) == 2 and {str(tree) == str(order.ascending(20)) for _, tree in trees} == {True, False}


def test_measure_reports_our_own_recipe_as_ours():
    row = matmul.measure(MatrixProduct("ours", by_recipe("paired-ftz"), False), 5, 64, 6)
    assert row.equal["paired-ftz"] == 1 and row.equal_cancelling["paired-ftz"] == 1
    assert row.equal_cancelling["chain-ieee"] < 1 and row.largest_ulp["paired-ftz"] == 0
    assert row.order == "pairs, odd first" and row.reproduced == 1
    assert row.near_underflow == 1 and row.model == "subnormals flushed"


def test_models_are_recognised():
    generator = np.random.default_rng(4)
    a, b, c = (Tensor("bf16", x[::10].copy()) for x in elementwise.ternary_operands(generator))
    case = Case("fma", "bf16.fma", {"rounding": "rne"}, inputs={"a": a, "b": b, "c": c})
    for reason, model in elementwise.MODELS:
        if model(case) is None:
            continue
        if reason == "subnormals read and written as zero":
            continue
        findings = elementwise.compare(case, model, by_kind=True)
        reasons = {text.rsplit(" (", 1)[0] for finding in findings for text in finding.reasons}
        assert reason in reasons and not any("not explained" in text for text in reasons), reason


def test_an_exact_library_has_no_findings():
    case = elementwise.arithmetic_cases()[0]
    for finding in elementwise.compare(case, lambda case: derive(case).outputs["r"], by_kind=True):
        assert finding.different == 0 and finding.reasons == []


def test_what_no_model_explains_is_said():
    case = elementwise.arithmetic_cases()[2]

    def truncating(case: Case) -> Tensor:
        pairs = zip(*(tensor.array.tolist() for tensor in case.inputs.values()))
        return Tensor("bf16", np.array([bf16.mul(x, y, "rtz", "after", 0)[0] for x, y in pairs], np.uint16))

    findings = elementwise.compare(case, truncating, by_kind=True)
    assert any("not explained" in reason for finding in findings for reason in finding.reasons)
