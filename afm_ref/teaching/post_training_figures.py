"""Chapter 7's figures. They take arrays and dicts, whether recorded or computed a moment ago, and return a figure."""

from collections.abc import Mapping

import numpy as np

from ..post_training.preferences import LEVELS, SOFT_LABELS
from ..post_training.responses import expected_best
from ..post_training.reward_model import Calibration, optimal_margin
from . import figures

MARKERS = ("o", "s", "^", "D", "v", "P")  # beside the colours: a curve is told apart without them


def win_rates(rates: Mapping[str, list], against: str = "the student before the first round"):
    """Return a figure: win rates by round with their intervals.

    rates: {name: [(rate, low, high) of each round]}; against: whom they are won from, for the axis.

    Source: none [ours].
    Test: tests/teaching/test_post_training_figures.py::test_win_rates_stand_at_their_rounds
    """
    if not rates or len({len(rows) for rows in rates.values()}) != 1:
        raise ValueError(f"expected equally many rounds for every name, got {[len(r) for r in rates.values()]}")
    fig, ax = figures.subplots(figsize=(7.6, 3.8))
    ax.axhline(0.5, color=figures.GREY, ls=":", lw=1.4)
    spread = np.linspace(-0.12, 0.12, len(rates)) if len(rates) > 1 else [0.0]
    for (name, rows), shift, color, marker in zip(rates.items(), spread, _colors(len(rates)), _markers(len(rates))):
        rate, low, high = np.array(rows, np.float64).T
        rounds = np.arange(1, len(rate) + 1) + shift
        ax.errorbar(rounds, rate, (rate - low, high - rate), fmt=f"{marker}-", color=color, capsize=3, label=name)
    ax.set(xticks=range(1, len(rate) + 1), xlabel="round", ylabel=f"win rate against\n{against}")
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def who_teaches(shares: Mapping[str, Mapping[str, float]]):
    """Return a figure: for each task a bar, cut into the shares of prompts that each member wins.

    shares: {task: {member: share}}, the shares of a task adding up to 1; `committee.shares` computes them. Raises
    ValueError for shares that do not.

    Source: none [ours].
    Test: tests/teaching/test_post_training_figures.py::test_shares_fill_their_bars
    """
    members = list(dict.fromkeys(name for row in shares.values() for name in row))
    table = np.array([[row.get(name, 0.0) for name in members] for row in shares.values()])  # [tasks, members]
    if not table.size or (table < 0).any() or not np.allclose(table.sum(axis=1), 1, atol=1e-3):
        raise ValueError(f"the shares of a task must add up to 1, got {table.sum(axis=-1).round(3).tolist()}")
    fig, ax = figures.subplots(figsize=(8.4, 0.9 + 0.5 * len(shares)))
    left = np.zeros(len(shares))
    for name, share, color in zip(members, table.T, _colors(len(members))):
        ax.barh(range(len(shares)), share, left=left, color=color, edgecolor="white", label=name)
        for y, (width, start) in enumerate(zip(share, left, strict=True)):
            if width >= 0.07:  # there is room for its number
                ax.text(start + width / 2, y, f"{100 * width:.0f}", ha="center", va="center", color=_ink(color))
        left += share
    ax.set(yticks=range(len(shares)), xlim=(0, 1), xlabel="share of prompts won (numbers: %)")
    ax.set_yticklabels(shares)
    ax.invert_yaxis()
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def reliability(found: Mapping[str, Calibration]):
    """Return a figure: what came true against what was predicted, a curve a reward model.

    The area of a dot grows with the pairs in its bin; the legend has the expected calibration error.

    Source: reliability diagram [standard].
    Test: tests/teaching/test_post_training_figures.py::test_reliability_shows_bins_and_error
    """
    if not found:
        raise ValueError("no calibration to draw: give at least one of `measures.calibration`")
    fig, ax = figures.subplots(figsize=(5.6, 4.6))
    ax.plot([0, 1], [0, 1], color=figures.GREY, ls=":", lw=1.4, label="calibrated")
    for (name, bins), color, marker in zip(found.items(), _colors(len(found)), _markers(len(found))):
        ax.plot(bins.predicted, bins.observed, color=color, lw=1.4)
        size = 15 + 150 * bins.count / bins.count.max()
        label = f"{name}: off by {bins.error:.3f}"
        ax.scatter(bins.predicted, bins.observed, size, color=color, marker=marker, label=label)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability of a preference", ylabel="its share in the long run")
    legend = ax.legend(fontsize=9, loc="upper left")
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([40])
    return fig


