"""Clauses Z and V: attention with z-reg under a mask, and its exact results by mpmath."""

from __future__ import annotations

from functools import wraps

import mpmath
import numpy as np

from . import elementary
from .elementary import Rounder
from .fp32 import Chain, F, dot, lane16, round_bf16, softmax, widen

PRECISION = 240


def visibility(
    orientation: str, start: np.ndarray, limit: np.ndarray, queries: int, keys: int, offset: int = 0,
    window: int | None = None,
) -> np.ndarray:  # fmt: skip
    """V1, V2: bool [B, Q, T] from Int32 [B, Q] or [B, T]."""
    i, j = np.arange(queries)[None, :, None] + offset, np.arange(keys)[None, None, :]
    if orientation == "by-query":
        return (start[:, :, None] <= j) & (j < limit[:, :, None])
    mask = (start[:, None, :] <= i) & (i < limit[:, None, :])
    return mask & (i - j < window) if window is not None else mask


def check_intervals(orientation, start, limit, queries, keys, offset) -> None:
    """V4."""
    length = keys if orientation == "by-query" else offset + queries
    wrong = ~((start >= 0) & (start <= limit) & (limit <= length))
    if wrong.any():
        b, token = np.argwhere(wrong)[0]
        raise ValueError(f"batch {b}, token {token}: [{start[b, token]}, {limit[b, token]}) of length {length}")


