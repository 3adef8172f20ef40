"""What chapter 11 draws, and the paired differences of its two recordings.

Both have {key: run}. "bandit": key as `of_bandit`, a run has gains, one of each seed. "mdloo":
"<algorithm>_<seed>", a run has the utility at its end by task, and of each iteration the mean
reward, and `kl_reference`; "start" is the policy before.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation import Interval, mean_interval
from ...rlhf import bandit
from ...rlhf.mdloo import clipped, mdloo
from .. import widgets
from ..figures import (
    BLUE,
    DOTTED,
    GREEN,
    GREY,
    ORANGE,
    RED,
    beside,
    error_bars,
    finish,
    mean_line,
    name_rows,
    styled,
    subplots,
)

DRAWN = "samples (responses drawn)"
NAMES = {
    "mdloo": "MDLOO",
    "ppo": "PPO",
    "rloo": "RLOO",
    "grpo": "GRPO",
    "reinforce": "REINFORCE",
}
OTHERS = tuple(NAMES)[1:]
# of "bandit", whose settings were chosen at 4 inner steps
NOISES, INNER_STEPS = (0.0, 0.3, 1.0), (4, 8, 16, 32)
CONFIDENCE = 1 - 0.05 / 4  # of its intervals: four were named beforehand, together 95%

# The bandit of the control, and its settings.
REFERENCE = np.log([0.4, 0.3, 0.2, 0.1])
REWARDS = np.array([0.0, 0.3, 0.6, 1.0])
ITERATIONS = 10
GROUP_SIZES = (2, 3, 4, 6, 8, 12, 16)
BASELINES = {
    "none": (GREY, "^:"),
    "true mean": (GREEN, "s--"),
    "leave one out": (BLUE, "o-"),
}


def paired(runs: Mapping, one: str, other: str) -> Interval:
    """Return the interval over seeds of one cell's gains less another's, of "bandit"."""
    return mean_interval(np.subtract(runs[one]["gains"], runs[other]["gains"]), CONFIDENCE)


def of_bandit(
    baseline="leave one out", step="none", inner=1, noise=0.3, same=0.0, shared=False
) -> str:
    """Return a cell's key in the recording "bandit".

    same: the share of prompts whose responses differ by noise alone. shared: at the
    settings that were chosen at 4 inner steps, not at this cell's own.
    """
    key = f"{baseline}, {step} x {inner}, noise {noise:g}, same {same:g}"
    return f"shared: {key}" if shared else key


def primary(runs: Mapping) -> dict[str, Interval]:
    """Return the four comparisons of "bandit" that were named beforehand, at CONFIDENCE."""
    late = dict(inner=32, noise=1.0, shared=True)
    mirror = of_bandit(step="mirror", **late)
    pairs = {
        "leave one out less none": (of_bandit(), of_bandit("none")),
        "leave one out less divided by std": (
            of_bandit(same=0.75),
            of_bandit("divided by std", same=0.75),
        ),
        "mirror less clip": (mirror, of_bandit(step="clip", **late)),
        "mirror less none": (mirror, of_bandit(step="none", **late)),
    }
    return {name: paired(runs, *keys) for name, keys in pairs.items()}


def three_ideas(runs: Mapping):
    """Draw what each idea of MDLOO adds to the gain, as paired differences: "bandit".

    Left, a leave-one-out baseline less none; middle, less advantages divided by the
    standard deviation, both against the judge's noise; right, the mirror step less a clip
    and less nothing, against inner steps, at noise 1 and settings chosen at 4 steps.
    """
    fig, axes = subplots(1, 3, figsize=(10.4, 3.7))
    worlds = {"all responses differ": 0.0, "those of 1 prompt in 4": 0.75}
    for ax, other in zip(axes, ("none", "divided by std")):
        keys = {
            name: [
                [of_bandit(baseline, noise=noise, same=same) for baseline in ("leave one out", other)]
                for noise in NOISES
            ]
            for name, same in worlds.items()
        }  # fmt: skip
        _differences(ax, runs, keys, NOISES)
        ax.set_title(f"leave one out less {other}")
        finish(ax, "noise of the judge", "difference of the gain")
    keys = {
        f"less {name}": [
            [of_bandit(step=one, inner=n, noise=1.0, shared=True) for one in ("mirror", step)]
            for n in INNER_STEPS
        ]
        for name, step in (("a clip", "clip"), ("nothing", "none"))
    }  # fmt: skip
    _differences(axes[2], runs, keys, INNER_STEPS)
    axes[2].set_title("mirror step")
    finish(axes[2], "inner steps on the same responses", "difference of the gain")
    return fig


def _differences(ax, runs, keys, stops):
    at = np.arange(len(stops))
    beside(
        ax,
        {name: (at, [paired(runs, *pair) for pair in of]) for name, of in keys.items()},
        0.07,
    )
    ax.axhline(0, **DOTTED, zorder=0)
    ax.set_xticks(at, [f"{x:g}" for x in stops])
    ax.set_ylim(top=1.3 * ax.get_ylim()[1])  # room for the legend


def ends(runs: Mapping, name: str) -> np.ndarray:
    """Return the utility on held-out prompts at the end, of each seed: "mdloo"."""
    return np.array([run["utility"]["all"] for run in _of(runs, name)])


def soon(runs: Mapping, name: str) -> np.ndarray:
    """Return the mean reward of iterations 2 to 4, on prompts new to each, by seed."""
    return np.array([np.mean(run["reward"][1:4]) for run in _of(runs, name)])


def leads(runs: Mapping, measure=ends) -> dict[str, Interval]:
    """Return {algorithm: interval over seeds of MDLOO's measure less the algorithm's}.

    PPO was named beforehand, twice (`ends` and `soon`): 97.5% each. The others are six at
    once: 99.17% each.
    """
    ours = measure(runs, "mdloo")
    return {
        name: mean_interval(ours - measure(runs, name), 0.975 if name == "ppo" else 1 - 0.05 / 6)
        for name in OTHERS
    }  # fmt: skip


def algorithm_leads(runs: Mapping):
    """Draw MDLOO less each other algorithm, at the end and soon: points with intervals."""
    fig, axes = subplots(1, 2, figsize=(9.6, 3.2), sharey=True)
    for ax, measure, title in zip(
        axes, (ends, soon), ("at the end, held-out utility", "soon, reward of iterations 2 to 4")
    ):  # fmt: skip
        found = leads(runs, measure)
        for row, (name, interval) in enumerate(found.items()):
            color = BLUE if name == "ppo" else GREY
            error_bars(ax, [row], [interval], "o", across=True, color=color, lw=2)
        name_rows(ax, [NAMES[name] for name in found])
        ax.axvline(0, **DOTTED, zorder=0)
        ax.set(title=title, xlabel="MDLOO ahead by")
    return fig


def rewards_by_iteration(runs: Mapping, names: Sequence[str]):
    """Draw the mean reward of each iteration's samples, of 256 responses: mean and 95%
    band over seeds. Prompts are new to the policy in every iteration.
    """
    fig, ax = subplots(figsize=(7.6, 3.5))
    for name, table, style in styled(
        {
            NAMES[name]: np.array([run["reward"] for run in _of(runs, name)])
            for name in names
        }
    ):
        mean_line(ax, 1 + np.arange(table.shape[1]), table, label=name, **style)
    finish(ax, "iteration", "reward of its responses")
    return fig


def _of(runs, name):
    found = [run for key, run in sorted(runs.items()) if key.rpartition("_")[0] == name]
    if not found:
        raise ValueError(
            f"no run of {name} in the recording, which has {sorted(runs)[:8]} .."
        )
    return found


def surrogates(gamma: float, epsilon: float):
    """Draw what a response adds to three objectives against rho, for an advantage of +-1.

        rho A,   PPO's clip,   MDLOO: rho A - gamma (rho log rho - rho + 1), highest at rho = exp(A / gamma)

    Raises ValueError unless gamma and epsilon are above 0.
    """
    for name, value in (("gamma", gamma), ("epsilon", epsilon)):
        if not value > 0:
            raise ValueError(
                f"{name} must be above 0, got {value}: at 0 nothing limits the step, or all steps"
            )
    rho = np.linspace(0.01, 3, 300)
    fig, axes = subplots(1, 2, figsize=(9.6, 3.7), sharex=True)
    for ax, sign in zip(axes, (1.0, -1.0)):
        A = np.full_like(rho, sign)
        clip = clipped(np.log(rho), A, epsilon)
        ours = mdloo(np.log(rho), np.zeros_like(rho), A, gamma)
        ax.axvline(1, **DOTTED)
        ax.plot(rho, rho * A, "--", color=GREY, label="$\\rho A$")
        ax.plot(rho, clip, "-.", color=ORANGE, label=f"PPO, $\\epsilon$ = {epsilon:g}")
        ax.plot(rho, ours, "-", color=BLUE, label=f"MDLOO, $\\gamma$ = {gamma:g}")
        best = np.exp(sign / gamma)
        if rho[0] <= best <= rho[-1]:
            ax.plot(
                best,
                gamma * (best - 1),
                "o",
                color=BLUE,
                ms=8,
                mfc="white",
                mew=2,
                label="maximum, $\\rho = e^{A / \\gamma}$",
            )
        ax.set_title(f"A = {sign:+g}")
        finish(
            ax, "$\\rho = \\pi(y|x)\\, /\\, \\pi_{old}(y|x)$", "objective, units of reward"
        )
    return fig


def course_of_run(evaluations: Sequence):
    """Draw one run: reward and, where measured, utility against samples; the two KLs beside.

    evaluations: `history.evaluations` of `rlhf.run`; those without samples are left out.
    """
    fig, (left, right) = subplots(1, 2, figsize=(9.6, 3.5))
    lines = (
        (left, "reward", "reward", ORANGE, "s--"),
        (left, "utility", "true utility", BLUE, "o-"),
        (left, "held_out_utility", "the same, held out", GREEN, "^:"),
        (right, "kl_reference", "to the reference", BLUE, "o-"),
        (right, "kl_previous", "to the previous iterate", GREEN, "^--"),
    )
    for ax, name, label, color, style in lines:
        rows = [
            (row["samples"], row[name])
            for row in evaluations
            if {"samples", name} <= row.keys()
        ]
        if rows:
            ax.plot(*zip(*rows), style, color=color, ms=5, label=label)
        elif "utility" not in name:
            raise ValueError(
                f"no evaluation has samples and {name}: give history.evaluations of rlhf.run"
            )
    finish(left, DRAWN, "mean of the iteration's responses")
    finish(right, DRAWN, "KL, nats")
    return fig


def mirror_descent(beta: float, gamma: float, n: int = 4):
    """Draw exact MDLOO on its way to the fixed point, and its gradient's variance by n.

    Four arms with probabilities REFERENCE and rewards REWARDS. Left, the distance to the
    fixed point pi_ref exp(r/beta) by iteration, beside |1 - beta/gamma|^k. Middle, the
    policies. Right, the variance of the gradient at the reference against n, by baseline.
    """
    goal = bandit.fixed_point(REFERENCE, REWARDS, beta)
    policies = bandit.iterates(REFERENCE, REFERENCE, REWARDS, beta, gamma, ITERATIONS)
    shown = {
        "reference": (REFERENCE, GREY),
        "after 1 step": (policies[1], ORANGE),
        f"after {ITERATIONS}": (policies[-1], BLUE),
        "fixed point": (goal, GREEN),
    }
    fig, axes = subplots(1, 3, figsize=(11.4, 3.7), width_ratios=[1.1, 1.1, 1])
    _distances(axes[0], bandit.distance(policies, goal), 1 - beta / gamma)
    _policies(axes[1], shown)
    _variances(axes[2], n)
    return fig


def _distances(ax, found, factor):
    k = np.arange(len(found))
    least = max(found[0], 1e-9) * 1e-6  # an iterate that has arrived has no logarithm
    power = np.maximum(found[0] * abs(factor) ** k, least)
    ax.plot(k, np.maximum(found, least), "o-", color=BLUE, label="exact iteration")
    ax.plot(k, power, "--", color=ORANGE, label="factor to the power k")
    ax.set(yscale="log", xticks=k[::2])
    ax.set_title(f"factor 1 - beta/gamma = {factor:.2f}: {_course(factor)}")
    finish(ax, "iteration k", "distance to the fixed point, nats")


def _course(factor):
    if abs(factor) < 1e-12:
        return "there at once"
    if abs(factor) >= 1:
        return "swings for ever" if abs(factor) < 1 + 1e-12 else "diverges"
    return "evenly" if factor > 0 else "swinging"


def _policies(ax, policies):
    places, width = np.arange(len(REWARDS)), 0.8 / len(policies)
    for i, (name, (policy, color)) in enumerate(policies.items()):
        at = places + (i - 1.5) * width
        ax.bar(at, np.exp(policy), width, color=color, label=name)
    ax.set_ylim(0, 1)
    ax.set_xticks(places, [f"{r:g}" for r in REWARDS])
    finish(ax, "arm, by its reward", "probability")


def _variances(ax, n):
    def variance(k, baseline="leave one out"):
        # at the reference itself the penalty is 0, whatever beta is: R = r
        return bandit.gradient_variance(REFERENCE, REWARDS, k, baseline)

    for name, (color, style) in BASELINES.items():
        values = [variance(k, name) for k in GROUP_SIZES]
        ax.plot(GROUP_SIZES, values, style, color=color, ms=5, label=name)
    ax.plot([n], [variance(n)], "o", color=RED, ms=10, zorder=3)
    ax.set(xscale="log", yscale="log", title=f"n = {n}, leave one out: {variance(n):.3g}")
    ax.set_xticks(GROUP_SIZES, GROUP_SIZES)
    ax.set_yticks((0.01, 0.02, 0.05), ("0.01", "0.02", "0.05"))
    ax.minorticks_off()
    finish(ax, "n, responses a prompt", "variance of the gradient", title="baseline")


def mirror_descent_explorer(alt: str) -> None:
    """Display controls for beta, gamma and n above the figure of `mirror_descent`."""
    widgets.explore(
        mirror_descent,
        alt,
        beta=widgets.stops("beta", [0.05, 0.1, 0.2, 0.4, 0.8], 0.2),
        gamma=widgets.stops("gamma", [0.05, 0.1, 0.2, 0.4, 0.8, 1.6], 0.4),
        n=widgets.stops("n", GROUP_SIZES, 4),
    )
