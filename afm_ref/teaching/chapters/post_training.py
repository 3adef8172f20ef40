"""Chapter 7's figures. They take arrays and dicts, whether recorded or computed a moment ago, and return a figure."""

from collections.abc import Mapping

import numpy as np

from ...post_training.best_of_n import expected_best, kl_of_best_of_n
from ...post_training.measures import Calibration
from ...post_training.preferences import (
    LEVELS,
    SOFT_LABELS,
    Annotator,
    level_probabilities,
    mean_label,
    seen_difference,
)
from ...post_training.reward_model import optimal_margin
from .. import figures, widgets

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


NOISES = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]  # of the reward, in its own standard deviations
GAPS = np.linspace(-0.5, 0.5, 101)  # of utilities, which run from 0 to 1
WORDS = (7, 3)  # of the first response and the second: eight to four, when one is added to both
SIDES = (("first", figures.BLUE), ("second", figures.ORANGE))


def best_of_n(rewards, judged, n: int, noise: float = 0.0, seed: int = 0):
    """Return a figure: the utility of what the highest of n rewards picks, and that reward itself, against n.

    rewards, judged: [P, m], the reward and the true utility of m samples for each of P prompts. Curves are means over
    prompts of `best_of_n.expected_best`. noise: the standard deviation of what is added to every reward, in standard
    deviations of the rewards. Raises ValueError for arrays of another or unequal shape, and for n outside 1 .. m.

    Source: order statistics [standard]; the figure is ours [ours].
    Test: tests/teaching/test_post_training_widgets.py::test_best_of_n_draws_the_means_over_all_pairs
    """
    rewards, judged = np.asarray(rewards, np.float64), np.asarray(judged, np.float64)
    if rewards.ndim != 2 or rewards.shape != judged.shape or not rewards.size:
        raise ValueError(f"expected rewards and utilities [P, m] of one shape, got {rewards.shape} and {judged.shape}")
    m = rewards.shape[1]
    if not 1 <= n <= m:
        raise ValueError(f"n must lie in 1 .. {m}, the number of samples, got {n}")
    seen = rewards + noise * rewards.std() * np.random.default_rng(seed).standard_normal(rewards.shape)
    powers = [2**i for i in range(m.bit_length())]  # up to m
    sizes = sorted({*powers, n, m})
    fig, (left, right) = figures.subplots(1, 2, figsize=(9.4, 3.9))
    _curve(left, sizes, n, judged, judged, figures.GREEN, "s--", "picked by the utility itself")
    picked = _curve(left, sizes, n, seen, judged, figures.BLUE, "o-", "picked by the reward")
    left.axhline(judged.mean(), color=figures.GREY, ls=":", label="one sample")
    best = _curve(right, sizes, n, seen, seen, figures.BLUE, "o-", "the best reward")
    left.set(ylabel="true utility, mean over prompts", title=f"best of {n}: utility {picked:.3g}")
    left.legend(loc="best", fontsize=9)
    right.set(ylabel="best reward, noise included")
    right.set_title(f"reward {best:.3g}; at most {kl_of_best_of_n(n):.2f} nats from the policy")
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.set(xlabel="n, samples a prompt", xticks=powers)
        ax.set_xticklabels(powers)
        ax.minorticks_off()
    return fig


def _curve(ax, sizes, n, rewards, judged, color, style, label):
    """Draw the judged value of the best of each size, mark that of n, and return it."""
    means = {k: np.mean([expected_best(r, k, j) for r, j in zip(rewards, judged, strict=True)]) for k in sizes}
    ax.plot(sizes, list(means.values()), style, color=color, ms=5, label=label)
    ax.plot([n], [means[n]], "o", color=figures.RED, ms=10, zorder=3)
    return means[n]


def best_of_n_explorer(rewards, judged, alt: str, n: int = 4, noise: float = 0.0) -> None:
    """Display controls for n and for the noise added to the reward, above the figure of `best_of_n`."""
    m = np.shape(rewards)[1]

    def draw(n, noise):
        return best_of_n(rewards, judged, n, noise)

    widgets.explore(
        draw,
        alt,
        n=widgets.slider("n, samples a prompt", 1, m, min(n, m)),
        noise=widgets.steps("noise added, in deviations of the reward", NOISES, noise),
    )