def reward_against_utility(rewards, judged, bins: int = 10, sizes=None):
    """Return a figure: reward and true utility of samples, in bins, and where the best of n by reward lies for each n.

    rewards, judged: [P, m] of m samples for each of P prompts. Bins hold equally many samples. sizes: the n, by default
    powers of two up to m. The path of the best of n ends below its highest point where the reward is over-optimised;
    a cross marks that point.

    Source: over-optimisation against n as Gao et al. 2022 draw it [standard]; on these axes [ours].
    Test: tests/teaching/test_post_training_figures.py::test_the_path_of_best_of_n
    """
    rewards, judged = np.asarray(rewards, np.float64), np.asarray(judged, np.float64)
    if rewards.ndim != 2 or rewards.shape != judged.shape or not rewards.size:
        raise ValueError(f"expected rewards and utilities [P, m] of one shape, got {rewards.shape} and {judged.shape}")
    sizes = [2**i for i in range(rewards.shape[1].bit_length())] if sizes is None else list(sizes)
    fig, ax = figures.subplots(figsize=(7.6, 4.2))
    means = [[part.mean() for part in parts] for parts in _bins(rewards, judged, bins)]
    ax.plot(*means, "s--", color=figures.GREY, ms=5, label="all samples, in bins")
    best = [[_mean_best(rewards, n, of) for n in sizes] for of in (rewards, judged)]
    ax.plot(*best, "o-", color=figures.BLUE, label="best of n by reward")
    peak = int(np.argmax(best[1]))
    label = f"highest utility, n = {sizes[peak]}"
    ax.plot([best[0][peak]], [best[1][peak]], "x", color=figures.RED, ms=12, mew=3, zorder=3, label=label)
    for n, x, y in zip(sizes, *best, strict=True):
        ax.annotate(str(n), (x, y), (0, 8), textcoords="offset points", fontsize=9, ha="center", color=figures.BLUE)
    ax.set(xlabel="reward", ylabel="true utility")
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def margins_by_level(found: Mapping[str, tuple], percent: float = 80):
    """Return a figure: the margins r_c - r_r that reward models reach, by level of preference, beside the optimal ones.

    found: {name: (margins [B], levels [B])}. Dots are medians, bars hold the middle `percent` of the pairs. A level
    without pairs has no dot. Lines: log(p / (1 - p)), where the loss of a pair by itself is least; a model that gives
    pairs one margin whose levels vary, as noise makes them, rests between them.

    Source: the minimum of the soft-label loss [standard].
    Test: tests/teaching/test_post_training_figures.py::test_margins_stand_beside_their_optimum
    """
    if not found:
        raise ValueError("no margins to draw: give (margins, levels) of at least one reward model")
    fig, ax = figures.subplots(figsize=(7.6, 3.9))
    optimal, places = optimal_margin(np.array(SOFT_LABELS)), np.arange(4)
    ax.hlines(optimal, places - 0.4, places + 0.4, color=figures.BLACK, lw=1.6, label="optimal margin")
    spread = np.linspace(-0.25, 0.25, len(found)) if len(found) > 1 else [0.0]
    for (name, (margins, levels)), shift, color, marker in zip(
        found.items(), spread, _colors(len(found)), _markers(len(found))
    ):
        margins, levels = np.asarray(margins), np.asarray(levels)
        full = [level for level in range(4) if (levels == level).any()]
        cuts = [50, 50 - percent / 2, 50 + percent / 2]
        middle, low, high = np.array([np.percentile(margins[levels == level], cuts) for level in full]).T
        x = np.array(full) + shift
        ax.errorbar(x, middle, (middle - low, high - middle), fmt=marker, color=color, capsize=3, label=name)
    ax.axhline(0, color=figures.GREY, ls=":", lw=1.4)
    ax.set(xticks=places, xlabel="level of preference and its label", ylabel="margin $r_c - r_r$")
    ax.set_xticklabels([f"{n.replace(' ', chr(10))}\n{p:.2f}" for n, p in zip(LEVELS, SOFT_LABELS, strict=True)])
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def _bins(rewards, judged, bins):
    """Return both measures of all samples in parts of equal count, by rising reward."""
    order = np.argsort(rewards, axis=None, kind="stable")
    return [np.array_split(of.ravel()[order], min(bins, of.size)) for of in (rewards, judged)]


def _mean_best(rewards, n, judged):
    return np.mean([expected_best(r, n, j) for r, j in zip(rewards, judged, strict=True)])


def _colors(count):
    if count > len(figures.CYCLE) + 2:
        raise ValueError(f"{count} curves cannot be told apart by colour: draw at most {len(figures.CYCLE) + 2}")
    return (*figures.CYCLE, figures.YELLOW, figures.GREY)[:count]


def _markers(count):
    return [MARKERS[i % len(MARKERS)] for i in range(count)]


def _ink(color):
    """Return black or white, whichever is easier to read on a colour."""
    from matplotlib.colors import to_rgb

    return "white" if np.dot(to_rgb(color), (0.3, 0.59, 0.11)) < 0.45 else figures.BLACK
