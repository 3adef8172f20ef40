"""What chapter 2 draws of curation: each step, near-duplicates, quality."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...curation import near_duplicates
from ...curation.recipe import Recipe
from ...curation.report import Report
from .. import widgets
from ..figures import (
    BLACK,
    BLUE,
    DOTTED,
    GREY,
    ORANGE,
    PALE,
    RED,
    SKY,
    bare,
    box,
    error_bars,
    finish,
    subplots,
)

MOST_REASONS = 12
BANDS, ROWS = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 13, 16, 32)
THRESHOLD = 0.5  # of the score from which a text is kept


def funnel(report: Report):
    """Draw the bytes of text after each step, as bars, with the documents beside them."""
    if not report.steps:
        raise ValueError("the report has no steps: nothing was read")
    first = next(iter(report.steps.values()))
    rows = [("read", first.bytes_in, first.documents_in)]
    rows += [
        (name, flow.bytes_out, flow.documents_out) for name, flow in report.steps.items()
    ]
    names, sizes, documents = zip(*rows, strict=True)
    unit, scale = ("MB", 1e6) if max(sizes) >= 1e6 else ("kB", 1e3)
    colors = [GREY] + [BLUE] * len(report.steps)
    fig, ax = _bars(names, np.array(sizes) / scale, colors, 0.42)
    labels = [f"  {count:,} documents" for count in documents]
    ax.bar_label(ax.containers[0], labels, fontsize=9)
    ax.set(
        xlabel=f"text left after the step, {unit} of UTF-8",
        xlim=(0, 1.3 * max(*sizes, 1) / scale),
    )
    return fig


def drops(report: Report):
    """Draw documents dropped by step and reason, the MOST_REASONS most frequent."""
    counts = {
        f"{step}: {reason}": count
        for step, flow in report.steps.items()
        for reason, (count, _) in flow.dropped.items()
    } or {"nothing": 0}
    names = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_REASONS]
    fig, ax = _bars(names, [counts[name] for name in names], RED, 0.34)
    ax.set(xlabel="documents dropped")
    return fig


def _bars(names, lengths, color, row):
    """Return (figure, axes) with a bar for each name, the first on top."""
    fig, ax = subplots(figsize=(7.6, 0.7 + row * len(names)))
    ax.barh(range(len(names)), lengths, color=color)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    return fig, ax


def lengths(report: Report):
    """Draw how long documents are, read and left, by powers of two."""
    fig, ax = subplots(figsize=(7.6, 3.0))
    for name, color, width in (("read", GREY, 0.9), ("left", BLUE, 0.5)):
        counts = report.lengths[name]
        sizes = np.log2([int(size) for size in counts])
        ax.bar(sizes, list(counts.values()), width, color=color, label=name)
    ax.set(xlabel="length of a document, bytes, at most 2 to the power", ylabel="documents")
    ax.legend()
    return fig


def s_curve(
    bands: int,
    rows: int,
    permutations: int = 128,
    threshold: float = 0.75,
    bins: Sequence = (),
):
    """Draw P(candidate) and P(removed) at a threshold against Jaccard similarity.

    bins, measured: {"jaccard": mean of the bin, "candidates": [share, low, high],
    "removed": the same}, shares of pairs with their intervals. ValueError: bands and rows
    do not fit.
    """
    if bands < 1 or rows < 1 or bands * rows > permutations:
        raise ValueError(
            f"{bands} bands of {rows} rows do not fit into {permutations} entries"
        )
    s = np.linspace(0, 1, 201)
    candidate = near_duplicates.candidate_probability(s, bands, rows)
    least = near_duplicates.least_agreeing(threshold, permutations)
    removed = near_duplicates.removal_probability(s, bands, rows, permutations, least)
    fig, ax = subplots(figsize=(7.6, 3.6))
    ax.plot(s, candidate, color=BLUE, label=f"candidate, {bands} bands of {rows}")
    ax.plot(
        s,
        removed,
        "--",
        color=ORANGE,
        label=f"and {least} of {permutations} bytes agree: removed",
    )
    ax.axvline(threshold, label=f"threshold {threshold:g}", **DOTTED)
    measured = (("candidates", BLUE, "o"), ("removed", ORANGE, "s"))
    for name, color, marker in measured if bins else ():
        at, shares = zip(*((row["jaccard"], row[name]) for row in bins))
        error_bars(
            ax,
            at,
            shares,
            marker,
            color=color,
            ms=5,
            mfc="white",
            lw=1.2,
            capsize=0,
            label=f"measured {name}",
        )
    ax.set_ylim(-0.03, 1.03)
    similarity = "Jaccard similarity of two documents' word 5-grams"
    finish(ax, similarity, "probability", loc="upper left")
    return fig


def s_curve_explorer(alt: str) -> None:
    """Display controls for bands and rows above the figure of `s_curve`."""
    bands, rows = widgets.stops("bands", BANDS, 16), widgets.stops("rows", ROWS, 8)
    widgets.explore(s_curve, alt, bands=bands, rows=rows)


def of_report(report: Report, recipe: Recipe) -> dict:
    """Return {file name without ending: (figure, alt text)} of a finished run."""
    curve = s_curve(recipe.bands, recipe.rows, recipe.permutations, recipe.threshold)
    return {
        "funnel": (funnel(report), "bars of the bytes of text that each step leaves"),
        "drops": (drops(report), "bars of the documents dropped, by step and reason"),
        "lengths": (lengths(report), "histogram of document lengths, read and left"),
        "s_curve": (
            curve,
            "probability of finding a near-duplicate against the similarity of two documents",
        ),
    }


def scores_by_kind(scores: Mapping, good: Sequence):
    """Draw a row for each kind, one dot a text at its score, and a line at the threshold.

    scores: {kind: score of each text}. Good kinds are blue, junk is orange; beside each row
    the share on the right side of the threshold.
    """
    fig, ax = subplots(figsize=(8.6, 0.36 * len(scores) + 1.2))
    lines = {}
    for row, (kind, values) in enumerate(scores.items()):
        values, is_good = np.asarray(values, float), kind in good
        look = ("good", BLUE, "kept") if is_good else ("junk", ORANGE, "dropped")
        label, color, fate = look
        # so that equal scores do not hide each other
        spread = row + 0.3 * np.sin(np.arange(len(values)) * 2.4)
        (lines[label],) = ax.plot(values, spread, ".", ms=3, alpha=0.5, color=color)
        right = np.mean((values >= THRESHOLD) == is_good)
        ax.text(1.02, row, f"{right:.0%} {fate}", va="center", fontsize=9)
    lines[f"threshold {THRESHOLD:g}"] = ax.axvline(THRESHOLD, color=BLACK, lw=1.2, ls="--")
    ax.set_yticks(range(len(scores)), scores)
    ax.set(
        xticks=np.linspace(0, 1, 6),
        xlim=(-0.02, 1.18),
        ylim=(len(scores) - 0.4, -0.6),
        xlabel="score, P(good)",
    )
    ax.legend(
        lines.values(),
        lines,
        fontsize=9,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        markerscale=3,
    )
    return fig


def bands(first, second, n_bands: int, n_rows: int):
    """Draw two signatures entry by entry, side by side, cut into bands.

    Equal entries are filled, written by their last two digits; a band all of whose entries are
    equal is framed: there the two documents meet.
    """
    fig, ax = subplots(figsize=(8.6, 0.42 * n_rows + 1.5))
    bare(ax).set(xlim=(-0.6, 3.0 * n_bands), ylim=(-1.5, n_rows + 0.5))
    table = np.stack([first, second], axis=-1)[: n_bands * n_rows]
    for j, pairs in enumerate(table.reshape(n_bands, n_rows, 2)):
        agree = pairs[:, 0] == pairs[:, 1]
        _band(ax, 3.0 * j, pairs, agree)
        told = "meet here" if agree.all() else f"{agree.sum()} of {n_rows} agree"
        color = RED if agree.all() else BLACK
        ax.text(3.0 * j + 1.0, -0.75, told, ha="center", color=color, fontsize=10)
        ax.text(3.0 * j + 1.0, -1.35, f"band {j + 1}", ha="center", color=GREY, fontsize=10)
    return fig


def _band(ax, x, pairs, agree):
    """Draw a band's rows, two entries each, from the top; a frame if all agree."""
    for i, (pair, same) in enumerate(zip(pairs[::-1], agree[::-1])):
        for side, value in enumerate(pair):
            left = x + 1.05 * side
            box(ax, left, i, 1.0, 0.9, fc=SKY if same else PALE, ec="white")
            digits = f"{value % 100}"
            ax.text(left + 0.5, i + 0.42, digits, ha="center", va="center", fontsize=8)
    if agree.all():
        box(ax, x - 0.12, -0.12, 2.3, len(pairs) + 0.15, 0.1, fc="none", ec=RED, lw=2.5)
