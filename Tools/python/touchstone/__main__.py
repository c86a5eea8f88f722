"""`python -m touchstone`: exit 0 = agrees, 1 = does not, 2 = could not be judged, 64 = usage."""

from __future__ import annotations

import argparse
import sys

from .adapters import NAMES, implementation
from .files import GoldenFileError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.print_usage(sys.stderr)
        self.exit(64, f"{self.prog}: {message}\n")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m touchstone", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=_Parser)
    verify = verbs.add_parser("verify", help="derive golden files again from the specification and compare every bit")
    verify.add_argument("path", nargs="?", default="GoldenData", help="a file or a folder (default: GoldenData)")
    verify.add_argument("--mpfr", action="store_true", help="round the elementary functions by MPFR (needs gmpy2)")
    verify.add_argument("--ml-dtypes", action="store_true", help="compare what ml_dtypes implements instead")
    check = verbs.add_parser("check-case", help="check the cases of a file: keys, types, shapes, ranges; derives nothing")
    check.add_argument("path", metavar="FILE", help="a file or a folder")
    evaluate = verbs.add_parser("evaluate", help="fill the outputs of a file of cases")
    evaluate.add_argument("input", metavar="IN")
    evaluate.add_argument("output", metavar="OUT")
    evaluate.add_argument("--implementation", choices=NAMES, default="numpy")
    random = verbs.add_parser("random", help="write a file of random valid cases, inputs only, for touchstone evaluate")
    random.add_argument("output", metavar="OUT")
    random.add_argument("operations", nargs="*", metavar="OPERATION", help="dot.gemm, attention ... (default: all)")
    random.add_argument("--count", type=_positive, default=2, help="cases of each operation (default: 2)")
    random.add_argument("--seed", type=int, default=1)
    compare = verbs.add_parser("compare", help="what ml_dtypes, PyTorch and JAX do, and why")
    compare.add_argument("libraries", nargs="*", metavar="LIBRARY", help="ml_dtypes torch jax (default: all three)")
    compare.add_argument("--output", default=".", help="the folder for comparison.md and comparison.json")
    compare.add_argument("--example", help="examples/squinch_torch.py, to be compared too")
    compare.add_argument("--quick", action="store_true", help="fewer depths of K")
    suites = verbs.add_parser("suites", help="every suite through touchstone validate with a library's adapter")
    suites.add_argument("libraries", nargs="+", metavar="LIBRARY", choices=NAMES, help="torch, torch-cuda, jax, ml_dtypes, numpy")
    suites.add_argument("--program", default=".build/release/touchstone", help="the program touchstone")
    suites.add_argument("--goldens", default="GoldenData")
    suites.add_argument("--output", default="suites.md", help="the page to write (default: suites.md)")
    return parser


def _check_cases(path: str) -> int:
    """Says of every case that its signature refuses why."""
    from .files import read
    from .signatures import OperationError, check
    from .verify import golden_files

    count = refused = 0
    for file in golden_files(path):
        for case in read(file).cases:
            count += 1
            try:
                check(case)
            except OperationError as error:
                refused += 1
                print(f"{file}: {error}", file=sys.stderr)
    print(f"{count} case{'' if count == 1 else 's'}, {refused} refused")
    return 1 if refused else 0


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.verb == "evaluate":
            from .evaluate import evaluate

            evaluate(options.input, options.output, implementation(options.implementation))
            return 0
        if options.verb == "check-case":
            return _check_cases(options.path)
        if options.verb == "random":
            from .fresh import generate

            found = generate(options.output, options.count, options.seed, options.operations)
            if not found:
                print(f"no operation is called {' or '.join(options.operations)}", file=sys.stderr)
                return 64
            print(f"{options.output}: {found} case{'' if found == 1 else 's'}")
            return 0
        if options.verb == "compare":
            from .comparison import report

            unknown = set(options.libraries) - set(report.NAMES)
            if unknown:
                print(
                    f"unknown library {', '.join(sorted(unknown))}; known: {', '.join(report.NAMES)}", file=sys.stderr
                )
                return 64
            names = options.libraries or list(report.NAMES)
            results = report.run(names, options.example, options.quick, lambda line: print(line, file=sys.stderr))
            report.write(results, options.output)
            return 0
        if options.verb == "suites":
            from .suites import write as write_suites

            write_suites(
                options.libraries,
                options.program,
                options.goldens,
                options.output,
                lambda line: print(line, file=sys.stderr),
            )
            return 0
        from .reference import elementary
        from .reference.operations import Options
        from .verify import verify, verify_implementation

        if options.ml_dtypes:
            return 0 if verify_implementation(options.path, implementation("ml_dtypes")) else 1
        if options.mpfr:
            from .reference import squinch

            if any((a != b).any() for a, b in zip(squinch.tables(), squinch.tables(squinch.mpfr_exp_of_sixths))):
                print("Squinch's tables differ between mpmath and MPFR", file=sys.stderr)
                return 1
        rounder = elementary.mpfr if options.mpfr else elementary.round_function
        return 0 if verify(options.path, Options(rounder)) else 1
    except (GoldenFileError, ImportError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
