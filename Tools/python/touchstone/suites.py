"""Every suite through `touchstone validate` with a library's adapter, as one Markdown page."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile

from .adapters import implementation
from .comparison.report import processor
from .signatures import suites

HEADER = (
    "operation", "cases", "skipped", "exact", "reordered", "outside", "missing", "elements", "right bits", "farthest"
)  # fmt: skip

INTRODUCTION = """\
# Libraries on every suite

Made by `python -m touchstone suites LIBRARY...`: each suite of the shipped goldens through

    touchstone validate --suite SUITE --exec 'python -m touchstone.evaluate --with LIBRARY {in} {out}'

*skipped*: cases that the adapter leaves out, because the library has no such operation or not under that recipe. The
next columns count outputs: *exact*, every bit as specified; *reordered*, other bits, inside the bound and unbiased,
where the operation is judged by a bound; *outside*; *missing*, an output that the library does not give, as the flags
of bf16 arithmetic. *right bits*: the share of elements with the specified bits (NaNs are one class); *farthest*: the
largest distance in representable values, NaN where a NaN stands against a number. What differs is not a fault by
itself: but for the sums and products an adapter is held to one definition of many, down to each rounding, and the
cases are chosen where implementations differ: infinities, subnormals, ties, limits.
"""


def judge(program: str, library: str, suite: str, goldens: str, folder: str) -> dict | None:
    """The report of one suite; None if the library has nothing of it."""
    path = os.path.join(folder, f"{library}-{suite}.json")
    command = f"{shlex.quote(sys.executable)} -m touchstone.evaluate --with {library} {{in}} {{out}}"
    result = subprocess.run(
        [program, "validate", "--suite", suite, "--goldens", goldens, "--exec", command, "--format", "json"]
        + ["--output", path, "--quiet"],
        check=False,
        capture_output=True,
        text=True,
    )
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    if result.returncode == 2 and "no output of any" in result.stderr:
        return None
    raise RuntimeError(f"{suite} of {library}: exit status {result.returncode}: {result.stderr.strip()}")


def _order(label: str) -> int:
    return 1 << 40 if label == "more" else int(label.split("-")[-1])


def _row(name: str, cases: list[dict], skipped: int) -> list[str]:
    outputs = [output for case in cases for output in case["outputs"]]

    def count(*verdicts: str) -> str:
        found = sum(output["verdict"] in verdicts for output in outputs)
        return str(found) if found else "-"

    judged = [output for output in outputs if output["verdict"] not in ("missing", "malformed", "failed")]
    elements = sum(output["elements"] for output in judged)
    wrong = sum(output["mismatches"] for output in judged)
    labels = [label for output in judged for label in output.get("ulps", {})]
    farthest = max(labels, key=_order, default="-") if wrong else "-"
    if any(output.get("nan_against_number") for output in judged):
        farthest = "NaN" if farthest in ("-", "0") else f"{farthest}, NaN"
    share = "-" if not elements else "all" if not wrong else f"{100 * (elements - wrong) / elements:.4g} %"
    return [
        f"`{name}`", str(len(cases)), str(skipped) if skipped else "-", count("exact"),
        count("legal reordering", "within tolerance"), count("outside", "malformed", "failed"), count("missing"),
        f"{elements:,}" if elements else "-", share, farthest,
    ]  # fmt: skip


def table(reports: list[dict | None]) -> tuple[list[str], list[str]]:
    """Lines of Markdown, and the operations that the library does not have at all."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    absent: list[str] = []
    for report in reports:
        if report is None:
            continue
        operations = dict.fromkeys(case["op"] for case in report["cases"])
        skipped = [case["op"] for case in report["skipped"]]
        for name in operations:
            cases = [case for case in report["cases"] if case["op"] == name]
            lines.append("| " + " | ".join(_row(name, cases, skipped.count(name))) + " |")
        absent += [name for name in dict.fromkeys(skipped) if name not in operations]
    return lines, absent


def write(libraries: list[str], program: str, goldens: str, target: str, progress) -> None:
    lines = [INTRODUCTION, f"Processor: {processor()}. Python {sys.version.split()[0]}."]
    with tempfile.TemporaryDirectory() as folder:
        for library in libraries:
            version = implementation(library).version()
            reports = []
            for suite in suites():
                reports.append(judge(program, library, suite, goldens, folder))
                progress(f"{library}: {suite}")
            rows, absent = table(reports)
            whole = [suite for suite, report in zip(suites(), reports) if report is None]
            lines += ["", f"## {library} {version}", "", *rows]
            if absent:
                lines += ["", "Not in the library: " + ", ".join(f"`{name}`" for name in absent) + "."]
            if whole:
                lines += ["", "Nothing of the suites " + ", ".join(f"`{name}`" for name in whole) + "."]
    with open(target, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
