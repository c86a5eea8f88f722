"""Recomputes golden files from the specification and compares every bit."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .files import Case, GoldenFileError, Tensor, read
from .reference import OperationError, Result, derive
from .reference.operations import Options
from .signatures import suite_of

MISMATCHES_SHOWN = 5


@dataclass
class Tally:
    """Of one suite."""

    files: int = 0
    cases: int = 0
    elements: int = 0
    mismatches: int = 0


def golden_files(path: str) -> list[str]:
    """A file, or every .h5 file below a folder, by name."""
    if os.path.isfile(path):
        return [path]
    found = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if name.endswith(".h5")]
    if not found:
        raise GoldenFileError(f"{path}: no golden file there")
    return sorted(found)


def check_manifest(root: str) -> list[str]:
    """What MANIFEST.json says of size and SHA-256 and the files do not bear out."""
    path = os.path.join(root, "MANIFEST.json")
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8") as stream:
        manifest = json.load(stream)
    complaints = []
    listed = set()
    for entry in manifest["files"]:
        name = entry.get("path") or entry.get("file") or entry["name"]
        listed.add(os.path.normpath(name))
        file = os.path.join(root, name)
        if not os.path.isfile(file):
            complaints.append(f"{name}: listed in MANIFEST.json, not there")
            continue
        with open(file, "rb") as stream:
            data = stream.read()
        if "bytes" in entry and entry["bytes"] != len(data):
            complaints.append(f"{name}: {len(data)} bytes; MANIFEST.json says {entry['bytes']}")
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            complaints.append(f"{name}: SHA-256 is not the manifest's")
    for file in golden_files(root):
        if os.path.relpath(file, root) not in listed:
            complaints.append(f"{os.path.relpath(file, root)}: not listed in MANIFEST.json")
    return complaints


def describe(case: Case, place: str, ours: Tensor, stored: Tensor, index: int, source: str = "derived") -> str:
    """One mismatch, in bits and numbers, with the elementwise inputs that made it."""

    def show(tensor: Tensor, at: int) -> str:
        width = tensor.array.itemsize * 2
        number = tensor.numbers().reshape(-1)[at]
        return f"0x{int(tensor.bits.reshape(-1)[at]):0{width}x} ({number!s})"

    position = ", ".join(str(int(i)) for i in np.unravel_index(index, stored.shape))
    inputs = "".join(
        f", {name} = {show(tensor, index)}" for name, tensor in case.inputs.items() if tensor.shape == stored.shape
    )
    values = f"{source} {show(ours, index)}, file {show(stored, index)}"
    return f"{case.name} ({case.op}) {place}[{position}]: {values}{inputs}"


def compare_group(
    case: Case, group: str, derived: dict[str, Tensor], stored: dict[str, Tensor]
) -> tuple[int, int, list[str]]:
    """Elements, mismatches, and lines about the first of them."""
    elements = mismatches = 0
    lines = []
    # In order of execution, so that the first complaint names the first difference.
    for name in [*derived, *(name for name in stored if name not in derived)]:
        place = f"{group}/{name}"
        if name not in stored or name not in derived:
            count = (stored.get(name) or derived[name]).array.size
            mismatches += max(count, 1)
            lines.append(
                f"{case.name} ({case.op}) {place}: only in {'the file' if name in stored else 'the derivation'}"
            )
            continue
        ours, theirs = derived[name], stored[name]
        elements += ours.array.size
        if (ours.type, ours.shape) != (theirs.type, theirs.shape):
            mismatches += max(ours.array.size, 1)
            lines.append(
                f"{case.name} ({case.op}) {place}: derived {ours.type} {list(ours.shape)}, "
                f"file {theirs.type} {list(theirs.shape)}"
            )
            continue
        wrong = np.flatnonzero((ours.bits != theirs.bits).reshape(-1))
        mismatches += len(wrong)
        lines += [describe(case, place, ours, theirs, int(i)) for i in wrong[:MISMATCHES_SHOWN]]
    return elements, mismatches, lines


def verify(path: str, options: Options, report: Callable[[str], None] = print) -> bool:
    """Derives every case again and prints a table by suite; true if all bits agree."""
    suites: dict[str, Tally] = {}
    complaints = check_manifest(path) if os.path.isdir(path) else []
    for name in golden_files(path):
        golden = read(name)
        seen: set[str] = set()
        for case in golden.cases:
            tally = suites.setdefault(suite_of(case.op), Tally())
            tally.files += suite_of(case.op) not in seen
            seen.add(suite_of(case.op))
            tally.cases += 1
            try:
                result: Result = derive(case, options)
            except OperationError as error:
                complaints.append(f"{name}: {error}")
                tally.mismatches += 1
                continue
            for group in ("outputs", "truth", "bounds", "intermediates"):
                elements, mismatches, lines = compare_group(case, group, getattr(result, group), getattr(case, group))
                tally.elements += elements
                tally.mismatches += mismatches
                complaints += [f"{name}: {line}" for line in lines]
    if not any(tally.elements or tally.mismatches for tally in suites.values()):
        raise GoldenFileError(f"{path}: no element to verify")
    print_table(suites, report)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return not complaints and not any(tally.mismatches for tally in suites.values())


def print_table(suites: dict[str, Tally], report: Callable[[str], None]) -> None:
    report(f"{'suite':<12}{'files':>7}{'cases':>8}{'elements':>12}{'mismatches':>12}")
    for suite, tally in suites.items():
        report(f"{suite:<12}{tally.files:>7}{tally.cases:>8}{tally.elements:>12,}{tally.mismatches:>12,}")
    names = ("files", "cases", "elements", "mismatches")
    totals = [sum(getattr(tally, name) for tally in suites.values()) for name in names]
    report(f"{'all':<12}{totals[0]:>7}{totals[1]:>8}{totals[2]:>12,}{totals[3]:>12,}")


def verify_implementation(path: str, implementation, report: Callable[[str], None] = print) -> bool:
    """Compares a library, wherever it implements a case, with the file's outputs; NaNs are one class (F2).

    A library that means something else by an operation (a conversion by way of fp32, integers out of range) differs
    for a reason; `comparison.elementwise` has models of such reasons, and an element that one of them reproduces is
    counted apart. True if nothing is left unexplained.
    """
    from .adapters import Unsupported
    from .comparison.elementwise import explain

    tallies: dict[str, list[int]] = {}
    reasons: dict[str, int] = {}
    complaints = []
    report(f"{implementation.name} {implementation.version()}")
    for name in golden_files(path):
        for case in read(name).cases:
            try:
                outputs = implementation.evaluate(case)
            except Unsupported:
                continue
            tally = tallies.setdefault(case.op, [0, 0, 0, 0])
            tally[0] += 1
            for output, tensor in outputs.items():
                stored = case.outputs[output]
                wrong = differing(tensor, stored)
                tally[1] += stored.array.size
                if not wrong.any():
                    continue
                left = int(wrong.sum())
                if case.op.startswith("bf16."):
                    explained, unexplained = explain(case, stored, case.outputs["flags"].array, tensor, wrong)
                    for reason, count in explained:
                        reasons[f"{case.op}: {reason}"] = reasons.get(f"{case.op}: {reason}", 0) + count
                        tally[2] += count
                        left -= count
                    wrong = unexplained
                tally[3] += left
                complaints += [
                    f"{name}: {describe(case, 'outputs/' + output, tensor, stored, int(i), implementation.name)}"
                    for i in np.flatnonzero(wrong.reshape(-1))[:MISMATCHES_SHOWN]
                ]
    if not any(tally[1] for tally in tallies.values()):
        raise GoldenFileError(f"{path}: no element of an operation that {implementation.name} implements")
    report(f"{'operation':<22}{'cases':>7}{'elements':>11}{'explained':>11}{'unexplained':>13}")
    for op, tally in tallies.items():
        report(f"{op:<22}{tally[0]:>7}{tally[1]:>11,}{tally[2]:>11,}{tally[3]:>13,}")
    totals = [sum(column) for column in zip(*tallies.values())]
    report(f"{'all':<22}{totals[0]:>7}{totals[1]:>11,}{totals[2]:>11,}{totals[3]:>13,}")
    for reason, count in reasons.items():
        report(f"  {count:,} x {reason}")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return not complaints


def differing(ours: Tensor, theirs: Tensor) -> np.ndarray:
    """Where two tensors of one type and shape differ, NaNs being one class."""
    different = ours.bits != theirs.bits
    if ours.type in ("bf16", "fp16", "fp32", "fp64"):
        different &= ~(is_nan(ours) & is_nan(theirs))
    return different


def is_nan(tensor: Tensor) -> np.ndarray:
    if tensor.type == "bf16":
        return (tensor.array & 0x7FFF) > 0x7F80
    return np.isnan(tensor.array)
