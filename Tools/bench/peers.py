"""The engine and PyTorch on the same shapes, in turn, in one run: medians and their ratios.

PyTorch's measurements of a kind of work stand between two of the engine, whose mean counts, so that both see the same machine. PyTorch's model is the plain one: the same sizes, without
z-reg, clamp, int8 and masks; it is measured in bf16 autocast and in fp32, eager and compiled, and the best counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
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

    def add(self, work: str, ours: float, theirs: dict[str, float]) -> None:
        """Seconds of the engine and of each of the peers' ways."""
        best = min(theirs, key=theirs.get)
        row = {"work": work, "engine_s": ours, "peer": best, "peer_s": theirs[best], "ratio": theirs[best] / ours,
               "all": theirs}
        self.rows.append(row)
        print(f"{work:<44} {ours * 1e3:10.2f} ms   {theirs[best] * 1e3:10.2f} ms  {row['ratio']:6.2f} x  {best}",
              flush=True)


def products(report: Report, arguments) -> None:
    before = engine(arguments.program, "gemm", arguments.threads, arguments.repeats)
    peers = {}
    for m, k, n in [(4096, 512, 512), (4096, 512, 2048), (4096, 2048, 512), (1024, 1024, 1024), (2048, 2048, 2048)]:
        theirs = {}
        for kind in (torch.float32, torch.bfloat16):
            a, b = torch.randn(m, k, dtype=kind), torch.randn(k, n, dtype=kind)
            theirs[str(kind).removeprefix("torch.")] = median(lambda a=a, b=b: a @ b, arguments.repeats)
        peers[f"{m} x {k} x {n}"] = theirs
    after = engine(arguments.program, "gemm", arguments.threads, arguments.repeats)
    for shape, theirs in peers.items():
        name = f"{shape} paired-ftz"
        report.add(f"product {shape}", (before[name]["seconds"] + after[name]["seconds"]) / 2, theirs)


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


def training(report: Report, arguments) -> None:
    tokens = torch.randint(0, 256, (8, 512))
    targets = torch.randint(0, 256, (8, 512))
    repeats = max(1, arguments.repeats // 2)

    def ours() -> float:
        rows = engine(arguments.program, "train", arguments.threads, repeats)
        return next(iter(rows.values()))["seconds"]

    before = ours()
    theirs = {}
    for compiled in (False, True):
        for autocast in (False, True):
            name = f"{'compiled' if compiled else 'eager'} {'bf16 autocast' if autocast else 'fp32'}"
            if arguments.ways and name not in arguments.ways:
                continue
            model = Plain()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            step_model = torch.compile(model) if compiled else model

            def step(step_model=step_model, model=model, optimizer=optimizer, autocast=autocast):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                    loss = step_model(tokens, targets)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            try:
                step()  # compiles
                theirs[name] = median(step, repeats)
            except Exception as error:  # a compiler that is not there is no peer
                print(f"  {name}: {type(error).__name__}: {str(error).splitlines()[0]}")
            if name in theirs:
                print(f"  {name}: {theirs[name]:.2f} s a step", flush=True)
    after = ours()
    report.add("training step, bench (all techniques; peer plain)", (before + after) / 2, theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default=".build/release/touchstone")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=["products", "attention", "training"])
    parser.add_argument("--ways", nargs="*", help="of training: 'eager fp32', 'compiled bf16 autocast' ...; all by default")
    parser.add_argument("--json", help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
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
