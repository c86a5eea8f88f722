"""PyTorch's counterparts of whole layers on the goldens, and the page of verdicts."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from touchstone.adapters import Unsupported, implementation
from touchstone.files import Tensor, read
from touchstone.suites import table

GOLDENS = pathlib.Path(__file__).parents[3] / "GoldenData"

# Where a correct library is not close to the specification, and why; a case that is close has no business here.
FAR = {
    "round15-ranks-1-n-61": "a peak next to a scale's threshold: its block has the neighbouring scale",
    "floor16-cancelling-ranks-5": "sums of ranks cancel, so another order of the ranks gives other codes",
    "round15-cancelling-ranks-5": "sums of ranks cancel, so another order of the ranks gives other codes",
    "dynamic-kappa-zero": "a limit of 0 lets no gradient through (C3), the adapter passes inward ones",
    "rope-far": "positions to 2^29: fp32 angles are off by radians",
    "rope-far-frequencies": "far positions: fp32 angles are off by radians",
    "forward-subnormal-queries-paired-ftz": "the recipe flushes subnormal queries, PyTorch on a CPU does not",
    "backward-subnormal-queries-paired-ftz": "the recipe flushes subnormal queries, PyTorch on a CPU does not",
}
PATHS = ["allreduce/plain", "allreduce/squinch", "clamp/clamp", "layers/layers", "layers/losses", "layers/optimizer"] + [
    "squinch/feedback", "visibility/masks", "zreg/attention", "zreg/rows"
]  # fmt: skip


def is_far(case, name: str, got: Tensor) -> bool | None:
    """Whether an output is beyond rounding and neighbouring codes; None where no element says so."""
    expected = case.outputs[name]
    assert (got.type, got.shape) == (expected.type, expected.shape), (case.name, name)
    a = np.asarray(expected.numbers()).astype(np.float64)
    b = np.asarray(got.numbers()).astype(np.float64)
    if name in ("blocks", "encoded", "reduced"):  # a code may be the neighbour
        return (a == b).mean() <= 0.9 if a.size else None
    # What becomes of infinities and NaNs is for the verdicts to tell.
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.any():
        return None
    close = np.abs(a[finite] - b[finite]) <= 0.01 * np.abs(a[finite]).max() + 1e-30
    # A value at a clamp's limit may fall on its other side.
    return close.mean() < (0.98 if case.op.startswith("clamp.") else 1)


@pytest.mark.parametrize("path", PATHS)
def test_torch_is_close(path):
    pytest.importorskip("torch")
    torch = implementation("torch")
    judged = 0
    far = {}
    for case in read(GOLDENS / f"{path}.h5").cases:
        try:
            outputs = torch.evaluate(case)
        except Unsupported:
            continue
        assert list(outputs) == [name for name in outputs if name in case.outputs], case.name
        for name, got in outputs.items():
            verdict = is_far(case, name, got)
            judged += verdict is not None
            if verdict:
                far.setdefault(case.name, []).append(name)
    assert judged > 0
    unexplained = {name: outputs for name, outputs in far.items() if name not in FAR}
    assert not unexplained
    here = {case.name for case in read(GOLDENS / f"{path}.h5").cases}
    assert {name for name in FAR if name in here} <= set(far), "a case that is close is listed as far"


def test_every_far_case_is_shipped():
    shipped = {case.name for path in PATHS for case in read(GOLDENS / f"{path}.h5").cases}
    assert set(FAR) <= shipped


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
