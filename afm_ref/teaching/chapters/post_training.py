"""What chapter 7 draws, recorded or computed a moment ago."""

from collections.abc import Mapping

import numpy as np

from ...post_training.preferences import (
    LEVELS,
    SOFT_LABELS,
    Annotator,
    level_probabilities,
    mean_label,
    seen_difference,
)
from ...post_training.responses import expected_best, kl_of_best_of_n
from ...post_training.reward_model import Calibration, optimal_margin
from .. import figures, widgets

NOISES = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]  # of the reward, in its own standard deviations
GAPS = np.linspace(-0.5, 0.5, 101)  # of utilities, which run from 0 to 1
# of the first response and the second: eight to four, when one is added to both
WORDS = (7, 3)
SIDES = (("first", figures.BLUE), ("second", figures.ORANGE))


def win_rates(rates: Mapping[str, list]):
    """Draw win rates by round; rates: {name: [(rate, low, high) of each round]}."""
    fig, ax = figures.subplots(figsize=(7.6, 3.8))
    ax.axhline(0.5, color=figures.GREY, ls=":", lw=1.4)
    rounds = np.arange(1, max(map(len, rates.values())) + 1)
    figures.beside(
        ax, {name: (rounds[: len(rows)], rows) for name, rows in rates.items()}, 0.12
    )
    ax.set(
        xticks=rounds,
        xlabel="round",
        ylabel="win rate against\nthe student before the first round",
    )
    figures.legend_beside(ax)
    return fig


def who_teaches(shares: Mapping[str, Mapping[str, float]]):
    """Draw for each task a bar, cut into the shares of prompts that each member wins.

    shares: {task: {member: share}}, as `committee.shares` computes them: those of a task
    add up to 1.
    """
    members = list(dict.fromkeys(name for row in shares.values() for name in row))
    # [tasks, members]
    table = np.array([[row.get(name, 0.0) for name in members] for row in shares.values()])
    assert np.allclose(table.sum(axis=1), 1, atol=1e-3), (
        "the shares of a task must add up to 1"
    )
    fig, ax = figures.subplots(figsize=(8.4, 0.9 + 0.5 * len(shares)))
    left = np.zeros(len(shares))
    for name, share, (color, _) in zip(
        members, table.T, figures.styles(members), strict=True
    ):
        bars = ax.barh(list(shares), share, left=left, color=color, ec="white", label=name)
        # a bar of less than 7% has no room for its number
        numbers = [f"{100 * width:.0f}" if width >= 0.07 else "" for width in share]
        ax.bar_label(bars, numbers, label_type="center", color=_ink(color))
        left += share
    ax.set(xlim=(0, 1), xlabel="share of prompts won (numbers: %)")
    ax.invert_yaxis()
    figures.legend_beside(ax)
    return fig


def reliability(found: Mapping[str, Calibration]):
    """Draw what came true against what was predicted, a curve a reward model.

    The area of a dot grows with the pairs in its bin; the legend has the expected
    calibration error.
    """
    fig, ax = figures.subplots(figsize=(5.6, 4.6))
    ax.plot([0, 1], [0, 1], color=figures.GREY, ls=":", lw=1.4, label="calibrated")
    for (name, bins), (color, marker) in zip(
        found.items(), figures.styles(found), strict=True
    ):
        ax.plot(bins.predicted, bins.observed, color=color, lw=1.4)
        size = 15 + 150 * bins.count / bins.count.max()
        label = f"{name}: off by {bins.error:.3f}"
        ax.scatter(
            bins.predicted, bins.observed, size, color=color, marker=marker, label=label
        )
    ax.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="predicted probability of a preference",
        ylabel="its share in the long run",
    )
    legend = ax.legend(fontsize=9, loc="upper left")
    for handle in legend.legend_handles[1:]:
        handle.set_sizes([40])
    return fig


