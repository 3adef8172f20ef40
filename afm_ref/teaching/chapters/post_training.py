"""What chapter 10 draws, recorded or computed a moment ago."""

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
from ...post_training.reward_model import optimal_margin
from .. import widgets
from ..figures import (
    BESIDE,
    BLACK,
    BLUE,
    DOTTED,
    GREEN,
    GREY,
    ORANGE,
    RED,
    beside,
    finish,
    legend_beside,
    styled,
    subplots,
)

NOISES = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]  # of the reward, in its own standard deviations
GAPS = np.linspace(-0.5, 0.5, 101)  # of utilities, which run from 0 to 1
# of the first response and the second: eight to four, when one is added to both
WORDS = (7, 3)
SIDES = (("first", BLUE), ("second", ORANGE))


def win_rates(rates: Mapping):
    """Draw win rates by round; rates: {name: [(rate, low, high) of each round]}."""
    fig, ax = subplots(figsize=(7.6, 3.8))
    ax.axhline(0.5, **DOTTED)
    rounds = np.arange(1, max(map(len, rates.values())) + 1)
    beside(ax, {name: (rounds[: len(rows)], rows) for name, rows in rates.items()}, 0.12)
    ax.set(xticks=rounds)
    finish(ax, "round", "win rate against\nthe student before the first round", **BESIDE)
    return fig


def who_teaches(shares: Mapping):
    """Draw for each task a bar, cut into the shares of prompts that each member wins.

    shares: {task: {member: share}}, as `committee.shares` computes them: those of a task
    add up to 1.
    """
    members = dict.fromkeys(name for row in shares.values() for name in row)
    won = {
        name: np.array([row.get(name, 0.0) for row in shares.values()]) for name in members
    }
    total = sum(won.values())
    assert np.allclose(total, 1, atol=1e-3), "the shares of a task must add up to 1"
    fig, ax = subplots(figsize=(8.4, 0.9 + 0.5 * len(shares)))
    left = np.zeros(len(shares))
    for name, share, style in styled(won):
        color = style["color"]
        bars = ax.barh(list(shares), share, left=left, color=color, ec="white", label=name)
        # a bar of less than 7% has no room for its number
        numbers = [f"{100 * width:.0f}" if width >= 0.07 else "" for width in share]
        ax.bar_label(bars, numbers, label_type="center", color=_ink(color))
        left += share
    ax.set(xlim=(0, 1), xlabel="share of prompts won (numbers: %)")
    ax.invert_yaxis()
    legend_beside(ax)
    return fig


def reliability(found: Mapping):
    """Draw what came true against what was predicted, a curve a reward model.

    found: {name: `reward_model.Calibration`}. The area of a dot grows with the pairs in its
    bin; the legend has the expected calibration error.
    """
    fig, ax = subplots(figsize=(5.6, 4.6))
    ax.plot([0, 1], [0, 1], label="calibrated", **DOTTED)
    for name, bins, style in styled(found):
        points = bins.predicted, bins.observed
        ax.plot(*points, color=style["color"], lw=1.4)
        size = 15 + 150 * bins.count / bins.count.max()
        ax.scatter(*points, size, label=f"{name}: off by {bins.error:.3f}", **style)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    finish(ax, "predicted probability of a preference", "its share in the long run")
    for handle in ax.get_legend().legend_handles[1:]:
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
    both = rewards, judged = np.asarray([rewards, judged], np.float64)
    sizes = _powers(rewards.shape[1])
    fig, ax = subplots(figsize=(7.6, 4.2))
    order = np.argsort(rewards, axis=None, kind="stable")
    parts = [np.array_split(of.ravel()[order], min(bins, of.size)) for of in both]
    means = [[*map(np.mean, of)] for of in parts]
    ax.plot(*means, "s--", color=GREY, ms=5, label="all samples, in bins")
    best = np.array([[_mean_best(rewards, n, of) for n in sizes] for of in both])
    ax.plot(*best, "o-", color=BLUE, label="best of n by reward")
    peak = int(np.argmax(best[1]))
    ax.plot(
        *best[:, peak],
        "x",
        color=RED,
        ms=12,
        mew=3,
        zorder=3,
        label=f"highest utility, n = {sizes[peak]}",
    )
    for n, at in zip(sizes, best.T):
        ax.annotate(
            n, at, (0, 8), textcoords="offset points", fontsize=9, ha="center", color=BLUE
        )
    finish(ax, "reward", "true utility", **BESIDE)
    return fig


