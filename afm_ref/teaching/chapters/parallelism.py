"""What chapter 6 draws: a ring to step through, and a mesh to choose."""

import numpy as np

from ...config import AFM_ON_DEVICE
from ...parallelism.mesh import MeshShape
from ...parallelism.predicted import chooser, roofline
from ...parallelism.simulator import ring_collectives
from .. import figures, widgets
from . import parallelism_drawing

COLLECTIVES = "all-gather", "reduce-scatter", "all-reduce", "all-to-all", "permute"
WHOLE = "all-gather", "permute"  # those that send a device's array in one chunk


def ring_figure(name: str, n: int, step: int):
    """Draw one step of a collective on a ring of n devices, or the last one."""
    collective = getattr(ring_collectives, name.replace("-", "_"))
    trace = collective([np.full(1 if name in WHOLE else n, i) for i in range(n)])
    fig, ax = figures.subplots(figsize=(8.6 if name == "all-to-all" else 5.6, 3.4))
    parallelism_drawing.ring_step(ax, trace, min(step, len(trace.steps) - 1))
    return fig


def ring_stepper(alt: str) -> None:
    """Display controls for collective, devices and step above the figure."""
    widgets.explore(
        ring_figure,
        alt,
        name=widgets.choice("collective", list(COLLECTIVES), "all-reduce"),
        n=widgets.slider("devices", 2, 6, 4),
        step=widgets.slider("step", 0, 10, 2),
    )


SEQUENCE = 4096


def mesh_figure(data: int, fsdp: int, model: int, seq: int, pipe: int, batch: int):
    """Draw where a step of AFM-on-device on TPU v5p spends its time, and a chip's memory.

    Raises ValueError, as `explore` shows it, for a mesh that does not fit model and batch.
    """
    shape = MeshShape(data, fsdp, pipe, seq, model)
    plan = chooser.plan_for(AFM_ON_DEVICE, shape, batch)
    estimate = roofline.step(plan, batch, SEQUENCE, roofline.V5P)
    fig, (top, bottom) = figures.subplots(2, 1, figsize=(8.6, 4.2))
    seconds = {
        "computes": estimate.compute_s,
        "waits for what is sent": estimate.exposed_s,
        "idles in the pipeline": estimate.idle_s,
    }
    _one_bar(top, seconds, "s")
    top.set_xlabel("one training step, s")
    top.set_title(
        f"{shape}\n{shape.size} chips, {estimate.mfu:.0%} of their peak FLOP/s used for the model",
        loc="left",
    )
    memory = {name: size / 2**30 for name, size in estimate.memory.items()}
    held, room = _one_bar(bottom, memory, "GiB"), roofline.V5P.hbm_bytes / 2**30
    bottom.axvline(room, color=figures.BLACK, ls="--", lw=1.4)
    bottom.text(
        room, 0.52, f"a v5p chip has {room:.0f} GiB", ha="right", va="bottom", fontsize=9
    )
    bottom.set(
        xlabel="memory of one chip at the worst moment, GiB",
        xlim=(0, 1.03 * max(room, held)),
    )
    return fig


def _one_bar(ax, parts, unit):
    """Draw the parts as one bar, each named with its size; return its length."""
    length = figures.stack(
        ax, {f"{name}, {size:.3g} {unit}": size for name, size in parts.items()}
    )
    ax.set(yticks=[], ylim=(-0.5, 0.75))
    figures.legend_beside(ax, fontsize=8.5)
    return length


def mesh_explorer(alt: str) -> None:
    """Display controls for mesh and batch above the predicted step time and memory."""
    powers = [2**i for i in range(14)]
    widgets.explore(
        mesh_figure,
        alt,
        data=widgets.stops("data", powers[:12], 64),
        fsdp=widgets.stops("fsdp", powers[:11], 8),
        model=widgets.stops("model", powers[:4], 4),
        seq=widgets.stops("seq", powers[:6], 1),
        pipe=widgets.stops("pipe", [1, 2, 13, 26], 1),
        batch=widgets.stops("sequences in a batch", powers[3:], 2048),
    )