def reward_against_utility(rewards, judged, bins: int = 10):
    """Draw true utility against reward, of samples in bins and of the best of n.

    rewards, judged: [P, m] of m samples for each of P prompts. Bins hold equally many
    samples. The path of the best of n = 1, 2, 4, ... ends below its highest point, which a
    cross marks, where the reward is over-optimised.

    Source: over-optimisation against n as Gao et al. 2022 draw it [standard]; on these axes
        [ours].
    Test: tests/teaching/chapters/test_post_training.py::test_the_path_of_best_of_n
    """
    rewards, judged = np.asarray(rewards, np.float64), np.asarray(judged, np.float64)
    sizes = _powers(rewards.shape[1])
    fig, ax = figures.subplots(figsize=(7.6, 4.2))
    order = np.argsort(rewards, axis=None, kind="stable")
    parts = [
        np.array_split(of.ravel()[order], min(bins, of.size)) for of in (rewards, judged)
    ]
    means = [[part.mean() for part in of] for of in parts]
    ax.plot(*means, "s--", color=figures.GREY, ms=5, label="all samples, in bins")
    best = np.array(
        [[_mean_best(rewards, n, of) for n in sizes] for of in (rewards, judged)]
    )
    ax.plot(*best, "o-", color=figures.BLUE, label="best of n by reward")
    peak = int(np.argmax(best[1]))
    label = f"highest utility, n = {sizes[peak]}"
    cross = dict(color=figures.RED, ms=12, mew=3, zorder=3)
    ax.plot(*best[:, peak], "x", label=label, **cross)
    text = dict(fontsize=9, ha="center", color=figures.BLUE)
    for n, at in zip(sizes, best.T, strict=True):
        ax.annotate(str(n), at, (0, 8), textcoords="offset points", **text)
    ax.set(xlabel="reward", ylabel="true utility")
    figures.legend_beside(ax)
    return fig


def margins_by_level(found: Mapping[str, tuple]):
    """Draw the margins r_c - r_r of reward models by level, beside the optimal ones.

    found: {name: (margins [B], levels [B])}. Dots are medians, bars hold the middle 80% of
    the pairs. Lines: log(p / (1 - p)), where the loss of a pair by itself is least; a model
    that gives pairs one margin whose levels vary, as noise makes them, rests between them.
    """
    fig, ax = figures.subplots(figsize=(7.6, 3.9))
    optimal, places = optimal_margin(np.array(SOFT_LABELS)), np.arange(4)
    ax.hlines(
        optimal,
        places - 0.4,
        places + 0.4,
        color=figures.BLACK,
        lw=1.6,
        label="optimal margin",
    )
    spreads = {}
    for name, (margins, levels) in found.items():
        full, of = np.unique(levels), np.asarray(margins)
        middle = [np.percentile(of[levels == level], [50, 10, 90]) for level in full]
        spreads[name] = full, middle
    figures.beside(ax, spreads, 0.25, line="")
    ax.axhline(0, color=figures.GREY, ls=":", lw=1.4)
    ax.set(xlabel="level of preference and its label", ylabel="margin $r_c - r_r$")
    names = [name.replace(" ", "\n") for name in LEVELS]
    ax.set_xticks(places, [f"{n}\n{p:.2f}" for n, p in zip(names, SOFT_LABELS)])
    figures.legend_beside(ax)
    return fig


def _powers(m):
    """Return the powers of two up to m."""
    return [2**i for i in range(m.bit_length())]


def _mean_best(rewards, n, judged):
    return np.mean([expected_best(r, n, j) for r, j in zip(rewards, judged, strict=True)])


def _ink(color):
    """Return black or white, whichever is easier to read on a colour."""
    from matplotlib.colors import to_rgb

    return "white" if np.dot(to_rgb(color), (0.3, 0.59, 0.11)) < 0.45 else figures.BLACK


def worth_of_best_of_n(rewards, judged, n: int, noise: float = 0.0, seed: int = 0):
    """Draw the utility of what the highest of n rewards picks, and that reward, against n.

    rewards, judged: [P, m], reward and true utility of m samples for each of P prompts.
    Curves are means over prompts of `responses.expected_best`. noise: of what is added to
    every reward, in standard deviations of the rewards.
    """
    rewards, judged = np.asarray(rewards, np.float64), np.asarray(judged, np.float64)
    m = rewards.shape[1]
    seen = rewards + np.random.default_rng(seed).normal(
        0, noise * rewards.std(), rewards.shape
    )
    sizes = sorted({*_powers(m), n, m})
    fig, (left, right) = figures.subplots(1, 2, figsize=(9.4, 3.9))
    _curve(
        left, sizes, n, judged, judged, figures.GREEN, "s--", "picked by the utility itself"
    )
    picked = _curve(
        left, sizes, n, seen, judged, figures.BLUE, "o-", "picked by the reward"
    )
    left.axhline(judged.mean(), color=figures.GREY, ls=":", label="one sample")
    best = _curve(right, sizes, n, seen, seen, figures.BLUE, "o-", "the best reward")
    left.set(
        ylabel="true utility, mean over prompts", title=f"best of {n}: utility {picked:.3g}"
    )
    left.legend(loc="best", fontsize=9)
    right.set(ylabel="best reward, noise included")
    right.set_title(
        f"reward {best:.3g}; at most {kl_of_best_of_n(n):.2f} nats from the policy"
    )
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set(xlabel="n, samples a prompt")
        ax.set_xticks(_powers(m), _powers(m))
        ax.minorticks_off()
    return fig


