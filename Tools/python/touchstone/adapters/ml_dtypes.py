"""NumPy arrays of `ml_dtypes.bfloat16`: what JAX, TensorFlow and Orbax compute with on the host."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from ..files import STORAGE, Case, Tensor
from . import Unsupported
from .elementwise import INTEGRAL, comparison, conversion, nearest_even, operation

BF16 = np.dtype(ml_dtypes.bfloat16)

_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "minimumNumber": np.fmin,
    "maximumNumber": np.fmax,
}


class MLDtypes:
    name = "ml_dtypes"

    def version(self) -> str:
        return f"{ml_dtypes.__version__} (NumPy {np.__version__})"

    def evaluate(self, case: Case) -> dict[str, Tensor]:
        with np.errstate(all="ignore"):
            return {"r": self._result(case)}

    def _result(self, case: Case) -> Tensor:
        def array(name: str) -> np.ndarray:
            return case.inputs[name].array.view(BF16)

        def bf16(values: np.ndarray) -> Tensor:
            return Tensor("bf16", np.asarray(values, BF16).view(np.uint16))

        if name := operation(case, *_BINARY):
            nearest_even(case)
            return bf16(_BINARY[name](array("a"), array("b")))
        if operation(case, "sqrt"):
            nearest_even(case)
            return bf16(np.sqrt(array("a")))
        if operation(case, "roundToIntegral") and case.recipe["rounding"] in INTEGRAL:
            function = {"round": np.rint, "trunc": np.trunc, "floor": np.floor, "ceil": np.ceil}
            return bf16(function[INTEGRAL[case.recipe["rounding"]]](array("a")))
        if name := operation(case, "nextUp", "nextDown"):
            toward = np.asarray(np.inf if name == "nextUp" else -np.inf, BF16)
            return bf16(np.nextafter(array("a"), toward))
        if operation(case, "compare"):
            a, b = array("a"), array("b")
            unordered = np.isnan(a) | np.isnan(b)
            return Tensor("uint8", comparison(a < b, a == b, a > b, unordered).astype(np.uint8))
        if operation(case, "from"):
            conversion(case)
            return bf16(case.inputs["a"].array.astype(BF16))
        if operation(case, "to"):
            target = conversion(case)
            return Tensor(target, array("a").astype(STORAGE[target]))
        raise Unsupported(case.op)
