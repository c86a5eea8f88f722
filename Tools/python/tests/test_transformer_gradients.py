"""T2, Z2, Z4, C4, T4: the formulas, all roundings off, against automatic differentiation in fp64 and differences.

The derivation runs over `Exact`, the same code as the bit-exact one. PyTorch sees a loss with c Z^2 written out, the
limit of the clamp detached, and the clamp as a function with its own gradient.
"""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from touchstone.reference.transformer import layers, training
from touchstone.reference.transformer.arithmetic import Exact

EXACT = Exact()
TOLERANCE = 1e-10


def close(ours: np.ndarray, theirs, what: str = "") -> None:
    theirs = np.asarray(theirs.detach() if hasattr(theirs, "detach") else theirs)
    scale = max(np.abs(theirs).max(initial=0), 1e-30)
    assert ours.shape == theirs.shape, f"{what}: {ours.shape}, {theirs.shape}"
    assert np.abs(ours - theirs).max(initial=0) <= TOLERANCE * scale, what


def finish(configuration, weights, batch, arithmetic=EXACT):
    """The loss, the gradients and every tensor of a pass."""
    tensors = training.run_pass(arithmetic, configuration, weights, batch)
    named = {}
    while True:
        try:
            name, tensor = next(tensors)
        except StopIteration as end:
            return end.value.loss, end.value.gradients, named
        assert name not in named
        named[name] = tensor


# The model in PyTorch


def torch_clamp(torch):
    class Clamp(torch.autograd.Function):
        """C2 to C4: straight through the rounding to int8, too."""

        @staticmethod
        def forward(context, y, limit, inward, int8):
            context.save_for_backward(y)
            context.limit, context.inward = limit, inward
            clamped = y.clamp(0, limit)
            if not int8:
                return clamped
            return torch.round(clamped * (127 / limit)).clamp(-127, 127) * (limit / 127)

        @staticmethod
        def backward(context, dy):
            (y,) = context.saved_tensors
            passes = (y >= 0) & (y <= context.limit)
            if context.inward:
                passes |= (y > context.limit) & (dy > 0)
            return dy * passes, None, None, None

    return Clamp.apply


def torch_norm(torch, x, gain, epsilon):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + float(epsilon)) * gain


def torch_rotary(torch, x, position, base):
    """x [B, T, heads, D], by complex numbers."""
    half = x.shape[-1] // 2
    angle = position[:, :, None, None] * float(base) ** (-torch.arange(half, dtype=torch.float64) / half)
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], -1)


