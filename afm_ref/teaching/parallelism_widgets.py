"""Chapter 3's widgets: step through a ring, and choose a mesh."""

import numpy as np

from ..parallelism import drawing, rings
from . import figures, widgets

COLLECTIVES = {
    "all-gather": lambda n: rings.all_gather([np.full(1, i) for i in range(n)]),
    "reduce-scatter": lambda n: rings.reduce_scatter([np.full(n, i) for i in range(n)]),
    "all-reduce": lambda n: rings.all_reduce([np.full(n, i) for i in range(n)]),
    "all-to-all": lambda n: rings.all_to_all([np.full(n, i) for i in range(n)]),
    "permute": lambda n: rings.permute([np.full(1, i) for i in range(n)]),
}


def ring_figure(name: str, n: int, step: int):
    """Return the figure of one step of a collective on a ring of n devices; steps after the last repeat it.

    Test: tests/parallelism/test_drawing.py::test_the_ring_stepper_draws_every_step
    """
    trace = COLLECTIVES[name](n)
    fig, ax = figures.subplots(figsize=(8.6 if name == "all-to-all" else 5.6, 3.4))
    drawing.ring_step(ax, trace, min(step, len(trace.steps) - 1))
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
