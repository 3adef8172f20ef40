"""Both ends of the course: how one model guesses and learns, and what all steps do to one."""

from collections.abc import Callable, Mapping

import numpy as np

from ...evaluation import Interval, mean_interval
from .. import figures


def likeliest(probabilities, tokenizer, n: int = 10):
    """Draw the n likeliest next tokens of probabilities [V] as bars."""
    best = np.argsort(-probabilities)[:n][::-1]
    names = [repr(tokenizer.decode([int(i)])) for i in best]
    fig, ax = figures.subplots(figsize=(7.6, 3.4))
    ax.barh(names, 100 * probabilities[best], color=figures.BLUE)
    ax.set(xlabel="probability of being next, %", xlim=(0, 100))
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    return fig


def prices(tokens: list[str], losses):
    """Draw the loss of each token as a bar under its text, and their mean as a line."""
    fig, ax = figures.subplots(figsize=(8.0, 3.0))
    places = np.arange(len(tokens))
    ax.bar(places, losses, color=figures.BLUE)
    ax.axhline(np.mean(losses), color=figures.BLACK, ls="--", lw=1.4, label="mean")
    ax.set_xticks(places, [repr(token) for token in tokens], rotation=30)
    for label in ax.get_xticklabels():
        label.set_parse_math(False)
    figures.finish(ax, "token, after all those before it", "loss, nats")
    return fig


def downhill(loss_after: Callable, start: float, steepness: float, longest: float):
    """Draw the loss after one step against the gradient, by the length of the step.

    loss_after: length -> loss. start: the loss before; steepness: the squared gradient, by
    which the loss falls at first for each unit of length.
    """
    lengths = longest * np.linspace(0, 1, 17) ** 2
    landed = [start, *map(loss_after, lengths[1:])]
    short = np.array([0, (start - min(landed)) / steepness])
    fig, ax = figures.subplots(figsize=(8.0, 3.2))
    ax.plot(lengths, landed, color=figures.BLUE, marker="o", ms=4, label="where it lands")
    ax.plot(
        short,
        start - steepness * short,
        color=figures.ORANGE,
        label="what the slope at the start says",
    )
    ax.axhline(start, **figures.DOTTED, label="before the step")
    figures.finish(
        ax, "length of the step: what the slopes are multiplied by", "loss, nats per token"
    )
    return fig


def scores(bits: Mapping[str, float], *kinds: str):
    """Draw {name: bits per byte} as bars, the best on top, with a colour for all the names
    that hold the same one of `kinds`.
    """
    names = sorted(bits, key=bits.get)
    fig, ax = figures.subplots(figsize=(8.0, 3.2))
    for row, name in enumerate(names):
        found = [figures.CYCLE[i] for i, kind in enumerate(kinds) if kind in name]
        ax.barh(row, bits[name], color=(*found, figures.GREY)[0])
        ax.text(bits[name] + 0.04, row, f"{bits[name]:.2f}", va="center", fontsize=9)
    figures.name_rows(ax, names)
    ax.set(xlabel="bits per byte of held-out text, lower is better")
    return fig


def utilities(runs: Mapping, judge: str, step: str, task: str = "all") -> np.ndarray:
    """Return the utility after a step of the recording "pipeline", of each seed."""
    of_seeds = [run for key, run in sorted(runs.items()) if key.startswith(f"{judge}_")]
    return np.array([run["steps"][step]["utility"][task] for run in of_seeds])


def change(
    runs: Mapping, judge: str, step: str, before: str, task: str = "all"
) -> Interval:
    """Return the 95% t-interval over seeds of a step's utility less that of one before."""
    return mean_interval(
        utilities(runs, judge, step, task) - utilities(runs, judge, before, task)
    )


def utility_by_step(means: Mapping):
    """Draw the utility after every step with its interval, a line for each judge.

    means: {judge: {step: (mean, low, high)}}, the same steps in the same order for all; a
    step's name such as "1_sft" is drawn as "sft". A dotted line marks where the first
    judge's line starts: the model before all steps.
    """
    steps = [tuple(rows) for rows in means.values()]
    if len(set(steps)) != 1:
        raise ValueError(f"expected the same steps for each judge, got {steps}")
    fig, ax = figures.subplots(figsize=(8.8, 3.8))
    places = np.arange(len(steps[0]))
    lines = {judge: (places, list(rows.values())) for judge, rows in means.items()}
    figures.beside(ax, lines, 0.1)
    start, _, _ = next(iter(means.values()))[steps[0][0]]
    ax.axhline(start, **figures.DOTTED)
    ax.annotate(
        "the shipped model, before all steps",
        (places[-1], start),
        (0, 4),
        textcoords="offset points",
        ha="right",
        color=figures.GREY,
        fontsize=9,
    )
    ax.set_xticks(places, [name.split("_", 1)[-1] for name in steps[0]])
    ax.set(ylabel="utility, held-out prompts")
    figures.legend_beside(ax, title="rewards come from")
    return fig
