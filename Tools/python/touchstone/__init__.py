"""Golden tensors of Touchstone in NumPy.

`touchstone.files`       reads and writes golden files, every bit kept
`touchstone.signatures`  what each operation takes and gives, and the check of a case
`touchstone.reference`   a second derivation of every operation from the specification, sharing no code with the first
`touchstone.adapters`    the same operations through ml_dtypes, PyTorch and JAX
"""

__version__ = "0.1.0"
