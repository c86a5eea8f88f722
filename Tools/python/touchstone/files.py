"""Golden files in NumPy, bit for bit.

A file is a list of cases; a case holds named tensors in the groups `inputs`, `outputs`, `truth`, `bounds` and
`intermediates`. NumPy has no bf16, so a bf16 tensor is an array of its 16-bit patterns (`uint16`); `Tensor.numbers()`
gives values. Nothing is converted on the way: HDF5 would turn a 16-bit float type into float32 and quieten its
signalling NaNs, so every dataset is read and written in the file's own type.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5f, h5p, h5s, h5t

GROUPS = ("inputs", "outputs", "truth", "bounds", "intermediates")

# How NumPy holds the bits of each element type.
STORAGE = {
    "bf16": np.dtype("uint16"),
    "fp16": np.dtype("float16"),
    "fp32": np.dtype("float32"),
    "fp64": np.dtype("float64"),
    **{f"{kind}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}

# (sign, exponent position, exponent width, significand position, significand width), exponent bias
_FLOAT_LAYOUT = {
    "bf16": ((15, 7, 8, 0, 7), 127),
    "fp16": ((15, 10, 5, 0, 10), 15),
    "fp32": ((31, 23, 8, 0, 23), 127),
    "fp64": ((63, 52, 11, 0, 52), 1023),
}


class GoldenFileError(Exception):
    """A file that cannot be read or written as a golden file. The message names the file and the place in it."""


@dataclass(frozen=True)
class Tensor:
    """An element type and the array that holds its bits (`STORAGE`); C order."""

    type: str
    array: np.ndarray

    def __post_init__(self) -> None:
        if self.type not in STORAGE:
            raise ValueError(f"element type '{self.type}'; expected one of {', '.join(STORAGE)}")
        if self.array.dtype != STORAGE[self.type]:
            raise ValueError(f"{self.type} is held as {STORAGE[self.type]}, not as {self.array.dtype}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def bits(self) -> np.ndarray:
        """The bit patterns, as unsigned integers of the element's width."""
        return np.ascontiguousarray(self.array).view(f"uint{8 * self.array.itemsize}").reshape(self.shape)

    def numbers(self) -> np.ndarray:
        """The values: an `ml_dtypes.bfloat16` view for bf16 where ml_dtypes is installed, else float32."""
        if self.type != "bf16":
            return self.array
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            return bf16_to_fp32(self.array)
        return self.array.view(bfloat16)

    def same_bits(self, other: Tensor) -> bool:
        return self.type == other.type and self.shape == other.shape and bool((self.bits == other.bits).all())

    @staticmethod
    def from_numbers(array: np.ndarray) -> Tensor:
        """A tensor of an array's own type; `ml_dtypes.bfloat16` becomes bf16 bits."""
        if array.dtype.name == "bfloat16":
            return Tensor("bf16", np.ascontiguousarray(array).view(np.uint16).reshape(array.shape))
        names = {dtype: name for name, dtype in STORAGE.items() if name != "bf16"}
        return Tensor(names[array.dtype], np.ascontiguousarray(array))


