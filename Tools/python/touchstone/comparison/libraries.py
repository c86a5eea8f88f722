"""The libraries under comparison: scalar operations through their adapters, the nearest thing to fma, and products."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..adapters import Unsupported, implementation
from ..files import Case, Tensor, bf16_to_fp32
from .order import Product


@dataclass
class MatrixProduct:
    """One way to multiply bf16 matrices: what it is called, and whether its output is rounded to bf16."""

    name: str
    call: Product
    bf16: bool


@dataclass
class Library:
    name: str
    version: str
    settings: dict[str, str]
    scalar: Callable[[Case], Tensor]
    fma: str  # what stands in for an fma
    products: list[MatrixProduct] = field(default_factory=list)


def load(name: str) -> Library:
    """Raises ImportError if the library is not installed."""
    return {"ml_dtypes": _ml_dtypes, "torch": _torch, "jax": _jax}[name]()


def _scalar(adapter, fma: Callable[[Case], Tensor] | None) -> Callable[[Case], Tensor]:
    def evaluate(case: Case) -> Tensor:
        if case.op == "bf16.fma":
            if fma is None:
                raise Unsupported(case.op)
            return fma(case)
        return adapter.evaluate(case)["r"]

    return evaluate


def _ml_dtypes() -> Library:
    adapter = implementation("ml_dtypes")
    import ml_dtypes

    def multiply_add(case: Case) -> Tensor:
        a, b, c = (case.inputs[name].array.view(ml_dtypes.bfloat16) for name in "abc")
        with np.errstate(all="ignore"):
            return Tensor.from_numbers(a * b + c)

    def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.matmul(a.view(ml_dtypes.bfloat16), b.view(ml_dtypes.bfloat16)).astype(np.float32)

    settings = {name: os.environ[name] for name in ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS") if name in os.environ}
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    settings["BLAS"] = f"{blas.get('name')} {blas.get('version')}"
    product = MatrixProduct("np.matmul, bf16 in, fp32 out", matmul, False)
    return Library("ml_dtypes", adapter.version(), settings, _scalar(adapter, multiply_add), "a * b + c", [product])


def _torch() -> Library:
    adapter = implementation("torch")
    import torch

    from ..adapters.torch import from_torch, to_torch

    def addcmul(case: Case) -> Tensor:
        a, b, c = (to_torch(case.inputs[name]) for name in "abc")
        return from_torch(torch.addcmul(c, a, b))

    def bf16(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        product = to_torch(Tensor("bf16", a)) @ to_torch(Tensor("bf16", b))
        return bf16_to_fp32(from_torch(product).array)

    def native(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of accelerators that are not there
            with torch.backends.mkldnn.flags(enabled=False):
                return bf16(a, b)

    def widened(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (torch.from_numpy(bf16_to_fp32(a)) @ torch.from_numpy(bf16_to_fp32(b))).numpy()

    settings = {
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "flush subnormals": _flushes(lambda x: (torch.from_numpy(x) * 1.0).numpy()),
        "fp32 matmul precision": torch.get_float32_matmul_precision(),
        "oneDNN kernel of a [64, 64] [64, 64] product": _onednn_kernel(),
    }
    products = [
        MatrixProduct("torch, bf16 out", bf16, True),
        MatrixProduct("torch, bf16 out, oneDNN off", native, True),
        MatrixProduct("torch, inputs widened to fp32", widened, False),
    ]
    return Library("torch", adapter.version(), settings, _scalar(adapter, addcmul), "torch.addcmul", products)


def _onednn_kernel() -> str:
    """What oneDNN says that it runs, in a process of its own."""
    program = "import torch; x = torch.ones(64, 64, dtype=torch.bfloat16); x @ x"
    result = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env=os.environ | {"ONEDNN_VERBOSE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    for line in result.stdout.splitlines():
        fields = line.split(",")
        if "exec" in fields and "matmul" in fields:
            return fields[fields.index("matmul") + 1]
    return "none"


def _jax() -> Library:
    adapter = implementation("jax")
    import jax
    import ml_dtypes

    from ..adapters.jax import from_jax, matmul, to_jax

    multiply_add = jax.jit(lambda a, b, c: a * b + c)

    def fma(case: Case) -> Tensor:
        return from_jax(multiply_add(*(to_jax(case.inputs[name]) for name in "abc")))

    compiled = jax.jit(matmul)

    def fp32(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array(compiled(a.view(ml_dtypes.bfloat16), b.view(ml_dtypes.bfloat16)))

    settings = {
        "devices": str(jax.devices()),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "flush subnormals": _flushes(lambda x: np.asarray(jax.jit(lambda v: v * np.float32(1.5))(x))),
        "default matmul precision": str(jax.config.jax_default_matmul_precision),
    }
    product = MatrixProduct("jax.lax.dot_general, fp32 out", fp32, False)
    return Library("jax", adapter.version(), settings, _scalar(adapter, fma), "jit(a * b + c)", [product])


def _flushes(multiply: Callable[[np.ndarray], np.ndarray]) -> str:
    return "no" if multiply(np.array([1e-40], np.float32))[0] != 0 else "yes"