def verdicts(noise: float, length_bias: float = 0.0, position_bias: float = 0.0, lapse: float = 0.0):
    """Return a figure: the probability of each verdict against the gap of utilities, and what is learnt from them.

    The response shown first is twice as long as the second (when a word is added to both). Left, the eight verdicts:
    a side and a level. Right, the probability that the first is preferred, which hard labels teach, and the mean soft
    label. Raises ValueError for a noise that is not above 0 and a lapse outside [0, 1].

    Source: as for `preferences.level_probabilities`; the figure is ours [ours].
    Test: tests/teaching/test_post_training_widgets.py::test_verdicts_are_the_closed_forms
    """
    if not noise > 0 or not 0 <= lapse <= 1:
        raise ValueError(f"noise must be above 0 and lapse in [0, 1], got {noise} and {lapse}")
    annotator = Annotator(noise, length_bias, position_bias, lapse)
    seen = [seen_difference(annotator, gap, *WORDS) for gap in GAPS]
    odds = np.stack([level_probabilities(d, noise, lapse) for d in seen])  # [gaps, 2, 4]
    fig, (left, right) = figures.subplots(1, 2, figsize=(9.6, 4.1), width_ratios=[1.25, 1])
    _bands(left, odds)
    first = odds[:, 0].sum(axis=1)
    right.plot(GAPS, first, color=figures.BLUE, label="first is preferred")
    right.plot(GAPS, [mean_label(o) for o in odds], "--", color=figures.RED, label="mean soft label")
    right.axhline(0.5, color=figures.GREY, lw=1)
    right.axvline(0, color=figures.GREY, lw=1)
    right.set(xlabel="U(first) - U(second)", ylabel="probability", ylim=(0, 1), xlim=(GAPS[0], GAPS[-1]))
    right.legend(loc="lower right", fontsize=9)
    right.set_title(
        f"agrees with the utility on {100 * _agreement(GAPS, first):.0f}%\nof pairs, if all gaps are as frequent"
    )
    return fig


def _agreement(gaps, first) -> float:
    """Return how often the better response is preferred: the mean over pairs whose gap of utilities is not 0."""
    gaps, first = np.asarray(gaps), np.asarray(first)
    return float(np.where(gaps > 0, first, 1 - first)[gaps != 0].mean())


def _bands(ax, odds):
    """Draw the verdicts on top of each other, from 'first, significantly' at the bottom to 'second, significantly'."""
    from matplotlib.colors import to_rgb

    floor = np.zeros(len(odds))
    for side, (name, color) in enumerate(SIDES):
        for level in range(4) if side == 0 else reversed(range(4)):
            shade = 1 - (1 - np.array(to_rgb(color))) * (1 - 0.24 * level)  # paler where the preference is weaker
            text = f"{name} {LEVELS[level].removesuffix(' better')}, {SOFT_LABELS[level]:.2f}"
            top = floor + odds[:, side, level]
            ax.fill_between(GAPS, floor, top, color=shade, label=text, lw=0)
            floor = top
    ax.set(xlabel="U(first) - U(second)", ylabel="probability of a verdict", ylim=(0, 1), xlim=(GAPS[0], GAPS[-1]))
    ax.set_title("verdicts and their labels; the first is twice as long")
    handles, texts = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], texts[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)


def annotator_explorer(alt: str, annotator: Annotator | None = None) -> None:
    """Display controls for an annotator's faults, at first those given, above the figure of `verdicts`."""
    start = annotator or Annotator()

    def values(some, own):
        return sorted({*some, own})

    widgets.explore(
        verdicts,
        alt,
        noise=widgets.steps("noise", values((0.02, 0.05, 0.1, 0.2, 0.4), start.noise), start.noise),
        length_bias=widgets.steps(
            "length bias", values((-0.1, 0.0, 0.02, 0.05, 0.1, 0.2), start.length_bias), start.length_bias
        ),
        position_bias=widgets.steps(
            "position bias", values((0.0, 0.01, 0.02, 0.05, 0.1, 0.2), start.position_bias), start.position_bias
        ),
        lapse=widgets.steps("lapses", values((0.0, 0.02, 0.05, 0.1, 0.2, 0.4), start.lapse), start.lapse),
    )
