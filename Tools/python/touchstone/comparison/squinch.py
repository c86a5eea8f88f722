"""Squinch as written in PyTorch eager (`examples/squinch_torch.py`) against the derivation."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from ..reference import squinch

SEED = 20240302


def load(path: str):
    """The example as a module."""
    specification = importlib.util.spec_from_file_location("squinch_torch", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def gradients(generator: np.random.Generator, blocks: int) -> np.ndarray:
    """Normal values whose scale differs from block to block, as gradients' do."""
    scale = np.exp(generator.uniform(-16, 4, (blocks, 1)))
    return (generator.standard_normal((blocks, 8)) * scale).astype(np.float32)


def at_thresholds(offset: int) -> np.ndarray:
    """[255, 8]: blocks whose largest magnitude is `offset` units in the last place from T[1...255]."""
    thresholds, _ = squinch.tables()
    largest = (thresholds[1:].astype(np.int64) + offset).astype(np.uint32).view(np.float32)
    return (largest[:, None] * np.array([1, -0.5, 0.25, 0.9, 0, -0.01, 0.7, -1], np.float32)).astype(np.float32)


def at_codes(variant: str, offset: int) -> np.ndarray:
    """[254 * 2, 8]: values `offset` units in the last place from the least that takes each of the codes 1 ... 14."""
    thresholds, scales = squinch.tables()
    blocks = []
    for q in range(1, 255):
        scale = float(scales[q : q + 1].view(np.float32)[0])
        largest = thresholds[q : q + 1].view(np.float32)[0]
        for first in (1, 8):
            k = np.arange(first, first + 7, dtype=np.float64)
            exact = k * k * scale / 256 if variant == "floor16" else (2 * k - 1) ** 2 * scale / 900
            least = exact.astype(np.float32)
            least = np.where(least.astype(np.float64) < exact, np.nextafter(least, np.float32(np.inf)), least)
            values = (least.view(np.uint32).astype(np.int64) + offset).astype(np.uint32).view(np.float32)
            blocks.append(np.append(np.minimum(values, largest), largest))
    return np.array(blocks, np.float32)


def compare(example_path: str, progress: Callable[[str], None]) -> dict:
    import torch

    example = load(example_path)
    generator = np.random.default_rng(SEED)
    results = {"torch": torch.__version__, "rows": []}
    _, scales = squinch.tables()
    theirs = example.scale(torch.arange(256)).numpy().view(np.uint32)
    results["scales_different"] = int((theirs != scales).sum())
    results["scales_largest_ulp"] = int(np.abs(theirs.astype(np.int64) - scales.astype(np.int64)).max())

    def row(variant: str, what: str, blocks: np.ndarray) -> None:
        x = blocks.reshape(-1)
        ours = squinch.encode(variant, x)
        got = example.encode(torch.from_numpy(x), variant).numpy()
        wrong_scale = ours[:, 0] != got[:, 0]
        codes, codes_got = (np.stack([b[:, 2:] & 15, b[:, 2:] >> 4], 2).reshape(-1, 8) for b in (ours, got))
        same_scale = ~wrong_scale & (ours[:, 0] != 0)
        wrong_codes = codes[same_scale] != codes_got[same_scale]
        decoded = squinch.decode(variant, ours, len(x))
        decoded_got = example.decode(torch.from_numpy(ours), len(x), variant).numpy()
        results["rows"].append(
            {
                "variant": variant,
                "blocks_of": what,
                "blocks": len(ours),
                "scale_bytes_different": int(wrong_scale.sum()),
                "largest_scale_step": int(np.abs(ours[:, 0].astype(int) - got[:, 0].astype(int)).max()),
                "codes": int(wrong_codes.size),
                "codes_different_under_equal_scale": int(wrong_codes.sum()),
                "blocks_different": int((ours != got).any(1).sum()),
                "decoded_different": int((decoded.view(np.uint32) != decoded_got.view(np.uint32)).sum()),
                "decoded": len(x),
            }
        )

    for variant in ("floor16", "round15"):
        row(variant, "gradients", gradients(generator, 200_000))
        for offset in (-16, -8, -4, -2, -1, 0, 1):
            row(variant, f"largest at T{offset:+d} ulp" if offset else "largest at T", at_thresholds(offset))
        for offset in (-1, 0, 1):
            row(
                variant,
                f"values at a code's edge {offset:+d} ulp" if offset else "values at a code's edge",
                at_codes(variant, offset),
            )
        progress(f"squinch {variant}")
    return results
