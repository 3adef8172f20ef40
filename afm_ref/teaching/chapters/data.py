"""Chapter 2, data: what each step of curation leaves, near-duplicates found, scores of quality, extracted words."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...data.curation import banding
from ...data.curation.report import Report
from ...data.curation.settings import Settings
from .. import figures, widgets

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

    Source: as for `banding.candidate_probability` and `banding.removal_probability` [ours].
    Test: tests/teaching/test_curation_figures.py::test_the_s_curve_is_the_closed_form
    """
    if bands < 1 or rows < 1 or bands * rows > permutations:
        raise ValueError(f"{bands} bands of {rows} rows do not fit into {permutations} entries")
    s = np.linspace(0, 1, 201)
    fig, ax = figures.subplots(figsize=(7.6, 3.6))
    label = f"candidate, {bands} bands of {rows}"
    ax.plot(s, banding.candidate_probability(s, bands, rows), color=figures.BLUE, label=label)
    if threshold is not None:
        least = banding.least_agreeing(threshold, permutations)
        removed = banding.removal_probability(s, bands, rows, permutations, least)
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


def of_report(report: Report, settings: Settings) -> dict:
    """Return {file name without ending: (figure, alt text)} of a finished run.

    Source: none [ours].
    Test: tests/data/curation/test_curate_command.py::test_it_writes_shards_a_report_and_figures
    """
    curve = s_curve(settings.bands, settings.rows, settings.permutations, settings.threshold)
    return {
        "funnel": (funnel(report), "bars of the bytes of text that each step leaves"),
        "drops": (drops(report), "bars of the documents dropped, by step and reason"),
        "lengths": (lengths(report), "histogram of document lengths, read and left"),
        "s_curve": (curve, "probability of finding a near-duplicate against the similarity of two documents"),
    }


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


BANDS, ROWS = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4, 8, 13, 16, 32)


def s_curve_explorer(
    alt: str, bands: int = 16, rows: int = 8, permutations: int = 128, threshold: float = 0.75
) -> None:
    """Display controls for bands and rows above the figure of `s_curve`.

    Bands and rows that do not fit into the signature are answered by a sentence; the figure stays.

    Source: as for `banding.candidate_probability`; the figure is ours [ours].
    Test: tests/teaching/test_curation_figures.py::test_the_explorer_has_controls
    """

    def draw(bands, rows):
        return s_curve(bands, rows, permutations, threshold)

    widgets.explore(
        draw,
        alt,
        bands=widgets.steps("bands b", list(BANDS), bands),
        rows=widgets.steps("rows r", list(ROWS), rows),
    )
