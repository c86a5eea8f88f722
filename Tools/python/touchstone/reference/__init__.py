"""A second derivation of the golden cases, written from the specification alone.

Plain Python integers, fractions, exact float64 and arbitrary precision; no code, table or constant is shared with the
program that wrote the goldens. What a case must look like is read from the same table (`touchstone.signatures`).
"""

from . import model_operations as _model_operations  # noqa: F401  registers its operations
from ..signatures import OperationError
from .operations import OPERATIONS, Result, derive

__all__ = ["OPERATIONS", "OperationError", "Result", "derive"]
