"""Chapter 8's figures. They take lists and dicts, whether recorded or computed a moment ago, and return a figure.

A run is {"samples": [...], "utility": [...], "proxy": [...], "kl": [...], "held_out_utility": [...]}, entries of equal
number: after so many responses drawn, the mean true utility, the mean proxy reward and the KL to the reference in nats
on the prompts that are learnt from, and the true utility on others. `pipeline.online.curve` makes one.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ...evaluation import mean_interval
from ...rlhf import bandit
from ...rlhf.baselines import clipped
from ...rlhf.mdloo import mdloo
from .. import figures, widgets
from .post_training import MARKERS

MEASURES = {
    "utility": "true utility",
    "proxy": "proxy reward",
    "kl": "KL to the reference, nats",
    "held_out_utility": "held-out utility",
}
ALGORITHMS = ("reinforce", "rloo", "ppo", "grpo", "dpo", "mdloo")  # in the order of colours
SAMPLES = "samples (responses drawn)"


def against_samples(curves: Mapping[str, Sequence[Mapping]], extra: Mapping[str, Mapping] | None = None):
    """Return a figure of four panels: what is gained since the start in the measures of a run, against samples.

    True utility, proxy reward, KL to the reference and held-out utility, each less its own first value: seeds start at
    different values, and what is compared is what an algorithm adds. curves: {algorithm: [run of each seed]}. Lines are
    means over seeds, bands their 95% t-intervals; a single seed has no band. extra: {name: run}, each drawn as a
    dashed black line, at samples of its own. Raises ValueError for a run without one of the five lists or with lists of
    unequal length, seeds at different samples, and more algorithms than can be told apart.

    Source: none [ours].
    Test: tests/teaching/test_rlhf_figures.py::test_lines_are_means_and_bands_t_intervals
    """
    if not curves and not extra:
        raise ValueError("nothing to draw: neither curves nor a run of one's own was given")
    styles, tables = _styles(curves), {name: _table(name, runs) for name, runs in curves.items()}
    own = {name: _table(name, [run])[0] for name, run in (extra or {}).items()}
    tables, own = ({name: _gained(table) for name, table in some.items()} for some in (tables, own))
    fig, axes = figures.subplots(2, 2, figsize=(9.6, 5.6), sharex=True)
    for i, (ax, label) in enumerate(zip(axes.flat, MEASURES.values(), strict=True), start=1):
        for (name, table), (color, marker) in zip(tables.items(), styles, strict=True):
            samples, values = table[0, 0], table[:, i]  # [T], [seeds, T]
            _line(ax, samples, values.mean(axis=0), f"{marker}-", color=color, label=name)
            if len(values) > 1:
                _, low, high = np.transpose([mean_interval(of_seeds) for of_seeds in values.T])
                ax.fill_between(samples, low, high, color=color, alpha=0.12, lw=0, antialiased=False)
        for (name, run), (_, marker) in zip(own.items(), _styles(own), strict=True):
            _line(ax, run[0], run[i], f"{marker}--", color=figures.BLACK, mfc="white", label=name)
        ax.set(ylabel=f"{label},\ngained")
    for ax in axes[1]:
        ax.set(xlabel=SAMPLES)
    axes[0, 1].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def recorded_curves(runs: Mapping[str, Mapping], judge: str) -> dict[str, list]:
    """Return {algorithm: [run of each seed]} of the recorded runs that followed this judge's rewards.

    runs: those of the recording "rlhf", by "<judge>_<algorithm>_<seed>".

    Source: none [ours].
    Test: tests/teaching/test_rlhf_figures.py::test_recorded_runs_are_sorted_by_algorithm
    """
    found = {name: [runs[key] for key in sorted(runs) if key.startswith(f"{judge}_{name}_")] for name in ALGORITHMS}
    return {name: of_seeds for name, of_seeds in found.items() if of_seeds}


def frontier(groups: Mapping[str, Sequence[Mapping]]):
    """Return a figure: what a nat of KL to the reference buys, in proxy reward above and true utility below.

    groups: {label: [run of each seed]}; points are means over seeds, joined in the order of the runs. A cross marks the
    highest utility of each path: where the proxy rises beyond it, it is over-optimised. Errors as `against_samples`.

    Source: over-optimisation against KL as Gao et al. 2022 draw it [standard].
    Test: tests/teaching/test_rlhf_figures.py::test_paths_of_utility_and_proxy_share_their_kl
    """
    styles, tables = _styles(groups), {name: _table(name, runs) for name, runs in groups.items()}
    fig, (above, below) = figures.subplots(2, 1, figsize=(7.6, 5.4), sharex=True)
    for (name, table), (color, marker) in zip(tables.items(), styles, strict=True):
        _, utility, proxy, kl, _ = table.mean(axis=0)
        _line(above, kl, proxy, f"{marker}:", color=color, mfc="white", label=name)
        _line(below, kl, utility, f"{marker}-", color=color, label=name)
        peak = utility.argmax()
        for ax, values in ((above, proxy), (below, utility)):
            ax.plot(kl[peak], values[peak], "x", color=figures.BLACK, ms=11, mew=2, zorder=3)
    above.set(ylabel=MEASURES["proxy"])
    below.set(ylabel=MEASURES["utility"], xlabel=MEASURES["kl"])
    above.plot([], [], "x", color=figures.BLACK, ms=11, mew=2, label="highest utility")
    above.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def surrogates(gamma: float, epsilon: float):
    """Return a figure: what one response adds to three objectives, against rho, for an advantage of +1 and of -1.

        rho A,   PPO's clip,   MDLOO: rho A - gamma (rho log rho - rho + 1), the maximum at rho = exp(A / gamma)

    Raises ValueError unless gamma and epsilon are above 0.

    Source: as for `baselines.clipped` and `mdloo.mdloo`; where the slope A - gamma log rho is 0 [ours].
    Test: tests/teaching/test_rlhf_figures.py::test_surrogates_by_hand
    """
    for name, value in (("gamma", gamma), ("epsilon", epsilon)):
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}: at 0 nothing limits the step, or all steps")
    rho = np.linspace(0.01, 3, 300)
    fig, axes = figures.subplots(1, 2, figsize=(9.6, 3.7), sharex=True)
    for ax, sign in zip(axes, (1.0, -1.0), strict=True):
        A = np.full_like(rho, sign)
        ax.axvline(1, color=figures.GREY, ls=":", lw=1.2)
        ax.plot(rho, rho * A, "--", color=figures.GREY, label="$\\rho A$")
        clip = clipped(np.log(rho), A, epsilon)
        ax.plot(rho, clip, "-.", color=figures.ORANGE, label=f"PPO, $\\epsilon$ = {epsilon:g}")
        ours = mdloo(np.log(rho), np.zeros_like(rho), A, gamma)
        ax.plot(rho, ours, "-", color=figures.BLUE, label=f"MDLOO, $\\gamma$ = {gamma:g}")
        best = np.exp(sign / gamma)
        if rho[0] <= best <= rho[-1]:
            top, label = gamma * (best - 1), "maximum, $\\rho = e^{A / \\gamma}$"
            ax.plot(best, top, "o", color=figures.BLUE, ms=8, mfc="white", mew=2, label=label)
        ax.set(
            xlabel="$\\rho = \\pi(y|x)\\, /\\, \\pi_k(y|x)$",
            ylabel="objective, units of reward",
            title=f"A = {sign:+g}",
        )
        ax.legend(fontsize=9)
    return fig


def live(evaluations: Sequence[Mapping]):
    """Return a figure of one run: reward, and utility where it was measured, against samples; the two KLs beside them.

    evaluations: `history.evaluations` of `iterate.run`. Those without samples, such as that before the first iteration,
    are left out. Raises ValueError if there are no others.

    Source: none [ours].
    Test: tests/teaching/test_rlhf_figures.py::test_a_live_run_is_drawn_as_recorded
    """
    fig, (left, right) = figures.subplots(1, 2, figsize=(9.6, 3.5))
    lines = (
        (left, "reward", "reward", figures.ORANGE, "s--"),
        (left, "utility", "true utility", figures.BLUE, "o-"),
        (right, "kl_reference", "to the reference", figures.BLUE, "o-"),
        (right, "kl_previous", "to the previous iterate", figures.GREEN, "^--"),
    )
    for ax, name, label, color, style in lines:
        rows = [(row["samples"], row[name]) for row in evaluations if "samples" in row and name in row]
        if rows:
            ax.plot(*zip(*rows, strict=True), style, color=color, ms=5, label=label)
        elif name != "utility":
            raise ValueError(f"no evaluation has samples and {name}: give history.evaluations of rlhf.run")
    left.set(xlabel=SAMPLES, ylabel="mean of the iteration's responses")
    right.set(xlabel=SAMPLES, ylabel="KL, nats")
    for ax in (left, right):
        ax.legend(fontsize=9)
    return fig


def _line(ax, x, y, style, **options):
    """Draw a line with some ten markers, the first point's among them: more would run together."""
    ax.plot(x, y, style, ms=5, lw=1.6, markevery=-(-len(x) // 10), **options)


def _gained(table):
    """Return the same less the first entry, samples apart: [..., (samples, *MEASURES), T]."""
    return np.concatenate([table[..., :1, :], table[..., 1:, :] - table[..., 1:, :1]], axis=-2)


def _table(name, runs):
    """Return the runs of one name as [seeds, (samples, *MEASURES), T], or raise ValueError."""
    if not runs:
        raise ValueError(f"{name}: no runs, expected one of each seed")
    columns = ("samples", *MEASURES)
    for seed, run in enumerate(runs):
        if missing := [column for column in columns if column not in run]:
            raise ValueError(f"{name}, run {seed}: {missing} missing, expected lists {list(columns)}")
        lengths = {column: np.size(run[column]) for column in columns}
        if len(set(lengths.values())) > 1 or not lengths["samples"]:
            raise ValueError(f"{name}, run {seed}: expected lists of one length of at least 1, got {lengths}")
        if not np.array_equal(run["samples"], runs[0]["samples"]):
            raise ValueError(
                f"{name}, run {seed}: its samples differ from those of run 0: record seeds at the same ones"
            )
    return np.array([[run[column] for column in columns] for run in runs], np.float64)


def _styles(names):
    """Return the (color, marker) of each name, or raise ValueError."""
    if len(names) > len(figures.CYCLE):
        raise ValueError(f"expected at most {len(figures.CYCLE)} names, which can be told apart, got {list(names)}")
    return list(zip(figures.CYCLE, MARKERS, strict=True))[: len(names)]


REFERENCE = np.log([0.4, 0.3, 0.2, 0.1])
REWARDS = np.array([0.0, 0.3, 0.6, 1.0])
ITERATIONS = 10
SAMPLES = (2, 3, 4, 6, 8, 12, 16)
STYLES = {"none": (figures.GREY, "^:"), "true mean": (figures.GREEN, "s--"), "leave one out": (figures.BLUE, "o-")}


def mirror_descent(beta: float, gamma: float, K: int = 4):
    """Return a figure: how exact MDLOO approaches its fixed point, and what K samples do to its gradient.

    Four arms with probabilities REFERENCE and rewards REWARDS. Left, the distance to the fixed point pi_ref exp(r/beta)
    by iteration, beside |1 - beta/gamma|^k. Middle, the policies: the reference, after one step, after the last, the
    fixed point. Right, the variance of the gradient at the reference against K, by baseline. Raises ValueError for a
    beta or gamma that is not above 0, and for K below 2.

    Source: as for `bandit.iterates` and `bandit.gradient_variance`; the figure is ours [ours].
    Test: tests/teaching/test_rlhf_widgets.py::test_distances_follow_the_factor
    """
    goal = bandit.fixed_point(REFERENCE, REWARDS, beta)
    policies = bandit.iterates(REFERENCE, REFERENCE, REWARDS, beta, gamma, ITERATIONS)
    fig, axes = figures.subplots(1, 3, figsize=(11.4, 3.7), width_ratios=[1.1, 1.1, 1])
    _distances(axes[0], bandit.distance(policies, goal), 1 - beta / gamma)
    _policies(axes[1], {"reference": REFERENCE, "after 1 step": policies[1], f"after {ITERATIONS}": policies[-1],
                        "fixed point": goal})  # fmt: skip
    _variances(axes[2], K)
    return fig


def _distances(ax, found, factor):
    k = np.arange(len(found))
    least = max(found[0], 1e-9) * 1e-6  # an iterate that has arrived has no logarithm
    ax.plot(k, np.maximum(found, least), "o-", color=figures.BLUE, label="exact iteration")
    ax.plot(
        k, np.maximum(found[0] * abs(factor) ** k, least), "--", color=figures.ORANGE, label="factor to the power k"
    )
    ax.set(yscale="log", xlabel="iteration k", ylabel="distance to the fixed point, nats", xticks=k[::2])
    ax.set_title(f"factor 1 - beta/gamma = {factor:.2f}: {_course(factor)}", fontsize=11)
    ax.legend(fontsize=9)


def _course(factor):
    if abs(factor) < 1e-12:
        return "there at once"
    if abs(factor) >= 1:
        return "swings for ever" if abs(factor) < 1 + 1e-12 else "diverges"
    return "evenly" if factor > 0 else "swinging"


def _policies(ax, policies):
    places, width = np.arange(len(REWARDS)), 0.8 / len(policies)
    colors = (figures.GREY, figures.ORANGE, figures.BLUE, figures.GREEN)
    for i, ((name, log_policy), color) in enumerate(zip(policies.items(), colors, strict=True)):
        ax.bar(places + (i - 1.5) * width, np.exp(log_policy), width, color=color, label=name)
    ax.set(xticks=places, xlabel="arm, by its reward", ylabel="probability", ylim=(0, 1))
    ax.set_xticklabels([f"{r:g}" for r in REWARDS])
    ax.legend(fontsize=9)


def _variances(ax, K):
    # at the reference itself the penalty is 0, whatever beta is: R = r
    for name, (color, style) in STYLES.items():
        values = [bandit.gradient_variance(REFERENCE, REWARDS, k, name) for k in SAMPLES]
        ax.plot(SAMPLES, values, style, color=color, ms=5, label=name)
    here = bandit.gradient_variance(REFERENCE, REWARDS, K)
    ax.plot([K], [here], "o", color=figures.RED, ms=10, zorder=3)
    ax.set(
        xscale="log", yscale="log", xlabel="K, responses a prompt", ylabel="variance of the gradient", xticks=SAMPLES
    )
    ax.set_xticklabels(SAMPLES)
    ax.minorticks_off()
    ax.set_title(f"K = {K}, leave one out: {here:.3g}", fontsize=11)
    ax.legend(fontsize=9, title="baseline")


def mirror_descent_explorer(alt: str, beta: float = 0.2, gamma: float = 0.4, K: int = 4) -> None:
    """Display controls for beta, gamma and K above the figure of `mirror_descent`."""
    widgets.explore(
        mirror_descent,
        alt,
        beta=widgets.steps("beta", [0.05, 0.1, 0.2, 0.4, 0.8], beta),
        gamma=widgets.steps("gamma", [0.05, 0.1, 0.2, 0.4, 0.8, 1.6], gamma),
        K=widgets.steps("K", list(SAMPLES), K),
    )
