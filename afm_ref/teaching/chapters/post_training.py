"""What chapter 10 draws, recorded or computed a moment ago."""

from collections.abc import Mapping

import numpy as np

from ...evaluation import Interval, mean_interval
from ...post_training.preferences import (
    LEVELS,
    SOFT_LABELS,
    Annotator,
    level_probabilities,
    mean_label,
    seen_difference,
)
from ...post_training.responses import expected_best, kl_of_best_of_n
from .. import widgets
from ..figures import (
    BESIDE,
    BLUE,
    DOTTED,
    GREEN,
    GREY,
    ORANGE,
    RED,
    beside,
    error_bars,
    finish,
    name_rows,
    styled,
    subplots,
)

NOISES = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]  # of the reward, in its own standard deviations
GAPS = np.linspace(-0.5, 0.5, 101)  # of utilities, which run from 0 to 1
# of the first response and the second: eight to four, when one is added to both
WORDS = (7, 3)
SIDES = (("first", BLUE), ("second", ORANGE))
GAINS = {  # what is taken of a run of the recording "judges": utilities on held-out prompts
    "the best of 4": lambda run: run["best_of"][3],
    "the best of 16": lambda run: run["best_of"][15],
    "a student of MDLOO": lambda run: run["student"]["utility"]["all"],
}
RIVALS = ("best teacher", "mixed", "more samples")  # of the committee's student


def by_judge(runs: Mapping) -> dict[str, list[Mapping]]:
    """Return {judge: runs of its seeds} of the recording "judges", the least accurate first."""
    found = {}
    for key, run in runs.items():
        if "student" in run:
            found.setdefault(key.rpartition("_")[0], []).append(run)
    return dict(sorted(found.items(), key=lambda item: accuracy_of(item[1])))


def accuracy_of(of_seeds) -> float:
    """Return the mean share of pairs that a judge orders rightly."""
    return float(np.mean([run["accuracy"] for run in of_seeds]))


def gain(of_seeds, what: str) -> np.ndarray:
    """Return by how much one of GAINS is above one sample of the start, of each seed."""
    return np.array([GAINS[what](run) - run["best_of"][0] for run in of_seeds])


def worth_of_judges(runs: Mapping):
    """Draw what a judge brings against its accuracy: GAINS in utility on held-out prompts.

    Points are means over seeds with 95% t-intervals; runs: those of the recording "judges".
    """
    judges = by_judge(runs)
    accuracy = np.array([accuracy_of(of) for of in judges.values()])
    fig, ax = subplots(figsize=(8.4, 4.2))
    gains = {
        what: (accuracy, [mean_interval(gain(of, what)) for of in judges.values()])
        for what in GAINS
    }
    beside(ax, gains, 0.003, ls=":", lw=1)
    ax.axhline(0, **DOTTED, zorder=0)
    finish(
        ax, "pairs that the judge orders rightly", "gain in true utility over one sample"
    )
    return fig


def grades_of_the_best(grades: Mapping):
    """Draw three grades of the best of n by reward against n, one panel a task.

    grades: {task: {grade: mean of the best of 1, 2, ...}}, the "picks" of "judges".
    """
    names = ("instruction_following", "truthfulness", "conciseness")
    fig, axes = subplots(1, len(grades), figsize=(9.4, 3.5), sharey=True)
    for ax, (task, of) in zip(axes, grades.items(), strict=True):
        for name, curve, style in styled({name: of[name] for name in names}):
            at = 1 + np.arange(len(curve))
            ax.plot(at, curve, label=name.replace("_", " "), ms=4, **style)
        ax.set(
            title=task, xlabel="n, samples a prompt", xscale="log", xticks=[1, 2, 4, 8, 16]
        )
        ax.set_xticklabels([1, 2, 4, 8, 16])
        ax.minorticks_off()
    axes[0].set_ylabel("mean grade of the best of n")
    axes[0].legend(fontsize=9, loc="lower left")
    return fig


def committee_leads(runs: Mapping, judge: str) -> dict[str, Interval]:
    """Return {arm: 95% t-interval over seeds of the committee's student less that arm's}.

    In true utility on held-out prompts, paired by seed, of the recording "committee" by one
    of its judges. Named beforehand: "best teacher" by the true utility.
    """
    of_seeds = [run["students"] for key, run in runs.items() if key.startswith(f"{judge}_")]
    of = {
        arm: np.array([students[arm]["utility"]["all"] for students in of_seeds])
        for arm in ("committee", *RIVALS)
    }
    return {arm: mean_interval(of["committee"] - of[arm]) for arm in RIVALS}


def committee_ahead(runs: Mapping, judges=("utility", "reward model")):
    """Draw `committee_leads`, one panel a judge, the comparison named beforehand in blue."""
    fig, axes = subplots(1, len(judges), figsize=(9.6, 2.9), sharey=True)
    for ax, judge in zip(axes, judges):
        for row, (arm, lead) in enumerate(committee_leads(runs, judge).items()):
            primary = (judge, arm) == ("utility", "best teacher")
            color = BLUE if primary else GREY
            error_bars(ax, [row], [lead], "o", across=True, color=color, lw=2)
        name_rows(ax, [f"less {arm}" for arm in RIVALS])
        ax.axvline(0, **DOTTED, zorder=0)
        ax.locator_params(axis="x", nbins=5)
        ax.set(title=f"judged by the {judge}", xlabel="committee's student ahead by")
    return fig


def _powers(m):
    """Return the powers of two up to m."""
    return [2**i for i in range(m.bit_length())]


def _mean_best(rewards, n, judged):
    return np.mean([expected_best(r, n, j) for r, j in zip(rewards, judged)])


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
