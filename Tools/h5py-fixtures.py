#!/usr/bin/env python3
"""Writes Tests/GoldenIOTests/Fixtures: small HDF5 files as other programs write them, made with h5py.

Run with h5py installed: python3 Tools/h5py-fixtures.py. The files are committed; the tests compare what they read with the
values below, which are written out again in Tests/GoldenIOTests.
"""
import pathlib

import h5py
import numpy as np

FOLDER = pathlib.Path(__file__).parent.parent / "Tests" / "GoldenIOTests" / "Fixtures"

# Bit patterns: signalling and quiet NaNs with payloads, both zeros, both infinities, subnormals, one.
BITS = {
    "bf16": np.array([0x7F81, 0xFFC1, 0x8000, 0x0000, 0x7F80, 0xFF80, 0x0001, 0x3F80], np.uint16),
    "fp16": np.array([0x7C01, 0xFE01, 0x8000, 0x0000, 0x7C00, 0xFC00, 0x0001, 0x3C00], np.uint16),
    "fp32": np.array([0x7F800001, 0xFFC00001, 0x80000000, 0, 0x7F800000, 0xFF800000, 1, 0x3F800000], np.uint32),
    "fp64": np.array(
        [0x7FF0000000000001, 0xFFF8000000000001, 1 << 63, 0, 0x7FF << 52, 0xFFF << 52, 1, 0x3FF << 52], np.uint64),
    "int8": np.array([0, 1, 0x7F, 0x80, 0x81, 0xFF, 2, 3], np.uint8),
    "int16": np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 2, 0x0102], np.uint16),
    "int32": np.array([0, 1, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF, 2, 0x01020304], np.uint32),
    "int64": np.array([0, 1, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, (1 << 64) - 1, 2, 0x0102030405060708], np.uint64),
}
for width in (8, 16, 32, 64):
    BITS[f"uint{width}"] = BITS[f"int{width}"]


def stored_type(name, order):
    """The HDF5 type of that element type and byte order ('<' or '>')."""
    if name in ("bf16", "fp16"):
        stored = (h5py.h5t.IEEE_F32LE if order == "<" else h5py.h5t.IEEE_F32BE).copy()
        fields = (15, 7, 8, 0, 7) if name == "bf16" else (15, 10, 5, 0, 10)
        stored.set_fields(*fields)
        stored.set_precision(16)
        stored.set_size(2)
        stored.set_ebias(127 if name == "bf16" else 15)
        return stored
    kinds = {"fp": "f", "int": "i", "uint": "u"}
    kind = name.rstrip("0123456789")
    return h5py.h5t.py_create(np.dtype(f"{order}{kinds[kind]}{int(name[len(kind):]) // 8}"))


def write(group, dataset, name, order, shape=(2, 4), chunks=None, filters=()):
    """Writes the bits of a type as they are, through a memory type equal to the stored one."""
    stored = stored_type(name, order)
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks:
        creation.set_chunk(chunks)
    for each in filters:
        {"gzip": lambda: creation.set_deflate(6), "shuffle": creation.set_shuffle,
         "fletcher32": creation.set_fletcher32}[each]()
    space = h5py.h5s.create_simple(shape)
    created = h5py.h5d.create(group.id, dataset.encode(), stored, space, creation)
    bits = np.ascontiguousarray(BITS[name].reshape(shape))
    created.write(h5py.h5s.ALL, h5py.h5s.ALL, bits if order == "<" else bits.byteswap(), mtype=stored)


def every_type(path, order, options, **file_options):
    with h5py.File(path, "w", **file_options) as file:
        case = file.create_group("cases/every-type")
        case.attrs["op"] = "test.types"
        case.attrs["why"] = "written by h5py: größer"
        case.attrs["spec_clauses"] = ["F1", "F2"]
        case.attrs["recipe"] = '{"rounding": "rne", "k": 3}'
        group = case.create_group("inputs")
        for name in BITS:
            write(group, name, name, order, **options)


def strings(path):
    with h5py.File(path, "w") as file:
        file.attrs["seed"] = "00000000000000Ff"
        file.attrs.create("suite", np.bytes_(b"bf16"))
        cases = file.create_group("cases", track_order=True)
        attribute(cases.create_group("zero-terminated"), h5py.h5t.STR_NULLTERM, b"ab\0junk")
        attribute(cases.create_group("zero-padded"), h5py.h5t.STR_NULLPAD, b"ab\0\0\0\0\0")
        attribute(cases.create_group("space-padded"), h5py.h5t.STR_SPACEPAD, b"ab     ")
        case = cases.create_group("array-of-one")
        case.attrs.create("op", ["ab"], dtype=h5py.string_dtype())
        case.attrs.create("spec_clauses", "B1", dtype=h5py.string_dtype("ascii"))
        case = cases.create_group("fixed-array")
        case.attrs.create("op", "ab", dtype=h5py.string_dtype("utf-8", 2))
        case.attrs.create("spec_clauses", np.array([b"B1", b"B22"]))
        case = cases.create_group("empty")
        case.attrs["op"] = ""
        case.attrs["recipe"] = ""
        case.attrs["spec_clauses"] = []


