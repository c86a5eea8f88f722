"""PyTorch, eager, on the CPU or on a CUDA device."""

from __future__ import annotations

import numpy as np
import torch

from ..files import STORAGE, Case, Tensor
from . import Unsupported
from . import torch_layers
from .elementwise import INTEGRAL, comparison, conversion, nearest_even, operation

_BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    "minimumNumber": torch.fmin,
    "maximumNumber": torch.fmax,
}

_MATH = {name: getattr(torch, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal")}

_DTYPES = {"fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64} | {
    name: getattr(torch, name) for name in STORAGE if "int" in name and hasattr(torch, name)
}


def to_torch(tensor: Tensor) -> torch.Tensor:
    array = np.ascontiguousarray(tensor.array).copy()
    device = torch.get_default_device()
    if tensor.type == "bf16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(array).to(device)


def from_torch(tensor: torch.Tensor) -> Tensor:
    tensor = tensor.detach().contiguous().cpu()
    if tensor.dtype == torch.bfloat16:
        return Tensor("bf16", tensor.view(torch.int16).numpy().view(np.uint16))
    return Tensor.from_numbers(tensor.numpy())


def _gemm(case: Case, tensor) -> torch.Tensor:
    output = case.recipe.get("output", "fp32")
    if output == "bf16" and "c" not in case.inputs:
        return torch.mm(tensor("a"), tensor("b"))
    # bf16 products are exact in fp32, so an fp32 matrix product of the widened inputs is a bf16 one that keeps its
    # accumulator; the order of its sum is the library's.
    product = tensor("a").float() @ tensor("b").float()
    return (product + tensor("c") if "c" in case.inputs else product).to(torch_layers.FORMATS[output])


class Torch:
    name = "torch"

    def version(self) -> str:
        capability = torch.backends.cpu.get_cpu_capability()
        return f"{torch.__version__} (CPU {capability}, oneDNN {'on' if torch.backends.mkldnn.enabled else 'off'})"

    def evaluate(self, case: Case) -> dict[str, Tensor]:
        def tensor(name: str) -> torch.Tensor:
            return to_torch(case.inputs[name])

        if case.op in torch_layers.OPERATIONS:
            return {name: from_torch(value) for name, value in torch_layers.OPERATIONS[case.op](case, tensor).items()}
        if case.op == "dot.gemm":
            return {"d": from_torch(_gemm(case, tensor))}
        if case.op.startswith("sum."):
            return {"s": from_torch((tensor("x") * tensor("y") if "y" in case.inputs else tensor("x")).sum(1))}
        if case.op.startswith("math."):
            function = _MATH.get(case.op[5:])
            if function is None:
                raise Unsupported(case.op)
            return {"y": from_torch(function(tensor("x")))}
        return {"r": self._result(case, tensor)}

    def _result(self, case: Case, tensor) -> Tensor:
        if name := operation(case, *_BINARY):
            nearest_even(case)
            return from_torch(_BINARY[name](tensor("a"), tensor("b")))
        if operation(case, "fma"):
            nearest_even(case)
            return from_torch(torch.addcmul(tensor("c"), tensor("a"), tensor("b")))
        if operation(case, "sqrt"):
            nearest_even(case)
            return from_torch(torch.sqrt(tensor("a")))
        if operation(case, "roundToIntegral") and case.recipe["rounding"] in INTEGRAL:
            return from_torch(getattr(torch, INTEGRAL[case.recipe["rounding"]])(tensor("a")))
        if name := operation(case, "nextUp", "nextDown"):
            a = tensor("a")
            return from_torch(torch.nextafter(a, torch.full_like(a, float("inf" if name == "nextUp" else "-inf"))))
        if operation(case, "compare"):
            a, b = tensor("a"), tensor("b")
            unordered = torch.isnan(a) | torch.isnan(b)
            return from_torch(comparison(a < b, a == b, a > b, unordered).to(torch.uint8))
        if operation(case, "from"):
            conversion(case)
            return from_torch(tensor("a").to(torch.bfloat16))
        if operation(case, "to"):
            return from_torch(tensor("a").to(_DTYPES[conversion(case)]))
        raise Unsupported(case.op)


class TorchCUDA(Torch):
    """The same functions on the default CUDA device, in full fp32: TF32 is off, as it is by default for products."""

    name = "torch-cuda"

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise ImportError("PyTorch sees no CUDA device")
        torch.set_default_device("cuda")
        torch.backends.cuda.matmul.allow_tf32 = False

    def version(self) -> str:
        return f"{torch.__version__} ({torch.cuda.get_device_name()})"
