"""The comparison as JSON and as Markdown tables."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict

from . import elementwise, libraries, matmul, squinch

NAMES = ("ml_dtypes", "torch", "jax")
SHOWN_DEPTHS = (1, 2, 3, 8, 33, 64, 256, 1024)


PRODUCTS = """\
Where the output is bf16, ours is rounded to bf16 before it is compared. *Cancelling* sums add up to roundings alone.
The order is found by probing. *Reproduced* is the least share of elements that a simulation of that order gives, for any
K: on ordinary and cancelling sums / with products near 2^-126 (K up to 256), where flushing and fusing show."""

SQUINCH = """\
`torch.exp` of a rounded quotient. Just under a threshold the fp32 value of 6 ln m rounds up to the integer that m has not
reached. Codes differ where a rounded quotient or root crosses an edge; decoded values where the scale does."""


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            lines = dict(line.split(":", 1) for line in stream if ":" in line)
        lines = {key.strip(): value.strip() for key, value in lines.items()}
        features = [
            name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in lines.get("flags", "").split()
        ]
        family = f"family {lines.get('cpu family')} model {lines.get('model')}"
        return f"{lines.get('model name')}, {family}, {' '.join(features)}"
    except OSError:
        return platform.processor() or platform.machine()


def run(names: list[str], example: str | None, quick: bool, progress) -> dict:
    results: dict = {"processor": processor(), "python": platform.python_version(), "libraries": {}}
    cases = [(case, True) for case in elementwise.arithmetic_cases()]
    cases += [(case, False) for case in elementwise.conversion_cases()]
    for name in names:
        try:
            library = libraries.load(name)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        findings = [
            asdict(finding) for case, by_kind in cases for finding in elementwise.compare(case, library.scalar, by_kind)
        ]
        progress(f"{name}: scalar operations and conversions")
        depths = (1, 2, 3, 33, 64) if quick else matmul.DEPTHS
        products = matmul.compare(library.products, progress, depths)
        results["libraries"][name] = {
            "version": library.version,
            "settings": library.settings,
            "fma": library.fma,
            "scalar": findings,
            "products": products,
        }
    if example and "torch" in results["libraries"]:
        results["squinch"] = squinch.compare(example, progress)
    return results


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header)] + rows]


def _share(equal: int, of: int) -> str:
    if equal == of:
        return "all"
    share = 100 * equal / of
    return f"{share:.1f} %" if 0.05 <= share < 99.95 else f"{share:.3g} %" if share < 1 else f"all but {of - equal:,}"


def _detail(finding: dict) -> str:
    """Why, with counts only where there are several reasons; how far, where distance means something."""
    reasons = finding["reasons"]
    if len(reasons) == 1 and "not explained" not in reasons[0]:
        reasons = [reasons[0].rsplit(" (", 1)[0]]
    ulp = finding["largest_ulp"]
    integer = "int" in finding["operation"].split("->")[-1] or finding["operation"] == "compare"
    if not integer and ulp:
        reasons = [*reasons, "NaN against a number" if ulp < 0 else f"{ulp:,} ulp" if ulp < 1 << 20 else "far"]
    return "; ".join(reasons)


def _summary_rows(results: dict) -> list[list[str]]:
    """One row an operation: what all its kinds of operands show together."""
    operations: dict[str, None] = {}
    for library in results["libraries"].values():
        operations.update(dict.fromkeys(finding["operation"] for finding in library["scalar"]))
    rows: list[list[str]] = []
    for operation in operations:
        cells = []
        for library in results["libraries"].values():
            findings = [finding for finding in library["scalar"] if finding["operation"] == operation]
            if not findings:
                cells.append("has none")
                continue
            reasons: dict[str, None] = {}
            for finding in findings:
                reasons.update(dict.fromkeys(reason.rsplit(" (", 1)[0] for reason in finding["reasons"]))
            cells.append("; ".join(reasons) if reasons else "every bit")
        if rows and rows[-1][1:] == cells:
            rows[-1][0] += f", {operation}"
        else:
            rows.append([operation, *cells])
    return rows


def _scalar_rows(results: dict, conversions: bool) -> list[list[str]]:
    order: dict[tuple[str, str], None] = {}
    for library in results["libraries"].values():
        for finding in library["scalar"]:
            if ("->" in finding["operation"]) == conversions:
                order[finding["operation"], finding["kind"]] = None
    rows = []
    found = {
        name: {(f["operation"], f["kind"]): f for f in library["scalar"]}
        for name, library in results["libraries"].items()
    }
    for key in order:
        count = max(f[key]["elements"] for f in found.values() if key in f)
        cells = []
        for findings in found.values():
            finding = findings.get(key)
            if finding is None:
                cells.append("has none")
                continue
            cell = _share(finding["elements"] - finding["different"], finding["elements"])
            if finding["different"]:
                cell += ": " + _detail(finding)
            cells.append(cell)
        rows.append([key[0], key[1], f"{count:,}", *cells])
    return rows


def _merge(rows: list[list[str]]) -> list[list[str]]:
    """Kinds of one operation on which every library agrees with us, in one row."""
    merged: list[list[str]] = []
    by_operation: dict[str, list[list[str]]] = {}
    for row in rows:
        by_operation.setdefault(row[0], []).append(row)
    for operation, group in by_operation.items():
        same = [row for row in group if all(cell in ("all", "has none") for cell in row[3:])]
        if len(same) > 1:
            total = sum(int(row[2].replace(",", "")) for row in same)
            merged.append([operation, ", ".join(row[1] for row in same), f"{total:,}", *same[0][3:]])
            merged += [row for row in group if row not in same]
        else:
            merged += group
    return merged


def markdown(results: dict) -> str:
    lines = [f"Processor: {results['processor']}. Python {results['python']}."]
    for name, library in results["libraries"].items():
        settings = ", ".join(f"{key}: {value}" for key, value in library["settings"].items() if value)
        lines.append(f"{name} {library['version']}; {settings}; fma is `{library['fma']}`.")
    names = list(results["libraries"])
    lines += ["", "### Scalar operations at a glance: rounding to nearest even, to integers by truncation", ""]
    lines += _table(["operation", *names], _summary_rows(results))
    lines += ["", "### Arithmetic: elements with the specified bits", ""]
    lines += _table(["operation", "operands", "elements", *names], _merge(_scalar_rows(results, False)))
    lines += ["", "### Conversions", ""]
    lines += _table(["conversion", "operands", "elements", *names], _merge(_scalar_rows(results, True)))
    lines += ["", "### What stands for NaN", ""]
    rows = []
    kinds: dict[tuple[str, str], list[str]] = {}
    for index, library in enumerate(results["libraries"].values()):
        for finding in library["scalar"]:
            if finding["nan_bits"]:
                kinds.setdefault((finding["operation"], finding["kind"]), [""] * len(names))[index] = finding[
                    "nan_bits"
                ]
    grouped: dict[tuple[str, ...], list[str]] = {}
    for (operation, _), cells in kinds.items():
        grouped.setdefault(tuple(cells), []).append(operation)
    rows = [[", ".join(dict.fromkeys(operations)), *cells] for cells, operations in grouped.items()]
    lines += _table(["operation", *names], rows)
    lines += [
        "",
        "### Matrix products: share of elements equal to `paired-ftz` / to `chain-ieee`",
        "",
        PRODUCTS,
        "",
    ]
    rows = []
    shown: list[int] = []
    for library in results["libraries"].values():
        series: dict[tuple, list[dict]] = {}
        for row in library["products"]:
            series.setdefault((row["product"], row["rows"], row["columns"]), []).append(row)
        shown = shown or [d for d in SHOWN_DEPTHS if any(r["depth"] == d for r in library["products"])]
        for (product, m, n), group in series.items():
            by_depth = {row["depth"]: row for row in group}
            cells = [
                f"{_percent(by_depth[d]['equal']['paired-ftz'])} / {_percent(by_depth[d]['equal']['chain-ieee'])}"
                for d in shown
            ]
            deep = max(d for d in by_depth if d <= 64)
            cancelling = by_depth[deep]["equal_cancelling"]
            cells.append(f"{_percent(cancelling['paired-ftz'])} / {_percent(cancelling['chain-ieee'])}")
            worst = max(max(row["largest_ulp"].values()) for row in group)
            exact = all(row["reproduced"] == 1 for row in group)
            near = [row for row in group if row["near_underflow"] is not None and row["depth"] > 1]
            least = min(row["near_underflow"] for row in near)
            reproduced = (
                "all" if exact else _percent(min(row["reproduced"] for row in group))
            ) + f" / {_percent(least)}"
            models = "; ".join(dict.fromkeys(row["model"] for row in near))
            rows.append([product, f"[{m}, K] [K, {n}]", *cells, f"{worst:,}", _orders(group), models, reproduced])
    lines += _table(
        [
            "product",
            "shape",
            *(f"K = {d}" for d in shown),
            "K = 64, cancelling",
            "largest ulp",
            "order found",
            "near underflow",
            "reproduced",
        ],
        rows,
    )
    if "squinch" in results:
        part = results["squinch"]
        lines += [
            "",
            "### Squinch in PyTorch eager",
            "",
            f"Of the 256 scales, {part['scales_different']} differ, by up to {part['scales_largest_ulp']} ulp: {SQUINCH}",
            "",
        ]
        lines += _table(
            [
                "variant",
                "blocks",
                "count",
                "scale byte differs",
                "codes differ under an equal scale",
                "decoded values differ",
            ],
            [
                [
                    row["variant"],
                    row["blocks_of"],
                    f"{row['blocks']:,}",
                    f"{row['scale_bytes_different']:,}",
                    f"{row['codes_different_under_equal_scale']:,} of {row['codes']:,}",
                    f"{row['decoded_different']:,} of {row['decoded']:,}",
                ]
                for row in part["rows"]
            ],
        )
    return "\n".join(lines) + "\n"


def _percent(share: float) -> str:
    if share == 1:
        return "all"
    return f"{100 * share:.0f} %" if share < 0.995 else f"{min(100 * share, 99.9):.1f} %"


def _orders(group: list[dict]) -> str:
    """The orders by depth, runs of equal ones together."""
    parts: list[tuple[str, list[int]]] = []
    for row in group:
        if row["order"] == "any":
            continue
        name = row["order"] + (f" (and {row['orders'] - 1} more)" if row["orders"] > 1 else "")
        if parts and parts[-1][0] == name:
            parts[-1][1].append(row["depth"])
        else:
            parts.append((name, [row["depth"]]))
    if len(parts) == 1:
        return parts[0][0]
    return "; ".join(
        f"K {depths[0]}{'-' + str(depths[-1]) if len(depths) > 1 else ''}: {name}" for name, depths in parts
    )


def write(results: dict, folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    for name, text in (("comparison.json", json.dumps(results, indent=1) + "\n"), ("comparison.md", markdown(results))):
        path = os.path.join(folder, name)
        with open(path + ".part", "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(path + ".part", path)