def attribute(case, padding, text):
    stored = h5py.h5t.C_S1.copy()
    stored.set_size(len(text))
    stored.set_strpad(padding)
    created = h5py.h5a.create(case.id, b"op", stored, h5py.h5s.create(h5py.h5s.SCALAR))
    created.write(np.frombuffer(text, f"S{len(text)}").reshape(()), mtype=stored)


def bits(path):
    with h5py.File(path, "w") as file:
        group = file.create_group("cases/bits/inputs")
        for name in ("bf16", "fp16"):
            group.create_dataset(name, data=BITS[name]).attrs["element_type"] = name
            group.create_dataset(name + "-big-endian", data=BITS[name].astype(">u2")).attrs.create(
                "element_type", np.bytes_(name.encode()))
        group.create_dataset("uint16", data=BITS["bf16"])
        group.create_dataset("fp32", data=BITS["fp32"].view(np.float32)).attrs["element_type"] = "fp32"
        group.create_dataset("scalar", data=np.float64(2.5))
        group.create_dataset("no-rows", shape=(0, 3), dtype="i4")
        group.create_dataset("growing", data=np.arange(5, dtype="i4"), maxshape=(None,), chunks=(4,))
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        created = h5py.h5d.create(
            group.id, b"compact", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((3,)), compact)
        created.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([7, 8, 9], np.int32))


def refused(path):
    """One case for each thing that is refused; the dataset is inputs/x unless the case says otherwise."""
    with h5py.File(path, "w") as file:
        cases = file.create_group("cases")

        def inputs(name):
            return cases.create_group(name).create_group("inputs")

        inputs("boolean").create_dataset("x", data=np.array([True, False]))
        inputs("compound").create_dataset("x", data=np.zeros(2, np.dtype([("a", "f4"), ("b", "i4")])))
        inputs("complex").create_dataset("x", data=np.zeros(2, np.complex64))
        inputs("strings").create_dataset("x", data=["a", "b"], dtype=h5py.string_dtype())
        inputs("opaque").create_dataset("x", data=np.zeros(2, "V2"))
        inputs("sequences").create_dataset("x", shape=(2,), dtype=h5py.vlen_dtype(np.int32))
        inputs("arrays").create_dataset("x", shape=(2,), dtype=np.dtype("(3,)i4"))
        group = inputs("references")
        group.create_dataset("x", data=[file.ref], dtype=h5py.ref_dtype)
        inputs("null").create_dataset("x", data=h5py.Empty("f4"))
        inputs("long-double").create_dataset("x", data=np.zeros(2, np.longdouble))
        odd = h5py.h5t.IEEE_F32LE.copy()
        odd.set_ebias(126)
        h5py.h5d.create(inputs("odd-bias").id, b"x", odd, h5py.h5s.create_simple((2,)))
        narrow = h5py.h5t.STD_I32LE.copy()
        narrow.set_precision(24)
        h5py.h5d.create(inputs("24-bit").id, b"x", narrow, h5py.h5s.create_simple((2,)))
        inputs("group")["x"] = h5py.SoftLink("/cases")
        inputs("soft-cycle")["x"] = h5py.SoftLink("/cases/soft-cycle/inputs/x")
        inputs("external-link")["x"] = h5py.ExternalLink("other.h5", "/x")
        cases.create_group("soft-group")["inputs"] = h5py.SoftLink("/cases/boolean/inputs")
        cases["soft-case"] = h5py.SoftLink("/cases/boolean")
        cases.create_group("hard-cycle")["inputs"] = cases
        inputs("nested").create_group("x")
        cases.create_group("dataset-as-group").create_dataset("inputs", data=[1])
        cases.create_dataset("dataset-as-case", data=[1])
        inputs("named-type")["x"] = np.dtype("f4")
        layout = h5py.VirtualLayout(shape=(2,), dtype="f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", shape=(2,))
        inputs("virtual").create_virtual_dataset("x", layout)
        inputs("external-storage").create_dataset(
            "x", shape=(2,), dtype="f4", external=[("other.bin", 0, 8)])
        inputs("lzf").create_dataset("x", data=np.zeros(64, "i4"), compression="lzf")
        inputs("scale-offset").create_dataset("x", data=np.zeros(64, "i4"), scaleoffset=0)
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        h5py.h5d.create(
            inputs("never-filled").id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), creation)
        short = np.zeros(148, "f4").tobytes()
        inputs("short-chunk").create_dataset(
            "x", shape=(150,), dtype="f4", chunks=(150,), fletcher32=True).id.write_direct_chunk((0,), short, 1)
        inputs("short-chunk-gzip").create_dataset(
            "x", shape=(150,), dtype="f4", chunks=(150,), compression="gzip").id.write_direct_chunk((0,), short, 1)
        inputs("fill-over-limit").create_dataset("x", shape=(1 << 28, 2), dtype="u1", chunks=(1 << 16, 1))
        inputs("huge-empty").create_dataset("x", shape=(10**15,), dtype="u1")
        inputs("int16-as-bf16").create_dataset("x", data=np.zeros(2, "i2")).attrs["element_type"] = "bf16"
        h5py.h5d.create(inputs("bit-field").id, b"x", h5py.h5t.STD_B8LE, h5py.h5s.create_simple((4,)))
        inputs("over-limit").create_dataset("x", shape=(1 << 34,), dtype="u1", chunks=(1 << 16,))
        inputs("huge").create_dataset("x", shape=(1 << 20, 1 << 20, 1 << 20), dtype="f8", chunks=(1, 1, 8))
        inputs("overflowing").create_dataset("x", shape=(1 << 30, 1 << 30, 1 << 10), dtype="i1", chunks=(1, 1, 8))
        inputs("compressed-huge").create_dataset(
            "x", shape=(1 << 30,), dtype="u1", chunks=(1 << 16,), compression="gzip")[0:8] = 1
        inputs("wrong-element-type").create_dataset("x", data=[1.0]).attrs["element_type"] = "bf16"
        inputs("unknown-element-type").create_dataset("x", data=[1]).attrs["element_type"] = "float7"
        cases.create_group("recipe-array").attrs["recipe"] = "[1]"
        cases.create_group("recipe-text").attrs["recipe"] = "rne"
        cases.create_group("op-number").attrs["op"] = 3
        cases.create_group("op-empty").attrs["op"] = h5py.Empty("S1")
        cases.create_group("op-two").attrs["op"] = ["a", "b"]
        cases.create_group("op-not-utf8").attrs["op"] = np.bytes_(b"\xff\xfe")
        group = inputs("composed-names")
        group.create_dataset("\u00e9", data=[1])
        group.create_dataset("e\u0301", data=[1])