def bf16_to_fp32(bits: np.ndarray) -> np.ndarray:
    """F1: exact; a NaN keeps its sign and payload."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


@dataclass
class Case:
    """One operation, its parameters, its inputs and what they must give."""

    name: str
    op: str
    recipe: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    clauses: list[str] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    truth: dict[str, Tensor] = field(default_factory=dict)
    bounds: dict[str, Tensor] = field(default_factory=dict)
    intermediates: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class GoldenFile:
    """The root attributes (`spec_version`, `suite`, `tier`, `generator`, `seed`; none need be there) and the cases."""

    cases: list[Case] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)


# Reading


def read(path: str | os.PathLike) -> GoldenFile:
    """Reads a whole file.

    Raises GoldenFileError if it is no HDF5 file, has no `/cases`, or holds a type that golden files do not have.
    """
    path = os.fspath(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise GoldenFileError(f"{path}: {error}") from None
    with file:
        if "cases" not in file or not isinstance(file["cases"], h5py.Group):
            raise GoldenFileError(f"{path}: no group /cases")
        attributes = {name: _text(path, "/", name, value) for name, value in file.attrs.items()}
        return GoldenFile([_read_case(path, file["cases"][name]) for name in _names(file["cases"])], attributes)


def _names(group: h5py.Group) -> list[str]:
    """Links in the order of their creation where the file tracked it, else by name."""
    tracked = group.id.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_INDEXED
    names: list[bytes] = []
    index = h5py.h5.INDEX_CRT_ORDER if tracked else h5py.h5.INDEX_NAME
    group.id.links.iterate(names.append, idx_type=index)
    return [name.decode() for name in names]


def _text(path: str, place: str, name: str, value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    raise GoldenFileError(f"{path}: {place}: attribute '{name}' is {type(value).__name__}; expected a string")


def _read_case(path: str, group: Any) -> Case:
    place = group.name
    if not isinstance(group, h5py.Group):
        raise GoldenFileError(f"{path}: {place} is no group")
    if "op" not in group.attrs:
        raise GoldenFileError(f"{path}: {place}: attribute 'op' is missing")
    case = Case(name=place.rsplit("/", 1)[-1], op=_text(path, place, "op", group.attrs["op"]))
    if "why" in group.attrs:
        case.why = _text(path, place, "why", group.attrs["why"])
    if "spec_clauses" in group.attrs:
        clauses = np.atleast_1d(np.asarray(group.attrs["spec_clauses"], dtype=object))
        case.clauses = [_text(path, place, "spec_clauses", clause) for clause in clauses]
    if "recipe" in group.attrs:
        try:
            case.recipe = json.loads(_text(path, place, "recipe", group.attrs["recipe"]))
        except json.JSONDecodeError as error:
            raise GoldenFileError(f"{path}: {place}: attribute 'recipe' is no JSON: {error}") from None
        if not isinstance(case.recipe, dict):
            raise GoldenFileError(f"{path}: {place}: attribute 'recipe' is no JSON object")
    for kind in GROUPS:
        if kind in group:
            if not isinstance(group[kind], h5py.Group):
                raise GoldenFileError(f"{path}: {place}/{kind} is no group")
            tensors = {name: _read_tensor(path, group[kind][name]) for name in _names(group[kind])}
            setattr(case, kind, tensors)
    return case


def _read_tensor(path: str, dataset: Any) -> Tensor:
    if not isinstance(dataset, h5py.Dataset):
        raise GoldenFileError(f"{path}: {dataset.name} is no dataset")
    if dataset.shape is None:
        raise GoldenFileError(f"{path}: {dataset.name} has no shape (a null dataspace)")
    stored = dataset.id.get_type()
    name = _element_type(path, dataset.name, stored)
    if name == "uint16" and "element_type" in dataset.attrs:
        declared = _text(path, dataset.name, "element_type", dataset.attrs["element_type"])
        if declared not in ("uint16", "bf16", "fp16"):
            raise GoldenFileError(
                f"{path}: {dataset.name}: UInt16 with element_type '{declared}'; expected uint16, bf16 or fp16"
            )
        name = declared
    # The memory type is the file's own, so HDF5 converts nothing and a signalling NaN stays one.
    array = np.empty(dataset.shape, STORAGE[name])
    if array.size:
        try:
            dataset.id.read(h5s.ALL, h5s.ALL, array, mtype=stored)
        except OSError as error:
            raise GoldenFileError(f"{path}: {dataset.name}: {error}") from None
    if array.itemsize > 1 and stored.get_order() != h5t.ORDER_LE:
        array = array.byteswap()
    return Tensor(name, array)


def _element_type(path: str, place: str, stored: h5t.TypeID) -> str:
    size = stored.get_size()
    if isinstance(stored, h5t.TypeIntegerID) and size in (1, 2, 4, 8):
        return ("int" if stored.get_sign() == h5t.SGN_2 else "uint") + str(8 * size)
    if isinstance(stored, h5t.TypeFloatID):
        for name, (fields, bias) in _FLOAT_LAYOUT.items():
            if size == STORAGE[name].itemsize and stored.get_fields() == fields and stored.get_ebias() == bias:
                return name
    raise GoldenFileError(f"{path}: {place}: its type is none of {', '.join(STORAGE)}")


# Writing


def write(path: str | os.PathLike, golden: GoldenFile) -> None:
    """Writes a file, whole or not at all: beside the target first, then renamed onto it."""
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    try:
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".touchstone-", suffix=".h5")
        os.close(descriptor)
    except OSError as error:
        raise GoldenFileError(f"{path}: {error}") from None
    try:
        os.chmod(temporary, 0o644)
        _write(temporary, golden)
        with open(temporary, "rb") as finished:
            os.fsync(finished.fileno())
        os.replace(temporary, path)
    except (OSError, ValueError, RuntimeError) as error:  # h5py raises all three
        raise GoldenFileError(f"{path}: {error}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _write(path: str, golden: GoldenFile) -> None:
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    creation.set_obj_track_times(False)
    with h5py.File(h5f.create(path.encode(), h5f.ACC_TRUNC, creation, access)) as file:
        for name, value in golden.attributes.items():
            _write_text(file, name, value)
        cases = _make_group(file, "cases")
        for case in golden.cases:
            group = _make_group(cases, case.name)
            _write_text(group, "op", case.op)
            _write_text(group, "why", case.why)
            if case.clauses:
                width = max(len(clause.encode()) for clause in case.clauses)
                clauses = np.array([clause.encode() for clause in case.clauses], f"S{max(width, 1)}")
                group.attrs.create("spec_clauses", clauses, dtype=h5py.string_dtype("utf-8", max(width, 1)))
            _write_text(group, "recipe", json.dumps(case.recipe, sort_keys=True, separators=(",", ":")))
            for kind in GROUPS:
                tensors = getattr(case, kind)
                if tensors:
                    subgroup = _make_group(group, kind)
                    for name, tensor in tensors.items():
                        _write_tensor(subgroup, name, tensor)


def _make_group(parent: h5py.Group, name: str) -> h5py.Group:
    creation = h5p.create(h5p.GROUP_CREATE)
    creation.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    creation.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(parent.id, name.encode(), gcpl=creation))


def _write_text(target: Any, name: str, value: str) -> None:
    encoded = value.encode()
    target.attrs.create(name, encoded, dtype=h5py.string_dtype("utf-8", max(len(encoded), 1)))


def _file_type(name: str) -> h5t.TypeID:
    if name != "bf16":
        return h5t.py_create(STORAGE[name].newbyteorder("<"))
    stored = h5t.IEEE_F16LE.copy()
    fields, bias = _FLOAT_LAYOUT["bf16"]
    stored.set_fields(*fields)
    stored.set_ebias(bias)
    return stored


def _write_tensor(group: h5py.Group, name: str, tensor: Tensor) -> None:
    stored = _file_type(tensor.type)
    array = np.ascontiguousarray(tensor.array, dtype=STORAGE[tensor.type].newbyteorder("<"))
    array = array.reshape(tensor.shape)
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_fill_time(h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    if array.ndim and array.size:
        creation.set_chunk(array.shape)
        creation.set_fletcher32()
    space = h5s.create_simple(array.shape) if array.ndim else h5s.create(h5s.SCALAR)
    dataset = h5d.create(group.id, name.encode(), stored, space, creation)
    if array.size:
        dataset.write(h5s.ALL, h5s.ALL, array, mtype=stored)
