"""The engine and its peers on the same shapes, in turn, in one run: medians and their ratios.

The peers' measurements of a kind of work stand between two of the engine, whose mean counts, so that all see the same machine. Products are compared with PyTorch, with
NumPy's BLAS (which one that is, is printed) and with JAX where they are installed; attention and training with PyTorch. Its model is the plain one: the same sizes,
without z-reg, clamp, int8 and masks; it is measured in bf16 autocast and in fp32, eager and compiled, and the best counts. Each of these ways has a
process of its own and --limit seconds; one that takes longer is reported as such and counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F


def median(run, repeats: int) -> float:
    """Seconds of a call after a first one; of a call of over 3 s, its one time."""
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    if first > 3:
        return first
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def engine(program: str, group: str, threads: int, repeats: int, extra=()) -> dict[str, dict]:
    """Rows of `touchstone bench` by name."""
    text = subprocess.run(
        [program, "bench", "--only", group, "--json", "--threads", str(threads), "--repeats", str(repeats), *extra],
        check=True, capture_output=True, text=True,
    ).stdout
    return {row["name"]: row for row in json.loads(text)}


class Report:
    def __init__(self) -> None:
        self.rows: list[dict] = []

    def add(self, work: str, ours: float, theirs: dict[str, float], unfinished: dict[str, str] | None = None) -> None:
        """Seconds of the engine and of each of the peers' ways; in words what came of ways that did not finish."""
        row = {"work": work, "engine_s": ours, "all": theirs, "unfinished": unfinished or {}}
        self.rows.append(row)
        if not theirs:
            print(f"{work:<44} {ours * 1e3:10.2f} ms   no peer finished", flush=True)
            return
        best = min(theirs, key=theirs.get)
        row |= {"peer": best, "peer_s": theirs[best], "ratio": theirs[best] / ours}
        print(f"{work:<44} {ours * 1e3:10.2f} ms   {theirs[best] * 1e3:10.2f} ms  {row['ratio']:6.2f} x  {best}",
              flush=True)
        if len(theirs) > 1:
            others = ", ".join(f"{way} {time / ours:.2f} x" for way, time in sorted(theirs.items(), key=lambda x: x[1]))
            print(f"    {others}", flush=True)


def blas(threads: int):
    """NumPy's sgemm and what computes it, on `threads` threads; nothing where NumPy or threadpoolctl is missing."""
    try:
        import numpy
        import threadpoolctl
    except ImportError as error:
        print(f"  no NumPy BLAS: {error}")
        return None
    # The libraries that are loaded, PyTorch's too: NumPy's own is in its folder or in that of its wheel's libraries.
    numpy.ones((2, 2), numpy.float32) @ numpy.ones((2, 2), numpy.float32)
    libraries = [x for x in threadpoolctl.threadpool_info() if x["user_api"] == "blas" and "numpy" in x["filepath"]]
    built = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    library = libraries[0] if libraries else {}
    name = f"NumPy {numpy.__version__} {library.get('internal_api', built['name'])} fp32"
    print(f"  {name}: built with {built['name']} {built['version']}; loaded "
          + ", ".join(f"{x['internal_api']} {x['version']} ({x.get('architecture')}, {x.get('threading_layer')})" for x in libraries))
    threadpoolctl.threadpool_limits(limits=threads, user_api="blas")

    def ways(m: int, k: int, n: int):
        a = numpy.random.default_rng(1).standard_normal((m, k), numpy.float32)
        b = numpy.random.default_rng(2).standard_normal((k, n), numpy.float32)
        return {name: lambda: a @ b}

    return ways


def jax_products():
    """JAX's matrix product, compiled; nothing where it is missing. Its threads are the processors that this process may use."""
    try:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax
        import jax.numpy as jnp
    except ImportError as error:
        print(f"  no JAX: {error}")
        return None
    print(f"  JAX {jax.__version__}, {jax.default_backend()}")
    product = jax.jit(lambda a, b: a @ b)

    def ways(m: int, k: int, n: int):
        result = {}
        for kind in (jnp.float32, jnp.bfloat16):
            a = jax.random.normal(jax.random.key(1), (m, k), dtype=kind)
            b = jax.random.normal(jax.random.key(2), (k, n), dtype=kind)
            result[f"JAX {jnp.dtype(kind).name}"] = lambda a=a, b=b: product(a, b).block_until_ready()
        return result

    return ways


