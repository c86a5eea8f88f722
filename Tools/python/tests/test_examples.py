"""The example implementations: wrong where they mean to be, and only there."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from touchstone.files import Case, GoldenFile, Tensor, read, write
from touchstone.reference import derive, squinch
from touchstone.verify import differing

PYTHON = pathlib.Path(__file__).parent.parent
GENERATOR = np.random.default_rng(17)


def example(name: str, folder: pathlib.Path = PYTHON / "examples"):
    specification = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
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


# Tools/examples/triton_matmul.py, which the documentation goes through.


def matmul():
    return example("triton_matmul", PYTHON.parent / "examples")


def products(tmp_path, depths, **options) -> list[tuple[Case, Case]]:
    """Random cases of dot.gemm as the example answers them, and as the specification does."""
    questions = []
    for depth in depths:
        for recipe in ("chain-ieee", "paired-ftz"):
            inputs = {}
            for name, shape in (("a", (3, depth)), ("b", (depth, 4))):
                bits = GENERATOR.standard_normal(shape).astype(np.float32).view(np.uint32) >> 16
                inputs[name] = Tensor("bf16", bits.astype(np.uint16))
            inputs["c"] = Tensor("fp32", GENERATOR.standard_normal((3, 4)).astype(np.float32))
            questions.append(Case(f"{recipe}-{depth}", "dot.gemm", {"dot": recipe}, inputs=inputs))
    questions.append(cases()[0])
    write(tmp_path / "in.h5", GoldenFile(questions))
    matmul().main(str(tmp_path / "in.h5"), str(tmp_path / "out.h5"), **options)
    answered = read(tmp_path / "out.h5").cases
    assert [case.name for case in answered] == [case.name for case in questions]
    assert {case.name for case in answered if case.outputs} == {f"chain-ieee-{depth}" for depth in depths}
    return [(case, derive(case)) for case in answered if case.outputs]


def errors(pairs) -> list[float]:
    """The largest error of each case over what Q3 allows to another order."""
    found = []
    for case, right in pairs:
        truth, bounds = right.truth["d"].array, right.bounds["d"].array
        depth = case.inputs["a"].shape[1]
        allowed = 4 * 2.0**-24 * (depth + 1) ** 0.5 * bounds + np.spacing(np.abs(truth).astype(np.float32)) / 2
        found.append(float((np.abs(case.outputs["d"].array - truth) / allowed).max()))
    return found


@pytest.mark.parametrize("kernel", ["numpy", "h200"])
def test_stand_ins_for_a_triton_kernel(tmp_path, kernel):
    assert max(errors(products(tmp_path, (0, 1, 15, 16, 17, 64, 130), kernel=kernel))) <= 1


@pytest.mark.parametrize("mistake", ["remainder", "bf16-sum", "no-c"])
def test_mistakes_of_a_triton_kernel(tmp_path, mistake):
    assert min(errors(products(tmp_path, (17, 130), kernel="numpy", mistake=mistake))) > 1


def test_model_of_an_h200(tmp_path):
    """The bits that the kernel gave on an H200: h200_gemm.h5 holds inputs of shipped cases, and outputs from there."""
    source = PYTHON / "tests" / "h200_gemm.h5"
    matmul().main(str(source), str(tmp_path / "out.h5"), kernel="h200")
    recorded, answered = read(source).cases, read(tmp_path / "out.h5").cases
    assert len(recorded) == len(answered) == 7
    for gpu, model in zip(recorded, answered, strict=True):
        assert not differing(gpu.outputs["d"], model.outputs["d"]).any(), gpu.name


def test_triton_in_its_interpreter(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    write(tmp_path / "in.h5", GoldenFile([pair[0] for pair in products(tmp_path, (0, 1, 17, 40), kernel="numpy")]))
    script = str(PYTHON.parent / "examples" / "triton_matmul.py")
    command = [sys.executable, script, str(tmp_path / "in.h5"), str(tmp_path / "out.h5"), "--kernel", "triton"]
    subprocess.run(command, check=True, env=os.environ | {"TRITON_INTERPRET": "1"})
    assert max(errors([(case, derive(case)) for case in read(tmp_path / "out.h5").cases])) <= 1
