"""JAX on CPU: each operation a compiled XLA program of its own."""

from __future__ import annotations

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from ..files import STORAGE, Case, Tensor
from . import Unsupported
from .elementwise import INTEGRAL, comparison, conversion, nearest_even, operation

jax.config.update("jax_enable_x64", True)

_BINARY = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": jnp.divide,
    "minimum": jnp.minimum,
    "maximum": jnp.maximum,
    "minimumNumber": jnp.fmin,
    "maximumNumber": jnp.fmax,
}

_MATH = {
    "exp": jnp.exp,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": jax.lax.rsqrt,
    "reciprocal": jnp.reciprocal,
}


_FORMATS = {"fp32": jnp.float32, "bf16": jnp.bfloat16, "fp16": jnp.float16}  # of outputs, by the recipe


def to_jax(tensor: Tensor) -> jax.Array:
    return jnp.asarray(tensor.array.view(ml_dtypes.bfloat16) if tensor.type == "bf16" else tensor.array)


def from_jax(array: jax.Array) -> Tensor:
    return Tensor.from_numbers(np.asarray(array))


def matmul(a: jax.Array, b: jax.Array, out: np.dtype = np.float32) -> jax.Array:
    return jax.lax.dot_general(a, b, (((1,), (0,)), ((), ())), preferred_element_type=out)


def _gemm(case: Case, array) -> jax.Array:
    output = case.recipe.get("output", "fp32")
    if output == "bf16" and "c" not in case.inputs:
        return jax.jit(matmul, static_argnums=2)(array("a"), array("b"), jnp.bfloat16)
    product = jax.jit(matmul)(array("a"), array("b"))
    return (product + array("c") if "c" in case.inputs else product).astype(_FORMATS[output])


@jax.jit
def _swiglu(gate: jax.Array, up: jax.Array, dy: jax.Array) -> dict[str, jax.Array]:
    wide = gate.astype(jnp.float32), up.astype(jnp.float32)
    y, gradient = jax.vjp(lambda gate, up: jax.nn.silu(gate) * up, *wide)
    dgate, dup = gradient(dy)
    return {"y": y, "dgate": dgate, "dup": dup}


class JAX:
    name = "jax"

    def version(self) -> str:
        import jaxlib

        return f"{jax.__version__} (jaxlib {jaxlib.__version__}, {jax.default_backend()})"

    def evaluate(self, case: Case) -> dict[str, Tensor]:
        def array(name: str) -> jax.Array:
            return to_jax(case.inputs[name])

        if case.op == "dot.gemm":
            return {"d": from_jax(_gemm(case, array))}
        if case.op == "layer.swiglu":
            return {name: from_jax(value) for name, value in _swiglu(*map(array, ("gate", "up", "dy"))).items()}
        if case.op.startswith("sum."):
            terms = array("x") * array("y") if "y" in case.inputs else array("x")
            return {"s": from_jax(jax.jit(lambda x: x.sum(1))(terms))}
        if case.op.startswith("math."):
            function = _MATH.get(case.op[5:])
            if function is None:
                raise Unsupported(case.op)
            return {"y": from_jax(jax.jit(function)(array("x")))}
        return {"r": self._result(case, array)}

    def _result(self, case: Case, array) -> Tensor:
        if name := operation(case, *_BINARY):
            nearest_even(case)
            return from_jax(jax.jit(_BINARY[name])(array("a"), array("b")))
        if operation(case, "sqrt"):
            nearest_even(case)
            return from_jax(jax.jit(jnp.sqrt)(array("a")))
        if operation(case, "roundToIntegral") and case.recipe["rounding"] in INTEGRAL:
            return from_jax(jax.jit(getattr(jnp, INTEGRAL[case.recipe["rounding"]]))(array("a")))
        if name := operation(case, "nextUp", "nextDown"):
            a = array("a")
            return from_jax(jnp.nextafter(a, jnp.full_like(a, np.inf if name == "nextUp" else -np.inf)))
        if operation(case, "compare"):
            a, b = array("a"), array("b")
            unordered = jnp.isnan(a) | jnp.isnan(b)
            return from_jax(comparison(a < b, a == b, a > b, unordered).astype(np.uint8))
        if operation(case, "from"):
            conversion(case)
            return from_jax(jax.jit(lambda x: x.astype(jnp.bfloat16))(array("a")))
        if operation(case, "to"):
            target = STORAGE[conversion(case)]
            return from_jax(jax.jit(lambda x: x.astype(target))(array("a")))
        raise Unsupported(case.op)
