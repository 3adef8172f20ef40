"""Chapter 2's control for pruning: the soft top-k of ten scores, for eps and k."""

import numpy as np

from ..pretraining.pruning.top_k import coordinate_descent, soft_top_k, solve
from . import figures, widgets

SCORES = np.array([2.0, 1.6, 1.5, 1.1, 0.9, 0.6, 0.5, 0.1, -0.3, -1.0])


def soft_weights(eps: float, k: int):
    """Return a figure: left, scores with the level -a above which a channel is clipped; right, the weights.

    The title names how many are clipped, and what sum twenty steps of coordinate descent would reach.

    Source: as for `top_k.soft_top_k`; the figure is ours [ours].
    Test: tests/teaching/test_pruning_figures.py::test_the_widget_draws_the_solution
    """
    clipped, a = solve(SCORES, k, eps)
    weights, truncated = soft_top_k(SCORES, k, eps), coordinate_descent(SCORES, k, eps)
    channels = np.arange(1, len(SCORES) + 1)
    colors = [figures.ORANGE if c else figures.BLUE for c in clipped]
    fig, (left, right) = figures.subplots(1, 2, figsize=(9.6, 3.4))
    left.bar(channels, SCORES, color=colors)
    left.axhline(-a, color=figures.BLACK, ls="--", lw=1.4, label="-a")
    left.set(xlabel="channel", ylabel="score s", xticks=channels, ylim=(-1.6, 3.2))
    left.set_title(f"{clipped.sum()} clipped (orange), a = {a:.2f}", fontsize=11)
    left.legend(fontsize=9)
    right.bar(channels, weights, color=colors)
    right.set(xlabel="channel", ylabel="mask $\\lambda$", xticks=channels, ylim=(0, 1.08))
    right.set_title(f"sum {weights.sum():.2f}; truncated iteration {truncated.sum():.2f}", fontsize=11)
    return fig


def soft_top_k_explorer(alt: str, eps: float = 0.3, k: int = 4) -> None:
    """Display controls for eps and k above the figure of `soft_weights`."""
    widgets.explore(
        soft_weights,
        alt,
        eps=widgets.steps("eps", [0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0], eps),
        k=widgets.slider("k", 1, len(SCORES), k),
    )
