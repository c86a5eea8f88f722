"""PyTorch's counterparts of whole layers, as one would write them: attention, losses, clamping, Squinch, AdamW.

What a library decides is left to the library: the order of sums, the elementary functions, how a gradient is formed
(autograd, wherever there is one). What only the operation's definition says is said here: which rows see nothing, which
targets count. Factors are widened from bf16 to fp32 before a product, and results rounded to the format that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from ..files import Case
from . import Unsupported

Tensors = dict[str, torch.Tensor]
Inputs = Callable[[str], torch.Tensor]

EMPTY = 0xFFFFFFFF  # an id that stands for no id

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of outputs, by the recipe


def _fp32(case: Case, key: str) -> float:
    """A parameter of the recipe: an fp32 value, which a Python float holds exactly."""
    return float(case.recipe[key])


# ---- Masks ----


def visible(case: Case, start: torch.Tensor, limit: torch.Tensor, queries: int, keys: int) -> torch.Tensor:
    """[B, queries, keys]: who sees whom (V1, V2)."""
    position = torch.arange(queries)[None, :, None] + case.recipe["query_offset"]
    key = torch.arange(keys)[None, None, :]
    if case.recipe["orientation"] == "by-query":
        return (start[:, :, None] <= key) & (key < limit[:, :, None])
    mask = (start[:, None, :] <= position) & (position < limit[:, None, :])
    if "window" in case.recipe:
        mask = mask & (position - key < case.recipe["window"])
    return mask


def dense(case: Case, tensor: Inputs) -> Tensors:
    mask = visible(
        case, tensor("visibility_start"), tensor("visibility_limit"), case.recipe["queries"], case.recipe["keys"]
    )
    return {"mask": mask.to(torch.uint8)}


def build(case: Case, tensor: Inputs) -> Tensors:
    length = tensor("length").long()
    ends = torch.cumsum(length, 0)
    document = torch.repeat_interleave(torch.arange(len(length)), length)
    a, b = (ends - length)[document], ends[document]
    t = torch.arange(int(length.sum()))
    kind = case.recipe["kind"]
    start, limit = a, t + 1
    if kind == "full":
        limit = b
    elif kind == "prefix":
        limit = torch.maximum(t + 1, a + torch.minimum(tensor("prefix").long()[document], b - a))
    elif kind == "window":
        start = torch.maximum(a, t - case.recipe["window"] + 1)
    return {"visibility_start": start.int(), "visibility_limit": limit.int()}


# ---- Attention ----


def _attention(case: Case, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor):
    """Logits with -inf where nothing is seen, their log-sum-exp, probabilities and the context, in fp32."""
    repeats = q.shape[1] // k.shape[1]
    k, v = k.float().repeat_interleave(repeats, 1), v.float().repeat_interleave(repeats, 1)
    logits = (q.float() @ k.transpose(-1, -2)) * _fp32(case, "scale")
    seen = mask[:, None]
    sees = seen.any(-1, keepdim=True)
    # A row that sees nothing has no softmax; its logits are set to zero and its probabilities too.
    logits = torch.where(sees, logits.masked_fill(~seen, -torch.inf), 0)
    z = torch.where(sees[..., 0], torch.logsumexp(logits, -1), 0)
    p = torch.where(sees, torch.softmax(logits, -1), 0)
    return logits, z, p, p @ v, sees[..., 0]


def attention_forward(case: Case, tensor: Inputs) -> Tensors:
    q, k, v = tensor("q"), tensor("k"), tensor("v")
    mask = visible(case, tensor("visibility_start"), tensor("visibility_limit"), q.shape[2], k.shape[2])
    logits, z, _, _, sees = _attention(case, q, k, v, mask)
    repeats = q.shape[1] // k.shape[1]
    output = functional.scaled_dot_product_attention(
        q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1), mask[:, None], scale=_fp32(case, "scale")
    )
    if logits.shape[-1] == 0:
        return {"o": output, "z": z, "max": torch.zeros_like(z), "sum": torch.zeros_like(z)}
    largest = torch.where(sees, logits.amax(-1), 0)
    total = torch.where(sees, torch.exp(logits - largest[..., None]).sum(-1), 0)
    return {"o": output, "z": z, "max": largest, "sum": total}


def attention_backward(case: Case, tensor: Inputs) -> Tensors:
    if case.recipe["form"] == "row-dot":
        raise Unsupported("the form row-dot")
    q, k, v = (tensor(name).requires_grad_() for name in "qkv")
    mask = visible(case, tensor("visibility_start"), tensor("visibility_limit"), q.shape[2], k.shape[2])
    _, z, _, output, _ = _attention(case, q, k, v, mask)
    loss = (output * tensor("do").float()).sum()
    c = _fp32(case, "zreg_c")
    if c != 0:
        loss = loss + c * z.square().sum()
    dq, dk, dv = torch.autograd.grad(loss, (q, k, v))
    return {"dq": dq, "dk": dk, "dv": dv}


def zreg_rows(case: Case, tensor: Inputs) -> Tensors:
    s = tensor("s").requires_grad_()
    z, p = torch.logsumexp(s, -1), torch.softmax(s, -1)
    loss = (p * tensor("dp")).sum()
    c = _fp32(case, "zreg_c")
    if c != 0:
        loss = loss + c * z.square().sum()
    return {"z": z, "p": p, "ds": torch.autograd.grad(loss, s)[0]}


# ---- Clamping ----


def clamp(case: Case, tensor: Inputs) -> Tensors:
    squared = case.recipe["activation"] == "relu2"
    if case.op == "clamp.dynamic":
        w = tensor("w").float()
        limit = _fp32(case, "kappa") * w.square().mean().sqrt() * w.shape[0] ** 0.5
        if squared:
            limit = limit * limit
    else:
        limit = torch.tensor(_fp32(case, "limit"))
    low = torch.zeros(()) if squared else -limit
    y, dy = tensor("y").requires_grad_(), tensor("dy")
    clamped = torch.clamp(y, low, limit)
    (dx,) = torch.autograd.grad(clamped, y, dy)
    if case.recipe["gradient"] == "inward":
        dx = torch.where(((y > limit) & (dy > 0)) | ((y < low) & (dy < 0)), dy, dx)
    outputs = {"limit": limit.reshape(1), "clamped": clamped, "dequantised": clamped, "dx": dx}
    if case.recipe["int8"]:
        codes = torch.round(clamped * (127 / limit)).clamp(-127, 127).to(torch.int8)
        outputs |= {"codes": codes, "dequantised": codes.float() * (limit / 127)}
    return outputs


# ---- Layers ----


def rmsnorm(case: Case, tensor: Inputs) -> Tensors:
    x, gain = tensor("x").float().requires_grad_(), tensor("gain").float().requires_grad_()
    epsilon = _fp32(case, "epsilon")
    y = functional.rms_norm(x, (x.shape[-1],), gain, epsilon)
    dx, dgain = torch.autograd.grad(y, (x, gain), tensor("dy").float())
    r = torch.rsqrt(x.square().mean(-1) + epsilon)
    return {"y": y.bfloat16(), "r": r, "dx": dx, "dgain": dgain}


def rope(case: Case, tensor: Inputs) -> Tensors:
    x, dy = tensor("x").float(), tensor("dy").float()
    half = x.shape[-1] // 2
    theta = _fp32(case, "base") ** (-torch.arange(half) / half)
    angle = tensor("position").float()[:, None, None] * theta
    cosine, sine = angle.cos(), angle.sin()

    def rotate(x: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1).bfloat16()

    return {"y": rotate(x, sine), "dx": rotate(dy, -sine)}


def relu2(case: Case, tensor: Inputs) -> Tensors:
    x = tensor("x").float().requires_grad_()
    y = functional.relu(x).square()
    return {"y": y, "dx": torch.autograd.grad(y, x, tensor("dy"))[0]}


def swiglu(case: Case, tensor: Inputs) -> Tensors:
    gate, up = tensor("gate").float().requires_grad_(), tensor("up").float().requires_grad_()
    y = functional.silu(gate) * up
    dgate, dup = torch.autograd.grad(y, (gate, up), tensor("dy"))
    return {"y": y, "dgate": dgate, "dup": dup}


def _linear(tensor: Inputs, output: str) -> Tensors:
    """bf16 products give bf16 by themselves; any other format is that of a product of widened factors, rounded."""
    wide = torch.bfloat16 if output == "bf16" else torch.float32
    x, w = tensor("x").to(wide).requires_grad_(), tensor("w").to(wide).requires_grad_()
    y = x @ w
    dx, dw = torch.autograd.grad(y, (x, w), tensor("dy").to(wide))
    return {name: value.to(FORMATS[output]) for name, value in (("y", y), ("dx", dx), ("dw", dw))}


def linear(case: Case, tensor: Inputs) -> Tensors:
    output, dw_output = (case.recipe.get(key, "fp32") for key in ("output", "dw_output"))
    outputs = _linear(tensor, output)
    if dw_output != output:
        outputs["dw"] = _linear(tensor, dw_output)["dw"]
    return outputs


def embedding(case: Case, tensor: Inputs) -> Tensors:
    w = tensor("w").float().requires_grad_()
    y = functional.embedding(tensor("tokens"), w)
    (dw,) = torch.autograd.grad(y, w, tensor("dy").float())
    return {"y": y.bfloat16(), "dw": dw}


def cross_entropy(case: Case, tensor: Inputs) -> Tensors:
    logits, targets = tensor("logits").requires_grad_(), tensor("targets").long()
    losses = functional.cross_entropy(logits, targets, ignore_index=-1, reduction="none")
    return _losses(case, logits, losses, targets >= 0)


def sparse_cross_entropy(case: Case, tensor: Inputs) -> Tensors:
    logits, ids, weights = tensor("logits").requires_grad_(), tensor("ids").long(), tensor("weights")
    filled = ids != EMPTY
    ids, weights = torch.where(filled, ids, 0), torch.where(filled, weights, 0)
    losses = -(weights * torch.log_softmax(logits, -1).gather(1, ids)).sum(-1)
    return _losses(case, logits, losses, filled.any(-1))


def _losses(case: Case, logits: torch.Tensor, losses: torch.Tensor, counts: torch.Tensor) -> Tensors:
    count = counts.sum().clamp(min=1)
    loss, z = losses.sum() / count, torch.logsumexp(logits, -1)
    total = loss
    c = _fp32(case, "zreg_c")
    if c != 0:
        total = total + c * torch.where(counts, z.square(), 0).sum() / count
    (dlogits,) = torch.autograd.grad(total, logits)
    return {"loss": loss.reshape(1), "losses": losses, "z": z, "dlogits": dlogits.bfloat16()}


def adamw(case: Case, tensor: Inputs) -> Tensors:
    w = torch.nn.Parameter(tensor("w"))
    w.grad = tensor("g")
    optimizer = torch.optim.AdamW(
        [w],
        lr=_fp32(case, "learning_rate"),
        betas=(_fp32(case, "beta1"), _fp32(case, "beta2")),
        eps=_fp32(case, "epsilon"),
        weight_decay=_fp32(case, "weight_decay"),
    )
    step = torch.tensor(float(case.recipe["step"] - 1))
    optimizer.state[w] = {"step": step, "exp_avg": tensor("m"), "exp_avg_sq": tensor("v")}
    clip = _fp32(case, "clip_norm")
    norm = torch.nn.utils.clip_grad_norm_([w], clip if clip > 0 else torch.inf)
    optimizer.step()
    state = optimizer.state[w]
    return {"norm": norm.reshape(1), "m": state["exp_avg"], "v": state["exp_avg_sq"], "w": w}


# ---- Squinch and all-reduce ----


def squinch_scale(q_max: torch.Tensor) -> torch.Tensor:
    """M = exp((q_max - 128) / 6) in fp32."""
    return torch.exp((q_max.float() - 128) / 6)


def squinch_encode(x: torch.Tensor, variant: str = "floor16") -> torch.Tensor:
    """fp32 [n] -> uint8 [ceil(n / 8), 6], by an fp32 logarithm and an fp32 square root, without tables."""
    blocks = functional.pad(x.float(), (0, -len(x) % 8)).reshape(-1, 8)
    magnitude = blocks.abs()
    largest = magnitude.amax(1)
    q_max = (torch.floor(6 * torch.log(largest)) + 129).clamp(0, 255)
    ratio = torch.sqrt(magnitude / squinch_scale(q_max)[:, None])
    codes = torch.floor(16 * ratio) if variant == "floor16" else torch.floor(15 * ratio + 0.5)
    codes = codes.clamp(max=15).to(torch.int32)
    signs = (torch.signbit(blocks).to(torch.int32) << torch.arange(8)).sum(1)
    result = torch.cat([q_max[:, None].to(torch.int32), signs[:, None], codes[:, 0::2] | codes[:, 1::2] << 4], 1)
    result[q_max == 0, 1:] = 0
    return result.to(torch.uint8)


def squinch_decode(blocks: torch.Tensor, count: int, variant: str = "floor16") -> torch.Tensor:
    """uint8 [blocks, 6] -> fp32 [count]."""
    blocks = blocks.to(torch.int32)
    codes = torch.stack([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 2).reshape(-1, 8).float()
    scales = squinch_scale(blocks[:, :1])
    magnitude = (2 * codes + 1) ** 2 / 1024 * scales if variant == "floor16" else codes**2 * scales / 225
    negative = ((blocks[:, 1:2] >> torch.arange(8)) & 1).bool()
    values = torch.where(negative, -magnitude, magnitude)
    return torch.where(blocks[:, :1] == 0, torch.zeros(()), values).reshape(-1)[:count]


def _variant(case: Case) -> str:
    variant = case.recipe["variant"]
    if variant == "stochastic15":
        raise Unsupported(variant)
    if case.recipe.get("nonfinite", "refuse") != "refuse":
        raise Unsupported("infinities saturated")
    return variant


def squinch(case: Case, tensor: Inputs) -> Tensors:
    # Decoding is the same for both variants of 15.
    if case.op == "squinch.decode":
        return {"x": squinch_decode(tensor("blocks"), case.recipe["count"], case.recipe["variant"])}
    variant = _variant(case)
    if case.op == "squinch.encode":
        return {"blocks": squinch_encode(tensor("x"), variant)}
    y = tensor("x") + tensor("e")
    blocks = squinch_encode(y, variant)
    decoded = squinch_decode(blocks, len(y), variant)
    return {"blocks": blocks, "decoded": decoded, "residual": y - decoded}


def all_reduce(case: Case, tensor: Inputs) -> Tensors:
    g = tensor("g")
    if case.op == "allreduce.fp32":
        return {"r": g.mean(0)}
    if case.op == "allreduce.bf16":
        return {"r": g.bfloat16().float().mean(0).bfloat16()}
    variant, count = _variant(case), g.shape[1]
    if case.recipe["feedback"]:
        g = g + tensor("e")
    encoded = torch.stack([squinch_encode(row, variant) for row in g])
    decoded = torch.stack([squinch_decode(blocks, count, variant) for blocks in encoded])
    reduced = squinch_encode(decoded.mean(0), variant)
    outputs = {"r": squinch_decode(reduced, count, variant), "encoded": encoded, "reduced": reduced}
    if case.recipe["feedback"]:
        outputs["residual"] = g - decoded
    return outputs


OPERATIONS: dict[str, Callable[[Case, Inputs], Tensors]] = {
    "squinch.encode": squinch,
    "squinch.decode": squinch,
    "squinch.feedback": squinch,
    "allreduce.fp32": all_reduce,
    "allreduce.bf16": all_reduce,
    "allreduce.squinch": all_reduce,
    "attention.forward": attention_forward,
    "attention.backward": attention_backward,
    "zreg.rows": zreg_rows,
    "visibility.dense": dense,
    "visibility.build": build,
    "clamp.dynamic": clamp,
    "clamp.static": clamp,
    "layer.rmsnorm": rmsnorm,
    "layer.rope": rope,
    "layer.relu2": relu2,
    "layer.swiglu": swiglu,
    "layer.linear": linear,
    "layer.embedding": embedding,
    "layer.crossEntropy": cross_entropy,
    "layer.sparseCrossEntropy": sparse_cross_entropy,
    "layer.adamw": adamw,
}
