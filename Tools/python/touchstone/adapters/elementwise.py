"""What the adapters share: which operations a library has, and under which recipe."""

from __future__ import annotations

from ..files import Case
from . import Unsupported

# roundToIntegral by the name of the function that rounds so.
INTEGRAL = {"rne": "round", "rtz": "trunc", "rdn": "floor", "rup": "ceil"}

FLOATS = ("fp16", "fp32", "fp64")


def operation(case: Case, *names: str) -> str | None:
    """The operation's own name if it is one of `names` in bf16, else None."""
    family, _, name = case.op.partition(".")
    return name if family == "bf16" and name in names else None


def nearest_even(case: Case) -> None:
    if case.recipe.get("rounding", "rne") != "rne":
        raise Unsupported(f"rounding {case.recipe['rounding']}")


def conversion(case: Case) -> str:
    """The other type of `bf16.from` and `bf16.to`; libraries truncate to integers and round everything else to even."""
    other = case.recipe["source" if case.op == "bf16.from" else "target"]
    wanted = "rtz" if case.op == "bf16.to" and other not in FLOATS else "rne"
    exact = case.op == "bf16.to" and other in ("fp32", "fp64")
    if not exact and case.recipe["rounding"] != wanted:
        raise Unsupported(f"rounding {case.recipe['rounding']}")
    return other


def comparison(less, equal, greater, unordered):
    """`bf16.compare`'s byte from four boolean arrays."""
    return less * 1 + equal * 2 + greater * 4 + unordered * 8
