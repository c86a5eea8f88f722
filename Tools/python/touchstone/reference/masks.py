"""Clause V: masks from documents and trees, by membership and ancestry rather than by intervals' formulas."""

from __future__ import annotations

import numpy as np


def _interval(cells: list[int], empty: int) -> tuple[int, int]:
    return (min(cells), max(cells) + 1) if cells else (empty, empty)


def build(kind: str, lengths: list[int], prefixes: list[int] | None, window: int | None) -> np.ndarray:
    """By-query intervals [2, T] of documents end to end."""
    if min(lengths, default=1) < 1 or min(prefixes or [], default=0) < 0:
        raise ValueError(f"lengths {lengths}, prefixes {prefixes}: expected at least 1 and at least 0")
    document = [d for d, length in enumerate(lengths) for _ in range(length)]
    offset = [t for length in lengths for t in range(length)]
    result = []
    for i in range(len(document)):
        first = i - offset[i]
        peers = range(first, first + lengths[document[i]])
        if kind == "full":
            seen = list(peers)
        elif kind == "prefix":
            seen = [j for j in peers if j <= i or j - first < prefixes[document[i]]]
        elif kind == "window":
            seen = [j for j in peers if i - window < j <= i]
        else:
            seen = [j for j in peers if j <= i]
        result.append(_interval(seen, 0))
    return np.array(result, np.int32).reshape(-1, 2).T


def tree(parents: list[int], lengths: list[int]) -> np.ndarray:
    """By-key intervals and positions [3, T]: token j is seen by those whose node is j's or descends from it, from j on."""
    for node, (parent, length) in enumerate(zip(parents, lengths)):
        if not -1 <= parent < node or length < 1:
            raise ValueError(f"node {node}: parent {parent}, length {length}")
    ancestors: list[list[int]] = []
    for node, parent in enumerate(parents):
        ancestors.append([] if parent < 0 else [*ancestors[parent], parent])
        # Depth first: the parent is the node before, or one of its ancestors.
        if parent >= 0 and parent != node - 1 and parent not in ancestors[node - 1]:
            raise ValueError(f"node {node}: not in depth-first order")
    node_of = [node for node, length in enumerate(lengths) for _ in range(length)]
    begin = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
    result = []
    for j, node in enumerate(node_of):
        seen = [i for i, other in enumerate(node_of) if i >= j and (other == node or node in ancestors[other])]
        position = sum(lengths[a] for a in ancestors[node]) + j - begin[node]
        result.append((*_interval(seen, j), position))
    return np.array(result, np.int32).reshape(-1, 3).T