def unusual(path):
    """What HDF5 can hold and few files do: elements that were never written, filters that a chunk goes without."""
    with h5py.File(path, "w") as file:
        group = file.create_group("cases/fill/inputs")
        group.create_dataset("contiguous", shape=(4,), dtype="f4")
        group.create_dataset("value", shape=(2, 2), dtype="f4", fillvalue=2.5)
        group.create_dataset("big-endian", shape=(3,), dtype=">i4", fillvalue=0x01020304)
        group.create_dataset("scalar", shape=(), dtype="f8", fillvalue=1.5)
        group.create_dataset("chunks", shape=(8,), dtype="f4", chunks=(2,), fillvalue=-7)[2:4] = [1, 2]
        group.create_dataset("no-chunks", shape=(8,), dtype="f4", chunks=(2,), fillvalue=-7)
        group.create_dataset(
            "filters", shape=(3, 4), dtype="i2", chunks=(2, 3), compression="gzip", shuffle=True, fletcher32=True,
            fillvalue=-7)[0:2, 0:3] = [[1, 2, 3], [4, 5, 6]]
        group.create_dataset("one-chunk", shape=(3,), dtype="f4", chunks=(3,), fletcher32=True, fillvalue=3)
        bits = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        bits.set_chunk((2,))
        bits.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
        bits.set_fill_value(np.array(9, "f4"))
        h5py.h5d.create(group.id, b"on-allocation", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), bits)
        group = file.create_group("cases/masks/inputs")
        ramp = np.arange(150, dtype="f4")
        for name, mask, filters in [
            ("checksum", 1, {"fletcher32": True}), ("deflate", 1, {"compression": "gzip"}),
            ("both", 3, {"compression": "gzip", "fletcher32": True}),
            ("shuffle", 3, {"shuffle": True, "fletcher32": True}),
        ]:
            created = group.create_dataset(name, shape=(150,), dtype="f4", chunks=(150,), **filters)
            created.id.write_direct_chunk((0,), ramp.tobytes(), mask)
        mixed = group.create_dataset("one-of-two", shape=(150,), dtype="f4", chunks=(75,), fletcher32=True)
        mixed.id.write_direct_chunk((0,), ramp[:75].tobytes(), 1)
        mixed[75:] = ramp[75:]


