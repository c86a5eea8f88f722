import os
import time

import h5py
import numpy as np
import pytest

from touchstone.files import STORAGE, Case, GoldenFile, GoldenFileError, Tensor, bf16_to_fp32, read, write


def every_bf16() -> Tensor:
    return Tensor("bf16", np.arange(1 << 16, dtype=np.uint16))


def bits(type: str, values: list[int]) -> Tensor:
    storage = STORAGE[type]
    return Tensor(type, np.array(values, f"uint{8 * storage.itemsize}").view(storage))


def sample() -> Case:
    return Case(
        "every-kind-of-dataset",
        "bf16.add",
        {"rounding": "rne", "kappa": 0.5},
        "wörds",
        ["B1", "B33"],
        inputs={
            "b": every_bf16(),
            "a": bits("fp32", [0x7F800001, 0xFF800001, 0x7FC12345, 1, 0x80000000]),
            "half": bits("fp16", [0x7C01, 0xFE00]),
            "double": bits("fp64", [0x7FF0000000000001]),
            "matrix": Tensor("int8", np.arange(-6, 6, dtype=np.int8).reshape(3, 4)),
            "scalar": Tensor("uint64", np.array(2**64 - 1, np.uint64)),
            "nothing": Tensor("bf16", np.zeros((0, 3), np.uint16)),
        },
        outputs={"r": every_bf16()},
        truth={"r": bits("fp64", [0x7FF8000000000000])},
    )


def test_round_trip_keeps_every_bit_and_the_order(tmp_path):
    write(tmp_path / "a.h5", GoldenFile([sample()], {"suite": "bf16", "seed": "0" * 16}))
    golden = read(tmp_path / "a.h5")
    assert golden.attributes == {"suite": "bf16", "seed": "0" * 16}
    (case,) = golden.cases
    expected = sample()
    assert (case.name, case.op, case.recipe, case.why, case.clauses) == (
        expected.name,
        expected.op,
        expected.recipe,
        expected.why,
        expected.clauses,
    )
    for group in ("inputs", "outputs", "truth", "bounds", "intermediates"):
        assert list(getattr(case, group)) == list(getattr(expected, group))
        for name, tensor in getattr(expected, group).items():
            assert getattr(case, group)[name].same_bits(tensor), name


def test_files_are_byte_identical(tmp_path):
    write(tmp_path / "a", GoldenFile([sample()]))
    time.sleep(1.1)  # HDF5's time stamps count seconds
    write(tmp_path / "b", GoldenFile([sample()]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_h5py_sees_numbers(tmp_path):
    write(tmp_path / "a.h5", GoldenFile([sample()]))
    with h5py.File(tmp_path / "a.h5") as file:
        values = file["cases/every-kind-of-dataset/inputs/b"][:]
    assert values.dtype == np.float32
    finite = np.isfinite(values)
    assert np.array_equal(values[finite], bf16_to_fp32(every_bf16().array)[finite])


@pytest.mark.parametrize("storage", [{}, {"chunks": (7,)}, {"chunks": (7,), "compression": "gzip"}])
def test_foreign_layouts(tmp_path, storage):
    """What h5py users write: big-endian, compressed, variable-length strings, no root attributes."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        case = file.create_group("cases/mine")
        case.attrs["op"] = "bf16.sqrt"
        case.attrs["recipe"] = '{"rounding": "rne"}'
        case.attrs["spec_clauses"] = ["B1", "B3"]
        for name, dtype in (("x", ">f4"), ("y", ">f8"), ("z", ">i2"), ("h", ">f2")):
            case.create_dataset(f"inputs/{name}", data=np.arange(-20, 20).astype(dtype), **storage)
        words = case.create_dataset("inputs/a", data=np.arange(40, dtype=">u2"), **storage)
        words.attrs["element_type"] = "bf16"
        words = case.create_dataset("inputs/f", data=np.array([0x7C01, 0x3C00] * 4, ">u2"), **storage)
        words.attrs["element_type"] = "fp16"
    (case,) = read(tmp_path / "a.h5").cases
    assert case.clauses == ["B1", "B3"] and case.recipe == {"rounding": "rne"}
    assert {name: tensor.type for name, tensor in case.inputs.items()} == {
        "a": "bf16",
        "f": "fp16",
        "h": "fp16",
        "x": "fp32",
        "y": "fp64",
        "z": "int16",
    }
    for name in "xyzh":
        assert np.array_equal(case.inputs[name].array, np.arange(-20, 20))
    assert np.array_equal(case.inputs["a"].array, np.arange(40))
    assert case.inputs["f"].bits.tolist() == [0x7C01, 0x3C00] * 4


def test_big_endian_bf16_keeps_signalling_nans(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = h5py.h5t.IEEE_F16BE.copy()
        stored.set_fields(15, 7, 8, 0, 7)
        stored.set_ebias(127)
        group = file.create_group("cases/mine/inputs")
        group.parent.attrs["op"] = "bf16.sqrt"
        space = h5py.h5s.create_simple((1 << 16,))
        dataset = h5py.h5d.create(group.id, b"a", stored, space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(1 << 16, dtype=np.uint16).byteswap(), mtype=stored)
    assert read(tmp_path / "a.h5").cases[0].inputs["a"].same_bits(every_bf16())


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(GoldenFileError, match="a.h5"):
        read(path)
    with h5py.File(path, "w") as file:
        file.create_group("cases/mine")
    with pytest.raises(GoldenFileError, match="/cases/mine: attribute 'op' is missing"):
        read(path)
    with h5py.File(path, "w") as file:
        file.create_group("cases/mine").attrs["op"] = "bf16.add"
        file["cases/mine/inputs/a"] = ["text"]
    with pytest.raises(GoldenFileError, match="/cases/mine/inputs/a"):
        read(path)


def test_a_truncated_file_is_an_error(tmp_path):
    path = tmp_path / "a.h5"
    write(path, GoldenFile([sample()]))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(GoldenFileError, match="a.h5"):
        read(path)


def test_nothing_half_written(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"before")
    twice = [sample(), sample()]  # one name twice cannot be written
    with pytest.raises(GoldenFileError, match="a.h5"):
        write(path, GoldenFile(twice))
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.h5"]


def test_numbers():
    assert every_bf16().numbers()[0x3FC0] == 1.5
    ml_dtypes = pytest.importorskip("ml_dtypes")
    back = Tensor.from_numbers(every_bf16().array.view(ml_dtypes.bfloat16))
    assert back.same_bits(every_bf16())
