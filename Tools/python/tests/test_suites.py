"""PyTorch's counterparts of whole layers on the goldens, and the page of verdicts."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from touchstone.adapters import Unsupported, implementation
from touchstone.files import read
from touchstone.suites import table

GOLDENS = pathlib.Path(__file__).parents[3] / "GoldenData"

# Cases far outside what a library is made for: positions of 2^24, a peak next to a scale's threshold, a clamp at zero.
EXTREME = {"rope-far", "round15-ranks-1-n-61", "round15-ranks-1-n-61-feedback"} | {
    f"dynamic-{name}" for name in ("kappa-zero", "minus-zero-kappa", "zero-weights")
}


@pytest.mark.parametrize(
    "path",
    ["allreduce/plain", "allreduce/squinch", "clamp/clamp", "layers/layers", "layers/losses", "layers/optimizer"]
    + ["squinch/feedback", "visibility/masks", "zreg/attention", "zreg/rows"],
)
def test_torch_is_close(path):
    pytest.importorskip("torch")
    torch = implementation("torch")
    judged = 0
    for case in read(GOLDENS / f"{path}.h5").cases:
        try:
            outputs = torch.evaluate(case)
        except Unsupported:
            continue
        assert list(outputs) == [name for name in outputs if name in case.outputs], case.name
        for name, expected in case.outputs.items():
            got = outputs[name]
            assert (got.type, got.shape) == (expected.type, expected.shape), (case.name, name)
            if case.name in EXTREME:
                continue
            a = np.asarray(expected.numbers()).astype(np.float64)
            b = np.asarray(got.numbers()).astype(np.float64)
            if name in ("blocks", "encoded", "reduced"):  # a code may be the neighbour
                assert a.size == 0 or (a == b).mean() > 0.9, (case.name, name)
                continue
            # What becomes of infinities and NaNs is for the verdicts to tell.
            finite = np.isfinite(a) & np.isfinite(b)
            if finite.any():
                # A value at a clamp's limit may fall on its other side.
                close = np.abs(a - b)[finite] <= 0.01 * np.abs(a[finite]).max() + 1e-30
                assert close.mean() >= (0.98 if case.op.startswith("clamp.") else 1), (case.name, name)
                judged += 1
    assert judged > 0


def test_evaluate_as_a_module(tmp_path):
    source = GOLDENS / "random" / "draws.h5"
    target = tmp_path / "out.h5"
    command = [sys.executable, "-m", "touchstone.evaluate", "--with", "numpy", str(source), str(target)]
    subprocess.run(command, check=True)
    for case, expected in zip(read(target).cases, read(source).cases):
        for name, tensor in expected.outputs.items():
            assert case.outputs[name].same_bits(tensor)
    assert subprocess.run([*command[:5], "nowhere.h5", str(target)], check=False, capture_output=True).returncode == 2


def test_table():
    def output(verdict, elements=4, mismatches=0, **more):
        return {"output": "r", "verdict": verdict, "elements": elements, "mismatches": mismatches, **more}

    report = {
        "cases": [
            {"op": "bf16.add", "outputs": [output("exact"), output("missing")]},
            {
                "op": "bf16.add",
                "outputs": [output("outside", 4, 1, ulps={"0": 3, "3-4": 1}), output("missing")],
            },
        ],
        "skipped": [{"op": "bf16.add"}, {"op": "bf16.rem"}],
    }
    lines, absent = table([report, None])
    assert lines[2] == "| `bf16.add` | 2 | 1 | 1 | - | 1 | 2 | 8 | 87.5 % | 3-4 |"
    assert absent == ["bf16.rem"]
