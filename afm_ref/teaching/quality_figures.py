"""Chapter 2's figures of per-document curation: scores of the quality classifier, and extraction of bodies."""

from collections.abc import Mapping, Sequence

import numpy as np

from . import figures


def scores_by_kind(scores: Mapping[str, Sequence[float]], good: Sequence[str], threshold: float = 0.5):
    """Return a figure: a row of dots for each kind, one dot a text at its score, the threshold a line.

    Good kinds are blue, junk is orange; the share on the right side of the threshold stands beside each row. Raises
    ValueError without texts of both.

    Source: none [ours].
    Test: tests/teaching/test_quality_figures.py::test_each_text_is_a_dot_at_its_score
    """
    if len({kind in good for kind, values in scores.items() if len(values)}) < 2:
        raise ValueError(f"expected scores of good kinds ({list(good)}) and of junk, got kinds {list(scores)}")
    fig, ax = figures.subplots(figsize=(8.6, 0.36 * len(scores) + 1.2))
    named = set()
    for row, (kind, values) in enumerate(scores.items()):
        values, is_good = np.asarray(values, float), kind in good
        spread = row + 0.3 * np.sin(np.arange(len(values)) * 2.4)  # so that equal scores do not hide each other
        color, label = (figures.BLUE, "good") if is_good else (figures.ORANGE, "junk")
        ax.plot(values, spread, ".", ms=3, alpha=0.5, color=color, label=None if label in named else label)
        named.add(label)
        right = np.mean((values >= threshold) == is_good)
        ax.text(1.02, row, f"{right:.0%} {'kept' if is_good else 'dropped'}", va="center", fontsize=9)
    ax.axvline(threshold, color=figures.BLACK, lw=1.2, ls="--", label=f"threshold {threshold:g}")
    ax.set(yticks=range(len(scores)), yticklabels=list(scores), xlim=(-0.02, 1.18), xlabel="score, P(good)")
    ax.set(xticks=np.linspace(0, 1, 6), ylim=(len(scores) - 0.4, -0.6))
    ax.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, markerscale=3)
    return fig


def extraction(measured: Mapping[str, Sequence[float]]):
    """Return a figure: precision of extracted words by style of page, a bar with main content alone, one with all text.

    measured: {"<style>, main content" or "<style>, all text": precision of each seed}; bars are means, dots the seeds.
    Raises ValueError unless each style has both.

    Source: none [ours].
    Test: tests/teaching/test_quality_figures.py::test_bars_are_means
    """
    styles = list(dict.fromkeys(name.split(", ")[0] for name in measured))
    ways = {"main content": figures.BLUE, "all text": figures.GREY}
    if missing := [f"{s}, {w}" for s in styles for w in ways if f"{s}, {w}" not in measured]:
        raise ValueError(f"expected precisions of {missing} too, got {list(measured)}")
    fig, ax = figures.subplots(figsize=(6.8, 3.2))
    for shift, (way, color) in zip((-0.19, 0.19), ways.items(), strict=True):
        of_way = [np.asarray(measured[f"{style}, {way}"], float) for style in styles]
        at = np.arange(len(styles)) + shift
        ax.bar(at, [values.mean() for values in of_way], 0.36, color=color, label=way)
        places = np.repeat(at, [len(values) for values in of_way])
        label = "one seed" if shift > 0 else None
        ax.plot(places, np.concatenate(of_way), ".", color=figures.BLACK, ms=5, label=label)
    ax.set(xticks=range(len(styles)), xticklabels=styles, xlabel="names of the page's parts", ylim=(0, 1.05))
    ax.set(ylabel="precision of the words")
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig
