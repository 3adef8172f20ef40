"""Pictures of the simulator's objects: who holds what, steps of a ring, timelines.

Every function draws on the matplotlib axes that it is given.
"""

import numpy as np

from ...parallelism.simulator import ring_collectives
from ...parallelism.simulator.cluster import PARTIAL, Tensor
from ...parallelism.simulator.pipeline_schedules import Timeline
from ..figures import BLACK, BLUE, CYCLE, GREY, ORANGE, PALE, YELLOW, bare

COLORS = (*CYCLE, YELLOW, GREY)


def tensor(ax, x: Tensor, title: str | None = None) -> None:
    """Draw the whole array for every device, and the part that it holds in its colour.

    Columns follow the last axis of the mesh. Summands are hatched. Vectors are columns.
    """
    from matplotlib.patches import Rectangle

    columns = [1, *x.cluster.mesh.values()][-1]
    width, height = _extent(x)
    for device, coordinate in enumerate(x.cluster.coordinates):
        left, top = (
            (device % columns) * (width + 0.35),
            (device // columns) * (height + 0.55),
        )
        ax.add_patch(Rectangle((left, top), width, height, fc=PALE, ec="#AEB6C0", lw=1.0))
        (row, down), (column, across) = (
            _span(x, coordinate, axis, size) for axis, size in ((0, height), (1, width))
        )
        hatch = "////" if PARTIAL in x.layout.values() else None
        style = dict(fc=COLORS[device % len(COLORS)], ec="white", hatch=hatch)
        ax.add_patch(Rectangle((left + column, top + row), across, down, **style))
        number = dict(ha="center", va="bottom", fontsize=9, color=BLACK)
        ax.text(left + width / 2, top - 0.07, device, **number)
    rows = -(-len(x.cluster.coordinates) // columns)
    _row_labels(ax, x, columns, height)
    ax.set(
        xlim=(-0.1, columns * (width + 0.35) - 0.25),
        ylim=(rows * (height + 0.55) - 0.45, -0.35),
        aspect="equal",
    )
    bare(ax).set_title(x.type if title is None else title, fontsize=11)
    ax.set_xlabel(_axis_words(x), fontsize=9.5)


def _row_labels(ax, x, columns, height):
    """Name the rows of a mesh of several axes by their coordinates."""
    names = list(x.cluster.mesh)[:-1]
    for row in range(len(x.cluster.coordinates) // columns if names else 0):
        coordinate = x.cluster.coordinates[row * columns]
        label = "\n".join(f"{name} {i}" for name, i in zip(names, coordinate))
        style = dict(ha="right", va="center", fontsize=8.5, color=BLACK)
        ax.text(-0.12, row * (height + 0.55) + height / 2, label, **style)


def _extent(x):
    rows, *columns = x.value().shape
    if not columns:
        return 0.35, 1.0
    ratio = float(np.clip(columns[0] / rows, 0.5, 2.0))
    return (ratio, 1.0) if ratio <= 1 else (1.0, 1 / ratio)


def _axis_words(x):
    columns = f"devices along {list(x.cluster.mesh)[-1]}" if x.cluster.mesh else "device"
    across = f", {x.axes[1]} across" if len(x.axes) > 1 else ""
    return f"{columns}; {x.axes[0]} down{across}"


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
    from matplotlib.patches import Rectangle

    if not 0 <= step < len(trace.steps):
        raise ValueError(f"step {step} is not between 0 and {len(trace.steps) - 1}")
    now = trace.steps[step]
    chunks = sorted({chunk for s in trace.steps for memory in s.held for chunk in memory})
    most = max(
        len(held.sources)
        for s in trace.steps
        for memory in s.held
        for held in memory.values()
    )
    arrived = {(m.target, m.chunk): m.source for m in now.messages}
    for device, memory in enumerate(now.held):
        for column, chunk in enumerate(chunks):
            held = memory.get(chunk)
            share = len(held.sources) / most if held else 0.0
            edge = (
                dict(ec=ORANGE, lw=3.0, zorder=3)
                if (device, chunk) in arrived
                else dict(ec="white", lw=1.0, zorder=2)
            )
            corner, face = (column - 0.46, device - 0.38), _shade(share) if held else PALE
            ax.add_patch(Rectangle(corner, 0.92, 0.76, fc=face, **edge))
            if held:
                ink = "white" if share > 0.45 else BLACK
                style = dict(ha="center", va="center", fontsize=10, color=ink, zorder=4)
                ax.text(column, device, _sources(held), **style)
    _arrows(ax, arrived, chunks, trace.n)
    _ring_labels(ax, trace, step, chunks)


def _arrows(ax, arrived, chunks, n):
    """Draw where chunks came from; round the ring's end from the picture's edge."""
    style = {"arrowstyle": "-|>", "color": ORANGE, "lw": 1.8}
    for (target, chunk), source in arrived.items():
        start = (
            source if abs(target - source) == 1 else (-0.72 if target == 0 else n - 0.28)
        )
        x = chunks.index(chunk) + 0.42
        ax.annotate(
            "", (x, target), (x, start), arrowprops=style, zorder=5, annotation_clip=False
        )


def _ring_labels(ax, trace, step, chunks):
    names = [f"{c[0]}→{c[1]}" if isinstance(c, tuple) else f"{c}" for c in chunks]
    ax.set(
        xlim=(-0.6, len(chunks) - 0.4),
        ylim=(trace.n - 0.45, -0.55),
        xlabel="chunk",
        ylabel="device",
    )
    ax.set(xticks=range(len(chunks)), yticks=range(trace.n))
    ax.set_xticklabels(names, fontsize=9)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(
        f"{trace.name}, after step {step} of {len(trace.steps) - 1}", fontsize=11, pad=14
    )


def _shade(share):
    low, high = np.array([0.78, 0.87, 0.94]), np.array([0.0, 0.27, 0.43])
    return tuple(low + (high - low) * share)


def _sources(held):
    return (
        "+".join(str(s) for s in sorted(held.sources))
        if len(held.sources) < 5
        else f"{len(held.sources)} added"
    )


def timeline(ax, schedule: Timeline) -> None:
    """Draw a pipeline's timeline: forwards blue, backwards orange, idle pale."""
    from matplotlib.patches import Patch

    for stage in range(schedule.n_stages):
        ax.barh(stage, schedule.end_s, height=0.8, color=PALE, zorder=1)
    for job in schedule.jobs:
        color, ink = (BLUE, "white") if job.kind == "forward" else (ORANGE, BLACK)
        place = dict(width=job.end_s - job.start_s, left=job.start_s, height=0.8, zorder=2)
        bar = ax.barh(job.stage, color=color, ec="white", **place)
        text = dict(label_type="center", fontsize=9, color=ink, zorder=3)
        ax.bar_label(bar, [job.microbatch], **text)
    ax.set(xlim=(0, schedule.end_s), ylim=(schedule.n_stages - 0.5, -0.5))
    ax.set(yticks=range(schedule.n_stages), xlabel="time, s", ylabel="stage")
    ax.set_title(
        f"{schedule.name}: {100 * schedule.bubble_fraction:.0f}% idle", fontsize=11
    )
    labels = {"forward": BLUE, "backward": ORANGE, "idle": PALE}
    handles = [Patch(color=color, label=label) for label, color in labels.items()]
    ax.legend(
        handles=handles,
        ncols=3,
        fontsize=9,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.22),
    )
