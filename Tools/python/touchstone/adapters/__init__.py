"""Golden cases through other libraries: each fills the outputs that it has, in its own arithmetic.

An implementation has a `name`, a `version()` and `evaluate(case)`, which returns tensors by output name and raises
`Unsupported` for an operation or a recipe that the library does not have.
"""

from __future__ import annotations

from ..files import Case, Tensor


class Unsupported(Exception):
    """The library has no such operation, or not under that recipe."""


class ReferenceImplementation:
    """The second derivation itself, in NumPy."""

    name = "numpy"

    def version(self) -> str:
        import numpy

        return numpy.__version__

    def evaluate(self, case: Case) -> dict[str, Tensor]:
        from ..reference import OPERATIONS, derive

        if case.op not in OPERATIONS:
            raise Unsupported(case.op)
        return derive(case).outputs


NAMES = ("numpy", "ml_dtypes", "torch", "torch-cuda", "jax")


def implementation(name: str):
    """The adapter of a library. Raises ImportError if the library is not installed."""
    if name == "numpy":
        return ReferenceImplementation()
    if name == "ml_dtypes":
        from .ml_dtypes import MLDtypes

        return MLDtypes()
    if name == "torch":
        from .torch import Torch

        return Torch()
    if name == "torch-cuda":
        from .torch import TorchCUDA

        return TorchCUDA()
    if name == "jax":
        from .jax import JAX

        return JAX()
    raise ValueError(f"implementation '{name}'; expected one of {', '.join(NAMES)}")