def margins_by_level(found: Mapping):
    """Draw the margins r_c - r_r of reward models by level, beside the optimal ones.

    found: {name: (margins [B], levels [B])}. Dots are medians, bars hold the middle 80% of
    the pairs. Lines: log(p / (1 - p)), where the loss of a pair by itself is least; a model
    that gives pairs one margin whose levels vary, as noise makes them, rests between them.
    """
    fig, ax = subplots(figsize=(7.6, 3.9))
    optimal, places = optimal_margin(np.array(SOFT_LABELS)), np.arange(4)
    ax.hlines(
        optimal, places - 0.4, places + 0.4, color=BLACK, lw=1.6, label="optimal margin"
    )
    spreads = {}
    for name, (margins, levels) in found.items():
        full, of = np.unique(levels), np.asarray(margins)
        middle = [np.percentile(of[levels == level], [50, 10, 90]) for level in full]
        spreads[name] = full, middle
    beside(ax, spreads, 0.25, ls="")
    ax.axhline(0, **DOTTED)
    names = [name.replace(" ", "\n") for name in LEVELS]
    ax.set_xticks(places, [f"{n}\n{p:.2f}" for n, p in zip(names, SOFT_LABELS)])
    finish(ax, "level of preference and its label", "margin $r_c - r_r$", **BESIDE)
    return fig


def _powers(m):
    """Return the powers of two up to m."""
    return [2**i for i in range(m.bit_length())]


def _mean_best(rewards, n, judged):
    return np.mean([expected_best(r, n, j) for r, j in zip(rewards, judged)])


def _ink(color):
    """Return black or white, whichever is easier to read on a colour."""
    from matplotlib.colors import to_rgb

    return "white" if np.dot(to_rgb(color), (0.3, 0.59, 0.11)) < 0.45 else BLACK


def worth_of_best_of_n(rewards, judged, n: int, noise: float = 0.0):
    """Draw the utility of what the highest of n rewards picks, and that reward, against n.

    rewards, judged: [P, m], reward and true utility of m samples for each of P prompts.
    Curves are means over prompts of `responses.expected_best`. noise: of what is added to
    every reward, in standard deviations of the rewards.
    """
    rewards, judged = np.asarray([rewards, judged], np.float64)
    added = np.random.default_rng(0).normal(0, noise * rewards.std(), rewards.shape)
    seen, powers = rewards + added, _powers(rewards.shape[1])
    sizes = sorted({*powers, n, rewards.shape[1]})

    def curve(ax, by, of, color, style, label):
        """Draw the mean of the best by one score, of another; mark and return that of n."""
        means = {k: _mean_best(by, k, of) for k in sizes}
        ax.plot(sizes, list(means.values()), style, color=color, ms=5, label=label)
        ax.plot([n], [means[n]], "o", color=RED, ms=10, zorder=3)
        return means[n]

    fig, (left, right) = subplots(1, 2, figsize=(9.4, 3.9))
    curve(left, judged, judged, GREEN, "s--", "picked by the utility itself")
    picked = curve(left, seen, judged, BLUE, "o-", "picked by the reward")
    left.axhline(judged.mean(), color=GREY, ls=":", label="one sample")
    best = curve(right, seen, seen, BLUE, "o-", "the best reward")
    left.set_title(f"best of {n}: utility {picked:.3g}")
    right.set_title(
        f"reward {best:.3g}; at most {kl_of_best_of_n(n):.2f} nats from the policy"
    )
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set_xticks(powers, powers)
        ax.minorticks_off()
    finish(left, "n, samples a prompt", "true utility, mean over prompts")
    right.set(xlabel="n, samples a prompt", ylabel="best reward, noise included")
    return fig


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
    fig, (left, right) = subplots(1, 2, figsize=(9.6, 4.1), width_ratios=[1.25, 1])
    _bands(left, odds)
    first = odds[:, 0].sum(axis=1)
    right.plot(GAPS, first, color=BLUE, label="first is preferred")
    right.plot(GAPS, [*map(mean_label, odds)], "--", color=RED, label="mean soft label")
    right.axhline(0.5, color=GREY, lw=1)
    right.axvline(0, color=GREY, lw=1)
    finish(right, "U(first) - U(second)", "probability", loc="lower right")
    for ax in (left, right):
        ax.set(xlim=(GAPS[0], GAPS[-1]), ylim=(0, 1))
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
            label = LEVELS[level].removesuffix(" better")
            label = f"{name} {label}, {SOFT_LABELS[level]:.2f}"
            top = floor + odds[:, side, level]
            ax.fill_between(GAPS, floor, top, color=shade, label=label, lw=0)
            floor = top
    ax.set_title("verdicts and their labels; the first is twice as long")
    finish(
        ax,
        "U(first) - U(second)",
        "probability of a verdict",
        reverse=True,
        fontsize=8,
        **BESIDE,
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