def _curve(ax, sizes, n, rewards, judged, color, style, label):
    """Draw the judged value of the best of each size, mark that of n, and return it."""
    means = {k: _mean_best(rewards, k, judged) for k in sizes}
    ax.plot(sizes, list(means.values()), style, color=color, ms=5, label=label)
    ax.plot([n], [means[n]], "o", color=figures.RED, ms=10, zorder=3)
    return means[n]


def best_of_n_explorer(rewards, judged, alt: str) -> None:
    """Display controls for n and the reward's noise above `worth_of_best_of_n`."""
    m = np.shape(rewards)[1]
    widgets.explore(
        lambda n, noise: worth_of_best_of_n(rewards, judged, n, noise),
        alt,
        n=widgets.slider("n, samples a prompt", 1, m, min(4, m)),
        noise=widgets.stops("noise added, in deviations of the reward", NOISES, 0.0),
    )


def verdicts(
    noise: float, length_bias: float = 0.0, position_bias: float = 0.0, lapse: float = 0.0
):
    """Draw the probability of each verdict against the gap of utilities; what they teach.

    The response shown first is twice as long as the second (when a word is added to both).
    Left, the eight verdicts: a side and a level. Right, the probability that the first is
    preferred, which hard labels teach, and the mean soft label. Raises ValueError for a
    noise that is not above 0 and a lapse outside [0, 1].
    """
    if not noise > 0 or not 0 <= lapse <= 1:
        raise ValueError(
            f"noise must be above 0 and lapse in [0, 1], got {noise} and {lapse}"
        )
    annotator = Annotator(noise, length_bias, position_bias, lapse)
    seen = [seen_difference(annotator, gap, *WORDS) for gap in GAPS]
    odds = np.stack([level_probabilities(d, noise, lapse) for d in seen])  # [gaps, 2, 4]
    fig, (left, right) = figures.subplots(1, 2, figsize=(9.6, 4.1), width_ratios=[1.25, 1])
    _bands(left, odds)
    first = odds[:, 0].sum(axis=1)
    right.plot(GAPS, first, color=figures.BLUE, label="first is preferred")
    right.plot(
        GAPS,
        [mean_label(o) for o in odds],
        "--",
        color=figures.RED,
        label="mean soft label",
    )
    right.axhline(0.5, color=figures.GREY, lw=1)
    right.axvline(0, color=figures.GREY, lw=1)
    right.set(
        xlabel="U(first) - U(second)",
        ylabel="probability",
        ylim=(0, 1),
        xlim=(GAPS[0], GAPS[-1]),
    )
    right.legend(loc="lower right", fontsize=9)
    # the better one is preferred
    agreement = np.where(GAPS > 0, first, 1 - first)[GAPS != 0].mean()
    right.set_title(
        f"agrees with the utility on {100 * agreement:.0f}%\nof pairs, if all gaps are as frequent"
    )
    return fig


def _bands(ax, odds):
    """Draw the verdicts from 'first, significantly' (bottom) to 'second, significantly'."""
    from matplotlib.colors import to_rgb

    floor = np.zeros(len(odds))
    for side, (name, color) in enumerate(SIDES):
        for level in range(4) if side == 0 else reversed(range(4)):
            # paler where the preference is weaker
            shade = 1 - (1 - np.array(to_rgb(color))) * (1 - 0.24 * level)
            text = (
                f"{name} {LEVELS[level].removesuffix(' better')}, {SOFT_LABELS[level]:.2f}"
            )
            top = floor + odds[:, side, level]
            ax.fill_between(GAPS, floor, top, color=shade, label=text, lw=0)
            floor = top
    ax.set(
        xlabel="U(first) - U(second)",
        ylabel="probability of a verdict",
        ylim=(0, 1),
        xlim=(GAPS[0], GAPS[-1]),
    )
    ax.set_title("verdicts and their labels; the first is twice as long")
    handles, texts = ax.get_legend_handles_labels()
    ax.legend(
        handles[::-1], texts[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8
    )


def annotator_explorer(alt: str, start: Annotator) -> None:
    """Display controls for an annotator's faults above the figure of `verdicts`."""
    values = {
        "noise": (0.02, 0.05, 0.1, 0.2, 0.4),
        "length_bias": (-0.1, 0.0, 0.02, 0.05, 0.1, 0.2),
        "position_bias": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
        "lapse": (0.0, 0.02, 0.05, 0.1, 0.2, 0.4),
    }
    controls = {}
    for name, some in values.items():
        own = getattr(start, name)
        controls[name] = widgets.stops(name.replace("_", " "), sorted({*some, own}), own)
    widgets.explore(verdicts, alt, **controls)
