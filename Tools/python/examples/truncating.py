"""A deliberately wrong implementation, to see how a verdict reads: bf16 arithmetic that truncates.

touchstone validate --exec 'python Tools/python/examples/truncating.py {in} {out}' --suite bf16
"""

import sys

import numpy as np

from touchstone.files import Tensor, bf16_to_fp32, read, write

OPERATIONS = {"bf16.add": np.add, "bf16.sub": np.subtract, "bf16.mul": np.multiply, "bf16.div": np.divide}


def truncate(x: np.ndarray) -> np.ndarray:
    """The mistake: the lower 16 bits are dropped, whatever they say."""
    return np.where(np.isnan(x), 0x7FC0, x.view(np.uint32) >> 16).astype(np.uint16)


def main(source: str, target: str) -> None:
    golden = read(source)
    for case in golden.cases:
        case.outputs, case.truth, case.bounds = {}, {}, {}
        if case.recipe.get("rounding") != "rne":
            continue
        with np.errstate(all="ignore"):
            if case.op in OPERATIONS:
                a, b = (bf16_to_fp32(case.inputs[name].array) for name in "ab")
                case.outputs["r"] = Tensor("bf16", truncate(OPERATIONS[case.op](a, b)))
            elif case.op == "bf16.from" and case.recipe["source"] == "fp32":
                case.outputs["r"] = Tensor("bf16", truncate(case.inputs["a"].array))
    write(target, golden)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: truncating.py IN OUT")
    main(sys.argv[1], sys.argv[2])
