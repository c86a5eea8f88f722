"""The example implementations: wrong where they mean to be, and only there."""

import importlib.util
import math
import os
import pathlib
import shutil
import subprocess
import sys
from fractions import Fraction

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
        Case("add", "bf16.add", {"rounding": "rne", "tininess": "after"}, inputs=dict(zip("ab", bits))),
        Case("up", "bf16.mul", {"rounding": "rup", "tininess": "after"}, inputs=dict(zip("ab", bits))),
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


def tensor_core_sum(terms, floor: int | None) -> Fraction:
    """What the tensor cores make of finite terms, once more: exact fractions, no shifts and no floats.

    Each term is cut to a multiple of 2^(E - 25), E the largest exponent (that of a product the sum of its factors', at
    least -126 each; of a zero `floor`) and at least `floor`; the sum is cut to 24 significant bits, 2^-149 at least.
    """

    def order(x: Fraction) -> int:
        """floor(log2 |x|)."""
        power = abs(x.numerator).bit_length() - x.denominator.bit_length()
        return power if Fraction(2) ** power <= abs(x) else power - 1

    pairs = [(Fraction(x), Fraction(y)) for x, y in terms]
    exponents = [max(order(x), -126) + max(order(y), -126) for x, y in pairs if x * y]
    exponents += [] if floor is None else [floor]
    if not exponents:
        return Fraction(0)
    unit = Fraction(2) ** (max(exponents) - 25)
    total = sum(unit * math.trunc(x * y / unit) for x, y in pairs)
    if not total:
        return total
    place = Fraction(2) ** max(order(total) - 23, -149)
    return place * math.trunc(total / place)


def test_published_vectors_of_the_alignment_floor():
    """Sums of subnormal products that Hopper's tensor cores give and that no floor would give."""
    added = matmul().added_at_once
    for small in ((-(2.0**-83), 2.0**-82), (2.0**-80, -(2.0**-79))):
        for zeros in (0, 14):
            terms = [(2.0**-75, 2.0**-74), small, *[(0.0, 0.0)] * zeros, (0.0, 1.0)]
            assert added(terms) == 2.0**-149
            assert added([(-x, y) for x, y in terms]) == -(2.0**-149)
            assert tensor_core_sum(terms, floor=-133) == Fraction(2) ** -149
            assert tensor_core_sum(terms, floor=None) == 0
    # The accumulator's own exponent, -126, lies above the floor.
    assert added([(2.0**-75, 2.0**-74), (2.0**-80, -(2.0**-79)), (2.0**-149, 1.0)]) == 2.0**-148
    assert added([]) == 0.0
    assert added([(0.0, -1.0), (-0.0, 1.0)]) == 0.0


def test_the_model_by_exact_fractions():
    """The model on random terms, subnormal products among them, against the same rule in fractions."""
    added, generator = matmul().added_at_once, np.random.default_rng(133)

    def factor(exponent: int, significand: int | None = None) -> float:
        """A bf16 of this exponent; below 2^-126 a subnormal, which has no bit under 2^-133."""
        x = Fraction(significand or int(generator.integers(128, 256))) * Fraction(2) ** (exponent - 7)
        return math.ldexp(int(generator.choice([-1, 1])) * math.trunc(x * 2**133), -133)

    decided = 0
    for number in range(3000):
        # Multiples of 2^-149 beside products too small for the floor, where only their sign can matter; anywhere; subnormal factors.
        spread = number % 3
        terms = []
        for index in range(int(generator.integers(1, 17))):
            if spread == 0:
                first = int(generator.integers(-90, -60))
                if index < 3:
                    terms.append((factor(first, 128), factor(int(generator.integers(-149, -134)) - first, 128)))
                else:
                    terms.append((factor(first), factor(int(generator.integers(-180, -157)) - first)))
            elif spread == 1:
                terms.append((factor(int(generator.integers(-100, 60))), factor(int(generator.integers(-60, 60)))))
            else:
                terms.append((factor(int(generator.integers(-133, -120))), factor(int(generator.integers(-40, 0)))))
        starts = (0.0, float(generator.integers(-9, 10)) * 2.0**-149, float(np.float32(terms[0][0])))
        terms.append((starts[int(generator.choice([0, 0, 1, 2]))], 1.0))
        exact = tensor_core_sum(terms, floor=-133)
        assert Fraction(added(terms)) == exact, terms
        decided += exact != tensor_core_sum(terms, floor=None)
    assert decided > 30, decided


def test_triton_in_its_interpreter(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    write(tmp_path / "in.h5", GoldenFile([pair[0] for pair in products(tmp_path, (0, 1, 17, 40), kernel="numpy")]))
    script = str(PYTHON.parent / "examples" / "triton_matmul.py")
    command = [sys.executable, script, str(tmp_path / "in.h5"), str(tmp_path / "out.h5"), "--kernel", "triton"]
    subprocess.run(command, check=True, env=os.environ | {"TRITON_INTERPRET": "1"})
    assert max(errors([(case, derive(case)) for case in read(tmp_path / "out.h5").cases])) <= 1
