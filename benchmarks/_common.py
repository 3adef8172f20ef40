"""What every benchmark shares: interleaved rounds, the machine's peaks, one JSON line a comparison, a plot.

    ours = lambda: ...            # one call does work_per_call units of work, and is finished when it returns
    compare("train_vs_transformers_compile", ours, peer, unit="tokens/s", work_per_call=2048, rounds=7,
            peaks=(gemm_of_jax, gemm_of_torch), cost_per_work=train_flops_per_token(cfg, 256))

The machines that this runs on are shared and their clocks wander, so only what was measured in turn is compared:
every round calls ours, the peer and the peaks once, in alternating order.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
# One heap in huge pages that keeps what it is given back: a step's temporary arrays are then not mapped and cleared by
# the kernel again at every step (140,000 page faults and 0.3 s of 0.75 s a step, measured in a virtual machine).
TUNABLES = (
    "glibc.malloc.hugetlb=1",
    "glibc.malloc.arena_max=1",
    "glibc.malloc.mmap_max=0",
    "glibc.malloc.trim_threshold=8589934592",
    "glibc.malloc.top_pad=1073741824",
)
KEYS = ("name", "ours", "peer", "ratio", "unit", "share_of_peak", "rounds", "versions")


def prepare() -> None:
    """Start this process again with TUNABLES of malloc and a stated number of threads, for both sides alike.

    Call it before JAX or torch is imported. glibc reads its tunables when a process starts: hence the exec.
    """
    os.environ.setdefault("NPROC", str(THREADS))
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if sys.platform == "linux" and "glibc.malloc.hugetlb" not in os.environ.get("GLIBC_TUNABLES", ""):
        others = [t for t in [os.environ.get("GLIBC_TUNABLES")] if t]
        os.environ["GLIBC_TUNABLES"] = ":".join([*others, *TUNABLES])
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def arguments(doc: str | None, rounds: int = 7, add=None) -> argparse.Namespace:
    """Return the command line that all benchmarks have: --rounds, --plot [FILE]; add(parser) may add options.

    doc: the benchmark's docstring, None under python -OO; its first line is the help.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="timed calls of each side (default %(default)s)")
    parser.add_argument("--plot", nargs="?", const="", metavar="FILE", help="draw the comparisons into this PNG")
    if add is not None:
        add(parser)
    parsed = parser.parse_args()
    if parsed.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {parsed.rounds}")
    return parsed


def seconds(call) -> float:
    """Return how long one call takes, in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(name, ours, peer, unit, work_per_call, rounds=7, peaks=(), cost_per_work=None, warmup=2, **extra) -> dict:
    """Time both sides in turn, print the comparison as one JSON line, and return it.

        ours, peer    = medians over the rounds of work_per_call / seconds
        ratio         = ours / peer                            above 1 is better for us
        share_of_peak = ours * cost_per_work / the highest median of peaks      None without one

    Each of `peaks` is a function that returns a rate of the machine, in FLOP/s or bytes/s, and cost_per_work is what a
    unit of work costs of it. `ratio_range` has the lowest and highest ratio of a round. `extra` is put into the line
    as it is.
    """
    for _ in range(warmup):  # compiles, fills caches; unmeasured
        ours(), peer()
    rates = {"ours": [], "peer": []} | {peak.__name__: [] for peak in peaks}
    for i in range(rounds):
        sides = [("ours", ours), ("peer", peer)]
        for side, call in sides if i % 2 == 0 else reversed(sides):
            rates[side].append(work_per_call / seconds(call))
        for peak in peaks if i % 2 == 0 else reversed(peaks):
            rates[peak.__name__].append(peak())
    mine, theirs, *tops = map(statistics.median, rates.values())
    ratios = [a / b for a, b in zip(rates["ours"], rates["peer"], strict=True)]
    line = dict(
        name=name,
        ours=_short(mine),
        peer=_short(theirs),
        ratio=_short(mine / theirs),
        unit=unit,
        share_of_peak=_short(mine * cost_per_work / max(tops)) if tops else None,
        rounds=rounds,
        versions=versions(),
        ratio_range=[_short(min(ratios)), _short(max(ratios))],
        peaks_per_s={peak.__name__: _short(top) for peak, top in zip(peaks, tops, strict=True)},
        **extra,
    )
    print(json.dumps(line), flush=True)
    return line


def _short(x: float) -> float:
    return float(f"{x:.4g}")


def versions() -> dict[str, str]:
    """Return the versions of everything that the numbers depend on, and the machine's kind."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "threads": str(THREADS)}
    for package in ("numpy", "jax", "torch", "transformers"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def gemm_of_jax(n: int = 2048) -> float:
    """Return jax's rate of float32 matrix multiplication in FLOP/s: the best of a few n x n products."""
    import jax
    import jax.numpy as jnp

    a, product = jnp.ones((n, n), jnp.float32), jax.jit(jnp.matmul)
    return _flops_per_s(n, lambda: product(a, a).block_until_ready())


def gemm_of_torch(n: int = 2048) -> float:
    """Return torch's rate of the same product, in FLOP/s: the machine's peak is the better of both."""
    import torch

    a = torch.ones(n, n)
    return _flops_per_s(n, lambda: a @ a)


def _flops_per_s(n, product, repeats=3):
    product()  # compiles
    return 2 * n**3 / min(seconds(product) for _ in range(repeats))


def read_bytes_per_s(size_bytes: int, repeats: int = 20) -> float:
    """Return how fast all cores read size_bytes of memory, again and again: the best of a few sums by torch.

    A working set that fits the last-level cache reads faster than the memory bus: give the size that is meant.
    """
    import torch

    data = torch.ones(size_bytes // 4)
    data.sum()
    return data.numel() * 4 / min(seconds(data.sum) for _ in range(repeats))


def plot(lines: list[dict], path: str | None, default: str) -> None:
    """Draw the ratios of the comparisons as bars into path (or default when it is empty); None draws nothing."""
    if path is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.6 * len(lines)), layout="constrained")
    rows = range(len(lines))[::-1]
    axes.barh(rows, [line["ratio"] for line in lines], color="#3b6ea5")
    for y, line in zip(rows, lines):
        label = f" {line['ratio']:.2f}x   {line['ours']:.0f} against {line['peer']:.0f} {line['unit']}"
        axes.text(line["ratio"], y, label, va="center", fontsize=9)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(rows, [line["name"] for line in lines])
    axes.set_xlim(0, 1.6 * max(line["ratio"] for line in lines))
    axes.set_xlabel("ours over peer (above 1 is better for us)")
    target = Path(path or default)
    figure.savefig(target, dpi=100)
    print(f"wrote {target}", file=sys.stderr)
