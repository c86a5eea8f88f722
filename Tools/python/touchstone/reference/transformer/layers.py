"""Clauses T2, T4 and E4: each layer with its gradient, written once over `arithmetic.Rounded` or `arithmetic.Exact`.

`a` is the arithmetic. bf16 tensors are float32 arrays of bf16 values (float64 under `Exact`); letters are those of T1.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
from mpmath import libmp

from . import arithmetic
from .arithmetic import Arithmetic, enclosed, fraction, single
from ..formats import FP32, round_fraction

NO_TARGET = -1
EMPTY_SLOT = 0xFFFFFFFF


# RMSNorm


class Normalised(NamedTuple):
    """What RMSNorm's backward pass needs: xhat [n, C] and r [n]."""

    xhat: np.ndarray
    r: np.ndarray


def rms_norm(a: Arithmetic, x: np.ndarray, gain: np.ndarray, epsilon) -> tuple[np.ndarray, Normalised]:
    """[n, C], [C] -> y bf16 [n, C]."""
    width = a.real(Fraction(1, x.shape[1]))
    mean_square = a.mul(a.lane16(x, x), width)
    r = a.function("rsqrt", a.add(mean_square, epsilon))
    xhat = a.mul(x, r[:, None])
    return a.bf16(a.mul(xhat, gain)), Normalised(xhat, r)


def rms_norm_backward(
    a: Arithmetic, dy: np.ndarray, gain: np.ndarray, saved: Normalised
) -> tuple[np.ndarray, np.ndarray]:
    """dx fp32 [n, C], dg fp32 [C]."""
    inner = a.mul(dy, gain)
    mean = a.mul(a.lane16(inner, saved.xhat), a.real(Fraction(1, dy.shape[1])))
    dx = a.mul(saved.r[:, None], a.sub(inner, a.mul(saved.xhat, mean[:, None])))
    return dx, a.chain(dy, saved.xhat)


# Linear


