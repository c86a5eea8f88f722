"""Fills the outputs of a file of cases with what a library computes."""

from __future__ import annotations

import sys

from .adapters import Unsupported
from .files import GoldenFile, Tensor, read, write


def evaluate(source: str, target: str, implementation) -> None:
    """Writes `target` with the inputs of `source` and the library's outputs.

    An operation or recipe that the library lacks keeps its case without outputs, with a line on standard error.
    """
    golden = read(source)
    lacking: dict[str, int] = {}
    for case in golden.cases:
        outputs: dict[str, Tensor] = {}
        try:
            outputs = implementation.evaluate(case)
        except Unsupported as missing:
            rest = "" if str(missing) == case.op else f" with {missing}"
            lacking[f"{case.op}{rest}"] = lacking.get(f"{case.op}{rest}", 0) + 1
        case.outputs, case.truth, case.bounds, case.intermediates = outputs, {}, {}, {}
    for what, count in lacking.items():
        print(f"{implementation.name} has no {what}: {count} case{'s' if count > 1 else ''} left out", file=sys.stderr)
    attributes = golden.attributes | {"generator": f"{implementation.name} {implementation.version()}"}
    write(target, GoldenFile(golden.cases, attributes))
