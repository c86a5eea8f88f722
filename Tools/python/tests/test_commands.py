"""Verify and evaluate, end to end, on a file made here."""

import json

import numpy as np
import pytest

from touchstone.__main__ import main
from touchstone.adapters import implementation
from touchstone.files import Case, GoldenFile, Tensor, read, write
from touchstone.reference import OperationError, derive
from touchstone.verify import differing

GENERATOR = np.random.default_rng(99)


def bf16(*shape: int) -> Tensor:
    return Tensor("bf16", GENERATOR.integers(0, 1 << 16, shape, np.uint16))


def small_file() -> GoldenFile:
    cases = [
        Case("sum", "bf16.add", {"rounding": "rne", "tininess": "after"}, inputs={"a": bf16(300), "b": bf16(300)}),
        Case(
            "wide",
            "bf16.from",
            {"source": "fp64", "rounding": "rne"},
            inputs={"a": Tensor("fp64", GENERATOR.standard_normal(50))},
        ),
        Case("matrix", "dot.gemm", {"dot": "paired-ftz"}, inputs={"a": bf16(3, 5), "b": bf16(5, 4)}),
        Case("exp", "math.exp", inputs={"x": Tensor("fp32", GENERATOR.standard_normal(40).astype(np.float32))}),
        Case(
            "blocks",
            "squinch.encode",
            {"variant": "floor16", "nonfinite": "refuse"},
            inputs={"x": Tensor("fp32", GENERATOR.standard_normal(19).astype(np.float32))},
        ),
    ]
    for case in cases:
        result = derive(case)
        case.outputs, case.truth, case.bounds = result.outputs, result.truth, result.bounds
    return GoldenFile(cases)


def test_verify_finds_one_wrong_bit(tmp_path, capsys):
    golden = small_file()
    write(tmp_path / "a.h5", golden)
    assert main(["verify", str(tmp_path)]) == 0
    assert "all" in capsys.readouterr().out
    golden.cases[0].outputs["r"].array[17] ^= 1
    write(tmp_path / "a.h5", golden)
    assert main(["verify", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "outputs/r[17]" in captured.err and " 1\n" in captured.out
    del golden.cases[0].outputs["r"]
    write(tmp_path / "a.h5", golden)
    assert main(["verify", str(tmp_path)]) == 1


def test_verify_checks_the_manifest(tmp_path, capsys):
    write(tmp_path / "a.h5", small_file())
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"files": [{"path": "a.h5", "sha256": "0" * 64}]}))
    assert main(["verify", str(tmp_path)]) == 1
    assert "SHA-256" in capsys.readouterr().err


def test_exit_codes(tmp_path):
    assert main(["verify", str(tmp_path / "none.h5")]) == 2
    for arguments in (["verify", "--nonsense"], ["evaluate", "a", "b", "--implementation", "abacus"], []):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 64


def test_unknown_key_and_dataset_are_errors():
    case = small_file().cases[0]
    case.recipe["roundng"] = "rne"
    with pytest.raises(OperationError, match="roundng"):
        derive(case)
    del case.recipe["roundng"]
    case.inputs["c"] = case.inputs["a"]
    with pytest.raises(OperationError, match="inputs/c"):
        derive(case)


@pytest.mark.parametrize("name", ["numpy", "ml_dtypes", "torch", "jax"])
def test_evaluate(tmp_path, capsys, name):
    if name != "numpy":
        pytest.importorskip(name)
    write(tmp_path / "in.h5", small_file())
    assert main(["evaluate", str(tmp_path / "in.h5"), str(tmp_path / "out.h5"), "--implementation", name]) == 0
    filled = read(tmp_path / "out.h5").cases
    expected = read(tmp_path / "in.h5").cases
    assert not differing(filled[0].outputs["r"], expected[0].outputs["r"]).any()
    assert not any(case.truth or case.bounds for case in filled)
    if name == "numpy":
        for ours, theirs in zip(filled, expected):
            assert all(theirs.outputs[key].same_bits(tensor) for key, tensor in ours.outputs.items())
    elif name == "torch":
        assert filled[4].outputs["blocks"].same_bits(expected[4].outputs["blocks"])
    else:
        assert f"{name} has no squinch.encode: 1 case left out" in capsys.readouterr().err
        assert not filled[4].outputs


def test_implementation_names():
    with pytest.raises(ValueError, match="abacus"):
        implementation("abacus")
