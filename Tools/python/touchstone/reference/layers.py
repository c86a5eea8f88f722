"""Clauses T2 and T4: the single operations of a training step."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import mpmath
import numpy as np

from . import elementary
from .dot import lane16x4096
from .elementary import Rounder
from .formats import FP32, Finite, round_fraction, round_value, unpack
from .fp32 import Chain, F, apply, chain, dot, fma, lane16, number, reciprocal, round_bf16, softmax, widen

EMPTY = 0xFFFFFFFF


def exact(x) -> Fraction:
    """An fp32 value as a fraction."""
    return unpack(FP32, int(np.array(x, np.float32).view(np.uint32))).fraction


def rounded(x: Fraction) -> np.float32:
    return number(round_fraction(FP32, x))


def _rounded_real(x: mpmath.mpf) -> np.float32:
    """An irrational given to 400 bits."""
    sign, man, exponent, _ = x._mpf_
    return number(round_value(FP32, Finite(int(sign), int(man), int(exponent)))[0])


# RMSNorm, bf16 bits in and out


def _normalized(x, epsilon, rounder):
    mean = lane16(x, x) * reciprocal(x.shape[-1])
    r = apply("rsqrt", mean + F(epsilon), rounder)
    return r, x * r[:, None]


def rmsnorm(x, gain, epsilon, rounder: Rounder = elementary.round_function):
    with np.errstate(all="ignore"):
        r, xhat = _normalized(widen(x), epsilon, rounder)
        return round_bf16(xhat * widen(gain)), r


def rmsnorm_backward(dy, x, gain, epsilon, rounder: Rounder = elementary.round_function):
    with np.errstate(all="ignore"):
        r, xhat = _normalized(widen(x), epsilon, rounder)
        dy = widen(dy)
        a = dy * widen(gain)
        m = lane16(a, xhat) * reciprocal(x.shape[-1])
        dx = r[:, None] * (a - xhat * m[:, None])
        return dx, chain(dy, xhat) if len(dy) else np.zeros(x.shape[-1], np.float32)


# Linear, bf16 bits in, fp32 accumulators out


def linear(x, w, recipe: str):
    return dot(recipe, widen(x)[:, None, :], widen(w).T[None])


def input_gradient(parts: list, recipe: str):
    """D4: one chain over the parts (dy, w)."""
    result = Chain(recipe, (parts[0][0].shape[0], parts[0][1].shape[0]))
    for dy, w in parts:
        result.add(widen(dy)[:, None, :], widen(w)[None])
    return result.finish()


def weight_gradient(x, dy, batch: int, recipe: str):
    """D4: x [B T, in], dy [B T, out]: one row a sequence."""
    result = Chain(recipe, (x.shape[1], dy.shape[1]))
    tokens = len(x) // batch if batch else 0
    for b in range(batch):
        rows = slice(b * tokens, (b + 1) * tokens)
        result.add(widen(x[rows]).T[:, None, :], widen(dy[rows]).T[None])
    return result.finish()


# Rotary


@cache
def _angles(base: float, half: int, position: int) -> tuple[np.ndarray, np.ndarray]:
    """E4: cosines and sines of p * theta_i, theta_i = RNE32(base^(-2i/d)), the product exact."""
    with mpmath.workprec(300):
        cosines, sines = [], []
        for i in range(half):
            power = mpmath.mpf(base) ** (-mpmath.mpf(i) / half)
            theta = rounded(Fraction(1)) if i == 0 or base == 1 else _rounded_real(power)
            angle = exact(theta) * position
            if angle == 0:
                cosines.append(F(1))
                sines.append(F(0))
            else:
                value = mpmath.mpf(angle.numerator) / angle.denominator
                cosines.append(_rounded_real(mpmath.cos(value)))
                sines.append(_rounded_real(mpmath.sin(value)))
        return np.array(cosines, np.float32), np.array(sines, np.float32)


def rotary(x, positions, base, backward: bool = False):
    """bf16 bits [n, heads, D]."""
    half = x.shape[-1] // 2
    tables = [_angles(float(base), half, int(p)) for p in positions]
    cosine = np.array([c for c, _ in tables], np.float32).reshape(len(tables), 1, half)
    sine = np.array([s for _, s in tables], np.float32).reshape(len(tables), 1, half)
    sine = -sine if backward else sine
    x = widen(x)
    first, second = x[..., :half], x[..., half:]
    with np.errstate(all="ignore"):
        low = fma(first, cosine, -(second * sine))
        high = fma(first, sine, second * cosine)
    return np.concatenate([round_bf16(low), round_bf16(high)], -1)


# Elementwise


def relu2(u):
    with np.errstate(all="ignore"):
        p = np.where(np.isnan(widen(u)) | (widen(u) > 0), widen(u), F(0))
        return p * p


def relu2_backward(u, dy):
    with np.errstate(all="ignore"):
        p = np.where(np.isnan(widen(u)) | (widen(u) > 0), widen(u), F(0))
        return np.where(p == 0, F(0), dy * (F(2) * p))


def swiglu(gate, up, dy, rounder: Rounder = elementary.round_function):
    """T8: y, dgate, dup."""
    g, u = widen(gate), widen(up)
    with np.errstate(all="ignore"):
        d = F(1) + apply("exp", -g, rounder)
        t = g / d
        s = F(1) / d
        k = s * (F(1) + g * (F(1) - s))
        return t * u, (dy * u) * k, dy * t


def embedding_gradient(tokens, dy, vocabulary: int):
    values = widen(dy)
    result = np.zeros((vocabulary, dy.shape[1]), np.float32)
    for v in range(vocabulary):
        rows = np.flatnonzero(tokens == v)
        if len(rows):
            result[v] = chain(values[rows])
    return result


# Losses


def _mean(losses, count: int) -> np.float32:
    if count == 0:
        return F(0)
    with np.errstate(all="ignore"):
        return lane16x4096(losses.reshape(1, -1))[0] * reciprocal(count)


def _finish_gradient(d, p, z, c, count: int, has):
    with np.errstate(all="ignore"):
        if F(c) != 0:
            d = d + ((F(2) * F(c)) * z)[:, None] * p
        return np.where(has[:, None], round_bf16(d * reciprocal(max(1, count))), np.uint16(0))


def cross_entropy(logits, targets, c, rounder: Rounder = elementary.round_function):
    """loss, losses, max, sum, z, dlogits (bf16 bits)."""
    p, maximum, total, z = softmax(logits, None, rounder)
    has = targets >= 0
    count = int(has.sum())
    rows = np.arange(len(targets))
    with np.errstate(all="ignore"):
        losses = np.zeros(len(targets), np.float32)
        losses[has] = z[has] - logits[rows[has], targets[has]]
        d = p.copy()
        d[rows[has], targets[has]] = d[rows[has], targets[has]] - F(1)
    return _mean(losses, count), losses, maximum, total, z, _finish_gradient(d, p, z, c, count, has)


def sparse_cross_entropy(logits, ids, weights, c, rounder: Rounder = elementary.round_function):
    """The same against ids and weights [N, k]."""
    p, maximum, total, z = softmax(logits, None, rounder)
    used = ids != EMPTY
    has = used.any(axis=1)
    count = int(has.sum())
    with np.errstate(all="ignore"):
        at = np.take_along_axis(logits, np.where(used, ids, 0).astype(np.int64), 1) if ids.size else logits[:, :0]
        losses = lane16(weights, z[:, None] - at, used)
        d = lane16(weights, visible=used)[:, None] * p
        for row, slot in np.argwhere(used):
            d[row, ids[row, slot]] = d[row, ids[row, slot]] - weights[row, slot]
    return _mean(losses, count), losses, maximum, total, z, _finish_gradient(d, p, z, c, count, has)


# The optimizer


def gradient_norm(gradients: list, rounder: Rounder = elementary.round_function) -> np.float32:
    sums = [lane16x4096(g.reshape(1, -1), g.reshape(1, -1))[0] for g in gradients]
    return apply("sqrt", np.array([chain(np.array(sums, np.float32))]), rounder)[0]


def clipped(gradients: list, norm, limit) -> list:
    if not (F(limit) > 0 and norm > F(limit)):
        return gradients
    with np.errstate(all="ignore"):
        return [g * (F(limit) / norm) for g in gradients]


@cache
def bias_correction(beta: float, step: int) -> np.float32:
    """RNE32(1 / (1 - beta^n))."""
    if step <= 64:
        return rounded(1 / (1 - exact(beta) ** step))
    with mpmath.workprec(600):
        return _rounded_real(1 / (1 - mpmath.mpf(beta) ** step))


def adamw(w, m, v, g, step: int, rate, beta1, beta2, epsilon, decay, rounder: Rounder = elementary.round_function):
    beta1, beta2, rate, decay = F(beta1), F(beta2), F(rate), F(decay)
    rest1, rest2 = (rounded(1 - exact(beta)) for beta in (beta1, beta2))
    with np.errstate(all="ignore"):
        m = fma(beta1, m, rest1 * g)
        v = fma(beta2, v, (rest2 * g) * g)
        root = apply("sqrt", v * bias_correction(float(beta2), step), rounder)
        u = (m * bias_correction(float(beta1), step)) / (root + F(epsilon))
        if decay != 0:
            u = fma(decay, w, u)
        return fma(-rate, u, w), m, v
