"""Chapter 2's figures of curation: how much each step leaves, why it drops, and what near-duplicates are found."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..curation import near_duplicates
from ..curation.recipe import Recipe
from ..curation.report import Report
from . import figures

MOST_REASONS = 12


def funnel(report: Report):
    """Return a figure: the bytes of text after each step, as bars, with the documents beside them.

    Raises ValueError for a report without steps.

    Source: none [ours].
    Test: tests/teaching/test_curation_figures.py::test_the_funnel_is_the_reports
    """
    if not report.steps:
        raise ValueError("the report has no steps: nothing was read")
    first = next(iter(report.steps.values()))
    rows = [("read", first.bytes_in, first.documents_in)]
    rows += [(name, flow.bytes_out, flow.documents_out) for name, flow in report.steps.items()]
    names, sizes, documents = zip(*rows, strict=True)
    fig, ax = figures.subplots(figsize=(7.6, 0.7 + 0.42 * len(rows)))
    unit, scale = ("MB", 1e6) if max(sizes) >= 1e6 else ("kB", 1e3)
    ax.barh(range(len(rows)), np.array(sizes) / scale, color=[figures.GREY] + [figures.BLUE] * len(report.steps))
    for y, (size, count) in enumerate(zip(sizes, documents, strict=True)):
        ax.text(size / scale, y, f"  {count:,} documents", va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), names)
    ax.invert_yaxis()
    ax.set(xlabel=f"text left after the step, {unit} of UTF-8", xlim=(0, 1.3 * max(*sizes, 1) / scale))
    return fig


def drops(report: Report):
    """Return a figure: documents dropped by step and reason, most first, of the reasons at most MOST_REASONS.

    Source: none [ours].
    Test: tests/teaching/test_curation_figures.py::test_drops_are_in_order
    """
    rows = ((step, *row) for step, flow in report.steps.items() for row in flow.dropped.items())
    found = [(count, f"{step}: {reason}") for step, reason, (count, _) in rows]
    found = sorted(found, key=lambda row: (-row[0], row[1]))[:MOST_REASONS] or [(0, "nothing")]
    counts, names = zip(*found, strict=True)
    fig, ax = figures.subplots(figsize=(7.6, 0.7 + 0.34 * len(found)))
    ax.barh(range(len(found)), counts, color=figures.RED)
    ax.set_yticks(range(len(found)), names)
    ax.invert_yaxis()
    ax.set(xlabel="documents dropped")
    return fig


def lengths(report: Report):
    """Return a figure: how long documents are when they are read, and those that are left, by powers of two.

    Source: none [ours].
    Test: tests/teaching/test_curation_figures.py::test_lengths_are_counted_by_powers_of_two
    """
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
    bands: int, rows: int, permutations: int = 128, threshold: float | None = None, bins: Sequence[Mapping] = ()
):
    """Return a figure: P(candidate) against Jaccard similarity; with a threshold that of removal, and measured bins.

    bins: {"jaccard": mean of the bin, "candidates": [share, low, high], "removed": the same}, the last two each a share
    of pairs with the ends of its interval. Raises ValueError if bands and rows do not fit into the permutations.

    Source: as for `near_duplicates.candidate_probability` and `near_duplicates.removal_probability` [ours].
    Test: tests/teaching/test_curation_figures.py::test_the_s_curve_is_the_closed_form
    """
    if bands < 1 or rows < 1 or bands * rows > permutations:
        raise ValueError(f"{bands} bands of {rows} rows do not fit into {permutations} entries")
    s = np.linspace(0, 1, 201)
    fig, ax = figures.subplots(figsize=(7.6, 3.6))
    label = f"candidate, {bands} bands of {rows}"
    ax.plot(s, near_duplicates.candidate_probability(s, bands, rows), color=figures.BLUE, label=label)
    if threshold is not None:
        least = near_duplicates.least_agreeing(threshold, permutations)
        removed = near_duplicates.removal_probability(s, bands, rows, permutations, least)
        ax.plot(s, removed, "--", color=figures.ORANGE, label=f"and {least} of {permutations} bytes agree: removed")
        ax.axvline(threshold, color=figures.GREY, ls=":", lw=1.2, label=f"threshold {threshold:g}")
    for name, color, marker in (("candidates", figures.BLUE, "o"), ("removed", figures.ORANGE, "s")):
        if bins:
            share, low, high = np.transpose([row[name] for row in bins])
            ends = np.maximum(0, [share - low, high - share])
            at = [row["jaccard"] for row in bins]
            ax.errorbar(at, share, ends, fmt=marker, color=color, ms=5, mfc="white", lw=1.2, label=f"measured {name}")
    ax.set(xlabel="Jaccard similarity of two documents' word 5-grams", ylabel="probability", ylim=(-0.03, 1.03))
    ax.legend(fontsize=9, loc="upper left")
    return fig


def of_report(report: Report, recipe: Recipe) -> dict:
    """Return {file name without ending: (figure, alt text)} of a finished run.

    Source: none [ours].
    Test: tests/curation/test_curate_command.py::test_it_writes_shards_a_report_and_figures
    """
    curve = s_curve(recipe.bands, recipe.rows, recipe.permutations, recipe.threshold)
    return {
        "funnel": (funnel(report), "bars of the bytes of text that each step leaves"),
        "drops": (drops(report), "bars of the documents dropped, by step and reason"),
        "lengths": (lengths(report), "histogram of document lengths, read and left"),
        "s_curve": (curve, "probability of finding a near-duplicate against the similarity of two documents"),
    }
