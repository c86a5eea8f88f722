"""The hook that records a PyTorch module as a trace."""

import pathlib

import numpy as np
import pytest

from touchstone.files import read
from touchstone.reference import derive

torch = pytest.importorskip("torch")

from test_examples import example  # noqa: E402


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(32)
        self.up = torch.nn.ModuleList([torch.nn.Linear(32, 32, bias=False) for _ in range(2)])
        self.head = torch.nn.Linear(32, 5)

    def forward(self, x):
        for layer in self.up:
            x = layer(self.norm(x))
        return self.head(x)


def record(model, x, path: pathlib.Path):
    with example("trace_torch").trace(model, path):
        result = model(x)
    return result, {case.name: case for case in read(path).cases}


def test_entries_stand_in_the_order_of_execution(tmp_path):
    torch.manual_seed(1)
    model, x = Layers().to(torch.bfloat16), torch.randn(2, 3, 32).to(torch.bfloat16)
    result, cases = record(model, x, tmp_path / "trace.h5")
    assert list(cases) == ["norm", "up.0", "norm.1", "up.1", "head"]
    assert [case.op for case in cases.values()] == ["torch.LayerNorm", "dot.gemm"] * 2 + ["torch.Linear"]
    # What goes out of one entry goes into the next.
    assert (cases["norm"].outputs["0"].bits.reshape(-1) == cases["up.0"].inputs["a"].bits.reshape(-1)).all()
    assert cases["head"].outputs["0"].type == "bf16" and cases["head"].outputs["0"].shape == (2, 3, 5)
    assert (cases["head"].outputs["0"].array == result.detach().view(torch.uint16).numpy()).all()


def test_products_are_cases_of_the_contract(tmp_path):
    torch.manual_seed(2)
    model, x = Layers().to(torch.bfloat16), torch.randn(4, 32).to(torch.bfloat16)
    _, cases = record(model, x, tmp_path / "trace.h5")
    for name in ("up.0", "up.1"):
        case = cases[name]
        assert case.inputs["a"].shape == (4, 32) and case.inputs["b"].shape == (32, 32)
        derived = derive(case).outputs["d"]
        assert derived.type == case.outputs["d"].type == "bf16"
        # Another order of 32 terms moves a result by a unit at most where it moves it at all.
        ours, theirs = (tensor.numbers().astype(np.float64) for tensor in (derived, case.outputs["d"]))
        assert np.abs(ours - theirs).max() <= 2**-7 * np.abs(theirs).max()


def test_fp32_and_calls_without_tensors_are_recorded_too(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.ReLU())
    _, cases = record(model, torch.ones(1, 4), tmp_path / "trace.h5")
    assert [case.op for case in cases.values()] == ["torch.Linear", "torch.ReLU"]
    assert cases["0"].outputs["0"].type == "fp32"


def test_the_hooks_go_with_the_block(tmp_path):
    model = Layers().to(torch.bfloat16)
    x = torch.zeros(1, 32, dtype=torch.bfloat16)
    _, cases = record(model, x, tmp_path / "trace.h5")
    model(x)
    assert not any(module._forward_hooks for module in model.modules())
    assert len(read(tmp_path / "trace.h5").cases) == len(cases) == 5


def test_inputs_are_those_before_the_call(tmp_path):
    """A module that writes over its input, one with parameters that differ, tuples, keywords, and a model without children."""

    class Pair(torch.nn.Module):
        def forward(self, x, *, scale):
            return {"low": x, "rest": (x * scale, None)}

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.pair, self.norm = torch.nn.ReLU(inplace=True), Pair(), torch.nn.LayerNorm(2)

        def forward(self, x):
            return self.norm(self.pair(self.act(x), scale=torch.tensor(2.0))["rest"][0])

    _, cases = record(Model(), torch.tensor([[-1.0, 3.0]]), tmp_path / "trace.h5")
    assert cases["act"].inputs["0"].array.tolist() == [[-1.0, 3.0]]
    assert cases["act"].outputs["0"].array.tolist() == [[0.0, 3.0]]
    assert list(cases["pair"].inputs) == ["0", "1.scale"] and list(cases["pair"].outputs) == ["low", "rest.0"]
    assert list(cases["norm"].inputs) == ["0", "weight", "bias"]
    _, cases = record(torch.nn.ReLU(), torch.ones(2), tmp_path / "alone.h5")
    assert list(cases) == ["ReLU"]


def test_a_program_reads_the_order(tmp_path):
    """Entries are created in the order of the calls, which is not that of their names."""
    model = torch.nn.Sequential(*[torch.nn.ReLU() for _ in range(11)])
    _, cases = record(model, torch.ones(2), tmp_path / "trace.h5")
    assert list(cases) == [str(place) for place in range(11)]
