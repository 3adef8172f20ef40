"""Chapter 3's widgets: step through a ring, and choose a mesh."""

import numpy as np

from ..parallelism import rings
from . import figures, parallelism_drawing, widgets

COLLECTIVES = {
    "all-gather": lambda n: rings.all_gather([np.full(1, i) for i in range(n)]),
    "reduce-scatter": lambda n: rings.reduce_scatter([np.full(n, i) for i in range(n)]),
    "all-reduce": lambda n: rings.all_reduce([np.full(n, i) for i in range(n)]),
    "all-to-all": lambda n: rings.all_to_all([np.full(n, i) for i in range(n)]),
    "permute": lambda n: rings.permute([np.full(1, i) for i in range(n)]),
}


def ring_figure(name: str, n: int, step: int):
    """Return the figure of one step of a collective on a ring of n devices; steps after the last repeat it.

    Source: our own drawing [ours].
    Test: tests/teaching/test_parallelism_drawing.py::test_the_ring_stepper_draws_every_step
    """
    trace = COLLECTIVES[name](n)
    fig, ax = figures.subplots(figsize=(8.6 if name == "all-to-all" else 5.6, 3.4))
    parallelism_drawing.ring_step(ax, trace, min(step, len(trace.steps) - 1))
    return fig


def ring_stepper(alt: str, name: str = "all-reduce", n: int = 4, step: int = 2) -> None:
    """Display controls for the collective, the number of devices and the step, above the figure."""
    widgets.explore(
        ring_figure,
        alt,
        name=widgets.choice("collective", list(COLLECTIVES), name),
        n=widgets.slider("devices", 2, 6, n),
        step=widgets.slider("step", 0, 10, step),
    )


PARTS = (
    ("computes", figures.BLUE),
    ("waits for what is sent", figures.ORANGE),
    ("idles in the pipeline", figures.PINK),
)
SEQUENCE = 4096


def mesh_figure(data: int, fsdp: int, model: int, seq: int, pipe: int, batch: int):
    """Return the figure of a step of AFM-on-device on TPU v5p: where its time goes, and what lies on a chip.

    Raises ValueError, as `explore` shows it, for a mesh that does not fit model and batch.

    Source: our own drawing [ours].
    Test: tests/teaching/test_parallelism_drawing.py::test_the_mesh_figure_shows_the_estimate
    """
    from ..config import AFM_ON_DEVICE
    from ..parallelism import chooser, roofline
    from ..parallelism.mesh import MeshShape

    shape = MeshShape(data=data, fsdp=fsdp, pipe=pipe, seq=seq, model=model)
    estimate = roofline.step(chooser.plan_for(AFM_ON_DEVICE, shape, batch), batch, SEQUENCE, roofline.V5P)
    fig, (top, bottom) = figures.subplots(2, 1, figsize=(8.6, 4.2))
    seconds = (estimate.compute_s, estimate.exposed_s, estimate.step_s - estimate.compute_s - estimate.exposed_s)
    _stack(top, [(name, value, color) for (name, color), value in zip(PARTS, seconds, strict=True)], "s")
    used = f"{shape.size} chips, {estimate.mfu:.0%} of their peak FLOP/s used for the model"
    top.set_xlabel("one training step, s")
    top.set_title(f"{shape}\n{used}", loc="left", fontsize=11)
    held = zip(estimate.memory.items(), figures.CYCLE, strict=False)
    _stack(bottom, [(name, size / 2**30, color) for (name, size), color in held], "GiB")
    room = roofline.V5P.hbm_bytes / 2**30
    bottom.axvline(room, color=figures.BLACK, ls="--", lw=1.4)
    bottom.text(room, 0.52, f"a v5p chip has {room:.0f} GiB", ha="right", va="bottom", fontsize=9)
    largest = max(room, estimate.memory_bytes / 2**30)
    bottom.set(xlabel="memory of one chip at the worst moment, GiB", xlim=(0, 1.03 * largest))
    return fig


def _stack(ax, parts, unit):
    """Draw the parts one after the other in one bar; each is named with its size in the legend."""
    left = 0.0
    for name, size, color in parts:
        ax.barh(0, size, left=left, color=color, label=f"{name}, {size:.3g} {unit}")
        left += size
    ax.set(yticks=[], ylim=(-0.5, 0.75))
    ax.legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))


def mesh_explorer(alt: str) -> None:
    """Display controls for the mesh and the batch above the predicted step time and memory."""
    powers = [2**i for i in range(12)]
    widgets.explore(
        mesh_figure,
        alt,
        data=widgets.steps("data", powers, 64),
        fsdp=widgets.steps("fsdp", powers[:11], 8),
        model=widgets.steps("model", powers[:4], 4),
        seq=widgets.steps("seq", powers[:6], 1),
        pipe=widgets.steps("pipe", [1, 2, 13, 26], 1),
        batch=widgets.steps("sequences in a batch", [2**i for i in range(3, 14)], 2048),
    )
