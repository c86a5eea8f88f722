"""Squinch (floor16, round15) as one would first write it in PyTorch eager: fp32 logarithm, fp32 square root, no tables.

    touchstone validate --exec 'python Tools/python/examples/squinch_torch.py {in} {out}' --suite squinch

It is right almost everywhere, and wrong where it matters to a bit-exact format: a block whose largest magnitude lies
within a few units in the last place of a threshold gets the neighbouring scale, and a value next to a boundary between
two codes the neighbouring code.
"""

import sys

import torch


def scale(q_max: torch.Tensor) -> torch.Tensor:
    """M = exp((q_max - 128) / 6) in fp32."""
    return torch.exp((q_max.float() - 128) / 6)


def encode(x: torch.Tensor, variant: str = "floor16") -> torch.Tensor:
    """fp32 [n] -> uint8 [ceil(n / 8), 6]."""
    blocks = torch.nn.functional.pad(x.float(), (0, -len(x) % 8)).reshape(-1, 8)
    magnitude = blocks.abs()
    largest = magnitude.amax(1)
    q_max = (torch.floor(6 * torch.log(largest)) + 129).clamp(0, 255)
    ratio = torch.sqrt(magnitude / scale(q_max)[:, None])
    codes = torch.floor(16 * ratio) if variant == "floor16" else torch.floor(15 * ratio + 0.5)
    codes = codes.clamp(max=15).to(torch.int32)
    signs = (torch.signbit(blocks).to(torch.int32) << torch.arange(8)).sum(1)
    result = torch.cat([q_max[:, None].to(torch.int32), signs[:, None], codes[:, 0::2] | codes[:, 1::2] << 4], 1)
    result[q_max == 0, 1:] = 0
    return result.to(torch.uint8)


def decode(blocks: torch.Tensor, count: int, variant: str = "floor16") -> torch.Tensor:
    """uint8 [blocks, 6] -> fp32 [count]."""
    blocks = blocks.to(torch.int32)
    codes = torch.stack([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 2).reshape(-1, 8).float()
    scales = scale(blocks[:, :1])
    magnitude = (2 * codes + 1) ** 2 / 1024 * scales if variant == "floor16" else codes**2 * scales / 225
    negative = ((blocks[:, 1:2] >> torch.arange(8)) & 1).bool()
    values = torch.where(negative, -magnitude, magnitude)
    return torch.where(blocks[:, :1] == 0, torch.zeros(()), values).reshape(-1)[:count]


def main(source: str, target: str) -> None:
    from touchstone.adapters.torch import from_torch, to_torch
    from touchstone.files import read, write

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
