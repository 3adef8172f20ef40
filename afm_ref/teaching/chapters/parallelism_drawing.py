"""Pictures of the simulator's objects: who holds what, steps of a ring, timelines.

Every function draws on the matplotlib axes that it is given.
"""

import numpy as np

from ...parallelism.simulator import ring_collectives
from ...parallelism.simulator.cluster import PARTIAL, REPLICATED, Tensor
from ...parallelism.simulator.pipeline_schedules import Timeline
from ..figures import (
    BESIDE,
    BLACK,
    BLUE,
    CYCLE,
    GREY,
    ORANGE,
    PALE,
    YELLOW,
    bare,
    box,
    finish,
)

PARTS = (*CYCLE, YELLOW, BLACK)


def tensor(ax, x: Tensor, title: str | None = None) -> None:
    """Draw the whole array for every device, and what it holds in colour.

    Equal parts have equal colours, and what all devices hold is grey. Summands are hatched.
    Columns follow the last axis of the mesh. Vectors are columns.
    """
    columns = [1, *x.cluster.mesh.values()][-1]
    width, height = _extent(x)
    hatch, looks = "////" if PARTIAL in x.layout.values() else None, {}
    for device, coordinate in enumerate(x.cluster.coordinates):
        left = (device % columns) * (width + 0.35)
        top = (device // columns) * (height + 0.55)
        box(ax, left, top, width, height, fc=PALE, ec="#AEB6C0", lw=1.0)
        row, down = _span(x, coordinate, 0, height)
        column, across = _span(x, coordinate, 1, width)
        color, number = _look(x, coordinate, looks), (left + width / 2, top - 0.07)
        box(ax, left + column, top + row, across, down, fc=color, ec="white", hatch=hatch)
        ax.text(*number, device, ha="center", va="bottom", fontsize=9, color=BLACK)
    # rows of a mesh of several axes are named by their coordinates
    names = list(x.cluster.mesh)[:-1]
    for row, coordinate in enumerate(x.cluster.coordinates[::columns]):
        label = "\n".join(f"{name} {i}" for name, i in zip(names, coordinate))
        y = row * (height + 0.55) + height / 2
        ax.text(-0.12, y, label, ha="right", va="center", fontsize=8.5, color=BLACK)
    # after the loop, those of the last device
    ax.set(
        xlim=(-0.1, left + width + 0.1), ylim=(top + height + 0.1, -0.35), aspect="equal"
    )
    bare(ax).set_title(x.type if title is None else title, fontsize=11)
    ax.set_xlabel(_axis_words(x), fontsize=9.5)


def _look(x, coordinate, looks):
    """Return the colour of a device's part, from those given to parts so far."""
    kinds = zip(x.layout.values(), coordinate)
    part = tuple(i for kind, i in kinds if kind != REPLICATED)
    return looks.setdefault(part, PARTS[len(looks) % len(PARTS)]) if part else GREY


def _extent(x):
    rows, *columns = x.value().shape
    if not columns:
        return 0.35, 1.0
    ratio = float(np.clip(columns[0] / rows, 0.5, 2.0))
    return (ratio, 1.0) if ratio <= 1 else (1.0, 1 / ratio)


def _axis_words(x):
    columns = f"devices along {list(x.cluster.mesh)[-1]}" if x.cluster.mesh else "device"
    across = f", {x.axes[1]} across" if len(x.axes) > 1 else ""
    return f"{columns}\n{x.axes[0]} down{across}"


def _span(x, coordinate, axis, size):
    """Return (offset, length) of a device's piece along one axis of the drawing."""
    start, length = 0.0, size
    if axis < len(x.axes):
        for (name, n), i in zip(x.cluster.mesh.items(), coordinate):
            if x.layout[name] == x.axes[axis]:
                length /= n
                start += i * length
    return start, length


def ring_step(ax, trace: ring_collectives.Trace, step: int) -> None:
    """Draw what every device holds after a step, darker where more devices are summed.

    A chunk that has just arrived has an orange frame, and an arrow from its sender.
    """
    if not 0 <= step < len(trace.steps):
        raise ValueError(f"step {step} is not between 0 and {len(trace.steps) - 1}")
    now = trace.steps[step]
    items = [item for s in trace.steps for memory in s.held for item in memory.items()]
    chunks = sorted({chunk for chunk, _ in items})
    most = max(len(held.sources) for _, held in items)
    arrived = {(m.target, m.chunk): m.source for m in now.messages}
    for device, memory in enumerate(now.held):
        for column, chunk in enumerate(chunks):
            edge = dict(ec="white", lw=1.0, zorder=2)
            if (device, chunk) in arrived:
                edge = dict(ec=ORANGE, lw=3.0, zorder=3)
            face = PALE
            if held := memory.get(chunk):
                share = len(held.sources) / most
                face, ink = _shade(share), "white" if share > 0.45 else BLACK
                ax.text(
                    column,
                    device,
                    _sources(held),
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=ink,
                    zorder=4,
                )
            box(ax, column - 0.46, device - 0.38, 0.92, 0.76, fc=face, **edge)
    # round the ring's end from the picture's edge
    style = {"arrowstyle": "-|>", "color": ORANGE, "lw": 1.8}
    for (target, chunk), source in arrived.items():
        if abs(target - source) > 1:
            source = -0.72 if target == 0 else trace.n - 0.28
        x = chunks.index(chunk) + 0.48  # beside what the chunk sums
        ax.annotate(
            "", (x, target), (x, source), arrowprops=style, zorder=5, annotation_clip=False
        )
    _ring_labels(ax, trace, step, chunks)


def _ring_labels(ax, trace, step, chunks):
    names = [f"{c[0]}→{c[1]}" if isinstance(c, tuple) else c for c in chunks]
    ax.set(
        xlim=(-0.6, len(chunks) - 0.4),
        ylim=(trace.n - 0.45, -0.55),
        xlabel="chunk",
        ylabel="device",
        yticks=range(trace.n),
    )
    ax.set_xticks(range(len(chunks)), names, fontsize=9)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(
        f"{trace.name}, after step {step} of {len(trace.steps) - 1}", fontsize=11, pad=14
    )


def _shade(share):
    low, high = np.array([0.78, 0.87, 0.94]), np.array([0.0, 0.27, 0.43])
    return tuple(low + (high - low) * share)


def _sources(held):
    if len(held.sources) > 4:
        return f"{len(held.sources)} added"
    return "+".join(map(str, sorted(held.sources)))


def timeline(ax, schedule: Timeline) -> None:
    """Draw a pipeline's timeline: forwards blue, backwards orange, idle pale."""
    stages = range(schedule.n_stages)
    for kind, color, ink in (("forward", BLUE, "white"), ("backward", ORANGE, BLACK)):
        jobs = [job for job in schedule.jobs if job.kind == kind]
        bars = ax.barh(
            [job.stage for job in jobs],
            [job.end_s - job.start_s for job in jobs],
            left=[job.start_s for job in jobs],
            color=color,
            ec="white",
            zorder=2,
            label=kind,
        )
        numbers = [job.microbatch for job in jobs]
        ax.bar_label(bars, numbers, label_type="center", fontsize=9, color=ink, zorder=3)
    ax.barh(stages, schedule.end_s, color=PALE, zorder=1, label="idle")
    ax.set(xlim=(0, schedule.end_s), ylim=(schedule.n_stages - 0.5, -0.5), yticks=stages)
    idle = 100 * schedule.bubble_fraction
    ax.set_title(f"{schedule.name}: {idle:.0f}% idle", fontsize=11)
    finish(ax, "time, s", "stage", **BESIDE)
