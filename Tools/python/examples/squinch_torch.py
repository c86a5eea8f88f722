"""Squinch (floor16, round15) as one would first write it in PyTorch eager: fp32 logarithm, fp32 square root, no tables.

    touchstone validate --exec 'python Tools/python/examples/squinch_torch.py {in} {out}' --suite squinch

It is right almost everywhere, and wrong where it matters to a bit-exact format: a block whose largest magnitude lies
within a few units in the last place of a threshold gets the neighbouring scale, and a value next to a boundary between
two codes the neighbouring code.
"""

import sys

from touchstone.adapters.torch import from_torch, to_torch
from touchstone.adapters.torch_layers import squinch_decode as decode
from touchstone.adapters.torch_layers import squinch_encode as encode
from touchstone.adapters.torch_layers import squinch_scale as scale  # noqa: F401 (the comparison looks at it)
from touchstone.files import read, write


def main(source: str, target: str) -> None:
    golden = read(source)
    for case in golden.cases:
        case.outputs, case.truth, case.bounds = {}, {}, {}
        variant = case.recipe.get("variant")
        if variant not in ("floor16", "round15") or case.recipe.get("nonfinite", "refuse") != "refuse":
            continue
        if case.op == "squinch.encode":
            case.outputs["blocks"] = from_torch(encode(to_torch(case.inputs["x"]), variant))
        elif case.op == "squinch.decode":
            case.outputs["x"] = from_torch(decode(to_torch(case.inputs["blocks"]), case.recipe["count"], variant))
    write(target, golden)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: squinch_torch.py IN OUT")
    main(sys.argv[1], sys.argv[2])