def linear(a: Arithmetic, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """[n, in], [in, out] -> fp32 [n, out]."""
    return a.dot((x[:, None, :], w.T[None, :, :], None))


def linear_transposed(a: Arithmetic, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """[n, k], [m, k] -> fp32 [n, m]: each row of w. Also the input gradient of `linear`, x being dy."""
    return a.dot((x[:, None, :], w[None, :, :], None))


def linear_input_gradient(a: Arithmetic, *parts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(dy [n, out], W [in, out]) of each part -> fp32 [n, in]: one chain over the parts in order (D4)."""
    return a.dot(*((dy[:, None, :], w[None, :, :], None) for dy, w in parts))


def weight_gradient(a: Arithmetic, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """[B, T, in], [B, T, out] -> fp32 [in, out]: one chain over (sequence, token) (D4)."""
    if len(x) == 0:
        return np.zeros((x.shape[-1], dy.shape[-1]), a.dtype)
    return a.dot(*((x[b].T[:, None, :], dy[b].T[None, :, :], None) for b in range(len(x))))


# Rotary embedding


@cache
def rotary_frequency(base: Fraction, pair: int, dimension: int) -> np.float32:
    """E4: RNE32(base^(-2 i / d)).

    A power of two to a power that is an integer is exact. Every other result is irrational or has an odd factor in its
    denominator, so it is no midpoint.
    """
    exponent = Fraction(-2 * pair, dimension)
    odd, twos = base, 0
    while odd.numerator % 2 == 0:
        odd, twos = odd / 2, twos + 1
    while odd.denominator % 2 == 0:
        odd, twos = odd * 2, twos - 1
    if odd == 1 and (twos * exponent).denominator == 1:
        return single(round_fraction(FP32, Fraction(2) ** int(twos * exponent)))
    if exponent == 0:
        return np.float32(1)

    def value(precision: int):
        # The error of the exponent is multiplied by its size, below 2^8 for every fp32 base.
        work = precision + 32
        logarithm = libmp.mpf_log(libmp.from_rational(base.numerator, base.denominator, work), work)
        ratio = libmp.from_rational(exponent.numerator, exponent.denominator, work)
        return libmp.mpf_exp(libmp.mpf_mul(logarithm, ratio, work), work)

    return single(enclosed(value))


@cache
def _rotation(position: int, theta: Fraction) -> tuple[np.float32, np.float32]:
    angle = position * theta
    if angle == 0:
        return np.float32(1), np.float32(0)
    return single(arithmetic.cosine(angle)), single(arithmetic.sine(angle))


def rotary_tables(a: Arithmetic, base, dimension: int, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E4: cosines and sines [n, D / 2] at the positions [n]."""
    if dimension % 2:
        raise ValueError(f"head dimension {dimension}; a rotary embedding needs an even one")
    if not base > 0 or not np.isfinite(base):
        raise ValueError(f"rotary base {base}; expected a positive number")
    half = dimension // 2
    if a.exact:
        angle = position[:, None] * np.float64(base) ** (-2 * np.arange(half) / dimension)
        return np.cos(angle), np.sin(angle)
    cosines, sines = (np.empty((len(position), half), np.float32) for _ in range(2))
    for i in range(half):
        theta = fraction(rotary_frequency(fraction(base), i, dimension))
        for row, p in enumerate(position.tolist()):
            if not -(1 << 29) < p < 1 << 29:
                raise ValueError(f"position[{row}] is {p}; a rotary embedding needs one below 2^29")
            cosines[row, i], sines[row, i] = _rotation(p, theta)
    return cosines, sines


def rotary(a: Arithmetic, x: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> np.ndarray:
    """x [n, heads, D] -> bf16; the tables [n, D / 2] serve every head."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    c, s = cosines[:, None, :], sines[:, None, :]
    low = a.fma(first, c, -a.mul(second, s))
    high = a.fma(first, s, a.mul(second, c))
    return a.bf16(np.concatenate([low, high], -1))


def rotary_backward(a: Arithmetic, dy: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> np.ndarray:
    return rotary(a, dy, cosines, -sines)


# ReLU^2


def _positive(u: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(u) | (u > 0), u, np.zeros((), u.dtype))


def relu2(a: Arithmetic, u: np.ndarray) -> np.ndarray:
    """fp32."""
    p = _positive(u)
    return a.mul(p, p)


def relu2_backward(a: Arithmetic, dy: np.ndarray, u: np.ndarray) -> np.ndarray:
    p = _positive(u)
    du = a.mul(dy, a.mul(2, p))
    return np.where(p == 0, np.zeros((), du.dtype), du)


# Residual


def residual(a: Arithmetic, x: np.ndarray, branch: np.ndarray) -> np.ndarray:
    """bf16(fl(x + branch))."""
    return a.bf16(a.add(x, branch))


# Embedding


def embedding_gradient(a: Arithmetic, tokens: np.ndarray, dx: np.ndarray, vocabulary: int) -> np.ndarray:
    """tokens [n], dx bf16 [n, C] -> fp32 [V, C]."""
    gradient = np.zeros((vocabulary, dx.shape[1]), a.dtype)
    for token in np.unique(tokens).tolist():
        gradient[token] = a.chain(dx[tokens == token])
    return gradient


# Softmax (Z1, T3) and losses


class Softmax(NamedTuple):
    """Of rows of logits: max, sum, z [...] and P [..., columns], P being +0 where nothing is seen."""

    max: np.ndarray
    sum: np.ndarray
    z: np.ndarray
    p: np.ndarray


def softmax(a: Arithmetic, s: np.ndarray, seen: np.ndarray) -> Softmax:
    """Z1 over the columns that `seen` [..., columns] admits; V4 for a row that sees nothing."""
    s, seen = np.broadcast_arrays(s, seen)
    largest = a.maximum(s, seen)
    e = np.zeros(s.shape, a.dtype)
    e[seen] = a.function("exp", a.sub(s, largest[..., None])[seen])
    total = a.lane16(e, None, seen)
    some = seen.any(-1)
    z = np.zeros(total.shape, a.dtype)
    z[some] = a.add(largest[some], a.function("log", total[some]))
    divisor = np.where(some, total, np.ones((), a.dtype))
    p = np.where(seen, a.div(e, divisor[..., None]), np.zeros((), a.dtype))
    return Softmax(largest, total, z, p)


class Loss(NamedTuple):
    loss: np.ndarray  # a number
    rows: Softmax
    gradient: np.ndarray  # dlogits, bf16 [N, V]


def _mean(a: Arithmetic, losses: np.ndarray, count: int) -> np.ndarray:
    if count == 0:
        return np.zeros((), a.dtype)
    return a.mul(a.lane16x4096(losses), a.real(Fraction(1, count)))


def regularised(a: Arithmetic, d: np.ndarray, rows: Softmax, c) -> np.ndarray:
    """The output's z-reg (Z4) added to the gradient d of a row's loss, fp32."""
    if c == 0:  # Z3
        return d
    return a.add(d, a.mul(a.mul(a.mul(2, c), rows.z)[:, None], rows.p))


def _logit_gradient(a: Arithmetic, d: np.ndarray, rows: Softmax, c, has_target: np.ndarray, count: int) -> np.ndarray:
    """Z-reg, then the weight 1 / count."""
    d = regularised(a, d, rows, c)
    if count == 0:
        return np.zeros(d.shape, a.dtype)
    gradient = a.bf16(a.mul(d, a.real(Fraction(1, count))))
    return np.where(has_target[:, None], gradient, np.zeros((), a.dtype))


def cross_entropy(a: Arithmetic, logits: np.ndarray, target: np.ndarray, c) -> Loss:
    """logits [N, V], target [N], -1 for none."""
    for row in np.flatnonzero((target < NO_TARGET) | (target >= logits.shape[1])).tolist():
        raise ValueError(f"target[{row}] is {target[row]}; the vocabulary has {logits.shape[1]} tokens")
    rows = softmax(a, logits, np.ones(logits.shape, bool))
    has = target != NO_TARGET
    count = int(has.sum())
    losses = np.zeros(len(logits), a.dtype)
    index = np.flatnonzero(has)
    losses[has] = a.sub(rows.z[has], logits[index, target[has]])
    d = rows.p.copy()
    d[index, target[has]] = a.sub(d[index, target[has]], 1)
    return Loss(_mean(a, losses, count), rows, _logit_gradient(a, d, rows, c, has, count))


def sparse_cross_entropy(a: Arithmetic, logits: np.ndarray, ids: np.ndarray, weights: np.ndarray, c) -> Loss:
    """ids and weights [N, k]; a slot with id 0xFFFFFFFF is empty."""
    filled = ids != EMPTY_SLOT
    for row, slot in np.argwhere(filled & (ids >= logits.shape[1])).tolist():
        raise ValueError(f"id[{row}, {slot}] is {ids[row, slot]}; the vocabulary has {logits.shape[1]} tokens")
    rows = softmax(a, logits, np.ones(logits.shape, bool))
    has = filled.any(1)
    count = int(has.sum())
    chosen = np.take_along_axis(logits, np.where(filled, ids, 0).astype(np.int64), 1)
    losses = a.lane16(weights, a.sub(rows.z[:, None], chosen), filled)
    losses = np.where(has, losses, np.zeros((), a.dtype))
    d = a.mul(a.lane16(weights, None, filled)[:, None], rows.p)
    for slot in range(ids.shape[1]):
        row = np.flatnonzero(filled[:, slot])
        column = ids[row, slot].astype(np.int64)
        d[row, column] = a.sub(d[row, column], weights[row, slot])
    return Loss(_mean(a, losses, count), rows, _logit_gradient(a, d, rows, c, has, count))


# Attention (Z1, Z2) over [batch, heads, tokens, D], and the mask of V1


def visible_by_key(
    start: np.ndarray, limit: np.ndarray, queries: int, window: int = 0, query_offset: int = 0
) -> np.ndarray:
    """[B, T] -> bool [B, queries, T]: start[j] <= p < limit[j], and with a window p - j < window."""
    length = query_offset + queries
    wrong = (start < 0) | (start > limit) | (limit > length)
    for batch, token in np.argwhere(wrong).tolist():  # V4
        raise ValueError(
            f"visibility of batch {batch}, token {token} is {start[batch, token]} ..< {limit[batch, token]};"
            f" expected 0 <= start <= limit <= {length}"
        )
    p = query_offset + np.arange(queries)[None, :, None]
    seen = (start[:, None, :] <= p) & (p < limit[:, None, :])
    return seen & (p - np.arange(start.shape[1]) < window) if window else seen


class Attended(NamedTuple):
    o: np.ndarray
    rows: Softmax


def _per_query_head(x: np.ndarray, heads: int) -> np.ndarray:
    return np.repeat(x, heads // x.shape[1], axis=1)


def attention(a: Arithmetic, q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, scale) -> Attended:
    """Z1: q [B, H, Q, D], k and v [B, G, T, D], seen [B, Q, T]."""
    k, v = (_per_query_head(x, q.shape[1]) for x in (k, v))
    s = a.mul(scale, a.dot((q[:, :, :, None, :], k[:, :, None, :, :], None)))
    rows = softmax(a, s, seen[:, None])
    o = a.dot((a.bf16(rows.p)[:, :, :, None, :], v.swapaxes(2, 3)[:, :, None, :, :], seen[:, None, :, None, :]))
    return Attended(a.bf16(o), rows)


def score_gradient(a: Arithmetic, p: np.ndarray, dp: np.ndarray, inner: np.ndarray, dz: np.ndarray, c, form: str):
    """Z2's dS, fp32, of P and dP [..., keys] and of D and dZ [..., 1]."""
    if form not in ("folded", "unfolded", "row-dot"):
        raise ValueError(f"zreg_form '{form}'")
    if c == 0:  # Z3
        return a.mul(p, a.sub(dp, inner))
    if form == "unfolded":
        return a.add(a.mul(p, a.sub(dp, inner)), a.mul(dz, p))
    return a.mul(p, a.sub(dp, a.sub(inner, dz)))


def attention_backward(
    a: Arithmetic,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    seen: np.ndarray,
    scale,
    forward: Attended,
    do: np.ndarray,
    c,
    form: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Z2, Z3: dq [B, H, Q, D], dk and dv [B, G, T, D], bf16."""
    batch, heads, queries, dimension = q.shape
    groups = k.shape[1]
    wide_k, wide_v = (_per_query_head(x, heads) for x in (k, v))
    mask = seen[:, None]
    p = forward.rows.p
    dp = a.dot((do[:, :, :, None, :], wide_v[:, :, None, :, :], None))
    inner = (a.lane16(do, forward.o) if form == "row-dot" else a.lane16(p, dp, mask))[..., None]
    dz = a.mul(a.mul(2, c), forward.rows.z)[..., None]
    ds = a.bf16(score_gradient(a, p, dp, inner, dz, c, form))
    dq = a.dot((ds[:, :, :, None, :], wide_k.swapaxes(2, 3)[:, :, None, :, :], mask[:, :, :, None, :]))
    # one chain over (head of the group, query)
    by_key = seen.swapaxes(1, 2)[:, None, :, None, :]  # [B, 1, T, 1, Q]
    split = (batch, groups, heads // groups, queries)
    ds, pb = (x.reshape(*split, k.shape[2]).transpose(2, 0, 1, 4, 3)[:, :, :, :, None, :] for x in (ds, a.bf16(p)))
    qd, od = (x.reshape(*split, dimension).transpose(2, 0, 1, 4, 3)[:, :, :, None, :, :] for x in (q, do))
    dk = a.dot(*((ds[h], qd[h], by_key) for h in range(heads // groups)))
    dv = a.dot(*((pb[h], od[h], by_key) for h in range(heads // groups)))
    return a.bf16(a.mul(scale, dq)), a.bf16(a.mul(scale, dk)), a.bf16(dv)


# Clamping after ReLU^2 (C1 to C4)


def dynamic_limit(a: Arithmetic, w: np.ndarray, kappa) -> np.ndarray:
    """C1 with activation `relu2`: w bf16 [n, m] -> a number."""
    mean_square = a.mul(a.lane16x4096(w, w), a.real(Fraction(1, w.size)))
    limit = a.mul(a.mul(kappa, a.sqrt(mean_square)), a.root(Fraction(w.shape[0])))
    return a.mul(limit, limit)


class Clamped(NamedTuple):
    value: np.ndarray  # fp32; dequantised with int8
    codes: np.ndarray | None


def clamp(a: Arithmetic, y: np.ndarray, limit, int8: bool) -> Clamped:
    """C2, C3 for relu2: lo = +0, hi = limit."""
    zero = np.zeros((), a.dtype)
    if not limit >= 0 or not np.isfinite(limit):
        raise ValueError(f"the limit of a clamp is {limit}")
    nan = np.isnan(y)
    clamped = np.where(y > limit, limit, np.where(y > 0, y, zero))  # -0 becomes +0
    clamped = np.where(nan, y, clamped)  # with a limit of 0 too
    if not int8:
        return Clamped(clamped, None)
    if limit == 0:
        return Clamped(clamped, np.zeros(y.shape, np.int8))
    rate = a.div(127, limit)
    if not np.isfinite(rate):
        raise ValueError(f"the limit of a clamp is {limit}: 127 / limit is not finite")
    codes = np.where(nan, zero, np.clip(a.round_integer(a.mul(np.where(nan, zero, clamped), rate)), -127, 127))
    value = a.mul(codes, a.mul(limit, a.real(Fraction(1, 127))))
    return Clamped(np.where(nan, y, np.where(codes == 0, zero, value)), codes.astype(np.int8))


def clamp_backward(dy: np.ndarray, y: np.ndarray, limit, gradient: str) -> np.ndarray:
    """C4 for relu2; a limit of 0 lets nothing pass (C3)."""
    if gradient not in ("straight-through", "inward"):
        raise ValueError(f"clamp_gradient '{gradient}'")
    zero = np.zeros((), dy.dtype)
    if limit == 0:
        return np.where(np.isnan(y), np.array(np.nan, dy.dtype), np.zeros(dy.shape, dy.dtype))
    passes = (y >= 0) & (y <= limit)
    if gradient == "inward":
        passes |= (y > limit) & (dy > 0)  # below lo = +0 there is nothing: y is a square
        passes |= (y < 0) & (dy < 0)
    return np.where(np.isnan(y), np.array(np.nan, dy.dtype), np.where(passes, dy, zero))


# Optimizer (T4)


def gradient_norm(a: Arithmetic, gradients: list[np.ndarray]) -> np.ndarray:
    squares = np.array([a.lane16x4096(g, g) for g in gradients], a.dtype)
    return a.sqrt(a.chain(squares))


def clip_factor(a: Arithmetic, norm, clip_norm):
    """The factor of every gradient, or None where they stay as they are."""
    if clip_norm > 0 and norm > clip_norm:
        return a.div(clip_norm, norm)
    return None


def bias_correction(a: Arithmetic, beta, n: int):
    """RNE32(1 / (1 - beta^n)), beta^n exact."""
    return a.real(1 / (1 - fraction(beta) ** n))


class AdamW(NamedTuple):
    learning_rate: np.float32
    beta1: np.float32
    beta2: np.float32
    epsilon: np.float32
    weight_decay: np.float32  # 0 for parameters without it


def adamw(
    a: Arithmetic, hyper: AdamW, n: int, w: np.ndarray, m: np.ndarray, v: np.ndarray, g: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w', m', v' of step number n."""
    one = Fraction(1)
    m = a.fma(hyper.beta1, m, a.mul(a.real(one - fraction(hyper.beta1)), g))
    v = a.fma(hyper.beta2, v, a.mul(a.mul(a.real(one - fraction(hyper.beta2)), g), g))
    first = a.mul(m, bias_correction(a, hyper.beta1, n))
    second = a.sqrt(a.mul(v, bias_correction(a, hyper.beta2, n)))
    u = a.div(first, a.add(second, hyper.epsilon))
    if hyper.weight_decay != 0:
        u = a.fma(hyper.weight_decay, w, u)
    return a.fma(-hyper.learning_rate, u, w), m, v


def learning_rate(schedule: str, rate, final_fraction, warmup: int, total: int, n: int) -> np.float32:
    """RNE32 of the exact real."""
    rate, final = fraction(rate), fraction(final_fraction)
    if n <= warmup:
        return single(round_fraction(FP32, rate * n / warmup))
    p = min(Fraction(1), Fraction(n - warmup, total - warmup)) if total > warmup else Fraction(1)
    if schedule == "constant":
        return single(round_fraction(FP32, rate))
    if schedule == "linear":
        return single(round_fraction(FP32, rate * (1 - (1 - final) * p)))
    if schedule != "cosine":
        raise ValueError(f"schedule '{schedule}'")
    precision = 64
    while True:
        # (1 + cos(pi p)) / 2 between two rationals; the ends meet where the cosine is rational.
        low, high = _half_cosine(p, precision)
        ends = [round_fraction(FP32, rate * (final + (1 - final) * end)) for end in (low, high)]
        if ends[0] == ends[1]:
            return single(ends[0])
        precision *= 2


def _half_cosine(p: Fraction, precision: int) -> tuple[Fraction, Fraction]:
    """Bounds of (1 + cos(pi p)) / 2 = cos(pi p / 2)^2 for 0 <= p <= 1."""
    rational = {Fraction(0): 1, Fraction(1, 3): Fraction(1, 2), Fraction(1, 2): 0, Fraction(2, 3): Fraction(-1, 2)}
    rational[Fraction(1)] = -1
    if p in rational:  # Niven: no other rational p has a rational cosine
        value = (1 + Fraction(rational[p])) / 2
        return value, value
    angle = libmp.mpf_mul(libmp.mpf_pi(precision + 8), libmp.from_rational(p.numerator, p.denominator, precision + 8))
    sign, man, exponent, _ = libmp.mpf_cos(angle, precision + 8)
    cosine = Fraction(int(man)) * Fraction(2) ** exponent * (-1 if sign else 1)
    error = Fraction(1, 1 << precision)
    return (1 + cosine - error) / 2, (1 + cosine + error) / 2
