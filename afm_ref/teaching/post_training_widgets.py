"""Chapter 7's controls: what the best of n samples is worth, and what an annotator with faults says of a pair."""

import numpy as np

from ..post_training.preferences import LEVELS, SOFT_LABELS, Annotator, level_probabilities, mean_label, seen_difference
from ..post_training.responses import expected_best, kl_of_best_of_n
from . import figures, widgets

NOISES = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]  # of the reward, in its own standard deviations
GAPS = np.linspace(-0.5, 0.5, 101)  # of utilities, which run from 0 to 1
WORDS = (7, 3)  # of the first response and the second: eight to four, when one is added to both
SIDES = (("first", figures.BLUE), ("second", figures.ORANGE))


def best_of_n(rewards, judged, n: int, noise: float = 0.0, seed: int = 0):
    """Return a figure: the utility of what the highest of n rewards picks, and that reward itself, against n.

    rewards, judged: [P, m], the reward and the true utility of m samples for each of P prompts. Curves are means over
    prompts of `responses.expected_best`. noise: the standard deviation of what is added to every reward, in standard
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