def _group(x: np.ndarray, heads: int) -> np.ndarray:
    """[B, G, T, D] -> [B, H, T, D]: head h uses h div (H / G)."""
    return np.repeat(x, heads // x.shape[1], axis=1)


def logits(q, k, scale: np.float32, recipe: str) -> np.ndarray:
    """fp32 [B, H, Q, T] from fp32 values."""
    with np.errstate(all="ignore"):
        return scale * dot(recipe, q[:, :, :, None, :], _group(k, q.shape[1])[:, :, None, :, :])


def forward(q, k, v, mask, scale, recipe: str, rounder: Rounder = elementary.round_function):
    """bf16 bits -> o (bf16 bits), z, max, sum, and P for the backward pass. mask [B, Q, T]."""
    q, k, v = widen(q), widen(k), widen(v)
    visible = mask[:, None]
    s = logits(q, k, scale, recipe)
    p, maximum, total, z = softmax(s, visible, rounder)
    rounded = widen(round_bf16(p))
    values = _group(v, q.shape[1]).swapaxes(-1, -2)  # [B, H, D, T]
    o = dot(recipe, rounded[:, :, :, None, :], values[:, :, None, :, :], visible[:, :, :, None, :])
    return round_bf16(o), z, maximum, total, p


def score_gradient(p, dp, z, weighted, c: np.float32, form: str):
    """Z2, Z3: dS."""
    with np.errstate(all="ignore"):
        if c == 0:
            return p * (dp - weighted[..., None])
        dz = ((F(2) * c) * z)[..., None]
        if form == "unfolded":
            return p * (dp - weighted[..., None]) + dz * p
        return p * (dp - (weighted[..., None] - dz))


def backward(q, k, v, do, mask, scale, recipe: str, c, form: str, rounder: Rounder = elementary.round_function):
    """bf16 bits -> dq, dk, dv (bf16 bits)."""
    o, z, _, _, p = forward(q, k, v, mask, scale, recipe, rounder)
    q, k, v, do, o = widen(q), widen(k), widen(v), widen(do), widen(o)
    batch, heads, queries, dimension = q.shape
    groups, keys = k.shape[1:3]
    visible = np.broadcast_to(mask[:, None], p.shape)
    dp = dot(recipe, do[:, :, :, None, :], _group(v, heads)[:, :, None, :, :])
    weighted = lane16(do, o) if form == "row-dot" else lane16(p, dp, visible)
    ds = widen(round_bf16(np.where(visible, score_gradient(p, dp, z, weighted, c, form), F(0))))
    p = widen(round_bf16(p))
    with np.errstate(all="ignore"):
        keys_last = _group(k, heads).swapaxes(-1, -2)[:, :, None]  # [B, H, 1, D, T]
        dq = scale * dot(recipe, ds[:, :, :, None, :], keys_last, visible[:, :, :, None, :])
        dq = np.where(visible.any(axis=-1)[..., None], dq, F(0))  # V4
        dk, dv = (Chain(recipe, (batch, groups, keys, dimension)) for _ in range(2))
        for head in range(heads // groups):
            # D4: the heads of every group in order, one row of queries each.
            rows = slice(head, None, heads // groups)
            seen = visible[:, rows].swapaxes(-1, -2)[:, :, :, None, :]  # [B, G, T, 1, Q]
            dk.add(ds[:, rows].swapaxes(-1, -2)[:, :, :, None, :], q[:, rows].swapaxes(-1, -2)[:, :, None], seen)
            dv.add(p[:, rows].swapaxes(-1, -2)[:, :, :, None, :], do[:, rows].swapaxes(-1, -2)[:, :, None], seen)
        return round_bf16(dq), round_bf16(scale * dk.finish()), round_bf16(dv.finish())


def rows(s, dp, c, form: str, rounder: Rounder = elementary.round_function):
    """zreg.rows: z, p, ds."""
    p, _, _, z = softmax(s, None, rounder)
    return z, p, score_gradient(p, dp, z, lane16(p, dp), c, form)


# Q1, Q2


def _precisely(function):
    """With numbers of 240 bits."""

    @wraps(function)
    def run(*arguments):
        with mpmath.workprec(PRECISION):
            return function(*arguments)

    return run


def as_fp64(value, bound) -> tuple[float, float]:
    """RNE64; what is below 2^-80 of its bound is an exact zero."""
    if not (mpmath.isfinite(value) and mpmath.isfinite(bound)):
        return float("nan"), float("nan")
    return (0.0 if abs(value) < bound * mpmath.mpf(2) ** -80 else float(value)), float(bound)


def _exact(x: np.ndarray) -> np.ndarray:
    values = np.empty(x.size, object)
    values[:] = [mpmath.mpf(value) for value in x.reshape(-1).astype(np.float64).tolist()]
    return values.reshape(x.shape)


def exact_softmax(s: list, visible: list[bool]):
    """P, max, Z of mpmath logits; P of -infinity is 0; None for what is undefined."""
    seen = [value for value, sees in zip(s, visible) if sees]
    nan = mpmath.nan
    if any(mpmath.isnan(value) for value in seen) or mpmath.isinf(max(seen)):
        return [nan if sees else mpmath.mpf(0) for sees in visible], nan, nan
    maximum = max(seen)
    e = [mpmath.exp(value - maximum) if sees else mpmath.mpf(0) for value, sees in zip(s, visible)]
    total = mpmath.fsum(e)
    return [value / total for value in e], maximum, maximum + mpmath.log(total)


def exact_score_gradient(p, dp, dz, visible):
    """dS and its bound, row lists."""
    seen = [j for j, sees in enumerate(visible) if sees]
    weighted = mpmath.fsum(p[j] * dp[j] for j in seen)
    magnitude = mpmath.fsum(p[j] * abs(dp[j]) for j in seen)
    zero = mpmath.mpf(0)
    ds = [p[j] * (dp[j] - weighted + dz) if sees else zero for j, sees in enumerate(visible)]
    bounds = [p[j] * (abs(dp[j]) + magnitude + abs(dz)) if sees else zero for j, sees in enumerate(visible)]
    return ds, bounds


class Exact:
    """Every formula of Z1 and Z2 in real numbers, the inputs as given."""

    def __init__(self, q, k, v, mask, scale):
        self.q, self.k, self.v = widen(q), widen(k), widen(v)
        self.mask, self.scale = mask, mpmath.mpf(float(scale))
        self.heads, self.groups = self.q.shape[1], self.k.shape[1]

    def row(self, b: int, h: int, i: int):
        """P, max, Z, or None for a row that sees nothing."""
        visible = self.mask[b, i].tolist()
        if not any(visible):
            return None
        g = h // (self.heads // self.groups)
        s = []
        for j, sees in enumerate(visible):
            if not sees:
                s.append(mpmath.mpf(0))
                continue
            with np.errstate(all="ignore"):
                plain = float((self.q[b, h, i].astype(np.float64) * self.k[b, g, j].astype(np.float64)).sum())
            if np.isfinite(plain):
                s.append(self.scale * mpmath.fdot(zip(_exact(self.q[b, h, i]), _exact(self.k[b, g, j]))))
            else:
                s.append(self.scale * mpmath.mpf(plain))
        return exact_softmax(s, visible)

    @_precisely
    def forward(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        batch, heads, queries, dimension = self.q.shape
        o = np.zeros((2, batch, heads, queries, dimension))
        z = np.zeros((2, batch, heads, queries))
        for b, h, i in np.ndindex(batch, heads, queries):
            row = self.row(b, h, i)
            if row is None:
                continue
            p, maximum, logsumexp = row
            z[:, b, h, i] = as_fp64(logsumexp, abs(maximum) + 1)
            g = h // (heads // self.groups)
            seen = np.flatnonzero(self.mask[b, i]).tolist()
            for d in range(dimension):
                values = {j: float(self.v[b, g, j, d]) for j in seen}
                with np.errstate(all="ignore"):
                    plain = float(sum(float(p[j]) * values[j] for j in seen))
                if np.isfinite(plain):
                    o[:, b, h, i, d] = as_fp64(
                        mpmath.fsum(p[j] * values[j] for j in seen), mpmath.fsum(p[j] * abs(values[j]) for j in seen)
                    )
                else:
                    o[:, b, h, i, d] = plain, (np.nan if np.isnan(plain) else np.inf)
        return {"o": (o[0], o[1]), "z": (z[0], z[1])}

    @_precisely
    def backward(self, do: np.ndarray, c: np.float32) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        do = _exact(widen(do))
        q, k, v = _exact(self.q), _exact(self.k), _exact(self.v)
        twice = 2 * mpmath.mpf(float(c))
        zero = mpmath.mpf(0)
        dq, dk, dv = (np.full((2, *x.shape), zero, object) for x in (q, k, v))
        for b, h, i in np.ndindex(*q.shape[:3]):
            row = self.row(b, h, i)
            if row is None:
                continue
            p, _, logsumexp = row
            g = h // (self.heads // self.groups)
            visible = self.mask[b, i].tolist()
            dp = [mpmath.fdot(zip(do[b, h, i], v[b, g, j])) if sees else zero for j, sees in enumerate(visible)]
            ds, bounds = exact_score_gradient(p, dp, twice * logsumexp, visible)
            for j, sees in enumerate(visible):
                if sees:
                    dq[0, b, h, i] += ds[j] * k[b, g, j]
                    dq[1, b, h, i] += bounds[j] * abs(k[b, g, j])
                    dk[0, b, g, j] += ds[j] * q[b, h, i]
                    dk[1, b, g, j] += bounds[j] * abs(q[b, h, i])
                    dv[0, b, g, j] += p[j] * do[b, h, i]
                    dv[1, b, g, j] += p[j] * abs(do[b, h, i])
        results = {}
        for name, pair, factor in (("dq", dq, self.scale), ("dk", dk, self.scale), ("dv", dv, mpmath.mpf(1))):
            numbers = np.zeros(pair.shape)
            for index in np.ndindex(*pair.shape[1:]):
                numbers[(slice(None), *index)] = as_fp64(factor * pair[(0, *index)], abs(factor) * pair[(1, *index)])
            results[name] = (numbers[0], numbers[1])
        return results


@_precisely
def exact_rows(s: np.ndarray, dp: np.ndarray, c: np.float32) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    n, m = s.shape
    z, p, ds = np.zeros((2, n)), np.zeros((2, n, m)), np.zeros((2, n, m))
    visible = [True] * m
    for row in range(n) if m else ():
        probabilities, maximum, logsumexp = exact_softmax(list(_exact(s[row])), visible)
        z[:, row] = as_fp64(logsumexp, abs(maximum) + 1)
        dz = 2 * mpmath.mpf(float(c)) * logsumexp
        gradient, bounds = exact_score_gradient(probabilities, list(_exact(dp[row])), dz, visible)
        for j in range(m):
            p[:, row, j] = as_fp64(probabilities[j], probabilities[j])
            ds[:, row, j] = as_fp64(gradient[j], bounds[j])
    return {"z": (z[0], z[1]), "p": (p[0], p[1]), "ds": (ds[0], ds[1])}


@_precisely
def exact_losses(logits_: np.ndarray, targets: list[list[tuple[int, float]]], c: np.float32):
    """The mean loss and dlogits against weighted tokens, with their bounds."""
    n, m = logits_.shape
    count = sum(bool(pairs) for pairs in targets)
    rows = mpmath.mpf(max(1, count))  # divided by, so that an exact quotient stays exact
    loss = bound = mpmath.mpf(0)
    gradient = np.zeros((2, n, m))
    for row, pairs in enumerate(targets):
        if not pairs:
            continue
        s = list(_exact(logits_[row]))
        p, maximum, logsumexp = exact_softmax(s, [True] * m)
        dz = 2 * mpmath.mpf(float(c)) * logsumexp if c != 0 else mpmath.mpf(0)
        total = mpmath.fsum(w for _, w in pairs)
        magnitude = mpmath.fsum(abs(w) for _, w in pairs)
        at, at_magnitude = [mpmath.mpf(0)] * m, [mpmath.mpf(0)] * m
        for token, weight in pairs:
            at[token] += weight
            at_magnitude[token] += abs(weight)
            loss += weight * (logsumexp - s[token])
            bound += abs(weight) * (abs(maximum) + 1 + abs(s[token]))
        for j in range(m):
            d = total * p[j] - at[j] + dz * p[j]
            scale = magnitude * p[j] + at_magnitude[j] + abs(dz) * p[j]
            gradient[:, row, j] = as_fp64(d / rows, scale / rows)
    return as_fp64(loss / rows, bound / rows), gradient
