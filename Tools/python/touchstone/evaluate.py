"""Fills the outputs of a file of cases with what a library computes.

    touchstone validate --exec 'python -m touchstone.evaluate --with torch {in} {out}'

is the same as `python -m touchstone evaluate {in} {out} --implementation torch`.
"""

from __future__ import annotations

import argparse
import sys

from .adapters import NAMES, Unsupported, implementation
from .files import GoldenFile, Tensor, read, write


def evaluate(source: str, target: str, library) -> None:
    """Writes `target` with the inputs of `source` and the library's outputs.

    An operation or recipe that the library lacks keeps its case without outputs, with a line on standard error.
    """
    golden = read(source)
    lacking: dict[str, int] = {}
    for case in golden.cases:
        outputs: dict[str, Tensor] = {}
        try:
            outputs = library.evaluate(case)
        except Unsupported as missing:
            rest = "" if str(missing) == case.op else f" with {missing}"
            lacking[f"{case.op}{rest}"] = lacking.get(f"{case.op}{rest}", 0) + 1
        case.outputs, case.truth, case.bounds, case.intermediates = outputs, {}, {}, {}
    for what, count in lacking.items():
        print(f"{library.name} has no {what}: {count} case{'s' if count > 1 else ''} left out", file=sys.stderr)
    attributes = golden.attributes | {"generator": f"{library.name} {library.version()}"}
    write(target, GoldenFile(golden.cases, attributes))


def _main() -> int:
    from .files import GoldenFileError

    parser = argparse.ArgumentParser(prog="python -m touchstone.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("input", metavar="IN")
    parser.add_argument("output", metavar="OUT")
    parser.add_argument("--with", dest="library", choices=NAMES, default="numpy", help="the library")
    options = parser.parse_args()
    try:
        evaluate(options.input, options.output, implementation(options.library))
    except (GoldenFileError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