def torch_products(m: int, k: int, n: int):
    result = {}
    for kind in (torch.float32, torch.bfloat16):
        a, b = torch.randn(m, k, dtype=kind), torch.randn(k, n, dtype=kind)
        result["PyTorch " + str(kind).removeprefix("torch.")] = lambda a=a, b=b: a @ b
    return result


def products(report: Report, arguments) -> None:
    makers = [torch_products, blas(arguments.threads), jax_products()]
    for m, k, n in [(4096, 512, 512), (4096, 512, 2048), (4096, 2048, 512), (1024, 1024, 1024), (2048, 2048, 2048)]:
        # Bracketed shape by shape: what else the machine does changes in a minute.
        name = f"{m} x {k} x {n} paired-ftz"
        before = engine(arguments.program, "gemm", arguments.threads, arguments.repeats, ["--shape", f"{m}x{k}x{n}"])
        theirs = {}
        for maker in makers:
            for way, run in (maker(m, k, n) if maker else {}).items():
                theirs[way] = median(run, arguments.repeats)
        after = engine(arguments.program, "gemm", arguments.threads, arguments.repeats, ["--shape", f"{m}x{k}x{n}"])
        report.add(f"product {m} x {k} x {n}", (before[name]["seconds"] + after[name]["seconds"]) / 2, theirs)


def attention(report: Report, arguments) -> None:
    batch, heads, length, width = 2, 8, 1024, 64
    i, j = torch.arange(length)[:, None], torch.arange(length)[None, :]
    masks = {
        "full": None,
        "causal": "causal",
        "documents of 128": (j <= i) & (i // 128 == j // 128),
        "window 128": (j <= i) & (i - j < 128),
    }
    before = engine(arguments.program, "attention", arguments.threads, arguments.repeats)
    peers = {}
    for name, mask in masks.items():
        theirs = {}
        for kind in (torch.float32, torch.bfloat16):
            q = torch.randn(batch, heads, length, width, dtype=kind, requires_grad=True)
            k = torch.randn(batch, heads, length, width, dtype=kind, requires_grad=True)
            v = torch.randn(batch, heads, length, width, dtype=kind, requires_grad=True)
            g = torch.randn(batch, heads, length, width, dtype=kind)

            def run(q=q, k=k, v=v, g=g, mask=mask):
                if isinstance(mask, str):
                    o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                else:
                    o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
                o.backward(g)

            theirs["SDPA " + str(kind).removeprefix("torch.")] = median(run, arguments.repeats)
        peers[name] = theirs
    after = engine(arguments.program, "attention", arguments.threads, arguments.repeats)
    for name, theirs in peers.items():
        report.add(
            f"attention forward and backward, {name}", (before[name]["seconds"] + after[name]["seconds"]) / 2, theirs)


class Block(torch.nn.Module):
    def __init__(self, width: int, heads: int, head: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.head = heads, head
        self.norm = torch.nn.RMSNorm(width)
        self.query = torch.nn.Linear(width, heads * head, bias=False)
        self.key = torch.nn.Linear(width, head, bias=False)
        self.value = torch.nn.Linear(width, head, bias=False)
        self.out = torch.nn.Linear(heads * head, width, bias=False)
        self.norm2 = torch.nn.RMSNorm(width)
        self.up = torch.nn.Linear(width, hidden, bias=False)
        self.down = torch.nn.Linear(hidden, width, bias=False)

    def forward(self, x, cosine, sine):
        b, t, _ = x.shape
        y = self.norm(x)

        def rotate(z):
            first, second = z.chunk(2, dim=-1)
            return torch.cat((first * cosine - second * sine, first * sine + second * cosine), dim=-1)

        q = rotate(self.query(y).view(b, t, self.heads, self.head).transpose(1, 2))
        k = rotate(self.key(y).view(b, t, 1, self.head).transpose(1, 2)).expand(-1, self.heads, -1, -1)
        v = self.value(y).view(b, t, 1, self.head).transpose(1, 2).expand(-1, self.heads, -1, -1)
        o = F.scaled_dot_product_attention(q, k.to(v.dtype), v, is_causal=True) if q.dtype == v.dtype else (
            F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True))
        x = x + self.out(o.transpose(1, 2).reshape(b, t, -1))
        return x + self.down(F.relu(self.up(self.norm2(x))).square())


class Plain(torch.nn.Module):
    def __init__(self, vocabulary=256, width=512, layers=6, heads=8, head=64, hidden=2048, length=512) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, width)
        self.blocks = torch.nn.ModuleList(Block(width, heads, head, hidden) for _ in range(layers))
        self.norm = torch.nn.RMSNorm(width)
        angle = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, head, 2) / head)
        self.register_buffer("cosine", angle.cos())
        self.register_buffer("sine", angle.sin())

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        logits = self.norm(x) @ self.embedding.weight.T
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


