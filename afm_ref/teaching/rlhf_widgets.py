"""Chapter 8's control: mirror descent on a bandit that can be enumerated, for beta, gamma and K."""

import numpy as np

from ..rlhf import bandit
from . import figures, widgets

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
