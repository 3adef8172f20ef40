"""What chapter 2 draws of curation: each step, near-duplicates, quality, extraction."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...curation import near_duplicates
from ...curation.recipe import Recipe
from ...curation.report import Report
from .. import figures, widgets

MOST_REASONS = 12
BANDS, ROWS = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 13, 16, 32)


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
    fig, ax = _bars(
        names,
        np.array(sizes) / scale,
        [figures.GREY] + [figures.BLUE] * len(report.steps),
        0.42,
    )
    for y, (size, count) in enumerate(zip(sizes, documents, strict=True)):
        ax.text(size / scale, y, f"  {count:,} documents", va="center", fontsize=9)
    ax.set(
        xlabel=f"text left after the step, {unit} of UTF-8",
        xlim=(0, 1.3 * max(*sizes, 1) / scale),
    )
    return fig


def drops(report: Report):
    """Draw documents dropped by step and reason, the MOST_REASONS most frequent."""
    rows = (
        (step, *row) for step, flow in report.steps.items() for row in flow.dropped.items()
    )
    found = [(count, f"{step}: {reason}") for step, reason, (count, _) in rows]
    found = sorted(found, key=lambda row: (-row[0], row[1]))[:MOST_REASONS] or [
        (0, "nothing")
    ]
    counts, names = zip(*found, strict=True)
    fig, ax = _bars(names, counts, figures.RED, 0.34)
    ax.set(xlabel="documents dropped")
    return fig


def _bars(names, lengths, color, row):
    """Return (figure, axes) with a bar for each name, the first on top."""
    fig, ax = figures.subplots(figsize=(7.6, 0.7 + row * len(names)))
    ax.barh(range(len(names)), lengths, color=color)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    return fig, ax


def lengths(report: Report):
    """Draw how long documents are, read and left, by powers of two."""
    fig, ax = figures.subplots(figsize=(7.6, 3.0))
    for name, color, width in (("read", figures.GREY, 0.9), ("left", figures.BLUE, 0.5)):
        of = sorted((int(size), count) for size, count in report.lengths[name].items())
        if of:
            sizes, counts = zip(*of, strict=True)
            ax.bar(np.log2(sizes), counts, width, color=color, label=name)
    ax.set(xlabel="length of a document, bytes, at most 2 to the power", ylabel="documents")
    if report.lengths["read"]:
        ax.legend()
    return fig


def s_curve(
    bands: int,
    rows: int,
    permutations: int = 128,
    threshold: float | None = None,
    bins: Sequence[Mapping] = (),
):
    """Draw P(candidate) against Jaccard similarity; P(removed), too, at a threshold.

    bins, measured: {"jaccard": mean of the bin, "candidates": [share, low, high],
    "removed": the same}, shares of pairs with their intervals. ValueError: bands and rows
    do not fit.
    """
    if bands < 1 or rows < 1 or bands * rows > permutations:
        raise ValueError(
            f"{bands} bands of {rows} rows do not fit into {permutations} entries"
        )
    s = np.linspace(0, 1, 201)
    fig, ax = figures.subplots(figsize=(7.6, 3.6))
    label = f"candidate, {bands} bands of {rows}"
    ax.plot(
        s,
        near_duplicates.candidate_probability(s, bands, rows),
        color=figures.BLUE,
        label=label,
    )
    if threshold is not None:
        least = near_duplicates.least_agreeing(threshold, permutations)
        removed = near_duplicates.removal_probability(s, bands, rows, permutations, least)
        ax.plot(
            s,
            removed,
            "--",
            color=figures.ORANGE,
            label=f"and {least} of {permutations} bytes agree: removed",
        )
        ax.axvline(
            threshold, color=figures.GREY, ls=":", lw=1.2, label=f"threshold {threshold:g}"
        )
    for name, color, marker in (
        ("candidates", figures.BLUE, "o"),
        ("removed", figures.ORANGE, "s"),
    ):
        if bins:
            at, shares = [row["jaccard"] for row in bins], [row[name] for row in bins]
            line = dict(
                color=color, ms=5, mfc="white", lw=1.2, capsize=0, label=f"measured {name}"
            )
            figures.error_bars(ax, at, shares, marker, **line)
    ax.set(
        xlabel="Jaccard similarity of two documents' word 5-grams",
        ylabel="probability",
        ylim=(-0.03, 1.03),
    )
    ax.legend(fontsize=9, loc="upper left")
    return fig


def s_curve_explorer(
    alt: str,
    bands: int = 16,
    rows: int = 8,
    permutations: int = 128,
    threshold: float = 0.75,
) -> None:
    """Display controls for bands and rows above the figure of `s_curve`."""
    widgets.explore(
        lambda bands, rows: s_curve(bands, rows, permutations, threshold),
        alt,
        bands=widgets.stops("bands b", BANDS, bands),
        rows=widgets.stops("rows r", ROWS, rows),
    )


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


def scores_by_kind(
    scores: Mapping[str, Sequence[float]], good: Sequence[str], threshold: float = 0.5
):
    """Draw a row for each kind, one dot a text at its score, and a line at the threshold.

    Good kinds are blue, junk is orange; beside each row the share on the right side of the
    threshold.
    """
    fig, ax = figures.subplots(figsize=(8.6, 0.36 * len(scores) + 1.2))
    named = set()
    for row, (kind, values) in enumerate(scores.items()):
        values, is_good = np.asarray(values, float), kind in good
        # so that equal scores do not hide each other
        spread = row + 0.3 * np.sin(np.arange(len(values)) * 2.4)
        color, label = (figures.BLUE, "good") if is_good else (figures.ORANGE, "junk")
        ax.plot(
            values,
            spread,
            ".",
            ms=3,
            alpha=0.5,
            color=color,
            label=None if label in named else label,
        )
        named.add(label)
        right = np.mean((values >= threshold) == is_good)
        ax.text(
            1.02,
            row,
            f"{right:.0%} {'kept' if is_good else 'dropped'}",
            va="center",
            fontsize=9,
        )
    ax.axvline(
        threshold, color=figures.BLACK, lw=1.2, ls="--", label=f"threshold {threshold:g}"
    )
    ax.set(
        yticks=range(len(scores)),
        yticklabels=list(scores),
        xlim=(-0.02, 1.18),
        xlabel="score, P(good)",
    )
    ax.set(xticks=np.linspace(0, 1, 6), ylim=(len(scores) - 0.4, -0.6))
    ax.legend(
        fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, markerscale=3
    )
    return fig


def precision_by_style(measured: Mapping[str, Sequence[float]]):
    """Draw precision of extracted words by style of page, main content beside all text.

    measured: {"<style>, main content" or "<style>, all text": precision of each seed}; bars
    are means, dots the seeds.
    """
    styles = list(dict.fromkeys(name.split(", ")[0] for name in measured))
    fig, ax = figures.subplots(figsize=(6.8, 3.2))
    for shift, (way, color) in zip(
        (-0.19, 0.19), (("main content", figures.BLUE), ("all text", figures.GREY))
    ):
        of_way = [np.asarray(measured[f"{style}, {way}"], float) for style in styles]
        at = np.arange(len(styles)) + shift
        ax.bar(at, [values.mean() for values in of_way], 0.36, color=color, label=way)
        places = np.repeat(at, [len(values) for values in of_way])
        label = "one seed" if shift > 0 else None
        ax.plot(places, np.concatenate(of_way), ".", color=figures.BLACK, ms=5, label=label)
    ax.set(
        xticks=range(len(styles)),
        xticklabels=styles,
        xlabel="names of the page's parts",
        ylim=(0, 1.05),
    )
    ax.set(ylabel="precision of the words")
    figures.legend_beside(ax)
    return fig