WAYS = [f"{kind} {numbers}" for kind in ("eager", "compiled") for numbers in ("fp32", "bf16 autocast")]


def train(way: str, steps: int) -> None:
    """Steps of the plain model in one way, in this process: a line with seconds after each, the first of which also compiles."""
    tokens = torch.randint(0, 256, (8, 512))
    targets = torch.randint(0, 256, (8, 512))
    model = Plain()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step_model = torch.compile(model) if way.startswith("compiled") else model
    for _ in range(steps):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way.endswith("bf16 autocast")):
            loss = step_model(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        print(time.perf_counter() - start, flush=True)


def trained(way: str, arguments) -> tuple[list[float], str | None]:
    """Seconds of the steps of a way that ended within the limit, the first left out; and why there are none or fewer."""
    command = [sys.executable, __file__, "--train", way, "--threads", str(arguments.threads), "--repeats", str(arguments.repeats)]
    # A session of its own: a compiler's helpers end with it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    complaint = None
    try:
        output, errors = process.communicate(timeout=arguments.limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        complaint = f"did not finish in {arguments.limit:g} s"
    times = [float(line) for line in output.split()]
    if complaint is None and process.returncode != 0:
        complaint = (errors.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
    if len(times) > arguments.repeats:
        complaint = None  # the end of the process alone was late
    if complaint and times:
        complaint += f", {len(times)} of {arguments.repeats + 1} steps done"
    return times[1:], complaint


def training(report: Report, arguments) -> None:
    def ours() -> float:
        rows = engine(arguments.program, "train", arguments.threads, max(1, arguments.repeats // 2))
        return next(iter(rows.values()))["seconds"]

    engine_times = [ours()]
    theirs, unfinished = {}, {}
    for way in arguments.ways or WAYS:
        times, complaint = trained(way, arguments)
        if complaint:
            unfinished[way] = complaint
            print(f"  {way}: {complaint}", flush=True)
        if times:
            theirs[way] = statistics.median(times)
            print(f"  {way}: {theirs[way]:.2f} s a step", flush=True)
        engine_times.append(ours())
    report.add(
        "training step, bench (all techniques; peer plain)", statistics.median(engine_times), theirs, unfinished)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default=".build/release/touchstone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=["products", "attention", "training"])
    parser.add_argument("--ways", nargs="*", help="of training: 'eager fp32', 'compiled bf16 autocast' ...; all by default")
    parser.add_argument("--limit", type=float, default=600, help="seconds of each way of training, compilation and all")
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument("--train", help=argparse.SUPPRESS)  # a way of training, in a process of its own
    arguments = parser.parse_args()
    # JAX takes as many threads as there are processors to run on, and so all get the same.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:arguments.threads])
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    if arguments.train:
        train(arguments.train, arguments.repeats + 1)
        return
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads, median of {arguments.repeats}; "
          "ratio: how many times faster the engine is")
    print(f"{'work':<44} {'engine':>13} {'best peer':>15}")
    report = Report()
    if "products" in arguments.only:
        products(report, arguments)
    if "attention" in arguments.only:
        attention(report, arguments)
    if "training" in arguments.only:
        training(report, arguments)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report.rows, file, indent=1)


if __name__ == "__main__":
    main()
