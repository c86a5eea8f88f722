"""A second derivation of the golden cases, written from the specification alone.

Plain Python integers, fractions, exact float64 and arbitrary precision; no code, table or constant is shared with the
program that wrote the goldens.
"""

from . import model_operations as _model_operations  # noqa: F401  registers its operations
from .operations import OPERATIONS, OperationError, Result, derive, suite_of

__all__ = ["OPERATIONS", "OperationError", "Result", "derive", "suite_of"]
