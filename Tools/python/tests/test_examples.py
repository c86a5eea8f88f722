"""The example implementations: wrong where they mean to be, and only there."""

import importlib.util
import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

from touchstone.files import Case, GoldenFile, Tensor, read, write
from touchstone.reference import derive, squinch
from touchstone.verify import differing

PYTHON = pathlib.Path(__file__).parent.parent
GENERATOR = np.random.default_rng(17)


def example(name: str):
    specification = importlib.util.spec_from_file_location(name, PYTHON / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def cases() -> list[Case]:
    bits = [Tensor("bf16", GENERATOR.integers(0, 1 << 16, 500, np.uint16)) for _ in range(2)]
    single = Tensor("fp32", GENERATOR.standard_normal(500).astype(np.float32))
    return [
        Case("add", "bf16.add", {"rounding": "rne"}, inputs=dict(zip("ab", bits))),
        Case("up", "bf16.mul", {"rounding": "rup"}, inputs=dict(zip("ab", bits))),
        Case("from", "bf16.from", {"source": "fp32", "rounding": "rne"}, inputs={"a": single}),
        Case("exp", "math.exp", inputs={"x": single}),
        Case("encode", "squinch.encode", {"variant": "floor16", "nonfinite": "refuse"}, inputs={"x": single}),
    ]


def judge_truncation(path) -> None:
    results = {case.name: case for case in read(path).cases}
    assert list(results) == [case.name for case in cases()]
    assert not any(results[name].outputs for name in ("up", "exp", "encode"))
    for name in ("add", "from"):
        got, expected = results[name].outputs["r"], derive(results[name]).outputs["r"]
        wrong = differing(got, expected)
        assert 0 < wrong.sum() < len(wrong)
        # Every error is one unit towards zero.
        assert (expected.array[wrong] - got.array[wrong] == 1).all()


def test_truncating_in_python(tmp_path):
    write(tmp_path / "in.h5", GoldenFile(cases()))
    example("truncating").main(str(tmp_path / "in.h5"), str(tmp_path / "out.h5"))
    judge_truncation(tmp_path / "out.h5")


@pytest.mark.skipif(
    not shutil.which("pkg-config") or subprocess.run(["pkg-config", "--exists", "hdf5"], check=False).returncode != 0,
    reason="no HDF5 headers",
)
def test_truncating_in_c(tmp_path):
    write(tmp_path / "in.h5", GoldenFile(cases()))
    command = [str(PYTHON.parent / "examples" / "truncating"), str(tmp_path / "in.h5"), str(tmp_path / "out.h5")]
    subprocess.run(command, check=True, env=os.environ | {"TMPDIR": str(tmp_path)})
    judge_truncation(tmp_path / "out.h5")
    missing = [command[0], str(tmp_path / "nothing.h5"), str(tmp_path / "out.h5")]
    assert subprocess.run(missing, check=False, env=os.environ | {"TMPDIR": str(tmp_path)}).returncode == 2


def test_squinch_in_pytorch(tmp_path):
    pytest.importorskip("torch")
    write(tmp_path / "in.h5", GoldenFile(cases()))
    example("squinch_torch").main(str(tmp_path / "in.h5"), str(tmp_path / "out.h5"))
    (case,) = [case for case in read(tmp_path / "out.h5").cases if case.outputs]
    assert case.outputs["blocks"].same_bits(derive(case).outputs["blocks"])
    module = example("squinch_torch")
    import torch

    thresholds, _ = squinch.tables()
    below = (thresholds[1:] - 1).view(np.float32).repeat(8)
    wrong = module.encode(torch.from_numpy(below)).numpy()[:, 0] != squinch.encode("floor16", below)[:, 0]
    assert wrong.sum() > 100