def torch_attention(torch, q, k, v, seen, scale):
    """q [B, T, H, D], k and v [B, T, G, D], seen [B, T, T] -> o and Z [B, H, T]; zeros for a row that sees nothing."""
    k, v = (x.repeat_interleave(q.shape[2] // k.shape[2], 2) for x in (k, v))
    s = scale * torch.einsum("bihd,bjhd->bhij", q, k)
    some = seen.any(-1)[:, None]
    s = s.masked_fill(~seen[:, None] & some[..., None], -torch.inf)
    p = torch.softmax(s, -1) * some[..., None]
    z = torch.where(some, torch.logsumexp(s, -1), torch.zeros(()).double())
    return torch.einsum("bhij,bjhd->bihd", p, v), z


def torch_visible(torch, batch, window):
    length = batch.tokens.shape[1]
    i, j = torch.arange(length)[None, :, None], torch.arange(length)[None, None, :]
    start, limit = (
        torch.from_numpy(x.astype(np.int64))[:, None, :] for x in (batch.visibility_start, batch.visibility_limit)
    )
    seen = (start <= i) & (i < limit)
    return seen & (i - j < window) if window else seen


def torch_output_loss(torch, logits, c, batch):
    """Mean cross-entropy, and with it c times the mean of Z^2, over the rows with a target."""
    z = torch.logsumexp(logits, -1)
    if batch.target_ids is None:
        target = torch.from_numpy(batch.targets.reshape(-1).astype(np.int64))
        has = target >= 0
        losses = z - logits.gather(1, target.clamp(0)[:, None])[:, 0]
    else:
        ids = torch.from_numpy(batch.target_ids.reshape(len(logits), -1).astype(np.int64))
        filled = ids != layers.EMPTY_SLOT
        weights = torch.from_numpy(batch.target_weights.reshape(len(logits), -1).astype(np.float64)) * filled
        has = filled.any(-1)
        losses = (weights * (z[:, None] - logits.gather(1, torch.where(filled, ids, 0)))).sum(-1)
    count = int(has.sum())
    if count == 0:
        return (logits * 0).sum(), (logits * 0).sum()
    return (losses * has).sum() / count, float(c) * (z * z * has).sum() / count


def torch_loss(torch, c, w, batch):
    """The loss, and the loss with every term of the z-regulariser."""
    B, T, H, G, D = c.batch, c.sequence_length, c.heads, c.key_value_heads, c.head_dimension
    clamp = torch_clamp(torch)
    position = torch.from_numpy(batch.position.astype(np.float64))
    x = w["embedding"][torch.from_numpy(batch.tokens.astype(np.int64))]
    regulariser = 0
    kept = {}
    for layer in range(c.layers):
        at = f"layers.{layer}."
        y = torch_norm(torch, x, w[at + "attention.norm"], c.norm_epsilon)
        q = torch_rotary(torch, (y @ w[at + "attention.query"]).reshape(B, T, H, D), position, c.rotary_base)
        if c.owns(layer):
            k = torch_rotary(torch, (y @ w[at + "attention.key"]).reshape(B, T, G, D), position, c.rotary_base)
            kept[layer] = k, (y @ w[at + "attention.value"]).reshape(B, T, G, D)
        k, v = kept[c.source(layer)]
        o, z = torch_attention(torch, q, k, v, torch_visible(torch, batch, c.window(layer)), D**-0.5)
        regulariser = regulariser + float(c.zreg_c) * (z * z).sum()
        x = x + o.reshape(B, T, H * D) @ w[at + "attention.output"]
        y = torch_norm(torch, x, w[at + "mlp.norm"], c.norm_epsilon)
        y = torch.relu(y @ w[at + "mlp.up"]) ** 2
        if c.clamp != "none":
            limit = float(c.clamp_limit)
            if c.clamp == "dynamic":
                up = w[at + "mlp.up"].detach()
                limit = float((float(c.clamp_kappa) * (up * up).mean().sqrt() * c.width**0.5) ** 2)
            y = clamp(y, limit, c.clamp_gradient == "inward", c.int8)
        x = x + y @ w[at + "mlp.down"]
    logits = torch_norm(torch, x, w["norm"], c.norm_epsilon).reshape(B * T, -1) @ w["embedding"].T
    loss, output_regulariser = torch_output_loss(torch, logits, c.output_zreg_c, batch)
    return loss, loss + regulariser + output_regulariser


# Cases


def small(**changes) -> training.Configuration:
    sizes = {"vocabulary": 11, "width": 6, "layers": 2, "heads": 4, "key_value_heads": 2, "head_dimension": 4}
    sizes |= {"feed_forward_width": 9, "sequence_length": 7, "batch": 2, "zreg_c": np.float32(0.01)}
    return training.Configuration(**(sizes | {"output_zreg_c": np.float32(0.02)} | changes))


def weights_for(c: training.Configuration, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        parameter.name: generator.standard_normal(parameter.shape) / np.sqrt(parameter.fan or 30)
        + (parameter.fan is None)
        for parameter in training.parameters(c)
    }


def batch_for(c: training.Configuration, seed: int) -> training.Batch:
    """Two documents a sequence; some tokens see nothing, some have no target, ids repeat."""
    generator = np.random.default_rng(seed)
    shape = (c.batch, c.sequence_length)
    limit = np.full(shape, c.sequence_length, np.int32)
    start = np.tile(np.arange(c.sequence_length, dtype=np.int32), (c.batch, 1))
    for row in range(c.batch):
        cut = int(generator.integers(0, c.sequence_length + 1))
        limit[row, :cut] = cut
    limit[0, 0] = start[0, 0]  # nobody sees the first key, so the first query sees nothing
    batch = training.Batch(
        generator.integers(0, c.vocabulary, shape).astype(np.int32),
        generator.integers(0, 2 * c.sequence_length, shape).astype(np.int32),
        start,
        limit,
    )
    if c.distillation_k:
        ids = generator.integers(0, c.vocabulary, (*shape, c.distillation_k)).astype(np.uint32)
        ids[generator.random(ids.shape) < 0.3] = layers.EMPTY_SLOT
        ids[0, 1] = layers.EMPTY_SLOT
        return replace(batch, target_ids=ids, target_weights=generator.random(ids.shape).astype(np.float32))
    return replace(batch, targets=generator.integers(-1, c.vocabulary, shape).astype(np.int32))


MODELS = {
    "plain": {"zreg_c": np.float32(0), "output_zreg_c": np.float32(0), "clamp": "none"},
    "folded": {},
    "unfolded": {"zreg_form": "unfolded", "windows": (3, 0)},
    "row-dot": {"zreg_form": "row-dot"},
    "shared": {"layers": 4, "key_value_source": (0, 0, 2, 0), "windows": (0, 2, 3, 0)},
    "multi-query": {"key_value_heads": 1, "heads": 3, "head_dimension": 2},
    "static": {"clamp": "static", "clamp_limit": np.float32(0.25)},
    "inward": {"clamp": "static", "clamp_limit": np.float32(0.25), "clamp_gradient": "inward"},
    "dynamic": {"clamp_kappa": np.float32(0.5)},
    "int8": {"clamp_kappa": np.float32(0.5), "int8": True, "clamp_gradient": "inward"},
    "distilled": {"distillation_k": 3},
    "single": {"layers": 1, "heads": 1, "key_value_heads": 1, "sequence_length": 1, "vocabulary": 1, "width": 1},
    "no layers": {"layers": 0},
}


@pytest.mark.parametrize("name", MODELS)
def test_T2_gradients_of_the_model(name):
    torch = pytest.importorskip("torch")
    c = small(**MODELS[name])
    weights, batch = weights_for(c, 1), batch_for(c, 2)
    loss, gradients, tensors = finish(c, weights, batch)
    leaves = {key: torch.from_numpy(value.copy()).requires_grad_() for key, value in weights.items()}
    their_loss, total = torch_loss(torch, c, leaves, batch)
    total.backward()
    close(np.asarray(loss), their_loss, "loss")
    assert list(gradients.keys()) and set(gradients) == set(leaves)
    # the scale of a gradient that vanishes by symmetry is that of the others
    for key, gradient in gradients.items():
        theirs = leaves[key].grad if leaves[key].grad is not None else torch.zeros_like(leaves[key])
        error = np.abs(gradient - theirs.numpy()).max()
        assert error <= TOLERANCE * max(np.abs(theirs.numpy()).max(), 1e-3), f"{key}: {error}"
    clipped = (
        [np.abs(tensors[f"layers.{i}.mlp.up.output"].array) for i in range(c.layers)] if "clamp" in MODELS[name] else []
    )
    if c.clamp == "static":
        assert any((u**2 > c.clamp_limit).any() for u in clipped), "the case clips nothing"


@pytest.mark.parametrize("name", ["plain", "folded", "unfolded", "row-dot", "shared", "static", "distilled"])
def test_T2_gradients_by_differences(name):
    """The gradient along random directions is the slope of loss + c Z^2, needing no library."""
    c = small(**({"clamp": "none"} | MODELS[name]))
    weights, batch = weights_for(c, 3), batch_for(c, 4)

    def total(moved) -> float:
        loss, _, tensors = finish(c, moved, batch)
        z = tensors["loss.z"].array
        has = (
            (batch.targets >= 0).reshape(-1)
            if batch.target_ids is None
            else (batch.target_ids != layers.EMPTY_SLOT).any(-1).reshape(-1)
        )
        attention = sum((tensors[f"layers.{i}.attention.z"].array ** 2).sum() for i in range(c.layers))
        return float(loss) + float(c.zreg_c) * attention + float(c.output_zreg_c) * (z**2)[has].mean()

    _, gradients, _ = finish(c, weights, batch)
    generator = np.random.default_rng(5)
    for key, value in weights.items():
        direction = generator.standard_normal(value.shape)
        h = 1e-5
        up, down = (total(weights | {key: value + sign * h * direction}) for sign in (1, -1))
        slope = (gradients[key] * direction).sum()
        assert abs((up - down) / (2 * h) - slope) <= 1e-6 * max(abs(slope), np.abs(gradients[key]).sum(), 1e-3), key


# Layer by layer


def leaf(torch, x):
    return torch.from_numpy(np.array(x, np.float64)).requires_grad_()


def test_T2_rms_norm():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(1)
    x, g, dy = generator.standard_normal((5, 7)), generator.standard_normal(7), generator.standard_normal((5, 7))
    y, saved = layers.rms_norm(EXACT, x, g, np.float32(0.01))
    tx, tg = leaf(torch, x), leaf(torch, g)
    ty = torch_norm(torch, tx, tg, np.float32(0.01))
    ty.backward(torch.from_numpy(dy))
    dx, dg = layers.rms_norm_backward(EXACT, dy, g, saved)
    for ours, theirs in ((y, ty), (dx, tx.grad), (dg, tg.grad)):
        close(ours, theirs)


def test_T2_linear():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(2)
    x, w, other = (generator.standard_normal(shape) for shape in ((2, 3, 5), (5, 4), (5, 2)))
    dy, dother = generator.standard_normal((2, 3, 4)), generator.standard_normal((2, 3, 2))
    tx, tw, tother = leaf(torch, x), leaf(torch, w), leaf(torch, other)
    ty = tx @ tw
    torch.autograd.backward([ty, tx @ tother], [torch.from_numpy(dy), torch.from_numpy(dother)])
    rows = x.reshape(6, 5)
    close(layers.linear(EXACT, rows, w), ty.reshape(6, 4))
    close(layers.linear_transposed(EXACT, rows, w.T.copy()), ty.reshape(6, 4))
    parts = (dy.reshape(6, 4), w), (dother.reshape(6, 2), other)
    close(layers.linear_input_gradient(EXACT, *parts), tx.grad.reshape(6, 5))
    close(layers.linear_transposed(EXACT, dy.reshape(6, 4), w), dy.reshape(6, 4) @ w.T)
    close(layers.weight_gradient(EXACT, x, dy), tw.grad)


def test_E4_rotary():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(3)
    x, dy = generator.standard_normal((2, 1, 5, 3, 6))  # [B, T, heads, D]
    position = generator.integers(0, 100, (1, 5))
    c, s = layers.rotary_tables(EXACT, np.float32(500), 6, position.reshape(-1))
    tx = leaf(torch, x)
    ty = torch_rotary(torch, tx, torch.from_numpy(position.astype(np.float64)), 500)
    ty.backward(torch.from_numpy(dy))
    close(layers.rotary(EXACT, x[0], c, s), ty[0])
    close(layers.rotary_backward(EXACT, dy[0], c, s), tx.grad[0])


def test_T2_relu2_and_C4():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(4)
    u, dy = generator.standard_normal((2, 6, 8))
    for gradient in ("straight-through", "inward"):
        for int8 in (False, True):
            tu = leaf(torch, u)
            ty = torch_clamp(torch)(torch.relu(tu) ** 2, 0.7, gradient == "inward", int8)
            ty.backward(torch.from_numpy(dy))
            y = layers.relu2(EXACT, u)
            close(layers.clamp(EXACT, y, 0.7, int8).value, ty)
            clamped = layers.clamp_backward(dy, y, 0.7, gradient)
            close(layers.relu2_backward(EXACT, clamped, u), tu.grad)


@pytest.mark.parametrize("k", [0, 3])
def test_T2_cross_entropies(k):
    torch = pytest.importorskip("torch")
    c = small(distillation_k=k)
    batch = batch_for(c, 6)
    logits = np.random.default_rng(7).standard_normal((14, 11)) * 3
    leaf_logits = leaf(torch, logits)
    loss, regulariser = torch_output_loss(torch, leaf_logits, 0.02, batch)
    (loss + regulariser).backward()
    if k:
        ids, weights = batch.target_ids.reshape(14, k), batch.target_weights.reshape(14, k)
        ours = layers.sparse_cross_entropy(EXACT, logits, ids, weights, 0.02)
    else:
        ours = layers.cross_entropy(EXACT, logits, batch.targets.reshape(-1), 0.02)
    close(np.asarray(ours.loss), loss)
    close(ours.gradient, leaf_logits.grad)


@pytest.mark.parametrize("form", ["folded", "unfolded", "row-dot"])
@pytest.mark.parametrize("c", [0.0, 0.25])
def test_Z2_attention(form, c):
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(8)
    q, do = generator.standard_normal((2, 2, 5, 4, 3))  # [B, T, H, D]
    k, v = generator.standard_normal((2, 2, 5, 2, 3))
    seen = generator.random((2, 5, 5)) < 0.6
    seen[1, 2] = False
    tq, tk, tv = (leaf(torch, x) for x in (q, k, v))
    to, tz = torch_attention(torch, tq, tk, tv, torch.from_numpy(seen), 0.4)
    ((to * torch.from_numpy(do)).sum() + c * (tz * tz).sum()).backward()
    q, k, v, do = (x.swapaxes(1, 2) for x in (q, k, v, do))
    forward = layers.attention(EXACT, q, k, v, seen, 0.4)
    close(forward.o.swapaxes(1, 2), to)
    close(forward.rows.z, tz)
    ours = layers.attention_backward(EXACT, q, k, v, seen, 0.4, forward, do, c, form)
    for gradient, theirs in zip(ours, (tq, tk, tv)):
        close(gradient.swapaxes(1, 2), theirs.grad)


def test_T2_embedding():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(9)
    w, dx, tokens = generator.standard_normal((5, 3)), generator.standard_normal((8, 3)), generator.integers(0, 5, 8)
    tw = leaf(torch, w)
    tw[torch.from_numpy(tokens)].backward(torch.from_numpy(dx))
    close(layers.embedding_gradient(EXACT, tokens, dx, 5), tw.grad)


def test_T4_adamw():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(10)
    w = generator.standard_normal((4, 3))
    m = v = np.zeros_like(w)
    parameter = leaf(torch, w)
    beta1, beta2, rate, decay, epsilon = (np.float32(x) for x in (0.9, 0.99, 0.01, 0.1, 1e-6))
    optimizer = torch.optim.AdamW(
        [parameter], float(rate), (float(beta1), float(beta2)), float(epsilon), weight_decay=float(decay)
    )
    for n in range(1, 6):
        g = generator.standard_normal(w.shape)
        parameter.grad = torch.from_numpy(g.copy())
        norm = layers.gradient_norm(EXACT, [g])
        factor = layers.clip_factor(EXACT, norm, 2)
        torch.nn.utils.clip_grad_norm_([parameter], 2)
        optimizer.step()
        # PyTorch divides by norm + 1e-6
        factor = factor if factor is None else factor * float(norm) / (float(norm) + 1e-6)
        hyper = layers.AdamW(rate, beta1, beta2, epsilon, decay)
        w, m, v = layers.adamw(EXACT, hyper, n, w, m, v, g if factor is None else g * factor)
        close(w, parameter)
    assert layers.bias_correction(EXACT, np.float32(0.5), 2) == float(Fraction(4, 3))
