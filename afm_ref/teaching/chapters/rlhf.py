"""What chapter 11 draws, from lists and dicts, whether recorded or computed a moment ago.

A run is {"samples": [...], "utility": [...], "proxy": [...], "kl": [...],
"held_out_utility": [...]}, entries of equal number: after so many responses drawn, the mean
true utility, the mean proxy reward and the KL to the reference in nats on the prompts that
are learnt from, and the true utility on others. `whole_road.online_rl.curve` makes one.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...rlhf import bandit
from ...rlhf.mdloo import clipped, mdloo
from .. import widgets
from ..figures import (
    BLACK,
    BLUE,
    DOTTED,
    GREEN,
    GREY,
    ORANGE,
    RED,
    finish,
    legend_beside,
    mean_line,
    styled,
    subplots,
)

MEASURES = {
    "utility": "true utility",
    "proxy": "proxy reward",
    "kl": "KL to the reference, nats",
    "held_out_utility": "held-out utility",
}
ALGORITHMS = ("reinforce", "rloo", "ppo", "grpo", "dpo", "mdloo")  # in the order of colours
DRAWN = "samples (responses drawn)"

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


def recorded_curves(runs: Mapping, judge: str) -> dict[str, list]:
    """Return {algorithm: [run of each seed]} of the recorded runs of one judge.

    runs: those of the recording "rlhf", by "<judge>_<algorithm>_<seed>".
    """
    return {
        name: of_seeds
        for name in ALGORITHMS
        if (of_seeds := [runs[k] for k in sorted(runs) if k.startswith(f"{judge}_{name}_")])
    }


def against_samples(curves: Mapping, own: str | None = None):
    """Draw four panels: what is gained since the start in MEASURES, against samples.

    curves: {algorithm: [run of each seed]}, seeds at the same samples. Each run is drawn
    less its first value: seeds start at different values. Lines are means over seeds, bands
    their 95% t-intervals. own: the one that is drawn black and dashed.
    """
    fig, axes = subplots(2, 2, figsize=(9.6, 5.6), sharex=True)
    for name, runs, style in styled(curves):
        table = _table(name, runs)  # [seeds, (samples, *MEASURES), T]
        samples, gains = table[0, 0], table[:, 1:] - table[:, 1:, :1]
        style |= dict(markevery=_every(samples), label=name)
        if name == own:
            style |= dict(color=BLACK, ls="--", mfc="white")
        for i, ax in enumerate(axes.flat):
            mean_line(ax, samples, gains[:, i], **style)
    for ax, label in zip(axes.flat, MEASURES.values()):
        ax.set(ylabel=f"{label},\ngained")
    for ax in axes[1]:
        ax.set(xlabel=DRAWN)
    legend_beside(axes[0, 1])
    return fig


def _every(points):
    """Return markevery for some ten markers: more would run together."""
    return -(-len(points) // 10)


def utility_against_kl(groups: Mapping):
    """Draw what a nat of KL to the reference buys, in proxy reward and in true utility.

    groups: {label: [run of each seed]}; points are means over seeds, joined in the order of
    the runs.

    Source: over-optimisation against KL as Gao et al. 2022 draw it [standard].
    Test: tests/teaching/chapters/test_post_training.py::test_utility_and_proxy_share_their_kl
    """
    fig, (above, below) = subplots(2, 1, figsize=(7.6, 5.4), sharex=True)
    for name, runs, style in styled(groups):
        _, utility, proxy, kl, _ = _table(name, runs).mean(axis=0)
        line = dict(ms=5, lw=1.6, markevery=_every(kl), label=name, **style)
        above.plot(kl, proxy, ls=":", mfc="white", **line)
        below.plot(kl, utility, **line)
    above.set(ylabel=MEASURES["proxy"])
    below.set(ylabel=MEASURES["utility"], xlabel=MEASURES["kl"])
    legend_beside(above)
    return fig


def _table(name, runs):
    """Return one name's runs as [seeds, (samples, *MEASURES), T], or raise ValueError."""
    columns = ("samples", *MEASURES)
    try:
        table = np.array([[run[column] for column in columns] for run in runs], np.float64)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{name}: every run needs the lists {list(columns)}, of one length: {error}"
        ) from error
    if table.ndim != 3 or not table.size or (table[:, 0] != table[0, 0]).any():
        raise ValueError(
            f"{name}: expected at least one run, and every run at the same samples"
        )
    return table


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
        finish(ax, "$\\rho = \\pi(y|x)\\, /\\, \\pi_k(y|x)$", "objective, units of reward")
    return fig


def course_of_run(evaluations: Sequence):
    """Draw one run: reward and measured utility against samples; the two KLs beside them.

    evaluations: `history.evaluations` of `rlhf.run`; those without samples are left out.
    """
    fig, (left, right) = subplots(1, 2, figsize=(9.6, 3.5))
    lines = (
        (left, "reward", "reward", ORANGE, "s--"),
        (left, "utility", "true utility", BLUE, "o-"),
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
        elif name != "utility":
            raise ValueError(
                f"no evaluation has samples and {name}: give history.evaluations of rlhf.run"
            )
    finish(left, DRAWN, "mean of the iteration's responses")
    finish(right, DRAWN, "KL, nats")
    return fig


def mirror_descent(beta: float, gamma: float, K: int = 4):
    """Draw exact MDLOO on its way to the fixed point, and its gradient's variance by K.

    Four arms with probabilities REFERENCE and rewards REWARDS. Left, the distance to the
    fixed point pi_ref exp(r/beta) by iteration, beside |1 - beta/gamma|^k. Middle, the
    policies. Right, the variance of the gradient at the reference against K, by baseline.
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
    _variances(axes[2], K)
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


def _variances(ax, K):
    def variance(k, baseline="leave one out"):
        # at the reference itself the penalty is 0, whatever beta is: R = r
        return bandit.gradient_variance(REFERENCE, REWARDS, k, baseline)

    for name, (color, style) in BASELINES.items():
        values = [variance(k, name) for k in GROUP_SIZES]
        ax.plot(GROUP_SIZES, values, style, color=color, ms=5, label=name)
    ax.plot([K], [variance(K)], "o", color=RED, ms=10, zorder=3)
    ax.set(xscale="log", yscale="log", title=f"K = {K}, leave one out: {variance(K):.3g}")
    ax.set_xticks(GROUP_SIZES, GROUP_SIZES)
    ax.set_yticks((0.01, 0.02, 0.05), ("0.01", "0.02", "0.05"))
    ax.minorticks_off()
    finish(ax, "K, responses a prompt", "variance of the gradient", title="baseline")


def mirror_descent_explorer(alt: str) -> None:
    """Display controls for beta, gamma and K above the figure of `mirror_descent`."""
    widgets.explore(
        mirror_descent,
        alt,
        beta=widgets.stops("beta", [0.05, 0.1, 0.2, 0.4, 0.8], 0.2),
        gamma=widgets.stops("gamma", [0.05, 0.1, 0.2, 0.4, 0.8, 1.6], 0.4),
        K=widgets.stops("K", GROUP_SIZES, 4),
    )