def attributes(path, **options):
    """Cases with so many attributes of variable-length strings, in their header or beside it; the order tracked or not."""
    with h5py.File(path, "w", **options) as file:
        cases = file.create_group("cases")
        for count in (4, 5, 8, 9, 30, 60):
            for tracked in (False, True):
                case = cases.create_group(f"{count}{'-tracked' if tracked else ''}", track_order=tracked)
                for index in range(count - 4):
                    case.attrs[f"extra-{index}"] = f"value {index}"
                case.attrs["op"] = "test.many"
                case.attrs["why"] = f"{count} größer"
                case.attrs["spec_clauses"] = ["F1", "F2"]
                case.attrs["recipe"] = f'{{"count": {count}}}'


def opaque(path):
    """Two answered cases, with outputs of no element type in the first."""
    with h5py.File(path, "w") as file:
        for name in ("a", "b"):
            group = file.create_group(f"cases/{name}/outputs")
            group.create_dataset("r", data=np.zeros(2, "V3") if name == "a" else np.arange(2, dtype="f4"))
            group.create_dataset("s", data=np.arange(2, dtype="f4"))
            if name == "a":
                group.create_dataset("extra", data=np.zeros(2, "V3"))


def newer(path):
    """The format of HDF5 2.0, which older libraries do not read: complex numbers, filtered chunks."""
    with h5py.File(path, "w", libver=("latest", "latest")) as file:
        file.create_dataset("cases/plain/inputs/x", data=np.arange(4.0))
        file.create_dataset("cases/chunks/inputs/x", data=np.arange(4.0), chunks=(2,), compression="gzip")


def layouts(path):
    """Every index of chunks that the format of version 1.10 has."""
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        group = file.create_group("cases/layouts/inputs")
        values = np.arange(35, dtype="i4").reshape(5, 7)
        unlimited = h5py.h5s.UNLIMITED
        for index, limits, chunk, early in [
            ("single", (5, 7), (5, 7), False), ("implicit", (5, 7), (2, 3), True), ("fixed", (5, 7), (2, 3), False),
            ("extensible", (unlimited, 7), (2, 3), False), ("b-tree", (unlimited, unlimited), (2, 3), False),
        ]:
            for filters in ("", "-filters"):
                creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                creation.set_chunk(chunk)
                if early:
                    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                if filters:
                    creation.set_deflate(4)
                    creation.set_fletcher32()
                created = h5py.h5d.create(
                    group.id, (index + filters).encode(), h5py.h5t.STD_I32LE,
                    h5py.h5s.create_simple((5, 7), limits), creation)
                created.write(h5py.h5s.ALL, h5py.h5s.ALL, values)


def main():
    FOLDER.mkdir(exist_ok=True)
    every_type(FOLDER / "little-endian.h5", "<", {})
    every_type(FOLDER / "big-endian.h5", ">", {})
    every_type(FOLDER / "big-endian-gzip.h5", ">",
               {"chunks": (2, 3), "filters": ("shuffle", "gzip", "fletcher32")})
    every_type(FOLDER / "format-1.10.h5", "<", {"chunks": (2, 4), "filters": ("gzip",)}, libver=("v110", "v110"))
    strings(FOLDER / "strings.h5")
    bits(FOLDER / "bits.h5")
    refused(FOLDER / "refused.h5")
    unusual(FOLDER / "unusual.h5")
    attributes(FOLDER / "attributes.h5")
    attributes(FOLDER / "attributes-1.10.h5", libver=("v110", "v110"))
    layouts(FOLDER / "layouts-1.10.h5")
    newer(FOLDER / "newer.h5")
    opaque(FOLDER / "opaque.h5")
    with h5py.File(FOLDER / "name-not-utf8.h5", "w") as file:
        file.create_group("cases").create_group(b"\xff\xfe")
    with h5py.File(FOLDER / "no-cases.h5", "w") as file:
        file.attrs["suite"] = "bf16"
    with h5py.File(FOLDER / "soft-cases.h5", "w") as file:
        file["cases"] = h5py.SoftLink("/elsewhere")
    with h5py.File(FOLDER / "bad-seed.h5", "w") as file:
        file.create_group("cases")
        file.attrs["seed"] = "12"
    with h5py.File(FOLDER / "user-block.h5", "w", userblock_size=512) as file:
        file.create_dataset("cases/bits/inputs/x", data=np.arange(3, dtype="i4"))
        file["cases/bits"].attrs["op"] = "test.block"


if __name__ == "__main__":
    main()
